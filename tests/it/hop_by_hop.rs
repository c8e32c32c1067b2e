//! Fields for one hop end here, in both directions; what they name cannot take away what framing and trust stand on.

use crate::harness::origin::Origin;
use crate::harness::proxy::Setup;

#[test]
fn fields_for_one_hop_stay_on_it() {
    let origin = Origin::replying(
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: X-Back, keep-alive\r\nX-Back: 1\r\nKeep-Alive: timeout=9\r\n\
          Proxy-Connection: keep-alive\r\nX-Stay: 1\r\n\r\nok",
    );
    let proxy = Setup::http(&[origin.address()]).start();
    let answer = proxy.connect().say(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: X-There, keep-alive\r\nX-There: 1\r\nKeep-Alive: timeout=9\r\n\
         Proxy-Connection: keep-alive\r\nX-Stay: 1\r\n\r\n",
    ).answer();
    let request = origin.request(0);
    for (message, named) in [(&request, "x-there"), (&answer, "x-back")] {
        for name in [named, "keep-alive", "proxy-connection"] {
            assert_eq!(message.field(name), None, "{name}");
        }
        assert_eq!(message.field("x-stay").as_deref(), Some("1"));
    }
}

#[test]
fn te_goes_on_only_as_trailers() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).start();
    proxy
        .connect()
        .say("GET / HTTP/1.1\r\nHost: a\r\nConnection: TE\r\nTE: gzip, trailers;q=0.5\r\n\r\n")
        .answer();
    let te = origin.request(0).field("te");
    assert!(te.is_none() || te.as_deref() == Some("trailers"), "{te:?}");
}

#[test]
fn credentials_for_a_proxy_are_not_for_the_endpoint() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).start();
    proxy.connect().say("GET / HTTP/1.1\r\nHost: a\r\nProxy-Authorization: Basic eDp5\r\n\r\n").answer();
    assert_eq!(origin.request(0).field("proxy-authorization"), None);
}

#[test]
fn end_to_end_fields_arrive_in_order_and_as_written() {
    let origin = Origin::replying(
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nx-CASE: Kept\r\n\r\nok",
    );
    let proxy = Setup::http(&[origin.address()]).start();
    let answer = proxy
        .connect()
        .say("GET / HTTP/1.1\r\nHost: a\r\nCookie: a=1\r\nX-B: 1\r\nAccept: x\r\nX-B: 2\r\n\r\n")
        .answer();
    assert_eq!(origin.request(0).fields("x-b"), ["1", "2"]);
    assert_eq!(answer.fields("set-cookie"), ["a=1", "b=2"]);
    assert!(String::from_utf8_lossy(&answer.head).contains("x-CASE: Kept"));
}
