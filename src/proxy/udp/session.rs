//! A session: the datagrams of one client to one endpoint and back. It picks an endpoint and, when that one refuses,
//! another; it ends when it has been quiet for long enough, or when it is told to.

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::socket::{Answering, Upstream, count, is_refusal, send};
use super::table::{Key, Position, Table};
use crate::model::address::Address;
use crate::model::proxy_protocol::Version;
use crate::proxy::attempt::Tries;
use crate::proxy::error::Error;
use crate::proxy::hash_key;
use crate::proxy::listener::Door;
use crate::proxy::presentation::{Presentation, Presents};
use crate::proxy::proxy_protocol::{Addresses, Transport, write};
use crate::proxy::sessions::Cut;
use crate::proxy::timer::Timer;
use crate::proxy::upstream::dial::{SentFrom, is_ours};
use crate::proxy::worker::Worker;
use crate::runtime::condition::Impediment;
use crate::runtime::endpoint::{Endpoint, EndpointLive, Work};
use crate::runtime::listener::{ConnectionPlace, DatagramCounters, Listener, Protocol, SessionRules};
use crate::runtime::pick::{Order, Place};
use crate::runtime::pool::{Pool, Tried};
use crate::runtime::snapshot::Overrides;
use crate::runtime::sources::SourcePlace;
use crate::telemetry::access_log::{Phases, Record, Termination};

/// Datagrams of a session that may wait for its endpoint: a moment's worth. No setting: what waits longer is better sent
/// again by whoever sent it.
const WAITING_MAX: usize = 16;

/// Bytes of a first datagram that is kept until an answer comes, to be sent to another endpoint when the first one refuses it: a DNS
/// question, a first packet of QUIC.
const KEPT_MAX: usize = 1500;

/// Batches of datagrams that one call receives of an endpoint.
const BATCHES: usize = 8;

/// How long a session may be quiet once the process drains, or its listener is gone: who asks something still gets an answer.
const LEAVING_QUIET: Duration = Duration::from_secs(1);

/// A session as its socket's reader knows it.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) key: Key,
    pub(super) position: Position,
    /// The last datagram either way.
    pub(super) last: Cell<Instant>,
    timer: Timer,
    idle: Cell<Duration>,
    until: Cell<Option<Instant>>,
    way: RefCell<Way>,
    /// The first datagram, until something has come back.
    kept: RefCell<Option<Box<[u8]>>>,
    /// Set when sending finds out that the endpoint refuses.
    refused: RefCell<Option<io::Error>>,
    waker: RefCell<Option<Waker>>,
    place: RefCell<Option<ConnectionPlace>>,
    forth: Moved,
    back: Moved,
}

/// Where a session's datagrams go.
#[derive(Debug)]
enum Way {
    /// Nowhere yet: they wait.
    Waiting(Vec<Box<[u8]>>),
    /// To this endpoint.
    Open(Rc<Upstream>, Arc<EndpointLive>),
}

/// What has gone one way.
#[derive(Debug, Default)]
struct Moved {
    datagrams: Cell<u64>,
    bytes: Cell<u64>,
}

impl Moved {
    fn add(&self, datagrams: u64, bytes: usize) {
        self.datagrams.set(self.datagrams.get() + datagrams);
        self.bytes.set(self.bytes.get() + bytes as u64);
    }
}

impl Flow {
    /// A session that is to begin, with what has come for it.
    pub(super) fn new<'b>(
        worker: &Worker,
        key: Key,
        place: ConnectionPlace,
        idle: Duration,
        waiting: impl Iterator<Item = &'b [u8]>,
        now: Instant,
    ) -> Self {
        let waiting: Vec<Box<[u8]>> = waiting.map(Box::from).collect();
        let flow = Self {
            key,
            position: Position::default(),
            last: Cell::new(now),
            timer: worker.timers.timer(),
            idle: Cell::new(idle),
            until: Cell::new(None),
            way: RefCell::new(Way::Waiting(Vec::new())),
            kept: RefCell::default(),
            refused: RefCell::default(),
            waker: RefCell::default(),
            place: RefCell::new(Some(place)),
            forth: Moved::default(),
            back: Moved::default(),
        };
        flow.forth.add(waiting.len() as u64, waiting.iter().map(|datagram| datagram.len()).sum());
        *flow.way.borrow_mut() = Way::Waiting(waiting);
        flow.touch(now);
        flow
    }

    /// Sends datagrams of the client on.
    pub(super) fn forward(
        &self,
        answering: &Answering,
        counters: &DatagramCounters,
        bytes: &[u8],
        stride: usize,
        now: Instant,
    ) {
        let datagrams = bytes.len().div_ceil(stride.max(1)).max(1) as u64;
        self.forth.add(datagrams, bytes.len());
        self.touch(now);
        let mut way = self.way.borrow_mut();
        match &mut *way {
            Way::Waiting(waiting) => {
                let room = WAITING_MAX.saturating_sub(waiting.len());
                waiting.extend(super::socket::split(bytes, stride).take(room).map(Box::from));
                counters.dropped_waiting.add(datagrams.saturating_sub(room as u64));
            }
            Way::Open(upstream, _) => match upstream.send(&answering.state, bytes, stride) {
                Ok(()) => {
                    // With a second one before the first answer it is not known which of them was refused.
                    if self.back.datagrams.get() == 0 {
                        *self.kept.borrow_mut() = None;
                    }
                }
                Err(error) if is_refusal(&error) => {
                    let waiting = super::socket::split(bytes, stride).take(WAITING_MAX).map(Box::from);
                    *way = Way::Waiting(waiting.collect());
                    *self.refused.borrow_mut() = Some(error);
                    if let Some(waker) = self.waker.borrow_mut().take() {
                        waker.wake();
                    }
                }
                Err(_) => counters.dropped_unsent.add(datagrams),
            },
        }
    }

    /// Tells it to end.
    pub(super) fn cut(&self, why: Cut) {
        self.timer.hold().set_cut(why);
    }

    /// Whether it was told to end.
    pub(super) fn is_cut(&self) -> bool {
        self.timer.cut().is_some()
    }

    /// Ends it for a newcomer, which gets its place.
    pub(super) fn give_way(&self) -> Option<ConnectionPlace> {
        self.cut(Cut::Evicted);
        self.place.borrow_mut().take()
    }

    /// Why its endpoint must not be used any more. One that is drained still serves the sessions that it has.
    pub(super) fn turned_away(&self) -> Option<Cut> {
        let way = self.way.borrow();
        let Way::Open(_, endpoint) = &*way else { return None };
        match endpoint.condition.reason()? {
            Impediment::Maintenance | Impediment::Standby => Some(Cut::Demoted),
            Impediment::Down | Impediment::Ejected | Impediment::Broken => Some(Cut::Unreachable),
            Impediment::Drained | Impediment::Weightless | Impediment::Unproven => None,
        }
    }

    fn touch(&self, now: Instant) {
        self.last.set(now);
        let deadline = now + self.idle.get();
        self.timer.set(self.until.get().map_or(deadline, |until| until.min(deadline)));
    }

    /// Sends what has waited, and what comes from now on, to an endpoint.
    fn open(
        &self,
        upstream: &Rc<Upstream>,
        endpoint: &Endpoint,
        answering: &Answering,
        counters: &DatagramCounters,
    ) {
        let to = Way::Open(Rc::clone(upstream), Arc::clone(&endpoint.live));
        let Way::Waiting(waiting) = self.way.replace(to) else { return };
        if let [first] = waiting.as_slice()
            && first.len() <= KEPT_MAX
            && self.back.datagrams.get() == 0
        {
            *self.kept.borrow_mut() = Some(first.clone());
        }
        for datagram in waiting {
            // A refusal comes by way of the socket.
            if upstream.send(&answering.state, &datagram, datagram.len()).is_err() {
                counters.dropped_unsent.one();
            }
        }
    }

    /// Nothing goes to the endpoint any more: what it may not have got waits for another one.
    fn close(&self) {
        let mut way = self.way.borrow_mut();
        if let Way::Open(..) = &*way {
            *way = Way::Waiting(self.kept.borrow_mut().take().into_iter().collect());
        }
    }
}

/// What a session's task owns.
pub(super) struct Session {
    pub(super) worker: Rc<Worker>,
    pub(super) door: Rc<Door>,
    pub(super) answering: Rc<Answering>,
    pub(super) table: Rc<Table>,
    pub(super) flow: Rc<Flow>,
    pub(super) listener: usize,
    pub(super) _source: Option<SourcePlace>,
}

impl Presents for Session {
    fn source(&self) -> SocketAddr {
        self.flow.key.client
    }

    fn presentation(&self) -> Presentation {
        let Key { client, local } = self.flow.key;
        let destination = self.answering.address.map(|address| match local {
            Some(ip) => SocketAddr::new(ip, address.port()),
            None => address,
        });
        let addresses = destination.map(|destination| Addresses { source: client, destination });
        Presentation { addresses, ..Presentation::default() }
    }
}

impl Session {
    /// The header that goes before each datagram to an endpoint of this pool.
    fn header(&self, pool: &Pool) -> Vec<u8> {
        let mut header = Vec::new();
        let Presentation { addresses, facts } = self.presentation();
        if pool.send_proxy == Some(Version::V2) {
            write::v2(addresses, &facts, Transport::Datagram, &mut header);
        }
        header
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.table.remove(&self.flow);
        self.worker.fleet.left(self.worker.id);
        if std::thread::panicking()
            && let Some(place) = &*self.flow.place.borrow()
        {
            place.listener().counters.of(self.worker.id).panics.one();
        }
    }
}

/// Runs a session until it ends.
pub(super) async fn run(session: Session) {
    let worker = &*session.worker;
    let Some(snapshot) = worker.snapshot_of(session.listener) else { return };
    let Some(listener) = snapshot.listeners.get(session.listener) else { return };
    let Protocol::Udp { pool, rules } = listener.protocol else { return };
    let Some(pool) = snapshot.pools.get(pool) else { return };
    let order = Order::new(&snapshot.pools, &pool.chain);
    let mut tries = Tries::new(worker, &session, order, pool, Overrides::default(), Work::Connection);
    tries.key = pool.hash_key.as_ref().map(|_| hash_key::of_source(session.flow.key.client.ip()));
    let mut account = Account {
        session: &session,
        listener,
        pool,
        start: Instant::now(),
        endpoint: None,
        attempts: 0,
        termination: None,
    };
    session.flow.until.set(worker.end_of_life(pool));
    account.termination = Some(account.serve(&mut tries, rules).await);
}

/// What one endpoint's part of a session came to.
enum Ended {
    /// The endpoint refuses.
    Refused(io::Error),
    /// The session is over.
    Over(Termination),
}

/// A session under way: counted and logged when it is dropped, also where that is before its end.
struct Account<'a> {
    session: &'a Session,
    listener: &'a Listener,
    pool: &'a Pool,
    start: Instant,
    endpoint: Option<&'a Endpoint>,
    attempts: u32,
    /// Nothing until it has ended.
    termination: Option<Termination>,
}

impl<'a> Account<'a> {
    /// Serves by one endpoint after the other, as each refuses.
    async fn serve(&mut self, tries: &mut Tries<'a>, rules: SessionRules) -> Termination {
        let session = self.session;
        let (worker, flow) = (&*session.worker, &session.flow);
        let counters = &self.listener.live.counters.of(worker.id).udp;
        let mut refused = None;
        loop {
            let mut place = match tries.pick(&flow.timer, None, pending()).await {
                Ok(place) => place,
                Err(error) => return refused.unwrap_or(error).termination(),
            };
            tries.attempts += 1;
            self.attempts = tries.attempts;
            self.endpoint = Some(place.endpoint);
            place.endpoint.live.counters.of(worker.id).attempts.one();
            let connected = match place.endpoint.socket() {
                Address::Ip(address) => {
                    let source = SentFrom::of(place.pool.source, || session.source());
                    Upstream::connect(address, source, session.header(place.pool).into())
                }
                // Only a pool that tcp listeners lead to as well may have one.
                Address::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
            };
            let error = match connected.map(Rc::new) {
                Ok(upstream) => {
                    place.endpoint.live.counters.of(worker.id).connects.one();
                    flow.open(&upstream, place.endpoint, &session.answering, counters);
                    let ended = self.relay(&upstream, &mut place, tries, rules).await;
                    flow.close();
                    match ended {
                        Ended::Refused(error) => error,
                        Ended::Over(termination) => return termination,
                    }
                }
                Err(error) if is_ours(&error) => return Error::Exhausted(error).termination(),
                Err(error) => error,
            };
            let error = Error::Connect(error);
            tries.failed(place, &error, false);
            refused = Some(error);
        }
    }

    /// Carries answers back until the session, or the endpoint's part of it, is over.
    async fn relay(
        &self,
        upstream: &Rc<Upstream>,
        place: &mut Place<'a>,
        tries: &mut Tries<'a>,
        rules: SessionRules,
    ) -> Ended {
        let session = self.session;
        let (worker, flow) = (&*session.worker, &session.flow);
        let (slot, edition) = (place.endpoint.live.slot(), &place.pool.edition);
        let listener = u32::try_from(session.listener).unwrap_or(u32::MAX);
        let _entered = worker.sessions.enter(slot, &flow.timer, edition, flow.key.client, listener);
        let (begun, mut answered, mut joins) = (Instant::now(), false, false);
        loop {
            let mut ready = match self.next(upstream).await {
                Next::Ready(ready) => ready,
                Next::Ended(ended) => return ended,
            };
            let before = flow.back.datagrams.get();
            let each = |meta: &quinn_udp::RecvMeta, bytes: &[u8]| self.answer(meta, bytes, rules);
            let received =
                worker.datagrams.receive(upstream.socket(), &session.answering.state, BATCHES, each);
            if !matches!(received, Ok(BATCHES)) {
                ready.clear_ready();
            }
            match received {
                Ok(batches) if batches > 1 && !joins => {
                    upstream.join();
                    joins = true;
                }
                Ok(_) => {}
                Err(error) if is_refusal(&error) => return Ended::Refused(error),
                Err(_) => {}
            }
            let answers = flow.back.datagrams.get();
            if answers > before {
                flow.touch(Instant::now());
            }
            if answers > before && !std::mem::replace(&mut answered, true) {
                *flow.kept.borrow_mut() = None;
                tries.answered(place, 0, begun.elapsed());
                // Whoever refused before may be tried again when this one does one day.
                tries.tried = Tried::default();
            }
            if rules.answers.is_some_and(|most| answers >= u64::from(most.get())) {
                return Ended::Over(Termination::Done);
            }
            if matches!(received, Ok(BATCHES)) {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Waits until there is something to receive, or a reason to end.
    async fn next<'u>(&self, upstream: &'u Upstream) -> Next<'u> {
        let session = self.session;
        let (worker, flow) = (&session.worker, &session.flow);
        let mut ready = pin!(upstream.ready());
        poll_fn(|cx| {
            if let Some(error) = flow.refused.borrow_mut().take() {
                return Poll::Ready(Next::Ended(Ended::Refused(error)));
            }
            if flow.idle.get() > LEAVING_QUIET && worker.is_leaving(session.listener) {
                flow.idle.set(LEAVING_QUIET);
                flow.touch(flow.last.get());
            }
            if flow.timer.poll_expired(cx).is_ready() {
                return Poll::Ready(Next::Ended(Ended::Over(self.over())));
            }
            match ready.as_mut().poll(cx) {
                Poll::Ready(Ok(ready)) => return Poll::Ready(Next::Ready(ready)),
                Poll::Ready(Err(error)) => return Poll::Ready(Next::Ended(Ended::Refused(error))),
                Poll::Pending => {}
            }
            let mut waker = flow.waker.borrow_mut();
            if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
                *waker = Some(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    /// Why its time is over.
    fn over(&self) -> Termination {
        let flow = &self.session.flow;
        match flow.timer.cut() {
            Some(why) => why.termination(),
            None if flow.until.get().is_some_and(|until| Instant::now() >= until) => Termination::Aged,
            None => Termination::IdleTimeout,
        }
    }

    /// Sends datagrams of the endpoint to the client.
    fn answer(&self, meta: &quinn_udp::RecvMeta, bytes: &[u8], rules: SessionRules) {
        let Session { worker, door, answering, flow, .. } = self.session;
        let counters = &self.listener.live.counters.of(worker.id).udp;
        let datagrams = count(meta);
        flow.back.add(datagrams, bytes.len());
        if meta.stride > rules.datagram_max {
            counters.dropped_oversized.add(datagrams);
            return;
        }
        let Key { client, local } = flow.key;
        match send(&door.socket, &answering.state, client, local, bytes, meta.stride) {
            Ok(()) => counters.to_clients.add(datagrams),
            Err(_) => counters.dropped_unsent.add(datagrams),
        }
    }

    fn account(&self, termination: Termination) {
        let Session { worker, flow, .. } = self.session;
        let (forth, back) = (flow.forth.bytes.get(), flow.back.bytes.get());
        let (listener, pool) = (self.listener, self.pool);
        let counters = listener.live.counters.of(worker.id);
        counters.bytes_in.add(forth);
        counters.bytes_out.add(back);
        if let Way::Waiting(waiting) = &*flow.way.borrow() {
            counters.udp.dropped_refused.add(waiting.len() as u64);
        }
        if let Some(endpoint) = self.endpoint {
            let counters = endpoint.live.counters.of(worker.id);
            counters.bytes_in.add(forth);
            counters.bytes_out.add(back);
        }
        pool.live.counters.of(worker.id).ended.count(0);
        worker.count_end(&listener.live, 0, termination);
        let total = self.start.elapsed();
        // A panic inside the log itself leaves no record, rather than another panic.
        let Ok(mut log) = worker.access_log.try_borrow_mut() else { return };
        log.log(&Record {
            at: SystemTime::now() - total,
            client: flow.key.client,
            peer: flow.key.client,
            listener: listener.name.as_str(),
            route: None,
            pool: Some(pool.name.as_str()),
            endpoint: self.endpoint.map(|endpoint| endpoint.name.as_str()),
            attempts: self.attempts,
            protocol: "UDP",
            tls: None,
            method: b"",
            host: b"",
            target: b"",
            status: 0,
            bytes_in: forth,
            bytes_out: back,
            grpc_code: None,
            datagrams: Some((flow.forth.datagrams.get(), flow.back.datagrams.get())),
            phases: Phases { total, ..Phases::default() },
            termination,
            request_id: b"",
            trace_id: None,
        });
    }
}

/// What a session waits for.
enum Next<'u> {
    /// Its socket has something.
    Ready(tokio::io::unix::AsyncFdReadyGuard<'u, socket2::Socket>),
    /// It is over, with this endpoint at least.
    Ended(Ended),
}

impl Drop for Account<'_> {
    fn drop(&mut self) {
        self.account(self.termination.unwrap_or_else(Worker::why_cut));
    }
}
