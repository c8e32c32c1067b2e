//! What live traffic says of an endpoint: the policies of ejection and breakers, shared among workers.
//!
//! A success writes counters of its own worker and looks at one word; only while that says that somebody has to hear of
//! it does it take a lock. A failure takes the lock of its pool and of its endpoint, and lets the policies judge on the
//! sums over all workers. What time brings (an ejection that is over, a breaker that lets trials through) comes with
//! [`tick`].

mod memory;

use std::time::Duration;

use super::condition::{Impediment, Level};
use super::counters::WorkerId;
use super::endpoint::{Endpoint, EndpointLive};
use super::pick::Order;
use super::pool::Pool;
use super::sync::{AtomicU32, Mutex, Ordering, lock};
use crate::policy::balance::peak_ewma::effective_rtt;
use crate::policy::breaker::{self, Breaker, Gate, Scope, Trial};
use crate::policy::outlier::{self, Decision, Outlier, Return};
use crate::policy::retry::Failure;
use crate::policy::window::Totals;
pub use memory::{Memory, resume};

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A response head with this status, or 0 for a tcp connection that was made; so long after the request was sent.
    Answered {
        /// The status.
        status: u16,
        /// The time to it.
        after: Duration,
    },
    /// It failed.
    Failed(Failure),
}

/// What live traffic changed.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The endpoint was ejected.
    Ejected(outlier::Ejection),
    /// It ought to have been, but a cap keeps it.
    EjectionHeld {
        /// The evidence.
        because: outlier::Because,
        /// What keeps it.
        cap: outlier::Cap,
    },
    /// Its ejection is over.
    Returned,
    /// Its breaker, or the pool's, did this.
    Breaker(breaker::Change),
}

/// The verdicts on one endpoint, or on a pool as a whole.
#[derive(Debug, Default)]
pub struct Judged {
    state: Mutex<State>,
    /// Not 0 while the policies must hear of successes.
    listens: AtomicU32,
    /// The breaker's epoch, which an attempt carries to its end.
    epoch: AtomicU32,
}

#[derive(Debug, Default)]
struct State {
    outlier: Option<Outlier>,
    breaker: Option<Breaker>,
    /// Since the start, for the metrics.
    ejections: u64,
    /// Times that the breaker opened since the start, for the metrics.
    openings: u64,
}

impl State {
    fn count(&mut self, change: &Change) {
        match change {
            Change::Ejected(_) => self.ejections += 1,
            Change::Breaker(breaker::Change::Opened { .. }) => self.openings += 1,
            _ => {}
        }
    }
}

/// Trials that an attempt is; given back where nothing comes of it.
#[derive(Debug, Default)]
pub(super) struct Trials {
    endpoint: Option<Trial>,
    pool: Option<Trial>,
}

impl Judged {
    /// The epoch that an attempt which starts now carries.
    #[inline]
    pub(super) fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Relaxed)
    }

    #[inline]
    fn listens(&self) -> bool {
        self.listens.load(Ordering::Relaxed) != 0
    }

    /// Until when the endpoint is ejected, and for the how manieth time lately.
    #[must_use]
    pub fn ejection(&self) -> Option<(Duration, u32)> {
        let state = lock(&self.state);
        state.outlier.as_ref()?.ejected().map(|ejection| (ejection.until, ejection.number))
    }

    /// Ejections, and times that its breaker opened, since the start.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        let state = lock(&self.state);
        (state.ejections, state.openings)
    }

    /// For how long its breaker surely lets nothing pass.
    fn refused_for(&self, now: Duration) -> Option<Duration> {
        lock(&self.state).breaker.as_ref().map(|breaker| breaker.retry_after(now))
    }

    /// How its breaker stands.
    #[must_use]
    pub fn gate(&self) -> Option<Gate> {
        lock(&self.state).breaker.as_ref().map(Breaker::gate)
    }

    /// Brings the words that picks and successes read into line with the policies.
    fn publish(&self, state: &State, live: &EndpointLive) {
        let gate = state.breaker.as_ref().map(Breaker::gate);
        let outlier = state.outlier.as_ref();
        let streak = outlier.map_or(0, Outlier::streak) > 0
            || state.breaker.as_ref().is_some_and(|breaker| breaker.streak() > 0);
        self.listens.store(u32::from(streak), Ordering::Relaxed);
        self.epoch.store(state.breaker.as_ref().map_or(0, Breaker::epoch), Ordering::Relaxed);
        let ejected = outlier.and_then(Outlier::ejected);
        live.condition.set_judged(ejected.is_some_and(|e| e.judgement));
        live.condition.set(Impediment::Broken, matches!(gate, Some(Gate::Open { .. })));
        let on_trial = gate == Some(Gate::HalfOpen) || outlier.is_some_and(Outlier::asks);
        live.condition.set_on_trial(on_trial);
    }
}

/// Whose count of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Ejection's.
    Outlier,
    /// The breaker's.
    Breaker,
}

/// Where an attempt is made, and what it is judged with.
pub(super) struct Attempt<'a, 'o> {
    pub(super) pool: &'a Pool,
    pub(super) endpoint: &'a Endpoint,
    pub(super) order: &'o Order<'a>,
    pub(super) epochs: (u32, u32),
    pub(super) trials: Option<Box<Trials>>,
}

impl Attempt<'_, '_> {
    /// Counts how the attempt ended, and lets the policies judge where they must hear of it.
    #[inline]
    pub(super) fn ended(
        self,
        worker: WorkerId,
        outcome: Outcome,
        random: u64,
        changes: impl FnMut(bool, Change),
    ) {
        let (pool, live) = (self.pool, &self.endpoint.live);
        let counters = live.counters.of(worker);
        counters.outcomes.one();
        if pool.by_latency {
            self.note_latency(outcome);
        }
        let failure = match outcome {
            Outcome::Answered { status, after } => {
                counters.answer_micros.add(u64::try_from(after.as_micros()).unwrap_or(u64::MAX));
                counters.answers.one();
                Failure::Status(status)
            }
            Outcome::Failed(failure) => failure,
        };
        let bad_outlier = pool.outlier.as_ref().is_some_and(|settings| settings.count.has(failure));
        let bad_breaker = pool.breaker.as_ref().is_some_and(|settings| settings.count.has(failure));
        if bad_outlier {
            counters.outlier_failures.one();
        }
        if bad_breaker {
            counters.breaker_failures.one();
        }
        let heard = bad_outlier || bad_breaker || self.trials.is_some();
        if heard || live.judged.listens() || pool.live.judged.listens() {
            self.judge(failure, random, changes);
        }
    }

    fn note_latency(&self, outcome: Outcome) {
        let took = match outcome {
            Outcome::Answered { status, after } => effective_rtt(after, Some(status), None),
            Outcome::Failed(_) => effective_rtt(Duration::ZERO, None, None),
        };
        self.endpoint.live.observe_latency(took, self.pool.live.clock.now());
    }

    #[cold]
    fn judge(mut self, failure: Failure, random: u64, mut changes: impl FnMut(bool, Change)) {
        let (pool, endpoint) = (self.pool, self.endpoint);
        let now = pool.live.clock.now();
        let trials = self.trials.take().map(|trials| *trials).unwrap_or_default();
        // One decision at a time in a pool, so that two cannot each take out the last but one.
        let _deciding = lock(&pool.live.deciding);
        let mut state = lock(&endpoint.live.judged.state);
        if let Some(settings) = &pool.outlier {
            let change = self.outlier(&mut state, settings, failure, now);
            if let Some(change) = change {
                state.count(&change);
                changes(false, change);
            }
        }
        match &pool.breaker {
            Some(settings) if settings.scope == Scope::Endpoint => {
                let facts = breaker::Facts {
                    totals: endpoint.live.totals(Kind::Breaker),
                    last_usable: !self.has_other_usable(),
                    random,
                };
                let breaker = breaker_of(&mut state, settings, &facts, now);
                let done = ended(breaker, settings, trials.endpoint, self.epochs.0, failure, &facts, now);
                if let Some(change) = done.map(Change::Breaker) {
                    state.count(&change);
                    changes(false, change);
                }
            }
            _ => {}
        }
        endpoint.live.judged.publish(&state, &endpoint.live);
        drop(state);
        if let Some(settings) = pool.breaker.as_ref().filter(|settings| settings.scope == Scope::Pool) {
            let facts = breaker::Facts { totals: pool.breaker_totals(), last_usable: false, random };
            let mut state = lock(&pool.live.judged.state);
            let breaker = breaker_of(&mut state, settings, &facts, now);
            let done = ended(breaker, settings, trials.pool, self.epochs.1, failure, &facts, now);
            publish_pool(pool, &state);
            if let Some(change) = done.map(Change::Breaker) {
                state.count(&change);
                changes(true, change);
            }
        }
    }

    fn outlier(
        &self,
        state: &mut State,
        settings: &outlier::Settings,
        failure: Failure,
        now: Duration,
    ) -> Option<Change> {
        let live = &self.endpoint.live;
        let totals = live.totals(Kind::Outlier);
        let outlier = state.outlier.get_or_insert_with(|| Outlier::new(settings, totals, now));
        match settings.count.evidence(failure) {
            crate::policy::failure::Evidence::Nothing => None,
            crate::policy::failure::Evidence::Good => {
                let returned = outlier.succeeded(settings, now)?;
                live.condition.set(Impediment::Ejected, false);
                matches!(returned, Return::Usable { .. }).then_some(Change::Returned)
            }
            crate::policy::failure::Evidence::Bad => {
                match outlier.failed(settings, failure, totals, || self.facts(), now)? {
                    Decision::Eject(ejection) => {
                        live.condition.set(Impediment::Ejected, true);
                        Some(Change::Ejected(ejection))
                    }
                    Decision::Hold { because, cap } => Some(Change::EjectionHeld { because, cap }),
                }
            }
        }
    }

    fn facts(&self) -> outlier::Facts {
        facts(self.pool, self.endpoint, self.usable_elsewhere())
    }

    fn has_other_usable(&self) -> bool {
        others_usable(self.pool, self.endpoint).next().is_some() || self.usable_elsewhere() > 0
    }

    fn usable_elsewhere(&self) -> u32 {
        self.order.usable_after(self.pool)
    }
}

fn facts(pool: &Pool, endpoint: &Endpoint, usable_failover: u32) -> outlier::Facts {
    let count = |test: &dyn Fn(&Endpoint) -> bool| {
        let staying = pool.endpoints.iter().filter(|e| !e.live.is_retired());
        u32::try_from(staying.filter(|e| test(e)).count()).unwrap_or(u32::MAX)
    };
    let endpoints = count(&|_| true);
    outlier::Facts {
        endpoints,
        ejected_by_judgement: count(&|e| e.live.condition.is_judged()),
        usable_others: u32::try_from(others_usable(pool, endpoint).count()).unwrap_or(u32::MAX),
        usable_failover,
        min_available: pool.failover.min_available.at_least(endpoints),
    }
}

/// Usable endpoints of the pool besides this one. In an exclusive pool nothing stands in for the leader.
fn others_usable<'a>(pool: &'a Pool, endpoint: &Endpoint) -> impl Iterator<Item = &'a Endpoint> {
    let (level, own) = (pool.level().unwrap_or(Level::Proven), endpoint.live.slot());
    pool.endpoints.iter().filter(move |e| e.live.slot() != own && e.live.stays_usable(level))
}

fn breaker_of<'s>(
    state: &'s mut State,
    settings: &breaker::Settings,
    facts: &breaker::Facts,
    now: Duration,
) -> &'s mut Breaker {
    state.breaker.get_or_insert_with(|| Breaker::new(settings, facts.totals, now))
}

/// Tells a breaker how an attempt ended.
fn ended(
    breaker: &mut Breaker,
    settings: &breaker::Settings,
    trial: Option<Trial>,
    epoch: u32,
    failure: Failure,
    facts: &breaker::Facts,
    now: Duration,
) -> Option<breaker::Change> {
    match trial {
        Some(trial) => breaker.trial_failed(settings, trial, failure, facts, now),
        None => breaker.failed(settings, epoch, failure, facts, now),
    }
}

fn publish_pool(pool: &Pool, state: &State) {
    let judged = &pool.live.judged;
    let Some(breaker) = &state.breaker else { return };
    judged.listens.store(u32::from(breaker.streak() > 0), Ordering::Relaxed);
    judged.epoch.store(breaker.epoch(), Ordering::Relaxed);
    pool.live.condition.set(Impediment::Broken, matches!(breaker.gate(), Gate::Open { .. }));
    pool.live.condition.set_on_trial(breaker.gate() == Gate::HalfOpen);
}

/// Whether a pick at this level that chose this endpoint may have it, where picks must ask: as a trial, perhaps. The `Err`
/// is a no, which then stands in a condition that the level does not overlook: else the pick would choose it again.
#[cold]
pub(super) fn ask(pool: &Pool, endpoint: &Endpoint, level: Level) -> Result<Option<Box<Trials>>, ()> {
    let now = pool.live.clock.now();
    let mut trials = Trials::default();
    {
        let live = &endpoint.live;
        let mut state = lock(&live.judged.state);
        let breaker = pool.breaker.as_ref().filter(|settings| settings.scope == Scope::Endpoint);
        if let (Some(settings), Some(breaker)) = (breaker, &mut state.breaker)
            && breaker.gate() == Gate::HalfOpen
        {
            let Some(trial) = breaker.try_trial(settings, now) else {
                // Passed over without a lock from here on, until a trial ends or the next tick.
                live.condition.set(Impediment::Broken, true);
                return Err(());
            };
            trials.endpoint = Some(trial);
        }
        if let (Some(settings), Some(outlier)) = (&pool.outlier, &mut state.outlier)
            && outlier.asks()
        {
            // Whoever overlooks ejections takes it without waiting for its turn.
            let allowed = outlier.pick(settings, now) || level == Level::Open;
            let until_trial = outlier.ejected().is_some();
            live.condition.set(Impediment::Ejected, until_trial);
            if !allowed {
                if let (Some(trial), Some(breaker)) = (trials.endpoint, &mut state.breaker) {
                    breaker.trial_cancelled(trial);
                }
                return Err(());
            }
        }
    }
    if pool.live.condition.is_on_trial() {
        let mut state = lock(&pool.live.judged.state);
        if let (Some(settings), Some(breaker)) = (&pool.breaker, &mut state.breaker)
            && breaker.gate() == Gate::HalfOpen
        {
            match breaker.try_trial(settings, now) {
                Some(trial) => trials.pool = Some(trial),
                None => {
                    pool.live.condition.set(Impediment::Broken, true);
                    drop(state);
                    cancel(pool, endpoint, &trials);
                    return Err(());
                }
            }
        }
    }
    Ok((trials.endpoint.is_some() || trials.pool.is_some()).then(|| Box::new(trials)))
}

/// For how long the open breakers of a pool surely let nothing pass; nothing where none stands in the way.
pub(super) fn refused_for(pool: &Pool) -> Option<Duration> {
    let now = pool.live.clock.now();
    let broken = |condition: &super::condition::Condition| condition.reason() == Some(Impediment::Broken);
    if pool.live.condition.reason().is_some() {
        return pool.live.judged.refused_for(now);
    }
    let each = pool.endpoints.iter().filter(|e| broken(&e.live.condition));
    each.filter_map(|e| e.live.judged.refused_for(now)).min()
}

/// Gives trials back of which nothing came.
#[cold]
pub(super) fn cancel(pool: &Pool, endpoint: &Endpoint, trials: &Trials) {
    let give_back = |judged: &Judged, condition: &super::condition::Condition, trial: Option<Trial>| {
        let Some(trial) = trial else { return };
        let mut state = lock(&judged.state);
        if let Some(breaker) = &mut state.breaker {
            breaker.trial_cancelled(trial);
            if breaker.gate() == Gate::HalfOpen {
                condition.set(Impediment::Broken, false);
            }
        }
    };
    give_back(&endpoint.live.judged, &endpoint.live.condition, trials.endpoint);
    give_back(&pool.live.judged, &pool.live.condition, trials.pool);
}

/// Probes brought an endpoint up again: what live traffic saw before is over.
#[must_use]
pub fn proven(pool: &Pool, endpoint: &Endpoint) -> Option<Change> {
    let settings = pool.outlier.as_ref()?;
    let live = &endpoint.live;
    let mut state = lock(&live.judged.state);
    let returned =
        state.outlier.as_mut()?.proven(settings, live.totals(Kind::Outlier), pool.live.clock.now());
    live.condition.set(Impediment::Ejected, false);
    live.judged.publish(&state, live);
    returned.map(|_| Change::Returned)
}

/// What time brings to the endpoints of a pool; `elsewhere` are the usable endpoints of its failover pools. To be called
/// more often than a tenth of the shortest window. `changes` hears of an endpoint's index, or of none for the pool.
pub fn tick(pool: &Pool, elsewhere: u32, mut changes: impl FnMut(Option<usize>, Change)) {
    let now = pool.live.clock.now();
    let _deciding = lock(&pool.live.deciding);
    for (index, endpoint) in pool.endpoints.iter().enumerate() {
        let live = &endpoint.live;
        let mut state = lock(&live.judged.state);
        // A reload may have taken a policy away.
        if pool.outlier.is_none() {
            state.outlier = None;
            live.condition.set(Impediment::Ejected, false);
        }
        let breaker = pool.breaker.as_ref().filter(|settings| settings.scope == Scope::Endpoint);
        if breaker.is_none() {
            state.breaker = None;
        }
        if let Some(settings) = &pool.outlier {
            let totals = live.totals(Kind::Outlier);
            let outlier = state.outlier.get_or_insert_with(|| Outlier::new(settings, totals, now));
            if let Some(returned) = outlier.tick(settings, totals, now) {
                let was = live.condition.set(Impediment::Ejected, false);
                if was && matches!(returned, Return::Usable { .. }) {
                    changes(Some(index), Change::Returned);
                }
            }
        }
        if let Some(settings) = breaker {
            let totals = live.totals(Kind::Breaker);
            let breaker = state.breaker.get_or_insert_with(|| Breaker::new(settings, totals, now));
            if let Some(change) = breaker.tick(settings, totals, now) {
                changes(Some(index), Change::Breaker(change));
            }
        }
        live.judged.publish(&state, live);
    }
    tick_pool(pool, now, &mut changes);
    slow_ones(pool, elsewhere, now, &mut changes);
}

fn tick_pool(pool: &Pool, now: Duration, changes: &mut impl FnMut(Option<usize>, Change)) {
    let mut state = lock(&pool.live.judged.state);
    let Some(settings) = pool.breaker.as_ref().filter(|settings| settings.scope == Scope::Pool) else {
        state.breaker = None;
        pool.live.condition.set(Impediment::Broken, false);
        pool.live.condition.set_on_trial(false);
        return;
    };
    let totals = pool.breaker_totals();
    let breaker = state.breaker.get_or_insert_with(|| Breaker::new(settings, totals, now));
    let change = breaker.tick(settings, totals, now);
    publish_pool(pool, &state);
    if let Some(change) = change {
        changes(None, Change::Breaker(change));
    }
}

/// Ejects those whose answers take much longer than those of the others, once in a window.
fn slow_ones(pool: &Pool, elsewhere: u32, now: Duration, changes: &mut impl FnMut(Option<usize>, Change)) {
    let Some((settings, latency)) = pool.outlier.as_ref().and_then(|s| Some((s, s.latency.as_ref()?))) else {
        return;
    };
    let mut since = lock(&pool.live.answers);
    if now.saturating_sub(since.at) < settings.window {
        return;
    }
    let sums: Vec<(u32, outlier::Answers)> =
        pool.endpoints.iter().map(|e| (e.live.slot(), e.live.answers())).collect();
    let before = |slot: u32| since.sums.iter().find(|(s, _)| *s == slot).map(|(_, answers)| *answers);
    let recent: Vec<outlier::Answers> = sums
        .iter()
        .map(|&(slot, now)| match before(slot) {
            Some(before) => outlier::Answers {
                count: now.count.saturating_sub(before.count),
                time: now.time.saturating_sub(before.time),
            },
            None => outlier::Answers { count: 0, time: Duration::ZERO },
        })
        .collect();
    (since.at, since.sums) = (now, sums);
    for slow in outlier::slow(latency, &recent) {
        let Some(endpoint) = pool.endpoints.get(slow.index) else { continue };
        let mut state = lock(&endpoint.live.judged.state);
        let Some(outlier) = &mut state.outlier else { continue };
        let decision = outlier.slow(settings, &slow, &facts(pool, endpoint, elsewhere), now);
        match decision {
            Some(Decision::Eject(ejection)) => {
                endpoint.live.condition.set(Impediment::Ejected, true);
                endpoint.live.judged.publish(&state, &endpoint.live);
                let change = Change::Ejected(ejection);
                state.count(&change);
                changes(Some(slow.index), change);
            }
            Some(Decision::Hold { because, cap }) => {
                changes(Some(slow.index), Change::EjectionHeld { because, cap });
            }
            None => {}
        }
    }
}

/// The sums of answers when the slow ones were last looked for.
#[derive(Debug, Default)]
pub struct AnswersThen {
    at: Duration,
    sums: Vec<(u32, outlier::Answers)>,
}

impl EndpointLive {
    /// Attempts that ended and those of them that failed, over all workers.
    #[must_use]
    pub fn totals(&self, kind: Kind) -> Totals {
        self.counters.iter().fold(Totals::default(), |sum, c| Totals {
            attempts: sum.attempts + c.outcomes.get(),
            failures: sum.failures
                + match kind {
                    Kind::Outlier => c.outlier_failures.get(),
                    Kind::Breaker => c.breaker_failures.get(),
                },
        })
    }

    fn answers(&self) -> outlier::Answers {
        let sum = |of: fn(&super::endpoint::EndpointCounters) -> u64| self.counters.iter().map(of).sum();
        outlier::Answers {
            count: sum(|c| c.answers.get()),
            time: Duration::from_micros(sum(|c| c.answer_micros.get())),
        }
    }
}

impl Pool {
    /// Attempts on all endpoints and the failures that the breaker counts.
    fn breaker_totals(&self) -> Totals {
        let each = self.endpoints.iter().map(|e| e.live.totals(Kind::Breaker));
        each.fold(Totals::default(), |sum, t| Totals {
            attempts: sum.attempts + t.attempts,
            failures: sum.failures + t.failures,
        })
    }
}

#[cfg(all(test, not(plimsoll_loom)))]
#[path = "judge/tests.rs"]
mod tests;
