//! Bounded loads: how much of all the work one endpoint may have before a key passes it by (Mirrokni, Thorup and
//! Zadimoghaddam, arXiv 1608.01350), in the whole numbers of HAProxy's `hash-balance-factor`.

use super::Candidates;
use super::share::Randoms;

/// Up to so many endpoints are summed up. Of more so many are drawn and stand for all: the bound is then a soft one, a
/// tenth more or less, where asking all would make a pick a hundred times dearer.
const SUMMED_MAX: usize = 64;

/// How much more than its part of all work an endpoint may have.
#[derive(Debug, Clone, Copy)]
pub(super) struct LoadFactor {
    percent: u64,
}

impl LoadFactor {
    /// 1.25 is a quarter more than its part. Below 1 there would be no room for all work; taken as 1.
    pub(super) fn new(factor: f64) -> Self {
        Self { percent: (factor.clamp(1.0, 1_000.0) * 100.0).round() as u64 }
    }

    /// The ceiling while everyone has what it has now, and one more comes.
    ///
    /// Only those that can be picked count, with what they have: work on endpoints that are down or full needs no room
    /// elsewhere, and one of the others always has room then.
    pub(super) fn ceiling<C: Candidates>(self, weights: &[u16], candidates: &C, random: u64) -> Ceiling {
        let mut crowd = Crowd { in_flight: 0, weight: 0 };
        if weights.len() <= SUMMED_MAX {
            (0..weights.len()).for_each(|index| crowd.add(weights, candidates, index));
        } else {
            let mut randoms = Randoms::new(random);
            for _ in 0..SUMMED_MAX {
                let index = randoms.below(weights.len() as u64);
                crowd.add(weights, candidates, usize::try_from(index).unwrap_or(0));
            }
        }
        Ceiling { slots: slots(crowd.in_flight, self.percent), weight: crowd.weight }
    }
}

/// What was summed up.
struct Crowd {
    in_flight: u64,
    weight: u64,
}

impl Crowd {
    fn add<C: Candidates>(&mut self, weights: &[u16], candidates: &C, index: usize) {
        let weight = weights.get(index).copied().unwrap_or(0);
        if weight > 0 && candidates.pickable(index) {
            self.in_flight += u64::from(candidates.in_flight(index));
            self.weight += u64::from(weight);
        }
    }
}

/// How much each may have now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ceiling {
    /// For all that were summed up.
    slots: u64,
    /// Of all that were summed up.
    weight: u64,
}

impl Ceiling {
    /// Whether an endpoint has room for one more.
    pub(super) fn admits<C: Candidates>(self, weights: &[u16], candidates: &C, index: usize) -> bool {
        let weight = |index: usize| u64::from(weights.get(index).copied().unwrap_or(0));
        let before = if weights.len() <= SUMMED_MAX {
            (0..index).filter(|&other| candidates.pickable(other)).map(weight).sum()
        } else {
            // Of a sample nobody has a place in the order: whatever does not divide evenly is rounded up.
            self.weight.saturating_sub(weight(index))
        };
        u64::from(candidates.in_flight(index)) < part(self.slots, weight(index), before, self.weight)
    }
}

/// Slots for `in_flight` and one more, at so many percent, rounded up.
const fn slots(in_flight: u64, percent: u64) -> u64 {
    (in_flight + 1).saturating_mul(percent).saturating_add(99) / 100
}

/// The part of `slots` of one with this weight, when those with a weight of `before` come before it, of `sum` in all.
/// What does not divide evenly is dealt out so that all parts together are `slots`; nobody has none.
const fn part(slots: u64, weight: u64, before: u64, sum: u64) -> u64 {
    if sum == 0 {
        return u64::MAX;
    }
    let rest = slots % sum;
    // Both below the sum of all weights, so the products fit.
    let part = weight * (slots / sum) + (before + weight) * rest / sum - before * rest / sum;
    if part == 0 { 1 } else { part }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vector 10 of the algorithms reference: three of weight 1, 3 in flight, factor 1.5.
    #[test]
    fn two_slots_each_for_four_requests_on_three_at_one_and_a_half() {
        assert_eq!(slots(3, 150), 6);
        assert_eq!([0, 1, 2].map(|before| part(6, 1, before, 3)), [2, 2, 2]);
    }

    #[test]
    fn all_parts_together_are_all_slots() {
        let weights = [3u64, 1, 7, 2];
        for slots in 13..200 {
            let mut before = 0;
            let mut sum = 0;
            for weight in weights {
                sum += part(slots, weight, before, 13);
                before += weight;
            }
            assert_eq!(sum, slots);
        }
    }

    #[test]
    fn nobody_has_no_slot() {
        assert_eq!(part(1, 1, 999, 1_000_000), 1);
        assert_eq!(part(5, 1, 0, 0), u64::MAX);
    }
}
