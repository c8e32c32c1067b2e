//! How long an endpoint's answers take, as a histogram that forgets: what hedging waits for. It counts; who waits for
//! what is `hedge`'s.

use std::time::Duration;

/// Steps for each doubling: a bucket's upper edge is at most an eighth above what is in it.
const STEPS: u32 = 8;

/// The first bucket ends here, in microseconds.
const FIRST: u64 = 64;

/// Doublings that are told apart: up to 64 us x 2^21, two and a quarter minutes. What takes longer is in the last.
const DOUBLINGS: u32 = 21;

/// How many buckets there are. Each worker has a counter that only grows for each of them, so that observing is one
/// relaxed addition; a tick sums these and hands them to [`Latencies::absorb`].
pub const BUCKETS: usize = (STEPS * DOUBLINGS + 1) as usize;

/// The bucket of a latency.
#[must_use]
pub fn bucket(latency: Duration) -> usize {
    let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1);
    if micros <= FIRST {
        return 0;
    }
    // Edges belong to the bucket below them, hence the one less.
    let over = micros - 1;
    let doubling = over.ilog2() - FIRST.ilog2();
    let step = (over >> (over.ilog2() - STEPS.ilog2())) - u64::from(STEPS);
    let bucket = u64::from(doubling) * u64::from(STEPS) + step + 1;
    usize::try_from(bucket).unwrap_or(usize::MAX).min(BUCKETS - 1)
}

/// The longest latency that is in a bucket (the last one has no end: what is told is where its last step would).
#[must_use]
pub fn upper_edge(bucket: usize) -> Duration {
    let Some(above) = bucket.min(BUCKETS - 1).checked_sub(1) else { return Duration::from_micros(FIRST) };
    let (doubling, step) = (above / STEPS as usize, above % STEPS as usize);
    Duration::from_micros((FIRST << doubling) / u64::from(STEPS) * (u64::from(STEPS) + step as u64 + 1))
}

/// What latencies were lately: counts that halve at every interval, so that the last two or three intervals decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latencies {
    counts: [u64; BUCKETS],
    /// The growing counters as they were last summed.
    seen: [u64; BUCKETS],
}

impl Latencies {
    /// Nothing known yet, of counters that stand at `seen`.
    #[must_use]
    pub fn new(seen: [u64; BUCKETS]) -> Self {
        Self { counts: [0; BUCKETS], seen }
    }

    /// Adds one latency, where one thread keeps them all.
    pub fn observe(&mut self, latency: Duration) {
        let count = &mut self.counts[bucket(latency)];
        *count = count.saturating_add(1);
    }

    /// Adds what the workers' counters, summed, have grown by since the last time.
    pub fn absorb(&mut self, sums: &[u64; BUCKETS]) {
        for ((count, seen), sum) in self.counts.iter_mut().zip(&mut self.seen).zip(sums) {
            *count = count.saturating_add(sum.saturating_sub(*seen));
            *seen = *sum;
        }
    }

    /// An interval is over: what was counts half from now on.
    pub fn halve(&mut self) {
        for count in &mut self.counts {
            *count /= 2;
        }
    }

    /// How many answers stayed within each bucket's upper edge: what [`quantile`] reads.
    #[must_use]
    pub fn cumulated(&self) -> [u64; BUCKETS] {
        let mut sum = 0_u64;
        self.counts.map(|count| {
            sum = sum.saturating_add(count);
            sum
        })
    }
}

/// The latency that this share of answers (from 0 to 1) stayed within, at most an eighth too long; nothing while there
/// are too few to tell: for 0.95 it takes twenty, for 0.99 a hundred, and never under ten.
///
/// `within` says how many stayed within the upper edge of a bucket, as [`Latencies::cumulated`] does.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts that halve stay far below 2^52")]
pub fn quantile(share: f64, within: impl Fn(usize) -> u64) -> Option<Duration> {
    let share = share.clamp(0.0, 1.0);
    let total = within(BUCKETS - 1) as f64;
    // Rounded up, less what a share such as 0.99 is off in binary.
    let needed = (1.0 / (1.0 - share).max(1e-6) - 1e-6).ceil().max(10.0);
    if total < needed {
        return None;
    }
    let rank = (total * share).max(1.0);
    let (mut low, mut high) = (0, BUCKETS - 1);
    while low < high {
        let middle = low.midpoint(high);
        if within(middle) as f64 >= rank {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Some(upper_edge(low))
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new([0; BUCKETS])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn told(latencies: &Latencies, share: f64) -> Option<Duration> {
        let within = latencies.cumulated();
        quantile(share, |bucket| within[bucket])
    }

    fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    #[test]
    fn buckets_meet_at_their_edges() {
        assert_eq!(bucket(Duration::ZERO), 0);
        for index in 0..BUCKETS - 1 {
            let edge = upper_edge(index);
            assert_eq!(bucket(edge), index, "{edge:?}");
            assert_eq!(bucket(edge + micros(1)), index + 1, "just above {edge:?}");
        }
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
        assert!(upper_edge(BUCKETS - 1) > Duration::from_secs(120));
    }

    #[test]
    fn nothing_is_said_of_too_few() {
        let mut latencies = Latencies::default();
        for count in 1..=100 {
            latencies.observe(micros(1_000));
            assert_eq!(told(&latencies, 0.5).is_some(), count >= 10, "{count}");
            assert_eq!(told(&latencies, 0.95).is_some(), count >= 20, "{count}");
            assert_eq!(told(&latencies, 0.99).is_some(), count >= 100, "{count}");
        }
    }

    #[test]
    fn a_new_level_shows_after_a_few_intervals() {
        let mut latencies = Latencies::default();
        let mut sums = [0; BUCKETS];
        sums[bucket(micros(1_000))] = 100_000;
        latencies.absorb(&sums);
        assert_eq!(told(&latencies, 0.95), Some(micros(1_024)));
        for _ in 0..4 {
            latencies.halve();
            sums[bucket(micros(50_000))] += 10_000;
            latencies.absorb(&sums);
        }
        assert!(told(&latencies, 0.95) > Some(micros(50_000)), "{:?}", told(&latencies, 0.95));
        for _ in 0..20 {
            latencies.halve();
        }
        assert_eq!(told(&latencies, 0.5), None, "what is old is forgotten");
    }

    #[test]
    fn counters_from_before_it_began_say_nothing() {
        let mut latencies = Latencies::new([1_000; BUCKETS]);
        latencies.absorb(&[1_000; BUCKETS]);
        assert_eq!(told(&latencies, 0.5), None);
    }

    proptest! {
        /// Against the sorted list: never too short, and at most an eighth too long.
        #[test]
        fn a_quantile_is_near_that_of_the_list(
            mut values in prop::collection::vec(65_u64..60_000_000, 20..500),
            share in 0.05_f64..0.95,
        ) {
            let mut latencies = Latencies::default();
            for value in &values {
                latencies.observe(micros(*value));
            }
            values.sort_unstable();
            let rank = (values.len() as f64 * share).ceil() as usize;
            let exact = micros(values[rank.max(1) - 1]);
            let told = told(&latencies, share).unwrap();
            prop_assert!(told >= exact && told <= exact.mul_f64(1.126), "{told:?} for {exact:?}");
        }
    }
}
