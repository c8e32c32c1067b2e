//! Control, with machines of this world in the place of sockets: the keeper and its tasks as `control::health::watch` runs
//! them, the operator, and our own standing still.

use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use plimsoll::control::change::{AdminState, EndpointChange, FailoverTarget};
use plimsoll::control::health::keeper::{Effect, Question, TargetId};
use plimsoll::control::health::probe::outcome::{Evidence, Outcome, Phases};
use plimsoll::model::address::Address;
use plimsoll::policy::failover::Failback;
use plimsoll::policy::health::Verdict;
use plimsoll::policy::health::guard::is_void;
use plimsoll::runtime::endpoint::Endpoint;
use plimsoll::runtime::judge::Change;
use plimsoll::runtime::pool::Pool;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::books::is_usable;
use crate::node::Node;
use crate::scenario::{DR, WEB};
use crate::world::{Event, World, number};
use crate::{closings, reload};

/// How often the keeper is told the time.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// Takes over what runs, as after a reload.
pub(crate) fn adopt(world: &Rc<World>) {
    let snapshot = world.snapshot();
    let watches = plimsoll::control::health::targets::watches(&world.config.borrow().pools, &snapshot);
    let watches = watches.expect("the checks of the scenarios can be made");
    world.keeper.borrow_mut().adopt(&snapshot, &world.config.borrow(), watches, world.now());
    perform(world);
}

/// Tells the keeper what live traffic changed.
pub(crate) fn hear(world: &Rc<World>, pool: &Pool, endpoint: Option<&Endpoint>, change: &Change) {
    world.keeper.borrow_mut().hear(&pool.name, endpoint.map(|e| &e.name), change, "", world.now());
    perform(world);
}

/// Tells the keeper the time, again and again.
pub(crate) async fn tick(world: Rc<World>) {
    let mut due = Instant::now();
    loop {
        sleep_until(due).await;
        let lag = Instant::now().saturating_duration_since(due);
        due = Instant::now() + TICK;
        world.keeper.borrow_mut().note_lag(lag, world.now());
        world.keeper.borrow_mut().tick(world.now());
        perform(&world);
        world.step(Event::Tick);
        world.check(closings::step(&world));
    }
}

/// Does what the keeper wants done.
fn perform(world: &Rc<World>) {
    let effects = world.keeper.borrow_mut().effects();
    for effect in effects {
        match effect {
            Effect::Cut(order) => closings::cut(world, &order),
            Effect::Watch(id) => world.spawn(watch(Rc::clone(world), id)),
            Effect::Tell(change) => {
                world.remember(Event::Told(change.to.into_owned(), change.because.clone()))
            }
            Effect::Unwatch(_) | Effect::Purge(_) | Effect::Suspect(..) => {}
        }
    }
}

async fn watch(world: Rc<World>, id: TargetId) {
    let mut wait = world.keeper.borrow().first_wait(id);
    loop {
        // The timer's own grain is none of ours.
        sleep(Duration::from_millis(u64::try_from(wait.as_millis()).unwrap_or(0))).await;
        let Some(question) = world.keeper.borrow().question(id) else { return };
        let node = world.node_at(question.probe.address);
        let began = world.now();
        // An answer's rank is of the moment of its claim.
        let rank = node.claims().and_then(|rank| u64::try_from(rank).ok());
        let (verdict, ports) = ask(&world, &question, &node).await;
        let lateness = world.lateness(began);
        let verdict = if is_void(lateness) { Verdict::Void } else { verdict };
        let outcome = Outcome { verdict, rank, agent: None, evidence: evidence(lateness) };
        let random = world.random();
        let next = world.keeper.borrow_mut().observe(id, &outcome, &ports, random, world.now());
        perform(&world);
        world.step(Event::Probed { node: node.number, verdict, lateness });
        let Some(next) = next else { return };
        wait = next;
    }
}

fn evidence(lateness: Duration) -> Evidence {
    Evidence {
        what: String::new(),
        phases: Phases::default(),
        bytes: Vec::new(),
        lateness,
        own_address_gone: false,
    }
}

/// What each port says, where that is known.
type Ports = Vec<(Address, Option<bool>)>;

async fn ask(world: &World, question: &Question, node: &Node) -> (Verdict, Ports) {
    let (limit, ports) = (question.probe.timeout, &question.ports);
    let (began, mut asked) = (world.now(), pin!(node.probed(limit)));
    if ports.is_empty() {
        return (asked.await, Vec::new());
    }
    if question.suspicious {
        return beside(asked, ask_ports(world, ports, limit)).await;
    }
    let Ok(verdict) = timeout(limit / 2, &mut asked).await else {
        return beside(asked, ask_ports(world, ports, limit / 2)).await;
    };
    let left = limit.saturating_sub(world.now() - began);
    beside(std::future::ready(verdict), ask_ports(world, ports, left)).await
}

async fn beside(
    probe: impl Future<Output = Verdict>,
    ports: impl Future<Output = Ports>,
) -> (Verdict, Ports) {
    let (mut probe, mut ports) = (pin!(probe), pin!(ports));
    tokio::select! {
        biased;
        verdict = &mut probe => match verdict {
            Verdict::CannotBeAsked => (verdict, ports.await),
            Verdict::Good | Verdict::SaysNo | Verdict::Void => (verdict, Vec::new()),
        },
        ports = &mut ports => (probe.await, ports),
    }
}

async fn ask_ports(world: &World, ports: &[Address], limit: Duration) -> Ports {
    let mut asked = Vec::new();
    // Each target of the scenarios has one port.
    for &port in ports {
        let began = world.now();
        let accepts = world.node_at(port).connect(limit).await.is_ok();
        asked.push((port, (!is_void(world.lateness(began))).then_some(accepts)));
    }
    asked
}

/// An operator who changes weights, drains, leaves endpoints out and takes them in again, and fails over, until the world is healed; then takes all of it back.
pub(crate) async fn operator(world: Rc<World>) {
    loop {
        sleep(Duration::from_millis(1000 + world.random() % 6000)).await;
        if world.healed.get() {
            return restore(&world);
        }
        let snapshot = world.snapshot();
        let pool = &snapshot.pools[usize::try_from(world.random() % 4).unwrap_or(0)];
        let at = usize::try_from(world.random()).unwrap_or(usize::MAX) % pool.endpoints.len();
        let endpoint = &pool.endpoints[at];
        match world.random() % 12 {
            0..3 => {
                let weight = u16::try_from(world.random() % 5).unwrap_or(1);
                reload::reweigh(&world, pool, endpoint, weight);
                adopt(&world);
            }
            8..10 => {
                reload::remove(&world, &pool.name, &endpoint.name);
                adopt(&world);
            }
            10..12 => {
                let random = world.random();
                reload::take_in(&world, random);
                adopt(&world);
            }
            3..6 => change_state(&world, pool, endpoint, AdminState::Ready),
            6 => change_state(&world, pool, endpoint, AdminState::Drain),
            _ => fail_over(&world),
        }
    }
}

fn fail_over(world: &Rc<World>) {
    let snapshot = world.snapshot();
    let (web, dr) = (&snapshot.pools[WEB], &snapshot.pools[DR]);
    let to = if world.random().is_multiple_of(2) {
        FailoverTarget::Home
    } else {
        FailoverTarget::Pool(dr.name.clone())
    };
    // A pool that does not fail over refuses.
    let _refused = world.keeper.borrow_mut().fail_over(&web.name, &to, world.now());
    perform(world);
    world.step(Event::Operator { node: None, word: "fails over" });
}

fn change_state(world: &Rc<World>, pool: &Pool, endpoint: &Endpoint, state: AdminState) {
    let was_usable = is_usable(pool, endpoint);
    let (of, name) = (pool.name.clone(), endpoint.name.clone());
    let change = EndpointChange { pool: of, endpoint: name, state: Some(state), weight: None, force: false };
    let changed = world.keeper.borrow_mut().set_admin_state(&change, world.now());
    perform(world);
    world.step(Event::Operator { node: Some(number(endpoint)), word: state.word() });
    let left = pool.endpoints.iter().filter(|e| is_usable(pool, e)).count();
    let all = u32::try_from(pool.endpoints.len()).unwrap_or(u32::MAX);
    let least = pool.failover.min_available.at_least(all) as usize;
    let broken =
        changed.is_ok() && state != AdminState::Ready && was_usable && !pool.exclusive && left < least;
    world.check(if broken {
        Err(format!("{left} endpoints are left by the operator, and {least} must be"))
    } else {
        Ok(())
    });
}

fn restore(world: &Rc<World>) {
    reload::restore(world);
    adopt(world);
    let snapshot = world.snapshot();
    for pool in &snapshot.pools {
        for endpoint in &pool.endpoints {
            change_state(world, pool, endpoint, AdminState::Ready);
        }
        let _refused = world.keeper.borrow_mut().fail_over(&pool.name, &FailoverTarget::Home, world.now());
    }
    perform(world);
}

/// Whether a pool's traffic comes home by itself.
pub(crate) fn comes_home(pool: &Pool) -> bool {
    matches!(pool.failover.failback, Failback::After { .. })
}

/// Stands still now and then, as a process that was stopped: time goes on, and every timer is late.
pub(crate) async fn stall(world: Rc<World>) {
    while !world.healed.get() {
        sleep(Duration::from_millis(4000 + world.random() % 20_000)).await;
        let from = world.now();
        let length = [100, 300, 1000, 4000, 9000][usize::try_from(world.random() % 5).unwrap_or(0)];
        let length = Duration::from_millis(length);
        // Nobody runs before time has moved.
        world.stalled(from, from + length);
        world.remember(Event::Stalled(length));
        tokio::time::advance(length).await;
    }
}
