//! Overload of the process itself: what it gives up first, and when it is well again.

use std::time::Duration;

/// How much a listener's traffic is worth when not all can be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Importance {
    /// Never turned away here.
    Critical,
    /// In between.
    #[default]
    Default,
    /// Turned away first.
    Sheddable,
}

impl Importance {
    /// All.
    pub const ALL: [Self; 3] = [Self::Critical, Self::Default, Self::Sheddable];

    /// Its word in a configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Default => "default",
            Self::Sheddable => "sheddable",
        }
    }
}

/// How hard-pressed the process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Stage {
    /// It is well.
    #[default]
    Normal,
    /// What lies idle is given up: connections close once they are idle.
    Saving,
    /// New work of sheddable listeners is turned away.
    Shedding,
    /// That of all but critical listeners is.
    Severe,
}

impl Stage {
    /// All, the mildest first.
    pub const ALL: [Self; 4] = [Self::Normal, Self::Saving, Self::Shedding, Self::Severe];

    /// Its word in events and JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Saving => "saving",
            Self::Shedding => "shedding",
            Self::Severe => "severe",
        }
    }

    /// Whether new work of listeners of this importance is turned away.
    #[must_use]
    pub const fn sheds(self, importance: Importance) -> bool {
        match importance {
            Importance::Critical => false,
            Importance::Default => matches!(self, Self::Severe),
            Importance::Sheddable => matches!(self, Self::Shedding | Self::Severe),
        }
    }
}

/// What can run short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Resource {
    /// Memory.
    Memory,
    /// Descriptors.
    Descriptors,
    /// Time of the workers' loops.
    Lag,
}

impl Resource {
    /// Its word in events and JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Descriptors => "descriptors",
            Self::Lag => "lag",
        }
    }
}

/// From where on new work of sheddable listeners is turned away.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// The share of the memory that the process may have.
    pub memory: Option<f64>,
    /// The share of the descriptors that it may have.
    pub descriptors: Option<f64>,
    /// How late timers of a worker are.
    pub lag: Option<Duration>,
    /// How long it must be better before less is given up.
    pub hold: Duration,
}

/// How it is just now; what is not known is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sample {
    /// The share of memory in use.
    pub memory: Option<f64>,
    /// The share of descriptors in use.
    pub descriptors: Option<f64>,
    /// The latest that a timer of any worker was.
    pub lag: Duration,
}

/// What is given up, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct State {
    /// How hard-pressed the process is.
    pub stage: Stage,
    /// Whether what lies idle is given up: not where only loops are late, whom handshakes anew would not help.
    pub saves: bool,
    /// What runs shortest; nothing where nothing does.
    pub because: Option<Resource>,
}

/// What is given up begins to be at this share of a threshold.
const SAVING: f64 = 0.9;

/// A stage is left under this share of where it begins.
const LEAVING: f64 = 0.95;

/// The problem: a process that has no memory or descriptors left fails everybody at once, and in places that were never
/// meant to fail. Why this answer: it gives up in the order of what is missed least. Idle connections first, which
/// nobody notices; then new work by the class of its listener, told so by a 503 that costs next to nothing; what is under way
/// is never cut. Each stage begins well before the wall, at once, and is left only when it has been better for a while, so
/// that it does not flap. A late loop must be seen twice in a row: one pause is none of load. When wrong: a threshold
/// above what the rest of the machine leaves is never reached before the kernel kills; one too low turns away what
/// would have fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Overload {
    state: State,
    /// Since when it is better than the stage that holds.
    better: Option<Duration>,
    lag: Duration,
}

impl Overload {
    /// What is given up from now on; nothing where that is as before.
    pub fn observe(&mut self, settings: &Settings, sample: &Sample, now: Duration) -> Option<State> {
        let lag = sample.lag.min(std::mem::replace(&mut self.lag, sample.lag));
        let sample = Sample { lag, ..*sample };
        let (wanted, eased) = (wanted(settings, &sample, 1.0), wanted(settings, &sample, LEAVING));
        let before = self.state;
        if wanted.stage > before.stage {
            self.state = wanted;
            self.better = None;
        } else if eased.stage >= before.stage {
            // It holds; what it is for may be another by now.
            let holds = if wanted.stage == before.stage { wanted } else { eased };
            self.state = State { saves: before.saves | wanted.saves, because: holds.because, ..before };
            self.better = None;
        } else if now.saturating_sub(*self.better.get_or_insert(now)) >= settings.hold {
            self.state = eased;
            self.better = None;
        }
        (self.state != before).then_some(self.state)
    }

    /// What is given up.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }
}

/// What a sample asks for where thresholds are this share of what is set.
fn wanted(settings: &Settings, sample: &Sample, share: f64) -> State {
    let (memory, descriptors) = (
        stage_of(settings.memory, sample.memory, share),
        stage_of(settings.descriptors, sample.descriptors, share),
    );
    let late = settings.lag.map_or(Stage::Normal, |lag| {
        let lag = lag.mul_f64(share);
        if sample.lag >= lag * 2 {
            Stage::Severe
        } else if sample.lag >= lag {
            Stage::Shedding
        } else {
            Stage::Normal
        }
    });
    let all = [(memory, Resource::Memory), (descriptors, Resource::Descriptors), (late, Resource::Lag)];
    let stage = memory.max(descriptors).max(late);
    let because = all.into_iter().find(|(of, _)| *of == stage && stage > Stage::Normal);
    State {
        stage,
        saves: memory.max(descriptors) > Stage::Normal,
        because: because.map(|(_, resource)| resource),
    }
}

fn stage_of(threshold: Option<f64>, used: Option<f64>, share: f64) -> Stage {
    let (Some(threshold), Some(used)) = (threshold, used) else { return Stage::Normal };
    // Half way from there to nothing left.
    let severe = threshold.midpoint(1.0);
    if used >= severe * share {
        Stage::Severe
    } else if used >= threshold * share {
        Stage::Shedding
    } else if used >= threshold * SAVING * share {
        Stage::Saving
    } else {
        Stage::Normal
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SETTINGS: Settings = Settings {
        memory: Some(0.8),
        descriptors: Some(0.9),
        lag: Some(Duration::from_secs(1)),
        hold: Duration::from_secs(5),
    };

    fn memory(share: f64) -> Sample {
        Sample { memory: Some(share), ..Sample::default() }
    }

    fn late(millis: u64) -> Sample {
        Sample { lag: Duration::from_millis(millis), ..Sample::default() }
    }

    fn at(overload: &mut Overload, second: u64, sample: &Sample) -> (Stage, bool) {
        overload.observe(&SETTINGS, sample, Duration::from_secs(second));
        (overload.state().stage, overload.state().saves)
    }

    #[test]
    fn what_is_missed_least_is_given_up_first() {
        for (share, stage) in [
            (0.71, Stage::Normal),
            (0.73, Stage::Saving),
            (0.80, Stage::Shedding),
            (0.89, Stage::Shedding),
            (0.91, Stage::Severe),
        ] {
            let mut overload = Overload::default();
            assert_eq!(at(&mut overload, 0, &memory(share)), (stage, stage > Stage::Normal), "{share}");
        }
        use Importance::{Critical, Default, Sheddable};
        let shed = |stage: Stage| [Critical, Default, Sheddable].map(|importance| stage.sheds(importance));
        assert_eq!(shed(Stage::Saving), [false, false, false]);
        assert_eq!(shed(Stage::Shedding), [false, false, true]);
        assert_eq!(shed(Stage::Severe), [false, true, true]);
    }

    #[test]
    fn it_gets_worse_at_once_and_better_only_after_a_while() {
        let mut overload = Overload::default();
        assert_eq!(at(&mut overload, 0, &memory(0.85)).0, Stage::Shedding);
        assert_eq!(at(&mut overload, 1, &memory(0.77)).0, Stage::Shedding, "not yet clearly under it");
        assert_eq!(at(&mut overload, 2, &memory(0.70)).0, Stage::Shedding);
        assert_eq!(at(&mut overload, 6, &memory(0.70)).0, Stage::Shedding);
        assert_eq!(at(&mut overload, 7, &memory(0.70)).0, Stage::Saving, "5 s of less, but not of little");
        assert_eq!(at(&mut overload, 8, &memory(0.10)).0, Stage::Saving);
        assert_eq!(at(&mut overload, 9, &memory(0.85)).0, Stage::Shedding, "at once");
        for second in 10..15 {
            assert_eq!(at(&mut overload, second, &memory(0.10)).0, Stage::Shedding);
        }
        assert_eq!(at(&mut overload, 15, &memory(0.10)), (Stage::Normal, false));
    }

    #[test]
    fn loops_that_are_late_twice_in_a_row_shed_and_close_nothing() {
        let mut overload = Overload::default();
        assert_eq!(at(&mut overload, 0, &late(30_000)), (Stage::Normal, false), "a pause is no load");
        assert_eq!(at(&mut overload, 1, &late(1_200)), (Stage::Shedding, false));
        assert_eq!(overload.state().because, Some(Resource::Lag));
        assert_eq!(at(&mut overload, 2, &late(2_500)), (Stage::Shedding, false));
        assert_eq!(at(&mut overload, 3, &late(2_500)), (Stage::Severe, false));
    }

    #[test]
    fn what_holds_it_now_is_why_it_holds() {
        let mut overload = Overload::default();
        assert_eq!(at(&mut overload, 0, &memory(0.85)).0, Stage::Shedding);
        assert_eq!(overload.state().because, Some(Resource::Memory));
        for second in 1..3 {
            assert_eq!(at(&mut overload, second, &late(1_200)).0, Stage::Shedding);
        }
        assert_eq!(overload.state().because, Some(Resource::Lag));
    }

    #[test]
    fn what_is_off_or_unknown_asks_for_nothing() {
        let off = Settings { memory: None, descriptors: None, lag: None, ..SETTINGS };
        let worst = Sample { memory: Some(1.0), descriptors: Some(1.0), lag: Duration::from_secs(60) };
        let mut overload = Overload::default();
        for second in 0..3 {
            assert_eq!(overload.observe(&off, &worst, Duration::from_secs(second)), None);
            assert_eq!(overload.observe(&SETTINGS, &Sample::default(), Duration::from_secs(second)), None);
        }
    }

    proptest! {
        #[test]
        fn it_never_changes_more_often_than_it_has_to(shares in prop::collection::vec(0.0f64..1.0, 1..200)) {
            let mut overload = Overload::default();
            let mut fell = None;
            for (second, share) in (0u64..).zip(shares) {
                let before = overload.state().stage;
                let now = Duration::from_secs(second);
                overload.observe(&SETTINGS, &memory(share), now);
                let after = overload.state().stage;
                prop_assert!(after >= stage_of(SETTINGS.memory, Some(share), 1.0), "never milder than it must be");
                if after < before {
                    prop_assert!(fell.is_none_or(|fell| now - fell >= SETTINGS.hold));
                    fell = Some(now);
                }
            }
        }
    }
}
