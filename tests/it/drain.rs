//! TERM and INT: what is in flight finishes, nothing new begins, there is a deadline, and a second signal ends it all.

use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::clock::{Moment, pause};
use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup};
use crate::harness::until;

/// Answers `/slow` after a second, `/never` never, all else at once.
fn origin() -> Origin {
    Origin::start(|mut session| {
        while let Some(request) = session.request()? {
            match request.path().as_str() {
                "/slow" => pause(Duration::from_secs(1)),
                "/never" => {
                    session.wire.at_end();
                    return Ok(());
                }
                _ => {}
            }
            session.ok("ok")?;
        }
        Ok(())
    })
}

fn refuses(proxy: &Proxy) -> Option<()> {
    TcpStream::connect(proxy.web).is_err().then_some(())
}

#[test]
fn what_is_in_flight_finishes_and_says_close() {
    for signal in [Signal::TERM, Signal::INT] {
        let origin = origin();
        let mut proxy = Setup::http(&[origin.address()]).start();
        let mut idle = proxy.connect();
        idle.get("/");
        let mut busy = proxy.connect();
        busy.say("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
        origin.request(1);
        proxy.signal(signal);
        idle.expect_end();
        until("the listener to close", || refuses(&proxy));
        let answer = busy.answer();
        assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"));
        assert_eq!(answer.field("connection").map(|v| v.to_lowercase()).as_deref(), Some("close"));
        busy.expect_end();
        assert!(proxy.wait().success());
    }
}

#[test]
fn a_tcp_session_finishes_too() {
    let origin = Origin::start(|mut session| {
        let said = session.wire.take(10)?;
        session.send(said)
    });
    let mut proxy = Setup::tcp(&[origin.address()]).start();
    let mut client = proxy.connect();
    client.say("hello");
    until("the session", || (origin.accepted() == 1).then_some(()));
    proxy.signal(Signal::TERM);
    until("the listener to close", || refuses(&proxy));
    assert_eq!(client.say("world").rest().expect("an echo"), b"helloworld");
    drop(client);
    assert!(proxy.wait().success());
}

#[test]
fn the_deadline_ends_what_does_not_finish() {
    let origin = origin();
    let mut proxy = Setup::http(&[origin.address()]).process("drain_timeout = \"500ms\"").start();
    let mut stuck = proxy.connect();
    stuck.say("GET /never HTTP/1.1\r\nHost: a\r\n\r\n");
    origin.request(0);
    let start = Moment::now();
    proxy.signal(Signal::TERM);
    proxy.wait();
    assert!((400..5000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    assert!(stuck.response("GET").map_or(true, |answer| answer.status() >= 500));
}

#[test]
fn a_second_signal_stops_at_once() {
    let origin = origin();
    let mut proxy = Setup::http(&[origin.address()]).start();
    let mut stuck = proxy.connect();
    stuck.say("GET /never HTTP/1.1\r\nHost: a\r\n\r\n");
    origin.request(0);
    proxy.signal(Signal::TERM);
    until("the listener to close", || refuses(&proxy));
    let start = Moment::now();
    proxy.signal(Signal::TERM);
    proxy.wait();
    assert!(start.elapsed() < Duration::from_secs(3));
}

#[test]
fn readiness_goes_before_the_listeners_do() {
    let origin = origin();
    let mut proxy = Setup::http(&[origin.address()]).process("drain_delay = \"1500ms\"").start();
    proxy.signal(Signal::TERM);
    until("readiness to go", || (proxy.admin_get("/readyz").status() == 503).then_some(()));
    assert_eq!(proxy.admin_get("/livez").status(), 200);
    assert_eq!(proxy.get("/").text(), "ok");
    until("the listener to close", || refuses(&proxy));
    assert!(proxy.wait().success());
}

#[test]
fn under_load_a_drain_loses_no_answer() {
    let origin = Origin::saying("ok");
    let mut proxy = Setup::http(&[origin.address()]).start();
    let web = proxy.web;
    let clients: Vec<_> = (0..16)
        .map(|_| {
            thread::spawn(move || {
                // A connection that was refused, or closed while idle, lost nothing; half an answer did.
                let Ok(stream) = TcpStream::connect(web) else { return Ok(0) };
                let mut wire = crate::harness::wire::Wire::new(stream);
                for count in 0..1_000_000 {
                    if wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").is_err() {
                        return Ok(count);
                    }
                    let before = wire.received.len();
                    match wire.response("GET") {
                        Ok(answer) if answer.field("connection").is_some() => return Ok(count + 1),
                        Ok(_) => {}
                        Err(_) if wire.received.len() == before => return Ok(count),
                        Err(error) => return Err(error.to_string()),
                    }
                }
                Err("the drain never came".to_owned())
            })
        })
        .collect();
    until("some load", || (origin.seen().len() > 500).then_some(()));
    proxy.signal(Signal::TERM);
    for client in clients {
        client.join().expect("a thread").expect("no half answer");
    }
    assert!(proxy.wait().success());
}

#[test]
fn a_request_cut_at_the_deadline_leaves_a_record() {
    let origin = origin();
    let mut proxy = Setup::http(&[origin.address()]).process("drain_timeout = \"300ms\"").start();
    let mut stuck = proxy.connect();
    stuck.say("GET /never HTTP/1.1\r\nHost: a\r\n\r\n");
    origin.request(0);
    // A head that is not complete yet: somebody waits for its answer too.
    let mut half = proxy.connect();
    half.say("GET / HTTP/1.1\r\nHost:");
    let idle = proxy.connect();
    proxy.signal(Signal::TERM);
    proxy.wait();
    drop(idle);
    let records = proxy.records(2);
    assert_eq!(records.len(), 2, "an idle connection leaves none");
    assert!(records.iter().all(|record| record["end"] == "drain"), "{records:?}");
    let cut = records.iter().find(|record| record["target"] == "/never").expect("the request");
    assert_eq!(cut["endpoint"], origin.address().to_string());
    assert_eq!((cut["pool"].as_str(), cut["route"].as_str()), (Some("main"), Some("all")));
    assert_eq!((cut["attempts"].as_u64(), cut["status"].as_u64()), (Some(1), Some(0)));
}

#[test]
fn a_request_cut_by_a_second_signal_leaves_a_record() {
    let origin = Origin::start(|mut session| {
        session.request()?;
        session.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")?;
        session.wire.at_end();
        Ok(())
    });
    let mut proxy = Setup::http(&[origin.address()]).start();
    let mut stuck = proxy.connect();
    stuck.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    stuck.head().expect("a head");
    assert_eq!(stuck.take(4).expect("what has come of the body"), b"half");
    proxy.signal(Signal::TERM);
    until("the listener to close", || refuses(&proxy));
    proxy.signal(Signal::TERM);
    proxy.wait();
    let records = proxy.records(1);
    let cut = &records[0];
    assert_eq!((records.len(), cut["end"].as_str()), (1, Some("drain")));
    assert_eq!((cut["status"].as_u64(), cut["bytes_out"].as_u64()), (Some(200), Some(4)));
}

#[test]
fn what_is_cut_after_it_was_switched_tells_what_went_each_way() {
    let origin = Origin::start(|mut session| {
        session.head()?;
        session.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: custom\r\n\r\n")?;
        session.wire.take(4)?;
        session.send("pong!")?;
        session.wire.at_end();
        Ok(())
    });
    let mut proxy = Setup::http(&[origin.address()]).process("drain_timeout = \"300ms\"").start();
    let mut client = proxy.connect();
    client.say("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: custom\r\n\r\n");
    assert_eq!(client.answer().status(), 101);
    assert_eq!(client.say("ping").take(5).expect("an answer"), b"pong!");
    proxy.signal(Signal::TERM);
    proxy.wait();
    let cut = &proxy.records(1)[0];
    assert_eq!((cut["end"].as_str(), cut["status"].as_u64()), (Some("drain"), Some(101)));
    assert_eq!((cut["bytes_in"].as_u64(), cut["bytes_out"].as_u64()), (Some(4), Some(5)));
}

#[test]
fn a_tcp_session_cut_at_the_deadline_leaves_a_record() {
    let origin = Origin::start(|mut session| {
        session.wire.take(4)?;
        session.send("pong!")?;
        session.wire.at_end();
        Ok(())
    });
    let mut proxy = Setup::tcp(&[origin.address()]).process("drain_timeout = \"300ms\"").start();
    let mut client = proxy.connect();
    assert_eq!(client.say("ping").take(5).expect("an answer"), b"pong!");
    proxy.signal(Signal::TERM);
    proxy.wait();
    let records = proxy.records(1);
    let cut = &records[0];
    assert_eq!(
        (records.len(), cut["end"].as_str(), cut["protocol"].as_str()),
        (1, Some("drain"), Some("TCP"))
    );
    assert_eq!(cut["endpoint"], origin.address().to_string());
    assert_eq!((cut["bytes_in"].as_u64(), cut["bytes_out"].as_u64()), (Some(4), Some(5)));
}
