//! The limit beside a literal model of nginx's arithmetic, and its own corners.

use proptest::prelude::*;

use super::*;

/// What `ngx_http_limit_req_module` computes, in its units: thousandths of a request, and milliseconds.
#[derive(Debug, Clone)]
struct Nginx {
    rate: i64,
    burst: i64,
    /// `i64::MAX` is `nodelay`.
    delay: i64,
    node: Option<(i64, i64)>,
}

impl Nginx {
    /// `rate=COUNTr/s` (or `r/m`, with `scale` 60), `burst=`, and `delay=`; nothing is `nodelay`.
    fn new(count: u32, scale: i64, burst: u32, delay: Option<u32>) -> Self {
        let delay = delay.map_or(i64::MAX, |delay| i64::from(delay) * 1000);
        Self { rate: i64::from(count) * 1000 / scale, burst: i64::from(burst) * 1000, delay, node: None }
    }

    /// The excess of a request, or nothing where it is one too many; the node stays as it is.
    fn look(&self, now: i64) -> Option<i64> {
        let Some((excess, last)) = self.node else { return Some(0) };
        let ms = match now - last {
            ms if ms < -60_000 => 1,
            ms => ms.max(0),
        };
        let excess = (excess - self.rate * ms / 1000 + 1000).max(0);
        (excess <= self.burst).then_some(excess)
    }

    /// Accounts a request that passes; the milliseconds that it is held.
    fn account(&mut self, excess: i64, now: i64) -> i64 {
        self.node = match self.node {
            Some((_, last)) if now == last => Some((excess, last)),
            _ => Some((excess, now)),
        };
        if excess <= self.delay { 0 } else { (excess - self.delay) * 1000 / self.rate }
    }

    fn request(&mut self, now: i64) -> Option<i64> {
        let excess = self.look(now)?;
        Some(self.account(excess, now))
    }
}

/// One key.
struct Key {
    limit: RateLimit,
    word: Option<u64>,
}

impl Key {
    fn new(rate: &str, burst: u32, delay: Option<u32>) -> Self {
        let rate = Rate::parse(rate).expect("it is a rate");
        Self { limit: RateLimit::new(rate, burst, delay), word: None }
    }

    fn decide(&self, now: Duration) -> Decision {
        self.limit.decide(self.word.unwrap_or_else(|| self.limit.fresh(now)), now)
    }

    /// How long a request is held; nothing where it is one too many.
    fn request(&mut self, now: Duration) -> Option<Duration> {
        match self.decide(now) {
            Decision::Pass { word, delay } => {
                self.word = Some(word);
                Some(delay)
            }
            Decision::Reject { .. } => None,
        }
    }

    fn passed(&mut self, now: Duration, requests: usize) -> usize {
        (0..requests).filter(|_| self.request(now).is_some()).count()
    }
}

fn at(millis: i64) -> Duration {
    Duration::from_millis(millis.unsigned_abs())
}

/// `limit_req_zone ... rate=100r/s; limit_req ... burst=20 nodelay`.
#[test]
fn burst_and_one_pass_at_once_and_then_the_rate() {
    let mut key = Key::new("100/s", 20, None);
    assert_eq!(key.passed(at(5_000), 1_000), 21);
    let later: usize = (1..=1_000).map(|ms| key.passed(at(5_000 + ms), 50)).sum();
    assert_eq!(later, 100);
}

/// Test vector of a rate of 10 with a burst of 20.
#[test]
fn the_next_one_passes_exactly_when_it_is_due() {
    let mut key = Key::new("10/s", 20, None);
    assert_eq!(key.passed(at(0), 30), 21);
    assert_eq!(key.decide(at(0)), Decision::Reject { retry_after: at(100) });
    assert_eq!(key.passed(at(99), 5), 0);
    assert_eq!(key.passed(at(100), 5), 1);
    let mut held = Key::new("10/s", 20, Some(0));
    for k in 0..21 {
        assert_eq!(held.request(at(0)), Some(at(k * 100)), "request {k}");
    }
    assert_eq!(held.request(at(0)), None);
}

#[test]
fn those_ahead_by_no_more_than_delay_are_not_held() {
    let mut key = Key::new("5/s", 12, Some(8));
    let held: Vec<_> = (0..14).map(|_| key.request(at(0))).collect();
    assert!(held[..9].iter().all(|held| *held == Some(Duration::ZERO)), "{held:?}");
    assert_eq!(held[9..], [Some(at(200)), Some(at(400)), Some(at(600)), Some(at(800)), None]);
}

#[test]
fn what_is_left_is_what_would_pass() {
    let mut key = Key::new("10/s", 4, None);
    for left in (0..5).rev() {
        assert!(key.request(at(1_000)).is_some());
        let word = key.word.expect("it has passed");
        assert_eq!(key.limit.left(word, at(1_000)).requests, left);
    }
    let word = key.word.expect("it has passed");
    assert_eq!(key.limit.left(word, at(1_000)).full_in, at(500));
    assert_eq!(key.limit.left(word, at(1_500)), Left { requests: 5, full_in: at(0) });
}

#[test]
fn rates_per_minute_and_hour_are_what_is_written() {
    for (rate, period) in [("10/m", 60), ("7/h", 3_600), ("1/h", 3_600)] {
        let mut key = Key::new(rate, 0, None);
        let count = Rate::parse(rate).expect("it is a rate").count as usize;
        // A request in every ten milliseconds of three periods.
        let passed: usize = (0..period * 300).map(|step| key.passed(at(step * 10), 1)).sum();
        assert_eq!(passed, count * 3, "{rate}");
    }
}

#[test]
fn another_rate_goes_on_with_when_things_are_due() {
    let mut key = Key::new("10/s", 20, None);
    assert_eq!(key.passed(at(0), 21), 21);
    let slow = RateLimit::new(Rate::parse("1/s").expect("it is a rate"), 20, None);
    let word = key.limit.translate(key.word.expect("it has passed"), &slow, at(0));
    // Two seconds and a tenth ahead it was, and still is.
    assert_eq!(slow.left(word, at(0)), Left { requests: 18, full_in: at(2_100) });
    let short = RateLimit::new(Rate::parse("100/s").expect("it is a rate"), 0, None);
    let word = key.limit.translate(key.word.expect("it has passed"), &short, at(0));
    assert_eq!(short.decide(word, at(0)), Decision::Reject { retry_after: at(10) }, "never more than full");
}

#[test]
fn a_clock_that_runs_for_centuries_does_not_come_round_wrongly() {
    let start = Duration::from_secs(500 * 365 * 86_400);
    for rate in ["1000000/s", "3/h"] {
        let mut key = Key::new(rate, 20, None);
        assert_eq!(key.passed(start, 100), 21, "{rate}");
        assert_eq!(key.passed(start + Duration::from_secs(86_400), 100), 21, "{rate}");
    }
}

proptest! {
    /// At whole milliseconds every decision, and every delay, is nginx's.
    #[test]
    fn every_decision_is_that_of_nginx(
        count in prop_oneof![1_u32..50, 50_u32..5_000],
        burst in 0_u32..40,
        delay in prop::option::of(0_u32..40),
        steps in prop::collection::vec((prop_oneof![Just(0_i64), 0_i64..12, 0_i64..1_500], 1_usize..8), 1..120),
    ) {
        let mut nginx = Nginx::new(count, 1, burst, delay);
        let mut ours = Key::new(&format!("{count}/s"), burst, delay);
        let mut now = 10_000;
        for (wait, requests) in steps {
            now += wait;
            for _ in 0..requests {
                let theirs = nginx.request(now).map(i64::unsigned_abs);
                let held = ours.request(at(now)).map(|held| held.as_micros() as u64);
                // nginx cuts a delay down to a millisecond, ours is rounded up to a microsecond.
                prop_assert_eq!(held.is_some(), theirs.is_some(), "at {}", now);
                if let (Some(held), Some(theirs)) = (held, theirs) {
                    prop_assert!(theirs * 1000 <= held && held <= theirs * 1000 + 1000, "{held} and {theirs} at {now}");
                }
            }
        }
    }

    /// A rate per minute lets no less pass than nginx, which rounds it down, and no more than is written.
    #[test]
    fn a_rate_per_minute_is_not_rounded_down(
        count in 1_u32..600,
        burst in 0_u32..10,
        steps in prop::collection::vec((0_i64..4_000, 1_usize..4), 1..150),
    ) {
        let mut nginx = Nginx::new(count, 60, burst, None);
        let mut ours = Key::new(&format!("{count}/m"), burst, None);
        let (mut theirs, mut passed, mut now) = (0, 0, 0);
        for (wait, requests) in steps {
            now += wait;
            theirs += (0..requests).filter(|_| nginx.request(now).is_some()).count();
            passed += ours.passed(at(now), requests);
            prop_assert!(passed >= theirs, "{passed} and {theirs} at {now}");
            let most = u64::from(burst) + 1 + u64::from(count) * now.unsigned_abs() / 60_000;
            prop_assert!(passed as u64 <= most, "{passed} of {most} at {now}");
        }
    }

    /// What is given back leaves no trace in any later decision.
    #[test]
    fn a_refund_is_as_if_it_had_not_come(
        count in 1_u32..2_000,
        burst in 0_u32..20,
        before in prop::collection::vec(0_i64..300, 0..30),
        after in prop::collection::vec(0_i64..300, 1..30),
    ) {
        let mut key = Key::new(&format!("{count}/s"), burst, None);
        let mut now = 1_000;
        for wait in before {
            now += wait;
            key.request(at(now));
        }
        let mut other = Key { limit: key.limit, word: key.word };
        if let Decision::Pass { word, .. } = key.decide(at(now)) {
            other.word = Some(key.limit.refund(word));
        }
        for wait in after {
            now += wait;
            prop_assert_eq!(key.request(at(now)), other.request(at(now)));
        }
    }

    /// Whoever comes back when told passes, and not a moment before.
    #[test]
    fn whoever_waits_as_told_passes(count in 1_u32..100_000, burst in 0_u32..50, seed in 0_u64..10_000_000) {
        let mut key = Key::new(&format!("{count}/s"), burst, None);
        let now = Duration::from_micros(seed);
        key.passed(now, burst as usize + 1);
        let Decision::Reject { retry_after } = key.decide(now) else { return Err(TestCaseError::fail("full")) };
        let due = now + retry_after;
        let passes = |now| matches!(key.decide(now), Decision::Pass { .. });
        prop_assert!(passes(due) && !passes(due.saturating_sub(Duration::from_micros(1))));
    }
}
