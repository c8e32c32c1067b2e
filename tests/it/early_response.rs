//! An answer that comes before the request is complete reaches the client, and the connection is not used again.

use std::io::ErrorKind;

use crate::harness::origin::Origin;
use crate::harness::proxy::Setup;

#[test]
fn an_early_refusal_reaches_the_client_and_ends_the_connection() {
    let origin = Origin::start(|mut session| {
        session.head()?;
        session.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
    });
    let proxy = Setup::http(&[origin.address()]).start();
    let mut client = proxy.connect();
    client.say("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nonly a part");
    let answer = client.answer();
    assert_eq!((answer.status(), answer.text().as_str()), (413, "big"));
    client.expect_end();
}

#[test]
fn an_early_refusal_survives_a_client_that_sends_on() {
    let origin = Origin::start(|mut session| {
        session.head()?;
        session.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")?;
        session.wire.at_end();
        Ok(())
    });
    let proxy = Setup::http(&[origin.address()]).start();
    let mut client = proxy.connect();
    client.say("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    origin.request(0);
    for _ in 0..40 {
        match client.send(b"400\r\n".iter().chain(&[b'x'; 0x400]).chain(b"\r\n").copied().collect::<Vec<_>>())
        {
            Ok(()) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::BrokenPipe, "a reset would destroy the answer"),
        }
    }
    assert_eq!(client.answer().status(), 403);
}

#[test]
fn an_upstream_connection_with_half_a_request_is_not_used_again() {
    let origin = Origin::start(|mut session| {
        session.head()?;
        session.ok("early")?;
        session.wire.at_end();
        Ok(())
    });
    let proxy = Setup::http(&[origin.address()]).process("workers = 1").start();
    let mut client = proxy.connect();
    client.say("POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf");
    assert_eq!(client.answer().text(), "early");
    assert_eq!(proxy.get("/2").text(), "early");
    assert_eq!(origin.accepted(), 2);
}
