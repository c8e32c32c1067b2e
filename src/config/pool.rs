//! `[pool.NAME]`: endpoints, balancing, limits and timeouts. `health`, `passive` and `retry` have the tables that say how
//! it learns what it can send where.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::diagnostic::Report;
use super::health::{self, EndpointHealth, Health};
use super::names::Names;
use super::retry::Retry;
use super::source::Span;
use super::sticky::Sticky;
use super::tls::{Files, PoolTls};
use super::value::{Field, Fields};
use super::{admission, passive, preset};
use crate::model::address::{DnsName, EndpointAddress, Source};
use crate::model::field::FieldName;
use crate::model::name::{EndpointName, LABEL_MAX, PoolName};
use crate::model::protocol::Protocol;
use crate::model::proxy_protocol::Version;
use crate::model::units::{ByteSize, Rate, Weight};
use crate::policy::admission::{ceiling, gradient, shedding};
use crate::policy::{breaker, exclusive, failover, outlier};

/// A named set of endpoints with one balancing policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    /// Its name.
    pub name: PoolName,
    /// Which endpoint is next.
    pub balance: Balance,
    /// Endpoints in the order of the file; at least one unless there is a file of them; addresses and names are unique.
    pub endpoints: Vec<Endpoint>,
    /// A file of more endpoints, which other programs write.
    pub endpoints_file: Option<PathBuf>,
    /// Ceilings and the queue.
    pub limits: PoolLimits,
    /// Times.
    pub timeouts: PoolTimeouts,
    /// Which failures are tried again, and how often.
    pub retry: Retry,
    /// What the hashing policies hash.
    pub hash_key: HashKey,
    /// Bounded loads: none gets more than so many times the mean. Nothing is no bound.
    pub load_factor: Option<f64>,
    /// Whether `/readyz` of this node depends on it.
    pub required: bool,
    /// How the one leader is found, where at most one endpoint serves; there is `health` then.
    pub exclusive: Option<exclusive::Settings>,
    /// Pools tried, in order, when this one has nothing usable; never itself, none twice, but circles are possible.
    pub failover_pools: Vec<PoolName>,
    /// How tiers and failover pools take turns.
    pub failover: failover::Settings,
    /// Whether probe state and ejections are ignored when nothing at all is usable.
    pub fail_open: bool,
    /// What is spoken with its endpoints.
    pub protocol: Protocol,
    /// The PROXY header at the start of connections to endpoints; nothing is none.
    pub send_proxy: Option<Version>,
    /// What connections to endpoints come from; an address is of the family of every endpoint.
    pub source: Source,
    /// In which a returned endpoint grows to its full share; zero is off.
    pub slow_start: Duration,
    /// What long-lived work on a drained or removed endpoint gets.
    pub drain_timeout: Duration,
    /// The age at which long-lived tcp sessions end; nothing is never.
    pub max_connection_age: Option<Duration>,
    /// TLS to the endpoints.
    pub tls: Option<PoolTls>,
    /// Active probes.
    pub health: Option<Health>,
    /// Passive ejection.
    pub outlier: Option<outlier::Settings>,
    /// A breaker.
    pub breaker: Option<breaker::Settings>,
    /// How clients keep coming to the same endpoint.
    pub sticky: Option<Sticky>,
    /// What it has to carry at its busiest, for `plimsoll check` alone.
    pub load: Option<Rate>,
}

impl Pool {
    /// Whether everything but the endpoints is as in another one.
    #[must_use]
    pub fn has_settings_of(&self, other: &Self) -> bool {
        let settings = |pool: &Self| Self { endpoints: Vec::new(), ..pool.clone() };
        self == other || settings(self) == settings(other)
    }
}

/// One address that traffic can be sent to, or one name that stands for some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its name: the written address unless named.
    pub name: EndpointName,
    /// Where it is. Of a name, this is what every endpoint that it stands for is made from.
    pub address: EndpointAddress,
    /// Its share.
    pub weight: Weight,
    /// Priority group; 0 is used first.
    pub tier: u8,
    /// Requests (or tcp connections) in flight; nothing is the pool's limit.
    pub max_requests: Option<u32>,
    /// Where it stands; empty is nowhere.
    pub zone: String,
    /// Where its probes go.
    pub health: EndpointHealth,
    /// The name that it was resolved from, where it was.
    pub host: Option<DnsName>,
    /// What it can carry, for `plimsoll check` alone.
    pub capacity: Option<Rate>,
}

/// Balancing policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    /// Smooth weighted round robin.
    RoundRobin,
    /// Fewest in flight for its weight.
    LeastRequests,
    /// The better of two random ones.
    Random,
    /// The first that has room.
    First,
    /// The soonest answer, by latency and what is in flight.
    PeakEwma,
    /// A ring of points, as nginx's `hash ... consistent`.
    RingHash,
    /// Google's Maglev table.
    Maglev,
    /// The highest of one hash per endpoint.
    Rendezvous,
}

/// What the hashing policies hash. What a request does not have is replaced by its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashKey {
    /// The client's address.
    Source,
    /// A field of the request.
    Header(FieldName),
    /// A cookie.
    Cookie(String),
    /// A query parameter.
    Query(String),
    /// The path without its query.
    Path,
    /// The name that a TLS client asks for.
    Sni,
}

/// What endpoints of a name are called by: the written name, or else the host or service without its port.
fn label<'a>(name: &'a str, address: &'a EndpointAddress) -> &'a str {
    if name == address.to_string() { address.label() } else { name }
}

/// `limits` of a pool.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolLimits {
    /// Requests in flight per endpoint of a pool that serves http.
    pub max_requests: u32,
    /// Connections per endpoint of a pool that serves tcp; 0 is no limit.
    pub max_connections: u32,
    /// How that rises with the load of the pool, where it does.
    pub rising: Option<ceiling::Rising>,
    /// How it is found out by answers, where it is.
    pub adaptive: Option<gradient::Settings>,
    /// Waiting requests of the pool.
    pub queue: u32,
    /// How long one waits.
    pub queue_timeout: Duration,
    /// When those who wait are sent away sooner.
    pub shedding: Option<shedding::Settings>,
    /// Bytes of a response head (502).
    pub answer_head: ByteSize,
    /// Fields of a response head or trailer section (502).
    pub answer_fields: usize,
    /// Interim answers to one request (502).
    pub interim_answers: u32,
    /// Bytes of chunk extensions in one answer.
    pub answer_chunk_extensions: ByteSize,
    /// Idle connections kept per endpoint and worker.
    pub idle_connections: usize,
    /// HTTP/2 connections per endpoint and worker.
    pub http2_connections: usize,
    /// Requests at once on one of them.
    pub http2_streams: usize,
    /// What of one answer over HTTP/2 is taken before the client has taken any.
    pub http2_window: ByteSize,
    /// Frames of each kind that are none of an answer, on one of them in any second.
    pub http2_frames: u32,
}

/// `timeouts` of a pool; none is infinite.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolTimeouts {
    /// Connecting.
    pub connect: Duration,
    /// To the response head.
    pub response_header: Duration,
    /// No progress while a body moves.
    pub idle: Duration,
    /// Idle upstream connection.
    pub keep_alive: Duration,
    /// Upgraded connections and tcp sessions without a byte.
    pub tunnel: Duration,
    /// Unacknowledged data to an endpoint.
    pub tcp_user_timeout: Duration,
    /// First keepalive probe of a tcp session or tunnel without a byte.
    pub tcp_keepalive: Duration,
    /// PING on a busy HTTP/2 connection without a byte.
    pub http2_ping: Duration,
}

impl Pool {
    /// Reads a section `[pool.NAME]` that lies over its bases; nothing when something of it was reported.
    ///
    /// `tcp_only` says that only tcp listeners name the pool: then nothing queues unless that is written.
    pub(super) fn read(
        name: &str,
        fields: &Fields,
        around: Surroundings<'_>,
        report: &mut Report,
    ) -> Option<Self> {
        fields.require(&format!("[pool.{name}]"), report);
        let exclusive = passive::exclusive(fields, report);
        let alone = exclusive.is_some();
        let endpoints_file = around.files.path(fields, "endpoints_file");
        let endpoints = read_endpoints(name, fields, report);
        preset::check(name, fields, report);
        let tls = PoolTls::read(fields, !around.tcp_only, around.files, report);
        let health = Health::read(name, fields, alone, around.files, report);
        needs_health(name, fields, alone, report);
        contradictions(fields, alone, report);
        check_source(fields, &endpoints, report);
        let balance = Balance::ALL.into_iter().find(|balance| fields.is_word("balance", balance.word()));
        let hash_key = read_hash_key(fields, balance?, around.tcp_only, report);
        let failover_pools = read_failover(name, fields, around.pools, report);
        let outlier = passive::outlier(fields, alone, report);
        let breaker = passive::breaker(fields, report);
        let failover = passive::failover(fields, alone, report);
        let protocol = Protocol::ALL.into_iter().find(|protocol| fields.is_word("protocol", protocol.word()));
        let age: Duration = fields.get("max_connection_age")?;
        Some(Self {
            name: PoolName::new(name).ok()?,
            balance: balance?,
            endpoints,
            endpoints_file,
            limits: PoolLimits::read(&fields.table("limits")?, around.tcp_only, report)?,
            timeouts: PoolTimeouts::read(&fields.table("timeouts")?)?,
            retry: Retry::read(fields, alone)?,
            hash_key,
            load_factor: fields.get("load_factor").filter(|_| balance.is_some_and(Balance::hashes)),
            required: fields.get("required")?,
            exclusive,
            failover_pools,
            failover: failover?,
            fail_open: fields.get("fail_open")? && !alone,
            protocol: protocol?,
            send_proxy: Version::ALL.into_iter().find(|version| fields.is_word("send_proxy", version.word())),
            source: read_source(fields),
            slow_start: fields.get("slow_start")?,
            drain_timeout: fields.get("drain_timeout")?,
            max_connection_age: Some(age).filter(|age| !age.is_zero()),
            tls,
            health,
            outlier,
            breaker,
            sticky: Sticky::read(name, fields, around, report),
            load: fields.get("load"),
        })
    }
}

/// What a pool may name and depends on.
#[derive(Clone, Copy)]
pub(super) struct Surroundings<'a> {
    /// Only tcp listeners name the pool: then nothing queues unless that is written.
    pub(super) tcp_only: bool,
    /// Every pool.
    pub(super) pools: &'a Names,
    /// Files that it names.
    pub(super) files: Files<'a>,
}

/// Reports what is of no use without probes.
fn needs_health(pool: &str, fields: &Fields, exclusive: bool, report: &mut Report) {
    if health::is_written(fields) {
        return;
    }
    if exclusive {
        let help = format!("add [pool.{pool}.health], whose probe says who leads");
        report.error(fields.span_of("exclusive"), "`exclusive` needs `health`", help);
    }
    for (endpoint, _) in fields.list::<Fields>("endpoints") {
        if let Some(field) = endpoint.written("health") {
            let message = format!("`health` of an endpoint needs probes, and pool `{pool}` has none");
            report.error(field.key_span, message, format!("add [pool.{pool}.health], or remove it"));
        }
    }
}

/// Reports a key beside another one that takes its meaning away.
fn contradictions(fields: &Fields, exclusive: bool, report: &mut Report) {
    if let Some(field) =
        fields.own("fail_open").filter(|_| exclusive && fields.get("fail_open") == Some(true))
    {
        let message = "an exclusive pool never fails open: two could serve then";
        report.error(field.key_span, message, "remove it");
    }
    if let Some(retry) = fields.table("retry").filter(|retry| exclusive && retry.table("hedge").is_some())
        && let Some(field) = retry.own("hedge")
    {
        let message = "an exclusive pool is never hedged: there is nobody to ask beside the leader";
        report.error(field.key_span, message, "remove it");
    }
    if let Some(field) = fields.own("load_factor").filter(|_| fields.get::<f64>("load_factor").is_some())
        && !Balance::ALL.into_iter().any(|b| b.hashes() && fields.is_word("balance", b.word()))
    {
        report.error(field.key_span, "`load_factor` has no use: the pool does not hash", HASHING);
    }
}

fn read_source(fields: &Fields) -> Source {
    match fields.get::<IpAddr>("source_address") {
        Some(address) => Source::Own(address),
        None if fields.is_word("source_address", "client") => Source::Client,
        None => Source::System,
    }
}

/// Reports an address to connect from that an endpoint cannot be reached from: the other family's.
fn check_source(fields: &Fields, endpoints: &[Endpoint], report: &mut Report) {
    let Some(source) = fields.get::<IpAddr>("source_address") else { return };
    let foreign = |endpoint: &&Endpoint| match &endpoint.address {
        EndpointAddress::Ip(address) => address.is_ipv4() != source.is_ipv4(),
        // There is no address to connect to it from, and none is used.
        EndpointAddress::Unix(_) => false,
        // Known once it is resolved; what cannot be reached from there fails to connect.
        EndpointAddress::Host { .. } | EndpointAddress::Service(_) => false,
    };
    let Some(endpoint) = endpoints.iter().find(foreign) else { return };
    let (own, other) = if source.is_ipv4() { ("IPv4", "IPv6") } else { ("IPv6", "IPv4") };
    let message = format!(
        "`source_address` is {own} and endpoint {} is {other}: it cannot be connected to from there",
        endpoint.name
    );
    report.error(fields.span_of("source_address"), message, "give each family a pool of its own");
}

const HASHING: &str = "remove it, or write balance = \"ring_hash\", \"maglev\" or \"rendezvous\"";

fn read_hash_key(fields: &Fields, balance: Balance, tcp_only: bool, report: &mut Report) -> HashKey {
    let key = fields.get::<HashKey>("hash_key").unwrap_or(HashKey::Source);
    let Some(field) = fields.written("hash_key") else { return key };
    if !balance.hashes() {
        if !field.inherited {
            let message = format!("`hash_key` has no use: balance = \"{}\" does not hash", balance.word());
            report.error(field.key_span, message, HASHING);
        }
        return HashKey::Source;
    }
    if tcp_only && !matches!(key, HashKey::Source | HashKey::Sni) {
        let message = "a pool of tcp listeners can hash the source or the SNI only: it sees no requests";
        report.error(field.item.span, message, "write hash_key = \"source\" or \"sni\"");
    }
    key
}

fn read_failover(pool: &str, fields: &Fields, pools: &Names, report: &mut Report) -> Vec<PoolName> {
    let mut found: Vec<PoolName> = Vec::new();
    let written: Option<&Field> = fields.own("failover");
    for (name, span) in fields.list::<String>("failover") {
        // What defaults or another pool bring may well be this one.
        if name == pool && written.is_none() {
            continue;
        }
        if name == pool {
            let message = format!("pool `{pool}` cannot fail over to itself");
            report.error(span, message, "remove it, or name another pool");
        } else if pools.check(&name, span, report)
            && let Ok(name) = PoolName::new(&name)
        {
            if found.contains(&name) {
                report.error(span, format!("pool `{name}` is named twice"), "remove one of the two");
            }
            found.push(name);
        }
    }
    found
}

fn read_endpoints(pool: &str, fields: &Fields, report: &mut Report) -> Vec<Endpoint> {
    let written = fields.list::<Fields>("endpoints");
    let endpoints = Endpoint::read_all(pool, &written, report);
    if !endpoints.is_empty()
        && endpoints.len() == written.len()
        && endpoints.iter().all(|e| e.weight.get() == 0)
        && !fields.has("endpoints_file")
    {
        let message = format!("no endpoint of pool `{pool}` has a weight above 0, so none would get traffic");
        report.error(fields.span_of("endpoints"), message, "give at least one a weight from 1 to 1000");
    }
    endpoints
}

impl Endpoint {
    /// One that nothing else is said of than who and where it is, and what its share is.
    #[must_use]
    pub fn plain(
        name: EndpointName,
        address: EndpointAddress,
        weight: Weight,
        tier: u8,
        zone: String,
    ) -> Self {
        let health = EndpointHealth::default();
        Self { name, address, weight, tier, max_requests: None, zone, health, host: None, capacity: None }
    }

    /// Reads tables of endpoints of a pool, whose names and addresses must differ.
    pub(super) fn read_all(pool: &str, written: &[(Fields, Span)], report: &mut Report) -> Vec<Self> {
        let mut names = Names::new("endpoint");
        let mut addresses: HashMap<EndpointAddress, Span> = HashMap::new();
        let mut endpoints = Vec::with_capacity(written.len());
        for (fields, span) in written {
            fields.require("an endpoint", report);
            let Some(endpoint) = Self::read(fields, report) else { continue };
            let address_span = fields.span_of("address");
            if let Some(first) = addresses.insert(endpoint.address.clone(), address_span) {
                let message = format!("the address {} is in pool `{pool}` twice", endpoint.address);
                let help = "remove one; to send it more than others, give it a weight";
                report.error_beside(address_span, message, ("it is first at", first), help);
            } else {
                let named = if fields.has("name") { fields.span_of("name") } else { *span };
                names.define(endpoint.name.as_str(), named, report);
            }
            endpoints.push(endpoint);
        }
        endpoints
    }

    /// One that this stands for, at `address`: it has its own name, `name@ip:port`, and all else from here.
    #[must_use]
    pub fn at(&self, address: SocketAddr) -> Option<Self> {
        let label = label(self.name.as_str(), &self.address);
        let name = EndpointName::new(&format!("{label}@{address}")).ok()?;
        let host = match &self.address {
            EndpointAddress::Host { name, .. } => Some(name.clone()),
            EndpointAddress::Ip(_) | EndpointAddress::Unix(_) | EndpointAddress::Service(_) => None,
        };
        Some(Self { name, address: EndpointAddress::Ip(address), host, ..self.clone() })
    }

    fn read(fields: &Fields, report: &mut Report) -> Option<Self> {
        let address: EndpointAddress = fields.get("address")?;
        let name = fields.get::<String>("name").unwrap_or_else(|| address.default_name());
        let label = label(&name, &address);
        if label.len() > LABEL_MAX && address.socket().is_none() {
            let message = format!("its endpoints would be called {label}@ip:port, which is too long");
            let help = format!("add a name of at most {LABEL_MAX} characters");
            report.error(fields.span_of("address"), message, help);
            return None;
        }
        Some(Self {
            name: EndpointName::new(&name).ok()?,
            address,
            weight: Weight::new(fields.get("weight")?)?,
            tier: fields.get("tier")?,
            max_requests: fields.get("max_requests"),
            zone: fields.get("zone")?,
            health: EndpointHealth::read(fields),
            host: None,
            capacity: fields.get("capacity"),
        })
    }
}

impl PoolLimits {
    fn read(fields: &Fields, tcp_only: bool, report: &mut Report) -> Option<Self> {
        Some(Self {
            max_requests: fields.get("max_requests")?,
            max_connections: fields.get("max_connections")?,
            rising: admission::rising(fields, report),
            adaptive: admission::adaptive(fields, report),
            queue: if tcp_only && !fields.has("queue") { 0 } else { fields.get("queue")? },
            queue_timeout: fields.get("queue_timeout")?,
            shedding: admission::shedding(fields, report),
            answer_head: fields.get("answer_head")?,
            answer_fields: fields.get("answer_fields")?,
            interim_answers: fields.get("interim_answers")?,
            answer_chunk_extensions: fields.get("answer_chunk_extensions")?,
            idle_connections: fields.get("idle_connections")?,
            http2_connections: fields.get("http2_connections")?,
            http2_streams: fields.get("http2_streams")?,
            http2_window: fields.get("http2_window")?,
            http2_frames: fields.get("http2_frames")?,
        })
    }
}

impl Balance {
    const ALL: [Self; 8] = [
        Self::RoundRobin,
        Self::LeastRequests,
        Self::Random,
        Self::First,
        Self::PeakEwma,
        Self::RingHash,
        Self::Maglev,
        Self::Rendezvous,
    ];

    /// Whether it picks by a hash of the request.
    #[must_use]
    pub const fn hashes(self) -> bool {
        matches!(self, Self::RingHash | Self::Maglev | Self::Rendezvous)
    }

    /// Its word in a configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::RoundRobin => "round_robin",
            Self::LeastRequests => "least_requests",
            Self::Random => "random",
            Self::First => "first",
            Self::PeakEwma => "peak_ewma",
            Self::RingHash => "ring_hash",
            Self::Maglev => "maglev",
            Self::Rendezvous => "rendezvous",
        }
    }
}

impl std::fmt::Display for HashKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Source => f.write_str("source"),
            Self::Header(name) => write!(f, "header:{}", name.as_str()),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
            Self::Path => f.write_str("path"),
            Self::Sni => f.write_str("sni"),
        }
    }
}

impl PoolTimeouts {
    fn read(fields: &Fields) -> Option<Self> {
        Some(Self {
            connect: fields.get("connect")?,
            response_header: fields.get("response_header")?,
            idle: fields.get("idle")?,
            keep_alive: fields.get("keep_alive")?,
            tunnel: fields.get("tunnel")?,
            tcp_user_timeout: fields.get("tcp_user_timeout")?,
            tcp_keepalive: fields.get("tcp_keepalive")?,
            http2_ping: fields.get("http2_ping")?,
        })
    }
}
