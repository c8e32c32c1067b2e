//! Limits of routes; what they know is carried over by their names.

use std::collections::HashMap;
use std::sync::Arc;

use super::Machine;
use crate::config::rate_limit as written;
use crate::policy::rate_limit::RateLimit;
use crate::runtime::clock::Clock;
use crate::runtime::rate_table::Seed;
use crate::runtime::route_limits::{
    ConcurrencyLive, ConcurrencyRule, OnLimit, RateLive, RateRule, RouteLimits, Tell,
};
use crate::runtime::snapshot::{Limits, Snapshot};
use crate::runtime::sticky::Secret;

/// Compiles limits and keeps those that there are.
pub(super) struct Compiling<'a> {
    previous: Option<&'a Limits>,
    clock: Clock,
    workers: usize,
    /// What keys are made by, so that the next process makes the same ones.
    secret: Secret,
    rates: HashMap<&'a str, Arc<RateLive>>,
    concurrency: HashMap<&'a str, Arc<ConcurrencyLive>>,
    made: Limits,
}

impl<'a> Compiling<'a> {
    pub(super) fn new(
        previous: Option<&'a Snapshot>,
        clock: Clock,
        machine: &Machine,
        secret: Secret,
    ) -> Self {
        Self {
            secret,
            previous: previous.map(|previous| &previous.limits),
            clock,
            workers: machine.workers,
            rates: HashMap::new(),
            concurrency: HashMap::new(),
            made: Limits::default(),
        }
    }

    /// The limits of a route; nothing where it has none.
    pub(super) fn route(&mut self, limits: &'a written::Limits) -> Option<Box<RouteLimits>> {
        if limits.is_empty() {
            return None;
        }
        Some(Box::new(RouteLimits {
            rates: limits.rates.iter().map(|limit| self.rate(limit)).collect(),
            concurrency: limits.concurrency.iter().map(|limit| self.concurrency(limit)).collect(),
        }))
    }

    /// All live states, in the order of the file.
    pub(super) fn finish(self) -> Limits {
        self.made
    }

    fn rate(&mut self, written: &'a written::RateLimit) -> RateRule {
        let limit = RateLimit::new(written.rate, written.burst, written.delay);
        let live = if let Some(live) = self.rates.get(written.name.as_str()) {
            Arc::clone(live)
        } else {
            let before = self.previous.iter().flat_map(|limits| &limits.rates);
            let live = match before.into_iter().find(|live| *live.name == *written.name) {
                Some(live) => live.carried(&written.key, limit, written.size, self.clock.now()),
                None => {
                    let (name, key) = (&written.name, written.key.clone());
                    let seed = Seed::of(&self.secret.derive(&format!("rate limit {name}")));
                    Arc::new(RateLive::new(name, key, seed, limit, written.size, self.workers))
                }
            };
            self.rates.insert(&written.name, Arc::clone(&live));
            self.made.rates.push(Arc::clone(&live));
            live
        };
        RateRule {
            limit,
            rate: written.rate,
            on_limit: match written.on_limit {
                written::OnLimit::Reject => OnLimit::Reject,
                written::OnLimit::Drop => OnLimit::Drop,
                written::OnLimit::Tarpit { time, max } => OnLimit::Tarpit { time, max },
                written::OnLimit::Count => OnLimit::Count,
            },
            status: written.status,
            tell: match written.headers {
                written::Tell::Off => Tell::Off,
                written::Tell::Rejected => Tell::Rejected,
                written::Tell::All => Tell::All,
            },
            live,
        }
    }

    fn concurrency(&mut self, written: &'a written::ConcurrencyLimit) -> ConcurrencyRule {
        let live = if let Some(live) = self.concurrency.get(written.name.as_str()) {
            Arc::clone(live)
        } else {
            let before = self.previous.iter().flat_map(|limits| &limits.concurrency);
            let same = |live: &&Arc<ConcurrencyLive>| *live.name == *written.name && live.key == written.key;
            let new = || Arc::new(ConcurrencyLive::new(&written.name, written.key.clone(), self.workers));
            let live = before.into_iter().find(same).map_or_else(new, Arc::clone);
            self.concurrency.insert(&written.name, Arc::clone(&live));
            self.made.concurrency.push(Arc::clone(&live));
            live
        };
        ConcurrencyRule { max: written.max, status: written.status, live }
    }
}
