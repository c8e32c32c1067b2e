//! HTTP/2 from clients: what goes on to an HTTP/1 endpoint, what comes back, what is refused, and what is too much.

mod bodies;
mod corpus;
mod floods;
mod heads;
mod lifetime;
mod rules;
mod websocket;

use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup};

/// A proxy that speaks HTTP/2 in the clear in front of one endpoint.
fn before(origin: &Origin) -> Setup {
    Setup::http(&[origin.address()]).listener("h2c = true").process("workers = 1")
}

/// How often a limit was reached.
fn hits(proxy: &Proxy, limit: &str) -> f64 {
    proxy.metric("plimsoll_limit_hits_total", &format!("limit=\"{limit}\""))
}

/// Waits until a limit has been hit so often.
fn counted(proxy: &Proxy, limit: &str, times: f64) {
    proxy.until_metric("plimsoll_limit_hits_total", &format!("limit=\"{limit}\""), times);
}
