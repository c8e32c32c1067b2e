//! Answers of HTTP/2 endpoints that break a rule or would be something else over HTTP/1: no client of either version takes
//! one for whole, and none is split by it. Also endpoints that make work for nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::client::{Client, get};
use crate::harness::frames::{FrameOrigin, Session};
use crate::harness::http2::{
    self, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, Outcome, PING, PRIORITY,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, block,
};
use crate::harness::origin::Origin;
use crate::harness::proxy::Setup;
use crate::harness::until;
use crate::harness::wire::latin1;

const PUSH_PROMISE: u8 = 5;
const WHOLE: u8 = END_STREAM | END_HEADERS;

/// Type, flags and payload of the frames on a request's stream.
type Answer = Vec<(u8, u8, Vec<u8>)>;

/// A head, and nothing behind it.
fn alone(fields: &[(&str, &str)]) -> Answer {
    vec![(HEADERS, WHOLE, block(fields))]
}

/// A head with status 200, and what follows.
fn followed(field: Option<(&str, &str)>, more: Answer) -> Answer {
    let fields: Vec<_> = [Some((":status", "200")), field].into_iter().flatten().collect();
    [vec![(HEADERS, END_HEADERS, block(&fields))], more].concat()
}

/// A head with status 200 and this field.
fn with(name: &str, value: &str) -> Answer {
    alone(&[(":status", "200"), (name, value)])
}

fn data(flags: u8, bytes: &[u8]) -> Answer {
    vec![(DATA, flags, bytes.to_vec())]
}

fn heads() -> Vec<(&'static str, Answer)> {
    vec![
        ("no status", alone(&[("x", "y")])),
        ("two statuses", alone(&[(":status", "200"), (":status", "204")])),
        ("a status of letters", alone(&[(":status", "abc")])),
        ("a status below 100", alone(&[(":status", "099")])),
        ("a status of four digits", alone(&[(":status", "2000")])),
        ("an empty status", alone(&[(":status", "")])),
        ("a status with a line", alone(&[(":status", "200 OK\r\nx: evil")])),
        ("an unknown pseudo field", with(":evil", "1")),
        ("a status behind a field", alone(&[("x", "y"), (":status", "200")])),
        ("upper case", with("X-Evil", "1")),
        ("a line end in a value", with("x", "y\r\nset-cookie: evil=1")),
        ("an end of head in a value", with("x", "y\r\n\r\nevil")),
        ("LF in a value", with("x", "y\nset-cookie: evil=1")),
        ("CR in a value", with("x", "y\revil: 1")),
        ("NUL in a value", with("x", "y\0evil")),
        ("a colon in a name", with("evil: x", "y")),
        ("a line end in a name", with("x: y\r\nevil", "1")),
        ("a space in a name", with("x evil", "y")),
        ("Connection", with("connection", "evil")),
        ("Transfer-Encoding", with("transfer-encoding", "chunked")),
        ("Upgrade", with("upgrade", "evil")),
        ("Keep-Alive", with("keep-alive", "evil")),
        ("an interim answer that is the end", alone(&[(":status", "100")])),
        ("a switch of protocols", alone(&[(":status", "101")])),
        ("a head that cannot be unpacked", vec![(HEADERS, WHOLE, vec![0x88, 0xc6])]),
        ("half a head", vec![(HEADERS, END_STREAM, vec![0x88]), (DATA, 0, b"evil".to_vec())]),
        ("DATA before its head", data(END_STREAM, b"evil")),
    ]
}

fn bodies() -> Vec<(&'static str, Answer)> {
    let length = |length| Some(("content-length", length));
    let trailers = |flags, fields: &[(&str, &str)]| vec![(HEADERS, flags, block(fields))];
    vec![
        ("less than it says", followed(length("5"), data(END_STREAM, b"abc"))),
        ("more than it says", followed(length("3"), data(END_STREAM, b"abcde"))),
        ("nothing of what it says", with("content-length", "5")),
        ("a length of letters", followed(length("x"), data(END_STREAM, b"abc"))),
        ("a length below nothing", followed(length("-3"), data(END_STREAM, b"abc"))),
        ("two lengths", alone(&[(":status", "200"), ("content-length", "0"), ("content-length", "4")])),
        (
            "a reset in the middle",
            followed(None, [data(0, b"abc"), vec![(RST_STREAM, 0, vec![0, 0, 0, 2])]].concat()),
        ),
        (
            "a reset for the end",
            followed(None, [data(0, b"abc"), vec![(RST_STREAM, 0, vec![0; 4])]].concat()),
        ),
        ("a cancel after the head", followed(None, vec![(RST_STREAM, 0, vec![0, 0, 0, 8])])),
        ("a second head", followed(None, trailers(END_HEADERS, &[(":status", "200")]))),
        ("trailers that end nothing", followed(None, trailers(END_HEADERS, &[("x", "y")]))),
        ("trailers with a line end", followed(None, trailers(WHOLE, &[("x", "y\r\nevil: 1")]))),
        ("trailers in upper case", followed(None, trailers(WHOLE, &[("X-Evil", "1")]))),
        ("a push", vec![(PUSH_PROMISE, END_HEADERS, [&[0, 0, 0, 2][..], &http2::get("/evil")].concat())]),
        ("padding that is more than there is", followed(None, vec![(DATA, 9, vec![9, b'x'])])),
        ("PRIORITY of four bytes", vec![(PRIORITY, 0, vec![0; 4])]),
        ("a window of nothing more", vec![(WINDOW_UPDATE, 0, vec![0; 4])]),
        (
            "an unfinished answer and GOAWAY",
            followed(None, [data(0, b"abc"), vec![(0xff, 0, Vec::new())]].concat()),
        ),
    ]
}

/// Answers as the chosen case has it; out of the last place comes one that is fine.
fn play(session: &mut Session, cases: &[(&str, Answer)], chosen: &AtomicUsize) -> std::io::Result<()> {
    loop {
        let stream = session.request()?;
        let Some((_, answer)) = cases.get(chosen.load(Ordering::SeqCst)) else {
            session.ok(stream, "ok")?;
            continue;
        };
        for (kind, flags, payload) in answer {
            if *kind == 0xff {
                // Goes away with its error and without another word.
                session.send(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 2])?;
                return Ok(());
            }
            session.send(*kind, *flags, stream, payload)?;
        }
    }
}

/// What a client of HTTP/1 would take for an answer.
fn over_http1(to: SocketAddr) -> Option<String> {
    let mut client = Client::connect(to);
    client.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = client.response("GET");
    let evil = latin1(&client.received).contains("evil");
    match answer {
        Ok(message) if message.status() != 502 || evil => Some(latin1(&client.received)),
        Err(_) if evil => Some(latin1(&client.received)),
        _ => None,
    }
}

/// What one of HTTP/2 would.
fn over_http2(to: SocketAddr) -> Option<String> {
    match Frames::connect(to).ask(1, &http2::get("/")).outcome(1) {
        Outcome::Answer(502, _) | Outcome::Reset(_) => None,
        other => Some(format!("{other:?}")),
    }
}

#[test]
fn no_client_takes_a_broken_answer_for_a_whole_one() {
    let cases = Arc::new([heads(), bodies()].concat());
    let chosen = Arc::new(AtomicUsize::new(usize::MAX));
    let (of_origin, choice) = (Arc::clone(&cases), Arc::clone(&chosen));
    let origin = FrameOrigin::start(&[], move |mut session| play(&mut session, &of_origin, &choice));
    let setup = Setup::http(&[origin.address]).process("workers = 1").listener("h2c = true");
    let proxy = setup.pool("protocol = \"http2\"\nretry = \"off\"").start();
    let mut findings = Vec::new();
    for (i, (name, _)) in cases.iter().enumerate() {
        chosen.store(i, Ordering::SeqCst);
        let told = [over_http1(proxy.web), over_http2(proxy.web)];
        findings.extend(told.into_iter().flatten().map(|told| format!("{name}: {told:?}")));
        chosen.store(usize::MAX, Ordering::SeqCst);
        if get(proxy.web, "/canary").text() != "ok" {
            findings.push(format!("{name}: no canary"));
        }
    }
    assert!(findings.is_empty(), "{} of {}:\n{}", findings.len(), cases.len(), findings.join("\n"));
}

#[test]
fn what_may_not_be_in_an_answer_or_its_trailers_does_not_go_on() {
    let origin = FrameOrigin::start(&[], |mut session| {
        loop {
            let stream = session.request()?;
            // A pseudo field of requests, which h2 leaves out by itself.
            session.head(stream, &block(&[(":status", "200"), (":path", "/evil")]), false)?;
            session.data(stream, b"body", false)?;
            let trailers =
                [("x-sum", "1"), ("set-cookie", "evil=1"), ("content-length", "9"), ("host", "evil")];
            session.head(stream, &block(&trailers), true)?;
        }
    });
    let proxy = Setup::http(&[origin.address]).listener("h2c = true").pool("protocol = \"http2\"").start();
    let mut client = Client::connect(proxy.web);
    client.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer().text(), "body");
    let received = latin1(&client.received);
    assert!(received.ends_with("\r\n0\r\nx-sum: 1\r\n\r\n") && !received.contains("evil"), "{received}");
    let answer = http2::run(async { http2::Session::connect(proxy.web).await.get("/").await });
    let names: Vec<_> =
        answer.trailers.iter().flat_map(http::HeaderMap::keys).map(http::HeaderName::as_str).collect();
    assert_eq!((answer.text().as_str(), names), ("body", vec!["x-sum"]));
    assert!(answer.headers.is_empty(), "{:?}", answer.headers);
}

#[test]
fn an_endpoint_that_makes_work_for_nothing_loses_its_connection() {
    let floods: [(&str, u8, u8, bool, Vec<u8>); 7] = [
        ("PING", PING, 0, false, vec![0; 8]),
        ("SETTINGS", SETTINGS, 0, false, Vec::new()),
        ("WINDOW_UPDATE", WINDOW_UPDATE, 0, false, vec![0, 0, 0, 1]),
        ("PRIORITY", PRIORITY, 0, true, vec![0, 0, 0, 0, 9]),
        ("an unknown type", 0x77, 0, false, Vec::new()),
        ("empty DATA", DATA, 0, true, Vec::new()),
        ("CONTINUATION", CONTINUATION, 0, true, Vec::new()),
    ];
    for (name, kind, flags, of_stream, payload) in floods {
        let origin = FrameOrigin::start(&[], move |mut session| {
            let stream = session.request()?;
            match kind {
                DATA => session.head(stream, &[0x88], false)?,
                CONTINUATION => session.send(HEADERS, 0, stream, &[0x88])?,
                _ => {}
            }
            let many = http2::frame(kind, flags, if of_stream { stream } else { 0 }, &payload).repeat(1000);
            loop {
                session.raw(&many)?;
            }
        });
        let other = Origin::saying("other");
        let routes = "[[route]]\nname = \"other\"\npath = \"/other\"\npool = \"other\"\n\
                      [[route]]\nname = \"main\"\npool = \"main\"\n";
        let pool = format!("[pool.other]\nendpoints = [\"{}\"]\n", other.address());
        let setup = Setup::http(&[origin.address]).process("workers = 1").routes(routes).text(&pool);
        let proxy = setup.pool("protocol = \"http2\"\nretry = \"off\"").start();
        let mut client = Client::connect(proxy.web);
        client.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        // With its worker at work on the flood.
        assert_eq!(get(proxy.web, "/other").text(), "other", "{name}");
        match client.response("GET") {
            Ok(message) => assert_eq!(message.status(), 502, "{name}"),
            Err(_) => assert_eq!(kind, DATA, "{name}: its head has gone"),
        }
        until("the flood to be counted", || {
            let limit = "limit=\"http2_frames\"";
            // h2 finds some by limits of its own.
            let counted = proxy.metric("plimsoll_limit_hits_total", limit) == 1.0;
            (counted || matches!(kind, CONTINUATION | DATA)).then_some(())
        });
        assert_eq!(get(proxy.web, "/other").text(), "other", "{name}");
    }
}
