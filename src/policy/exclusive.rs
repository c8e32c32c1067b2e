//! Pools in which at most one endpoint serves, such as a database leader: who leads, and who must be closed.

use std::time::Duration;

/// How the leader of an exclusive pool is found and kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Name of a number in the probe's answer; the highest leads where two claim to.
    pub rank: Option<String>,
    /// How long the last leader is kept when its health API is silent, nobody else claims and its port accepts.
    pub stale_for: Duration,
}
