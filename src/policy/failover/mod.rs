//! Which tier, zone and pool takes the traffic: strict order or Envoy's spill, hold-down and ramp on the way back. Which
//! endpoint of a tier it is, is `balance`'s; walking the levels in their order and drawing at each gate is `runtime`'s.
//!
//! The map: `ladder` (tiers of a pool, or pools of a chain, and who stands when), `spill` (Envoy's loads), `zone` (the
//! node's own zone first), and here the guard of what must stay available.

use std::time::Duration;

use crate::model::units::Amount;

mod ladder;
mod spill;
mod zone;

pub use ladder::{FailoverState, Phase, Plan};
pub use zone::local_share;

/// A gate that lets nothing on: all that arrives stops there. A gate is the share of this of what arrives.
pub const WHOLE: u32 = 65_536;

/// How a pool's tiers and its failover pools take turns.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Envoy's overprovisioning factor, such as 1.4; nothing is strict.
    pub spill: Option<f64>,
    /// How traffic comes back to a recovered tier or pool.
    pub failback: Failback,
    /// Under this usable share of a tier, probe state and ejections are ignored (Envoy's panic); 0 is never.
    pub panic_threshold: f64,
    /// No drain, maintenance or ejection by judgement goes below it.
    pub min_available: Amount,
}

/// How traffic comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failback {
    /// By itself, after a time without a relapse, doubled per flap, then growing over `ramp`.
    After {
        /// The hold-down.
        after: Duration,
        /// The time from none to all of the traffic.
        ramp: Duration,
    },
    /// Only when told to.
    Manual,
}

/// What a level (a tier, a zone of one, or a pool of a chain) can do, in weights or in numbers of endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Level {
    /// All of it.
    pub total: u64,
    /// What may be picked and is proven. Endpoints that are not probed at all count as proven.
    pub usable: u64,
    /// What may be picked only where nothing is proven, as its probes have not said anything yet.
    pub unproven: u64,
}

/// How many more may be drained, put into maintenance or ejected by judgement, of `usable` that are left of `total`.
///
/// The problem: each single removal looks reasonable, and together they leave nothing. Why this answer: Kubernetes'
/// disruption budget, what is healthy now less what must stay, asked again for each removal, so that failures which
/// nobody chose count against it. When wrong: for exclusive pools, where one is all there is; it is not asked there.
#[must_use]
pub fn removable(usable: u32, total: u32, min_available: Amount) -> u32 {
    usable.saturating_sub(min_available.at_least(total))
}

/// Whether one more usable endpoint may be removed by choice ([`removable`]).
#[must_use]
pub fn may_remove(usable: u32, total: u32, min_available: Amount) -> bool {
    removable(usable, total, min_available) > 0
}

#[cfg(test)]
mod tests;
