//! What the keeper knows, as one process hands it to the next by an upgrade: by names, since slots and places are another
//! process's own. Times are on the time line of the policies, which the next process goes on with.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::keeper::{Keeper, Target};
use super::lead::Lead;
use super::standing::Standing;
use crate::model::name::{EndpointName, PoolName};
use crate::policy::exclusive;
use crate::policy::failover::Phase;
use crate::policy::health::State;
use crate::policy::health::damping::Penalty;
use crate::runtime::pool::Pool;

/// What is known.
#[derive(Debug, Clone, PartialEq, Default)]
pub(in crate::control) struct Memory {
    pub(in crate::control) endpoints: HashMap<(PoolName, EndpointName), EndpointMemory>,
    pub(in crate::control) pools: HashMap<PoolName, PoolMemory>,
}

/// What is known of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(in crate::control) struct EndpointMemory {
    /// What its probes say, and since when.
    pub(in crate::control) probe: Option<(State, SystemTime)>,
    /// What its falls have added up to.
    pub(in crate::control) penalty: Penalty,
    /// Since when it starts slowly.
    pub(in crate::control) grows_since: Option<Duration>,
}

/// What is known of a pool.
#[derive(Debug, Clone, PartialEq, Default)]
pub(in crate::control) struct PoolMemory {
    /// Its tiers: where each stands, and how often it was lost lately.
    pub(in crate::control) tiers: Vec<(u8, Phase, u32)>,
    /// The same of its chain.
    pub(in crate::control) chain: Vec<(PoolName, Phase, u32)>,
    /// What the members of an exclusive pool have said, and whether each leads.
    pub(in crate::control) members: Vec<(EndpointName, exclusive::Member, bool)>,
}

impl Keeper {
    /// What is known now.
    pub(in crate::control) fn memory(&self) -> Memory {
        let mut memory = Memory::default();
        for Target { members, health, since, .. } in self.targets.values() {
            for &(pool, endpoint) in members {
                let Some(of) = self.snapshot.pools.get(pool) else { continue };
                let Some(endpoint) = of.endpoints.get(endpoint) else { continue };
                let own = memory.endpoints.entry((of.name.clone(), endpoint.name.clone())).or_default();
                own.probe = Some((health.state(), *since));
                own.penalty = health.penalty();
            }
        }
        for (index, pool) in self.snapshot.pools.iter().enumerate() {
            for endpoint in &pool.endpoints {
                if let Some(since) = self.growing.get(&endpoint.live.slot()) {
                    let own = memory.endpoints.entry((pool.name.clone(), endpoint.name.clone())).or_default();
                    own.grows_since = Some(*since);
                }
            }
            let mut own = self.standings.get(index).map(Standing::memory).unwrap_or_default();
            own.members = match self.leads.get(index) {
                Some(Some(lead)) => lead.memory(pool),
                _ => Vec::new(),
            };
            memory.pools.insert(pool.name.clone(), own);
        }
        memory
    }

    /// Goes on with what another process knew, from the first snapshot that is adopted.
    pub(in crate::control) fn recall(&mut self, memory: Memory) {
        self.recalled = memory;
    }

    /// Brings standings and leads of the snapshot that has just been adopted into line with what is recalled.
    pub(super) fn resume(&mut self) {
        let (memory, snapshot) = (std::mem::take(&mut self.recalled), Arc::clone(&self.snapshot));
        for (index, pool) in snapshot.pools.iter().enumerate() {
            let Some(own) = memory.pools.get(&pool.name) else { continue };
            if let Some(standing) = self.standings.get_mut(index) {
                standing.recall(own);
            }
            if let Some(Some(lead)) = self.leads.get_mut(index)
                && !own.members.is_empty()
            {
                lead.recall(pool, &own.members);
            }
            for endpoint in &pool.endpoints {
                let known = memory.endpoints.get(&(pool.name.clone(), endpoint.name.clone()));
                if let Some(since) = known.and_then(|known| known.grows_since)
                    && !pool.slow_start.is_zero()
                {
                    self.growing.insert(endpoint.live.slot(), since);
                    pool.live.set_growing(1);
                }
            }
        }
        self.recalled.endpoints = memory.endpoints;
    }

    /// What the probes of an endpoint said in the process before, and what its falls had added up to.
    pub(super) fn recalled_state(
        &self,
        pool: &Pool,
        endpoint: &EndpointName,
    ) -> Option<(State, SystemTime, Penalty)> {
        let known = self.recalled.endpoints.get(&(pool.name.clone(), endpoint.clone()))?;
        known.probe.map(|(state, since)| (state, since, known.penalty))
    }
}

impl Lead {
    fn memory(&self, pool: &Pool) -> Vec<(EndpointName, exclusive::Member, bool)> {
        let members = pool.endpoints.iter().zip(self.policy.members()).enumerate();
        members
            .map(|(at, (endpoint, member))| {
                (endpoint.name.clone(), *member, self.policy.leader() == Some(at))
            })
            .collect()
    }

    fn recall(&mut self, pool: &Pool, before: &[(EndpointName, exclusive::Member, bool)]) {
        let known = |name: &EndpointName| before.iter().find(|(old, ..)| old == name);
        let members = pool.endpoints.iter().map(|e| known(&e.name).map(|(_, member, _)| *member));
        let leader = pool.endpoints.iter().position(|e| known(&e.name).is_some_and(|(.., leads)| *leads));
        self.policy.resume(members.map(Option::unwrap_or_default).collect(), leader);
    }
}
