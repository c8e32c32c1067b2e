//! Priority classes of a queue: whose turn it is when a place becomes free.

/// How urgent a request is when it has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Class {
    /// Before all others.
    High,
    /// In between.
    #[default]
    Normal,
    /// After all others.
    Low,
}

impl Class {
    /// How many there are.
    pub const COUNT: usize = 3;

    /// All, the most urgent first.
    pub const ALL: [Self; Self::COUNT] = [Self::High, Self::Normal, Self::Low];

    /// Its word in a configuration, in metrics and in JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }

    /// Its place among [`Class::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// One place in so many goes to whoever has waited longest, whatever its class.
pub const EVERY: u32 = 16;

/// The problem: strict priority serves the low classes nothing at all for as long as the high ones fill every place, and a
/// class that gets nothing looks like an outage to its clients. Why this answer: a fixed share costs the high classes one
/// place in [`EVERY`] and only while somebody else waits, needs no clock and no setting, and bounds how long a request
/// that waits can be passed over: by `EVERY` places for each of those who came before it. When wrong: where low traffic is
/// truly worth nothing, it belongs into a pool or behind a limit of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Turns(u32);

impl Turns {
    /// Which class has the next place, given since when (or as which in the order of arrival) the first of each class that
    /// can use it waits.
    #[must_use]
    pub fn next(self, first: [Option<u64>; Class::COUNT]) -> Option<Class> {
        let waits = Class::ALL.into_iter().filter_map(|class| Some((first[class.index()]?, class)));
        if self.0 % EVERY == EVERY - 1 {
            return waits.min().map(|(_, class)| class);
        }
        waits.map(|(_, class)| class).next()
    }

    /// Notes that a place was given to one who waited.
    pub const fn taken(&mut self) {
        self.0 = self.0.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Serves so many out of lines of these lengths, all of which came before the first was served, low ones first.
    fn serve(lines: [u64; Class::COUNT], places: usize) -> Vec<Class> {
        let mut turns = Turns::default();
        let mut left = lines;
        let mut served = Vec::new();
        for _ in 0..places {
            let came =
                |class: Class| 1000 * (2 - class.index() as u64) + lines[class.index()] - left[class.index()];
            let first = Class::ALL.map(|class| (left[class.index()] > 0).then(|| came(class)));
            let Some(class) = turns.next(first) else { break };
            turns.taken();
            left[class.index()] -= 1;
            served.push(class);
        }
        served
    }

    #[test]
    fn higher_classes_go_first() {
        use Class::{High, Low, Normal};
        assert_eq!(serve([2, 2, 2], 9), [High, High, Normal, Normal, Low, Low]);
        assert_eq!(serve([0, 0, 0], 1), []);
    }

    #[test]
    fn one_place_in_sixteen_goes_to_whoever_has_waited_longest() {
        let served = serve([1000, 0, 1000], 160);
        let low = served.iter().filter(|class| **class == Class::Low).count();
        assert_eq!(low, 10);
        assert_eq!(served.iter().position(|class| *class == Class::Low), Some(15));
    }

    #[test]
    fn the_count_of_turns_may_wrap() {
        let mut turns = Turns(u32::MAX);
        turns.taken();
        assert_eq!(turns.next([Some(7), None, Some(1)]), Some(Class::High));
    }
}
