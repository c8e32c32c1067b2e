//! The endpoint with the fewest requests in flight for its weight.

use super::Candidates;
use super::random::Random;
use super::round_robin::RoundRobin;

/// Up to so many are compared one by one: one word of ties, and no dearer than two draws with their cache misses.
const COMPARED_MAX: usize = 64;

/// The problem: requests of very different cost, or endpoints of different speed, where an equal count is an unequal
/// load. Why this answer: what an endpoint has not finished is the one figure of its load that is known here at once;
/// divided by weight it compares endpoints of different size (nginx `least_conn`). Ties, which at low load are every
/// pick, go by smooth weighted round robin over the tied, so that weights hold there too. Above 64 endpoints two are
/// drawn by weight and compared, since asking thousands would cost more than it gives. When wrong: an endpoint that
/// fails fast looks idle and draws traffic, which ejection has to stop.
#[derive(Debug)]
pub(super) enum LeastRequests {
    All(RoundRobin),
    Two(Random),
}

impl LeastRequests {
    pub(super) fn new(weights: &[u16]) -> Self {
        if weights.len() <= COMPARED_MAX {
            Self::All(RoundRobin::new(weights))
        } else {
            Self::Two(Random::new(weights))
        }
    }

    pub(super) fn pick<C: Candidates>(&self, weights: &[u16], candidates: &C, random: u64) -> Option<usize> {
        match self {
            Self::All(ties) => {
                let tied = least_busy(weights, candidates);
                match tied.count_ones() {
                    0 => None,
                    1 => usize::try_from(tied.trailing_zeros()).ok(),
                    _ => ties.pick(weights, &Tied(tied), random),
                }
            }
            Self::Two(two) => two.pick(weights, candidates, random),
        }
    }
}

/// The pickable endpoints of which none has less in flight for its weight, a bit each.
fn least_busy<C: Candidates>(weights: &[u16], candidates: &C) -> u64 {
    let mut tied = 0;
    let mut least = (u64::MAX, 1);
    for (index, &weight) in weights.iter().enumerate().take(COMPARED_MAX) {
        if weight == 0 || !candidates.pickable(index) {
            continue;
        }
        let load = (u64::from(candidates.in_flight(index)), u64::from(weight));
        let (ours, theirs) = (u128::from(load.0) * least.1, u128::from(least.0) * u128::from(load.1));
        if ours < theirs {
            (tied, least) = (1 << index, (load.0, u128::from(load.1)));
        } else if ours == theirs {
            tied |= 1 << index;
        }
    }
    tied
}

/// What is left to choose from; all of it equally busy.
struct Tied(u64);

impl Candidates for Tied {
    fn pickable(&self, index: usize) -> bool {
        self.0 & (1 << index) != 0
    }

    fn in_flight(&self, _index: usize) -> u32 {
        0
    }
}
