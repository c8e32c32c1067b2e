//! The form in which hosts are compared: lower case, no port, no dot at the end, addresses in their shortest spelling.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use crate::model::host::{HostPattern, split_authority};

/// The host of a request's authority in the form that is compared; empty when it names none that can be one.
pub(super) fn normalize(authority: &[u8]) -> Cow<'_, [u8]> {
    let Some((host, _)) = split_authority(authority) else {
        return Cow::Borrowed(b"");
    };
    let host = host.strip_suffix(b".").unwrap_or(host);
    if host.first() == Some(&b'[') {
        return Cow::Owned(shortest_literal(host));
    }
    if host.iter().any(u8::is_ascii_uppercase) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

/// What a pattern's own text is in that form: the host, or the suffix from the dot on.
pub(super) fn pattern_key(pattern: &HostPattern) -> Vec<u8> {
    match pattern {
        HostPattern::Exact(host) if host.starts_with('[') => shortest_literal(host.as_bytes()),
        HostPattern::Exact(text) | HostPattern::Wildcard(text) => text.as_bytes().to_vec(),
    }
}

/// Whether `host`, in the form of [`normalize`], is one of the pattern's.
pub(super) fn matches(pattern: &HostPattern, host: &[u8]) -> bool {
    match pattern {
        HostPattern::Exact(_) => pattern_key(pattern) == host,
        HostPattern::Wildcard(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_bytes()),
    }
}

/// `[0:0::1]` and `[::1]` are one host (RFC 5952).
fn shortest_literal(literal: &[u8]) -> Vec<u8> {
    let address = literal
        .strip_prefix(b"[")
        .and_then(|rest| rest.strip_suffix(b"]"))
        .and_then(|text| std::str::from_utf8(text).ok())
        .and_then(|text| text.parse::<Ipv6Addr>().ok());
    address.map_or_else(|| literal.to_vec(), |address| format!("[{address}]").into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_host_are_one() {
        for authority in ["example.com", "EXAMPLE.com:8080", "example.com.", "Example.Com.:80"] {
            assert_eq!(normalize(authority.as_bytes()).as_ref(), b"example.com", "{authority}");
        }
        assert_eq!(normalize(b"[0:0::0001]:443").as_ref(), b"[::1]");
        assert_eq!(normalize(b"user@example.com").as_ref(), b"");
        assert!(matches!(normalize(b"example.com:80"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_wildcard_wants_a_label_in_front() {
        let pattern = HostPattern::Wildcard(".example.com".into());
        assert!(matches(&pattern, b"a.example.com"));
        assert!(matches(&pattern, b"a.b.example.com"));
        assert!(!matches(&pattern, b"example.com"));
        assert!(!matches(&pattern, b"badexample.com"));
    }
}
