//! Passive ejection: what is due, what holds it back, how long it lasts. nginx's rule through the same face is `nginx_rule`'s.

mod nginx_rule;

use proptest::prelude::*;

use super::*;
use crate::model::units::Amount;

const SECOND: Duration = Duration::from_secs(1);

/// The contract's defaults.
fn settings() -> Settings {
    Settings {
        count: Counted { connect: true, reset: true, timeout: true, ..Counted::default() },
        consecutive_failures: 5,
        failure_ratio: Some(0.5),
        minimum_requests: 20,
        window: 10 * SECOND,
        ejection_time: 10 * SECOND,
        max_ejection_time: 300 * SECOND,
        max_ejected: Amount::Percent(50),
        latency: None,
        max_fails: None,
    }
}

/// Four endpoints, all of them usable.
const FACTS: Facts =
    Facts { endpoints: 4, ejected_by_judgement: 0, usable_others: 3, usable_failover: 0, min_available: 1 };

const LAST: Facts = Facts { usable_others: 0, ..FACTS };

/// One endpoint with its counters, as the runtime has them.
struct Endpoint {
    settings: Settings,
    outlier: Outlier,
    totals: Totals,
    now: Duration,
}

impl Endpoint {
    fn new(settings: Settings) -> Self {
        let now = 1_000 * SECOND;
        let outlier = Outlier::new(&settings, Totals::default(), now);
        Self { settings, outlier, totals: Totals::default(), now }
    }

    fn fails(&mut self, failure: Failure, facts: &Facts) -> Option<Decision> {
        self.totals.attempts += 1;
        self.totals.failures += u64::from(self.settings.count.has(failure));
        self.outlier.failed(&self.settings, failure, self.totals, || *facts, self.now)
    }

    fn works(&mut self, times: u64) {
        for _ in 0..times {
            self.totals.attempts += 1;
            self.succeed();
        }
    }

    /// A success, told as the runtime does: only while there is a streak.
    fn succeed(&mut self) -> Option<Return> {
        (self.outlier.streak() > 0).then(|| self.outlier.succeeded(&self.settings, self.now)).flatten()
    }

    /// Fails until a decision comes.
    fn until_decided(&mut self, failure: Failure, facts: &Facts) -> (u32, Decision) {
        for count in 1..1_000 {
            if let Some(decision) = self.fails(failure, facts) {
                return (count, decision);
            }
        }
        panic!("no decision after 1000 failures");
    }

    fn ejected_for(&mut self, failure: Failure) -> Duration {
        match self.until_decided(failure, &FACTS).1 {
            Decision::Eject(ejection) => ejection.until - self.now,
            held @ Decision::Hold { .. } => panic!("{held:?}"),
        }
    }

    /// Ticks every 100 ms for so long; what came back.
    fn passes(&mut self, time: Duration) -> Vec<Return> {
        let end = self.now + time;
        let mut returns = Vec::new();
        while self.now < end {
            self.now += SECOND / 10;
            returns.extend(self.outlier.tick(&self.settings, self.totals, self.now));
        }
        returns
    }
}

fn held(decision: Option<Decision>) -> Option<Cap> {
    match decision {
        Some(Decision::Hold { cap, .. }) => Some(cap),
        _ => None,
    }
}

#[test]
fn failures_in_a_row_eject() {
    for (failure, because, judgement) in [
        (Failure::Connect, Because::Connects(5), false),
        (Failure::Reset, Because::Consecutive { count: 5, last: Failure::Reset }, true),
        (Failure::Timeout, Because::Consecutive { count: 5, last: Failure::Timeout }, true),
    ] {
        let mut endpoint = Endpoint::new(settings());
        let (count, decision) = endpoint.until_decided(failure, &FACTS);
        let until = endpoint.now + 10 * SECOND;
        assert_eq!(count, 5);
        assert_eq!(decision, Decision::Eject(Ejection { until, because, judgement, number: 1 }));
        assert_eq!(endpoint.outlier.streak(), 0);
    }
}

#[test]
fn a_success_between_failures_begins_the_count_anew() {
    let mut endpoint = Endpoint::new(Settings { failure_ratio: None, ..settings() });
    for _ in 0..100 {
        for _ in 0..4 {
            assert_eq!(endpoint.fails(Failure::Reset, &FACTS), None);
        }
        assert_eq!(endpoint.outlier.streak(), 4);
        endpoint.works(1);
        assert_eq!(endpoint.outlier.streak(), 0);
    }
}

#[test]
fn a_mixed_run_is_a_judgement() {
    let mut endpoint = Endpoint::new(settings());
    for failure in [Failure::Connect, Failure::Connect, Failure::Reset, Failure::Connect] {
        assert_eq!(endpoint.fails(failure, &FACTS), None);
    }
    let full = Facts { ejected_by_judgement: 2, ..FACTS };
    assert_eq!(held(endpoint.fails(Failure::Connect, &full)), Some(Cap::MaxEjected));
    for _ in 0..2 {
        assert_eq!(endpoint.fails(Failure::Connect, &full), None);
    }
    let last = endpoint.fails(Failure::Connect, &full);
    assert!(
        matches!(last, Some(Decision::Eject(Ejection { because: Because::Connects(5), .. }))),
        "the connects that failed meanwhile stay counted: {last:?}"
    );
}

#[test]
fn what_is_not_counted_changes_nothing() {
    let mut endpoint = Endpoint::new(settings());
    for _ in 0..200 {
        assert_eq!(endpoint.fails(Failure::Status(503), &FACTS), None);
    }
    assert_eq!(endpoint.outlier.streak(), 0);
    let count = Counted { statuses: vec![(500, 599)], ..Counted::default() };
    let mut listed = Endpoint::new(Settings { count, ..settings() });
    assert_eq!(listed.until_decided(Failure::Status(503), &FACTS).0, 5);
}

#[test]
fn a_share_of_failures_ejects_from_the_minimum_on() {
    let mut endpoint = Endpoint::new(Settings { consecutive_failures: 0, ..settings() });
    endpoint.works(10);
    for _ in 0..9 {
        assert_eq!(endpoint.fails(Failure::Reset, &FACTS), None);
    }
    let Some(Decision::Eject(ejection)) = endpoint.fails(Failure::Reset, &FACTS) else {
        panic!("not ejected at {:?}", endpoint.totals)
    };
    assert_eq!(ejection.because, Because::Ratio(endpoint.totals));
    assert!(ejection.judgement);
}

#[test]
fn old_failures_leave_the_share() {
    let mut endpoint = Endpoint::new(Settings { consecutive_failures: 0, ..settings() });
    for _ in 0..19 {
        assert_eq!(endpoint.fails(Failure::Reset, &FACTS), None);
    }
    endpoint.passes(10 * SECOND);
    for _ in 0..19 {
        assert_eq!(endpoint.fails(Failure::Reset, &FACTS), None);
    }
    assert!(endpoint.fails(Failure::Reset, &FACTS).is_some());
}

#[test]
fn the_share_begins_anew_after_an_ejection() {
    let mut endpoint =
        Endpoint::new(Settings { consecutive_failures: 0, ejection_time: SECOND, ..settings() });
    assert_eq!(endpoint.until_decided(Failure::Reset, &FACTS).0, 20);
    assert_eq!(endpoint.passes(SECOND).len(), 1);
    assert_eq!(endpoint.until_decided(Failure::Reset, &FACTS).0, 20, "not at once, by what is over");
}

/// Vector 6 (Envoy): base 30 s, the n-th in a row lasts 30, 60, 90 s and so on, 300 s at most.
#[test]
fn each_ejection_in_a_row_lasts_longer() {
    let mut endpoint = Endpoint::new(Settings { ejection_time: 30 * SECOND, ..settings() });
    let lasted: Vec<u64> = (0..12)
        .map(|_| {
            let time = endpoint.ejected_for(Failure::Connect);
            assert_eq!(endpoint.passes(time - SECOND / 10), []);
            assert_eq!(endpoint.passes(SECOND / 10).len(), 1);
            time.as_secs()
        })
        .collect();
    assert_eq!(lasted, [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]);
}

#[test]
fn good_behaviour_makes_the_next_one_shorter() {
    let mut endpoint = Endpoint::new(settings());
    for _ in 0..3 {
        let time = endpoint.ejected_for(Failure::Connect);
        endpoint.passes(time);
    }
    assert_eq!(endpoint.outlier.ejections(), 3);
    endpoint.passes(9 * SECOND);
    assert_eq!(endpoint.outlier.ejections(), 3);
    endpoint.passes(SECOND);
    assert_eq!(endpoint.outlier.ejections(), 2);
    endpoint.passes(9 * SECOND);
    assert_eq!(endpoint.ejected_for(Failure::Connect), 30 * SECOND, "two are left, so this is the third");
    endpoint.passes(30 * SECOND);
    endpoint.passes(40 * SECOND);
    assert_eq!(endpoint.ejected_for(Failure::Connect), 10 * SECOND);
}

#[test]
fn failures_of_attempts_from_before_add_nothing() {
    let mut endpoint = Endpoint::new(settings());
    endpoint.until_decided(Failure::Reset, &FACTS);
    for _ in 0..500 {
        assert_eq!(endpoint.fails(Failure::Reset, &FACTS), None);
    }
    assert_eq!((endpoint.outlier.ejections(), endpoint.outlier.streak()), (1, 0));
}

#[test]
fn nothing_takes_the_last_usable_one() {
    for failure in [Failure::Connect, Failure::Reset] {
        let mut endpoint = Endpoint::new(settings());
        let (count, decision) = endpoint.until_decided(failure, &LAST);
        assert_eq!((count, held(Some(decision))), (5, Some(Cap::LastUsable)));
        let again = (0..50).filter(|_| endpoint.fails(failure, &LAST).is_some()).count();
        assert_eq!(again, 0, "told once in a window");
        endpoint.passes(10 * SECOND);
        assert_eq!(held(Some(endpoint.until_decided(failure, &LAST).1)), Some(Cap::LastUsable));
        let elsewhere = Facts { usable_failover: 1, min_available: 0, ..LAST };
        assert!(matches!(endpoint.until_decided(failure, &elsewhere), (1..=5, Decision::Eject(_))));
    }
}

#[test]
fn caps_hold_judgements_alone() {
    let full = Facts { ejected_by_judgement: 2, ..FACTS };
    let few = Facts { min_available: 4, ..FACTS };
    for (facts, cap) in [(full, Cap::MaxEjected), (few, Cap::MinAvailable)] {
        let mut judged = Endpoint::new(settings());
        assert_eq!(held(Some(judged.until_decided(Failure::Reset, &facts).1)), Some(cap));
        let mut seen = Endpoint::new(settings());
        assert!(matches!(seen.until_decided(Failure::Connect, &facts).1, Decision::Eject(_)), "{cap:?}");
    }
}

/// Vector 5 (Envoy's guard): of ten endpoints at 10 % one may go, of nine none. We have no `always_eject_one_host`, and
/// no success-rate deviation: a share of failures is judged by itself.
#[test]
fn the_share_that_may_go_is_rounded_down() {
    let tenth = Settings { max_ejected: Amount::Percent(10), ..settings() };
    for (endpoints, ejected_by_judgement, want) in
        [(10, 0, None), (10, 1, Some(Cap::MaxEjected)), (9, 0, Some(Cap::MaxEjected))]
    {
        let facts = Facts { endpoints, ejected_by_judgement, usable_others: 8, ..FACTS };
        let decision = Endpoint::new(tenth.clone()).until_decided(Failure::Reset, &facts).1;
        assert_eq!(held(Some(decision)), want, "{facts:?}");
    }
}

#[test]
fn the_only_one_of_a_pool_may_go_where_a_failover_pool_stands_in() {
    let only = Facts { endpoints: 1, usable_failover: 2, ..LAST };
    let decided = |settings: Settings, facts: &Facts| {
        held(Some(Endpoint::new(settings).until_decided(Failure::Reset, facts).1))
    };
    assert_eq!(decided(settings(), &only), None, "by the defaults");
    assert_eq!(decided(settings(), &Facts { usable_failover: 0, ..only }), Some(Cap::LastUsable));
    assert_eq!(decided(settings(), &Facts { min_available: 2, ..only }), Some(Cap::MinAvailable));
    for none in [Amount::Percent(0), Amount::Count(0)] {
        let settings = Settings { max_ejected: none, ..settings() };
        assert_eq!(decided(settings, &only), Some(Cap::MaxEjected));
    }
}

#[test]
fn proof_by_probes_ends_an_ejection() {
    let mut endpoint = Endpoint::new(settings());
    endpoint.until_decided(Failure::Connect, &FACTS);
    let back = endpoint.outlier.proven(&endpoint.settings, endpoint.totals, endpoint.now);
    assert!(matches!(back, Some(Return::Usable { ejection }) if ejection.number == 1));
    assert!(endpoint.outlier.ejected().is_none());
    assert_eq!(endpoint.ejected_for(Failure::Connect), 20 * SECOND, "but it is not forgotten");
}

#[test]
fn a_reload_that_changes_the_window_begins_it_anew() {
    let mut endpoint = Endpoint::new(Settings { consecutive_failures: 0, ..settings() });
    for _ in 0..19 {
        endpoint.fails(Failure::Reset, &FACTS);
    }
    endpoint.settings.window = 20 * SECOND;
    endpoint.passes(SECOND);
    assert_eq!(endpoint.until_decided(Failure::Reset, &FACTS).0, 20);
}

#[test]
fn without_a_count_in_a_row_no_success_needs_to_be_told() {
    let mut endpoint = Endpoint::new(Settings { consecutive_failures: 0, ..settings() });
    for _ in 0..19 {
        assert_eq!(endpoint.fails(Failure::Connect, &FACTS), None);
    }
    assert_eq!(endpoint.outlier.streak(), 0);
}

fn answers(means: &[u64]) -> Vec<Answers> {
    means.iter().map(|mean| Answers { count: 100, time: Duration::from_millis(mean * 100) }).collect()
}

#[test]
fn endpoints_much_slower_than_the_median_are_found_the_slowest_first() {
    let rule = Latency { factor: 3.0, minimum_requests: 50, floor: Duration::from_millis(50) };
    let found = |means: &[u64]| slow(&rule, &answers(means)).iter().map(|s| s.index).collect::<Vec<_>>();
    assert_eq!(found(&[20, 400, 25, 900, 30]), [3, 1]);
    assert_eq!(found(&[20, 60, 25]), [] as [usize; 0], "not three times the median");
    assert_eq!(found(&[1, 49, 1]), [] as [usize; 0], "under the floor");
    assert_eq!(found(&[500, 20]), [0], "of two, against the other");
    assert_eq!(found(&[500]), [] as [usize; 0]);
    assert_eq!(found(&[]), [] as [usize; 0]);
    let mut few = answers(&[20, 20, 900]);
    few[2].count = 49;
    assert_eq!(slow(&rule, &few), []);
}

#[test]
fn a_slow_endpoint_is_ejected_by_judgement() {
    let mut endpoint = Endpoint::new(settings());
    let found = Slow { index: 0, mean: SECOND, median: SECOND / 10 };
    let full = Facts { ejected_by_judgement: 2, ..FACTS };
    let mut slow = |facts| endpoint.outlier.slow(&endpoint.settings, &found, facts, endpoint.now);
    assert_eq!(held(slow(&full)), Some(Cap::MaxEjected));
    assert!(matches!(slow(&FACTS), Some(Decision::Eject(Ejection { judgement: true, .. }))));
    assert_eq!(slow(&FACTS), None, "it is out");
}

fn nginx() -> Settings {
    Settings { max_fails: Some(MaxFails { max_fails: 2, fail_timeout: 10 * SECOND }), ..settings() }
}

#[test]
fn a_change_of_rule_leaves_no_streak_behind() {
    let mut endpoint = Endpoint::new(settings());
    endpoint.fails(Failure::Reset, &FACTS);
    endpoint.settings = nginx();
    endpoint.succeed();
    assert_eq!(endpoint.outlier.streak(), 0);
    endpoint.fails(Failure::Reset, &FACTS);
    endpoint.settings = settings();
    endpoint.succeed();
    assert_eq!(endpoint.outlier.streak(), 0);
}

/// One step in the life of a pool.
#[derive(Debug, Clone, Copy)]
enum Step {
    Works(usize),
    Fails(usize, Failure),
    Slow(usize),
    Waits(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let failure = prop_oneof![Just(Failure::Connect), Just(Failure::Reset), Just(Failure::Timeout)];
    prop_oneof![
        2 => (0_usize..6).prop_map(Step::Works),
        12 => (0_usize..6, failure).prop_map(|(endpoint, failure)| Step::Fails(endpoint, failure)),
        1 => (0_usize..6).prop_map(Step::Slow),
        3 => (1_u64..30).prop_map(Step::Waits),
    ]
}

/// A pool without failover, whose endpoints fail as told.
struct Pool {
    endpoints: Vec<Endpoint>,
    min_available: u32,
}

impl Pool {
    fn facts(&self, of: usize) -> Facts {
        let out = |e: &Endpoint| e.outlier.ejected().is_some();
        let judged = |e: &Endpoint| e.outlier.ejected().is_some_and(|e| e.judgement);
        let count = |is: &dyn Fn(&Endpoint) -> bool| {
            u32::try_from(self.endpoints.iter().filter(|e| is(e)).count()).unwrap()
        };
        let others = self.endpoints.iter().enumerate().filter(|(index, e)| *index != of && !out(e)).count();
        Facts {
            endpoints: count(&|_| true),
            ejected_by_judgement: count(&judged),
            usable_others: u32::try_from(others).unwrap(),
            usable_failover: 0,
            min_available: self.min_available,
        }
    }

    fn take(&mut self, step: Step) -> Option<Decision> {
        let of = match step {
            Step::Works(of) | Step::Fails(of, _) | Step::Slow(of) => of % self.endpoints.len(),
            Step::Waits(_) => 0,
        };
        let facts = self.facts(of);
        let endpoint = &mut self.endpoints[of];
        match step {
            Step::Works(_) => {
                endpoint.works(1);
                None
            }
            Step::Fails(_, failure) => endpoint.fails(failure, &facts),
            Step::Slow(_) => {
                let found = Slow { index: of, mean: SECOND, median: SECOND / 10 };
                endpoint.outlier.slow(&endpoint.settings, &found, &facts, endpoint.now)
            }
            Step::Waits(tenths) => {
                for endpoint in &mut self.endpoints {
                    endpoint.passes(Duration::from_millis(tenths * 100));
                }
                None
            }
        }
    }
}

proptest! {
    #[test]
    fn caps_are_kept_whatever_happens(
        steps in prop::collection::vec(step(), 1..400),
        size in 1_usize..6,
        max_ejected in prop_oneof![(0_u8..=100).prop_map(Amount::Percent), (0_u32..5).prop_map(Amount::Count)],
        min_available in 0_u32..4,
    ) {
        let settings = Settings { max_ejected, consecutive_failures: 3, ..settings() };
        let endpoints = (0..size).map(|_| Endpoint::new(settings.clone())).collect();
        let mut pool = Pool { endpoints, min_available };
        for step in steps {
            let decision = pool.take(step);
            let facts = pool.facts(usize::MAX);
            prop_assert!(facts.usable_others > 0, "the last one went");
            prop_assert!(facts.ejected_by_judgement <= max_ejected.at_most(facts.endpoints));
            if let Some(Decision::Eject(ejection)) = decision {
                prop_assert!(!ejection.judgement || facts.usable_others >= min_available);
                for endpoint in pool.endpoints.iter().filter_map(|e| e.outlier.ejected()) {
                    prop_assert!(endpoint.until >= pool.endpoints[0].now, "everyone comes back");
                }
            }
        }
        for endpoint in &mut pool.endpoints {
            endpoint.passes(300 * SECOND);
            prop_assert!(endpoint.outlier.ejected().is_none(), "an ejection lasted too long");
        }
    }

    /// What lets the runtime take no lock on success.
    #[test]
    fn without_a_streak_a_success_changes_nothing(
        steps in prop::collection::vec(step(), 1..200),
        by_nginx in any::<bool>(),
    ) {
        let mut pool = Pool {
            endpoints: vec![Endpoint::new(if by_nginx { nginx() } else { settings() })],
            min_available: 0,
        };
        for step in steps {
            pool.take(step);
            let endpoint = &pool.endpoints[0];
            let mut after = endpoint.outlier.clone();
            let back = after.succeeded(&endpoint.settings, endpoint.now);
            if endpoint.outlier.streak() == 0 {
                prop_assert_eq!(back, None);
                prop_assert_eq!(&after, &endpoint.outlier);
            } else if !by_nginx {
                prop_assert_eq!(after.streak(), 0);
            }
        }
    }
}
