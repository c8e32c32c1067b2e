//! Peak EWMA: what an endpoint's answers took, as one word that a runtime can share, and the choice by it. Whose word it
//! is, and who measures, is the caller's.

use std::time::Duration;

use super::Candidates;
use super::random::Random;
use super::share::weight_in_force;

/// How fast an estimate forgets (Finagle, linkerd): after so long without a slow answer, 37 % of it is left.
pub const DECAY: Duration = Duration::from_secs(10);

/// What a failed answer counts as at least, however fast it came (linkerd's load biaser).
const PENALTY: Duration = Duration::from_secs(5);

/// The most that an answer's Retry-After counts for (linkerd's load biaser).
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// The shortest time that is measured, so that a known estimate is never that of an unknown endpoint.
const SHORTEST_US: f32 = 1.0;

/// The cost of an endpoint that has work but never answered: above any estimate, below infinity (Finagle's penalty).
const UNKNOWN_AND_BUSY: f64 = 1e18;

/// Workers' clocks may be so far apart; a stamp that is ahead by less is taken as now.
const CLOCK_SPREAD_MS: u32 = 60_000;

/// How long an endpoint takes to answer: up at once with every slow answer, down slowly (Finagle's `PeakEwma`, tower's
/// `load::PeakEwma`).
///
/// It fits in one word, so that it can be held in an atomic and be replaced by compare-and-swap:
/// `Word -> observe -> Word`. The word 0 is an endpoint that has never answered.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PeakEwma {
    /// Microseconds; 0 only as long as nothing is known.
    rtt_us: f32,
    /// When that was, in ms since the caller's start, modulo 2^32 (50 days).
    stamp_ms: u32,
}

impl PeakEwma {
    /// The estimate that this word holds.
    #[must_use]
    pub fn from_word(word: u64) -> Self {
        let half = |shift: u32| u32::try_from(word >> shift & 0xffff_ffff).unwrap_or(0);
        let rtt_us = f32::from_bits(half(32));
        Self { rtt_us: if rtt_us.is_finite() { rtt_us.max(0.0) } else { 0.0 }, stamp_ms: half(0) }
    }

    /// This estimate as a word.
    #[must_use]
    pub fn to_word(self) -> u64 {
        u64::from(self.rtt_us.to_bits()) << 32 | u64::from(self.stamp_ms)
    }

    /// The estimate after an answer that took `rtt`, see [`effective_rtt`]; a request that was given up counts with the
    /// time that it had waited. `now` is since the caller's start, `decay` usually [`DECAY`].
    #[must_use]
    pub fn observe(self, rtt: Duration, now: Duration, decay: Duration) -> Self {
        let rtt_us = (rtt.as_secs_f32() * 1e6).max(SHORTEST_US);
        let kept = self.kept(now, decay);
        let mean = self.rtt_us * kept + rtt_us * (1.0 - kept);
        Self { rtt_us: if rtt_us > self.rtt_us { rtt_us } else { mean }, stamp_ms: stamp(now) }
    }

    /// What the estimate is worth now, in microseconds: it fades towards 0 while nothing is measured, so that an endpoint
    /// that was slow is tried again. 0 when nothing is known.
    #[must_use]
    pub fn rtt_us(self, now: Duration, decay: Duration) -> f32 {
        if self.rtt_us > 0.0 { (self.rtt_us * self.kept(now, decay)).max(f32::MIN_POSITIVE) } else { 0.0 }
    }

    /// How much of the estimate is left.
    fn kept(self, now: Duration, decay: Duration) -> f32 {
        let age = stamp(now).wrapping_sub(self.stamp_ms);
        let age = if age > u32::MAX - CLOCK_SPREAD_MS { 0 } else { age };
        (-(age as f32) / (decay.as_secs_f32() * 1e3).max(1.0)).exp()
    }
}

fn stamp(now: Duration) -> u32 {
    u32::try_from(now.as_millis() & 0xffff_ffff).unwrap_or(0)
}

/// What an answer counts as. A failure is often the fastest answer there is; without this bias a broken endpoint would
/// draw all traffic. 429 and 5xx count as the server's wish to be left alone (Retry-After, up to 300 s), at least 5 s;
/// so does no answer at all (`status` none: refused, reset, timeout).
#[must_use]
pub fn effective_rtt(elapsed: Duration, status: Option<u16>, retry_after: Option<Duration>) -> Duration {
    match status {
        None | Some(429 | 500..=599) => {
            elapsed.max(PENALTY).max(retry_after.unwrap_or_default().min(RETRY_AFTER_MAX))
        }
        Some(_) => elapsed,
    }
}

/// The problem: endpoints of one pool of which some get slow for a while, or always are, which counts in flight show
/// late. Why this answer: of two drawn by weight, the one where a new request would be answered sooner, estimated as
/// latency x (requests in flight + 1); the estimate jumps up with one slow answer and so is warned before queues are
/// (Finagle). In flight is counted per weight, relative to the mean: idle endpoints of equal speed then share by weight.
/// When wrong: where the latency depends on what is asked more than on who answers.
#[derive(Debug)]
pub(super) struct FastestOfTwo {
    two: Random,
    /// In parts of which [`FULL_SHARE`](super::FULL_SHARE) make a weight of 1.
    mean_weight: f64,
}

impl FastestOfTwo {
    pub(super) fn new(weights: &[u16]) -> Self {
        let sum: f64 = weights.iter().map(|&w| f64::from(w)).sum();
        let count = weights.iter().filter(|&&w| w > 0).count().max(1);
        let mean_weight = sum / count as f64 * f64::from(super::FULL_SHARE);
        Self { two: Random::new(weights), mean_weight }
    }

    pub(super) fn pick<C: Candidates>(&self, weights: &[u16], candidates: &C, random: u64) -> Option<usize> {
        let cost = |index| self.cost(weights, candidates, index);
        self.two.better_of_two(weights, candidates, random, |a, b| cost(a) < cost(b))
    }

    fn cost<C: Candidates>(&self, weights: &[u16], candidates: &C, index: usize) -> f64 {
        let in_flight = candidates.in_flight(index);
        let weight = weight_in_force(weights, candidates, index) as f64;
        let crowd = f64::from(in_flight) * self.mean_weight / weight;
        let rtt = f64::from(candidates.rtt_us(index));
        if rtt == 0.0 && in_flight > 0 { UNKNOWN_AND_BUSY * (1.0 + crowd) } else { rtt * (1.0 + crowd) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    const E: f32 = std::f32::consts::E;

    fn assert_near(got: f32, wanted: f32) {
        assert!((got / wanted - 1.0).abs() < 1e-3, "{got} is not {wanted}");
    }

    #[test]
    fn a_slow_answer_counts_at_once_and_is_forgotten_slowly() {
        let known = PeakEwma::default().observe(ms(10), SECOND, DECAY);
        assert_near(known.rtt_us(SECOND, DECAY), 10_000.0);
        let slow = known.observe(ms(500), 2 * SECOND, DECAY);
        assert_near(slow.rtt_us(2 * SECOND, DECAY), 500_000.0);
        // Ten seconds later 1/e of it is left, the rest is the new answer.
        let later = slow.observe(ms(10), 12 * SECOND, DECAY);
        assert_near(later.rtt_us(12 * SECOND, DECAY), 500_000.0 / E + 10_000.0 * (1.0 - 1.0 / E));
        // Without an answer it fades the same way.
        assert_near(slow.rtt_us(12 * SECOND, DECAY), 500_000.0 / E);
    }

    #[test]
    fn many_answers_a_millisecond_still_bring_it_down() {
        let mut estimate = PeakEwma::default().observe(ms(3), SECOND, DECAY);
        for tenth in 0..600_000u64 {
            let now = SECOND + Duration::from_micros(100 * tenth);
            estimate = PeakEwma::from_word(estimate.observe(ms(1), now, DECAY).to_word());
        }
        let rtt = estimate.rtt_us(61 * SECOND, DECAY);
        assert!((1_000.0..1_010.0).contains(&rtt), "{rtt} us");
    }

    #[test]
    fn a_word_holds_all_and_no_word_breaks_it() {
        let estimate = PeakEwma::default().observe(ms(123), 5 * SECOND, DECAY);
        assert_eq!(PeakEwma::from_word(estimate.to_word()), estimate);
        assert_eq!(PeakEwma::default().to_word(), 0);
        for word in [0, 1, u64::MAX, u64::from(f32::NAN.to_bits()) << 32, 1 << 63, 0xff80_0000 << 32] {
            let estimate = PeakEwma::from_word(word);
            assert!(estimate.rtt_us(SECOND, DECAY) >= 0.0);
            assert!(estimate.observe(Duration::MAX, Duration::MAX, Duration::ZERO).rtt_us.is_finite());
        }
    }

    #[test]
    fn a_clock_that_is_a_little_behind_does_not_wipe_it_out() {
        let estimate = PeakEwma::default().observe(ms(100), 5 * SECOND, DECAY);
        assert_near(estimate.rtt_us(4 * SECOND, DECAY), 100_000.0);
    }

    #[test]
    fn a_known_endpoint_never_becomes_unknown() {
        let estimate = PeakEwma::default().observe(Duration::ZERO, SECOND, DECAY);
        assert!(estimate.rtt_us(1_000_000 * SECOND, DECAY) > 0.0);
        assert!(estimate.observe(Duration::ZERO, 1_000_000 * SECOND, DECAY).rtt_us >= SHORTEST_US);
    }

    #[test]
    fn failures_are_never_fast() {
        assert_eq!(effective_rtt(ms(3), Some(200), None), ms(3));
        assert_eq!(effective_rtt(ms(3), Some(404), Some(9 * SECOND)), ms(3));
        assert_eq!(effective_rtt(ms(3), Some(503), None), 5 * SECOND);
        assert_eq!(effective_rtt(ms(3), Some(429), Some(30 * SECOND)), 30 * SECOND);
        assert_eq!(effective_rtt(ms(3), Some(503), Some(3_600 * SECOND)), 300 * SECOND);
        assert_eq!(effective_rtt(ms(3), Some(500), Some(SECOND)), 5 * SECOND);
        assert_eq!(effective_rtt(ms(3), None, None), 5 * SECOND);
        assert_eq!(effective_rtt(60 * SECOND, None, None), 60 * SECOND);
    }
}
