//! A request on its way to endpoints: pick, connect, send, judge what came of it, and the next one until one answers.
//!
//! Which route and pool it takes is decided before, in `request`; the tries themselves are `attempt`'s.

mod hedge;

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::attempt::{Connection, Tries};
use super::edits;
use super::error::Error;
use super::gate;
use super::hash_key;
use super::http1::encode::RequestEdits;
use super::phases::Altered;
use super::request::{Context, Downstream, Failed, Trace, is_call};
use super::span::{Attempt, Tracked};
use super::sticky::Affinity;
use super::timer::Timer;
use super::upstream::tls;
use crate::model::grpc;
use crate::model::protocol::Protocol;
use crate::model::request::RequestView;
use crate::policy::retry::{self, Facts, Failure, Next};
use crate::policy::traces::Traced;
use crate::route::template;
use crate::runtime::endpoint::{Endpoint, Work};
use crate::runtime::pick::{Order, Place};
use crate::runtime::pool::{Pool, Timeouts};
use crate::runtime::snapshot::Route;

/// Sends the request to endpoints of the pool until one answers or no other may be asked, and delivers the answer.
pub(super) async fn forward<'a, D: Downstream>(
    context: &Context<'a>,
    down: &mut D,
    route: &'a Route,
    (order, pool, affinity): (Order<'a>, &'a Pool, Option<Box<Affinity<'a>>>),
    (altered, trace): (&mut Altered<'a>, &mut Trace<'a>),
) -> Result<(), Error> {
    let own = route.retry.as_ref();
    let (policy, body_max) = own.map_or((&pool.retry, pool.retry_body), |(p, max)| (p, *max));
    pool.live.counters.of(context.worker.id).started.one();
    let idempotent = down.view().method().is_idempotent();
    let idempotency_key = !idempotent && down.view().field("idempotency-key").is_some();
    let repeatable = policy.repeatable(idempotent, idempotency_key);
    let call = is_call(down.view());
    let deadline = call.then(|| deadline(context, down.view())).flatten();
    // What HTTP/2 endpoints give back may be sent again whatever its method, if it is still here.
    if repeatable || call || pool.protocol != Protocol::Http1 {
        down.keep_body(body_max);
    }
    let tracked = trace.tracked.clone();
    let traced = tracked.as_ref().map(|tracked| &tracked.traced);
    let edits = edits_of_request(context, down.view(), route, (altered, traced, deadline));
    let tries = tries(context, down, route, (order, pool), affinity.as_deref());
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
    // The rare way is boxed, and neither is handed on: a future that is passed to a function is carried twice.
    let answered = match deadline {
        None => forwarding.run().await,
        Some(at) => Box::pin(timeout_at(at, forwarding.run())).await.unwrap_or(Err(Error::Deadline)),
    };
    drop(forwarding);
    if repeatable && !down.body_will_repeat() {
        pool.live.counters.of(context.worker.id).retry_body_exceeded.one();
    }
    let (connection, answer) = answered?;
    trace.status = D::status(&answer);
    let timeouts = connection.place.pool.timeouts.with(&route.timeouts);
    edit_answer(context, down, (route, &order, affinity), (&connection, &answer), altered);
    let edits = altered.response(&route.response_edits.fixed);
    if let Some(own) = gate::intercept(context, down, route, &answer) {
        // What is left of the answer is for nobody, and its connection cannot be kept.
        drop((connection, answer));
        return Box::pin(down.respond(&own, edits)).await;
    }
    match deadline {
        None => down.deliver(connection, answer, edits, &timeouts).await,
        Some(at) => {
            let delivered =
                Box::pin(timeout_at(at, down.deliver(connection, answer, edits, &timeouts))).await;
            delivered.unwrap_or(Err(Error::Deadline))
        }
    }
}

/// What changes in a request's head on its way.
fn edits_of_request<'e, V: RequestView>(
    context: &'e Context<'_>,
    view: &V,
    route: &'e Route,
    (altered, trace, deadline): (&'e Altered<'_>, Option<&'e Traced>, Option<Instant>),
) -> RequestEdits<'e> {
    RequestEdits {
        route: &route.request_edits.fixed,
        altered,
        peer: context.client.source().ip().to_canonical(),
        source: view.source(),
        trusted: context.trusted,
        family: context.listener.forwarded,
        scheme: context.scheme(),
        told: context.told(),
        request_id: context.request_id,
        trace,
        deadline,
    }
}

/// No tries yet, of a request that says this of where they may go.
fn tries<'a, D: Downstream>(
    context: &Context<'a>,
    down: &D,
    route: &Route,
    (order, pool): (Order<'a>, &'a Pool),
    affinity: Option<&Affinity<'a>>,
) -> Tries<'a> {
    let mut tries = Tries::new(context.worker, context.client, order, pool, route.timeouts, Work::Request);
    tries.host = order.follows_host().then(|| tls::host(down.view().authority())).flatten();
    tries.key = pool.hash_key.as_ref().map(|key| hash_key::of_request(key, down.view()));
    tries.tunnel = down.wants_tunnel();
    tries.class = route.class;
    tries.bound = affinity.and_then(Affinity::bound);
    tries
}

/// Changes an answer as its route asks for, knowing who has given it, and as the client has to be told where it belongs.
fn edit_answer<'a, D: Downstream>(
    context: &Context<'a>,
    down: &D,
    (route, order, affinity): (&'a Route, &Order<'a>, Option<Box<Affinity<'a>>>),
    (connection, answer): (&Connection<'a>, &D::Answer),
    altered: &mut Altered<'a>,
) {
    if let Some(affinity) = affinity {
        let served = (connection.place.pool, connection.place.endpoint);
        affinity.settle::<D>(context, order, served, (down.view(), answer), altered);
    }
    if route.response_edits.is_fixed() {
        return;
    }
    let facts = template::Facts {
        pool: Some(connection.place.pool.name.as_str()),
        endpoint: Some(connection.place.endpoint.name.as_str()),
        status: Some(D::status(answer)),
        ..edits::facts(context, Some(route))
    };
    let fields = || D::answer_fields(answer);
    edits::of_answer(&route.response_edits, (down.view(), &facts), fields, altered);
}

/// When the time is over that the client of a gRPC call has given for it.
fn deadline<V: RequestView>(context: &Context<'_>, view: &V) -> Option<Instant> {
    context.start.checked_add(grpc::timeout(view.field("grpc-timeout")?)?)
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

/// What an attempt came to.
struct Heard<'a, A> {
    connection: Connection<'a>,
    outcome: Result<A, Failed>,
    /// From when the request was sent.
    took: Duration,
    /// It is no evidence against the endpoint, because our own timer ran late.
    late: bool,
}

/// Whether an attempt timed out by a timer of ours that ran late, which says nothing of the endpoint.
fn is_late<A>(outcome: &Result<A, Failed>, timer: &Timer) -> bool {
    matches!(outcome, Err(failed) if matches!(failed.error, Error::Timeout)) && timer.is_late()
}

impl<'a, D: Downstream> Forwarding<'_, 'a, D> {
    async fn run(&mut self) -> Result<(Connection<'a>, D::Answer), Error> {
        let mut place = self.tries.pick(self.context.timer, self.edits.deadline, self.down.gone()).await?;
        let mut repeats = 0;
        loop {
            let endpoint = place.endpoint;
            let mut connection = match self.connect(place, repeats > 0).await {
                Ok(connection) => connection,
                Err(error) => {
                    repeats = 0;
                    let failed = Failed { error, bytes_sent: false, answer_bytes: false };
                    place = self
                        .go_on(endpoint, self.decide(endpoint, &failed, (false, false), 0), failed.error)
                        .await?;
                    continue;
                }
            };
            let shared = connection.reused;
            // What has been repeated because its connection was stale is not repeated for that again.
            connection.reused &= repeats == 0;
            self.count(&connection, repeats > 0);
            let timeouts = self.timeouts(&connection, endpoint);
            let hedge = self.policy.hedge.as_ref();
            let hedge_after = hedge.and_then(|settings| self.hedge_after(settings, &connection.place));
            let (outcome, took, late);
            if let Some(after) = hedge_after {
                // Boxed: most requests are not hedged, and every one would weigh so much more.
                let heard = Box::pin(self.hedged(connection, timeouts, after)).await;
                (connection, outcome) = (heard.connection, heard.outcome);
                (took, late) = (heard.took, heard.late);
            } else {
                let sent = Instant::now();
                let (mut sending, _) = self.compose(&connection);
                outcome = self.down.exchange(&connection, &mut sending, &timeouts).await;
                took = sent.elapsed();
                self.end_span(None, outcome.as_ref());
                late = is_late(&outcome, self.context.timer);
            }
            let endpoint = connection.place.endpoint;
            self.trace.endpoint = Some(endpoint.name.as_str());
            self.trace.response_header = took;
            let repeated = std::mem::take(&mut repeats);
            let failed = match outcome {
                Ok(answer) => {
                    let status = D::verdict(&answer);
                    if hedge.is_some() {
                        let times = connection.place.pool.live.answer_times();
                        times.observe(self.context.worker.id, took);
                    }
                    self.tries.answered(&mut connection.place, status, took);
                    match self.instead_of(endpoint, Failure::Status(status)).await {
                        Some(next) => place = next,
                        // An answer that nobody likes is better than none.
                        None => return Ok((connection, answer)),
                    }
                    continue;
                }
                Err(failed) => failed,
            };
            let next = self.decide(endpoint, &failed, (shared, connection.reused), repeated);
            self.note_given_back(endpoint, &failed, next);
            if next == Next::RepeatFresh {
                repeats = repeated + 1;
                place = connection.place;
                continue;
            }
            self.tries.failed(connection.place, &failed.error, late);
            drop(connection.link);
            place = self.go_on(endpoint, next, failed.error).await?;
        }
    }

    /// The request as it goes over a connection, and its span where it is recorded, which the endpoint is told.
    fn compose(&mut self, connection: &Connection<'a>) -> (D::Sending, Option<Attempt>) {
        let Some(Tracked { traced, spans: Some(spans) }) = self.trace.tracked.as_deref() else {
            return (self.down.compose(connection, self.edits), None);
        };
        let (attempt, span) = spans.begin(&connection.place, self.context.worker.random());
        let within = traced.within(span);
        let edits = RequestEdits { trace: Some(&within), ..*self.edits };
        (self.down.compose(connection, &edits), Some(attempt))
    }

    /// Ends the span of an attempt, or of the last one.
    fn end_span(&self, attempt: Option<Attempt>, outcome: Result<&D::Answer, &Failed>) {
        if let Some(Tracked { spans: Some(spans), .. }) = self.trace.tracked.as_deref() {
            spans.end(attempt, outcome.map(D::status).map_err(|failed| &failed.error));
        }
    }

    /// Takes note of a request that was given back, and of a connection that turned out to be stale.
    fn note_given_back(&mut self, endpoint: &Endpoint, failed: &Failed, next: Next) {
        let counters = endpoint.live.counters.of(self.context.worker.id);
        match (next, failed.error.given_back()) {
            (Next::RepeatFresh, Some(_)) => counters.given_back.one(),
            (Next::RepeatFresh, None) => counters.stale.one(),
            // Nothing was attempted, in effect; what follows is counted in its place.
            (Next::Repick | Next::SameAfter(_), Some(_)) => self.tries.attempts -= 1,
            _ => {}
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
        match self.tries.pick(self.context.timer, self.edits.deadline, self.down.gone()).await {
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

    /// What follows a failure on a connection that had carried requests before, and whether that may have made it stale.
    fn decide(
        &self,
        endpoint: &Endpoint,
        failed: &Failed,
        (shared, reused): (bool, bool),
        repeats: u32,
    ) -> Next {
        let Some(failure) = failed.error.failure() else { return Next::GiveUp(retry::Why::NotListed) };
        let given_back = failed.error.given_back();
        let facts = self.facts(endpoint);
        retry::next(
            self.policy,
            &Facts {
                failure,
                // A stream that was reset says nothing of its connection.
                reused: match given_back {
                    Some(_) => shared,
                    None => reused && !matches!(failed.error, Error::StreamReset(_)),
                },
                bytes_sent: failed.bytes_sent,
                answer_bytes: failed.answer_bytes,
                given_back,
                repeats,
                // What it cannot do now it cannot do after a wait.
                alone: facts.alone && !matches!(failed.error, Error::NoTunnel),
                ..facts
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
            given_back: None,
            body_replayable: self.down.body_is_replayable(),
            response_started: self.down.response_started() || self.down.interim_passed(),
            attempts: self.tries.attempts,
            waits: self.waits,
            repeats: 0,
            elapsed: self.start.elapsed(),
            other_usable: self.tries.has_another(endpoint),
            alone: self.tries.is_alone(endpoint),
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
