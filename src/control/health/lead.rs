//! The leader of an exclusive pool, by endpoint: results to the policy, its members found again after a reload.

use std::time::Duration;

use crate::policy::exclusive::{Answer, Change, Exclusive, Settings};
use crate::policy::health::Verdict;
use crate::runtime::pool::Pool;

/// One exclusive pool.
#[derive(Debug)]
pub(super) struct Lead {
    pub(super) policy: Exclusive,
    /// Slots of the members, in the order of the snapshot's pool.
    slots: Vec<u32>,
}

impl Lead {
    /// A pool of a new snapshot, with what is known of it from before.
    pub(super) fn carried(pool: &Pool, settings: Settings, fall: u32, before: Option<Self>) -> Self {
        let slots: Vec<u32> = pool.endpoints.iter().map(|e| e.live.slot()).collect();
        let policy = match before {
            None => Exclusive::new(settings, fall, slots.len()),
            Some(old) => {
                let at = |slot: &u32| old.slots.iter().position(|old| old == slot);
                let before: Vec<Option<usize>> = slots.iter().map(at).collect();
                old.policy.carried(settings, fall, &before)
            }
        };
        Self { policy, slots }
    }

    /// Takes what a probe of a member came to; `port` is whether its traffic port accepts, where that is known.
    pub(super) fn observe(
        &mut self,
        member: usize,
        verdict: Verdict,
        rank: Option<u64>,
        port: Option<bool>,
        now: Duration,
    ) -> Option<Change> {
        let answer = match (verdict, port) {
            (Verdict::Good, _) => Answer::Leads { rank: rank.and_then(|rank| i64::try_from(rank).ok()) },
            (Verdict::SaysNo, _) => Answer::SaysNo,
            (Verdict::CannotBeAsked, Some(port_accepts)) => Answer::Silent { port_accepts },
            // Whether its port accepts cannot be known: no evidence against a leader.
            (Verdict::CannotBeAsked, None) => Answer::Silent { port_accepts: true },
            (Verdict::Void, _) => Answer::Void,
        };
        self.policy.observe(member, answer, now)
    }

    pub(super) fn tick(&mut self, now: Duration) -> Option<Change> {
        self.policy.tick(now)
    }

    pub(super) fn leader(&self) -> Option<usize> {
        self.policy.leader()
    }
}
