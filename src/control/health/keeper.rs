//! The one writer of what probes, time and the operator say of endpoints: takes results and ticks, sets conditions,
//! gates and leaders, and says what else is to be done. Synchronous and without a clock: who drives it brings the time.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::board::Board;
use super::closing::{Closings, CutOrder, Shed, Shedding};
use super::lead::Lead;
use super::levels::Levels;
use super::memory::Memory;
use super::probe::Probe;
use super::probe::agent::Admin;
use super::report;
use super::results::probe_state;
use super::standing::Standing;
use crate::config::health::Closing;
use crate::control::change::AdminState;
use crate::control::journal::{Change, Evidence, Kind};
use crate::model::address::Address;
use crate::model::name::{EndpointName, PoolName};
use crate::model::units::Rate;
use crate::policy::balance::FULL_SHARE;
use crate::policy::breaker;
use crate::policy::exclusive::{self, Why};
use crate::policy::health::guard::Guard;
use crate::policy::health::{self, Health, State};
use crate::proxy::sessions::Cut;
use crate::runtime::condition::{Impediment, Level};
use crate::runtime::endpoint::{Endpoint, EndpointLive};
use crate::runtime::judge;
use crate::runtime::pick::Order;
use crate::runtime::pool::Pool;
use crate::runtime::snapshot::Snapshot;

/// Results that an event carries as its evidence.
pub(super) const EVIDENCE_MAX: usize = 5;

/// The share with which a slow start begins, of [`FULL_SHARE`]: Envoy's 10 %.
const SLOW_START_FROM: u32 = FULL_SHARE / 10;

/// A probe that runs, by number.
pub type TargetId = u64;

/// What is to be done beside what is done already.
#[derive(Debug)]
pub enum Effect {
    /// Tell the journal.
    Tell(Change),
    /// Say that an endpoint does not answer: the name that led to it may lead elsewhere by now.
    Suspect(PoolName, EndpointName),
    /// Cut long-lived connections.
    Cut(CutOrder),
    /// Close idle connections to the endpoint at this slot.
    Purge(u32),
    /// Start to probe.
    Watch(TargetId),
    /// Stop to probe.
    Unwatch(TargetId),
}

/// One probe, on behalf of all endpoints that it stands for.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) probe: Arc<Probe>,
    pub(super) settings: health::Settings,
    pub(super) health: Health,
    /// (pool, endpoint) in the snapshot.
    pub(super) members: Vec<(usize, usize)>,
    /// Traffic ports whose state matters while the probe cannot be asked.
    pub(super) ports: Vec<Address>,
    pub(super) history: VecDeque<Evidence>,
    pub(super) since: SystemTime,
    pub(super) failing: bool,
}

/// What a pool's configuration says of changes of health.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub(super) on_demotion: Option<Closing>,
    pub(super) on_unreachable: Option<Closing>,
    pub(super) shed: Option<Rate>,
}

/// What is asked next for a target.
#[derive(Debug, Clone)]
pub struct Question {
    /// The probe.
    pub probe: Arc<Probe>,
    /// Ports that are asked beside it, or right after it when it fails.
    pub ports: Vec<Address>,
    /// Whether the ports are asked beside it, since the last result was bad.
    pub suspicious: bool,
}

/// Indexes of pools by name, and of their endpoints.
pub(super) type Places = HashMap<PoolName, (usize, HashMap<EndpointName, usize>)>;

/// The keeper.
pub struct Keeper {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) board: Arc<Board>,
    pub(super) targets: BTreeMap<TargetId, Target>,
    pub(super) next_target: TargetId,
    pub(super) rules: Vec<Rules>,
    pub(super) standings: Vec<Standing>,
    /// What tiers and pools can do, as it was when they were last looked at.
    pub(super) levels: Levels,
    /// Where pools and endpoints stand in the snapshot.
    pub(super) places: Places,
    pub(super) leads: Vec<Option<Lead>>,
    /// Endpoints of exclusive pools that a reload has left out while connections led to them.
    pub(super) former: Vec<(PoolName, Arc<EndpointLive>)>,
    pub(super) admin: HashMap<(PoolName, EndpointName), AdminState>,
    /// What agents asked for.
    pub(super) agents: HashMap<u32, AgentWish>,
    pub(super) closings: Closings,
    pub(super) shedding: HashMap<usize, Shedding>,
    /// Endpoints that start slowly, by slot, and since when.
    pub(super) growing: HashMap<u32, Duration>,
    pub(super) guard: Guard,
    pub(super) failures: VecDeque<Duration>,
    pub(super) lags: VecDeque<(Duration, Duration)>,
    /// Failures and lags are looked at over this long: the longest interval in use.
    pub(super) interval: Duration,
    pub(super) effects: Vec<Effect>,
    /// Slots of endpoints that were found to be well before they were published.
    pub(super) proven: Vec<u32>,
    /// What another process knew, until the first snapshot is adopted.
    pub(super) recalled: Memory,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct AgentWish {
    pub(super) admin: Option<Admin>,
    pub(super) share: Option<u32>,
    /// Work in flight at most; 0 is no ceiling.
    pub(super) ceiling: Option<u32>,
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
            levels: Levels::default(),
            places: Places::default(),
            leads: Vec::new(),
            former: Vec::new(),
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
            proven: Vec::new(),
            recalled: Memory::default(),
        }
    }

    /// Counts the warm-up of the endpoints at these slots, which the next snapshot brings, as their first result.
    pub fn proven(&mut self, slots: Vec<u32>) {
        self.proven = slots;
    }

    /// What is to be done; asked after every call.
    pub fn effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    pub(super) fn endpoint(&self, pool: usize, endpoint: usize) -> Option<&Endpoint> {
        self.snapshot.pools.get(pool)?.endpoints.get(endpoint)
    }

    /// Sets every condition that this keeper writes, as after a reload.
    pub(super) fn settle_conditions(&mut self, now: Duration) {
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
                self.board.write(endpoint.live.slot(), |b| match state {
                    Some(state) => b.probe.state = probe_state(state),
                    None => b.probe = Default::default(),
                });
                self.set_admin_bits(pool, endpoint);
            }
            self.lead(index, now);
        }
    }

    pub(super) fn set_admin_bits(&self, pool: &Pool, endpoint: &Endpoint) {
        let operator =
            self.admin.get(&(pool.name.clone(), endpoint.name.clone())).copied().unwrap_or_default();
        let agent = self.agents.get(&endpoint.live.slot()).and_then(|wish| wish.admin);
        let drained = operator == AdminState::Drain || agent == Some(Admin::Drain);
        let out = operator == AdminState::Maintenance || agent == Some(Admin::Maintenance);
        endpoint.live.condition.set(Impediment::Drained, drained);
        endpoint.live.condition.set(Impediment::Maintenance, out);
        endpoint.live.note_leaving(pool.live.clock.now());
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

    /// Another one leads an exclusive pool, or nobody any more.
    pub(super) fn led(
        &mut self,
        index: usize,
        change: &exclusive::Change,
        history: Vec<Evidence>,
        now: Duration,
    ) {
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
            // Who was left out by a reload had time until somebody else leads.
            for (_, live) in self.former.extract_if(.., |(of, _)| *of == pool.name) {
                self.closings.begin(&live, at_once, Cut::Demoted, now);
            }
        }
        self.cut(now);
        pool.serve_queue();
    }

    /// Lets exactly the leader of an exclusive pool be picked.
    pub(super) fn lead(&mut self, index: usize, now: Duration) {
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
        self.levels.refresh_pool(&snapshot, index);
        self.replan_pool(index, now);
    }

    /// An endpoint may be used again after it might not: it starts slowly, and long-lived connections may move to it.
    pub(super) fn came_back(&mut self, pool: usize, endpoint: &Endpoint, now: Duration) {
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
        evidence: &str,
        now: Duration,
    ) {
        let mut told = report::judged(pool, endpoint, change, now);
        if !evidence.is_empty() {
            told.because = format!("{}: {evidence}", told.because);
        }
        self.effects.push(Effect::Tell(told));
        let Some((index, endpoints)) = self.places.get(pool) else { return };
        let (index, place) = (*index, endpoint.and_then(|name| endpoints.get(name)).copied());
        self.judged(index, place, change, now);
    }

    fn judged(&mut self, index: usize, place: Option<usize>, change: &judge::Change, now: Duration) {
        let snapshot = Arc::clone(&self.snapshot);
        let Some(pool) = snapshot.pools.get(index) else { return };
        let endpoint = place.and_then(|at| pool.endpoints.get(at));
        let back =
            matches!(change, judge::Change::Returned | judge::Change::Breaker(breaker::Change::Closed));
        if let (true, Some(endpoint)) = (back, endpoint) {
            self.came_back(index, endpoint, now);
        }
        if let (judge::Change::Ejected(_), Some(endpoint)) = (change, endpoint) {
            self.effects.push(Effect::Purge(endpoint.live.slot()));
        }
        if let Some(at) = place {
            self.levels.refresh_endpoint(&snapshot, index, at);
        }
        self.replan_pool(index, now);
        pool.serve_queue();
    }

    /// Moves the gates of every pool where the facts have changed.
    pub(super) fn replan(&mut self, now: Duration) {
        self.levels.refresh(&self.snapshot);
        for index in 0..self.standings.len() {
            self.replan_pool(index, now);
        }
    }

    /// Moves the gates of one pool, from what is known of it and its chain.
    pub(super) fn replan_pool(&mut self, index: usize, now: Duration) {
        // Chains that lead here are seen to at the next tick; picks find out for themselves that nothing is usable.
        let snapshot = Arc::clone(&self.snapshot);
        let Some(standing) = self.standings.get_mut(index) else { return };
        let news = standing.plan(&snapshot, index, &self.levels, now);
        self.board.write_pool(standing.name(), standing.board().clone());
        self.effects.extend(news.into_iter().map(Effect::Tell));
    }

    /// What time brings. To be called about every 100 ms.
    pub fn tick(&mut self, now: Duration) {
        let snapshot = Arc::clone(&self.snapshot);
        // Workers set conditions too.
        self.levels.refresh(&snapshot);
        for (index, pool) in snapshot.pools.iter().enumerate() {
            pool.tick_budget();
            pool.live.tick_answer_times();
            pool.tick_ceilings();
            let elsewhere = Order::new(&snapshot.pools, &pool.chain).usable_after(pool);
            let mut changes = Vec::new();
            judge::tick(pool, elsewhere, |place, change| changes.push((place, change)));
            for (place, change) in changes {
                let name = place.and_then(|at| pool.endpoints.get(at)).map(|e| &e.name);
                self.effects.push(Effect::Tell(report::judged(&pool.name, name, &change, now)));
                self.judged(index, place, &change, now);
            }
            self.grow(pool, now);
            self.shed(index, pool, now);
            self.replan_pool(index, now);
            let change = self.leads.get_mut(index).and_then(Option::as_mut).and_then(|lead| lead.tick(now));
            if let Some(change) = change {
                self.led(index, &change, Vec::new(), now);
            }
            pool.serve_queue();
        }
        self.release(now);
        self.cut(now);
    }

    pub(super) fn cut(&mut self, now: Duration) {
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
                self.show(id, member, now);
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
            Shed::Cut(order) => self.effects.push(Effect::Cut(order)),
            Shed::Wait => {}
            Shed::Over => {
                self.shedding.remove(&index);
            }
        }
    }

    /// Whether nothing is believed just now, because we are not well ourselves.
    #[must_use]
    pub fn is_suspended(&self, now: Duration) -> bool {
        self.guard.is_suspended(now)
    }
}

/// Sets what the probes say. In an exclusive pool only who leads matters: a leader may be kept although it is silent.
pub(super) fn set_probe_state(pool: &Pool, endpoint: &Endpoint, state: Option<State>) {
    let state = state.filter(|_| !pool.exclusive);
    let condition = &endpoint.live.condition;
    condition.set(Impediment::Unproven, state == Some(State::Unknown));
    condition.set(Impediment::Down, matches!(state, Some(State::Down(_))));
}

/// The share of an endpoint so long after its slow start began: from 10 % on evenly up to all of it.
fn slow_share(passed: Duration, whole: Duration) -> u32 {
    if passed >= whole {
        return FULL_SHARE;
    }
    let share = u128::from(FULL_SHARE) * passed.as_nanos() / whole.as_nanos().max(1);
    u32::try_from(share).unwrap_or(FULL_SHARE).max(SLOW_START_FROM)
}
