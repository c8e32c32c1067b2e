//! A pool as one snapshot has it, its live state, and `pick`: which endpoint takes this piece of work.

use std::sync::Arc;
use std::time::Duration;

use super::counters::{Counter, Histogram, PerWorker, Statuses};
use super::endpoint::{Endpoint, Work};
use super::limits::EndpointLimits;
use super::queue::{Grant, Joined, Queue};
use crate::model::name::PoolName;
use crate::policy::balance::{Balancer, Candidates};
use crate::policy::retry;

/// A pool of one snapshot.
#[derive(Debug)]
pub struct Pool {
    /// Its name.
    pub name: PoolName,
    /// Endpoints, those of one tier side by side, tiers in order.
    pub endpoints: Vec<Endpoint>,
    /// Where each tier lies in `endpoints`, and its balancer.
    pub tiers: Vec<Tier>,
    /// How many may wait.
    pub queue_capacity: u32,
    /// How long one waits.
    pub queue_timeout: Duration,
    /// Times.
    pub timeouts: Timeouts,
    /// Which failures are tried again.
    pub retry: retry::Policy,
    /// Request bodies up to here are kept for a repeat.
    pub retry_body: usize,
    /// What endpoints may do.
    pub limits: EndpointLimits,
    /// What happens to it.
    pub live: Arc<PoolLive>,
}

/// Endpoints of one priority group.
#[derive(Debug)]
pub struct Tier {
    /// Index of its first endpoint.
    pub start: usize,
    /// Index after its last endpoint.
    pub end: usize,
    /// Its balancer.
    pub balancer: Balancer,
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
}

/// Live state of a pool, keyed by its name.
#[derive(Debug)]
pub struct PoolLive {
    /// Waiting requests.
    pub queue: Arc<Queue>,
    /// Counters, per worker.
    pub counters: PerWorker<PoolCounters>,
}

impl PoolLive {
    /// Live state without history.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self { queue: Arc::default(), counters: PerWorker::new(workers) }
    }
}

/// Counters of one pool; a worker writes only its own block.
#[derive(Debug, Default)]
pub struct PoolCounters {
    /// Requests and connections that ended.
    pub ended: Statuses,
    /// Attempts after the first.
    pub retries: Counter,
    /// Requests that waited in the queue.
    pub queued: Counter,
    /// Requests that waited for too long.
    pub queue_timeouts: Counter,
    /// Requests that found the queue full.
    pub queue_full: Counter,
    /// Requests that found nothing usable.
    pub nothing_usable: Counter,
    /// Request bodies too large to be kept for a repeat.
    pub retry_body_exceeded: Counter,
    /// Response heads over their limit.
    pub answer_head_exceeded: Counter,
    /// Requests whose endpoint sent too many interim answers.
    pub interim_exceeded: Counter,
    /// Answers with too many bytes of chunk extensions.
    pub extensions_exceeded: Counter,
    /// Idle connections closed because there were too many of their endpoint.
    pub idle_exceeded: Counter,
    /// Time from the first byte of a request to the last of its answer.
    pub duration: Histogram,
}

/// Endpoints that a request has tried, by slot.
#[derive(Debug, Default, Clone)]
pub struct Tried(Vec<u32>);

impl Tried {
    /// Notes an endpoint.
    pub fn add(&mut self, endpoint: &Endpoint) {
        self.0.push(endpoint.live.slot());
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

/// A place on an endpoint: given back when dropped, to the first that waits for one.
#[derive(Debug)]
pub struct Place<'a> {
    /// Its pool.
    pub pool: &'a Pool,
    /// The endpoint.
    pub endpoint: &'a Endpoint,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        // Only requests wait, so it is under their ceiling that a place is handed on.
        Queue::release(&self.pool.live.queue, &self.endpoint.live, self.endpoint.limits.requests);
    }
}

/// What a pick came to.
#[derive(Debug)]
pub enum Picked<'a> {
    /// Use this one.
    Place(Place<'a>),
    /// All that could be used are at their ceiling (or others are in front): wait.
    Busy,
    /// Nothing is left to try.
    Nothing,
}

struct TierView<'a> {
    endpoints: &'a [Endpoint],
    tried: &'a Tried,
    work: Work,
}

impl Candidates for TierView<'_> {
    #[inline]
    fn pickable(&self, index: usize) -> bool {
        self.endpoints
            .get(index)
            .is_some_and(|e| e.live.in_flight() < e.limits.of(self.work) && !self.tried.contains(e))
    }

    #[inline]
    fn in_flight(&self, index: usize) -> u32 {
        self.endpoints.get(index).map_or(u32::MAX, |e| e.live.in_flight())
    }
}

impl Pool {
    /// Picks an endpoint that is not in `tried` and has room: the first tier that has an untried one decides.
    pub fn pick(&self, tried: &Tried, work: Work, random: u64) -> Picked<'_> {
        // Newcomers do not overtake those who wait; a request that has tried something has waited already.
        if work == Work::Request && tried.0.is_empty() && !self.live.queue.is_empty() {
            return Picked::Busy;
        }
        match self.try_pick(tried, work, random) {
            Some(index) => self.place(index).map_or(Picked::Nothing, Picked::Place),
            None if self.has_untried(tried) => Picked::Busy,
            None => Picked::Nothing,
        }
    }

    /// Joins the queue; the caller waits on what it gets and then calls [`Pool::granted`].
    pub fn join_queue(&self, tried: &Tried, work: Work, random: u64) -> Joined {
        let capacity = if work == Work::Request { self.queue_capacity } else { 0 };
        self.live.queue.join(capacity, &tried.0, || self.try_pick(tried, work, random))
    }

    /// The place that [`Joined::Place`] names.
    pub fn place(&self, index: usize) -> Option<Place<'_>> {
        self.endpoints.get(index).map(|endpoint| Place { pool: self, endpoint })
    }

    /// Makes a granted place this request's own. Nothing when the endpoint is not in this snapshot's pool any more
    /// (the place then goes to the next waiter).
    pub fn granted(&self, grant: Grant) -> Option<Place<'_>> {
        let slot = grant.endpoint().slot();
        let endpoint = self.endpoints.iter().find(|e| e.live.slot() == slot)?;
        grant.into_place();
        Some(Place { pool: self, endpoint })
    }

    /// Whether an endpoint is left that this request has not tried.
    fn has_untried(&self, tried: &Tried) -> bool {
        self.endpoints.iter().any(|e| e.weight > 0 && !tried.contains(e))
    }

    fn try_pick(&self, tried: &Tried, work: Work, random: u64) -> Option<usize> {
        for tier in &self.tiers {
            let endpoints = self.endpoints.get(tier.start..tier.end)?;
            let view = TierView { endpoints, tried, work };
            // Another worker may take the last place between the look and the take: look again, a bounded number
            // of times, since each failure means that somebody else made progress.
            for _ in 0..=endpoints.len() {
                let Some(index) = tier.balancer.pick(&view, random) else { break };
                let endpoint = endpoints.get(index)?;
                if endpoint.live.try_acquire(endpoint.limits.of(work)) {
                    return Some(tier.start + index);
                }
            }
            // Busy is not unusable: while a tier has an endpoint left to try, the next tier is not asked.
            if endpoints.iter().any(|e| e.weight > 0 && !tried.contains(e)) {
                return None;
            }
        }
        None
    }
}
