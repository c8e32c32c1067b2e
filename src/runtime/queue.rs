//! The queue of a pool: requests that wait for a place, by class and then first come first served, over all workers.
//!
//! The lock is touched only while someone waits. A freed place goes to the waiter whose turn it is among those that can use
//! it, whichever worker owns the waiter; a newcomer overtakes lower classes only.

mod line;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;

use self::line::Lines;
use super::clock::Clock;
use super::condition::Level;
use super::endpoint::{EndpointLive, Work};
use super::sync::{AtomicU32, Mutex, Ordering, fence, lock};
use crate::policy::admission::class::Class;
use crate::policy::admission::shedding;

/// Waiting requests of one pool.
#[derive(Debug)]
pub struct Queue {
    // Waiters, counting those that are just about to wait. Written with the lock held, read without.
    waiting: AtomicU32,
    lines: Mutex<Lines>,
    clock: Clock,
}

/// A place on an endpoint, owned; dropping it gives the place to the next waiter or back to the endpoint.
#[derive(Debug)]
pub struct Grant {
    endpoint: Arc<EndpointLive>,
    queue: Arc<Queue>,
    limit: u32,
    armed: bool,
}

impl Grant {
    /// The endpoint on which the place is.
    #[must_use]
    pub fn endpoint(&self) -> &Arc<EndpointLive> {
        &self.endpoint
    }

    /// Takes the place over: the caller now gives it back itself.
    pub(super) fn into_place(mut self) {
        self.armed = false;
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        if self.armed {
            Queue::release(&self.queue, &self.endpoint, self.limit);
        }
    }
}

/// Why one who waited was sent away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Away {
    /// Nothing in the pool is usable any more.
    Dismissed,
    /// The queue stands, and it has waited for longer than one may then.
    Shed,
    /// The queue was full when a higher class came.
    Displaced,
}

/// A wait in line; dropping it leaves the line.
#[derive(Debug)]
pub struct Waiting {
    queue: Arc<Queue>,
    grant: Option<oneshot::Receiver<Result<Grant, Away>>>,
    /// How long it may last while the queue stands; nothing where that is no shorter than usual.
    pub patience: Option<Duration>,
}

impl Future for Waiting {
    type Output = Result<Grant, Away>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(grant) = self.grant.as_mut() else { return Poll::Ready(Err(Away::Dismissed)) };
        let outcome = std::task::ready!(Pin::new(grant).poll(cx));
        self.grant = None;
        Poll::Ready(outcome.unwrap_or(Err(Away::Dismissed)))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(grant) = self.grant.take() {
            // What was granted at this very moment goes to the next, after the lock is free again.
            drop(self.queue.leave(grant));
        }
    }
}

/// What somebody who joins says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// How many may wait.
    pub capacity: u32,
    /// An endpoint that it takes may be used at this level.
    pub level: Level,
    /// How urgent it is.
    pub class: Class,
    /// Slots of the endpoints that it has tried already; almost always none.
    pub tried: &'a [u32],
    /// The slot of the endpoint that it belongs to, where it waits for that alone.
    pub only: Option<u32>,
    /// The time that is left until nobody waits for its answer any more, where that is known.
    pub left: Option<Duration>,
}

/// What became of joining the queue.
#[derive(Debug)]
pub enum Joined<P> {
    /// A place was free after all.
    Place(P),
    /// Wait here.
    Waiting(Waiting),
    /// The queue is full.
    Full,
    /// Who is first in its line has waited for longer than this one has left: its turn would come too late.
    Hopeless,
}

/// How a queue stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct State {
    /// How many wait, by class.
    pub waiting: [usize; Class::COUNT],
    /// Which classes are shed because they stand instead of passing.
    pub stands: [bool; Class::COUNT],
}

impl Queue {
    /// An empty one on this time line.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { waiting: AtomicU32::new(0), lines: Mutex::new(Lines::default()), clock }
    }

    /// Whether nobody waits.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) == 0
    }

    /// How many wait now, or have just left.
    #[inline]
    #[must_use]
    pub fn load(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// How many wait now.
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.lines).len()
    }

    /// How it stands.
    #[must_use]
    pub fn state(&self) -> State {
        lock(&self.lines).state()
    }

    /// Lets it shed by these settings from now on, or not at all.
    pub fn set_shedding(&self, settings: Option<shedding::Settings>) {
        lock(&self.lines).set_shedding(settings);
    }

    /// Joins the queue unless as many wait already as may; `last_look` looks once more for a free place when nobody of its
    /// class or a higher one is in front, now that every release can see this waiter. In a full queue the newest of the
    /// lowest class gives way to a higher one.
    pub fn join<P>(queue: &Arc<Self>, wish: &Wish<'_>, last_look: impl FnOnce() -> Option<P>) -> Joined<P> {
        let now = queue.clock.now();
        let mut lines = lock(&queue.lines);
        queue.forget(lines.shed(now));
        if lines.len() >= wish.capacity as usize {
            if wish.capacity == 0 || !lines.displace(wish.class) {
                return Joined::Full;
            }
            queue.forget(1);
        }
        queue.waiting.fetch_add(1, Ordering::SeqCst);
        // The last look reads with relaxed loads; the fence keeps them behind the count that releases read.
        fence(Ordering::SeqCst);
        if !lines.is_behind(wish.class)
            && let Some(place) = last_look()
        {
            queue.forget(1);
            return Joined::Place(place);
        }
        if wish.left.is_some_and(|left| lines.waits_longer(wish.class, left, now)) {
            queue.forget(1);
            return Joined::Hopeless;
        }
        let (grant, receiver) = oneshot::channel();
        let patience = lines.push(wish, now, grant);
        Joined::Waiting(Waiting { queue: Arc::clone(queue), grant: Some(receiver), patience })
    }

    /// Gives a place on `endpoint` to the waiter whose turn it is, or back to the endpoint.
    #[inline]
    pub fn release(queue: &Arc<Self>, endpoint: &Arc<EndpointLive>, limit: u32) {
        endpoint.release(Work::Request);
        // Pairs with the fence in `join`.
        fence(Ordering::SeqCst);
        if !queue.is_empty() {
            Self::hand_on(queue, endpoint, limit);
        }
    }

    /// Gives all free places of an endpoint to those who wait.
    pub fn serve(queue: &Arc<Self>, endpoint: &Arc<EndpointLive>, limit: u32) {
        // Pairs with the fence in `join`.
        fence(Ordering::SeqCst);
        while !queue.is_empty() && Self::hand_on(queue, endpoint, limit) {}
    }

    /// Sends those away, to look elsewhere, for whom it is `hopeless` to wait at their level, or for the one endpoint that they
    /// wait for.
    pub fn dismiss(&self, hopeless: impl Fn(Level, Option<u32>) -> bool) {
        let dismissed = lock(&self.lines).dismiss(hopeless);
        self.forget(dismissed);
    }

    /// Whether a place went to somebody.
    #[cold]
    fn hand_on(queue: &Arc<Self>, endpoint: &Arc<EndpointLive>, limit: u32) -> bool {
        if endpoint.is_retired() {
            return false;
        }
        let mut lines = lock(&queue.lines);
        if lines.may_shed() {
            queue.forget(lines.shed(queue.clock.now()));
        }
        while let Some(turn) = lines.next(endpoint) {
            // Taken before the waiter is known to be alive; given to the next one if it is not.
            if !endpoint.try_acquire(Work::Request, limit) {
                return false;
            }
            let grant =
                Grant { endpoint: Arc::clone(endpoint), queue: Arc::clone(queue), limit, armed: true };
            queue.forget(1);
            match lines.grant(turn, grant) {
                Ok(()) => return true,
                Err(mut unused) => {
                    // Not through `drop`: the lock is held.
                    unused.armed = false;
                    endpoint.release(Work::Request);
                }
            }
        }
        false
    }

    /// Notes that a waiter has given up; what it was granted just before comes back.
    fn leave(&self, mut grant: oneshot::Receiver<Result<Grant, Away>>) -> Option<Grant> {
        let mut lines = lock(&self.lines);
        // Nobody grants or dismisses while the lock is held.
        match grant.try_recv() {
            Ok(granted) => return granted.ok(),
            Err(oneshot::error::TryRecvError::Closed) => return None,
            Err(oneshot::error::TryRecvError::Empty) => grant.close(),
        }
        self.forget(lines.note_gone());
        None
    }

    fn forget(&self, waiters: usize) {
        if waiters > 0 {
            let waiters = u32::try_from(waiters).unwrap_or(u32::MAX);
            self.waiting.fetch_sub(waiters, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests;
