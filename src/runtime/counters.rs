//! Counters that one worker writes and a scrape sums: no read-modify-write, no sharing of cache lines.
//!
//! Each identity (listener, pool, endpoint) owns a block per worker, so blocks follow the identity over reloads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Index of a worker, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerId(pub usize);

/// A number that only grows, written by one worker only.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    #[inline]
    pub fn one(&self) {
        self.add(1);
    }

    /// Adds `n`. Only the owning worker may call this: load and store are not one step.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Takes `n` away; for gauges that are kept per worker.
    #[inline]
    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(n), Ordering::Relaxed);
    }

    /// The number as any thread sees it.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What has ended, by class of the status that the client got.
#[derive(Debug, Default)]
pub struct Statuses {
    classes: [Counter; 5],
    none: Counter,
}

impl Statuses {
    /// Words for the classes, as [`Statuses::counter`] takes them.
    pub const WORDS: [&'static str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "none"];

    /// Counts one that ended with `status`; 0 where there was none to give.
    #[inline]
    pub fn count(&self, status: u16) {
        self.classes.get(usize::from(status / 100).wrapping_sub(1)).unwrap_or(&self.none).one();
    }

    /// The counter behind a word of [`Statuses::WORDS`].
    #[must_use]
    pub fn counter(&self, word: usize) -> &Counter {
        self.classes.get(word).unwrap_or(&self.none)
    }
}

/// Upper bounds of the buckets of every latency histogram, in seconds; one more bucket is open.
pub const LATENCY_BOUNDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

const LATENCY_BOUNDS_MICROS: [u64; LATENCY_BOUNDS.len()] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    10_000_000, 60_000_000,
];

/// A latency histogram with the bounds of [`LATENCY_BOUNDS`], written by one worker only.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Counter; LATENCY_BOUNDS.len() + 1],
    sum_micros: Counter,
}

impl Histogram {
    /// Counts one observation.
    #[inline]
    pub fn observe(&self, value: Duration) {
        let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
        let bucket =
            LATENCY_BOUNDS_MICROS.iter().position(|&bound| micros <= bound).unwrap_or(LATENCY_BOUNDS.len());
        if let Some(counter) = self.buckets.get(bucket) {
            counter.one();
        }
        self.sum_micros.add(micros);
    }
}

/// One block of counters per worker, each on cache lines of its own.
#[derive(Debug)]
pub struct PerWorker<T>(Box<[Padded<T>]>);

// 128: the adjacent-line prefetcher of x86-64 pulls lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

impl<T: Default> PerWorker<T> {
    /// Blocks for `workers` workers, at least one.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self((0..workers.max(1)).map(|_| Padded::default()).collect())
    }

    /// The block of one worker.
    #[inline]
    #[must_use]
    pub fn of(&self, worker: WorkerId) -> &T {
        &self.0[worker.0 % self.0.len()].0
    }

    /// The blocks of all workers.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|block| &block.0)
    }

    /// The sum of one counter over all workers.
    pub fn sum(&self, counter: impl Fn(&T) -> &Counter) -> u64 {
        self.0.iter().fold(0u64, |sum, block| sum.wrapping_add(counter(&block.0).get()))
    }

    /// The sums of one histogram over all workers: counts per bucket (not cumulative) and seconds in all.
    pub fn sum_histogram(&self, histogram: impl Fn(&T) -> &Histogram) -> (Vec<u64>, f64) {
        let mut counts = vec![0u64; LATENCY_BOUNDS.len() + 1];
        let mut micros = 0u64;
        for block in &self.0 {
            let histogram = histogram(&block.0);
            for (count, bucket) in counts.iter_mut().zip(&histogram.buckets) {
                *count = count.wrapping_add(bucket.get());
            }
            micros = micros.wrapping_add(histogram.sum_micros.get());
        }
        // Precision beyond 2^53 microseconds (285 years) is of no use.
        #[expect(clippy::cast_precision_loss, reason = "sums stay far below 2^53")]
        (counts, micros as f64 / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Block {
        requests: Counter,
        latency: Histogram,
    }

    #[test]
    fn blocks_are_summed_over_workers() {
        let blocks = PerWorker::<Block>::new(2);
        blocks.of(WorkerId(0)).requests.add(3);
        blocks.of(WorkerId(1)).requests.one();
        assert_eq!(blocks.sum(|b| &b.requests), 4);
    }

    #[test]
    fn an_observation_falls_into_the_first_bucket_that_holds_it() {
        let blocks = PerWorker::<Block>::new(1);
        let latency = &blocks.of(WorkerId(0)).latency;
        latency.observe(Duration::from_micros(500));
        latency.observe(Duration::from_micros(501));
        latency.observe(Duration::from_secs(3600));
        let (counts, seconds) = blocks.sum_histogram(|b| &b.latency);
        assert_eq!((counts[0], counts[1], counts[LATENCY_BOUNDS.len()]), (1, 1, 1));
        assert!((seconds - 3_600.001_001).abs() < 1e-6);
    }
}
