//! `Expect: 100-continue` is the endpoint's to answer; interim responses go through, but never to HTTP/1.0.

use std::time::Duration;

use crate::harness::origin::Origin;
use crate::harness::proxy::Setup;

const HEAD: &str = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";

#[test]
fn the_body_is_sent_after_the_endpoint_says_continue() {
    let origin = Origin::start(|mut session| {
        let Some(mut request) = session.head()? else { return Ok(()) };
        session.send("HTTP/1.1 100 Continue\r\n\r\n")?;
        session.wire.request_body(&mut request)?;
        session.ok(&request.text())
    });
    let proxy = Setup::http(&[origin.address()]).start();
    let mut client = proxy.connect();
    assert_eq!(client.say(HEAD).answer().status(), 100);
    assert_eq!(client.say("hello").answer().text(), "hello");
}

#[test]
fn a_refusal_comes_before_the_body() {
    let origin = Origin::start(|mut session| {
        session.head()?;
        session.send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno")?;
        session.wire.at_end();
        Ok(())
    });
    let proxy = Setup::http(&[origin.address()]).start();
    let answer = proxy.connect().say(HEAD).answer();
    assert_eq!((answer.status(), answer.text().as_str()), (417, "no"));
}

#[test]
fn a_client_that_does_not_wait_is_not_made_to() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).start();
    let mut client = proxy.connect();
    client.say(HEAD).say("hello");
    let mut answer = client.answer();
    while answer.status() == 100 {
        answer = client.answer();
    }
    assert_eq!(answer.text(), "ok");
    assert_eq!(origin.request(0).text(), "hello");
}

#[test]
fn interim_responses_go_through_but_not_to_http_1_0() {
    let origin = Origin::start(|mut session| {
        while session.request()?.is_some() {
            session.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n")?;
            session.ok("ok")?;
        }
        Ok(())
    });
    let proxy = Setup::http(&[origin.address()]).start();
    let mut client = proxy.connect();
    let hints = client.get("/");
    assert_eq!((hints.status(), hints.field("link").as_deref()), (103, Some("</a.css>; rel=preload")));
    assert_eq!(client.answer().text(), "ok");
    let mut old = proxy.connect();
    assert_eq!(old.say("GET / HTTP/1.0\r\nHost: a\r\n\r\n").answer().status(), 200);
}

#[test]
fn nobody_is_told_to_continue_without_asking() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).start();
    let mut client = proxy.connect();
    client.say("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n");
    assert!(client.silent_for(Duration::from_millis(300)));
    assert_eq!(client.say("hello").answer().status(), 200);
}

#[test]
fn an_expectation_that_ends_here_leaves_a_stalling_client_to_blame() {
    let origin = Origin::start(|mut session| {
        session.head()?;
        session.wire.at_end();
        Ok(())
    });
    let proxy = Setup::http(&[origin.address()])
        .text("[listener.web.timeouts]\nclient_idle = \"300ms\"\n[pool.main.timeouts]\nresponse_header = \"10s\"")
        .start();
    let answer = proxy.ask(
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: expect\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
    );
    assert_eq!(answer.status(), 408);
    assert_eq!(proxy.records(1)[0]["end"], "client_timeout");
    assert_eq!(origin.request(0).field("expect"), None);
}
