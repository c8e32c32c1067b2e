//! Answers to probes of every protocol that is read as bytes: nothing panics, an answer that decides goes on deciding the
//! same when more bytes follow, and no byte of a peer is shown as it is.
//!
//! The first byte of an input chooses the protocol.

#![no_main]

use libfuzzer_sys::fuzz_target;
use plimsoll::control::health::probe::outcome::Reading;
use plimsoll::control::health::probe::{agent, grpc, mysql, postgres, redis};
use plimsoll::policy::health::Verdict;

fuzz_target!(|data: &[u8]| {
    let Some((&protocol, answer)) = data.split_first() else { return };
    match protocol % 7 {
        0 => grows(answer, |bytes| postgres::read(bytes).map(|(reading, _)| reading)),
        1 => grows(answer, greeting),
        2 => grows(answer, |bytes| mysql::read_login(bytes).map(|(reading, _)| reading)),
        3 => grows(answer, redis::read_ping),
        4 => grows(answer, redis::read_role),
        5 => grows(answer, agent::read),
        _ => {
            let reading = grpc::read(answer);
            shows_only_text(&reading);
            assert!(reading.verdict != Verdict::Good || answer.len() >= 7);
        }
    }
});

fn greeting(bytes: &[u8]) -> Option<Reading> {
    mysql::greeting(bytes).and_then(|greeting| match greeting {
        Ok(greeting) => {
            let login = mysql::login("user", greeting.capabilities, bytes.len() % 2 == 0);
            assert_eq!(login.len(), 4 + usize::from(login[0]), "the frame has its length");
            None
        }
        Err(reading) => Some(reading),
    })
}

/// The shortest start that decides, and everything after it.
fn grows(answer: &[u8], read: impl Fn(&[u8]) -> Option<Reading>) {
    let whole = read(answer);
    let first = (1..=answer.len()).find_map(|end| read(&answer[..end]));
    assert_eq!(whole, first, "what follows a decision changes nothing");
    if let Some(reading) = whole {
        shows_only_text(&reading);
    }
}

fn shows_only_text(reading: &Reading) {
    assert!(reading.what.len() < 2048 && reading.what.bytes().all(|byte| matches!(byte, b' '..=b'~')));
}
