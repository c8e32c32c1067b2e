//! The one writer of what probes, time and the operator say of endpoints: takes results and ticks, sets conditions,
//! gates and leaders, and says what else is to be done. Synchronous and without a clock: who drives it brings the time.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::board::Board;
use super::closing::{Closings, Order, Shedding};
use super::lead::Lead;
use super::probe::Probe;
use super::probe::agent::Admin;
use super::probe::outcome::Outcome;
use super::report;
use super::standing::{Levels, Standing, levels};
use super::targets::Watch;
use crate::config::health::Closing;
use crate::config::{Config, pool};
use crate::control::change::{AdminState, ChangeError, EndpointChange, FailoverTarget};
use crate::control::journal::{Change, Evidence, Kind};
use crate::control::status::{LastProbe, ProbeState};
use crate::model::name::{EndpointName, PoolName};
use crate::model::units::Rate;
use crate::policy::balance::FULL_SHARE;
use crate::policy::breaker;
use crate::policy::exclusive::{self, Why};
use crate::policy::failover::may_remove;
use crate::policy::health::guard::{Guard, Ruling, Sight};
use crate::policy::health::{self, Because, Health, State, Verdict};
use crate::proxy::sessions::Cut;
use crate::runtime::condition::{Impediment, Level};
use crate::runtime::endpoint::Endpoint;
use crate::runtime::judge;
use crate::runtime::pool::Pool;
use crate::runtime::snapshot::Snapshot;

/// Results that an event carries as its evidence.
const EVIDENCE_MAX: usize = 5;

/// The share with which a slow start begins, of [`FULL_SHARE`]: Envoy's 10 %.
const SLOW_START_FROM: u32 = FULL_SHARE / 10;

/// A probe that runs, by number.
pub type TargetId = u64;

/// What is to be done beside what is done already.
#[derive(Debug)]
pub enum Effect {
    /// Tell the journal.
    Tell(Change),
    /// Cut long-lived connections.
    Cut(Order),
    /// Close idle connections to the endpoint at this slot.
    Purge(u32),
    /// Start to probe.
    Watch(TargetId),
    /// Stop to probe.
    Unwatch(TargetId),
}

/// One probe, on behalf of all endpoints that it stands for.
#[derive(Debug)]
struct Target {
    probe: Arc<Probe>,
    settings: health::Settings,
    health: Health,
    /// (pool, endpoint) in the snapshot.
    members: Vec<(usize, usize)>,
    /// Traffic ports whose state matters while the probe cannot be asked.
    ports: Vec<SocketAddr>,
    history: VecDeque<Evidence>,
    since: SystemTime,
    failing: bool,
}

/// What a pool's configuration says of changes of health.
#[derive(Debug, Default)]
struct Rules {
    on_demotion: Option<Closing>,
    on_unreachable: Option<Closing>,
    shed: Option<Rate>,
}

/// What is asked next for a target.
#[derive(Debug, Clone)]
pub struct Question {
    /// The probe.
    pub probe: Arc<Probe>,
    /// Ports that are asked beside it, or right after it when it fails.
    pub ports: Vec<SocketAddr>,
    /// Whether the ports are asked beside it, since the last result was bad.
    pub suspicious: bool,
}

/// The keeper.
pub struct Keeper {
    snapshot: Arc<Snapshot>,
    board: Arc<Board>,
    targets: BTreeMap<TargetId, Target>,
    next_target: TargetId,
    rules: Vec<Rules>,
    standings: Vec<Standing>,
    leads: Vec<Option<Lead>>,
    admin: HashMap<(PoolName, EndpointName), AdminState>,
    /// What agents asked for.
    agents: HashMap<u32, AgentWish>,
    closings: Closings,
    shedding: HashMap<usize, Shedding>,
    /// Endpoints that start slowly, by slot, and since when.
    growing: HashMap<u32, Duration>,
    guard: Guard,
    failures: VecDeque<Duration>,
    lags: VecDeque<(Duration, Duration)>,
    /// Failures and lags are looked at over this long: the longest interval in use.
    interval: Duration,
    effects: Vec<Effect>,
}

#[derive(Debug, Clone, Copy, Default)]
struct AgentWish {
    admin: Option<Admin>,
    share: Option<u32>,
}

impl Keeper {
    /// A keeper of nothing yet.
    #[must_use]
    pub fn new(snapshot: Arc<Snapshot>, board: Arc<Board>) -> Self {
        Self {
            snapshot,
            board,
            targets: BTreeMap::new(),
            next_target: 0,
            rules: Vec::new(),
            standings: Vec::new(),
            leads: Vec::new(),
            admin: HashMap::new(),
            agents: HashMap::new(),
            closings: Closings::default(),
            shedding: HashMap::new(),
            growing: HashMap::new(),
            guard: Guard::default(),
            failures: VecDeque::new(),
            lags: VecDeque::new(),
            interval: Duration::from_secs(2),
            effects: Vec::new(),
        }
    }

    /// What is to be done; asked after every call.
    pub fn effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Takes over a snapshot that is published now, and what of it is to be probed. What is known of whoever stays is
    /// kept; sessions to whoever is gone get the time of their pool to end.
    pub fn adopt(&mut self, snapshot: &Arc<Snapshot>, config: &Config, watches: Vec<Watch>, now: Duration) {
        let before = std::mem::replace(&mut self.snapshot, Arc::clone(snapshot));
        self.retire(&before, now);
        self.rules = snapshot.pools.iter().map(|p| rules(config, &p.name)).collect();
        let mut standings: HashMap<PoolName, Standing> =
            self.standings.drain(..).map(|standing| (standing.name().clone(), standing)).collect();
        self.standings = snapshot
            .pools
            .iter()
            .map(|pool| Standing::carried(pool, snapshot, standings.remove(&pool.name)))
            .collect();
        let mut leads: HashMap<PoolName, Lead> = self
            .leads
            .drain(..)
            .zip(&before.pools)
            .filter_map(|(lead, pool)| Some((pool.name.clone(), lead?)))
            .collect();
        let written = |name: &PoolName| config.pools.iter().find(|p| p.name == *name);
        self.leads = snapshot
            .pools
            .iter()
            .map(|pool| {
                let written = written(&pool.name)?;
                let settings = written.exclusive.clone()?;
                let fall = written.health.as_ref().map_or(1, |health| health.settings.fall);
                Some(Lead::carried(pool, settings, fall, leads.remove(&pool.name)))
            })
            .collect();
        let slots: Vec<u32> =
            snapshot.pools.iter().flat_map(|p| &p.endpoints).map(|e| e.live.slot()).collect();
        self.board.keep(&slots, &snapshot.pools.iter().map(|p| &p.name).collect::<Vec<_>>());
        self.agents.retain(|slot, _| slots.contains(slot));
        self.growing.retain(|slot, _| slots.contains(slot));
        self.shedding.clear();
        self.retarget(&before, watches);
        self.settle_conditions(now);
        self.replan(now);
    }

    /// What leads to endpoints that the new snapshot does not have gets its time.
    fn retire(&mut self, before: &Snapshot, now: Duration) {
        for pool in &before.pools {
            for endpoint in &pool.endpoints {
                if endpoint.live.is_retired() && endpoint.live.in_flight() > 0 {
                    let written = Closing { after: pool.drain_timeout, rate: None };
                    self.closings.begin(&endpoint.live, written, Cut::Drained, now);
                }
            }
        }
    }

    /// Brings the targets into line: who asks the same goes on, whatever else of its pool changed.
    fn retarget(&mut self, before: &Snapshot, watches: Vec<Watch>) {
        let mut known: HashMap<u32, State> = HashMap::new();
        for target in self.targets.values_mut() {
            for (pool, endpoint) in target.members.drain(..) {
                if let Some(endpoint) = before.pools.get(pool).and_then(|p| p.endpoints.get(endpoint)) {
                    known.insert(endpoint.live.slot(), target.health.state());
                }
            }
            target.ports.clear();
        }
        let mut index: HashMap<Arc<Probe>, Vec<TargetId>> = HashMap::new();
        for (id, target) in &self.targets {
            index.entry(Arc::clone(&target.probe)).or_default().push(*id);
        }
        self.interval = Duration::from_secs(1);
        for watch in watches {
            self.interval = self.interval.max(watch.settings.interval + watch.settings.timeout);
            let same = index.get(&watch.probe).into_iter().flatten();
            let found = same.copied().find(|id| self.targets.get(id).is_some_and(|t| t.settings == watch.settings));
            let id = found.unwrap_or_else(|| {
                let id = self.start_target(&watch, &known);
                index.entry(Arc::clone(&watch.probe)).or_default().push(id);
                id
            });
            let asks_port = self.leads.get(watch.pool).is_some_and(Option::is_some)
                || self.rules.get(watch.pool).is_some_and(|rules| rules.on_unreachable.is_some());
            if let Some(target) = self.targets.get_mut(&id) {
                target.members.push((watch.pool, watch.endpoint));
                if asks_port && !target.ports.contains(&watch.traffic) {
                    target.ports.push(watch.traffic);
                }
            }
        }
        let gone: Vec<TargetId> =
            self.targets.iter().filter(|(_, t)| t.members.is_empty()).map(|(id, _)| *id).collect();
        for id in gone {
            self.targets.remove(&id);
            self.effects.push(Effect::Unwatch(id));
        }
    }

    fn start_target(&mut self, watch: &Watch, known: &HashMap<u32, State>) -> TargetId {
        let id = self.next_target;
        self.next_target += 1;
        let slot = self.endpoint(watch.pool, watch.endpoint).map(|e| e.live.slot());
        let state = slot.and_then(|slot| known.get(&slot)).copied().unwrap_or(State::Unknown);
        let target = Target {
            probe: Arc::clone(&watch.probe),
            settings: watch.settings.clone(),
            health: Health::resumed(watch.settings.clone(), state),
            members: Vec::new(),
            ports: Vec::new(),
            history: VecDeque::with_capacity(EVIDENCE_MAX),
            since: SystemTime::now(),
            failing: false,
        };
        self.targets.insert(id, target);
        self.effects.push(Effect::Watch(id));
        id
    }

    fn endpoint(&self, pool: usize, endpoint: usize) -> Option<&Endpoint> {
        self.snapshot.pools.get(pool)?.endpoints.get(endpoint)
    }

    /// Sets every condition that this keeper writes, as after a reload.
    fn settle_conditions(&mut self, now: Duration) {
        let snapshot = Arc::clone(&self.snapshot);
        let mut states: HashMap<u32, State> = HashMap::new();
        for target in self.targets.values() {
            for &(pool, endpoint) in &target.members {
                if let Some(endpoint) = self.endpoint(pool, endpoint) {
                    states.insert(endpoint.live.slot(), target.health.state());
                }
            }
        }
        for (index, pool) in snapshot.pools.iter().enumerate() {
            for endpoint in &pool.endpoints {
                let state = states.get(&endpoint.live.slot()).copied();
                set_probe_state(pool, endpoint, state);
                if state.is_none() {
                    self.board.write(endpoint.live.slot(), |b| b.probe = Default::default());
                }
                self.set_admin_bits(pool, endpoint);
            }
            self.lead(index, now);
        }
    }

    fn set_admin_bits(&self, pool: &Pool, endpoint: &Endpoint) {
        let operator =
            self.admin.get(&(pool.name.clone(), endpoint.name.clone())).copied().unwrap_or_default();
        let agent = self.agents.get(&endpoint.live.slot()).and_then(|wish| wish.admin);
        let drained = operator == AdminState::Drain || agent == Some(Admin::Drain);
        let out = operator == AdminState::Maintenance || agent == Some(Admin::Maintenance);
        endpoint.live.condition.set(Impediment::Drained, drained);
        endpoint.live.condition.set(Impediment::Maintenance, out);
        self.board.write(endpoint.live.slot(), |b| b.admin_state = operator);
    }

    /// What is to be asked for a target now; nothing when it is gone.
    #[must_use]
    pub fn question(&self, id: TargetId) -> Option<Question> {
        let target = self.targets.get(&id)?;
        let (probe, ports) = (Arc::clone(&target.probe), target.ports.clone());
        Some(Question { probe, ports, suspicious: target.failing })
    }

    /// How long a new target waits for its first probe: at once, but many are spread a little.
    #[must_use]
    pub fn first_wait(&self, id: TargetId) -> Duration {
        let index = self.targets.keys().position(|known| *known == id).unwrap_or(0);
        let interval = self.targets.get(&id).map_or(Duration::ZERO, |t| t.settings.interval);
        health::schedule::start_offset(index, self.targets.len(), interval)
    }

    /// Takes what a probe came to, and whether the ports that were asked accept (nothing where that is not known);
    /// says how long to wait until the next one, or nothing when the target is gone.
    pub fn observe(
        &mut self,
        id: TargetId,
        outcome: &Outcome,
        ports: &[(SocketAddr, Option<bool>)],
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
        if health::guard::is_void(lag) {
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
        ports: &[(SocketAddr, Option<bool>)],
        now: Duration,
    ) {
        let snapshot = Arc::clone(&self.snapshot);
        let Some(pool) = snapshot.pools.get(pool_index) else { return };
        let Some(endpoint) = pool.endpoints.get(endpoint_index) else { return };
        let Some(target) = self.targets.get(&id) else { return };
        let slot = endpoint.live.slot();
        let state = target.health.state();
        self.board.write(slot, |board| {
            board.probe.state = probe_state(state);
            board.probe.since = Some(target.since);
            board.probe.last = Some(LastProbe {
                at: SystemTime::now(),
                took: outcome.evidence.phases.total,
                text: outcome.evidence.what.clone(),
            });
            let until = target.health.suppressed_until(now);
            board.suppressed_until = until.map(|until| SystemTime::now() + until.saturating_sub(now));
        });
        let port = ports.iter().find(|(address, _)| *address == endpoint.socket()).and_then(|(_, open)| *open);
        let history: Vec<Evidence> = target.history.iter().cloned().collect();
        if let Some(lead) = self.leads.get_mut(pool_index).and_then(Option::as_mut) {
            let change = lead.observe(endpoint_index, verdict, outcome.rank, port, now);
            if let Some(change) = change {
                self.led(pool_index, &change, history, now);
            }
            return;
        }
        let rules = self.rules.get(pool_index);
        if state == State::Down(Because::CannotBeAsked) || (verdict == Verdict::CannotBeAsked && state != State::Up) {
            let written = rules.and_then(|rules| rules.on_unreachable);
            if let (Some(written), Some(false)) = (written, port) {
                self.closings.begin(&endpoint.live, written, Cut::Unreachable, now);
            }
        }
        if let Some(words) = &outcome.agent {
            self.agent_says(pool, endpoint, words.admin, words.weight);
        }
    }

    fn agent_says(
        &mut self,
        pool: &Pool,
        endpoint: &Endpoint,
        admin: Option<Admin>,
        weight: Option<super::probe::agent::AgentWeight>,
    ) {
        use super::probe::agent::AgentWeight;
        let wish = self.agents.entry(endpoint.live.slot()).or_default();
        let before = *wish;
        if admin.is_some() {
            wish.admin = admin;
        }
        if let Some(weight) = weight {
            let full = u64::from(FULL_SHARE);
            let share = match weight {
                AgentWeight::Percent(percent) => full * u64::from(percent) / 100,
                AgentWeight::Absolute(weight) => full * u64::from(weight) / u64::from(endpoint.weight.max(1)),
            };
            wish.share = Some(u32::try_from(share.min(full)).unwrap_or(FULL_SHARE));
        }
        let wish = *wish;
        if wish.admin != before.admin {
            self.set_admin_bits(pool, endpoint);
            let to = match wish.admin {
                Some(Admin::Drain) => "drain",
                Some(Admin::Maintenance) => "maintenance",
                Some(Admin::Ready) | None => "ready",
            };
            let change = Change::new(Kind::Endpoint, to, "its agent says so").endpoint(&pool.name, &endpoint.name);
            self.effects.push(Effect::Tell(change));
        }
    }

    /// A target's state has changed: what that means for one endpoint.
    fn changed(
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
        self.replan_pool(pool_index, now);
        pool.serve_queue();
    }

    fn tell_probe(&mut self, target: TargetId, pool: &Pool, endpoint: &Endpoint, change: health::Change, now: Duration) {
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

    /// Another one leads an exclusive pool, or nobody any more.
    fn led(&mut self, index: usize, change: &exclusive::Change, history: Vec<Evidence>, now: Duration) {
        let snapshot = Arc::clone(&self.snapshot);
        let Some(pool) = snapshot.pools.get(index) else { return };
        let name = |member: Option<usize>| match member.and_then(|at| pool.endpoints.get(at)) {
            Some(endpoint) => endpoint.name.to_string(),
            None => "nobody".to_owned(),
        };
        // First nobody may be picked but the new leader, then those who are not it are closed.
        self.lead(index, now);
        let kind = if change.why == Why::Undecided { Kind::Alarm } else { Kind::Leader };
        let told = Change::new(kind, name(change.to), report::why(change.why));
        self.effects.push(Effect::Tell(told.pool(&pool.name).from(name(change.from)).evidence(history)));
        let rules = self.rules.get(index);
        let at_once = Closing { after: Duration::ZERO, rate: None };
        let written = match change.why {
            Why::Claims | Why::Undecided => Some(at_once),
            Why::SaysNo => rules.and_then(|rules| rules.on_demotion),
            Why::Unreachable | Why::Stale => rules.and_then(|rules| rules.on_unreachable),
        };
        for endpoint in change.close.iter().filter_map(|&at| pool.endpoints.get(at)) {
            self.effects.push(Effect::Purge(endpoint.live.slot()));
            if let Some(written) = written {
                self.closings.begin(&endpoint.live, written, Cut::Demoted, now);
            }
        }
        if let Some(leader) = change.to.and_then(|at| pool.endpoints.get(at)) {
            self.closings.cancel(leader.live.slot());
        }
        self.cut(now);
        pool.serve_queue();
    }

    /// Lets exactly the leader of an exclusive pool be picked.
    fn lead(&mut self, index: usize, now: Duration) {
        let snapshot = Arc::clone(&self.snapshot);
        let Some(pool) = snapshot.pools.get(index) else { return };
        let lead = self.leads.get(index).and_then(Option::as_ref);
        let leader = lead.and_then(Lead::leader);
        // The old one goes before the new one comes.
        for (at, endpoint) in pool.endpoints.iter().enumerate() {
            if lead.is_none() || leader != Some(at) {
                endpoint.live.condition.set(Impediment::Standby, lead.is_some());
                self.board.write(endpoint.live.slot(), |board| board.leader = false);
            }
        }
        if let Some(endpoint) = leader.and_then(|at| pool.endpoints.get(at)) {
            endpoint.live.condition.set(Impediment::Standby, false);
            self.board.write(endpoint.live.slot(), |board| board.leader = true);
        }
        self.replan_pool(index, now);
    }

    /// An endpoint may be used again after it might not: it starts slowly, and long-lived connections may move to it.
    fn came_back(&mut self, pool: usize, endpoint: &Endpoint, now: Duration) {
        let Some(of) = self.snapshot.pools.get(pool) else { return };
        if !of.slow_start.is_zero() {
            self.growing.insert(endpoint.live.slot(), now);
            endpoint.live.set_share(SLOW_START_FROM);
            of.live.set_growing(1);
        }
        if self.rules.get(pool).is_some_and(|rules| rules.shed.is_some()) {
            self.shedding.insert(pool, Shedding::new(now));
        }
    }

    /// What workers saw: an event for the journal, and what follows from it.
    pub fn hear(
        &mut self,
        pool: &PoolName,
        endpoint: Option<&EndpointName>,
        change: &judge::Change,
        evidence: String,
        now: Duration,
    ) {
        let mut told = report::judged(pool, endpoint, change, now);
        if !evidence.is_empty() {
            told.because = format!("{}: {evidence}", told.because);
        }
        self.effects.push(Effect::Tell(told));
        let Some(index) = self.snapshot.pools.iter().position(|p| p.name == *pool) else { return };
        let place = endpoint.and_then(|name| {
            self.snapshot.pools.get(index)?.endpoints.iter().position(|e| e.name == *name)
        });
        self.judged(index, place, change, now);
    }

    fn judged(&mut self, index: usize, place: Option<usize>, change: &judge::Change, now: Duration) {
        let snapshot = Arc::clone(&self.snapshot);
        let Some(pool) = snapshot.pools.get(index) else { return };
        let endpoint = place.and_then(|at| pool.endpoints.get(at));
        let back = matches!(change, judge::Change::Returned | judge::Change::Breaker(breaker::Change::Closed));
        if let (true, Some(endpoint)) = (back, endpoint) {
            self.came_back(index, endpoint, now);
        }
        if let (judge::Change::Ejected(_), Some(endpoint)) = (change, endpoint) {
            self.effects.push(Effect::Purge(endpoint.live.slot()));
        }
        self.replan_pool(index, now);
        pool.serve_queue();
    }

    /// Moves the gates of every pool where the facts have changed.
    fn replan(&mut self, now: Duration) {
        let all = levels(&self.snapshot);
        for index in 0..self.standings.len() {
            self.replan_with(index, &all, now);
        }
    }

    fn replan_pool(&mut self, index: usize, now: Duration) {
        // Chains that lead here are seen to at the next tick; picks find out for themselves that nothing is usable.
        if self.standings.len() == self.snapshot.pools.len() {
            let all = levels(&self.snapshot);
            self.replan_with(index, &all, now);
        }
    }

    fn replan_with(&mut self, index: usize, all: &Levels, now: Duration) {
        let snapshot = Arc::clone(&self.snapshot);
        let (Some(pool), Some(own)) = (snapshot.pools.get(index), all.get(index)) else { return };
        let Some(standing) = self.standings.get_mut(index) else { return };
        let news = standing.plan(&snapshot, pool, own, all, now);
        self.board.write_pool(&pool.name, standing.board().clone());
        self.effects.extend(news.into_iter().map(Effect::Tell));
    }

    /// What time brings. To be called about every 100 ms.
    pub fn tick(&mut self, now: Duration) {
        let snapshot = Arc::clone(&self.snapshot);
        let all = levels(&snapshot);
        for (index, pool) in snapshot.pools.iter().enumerate() {
            pool.tick_budget();
            let elsewhere = usable_elsewhere(&snapshot, pool);
            let mut changes = Vec::new();
            judge::tick(pool, elsewhere, |place, change| changes.push((place, change)));
            for (place, change) in changes {
                let name = place.and_then(|at| pool.endpoints.get(at)).map(|e| &e.name);
                self.effects.push(Effect::Tell(report::judged(&pool.name, name, &change, now)));
                self.judged(index, place, &change, now);
            }
            self.grow(pool, now);
            self.shed(index, pool, now);
            self.replan_with(index, &all, now);
            let change = self.leads.get_mut(index).and_then(Option::as_mut).and_then(|lead| lead.tick(now));
            if let Some(change) = change {
                self.led(index, &change, Vec::new(), now);
            }
            pool.serve_queue();
        }
        self.release(now);
        self.cut(now);
    }

    fn cut(&mut self, now: Duration) {
        let orders = self.closings.run(now);
        self.effects.extend(orders.into_iter().map(Effect::Cut));
    }

    /// Lets those up whose suppression has ended.
    fn release(&mut self, now: Duration) {
        let held: Vec<TargetId> = self
            .targets
            .iter()
            .filter(|(_, t)| t.health.is_held() && t.health.suppressed_until(now).is_none())
            .map(|(id, _)| *id)
            .collect();
        for id in held {
            let Some(target) = self.targets.get_mut(&id) else { continue };
            let Some(change) = target.health.release(now) else { continue };
            target.since = SystemTime::now();
            for member in target.members.clone() {
                self.changed(id, member, change, now);
            }
        }
    }

    fn grow(&mut self, pool: &Pool, now: Duration) {
        if self.growing.is_empty() && self.agents.is_empty() && !pool.live.is_growing() {
            return;
        }
        let mut partial = 0;
        for endpoint in &pool.endpoints {
            let slot = endpoint.live.slot();
            let own = match self.growing.get(&slot) {
                Some(since) => {
                    let share = slow_share(now.saturating_sub(*since), pool.slow_start);
                    if share >= FULL_SHARE {
                        self.growing.remove(&slot);
                    }
                    share
                }
                None => FULL_SHARE,
            };
            let agent = self.agents.get(&slot).and_then(|wish| wish.share).unwrap_or(FULL_SHARE);
            let share = u32::try_from(u64::from(own) * u64::from(agent) / u64::from(FULL_SHARE));
            let share = share.unwrap_or(FULL_SHARE);
            endpoint.live.set_share(share);
            partial += u32::from(share < FULL_SHARE);
        }
        pool.live.set_growing(partial);
    }

    fn shed(&mut self, index: usize, pool: &Pool, now: Duration) {
        let Some(rate) = self.rules.get(index).and_then(|rules| rules.shed) else { return };
        let Some(shedding) = self.shedding.get_mut(&index) else { return };
        let usable: Vec<_> = pool
            .endpoints
            .iter()
            .filter(|e| e.live.condition.allows(Level::Proven))
            .map(|e| (Arc::clone(&e.live), u64::from(e.weight)))
            .collect();
        match shedding.run(rate, &usable, now) {
            Ok(order) => self.effects.extend(order.map(Effect::Cut)),
            Err(()) => {
                self.shedding.remove(&index);
            }
        }
    }

    /// Carries out what the operator wants of an endpoint's state; its weight is the supervisor's.
    ///
    /// # Errors
    /// [`ChangeError`], when there is no such endpoint or a guard speaks against it.
    pub fn set_admin_state(&mut self, change: &EndpointChange, now: Duration) -> Result<(), ChangeError> {
        let Some(state) = change.state else { return Ok(()) };
        let snapshot = Arc::clone(&self.snapshot);
        let (index, pool) = (snapshot.pools.iter().enumerate())
            .find(|(_, p)| p.name == change.pool)
            .ok_or_else(|| ChangeError::NoPool(change.pool.clone()))?;
        let endpoint = (pool.endpoints.iter().find(|e| e.name == change.endpoint))
            .ok_or_else(|| ChangeError::NoEndpoint(change.pool.clone(), change.endpoint.clone()))?;
        if state != AdminState::Ready && !change.force {
            guard_removal(pool, endpoint)?;
        }
        let key = (change.pool.clone(), change.endpoint.clone());
        let before = self.admin.insert(key.clone(), state).unwrap_or_default();
        if state == AdminState::Ready {
            self.admin.remove(&key);
        }
        if before == state {
            return Ok(());
        }
        self.set_admin_bits(pool, endpoint);
        let slot = endpoint.live.slot();
        match state {
            AdminState::Ready => {
                self.closings.cancel_drain(slot);
                self.came_back(index, endpoint, now);
            }
            AdminState::Drain => {
                let written = Closing { after: pool.drain_timeout, rate: None };
                self.closings.begin(&endpoint.live, written, Cut::Drained, now);
            }
            AdminState::Maintenance => {
                self.closings.cancel_drain(slot);
                let written = Closing { after: Duration::ZERO, rate: None };
                self.closings.begin(&endpoint.live, written, Cut::Drained, now);
                self.effects.push(Effect::Purge(slot));
            }
        }
        let told = Change::new(Kind::Endpoint, state.word(), "the operator says so")
            .endpoint(&pool.name, &endpoint.name)
            .from(before.word());
        self.effects.push(Effect::Tell(told));
        self.replan(now);
        pool.serve_queue();
        self.cut(now);
        Ok(())
    }

    /// Carries out `plimsoll failover`.
    ///
    /// # Errors
    /// [`ChangeError`], when there is no such pool or it does not fail over to the target.
    pub fn fail_over(&mut self, pool: &PoolName, to: &FailoverTarget, now: Duration) -> Result<(), ChangeError> {
        let snapshot = Arc::clone(&self.snapshot);
        let at = snapshot.pools.iter().position(|p| p.name == *pool);
        let index = at.ok_or_else(|| ChangeError::NoPool(pool.clone()))?;
        let (Some(of), Some(standing)) = (snapshot.pools.get(index), self.standings.get_mut(index)) else {
            return Err(ChangeError::NoPool(pool.clone()));
        };
        let place = match to {
            FailoverTarget::Home => 0,
            FailoverTarget::Pool(name) => standing
                .place_of(name)
                .ok_or_else(|| ChangeError::NoTarget(pool.clone(), name.clone()))?,
        };
        standing.fail_over(place, &of.failover, now);
        let told = Change::new(Kind::Pool, format!("sent to {to}"), "the operator says so").pool(pool);
        self.effects.push(Effect::Tell(told));
        self.replan(now);
        Ok(())
    }

    /// Whether nothing is believed just now, because we are not well ourselves.
    #[must_use]
    pub fn is_suspended(&self, now: Duration) -> bool {
        self.guard.is_suspended(now)
    }
}

fn rules(config: &Config, name: &PoolName) -> Rules {
    let health = config.pools.iter().find(|p| p.name == *name).and_then(|p: &pool::Pool| p.health.as_ref());
    health.map_or_else(Rules::default, |health| Rules {
        on_demotion: health.on_demotion,
        on_unreachable: health.on_unreachable,
        shed: health.shed,
    })
}

/// Sets what the probes say. In an exclusive pool only who leads matters: a leader may be kept although it is silent.
fn set_probe_state(pool: &Pool, endpoint: &Endpoint, state: Option<State>) {
    let state = state.filter(|_| !pool.exclusive);
    let condition = &endpoint.live.condition;
    condition.set(Impediment::Unproven, state == Some(State::Unknown));
    condition.set(Impediment::Down, matches!(state, Some(State::Down(_))));
}

const fn probe_state(state: State) -> ProbeState {
    match state {
        State::Unknown => ProbeState::Unknown,
        State::Up => ProbeState::Up,
        State::Down(Because::SaysNo) => ProbeState::SaysNo,
        State::Down(Because::CannotBeAsked) => ProbeState::CannotBeAsked,
    }
}

/// The share of an endpoint so long after its slow start began: from 10 % on evenly up to all of it.
fn slow_share(passed: Duration, whole: Duration) -> u32 {
    if passed >= whole {
        return FULL_SHARE;
    }
    let share = u128::from(FULL_SHARE) * passed.as_nanos() / whole.as_nanos().max(1);
    u32::try_from(share).unwrap_or(FULL_SHARE).max(SLOW_START_FROM)
}

fn usable_elsewhere(snapshot: &Snapshot, pool: &Pool) -> u32 {
    let others = pool.chain.iter().skip(1).filter_map(|&at| snapshot.pools.get(at));
    let usable = others.filter_map(|p| {
        let level = p.level()?;
        Some(p.endpoints.iter().filter(|e| e.live.condition.allows(level)).count())
    });
    u32::try_from(usable.sum::<usize>()).unwrap_or(u32::MAX)
}

/// Whether an endpoint may be taken out by choice: not below `min_available`, unless it is not usable anyway.
fn guard_removal(pool: &Pool, endpoint: &Endpoint) -> Result<(), ChangeError> {
    let Some(level) = pool.level() else { return Ok(()) };
    if pool.exclusive || !endpoint.live.condition.allows(level) {
        return Ok(());
    }
    let usable = pool.endpoints.iter().filter(|e| e.live.condition.allows(level)).count();
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let wanted = pool.failover.min_available;
    if may_remove(count(usable), count(pool.endpoints.len()), wanted) {
        return Ok(());
    }
    let left = usable.saturating_sub(1);
    let message = format!("pool \"{}\" would have {left} usable endpoints left, and min_available is {wanted}", pool.name);
    Err(ChangeError::Guarded(message))
}
