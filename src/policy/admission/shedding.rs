//! Which of those who wait are sent away at once, when a queue stands instead of passing.

use std::time::Duration;

/// When a queue sheds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How long the first in line may wait for as long as it likes.
    pub target: Duration,
    /// A wait that never fell to the target within so long is a standing queue.
    pub interval: Duration,
    /// While the queue stands, who came last is served first.
    pub newest_first: bool,
}

impl Settings {
    /// How long one waits at most while the queue stands: twice the target.
    #[must_use]
    pub const fn patience(&self) -> Duration {
        self.target.saturating_mul(2)
    }
}

/// The problem: a queue that is full for longer than a burst lasts helps nobody. Everybody in it waits for the whole queue,
/// clients give up and ask again, and the endpoints work for those who have left. Its length says nothing, as a long one
/// may pass quickly. Why this answer: controlled delay (Nichols and Jacobson, "Controlling Queue Delay", ACM Queue 2012) in the
/// form for servers (Maurer, "Fail at Scale", ACM Queue 2015): the least wait within an interval tells a standing queue from a
/// burst, and needs neither a rate nor a capacity to be known. While it stands nobody waits for longer than twice the target,
/// and, if wanted, the newest go first, whose clients are most surely still there. When wrong: an endpoint that always
/// takes longer than the target for each request makes every short line look like a standing one; the target must lie
/// above what one request takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shedder {
    stands: bool,
    /// The least wait of the first in line within the interval; nothing where none was seen.
    least: Option<Duration>,
    /// When the interval ends.
    ends: Duration,
}

impl Shedder {
    /// Notes how long the first in line has waited by `now`.
    pub fn observe(&mut self, settings: &Settings, waited: Duration, now: Duration) {
        if now >= self.ends {
            self.stands = self.least.is_some_and(|least| least > settings.target);
            self.least = None;
            self.ends = now.saturating_add(settings.interval);
        }
        self.least = Some(self.least.map_or(waited, |least| least.min(waited)));
    }

    /// Notes that nobody waits at `now`.
    pub fn empty(&mut self, settings: &Settings, now: Duration) {
        if now >= self.ends {
            // What was before says nothing of those who come now.
            self.least = None;
        }
        self.observe(settings, Duration::ZERO, now);
    }

    /// Whether the queue stands instead of passing.
    #[must_use]
    pub const fn stands(&self) -> bool {
        self.stands
    }

    /// Whether one who has waited for so long is sent away.
    #[must_use]
    pub fn sheds(&self, settings: &Settings, waited: Duration) -> bool {
        self.stands && waited > settings.patience()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Settings = Settings {
        target: Duration::from_millis(5),
        interval: Duration::from_millis(100),
        newest_first: false,
    };

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Requests come and places become free at these distances (in microseconds) for so long; how many were served, how many
    /// shed, and the longest wait of one that was served.
    fn run(shedding: bool, arrival: u64, service: u64, millis: u64) -> (usize, usize, Duration) {
        let mut shedder = Shedder::default();
        let mut line = std::collections::VecDeque::new();
        let (mut served, mut shed, mut longest) = (0, 0, Duration::ZERO);
        for micros in 0..millis * 1000 {
            let now = Duration::from_micros(micros);
            if micros % arrival == 0 {
                line.push_back(now);
            }
            if micros % service != 0 {
                continue;
            }
            while let Some(waited) = line.front().map(|came| now - *came) {
                shedder.observe(&SETTINGS, waited, now);
                line.pop_front();
                if shedding && shedder.sheds(&SETTINGS, waited) {
                    shed += 1;
                    continue;
                }
                served += 1;
                longest = longest.max(waited);
                break;
            }
            if line.is_empty() {
                shedder.empty(&SETTINGS, now);
            }
        }
        (served, shed, longest)
    }

    #[test]
    fn a_burst_is_not_shed_and_a_standing_queue_is() {
        let mut shedder = Shedder::default();
        shedder.observe(&SETTINGS, ms(90), ms(0));
        shedder.observe(&SETTINGS, ms(4), ms(99));
        shedder.observe(&SETTINGS, ms(90), ms(100));
        assert!(!shedder.stands(), "it fell under the target once");
        shedder.observe(&SETTINGS, ms(6), ms(199));
        assert!(!shedder.sheds(&SETTINGS, ms(500)), "the interval is not over");
        shedder.observe(&SETTINGS, ms(6), ms(200));
        assert!(shedder.sheds(&SETTINGS, ms(11)) && !shedder.sheds(&SETTINGS, ms(10)));
        shedder.empty(&SETTINGS, ms(250));
        assert!(shedder.stands(), "it may have been emptied by shedding alone");
        shedder.observe(&SETTINGS, ms(90), ms(260));
        shedder.observe(&SETTINGS, ms(90), ms(300));
        assert!(!shedder.stands(), "it was empty within the interval");
        shedder.empty(&SETTINGS, ms(5000));
        assert!(!shedder.stands(), "what was long ago says nothing");
    }

    #[test]
    fn twice_the_load_keeps_its_capacity_and_waits_for_twice_the_target() {
        let (served, shed, longest) = run(true, 500, 1000, 5000);
        assert!((4990..=5000).contains(&served), "no place stays unused: {served}");
        assert!((4500..=5010).contains(&shed), "{shed}");
        // The first intervals have to pass before it is known that the queue stands.
        assert!(longest < ms(210), "{longest:?}");
        let (served, shed, longest) = run(false, 500, 1000, 5000);
        assert_eq!((served, shed), (5000, 0));
        assert!(longest > ms(2400), "without it all wait for the whole queue: {longest:?}");
    }

    #[test]
    fn what_fits_is_never_shed() {
        let (served, shed, _) = run(true, 1000, 900, 5000);
        assert_eq!((served, shed), (5000, 0));
    }
}
