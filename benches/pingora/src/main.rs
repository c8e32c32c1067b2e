//! The plainest proxy that pingora-proxy makes: every request goes to one origin, on one thread.
//!
//! `plimsoll-bench-pingora LISTEN ORIGIN [--access-log]`, or `--version`, which is pingora's.

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;

use async_trait::async_trait;
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, Result};
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

/// The version in `Cargo.lock`, which stands next to this program's sources.
const LOCK: &str = include_str!("../Cargo.lock");

/// Connections to the origin that are kept, as many as the benchmark's clients need.
const KEPT: usize = 1024;

struct Forward {
    origin: SocketAddr,
    access_log: bool,
}

#[async_trait]
impl ProxyHttp for Forward {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _session: &mut Session, _ctx: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.origin, false, String::new())))
    }

    async fn logging(&self, session: &mut Session, _error: Option<&Error>, _ctx: &mut ()) {
        if !self.access_log {
            return;
        }
        let status = session.response_written().map_or(0, |answer| answer.status.as_u16());
        let client = session.client_addr().map(ToString::to_string).unwrap_or_default();
        let mut out = std::io::stdout().lock();
        // A log that cannot be written is of no use to a benchmark, and no reason to end it.
        drop(writeln!(out, "{client} {} {status} {}", session.request_summary(), session.body_bytes_sent()));
    }
}

/// The version of pingora-proxy that was built in.
fn version() -> &'static str {
    let after = LOCK.split("name = \"pingora-proxy\"").nth(1).unwrap_or_default();
    after.split('"').nth(1).unwrap_or("unknown")
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == "--version") {
        println!("pingora-proxy {}", version());
        return ExitCode::SUCCESS;
    }
    let parsed = words.first().zip(words.get(1).and_then(|origin| origin.parse().ok()));
    let Some((listen, origin)) = parsed else {
        eprintln!("usage: plimsoll-bench-pingora LISTEN ORIGIN [--access-log]");
        return ExitCode::from(2);
    };
    let conf = ServerConf {
        threads: 1,
        upstream_keepalive_pool_size: KEPT,
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(0),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let access_log = words.iter().any(|word| word == "--access-log");
    let mut service = http_proxy_service(&server.configuration, Forward { origin, access_log });
    service.add_tcp(listen);
    server.add_service(service);
    server.run_forever()
}
