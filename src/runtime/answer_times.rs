//! How long the answers of a pool take, kept only where requests are hedged: workers count, the keeper's tick makes
//! counts that forget of it, and whoever sends a request reads a quantile. What is done at that time is `policy::hedge`'s.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::counters::{Counter, PerWorker, WorkerId};
use super::sync::{Mutex, lock};
use crate::policy::latency::{BUCKETS, Latencies, bucket, quantile};

/// What was counts half after this long, so that the last half a minute decides.
const HALF_LIFE: Duration = Duration::from_secs(10);

/// How long the answers of one pool take.
#[derive(Debug)]
pub struct AnswerTimes {
    counts: PerWorker<Counts>,
    recent: Mutex<Recent>,
    /// How many of the recent answers stayed within the upper edge of each bucket.
    within: [AtomicU64; BUCKETS],
}

#[derive(Debug)]
struct Counts([Counter; BUCKETS]);

impl Default for Counts {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

#[derive(Debug)]
struct Recent {
    latencies: Latencies,
    halved: Duration,
}

impl AnswerTimes {
    /// Nothing known yet.
    #[must_use]
    pub fn new(workers: usize, now: Duration) -> Self {
        Self {
            counts: PerWorker::new(workers),
            recent: Mutex::new(Recent { latencies: Latencies::default(), halved: now }),
            within: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// Counts an answer whose head came so long after its request was sent.
    pub fn observe(&self, worker: WorkerId, took: Duration) {
        if let Some(counter) = self.counts.of(worker).0.get(bucket(took)) {
            counter.one();
        }
    }

    /// Brings what workers have counted to those who ask. To be called about every 100 ms.
    pub fn tick(&self, now: Duration) {
        let sums = std::array::from_fn(|bucket| {
            self.counts.iter().filter_map(|counts| counts.0.get(bucket)).map(Counter::get).sum()
        });
        let mut recent = lock(&self.recent);
        recent.latencies.absorb(&sums);
        if now.saturating_sub(recent.halved) >= HALF_LIFE {
            recent.latencies.halve();
            recent.halved = now;
        }
        for (within, count) in self.within.iter().zip(recent.latencies.cumulated()) {
            within.store(count, Ordering::Relaxed);
        }
    }

    /// The time that this share of the recent answers stayed within, as of the last tick; nothing while they are too few.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        quantile(share, |bucket| self.within.get(bucket).map_or(0, |count| count.load(Ordering::Relaxed)))
    }
}

#[cfg(all(test, not(plimsoll_loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_all_workers_saw_is_told_after_a_tick_and_forgotten_in_time() {
        let times = AnswerTimes::new(2, Duration::ZERO);
        for worker in [0, 1] {
            for _ in 0..10 {
                times.observe(WorkerId(worker), Duration::from_micros(1_000));
            }
        }
        assert_eq!(times.quantile(0.95), None, "no tick yet");
        times.tick(Duration::from_millis(100));
        assert_eq!(times.quantile(0.95), Some(Duration::from_micros(1_024)));
        times.tick(HALF_LIFE);
        assert_eq!(times.quantile(0.95), None, "half of twenty is too few");
    }
}
