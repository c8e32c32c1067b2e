//! Requests sent ahead are answered one by one, in order, and nothing after an end is looked at.

use crate::harness::origin::Origin;
use crate::harness::proxy::Setup;

fn echo_path() -> Origin {
    Origin::start(|mut session| {
        while let Some(request) = session.request()? {
            session.ok(&format!("{}{}", request.path(), request.text()))?;
        }
        Ok(())
    })
}

#[test]
fn a_hundred_requests_sent_at_once_are_answered_in_order() {
    let origin = echo_path();
    let proxy = Setup::http(&[origin.address()]).start();
    let mut client = proxy.connect();
    let one = |n: usize| match n % 3 {
        0 => format!("GET /{n}- HTTP/1.1\r\nHost: a\r\n\r\n"),
        1 => format!("POST /{n}- HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok"),
        _ => format!(
            "POST /{n}- HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
        ),
    };
    client.say((0..100).map(one).collect::<String>());
    for n in 0..100 {
        let body = if n % 3 == 0 { "" } else { "ok" };
        assert_eq!(client.answer().text(), format!("/{n}-{body}"));
    }
}

#[test]
fn answers_before_a_broken_request_still_come() {
    let origin = echo_path();
    let proxy = Setup::http(&[origin.address()]).start();
    let mut client = proxy.connect();
    client.say("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\nBROKEN\r\n\r\nGET /3 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer().text(), "/1");
    assert_eq!(client.answer().text(), "/2");
    assert_eq!(client.answer().status(), 400);
    client.expect_end();
    assert_eq!(origin.seen().len(), 2);
}

#[test]
fn nothing_is_processed_after_a_close() {
    let origin = echo_path();
    let proxy = Setup::http(&[origin.address()]).start();
    let mut client = proxy.connect();
    client.say("GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer().text(), "/1");
    client.expect_end();
    assert_eq!(origin.seen().len(), 1);
}
