//! Headers as bytes: of the line of version 1, and of version 2 with what is known of the client's TLS.

use std::io::Write as _;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::model::proxy_protocol::Version;

use super::{AUTHORITY_MAX, Addresses, Facts, SIGNATURE, TlsFacts, Transport, UNIQUE_ID_MAX, kind};

/// The header of a client's connection; without addresses that of one over a unix socket, of which the line of version 1
/// can say nothing else, while version 2 still has the facts.
#[must_use]
pub fn of_client(version: Version, addresses: Option<Addresses>, facts: &Facts) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    match (version, addresses) {
        (Version::V1, Some(addresses)) => v1(addresses, &mut out),
        (Version::V1, None) => out.extend_from_slice(of_ourselves(version)),
        (Version::V2, _) => v2(addresses, facts, Transport::Stream, &mut out),
    }
    out
}

/// The header of a connection of our own, as a probe's: the endpoint is to take the connection as it is.
#[must_use]
pub const fn of_ourselves(version: Version) -> &'static [u8] {
    match version {
        Version::V1 => b"PROXY UNKNOWN\r\n",
        Version::V2 => b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
    }
}

/// Appends the line of version 1.
pub fn v1(addresses: Addresses, out: &mut Vec<u8>) {
    let (source, destination) = of_one_family(addresses);
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.port(), destination.port());
    // Writing to a vector cannot fail.
    let _infallible = write!(out, "PROXY {family} {} {} {from} {to}\r\n", source.ip(), destination.ip());
}

/// Appends the header of version 2. What is empty, or longer than the specification lets it be, is left out.
pub fn v2(addresses: Option<Addresses>, facts: &Facts, transport: Transport, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&SIGNATURE);
    let addresses = addresses.map(of_one_family);
    let family = addresses.map_or(0, |(source, _)| if source.is_ipv4() { 0x10 } else { 0x20 });
    let protocol = match (addresses, transport) {
        // AF_UNSPEC: forwarded, from nowhere that could be told (section 2.2).
        (None, _) => 0,
        (Some(_), Transport::Stream) => 1,
        (Some(_), Transport::Datagram) => 2,
    };
    out.extend_from_slice(&[0x21, family | protocol]);
    nested(out, |out| {
        if let Some((source, destination)) = addresses {
            for address in [source, destination] {
                match address.ip() {
                    IpAddr::V4(v4) => out.extend_from_slice(&v4.octets()),
                    IpAddr::V6(v6) => out.extend_from_slice(&v6.octets()),
                }
            }
            out.extend_from_slice(&source.port().to_be_bytes());
            out.extend_from_slice(&destination.port().to_be_bytes());
        }
        extension(kind::ALPN, &facts.alpn, usize::from(u8::MAX), out);
        extension(kind::AUTHORITY, &facts.authority, AUTHORITY_MAX, out);
        extension(kind::UNIQUE_ID, &facts.unique_id, UNIQUE_ID_MAX, out);
        if let Some(tls) = &facts.tls {
            out.push(kind::SSL);
            nested(out, |out| write_tls(tls, out));
        }
    });
    debug_assert!(out.len() - start <= 2048, "every part has a bound");
}

fn write_tls(facts: &TlsFacts, out: &mut Vec<u8>) {
    let client = u8::from(facts.secure)
        | u8::from(facts.certificate) << 1
        | u8::from(facts.certificate_in_session) << 2;
    out.push(client);
    // Zero says that there was a certificate and that it was verified (section 2.2.6).
    out.extend_from_slice(&u32::from(!facts.verified).to_be_bytes());
    extension(kind::SSL_VERSION, &facts.version, TEXT_MAX, out);
    extension(kind::SSL_COMMON_NAME, &facts.common_name, TEXT_MAX, out);
    extension(kind::SSL_CIPHER, &facts.cipher, TEXT_MAX, out);
}

/// Longest text within what is said of TLS: a common name has at most 64 characters (RFC 5280 appendix A).
const TEXT_MAX: usize = 256;

fn extension(kind: u8, value: &[u8], max: usize, out: &mut Vec<u8>) {
    if !value.is_empty() && value.len() <= max {
        out.push(kind);
        nested(out, |out| out.extend_from_slice(value));
    }
}

/// Writes two bytes of length, then what they are the length of.
fn nested(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0, 0]);
    write(out);
    // Each part is bounded above, and so is the whole, far below 64 KiB.
    let length = u16::try_from(out.len() - at - 2).unwrap_or(u16::MAX);
    out[at..at + 2].copy_from_slice(&length.to_be_bytes());
}

/// Both ends in one family: as they are, or else both of IPv6, the IPv4 one as an IPv4-mapped address.
fn of_one_family(addresses: Addresses) -> (SocketAddr, SocketAddr) {
    let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let (source, destination) = (canonical(addresses.source), canonical(addresses.destination));
    if source.is_ipv4() == destination.is_ipv4() {
        return (source, destination);
    }
    let mapped = |address: SocketAddr| match address.ip() {
        IpAddr::V4(v4) => SocketAddr::new(IpAddr::V6(v4.to_ipv6_mapped()), address.port()),
        IpAddr::V6(v6) => SocketAddr::new(IpAddr::V6(Ipv6Addr::from(v6.octets())), address.port()),
    };
    (mapped(source), mapped(destination))
}
