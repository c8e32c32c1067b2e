//! `[pool.NAME]`: endpoints, balancing, limits, timeouts and retry rules.

use std::time::Duration;

use crate::model::address::EndpointAddress;
use crate::model::name::{EndpointName, PoolName};
use crate::model::units::{ByteSize, Weight};

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
    pub on: RetryOn,
    /// No new attempt starts later than this.
    pub within: Duration,
    /// Request bodies up to here are kept for a repeat.
    pub max_body: ByteSize,
}

/// Causes of a retry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RetryOn {
    /// The connection could not be made.
    pub connect: bool,
    /// Closed before a complete response head.
    pub reset: bool,
    /// No response head in time.
    pub timeout: bool,
    /// Statuses of the answer, sorted, inclusive ranges.
    pub statuses: Vec<(u16, u16)>,
}
