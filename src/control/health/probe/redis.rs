//! Redis, and what speaks its protocol (RESP): alive by `PING`, or only as a primary by `ROLE`.

use super::Asked;
use super::outcome::{Reading, shown};
use super::wire::{Notes, connect_over};
use crate::control::tls::TlsClient;
use crate::model::address::Address;

/// Bytes of an answer up to what matters of it; the list of replicas behind a role is not read.
pub const ANSWER_MAX: usize = 4 * 1024;

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
const ROLE: &[u8] = b"*1\r\n$4\r\nROLE\r\n";

pub(super) async fn ask(
    primary: bool,
    tls: Option<&TlsClient>,
    address: Address,
    notes: &Notes,
) -> Asked<Reading> {
    let mut wire = connect_over(tls, &[], address, notes).await?;
    wire.send(if primary { ROLE } else { PING }).await?;
    wire.answer(ANSWER_MAX, if primary { read_role } else { read_ping }).await
}

/// What an answer to `PING` means; nothing while it is incomplete.
#[must_use]
pub fn read_ping(bytes: &[u8]) -> Option<Reading> {
    let (line, _) = line(bytes)?;
    Some(match line {
        b"+PONG" => Reading::good("PONG"),
        other => unexpected(other),
    })
}

/// What an answer to `ROLE` means, an array whose first element is the role; nothing while it is incomplete.
#[must_use]
pub fn read_role(bytes: &[u8]) -> Option<Reading> {
    let (first, rest) = line(bytes)?;
    if !first.starts_with(b"*") {
        return Some(unexpected(first));
    }
    let (length, rest) = line(rest)?;
    if !length.starts_with(b"$") {
        return Some(unexpected(length));
    }
    let (role, _) = line(rest)?;
    Some(match role {
        b"master" => Reading::good("role master"),
        b"slave" | b"sentinel" => Reading::no(format!("role {}", shown(role))),
        other => unexpected(other),
    })
}

/// An error, such as `-LOADING`, is a "no" in the server's words; anything else is not the protocol.
fn unexpected(line: &[u8]) -> Reading {
    match line.split_first() {
        Some((b'-', text)) => Reading::no(shown(text)),
        _ => Reading::broken("an answer that is not Redis's"),
    }
}

/// The first line, and what follows it.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let (line, rest) = bytes.split_at_checked(end)?;
    Some((line, rest.get(2..)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::health::Verdict;

    #[test]
    fn a_pong_is_good_and_an_error_is_a_no_in_its_own_words() {
        assert_eq!(read_ping(b"+PONG\r\n").map(|reading| reading.verdict), Some(Verdict::Good));
        assert_eq!(read_ping(b"+PONG"), None);
        let loading = read_ping(b"-LOADING Redis is loading the dataset in memory\r\n").expect("complete");
        assert_eq!(loading.verdict, Verdict::SaysNo);
        assert_eq!(loading.what, "LOADING Redis is loading the dataset in memory");
        assert_eq!(
            read_ping(b"HTTP/1.1 400\r\n").map(|reading| reading.verdict),
            Some(Verdict::CannotBeAsked)
        );
        assert_eq!(read_ping(b"\r\n").map(|reading| reading.verdict), Some(Verdict::CannotBeAsked));
    }

    #[test]
    fn only_a_master_is_a_primary() {
        let verdict = |bytes: &[u8]| read_role(bytes).map(|reading| reading.verdict);
        assert_eq!(verdict(b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n"), Some(Verdict::Good));
        assert_eq!(verdict(b"*5\r\n$5\r\nslave\r\n$9\r\n127.0.0.1\r\n"), Some(Verdict::SaysNo));
        assert_eq!(verdict(b"*3\r\n$6\r\nmast"), None);
        assert_eq!(verdict(b"-NOAUTH Authentication required.\r\n"), Some(Verdict::SaysNo));
        assert_eq!(verdict(b"+PONG\r\n"), Some(Verdict::CannotBeAsked));
        assert_eq!(verdict(b"*1\r\n:1\r\n"), Some(Verdict::CannotBeAsked));
    }
}
