//! What is tried again, where, and above all what is not.

use std::net::SocketAddr;

use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup};
use crate::harness::{free_port, own_ip};

/// An origin that takes a request and closes without a byte.
fn breaking() -> Origin {
    Origin::start(|mut session| {
        session.request()?;
        Ok(())
    })
}

fn dead() -> SocketAddr {
    free_port(own_ip())
}

/// `first` is asked first, always.
fn in_order(endpoints: &[SocketAddr], more: &str) -> Proxy {
    Setup::http(endpoints).pool("balance = \"first\"").text(more).start()
}

fn ask(proxy: &Proxy, method: &str) -> u16 {
    proxy
        .ask(format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"))
        .status()
}

#[test]
fn a_failed_connect_goes_elsewhere_for_every_method() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[dead(), origin.address(), dead()]).pool("balance = \"round_robin\"").start();
    for method in ["GET", "POST", "PATCH", "PUT", "BREW"] {
        for _ in 0..6 {
            assert_eq!(ask(&proxy, method), 200, "{method}");
        }
    }
    assert_eq!(origin.seen().len(), 30);
    assert!(origin.seen().iter().all(|seen| seen.text() == "hi"));
}

#[test]
fn more_dead_endpoints_than_attempts_do_not_matter() {
    let origin = Origin::saying("ok");
    let mut endpoints: Vec<_> = (0..6).map(|_| dead()).collect();
    endpoints.push(origin.address());
    let proxy = in_order(&endpoints, "");
    assert_eq!(ask(&proxy, "GET"), 200);
}

#[test]
fn nothing_but_dead_endpoints_is_503_with_retry_after() {
    let proxy = Setup::http(&[dead(), dead()]).start();
    let answer = proxy.get("/");
    assert_eq!(answer.status(), 503);
    assert!(answer.field("retry-after").is_some_and(|seconds| seconds.parse::<u32>().is_ok()));
    let record = &proxy.records(1)[0];
    assert_eq!((&record["end"], &record["status"]), (&"connect_failed".into(), &503.into()));
}

#[test]
fn an_idempotent_request_that_broke_goes_elsewhere() {
    for method in ["GET", "PUT", "DELETE", "OPTIONS"] {
        let (broken, good) = (breaking(), Origin::saying("ok"));
        let proxy = in_order(&[broken.address(), good.address()], "");
        assert_eq!(ask(&proxy, method), 200, "{method}");
        assert_eq!((broken.seen().len(), good.seen().len()), (1, 1), "{method}");
        assert_eq!(good.request(0).text(), "hi");
        assert_eq!(proxy.records(1)[0]["attempts"], 2);
    }
}

#[test]
fn a_request_that_may_have_been_processed_is_never_sent_twice() {
    for method in ["POST", "PATCH", "BREW"] {
        let (broken, good) = (breaking(), Origin::saying("ok"));
        let proxy = in_order(&[broken.address(), good.address()], "");
        assert_eq!(ask(&proxy, method), 502, "{method}");
        assert_eq!((broken.seen().len(), good.seen().len()), (1, 0), "{method}");
    }
}

#[test]
fn half_an_answer_is_no_reason_to_ask_another() {
    let broken = Origin::replying(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
    let good = Origin::saying("ok");
    let proxy = in_order(&[broken.address(), good.address()], "");
    let mut client = proxy.connect();
    client.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.response("GET").is_err());
    assert!(good.seen().is_empty());
}

#[test]
fn a_body_too_large_to_keep_is_not_repeated() {
    let (broken, good) = (breaking(), Origin::saying("ok"));
    let proxy = in_order(&[broken.address(), good.address()], "[pool.main.retry]\nmax_body = \"1KiB\"");
    let body = "x".repeat(4096);
    let answer = proxy.ask(format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4096\r\n\r\n{body}"));
    assert_eq!((answer.status(), good.seen().len()), (502, 0));
}

#[test]
fn retry_off_is_one_attempt() {
    let (broken, good) = (breaking(), Origin::saying("ok"));
    let proxy = Setup::http(&[broken.address(), good.address()])
        .pool("balance = \"first\"")
        .pool("retry = \"off\"")
        .start();
    assert_eq!(ask(&proxy, "GET"), 502);
    assert!(good.seen().is_empty());
}

#[test]
fn attempts_bound_how_many_endpoints_are_asked() {
    let origins: Vec<Origin> = (0..5).map(|_| breaking()).collect();
    let addresses: Vec<_> = origins.iter().map(Origin::address).collect();
    let proxy = in_order(&addresses, "");
    assert_eq!(ask(&proxy, "GET"), 502);
    let asked: Vec<_> = origins.iter().map(|origin| origin.seen().len()).collect();
    assert_eq!(asked.iter().sum::<usize>(), 3, "{asked:?}");
    assert!(asked.iter().all(|&count| count <= 1), "{asked:?}");
}

#[test]
fn a_listed_status_goes_elsewhere_only_where_it_is_safe() {
    let busy = Origin::start(|mut session| {
        while session.request()?.is_some() {
            session.send("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy")?;
        }
        Ok(())
    });
    let good = Origin::saying("ok");
    let proxy = in_order(&[busy.address(), good.address()], "[pool.main.retry]\non = [\"connect\", \"503\"]");
    assert_eq!((ask(&proxy, "GET"), ask(&proxy, "POST")), (200, 503));
    let plain = in_order(&[busy.address(), good.address()], "");
    assert_eq!(ask(&plain, "GET"), 503);
}

#[test]
fn a_timeout_goes_elsewhere_only_when_listed() {
    let slow = Origin::start(|mut session| {
        while session.request()?.is_some() {}
        Ok(())
    });
    let good = Origin::saying("ok");
    let wait = "[pool.main.timeouts]\nresponse_header = \"300ms\"\n";
    let plain = in_order(&[slow.address(), good.address()], wait);
    assert_eq!(ask(&plain, "GET"), 504);
    let listed =
        in_order(&[slow.address(), good.address()], &format!("{wait}[pool.main.retry]\non = [\"timeout\"]"));
    assert_eq!((ask(&listed, "GET"), ask(&listed, "POST")), (200, 504));
}

#[test]
fn an_endpoint_that_talks_nonsense_is_502() {
    let origin = Origin::replying(b"220 mail.example ESMTP\r\n\r\n");
    let proxy = Setup::http(&[origin.address()]).start();
    assert_eq!(proxy.get("/").status(), 502);
    assert_eq!(proxy.records(1)[0]["end"], "endpoint_invalid");
}
