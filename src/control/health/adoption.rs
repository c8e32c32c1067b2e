//! A new snapshot at the keeper: what is known of whoever stays goes on, what is new is probed, what is gone gets its
//! time to end.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::keeper::{EVIDENCE_MAX, Effect, Keeper, Places, Rules, Target, TargetId};
use super::lead::Lead;
use super::memory::Memory;
use super::probe::Probe;
use super::standing::Standing;
use super::targets::Watch;
use crate::config::health::Closing;
use crate::config::{Config, pool};
use crate::model::name::PoolName;
use crate::policy::health::{Health, State};
use crate::proxy::sessions::Cut;
use crate::runtime::condition::Impediment;
use crate::runtime::pool::Pool;
use crate::runtime::snapshot::Snapshot;

impl Keeper {
    /// Takes over a snapshot that is published now, and what of it is to be probed. What is known of whoever stays is
    /// kept; sessions to whoever is gone get the time of their pool to end.
    pub fn adopt(&mut self, snapshot: &Arc<Snapshot>, config: &Config, watches: Vec<Watch>, now: Duration) {
        let before = std::mem::replace(&mut self.snapshot, Arc::clone(snapshot));
        self.retire(&before, now);
        self.places = places(snapshot);
        self.levels.refresh(snapshot);
        let written: HashMap<&PoolName, &pool::Pool> = config.pools.iter().map(|p| (&p.name, p)).collect();
        self.rules = snapshot.pools.iter().map(|p| rules(written.get(&p.name).copied())).collect();
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
        self.leads = snapshot
            .pools
            .iter()
            .map(|pool| {
                let written = written.get(&pool.name)?;
                let settings = written.exclusive.clone()?;
                let fall = written.health.as_ref().map_or(1, |health| health.settings.fall);
                Some(Lead::carried(pool, settings, fall, leads.remove(&pool.name)))
            })
            .collect();
        let slots: HashSet<u32> =
            snapshot.pools.iter().flat_map(|p| &p.endpoints).map(|e| e.live.slot()).collect();
        self.board.keep(&slots, &snapshot.pools.iter().map(|p| &p.name).collect());
        self.growing.retain(|slot, _| slots.contains(slot));
        // Whoever makes room for a newcomer goes on with that.
        let place = |index: usize| {
            let (place, _) = self.places.get(&before.pools.get(index)?.name)?;
            Some(*place)
        };
        let shedding = std::mem::take(&mut self.shedding).into_iter();
        let shedding = shedding.filter_map(|(index, shedding)| Some((place(index)?, shedding)));
        let wanted = |index: usize| self.rules.get(index).is_some_and(|rules| rules.shed.is_some());
        self.shedding = shedding.filter(|(index, _)| wanted(*index)).collect();
        self.resume();
        self.retarget(&before, watches);
        self.recalled = Memory::default();
        self.forget_agents();
        self.settle_conditions(now);
        self.replan(now);
    }

    /// What leads to endpoints that the new snapshot does not have gets its time; in an exclusive pool only until
    /// another one leads, and nothing more comes to it on the way through the old snapshot.
    fn retire(&mut self, before: &Snapshot, now: Duration) {
        self.former.retain(|(_, live)| live.in_flight() > 0);
        for pool in &before.pools {
            for endpoint in pool.endpoints.iter().filter(|e| e.live.is_retired()) {
                if pool.exclusive {
                    endpoint.live.condition.set(Impediment::Standby, true);
                }
                // Although nothing may lead there: who has begun with the old snapshot may yet choose it.
                let written = Closing { after: pool.drain_timeout, rate: None };
                self.closings.begin(&endpoint.live, written, Cut::Drained, now);
                if pool.exclusive && endpoint.live.in_flight() > 0 {
                    self.former.push((pool.name.clone(), Arc::clone(&endpoint.live)));
                }
            }
        }
    }

    /// Brings the targets into line: who asks the same goes on, whatever else of its pool changed.
    fn retarget(&mut self, before: &Snapshot, watches: Vec<Watch>) {
        let proven: HashSet<u32> = std::mem::take(&mut self.proven).into_iter().collect();
        let mut known: HashMap<u32, TargetId> = HashMap::new();
        for (id, target) in &mut self.targets {
            for (pool, endpoint) in target.members.drain(..) {
                if let Some(endpoint) = before.pools.get(pool).and_then(|p| p.endpoints.get(endpoint)) {
                    known.insert(endpoint.live.slot(), *id);
                }
            }
            target.ports.clear();
        }
        #[expect(
            clippy::mutable_key_type,
            reason = "the counter in a TLS configuration takes no part in Eq and Hash"
        )]
        let mut index: HashMap<Arc<Probe>, Vec<TargetId>> = HashMap::new();
        for (id, target) in &self.targets {
            index.entry(Arc::clone(&target.probe)).or_default().push(*id);
        }
        self.interval = Duration::from_secs(1);
        for watch in watches {
            self.interval = self.interval.max(watch.settings.interval + watch.settings.timeout);
            let same = index.get(&watch.probe).into_iter().flatten();
            let found =
                same.copied().find(|id| self.targets.get(id).is_some_and(|t| t.settings == watch.settings));
            let id = found.unwrap_or_else(|| {
                let id = self.start_target(&watch, &known, &proven);
                index.entry(Arc::clone(&watch.probe)).or_default().push(id);
                id
            });
            // Where datagrams go, no port accepts connections.
            let accepts = self.snapshot.pools.get(watch.pool).is_some_and(|pool| !pool.datagrams);
            let asks_port = accepts
                && (self.leads.get(watch.pool).is_some_and(Option::is_some)
                    || self.rules.get(watch.pool).is_some_and(|rules| rules.on_unreachable.is_some()));
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

    /// Starts a target. Of an endpoint that was probed before, the state goes on; where the same is asked under other
    /// settings, also what its results have added up to.
    fn start_target(
        &mut self,
        watch: &Watch,
        known: &HashMap<u32, TargetId>,
        proven: &HashSet<u32>,
    ) -> TargetId {
        let id = self.next_target;
        self.next_target += 1;
        let slot = self.endpoint(watch.pool, watch.endpoint).map(|e| e.live.slot());
        let before = slot.and_then(|slot| known.get(&slot)).and_then(|id| self.targets.get(id));
        let warm = slot.is_some_and(|slot| proven.contains(&slot));
        let unasked = if warm { State::Up } else { State::Unknown };
        let pool = self.snapshot.pools.get(watch.pool);
        let recalled =
            pool.and_then(|pool| self.recalled_state(pool, &pool.endpoints.get(watch.endpoint)?.name));
        let state = before
            .map_or_else(|| recalled.map_or(unasked, |(state, ..)| state), |before| before.health.state());
        let since = recalled.map_or_else(SystemTime::now, |(_, since, _)| since);
        let penalty = recalled.map(|(.., penalty)| penalty).unwrap_or_default();
        let mut target = Target {
            probe: Arc::clone(&watch.probe),
            settings: watch.settings.clone(),
            health: Health::resumed(watch.settings.clone(), state).with_penalty(penalty),
            members: Vec::new(),
            ports: Vec::new(),
            history: VecDeque::with_capacity(EVIDENCE_MAX),
            since: before.map_or(since, |before| before.since),
            failing: false,
        };
        let asks_the_same = |before: &&Target| {
            before.probe.check == watch.probe.check && before.probe.address == watch.probe.address
        };
        if let Some(before) = before.filter(asks_the_same) {
            target.health = before.health.clone();
            target.health.reconfigure(watch.settings.clone());
            target.history.clone_from(&before.history);
            target.failing = before.failing;
        }
        self.targets.insert(id, target);
        self.effects.push(Effect::Watch(id));
        id
    }
}

fn places(snapshot: &Snapshot) -> Places {
    let endpoints =
        |pool: &Pool| pool.endpoints.iter().enumerate().map(|(at, e)| (e.name.clone(), at)).collect();
    snapshot.pools.iter().enumerate().map(|(at, p)| (p.name.clone(), (at, endpoints(p)))).collect()
}

fn rules(written: Option<&pool::Pool>) -> Rules {
    let health = written.and_then(|pool| pool.health.as_ref());
    health.map_or_else(Rules::default, |health| Rules {
        on_demotion: health.on_demotion,
        on_unreachable: health.on_unreachable,
        shed: health.shed,
    })
}
