//! Smooth weighted round robin: where it stands in its sequence, and what happens to turns that are not taken.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::Candidates;
use super::sequence;
use super::share::{REDRAWS, Randoms, draw_pickable, takes};

/// Up to so many slots, the traffic of those that cannot be picked is dealt out slot by slot, above by chance.
const DEALT_MAX: usize = 512;

/// The problem: shares by weight, without a burst on the heavy ones. Why this answer: nginx's smooth weighted
/// round robin spreads each endpoint's turns as far as they go (5:1:1 is a a b a c a a). Its rule costs a pass over all
/// endpoints per pick and state that workers would have to lock; but the sequence that it gives repeats after the sum
/// of the weights, so it is computed once and a pick is one relaxed increment. When wrong: with requests of very
/// different cost, see `least_requests`.
///
/// Whose turn cannot be picked gives it away: such turns are dealt over the slots of the others in turn, by a second
/// cursor, so that everyone's share grows alike. Passing it on to the next slot would give all of a dead endpoint's
/// traffic to whoever comes after it; one cursor for both would do so whenever the two lengths have a common divisor.
/// While someone is in slow start such turns are drawn by the weights in force instead, which makes shares exact.
///
/// When weights change the new sequence starts where everyone's credit is the nearest to what it was, so that no change,
/// however often, gives anyone a burst or starves it.
#[derive(Debug)]
pub(super) struct RoundRobin {
    slots: Box<[u32]>,
    /// Turns taken. Relaxed: a turn orders nothing but itself.
    turn: AtomicUsize,
    /// Turns given away.
    dealt: AtomicUsize,
}

impl RoundRobin {
    /// Starts with the first turn.
    pub(super) fn new(weights: &[u16]) -> Self {
        Self { slots: sequence::turns(weights), turn: AtomicUsize::new(0), dealt: AtomicUsize::new(0) }
    }

    /// Goes on where `previous` stands; `owed` holds the credit there of each endpoint, 0 for new ones.
    pub(super) fn resumed(weights: &[u16], previous: &Self, owed: &[f64]) -> Self {
        let slots = sequence::turns(weights);
        let turn = AtomicUsize::new(sequence::nearest(&slots, owed));
        Self { slots, turn, dealt: AtomicUsize::new(previous.dealt.load(Ordering::Relaxed)) }
    }

    /// One that stands so many turns ahead of this one, which does not move with it.
    pub(super) fn ahead(&self, turns: usize) -> Self {
        let turn = self.turn.load(Ordering::Relaxed).wrapping_add(turns);
        let dealt = self.dealt.load(Ordering::Relaxed);
        Self { slots: self.slots.clone(), turn: AtomicUsize::new(turn), dealt: AtomicUsize::new(dealt) }
    }

    /// The credit of each of `count` endpoints now.
    pub(super) fn credits(&self, count: usize) -> Vec<f64> {
        let turn = self.turn.load(Ordering::Relaxed).checked_rem(self.slots.len()).unwrap_or(0);
        sequence::credits(&self.slots, turn, count)
    }

    pub(super) fn pick<C: Candidates>(&self, weights: &[u16], candidates: &C, random: u64) -> Option<usize> {
        let length = self.slots.len();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed).checked_rem(length)?;
        let index = self.slots[turn] as usize;
        let all_full = candidates.all_full();
        let mut randoms = Randoms::new(random);
        if candidates.pickable(index) && (all_full || takes(weights, candidates, index, &mut randoms)) {
            return Some(index);
        }
        let picked = if all_full && length <= DEALT_MAX {
            self.deal(candidates)
        } else {
            self.redraw(weights, candidates, &mut randoms)
        };
        if picked.is_none() {
            // Nobody can take this turn. The next search for the same request overlooks more, and two turns for each
            // request would give one of two endpoints everything.
            self.turn.fetch_sub(1, Ordering::Relaxed);
        }
        picked
    }

    /// The slot, of those that can be picked, whose turn it is to take what another could not.
    fn deal<C: Candidates>(&self, candidates: &C) -> Option<usize> {
        let mut pickable = [0u64; DEALT_MAX / 64];
        let mut count = 0;
        for (at, &index) in self.slots.iter().enumerate().take(DEALT_MAX) {
            let bit = candidates.pickable(index as usize);
            pickable[at / 64] |= u64::from(bit) << (at % 64);
            count += usize::from(bit);
        }
        let nth = self.dealt.fetch_add(1, Ordering::Relaxed).checked_rem(count)?;
        let is_set = |at: &usize| pickable[at / 64] >> (at % 64) & 1 == 1;
        let slot = (0..self.slots.len().min(DEALT_MAX)).filter(is_set).nth(nth)?;
        Some(self.slots[slot] as usize)
    }

    fn redraw<C: Candidates>(&self, weights: &[u16], candidates: &C, randoms: &mut Randoms) -> Option<usize> {
        let length = self.slots.len() as u64;
        let taken = REDRAWS.into_iter().find_map(|_| {
            let index = self.slots[usize::try_from(randoms.below(length)).unwrap_or(0)] as usize;
            (candidates.pickable(index) && takes(weights, candidates, index, randoms)).then_some(index)
        });
        taken.or_else(|| draw_pickable(weights, candidates, randoms))
    }
}
