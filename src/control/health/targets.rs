//! What is to be probed: the configuration's health checks as probes, one for each endpoint that has any.

use std::collections::HashMap;
use std::sync::Arc;

use super::probe::exec::Exec;
use super::probe::expect::Expect;
use super::probe::http::{Http, HttpError, RequestHead};
use super::probe::{Check, Probe};
use crate::config::health::{self, Expected, Health, HttpCheck};
use crate::config::pool::Pool;
use crate::config::tls::{ClientTls, Naming};
use crate::control::tls::TlsClient;
use crate::model::address::Address;
use crate::model::protocol::Protocol;
use crate::policy::health::Settings;
use crate::runtime::snapshot::Snapshot;
use crate::runtime::tls::client;
use crate::runtime::tls::files::TlsError;

/// Why a probe cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Its TLS settings.
    #[error("health check of pool \"{0}\": {1}")]
    Tls(String, TlsError),
    /// Its request.
    #[error("health check of pool \"{0}\": {1}")]
    Request(String, HttpError),
}

/// One endpoint and how it is probed.
#[derive(Debug, Clone)]
pub struct Watch {
    /// Index of the pool in the snapshot.
    pub pool: usize,
    /// Index of the endpoint in the pool.
    pub endpoint: usize,
    /// What is asked.
    pub probe: Arc<Probe>,
    /// How results become a state.
    pub settings: Settings,
    /// Where its traffic goes.
    pub traffic: Address,
}

/// Everything that is to be probed, in the order of pools and endpoints.
///
/// # Errors
/// [`ProbeError`] for what cannot be asked that way.
pub fn watches(pools: &[Pool], snapshot: &Snapshot) -> Result<Vec<Watch>, ProbeError> {
    let mut clients = Clients::default();
    let mut watches = Vec::new();
    for (place, pool) in snapshot.pools.iter().enumerate() {
        let Some(written) = pools.iter().find(|p| p.name == pool.name) else { continue };
        let Some(health) = &written.health else { continue };
        let asked = question(written, health, &mut clients)?;
        let asks_for_host = health.check.tls().is_some_and(|tls| tls.server_name == Naming::Endpoint);
        let by_name: HashMap<_, _> = written.endpoints.iter().map(|e| (&e.name, e)).collect();
        for (index, endpoint) in pool.endpoints.iter().enumerate() {
            let Some(named) = by_name.get(&endpoint.name) else { continue };
            let address = health.target(named, endpoint.socket());
            let check = match &asked {
                Check::Exec(exec) => {
                    Check::Exec(Exec { endpoint: endpoint.name.to_string(), ..exec.clone() })
                }
                Check::Agent { send, .. } => {
                    Check::Agent { send: send.clone(), port: address.ip().map_or(0, |ip| ip.port()) }
                }
                other => other.clone(),
            };
            let probe = Arc::new(Probe {
                check,
                address,
                host: named.host.as_ref().filter(|_| asks_for_host).map(|host| host.as_str().into()),
                source: written.source.own(),
                header: written
                    .send_proxy
                    .filter(|_| health.send_proxy.unwrap_or_else(|| address == endpoint.socket())),
                timeout: health.settings.timeout,
            });
            let (settings, traffic) = (health.settings.clone(), endpoint.socket());
            watches.push(Watch { pool: place, endpoint: index, probe, settings, traffic });
        }
    }
    Ok(watches)
}

/// TLS clients of probes.
#[derive(Default)]
struct Clients(client::Clients);

impl Clients {
    fn of(&mut self, pool: &Pool, tls: Option<&ClientTls>) -> Result<Option<Arc<TlsClient>>, ProbeError> {
        let Some(tls) = tls else { return Ok(None) };
        let name = match &tls.server_name {
            Naming::Fixed(name) => Some(name.as_str()),
            Naming::Endpoint | Naming::Host => None,
        };
        let client = self.0.of(&client::Settings::from(tls)).and_then(|client| TlsClient::of(&client, name));
        match client {
            Ok(client) => Ok(Some(Arc::new(client))),
            Err(error) => Err(ProbeError::Tls(pool.name.to_string(), error)),
        }
    }
}

fn question(pool: &Pool, health: &Health, clients: &mut Clients) -> Result<Check, ProbeError> {
    Ok(match &health.check {
        health::Check::Http(http) => {
            // Behind a port of its own there is a health API, and not the pool's protocol.
            let http2 = pool.protocol == Protocol::Http2 && health.port.is_none();
            Check::Http(Box::new(http_question(pool, http, http2, clients)?))
        }
        health::Check::Tcp { send, expect, tls } => Check::Tcp {
            send: (!send.is_empty()).then(|| send.clone()),
            expect: expect.as_ref().map(expected),
            tls: clients.of(pool, tls.as_ref())?,
        },
        health::Check::Udp { send, expect } => {
            Check::Udp { send: send.clone(), expect: expect.as_ref().map(expected) }
        }
        health::Check::Tls(tls) => match clients.of(pool, Some(tls))? {
            Some(client) => Check::Tls(client),
            None => Check::Tcp { send: None, expect: None, tls: None },
        },
        health::Check::Grpc { service, host, tls } => {
            Check::Grpc { service: service.clone(), host: host.clone(), tls: clients.of(pool, tls.as_ref())? }
        }
        health::Check::Postgres { user, tls } => {
            Check::Postgres { user: user.clone(), tls: clients.of(pool, tls.as_ref())? }
        }
        health::Check::Mysql { user, tls } => {
            Check::Mysql { user: user.clone(), tls: clients.of(pool, tls.as_ref())? }
        }
        health::Check::Redis { primary, tls } => {
            Check::Redis { primary: *primary, tls: clients.of(pool, tls.as_ref())? }
        }
        // The port is the target's.
        health::Check::Agent { send } => {
            Check::Agent { port: 0, send: (!send.is_empty()).then(|| send.clone()) }
        }
        health::Check::Exec { command } => Check::Exec(Exec {
            command: command.clone(),
            pool: pool.name.to_string(),
            endpoint: String::new(),
        }),
    })
}

fn http_question(
    pool: &Pool,
    http: &HttpCheck,
    http2: bool,
    clients: &mut Clients,
) -> Result<Http, ProbeError> {
    let fields: Vec<(&str, &[u8])> =
        http.headers.iter().map(|(name, value)| (name.as_str(), value.as_str().as_bytes())).collect();
    let request = RequestHead::new(&http.method, &http.path, http.host.as_deref(), &fields)
        .map_err(|error| ProbeError::Request(pool.name.to_string(), error))?;
    Ok(Http {
        expect_status: http.expect_status.clone(),
        expect_body: http.expect_body.as_deref().cloned().map(Expect::Regex),
        rank: pool.exclusive.as_ref().and_then(|exclusive| exclusive.rank.clone()),
        tls: clients.of(pool, http.tls.as_ref())?,
        http2,
        ..Http::new(request)
    })
}

fn expected(expected: &Expected) -> Expect {
    match expected {
        Expected::Text(text) => Expect::Text(text.clone().into_bytes()),
        Expected::Regex(pattern) => Expect::Regex((**pattern).clone()),
    }
}
