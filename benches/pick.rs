//! What a pick costs among few endpoints and among five thousand, and what it costs to make a balancer for them.
//! The larger pick should stay within twice the smaller (rendezvous asks everyone, and is there for comparison); making
//! one should stay under 5 ms, of those with a table under 250 ms.

use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use plimsoll::policy::balance::{Balancer, Candidates, Draw, FULL_SHARE, Kind, Member, Settings};

/// Live state as the proxy has it: one padded block of atomics per endpoint.
#[repr(align(64))]
struct Live {
    usable: AtomicU32,
    in_flight: AtomicU32,
}

struct Endpoints {
    live: Vec<Live>,
    /// Whether every fifth starts slowly.
    starting: bool,
}

impl Candidates for Endpoints {
    fn pickable(&self, index: usize) -> bool {
        self.live[index].usable.load(Ordering::Relaxed) == 1
    }
    fn in_flight(&self, index: usize) -> u32 {
        self.live[index].in_flight.load(Ordering::Relaxed)
    }
    fn all_full(&self) -> bool {
        !self.starting
    }
    fn share(&self, index: usize) -> u32 {
        if index.is_multiple_of(5) { FULL_SHARE / 4 } else { FULL_SHARE }
    }
    fn rtt_us(&self, index: usize) -> f32 {
        (500 + index % 100) as f32
    }
}

/// All but every `nth_down`-th are usable.
fn endpoints(count: usize, nth_down: usize, starting: bool) -> Endpoints {
    let live = |i: usize| Live {
        usable: AtomicU32::new(u32::from(!(i + 1).is_multiple_of(nth_down))),
        in_flight: AtomicU32::new(i as u32 % 7),
    };
    Endpoints { live: (0..count).map(live).collect(), starting }
}

const KINDS: [(&str, Kind, Option<f64>); 9] = [
    ("round_robin", Kind::RoundRobin, None),
    ("least_requests", Kind::LeastRequests, None),
    ("random", Kind::Random, None),
    ("peak_ewma", Kind::PeakEwma, None),
    ("ring_hash", Kind::RingHash, None),
    ("maglev", Kind::Maglev, None),
    ("maglev_bounded", Kind::Maglev, Some(1.25)),
    ("rendezvous", Kind::Rendezvous, None),
    ("first", Kind::First, None),
];

fn ids(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("10.0.{}.{}:8080", i >> 8, i & 255)).collect()
}

fn members<'a>(ids: &'a [String], weight: fn(usize) -> u16) -> Vec<Member<'a>> {
    ids.iter().enumerate().map(|(i, id)| Member { weight: weight(i), id }).collect()
}

fn pick(c: &mut Criterion) {
    let states = [
        ("all_up", usize::MAX, false),
        ("one_in_five_down", 5, false),
        ("one_in_five_new", usize::MAX, true),
    ];
    for (state, nth_down, starting) in states {
        for (name, kind, load_factor) in KINDS {
            let mut group = c.benchmark_group(format!("{name}/{state}"));
            for count in [10, 64, 1_000, 5_000] {
                let endpoints = endpoints(count, nth_down, starting);
                let ids = ids(count);
                let members = members(&ids, |i| 1 + i as u16 % 3);
                let balancer = Balancer::new(&Settings { kind, load_factor }, &members, None);
                group.bench_function(BenchmarkId::from_parameter(count), |b| {
                    let mut random = fastrand::Rng::with_seed(7);
                    b.iter(|| {
                        let key = random.u128(..).to_le_bytes();
                        let draw = Draw { random: random.u64(..), key: Some(&key) };
                        balancer.pick(black_box(&endpoints), &draw)
                    });
                });
            }
            group.finish();
        }
    }
}

fn make(c: &mut Criterion) {
    let mut group = c.benchmark_group("make_5000");
    let ids = ids(5_000);
    for (name, kind, load_factor) in KINDS.into_iter().filter(|(_, kind, _)| *kind != Kind::First) {
        for (weights_name, weight) in [("equal", |_| 1), ("of_1000", |i| 1 + (i * 7_919 % 1000) as u16)]
            as [(&str, fn(usize) -> u16); 2]
        {
            let members = members(&ids, weight);
            group.bench_function(format!("{name}/{weights_name}"), |b| {
                b.iter(|| Balancer::new(&Settings { kind, load_factor }, black_box(&members), None));
            });
        }
    }
    // After a reload: the credits of the old sequence are looked up in the new one.
    let (equal, changed) = (members(&ids, |_| 1), members(&ids, |i| 1 + (i * 7_919 % 1000) as u16));
    let settings = Settings::of(Kind::RoundRobin);
    let previous = Balancer::new(&settings, &equal, None);
    group.bench_function("round_robin/of_1000_after_equal", |b| {
        b.iter(|| Balancer::new(&settings, black_box(&changed), Some(&previous)));
    });
    group.finish();
}

criterion_group!(benches, pick, make);
criterion_main!(benches);
