//! What the JSON of the admin API looks like; converted by hand from what control says, so that neither binds the other.

use std::collections::BTreeMap;

use hyper::StatusCode;
use serde::Serialize;

use crate::config::Diagnostic;
use crate::config::lints::Finding;
use crate::control::event_json::{milliseconds, time};
use crate::control::reload::Reloaded;
use crate::control::sessions::{Session, Sessions};
use crate::control::status::{
    BreakerStatus, EndpointStatus, FileStatus, LeavingStatus, ListenerStatus, NameStatus, OverloadStatus,
    PoolStatus, ProbeStatus, Status, StickyStatus, WorkerStatus,
};
use crate::control::upgrade::OldProcess;
use crate::model::name::EndpointName;
use crate::policy::admission::class::Class;
use crate::policy::admission::overload::Resource;

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
    /// An extension: every error of a configuration.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    diagnostics: Vec<DiagnosticView>,
}

/// One error of a configuration.
#[derive(Debug, Serialize)]
pub(super) struct DiagnosticView {
    file: String,
    line: usize,
    column: usize,
    message: String,
    help: String,
}

impl From<&Diagnostic> for DiagnosticView {
    fn from(diagnostic: &Diagnostic) -> Self {
        Self {
            file: diagnostic.file.display().to_string(),
            line: diagnostic.line,
            column: diagnostic.column,
            message: diagnostic.message.clone(),
            help: diagnostic.help.clone(),
        }
    }
}

/// What is valid and perhaps not meant.
#[derive(Debug, Serialize)]
pub(super) struct FindingView {
    code: &'static str,
    name: &'static str,
    message: String,
    reason: &'static str,
    remedy: &'static str,
    key: String,
    file: Option<String>,
    line: Option<usize>,
}

impl From<&Finding> for FindingView {
    fn from(finding: &Finding) -> Self {
        let Finding { lint, what, key, place } = finding;
        Self {
            code: lint.code,
            name: lint.name,
            message: what.clone(),
            reason: lint.reason,
            remedy: lint.remedy,
            key: key.clone(),
            file: place.as_ref().map(|place| place.file.display().to_string()),
            line: place.as_ref().map(|place| place.line),
        }
    }
}

/// `POST /v1/reload` that was carried out.
#[derive(Debug, Serialize)]
pub(super) struct ReloadedView {
    generation: u64,
    config_hash: String,
    warnings: Vec<String>,
}

impl From<Reloaded> for ReloadedView {
    fn from(reloaded: Reloaded) -> Self {
        let Reloaded { generation, hash, warnings } = reloaded;
        Self { generation, config_hash: format!("{hash:016x}"), warnings }
    }
}

/// `POST /v1/reload?wait=false`.
#[derive(Debug, Serialize)]
pub(super) struct AcceptedView {
    pub(super) accepted: bool,
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
            diagnostics: Vec::new(),
        }
    }

    /// Its status, which is the answer's too.
    pub(super) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    pub(super) fn with_diagnostics(self, diagnostics: Vec<DiagnosticView>) -> Self {
        Self { diagnostics, ..self }
    }

    pub(super) fn with_reasons(self, reasons: Vec<String>) -> Self {
        Self { reasons, ..self }
    }
}

/// `GET /v1/status`.
#[derive(Debug, Serialize)]
pub(super) struct StatusView<'a> {
    version: &'a str,
    pid: u32,
    generation: u64,
    /// Hexadecimal: a JSON number would lose its low bits in most readers.
    config_hash: String,
    started: String,
    draining: bool,
    provenance: &'static str,
    confirm_until: Option<String>,
    overload: OverloadView,
    held: HeldView,
    leaving: Vec<LeavingView<'a>>,
    old_processes: Vec<OldProcessView>,
    workers: Vec<WorkerView>,
    listeners: Vec<ListenerView<'a>>,
    pools: Vec<PoolView<'a>>,
}

impl<'a> From<&'a Status> for StatusView<'a> {
    fn from(status: &'a Status) -> Self {
        Self {
            version: status.version,
            pid: status.pid,
            generation: status.generation,
            config_hash: format!("{:016x}", status.config_hash),
            started: time(status.started),
            draining: status.draining,
            provenance: status.provenance.word(),
            confirm_until: status.confirm_until.map(time),
            overload: OverloadView::from(&status.overload),
            held: HeldView {
                generations: status.held.generations,
                oldest: status.held.oldest,
                sessions: status.held.sessions,
            },
            leaving: status.leaving.iter().map(LeavingView::from).collect(),
            old_processes: status.old_processes.iter().map(OldProcessView::from).collect(),
            workers: status.workers.iter().map(WorkerView::from).collect(),
            listeners: status.listeners.iter().map(ListenerView::from).collect(),
            pools: status.pools.iter().map(PoolView::from).collect(),
        }
    }
}

/// What runs short.
#[derive(Debug, Serialize)]
struct OverloadView {
    stage: &'static str,
    /// What runs shortest.
    because: Option<&'static str>,
    /// Shares of what the process may have.
    memory: Option<f64>,
    descriptors: Option<f64>,
    lag_ms: f64,
}

impl From<&OverloadStatus> for OverloadView {
    fn from(overload: &OverloadStatus) -> Self {
        Self {
            stage: overload.state.stage.word(),
            because: overload.state.because.map(Resource::word),
            memory: overload.memory,
            descriptors: overload.descriptors,
            lag_ms: milliseconds(overload.lag),
        }
    }
}

/// A process that an upgrade has left behind.
#[derive(Debug, Serialize)]
struct OldProcessView {
    pid: u32,
    connections: usize,
    since: String,
}

impl From<&OldProcess> for OldProcessView {
    fn from(process: &OldProcess) -> Self {
        Self { pid: process.pid, connections: process.connections, since: time(process.since) }
    }
}

/// Tunnels and tcp sessions that began with a snapshot which does not run any more.
#[derive(Debug, Serialize)]
struct HeldView {
    generations: u64,
    oldest: Option<u64>,
    sessions: u64,
}

/// An endpoint that is gone and still has work in flight.
#[derive(Debug, Serialize)]
struct LeavingView<'a> {
    pool: &'a str,
    endpoint: &'a str,
    in_flight: u64,
}

impl<'a> From<&'a LeavingStatus> for LeavingView<'a> {
    fn from(leaving: &'a LeavingStatus) -> Self {
        Self {
            pool: leaving.pool.as_str(),
            endpoint: leaving.endpoint.as_str(),
            in_flight: leaving.in_flight,
        }
    }
}

/// `DELETE /v1/sessions/ID`.
#[derive(Debug, Serialize)]
pub(super) struct EndedView {
    pub(super) ended: bool,
}

/// `GET /v1/sessions`.
#[derive(Debug, Serialize)]
pub(super) struct SessionsView<'a> {
    sessions: Vec<SessionView<'a>>,
    /// How many more there are.
    left_out: usize,
}

#[derive(Debug, Serialize)]
struct SessionView<'a> {
    id: &'a str,
    client: &'a str,
    listener: &'a str,
    pool: Option<&'a str>,
    endpoint: Option<&'a str>,
    generation: u64,
    age_ms: f64,
}

impl<'a> From<&'a Sessions> for SessionsView<'a> {
    fn from(listed: &'a Sessions) -> Self {
        let view = |session: &'a Session| SessionView {
            id: &session.id,
            client: &session.client,
            listener: &session.listener,
            pool: session.endpoint.as_ref().map(|(pool, _)| pool.as_str()),
            endpoint: session.endpoint.as_ref().map(|(_, endpoint)| endpoint.as_str()),
            generation: session.generation,
            age_ms: milliseconds(session.age),
        };
        Self { sessions: listed.sessions.iter().map(view).collect(), left_out: listed.left_out }
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

/// One pool. `GET /v1/pools/NAME`, and in lists.
#[derive(Debug, Serialize)]
pub(super) struct PoolView<'a> {
    name: &'a str,
    queue: u64,
    queue_by_class: QueueView,
    /// Classes that are shed because they stand instead of passing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    queue_stands: Vec<&'static str>,
    queue_shed: u64,
    requests: u64,
    retries: u64,
    required: bool,
    exclusive: bool,
    usable: usize,
    serving_tier: Option<u8>,
    fails_open: bool,
    /// The failover pool that takes its traffic now.
    failover: Option<&'a str>,
    breaker: Option<BreakerView>,
    /// Why its endpoints are not verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    verify_off: Option<&'a str>,
    pub(super) endpoints: Vec<EndpointView<'a>>,
    /// Names that endpoints come from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    names: Vec<NameView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoints_file: Option<FileView<'a>>,
    /// Overrides: endpoints that were added and removed at run time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    added: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    removed: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sticky: Option<StickyView<'a>>,
}

#[derive(Debug, Serialize)]
struct StickyView<'a> {
    by: &'a str,
    when_down: &'a str,
    /// Of a table.
    #[serde(skip_serializing_if = "Option::is_none")]
    entries: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    clients: BTreeMap<&'a str, u64>,
    cookies: u64,
    evicted: u64,
}

impl<'a> From<&'a StickyStatus> for StickyView<'a> {
    fn from(sticky: &'a StickyStatus) -> Self {
        Self {
            by: &sticky.by,
            when_down: sticky.when_down,
            entries: sticky.table.map(|(entries, _)| entries),
            size: sticky.table.map(|(_, size)| size),
            clients: sticky.clients.into_iter().collect(),
            cookies: sticky.cookies,
            evicted: sticky.evicted,
        }
    }
}

/// Who waits.
#[derive(Debug, Serialize)]
struct QueueView {
    high: u64,
    normal: u64,
    low: u64,
}

impl From<[u64; Class::COUNT]> for QueueView {
    fn from([high, normal, low]: [u64; Class::COUNT]) -> Self {
        Self { high, normal, low }
    }
}

#[derive(Debug, Serialize)]
struct NameView<'a> {
    name: &'a str,
    addresses: usize,
    /// How old the answer in use is.
    age_ms: Option<f64>,
    /// Why there is no fresher one.
    fault: Option<&'a str>,
}

impl<'a> From<&'a NameStatus> for NameView<'a> {
    fn from(name: &'a NameStatus) -> Self {
        Self {
            name: &name.name,
            addresses: name.addresses,
            age_ms: name.age.map(milliseconds),
            fault: name.fault.as_deref(),
        }
    }
}

#[derive(Debug, Serialize)]
struct FileView<'a> {
    path: &'a str,
    read: Option<String>,
    fault: Option<&'a str>,
}

impl<'a> From<&'a FileStatus> for FileView<'a> {
    fn from(file: &'a FileStatus) -> Self {
        Self { path: &file.path, read: file.read.map(time), fault: file.fault.as_deref() }
    }
}

impl<'a> From<&'a PoolStatus> for PoolView<'a> {
    fn from(pool: &'a PoolStatus) -> Self {
        Self {
            name: pool.name.as_str(),
            queue: pool.queue.len(),
            queue_by_class: QueueView::from(pool.queue.waiting),
            queue_stands: pool.queue.stands.iter().map(|class| class.word()).collect(),
            queue_shed: pool.queue.shed,
            requests: pool.requests,
            retries: pool.retries,
            required: pool.required,
            exclusive: pool.exclusive,
            usable: pool.usable(),
            serving_tier: pool.serving_tier,
            fails_open: pool.fails_open,
            failover: pool.failover.as_ref().map(|other| other.as_str()),
            breaker: pool.breaker.as_ref().map(BreakerView::from),
            endpoints: pool.endpoints.iter().map(EndpointView::from).collect(),
            names: pool.names.iter().map(NameView::from).collect(),
            endpoints_file: pool.endpoints_file.as_ref().map(FileView::from),
            verify_off: pool.verify_off.as_deref(),
            added: pool.added.iter().map(EndpointName::as_str).collect(),
            removed: pool.removed.iter().map(EndpointName::as_str).collect(),
            sticky: pool.sticky.as_ref().map(StickyView::from),
        }
    }
}

/// One endpoint. The answer to a change of it, and in its pool.
#[derive(Debug, Serialize)]
pub(super) struct EndpointView<'a> {
    pub(super) name: &'a str,
    address: String,
    weight: u16,
    effective_weight: u16,
    tier: u8,
    /// Empty is nowhere.
    zone: &'a str,
    usable: bool,
    /// Why it is not usable.
    reason: Option<&'a str>,
    admin_state: &'static str,
    probe: ProbeView<'a>,
    ejection: EjectionView,
    breaker: Option<BreakerView>,
    suppressed_until: Option<String>,
    leader: bool,
    in_flight: u64,
    /// How many requests may be in flight now; nothing is no bound.
    max_requests: Option<u64>,
    max_connections: Option<u64>,
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
            effective_weight: endpoint.effective_weight,
            tier: endpoint.tier,
            zone: &endpoint.zone,
            usable: endpoint.usable,
            reason: endpoint.reason.as_deref(),
            admin_state: endpoint.admin_state.word(),
            probe: ProbeView::from(&endpoint.probe),
            ejection: EjectionView {
                until: endpoint.ejection.until.map(time),
                count: endpoint.ejection.count,
            },
            breaker: endpoint.breaker.as_ref().map(BreakerView::from),
            suppressed_until: endpoint.suppressed_until.map(time),
            leader: endpoint.leader,
            in_flight: endpoint.in_flight,
            max_requests: endpoint.ceiling.requests,
            max_connections: endpoint.ceiling.connections,
            idle_connections: endpoint.idle_connections,
            requests: endpoint.requests,
            failures: endpoint.failures,
        }
    }
}

#[derive(Debug, Serialize)]
struct ProbeView<'a> {
    state: &'static str,
    since: Option<String>,
    last: Option<LastProbeView<'a>>,
}

#[derive(Debug, Serialize)]
struct LastProbeView<'a> {
    at: String,
    took_ms: f64,
    text: &'a str,
}

impl<'a> From<&'a ProbeStatus> for ProbeView<'a> {
    fn from(probe: &'a ProbeStatus) -> Self {
        let last = probe.last.as_ref().map(|last| LastProbeView {
            at: time(last.at),
            took_ms: milliseconds(last.took),
            text: &last.text,
        });
        Self { state: probe.state.word(), since: probe.since.map(time), last }
    }
}

#[derive(Debug, Serialize)]
struct EjectionView {
    until: Option<String>,
    count: u32,
}

#[derive(Debug, Serialize)]
struct BreakerView {
    state: &'static str,
    until: Option<String>,
}

impl From<&BreakerStatus> for BreakerView {
    fn from(breaker: &BreakerStatus) -> Self {
        Self { state: breaker.state.word(), until: breaker.until.map(time) }
    }
}
