//! What the keeper knows of endpoints and pools, for those who ask: status page, metrics, health API.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use crate::control::change::AdminState;
use crate::control::status::ProbeStatus;
use crate::model::name::PoolName;

/// One endpoint.
#[derive(Debug, Clone, Default)]
pub struct EndpointBoard {
    /// What its probes say.
    pub probe: ProbeStatus,
    /// What the operator wants of it.
    pub admin_state: AdminState,
    /// Flap damping holds it down until then.
    pub suppressed_until: Option<SystemTime>,
    /// It leads an exclusive pool.
    pub leader: bool,
}

/// One pool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolBoard {
    /// The tier that takes new work.
    pub serving_tier: Option<u8>,
    /// The failover pool that takes it.
    pub failover: Option<PoolName>,
    /// Nothing in the whole chain is usable, and endpoints are tried all the same.
    pub fails_open: bool,
}

/// The board: written by the keeper, read by all.
#[derive(Debug, Default)]
pub struct Board(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    endpoints: HashMap<u32, EndpointBoard>,
    pools: HashMap<PoolName, PoolBoard>,
}

impl Board {
    /// What is known of the endpoint at a slot.
    #[must_use]
    pub fn endpoint(&self, slot: u32) -> EndpointBoard {
        self.lock().endpoints.get(&slot).cloned().unwrap_or_default()
    }

    /// What is known of a pool.
    #[must_use]
    pub fn pool(&self, name: &PoolName) -> PoolBoard {
        self.lock().pools.get(name).cloned().unwrap_or_default()
    }

    pub(super) fn write(&self, slot: u32, change: impl FnOnce(&mut EndpointBoard)) {
        change(self.lock().endpoints.entry(slot).or_default());
    }

    pub(super) fn write_pool(&self, name: &PoolName, board: PoolBoard) {
        self.lock().pools.insert(name.clone(), board);
    }

    /// Forgets all but these.
    pub(super) fn keep(&self, slots: &HashSet<u32>, pools: &HashSet<&PoolName>) {
        let mut state = self.lock();
        state.endpoints.retain(|slot, _| slots.contains(slot));
        state.pools.retain(|name, _| pools.contains(name));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
