//! gRPC: the names and numbers of its statuses, where these stand among those of HTTP, and its time limits.

use std::time::Duration;

/// Where gRPC statuses stand among those of HTTP, which have three digits: behind them.
const BASE: u16 = 1000;

/// Names by number (the code table of the gRPC project), as configurations write them.
const NAMES: [&str; 17] = [
    "ok",
    "cancelled",
    "unknown",
    "invalid-argument",
    "deadline-exceeded",
    "not-found",
    "already-exists",
    "permission-denied",
    "resource-exhausted",
    "failed-precondition",
    "aborted",
    "out-of-range",
    "unimplemented",
    "internal",
    "unavailable",
    "data-loss",
    "unauthenticated",
];

/// How many statuses there are.
pub const CODES: usize = NAMES.len();

/// A gRPC status as a number among those of HTTP: `grpc-unavailable` is 1014.
#[must_use]
pub fn status(word: &str) -> Option<u16> {
    let name = word.strip_prefix("grpc-")?;
    let code = NAMES.iter().skip(1).position(|known| *known == name)?;
    u16::try_from(code + 1).ok().map(|code| BASE + code)
}

/// The number among those of HTTP of an answer with this `grpc-status`; nothing where it is 0 or none.
#[must_use]
pub fn failed(value: &[u8]) -> Option<u16> {
    code(value).filter(|code| *code > 0).map(|code| BASE + code)
}

/// The number that a `grpc-status` field has; those that nobody knows are "unknown".
#[must_use]
pub fn code(value: &[u8]) -> Option<u16> {
    let number: u32 = std::str::from_utf8(value).ok()?.parse().ok()?;
    Some(u16::try_from(number).ok().filter(|code| usize::from(*code) < CODES).unwrap_or(2))
}

/// The name of a gRPC status by its number.
#[must_use]
pub fn name(code: u16) -> &'static str {
    NAMES.get(usize::from(code)).copied().unwrap_or("unknown")
}

/// The word for a number behind those of HTTP.
#[must_use]
pub fn word(status: u16) -> Option<String> {
    let code = status.checked_sub(BASE)?;
    NAMES.get(usize::from(code)).map(|name| format!("grpc-{name}"))
}

/// Whether a `Content-Type` is that of a call: `application/grpc`, with or without the name of a message format. That of
/// gRPC-Web is none.
#[must_use]
pub fn is_call(content_type: &[u8]) -> bool {
    const KIND: &[u8] = b"application/grpc";
    match content_type.split_at_checked(KIND.len()) {
        Some((kind, rest)) => {
            kind.eq_ignore_ascii_case(KIND) && matches!(rest, [] | [b'+' | b';' | b' ', ..])
        }
        None => false,
    }
}

/// A `grpc-timeout`: at most eight digits and a unit.
#[must_use]
pub fn timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let n = digits.iter().fold(0u64, |n, digit| n * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(n * 3600),
        b'M' => Duration::from_secs(n * 60),
        b'S' => Duration::from_secs(n),
        b'm' => Duration::from_millis(n),
        b'u' => Duration::from_micros(n),
        b'n' => Duration::from_nanos(n),
        _ => return None,
    })
}

/// What is left of a time limit as a `grpc-timeout`, in the finest unit that has room for it, rounded down.
#[must_use]
pub fn timeout_text(left: Duration) -> String {
    const MOST: u128 = 99_999_999;
    let nanos = left.as_nanos().max(1);
    let units = [(1, 'n'), (1_000, 'u'), (1_000_000, 'm'), (1_000_000_000, 'S'), (60_000_000_000, 'M')];
    for (size, unit) in units {
        if nanos / size <= MOST {
            return format!("{}{unit}", nanos / size);
        }
    }
    format!("{}H", (nanos / 3_600_000_000_000).min(MOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_have_names_behind_those_of_http() {
        assert_eq!(status("grpc-unavailable"), Some(1014));
        assert_eq!(status("grpc-cancelled"), Some(1001));
        assert_eq!((status("grpc-ok"), status("unavailable")), (None, None));
        assert_eq!(word(1014).as_deref(), Some("grpc-unavailable"));
        assert_eq!((word(503), word(1017)), (None, None));
        assert_eq!(
            (failed(b"0"), failed(b"14"), failed(b"99"), failed(b"x")),
            (None, Some(1014), Some(1002), None)
        );
    }

    #[test]
    fn calls_are_told_by_their_type() {
        for (kind, call) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("Application/gRPC; charset=x", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            assert_eq!(is_call(kind.as_bytes()), call, "{kind}");
        }
    }

    #[test]
    fn time_limits_are_read_and_written() {
        assert_eq!(timeout(b"2500m"), Some(Duration::from_millis(2500)));
        assert_eq!(timeout(b"1H"), Some(Duration::from_secs(3600)));
        assert_eq!((timeout(b"100"), timeout(b"123456789S"), timeout(b"-1S")), (None, None, None));
        assert_eq!(timeout_text(Duration::from_millis(2500)), "2500000u");
        assert_eq!(timeout_text(Duration::ZERO), "1n");
        assert_eq!(timeout_text(Duration::from_secs(360_000)), "360000S");
    }
}
