//! Results of probes at the keeper: whether they are believed, and what they change.

use std::collections::HashSet;
use std::num::NonZero;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::keeper::{EVIDENCE_MAX, Effect, Keeper, TargetId, set_probe_state};
use super::probe::Check;
use super::probe::agent::{Admin, AgentWeight, Words};
use super::probe::outcome::Outcome;
use super::report;
use crate::control::journal::{Change, Evidence, Kind};
use crate::control::status::{LastProbe, ProbeState};
use crate::model::address::Address;
use crate::policy::balance::FULL_SHARE;
use crate::policy::health::guard::{Ruling, Sight, is_void};
use crate::policy::health::{self, Because, State, Verdict};
use crate::proxy::sessions::Cut;
use crate::runtime::endpoint::Endpoint;
use crate::runtime::judge;
use crate::runtime::pool::Pool;

impl Keeper {
    /// Takes what a probe came to, and whether the ports that were asked accept (nothing where that is not known);
    /// says how long to wait until the next one, or nothing when the target is gone.
    pub fn observe(
        &mut self,
        id: TargetId,
        outcome: &Outcome,
        ports: &[(Address, Option<bool>)],
        random: u64,
        now: Duration,
    ) -> Option<Duration> {
        let verdict = self.believe(id, outcome, now);
        let at = SystemTime::now();
        let target = self.targets.get_mut(&id)?;
        if target.history.len() == EVIDENCE_MAX {
            target.history.pop_front();
        }
        target.history.push_back(report::evidence(outcome, at));
        let change = target.health.observe(verdict, now);
        if change.is_some() {
            target.since = at;
        }
        let members = target.members.clone();
        for (pool, endpoint) in members {
            self.learn(id, (pool, endpoint), verdict, outcome, ports, now);
            if let Some(change) = change {
                self.changed(id, (pool, endpoint), change, now);
            }
        }
        let target = self.targets.get(&id)?;
        Some(target.health.next_interval(random))
    }

    /// What a result is worth: nothing, where most of everything fails while we are not well ourselves.
    fn believe(&mut self, id: TargetId, outcome: &Outcome, now: Duration) -> Verdict {
        let bad = matches!(outcome.verdict, Verdict::SaysNo | Verdict::CannotBeAsked);
        let watched = self.targets.len();
        let Some(target) = self.targets.get_mut(&id) else { return Verdict::Void };
        let was_failing = target.failing;
        target.failing = bad || (was_failing && outcome.verdict == Verdict::Void);
        if bad && !was_failing {
            self.failures.push_back(now);
        }
        if !bad {
            return outcome.verdict;
        }
        let since = now.saturating_sub(self.interval);
        while self.failures.front().is_some_and(|at| *at < since) {
            self.failures.pop_front();
        }
        let lag = self.lags.iter().filter(|(at, _)| *at >= since).map(|(_, lag)| *lag).max();
        let sight = Sight {
            failed: self.failures.len(),
            watched,
            lag: lag.unwrap_or_default().max(outcome.evidence.lateness),
            address_vanished: outcome.evidence.own_address_gone,
        };
        match self.guard.judge(&sight, self.interval, now) {
            Ruling::Believe => outcome.verdict,
            Ruling::Suspend { begins } => {
                if begins {
                    let because = format!(
                        "{} of {watched} targets failed at once while our own loops ran {:?} late or our address was \
                         gone: nothing is changed",
                        sight.failed, sight.lag
                    );
                    self.effects.push(Effect::Tell(Change::new(Kind::Alarm, "suspended", because)));
                }
                Verdict::Void
            }
        }
    }

    /// Notes how late a loop of ours ran.
    pub fn note_lag(&mut self, lag: Duration, now: Duration) {
        if is_void(lag) {
            self.lags.push_back((now, lag));
        }
        let since = now.saturating_sub(self.interval);
        self.lags.retain(|(at, _)| *at >= since);
    }

    /// What every result means for one endpoint, whether its state changes or not.
    fn learn(
        &mut self,
        id: TargetId,
        (pool_index, endpoint_index): (usize, usize),
        verdict: Verdict,
        outcome: &Outcome,
        ports: &[(Address, Option<bool>)],
        now: Duration,
    ) {
        let snapshot = Arc::clone(&self.snapshot);
        let Some(pool) = snapshot.pools.get(pool_index) else { return };
        let Some(endpoint) = pool.endpoints.get(endpoint_index) else { return };
        let Some(target) = self.targets.get(&id) else { return };
        let state = target.health.state();
        self.show(id, (pool_index, endpoint_index), now);
        self.board.write(endpoint.live.slot(), |board| {
            board.probe.last = Some(LastProbe {
                at: SystemTime::now(),
                took: outcome.evidence.phases.total,
                text: outcome.evidence.what.clone(),
            });
        });
        if verdict == Verdict::CannotBeAsked {
            self.effects.push(Effect::Suspect(pool.name.clone(), endpoint.name.clone()));
        }
        let port =
            ports.iter().find(|(address, _)| *address == endpoint.socket()).and_then(|(_, open)| *open);
        let history: Vec<Evidence> = target.history.iter().cloned().collect();
        if let Some(lead) = self.leads.get_mut(pool_index).and_then(Option::as_mut) {
            let change = lead.observe(endpoint_index, verdict, outcome.rank, port, now);
            if let Some(change) = change {
                self.led(pool_index, &change, history, now);
            }
            return;
        }
        let rules = self.rules.get(pool_index);
        if state == State::Down(Because::CannotBeAsked)
            || (verdict == Verdict::CannotBeAsked && state != State::Up)
        {
            let written = rules.and_then(|rules| rules.on_unreachable);
            // A port that takes datagrams cannot be asked: there the probe alone says that the endpoint is not there.
            let is_gone = pool.datagrams || port == Some(false);
            if let Some(written) = written.filter(|_| is_gone) {
                self.closings.begin(&endpoint.live, written, Cut::Unreachable, now);
            }
        }
        if let Some(words) = &outcome.agent {
            self.agent_says(pool, endpoint, words);
        }
    }

    /// Lets status show where a target stands, for one endpoint.
    pub(super) fn show(&self, id: TargetId, (pool, endpoint): (usize, usize), now: Duration) {
        let (Some(target), Some(endpoint)) = (self.targets.get(&id), self.endpoint(pool, endpoint)) else {
            return;
        };
        let until = target.health.suppressed_until(now);
        self.board.write(endpoint.live.slot(), |board| {
            board.probe.state = probe_state(target.health.state());
            board.probe.since = Some(target.since);
            board.suppressed_until = until.map(|until| SystemTime::now() + until.saturating_sub(now));
        });
    }

    fn agent_says(&mut self, pool: &Pool, endpoint: &Endpoint, words: &Words) {
        let wish = self.agents.entry(endpoint.live.slot()).or_default();
        let before = *wish;
        if words.admin.is_some() {
            wish.admin = words.admin;
        }
        if words.connections_max.is_some() {
            wish.ceiling = words.connections_max;
        }
        if let Some(weight) = words.weight {
            let full = u64::from(FULL_SHARE);
            let share = match weight {
                AgentWeight::Percent(percent) => full * u64::from(percent) / 100,
                AgentWeight::Absolute(weight) => full * u64::from(weight) / u64::from(endpoint.weight.max(1)),
            };
            wish.share = Some(u32::try_from(share.min(full)).unwrap_or(FULL_SHARE));
        }
        let wish = *wish;
        if wish.ceiling != before.ceiling {
            self.set_agent_ceiling(pool, endpoint, wish.ceiling);
        }
        if wish.admin != before.admin {
            self.set_admin_bits(pool, endpoint);
            let to = match wish.admin {
                Some(Admin::Drain) => "drain",
                Some(Admin::Maintenance) => "maintenance",
                Some(Admin::Ready) | None => "ready",
            };
            let change =
                Change::new(Kind::Endpoint, to, "its agent says so").endpoint(&pool.name, &endpoint.name);
            self.effects.push(Effect::Tell(change));
        }
    }

    /// Forgets what agents said of endpoints that have none any more.
    pub(super) fn forget_agents(&mut self) {
        let asked = self.targets.values().filter(|target| matches!(target.probe.check, Check::Agent { .. }));
        let members = asked.flat_map(|target| target.members.iter());
        let kept: HashSet<u32> =
            members.filter_map(|&(pool, at)| Some(self.endpoint(pool, at)?.live.slot())).collect();
        for endpoint in self.snapshot.pools.iter().flat_map(|pool| &pool.endpoints) {
            if !kept.contains(&endpoint.live.slot()) {
                endpoint.live.set_agent_ceiling(None);
            }
        }
        self.agents.retain(|slot, _| kept.contains(slot));
    }

    /// An agent's `maxconn` is the ceiling of its endpoint, whatever is written; its 0 is none, as in HAProxy.
    fn set_agent_ceiling(&mut self, pool: &Pool, endpoint: &Endpoint, said: Option<u32>) {
        let ceiling = said.map(|most| NonZero::new(most).unwrap_or(NonZero::<u32>::MAX));
        endpoint.live.set_agent_ceiling(ceiling);
        let to = match said {
            Some(0) => "no ceiling".to_owned(),
            Some(most) => format!("ceiling {most}"),
            None => "its written ceiling".to_owned(),
        };
        let told = Change::new(Kind::Endpoint, to, "its agent says so").endpoint(&pool.name, &endpoint.name);
        self.effects.push(Effect::Tell(told));
        // Those who wait for a place may have one now.
        pool.serve_queue();
    }

    /// A target's state has changed: what that means for one endpoint.
    pub(super) fn changed(
        &mut self,
        id: TargetId,
        (pool_index, endpoint_index): (usize, usize),
        change: health::Change,
        now: Duration,
    ) {
        let snapshot = Arc::clone(&self.snapshot);
        let Some(pool) = snapshot.pools.get(pool_index) else { return };
        let Some(endpoint) = pool.endpoints.get(endpoint_index) else { return };
        self.tell_probe(id, pool, endpoint, change, now);
        if pool.exclusive {
            return;
        }
        set_probe_state(pool, endpoint, Some(change.to));
        let slot = endpoint.live.slot();
        match change.to {
            State::Up => {
                self.closings.cancel(slot);
                if let Some(change) = judge::proven(pool, endpoint) {
                    let change = report::judged(&pool.name, Some(&endpoint.name), &change, now);
                    self.effects.push(Effect::Tell(change));
                }
                if change.from != State::Unknown {
                    self.came_back(pool_index, endpoint, now);
                }
            }
            State::Down(because) => {
                self.effects.push(Effect::Purge(slot));
                let written = self.rules.get(pool_index).and_then(|rules| rules.on_demotion);
                if let (Some(written), Because::SaysNo) = (written, because) {
                    self.closings.begin(&endpoint.live, written, Cut::Demoted, now);
                }
            }
            State::Unknown => {}
        }
        self.levels.refresh_endpoint(&snapshot, pool_index, endpoint_index);
        self.replan_pool(pool_index, now);
        pool.serve_queue();
    }

    fn tell_probe(
        &mut self,
        target: TargetId,
        pool: &Pool,
        endpoint: &Endpoint,
        change: health::Change,
        now: Duration,
    ) {
        let Some(target) = self.targets.get(&target) else { return };
        let last = target.history.back().map_or_else(String::new, |evidence| evidence.text.clone());
        let because = format!("{} in a row: {last}", change.results);
        let mut told = Change::new(Kind::Endpoint, report::state(change.to), because)
            .endpoint(&pool.name, &endpoint.name)
            .from(report::state(change.from))
            .evidence(target.history.iter().cloned());
        if let Some(until) = change.suppressed_until {
            told = told.suppressed_until(SystemTime::now() + until.saturating_sub(now));
        }
        self.effects.push(Effect::Tell(told));
    }
}

/// A state of probes as status tells it.
pub(super) const fn probe_state(state: State) -> ProbeState {
    match state {
        State::Unknown => ProbeState::Unknown,
        State::Up => ProbeState::Up,
        State::Down(Because::SaysNo) => ProbeState::SaysNo,
        State::Down(Because::CannotBeAsked) => ProbeState::CannotBeAsked,
    }
}
