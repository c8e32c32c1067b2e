//! Headers from bytes. Strict where the specification lets a receiver choose: a sender is configured, not guessed, so that what
//! is not exactly a header is none.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::{
    AUTHORITY_MAX, Addresses, FIXED, Facts, Header, LINE_MAX, SIGNATURE, TlsFacts, Transport, UNIQUE_ID_MAX,
    crc32c, kind,
};

/// How far a header has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// It is whole.
    Whole {
        /// What it says.
        header: Header,
        /// Its bytes; what follows is the client's.
        bytes: usize,
    },
    /// What is there is the beginning of one.
    Partial,
}

/// Why bytes are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// They begin like neither version.
    #[error("no PROXY header")]
    Absent,
    /// A line of version 1 without its end within 107 bytes, or with more or fewer words than it has.
    #[error("a PROXY line that is none")]
    Line,
    /// Something that is no address, or not of the family that the header names.
    #[error("a PROXY header with a bad address")]
    Address,
    /// Neither version 2, nor a command or a family that it knows.
    #[error("a PROXY header of an unknown version, command or family")]
    Unknown,
    /// Longer than the limit.
    #[error("a PROXY header over its limit")]
    TooLong,
    /// An extension that ends beyond the header, or is not as long as its type must be.
    #[error("a PROXY header with a broken extension")]
    Extension,
    /// The checksum is another one.
    #[error("a PROXY header with a wrong checksum")]
    Checksum,
}

/// Reads the header at the front of `bytes`, of at most `max` bytes, that came over `transport`.
///
/// # Errors
/// [`Malformed`] as soon as what is there cannot become one.
pub fn read(bytes: &[u8], max: usize, transport: Transport) -> Result<Progress, Malformed> {
    const LINE: &[u8] = b"PROXY ";
    let begins_as = |start: &[u8]| {
        let common = start.len().min(bytes.len());
        start[..common] == bytes[..common]
    };
    if begins_as(&SIGNATURE) {
        return read_v2(bytes, max, transport);
    }
    if begins_as(LINE) {
        return read_v1(bytes, max, transport);
    }
    Err(Malformed::Absent)
}

/// Version 1, section 2.1: one line of text.
fn read_v1(bytes: &[u8], max: usize, transport: Transport) -> Result<Progress, Malformed> {
    let most = LINE_MAX.min(max);
    let start = bytes.get(..most).unwrap_or(bytes);
    let Some(end) = start.iter().position(|&byte| matches!(byte, b'\r' | b'\n')) else {
        return match bytes.len() < most {
            true => Ok(Progress::Partial),
            false if max < LINE_MAX => Err(Malformed::TooLong),
            false => Err(Malformed::Line),
        };
    };
    match start.get(end..end + 2) {
        Some(b"\r\n") => {}
        None if start[end] == b'\r' && bytes.len() < most => return Ok(Progress::Partial),
        _ => return Err(Malformed::Line),
    }
    let line = std::str::from_utf8(&start[..end]).map_err(|_| Malformed::Line)?;
    let addresses = read_line(line)?.filter(|_| transport == Transport::Stream);
    Ok(Progress::Whole { header: Header { addresses, facts: Facts::default() }, bytes: end + 2 })
}

fn read_line(line: &str) -> Result<Option<Addresses>, Malformed> {
    let mut words = line.split(' ').skip(1);
    let family = words.next();
    if family == Some("UNKNOWN") {
        // The rest of the line is to be ignored, whatever it is.
        return Ok(None);
    }
    let fields = [words.next(), words.next(), words.next(), words.next()];
    let ([Some(source), Some(destination), Some(source_port), Some(destination_port)], None) =
        (fields, words.next())
    else {
        return Err(Malformed::Line);
    };
    let (source, destination) = match family {
        Some("TCP4") => (ip::<Ipv4Addr>(source)?, ip::<Ipv4Addr>(destination)?),
        Some("TCP6") => (ip::<Ipv6Addr>(source)?, ip::<Ipv6Addr>(destination)?),
        _ => return Err(Malformed::Line),
    };
    Ok(Some(Addresses {
        source: SocketAddr::new(source, port(source_port)?),
        destination: SocketAddr::new(destination, port(destination_port)?),
    }))
}

fn ip<A: FromStr + Into<IpAddr>>(text: &str) -> Result<IpAddr, Malformed> {
    text.parse::<A>().map(Into::into).map_err(|_| Malformed::Address)
}

/// Digits without a sign or a leading zero.
fn port(text: &str) -> Result<u16, Malformed> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain).ok_or(Malformed::Address)
}

/// Version 2, section 2.2: binary.
fn read_v2(bytes: &[u8], max: usize, transport: Transport) -> Result<Progress, Malformed> {
    const PROXY: u8 = 0x21;
    const LOCAL: u8 = 0x20;
    let Some(&command) = bytes.get(12) else { return Ok(Progress::Partial) };
    if !matches!(command, PROXY | LOCAL) {
        return Err(Malformed::Unknown);
    }
    let Some(&[family, high, low]) = bytes.get(13..FIXED) else { return Ok(Progress::Partial) };
    let whole = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if whole > max {
        return Err(Malformed::TooLong);
    }
    let Some(whole) = bytes.get(..whole) else { return Ok(Progress::Partial) };
    let header = if command == LOCAL { Header::default() } else { read_block(whole, family, transport)? };
    Ok(Progress::Whole { header, bytes: whole.len() })
}

/// Addresses and extensions of a whole header.
fn read_block(whole: &[u8], family: u8, transport: Transport) -> Result<Header, Malformed> {
    let block = &whole[FIXED..];
    let told = match family & 0x0f {
        0x1 => Transport::Stream,
        0x2 => Transport::Datagram,
        // A receiver may skip all of it, so that what is no extension is no fault either.
        _ if family == 0x00 => {
            return Ok(Header { addresses: None, facts: read_extensions(whole, block).unwrap_or_default() });
        }
        _ => return Err(Malformed::Unknown),
    };
    let size = match family >> 4 {
        0x1 => 12,
        0x2 => 36,
        // Two paths of Unix sockets: nothing that a rule or a log line has a use for.
        0x3 => 216,
        _ => return Err(Malformed::Unknown),
    };
    let (addresses, extensions) = block.split_at_checked(size).ok_or(Malformed::Address)?;
    let addresses = match size {
        12 => two::<4>(addresses),
        36 => two::<16>(addresses),
        _ => None,
    };
    let facts = read_extensions(whole, extensions)?;
    Ok(Header { addresses: addresses.filter(|_| told == transport), facts })
}

/// Source and destination, of `N` bytes each, then their ports.
fn two<const N: usize>(block: &[u8]) -> Option<Addresses>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = block.split_first_chunk::<N>()?;
    let (destination, ports) = rest.split_first_chunk::<N>()?;
    let &[a, b, c, d] = ports else { return None };
    Some(Addresses {
        source: SocketAddr::new(IpAddr::from(*source), u16::from_be_bytes([a, b])),
        destination: SocketAddr::new(IpAddr::from(*destination), u16::from_be_bytes([c, d])),
    })
}

fn read_extensions(whole: &[u8], extensions: &[u8]) -> Result<Facts, Malformed> {
    let mut facts = Facts::default();
    let mut checked = false;
    for extension in Extensions(extensions) {
        let (kind, value) = extension?;
        match kind {
            kind::ALPN => first(&mut facts.alpn, value),
            kind::AUTHORITY if value.len() > AUTHORITY_MAX => return Err(Malformed::Extension),
            kind::AUTHORITY => first(&mut facts.authority, value),
            kind::UNIQUE_ID if value.len() > UNIQUE_ID_MAX => return Err(Malformed::Extension),
            kind::UNIQUE_ID => first(&mut facts.unique_id, value),
            kind::SSL if facts.tls.is_none() => facts.tls = Some(read_tls(value)?),
            kind::CRC32C => {
                // A second one would have been summed up with the first.
                if std::mem::replace(&mut checked, true) {
                    return Err(Malformed::Extension);
                }
                verify(whole, value)?;
            }
            _ => {}
        }
    }
    Ok(facts)
}

/// What is said twice holds as it was said first.
fn first(kept: &mut Box<[u8]>, value: &[u8]) {
    if kept.is_empty() {
        *kept = value.into();
    }
}

/// Compares the checksum, which is of the whole header with zeros in its own place (section 2.2.3).
fn verify(whole: &[u8], value: &[u8]) -> Result<(), Malformed> {
    let Ok(told) = <[u8; 4]>::try_from(value) else { return Err(Malformed::Extension) };
    let at = value.as_ptr().addr() - whole.as_ptr().addr();
    let blanked = whole.iter().enumerate().map(
        |(index, &byte)| {
            if (at..at + told.len()).contains(&index) { 0 } else { byte }
        },
    );
    if crc32c::checksum(blanked) == u32::from_be_bytes(told) { Ok(()) } else { Err(Malformed::Checksum) }
}

fn read_tls(value: &[u8]) -> Result<TlsFacts, Malformed> {
    let Some((&[client, ref verify @ ..], parts)) = value.split_first_chunk::<5>() else {
        return Err(Malformed::Extension);
    };
    let mut facts = TlsFacts {
        secure: client & 0x01 != 0,
        certificate: client & 0x02 != 0,
        certificate_in_session: client & 0x04 != 0,
        verified: client & 0x06 != 0 && verify.iter().all(|&byte| byte == 0),
        ..TlsFacts::default()
    };
    for part in Extensions(parts) {
        match part? {
            (kind::SSL_VERSION, value) => first(&mut facts.version, value),
            (kind::SSL_COMMON_NAME, value) => first(&mut facts.common_name, value),
            (kind::SSL_CIPHER, value) => first(&mut facts.cipher, value),
            _ => {}
        }
    }
    Ok(facts)
}

/// Type and value of each extension; the last is an error where they do not end with the bytes.
struct Extensions<'a>(&'a [u8]);

impl<'a> Iterator for Extensions<'a> {
    type Item = Result<(u8, &'a [u8]), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.0);
        let Some((&[kind, high, low], rest)) = bytes.split_first_chunk::<3>() else {
            return Some(Err(Malformed::Extension));
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let Some((value, rest)) = rest.split_at_checked(length) else {
            return Some(Err(Malformed::Extension));
        };
        self.0 = rest;
        Some(Ok((kind, value)))
    }
}
