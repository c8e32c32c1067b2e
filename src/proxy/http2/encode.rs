//! The head of a request for an HTTP/2 endpoint: the fields that came, less what is dropped, plus what is set.

use std::net::IpAddr;

use bytes::Bytes;
use h2::ext::Protocol;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, Scheme, Uri};
use http::{Method as HttpMethod, Request as HttpRequest, Version};

use tokio::time::Instant;

use crate::model::address::{UNIX_CLIENT, UNKNOWN_CLIENT};
use crate::model::field::HeadEdits;
use crate::model::grpc::timeout_text;
use crate::model::method::Method;
use crate::model::request::RequestView;
use crate::proxy::bridge::request::{Request, path_and_query};
use crate::proxy::forwarded;
use crate::proxy::http1::encode::{RequestEdits, Told};
use crate::proxy::http1::fields::Kind;
use crate::proxy::http1::head::Framing;

/// The request as it goes to an endpoint, `tls` where its connection is under TLS; nothing when its target cannot be said
/// in HTTP/2.
pub(super) fn request(request: &Request, edits: &RequestEdits<'_>, tls: bool) -> Option<HttpRequest<()>> {
    let mut message = HttpRequest::new(());
    *message.method_mut() =
        if request.websocket { HttpMethod::CONNECT } else { request.parts.method.clone() };
    let authority = Authority::from_maybe_shared(Bytes::copy_from_slice(
        edits.altered.authority().unwrap_or_else(|| request.authority()),
    ));
    // A client of HTTP/1.0 may have named none (RFC 9113 section 8.3.1).
    let named = authority.is_ok();
    *message.uri_mut() = uri(request, edits, authority.ok(), tls)?;
    *message.version_mut() = if named { Version::HTTP_2 } else { Version::HTTP_11 };
    if request.websocket {
        message.extensions_mut().insert(Protocol::from_static("websocket"));
    }
    *message.headers_mut() = fields(request, edits);
    Some(message)
}

fn uri(request: &Request, edits: &RequestEdits<'_>, authority: Option<Authority>, tls: bool) -> Option<Uri> {
    let target = edits.altered.target().unwrap_or_else(|| request.target()).to_vec();
    let mut parts = http::uri::Parts::default();
    parts.path_and_query = Some(path_and_query(target)?);
    if authority.is_some() {
        parts.scheme = Some(if tls { Scheme::HTTPS } else { Scheme::HTTP });
        parts.authority = authority;
    }
    Uri::from_parts(parts).ok()
}

fn fields(request: &Request, edits: &RequestEdits<'_>) -> HeaderMap {
    let own = edits.head();
    let came = &request.parts.headers;
    let mut fields = HeaderMap::with_capacity(came.len() + 8);
    for (name, value) in came {
        let kind = Kind::of(name.as_str().as_bytes());
        if goes_on(kind, name, request, edits) && !drops(own, name.as_str()) {
            fields.append(name.clone(), value.clone());
        } else if kind == Kind::MaxForwards {
            fields.append(name.clone(), max_forwards(request.method, value));
        } else if *name == header::TE && names_trailers(value) {
            // The one value that it may have here (RFC 9113 section 8.2.2).
            fields.insert(header::TE, HeaderValue::from_static("trailers"));
        }
    }
    if let Framing::Length(length) = request.framing
        && !request.websocket
    {
        fields.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    if let Some(deadline) = edits.deadline
        && fields.contains_key("grpc-timeout")
        && let Ok(left) =
            HeaderValue::try_from(timeout_text(deadline.saturating_duration_since(Instant::now())))
    {
        // What has passed here is gone there too.
        fields.insert("grpc-timeout", left);
    }
    put_forwarded(&mut fields, request, edits);
    if let Told::Certificate(Some(client)) = edits.told {
        put_own(&mut fields, own, "x-client-cert-subject", client.subject.as_bytes());
        put_own(&mut fields, own, "x-client-cert-sha256", client.sha256.as_bytes());
    }
    put_own(&mut fields, own, "x-request-id", edits.request_id);
    if let Some(trace) = edits.trace {
        put_own(&mut fields, own, "traceparent", &trace.parent.text());
    }
    for (name, value) in edits_of(own) {
        fields.append(name, value);
    }
    fields
}

fn drops(edits: HeadEdits<'_>, name: &str) -> bool {
    !edits.is_empty() && edits.drops(name.as_bytes())
}

fn goes_on(kind: Kind, name: &HeaderName, request: &Request, edits: &RequestEdits<'_>) -> bool {
    match kind {
        // The key is for HTTP/1 alone (RFC 8441 section 5).
        Kind::Other => !request.websocket || *name != header::SEC_WEBSOCKET_KEY,
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

fn names_trailers(value: &HeaderValue) -> bool {
    let codings = value.as_bytes().split(|&b| b == b',');
    codings.map(<[u8]>::trim_ascii).any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
}

/// Counts down for the method that it is for (RFC 9110 section 7.6.2); zero was answered before.
fn max_forwards(method: Method, value: &HeaderValue) -> HeaderValue {
    let hops = value.to_str().ok().and_then(|text| text.parse::<u64>().ok());
    match (method, hops) {
        (Method::Options, Some(hops)) => HeaderValue::from(hops.saturating_sub(1)),
        _ => value.clone(),
    }
}

fn edits_of(edits: HeadEdits<'_>) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    // Both have been checked by rules that are no wider than these.
    edits.given().filter_map(|(name, value)| {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        Some((name, HeaderValue::from_bytes(value).ok()?))
    })
}

fn put_own(fields: &mut HeaderMap, edits: HeadEdits<'_>, name: &'static str, value: &[u8]) {
    if !drops(edits, name)
        && let Ok(value) = HeaderValue::from_bytes(value)
    {
        fields.insert(HeaderName::from_static(name), value);
    }
}

fn put_forwarded(fields: &mut HeaderMap, request: &Request, edits: &RequestEdits<'_>) {
    let own = edits.head();
    if edits.family.has_standard() {
        let value = forwarded::standard(edits, request.authority(), request.kinds());
        put_own(fields, own, "forwarded", &value);
    }
    if !edits.family.has_x() {
        return;
    }
    let came = &request.parts.headers;
    let has = |name: &str| edits.trusted && came.contains_key(name);
    let address = |address: IpAddr| match address == UNIX_CLIENT.ip() {
        true => UNKNOWN_CLIENT.to_owned(),
        false => address.to_canonical().to_string(),
    };
    let mut chain = Vec::new();
    if edits.trusted {
        for value in came.get_all("x-forwarded-for").iter().filter(|value| !value.is_empty()) {
            chain.extend_from_slice(value.as_bytes());
            chain.extend_from_slice(b", ");
        }
    }
    chain.extend_from_slice(address(edits.peer).as_bytes());
    put_own(fields, own, "x-forwarded-for", &chain);
    if !has("x-forwarded-proto") {
        put_own(fields, own, "x-forwarded-proto", edits.scheme.as_bytes());
    }
    if !has("x-forwarded-host") && !request.authority().is_empty() {
        put_own(fields, own, "x-forwarded-host", request.authority());
    }
    if edits.source != UNIX_CLIENT.ip() {
        put_own(fields, own, "x-real-ip", address(edits.source).as_bytes());
    }
}

#[cfg(test)]
#[path = "encode/tests.rs"]
mod tests;
