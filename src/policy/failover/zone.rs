//! How much of a level's traffic stays in the node's own zone.

use super::spill::factor_percent;
use super::{Level, WHOLE};

/// The gate of the own zone: the part of what arrives at a level that stays within `local`; the rest goes to the other
/// zones of the level, `elsewhere`.
///
/// The problem: traffic between zones costs money and time, and a zone that has lost half of its endpoints must not be
/// run over by its neighbours. Why this answer: what the zone is lacking spills in proportion, so its own endpoints carry
/// no more than when all were well; a `spill` of 1.4 lets it lose 28 % first, as between tiers. When wrong: where the
/// zones have unequal traffic for their endpoints; Envoy's zone-aware routing compares both, but must know every other
/// proxy's zone for that.
#[must_use]
pub fn local_share(local: &Level, elsewhere: &Level, spill: Option<f64>) -> u32 {
    let is_proven = local.usable > 0 || elsewhere.usable > 0;
    let available = |level: &Level| if is_proven { level.usable } else { level.unproven };
    let (here, there) = (available(local).min(local.total), available(elsewhere));
    if here == 0 || there == 0 {
        return if here == 0 { 0 } else { WHOLE };
    }
    let factor = u128::from(spill.map_or(100, factor_percent).max(100));
    let share = u128::from(here) * factor * u128::from(WHOLE) / (u128::from(local.total) * 100);
    u32::try_from(share).unwrap_or(WHOLE).min(WHOLE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn level(usable: u64, total: u64) -> Level {
        Level { total, usable, unproven: 0 }
    }

    #[test]
    fn what_the_zone_is_lacking_goes_elsewhere() {
        let share = |usable, spill| local_share(&level(usable, 4), &level(8, 8), spill);
        assert_eq!(share(4, None), WHOLE);
        assert_eq!(share(3, None), WHOLE / 4 * 3);
        assert_eq!(share(1, None), WHOLE / 4);
        assert_eq!(share(0, None), 0);
        assert_eq!(share(3, Some(1.4)), WHOLE, "within what it is overprovisioned by");
        assert_eq!(share(2, Some(1.4)), WHOLE * 7 / 10);
    }

    #[test]
    fn all_stays_when_there_is_nowhere_else() {
        assert_eq!(local_share(&level(1, 4), &level(0, 8), None), WHOLE);
        assert_eq!(local_share(&level(1, 4), &level(0, 0), None), WHOLE);
    }

    #[test]
    fn unproven_endpoints_count_where_none_is_proven() {
        let unproven = |count| Level { total: 4, usable: 0, unproven: count };
        assert_eq!(local_share(&unproven(2), &unproven(4), None), WHOLE / 2);
        assert_eq!(local_share(&unproven(4), &level(1, 4), None), 0);
    }

    proptest! {
        #[test]
        fn the_zone_never_carries_more_than_when_all_were_well(
            total in 1u64..1000, lost in 0u64..1000, there in 1u64..1000,
        ) {
            let here = total.saturating_sub(lost);
            let gate = local_share(&level(here, total), &level(there, there), None);
            prop_assert!(u64::from(gate) * total <= here * u64::from(WHOLE));
            prop_assert!(gate <= WHOLE);
        }
    }
}
