//! How much of the traffic each level takes where nothing is strict: Envoy's arithmetic, in its whole percents.

use super::Level;

/// The parts of the traffic, in percent, and which levels are in panic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Loads {
    /// They add up to 100, or to 0 when no level can take one percent.
    pub(super) percent: Vec<u64>,
    /// Levels on which every endpoint is used, whatever its state.
    pub(super) panic: Vec<bool>,
}

/// The problem: a strict tier that has lost half of its endpoints loads the rest with twice the traffic, while the
/// next tier stands idle. Why this answer: Envoy's (`load_balancer_impl.cc`): each level's health is its usable share
/// times the overprovisioning factor, at most 100 %; levels take their health in order, and if all together have less
/// than 100 % the parts are scaled up. With 1.4 a level spills once it is under 72 %. When wrong: it takes each later
/// level for large enough to carry all of the traffic, and a level's endpoints for equal.
///
/// `available` is what each level has, before hold-down and ramp; `part` of it, out of [`super::WHOLE`], may be used.
///
/// The panic of Envoy: where the levels together have less than 100 %, each whose usable share is under `panic_threshold`
/// uses all of its endpoints; if each is, the parts follow their sizes. One difference: where no level has anything
/// usable there is no panic, since failover pools come before failing open.
pub(super) fn loads(
    levels: &[Level],
    available: &[u64],
    part: &[u32],
    factor: f64,
    panic_threshold: f64,
) -> Loads {
    let health: Vec<u64> = (levels.iter().zip(available).zip(part))
        .map(|((level, &available), &part)| health(level.total, available, part, factor))
        .collect();
    let together = health.iter().sum::<u64>().min(100);
    let nothing_usable = available.iter().all(|&available| available == 0);
    let panic: Vec<bool> = (levels.iter().zip(available))
        .map(|(level, &available)| {
            together < 100 && !nothing_usable && is_under(level.total, available, panic_threshold)
        })
        .collect();
    let all_in_panic = panic.iter().zip(levels).all(|(&panic, level)| panic || level.total == 0);
    let percent =
        if all_in_panic && panic.contains(&true) { by_size(levels) } else { by_health(&health, together) };
    Loads { percent, panic }
}

/// Whether the usable share is under a threshold; never for a level without endpoints.
pub(super) fn is_under(total: u64, available: u64, threshold: f64) -> bool {
    total > 0 && (available as f64) < threshold * total as f64
}

/// The factor in whole percents, as Envoy has it.
pub(super) fn factor_percent(factor: f64) -> u64 {
    // `as` saturates, and takes what is no number for 0.
    (factor * 100.0).round() as u64
}

fn health(total: u64, available: u64, part: u32, factor: f64) -> u64 {
    let scaled = u128::from(factor_percent(factor)) * u128::from(available.min(total)) * u128::from(part);
    let percent = scaled.checked_div(u128::from(total) * u128::from(super::WHOLE)).unwrap_or(0);
    u64::try_from(percent.min(100)).unwrap_or(100)
}

fn by_health(health: &[u64], together: u64) -> Vec<u64> {
    let mut left = 100;
    let mut loads: Vec<u64> = health
        .iter()
        .map(|health| {
            let load = (health * 100).checked_div(together).unwrap_or(0).min(left);
            left -= load;
            load
        })
        .collect();
    give_rest(&mut loads, left, |level| health[level] > 0);
    loads
}

fn by_size(levels: &[Level]) -> Vec<u64> {
    let all: u128 = levels.iter().map(|level| u128::from(level.total)).sum();
    let share = |level: &Level| (u128::from(level.total) * 100).checked_div(all).unwrap_or(0);
    let mut loads: Vec<u64> = levels.iter().map(|level| u64::try_from(share(level)).unwrap_or(100)).collect();
    let left = 100 - loads.iter().sum::<u64>().min(100);
    give_rest(&mut loads, left, |level| levels[level].total > 0);
    loads
}

/// What rounding left over goes to the first level that takes anything.
fn give_rest(loads: &mut [u64], rest: u64, takes: impl Fn(usize) -> bool) {
    if let Some(first) = (0..loads.len()).find(|&level| takes(level)) {
        loads[first] += rest;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::WHOLE;
    use super::*;

    /// Loads of levels of 100 with so many usable, at Envoy's factor.
    fn spilled(usable: &[u64], panic_threshold: f64) -> Loads {
        let levels: Vec<Level> =
            usable.iter().map(|&usable| Level { total: 100, usable, unproven: 0 }).collect();
        loads(&levels, usable, &vec![WHOLE; usable.len()], 1.4, panic_threshold)
    }

    #[test]
    fn the_loads_are_envoys() {
        for (usable, percent) in [
            (&[72, 100][..], &[100, 0][..]),
            (&[71, 100], &[99, 1]),
            (&[50, 100], &[70, 30]),
            (&[25, 100], &[35, 65]),
            (&[0, 100], &[0, 100]),
            (&[25, 25, 20], &[37, 35, 28]),
            (&[25, 25], &[50, 50]),
            (&[5, 65], &[8, 92]),
            (&[0, 0], &[0, 0]),
            (&[100, 100], &[100, 0]),
        ] {
            assert_eq!(spilled(usable, 0.0).percent, percent, "{usable:?}");
        }
    }

    #[test]
    fn panic_is_envoys() {
        assert_eq!(spilled(&[25, 25], 0.5).panic, [true, true]);
        assert_eq!(spilled(&[25, 25], 0.5).percent, [50, 50]);
        assert_eq!(spilled(&[5, 65], 0.5).panic, [true, false]);
        assert_eq!(spilled(&[5, 100], 0.5).panic, [false, false], "the others carry it");
        assert_eq!(spilled(&[25, 25], 0.25).panic, [false, false], "under, not at");
        assert_eq!(spilled(&[25, 25], 0.0).panic, [false, false]);
        assert_eq!(spilled(&[0, 0], 0.5).panic, [false, false], "failover pools come first");
    }

    #[test]
    fn where_all_are_in_panic_the_parts_follow_the_sizes() {
        let level = |total, usable| Level { total, usable, unproven: 0 };
        let levels = [level(30, 1), level(10, 0), level(0, 0)];
        let loads = loads(&levels, &[1, 0, 0], &[WHOLE; 3], 1.4, 0.5);
        assert_eq!((loads.percent, loads.panic), (vec![75, 25, 0], vec![true, true, false]));
    }

    #[test]
    fn a_ramp_counts_as_so_much_less_health() {
        let levels = [Level { total: 100, usable: 100, unproven: 0 }; 2];
        let loads = loads(&levels, &[100, 100], &[WHOLE / 2, WHOLE], 1.4, 0.0);
        assert_eq!(loads.percent, [70, 30]);
    }

    proptest! {
        #[test]
        fn loads_add_up_and_no_level_without_health_takes_any(
            usable in prop::collection::vec(0u64..=100, 1..6), threshold in 0.0..0.9f64,
        ) {
            let loads = spilled(&usable, threshold);
            let sum: u64 = loads.percent.iter().sum();
            prop_assert_eq!(sum, if usable.iter().all(|&usable| usable == 0) { 0 } else { 100 });
            for (at, &usable) in usable.iter().enumerate() {
                prop_assert!(usable > 0 || loads.percent[at] == 0 || loads.panic.iter().all(|&panic| panic));
            }
        }

        #[test]
        fn more_health_in_front_never_takes_less(usable in prop::array::uniform3(0u64..100)) {
            let [first, second, third] = usable;
            let before = spilled(&usable, 0.0).percent[0];
            let after = spilled(&[first + 1, second, third], 0.0).percent[0];
            // Rounding gives the first what is left over, which is at most a percent for each level.
            prop_assert!(after + 2 >= before);
        }
    }
}
