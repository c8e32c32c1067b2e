//! What the operator has changed at run time, as one value: it outlives reloads, is shown, and with a `state_dir` outlives the
//! process.

use std::collections::{BTreeMap, BTreeSet};

use super::change::{AdminState, EndpointChange, FailoverTarget};
use crate::config::pool::Endpoint;
use crate::model::name::{EndpointName, PoolName};
use crate::runtime::compile::Weights;

/// Overrides that are kept; what comes after them holds until the process ends.
pub const OVERRIDES_MAX: usize = 10_000;

/// What is another of one endpoint than its configuration says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EndpointOverride {
    /// The state that the operator wants, where it is not ready.
    pub state: Option<AdminState>,
    /// The weight that the operator gave it.
    pub weight: Option<u16>,
}

/// Endpoints that the operator has added to pools and removed from them, over everything that is written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Roster {
    /// Endpoints that were added.
    pub added: BTreeMap<(PoolName, EndpointName), Endpoint>,
    /// Endpoints that were removed, whoever brings them.
    pub removed: BTreeSet<(PoolName, EndpointName)>,
}

impl Roster {
    /// How many there are of both.
    #[must_use]
    pub fn len(&self) -> usize {
        self.added.len() + self.removed.len()
    }

    /// Whether pools are as they are written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether this pool is as it is written.
    #[must_use]
    pub fn leaves(&self, pool: &PoolName) -> bool {
        !self.added.keys().chain(&self.removed).any(|(of, _)| of == pool)
    }

    /// Forgets what was changed of other pools than these; whether that was anything.
    pub fn keep_pools(&mut self, stays: impl Fn(&PoolName) -> bool) -> bool {
        let before = self.len();
        self.added.retain(|(pool, _), _| stays(pool));
        self.removed.retain(|(pool, _)| stays(pool));
        self.len() != before
    }
}

/// Everything that the operator has changed at run time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overrides {
    /// By endpoint.
    pub endpoints: BTreeMap<(PoolName, EndpointName), EndpointOverride>,
    /// Where the traffic of pools is sent.
    pub failovers: BTreeMap<PoolName, PoolName>,
    /// Who is in pools.
    pub roster: Roster,
}

impl Overrides {
    /// Notes a change of an endpoint that was carried out; whether anything is another now.
    pub fn note(&mut self, change: &EndpointChange) -> bool {
        let key = (change.pool.clone(), change.endpoint.clone());
        let before = self.endpoints.get(&key).copied().unwrap_or_default();
        let mut after = before;
        if let Some(state) = change.state {
            after.state = (state != AdminState::Ready).then_some(state);
        }
        if let Some(weight) = change.weight {
            after.weight = Some(weight.get());
        }
        if after == before {
            return false;
        }
        if after == EndpointOverride::default() {
            self.endpoints.remove(&key);
        } else if before == EndpointOverride::default() && self.len() >= OVERRIDES_MAX {
            tracing::warn!(pool = %key.0, endpoint = %key.1, limit = OVERRIDES_MAX, "too many overrides: this one is not kept");
            return false;
        } else {
            self.endpoints.insert(key, after);
        }
        true
    }

    /// Notes where a pool's traffic was sent; whether anything is another now.
    pub fn note_failover(&mut self, pool: &PoolName, to: &FailoverTarget) -> bool {
        match to {
            FailoverTarget::Home => self.failovers.remove(pool).is_some(),
            FailoverTarget::Pool(to) => self.failovers.insert(pool.clone(), to.clone()).as_ref() != Some(to),
        }
    }

    /// Notes who was added to pools and removed from them; whether anything is another now.
    pub fn note_roster(&mut self, roster: &Roster) -> bool {
        let changed = self.roster != *roster;
        if changed {
            self.roster = roster.clone();
        }
        changed
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.endpoints.len() + self.failovers.len() + self.roster.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The weights among them, as a snapshot is compiled with.
    #[must_use]
    pub fn weights(&self) -> Weights {
        let weights = self.endpoints.iter().filter_map(|(key, set)| Some((key.clone(), set.weight?)));
        weights.collect()
    }

    /// The changes that bring the admin states about. They were let pass once, so no guard is asked again.
    pub fn states(&self) -> impl Iterator<Item = EndpointChange> {
        self.endpoints.iter().filter_map(|((pool, endpoint), set)| {
            let (pool, endpoint) = (pool.clone(), endpoint.clone());
            Some(EndpointChange { pool, endpoint, state: Some(set.state?), weight: None, force: true })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name::NameError;
    use crate::model::units::Weight;

    #[test]
    fn what_is_as_written_again_is_no_override() -> Result<(), NameError> {
        let (pool, endpoint) = (PoolName::new("api")?, EndpointName::new("a:80")?);
        let change = |state, weight| EndpointChange {
            pool: pool.clone(),
            endpoint: endpoint.clone(),
            state,
            weight,
            force: false,
        };
        let mut overrides = Overrides::default();
        assert!(overrides.note(&change(Some(AdminState::Drain), None)));
        assert!(!overrides.note(&change(Some(AdminState::Drain), None)), "the same again");
        assert_eq!(overrides.states().count(), 1);
        assert!(overrides.note(&change(None, Weight::new(7))));
        assert_eq!(overrides.weights().get(&(pool.clone(), endpoint.clone())), Some(&7));
        assert!(overrides.note(&change(Some(AdminState::Ready), None)));
        assert_eq!((overrides.states().count(), overrides.len()), (0, 1), "the weight stays");
        let to = PoolName::new("dr")?;
        assert!(overrides.note_failover(&pool, &FailoverTarget::Pool(to)));
        assert!(overrides.note_failover(&pool, &FailoverTarget::Home));
        assert!(!overrides.note_failover(&pool, &FailoverTarget::Home));
        Ok(())
    }
}
