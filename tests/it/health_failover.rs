//! Where traffic goes when endpoints are gone, one tier or pool after the other, and how it comes back.

use crate::harness::member::{Member, addresses, probes, probes_of};
use crate::harness::proxy::{Proxy, Setup};
use crate::harness::until;

/// Three members, the last one in tier 1, with keys of the pool.
fn tiers(pool: &str) -> ([Member; 3], Proxy) {
    let members = [Member::http(), Member::http(), Member::http()];
    let [first, second, backup] = [0, 1, 2].map(|at: usize| members[at].address());
    let listed = format!("\"{first}\", \"{second}\", {{ address = \"{backup}\", tier = 1 }}");
    let setup = Setup::listed(&listed).pool("balance = \"round_robin\"").pool(pool);
    let proxy = setup.text(&probes("rise = 1")).start();
    for member in &members {
        proxy.until_endpoint("main", &member.name(), "probe.state", "up");
    }
    (members, proxy)
}

/// A pool `main` of one member that fails over to a pool `dr` of another.
fn two_pools(pool: &str) -> (Member, Member, Proxy) {
    let (home, dr) = (Member::http(), Member::http());
    let setup = Setup::http(&[home.address()]).pool("failover = [\"dr\"]").pool(pool);
    let other = format!("[pool.dr]\nendpoints = [\"{}\"]\n{}", dr.address(), probes_of("dr", "rise = 1"));
    let proxy = setup.text(&probes("rise = 1")).text(&other).start();
    proxy.until_endpoint("main", &home.name(), "probe.state", "up");
    proxy.until_endpoint("dr", &dr.name(), "probe.state", "up");
    (home, dr, proxy)
}

fn takes_down(proxy: &Proxy, pool: &str, member: &Member) {
    member.says(503);
    proxy.until_endpoint(pool, &member.name(), "usable", false);
}

fn takes_up(proxy: &Proxy, pool: &str, member: &Member) {
    member.says(200);
    proxy.until_endpoint(pool, &member.name(), "usable", true);
}

/// Whether only this one answers.
fn all_by(proxy: &Proxy, member: &Member) -> bool {
    (0..10).all(|_| proxy.get("/").text() == member.name())
}

fn serving_tier(proxy: &Proxy, tier: u8) {
    until("the tier to serve", || (proxy.admin_json("/v1/pools/main")["serving_tier"] == tier).then_some(()));
}

#[test]
fn the_backup_tier_gets_nothing_until_the_first_is_gone() {
    let ([first, second, backup], proxy) = tiers("");
    takes_down(&proxy, "main", &first);
    assert!(all_by(&proxy, &second));
    assert!(backup.traffic().seen().is_empty());
    takes_down(&proxy, "main", &second);
    assert!(all_by(&proxy, &backup));
    serving_tier(&proxy, 1);
    let change = proxy.event("main", "tier 1");
    assert_eq!((&change["kind"], &change["from"]), (&"tier".into(), &"tier 0".into()));
}

#[test]
fn a_tier_that_has_returned_is_held_down_unless_nothing_else_serves() {
    let ([first, second, backup], proxy) = tiers("failback = { after = \"1h\", ramp = \"0s\" }");
    takes_down(&proxy, "main", &first);
    takes_down(&proxy, "main", &second);
    serving_tier(&proxy, 1);
    takes_up(&proxy, "main", &first);
    assert!(all_by(&proxy, &backup));
    takes_down(&proxy, "main", &backup);
    assert!(all_by(&proxy, &first));
}

#[test]
fn a_failover_pool_takes_over_and_gives_back() {
    let (home, dr, proxy) = two_pools("failback = { after = \"300ms\", ramp = \"0s\" }");
    assert!(all_by(&proxy, &home));
    assert_eq!(dr.traffic().seen().len(), 0);
    takes_down(&proxy, "main", &home);
    assert!(all_by(&proxy, &dr));
    assert_eq!(proxy.event("main", "served by dr")["kind"], "pool");
    assert_eq!(proxy.admin_json("/v1/pools/main")["failover"], "dr");
    until("the pool to be unhealthy", || {
        (proxy.admin_get("/health/pools/main").status() == 503).then_some(())
    });
    assert_eq!(proxy.admin_get("/health/pools/dr").status(), 200);
    takes_up(&proxy, "main", &home);
    proxy.event("main", "served by itself");
    assert!(all_by(&proxy, &home));
}

#[test]
fn the_operator_sends_traffic_away_and_home() {
    let (home, dr, proxy) = two_pools("failback = { after = \"1h\", ramp = \"0s\" }");
    let path = "/v1/pools/main/failover";
    assert_eq!(proxy.admin_change("POST", path, "{\"to\":\"nowhere\"}").status(), 400);
    assert!(all_by(&proxy, &home));
    assert_eq!(proxy.admin_change("POST", path, "{\"to\":\"dr\"}").status(), 200);
    assert!(all_by(&proxy, &dr));
    assert_eq!(proxy.event("main", "sent to dr")["because"], "the operator says so");
    // An order is no reason to answer nobody.
    takes_down(&proxy, "dr", &dr);
    assert!(all_by(&proxy, &home));
    takes_up(&proxy, "dr", &dr);
    until("the order to hold again", || (proxy.get("/").text() == dr.name()).then_some(()));
    assert_eq!(proxy.admin_change("POST", path, "{\"to\":\"home\"}").status(), 200);
    assert!(all_by(&proxy, &home));
}

#[test]
fn traffic_comes_back_by_hand_where_failback_is_manual() {
    let (home, dr, proxy) = two_pools("failback = \"manual\"");
    takes_down(&proxy, "main", &home);
    assert!(all_by(&proxy, &dr));
    takes_up(&proxy, "main", &home);
    let asked = home.asked();
    until("more probes", || (home.asked() > asked + 5).then_some(()));
    assert!(all_by(&proxy, &dr));
    assert_eq!(proxy.admin_change("POST", "/v1/pools/main/failover", "{\"to\":\"home\"}").status(), 200);
    assert!(all_by(&proxy, &home));
}

#[test]
fn where_every_probe_fails_whose_port_accepts_is_used() {
    let (one, other, gone) = (Member::http(), Member::http(), Member::http());
    let setup = Setup::http(&addresses(&[&one, &other, &gone])).pool("balance = \"round_robin\"");
    let proxy = setup.text(&probes("")).start();
    for member in [&one, &other, &gone] {
        proxy.until_endpoint("main", &member.name(), "probe.state", "up");
    }
    gone.stop();
    one.says(503);
    other.falls_silent();
    for member in [&one, &other, &gone] {
        proxy.until_endpoint("main", &member.name(), "usable", false);
    }
    assert_eq!(proxy.event("main", "fails open")["kind"], "pool");
    let answers: Vec<_> = (0..12).map(|_| proxy.get("/").text()).collect();
    for member in [&one, &other] {
        assert!(answers.iter().filter(|who| **who == member.name()).count() >= 4, "{answers:?}");
    }
    assert!(answers.iter().all(|who| *who == one.name() || *who == other.name()), "{answers:?}");
    // Who stands above is told to look elsewhere first.
    until("the pool to be unhealthy", || {
        (proxy.admin_get("/health/pools/main").status() == 503).then_some(())
    });
    assert!(proxy.admin_get("/health/pools/main").text().contains("it fails open"));
    one.says(200);
    proxy.event("main", "does not fail open");
}

#[test]
fn fail_open_may_be_switched_off() {
    let member = Member::http();
    let proxy = Setup::http(&[member.address()]).pool("fail_open = false").text(&probes("")).start();
    proxy.until_endpoint("main", &member.name(), "probe.state", "up");
    takes_down(&proxy, "main", &member);
    let answer = proxy.get("/");
    assert_eq!(answer.status(), 503);
    assert!(answer.field("retry-after").is_some());
    assert!(member.traffic().seen().is_empty());
}
