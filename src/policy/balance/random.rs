//! The better of two endpoints drawn by weight.

use super::Candidates;
use super::share::{Draws, REDRAWS, Shares, draw_pickable};

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
        let mut draws = Draws::new(random);
        let Some(first) = self.draw(weights, candidates, None, &mut draws) else {
            return draw_pickable(weights, candidates, &mut draws);
        };
        let Some(second) = self.draw(weights, candidates, Some(first), &mut draws) else {
            return Some(first);
        };
        let busier = is_less_busy(weights, candidates, second, first);
        Some(if busier { second } else { first })
    }

    /// A pickable index that is not `other`, if chance finds one.
    fn draw<C: Candidates>(
        &self,
        weights: &[u16],
        candidates: &C,
        other: Option<usize>,
        draws: &mut Draws,
    ) -> Option<usize> {
        let fits = |index: &usize| {
            Some(*index) != other
                && weights.get(*index).is_some_and(|&w| w > 0)
                && candidates.pickable(*index)
        };
        REDRAWS.map(|_| self.shares.draw(draws)).find(fits)
    }
}

/// Whether `a` has strictly less in flight for its weight than `b`; multiplied crosswise, so that nothing is rounded.
fn is_less_busy<C: Candidates>(weights: &[u16], candidates: &C, a: usize, b: usize) -> bool {
    u64::from(candidates.in_flight(a)) * u64::from(weights[b])
        < u64::from(candidates.in_flight(b)) * u64::from(weights[a])
}
