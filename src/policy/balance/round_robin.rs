//! Smooth weighted round robin, as a sequence that is made once.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Candidates;
use super::share::{Draws, REDRAWS, draw_pickable};

/// The longest sequence, as long as there are no more endpoints than that. Larger sums of weights are scaled down.
const SLOTS_MAX: u64 = 65_536;

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
#[derive(Debug)]
pub(super) struct RoundRobin {
    slots: Box<[u32]>,
    /// Turns taken. Relaxed: a turn orders nothing but itself.
    turn: AtomicUsize,
    /// Turns given away.
    dealt: AtomicUsize,
}

impl RoundRobin {
    pub(super) fn new(weights: &[u16]) -> Self {
        Self {
            slots: smooth_sequence(&reduced(weights)),
            turn: AtomicUsize::new(0),
            dealt: AtomicUsize::new(0),
        }
    }

    pub(super) fn pick<C: Candidates>(&self, weights: &[u16], candidates: &C, random: u64) -> Option<usize> {
        let length = self.slots.len();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed).checked_rem(length)?;
        let index = self.slots[turn] as usize;
        if candidates.pickable(index) {
            return Some(index);
        }
        if length <= DEALT_MAX { self.deal(candidates) } else { self.redraw(weights, candidates, random) }
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

    fn redraw<C: Candidates>(&self, weights: &[u16], candidates: &C, random: u64) -> Option<usize> {
        let mut draws = Draws::new(random);
        let slot = |draws: &mut Draws| {
            self.slots[usize::try_from(draws.below(self.slots.len() as u64)).unwrap_or(0)]
        };
        REDRAWS
            .map(|_| slot(&mut draws) as usize)
            .find(|&index| candidates.pickable(index))
            .or_else(|| draw_pickable(weights, candidates, &mut draws))
    }
}

/// The weights in their smallest whole numbers, scaled down when their sum is above [`SLOTS_MAX`]; none that was
/// above 0 becomes 0.
fn reduced(weights: &[u16]) -> Vec<u64> {
    let weights: Vec<u64> = weights.iter().map(|&w| u64::from(w)).collect();
    let sum: u64 = weights.iter().sum();
    let weights = if sum > SLOTS_MAX {
        // One slot per endpoint is kept back for what rounding adds.
        let room = SLOTS_MAX.saturating_sub(weights.len() as u64);
        weights.iter().map(|&w| if w == 0 { 0 } else { ((w * room + sum / 2) / sum).max(1) }).collect()
    } else {
        weights
    };
    let divisor = weights.iter().copied().fold(0, greatest_common_divisor).max(1);
    weights.into_iter().map(|w| w / divisor).collect()
}

const fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// Endpoints of one weight, which take turns in their order.
struct Class {
    weight: i64,
    members: Vec<u32>,
    /// Turns that its members had, all together.
    turns: usize,
}

impl Class {
    /// The member whose turn is next.
    fn next(&self) -> u32 {
        self.members[self.turns % self.members.len()]
    }

    /// nginx's current weight of that member at the `turn`-th turn of all, counted from 1: it gained its weight at
    /// each, and paid `sum` at each of its own.
    fn current_weight(&self, turn: i64, sum: i64) -> i64 {
        turn * self.weight - (self.turns / self.members.len()) as i64 * sum
    }
}

/// nginx's sequence (`ngx_http_upstream_get_peer`): at each turn everyone gains its weight, the highest is taken, the
/// first of equals, and pays the sum.
///
/// Of those with one weight, the one with the fewest turns is always the highest, so they come in turn and only the
/// classes are compared: as many as there are different weights.
fn smooth_sequence(weights: &[u64]) -> Box<[u32]> {
    let mut classes: Vec<Class> = Vec::new();
    let mut by_weight: HashMap<u64, usize> = HashMap::new();
    for (index, &weight) in (0u32..).zip(weights).filter(|(_, weight)| **weight > 0) {
        let class = *by_weight.entry(weight).or_insert(classes.len());
        match classes.get_mut(class) {
            Some(class) => class.members.push(index),
            None => classes.push(Class { weight: weight as i64, members: vec![index], turns: 0 }),
        }
    }
    let sum: i64 = classes.iter().map(|class| class.weight * class.members.len() as i64).sum();
    let next = |turn| {
        let class = classes
            .iter_mut()
            .max_by_key(|class| (class.current_weight(turn, sum), Reverse(class.next())))?;
        let member = class.next();
        class.turns += 1;
        Some(member)
    };
    (1..=sum).filter_map(next).collect()
}
