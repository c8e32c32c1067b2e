//! A place on an endpoint and a connection to it: picking, waiting in the queue, dialing, and going on to the next
//! endpoint when a connection cannot be made.

use std::cell::OnceCell;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::error::Error;
use super::http2::upstream::{Granted, Lease, Wanted, is_http2};
use super::presentation::{Presentation, Presents};
use super::stream::Stream;
use super::timer::Timer;
use super::upstream::dial;
use super::upstream::dial::{SentFrom, Target};
use super::upstream::idle::{Identity, Protocol};
use super::upstream::tls::{self, Handshake};
use super::worker::Worker;
use crate::model::grpc;
use crate::model::protocol::Protocol as Speaks;
use crate::policy::admission::class::Class;
use crate::policy::balance::Draw;
use crate::policy::retry::Failure;
use crate::runtime::condition::Level;
use crate::runtime::endpoint::{Endpoint, Work};
use crate::runtime::events::Event;
use crate::runtime::judge::Outcome;
use crate::runtime::pick::{Bound, Order, Picked, Place};
use crate::runtime::pool::{Pool, PoolCounters, Timeouts, Tried};
use crate::runtime::queue::{Away, Joined};
use crate::runtime::snapshot::Overrides;
use crate::runtime::tls::fault::TlsFault;

/// What the tries of one piece of work have in common.
pub struct Tries<'a> {
    /// The worker.
    pub worker: &'a Worker,
    /// The pools that take it, in order.
    pub order: Order<'a>,
    /// The pool that was asked for.
    pub home: &'a Pool,
    /// What the route puts in the place of a pool's times.
    pub overrides: Overrides,
    /// What kind of work it is.
    pub work: Work,
    /// What the hashing policies go by.
    pub key: Option<Vec<u8>>,
    /// The request's host, where a pool asks for it by TLS.
    pub host: Option<Rc<str>>,
    /// It is a request for a tunnel.
    pub tunnel: bool,
    /// Whose turn it is where it has to wait.
    pub class: Class,
    /// Whom the work is for.
    pub client: &'a dyn Presents,
    /// What a PROXY header says of it, once one was wanted.
    presentation: OnceCell<Box<Presentation>>,
    /// Where it belongs.
    pub bound: Option<Bound<'a>>,
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
    /// What leads to it.
    pub link: Link,
    /// What it is kept apart by while it is idle; none where it is shared or never lies idle.
    pub identity: Option<Rc<Identity>>,
    /// Whether it has carried a request before.
    pub reused: bool,
}

/// What leads to an endpoint.
#[derive(Debug)]
pub enum Link {
    /// A connection of its own: of a tcp session, or for one HTTP/1 request at a time.
    Own(Stream),
    /// A place on an HTTP/2 connection.
    Http2(Lease),
}

impl Connection<'_> {
    /// The stream, where it is one of its own.
    ///
    /// # Errors
    /// [`Error::Reset`] where it is not: whoever can do without a stream asks [`Connection::link`] first.
    pub const fn stream(&self) -> Result<&Stream, Error> {
        match &self.link {
            Link::Own(stream) => Ok(stream),
            Link::Http2(_) => Err(Error::Reset),
        }
    }
}

/// How a link is made to an endpoint that has none to spare.
pub enum Way {
    /// By connecting.
    Dial(Target),
    /// By a place on an HTTP/2 connection, or whatever comes of asking for one.
    Ask(Wanted),
}

/// Why there is no link.
#[derive(Debug)]
pub enum Missed {
    /// No connection could be made; `late` where that is no evidence, because our own timer ran late.
    Unmade {
        /// Why.
        error: io::Error,
        /// Whether it is no evidence.
        late: bool,
    },
    /// All HTTP/2 connections stayed full.
    Full,
}

impl Way {
    /// Goes it, within the connect timeout, of which `timer` takes care.
    ///
    /// # Errors
    /// [`Missed`].
    pub async fn go(self, timer: &Timer) -> Result<Link, Missed> {
        match self {
            Self::Dial(target) => dial(&target, timer).await,
            Self::Ask(wanted) => {
                // Whoever makes the connection has a timer of its own for that.
                timer.set_after(wanted.patience());
                match timer.within(wanted.grant()).await {
                    Ok(Ok(Granted::Lease(lease))) => Ok(Link::Http2(lease)),
                    Ok(Ok(Granted::Stream(stream))) => Ok(Link::Own(stream)),
                    Ok(Ok(Granted::Alone(target))) => match dial(&target, timer).await? {
                        // It speaks another protocol than it did before.
                        Link::Own(stream) if is_http2(&stream) => {
                            wanted.forget();
                            Err(Missed::Unmade { error: io::ErrorKind::ConnectionAborted.into(), late: true })
                        }
                        link => Ok(link),
                    },
                    Ok(Err(unmade)) => Err(Missed::Unmade { error: unmade.error(), late: unmade.late }),
                    Err(_) => Err(Missed::Full),
                }
            }
        }
    }
}

async fn dial(target: &Target, timer: &Timer) -> Result<Link, Missed> {
    dial::dial(target, timer).await.map(Link::Own).map_err(|error| {
        // A timer of ours that ran late says nothing of the endpoint.
        let late = error.kind() == io::ErrorKind::TimedOut && timer.is_late();
        Missed::Unmade { error, late }
    })
}

/// Counts one that waits in vain.
fn turned_away(counters: &PoolCounters, error: Error) -> Error {
    match error {
        Error::QueueFull => counters.queue_full.one(),
        Error::QueueShed => counters.queue_shed.one(),
        Error::Deadline => counters.queue_hopeless.one(),
        _ => counters.queue_timeouts.one(),
    }
    error
}

impl<'a> Tries<'a> {
    /// No tries yet.
    #[must_use]
    pub fn new(
        worker: &'a Worker,
        client: &'a dyn Presents,
        order: Order<'a>,
        home: &'a Pool,
        overrides: Overrides,
        work: Work,
    ) -> Self {
        Self {
            worker,
            client,
            presentation: OnceCell::new(),
            order,
            home,
            overrides,
            work,
            key: None,
            host: None,
            tunnel: false,
            class: Class::default(),
            bound: None,
            tried: Tried::default(),
            attempts: 0,
            queued: Duration::ZERO,
            connecting: Duration::ZERO,
        }
    }

    /// Takes a place on an endpoint that has not been tried, waiting in the pool's queue if all are busy. `gone`
    /// resolves when the client leaves meanwhile; after `deadline` nobody waits for the answer.
    ///
    /// # Errors
    /// [`Error::NothingUsable`], [`Error::QueueFull`], [`Error::QueueShed`], [`Error::QueueTimeout`],
    /// [`Error::Deadline`], [`Error::Outdated`] or [`Error::ClientGone`].
    pub async fn pick(
        &mut self,
        timer: &Timer,
        deadline: Option<Instant>,
        gone: impl Future<Output = ()>,
    ) -> Result<Place<'a>, Error> {
        let bound = self.bound.filter(|bound| !self.tried.contains(bound.endpoint));
        let own = bound.map(|bound| (self.order.pick_bound(bound, self.work), Some(bound.endpoint)));
        let own = own.filter(|(picked, _)| !matches!(picked, Picked::Nothing));
        match own.unwrap_or_else(|| (self.choose(), None)) {
            (Picked::Place(place, level), _) => Ok(self.note(place, level)),
            (Picked::Nothing, _) => Err(self.nothing()),
            (Picked::Busy(pool, level), only) => {
                Box::pin(self.wait((pool, level, only), timer, deadline, gone)).await
            }
        }
    }

    /// An endpoint of any, where the work does not belong to one alone.
    fn choose(&self) -> Picked<'a> {
        if self.is_strict() {
            return Picked::Nothing;
        }
        self.order.pick(&self.tried, self.work, self.draw())
    }

    /// Whether the work goes nowhere but to the endpoint that it belongs to.
    fn is_strict(&self) -> bool {
        self.bound.is_some_and(|bound| bound.strict)
    }

    /// Whether this endpoint is the only one that the work may go to.
    #[must_use]
    pub fn is_alone(&self, endpoint: &Endpoint) -> bool {
        self.is_strict() || self.order.is_alone(endpoint)
    }

    fn draw(&self) -> Draw<'_> {
        Draw { random: self.worker.random(), key: self.key.as_deref() }
    }

    fn nothing(&self) -> Error {
        if self.tried.is_empty() {
            self.home.live.counters.of(self.worker.id).nothing_usable.one();
        }
        Error::NothingUsable { sure_for: self.order.refused_for() }
    }

    /// Counts a place that is none of the asked pool's, or that is there only because nothing is usable.
    fn note(&self, place: Place<'a>, level: Level) -> Place<'a> {
        let counters = self.home.live.counters.of(self.worker.id);
        if !std::ptr::eq(place.pool, self.home) {
            counters.failed_over.one();
        }
        if level == Level::Open {
            counters.failed_open.one();
        }
        place
    }

    async fn wait(
        &mut self,
        (mut pool, mut level, mut only): (&'a Pool, Level, Option<&'a Endpoint>),
        timer: &Timer,
        deadline: Option<Instant>,
        gone: impl Future<Output = ()>,
    ) -> Result<Place<'a>, Error> {
        let start = Instant::now();
        let late = start + pool.queue_timeout;
        let mut gone = pin!(gone);
        loop {
            let counters = pool.live.counters.of(self.worker.id);
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let joined = match only {
                Some(endpoint) => pool.join_queue_for(endpoint, level, (self.class, left)),
                None => pool.join_queue(level, (self.class, left), &self.tried, self.work, self.draw()),
            };
            let waiting = match joined {
                Joined::Place(place) => return Ok(self.note(place, level)),
                // Elsewhere there may be room, or a place in the queue.
                Joined::Full if only.take().is_some() && !self.is_strict() => match self.choose() {
                    Picked::Place(place, level) => return Ok(self.note(place, level)),
                    Picked::Nothing => return Err(self.nothing()),
                    Picked::Busy(other, needed) => {
                        (pool, level) = (other, needed);
                        continue;
                    }
                },
                Joined::Full => return Err(turned_away(counters, Error::QueueFull)),
                Joined::Hopeless => return Err(turned_away(counters, Error::Deadline)),
                Joined::Waiting(waiting) => waiting,
            };
            counters.queued.one();
            let shed = waiting.patience.map(|patience| Instant::now() + patience).filter(|shed| *shed < late);
            timer.set(shed.unwrap_or(late));
            let outcome = tokio::select! {
                biased;
                grant = timer.within(waiting) => grant,
                () = &mut gone => return Err(Error::ClientGone),
            };
            self.queued = start.elapsed();
            match outcome {
                Ok(Ok(grant)) => {
                    let slot = grant.endpoint().slot();
                    if let Some(place) = pool.granted(grant, level) {
                        return Ok(self.note(place, level));
                    }
                    // It has waited for long enough to see a reload, and nothing has been done with it yet.
                    if self.tried.is_empty() && !self.order.is_of(&self.worker.snapshot()) {
                        return Err(Error::Outdated);
                    }
                    // Else two that wait would hand it to each other for ever.
                    if !pool.is_member(slot) {
                        self.tried.add_stranger(slot);
                    }
                }
                Ok(Err(Away::Dismissed)) => {}
                Ok(Err(Away::Displaced)) => return Err(turned_away(counters, Error::QueueFull)),
                Ok(Err(Away::Shed)) => return Err(turned_away(counters, Error::QueueShed)),
                Err(_) if shed.is_some() => return Err(turned_away(counters, Error::QueueShed)),
                Err(_) => return Err(turned_away(counters, Error::QueueTimeout)),
            }
            // The place is of no use to this request, or nothing is usable there any more: elsewhere, perhaps.
            match self.choose() {
                Picked::Place(place, level) => return Ok(self.note(place, level)),
                Picked::Nothing => return Err(self.nothing()),
                Picked::Busy(other, needed) => (pool, level, only) = (other, needed, None),
            }
        }
    }

    /// As [`Tries::pick`], for one that has an answer already and does not wait for a better one.
    pub fn pick_now(&self) -> Option<Place<'a>> {
        match self.choose() {
            Picked::Place(place, level) => Some(self.note(place, level)),
            Picked::Busy(..) | Picked::Nothing => None,
        }
    }

    /// A place for an attempt beside the one at `place`, where the work does not belong there.
    pub fn pick_beside(&self, place: &Place<'a>) -> Option<Place<'a>> {
        if self.bound.is_some() {
            return None;
        }
        Order::beside(place, &self.tried, self.work, self.draw())
    }

    /// A connection to the endpoint of `place` that is there and may be used, if there is one.
    pub fn reuse(&self, place: Place<'a>, fresh_only: bool) -> Result<Connection<'a>, Place<'a>> {
        let speaks = self.speaks(place.pool);
        let mut found = None;
        if speaks != Speaks::Http1 {
            let identity = self.identity(place.pool, Protocol::Http2);
            // Its end would have been heard of, so that it need not be fresh.
            let lease = self.worker.multiplexed.take(&place, &identity);
            let lease = lease.filter(|lease| !self.needs_own(place.pool, lease));
            found = lease.map(|lease| (lease.reused, Link::Http2(lease), None));
        }
        if found.is_none() && speaks != Speaks::Http2 {
            let identity = self.identity(place.pool, Protocol::Http1);
            let idle = self.worker.idle.take(self.worker.id, place.endpoint, &identity, fresh_only);
            found = idle.map(|(stream, identity)| (true, Link::Own(stream), Some(identity)));
        }
        let Some((reused, link, identity)) = found else { return Err(place) };
        if reused {
            place.endpoint.live.counters.of(self.worker.id).reused.one();
        }
        Ok(Connection { place, link, identity, reused })
    }

    fn speaks(&self, pool: &Pool) -> Speaks {
        if self.work == Work::Request { pool.protocol } else { Speaks::Http1 }
    }

    /// The PROXY header of connections to a pool.
    fn header(&self, pool: &Pool) -> Option<Rc<Vec<u8>>> {
        let version = pool.send_proxy?;
        Some(self.presentation.get_or_init(|| Box::new(self.client.presentation())).header(version))
    }

    /// What connections to a pool come from.
    fn source(&self, pool: &Pool) -> Option<SentFrom> {
        SentFrom::of(pool.source, || self.client.source())
    }

    /// What connections to a pool are kept apart by.
    fn identity(&self, pool: &Pool, protocol: Protocol) -> Identity {
        Identity::of(pool, protocol, self.host.as_ref(), self.header(pool), self.source(pool))
    }

    /// How a link to the endpoint of `place` is made.
    ///
    /// # Errors
    /// As [`Handshake::with`].
    pub fn way(&self, place: &Place<'a>) -> io::Result<Way> {
        let target = self.target(place)?;
        if self.speaks(place.pool) == Speaks::Http1 {
            return Ok(Way::Dial(target));
        }
        let identity = self.identity(place.pool, Protocol::Http2);
        Ok(Way::Ask(self.worker.multiplexed.want(self.worker, place, identity, target)))
    }

    fn target(&self, place: &Place<'a>) -> io::Result<Target> {
        Ok(Target {
            address: place.endpoint.socket(),
            source: self.source(place.pool),
            header: self.header(place.pool),
            tls: Handshake::with(place.endpoint, self.work, self.host.as_deref())?,
            timeouts: self.timeouts(place.pool),
        })
    }

    /// A new connection to the endpoint of `place`, or the first place on one that many share.
    ///
    /// # Errors
    /// [`Error::Connect`]; the endpoint is then noted as tried, and its place given back. [`Error::QueueTimeout`] where
    /// what is shared stayed full.
    pub async fn dial(&mut self, place: Place<'a>, timer: &Timer) -> Result<Connection<'a>, Error> {
        let start = Instant::now();
        // Boxed: most requests find a connection, and need not carry what it takes to make one.
        let dialed = Box::pin(self.connect(&place, timer)).await;
        self.connecting += start.elapsed();
        self.dialed(place, dialed)
    }

    async fn connect(&self, place: &Place<'a>, timer: &Timer) -> Result<Link, Missed> {
        match self.go(place, timer).await {
            Err(Missed::Unmade { error, .. }) if dial::is_ours(&error) => {
                // What lies idle is worth less than a request that waits.
                self.worker.idle.clear(self.worker.id);
                self.go(place, timer).await
            }
            dialed => dialed,
        }
    }

    async fn go(&self, place: &Place<'a>, timer: &Timer) -> Result<Link, Missed> {
        let unmade = |error| Missed::Unmade { error, late: false };
        match self.way(place).map_err(unmade)?.go(timer).await? {
            Link::Http2(lease) if self.needs_own(place.pool, &lease) => {
                drop(lease);
                let mut target = self.target(place).map_err(unmade)?;
                target.tls = target.tls.map(|tls| Box::new(tls.for_http1()));
                match dial(&target, timer).await {
                    // That it is there, the other connection shows.
                    Err(Missed::Unmade { error, .. }) => Err(Missed::Unmade { error, late: true }),
                    dialed => dialed,
                }
            }
            link => Ok(link),
        }
    }

    /// Whether a tunnel is to have a connection of HTTP/1, where the endpoint speaks either and there is none over HTTP/2.
    fn needs_own(&self, pool: &Pool, lease: &Lease) -> bool {
        self.tunnel && pool.protocol == Speaks::Auto && !lease.takes_extended_connect()
    }

    /// What came of dialing the endpoint of `place`.
    ///
    /// # Errors
    /// As [`Tries::dial`].
    pub fn dialed(
        &mut self,
        place: Place<'a>,
        dialed: Result<Link, Missed>,
    ) -> Result<Connection<'a>, Error> {
        let (error, late) = match dialed {
            Ok(link) => {
                let (identity, reused) = match &link {
                    Link::Own(_) => {
                        place.endpoint.live.counters.of(self.worker.id).connects.one();
                        let lies_idle = self.work == Work::Request;
                        let identity = lies_idle.then(|| self.identity(place.pool, Protocol::Http1));
                        (identity.map(Rc::new), false)
                    }
                    // It was counted when it was made, for all who share it.
                    Link::Http2(lease) => (None, lease.reused),
                };
                return Ok(Connection { place, link, identity, reused });
            }
            Err(Missed::Full) => {
                place.pool.live.counters.of(self.worker.id).queue_timeouts.one();
                return Err(Error::QueueTimeout);
            }
            Err(Missed::Unmade { error, late }) => (error, late),
        };
        // Our own want is no evidence against the endpoint.
        if dial::is_ours(&error) {
            return Err(Error::Exhausted(error));
        }
        let void = late || self.is_about_host(place.pool, &error);
        let error = Error::Connect(error);
        self.failed(place, &error, void);
        Err(error)
    }

    /// Whether a handshake failed that says more of the name which the client chose than of the endpoint: else any client
    /// could have endpoints ejected by asking for names that they do not have.
    fn is_about_host(&self, pool: &Pool, error: &io::Error) -> bool {
        let follows = self.host.is_some() && pool.tls.as_ref().is_some_and(|tls| tls.follows_host());
        follows && tls::fault_of(error).is_some_and(TlsFault::depends_on_name)
    }

    /// A pool's times with the route's in their place.
    #[must_use]
    pub fn timeouts(&self, pool: &Pool) -> Timeouts {
        pool.timeouts.with(&self.overrides)
    }

    /// Whether an endpoint other than this one and those tried is usable.
    #[must_use]
    pub fn has_another(&self, than: &Endpoint) -> bool {
        !self.is_strict() && self.order.has_another(&self.tried, than)
    }

    /// Notes that the endpoint at `place` answered, with this status (0 where there is none) after so long.
    pub fn answered(&self, place: &mut Place<'a>, status: u16, after: Duration) {
        self.judge(place, Outcome::Answered { status, after }, &|| {
            grpc::word(status).unwrap_or_else(|| format!("status {status}"))
        });
    }

    fn judge(&self, place: &mut Place<'a>, outcome: Outcome, evidence: &dyn Fn() -> String) {
        let (worker, pool, endpoint) = (self.worker, place.pool, place.endpoint);
        place.ended(&self.order, worker.id, outcome, worker.random(), |of_pool, change| {
            worker.events.send(Event::Judged {
                pool: pool.name.clone(),
                endpoint: (!of_pool).then(|| endpoint.name.clone()),
                change,
                evidence: evidence(),
            });
        });
    }

    /// Notes that an attempt at `place` failed: it is not tried again while another is left, its counters, the policies
    /// and control know. `void` says that it is no evidence, such as when our own timer ran late.
    pub fn failed(&mut self, mut place: Place<'a>, error: &Error, void: bool) {
        let endpoint = place.endpoint;
        self.tried.add(endpoint);
        let counters = endpoint.live.counters.of(self.worker.id);
        if error.given_back().is_some() {
            // It said so in good order, which is no failure.
            counters.given_back.add(u64::from(matches!(error, Error::GivenBack(_))));
            return;
        }
        let Some(failure) = error.failure() else { return };
        if let Error::Connect(error) = error
            && let Some(fault) = tls::fault_of(error)
        {
            place.pool.live.counters.of(self.worker.id).tls_faults.counter(fault).one();
        }
        match failure {
            Failure::Connect => counters.failed_connect.one(),
            Failure::Timeout => counters.failed_timeout.one(),
            Failure::Reset if matches!(error, Error::Answer(_)) => counters.failed_answer.one(),
            Failure::Reset | Failure::Status(_) => counters.failed_reset.one(),
        }
        if !void {
            self.judge(&mut place, Outcome::Failed(failure), &|| error.to_string());
        }
        if self.worker.events.is_full() {
            return self.worker.events.skip();
        }
        self.worker.events.send(Event::EndpointFailed {
            pool: place.pool.name.clone(),
            endpoint: endpoint.name.clone(),
            failure,
            evidence: error.to_string(),
        });
    }
}
