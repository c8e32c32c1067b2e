//! Pools in which one endpoint leads: who is used, whose sessions end, and what happens when they contradict each other.

use std::time::Duration;

use crate::harness::client::Client;
use crate::harness::member::{Member, addresses, greeted, probes};
use crate::harness::proxy::{Proxy, Setup};
use crate::harness::until;

/// An exclusive tcp pool of these members, with keys of the pool and of its probes.
fn behind(members: &[&Member], pool: &str, more: &str) -> Proxy {
    let setup = Setup::tcp(&addresses(members)).pool("exclusive = true").pool(pool);
    setup.text(&probes(more)).start()
}

const BY_TIMELINE: &str = "exclusive_rank = { json = \"timeline\" }";

/// Two members of which the first leads.
fn led(pool: &str, more: &str) -> (Member, Member, Proxy) {
    let (leader, other) = (Member::tcp(), Member::tcp());
    leader.states(200, "{\"timeline\": 1}");
    other.says(503);
    let proxy = behind(&[&leader, &other], pool, more);
    proxy.until_endpoint("main", &leader.name(), "leader", true);
    (leader, other, proxy)
}

fn lives(client: &mut Client) -> bool {
    client.silent_for(Duration::from_millis(300))
}

/// Who serves a new session.
fn who(proxy: &Proxy) -> String {
    greeted(proxy).1
}

#[test]
fn only_the_leader_gets_traffic() {
    let (leader, other, proxy) = led("", "");
    assert!((0..10).all(|_| who(&proxy) == leader.name()));
    let standby = proxy.endpoint("main", &other.name());
    assert_eq!((&standby["usable"], &standby["leader"]), (&false.into(), &false.into()));
    // Who stands by is no lack.
    until("health", || {
        let health = proxy.admin_json("/health/pools/main");
        (health["status"] == "healthy" && health["message"] == format!("{} leads", leader.name()))
            .then_some(())
    });
}

#[test]
fn nobody_is_used_where_nobody_leads() {
    let (one, other) = (Member::tcp(), Member::tcp());
    one.says(503);
    other.says(503);
    let proxy = behind(&[&one, &other], "", "");
    for member in [&one, &other] {
        proxy.until_endpoint("main", &member.name(), "probe.state", "says no");
    }
    assert!(Client::is_turned_away(proxy.web));
    assert_eq!(proxy.admin_get("/health/pools/main").status(), 503);
}

#[test]
fn the_promotion_of_another_ends_the_old_leaders_sessions_at_once() {
    // The old leader goes on claiming, and no run of bad results could ever end it.
    let (old, new, proxy) = led("", "fall = 1000");
    let (mut client, _) = greeted(&proxy);
    // A "no" is established by the first answer ever.
    new.says(200);
    client.expect_end();
    assert_eq!(who(&proxy), new.name());
    let change = proxy.event("main", &new.name());
    assert_eq!((&change["kind"], &change["from"]), (&"leader".into(), &old.name().into()));
    assert_eq!(
        change["evidence"].as_array().and_then(|all| all.last()).map(|last| last["result"] == "good"),
        Some(true)
    );
    assert_eq!(proxy.endpoint("main", &old.name())["leader"], false);
    // The superseded one claims all the time and does not come back.
    let asked = old.asked();
    until("more probes", || (old.asked() > asked + 5).then_some(()));
    assert_eq!(who(&proxy), new.name());
}

#[test]
fn of_two_that_claim_the_higher_rank_leads() {
    let (one, other) = (Member::tcp(), Member::tcp());
    one.states(200, "{\"timeline\": 7}");
    other.states(200, "{\"timeline\": 8}");
    let proxy = behind(&[&one, &other], BY_TIMELINE, "");
    proxy.until_endpoint("main", &other.name(), "leader", true);
    let (mut client, name) = greeted(&proxy);
    assert_eq!(name, other.name());
    one.states(200, "{\"timeline\": 9}");
    client.expect_end();
    assert_eq!(who(&proxy), one.name());
}

#[test]
fn a_tie_is_led_by_nobody_and_raises_an_alarm() {
    let (one, other) = (Member::tcp(), Member::tcp());
    for member in [&one, &other] {
        member.states(200, "{\"timeline\": 7}");
    }
    let proxy = behind(&[&one, &other], BY_TIMELINE, "");
    let alarm = proxy.event("main", "nobody");
    assert_eq!(alarm["kind"], "alarm");
    assert!(Client::is_turned_away(proxy.web));
    other.says(503);
    proxy.until_endpoint("main", &one.name(), "leader", true);
    assert_eq!(who(&proxy), one.name());
}

#[test]
fn a_leader_whose_health_api_is_silent_is_kept_while_its_port_accepts() {
    let (leader, other, proxy) = led("", "on_unreachable = { close_after = \"0s\" }");
    let (mut client, _) = greeted(&proxy);
    leader.stop_health();
    proxy.event(&leader.name(), "down: cannot be asked");
    let asked = other.asked();
    until("more probes", || (other.asked() > asked + 5).then_some(()));
    assert!(lives(&mut client));
    assert_eq!(who(&proxy), leader.name());
    // With its port the reason to keep it goes.
    leader.traffic().refuse();
    client.expect_end();
    assert_eq!(proxy.event("main", "nobody")["from"], leader.name());
    assert!(Client::is_turned_away(proxy.web));
}

#[test]
fn a_silent_leader_is_kept_no_longer_than_stale_for() {
    let (leader, _other, proxy) = led("stale_for = \"1s\"", "");
    leader.falls_silent();
    let change = proxy.event("main", "nobody");
    assert_eq!((&change["kind"], &change["from"]), (&"leader".into(), &leader.name().into()));
    assert_eq!(change["because"], "the leader's health check was silent for too long");
}

#[test]
fn a_silent_leader_yields_to_one_that_claims() {
    let (leader, other, proxy) = led("", "");
    let (mut client, _) = greeted(&proxy);
    leader.falls_silent();
    proxy.event(&leader.name(), "down: cannot be asked");
    other.says(200);
    client.expect_end();
    assert_eq!(who(&proxy), other.name());
}

#[test]
fn a_leader_that_says_no_for_good_loses_its_sessions() {
    let (leader, _other, proxy) = led("", "rise = 1");
    let (mut client, _) = greeted(&proxy);
    leader.alternates(&[503, 503, 200]);
    let asked = leader.asked();
    until("more probes", || (leader.asked() > asked + 6).then_some(()));
    assert!(lives(&mut client));
    leader.says(503);
    client.expect_end();
    assert_eq!(proxy.event("main", "nobody")["from"], leader.name());
}
