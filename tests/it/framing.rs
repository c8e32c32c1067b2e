//! Bodies arrive as they were sent, in every framing, and what is incomplete stays visibly incomplete.

use crate::harness::origin::Origin;
use crate::harness::proxy::Setup;

#[test]
fn a_body_of_known_length_arrives_with_its_length() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).start();
    assert_eq!(proxy.connect().post("/x?y=1", "hello").text(), "ok");
    let request = origin.request(0);
    assert_eq!(request.start_line(), "POST /x?y=1 HTTP/1.1");
    assert_eq!((request.field("content-length").as_deref(), request.text().as_str()), (Some("5"), "hello"));
}

#[test]
fn a_chunked_body_arrives_however_it_is_cut_on_the_wire() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).start();
    let mut client = proxy.connect();
    let bytes = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\nA\r\n, proxies!\r\n0\r\n\r\n";
    for byte in bytes {
        client.say([*byte]);
    }
    assert_eq!(client.answer().status(), 200);
    let request = origin.request(0);
    assert_eq!(request.text(), "hello, proxies!");
    assert_eq!(request.field("content-length"), None);
}

#[test]
fn an_http_1_0_client_gets_a_chunked_answer_without_its_chunks() {
    let origin = Origin::replying(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\nX-T: 1\r\n\r\n",
    );
    let proxy = Setup::http(&[origin.address()]).start();
    let mut client = proxy.connect();
    let answer = client.say("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n").answer();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "hello world"));
    assert_eq!(answer.field("transfer-encoding"), None);
    client.expect_end();
}

#[test]
fn answers_without_a_body_keep_the_connection_usable() {
    let origin = Origin::start(|mut session| {
        while let Some(request) = session.request()? {
            match request.path().as_str() {
                "/204" => session.send("HTTP/1.1 204 No Content\r\n\r\n")?,
                "/304" => {
                    session.send("HTTP/1.1 304 Not Modified\r\nContent-Length: 70\r\nETag: \"a\"\r\n\r\n")?
                }
                "/head" => session.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?,
                _ => session.ok("last")?,
            }
        }
        Ok(())
    });
    let proxy = Setup::http(&[origin.address()]).start();
    let mut client = proxy.connect();
    assert_eq!(client.get("/204").status(), 204);
    assert_eq!(client.get("/304").status(), 304);
    assert_eq!(client.say("HEAD /head HTTP/1.1\r\nHost: a\r\n\r\n").answer_to("HEAD").status(), 200);
    assert_eq!(client.get("/").text(), "last");
}

#[test]
fn a_head_answer_keeps_the_length_it_announces() {
    let origin = Origin::replying(b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n");
    let proxy = Setup::http(&[origin.address()]).start();
    let mut client = proxy.connect();
    let answer = client.say("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").answer_to("HEAD");
    assert_eq!(answer.field("content-length").as_deref(), Some("1234"));
}

#[test]
fn a_close_delimited_answer_arrives_whole() {
    let origin = Origin::start(|mut session| {
        session.request()?;
        session.send("HTTP/1.1 200 OK\r\n\r\n")?;
        for _ in 0..50 {
            session.send("0123456789".repeat(1000))?;
        }
        Ok(())
    });
    let proxy = Setup::http(&[origin.address()]).start();
    let answer = proxy.connect().get("/");
    assert_eq!(answer.text(), "0123456789".repeat(50_000));
}

#[test]
fn a_truncated_answer_is_seen_to_be_truncated() {
    let length = Origin::replying(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
    let chunks = Origin::replying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    for origin in [length, chunks] {
        let proxy = Setup::http(&[origin.address()]).start();
        let mut client = proxy.connect();
        client.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(client.response("GET").is_err(), "half an answer looks like a whole one");
    }
}

#[test]
fn a_truncated_request_never_becomes_a_whole_one() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).start();
    for half in ["Content-Length: 10\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"] {
        let mut client = proxy.connect();
        client.say(format!("POST / HTTP/1.1\r\nHost: a\r\n{half}"));
        client.finish().expect("a FIN");
        let rest = client.rest().unwrap_or_default();
        assert!(!rest.starts_with(b"HTTP/1.1 200"), "half a request was answered");
    }
    assert!(origin.seen().is_empty());
}

#[test]
fn trailers_of_an_answer_reach_a_client_that_takes_them() {
    let origin = Origin::replying(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
    );
    let proxy = Setup::http(&[origin.address()]).start();
    let mut client = proxy.connect();
    client.say("GET / HTTP/1.1\r\nHost: a\r\nConnection: TE\r\nTE: trailers\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.text().as_str(), answer.field("x-sum")), ("hello", None));
    assert!(answer.trailers.eq_ignore_ascii_case(b"X-Sum: 1"));
}
