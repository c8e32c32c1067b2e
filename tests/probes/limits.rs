//! Time: one limit over the whole probe, how far it came, and what is no evidence because we were late ourselves. The
//! clock stands still but for what waits, so a silent server costs no time.

use std::time::Duration;

use plimsoll::control::health::probe::http::{Http, RequestHead};
use plimsoll::control::health::probe::{Check, port_accepts, run};
use plimsoll::policy::health::Verdict;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::origin::{Origin, Step, nobody};
use crate::probe;

/// A server whose backlog is full, so that it neither accepts nor refuses.
async fn unanswered() -> (TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let listener = socket.listen(1).expect("a listener");
    let address = listener.local_addr().expect("an address");
    // One more than the backlog: the kernel takes backlog + 1 connections.
    let mut taken = Vec::new();
    for _ in 0..2 {
        taken.push(TcpStream::connect(address).await.expect("a connection"));
    }
    (listener, taken)
}

fn redis() -> Check {
    Check::Redis { primary: false, tls: None }
}

#[tokio::test(start_paused = true)]
async fn one_limit_covers_all_and_says_how_far_the_probe_came() {
    let (full, _taken) = unanswered().await;
    let silent = Origin::play([Step::Hold]).await;
    let slow = Origin::play([Step::Write(b"+PO".to_vec()), Step::Hold]).await;
    for (address, what) in [
        (full.local_addr().expect("an address"), "timeout while connecting"),
        (silent.address, "timeout before an answer"),
        (slow.address, "timeout within the answer"),
    ] {
        let outcome = run(&probe(redis(), address)).await;
        assert_eq!((outcome.verdict, &*outcome.evidence.what), (Verdict::CannotBeAsked, what));
        assert!(outcome.evidence.phases.total >= crate::AMPLE);
        assert_eq!(outcome.evidence.lateness, Duration::ZERO);
        assert!(!outcome.evidence.own_address_gone);
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_http_server_is_out_of_time() {
    let silent = Origin::play([Step::Hold]).await;
    let check = Http::new(RequestHead::new("GET", "/", None, &[]).expect("a request"));
    let outcome = run(&probe(Check::Http(Box::new(check)), silent.address)).await;
    assert_eq!(outcome.verdict, Verdict::CannotBeAsked);
    assert_eq!(outcome.evidence.what, "timeout before an answer");
}

#[tokio::test(start_paused = true)]
async fn nothing_that_came_while_our_own_timer_was_late_is_evidence() {
    for answer in [&b"+PONG\r\n"[..], b"-ERR\r\n", b"garbage\r\n"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let origin = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("a connection");
            // The whole process stands still for a second, as after SIGSTOP.
            tokio::time::advance(Duration::from_secs(1)).await;
            stream.try_write(answer).expect("sent");
            stream
        });
        let outcome = run(&probe(redis(), address)).await;
        assert_eq!(outcome.verdict, Verdict::Void, "{}", outcome.evidence);
        assert!(outcome.evidence.lateness >= Duration::from_millis(900));
        assert!(outcome.evidence.what.starts_with("our own timer ran"), "{}", outcome.evidence);
        drop(origin.await.expect("served"));
    }
}

#[tokio::test]
async fn a_port_accepts_or_refuses() {
    let origin = Origin::play([Step::Hold]).await;
    let refused = nobody().await;
    for (address, wanted) in [(origin.address, true), (refused, false)] {
        let mut answer = None;
        while answer.is_none() {
            // Nothing only when this machine was too busy to tell.
            answer = port_accepts(address.into(), None, crate::AMPLE).await;
        }
        assert_eq!(answer, Some(wanted));
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_port_does_not_accept() {
    let (full, _taken) = unanswered().await;
    let address = full.local_addr().expect("an address");
    assert_eq!(port_accepts(address.into(), None, Duration::from_secs(1)).await, Some(false));
}
