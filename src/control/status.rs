//! What the process says of itself when it is asked: plain values, read from live state at one moment.
//! How they are shown is `admin`'s (JSON) and `cli`'s (text).

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use super::change::AdminState;
use super::running::Provenance;
use super::upgrade::OldProcess;
use crate::model::address::Address;
use crate::model::name::{EndpointName, ListenerName, PoolName};
use crate::policy::admission::class::Class;
use crate::policy::admission::overload;

/// The whole process.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// Version of the build.
    pub version: &'static str,
    /// The number of the process.
    pub pid: u32,
    /// Processes that upgrades have left behind and that still have connections.
    pub old_processes: Vec<OldProcess>,
    /// Snapshots published since the start.
    pub generation: u64,
    /// Hash of the configuration that runs.
    pub config_hash: u64,
    /// When the process started to proxy.
    pub started: SystemTime,
    /// No new work is taken; what is in flight finishes.
    pub draining: bool,
    /// Where the configuration came from.
    pub provenance: Provenance,
    /// The process goes back to the configuration before unless this one is confirmed by then.
    pub confirm_until: Option<SystemTime>,
    /// What is given up because something runs short.
    pub overload: OverloadStatus,
    /// Tunnels and tcp sessions that began with a snapshot which does not run any more.
    pub held: HeldStatus,
    /// Endpoints that are gone and still have work in flight.
    pub leaving: Vec<LeavingStatus>,
    /// Data-plane threads, in the order of their numbers.
    pub workers: Vec<WorkerStatus>,
    /// Listeners in the order of the file.
    pub listeners: Vec<ListenerStatus>,
    /// Pools in the order of the file.
    pub pools: Vec<PoolStatus>,
    /// Limits of routes.
    pub limits: LimitsStatus,
}

/// The limits of routes, each once, in the order of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LimitsStatus {
    /// How fast requests may come.
    pub rates: Vec<RateStatus>,
    /// How many may be under way.
    pub concurrency: Vec<ConcurrencyStatus>,
}

/// A rate limit; requests are counted since the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateStatus {
    /// Its name.
    pub name: String,
    /// What tells requests apart.
    pub key: String,
    /// Keys that are remembered, also those that have their whole burst again.
    pub entries: usize,
    /// Keys that there is room for.
    pub size: usize,
    /// Keys that were forgotten before they had their whole burst again.
    pub evicted: u64,
    /// Requests that a tarpit holds now.
    pub held: u32,
    /// Requests that went on at once.
    pub passed: u64,
    /// Requests that were held until they were due.
    pub delayed: u64,
    /// Requests that were refused.
    pub rejected: u64,
    /// Requests that got no answer.
    pub dropped: u64,
    /// Requests that were held and then refused.
    pub tarpitted: u64,
    /// Requests that were refused at once because as many were held already as may be.
    pub tarpit_full: u64,
    /// Requests that would have been stopped by a limit that only counts.
    pub counted: u64,
    /// Requests that have nothing to be told apart by.
    pub unkeyed: u64,
}

/// A concurrency limit; requests are counted since the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConcurrencyStatus {
    /// Its name.
    pub name: String,
    /// What tells requests apart.
    pub key: String,
    /// Keys that have a request under way.
    pub entries: usize,
    /// Requests that went on.
    pub passed: u64,
    /// Requests that were refused.
    pub rejected: u64,
    /// Requests that have nothing to be told apart by.
    pub unkeyed: u64,
}

/// What runs short, and what is given up for that.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct OverloadStatus {
    /// What is given up, and why.
    pub state: overload::State,
    /// The share of its memory that the process uses.
    pub memory: Option<f64>,
    /// The share of its descriptors.
    pub descriptors: Option<f64>,
    /// How late the latest worker was.
    pub lag: Duration,
}

/// What holds an old snapshot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HeldStatus {
    /// Old snapshots that are held.
    pub generations: u64,
    /// The oldest of them.
    pub oldest: Option<u64>,
    /// Tunnels and tcp sessions that hold them.
    pub sessions: u64,
}

/// An endpoint that is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeavingStatus {
    /// The pool that it was in.
    pub pool: PoolName,
    /// Its name.
    pub endpoint: EndpointName,
    /// Attempts and sessions under way.
    pub in_flight: u64,
}

/// One worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerStatus {
    /// Client connections that it owns.
    pub connections: u64,
    /// Connections that it accepted and gave to another worker.
    pub handovers: u64,
}

/// One listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerStatus {
    /// Its name.
    pub name: ListenerName,
    /// `http` or `tcp`.
    pub protocol: &'static str,
    /// Addresses that are bound (none by a process that only observes), with the ports that the kernel chose.
    pub addresses: Vec<Address>,
    /// Connections open now.
    pub connections: u64,
    /// Connections at once at most.
    pub max_connections: u64,
    /// Connections accepted since the start.
    pub accepted: u64,
}

/// One pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolStatus {
    /// Its name.
    pub name: PoolName,
    /// Requests that wait for an endpoint.
    pub queue: QueueStatus,
    /// Requests (tcp: connections) that ended since the start.
    pub requests: u64,
    /// Attempts after the first one of a request, since the start.
    pub retries: u64,
    /// Readiness of this node depends on it.
    pub required: bool,
    /// An endpoint of its own may be picked: [`crate::runtime::pool::Pool::is_usable`].
    pub is_usable: bool,
    /// At most one endpoint serves, the leader.
    pub exclusive: bool,
    /// Why its endpoints are not verified, where they speak TLS and are not.
    pub verify_off: Option<String>,
    /// The tier that takes new work; none when nothing of the pool does.
    pub serving_tier: Option<u8>,
    /// Nothing is usable in the whole chain, and endpoints are tried all the same.
    pub fails_open: bool,
    /// The failover pool that takes this one's traffic now.
    pub failover: Option<PoolName>,
    /// Its own breaker, where it has one.
    pub breaker: Option<BreakerStatus>,
    /// Endpoints in the order of the file.
    pub endpoints: Vec<EndpointStatus>,
    /// Names that endpoints come from.
    pub names: Vec<NameStatus>,
    /// The file that endpoints come from.
    pub endpoints_file: Option<FileStatus>,
    /// Endpoints that were added at run time.
    pub added: Vec<EndpointName>,
    /// Endpoints that were removed at run time.
    pub removed: Vec<EndpointName>,
    /// How it keeps its clients, where it does.
    pub sticky: Option<StickyStatus>,
}

/// How a pool keeps its clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StickyStatus {
    /// By what they are known, in words.
    pub by: String,
    /// What becomes of a client whose endpoint cannot be used, in the configuration's word.
    pub when_down: &'static str,
    /// Entries of the table and how many there may be; nothing where it is by a cookie.
    pub table: Option<(u64, u64)>,
    /// Answers by what became of the client: new, kept, moved, void (what it carried counted for nothing).
    pub clients: [(&'static str, u64); 4],
    /// Cookies that were handed out.
    pub cookies: u64,
    /// Entries of the table that gave way to newcomers.
    pub evicted: u64,
}

/// The queue of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QueueStatus {
    /// Requests that wait, by class.
    pub waiting: [u64; Class::COUNT],
    /// Classes that are shed because they stand instead of passing.
    pub stands: Vec<Class>,
    /// Requests that were shed, since the start.
    pub shed: u64,
}

impl QueueStatus {
    /// Requests that wait, of all classes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.waiting.iter().sum()
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How much an endpoint may have in flight now; nothing is no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CeilingStatus {
    /// Requests.
    pub requests: Option<u64>,
    /// Tcp connections.
    pub connections: Option<u64>,
}

/// A name that endpoints come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameStatus {
    /// The name; `srv:` stands before that of a service.
    pub name: String,
    /// Addresses in use.
    pub addresses: usize,
    /// How old their answer is; nothing until the first one.
    pub age: Option<Duration>,
    /// Why there is no fresher one; nothing while there is.
    pub fault: Option<String>,
}

/// A file that endpoints come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStatus {
    /// Where it is.
    pub path: String,
    /// When it was last read well; nothing where it never was.
    pub read: Option<SystemTime>,
    /// What is wrong with what stands there now.
    pub fault: Option<String>,
}

impl PoolStatus {
    /// Endpoints of its own that may be picked now.
    #[must_use]
    pub fn usable(&self) -> usize {
        self.endpoints.iter().filter(|endpoint| endpoint.usable).count()
    }

    /// Whether its requests reach an endpoint that is usable: one of its own, or of a failover pool.
    #[must_use]
    pub fn serves(&self) -> bool {
        !self.fails_open && (self.is_usable || self.failover.is_some())
    }
}

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointStatus {
    /// Its name.
    pub name: EndpointName,
    /// Where it is.
    pub address: Address,
    /// Weight as configured, or as the operator has changed it.
    pub weight: u16,
    /// Weight in force: after slow start and whatever else lessens it.
    pub effective_weight: u16,
    /// Priority group; 0 is used first.
    pub tier: u8,
    /// Where it stands; empty is nowhere.
    pub zone: String,
    /// It may be picked now.
    pub usable: bool,
    /// The one reason why not, the one that explains most.
    pub reason: Option<Cow<'static, str>>,
    /// What the operator wants of it.
    pub admin_state: AdminState,
    /// What its probes say.
    pub probe: ProbeStatus,
    /// Its last ejection.
    pub ejection: EjectionStatus,
    /// Its breaker, where it has one.
    pub breaker: Option<BreakerStatus>,
    /// Flap damping holds it down until then.
    pub suppressed_until: Option<SystemTime>,
    /// It leads an exclusive pool.
    pub leader: bool,
    /// Attempts (tcp: sessions) under way.
    pub in_flight: u64,
    /// How much may be.
    pub ceiling: CeilingStatus,
    /// Open connections that wait for use.
    pub idle_connections: u64,
    /// Attempts (tcp: sessions) since the start.
    pub requests: u64,
    /// Failed ones of these.
    pub failures: u64,
}

/// What is known from probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProbeState {
    /// It is not probed.
    #[default]
    Off,
    /// No result yet.
    Unknown,
    /// It answers, and well.
    Up,
    /// It answers that it wants no traffic.
    SaysNo,
    /// It does not answer.
    CannotBeAsked,
}

impl ProbeState {
    /// Its word in JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::SaysNo => "says no",
            Self::CannotBeAsked => "cannot be asked",
        }
    }
}

/// Probes of one endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProbeStatus {
    /// What they add up to.
    pub state: ProbeState,
    /// Since when.
    pub since: Option<SystemTime>,
    /// The last one.
    pub last: Option<LastProbe>,
}

/// The last probe of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastProbe {
    /// When it ended.
    pub at: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// What it came to, in words.
    pub text: String,
}

/// Passive ejection of one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EjectionStatus {
    /// It is ejected until then.
    pub until: Option<SystemTime>,
    /// The number of ejections that the length of the next one grows with.
    pub count: u32,
}

/// Where a breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// All work goes through.
    Closed,
    /// None does.
    Open,
    /// A few trials do.
    HalfOpen,
}

impl BreakerState {
    /// Its word in JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

/// One breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerStatus {
    /// Where it stands.
    pub state: BreakerState,
    /// It lets no trial through before then.
    pub until: Option<SystemTime>,
}

/// Whether this node can proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// It can.
    pub ready: bool,
    /// Why it cannot; empty when it can.
    pub reasons: Vec<String>,
}
