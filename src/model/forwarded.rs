//! What proxies say of a client: the elements of `X-Forwarded-For` and of `Forwarded` (RFC 7239), read from the right, and
//! an element of `Forwarded` written. Whom to believe is `policy::identity`'s.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddrV4};

use super::address::UNKNOWN_CLIENT;
use super::field::is_token_byte;

/// Which fields tell endpoints who the client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Family {
    /// `X-Forwarded-For`, `-Proto` and `-Host`, and `X-Real-IP`.
    #[default]
    XForwarded,
    /// `Forwarded` alone.
    Rfc7239,
    /// All of them.
    Both,
    /// None; what a trusted peer has written goes on as it came.
    Off,
}

impl Family {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::XForwarded, Self::Rfc7239, Self::Both, Self::Off];

    /// Its word in a configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::XForwarded => "x-forwarded",
            Self::Rfc7239 => "rfc7239",
            Self::Both => "both",
            Self::Off => "off",
        }
    }

    /// Whether the fields of the `X-` family are written.
    #[must_use]
    pub const fn has_x(self) -> bool {
        matches!(self, Self::XForwarded | Self::Both)
    }

    /// Whether `Forwarded` is written.
    #[must_use]
    pub const fn has_standard(self) -> bool {
        matches!(self, Self::Rfc7239 | Self::Both)
    }
}

/// The elements of one line of `X-Forwarded-For`, the rightmost first.
pub fn addresses_from_right(line: &[u8]) -> impl Iterator<Item = Option<IpAddr>> {
    line.rsplit(|&byte| byte == b',').map(|element| address_of(element.trim_ascii()))
}

/// An address as proxies write it: with or without a port, IPv6 with or without brackets. A scope is none of its parts.
#[must_use]
pub fn address_of(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let address = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            let is_port =
                |port: &str| port.parse::<u16>().is_ok() && port.bytes().all(|b| b.is_ascii_digit());
            if !port.is_empty() && !port.strip_prefix(':').is_some_and(is_port) {
                return None;
            }
            IpAddr::V6(address.parse().ok()?)
        }
        None => match text.parse::<IpAddr>() {
            Ok(address) => address,
            Err(_) => text.parse::<SocketAddrV4>().ok()?.ip().to_owned().into(),
        },
    };
    Some(address.to_canonical())
}

/// Who an element of `Forwarded` is for (RFC 7239 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// An address, whatever its port.
    Address(IpAddr),
    /// Somebody whose proxy hides the address: `unknown`, or an identifier of its own such as `_hidden`.
    Hidden,
    /// Nobody is named, or the element breaks the rules.
    Invalid,
}

/// The elements of one line of `Forwarded`, the rightmost first; empty ones are none (RFC 9110 section 5.6.1).
///
/// From the right, because that is the side on which proxies add: a quote that a client opens and never closes on the left
/// swallows nothing of what they have added.
pub fn nodes_from_right(line: &[u8]) -> impl Iterator<Item = Node> {
    elements_from_right(line).map(|(_, node)| node)
}

/// The same with the text of each.
pub fn elements_from_right(line: &[u8]) -> impl Iterator<Item = (&[u8], Node)> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        loop {
            let line = rest.take()?;
            let start = start_of_last_element(line);
            rest = start.checked_sub(1).map(|comma| &line[..comma]);
            let element = line[start..].trim_ascii();
            if !element.is_empty() {
                return Some((element, node_of(element).unwrap_or(Node::Invalid)));
            }
        }
    })
}

/// Where the part after the last comma begins that stands in no quoted string.
fn start_of_last_element(line: &[u8]) -> usize {
    let mut quoted = false;
    for (at, &byte) in line.iter().enumerate().rev() {
        match byte {
            b'"' if quoted => {
                let escapes = line[..at].iter().rev().take_while(|&&byte| byte == b'\\').count();
                quoted = escapes % 2 == 1;
            }
            b'"' => quoted = true,
            b',' if !quoted => return at + 1,
            _ => {}
        }
    }
    0
}

/// The node in `for` of one element: `name=value` pairs between semicolons, each name at most once (section 4).
fn node_of(element: &[u8]) -> Option<Node> {
    // The registered ones (section 8) and then some; who sends more has something else in mind.
    const PAIRS_MAX: usize = 16;
    let mut names: [&[u8]; PAIRS_MAX] = [b""; PAIRS_MAX];
    let mut count = 0;
    let mut node = None;
    let mut rest = element;
    loop {
        rest = rest.trim_ascii_start();
        if let Some((name, value, after)) = pair(rest) {
            if count == PAIRS_MAX || names[..count].iter().any(|known| known.eq_ignore_ascii_case(name)) {
                return None;
            }
            names[count] = name;
            count += 1;
            if name.eq_ignore_ascii_case(b"for") {
                node = Some(value.node()?);
            }
            rest = after.trim_ascii_start();
        }
        match rest {
            [] => return node,
            [b';', after @ ..] => rest = after,
            _ => return None,
        }
    }
}

/// The value of a pair.
enum Value<'a> {
    Token(&'a [u8]),
    /// Between its quotation marks.
    Quoted(&'a [u8]),
}

/// A pair at the beginning of `rest`, and what follows it.
fn pair(rest: &[u8]) -> Option<(&[u8], Value<'_>, &[u8])> {
    let name = token(rest);
    let value = rest[name.len()..].strip_prefix(b"=").filter(|_| !name.is_empty())?;
    let Some(quoted) = value.strip_prefix(b"\"") else {
        // Colons and brackets are for quoted strings, but a list of widespread proxies writes addresses without.
        let end = value.iter().position(|&b| !(is_token_byte(b) || matches!(b, b':' | b'[' | b']')));
        let (value, after) = value.split_at(end.unwrap_or(value.len()));
        return (!value.is_empty()).then_some((name, Value::Token(value), after));
    };
    let mut at = 0;
    while *quoted.get(at)? != b'"' {
        at += if quoted[at] == b'\\' { 2 } else { 1 };
    }
    Some((name, Value::Quoted(&quoted[..at]), &quoted[at + 1..]))
}

fn token(text: &[u8]) -> &[u8] {
    &text[..text.iter().position(|&byte| !is_token_byte(byte)).unwrap_or(text.len())]
}

impl Value<'_> {
    fn node(&self) -> Option<Node> {
        // `[` 39 characters `]:` 16 characters, and nobody needs more to hide a name.
        const NODE_MAX: usize = 256;
        let mut plain = [0u8; NODE_MAX];
        let mut length = 0;
        let (text, quoted) = match self {
            Self::Token(text) => (*text, false),
            Self::Quoted(text) => (*text, true),
        };
        let mut bytes = text.iter();
        while let Some(&byte) = bytes.next() {
            let byte = if quoted && byte == b'\\' { *bytes.next()? } else { byte };
            *plain.get_mut(length)? = byte;
            length += 1;
        }
        node(&plain[..length])
    }
}

/// A node (section 6): a name, and perhaps a port that may be hidden as well.
fn node(text: &[u8]) -> Option<Node> {
    if let Some(address) = address_of(text) {
        return Some(Node::Address(address));
    }
    let (name, port) = match text {
        // The colons of an IPv6 address are not those of its port.
        [b'[', ..] => text.split_at(text.iter().position(|&b| b == b']')? + 1),
        _ => text.split_at(text.iter().position(|&b| b == b':').unwrap_or(text.len())),
    };
    if let Some(port) = port.strip_prefix(b":")
        && !is_identifier(port)
        && !((1..=5).contains(&port.len()) && port.iter().all(u8::is_ascii_digit))
    {
        return None;
    }
    match address_of(name) {
        Some(address) => Some(Node::Address(address)),
        None if is_identifier(name) || name.eq_ignore_ascii_case(UNKNOWN_CLIENT.as_bytes()) => {
            Some(Node::Hidden)
        }
        None => None,
    }
}

/// What stands for a name or a port that is not told (section 6.3).
fn is_identifier(text: &[u8]) -> bool {
    let allowed = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    matches!(text, [b'_', rest @ ..] if !rest.is_empty() && rest.iter().all(allowed))
}

/// Appends one element of `Forwarded`, after what stands in `out`. Without an address the client is `unknown`; a host or a
/// scheme that is empty is left out.
pub fn put_element(out: &mut Vec<u8>, client: Option<IpAddr>, host: &[u8], scheme: &[u8]) {
    if !out.is_empty() {
        out.extend_from_slice(b", ");
    }
    out.extend_from_slice(b"for=");
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _infallible = match client.map(|client| client.to_canonical()) {
        None => write!(text, "{UNKNOWN_CLIENT}"),
        Some(IpAddr::V4(v4)) => write!(text, "{v4}"),
        Some(IpAddr::V6(v6)) => write!(text, "\"[{v6}]\""),
    };
    out.extend_from_slice(text.as_bytes());
    for (name, value) in [(&b";host="[..], host), (b";proto=", scheme)] {
        if !value.is_empty() {
            out.extend_from_slice(name);
            put_value(out, value);
        }
    }
}

fn put_value(out: &mut Vec<u8>, value: &[u8]) {
    if value.iter().all(|&byte| is_token_byte(byte)) {
        return out.extend_from_slice(value);
    }
    out.push(b'"');
    for &byte in value {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("the test's own address")
    }

    #[test]
    fn addresses_are_read_in_every_form_that_proxies_write() {
        for (text, want) in [
            ("192.0.2.1", Some("192.0.2.1")),
            ("192.0.2.1:4711", Some("192.0.2.1")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("[2001:db8::1]:4711", Some("2001:db8::1")),
            ("::ffff:192.0.2.1", Some("192.0.2.1")),
            ("[192.0.2.1]", None),
            ("[2001:db8::1]4711", None),
            ("[2001:db8::1]:", None),
            ("[2001:db8::1]:+47", None),
            ("fe80::1%eth0", None),
            ("192.0.2.1:", None),
            ("192.0.2", None),
            ("unknown", None),
            ("", None),
        ] {
            assert_eq!(address_of(text.as_bytes()), want.map(address), "{text}");
        }
    }

    #[test]
    fn nodes_are_read_as_the_standard_writes_them() {
        // RFC 7239 sections 4, 6 and 7.1, and what breaks their rules.
        for (element, want) in [
            ("for=192.0.2.43", Ok(Some("192.0.2.43"))),
            ("For=\"[2001:db8:cafe::17]:4711\"", Ok(Some("2001:db8:cafe::17"))),
            ("for=192.0.2.60;proto=http;by=203.0.113.43", Ok(Some("192.0.2.60"))),
            ("proto=http;by=\"a,b;c\";FOR=192.0.2.60", Ok(Some("192.0.2.60"))),
            ("for=\"192.0.2.43:47011\"", Ok(Some("192.0.2.43"))),
            ("for=192.0.2.43:47011", Ok(Some("192.0.2.43"))),
            ("for=\"192.0.2.43:_port\"", Ok(Some("192.0.2.43"))),
            ("for=\"[2001:db8::1]:_port\"", Ok(Some("2001:db8::1"))),
            ("for=\"192.0.2.\\4\\3\"", Ok(Some("192.0.2.43"))),
            ("for=\"[::ffff:192.0.2.43]\"", Ok(Some("192.0.2.43"))),
            (";;for=192.0.2.43;", Ok(Some("192.0.2.43"))),
            ("for=192.0.2.43 ; proto=https", Ok(Some("192.0.2.43"))),
            ("for=_gazonk", Ok(None)),
            ("for=\"_gazonk:_47\"", Ok(None)),
            ("for=unknown", Ok(None)),
            ("for=\"Unknown:4711\"", Ok(None)),
            ("proto=https", Err(())),
            ("for=", Err(())),
            ("for", Err(())),
            ("for =192.0.2.43", Err(())),
            ("for= 192.0.2.43", Err(())),
            ("for=_", Err(())),
            ("for=example.com", Err(())),
            ("for=\"_a b\"", Err(())),
            ("for=\"192.0.2.43:123456\"", Err(())),
            ("for=\"[2001:db8::1\"", Err(())),
            ("for=192.0.2.43;for=192.0.2.44", Err(())),
            ("for=192.0.2.43;proto=http;Proto=https", Err(())),
            ("for=\"192.0.2.43", Err(())),
            ("for=\"192.0.2.43\\\"", Err(())),
            ("for=\"192.0.2.43\"x", Err(())),
            ("for=192.0.2.43 proto=https", Err(())),
            ("192.0.2.43", Err(())),
        ] {
            let want = match want {
                Ok(Some(text)) => Node::Address(address(text)),
                Ok(None) => Node::Hidden,
                Err(()) => Node::Invalid,
            };
            assert_eq!(nodes_from_right(element.as_bytes()).collect::<Vec<_>>(), [want], "{element}");
        }
    }

    #[test]
    fn what_proxies_add_on_the_right_is_read_whatever_stands_left_of_it() {
        let read = |line: &str| nodes_from_right(line.as_bytes()).collect::<Vec<_>>();
        let [a, b] = ["192.0.2.1", "2001:db8::2"].map(|text| Node::Address(address(text)));
        assert_eq!(read("for=192.0.2.1, for=\"[2001:db8::2]:80\""), [b, a]);
        assert_eq!(read(",for=192.0.2.1, ,, for=\"[2001:db8::2]\" ,"), [b, a]);
        assert_eq!(read("for=_x;by=\", for=9.9.9.9\", for=192.0.2.1"), [a, Node::Hidden]);
        assert_eq!(read("for=_x;by=\"\\\", for=9.9.9.9\", for=192.0.2.1"), [a, Node::Hidden]);
        for left in ["for=\"", "\"", "\\", "for=\"\\", "for=\"x\\\\", ";=\"\",\"", "for=\"a\",\""] {
            let line = format!("{left}, for=192.0.2.1, for=\"[2001:db8::2]:_x\"");
            assert_eq!(read(&line)[..2], [b, a], "{line}");
        }
        assert_eq!(read(""), []);
        assert_eq!(read(" , "), []);
    }

    #[test]
    fn an_element_is_written_as_it_is_read() {
        let written = |client: Option<&str>, host: &str, scheme: &str| {
            let mut out = Vec::new();
            put_element(&mut out, client.map(address), host.as_bytes(), scheme.as_bytes());
            String::from_utf8(out).expect("text")
        };
        assert_eq!(
            written(Some("192.0.2.1"), "example.com", "https"),
            "for=192.0.2.1;host=example.com;proto=https"
        );
        assert_eq!(
            written(Some("2001:db8::1"), "example.com:8443", "http"),
            "for=\"[2001:db8::1]\";host=\"example.com:8443\";proto=http"
        );
        assert_eq!(written(Some("::ffff:192.0.2.1"), "", ""), "for=192.0.2.1");
        assert_eq!(written(None, "a\"\\", ""), "for=unknown;host=\"a\\\"\\\\\"");
    }
}
