//! The forms that a text can have: what is accepted, and for what is not, why and what to write. Those with variables in
//! them are `templates`'.

mod templates;

use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use regex::bytes::RegexBuilder;

use super::notify::Webhook;
use super::pool::HashKey;
use super::process::{AccessLog, AdminBind};
use super::retry::FailureCause;
use super::tree::quoted;
use super::value::Value;
use crate::model::address::{Address, AddressError, EndpointAddress, UNIX_CLIENT, parse_socket};
use crate::model::field::{FieldName, FieldValue, is_framing, is_token_byte};
use crate::model::grpc;
use crate::model::host::HostPattern;
use crate::model::limit_key::LimitPart;
use crate::model::method::Method;
use crate::model::name::PoolName;
use crate::model::units::{Bandwidth, Rate};
use crate::route::Pattern;

/// What a text must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Anything at all.
    Any,
    /// Anything that is not empty.
    Some,
    /// A name of a listener, route, pool or endpoint.
    Name,
    /// An address to bind.
    Bind,
    /// The same, or `unix:/path`.
    BindAny,
    /// An address or unix socket for the admin API.
    AdminBind,
    /// The address of an endpoint.
    Endpoint,
    /// The address of a DNS server.
    Resolver,
    /// A network in CIDR form.
    Network,
    /// A host, or `*.` and a host.
    Host,
    /// A host without a star.
    ExactHost,
    /// An absolute path of a URL.
    Path,
    /// A regular expression.
    Regex,
    /// A request method.
    Method,
    /// A field name.
    Field,
    /// A field name that an edit of a head may name.
    EditedField,
    /// As `EditedField`, and `Host`, which can be replaced but never removed or doubled.
    SetField,
    /// A field name of a probe's request, whose `Host` has a key of its own.
    ProbeField,
    /// A field value.
    FieldValue,
    /// Where a redirect leads, with variables.
    Location,
    /// A field value with variables, on the way to an endpoint.
    RequestValue,
    /// The same on the way to the client.
    ResponseValue,
    /// The body of an answer, with variables.
    Body,
    /// A path that takes the place of another, with variables.
    PathTemplate,
    /// A host that does.
    HostTemplate,
    /// A query, or the value of a parameter in it, that does; or is nothing.
    QueryTemplate,
    /// The name of a query parameter, decoded.
    Parameter,
    /// Statuses that a page is for.
    PageStatus,
    /// What counts as a failure.
    Cause,
    /// A status or a range of statuses.
    Statuses,
    /// An absolute path of a URL, with or without a query.
    PathAndQuery,
    /// A host with or without a port.
    Authority,
    /// An IP address.
    Ip,
    /// What a hash is made of.
    HashKey,
    /// What a table knows clients by.
    TableKey,
    /// A name of a cookie.
    CookieName,
    /// So many bytes in a second.
    Bandwidth,
    /// A part of the key of a limit.
    LimitKey,
    /// So many in a second, minute or hour.
    Rate,
    /// Where events are posted.
    Webhook,
    /// Where the access log goes.
    AccessLog,
}

/// Why a text does not have its form, and what to write.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) what: String,
    pub(super) write: String,
}

impl Fault {
    fn new(what: impl std::fmt::Display, write: impl Into<String>) -> Self {
        Self { what: format!("{what}"), write: write.into() }
    }
}

/// Most memory that one compiled regular expression may take.
const REGEX_BYTES_MAX: usize = 1 << 20;

impl Form {
    /// What the text is, for "must be ...".
    pub(super) const fn describe(self) -> &'static str {
        match self {
            Self::Any | Self::Some => "text",
            Self::Name => "a name",
            Self::Bind => "an address such as \"0.0.0.0:80\" or \"[::]:80\"",
            Self::BindAny => "an address such as \"0.0.0.0:80\" or \"[::]:80\", or \"unix:/path\"",
            Self::AdminBind => "a loopback address such as \"127.0.0.1:9900\", or \"unix:/path\"",
            Self::Endpoint => "an address such as \"10.0.0.1:8080\" or \"app.internal:8080\"",
            Self::Resolver => "the address of a DNS server such as \"127.0.0.1:53\"",
            Self::Network => "a network such as \"10.0.0.0/8\"",
            Self::Host => "a host such as \"example.com\" or \"*.example.com\"",
            Self::ExactHost => "a host such as \"example.com\"",
            Self::Path => "a path such as \"/v1\"",
            Self::Regex => "a regular expression",
            Self::Method => "a method such as \"GET\"",
            Self::Field | Self::EditedField | Self::SetField | Self::ProbeField => "a field name",
            Self::FieldValue | Self::RequestValue | Self::ResponseValue => "a field value",
            Self::Location => "a URL, with variables such as {host} put in",
            Self::Body => "text, with variables such as {host} put in",
            Self::PathTemplate => "a path such as \"/v1{path}\"",
            Self::HostTemplate => "a host such as \"app.internal\"",
            Self::QueryTemplate => "a query such as \"id={1}\"",
            Self::Parameter => "the name of a query parameter",
            Self::PageStatus => "a status such as \"503\", or a class such as \"5xx\"",
            Self::Cause => {
                "\"connect\", \"reset\", \"timeout\", a status or a range of statuses such as \"502-504\""
            }
            Self::Statuses => "a status or a range of statuses such as \"200-299\"",
            Self::PathAndQuery => "a path such as \"/health\"",
            Self::Authority => "a host such as \"example.com\", with or without a port",
            Self::Ip => "an IP address such as \"10.0.0.1\"",
            Self::HashKey => {
                "\"source\", \"header:NAME\", \"cookie:NAME\", \"query:NAME\", \"path\" or \"sni\""
            }
            Self::TableKey => "\"source\", \"header:NAME\", \"cookie:NAME\" or \"query:NAME\"",
            Self::CookieName => "a name of a cookie",
            Self::Bandwidth => "a size in a second such as \"1MiB/s\"",
            Self::LimitKey => LimitPart::FORMS,
            Self::Rate => "a rate such as \"5/s\"",
            Self::Webhook => "a URL such as \"https://hooks.internal/lb\"",
            Self::AccessLog => "\"off\", \"stdout\", \"stderr\" or a path",
        }
    }

    /// Reads a text of this form.
    pub(super) fn read(self, text: &str) -> Result<Value, Fault> {
        match self {
            Self::Any => Ok(Value::Text(text.to_owned())),
            Self::Some if text.is_empty() => Err(Fault::new("it is empty", "write at least one character")),
            Self::Some => Ok(Value::Text(text.to_owned())),
            Self::Name => name(text),
            Self::Bind => socket(text).map(Value::Socket),
            Self::BindAny => match text.strip_prefix("unix:") {
                Some(_) => Address::parse(text).map(Value::Address).map_err(|e| Fault::new(e, UNIX_HELP)),
                None => socket(text).map(|address| Value::Address(address.into())),
            },
            Self::AdminBind => admin_bind(text),
            Self::Endpoint => endpoint(text),
            Self::Resolver => resolver(text),
            Self::Network => network(text),
            Self::Host => HostPattern::parse(text).map(Value::Host).map_err(|e| Fault::new(e, HOST_HELP)),
            Self::ExactHost => exact_host(text),
            Self::Path => path(text),
            Self::Regex => regex(text).map(Value::Regex),
            Self::Method => method(text),
            Self::Field => FieldName::new(text).map(Value::Field).map_err(|e| Fault::new(e, FIELD_HELP)),
            Self::EditedField => edited_field(text, HOST_EDIT),
            Self::ProbeField => edited_field(text, Some("write it as the key `host`")),
            Self::SetField => edited_field(text, None),
            Self::FieldValue => FieldValue::new(text)
                .map(Value::FieldValue)
                .map_err(|e| Fault::new(e, "remove line breaks and other control characters")),
            Self::Location
            | Self::RequestValue
            | Self::ResponseValue
            | Self::Body
            | Self::PathTemplate
            | Self::HostTemplate
            | Self::QueryTemplate => templates::read(self, text),
            Self::Parameter => templates::parameter(text),
            Self::PageStatus => page_status(text),
            Self::Cause => cause(text),
            Self::Statuses => statuses(text, 100, 599)
                .map(|(first, last)| Value::Statuses(first, last))
                .ok_or_else(|| Fault::new("it is no status", "write for example \"200\" or \"200-299\"")),
            Self::PathAndQuery => path_and_query(text),
            Self::Authority => authority(text),
            Self::Ip => text.parse().map(Value::Ip).map_err(|_| {
                Fault::new("it is no IP address", "write for example \"10.0.0.1\" or \"fd00::1\"")
            }),
            Self::HashKey => hash_key(text),
            Self::TableKey => match text {
                "path" | "sni" => {
                    Err(Fault::new("it does not tell clients apart", format!("write {}", self.describe())))
                }
                _ => hash_key(text),
            },
            Self::CookieName => FieldName::new(text).map(Value::Field).map_err(|_| {
                Fault::new("a name of a cookie has letters, digits and !#$%&'*+-.^_`|~", COOKIE_HELP)
            }),
            Self::Bandwidth => Bandwidth::parse(text)
                .map(Value::Bandwidth)
                .map_err(|e| Fault::new(e, "write for example \"1MiB/s\"")),
            Self::LimitKey => LimitPart::parse(text)
                .map(Value::LimitPart)
                .map_err(|e| Fault::new(e, format!("write {}", LimitPart::FORMS))),
            Self::Rate => {
                Rate::parse(text).map(Value::Rate).map_err(|e| Fault::new(e, "write for example \"5/s\""))
            }
            Self::Webhook => {
                Webhook::parse(text).map(Value::Webhook).map_err(|what| Fault::new(what, WEBHOOK_HELP))
            }
            Self::AccessLog => access_log(text),
        }
    }
}

const HOST_HELP: &str = "write a host such as \"example.com\", or \"*.example.com\" for all below it";
const WEBHOOK_HELP: &str = "write for example \"https://hooks.internal/lb\"";
const HOST_EDIT: Option<&str> = Some("replace it with request_headers = { set = { host = \"...\" } }");
const COOKIE_HELP: &str = "write a name such as SRVID";
const FIELD_HELP: &str = "write a name such as x-request-id";
const UNIX_HELP: &str = "write for example \"unix:/run/plimsoll/web.sock\"";
const BIND_HELP: &str = "write \"ip:port\", such as \"0.0.0.0:80\" or \"[::]:80\"";

fn name(text: &str) -> Result<Value, Fault> {
    match PoolName::new(text) {
        Ok(_) => Ok(Value::Text(text.to_owned())),
        Err(e) => Err(Fault::new(e, "write a name of letters, digits and -_.:@[] with at most 128 of them")),
    }
}

fn socket(text: &str) -> Result<SocketAddr, Fault> {
    parse_socket(text).map_err(|error| {
        let help = match error {
            AddressError::Name => {
                "write the IP address to bind; \"0.0.0.0\" is all of IPv4, \"[::]\" all of IPv6"
            }
            _ => BIND_HELP,
        };
        Fault::new(error, help)
    })
}

fn admin_bind(text: &str) -> Result<Value, Fault> {
    if let Some(path) = text.strip_prefix("unix:") {
        if !path.starts_with('/') || path.contains('\0') {
            return Err(Fault::new(
                "the path is not absolute",
                "write for example \"unix:/run/plimsoll/admin.sock\"",
            ));
        }
        return Ok(Value::AdminBind(AdminBind::Unix(PathBuf::from(path))));
    }
    socket(text).map(|address| Value::AdminBind(AdminBind::Tcp(address)))
}

fn endpoint(text: &str) -> Result<Value, Fault> {
    EndpointAddress::parse(text).map(Value::Endpoint).map_err(|error| {
        let help = match error {
            AddressError::Service => {
                "write for example \"srv:_http._tcp.app.internal\"; its records bring the ports"
            }
            AddressError::Unix => "let the endpoint listen on a loopback address, such as \"127.0.0.1:8080\"",
            _ => "write \"ip:port\", such as \"10.0.0.1:8080\" or \"[fd00::1]:8080\", or \"host:port\"",
        };
        Fault::new(error, help)
    })
}

fn resolver(text: &str) -> Result<Value, Fault> {
    parse_socket(text).map(Value::Socket).map_err(|error| {
        Fault::new(error, "write the IP address and port of a DNS server, such as \"127.0.0.1:53\"")
    })
}

fn network(text: &str) -> Result<Value, Fault> {
    if text == "unix:" {
        return Ok(Value::Network(UNIX_CLIENT.ip().into()));
    }
    if let Ok(address) = text.parse::<std::net::IpAddr>() {
        return Err(Fault::new("it has no prefix length", format!("write \"{}\"", IpNet::from(address))));
    }
    match text.parse::<IpNet>() {
        Ok(network) if network.addr() == network.network() => Ok(Value::Network(network)),
        Ok(network) => {
            let what = format!("it has bits set behind its prefix of {}", network.prefix_len());
            Err(Fault::new(what, format!("write \"{}\"", network.trunc())))
        }
        Err(_) => {
            Err(Fault::new("it is no network", "write a network such as \"10.0.0.0/8\" or \"fd00::/8\""))
        }
    }
}

fn exact_host(text: &str) -> Result<Value, Fault> {
    match HostPattern::parse(text) {
        Ok(HostPattern::Exact(host)) => Ok(Value::Text(host.into())),
        Ok(HostPattern::Wildcard(_)) => {
            Err(Fault::new("a star is not possible here", "write each host in full"))
        }
        Err(e) => Err(Fault::new(e, "write a host such as \"lb1.internal\"")),
    }
}

fn path(text: &str) -> Result<Value, Fault> {
    if !text.starts_with('/') {
        return Err(Fault::new("a path starts with '/'", format!("write {:?}", format!("/{text}"))));
    }
    if let Some(c) = text.chars().find(|&c| !c.is_ascii_graphic()) {
        return Err(Fault::new(
            format!("a path cannot contain {c:?}"),
            "percent-encode it, as in \"/a%20b\"",
        ));
    }
    match text.find(['?', '#']) {
        Some(at) => {
            let start = text.get(..at).unwrap_or("/");
            Err(Fault::new(
                "a path has no query or fragment",
                format!("write {start:?}; the route's `query` looks at queries"),
            ))
        }
        None => Ok(Value::Text(text.to_owned())),
    }
}

/// Compiles a regular expression within a bound of memory.
pub(super) fn regex(text: &str) -> Result<Pattern, Fault> {
    RegexBuilder::new(text).size_limit(REGEX_BYTES_MAX).build().map(Pattern::from).map_err(|error| {
        let error = error.to_string();
        let reason = error.lines().find_map(|line| line.strip_prefix("error: "));
        let what = format!("it is no regular expression: {}", reason.unwrap_or(&error));
        Fault::new(what, "write for example \"^/u/[0-9]+$\"; look-around and back-references do not exist")
    })
}

fn method(text: &str) -> Result<Value, Fault> {
    let upper = text.to_ascii_uppercase();
    if upper != text && Method::from_bytes(upper.as_bytes()) != Method::Other {
        return Err(Fault::new("methods are case-sensitive", format!("write \"{upper}\"")));
    }
    if text.is_empty() || !text.bytes().all(is_token_byte) {
        return Err(Fault::new("it is no method", "write a method such as \"GET\""));
    }
    Ok(Value::Text(text.to_owned()))
}

/// A name that an edit may name; `host` says what to write in place of `Host` where that cannot be.
fn edited_field(text: &str, host: Option<&str>) -> Result<Value, Fault> {
    let name = FieldName::new(text).map_err(|e| Fault::new(e, FIELD_HELP))?;
    if is_framing(text) {
        return Err(Fault::new(
            "it frames the message or belongs to one connection, and is the proxy's",
            "remove it",
        ));
    }
    match host.filter(|_| name.matches(b"host")) {
        Some(help) => Err(Fault::new("there must be exactly one Host field", help)),
        None => Ok(Value::Field(name)),
    }
}

fn cause(text: &str) -> Result<Value, Fault> {
    if let Some(status) = grpc::status(text) {
        return Ok(Value::Cause(FailureCause::Statuses(status, status)));
    }
    match (text, statuses(text, 400, 599)) {
        ("connect", _) => Ok(Value::Cause(FailureCause::Connect)),
        ("reset", _) => Ok(Value::Cause(FailureCause::Reset)),
        ("timeout", _) => Ok(Value::Cause(FailureCause::Timeout)),
        (_, Some((first, last))) => Ok(Value::Cause(FailureCause::Statuses(first, last))),
        _ => Err(Fault::new(
            "it is no failure",
            "write \"connect\", \"reset\", \"timeout\", or statuses from 400 to 599 such as \"502\" or \"502-504\", or of gRPC such as \"grpc-unavailable\"",
        )),
    }
}

/// Statuses of errors: one, a range, or a class.
fn page_status(text: &str) -> Result<Value, Fault> {
    let class = match text {
        "4xx" => Some((400, 499)),
        "5xx" => Some((500, 599)),
        _ => statuses(text, 400, 599),
    };
    let (first, last) = class.ok_or_else(|| {
        Fault::new("it is no status of an error", "write for example \"503\", \"500-504\" or \"5xx\"")
    })?;
    Ok(Value::Statuses(first, last))
}

/// A status, or a range of them, within bounds.
fn statuses(text: &str, least: u16, most: u16) -> Option<(u16, u16)> {
    let status = |digits: &str| -> Option<u16> {
        let plain = digits.len() == 3 && digits.bytes().all(|b| b.is_ascii_digit());
        digits.parse().ok().filter(|n| plain && (least..=most).contains(n))
    };
    match text.split_once('-') {
        Some((first, last)) => status(first).zip(status(last)).filter(|(first, last)| first <= last),
        None => status(text).map(|n| (n, n)),
    }
}

fn path_and_query(text: &str) -> Result<Value, Fault> {
    if text.contains('#') {
        return Err(Fault::new("a fragment is not sent to a server", "remove all from the '#' on"));
    }
    path(text.split('?').next().unwrap_or(""))?;
    match text.chars().find(|c| !c.is_ascii_graphic()) {
        Some(c) => Err(Fault::new(format!("a query cannot contain {c:?}"), "percent-encode it")),
        None => Ok(Value::Text(text.to_owned())),
    }
}

fn authority(text: &str) -> Result<Value, Fault> {
    const HELP: &str = "write for example \"api.example.com\" or \"10.0.0.1:8080\"";
    let fits = |c: char| c.is_ascii_alphanumeric() || "-._~:[]".contains(c);
    match text.chars().find(|&c| !fits(c)) {
        _ if text.is_empty() => Err(Fault::new("it is empty", HELP)),
        Some(c) => Err(Fault::new(format!("a Host field cannot contain {c:?}"), HELP)),
        None => Ok(Value::Text(text.to_owned())),
    }
}

fn hash_key(text: &str) -> Result<Value, Fault> {
    let named = |name: &str, key: fn(String) -> HashKey| {
        if name.is_empty() || name.chars().any(|c| !c.is_ascii_graphic()) {
            return Err(Fault::new(
                "a name is missing behind the colon",
                "write for example \"cookie:session\"",
            ));
        }
        Ok(Value::HashKey(key(name.to_owned())))
    };
    match text.split_once(':') {
        None if text == "source" => Ok(Value::HashKey(HashKey::Source)),
        None if text == "path" => Ok(Value::HashKey(HashKey::Path)),
        None if text == "sni" => Ok(Value::HashKey(HashKey::Sni)),
        Some(("header", name)) => {
            let field = FieldName::new(name).map_err(|e| Fault::new(e, FIELD_HELP))?;
            Ok(Value::HashKey(HashKey::Header(field)))
        }
        Some(("cookie", name)) => named(name, HashKey::Cookie),
        Some(("query", name)) => named(name, HashKey::Query),
        _ => {
            Err(Fault::new("it is none of the possible keys", format!("write {}", Form::HashKey.describe())))
        }
    }
}

fn access_log(text: &str) -> Result<Value, Fault> {
    let log = match text {
        "off" => AccessLog::Off,
        "stdout" => AccessLog::Stdout,
        "stderr" => AccessLog::Stderr,
        path if path.contains('/') && !path.contains('\0') && !path.ends_with('/') => {
            AccessLog::File(PathBuf::from(path))
        }
        _ => {
            let what = format!("{} is neither one of the words nor a path", quoted(text));
            return Err(Fault::new(
                what,
                "write \"off\", \"stdout\", \"stderr\", or a path with a '/', such as \"./access.log\"",
            ));
        }
    };
    Ok(Value::AccessLog(log))
}
