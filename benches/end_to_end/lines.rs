//! The lines of the table: what each one asks of a proxy, and what ours is to reach against whom.

use crate::load::Exchange;
use crate::peers::{Kind, Peer};

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Work {
    /// CPU time per exchange of so many clients in a closed loop.
    Exchanges(usize),
    /// Memory per client, so many of them, silent after one exchange each.
    Idle(usize),
}

/// The listener that the clients of a line speak to; each proxy has only this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Front {
    /// HTTP/1.1 in the clear.
    Http,
    /// The same, where each request is held to a rate, two fields of it are edited, and its client is bound by a cookie.
    Toolbox,
    /// A relay of bytes.
    Tcp,
    /// HTTP/2 and HTTP/1.1 over TLS 1.3.
    Tls,
    /// HTTP/2 in the clear by prior knowledge, to an origin that speaks it, too.
    H2c,
    /// Datagrams.
    Udp,
}

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Line {
    /// As `--only` names it.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) work: Work,
    pub(crate) exchange: Exchange,
    pub(crate) front: Front,
    pub(crate) splice: bool,
    targets: Targets,
}

/// What ours is to reach; design.md section 8.
#[derive(Debug)]
enum Targets {
    /// CPU time, as a share of HAProxy 3's, of HAProxy 2's and of nginx's; 0 is no target.
    Ratio { haproxy_3: f64, haproxy_2: f64, nginx: f64 },
    /// CPU microseconds beyond what the same takes without any of it.
    Beyond(f64),
    /// Bytes of memory per connection.
    Bytes(f64),
}

impl Targets {
    const NONE: Self = Self::Ratio { haproxy_3: 0.0, haproxy_2: 0.0, nginx: 0.0 };
}

/// Idle HTTP connections, as far as descriptors allow.
const IDLE_HTTP: usize = 8000;
/// Idle TCP sessions; each has a connection at both ends.
const IDLE_TCP: usize = 2000;
/// Clients of the lines that measure CPU time.
const CLIENTS: usize = 64;
/// Clients of the lines over HTTP/2: 100 on each of 8 connections.
const STREAMS: usize = 800;

pub(crate) const LINES: &[Line] = &[
    Line {
        name: "small",
        title: "HTTP/1.1 keep-alive, 106 bytes",
        work: Work::Exchanges(CLIENTS),
        exchange: Exchange::Http { path: "/small" },
        front: Front::Http,
        splice: false,
        targets: Targets::Ratio { haproxy_3: 0.60, haproxy_2: 0.65, nginx: 0.80 },
    },
    Line {
        name: "large",
        title: "HTTP/1.1 keep-alive, 1 MiB",
        work: Work::Exchanges(CLIENTS),
        exchange: Exchange::Http { path: "/large" },
        front: Front::Http,
        splice: true,
        targets: Targets::Ratio { haproxy_3: 0.70, haproxy_2: 0.70, nginx: 0.0 },
    },
    Line {
        name: "connect",
        title: "HTTP/1.1, new connection per request",
        work: Work::Exchanges(CLIENTS),
        exchange: Exchange::HttpOnce { path: "/small" },
        front: Front::Http,
        splice: false,
        targets: Targets::Ratio { haproxy_3: 0.85, haproxy_2: 0.85, nginx: 1.0 },
    },
    Line {
        name: "toolbox",
        title: "HTTP/1.1 keep-alive, 106 bytes, sticky cookie, rate limit and two edits",
        work: Work::Exchanges(CLIENTS),
        exchange: Exchange::Http { path: "/small" },
        front: Front::Toolbox,
        splice: false,
        targets: Targets::Beyond(1.5),
    },
    Line {
        name: "relay-small",
        title: "TCP relay, 64 bytes there and back",
        work: Work::Exchanges(CLIENTS),
        exchange: Exchange::Echo { bytes: 64 },
        front: Front::Tcp,
        splice: true,
        targets: Targets::Ratio { haproxy_3: 0.95, haproxy_2: 0.95, nginx: 0.0 },
    },
    Line {
        name: "relay-large",
        title: "TCP relay, 1 MiB per response",
        work: Work::Exchanges(CLIENTS),
        exchange: Exchange::Http { path: "/large" },
        front: Front::Tcp,
        splice: true,
        targets: Targets::Ratio { haproxy_3: 0.65, haproxy_2: 0.65, nginx: 0.0 },
    },
    Line {
        name: "tls-small",
        title: "HTTP/1.1 over TLS 1.3, keep-alive, 106 bytes",
        work: Work::Exchanges(CLIENTS),
        exchange: Exchange::Http { path: "/small" },
        front: Front::Tls,
        splice: false,
        targets: Targets::Ratio { haproxy_3: 0.55, haproxy_2: 0.55, nginx: 0.60 },
    },
    Line {
        name: "tls-large",
        title: "HTTP/1.1 over TLS 1.3, keep-alive, 1 MiB",
        work: Work::Exchanges(CLIENTS),
        exchange: Exchange::Http { path: "/large" },
        front: Front::Tls,
        splice: false,
        targets: Targets::NONE,
    },
    Line {
        name: "tls-connect",
        title: "HTTP/1.1 over TLS 1.3, full P-256 handshake per request",
        work: Work::Exchanges(CLIENTS),
        exchange: Exchange::HttpOnce { path: "/small" },
        front: Front::Tls,
        splice: false,
        targets: Targets::Ratio { haproxy_3: 0.40, haproxy_2: 0.40, nginx: 0.55 },
    },
    Line {
        name: "h2-small",
        title: "HTTP/2 over TLS 1.3, 8 connections, 106 bytes",
        work: Work::Exchanges(STREAMS),
        exchange: Exchange::Http2 { path: "/small" },
        front: Front::Tls,
        splice: false,
        targets: Targets::Ratio { haproxy_3: 0.50, haproxy_2: 0.50, nginx: 0.0 },
    },
    Line {
        name: "grpc",
        title: "unary gRPC over HTTP/2 in the clear, 8 connections, 64 bytes",
        work: Work::Exchanges(STREAMS),
        exchange: Exchange::Grpc { bytes: 64 },
        front: Front::H2c,
        splice: false,
        targets: Targets::NONE,
    },
    Line {
        name: "udp-echo",
        title: "UDP, a datagram of 64 bytes there and back",
        work: Work::Exchanges(CLIENTS),
        exchange: Exchange::Echo { bytes: 64 },
        front: Front::Udp,
        splice: false,
        targets: Targets::NONE,
    },
    Line {
        name: "idle-http",
        title: "idle keep-alive connections after a burst",
        work: Work::Idle(IDLE_HTTP),
        exchange: Exchange::Http { path: "/small" },
        front: Front::Http,
        splice: false,
        targets: Targets::Bytes(1024.0),
    },
    Line {
        name: "idle-tcp",
        title: "idle tcp sessions after a burst",
        work: Work::Idle(IDLE_TCP),
        exchange: Exchange::Echo { bytes: 64 },
        front: Front::Tcp,
        splice: true,
        targets: Targets::Bytes(1536.0),
    },
];

impl Line {
    /// The highest share of this peer's cost that ours may have; `None` where no target is set.
    pub(crate) fn ratio_target(&self, peer: &Peer) -> Option<f64> {
        let Targets::Ratio { haproxy_3, haproxy_2, nginx } = self.targets else { return None };
        let share = match peer.kind {
            Kind::Plimsoll | Kind::Bare => 0.0,
            Kind::Haproxy if peer.version.starts_with("2.") => haproxy_2,
            Kind::Haproxy => haproxy_3,
            Kind::Nginx => nginx,
            // A comparison only.
            Kind::Pingora => 0.0,
        };
        (share > 0.0).then_some(share)
    }

    /// The most CPU microseconds that ours may take beyond this peer's; `None` where no target is set.
    pub(crate) fn beyond_target(&self, peer: &Peer) -> Option<f64> {
        match self.targets {
            Targets::Beyond(micros) if peer.kind == Kind::Bare => Some(micros),
            _ => None,
        }
    }

    /// The most bytes per connection that ours may take; `None` where no target is set.
    pub(crate) fn bytes_target(&self, peer: &Peer) -> Option<f64> {
        match self.targets {
            Targets::Bytes(bytes) if peer.kind == Kind::Plimsoll => Some(bytes),
            _ => None,
        }
    }
}
