//! Times, sizes and numbers as nginx writes them (`ngx_parse_time`, `ngx_parse_size`).

use std::time::Duration;

use super::super::document::Value;
use crate::model::units::format_duration;

/// The longest time that Plimsoll takes.
const FOR_EVER: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Reads a time such as `30`, `1m30s` or `500ms`; without a unit it is seconds.
#[must_use]
pub(super) fn time(text: &str) -> Option<Duration> {
    let (mut rest, mut all) = (text.trim(), Duration::ZERO);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number: u64 = rest.get(..end)?.parse().ok()?;
        rest = rest.get(end..)?;
        let units = [
            ("ms", 1),
            ("y", 31_536_000_000),
            ("M", 2_592_000_000),
            ("w", 604_800_000),
            ("d", 86_400_000),
            ("h", 3_600_000),
            ("m", 60_000),
            ("s", 1_000),
        ];
        let found = units.iter().find_map(|(unit, millis)| Some((rest.strip_prefix(unit)?, *millis)));
        let (behind, millis) = found.or_else(|| rest.is_empty().then_some(("", 1_000)))?;
        rest = behind.trim_start();
        all = all.checked_add(Duration::from_millis(number.checked_mul(millis)?))?;
    }
    Some(all)
}

/// Reads a size such as `8k`, `10m` or `1g`.
#[must_use]
pub(super) fn size(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text.get(..end)?.parse().ok()?;
    let factor = match text.get(end..)? {
        "" => 1,
        "k" | "K" => 1 << 10,
        "m" | "M" => 1 << 20,
        "g" | "G" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// A time as Plimsoll writes it, within what it takes.
#[must_use]
pub(super) fn duration(time: Duration) -> Value {
    Value::text(format_duration(time.clamp(Duration::from_millis(1), FOR_EVER)))
}

/// A size as Plimsoll writes it, within these bounds.
#[must_use]
pub(super) fn bytes(size: u64, min: u64, max: u64) -> String {
    let size = size.clamp(min, max);
    for (unit, factor) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if size >= factor && size.is_multiple_of(factor) {
            return format!("{}{unit}", size / factor);
        }
    }
    format!("{size}B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_as_nginx_reads_them() {
        for (text, millis) in [
            ("30", 30_000),
            ("1m30s", 90_000),
            ("500ms", 500),
            ("1h 5m", 3_900_000),
            ("0", 0),
            ("1M", 2_592_000_000),
        ] {
            assert_eq!(time(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for wrong in ["", "s", "three", "5x", "99999999999999999999", "-1"] {
            assert_eq!(time(wrong), None, "{wrong}");
        }
        assert_eq!(size("10m"), Some(10 << 20));
        assert_eq!(size("8K"), Some(8192));
        assert_eq!(size("1t"), None);
        assert_eq!(bytes(1536, 1, 1 << 30), "1536B");
        assert_eq!(bytes(10 << 20, 1, 1 << 30), "10MiB");
    }
}
