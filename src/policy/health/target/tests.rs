//! Rise and fall against `HAProxy`'s own counter, the reasons, the intervals and damping as a target shows them.

use proptest::prelude::*;

use super::super::Damping;
use super::*;

fn settings(rise: u32, fall: u32) -> Settings {
    Settings {
        rise,
        fall,
        interval: Duration::from_secs(2),
        fast_interval: Duration::from_millis(500),
        down_interval: Duration::from_secs(5),
        timeout: Duration::from_millis(2500),
        jitter: 0.0,
        damping: None,
    }
}

fn second(second: u64) -> Duration {
    Duration::from_secs(second)
}

/// Good, says no, cannot be asked, void as g, n, c, v; a second apart.
fn feed(health: &mut Health, results: &str) -> Vec<Change> {
    results.chars().zip(0..).filter_map(|(result, at)| health.observe(verdict(result), second(at))).collect()
}

fn verdict(result: char) -> Verdict {
    match result {
        'g' => Verdict::Good,
        'n' => Verdict::SaysNo,
        'c' => Verdict::CannotBeAsked,
        _ => Verdict::Void,
    }
}

fn state_after(rise: u32, fall: u32, results: &str) -> State {
    let mut health = Health::new(settings(rise, fall));
    feed(&mut health, results);
    health.state()
}

const NO: State = State::Down(Because::SaysNo);
const SILENT: State = State::Down(Because::CannotBeAsked);

/// `HAProxy`'s counter as it stands in its `check.c`: up means at least `rise`.
struct Counter {
    health: u32,
    rise: u32,
    fall: u32,
}

impl Counter {
    fn take(&mut self, good: bool) {
        if good {
            if self.health < self.rise + self.fall - 1 {
                self.health += 1;
                if self.health >= self.rise {
                    self.health = self.rise + self.fall - 1;
                }
            }
        } else if self.health > 0 {
            self.health -= 1;
            if self.health < self.rise {
                self.health = 0;
            }
        }
    }

    fn is_up(&self) -> bool {
        self.health >= self.rise
    }
}

#[test]
fn the_counter_of_haproxy_is_our_model() {
    let mut counter = Counter { health: 4, rise: 2, fall: 3 };
    let steps: Vec<u32> = "bbbgg"
        .chars()
        .map(|result| {
            counter.take(result == 'g');
            counter.health
        })
        .collect();
    assert_eq!(steps, [3, 2, 0, 1, 4]);
    let mut counter = Counter { health: 3, rise: 2, fall: 3 };
    counter.take(true);
    assert_eq!(counter.health, 4);
}

#[test]
fn only_results_in_a_row_bring_it_down() {
    assert_eq!(state_after(2, 3, "gnn"), State::Up);
    assert_eq!(state_after(2, 3, "gnnn"), NO);
    assert_eq!(state_after(2, 3, "gnngnn"), State::Up);
    assert_eq!(state_after(2, 3, "gnngnnn"), NO);
}

#[test]
fn only_results_in_a_row_bring_it_up() {
    assert_eq!(state_after(2, 3, "ngn"), NO);
    assert_eq!(state_after(2, 3, "ngng"), NO);
    assert_eq!(state_after(2, 3, "ngg"), State::Up);
}

#[test]
fn the_first_result_decides() {
    assert_eq!(state_after(5, 5, ""), State::Unknown);
    assert_eq!(state_after(5, 5, "g"), State::Up);
    assert_eq!(state_after(5, 5, "n"), NO);
    assert_eq!(state_after(5, 5, "c"), SILENT);
}

#[test]
fn both_kinds_of_bad_count_together_and_the_last_is_the_reason() {
    assert_eq!(state_after(2, 3, "gnnc"), SILENT);
    assert_eq!(state_after(2, 3, "gccn"), NO);
}

#[test]
fn another_reason_is_reported_after_its_own_run() {
    let mut health = Health::new(settings(2, 3));
    let changes = feed(&mut health, "ncncc");
    assert_eq!(changes.len(), 1, "{changes:?}");
    assert_eq!(health.last_run(), Some((Verdict::CannotBeAsked, 2)));
    let change = health.observe(Verdict::CannotBeAsked, second(9));
    assert_eq!(change, Some(Change { from: NO, to: SILENT, results: 3, suppressed_until: None }));
}

#[test]
fn a_change_says_what_decided_it() {
    let mut health = Health::new(settings(2, 3));
    let changes = feed(&mut health, "ggnncgg");
    let told: Vec<_> = changes.iter().map(|change| (change.from, change.to, change.results)).collect();
    assert_eq!(told, [(State::Unknown, State::Up, 1), (State::Up, SILENT, 3), (SILENT, State::Up, 2)]);
}

#[test]
fn void_results_change_nothing() {
    assert_eq!(state_after(2, 3, "vvv"), State::Unknown);
    assert_eq!(state_after(2, 3, "gnvnvvn"), NO, "they do not break a run");
    assert_eq!(state_after(2, 3, "gnvvvvn"), State::Up, "they do not make one");
    let mut health = Health::new(settings(2, 3));
    feed(&mut health, "gnv");
    assert_eq!(health.last_run(), Some((Verdict::SaysNo, 1)));
}

#[test]
fn intervals_follow_the_state_and_the_doubt() {
    let after = |results: &str| {
        let mut health = Health::new(settings(2, 3));
        feed(&mut health, results);
        health.next_interval(7).as_millis()
    };
    assert_eq!(after("v"), 500, "nothing is known");
    assert_eq!(after("g"), 2000, "up");
    assert_eq!(after("gn"), 500, "up in doubt");
    assert_eq!(after("gng"), 2000, "up again");
    assert_eq!(after("gnnn"), 5000, "down");
    assert_eq!(after("gnnng"), 500, "down in doubt");
    assert_eq!(after("gnnngv"), 500, "a void result settles no doubt");
    assert_eq!(after("gnnnc"), 5000, "another reason is no doubt");
}

#[test]
fn new_settings_keep_the_state_and_the_progress() {
    let mut health = Health::new(settings(2, 5));
    feed(&mut health, "gnn");
    health.reconfigure(settings(2, 3));
    assert_eq!(health.state(), State::Up);
    health.observe(Verdict::SaysNo, second(9));
    assert_eq!(health.state(), NO);
    assert_eq!(Health::resumed(settings(2, 3), SILENT).state(), SILENT);
}

/// Three falls with no time between suppress for two half-lives.
fn flapping() -> Health {
    let damping = Damping { half_life: second(60), suppress: 2.9, reuse: 0.75, max_time: second(600) };
    let mut health = Health::new(Settings { damping: Some(damping), ..settings(1, 1) });
    for verdict in "gngngn".chars().map(verdict) {
        health.observe(verdict, second(0));
    }
    health
}

#[test]
fn a_flapping_target_stays_down_though_its_probes_are_good() {
    let mut health = flapping();
    assert_eq!(health.suppressed_until(second(0)), Some(second(120)));
    for at in 1..120 {
        assert_eq!(health.observe(Verdict::Good, second(at)), None);
        assert_eq!(health.state(), NO);
        assert!(health.is_held());
    }
    let change = health.observe(Verdict::Good, second(120));
    assert_eq!(change.map(|change| change.to), Some(State::Up));
    assert!(!health.is_held());
    assert_eq!(health.suppressed_until(second(120)), None);
}

#[test]
fn the_end_of_a_suppression_lets_up_without_another_probe() {
    let mut health = flapping();
    health.observe(Verdict::Good, second(1));
    assert_eq!(health.release(second(119)), None);
    assert_eq!(health.release(second(120)).map(|change| change.to), Some(State::Up));
    assert_eq!(health.release(second(121)), None);
}

#[test]
fn the_end_of_a_suppression_lets_nothing_up_that_is_down() {
    let mut health = flapping();
    assert_eq!(health.release(second(200)), None);
    assert_eq!(health.state(), NO);
}

#[test]
fn the_fall_that_suppresses_says_so() {
    let damping = Damping { half_life: second(60), suppress: 1.0, reuse: 0.5, max_time: second(600) };
    let mut health = Health::new(Settings { damping: Some(damping), ..settings(1, 1) });
    let changes = feed(&mut health, "gc");
    assert_eq!(changes.last().and_then(|change| change.suppressed_until), Some(second(61)));
}

fn any_verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![Just(Verdict::Good), Just(Verdict::SaysNo), Just(Verdict::CannotBeAsked), Just(Verdict::Void)]
}

proptest! {
    #[test]
    fn up_and_down_are_those_of_haproxy(
        rise in 1u32..6, fall in 1u32..6, verdicts in prop::collection::vec(any_verdict(), 0..80),
    ) {
        let mut health = Health::new(settings(rise, fall));
        let mut model: Option<Counter> = None;
        for verdict in verdicts {
            health.observe(verdict, Duration::ZERO);
            let good = verdict == Verdict::Good;
            if verdict != Verdict::Void {
                match &mut model {
                    Some(counter) => counter.take(good),
                    None => model = Some(Counter { health: if good { rise + fall - 1 } else { 0 }, rise, fall }),
                }
            }
            match &model {
                None => prop_assert_eq!(health.state(), State::Unknown),
                Some(counter) => prop_assert_eq!(health.state() == State::Up, counter.is_up()),
            }
        }
    }

    #[test]
    fn every_difference_is_a_change_and_nothing_else_is(
        damped: bool, steps in prop::collection::vec((any_verdict(), 0u64..20), 0..100),
    ) {
        let damping = Damping { half_life: second(10), suppress: 1.5, reuse: 0.5, max_time: second(30) };
        let damping = damped.then_some(damping);
        let mut health = Health::new(Settings { damping, ..settings(1, 2) });
        let mut now = Duration::ZERO;
        for (verdict, gap) in steps {
            now += second(gap);
            let before = health.state();
            let change = health.observe(verdict, now);
            prop_assert_eq!(change.is_some(), before != health.state());
            if let Some(change) = change {
                prop_assert_eq!((change.from, change.to), (before, health.state()));
                prop_assert!(change.to != State::Up || health.suppressed_until(now).is_none());
            }
            if let Some(until) = health.suppressed_until(now) {
                prop_assert!(damped && until > now && until <= now + second(30));
            }
        }
    }
}
