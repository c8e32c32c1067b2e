//! What operators and balancers above do with health: taking endpoints out and back, weights, and asking how it is.

use std::path::Path;

use plimsoll::config;
use plimsoll::control::change::{AdminState, EndpointChange};
use plimsoll::model::name::{EndpointName, PoolName};
use plimsoll::model::units::Weight;

use crate::harness::client::Client;
use crate::harness::member::{Member, addresses, greeted, probes};
use crate::harness::proxy::{Proxy, Setup};
use crate::harness::{free_port, own_ip, until};

fn two_of(
    member: fn() -> Member,
    setup: fn(&[std::net::SocketAddr]) -> Setup,
    pool: &str,
) -> (Member, Member, Proxy) {
    let (one, other) = (member(), member());
    let setup = setup(&addresses(&[&one, &other])).pool("balance = \"round_robin\"").pool(pool);
    let proxy = setup.text(&probes("rise = 1")).start();
    for member in [&one, &other] {
        proxy.until_endpoint("main", &member.name(), "probe.state", "up");
    }
    (one, other, proxy)
}

fn two(pool: &str) -> (Member, Member, Proxy) {
    two_of(Member::http, Setup::http, pool)
}

fn change(proxy: &Proxy, member: &Member, query: &str, body: &str) -> u16 {
    let path = format!("/v1/pools/main/endpoints/{}{query}", member.name().replace(':', "%3A"));
    proxy.admin_change("PATCH", &path, body).status()
}

const DRAIN: &str = "{\"admin_state\":\"drain\"}";
const MAINTENANCE: &str = "{\"admin_state\":\"maintenance\"}";
const READY: &str = "{\"admin_state\":\"ready\"}";

/// How many of so many requests a member answers.
fn share(proxy: &Proxy, member: &Member, of: usize) -> usize {
    (0..of).filter(|_| proxy.get("/").text() == member.name()).count()
}

#[test]
fn a_drained_endpoint_gets_nothing_new_and_keeps_what_it_has() {
    let (one, other, proxy) = two_of(Member::tcp, Setup::tcp, "");
    let mut held = until("a session", || Some(greeted(&proxy)).filter(|(_, name)| *name == one.name())).0;
    assert_eq!(change(&proxy, &one, "", DRAIN), 200);
    assert_eq!(proxy.endpoint("main", &one.name())["reason"], "drain");
    assert!((0..6).all(|_| greeted(&proxy).1 == other.name()));
    assert!(held.silent_for(std::time::Duration::from_millis(300)));
    assert_eq!(proxy.event(&one.name(), "drain")["because"], "the operator says so");
    assert_eq!(change(&proxy, &one, "", READY), 200);
    assert!((0..2).any(|_| greeted(&proxy).1 == one.name()));
}

#[test]
fn maintenance_ends_sessions_at_once() {
    let (one, other, proxy) = two_of(Member::tcp, Setup::tcp, "");
    let mut held = until("a session", || Some(greeted(&proxy)).filter(|(_, name)| *name == one.name())).0;
    assert_eq!(change(&proxy, &one, "", MAINTENANCE), 200);
    held.expect_end();
    assert!((0..6).all(|_| greeted(&proxy).1 == other.name()));
}

#[test]
fn a_guard_keeps_endpoints_that_must_stay_unless_forced() {
    let (one, other, proxy) = two("min_available = 2");
    for state in [DRAIN, MAINTENANCE] {
        assert_eq!(change(&proxy, &one, "", state), 409);
    }
    assert_eq!(share(&proxy, &one, 10), 5);
    assert_eq!(change(&proxy, &one, "?force", DRAIN), 200);
    assert_eq!(share(&proxy, &other, 10), 10);
    // What is out already is no loss.
    assert_eq!(change(&proxy, &one, "", MAINTENANCE), 200);
    assert_eq!(change(&proxy, &one, "", "{\"admin_state\":\"away\"}"), 400);
    assert_eq!(proxy.admin_change("PATCH", "/v1/pools/main/endpoints/nobody%3A1", DRAIN).status(), 404);
}

#[test]
fn a_weight_changes_live() {
    let (one, other, proxy) = two("");
    assert_eq!(change(&proxy, &one, "", "{\"weight\":3}"), 200);
    assert_eq!(share(&proxy, &one, 40), 30);
    assert_eq!(change(&proxy, &one, "", "{\"weight\":0}"), 200);
    assert_eq!(share(&proxy, &other, 10), 10);
    assert_eq!(proxy.endpoint("main", &one.name())["reason"], "weight 0");
}

/// In this process, since only the library reloads so far.
#[tokio::test]
async fn what_the_operator_has_changed_survives_a_reload() {
    let (one, other, web) = (Member::http(), Member::http(), free_port(own_ip()));
    let load = |more: &str| {
        let text = format!(
            "[process]\nworkers = 1\n[log]\naccess = \"off\"\n[listener.web]\nbind = [\"{}\"]\n\
             [[route]]\nname = \"all\"\npool = \"main\"\n\
             [pool.main]\nendpoints = [\"{}\", \"{}\"]\n{more}{}",
            web,
            one.address(),
            other.address(),
            probes("")
        );
        config::load_text(&text, Path::new("a.toml"), &|_| None).expect("a configuration")
    };
    let handle = plimsoll::Proxy::start(&load("")).expect("a start");
    let change = |member: &Member, state: Option<AdminState>, weight: Option<u16>| EndpointChange {
        pool: PoolName::new("main").expect("a name"),
        endpoint: EndpointName::new(&member.name()).expect("a name"),
        state,
        weight: weight.and_then(Weight::new),
        force: false,
    };
    handle.change_endpoint(change(&one, Some(AdminState::Drain), None)).await.expect("a drain");
    handle.change_endpoint(change(&other, None, Some(7))).await.expect("a weight");
    handle.reload(load("slow_start = \"1s\"\n")).await.expect("a reload");
    let status = handle.status();
    let [one, other] = &status.pools[0].endpoints[..] else { panic!("two endpoints") };
    assert_eq!(
        (one.reason.as_deref(), one.usable, one.admin_state),
        (Some("drain"), false, AdminState::Drain)
    );
    assert_eq!((other.weight, other.usable), (7, true));
    handle.shutdown(true).await;
}

#[test]
fn an_endpoint_that_returns_starts_slowly() {
    let (one, other) = (Member::http(), Member::http());
    let listed = |member: &Member| format!("{{ address = \"{}\", weight = 100 }}", member.address());
    let setup = Setup::listed(&format!("{}, {}", listed(&one), listed(&other)));
    let setup = setup.pool("balance = \"round_robin\"").pool("slow_start = \"6s\"");
    let proxy = setup.text(&probes("rise = 1")).start();
    // The start of the proxy is no return.
    proxy.until_endpoint("main", &one.name(), "probe.state", "up");
    assert_eq!(proxy.endpoint("main", &one.name())["effective_weight"], 100);
    one.says(503);
    proxy.until_endpoint("main", &one.name(), "usable", false);
    one.says(200);
    proxy.until_endpoint("main", &one.name(), "usable", true);
    let early = share(&proxy, &one, 60);
    assert!((1..20).contains(&early), "{early} of 60");
    assert!(
        proxy.endpoint("main", &one.name())["effective_weight"].as_u64().is_some_and(|weight| weight < 100)
    );
    proxy.until_endpoint("main", &one.name(), "effective_weight", 100);
    let late = share(&proxy, &one, 40);
    assert!((18..=22).contains(&late), "{late} of 40");
}

#[test]
fn a_route_tells_a_balancer_above_how_a_pool_is() {
    let member = Member::http();
    let routes = "[[route]]\nname = \"lb\"\npath = \"/lb\"\nhealth = \"main\"\n[[route]]\nname = \"all\"\npool = \"main\"\n";
    let proxy = Setup::http(&[member.address()]).routes(routes).text(&probes("")).start();
    proxy.until_endpoint("main", &member.name(), "probe.state", "up");
    assert_eq!(proxy.get("/lb").status(), 200);
    assert!(member.traffic().seen().is_empty());
    member.says(503);
    until("the route to say no", || (proxy.get("/lb").status() == 503).then_some(()));
    // It fails open all the same.
    assert_eq!(proxy.get("/").status(), 200);
}

#[test]
fn readiness_depends_on_required_pools_unless_asked_for_itself() {
    let member = Member::http();
    let proxy = Setup::http(&[member.address()]).pool("required = true").text(&probes("")).start();
    assert_eq!(proxy.admin_get("/readyz").status(), 200);
    member.says(503);
    let refusal = until("the node not to be ready", || {
        Some(proxy.admin_get("/readyz")).filter(|answer| answer.status() == 503)
    });
    assert!(refusal.text().contains("main"), "{}", refusal.text());
    assert_eq!(proxy.admin_get("/readyz?local").status(), 200);
    assert_eq!(proxy.admin_get("/livez").status(), 200);
    member.says(200);
    until("the node to be ready", || (proxy.admin_get("/readyz").status() == 200).then_some(()));
    assert!(Client::connect(proxy.web).get("/").status() == 200);
}

#[test]
fn metrics_follow_the_probes() {
    let (one, other, proxy) = two("");
    let up = |member: &Member| proxy.metric("plimsoll_endpoint_usable", &member.name());
    assert!(up(&one) > 0.5 && up(&other) > 0.5);
    one.says(503);
    proxy.until_endpoint("main", &one.name(), "usable", false);
    assert!(up(&one) < 0.5 && up(&other) > 0.5);
}
