//! A request over HTTP/1.1 or HTTP/2, judged by the status and, where asked for, by the body.

use std::error::Error;
use std::io;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::Asked;
use super::expect::Expect;
use super::http2;
use super::outcome::Reading;
use super::wire::{Notes, Parting, Wire, connect_over};
use crate::control::tls::TlsClient;
use crate::model::address::Address;

/// Bytes of a body in which a pattern is looked for, or that hold the rank; the rest is not read.
pub const BODY_MAX: usize = 64 * 1024;

/// Bytes of an answer's head.
pub const HEAD_MAX: usize = 64 * 1024;

/// Who asks, unless the operator says otherwise.
const AGENT: &str = concat!("plimsoll-probe/", env!("CARGO_PKG_VERSION"));

/// A request, and the answer to it that is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Http {
    /// What is sent.
    pub request: RequestHead,
    /// Statuses that are wanted, inclusive ranges.
    pub expect_status: Vec<(u16, u16)>,
    /// What the first [`BODY_MAX`] bytes of the body must contain.
    pub expect_body: Option<Expect>,
    /// Name of a number in the body, a JSON object: the rank of an exclusive pool.
    pub rank: Option<String>,
    /// Over TLS, with the ALPN of its version.
    pub tls: Option<Arc<TlsClient>>,
    /// Over HTTP/2: the pool speaks nothing else.
    pub http2: bool,
}

/// A request without a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHead {
    method: Method,
    path: PathAndQuery,
    /// With `host` where one is given; without, it is the address.
    headers: HeaderMap,
}

/// What cannot stand in a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// Not a method.
    #[error("\"{0}\" is no request method")]
    Method(String),
    /// Not a path with or without a query.
    #[error("\"{0}\" is no path: it starts with a slash and has no spaces")]
    Path(String),
    /// Not a field name or value, or one that would frame a body: a probe has none.
    #[error("\"{0}\" cannot be a field of a probe")]
    Field(String),
}

impl RequestHead {
    /// A request. Without `host` it names the address that is asked. A field `upgrade` asks for a change of protocol, so
    /// that 101 may be expected; otherwise the connection is to close.
    ///
    /// # Errors
    /// [`HttpError`] with the part that cannot be sent.
    pub fn new(
        method: &str,
        path: &str,
        host: Option<&str>,
        fields: &[(&str, &[u8])],
    ) -> Result<Self, HttpError> {
        let wrong_method = |_| HttpError::Method(method.to_owned());
        let wrong_path = || HttpError::Path(path.to_owned());
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        let given = host.map(|host| ("host", host.as_bytes()));
        for (name, value) in given.into_iter().chain(fields.iter().copied()) {
            let (name, value) = field(name, value).ok_or_else(|| HttpError::Field(name.to_owned()))?;
            headers.insert(name, value);
        }
        let upgrades = headers.contains_key(UPGRADE);
        let connection = HeaderValue::from_static(if upgrades { "upgrade" } else { "close" });
        headers.entry(CONNECTION).or_insert(connection);
        let parsed = PathAndQuery::try_from(path).map_err(|_| wrong_path())?;
        if !path.starts_with('/') {
            return Err(wrong_path());
        }
        Ok(Self {
            method: Method::from_bytes(method.as_bytes()).map_err(wrong_method)?,
            path: parsed,
            headers,
        })
    }

    fn to(&self, address: Address) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = Uri::from(self.path.clone());
        *request.headers_mut() = self.headers.clone();
        if let Ok(host) = HeaderValue::try_from(address.host()) {
            request.headers_mut().entry(HOST).or_insert(host);
        }
        request
    }
}

impl RequestHead {
    /// The same over HTTP/2, without what is for an HTTP/1 connection alone (RFC 9113 section 8.2.2).
    fn to_http2(&self, address: Address, tls: bool) -> Option<Request<()>> {
        let mut headers = self.headers.clone();
        for name in [CONNECTION, UPGRADE] {
            headers.remove(name);
        }
        let host = headers.remove(HOST);
        let authority = match &host {
            Some(host) => host.to_str().ok()?.to_owned(),
            None => address.host(),
        };
        let scheme = if tls { "https" } else { "http" };
        let mut request = Request::new(());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = Uri::builder()
            .scheme(scheme)
            .authority(authority)
            .path_and_query(self.path.clone())
            .build()
            .ok()?;
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = headers;
        Some(request)
    }
}

impl std::hash::Hash for RequestHead {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        // A header map has no order of its own; what is left out here is still compared.
        (&self.method, self.path.as_str()).hash(state);
    }
}

impl Http {
    /// A probe that any 2xx answers well.
    #[must_use]
    pub fn new(request: RequestHead) -> Self {
        Self {
            request,
            expect_status: vec![(200, 299)],
            expect_body: None,
            rank: None,
            tls: None,
            http2: false,
        }
    }

    fn wants(&self, status: StatusCode) -> bool {
        self.expect_status.iter().any(|(low, high)| (*low..=*high).contains(&status.as_u16()))
    }

    /// Whether the body has a say, where the status is a wanted one.
    fn needs_body(&self, status: StatusCode) -> bool {
        self.wants(status) && (self.expect_body.is_some() || self.rank.is_some())
    }

    fn judge(&self, status: StatusCode, body: &[u8]) -> Reading {
        if self.wants(status) {
            self.read_body(status.as_u16(), body)
        } else {
            Reading::no(format!("status {}", status.as_u16()))
        }
    }

    /// What an answer with a wanted status and this start of a body means.
    #[must_use]
    pub fn read_body(&self, status: u16, body: &[u8]) -> Reading {
        if self.expect_body.as_ref().is_some_and(|expect| !expect.is_in(body)) {
            return Reading::no(format!("status {status}, but the body has not what is expected"));
        }
        let mut reading = Reading::good(format!("status {status}"));
        reading.rank = self.rank.as_deref().and_then(|name| rank(name, body));
        reading
    }
}

fn field(name: &str, value: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
    let frames = name == CONTENT_LENGTH || name == TRANSFER_ENCODING;
    if frames { None } else { Some((name, HeaderValue::from_bytes(value).ok()?)) }
}

/// The number of this name in a JSON object.
fn rank(name: &str, body: &[u8]) -> Option<u64> {
    serde_json::from_slice::<serde_json::Value>(body).ok()?.get(name)?.as_u64()
}

pub(super) async fn ask(check: &Http, address: Address, notes: &Notes) -> Asked<(Reading, Option<Parting>)> {
    if check.http2 {
        return Ok((ask_http2(check, address, notes).await?, None));
    }
    let mut wire = connect_over(check.tls.as_deref(), &[b"http/1.1"], address, notes).await?;
    let reading = exchange(check, address, &mut wire).await?;
    // Who was asked for another protocol does not close.
    let closes = check.request.headers.get(CONNECTION).is_some_and(|value| value == "close");
    Ok((reading, closes.then_some(Parting::HeardOut(wire))))
}

async fn ask_http2(check: &Http, address: Address, notes: &Notes) -> Asked<Reading> {
    let request = check
        .request
        .to_http2(address, check.tls.is_some())
        .ok_or_else(|| Reading::void("the request cannot be made over HTTP/2"))?;
    let wire = connect_over(check.tls.as_deref(), &[b"h2"], address, notes).await?;
    http2::converse(wire, BODY_MAX, request, None, |answer| async move {
        let status = answer.status();
        let mut body = answer.into_body();
        let mut start = Vec::new();
        while check.needs_body(status)
            && start.len() < BODY_MAX
            && let Some(data) = body.data().await
        {
            start.extend_from_slice(&data.map_err(|error| http2::broken(&error))?);
        }
        // No capacity is given back: the window is the limit.
        start.truncate(BODY_MAX);
        Ok(check.judge(status, &start))
    })
    .await
}

async fn exchange(check: &Http, address: Address, wire: &mut Wire) -> Asked<Reading> {
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_MAX)
        .handshake(TokioIo::new(wire))
        .await
        .map_err(|error| broken(&error))?;
    let mut answered = pin!(async {
        let answer = sender.send_request(check.request.to(address)).await.map_err(|error| broken(&error))?;
        judge(check, answer).await
    });
    // It does not say the end for us: the peer is to close first.
    let mut connection = pin!(connection.without_shutdown());
    tokio::select! {
        biased;
        reading = &mut answered => reading,
        // The answer may be complete when the connection has ended; whatever ended it is in the answer's error too.
        _ = &mut connection => answered.await,
    }
}

async fn judge(check: &Http, answer: Response<Incoming>) -> Asked<Reading> {
    let status = answer.status();
    let body = if check.needs_body(status) { start_of(answer.into_body()).await? } else { Vec::new() };
    Ok(check.judge(status, &body))
}

/// The first [`BODY_MAX`] bytes of a body.
async fn start_of(mut body: Incoming) -> Asked<Vec<u8>> {
    let mut start = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| broken(&error))?;
        let data = frame.data_ref().map_or(&[][..], |data| data);
        let room = BODY_MAX - start.len();
        start.extend(data.iter().take(room));
        if data.len() >= room {
            break;
        }
    }
    Ok(start)
}

/// A fault on the way: one of the connection, or an answer that is no HTTP.
fn broken(error: &hyper::Error) -> Reading {
    if error.is_incomplete_message() {
        return Reading::broken("connection closed before a complete answer");
    }
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(inner) = inner.downcast_ref::<io::Error>() {
            return Reading::fault("before a complete answer", inner);
        }
        source = inner.source();
    }
    Reading::broken(format!("broken HTTP answer: {error}"))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::policy::health::Verdict;

    fn check() -> Http {
        Http::new(RequestHead::new("GET", "/", None, &[]).expect("a request"))
    }

    #[test]
    fn what_cannot_be_sent_is_refused_when_the_probe_is_made() {
        let refused =
            |method, path, fields: &[(&str, &[u8])]| RequestHead::new(method, path, None, fields).err();
        assert_eq!(refused("G T", "/", &[]), Some(HttpError::Method("G T".to_owned())));
        assert_eq!(refused("GET", "health", &[]), Some(HttpError::Path("health".to_owned())));
        assert_eq!(refused("GET", "/a b", &[]), Some(HttpError::Path("/a b".to_owned())));
        for (name, value) in [("a b", &b"x"[..]), ("a", b"x\r\ny: z"), ("content-length", b"1")] {
            assert_eq!(refused("GET", "/", &[(name, value)]), Some(HttpError::Field(name.to_owned())));
        }
    }

    #[test]
    fn the_host_is_the_address_unless_one_is_given() {
        let address: SocketAddr = "[::1]:8008".parse().expect("an address");
        let host = |given| {
            let head = RequestHead::new("GET", "/", given, &[]).expect("a request");
            head.to(address.into()).headers().get(HOST).cloned().expect("a host")
        };
        assert_eq!(host(None), "[::1]:8008");
        assert_eq!(host(Some("a.test")), "a.test");
    }

    #[test]
    fn the_rank_is_a_number_of_the_answer() {
        let check = Http { rank: Some("timeline".to_owned()), ..check() };
        let rank = |body: &[u8]| check.read_body(200, body).rank;
        assert_eq!(rank(br#"{"role": "primary", "timeline": 7}"#), Some(7));
        assert_eq!(rank(br#"{"timeline": "7"}"#), None);
        assert_eq!(rank(br#"{"timeline": -1}"#), None);
        assert_eq!(rank(br#"[1]"#), None);
        assert_eq!(rank(&[b'['; 4096]), None);
    }

    #[test]
    fn a_body_without_the_pattern_is_a_no() {
        let check = Http { expect_body: Some(Expect::regex("^ok").expect("a pattern")), ..check() };
        assert_eq!(check.read_body(200, b"ok").verdict, Verdict::Good);
        assert_eq!(check.read_body(200, b"not ok").verdict, Verdict::SaysNo);
    }
}
