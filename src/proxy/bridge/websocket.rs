//! The handshake of WebSocket where one side upgrades an HTTP/1 connection (RFC 6455 section 4) and the other opens a
//! stream (RFC 8441 section 5): the key that only the first has, and the proof that the other end understood it.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

/// What RFC 6455 section 1.3 has appended to every key.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// `Sec-WebSocket-Key`: 16 bytes in base64. They keep caches from answering, nothing more.
#[must_use]
pub fn key(random: [u64; 2]) -> [u8; 24] {
    let [high, low] = random.map(u64::to_be_bytes);
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&high);
    bytes[8..].copy_from_slice(&low);
    base64(&bytes)
}

/// `Sec-WebSocket-Accept` for a key.
#[must_use]
pub fn accept(key: &[u8]) -> [u8; 28] {
    base64(digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID].concat()).as_ref())
}

/// RFC 4648 section 4, for lengths known when this is compiled.
fn base64<const N: usize>(bytes: &[u8]) -> [u8; N] {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = [b'='; N];
    for (group, out) in bytes.chunks(3).zip(text.chunks_mut(4)) {
        let bits = group.iter().fold(0u32, |bits, &b| (bits << 8) | u32::from(b)) << (8 * (3 - group.len()));
        for (i, digit) in out.iter_mut().take(group.len() + 1).enumerate() {
            *digit = DIGITS[(bits >> (18 - 6 * i)) as usize & 63];
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc_comes_out() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), *b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_key_is_sixteen_bytes_of_base64() {
        assert_eq!(key([0, 0]), *b"AAAAAAAAAAAAAAAAAAAAAA==");
        assert_eq!(key([u64::MAX, u64::MAX]), *b"/////////////////////w==");
    }
}
