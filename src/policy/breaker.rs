//! Closed, open, half-open: a gate before a pool or an endpoint that stops asking what keeps failing. What is done with
//! what the gate refuses is decided elsewhere.

use std::collections::VecDeque;
use std::time::Duration;

use super::failure::{Counted, Evidence};
use super::retry::{Failure, wait};
use super::window::{Totals, Window};

/// The longest time open, in times of `open_time`.
const LONGEST: u32 = 10;

/// What opens and closes a breaker.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// One breaker for each endpoint, or one for the pool.
    pub scope: Scope,
    /// What is a failure.
    pub count: Counted,
    /// So many failures in a row within `window` open it; 0 is off.
    pub failure_threshold: u32,
    /// This share of failures within `window` opens it, from 0 to 1; nothing is off.
    pub failure_ratio: Option<f64>,
    /// The share is judged from so many attempts within `window` on.
    pub minimum_requests: u32,
    /// So many successes in half-open close it.
    pub success_threshold: u32,
    /// The sliding window.
    pub window: Duration,
    /// How long it is open: exact the first time, then doubled up to ten times this, with 10 % jitter.
    pub open_time: Duration,
    /// Trials at once while half-open.
    pub half_open_requests: u32,
}

/// What a breaker stands before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Each endpoint.
    Endpoint,
    /// The whole pool.
    Pool,
}

/// What surrounds a breaker when an attempt has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Attempts and failures by this breaker's `count`, this one included.
    pub totals: Totals,
    /// It stands before the last usable endpoint of a pool and its failover chain; never so for a pool's breaker.
    pub last_usable: bool,
    /// Any number, for the jitter.
    pub random: u64,
}

/// Leave to make one attempt while half-open. Its end must be told, whatever it is: see [`Breaker::trial_cancelled`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trial {
    epoch: u32,
    number: u32,
}

/// How a breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// All pass.
    Closed,
    /// None pass until then.
    Open {
        /// When trials begin.
        until: Duration,
    },
    /// Those pass that [`Breaker::try_trial`] lets.
    HalfOpen,
}

/// The evidence for opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because {
    /// So many failures in a row.
    Consecutive {
        /// How many.
        count: u32,
        /// How the last one failed.
        last: Failure,
    },
    /// Too large a share of these.
    Ratio(Totals),
    /// A trial failed.
    Trial(Failure),
}

/// What a breaker did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It opened, or opened again.
    Opened {
        /// When trials begin.
        until: Duration,
        /// The evidence.
        because: Because,
        /// How often since it was last closed, this time included.
        times: u32,
    },
    /// It ought to open, but nothing else is usable. Told at most once in a window.
    Held {
        /// The evidence.
        because: Because,
    },
    /// Trials begin.
    HalfOpened,
    /// Enough trials went well.
    Closed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Closed {
        /// When the failures in a row happened, those within the window; never more than `failure_threshold`.
        run: VecDeque<Duration>,
    },
    Open {
        until: Duration,
    },
    HalfOpen {
        /// Number and begin of the trials that have not ended; never more than `half_open_requests`.
        trials: Vec<(u32, Duration)>,
        successes: u32,
    },
}

/// The state of one breaker.
///
/// The problem: asking what keeps failing makes the client wait for a failure, and keeps down what is trying to get up.
/// Why this answer: the gate opens on evidence, waits longer each time, and lets a bounded number of trials decide
/// (Nygard, "Release It!"; Hystrix; resilience4j). When wrong: where each request fails for reasons of its own, and
/// before endpoints that ejection takes out well enough.
///
/// Who calls what: an attempt that passed while closed carries [`Breaker::epoch`] of that time; its failure calls
/// [`Breaker::failed`], its success [`Breaker::succeeded`] only while [`Breaker::streak`] is above zero. An end from
/// another epoch, such as a slow failure from before the opening, changes nothing. A tick, more often than a tenth of
/// the window, calls [`Breaker::tick`]. What the client cancels is not told, or told by [`Breaker::trial_cancelled`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breaker {
    state: State,
    /// Changes with the state.
    epoch: u32,
    /// How often it opened since it was last closed.
    times: u32,
    /// Number of the next trial.
    next_trial: u32,
    window: Window,
    /// When it was last told that opening was held back.
    told: Option<Duration>,
}

impl Breaker {
    /// A closed breaker before what nothing bad is known of, and whose sums stand at `totals`.
    #[must_use]
    pub fn new(settings: &Settings, totals: Totals, now: Duration) -> Self {
        Self {
            state: State::Closed { run: VecDeque::new() },
            epoch: 0,
            times: 0,
            next_trial: 0,
            window: window(settings, totals, now),
            told: None,
        }
    }

    /// A breaker of which another process has learnt this: its gate, and how often it has opened in a row.
    #[must_use]
    pub fn resumed(settings: &Settings, totals: Totals, gate: Gate, times: u32, now: Duration) -> Self {
        let state = match gate {
            Gate::Closed => State::Closed { run: VecDeque::new() },
            Gate::Open { until } => State::Open { until },
            Gate::HalfOpen => State::HalfOpen { trials: Vec::new(), successes: 0 },
        };
        Self { state, times, ..Self::new(settings, totals, now) }
    }

    /// How often it has opened in a row, which the time that it stays open grows with.
    #[must_use]
    pub fn times(&self) -> u32 {
        self.times
    }

    /// How it stands.
    #[must_use]
    pub fn gate(&self) -> Gate {
        match self.state {
            State::Closed { .. } => Gate::Closed,
            State::Open { until } => Gate::Open { until },
            State::HalfOpen { .. } => Gate::HalfOpen,
        }
    }

    /// What an attempt that passes while closed carries to its end.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Failures that a success would clear; above zero, successes must be told.
    #[must_use]
    pub fn streak(&self) -> usize {
        match &self.state {
            State::Closed { run } => run.len(),
            State::Open { .. } | State::HalfOpen { .. } => 0,
        }
    }

    /// For how long it surely lets nothing pass: what Retry-After says, when it is the reason.
    #[must_use]
    pub fn retry_after(&self, now: Duration) -> Duration {
        match self.state {
            State::Open { until } => until.saturating_sub(now),
            State::Closed { .. } | State::HalfOpen { .. } => Duration::ZERO,
        }
    }

    /// An attempt of that epoch, which was no trial, failed.
    pub fn failed(
        &mut self,
        settings: &Settings,
        epoch: u32,
        failure: Failure,
        facts: &Facts,
        now: Duration,
    ) -> Option<Change> {
        match settings.count.evidence(failure) {
            Evidence::Bad => {}
            Evidence::Good => {
                self.succeeded(epoch);
                return None;
            }
            Evidence::Nothing => return None,
        }
        let recent = self.recent(settings, facts.totals, now);
        let State::Closed { run } = &mut self.state else { return None };
        if epoch != self.epoch {
            return None;
        }
        let because = in_a_row(run, settings, failure, now).or_else(|| {
            let fails = recent.fails(settings.failure_ratio, settings.minimum_requests);
            fails.then_some(Because::Ratio(recent))
        })?;
        if facts.last_usable {
            return self.held(settings, because, now);
        }
        Some(self.open(settings, because, facts.random, now))
    }

    /// An attempt of that epoch, which was no trial, went well.
    pub fn succeeded(&mut self, epoch: u32) {
        if let State::Closed { run } = &mut self.state
            && epoch == self.epoch
        {
            run.clear();
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, settings: &Settings, totals: Totals, now: Duration) -> Option<Change> {
        self.recent(settings, totals, now);
        match self.state {
            State::Open { until } if now >= until => {
                self.enter(State::HalfOpen { trials: Vec::new(), successes: 0 });
                Some(Change::HalfOpened)
            }
            _ => None,
        }
    }

    /// Lets one attempt through while half-open, when fewer than `half_open_requests` are under way. One that has not
    /// ended for `open_time` gives its place to the next, so that nothing that hangs can hold the gate; how it ends
    /// still counts.
    pub fn try_trial(&mut self, settings: &Settings, now: Duration) -> Option<Trial> {
        let State::HalfOpen { trials, .. } = &mut self.state else { return None };
        let places = usize::try_from(settings.half_open_requests.max(1)).unwrap_or(usize::MAX);
        if trials.len() >= places {
            trials.retain(|(_, begun)| now.saturating_sub(*begun) < settings.open_time);
        }
        if trials.len() >= places {
            return None;
        }
        let number = self.next_trial;
        self.next_trial = number.wrapping_add(1);
        trials.push((number, now));
        Some(Trial { epoch: self.epoch, number })
    }

    /// A trial ended without saying anything, as when the client went: its place is free again.
    pub fn trial_cancelled(&mut self, trial: Trial) {
        if let Some((trials, _)) = self.half_open(trial) {
            trials.retain(|(number, _)| *number != trial.number);
        }
    }

    /// A trial went well.
    pub fn trial_succeeded(
        &mut self,
        settings: &Settings,
        trial: Trial,
        totals: Totals,
        now: Duration,
    ) -> Option<Change> {
        self.trial_cancelled(trial);
        let (_, successes) = self.half_open(trial)?;
        *successes = successes.saturating_add(1);
        if *successes < settings.success_threshold {
            return None;
        }
        self.enter(State::Closed { run: VecDeque::new() });
        (self.times, self.told) = (0, None);
        self.window = window(settings, totals, now);
        Some(Change::Closed)
    }

    /// A trial failed. A status that is not counted went well, another failure that is not counted says nothing. Where
    /// nothing else is usable, the trials go on: opening again would refuse all that is asked of the pool.
    pub fn trial_failed(
        &mut self,
        settings: &Settings,
        trial: Trial,
        failure: Failure,
        facts: &Facts,
        now: Duration,
    ) -> Option<Change> {
        match settings.count.evidence(failure) {
            Evidence::Bad => {}
            Evidence::Good => return self.trial_succeeded(settings, trial, facts.totals, now),
            Evidence::Nothing => {
                self.trial_cancelled(trial);
                return None;
            }
        }
        self.trial_cancelled(trial);
        let (_, successes) = self.half_open(trial)?;
        *successes = 0;
        let because = Because::Trial(failure);
        if facts.last_usable {
            return self.held(settings, because, now);
        }
        Some(self.open(settings, because, facts.random, now))
    }

    /// Trials and successes, when half-open since before this trial.
    fn half_open(&mut self, trial: Trial) -> Option<(&mut Vec<(u32, Duration)>, &mut u32)> {
        match &mut self.state {
            State::HalfOpen { trials, successes } if trial.epoch == self.epoch => Some((trials, successes)),
            _ => None,
        }
    }

    fn recent(&mut self, settings: &Settings, totals: Totals, now: Duration) -> Totals {
        if self.window.length() != settings.window {
            self.window = window(settings, totals, now);
        }
        self.window.recent(now, totals)
    }

    fn open(&mut self, settings: &Settings, because: Because, random: u64, now: Duration) -> Change {
        let until = now.saturating_add(open_time(settings.open_time, self.times, random));
        self.enter(State::Open { until });
        self.times = self.times.saturating_add(1);
        Change::Opened { until, because, times: self.times }
    }

    fn held(&mut self, settings: &Settings, because: Because, now: Duration) -> Option<Change> {
        let quiet = self.told.is_some_and(|told| now.saturating_sub(told) < settings.window);
        if !quiet {
            self.told = Some(now);
        }
        (!quiet).then_some(Change::Held { because })
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.epoch = self.epoch.wrapping_add(1);
    }
}

/// Adds a failure to those in a row, and says whether they are enough.
fn in_a_row(
    run: &mut VecDeque<Duration>,
    settings: &Settings,
    last: Failure,
    now: Duration,
) -> Option<Because> {
    let threshold = usize::try_from(settings.failure_threshold).unwrap_or(usize::MAX);
    if threshold == 0 {
        return None;
    }
    run.push_back(now);
    // What is too old goes, and what is more than needed, as failures that are held back bring it.
    while run.len() > threshold || run.front().is_some_and(|then| now.saturating_sub(*then) > settings.window)
    {
        run.pop_front();
    }
    let count = settings.failure_threshold;
    (run.len() >= threshold).then_some(Because::Consecutive { count, last })
}

/// How long it stays open after it opened so many `times` without closing: exact the first time, then doubled up to ten
/// times. The jitter takes off up to a tenth, so that no time is longer than it says.
fn open_time(base: Duration, times: u32, random: u64) -> Duration {
    let doubled = base.saturating_mul(1_u32.checked_shl(times).unwrap_or(LONGEST).min(LONGEST));
    if times == 0 {
        return doubled;
    }
    doubled.saturating_sub(wait(doubled / 10, random))
}

fn window(settings: &Settings, totals: Totals, now: Duration) -> Window {
    Window::new(settings.window, now, [totals.attempts, totals.failures])
}

#[cfg(test)]
mod tests;
