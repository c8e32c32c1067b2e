//! `[listener.NAME]`: addresses, protocol, who may connect, limits and timeouts.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::model::name::{ListenerName, PoolName};
use crate::model::units::ByteSize;

/// A name with one or more bound addresses and a protocol.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Its name.
    pub name: ListenerName,
    /// Addresses, at least one; `[::]` binds v6 only.
    pub bind: Vec<SocketAddr>,
    /// What is spoken on it.
    pub protocol: Protocol,
    /// Networks whose forwarded headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Which header a trusted peer names the client in.
    pub client_address: ClientAddress,
    /// Connections at once.
    pub max_connections: usize,
    /// Connections at once of one source address; 0 is no limit.
    pub max_connections_per_source: usize,
    /// Networks that may connect; empty is all.
    pub allow: Vec<IpNet>,
    /// Networks that may not.
    pub deny: Vec<IpNet>,
    /// Bind an address that is not yet here.
    pub freebind: bool,
    /// Sizes.
    pub limits: ListenerLimits,
    /// Times.
    pub timeouts: ListenerTimeouts,
}

/// What a listener speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0 and HTTP/1.1, sent on by routes.
    Http,
    /// Bytes, all to one pool.
    Tcp {
        /// The pool.
        pool: PoolName,
    },
}

/// The header in which a trusted peer names the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAddress {
    /// `X-Forwarded-For`, walked from the right.
    XForwardedFor,
    /// `Forwarded` (RFC 7239), walked from the right.
    Forwarded,
    /// `CF-Connecting-IP`.
    CfConnectingIp,
    /// `X-Real-IP`.
    XRealIp,
}

/// `limits` of a listener.
#[derive(Debug, Clone)]
pub struct ListenerLimits {
    /// Bytes of a whole request head (431).
    pub head: ByteSize,
    /// Fields of a request head or trailer section (431).
    pub fields: usize,
    /// Bytes of a request target (414).
    pub target: ByteSize,
}

/// `timeouts` of a listener; none is infinite.
#[derive(Debug, Clone)]
pub struct ListenerTimeouts {
    /// A whole request head, from its first byte.
    pub request_header: Duration,
    /// Idle between requests.
    pub keep_alive: Duration,
    /// No progress while a body moves.
    pub client_idle: Duration,
    /// First keepalive probe of an idle connection.
    pub tcp_keepalive: Duration,
    /// Unacknowledged data to a client.
    pub tcp_user_timeout: Duration,
}
