//! What it costs to hold a request to a rate limit, from its parts to the decision, among a thousand keys and among a
//! million: under 200 ns, most of it waiting for memory where a million keys do not fit the caches. What one wait is on this
//! machine in this minute is measured beside it.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use plimsoll::model::limit_key::{LimitKey, LimitPart};
use plimsoll::model::method::Method;
use plimsoll::model::request::RequestView;
use plimsoll::model::units::Rate;
use plimsoll::policy::rate_limit::{Decision, RateLimit};
use plimsoll::runtime::counters::WorkerId;
use plimsoll::runtime::rate_table::Seed;
use plimsoll::runtime::route_limits::{OnLimit, RateLive, RateRule, RouteLimits, Tell, Verdict};

struct Request(u32);

impl RequestView for Request {
    fn method(&self) -> Method {
        Method::Get
    }
    fn method_bytes(&self) -> &[u8] {
        b"GET"
    }
    fn scheme(&self) -> &str {
        "http"
    }
    fn authority(&self) -> &[u8] {
        b"example.com"
    }
    fn path(&self) -> &[u8] {
        b"/"
    }
    fn query(&self) -> Option<&[u8]> {
        None
    }
    fn target(&self) -> &[u8] {
        b"/"
    }
    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        std::iter::empty()
    }
    fn source(&self) -> IpAddr {
        Ipv4Addr::from(self.0).into()
    }
}

/// A limit by source.
fn limits(rate: &str, size: usize) -> RouteLimits {
    let rate = Rate::parse(rate).expect("a rate");
    let limit = RateLimit::new(rate, 20, None);
    let key = LimitKey { parts: vec![LimitPart::Source], prefix_v4: 32, prefix_v6: 64 };
    let live = Arc::new(RateLive::new("bench", key, Seed::default(), limit, size, 1));
    let rule = RateRule { limit, rate, on_limit: OnLimit::Reject, status: 429, tell: Tell::Rejected, live };
    RouteLimits { rates: Box::new([rule]), concurrency: Box::default() }
}

/// Numbers below `count` in an order that no prefetcher guesses.
fn scattered(step: u32, count: u32) -> u32 {
    let spread = step.wrapping_mul(0x9e37_79b9);
    ((u64::from(spread) * u64::from(count)) >> 32) as u32
}

/// Cache lines, each with the number of the next one: no read can begin before the one before it has come.
struct Memory(Vec<[usize; 8]>);

impl Memory {
    fn new(bytes: usize) -> Self {
        let count = bytes / size_of::<[usize; 8]>();
        // One circle through all of them (Sattolo 1986).
        let mut order: Vec<usize> = (0..count).collect();
        for at in (1..count).rev() {
            let other = scattered(at as u32, at as u32) as usize;
            order.swap(at, other);
        }
        Self(order.into_iter().map(|next| [next; 8]).collect())
    }

    fn next(&self, at: usize) -> usize {
        self.0[at][0]
    }
}

fn decide(c: &mut Criterion) {
    let mut group = c.benchmark_group("rate_limit");
    let word = RateLimit::new(Rate::parse("100/s").expect("a rate"), 20, None);
    let mut state = word.fresh(Duration::from_secs(1));
    let mut now = Duration::from_secs(1);
    group.bench_function("the arithmetic alone", |b| {
        b.iter(|| {
            now += Duration::from_micros(9_000);
            if let Decision::Pass { word, .. } = word.decide(black_box(state), now) {
                state = word;
            }
        });
    });
    let memory = Memory::new(32 << 20);
    let mut at = 0;
    group.bench_function("one read from as much memory as a million keys have", |b| {
        b.iter(|| {
            at = memory.next(at);
            at
        });
    });
    for (count, name) in [(1_000_u32, "a thousand keys"), (1_000_000, "a million keys")] {
        for (rate, outcome) in [("1000000/s", "pass"), ("1/h", "reject")] {
            let limits = limits(rate, count as usize);
            let charge = |number: u32, now: Duration| {
                let keys = limits.keys(&Request(number), "web");
                limits.charge(&keys, now, WorkerId(0))
            };
            // A rejecting one is asked until every key has used up its burst.
            for _ in 0..if outcome == "reject" { 21 } else { 1 } {
                for number in 0..count {
                    let passed = matches!(charge(number, Duration::from_secs(1)), Verdict::Pass(_));
                    black_box(passed);
                }
            }
            let (mut step, mut now) = (0_u32, Duration::from_secs(2));
            group.bench_function(BenchmarkId::new(outcome, name), |b| {
                b.iter(|| {
                    step = step.wrapping_add(1);
                    now += Duration::from_micros(1);
                    matches!(charge(scattered(step, count), now), Verdict::Pass(_))
                });
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(1)).warm_up_time(Duration::from_millis(300));
    targets = decide
}
criterion_main!(benches);
