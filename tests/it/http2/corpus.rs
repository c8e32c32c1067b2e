//! Plays the cases of `tests/corpus/h2-requests.json`: requests that would be something else to an HTTP/1 endpoint.

use std::fs;
use std::path::Path;

use serde::Deserialize;

use super::before;
use crate::harness::http2::{self, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, Outcome, block};
use crate::harness::origin::Origin;

#[derive(Debug, Deserialize)]
struct Case {
    id: String,
    fields: Vec<(String, String)>,
    data: Option<String>,
    trailers: Option<Vec<(String, String)>>,
    expect: String,
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

#[test]
fn no_case_of_the_corpus_has_a_finding() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/h2-requests.json");
    let cases: Vec<Case> =
        serde_json::from_str(&fs::read_to_string(path).expect("a corpus file")).expect("a corpus");
    let mut findings = Vec::new();
    for case in &cases {
        let origin = Origin::start(|mut session| {
            while let Some(request) = session.request()? {
                // A handshake that is none of its is answered as such.
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
        });
        let proxy = before(&origin).start();
        let mut frames = Frames::connect(proxy.web);
        frames.say(bytes_of(case));
        let outcome = frames.outcome(1);
        if !is_fine(case, &outcome) {
            findings.push(format!("{}: wants {}, got {outcome:?}", case.id, case.expect));
        }
        // Whatever became of it, the endpoint has seen whole and clean requests alone.
        for request in origin.seen() {
            let text = crate::harness::wire::latin1(&request.head);
            if text.contains("smuggled")
                || text.contains("evil")
                || text.contains("other")
                || text.contains('#')
            {
                findings.push(format!("{}: the endpoint saw {text:?}", case.id));
            }
        }
        // A canary: the proxy goes on.
        if proxy.get("/canary").status() != 200 {
            findings.push(format!("{}: no canary", case.id));
        }
    }
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}
