//! An upstream connection that the endpoint closed while it was idle costs nobody an answer, and nobody a second one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::origin::Origin;
use crate::harness::proxy::Setup;
use crate::harness::until;

#[test]
fn a_connection_closed_while_idle_is_found_out_before_use() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).process("workers = 1").start();
    let mut client = proxy.connect();
    for round in 1..=20 {
        assert_eq!(client.post("/", "hi").text(), "ok");
        origin.close_connections();
        until("the close to be done", || (origin.open() == 0).then_some(()));
        assert_eq!(origin.seen().len(), round);
    }
}

/// The second request on a connection is read and then dropped: the close raced with it.
fn racing() -> (Origin, Arc<AtomicUsize>) {
    let broken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&broken);
    let origin = Origin::start(move |mut session| {
        session.request()?;
        session.ok("first")?;
        if session.request()?.is_some() {
            count.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    });
    (origin, broken)
}

#[test]
fn a_get_that_raced_with_a_close_is_repeated_on_a_fresh_connection() {
    let (origin, broken) = racing();
    let proxy = Setup::http(&[origin.address()]).process("workers = 1").pool("retry = \"off\"").start();
    let mut client = proxy.connect();
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "first");
    }
    assert!(broken.load(Ordering::SeqCst) > 0, "nothing raced");
    assert_eq!(origin.seen().len(), 10 + broken.load(Ordering::SeqCst));
}

#[test]
fn a_post_that_raced_with_a_close_is_never_repeated() {
    let (origin, _) = racing();
    let proxy = Setup::http(&[origin.address()]).process("workers = 1").start();
    let mut client = proxy.connect();
    let mut failed = 0;
    for number in 0..10 {
        match client.post(&format!("/{number}"), "hi").status() {
            200 => {}
            502 => failed += 1,
            other => panic!("status {other}"),
        }
        if failed > 0 {
            client = proxy.connect();
        }
    }
    let mut paths: Vec<_> = origin.seen().iter().map(|seen| seen.path()).collect();
    let all = paths.len();
    paths.sort();
    paths.dedup();
    assert_eq!((all, paths.len()), (10, 10), "a POST arrived twice or never");
}

#[test]
fn surplus_bytes_on_an_idle_connection_answer_nobody() {
    let origin = Origin::start(|mut session| {
        while session.request()?.is_some() {
            session.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL")?;
        }
        Ok(())
    });
    let proxy = Setup::http(&[origin.address()]).process("workers = 1").start();
    let mut client = proxy.connect();
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "ok");
    }
}

#[test]
fn an_answer_that_nobody_asked_for_is_given_to_nobody() {
    let origin = Origin::start(|mut session| {
        session.request()?;
        session.ok("ok")?;
        session.send("HTTP/1.1 408 Request Timeout\r\nContent-Length: 4\r\n\r\nEVIL")
    });
    let proxy = Setup::http(&[origin.address()]).process("workers = 1").start();
    let mut client = proxy.connect();
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "ok");
        // Before they are there, nobody can tell these bytes from the next answer.
        until("the surplus to be sent", || (origin.open() == 0).then_some(()));
    }
}
