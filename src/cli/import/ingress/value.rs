//! Values as annotations and keys of a ConfigMap write them: all of them are texts.

use std::time::Duration;

use ipnet::IpNet;

use super::super::document::Value;
use crate::model::units::format_duration;

/// The longest time that Plimsoll takes.
const FOR_EVER: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A yes or no as Go's `ParseBool` reads it; `yes` and `on` are none.
#[must_use]
pub(super) fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A whole number of seconds.
#[must_use]
pub(super) fn seconds(text: &str) -> Option<Duration> {
    text.parse().ok().map(Duration::from_secs)
}

/// A size as nginx writes it: `8k`, `64m`, `1g` or bytes.
#[must_use]
pub(super) fn size(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let end = lower.find(|c: char| !c.is_ascii_digit()).unwrap_or(lower.len());
    let (digits, unit) = lower.split_at(end);
    let shift = match unit {
        "" | "b" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// A size as Plimsoll writes it.
#[must_use]
pub(super) fn bytes(size: u64) -> Value {
    let units = [(1_u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units.iter().find(|(unit, _)| size > 0 && size.is_multiple_of(*unit));
    Value::text(unit.map_or_else(|| format!("{size}B"), |(unit, word)| format!("{}{word}", size / unit)))
}

/// A time as Plimsoll writes it, within what it takes.
#[must_use]
pub(super) fn duration(time: Duration) -> Value {
    Value::text(format_duration(time.clamp(Duration::from_millis(1), FOR_EVER)))
}

/// A time of Gateway API (GEP-2257): `1h30m`, `500ms`; at most four parts, no fractions.
#[must_use]
pub(super) fn gateway_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let (mut all, mut parts) = (Duration::ZERO, 0);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).filter(|end| (1..=5).contains(end))?;
        let (digits, behind) = rest.split_at(end);
        let number: u64 = digits.parse().ok()?;
        let end = behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(end);
        all += match unit {
            "h" => Duration::from_secs(number * 3600),
            "m" => Duration::from_secs(number * 60),
            "s" => Duration::from_secs(number),
            "ms" => Duration::from_millis(number),
            _ => return None,
        };
        rest = behind;
        parts += 1;
    }
    (1..=4).contains(&parts).then_some(all)
}

/// A network, or an address that is one of its own.
#[must_use]
pub(super) fn network(text: &str) -> Option<IpNet> {
    let text = text.trim();
    text.parse::<IpNet>()
        .map(|network| network.trunc())
        .ok()
        .or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from))
}

/// Networks with commas between them, and what is none.
#[must_use]
pub(super) fn networks(text: &str) -> (Vec<IpNet>, Vec<String>) {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match network(part) {
            Some(network) if good.contains(&network) => {}
            Some(network) => good.push(network),
            None => bad.push(part.to_owned()),
        }
    }
    (good, bad)
}

/// Names with commas between them, each once.
#[must_use]
pub(super) fn list(text: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        if !out.iter().any(|known| known == part) {
            out.push(part.to_owned());
        }
    }
    out
}

/// The bytes of base64, white space left out; nothing where it is none.
#[must_use]
pub(super) fn base64(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let (mut out, mut bits, mut held) = (Vec::new(), 0_u32, 0_u32);
    for byte in text.trim_end_matches(|c: char| c == '=' || c.is_whitespace()).bytes() {
        if byte.is_ascii_whitespace() {
            continue;
        }
        bits = (bits << 6 | u32::from(digit(byte)?)) & 0xff_ffff;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push(u8::try_from((bits >> held) & 0xff).ok()?);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_the_controller_reads_them() {
        assert_eq!(
            (truth("true"), truth("T"), truth("yes"), truth("0")),
            (Some(true), Some(true), None, Some(false))
        );
        assert_eq!((seconds("5"), seconds("5s"), seconds("-1")), (Some(Duration::from_secs(5)), None, None));
        assert_eq!(
            (size("8k"), size("64M"), size("lots"), size("10")),
            (Some(8 << 10), Some(64 << 20), None, Some(10))
        );
        assert_eq!(size("99999999999999999999g"), None);
        assert_eq!(networks("10.0.0.0/8, 192.0.2.1,x").0.len(), 2);
        assert_eq!(networks("10.0.0/8").1, ["10.0.0/8"]);
        assert_eq!(list(" a, b,,a"), ["a", "b"]);
    }

    #[test]
    fn sizes_are_written_in_the_largest_unit() {
        for (bytes_of, want) in
            [(64 << 20, "64MiB"), (1 << 30, "1GiB"), (1000, "1000B"), (0, "0B"), (1536, "1536B")]
        {
            assert_eq!(bytes(bytes_of), Value::text(want));
        }
    }

    #[test]
    fn times_of_gateway_api_have_parts() {
        assert_eq!(gateway_duration("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(gateway_duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(gateway_duration("0s"), Some(Duration::ZERO));
        for wrong in ["", "5", "1.5s", "s", "1d", "1s1s1s1s1s", "999999s"] {
            assert_eq!(gateway_duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn secrets_are_base64() {
        assert_eq!(base64("bm8gY2VydGlmaWNhdGU=").as_deref(), Some(&b"no certificate"[..]));
        assert_eq!(base64("bm8g\nY2Vy ").as_deref(), Some(&b"no cer"[..]));
        assert_eq!(base64("!"), None);
    }
}
