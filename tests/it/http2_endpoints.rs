//! Endpoints that speak HTTP/2: requests of HTTP/1 clients go to them as streams of shared connections, and what they
//! give back goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;

use crate::harness::between::http2_origin;
use crate::harness::client::{Client, ask, get};
use crate::harness::clock::Moment;
use crate::harness::frames::{FrameOrigin, HEADERS, PING, RST_STREAM, STATUS_200, field};
use crate::harness::http2::give;
use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup};
use crate::harness::until;
use crate::harness::wire::Message;

const REFUSED_STREAM: u32 = 7;
const INTERNAL_ERROR: u32 = 2;

fn setup(endpoints: &[std::net::SocketAddr]) -> Setup {
    Setup::http(endpoints).process("workers = 1").pool("protocol = \"http2\"\nbalance = \"first\"")
}

fn post(proxy: &Proxy, body: &str) -> Message {
    let length = body.len();
    ask(proxy.web, format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}"))
}

/// The first endpoint's number of this name.
fn is(proxy: &Proxy, metric: &str, value: f64) -> bool {
    let text = proxy.admin_get("/metrics").text();
    let line = text.lines().find(|line| line.starts_with(metric)).expect("the metric");
    let number: f64 = line.rsplit(' ').next().and_then(|n| n.parse().ok()).expect("a number");
    (number - value).abs() < 0.5
}

fn attempts(proxy: &Proxy, count: usize) -> Vec<u64> {
    proxy.records(count).iter().map(|record| record["attempts"].as_u64().expect("a number")).collect()
}

#[test]
fn requests_share_a_connection() {
    let origin = FrameOrigin::saying("hello");
    let proxy = setup(&[origin.address]).start();
    for _ in 0..5 {
        assert_eq!(get(proxy.web, "/").text(), "hello");
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn bodies_go_both_ways_with_trailers_and_interim_answers() {
    let origin = FrameOrigin::start(&[], |mut session| {
        loop {
            let stream = session.next()?.stream;
            session.head(stream, &[&field(":status", "103")[..], &field("link", "</a>")].concat(), false)?;
            let mut bytes = 0;
            loop {
                let frame = session.next()?;
                bytes += frame.payload.len();
                if frame.ends() {
                    break;
                }
            }
            session.head(stream, STATUS_200, false)?;
            session.data(stream, bytes.to_string().as_bytes(), false)?;
            session.head(stream, &field("x-sum", "42"), true)?;
        }
    });
    let proxy = setup(&[origin.address]).start();
    let mut client = Client::connect(proxy.web);
    let body = "x".repeat(200_000);
    client
        .say(format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n", body.len()));
    client.say(&body).say("\r\n0\r\n\r\n");
    let interim = client.answer();
    assert_eq!((interim.status(), interim.field("link").as_deref()), (103, Some("</a>")));
    let answer = client.answer();
    assert_eq!((answer.status(), &*answer.text()), (200, "200000"));
    assert!(String::from_utf8_lossy(&client.received).contains("0\r\nx-sum: 42\r\n\r\n"));
}

#[test]
fn what_goaway_leaves_out_is_sent_again_whatever_its_method() {
    let origin = FrameOrigin::start(&[], |mut session| {
        if session.number == 1 {
            let (first, second) = (session.request()?, session.request()?);
            assert!(first < second);
            session.goaway(first)?;
            session.ok(first, "first connection")?;
            session.until_end();
            return Ok(());
        }
        loop {
            let stream = session.request()?;
            session.ok(stream, "second connection")?;
        }
    });
    let proxy = Arc::new(setup(&[origin.address]).start());
    let clients: Vec<_> = (0..2)
        .map(|_| {
            let proxy = Arc::clone(&proxy);
            thread::spawn(move || post(&proxy, "work").text())
        })
        .collect();
    let mut answers: Vec<_> = clients.into_iter().map(|client| client.join().expect("an answer")).collect();
    answers.sort();
    assert_eq!(answers, ["first connection", "second connection"]);
    assert_eq!(attempts(&proxy, 2), [1, 1]);
    assert!(is(&proxy, "plimsoll_endpoint_http2_goaways_total", 1.0));
    assert!(is(&proxy, "plimsoll_endpoint_http2_given_back_total", 1.0));
}

#[test]
fn what_goaway_leaves_out_again_is_sent_again() {
    const LAST: usize = 9;
    let origin = FrameOrigin::start(&[], |mut session| {
        let first = session.request()?;
        if session.number < LAST {
            session.request()?;
            session.goaway(first)?;
        }
        session.ok(first, "served")?;
        session.until_end();
        Ok(())
    });
    let proxy = Arc::new(setup(&[origin.address]).pool("limits = { http2_connections = 1 }").start());
    let clients: Vec<_> = (0..LAST)
        .map(|_| {
            let proxy = Arc::clone(&proxy);
            thread::spawn(move || post(&proxy, "work").text())
        })
        .collect();
    for client in clients {
        assert_eq!(client.join().expect("an answer"), "served");
    }
    assert_eq!(origin.connections(), LAST);
    assert_eq!(attempts(&proxy, LAST), [1; LAST]);
}

#[test]
fn a_tunnel_that_there_cannot_be_is_asked_for_once() {
    let origin = FrameOrigin::saying("no tunnel");
    let proxy = setup(&[origin.address]).start();
    let refused = ask(
        proxy.web,
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    assert_eq!(refused.status(), 502);
    assert!(is(&proxy, "plimsoll_endpoint_requests_total", 1.0));
}

#[test]
fn a_refused_stream_goes_elsewhere_and_is_no_failure() {
    let refusing = FrameOrigin::start(&[], |mut session| {
        loop {
            let stream = session.request()?;
            session.reset(stream, REFUSED_STREAM)?;
        }
    });
    let other = FrameOrigin::saying("other");
    let proxy = setup(&[refusing.address, other.address])
        .pool("[pool.main.outlier]\nconsecutive_failures = 1\n[pool.main.retry]\nattempts = 1")
        .start();
    for _ in 0..3 {
        assert_eq!(post(&proxy, "work").text(), "other");
    }
    assert_eq!(attempts(&proxy, 3), [1, 1, 1]);
    assert_eq!(refusing.connections(), 1);
    assert!(is(&proxy, "plimsoll_endpoint_ejections_total", 0.0));
}

#[test]
fn a_reset_stream_is_a_failure_and_only_what_may_be_done_twice_is() {
    let failing = FrameOrigin::start(&[], |mut session| {
        loop {
            let stream = session.request()?;
            session.reset(stream, INTERNAL_ERROR)?;
        }
    });
    let other = FrameOrigin::saying("other");
    let proxy = setup(&[failing.address, other.address])
        .pool("[pool.main.outlier]\nconsecutive_failures = 9")
        .start();
    assert_eq!(post(&proxy, "work").status(), 502);
    assert_eq!(get(proxy.web, "/").text(), "other");
    assert_eq!(attempts(&proxy, 2), [1, 2]);
}

#[test]
fn no_more_streams_are_opened_than_the_endpoint_takes() {
    let most = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&most);
    // SETTINGS_MAX_CONCURRENT_STREAMS = 1.
    let origin = FrameOrigin::start(&[0, 3, 0, 0, 0, 1], move |mut session| {
        loop {
            let stream = session.request()?;
            // Whoever comes now has not waited for its turn.
            session.send(PING, 0, 0, &[7; 8])?;
            loop {
                let frame = session.any()?;
                match frame.kind {
                    HEADERS => drop(seen.fetch_add(1, Ordering::SeqCst)),
                    PING if frame.payload == [7; 8] => break,
                    _ => {}
                }
            }
            session.ok(stream, "one at a time")?;
        }
    });
    let proxy = Arc::new(setup(&[origin.address]).pool("limits = { http2_connections = 1 }").start());
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let proxy = Arc::clone(&proxy);
            thread::spawn(move || get(proxy.web, "/").text())
        })
        .collect();
    for client in clients {
        assert_eq!(client.join().expect("an answer"), "one at a time");
    }
    assert_eq!((most.load(Ordering::SeqCst), origin.connections()), (0, 1));
}

#[test]
fn a_client_that_does_not_read_stops_its_stream_alone() {
    let origin = FrameOrigin::start(&[], |mut session| {
        let large = session.request()?;
        session.head(large, STATUS_200, false)?;
        // As much as the window of one stream allows, and no update will come for the rest.
        for _ in 0..8 {
            session.data(large, &[b'x'; 16 * 1024], false)?;
        }
        loop {
            let frame = session.next()?;
            if frame.kind == RST_STREAM {
                continue;
            }
            session.ok(frame.stream, "small")?;
        }
    });
    let proxy = setup(&[origin.address]).start();
    let mut slow = Client::connect(proxy.web);
    slow.say("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
    slow.fill().expect("the head of the large answer");
    assert_eq!(get(proxy.web, "/small").text(), "small");
    assert_eq!(origin.connections(), 1);
}

/// Sends as many bytes as its path says.
fn sized() -> std::net::SocketAddr {
    http2_origin(|request, mut respond| async move {
        let size = request.uri().path()[1..].parse().ok()?;
        let mut send = respond.send_response(http::Response::new(()), false).ok()?;
        give(&mut send, Bytes::from(vec![b'x'; size]), true).await.ok()
    })
}

#[test]
fn a_client_that_stalls_at_the_very_end_of_an_answer_is_given_up() {
    let proxy = setup(&[sized()]).listener("timeouts = { client_idle = \"300ms\" }").start();
    let ask = |size: u64| {
        let mut client = Client::connect(proxy.web);
        client.say(format!("GET /{size} HTTP/1.1\r\nHost: a\r\n\r\n"));
        client
    };
    // What its socket and the kernel take of an answer that it does not read, and a block or two that wait here.
    let stalled = ask(1 << 30);
    let taken = proxy.records(1)[0]["bytes_out"].as_u64().expect("a number");
    // Somewhere between one that fits and one that does not, all is given and the last of it does not go.
    let sizes: Vec<u64> = (0..32).map(|i| taken - (12 << 13) + (i << 13)).collect();
    let clients: Vec<_> = sizes.iter().map(|&size| ask(size)).collect();
    let records = proxy.records(1 + sizes.len());
    let ends = |end: &str| records[1..].iter().filter(|record| record["end"] == end).count();
    assert!(
        ends("client_timeout") > 0 && ends("client_timeout") + ends("done") == sizes.len(),
        "{records:?}"
    );
    let whole = |r: &&serde_json::Value| {
        r["end"] == "client_timeout"
            && format!("/{}", r["bytes_out"]) == r["target"].as_str().unwrap_or_default()
    };
    assert!(records[1..].iter().any(|r| whole(&r)), "none had been given whole: {records:?}");
    drop((stalled, clients));
}

#[test]
fn a_silent_connection_is_found_out_by_ping() {
    let origin = FrameOrigin::start(&[], |mut session| {
        session.pongs = session.number > 1;
        loop {
            let stream = session.request()?;
            if session.number > 1 {
                session.ok(stream, "alive")?;
            }
        }
    });
    let proxy = setup(&[origin.address]).pool("timeouts = { http2_ping = \"200ms\" }").start();
    let start = Moment::now();
    assert_eq!(get(proxy.web, "/").text(), "alive");
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(is(&proxy, "plimsoll_endpoint_http2_silent_total", 1.0));
}

#[test]
fn an_idle_connection_is_closed_in_good_order() {
    let closed = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&closed);
    let origin = FrameOrigin::start(&[], move |mut session| {
        let stream = session.request()?;
        session.ok(stream, "once")?;
        // Only GOAWAY comes before the end.
        while let Ok(frame) = session.next() {
            assert_eq!(frame.kind, crate::harness::frames::GOAWAY);
        }
        seen.fetch_add(1, Ordering::SeqCst);
        Ok(())
    });
    let proxy = setup(&[origin.address]).pool("timeouts = { keep_alive = \"100ms\" }").start();
    assert_eq!(get(proxy.web, "/").text(), "once");
    until("the end of the idle connection", || (closed.load(Ordering::SeqCst) == 1).then_some(()));
    assert!(is(&proxy, "plimsoll_endpoint_idle_connections", 0.0));
}

#[test]
fn an_endpoint_without_http2_cannot_be_connected_to() {
    let origin = Origin::saying("HTTP/1 alone");
    let proxy = setup(&[origin.address()]).start();
    assert_eq!(get(proxy.web, "/").status(), 503);
}
