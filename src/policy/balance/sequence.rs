//! The turns of smooth weighted round robin as a sequence that repeats: nginx's rule, computed once. Who stands where
//! in it is `round_robin`'s matter, which slots of a table they fill `maglev`'s.

use std::cmp::Reverse;
use std::collections::HashMap;

/// The longest sequence, as long as there are no more endpoints than that. Larger sums of weights are scaled down.
const SLOTS_MAX: u64 = 65_536;

/// The turns of one round, as indexes into the weights: as many as their sum in its smallest whole numbers.
pub(super) fn turns(weights: &[u16]) -> Box<[u32]> {
    smooth_sequence(&reduced(weights))
}

/// How many turns ahead (or, below 0, behind) of its fair part each of `count` endpoints is owed to be after the first
/// `turn` turns of a round: its part of them less what it got. nginx's current weight, in turns.
pub(super) fn credits(turns: &[u32], turn: usize, count: usize) -> Vec<f64> {
    let mut credits: Vec<f64> = parts(turns, count).into_iter().map(|part| part * turn as f64).collect();
    for &index in turns.iter().take(turn) {
        credits[index as usize] -= 1.0;
    }
    credits
}

/// The turn of a round at which the credits of all are the nearest to `owed` (least squares), the first of equals.
///
/// One pass: with `gap` what someone's credit differs from what it is owed, a turn adds everyone's part to its gap and
/// takes 1 from whose turn it is, so the sum of squares follows from the sum of gap x part.
pub(super) fn nearest(turns: &[u32], owed: &[f64]) -> usize {
    let parts = parts(turns, owed.len());
    let part_squares: f64 = parts.iter().map(|part| part * part).sum();
    let mut taken = vec![0.0; owed.len()];
    let mut distance = 0.0;
    let mut slope: f64 = -owed.iter().zip(&parts).map(|(owed, part)| owed * part).sum::<f64>();
    let mut best = (0, 0.0);
    for (turn, &index) in turns.iter().enumerate() {
        // Rounding adds up to far less than two places differ by.
        if distance < best.1 - 1e-9 {
            best = (turn, distance);
        }
        let index = index as usize;
        let gap = (turn + 1) as f64 * parts[index] - taken[index] - owed[index];
        distance += 2.0 * slope + part_squares - 2.0 * gap + 1.0;
        slope += part_squares - parts[index];
        taken[index] += 1.0;
    }
    best.0
}

/// Everyone's part of a round.
fn parts(turns: &[u32], count: usize) -> Vec<f64> {
    let mut parts = vec![0.0; count];
    for &index in turns {
        parts[index as usize] += 1.0 / turns.len() as f64;
    }
    parts
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
