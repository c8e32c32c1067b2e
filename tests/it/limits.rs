//! Every ceiling holds, says which one it is, and lets go again.

use std::net::TcpStream;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use crate::harness::client::Client;
use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup};
use crate::harness::wire::Wire;
use crate::harness::{free_port, own_ip, until};

fn limited(limits: &str) -> (Origin, Proxy) {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).text(&format!("[listener.web.limits]\n{limits}")).start();
    (origin, proxy)
}

#[test]
fn a_head_over_its_limit_gets_431() {
    let (origin, proxy) = limited("head = \"4KiB\"\ntarget = \"2KiB\"");
    let ask = |size: usize| {
        proxy
            .ask(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\nConnection: close\r\n\r\n", "y".repeat(size)))
    };
    assert_eq!(ask(3900).status(), 200);
    assert_eq!(ask(4200).status(), 431);
    assert_eq!(origin.seen().len(), 1);
    assert!(proxy.records(2).iter().any(|record| record["end"] == "limit"));
}

#[test]
fn more_fields_than_the_limit_get_431() {
    let (origin, proxy) = limited("fields = 10");
    let ask = |count: usize| {
        proxy.ask(format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{}Connection: close\r\n\r\n",
            "X: y\r\n".repeat(count)
        ))
    };
    assert_eq!(ask(8).status(), 200);
    assert_eq!(ask(9).status(), 431);
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn a_longer_target_than_the_limit_gets_414() {
    let (origin, proxy) = limited("target = \"100B\"");
    assert_eq!(proxy.get(&format!("/{}", "a".repeat(99))).status(), 200);
    assert_eq!(proxy.get(&format!("/{}", "a".repeat(100))).status(), 414);
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn accepting_pauses_at_the_ceiling_and_wakes_when_any_connection_ends() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).listener("max_connections = 4").start();
    let mut held: Vec<Client> = (0..4).map(|_| proxy.connect()).collect();
    for client in &mut held {
        assert_eq!(client.get("/").text(), "ok");
    }
    for _ in 0..20 {
        let mut waiting = proxy.connect();
        waiting.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(waiting.silent_for(Duration::from_millis(50)), "a fifth connection was served");
        drop(held.remove(0));
        assert_eq!(waiting.answer().text(), "ok");
        held.push(waiting);
    }
}

#[test]
fn one_source_cannot_have_more_than_its_share() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).listener("max_connections_per_source = 2").start();
    let mut held: Vec<Client> = (0..2).map(|_| proxy.connect()).collect();
    for client in &mut held {
        assert_eq!(client.get("/").text(), "ok");
    }
    // The refusal is a reset, which may come at any step from the connect on.
    let served = || {
        let mut wire = Wire::new(TcpStream::connect(proxy.web).ok()?);
        wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").ok()?;
        wire.response("GET").ok().filter(|answer| answer.status() == 200)
    };
    assert!(served().is_none());
    drop(held.pop());
    until("the place to be free again", served);
    assert!(proxy.metric("plimsoll_listener_refused_total", "per_source") >= 1.0);
}

#[test]
fn an_endpoint_never_has_more_requests_than_its_limit() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).text("[pool.main.limits]\nmax_requests = 3").start();
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                let mut client = proxy.connect();
                for _ in 0..20 {
                    assert_eq!(client.get("/").text(), "ok");
                }
            });
        }
    });
    assert_eq!(origin.seen().len(), 240);
    // Connections are only kept for as many requests as may run, on each of two workers.
    assert!(origin.open() <= 6, "{} connections", origin.open());
}

fn hits(proxy: &Proxy, limit: &str) -> f64 {
    proxy.metric("plimsoll_limit_hits_total", &format!("limit=\"{limit}\""))
}

#[test]
fn padding_a_body_with_chunk_extensions_gets_400() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).start();
    let ask = |chunks: usize| {
        let padded = format!("1;{}\r\nx\r\n", "y".repeat(1000)).repeat(chunks);
        proxy.ask(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n{padded}0\r\n\r\n"
        ))
    };
    assert_eq!(ask(10).status(), 200);
    assert_eq!(ask(17).status(), 400);
    assert!((hits(&proxy, "chunk_extensions") - 1.0).abs() < 0.5);
    assert!(proxy.records(2).iter().any(|record| record["end"] == "limit"));
}

#[test]
fn an_endpoint_that_goes_over_its_limits_gets_502_and_is_counted() {
    let origin = Origin::start(|mut session| {
        while let Some(request) = session.request()? {
            match request.path().as_str() {
                "/head" => session.send(format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(65 << 10)))?,
                "/interim" => session.send("HTTP/1.1 103 Early Hints\r\n\r\n".repeat(33))?,
                _ => session.send(format!(
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;{}\r\nx\r\n0\r\n\r\n",
                    "y".repeat(2000)
                ))?,
            }
        }
        Ok(())
    });
    let proxy = Setup::http(&[origin.address()]).text("[pool.main.retry]\nattempts = 1").start();
    for (path, limit) in
        [("/head", "answer_head"), ("/interim", "interim_answers"), ("/body", "answer_chunk_extensions")]
    {
        let answer = proxy.ask(format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
        assert_eq!(answer.status(), 502, "{path}");
        assert!((hits(&proxy, limit) - 1.0).abs() < 0.5, "{limit}");
    }
}

#[test]
fn a_client_that_does_not_stop_sending_is_cut_off() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).start();
    let mut client = proxy.connect();
    client.say("BROKEN\r\n\r\n");
    assert_eq!(client.answer().status(), 400);
    let block = [b'x'; 64 << 10];
    until("the proxy to stop reading", || client.send(block).is_err().then_some(()));
    until("the count", || (hits(&proxy, "linger") > 0.5).then_some(()));
}

#[test]
fn idle_connections_to_an_endpoint_have_a_ceiling() {
    const AT_ONCE: usize = 300;
    const KEPT: usize = 256;
    let all_here = Arc::new(Barrier::new(AT_ONCE));
    let origin = Origin::start(move |mut session| {
        session.request()?;
        all_here.wait();
        session.ok("ok")?;
        session.wire.at_end();
        Ok(())
    });
    let proxy = Setup::http(&[origin.address()]).process("workers = 1").start();
    let mut clients: Vec<Client> = (0..AT_ONCE).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.answer().text(), "ok");
    }
    let closed = u32::try_from(AT_ONCE - KEPT).expect("few");
    assert!((hits(&proxy, "idle_connections") - f64::from(closed)).abs() < 0.5);
    until("the oldest to close", || (origin.open() == KEPT).then_some(()));
}

#[test]
fn tcp_sessions_take_no_place_of_requests_in_the_same_pool() {
    let origin = Origin::saying("ok");
    let port = free_port(own_ip());
    let proxy = Setup::http(&[origin.address()])
        .text(&format!("[listener.raw]\nbind = [\"{port}\"]\nprotocol = \"tcp\"\npool = \"main\""))
        .text("[pool.main.limits]\nmax_requests = 1\nmax_connections = 2\nqueue = 0")
        .start();
    let mut sessions: Vec<Client> = (0..2).map(|_| Client::connect(port)).collect();
    for session in &mut sessions {
        assert_eq!(session.get("/").text(), "ok");
    }
    assert!(Client::is_turned_away(port), "two sessions are all there may be");
    for _ in 0..3 {
        assert_eq!(proxy.get("/").status(), 200, "and none of them is a request");
    }
    assert_eq!(sessions[0].get("/").text(), "ok");
}

#[test]
fn more_fields_may_be_allowed_than_any_parser_has_at_hand() {
    let origin = Origin::start(|mut session| {
        while session.request()?.is_some() {
            session
                .send(format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{}\r\n", "Y: z\r\n".repeat(400)))?;
        }
        Ok(())
    });
    let text = "[listener.web.limits]\nfields = 500\n[pool.main.limits]\nanswer_fields = 401\n\
                [pool.main.retry]\nattempts = 1";
    let proxy = Setup::http(&[origin.address()]).text(text).start();
    let ask = |count: usize| {
        let fields = "X: y\r\n".repeat(count);
        proxy.ask(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}Connection: close\r\n\r\n"))
    };
    let answer = ask(498);
    assert_eq!((answer.status(), answer.fields("y").len()), (200, 400));
    assert_eq!(origin.request(0).fields("x").len(), 498);
    assert_eq!(ask(499).status(), 431);
    assert!((hits(&proxy, "fields") - 1.0).abs() < 0.5);
}

#[test]
fn an_answer_with_more_fields_than_its_pool_allows_gets_502() {
    let origin = Origin::replying(b"HTTP/1.1 200 OK\r\nA: b\r\nC: d\r\nContent-Length: 0\r\n\r\n");
    let start = |fields: u8| {
        let text = format!("[pool.main.limits]\nanswer_fields = {fields}\n[pool.main.retry]\nattempts = 1");
        Setup::http(&[origin.address()]).text(&text).start()
    };
    assert_eq!(start(3).get("/").status(), 200);
    let proxy = start(2);
    assert_eq!(proxy.get("/").status(), 502);
    assert!((hits(&proxy, "answer_fields") - 1.0).abs() < 0.5);
}

#[test]
fn every_limit_of_the_engine_is_where_its_key_puts_it() {
    let origin = Origin::start(|mut session| {
        while let Some(request) = session.request()? {
            match request.path().as_str() {
                "/head" => session.send(format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(3000)))?,
                "/interim" => session.send("HTTP/1.1 103 Early Hints\r\n\r\n".repeat(2))?,
                "/body" => session.send(
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;aaaaaaaa\r\nx\r\n0\r\n\r\n",
                )?,
                _ => session.ok("ok")?,
            }
        }
        Ok(())
    });
    let text = "[listener.web.limits]\nchunk_extensions = \"4B\"\n\
                [pool.main.limits]\nanswer_head = \"2KiB\"\ninterim_answers = 1\nanswer_chunk_extensions = \"4B\"\n\
                idle_connections = 0\n[pool.main.retry]\nattempts = 1";
    let proxy = Setup::http(&[origin.address()]).text(text).start();
    for (path, limit) in
        [("/head", "answer_head"), ("/interim", "interim_answers"), ("/body", "answer_chunk_extensions")]
    {
        assert_eq!(proxy.get(path).status(), 502, "{path}");
        assert!((hits(&proxy, limit) - 1.0).abs() < 0.5, "{limit}");
    }
    let padded =
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;aaaaaaaa\r\nx\r\n0\r\n\r\n";
    assert_eq!(proxy.ask(padded).status(), 400);
    // No connection is kept: each request has one of its own.
    let before = origin.accepted();
    for _ in 0..3 {
        assert_eq!(proxy.get("/").text(), "ok");
    }
    assert_eq!(origin.accepted(), before + 3);
}
