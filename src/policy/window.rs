//! A sliding window over sums that only grow, such as counters of attempts that every worker keeps for itself. What is
//! summed, and what follows from it, is the caller's.

use std::time::Duration;

/// Parts of a window: what is older than it goes out a tenth at a time (Hystrix and resilience4j count so too).
const PARTS: usize = 10;

/// Attempts and failures since the start, summed over all workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Attempts that ended, whatever way; those that the client cancelled are none.
    pub attempts: u64,
    /// Those of them that ended in a counted failure.
    pub failures: u64,
}

impl Totals {
    /// The share of failures, from 0 to 1; nothing without attempts.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts of one window are far below 2^52")]
    pub fn failure_ratio(self) -> Option<f64> {
        (self.attempts > 0).then(|| self.failures as f64 / self.attempts as f64)
    }

    /// Whether it is enough to be judged and `ratio` or more of it failed.
    #[must_use]
    pub fn fails(self, ratio: Option<f64>, minimum: u32) -> bool {
        let (Some(limit), Some(share)) = (ratio, self.failure_ratio()) else { return false };
        self.failures > 0 && self.attempts >= u64::from(minimum) && share >= limit
    }
}

/// How much two sums have grown within the last so many seconds.
///
/// The problem: on success a request may touch nothing but its worker's own counters, so no event can be put into a
/// bucket. Why this answer: it keeps what the sums were when each tenth of the window began, and the difference is what
/// happened since. It is fed by a tick and by whoever reports a failure. When wrong: what happens between two feedings
/// is counted where the later one stands, so the tick must come more often than a tenth of the window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// What it covers: from nine tenths of this, just after a part has gone out, up to all of it.
    length: Duration,
    /// The part that `latest` belongs to, counted from time zero.
    part: u64,
    /// What the sums were when each of the last parts began, by part modulo [`PARTS`].
    starts: [[u64; 2]; PARTS],
    /// The sums as they were last seen.
    latest: [u64; 2],
}

impl Window {
    /// A window in which nothing has happened, of sums that stand at `sums` now.
    #[must_use]
    pub fn new(length: Duration, now: Duration, sums: [u64; 2]) -> Self {
        Self { length, part: part_of(length, now), starts: [sums; PARTS], latest: sums }
    }

    /// What the window covers.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.length
    }

    /// Takes the sums as they are now. Sums that went down, or a `now` before the last one, as two workers that wait
    /// for one lock can bring them, change nothing.
    pub fn observe(&mut self, now: Duration, sums: [u64; 2]) {
        let part = part_of(self.length, now).max(self.part);
        let begun = (part - self.part).min(PARTS as u64);
        for ago in 0..begun {
            self.starts[slot_of(part - ago)] = self.latest;
        }
        self.part = part;
        for (latest, sum) in self.latest.iter_mut().zip(sums) {
            *latest = sum.max(*latest);
        }
    }

    /// Takes the sums as they are now and says how much of them is within the window.
    pub fn growth(&mut self, now: Duration, sums: [u64; 2]) -> [u64; 2] {
        self.observe(now, sums);
        // The slot after the newest is the oldest.
        let start = self.starts[slot_of(self.part + 1)];
        [self.latest[0] - start[0], self.latest[1] - start[1]]
    }

    /// [`Window::observe`] for attempts and failures.
    pub fn observe_totals(&mut self, now: Duration, totals: Totals) {
        self.observe(now, [totals.attempts, totals.failures]);
    }

    /// [`Window::growth`] for attempts and failures.
    pub fn recent(&mut self, now: Duration, totals: Totals) -> Totals {
        let [attempts, failures] = self.growth(now, [totals.attempts, totals.failures]);
        Totals { attempts, failures }
    }
}

fn part_of(length: Duration, now: Duration) -> u64 {
    let width = (length / PARTS as u32).max(Duration::from_millis(1));
    u64::try_from(now.as_nanos() / width.as_nanos()).unwrap_or(u64::MAX)
}

fn slot_of(part: u64) -> usize {
    (part % PARTS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LENGTH: Duration = Duration::from_secs(10);

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn what_happened_before_it_began_is_not_in_it() {
        let mut window = Window::new(LENGTH, at(5_000), [100, 40]);
        assert_eq!(window.growth(at(5_100), [103, 41]), [3, 1]);
    }

    #[test]
    fn what_is_older_than_its_length_goes_out() {
        let mut window = Window::new(LENGTH, at(0), [0, 0]);
        window.observe(at(500), [10, 10]);
        window.observe(at(5_500), [30, 10]);
        assert_eq!(window.growth(at(9_999), [30, 10]), [30, 10]);
        assert_eq!(window.growth(at(10_000), [30, 10]), [20, 0], "the first second has gone");
        assert_eq!(window.growth(at(14_999), [30, 10]), [20, 0]);
        assert_eq!(window.growth(at(15_000), [30, 10]), [0, 0]);
    }

    #[test]
    fn a_long_silence_empties_it() {
        let mut window = Window::new(LENGTH, at(0), [0, 0]);
        window.observe(at(100), [50, 50]);
        assert_eq!(window.growth(at(3_600_000), [51, 51]), [1, 1]);
    }

    #[test]
    fn late_and_stale_observations_change_nothing() {
        let mut window = Window::new(LENGTH, at(20_000), [0, 0]);
        window.observe(at(25_000), [9, 3]);
        window.observe(at(24_000), [8, 2]);
        assert_eq!(window.growth(at(25_000), [9, 3]), [9, 3]);
    }

    #[test]
    fn a_window_without_length_does_not_divide_by_zero() {
        let mut window = Window::new(Duration::ZERO, at(0), [0, 0]);
        assert_eq!(window.growth(at(0), [1, 1]), [1, 1]);
        assert_eq!(window.growth(at(10), [1, 1]), [0, 0]);
    }

    #[test]
    fn a_share_is_judged_from_the_minimum_on() {
        let totals = |attempts, failures| Totals { attempts, failures };
        assert!(!totals(19, 19).fails(Some(0.5), 20));
        assert!(totals(20, 10).fails(Some(0.5), 20));
        assert!(!totals(21, 10).fails(Some(0.5), 20));
        assert!(!totals(100, 100).fails(None, 20));
        assert!(!totals(0, 0).fails(Some(0.0), 0), "nothing is no failure");
        assert_eq!(totals(0, 0).failure_ratio(), None);
    }

    proptest! {
        /// Against a list of all events: what the window says lies between nine tenths of it and all of it.
        #[test]
        fn it_agrees_with_a_list_of_events(steps in prop::collection::vec((0_u64..1_500, 0_u64..20), 1..200)) {
            let mut window = Window::new(LENGTH, at(0), [0, 0]);
            let (mut now, mut sum, mut events) = (0, 0, Vec::new());
            for (wait, count) in steps {
                now += wait.min(900);
                sum += count;
                events.push((now, count));
                let [seen, _] = window.growth(at(now), [sum, 0]);
                let since = |ago: u64| -> u64 {
                    events.iter().filter(|(then, _)| *then + ago > now).map(|(_, count)| count).sum()
                };
                prop_assert!(since(9_000) <= seen && seen <= since(10_001), "{seen} at {now}");
            }
        }
    }
}
