//! How fast requests of one key may come: nginx's `limit_req` as the generic cell rate algorithm, in one word per key.
//!
//! # The arithmetic
//! nginx keeps how far a key is ahead of its rate (its *excess*, in thousandths of a request) and when that was. Both are
//! one number here: the point on a line that runs on by `count` units in a microsecond and on which a request takes as many
//! units as its rate's period has microseconds. Nothing is rounded, whatever the rate, so that decisions at whole
//! milliseconds are nginx's for every rate per second. (Its rates per minute it rounds down to thousandths of a request per
//! second, and every step of time to thousandths of a request; ours are what is written.)
//!
//! # Why not a token bucket
//! It decides the same and needs two numbers for it, which no single atomic operation can change together.
//!
//! # When it is wrong
//! It limits how often, not how much: a request that takes a minute counts as one that takes a millisecond. What may be
//! under way at once is for concurrency limits.

use std::time::Duration;

use crate::model::units::Rate;

/// Rate limits of one route at most: each is one more look and one more charge for every request.
pub const LIMITS_MAX: usize = 8;

/// A rate with what may come ahead of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Units by which the line runs on in a microsecond: the requests of a period.
    count: u64,
    /// Units of a request: the microseconds of a period.
    cost: u64,
    /// Units that a key may be ahead.
    burst: u64,
    /// Units from which on a request that is ahead is held until it is due; nothing is from none on.
    delay: Option<u64>,
}

/// What comes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It goes on.
    Pass {
        /// The word of its key from now on.
        word: u64,
        /// For how long it is held first.
        delay: Duration,
    },
    /// It does not; its key's word stays as it is.
    Reject {
        /// When the next one would pass, from now on.
        retry_after: Duration,
    },
}

/// What is left to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// Requests that would pass if they came now.
    pub requests: u64,
    /// How long it takes until there are as many as there can be.
    pub full_in: Duration,
}

impl RateLimit {
    /// Requests per period at most, so that a line of microseconds does not come round within months.
    pub const COUNT_MAX: u32 = 1_000_000;
    /// The largest burst.
    pub const BURST_MAX: u32 = 1_000_000;

    /// A rate with so many requests ahead of it. Those of them beyond `delay` are held until they are due; where that is
    /// nothing, none is.
    #[must_use]
    pub fn new(rate: Rate, burst: u32, delay: Option<u32>) -> Self {
        let cost = u64::try_from(rate.per.as_micros()).unwrap_or(u64::MAX).clamp(1, HOUR);
        let units = |requests: u32| u64::from(requests.min(Self::BURST_MAX)) * cost;
        Self {
            count: u64::from(rate.count.clamp(1, Self::COUNT_MAX)),
            cost,
            burst: units(burst),
            delay: delay.map(units),
        }
    }

    /// The word of a key that has not been seen: its first request is not ahead at all.
    #[must_use]
    pub fn fresh(&self, now: Duration) -> u64 {
        self.line(now).wrapping_sub(self.cost)
    }

    /// What comes of a request of a key with this word.
    #[must_use]
    pub fn decide(&self, word: u64, now: Duration) -> Decision {
        let excess = self.excess(word, now);
        if excess > self.burst {
            return Decision::Reject { retry_after: self.time(excess - self.burst) };
        }
        let held = self.delay.map_or(0, |free| excess.saturating_sub(free));
        Decision::Pass { word: self.line(now).wrapping_add(excess), delay: self.time(held) }
    }

    /// The word after a request that was let pass has turned out to be stopped elsewhere: as if it had not come.
    #[must_use]
    pub const fn refund(&self, word: u64) -> u64 {
        word.wrapping_sub(self.cost)
    }

    /// What a request takes: [`RateLimit::refund`] for who can only subtract.
    #[must_use]
    pub const fn cost(&self) -> u64 {
        self.cost
    }

    /// What is left to a key with this word.
    #[must_use]
    pub fn left(&self, word: u64, now: Duration) -> Left {
        let ahead = self.excess(word, now);
        let room = (self.burst + self.cost).saturating_sub(ahead);
        Left { requests: room / self.cost, full_in: self.time(ahead) }
    }

    /// How far a key with this word is from being as one that has not been seen; 0 is no further, and who is not needs
    /// no memory.
    #[must_use]
    pub fn weight(&self, word: u64, now: Duration) -> u64 {
        self.excess(word, now)
    }

    /// A word of this limit as one of another that has another rate: what was due in some time is due in the same time.
    #[must_use]
    pub fn translate(&self, word: u64, to: &Self, now: Duration) -> u64 {
        let ahead = u128::from(self.excess(word, now)) * u128::from(to.count) / u128::from(self.count);
        let ahead = u64::try_from(ahead).unwrap_or(u64::MAX).min(to.burst + to.cost);
        to.fresh(now).wrapping_add(ahead)
    }

    /// Whether words mean the same in both, so that keys can be counted together whatever the bursts.
    #[must_use]
    pub const fn has_rate_of(&self, other: &Self) -> bool {
        self.count == other.count && self.cost == other.cost
    }

    /// By what words of it are to be read.
    #[must_use]
    pub const fn rate(&self) -> [u64; 2] {
        [self.count, self.cost]
    }

    /// A limit by which words of such a rate are read; nothing where it is none.
    #[must_use]
    pub fn of_rate([count, cost]: [u64; 2]) -> Option<Self> {
        let is_one = (1..=u64::from(Self::COUNT_MAX)).contains(&count) && (1..=HOUR).contains(&cost);
        is_one.then_some(Self { count, cost, burst: 0, delay: None })
    }

    /// How far ahead a key with this word would be with one more request.
    fn excess(&self, word: u64, now: Duration) -> u64 {
        // Signed, because the line may come round. A word far ahead is then one from long ago.
        let ahead = word.wrapping_sub(self.line(now)).wrapping_add(self.cost).cast_signed();
        let most = Self::BURST_MAX as u64 * self.cost + self.cost;
        let ahead = u64::try_from(ahead).unwrap_or(0);
        if ahead > most { 0 } else { ahead }
    }

    /// Where the line is.
    fn line(&self, now: Duration) -> u64 {
        let micros = now.as_secs().wrapping_mul(1_000_000).wrapping_add(u64::from(now.subsec_micros()));
        micros.wrapping_mul(self.count)
    }

    /// How long the line takes for so many units, rounded up: whoever waits that long is not early.
    fn time(&self, units: u64) -> Duration {
        Duration::from_micros(units.div_ceil(self.count))
    }
}

/// The longest period of a rate, in microseconds.
const HOUR: u64 = 3_600_000_000;

#[cfg(test)]
mod tests;
