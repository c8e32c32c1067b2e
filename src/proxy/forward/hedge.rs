//! A second attempt beside one that is slow: both are under way, the first answer is taken, the other attempt is
//! cancelled. When it may begin is `policy::hedge`'s to say, and what follows a failure of both `forward`'s.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Forwarding, Heard, is_late};
use crate::model::request::RequestView;
use crate::policy::hedge::{self, Settings};
use crate::policy::retry::Failure;
use crate::proxy::attempt::{Connection, Link, Missed};
use crate::proxy::error::Error;
use crate::proxy::request::{Downstream, Failed};
use crate::proxy::span;
use crate::proxy::timer::Timer;
use crate::runtime::pick::{Order, Place};
use crate::runtime::pool::Timeouts;

/// One of two attempts.
struct Attempt<'a, S> {
    connection: Connection<'a>,
    sending: S,
    /// Its span, where it is recorded.
    span: Option<span::Attempt>,
    timeouts: Timeouts,
    sent: Instant,
    /// What the second one has of its own.
    beside: Option<Beside>,
}

/// What only the second attempt has.
struct Beside {
    timer: Timer,
    connecting: Duration,
}

/// What came of connecting for the second attempt, and its timer.
type Dialed = (Result<Link, Missed>, Timer);

/// A connection that is being made for the second attempt.
struct Dialing<'a> {
    place: Place<'a>,
    start: Instant,
    dialed: Pin<Box<dyn Future<Output = Dialed> + 'a>>,
}

/// How the second attempt begins.
enum Begun<'a, S> {
    Dialing(Dialing<'a>),
    Sent(Box<Attempt<'a, S>>),
}

/// What has happened to two attempts.
enum Step<A> {
    /// To the first or the second.
    Heard(usize, Result<Option<A>, Failed>),
    Dialed(Result<Link, Missed>, Timer),
}

impl<'a, D: Downstream> Forwarding<'_, 'a, D> {
    /// How long the attempt at `place` may wait for its answer before another begins beside it; nothing where none may.
    pub(super) fn hedge_after(&self, settings: &Settings, place: &Place<'a>) -> Option<Duration> {
        let facts = hedge::Facts {
            // What becomes of the connection afterwards cannot be shared.
            repeatable: self.repeatable && self.down.view().field("upgrade").is_none(),
            body_replayable: self.down.body_will_repeat(),
            response_started: self.down.response_started() || self.down.interim_passed(),
            attempts: self.tries.attempts,
            hedged: false,
            other_usable: Order::has_beside(place, &self.tries.tried),
            elapsed: self.start.elapsed(),
            usual: place.pool.live.answer_times().quantile(settings.after),
        };
        hedge::hedge_after(settings, self.policy, &facts)
    }

    /// Sends the request on `connection`, and to another endpoint when nothing has come after so long.
    pub(super) async fn hedged(
        &mut self,
        connection: Connection<'a>,
        timeouts: Timeouts,
        after: Duration,
    ) -> Heard<'a, D::Answer> {
        let (sending, span) = self.compose(&connection);
        let mut first =
            Box::new(Attempt { connection, sending, span, timeouts, sent: Instant::now(), beside: None });
        let heard = match self.alone(&mut first, after).await {
            Some(heard) => heard,
            None => match self.begin_beside(&first.connection.place) {
                Some(begun) => return self.race(first, begun).await,
                // As if it had been nothing to hedge.
                None => Ok(None),
            },
        };
        self.finish(*first, heard).await
    }

    /// Waits for an answer, until it is late.
    async fn alone(
        &mut self,
        first: &mut Attempt<'a, D::Sending>,
        after: Duration,
    ) -> Option<Result<Option<D::Answer>, Failed>> {
        // Its tick is finer than that of the worker's wheel, and few requests need it.
        let mut late = pin!(sleep(after));
        let mut sent = false;
        poll_fn(|cx| {
            if let Poll::Ready(heard) = self.poll_attempt(cx, first) {
                return Poll::Ready(Some(heard));
            }
            if !sent {
                if !self.down.is_sent(&first.sending) {
                    return Poll::Pending;
                }
                sent = true;
                late.as_mut().reset(Instant::now() + after);
            }
            late.as_mut().poll(cx).map(|()| None)
        })
        .await
    }

    fn poll_attempt(
        &mut self,
        cx: &mut Context<'_>,
        attempt: &mut Attempt<'a, D::Sending>,
    ) -> Poll<Result<Option<D::Answer>, Failed>> {
        let Attempt { connection, sending, timeouts, beside, .. } = attempt;
        let timer = beside.as_ref().map_or(self.context.timer, |beside| &beside.timer);
        self.down.poll_head(cx, connection, sending, timeouts, timer)
    }

    /// A second attempt beside the one at `place`, if there is room for it and the budget pays.
    fn begin_beside(&mut self, place: &Place<'a>) -> Option<Begun<'a, D::Sending>> {
        // While the body came it may have become too much to keep, or too late.
        if !self.down.body_is_replayable() || self.start.elapsed() >= self.policy.within {
            return None;
        }
        self.tries.tried.add(place.endpoint);
        let place = self.tries.pick_beside(place)?;
        let home = self.tries.home;
        if !home.may_retry() {
            home.live.counters.of(self.context.worker.id).hedges_refused.one();
            return None;
        }
        let timer = self.context.worker.timers.timer();
        Some(match self.tries.reuse(place, false) {
            Ok(connection) => {
                Begun::Sent(self.send_beside(connection, Beside { timer, connecting: Duration::ZERO }))
            }
            Err(place) => {
                let way = self.tries.way(&place).ok()?;
                let dialed = Box::pin(async move { (way.go(&timer).await, timer) });
                Begun::Dialing(Dialing { place, start: Instant::now(), dialed })
            }
        })
    }

    fn send_beside(&mut self, connection: Connection<'a>, beside: Beside) -> Box<Attempt<'a, D::Sending>> {
        let endpoint = connection.place.endpoint;
        let worker = self.context.worker.id;
        endpoint.live.counters.of(worker).attempts.one();
        self.tries.home.live.counters.of(worker).hedges.one();
        self.tries.attempts += 1;
        let timeouts = self.timeouts(&connection, endpoint);
        let (sending, span) = self.compose(&connection);
        Box::new(Attempt { connection, sending, span, timeouts, sent: Instant::now(), beside: Some(beside) })
    }

    /// Waits for the first answer of two; one that fails leaves it to the other.
    async fn race(
        &mut self,
        first: Box<Attempt<'a, D::Sending>>,
        begun: Begun<'a, D::Sending>,
    ) -> Heard<'a, D::Answer> {
        let (second, mut dialing) = match begun {
            Begun::Sent(second) => (Some(second), None),
            Begun::Dialing(dialing) => (None, Some(dialing)),
        };
        let mut two = [Some(first), second];
        // An answer that would rather be another's, for the case that no other comes.
        let mut spare: Option<Heard<'a, D::Answer>> = None;
        loop {
            let (ended, heard) = match poll_fn(|cx| self.poll_two(cx, &mut two, &mut dialing)).await {
                Step::Heard(index, heard) => (two.get_mut(index).and_then(Option::take), heard),
                Step::Dialed(dialed, timer) => {
                    let connected = dialing.take().and_then(|dialing| self.dialed(dialing, dialed, timer));
                    two[1] = connected.map(|(connection, beside)| self.send_beside(connection, beside));
                    continue;
                }
            };
            let Some(ended) = ended else { continue };
            let is_last = two.iter().all(Option::is_none);
            if is_last || !self.leaves_it_to_another(&heard) {
                for loser in two.iter().flatten() {
                    loser.connection.place.took_longer(loser.sent.elapsed());
                }
                drop((two, dialing));
                return self.settle(*ended, heard, spare).await;
            }
            match heard {
                Ok(Some(answer)) => spare = Some(self.heard(*ended, Ok(answer))),
                Ok(None) => {}
                Err(failed) => {
                    let heard = self.heard(*ended, Err(failed));
                    self.lost(heard);
                }
            }
        }
    }

    fn poll_two(
        &mut self,
        cx: &mut Context<'_>,
        two: &mut [Option<Box<Attempt<'a, D::Sending>>>; 2],
        dialing: &mut Option<Dialing<'a>>,
    ) -> Poll<Step<D::Answer>> {
        for (index, attempt) in two.iter_mut().enumerate() {
            if let Some(attempt) = attempt
                && let Poll::Ready(heard) = self.poll_attempt(cx, attempt)
            {
                return Poll::Ready(Step::Heard(index, heard));
            }
        }
        match dialing {
            Some(dialing) => {
                dialing.dialed.as_mut().poll(cx).map(|(dialed, timer)| Step::Dialed(dialed, timer))
            }
            None => Poll::Pending,
        }
    }

    /// The second attempt's connection; where none could be made, the first attempt goes on alone.
    fn dialed(
        &mut self,
        dialing: Dialing<'a>,
        dialed: Result<Link, Missed>,
        timer: Timer,
    ) -> Option<(Connection<'a>, Beside)> {
        let connection = self.tries.dialed(dialing.place, dialed).ok()?;
        Some((connection, Beside { timer, connecting: dialing.start.elapsed() }))
    }

    /// Whether an attempt that came to this matters less than another that is under way.
    fn leaves_it_to_another(&self, heard: &Result<Option<D::Answer>, Failed>) -> bool {
        match heard {
            Ok(Some(answer)) => self.policy.lists(Failure::Status(D::verdict(answer))),
            // The client has part of an answer as soon as this is passed on.
            Ok(None) => false,
            Err(failed) => failed.error.failure().is_some(),
        }
    }

    /// What the attempt that was the last, or has won, comes to.
    async fn settle(
        &mut self,
        ended: Attempt<'a, D::Sending>,
        heard: Result<Option<D::Answer>, Failed>,
        spare: Option<Heard<'a, D::Answer>>,
    ) -> Heard<'a, D::Answer> {
        let heard = self.finish(ended, heard).await;
        match spare {
            // An answer that nobody likes is better than none.
            Some(spare) if heard.outcome.as_ref().is_err_and(|failed| failed.error.failure().is_some()) => {
                self.lost(heard);
                spare
            }
            Some(spare) => {
                self.lost(spare);
                heard
            }
            None => heard,
        }
    }

    /// Brings an attempt to its end, where an interim answer has come or nothing yet.
    async fn finish(
        &mut self,
        mut attempt: Attempt<'a, D::Sending>,
        heard: Result<Option<D::Answer>, Failed>,
    ) -> Heard<'a, D::Answer> {
        let outcome = match heard {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => {
                let Attempt { connection, sending, timeouts, .. } = &mut attempt;
                self.down.exchange(connection, sending, timeouts).await
            }
            Err(failed) => Err(failed),
        };
        if let (Ok(_), Some(beside)) = (&outcome, &attempt.beside) {
            self.tries.home.live.counters.of(self.context.worker.id).hedges_won.one();
            self.tries.connecting += beside.connecting;
        }
        self.heard(attempt, outcome)
    }

    fn heard(
        &mut self,
        attempt: Attempt<'a, D::Sending>,
        outcome: Result<D::Answer, Failed>,
    ) -> Heard<'a, D::Answer> {
        let timer = attempt.beside.as_ref().map_or(self.context.timer, |beside| &beside.timer);
        let late = is_late(&outcome, timer);
        self.end_span(attempt.span, outcome.as_ref());
        Heard { connection: attempt.connection, outcome, took: attempt.sent.elapsed(), late }
    }

    /// Notes an attempt of which the client does not hear.
    fn lost(&mut self, heard: Heard<'a, D::Answer>) {
        let Heard { mut connection, outcome, took, late } = heard;
        match outcome {
            Ok(answer) => self.tries.answered(&mut connection.place, D::verdict(&answer), took),
            // Closed while it lay idle: no failure of the endpoint's.
            Err(failed) if self.is_stale(&failed, connection.reused) => {
                let worker = self.context.worker.id;
                connection.place.endpoint.live.counters.of(worker).stale.one();
            }
            Err(failed) => self.tries.failed(connection.place, &failed.error, late),
        }
    }

    fn is_stale(&self, failed: &Failed, reused: bool) -> bool {
        matches!(failed.error, Error::Reset) && reused && !failed.answer_bytes
    }
}
