//! Idle upstream connections of one worker, keyed by endpoint and by what was agreed on the connection.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::dial::SentFrom;
use crate::proxy::stream::Stream;
use crate::runtime::counters::WorkerId;
use crate::runtime::endpoint::{Endpoint, EndpointLive};
use crate::runtime::pick::Place;
use crate::runtime::pool::{Pool, PoolLive};

/// A request that may not be repeated only uses a connection that was used this recently. No setting: part of the promise that
/// nothing is sent twice, and what it costs is one connect.
pub const FRESH: Duration = Duration::from_secs(1);

/// What connections of one endpoint are kept apart by: a request never goes over a connection with another identity.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// What is spoken.
    pub protocol: Protocol,
    /// What it comes from, where that is written.
    pub source: Option<SentFrom>,
    /// TLS on it.
    pub tls: Option<TlsIdentity>,
    /// The PROXY header that it began with: it is for that client alone, and for what was known of it then.
    pub header: Option<Rc<Vec<u8>>>,
}

/// What connections under TLS are kept apart by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsIdentity {
    /// Whom we trust and as whom we appear: the number of the pool's TLS.
    pub number: u64,
    /// The name that the endpoint has proved, where each request has its own.
    pub name: Option<Rc<str>>,
}

impl Identity {
    /// What the connections of a pool are kept apart by, for a request to `host`, where they begin with `header` and come
    /// from `source`.
    #[must_use]
    pub fn of(
        pool: &Pool,
        protocol: Protocol,
        host: Option<&Rc<str>>,
        header: Option<Rc<Vec<u8>>>,
        source: Option<SentFrom>,
    ) -> Self {
        let tls = pool.tls.as_ref().map(|tls| TlsIdentity {
            number: tls.number(),
            name: host.filter(|_| tls.follows_host()).map(Rc::clone),
        });
        Self { protocol, source, tls, header }
    }

    /// Whether a connection with it may still be used: a reload may have given the pool another TLS.
    #[must_use]
    pub fn is_current(&self, pool: &PoolLive) -> bool {
        self.tls.as_ref().map_or(0, |tls| tls.number) == pool.tls()
    }
}

/// Protocol of an upstream connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2.
    Http2,
}

#[derive(Debug)]
struct Idle {
    stream: Stream,
    identity: Rc<Identity>,
    since: Instant,
    until: Instant,
}

#[derive(Debug, Default)]
struct Shelf {
    // Held by the shelf while it has connections, so that the slot is not given to another endpoint meanwhile.
    endpoint: Option<Arc<EndpointLive>>,
    idle: Vec<Idle>,
}

/// Idle connections of one worker.
#[derive(Debug, Default)]
pub struct IdleConnections(RefCell<Vec<Shelf>>);

impl IdleConnections {
    /// Takes the connection that was used last and still looks open, with the identity that it is put back by. With
    /// `fresh_only` one that was idle for [`FRESH`] or more is left alone, and the socket itself is asked whether it has
    /// been closed.
    pub fn take(
        &self,
        worker: WorkerId,
        endpoint: &Endpoint,
        identity: &Identity,
        fresh_only: bool,
    ) -> Option<(Stream, Rc<Identity>)> {
        let mut shelves = self.0.borrow_mut();
        let shelf = shelves.get_mut(endpoint.live.slot() as usize)?;
        let counters = endpoint.live.counters.of(worker);
        let now = Instant::now();
        while let Some(at) = shelf.idle.iter().rposition(|idle| *idle.identity == *identity) {
            if fresh_only && now.saturating_duration_since(shelf.idle[at].since) >= FRESH {
                return None;
            }
            let idle = shelf.idle.remove(at);
            counters.idle.sub(1);
            if shelf.idle.is_empty() {
                shelf.endpoint = None;
            }
            if idle.until <= now {
                continue;
            }
            if is_open(&idle.stream, fresh_only) {
                return Some((idle.stream, idle.identity));
            }
            counters.stale.one();
        }
        None
    }

    /// Keeps the connection of `place` for at most `keep`.
    pub fn put(
        &self,
        worker: WorkerId,
        place: &Place<'_>,
        identity: Rc<Identity>,
        stream: Stream,
        keep: Duration,
    ) {
        let (endpoint, most) = (place.endpoint, place.pool.limits.idle_connections);
        if keep.is_zero() || most == 0 || endpoint.live.is_retired() || !identity.is_current(&place.pool.live)
        {
            return;
        }
        let mut shelves = self.0.borrow_mut();
        let slot = endpoint.live.slot() as usize;
        if shelves.len() <= slot {
            shelves.resize_with(slot + 1, Shelf::default);
        }
        let counters = endpoint.live.counters.of(worker);
        let shelf = &mut shelves[slot];
        if shelf.endpoint.is_none() {
            shelf.endpoint = Some(Arc::clone(&endpoint.live));
        }
        // As many as there are too many: a reload may have lowered the ceiling.
        let too_many = (shelf.idle.len() + 1).saturating_sub(most);
        if too_many > 0 {
            shelf.idle.drain(..too_many);
            counters.idle.sub(too_many as u64);
            place.pool.live.counters.of(worker).idle_exceeded.add(too_many as u64);
        }
        let now = Instant::now();
        shelf.idle.push(Idle { stream, identity, since: now, until: now + keep });
        counters.idle.one();
    }

    /// Closes what has been idle for too long or has been closed by the endpoint.
    pub fn sweep(&self, worker: WorkerId, now: Instant) {
        for shelf in self.0.borrow_mut().iter_mut() {
            shelf.retain(worker, |idle| idle.until > now && is_open(&idle.stream, false));
        }
    }

    /// Closes all connections to the endpoints with these slots.
    pub fn purge(&self, worker: WorkerId, slots: &[u32]) {
        let mut shelves = self.0.borrow_mut();
        for &slot in slots {
            if let Some(shelf) = shelves.get_mut(slot as usize) {
                shelf.retain(worker, |_| false);
            }
        }
    }

    /// Closes all connections.
    pub fn clear(&self, worker: WorkerId) {
        for shelf in self.0.borrow_mut().iter_mut() {
            shelf.retain(worker, |_| false);
        }
    }
}

impl Shelf {
    fn retain(&mut self, worker: WorkerId, keep: impl Fn(&Idle) -> bool) {
        if self.idle.is_empty() {
            return;
        }
        let before = self.idle.len();
        self.idle.retain(keep);
        if let Some(endpoint) = &self.endpoint {
            endpoint.counters.of(worker).idle.sub((before - self.idle.len()) as u64);
        }
        if self.idle.is_empty() {
            self.endpoint = None;
        }
    }
}

/// An idle connection on which something has arrived (an end, a reset, bytes nobody asked for) is of no use. The
/// runtime has usually been told of it already, which costs nothing to look up; `ask` asks the socket itself.
fn is_open(stream: &Stream, ask: bool) -> bool {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    if !ask && stream.poll_read_ready(&mut cx).is_pending() {
        return true;
    }
    stream.is_quiet()
}
