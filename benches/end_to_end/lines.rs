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

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Line {
    /// As `--only` names it.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) work: Work,
    pub(crate) exchange: Exchange,
    /// Goes through the TCP listener.
    pub(crate) relay: bool,
    pub(crate) splice: bool,
    targets: Targets,
}

/// What ours is to reach; design.md section 8.
#[derive(Debug)]
enum Targets {
    /// CPU time, as a share of HAProxy 3's, of HAProxy 2's and of nginx's; 0 is no target.
    Ratio { haproxy_3: f64, haproxy_2: f64, nginx: f64 },
    /// Bytes of memory per connection.
    Bytes(f64),
}

/// Idle HTTP connections, as far as descriptors allow.
const IDLE_HTTP: usize = 8000;
/// Idle TCP sessions; each has a connection at both ends.
const IDLE_TCP: usize = 2000;
/// Clients of the lines that measure CPU time.
const CLIENTS: usize = 64;

pub(crate) const LINES: &[Line] = &[
    Line {
        name: "small",
        title: "HTTP/1.1 keep-alive, 106 bytes",
        work: Work::Exchanges(CLIENTS),
        exchange: Exchange::Http { path: "/small" },
        relay: false,
        splice: false,
        targets: Targets::Ratio { haproxy_3: 0.60, haproxy_2: 0.65, nginx: 0.80 },
    },
    Line {
        name: "large",
        title: "HTTP/1.1 keep-alive, 1 MiB",
        work: Work::Exchanges(CLIENTS),
        exchange: Exchange::Http { path: "/large" },
        relay: false,
        splice: true,
        targets: Targets::Ratio { haproxy_3: 0.70, haproxy_2: 0.70, nginx: 0.0 },
    },
    Line {
        name: "connect",
        title: "HTTP/1.1, new connection per request",
        work: Work::Exchanges(CLIENTS),
        exchange: Exchange::HttpOnce { path: "/small" },
        relay: false,
        splice: false,
        targets: Targets::Ratio { haproxy_3: 0.85, haproxy_2: 0.85, nginx: 1.0 },
    },
    Line {
        name: "relay-small",
        title: "TCP relay, 64 bytes there and back",
        work: Work::Exchanges(CLIENTS),
        exchange: Exchange::Echo { bytes: 64 },
        relay: true,
        splice: true,
        targets: Targets::Ratio { haproxy_3: 0.95, haproxy_2: 0.95, nginx: 0.0 },
    },
    Line {
        name: "relay-large",
        title: "TCP relay, 1 MiB per response",
        work: Work::Exchanges(CLIENTS),
        exchange: Exchange::Http { path: "/large" },
        relay: true,
        splice: true,
        targets: Targets::Ratio { haproxy_3: 0.65, haproxy_2: 0.65, nginx: 0.0 },
    },
    Line {
        name: "udp",
        title: "UDP, a datagram of 64 bytes there and back",
        work: Work::Exchanges(CLIENTS),
        exchange: Exchange::Datagram { bytes: 64 },
        relay: true,
        splice: false,
        targets: Targets::Ratio { haproxy_3: 0.0, haproxy_2: 0.0, nginx: 1.0 },
    },
    Line {
        name: "idle-http",
        title: "idle keep-alive connections after a burst",
        work: Work::Idle(IDLE_HTTP),
        exchange: Exchange::Http { path: "/small" },
        relay: false,
        splice: false,
        targets: Targets::Bytes(1024.0),
    },
    Line {
        name: "idle-tcp",
        title: "idle tcp sessions after a burst",
        work: Work::Idle(IDLE_TCP),
        exchange: Exchange::Echo { bytes: 64 },
        relay: true,
        splice: true,
        targets: Targets::Bytes(1536.0),
    },
];

impl Line {
    /// The highest share of this peer's cost that ours may have; `None` where no target is set.
    pub(crate) fn ratio_target(&self, peer: &Peer) -> Option<f64> {
        let Targets::Ratio { haproxy_3, haproxy_2, nginx } = self.targets else { return None };
        let share = match peer.kind {
            Kind::Plimsoll => 0.0,
            Kind::Haproxy if peer.version.starts_with("2.") => haproxy_2,
            Kind::Haproxy => haproxy_3,
            Kind::Nginx => nginx,
            // A comparison only.
            Kind::Pingora => 0.0,
        };
        (share > 0.0).then_some(share)
    }

    /// The most bytes per connection that ours may take; `None` where no target is set.
    pub(crate) fn bytes_target(&self, peer: &Peer) -> Option<f64> {
        match self.targets {
            Targets::Bytes(bytes) if peer.kind == Kind::Plimsoll => Some(bytes),
            _ => None,
        }
    }
}
