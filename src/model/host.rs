//! Host patterns of routes and the one way a request's host is normalized before it is compared.

use std::fmt;

/// A host that a route answers for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// Exactly this host, lower case, without a port.
    Exact(Box<str>),
    /// `*.example.com`: at least one more label in front; holds `.example.com`.
    Wildcard(Box<str>),
}

/// Why a text is no host pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Empty, or with a character that no host has.
    #[error("a host is made of letters, digits, '-', '_' and '.', or is an IP address")]
    Malformed,
    /// A star anywhere but as the whole first label.
    #[error("'*' may only stand alone as the first label, as in \"*.example.com\"")]
    Star,
    /// A port, which no pattern has.
    #[error("a host pattern has no port: it matches every port")]
    Port,
}

impl HostPattern {
    /// Reads `example.com`, `*.example.com` or `[::1]`.
    ///
    /// # Errors
    /// [`HostError`] says which rule the text breaks.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let lower = text.to_ascii_lowercase();
        let (wildcard, rest) = match lower.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, lower.as_str()),
        };
        if rest.contains('*') {
            return Err(HostError::Star);
        }
        if !wildcard && rest.starts_with('[') {
            let address =
                rest.strip_prefix('[').and_then(|r| r.strip_suffix(']')).ok_or(HostError::Malformed)?;
            address.parse::<std::net::Ipv6Addr>().map_err(|_| HostError::Malformed)?;
            return Ok(Self::Exact(rest.into()));
        }
        if rest.contains(':') {
            return Err(HostError::Port);
        }
        let rest = rest.strip_suffix('.').unwrap_or(rest);
        if rest.is_empty() || rest.split('.').any(str::is_empty) || !rest.bytes().all(is_host_byte) {
            return Err(HostError::Malformed);
        }
        Ok(if wildcard { Self::Wildcard(format!(".{rest}").into()) } else { Self::Exact(rest.into()) })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => f.write_str(host),
            Self::Wildcard(suffix) => write!(f, "*{suffix}"),
        }
    }
}

const fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

/// Splits an authority into its host and its port digits; the brackets of an IPv6 address stay on the host.
///
/// Returns nothing for what is no authority of a web request: user information, a second colon outside
/// brackets, a port that is no number up to 65535, a character that no host has (RFC 9112 section 3.2 asks for 400).
/// An empty authority and an empty port (`example.com:`) are fine (RFC 3986 section 3.2.3).
#[must_use]
pub fn split_authority(authority: &[u8]) -> Option<(&[u8], Option<u16>)> {
    let (host, port) = if authority.first() == Some(&b'[') {
        let end = memchr::memchr(b']', authority)?;
        let literal = std::str::from_utf8(authority.get(1..end)?).ok()?;
        literal.parse::<std::net::Ipv6Addr>().ok()?;
        let (host, rest) = authority.split_at(end + 1);
        match rest {
            [] => (host, None),
            [b':', port @ ..] => (host, Some(port)),
            _ => return None,
        }
    } else {
        let (host, port) = match memchr::memchr(b':', authority) {
            Some(colon) => (authority.get(..colon)?, authority.get(colon + 1..)),
            None => (authority, None),
        };
        // RFC 3986 would allow percent-encoding and more sub-delimiters; no name in use has them, attacks do.
        if !host.iter().all(|&b| is_host_byte(b)) || (host.is_empty() && !authority.is_empty()) {
            return None;
        }
        (host, port)
    };
    match port {
        None | Some([]) => Some((host, None)),
        Some(digits) if digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit) => {
            let number = digits.iter().fold(0u32, |n, d| n * 10 + u32::from(d - b'0'));
            u16::try_from(number).ok().map(|n| (host, Some(n)))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_read_once_and_normalized() {
        assert_eq!(HostPattern::parse("API.Example.com."), Ok(HostPattern::Exact("api.example.com".into())));
        assert_eq!(HostPattern::parse("*.Example.com"), Ok(HostPattern::Wildcard(".example.com".into())));
        assert_eq!(HostPattern::parse("[::1]"), Ok(HostPattern::Exact("[::1]".into())));
        assert_eq!(HostPattern::parse("a.*.com"), Err(HostError::Star));
        assert_eq!(HostPattern::parse("a:80"), Err(HostError::Port));
        assert_eq!(HostPattern::parse("a..b"), Err(HostError::Malformed));
        assert_eq!(HostPattern::parse(""), Err(HostError::Malformed));
    }

    #[test]
    fn an_authority_is_split_or_refused() {
        for (text, want) in [
            ("a", Some(("a", None))),
            ("a:80", Some(("a", Some(80)))),
            ("a:", Some(("a", None))),
            ("", Some(("", None))),
            ("[::1]:8080", Some(("[::1]", Some(8080)))),
            ("a:99999", None),
            ("a:http", None),
            ("a:80:80", None),
            ("u@a", None),
            ("a, b", None),
            ("a b", None),
            (":80", None),
            ("[::1]x", None),
            ("[a]", None),
            ("a\u{0}b", None),
        ] {
            let got = split_authority(text.as_bytes());
            assert_eq!(got, want.map(|(h, p): (&str, _)| (h.as_bytes(), p)), "{text:?}");
        }
    }
}
