//! WebSocket from an HTTP/2 client (RFC 8441) to an HTTP/1 endpoint.

use bytes::Bytes;
use h2::ext::Protocol;
use http::Request;

use super::before;
use crate::harness::http2::{self, Session};
use crate::harness::origin::{Origin, Session as Peer};
use crate::harness::until;

/// What an endpoint makes of a key (RFC 6455 section 4.2.2).
pub(super) fn accept(key: &str) -> String {
    let digest = aws_lc_rs::digest::digest(
        &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY,
        format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes(),
    );
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in digest.as_ref().chunks(3) {
        let bits = group.iter().fold(0u32, |bits, &b| bits << 8 | u32::from(b)) << (8 * (3 - group.len()));
        (0..=group.len()).for_each(|i| text.push(char::from(DIGITS[(bits >> (18 - 6 * i)) as usize & 63])));
        (group.len()..3).for_each(|_| text.push('='));
    }
    text
}

/// Switches, then gives back every byte until the client ends its side.
fn switch(session: &mut Peer) -> std::io::Result<()> {
    let key = loop {
        let Some(request) = session.request()? else { return Ok(()) };
        match request.field("sec-websocket-key") {
            Some(key) => break key,
            None => session.ok("ok")?,
        }
    };
    session.send(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\
         Sec-WebSocket-Protocol: chat\r\n\r\nhello ",
        accept(&key)
    ))?;
    while let Ok(byte) = session.wire.take(1) {
        session.send(byte)?;
    }
    session.send("bye")
}

fn connect(protocol: &'static str) -> Request<()> {
    let mut request = Request::builder().method("CONNECT").uri("http://a/chat");
    request = request.header("sec-websocket-version", "13").header("sec-websocket-protocol", "chat");
    let mut request = request.body(()).expect("a request");
    request.extensions_mut().insert(Protocol::from_static(protocol));
    request
}

#[test]
fn a_tunnel_passes_bytes_both_ways_and_each_ends_for_itself() {
    let origin = Origin::start(|mut session| switch(&mut session));
    let proxy = before(&origin).start();
    let text = http2::run(async {
        let mut session = Session::connect(proxy.web).await;
        session.get("/first").await;
        assert!(session.is_extended_connect_on());
        let (response, mut send) = session.open(connect("websocket"), false).await;
        let response = response.await.expect("an answer");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
        assert!(!response.headers().contains_key("sec-websocket-accept"));
        http2::give(&mut send, Bytes::from_static(b"dear endpoint"), true).await.expect("it is taken");
        http2::whole(response).await.expect("a body").text()
    });
    assert_eq!(text, "hello dear endpointbye");
    let seen = origin.request(1);
    assert_eq!(seen.start_line(), "GET /chat HTTP/1.1");
    assert_eq!(
        (seen.field("upgrade").as_deref(), seen.field("connection").as_deref()),
        (Some("websocket"), Some("Upgrade"))
    );
    assert_eq!(seen.field("sec-websocket-version").as_deref(), Some("13"));
    let records = proxy.records(2);
    let record = &records[1];
    assert_eq!((&record["bytes_in"], &record["bytes_out"]), (&13.into(), &22.into()), "{record}");
    assert_eq!((&record["end"], &record["status"]), (&"done".into(), &200.into()), "{record}");
}

#[test]
fn a_tunnel_is_granted_only_by_one_who_understood() {
    for (reply, status) in [
        (
            "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: wrong\r\n\r\n",
            502,
        ),
        ("HTTP/1.1 101 X\r\nUpgrade: other\r\nConnection: Upgrade\r\n\r\n", 502),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 501),
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", 403),
    ] {
        let origin = Origin::replying(reply.as_bytes());
        let proxy = before(&origin).pool("retry = \"off\"").start();
        let answer = http2::run(async {
            let mut session = Session::connect(proxy.web).await;
            tokio::task::yield_now().await;
            let (response, _send) = session.open(connect("websocket"), false).await;
            http2::whole(response.await.expect("an answer")).await.expect("a body")
        });
        assert_eq!(answer.status, status, "{reply}");
        assert_eq!(answer.text(), if status == 403 { "no" } else { answer.text().leak() });
    }
}

#[test]
fn other_kinds_of_connect_are_not_spoken() {
    let origin = Origin::saying("ok");
    let proxy = before(&origin).start();
    http2::run(async {
        let mut session = Session::connect(proxy.web).await;
        let (response, _send) = session.open(connect("connect-udp"), false).await;
        assert_eq!(response.await.expect("an answer").status(), 501);
        let plain = Request::builder().method("CONNECT").uri("a:443").body(()).expect("a request");
        let (response, _send) = session.open(plain, false).await;
        assert_eq!(response.await.expect("an answer").status(), 501);
    });
    assert!(origin.seen().is_empty());
}

#[test]
fn a_quiet_tunnel_ends_after_its_time() {
    let origin = Origin::start(|mut session| switch(&mut session));
    let proxy = before(&origin).pool("timeouts = { tunnel = \"300ms\" }").start();
    let error = http2::run(async {
        let mut session = Session::connect(proxy.web).await;
        let (response, _send) = session.open(connect("websocket"), false).await;
        http2::whole(response.await.expect("an answer")).await.expect_err("it is cut off")
    });
    assert_eq!(error.reason(), Some(h2::Reason::CANCEL));
    assert_eq!(proxy.records(1)[0]["end"], "idle_timeout");
    until("the endpoint's connection to close", || (origin.open() == 0).then_some(()));
}

#[test]
fn a_client_that_breaks_its_tunnel_breaks_the_endpoint_s() {
    let origin = Origin::start(|mut session| switch(&mut session));
    let proxy = before(&origin).start();
    http2::run(async {
        let mut session = Session::connect(proxy.web).await;
        let (response, mut send) = session.open(connect("websocket"), false).await;
        let _response = response.await.expect("an answer");
        send.send_reset(h2::Reason::CANCEL);
        session.get("/after").await;
    });
    assert_eq!(proxy.records(2).iter().filter(|record| record["end"] == "client_aborted").count(), 1);
    // The other one is kept for the next request.
    until("the endpoint's connection to close", || (origin.open() == 1).then_some(()));
}
