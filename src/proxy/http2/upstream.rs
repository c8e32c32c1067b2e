//! The HTTP/2 connections of one worker to endpoints: who may use which, when another one is made, and who waits.
//!
//! A connection is made and driven by a task of its own (`drive`); what is known of it is here. A request holds a
//! [`Lease`] on one of its places.

mod drive;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;
use h2::client::{ResponseFuture, SendRequest};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::model::protocol::Protocol;
use crate::proxy::stream::Stream;
use crate::proxy::timer::Timers;
use crate::proxy::tls::Tls;
use crate::proxy::upstream::dial::Target;
use crate::proxy::upstream::idle::Identity;
use crate::proxy::upstream::tls;
use crate::proxy::worker::Worker;
use crate::runtime::counters::WorkerId;
use crate::runtime::endpoint::{EndpointCounters, EndpointLive};
use crate::runtime::limits::EndpointLimits;
use crate::runtime::pick::Place;
use crate::runtime::pool::PoolLive;

/// How long it is remembered that an endpoint which may speak either protocol speaks HTTP/1. No setting: asking again costs
/// one of many requests nothing.
const SPOKEN_KEPT: Duration = Duration::from_secs(10);

/// Why no connection could be made, told to everyone who waited for it.
#[derive(Debug, Clone)]
pub struct Unmade {
    error: Rc<io::Error>,
    /// It is no evidence against the endpoint, because our own timer ran late.
    pub late: bool,
}

impl Unmade {
    fn new(error: io::Error, late: bool) -> Self {
        Self { error: Rc::new(error), late }
    }

    /// The error as each of them sees it.
    #[must_use]
    pub fn error(&self) -> io::Error {
        tls::copy_of(&self.error)
    }
}

/// What came of asking for a place.
pub enum Granted {
    /// One.
    Lease(Lease),
    /// The endpoint speaks HTTP/1: the connection that was made to find out.
    Stream(Stream),
    /// The endpoint speaks HTTP/1: whoever asked connects for itself.
    Alone(Target),
}

/// What those who wait are told; of [`Granted::Alone`] they know themselves where to.
enum Answer {
    Lease(Lease),
    Stream(Stream),
    Alone,
    Unmade(Unmade),
}

/// A place that is to be asked for.
pub struct Wanted {
    shelf: Rc<Shelf>,
    pool: Arc<PoolLive>,
    target: Target,
    queue_timeout: Duration,
}

impl Wanted {
    /// How long one waits: for a connection, or where all are full.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.target.timeouts.connect + self.queue_timeout
    }

    /// A place on a connection that is there, on one that is made now, or the first that becomes free. Dropping the future
    /// gives the place up, whenever it may come.
    ///
    /// # Errors
    /// [`Unmade`].
    pub async fn grant(&self) -> Result<Granted, Unmade> {
        let shelf = &self.shelf;
        if shelf.speaks_http1() {
            return Ok(Granted::Alone(self.target.clone()));
        }
        let (sender, receiver) = oneshot::channel();
        shelf.waiting.borrow_mut().push_back(sender);
        shelf.tend();
        if !shelf.is_opening_for_all() {
            self.pool.counters.of(shelf.worker).http2_full.one();
        }
        match receiver.await {
            Ok(Answer::Lease(lease)) => Ok(Granted::Lease(lease)),
            Ok(Answer::Stream(stream)) => Ok(Granted::Stream(stream)),
            Ok(Answer::Alone) => Ok(Granted::Alone(self.target.clone())),
            Ok(Answer::Unmade(unmade)) => Err(unmade),
            // The task that was to answer has gone with the worker.
            Err(_) => Err(Unmade::new(io::ErrorKind::ConnectionAborted.into(), true)),
        }
    }

    /// Forgets which protocol the endpoint speaks.
    pub fn forget(&self) {
        self.shelf.spoke_http1.set(None);
    }
}

/// Whether HTTP/2 was agreed on for a stream under TLS.
#[must_use]
pub fn is_http2(stream: &Stream) -> bool {
    stream.tls().and_then(Tls::alpn).as_deref() == Some(b"h2")
}

/// HTTP/2 connections of one worker.
#[derive(Default)]
pub struct Connections(RefCell<Vec<Vec<Rc<Shelf>>>>);

/// Connections to one endpoint with one identity.
struct Shelf {
    // Held, so that the slot is not given to another endpoint meanwhile.
    endpoint: Arc<EndpointLive>,
    pool: Arc<PoolLive>,
    worker: WorkerId,
    identity: Identity,
    open: RefCell<Vec<Rc<Shared>>>,
    /// Connections that are being made.
    opening: Cell<usize>,
    /// Requests that the last connection took at once; what a new one is expected to take.
    expected: Cell<usize>,
    /// How another one is made.
    recipe: RefCell<Recipe>,
    /// When it was last found to speak HTTP/1, where it may speak either.
    spoke_http1: Cell<Option<Instant>>,
    waiting: RefCell<VecDeque<oneshot::Sender<Answer>>>,
}

/// One connection, as its requests and its task share it.
struct Shared {
    shelf: Weak<Shelf>,
    endpoint: Arc<EndpointLive>,
    worker: WorkerId,
    /// Gone once no new request may begin on it.
    sender: RefCell<Option<SendRequest<Bytes>>>,
    /// Whether it is under TLS.
    tls: bool,
    /// Requests on it.
    streams: Cell<usize>,
    /// Requests that it takes at once.
    most: Cell<usize>,
    /// Whether it has carried a request.
    used: Cell<bool>,
    /// Since when it has had no request, or some.
    since: Cell<Instant>,
    task: RefCell<Option<Waker>>,
    /// Whether its task has ended.
    ended: Cell<bool>,
}

/// A place on a connection, for one request. Given back when dropped, after everything of the request's stream.
pub struct Lease {
    connection: Rc<Shared>,
    sender: SendRequest<Bytes>,
    /// Whether the connection has carried a request before.
    pub reused: bool,
}

impl Connections {
    /// A place on a connection that is there, the one with the fewest requests.
    pub fn take(&self, place: &Place<'_>, identity: &Identity) -> Option<Lease> {
        let slots = self.0.borrow();
        let shelves = slots.get(place.endpoint.live.slot() as usize)?;
        let shelf = shelves.iter().find(|shelf| shelf.identity == *identity)?;
        // Whoever waits came before.
        if shelf.waiting.borrow().is_empty() { shelf.lease() } else { None }
    }

    /// A place that is to be asked for, on connections to `target`.
    pub fn want(&self, worker: &Worker, place: &Place<'_>, identity: Identity, target: Target) -> Wanted {
        let pool = place.pool;
        let recipe = Recipe::new(worker, place, target.clone());
        let (queue_timeout, live) = (pool.queue_timeout, Arc::clone(&pool.live));
        let mut slots = self.0.borrow_mut();
        let slot = place.endpoint.live.slot() as usize;
        if slots.len() <= slot {
            slots.resize_with(slot + 1, Vec::new);
        }
        let shelves = &mut slots[slot];
        let shelf = match shelves.iter().find(|shelf| shelf.identity == identity) {
            Some(shelf) => {
                *shelf.recipe.borrow_mut() = recipe;
                Rc::clone(shelf)
            }
            None => {
                let shelf = Rc::new(Shelf::new(worker.id, place, identity, recipe));
                shelves.push(Rc::clone(&shelf));
                shelf
            }
        };
        Wanted { shelf, pool: live, target, queue_timeout }
    }

    /// Forgets endpoints without a connection.
    pub fn sweep(&self) {
        for shelves in self.0.borrow_mut().iter_mut().filter(|shelves| !shelves.is_empty()) {
            shelves.retain(|shelf| !shelf.is_empty());
        }
    }

    /// Nothing new begins on connections to the endpoints with these slots; those without a request close.
    pub fn purge(&self, slots: &[u32]) {
        let shelves: Vec<_> = {
            let all = self.0.borrow();
            slots.iter().filter_map(|&slot| all.get(slot as usize)).flatten().map(Rc::clone).collect()
        };
        shelves.iter().for_each(|shelf| shelf.retire());
    }

    /// Nothing new begins on any connection; those without a request close.
    pub fn clear(&self) {
        let shelves: Vec<_> = self.0.borrow().iter().flatten().map(Rc::clone).collect();
        shelves.iter().for_each(|shelf| shelf.retire());
    }
}

impl Shelf {
    fn new(worker: WorkerId, place: &Place<'_>, identity: Identity, recipe: Recipe) -> Self {
        Self {
            endpoint: Arc::clone(&place.endpoint.live),
            pool: Arc::clone(&place.pool.live),
            worker,
            identity,
            open: RefCell::default(),
            opening: Cell::new(0),
            expected: Cell::new(recipe.limits.http2_streams),
            spoke_http1: Cell::new(None),
            recipe: RefCell::new(recipe),
            waiting: RefCell::default(),
        }
    }

    fn speaks_http1(&self) -> bool {
        self.spoke_http1.get().is_some_and(|at| at.elapsed() < SPOKEN_KEPT)
    }

    /// Whether what it leads to is still led to in this way.
    fn is_current(&self) -> bool {
        !self.endpoint.is_retired() && self.identity.is_current(&self.pool)
    }

    fn is_empty(&self) -> bool {
        let idle =
            self.opening.get() == 0 && self.open.borrow().is_empty() && self.waiting.borrow().is_empty();
        idle && !(self.speaks_http1() && self.is_current())
    }

    fn counters(&self) -> &EndpointCounters {
        self.endpoint.counters.of(self.worker)
    }

    /// A place on the connection with the fewest requests.
    fn lease(&self) -> Option<Lease> {
        let most = self.recipe.borrow().limits.http2_streams;
        let open = self.open.borrow();
        let room = open.iter().filter(|shared| shared.streams.get() < shared.most.get().min(most));
        room.min_by_key(|shared| shared.streams.get()).and_then(Shared::lease)
    }

    /// Gives free places to those who wait, first come first served.
    fn serve(&self) {
        loop {
            let next = {
                let mut waiting = self.waiting.borrow_mut();
                while waiting.front().is_some_and(oneshot::Sender::is_closed) {
                    waiting.pop_front();
                }
                if waiting.is_empty() {
                    return;
                }
                let Some(lease) = self.lease() else { return };
                waiting.pop_front().map(|waiter| (waiter, lease))
            };
            // One that has just left gives the place back, by dropping it, to the next.
            if let Some((waiter, lease)) = next {
                drop(waiter.send(Answer::Lease(lease)));
            }
        }
    }

    /// Whether more wait than the connections that are being made will take.
    fn is_opening_for_all(&self) -> bool {
        self.opening.get() * self.expected.get() >= self.waiting.borrow().len()
    }

    fn wants_another(&self) -> bool {
        let connections = self.open.borrow().len() + self.opening.get();
        !self.is_opening_for_all() && connections < self.recipe.borrow().limits.http2_connections
    }

    /// Serves those who wait, and has connections made for those who are left.
    fn tend(self: &Rc<Self>) {
        self.serve();
        while self.wants_another() {
            self.opening.set(self.opening.get() + 1);
            let opening = drive::Opening::new(self, &self.recipe.borrow());
            drop(tokio::task::spawn_local(drive::run(opening)));
        }
    }

    /// Takes a new connection among those that can be used.
    fn opened(self: &Rc<Self>, shared: &Rc<Shared>) {
        self.opening.set(self.opening.get() - 1);
        self.expected.set(shared.most.get().min(self.recipe.borrow().limits.http2_streams));
        let counters = self.counters();
        counters.connects.one();
        counters.multiplexed.one();
        counters.idle.one();
        self.open.borrow_mut().push(Rc::clone(shared));
        self.tend();
    }

    /// A connection could not be made: whoever waits for nothing else hears of it.
    fn failed(&self, why: &Unmade) {
        self.opening.set(self.opening.get() - 1);
        if self.opening.get() > 0 || !self.open.borrow().is_empty() {
            return;
        }
        self.tell_all(|| Answer::Unmade(why.clone()));
    }

    /// The endpoint has chosen HTTP/1.
    fn chose_http1(&self, stream: Stream) {
        self.opening.set(self.opening.get() - 1);
        self.spoke_http1.set(Some(Instant::now()));
        let mut answer = Answer::Stream(stream);
        loop {
            let first = self.waiting.borrow_mut().pop_front();
            // One that has left gives it back, to the next; nobody is left to use it otherwise.
            match first.map(|waiter| waiter.send(answer)) {
                Some(Err(back)) => answer = back,
                Some(Ok(())) | None => break,
            }
        }
        self.tell_all(|| Answer::Alone);
    }

    fn tell_all(&self, answer: impl Fn() -> Answer) {
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        for waiter in waiting {
            // Whoever waited may have left.
            drop(waiter.send(answer()));
        }
    }

    /// A connection takes nothing new.
    fn left(&self, shared: &Shared) {
        self.open.borrow_mut().retain(|other| !std::ptr::eq(&raw const **other, shared));
    }

    fn retire(&self) {
        let open = std::mem::take(&mut *self.open.borrow_mut());
        open.iter().for_each(|shared| shared.leave());
    }
}

impl Shared {
    fn lease(self: &Rc<Self>) -> Option<Lease> {
        let sender = self.sender.borrow().clone()?;
        if self.streams.get() == 0 {
            self.since.set(Instant::now());
            self.counters().idle.sub(1);
        }
        self.streams.set(self.streams.get() + 1);
        Some(Lease { connection: Rc::clone(self), sender, reused: self.used.replace(true) })
    }

    fn counters(&self) -> &EndpointCounters {
        self.endpoint.counters.of(self.worker)
    }

    /// Nothing new begins on it from now on. Its task closes it once the last request has ended.
    fn leave(&self) {
        if self.sender.borrow_mut().take().is_none() {
            return;
        }
        if let Some(shelf) = self.shelf.upgrade() {
            shelf.left(self);
            shelf.tend();
        }
        self.wake();
    }

    fn is_leaving(&self) -> bool {
        self.sender.borrow().is_none()
    }

    fn wake(&self) {
        if let Some(task) = self.task.borrow().as_ref() {
            task.wake_by_ref();
        }
    }
}

impl Lease {
    /// Begins a request; `end` where nothing follows its head.
    ///
    /// # Errors
    /// As h2: the connection takes no more, or the request is none.
    pub fn send(
        &self,
        request: http::Request<()>,
        end: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        self.sender.clone().send_request(request, end)
    }

    /// Whether the connection is under TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.connection.tls
    }

    /// Whether the endpoint takes extended CONNECT (RFC 8441 section 3).
    #[must_use]
    pub fn takes_extended_connect(&self) -> bool {
        self.sender.is_extended_connect_protocol_enabled()
    }

    /// Counters of the endpoint.
    #[must_use]
    pub fn counters(&self) -> &EndpointCounters {
        self.connection.counters()
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease").field("reused", &self.reused).finish_non_exhaustive()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let shared = &self.connection;
        shared.streams.set(shared.streams.get() - 1);
        if shared.streams.get() == 0 {
            shared.since.set(Instant::now());
            if !shared.ended.get() {
                shared.counters().idle.one();
            }
            shared.wake();
        }
        if let Some(shelf) = shared.shelf.upgrade() {
            shelf.serve();
        }
    }
}

/// How a connection is made, and how long it lasts: what the pool said last.
#[derive(Clone)]
struct Recipe {
    target: Target,
    /// Whether the endpoint may choose HTTP/1 instead.
    either: bool,
    limits: EndpointLimits,
    /// What requests that are on it get when it is to take no more.
    leaving: Duration,
    /// How old it may become.
    age: Option<Duration>,
    timers: Rc<Timers>,
}

impl Recipe {
    fn new(worker: &Worker, place: &Place<'_>, target: Target) -> Self {
        let pool = place.pool;
        Self {
            target,
            either: pool.protocol == Protocol::Auto,
            limits: pool.limits,
            leaving: pool.drain_timeout,
            age: worker.end_of_life(pool).map(|end| end.saturating_duration_since(Instant::now())),
            timers: Rc::clone(&worker.timers),
        }
    }
}
