//! Bodies across the bridge in both directions: whole, with trailers, early, broken off, and never held without bound.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::before;
use crate::harness::http2::{self, Frames, Outcome, Session, give, request, whole};
use crate::harness::origin::Origin;
use crate::harness::proxy::Setup;
use crate::harness::tls::Authority;
use crate::harness::{clock, until};

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i % 251) as u8).collect()
}

/// Gives back what it gets, as it got it.
fn echo() -> Origin {
    Origin::start(|mut session| {
        while let Some(request) = session.request()? {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len());
            session.send([head.as_bytes(), &request.body].concat())?;
        }
        Ok(())
    })
}

#[test]
fn bodies_of_every_size_pass_both_ways() {
    let origin = echo();
    let proxy = before(&origin).start();
    http2::run(async {
        let mut session = Session::connect(proxy.web).await;
        for length in [0, 1, 16_383, 16_384, 16_385, 300_000, 3_000_000] {
            let body = pattern(length);
            let unknown = session.post(request("POST", "/"), body.clone()).await.expect("an answer");
            assert!(unknown.body == body, "{length} bytes, chunked");
            let mut known = request("POST", "/");
            known.headers_mut().insert("content-length", length.into());
            let known = session.post(known, body.clone()).await.expect("an answer");
            assert!(known.body == body, "{length} bytes, counted");
        }
    });
    let seen = origin.seen();
    assert_eq!(seen[0].field("transfer-encoding").as_deref(), Some("chunked"));
    assert_eq!(seen[1].field("content-length").as_deref(), Some("0"));
    assert_eq!(origin.accepted(), 1);
}

/// TLS takes more of an answer at once than a socket does whose buffers are full.
#[test]
fn an_answer_under_tls_that_outgrows_every_buffer_arrives() {
    const BLOCKS: usize = 32;
    let origin = Origin::start(|mut session| {
        session.request()?;
        session.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", BLOCKS << 20))?;
        (0..BLOCKS).try_for_each(|_| session.send(vec![b'x'; 1 << 20]))
    });
    let authority = Authority::new();
    authority.sign("a", &["a.test"]);
    let listed = format!("tls = {{ certificates = [{}] }}", authority.listed("a", ""));
    let proxy = Setup::http(&[origin.address()]).listener(&listed).process("workers = 1").start();
    let mut tls = authority.trusting().build().0;
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let length = http2::run(async {
        let stream = TcpStream::connect(proxy.web).await.expect("a connection");
        let name = ServerName::try_from("a.test").expect("a name");
        let stream = TlsConnector::from(Arc::new(tls)).connect(name, stream).await.expect("a handshake");
        // No window of the client's is to be narrower than the buffers.
        let mut session = Session::over(stream, 1 << 26).await;
        session.get("/").await.body.len()
    });
    assert_eq!(length, BLOCKS << 20);
}

#[test]
fn trailers_pass_both_ways_without_those_that_frame_or_route() {
    let origin = Origin::start(|mut session| {
        session.request()?;
        session.send(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nX-Sum: 7\r\nContent-Length: 9\r\n\
             Host: b\r\n\r\n",
        )
    });
    let proxy = before(&origin).start();
    let answer = http2::run(async {
        let mut session = Session::connect(proxy.web).await;
        let (response, mut send) = session.open(request("POST", "/"), false).await;
        give(&mut send, Bytes::from_static(b"hello"), false).await.expect("it is taken");
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-check", "5".parse().expect("a value"));
        trailers.insert("authorization", "evil".parse().expect("a value"));
        send.send_trailers(trailers).expect("they are taken");
        whole(response.await.expect("an answer")).await.expect("a body")
    });
    assert_eq!(answer.text(), "abcdefg");
    let trailers = answer.trailers.expect("trailers");
    assert_eq!(trailers.len(), 1, "{trailers:?}");
    assert_eq!(trailers["x-sum"], "7");
    let seen = origin.request(0);
    assert_eq!((seen.text().as_str(), seen.trailers.as_slice()), ("hello", &b"x-check: 5"[..]));
}

#[test]
fn an_answer_that_ends_with_its_connection_ends_the_stream() {
    let origin = Origin::replying(b"HTTP/1.1 200 OK\r\n\r\nuntil the end");
    let proxy = before(&origin).start();
    let answer = http2::run(async { Session::connect(proxy.web).await.get("/").await });
    assert_eq!(answer.text(), "until the end");
}

#[test]
fn half_an_answer_is_no_whole_one() {
    for reply in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nnonsense\r\n",
    ] {
        let origin = Origin::replying(reply);
        let proxy = before(&origin).pool("retry = \"off\"").start();
        let mut frames = Frames::connect(proxy.web);
        let outcome = frames.ask(1, &http2::get("/")).outcome(1);
        // Malformed from the start is still an error with a status; RFC 9113 section 7: INTERNAL_ERROR.
        assert!(matches!(outcome, Outcome::Reset(2) | Outcome::Answer(502, _)), "{outcome:?}");
    }
}

#[test]
fn a_body_that_lacks_only_its_end_is_no_early_answer() {
    let origin = Origin::saying("counted");
    let proxy = before(&origin).start();
    let mut frames = Frames::connect(proxy.web);
    let length = http2::block(&[("content-length", "5")]);
    frames.say(http2::frame(http2::HEADERS, http2::END_HEADERS, 1, &[http2::post("/"), length].concat()));
    frames.say(http2::frame(http2::DATA, 0, 1, b"whole"));
    assert_eq!(frames.outcome(1), Outcome::Answer(200, b"counted".to_vec()));
    // The stream is still there, and with its end there is nothing left to say.
    frames.say(http2::frame(http2::DATA, http2::END_STREAM, 1, b""));
    frames.ask(3, &http2::get("/next"));
    loop {
        let frame = frames.next().expect("the next answer");
        assert_ne!(frame.kind, http2::RST_STREAM, "stream {}", frame.stream);
        if frame.stream == 3 && frame.flags & http2::END_STREAM != 0 {
            break;
        }
    }
}

#[test]
fn an_early_answer_ends_the_request_without_blame() {
    let origin = Origin::start(|mut session| {
        session.head()?;
        session.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig")?;
        session.wire.at_end();
        Ok(())
    });
    let proxy = before(&origin).start();
    let mut frames = Frames::connect(proxy.web);
    frames.say(http2::frame(http2::HEADERS, http2::END_HEADERS, 1, &http2::post("/")));
    frames.say(http2::frame(http2::DATA, 0, 1, b"only a part"));
    assert_eq!(frames.outcome(1), Outcome::Answer(413, b"big".to_vec()));
    // RFC 9113 section 8.1: NO_ERROR asks the client to stop, and to keep the answer.
    let reset = frames.until(http2::RST_STREAM);
    assert_eq!((reset.stream, reset.payload.as_slice()), (1, &[0, 0, 0, 0][..]));
    until("the endpoint's connection to close", || (origin.open() == 0).then_some(()));
}

#[test]
fn a_client_that_cancels_takes_its_request_along() {
    let origin = Origin::start(|mut session| {
        session.request()?;
        session.wire.at_end();
        Ok(())
    });
    let proxy = before(&origin).start();
    let mut frames = Frames::connect(proxy.web);
    frames.ask(1, &http2::get("/waits"));
    origin.request(0);
    frames.say(http2::reset(1, 8));
    until("the endpoint's connection to close", || (origin.open() == 0).then_some(()));
    let record = &proxy.records(1)[0];
    assert_eq!(record["end"], "client_aborted", "{record}");
}

#[test]
fn a_body_that_is_not_as_long_as_it_says_never_looks_whole() {
    let origin = echo();
    let proxy = before(&origin).start();
    let mut frames = Frames::connect(proxy.web);
    for (stream, data) in [(1, &b"four"[..]), (3, b"much more")] {
        let mut block = http2::post("/");
        block.extend(http2::block(&[("content-length", "5")]));
        frames.say(http2::frame(http2::HEADERS, http2::END_HEADERS, stream, &block));
        frames.say(http2::frame(http2::DATA, http2::END_STREAM, stream, data));
        assert_eq!(frames.outcome(stream), Outcome::Reset(1));
    }
    assert!(origin.seen().is_empty(), "no whole request has arrived");
}

#[test]
fn a_body_is_kept_for_another_endpoint() {
    let broken = Origin::start(|mut session| session.request().map(|_| ()));
    let origin = echo();
    let setup = Setup::http(&[broken.address(), origin.address()]);
    let proxy = setup.listener("h2c = true").pool("balance = \"first\"").start();
    http2::run(async {
        let mut session = Session::connect(proxy.web).await;
        let body = pattern(30_000);
        let answer = session.post(request("PUT", "/"), body.clone()).await.expect("an answer");
        assert_eq!(answer.status, 200);
        assert!(answer.body == body, "the same body once more");
    });
    assert!(broken.seen()[0].body == pattern(30_000));
}

#[test]
fn a_client_that_does_not_read_holds_its_endpoint_back() {
    let origin = Origin::start(|mut session| {
        session.request()?;
        session.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")?;
        while session.send([b'x'; 65_536]).is_ok() {}
        Ok(())
    });
    let proxy = before(&origin).listener("timeouts = { client_idle = \"1s\" }").start();
    // Its windows are as wide as can be, but it does not read from its socket.
    let mut frames = Frames::connect_with(proxy.web, &[(4, (1 << 31) - 1)]);
    frames.say(http2::frame(http2::WINDOW_UPDATE, 0, 0, &(1u32 << 30).to_be_bytes()));
    let before = memory(&proxy);
    for i in 0..20 {
        frames.ask(2 * i + 1, &http2::get("/"));
    }
    // Held in the kernel, in the proxy at most what its limits say, and given up in time.
    let records = proxy.records(20);
    assert!(records.iter().all(|record| record["end"] == "client_timeout"), "{records:?}");
    let grown = memory(&proxy).saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes");
    until("the endpoints to be released", || (origin.open() == 0).then_some(()));
}

/// What a process holds, in bytes.
fn memory(proxy: &crate::harness::proxy::Proxy) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.id())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1024
}

#[test]
fn a_stream_without_window_holds_nobody_else_up() {
    let origin = Origin::start(|mut session| {
        while let Some(request) = session.request()? {
            let length = if request.path() == "/big" { 1_000_000 } else { 2 };
            session.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"))?;
            session.send(vec![b'x'; length])?;
        }
        Ok(())
    });
    let proxy = before(&origin).start();
    http2::run(async {
        let mut session = Session::connect(proxy.web).await;
        let (stalled, _) = session.open(request("GET", "/big"), true).await;
        let stalled = stalled.await.expect("a head");
        // Less than the connection's window, so that others have room.
        for _ in 0..50 {
            assert_eq!(session.get("/small").await.text(), "xx");
        }
        assert_eq!(whole(stalled).await.expect("a body").body.len(), 1_000_000);
    });
}

#[test]
fn an_upload_that_stalls_is_given_up() {
    let origin = Origin::start(|mut session| {
        session.head()?;
        while session.wire.fill()? > 0 {}
        Ok(())
    });
    let proxy = before(&origin).listener("timeouts = { client_idle = \"300ms\" }").start();
    let mut frames = Frames::connect(proxy.web);
    frames.say(http2::frame(http2::HEADERS, http2::END_HEADERS, 1, &http2::post("/")));
    frames.say(http2::frame(http2::DATA, 0, 1, b"slow"));
    assert!(matches!(frames.outcome(1), Outcome::Answer(408, _)));
    super::counted(&proxy, "client_idle", 1.0);
}

#[test]
fn an_endpoint_that_does_not_take_holds_the_client_back() {
    let origin = Origin::start(|mut session| {
        session.head()?;
        clock::pause(Duration::from_secs(2));
        session.wire.set_patience(Duration::from_secs(5));
        let mut left = 50_000_000usize;
        while left > 0 {
            let n = session.wire.take(1)?.len();
            left = left.saturating_sub(n + session.wire.fill()?);
        }
        Ok(())
    });
    let proxy = before(&origin).start();
    let taken = http2::run(async {
        let mut session = Session::connect(proxy.web).await;
        let (_response, mut send) = session.open(request("POST", "/"), false).await;
        let given = give(&mut send, Bytes::from(vec![0; 50_000_000]), false);
        drop(tokio::time::timeout(Duration::from_secs(1), given).await);
        send.reserve_capacity(1 << 20);
        send.capacity()
    });
    assert_eq!(taken, 0, "its window is not opened for what has not gone on");
}
