//! Flap damping: a target that falls again and again is held down for a while, visibly.

use std::time::Duration;

use super::Damping;

/// The problem: a target that comes and goes every few seconds passes its probes in between, and each return costs its
/// clients connections, sessions and warm caches. Why this answer: the model of BGP (RFC 2439, section 4): each fall adds
/// 1 to a penalty that halves every `half_life`; at `suppress` the target is held down until the penalty has decayed to
/// `reuse`, so that one fall costs nothing and a habit costs minutes. When wrong: where capacity is scarce, an endpoint
/// that works every other minute is better than none; therefore damping is off unless asked for, and it never holds for
/// longer than `max_time`.
///
/// A fall while suppressed adds to the penalty, but the suppression still ends `max_time` after it began, with the
/// penalty then at `reuse`: a target that goes on flapping is suppressed anew at one of its next falls.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Penalty {
    /// As it was at `at`.
    value: f64,
    at: Duration,
    /// When the suppression began and when it ends; it stays after its end until the next fall.
    suppressed: Option<(Duration, Duration)>,
}

impl Penalty {
    /// Counts a fall at `now`.
    pub fn fell(&mut self, damping: &Damping, now: Duration) {
        let running = match self.suppressed {
            Some((since, until)) if now < until => Some(since),
            Some((_, until)) => {
                // From the end on it decays from `reuse`, which it had reached or was set to.
                let reached = self.value_at(damping, until);
                self.value = reached.min(damping.reuse.max(0.0));
                self.at = until;
                None
            }
            None => None,
        };
        self.suppressed = None;
        self.value = self.value_at(damping, now) + 1.0;
        self.at = now;
        if running.is_some() || self.value >= damping.suppress {
            let since = running.unwrap_or(now);
            let until = now.saturating_add(self.decay_time(damping));
            self.suppressed = Some((since, until.min(since.saturating_add(damping.max_time))));
        }
    }

    /// As numbers, for another process: the value, when it was that, and when the suppression began and ends.
    #[must_use]
    pub const fn parts(&self) -> (f64, Duration, Option<(Duration, Duration)>) {
        (self.value, self.at, self.suppressed)
    }

    /// From these numbers; what is no penalty is none.
    #[must_use]
    pub fn from_parts(value: f64, at: Duration, suppressed: Option<(Duration, Duration)>) -> Self {
        if value.is_finite() && value >= 0.0 { Self { value, at, suppressed } } else { Self::default() }
    }

    /// When the running or last suppression ends.
    #[must_use]
    pub fn suppressed_until(&self) -> Option<Duration> {
        self.suppressed.map(|(_, until)| until)
    }

    /// The penalty at `now`, not before the last fall.
    #[must_use]
    pub fn value_at(&self, damping: &Damping, now: Duration) -> f64 {
        let passed = now.saturating_sub(self.at);
        if passed.is_zero() || self.value <= 0.0 {
            return self.value;
        }
        if damping.half_life.is_zero() {
            return 0.0;
        }
        self.value * (-passed.div_duration_f64(damping.half_life)).exp2()
    }

    /// How long the penalty takes to decay to `reuse`, at most `max_time`.
    fn decay_time(&self, damping: &Damping) -> Duration {
        let half_lives = (self.value / damping.reuse).log2();
        let seconds = damping.half_life.as_secs_f64() * half_lives.max(0.0);
        // A `reuse` of 0 is never reached.
        Duration::try_from_secs_f64(seconds).map_or(damping.max_time, |time| time.min(damping.max_time))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAMPING: Damping = Damping {
        half_life: Duration::from_secs(60),
        suppress: 2.5,
        reuse: 0.75,
        max_time: Duration::from_secs(300),
    };

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn rare_falls_are_never_suppressed() {
        let mut penalty = Penalty::default();
        for fall in 0..100 {
            penalty.fell(&DAMPING, seconds(fall * 60));
            assert_eq!(penalty.suppressed_until(), None, "fall {fall}");
        }
    }

    #[test]
    fn falls_in_a_row_are_suppressed_until_the_penalty_has_decayed() {
        let damping = Damping { suppress: 3.0, ..DAMPING };
        let mut penalty = Penalty::default();
        penalty.fell(&damping, seconds(10));
        penalty.fell(&damping, seconds(10));
        assert_eq!(penalty.suppressed_until(), None);
        penalty.fell(&damping, seconds(10));
        // 3 to 0.75 are two half-lives.
        assert_eq!(penalty.suppressed_until(), Some(seconds(130)));
        assert!((penalty.value_at(&damping, seconds(130)) - 0.75).abs() < 1e-9);
    }

    #[test]
    fn a_half_life_halves_the_penalty() {
        let mut penalty = Penalty::default();
        penalty.fell(&DAMPING, seconds(0));
        assert!((penalty.value_at(&DAMPING, seconds(60)) - 0.5).abs() < 1e-12);
        penalty.fell(&DAMPING, seconds(60));
        assert!((penalty.value_at(&DAMPING, seconds(60)) - 1.5).abs() < 1e-12);
    }

    #[test]
    fn falls_while_suppressed_lengthen_it_but_not_beyond_the_longest_time() {
        let mut penalty = Penalty::default();
        for at in 0..100 {
            penalty.fell(&DAMPING, seconds(at));
        }
        // It began with the third fall, at 2 s.
        assert_eq!(penalty.suppressed_until(), Some(seconds(302)));
    }

    #[test]
    fn after_the_longest_time_a_target_starts_from_the_reuse_limit() {
        let mut penalty = Penalty::default();
        for at in 0..300 {
            penalty.fell(&DAMPING, seconds(at));
        }
        penalty.fell(&DAMPING, seconds(302));
        assert!((penalty.value_at(&DAMPING, seconds(302)) - 1.75).abs() < 1e-9);
        assert_eq!(penalty.suppressed_until(), None);
    }

    proptest! {
        #[test]
        fn no_suppression_lasts_longer_than_the_longest_time(
            half_life in 0u64..1000, suppress in 0.0..10.0f64, reuse in 0.0..10.0f64, max_time in 0u64..1000,
            gaps in prop::collection::vec(0u64..200, 1..60),
        ) {
            let damping = Damping {
                half_life: seconds(half_life), suppress, reuse, max_time: seconds(max_time),
            };
            let mut penalty = Penalty::default();
            let mut now = Duration::ZERO;
            let mut began: Option<Duration> = None;
            for gap in gaps {
                now += seconds(gap);
                let was_running = penalty.suppressed_until().is_some_and(|until| now < until);
                penalty.fell(&damping, now);
                if !was_running {
                    began = Some(now);
                }
                if let (Some(until), Some(began)) = (penalty.suppressed_until(), began) {
                    prop_assert!(until <= began + damping.max_time);
                }
                prop_assert!(penalty.value_at(&damping, now).is_finite());
            }
        }
    }
}
