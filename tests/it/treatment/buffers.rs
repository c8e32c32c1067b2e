//! Bodies taken in ahead: slow clients hold no endpoint.

use super::{get, with};
use crate::harness::http2::{self, Session, give, request, whole};
use crate::harness::origin::Origin;
use crate::harness::proxy::Proxy;
use crate::harness::until;

/// An origin, and a proxy of which its pool has one place.
fn narrow(origin: &Origin, keys: &str) -> Proxy {
    with(origin, keys, "[defaults.pool]\nlimits = { max_requests = 1, queue = 0 }\n")
}

#[test]
fn an_endpoint_is_asked_once_the_body_is_there() {
    let origin = Origin::saying("ok");
    let proxy = narrow(&origin, "buffer_request = \"1MiB\"");
    let mut slow = proxy.connect();
    slow.say("POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc");
    let mut chunked = proxy.connect();
    chunked.say("POST /chunked HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nxy\r\n");
    // The one place is free.
    assert_eq!(get(&proxy, "/", "").text(), "ok");
    assert_eq!(slow.say("def").answer().text(), "ok");
    assert_eq!(chunked.say("1\r\nz\r\n0\r\n\r\n").answer().text(), "ok");
    let seen = origin.seen();
    assert_eq!((seen[1].text().as_str(), seen[1].path().as_str()), ("abcdef", "/slow"));
    assert_eq!((seen[2].text().as_str(), seen[2].path().as_str()), ("xyz", "/chunked"));
    assert_eq!(seen[2].fields("content-length"), ["3"], "its length is known by then");
    assert_eq!(seen[2].field("transfer-encoding"), None);
    proxy.until_metric("plimsoll_route_buffered_requests_total", "result=\"whole\"", 2.0);
    // The connection is in order.
    assert_eq!(slow.get("/again").text(), "ok");
}

#[test]
fn a_client_of_http2_is_waited_for_too() {
    let origin = Origin::saying("ok");
    let proxy = narrow(&origin, "buffer_request = \"1MiB\"");
    http2::run(async {
        let mut session = Session::connect(proxy.web).await;
        let (response, mut send) = session.open(request("POST", "/two"), false).await;
        // More than the window of the stream at once.
        give(&mut send, vec![b'a'; 300_000].into(), false).await.expect("it is taken in");
        assert_eq!(session.get("/").await.text(), "ok");
        give(&mut send, "b".into(), true).await.expect("it is taken in");
        assert_eq!(whole(response.await.expect("an answer")).await.expect("all of it").text(), "ok");
    });
    let seen = origin.request(1);
    assert_eq!((seen.body.len(), seen.path().as_str()), (300_001, "/two"));
    assert_eq!(seen.fields("content-length"), ["300001"]);
}

#[test]
fn a_larger_body_streams_on() {
    let origin = Origin::saying("ok");
    let proxy = narrow(&origin, "buffer_request = \"4B\"");
    let mut client = proxy.connect();
    client.say("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabcde");
    until("the endpoint to be asked", || {
        (proxy.endpoint("main", &origin.address().to_string())["in_flight"] == 1).then_some(())
    });
    assert_eq!(client.say("fghij").answer().text(), "ok");
    assert_eq!(origin.request(0).text(), "abcdefghij");
    proxy.until_metric("plimsoll_route_buffered_requests_total", "result=\"exceeded\"", 1.0);
}

#[test]
fn a_client_that_waits_for_leave_to_send_gets_it() {
    let origin = Origin::saying("ok");
    let proxy = narrow(&origin, "buffer_request = \"1MiB\"");
    let mut client = proxy.connect();
    client.say("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    assert_eq!(client.answer().status(), 100);
    assert_eq!(client.say("hi").answer().text(), "ok");
    let seen = origin.request(0);
    assert_eq!((seen.text().as_str(), seen.field("expect")), ("hi", None));
}

#[test]
fn a_body_that_stops_or_breaks_reaches_nobody() {
    let origin = Origin::saying("ok");
    let proxy = crate::harness::proxy::Setup::http(&[origin.address()])
        .listener("timeouts = { client_idle = \"100ms\" }")
        .routes("[[route]]\nname = \"all\"\npool = \"main\"\nbuffer_request = \"1MiB\"\n")
        .start();
    let mut client = proxy.connect();
    assert_eq!(
        client.say("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc").answer().status(),
        408
    );
    let mut client = proxy.connect();
    client.say("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n");
    assert_eq!(client.say("zz\r\n").answer().status(), 400);
    assert!(origin.seen().is_empty());
}

#[test]
fn an_endpoint_is_free_before_a_slow_client_has_everything() {
    const SIZE: usize = 8 << 20;
    let origin = Origin::start(|mut session| {
        while session.request()?.is_some() {
            session.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n"))?;
            session.send(vec![b'x'; SIZE])?;
        }
        Ok(())
    });
    let proxy = narrow(&origin, "buffer_response = \"16MiB\"");
    let mut slow = proxy.connect();
    slow.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let free = || proxy.endpoint("main", &origin.address().to_string())["in_flight"] == 0;
    until("the endpoint to be free", || (origin.seen().len() == 1 && free()).then_some(()));
    // It can be asked again, on the same connection.
    assert_eq!(get(&proxy, "/", "").body.len(), SIZE);
    assert_eq!(origin.accepted(), 1);
    assert_eq!(slow.answer().body.len(), SIZE);
    http2::run(async {
        let mut session = Session::connect(proxy.web).await;
        let (response, _) = session.open(request("GET", "/"), true).await;
        let response = response.await.expect("an answer");
        until("the endpoint to be free", || (origin.seen().len() == 3 && free()).then_some(()));
        assert_eq!(whole(response).await.expect("all of it").body.len(), SIZE);
    });
}
