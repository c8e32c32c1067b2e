//! Path and method to answer. Every answer is made at once from what control knows; nothing here waits.

use std::net::IpAddr;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use super::views::{self, LiveView, ProblemView, ReadyView, StatusView};
use crate::control::Handle;
use crate::control::status::{Readiness, Status};
use crate::model::host::split_authority;
use crate::telemetry::metrics::Sink;
use crate::telemetry::prometheus;

const JSON: &str = "application/json";
/// RFC 9457 section 3.
const PROBLEM: &str = "application/problem+json";
const ALLOWED: &str = "GET, HEAD";

/// What is asked of control: its handle, or a test's own.
pub(super) trait Control: Send + Sync + 'static {
    fn status(&self) -> Status;
    fn readiness(&self, local_only: bool) -> Readiness;
    fn is_live(&self) -> bool;
    fn collect(&self, sink: &mut dyn Sink);
}

impl Control for Handle {
    fn status(&self) -> Status {
        self.status()
    }
    fn readiness(&self, local_only: bool) -> Readiness {
        self.readiness(local_only)
    }
    fn is_live(&self) -> bool {
        self.is_live()
    }
    fn collect(&self, sink: &mut dyn Sink) {
        self.collect(sink);
    }
}

/// A whole answer; HEAD's loses its body in the server.
pub(super) type Answer = Response<Full<Bytes>>;

/// Answers one request, whatever body it has.
pub(super) fn answer<B>(control: &dyn Control, allowed_hosts: &[String], request: &Request<B>) -> Answer {
    let path = request.uri().path();
    if is_guarded(path)
        && let Err(refused) = check_host(allowed_hosts, request)
    {
        return failure(&refused);
    }
    let page: fn(&dyn Control, Option<&str>) -> Answer = match path {
        "/livez" => livez,
        "/readyz" => readyz,
        "/metrics" => metrics,
        "/v1/status" => status,
        _ => return failure(&(StatusCode::NOT_FOUND, "there is nothing at this path")),
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = failure(&(StatusCode::METHOD_NOT_ALLOWED, "this path answers GET and HEAD"));
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static(ALLOWED));
        return refused;
    }
    page(control, request.uri().query())
}

fn livez(control: &dyn Control, _query: Option<&str>) -> Answer {
    if control.is_live() {
        return json(StatusCode::OK, JSON, views::text(&LiveView { live: true }));
    }
    failure(&(StatusCode::SERVICE_UNAVAILABLE, "a worker does not turn"))
}

/// `?local` leaves out what depends on other machines, for a supervisor that would otherwise restart us for their faults.
fn readyz(control: &dyn Control, query: Option<&str>) -> Answer {
    let local =
        query.is_some_and(|query| query.split('&').any(|pair| pair.split('=').next() == Some("local")));
    let Readiness { ready, reasons } = control.readiness(local);
    if ready {
        return json(StatusCode::OK, JSON, views::text(&ReadyView { ready }));
    }
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let problem = ProblemView::new(status, reasons.join("; ")).with_reasons(reasons);
    json(status, PROBLEM, views::text(&problem))
}

fn metrics(control: &dyn Control, _query: Option<&str>) -> Answer {
    let mut page = prometheus::Page::default();
    control.collect(&mut page);
    whole(StatusCode::OK, prometheus::CONTENT_TYPE, page.finish().into())
}

fn status(control: &dyn Control, _query: Option<&str>) -> Answer {
    json(StatusCode::OK, JSON, views::text(&StatusView::from(&control.status())))
}

/// Paths that a browser could be tricked into reading through a name that resolves to us (DNS rebinding).
fn is_guarded(path: &str) -> bool {
    path == "/" || path == "/v1" || path.starts_with("/v1/")
}

/// Whether the request was meant for us by a name that is ours.
fn check_host<B>(allowed_hosts: &[String], request: &Request<B>) -> Result<(), (StatusCode, &'static str)> {
    const MALFORMED: (StatusCode, &str) =
        (StatusCode::BAD_REQUEST, "the request needs exactly one valid Host");
    let mut fields = request.headers().get_all(HOST).iter();
    // The target's authority replaces Host (RFC 9112 section 3.2.2), which has to be there all the same.
    let (Some(field), None) = (fields.next(), fields.next()) else { return Err(MALFORMED) };
    let authority =
        request.uri().authority().map_or(field.as_bytes(), |authority| authority.as_str().as_bytes());
    let (host, _port) = split_authority(authority).ok_or(MALFORMED)?;
    let host = String::from_utf8_lossy(host).to_ascii_lowercase();
    let host = host.strip_suffix('.').unwrap_or(&host);
    if is_loopback(host) || allowed_hosts.iter().any(|allowed| allowed == host) {
        return Ok(());
    }
    Err((
        StatusCode::MISDIRECTED_REQUEST,
        "this Host is not ours; admin.allowed_hosts lists others than loopback names",
    ))
}

fn is_loopback(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    // `.localhost` never leaves the machine (RFC 6761 section 6.3).
    host == "localhost"
        || host.ends_with(".localhost")
        || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn failure(&(status, detail): &(StatusCode, &str)) -> Answer {
    json(status, PROBLEM, views::text(&ProblemView::new(status, detail)))
}

fn json(status: StatusCode, content_type: &'static str, text: serde_json::Result<Vec<u8>>) -> Answer {
    match text {
        Ok(text) => whole(status, content_type, text.into()),
        Err(error) => {
            tracing::error!(%error, "an admin answer cannot be written as JSON");
            whole(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", Bytes::new())
        }
    }
}

fn whole(status: StatusCode, content_type: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
