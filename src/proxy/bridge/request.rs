//! A request that came as a map of fields: checked once for everything that would mean something else in another
//! protocol (RFC 9113 sections 8.2 and 8.3), and shown to routes and policies.

use std::net::IpAddr;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;

use crate::model::host::split_authority;
use crate::model::method::Method;
use crate::model::request::RequestView;
use crate::proxy::error::Refusal;
use crate::proxy::http1::fields::{Kind, parse_length};
use crate::proxy::http1::head::{Framing, Limits};

/// A request in neutral form.
#[derive(Debug)]
pub struct Request {
    /// Method, target and fields, without those that are for one connection alone.
    pub parts: Parts,
    /// The method, recognized.
    pub method: Method,
    /// How the end of its body is known; [`Framing::Chunked`] is whatever comes until the client ends it.
    pub framing: Framing,
    /// `Expect: 100-continue`, and a body to wait for it.
    pub expects_continue: bool,
    /// It asks for a tunnel in which WebSocket is spoken (RFC 8441).
    pub websocket: bool,
    /// The client's address after trust has been applied.
    pub source: IpAddr,
    /// `http` or `https`.
    pub scheme: &'static str,
}

impl Request {
    /// A request of which nothing has been looked at yet; `source` is the other end of its connection.
    #[must_use]
    pub fn new(parts: Parts, scheme: &'static str, source: IpAddr) -> Self {
        let method = Method::from_bytes(parts.method.as_str().as_bytes());
        Self {
            parts,
            method,
            framing: Framing::None,
            expects_continue: false,
            websocket: false,
            source,
            scheme,
        }
    }

    /// Checks it and settles how its body ends; `ended` says that none follows, `protocol` is what an extended CONNECT asks
    /// for.
    ///
    /// # Errors
    /// [`Refusal`] says what is wrong with it.
    pub fn settle(&mut self, limits: &Limits, ended: bool, protocol: Option<&str>) -> Result<(), Refusal> {
        self.check_method(protocol)?;
        self.check_target(limits)?;
        self.check_fields(limits)?;
        self.check_host()?;
        let length = self.content_length()?;
        self.framing = match (ended, length) {
            (true, _) => Framing::None,
            (false, Some(length)) => Framing::Length(length),
            (false, None) => Framing::Chunked,
        };
        if self.websocket && length.is_some() {
            return Err(Refusal::Malformed("a tunnel has no Content-Length"));
        }
        if let Some(expect) = self.parts.headers.get(header::EXPECT) {
            if !expect.as_bytes().eq_ignore_ascii_case(b"100-continue") {
                return Err(Refusal::Expectation);
            }
            self.expects_continue = !ended;
        }
        join_cookies(&mut self.parts.headers);
        Ok(())
    }

    fn check_method(&mut self, protocol: Option<&str>) -> Result<(), Refusal> {
        match (self.method, protocol) {
            (Method::Connect, Some(protocol)) if protocol.eq_ignore_ascii_case("websocket") => {
                self.websocket = true;
                // As which it would have come over HTTP/1: routes and policies see the same request either way.
                self.method = Method::Get;
                Ok(())
            }
            (Method::Connect, Some(_)) => Err(Refusal::Protocol),
            (Method::Connect, None) => Err(Refusal::Connect),
            (Method::Trace, _) => Err(Refusal::Method),
            // With the right body it would be the preface of HTTP/2 (RFC 9113 section 3.4) where HTTP/1 is expected.
            (Method::Other, _) if self.parts.method.as_str() == "PRI" => Err(Refusal::Method),
            _ => Ok(()),
        }
    }

    fn check_target(&self, limits: &Limits) -> Result<(), Refusal> {
        if let Some(scheme) = self.parts.uri.scheme_str()
            && !matches!(scheme, "http" | "https")
        {
            return Err(Refusal::Malformed("the scheme is neither http nor https"));
        }
        let target = self.target();
        if target.len() > limits.target {
            return Err(Refusal::TargetTooLong);
        }
        if !target.iter().all(|&b| (0x21..=0x7e).contains(&b) && b != b'#') {
            return Err(Refusal::Malformed(
                "the request target has a character that must be percent-encoded",
            ));
        }
        match target {
            [b'/', ..] => Ok(()),
            b"*" if self.method == Method::Options => Ok(()),
            _ => Err(Refusal::Malformed("the path does not begin with a slash")),
        }
    }

    fn check_fields(&self, limits: &Limits) -> Result<(), Refusal> {
        let headers = &self.parts.headers;
        if headers.len() > limits.fields {
            return Err(Refusal::TooManyFields);
        }
        let mut size = self.parts.method.as_str().len() + self.target().len() + self.authority().len();
        for (name, value) in headers {
            size += name.as_str().len() + value.len() + FIELD_EXTRA;
            check_field(name, value)?;
        }
        if size > limits.head { Err(Refusal::HeadTooLarge) } else { Ok(()) }
    }

    fn check_host(&self) -> Result<(), Refusal> {
        let mut hosts = self.parts.headers.get_all(header::HOST).iter();
        let host = hosts.next().map(HeaderValue::as_bytes);
        if hosts.next().is_some() {
            return Err(Refusal::Malformed("Host is given twice"));
        }
        let named = self.parts.uri.authority().map(|a| a.as_str().as_bytes());
        if let (Some(host), Some(named)) = (host, named)
            && !host.eq_ignore_ascii_case(named)
        {
            return Err(Refusal::Malformed("Host and :authority name different hosts"));
        }
        match named.or(host) {
            None | Some([]) => Err(Refusal::Malformed("no host is named")),
            Some(authority) if split_authority(authority).is_none() => {
                Err(Refusal::Malformed("the host is not valid"))
            }
            Some(_) => Ok(()),
        }
    }

    fn content_length(&self) -> Result<Option<u64>, Refusal> {
        let mut lengths = self.parts.headers.get_all(header::CONTENT_LENGTH).iter();
        let Some(length) = lengths.next() else { return Ok(None) };
        if lengths.next().is_some() {
            return Err(Refusal::Malformed("Content-Length is given twice"));
        }
        parse_length(length.as_bytes()).map(Some).ok_or(Refusal::Malformed("Content-Length is no number"))
    }

    /// Its fields, each recognized.
    pub fn kinds(&self) -> impl Iterator<Item = (Kind, &[u8])> {
        self.parts.headers.iter().map(|(n, v)| (Kind::of(n.as_str().as_bytes()), v.as_bytes()))
    }
}

/// A path and query of which what may not stand in one (RFC 3986 section 3.3) is percent-encoded: HTTP/1 endpoints get
/// it as it came, but there is no way to say it here.
#[must_use]
pub fn path_and_query(target: Vec<u8>) -> Option<PathAndQuery> {
    let target = Bytes::from(target);
    if let Ok(valid) = PathAndQuery::from_maybe_shared(target.clone()) {
        return Some(valid);
    }
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = Vec::with_capacity(target.len() + 16);
    for &byte in &target {
        match byte {
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | 0x7f.. => {
                encoded.extend_from_slice(&[
                    b'%',
                    DIGITS[usize::from(byte >> 4)],
                    DIGITS[usize::from(byte & 15)],
                ]);
            }
            byte => encoded.push(byte),
        }
    }
    PathAndQuery::from_maybe_shared(Bytes::from(encoded)).ok()
}

/// What a field weighs beside its name and value: colon, space and the end of its line.
const FIELD_EXTRA: usize = 4;

/// A field that could be read as something else once it stands in a line (RFC 9113 section 8.2.1). Control characters,
/// upper case and colons the parser has refused already.
fn check_field(name: &HeaderName, value: &HeaderValue) -> Result<(), Refusal> {
    if memchr::memchr(b'"', name.as_str().as_bytes()).is_some() {
        return Err(Refusal::Malformed("a field name is no token"));
    }
    match value.as_bytes() {
        [b' ' | b'\t', ..] | [.., b' ' | b'\t'] => {
            Err(Refusal::Malformed("a field value has white space around it"))
        }
        _ => Ok(()),
    }
}

/// Cookies may come in crumbs (RFC 9113 section 8.2.3); everybody else knows but one field.
fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(header::COOKIE).iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else { return };
    let mut joined = first.as_bytes().to_vec();
    for crumb in std::iter::once(second).chain(crumbs) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb.as_bytes());
    }
    // Each part has been a valid value, and so is what lies between them.
    if let Ok(joined) = HeaderValue::from_maybe_shared(Bytes::from(joined)) {
        headers.insert(header::COOKIE, joined);
    }
}

impl RequestView for Request {
    fn method(&self) -> Method {
        self.method
    }

    fn method_bytes(&self) -> &[u8] {
        if self.websocket {
            return b"GET";
        }
        self.parts.method.as_str().as_bytes()
    }

    fn scheme(&self) -> &str {
        self.scheme
    }

    fn authority(&self) -> &[u8] {
        match self.parts.uri.authority() {
            Some(authority) => authority.as_str().as_bytes(),
            None => self.parts.headers.get(header::HOST).map(HeaderValue::as_bytes).unwrap_or_default(),
        }
    }

    fn path(&self) -> &[u8] {
        self.parts.uri.path().as_bytes()
    }

    fn query(&self) -> Option<&[u8]> {
        self.parts.uri.query().map(str::as_bytes)
    }

    fn target(&self) -> &[u8] {
        self.parts.uri.path_and_query().map(|p| p.as_str().as_bytes()).unwrap_or_default()
    }

    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.parts.headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
    }

    fn source(&self) -> IpAddr {
        self.source
    }

    fn field(&self, name: &str) -> Option<&[u8]> {
        self.parts.headers.get(name).map(HeaderValue::as_bytes)
    }
}

#[cfg(test)]
#[path = "request/tests.rs"]
mod tests;
