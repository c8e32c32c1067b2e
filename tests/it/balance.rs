//! Which endpoint is next: every policy by what clients see.

use std::time::Duration;

use crate::harness::clock::pause;
use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup};
use crate::harness::{free_port, own_ip, until};

fn four() -> Vec<Origin> {
    ["s1", "s2", "s3", "s4"].into_iter().map(Origin::saying).collect()
}

fn balanced(origins: &[Origin], policy: &str) -> Proxy {
    let addresses: Vec<_> = origins.iter().map(Origin::address).collect();
    Setup::http(&addresses).pool(&format!("balance = \"{policy}\"")).start()
}

fn endpoints(list: &[String]) -> Proxy {
    Setup::listed(&list.join(", ")).pool("balance = \"round_robin\"").start()
}

#[test]
fn round_robin_goes_round() {
    let origins = four();
    let proxy = balanced(&origins, "round_robin");
    let answers: Vec<_> = (0..5).map(|_| proxy.get("/").text()).collect();
    assert_eq!(answers, ["s1", "s2", "s3", "s4", "s1"]);
}

#[test]
fn round_robin_spreads_by_weight_and_smoothly() {
    let (heavy, light) = (Origin::saying("heavy"), Origin::saying("light"));
    let proxy = endpoints(&[
        format!("{{ address = \"{}\", weight = 3 }}", heavy.address()),
        format!("\"{}\"", light.address()),
    ]);
    let answers: Vec<_> = (0..40).map(|_| proxy.get("/").text()).collect();
    assert_eq!(answers.iter().filter(|a| *a == "light").count(), 10);
    assert!(answers.windows(4).all(|four| four.iter().filter(|a| *a == "light").count() == 1), "{answers:?}");
}

#[test]
fn weight_zero_gets_nothing() {
    let (none, all) = (Origin::saying("none"), Origin::saying("all"));
    let proxy = endpoints(&[
        format!("{{ address = \"{}\", weight = 0 }}", none.address()),
        format!("\"{}\"", all.address()),
    ]);
    assert!((0..20).all(|_| proxy.get("/").text() == "all"));
}

#[test]
fn the_backup_tier_serves_only_when_the_first_does_not() {
    let (first, backup) = (Origin::saying("first"), Origin::saying("backup"));
    let proxy = endpoints(&[
        format!("{{ address = \"{}\", tier = 1 }}", backup.address()),
        format!("\"{}\"", first.address()),
    ]);
    assert!((0..20).all(|_| proxy.get("/").text() == "first"));
    first.stop();
    assert!((0..20).all(|_| proxy.get("/").text() == "backup"));
}

#[test]
fn first_fills_one_endpoint_before_the_next() {
    let origins = four();
    let proxy = balanced(&origins, "first");
    assert!((0..20).all(|_| proxy.get("/").text() == "s1"));
}

#[test]
fn least_requests_avoids_the_busy_endpoint() {
    let busy = Origin::start(|mut session| {
        while let Some(request) = session.request()? {
            if request.path() == "/slow" {
                pause(Duration::from_secs(2));
            }
            session.ok("busy")?;
        }
        Ok(())
    });
    let free = Origin::saying("free");
    let addresses = [busy.address(), free.address()];
    let proxy = Setup::http(&addresses).pool("balance = \"least_requests\"").start();
    let _held = until("a slow request on the busy endpoint", || {
        let mut client = proxy.connect();
        let before = free.seen().len();
        client.say("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
        let at_busy = until("it to arrive", || {
            (!busy.seen().is_empty() || free.seen().len() > before).then(|| free.seen().len() == before)
        });
        if !at_busy {
            client.answer();
        }
        at_busy.then_some(client)
    });
    // One connection: another worker may not know yet that the request before this one has ended.
    let mut client = proxy.connect();
    assert!((0..20).all(|_| client.get("/").text() == "free"));
}

#[test]
fn random_uses_every_endpoint() {
    let origins = four();
    let proxy = balanced(&origins, "random");
    for _ in 0..200 {
        assert_eq!(proxy.get("/").status(), 200);
    }
    assert!(origins.iter().all(|origin| (20..=90).contains(&origin.seen().len())));
}

#[test]
fn a_dead_endpoint_among_live_ones_costs_no_answer() {
    for policy in ["round_robin", "least_requests", "random", "first"] {
        let origin = Origin::saying("ok");
        let addresses = [free_port(own_ip()), origin.address()];
        let proxy = Setup::http(&addresses).pool(&format!("balance = \"{policy}\"")).start();
        assert!((0..20).all(|_| proxy.get("/").text() == "ok"), "{policy}");
    }
}
