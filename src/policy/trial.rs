//! Whether a configuration on trial does worse than the one before it: the share of failed requests, and what is usable.
//!
//! The facts are sums since the start of the process, looked at again and again; the judgement is made on their
//! differences, over the last seconds of the trial and the minute before it.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

/// What the trial is compared with: so much of the time before it.
pub const BEFORE: Duration = Duration::from_secs(60);

/// The trial is judged by its last seconds, so that a long good time does not hide a bad end.
pub const WINDOW: Duration = Duration::from_secs(10);

/// The share of failed requests may rise by so much: five of a hundred requests.
pub const FAILED_BOUND: f64 = 0.05;

/// Fewer failures than this prove nothing.
pub const FAILURES_MIN: u64 = 5;

/// So much of the share of usable endpoints must be left.
pub const USABLE_BOUND: f64 = 0.5;

/// The least time between two samples that are kept.
const SPACING: Duration = Duration::from_secs(1);

/// What there is to see at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sample {
    /// Requests and connections that have ended, since the start.
    pub ended: u64,
    /// Those of them that failed: status 5xx, no route, no connection to an endpoint.
    pub failed: u64,
    /// Endpoints that are usable now.
    pub usable: u64,
    /// All endpoints that are meant to be.
    pub endpoints: u64,
}

impl Sample {
    #[expect(clippy::cast_precision_loss, reason = "requests of one process stay below 2^53")]
    fn failed_since(&self, earlier: &Self) -> (u64, u64, f64) {
        let ended = self.ended.saturating_sub(earlier.ended);
        let failed = self.failed.saturating_sub(earlier.failed);
        (failed, ended, if ended == 0 { 0.0 } else { failed as f64 / ended as f64 })
    }

    #[expect(clippy::cast_precision_loss, reason = "there are far fewer than 2^53 endpoints")]
    fn usable_share(&self) -> f64 {
        if self.endpoints == 0 { 1.0 } else { self.usable as f64 / self.endpoints as f64 }
    }
}

/// Samples of the last minute, at most one a second.
#[derive(Debug, Default)]
pub struct History(VecDeque<(Duration, Sample)>);

impl History {
    /// Whether the last sample is old enough for another one to be kept.
    #[must_use]
    pub fn is_due(&self, now: Duration) -> bool {
        self.0.back().is_none_or(|(at, _)| now.saturating_sub(*at) >= SPACING)
    }

    /// Keeps a sample, unless one was kept a moment ago.
    pub fn note(&mut self, now: Duration, sample: Sample) {
        if !self.is_due(now) {
            return;
        }
        while self.0.front().is_some_and(|(at, _)| now.saturating_sub(*at) > BEFORE) {
            self.0.pop_front();
        }
        self.0.push_back((now, sample));
    }

    /// The sample that is at least so old, or the oldest there is.
    fn at(&self, now: Duration, age: Duration) -> Option<&Sample> {
        let old = self.0.iter().rev().find(|(at, _)| now.saturating_sub(*at) >= age);
        old.or_else(|| self.0.front()).map(|(_, sample)| sample)
    }
}

/// A configuration on trial.
#[derive(Debug)]
pub struct Trial {
    until: Duration,
    failed_before: f64,
    usable_before: f64,
    since: History,
}

/// Why a trial ends with the configuration that was before it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Failed {
    /// Nobody has confirmed it in time.
    Unconfirmed,
    /// More requests fail than before.
    Requests {
        /// Of the last seconds.
        failed: u64,
        /// Of these.
        ended: u64,
        /// The share of failed ones in the minute before.
        before: f64,
    },
    /// Fewer endpoints are usable than before.
    Endpoints {
        /// So many.
        usable: u64,
        /// Of these.
        endpoints: u64,
        /// The share of usable ones before.
        before: f64,
    },
}

impl Trial {
    /// A trial that begins now and must be confirmed within `limit`. `before` are samples of the configuration before it,
    /// the last of which is `last`; `first` is the first sample of the new one.
    #[must_use]
    pub fn begin(now: Duration, limit: Duration, before: &History, last: &Sample, first: Sample) -> Self {
        let (_, _, failed_before) = before.at(now, BEFORE).map_or((0, 0, 0.0), |old| last.failed_since(old));
        let mut since = History::default();
        since.note(now, first);
        Self { until: now + limit, failed_before, usable_before: last.usable_share(), since }
    }

    /// When it must be confirmed.
    #[must_use]
    pub const fn until(&self) -> Duration {
        self.until
    }

    /// Looks at how things are now: whether the trial has failed.
    pub fn observe(&mut self, now: Duration, sample: Sample) -> Option<Failed> {
        let earlier = self.since.at(now, WINDOW).copied().unwrap_or(sample);
        self.since.note(now, sample);
        let (failed, ended, share) = sample.failed_since(&earlier);
        if failed >= FAILURES_MIN && share > self.failed_before + FAILED_BOUND {
            return Some(Failed::Requests { failed, ended, before: self.failed_before });
        }
        if sample.usable_share() < self.usable_before * USABLE_BOUND {
            let Sample { usable, endpoints, .. } = sample;
            return Some(Failed::Endpoints { usable, endpoints, before: self.usable_before });
        }
        (now >= self.until).then_some(Failed::Unconfirmed)
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unconfirmed => write!(out, "nobody confirmed it in time"),
            Self::Requests { failed, ended, before } => {
                write!(
                    out,
                    "{failed} of the last {ended} requests failed, where {:.1} % did before",
                    before * 100.0
                )
            }
            Self::Endpoints { usable, endpoints, before } => {
                write!(
                    out,
                    "{usable} of {endpoints} endpoints are usable, where {:.1} % were before",
                    before * 100.0
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const fn sample(ended: u64, failed: u64, usable: u64) -> Sample {
        Sample { ended, failed, usable, endpoints: 4 }
    }

    /// A minute of a hundred requests a second, so many of which fail.
    fn minute(failing: u64) -> (History, Sample) {
        let mut history = History::default();
        let mut last = Sample::default();
        for second in 0..=60 {
            last = sample(second * 100, second * failing, 4);
            history.note(at(second), last);
        }
        (history, last)
    }

    fn begin(failing: u64) -> (Trial, Sample) {
        let (history, last) = minute(failing);
        (Trial::begin(at(60), at(60), &history, &last, last), last)
    }

    #[test]
    fn a_trial_ends_when_nobody_confirms_it() {
        let (mut trial, last) = begin(0);
        assert_eq!(trial.observe(at(119), last), None);
        assert_eq!(trial.observe(at(120), last), Some(Failed::Unconfirmed));
    }

    #[test]
    fn more_failures_than_before_end_it_at_once() {
        let (mut trial, last) = begin(0);
        let bad = sample(last.ended + 50, last.failed + 10, 4);
        let ended = trial.observe(at(61), bad);
        assert_eq!(ended, Some(Failed::Requests { failed: 10, ended: 50, before: 0.0 }));
        let (mut trial, last) = begin(30);
        let as_before = sample(last.ended + 100, last.failed + 30, 4);
        assert_eq!(trial.observe(at(61), as_before), None, "as many failed before");
        let (mut trial, last) = begin(0);
        let few = sample(last.ended + 10, last.failed + FAILURES_MIN - 1, 4);
        assert_eq!(trial.observe(at(61), few), None, "too few to tell");
    }

    #[test]
    fn a_bad_end_is_not_hidden_by_a_good_beginning() {
        let (mut trial, last) = begin(0);
        for second in 1..50 {
            assert_eq!(trial.observe(at(60 + second), sample(last.ended + second * 1000, 0, 4)), None);
        }
        let good = last.ended + 49_000;
        let bad = trial.observe(at(111), sample(good + 2000, 2000, 4));
        assert!(matches!(bad, Some(Failed::Requests { .. })), "{bad:?}");
    }

    #[test]
    fn fewer_usable_endpoints_than_before_end_it_at_once() {
        let (mut trial, last) = begin(0);
        assert_eq!(trial.observe(at(61), sample(last.ended, 0, 2)), None, "half are left");
        let ended = trial.observe(at(62), sample(last.ended, 0, 1));
        assert_eq!(ended, Some(Failed::Endpoints { usable: 1, endpoints: 4, before: 1.0 }));
    }

    #[test]
    fn history_is_bounded() {
        let mut history = History::default();
        for millis in 0..1_000_000 {
            history.note(Duration::from_millis(millis), Sample::default());
        }
        assert!(history.0.len() <= 62, "{}", history.0.len());
    }
}
