//! A request of our own beside a client's: to whoever decides on it, or to a pool that is only to see it. It takes the same
//! way as any other, with the pool's own policies; here is what stands in the client's place.

use std::task::{Context as Polled, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::response::Parts;
use http::{Method, Uri};
use tokio::time::{Instant, timeout_at};

use super::exchange::{Bridge, edit};
use super::request::{Request, path_and_query};
use super::{ClientHalf, Frame};
use crate::model::field::{FieldName, HeadEdits};
use crate::model::request::RequestView;
use crate::proxy::buffer::BLOCK;
use crate::proxy::error::Error;
use crate::proxy::forward::forward;
use crate::proxy::http1::fields::{Kind, list_elements};
use crate::proxy::http1::head::Framing;
use crate::proxy::phases::Altered;
use crate::proxy::request::{Context, Trace};
use crate::runtime::pick::Order;
use crate::runtime::snapshot::Route;

/// A request that is sent beside a client's.
pub struct Subrequest {
    request: Request,
    /// What we tell of it, in the place of whatever the client says under these names.
    told: Vec<(&'static str, Vec<u8>)>,
}

/// What is answered to one.
pub struct Answer {
    head: Parts,
    /// Nothing where it broke off, took too long or was larger than what is kept.
    body: Option<Vec<u8>>,
}

/// How a subrequest goes on.
pub struct Way<'a> {
    /// Its times and its retry rules; its action counts for nothing.
    pub route: &'a Route,
    /// The pool, by its index in the snapshot.
    pub pool: usize,
    /// How long all of it may take.
    pub within: Duration,
    /// Bytes of the answer's body that are kept; with nothing all of it is read and forgotten.
    pub keep: Option<usize>,
}

impl Subrequest {
    /// A GET for `target` with the fields of the client's request that `names` has; without names, with all that say
    /// something of the request and not of its body, its conditions or its connection. Whom it comes from is told anew by
    /// whoever sends it. Nothing when its target is none.
    #[must_use]
    pub fn about<V: RequestView>(view: &V, target: &str, names: &[FieldName]) -> Option<Self> {
        let mut request = Self::bare(view, Method::GET, target.as_bytes().to_vec())?;
        let named = |name: &[u8]| names.is_empty() || names.iter().any(|own| own.matches(name));
        let headers = &mut request.request.parts.headers;
        copy_fields(headers, view, |kind, name| match kind {
            Kind::Other | Kind::Accept => named(name) && !is_of_body(name),
            kind => is_of_origin(kind),
        });
        Some(request)
    }

    /// The client's request again, as its route changes it, with this body. Nothing when its target is too long to be one.
    #[must_use]
    pub fn again<V: RequestView>(
        view: &V,
        edits: HeadEdits<'_>,
        altered: &Altered<'_>,
        body: Option<usize>,
    ) -> Option<Self> {
        let method = Method::from_bytes(view.method_bytes()).ok()?;
        let target = altered.target().map_or_else(|| target_of(view), <[u8]>::to_vec);
        let mut request = Self::bare(view, method, target)?;
        if let Some(authority) = altered.authority() {
            request.request.parts.headers.insert(header::HOST, HeaderValue::from_bytes(authority).ok()?);
        }
        let headers = &mut request.request.parts.headers;
        copy_fields(headers, view, |kind, _| {
            matches!(kind, Kind::Other | Kind::Accept) || is_of_origin(kind)
        });
        edit(headers, edits);
        request.request.framing = body.map_or(Framing::None, |length| Framing::Length(length as u64));
        Some(request)
    }

    fn bare<V: RequestView>(view: &V, method: Method, target: Vec<u8>) -> Option<Self> {
        let mut parts = http::Request::new(()).into_parts().0;
        parts.method = method;
        let mut uri = http::uri::Parts::default();
        uri.path_and_query = Some(path_and_query(target)?);
        parts.uri = Uri::from_parts(uri).ok()?;
        let scheme = if view.scheme() == "https" { "https" } else { "http" };
        if !view.authority().is_empty() {
            parts.headers.insert(header::HOST, HeaderValue::from_bytes(view.authority()).ok()?);
        }
        Some(Self { request: Request::new(parts, scheme, view.source()), told: Vec::new() })
    }

    /// Tells something in a field of this name, whatever the client says there.
    pub fn tell(&mut self, name: &'static str, value: &[u8]) {
        self.told.push((name, value.to_vec()));
    }

    /// Sends it, with a body as long as was said, and waits for the whole answer.
    ///
    /// # Errors
    /// Those of any request, as long as no head of an answer has come; [`Error::Timeout`] also when all of it took too long.
    pub async fn send(self, context: &Context<'_>, way: &Way<'_>, body: Bytes) -> Result<Answer, Error> {
        let worker = context.worker;
        let timer = worker.timers.timer();
        let start = Instant::now();
        let context = Context { timer: &timer, start, ..*context };
        let pools = &context.snapshot.pools;
        let order = Order::new(pools, pools.get(way.pool).map_or(&[][..], |pool| &pool.chain));
        let home = order.home().ok_or(Error::NoRoute)?;
        let asker = Asker { body: Some(body).filter(|body| !body.is_empty()), ..Asker::new(way.keep) };
        let mut bridge = Bridge::new(worker, None, context.listener, &timer, self.request, asker);
        let mut trace = Trace::default();
        let mut altered = Altered::default();
        for (name, value) in self.told {
            altered.edit().request.set(name, value);
        }
        let sent = forward(&context, &mut bridge, way.route, (order, home, None), (&mut altered, &mut trace));
        let sent = timeout_at(start + way.within, sent).await.unwrap_or(Err(Error::Timeout));
        let counters = home.live.counters.of(worker.id);
        counters.ended.count(trace.status);
        counters.duration.observe(start.elapsed());
        let Asker { head, kept, .. } = bridge.half;
        match (head, sent) {
            // What was decided stands, whatever becomes of the words for it.
            (Some(head), sent) => Ok(Answer { head, body: sent.is_ok().then_some(kept) }),
            (None, sent) => Err(sent.err().unwrap_or(Error::Reset)),
        }
    }
}

impl Answer {
    /// Its status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    /// Its fields, without those that frame it.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let framing = |name: &HeaderName| *name == header::CONTENT_LENGTH;
        let fields = self.head.headers.iter().filter(move |(name, _)| !framing(name));
        fields.map(|(name, value)| (name.as_str(), value.as_bytes()))
    }

    /// The values of a field.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.head.headers.get_all(name).iter().map(HeaderValue::as_bytes)
    }

    /// Whether all of its body has come.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.body.is_some()
    }

    /// Its body, as far as it was kept; nothing of one that has not come whole.
    #[must_use]
    pub fn into_body(self) -> Vec<u8> {
        self.body.unwrap_or_default()
    }
}

/// Path and query of a request.
#[must_use]
pub fn target_of<V: RequestView>(view: &V) -> Vec<u8> {
    let mut target = view.path().to_vec();
    if let Some(query) = view.query() {
        target.push(b'?');
        target.extend_from_slice(query);
    }
    target
}

/// What tells whom a request is from: passed on to the encoders, which believe it or not.
const fn is_of_origin(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::XForwardedFor
            | Kind::XForwardedProto
            | Kind::XForwardedHost
            | Kind::Forwarded
            | Kind::XRealIp
            | Kind::CfConnectingIp
            | Kind::ClientCertificate
    )
}

/// What tells of a body that is not sent, how an answer is wanted that is not the one asked for, or what the request is
/// about, which is told anew.
fn is_of_body(name: &[u8]) -> bool {
    const NAMES: [&str; 10] = [
        "content-type",
        "content-encoding",
        "accept-encoding",
        "range",
        "if-match",
        "if-none-match",
        "if-modified-since",
        "if-unmodified-since",
        "if-range",
        "x-forwarded-method",
    ];
    let is = |own: &str| name.eq_ignore_ascii_case(own.as_bytes());
    NAMES.into_iter().any(is) || is("x-forwarded-uri") || is("sec-websocket-key")
}

fn copy_fields<V: RequestView>(headers: &mut HeaderMap, view: &V, takes: impl Fn(Kind, &[u8]) -> bool) {
    let of_connection =
        || view.fields().filter(|(name, _)| Kind::of(name) == Kind::Connection).map(|(_, value)| value);
    for (name, value) in view.fields() {
        // What the client names in Connection is for that connection alone (RFC 9110 section 7.6.1).
        let is_named =
            || of_connection().flat_map(list_elements).any(|named| named.eq_ignore_ascii_case(name));
        if !takes(Kind::of(name), name) || is_named() {
            continue;
        }
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
}

/// What stands in a client's place: gives the body and takes the answer.
struct Asker {
    body: Option<Bytes>,
    head: Option<Parts>,
    kept: Vec<u8>,
    keep: Option<usize>,
}

impl Asker {
    const fn new(keep: Option<usize>) -> Self {
        Self { body: None, head: None, kept: Vec::new(), keep }
    }
}

impl ClientHalf for Asker {
    fn poll_frame(&mut self, _: &mut Polled<'_>) -> Poll<Option<Result<Frame, Error>>> {
        Poll::Ready(self.body.take().map(|body| Ok(Frame::Data(body))))
    }

    fn is_ended(&self) -> bool {
        self.body.is_none()
    }

    fn release(&mut self, _: usize) {}

    fn poll_room(&mut self, _: &mut Polled<'_>, _: usize) -> Poll<Result<usize, Error>> {
        Poll::Ready(Ok(BLOCK))
    }

    fn send_interim(&mut self, _: Parts) -> Result<(), Error> {
        Ok(())
    }

    fn send_head(&mut self, head: Parts, _: bool) -> Result<(), Error> {
        self.head = Some(head);
        Ok(())
    }

    fn send(&mut self, frame: Frame, _: bool) -> Result<(), Error> {
        let (Frame::Data(data), Some(most)) = (frame, self.keep) else { return Ok(()) };
        if self.kept.len() + data.len() > most {
            return Err(Error::Answer("its body is larger than what is kept of it"));
        }
        self.kept.extend_from_slice(&data);
        Ok(())
    }

    fn poll_sent(&mut self, _: &mut Polled<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_gone(&mut self, _: &mut Polled<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn abort(&mut self, _: &Error) {}
}
