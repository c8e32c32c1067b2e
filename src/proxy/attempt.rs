//! A place on an endpoint and a connection to it: picking, waiting in the queue, dialing, and going on to the next
//! endpoint when a connection cannot be made.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

use super::error::Error;
use super::timer::Timer;
use super::upstream::dial;
use super::upstream::idle::Identity;
use super::worker::Worker;
use crate::policy::retry::Failure;
use crate::runtime::endpoint::{Endpoint, Work};
use crate::runtime::events::Event;
use crate::runtime::pool::{Picked, Place, Pool, Timeouts, Tried};
use crate::runtime::queue::Joined;

/// What the tries of one piece of work have in common.
pub struct Tries<'a> {
    /// The worker.
    pub worker: &'a Worker,
    /// The pool.
    pub pool: &'a Pool,
    /// Its times, the route's overrides applied.
    pub timeouts: Timeouts,
    /// What kind of work it is.
    pub work: Work,
    /// Endpoints that have been tried.
    pub tried: Tried,
    /// Tries so far; a failed connect is none.
    pub attempts: u32,
    /// Time spent waiting in the queue.
    pub queued: Duration,
    /// Time spent connecting.
    pub connecting: Duration,
}

/// A connection to the endpoint on which a place is held.
pub struct Connection<'a> {
    /// The place; given back when dropped.
    pub place: Place<'a>,
    /// The connection.
    pub stream: TcpStream,
    /// Whether it has carried a request before.
    pub reused: bool,
}

impl<'a> Tries<'a> {
    /// No tries yet.
    #[must_use]
    pub fn new(worker: &'a Worker, pool: &'a Pool, timeouts: Timeouts, work: Work) -> Self {
        Self {
            worker,
            pool,
            timeouts,
            work,
            tried: Tried::default(),
            attempts: 0,
            queued: Duration::ZERO,
            connecting: Duration::ZERO,
        }
    }

    /// Takes a place on an endpoint that has not been tried, waiting in the pool's queue if all are busy. `gone`
    /// resolves when the client leaves meanwhile.
    ///
    /// # Errors
    /// [`Error::NothingUsable`], [`Error::QueueFull`], [`Error::QueueTimeout`] or [`Error::ClientGone`].
    pub async fn pick(&mut self, timer: &Timer, gone: impl Future<Output = ()>) -> Result<Place<'a>, Error> {
        match self.pool.pick(&self.tried, self.work, self.worker.random()) {
            Picked::Place(place) => Ok(place),
            Picked::Nothing => {
                if self.tried.is_empty() {
                    self.pool.live.counters.of(self.worker.id).nothing_usable.one();
                }
                Err(Error::NothingUsable)
            }
            Picked::Busy => Box::pin(self.wait(timer, gone)).await,
        }
    }

    async fn wait(&mut self, timer: &Timer, gone: impl Future<Output = ()>) -> Result<Place<'a>, Error> {
        let pool = self.pool;
        let counters = pool.live.counters.of(self.worker.id);
        let start = Instant::now();
        timer.set(start + pool.queue_timeout);
        let mut gone = pin!(gone);
        loop {
            let receiver = match pool.join_queue(&self.tried, self.work, self.worker.random()) {
                Joined::Place(index) => return pool.place(index).ok_or(Error::NothingUsable),
                Joined::Full => {
                    counters.queue_full.one();
                    return Err(Error::QueueFull);
                }
                Joined::Waiting(receiver) => receiver,
            };
            counters.queued.one();
            let outcome = tokio::select! {
                biased;
                grant = timer.within(receiver) => grant,
                () = &mut gone => return Err(Error::ClientGone),
            };
            self.queued = start.elapsed();
            match outcome {
                // A place on an endpoint that this request's snapshot does not have yet is of no use to it.
                Ok(Ok(grant)) => match pool.granted(grant) {
                    Some(place) => return Ok(place),
                    None => continue,
                },
                Ok(Err(_)) => return Err(Error::NothingUsable),
                Err(_) => {
                    counters.queue_timeouts.one();
                    return Err(Error::QueueTimeout);
                }
            }
        }
    }

    /// As [`Tries::pick`], for one that has an answer already and does not wait for a better one.
    pub fn pick_now(&self) -> Option<Place<'a>> {
        match self.pool.pick(&self.tried, self.work, self.worker.random()) {
            Picked::Place(place) => Some(place),
            Picked::Busy | Picked::Nothing => None,
        }
    }

    /// An idle connection to the endpoint of `place`, if there is one that may be used.
    pub fn reuse(&self, place: Place<'a>, fresh_only: bool) -> Result<Connection<'a>, Place<'a>> {
        let idle = self.worker.idle.take(self.worker.id, place.endpoint, Identity::default(), fresh_only);
        match idle {
            Some(stream) => {
                place.endpoint.live.counters.of(self.worker.id).reused.one();
                Ok(Connection { place, stream, reused: true })
            }
            None => Err(place),
        }
    }

    /// A new connection to the endpoint of `place`.
    ///
    /// # Errors
    /// [`Error::Connect`]; the endpoint is then noted as tried, and its place given back.
    pub async fn dial(&mut self, place: Place<'a>, timer: &Timer) -> Result<Connection<'a>, Error> {
        let start = Instant::now();
        let mut dialed = dial::dial(place.endpoint.socket(), &self.timeouts, timer).await;
        if dialed.as_ref().is_err_and(dial::is_ours) {
            // What lies idle is worth less than a request that waits.
            self.worker.idle.clear(self.worker.id);
            dialed = dial::dial(place.endpoint.socket(), &self.timeouts, timer).await;
        }
        self.connecting += start.elapsed();
        match dialed {
            Ok(stream) => {
                place.endpoint.live.counters.of(self.worker.id).connects.one();
                Ok(Connection { place, stream, reused: false })
            }
            // Our own want is no evidence against the endpoint.
            Err(error) if dial::is_ours(&error) => Err(Error::Exhausted(error)),
            Err(error) => {
                let error = Error::Connect(error);
                self.failed(place.endpoint, &error);
                Err(error)
            }
        }
    }

    /// Notes that an attempt on `endpoint` failed: it is not tried again while another is left, its counters and
    /// control know.
    pub fn failed(&mut self, endpoint: &Endpoint, error: &Error) {
        self.tried.add(endpoint);
        let counters = endpoint.live.counters.of(self.worker.id);
        let Some(failure) = error.failure() else { return };
        match failure {
            Failure::Connect => counters.failed_connect.one(),
            Failure::Timeout => counters.failed_timeout.one(),
            Failure::Reset if matches!(error, Error::Answer(_)) => counters.failed_answer.one(),
            Failure::Reset | Failure::Status(_) => counters.failed_reset.one(),
        }
        if self.worker.events.is_full() {
            return self.worker.events.skip();
        }
        self.worker.events.send(Event::EndpointFailed {
            pool: self.pool.name.clone(),
            endpoint: endpoint.name.clone(),
            failure,
            evidence: error.to_string(),
        });
    }
}
