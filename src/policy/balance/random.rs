//! The better of two endpoints drawn by weight.

use super::Candidates;
use super::share::{REDRAWS, Randoms, Shares, draw_pickable, takes, weight_in_force};

/// The problem: many proxies, each seeing only its own requests, that must not all run to the endpoint that looks
/// idle. Why this answer: two drawn at random and the less busy one taken brings the longest queue from
/// log n / log log n down to log log n (Mitzenmacher 2001), at a cost that does not depend on the number of endpoints;
/// weights decide both the draw and the comparison, as in nginx `random two least_conn` and HAProxy `random(2)`.
/// When wrong: with few requests and an exact share expected, where round robin is exact.
#[derive(Debug)]
pub(super) struct Random {
    shares: Shares,
}

impl Random {
    pub(super) fn new(weights: &[u16]) -> Self {
        Self { shares: Shares::new(weights) }
    }

    pub(super) fn pick<C: Candidates>(&self, weights: &[u16], candidates: &C, random: u64) -> Option<usize> {
        self.better_of_two(weights, candidates, random, |a, b| is_less_busy(weights, candidates, a, b))
    }

    /// Of two drawn the first, unless the second `is_better` than it.
    pub(super) fn better_of_two<C: Candidates>(
        &self,
        weights: &[u16],
        candidates: &C,
        random: u64,
        is_better: impl FnOnce(usize, usize) -> bool,
    ) -> Option<usize> {
        let mut randoms = Randoms::new(random);
        let Some(first) = self.draw(weights, candidates, None, &mut randoms) else {
            return draw_pickable(weights, candidates, &mut randoms);
        };
        let Some(second) = self.draw(weights, candidates, Some(first), &mut randoms) else {
            return Some(first);
        };
        Some(if is_better(second, first) { second } else { first })
    }

    /// A pickable index that is not `other`, if chance finds one.
    fn draw<C: Candidates>(
        &self,
        weights: &[u16],
        candidates: &C,
        other: Option<usize>,
        randoms: &mut Randoms,
    ) -> Option<usize> {
        REDRAWS.into_iter().find_map(|_| {
            let index = self.shares.draw(randoms);
            let fits = Some(index) != other
                && weights.get(index).is_some_and(|&w| w > 0)
                && candidates.pickable(index)
                && takes(weights, candidates, index, randoms);
            fits.then_some(index)
        })
    }
}

/// Whether `a` has strictly less in flight for its weight than `b`; multiplied crosswise, so that nothing is rounded.
fn is_less_busy<C: Candidates>(weights: &[u16], candidates: &C, a: usize, b: usize) -> bool {
    let in_flight = |index| u128::from(candidates.in_flight(index));
    let weight = |index| u128::from(weight_in_force(weights, candidates, index));
    in_flight(a) * weight(b) < in_flight(b) * weight(a)
}
