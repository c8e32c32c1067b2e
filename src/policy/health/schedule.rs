//! When a target is asked: where its first probe lies, and how an interval is drawn.

use std::time::Duration;

/// The distance between the first probes of two targets while there are few of them.
const START_STEP: Duration = Duration::from_millis(5);

/// All first probes lie within this.
const START_WITHIN: Duration = Duration::from_secs(1);

/// An interval drawn evenly from `1 - jitter` to `1 + jitter` of itself, both ends included (`HAProxy`'s
/// `spread-checks`, which is symmetrical, so that the mean stays what was asked for; Envoy's only adds).
///
/// `random` is any 64 even bits; a jitter outside of 0 to 1 counts as the nearer end.
#[must_use]
pub fn jittered(interval: Duration, jitter: f64, random: u64) -> Duration {
    let spread = spread(interval, jitter);
    let width = u128::from(nanos(spread)) * 2 + 1;
    let drawn = u64::try_from((width * u128::from(random)) >> 64).unwrap_or(u64::MAX);
    interval.saturating_sub(spread).saturating_add(Duration::from_nanos(drawn))
}

/// The longest interval that [`jittered`] can draw.
#[must_use]
pub fn longest(interval: Duration, jitter: f64) -> Duration {
    interval.saturating_add(spread(interval, jitter))
}

fn spread(interval: Duration, jitter: f64) -> Duration {
    // `as` takes what is no number for 0.
    Duration::from_nanos((nanos(interval) as f64 * jitter.clamp(0.0, 1.0)) as u64)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// How long after the start the first probe of the `index`-th of `count` targets begins.
///
/// The problem: a target is unproven until its first probe, so that must be at once; but ten thousand at once are a
/// burst that makes our own loops late, and then they stay in step. Why this answer: the first probes lie 5 ms apart, and
/// closer when that would take more than one second or one interval. A pool of three has its first results as if
/// nothing was spread, the largest configuration within a second. When wrong: `HAProxy` spreads over a whole interval,
/// which is kinder to one machine behind many names, but leaves endpoints unproven for as long.
#[must_use]
pub fn start_offset(index: usize, count: usize, interval: Duration) -> Duration {
    let places = u32::try_from(count).unwrap_or(u32::MAX).max(1);
    let place = u32::try_from(index).unwrap_or(u32::MAX).min(places - 1);
    let window = interval.min(START_WITHIN).min(START_STEP.saturating_mul(places));
    let offset = window.as_nanos() * u128::from(place) / u128::from(places);
    Duration::from_nanos(u64::try_from(offset).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn five_percent_of_two_seconds_stay_within_1900_and_2100_ms() {
        let draw = |random| jittered(Duration::from_secs(2), 0.05, random);
        assert_eq!(draw(0), Duration::from_millis(1900));
        assert_eq!(draw(u64::MAX), Duration::from_millis(2100));
        let middle = draw(u64::MAX / 2).as_secs_f64();
        assert!((middle - 2.0).abs() < 1e-6, "{middle}");
        assert_eq!(longest(Duration::from_secs(2), 0.05), Duration::from_millis(2100));
    }

    #[test]
    fn first_probes_of_a_small_pool_are_almost_at_once() {
        let offset = |index| start_offset(index, 3, Duration::from_secs(2));
        assert_eq!([0, 1, 2].map(offset), [0, 5, 10].map(Duration::from_millis));
    }

    #[test]
    fn first_probes_of_many_are_spread_over_a_second_or_the_interval() {
        let last = |count, interval| start_offset(count - 1, count, interval);
        assert_eq!(last(10_000, Duration::from_secs(30)), Duration::from_micros(999_900));
        assert_eq!(last(10_000, Duration::from_millis(100)), Duration::from_micros(99_990));
    }

    proptest! {
        #[test]
        fn a_drawn_interval_keeps_to_its_bounds(
            millis in 0u64..10_000_000,
            jitter in prop_oneof![0.0..1.0f64, Just(f64::NAN), Just(-1.0), Just(7.0)],
            random: u64,
        ) {
            let interval = Duration::from_millis(millis);
            let drawn = jittered(interval, jitter, random);
            prop_assert!(drawn <= longest(interval, jitter));
            prop_assert!(drawn + (longest(interval, jitter) - interval) >= interval);
            prop_assert!(drawn <= interval * 2);
        }

        #[test]
        fn first_probes_come_in_order_and_within_the_second(
            count in 1usize..20_000, at in 0usize..20_000, millis in 1u64..100_000,
        ) {
            let interval = Duration::from_millis(millis);
            let index = at % count;
            let offset = start_offset(index, count, interval);
            prop_assert!(offset < interval.min(Duration::from_secs(1)));
            prop_assert!(index == 0 || start_offset(index - 1, count, interval) <= offset);
        }
    }
}
