//! The immutable compiled configuration that the data plane reads: names have become indexes.

use std::sync::Arc;
use std::time::Duration;

use super::clock::Clock;
use super::condition::Impediment;
use super::counters::{Counter, PerWorker};
use super::endpoint::Slots;
use super::gate::Gate;
use super::page::Page;
use super::places::Listeners;
use super::pool::Pool;
use super::route_limits::{ConcurrencyLive, RateLive, RouteLimits};
use super::spans::Tracing;
use super::sticky::Secret;
use super::tls::tickets::Ring;
use super::treatment::Treatment;
use crate::config::Origin;
use crate::model::name::RouteName;
use crate::policy::admission::class::Class;
use crate::policy::retry;
use crate::route::Pattern;
use crate::route::edits::Edits;
use crate::route::rewrite::Rewrite;
use crate::route::template::Template;

/// What runs.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts publications, from 1.
    pub generation: u64,
    /// The same, for what goes on with it.
    pub edition: Arc<Edition>,
    /// Hash of the configuration's text.
    pub hash: u64,
    /// What the configuration was made from; the same allocation for as long as it was loaded once.
    pub origin: Arc<Origin>,
    /// Listeners; the place of a listener stays its own for as long as a socket or a connection knows it.
    pub listeners: Listeners,
    /// Routes in the order of the file: those of requests, then those by `sni`.
    pub routes: Vec<Route>,
    /// Pools.
    pub pools: Vec<Pool>,
    /// Which traces requests belong to; nothing where they belong to none.
    pub tracing: Option<Tracing>,
    /// Client connections of the whole process that the descriptor limit has room for.
    pub connections_max: usize,
    /// The time line of the policies, shared by all snapshots.
    pub clock: Clock,
    /// Numbers for endpoints, shared by all snapshots.
    pub slots: Arc<Slots>,
    /// The secrets of session tickets, shared by all snapshots.
    pub tickets: Arc<Ring>,
    /// The secret of sticky pools, the same in all snapshots.
    pub secret: Secret,
    /// Live state of the limits of routes.
    pub limits: Limits,
}

/// Live state of every limit that routes have, each once.
#[derive(Debug, Default)]
pub struct Limits {
    /// How fast requests may come.
    pub rates: Vec<Arc<RateLive>>,
    /// How many may be under way.
    pub concurrency: Vec<Arc<ConcurrencyLive>>,
}

/// One snapshot as work that holds it knows it, also when it does not run any more.
#[derive(Debug)]
pub struct Edition {
    /// Its number.
    pub generation: u64,
    /// Tunnels and tcp sessions that began with it, per worker.
    pub sessions: PerWorker<Counter>,
}

impl Edition {
    /// The edition of a generation.
    #[must_use]
    pub fn new(generation: u64, workers: usize) -> Self {
        Self { generation, sessions: PerWorker::new(workers) }
    }
}

impl Snapshot {
    /// The first one of a process of `workers` that goes on from another one's, which ran `generation`.
    #[must_use]
    pub fn after(mut self, generation: u64, workers: usize) -> Self {
        self.generation += generation;
        self.edition = Arc::new(Edition::new(self.generation, workers));
        for pool in &mut self.pools {
            pool.edition = Arc::clone(&self.edition);
        }
        self
    }

    /// Brings live state into line with this snapshot once it is published: endpoints without weight are passed over,
    /// and those who wait get what has been added.
    pub fn settle(&self) {
        for pool in &self.pools {
            for endpoint in &pool.endpoints {
                endpoint.live.condition.set(Impediment::Weightless, endpoint.weight == 0);
                endpoint.live.note_leaving(self.clock.now());
            }
            if let Some(sticky) = &pool.sticky {
                sticky.publish();
            }
            pool.live.set_tls(pool.tls.as_ref().map_or(0, |tls| tls.number()));
            pool.live.queue.set_shedding(pool.shedding);
            pool.serve_queue();
        }
    }
}

/// A route as a request follows it; its conditions are in the listener's table.
#[derive(Debug)]
pub struct Route {
    /// Its name.
    pub name: RouteName,
    /// What happens.
    pub action: Action,
    /// Edits to the request head.
    pub request_edits: Edits,
    /// Edits to the response head.
    pub response_edits: Edits,
    /// Rewriting of the target.
    pub rewrite: Option<Rewrite>,
    /// Times that override the pool's.
    pub timeouts: Overrides,
    /// Whose turn it is where requests wait.
    pub class: Class,
    /// Retry rules that override the pool's, with the largest body kept.
    pub retry: Option<(retry::Policy, usize)>,
    /// What is done with a request before it goes on; nothing where it just goes on.
    pub treatment: Option<Box<Treatment>>,
    /// What stands before it, and what it says in the place of errors; most routes have nothing.
    pub gate: Option<Box<Gate>>,
    /// Limits; most routes have none.
    pub limits: Option<Box<RouteLimits>>,
}

/// What a route does.
#[derive(Debug)]
pub enum Action {
    /// Send it to the pool with this index.
    Pool(usize),
    /// Send it to one of several pools.
    Split(Split),
    /// Answer 200 or 503 by whether the pool with this index has a usable endpoint.
    Health(usize),
    /// Answer with a redirect.
    Redirect {
        /// `Location`.
        to: Template,
        /// Whose groups are put in.
        regex: Option<Pattern>,
        /// Its status.
        status: u16,
    },
    /// Answer with a fixed response.
    Respond(Respond),
}

/// An answer of a route.
#[derive(Debug)]
pub struct Respond {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub page: Page,
    /// Whose groups are put in.
    pub regex: Option<Pattern>,
}

/// Pools by weight.
#[derive(Debug)]
pub struct Split {
    /// The parts, each with the running sum of weights up to and with it.
    pub parts: Vec<Part>,
    /// Sum of all weights, above 0.
    pub total: u32,
    /// What decides.
    pub by: SplitBy,
}

/// What decides in a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SplitBy {
    /// Chance.
    Random,
    /// The client's address.
    Source,
    /// Where the client belongs, else chance.
    Sticky,
}

/// One pool of a split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The running sum of weights up to and with this one.
    pub sum: u32,
    /// The pools that take its share, as indexes: itself, its failover pools, then its siblings with weight and theirs.
    pub chain: Box<[usize]>,
}

impl Split {
    /// The pools, in order, for a number that is spread evenly.
    #[must_use]
    pub fn choose(&self, random: u64) -> &[usize] {
        // Multiply-shift instead of a remainder: no bias worth the name (Lemire 2019).
        let point = ((u128::from(random) * u128::from(self.total)) >> 64) as u32;
        let part = self.parts.iter().find(|part| point < part.sum).or_else(|| self.parts.last());
        part.map_or(&[], |part| &part.chain)
    }

    /// The parts that have a weight.
    pub fn weighted(&self) -> impl Iterator<Item = &Part> {
        let mut before = 0;
        self.parts.iter().filter(move |part| std::mem::replace(&mut before, part.sum) < part.sum)
    }
}

/// Times of a route that override its pool's.
#[derive(Debug, Clone, Copy, Default)]
pub struct Overrides {
    /// Connecting.
    pub connect: Option<Duration>,
    /// To the response head.
    pub response_header: Option<Duration>,
    /// No progress while a body moves.
    pub idle: Option<Duration>,
    /// Upgraded connections without a byte.
    pub tunnel: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_follows_its_weights_over_the_whole_range() {
        let part = |pool, sum| Part { sum, chain: [pool].into() };
        let split = Split { parts: vec![part(7, 95), part(8, 100)], total: 100, by: SplitBy::Random };
        assert_eq!(split.choose(0), [7]);
        assert_eq!(split.choose(u64::MAX), [8]);
        assert_eq!(split.choose(u64::MAX / 100 * 94), [7]);
        assert_eq!(split.choose(u64::MAX / 100 * 96), [8]);
    }
}
