//! Every policy against what all of them promise, and each against its own model.

use std::cell::Cell;
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Endpoints as (pickable, in flight).
struct Endpoints(Vec<(bool, u32)>);

impl Candidates for Endpoints {
    fn pickable(&self, index: usize) -> bool {
        self.0[index].0
    }
    fn in_flight(&self, index: usize) -> u32 {
        self.0[index].1
    }
}

fn idle(pickable: &[bool]) -> Endpoints {
    Endpoints(pickable.iter().map(|&pickable| (pickable, 0)).collect())
}

fn picks(balancer: &Balancer, endpoints: &Endpoints, count: usize) -> Vec<usize> {
    let mut random = fastrand::Rng::with_seed(1);
    (0..count).filter_map(|_| balancer.pick(endpoints, random.u64(..))).collect()
}

fn shares(picked: &[usize]) -> BTreeMap<usize, usize> {
    picked.iter().fold(BTreeMap::new(), |mut shares, &index| {
        *shares.entry(index).or_default() += 1;
        shares
    })
}

/// nginx's rule as it stands in its source: a pass over all endpoints per pick.
fn naive_smooth(weights: &[u16], count: usize) -> Vec<usize> {
    let mut current = vec![0i64; weights.len()];
    let sum: i64 = weights.iter().map(|&w| i64::from(w)).sum();
    let next = |_| {
        let mut best: Option<usize> = None;
        for (index, &weight) in weights.iter().enumerate().filter(|(_, w)| **w > 0) {
            current[index] += i64::from(weight);
            if best.is_none_or(|best| current[index] > current[best]) {
                best = Some(index);
            }
        }
        current[best?] -= sum;
        best
    };
    (0..count).filter_map(next).collect()
}

const KINDS: [Kind; 4] = [Kind::RoundRobin, Kind::LeastRequests, Kind::Random, Kind::First];

#[test]
fn round_robin_is_smooth() {
    let sequence = |weights: &[u16], count| {
        picks(&Balancer::new(Kind::RoundRobin, weights), &idle(&vec![true; weights.len()]), count)
    };
    assert_eq!(sequence(&[5, 1, 1], 7), [0, 0, 1, 0, 2, 0, 0]);
    assert_eq!(sequence(&[500, 100, 100], 7), [0, 0, 1, 0, 2, 0, 0]);
    assert_eq!(sequence(&[1, 1, 1, 1], 5), [0, 1, 2, 3, 0]);
    assert_eq!(sequence(&[0, 3], 3), [1, 1, 1]);
}

#[test]
fn what_a_dead_endpoint_cannot_take_is_dealt_to_all_others_alike() {
    let balancer = Balancer::new(Kind::RoundRobin, &[1; 6]);
    let picked = picks(&balancer, &idle(&[true, true, false, false, true, true]), 600);
    assert_eq!(shares(&picked), BTreeMap::from([(0, 150), (1, 150), (4, 150), (5, 150)]));
    let weighted = Balancer::new(Kind::RoundRobin, &[4, 2, 2]);
    assert_eq!(
        shares(&picks(&weighted, &idle(&[true, true, false]), 1200)),
        BTreeMap::from([(0, 800), (1, 400)])
    );
}

#[test]
fn in_a_large_pool_nobody_inherits_the_traffic_of_a_row_of_dead_endpoints() {
    let mut pickable = vec![true; 2000];
    pickable[100..1100].fill(false);
    for kind in [Kind::RoundRobin, Kind::LeastRequests, Kind::Random] {
        let shares = shares(&picks(&Balancer::new(kind, &[1; 2000]), &idle(&pickable), 100_000));
        assert!(shares[&1100] < 200, "{kind:?}: the successor has {} where 100 are its share", shares[&1100]);
        assert!(shares.len() > 990, "{kind:?}: only {} of 1000 are used", shares.len());
    }
}

#[test]
fn shares_follow_the_weights() {
    for (kind, weights) in [(Kind::RoundRobin, vec![7, 0, 2, 1]), (Kind::LeastRequests, vec![7, 0, 2, 1])] {
        let picked = picks(&Balancer::new(kind, &weights), &idle(&[true; 4]), 1000);
        assert_eq!(shares(&picked), BTreeMap::from([(0, 700), (2, 200), (3, 100)]), "{kind:?}");
    }
    // Of a large pool by chance: the light half has 1 and the heavy half 3 of 4.
    let weights: Vec<u16> = (0..1000).map(|i| if i < 500 { 10 } else { 30 }).collect();
    for kind in [Kind::RoundRobin, Kind::Random, Kind::LeastRequests] {
        let picked = picks(&Balancer::new(kind, &weights), &idle(&[true; 1000]), 40_000);
        let heavy = picked.iter().filter(|&&index| index >= 500).count();
        assert!((29_400..30_600).contains(&heavy), "{kind:?}: {heavy} of 40000 where 30000 are the share");
    }
}

#[test]
fn weights_of_any_size_keep_their_proportion_and_nobody_is_lost() {
    let mut weights = vec![u16::MAX; 100];
    weights[99] = 1;
    let picked = picks(&Balancer::new(Kind::RoundRobin, &weights), &idle(&[true; 100]), 70_000);
    let shares = shares(&picked);
    assert!(shares[&99] >= 1);
    assert!((650..770).contains(&shares[&0]), "{}", shares[&0]);
}

#[test]
fn random_takes_the_better_of_two() {
    let endpoints = Endpoints(vec![(true, 9), (true, 0)]);
    assert!(
        picks(&Balancer::new(Kind::Random, &[1, 1]), &endpoints, 100).iter().filter(|&&i| i == 1).count()
            >= 99
    );
    // Nine in flight of weight 100 is less than one of weight 1.
    let endpoints = Endpoints(vec![(true, 9), (true, 1)]);
    let heavy = picks(&Balancer::new(Kind::Random, &[100, 1]), &endpoints, 100);
    assert!(heavy.iter().all(|&index| index == 0));
}

#[test]
fn first_fills_one_before_the_next() {
    let balancer = Balancer::new(Kind::First, &[0, 1, 9]);
    assert_eq!(balancer.pick(&idle(&[true; 3]), 0), Some(1));
    assert_eq!(balancer.pick(&idle(&[true, false, true]), 0), Some(2));
}

#[test]
fn two_workers_take_one_sequence() {
    let balancer = Balancer::new(Kind::RoundRobin, &[5, 1, 1]);
    let endpoints = Endpoints(vec![(true, 0); 3]);
    let work = || picks(&balancer, &endpoints, 7_000);
    let (one, two) = std::thread::scope(|scope| {
        let other = scope.spawn(work);
        (work(), other.join().expect("no panic"))
    });
    assert_eq!(shares(&[one, two].concat()), BTreeMap::from([(0, 10_000), (1, 2_000), (2, 2_000)]));
}

#[test]
fn an_endpoint_that_changes_between_two_questions_disturbs_nobody() {
    struct Flapping(Cell<u32>);
    impl Candidates for Flapping {
        fn pickable(&self, _index: usize) -> bool {
            self.0.set(self.0.get().wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
            self.0.get() >> 31 == 1
        }
        fn in_flight(&self, _index: usize) -> u32 {
            self.0.get()
        }
    }
    for kind in KINDS {
        for count in [1, 3, 64, 65, 1000] {
            let (balancer, flapping) = (Balancer::new(kind, &vec![1; count]), Flapping(Cell::new(7)));
            assert!(
                (0..1000).filter_map(|random| balancer.pick(&flapping, random)).all(|index| index < count)
            );
        }
    }
}

fn some_endpoints() -> impl Strategy<Value = Vec<(u16, bool, u32)>> {
    let endpoint =
        (prop_oneof![1 => Just(0), 6 => 1..10u16, 1 => 1..=1000u16], prop::bool::weighted(0.6), 0..6u32);
    prop_oneof![prop::collection::vec(endpoint.clone(), 0..12), prop::collection::vec(endpoint, 60..150)]
}

proptest! {
    #[test]
    fn only_the_pickable_are_picked_and_one_is_found_when_there_is_one(
        endpoints in some_endpoints(),
        randoms in prop::collection::vec(any::<u64>(), 1..20),
    ) {
        let weights: Vec<u16> = endpoints.iter().map(|e| e.0).collect();
        let live = Endpoints(endpoints.iter().map(|e| (e.1, e.2)).collect());
        let exists = endpoints.iter().any(|e| e.0 > 0 && e.1);
        for kind in KINDS {
            let balancer = Balancer::new(kind, &weights);
            for &random in &randoms {
                let picked = balancer.pick(&live, random);
                prop_assert_eq!(picked.is_some(), exists, "{:?}", kind);
                prop_assert!(picked.is_none_or(|i| endpoints[i].0 > 0 && endpoints[i].1), "{:?} {:?}", kind, picked);
            }
        }
    }

    #[test]
    fn the_one_endpoint_that_is_left_is_found(count in 1..3000usize, at in any::<prop::sample::Index>(), random: u64) {
        let at = at.index(count);
        let mut pickable = vec![false; count];
        pickable[at] = true;
        for kind in KINDS {
            prop_assert_eq!(Balancer::new(kind, &vec![1; count]).pick(&idle(&pickable), random), Some(at), "{:?}", kind);
        }
    }

    #[test]
    fn round_robin_is_the_sequence_of_nginx(weights in prop::collection::vec(0..40u16, 1..20)) {
        let count = 2 * weights.iter().map(|&w| usize::from(w)).sum::<usize>();
        let got = picks(&Balancer::new(Kind::RoundRobin, &weights), &idle(&vec![true; weights.len()]), count);
        prop_assert_eq!(got, naive_smooth(&weights, count));
    }

    #[test]
    fn least_requests_picks_one_of_the_least_busy(endpoints in prop::collection::vec((0..5u16, any::<bool>(), 0..9u32), 1..=64)) {
        let weights: Vec<u16> = endpoints.iter().map(|e| e.0).collect();
        let live = Endpoints(endpoints.iter().map(|e| (e.1, e.2)).collect());
        let load = |index: usize| f64::from(endpoints[index].2) / f64::from(endpoints[index].0);
        let least = (0..endpoints.len()).filter(|&i| endpoints[i].0 > 0 && endpoints[i].1).map(load).reduce(f64::min);
        let picked = Balancer::new(Kind::LeastRequests, &weights).pick(&live, 0);
        prop_assert_eq!(picked.map(load), least);
    }
}
