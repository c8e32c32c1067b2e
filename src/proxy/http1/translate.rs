//! Heads between the neutral form, a map of fields, and HTTP/1: a request on its way to an endpoint, an answer on its way
//! back. Both have been checked before; nothing here can be read as anything else.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::response::Parts;
use http::uri::{Authority, Scheme, Uri};
use http::{Response, StatusCode};

use super::encode::{
    self, RequestEdits, Told, put_edits, put_field, put_forwarded, put_max_forwards, put_own,
};
use super::exchange;
use super::fields::{Field, Kind, list_elements, may_trail, parse_length};
use super::head::{Framing, ResponseHead};
use crate::model::method::Method;
use crate::model::request::RequestView;
use crate::proxy::bridge::request::{Request, path_and_query};
use crate::proxy::buffer::Buffer;
use crate::proxy::error::Error;
use crate::proxy::forwarded;

/// Writes the head of a request for an HTTP/1.1 endpoint; `key` is that of a WebSocket handshake.
pub(super) fn put_request(out: &mut Buffer, request: &Request, edits: &RequestEdits<'_>, key: Option<&[u8]>) {
    out.put(request.method_bytes());
    out.put(b" ");
    match edits.altered.target() {
        Some(target) => out.put(target),
        None => {
            out.put(request.path());
            if let Some(query) = request.query() {
                out.put(b"?");
                out.put(query);
            }
        }
    }
    out.put(b" HTTP/1.1\r\n");
    let own = edits.head();
    put_own(out, own, b"Host", edits.altered.authority().unwrap_or_else(|| request.authority()));
    let plain = own.is_empty();
    for (name, value) in &request.parts.headers {
        let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
        let kind = Kind::of(name);
        if goes_on(kind, name, request, edits) && (plain || !own.drops(name)) {
            put_field(out, name, value);
        } else if kind == Kind::MaxForwards {
            put_max_forwards(out, request.method, name, value);
        }
    }
    put_framing(out, request);
    if let Some(key) = key {
        out.put(b"Connection: Upgrade\r\nUpgrade: websocket\r\n");
        put_field(out, b"Sec-WebSocket-Key", key);
    }
    put_forwarded(out, request.authority(), edits, || request.kinds());
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

fn goes_on(kind: Kind, name: &[u8], request: &Request, edits: &RequestEdits<'_>) -> bool {
    match kind {
        // Of a handshake of ours there is one key, and the client of HTTP/2 has none (RFC 8441 section 5).
        Kind::Other => !request.websocket || name != b"sec-websocket-key",
        Kind::Accept => true,
        Kind::Expect => request.expects_continue,
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

/// How the end of the body will be known (RFC 9112 section 6).
fn put_framing(out: &mut Buffer, request: &Request) {
    match request.framing {
        _ if request.websocket => {}
        Framing::Length(length) => {
            put_field(out, b"Content-Length", itoa::Buffer::new().format(length).as_bytes());
        }
        Framing::Chunked | Framing::UntilClose => out.put(b"Transfer-Encoding: chunked\r\n"),
        // Where a body would mean something its absence is said (RFC 9110 section 8.6).
        Framing::None if matches!(request.method, Method::Post | Method::Put | Method::Patch) => {
            out.put(b"Content-Length: 0\r\n");
        }
        Framing::None => {}
    }
}

/// Writes a trailer section and its empty line.
pub(super) fn put_trailers(out: &mut Buffer, trailers: &HeaderMap) {
    for (name, value) in trailers.iter().filter(|(name, _)| may_trail(name.as_str().as_bytes())) {
        put_field(out, name.as_str().as_bytes(), value.as_bytes());
    }
    out.put(b"\r\n");
}

/// A request of the engine's own in neutral form; nothing when its target is too long to be one.
pub(super) fn neutral(request: &exchange::Request) -> Option<Request> {
    let bytes = request.bytes.bytes();
    let head = &request.head;
    let mut parts = http::Request::new(()).into_parts().0;
    parts.method = http::Method::from_bytes(request.method_bytes()).ok()?;
    let authority = Authority::from_maybe_shared(Bytes::copy_from_slice(request.authority())).ok();
    parts.uri = target(request, authority.clone())?;
    parts.headers = HeaderMap::with_capacity(head.fields.len());
    // One copy of them all; the values are parts of it.
    let block = Bytes::copy_from_slice(bytes);
    for field in &head.fields {
        let goes_on = match field.kind {
            Kind::HopByHop => is_trailers(field, bytes),
            Kind::Host => authority.is_none(),
            Kind::LookAlike | Kind::Connection | Kind::KeepAlive => false,
            Kind::ContentLength | Kind::TransferEncoding | Kind::Upgrade => false,
            _ => true,
        };
        if goes_on {
            put(&mut parts.headers, &block, field).ok()?;
        }
    }
    let scheme = if request.scheme() == "https" { "https" } else { "http" };
    let mut neutral = Request::new(parts, scheme, request.source);
    neutral.method = head.method;
    neutral.framing = head.framing;
    neutral.expects_continue = head.expects_continue;
    neutral.websocket = asks_for_websocket(request);
    Some(neutral)
}

fn target(request: &exchange::Request, authority: Option<Authority>) -> Option<Uri> {
    let path = request.head.path.get(request.bytes.bytes());
    let mut target = match (path, request.head.method, request.query()) {
        // An absolute target without a path asks for the server as a whole (RFC 9113 section 8.3.1).
        ([], Method::Options, None) => b"*".to_vec(),
        _ => request.path().to_vec(),
    };
    if let Some(query) = request.query() {
        target.push(b'?');
        target.extend_from_slice(query);
    }
    let mut parts = http::uri::Parts::default();
    parts.path_and_query = Some(path_and_query(target)?);
    parts.scheme = authority.as_ref().map(|_| Scheme::HTTP);
    parts.authority = authority;
    Uri::from_parts(parts).ok()
}

/// `TE: trailers`, the one field for one connection alone that a stream may have too.
fn is_trailers(field: &Field, bytes: &[u8]) -> bool {
    field.name.get(bytes).eq_ignore_ascii_case(b"te")
        && list_elements(field.value.get(bytes)).any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
}

/// A handshake of RFC 6455 section 4.1, which is a GET.
pub(super) fn asks_for_websocket(request: &exchange::Request) -> bool {
    if !request.head.upgrade || request.head.method != Method::Get {
        return false;
    }
    let bytes = request.bytes.bytes();
    let upgrades = request.head.fields.iter().filter(|f| f.kind == Kind::Upgrade);
    let mut protocols = upgrades.flat_map(|f| list_elements(f.value.get(bytes)));
    request.field("sec-websocket-key").is_some()
        && protocols.any(|protocol| protocol.eq_ignore_ascii_case(b"websocket"))
}

/// `Content-Length` of an answer in neutral form.
pub(super) fn content_length(head: &Parts) -> Option<u64> {
    head.headers.get(header::CONTENT_LENGTH).and_then(|length| parse_length(length.as_bytes()))
}

/// Writes the start of an answer's head.
pub(super) fn put_status(out: &mut Buffer, status: StatusCode) {
    encode::put_status_line(out, status.as_u16(), status.canonical_reason().unwrap_or_default().as_bytes());
}

/// Writes the fields of an answer in neutral form, and those that say how its body ends.
pub(super) fn put_fields(out: &mut Buffer, head: &Parts, framing: Framing) {
    let status = head.status.as_u16();
    // Beside the head alone it says what there would be (RFC 9110 section 8.6).
    let kept_length = framing == Framing::None && status >= 200 && status != 204;
    for (name, value) in &head.headers {
        let goes_on = match Kind::of(name.as_str().as_bytes()) {
            Kind::HopByHop | Kind::LookAlike | Kind::Connection | Kind::KeepAlive => false,
            Kind::TransferEncoding | Kind::Upgrade => false,
            Kind::ContentLength => kept_length,
            _ => true,
        };
        if goes_on {
            put_field(out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    match framing {
        Framing::Length(length) => {
            put_field(out, b"Content-Length", itoa::Buffer::new().format(length).as_bytes());
        }
        Framing::Chunked => out.put(b"Transfer-Encoding: chunked\r\n"),
        Framing::None | Framing::UntilClose => {}
    }
}

/// The head of an answer in neutral form: without what is for one connection alone.
///
/// # Errors
/// [`Error::Answer`].
pub(super) fn response_parts(bytes: &[u8], head: &ResponseHead) -> Result<Parts, Error> {
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = StatusCode::from_u16(head.status)
        .map_err(|_| Error::Answer("its status is no three-digit number"))?;
    parts.headers = HeaderMap::with_capacity(head.fields.len());
    // One copy of them all; the values are parts of it.
    let block = Bytes::copy_from_slice(bytes);
    for field in head.fields.iter().filter(|field| answer_goes_on(field.kind, head)) {
        put(&mut parts.headers, &block, field)?;
    }
    Ok(parts)
}

fn answer_goes_on(kind: Kind, head: &ResponseHead) -> bool {
    match kind {
        Kind::HopByHop
        | Kind::LookAlike
        | Kind::Connection
        | Kind::KeepAlive
        | Kind::TransferEncoding
        | Kind::Upgrade => false,
        // RFC 9110 section 8.6; beside chunked it would be a second framing.
        Kind::ContentLength => {
            head.status >= 200
                && head.status != 204
                && !matches!(head.framing, Framing::Chunked | Framing::UntilClose)
        }
        _ => true,
    }
}

fn put(headers: &mut HeaderMap, block: &Bytes, field: &Field) -> Result<(), Error> {
    const INVALID: Error = Error::Answer("a field cannot be passed on");
    let name = HeaderName::from_bytes(field.name.get(block)).map_err(|_| INVALID)?;
    let value = block.slice_ref(field.value.get(block));
    headers.append(name, HeaderValue::from_maybe_shared(value).map_err(|_| INVALID)?);
    Ok(())
}

/// The fields of a trailer section that has been checked.
///
/// # Errors
/// [`Error::Answer`] when a field is none after all.
pub(super) fn trailers(section: &[u8]) -> Result<HeaderMap, Error> {
    const INVALID: Error = Error::Answer("its trailer section is malformed");
    let lines = memchr::memchr_iter(b'\n', section).count();
    let mut scratch = vec![httparse::EMPTY_HEADER; lines];
    let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(section, &mut scratch) else {
        return Err(INVALID);
    };
    let mut trailers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| INVALID)?;
        trailers.append(name, HeaderValue::from_bytes(field.value).map_err(|_| INVALID)?);
    }
    Ok(trailers)
}

/// What is left of an answer to a WebSocket handshake once it has been checked: 200, without the proof (RFC 8441
/// section 5).
///
/// # Errors
/// [`Error::Answer`] when the endpoint did not understand the handshake.
pub(super) fn switched(mut parts: Parts, named: bool, accept: &[u8]) -> Result<Parts, Error> {
    let proof = parts.headers.remove(header::SEC_WEBSOCKET_ACCEPT);
    if !named || proof.is_none_or(|proof| proof.as_bytes() != accept) {
        return Err(Error::Answer("its WebSocket handshake is not valid"));
    }
    parts.status = StatusCode::OK;
    Ok(parts)
}
