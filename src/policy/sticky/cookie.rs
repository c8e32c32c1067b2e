//! The cookie in which a client carries where it belongs: signed, so that nobody chooses an endpoint for himself, and
//! without a name or an address in it.
//!
//! `v1.KEY.PAYLOAD.SIGNATURE`, each but the first in base64url (RFC 4648 section 5) without padding. The key is named by
//! three bytes. The payload is 17 bytes: flags, eight bytes that stand for the endpoint, when the client was bound to it,
//! when it was last told. The signature is the first 16 bytes of HMAC-SHA256 (RFC 2104) over the payload, by a key that is
//! derived from the secret, the cookie's name and the pool's. What does not fit in every bit is as if it were not there.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use aws_lc_rs::hmac::{self, HMAC_SHA256};

use super::Binding;

/// The first form of the value.
const VERSION: &[u8] = b"v1";

/// Bytes that name a key.
const ID: usize = 3;

/// Bytes that say where a client belongs.
const PAYLOAD: usize = 17;

/// Bytes of a signature (RFC 2104 section 5 allows no less than half of the hash).
const SIGNATURE: usize = 16;

/// Bytes of a value.
pub const LENGTH: usize = VERSION.len() + 3 + ID_TEXT + PAYLOAD_TEXT + SIGNATURE_TEXT;

const ID_TEXT: usize = text_length(ID);
const PAYLOAD_TEXT: usize = text_length(PAYLOAD);
const SIGNATURE_TEXT: usize = text_length(SIGNATURE);

const AWAY: u8 = 1;
const SPLIT: u8 = 1 << 1;

/// The keys of one cookie of one pool: the first signs, all verify.
pub struct Keys(Box<[Key]>);

struct Key {
    id: [u8; ID_TEXT],
    signs: hmac::Key,
    names: hmac::Key,
}

impl fmt::Debug for Keys {
    // They stay out of it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Keys").field("len", &self.0.len()).finish_non_exhaustive()
    }
}

impl PartialEq for Keys {
    /// By their names, which follow from the secrets.
    fn eq(&self, other: &Self) -> bool {
        self.0.iter().map(|key| key.id).eq(other.0.iter().map(|key| key.id))
    }
}

/// What a cookie of ours says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Which of the keys has signed it, from 0.
    pub key: usize,
    /// What stands for the endpoint under that key, as [`Keys::tag`] has it.
    pub tag: u64,
    /// The rest.
    pub binding: Binding,
}

/// So many bytes, for HKDF.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl Key {
    /// By HKDF (RFC 5869). Nothing only where the library fails.
    fn derive(secret: &[u8], cookie: &str, pool: &str) -> Option<Self> {
        let root = Salt::new(HKDF_SHA256, b"plimsoll sticky cookies").extract(secret);
        let key = |info: &[&[u8]]| {
            let mut key = [0; 32];
            root.expand(info, Length(key.len())).ok()?.fill(&mut key).ok()?;
            Some(hmac::Key::new(HMAC_SHA256, &key))
        };
        let mut id = [0; ID];
        root.expand(&[b"id"], Length(ID)).ok()?.fill(&mut id).ok()?;
        let mut text = [0; ID_TEXT];
        encode(&id, &mut text);
        // No name has a zero byte.
        let signs = key(&[b"sign", cookie.as_bytes(), b"\0", pool.as_bytes()])?;
        Some(Self { id: text, signs, names: key(&[b"name"])? })
    }

    fn signature(&self, payload: &[u8; PAYLOAD]) -> [u8; SIGNATURE] {
        let whole = hmac::sign(&self.signs, payload);
        whole.as_ref().first_chunk().copied().unwrap_or_default()
    }
}

impl Keys {
    /// Derives them from secrets, of which the first signs, for the cookie of this name and a pool.
    #[must_use]
    pub fn derive<'a>(secrets: impl IntoIterator<Item = &'a [u8]>, cookie: &str, pool: &str) -> Self {
        Self(secrets.into_iter().filter_map(|secret| Key::derive(secret, cookie, pool)).collect())
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none, so that nobody can be bound.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What stands for an endpoint in cookies of the key at `index`: the same on every node that has the key.
    #[must_use]
    pub fn tag(&self, index: usize, pool: &str, endpoint: &str) -> u64 {
        let Some(key) = self.0.get(index) else { return 0 };
        let mut named = hmac::Context::with_key(&key.names);
        named.update(pool.as_bytes());
        named.update(b"\0");
        named.update(endpoint.as_bytes());
        named.sign().as_ref().first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
    }

    /// A value for a client that belongs to the endpoint for which `tag` stands under the first key; nothing where there is
    /// no key.
    #[must_use]
    pub fn seal(&self, tag: u64, binding: &Binding) -> Option<[u8; LENGTH]> {
        let key = self.0.first()?;
        let flags = if binding.away { AWAY } else { 0 } | if binding.split { SPLIT } else { 0 };
        let mut payload = [0; PAYLOAD];
        payload[0] = flags;
        payload[1..9].copy_from_slice(&tag.to_be_bytes());
        payload[9..13].copy_from_slice(&binding.made.to_be_bytes());
        payload[13..].copy_from_slice(&binding.seen.to_be_bytes());
        let mut value = [b'.'; LENGTH];
        let (version, rest) = value.split_at_mut(VERSION.len());
        version.copy_from_slice(VERSION);
        let (id, rest) = rest[1..].split_at_mut(ID_TEXT);
        id.copy_from_slice(&key.id);
        let (payload_text, rest) = rest[1..].split_at_mut(PAYLOAD_TEXT);
        encode(&payload, payload_text);
        encode(&key.signature(&payload), &mut rest[1..]);
        Some(value)
    }

    /// What a value says; nothing where no key here has signed it for this cookie and this pool.
    #[must_use]
    pub fn open(&self, value: &[u8]) -> Option<Opened> {
        // Only values of one length are looked at, so that a long one costs nothing.
        let value: &[u8; LENGTH] = value.try_into().ok()?;
        let rest = value.strip_prefix(VERSION)?.strip_prefix(b".")?;
        let (id, rest) = rest.split_at_checked(ID_TEXT)?;
        let (payload, rest) = rest.strip_prefix(b".")?.split_at_checked(PAYLOAD_TEXT)?;
        let payload: [u8; PAYLOAD] = decode(payload)?;
        let signature: [u8; SIGNATURE] = decode(rest.strip_prefix(b".")?)?;
        let named = self.0.iter().enumerate().filter(|(_, key)| key.id == *id);
        let (key, _) = named
            .into_iter()
            .find(|(_, key)| verify_slices_are_equal(&key.signature(&payload), &signature).is_ok())?;
        let [flags, tag @ .., m0, m1, m2, m3, s0, s1, s2, s3] = payload;
        Some(Opened {
            key,
            tag: u64::from_be_bytes(tag),
            binding: Binding {
                made: u32::from_be_bytes([m0, m1, m2, m3]),
                seen: u32::from_be_bytes([s0, s1, s2, s3]),
                away: flags & AWAY != 0,
                split: flags & SPLIT != 0,
            },
        })
    }
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Digits that so many bytes take.
const fn text_length(bytes: usize) -> usize {
    (bytes * 8).div_ceil(6)
}

fn encode(bytes: &[u8], text: &mut [u8]) {
    for (group, out) in bytes.chunks(3).zip(text.chunks_mut(4)) {
        let bits = group.iter().fold(0_u32, |bits, &b| (bits << 8) | u32::from(b)) << (8 * (3 - group.len()));
        for (place, digit) in out.iter_mut().enumerate() {
            *digit = DIGITS[(bits >> (18 - 6 * place)) as usize & 63];
        }
    }
}

/// The bytes of a text of exactly as many digits as they take; what is left over of the last digit must be zero, so that
/// one value has one text.
fn decode<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    if text.len() != text_length(N) {
        return None;
    }
    let mut bytes = [0; N];
    for (group, out) in text.chunks(4).zip(bytes.chunks_mut(3)) {
        let mut bits = 0_u32;
        for place in 0..4 {
            bits = (bits << 6) | group.get(place).map_or(Some(0), |&digit| value_of(digit))?;
        }
        let [_, whole @ ..] = bits.to_be_bytes();
        let (used, left) = whole.split_at(out.len());
        if left.iter().any(|&b| b != 0) {
            return None;
        }
        out.copy_from_slice(used);
    }
    Some(bytes)
}

const fn value_of(digit: u8) -> Option<u32> {
    let value = match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'-' => 62,
        b'_' => 63,
        _ => return None,
    };
    Some(value as u32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OLD: &[u8] = b"the old secret, of which nobody else knows";
    const NEW: &[u8] = b"the new secret, of which nobody else knows";

    fn keys(secrets: &[&'static [u8]]) -> Keys {
        Keys::derive(secrets.iter().copied(), "plimsoll_api", "api")
    }

    const BINDING: Binding = Binding { made: 1_800_000_000, seen: 1_800_000_100, away: true, split: false };

    fn sealed() -> [u8; LENGTH] {
        let keys = keys(&[OLD]);
        keys.seal(keys.tag(0, "api", "10.0.0.1:80"), &BINDING).expect("there is a key")
    }

    #[test]
    fn a_value_of_ours_says_what_it_was_made_of() {
        let opened = keys(&[OLD]).open(&sealed()).expect("it is ours");
        assert_eq!((opened.key, opened.binding), (0, BINDING));
        assert_eq!(opened.tag, keys(&[OLD]).tag(0, "api", "10.0.0.1:80"));
        assert!(String::from_utf8_lossy(&sealed()).starts_with("v1."));
    }

    #[test]
    fn the_first_key_signs_and_all_verify() {
        let rotated = keys(&[NEW, OLD]);
        let opened = rotated.open(&sealed()).expect("the old key is still there");
        assert_eq!(opened.key, 1);
        assert_eq!(opened.tag, rotated.tag(1, "api", "10.0.0.1:80"), "whose names are its own");
        assert_ne!(opened.tag, rotated.tag(0, "api", "10.0.0.1:80"));
        let fresh = rotated.seal(rotated.tag(0, "api", "10.0.0.1:80"), &BINDING).expect("there is a key");
        assert!(keys(&[OLD]).open(&fresh).is_none());
        assert!(keys(&[NEW]).open(&fresh).is_some() && keys(&[NEW]).open(&sealed()).is_none());
    }

    #[test]
    fn nothing_of_one_pool_or_cookie_counts_for_another() {
        for (cookie, pool) in [("plimsoll_api", "web"), ("plimsoll_web", "api"), ("plimsoll_ap", "iapi")] {
            assert!(Keys::derive([OLD], cookie, pool).open(&sealed()).is_none(), "{cookie} {pool}");
        }
        let keys = keys(&[OLD]);
        assert_ne!(keys.tag(0, "a", "bc"), keys.tag(0, "ab", "c"));
    }

    #[test]
    fn no_bit_of_a_value_can_be_changed_and_none_be_missing_or_added() {
        let (keys, value) = (keys(&[OLD]), sealed());
        for at in 0..value.len() {
            for bit in 0..8 {
                let mut forged = value;
                forged[at] ^= 1 << bit;
                assert!(keys.open(&forged).is_none(), "bit {bit} of byte {at}");
            }
            assert!(keys.open(&value[..at]).is_none(), "{at} bytes");
        }
        assert!(keys.open(&[&value[..], b"A"].concat()).is_none());
        assert!(keys.open(&[b'A'; 10_000]).is_none() && keys.open(b"").is_none());
    }

    #[test]
    fn without_a_key_nobody_is_bound() {
        let none = keys(&[]);
        assert!(none.is_empty() && none.seal(1, &BINDING).is_none() && none.open(&sealed()).is_none());
    }

    proptest! {
        #[test]
        fn whatever_is_sealed_is_opened(
            tag: u64, made: u32, seen: u32, away: bool, split: bool, secret in proptest::collection::vec(any::<u8>(), 32..64),
        ) {
            let keys = Keys::derive([secret.as_slice()], "c", "p");
            let binding = Binding { made, seen, away, split };
            let value = keys.seal(tag, &binding).expect("there is a key");
            prop_assert_eq!(keys.open(&value), Some(Opened { key: 0, tag, binding }));
        }

        #[test]
        fn whatever_is_no_value_of_ours_is_nothing(value in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(keys(&[OLD]).open(&value), None);
        }

        #[test]
        fn digits_are_one_to_one(bytes: [u8; PAYLOAD]) {
            let mut text = [0; PAYLOAD_TEXT];
            encode(&bytes, &mut text);
            prop_assert_eq!(decode(&text), Some(bytes));
        }
    }
}
