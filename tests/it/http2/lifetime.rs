//! How a connection of HTTP/2 begins and ends: in time, with a GOAWAY, and without losing a request.

use rustix::process::Signal;

use super::before;
use crate::harness::http2::{
    self, END_STREAM, Frames, GOAWAY, HEADERS, Outcome, PING, SETTINGS, Session, request,
};
use crate::harness::origin::Origin;
use crate::harness::until;

#[test]
fn an_idle_connection_is_told_goodbye() {
    let origin = Origin::saying("ok");
    let proxy = before(&origin).listener("timeouts = { keep_alive = \"300ms\" }").start();
    let mut frames = Frames::connect(proxy.web);
    assert_eq!(frames.ask(1, &http2::get("/")).outcome(1), Outcome::Answer(200, b"ok".to_vec()));
    let goodbye = frames.until(GOAWAY);
    assert_eq!(&goodbye.payload[4..8], [0; 4], "NO_ERROR");
    // A round trip later it says which was the last request that it took.
    let ping = frames.until(PING);
    frames.say(http2::frame(PING, END_STREAM, 0, &ping.payload));
    let last = frames.until(GOAWAY);
    assert_eq!(&last.payload[..4], [0, 0, 0, 1]);
    assert!(frames.next().is_none());
    super::counted(&proxy, "keep_alive", 1.0);
}

#[test]
fn half_a_preface_and_half_a_head_have_their_time() {
    let origin = Origin::saying("ok");
    let proxy = before(&origin).listener("timeouts = { request_header = \"300ms\" }").start();
    let mut half = proxy.connect();
    half.say(&http2::PREFACE[..10]);
    assert!(half.at_end());
    let mut silent = proxy.connect();
    silent.say(http2::PREFACE);
    let mut frames = Frames::connect(proxy.web);
    frames.until(SETTINGS);
    frames.say(http2::frame(HEADERS, END_STREAM, 1, &http2::get("/")));
    assert_eq!(frames.sent_away(), 11);
    // A preface without SETTINGS is half a one.
    assert_eq!(Frames { client: silent }.sent_away(), 11);
    super::counted(&proxy, "request_header", 3.0);
    assert!(origin.seen().is_empty());
}

#[test]
fn a_drain_lets_requests_end_and_takes_no_more() {
    let origin = Origin::start(|mut session| {
        while let Some(request) = session.request()? {
            if request.path() == "/slow" {
                session.wire.silent_for(std::time::Duration::from_millis(700));
            }
            session.ok("ok")?;
        }
        Ok(())
    });
    let mut proxy = before(&origin).start();
    let mut frames = Frames::connect(proxy.web);
    frames.ask(1, &http2::get("/slow"));
    origin.request(0);
    proxy.signal(Signal::TERM);
    let goodbye = frames.until(GOAWAY);
    assert_eq!(
        &goodbye.payload[..8],
        [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0],
        "all may still come for a round trip"
    );
    let ping = frames.until(PING);
    frames.say(http2::frame(PING, END_STREAM, 0, &ping.payload));
    assert_eq!(frames.outcome(1), Outcome::Answer(200, b"ok".to_vec()));
    while frames.next().is_some() {}
    assert!(proxy.wait().success());
}

#[test]
fn a_client_that_leaves_takes_all_its_requests_along() {
    let origin = Origin::start(|mut session| {
        session.request()?;
        session.wire.at_end();
        Ok(())
    });
    let proxy = before(&origin).start();
    let mut frames = Frames::connect(proxy.web);
    for i in 0..10 {
        frames.ask(2 * i + 1, &http2::get("/"));
    }
    until("all requests", || (origin.seen().len() == 10).then_some(()));
    drop(frames);
    until("the endpoints' connections to close", || (origin.open() == 0).then_some(()));
    let records = proxy.records(10);
    assert!(records.iter().all(|record| record["end"] == "client_aborted"), "{records:?}");
}

#[test]
fn requests_of_one_connection_do_not_wait_for_each_other() {
    let origin = Origin::start(|mut session| {
        while let Some(request) = session.request()? {
            if request.path() == "/slow" {
                session.wire.at_end();
                return Ok(());
            }
            session.ok("ok")?;
        }
        Ok(())
    });
    let proxy = before(&origin).start();
    http2::run(async {
        let mut session = Session::connect(proxy.web).await;
        let (_slow, _send) = session.open(request("GET", "/slow"), true).await;
        let asked = (0..50).map(|i| {
            let mut session = session.clone();
            tokio::task::spawn_local(async move { session.get(&format!("/{i}")).await.status })
        });
        for answer in asked.collect::<Vec<_>>() {
            assert_eq!(answer.await.expect("it does not panic"), 200);
        }
    });
}

#[test]
fn a_panic_ends_one_connection_alone() {
    let origin = Origin::saying("ok");
    let proxy = before(&origin).environment("PLIMSOLL_TEST_PANIC_PATH", "/panic").start();
    let mut other = Frames::connect(proxy.web);
    other.ask(1, &http2::get("/"));
    assert_eq!(other.outcome(1), Outcome::Answer(200, b"ok".to_vec()));
    let mut frames = Frames::connect(proxy.web);
    assert_eq!(frames.ask(1, &http2::get("/panic")).outcome(1), Outcome::Ended(None));
    assert_eq!(other.ask(3, &http2::get("/")).outcome(3), Outcome::Answer(200, b"ok".to_vec()));
}
