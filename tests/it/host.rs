//! Host and the authority of an absolute target: what HAProxy's h1_host_normalization and authority tests show, except
//! where RFC 9112 3.2.2 rules otherwise: a Host that differs from an absolute target is replaced or refused.

use crate::harness::origin::Origin;
use crate::harness::proxy::Setup;

#[test]
fn an_absolute_target_decides_and_a_default_port_goes() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).start();
    let cases = [
        ("http://h/x", "h", "h"),
        ("http://h:80/x", "h", "h"),
        ("http://h:80/x", "h:80", "h"),
        ("http://h:80/x", "h:", "h"),
        ("http://h:/x", "h", "h"),
        ("http://h:8080/x", "h:8080", "h:8080"),
        ("http://h?a=b", "h", "h"),
        ("http://H/x", "h", "h"),
    ];
    for (place, (target, host, seen)) in cases.iter().enumerate() {
        let answer = proxy.ask(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
        assert_eq!(answer.status(), 200, "{target} with {host}");
        assert_eq!(
            origin.request(place).fields("host").concat().to_lowercase(),
            *seen,
            "{target} with {host}"
        );
    }
    assert_eq!(origin.request(6).path(), "/?a=b");
}

#[test]
fn a_host_that_differs_never_reaches_the_endpoint() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).start();
    for (target, host) in
        [("http://h1/", "h2"), ("http://h:80/", "h:81"), ("http://h:8080/", "h"), ("http://u:p@h/", "u")]
    {
        let before = origin.seen().len();
        let answer = proxy.ask(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
        match answer.status() {
            400 => assert_eq!(origin.seen().len(), before),
            200 => assert_ne!(origin.request(before).fields("host"), [host], "{target}"),
            other => panic!("{target} with {host}: status {other}"),
        }
    }
}

#[test]
fn what_is_no_host_is_refused() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).start();
    let cases = [
        "GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n",
        "GET http://h/ HTTP/1.1\r\nHost: h\r\nHost: h:80\r\n",
        "GET http://hostname#frag HTTP/1.1\r\nHost: hostname\r\n",
        "GET / HTTP/1.1\r\nHost: h#frag\r\n",
        "CONNECT h HTTP/1.1\r\nHost: h\r\n",
        "CONNECT h:80 HTTP/1.1\r\nHost: h:81\r\n",
        "GET / BAD-VERSION\r\nHost: h\r\n",
        "PRI * HTTP/2.0\r\n",
    ];
    for case in cases {
        let status = proxy.ask(format!("{case}\r\n")).status();
        assert!((400..600).contains(&status), "{case}: status {status}");
    }
    assert!(origin.seen().is_empty());
}
