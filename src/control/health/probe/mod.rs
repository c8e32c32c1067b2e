//! One probe of one endpoint: asks once, under one time limit, and says what it came to and on what evidence.
//!
//! A file per protocol holds its wire format as a pure function over bytes and the conversation around it; `wire` is
//! what they talk through. Who is probed when, and what follows from it, is for others.

pub mod agent;
pub mod exec;
pub mod expect;
pub mod grpc;
pub mod http;
mod http2;
pub mod mysql;
pub mod outcome;
pub mod postgres;
pub mod redis;
pub mod tcp;
mod tls;
pub mod udp;
mod wire;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use crate::control::tls::TlsClient;
use crate::model::address::Address;
use crate::model::proxy_protocol::Version;
use crate::policy::health::Verdict;
use crate::policy::health::guard::is_void;
use crate::proxy::upstream::dial::is_ours;

use expect::Expect;
use outcome::{Evidence, Outcome, Reading};
use wire::{Close, Notes, Parting};

/// How often a running probe looks whether our own loop turns.
const TICK: Duration = Duration::from_millis(100);

/// What is asked, where, and for how long. Probes that are equal ask the same thing, so that one can stand for all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Probe {
    /// What is asked.
    pub check: Check,
    /// Where: the endpoint's address, with the port of its health check.
    pub address: Address,
    /// What its connections come from; nothing leaves it to the system.
    pub source: Option<IpAddr>,
    /// What it is called, where it was resolved from a name: TLS asks for it unless it asks for another.
    pub host: Option<Arc<str>>,
    /// The PROXY header that its connections begin with, which says that they are our own; nothing is none.
    pub header: Option<Version>,
    /// Limit over connect, TLS and answer together.
    pub timeout: Duration,
}

/// The protocols that a probe speaks. Where TLS is possible, a client for it makes the probe use it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Check {
    /// A request over HTTP/1.1, judged by status and body.
    Http(Box<http::Http>),
    /// A connection, with bytes to send and to expect where given.
    Tcp {
        /// Sent first.
        send: Option<Vec<u8>>,
        /// What the answer must contain.
        expect: Option<Expect>,
        /// Over TLS.
        tls: Option<Arc<TlsClient>>,
    },
    /// A datagram, with an answer to expect where given.
    Udp {
        /// Sent.
        send: Vec<u8>,
        /// What the answer must contain; nothing takes silence for a yes.
        expect: Option<Expect>,
    },
    /// A complete TLS handshake.
    Tls(Arc<TlsClient>),
    /// `grpc.health.v1.Health/Check` over HTTP/2.
    Grpc {
        /// The service that is asked for; empty asks for the server as a whole.
        service: String,
        /// The authority; nothing is the address.
        host: Option<String>,
        /// Over TLS, with ALPN `h2`.
        tls: Option<Arc<TlsClient>>,
    },
    /// A PostgreSQL start-up, up to the request for authentication.
    Postgres {
        /// The user in the start-up message; no password is ever sent.
        user: String,
        /// By an SSLRequest.
        tls: Option<Arc<TlsClient>>,
    },
    /// A MySQL or MariaDB handshake.
    Mysql {
        /// Log in as this user, without a password; nothing only reads the greeting, which the server counts as an
        /// aborted connection.
        user: Option<String>,
        /// By an SSLRequest.
        tls: Option<Arc<TlsClient>>,
    },
    /// Redis: `PING`, or `ROLE` where only a primary will do.
    Redis {
        /// A replica is a "no".
        primary: bool,
        /// Over TLS.
        tls: Option<Arc<TlsClient>>,
    },
    /// HAProxy's agent, a line of text from a program beside the endpoint.
    Agent {
        /// Where the agent listens, on the endpoint's host.
        port: u16,
        /// Sent first.
        send: Option<Vec<u8>>,
    },
    /// A program of the operator.
    Exec(exec::Exec),
}

/// Makes the probe. Never fails: what goes wrong is part of the outcome. Dropping the future ends the probe at once, its
/// connection and its program included.
pub async fn run(probe: &Probe) -> Outcome {
    let notes = Notes::start(probe.source, probe.header, probe.host.clone());
    let (asked, lateness) = timed(probe.timeout, ask(probe, &notes)).await;
    let total = notes.elapsed();
    let (mut reading, parting) = match asked {
        Some(Ok((reading, parting))) => (reading, parting),
        Some(Err(reading)) => (reading, None),
        None => (Reading::broken(notes.timed_out()), None),
    };
    // An agent only advises: one that cannot be asked leaves its endpoint as it is.
    if matches!(probe.check, Check::Agent { .. }) && reading.verdict == Verdict::CannotBeAsked {
        reading.verdict = Verdict::Void;
    }
    let own_address_gone = reading.verdict != Verdict::Good
        && !matches!(probe.check, Check::Exec(_))
        && !notes.is_connected()
        && has_no_way_to(probe.address, probe.source);
    if is_void(lateness) {
        reading.verdict = Verdict::Void;
        reading.what = format!("our own timer ran {} ms late; {}", lateness.as_millis(), reading.what);
    }
    let (phases, bytes) = notes.evidence(total);
    if let Some(parting) = parting {
        parting.say(probe.timeout.saturating_sub(total)).await;
    }
    let Reading { verdict, what, rank, agent } = reading;
    let evidence = Evidence { what, phases, bytes, lateness, own_address_gone };
    Outcome { verdict, rank, agent: agent.map(|words| *words), evidence }
}

/// Whether a port accepts a connection, from `source` where there is one, within `limit`; nothing when we cannot know, because our own loop was late, our
/// own address has gone, or we lack descriptors, ports or memory.
pub async fn port_accepts(address: Address, source: Option<IpAddr>, limit: Duration) -> Option<bool> {
    let notes = Notes::start(source, None, None);
    let (connected, lateness) = timed(limit, wire::connect(address, Close::Reset, &notes)).await;
    match connected {
        Some(Ok(_)) => Some(true),
        Some(Err(reading)) if reading.verdict == Verdict::Void => None,
        _ if is_void(lateness) || has_no_way_to(address, source) => None,
        _ => Some(false),
    }
}

async fn ask(probe: &Probe, notes: &Notes) -> Asked<(Reading, Option<Parting>)> {
    let address = probe.address;
    let alone = |reading| (reading, None);
    match &probe.check {
        Check::Http(check) => http::ask(check, address, notes).await,
        Check::Tcp { send, expect, tls } => {
            tcp::ask(send.as_deref(), expect.as_ref(), tls.as_deref(), address, notes).await.map(alone)
        }
        Check::Udp { send, expect } => {
            let Address::Ip(address) = address else {
                return Err(Reading::broken("a unix socket takes no datagrams"));
            };
            udp::ask(send, expect.as_ref(), address, probe.timeout, notes).await.map(alone)
        }
        Check::Tls(tls) => tls::ask(tls, address, probe.timeout, notes).await.map(alone),
        Check::Grpc { service, host, tls } => {
            let call = grpc::Call { service, host: host.as_deref(), timeout: probe.timeout };
            grpc::ask(&call, tls.as_deref(), address, notes).await.map(alone)
        }
        Check::Postgres { user, tls } => postgres::ask(user, tls.as_deref(), address, notes).await,
        Check::Mysql { user, tls } => mysql::ask(user.as_deref(), tls.as_deref(), address, notes).await,
        Check::Redis { primary, tls } => {
            redis::ask(*primary, tls.as_deref(), address, notes).await.map(alone)
        }
        Check::Agent { port, send } => {
            let beside = address.ip().map_or_else(|| Ipv4Addr::LOCALHOST.into(), |address| address.ip());
            let agent = SocketAddr::new(beside, *port).into();
            agent::ask(send.as_deref(), agent, notes).await.map(alone)
        }
        Check::Exec(exec) => exec::ask(exec, address, notes).await.map(alone),
    }
}

/// What a step of a probe came to; the error is a probe that has ended there.
type Asked<T> = Result<T, Reading>;

/// Runs `work` for at most `limit`, and says how late our own timer ran meanwhile. Ticks in between notice a stall that
/// ended before the limit: what was read after it may be as old as the stall.
async fn timed<T>(limit: Duration, work: impl Future<Output = T>) -> (Option<T>, Duration) {
    let deadline = Instant::now() + limit;
    let mut lateness = Duration::ZERO;
    let mut work = pin!(work);
    loop {
        let tick = (Instant::now() + TICK).min(deadline);
        // The work is polled before the clock is asked, so that an answer that is there wins over a late timer.
        let done = timeout_at(tick, &mut work).await.ok();
        let now = Instant::now();
        lateness = lateness.max(now.saturating_duration_since(tick));
        if done.is_some() || now >= deadline {
            return (done, lateness);
        }
    }
}

/// Whether this host has no address from which `address` could be reached, such as when an interface went down. Asks the
/// kernel for the route only; nothing is sent.
fn has_no_way_to(address: Address, source: Option<IpAddr>) -> bool {
    let Address::Ip(address) = address else { return false };
    let any = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    match UdpSocket::bind((source.unwrap_or(any), 0)) {
        Ok(socket) => socket.connect(address).is_err(),
        // Another reason why a socket cannot be had says nothing about routes.
        Err(error) => error.kind() == io::ErrorKind::AddrNotAvailable,
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_timer_that_runs_on_time_is_not_late() {
        let (done, lateness) = timed(Duration::from_secs(5), pending::<()>()).await;
        assert_eq!((done, lateness), (None, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stall_is_noticed_even_when_the_answer_came_before_the_limit() {
        let stalled = async { tokio::time::advance(Duration::from_secs(2)).await };
        let (done, lateness) = timed(Duration::from_secs(5), stalled).await;
        assert_eq!((done, lateness), (Some(()), Duration::from_millis(1900)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_there_wins_over_a_late_timer() {
        let stalled = async { tokio::time::advance(Duration::from_secs(9)).await };
        let (done, lateness) = timed(Duration::from_secs(5), stalled).await;
        assert!(done.is_some() && is_void(lateness));
    }

    #[test]
    fn loopback_can_always_be_reached() {
        let address = Address::parse("127.0.0.1:1").expect("an address");
        assert!(!has_no_way_to(address, None));
        assert!(!has_no_way_to(address, Some(Ipv4Addr::new(127, 0, 0, 9).into())));
    }

    #[test]
    fn from_an_address_that_is_not_ours_there_is_no_way() {
        // TEST-NET-1 (RFC 5737) is nobody's.
        let gone = Some(Ipv4Addr::new(192, 0, 2, 1).into());
        assert!(has_no_way_to(Address::parse("127.0.0.1:1").expect("an address"), gone));
    }
}
