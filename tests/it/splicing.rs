//! Large bodies, for which bytes move inside the kernel, arrive intact in every framing and both directions.

use std::io;
use std::thread;

use crate::harness::origin::{Origin, Session};
use crate::harness::proxy::{Proxy, Setup};
use crate::harness::wire::Message;

const SIZE: usize = 1 << 20;

/// Bytes that show any loss, repeat or shift.
fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x2545_F491_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

fn chunked(data: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for part in data.chunks(size) {
        out.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

/// Answers a body with itself, framed as the path says.
fn echo(mut session: Session) -> io::Result<()> {
    while let Some(request) = session.request()? {
        match request.path().as_str() {
            "/length" => {
                let length = request.body.len();
                session.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"))?;
                session.send(&request.body)?;
            }
            "/chunks" => {
                session.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
                session.send(chunked(&request.body, 70_001))?;
            }
            _ => {
                session.send("HTTP/1.1 200 OK\r\n\r\n")?;
                return session.send(&request.body);
            }
        }
    }
    Ok(())
}

fn exchange(proxy: &Proxy, path: &str, body: &[u8], chunks: bool) -> Message {
    let mut client = proxy.connect();
    let framing = if chunks {
        "Transfer-Encoding: chunked".to_owned()
    } else {
        format!("Content-Length: {}", body.len())
    };
    client.say(format!("POST {path} HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n"));
    client.say(if chunks { chunked(body, 50_021) } else { body.to_vec() });
    client.answer()
}

#[test]
fn a_mebibyte_survives_both_ways_in_every_framing() {
    let origin = Origin::start(echo);
    let proxy = Setup::http(&[origin.address()]).start();
    let body = pattern(SIZE);
    for path in ["/length", "/chunks", "/close"] {
        for chunks in [false, true] {
            let answer = exchange(&proxy, path, &body, chunks);
            assert!(answer.body == body, "{path} with chunks {chunks}: {} bytes", answer.body.len());
        }
    }
}

#[test]
fn many_large_bodies_at_once_do_not_mix() {
    let origin = Origin::start(echo);
    let proxy = Setup::http(&[origin.address()]).start();
    thread::scope(|scope| {
        for number in 0..12_usize {
            let proxy = &proxy;
            scope.spawn(move || {
                let body = pattern(SIZE + number * 4099);
                let answer = exchange(proxy, "/length", &body, false);
                assert!(answer.body == body, "body {number} changed");
            });
        }
    });
}
