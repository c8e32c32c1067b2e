//! Tcp sessions that are told to end, and the rules of that: whoever does not lead any more has told all of its own, a
//! rate is kept, shedding takes nothing below a fair part, a "no" and a removal end what they should in their time.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use plimsoll::config::health::Health;
use plimsoll::control::health::closing::CutOrder;
use plimsoll::model::units::Rate;
use plimsoll::policy::health::bounds::Bounds;
use plimsoll::proxy::sessions::Cut;
use plimsoll::runtime::condition::Impediment;
use plimsoll::runtime::pool::Pool;
use tokio::sync::Notify;

use crate::books::{Rule, is_usable};
use crate::control::TICK;
use crate::scenario::{DB, DRAIN, LB, LB_CONNECTIONS, PROBE_ANSWER_MS};
use crate::world::World;

/// A tcp session that leads to an endpoint.
#[derive(Debug)]
pub(crate) struct Session {
    pool: usize,
    slot: u32,
    told: Cell<bool>,
    close: Notify,
}

impl Session {
    /// One to the endpoint at this slot, of this pool.
    pub(crate) fn new(pool: usize, slot: u32) -> Self {
        Self { pool, slot, told: Cell::new(false), close: Notify::new() }
    }

    /// Ends when the session is told to close.
    pub(crate) async fn closed(&self) {
        if !self.told.get() {
            self.close.notified().await;
        }
    }

    fn tell(&self) {
        self.told.set(true);
        self.close.notify_one();
    }
}

/// What is remembered to hold closings to their rules.
#[derive(Debug, Default)]
pub(crate) struct Closings {
    /// When sessions were told for being demoted, by slot.
    demoted: BTreeMap<u32, VecDeque<Duration>>,
    /// When sessions were shed.
    shed: VecDeque<Duration>,
    /// Endpoints that a reload left out, by slot, and when.
    removed: BTreeMap<u32, Duration>,
}

impl Closings {
    /// A reload has left this one out.
    pub(crate) fn removed(&mut self, slot: u32, now: Duration) {
        self.removed.insert(slot, now);
    }

    /// Holds what was told to a rate, over the last second.
    fn within_rate(told: &mut VecDeque<Duration>, count: usize, rate: Rate, world: &World) -> Rule {
        let now = world.now();
        let since = now.saturating_sub(Duration::from_secs(1));
        told.retain(|at| *at >= since);
        told.extend(std::iter::repeat_n(now, count));
        // What a late tick has left undone it makes good.
        let time = Duration::from_secs(1) + TICK + world.lateness(since);
        let most = (time.as_nanos() / rate.spacing().as_nanos().max(1)) as usize + 1;
        if told.len() > most {
            return Err(format!("{} sessions were told to end in {time:?}, and {most} may be", told.len()));
        }
        Ok(())
    }
}

/// Tells sessions to end, as the keeper wants it.
pub(crate) fn cut(world: &World, order: &CutOrder) {
    let told: Vec<Rc<Session>> = {
        let sessions = world.sessions.borrow();
        let untold = sessions.iter().filter(|s| s.slot == order.slot && !s.told.get());
        untold.take(order.at_most).cloned().collect()
    };
    told.iter().for_each(|session| session.tell());
    if told.first().is_some_and(|session| session.pool == LB) {
        world.check(was_right(world, order, told.len()));
    }
}

fn rules(world: &World) -> Option<Health> {
    world.scenario.config.pools[LB].health.clone()
}

/// Holds what the keeper wanted to the rules of the pool whose sessions are moved and ended by rates.
fn was_right(world: &World, order: &CutOrder, count: usize) -> Rule {
    let Some(health) = rules(world) else { return Ok(()) };
    let mut closings = world.closings.borrow_mut();
    match order.why {
        Cut::Demoted => {
            let Some(written) = health.on_demotion else {
                return Err("a session was ended by a \"no\" that ends none".to_owned());
            };
            let Some(rate) = written.rate else { return Ok(()) };
            Closings::within_rate(closings.demoted.entry(order.slot).or_default(), count, rate, world)
        }
        Cut::Shed => {
            let Some(rate) = health.shed else {
                return Err("a session was shed where none is to be".to_owned());
            };
            Closings::within_rate(&mut closings.shed, count, rate, world)?;
            leaves_enough(&world.snapshot().pools[LB], order.slot, count)
        }
        Cut::Unreachable | Cut::Aged | Cut::Drained | Cut::ListenerRemoved | Cut::Ended | Cut::Evicted => {
            Ok(())
        }
    }
}

/// Nobody is left with less than its part by weight of what all usable ones have.
fn leaves_enough(pool: &Pool, slot: u32, count: usize) -> Rule {
    let proven = |e: &&_| is_usable(pool, e) && !e.live.condition.has(Impediment::Unproven);
    let usable: Vec<_> = pool.endpoints.iter().filter(proven).collect();
    let all: u64 = usable.iter().map(|e| u64::from(e.live.in_flight())).sum();
    let weights: u64 = usable.iter().map(|e| u64::from(e.weight)).sum();
    let Some(endpoint) = usable.iter().find(|e| e.live.slot() == slot) else {
        return Err(format!("a session of slot {slot} was shed, which is not usable"));
    };
    let left = u64::from(endpoint.live.in_flight()).saturating_sub(count as u64);
    if left * weights < all * u64::from(endpoint.weight) {
        return Err(format!(
            "{} is left with {left} of {all} by shedding, at {} of a weight of {weights}",
            endpoint.name, endpoint.weight
        ));
    }
    Ok(())
}

/// Holds the world to the rules of every tick.
pub(crate) fn step(world: &World) -> Rule {
    superseded_are_told(world)?;
    removed_are_told(world)?;
    demoted_are_told(world)
}

/// Sessions of whoever does not lead have been told to close once somebody else does.
fn superseded_are_told(world: &World) -> Rule {
    let snapshot = world.snapshot();
    let pool = &snapshot.pools[DB];
    let Some(leader) = pool.endpoints.iter().find(|e| is_usable(pool, e)) else { return Ok(()) };
    let sessions = world.sessions.borrow();
    let others = |s: &&Rc<Session>| s.pool == DB && s.slot != leader.live.slot() && !s.told.get();
    match sessions.iter().find(others) {
        Some(session) => {
            Err(format!("{} leads, and a session of slot {} was not told", leader.name, session.slot))
        }
        None => Ok(()),
    }
}

/// What leads to an endpoint that a reload left out has its time, and no more.
fn removed_are_told(world: &World) -> Rule {
    let (now, closings) = (world.now(), world.closings.borrow());
    for session in world.sessions.borrow().iter().filter(|session| !session.told.get()) {
        let Some(removed) = closings.removed.get(&session.slot) else { continue };
        let over = now.saturating_sub((*removed + DRAIN).max(world.void_until()));
        if over > TICK * 2 {
            return Err(format!("a session of slot {}, removed at {removed:?}, was not told", session.slot));
        }
    }
    Ok(())
}

/// What leads to an endpoint that says no is told at the rate that is written, once the "no" must have been noticed.
fn demoted_are_told(world: &World) -> Rule {
    let Some(health) = rules(world) else { return Ok(()) };
    let Some(written) = health.on_demotion else { return Ok(()) };
    let bounds = Bounds::new(&health.settings, Duration::from_millis(PROBE_ANSWER_MS));
    let each = written.rate.map_or(Duration::ZERO, Rate::spacing);
    let time =
        bounds.refused + health.settings.timeout + written.after + each * (LB_CONNECTIONS + 1) + TICK * 2;
    let (now, snapshot) = (world.now(), world.snapshot());
    let since = world.void_until().max(world.books.borrow().suspended());
    for endpoint in &snapshot.pools[LB].endpoints {
        let Some(no) = world.node(endpoint).says_no_since() else { continue };
        let joined = world.books.borrow().joined_at(world.node(endpoint).number);
        if joined > no || now.saturating_sub(no.max(since)) <= time {
            continue;
        }
        let sessions = world.sessions.borrow();
        let untold = |s: &&Rc<Session>| s.slot == endpoint.live.slot() && !s.told.get();
        if sessions.iter().any(|s| untold(&s)) {
            return Err(format!(
                "{} says no since {no:?}, and a session was not told within {time:?}",
                endpoint.name
            ));
        }
    }
    Ok(())
}
