//! Draws by weight: in constant time from all endpoints, or in one pass from those that are pickable; and what slow start
//! leaves of a weight.

use std::ops::Range;

use super::hash::mix;
use super::{Candidates, FULL_SHARE};

/// Numbers drawn from the one that a pick was given (`SplitMix64`, Steele and others, OOPSLA 2014).
#[derive(Debug)]
pub(super) struct Randoms(u64);

impl Randoms {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound`; 0 when that is 0. Uneven by less than one in 2^32 for bounds below that.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        bounded(self.next(), bound)
    }
}

/// A number drawn evenly from all, brought below `bound`.
fn bounded(number: u64, bound: u64) -> u64 {
    let wide = u128::from(number) * u128::from(bound);
    u64::try_from(wide >> 64).unwrap_or(0)
}

/// A table from which an index is drawn by its weight with one random number and one look, however many there are
/// (Walker's alias method as by Vose, IEEE TSE 1991, in whole numbers).
#[derive(Debug)]
pub(super) struct Shares {
    columns: Box<[Column]>,
    /// The height of a column: the sum of the weights.
    height: u64,
}

/// Below `threshold` a draw is the column's own index, above it is the other.
#[derive(Debug, Clone, Copy)]
struct Column {
    threshold: u64,
    other: usize,
}

impl Shares {
    /// Endpoints of weight 0 are never drawn.
    pub(super) fn new(weights: &[u16]) -> Self {
        let height: u64 = weights.iter().map(|&w| u64::from(w)).sum();
        let count = weights.len() as u64;
        let mut columns: Box<[Column]> = weights
            .iter()
            .enumerate()
            .map(|(other, &w)| Column { threshold: u64::from(w) * count, other })
            .collect();
        // Each index brings weight x count; what one has above the height of a column fills up another.
        let (mut low, mut high): (Vec<usize>, Vec<usize>) =
            (0..columns.len()).partition(|&i| columns[i].threshold < height);
        while let (Some(&giver), Some(taker)) = (high.last(), low.pop()) {
            columns[taker].other = giver;
            columns[giver].threshold -= height - columns[taker].threshold;
            if columns[giver].threshold < height {
                high.pop();
                low.push(giver);
            }
        }
        Self { columns, height }
    }

    /// An index; 0 when there is none or all weights are 0.
    pub(super) fn draw(&self, randoms: &mut Randoms) -> usize {
        let at = usize::try_from(randoms.below(self.columns.len() as u64)).unwrap_or(0);
        match self.columns.get(at) {
            Some(column) if randoms.below(self.height) >= column.threshold => column.other,
            _ => at,
        }
    }
}

/// What of an endpoint's weight is in force, in parts of which [`FULL_SHARE`] make one; never 0 for a weight above 0, so
/// that a load can be divided by it.
pub(super) fn weight_in_force<C: Candidates>(weights: &[u16], candidates: &C, index: usize) -> u64 {
    let share = if candidates.all_full() { FULL_SHARE } else { candidates.share(index).clamp(1, FULL_SHARE) };
    u64::from(weights.get(index).copied().unwrap_or(0)) * u64::from(share)
}

/// Whether this endpoint takes what chance or its turn offers: always but in slow start, then as often as its share says.
pub(super) fn takes<C: Candidates>(
    weights: &[u16],
    candidates: &C,
    index: usize,
    randoms: &mut Randoms,
) -> bool {
    candidates.all_full() || share_covers(weights, candidates, index, randoms.next())
}

/// Whether a number, drawn evenly from all, lies in the share of this endpoint.
///
/// Shares are relative to the largest there is: when everyone is in slow start, nobody is spared for anybody's sake.
pub(super) fn share_covers<C: Candidates>(
    weights: &[u16],
    candidates: &C,
    index: usize,
    number: u64,
) -> bool {
    let share = candidates.share(index).clamp(1, FULL_SHARE);
    share == FULL_SHARE || bounded(number, largest_share(weights, candidates)) < u64::from(share)
}

/// The largest share of those that can be picked. One full one ends the search, so it is long only after all have
/// started at once.
fn largest_share<C: Candidates>(weights: &[u16], candidates: &C) -> u64 {
    let mut largest = 1;
    for (index, &weight) in weights.iter().enumerate() {
        if weight > 0 && candidates.pickable(index) {
            largest = largest.max(candidates.share(index));
            if largest >= FULL_SHARE {
                break;
            }
        }
    }
    u64::from(largest.min(FULL_SHARE))
}

/// An index that is pickable, drawn by the weights in force in one pass over all; nothing when none is.
///
/// The answer when chance did not find one. Taking the next pickable one instead would give whoever follows a row of
/// dead endpoints all of their traffic.
pub(super) fn draw_pickable<C: Candidates>(
    weights: &[u16],
    candidates: &C,
    randoms: &mut Randoms,
) -> Option<usize> {
    let mut seen = 0;
    let mut chosen = None;
    for (index, &weight) in weights.iter().enumerate() {
        if weight > 0 && candidates.pickable(index) {
            let weight = weight_in_force(weights, candidates, index);
            seen += weight;
            if randoms.below(seen) < weight {
                chosen = Some(index);
            }
        }
    }
    chosen
}

/// How often chance is asked before everyone is: with half of the endpoints down, one pick in 65,536 asks everyone.
pub(super) const REDRAWS: Range<u32> = 0..16;
