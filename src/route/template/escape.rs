//! Where the text of a template goes, and what becomes there of bytes that a client has sent.

use super::Class;

/// Where a text goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Escape {
    /// Into a field's value: a control character becomes a space (RFC 9110 section 5.5).
    Field,
    /// Into a URL with whatever parts it has.
    Url,
    /// Into the path of a URL: what comes from elsewhere is one element of it.
    Path,
    /// Into a value of a query parameter.
    Parameter,
    /// Into the text between tags, or between quotes, of HTML.
    Html,
    /// Into a string of JSON.
    Json,
    /// Into plain text: as it is.
    Plain,
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Whether `byte` may stand in some part of a URL as it is; a percent sign opens an escape already.
const fn is_of_url(byte: u8) -> bool {
    byte.is_ascii_graphic()
        && !matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | b'#')
}

impl Escape {
    /// Appends bytes of a variable.
    pub(super) fn put(self, class: Class, bytes: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Plain => out.extend_from_slice(bytes),
            Self::Field => out.extend(bytes.iter().map(|&byte| match byte {
                b'\t' | b' '..=b'~' | 0x80.. => byte,
                _ => b' ',
            })),
            Self::Url | Self::Path | Self::Parameter => {
                let stays = self.kept(class);
                for &byte in bytes {
                    match stays(byte) {
                        true => out.push(byte),
                        false => out.extend([b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
                    }
                }
            }
            Self::Html => bytes.iter().for_each(|&byte| put_html(byte, out)),
            // Bytes that are no text would make the whole no JSON.
            Self::Json => String::from_utf8_lossy(bytes).bytes().for_each(|byte| put_json(byte, out)),
        }
    }

    /// Which bytes stay as they are in a URL.
    fn kept(self, class: Class) -> fn(u8) -> bool {
        match (self, class) {
            // A path is of a URL, and so are all parts of a query.
            (Self::Url, Class::Url) => is_of_url,
            (Self::Path, Class::Url) => |byte| is_of_url(byte) && byte != b'?',
            (Self::Url, Class::Parameter) => |byte| is_of_url(byte) && byte != b'?',
            (Self::Path, Class::Parameter) => |byte| is_of_url(byte) && !matches!(byte, b'?' | b'/'),
            (_, Class::Url | Class::Parameter) => |byte| is_of_url(byte) && byte != b'&',
            // An address of IPv6 is to stay readable.
            (_, Class::Text) => |byte| is_unreserved(byte) || byte == b':',
        }
    }
}

fn put_html(byte: u8, out: &mut Vec<u8>) {
    match byte {
        b'&' => out.extend_from_slice(b"&amp;"),
        b'<' => out.extend_from_slice(b"&lt;"),
        b'>' => out.extend_from_slice(b"&gt;"),
        b'"' => out.extend_from_slice(b"&quot;"),
        b'\'' => out.extend_from_slice(b"&#39;"),
        // Older browsers take it for a quote.
        b'`' => out.extend_from_slice(b"&#96;"),
        b'\t' | b' '.. => out.push(byte),
        _ => out.push(b' '),
    }
}

fn put_json(byte: u8, out: &mut Vec<u8>) {
    match byte {
        b'"' | b'\\' => out.extend([b'\\', byte]),
        // Also harmless where the JSON stands in HTML.
        0..=0x1f | b'<' | b'>' | b'&' | b'\'' | 0x7f => {
            out.extend_from_slice(b"\\u00");
            out.extend([HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
        _ => out.push(byte),
    }
}
