//! The standard gRPC health check (`grpc.health.v1`): one unary `Check` call over HTTP/2.

use std::time::Duration;

use h2::RecvStream;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};

use super::Asked;
use super::http2::{self, broken};
use super::outcome::{Reading, shown};
use super::wire::{Notes, connect_over};
use crate::control::tls::TlsClient;
use crate::model::address::Address;

/// Bytes of an answer's message; the real one has two.
pub const MESSAGE_MAX: usize = 4 * 1024;

/// The first number that a serving status has in the protocol.
const SERVING: u64 = 1;

/// What is called.
pub(super) struct Call<'a> {
    /// The service that is asked for; empty is the server.
    pub(super) service: &'a str,
    /// The authority; nothing is the address.
    pub(super) host: Option<&'a str>,
    /// Told to the server as its limit.
    pub(super) timeout: Duration,
}

pub(super) async fn ask(
    call: &Call<'_>,
    tls: Option<&TlsClient>,
    address: Address,
    notes: &Notes,
) -> Asked<Reading> {
    let scheme = if tls.is_some() { "https" } else { "http" };
    let request = request(call, scheme, address)?;
    let wire = connect_over(tls, &[b"h2"], address, notes).await?;
    // One byte more than is read, so that what is too much is seen to be.
    let message = Some(message(call.service));
    http2::converse(wire, MESSAGE_MAX + 1, request, message, |answer| receive(answer, notes)).await
}

fn request(call: &Call<'_>, scheme: &str, address: Address) -> Asked<Request<()>> {
    let host = call.host.map_or_else(|| address.host(), ToOwned::to_owned);
    // At most eight digits are allowed.
    let milliseconds = call.timeout.as_millis().clamp(1, 99_999_999);
    Request::builder()
        .method(Method::POST)
        .uri(format!("{scheme}://{host}/grpc.health.v1.Health/Check"))
        .version(Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", format!("{milliseconds}m"))
        .header("user-agent", concat!("plimsoll-probe/", env!("CARGO_PKG_VERSION")))
        .body(())
        .map_err(|error| Reading::void(format!("the call cannot be made: {error}")))
}

async fn receive(answer: Response<RecvStream>, notes: &Notes) -> Asked<Reading> {
    let (head, mut body) = answer.into_parts();
    let mut message = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(|error| broken(&error))?;
        if message.len() + data.len() > MESSAGE_MAX {
            return Err(Reading::broken(format!("an answer of more than {MESSAGE_MAX} bytes")));
        }
        message.extend_from_slice(&data);
        // No capacity is given back: the window is the limit.
    }
    // The message says more to a reader than the frames around it.
    notes.answered_with(&message);
    let trailers = body.trailers().await.map_err(|error| broken(&error))?;
    Ok(judge(head.status, &head.headers, trailers.as_ref(), &message))
}

/// The status is in the trailers, or, where there is no message at all, in the head.
fn judge(status: StatusCode, head: &HeaderMap, trailers: Option<&HeaderMap>, message: &[u8]) -> Reading {
    if status != StatusCode::OK {
        return Reading::no(format!("HTTP status {}", status.as_u16()));
    }
    let field = |name| trailers.and_then(|fields| fields.get(name)).or_else(|| head.get(name));
    match field("grpc-status").map(|value| value.as_bytes()) {
        None => Reading::broken("an answer without grpc-status"),
        Some(b"0") => read(message),
        Some(code) => {
            let text = field("grpc-message").map_or(&b""[..], |value| value.as_bytes());
            Reading::no(format!("grpc-status {} {}", shown(code), shown(text)).trim_end().to_owned())
        }
    }
}

/// The request message: a prefix of 5 bytes, then `HealthCheckRequest { service = 1 }`.
#[must_use]
pub fn message(service: &str) -> Vec<u8> {
    let mut body = Vec::new();
    if !service.is_empty() {
        body.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            body.push(length as u8 | 0x80);
            length >>= 7;
        }
        body.push(length as u8);
        body.extend_from_slice(service.as_bytes());
    }
    let mut message = vec![0];
    message.extend_from_slice(&(body.len() as u32).to_be_bytes());
    message.extend_from_slice(&body);
    message
}

/// What an answer message means: `HealthCheckResponse { status = 1 }` behind its prefix. A field that is left out has its
/// default, which is UNKNOWN.
#[must_use]
pub fn read(message: &[u8]) -> Reading {
    let Some((&[compressed, a, b, c, d], body)) = message.split_first_chunk() else {
        return Reading::broken("an answer without a message");
    };
    if compressed != 0 || u32::from_be_bytes([a, b, c, d]) as usize != body.len() {
        return Reading::broken("a message that is compressed, or not of its length");
    }
    match serving_status(body) {
        None => Reading::broken("a message that is no HealthCheckResponse"),
        Some(SERVING) => Reading::good("SERVING"),
        Some(0) => Reading::no("UNKNOWN"),
        Some(2) => Reading::no("NOT_SERVING"),
        Some(3) => Reading::no("SERVICE_UNKNOWN"),
        Some(other) => Reading::no(format!("serving status {other}")),
    }
}

/// Field 1, the last one given counts; other fields are skipped, as protobuf wants.
fn serving_status(mut body: &[u8]) -> Option<u64> {
    let mut status = 0;
    while !body.is_empty() {
        let key = varint(&mut body)?;
        match (key >> 3, key & 7) {
            (0, _) => return None,
            (1, 0) => status = varint(&mut body)?,
            (_, 0) => drop(varint(&mut body)?),
            (_, 1) => body = body.get(8..)?,
            (_, 2) => {
                let length = usize::try_from(varint(&mut body)?).ok()?;
                body = body.get(length..)?;
            }
            (_, 5) => body = body.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::health::Verdict;

    #[test]
    fn the_request_is_the_bytes_of_the_protocol() {
        assert_eq!(message(""), [0, 0, 0, 0, 0]);
        assert_eq!(message("foo"), [0, 0, 0, 0, 5, 0x0a, 3, b'f', b'o', b'o']);
        let long = message(&"x".repeat(200));
        assert_eq!(long.get(..8), Some(&[0, 0, 0, 0, 203, 0x0a, 0xc8, 1][..]));
    }

    #[test]
    fn only_serving_is_good() {
        let verdict = |message: &[u8]| read(message).verdict;
        assert_eq!(verdict(&[0, 0, 0, 0, 2, 8, 1]), Verdict::Good);
        assert_eq!(verdict(&[0, 0, 0, 0, 0]), Verdict::SaysNo);
        assert_eq!(read(&[0, 0, 0, 0, 2, 8, 2]).what, "NOT_SERVING");
        assert_eq!(verdict(&[0, 0, 0, 0, 2, 8, 3]), Verdict::SaysNo);
        // Unknown fields of each wire type in front.
        let fields = [0x10, 0x96, 1, 0x1a, 1, b'x', 0x25, 0, 0, 0, 0, 0x29, 0, 0, 0, 0, 0, 0, 0, 0, 8, 1];
        let mut message = vec![0, 0, 0, 0, fields.len() as u8];
        message.extend_from_slice(&fields);
        assert_eq!(verdict(&message), Verdict::Good);
    }

    #[test]
    fn what_is_no_message_is_no_answer() {
        for message in [
            &b""[..],
            &[0, 0, 0, 0],
            &[1, 0, 0, 0, 2, 8, 1],
            &[0, 0, 0, 0, 3, 8, 1],
            &[0, 0, 0, 0, 1, 8],
            &[0, 0, 0, 0, 2, 0, 1],
            &[0, 0, 0, 0, 3, 0x12, 9, 1],
            &[0, 0, 0, 0, 11, 8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255],
        ] {
            assert_eq!(read(message).verdict, Verdict::CannotBeAsked, "{message:?}");
        }
    }

    #[test]
    fn the_status_is_in_the_trailers_or_in_the_head() {
        let fields = |code: &str| {
            let mut fields = HeaderMap::new();
            fields.insert("grpc-status", code.parse().expect("a value"));
            fields
        };
        let serving = [0, 0, 0, 0, 2, 8, 1];
        let none = HeaderMap::new();
        assert_eq!(judge(StatusCode::OK, &none, Some(&fields("0")), &serving).verdict, Verdict::Good);
        assert_eq!(judge(StatusCode::OK, &fields("12"), None, b"").what, "grpc-status 12");
        assert_eq!(judge(StatusCode::OK, &none, Some(&none), &serving).verdict, Verdict::CannotBeAsked);
        assert_eq!(judge(StatusCode::NOT_FOUND, &none, None, b"").verdict, Verdict::SaysNo);
    }
}
