//! A connection that stands, and, where the operator gives them, bytes to send and to find in the answer.

use super::Asked;
use super::expect::Expect;
use super::outcome::Reading;
use super::wire::{Notes, connect_over};
use crate::control::tls::TlsClient;
use crate::model::address::Address;

/// Bytes of an answer in which the expected ones are looked for (HAProxy's buffer size).
pub const ANSWER_MAX: usize = 16 * 1024;

pub(super) async fn ask(
    send: Option<&[u8]>,
    expect: Option<&Expect>,
    tls: Option<&TlsClient>,
    address: Address,
    notes: &Notes,
) -> Asked<Reading> {
    let mut wire = connect_over(tls, &[], address, notes).await?;
    if let Some(bytes) = send {
        wire.send(bytes).await?;
    }
    let Some(expect) = expect else { return Ok(Reading::good("connected")) };
    let mut held = Vec::new();
    loop {
        let ended = !wire.more(&mut held, ANSWER_MAX).await?;
        if let Some(reading) = read(&held, ended, expect) {
            return Ok(reading);
        }
    }
}

/// What the bytes so far mean; nothing while more may decide. An answer that ends, or fills the limit, without what is
/// expected is a "no"; none at all is no answer.
#[must_use]
pub fn read(held: &[u8], ended: bool, expect: &Expect) -> Option<Reading> {
    if ended && held.is_empty() {
        return Some(Reading::broken("connection closed before an answer"));
    }
    if expect.is_in(held) {
        return Some(Reading::good("the answer is as expected"));
    }
    (ended || held.len() >= ANSWER_MAX).then(|| Reading::no("the answer has not what is expected"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::health::Verdict;

    #[test]
    fn an_answer_counts_when_it_matches_or_has_ended() {
        let expect = Expect::Text(b"OK".to_vec());
        let verdict = |held: &[u8], ended| read(held, ended, &expect).map(|reading| reading.verdict);
        assert_eq!(verdict(b"O", false), None);
        assert_eq!(verdict(b"OK", false), Some(Verdict::Good));
        assert_eq!(verdict(b"NO", true), Some(Verdict::SaysNo));
        assert_eq!(verdict(&[b'x'; ANSWER_MAX], false), Some(Verdict::SaysNo));
        assert_eq!(verdict(b"", true), Some(Verdict::CannotBeAsked));
    }
}
