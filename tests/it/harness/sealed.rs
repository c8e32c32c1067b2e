//! A client of TLS 1.2 that seals its records itself (RFC 5246 section 6.2.3.3, RFC 5288), to send what no library would.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::ConnectionTrafficSecrets;
use rustls::version::TLS12;

use super::tls::Authority;

/// Record types.
pub(crate) const ALERT: u8 = 21;
pub(crate) const HANDSHAKE: u8 = 22;
pub(crate) const DATA: u8 = 23;

/// A connection whose handshake a library has made, and whose records are written by hand from then on.
pub(crate) struct Sealed {
    stream: TcpStream,
    key: LessSafeKey,
    salt: [u8; 4],
    sent: u64,
}

impl Sealed {
    /// Connects and shakes hands, asking for a name.
    pub(crate) fn connect(authority: &Authority, to: SocketAddr, name: &str) -> Self {
        let mut client = authority.trusting().versions(&[&TLS12]).build();
        client.0.enable_secret_extraction = true;
        let talk = client.connect(to, name).expect("a connection");
        let (sent, secrets) = talk.conn.dangerous_extract_secrets().expect("secrets").tx;
        let ConnectionTrafficSecrets::Aes128Gcm { key, iv } = secrets else {
            panic!("the proxy takes AES-128 where it can");
        };
        let key = UnboundKey::new(&AES_128_GCM, key.as_ref()).expect("a key");
        let salt = *iv.as_ref().first_chunk().expect("a salt");
        Self { stream: talk.sock, key: LessSafeKey::new(key), salt, sent }
    }

    /// Sends one record.
    pub(crate) fn send(&mut self, kind: u8, content: &[u8]) -> io::Result<()> {
        let explicit = self.sent.to_be_bytes();
        let length = |bytes: usize| u16::try_from(bytes).expect("short").to_be_bytes();
        let nonce = [&self.salt[..], &explicit].concat();
        let nonce = Nonce::try_assume_unique_for_key(&nonce).expect("12 bytes");
        let known = [&explicit[..], &[kind, 3, 3], &length(content.len())].concat();
        let mut sealed = content.to_vec();
        self.key.seal_in_place_append_tag(nonce, Aad::from(known), &mut sealed).expect("sealed");
        self.sent += 1;
        let record = [&[kind, 3, 3], &length(explicit.len() + sealed.len())[..], &explicit, &sealed].concat();
        self.stream.write_all(&record)
    }

    /// The type of the next record; nothing where the connection has ended instead.
    pub(crate) fn next(&mut self) -> Option<u8> {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head).ok()?;
        let mut rest = vec![0; u16::from_be_bytes([head[3], head[4]]).into()];
        self.stream.read_exact(&mut rest).ok()?;
        Some(head[0])
    }
}
