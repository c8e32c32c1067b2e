//! Upgraded connections are tunnels, byte for byte; h2c is never relayed; a plain answer stays HTTP.

use std::io;
use std::time::Duration;

use crate::harness::origin::{Origin, Session};
use crate::harness::proxy::Setup;

const HANDSHAKE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Switches, greets in the same segment, then echoes until the end.
fn echo(mut session: Session) -> io::Result<()> {
    session.head()?;
    session.send(format!("{SWITCHING}greeting"))?;
    loop {
        let before = session.wire.received.len();
        if session.wire.fill()? == 0 {
            return session.send("bye");
        }
        let new = session.wire.received[before..].to_vec();
        session.send(new)?;
    }
}

#[test]
fn a_websocket_is_a_tunnel_with_half_close() {
    let origin = Origin::start(echo);
    let proxy = Setup::http(&[origin.address()]).start();
    let mut client = proxy.connect();
    let answer = client.say(HANDSHAKE).answer();
    assert_eq!(answer.status(), 101);
    assert_eq!(answer.field("upgrade").as_deref(), Some("websocket"));
    assert_eq!(answer.field("connection").map(|v| v.to_lowercase()).as_deref(), Some("upgrade"));
    assert_eq!(client.take(8).expect("the greeting"), b"greeting");
    client.say(b"\x81\x05\x00\xff\r\n\r\n");
    assert_eq!(client.take(8).expect("an echo"), b"\x81\x05\x00\xff\r\n\r\n");
    client.finish().expect("a FIN");
    assert_eq!(client.rest().expect("the other half"), b"bye");
    let request = origin.request(0);
    assert_eq!(request.field("upgrade").as_deref(), Some("websocket"));
    assert_eq!(request.field("sec-websocket-key").as_deref(), Some("dGhlIHNhbXBsZSBub25jZQ=="));
}

#[test]
fn another_protocol_is_tunnelled_too() {
    let origin = Origin::start(|mut session| {
        session.head()?;
        session.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: custom_protocol\r\n\r\n",
        )?;
        let said = session.wire.take(4)?;
        session.send(said)
    });
    let proxy = Setup::http(&[origin.address()]).start();
    let mut client = proxy.connect();
    client.say("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: custom_protocol\r\n\r\n");
    assert_eq!(client.answer().status(), 101);
    assert_eq!(client.say("ping").take(4).expect("an echo"), b"ping");
    client.expect_end();
}

#[test]
fn a_plain_answer_to_an_upgrade_stays_http() {
    let origin = Origin::saying("no");
    let proxy = Setup::http(&[origin.address()]).start();
    let mut client = proxy.connect();
    assert_eq!(client.say(HANDSHAKE).answer().text(), "no");
    assert_eq!(client.get("/").text(), "no");
}

#[test]
fn h2c_is_answered_as_http_1_and_never_relayed() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).start();
    let answer = proxy
        .connect()
        .say(
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\nContent-Length: 2\r\n\r\nhi",
        )
        .answer();
    assert_eq!(answer.text(), "ok");
    let request = origin.request(0);
    assert_eq!((request.field("upgrade"), request.field("http2-settings")), (None, None));
    assert_eq!(request.text(), "hi");
}

#[test]
fn switching_before_the_request_is_complete_is_refused() {
    let origin = Origin::start(|mut session| {
        session.head()?;
        session.send(SWITCHING)?;
        session.wire.at_end();
        Ok(())
    });
    let proxy = Setup::http(&[origin.address()]).start();
    let mut client = proxy.connect();
    client.say(
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 100\r\n\r\nhalf",
    );
    assert_eq!(client.answer().status(), 502);
}

#[test]
fn a_silent_tunnel_ends() {
    let origin = Origin::start(echo);
    let proxy = Setup::http(&[origin.address()]).text("[pool.main.timeouts]\ntunnel = \"500ms\"").start();
    let mut client = proxy.connect();
    assert_eq!(client.say(HANDSHAKE).answer().status(), 101);
    assert_eq!(client.take(8).expect("the greeting"), b"greeting");
    client.set_patience(Duration::from_secs(10));
    client.expect_end();
}

#[test]
fn an_endpoint_that_wants_an_upgrade_is_heard_also_where_the_connection_closes() {
    let origin = Origin::start(|mut session| {
        while session.request()?.is_some() {
            session.send(
                "HTTP/1.1 426 Upgrade Required\r\nConnection: Upgrade\r\nUpgrade: custom_protocol\r\nContent-Length: 0\r\n\r\n",
            )?;
        }
        Ok(())
    });
    let proxy = Setup::http(&[origin.address()]).start();
    for (connection, want) in [("", "Upgrade"), ("Connection: close\r\n", "close, Upgrade")] {
        let answer = proxy.ask(format!("GET / HTTP/1.1\r\nHost: a\r\n{connection}\r\n"));
        assert_eq!(answer.status(), 426);
        assert_eq!(answer.field("upgrade").as_deref(), Some("custom_protocol"));
        assert_eq!(answer.field("connection").as_deref(), Some(want));
    }
}
