//! Every wait ends: each timeout with its own status, its own side, and nothing sent to those who asked nothing.

use std::net::TcpStream;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::harness::origin::Origin;
use crate::harness::own_ip;
use crate::harness::proxy::Setup;

/// An origin that reads requests and never answers.
fn silent() -> Origin {
    Origin::start(|mut session| {
        while session.request()?.is_some() {}
        Ok(())
    })
}

#[test]
fn a_slow_head_gets_408() {
    let origin = Origin::saying("ok");
    let proxy =
        Setup::http(&[origin.address()]).text("[listener.web.timeouts]\nrequest_header = \"300ms\"").start();
    let mut client = proxy.connect();
    client.say("GET / HTTP/1.1\r\nHost: ");
    let answer = client.answer();
    assert_eq!(answer.status(), 408);
    assert_eq!(answer.field("connection").map(|v| v.to_lowercase()).as_deref(), Some("close"));
    client.expect_end();
    assert_eq!(proxy.records(1)[0]["end"], "client_timeout");
}

#[test]
fn a_head_that_trickles_gets_408_all_the_same() {
    let origin = Origin::saying("ok");
    let proxy =
        Setup::http(&[origin.address()]).text("[listener.web.timeouts]\nrequest_header = \"300ms\"").start();
    let mut client = proxy.connect();
    client.say("GET / HTTP/1.1\r\nX: ");
    while client.silent_for(Duration::from_millis(50)) && client.send("y").is_ok() {}
    assert_eq!(client.answer().status(), 408);
}

#[test]
fn an_idle_connection_closes_without_a_word() {
    let origin = Origin::saying("ok");
    let proxy =
        Setup::http(&[origin.address()]).text("[listener.web.timeouts]\nkeep_alive = \"300ms\"").start();
    let mut client = proxy.connect();
    client.get("/");
    client.expect_end();
}

#[test]
fn a_stalled_request_body_gets_408() {
    let origin = Origin::saying("ok");
    let proxy =
        Setup::http(&[origin.address()]).text("[listener.web.timeouts]\nclient_idle = \"300ms\"").start();
    let mut client = proxy.connect();
    client.say("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 209\r\n\r\n208 bytes or less");
    assert_eq!(client.answer().status(), 408);
    client.expect_end();
    assert!(origin.seen().is_empty(), "half a request counts as none");
}

#[test]
fn a_body_that_moves_slowly_is_no_stall() {
    let origin = Origin::saying("ok");
    let proxy =
        Setup::http(&[origin.address()]).text("[listener.web.timeouts]\nclient_idle = \"600ms\"").start();
    let mut client = proxy.connect();
    client.say("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n");
    for _ in 0..12 {
        assert!(client.silent_for(Duration::from_millis(100)));
        client.say("x");
    }
    assert_eq!(client.answer().status(), 200);
}

#[test]
fn a_slow_endpoint_gets_504() {
    let origin = silent();
    let proxy =
        Setup::http(&[origin.address()]).text("[pool.main.timeouts]\nresponse_header = \"300ms\"").start();
    let mut client = proxy.connect();
    assert_eq!(client.get("/").status(), 504);
    assert_eq!(proxy.records(1)[0]["end"], "endpoint_timeout");
}

#[test]
fn a_route_can_wait_longer_or_shorter_than_its_pool() {
    let origin = silent();
    let proxy = Setup::http(&[origin.address()])
        .routes("[[route]]\nname = \"fast\"\npool = \"main\"\ntimeouts = { response_header = \"200ms\" }\n")
        .start();
    assert_eq!(proxy.get("/").status(), 504);
}

#[test]
fn a_stalled_answer_is_cut_not_completed() {
    let origin = Origin::start(|mut session| {
        session.request()?;
        session.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")?;
        session.wire.at_end();
        Ok(())
    });
    let proxy = Setup::http(&[origin.address()]).text("[pool.main.timeouts]\nidle = \"300ms\"").start();
    let mut client = proxy.connect();
    client.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.response("GET").is_err());
    assert_eq!(proxy.records(1)[0]["end"], "endpoint_timeout");
}

#[test]
fn waiting_in_the_queue_for_too_long_gets_503() {
    let origin = silent();
    let proxy = Setup::http(&[origin.address()])
        .text("[pool.main.limits]\nmax_requests = 1\nqueue_timeout = \"300ms\"")
        .start();
    let mut first = proxy.connect();
    first.say("GET /first HTTP/1.1\r\nHost: a\r\n\r\n");
    origin.request(0);
    let answer = proxy.get("/second");
    assert_eq!(answer.status(), 503);
    assert!(answer.field("retry-after").is_some());
    assert_eq!(origin.seen().len(), 1);
    assert_eq!(proxy.records(1)[0]["end"], "queue_timeout");
}

/// A port whose backlog is full: the kernel drops what comes, as a host that is gone does.
#[test]
fn a_connection_that_does_not_come_about_goes_elsewhere_or_gets_503() {
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    full.bind(&std::net::SocketAddr::from((own_ip(), 0)).into()).expect("a port");
    full.listen(0).expect("a listener");
    let address = full.local_addr().expect("an address").as_socket().expect("an IP address");
    let filling: Vec<_> =
        (0..3).map(|_| TcpStream::connect_timeout(&address, Duration::from_millis(200))).collect();
    assert!(filling.iter().any(Result::is_err), "the backlog is not full");
    let alone = Setup::http(&[address]).text("[pool.main.timeouts]\nconnect = \"300ms\"").start();
    let answer = alone.get("/");
    assert_eq!(answer.status(), 503);
    assert!(answer.field("retry-after").is_some());
    let origin = Origin::saying("ok");
    let two = Setup::http(&[address, origin.address()])
        .pool("balance = \"first\"")
        .text("[pool.main.timeouts]\nconnect = \"300ms\"")
        .start();
    assert_eq!(two.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").text(), "ok");
}
