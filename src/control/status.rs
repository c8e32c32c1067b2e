//! What the process says of itself when it is asked: plain values, read from live state at one moment.
//! How they are shown is `admin`'s (JSON) and `cli`'s (text).

use std::net::SocketAddr;
use std::time::SystemTime;

use crate::model::address::EndpointAddress;
use crate::model::name::{EndpointName, ListenerName, PoolName};

/// The whole process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Version of the build.
    pub version: &'static str,
    /// Snapshots published since the start.
    pub generation: u64,
    /// Hash of the configuration that runs.
    pub config_hash: u64,
    /// When the process started to proxy.
    pub started: SystemTime,
    /// No new work is taken; what is in flight finishes.
    pub draining: bool,
    /// Data-plane threads, in the order of their numbers.
    pub workers: Vec<WorkerStatus>,
    /// Listeners in the order of the file.
    pub listeners: Vec<ListenerStatus>,
    /// Pools in the order of the file.
    pub pools: Vec<PoolStatus>,
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
    /// Addresses that are bound, with the ports that the kernel chose.
    pub addresses: Vec<SocketAddr>,
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
    pub queue: u64,
    /// Requests (tcp: connections) that ended since the start.
    pub requests: u64,
    /// Attempts after the first one of a request, since the start.
    pub retries: u64,
    /// Endpoints in the order of the file.
    pub endpoints: Vec<EndpointStatus>,
}

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointStatus {
    /// Its name.
    pub name: EndpointName,
    /// Where it is.
    pub address: EndpointAddress,
    /// Weight in force.
    pub weight: u16,
    /// Priority group; 0 is used first.
    pub tier: u8,
    /// It may be picked now.
    pub usable: bool,
    /// Attempts (tcp: sessions) under way.
    pub in_flight: u64,
    /// Open connections that wait for use.
    pub idle_connections: u64,
    /// Attempts (tcp: sessions) since the start.
    pub requests: u64,
    /// Failed ones of these.
    pub failures: u64,
}

/// Whether this node can proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// It can.
    pub ready: bool,
    /// Why it cannot; empty when it can.
    pub reasons: Vec<String>,
}
