//! Heads as they go on: the fields that came, less what is dropped, plus what is set, copied range by range.

use std::io::Write;
use std::net::IpAddr;

use tokio::time::Instant;

use super::fields::{Field, Kind, list_elements};
use super::head::{Framing, RequestHead, ResponseHead, Version, is_h2c};
use crate::model::address::{UNIX_CLIENT, UNKNOWN_CLIENT};
use crate::model::field::{FieldEdits, HeadEdits};
use crate::model::forwarded::Family;
use crate::model::method::Method;
use crate::policy::traces::Traced;
use crate::proxy::buffer::Buffer;
use crate::proxy::forwarded;
use crate::proxy::phases::Altered;
use crate::runtime::tls::listener::ClientCertificate;

/// Everything that changes in a request head on its way to the endpoint.
#[derive(Debug, Clone, Copy)]
pub struct RequestEdits<'a> {
    /// Edits of the route.
    pub route: &'a FieldEdits,
    /// What changes in this request alone.
    pub altered: &'a Altered<'a>,
    /// The other end of the client's connection.
    pub peer: IpAddr,
    /// The client's address after trust has been applied.
    pub source: IpAddr,
    /// Whether what the peer says of the client is believed.
    pub trusted: bool,
    /// In which fields the endpoint is told of the client.
    pub family: Family,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// What is said of the client's certificate.
    pub told: Told<'a>,
    /// The value of `X-Request-Id`.
    pub request_id: &'a [u8],
    /// The trace that it belongs to; nothing where the fields of traces are like any other.
    pub trace: Option<&'a Traced>,
    /// When the time is over that the client of a gRPC call has given for it.
    pub deadline: Option<Instant>,
}

impl RequestEdits<'_> {
    /// Everything that changes in its fields.
    #[must_use]
    pub fn head(&self) -> HeadEdits<'_> {
        self.altered.request(self.route)
    }
}

/// What an endpoint is told of the client's certificate.
#[derive(Debug, Clone, Copy, Default)]
pub enum Told<'a> {
    /// Nothing by us; what a trusted peer says goes on.
    #[default]
    Nothing,
    /// Which one it has shown, if any; whatever the peer says is left out.
    Certificate(Option<&'a ClientCertificate>),
}

/// What changes in a response head on its way to the client.
#[derive(Debug, Clone, Copy)]
pub struct ResponseEdits<'a> {
    /// What changes in its fields.
    pub head: HeadEdits<'a>,
    /// The client's version.
    pub client: Version,
    /// Whether the client's connection closes after this answer.
    pub close: bool,
    /// How the body goes on.
    pub framing: Framing,
}

pub(super) fn put_field(out: &mut Buffer, name: &[u8], value: &[u8]) {
    out.put(name);
    out.put(b": ");
    out.put(value);
    out.put(b"\r\n");
}

pub(super) fn put_own(out: &mut Buffer, edits: HeadEdits<'_>, name: &'static [u8], value: &[u8]) {
    if edits.is_empty() || !edits.drops(name) {
        put_field(out, name, value);
    }
}

pub(super) fn put_edits(out: &mut Buffer, edits: HeadEdits<'_>) {
    if edits.is_empty() {
        return;
    }
    for (name, value) in edits.given() {
        put_field(out, name.as_bytes(), value);
    }
}

/// An address as text, without allocating; of a client that has none the word for that (RFC 7239 section 6.2).
struct AddressText {
    bytes: [u8; 48],
    length: usize,
}

impl AddressText {
    fn new(address: IpAddr) -> Self {
        let mut bytes = [0u8; 48];
        let mut rest = bytes.as_mut_slice();
        let written = match address == UNIX_CLIENT.ip() {
            true => write!(rest, "{UNKNOWN_CLIENT}"),
            false => write!(rest, "{}", address.to_canonical()),
        };
        debug_assert!(written.is_ok(), "an address has at most 39 characters");
        let length = 48 - rest.len();
        Self { bytes, length }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Writes a request head for an HTTP/1.1 endpoint.
pub fn put_request(out: &mut Buffer, bytes: &[u8], head: &RequestHead, edits: &RequestEdits<'_>) {
    out.put(head.method_span.get(bytes));
    out.put(b" ");
    put_target(out, bytes, head, edits);
    out.put(b" HTTP/1.1\r\n");
    let own = edits.head();
    put_own(out, own, b"Host", edits.altered.authority().unwrap_or_else(|| head.authority.get(bytes)));
    let plain = own.is_empty();
    for field in &head.fields {
        let (name, value) = (field.name.get(bytes), field.value.get(bytes));
        if request_field_goes_on(field.kind, head, edits) && (plain || !own.drops(name)) {
            put_field(out, name, value);
        } else if field.kind == Kind::MaxForwards {
            put_max_forwards(out, head.method, name, value);
        }
    }
    if head.upgrade {
        put_upgrade(out, bytes, &head.fields);
    }
    let given = || head.fields.iter().map(|f| (f.kind, f.value.get(bytes)));
    put_forwarded(out, head.authority.get(bytes), edits, given);
    if let Told::Certificate(Some(client)) = edits.told {
        put_own(out, own, b"X-Client-Cert-Subject", client.subject.as_bytes());
        put_own(out, own, b"X-Client-Cert-SHA256", client.sha256.as_bytes());
    }
    put_own(out, own, b"X-Request-Id", edits.request_id);
    if let Some(trace) = edits.trace {
        put_own(out, own, b"traceparent", &trace.parent.text());
    }
    put_edits(out, own);
    out.put(b"\r\n");
}

fn put_target(out: &mut Buffer, bytes: &[u8], head: &RequestHead, edits: &RequestEdits<'_>) {
    if let Some(target) = edits.altered.target() {
        return out.put(target);
    }
    match (head.path.get(bytes), head.method) {
        // An absolute target without a path (RFC 9112 section 3.2.4 for OPTIONS).
        ([], Method::Options) if head.query.is_none() => out.put(b"*"),
        ([], _) => out.put(b"/"),
        (path, _) => out.put(path),
    }
    if let Some(query) = head.query {
        out.put(b"?");
        out.put(query.get(bytes));
    }
}

fn request_field_goes_on(kind: Kind, head: &RequestHead, edits: &RequestEdits<'_>) -> bool {
    match kind {
        Kind::Other | Kind::Accept | Kind::ContentLength | Kind::TransferEncoding => true,
        Kind::Expect => head.expects_continue,
        Kind::Forwarded
        | Kind::XForwardedFor
        | Kind::XForwardedProto
        | Kind::XForwardedHost
        | Kind::XRealIp
        | Kind::CfConnectingIp
        | Kind::ClientClaim => edits.trusted && forwarded::stays(kind, edits.family),
        Kind::ClientCertificate => edits.trusted && matches!(edits.told, Told::Nothing),
        Kind::TraceParent => edits.trace.is_none(),
        Kind::TraceState => edits.trace.is_none_or(|trace| trace.keeps_state),
        _ => false,
    }
}

/// Counts down for the two methods that it is for (RFC 9110 section 7.6.2); zero was answered before.
pub(super) fn put_max_forwards(out: &mut Buffer, method: Method, name: &[u8], value: &[u8]) {
    let hops = std::str::from_utf8(value).ok().and_then(|text| text.parse::<u64>().ok());
    match (method, hops) {
        (Method::Options | Method::Trace, Some(hops)) => {
            put_field(out, name, itoa::Buffer::new().format(hops.saturating_sub(1)).as_bytes());
        }
        _ => put_field(out, name, value),
    }
}

fn put_upgrade(out: &mut Buffer, bytes: &[u8], fields: &[Field]) {
    out.put(b"Connection: Upgrade\r\nUpgrade: ");
    let protocols =
        fields.iter().filter(|f| f.kind == Kind::Upgrade).flat_map(|f| list_elements(f.value.get(bytes)));
    for (i, protocol) in protocols.filter(|p| !is_h2c(p)).enumerate() {
        if i > 0 {
            out.put(b", ");
        }
        out.put(protocol);
    }
    out.put(b"\r\n");
}

/// Writes who the client is; `given` is what came with the request, read only where that is believed.
pub(super) fn put_forwarded<'f, F: Iterator<Item = (Kind, &'f [u8])>>(
    out: &mut Buffer,
    authority: &[u8],
    edits: &RequestEdits<'_>,
    given: impl Fn() -> F,
) {
    let own = edits.head();
    if edits.family.has_standard() {
        put_own(out, own, b"Forwarded", &forwarded::standard(edits, authority, given()));
    }
    if !edits.family.has_x() {
        return;
    }
    let peer = AddressText::new(edits.peer);
    let has = |kind: Kind| edits.trusted && given().any(|(k, _)| k == kind);
    if own.is_empty() || !own.drops(b"X-Forwarded-For") {
        out.put(b"X-Forwarded-For: ");
        if edits.trusted {
            for (_, value) in given().filter(|(k, v)| *k == Kind::XForwardedFor && !v.is_empty()) {
                out.put(value);
                out.put(b", ");
            }
        }
        out.put(peer.as_bytes());
        out.put(b"\r\n");
    }
    if !has(Kind::XForwardedProto) {
        put_own(out, own, b"X-Forwarded-Proto", edits.scheme.as_bytes());
    }
    if !has(Kind::XForwardedHost) && !authority.is_empty() {
        put_own(out, own, b"X-Forwarded-Host", authority);
    }
    if edits.source == UNIX_CLIENT.ip() {
        // It would be no address.
    } else if edits.source == edits.peer {
        put_own(out, own, b"X-Real-IP", peer.as_bytes());
    } else {
        put_own(out, own, b"X-Real-IP", AddressText::new(edits.source).as_bytes());
    }
}

/// Writes a response head for an HTTP/1 client.
pub fn put_response(out: &mut Buffer, bytes: &[u8], head: &ResponseHead, edits: &ResponseEdits<'_>) {
    put_status_line(out, head.status, head.reason.get(bytes));
    let interim = head.status < 200;
    let plain = edits.head.is_empty();
    for field in &head.fields {
        let goes_on = match field.kind {
            Kind::HopByHop
            | Kind::LookAlike
            | Kind::Connection
            | Kind::KeepAlive
            | Kind::TransferEncoding => false,
            // RFC 9110 section 8.6; beside chunked it would be a second framing.
            Kind::ContentLength => {
                !interim
                    && head.status != 204
                    && !matches!(edits.framing, Framing::Chunked | Framing::UntilClose)
            }
            // Of these two alone the client is to learn what the endpoint would switch to.
            Kind::Upgrade => head.status == 101 || head.status == 426,
            _ => true,
        };
        let name = field.name.get(bytes);
        if goes_on && (plain || interim || !edits.head.drops(name)) {
            put_field(out, name, field.value.get(bytes));
        }
    }
    if edits.framing == Framing::Chunked {
        out.put(b"Transfer-Encoding: chunked\r\n");
    }
    // Whoever sends Upgrade names it in Connection (RFC 9110 section 7.8).
    match (head.status, edits.close, edits.client) {
        (101, ..) => out.put(b"Connection: Upgrade\r\n"),
        (100..=199, ..) => {}
        (426, true, _) => out.put(b"Connection: close, Upgrade\r\n"),
        (426, false, Version::Http10) => out.put(b"Connection: keep-alive, Upgrade\r\n"),
        (426, false, Version::Http11) => out.put(b"Connection: Upgrade\r\n"),
        (_, true, _) => out.put(b"Connection: close\r\n"),
        (_, false, Version::Http10) => out.put(b"Connection: keep-alive\r\n"),
        _ => {}
    }
    if !interim {
        put_edits(out, edits.head);
    }
    out.put(b"\r\n");
}

pub(super) fn put_status_line(out: &mut Buffer, status: u16, reason: &[u8]) {
    out.put(b"HTTP/1.1 ");
    out.put(itoa::Buffer::new().format(status).as_bytes());
    out.put(b" ");
    out.put(reason);
    out.put(b"\r\n");
}

/// Writes a whole answer of our own.
pub fn put_own_response(
    out: &mut Buffer,
    own: &crate::proxy::respond::Own,
    edits: HeadEdits<'_>,
    to_head: bool,
    close: bool,
    client: Version,
) {
    put_status_line(out, own.status, own.reason().as_bytes());
    for (name, value) in own.all_fields() {
        if !edits.drops(name.as_bytes()) {
            put_field(out, name.as_bytes(), value);
        }
    }
    if own.status != 204 && own.status != 304 {
        put_field(out, b"Content-Length", itoa::Buffer::new().format(own.body.len()).as_bytes());
    }
    match (close, client) {
        (true, _) => out.put(b"Connection: close\r\n"),
        (false, Version::Http10) => out.put(b"Connection: keep-alive\r\n"),
        _ => {}
    }
    put_edits(out, edits);
    out.put(b"\r\n");
    if !to_head && own.status != 204 && own.status != 304 {
        out.put(&own.body);
    }
}

#[cfg(test)]
#[path = "encode/tests.rs"]
mod tests;
