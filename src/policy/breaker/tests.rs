//! The breaker's life, step by step and at random.

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// The contract's defaults.
fn settings() -> Settings {
    Settings {
        scope: Scope::Endpoint,
        count: Counted { connect: true, reset: true, timeout: true, statuses: vec![(500, 599)] },
        failure_threshold: 5,
        failure_ratio: None,
        minimum_requests: 20,
        success_threshold: 2,
        window: 60 * SECOND,
        open_time: 60 * SECOND,
        half_open_requests: 1,
    }
}

/// A breaker with its counters and clock.
#[derive(Clone)]
struct Bench {
    settings: Settings,
    breaker: Breaker,
    totals: Totals,
    now: Duration,
    random: u64,
    last_usable: bool,
}

impl Bench {
    fn new(settings: Settings) -> Self {
        let now = 1_000 * SECOND;
        let totals = Totals { attempts: 77, failures: 33 };
        let breaker = Breaker::new(&settings, totals, now);
        Self { settings, breaker, totals, now, random: 0, last_usable: false }
    }

    fn facts(&self) -> Facts {
        Facts { totals: self.totals, last_usable: self.last_usable, random: self.random }
    }

    fn fails_from(&mut self, epoch: u32, failure: Failure) -> Option<Change> {
        self.totals.attempts += 1;
        self.totals.failures += u64::from(self.settings.count.has(failure));
        let facts = self.facts();
        self.breaker.failed(&self.settings, epoch, failure, &facts, self.now)
    }

    fn fails(&mut self, failure: Failure) -> Option<Change> {
        self.fails_from(self.breaker.epoch(), failure)
    }

    fn works(&mut self, times: u64) {
        for _ in 0..times {
            self.totals.attempts += 1;
            if self.breaker.streak() > 0 {
                self.breaker.succeeded(self.breaker.epoch());
            }
        }
    }

    /// Fails until it opens; for how long.
    fn opens(&mut self) -> Duration {
        for _ in 0..1_000 {
            if let Some(Change::Opened { until, .. }) = self.fails(Failure::Reset) {
                return until - self.now;
            }
        }
        panic!("still {:?} after 1000 failures", self.breaker.gate());
    }

    /// Ticks every 100 ms for so long.
    fn passes(&mut self, time: Duration) -> Vec<Change> {
        let end = self.now + time;
        let mut changes = Vec::new();
        while self.now < end {
            self.now += SECOND / 10;
            changes.extend(self.breaker.tick(&self.settings, self.totals, self.now));
        }
        changes
    }

    fn trial(&mut self) -> Option<Trial> {
        self.breaker.try_trial(&self.settings, self.now)
    }

    fn trial_works(&mut self, trial: Trial) -> Option<Change> {
        self.breaker.trial_succeeded(&self.settings, trial, self.totals, self.now)
    }

    fn trial_fails(&mut self, trial: Trial, failure: Failure) -> Option<Change> {
        let facts = self.facts();
        self.breaker.trial_failed(&self.settings, trial, failure, &facts, self.now)
    }
}

fn half_open(settings: Settings) -> Bench {
    let mut bench = Bench::new(settings);
    let time = bench.opens();
    assert_eq!(bench.passes(time), [Change::HalfOpened]);
    bench
}

#[test]
fn it_opens_from_closed_after_failures_in_a_row() {
    let mut bench = Bench::new(settings());
    for _ in 0..4 {
        assert_eq!(bench.fails(Failure::Status(503)), None);
        assert_eq!(bench.breaker.gate(), Gate::Closed);
    }
    let until = bench.now + 60 * SECOND;
    let because = Because::Consecutive { count: 5, last: Failure::Timeout };
    assert_eq!(bench.fails(Failure::Timeout), Some(Change::Opened { until, because, times: 1 }));
    assert_eq!(bench.breaker.gate(), Gate::Open { until });
    assert_eq!(bench.breaker.retry_after(bench.now + SECOND), 59 * SECOND);
}

#[test]
fn a_success_while_closed_begins_the_count_anew() {
    let mut bench = Bench::new(settings());
    for _ in 0..50 {
        for _ in 0..4 {
            assert_eq!(bench.fails(Failure::Connect), None);
        }
        bench.works(1);
        assert_eq!(bench.breaker.streak(), 0);
    }
}

#[test]
fn failures_in_a_row_count_only_within_the_window() {
    let mut bench = Bench::new(settings());
    for _ in 0..50 {
        assert_eq!(bench.fails(Failure::Reset), None, "one every 15.1 s is never five in 60 s");
        bench.passes(Duration::from_millis(15_100));
    }
    bench.passes(60 * SECOND);
    for _ in 0..4 {
        assert_eq!(bench.fails(Failure::Reset), None);
        bench.passes(15 * SECOND);
    }
    assert!(bench.fails(Failure::Reset).is_some(), "five in exactly 60 s");
}

#[test]
fn what_is_not_counted_never_opens_it() {
    let mut bench = Bench::new(settings());
    bench.settings.count.timeout = false;
    for _ in 0..200 {
        assert_eq!(bench.fails(Failure::Status(404)), None);
        assert_eq!(bench.fails(Failure::Status(429)), None);
        assert_eq!(bench.fails(Failure::Timeout), None);
    }
    assert_eq!(bench.breaker.streak(), 0);
    for _ in 0..4 {
        bench.fails(Failure::Reset);
    }
    bench.fails(Failure::Timeout);
    assert_eq!(bench.breaker.streak(), 4, "an uncounted timeout is no success");
    bench.fails(Failure::Status(404));
    assert_eq!(bench.breaker.streak(), 0, "an answer is");
}

#[test]
fn a_share_of_failures_opens_it_from_the_minimum_on() {
    let by_ratio = Settings { failure_threshold: 0, failure_ratio: Some(0.5), ..settings() };
    let mut bench = Bench::new(by_ratio);
    bench.works(10);
    for _ in 0..9 {
        assert_eq!(bench.fails(Failure::Reset), None);
    }
    let recent = Totals { attempts: 20, failures: 10 };
    assert!(matches!(
        bench.fails(Failure::Reset),
        Some(Change::Opened { because: Because::Ratio(seen), .. }) if seen == recent
    ));
}

#[test]
fn the_share_begins_anew_when_it_closes() {
    let by_ratio =
        Settings { failure_threshold: 0, failure_ratio: Some(0.5), success_threshold: 1, ..settings() };
    let mut bench = half_open(Settings { open_time: SECOND, ..by_ratio });
    let trial = bench.trial().unwrap();
    assert_eq!(bench.trial_works(trial), Some(Change::Closed));
    for _ in 0..19 {
        assert_eq!(bench.fails(Failure::Reset), None);
    }
    assert!(bench.fails(Failure::Reset).is_some());
}

#[test]
fn it_is_open_exactly_as_long_as_it_says_and_nothing_that_comes_prolongs_it() {
    let mut bench = Bench::new(settings());
    let epoch = bench.breaker.epoch();
    bench.opens();
    let gate = bench.breaker.gate();
    for _ in 0..599 {
        assert_eq!(bench.passes(SECOND / 10), []);
        assert_eq!(bench.trial(), None);
        assert_eq!(bench.fails_from(epoch, Failure::Reset), None);
        bench.breaker.succeeded(epoch);
        assert_eq!(bench.breaker.gate(), gate);
    }
    assert_eq!(bench.passes(SECOND / 10), [Change::HalfOpened]);
}

#[test]
fn each_opening_in_a_row_lasts_longer_up_to_ten_times() {
    for (random, want) in
        [(0, [60, 120, 240, 480, 600, 600, 600]), (u64::MAX, [60, 108, 216, 432, 540, 540, 540])]
    {
        let mut bench = Bench::new(settings());
        bench.random = random;
        let mut lasts = vec![bench.opens()];
        while lasts.len() < want.len() {
            bench.passes(*lasts.last().unwrap() + SECOND);
            let trial = bench.trial().unwrap();
            let Some(Change::Opened { until, because, times }) = bench.trial_fails(trial, Failure::Connect)
            else {
                panic!("{:?}", bench.breaker.gate())
            };
            lasts.push(until - bench.now);
            assert_eq!((because, times as usize), (Because::Trial(Failure::Connect), lasts.len()));
        }
        for (last, want) in lasts.iter().zip(want) {
            assert!(last.abs_diff(want * SECOND) < SECOND / 1_000, "{lasts:?}");
        }
    }
    assert_eq!(open_time(SECOND, u32::MAX, 0), 10 * SECOND);
}

#[test]
fn closing_makes_the_next_opening_short_again() {
    let mut bench = half_open(settings());
    let trial = bench.trial().unwrap();
    bench.trial_fails(trial, Failure::Reset);
    bench.passes(120 * SECOND);
    for _ in 0..2 {
        let trial = bench.trial().unwrap();
        bench.trial_works(trial);
    }
    assert_eq!(bench.breaker.gate(), Gate::Closed);
    assert_eq!(bench.opens(), 60 * SECOND);
}

#[test]
fn half_open_lets_so_many_through_at_once() {
    for places in [1, 3] {
        let mut bench =
            half_open(Settings { half_open_requests: places, success_threshold: 9, ..settings() });
        let trials: Vec<Trial> = (0..20).filter_map(|_| bench.trial()).collect();
        assert_eq!(trials.len(), places as usize);
        assert_eq!(bench.trial_works(trials[0]), None);
        let more = (0..20).filter_map(|_| bench.trial()).count();
        assert_eq!(more, 1, "one ended, one begins");
    }
}

#[test]
fn enough_successes_close_it_and_one_failure_opens_it() {
    let mut bench = half_open(settings());
    for want in [None, Some(Change::Closed)] {
        let trial = bench.trial().unwrap();
        assert_eq!(bench.trial_works(trial), want);
    }
    let mut bench = half_open(settings());
    let trial = bench.trial().unwrap();
    bench.trial_works(trial);
    let trial = bench.trial().unwrap();
    assert!(matches!(bench.trial_fails(trial, Failure::Status(500)), Some(Change::Opened { times: 2, .. })));
    bench.passes(120 * SECOND);
    let trial = bench.trial().unwrap();
    assert_eq!(bench.trial_works(trial), None, "the success from before does not count");
}

#[test]
fn a_cancelled_trial_gives_its_place_back_and_says_nothing() {
    let mut bench = half_open(settings());
    for _ in 0..1_000 {
        let trial = bench.trial().expect("the place is free");
        assert_eq!(bench.trial(), None);
        bench.breaker.trial_cancelled(trial);
        bench.breaker.trial_cancelled(trial);
    }
    assert_eq!(bench.breaker.gate(), Gate::HalfOpen);
}

#[test]
fn a_trial_that_ends_in_what_is_not_counted() {
    let mut bench = half_open(settings());
    bench.settings.count.timeout = false;
    for _ in 0..10 {
        let trial = bench.trial().expect("an uncounted timeout frees its place");
        assert_eq!(bench.trial_fails(trial, Failure::Timeout), None);
    }
    for want in [None, Some(Change::Closed)] {
        let trial = bench.trial().unwrap();
        assert_eq!(bench.trial_fails(trial, Failure::Status(404)), want, "an answer is a success");
    }
}

#[test]
fn trials_that_never_end_hold_nothing_up() {
    let mut bench = half_open(settings());
    let hanging = bench.trial().unwrap();
    bench.passes(59 * SECOND);
    assert_eq!(bench.trial(), None);
    bench.passes(SECOND);
    let next = bench.trial().expect("after open_time its place is given away");
    assert_eq!(bench.trial(), None);
    bench.breaker.trial_cancelled(hanging);
    assert_eq!(bench.trial(), None, "a place that was given away is not given back");
    bench.trial_works(next);
    assert_eq!(bench.trial_works(hanging), Some(Change::Closed), "how it ends still counts");
}

#[test]
fn ends_of_attempts_from_before_are_ignored() {
    let mut bench = half_open(settings());
    let (old, first) = (bench.breaker.epoch() - 2, bench.trial().unwrap());
    for _ in 0..10 {
        assert_eq!(bench.fails_from(old, Failure::Reset), None);
    }
    assert_eq!(bench.breaker.gate(), Gate::HalfOpen);
    bench.trial_fails(first, Failure::Reset);
    bench.passes(120 * SECOND);
    let second = bench.trial().unwrap();
    assert_eq!(bench.trial_fails(first, Failure::Reset), None, "a trial of the last time");
    bench.breaker.trial_cancelled(first);
    assert_eq!(bench.trial(), None, "frees no place");
    assert_eq!(bench.trial_works(first), None);
    bench.trial_works(second);
    let third = bench.trial().unwrap();
    assert_eq!(bench.trial_works(third), Some(Change::Closed));
    for _ in 0..10 {
        assert_eq!(bench.fails_from(old, Failure::Reset), None);
        assert_eq!(bench.trial_fails(third, Failure::Reset), None);
    }
    assert_eq!((bench.breaker.gate(), bench.breaker.streak()), (Gate::Closed, 0));
}

#[test]
fn it_never_opens_before_the_last_usable_endpoint() {
    let mut bench = Bench::new(settings());
    bench.last_usable = true;
    let told = (0..100).filter_map(|_| bench.fails(Failure::Reset)).collect::<Vec<_>>();
    assert!(
        matches!(told[..], [Change::Held { because: Because::Consecutive { count: 5, .. } }]),
        "{told:?}"
    );
    bench.last_usable = false;
    assert!(matches!(bench.fails(Failure::Reset), Some(Change::Opened { times: 1, .. })));
    bench.passes(60 * SECOND);
    bench.last_usable = true;
    let trial = bench.trial().unwrap();
    assert!(matches!(bench.trial_fails(trial, Failure::Reset), Some(Change::Held { .. })));
    assert_eq!(bench.breaker.gate(), Gate::HalfOpen);
    assert!(bench.trial().is_some(), "trials go on");
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Works,
    Fails(Failure),
    LateFailure,
    Begin,
    Succeed(usize),
    Fail(usize),
    Cancel(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => Just(Step::Works),
        6 => Just(Step::Fails(Failure::Reset)),
        1 => Just(Step::Fails(Failure::Status(404))),
        2 => Just(Step::LateFailure),
        8 => Just(Step::Begin),
        4 => (0_usize..8).prop_map(Step::Succeed),
        1 => (0_usize..8).prop_map(Step::Fail),
        3 => (0_usize..8).prop_map(Step::Cancel),
        4 => (1_u64..40).prop_map(Step::Wait),
    ]
}

/// A breaker and the trials that the caller still holds, with their epoch and begin.
struct Model {
    bench: Bench,
    held: Vec<(Trial, Duration)>,
}

impl Model {
    fn take(&mut self, step: Step) -> Vec<Change> {
        let bench = &mut self.bench;
        let pull = |held: &mut Vec<(Trial, Duration)>, index: usize| {
            (!held.is_empty()).then(|| held.swap_remove(index % held.len()).0)
        };
        let change = match step {
            Step::Works => {
                bench.works(1);
                None
            }
            Step::Fails(failure) => bench.fails(failure),
            Step::LateFailure => bench.fails_from(bench.breaker.epoch().wrapping_sub(1), Failure::Reset),
            Step::Begin => {
                self.held.extend(bench.trial().map(|trial| (trial, bench.now)));
                None
            }
            Step::Succeed(index) => pull(&mut self.held, index).and_then(|trial| bench.trial_works(trial)),
            Step::Fail(index) => {
                pull(&mut self.held, index).and_then(|trial| bench.trial_fails(trial, Failure::Timeout))
            }
            Step::Cancel(index) => {
                if let Some(trial) = pull(&mut self.held, index) {
                    bench.breaker.trial_cancelled(trial);
                }
                None
            }
            Step::Wait(tenths) => return bench.passes(Duration::from_millis(tenths * 100)),
        };
        change.into_iter().collect()
    }

    /// Trials of this time half-open that have not been forgotten.
    fn under_way(&self) -> usize {
        let (epoch, now) = (self.bench.breaker.epoch(), self.bench.now);
        let young = |begun: Duration| now - begun < self.bench.settings.open_time;
        self.held.iter().filter(|(trial, begun)| trial.epoch == epoch && young(*begun)).count()
    }
}

fn allowed(from: Gate, change: &Change) -> bool {
    matches!(
        (from, change),
        (Gate::Closed | Gate::HalfOpen, Change::Opened { .. })
            | (Gate::Open { .. }, Change::HalfOpened)
            | (Gate::HalfOpen, Change::Closed)
    )
}

proptest! {
    #[test]
    fn it_moves_only_along_its_diagram_and_keeps_its_places(
        steps in prop::collection::vec(step(), 1..400),
        places in 1_u32..4,
        random in any::<u64>(),
    ) {
        let settings = Settings {
            failure_threshold: 3,
            half_open_requests: places,
            open_time: SECOND,
            window: 5 * SECOND,
            ..settings()
        };
        let mut model = Model { bench: Bench { random, ..Bench::new(settings) }, held: Vec::new() };
        for step in steps {
            let (before, epoch) = (model.bench.breaker.gate(), model.bench.breaker.epoch());
            let mut gate = before;
            for change in model.take(step) {
                prop_assert!(allowed(gate, &change), "{gate:?} to {change:?}");
                gate = model.bench.breaker.gate();
                if let Change::Opened { until, times, .. } = change {
                    let time = until - model.bench.now;
                    prop_assert!(time <= 10 * SECOND && (times > 1 || time == SECOND));
                }
            }
            let still = model.bench.breaker.epoch() == epoch;
            prop_assert!(!still || before == model.bench.breaker.gate(), "a change without an epoch of its own");
            prop_assert!(model.under_way() <= places as usize);
            if model.bench.breaker.gate() == Gate::HalfOpen {
                let mut rest = model.bench.clone();
                let free = (0..10).filter_map(|_| rest.trial()).count();
                prop_assert_eq!(free, places as usize - model.under_way(), "places are lost or made");
            }
        }
        // Whatever happened, it closes once all goes well.
        let bench = &mut model.bench;
        bench.passes(10 * SECOND);
        while let Some(trial) = bench.trial() {
            bench.trial_works(trial);
        }
        prop_assert_eq!(bench.breaker.gate(), Gate::Closed);
    }
}
