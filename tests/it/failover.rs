//! The order of choice: tiers, then failover pools, then the siblings of a split.

use std::net::SocketAddr;

use crate::harness::client::Client;
use crate::harness::moody::Moody;
use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup};
use crate::harness::{free_port, own_ip, until};

fn tiers(endpoints: &[(SocketAddr, u8)]) -> Setup {
    let list: Vec<String> = endpoints
        .iter()
        .map(|(address, tier)| format!("{{ address = \"{address}\", tier = {tier} }}"))
        .collect();
    Setup::listed(&list.join(", "))
}

fn dead() -> SocketAddr {
    free_port(own_ip())
}

fn pool(name: &str, endpoint: SocketAddr, more: &str) -> String {
    format!("[pool.{name}]\nendpoints = [\"{endpoint}\"]\n{more}\n")
}

fn send(proxy: &Proxy) -> Client {
    let mut client = proxy.connect();
    client.say("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    client
}

#[test]
fn a_tier_gets_nothing_while_any_endpoint_before_it_is_left() {
    let first = [Origin::saying("a"), Origin::saying("b")];
    let (second, third) = (Origin::saying("c"), Origin::saying("d"));
    let proxy = tiers(&[
        (third.address(), 9),
        (second.address(), 3),
        (first[0].address(), 0),
        (first[1].address(), 0),
    ])
    .start();
    let answers = |proxy: &Proxy| (0..12).map(|_| proxy.get("/").text()).collect::<Vec<_>>();
    assert!(answers(&proxy).iter().all(|who| who == "a" || who == "b"));
    first[0].stop();
    assert!(answers(&proxy).iter().all(|who| who == "b"));
    first[1].stop();
    assert!(answers(&proxy).iter().all(|who| who == "c"));
    second.stop();
    assert!(answers(&proxy).iter().all(|who| who == "d"));
}

#[test]
fn a_busy_tier_is_waited_for_and_not_passed_over() {
    let (first, backup) = (Moody::saying("first"), Origin::saying("backup"));
    let proxy = tiers(&[(first.address(), 0), (backup.address(), 1)])
        .pool("failover = [\"dr\"]")
        .text("[pool.main.limits]\nmax_requests = 1\nqueue_timeout = \"1m\"")
        .text(&pool("dr", backup.address(), ""))
        .start();
    first.hangs();
    let mut held = send(&proxy);
    first.request(0);
    let mut waiting = [send(&proxy), send(&proxy)];
    until("both to wait", || (proxy.metric("plimsoll_pool_queue_length", "main") >= 2.0).then_some(()));
    first.answers(200);
    assert_eq!(held.answer().text(), "first");
    for client in &mut waiting {
        assert_eq!(client.answer().text(), "first");
    }
    assert!(backup.seen().is_empty());
}

#[test]
fn failover_pools_are_asked_in_their_order_and_each_once() {
    let (third, never) = (Origin::saying("third"), Origin::saying("never"));
    let proxy = Setup::http(&[dead(), dead()])
        .pool("outlier = \"off\"")
        .pool("failover = [\"one\", \"two\"]")
        .text(&pool("one", dead(), "outlier = \"off\"\nfailover = [\"main\", \"two\", \"three\"]"))
        .text(&pool("two", third.address(), "failover = [\"one\"]"))
        .text(&pool("three", never.address(), ""))
        .start();
    assert_eq!(proxy.get("/").text(), "third");
    let failures = |pool: &str| proxy.metric("plimsoll_endpoint_failures_total", &format!("pool=\"{pool}\""));
    assert_eq!((failures("main"), failures("one")), (2.0, 1.0), "every endpoint once");
    assert!(never.seen().is_empty());
    third.stop();
    assert_eq!(proxy.get("/").text(), "never", "the pools of the pools come last");
}

#[test]
fn where_the_whole_chain_is_dead_every_endpoint_is_asked_once_and_the_client_told() {
    let proxy = Setup::http(&[dead()])
        .pool("outlier = \"off\"\nretry = { attempts = 1 }")
        .pool("failover = [\"one\"]")
        .text(&pool("one", dead(), "outlier = \"off\"\nfailover = [\"main\"]"))
        .start();
    let answer = proxy.get("/");
    assert!(answer.status() == 503 && answer.field("retry-after").is_some());
    assert_eq!(proxy.metric("plimsoll_endpoint_failures_total", ""), 2.0);
}

#[test]
fn the_share_of_a_dead_pool_of_a_split_goes_to_its_failover_and_then_to_its_siblings() {
    let (stable, rescue) = (Origin::saying("stable"), Origin::saying("rescue"));
    let split = "[[route]]\nname = \"all\"\nsplit = [{ pool = \"main\", weight = 50 }, { pool = \"canary\", weight = 50 }]\n";
    let alone = Setup::http(&[stable.address()]).routes(split).text(&pool("canary", dead(), "")).start();
    assert!((0..20).all(|_| alone.get("/").text() == "stable"));
    let with_failover = Setup::http(&[stable.address()])
        .routes(split)
        .text(&pool("canary", dead(), "failover = [\"rescue\"]"))
        .text(&pool("rescue", rescue.address(), ""))
        .start();
    let answers: Vec<String> = (0..60).map(|_| with_failover.get("/").text()).collect();
    let rescued = answers.iter().filter(|who| *who == "rescue").count();
    assert!((10..=50).contains(&rescued), "the canary's half: {rescued}");
    assert_eq!(answers.iter().filter(|who| *who == "stable").count(), 60 - rescued);
}

#[test]
fn a_tcp_session_finds_its_way_through_tiers_and_failover_pools() {
    let other = Origin::start(|mut session| session.send("dr"));
    let proxy = Setup::tcp(&[dead(), dead()])
        .pool("failover = [\"dr\"]")
        .text(&pool("dr", other.address(), ""))
        .start();
    assert_eq!(proxy.connect().rest().expect("a greeting"), b"dr");
    assert_eq!(proxy.metric("plimsoll_pool_failed_over_total", "main"), 1.0);
}

/// Probes say no, traffic would be fine.
fn unhealthy(fail_open: bool) -> (Origin, Proxy) {
    let origin = Origin::start(|mut session| {
        while let Some(request) = session.request()? {
            if request.path() == "/health" {
                session.send("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")?;
            } else {
                session.ok("fine")?;
            }
        }
        Ok(())
    });
    let proxy = Setup::http(&[origin.address()])
        .pool(&format!("fail_open = {fail_open}"))
        .text("[pool.main.health]\ncheck = \"http\"\npath = \"/health\"\ninterval = \"100ms\"\nfall = 1")
        .start();
    until("the first probe", || origin.seen().iter().any(|seen| seen.path() == "/health").then_some(()));
    (origin, proxy)
}

#[test]
fn when_nothing_is_usable_a_pool_fails_open_unless_told_not_to() {
    let (_origin, proxy) = unhealthy(true);
    until("a pick that overlooks the probe", || {
        assert_eq!(proxy.get("/").text(), "fine");
        (proxy.metric("plimsoll_pool_failed_open_total", "main") >= 1.0).then_some(())
    });
    assert_eq!(proxy.admin_get("/health/pools/main").status(), 503, "which is not health");

    let (_origin, closed) = unhealthy(false);
    let answer = until("the probe to count", || {
        let answer = closed.get("/");
        (answer.status() == 503).then_some(answer)
    });
    assert!(answer.field("retry-after").is_some());
    assert!((0..5).all(|_| closed.get("/").status() == 503));
}

#[test]
fn a_failover_pool_comes_before_failing_open() {
    let (main, other) = (Origin::saying("main"), Origin::saying("dr"));
    let proxy = Setup::http(&[main.address()])
        .pool("failover = [\"dr\"]")
        .text(
            "[pool.main.health]\ncheck = \"http\"\nexpect_status = [\"418\"]\ninterval = \"100ms\"\nfall = 1",
        )
        .text(&pool("dr", other.address(), ""))
        .start();
    until("the failover", || (proxy.get("/").text() == "dr").then_some(()));
    assert!((0..10).all(|_| proxy.get("/").text() == "dr"));
    assert_eq!(proxy.metric("plimsoll_pool_failed_open_total", "main"), 0.0);
}
