//! `[listener.NAME]`: addresses, protocol, who may connect, limits and timeouts.

use std::time::Duration;

use ipnet::IpNet;

use super::diagnostic::Report;
use super::names::Names;
use super::value::{Fields, Value};
use crate::model::address::Address;
use crate::model::name::{ListenerName, PoolName};
use crate::model::units::ByteSize;

/// A name with one or more bound addresses and a protocol.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// Its name.
    pub name: ListenerName,
    /// Addresses, at least one; `[::]` binds v6 only.
    pub bind: Vec<Address>,
    /// The mode of its unix sockets.
    pub unix_mode: u32,
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
    /// What connections of a tcp listener get when no endpoint accepts.
    pub when_empty: WhenEmpty,
}

/// What new connections get when no endpoint of the pool and its failover accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenEmpty {
    /// They are reset.
    Reset,
    /// They wait for one.
    Hold {
        /// For so long, then they are reset.
        time: Duration,
        /// So many at once; the others are reset.
        max: u32,
    },
    /// None is accepted: after 3 s without any the listening socket closes.
    StopListening,
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
    /// Datagrams, all to one pool.
    Udp {
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
#[derive(Debug, Clone, PartialEq)]
pub struct ListenerLimits {
    /// Bytes of a whole request head (431).
    pub head: ByteSize,
    /// Fields of a request head or trailer section (431).
    pub fields: usize,
    /// Bytes of a request target (414).
    pub target: ByteSize,
    /// Bytes of chunk extensions in one request body (400).
    pub chunk_extensions: ByteSize,
    /// Bytes that are still read of a client after its last answer.
    pub linger: ByteSize,
    /// Connections that wait to be accepted, for each worker.
    pub backlog: u16,
    /// Bytes of a datagram, either way.
    pub udp_datagram: ByteSize,
    /// Datagrams of the endpoint after which a udp session ends; 0 is no limit.
    pub udp_answers: u32,
}

/// `timeouts` of a listener; none is infinite.
#[derive(Debug, Clone, PartialEq)]
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
    /// How long is read of a client after its last answer.
    pub linger: Duration,
    /// A udp session without a datagram either way.
    pub udp_idle: Duration,
}

impl Listener {
    /// Reads a section `[listener.NAME]` that lies over its base; nothing when something of it was reported.
    pub(super) fn read(name: &str, fields: &Fields, pools: &Names, report: &mut Report) -> Option<Self> {
        fields.require(&format!("[listener.{name}]"), report);
        let protocol = protocol(name, fields, pools, report);
        let limits = ListenerLimits::read(&fields.table("limits")?, report);
        Some(Self {
            name: ListenerName::new(name).ok()?,
            bind: read_bind(name, fields, report),
            unix_mode: u32::from_str_radix(fields.get("unix_mode")?, 8).ok()?,
            protocol: protocol?,
            trusted_proxies: fields.plain_list("trusted_proxies"),
            client_address: ClientAddress::ALL
                .into_iter()
                .find(|a| fields.is_word("client_address", a.word()))?,
            max_connections: fields.get("max_connections")?,
            max_connections_per_source: fields.get("max_connections_per_source")?,
            allow: fields.plain_list("allow"),
            deny: fields.plain_list("deny"),
            freebind: fields.get("freebind")?,
            limits: limits?,
            timeouts: ListenerTimeouts::read(&fields.table("timeouts")?)?,
            when_empty: WhenEmpty::read(name, fields, report)?,
        })
    }
}

impl WhenEmpty {
    fn read(listener: &str, fields: &Fields, report: &mut Report) -> Option<Self> {
        let why = if fields.is_word("protocol", "http") {
            Some(format!("the http listener `{listener}` answers 503 itself"))
        } else if fields.is_word("protocol", "udp") {
            Some(format!("the udp listener `{listener}` has no connections to answer"))
        } else {
            None
        };
        if let Some(why) = why {
            if let Some(field) = fields.own("when_empty") {
                let message = format!("`when_empty` has no use: {why}");
                report.error(field.key_span, message, "remove it, or write protocol = \"tcp\"");
            }
            return Some(Self::Reset);
        }
        match fields.table("when_empty") {
            Some(table) => Some(Self::Hold { time: table.get("hold")?, max: table.get("max")? }),
            None if fields.is_word("when_empty", "stop_listening") => Some(Self::StopListening),
            None => Some(Self::Reset),
        }
    }
}

fn read_bind(name: &str, fields: &Fields, report: &mut Report) -> Vec<Address> {
    let bind = fields.list::<Address>("bind");
    for (address, span) in bind.iter().filter(|_| fields.is_word("protocol", "udp")) {
        if let Address::Unix(_) = address {
            let message = format!("the udp listener `{name}` cannot have a unix socket");
            report.error(*span, message, "write an IP address with a port");
        }
    }
    bind.into_iter().map(|(address, _)| address).collect()
}

fn protocol(name: &str, fields: &Fields, pools: &Names, report: &mut Report) -> Option<Protocol> {
    let pool = fields.get::<String>("pool");
    if fields.is_word("protocol", "http") {
        // A protocol that was misspelt, or is not supported yet, may well be one that has a pool.
        let known =
            !matches!(fields.written("protocol"), Some(field) if matches!(field.item.value, Value::Invalid));
        if let Some(field) = fields.written("pool").filter(|_| known) {
            let help = match &pool {
                Some(pool) => {
                    format!("remove it and add [[route]] pool = \"{pool}\", or write protocol = \"tcp\"")
                }
                None => "remove it and add a [[route]], or write protocol = \"tcp\"".to_owned(),
            };
            report.error(
                field.key_span,
                format!("the http listener `{name}` cannot have a pool: routes choose it"),
                help,
            );
        }
        return Some(Protocol::Http);
    }
    let is_udp = fields.is_word("protocol", "udp");
    let Some(pool) = pool else {
        if !fields.has("pool") {
            let (word, what) = if is_udp { ("udp", "datagrams") } else { ("tcp", "connections") };
            let message = format!("the {word} listener `{name}` has no `pool`");
            report.error(
                fields.span,
                message,
                format!("add pool = \"NAME\", the pool that its {what} go to"),
            );
        }
        return None;
    };
    pools.check(&pool, fields.span_of("pool"), report);
    let pool = PoolName::new(&pool).ok()?;
    Some(if is_udp { Protocol::Udp { pool } } else { Protocol::Tcp { pool } })
}

impl ClientAddress {
    const ALL: [Self; 4] = [Self::XForwardedFor, Self::Forwarded, Self::CfConnectingIp, Self::XRealIp];

    /// Its word in a configuration, which is the field's name.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::Forwarded => "forwarded",
            Self::CfConnectingIp => "cf-connecting-ip",
            Self::XRealIp => "x-real-ip",
        }
    }
}

impl ListenerLimits {
    fn read(fields: &Fields, report: &mut Report) -> Option<Self> {
        let limits = Self {
            head: fields.get("head")?,
            fields: fields.get("fields")?,
            target: fields.get("target")?,
            chunk_extensions: fields.get("chunk_extensions")?,
            linger: fields.get("linger")?,
            backlog: fields.get("backlog")?,
            udp_datagram: fields.get("udp_datagram")?,
            udp_answers: fields.get("udp_answers")?,
        };
        if limits.target > limits.head {
            let span = fields.span_of(if fields.has("target") { "target" } else { "head" });
            let message = format!(
                "`target` ({}) is larger than `head` ({}), which it is part of",
                limits.target, limits.head
            );
            report.error(
                span,
                message,
                format!("write target = \"{}\" or less, or a larger head", limits.head),
            );
            return None;
        }
        Some(limits)
    }
}

impl ListenerTimeouts {
    fn read(fields: &Fields) -> Option<Self> {
        Some(Self {
            request_header: fields.get("request_header")?,
            keep_alive: fields.get("keep_alive")?,
            client_idle: fields.get("client_idle")?,
            tcp_keepalive: fields.get("tcp_keepalive")?,
            tcp_user_timeout: fields.get("tcp_user_timeout")?,
            linger: fields.get("linger")?,
            udp_idle: fields.get("udp_idle")?,
        })
    }
}
