//! What the JSON of the admin API looks like; converted by hand from what control says, so that neither binds the other.

use hyper::StatusCode;
use serde::Serialize;

use crate::control::status::{EndpointStatus, ListenerStatus, PoolStatus, Status, WorkerStatus};
use crate::telemetry::timestamp::Clock;

/// A view as JSON.
pub(super) fn text(view: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(view)
}

/// `GET /livez` of a process that is alive.
#[derive(Debug, Serialize)]
pub(super) struct LiveView {
    pub(super) live: bool,
}

/// `GET /readyz` of a node that is ready.
#[derive(Debug, Serialize)]
pub(super) struct ReadyView {
    pub(super) ready: bool,
}

/// An error as problem details (RFC 9457). The type is `about:blank`: it means no more than its status (section 4.2.1).
#[derive(Debug, Serialize)]
pub(super) struct ProblemView {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    /// An extension: why the node is not ready.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<String>,
}

impl ProblemView {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        Self {
            r#type: "about:blank",
            title,
            status: status.as_u16(),
            detail: detail.into(),
            reasons: Vec::new(),
        }
    }

    pub(super) fn with_reasons(self, reasons: Vec<String>) -> Self {
        Self { reasons, ..self }
    }
}

/// `GET /v1/status`.
#[derive(Debug, Serialize)]
pub(super) struct StatusView<'a> {
    version: &'a str,
    generation: u64,
    /// Hexadecimal: a JSON number would lose its low bits in most readers.
    config_hash: String,
    started: String,
    draining: bool,
    workers: Vec<WorkerView>,
    listeners: Vec<ListenerView<'a>>,
    pools: Vec<PoolView<'a>>,
}

impl<'a> From<&'a Status> for StatusView<'a> {
    fn from(status: &'a Status) -> Self {
        let mut started = Vec::new();
        Clock::default().write(status.started, &mut started);
        Self {
            version: status.version,
            generation: status.generation,
            config_hash: format!("{:016x}", status.config_hash),
            started: String::from_utf8_lossy(&started).into_owned(),
            draining: status.draining,
            workers: status.workers.iter().map(WorkerView::from).collect(),
            listeners: status.listeners.iter().map(ListenerView::from).collect(),
            pools: status.pools.iter().map(PoolView::from).collect(),
        }
    }
}

#[derive(Debug, Serialize)]
struct WorkerView {
    connections: u64,
    handovers: u64,
}

impl From<&WorkerStatus> for WorkerView {
    fn from(worker: &WorkerStatus) -> Self {
        Self { connections: worker.connections, handovers: worker.handovers }
    }
}

#[derive(Debug, Serialize)]
struct ListenerView<'a> {
    name: &'a str,
    protocol: &'a str,
    addresses: Vec<String>,
    connections: u64,
    max_connections: u64,
    accepted: u64,
}

impl<'a> From<&'a ListenerStatus> for ListenerView<'a> {
    fn from(listener: &'a ListenerStatus) -> Self {
        Self {
            name: listener.name.as_str(),
            protocol: listener.protocol,
            addresses: listener.addresses.iter().map(ToString::to_string).collect(),
            connections: listener.connections,
            max_connections: listener.max_connections,
            accepted: listener.accepted,
        }
    }
}

#[derive(Debug, Serialize)]
struct PoolView<'a> {
    name: &'a str,
    queue: u64,
    requests: u64,
    retries: u64,
    usable: usize,
    endpoints: Vec<EndpointView<'a>>,
}

impl<'a> From<&'a PoolStatus> for PoolView<'a> {
    fn from(pool: &'a PoolStatus) -> Self {
        Self {
            name: pool.name.as_str(),
            queue: pool.queue,
            requests: pool.requests,
            retries: pool.retries,
            usable: pool.endpoints.iter().filter(|endpoint| endpoint.usable).count(),
            endpoints: pool.endpoints.iter().map(EndpointView::from).collect(),
        }
    }
}

#[derive(Debug, Serialize)]
struct EndpointView<'a> {
    name: &'a str,
    address: String,
    weight: u16,
    tier: u8,
    usable: bool,
    in_flight: u64,
    idle_connections: u64,
    requests: u64,
    failures: u64,
}

impl<'a> From<&'a EndpointStatus> for EndpointView<'a> {
    fn from(endpoint: &'a EndpointStatus) -> Self {
        Self {
            name: endpoint.name.as_str(),
            address: endpoint.address.to_string(),
            weight: endpoint.weight,
            tier: endpoint.tier,
            usable: endpoint.usable,
            in_flight: endpoint.in_flight,
            idle_connections: endpoint.idle_connections,
            requests: endpoint.requests,
            failures: endpoint.failures,
        }
    }
}
