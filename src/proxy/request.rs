//! One request from its head to its log record: the list of phases, written once for every protocol.
//!
//! What a protocol supplies is a [`Downstream`]: a view of the head, a body to send on, and ways to answer.

use std::future::Future;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as Polled, Poll};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::attempt::Connection;
use super::bridge::transform::Transform;
use super::edits;
use super::error::{Error, Refusal};
use super::forward::forward;
use super::gate;
use super::http1::encode::{RequestEdits, Told};
use super::limiter;
use super::phases::{self, Altered};
use super::respond::{Own, prefers_json};
use super::span::{Spans, Tracked};
use super::sticky;
use super::timer::Timer;
use super::tls::Secured;
use super::treatment::forward_treated;
use super::worker::Worker;
use crate::model::field::{FieldEdits, HeadEdits};
use crate::model::grpc;
use crate::model::host::split_authority;
use crate::model::request::RequestView;
use crate::policy::traces::{self, Traced};
use crate::route::template::Facts;
use crate::runtime::listener::{Listener, ListenerCounters, Protocol};
use crate::runtime::pick::Order;
use crate::runtime::pool::{Pool, Timeouts};
use crate::runtime::snapshot::{Action, Route, Snapshot, SplitBy};
use crate::telemetry::access_log::{Phases, Record, Termination};

/// A request in its client's protocol.
pub trait Downstream {
    /// The head.
    type View: RequestView;
    /// An answer whose head has come, and whose body is still on its way.
    type Answer;
    /// The request on its way to one endpoint.
    type Sending;

    /// The head.
    fn view(&self) -> &Self::View;
    /// Whether it asks for a tunnel that every protocol has a way to begin: WebSocket.
    fn wants_tunnel(&self) -> bool {
        false
    }
    /// Whether an endpoint is to be asked at all; an answer of our own, if it is not.
    fn answered_here(&self) -> Option<Own>;
    /// Holds the body to a size, in bytes: one that is larger is an error, at once where that is known already, else when it
    /// has become so.
    ///
    /// # Errors
    /// [`Refusal::BodyTooLarge`].
    fn limit_body(&mut self, max: u64) -> Result<(), Refusal>;
    /// Keeps the body for a repeat, up to so many bytes.
    fn keep_body(&mut self, max: usize);
    /// Whether there is a body, be it an empty one.
    fn has_body(&self) -> bool;
    /// Copies the body as it goes on, up to `max` bytes; whether it may be no larger.
    fn copy_body(&mut self, _max: usize) -> bool {
        false
    }
    /// The copy of the body; nothing where it was larger, or has not all gone on.
    fn copied_body(&mut self) -> Option<Vec<u8>> {
        None
    }
    /// Takes in the body before an endpoint is asked, up to so many bytes; whether that is all of it.
    fn buffer_body(&mut self, _most: usize) -> impl Future<Output = Result<bool, Error>> {
        std::future::ready(Ok(false))
    }
    /// Says what is to be done with the answer.
    fn transform(&mut self, _transform: Transform) {}
    /// Whether there is no body, or it will be kept for a repeat.
    fn body_will_repeat(&self) -> bool;
    /// Whether all of the body that has been sent can be sent again.
    fn body_is_replayable(&self) -> bool;
    /// Resolves when the client has left.
    fn gone(&mut self) -> impl Future<Output = ()>;
    /// The request as it goes to one endpoint over this connection, with what is kept of the body sent before.
    fn compose(&mut self, connection: &Connection<'_>, edits: &RequestEdits<'_>) -> Self::Sending;
    /// Sends the request and waits for the head of the answer. What an endpoint answers meanwhile (RFC 9110 section 15.2)
    /// is passed on.
    fn exchange(
        &mut self,
        connection: &Connection<'_>,
        sending: &mut Self::Sending,
        timeouts: &Timeouts,
    ) -> impl Future<Output = Result<Self::Answer, Failed>>;
    /// Whether all of the request has gone to its endpoint.
    fn is_sent(&self, sending: &Self::Sending) -> bool;
    /// Sends, and is ready when the head of the answer has come, or with nothing when that of an interim answer has:
    /// then [`Downstream::exchange`] goes on, and no other endpoint may be asked. Two may be polled in turn once the
    /// request has been sent. `timer` is of this endpoint.
    fn poll_head(
        &mut self,
        cx: &mut Polled<'_>,
        connection: &Connection<'_>,
        sending: &mut Self::Sending,
        timeouts: &Timeouts,
        timer: &Timer,
    ) -> Poll<Result<Option<Self::Answer>, Failed>>;
    /// The fields of an answer's head.
    fn answer_fields(answer: &Self::Answer) -> Box<dyn Iterator<Item = (&[u8], &[u8])> + '_>;
    /// What an answer says of its endpoint: its status, or behind those of HTTP that of a gRPC call which failed without
    /// another answer.
    fn verdict(answer: &Self::Answer) -> u16 {
        Self::status(answer)
    }
    /// The status of the gRPC call that this is, once it is known.
    fn grpc_code(&self) -> Option<u16> {
        None
    }
    /// The status of an answer.
    fn status(answer: &Self::Answer) -> u16;
    /// Sends the answer to the client and keeps the endpoint's connection if it can be used again.
    fn deliver(
        &mut self,
        connection: Connection<'_>,
        answer: Self::Answer,
        edits: HeadEdits<'_>,
        timeouts: &Timeouts,
    ) -> impl Future<Output = Result<(), Error>>;
    /// Sends an answer of our own.
    fn respond(&mut self, own: &Own, edits: HeadEdits<'_>) -> impl Future<Output = Result<(), Error>>;
    /// Whether a byte of an answer has gone to the client.
    fn response_started(&self) -> bool;
    /// Whether an interim answer has gone to the client.
    fn interim_passed(&self) -> bool;
    /// Bytes of the request body that went on, and of the response body that went to the client.
    fn moved(&self) -> (u64, u64);
}

/// An exchange that did not come to a response head.
#[derive(Debug)]
pub struct Failed {
    /// What happened.
    pub error: Error,
    /// Whether the endpoint's socket has taken any byte of the request.
    pub bytes_sent: bool,
    /// Whether any byte of an answer has come.
    pub answer_bytes: bool,
}

/// What all phases of a request read.
pub struct Context<'a> {
    /// The worker.
    pub worker: &'a Rc<Worker>,
    /// The snapshot with which the request began, and with which it ends, unless it is still waiting when a newer one
    /// comes.
    pub snapshot: &'a Snapshot,
    /// Its listener.
    pub listener: &'a Listener,
    /// The one deadline of its connection.
    pub timer: &'a Timer,
    /// The other end of the connection.
    pub peer: std::net::SocketAddr,
    /// Whom the connection is from, and what endpoints are told of that.
    pub client: &'a dyn super::presentation::Presents,
    /// Whether what the peer says of the client is believed.
    pub trusted: bool,
    /// What the TLS of the connection came to; nothing is none.
    pub tls: Option<&'a Secured>,
    /// The value of `X-Request-Id`.
    pub request_id: &'a [u8],
    /// When its first byte came.
    pub start: Instant,
    /// How long its head took to arrive.
    pub head: Duration,
    /// The client's version, for the log.
    pub version: &'static str,
}

impl<'a> Context<'a> {
    /// `http` or `https`.
    #[must_use]
    pub const fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// What endpoints are told of the client's certificate.
    #[must_use]
    pub fn told(&self) -> Told<'a> {
        match &self.listener.tls {
            Some(tls) if tls.client_headers => {
                Told::Certificate(self.tls.and_then(|secured| secured.client.as_ref()))
            }
            _ => Told::Nothing,
        }
    }

    /// Whether the connection was not asked for what the certificate of the request's name asks clients for.
    fn is_misdirected<V: RequestView>(&self, view: &V) -> bool {
        let (Some(secured), Some(tls)) = (self.tls, &self.listener.tls) else { return false };
        let host = split_authority(view.authority()).map_or(&[][..], |(host, _)| host);
        tls.is_misdirected(host, secured.asked)
    }

    /// Whether a newer snapshot has the listener too.
    fn is_current(&self) -> bool {
        self.worker.snapshot().listeners.iter().any(|other| Arc::ptr_eq(&other.live, &self.listener.live))
    }
}

/// What is known of a request when it has ended.
#[derive(Default)]
pub struct Trace<'a> {
    pub(super) route: Option<&'a Route>,
    pub(super) pool: Option<&'a Pool>,
    pub(super) endpoint: Option<&'a str>,
    pub(super) attempts: u32,
    pub(super) queue: Duration,
    pub(super) connect: Duration,
    pub(super) response_header: Duration,
    pub(super) status: u16,
    /// The trace that it belongs to, where requests belong to one.
    pub(super) tracked: Option<Rc<Tracked>>,
    /// Of a gRPC call that was answered here.
    pub(super) grpc_code: Option<u16>,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Fate {
    /// It has ended.
    Ended,
    /// It has ended, and its client is to be told nothing.
    Dropped,
    /// Nothing has been done with it, and a newer snapshot can do more for it: it is to be handled again, with that.
    Outdated,
}

/// Handles one request.
pub async fn handle<D: Downstream>(context: &Context<'_>, down: &mut D) -> Fate {
    let mut handled = Handled { context, down, trace: Trace::default(), termination: None, outdated: false };
    let mut altered = Altered::default();
    let Handled { down, trace, .. } = &mut handled;
    let termination = match serve(context, *down, &mut altered, trace).await {
        Ok(termination) => termination,
        Err(Error::Outdated) if context.is_current() => {
            if let Some(limits) = trace.route.and_then(|route| route.limits.as_deref()) {
                limiter::take_back(context, *down, limits);
            }
            handled.outdated = true;
            return Fate::Outdated;
        }
        Err(Error::Dropped) => {
            handled.termination = Some(Error::Dropped.termination());
            return Fate::Dropped;
        }
        Err(error) => {
            count_error(context.listener.live.counters.of(context.worker.id), &error);
            answer_error(context, *down, &error, (&mut altered, trace)).await;
            error.termination()
        }
    };
    handled.termination = Some(termination);
    Fate::Ended
}

/// Answers a request that is refused before anything is done with it.
pub async fn refuse<D: Downstream>(context: &Context<'_>, down: &mut D, refusal: Refusal) {
    let error = Error::Refused(refusal);
    let mut handled = Handled { context, down, trace: Trace::default(), termination: None, outdated: false };
    let Handled { down, trace, .. } = &mut handled;
    count_error(context.listener.live.counters.of(context.worker.id), &error);
    answer_error(context, *down, &error, (&mut Altered::default(), trace)).await;
    handled.termination = Some(error.termination());
}

/// Notes a request whose client had left before anything was done with it.
pub fn abandoned<D: Downstream>(context: &Context<'_>, down: &D) {
    finish(context, down, &Trace::default(), Termination::ClientAborted);
}

/// What a request is known by in every log: the client's own id where it is believed, else 128 random bits.
#[must_use]
pub fn request_id(worker: &Worker, given: Option<&[u8]>) -> Vec<u8> {
    // No setting: an id is a key to search logs by, and one that is longer gets a new one, nothing else.
    const KEPT_MAX: usize = 128;
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    if let Some(given) = given.filter(|given| (1..=KEPT_MAX).contains(&given.len())) {
        return given.to_vec();
    }
    let bits = (u128::from(worker.random()) << 64) | u128::from(worker.random());
    (0..32).rev().map(|i| DIGITS[(bits >> (i * 4)) as usize & 15]).collect()
}

/// A request under way: counted and logged when it is dropped, also where that is before its end.
struct Handled<'h, 'a, D: Downstream> {
    context: &'h Context<'a>,
    down: &'h mut D,
    trace: Trace<'a>,
    /// Nothing until it has ended.
    termination: Option<Termination>,
    /// Whether this was not its end.
    outdated: bool,
}

impl<D: Downstream> Drop for Handled<'_, '_, D> {
    fn drop(&mut self) {
        if self.outdated {
            return;
        }
        let termination = self.termination.unwrap_or_else(Worker::why_cut);
        if let Some(Tracked { traced, spans: Some(spans) }) = self.trace.tracked.as_deref() {
            spans.finish(self.context, self.down, &self.trace, (*traced, termination));
        }
        finish(self.context, self.down, &self.trace, termination);
    }
}

/// Tests ask for a panic by a path of their own; no release has this.
#[cfg(debug_assertions)]
fn panic_if_asked(path: &[u8]) {
    if let Ok(asked) = std::env::var("PLIMSOLL_TEST_PANIC_PATH") {
        assert!(path != asked.as_bytes(), "this panic was asked for by PLIMSOLL_TEST_PANIC_PATH");
    }
}

/// Counts the limits that a request ran into, and requests that were none.
pub fn count_error(counters: &ListenerCounters, error: &Error) {
    match error {
        Error::Overloaded => counters.shed.one(),
        Error::HeadTimeout => counters.head_timeouts.one(),
        Error::ClientTimeout => counters.client_idle_timeouts.one(),
        Error::Refused(Refusal::HeadTooLarge) => counters.head_too_large.one(),
        Error::Refused(Refusal::TooManyFields) => counters.fields_exceeded.one(),
        Error::Refused(Refusal::TargetTooLong) => counters.target_too_long.one(),
        Error::Refused(Refusal::BodyTooLarge) => counters.body_too_large.one(),
        Error::Denied => counters.requests_denied.one(),
        Error::Refused(Refusal::ExtensionsTooLarge) => counters.extensions_exceeded.one(),
        Error::Refused(_) => counters.bad_requests.one(),
        _ => {}
    }
}

/// Tells the client of an error, if anything can still be told.
async fn answer_error<'a, D: Downstream>(
    context: &Context<'a>,
    down: &mut D,
    error: &Error,
    (altered, trace): (&mut Altered<'a>, &mut Trace<'a>),
) {
    if down.response_started() {
        return;
    }
    let own = if is_call(down.view()) {
        Own::of_failed_call(error)
    } else {
        Own::of_error(error, down.view().field("accept").is_some_and(prefers_json))
    };
    let Some(mut own) = own else { return };
    if own.grpc_code.is_none() {
        gate::replace(context, down.view(), trace.route, &mut own);
    }
    edit_own(context, down.view(), &own, (trace.route, altered));
    let fixed = trace.route.map_or(FieldEdits::NONE, |route| &route.response_edits.fixed);
    if down.respond(&own, altered.response(fixed)).await.is_ok() {
        trace.status = own.status;
        trace.grpc_code = own.grpc_code;
    }
}

/// Whether a request is a gRPC call.
pub(super) fn is_call<V: RequestView>(view: &V) -> bool {
    view.field("content-type").is_some_and(grpc::is_call)
}

async fn serve<'a, D: Downstream>(
    context: &Context<'a>,
    down: &mut D,
    altered: &mut Altered<'a>,
    trace: &mut Trace<'a>,
) -> Result<Termination, Error> {
    if let Some(tracing) = &context.snapshot.tracing {
        let traced = traced(context, &tracing.settings, down.view());
        let recorded = tracing.export.is_some() && traced.parent.is_sampled();
        let spans = recorded.then(|| Spans::new(context.worker.random()));
        trace.tracked = Some(Rc::new(Tracked { traced, spans }));
    }
    if let Some(own) = down.answered_here() {
        return respond(context, down, trace, &own, HeadEdits::NONE).await;
    }
    if context.is_misdirected(down.view()) {
        context.listener.live.counters.of(context.worker.id).tls.misdirected.one();
        return Err(Error::Misdirected);
    }
    if context.worker.fleet.pressure.sheds(context.listener.importance) {
        return Err(Error::Overloaded);
    }
    let route = find_route(context, down.view())?;
    trace.route = Some(route);
    #[cfg(debug_assertions)]
    panic_if_asked(down.view().path());
    let own = match phases::before(context, down, route, altered).await? {
        None => answer_of(context, down.view(), route),
        own => own,
    };
    if let Some(own) = own {
        edit_own(context, down.view(), &own, (Some(route), altered));
        let edits = altered.response(&route.response_edits.fixed);
        return respond(context, down, trace, &own, edits).await;
    }
    let pool = |pool: usize| context.snapshot.pools.get(pool);
    let (chain, affinity) = match &route.action {
        Action::Respond(_) | Action::Redirect { .. } | Action::Health(_) => (&[][..], None),
        Action::Pool(at) => match pool(*at) {
            Some(pool) => (&*pool.chain, sticky::of_pool(context, down.view(), pool, altered)),
            None => (&[][..], None),
        },
        Action::Split(split) => match split.by {
            SplitBy::Source => (split.choose(spread(down.view().source())), None),
            SplitBy::Random => (split.choose(context.worker.random()), None),
            SplitBy::Sticky => sticky::of_split(context, down.view(), split, altered),
        },
    };
    let order = Order::new(&context.snapshot.pools, chain);
    let home = order.home().ok_or(Error::NoRoute)?;
    trace.pool = Some(home);
    // A split that does not go by it has pools that may.
    let affinity = match (&route.action, affinity) {
        (Action::Split(_), None) => sticky::of_pool(context, down.view(), home, altered),
        (_, affinity) => affinity,
    };
    edits::of_request(context, down.view(), (route, home.name.as_str()), altered)?;
    let (to, on) = ((order, home, affinity), (altered, trace));
    let forwarded = match &route.treatment {
        None => forward(context, down, route, to, on).await,
        Some(treatment) => Box::pin(forward_treated(context, down, (route, treatment), to, on)).await,
    };
    forwarded.map(|()| Termination::Done)
}

/// The answer of a route that gives one itself.
fn answer_of<V: RequestView>(context: &Context<'_>, view: &V, route: &Route) -> Option<Own> {
    match &route.action {
        Action::Respond(_) | Action::Redirect { .. } => edits::answer(context, view, route),
        Action::Health(pool) => {
            let usable = context.snapshot.pools.get(*pool).is_some_and(Pool::is_usable);
            let (status, body) = if usable { (200, "usable\n") } else { (503, "not usable\n") };
            Some(Own::fixed(status, body))
        }
        Action::Pool(_) | Action::Split(_) => None,
    }
}

/// Changes an answer of our own as its route changes those of endpoints.
fn edit_own<'a, V: RequestView>(
    context: &Context<'a>,
    view: &V,
    own: &Own,
    (route, altered): (Option<&'a Route>, &mut Altered<'a>),
) {
    let Some(route) = route.filter(|route| !route.response_edits.is_fixed()) else { return };
    let facts = Facts { status: Some(own.status), ..edits::facts(context, Some(route)) };
    let fields = || own.fields.iter().map(|(name, value)| (name.as_bytes(), value.as_slice()));
    edits::of_answer(&route.response_edits, (view, &facts), fields, altered);
}

async fn respond<D: Downstream>(
    context: &Context<'_>,
    down: &mut D,
    trace: &mut Trace<'_>,
    own: &Own,
    edits: HeadEdits<'_>,
) -> Result<Termination, Error> {
    context.listener.live.counters.of(context.worker.id).answered_here.one();
    down.respond(own, edits).await?;
    trace.status = own.status;
    Ok(Termination::Responded)
}

/// The trace that a request belongs to.
fn traced<V: RequestView>(context: &Context<'_>, settings: &traces::Settings, view: &V) -> Traced {
    let of = |wanted: &'static str| {
        let fields = view.fields().filter(move |(name, _)| name.eq_ignore_ascii_case(wanted.as_bytes()));
        fields.map(|(_, value)| value)
    };
    settings.trace(context.trusted, of("traceparent"), of("tracestate"), || context.worker.random())
}

fn find_route<'a, V: RequestView>(context: &Context<'a>, view: &V) -> Result<&'a Route, Error> {
    let Protocol::Http { table, routes } = &context.listener.protocol else { return Err(Error::NoRoute) };
    let found = table.find(view).and_then(|rule| context.snapshot.routes.get(*routes.get(rule)?));
    found.ok_or_else(|| {
        context.listener.live.counters.of(context.worker.id).no_route.one();
        Error::NoRoute
    })
}

/// Spreads addresses evenly over all numbers, the same on every node (FNV-1a with a finalizer, so that neighbours
/// part).
#[must_use]
pub fn spread(source: IpAddr) -> u64 {
    let bytes = match source.to_canonical() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

/// Counts and logs a request that has ended.
fn finish<D: Downstream>(context: &Context<'_>, down: &D, trace: &Trace<'_>, termination: Termination) {
    let worker = context.worker;
    let total = context.start.elapsed();
    let (bytes_in, bytes_out) = down.moved();
    let counters = context.listener.live.counters.of(worker.id);
    counters.bytes_in.add(bytes_in);
    counters.bytes_out.add(bytes_out);
    worker.count_end(&context.listener.live, trace.status, termination);
    let grpc_code = trace.grpc_code.or_else(|| down.grpc_code());
    if let Some(pool) = trace.pool {
        let counters = pool.live.counters.of(worker.id);
        counters.ended.count(trace.status);
        counters.duration.observe(total);
        if let Some(code) = grpc_code {
            counters.calls.count(code);
        }
    }
    // A panic inside the log itself leaves no record, rather than another panic.
    let Ok(mut log) = worker.access_log.try_borrow_mut() else { return };
    if !log.is_on() {
        return;
    }
    let view = down.view();
    let target = view.target();
    log.log(&Record {
        at: SystemTime::now() - total,
        client: std::net::SocketAddr::new(
            view.source(),
            if context.trusted { 0 } else { context.client.source().port() },
        ),
        peer: context.peer,
        listener: context.listener.name.as_str(),
        route: trace.route.map(|r| r.name.as_str()),
        pool: trace.pool.map(|p| p.name.as_str()),
        endpoint: trace.endpoint,
        attempts: trace.attempts,
        protocol: context.version,
        tls: context.tls.map(Secured::logged),
        method: view.method_bytes(),
        host: view.authority(),
        target,
        status: trace.status,
        bytes_in,
        bytes_out,
        datagrams: None,
        phases: Phases {
            head: context.head,
            queue: trace.queue,
            connect: trace.connect,
            response_header: trace.response_header,
            total,
        },
        termination,
        request_id: context.request_id,
        trace_id: trace.tracked.as_ref().map(|tracked| tracked.traced.parent.trace),
        grpc_code,
    });
}

#[cfg(test)]
#[path = "request/tests.rs"]
mod tests;
