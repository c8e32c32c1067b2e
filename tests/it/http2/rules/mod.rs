//! The rules of HTTP/2 (RFC 9113 sections 3 to 8) and of HPACK (RFC 7541), each broken or kept byte by byte, with what
//! must come of it: over TLS and in the clear.

mod fields;
mod flow;
mod frames;
mod messages;
mod streams;

use crate::harness::http2::{
    self, DATA, END_HEADERS, END_STREAM, Frame, Frames, GOAWAY, HEADERS, Outcome, PING, SETTINGS, frame,
};
use crate::harness::origin::Origin;
use crate::harness::pair::{PAIRS, Pair, Stand};

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const COMPRESSION_ERROR: u32 = 9;
const ENHANCE_YOUR_CALM: u32 = 11;

/// What must come of it. For every error of a connection PROTOCOL_ERROR will do in the place of its own code: it is all that
/// the h2 crate says of most frames that it cannot read, and the connection ends either way.
#[derive(Debug, Clone, Copy)]
enum Expect {
    /// The connection ends, with a GOAWAY of one of these codes.
    Away(&'static [u32]),
    /// Stream 1 is reset with one of these codes, or the connection ends with one: whoever sees an error of a stream may
    /// take it for one of the connection (RFC 9113 section 5.4.2).
    Reset(&'static [u32]),
    /// Stream 1 is answered with 200.
    Answered,
    /// The connection goes on: a PING is answered, and so is another request.
    Lives,
}

/// Frames of a client, and what must come of them.
struct Case {
    /// Where the rule stands, and what it is about.
    rule: &'static str,
    /// Whether stream 1 has been asked for `/` and answered before.
    answered: bool,
    sent: Vec<u8>,
    expect: Expect,
}

/// A connection's first frames after its SETTINGS.
fn case(rule: &'static str, expect: Expect, sent: impl AsRef<[u8]>) -> Case {
    Case { rule, answered: false, sent: sent.as_ref().to_vec(), expect }
}

/// Frames after a whole exchange on stream 1.
fn after(rule: &'static str, expect: Expect, sent: impl AsRef<[u8]>) -> Case {
    Case { answered: true, ..case(rule, expect, sent) }
}

/// A whole request on a stream; one for `/never` gets no answer.
fn open(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &http2::get(path))
}

/// The head of a request with a body.
fn begin(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &http2::post("/"))
}

/// The end of a body.
fn end(stream: u32, data: &[u8]) -> Vec<u8> {
    frame(DATA, END_STREAM, stream, data)
}

fn settings(entries: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> = entries
        .iter()
        .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
        .collect();
    frame(SETTINGS, 0, 0, &payload)
}

/// What is wrong with what came of it.
fn finding(frames: &mut Frames, expect: Expect) -> Option<String> {
    let outcome = match expect {
        Expect::Away(codes) => match frames.outcome(u32::MAX) {
            Outcome::Ended(Some(code)) if code == PROTOCOL_ERROR || codes.contains(&code) => return None,
            other => other,
        },
        Expect::Reset(codes) => match frames.outcome(1) {
            Outcome::Reset(code) if codes.contains(&code) => return None,
            Outcome::Ended(Some(code)) if code == PROTOCOL_ERROR || codes.contains(&code) => return None,
            other => other,
        },
        Expect::Answered => match frames.outcome(1) {
            Outcome::Answer(200, _) => return None,
            other => other,
        },
        Expect::Lives => {
            frames.try_say(frame(PING, 0, 0, b"plimsoll"));
            frames.try_say(open(1001, "/"));
            return lives(frames);
        }
    };
    Some(format!("{outcome:?}"))
}

fn lives(frames: &mut Frames) -> Option<String> {
    let (mut pong, mut answer) = (false, false);
    while !(pong && answer) {
        let Some(Frame { kind, flags, stream, payload }) = frames.next() else {
            return Some(format!("it ended (pong {pong}, answer {answer})"));
        };
        match kind {
            GOAWAY => return Some(format!("GOAWAY {payload:?}")),
            PING => pong |= flags & END_STREAM != 0 && payload == b"plimsoll",
            HEADERS if stream == 1001 => answer = http2::status(&payload) == 200,
            _ => {}
        }
    }
    None
}

fn stand(pair: Pair) -> (Origin, Stand) {
    let origin = Origin::start(|mut session| {
        while let Some(request) = session.request()? {
            if request.path() == "/never" {
                session.wire.at_end();
                return Ok(());
            }
            session.ok(if request.path() == "/ten" { "0123456789" } else { "ok" })?;
        }
        Ok(())
    });
    let stand =
        pair.before(origin.address(), |setup| setup.process("workers = 1").listener(pair.takes_http2()));
    (origin, stand)
}

/// Plays all of them, each on a connection of its own.
#[track_caller]
fn play(cases: &[Case]) {
    let mut findings = Vec::new();
    for pair in PAIRS.into_iter().filter(|pair| !pair.http2) {
        let (_origin, stand) = stand(pair);
        for case in cases {
            let mut frames = Frames::connect(stand.http2);
            if case.answered {
                assert_eq!(frames.ask(1, &http2::get("/")).outcome(1), Outcome::Answer(200, b"ok".to_vec()));
            }
            // It may be cut off before it has sent all.
            frames.try_say(&case.sent);
            if let Some(finding) = finding(&mut frames, case.expect) {
                findings.push(format!(
                    "{}: wants {:?}, got {finding} (tls: {})",
                    case.rule, case.expect, pair.tls
                ));
            }
        }
    }
    assert!(findings.is_empty(), "{} of {}:\n{}", findings.len(), 2 * cases.len(), findings.join("\n"));
}

/// Plays a conversation in the clear and under TLS.
fn converse(mut conversation: impl FnMut(Frames, &Origin)) {
    for pair in PAIRS.into_iter().filter(|pair| !pair.http2) {
        let (origin, stand) = stand(pair);
        conversation(Frames::connect(stand.http2), &origin);
    }
}
