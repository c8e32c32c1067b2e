//! MD5-crypt as Apache's `htpasswd -m` writes it (`$apr1$`): a thousand rounds of MD5 over password and salt. Kept for the
//! files that are there; new ones have better.

use md5::{Digest as _, Md5};
use subtle::ConstantTimeEq as _;

const MAGIC: &str = "$apr1$";

const ROUNDS: usize = 1000;

/// The digits of its base64, which is none of RFC 4648.
const DIGITS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A hash.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Apr1 {
    salt: Box<[u8]>,
    digest: [u8; 22],
}

impl Apr1 {
    /// Reads `$apr1$SALT$DIGEST`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (salt, digest) = text.strip_prefix(MAGIC)?.split_once('$')?;
        let is_valid = salt.len() <= 8 && digest.bytes().all(|b| DIGITS.contains(&b));
        let digest = digest.as_bytes().try_into().ok().filter(|_| is_valid)?;
        Some(Self { salt: salt.as_bytes().into(), digest })
    }

    /// Whether it is the hash of a password.
    pub(super) fn fits(&self, password: &[u8]) -> bool {
        encode(&self.hash(password)).ct_eq(&self.digest).into()
    }

    fn hash(&self, password: &[u8]) -> [u8; 16] {
        let salt = &*self.salt;
        let digest = |parts: &[&[u8]]| -> [u8; 16] {
            let mut md5 = Md5::new();
            parts.iter().for_each(|part| md5.update(part));
            md5.finalize().into()
        };
        let inner = digest(&[password, salt, password]);
        let mut md5 = Md5::new();
        md5.update(password);
        md5.update(MAGIC);
        md5.update(salt);
        for piece in password.chunks(inner.len()) {
            md5.update(&inner[..piece.len()]);
        }
        let mut bits = password.len();
        while bits > 0 {
            // That the first byte of the password stands for all of it was a slip once, and is the format since.
            md5.update(if bits & 1 == 1 { &[0] } else { &password[..1] });
            bits >>= 1;
        }
        let mut hash: [u8; 16] = md5.finalize().into();
        for round in 0..ROUNDS {
            let odd = round % 2 == 1;
            let none: &[u8] = &[];
            let parts = [
                if odd { password } else { &hash },
                if round % 3 == 0 { none } else { salt },
                if round % 7 == 0 { none } else { password },
                if odd { &hash } else { password },
            ];
            hash = digest(&parts);
        }
        hash
    }
}

/// The digest as it is written, its bytes in an order of their own.
fn encode(hash: &[u8; 16]) -> [u8; 22] {
    const ORDER: [[usize; 3]; 5] = [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]];
    let mut text = [0; 22];
    for (group, out) in ORDER.iter().zip(text.chunks_mut(4)) {
        let bits = group.iter().fold(0_usize, |bits, &at| (bits << 8) | usize::from(hash[at]));
        for (digit, out) in out.iter_mut().enumerate() {
            *out = DIGITS[(bits >> (6 * digit)) & 63];
        }
    }
    let last = usize::from(hash[11]);
    (text[20], text[21]) = (DIGITS[last & 63], DIGITS[last >> 6]);
    text
}
