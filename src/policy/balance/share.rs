//! Draws by weight: in constant time from all endpoints, or in one pass from those that are pickable.

use std::ops::Range;

use super::Candidates;

/// Numbers drawn from the one that a pick was given (`SplitMix64`, Steele and others, OOPSLA 2014).
#[derive(Debug)]
pub(super) struct Draws(u64);

impl Draws {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 when that is 0. Uneven by less than one in 2^32 for bounds below that.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.next()) * u128::from(bound);
        u64::try_from(wide >> 64).unwrap_or(0)
    }
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
    pub(super) fn draw(&self, draws: &mut Draws) -> usize {
        let at = usize::try_from(draws.below(self.columns.len() as u64)).unwrap_or(0);
        match self.columns.get(at) {
            Some(column) if draws.below(self.height) >= column.threshold => column.other,
            _ => at,
        }
    }
}

/// An index of `range` that is pickable, drawn by weight in one pass over them; nothing when none is.
///
/// The answer when chance did not find one. Taking the next pickable one instead would give whoever follows a row of
/// dead endpoints all of their traffic.
pub(super) fn draw_pickable<C: Candidates>(
    weights: &[u16],
    candidates: &C,
    draws: &mut Draws,
) -> Option<usize> {
    let mut seen = 0;
    let mut chosen = None;
    for (index, &weight) in weights.iter().enumerate() {
        if weight > 0 && candidates.pickable(index) {
            seen += u64::from(weight);
            if draws.below(seen) < u64::from(weight) {
                chosen = Some(index);
            }
        }
    }
    chosen
}

/// How often chance is asked before everyone is: with half of the endpoints down, one pick in 65,536 asks everyone.
pub(super) const REDRAWS: Range<u32> = 0..16;
