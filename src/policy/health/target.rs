//! The state of one probed target: rise and fall over consecutive results, with the reason for being down kept apart.
//! When to ask is `schedule`'s, how much flapping is too much is `damping`'s.

use std::time::Duration;

use super::damping::Penalty;
use super::{Settings, Verdict, schedule};

/// What the probes say of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// No probe has given evidence yet.
    Unknown,
    /// It takes traffic.
    Up,
    /// It does not.
    Down(Because),
}

/// Why a target is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Because {
    /// It answered that it does not want traffic.
    SaysNo,
    /// It could not be asked.
    CannotBeAsked,
}

/// A state that became another one, or a target that is down for another reason than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The state before.
    pub from: State,
    /// The state now.
    pub to: State,
    /// The results in a row that decided it; after a suppression all good ones since then.
    pub results: u32,
    /// How long flap damping holds it down at most, whatever its probes say; nothing when it does not.
    pub suppressed_until: Option<Duration>,
}

/// The problem: single results lie (a lost packet, a slow second), and a state that follows each of them flaps. Why this
/// answer: `fall` bad results in a row bring a target down and `rise` good ones bring it up; one that disagrees takes all
/// progress back. That is `HAProxy`'s single counter (`check.c`), whose two halves each snap to their end. In the unknown
/// state the first result decides, since waiting there only means guessing for longer. When wrong: on a path that loses
/// a third of everything, where "in a row" hardly ever happens in either direction; a ratio in a window would see it, and
/// that is what `outlier` does for live traffic.
///
/// Both kinds of bad results count together towards `fall`, and the last of them is the reason. While down, the reason
/// changes after `fall` results of the other kind in a row, so that a target which now refuses and now times out does not
/// report each of its probes; what must act sooner asks [`Health::last_run`].
///
/// With damping, a target that falls too often stays down though its probes are good ([`Penalty`]).
#[derive(Debug, Clone)]
pub struct Health {
    settings: Settings,
    /// From the results alone.
    proven: State,
    /// The same, but down while damping holds it.
    shown: State,
    /// Bad results in a row while up, of either kind; below `fall`.
    bad: u32,
    /// Same verdicts in a row at the end.
    last_run: Option<(Verdict, u32)>,
    penalty: Penalty,
}

impl Health {
    /// A target that has not been asked.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self::resumed(settings, State::Unknown)
    }

    /// A target whose state is known from before, such as from the process that this one replaces.
    #[must_use]
    pub fn resumed(settings: Settings, state: State) -> Self {
        Self { settings, proven: state, shown: state, bad: 0, last_run: None, penalty: Penalty::default() }
    }

    /// With what falls have added up to before, such as in the process that this one replaces.
    #[must_use]
    pub const fn with_penalty(mut self, penalty: Penalty) -> Self {
        self.penalty = penalty;
        self
    }

    /// What its falls have added up to.
    #[must_use]
    pub const fn penalty(&self) -> Penalty {
        self.penalty
    }

    /// Goes on under other settings: a reload never forgets what is sick. Progress that already suffices decides with
    /// the next result.
    pub fn reconfigure(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Takes the result of a probe that ended at `now`, and says what it changes. A void one changes nothing.
    pub fn observe(&mut self, verdict: Verdict, now: Duration) -> Option<Change> {
        let says = match verdict {
            Verdict::Good => State::Up,
            Verdict::SaysNo => State::Down(Because::SaysNo),
            Verdict::CannotBeAsked => State::Down(Because::CannotBeAsked),
            Verdict::Void => return None,
        };
        self.last_run = match self.last_run {
            Some((last, count)) if last == verdict => Some((last, count.saturating_add(1))),
            _ => Some((verdict, 1)),
        };
        let results = self.weigh(says, now);
        self.show(results, now)
    }

    /// Lets a target up whose suppression has ended. For a timer at [`Health::suppressed_until`]; without one, its
    /// next good probe does it.
    pub fn release(&mut self, now: Duration) -> Option<Change> {
        let results = self.last_run.map_or(0, |(_, count)| count);
        self.show(results, now)
    }

    /// What everyone else is told.
    #[must_use]
    pub const fn state(&self) -> State {
        self.shown
    }

    /// The verdict of the last probe that was evidence, and how many in a row were that.
    #[must_use]
    pub const fn last_run(&self) -> Option<(Verdict, u32)> {
        self.last_run
    }

    /// Until when damping holds the target down, whatever its probes say.
    #[must_use]
    pub fn suppressed_until(&self, now: Duration) -> Option<Duration> {
        self.penalty.suppressed_until().filter(|until| now < *until && self.settings.damping.is_some())
    }

    /// Whether its probes are good and only damping keeps it down.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.proven != self.shown
    }

    /// From the end of the last probe to the start of the next one.
    ///
    /// The fast interval counts after a result that disagrees with up or down, so that a suspicion is settled quickly in
    /// either direction, and before there is any evidence. Another reason to be down is no hurry.
    #[must_use]
    pub fn next_interval(&self, random: u64) -> Duration {
        let last_is_good = matches!(self.last_run, Some((Verdict::Good, _)));
        let interval = match self.proven {
            State::Up if self.bad == 0 => self.settings.interval,
            State::Down(_) if !last_is_good => self.settings.down_interval,
            _ => self.settings.fast_interval,
        };
        schedule::jittered(interval, self.settings.jitter, random)
    }

    /// Moves `proven`; the results in a row that speak for what the last one says.
    fn weigh(&mut self, says: State, now: Duration) -> u32 {
        let alike = self.last_run.map_or(1, |(_, count)| count);
        // Bad is bad on the way down. Once down, the way up and another reason need runs of their own.
        self.bad = if self.proven == State::Up && says != State::Up { self.bad.saturating_add(1) } else { 0 };
        let (results, needed) = match (self.proven, says) {
            (State::Unknown, _) => (1, 1),
            (State::Down(_), State::Up) => (alike, self.settings.rise),
            (State::Down(_), _) => (alike, self.settings.fall),
            (State::Up, _) => (self.bad, self.settings.fall),
        };
        if self.proven == says || results < needed {
            return results;
        }
        if let (State::Up, Some(damping)) = (self.proven, &self.settings.damping) {
            self.penalty.fell(damping, now);
        }
        self.proven = says;
        self.bad = 0;
        results
    }

    /// Moves `shown` after `proven`, as far as damping lets it.
    fn show(&mut self, results: u32, now: Duration) -> Option<Change> {
        let suppressed_until = self.suppressed_until(now);
        let held = self.proven == State::Up && suppressed_until.is_some();
        let to = if held { self.shown } else { self.proven };
        let from = std::mem::replace(&mut self.shown, to);
        (from != to).then_some(Change { from, to, results, suppressed_until })
    }
}

#[cfg(test)]
mod tests;
