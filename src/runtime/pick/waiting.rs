//! Waiting for a place in a pool's queue, and giving places to those who wait.

use std::time::Duration;

use super::{Picked, Place, Search, Taking};
use crate::policy::admission::class::Class;
use crate::policy::balance::Draw;
use crate::runtime::condition::Level;
use crate::runtime::endpoint::{Endpoint, Work};
use crate::runtime::pool::{Pool, Tried};
use crate::runtime::queue::{Grant, Joined, Queue, Wish};

impl Pool {
    /// Joins the queue in its class for an endpoint that may be used at `level`, with the time that is left until nobody waits
    /// for the answer; the caller waits on what it gets and then calls
    /// [`Pool::granted`].
    pub fn join_queue(
        &self,
        level: Level,
        (class, left): (Class, Option<Duration>),
        tried: &Tried,
        work: Work,
        draw: Draw<'_>,
    ) -> Joined<Place<'_>> {
        let capacity = if work == Work::Request { self.queue_capacity } else { 0 };
        let wish = Wish { capacity, level, class, tried: tried.slots(), only: None, left };
        let mut search = Search { tried, work, draw, gated: false, hidden: false };
        let look = || match search.tiers(&Taking, self, level) {
            Some(Picked::Place(place, _)) => Some(place),
            _ => None,
        };
        let joined = Queue::join(&self.live.queue, &wish, look);
        // Whoever waits is load too, by which ceilings may have risen.
        if self.has_moving_ceilings() && matches!(joined, Joined::Waiting(_)) {
            self.serve_queue();
        }
        joined
    }

    /// Joins the queue for one endpoint of the pool, as [`Pool::join_queue`].
    pub fn join_queue_for<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        level: Level,
        (class, left): (Class, Option<Duration>),
    ) -> Joined<Place<'a>> {
        let look = || {
            let limit = self.ceiling(endpoint, Work::Request);
            let trials =
                endpoint.live.try_acquire(Work::Request, limit).then(|| self.trials(endpoint, level))?;
            if trials.is_err() {
                endpoint.live.release(Work::Request);
            }
            Some(Place::new(self, endpoint, Work::Request, trials.ok()?))
        };
        let only = Some(endpoint.live.slot());
        let wish = Wish { capacity: self.queue_capacity, level, class, tried: &[], only, left };
        Queue::join(&self.live.queue, &wish, look)
    }

    /// Makes a place that was granted at `level` this request's own. Nothing when the endpoint is not in this snapshot's pool (any more, or
    /// yet), when a breaker has opened meanwhile, or when it lets only trials pass and all of them are under way; the
    /// place then goes to the next waiter.
    #[must_use]
    pub fn granted(&self, grant: Grant, level: Level) -> Option<Place<'_>> {
        let slot = grant.endpoint().slot();
        let endpoint = self.endpoints.iter().find(|e| e.live.slot() == slot)?;
        if self.live.condition.reason().is_some() {
            return None;
        }
        let trials = self.trials(endpoint, level).ok()?;
        grant.into_place();
        Some(Place::new(self, endpoint, Work::Request, trials))
    }

    /// Whether the endpoint at this slot is one of this snapshot's pool.
    #[must_use]
    pub fn is_member(&self, slot: u32) -> bool {
        self.endpoints.iter().any(|e| e.live.slot() == slot)
    }

    /// Gives free places to those who wait: called when an endpoint has come, come back, or got a higher ceiling.
    /// Those for whom nothing is usable any more are sent away to look elsewhere.
    pub fn serve_queue(&self) {
        let queue = &self.live.queue;
        if queue.is_empty() {
            return;
        }
        // An open breaker of the pool is in no endpoint's condition.
        if self.live.condition.reason().is_some() {
            return queue.dismiss(|_, _| true);
        }
        let level = self.level().unwrap_or(Level::Open);
        for tier in &self.tiers {
            let endpoints = self.endpoints.get(tier.start()..tier.end()).unwrap_or_default();
            for endpoint in endpoints {
                Queue::serve(queue, &endpoint.live, self.ceiling(endpoint, Work::Request));
            }
            // Busy is not unusable: those who wait for this tier do not go on to the next.
            if endpoints.iter().any(|e| e.live.condition.allows(level)) {
                break;
            }
        }
        let any = |level| self.endpoints.iter().any(|e| e.live.condition.allows(level));
        let now = || self.live.clock.now();
        let takes = |slot, level| {
            let endpoint = self.endpoints.iter().find(|e| e.live.slot() == slot);
            endpoint.is_some_and(|e| e.takes_bound(level, self.drain_timeout, now))
        };
        queue.dismiss(|level, only| only.map_or_else(|| !any(level), |slot| !takes(slot, level)));
    }
}
