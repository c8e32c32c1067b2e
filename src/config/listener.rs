//! `[listener.NAME]`: addresses, protocol, who may connect, limits and timeouts.

use std::collections::HashSet;
use std::num::NonZero;
use std::time::Duration;

use ipnet::IpNet;

use super::admission;
use super::diagnostic::Report;
use super::gate::{ErrorPage, read_pages};
use super::names::Names;
use super::tls::Files;
use super::tls::served::ListenerTls;
use super::value::{Fields, Value};
use crate::model::address::Address;
use crate::model::forwarded::Family;
use crate::model::name::{ListenerName, PoolName};
use crate::model::units::{Bandwidth, ByteSize};
use crate::policy::admission::overload::Importance;
use crate::policy::identity::{Identity, NamedIn};

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
    /// Whom it believes who the client is: of PROXY headers its networks alone count.
    pub identity: Identity,
    /// In which fields endpoints are told of the client.
    pub forwarded: Family,
    /// Whether connections of those networks begin with a PROXY header.
    pub accept_proxy_protocol: bool,
    /// Connections at once.
    pub max_connections: usize,
    /// Connections at once of one source address; 0 is no limit.
    pub max_connections_per_source: usize,
    /// Networks that may connect; empty is all.
    pub allow: Vec<IpNet>,
    /// Networks that may not.
    pub deny: Vec<IpNet>,
    /// Pages in the place of errors.
    pub error_pages: Vec<ErrorPage>,
    /// Bind an address that is not yet here.
    pub freebind: bool,
    /// HTTP/2 in the clear by prior knowledge.
    pub h2c: bool,
    /// How much its traffic is worth when the process is overloaded.
    pub importance: Importance,
    /// Sizes.
    pub limits: ListenerLimits,
    /// Times.
    pub timeouts: ListenerTimeouts,
    /// What connections of a tcp listener get when no endpoint accepts.
    pub when_empty: WhenEmpty,
    /// TLS; nothing is none.
    pub tls: Option<ListenerTls>,
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
    /// Bytes, to one pool or by the name that a TLS client asks for.
    Tcp {
        /// The pool; nothing only where routes by `sni` serve the listener, and whom they do not take is reset.
        pool: Option<PoolName>,
    },
    /// Datagrams, all to one pool.
    Udp {
        /// The pool.
        pool: PoolName,
    },
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
    /// Bytes of a PROXY header.
    pub proxy_header: ByteSize,
    /// Bytes of a ClientHello that is looked into.
    pub client_hello: ByteSize,
    /// TLS handshakes at once.
    pub handshakes: usize,
    /// Connections that wait to be accepted, for each worker.
    pub backlog: u16,
    /// Bytes of a datagram, either way.
    pub udp_datagram: ByteSize,
    /// Datagrams of the endpoint after which a udp session ends; 0 is no limit.
    pub udp_answers: u32,
    /// Bytes that one connection may bring in a second; nothing is no limit.
    pub bandwidth_in: Option<Bandwidth>,
    /// Bytes that one connection may be sent in a second.
    pub bandwidth_out: Option<Bandwidth>,
    /// Connections of HTTP/2.
    pub http2: Http2Limits,
}

/// `limits.http2` of a listener: of one connection, rates in any second.
#[derive(Debug, Clone, PartialEq)]
pub struct Http2Limits {
    /// Requests at once.
    pub streams: u32,
    /// Bytes of one request body that have not gone on.
    pub stream_window: ByteSize,
    /// Bytes of all its request bodies that have not gone on.
    pub connection_window: ByteSize,
    /// Bytes of all its answers that are held for it.
    pub send_buffer: ByteSize,
    /// CONTINUATION frames of one head.
    pub continuations: u32,
    /// Requests cancelled before their answer.
    pub resets: u32,
    /// Streams that are reset for the client's mistakes.
    pub faults: u32,
    /// PING frames.
    pub pings: u32,
    /// SETTINGS frames.
    pub settings: u32,
    /// PRIORITY frames, and frames of unknown types.
    pub priorities: u32,
    /// Tiny WINDOW_UPDATE frames.
    pub window_updates: u32,
    /// DATA frames with little or nothing in them.
    pub empty_frames: u32,
}

/// `timeouts` of a listener; none is infinite.
#[derive(Debug, Clone, PartialEq)]
pub struct ListenerTimeouts {
    /// A whole TLS handshake, a PROXY header before it and a ClientHello that is looked into.
    pub tls_handshake: Duration,
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

/// What a listener may name and depends on.
#[derive(Clone, Copy)]
pub(super) struct Surroundings<'a> {
    /// Every pool.
    pub(super) pools: &'a Names,
    /// Files that it names.
    pub(super) files: Files<'a>,
    /// The listeners that routes by `sni` serve.
    pub(super) by_sni: &'a HashSet<String>,
}

impl Listener {
    /// Reads a section `[listener.NAME]` that lies over its base; nothing when something of it was reported.
    pub(super) fn read(
        name: &str,
        fields: &Fields,
        around: Surroundings<'_>,
        report: &mut Report,
    ) -> Option<Self> {
        fields.require(&format!("[listener.{name}]"), report);
        let protocol = protocol(name, fields, around, report);
        let is_http = fields.is_word("protocol", "http");
        let is_udp = fields.is_word("protocol", "udp");
        if is_udp {
            check_datagrams(name, fields, report);
        }
        let tls = fields.table("tls").filter(|_| !is_udp);
        let tls = tls.map(|tls| ListenerTls::read(name, &tls, is_http, around.files, report));
        let limits = ListenerLimits::read(&fields.table("limits")?, report);
        let error_pages = read_pages(fields, around.files, report);
        if let Some(field) = fields.own("error_pages").filter(|_| !is_http) {
            let message = format!("`error_pages` has no use: the listener `{name}` does not speak http");
            report.error(field.key_span, message, "remove it, or write protocol = \"http\"");
        }
        Some(Self {
            name: ListenerName::new(name).ok()?,
            bind: read_bind(name, fields, report),
            unix_mode: u32::from_str_radix(fields.get("unix_mode")?, 8).ok()?,
            protocol: protocol?,
            identity: identity(name, fields, report)?,
            forwarded: Family::ALL.into_iter().find(|f| fields.is_word("forwarded", f.word()))?,
            accept_proxy_protocol: fields.get("accept_proxy_protocol")?,
            max_connections: fields.get("max_connections")?,
            max_connections_per_source: fields.get("max_connections_per_source")?,
            allow: fields.plain_list("allow"),
            deny: fields.plain_list("deny"),
            error_pages: error_pages?,
            freebind: fields.get("freebind")?,
            h2c: h2c(name, fields, report)?,
            importance: admission::importance(fields)?,
            limits: limits?,
            timeouts: ListenerTimeouts::read(&fields.table("timeouts")?)?,
            when_empty: WhenEmpty::read(name, fields, around.by_sni.contains(name), report)?,
            tls: match tls {
                None => None,
                Some(read) => Some(read?),
            },
        })
    }
}

impl WhenEmpty {
    fn read(listener: &str, fields: &Fields, by_sni: bool, report: &mut Report) -> Option<Self> {
        if by_sni && fields.is_word("when_empty", "stop_listening") {
            let message = format!("`{listener}` cannot stop listening: it serves several pools, by `sni`");
            report.error(fields.span_of("when_empty"), message, "write \"reset\" or { hold = \"30s\" }");
        }
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

/// Reports what is written for a udp listener and can only be done with connections.
fn check_datagrams(listener: &str, fields: &Fields, report: &mut Report) {
    let tls = fields.own("tls").filter(|_| fields.table("tls").is_some());
    let proxied = fields.get::<bool>("accept_proxy_protocol") == Some(true);
    let proxied = fields.own("accept_proxy_protocol").filter(|_| proxied);
    let limits = fields.table("limits");
    let bandwidth = |key: &str| {
        let limits = limits.as_ref()?;
        limits.own(key).filter(|_| limits.get::<Bandwidth>(key).is_some())
    };
    let at_once = "has no connections, and drops what is too much for it";
    let why = [
        (tls, "passes packets on as they are"),
        (proxied, "takes clients by the packets' addresses"),
        (bandwidth("bandwidth_in"), at_once),
        (bandwidth("bandwidth_out"), at_once),
    ];
    for (field, why) in why {
        let Some(field) = field else { continue };
        let message = format!("`{}` has no use: the udp listener `{listener}` {why}", field.name);
        report.error(field.key_span, message, "remove it, or write protocol = \"tcp\"");
    }
}

/// Whom it believes. Hops are counted only where that can mean something.
fn identity(listener: &str, fields: &Fields, report: &mut Report) -> Option<Identity> {
    let trusted = fields.plain_list("trusted_proxies");
    let named_in = NamedIn::ALL.into_iter().find(|n| fields.is_word("client_address", n.word()))?;
    let hops = NonZero::new(fields.get::<u32>("trusted_hops")?);
    let introduced = fields.get::<bool>("accept_proxy_protocol") == Some(true);
    if let Some(field) =
        fields.own("client_address").filter(|_| named_in == NamedIn::ProxyHeader && !introduced)
    {
        let what = format!("`{listener}` takes no PROXY headers, so nobody names a client to it");
        report.error(field.key_span, what, "add accept_proxy_protocol = true, or name the field of requests");
    }
    let why = if !fields.is_word("protocol", "http") {
        Some((format!("`{listener}` reads no requests"), "remove it, or write protocol = \"http\""))
    } else if !named_in.is_list() {
        let why = format!("client_address = \"{}\" names one address, not a list of hops", named_in.word());
        Some((why, "remove it, or write client_address = \"x-forwarded-for\" or \"forwarded\""))
    } else if trusted.is_empty() {
        let help = "add trusted_proxies = [\"10.0.0.0/8\"], the networks of the nearest proxy; \"0.0.0.0/0\" and \"::/0\" \
                    believe everybody, which is right only where nobody can connect past the proxies";
        Some(("no peer is trusted to name any".to_owned(), help))
    } else {
        None
    };
    if let (Some((why, help)), Some(_), Some(field)) = (why, hops, fields.written("trusted_hops")) {
        // A base may well count hops for listeners that are not all http.
        if !field.inherited || fields.is_word("protocol", "http") {
            report.error(field.key_span, format!("`trusted_hops` has no use: {why}"), help);
        }
    }
    Some(Identity { trusted, named_in, hops: hops.filter(|_| fields.is_word("protocol", "http")) })
}

fn h2c(listener: &str, fields: &Fields, report: &mut Report) -> Option<bool> {
    if let Some(field) = fields.own("h2c").filter(|_| !fields.is_word("protocol", "http")) {
        let word = if fields.is_word("protocol", "udp") { "udp" } else { "tcp" };
        let message =
            format!("`h2c` has no use: the {word} listener `{listener}` passes on whatever is spoken");
        report.error(field.key_span, message, "remove it, or write protocol = \"http\"");
    }
    fields.get("h2c")
}

fn protocol(name: &str, fields: &Fields, around: Surroundings<'_>, report: &mut Report) -> Option<Protocol> {
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
        if !is_udp && !fields.has("pool") && around.by_sni.contains(name) {
            return Some(Protocol::Tcp { pool: None });
        }
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
    around.pools.check(&pool, fields.span_of("pool"), report);
    let pool = PoolName::new(&pool).ok()?;
    Some(if is_udp { Protocol::Udp { pool } } else { Protocol::Tcp { pool: Some(pool) } })
}

impl ListenerLimits {
    fn read(fields: &Fields, report: &mut Report) -> Option<Self> {
        let limits = Self {
            head: fields.get("head")?,
            fields: fields.get("fields")?,
            target: fields.get("target")?,
            chunk_extensions: fields.get("chunk_extensions")?,
            linger: fields.get("linger")?,
            proxy_header: fields.get("proxy_header")?,
            client_hello: fields.get("client_hello")?,
            handshakes: fields.get("handshakes")?,
            backlog: fields.get("backlog")?,
            udp_datagram: fields.get("udp_datagram")?,
            udp_answers: fields.get("udp_answers")?,
            bandwidth_in: fields.get("bandwidth_in"),
            bandwidth_out: fields.get("bandwidth_out"),
            http2: Http2Limits::read(&fields.table("http2")?)?,
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

impl Http2Limits {
    fn read(fields: &Fields) -> Option<Self> {
        Some(Self {
            streams: fields.get("streams")?,
            stream_window: fields.get("stream_window")?,
            connection_window: fields.get("connection_window")?,
            send_buffer: fields.get("send_buffer")?,
            continuations: fields.get("continuations")?,
            resets: fields.get("resets")?,
            faults: fields.get("faults")?,
            pings: fields.get("pings")?,
            settings: fields.get("settings")?,
            priorities: fields.get("priorities")?,
            window_updates: fields.get("window_updates")?,
            empty_frames: fields.get("empty_frames")?,
        })
    }
}

impl ListenerTimeouts {
    fn read(fields: &Fields) -> Option<Self> {
        Some(Self {
            tls_handshake: fields.get("tls_handshake")?,
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
