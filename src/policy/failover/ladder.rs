//! The levels that traffic walks down, tiers of a pool or pools of a chain, and which of them serve: what is lost, what
//! has come back but is still held down, and what is on its way up.

use std::time::Duration;

use super::spill::{Loads, is_under, loads};
use super::{Failback, Level, Settings, WHOLE};

/// A hold-down is doubled per flap up to so many times its first length, as an open breaker's time is. A level that has
/// stood for that long without a loss is as good as new.
const HOLD_MAX: u32 = 10;

/// A ramp is planned anew in so many steps.
const RAMP_STEPS: u32 = 64;

/// No plan has to be made again sooner than this.
const STEP_MIN: Duration = Duration::from_millis(50);

/// Where a level stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// Nothing of it was ever proven usable; it stands as soon as something is.
    #[default]
    Fresh,
    /// It takes all that is its part.
    Serving {
        /// From then on.
        since: Duration,
    },
    /// Nothing of it is usable.
    Lost {
        /// From then on.
        since: Duration,
    },
    /// It is usable again, and held down.
    Held {
        /// When it came back.
        since: Duration,
    },
    /// It takes a growing part.
    Ramping {
        /// When that began.
        since: Duration,
    },
}

/// What happens to work that walks down the levels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// For each level, out of [`WHOLE`], what part of the work that arrives stops there. Where anything is usable, some
    /// level that has some lets nothing on; work that found all places of it taken or tried goes round once more without
    /// gates. All are 0 when nothing is usable.
    pub gates: Vec<u32>,
    /// Levels of which every endpoint is used whatever its probes say, as too little is usable (`panic_threshold`).
    pub panic: Vec<bool>,
    /// When the plan changes although no fact does.
    pub again: Option<Duration>,
}

/// The problem: a tier or pool that has just come back is the one most likely to go again, its caches are cold, and moving
/// all traffic at once to and fro is worse than either place. Why this answer: what was lost stays out for a hold-down,
/// doubled with each flap, and then takes a part that grows evenly. The hold-down is waived for what has never been
/// lost since the start and whenever nothing else serves: a rule made for comfort must not be the reason of an outage.
/// When wrong: where the second choice is expensive (another continent), wait less; where a person must look first
/// (databases), `failback = "manual"`.
///
/// One machine serves for the tiers of a pool and for a pool with its failover pools: both are levels in an order.
#[derive(Debug, Clone, Default)]
pub struct FailoverState {
    levels: Vec<Standing>,
    /// Levels before this one were ordered to stand back (`plimsoll failover`).
    pinned: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Standing {
    phase: Phase,
    /// Losses since it was as good as new.
    losses: u32,
}

impl FailoverState {
    /// Levels of which nothing is known.
    #[must_use]
    pub fn new(levels: usize) -> Self {
        Self { levels: vec![Standing::default(); levels], pinned: 0 }
    }

    /// The same levels after a reload: for each its index before, or nothing for a new one. An order to stand back stays
    /// while its target does.
    #[must_use]
    pub fn carried(&self, before: &[Option<usize>]) -> Self {
        let known = |old: &Option<usize>| old.and_then(|old| self.levels.get(old)).copied();
        let target = before.iter().position(|old| *old == Some(self.pinned));
        Self {
            levels: before.iter().map(|old| known(old).unwrap_or_default()).collect(),
            pinned: if self.pinned == 0 { 0 } else { target.unwrap_or(0) },
        }
    }

    /// Levels of which another process has learnt this: the phase of each and how often it was lost. Nothing is pinned.
    #[must_use]
    pub fn resumed(levels: impl IntoIterator<Item = (Phase, u32)>) -> Self {
        let levels = levels.into_iter().map(|(phase, losses)| Standing { phase, losses }).collect();
        Self { levels, pinned: 0 }
    }

    /// How often a level was lost lately, which its hold-down grows with.
    #[must_use]
    pub fn losses(&self, level: usize) -> u32 {
        self.levels.get(level).map_or(0, |standing| standing.losses)
    }

    /// Where a level stands.
    #[must_use]
    pub fn phase(&self, level: usize) -> Phase {
        self.levels.get(level).map_or(Phase::Fresh, |standing| standing.phase)
    }

    /// The level that was ordered to take the traffic; 0 is home, the order of things.
    #[must_use]
    pub const fn pinned(&self) -> usize {
        self.pinned
    }

    /// When a level's hold-down ends; nothing when it is not held, or until told.
    #[must_use]
    pub fn held_until(&self, level: usize, failback: Failback) -> Option<Duration> {
        self.levels.get(level).and_then(|standing| standing.held_until(failback))
    }

    /// Carries out `plimsoll failover`: levels before `target` stand back until told otherwise, however well they are,
    /// and the target takes the traffic at once. Target 0 is home: whoever stood back or was held returns, by the ramp.
    pub fn fail_over(&mut self, target: usize, failback: Failback, now: Duration) {
        let target = target.min(self.levels.len().saturating_sub(1));
        let stood_back = std::mem::replace(&mut self.pinned, target);
        let (serving, ramping) = (Phase::Serving { since: now }, Phase::Ramping { since: now });
        let has_ramp = matches!(failback, Failback::After { .. });
        for (at, standing) in self.levels.iter_mut().enumerate() {
            standing.phase = match standing.phase {
                Phase::Held { .. } | Phase::Ramping { .. } if target > 0 && at == target => serving,
                Phase::Held { .. } if target == 0 && has_ramp => ramping,
                Phase::Held { .. } if target == 0 => serving,
                Phase::Serving { .. } if target == 0 && at < stood_back && has_ramp => ramping,
                phase => phase,
            };
        }
    }

    /// Moves every level to where the facts put it at `now`, and says what that means for new work.
    pub fn plan(&mut self, settings: &Settings, levels: &[Level], now: Duration) -> Plan {
        self.levels.resize(levels.len(), Standing::default());
        let is_proven = levels.iter().any(|level| level.usable > 0);
        let available: Vec<u64> =
            levels.iter().map(|level| if is_proven { level.usable } else { level.unproven }).collect();
        for (standing, level) in self.levels.iter_mut().zip(levels) {
            standing.follow(level, settings.failback, now);
        }
        let first = self.first_allowed(&available);
        self.waive(first, &available, now);
        let part: Vec<u32> = (self.levels.iter().zip(&available).enumerate())
            .map(
                |(at, (standing, &available))| {
                    if at < first || available == 0 { 0 } else { standing.part(settings.failback, now) }
                },
            )
            .collect();
        let (gates, panic) = match settings.spill {
            None => (strict_gates(&part), strict_panic(levels, &available, &part, settings.panic_threshold)),
            Some(factor) => {
                let Loads { percent, panic } =
                    loads(levels, &available, &part, factor, settings.panic_threshold);
                (spill_gates(&percent, &part), panic)
            }
        };
        let again = self.levels.iter().filter_map(|standing| standing.next(settings.failback, now)).min();
        Plan { gates, panic, again }
    }

    /// The first level that an order lets serve. Where nothing from its target on is usable, the order is waived, for
    /// as long as that lasts.
    fn first_allowed(&self, available: &[u64]) -> usize {
        let can = available.iter().skip(self.pinned).any(|&available| available > 0);
        if can { self.pinned } else { 0 }
    }

    /// Lets the first level that has anything stand when no other does.
    fn waive(&mut self, first: usize, available: &[u64], now: Duration) {
        let mut usable =
            self.levels.iter_mut().zip(available).skip(first).filter(|(_, available)| **available > 0);
        let mut held = None;
        let stands = usable.any(|(standing, _)| {
            let stands = standing.stands();
            if !stands && held.is_none() {
                held = Some(standing);
            }
            stands
        });
        if let (false, Some(held)) = (stands, held) {
            held.phase = Phase::Serving { since: now };
        }
    }
}

impl Standing {
    /// Takes over what the facts say.
    fn follow(&mut self, level: &Level, failback: Failback, now: Duration) {
        // Endpoints that were all replaced are no loss: what is new is only not proven yet.
        let is_lost = level.usable == 0 && level.unproven == 0;
        self.phase = match self.phase {
            Phase::Fresh if level.usable > 0 => Phase::Serving { since: now },
            Phase::Lost { .. } if level.usable > 0 => Phase::Held { since: now },
            Phase::Fresh | Phase::Lost { .. } => self.phase,
            _ if is_lost => {
                self.losses = if self.is_as_new(failback, now) { 1 } else { self.losses.saturating_add(1) };
                Phase::Lost { since: now }
            }
            phase => phase,
        };
        if let Some(until) = self.held_until(failback).filter(|until| *until <= now) {
            self.phase = Phase::Ramping { since: until };
        }
        if let (Phase::Ramping { since }, ramp) = (self.phase, ramp(failback))
            && now >= since.saturating_add(ramp)
        {
            self.phase = Phase::Serving { since: since.saturating_add(ramp) };
        }
    }

    const fn stands(&self) -> bool {
        matches!(self.phase, Phase::Fresh | Phase::Serving { .. } | Phase::Ramping { .. })
    }

    fn is_as_new(&self, failback: Failback, now: Duration) -> bool {
        match (self.phase, failback) {
            (Phase::Serving { since }, Failback::After { after, .. }) => {
                now.saturating_sub(since) >= after.saturating_mul(HOLD_MAX)
            }
            _ => false,
        }
    }

    fn held_until(&self, failback: Failback) -> Option<Duration> {
        match (self.phase, failback) {
            (Phase::Held { since }, Failback::After { after, .. }) => {
                let doublings = self.losses.saturating_sub(1).min(u32::BITS - 1);
                let times = (1u32 << doublings).min(HOLD_MAX);
                Some(since.saturating_add(after.saturating_mul(times)))
            }
            _ => None,
        }
    }

    /// What part of its traffic it may take, out of [`WHOLE`].
    fn part(&self, failback: Failback, now: Duration) -> u32 {
        match self.phase {
            Phase::Fresh | Phase::Serving { .. } => WHOLE,
            Phase::Lost { .. } | Phase::Held { .. } => 0,
            Phase::Ramping { since } => {
                let passed = now.saturating_sub(since).as_nanos();
                let part = (passed * u128::from(WHOLE)).checked_div(ramp(failback).as_nanos());
                // Never nothing: it stands, and may be the only one that does.
                part.and_then(|part| u32::try_from(part).ok()).map_or(WHOLE, |part| part.clamp(1, WHOLE))
            }
        }
    }

    /// When it changes by itself.
    fn next(&self, failback: Failback, now: Duration) -> Option<Duration> {
        let Phase::Ramping { since } = self.phase else { return self.held_until(failback) };
        let ramp = ramp(failback);
        let step = (ramp / RAMP_STEPS).max(STEP_MIN);
        Some(now.saturating_add(step).min(since.saturating_add(ramp)))
    }
}

const fn ramp(failback: Failback) -> Duration {
    match failback {
        Failback::After { ramp, .. } => ramp,
        Failback::Manual => Duration::ZERO,
    }
}

/// Each level takes its part of what arrives, and the last that stands takes all.
fn strict_gates(part: &[u32]) -> Vec<u32> {
    let last = part.iter().rposition(|&part| part > 0);
    part.iter().enumerate().map(|(at, &part)| if Some(at) == last { WHOLE } else { part }).collect()
}

/// Strict levels do not share, so each that serves is judged alone. One that has nothing usable hands on instead.
fn strict_panic(levels: &[Level], available: &[u64], part: &[u32], threshold: f64) -> Vec<bool> {
    (levels.iter().zip(available).zip(part))
        .map(|((level, &available), &part)| part > 0 && is_under(level.total, available, threshold))
        .collect()
}

/// Percents of all traffic as parts of what arrives after the levels before took theirs.
fn spill_gates(percent: &[u64], part: &[u32]) -> Vec<u32> {
    if percent.iter().all(|&percent| percent == 0) {
        return strict_gates(part);
    }
    let mut arriving = 100;
    (percent.iter().zip(part))
        .map(|(&percent, &part)| {
            // Nobody is sent past here, but who has tried everything before may stay.
            let nobody_arrives = if part > 0 { WHOLE } else { 0 };
            let gate = (percent * u64::from(WHOLE)).checked_div(arriving);
            arriving -= percent.min(arriving);
            gate.map_or(nobody_arrives, |gate| u32::try_from(gate).unwrap_or(WHOLE))
        })
        .collect()
}
