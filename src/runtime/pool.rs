//! A pool as one snapshot has it, and its live state; which endpoint takes a piece of work is `pick`'s.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::answer_times::AnswerTimes;
use super::clock::Clock;
use super::condition::{Condition, Level};
use super::counters::{Counter, Histogram, PerWorker, Statuses};
use super::endpoint::{Endpoint, Work};
use super::judge::{AnswersThen, Judged};
use super::limits::EndpointLimits;
use super::queue::Queue;
use super::snapshot::{Edition, Overrides};
use super::sticky::Sticky;
use super::sync::{AtomicU32, Mutex, Ordering, lock};
use super::tier::{self, Tier};
use super::tls::client::PoolTls;
use super::tls::fault::TlsFaults;
use crate::model::address::Source;
use crate::model::field::FieldName;
use crate::model::grpc;
use crate::model::name::PoolName;
use crate::model::protocol::Protocol;
use crate::model::proxy_protocol::Version;
use crate::policy::admission::ceiling::{Rising, ceiling};
use crate::policy::admission::{gradient, shedding};
use crate::policy::budget::Budget;
use crate::policy::{breaker, budget, failover, outlier, retry};

/// A pool of one snapshot.
#[derive(Debug)]
pub struct Pool {
    /// Its name.
    pub name: PoolName,
    /// The snapshot that it is part of.
    pub edition: Arc<Edition>,
    /// Endpoints, those of one tier side by side, tiers in order.
    pub endpoints: Vec<Endpoint>,
    /// What is spoken with its endpoints.
    pub protocol: Protocol,
    /// Where each tier lies in `endpoints`, and its balancers.
    pub tiers: Vec<Tier>,
    /// The pools that take its work, as indexes into the snapshot's: itself, then its failover pools in order, each
    /// once.
    pub chain: Box<[usize]>,
    /// Whether its endpoints are probed.
    pub checked: bool,
    /// Whether only datagrams are sent to it: then no port of its endpoints is asked whether it accepts connections.
    pub datagrams: bool,
    /// Whether at most one endpoint may serve.
    pub exclusive: bool,
    /// Whether, when nothing is usable, what probes and live traffic say is overlooked.
    pub fail_open: bool,
    /// Whether this node is ready only while the pool is usable.
    pub required: bool,
    /// How many may wait.
    pub queue_capacity: u32,
    /// How long one waits.
    pub queue_timeout: Duration,
    /// When those who wait are sent away sooner; nothing is never.
    pub shedding: Option<shedding::Settings>,
    /// How the ceilings of its endpoints rise with its load; nothing where they stay where they are.
    pub rising: Option<Rising>,
    /// How the ceilings of its endpoints are found out by their answers; nothing where they are not.
    pub adaptive: Option<gradient::Settings>,
    /// Times.
    pub timeouts: Timeouts,
    /// How old a tunnel or tcp session may become.
    pub max_connection_age: Option<Duration>,
    /// What long-lived work on a drained or removed endpoint gets.
    pub drain_timeout: Duration,
    /// In which an endpoint that has come back grows to its full share; zero is at once.
    pub slow_start: Duration,
    /// Whether its balancing goes by latency.
    pub by_latency: bool,
    /// What the hashing policies go by; nothing for the others.
    pub hash_key: Option<HashKey>,
    /// Passive ejection.
    pub outlier: Option<outlier::Settings>,
    /// A breaker.
    pub breaker: Option<breaker::Settings>,
    /// How tiers and failover pools take turns.
    pub failover: failover::Settings,
    /// How much of the traffic may be retries; nothing is no limit.
    pub budget: Option<budget::Settings>,
    /// Which failures are tried again.
    pub retry: retry::Policy,
    /// Request bodies up to here are kept for a repeat.
    pub retry_body: usize,
    /// What endpoints may do.
    pub limits: EndpointLimits,
    /// The PROXY header at the start of connections to endpoints; nothing is none.
    pub send_proxy: Option<Version>,
    /// What connections to endpoints come from.
    pub source: Source,
    /// TLS to its endpoints.
    pub tls: Option<Arc<PoolTls>>,
    /// What keeps clients with their endpoints.
    pub sticky: Option<Box<Sticky>>,
    /// What happens to it.
    pub live: Arc<PoolLive>,
}

/// What the hashing policies go by. What a request does not have is replaced by its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashKey {
    /// The client's address.
    Source,
    /// A field of the request.
    Header(FieldName),
    /// A cookie.
    Cookie(Box<str>),
    /// A query parameter.
    Query(Box<str>),
    /// The path without its query.
    Path,
    /// The name that a TLS client asks for.
    Sni,
}

/// Times of a pool as a request uses them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Connecting.
    pub connect: Duration,
    /// To the response head.
    pub response_header: Duration,
    /// No progress while a body moves.
    pub idle: Duration,
    /// Idle upstream connection.
    pub keep_alive: Duration,
    /// Upgraded connections and tcp sessions without a byte.
    pub tunnel: Duration,
    /// Unacknowledged data to an endpoint.
    pub tcp_user_timeout: Duration,
    /// First keepalive probe of a tcp session or tunnel without a byte.
    pub tcp_keepalive: Duration,
    /// A busy HTTP/2 connection without a byte from the endpoint is asked by a PING, and closed after as long again.
    pub http2_ping: Duration,
}

impl Timeouts {
    /// These times, with what a route puts in their place.
    #[must_use]
    pub fn with(&self, over: &Overrides) -> Self {
        Self {
            connect: over.connect.unwrap_or(self.connect),
            response_header: over.response_header.unwrap_or(self.response_header),
            idle: over.idle.unwrap_or(self.idle),
            tunnel: over.tunnel.unwrap_or(self.tunnel),
            ..*self
        }
    }
}

/// Live state of a pool, keyed by its name.
#[derive(Debug)]
pub struct PoolLive {
    /// Waiting requests.
    pub queue: Arc<Queue>,
    /// Requests under way, counted only where ceilings rise with them.
    under_way: AtomicU32,
    /// What stands against the pool as a whole: its breaker.
    pub condition: Condition,
    /// What live traffic says of the pool as a whole.
    pub judged: Box<Judged>,
    /// Held by whoever decides to take an endpoint out.
    pub(super) deciding: Mutex<()>,
    pub(super) answers: Mutex<AnswersThen>,
    /// Endpoints that have less than their full share.
    growing: AtomicU32,
    /// The number of the TLS that runs; 0 is none.
    tls: AtomicU64,
    budget: Mutex<Option<(budget::Settings, Budget)>>,
    /// The time line of the policies.
    pub clock: Clock,
    /// For the first places of its chain: the share of arriving work that stops there, of [`tier::OPEN`].
    gates: [AtomicU32; GATES],
    /// How long answers take; there from the first request on that is to be hedged.
    answer_times: OnceLock<Box<AnswerTimes>>,
    /// Counters, per worker.
    pub counters: PerWorker<PoolCounters>,
}

impl PoolLive {
    /// Live state without history.
    #[must_use]
    pub fn new(workers: usize, clock: Clock) -> Self {
        Self {
            queue: Arc::new(Queue::new(clock)),
            under_way: AtomicU32::new(0),
            condition: Condition::default(),
            judged: Box::default(),
            deciding: Mutex::default(),
            answers: Mutex::default(),
            growing: AtomicU32::new(0),
            tls: AtomicU64::new(0),
            budget: Mutex::default(),
            clock,
            gates: std::array::from_fn(|_| AtomicU32::new(tier::OPEN)),
            answer_times: OnceLock::new(),
            counters: PerWorker::new(workers),
        }
    }

    /// Whether work of this pool that drew this number stops at a place of its chain, if something is usable there.
    #[inline]
    #[must_use]
    pub fn admits(&self, place: usize, random: u64) -> bool {
        self.gates.get(place).is_none_or(|gate| tier::passes(gate.load(Ordering::Relaxed), random >> 32))
    }

    /// Requests under way and waiting, where ceilings rise with them.
    #[must_use]
    pub fn load(&self) -> u32 {
        self.under_way.load(Ordering::Relaxed).saturating_add(self.queue.load())
    }

    /// Counts a request that has a place now.
    pub(super) fn set_out(&self) {
        self.under_way.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one that has given its place back.
    pub(super) fn came_back(&self) {
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }

    /// How long answers take, counted from the first call on.
    #[must_use]
    pub fn answer_times(&self) -> &AnswerTimes {
        let new = || Box::new(AnswerTimes::new(self.counters.iter().count(), self.clock.now()));
        self.answer_times.get_or_init(new)
    }

    /// Brings what workers have counted of the times of answers to those who ask.
    pub fn tick_answer_times(&self) {
        if let Some(times) = self.answer_times.get() {
            times.tick(self.clock.now());
        }
    }

    /// Whether some endpoint has less than its full share.
    #[inline]
    #[must_use]
    pub fn is_growing(&self) -> bool {
        self.growing.load(Ordering::Relaxed) != 0
    }

    /// Notes how many endpoints have less than their full share.
    pub fn set_growing(&self, endpoints: u32) {
        self.growing.store(endpoints, Ordering::Relaxed);
    }

    /// The number of the TLS that runs, by which connections of another one are told; 0 is none.
    #[inline]
    #[must_use]
    pub fn tls(&self) -> u64 {
        self.tls.load(Ordering::Relaxed)
    }

    /// Notes which TLS runs.
    pub(super) fn set_tls(&self, number: u64) {
        self.tls.store(number, Ordering::Relaxed);
    }

    /// Moves the gates of its chain; places without one are open.
    pub fn set_gates(&self, gates: &[u32]) {
        for (place, gate) in self.gates.iter().enumerate() {
            gate.store(gates.get(place).copied().unwrap_or(tier::OPEN), Ordering::Relaxed);
        }
    }

    /// The gate at a place of its chain.
    #[must_use]
    pub fn gate(&self, place: usize) -> u32 {
        self.gates.get(place).map_or(tier::OPEN, |gate| gate.load(Ordering::Relaxed))
    }
}

/// Places of a chain that have a gate; what is further down is only reached when nothing before it is usable.
const GATES: usize = 8;

/// Counters of one pool; a worker writes only its own block.
#[derive(Debug, Default)]
pub struct PoolCounters {
    /// Requests and connections that came.
    pub started: Counter,
    /// Requests and connections that ended.
    pub ended: Statuses,
    /// Attempts after the first.
    pub retries: Counter,
    /// Attempts that the budget did not allow.
    pub retries_refused: Counter,
    /// Second attempts beside one that was slow.
    pub hedges: Counter,
    /// Those of them whose answer came first.
    pub hedges_won: Counter,
    /// Those that the budget did not allow.
    pub hedges_refused: Counter,
    /// Requests that waited in the queue.
    pub queued: Counter,
    /// Requests that waited for too long.
    pub queue_timeouts: Counter,
    /// Requests that found the queue full, or gave way to a higher class in one.
    pub queue_full: Counter,
    /// Requests that a standing queue sent away.
    pub queue_shed: Counter,
    /// Requests that did not wait because their turn would have come after their deadline.
    pub queue_hopeless: Counter,
    /// Requests that found nothing usable.
    pub nothing_usable: Counter,
    /// Picks that overlooked what probes and live traffic say, because nothing was usable.
    pub failed_open: Counter,
    /// Picks that went to a failover pool.
    pub failed_over: Counter,
    /// Request bodies too large to be kept for a repeat.
    pub retry_body_exceeded: Counter,
    /// Response heads over their limit.
    pub answer_head_exceeded: Counter,
    /// Response heads with too many fields.
    pub answer_fields_exceeded: Counter,
    /// Requests whose endpoint sent too many interim answers.
    pub interim_exceeded: Counter,
    /// Answers with too many bytes of chunk extensions.
    pub extensions_exceeded: Counter,
    /// Idle connections closed because there were too many of their endpoint.
    pub idle_exceeded: Counter,
    /// Requests that waited because all HTTP/2 connections to their endpoint were full.
    pub http2_full: Counter,
    /// HTTP/2 connections closed because their endpoint flooded them with frames that are none of an answer.
    pub http2_floods: Counter,
    /// What became of clients that belong to an endpoint.
    pub sticky: StickyCounters,
    /// Handshakes with endpoints that failed.
    pub tls_faults: TlsFaults,
    /// gRPC calls that ended, by their status.
    pub calls: Calls,
    /// Time from the first byte of a request to the last of its answer.
    pub duration: Histogram,
}

/// Answers of a sticky pool by what became of the client.
#[derive(Debug, Default)]
pub struct StickyCounters {
    /// It belonged nowhere, and does now.
    pub new: Counter,
    /// It was served where it belongs.
    pub kept: Counter,
    /// It belonged elsewhere, and does here now.
    pub moved: Counter,
    /// What it carried was forged, over, or of an endpoint that is gone.
    pub void: Counter,
    /// Cookies that were handed out.
    pub cookies: Counter,
    /// Entries of the table that gave way to newcomers.
    pub evicted: Counter,
}

/// gRPC calls by their status.
#[derive(Debug, Default)]
pub struct Calls([Counter; grpc::CODES]);

impl Calls {
    /// Counts one that ended with this status.
    pub fn count(&self, code: u16) {
        if let Some(counter) = self.0.get(usize::from(code)) {
            counter.one();
        }
    }

    /// How many ended with this status.
    #[must_use]
    pub fn counter(&self, code: usize) -> Option<&Counter> {
        self.0.get(code)
    }
}

/// Endpoints that a request has tried, by slot.
#[derive(Debug, Default, Clone)]
pub struct Tried(Vec<u32>);

impl Tried {
    /// Notes an endpoint.
    pub fn add(&mut self, endpoint: &Endpoint) {
        self.0.push(endpoint.live.slot());
    }

    /// Notes an endpoint that is none of the request's snapshot.
    pub fn add_stranger(&mut self, slot: u32) {
        self.0.push(slot);
    }

    /// Forgets that an endpoint was tried.
    pub fn remove(&mut self, endpoint: &Endpoint) {
        let slot = endpoint.live.slot();
        self.0.retain(|tried| *tried != slot);
    }

    /// Their slots.
    pub(super) fn slots(&self) -> &[u32] {
        &self.0
    }

    /// How many have been tried.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none has been tried.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an endpoint has been tried.
    #[inline]
    #[must_use]
    pub fn contains(&self, endpoint: &Endpoint) -> bool {
        !self.0.is_empty() && self.0.contains(&endpoint.live.slot())
    }
}

impl Pool {
    /// Takes one retry out of the pool's budget; says no when it is spent.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        self.with_budget(|budget, now, requests| budget.withdraw(now, requests)).unwrap_or(true)
    }

    /// Books the requests that have come since the last time, so that they count as what they are: recent.
    pub fn tick_budget(&self) {
        self.with_budget(Budget::tick);
    }

    /// Retries that the budget allows just now; nothing where there is no budget.
    #[must_use]
    pub fn retries_left(&self) -> Option<u64> {
        self.with_budget(|budget, _, _| budget.left())
    }

    /// The same, for somebody who only wants to know: nothing is booked.
    #[must_use]
    pub fn retries_seen(&self) -> Option<u64> {
        let settings = self.budget?;
        let requests = self.live.counters.sum(|c| &c.started);
        let now = self.live.clock.now();
        let held = lock(&self.live.budget).clone().filter(|(of, _)| *of == settings);
        let mut budget = held.map_or_else(|| Budget::new(&settings, now, requests), |(_, budget)| budget);
        budget.tick(now, requests);
        Some(budget.left())
    }

    /// What the budget has in it, with its settings, for a process to come.
    #[must_use]
    pub fn budget_memory(&self) -> Option<(budget::Settings, Budget)> {
        let held = self.with_budget(|budget, _, _| budget.clone())?;
        Some((self.budget?, held))
    }

    /// Goes on with the budget of another process, if it had the same settings.
    pub fn resume_budget(&self, settings: budget::Settings, slots: [i64; budget::SLOTS + 1], slot: u64) {
        if self.budget != Some(settings) {
            return;
        }
        self.with_budget(|budget, _, _| *budget = budget.clone().resumed(slots, slot));
    }

    fn with_budget<T>(&self, work: impl FnOnce(&mut Budget, Duration, u64) -> T) -> Option<T> {
        let settings = self.budget?;
        let requests = self.live.counters.sum(|c| &c.started);
        let now = self.live.clock.now();
        let mut held = lock(&self.live.budget);
        // A changed budget starts afresh.
        if held.as_ref().is_none_or(|(of, _)| *of != settings) {
            *held = Some((settings, Budget::new(&settings, now, requests)));
        }
        held.as_mut().map(|(_, budget)| work(budget, now, requests))
    }

    /// Whether the ceilings of its endpoints move.
    #[inline]
    #[must_use]
    pub const fn has_moving_ceilings(&self) -> bool {
        self.rising.is_some() || self.adaptive.is_some()
    }

    /// How much work of a kind may be in flight on one of its endpoints now.
    #[inline]
    #[must_use]
    pub fn ceiling(&self, endpoint: &Endpoint, work: Work) -> u32 {
        let most = endpoint.ceiling(work);
        if self.has_moving_ceilings() && work == Work::Request { self.moved(endpoint, most) } else { most }
    }

    fn moved(&self, endpoint: &Endpoint, most: u32) -> u32 {
        let rising = |rising| ceiling(rising, most, self.live.load(), endpoint.live.share());
        let most = self.adaptive.map_or(most, |settings| endpoint.live.adaptive.ceiling(&settings, most));
        self.rising.map_or(most, rising)
    }

    /// Finds the ceilings of its endpoints out anew, where they are found out; those who wait get what is more.
    pub fn tick_ceilings(&self) {
        let Some(settings) = self.adaptive else { return };
        let now = self.live.clock.now();
        let mut risen = false;
        for endpoint in &self.endpoints {
            let most = endpoint.ceiling(Work::Request);
            risen |= endpoint.live.adaptive.tick(&endpoint.live, &settings, most, now);
        }
        if risen {
            self.serve_queue();
        }
    }

    /// Whether the pool is well enough to be used: an endpoint of its own is usable, and no breaker of its own stands before
    /// it. The one rule of `/health` and of the route action `health`; that it fails open or has a failover pool
    /// makes it no better.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.level().is_some()
    }

    /// How much must be overlooked for anything in the pool to be usable, busy or not; nothing when only failing
    /// open is left.
    #[must_use]
    pub fn level(&self) -> Option<Level> {
        let any = |level| self.endpoints.iter().any(|e| e.live.condition.allows(level));
        if self.live.condition.reason().is_some() {
            return None;
        }
        if any(Level::Proven) {
            return Some(Level::Proven);
        }
        // Whom nobody has asked is never let lead.
        (self.checked && !self.exclusive && any(Level::Unproven)).then_some(Level::Unproven)
    }
}
