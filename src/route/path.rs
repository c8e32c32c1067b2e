//! The normal form in which paths are compared, and what is left of a path below a prefix.

use std::borrow::Cow;

/// The form of `path` that routes compare (RFC 3986 section 6.2.2, and nginx's `merge_slashes`).
///
/// - `%61` is `a`: escapes of unreserved characters are decoded, once. All others stay escapes, with upper-case
///   digits: `%2f` becomes `%2F`, never `/`.
/// - What may not stand in a path unescaped becomes an escape, a stray `%` too, so that a pattern may be written
///   as `/café` and a second normalization changes nothing.
/// - `//` is `/`, then `.` and `..` are resolved; `..` at the top stays at the top.
///
/// What does not start with `/`, such as the `*` of `OPTIONS *`, is returned as it is. Allocates only when
/// there is something to change.
#[must_use]
pub fn normalize(path: &[u8]) -> Cow<'_, [u8]> {
    if is_normal(path) { Cow::Borrowed(path) } else { Cow::Owned(resolve_segments(&normalize_escapes(path))) }
}

/// What is left of `path` below `prefix`, element by element: empty, or starting with `/`.
///
/// Both are compared in normal form, and the rest is in normal form: there may be no place in the path as sent
/// where the prefix ends (`/x/../v1/y`). Returns nothing when the path does not lie below the prefix.
#[must_use]
pub fn strip_prefix<'a>(path: &'a [u8], prefix: &str) -> Option<Cow<'a, [u8]>> {
    let prefix = normalize_prefix(prefix);
    let below = |path: &[u8]| {
        let rest = path.strip_prefix(prefix.as_ref())?;
        (rest.is_empty() || rest.starts_with(b"/")).then_some(path.len() - rest.len())
    };
    match normalize(path) {
        Cow::Borrowed(path) => below(path).and_then(|end| path.get(end..)).map(Cow::Borrowed),
        Cow::Owned(mut path) => below(&path).map(|end| Cow::Owned(path.split_off(end))),
    }
}

/// The normal form of a prefix, without the slash at its end: `/` is empty.
pub(super) fn normalize_prefix(prefix: &str) -> Cow<'_, [u8]> {
    match normalize(prefix.as_bytes()) {
        Cow::Borrowed(path) => Cow::Borrowed(path.strip_suffix(b"/").unwrap_or(path)),
        Cow::Owned(mut path) => {
            path.pop_if(|last| *last == b'/');
            Cow::Owned(path)
        }
    }
}

/// Stricter than needed, so that it stays one cheap pass: `/.well-known` takes the long way for nothing.
fn is_normal(path: &[u8]) -> bool {
    path.first() != Some(&b'/')
        || (path.iter().all(|&byte| may_stand_unescaped(byte))
            && !path.windows(2).any(|pair| pair == b"//" || pair == b"/."))
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// `pchar` of RFC 3986 section 3.3 without escapes, and the slash.
const fn may_stand_unescaped(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(
            byte,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@' | b'/'
        )
}

fn normalize_escapes(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len() + 8);
    let mut rest = path;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        if *byte != b'%' {
            push(&mut out, *byte, may_stand_unescaped(*byte));
            continue;
        }
        match escaped_byte(tail) {
            Some(decoded) => {
                rest = tail.get(2..).unwrap_or_default();
                push(&mut out, decoded, is_unreserved(decoded));
            }
            None => push(&mut out, b'%', false),
        }
    }
    out
}

fn push(out: &mut Vec<u8>, byte: u8, plain: bool) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    if plain {
        out.push(byte);
    } else {
        out.extend([b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

/// The byte whose two digits open `text`.
fn escaped_byte(text: &[u8]) -> Option<u8> {
    let digit = |at: usize| text.get(at).and_then(|&b| char::from(b).to_digit(16));
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

fn resolve_segments(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut ends_with_slash = false;
    for segment in path.split(|&b| b == b'/') {
        ends_with_slash = matches!(segment, b"" | b"." | b"..");
        match segment {
            b"" | b"." => {}
            b".." => out.truncate(out.iter().rposition(|&b| b == b'/').unwrap_or(0)),
            name => {
                out.push(b'/');
                out.extend_from_slice(name);
            }
        }
    }
    if ends_with_slash || out.is_empty() {
        out.push(b'/');
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(path: &str, want: &str) {
        assert_eq!(String::from_utf8_lossy(&normalize(path.as_bytes())), want, "{path}");
    }

    #[test]
    fn the_ways_around_a_path_lead_to_it() {
        for path in [
            "/admin",
            "//admin",
            "/./admin",
            "/x/../admin",
            "/%61dmin",
            "/x/%2e%2E/admin",
            "/../../admin",
            "/.//admin",
        ] {
            check(path, "/admin");
        }
    }

    #[test]
    fn only_unreserved_escapes_are_decoded_and_only_once() {
        check("/a%2fb", "/a%2Fb");
        check("/a%2561", "/a%2561");
        check("/%%36%31", "/%2561");
        check("/%zz%2", "/%25zz%252");
        check("/caf\u{e9}", "/caf%C3%A9");
        check("/~u:@!$&'()*+,;=", "/~u:@!$&'()*+,;=");
    }

    #[test]
    fn a_slash_at_the_end_is_kept_and_dots_at_the_end_leave_one() {
        check("/a/", "/a/");
        check("/a//", "/a/");
        check("/a/.", "/a/");
        check("/a/b/..", "/a/");
        check("/..", "/");
        check("//", "/");
        check("/a..", "/a..");
        check("/.hidden", "/.hidden");
    }

    #[test]
    fn what_is_no_path_is_left_alone() {
        check("*", "*");
        check("", "");
    }

    #[test]
    fn nothing_is_copied_when_there_is_nothing_to_change() {
        assert!(matches!(normalize(b"/a/b.c/d"), Cow::Borrowed(_)));
        assert!(matches!(strip_prefix(b"/a/b.c/d", "/a/"), Some(Cow::Borrowed(b"/b.c/d"))));
    }

    #[test]
    fn a_prefix_is_cut_at_an_element() {
        let rest = |path: &str, prefix| {
            strip_prefix(path.as_bytes(), prefix).map(|r| String::from_utf8_lossy(&r).into_owned())
        };
        assert_eq!(rest("/v1/x", "/v1").as_deref(), Some("/x"));
        assert_eq!(rest("/v1/x", "/v1/").as_deref(), Some("/x"));
        assert_eq!(rest("/v1", "/v1/").as_deref(), Some(""));
        assert_eq!(rest("/v1/", "/v1").as_deref(), Some("/"));
        assert_eq!(rest("/v1x", "/v1"), None);
        assert_eq!(rest("/x/../%761//y", "/v1").as_deref(), Some("/y"));
        assert_eq!(rest("/x", "/").as_deref(), Some("/x"));
    }

    proptest! {
        #[test]
        fn normal_is_final(path in "/[a./%2eE6/é ]{0,24}") {
            let once = normalize(path.as_bytes()).into_owned();
            let twice = normalize(&once).into_owned();
            prop_assert_eq!(&once, &twice);
            let text = String::from_utf8_lossy(&once).into_owned();
            prop_assert!(text.starts_with('/') && !text.contains("//"));
            let has_dots = text.split('/').any(|segment| segment == "." || segment == "..");
            prop_assert!(!has_dots, "{}", text);
        }
    }
}
