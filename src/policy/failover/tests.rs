//! Hold-down, ramp, orders and spill as new work meets them, and what holds over random histories.

use proptest::prelude::*;

use super::*;

const AFTER: Duration = Duration::from_secs(60);
const RAMP: Duration = Duration::from_secs(30);

fn settings() -> Settings {
    Settings {
        spill: None,
        failback: Failback::After { after: AFTER, ramp: RAMP },
        panic_threshold: 0.0,
        min_available: Amount::Count(1),
    }
}

fn manual() -> Settings {
    Settings { failback: Failback::Manual, ..settings() }
}

/// Levels of four with so many usable.
fn levels(usable: &[u64]) -> Vec<Level> {
    usable.iter().map(|&usable| Level { total: 4, usable, unproven: 0 }).collect()
}

/// Levels under their settings, asked at seconds.
struct Ladder {
    settings: Settings,
    state: FailoverState,
}

impl Ladder {
    fn new(settings: Settings) -> Self {
        Self { settings, state: FailoverState::default() }
    }

    fn plan(&mut self, second: u64, usable: &[u64]) -> Plan {
        self.state.plan(&self.settings, &levels(usable), Duration::from_secs(second))
    }

    /// The share of all traffic that each level takes, to a tenth of a percent.
    fn shares(&mut self, second: u64, usable: &[u64]) -> Vec<f64> {
        rounded(&self.plan(second, usable))
    }

    fn tell(&mut self, second: u64, target: usize) {
        self.state.fail_over(target, self.settings.failback, Duration::from_secs(second));
    }
}

fn shares(plan: &Plan) -> Vec<f64> {
    let mut arriving = 1.0;
    let take = |gate: &u32| {
        let share = arriving * f64::from(*gate) / f64::from(WHOLE);
        arriving -= share;
        share
    };
    plan.gates.iter().map(take).collect()
}

fn rounded(plan: &Plan) -> Vec<f64> {
    shares(plan).iter().map(|share| (share * 1000.0).round() / 1000.0).collect()
}

#[test]
fn the_next_tier_gets_nothing_until_the_last_endpoint_of_the_first_is_gone() {
    let mut ladder = Ladder::new(settings());
    for usable in [4, 3, 2, 1] {
        assert_eq!(ladder.shares(4 - usable, &[usable, 4]), [1.0, 0.0]);
    }
    assert_eq!(ladder.shares(10, &[0, 4]), [0.0, 1.0]);
}

#[test]
fn a_recovered_tier_is_held_and_then_takes_a_growing_part() {
    let mut ladder = Ladder::new(settings());
    ladder.plan(0, &[4, 4]);
    ladder.plan(10, &[0, 4]);
    let plan = ladder.plan(100, &[4, 4]);
    assert_eq!((rounded(&plan), plan.again), (vec![0.0, 1.0], Some(Duration::from_secs(160))));
    assert_eq!(ladder.shares(159, &[4, 4]), [0.0, 1.0]);
    assert_eq!(ladder.shares(160, &[4, 4]), [0.0, 1.0]);
    assert_eq!(ladder.shares(175, &[4, 4]), [0.5, 0.5]);
    let plan = ladder.plan(190, &[4, 4]);
    assert_eq!((rounded(&plan), plan.again), (vec![1.0, 0.0], None));
}

#[test]
fn the_ramp_is_planned_anew_as_it_goes() {
    let mut ladder = Ladder::new(settings());
    ladder.plan(0, &[4, 4]);
    ladder.plan(1, &[0, 4]);
    ladder.plan(2, &[4, 4]);
    let step = RAMP / 64;
    assert_eq!(ladder.plan(70, &[4, 4]).again, Some(Duration::from_secs(70) + step));
    let at = Duration::from_millis(91_900);
    let again = ladder.state.plan(&ladder.settings, &levels(&[4, 4]), at).again;
    assert_eq!(again, Some(Duration::from_secs(92)), "not beyond its end");
}

#[test]
fn nothing_is_held_at_the_start() {
    let mut ladder = Ladder::new(settings());
    assert_eq!(ladder.shares(0, &[0, 4]), [0.0, 1.0]);
    assert_eq!(ladder.shares(20, &[1, 4]), [1.0, 0.0], "it had not been lost, only slower");
}

#[test]
fn nothing_is_held_where_nothing_else_serves() {
    let mut ladder = Ladder::new(settings());
    ladder.plan(0, &[4, 4]);
    ladder.plan(1, &[0, 0]);
    assert_eq!(ladder.shares(2, &[1, 0]), [1.0, 0.0]);
    assert_eq!(ladder.shares(3, &[1, 4]), [1.0, 0.0], "and what serves by then stays");

    let mut ladder = Ladder::new(settings());
    ladder.plan(0, &[4, 4]);
    ladder.plan(1, &[0, 4]);
    assert_eq!(ladder.shares(2, &[4, 4]), [0.0, 1.0]);
    assert_eq!(ladder.shares(3, &[4, 0]), [1.0, 0.0], "the other one was lost during the hold-down");
    let mut ladder = Ladder::new(settings());
    assert_eq!(ladder.plan(0, &[0, 0]).gates, [0, 0]);
}

#[test]
fn a_level_alone_on_its_ramp_takes_everything() {
    let mut ladder = Ladder::new(settings());
    ladder.plan(0, &[4, 4]);
    ladder.plan(1, &[0, 4]);
    ladder.plan(2, &[4, 4]);
    ladder.plan(62, &[4, 4]);
    assert_eq!(ladder.shares(65, &[4, 0]), [1.0, 0.0]);
}

/// The hold-down after the n-th loss, when each follows on the end of the hold-down before.
fn hold_after(losses: u32) -> Duration {
    let mut ladder = Ladder::new(settings());
    let mut second = 0;
    ladder.plan(second, &[4, 4]);
    for _ in 1..losses {
        ladder.plan(second + 1, &[0, 4]);
        ladder.plan(second + 2, &[4, 4]);
        second = ladder.state.held_until(0, ladder.settings.failback).expect("held").as_secs();
        ladder.plan(second, &[4, 4]);
    }
    let back = Duration::from_secs(second + 2);
    ladder.plan(second + 1, &[0, 4]);
    ladder.plan(second + 2, &[4, 4]);
    ladder.state.held_until(0, ladder.settings.failback).expect("held") - back
}

#[test]
fn each_flap_doubles_the_hold_down_up_to_ten_times() {
    let holds: Vec<u32> = (1..=6).map(|losses| (hold_after(losses).as_secs() / 60) as u32).collect();
    assert_eq!(holds, [1, 2, 4, 8, 10, 10]);
}

#[test]
fn a_relapse_starts_the_hold_down_again() {
    let mut ladder = Ladder::new(settings());
    ladder.plan(0, &[4, 4]);
    ladder.plan(1, &[0, 4]);
    ladder.plan(2, &[4, 4]);
    ladder.plan(50, &[0, 4]);
    let plan = ladder.plan(55, &[4, 4]);
    assert_eq!(plan.again, Some(Duration::from_secs(55 + 120)));
}

#[test]
fn a_level_that_stood_for_long_is_as_good_as_new() {
    let mut ladder = Ladder::new(settings());
    ladder.plan(0, &[4, 4]);
    ladder.plan(1, &[0, 4]);
    ladder.plan(2, &[4, 4]);
    ladder.plan(100, &[4, 4]);
    // It stands since 92 s.
    ladder.plan(92 + 600, &[0, 4]);
    assert_eq!(ladder.plan(693, &[4, 4]).again, Some(Duration::from_secs(693 + 60)));
}

#[test]
fn manual_failback_waits_until_told() {
    let mut ladder = Ladder::new(manual());
    ladder.plan(0, &[4, 4]);
    ladder.plan(1, &[0, 4]);
    let plan = ladder.plan(2, &[4, 4]);
    assert_eq!((rounded(&plan), plan.again), (vec![0.0, 1.0], None));
    assert_eq!(ladder.shares(1_000_000, &[4, 4]), [0.0, 1.0]);
    ladder.tell(1_000_001, 0);
    assert_eq!(ladder.shares(1_000_001, &[4, 4]), [1.0, 0.0]);
    ladder.plan(1_000_002, &[0, 4]);
    assert_eq!(ladder.shares(1_000_003, &[4, 4]), [0.0, 1.0], "each time anew");
    assert_eq!(ladder.shares(1_000_004, &[4, 0]), [1.0, 0.0], "but never at the cost of an outage");
}

#[test]
fn an_ordered_failover_lasts_until_home_is_ordered() {
    let mut ladder = Ladder::new(settings());
    ladder.plan(0, &[4, 4, 4]);
    ladder.tell(1, 1);
    assert_eq!(ladder.shares(1, &[4, 4, 4]), [0.0, 1.0, 0.0]);
    assert_eq!(ladder.shares(100_000, &[4, 4, 4]), [0.0, 1.0, 0.0]);
    ladder.tell(100_000, 0);
    assert_eq!(ladder.shares(100_000, &[4, 4, 4]), [0.0, 1.0, 0.0]);
    assert_eq!(ladder.shares(100_015, &[4, 4, 4]), [0.5, 0.5, 0.0]);
    assert_eq!(ladder.shares(100_030, &[4, 4, 4]), [1.0, 0.0, 0.0]);
}

#[test]
fn an_ordered_failover_ends_a_hold_down_of_its_target() {
    let mut ladder = Ladder::new(settings());
    ladder.plan(0, &[4, 4, 4]);
    ladder.plan(1, &[4, 0, 4]);
    ladder.plan(2, &[4, 4, 4]);
    ladder.tell(3, 1);
    assert_eq!(ladder.shares(3, &[4, 4, 4]), [0.0, 1.0, 0.0]);
}

#[test]
fn an_ordered_failover_is_waived_while_its_target_and_all_after_it_are_gone() {
    let mut ladder = Ladder::new(settings());
    ladder.plan(0, &[4, 4, 4]);
    ladder.tell(1, 1);
    assert_eq!(ladder.shares(1, &[4, 0, 4]), [0.0, 0.0, 1.0], "first the order goes on");
    assert_eq!(ladder.shares(2, &[4, 0, 0]), [1.0, 0.0, 0.0]);
    assert_eq!(ladder.shares(3, &[4, 4, 0]), [0.0, 1.0, 0.0], "and then it holds again");
    assert_eq!(ladder.state.pinned(), 1);
}

#[test]
fn what_is_unproven_serves_only_where_nothing_is_proven() {
    let unproven = Level { total: 4, usable: 0, unproven: 4 };
    let proven = Level { total: 4, usable: 4, unproven: 0 };
    let mut state = FailoverState::default();
    let mut gates =
        |second, levels: &[Level]| state.plan(&settings(), levels, Duration::from_secs(second)).gates;
    assert_eq!(gates(0, &[unproven, unproven]), [WHOLE, WHOLE]);
    assert_eq!(gates(1, &[unproven, proven]), [0, WHOLE]);
    assert_eq!(gates(2, &[proven, proven]), [WHOLE, WHOLE]);
    assert_eq!(gates(3, &[unproven, proven]), [0, WHOLE], "all endpoints were replaced");
    assert_eq!(gates(4, &[proven, proven]), [WHOLE, WHOLE], "which is no loss");
}

#[test]
fn a_reload_keeps_hold_downs_and_orders() {
    let mut ladder = Ladder::new(settings());
    ladder.plan(0, &[4, 4]);
    ladder.plan(1, &[0, 4]);
    ladder.plan(2, &[4, 4]);
    ladder.state = ladder.state.carried(&[Some(0), None, Some(1)]);
    assert_eq!(ladder.shares(3, &[4, 0, 4]), [0.0, 0.0, 1.0]);
    ladder.tell(4, 2);
    ladder.state = ladder.state.carried(&[Some(0), Some(2)]);
    assert_eq!(ladder.state.pinned(), 1);
    ladder.state = ladder.state.carried(&[Some(0)]);
    assert_eq!(ladder.state.pinned(), 0, "its target is gone");
}

#[test]
fn spill_takes_envoys_parts_of_all_traffic() {
    for (usable, percent) in [
        (&[72, 100][..], &[100.0, 0.0][..]),
        (&[71, 100], &[99.0, 1.0]),
        (&[50, 100], &[70.0, 30.0]),
        (&[25, 25, 20], &[37.0, 35.0, 28.0]),
        (&[25, 25], &[50.0, 50.0]),
    ] {
        let levels: Vec<Level> =
            usable.iter().map(|&usable| Level { total: 100, usable, unproven: 0 }).collect();
        let settings = Settings { spill: Some(1.4), ..settings() };
        let plan = FailoverState::default().plan(&settings, &levels, Duration::ZERO);
        for (share, percent) in shares(&plan).iter().zip(percent) {
            assert!((share * 100.0 - percent).abs() < 0.01, "{usable:?} {plan:?}");
        }
    }
}

#[test]
fn with_spill_a_recovered_tier_is_held_and_ramped_too() {
    let mut ladder = Ladder::new(Settings { spill: Some(1.0), ..settings() });
    ladder.plan(0, &[4, 4]);
    ladder.plan(1, &[0, 4]);
    assert_eq!(ladder.shares(2, &[4, 4]), [0.0, 1.0]);
    assert_eq!(ladder.shares(62 + 15, &[4, 4]), [0.5, 0.5]);
    assert_eq!(ladder.shares(62 + 30, &[4, 4]), [1.0, 0.0]);
}

#[test]
fn a_sliver_below_one_percent_still_serves_when_it_is_all_there_is() {
    let settings = Settings { spill: Some(1.0), ..settings() };
    let levels = [Level { total: 1000, usable: 1, unproven: 0 }, Level::default()];
    assert_eq!(FailoverState::default().plan(&settings, &levels, Duration::ZERO).gates, [WHOLE, 0]);
}

#[test]
fn a_strict_tier_panics_alone_and_only_while_it_serves() {
    let mut ladder = Ladder::new(Settings { panic_threshold: 0.5, ..settings() });
    assert_eq!(ladder.plan(0, &[2, 4]).panic, [false, false], "under, not at");
    assert_eq!(ladder.plan(1, &[1, 4]).panic, [true, false]);
    assert_eq!(ladder.plan(2, &[0, 4]).panic, [false, false], "it hands on instead");
    assert_eq!(ladder.plan(3, &[0, 0]).panic, [false, false], "failover pools come first");
}

#[test]
fn removals_stop_at_what_must_stay() {
    assert!(may_remove(3, 4, Amount::Count(2)));
    assert!(!may_remove(2, 4, Amount::Count(2)));
    assert!(!may_remove(1, 4, Amount::Count(2)), "failures count against it");
    assert!(may_remove(1, 1, Amount::Count(0)));
    assert_eq!(removable(5, 5, Amount::Percent(50)), 2, "half of five is three");
    assert_eq!(removable(0, 0, Amount::Percent(50)), 0);
}

fn any_settings() -> impl Strategy<Value = Settings> {
    let failback = prop_oneof![
        Just(Failback::Manual),
        (0u64..100, 0u64..100).prop_map(|(after, ramp)| Failback::After {
            after: Duration::from_secs(after),
            ramp: Duration::from_secs(ramp)
        }),
    ];
    (prop::option::of(1.0..2.0f64), failback, prop_oneof![Just(0.0), 0.0..1.0f64]).prop_map(
        |(spill, failback, panic_threshold)| Settings { spill, failback, panic_threshold, ..settings() },
    )
}

fn any_levels() -> impl Strategy<Value = Vec<Level>> {
    let level = (0u64..5, 0u64..3, 0u64..5).prop_map(|(usable, unproven, down)| Level {
        total: usable + unproven + down,
        usable,
        unproven,
    });
    prop::collection::vec(level, 3)
}

proptest! {
    /// The heart of it: work never finds the door closed while anything is usable, and is never sent to nothing.
    #[test]
    fn all_traffic_goes_to_what_is_usable(
        settings in any_settings(),
        steps in prop::collection::vec((any_levels(), 0u64..200, prop::option::weighted(0.1, 0usize..3)), 1..40),
    ) {
        let mut state = FailoverState::new(3);
        let mut now = Duration::ZERO;
        for (levels, gap, order) in steps {
            now += Duration::from_secs(gap);
            if let Some(target) = order {
                state.fail_over(target, settings.failback, now);
            }
            let plan = state.plan(&settings, &levels, now);
            prop_assert!(plan.gates.iter().all(|gate| *gate <= WHOLE));
            prop_assert!(plan.again.is_none_or(|again| again > now));
            let proven = levels.iter().any(|level| level.usable > 0);
            let available: Vec<u64> = levels.iter().map(|level| if proven { level.usable } else { level.unproven }).collect();
            let usable = available.iter().any(|&available| available > 0);
            let shares = shares(&plan);
            let all = f64::from(u8::from(usable));
            prop_assert!((shares.iter().sum::<f64>() - all).abs() < 1e-9);
            for (at, &share) in shares.iter().enumerate() {
                prop_assert!(share == 0.0 || available[at] > 0 || plan.panic[at]);
                let stands_back = matches!(state.phase(at), Phase::Held { .. }) || at < state.pinned();
                let others = (state.pinned()..3).any(|other| other != at && available[other] > 0);
                prop_assert!(share == 0.0 || !stands_back || !others || plan.panic[at]);
            }
        }
    }

    #[test]
    fn when_nothing_changes_any_more_traffic_comes_home(
        settings in any_settings(), steps in prop::collection::vec((any_levels(), 0u64..200), 1..20),
    ) {
        let Failback::After { after, ramp } = settings.failback else { return Ok(()) };
        let mut state = FailoverState::new(3);
        let mut now = Duration::ZERO;
        for (levels, gap) in steps {
            now += Duration::from_secs(gap);
            state.plan(&settings, &levels, now);
        }
        let end = now + after * 10 + ramp;
        let mut plan = state.plan(&settings, &levels(&[4, 4, 4]), now);
        let mut plans = 0;
        while let Some(again) = plan.again {
            plan = state.plan(&settings, &levels(&[4, 4, 4]), again);
            plans += 1;
            prop_assert!(again <= end && plans < 300);
        }
        prop_assert_eq!(shares(&plan), vec![1.0, 0.0, 0.0]);
    }
}
