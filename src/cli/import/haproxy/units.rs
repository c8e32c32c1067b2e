//! Times as HAProxy writes them (configuration manual, section 2.5).

use std::time::Duration;

/// The longest time that Plimsoll takes, for what has no end in HAProxy.
pub(super) const FOR_EVER: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Reads a time; without a unit it is milliseconds.
#[must_use]
pub(super) fn time(text: &str) -> Option<Duration> {
    time_in(text, 1_000)
}

/// Reads a time; without a unit it is so many `micros` each.
#[must_use]
pub(super) fn time_in(text: &str, micros: u64) -> Option<Duration> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let number: u64 = digits.parse().ok()?;
    let micros = match unit {
        "" => micros,
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => 86_400_000_000,
        _ => return None,
    };
    let all = number.checked_mul(micros)?;
    // Nothing of ours is finer than a millisecond, and nothing that is written is no time at all.
    Some(Duration::from_millis(all.div_ceil(1_000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_without_a_unit_is_milliseconds() {
        assert_eq!(time("5000"), Some(Duration::from_secs(5)));
        assert_eq!(time("30s"), Some(Duration::from_secs(30)));
        assert_eq!(time("500us"), Some(Duration::from_millis(1)));
        assert_eq!(time("1d"), Some(Duration::from_secs(86_400)));
        assert_eq!(time("0"), Some(Duration::ZERO));
        for wrong in ["", "s", "5 s", "-1", "5w", "99999999999999999999"] {
            assert_eq!(time(wrong), None, "{wrong}");
        }
    }
}
