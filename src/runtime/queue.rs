//! The queue of a pool: requests that wait for a place, first come first served over all workers.
//!
//! The lock is touched only while someone waits. A freed place goes to the first waiter that can use it,
//! whichever worker owns the waiter; a newcomer never overtakes.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use super::condition::Level;
use super::endpoint::{EndpointLive, Work};
use super::sync::{AtomicU32, Mutex, Ordering, fence, lock};

/// Waiting requests of one pool.
#[derive(Debug, Default)]
pub struct Queue {
    // Waiters, counting those that are just about to wait. Written with the lock held, read without.
    waiting: AtomicU32,
    waiters: Mutex<Waiters>,
}

#[derive(Debug, Default)]
struct Waiters {
    line: VecDeque<Waiter>,
    /// Those in line that have given up; swept when they are half of it, so that leaving costs little however long
    /// the line is.
    gone: usize,
}

#[derive(Debug)]
struct Waiter {
    level: Level,
    // Endpoints that this request has tried already; almost always empty.
    tried: Box<[u32]>,
    // The endpoint that this request belongs to, where it waits for that alone.
    only: Option<u32>,
    grant: oneshot::Sender<Grant>,
}

impl Waiter {
    fn takes(&self, endpoint: &EndpointLive) -> bool {
        match self.only {
            Some(only) => only == endpoint.slot() && endpoint.condition.allows_bound(self.level),
            None => endpoint.condition.allows(self.level) && !self.tried.contains(&endpoint.slot()),
        }
    }

    /// Whether it does not keep those behind it from places that it cannot use itself.
    fn is_choosy(&self) -> bool {
        self.only.is_some() || !self.tried.is_empty() || self.grant.is_closed()
    }
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

/// Sent away: nothing in the pool is usable any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dismissed;

/// A wait in line; dropping it leaves the line.
#[derive(Debug)]
pub struct Waiting {
    queue: Arc<Queue>,
    grant: Option<oneshot::Receiver<Grant>>,
}

impl Future for Waiting {
    type Output = Result<Grant, Dismissed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(grant) = self.grant.as_mut() else { return Poll::Ready(Err(Dismissed)) };
        let outcome = std::task::ready!(Pin::new(grant).poll(cx));
        self.grant = None;
        Poll::Ready(outcome.map_err(|_| Dismissed))
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

/// What became of joining the queue.
#[derive(Debug)]
pub enum Joined<P> {
    /// A place was free after all.
    Place(P),
    /// Wait here.
    Waiting(Waiting),
    /// The queue is full.
    Full,
}

impl Queue {
    /// Whether nobody waits.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) == 0
    }

    /// How many wait now.
    #[must_use]
    pub fn len(&self) -> usize {
        let waiters = lock(&self.waiters);
        waiters.line.len().saturating_sub(waiters.gone)
    }

    /// Joins the queue unless `capacity` wait already, for an endpoint that is none of the slots `tried`, or for the one at the
    /// slot `only`; `last_look` looks once more for a free place when nobody is
    /// in front, now that every release can see this waiter.
    pub fn join<P>(
        queue: &Arc<Self>,
        capacity: u32,
        level: Level,
        (tried, only): (&[u32], Option<u32>),
        last_look: impl FnOnce() -> Option<P>,
    ) -> Joined<P> {
        let mut waiters = lock(&queue.waiters);
        if waiters.line.len() - waiters.gone >= capacity as usize {
            return Joined::Full;
        }
        queue.waiting.fetch_add(1, Ordering::SeqCst);
        // The last look reads with relaxed loads; the fence keeps them behind the count that releases read.
        fence(Ordering::SeqCst);
        // One in front that has been everywhere free does not keep this one from a place it cannot use itself.
        if waiters.line.iter().all(Waiter::is_choosy)
            && let Some(place) = last_look()
        {
            queue.forget(1);
            return Joined::Place(place);
        }
        let (grant, receiver) = oneshot::channel();
        waiters.line.push_back(Waiter { level, tried: tried.into(), only, grant });
        Joined::Waiting(Waiting { queue: Arc::clone(queue), grant: Some(receiver) })
    }

    /// Gives a place on `endpoint` to the first waiter that can use it, or back to the endpoint.
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
        let mut waiters = lock(&self.waiters);
        let before = waiters.line.len();
        waiters.line.retain(|w| !hopeless(w.level, w.only));
        self.forget(before - waiters.line.len());
        waiters.gone = waiters.line.iter().filter(|w| w.grant.is_closed()).count();
    }

    /// Whether a place went to somebody.
    #[cold]
    fn hand_on(queue: &Arc<Self>, endpoint: &Arc<EndpointLive>, limit: u32) -> bool {
        if endpoint.is_retired() {
            return false;
        }
        let mut waiters = lock(&queue.waiters);
        while let Some(index) = waiters.line.iter().position(|w| w.takes(endpoint)) {
            // Taken before the waiter is known to be alive; given to the next one if it is not.
            if !endpoint.try_acquire(Work::Request, limit) {
                return false;
            }
            let Some(waiter) = waiters.line.remove(index) else { return false };
            queue.forget(1);
            let grant =
                Grant { endpoint: Arc::clone(endpoint), queue: Arc::clone(queue), limit, armed: true };
            match waiter.grant.send(grant) {
                Ok(()) => return true,
                Err(mut unused) => {
                    waiters.gone = waiters.gone.saturating_sub(1);
                    // Not through `drop`: the lock is held.
                    unused.armed = false;
                    endpoint.release(Work::Request);
                }
            }
        }
        false
    }

    /// Notes that a waiter has given up; what it was granted just before comes back.
    fn leave(&self, mut grant: oneshot::Receiver<Grant>) -> Option<Grant> {
        let mut waiters = lock(&self.waiters);
        // Nobody grants or dismisses while the lock is held.
        match grant.try_recv() {
            Ok(granted) => return Some(granted),
            Err(oneshot::error::TryRecvError::Closed) => return None,
            Err(oneshot::error::TryRecvError::Empty) => grant.close(),
        }
        waiters.gone += 1;
        if waiters.gone * 2 > waiters.line.len() {
            let before = waiters.line.len();
            waiters.line.retain(|w| !w.grant.is_closed());
            self.forget(before - waiters.line.len());
            waiters.gone = 0;
        }
        None
    }

    fn forget(&self, waiters: usize) {
        let waiters = u32::try_from(waiters).unwrap_or(u32::MAX);
        self.waiting.fetch_sub(waiters, Ordering::SeqCst);
    }
}

#[cfg(all(test, not(plimsoll_loom)))]
mod tests {
    use super::*;
    use crate::runtime::condition::Impediment;
    use crate::runtime::endpoint::Slots;

    fn setup() -> (Arc<Queue>, Arc<EndpointLive>) {
        (Arc::default(), Arc::new(EndpointLive::new(&Arc::<Slots>::default(), 1)))
    }

    fn join(queue: &Arc<Queue>, capacity: u32, tried: &[u32]) -> Joined<()> {
        Queue::join(queue, capacity, Level::Proven, (tried, None), || None)
    }

    /// What a waiter has by now.
    fn has(waiting: &mut Waiting) -> Option<Result<Grant, Dismissed>> {
        match Pin::new(waiting).poll(&mut Context::from_waker(std::task::Waker::noop())) {
            Poll::Ready(outcome) => Some(outcome),
            Poll::Pending => None,
        }
    }

    fn wait(queue: &Arc<Queue>) -> Waiting {
        match join(queue, 100, &[]) {
            Joined::Waiting(receiver) => receiver,
            other => panic!("should wait, got {other:?}"),
        }
    }

    #[test]
    fn a_freed_place_goes_to_the_first_waiter() {
        let (queue, endpoint) = setup();
        assert!(endpoint.try_acquire(Work::Request, 1));
        let (mut first, mut second) = (wait(&queue), wait(&queue));
        Queue::release(&queue, &endpoint, 1);
        let grant = has(&mut first).expect("the first has the place").expect("and is not sent away");
        assert!(has(&mut second).is_none());
        assert_eq!(endpoint.in_flight(), 1);
        drop(grant);
        assert!(has(&mut second).is_some_and(|grant| grant.is_ok()), "and then the second");
    }

    #[test]
    fn a_waiter_that_gave_up_strands_nobody() {
        let (queue, endpoint) = setup();
        assert!(endpoint.try_acquire(Work::Request, 1));
        let first = wait(&queue);
        let mut second = wait(&queue);
        drop(first);
        Queue::release(&queue, &endpoint, 1);
        assert!(has(&mut second).is_some_and(|grant| grant.is_ok()));
        assert!(queue.is_empty());
        assert_eq!(endpoint.in_flight(), 0, "the received grant was dropped");
    }

    #[test]
    fn a_full_queue_makes_room_by_sweeping_those_who_gave_up() {
        let (queue, endpoint) = setup();
        assert!(endpoint.try_acquire(Work::Request, 1));
        let Joined::Waiting(first) = join(&queue, 1, &[]) else { panic!("there is room") };
        assert!(matches!(join(&queue, 1, &[]), Joined::Full));
        assert_eq!(queue.len(), 1);
        drop(first);
        assert_eq!(queue.len(), 0, "who has left is not counted");
        let joined = join(&queue, 1, &[]);
        assert!(matches!(joined, Joined::Waiting(_)));
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn an_endpoint_already_tried_is_left_to_the_next_waiter() {
        let (queue, endpoint) = setup();
        assert!(endpoint.try_acquire(Work::Request, 1));
        let Joined::Waiting(mut first) = join(&queue, 9, &[endpoint.slot()]) else { panic!("it waits") };
        let mut second = wait(&queue);
        Queue::release(&queue, &endpoint, 1);
        assert!(has(&mut first).is_none());
        assert!(has(&mut second).is_some_and(|grant| grant.is_ok()));
    }

    #[test]
    fn a_place_on_an_endpoint_that_may_not_be_used_goes_to_nobody_until_it_may() {
        let (queue, endpoint) = setup();
        assert!(endpoint.try_acquire(Work::Request, 1));
        let mut first = wait(&queue);
        endpoint.condition.set(Impediment::Ejected, true);
        Queue::release(&queue, &endpoint, 1);
        assert!(has(&mut first).is_none());
        endpoint.condition.set(Impediment::Ejected, false);
        Queue::serve(&queue, &endpoint, 1);
        assert!(has(&mut first).is_some_and(|grant| grant.is_ok()));
    }

    #[test]
    fn who_belongs_to_an_endpoint_waits_for_that_one_and_is_in_nobodys_way() {
        let slots = Arc::<Slots>::default();
        let [own, other] = [(); 2].map(|()| Arc::new(EndpointLive::new(&slots, 1)));
        let queue = Arc::<Queue>::default();
        assert!(own.try_acquire(Work::Request, 1) && other.try_acquire(Work::Request, 1));
        let joined = Queue::join(&queue, 9, Level::Proven, (&[], Some(own.slot())), || None::<()>);
        let Joined::Waiting(mut bound) = joined else { panic!("it waits") };
        Queue::release(&queue, &other, 1);
        assert!(has(&mut bound).is_none(), "it is not that one");
        // Whoever comes next has what it does not want, although it came first.
        let look = || other.try_acquire(Work::Request, 1).then_some(());
        assert!(matches!(Queue::join(&queue, 9, Level::Proven, (&[], None), look), Joined::Place(())));
        // That its endpoint drains does not matter to it.
        own.condition.set(Impediment::Drained, true);
        Queue::release(&queue, &own, 1);
        assert!(has(&mut bound).is_some_and(|grant| grant.is_ok()));
    }

    #[test]
    fn who_waits_for_one_endpoint_is_sent_away_when_that_goes() {
        let (queue, endpoint) = setup();
        let joined = Queue::join(&queue, 9, Level::Proven, (&[], Some(endpoint.slot())), || None::<()>);
        let Joined::Waiting(mut bound) = joined else { panic!("it waits") };
        let mut any = wait(&queue);
        queue.dismiss(|_, only| only == Some(endpoint.slot()));
        assert!(matches!(has(&mut bound), Some(Err(Dismissed))) && has(&mut any).is_none());
    }

    #[test]
    fn all_free_places_are_served_and_no_more() {
        let (queue, endpoint) = setup();
        let mut waiting: Vec<Waiting> = (0..5).map(|_| wait(&queue)).collect();
        Queue::serve(&queue, &endpoint, 3);
        let granted: Vec<_> = waiting.iter_mut().map(has).collect();
        assert_eq!(granted.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, true, false, false]);
    }

    #[test]
    fn those_sent_away_are_told_and_leave_nothing_behind() {
        let (queue, _endpoint) = setup();
        let (mut first, second) = (wait(&queue), wait(&queue));
        queue.dismiss(|level, _| level == Level::Open);
        assert_eq!(queue.len(), 2, "they do not wait for that");
        queue.dismiss(|level, _| level == Level::Proven);
        assert!(queue.is_empty());
        assert!(matches!(has(&mut first), Some(Err(Dismissed))));
        drop((first, second));
        assert_eq!((queue.len(), queue.is_empty()), (0, true));
    }

    #[test]
    fn those_who_leave_a_long_line_do_not_pile_up_in_it() {
        let (queue, _endpoint) = setup();
        let mut waiting: Vec<Waiting> = (0..100).map(|_| wait(&queue)).collect();
        waiting.truncate(10);
        assert_eq!(queue.len(), 10);
        assert!(lock(&queue.waiters).line.len() <= 20);
        drop(waiting);
        assert!(queue.is_empty());
    }
}

#[cfg(all(test, plimsoll_loom))]
mod loom_tests {
    use super::*;
    use crate::runtime::endpoint::Slots;

    /// Whoever frees the only place while another joins: the newcomer has it, by its own look or by hand-over.
    #[test]
    fn loom_no_waiter_is_stranded_when_a_place_is_freed_while_it_joins() {
        loom::model(|| {
            let queue = Arc::<Queue>::default();
            let endpoint = Arc::new(EndpointLive::new(&Arc::<Slots>::default(), 1));
            assert!(endpoint.try_acquire(Work::Request, 1));
            let releaser = {
                let (queue, endpoint) = (Arc::clone(&queue), Arc::clone(&endpoint));
                loom::thread::spawn(move || Queue::release(&queue, &endpoint, 1))
            };
            let look = || (endpoint.in_flight() < 1 && endpoint.try_acquire(Work::Request, 1)).then_some(());
            let joined = Queue::join(&queue, 1, Level::Proven, (&[], None), look);
            releaser.join().expect("the releaser does not panic");
            match joined {
                Joined::Place(_) => {}
                Joined::Waiting(mut waiting) => {
                    let grant = waiting.grant.as_mut().map(oneshot::Receiver::try_recv);
                    assert!(matches!(grant, Some(Ok(_))), "stranded");
                }
                Joined::Full => panic!("there was room"),
            }
        });
    }
}
