//! A socket of a udp listener: receives in batches, finds the session of each datagram or begins one under the listener's
//! ceilings, and stops as the process drains.

use std::future::pending;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use quinn_udp::RecvMeta;
use tokio::time::{Instant, sleep};

use super::session::{self, Flow, Session};
use super::socket::{Answering, BATCH, count, split};
use super::table::{Key, Table};
use crate::proxy::listener::{Door, source_key};
use crate::proxy::sessions::Cut;
use crate::proxy::worker::Worker;
use crate::runtime::listener::{ConnectionPlace, Listener, Protocol, SessionRules};
use crate::runtime::pick::Order;
use crate::runtime::pool::Pool;
use crate::runtime::snapshot::Snapshot;

/// How often a door that drains looks whether its sessions have ended.
const DRAIN_LOOK: Duration = Duration::from_millis(100);

/// How long a door waits after an error of receiving that is none of one datagram's.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// Receives for as long as the worker does not drain and the door is not closed.
pub async fn serve(worker: Rc<Worker>, door: Rc<Door>) {
    let answering = match Answering::new(&door.socket) {
        Ok(answering) => Rc::new(answering),
        Err(error) => {
            tracing::error!(%error, "a datagram socket cannot be used");
            return;
        }
    };
    let reader =
        Reader { worker: Rc::clone(&worker), door: Rc::clone(&door), answering, table: Rc::default() };
    tokio::select! {
        () = reader.receive_all() => {}
        // The address is to be free at once, and without the socket nothing could be answered.
        () = door.closing() => reader.table.all().iter().for_each(|flow| flow.cut(Cut::ListenerRemoved)),
        () = worker.drain_started() => reader.drain().await,
    }
}

struct Reader {
    worker: Rc<Worker>,
    door: Rc<Door>,
    answering: Rc<Answering>,
    table: Rc<Table>,
}

/// The listener that datagrams come by, as the newest snapshot has it.
struct Now<'a> {
    snapshot: &'a Snapshot,
    listener: &'a Listener,
    place: usize,
    pool: &'a Pool,
    rules: SessionRules,
    at: Instant,
    /// Whether sessions may begin.
    admits: bool,
}

impl Reader {
    async fn receive_all(&self) {
        while self.turn(true).await.is_some() {}
    }

    /// Serves the sessions that there are until they have ended. Whoever has the socket too, or the process that takes it
    /// over, gets what comes from now on.
    async fn drain(&self) {
        if self.door.is_shared() {
            return;
        }
        while !self.table.is_empty() {
            tokio::select! {
                turn = self.turn(false) => if turn.is_none() { pending::<()>().await },
                () = sleep(DRAIN_LOOK) => {}
            }
        }
    }

    /// Takes one batch; nothing when no more will come.
    async fn turn(&self, admits: bool) -> Option<()> {
        let mut ready = self.door.socket.readable().await.ok()?;
        let place = self.door.listener();
        let snapshot = self.worker.snapshot_of(place)?;
        let listener = snapshot.listeners.get(place)?;
        let Protocol::Udp { pool, rules } = listener.protocol else { return None };
        let pool = snapshot.pools.get(pool)?;
        let now = Now { snapshot: &snapshot, listener, place, pool, rules, at: Instant::now(), admits };
        let mut begun = false;
        let each = |meta: &RecvMeta, bytes: &[u8]| begun |= self.take(&now, meta, bytes);
        let received = self.worker.datagrams.receive(ready.get_inner(), &self.answering.state, BATCH, each);
        match received {
            Ok(batches) if batches == BATCH => {}
            Ok(_) => ready.clear_ready(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
            Err(error) => {
                ready.clear_ready();
                listener.live.counters.of(self.worker.id).accept_errors.one();
                tracing::debug!(%error, "datagrams cannot be received");
                sleep(ERROR_PAUSE).await;
            }
        }
        if begun {
            // Sessions that begin have what has come for them sent on, before more comes.
            tokio::task::yield_now().await;
        }
        Some(())
    }

    /// Sends datagrams of one client on; whether a session began with them.
    fn take(&self, now: &Now<'_>, meta: &RecvMeta, bytes: &[u8]) -> bool {
        let counters = &now.listener.live.counters.of(self.worker.id).udp;
        counters.from_clients.add(count(meta));
        if meta.stride > now.rules.datagram_max {
            counters.dropped_oversized.add(count(meta));
            return false;
        }
        let key = Key { client: meta.addr, local: self.answering.local(meta) };
        if let Some(flow) = self.table.find(&key) {
            if self.goes_on(now, &flow) {
                flow.forward(&self.answering, counters, bytes, meta.stride, now.at);
                return false;
            }
            self.table.remove(&flow);
        }
        self.begin(now, key, meta, bytes)
    }

    /// Whether a session still takes datagrams: one whose endpoint must not be used any more ends here, if another one can
    /// be.
    fn goes_on(&self, now: &Now<'_>, flow: &Flow) -> bool {
        if flow.is_cut() {
            return false;
        }
        let Some(why) = flow.turned_away() else { return true };
        if !Order::new(&now.snapshot.pools, &now.pool.chain).is_usable() {
            return true;
        }
        flow.cut(why);
        false
    }

    fn begin(&self, now: &Now<'_>, key: Key, meta: &RecvMeta, bytes: &[u8]) -> bool {
        let (listener, datagrams) = (now.listener, count(meta));
        let counters = listener.live.counters.of(self.worker.id);
        if !now.admits {
            counters.udp.dropped_draining.add(datagrams);
            return false;
        }
        if self.worker.fleet.pressure.sheds(listener.importance) {
            counters.shed.add(datagrams);
            return false;
        }
        if !listener.admits(key.client.ip()) {
            counters.refused_address.add(datagrams);
            return false;
        }
        let source = match listener.max_connections_per_source {
            0 => None,
            limit => match listener.live.sources.try_enter(source_key(key.client.ip()), limit) {
                Some(source) => Some(source),
                None => {
                    counters.refused_source.add(datagrams);
                    return false;
                }
            },
        };
        let Some(place) = self.place(now) else {
            counters.udp.dropped_full.add(datagrams);
            return false;
        };
        counters.accepted.one();
        let waiting = split(bytes, meta.stride);
        let flow = Rc::new(Flow::new(&self.worker, key, place, now.rules.idle, waiting, now.at));
        self.table.insert(&flow);
        let session = Session {
            worker: Rc::clone(&self.worker),
            door: Rc::clone(&self.door),
            answering: Rc::clone(&self.answering),
            table: Rc::clone(&self.table),
            flow,
            listener: now.place,
            _source: source,
        };
        self.worker.fleet.joined(self.worker.id);
        self.worker.spawn(Box::pin(session::run(session)));
        true
    }

    /// A place under the ceilings: a free one, else that of a quiet session of this socket.
    fn place(&self, now: &Now<'_>) -> Option<ConnectionPlace> {
        let listener = now.listener;
        if self.worker.fleet.total() < now.snapshot.connections_max
            && let Some(place) = listener.live.try_enter(listener.max_connections)
        {
            return Some(place);
        }
        let quiet = self.table.quiet(now.at, || self.worker.random())?;
        let place = quiet.give_way()?;
        self.table.remove(&quiet);
        listener.live.counters.of(self.worker.id).udp.evicted.one();
        Some(place)
    }
}
