//! Passive ejection: an endpoint on which live traffic fails is taken out for a time that grows with repetition. What an
//! ejected endpoint's share does meanwhile, and how it ramps up after, is decided elsewhere.

use std::time::Duration;

use super::failure::{Counted, Evidence};
use super::max_fails::Fails;
use super::retry::Failure;
use super::window::{Totals, Window};
use crate::model::units::Amount;

/// When an endpoint is ejected, and for how long.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// What is a failure.
    pub count: Counted,
    /// So many failures in a row; 0 is off.
    pub consecutive_failures: u32,
    /// This share of failures within `window`, from 0 to 1; nothing is off.
    pub failure_ratio: Option<f64>,
    /// The share is judged from so many attempts within `window` on.
    pub minimum_requests: u32,
    /// The sliding window.
    pub window: Duration,
    /// How long the first ejection lasts; the n-th lasts n times that.
    pub ejection_time: Duration,
    /// No ejection lasts longer.
    pub max_ejection_time: Duration,
    /// Of the pool's endpoints, so many may be ejected by judgement (ratio, status, latency) at once. A share of more than
    /// nothing is at least one where a failover pool is usable.
    pub max_ejected: Amount,
    /// Ejection of endpoints that answer much later than the others.
    pub latency: Option<Latency>,
    /// nginx's rule in place of `consecutive_failures` and `failure_ratio`.
    pub max_fails: Option<MaxFails>,
}

/// An endpoint whose mean time to the response head within the window is above `factor` times the median of the means
/// of all endpoints of its pool is ejected.
#[derive(Debug, Clone, PartialEq)]
pub struct Latency {
    /// How many times the median, above 1.
    pub factor: f64,
    /// Endpoints with fewer requests in the window are not judged.
    pub minimum_requests: u32,
    /// Means under this are never outliers.
    pub floor: Duration,
}

/// nginx's `max_fails` and `fail_timeout`, exactly (`ngx_http_upstream_round_robin.c`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxFails {
    /// Failures that take it out; 0 is never.
    pub max_fails: u32,
    /// Within this time, and for this time.
    pub fail_timeout: Duration,
}

/// What surrounds an endpoint when it is about to be ejected. It must hold until the decision is carried out: whoever
/// shares a pool among threads takes these and counts the ejection under one lock or in one compare-and-swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Endpoints of the pool, this one included.
    pub endpoints: u32,
    /// Those of them that are ejected by a judgement.
    pub ejected_by_judgement: u32,
    /// Usable endpoints of the pool without this one.
    pub usable_others: u32,
    /// Usable endpoints of its failover chain.
    pub usable_failover: u32,
    /// How many of the pool must stay usable where a judgement would take one out; one may be a failover pool's.
    pub min_available: u32,
}

/// An endpoint goes out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ejection {
    /// When it comes back; for [`Because::MaxFails`], when one trial is let through.
    pub until: Duration,
    /// The evidence.
    pub because: Because,
    /// It takes one of the places that `max_ejected` leaves. Failed connects are no judgement: nobody has to weigh
    /// whether an endpoint that takes no connection can serve.
    pub judgement: bool,
    /// The n-th of the last ones; what decides how long it lasts.
    pub number: u32,
}

/// The evidence for an ejection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Because {
    /// So many connects in a row failed.
    Connects(u32),
    /// So many attempts in a row failed.
    Consecutive {
        /// How many.
        count: u32,
        /// How the last one did.
        last: Failure,
    },
    /// Too large a share of the attempts within the window failed.
    Ratio(Totals),
    /// Its answers take much longer than those of the others.
    Latency {
        /// Its mean.
        mean: Duration,
        /// What it was measured against.
        median: Duration,
    },
    /// nginx's rule: so many failures, without a success that clears them.
    MaxFails(u32),
}

/// What keeps an endpoint in that ought to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cap {
    /// Nothing else is usable, in the pool or its failover chain.
    LastUsable,
    /// As many as `max_ejected` allows are out by judgement.
    MaxEjected,
    /// Fewer than `min_available` would be left.
    MinAvailable,
}

/// What follows from a failure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Decision {
    /// The endpoint goes out.
    Eject(Ejection),
    /// It ought to, but stays. Told at most once in a window, since it may be due again with every failure.
    Hold {
        /// The evidence.
        because: Because,
        /// What keeps it.
        cap: Cap,
    },
}

/// What comes back, and how.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Return {
    /// The endpoint is back, through slow start.
    Usable {
        /// The ejection that is over.
        ejection: Ejection,
    },
    /// nginx's rule: the endpoint may be picked again, but each pick asks [`Outlier::pick`], which lets one through and
    /// moves [`Ejection::until`]. Said at each tick until then.
    Trial,
}

/// The state of one endpoint.
///
/// The problem: probes ask a question of their own at their own times, and live traffic knows better and sooner. Why
/// this answer: Envoy's counting, with caps that tell what was seen (a refused connect) from what is concluded (too many
/// resets), since a cap on facts only sends traffic where nobody listens. When wrong: where failures come from the
/// requests, as when one of two applications behind the same endpoints always answers 503. That is why no status
/// counts unless listed.
///
/// Who calls what: a failure calls [`Outlier::failed`]; a success calls [`Outlier::succeeded`] only while
/// [`Outlier::streak`] is above zero, for it changes nothing else; a pick calls [`Outlier::pick`] only while
/// [`Outlier::asks`] says so; a tick, more often than a tenth of the window, calls [`Outlier::tick`].
#[derive(Debug, Clone, PartialEq)]
pub struct Outlier {
    /// Counted failures since the last success or decision.
    run: u32,
    /// Those at the end of the run that were failed connects.
    connects: u32,
    /// nginx's count, where its rule is on.
    fails: Fails,
    window: Window,
    ejected: Option<Ejection>,
    /// How many ejections lately; one less for each `ejection_time` of health.
    ejections: u32,
    /// Since when health counts towards the next one less.
    calm_since: Duration,
    /// When a cap was last told of.
    told: Option<Duration>,
}

impl Outlier {
    /// An endpoint of which nothing bad is known, and whose sums stand at `totals`.
    #[must_use]
    pub fn new(settings: &Settings, totals: Totals, now: Duration) -> Self {
        Self {
            run: 0,
            connects: 0,
            fails: Fails::default(),
            window: window(settings, totals, now),
            ejected: None,
            ejections: 0,
            calm_since: now,
            told: None,
        }
    }

    /// An endpoint of which another process has learnt this: its ejection, and how many there were lately.
    #[must_use]
    pub fn resumed(
        settings: &Settings,
        totals: Totals,
        ejected: Option<Ejection>,
        ejections: u32,
        now: Duration,
    ) -> Self {
        let mut fails = Fails::default();
        if let Some(Ejection { because: Because::MaxFails(count), .. }) = ejected {
            // More than enough to be used up need not be counted.
            (0..count.min(settings.max_fails.map_or(0, |rule| rule.max_fails)))
                .for_each(|_| fails.failed(now));
        }
        Self { fails, ejected, ejections, ..Self::new(settings, totals, now) }
    }

    /// Failures that a success would clear; above zero, successes must be told.
    #[must_use]
    pub fn streak(&self) -> u32 {
        self.run.max(self.fails.count())
    }

    /// The ejection that the endpoint is under.
    #[must_use]
    pub fn ejected(&self) -> Option<&Ejection> {
        self.ejected.as_ref()
    }

    /// Ejections that still make the next one longer.
    #[must_use]
    pub fn ejections(&self) -> u32 {
        self.ejections
    }

    /// Whether picks must be told: nginx's rule looks at them while there are failures.
    #[must_use]
    pub fn asks(&self) -> bool {
        self.fails.count() > 0
    }

    /// Whether a pick may take the endpoint, which nginx's rule answers: it is skipped for `fail_timeout`, then one
    /// request goes through, and the next only after another `fail_timeout` or when that one went well. A trial that
    /// is cancelled or never ends therefore holds nothing up. Call it for the endpoint that was chosen, not for each
    /// that might be: it counts as the pick.
    pub fn pick(&mut self, settings: &Settings, now: Duration) -> bool {
        let Some(rule) = settings.max_fails else { return self.ejected.is_none() };
        if self.ejected.is_some() {
            let allowed = self.fails.pick(rule, now);
            if let Some(ejection) = self.ejected.as_mut().filter(|_| allowed) {
                ejection.until = self.fails.trial_at(rule);
            }
            return allowed;
        }
        // Held back by a cap: it counts on, but nothing is skipped.
        self.fails.pick(rule, now);
        true
    }

    /// An attempt failed; `totals` counts it already, and `facts` are asked for only where an ejection is due. Failures that are not in `count` are no failures, a status among
    /// them is a success; failures while ejected are of attempts that began before, and say nothing new.
    pub fn failed(
        &mut self,
        settings: &Settings,
        failure: Failure,
        totals: Totals,
        facts: impl FnOnce() -> Facts,
        now: Duration,
    ) -> Option<Decision> {
        match settings.count.evidence(failure) {
            Evidence::Bad => {}
            Evidence::Good | Evidence::Nothing => return None,
        }
        if let Some(rule) = settings.max_fails {
            return self.failed_by_max_fails(settings, rule, facts, now);
        }
        let recent = self.recent(settings, totals, now);
        if self.ejected.is_some() {
            return None;
        }
        if settings.consecutive_failures > 0 {
            self.run = self.run.saturating_add(1);
            self.connects = if failure == Failure::Connect { self.connects.saturating_add(1) } else { 0 };
        }
        let because = self.due(settings, failure, recent)?;
        self.decide(settings, because, &facts(), now)
    }

    /// The endpoint's answers were found slow, by [`slow`] over its pool.
    pub fn slow(
        &mut self,
        settings: &Settings,
        slow: &Slow,
        facts: &Facts,
        now: Duration,
    ) -> Option<Decision> {
        if self.ejected.is_some() {
            return None;
        }
        let because = Because::Latency { mean: slow.mean, median: slow.median };
        self.decide(settings, because, facts, now)
    }

    /// An attempt went well. Only nginx's rule ends an ejection so: by the trial it let through.
    pub fn succeeded(&mut self, settings: &Settings, now: Duration) -> Option<Return> {
        if settings.max_fails.is_some() {
            (self.run, self.connects) = (0, 0);
            self.fails.succeeded();
            if self.fails.count() == 0 && self.ejected.is_some_and(|e| e.because.is_max_fails()) {
                return self.come_back(now);
            }
            return None;
        }
        self.fails = Fails::default();
        if self.ejected.is_none() {
            (self.run, self.connects) = (0, 0);
        }
        None
    }

    /// Probes brought the endpoint up again after they had it down: what live traffic saw before is over.
    pub fn proven(&mut self, settings: &Settings, totals: Totals, now: Duration) -> Option<Return> {
        (self.run, self.connects, self.fails) = (0, 0, Fails::default());
        self.window = window(settings, totals, now);
        self.come_back(now)
    }

    /// Time has passed.
    pub fn tick(&mut self, settings: &Settings, totals: Totals, now: Duration) -> Option<Return> {
        self.recent(settings, totals, now);
        if settings.max_fails.is_none() {
            self.fails = Fails::default();
        }
        if let Some(ejection) = self.ejected {
            if now < ejection.until {
                return None;
            }
            if settings.max_fails.is_some() && ejection.because.is_max_fails() {
                return Some(Return::Trial);
            }
            self.window = window(settings, totals, now);
            return self.come_back(now);
        }
        self.calm(settings, now);
        None
    }

    /// What the window holds, which begins anew when its length was changed by a reload.
    fn recent(&mut self, settings: &Settings, totals: Totals, now: Duration) -> Totals {
        if self.window.length() != settings.window {
            self.window = window(settings, totals, now);
        }
        self.window.recent(now, totals)
    }

    /// Why the endpoint ought to go, after one more failure.
    fn due(&self, settings: &Settings, last: Failure, recent: Totals) -> Option<Because> {
        let threshold = settings.consecutive_failures;
        if threshold > 0 && self.connects >= threshold {
            return Some(Because::Connects(self.connects));
        }
        if threshold > 0 && self.run >= threshold {
            return Some(Because::Consecutive { count: self.run, last });
        }
        let fails = recent.fails(settings.failure_ratio, settings.minimum_requests);
        fails.then_some(Because::Ratio(recent))
    }

    fn failed_by_max_fails(
        &mut self,
        settings: &Settings,
        rule: MaxFails,
        facts: impl FnOnce() -> Facts,
        now: Duration,
    ) -> Option<Decision> {
        self.fails.failed(now);
        if let Some(ejection) = &mut self.ejected {
            // The trial, or an attempt that began before: either way nginx counts the time from here on.
            ejection.until = self.fails.trial_at(rule);
            return None;
        }
        if !self.fails.used_up(rule) {
            return None;
        }
        self.decide(settings, Because::MaxFails(self.fails.count()), &facts(), now)
    }

    fn decide(
        &mut self,
        settings: &Settings,
        because: Because,
        facts: &Facts,
        now: Duration,
    ) -> Option<Decision> {
        if let Some(cap) = facts.cap(settings, because.is_judgement()) {
            // As with Envoy, the count begins anew; failed connects stay counted when it was something else's turn.
            self.connects = if matches!(because, Because::Connects(_)) { 0 } else { self.connects };
            self.run = self.connects;
            let quiet = self.told.is_some_and(|told| now.saturating_sub(told) < settings.window);
            if quiet {
                return None;
            }
            self.told = Some(now);
            return Some(Decision::Hold { because, cap });
        }
        (self.run, self.connects, self.told) = (0, 0, None);
        self.calm(settings, now);
        // Envoy's bound: one more than what reaches the longest time, so that this too shrinks at once.
        if settings.ejection_time.saturating_mul(self.ejections)
            < settings.max_ejection_time.saturating_add(settings.ejection_time)
        {
            self.ejections += 1;
        }
        let lasts = settings.ejection_time.saturating_mul(self.ejections).min(settings.max_ejection_time);
        let until = match settings.max_fails {
            Some(rule) if because.is_max_fails() => self.fails.trial_at(rule),
            _ => now.saturating_add(lasts),
        };
        let judgement = because.is_judgement();
        let ejection = Ejection { until, because, judgement, number: self.ejections };
        self.ejected = Some(ejection);
        Some(Decision::Eject(ejection))
    }

    /// Takes one ejection off for each whole `ejection_time` of health.
    fn calm(&mut self, settings: &Settings, now: Duration) {
        let interval = settings.ejection_time.as_nanos().max(1);
        let intervals = now.saturating_sub(self.calm_since).as_nanos() / interval;
        let fewer = u32::try_from(intervals).unwrap_or(u32::MAX);
        if fewer > 0 {
            self.ejections = self.ejections.saturating_sub(fewer);
            self.calm_since = self.calm_since.saturating_add(settings.ejection_time.saturating_mul(fewer));
        }
    }

    fn come_back(&mut self, now: Duration) -> Option<Return> {
        let ejection = self.ejected.take()?;
        self.calm_since = now;
        Some(Return::Usable { ejection })
    }
}

impl Because {
    /// Whether it is concluded and not seen. nginx knows no caps, so its rule is not held by those on judgements.
    #[must_use]
    pub fn is_judgement(&self) -> bool {
        match self {
            Self::Consecutive { .. } | Self::Ratio(_) | Self::Latency { .. } => true,
            Self::Connects(_) | Self::MaxFails(_) => false,
        }
    }

    fn is_max_fails(&self) -> bool {
        matches!(self, Self::MaxFails(_))
    }
}

impl Facts {
    /// What keeps an endpoint in, where an ejection is due.
    fn cap(&self, settings: &Settings, judgement: bool) -> Option<Cap> {
        if self.usable_others == 0 && self.usable_failover == 0 {
            return Some(Cap::LastUsable);
        }
        if !judgement {
            return None;
        }
        let (mut most, mut least) = (settings.max_ejected.at_most(self.endpoints), self.min_available);
        if self.usable_failover > 0 {
            // Half of one is none, but where other pools stand in, one may go: unless no one may.
            most = most.max(settings.max_ejected.at_most(100).min(1));
            least = if least == 1 { 0 } else { least };
        }
        if self.ejected_by_judgement >= most {
            return Some(Cap::MaxEjected);
        }
        (self.usable_others < least).then_some(Cap::MinAvailable)
    }
}

/// What one endpoint's answers took within the window: the growth of two sums, as [`Window::growth`] gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Answers {
    /// How many.
    pub count: u64,
    /// Their times to the response head together.
    pub time: Duration,
}

/// An endpoint that is slower than the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slow {
    /// Its place in what was asked about.
    pub index: usize,
    /// Its mean.
    pub mean: Duration,
    /// What it was measured against.
    pub median: Duration,
}

/// The endpoints of a pool that are outliers by latency, the slowest first, so that caps take the worst.
///
/// The median is that of the endpoints with enough answers to be judged, and of two in the middle the faster one: of
/// two endpoints the slower is measured against the other, not against itself.
#[must_use]
pub fn slow(settings: &Latency, answers: &[Answers]) -> Vec<Slow> {
    let judged = |answers: &Answers| answers.count > 0 && answers.count >= settings.minimum_requests.into();
    let mut means: Vec<(Duration, usize)> = (answers.iter().enumerate())
        .filter(|(_, answers)| judged(answers))
        .map(|(index, answers)| (mean(answers), index))
        .collect();
    means.sort_unstable();
    let Some((median, _)) = means.get(means.len().saturating_sub(1) / 2).copied() else { return Vec::new() };
    let limit = median.as_secs_f64() * settings.factor;
    let outliers = means
        .iter()
        .rev()
        .take_while(|(mean, _)| mean.as_secs_f64() > limit && *mean > median && *mean >= settings.floor);
    outliers.map(|(mean, index)| Slow { index: *index, mean: *mean, median }).collect()
}

fn mean(answers: &Answers) -> Duration {
    let nanos = answers.time.as_nanos() / u128::from(answers.count.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

fn window(settings: &Settings, totals: Totals, now: Duration) -> Window {
    Window::new(settings.window, now, [totals.attempts, totals.failures])
}

#[cfg(test)]
mod tests;
