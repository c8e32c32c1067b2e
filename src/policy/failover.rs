//! Which tier, zone and pool takes the traffic: strict order or Envoy's spill, hold-down and ramp on the way back.

use std::time::Duration;

use crate::model::units::Amount;

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
