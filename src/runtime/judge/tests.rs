//! Tests of what is judged where pools are chained.

use std::path::Path;

use super::*;
use crate::config;
use crate::policy::balance::Draw;
use crate::runtime::compile::{Machine, Weights, compile};
use crate::runtime::endpoint::Work;
use crate::runtime::pick::Picked;
use crate::runtime::pool::Tried;
use crate::runtime::snapshot::Snapshot;

fn snapshot(pools: &str) -> Snapshot {
    let text = format!(
        "[listener.web]\nbind = [\"127.0.0.1:8080\"]\n[[route]]\npool = \"home\"\n[defaults.pool]\n\
         outlier = {{ consecutive_failures = 1 }}\n{pools}"
    );
    let config = config::load_text(&text, Path::new("test.toml"), &|_| None).expect("a valid configuration");
    compile(
        &config,
        None,
        &Machine { workers: 1, connections_max: 100, time: Duration::ZERO, secret: None },
        &Weights::default(),
    )
    .expect("no file is named")
}

#[tokio::test(start_paused = true)]
async fn failing_open_overlooks_the_rule_of_max_fails() {
    let snapshot = snapshot(
        "[pool.home]\nendpoints = [\"10.0.0.1:80\", \"10.0.0.2:80\"]\noutlier = { max_fails = 1 }\n",
    );
    let [home] = snapshot.pools.as_slice() else { panic!("one pool") };
    let order = Order::new(&snapshot.pools, &home.chain);
    let pick = || order.pick(&Tried::default(), Work::Request, Draw::keyless(0));
    let Picked::Place(mut place, _) = pick() else { panic!("all are usable") };
    place.ended(&order, WorkerId(0), Outcome::Failed(Failure::Connect), 0, |_, _| {});
    let ejected = home.endpoints.iter().position(|e| e.live.condition.has(Impediment::Ejected));
    let other = &home.endpoints[1 - ejected.expect("one failure is enough")];
    other.live.condition.set(Impediment::Down, true);
    for _ in 0..3 {
        assert!(matches!(pick(), Picked::Place(_, Level::Open)), "nothing is usable");
    }
}

#[tokio::test(start_paused = true)]
async fn the_pool_that_was_asked_first_does_not_stand_in_for_its_failover_pool() {
    let snapshot = snapshot(
        "[pool.home]\nendpoints = [\"10.0.0.1:80\"]\nfailover = [\"other\"]\n\
         [pool.other]\nendpoints = [\"10.0.0.2:80\"]\n",
    );
    let [home, _] = snapshot.pools.as_slice() else { panic!("two pools") };
    let order = Order::new(&snapshot.pools, &home.chain);
    let mut tried = Tried::default();
    tried.add(&home.endpoints[0]);
    let Picked::Place(mut place, _) = order.pick(&tried, Work::Request, Draw::keyless(0)) else {
        panic!("the failover pool has a place")
    };
    let mut changes = Vec::new();
    place.ended(&order, WorkerId(0), Outcome::Failed(Failure::Connect), 0, |_, change| changes.push(change));
    let held = |change: &Change| matches!(change, Change::EjectionHeld { cap: outlier::Cap::LastUsable, .. });
    assert!(matches!(changes.as_slice(), [change] if held(change)), "{changes:?}");
}

#[tokio::test(start_paused = true)]
async fn who_has_been_removed_since_does_not_stand_in_for_the_last_one() {
    let snapshot = snapshot(
        "[pool.home]\nendpoints = [\"10.0.0.1:80\", \"10.0.0.2:80\"]\nfailover = [\"other\"]\nbalance = \"first\"\n\
         [pool.other]\nendpoints = [\"10.0.0.3:80\"]\n",
    );
    let [home, other] = snapshot.pools.as_slice() else { panic!("two pools") };
    let order = Order::new(&snapshot.pools, &home.chain);
    for removed in [&home.endpoints[1], &other.endpoints[0]] {
        removed.live.retire();
    }
    let Picked::Place(mut place, _) = order.pick(&Tried::default(), Work::Request, Draw::keyless(0)) else {
        panic!("the first is usable")
    };
    let mut changes = Vec::new();
    place.ended(&order, WorkerId(0), Outcome::Failed(Failure::Connect), 0, |_, change| changes.push(change));
    let held = |change: &Change| matches!(change, Change::EjectionHeld { cap: outlier::Cap::LastUsable, .. });
    assert!(matches!(changes.as_slice(), [change] if held(change)), "{changes:?}");
}

#[tokio::test(start_paused = true)]
async fn nobody_runs_beside_a_leader_or_in_a_backup() {
    let beside = |pool: &str| {
        let snapshot = snapshot(pool);
        let [home, ..] = snapshot.pools.as_slice() else { panic!("a pool") };
        let order = Order::new(&snapshot.pools, &home.chain);
        // As the keeper does with one that leads.
        for impediment in [Impediment::Standby, Impediment::Unproven] {
            home.endpoints[0].live.condition.set(impediment, false);
        }
        let Picked::Place(place, _) = order.pick(&Tried::default(), Work::Request, Draw::keyless(0)) else {
            panic!("the first is usable")
        };
        let mut tried = Tried::default();
        tried.add(place.endpoint);
        let found = Order::beside(&place, &tried, Work::Request, Draw::keyless(0)).is_some();
        assert_eq!(Order::has_beside(&place, &tried), found, "{pool}");
        found
    };
    let two = "endpoints = [\"10.0.0.1:80\", \"10.0.0.2:80\"]\nbalance = \"first\"\n";
    assert!(beside(&format!("[pool.home]\n{two}")));
    let exclusive = "exclusive = true\nhealth = { check = \"http\" }\noutlier = \"off\"\n";
    assert!(!beside(&format!("[pool.home]\n{two}{exclusive}")));
    let backup = "endpoints = [\"10.0.0.1:80\", { address = \"10.0.0.2:80\", tier = 1 }]\n";
    assert!(!beside(&format!("[pool.home]\n{backup}")));
    let failover = "endpoints = [\"10.0.0.1:80\"]\nfailover = [\"other\"]\n";
    assert!(!beside(&format!("[pool.home]\n{failover}[pool.other]\nendpoints = [\"10.0.0.3:80\"]\n")));
}
