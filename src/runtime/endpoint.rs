//! One endpoint: what the snapshot says of it, and its live state that every snapshot shares.

use std::num::NonZero;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::adaptive::Adaptive;
use super::condition::{Condition, Level};
use super::counters::{Counter, PerWorker};
use super::judge::Judged;
use super::sync::{AtomicBool, AtomicU32, Ordering};
use super::tls::client::EndpointTls;
use crate::model::address::Address;
use crate::model::name::EndpointName;
use crate::policy::balance::FULL_SHARE;
use crate::policy::balance::peak_ewma::{DECAY, PeakEwma};

/// An endpoint of a pool as one snapshot has it.
#[derive(Debug)]
pub struct Endpoint {
    /// Its name within the pool.
    pub name: EndpointName,
    /// Where it is.
    pub address: Address,
    /// Its share of the traffic of its tier.
    pub weight: u16,
    /// Its priority group.
    pub tier: u8,
    /// Where it stands; empty is nowhere.
    pub zone: Box<str>,
    /// Written ceilings on work in flight; `u32::MAX` is none. [`Endpoint::ceiling`] is what holds.
    pub limits: Ceilings,
    /// TLS to it, where its pool has some.
    pub tls: Option<Arc<EndpointTls>>,
    /// What happens to it.
    pub live: Arc<EndpointLive>,
}

/// Ceilings of an endpoint, by kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ceilings {
    /// Requests in flight.
    pub requests: u32,
    /// Tcp connections.
    pub connections: u32,
}

/// Which ceiling a piece of work counts against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// An HTTP request.
    Request,
    /// A tcp connection.
    Connection,
}

impl Ceilings {
    /// The ceiling for a kind of work.
    #[must_use]
    pub const fn of(self, work: Work) -> u32 {
        match work {
            Work::Request => self.requests,
            Work::Connection => self.connections,
        }
    }
}

impl Endpoint {
    /// How much work of a kind may be in flight on it: what its agent says of either, or else what is written.
    #[inline]
    #[must_use]
    pub fn ceiling(&self, work: Work) -> u32 {
        match self.live.agent_ceiling.load(Ordering::Relaxed) {
            0 => self.limits.of(work),
            ceiling => ceiling,
        }
    }

    /// Whether it may be used at this level by those who belong to it: while it drains or has no weight, for `drain_timeout`
    /// of its pool.
    #[must_use]
    pub fn takes_bound(&self, level: Level, drain_timeout: Duration, now: impl Fn() -> Duration) -> bool {
        let live = &self.live;
        live.condition.allows_bound(level)
            && !live.is_retired()
            && (!live.condition.is_leaving() || now().saturating_sub(live.leaving_since()) < drain_timeout)
    }

    /// The address to connect to.
    #[must_use]
    pub const fn socket(&self) -> Address {
        self.address
    }
}

/// Counters of one endpoint; a worker writes only its own block.
#[derive(Debug, Default)]
pub struct EndpointCounters {
    /// Attempts that reached it with a request or a connection.
    pub attempts: Counter,
    /// Connections made.
    pub connects: Counter,
    /// Attempts on a pooled connection.
    pub reused: Counter,
    /// Pooled connections that were found closed before or while they were used.
    pub stale: Counter,
    /// Failures: the connection could not be made.
    pub failed_connect: Counter,
    /// Failures: closed before a complete response head.
    pub failed_reset: Counter,
    /// Failures: no response head in time.
    pub failed_timeout: Counter,
    /// Failures: the answer was no valid HTTP.
    pub failed_answer: Counter,
    /// Attempts that ended and were not cancelled.
    pub outcomes: Counter,
    /// Those of them that ejection counts as failures.
    pub outlier_failures: Counter,
    /// Those of them that the breaker counts as failures.
    pub breaker_failures: Counter,
    /// Response heads that came.
    pub answers: Counter,
    /// Times to them, in microseconds.
    pub answer_micros: Counter,
    /// HTTP/2 connections of this worker now, busy or not.
    pub multiplexed: Counter,
    /// Connections on which the endpoint announced that it takes no more requests.
    pub goaways: Counter,
    /// Requests that the endpoint gave back unprocessed.
    pub given_back: Counter,
    /// HTTP/2 connections that were closed because a PING was not answered.
    pub silent: Counter,
    /// Idle pooled connections of this worker now.
    pub idle: Counter,
    /// Bytes sent to it.
    pub bytes_in: Counter,
    /// Bytes received from it.
    pub bytes_out: Counter,
}

/// Live state of an endpoint, keyed by pool and name; kept over reloads for as long as anything uses it.
///
/// What a pick reads is on one cache line (two, as the prefetcher pulls them), since every worker writes one of it.
#[derive(Debug)]
#[repr(align(128))]
pub struct EndpointLive {
    requests: InFlightCount,
    connections: InFlightCount,
    /// What stands against picking it.
    pub condition: Condition,
    slot: u32,
    slots: Arc<Slots>,
    retired: AtomicBool,
    /// How much of its weight is in force, of [`FULL_SHARE`].
    share: AtomicU32,
    /// The ceiling that its agent asks for, in the place of the written ones; 0 is none.
    agent_ceiling: AtomicU32,
    /// How long it takes to answer, as a word of [`PeakEwma`].
    latency: AtomicU64,
    /// Since when it takes nothing but what belongs to it, in microseconds and one; 0 is not at all.
    leaving: AtomicU64,
    /// What live traffic says of it.
    pub judged: Box<Judged>,
    /// The ceiling that is found out by its answers, in pools that want that.
    pub adaptive: Adaptive,
    /// Counters, per worker.
    pub counters: PerWorker<EndpointCounters>,
}

impl EndpointLive {
    /// Live state at a slot of its own.
    #[must_use]
    pub fn new(slots: &Arc<Slots>, workers: usize) -> Self {
        Self {
            requests: InFlightCount::default(),
            connections: InFlightCount::default(),
            condition: Condition::default(),
            slot: slots.take(),
            slots: Arc::clone(slots),
            retired: AtomicBool::new(false),
            share: AtomicU32::new(FULL_SHARE),
            agent_ceiling: AtomicU32::new(0),
            latency: AtomicU64::new(0),
            leaving: AtomicU64::new(0),
            judged: Box::default(),
            adaptive: Adaptive::default(),
            counters: PerWorker::new(workers),
        }
    }

    /// A small number that no other live endpoint has; workers index their idle connections by it.
    #[inline]
    #[must_use]
    pub const fn slot(&self) -> u32 {
        self.slot
    }

    /// Work of all kinds in flight on it, over all workers.
    #[inline]
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.requests.get() + self.connections.get()
    }

    /// Work of one kind in flight on it. Kinds are counted apart: a session that lasts for hours takes no request's
    /// place, and says nothing of how many requests there are.
    #[inline]
    #[must_use]
    pub fn in_flight_of(&self, work: Work) -> u32 {
        self.count(work).get()
    }

    #[inline]
    const fn count(&self, work: Work) -> &InFlightCount {
        match work {
            Work::Request => &self.requests,
            Work::Connection => &self.connections,
        }
    }

    /// Notes that no published snapshot has this endpoint any more: what is in flight finishes, nothing new begins,
    /// and no connection is kept.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::SeqCst);
    }

    /// Whether it has been removed.
    #[inline]
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// Notes since when it takes nothing but what belongs to it, once that has changed in its condition.
    pub fn note_leaving(&self, now: Duration) {
        let now = u64::try_from(now.as_micros()).unwrap_or(u64::MAX - 1) + 1;
        if !self.condition.is_leaving() {
            self.leaving.store(0, Ordering::Relaxed);
        } else if self.leaving.load(Ordering::Relaxed) == 0 {
            self.leaving.store(now, Ordering::Relaxed);
        }
    }

    /// Since when it takes nothing but what belongs to it.
    fn leaving_since(&self) -> Duration {
        match self.leaving.load(Ordering::Relaxed) {
            // It has only just begun.
            0 => Duration::MAX,
            since => Duration::from_micros(since - 1),
        }
    }

    /// Whether it can take the place of another that goes: work that began with an older snapshot also sees those that
    /// have been removed since.
    #[must_use]
    pub(super) fn stays_usable(&self, level: Level) -> bool {
        self.condition.allows(level) && !self.is_retired()
    }

    /// How much of its weight is in force, of [`FULL_SHARE`]; less while it starts slowly.
    #[must_use]
    pub fn share(&self) -> u32 {
        self.share.load(Ordering::Relaxed)
    }

    /// Sets how much of its weight is in force.
    pub fn set_share(&self, share: u32) {
        self.share.store(share, Ordering::Relaxed);
    }

    /// Sets the ceiling that its agent asks for, which takes the place of the written ones; nothing gives those back.
    pub fn set_agent_ceiling(&self, ceiling: Option<NonZero<u32>>) {
        self.agent_ceiling.store(ceiling.map_or(0, NonZero::get), Ordering::Relaxed);
    }

    /// How long it takes to answer.
    #[must_use]
    pub fn latency(&self) -> PeakEwma {
        PeakEwma::from_word(self.latency.load(Ordering::Relaxed))
    }

    /// Goes on with what another process has seen of its answers, on the same time line.
    pub fn set_latency(&self, latency: PeakEwma) {
        self.latency.store(latency.to_word(), Ordering::Relaxed);
    }

    /// Notes how long an answer took. Of two workers that do so at once, one may have to look again.
    pub(super) fn observe_latency(&self, took: Duration, now: Duration) {
        let mut word = self.latency.load(Ordering::Relaxed);
        loop {
            let next = PeakEwma::from_word(word).observe(took, now, DECAY).to_word();
            match self.latency.compare_exchange_weak(word, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(actual) => word = actual,
            }
        }
    }

    /// Takes one place under `limit`, or nothing when all are taken.
    #[inline]
    pub(super) fn try_acquire(&self, work: Work, limit: u32) -> bool {
        self.count(work).try_acquire(limit)
    }

    /// Gives one place back.
    #[inline]
    pub(super) fn release(&self, work: Work) {
        self.count(work).release();
    }
}

impl Drop for EndpointLive {
    fn drop(&mut self) {
        self.slots.give_back(self.slot);
    }
}

/// Work in flight on an endpoint.
#[derive(Debug, Default)]
pub(super) struct InFlightCount(AtomicU32);

impl InFlightCount {
    pub(super) fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    // No order is needed here: the queue's fences make sure that whoever frees a place sees the waiter, or the waiter
    // sees the place.
    pub(super) fn try_acquire(&self, limit: u32) -> bool {
        let mut now = self.0.load(Ordering::Relaxed);
        loop {
            if now >= limit {
                return false;
            }
            match self.0.compare_exchange_weak(now, now + 1, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(actual) => now = actual,
            }
        }
    }

    pub(super) fn release(&self) {
        let before = self.0.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "a place was given back twice");
    }
}

/// Hands out the smallest free slot numbers, so that tables indexed by slot stay as small as the most endpoints
/// that ever lived at once.
#[derive(Debug, Default)]
pub struct Slots(Mutex<SlotState>);

#[derive(Debug, Default)]
struct SlotState {
    next: u32,
    free: Vec<u32>,
}

impl Slots {
    fn take(&self) -> u32 {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.free.pop().unwrap_or_else(|| {
            let slot = state.next;
            state.next += 1;
            slot
        })
    }

    fn give_back(&self, slot: u32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).free.push(slot);
    }
}

#[cfg(all(test, not(plimsoll_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_taken_only_under_the_limit() {
        let live = EndpointLive::new(&Arc::default(), 1);
        assert!(live.try_acquire(Work::Request, 2));
        assert!(live.try_acquire(Work::Request, 2));
        assert!(!live.try_acquire(Work::Request, 2));
        live.release(Work::Request);
        assert!(live.try_acquire(Work::Request, 2));
    }

    #[test]
    fn requests_and_tcp_connections_take_no_place_of_each_other() {
        let live = EndpointLive::new(&Arc::default(), 1);
        assert!(live.try_acquire(Work::Connection, 1) && !live.try_acquire(Work::Connection, 1));
        assert!(live.try_acquire(Work::Request, 1) && !live.try_acquire(Work::Request, 1));
        live.release(Work::Connection);
        assert_eq!((live.in_flight_of(Work::Connection), live.in_flight_of(Work::Request)), (0, 1));
        assert_eq!(live.in_flight(), 1);
    }

    #[test]
    fn a_slot_is_used_again_only_after_its_endpoint_is_gone() {
        let slots = Arc::<Slots>::default();
        let first = EndpointLive::new(&slots, 1);
        let second = EndpointLive::new(&slots, 1);
        assert_ne!(first.slot(), second.slot());
        let free = first.slot();
        drop(first);
        assert_eq!(EndpointLive::new(&slots, 1).slot(), free);
    }
}
