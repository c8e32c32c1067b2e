//! Endpoints of one priority group as a snapshot has them, and the gate before them that control moves.

use std::sync::Arc;

use super::sync::{AtomicU32, Ordering};
use crate::policy::balance::Balancer;

/// A gate that is fully open.
pub const OPEN: u32 = 65_536;

/// Endpoints of one priority group.
#[derive(Debug)]
pub struct Tier {
    /// Its number in the configuration; 0 is used first.
    pub number: u8,
    /// Those of this node's zone, then the others; without zones all are in the first.
    pub groups: Vec<Group>,
    /// What control decided about it.
    pub live: Arc<TierLive>,
}

/// Endpoints of one tier among which a balancer picks.
#[derive(Debug)]
pub struct Group {
    /// Index of its first endpoint in the pool.
    pub start: usize,
    /// Index after its last endpoint.
    pub end: usize,
    /// Its balancer.
    pub balancer: Balancer,
}

impl Tier {
    /// Index of its first endpoint in the pool.
    #[must_use]
    pub fn start(&self) -> usize {
        self.groups.first().map_or(0, |group| group.start)
    }

    /// Index after its last endpoint.
    #[must_use]
    pub fn end(&self) -> usize {
        self.groups.last().map_or(0, |group| group.end)
    }
}

/// Live state of a tier, keyed by pool and number.
#[derive(Debug)]
pub struct TierLive {
    gate: AtomicU32,
    local: AtomicU32,
    panics: AtomicU32,
}

impl Default for TierLive {
    fn default() -> Self {
        Self { gate: AtomicU32::new(OPEN), local: AtomicU32::new(OPEN), panics: AtomicU32::new(0) }
    }
}

impl TierLive {
    /// Whether work that drew this number stops here, if something is usable.
    #[inline]
    #[must_use]
    pub fn admits(&self, random: u64) -> bool {
        passes(self.gate.load(Ordering::Relaxed), random)
    }

    /// Whether work that drew this number stays in this node's zone.
    #[inline]
    #[must_use]
    pub fn stays_local(&self, random: u64) -> bool {
        passes(self.local.load(Ordering::Relaxed), random >> 16)
    }

    /// Whether so few are usable that what probes and traffic say is overlooked (Envoy's panic).
    #[inline]
    #[must_use]
    pub fn panics(&self) -> bool {
        self.panics.load(Ordering::Relaxed) != 0
    }

    /// The share of arriving work that stops here, of [`OPEN`].
    #[must_use]
    pub fn gate(&self) -> u32 {
        self.gate.load(Ordering::Relaxed)
    }

    /// Moves the gate, the share that stays local and the panic.
    pub fn set(&self, gate: u32, local: u32, panics: bool) {
        self.gate.store(gate, Ordering::Relaxed);
        self.local.store(local, Ordering::Relaxed);
        self.panics.store(u32::from(panics), Ordering::Relaxed);
    }
}

/// Whether a number falls under a gate.
#[inline]
pub(super) const fn passes(gate: u32, random: u64) -> bool {
    gate >= OPEN || ((random & 0xffff) as u32) < gate
}

#[cfg(all(test, not(plimsoll_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_gate_lets_its_share_through() {
        let tier = TierLive::default();
        assert!(tier.admits(u64::MAX) && tier.stays_local(u64::MAX) && !tier.panics());
        tier.set(OPEN / 4, 0, true);
        assert_eq!((0..65_536).filter(|&random| tier.admits(random)).count(), 16_384);
        assert!(!tier.stays_local(0) && tier.panics());
    }
}
