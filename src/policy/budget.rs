//! How many retries a pool may make: a share of its requests, and a few per second above that. What is retried is
//! `retry`'s to say.

use std::time::Duration;

/// How long a deposit and a withdrawal count.
const WINDOW: Duration = Duration::from_secs(10);

/// Parts of the window that a budget counts; the one that is being filled comes on top of these, as in tower.
pub const SLOTS: usize = 10;

/// How large the budget is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// So many retries for each request, from 0 to 1000. Up to 1 it acts as 1/n with the next whole n below its inverse,
    /// which is tower's rounding: 0.2 is one in five, 0.3 is one in three.
    pub ratio: f64,
    /// Retries a second that are always allowed, for pools with little traffic.
    pub minimum_per_second: u32,
}

/// The budget of one pool, counted as tower's `TpsBudget` (and Finagle's `RetryBudget`) do.
///
/// The problem: a bound per request multiplies load just when there is too much of it. Why a budget: while few requests
/// fail all of them can be repeated, and when most fail the repeats stay a fixed share of the traffic. When wrong: it
/// cannot tell one failing endpoint from all of them; ejection does that.
///
/// Each request deposits, each retry withdraws more, and both are forgotten after ten to eleven seconds. Requests touch
/// only counters of their worker; the sum of these is brought by whoever withdraws, and by a tick, so that deposits are
/// booked when they were made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// What one request puts in.
    deposit: i64,
    /// What one retry takes out.
    withdrawal: i64,
    /// What is always there: the minimum a second over the whole window.
    reserve: i64,
    /// Deposits less withdrawals of the slot that is being filled (the last) and the ten before it, by slot number.
    slots: [i64; SLOTS + 1],
    /// Number of the slot that is being filled, counted from time zero.
    slot: u64,
    /// Requests of the pool as they were last brought.
    requests: u64,
}

impl Budget {
    /// A fresh budget of a pool that has had `requests` so far.
    #[must_use]
    pub fn new(settings: &Settings, now: Duration, requests: u64) -> Self {
        let (deposit, withdrawal) = amounts(settings.ratio);
        let seconds = WINDOW.as_secs().cast_signed();
        Self {
            deposit,
            withdrawal,
            reserve: (i64::from(settings.minimum_per_second) * seconds).saturating_mul(withdrawal),
            slots: [0; SLOTS + 1],
            slot: slot_of(now),
            requests,
        }
    }

    /// What a process hands to the next one: the slots, by slot number, and the one that is being filled.
    #[must_use]
    pub const fn parts(&self) -> ([i64; SLOTS + 1], u64) {
        (self.slots, self.slot)
    }

    /// Goes on with the slots of another process, whose time line is ours.
    #[must_use]
    pub fn resumed(self, slots: [i64; SLOTS + 1], slot: u64) -> Self {
        // A slot to come cannot be: then nothing is believed.
        if slot > self.slot { self } else { Self { slots, slot, ..self } }
    }

    /// Brings the number of requests of the pool so far, summed over all workers.
    ///
    /// Requests of a time in which nobody called, of which only the sum is known, are booked evenly over that time: an
    /// hour's requests do not become one second's budget.
    pub fn tick(&mut self, now: Duration, requests: u64) {
        let slot = slot_of(now).max(self.slot);
        let passed = slot - self.slot;
        let new = requests.saturating_sub(self.requests);
        self.requests = self.requests.max(requests);
        let kept = passed.min(SLOTS as u64 + 1);
        for ago in 0..kept {
            self.slots[index(slot - ago)] = 0;
        }
        self.slot = slot;
        if passed <= 1 {
            self.book(slot, new);
            return;
        }
        for ago in 0..kept {
            self.book(slot - ago, new / passed);
        }
        self.book(slot, new % passed);
    }

    /// Takes one retry out of the budget; says no, and takes nothing, when it is spent.
    #[must_use]
    pub fn withdraw(&mut self, now: Duration, requests: u64) -> bool {
        self.tick(now, requests);
        let allowed = self.balance() >= self.withdrawal;
        if allowed {
            self.slots[index(self.slot)] -= self.withdrawal;
        }
        allowed
    }

    /// Retries that are left just now.
    #[must_use]
    pub fn left(&self) -> u64 {
        u64::try_from(self.balance() / self.withdrawal).unwrap_or(0)
    }

    fn balance(&self) -> i64 {
        self.slots.iter().fold(self.reserve, |sum, slot| sum.saturating_add(*slot))
    }

    fn book(&mut self, slot: u64, requests: u64) {
        let amount = i64::try_from(requests).unwrap_or(i64::MAX).saturating_mul(self.deposit);
        let slot = &mut self.slots[index(slot)];
        *slot = slot.saturating_add(amount);
    }
}

/// What a request puts in and what a retry takes out, as `TpsBudget::new` has it.
#[expect(clippy::cast_possible_truncation, reason = "tower rounds down, and so the amounts are the same")]
fn amounts(ratio: f64) -> (i64, i64) {
    if ratio <= 0.0 {
        (0, 1)
    } else if ratio <= 1.0 {
        (1, (1.0 / ratio) as i64)
    } else {
        (1000, ((1000.0 / ratio) as i64).max(1))
    }
}

fn slot_of(now: Duration) -> u64 {
    let width = WINDOW / SLOTS as u32;
    u64::try_from(now.as_nanos() / width.as_nanos()).unwrap_or(u64::MAX)
}

fn index(slot: u64) -> usize {
    (slot % (SLOTS as u64 + 1)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn budget(ratio: f64, minimum_per_second: u32) -> Budget {
        Budget::new(&Settings { ratio, minimum_per_second }, Duration::ZERO, 0)
    }

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// How many retries can be had at once.
    fn drained(budget: &mut Budget, now: u64, requests: u64) -> u32 {
        let mut count = 0;
        while budget.withdraw(at(now), requests) {
            count += 1;
        }
        count
    }

    /// Vector 13 of Finagle's budget: ten seconds, ten a second, one in five.
    #[test]
    fn a_fresh_budget_is_its_reserve_and_requests_add_their_share() {
        assert_eq!(drained(&mut budget(0.2, 10), 0, 0), 100);
        assert_eq!(drained(&mut budget(0.2, 10), 5_000, 1_000), 300);
        assert_eq!(drained(&mut budget(0.2, 3), 0, 0), 30, "ours by default");
    }

    #[test]
    fn amounts_are_towers() {
        let cases = [(0.0, (0, 1)), (0.1, (1, 10)), (0.2, (1, 5)), (0.3, (1, 3)), (1.0, (1, 1))];
        for (ratio, want) in cases.into_iter().chain([(2.0, (1000, 500)), (1000.0, (1000, 1))]) {
            assert_eq!(amounts(ratio), want, "{ratio}");
        }
    }

    #[test]
    fn nothing_can_be_had_from_nothing() {
        assert_eq!(drained(&mut budget(1.0, 0), 0, 0), 0);
        assert_eq!(drained(&mut budget(0.0, 0), 0, 1_000), 0, "a ratio of none is the minimum alone");
        assert_eq!(drained(&mut budget(0.0, 1), 0, 1_000), 10);
    }

    #[test]
    fn deposits_and_withdrawals_are_forgotten_after_the_window() {
        let mut old = budget(0.5, 0);
        old.tick(at(0), 2);
        assert_eq!(old.clone().left(), 1);
        assert_eq!(drained(&mut old.clone(), 9_999, 2), 1, "at least ten seconds");
        assert_eq!(drained(&mut old, 11_000, 2), 0, "at most eleven");
        let mut spent = budget(0.2, 3);
        assert_eq!(drained(&mut spent, 500, 0), 30);
        assert_eq!(drained(&mut spent, 9_999, 0), 0);
        assert_eq!(drained(&mut spent, 11_000, 0), 30);
    }

    #[test]
    fn requests_of_a_time_without_calls_are_spread_over_it() {
        let mut quiet = budget(0.2, 0);
        // An hour with a thousand requests a second, of which eleven seconds count.
        assert_eq!(drained(&mut quiet, 3_600_000, 3_600_000), 2_200);
    }

    #[test]
    fn requests_before_it_began_give_nothing() {
        let settings = Settings { ratio: 0.2, minimum_per_second: 0 };
        let mut late = Budget::new(&settings, at(1_000), 1_000_000);
        assert_eq!(drained(&mut late, 1_000, 1_000_000), 0);
        assert_eq!(drained(&mut late, 1_000, 1_000_005), 1);
    }

    #[test]
    fn a_now_or_a_sum_that_comes_late_changes_nothing() {
        let mut budget = budget(0.2, 0);
        budget.tick(at(20_000), 100);
        let before = budget.clone();
        budget.tick(at(19_000), 90);
        assert_eq!(budget, before);
    }

    proptest! {
        /// Whenever a retry is granted, those of the last ten seconds are no more than the reserve and the share of the
        /// requests of the last eleven (and one tick).
        #[test]
        fn it_is_never_overdrawn(
            steps in prop::collection::vec((0_u64..700, 0_u64..200, 0_u32..60), 1..300),
            minimum in 0_u32..4,
        ) {
            let mut budget = budget(0.2, minimum);
            let (mut now, mut sum) = (0, 0);
            let (mut requests, mut retries) = (Vec::new(), Vec::new());
            for (wait, new, wanted) in steps {
                now += wait;
                sum += new;
                requests.push((now, new));
                budget.tick(at(now), sum);
                for _ in 0..wanted {
                    if budget.withdraw(at(now), sum) {
                        retries.push(now);
                    }
                }
                if retries.last() != Some(&now) {
                    continue;
                }
                let made = retries.iter().filter(|then| **then + 10_000 > now).count() as u64;
                let asked: u64 =
                    requests.iter().filter(|(then, _)| *then + 11_700 > now).map(|(_, new)| new).sum();
                prop_assert!(made <= u64::from(minimum) * 10 + asked / 5, "{made} at {now}");
            }
        }

        /// Whoever asks for no more than the share of the requests so far is never refused while it lasts.
        #[test]
        fn the_share_is_granted(steps in prop::collection::vec((0_u64..90, 1_u64..20), 1..100)) {
            let mut budget = budget(0.2, 0);
            let (mut now, mut sum, mut made) = (0, 0, 0);
            for (wait, new) in steps {
                (now, sum) = (now + wait, sum + new);
                while made < sum / 5 {
                    prop_assert!(budget.withdraw(at(now), sum));
                    made += 1;
                }
                prop_assert!(!budget.withdraw(at(now), sum));
            }
        }
    }
}
