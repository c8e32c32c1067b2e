//! One request from its head to its log record: the list of phases, written once for every protocol.
//!
//! What a protocol supplies is a [`Downstream`]: a view of the head, a body to send on, and ways to answer.

use std::borrow::Cow;
use std::future::Future;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::attempt::{Connection, Tries};
use super::error::{Error, Refusal};
use super::hash_key;
use super::http1::encode::RequestEdits;
use super::respond::{Own, prefers_json};
use super::timer::Timer;
use super::worker::Worker;
use crate::model::field::FieldEdits;
use crate::model::request::RequestView;
use crate::policy::retry::{self, Facts, Failure, Next};
use crate::route::path::strip_prefix;
use crate::runtime::endpoint::{Endpoint, Work};
use crate::runtime::listener::{Listener, ListenerCounters, Protocol};
use crate::runtime::pick::{Order, Place};
use crate::runtime::pool::{Pool, Timeouts};
use crate::runtime::snapshot::{Action, Piece, Rewrite, Route, Snapshot};
use crate::telemetry::access_log::{Phases, Record, Termination};

/// A request in its client's protocol.
pub trait Downstream {
    /// The head.
    type View: RequestView;
    /// An answer whose head has come, and whose body is still on its way.
    type Answer;

    /// The head.
    fn view(&self) -> &Self::View;
    /// Whether an endpoint is to be asked at all; an answer of our own, if it is not.
    fn answered_here(&self) -> Option<Own>;
    /// Keeps the body for a repeat, up to so many bytes.
    fn keep_body(&mut self, max: usize);
    /// Whether there is no body, or it will be kept for a repeat.
    fn body_will_repeat(&self) -> bool;
    /// Whether all of the body that has been sent can be sent again.
    fn body_is_replayable(&self) -> bool;
    /// Resolves when the client has left.
    fn gone(&mut self) -> impl Future<Output = ()>;
    /// Sends the request and waits for the head of the answer.
    fn exchange(
        &mut self,
        connection: &Connection<'_>,
        edits: &RequestEdits<'_>,
        timeouts: &Timeouts,
    ) -> impl Future<Output = Result<Self::Answer, Failed>>;
    /// The status of an answer.
    fn status(answer: &Self::Answer) -> u16;
    /// Sends the answer to the client and keeps the endpoint's connection if it can be used again.
    fn deliver(
        &mut self,
        connection: Connection<'_>,
        answer: Self::Answer,
        edits: &FieldEdits,
        timeouts: &Timeouts,
    ) -> impl Future<Output = Result<(), Error>>;
    /// Sends an answer of our own.
    fn respond(&mut self, own: &Own) -> impl Future<Output = Result<(), Error>>;
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
    pub worker: &'a Worker,
    /// The snapshot with which the request began, and with which it ends, unless it is still waiting when a newer one
    /// comes.
    pub snapshot: &'a Snapshot,
    /// Its listener.
    pub listener: &'a Listener,
    /// The one deadline of its connection.
    pub timer: &'a Timer,
    /// The other end of the connection.
    pub peer: std::net::SocketAddr,
    /// Whether what the peer says of the client is believed.
    pub trusted: bool,
    /// The value of `X-Request-Id`.
    pub request_id: &'a [u8],
    /// When its first byte came.
    pub start: Instant,
    /// How long its head took to arrive.
    pub head: Duration,
    /// The client's version, for the log.
    pub version: &'static str,
}

/// What is known of a request when it has ended.
#[derive(Default)]
struct Trace<'a> {
    route: Option<&'a Route>,
    pool: Option<&'a Pool>,
    endpoint: Option<&'a str>,
    attempts: u32,
    queue: Duration,
    connect: Duration,
    response_header: Duration,
    status: u16,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Fate {
    /// It has ended.
    Ended,
    /// Nothing has been done with it, and a newer snapshot can do more for it: it is to be handled again, with that.
    Outdated,
}

/// Handles one request.
pub async fn handle<D: Downstream>(context: &Context<'_>, down: &mut D) -> Fate {
    let mut handled = Handled { context, down, trace: Trace::default(), termination: None, outdated: false };
    let Handled { down, trace, .. } = &mut handled;
    let termination = match serve(context, *down, trace).await {
        Ok(termination) => termination,
        Err(Error::Outdated) => {
            handled.outdated = true;
            return Fate::Outdated;
        }
        Err(error) => {
            count_error(context.listener.live.counters.of(context.worker.id), &error);
            answer_error(*down, &error, trace).await;
            error.termination()
        }
    };
    handled.termination = Some(termination);
    Fate::Ended
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
        Error::HeadTimeout => counters.head_timeouts.one(),
        Error::ClientTimeout => counters.client_idle_timeouts.one(),
        Error::Refused(Refusal::HeadTooLarge) => counters.head_too_large.one(),
        Error::Refused(Refusal::TargetTooLong) => counters.target_too_long.one(),
        Error::Refused(Refusal::ExtensionsTooLarge) => counters.extensions_exceeded.one(),
        Error::Refused(_) => counters.bad_requests.one(),
        _ => {}
    }
}

/// Tells the client of an error, if anything can still be told.
async fn answer_error<D: Downstream>(down: &mut D, error: &Error, trace: &mut Trace<'_>) {
    if down.response_started() {
        return;
    }
    let json = down.view().field("accept").is_some_and(prefers_json);
    if let Some(own) = Own::of_error(error, json)
        && down.respond(&own).await.is_ok()
    {
        trace.status = own.status;
    }
}

async fn serve<'a, D: Downstream>(
    context: &Context<'a>,
    down: &mut D,
    trace: &mut Trace<'a>,
) -> Result<Termination, Error> {
    if let Some(own) = down.answered_here() {
        return respond(context, down, trace, &own).await;
    }
    let route = find_route(context, down.view())?;
    trace.route = Some(route);
    #[cfg(debug_assertions)]
    panic_if_asked(down.view().path());
    let chain = match &route.action {
        Action::Respond { status, body } => {
            return respond(context, down, trace, &Own::fixed(*status, body, &route.response_edits)).await;
        }
        Action::Redirect { to, status } => {
            let own = Own::redirect(*status, location(to, down.view()), &route.response_edits);
            return respond(context, down, trace, &own).await;
        }
        Action::Health(pool) => {
            let usable = context.snapshot.pools.get(*pool).is_some_and(|pool| pool.level().is_some());
            let (status, body) = if usable { (200, "usable\n") } else { (503, "not usable\n") };
            return respond(context, down, trace, &Own::fixed(status, body, &route.response_edits)).await;
        }
        Action::Pool(pool) => context.snapshot.pools.get(*pool).map_or(&[][..], |pool| &pool.chain),
        Action::Split(split) if split.by_source => split.choose(spread(down.view().source())),
        Action::Split(split) => split.choose(context.worker.random()),
    };
    let order = Order::new(&context.snapshot.pools, chain);
    let home = order.home().ok_or(Error::NoRoute)?;
    trace.pool = Some(home);
    forward(context, down, route, (order, home), trace).await.map(|()| Termination::Done)
}

async fn respond<D: Downstream>(
    context: &Context<'_>,
    down: &mut D,
    trace: &mut Trace<'_>,
    own: &Own,
) -> Result<Termination, Error> {
    context.listener.live.counters.of(context.worker.id).answered_here.one();
    down.respond(own).await?;
    trace.status = own.status;
    Ok(Termination::Responded)
}

fn find_route<'a, V: RequestView>(context: &Context<'a>, view: &V) -> Result<&'a Route, Error> {
    let Protocol::Http { table, routes } = &context.listener.protocol else { return Err(Error::NoRoute) };
    let found = table.find(view).and_then(|rule| context.snapshot.routes.get(*routes.get(rule)?));
    found.ok_or_else(|| {
        context.listener.live.counters.of(context.worker.id).no_route.one();
        Error::NoRoute
    })
}

/// The target of a redirect with its placeholders filled in.
fn location<V: RequestView>(pieces: &[Piece], view: &V) -> Vec<u8> {
    let mut to = Vec::with_capacity(128);
    for piece in pieces {
        match piece {
            Piece::Text(text) => to.extend_from_slice(text.as_bytes()),
            Piece::Host => to.extend_from_slice(view.authority()),
            Piece::Path => to.extend_from_slice(view.path()),
            Piece::Query => to.extend_from_slice(view.query().unwrap_or_default()),
            Piece::Uri => {
                to.extend_from_slice(view.path());
                if let Some(query) = view.query() {
                    to.push(b'?');
                    to.extend_from_slice(query);
                }
            }
        }
    }
    to
}

/// Spreads addresses evenly over all numbers, the same on every node (FNV-1a with a finalizer, so that neighbours
/// part).
fn spread(source: IpAddr) -> u64 {
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

/// The path that goes on where the route rewrites it.
fn rewritten(rewrite: Option<&Rewrite>, path: &[u8]) -> Option<Vec<u8>> {
    match rewrite? {
        Rewrite::Path(with) => Some(with.as_bytes().to_vec()),
        // The star of OPTIONS is no path and has no prefix.
        Rewrite::Prefix { .. } if path == b"*" => None,
        Rewrite::Prefix { matched, with } => {
            let rest = strip_prefix(path, matched).unwrap_or(Cow::Borrowed(path));
            let with = with.trim_end_matches('/').as_bytes();
            let mut path = Vec::with_capacity(with.len() + rest.len() + 1);
            path.extend_from_slice(with);
            if !rest.starts_with(b"/") && (!rest.is_empty() || with.is_empty()) {
                path.push(b'/');
            }
            path.extend_from_slice(&rest);
            Some(path)
        }
    }
}

/// Sends the request to endpoints of the pool until one answers or no other may be asked, and delivers the answer.
async fn forward<'a, D: Downstream>(
    context: &Context<'a>,
    down: &mut D,
    route: &'a Route,
    (order, pool): (Order<'a>, &'a Pool),
    trace: &mut Trace<'a>,
) -> Result<(), Error> {
    let (policy, body_max) = match &route.retry {
        Some((policy, max)) => (policy, *max),
        None => (&pool.retry, pool.retry_body),
    };
    pool.live.counters.of(context.worker.id).started.one();
    let idempotent = down.view().method().is_idempotent();
    let idempotency_key = !idempotent && down.view().field("idempotency-key").is_some();
    let repeatable = policy.repeatable(idempotent, idempotency_key);
    if repeatable {
        down.keep_body(body_max);
    }
    let path = rewritten(route.rewrite.as_ref(), down.view().path());
    let edits = RequestEdits {
        route: &route.request_edits,
        path: path.as_deref(),
        peer: context.peer.ip().to_canonical(),
        source: down.view().source(),
        trusted: context.trusted,
        scheme: "http",
        request_id: context.request_id,
    };
    let mut tries = Tries::new(context.worker, order, pool, route.timeouts, Work::Request);
    tries.key = pool.hash_key.as_ref().map(|key| hash_key::of_request(key, down.view()));
    let mut forwarding = Forwarding {
        context,
        down,
        tries,
        policy,
        edits: &edits,
        idempotent,
        idempotency_key,
        repeatable,
        waits: 0,
        start: Instant::now(),
        trace,
    };
    let answered = forwarding.run().await;
    drop(forwarding);
    if repeatable && !down.body_will_repeat() {
        pool.live.counters.of(context.worker.id).retry_body_exceeded.one();
    }
    let (connection, answer) = answered?;
    trace.status = D::status(&answer);
    let timeouts = connection.place.pool.timeouts.with(&route.timeouts);
    down.deliver(connection, answer, &route.response_edits, &timeouts).await
}

/// A request on its way to one endpoint after the other.
struct Forwarding<'c, 'a, D> {
    context: &'c Context<'a>,
    down: &'c mut D,
    tries: Tries<'a>,
    policy: &'a retry::Policy,
    edits: &'c RequestEdits<'c>,
    idempotent: bool,
    /// It carries an `Idempotency-Key`.
    idempotency_key: bool,
    /// It may be sent twice.
    repeatable: bool,
    /// Times the same endpoint was asked again.
    waits: u32,
    start: Instant,
    trace: &'c mut Trace<'a>,
}

impl<'a, D: Downstream> Forwarding<'_, 'a, D> {
    async fn run(&mut self) -> Result<(Connection<'a>, D::Answer), Error> {
        let mut place = self.tries.pick(self.context.timer, self.down.gone()).await?;
        let mut fresh = false;
        loop {
            let endpoint = place.endpoint;
            let mut connection = match self.connect(place, fresh).await {
                Ok(connection) => connection,
                Err(error) => {
                    fresh = false;
                    let failed = Failed { error, bytes_sent: false, answer_bytes: false };
                    place = self.go_on(endpoint, self.decide(endpoint, &failed, false), failed.error).await?;
                    continue;
                }
            };
            self.count(&connection, fresh);
            let timeouts = self.timeouts(&connection, endpoint);
            let sent = Instant::now();
            let outcome = self.down.exchange(&connection, self.edits, &timeouts).await;
            self.trace.response_header = sent.elapsed();
            fresh = false;
            let failed = match outcome {
                Ok(answer) => {
                    let status = D::status(&answer);
                    self.tries.answered(&mut connection.place, status, self.trace.response_header);
                    match self.instead_of(endpoint, Failure::Status(status)).await {
                        Some(next) => place = next,
                        // An answer that nobody likes is better than none.
                        None => return Ok((connection, answer)),
                    }
                    continue;
                }
                Err(failed) => failed,
            };
            let next = self.decide(endpoint, &failed, connection.reused);
            if next == Next::RepeatFresh {
                connection.place.endpoint.live.counters.of(self.context.worker.id).stale.one();
                fresh = true;
                place = connection.place;
                continue;
            }
            let late = matches!(failed.error, Error::Timeout) && self.context.timer.is_late();
            self.tries.failed(connection.place, &failed.error, late);
            drop(connection.stream);
            place = self.go_on(endpoint, next, failed.error).await?;
        }
    }

    /// The next place, or the error that the client hears of.
    async fn go_on(&mut self, endpoint: &Endpoint, next: Next, error: Error) -> Result<Place<'a>, Error> {
        if let Some(failure) = error.failure()
            && next.draws(failure)
            && !self.may_retry()
        {
            return Err(error);
        }
        match next {
            Next::Another | Next::Repick => {}
            Next::SameAfter(bound) => {
                self.wait(retry::wait(bound, self.context.worker.random())).await?;
                self.tries.tried.remove(endpoint);
                self.waits += 1;
            }
            Next::RepeatFresh | Next::GiveUp(_) => return Err(error),
        }
        match self.tries.pick(self.context.timer, self.down.gone()).await {
            // Nothing else is left: the client hears of what went wrong, not of that.
            Err(Error::NothingUsable { .. }) => Err(error),
            picked => picked,
        }
    }

    /// A place elsewhere for a request whose answer has a status that is to be tried again; nothing where the answer
    /// stands.
    async fn instead_of(&mut self, endpoint: &Endpoint, failure: Failure) -> Option<Place<'a>> {
        if !self.policy.lists(failure)
            || self.decide_on(endpoint, failure) != Next::Another
            || !self.may_retry()
        {
            return None;
        }
        self.tries.tried.add(endpoint);
        self.tries.pick_now()
    }

    fn may_retry(&self) -> bool {
        let home = self.tries.home;
        let allowed = home.may_retry();
        if !allowed {
            home.live.counters.of(self.context.worker.id).retries_refused.one();
        }
        allowed
    }

    async fn wait(&mut self, time: Duration) -> Result<(), Error> {
        tokio::select! {
            () = tokio::time::sleep(time) => Ok(()),
            () = self.down.gone() => Err(Error::ClientGone),
        }
    }

    /// The times of this attempt: the pool's, the route's in their place. One try may take less where another would
    /// follow; cutting the last one short would only turn a late answer into none.
    fn timeouts(&self, connection: &Connection<'_>, endpoint: &Endpoint) -> Timeouts {
        let mut timeouts = self.tries.timeouts(connection.place.pool);
        if let Some(limit) = self.policy.per_try_timeout
            && self.decide_on(endpoint, Failure::Timeout) == Next::Another
        {
            timeouts.response_header = timeouts.response_header.min(limit);
        }
        timeouts
    }

    async fn connect(&mut self, place: Place<'a>, fresh: bool) -> Result<Connection<'a>, Error> {
        let place = if fresh {
            place
        } else {
            let repeatable = self.repeatable && self.down.body_will_repeat();
            match self.tries.reuse(place, !repeatable) {
                Ok(connection) => return Ok(connection),
                Err(place) => place,
            }
        };
        tokio::select! {
            biased;
            dialed = self.tries.dial(place, self.context.timer) => dialed,
            () = self.down.gone() => Err(Error::ClientGone),
        }
    }

    fn count(&mut self, connection: &Connection<'a>, fresh: bool) {
        let worker = self.context.worker.id;
        let endpoint = connection.place.endpoint;
        self.trace.endpoint = Some(endpoint.name.as_str());
        if fresh {
            return;
        }
        endpoint.live.counters.of(worker).attempts.one();
        if self.tries.attempts > 0 {
            self.tries.home.live.counters.of(worker).retries.one();
        }
        self.tries.attempts += 1;
    }

    fn decide(&self, endpoint: &Endpoint, failed: &Failed, reused: bool) -> Next {
        let Some(failure) = failed.error.failure() else { return Next::GiveUp(retry::Why::NotListed) };
        retry::next(
            self.policy,
            &Facts {
                failure,
                reused,
                bytes_sent: failed.bytes_sent,
                answer_bytes: failed.answer_bytes,
                ..self.facts(endpoint)
            },
        )
    }

    fn decide_on(&self, endpoint: &Endpoint, failure: Failure) -> Next {
        let facts = self.facts(endpoint);
        retry::next(self.policy, &Facts { failure, bytes_sent: true, answer_bytes: true, ..facts })
    }

    fn facts(&self, endpoint: &Endpoint) -> Facts {
        Facts {
            failure: Failure::Reset,
            idempotent: self.idempotent,
            idempotency_key: self.idempotency_key,
            reused: false,
            bytes_sent: false,
            answer_bytes: false,
            body_replayable: self.down.body_is_replayable(),
            response_started: self.down.response_started() || self.down.interim_passed(),
            attempts: self.tries.attempts,
            waits: self.waits,
            elapsed: self.start.elapsed(),
            other_usable: self.tries.has_another(endpoint),
            alone: self.tries.order.is_alone(endpoint),
        }
    }
}

impl<D> Drop for Forwarding<'_, '_, D> {
    /// Also where the request is cut short its record says what had been tried.
    fn drop(&mut self) {
        self.trace.attempts = self.tries.attempts;
        self.trace.queue = self.tries.queued;
        self.trace.connect = self.tries.connecting;
    }
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
    if let Some(pool) = trace.pool {
        let counters = pool.live.counters.of(worker.id);
        counters.ended.count(trace.status);
        counters.duration.observe(total);
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
            if context.trusted { 0 } else { context.peer.port() },
        ),
        peer: context.peer,
        listener: context.listener.name.as_str(),
        route: trace.route.map(|r| r.name.as_str()),
        pool: trace.pool.map(|p| p.name.as_str()),
        endpoint: trace.endpoint,
        attempts: trace.attempts,
        protocol: context.version,
        method: view.method_bytes(),
        host: view.authority(),
        target,
        status: trace.status,
        bytes_in,
        bytes_out,
        phases: Phases {
            head: context.head,
            queue: trace.queue,
            connect: trace.connect,
            response_header: trace.response_header,
            total,
        },
        termination,
        request_id: context.request_id,
    });
}

#[cfg(test)]
#[path = "request/tests.rs"]
mod tests;
