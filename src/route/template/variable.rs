//! What a template can put in: each variable's name, and where its bytes come from.

use std::fmt;
use std::io::Write as _;
use std::net::IpAddr;

use regex::bytes::Captures;

use super::Facts;
use crate::model::address::{UNIX_CLIENT, UNKNOWN_CLIENT};
use crate::model::field::FieldName;
use crate::model::host::split_authority;
use crate::model::request::RequestView;
use crate::route::{cookie_values, query_values};

/// Something of a request, or of its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Variable {
    /// The client's address after trust.
    Client,
    /// The client's port.
    ClientPort,
    /// The other end of the connection.
    Peer,
    /// Host and, where it was sent, port.
    Host,
    /// The host without its port.
    Hostname,
    /// The path as sent, without the query.
    Path,
    /// The query, without its question mark.
    Query,
    /// The query behind its question mark; nothing where the request has none (the `{?query}` of RFC 6570 section 3.2.8).
    MarkedQuery,
    /// Path and query.
    Uri,
    /// `http` or `https`.
    Scheme,
    /// The method.
    Method,
    /// What the request is known by.
    RequestId,
    /// The route.
    Route,
    /// The pool.
    Pool,
    /// The endpoint.
    Endpoint,
    /// The listener.
    Listener,
    /// `TLSv1.2` or `TLSv1.3`.
    TlsVersion,
    /// The cipher suite.
    TlsCipher,
    /// The name that a TLS client asked for.
    Sni,
    /// The status of the answer.
    Status,
    /// The first value of a field of the request.
    Header(FieldName),
    /// The first cookie of this name.
    Cookie(Box<str>),
    /// The first query parameter of this name, undecoded.
    QueryParameter(Box<str>),
    /// A group of the regular expression, by number; 0 is all that matched.
    Group(usize),
    /// A group by name, until the expression is known.
    NamedGroup(Box<str>),
}

/// What is known of the bytes that a variable stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A part of a URL already: what must be encoded in it has been.
    Url,
    /// A parameter of a query, encoded likewise.
    Parameter,
    /// Any text.
    Text,
}

/// Variables that stand alone, by name.
const PLAIN: [(&str, Variable); 20] = [
    ("client", Variable::Client),
    ("client_port", Variable::ClientPort),
    ("peer", Variable::Peer),
    ("host", Variable::Host),
    ("hostname", Variable::Hostname),
    ("path", Variable::Path),
    ("query", Variable::Query),
    ("?query", Variable::MarkedQuery),
    ("uri", Variable::Uri),
    ("scheme", Variable::Scheme),
    ("method", Variable::Method),
    ("request_id", Variable::RequestId),
    ("route", Variable::Route),
    ("pool", Variable::Pool),
    ("endpoint", Variable::Endpoint),
    ("listener", Variable::Listener),
    ("tls_version", Variable::TlsVersion),
    ("tls_cipher", Variable::TlsCipher),
    ("sni", Variable::Sni),
    ("status", Variable::Status),
];

/// Variables that need a name behind a colon.
const NAMED: [&str; 4] = ["header", "cookie", "query", "group"];

/// The name that a text in braces at the start of `text` is, and what is behind it; nothing where the brace begins none.
pub(super) fn name_of(text: &str) -> Option<(&str, &str)> {
    let (name, behind) = text.strip_prefix('{')?.split_once('}')?;
    let fits = |c: char| c.is_ascii_graphic() && !matches!(c, '{' | '"' | '\'');
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric()) || name == "?query";
    (begins && name.chars().all(fits)).then_some((name, behind))
}

impl Variable {
    /// The names that there are, for whoever has written another one.
    pub fn names() -> impl Iterator<Item = &'static str> {
        PLAIN.iter().map(|(name, _)| *name).chain(NAMED)
    }

    /// The variable of a name, as it stands in braces.
    pub(super) fn parse(name: &str) -> Result<Self, super::TemplateError> {
        use super::TemplateError::{NameToo, NoName, Unknown};
        if let Some((_, known)) = PLAIN.iter().find(|(known, _)| *known == name) {
            return Ok(known.clone());
        }
        if let Some(number) = name.parse().ok().filter(|_| name.len() <= 2) {
            return Ok(Self::Group(number));
        }
        let (kind, which) = name.split_once(':').unwrap_or((name, ""));
        let named: fn(&str) -> Option<Self> = match kind {
            "header" => |which| FieldName::new(which).map(Self::Header).ok(),
            "cookie" => |which| FieldName::new(which).ok().map(|name| Self::Cookie(name.as_str().into())),
            "query" => |which| Some(Self::QueryParameter(which.into())),
            "group" => |which| Some(Self::NamedGroup(which.into())),
            _ if PLAIN.iter().any(|(known, _)| *known == kind) => return Err(NameToo(kind.to_owned())),
            _ => return Err(Unknown(name.to_owned())),
        };
        Some(which).filter(|which| !which.is_empty()).and_then(named).ok_or_else(|| NoName(kind.to_owned()))
    }

    /// What is known of its bytes.
    #[must_use]
    pub const fn class(&self) -> Class {
        match self {
            Self::Host | Self::Hostname | Self::Path | Self::Query | Self::MarkedQuery | Self::Uri => {
                Class::Url
            }
            Self::Scheme | Self::Group(_) | Self::NamedGroup(_) => Class::Url,
            Self::QueryParameter(_) => Class::Parameter,
            _ => Class::Text,
        }
    }

    /// Whether it is known only once an endpoint has been chosen or has answered.
    #[must_use]
    pub const fn is_of_answer(&self) -> bool {
        matches!(self, Self::Endpoint | Self::Status)
    }

    /// Gives `put` its bytes, piece by piece.
    pub(super) fn write<V: RequestView>(
        &self,
        request: &V,
        facts: &Facts<'_>,
        groups: Option<&Captures<'_>>,
        put: &mut dyn FnMut(&[u8]),
    ) {
        // What is shown of a request that nobody sent.
        let unknown = |known: bool, put: &mut dyn FnMut(&[u8])| {
            if facts.imagined && !known {
                put(format!("{{{self}}}").as_bytes());
            }
        };
        match self {
            Self::Client => put_address(request.source(), put),
            Self::Peer => put_address(facts.peer, put),
            Self::Host => put(request.authority()),
            Self::Hostname => put(split_authority(request.authority()).map_or(&[][..], |(host, _)| host)),
            Self::Path => put(request.path()),
            Self::Query => put(request.query().unwrap_or_default()),
            Self::MarkedQuery => put_query(request.query(), put),
            Self::Uri => {
                put(request.path());
                put_query(request.query(), put);
            }
            Self::Scheme => put(request.scheme().as_bytes()),
            Self::Method => put(request.method_bytes()),
            Self::RequestId => {
                put(facts.request_id);
                unknown(!facts.request_id.is_empty(), put);
            }
            Self::Route => put(facts.route.as_bytes()),
            Self::Listener => put(facts.listener.as_bytes()),
            Self::Header(name) => put(request.field(name.as_str()).unwrap_or_default()),
            Self::Cookie(name) => put(cookie_values(request, name).next().unwrap_or_default()),
            Self::QueryParameter(name) => {
                put(query_values(request.query(), name).next().unwrap_or_default());
            }
            Self::Group(number) => {
                put(groups.and_then(|groups| groups.get(*number)).map_or(&[][..], |group| group.as_bytes()));
            }
            Self::NamedGroup(name) => {
                put(groups.and_then(|groups| groups.name(name)).map_or(&[][..], |group| group.as_bytes()));
            }
            Self::ClientPort => match facts.client_port {
                Some(port) => put_shown(port, put),
                None => unknown(false, put),
            },
            Self::Status => match facts.status {
                Some(status) => put_shown(status, put),
                None => unknown(false, put),
            },
            Self::Pool | Self::Endpoint | Self::TlsVersion | Self::TlsCipher | Self::Sni => {
                let text = self.known(facts);
                put(text.unwrap_or_default().as_bytes());
                unknown(text.is_some(), put);
            }
        }
    }

    /// Those that are text which need not be there.
    fn known<'a>(&self, facts: &Facts<'a>) -> Option<&'a str> {
        match self {
            Self::Pool => facts.pool,
            Self::Endpoint => facts.endpoint,
            Self::TlsVersion => facts.tls.map(|tls| tls.version),
            Self::TlsCipher => facts.tls.map(|tls| tls.cipher),
            Self::Sni => facts.tls.and_then(|tls| tls.server_name),
            _ => None,
        }
    }
}

/// A query behind its question mark.
fn put_query(query: Option<&[u8]>, put: &mut dyn FnMut(&[u8])) {
    if let Some(query) = query {
        put(b"?");
        put(query);
    }
}

/// An address; of a client that has none the word for that (RFC 7239 section 6.2).
fn put_address(address: IpAddr, put: &mut dyn FnMut(&[u8])) {
    match address == UNIX_CLIENT.ip() {
        true => put(UNKNOWN_CLIENT.as_bytes()),
        false => put_shown(address.to_canonical(), put),
    }
}

/// Numbers and addresses as text, without allocating.
fn put_shown(shown: impl fmt::Display, put: &mut dyn FnMut(&[u8])) {
    let mut text = [0_u8; 48];
    let mut rest = text.as_mut_slice();
    let written = write!(rest, "{shown}");
    debug_assert!(written.is_ok(), "an address has at most 39 characters");
    let length = 48 - rest.len();
    put(text.get(..length).unwrap_or_default());
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header:{}", name.as_str()),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::QueryParameter(name) => write!(f, "query:{name}"),
            Self::Group(number) => write!(f, "{number}"),
            Self::NamedGroup(name) => write!(f, "group:{name}"),
            plain => f.write_str(PLAIN.iter().find(|(_, known)| known == plain).map_or("", |(name, _)| name)),
        }
    }
}
