//! Connections live on where both sides allow it, on each side for itself.

use crate::harness::origin::Origin;
use crate::harness::proxy::Setup;
use crate::harness::until;

#[test]
fn one_client_connection_uses_one_upstream_connection() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).start();
    let mut client = proxy.connect();
    for _ in 0..50 {
        assert_eq!(client.get("/").text(), "ok");
    }
    assert_eq!(origin.accepted(), 1);
}

#[test]
fn upstream_connections_are_shared_by_clients_of_a_worker() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).process("workers = 1").start();
    for _ in 0..20 {
        assert_eq!(proxy.get("/").text(), "ok");
    }
    assert_eq!(origin.accepted(), 1);
}

#[test]
fn connection_close_is_obeyed_and_said() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).start();
    let mut client = proxy.connect();
    let answer = client.say("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").answer();
    assert_eq!(answer.field("connection").map(|v| v.to_lowercase()).as_deref(), Some("close"));
    client.expect_end();
}

#[test]
fn http_1_0_lives_on_only_when_it_asks() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).start();
    let mut asking = proxy.connect();
    for _ in 0..3 {
        let answer = asking.say("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\nHost: a\r\n\r\n").answer();
        assert_eq!(answer.field("content-length").as_deref(), Some("2"));
        assert_eq!(answer.field("connection").map(|v| v.to_lowercase()).as_deref(), Some("keep-alive"));
    }
    let mut plain = proxy.connect();
    assert_eq!(plain.say("GET / HTTP/1.0\r\nHost: a\r\n\r\n").answer().text(), "ok");
    plain.expect_end();
}

#[test]
fn an_endpoint_that_closes_does_not_close_the_client() {
    let origin = Origin::start(|mut session| {
        session.request()?;
        session.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    });
    let proxy = Setup::http(&[origin.address()]).start();
    let mut client = proxy.connect();
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "ok");
    }
    assert_eq!(origin.accepted(), 10);
}

#[test]
fn an_http_1_0_endpoint_is_not_reused_unless_it_says_so() {
    let origin = Origin::start(|mut session| {
        while session.request()?.is_some() {
            session.send("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        }
        Ok(())
    });
    let proxy = Setup::http(&[origin.address()]).start();
    let mut client = proxy.connect();
    for _ in 0..3 {
        assert_eq!(client.get("/").text(), "ok");
    }
    assert_eq!(origin.accepted(), 3);
}

#[test]
fn a_client_that_goes_away_while_waiting_takes_its_request_along() {
    let origin = Origin::start(|mut session| {
        session.request()?;
        // Answers never: only the proxy can end this.
        session.wire.at_end();
        Ok(())
    });
    let proxy = Setup::http(&[origin.address()]).start();
    let mut client = proxy.connect();
    client.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    origin.request(0);
    drop(client);
    until("the upstream connection to close", || (origin.open() == 0).then_some(()));
}
