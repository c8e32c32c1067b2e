//! The queue of a pool: requests that wait for a place, first come first served over all workers.
//!
//! The lock is touched only while someone waits. A freed place goes to the first waiter that can use it,
//! whichever worker owns the waiter; a newcomer never overtakes.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::endpoint::EndpointLive;
use super::sync::{AtomicU32, Mutex, Ordering, fence, lock};

/// Waiting requests of one pool.
#[derive(Debug, Default)]
pub struct Queue {
    // Waiters, counting those that are just about to wait. Written with the lock held, read without.
    waiting: AtomicU32,
    waiters: Mutex<VecDeque<Waiter>>,
}

#[derive(Debug)]
struct Waiter {
    // Endpoints that this request has tried already; almost always empty.
    tried: Box<[u32]>,
    grant: oneshot::Sender<Grant>,
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

/// What became of joining the queue.
#[derive(Debug)]
pub enum Joined {
    /// A place was free after all.
    Place(usize),
    /// Wait here; the position is the number of those in front.
    Waiting(oneshot::Receiver<Grant>),
    /// The queue is full.
    Full,
}

impl Queue {
    /// How many wait now.
    #[inline]
    #[must_use]
    pub fn len(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Whether nobody waits.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Joins the queue unless it holds `capacity` already; `last_look` looks once more for a free place when nobody
    /// is in front, now that every release can see this waiter.
    pub fn join(&self, capacity: u32, tried: &[u32], last_look: impl FnOnce() -> Option<usize>) -> Joined {
        let mut waiters = lock(&self.waiters);
        // Those who gave up (timed out, client gone) are swept before the queue is called full.
        if waiters.len() >= capacity as usize {
            let before = waiters.len();
            waiters.retain(|w| !w.grant.is_closed());
            self.forget(before - waiters.len());
        }
        if waiters.len() >= capacity as usize {
            return Joined::Full;
        }
        self.waiting.fetch_add(1, Ordering::SeqCst);
        // The last look reads with relaxed loads; the fence keeps them behind the count that releases read.
        fence(Ordering::SeqCst);
        // One in front that has been everywhere free does not keep this one from a place it cannot use itself.
        if waiters.iter().all(|w| w.grant.is_closed() || !w.tried.is_empty())
            && let Some(place) = last_look()
        {
            self.forget(1);
            return Joined::Place(place);
        }
        let (grant, receiver) = oneshot::channel();
        waiters.push_back(Waiter { tried: tried.into(), grant });
        Joined::Waiting(receiver)
    }

    /// Gives a place on `endpoint` to the first waiter that can use it, or back to the endpoint.
    #[inline]
    pub fn release(queue: &Arc<Self>, endpoint: &Arc<EndpointLive>, limit: u32) {
        endpoint.release();
        // Pairs with the fence in `join`.
        fence(Ordering::SeqCst);
        if !queue.is_empty() && !endpoint.is_retired() {
            Self::hand_on(queue, endpoint, limit);
        }
    }

    #[cold]
    fn hand_on(queue: &Arc<Self>, endpoint: &Arc<EndpointLive>, limit: u32) {
        let mut waiters = lock(&queue.waiters);
        while let Some(index) = waiters.iter().position(|w| !w.tried.contains(&endpoint.slot())) {
            // Taken before the waiter is known to be alive; given to the next one if it is not.
            if !endpoint.try_acquire(limit) {
                return;
            }
            let Some(waiter) = waiters.remove(index) else { return };
            queue.forget(1);
            let grant =
                Grant { endpoint: Arc::clone(endpoint), queue: Arc::clone(queue), limit, armed: true };
            match waiter.grant.send(grant) {
                Ok(()) => return,
                Err(mut unused) => {
                    // Not through `drop`: the lock is held.
                    unused.armed = false;
                    endpoint.release();
                }
            }
        }
    }

    fn forget(&self, waiters: usize) {
        let waiters = u32::try_from(waiters).unwrap_or(u32::MAX);
        self.waiting.fetch_sub(waiters, Ordering::SeqCst);
    }
}

#[cfg(all(test, not(plimsoll_loom)))]
mod tests {
    use super::*;
    use crate::runtime::endpoint::Slots;

    fn setup() -> (Arc<Queue>, Arc<EndpointLive>) {
        (Arc::default(), Arc::new(EndpointLive::new(&Arc::<Slots>::default(), 1)))
    }

    fn wait(queue: &Queue) -> oneshot::Receiver<Grant> {
        match queue.join(100, &[], || None) {
            Joined::Waiting(receiver) => receiver,
            other => panic!("should wait, got {other:?}"),
        }
    }

    #[test]
    fn a_freed_place_goes_to_the_first_waiter() {
        let (queue, endpoint) = setup();
        assert!(endpoint.try_acquire(1));
        let (mut first, mut second) = (wait(&queue), wait(&queue));
        Queue::release(&queue, &endpoint, 1);
        let grant = first.try_recv().expect("the first has the place");
        assert!(second.try_recv().is_err());
        assert_eq!(endpoint.in_flight(), 1);
        drop(grant);
        assert!(second.try_recv().is_ok(), "and then the second");
    }

    #[test]
    fn a_waiter_that_gave_up_strands_nobody() {
        let (queue, endpoint) = setup();
        assert!(endpoint.try_acquire(1));
        let first = wait(&queue);
        let mut second = wait(&queue);
        drop(first);
        Queue::release(&queue, &endpoint, 1);
        assert!(second.try_recv().is_ok());
        assert!(queue.is_empty());
        assert_eq!(endpoint.in_flight(), 0, "the received grant was dropped");
    }

    #[test]
    fn a_full_queue_makes_room_by_sweeping_those_who_gave_up() {
        let (queue, endpoint) = setup();
        assert!(endpoint.try_acquire(1));
        let Joined::Waiting(first) = queue.join(1, &[], || None) else { panic!("there is room") };
        assert!(matches!(queue.join(1, &[], || None), Joined::Full));
        drop(first);
        assert!(matches!(queue.join(1, &[], || None), Joined::Waiting(_)));
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn an_endpoint_already_tried_is_left_to_the_next_waiter() {
        let (queue, endpoint) = setup();
        assert!(endpoint.try_acquire(1));
        let Joined::Waiting(mut first) = queue.join(9, &[endpoint.slot()], || None) else {
            panic!("it waits")
        };
        let mut second = wait(&queue);
        Queue::release(&queue, &endpoint, 1);
        assert!(first.try_recv().is_err());
        assert!(second.try_recv().is_ok());
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
            assert!(endpoint.try_acquire(1));
            let releaser = {
                let (queue, endpoint) = (Arc::clone(&queue), Arc::clone(&endpoint));
                loom::thread::spawn(move || Queue::release(&queue, &endpoint, 1))
            };
            let joined =
                queue.join(1, &[], || (endpoint.in_flight() < 1 && endpoint.try_acquire(1)).then_some(0));
            releaser.join().expect("the releaser does not panic");
            match joined {
                Joined::Place(_) => {}
                Joined::Waiting(mut receiver) => assert!(receiver.try_recv().is_ok(), "stranded"),
                Joined::Full => panic!("there was room"),
            }
        });
    }
}
