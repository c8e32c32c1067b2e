//! A reload that has to be confirmed: what ran before is kept at hand, and put back when nobody confirms the new one or when
//! it does worse. The judgement is [`policy::trial`](crate::policy::trial)'s; here is what it looks at.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::journal::{Change, Evidence, Kind};
use super::reload::{Cause, ReloadError};
use super::supervisor::Supervisor;
use crate::config::Config;
use crate::policy::trial::{Failed, History, Sample, Trial};
use crate::runtime::counters::Statuses;
use crate::runtime::snapshot::Snapshot;

/// What the supervisor knows of trials.
#[derive(Debug, Default)]
pub(super) struct Trials {
    history: History,
    pending: Option<Pending>,
}

#[derive(Debug)]
struct Pending {
    trial: Trial,
    /// What ran before, and runs again if it fails.
    back: Arc<Config>,
    generation: u64,
}

/// What there is to see of a snapshot now.
pub(super) fn sample(snapshot: &Snapshot) -> Sample {
    let mut sample = Sample::default();
    for listener in &snapshot.listeners {
        let counters = &listener.live.counters;
        let ended = (0..Statuses::WORDS.len()).map(|word| counters.sum(|c| c.ended.counter(word)));
        sample.ended += ended.sum::<u64>();
        let server_error = Statuses::WORDS.iter().position(|word| *word == "5xx").unwrap_or_default();
        sample.failed += counters.sum(|c| c.ended.counter(server_error)) + counters.sum(|c| &c.no_route);
        // A tcp session has no status: connections that its endpoints refused stand for it.
        let pools: std::collections::BTreeSet<usize> = listener.pools().collect();
        for pool in pools.into_iter().filter_map(|pool| snapshot.pools.get(pool)) {
            let refused = pool.endpoints.iter().map(|e| e.live.counters.sum(|c| &c.failed_connect));
            sample.failed += refused.sum::<u64>();
        }
    }
    for pool in &snapshot.pools {
        let level = pool.level();
        let usable =
            pool.endpoints.iter().filter(|e| level.is_some_and(|level| e.live.condition.allows(level)));
        sample.usable += usable.count() as u64;
        // Of an exclusive pool one is enough.
        sample.endpoints += if pool.exclusive { 1 } else { pool.endpoints.len() as u64 };
    }
    sample
}

impl Supervisor {
    /// Notes that a reload was published over `previous`, with what was to be seen of that one last; `confirm` puts it on
    /// trial.
    pub(super) fn note_trial(
        &mut self,
        cause: Cause,
        confirm: Option<Duration>,
        previous: Arc<Config>,
        last: &Sample,
    ) {
        // What follows from names and endpoints runs under either configuration.
        if matches!(cause, Cause::Names | Cause::EndpointChange) {
            return;
        }
        // Of several on trial one after the other, the last confirmed one is what to go back to.
        let back = self.trials.pending.take().map_or(previous, |pending| pending.back);
        let snapshot = self.inner.store.load();
        let now = snapshot.clock.now();
        let until = confirm.map(|limit| {
            let trial = Trial::begin(now, limit, &self.trials.history, last, sample(&snapshot));
            self.trials.pending = Some(Pending { trial, back, generation: snapshot.generation });
            SystemTime::now() + limit
        });
        self.inner.shared.running().confirm_until = until;
        if until.is_none() && cause != Cause::GoingBack {
            self.inner.shared.keep_config();
        }
    }

    /// Ends the trial: what runs stays.
    pub(super) fn confirm(&mut self) -> Result<u64, ReloadError> {
        let pending = self.trials.pending.take().ok_or(ReloadError::NothingToConfirm)?;
        self.inner.shared.running().confirm_until = None;
        self.inner.shared.keep_config();
        self.forget_gone_pools();
        let why = format!("generation {} is confirmed and stays", pending.generation);
        self.inner.journal.append(Change::new(Kind::Reload, "confirmed", why));
        Ok(pending.generation)
    }

    /// Forgets what was added to pools and removed from them that are gone for good.
    pub(super) fn forget_gone_pools(&mut self) {
        if self.trials.pending.is_none() {
            self.membership.forget_others(&self.config);
            self.note_roster();
        }
    }

    /// Looks how things are, and goes back where the trial has failed.
    pub(super) async fn look_at_trial(&mut self) {
        let snapshot = self.inner.store.load();
        let now = snapshot.clock.now();
        if self.trials.pending.is_none() && !self.trials.history.is_due(now) {
            return;
        }
        let sample = sample(&snapshot);
        self.trials.history.note(now, sample);
        let failed = self.trials.pending.as_mut().and_then(|pending| pending.trial.observe(now, sample));
        if let Some(failed) = failed {
            self.go_back(failed, sample).await;
        }
    }

    async fn go_back(&mut self, failed: Failed, sample: Sample) {
        let Some(Pending { back, generation, .. }) = self.trials.pending.take() else { return };
        self.inner.shared.running().confirm_until = None;
        let hash = back.hash;
        let result = self.reload_now(back, Cause::GoingBack).await;
        let Sample { usable, endpoints, .. } = sample;
        let evidence = Evidence {
            at: SystemTime::now(),
            result: "on trial".into(),
            text: format!("{failed}; {usable} of {endpoints} endpoints are usable"),
            took: Duration::ZERO,
            phases: Vec::new(),
            answer: Vec::new(),
        };
        let change = match result {
            Ok(_) => {
                let why = format!(
                    "generation {generation} was on trial: {failed}; the configuration {hash:016x} runs again"
                );
                Change::new(Kind::Reload, "gone back", why)
            }
            Err(error) => {
                let why = format!(
                    "generation {generation} was on trial: {failed}; but what ran before cannot run again: {error}"
                );
                Change::new(Kind::Alarm, "cannot go back", why)
            }
        };
        self.inner.journal.append(change.evidence([evidence]));
    }
}
