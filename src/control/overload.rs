//! Looks at what the process uses, asks `policy::admission::overload` what is to be given up, and tells the workers.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::journal::{Change, Kind};
use super::status::OverloadStatus;
use super::supervisor::{LOOK, Supervisor};
use crate::model::units::format_duration;
use crate::policy::admission::overload::{Overload, Resource, Sample, Settings, Stage, State};
use crate::proxy::worker::Command as WorkerCommand;
use crate::telemetry::usage::Usage;

/// How often what is used is read: before Linux 6.2 descriptors are counted one by one.
const USED: Duration = Duration::from_secs(1);

/// How often limits are read again: an operator may move them under a running process.
const LIMITS: Duration = Duration::from_secs(10);

/// Where even this thread, which does little, has not looked for so long, the process as a whole stood still: by a signal, or
/// because its machine did. That says nothing of what its workers have to do.
const STOPPED: Duration = Duration::from_secs(1);

/// What is known of the overload.
#[derive(Debug, Default)]
pub(super) struct Watch(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    policy: Overload,
    sample: Sample,
    used: Usage,
    used_read: Option<Instant>,
    limits: Usage,
    limits_read: Option<Instant>,
    looked: Option<Instant>,
    /// Until then lateness says nothing of the workers: whoever looks was late as well.
    stopped_until: Option<Instant>,
}

impl Watch {
    /// What is given up, and why.
    pub(super) fn status(&self) -> OverloadStatus {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Sample { memory, descriptors, lag } = seen.sample;
        OverloadStatus { state: seen.policy.state(), memory, descriptors, lag }
    }

    /// Looks; what is given up from now on, where that changes.
    fn look(
        &self,
        settings: Option<&Settings>,
        lag: Duration,
        now: (Instant, Duration),
    ) -> Option<(State, State)> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = seen.policy.state();
        let Some(settings) = settings else {
            *seen = Seen::default();
            return (before != State::default()).then_some((before, State::default()));
        };
        let at = now.0;
        if seen.looked.replace(at).is_some_and(|last| at.saturating_duration_since(last) > STOPPED) {
            seen.stopped_until = Some(at + 2 * LOOK);
        }
        let lag = if seen.stopped_until.is_some_and(|until| at <= until) { Duration::ZERO } else { lag };
        let due = |last: Option<Instant>, every| {
            last.is_none_or(|last| at.saturating_duration_since(last) >= every)
        };
        if due(seen.limits_read, LIMITS) {
            (seen.limits, seen.limits_read) = (Usage::limits(), Some(at));
        }
        if due(seen.used_read, USED) {
            (seen.used, seen.used_read) = (Usage::read(), Some(at));
        }
        let (used, limits) = (seen.used, seen.limits);
        let share = |used: Option<f64>, limit: Option<f64>| Some(used? / limit?);
        seen.sample = Sample {
            memory: share(used.memory, limits.memory),
            descriptors: share(used.descriptors, limits.descriptors),
            lag,
        };
        let sample = seen.sample;
        seen.policy.observe(settings, &sample, now.1).map(|after| (before, after))
    }
}

impl Supervisor {
    /// Looks at what the process uses. To be called every [`LOOK`].
    pub(super) fn look_at_overload(&self, now: Instant) {
        let inner = &self.inner;
        // A worker that does not turn at all tells nothing of how late it is.
        let silent = self.turns.iter().map(|(_, since)| now.saturating_duration_since(*since)).max();
        let silent = silent.unwrap_or_default().saturating_sub(2 * LOOK);
        let lag = inner.fleet.pressure.take_lag().max(silent);
        let settings = self.config.process.overload.as_ref();
        let Some((before, after)) = inner.overload.look(settings, lag, (now, inner.store.load().clock.now()))
        else {
            return;
        };
        inner.fleet.pressure.set(after);
        if before.stage != after.stage {
            let because = because(after, &inner.overload.status());
            let kind = if after.stage >= Stage::Shedding { Kind::Alarm } else { Kind::Process };
            let to = format!("overload: {}", after.stage.word());
            inner.journal.append(Change::new(kind, to, because).from(before.stage.word()));
        }
        if after.saves && !before.saves {
            for member in &self.crew {
                // One that is stuck has other sorrows, and closes what is idle as soon as it turns.
                drop(member.commands.try_send(WorkerCommand::Save));
            }
        }
    }
}

fn because(state: State, status: &OverloadStatus) -> String {
    let percent = |share: Option<f64>| format!("{:.1} % in use", share.unwrap_or_default() * 100.0);
    match state.because {
        Some(Resource::Memory) => format!("memory: {}", percent(status.memory)),
        Some(Resource::Descriptors) => format!("descriptors: {}", percent(status.descriptors)),
        Some(Resource::Lag) => format!("the workers' loops are late by {}", format_duration(status.lag)),
        None => "there is enough of everything again".to_owned(),
    }
}
