//! The endpoint with the fewest requests in flight for its weight.

use super::Candidates;
use super::random::Random;
use super::round_robin::RoundRobin;
use super::share::weight_in_force;

/// Up to so many are compared one by one: one word of ties, and no dearer than two draws with their cache misses.
const COMPARED_MAX: usize = 64;

/// The problem: requests of very different cost, or endpoints of different speed, where an equal count is an unequal
/// load. Why this answer: what an endpoint has not finished is the one figure of its load that is known here at once;
/// divided by weight it compares endpoints of different size (nginx `least_conn`). Ties, which at low load are every
/// pick, go by smooth weighted round robin over the tied, so that weights hold there too. Above 64 endpoints two are
/// drawn by weight and compared, since asking thousands would cost more than it gives. When wrong: an endpoint that
/// fails fast looks idle and draws traffic, which ejection has to stop. In slow start the weight in force counts.
#[derive(Debug)]
pub(super) enum LeastRequests {
    All(RoundRobin),
    Two(Random),
}

impl LeastRequests {
    /// `ties` makes the round robin by which ties go.
    pub(super) fn new(weights: &[u16], ties: impl FnOnce() -> RoundRobin) -> Self {
        if weights.len() <= COMPARED_MAX { Self::All(ties()) } else { Self::Two(Random::new(weights)) }
    }

    pub(super) fn pick<C: Candidates>(&self, weights: &[u16], candidates: &C, random: u64) -> Option<usize> {
        match self {
            Self::All(ties) => {
                let tied = least_busy(weights, candidates);
                match tied.count_ones() {
                    0 => None,
                    1 => usize::try_from(tied.trailing_zeros()).ok(),
                    _ => ties.pick(weights, &Tied { tied, candidates }, random),
                }
            }
            Self::Two(two) => two.pick(weights, candidates, random),
        }
    }
}

/// The pickable endpoints of which none has less in flight for its weight, a bit each.
fn least_busy<C: Candidates>(weights: &[u16], candidates: &C) -> u64 {
    let all_full = candidates.all_full();
    let mut tied = 0;
    let mut least = (u128::from(u64::MAX), 1);
    for (index, &weight) in weights.iter().enumerate().take(COMPARED_MAX) {
        if weight == 0 || !candidates.pickable(index) {
            continue;
        }
        let weight = if all_full { u64::from(weight) } else { weight_in_force(weights, candidates, index) };
        let load = (u128::from(candidates.in_flight(index)), u128::from(weight));
        let (ours, theirs) = (load.0 * least.1, least.0 * load.1);
        if ours < theirs {
            (tied, least) = (1 << index, load);
        } else if ours == theirs {
            tied |= 1 << index;
        }
    }
    tied
}

/// What is left to choose from; all of it equally busy.
struct Tied<'a, C> {
    tied: u64,
    candidates: &'a C,
}

impl<C: Candidates> Candidates for Tied<'_, C> {
    fn pickable(&self, index: usize) -> bool {
        self.tied & (1 << index) != 0
    }

    fn in_flight(&self, _index: usize) -> u32 {
        0
    }

    fn all_full(&self) -> bool {
        self.candidates.all_full()
    }

    fn share(&self, index: usize) -> u32 {
        self.candidates.share(index)
    }
}
