//! Changes in words: what the journal, the log and the operator read.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use super::probe::outcome::Outcome;
use crate::control::journal::{Change, Evidence, Kind};
use crate::model::name::{EndpointName, PoolName};
use crate::policy::breaker;
use crate::policy::exclusive::Why;
use crate::policy::health::{Because, State, Verdict};
use crate::policy::outlier;
use crate::runtime::judge;

/// A probe's result as a line of evidence.
pub(super) fn evidence(outcome: &Outcome, at: SystemTime) -> Evidence {
    let phases = &outcome.evidence.phases;
    let steps = [("connect", phases.connect), ("tls", phases.tls), ("first byte", phases.first_byte)];
    Evidence {
        at,
        result: Cow::Borrowed(verdict(outcome.verdict)),
        text: outcome.evidence.what.clone(),
        took: phases.total,
        phases: steps.into_iter().filter_map(|(name, took)| Some((name, took?))).collect(),
        answer: outcome.evidence.bytes.clone(),
    }
}

pub(super) const fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Good => "good",
        Verdict::SaysNo => "says no",
        Verdict::CannotBeAsked => "cannot be asked",
        Verdict::Void => "no evidence",
    }
}

/// A state of probes in a word.
pub(super) const fn state(state: State) -> &'static str {
    match state {
        State::Unknown => "unknown",
        State::Up => "up",
        State::Down(Because::SaysNo) => "down: says no",
        State::Down(Because::CannotBeAsked) => "down: cannot be asked",
    }
}

/// Why an exclusive pool has another leader, or none.
pub(super) const fn why(why: Why) -> &'static str {
    match why {
        Why::Claims => "its claim is the only one, or the best one",
        Why::Undecided => "several claim to lead and nothing says who is right: nobody is used",
        Why::SaysNo => "the leader said no and nobody else claims",
        Why::Unreachable => "neither the leader's health check nor its port could be reached",
        Why::Stale => "the leader's health check was silent for too long",
    }
}

/// What live traffic changed, as an event.
pub(super) fn judged(
    pool: &PoolName,
    endpoint: Option<&EndpointName>,
    change: &judge::Change,
    now: Duration,
) -> Change {
    let about = |change: Change| match endpoint {
        Some(endpoint) => change.endpoint(pool, endpoint),
        None => change.pool(pool),
    };
    about(match change {
        judge::Change::Ejected(ejection) => {
            let lasts = ejection.until.saturating_sub(now);
            let because = format!("{}; back in {lasts:.1?}", outlier_because(&ejection.because));
            Change::new(Kind::Endpoint, "ejected", because).from("in use")
        }
        judge::Change::EjectionHeld { because, cap } => {
            let held = match cap {
                outlier::Cap::LastUsable => "it is the last usable endpoint",
                outlier::Cap::MaxEjected => "max_ejected is reached",
                outlier::Cap::MinAvailable => "min_available would not be left",
            };
            let because = format!("{}, but {held}", outlier_because(because));
            Change::new(Kind::Endpoint, "ejection held", because).from("in use")
        }
        judge::Change::Returned => {
            Change::new(Kind::Endpoint, "in use", "the ejection is over").from("ejected")
        }
        judge::Change::Breaker(change) => breaker_change(change, now),
    })
}

fn breaker_change(change: &breaker::Change, now: Duration) -> Change {
    match change {
        breaker::Change::Opened { until, because, times } => {
            let lasts = until.saturating_sub(now);
            let because = format!("{}; for {lasts:.1?}, time {times}", breaker_because(because));
            Change::new(Kind::Breaker, "open", because)
        }
        breaker::Change::Held { because } => {
            let because = format!("{}, but nothing else is usable", breaker_because(because));
            Change::new(Kind::Breaker, "held", because)
        }
        breaker::Change::HalfOpened => Change::new(Kind::Breaker, "half-open", "trials begin").from("open"),
        breaker::Change::Closed => {
            Change::new(Kind::Breaker, "closed", "enough trials went well").from("half-open")
        }
    }
}

fn outlier_because(because: &outlier::Because) -> String {
    match because {
        outlier::Because::Connects(count) => format!("{count} connects in a row failed"),
        outlier::Because::Consecutive { count, last } => {
            format!("{count} attempts in a row failed, the last by {last:?}")
        }
        outlier::Because::Ratio(totals) => {
            format!("{} of {} attempts failed", totals.failures, totals.attempts)
        }
        outlier::Because::Latency { mean, median } => {
            format!("answers take {mean:.1?} where {median:.1?} is usual")
        }
        outlier::Because::MaxFails(count) => format!("{count} failures within fail_timeout"),
    }
}

fn breaker_because(because: &breaker::Because) -> String {
    match because {
        breaker::Because::Consecutive { count, last } => {
            format!("{count} attempts in a row failed, the last by {last:?}")
        }
        breaker::Because::Ratio(totals) => {
            format!("{} of {} attempts failed", totals.failures, totals.attempts)
        }
        breaker::Because::Trial(failure) => format!("a trial failed by {failure:?}"),
    }
}
