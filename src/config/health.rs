//! `[pool.NAME.health]`: what a probe asks, what a good answer is, and what a change means for live connections. How
//! results become a state is `policy::health`.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::diagnostic::Report;
use super::notify::program;
use super::pool::Endpoint;
use super::retry::merged;
use super::tls::{ClientTls, Files, Naming};
use super::value::{Fields, Value};
use crate::model::address::Address;
use crate::model::field::{FieldName, FieldValue};
use crate::model::units::Rate;
use crate::policy::health::{Damping, Settings};
use crate::route::{Pattern, ValuePattern};

/// Active probes of a pool.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    /// What is asked, and what a good answer is.
    pub check: Check,
    /// The port that is asked; nothing is the endpoint's.
    pub port: Option<u16>,
    /// Whether probes begin with the pool's PROXY header; nothing is where they go to the endpoint's own address.
    pub send_proxy: Option<bool>,
    /// How results become a state, and how often to ask.
    pub settings: Settings,
    /// What happens to live connections when the probe says no; nothing is nothing.
    pub on_demotion: Option<Closing>,
    /// What happens to live tcp connections and tunnels when the endpoint is not there; nothing is nothing.
    pub on_unreachable: Option<Closing>,
    /// The rate at which long-lived tcp sessions of the others end once an endpoint has returned; nothing is never.
    pub shed: Option<Rate>,
}

/// What a probe asks.
#[derive(Debug, Clone, PartialEq)]
pub enum Check {
    /// An HTTP/1.1 request.
    Http(HttpCheck),
    /// A connection, and bytes where there are any to send or to expect.
    Tcp {
        /// Sent once connected; may be empty.
        send: Vec<u8>,
        /// What must be in the first bytes of the answer.
        expect: Option<Expected>,
        /// TLS, or none.
        tls: Option<ClientTls>,
    },
    /// A datagram, and what is to come back.
    Udp {
        /// Sent; may be empty.
        send: Vec<u8>,
        /// What must be in the answer; nothing takes silence for a yes, since only a refusal is a sure no.
        expect: Option<Expected>,
    },
    /// A TLS handshake.
    Tls(ClientTls),
    /// `grpc.health.v1.Health/Check`, answered with SERVING.
    Grpc {
        /// The service; empty is the whole server.
        service: String,
        /// The authority; nothing is the address.
        host: Option<String>,
        /// TLS, or cleartext HTTP/2 by prior knowledge.
        tls: Option<ClientTls>,
    },
    /// A PostgreSQL start-up message, answered with a request to authenticate.
    Postgres {
        /// The user that is named.
        user: String,
        /// TLS after an SSLRequest, or none.
        tls: Option<ClientTls>,
    },
    /// A MySQL greeting, and where there is a user, a log-in that ends without an error.
    Mysql {
        /// The user that is named; nothing reads the greeting only.
        user: Option<String>,
        /// TLS after an SSLRequest, or none.
        tls: Option<ClientTls>,
    },
    /// A Redis that answers.
    Redis {
        /// Whether only a primary is good.
        primary: bool,
        /// TLS, or none.
        tls: Option<ClientTls>,
    },
    /// The line of HAProxy's agent-check.
    Agent {
        /// Sent once connected; may be empty.
        send: Vec<u8>,
    },
    /// A program; status 0 is good.
    Exec {
        /// The program by its absolute path, and its arguments.
        command: Vec<String>,
    },
}

/// An HTTP request and its good answers.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpCheck {
    /// Path and query.
    pub path: String,
    /// The method.
    pub method: String,
    /// The Host field; nothing is the address.
    pub host: Option<String>,
    /// Further fields.
    pub headers: Vec<(FieldName, FieldValue)>,
    /// Good statuses: sorted, inclusive ranges.
    pub expect_status: Vec<(u16, u16)>,
    /// What the body must match.
    pub expect_body: Option<Pattern>,
    /// TLS, or none.
    pub tls: Option<ClientTls>,
}

/// What must be in an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Expected {
    /// This text.
    Text(String),
    /// Something that this matches.
    Regex(Pattern),
}

/// How live connections of an endpoint end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closing {
    /// After so long.
    pub after: Duration,
    /// At this rate; nothing is all at once.
    pub rate: Option<Rate>,
}

/// Where the probes of one endpoint go, where that is not its own address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EndpointHealth {
    /// Another IP address.
    pub address: Option<std::net::IpAddr>,
    /// Another port.
    pub port: Option<u16>,
}

/// The default of `fast_interval`, where `interval` is not less.
const FAST: Duration = Duration::from_millis(500);

/// The keys that only some checks have.
const OF_CHECKS: [(&str, &[&str]); 14] = [
    ("path", &["http"]),
    ("method", &["http"]),
    ("host", &["http", "grpc"]),
    ("headers", &["http"]),
    ("expect_status", &["http"]),
    ("expect_body", &["http"]),
    ("port", &["http", "tcp", "udp", "tls", "grpc", "postgres", "mysql", "redis", "agent"]),
    ("send_proxy", &["http", "tcp", "tls", "grpc", "postgres", "mysql", "redis", "agent"]),
    ("tls", &["http", "tcp", "tls", "grpc", "postgres", "mysql", "redis"]),
    ("send", &["tcp", "udp", "agent"]),
    ("expect", &["tcp", "udp"]),
    ("service", &["grpc"]),
    ("user", &["postgres", "mysql"]),
    ("role", &["redis"]),
];

impl Health {
    /// Reads the key `health` of the pool `name`; nothing where there is none, or when something of it was reported.
    pub(super) fn read(
        name: &str,
        pool: &Fields,
        exclusive: bool,
        files: Files<'_>,
        report: &mut Report,
    ) -> Option<Self> {
        let fields = pool.table("health")?;
        let word: &'static str = fields.get("check")?;
        foreign_keys(&fields, word, report);
        let check = Check::read(word, name, (pool, &fields), files, report);
        agent_port(word, pool, &fields, report);
        let misspelt =
            pool.written("send_proxy").is_some_and(|field| matches!(field.item.value, Value::Invalid));
        if fields.get("send_proxy") == Some(true) && pool.is_word("send_proxy", "off") && !misspelt {
            let message = format!(
                "which PROXY header probes begin with is the pool `{name}`'s to say, and it has none"
            );
            report.error(
                fields.span_of("send_proxy"),
                message,
                "add send_proxy = \"v2\" to the pool, or remove it",
            );
        }
        if exclusive {
            tells_a_leader(word, pool, &fields, report);
        }
        let damped = !exclusive || fields.has("damping");
        let settings = read_settings(&fields, damped, report);
        let on_demotion = match fields.table("on_demotion") {
            None if exclusive && !fields.has("on_demotion") => {
                Some(Closing { after: Duration::ZERO, rate: None })
            }
            table => table.and_then(|table| Closing::read(&table)),
        };
        Some(Self {
            check: check?,
            port: fields.get("port"),
            send_proxy: fields.get("send_proxy"),
            settings: settings?,
            on_demotion,
            on_unreachable: fields.table("on_unreachable").and_then(|table| Closing::read(&table)),
            shed: fields.table("shed").and_then(|table| table.get("rate")),
        })
    }

    /// Where the probes of an endpoint of the pool go, whose traffic goes to `address`.
    #[must_use]
    pub fn target(&self, endpoint: &Endpoint, address: Address) -> Address {
        let (ip, port) = (endpoint.health.address, endpoint.health.port.or(self.port));
        let beside = match address {
            Address::Ip(address) => address,
            // Beside a unix socket this machine is asked, where a port says that it is to be.
            Address::Unix(_) => match port {
                Some(port) => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port),
                None => return address,
            },
        };
        SocketAddr::new(ip.unwrap_or_else(|| beside.ip()), port.unwrap_or_else(|| beside.port())).into()
    }
}

/// Reports keys that the check does not have; what a layer below brought for another check is left aside.
fn foreign_keys(fields: &Fields, check: &str, report: &mut Report) {
    let others = OF_CHECKS.into_iter().chain([("command", &["exec"] as &[&str])]);
    for (name, checks) in others {
        let Some(field) = fields.own(name).filter(|_| !checks.contains(&check)) else { continue };
        let message = format!("`{name}` has no meaning for check = \"{check}\"");
        let words: Vec<String> = checks.iter().map(|check| format!("\"{check}\"")).collect();
        let help = match words.split_last() {
            Some((last, [])) => format!("remove it; it is for {last}"),
            Some((last, first)) => format!("remove it; it is for {} and {last}", first.join(", ")),
            None => "remove it".to_owned(),
        };
        report.error(field.key_span, message, help);
    }
}

/// An agent listens beside its endpoint, so it needs a port of its own.
fn agent_port(check: &str, pool: &Fields, fields: &Fields, report: &mut Report) {
    let endpoints = pool.list::<Fields>("endpoints");
    let own_port = |fields: &Fields| fields.table("health").is_some_and(|health| health.has("port"));
    if check == "agent" && !fields.has("port") && !endpoints.iter().all(|(endpoint, _)| own_port(endpoint)) {
        let message = "check = \"agent\" needs `port`, on which the agent of every endpoint listens";
        report.error(
            fields.span_of("check"),
            message,
            "add port = 9777, or health = { port = 9777 } to each endpoint",
        );
    }
}

/// Reports a check of an exclusive pool that every healthy member would pass.
fn tells_a_leader(check: &str, pool: &Fields, fields: &Fields, report: &mut Report) {
    let help = match check {
        "redis" if !fields.is_word("role", "primary") => "write role = \"primary\"",
        "tcp" | "udp" if !fields.has("expect") => {
            "add send and expect, or ask a health API with check = \"http\""
        }
        "tls" | "postgres" | "mysql" | "agent" => {
            "ask a health API with check = \"http\", or a program with check = \"exec\""
        }
        _ => "",
    };
    if !help.is_empty() {
        let message =
            format!("check = \"{check}\" cannot tell who leads: all would, and an exclusive pool needs one");
        report.error(
            fields.span_of(if check == "redis" && fields.has("role") { "role" } else { "check" }),
            message,
            help,
        );
    }
    if let (Some(field), false) = (pool.written("exclusive_rank"), check == "http") {
        let message = "`exclusive_rank` needs check = \"http\", in whose answer the number is";
        report.error(field.key_span, message, "remove it: without it, who was promoted last leads");
    }
}

fn read_settings(fields: &Fields, damped: bool, report: &mut Report) -> Option<Settings> {
    let interval: Duration = fields.get("interval")?;
    let damping = fields.table("damping").filter(|_| damped).and_then(|table| read_damping(&table, report));
    Some(Settings {
        rise: fields.get("rise")?,
        fall: fields.get("fall")?,
        interval,
        fast_interval: fields.get("fast_interval").unwrap_or_else(|| interval.min(FAST)),
        down_interval: fields.get("down_interval").unwrap_or(interval),
        timeout: fields.get("timeout")?,
        jitter: fields.get("jitter")?,
        damping,
    })
}

fn read_damping(fields: &Fields, report: &mut Report) -> Option<Damping> {
    let damping = Damping {
        half_life: fields.get("half_life")?,
        suppress: fields.get("suppress")?,
        reuse: fields.get("reuse")?,
        max_time: fields.get("max_time")?,
    };
    if damping.reuse >= damping.suppress {
        let span = fields.span_of(if fields.has("reuse") { "reuse" } else { "suppress" });
        let (reuse, suppress) = (damping.reuse, damping.suppress);
        let message = format!("`reuse` ({reuse}) must be under `suppress` ({suppress})");
        report.error(span, message, "write for example suppress = 3.0 and reuse = 1.0");
    }
    Some(damping)
}

impl Check {
    fn read(
        word: &str,
        pool: &str,
        (of_pool, fields): (&Fields, &Fields),
        files: Files<'_>,
        report: &mut Report,
    ) -> Option<Self> {
        let tls = tls_of_probe(of_pool, fields);
        let mut tls = || tls.as_ref().map(|tls| read_tls(tls, fields, files, report));
        match word {
            "http" => {
                let tls = tls();
                HttpCheck::read(fields, tls.flatten()).map(Self::Http)
            }
            "tls" => match tls() {
                None => Some(Self::Tls(ClientTls::default())),
                Some(tls) => tls.map(Self::Tls),
            },
            "grpc" => {
                let tls = tls().flatten();
                Some(Self::Grpc { service: fields.get("service")?, host: fields.get("host"), tls })
            }
            "redis" => {
                let tls = tls().flatten();
                Some(Self::Redis { primary: fields.is_word("role", "primary"), tls })
            }
            "tcp" => {
                let tls = tls().flatten();
                Some(Self::Tcp { send: read_send(fields), expect: read_expect(fields), tls })
            }
            "udp" => Some(Self::Udp { send: read_send(fields), expect: read_expect(fields) }),
            "agent" => Some(Self::Agent { send: read_send(fields) }),
            "postgres" => {
                let tls = tls().flatten();
                Some(Self::Postgres {
                    user: fields.get("user").unwrap_or_else(|| "plimsoll".to_owned()),
                    tls,
                })
            }
            "mysql" => {
                let tls = tls().flatten();
                Some(Self::Mysql { user: fields.get("user"), tls })
            }
            _ => {
                if !fields.has("command") {
                    let message = format!("check = \"exec\" of pool `{pool}` has no `command`");
                    report.error(fields.span, message, "add command = [\"/usr/local/bin/probe\"]");
                }
                program(fields, "command", report).map(|command| Self::Exec { command })
            }
        }
    }

    /// Its TLS, where it has some.
    #[must_use]
    pub const fn tls(&self) -> Option<&ClientTls> {
        match self {
            Self::Tls(tls) => Some(tls),
            Self::Http(http) => http.tls.as_ref(),
            Self::Tcp { tls, .. }
            | Self::Grpc { tls, .. }
            | Self::Postgres { tls, .. }
            | Self::Mysql { tls, .. }
            | Self::Redis { tls, .. } => tls.as_ref(),
            Self::Udp { .. } | Self::Agent { .. } | Self::Exec { .. } => None,
        }
    }

    /// Its word in a configuration.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::Tcp { .. } => "tcp",
            Self::Udp { .. } => "udp",
            Self::Tls(_) => "tls",
            Self::Grpc { .. } => "grpc",
            Self::Postgres { .. } => "postgres",
            Self::Mysql { .. } => "mysql",
            Self::Redis { .. } => "redis",
            Self::Agent { .. } => "agent",
            Self::Exec { .. } => "exec",
        }
    }
}

/// What is said of a probe's TLS: its own over the pool's, or the pool's alone.
fn tls_of_probe(pool: &Fields, health: &Fields) -> Option<Fields> {
    let of_pool = pool.table("tls");
    if !health.has("tls") {
        return of_pool;
    }
    let own = health.table("tls")?;
    Some(match &of_pool {
        Some(of_pool) => ClientTls::over(own, of_pool),
        None => own,
    })
}

/// Reads it. A probe has no client whose request could name a host: its own request does.
fn read_tls(tls: &Fields, health: &Fields, files: Files<'_>, report: &mut Report) -> Option<ClientTls> {
    let mut read = ClientTls::read(tls, files, report)?;
    if read.server_name == Naming::Host {
        let host = health.get::<String>("host").filter(|_| has_key("host", health));
        let Some(host) = host else {
            let message = "a probe has no request whose host `server_name = \"{host}\"` could ask for";
            let help =
                "add health = { tls = { server_name = \"...\" } }, or a host to a probe that is a request";
            report.error(tls.span_of("server_name"), message, help);
            return None;
        };
        read.server_name = Naming::Fixed(without_port(&host).to_owned());
    }
    Some(read)
}

/// Whether a key has a meaning for the check.
fn has_key(name: &str, health: &Fields) -> bool {
    let checks = OF_CHECKS.iter().find(|(key, _)| *key == name).map_or(&[] as &[&str], |(_, checks)| checks);
    checks.iter().any(|check| health.is_word("check", check))
}

/// A host that may be written with a port, without it.
fn without_port(host: &str) -> &str {
    let bare = host.rsplit_once(':').map_or(host, |(bare, port)| {
        if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) { bare } else { host }
    });
    bare.strip_prefix('[').and_then(|bare| bare.strip_suffix(']')).unwrap_or(bare)
}

fn read_send(fields: &Fields) -> Vec<u8> {
    fields.get("send").map_or_else(Vec::new, String::into_bytes)
}

fn read_expect(fields: &Fields) -> Option<Expected> {
    Some(match fields.get("expect")? {
        ValuePattern::Exact(text) => Expected::Text(text),
        ValuePattern::Regex(regex) => Expected::Regex(regex),
    })
}

impl HttpCheck {
    fn read(fields: &Fields, tls: Option<ClientTls>) -> Option<Self> {
        let headers = fields.map("headers").into_iter();
        Some(Self {
            path: fields.get("path")?,
            method: fields.get("method")?,
            host: fields.get("host"),
            headers: headers.map(|(name, value, _)| (name, value)).collect(),
            expect_status: merged(fields.plain_list("expect_status")),
            expect_body: fields.get("expect_body"),
            tls,
        })
    }
}

impl Closing {
    fn read(fields: &Fields) -> Option<Self> {
        Some(Self { after: fields.get("close_after")?, rate: fields.get("rate") })
    }
}

impl EndpointHealth {
    /// Reads the key `health` of an endpoint.
    pub(super) fn read(fields: &Fields) -> Self {
        let Some(fields) = fields.table("health") else { return Self::default() };
        Self { address: fields.get("address"), port: fields.get("port") }
    }
}

/// Whether a pool says of `health` that there is some, rightly or not.
pub(super) fn is_written(pool: &Fields) -> bool {
    pool.written("health").is_some_and(|field| !matches!(field.item.value, Value::Word(_)))
}
