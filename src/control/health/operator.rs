//! What the operator changes at run time: admin states and where a pool's traffic goes.

use std::sync::Arc;
use std::time::Duration;

use super::keeper::{Effect, Keeper};
use crate::config::health::Closing;
use crate::control::change::{AdminState, ChangeError, EndpointChange, FailoverTarget};
use crate::control::journal::{Change, Kind};
use crate::model::name::PoolName;
use crate::policy::failover::may_remove;
use crate::proxy::sessions::Cut;
use crate::runtime::endpoint::Endpoint;
use crate::runtime::pool::Pool;

impl Keeper {
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
    pub fn fail_over(
        &mut self,
        pool: &PoolName,
        to: &FailoverTarget,
        now: Duration,
    ) -> Result<(), ChangeError> {
        let snapshot = Arc::clone(&self.snapshot);
        let at = snapshot.pools.iter().position(|p| p.name == *pool);
        let index = at.ok_or_else(|| ChangeError::NoPool(pool.clone()))?;
        let (Some(of), Some(standing)) = (snapshot.pools.get(index), self.standings.get_mut(index)) else {
            return Err(ChangeError::NoPool(pool.clone()));
        };
        let place = match to {
            FailoverTarget::Home => 0,
            FailoverTarget::Pool(name) => {
                standing.place_of(name).ok_or_else(|| ChangeError::NoTarget(pool.clone(), name.clone()))?
            }
        };
        standing.fail_over(place, &of.failover, now);
        let told = Change::new(Kind::Pool, format!("sent to {to}"), "the operator says so").pool(pool);
        self.effects.push(Effect::Tell(told));
        self.replan(now);
        Ok(())
    }
}

/// Whether an endpoint may be taken out by choice: not below `min_available`, unless it is not usable anyway.
pub(in crate::control) fn guard_removal(pool: &Pool, endpoint: &Endpoint) -> Result<(), ChangeError> {
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
    let message = format!(
        "pool \"{}\" would have {left} usable endpoints left, and min_available is {wanted}",
        pool.name
    );
    Err(ChangeError::Guarded(message))
}
