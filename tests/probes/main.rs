//! Probes through real sockets, against scripted servers: what each answer comes to, and what it rests on.
//!
//! `origin` is what they stand on; every other file is one group of protocols. `tests/clients/probes.py` asks the real
//! servers.

mod exec;
mod grpc;
mod http;
mod limits;
mod origin;
mod text;
mod tls;

use std::net::SocketAddr;
use std::time::Duration;

use plimsoll::control::health::probe::outcome::Outcome;
use plimsoll::control::health::probe::{Check, Probe, run};
use plimsoll::policy::health::guard::is_void;

/// Far more than an answer over loopback takes.
const AMPLE: Duration = Duration::from_secs(20);

fn probe(check: Check, address: SocketAddr) -> Probe {
    Probe { check, address: address.into(), host: None, source: None, header: None, timeout: AMPLE }
}

/// Asks, and asks again when this machine was too busy for the answer to be evidence.
async fn ask(check: Check, address: SocketAddr) -> Outcome {
    let probe = probe(check, address);
    for _ in 0..20 {
        let outcome = run(&probe).await;
        if !is_void(outcome.evidence.lateness) {
            return outcome;
        }
    }
    panic!("this machine is too busy to tell the time");
}
