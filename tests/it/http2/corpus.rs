//! Plays the cases of `tests/corpus/h2-requests.json` and of `more-h2-requests.json`: requests that would be something else to an HTTP/1 endpoint.

use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::harness::client;
use crate::harness::http2::{self, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, Outcome, block};
use crate::harness::origin::Origin;
use crate::harness::pair::{PAIRS, Stand};
use crate::harness::wire::latin1;

#[derive(Debug, Clone, Deserialize)]
struct Case {
    id: String,
    fields: Vec<(String, String)>,
    data: Option<String>,
    trailers: Option<Vec<(String, String)>>,
    expect: String,
}

fn load(file: &str) -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(file);
    serde_json::from_str(&fs::read_to_string(path).expect("a corpus file")).expect("a corpus")
}

fn pairs(fields: &[(String, String)]) -> Vec<(&str, &str)> {
    fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

fn bytes_of(case: &Case) -> Vec<u8> {
    let alone = case.data.is_none() && case.trailers.is_none();
    let end = |last: bool| if last { END_STREAM } else { 0 };
    let mut bytes = http2::frame(HEADERS, END_HEADERS | end(alone), 1, &block(&pairs(&case.fields)));
    if let Some(data) = &case.data {
        bytes.extend(http2::frame(DATA, end(case.trailers.is_none()), 1, data.as_bytes()));
    }
    if let Some(trailers) = &case.trailers {
        bytes.extend(http2::frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&pairs(trailers))));
    }
    bytes
}

fn is_fine(case: &Case, outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Answer(status, _) => {
            case.expect.split('|').any(|want| want.starts_with(&status.to_string()))
        }
        Outcome::Reset(_) | Outcome::Ended(_) => case.expect.contains("rst"),
    }
}

/// Answers everything, and a handshake that is none of its as such.
fn origin() -> Origin {
    Origin::start(|mut session| {
        while let Some(request) = session.request()? {
            let key = request.field("sec-websocket-key");
            match key {
                Some(key) => session.send(format!(
                    "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
                    super::websocket::accept(&key)
                ))?,
                None => session.ok("ok")?,
            }
            if request.field("upgrade").is_some() {
                return Ok(());
            }
        }
        Ok(())
    })
}

/// What is wrong with how a case went.
fn play(case: &Case, origin: &Origin, stand: &Stand) -> Vec<String> {
    let mut findings = Vec::new();
    let before = origin.seen().len();
    let mut frames = Frames::connect(stand.http2);
    frames.say(bytes_of(case));
    let outcome = frames.outcome(1);
    if !is_fine(case, &outcome) {
        findings.push(format!("{}: wants {}, got {outcome:?}", case.id, case.expect));
    }
    // A canary: the proxy goes on.
    if client::get(stand.http1, "/canary").status() != 200 {
        findings.push(format!("{}: no canary", case.id));
    }
    // Whatever became of it, the endpoint has seen whole and clean requests alone.
    for request in &origin.seen()[before..] {
        let text = latin1(&[&request.head[..], &request.trailers].concat());
        if ["smuggled", "evil", "other", "#"].iter().any(|part| text.contains(part)) {
            findings.push(format!("{}: the endpoint saw {text:?}", case.id));
        }
    }
    findings
}

#[test]
fn no_case_of_the_corpus_has_a_finding_with_any_pair() {
    let cases = [load("h2-requests.json"), load("more-h2-requests.json")].concat();
    for pair in PAIRS {
        let origin = origin();
        let stand =
            pair.before(origin.address(), |setup| setup.pool("retry = \"off\"").listener(pair.takes_http2()));
        let findings: Vec<_> = cases.iter().flat_map(|case| play(case, &origin, &stand)).collect();
        assert!(findings.is_empty(), "{pair:?}\n{}", findings.join("\n"));
        // What was refused was refused before it, and what was not did arrive.
        assert!(origin.seen().len() > cases.len(), "{}", origin.seen().len());
    }
}
