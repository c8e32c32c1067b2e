//! How much work an endpoint takes by how busy its pool is.

use crate::policy::balance::FULL_SHARE;

/// A ceiling that rises with the load of the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rising {
    /// The ceiling of each endpoint while its pool has little to do; from 1.
    pub min: u32,
    /// Requests of the pool, under way and waiting, from which on the whole ceiling holds.
    pub full_load: u32,
}

/// The problem: an endpoint works best with few requests at once, and a ceiling low enough for that is too low in a peak. Why
/// this answer: HAProxy's `minconn` and `fullconn` (its configuration manual; `srv_dynamic_maxconn` in its queue code), which
/// operators know: the ceiling is the share of `max` that the load is of `full_load`, never under `min`, and then the share
/// that is in force while the endpoint starts slowly, never under 1. When wrong: requests wait although an endpoint would take
/// more; that is what it is for.
#[must_use]
pub fn ceiling(rising: Rising, max: u32, load: u32, share: u32) -> u32 {
    let (max, load) = (u64::from(max), u64::from(load));
    let (min, full) = (u64::from(rising.min).min(max), u64::from(rising.full_load));
    let whole = if load >= full || min == max { max } else { (load * max / full).max(min) };
    let started = if share < FULL_SHARE { whole * u64::from(share) / u64::from(FULL_SHARE) } else { whole };
    u32::try_from(started.max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RISING: Rising = Rising { min: 100, full_load: 10_000 };

    #[test]
    fn the_manuals_example_comes_out_to_the_number() {
        let at = |load| ceiling(RISING, 1000, load, FULL_SHARE);
        assert_eq!([500, 5000, 10_000, 50_000].map(at), [100, 500, 1000, 1000]);
        assert_eq!(ceiling(RISING, 1000, 10_000, FULL_SHARE / 4), 250, "a quarter of the slow start");
    }

    #[test]
    fn nothing_is_ever_closed_to_all() {
        assert_eq!(ceiling(Rising { min: 1, full_load: 100 }, 50, 0, 0), 1);
        assert_eq!(ceiling(RISING, 50, 0, FULL_SHARE), 50, "a minimum above the maximum is the maximum");
        assert_eq!(ceiling(Rising { min: 1, full_load: 0 }, 50, 0, FULL_SHARE), 50);
    }

    proptest! {
        #[test]
        fn it_rises_with_the_load_and_stays_within_its_bounds(
            min in 1u32..1000, more in 0u32..100_000, full in 1u32..1_000_000, load in 0u32..2_000_000,
        ) {
            let (rising, max) = (Rising { min, full_load: full }, min + more);
            let at = |load| ceiling(rising, max, load, FULL_SHARE);
            prop_assert!(at(load) <= at(load.saturating_add(1)));
            prop_assert!((min..=max).contains(&at(load)));
        }
    }
}
