//! A property over random pairs of configurations: whatever keeps its identity keeps its live state, whatever else of the
//! file is another.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::board::Board;
use super::keeper::Keeper;
use super::probe::outcome::{Evidence, Outcome as Asked, Phases};
use super::targets;
use crate::config::{self, Config};
use crate::control::change::{AdminState, EndpointChange, FailoverTarget};
use crate::model::name::{EndpointName, PoolName};
use crate::policy::balance::Draw;
use crate::policy::health::Verdict;
use crate::policy::retry::Failure;
use crate::runtime::compile::{Machine, Weights, compile};
use crate::runtime::condition::Impediment;
use crate::runtime::counters::WorkerId;
use crate::runtime::endpoint::{Endpoint, Work};
use crate::runtime::judge::Outcome;
use crate::runtime::pick::{Order, Picked};
use crate::runtime::pool::{Pool, Tried};
use crate::runtime::snapshot::Snapshot;

const MACHINE: Machine = Machine { workers: 2, connections_max: 1000, time: Duration::ZERO, secret: None };
const POOLS: [&str; 3] = ["a", "b", "c"];

/// One endpoint of a file: its name is its number.
#[derive(Debug, Clone)]
struct Written {
    moved: bool,
    weight: u16,
    tier: u8,
}

#[derive(Debug, Clone)]
struct WrittenPool {
    endpoints: BTreeMap<u8, Written>,
    balance: &'static str,
    health: Option<(u8, &'static str, &'static str)>,
    outlier: bool,
    breaker: bool,
    slow_start: bool,
    exclusive: bool,
    fails_over: bool,
}

/// A file: pools by their place in [`POOLS`].
#[derive(Debug, Clone)]
struct File {
    pools: BTreeMap<usize, WrittenPool>,
    listeners: u8,
    routes: u8,
    reversed: bool,
}

/// Something that happens between two configurations.
#[derive(Debug, Clone)]
enum Happens {
    Probe { which: usize, verdict: Verdict },
    Attempt { pool: usize, failure: Option<Failure>, random: u64 },
    Begin { pool: usize, random: u64 },
    Admin { which: usize, state: AdminState },
    Failover { pool: usize },
    Tick,
}

fn file() -> impl Strategy<Value = File> {
    let written = (prop::bool::weighted(0.1), 1u16..4, 0u8..2).prop_map(|(moved, weight, tier)| Written {
        moved,
        weight,
        tier,
    });
    let health = prop::option::of((
        1u8..5,
        prop::sample::select(vec!["1s", "2s"]),
        prop::sample::select(vec!["/", "/well"]),
    ));
    let balance = prop::sample::select(vec!["round_robin", "least_requests", "peak_ewma", "ring_hash"]);
    let pool = (prop::collection::btree_map(0u8..5, written, 1..5), balance, health, any::<[bool; 5]>());
    let pool = pool.prop_map(
        |(endpoints, balance, health, [outlier, breaker, slow_start, exclusive, fails_over])| {
            let exclusive = exclusive && health.is_some();
            WrittenPool { endpoints, balance, health, outlier, breaker, slow_start, exclusive, fails_over }
        },
    );
    let pools = prop::collection::btree_map(0..POOLS.len(), pool, 1..=POOLS.len());
    (pools, 1u8..4, 0u8..3, any::<bool>()).prop_map(|(pools, listeners, routes, reversed)| File {
        pools,
        listeners,
        routes,
        reversed,
    })
}

fn happens() -> impl Strategy<Value = Happens> {
    let verdicts = vec![Verdict::Good, Verdict::Good, Verdict::SaysNo, Verdict::CannotBeAsked, Verdict::Void];
    let failures = vec![None, Some(Failure::Connect), Some(Failure::Reset), Some(Failure::Status(500))];
    prop_oneof![
        6 => (any::<usize>(), prop::sample::select(verdicts)).prop_map(|(which, verdict)| Happens::Probe { which, verdict }),
        6 => (any::<usize>(), prop::sample::select(failures), any::<u64>())
            .prop_map(|(pool, failure, random)| Happens::Attempt { pool, failure, random }),
        2 => (any::<usize>(), any::<u64>()).prop_map(|(pool, random)| Happens::Begin { pool, random }),
        1 => (any::<usize>(), prop::sample::select(AdminState::ALL.to_vec()))
            .prop_map(|(which, state)| Happens::Admin { which, state }),
        1 => any::<usize>().prop_map(|pool| Happens::Failover { pool }),
        1 => Just(Happens::Tick),
    ]
}

impl File {
    fn text(&self) -> String {
        let mut text = String::new();
        let first = POOLS[*self.pools.keys().next().expect("there is one")];
        for number in 0..self.listeners {
            writeln!(text, "[listener.l{number}]\nbind = [\"127.0.0.1:{}\"]", 8000 + u16::from(number))
                .expect("text");
        }
        for number in 0..self.routes {
            writeln!(
                text,
                "[[route]]\nname = \"r{number}\"\npath_prefix = \"/{number}\"\npool = \"{first}\""
            )
            .expect("text");
        }
        for (&place, pool) in &self.pools {
            let mut endpoints: Vec<String> =
                pool.endpoints.iter().map(|(&number, written)| written.text(place, number, pool)).collect();
            if self.reversed {
                endpoints.reverse();
            }
            let other = self.pools.keys().find(|other| **other != place).filter(|_| pool.fails_over);
            let failover =
                other.map(|&other| format!("failover = [\"{}\"]\n", POOLS[other])).unwrap_or_default();
            let health = pool.health.map(|(fall, interval, path)| {
                format!(
                    "[pool.{0}.health]\npath = \"{path}\"\nfall = {fall}\ninterval = \"{interval}\"\n",
                    POOLS[place]
                )
            });
            let breaker = if pool.breaker { "breaker = { failure_threshold = 3 }\n" } else { "" };
            let outlier = match (pool.outlier, pool.exclusive) {
                (true, false) => "outlier = { consecutive_failures = 3 }\n",
                _ => "outlier = \"off\"\n",
            };
            let breaker = if pool.exclusive { "" } else { breaker };
            writeln!(
                text,
                "[pool.{}]\nbalance = \"{}\"\nendpoints = [{}]\nexclusive = {}\nslow_start = \"{}\"\n{failover}{breaker}{outlier}{}",
                POOLS[place],
                pool.balance,
                endpoints.join(", "),
                pool.exclusive,
                if pool.slow_start { "30s" } else { "0s" },
                health.unwrap_or_default(),
            )
            .expect("text");
        }
        text
    }

    fn load(&self) -> Config {
        config::load_text(&self.text(), Path::new("generated.toml"), &|_| None)
            .unwrap_or_else(|error| panic!("{error}\n{}", self.text()))
    }
}

impl Written {
    fn text(&self, pool: usize, number: u8, of: &WrittenPool) -> String {
        let port = if self.moved { 81 } else { 80 };
        let tier = if of.exclusive { 0 } else { self.tier };
        let weight = self.weight;
        format!(
            "{{ name = \"e{number}\", address = \"10.0.{pool}.{number}:{port}\", weight = {weight}, tier = {tier} }}"
        )
    }
}

fn asked(verdict: Verdict) -> Asked {
    let phases = Phases { total: Duration::from_millis(1), ..Phases::default() };
    let evidence = Evidence {
        what: format!("{verdict:?}"),
        phases,
        bytes: Vec::new(),
        lateness: Duration::ZERO,
        own_address_gone: false,
    };
    Asked { verdict, rank: None, agent: None, evidence }
}

/// Lets things happen; what began and has not ended is in what comes back.
fn live<'a>(
    keeper: &mut Keeper,
    snapshot: &'a Arc<Snapshot>,
    happenings: &[Happens],
) -> Vec<crate::runtime::pick::Place<'a>> {
    let mut under_way = Vec::new();
    let names: Vec<(PoolName, EndpointName)> = snapshot
        .pools
        .iter()
        .flat_map(|pool| pool.endpoints.iter().map(|e| (pool.name.clone(), e.name.clone())))
        .collect();
    for happening in happenings {
        let now = snapshot.clock.now();
        let picked = |pool: usize, random: u64| {
            let pool = &snapshot.pools[pool % snapshot.pools.len()];
            let order = Order::new(&snapshot.pools, &pool.chain);
            match order.pick(&Tried::default(), Work::Request, Draw::keyless(random)) {
                Picked::Place(place, _) => Some((order, place)),
                Picked::Busy(..) | Picked::Nothing => None,
            }
        };
        match happening {
            Happens::Probe { which, verdict } => {
                let ids: Vec<_> = keeper.targets.keys().copied().collect();
                if let Some(id) = ids.get(which % ids.len().max(1)) {
                    keeper.observe(*id, &asked(*verdict), &[], 0, now);
                }
            }
            Happens::Attempt { pool, failure, random } => {
                if let Some((order, mut place)) = picked(*pool, *random) {
                    let answered =
                        Outcome::Answered { status: 200, after: Duration::from_millis(random % 500) };
                    place.ended(
                        &order,
                        WorkerId(1),
                        failure.map_or(answered, Outcome::Failed),
                        *random,
                        |_, _| {},
                    );
                }
            }
            Happens::Begin { pool, random } => {
                under_way.extend(picked(*pool, *random).map(|(_, place)| place))
            }
            Happens::Admin { which, state } => {
                let (pool, endpoint) = names[which % names.len()].clone();
                let change =
                    EndpointChange { pool, endpoint, state: Some(*state), weight: None, force: true };
                keeper.set_admin_state(&change, now).expect("it exists");
            }
            Happens::Failover { pool } => {
                let pool = &snapshot.pools[pool % snapshot.pools.len()];
                let to = pool.chain.get(1).and_then(|&at| snapshot.pools.get(at));
                let to = to.map_or(FailoverTarget::Home, |to| FailoverTarget::Pool(to.name.clone()));
                keeper.fail_over(&pool.name, &to, now).expect("it exists");
            }
            Happens::Tick => keeper.tick(now),
        }
        keeper.effects();
    }
    under_way
}

/// All that is known of an endpoint and does not come from the file.
fn portrait(keeper: &Keeper, pool: &Pool, endpoint: &Endpoint) -> BTreeMap<&'static str, String> {
    let live = &endpoint.live;
    let judged = &live.judged;
    let board = keeper.board.endpoint(live.slot());
    let conditions: Vec<Impediment> = Impediment::ALL
        .into_iter()
        .filter(|i| *i != Impediment::Weightless && live.condition.has(*i))
        .collect();
    let counted =
        |of: fn(&crate::runtime::endpoint::EndpointCounters) -> &crate::runtime::counters::Counter| {
            live.counters.sum(of)
        };
    BTreeMap::from([
        ("slot", live.slot().to_string()),
        ("retired", live.is_retired().to_string()),
        ("in flight", live.in_flight().to_string()),
        ("latency", live.latency().to_word().to_string()),
        ("share", live.share().to_string()),
        (
            "counters",
            format!(
                "{:?}",
                [
                    counted(|c| &c.outcomes),
                    counted(|c| &c.outlier_failures),
                    counted(|c| &c.breaker_failures)
                ]
            ),
        ),
        ("judged", format!("{judged:?}")),
        ("ejection", format!("{:?}", judged.ejection())),
        ("breaker", format!("{:?}", judged.gate())),
        ("conditions", format!("{conditions:?}")),
        ("on trial", live.condition.is_on_trial().to_string()),
        ("admin state", board.admin_state.word().to_owned()),
        ("override", format!("{:?}", keeper.admin.get(&(pool.name.clone(), endpoint.name.clone())))),
        ("growing since", format!("{:?}", keeper.growing.get(&live.slot()))),
        ("probe", format!("{:?}", board.probe)),
    ])
}

/// What the probes of an endpoint have added up to, without the settings that they go by.
fn results(keeper: &Keeper, slot: u32, settings: &crate::policy::health::Settings) -> Option<String> {
    let is_of =
        |&(pool, at): &(usize, usize)| keeper.endpoint(pool, at).is_some_and(|e| e.live.slot() == slot);
    let target = keeper.targets.values().find(|target| target.members.iter().any(is_of))?;
    let mut health = target.health.clone();
    health.reconfigure(settings.clone());
    Some(format!("{health:?} {:?} {:?} {}", target.history, target.since, target.failing))
}

/// Whether an aspect may be another after this reload.
fn may_change(aspect: &str, was: &WrittenPool, is: &WrittenPool) -> bool {
    let health = was.health.is_some() != is.health.is_some() || was.exclusive != is.exclusive;
    match aspect {
        // What was probed in one and is not in the other begins or ends.
        "conditions" | "probe" => health,
        _ => false,
    }
}

/// What was known of an endpoint.
struct Known<'a> {
    endpoint: &'a Endpoint,
    portrait: BTreeMap<&'static str, String>,
    /// As they would be under the settings of the next configuration.
    results: Option<String>,
}

/// Everybody by pool and endpoint.
type All<'a> = BTreeMap<(&'a PoolName, &'a EndpointName), Known<'a>>;

/// The settings of a pool's probes, where it has any.
fn settings<'a>(config: &'a Config, pool: &PoolName) -> Option<&'a crate::policy::health::Settings> {
    let pool = config.pools.iter().find(|p| p.name == *pool)?;
    pool.health.as_ref().map(|health| &health.settings)
}

fn everybody<'a>(keeper: &Keeper, snapshot: &'a Snapshot, next: &Config) -> All<'a> {
    let all =
        snapshot.pools.iter().flat_map(|pool| pool.endpoints.iter().map(move |endpoint| (pool, endpoint)));
    let known = |(pool, endpoint): (&'a Pool, &'a Endpoint)| {
        let results = settings(next, &pool.name).and_then(|of| results(keeper, endpoint.live.slot(), of));
        let portrait = portrait(keeper, pool, endpoint);
        ((&pool.name, &endpoint.name), Known { endpoint, portrait, results })
    };
    all.map(known).collect()
}

fn check(first: &File, second: &File, happenings: &[Happens]) -> Result<(), TestCaseError> {
    let (one, two) = (first.load(), second.load());
    let before = Arc::new(compile(&one, None, &MACHINE, &Weights::default()).expect("no file is named"));
    before.settle();
    let mut keeper = Keeper::new(Arc::clone(&before), Arc::<Board>::default());
    let watches =
        |config: &Config, snapshot: &Snapshot| targets::watches(&config.pools, snapshot).expect("checks");
    keeper.adopt(&before, &one, watches(&one, &before), before.clock.now());
    let under_way = live(&mut keeper, &before, happenings);

    // Nothing of a policy's time passes between what was and what is.
    let now = before.clock.now();
    let known = everybody(&keeper, &before, &two);
    let after =
        Arc::new(compile(&two, Some(&before), &MACHINE, &Weights::default()).expect("no file is named"));
    after.settle();
    keeper.adopt(&after, &two, watches(&two, &after), now);

    let known_after = everybody(&keeper, &after, &two);
    for pool in &after.pools {
        let Some(old) = before.pools.iter().find(|old| old.name == pool.name) else { continue };
        check_pool(old, pool)?;
        let place = POOLS.iter().position(|name| *name == pool.name.as_str()).expect("a pool of ours");
        let (was, is) = (&first.pools[&place], &second.pools[&place]);
        for endpoint in &pool.endpoints {
            let key = (&pool.name, &endpoint.name);
            if let Some(known) = known.get(&key) {
                check_endpoint(known, &known_after[&key], was, is)?;
            }
        }
    }
    for listener in after.listeners.iter() {
        let old = before.listeners.iter().find(|old| old.name == listener.name);
        prop_assert!(
            old.is_none_or(|old| Arc::ptr_eq(&old.live, &listener.live)),
            "listener {}",
            listener.name
        );
    }
    drop(under_way);
    let in_flight: u32 = before.pools.iter().flat_map(|p| &p.endpoints).map(|e| e.live.in_flight()).sum();
    prop_assert_eq!(in_flight, 0, "what ends after the reload is counted down where it was counted up");
    Ok(())
}

fn check_pool(old: &Pool, pool: &Pool) -> Result<(), TestCaseError> {
    prop_assert!(Arc::ptr_eq(&old.live, &pool.live), "pool {} forgot its live state", pool.name);
    for tier in &pool.tiers {
        let old = old.tiers.iter().find(|old| old.number == tier.number);
        prop_assert!(old.is_none_or(|old| Arc::ptr_eq(&old.live, &tier.live)), "tier of {}", pool.name);
    }
    Ok(())
}

fn check_endpoint(
    old: &Known<'_>,
    new: &Known<'_>,
    was: &WrittenPool,
    is: &WrittenPool,
) -> Result<(), TestCaseError> {
    let (before, after) = (old.endpoint, new.endpoint);
    if before.address != after.address {
        prop_assert!(!Arc::ptr_eq(&before.live, &after.live), "another address is another endpoint");
        return Ok(());
    }
    for (aspect, value) in &new.portrait {
        if !may_change(aspect, was, is) {
            prop_assert_eq!(&old.portrait[aspect], value, "{} of {}", aspect, &after.name);
        }
    }
    if let (Some((.., path)), Some((.., now_path))) = (was.health, is.health)
        && path == now_path
    {
        prop_assert_eq!(&old.results, &new.results, "results of {}", &after.name);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_keeps_its_identity_keeps_its_live_state(
        first in file(),
        second in file(),
        happenings in prop::collection::vec(happens(), 0..120),
    ) {
        check(&first, &second, &happenings)?;
    }

    #[test]
    fn the_same_file_again_changes_nothing(first in file(), happenings in prop::collection::vec(happens(), 0..120)) {
        check(&first, &first, &happenings)?;
    }
}
