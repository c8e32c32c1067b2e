//! Bytes of a peer as part of one log line: quoted, escaped and cut, so that no peer can forge a line or a field.

/// Most bytes of one value that a log line shows; the rest is replaced by `...`. Bounds a record whatever the limits say.
pub(super) const VALUE_MAX: usize = 8 * 1024;

/// Appends `bytes` in double quotes; quotes and backslashes get a backslash, what is not printable ASCII becomes `\xNN`.
pub(super) fn text(bytes: &[u8], out: &mut Vec<u8>) {
    quoted(bytes, out, |byte, out| {
        out.extend_from_slice(&[b'\\', b'x', hex(byte >> 4), hex(byte)]);
    });
}

/// Appends `bytes` as a JSON string. A byte that is not printable ASCII becomes the code point of the same number
/// (`\u00NN`): a peer's bytes need not be UTF-8, and so none is lost.
pub(super) fn json(bytes: &[u8], out: &mut Vec<u8>) {
    quoted(bytes, out, |byte, out| {
        out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte)]);
    });
}

fn quoted(bytes: &[u8], out: &mut Vec<u8>, escape: impl Fn(u8, &mut Vec<u8>)) {
    let shown = bytes.get(..VALUE_MAX).unwrap_or(bytes);
    out.push(b'"');
    let mut plain_from = 0;
    for (at, &byte) in shown.iter().enumerate() {
        if is_plain(byte) {
            continue;
        }
        out.extend_from_slice(shown.get(plain_from..at).unwrap_or_default());
        plain_from = at + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            _ => escape(byte, out),
        }
    }
    out.extend_from_slice(shown.get(plain_from..).unwrap_or_default());
    if shown.len() < bytes.len() {
        out.extend_from_slice(b"...");
    }
    out.push(b'"');
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

fn hex(nibble: u8) -> u8 {
    match nibble & 0xf {
        digit @ 0..=9 => b'0' + digit,
        letter => b'a' + letter - 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(bytes: &[u8]) -> (String, String) {
        let (mut as_text, mut as_json) = (Vec::new(), Vec::new());
        text(bytes, &mut as_text);
        json(bytes, &mut as_json);
        (String::from_utf8_lossy(&as_text).into_owned(), String::from_utf8_lossy(&as_json).into_owned())
    }

    #[test]
    fn quotes_controls_and_foreign_bytes_are_escaped() {
        assert_eq!(both(b"/a b"), (r#""/a b""#.to_owned(), r#""/a b""#.to_owned()));
        assert_eq!(
            both(b"a\"\\\n\x7f\xc3"),
            (r#""a\"\\\x0a\x7f\xc3""#.to_owned(), r#""a\"\\\u000a\u007f\u00c3""#.to_owned())
        );
    }

    #[test]
    fn a_long_value_is_cut() {
        let (as_text, _) = both(&[b'x'; VALUE_MAX + 1]);
        assert_eq!(as_text.len(), VALUE_MAX + 2 + 3);
        assert!(as_text.ends_with("...\""));
    }
}
