//! New endpoints are asked before they are published; meanwhile everything goes on, and whoever comes next waits.

use std::net::SocketAddr;

use plimsoll::ReloadError;

use crate::harness::clock::Moment;
use crate::harness::embedded::{Embedded, now};
use crate::harness::member::{HEALTH_PORT, Member};
use crate::harness::origin::Origin;
use crate::harness::{client, free_port, own_ip, until};

fn with(web: SocketAddr, warm: &str, endpoint: SocketAddr, more: &str) -> String {
    format!(
        "[process]\nworkers = 2\nreload_guard = 0.0\nwarm_timeout = \"{warm}\"\n[listener.web]\nbind = [\"{web}\"]\n\
         [[route]]\npool = \"main\"\n[pool.main]\nendpoints = [\"{endpoint}\"]\n{more}\n"
    )
}

const PROBED: &str = "health = { check = \"http\", interval = \"100ms\", timeout = \"1s\" }";

#[test]
fn traffic_stays_where_it_is_until_the_new_endpoint_is_well() {
    let web = free_port(own_ip());
    let (old, new) = (Member::http(), Member::http());
    new.says(503);
    let probed = format!(
        "health = {{ check = \"http\", port = {HEALTH_PORT}, interval = \"100ms\", timeout = \"1s\" }}"
    );
    let proxy = Embedded::start(&with(web, "4m", old.address(), &probed));
    let reload = proxy.reloading(&with(web, "4m", new.address(), &probed));
    until("the new one to be asked twice", || (new.asked() >= 2).then_some(()));
    assert_eq!(proxy.generation(), 1);
    assert_eq!(proxy.status().pools[0].endpoints[0].name.as_str(), old.name());
    assert_eq!(client::get(web, "/").status(), 200);
    new.says(200);
    let reloaded = reload.join().expect("a thread").expect("it reloads");
    assert_eq!((reloaded.generation, reloaded.warnings), (2, Vec::new()));
    let endpoint = &proxy.status().pools[0].endpoints[0];
    assert!(endpoint.usable && endpoint.reason.is_none(), "{endpoint:?}");
}

#[test]
fn what_does_not_get_warm_is_published_as_it_is_and_named() {
    let web = free_port(own_ip());
    let (old, dead) = (Origin::saying("old"), free_port(own_ip()));
    for more in ["", PROBED] {
        let proxy = Embedded::start(&with(web, "300ms", old.address(), more));
        let start = Moment::now();
        let reloaded = proxy.reload(&with(web, "300ms", dead, more));
        assert!(start.elapsed().as_millis() >= 300);
        assert!(reloaded.warnings[0].contains(&dead.to_string()), "{:?}", reloaded.warnings);
        assert_eq!(proxy.status().pools[0].endpoints[0].address.to_string(), dead.to_string());
    }
}

#[test]
fn the_next_one_waits_and_a_shutdown_does_not() {
    let web = free_port(own_ip());
    let (old, cold) = (Origin::saying("old"), Member::http());
    cold.says(503);
    let health = format!(
        "health = {{ check = \"http\", port = {HEALTH_PORT}, interval = \"100ms\", timeout = \"1s\" }}"
    );
    let proxy = Embedded::start(&with(web, "4m", old.address(), ""));
    let warming = proxy.reloading(&with(web, "4m", cold.address(), &health));
    until("the new one to be asked", || (cold.asked() >= 1).then_some(()));
    let waiting = proxy.reloading(&with(web, "4m", old.address(), "slow_start = \"1s\""));
    assert_eq!(client::get(web, "/").text(), "old");
    assert!(!warming.is_finished() && !waiting.is_finished());
    now(proxy.shutdown(true));
    for reload in [warming, waiting] {
        let result = reload.join().expect("a thread");
        assert!(matches!(result, Err(ReloadError::Stopping)), "{result:?}");
    }
}

#[test]
fn a_weight_changes_while_others_warm_up_and_stays_changed() {
    use plimsoll::control::change::EndpointChange;
    use plimsoll::model::name::{EndpointName, PoolName};
    use plimsoll::model::units::Weight;

    let web = free_port(own_ip());
    let (old, new) = (Origin::saying("old"), Member::http());
    new.says(503);
    let proxy = Embedded::start(&with(web, "4m", old.address(), ""));
    let health = format!(
        "[pool.other]\nendpoints = [\"{}\"]\n\
         health = {{ check = \"http\", port = {HEALTH_PORT}, interval = \"100ms\", timeout = \"1s\" }}",
        new.address()
    );
    let warming = proxy.reloading(&with(web, "4m", old.address(), &health));
    until("the new one to be asked", || (new.asked() >= 1).then_some(()));
    let change = EndpointChange {
        pool: PoolName::new("main").expect("a name"),
        endpoint: EndpointName::new(&old.address().to_string()).expect("a name"),
        state: None,
        weight: Weight::new(7),
        force: false,
    };
    now(proxy.change_endpoint(change)).expect("it is changed");
    assert_eq!(proxy.status().pools[0].endpoints[0].weight, 7);
    assert!(!warming.is_finished());
    new.says(200);
    assert_eq!(warming.join().expect("a thread").expect("it reloads").generation, 3);
    assert_eq!(proxy.status().pools[0].endpoints[0].weight, 7);
}

#[test]
fn at_the_start_readiness_waits_for_the_first_probes() {
    let web = free_port(own_ip());
    let member = Member::http();
    member.hangs();
    let health = format!(
        "health = {{ check = \"http\", port = {HEALTH_PORT}, interval = \"100ms\", timeout = \"1m\" }}"
    );
    let proxy = Embedded::start(&with(web, "4m", member.address(), &health));
    until("the first probe", || (member.asked() >= 1).then_some(()));
    let readiness = proxy.readiness(false);
    assert!(!readiness.ready && readiness.reasons[0].contains("first probes"), "{readiness:?}");
    assert!(proxy.readiness(true).ready, "other machines do not matter to it");
    member.says(200);
    until("readiness", || proxy.readiness(false).ready.then_some(()));
    let impatient = free_port(own_ip());
    member.hangs();
    let proxy = Embedded::start(&with(impatient, "200ms", member.address(), &health));
    until("readiness", || proxy.readiness(false).ready.then_some(()));
}
