//! The load: a closed loop of clients, each with one request under way, each latency kept. `streams` drives connections of
//! bytes, `multiplexed` HTTP/2, `datagrams` UDP; what is asked of whom, and for how long, is the caller's choice.

mod datagrams;
mod multiplexed;
mod streams;
mod wire;

use std::net::SocketAddr;
use std::time::Duration;

pub(crate) use streams::Streams;

use crate::certificate::ClientTls;
use crate::lines::{Front, Line};

/// A client that waits for so long has been let down by the proxy.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a client sends, and how it knows that the answer is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exchange {
    /// An HTTP request on a connection that is kept; the answer's length is in its head.
    Http { path: &'static str },
    /// An HTTP request on a connection of its own, which the proxy closes after the answer.
    HttpOnce { path: &'static str },
    /// A stream of an HTTP/2 connection that many clients share; its body is as long as `origin::SMALL_BODY`.
    Http2 { path: &'static str },
    /// A unary gRPC call with a message of so many bytes, which comes back as it is.
    Grpc { bytes: usize },
    /// A message, or a datagram, of so many bytes that comes back as it is.
    Echo { bytes: usize },
}

/// What came of one stretch of load.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Answers that arrived complete.
    pub(crate) answers: u64,
    /// How long the stretch was.
    pub(crate) elapsed: Duration,
    /// Latencies in nanoseconds, ascending.
    pub(crate) latencies: Vec<u64>,
}

impl Outcome {
    fn new(mut latencies: Vec<u64>, elapsed: Duration) -> Self {
        latencies.sort_unstable();
        Self { answers: latencies.len() as u64, elapsed, latencies }
    }

    /// The latency that `share` of all answers did not exceed.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        let place = (last as f64 * share) as usize;
        Duration::from_nanos(self.latencies.get(place).copied().unwrap_or(0))
    }
}

/// A set of connected clients.
pub(crate) trait Load {
    /// Keeps one request of every client under way for `length`.
    fn run(&mut self, length: Duration) -> std::io::Result<Outcome>;
}

/// Connects so many clients in the way that `line` asks for; they stay silent.
pub(crate) fn connect(
    line: &Line,
    target: SocketAddr,
    clients: usize,
    tls: &ClientTls,
) -> std::io::Result<Box<dyn Load>> {
    let secured = line.front == Front::Tls;
    Ok(match line.exchange {
        Exchange::Http2 { .. } | Exchange::Grpc { .. } => {
            let tls = secured.then_some(&tls.http2);
            Box::new(multiplexed::Multiplexed::connect(target, line.exchange, clients, tls)?)
        }
        Exchange::Echo { bytes } if line.front == Front::Udp => {
            Box::new(datagrams::Datagrams::connect(target, bytes, clients)?)
        }
        exchange => {
            let tls = secured.then(|| tls.http1.clone());
            Box::new(Streams::connect(target, exchange, clients, tls)?)
        }
    })
}
