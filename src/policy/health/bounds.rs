//! How long it takes at worst to notice what happened to an endpoint: the figures that `plimsoll check` prints, and that
//! the simulation holds us to.

use std::time::Duration;

use super::Settings;
use super::schedule::longest;

/// Worst cases of one pool's probes, with every interval drawn at its longest.
///
/// They count from the moment at which the endpoint changes, seen from the worst one: just after it had answered the
/// last probe of its old self. A probe that is answered, or refused, is taken to need `answer`; one that is not answered
/// needs the whole timeout, which covers connect, TLS and answer together. Not in them: damping, which may hold an
/// endpoint for its `max_time`, and probes that are void because of ourselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Until an endpoint that refuses, or says no, is down.
    pub refused: Duration,
    /// Until an endpoint that swallows everything is down.
    pub silent: Duration,
    /// Until an endpoint that works again is up.
    pub recovery: Duration,
    /// Until the promotion of another leader of an exclusive pool is seen: its first good answer is enough.
    pub promotion: Duration,
}

impl Bounds {
    /// The worst cases under these settings, for probes that are answered within `answer` when they are answered.
    #[must_use]
    pub fn new(settings: &Settings, answer: Duration) -> Self {
        let interval = longest(settings.interval, settings.jitter);
        let fast = longest(settings.fast_interval, settings.jitter);
        let down = longest(settings.down_interval, settings.jitter);
        let answer = answer.min(settings.timeout);
        let (rise, fall) = (settings.rise.max(1), settings.fall.max(1));
        // The last answer of the old self is still on its way, and each wait follows the end of a probe.
        let runs = |wait: Duration, probe: Duration, count: u32| {
            let waits = wait.saturating_add(fast.saturating_mul(count - 1));
            waits.saturating_add(probe.saturating_mul(count))
        };
        Self {
            refused: answer.saturating_add(runs(interval, answer, fall)),
            silent: answer.saturating_add(runs(interval, settings.timeout, fall)),
            // The probe under way when it came back may still fail, at its timeout.
            recovery: settings.timeout.saturating_add(runs(down, answer, rise)),
            // A member that follows is down, or in doubt about that.
            promotion: answer.saturating_add(runs(down.max(fast), answer, 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Health, State, Verdict};
    use super::*;

    /// The contract's defaults.
    fn defaults() -> Settings {
        Settings {
            rise: 2,
            fall: 3,
            interval: Duration::from_secs(2),
            fast_interval: Duration::from_millis(500),
            down_interval: Duration::from_secs(2),
            timeout: Duration::from_millis(2500),
            jitter: 0.1,
            damping: None,
        }
    }

    #[test]
    fn the_defaults_notice_within_these_times() {
        let bounds = Bounds::new(&defaults(), Duration::ZERO);
        assert_eq!(bounds.refused, Duration::from_millis(2200 + 2 * 550));
        assert_eq!(bounds.silent, Duration::from_millis(2200 + 2 * 550 + 3 * 2500));
        assert_eq!(bounds.recovery, Duration::from_millis(2500 + 2200 + 550));
        assert_eq!(bounds.promotion, Duration::from_millis(2200));
    }

    #[test]
    fn a_promotion_is_seen_within_three_seconds_by_default() {
        let bounds = Bounds::new(&defaults(), Duration::from_millis(400));
        assert_eq!(bounds.promotion, Duration::from_secs(3));
    }

    #[test]
    fn absurd_settings_saturate() {
        let settings =
            Settings { fall: u32::MAX, interval: Duration::MAX, timeout: Duration::MAX, ..defaults() };
        assert_eq!(Bounds::new(&settings, Duration::ZERO).silent, Duration::MAX);
    }

    /// What an endpoint does from a moment on, against a prober that follows the schedule of its `Health`: how long
    /// until the wanted state is shown.
    fn time_until(
        settings: &Settings,
        answer: Duration,
        (before, after): (Verdict, Verdict),
        change_at: Duration,
        random: &mut fastrand::Rng,
    ) -> Duration {
        let mut health = Health::new(settings.clone());
        let takes = |verdict| if verdict == Verdict::CannotBeAsked { settings.timeout } else { answer };
        let wanted_up = after == Verdict::Good;
        let mut now = Duration::ZERO;
        loop {
            // A probe that was under way at the change gives the old result.
            let verdict = if now < change_at { before } else { after };
            now += takes(verdict);
            health.observe(verdict, now);
            if now >= change_at && (health.state() == State::Up) == wanted_up {
                return now - change_at;
            }
            now += health.next_interval(random.u64(..));
        }
    }

    proptest! {
        #[test]
        fn no_schedule_exceeds_the_bounds(
            rise in 1u32..5, fall in 1u32..5, jitter in 0.0..0.5f64, times in prop::array::uniform5(1u64..3000),
            change_at in 0u64..20_000, seed: u64,
        ) {
            let [interval, fast_interval, down_interval, timeout, answer] = times.map(Duration::from_millis);
            let answer = answer.min(timeout);
            let settings = Settings {
                rise, fall, interval, fast_interval: fast_interval.min(interval), down_interval, timeout, jitter,
                damping: None,
            };
            let bounds = Bounds::new(&settings, answer);
            let mut random = fastrand::Rng::with_seed(seed);
            // After the first result, which decides alone.
            let change_at = timeout + Duration::from_millis(change_at);
            let mut takes = |change| time_until(&settings, answer, change, change_at, &mut random);
            prop_assert!(takes((Verdict::Good, Verdict::SaysNo)) <= bounds.refused);
            prop_assert!(takes((Verdict::Good, Verdict::CannotBeAsked)) <= bounds.silent);
            prop_assert!(takes((Verdict::CannotBeAsked, Verdict::Good)) <= bounds.recovery);
            prop_assert!(takes((Verdict::SaysNo, Verdict::Good)) <= bounds.recovery);
        }
    }
}
