//! How much an endpoint takes, found out by how long it takes to answer.

use std::time::Duration;

/// How a ceiling is found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// It is never lower; and as low as this while it is measured how fast the endpoint is without load. From 1.
    pub min: u32,
    /// How often that is measured anew.
    pub baseline_every: Duration,
    /// How much slower than without load answers may be before the ceiling sinks, as a share of that time.
    pub headroom: f64,
}

/// What one window of time has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Window {
    /// Answers that came.
    pub answers: u64,
    /// The time to all of them together.
    pub time: Duration,
    /// Requests that were not answered in time.
    pub timeouts: u64,
    /// The most requests that were seen in flight.
    pub busiest: u32,
}

/// How long a window is at least.
pub const WINDOW: Duration = Duration::from_secs(1);

/// Answers without which a window says nothing.
const ANSWERS: u64 = 10;

/// Answers by which the time without load is known.
const SAMPLES: u64 = 50;

/// How long they are waited for where so many do not come.
const PATIENCE: Duration = Duration::from_secs(5);

/// So many windows in a row at the least ceiling are a sign that the time without load is not what it was.
const AT_MIN: u32 = 5;

/// The problem: nobody knows what ceiling is right for an endpoint, and what is right today is wrong after its next release.
/// Why this answer: Envoy's gradient controller (its adaptive concurrency filter; the idea is Netflix's concurrency limits):
/// the time to an answer without load is measured from time to time, with the ceiling as low as it gets; from then on each
/// window multiplies the ceiling by how the time now compares to that, by a half at least and twice at most, and adds its
/// square root, which is what may wait inside the endpoint. It cannot creep up with a slow endpoint, as those can that learn
/// what is normal while it is loaded. Beside Envoy's rule the ceiling grows only where half of it is used, so that a
/// quiet night does not open it, and timeouts, which are no answers, lower it by a tenth. When wrong: requests whose
/// times differ by nature (a search beside a lookup) look like load; they belong into pools of their own. Measuring makes
/// requests wait for a moment that would not have had to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gradient {
    limit: f64,
    /// The time to an answer without load, in seconds; nothing until it is measured.
    baseline: Option<f64>,
    measuring: Option<Measuring>,
    /// When it is measured next.
    next: Duration,
    at_min: u32,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Measuring {
    since: Duration,
    answers: u64,
    time: Duration,
}

impl Gradient {
    /// One that begins to measure at `now`.
    #[must_use]
    pub fn new(settings: &Settings, now: Duration) -> Self {
        let mut new =
            Self { limit: f64::from(settings.min), baseline: None, measuring: None, next: now, at_min: 0 };
        new.measure(now);
        new
    }

    /// The ceiling now.
    #[must_use]
    pub fn ceiling(&self, settings: &Settings, max: u32) -> u32 {
        if self.measuring.is_some() {
            return settings.min.min(max);
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it lies between two u32"
        )]
        let limit = self.limit as u32;
        limit.clamp(settings.min.min(max), max)
    }

    /// The time to an answer without load, where it is known.
    #[must_use]
    pub fn baseline(&self) -> Option<Duration> {
        self.baseline.map(Duration::from_secs_f64)
    }

    /// Takes what a window has shown, where it shows enough; `random` is from 0 to 1. Whether it was taken, so that the next
    /// window may begin.
    pub fn observe(
        &mut self,
        settings: &Settings,
        max: u32,
        window: &Window,
        random: f64,
        now: Duration,
    ) -> bool {
        if let Some(measuring) = &mut self.measuring {
            // What was let in before the ceiling fell is answered under load. What stays for longer than that is no such
            // thing, as a long download is.
            if window.busiest > settings.min && now.saturating_sub(measuring.since) < PATIENCE {
                return true;
            }
            measuring.answers += window.answers;
            measuring.time += window.time;
            let Measuring { since, answers, time } = *measuring;
            let late = now.saturating_sub(since) >= PATIENCE && answers >= ANSWERS / 2;
            if answers >= SAMPLES || late {
                self.baseline = Some(mean(time, answers));
                self.measuring = None;
                // A little apart, so that not all endpoints measure at once.
                self.next = now.saturating_add(settings.baseline_every.mul_f64(1.0 + 0.15 * random));
            }
            return true;
        }
        if window.timeouts > 0 && window.timeouts * 10 >= window.answers {
            self.set(settings, max, self.limit * 0.9);
        } else if window.answers < ANSWERS {
            return false;
        } else if let Some(baseline) = self.baseline {
            let gradient = baseline * (1.0 + settings.headroom) / mean(window.time, window.answers);
            let gradient = if gradient.is_finite() { gradient.clamp(0.5, 2.0) } else { 2.0 };
            let limit = self.limit * gradient;
            let limit = limit + limit.sqrt();
            if limit < self.limit || f64::from(window.busiest) * 2.0 >= self.limit {
                self.set(settings, max, limit);
            }
        }
        if now >= self.next || self.at_min >= AT_MIN {
            self.measure(now);
        }
        true
    }

    fn set(&mut self, settings: &Settings, max: u32, limit: f64) {
        let (least, most) = (f64::from(settings.min.min(max)), f64::from(max));
        self.limit = limit.clamp(least, most);
        self.at_min = if self.limit <= least { self.at_min + 1 } else { 0 };
    }

    const fn measure(&mut self, now: Duration) {
        self.measuring = Some(Measuring { since: now, answers: 0, time: Duration::ZERO });
        self.at_min = 0;
    }
}

#[expect(clippy::cast_precision_loss, reason = "answers of a window are far below 2^53")]
fn mean(time: Duration, answers: u64) -> f64 {
    time.as_secs_f64() / answers.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Settings = Settings { min: 3, baseline_every: Duration::from_secs(60), headroom: 0.25 };
    const MAX: u32 = 1000;

    /// An endpoint that does so many requests at once, each in the time of one; more of them share it evenly.
    struct Machine {
        at_once: u32,
        micros: u64,
        gradient: Gradient,
        second: u64,
        noise: u64,
    }

    impl Machine {
        fn new(at_once: u32, micros: u64) -> Self {
            let gradient = Gradient::new(&SETTINGS, Duration::ZERO);
            Self { at_once, micros, gradient, second: 0, noise: 7 }
        }

        /// Clients that would have so many in flight if they were let, for so many seconds; the ceilings and the times to an
        /// answer in microseconds, where it was not measuring.
        fn run(&mut self, wanted: u32, seconds: u64) -> Vec<(u32, u64)> {
            let mut seen = Vec::new();
            for _ in 0..seconds {
                self.second += 1;
                let measuring = self.gradient.measuring.is_some();
                let ceiling = self.gradient.ceiling(&SETTINGS, MAX);
                let busiest = wanted.min(ceiling);
                // Up to a tenth more or less, from a fixed sequence.
                self.noise = self.noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let noise = 900 + (self.noise >> 33) % 200;
                let took = self.micros * u64::from(busiest.max(self.at_once)) / u64::from(self.at_once);
                let took = took * noise / 1000;
                let answers = u64::from(busiest) * 1_000_000 / took;
                let time = Duration::from_micros(took) * u32::try_from(answers).expect("few");
                let window = Window { answers, time, timeouts: 0, busiest };
                let now = Duration::from_secs(self.second);
                self.gradient.observe(&SETTINGS, MAX, &window, 0.5, now);
                if !measuring {
                    seen.push((ceiling, took));
                }
            }
            seen
        }
    }

    fn all_within(seen: &[(u32, u64)], ceilings: std::ops::RangeInclusive<u32>, micros: u64) {
        for (ceiling, took) in seen {
            assert!(ceilings.contains(ceiling) && *took <= micros, "{ceiling} {took}: {seen:?}");
        }
    }

    #[test]
    fn under_overload_it_finds_what_the_endpoint_can_do_and_stays_there() {
        let mut machine = Machine::new(20, 10_000);
        machine.run(500, 20);
        // 1.25 times 20 and a square root of that: hardly slower than without load, and never idle.
        all_within(&machine.run(500, 600), 20..=45, 25_000);
    }

    #[test]
    fn what_the_endpoint_loses_or_gains_is_followed_within_seconds() {
        let mut machine = Machine::new(40, 10_000);
        machine.run(500, 30);
        machine.at_once = 10;
        machine.run(500, 10);
        all_within(&machine.run(500, 100), 10..=25, 27_000);
        machine.at_once = 40;
        machine.run(500, 10);
        all_within(&machine.run(500, 100), 40..=80, 22_000);
    }

    #[test]
    fn a_release_that_is_slower_by_nature_is_measured_anew() {
        let mut machine = Machine::new(20, 10_000);
        machine.run(500, 30);
        machine.micros = 50_000;
        let seen = machine.run(500, 30);
        assert!(
            seen.iter().any(|(ceiling, _)| *ceiling == SETTINGS.min),
            "first it looks like load: {seen:?}"
        );
        all_within(&machine.run(500, 20), 15..=45, 130_000);
        assert!(machine.gradient.baseline() > Some(Duration::from_millis(40)));
    }

    #[test]
    fn a_quiet_time_does_not_open_it() {
        let mut machine = Machine::new(20, 10_000);
        machine.run(4, 200);
        assert!(machine.gradient.ceiling(&SETTINGS, MAX) <= 16);
    }

    #[test]
    fn timeouts_lower_it_though_they_are_no_answers() {
        let mut machine = Machine::new(20, 10_000);
        machine.run(500, 20);
        let before = machine.gradient.ceiling(&SETTINGS, MAX);
        let window = Window { timeouts: 5, busiest: before, ..Window::default() };
        for second in 21..26 {
            assert!(machine.gradient.observe(&SETTINGS, MAX, &window, 0.0, Duration::from_secs(second)));
        }
        assert!(machine.gradient.ceiling(&SETTINGS, MAX) <= before * 2 / 3);
    }

    #[test]
    fn what_was_under_way_before_says_nothing_of_the_time_without_load() {
        let mut gradient = Gradient::new(&SETTINGS, Duration::ZERO);
        let mut window = |answers: u64, millis: u64, busiest, second| {
            let time = Duration::from_millis(answers * millis);
            let window = Window { answers, time, timeouts: 0, busiest };
            assert!(gradient.observe(&SETTINGS, MAX, &window, 0.0, Duration::from_secs(second)));
            gradient.baseline()
        };
        assert_eq!(window(300, 100, 200, 1), None);
        assert_eq!(window(300, 10, SETTINGS.min, 2), Some(Duration::from_millis(10)));
        let mut gradient = Gradient::new(&SETTINGS, Duration::ZERO);
        let busy = Window { answers: 300, time: Duration::from_secs(3), timeouts: 0, busiest: 50 };
        for second in 1..=5 {
            assert!(gradient.baseline().is_none());
            assert!(gradient.observe(&SETTINGS, MAX, &busy, 0.0, Duration::from_secs(second)));
        }
        assert_eq!(gradient.baseline(), Some(Duration::from_millis(10)), "what never ends is not waited for");
    }

    #[test]
    fn too_few_answers_say_nothing() {
        let mut machine = Machine::new(20, 10_000);
        machine.run(500, 20);
        let before = machine.gradient;
        let window = Window { answers: 9, time: Duration::from_secs(90), timeouts: 0, busiest: 9 };
        assert!(!machine.gradient.observe(&SETTINGS, MAX, &window, 0.0, Duration::from_secs(21)));
        assert_eq!(machine.gradient, before);
    }
}
