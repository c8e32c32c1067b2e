//! What a pick costs among ten endpoints and among five thousand, and what it costs to make a balancer for them.
//! The larger pick should stay within twice the smaller; making one should stay under 5 ms.

use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use plimsoll::policy::balance::{Balancer, Candidates, Kind};

/// Live state as the proxy has it: one padded block of atomics per endpoint.
#[repr(align(64))]
struct Live {
    usable: AtomicU32,
    in_flight: AtomicU32,
}

struct Endpoints(Vec<Live>);

impl Candidates for Endpoints {
    fn pickable(&self, index: usize) -> bool {
        self.0[index].usable.load(Ordering::Relaxed) == 1
    }
    fn in_flight(&self, index: usize) -> u32 {
        self.0[index].in_flight.load(Ordering::Relaxed)
    }
}

/// All but every `nth_down`-th are usable.
fn endpoints(count: usize, nth_down: usize) -> Endpoints {
    let live = |i: usize| Live {
        usable: AtomicU32::new(u32::from(!(i + 1).is_multiple_of(nth_down))),
        in_flight: AtomicU32::new(i as u32 % 7),
    };
    Endpoints((0..count).map(live).collect())
}

const KINDS: [(&str, Kind); 3] =
    [("round_robin", Kind::RoundRobin), ("least_requests", Kind::LeastRequests), ("random", Kind::Random)];

fn pick(c: &mut Criterion) {
    for (state, nth_down) in [("all_up", usize::MAX), ("one_in_five_down", 5)] {
        for (name, kind) in KINDS {
            let mut group = c.benchmark_group(format!("{name}/{state}"));
            for count in [10, 5_000] {
                let endpoints = endpoints(count, nth_down);
                let weights: Vec<u16> = (0..count).map(|i| 1 + i as u16 % 3).collect();
                let balancer = Balancer::new(kind, &weights);
                group.bench_function(BenchmarkId::from_parameter(count), |b| {
                    let mut random = fastrand::Rng::with_seed(7);
                    b.iter(|| balancer.pick(black_box(&endpoints), random.u64(..)));
                });
            }
            group.finish();
        }
    }
}

fn make(c: &mut Criterion) {
    let mut group = c.benchmark_group("make_5000");
    for (name, kind) in KINDS {
        for (weights_name, weight) in [("equal", |_| 1), ("of_1000", |i| 1 + (i * 7_919 % 1000) as u16)]
            as [(&str, fn(usize) -> u16); 2]
        {
            let weights: Vec<u16> = (0..5_000).map(weight).collect();
            group.bench_function(format!("{name}/{weights_name}"), |b| {
                b.iter(|| Balancer::new(kind, black_box(&weights)));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, pick, make);
criterion_main!(benches);
