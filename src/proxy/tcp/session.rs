//! A tcp session: pick, dial (the next endpoint when one cannot be reached), relay, account.

use std::future::Future;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::relay::{Ended, Life, Moved, Relay};
use crate::proxy::attempt::{Connection, Link, Tries};
use crate::proxy::connection::Client;
use crate::proxy::error::Error;
use crate::proxy::greeting::{self, Refusal};
use crate::proxy::hash_key;
use crate::proxy::sticky;
use crate::proxy::stream::Stream;
use crate::proxy::tls::Secured;
use crate::proxy::upstream::dial;
use crate::proxy::worker::Worker;
use crate::runtime::endpoint::{Endpoint, Work};
use crate::runtime::listener::{Listener, Protocol, WhenEmpty};
use crate::runtime::pick::{Order, Place};
use crate::runtime::pool::{Pool, Tried};
use crate::runtime::snapshot::{Overrides, Route, Snapshot};
use crate::telemetry::access_log::{Phases, Record, Termination};

/// Runs one session until it ends.
#[expect(clippy::manual_async_fn, reason = "an async fn keeps its arguments twice, in every idle connection")]
pub fn run(client: Client) -> impl Future<Output = ()> {
    async move {
        let worker = &*client.worker;
        let Some(snapshot) = client.snapshot() else { return };
        let Some(listener) = client.listener(&snapshot) else { return };
        let Some((route, pool)) = target(&snapshot, listener, &client) else {
            return greeting::refuse(&client, listener, Instant::now(), &Refusal::Nowhere);
        };
        let order = Order::new(&snapshot.pools, &pool.chain);
        let mut session = Session::new(worker, &client, listener, (route, pool));
        // Boxed: what it takes to connect is of no use to a session that lasts.
        let connected = Box::pin(session.connect(order)).await;
        session.termination = Some(match &connected {
            Ok((place, theirs)) => {
                let (ours, pool) = (&client.stream, place.pool);
                let life = Life { idle: pool.timeouts.tunnel, until: worker.end_of_life(pool) };
                dial::keep_alive_probes(theirs, pool.timeouts.tcp_keepalive);
                let slot = place.endpoint.live.slot();
                let (edition, listener) = (&pool.edition, client.listener_place());
                let _entered = worker.sessions.enter(slot, &client.timer, edition, client.source(), listener);
                match Relay::new((ours, theirs), life, &client.timer, &worker.pipes, &session.moved).await {
                    Ended::Closed => Termination::Done,
                    Ended::FirstBroke => Termination::ClientAborted,
                    Ended::SecondBroke => Termination::EndpointAborted,
                    Ended::Idle => Termination::IdleTimeout,
                    Ended::Cut(why) => why.termination(),
                }
            }
            Err(error) => {
                // Tells the client at once, where an orderly end would look like an empty answer.
                client.stream.reset_on_close();
                error.termination()
            }
        });
    }
}

/// How often a held connection looks whether something is usable. No setting: `when_empty` bounds how long and how many.
const HOLD_LOOK: Duration = Duration::from_millis(100);

/// A session under way: counted and logged when it is dropped, also where that is before its end.
struct Session<'a> {
    worker: &'a Worker,
    client: &'a Client,
    listener: &'a Listener,
    route: Option<&'a Route>,
    pool: &'a Pool,
    start: Instant,
    /// Where it is connected to.
    endpoint: Option<&'a Endpoint>,
    attempts: u32,
    // No time in a queue: connections never wait in one.
    connecting: Duration,
    moved: Moved,
    /// Nothing until it has ended.
    termination: Option<Termination>,
}

impl<'a> Session<'a> {
    fn new(
        worker: &'a Worker,
        client: &'a Client,
        listener: &'a Listener,
        (route, pool): Target<'a>,
    ) -> Self {
        Self {
            worker,
            client,
            listener,
            route,
            pool,
            start: Instant::now(),
            endpoint: None,
            attempts: 0,
            connecting: Duration::ZERO,
            moved: Moved::default(),
            termination: None,
        }
    }

    async fn connect(&mut self, order: Order<'a>) -> Result<(Place<'a>, Stream), Error> {
        let (worker, pool) = (self.worker, self.pool);
        let mut tries = Tries::new(worker, self.client, order, pool, Overrides::default(), Work::Connection);
        tries.key = pool
            .hash_key
            .as_ref()
            .map(|key| hash_key::of_connection(key, self.client.source().ip(), self.client.server_name()));
        let source = self.client.source().ip();
        tries.bound = sticky::of_source(order.pools(), pool, source);
        let mut connected = try_all(&mut tries, self.client).await;
        if let Err(Error::NothingUsable { .. } | Error::Connect(_)) = &connected {
            connected = self.hold(&mut tries, connected).await;
        }
        (self.connecting, self.attempts) = (tries.connecting, tries.attempts);
        self.endpoint = connected.as_ref().ok().map(|connection| connection.place.endpoint);
        if let Ok(Connection { place, .. }) = &connected {
            sticky::settle_source(worker, pool, tries.bound, source, (place.pool, place.endpoint));
        }
        // What else is known of the connection is of no use any more, and would lie in every session.
        connected.and_then(|Connection { place, link, .. }| match link {
            Link::Own(stream) => Ok((place, stream)),
            // What speaks HTTP/2 is for requests.
            Link::Http2(_) => Err(Error::Reset),
        })
    }

    /// Keeps the client waiting for something to become usable, where the listener wants that.
    async fn hold(
        &self,
        tries: &mut Tries<'a>,
        mut outcome: Result<Connection<'a>, Error>,
    ) -> Result<Connection<'a>, Error> {
        let Protocol::Tcp { when_empty: WhenEmpty::Hold { time, max }, .. } = self.listener.protocol else {
            return outcome;
        };
        let Some(_held) = self.listener.live.try_hold(max) else {
            self.listener.live.counters.of(self.worker.id).hold_full.one();
            return outcome;
        };
        let deadline = Instant::now() + time;
        while outcome.is_err() && Instant::now() < deadline && !self.client.stream.is_broken() {
            self.client.timer.set_after(HOLD_LOOK);
            self.client.timer.expired().await;
            if tries.order.is_usable() {
                tries.tried = Tried::default();
                outcome = try_all(tries, self.client).await;
            }
        }
        outcome
    }

    fn account(&self, termination: Termination) {
        let (worker, listener, pool) = (self.worker, self.listener, self.pool);
        let (forth, back) = (self.moved.forth(), self.moved.back());
        let counters = listener.live.counters.of(worker.id);
        counters.bytes_in.add(forth);
        counters.bytes_out.add(back);
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
            client: self.client.source(),
            peer: self.client.peer,
            listener: listener.name.as_str(),
            route: self.route.map(|route| route.name.as_str()),
            pool: Some(pool.name.as_str()),
            endpoint: self.endpoint.map(|e| e.name.as_str()),
            attempts: self.attempts,
            protocol: "TCP",
            tls: self.client.secured().map(Secured::logged),
            method: b"",
            host: self.client.server_name().unwrap_or_default().as_bytes(),
            target: b"",
            status: 0,
            bytes_in: forth,
            bytes_out: back,
            datagrams: None,
            phases: Phases { connect: self.connecting, total, ..Phases::default() },
            termination,
            request_id: b"",
            trace_id: None,
            grpc_code: None,
        });
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.account(self.termination.unwrap_or_else(Worker::why_cut));
    }
}

/// The pool of a session, and the route that led there.
type Target<'a> = (Option<&'a Route>, &'a Pool);

fn target<'a>(snapshot: &'a Snapshot, listener: &Listener, client: &Client) -> Option<Target<'a>> {
    let Protocol::Tcp { pool, sni, .. } = &listener.protocol else { return None };
    let by_name = sni.as_ref().and_then(|routes| routes.table.find(client.server_name()?));
    match by_name {
        Some(target) => Some((snapshot.routes.get(target.route), snapshot.pools.get(target.pool)?)),
        None => Some((None, snapshot.pools.get((*pool)?)?)),
    }
}

async fn try_all<'a>(tries: &mut Tries<'a>, client: &Client) -> Result<Connection<'a>, Error> {
    let mut last = None;
    loop {
        // A client of a tcp session may end its direction early and still want the answer: it is not watched here.
        let place = match tries.pick(&client.timer, None, std::future::pending()).await {
            Ok(place) => place,
            Err(error) => return Err(last.unwrap_or(error)),
        };
        place.endpoint.live.counters.of(tries.worker.id).attempts.one();
        match tries.dial(place, &client.timer).await {
            Ok(mut connection) => {
                tries.attempts += 1;
                tries.answered(&mut connection.place, 0, tries.connecting);
                return Ok(connection);
            }
            Err(error) => last = Some(error),
        }
    }
}
