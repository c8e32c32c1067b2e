//! The PROXY protocol, versions 1 and 2 (HAProxy's `proxy-protocol.txt`): what a header says, and where its parts lie. Pure:
//! [`read`] takes headers from bytes, [`mod@write`] makes them; taking them off a connection is `greeting`'s.

mod crc32c;
pub mod read;
pub mod write;

use std::net::SocketAddr;

/// The first twelve bytes of version 2.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes of version 2 before the addresses.
const FIXED: usize = 16;

/// Longest header of version 1 with its line end (section 2.1).
const LINE_MAX: usize = 107;

/// Longest unique id (section 2.2.5).
const UNIQUE_ID_MAX: usize = 128;

/// Longest authority: a host name has no more (section 2.2.2, RFC 1035 section 2.3.4).
const AUTHORITY_MAX: usize = 255;

/// Types of extensions (section 2.2).
mod kind {
    pub(super) const ALPN: u8 = 0x01;
    pub(super) const AUTHORITY: u8 = 0x02;
    pub(super) const CRC32C: u8 = 0x03;
    pub(super) const UNIQUE_ID: u8 = 0x05;
    pub(super) const SSL: u8 = 0x20;
    pub(super) const SSL_VERSION: u8 = 0x21;
    pub(super) const SSL_COMMON_NAME: u8 = 0x22;
    pub(super) const SSL_CIPHER: u8 = 0x23;
}

/// What addresses are of: only those of the kind that carries the header mean something to its receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Connections.
    Stream,
    /// Datagrams, each with a header of its own.
    Datagram,
}

/// Both ends of the connection that a header is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Addresses {
    /// The client.
    pub source: SocketAddr,
    /// Where it connected to.
    pub destination: SocketAddr,
}

/// What a header says beside addresses; what it does not have is empty or absent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// The application protocol that was agreed on, as TLS names it.
    pub alpn: Box<[u8]>,
    /// The name that the client asked for: the SNI.
    pub authority: Box<[u8]>,
    /// What the sender calls the connection.
    pub unique_id: Box<[u8]>,
    /// How the client's connection was secured.
    pub tls: Option<TlsFacts>,
}

/// How a client's connection to the sender was secured (section 2.2.6).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsFacts {
    /// The version's name, as `TLSv1.3`; empty when the client did not use TLS.
    pub version: Box<[u8]>,
    /// The cipher suite's name.
    pub cipher: Box<[u8]>,
    /// The common name of the client's certificate.
    pub common_name: Box<[u8]>,
    /// Whether the client used TLS.
    pub secure: bool,
    /// Whether it showed a certificate on this connection.
    pub certificate: bool,
    /// Whether it did so at least once in its TLS session.
    pub certificate_in_session: bool,
    /// Whether that certificate was verified.
    pub verified: bool,
}

/// What a header says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Header {
    /// The client's connection. Nothing where the sender speaks for itself (LOCAL, as in its probes), knows none (UNKNOWN)
    /// or tells of another kind of address: then the connection that carries the header counts.
    pub addresses: Option<Addresses>,
    /// Everything else.
    pub facts: Facts,
}

#[cfg(test)]
mod tests;
