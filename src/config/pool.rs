//! `[pool.NAME]`: endpoints, balancing, limits, timeouts and retry rules.

use std::collections::HashMap;
use std::time::Duration;

use super::diagnostic::Report;
use super::names::Names;
use super::source::Span;
use super::tables::RETRY;
use super::value::Fields;

use crate::model::address::EndpointAddress;
use crate::model::name::{EndpointName, PoolName};
use crate::model::units::{ByteSize, Weight};
use crate::policy::failure::Counted;

/// A named set of endpoints with one balancing policy.
#[derive(Debug, Clone)]
pub struct Pool {
    /// Its name.
    pub name: PoolName,
    /// Which endpoint is next.
    pub balance: Balance,
    /// Endpoints in the order of the file; at least one; addresses and names are unique.
    pub endpoints: Vec<Endpoint>,
    /// Ceilings and the queue.
    pub limits: PoolLimits,
    /// Times.
    pub timeouts: PoolTimeouts,
    /// Which failures are tried again, and how often.
    pub retry: Retry,
}

/// One address that traffic can be sent to.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Its name: the written address unless named.
    pub name: EndpointName,
    /// Where it is.
    pub address: EndpointAddress,
    /// Its share.
    pub weight: Weight,
    /// Priority group; 0 is used first.
    pub tier: u8,
    /// Requests (or tcp connections) in flight; nothing is the pool's limit.
    pub max_requests: Option<u32>,
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
}

/// `limits` of a pool.
#[derive(Debug, Clone)]
pub struct PoolLimits {
    /// Requests in flight per endpoint of a pool that serves http.
    pub max_requests: u32,
    /// Connections per endpoint of a pool that serves tcp; 0 is no limit.
    pub max_connections: u32,
    /// Waiting requests of the pool.
    pub queue: u32,
    /// How long one waits.
    pub queue_timeout: Duration,
}

/// `timeouts` of a pool; none is infinite.
#[derive(Debug, Clone)]
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
}

/// Which failures are tried again. `"off"` is one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Tries in all, each on a different endpoint.
    pub attempts: u32,
    /// What is tried again.
    pub on: Counted,
    /// No new attempt starts later than this.
    pub within: Duration,
    /// Request bodies up to here are kept for a repeat.
    pub max_body: ByteSize,
}

/// One member of a list of failures (`on`, `count`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailureCause {
    /// The connection could not be made.
    Connect,
    /// Closed before a complete response head.
    Reset,
    /// No response head in time.
    Timeout,
    /// An answer with a status from the first to the second.
    Statuses(u16, u16),
}

impl Pool {
    /// Reads a section `[pool.NAME]` that lies over its bases; nothing when something of it was reported.
    ///
    /// `tcp_only` says that only tcp listeners name the pool: then nothing queues unless that is written.
    pub(super) fn read(name: &str, fields: &Fields, tcp_only: bool, report: &mut Report) -> Option<Self> {
        fields.require(&format!("[pool.{name}]"), report);
        let endpoints = read_endpoints(name, fields, report);
        let limits = fields.table("limits")?;
        Some(Self {
            name: PoolName::new(name).ok()?,
            balance: Balance::ALL.into_iter().find(|balance| fields.is_word("balance", balance.word()))?,
            endpoints,
            limits: PoolLimits {
                max_requests: limits.get("max_requests")?,
                max_connections: limits.get("max_connections")?,
                queue: if tcp_only && !limits.has("queue") { 0 } else { limits.get("queue")? },
                queue_timeout: limits.get("queue_timeout")?,
            },
            timeouts: PoolTimeouts::read(&fields.table("timeouts")?)?,
            retry: Retry::read(fields)?,
        })
    }
}

fn read_endpoints(pool: &str, fields: &Fields, report: &mut Report) -> Vec<Endpoint> {
    let written = fields.list::<Fields>("endpoints");
    let mut names = Names::new("endpoint");
    let mut addresses: HashMap<EndpointAddress, Span> = HashMap::new();
    let mut endpoints = Vec::with_capacity(written.len());
    for (fields, span) in &written {
        fields.require("an endpoint", report);
        let Some(endpoint) = Endpoint::read(fields) else { continue };
        let address_span = fields.span_of("address");
        if let Some(first) = addresses.insert(endpoint.address, address_span) {
            let message = format!("the address {} is in pool `{pool}` twice", endpoint.address);
            let help = "remove one; to send it more than others, give it a weight";
            report.error_beside(address_span, message, ("it is first at", first), help);
        } else {
            let named = if fields.has("name") { fields.span_of("name") } else { *span };
            names.define(endpoint.name.as_str(), named, report);
        }
        endpoints.push(endpoint);
    }
    if !endpoints.is_empty()
        && endpoints.len() == written.len()
        && endpoints.iter().all(|e| e.weight.get() == 0)
    {
        let message = format!("no endpoint of pool `{pool}` has a weight above 0, so none would get traffic");
        report.error(fields.span_of("endpoints"), message, "give at least one a weight from 1 to 1000");
    }
    endpoints
}

impl Endpoint {
    fn read(fields: &Fields) -> Option<Self> {
        let address: EndpointAddress = fields.get("address")?;
        let name = fields.get::<String>("name").unwrap_or_else(|| address.to_string());
        Some(Self {
            name: EndpointName::new(&name).ok()?,
            address,
            weight: Weight::new(fields.get("weight")?)?,
            tier: fields.get("tier")?,
            max_requests: fields.get("max_requests"),
        })
    }
}

impl Balance {
    const ALL: [Self; 4] = [Self::RoundRobin, Self::LeastRequests, Self::Random, Self::First];

    /// Its word in a configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::RoundRobin => "round_robin",
            Self::LeastRequests => "least_requests",
            Self::Random => "random",
            Self::First => "first",
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
        })
    }
}

impl Retry {
    /// Reads the key `retry` of a pool or a route; nothing when it is neither written nor has a default.
    pub(super) fn read(fields: &Fields) -> Option<Self> {
        if fields.is_word("retry", "off") {
            let within = Fields::empty(&RETRY, fields.span).get("within")?;
            return Some(Self { attempts: 1, on: Counted::default(), within, max_body: ByteSize(0) });
        }
        let fields = fields.table("retry")?;
        Some(Self {
            attempts: fields.get("attempts")?,
            on: counted(&fields.plain_list("on")),
            within: fields.get("within")?,
            max_body: fields.get("max_body")?,
        })
    }
}

/// What a list of causes (`on`, `count`) stands for.
fn counted(causes: &[FailureCause]) -> Counted {
    let mut on = Counted::default();
    for cause in causes {
        match *cause {
            FailureCause::Connect => on.connect = true,
            FailureCause::Reset => on.reset = true,
            FailureCause::Timeout => on.timeout = true,
            FailureCause::Statuses(first, last) => on.statuses.push((first, last)),
        }
    }
    on.statuses.sort_unstable();
    // Ranges that touch become one, so that no status is in two.
    on.statuses.dedup_by(|next, kept| {
        let touch = next.0 <= kept.1.saturating_add(1);
        if touch {
            kept.1 = kept.1.max(next.1);
        }
        touch
    });
    on
}
