//! Why an endpoint may not be picked now: one word of bits that every pick reads and that few events write.
//!
//! Each bit has one writer's reason; what the bits together mean for a pick is a [`Level`].

use super::sync::{AtomicU32, Ordering};

/// One reason against picking an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Impediment {
    /// Its probe says no, or cannot be asked.
    Down = 1,
    /// It is probed, and no probe has come back yet.
    Unproven = 1 << 1,
    /// Live traffic failed on it.
    Ejected = 1 << 2,
    /// Its breaker is open, or half-open with all trials taken.
    Broken = 1 << 3,
    /// The operator drains it.
    Drained = 1 << 4,
    /// The operator has taken it out.
    Maintenance = 1 << 5,
    /// Its pool is exclusive and another endpoint leads, or none.
    Standby = 1 << 6,
    /// Its weight is 0.
    Weightless = 1 << 7,
}

impl Impediment {
    /// All of them, the one that explains most first.
    pub const ALL: [Self; 8] = [
        Self::Maintenance,
        Self::Drained,
        Self::Weightless,
        Self::Down,
        Self::Standby,
        Self::Unproven,
        Self::Broken,
        Self::Ejected,
    ];

    /// Its word in status and events.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Unproven => "unproven",
            Self::Ejected => "ejected",
            Self::Broken => "breaker open",
            Self::Drained => "drain",
            Self::Maintenance => "maintenance",
            Self::Standby => "standby",
            Self::Weightless => "weight 0",
        }
    }
}

/// The endpoint is ejected by a judgement, of which a pool bears only so many at once: no impediment of its own.
const JUDGED: u32 = 1 << 17;

/// Work that is let through to an endpoint is a trial, of which only so many may be under way: no impediment.
const ON_TRIAL: u32 = 1 << 16;

/// How much is overlooked in a pick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Nothing.
    Proven,
    /// That no probe has come back yet: where nothing is proven.
    Unproven,
    /// What probes and live traffic say: the last resort of a pool that fails open. Never the operator's word, an
    /// open breaker, or who leads.
    Open,
}

impl Level {
    /// The impediments that count.
    #[must_use]
    pub const fn mask(self) -> u32 {
        const OPEN: u32 = Impediment::Broken as u32
            | Impediment::Drained as u32
            | Impediment::Maintenance as u32
            | Impediment::Standby as u32
            | Impediment::Weightless as u32;
        match self {
            Self::Proven => {
                OPEN | Impediment::Down as u32 | Impediment::Ejected as u32 | Impediment::Unproven as u32
            }
            Self::Unproven => OPEN | Impediment::Down as u32 | Impediment::Ejected as u32,
            Self::Open => OPEN,
        }
    }
}

/// What does not count for those who belong to the endpoint already.
const LEAVING: u32 = Impediment::Drained as u32 | Impediment::Weightless as u32;

/// The word.
#[derive(Debug, Default)]
pub struct Condition(AtomicU32);

impl Condition {
    /// Whether nothing counts against it at a level.
    #[inline]
    #[must_use]
    pub fn allows(&self, level: Level) -> bool {
        self.0.load(Ordering::Relaxed) & level.mask() == 0
    }

    /// The same for those who belong to the endpoint already: it may be drained or without weight.
    #[inline]
    #[must_use]
    pub fn allows_bound(&self, level: Level) -> bool {
        self.0.load(Ordering::Relaxed) & level.mask() & !LEAVING == 0
    }

    /// Whether it takes nothing but what belongs to it already.
    #[inline]
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.0.load(Ordering::Relaxed) & LEAVING != 0
    }

    /// Whether this reason stands.
    #[must_use]
    pub fn has(&self, impediment: Impediment) -> bool {
        self.0.load(Ordering::Relaxed) & impediment as u32 != 0
    }

    /// Makes a reason stand or fall; whether that changed anything.
    pub fn set(&self, impediment: Impediment, stands: bool) -> bool {
        self.set_bits(impediment as u32, stands)
    }

    /// Whether a pick must ask for a trial.
    #[inline]
    #[must_use]
    pub fn is_on_trial(&self) -> bool {
        self.0.load(Ordering::Relaxed) & ON_TRIAL != 0
    }

    /// From now on picks must ask for a trial, or need not any more.
    pub(super) fn set_on_trial(&self, on: bool) {
        self.set_bits(ON_TRIAL, on);
    }

    /// Whether it is ejected by a judgement.
    pub(super) fn is_judged(&self) -> bool {
        self.0.load(Ordering::Relaxed) & JUDGED != 0
    }

    /// Notes whether it is ejected by a judgement.
    pub(super) fn set_judged(&self, judged: bool) {
        self.set_bits(JUDGED, judged);
    }

    /// The one reason that explains most why nothing is sent to it; nothing when it may be picked.
    #[must_use]
    pub fn reason(&self) -> Option<Impediment> {
        Impediment::ALL.into_iter().find(|&impediment| self.has(impediment))
    }

    fn set_bits(&self, bits: u32, stand: bool) -> bool {
        // SeqCst: whoever lets an endpoint back looks for waiters next, and must not look before this is seen.
        let before = if stand {
            self.0.fetch_or(bits, Ordering::SeqCst)
        } else {
            self.0.fetch_and(!bits, Ordering::SeqCst)
        };
        (before & bits != 0) != stand
    }
}

#[cfg(all(test, not(plimsoll_loom)))]
mod tests {
    use super::*;

    #[test]
    fn levels_overlook_what_their_names_say() {
        let condition = Condition::default();
        assert!(condition.allows(Level::Proven));
        condition.set(Impediment::Unproven, true);
        assert!(!condition.allows(Level::Proven) && condition.allows(Level::Unproven));
        condition.set(Impediment::Down, true);
        assert!(!condition.allows(Level::Unproven) && condition.allows(Level::Open));
        for never in [Impediment::Broken, Impediment::Drained, Impediment::Maintenance, Impediment::Standby] {
            condition.set(never, true);
            assert!(!condition.allows(Level::Open), "{never:?} is never overlooked");
            condition.set(never, false);
        }
    }

    #[test]
    fn a_change_is_told_from_a_repetition() {
        let condition = Condition::default();
        assert!(condition.set(Impediment::Ejected, true));
        assert!(!condition.set(Impediment::Ejected, true));
        assert!(condition.set(Impediment::Ejected, false));
        assert!(!condition.set(Impediment::Ejected, false));
    }

    #[test]
    fn the_operators_word_explains_more_than_a_probe() {
        let condition = Condition::default();
        condition.set(Impediment::Down, true);
        condition.set(Impediment::Maintenance, true);
        assert_eq!(condition.reason(), Some(Impediment::Maintenance));
        condition.set_on_trial(true);
        condition.set(Impediment::Maintenance, false);
        condition.set(Impediment::Down, false);
        assert_eq!(condition.reason(), None, "a trial is no impediment");
    }
}
