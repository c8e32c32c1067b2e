//! Answers made smaller on their way: which, how, and that nothing is held back.

use std::io::Read as _;

use super::{get, get2, with};
use crate::harness::client;
use crate::harness::origin::Origin;

const PAGE: &str = "one line, and again one line\n";

/// Answers with a page, as its path says it is.
fn site() -> Origin {
    Origin::start(|mut session| {
        while let Some(request) = session.request()? {
            let page = PAGE.repeat(200);
            let (path, length) = (request.path(), page.len());
            let more = match path.as_str() {
                "/encoded" => "Content-Encoding: gzip\r\n",
                "/fixed" => "Cache-Control: private, no-transform\r\n",
                "/part" => "Content-Range: bytes 0-5799/9999\r\n",
                "/varies" => "Vary: Cookie\r\n",
                _ => "",
            };
            let status = if path == "/part" { "206 x" } else { "200 OK" };
            let kind = if path == "/image" { "image/png" } else { "text/html; charset=utf-8" };
            let fields = format!("Content-Type: {kind}\r\nETag: \"v1\"\r\nAccept-Ranges: bytes\r\n{more}");
            match path.as_str() {
                "/small" => session.send(format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nok"))?,
                "/none" => session.send("HTTP/1.1 204 No Content\r\n\r\n")?,
                "/same" => session.send(format!("HTTP/1.1 304 Not Modified\r\n{fields}\r\n"))?,
                "/chunked" => session.send(format!("HTTP/1.1 200 OK\r\n{fields}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{page}\r\n0\r\nX-Sum: 1\r\n\r\n"))?,
                _ => {
                    session.send(format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {length}\r\n\r\n"))?;
                    if !request.start_line().starts_with("HEAD ") {
                        session.send(page)?;
                    }
                }
            }
        }
        Ok(())
    })
}

fn decode(coding: &str, body: &[u8]) -> String {
    let mut text = String::new();
    let read = match coding {
        "gzip" => flate2::read::GzDecoder::new(body).read_to_string(&mut text),
        "br" => brotli::Decompressor::new(body, 4096).read_to_string(&mut text),
        "zstd" => zstd::stream::read::Decoder::new(body).expect("a decoder").read_to_string(&mut text),
        other => panic!("an unknown coding {other}"),
    };
    read.expect("it can be read");
    text
}

#[test]
fn a_client_gets_the_coding_that_it_wants_most() {
    let origin = site();
    let proxy = with(&origin, "compress = {}", "");
    for (accept, coding) in
        [("gzip, deflate, br, zstd", "zstd"), ("gzip, br", "br"), ("br;q=0.5, gzip", "gzip"), ("*", "zstd")]
    {
        for path in ["/", "/chunked"] {
            let answer = get(&proxy, path, &format!("Accept-Encoding: {accept}\r\n"));
            assert_eq!(answer.fields("content-encoding"), [coding], "{accept}");
            assert_eq!(answer.fields("vary"), ["Accept-Encoding"]);
            assert_eq!(answer.fields("etag"), ["W/\"v1\""]);
            assert_eq!((answer.field("content-length"), answer.field("accept-ranges")), (None, None));
            assert!(answer.body.len() < 500, "{coding}: {}", answer.body.len());
            assert_eq!(decode(coding, &answer.body), PAGE.repeat(200));
        }
        let answer = get2(&proxy, "/chunked", &[("accept-encoding", accept)]);
        assert_eq!(answer.headers["content-encoding"].as_bytes(), coding.as_bytes());
        assert_eq!(decode(coding, &answer.body), PAGE.repeat(200));
        assert_eq!(answer.trailers.expect("trailers")["x-sum"].as_bytes(), b"1");
    }
    proxy.until_metric("plimsoll_route_compressed_total", "route=\"all\"", 12.0);
    assert_eq!(proxy.metric("plimsoll_route_compressed_bytes_in_total", ""), 12.0 * 5800.0);
    assert!(proxy.metric("plimsoll_route_compressed_bytes_out_total", "") < 12.0 * 500.0);
}

#[test]
fn what_may_not_or_need_not_be_touched_is_not() {
    let origin = site();
    let proxy = with(&origin, "compress = {}", "");
    for path in ["/encoded", "/fixed", "/part", "/image", "/small"] {
        let answer = get(&proxy, path, "Accept-Encoding: gzip\r\n");
        let before = if path == "/encoded" { vec!["gzip".to_owned()] } else { Vec::new() };
        assert_eq!(answer.fields("content-encoding"), before, "{path}");
        assert_eq!(answer.fields("etag"), ["\"v1\""], "{path}");
        assert_eq!(
            (answer.fields("accept-ranges"), answer.field("vary")),
            (vec!["bytes".to_owned()], None),
            "{path}"
        );
        assert_eq!(answer.body.len(), if path == "/small" { 2 } else { 5800 }, "{path}");
    }
    for (path, fields) in [
        ("/", ""),
        ("/", "Accept-Encoding: deflate, gzip;q=0\r\n"),
        ("/", "Accept-Encoding: gzip\r\nCache-Control: no-transform\r\n"),
    ] {
        let answer = get(&proxy, path, fields);
        assert_eq!((answer.field("content-encoding"), answer.body.len()), (None, 5800), "{fields}");
    }
    assert_eq!(
        get(&proxy, "/", "").fields("vary"),
        ["Accept-Encoding"],
        "another client would get another one"
    );
    assert_eq!(
        get(&proxy, "/varies", "Accept-Encoding: gzip\r\n").fields("vary"),
        ["Cookie", "Accept-Encoding"]
    );
}

#[test]
fn answers_without_a_body_have_none() {
    let origin = site();
    let proxy = with(&origin, "compress = {}", "");
    let mut client = proxy.connect();
    let head = client.say("HEAD / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n").answer_to("HEAD");
    assert_eq!(
        (head.fields("content-encoding"), head.fields("etag")),
        (vec!["gzip".to_owned()], vec!["W/\"v1\"".to_owned()])
    );
    assert_eq!(head.field("content-length"), None);
    let none = client.say("GET /none HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n").answer();
    assert_eq!((none.status(), none.field("content-encoding")), (204, None));
    let same = client.say("GET /same HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n").answer();
    assert_eq!((same.status(), same.field("content-encoding")), (304, None));
    assert_eq!(
        (same.fields("etag"), same.fields("vary")),
        (vec!["W/\"v1\"".to_owned()], vec!["Accept-Encoding".to_owned()])
    );
    // The connection is in order after all of them.
    assert_eq!(client.get("/small").text(), "ok");
}

#[test]
fn events_are_not_held_back_for_more() {
    let origin = Origin::start(|mut session| {
        session.request()?;
        session.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\nb\r\ndata: one\n\n\r\n")?;
        // What the client makes of the first event comes before the second.
        session.head()?;
        Ok(())
    });
    let proxy = with(&origin, "compress = { codings = [\"gzip\"] }", "");
    let mut client = client::Client::connect(proxy.web);
    client.say("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n");
    let head = client.head().expect("a head").expect("an answer");
    assert_eq!(head.fields("content-encoding"), ["gzip"]);
    let mut got = Vec::new();
    // Chunks come as they are made; together they are what has been said so far.
    while !String::from_utf8_lossy(&partial(&got)).contains("data: one\n\n") {
        got.extend(chunk(&mut client));
    }
}

fn chunk(client: &mut client::Client) -> Vec<u8> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.extend(client.take(1).expect("more"));
    }
    let length = usize::from_str_radix(String::from_utf8_lossy(&line).trim(), 16).expect("a length");
    let data = client.take(length).expect("a chunk");
    client.take(2).expect("its end");
    data
}

fn partial(bytes: &[u8]) -> Vec<u8> {
    let (mut all, mut block) = (Vec::new(), [0; 1024]);
    let mut reader = flate2::read::GzDecoder::new(bytes);
    while let Ok(n @ 1..) = reader.read(&mut block) {
        all.extend_from_slice(&block[..n]);
    }
    all
}
