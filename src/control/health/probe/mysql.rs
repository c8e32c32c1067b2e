//! MySQL's and MariaDB's handshake: the greeting, and a login without a password where a user is given, as HAProxy's
//! mysql-check does.

use super::Asked;
use super::outcome::{Reading, shown};
use super::wire::{Close, Notes, Parting, connect};
use crate::control::tls::TlsClient;
use crate::model::address::Address;

/// Bytes of one packet of an answer.
pub const PACKET_MAX: usize = 8 * 1024;

/// COM_QUIT, the first packet of a new exchange.
const QUIT: [u8; 5] = [1, 0, 0, 0, 1];

/// Capability of a server that knows authentication plugins (CLIENT_PLUGIN_AUTH).
const PLUGIN_AUTH: u32 = 0x0008_0000;

/// Capability of a server that can go on over TLS, and wish of a client that does (CLIENT_SSL).
const SSL: u32 = 0x0000_0800;

/// What every client here can and wants: protocol 4.1 (0x200) and its authentication (0x8000).
const CLIENT: u32 = 0x0000_8200;

/// The largest packet that we say to take, and the character set (utf8_general_ci), as HAProxy has them.
const PACKET_AND_CHARSET: [u8; 5] = [0x00, 0x80, 0x00, 0x01, 0x21];

/// First byte of an error packet.
const ERROR: u8 = 0xff;

/// First byte of a packet that asks for another way of authentication.
const SWITCH: u8 = 0xfe;

pub(super) async fn ask(
    user: Option<&str>,
    tls: Option<&TlsClient>,
    address: Address,
    notes: &Notes,
) -> Asked<(Reading, Option<Parting>)> {
    let mut wire = connect(address, Close::Polite, notes).await?;
    let greeting = wire.answer(PACKET_MAX, greeting).await??;
    if let Some(tls) = tls {
        if greeting.capabilities & SSL == 0 {
            return Err(Reading::broken("the server does not offer TLS"));
        }
        // Whatever followed the greeting in the clear is forgotten with it.
        wire.send(&ssl_request()).await?;
        wire = wire.over_tls(tls, &[]).await?;
    }
    let Some(user) = user else {
        return Ok((Reading::good("the server greets"), Some(Parting::Words { wire, farewell: Vec::new() })));
    };
    wire.send(&login(user, greeting.capabilities, tls.is_some())).await?;
    let (reading, next) = wire.answer(PACKET_MAX, read_login).await?;
    let farewell = match next {
        Next::Quit => QUIT.to_vec(),
        // An empty password in the new way, so that this is no aborted connection, of which servers allow only so many.
        Next::Switch(sequence) => [&[0, 0, 0, sequence][..], &QUIT].concat(),
        Next::Nothing => Vec::new(),
    };
    Ok((reading, Some(Parting::Words { wire, farewell })))
}

/// What a server says of itself first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Greeting {
    /// Its capability flags.
    pub capabilities: u32,
}

/// What the end of a login calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Logged in: COM_QUIT.
    Quit,
    /// The server asks for another way of authentication; with the number of the packet that answers.
    Switch(u8),
    /// The server has closed.
    Nothing,
}

/// One packet: its sequence number and its payload; nothing while it is incomplete, none inside when it is impossible.
fn packet(bytes: &[u8]) -> Option<Option<(u8, &[u8])>> {
    let (&[a, b, c, sequence], rest) = bytes.split_first_chunk()?;
    let length = u32::from_le_bytes([a, b, c, 0]) as usize;
    if length == 0 || length > PACKET_MAX - 4 {
        return Some(None);
    }
    rest.get(..length).map(|payload| Some((sequence, payload)))
}

/// The greeting (protocol 10, or the ancient 9), or what is in its place; nothing while it is incomplete.
///
/// # Errors
/// An error packet, such as `Host is blocked`, or what is not MySQL.
pub fn greeting(bytes: &[u8]) -> Option<Result<Greeting, Reading>> {
    let foreign = Err(Reading::broken("a greeting that is not MySQL's"));
    let Some((_, payload)) = packet(bytes)? else { return Some(foreign) };
    let Some((&version, rest)) = payload.split_first() else { return Some(foreign) };
    match version {
        ERROR => return Some(Err(error(payload))),
        9 => return Some(Ok(Greeting { capabilities: 0 })),
        10 => {}
        _ => return Some(foreign),
    }
    let Some(end) = rest.iter().position(|byte| *byte == 0) else { return Some(foreign) };
    // After the version text: thread 4, scramble 8, filler 1, capabilities 2, charset 1, status 2, capabilities 2.
    let at = |offset: usize| rest.get(end + 1 + offset).copied().unwrap_or_default();
    let capabilities = u32::from_le_bytes([at(13), at(14), at(18), at(19)]);
    Some(Ok(Greeting { capabilities }))
}

/// The SSLRequest: the front part of a login, on its own; the login follows it inside TLS.
#[must_use]
pub fn ssl_request() -> Vec<u8> {
    framed(1, &front(CLIENT | SSL))
}

/// What a login begins with: capabilities, largest packet, character set, and 23 zeros.
fn front(capabilities: u32) -> Vec<u8> {
    [&capabilities.to_le_bytes()[..], &PACKET_AND_CHARSET, &[0; 23]].concat()
}

fn framed(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let [a, b, c, _] = (payload.len() as u32).to_le_bytes();
    [&[a, b, c, sequence][..], payload].concat()
}

/// The login packet without a password (HAProxy's post-41 form, or post-80 where the server knows plugins), the one after
/// an SSLRequest where it goes over TLS.
#[must_use]
pub fn login(user: &str, capabilities: u32, over_tls: bool) -> Vec<u8> {
    const PLUGIN: &[u8] = b"mysql_native_password\0";
    let plugins = capabilities & PLUGIN_AUTH != 0;
    let wishes = [(PLUGIN_AUTH, plugins), (SSL, over_tls)].into_iter().filter(|(_, wanted)| *wanted);
    let mut payload = front(wishes.fold(CLIENT, |all, (wish, _)| all | wish));
    payload.extend_from_slice(user.as_bytes());
    payload.extend_from_slice(&[0, 0]);
    if plugins {
        payload.extend_from_slice(PLUGIN);
    }
    framed(if over_tls { 2 } else { 1 }, &payload)
}

/// What the answer to a login means, and what it calls for; nothing while it is incomplete. Only an error is a "no": a
/// server that wants another way of authentication is well.
#[must_use]
pub fn read_login(bytes: &[u8]) -> Option<(Reading, Next)> {
    let foreign = || (Reading::broken("an answer to a login that is not MySQL's"), Next::Nothing);
    let Some((sequence, payload)) = packet(bytes)? else { return Some(foreign()) };
    Some(match payload.first() {
        Some(&ERROR) => (error(payload), Next::Nothing),
        Some(&SWITCH) => {
            (Reading::good("the server asks for authentication"), Next::Switch(sequence.wrapping_add(1)))
        }
        Some(_) => (Reading::good("logged in"), Next::Quit),
        None => foreign(),
    })
}

/// An error packet: number, then, after the handshake, `#` and a state of 5 bytes, then text.
fn error(payload: &[u8]) -> Reading {
    let Some((&[_, low, high], text)) = payload.split_first_chunk() else {
        return Reading::broken("an error packet without a number");
    };
    let text = if text.first() == Some(&b'#') { text.get(6..).unwrap_or_default() } else { text };
    Reading::no(format!("error {}: {}", u16::from_le_bytes([low, high]), shown(text)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::health::Verdict;

    fn hello(capabilities: [u8; 4]) -> Vec<u8> {
        let [a, b, c, d] = capabilities;
        let mut payload = b"\x0a10.11.6-MariaDB\0\x05\0\0\0scramble\0".to_vec();
        payload.extend_from_slice(&[a, b, 0x21, 2, 0, c, d, 21]);
        framed(0, &payload)
    }

    #[test]
    fn the_login_is_the_bytes_of_the_protocol() {
        let old = login("ha", 0, false);
        let head = [36, 0, 0, 1, 0x00, 0x82, 0x00, 0x00, 0x00, 0x80, 0x00, 0x01, 0x21];
        assert_eq!(old.get(..13), Some(&head[..]));
        assert_eq!(old.get(36..), Some(&b"ha\0\0"[..]));
        let new = login("ha", PLUGIN_AUTH, false);
        assert_eq!(new.get(..8), Some(&[58, 0, 0, 1, 0x00, 0x82, 0x08, 0x00][..]));
        assert_eq!(new.get(36..), Some(&b"ha\0\0mysql_native_password\0"[..]));
        // Over TLS the same with one more wish and the next number, and before it the front part alone.
        let inside = login("ha", PLUGIN_AUTH, true);
        assert_eq!(inside.get(..8), Some(&[58, 0, 0, 2, 0x00, 0x8a, 0x08, 0x00][..]));
        assert_eq!(inside.get(8..), new.get(8..));
        let request = ssl_request();
        assert_eq!(request.get(..8), Some(&[32, 0, 0, 1, 0x00, 0x8a, 0x00, 0x00][..]));
        assert_eq!(request.get(8..), old.get(8..36));
    }

    #[test]
    fn a_greeting_says_whether_the_server_knows_plugins() {
        let plugins = |bytes: &[u8]| {
            greeting(bytes).and_then(Result::ok).map(|greeting| greeting.capabilities & PLUGIN_AUTH != 0)
        };
        assert_eq!(plugins(&hello([0xfe, 0xf7, 0xff, 0x81])), Some(true));
        assert_eq!(plugins(&hello([0xfe, 0xf7, 0, 0])), Some(false));
        assert_eq!(greeting(&hello([0; 4])[..20]), None);
    }

    #[test]
    fn an_error_is_a_no_with_its_number_and_text() {
        let blocked = framed(0, b"\xff\x69\x04Host '10.0.0.1' is blocked");
        let reading = greeting(&blocked).and_then(Result::err).expect("an error");
        assert_eq!(
            (reading.verdict, &*reading.what),
            (Verdict::SaysNo, "error 1129: Host '10.0.0.1' is blocked")
        );
        let denied = framed(2, b"\xff\x15\x04#28000Access denied");
        let (reading, next) = read_login(&denied).expect("complete");
        assert_eq!((&*reading.what, next), ("error 1045: Access denied", Next::Nothing));
    }

    #[test]
    fn a_login_is_good_unless_it_is_an_error() {
        let next = |bytes: &[u8]| read_login(bytes).map(|(reading, next)| (reading.verdict, next));
        assert_eq!(next(&framed(2, &[0, 0, 0, 2, 0, 0, 0])), Some((Verdict::Good, Next::Quit)));
        assert_eq!(next(&framed(2, b"\xfecaching_sha2_password\0")), Some((Verdict::Good, Next::Switch(3))));
        assert_eq!(next(&[7, 0, 0]), None);
        assert_eq!(next(&[0, 0, 0, 2]), Some((Verdict::CannotBeAsked, Next::Nothing)));
    }

    #[test]
    fn what_is_not_the_protocol_is_no_answer() {
        for bytes in [&b"HTTP/1.1 400 Bad Request\r\n"[..], b"SSH-2.0-x\r\n", &framed(0, b"\x08")] {
            let reading = greeting(bytes).and_then(Result::err);
            assert_eq!(reading.map(|reading| reading.verdict), Some(Verdict::CannotBeAsked), "{bytes:?}");
        }
    }
}
