//! PostgreSQL's start-up (protocol 3.0), up to the server's request for authentication, as HAProxy's pgsql-check does.
//!
//! A server that starts, recovers or has no connection left answers with an ErrorResponse in that place. No password is
//! sent, and the server logs no incomplete start-up.

use super::Asked;
use super::outcome::{Reading, shown};
use super::wire::{Close, Notes, Parting, connect};
use crate::control::tls::TlsClient;
use crate::model::address::Address;

/// Bytes of an answer; an ErrorResponse is a few hundred.
pub const ANSWER_MAX: usize = 8 * 1024;

/// SSLRequest: its length, then the number in the place of a version.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Terminate.
const TERMINATE: [u8; 5] = [b'X', 0, 0, 0, 4];

pub(super) async fn ask(
    user: &str,
    tls: Option<&TlsClient>,
    address: Address,
    notes: &Notes,
) -> Asked<(Reading, Option<Parting>)> {
    let mut wire = connect(address, Close::Polite, notes).await?;
    if let Some(tls) = tls {
        wire.send(&SSL_REQUEST).await?;
        // One byte and no more: whatever followed it in the clear must not be taken for part of the encrypted answer.
        let mut answer = Vec::new();
        wire.more(&mut answer, 1).await?;
        match answer.first() {
            Some(b'S') => {}
            Some(b'N') => return Err(Reading::broken("the server does not offer TLS")),
            Some(b'E') => return Err(Reading::no("an error in answer to the request for TLS")),
            _ => return Err(Reading::broken("no answer to the request for TLS")),
        }
        wire = wire.over_tls(tls, &[]).await?;
    }
    wire.send(&startup(user)).await?;
    let (reading, trusted) = wire.answer(ANSWER_MAX, read).await?;
    // During authentication a close is what the server expects; once it trusts us, it expects a Terminate.
    let farewell = if trusted { TERMINATE.to_vec() } else { Vec::new() };
    Ok((reading, Some(Parting::Words { wire, farewell })))
}

/// The start-up message: length, version 3.0, `user`.
#[must_use]
pub fn startup(user: &str) -> Vec<u8> {
    let mut message = (user.len() as u32 + 15).to_be_bytes().to_vec();
    message.extend_from_slice(&[0, 3, 0, 0]);
    message.extend_from_slice(b"user\0");
    message.extend_from_slice(user.as_bytes());
    message.extend_from_slice(&[0, 0]);
    message
}

/// What an answer means, and whether the server already trusts us; nothing while it is incomplete.
#[must_use]
pub fn read(bytes: &[u8]) -> Option<(Reading, bool)> {
    let (&kind, rest) = bytes.split_first()?;
    if kind != b'R' && kind != b'E' {
        return Some((Reading::broken("an answer that is not PostgreSQL's"), false));
    }
    let (length, body) = rest.split_first_chunk()?;
    let length = u32::from_be_bytes(*length) as usize;
    // The length counts itself. What is longer than this is none of ours (before 7.4, errors had no length at all).
    let Some(length) = length.checked_sub(4).filter(|length| *length < ANSWER_MAX - 5) else {
        return Some((Reading::broken("an answer of an impossible length"), false));
    };
    if kind == b'E' {
        return body.get(..length).map(|fields| (error(fields), false));
    }
    let (method, _) = body.split_first_chunk()?;
    Some(match u32::from_be_bytes(*method) {
        0 if length == 4 => (Reading::good("the server trusts us"), true),
        // Kerberos 5, password in the clear, crypt, md5, SCM, GSS, SSPI, SASL.
        2..=7 | 9 | 10 if length < 252 => (Reading::good("the server asks for authentication"), false),
        other => (Reading::broken(format!("an unknown request for authentication ({other})")), false),
    })
}

/// An ErrorResponse: fields of a type byte and text that ends in a zero.
fn error(fields: &[u8]) -> Reading {
    let field = |wanted: u8| {
        let mut all = fields.split(|byte| *byte == 0);
        all.find_map(|field| field.split_first().filter(|(kind, _)| **kind == wanted).map(|(_, text)| text))
    };
    let code = field(b'C').unwrap_or_default();
    let text = field(b'M').unwrap_or_default();
    Reading::no(format!("error {}: {}", shown(code), shown(text)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::health::Verdict;

    fn verdict(bytes: &[u8]) -> Option<Verdict> {
        read(bytes).map(|(reading, _)| reading.verdict)
    }

    #[test]
    fn the_startup_message_is_the_bytes_of_the_protocol() {
        assert_eq!(startup("ha"), *b"\0\0\0\x11\0\x03\0\0user\0ha\0\0");
    }

    #[test]
    fn every_request_for_authentication_is_good() {
        for method in [0u8, 2, 3, 4, 5, 6, 7, 9] {
            assert_eq!(verdict(&[b'R', 0, 0, 0, 8, 0, 0, 0, method]), Some(Verdict::Good), "{method}");
        }
        assert_eq!(verdict(b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0"), Some(Verdict::Good));
        assert_eq!(verdict(&[b'R', 0, 0, 0, 8, 0, 0, 0, 8]), Some(Verdict::CannotBeAsked));
        assert_eq!(read(b"R\0\0\0\x08\0\0\0\0").map(|(_, trusted)| trusted), Some(true));
    }

    #[test]
    fn an_error_is_a_no_with_its_code_and_text() {
        let message = b"E\0\0\0\x37SFATAL\0VFATAL\0C57P03\0Mthe database is starting up\0\0";
        let reading = read(message).map(|(reading, _)| reading).expect("complete");
        assert_eq!(reading.verdict, Verdict::SaysNo);
        assert_eq!(reading.what, "error 57P03: the database is starting up");
        assert_eq!(verdict(message.get(..30).expect("a part")), None);
    }

    #[test]
    fn what_is_not_the_protocol_is_no_answer() {
        assert_eq!(verdict(b""), None);
        assert_eq!(verdict(b"HTTP/1.1 400"), Some(Verdict::CannotBeAsked));
        assert_eq!(verdict(b"E\0\0\0\0"), Some(Verdict::CannotBeAsked));
        assert_eq!(verdict(b"R\xff\xff\xff\xff"), Some(Verdict::CannotBeAsked));
        assert_eq!(verdict(b"EFATAL: text of an old server"), Some(Verdict::CannotBeAsked));
    }
}
