//! Every ceiling holds, says which one it is, and lets go again.

use std::net::TcpStream;
use std::time::Duration;

use crate::harness::client::Client;
use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup};
use crate::harness::until;
use crate::harness::wire::Wire;

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
