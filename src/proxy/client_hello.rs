//! The name in the first message of a TLS client, read without taking part in the handshake (RFC 8446 sections 4.1.2 and 5.1, RFC
//! 6066 section 3). Pure; looking at the bytes without taking them is `greeting`'s.
//!
//! With Encrypted Client Hello (RFC 9849) this is the outer name, which is all that can be known here. GREASE values (RFC 8701) are
//! like any other that has no meaning here.

use std::borrow::Cow;

use crate::model::host::HostPattern;

/// Record type of handshake messages.
const HANDSHAKE: u8 = 22;

/// Longest plaintext of a record (RFC 8446 section 5.1).
const RECORD_MAX: usize = 1 << 14;

/// Message type.
const CLIENT_HELLO: u8 = 1;

/// Longest host name (RFC 1035 section 2.3.4).
const NAME_MAX: usize = 253;

/// How far the message has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// It is whole: the name that the client asks for, in lower case. Nothing when it names none, or what is no host name
    /// (an address above all, which RFC 6066 forbids).
    Whole(Option<Box<str>>),
    /// What is there is the beginning of one.
    Partial,
}

/// Why bytes are no ClientHello.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// They begin like no record of a handshake: another protocol, or SSL 2.
    #[error("no TLS")]
    NotTls,
    /// They begin like one and break its rules.
    #[error("a malformed ClientHello")]
    Malformed,
    /// It is longer than the limit.
    #[error("a ClientHello over its limit")]
    TooLong,
}

/// Reads the ClientHello at the front of `bytes`, which are all that has arrived, or the first `max` of it. Into how many records
/// and segments it is cut makes no difference.
///
/// # Errors
/// [`Unreadable`] as soon as what is there cannot become one within `max` bytes.
pub fn read(bytes: &[u8], max: usize) -> Result<Progress, Unreadable> {
    let partial = || if bytes.len() < max { Ok(Progress::Partial) } else { Err(Unreadable::TooLong) };
    let Some(message) = gather(bytes, max)? else { return partial() };
    let Some((&[kind, high, middle, low], body)) = message.split_first_chunk::<4>() else { return partial() };
    if kind != CLIENT_HELLO {
        return Err(Unreadable::Malformed);
    }
    let length = usize::try_from(u32::from_be_bytes([0, high, middle, low])).unwrap_or(usize::MAX);
    if length > max {
        return Err(Unreadable::TooLong);
    }
    match body.get(..length) {
        Some(body) => read_body(body).map(Progress::Whole).ok_or(Unreadable::Malformed),
        None => partial(),
    }
}

/// The handshake bytes of all records that have begun, in one piece; nothing before the first of them.
fn gather(bytes: &[u8], max: usize) -> Result<Option<Cow<'_, [u8]>>, Unreadable> {
    let mut rest = bytes;
    let mut gathered: Option<Cow<'_, [u8]>> = None;
    loop {
        let foreign = if gathered.is_none() { Unreadable::NotTls } else { Unreadable::Malformed };
        // The minor version says nothing: every client writes another one.
        if rest.first().is_some_and(|&kind| kind != HANDSHAKE) || rest.get(1).is_some_and(|&major| major != 3)
        {
            return Err(foreign);
        }
        let Some((&[_, _, _, high, low], data)) = rest.split_first_chunk::<5>() else { return Ok(gathered) };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if !(1..=RECORD_MAX).contains(&length) {
            return Err(Unreadable::Malformed);
        }
        let (part, next) = data.split_at(length.min(data.len()));
        match &mut gathered {
            None => gathered = Some(Cow::Borrowed(part)),
            Some(gathered) => gathered.to_mut().extend_from_slice(part),
        }
        let settled = |message: &[u8]| match message.split_first_chunk::<4>() {
            Some((&[kind, high, middle, low], body)) => {
                let length = u32::from_be_bytes([0, high, middle, low]) as usize;
                kind != CLIENT_HELLO || length > max || length <= body.len()
            }
            None => false,
        };
        // What comes after that is not looked at: it need not be of the handshake, and must not change what was said before.
        if part.len() < length || gathered.as_deref().is_some_and(settled) {
            return Ok(gathered);
        }
        rest = next;
    }
}

/// The name in a whole message without its header; nothing in the outer option when it breaks the rules.
fn read_body(body: &[u8]) -> Option<Option<Box<str>>> {
    let mut body = Reader(body);
    // legacy_version and random, then legacy_session_id, cipher_suites and legacy_compression_methods.
    body.take(2 + 32)?;
    let session = body.vector8()?;
    let suites = body.vector16()?;
    let compression = body.vector8()?;
    if session.len() > 32 || suites.is_empty() || suites.len() % 2 != 0 || compression.is_empty() {
        return None;
    }
    // TLS 1.2 lets them be absent altogether (RFC 5246 section 7.4.1.2).
    if body.0.is_empty() {
        return Some(None);
    }
    let mut extensions = Reader(body.vector16()?);
    if !body.0.is_empty() {
        return None;
    }
    let mut kinds = Vec::with_capacity(32);
    let mut name = None;
    while !extensions.0.is_empty() {
        const SERVER_NAME: u16 = 0;
        let kind = extensions.number16()?;
        let data = extensions.vector16()?;
        kinds.push(kind);
        if kind == SERVER_NAME {
            name = read_names(data)?;
        }
    }
    // Nobody who reads the same message after us may take another one of two.
    kinds.sort_unstable();
    if kinds.windows(2).any(|pair| pair[0] == pair[1]) {
        return None;
    }
    Some(name)
}

/// The host name in the data of the extension.
fn read_names(data: &[u8]) -> Option<Option<Box<str>>> {
    const HOST_NAME: u8 = 0;
    let mut data = Reader(data);
    let mut names = Reader(data.vector16()?);
    if !data.0.is_empty() || names.0.is_empty() {
        return None;
    }
    let mut host = None;
    while !names.0.is_empty() {
        let kind = names.take(1)?;
        let name = names.vector16()?;
        // No two of one type.
        if kind == [HOST_NAME] && host.replace(name).is_some() {
            return None;
        }
    }
    Some(host.and_then(host_name))
}

fn host_name(name: &[u8]) -> Option<Box<str>> {
    let text =
        std::str::from_utf8(name).ok().filter(|text| text.len() <= NAME_MAX && !text.ends_with('.'))?;
    let is_address = text.parse::<std::net::Ipv4Addr>().is_ok() || text.starts_with('[');
    match HostPattern::parse(text) {
        Ok(HostPattern::Exact(host)) if !is_address => Some(host),
        _ => None,
    }
}

/// What has not been read yet.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number16(&mut self) -> Option<u16> {
        let &[high, low] = self.take(2)? else { return None };
        Some(u16::from_be_bytes([high, low]))
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let &[length] = self.take(1)? else { return None };
        self.take(length.into())
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = self.number16()?;
        self.take(length.into())
    }
}

#[cfg(test)]
mod tests;
