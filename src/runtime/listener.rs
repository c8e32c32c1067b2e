//! A listener as one snapshot has it, and its live state: connections now, and what was counted.

use std::net::IpAddr;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::Notify;

use super::counters::{Counter, PerWorker, Statuses};
use super::gate::Pages;
use super::limits::{ClientLimits, Flood};
use super::sources::Sources;
use super::tls::handshake::{HandshakeCounters, Handshakes};
use super::tls::listener::ListenerTls;
use crate::model::address::Address;
use crate::model::forwarded::Family;
use crate::model::name::ListenerName;
use crate::policy::admission::overload::Importance;
use crate::policy::identity::Identity;
use crate::route::SniTable;

/// A listener of one snapshot.
#[derive(Debug)]
pub struct Listener {
    /// Its name.
    pub name: ListenerName,
    /// Bound addresses.
    pub bind: Vec<Address>,
    /// The mode of its unix sockets.
    pub unix_mode: u32,
    /// What is spoken, and where it goes.
    pub protocol: Protocol,
    /// Whom it believes who the client is; of PROXY headers its networks alone count.
    pub identity: Identity,
    /// In which fields endpoints are told of the client.
    pub forwarded: Family,
    /// Bytes of the PROXY header with which connections of those networks begin; nothing where they have none.
    pub proxy_header_max: Option<usize>,
    /// Networks that may connect; empty is all.
    pub allow: Vec<IpNet>,
    /// Networks that may not.
    pub deny: Vec<IpNet>,
    /// Pages in the place of errors.
    pub pages: Pages,
    /// Bind an address that is not yet here.
    pub freebind: bool,
    /// How much its traffic is worth when the process is overloaded.
    pub importance: Importance,
    /// HTTP/2 in the clear by prior knowledge.
    pub h2c: bool,
    /// Connections at once.
    pub max_connections: usize,
    /// Connections at once of one source; 0 is no limit.
    pub max_connections_per_source: usize,
    /// Bytes of a request head.
    pub head_max: usize,
    /// Fields of a request head or trailer section.
    pub fields_max: usize,
    /// Bytes of a request target.
    pub target_max: usize,
    /// What else a client may do.
    pub limits: ClientLimits,
    /// Bytes that a connection may bring in a second, and that it may be sent.
    pub bandwidth: [Option<u64>; 2],
    /// TLS handshakes at once.
    pub handshakes_max: usize,
    /// Connections that wait to be accepted, for each worker.
    pub backlog: u16,
    /// TLS; nothing is none.
    pub tls: Option<Arc<ListenerTls>>,
    /// Times.
    pub timeouts: Timeouts,
    /// What happens to it.
    pub live: Arc<ListenerLive>,
}

/// Times of a listener.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// What comes before the first byte of a protocol: a PROXY header, a ClientHello, a TLS handshake.
    pub tls_handshake: Duration,
    /// A whole request head.
    pub request_header: Duration,
    /// Idle between requests.
    pub keep_alive: Duration,
    /// No progress while a body moves.
    pub client_idle: Duration,
    /// First keepalive probe.
    pub tcp_keepalive: Duration,
    /// Unacknowledged data.
    pub tcp_user_timeout: Duration,
}

/// What a listener does with its bytes.
#[derive(Debug)]
pub enum Protocol {
    /// HTTP by routes; the table's results are indexes into `routes`.
    Http {
        /// The compiled conditions.
        table: Box<crate::route::Table>,
        /// Indexes into the snapshot's routes, in the table's order.
        routes: Vec<usize>,
    },
    /// Bytes to a pool, by its index in the snapshot.
    Tcp {
        /// The pool; nothing resets whom no name leads to another one.
        pool: Option<usize>,
        /// Where names lead; nothing where nobody looks for one.
        sni: Option<Box<SniRoutes>>,
        /// What new connections get while nothing is usable.
        when_empty: WhenEmpty,
    },
    /// Datagrams to one pool, by its index in the snapshot.
    Udp {
        /// The pool.
        pool: usize,
        /// What its sessions may do.
        rules: SessionRules,
    },
}

/// How datagrams travel to a bound address: two listeners may have the same one, each by another way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Connections that are accepted.
    Tcp,
    /// Datagrams.
    Udp,
}

/// What a udp session may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionRules {
    /// How long it lasts without a datagram either way.
    pub idle: Duration,
    /// Bytes of a datagram.
    pub datagram_max: usize,
    /// Datagrams of the endpoint after which it ends.
    pub answers: Option<NonZero<u32>>,
}

/// Where TLS clients of a tcp listener come to, by the names that they ask for.
#[derive(Debug)]
pub struct SniRoutes {
    /// The names. Empty where only a `hash_key` goes by them.
    pub table: SniTable<SniTarget>,
    /// Bytes of a ClientHello.
    pub hello_max: usize,
}

/// Where a name leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SniTarget {
    /// The route, by its index in the snapshot.
    pub route: usize,
    /// The pool, by its index in the snapshot.
    pub pool: usize,
    /// Whether TLS goes through to the endpoint.
    pub passthrough: bool,
}

/// What new tcp connections get while no endpoint of the pool and its failover pools is usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenEmpty {
    /// They are reset.
    Reset,
    /// They wait for one.
    Hold {
        /// For so long, then they are reset.
        time: Duration,
        /// So many at once; the others are reset.
        max: u32,
    },
    /// None is accepted: after 3 s without any the listening socket closes.
    StopListening,
}

impl Listener {
    /// Whether HTTP is spoken on it.
    #[must_use]
    pub const fn is_http(&self) -> bool {
        matches!(self.protocol, Protocol::Http { .. })
    }

    /// What is bound for it.
    #[must_use]
    pub const fn transport(&self) -> Transport {
        match self.protocol {
            Protocol::Http { .. } | Protocol::Tcp { .. } => Transport::Tcp,
            Protocol::Udp { .. } => Transport::Udp,
        }
    }

    /// The pools that it leads to, whatever clients ask for: none of an http listener, whose routes choose.
    pub fn pools(&self) -> impl Iterator<Item = usize> {
        let (own, sni) = match &self.protocol {
            Protocol::Http { .. } => (None, None),
            Protocol::Tcp { pool, sni, .. } => (*pool, sni.as_deref()),
            Protocol::Udp { pool, .. } => (Some(*pool), None),
        };
        own.into_iter().chain(sni.into_iter().flat_map(|sni| sni.table.targets().map(|target| target.pool)))
    }

    /// Whether connections of `peer` begin with a PROXY header.
    #[must_use]
    pub fn is_introduced(&self, peer: IpAddr) -> bool {
        self.proxy_header_max.is_some() && self.identity.trusts(peer)
    }

    /// Whether a connection from `source` is let in.
    #[must_use]
    pub fn admits(&self, source: IpAddr) -> bool {
        let source = source.to_canonical();
        if self.deny.iter().any(|n| n.contains(&source)) {
            return false;
        }
        self.allow.is_empty() || self.allow.iter().any(|n| n.contains(&source))
    }

    /// Whether what requests from `peer` say of the client is believed.
    #[must_use]
    pub fn believes(&self, peer: IpAddr) -> bool {
        self.identity.believes(peer)
    }
}

/// Counters of one listener; a worker writes only its own block.
#[derive(Debug, Default)]
pub struct ListenerCounters {
    /// Connections accepted.
    pub accepted: Counter,
    /// Connections closed at once: not allowed, or denied.
    pub refused_address: Counter,
    /// Connections closed at once: too many of this source.
    pub refused_source: Counter,
    /// Requests, connections and sessions turned away because the process was overloaded.
    pub shed: Counter,
    /// Connections of trusted peers without a PROXY header, or with a malformed one.
    pub proxy_header_refused: Counter,
    /// PROXY headers over their limit.
    pub proxy_header_exceeded: Counter,
    /// Connections on which what comes before a protocol did not come in time.
    pub greeting_timeouts: Counter,
    /// ClientHellos over their limit.
    pub client_hello_exceeded: Counter,
    /// ClientHellos that break the rules.
    pub client_hello_refused: Counter,
    /// Connections whose name leads nowhere, and those without one or without TLS where there is no pool for them.
    pub unknown_names: Counter,
    /// Times that accepting paused at `max_connections`.
    pub paused: Counter,
    /// Errors of accept itself.
    pub accept_errors: Counter,
    /// Requests refused for a head or a trailer section over its size (431).
    pub head_too_large: Counter,
    /// Requests refused for too many fields in a head or a trailer section (431).
    pub fields_exceeded: Counter,
    /// Requests refused for a target over its limit (414).
    pub target_too_long: Counter,
    /// Requests refused for a body over the limit of their route (413).
    pub body_too_large: Counter,
    /// Requests of clients that their route does not let in (403).
    pub requests_denied: Counter,
    /// Requests refused because they were no valid HTTP (400 and its kin).
    pub bad_requests: Counter,
    /// Requests whose head did not arrive in time (408).
    pub head_timeouts: Counter,
    /// Connections closed because a body stood still on the client's side.
    pub client_idle_timeouts: Counter,
    /// Requests refused for too many bytes of chunk extensions (400).
    pub extensions_exceeded: Counter,
    /// Connections whose client had not ended its side when reading after the last answer stopped.
    pub linger_exceeded: Counter,
    /// Connections of HTTP/2 that did too much of something, by [`Flood`]; of streams, those refused.
    pub floods: [Counter; Flood::ALL.len()],
    /// Times that a connection had to wait because it brought more than its bandwidth.
    pub bandwidth_in: Counter,
    /// Times that a connection had to wait because it was sent more than its bandwidth.
    pub bandwidth_out: Counter,
    /// Connections that were reset because as many are held already as may be while nothing is usable.
    pub hold_full: Counter,
    /// Idle connections closed after `keep_alive`.
    pub keep_alive_timeouts: Counter,
    /// Requests that no route took (404).
    pub no_route: Counter,
    /// Requests answered by a route itself.
    pub answered_here: Counter,
    /// Connections that ended by a panic of ours.
    pub panics: Counter,
    /// What happens to datagrams.
    pub udp: DatagramCounters,
    /// TLS handshakes.
    pub tls: HandshakeCounters,
    /// Requests and connections that ended.
    pub ended: Statuses,
    /// Bytes received from clients.
    pub bytes_in: Counter,
    /// Bytes sent to clients.
    pub bytes_out: Counter,
}

/// Counters of a udp listener.
#[derive(Debug, Default)]
pub struct DatagramCounters {
    /// Datagrams from clients.
    pub from_clients: Counter,
    /// Datagrams to clients.
    pub to_clients: Counter,
    /// Sessions that gave way to newcomers at the ceiling.
    pub evicted: Counter,
    /// Dropped: no session is quiet enough to give way at the ceiling.
    pub dropped_full: Counter,
    /// Dropped: longer than `udp_datagram`.
    pub dropped_oversized: Counter,
    /// Dropped: its session has as many that wait for its endpoint as it may.
    pub dropped_waiting: Counter,
    /// Dropped: the process drains, and takes no new session.
    pub dropped_draining: Counter,
    /// Dropped: the kernel did not take it.
    pub dropped_unsent: Counter,
    /// Dropped: of what the endpoint's refusal has left over no endpoint took it.
    pub dropped_refused: Counter,
}

/// A connection that is held while nothing is usable; given back when dropped.
#[derive(Debug)]
pub struct Held<'a>(&'a ListenerLive);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Live state of a listener, keyed by its name.
#[derive(Debug)]
pub struct ListenerLive {
    connections: AtomicUsize,
    // Acceptors that wait for room; a release notifies only when there are some.
    paused: AtomicUsize,
    held: AtomicUsize,
    room: Notify,
    /// TLS handshakes that go on.
    pub handshakes: Handshakes,
    /// Connections by source, counted only where a ceiling is set.
    pub sources: Sources,
    /// Counters, per worker.
    pub counters: PerWorker<ListenerCounters>,
}

impl ListenerLive {
    /// Live state without history.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self {
            connections: AtomicUsize::new(0),
            paused: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            room: Notify::new(),
            handshakes: Handshakes::default(),
            sources: Sources::default(),
            counters: PerWorker::new(workers),
        }
    }

    /// Connections now, over all workers.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Takes one place under `limit`, or nothing; [`ListenerLive::enter`] waits for one.
    #[must_use]
    pub fn try_enter(self: &Arc<Self>, limit: usize) -> Option<ConnectionPlace> {
        let taken = self
            .connections
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |now| (now < limit).then_some(now + 1));
        taken.ok().map(|_| ConnectionPlace { live: Arc::clone(self) })
    }

    /// Takes one of so many places in which connections are held while nothing is usable.
    #[must_use]
    pub fn try_hold(&self, max: u32) -> Option<Held<'_>> {
        let taken = self
            .held
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |now| (now < max as usize).then_some(now + 1));
        taken.ok().map(|_| Held(self))
    }

    /// Waits for a place under `limit`.
    pub async fn enter(self: &Arc<Self>, limit: usize) -> ConnectionPlace {
        let _paused = Paused::new(&self.paused);
        loop {
            let mut room = std::pin::pin!(self.room.notified());
            // Enabled before the look, so that a release between look and wait is not missed.
            room.as_mut().enable();
            if let Some(place) = self.try_enter(limit) {
                return place;
            }
            room.await;
        }
    }

    /// Wakes whoever waits for room, as when descriptors have become free elsewhere.
    pub fn wake(&self) {
        if self.paused.load(Ordering::SeqCst) > 0 {
            self.room.notify_waiters();
        }
    }
}

struct Paused<'a>(&'a AtomicUsize);

impl<'a> Paused<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A connection's place under the listener's ceiling; any release wakes whoever waits for room.
#[derive(Debug)]
pub struct ConnectionPlace {
    live: Arc<ListenerLive>,
}

impl ConnectionPlace {
    /// The listener that it is a place of.
    #[must_use]
    pub fn listener(&self) -> &ListenerLive {
        &self.live
    }
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        self.live.connections.fetch_sub(1, Ordering::SeqCst);
        self.live.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn any_release_wakes_whoever_waits_for_room() {
        let live = Arc::new(ListenerLive::new(1));
        let first = live.try_enter(1);
        assert!(first.is_some());
        assert!(live.try_enter(1).is_none());
        let waiting = tokio::spawn({
            let live = Arc::clone(&live);
            async move { drop(live.enter(1).await) }
        });
        tokio::task::yield_now().await;
        drop(first);
        assert!(waiting.await.is_ok());
        assert_eq!(live.connections(), 0);
    }
}
