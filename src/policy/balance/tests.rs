//! Every policy against what all of them promise, and each against its own model.

use std::cell::Cell;
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Endpoints as (pickable, in flight).
pub(super) struct Endpoints(pub(super) Vec<(bool, u32)>);

impl Candidates for Endpoints {
    fn pickable(&self, index: usize) -> bool {
        self.0[index].0
    }
    fn in_flight(&self, index: usize) -> u32 {
        self.0[index].1
    }
}

pub(super) fn idle(pickable: &[bool]) -> Endpoints {
    Endpoints(pickable.iter().map(|&pickable| (pickable, 0)).collect())
}

/// Identities: a socket address each.
pub(super) fn ids(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("10.{}.{}.{}:8080", i >> 16, i >> 8 & 255, i & 255)).collect()
}

pub(super) fn members<'a>(ids: &'a [String], weights: &[u16]) -> Vec<Member<'a>> {
    ids.iter().zip(weights).map(|(id, &weight)| Member { weight, id }).collect()
}

fn balancer(kind: Kind, weights: &[u16]) -> Balancer {
    Balancer::new(&Settings::of(kind), &members(&ids(weights.len()), weights), None)
}

/// A pick with a key of its own, which the policies that do not hash ignore.
pub(super) fn pick<C: Candidates>(balancer: &Balancer, candidates: &C, random: u64) -> Option<usize> {
    balancer.pick(candidates, &Draw { random, key: Some(&random.to_le_bytes()) })
}

fn picks<C: Candidates>(balancer: &Balancer, endpoints: &C, count: usize) -> Vec<usize> {
    let mut random = fastrand::Rng::with_seed(1);
    (0..count).filter_map(|_| pick(balancer, endpoints, random.u64(..))).collect()
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

/// Those without a table that takes time to make; the others have their tests in `hashing`.
const KINDS: [Kind; 6] =
    [Kind::RoundRobin, Kind::LeastRequests, Kind::PeakEwma, Kind::Random, Kind::Rendezvous, Kind::First];

/// Endpoints of which some start slowly: (share, in flight) of each, all pickable.
struct Starting(Vec<(u32, u32)>);

impl Candidates for Starting {
    fn pickable(&self, _index: usize) -> bool {
        true
    }
    fn in_flight(&self, index: usize) -> u32 {
        self.0[index].1
    }
    fn share(&self, index: usize) -> u32 {
        self.0[index].0
    }
    fn all_full(&self) -> bool {
        false
    }
}

fn starting(shares: &[u32]) -> Starting {
    Starting(shares.iter().map(|&share| (share, 0)).collect())
}

#[test]
fn round_robin_is_smooth() {
    let dealt = |weights: &[u16], count| {
        picks(&balancer(Kind::RoundRobin, weights), &idle(&vec![true; weights.len()]), count)
    };
    assert_eq!(dealt(&[5, 1, 1], 7), [0, 0, 1, 0, 2, 0, 0]);
    assert_eq!(dealt(&[500, 100, 100], 7), [0, 0, 1, 0, 2, 0, 0]);
    assert_eq!(dealt(&[1, 1, 1, 1], 5), [0, 1, 2, 3, 0]);
    assert_eq!(dealt(&[0, 3], 3), [1, 1, 1]);
    // What all are owed is nothing after each turn (nginx: the current weights sum to 0).
    let turns = sequence::turns(&[5, 1, 1]);
    assert!((0..=7).all(|turn| sequence::credits(&turns, turn, 3).iter().sum::<f64>().abs() < 1e-9));
}

#[test]
fn what_a_dead_endpoint_cannot_take_is_dealt_to_all_others_alike() {
    let policy = balancer(Kind::RoundRobin, &[1; 6]);
    let picked = picks(&policy, &idle(&[true, true, false, false, true, true]), 600);
    assert_eq!(shares(&picked), BTreeMap::from([(0, 150), (1, 150), (4, 150), (5, 150)]));
    let weighted = balancer(Kind::RoundRobin, &[4, 2, 2]);
    assert_eq!(
        shares(&picks(&weighted, &idle(&[true, true, false]), 1200)),
        BTreeMap::from([(0, 800), (1, 400)])
    );
}

#[test]
fn a_turn_that_nobody_can_take_is_not_taken() {
    let policy = balancer(Kind::RoundRobin, &[1, 1]);
    let (nobody, all) = (idle(&[false, false]), idle(&[true, true]));
    let picked: Vec<_> =
        (0..4).map(|turn| (pick(&policy, &nobody, turn), pick(&policy, &all, turn))).collect();
    assert_eq!(picked, [0, 1, 0, 1].map(|index| (None, Some(index))));
}

#[test]
fn in_a_large_pool_nobody_inherits_the_traffic_of_a_row_of_dead_endpoints() {
    let mut pickable = vec![true; 2000];
    pickable[100..1100].fill(false);
    for kind in [Kind::RoundRobin, Kind::LeastRequests, Kind::Random, Kind::PeakEwma] {
        let shares = shares(&picks(&balancer(kind, &[1; 2000]), &idle(&pickable), 100_000));
        assert!(shares[&1100] < 200, "{kind:?}: the successor has {} where 100 are its share", shares[&1100]);
        assert!(shares.len() > 990, "{kind:?}: only {} of 1000 are used", shares.len());
    }
}

#[test]
fn shares_follow_the_weights() {
    for (kind, weights) in [(Kind::RoundRobin, vec![7, 0, 2, 1]), (Kind::LeastRequests, vec![7, 0, 2, 1])] {
        let picked = picks(&balancer(kind, &weights), &idle(&[true; 4]), 1000);
        assert_eq!(shares(&picked), BTreeMap::from([(0, 700), (2, 200), (3, 100)]), "{kind:?}");
    }
    // Of a large pool by chance: the light half has 1 and the heavy half 3 of 4.
    let weights: Vec<u16> = (0..1000).map(|i| if i < 500 { 10 } else { 30 }).collect();
    for kind in [Kind::RoundRobin, Kind::Random, Kind::LeastRequests, Kind::PeakEwma] {
        let picked = picks(&balancer(kind, &weights), &idle(&[true; 1000]), 40_000);
        let heavy = picked.iter().filter(|&&index| index >= 500).count();
        assert!((29_400..30_600).contains(&heavy), "{kind:?}: {heavy} of 40000 where 30000 are the share");
    }
}

#[test]
fn weights_of_any_size_keep_their_proportion_and_nobody_is_lost() {
    let mut weights = vec![u16::MAX; 100];
    weights[99] = 1;
    let picked = picks(&balancer(Kind::RoundRobin, &weights), &idle(&[true; 100]), 70_000);
    let shares = shares(&picked);
    assert!(shares[&99] >= 1);
    assert!((650..770).contains(&shares[&0]), "{}", shares[&0]);
}

#[test]
fn random_takes_the_better_of_two() {
    let endpoints = Endpoints(vec![(true, 9), (true, 0)]);
    assert!(
        picks(&balancer(Kind::Random, &[1, 1]), &endpoints, 100).iter().filter(|&&i| i == 1).count() >= 99
    );
    // Nine in flight of weight 100 is less than one of weight 1.
    let endpoints = Endpoints(vec![(true, 9), (true, 1)]);
    let heavy = picks(&balancer(Kind::Random, &[100, 1]), &endpoints, 100);
    assert!(heavy.iter().all(|&index| index == 0));
}

/// Endpoints as (latency in microseconds, in flight), all pickable.
struct Timed(Vec<(f32, u32)>);

impl Candidates for Timed {
    fn pickable(&self, _index: usize) -> bool {
        true
    }
    fn in_flight(&self, index: usize) -> u32 {
        self.0[index].1
    }
    fn rtt_us(&self, index: usize) -> f32 {
        self.0[index].0
    }
}

#[test]
fn peak_ewma_takes_the_faster_of_two_by_latency_and_load() {
    let heavier_share = |weights: [u16; 2], endpoints: [(f32, u32); 2]| {
        let picked = picks(&balancer(Kind::PeakEwma, &weights), &Timed(endpoints.to_vec()), 10_000);
        picked.iter().filter(|&&index| index == 0).count()
    };
    // 10 ms for one or 5 ms for each of two: the second is drawn at all but once in thousands.
    assert!(heavier_share([1, 1], [(10_000.0, 0), (5_000.0, 0)]) < 10);
    assert!(heavier_share([1, 1], [(10_000.0, 0), (5_000.0, 2)]) > 9_990);
    // Who never answered is asked once, and then no more until it answers.
    assert!(heavier_share([1, 1], [(0.0, 0), (1.0, 0)]) > 9_990);
    assert!(heavier_share([1, 1], [(0.0, 1), (1e8, 9)]) < 10);
    // Equally fast and idle, or loaded by weight: by weight.
    let share = heavier_share([3, 1], [(700.0, 0), (700.0, 0)]);
    assert!((7_300..7_700).contains(&share), "{share}");
    let share = heavier_share([3, 1], [(700.0, 6), (700.0, 2)]);
    assert!((7_300..7_700).contains(&share), "{share}");
}

#[test]
fn peak_ewma_shares_by_weight_under_load_and_starves_who_is_slow() {
    // 40 requests are always in flight, each takes as many turns as its endpoint is slow.
    let share_of_first = |weights: [u16; 3], turns: [usize; 3]| {
        let policy = balancer(Kind::PeakEwma, &weights);
        let mut endpoints = Timed(turns.iter().map(|&turns| (turns as f32 * 1e3, 0)).collect());
        let mut ends: std::collections::BinaryHeap<_> = std::collections::BinaryHeap::new();
        let (mut random, mut picked) = (fastrand::Rng::with_seed(3), [0usize; 3]);
        for now in 0..20_000 {
            while ends.peek().is_some_and(|(std::cmp::Reverse(end), _)| *end <= now) {
                let (_, index): (_, usize) = ends.pop().expect("it was there");
                endpoints.0[index].1 -= 1;
            }
            let index = pick(&policy, &endpoints, random.u64(..)).expect("all are pickable");
            endpoints.0[index].1 += 1;
            ends.push((std::cmp::Reverse(now + turns[index]), index));
            picked[index] += 1;
        }
        picked.map(|count| count as f64 / 20_000.0)
    };
    let [heavy, ..] = share_of_first([2, 1, 1], [40, 40, 40]);
    assert!((0.48..0.52).contains(&heavy), "{heavy}");
    let [slow, ..] = share_of_first([1, 1, 1], [400, 40, 40]);
    assert!(slow < 0.05, "{slow}");
}

#[test]
fn who_starts_slowly_gets_its_share_and_the_others_the_rest() {
    let shares_of = |kind, weights: &[u16], starts: &[u32]| {
        let picked = picks(&balancer(kind, weights), &starting(starts), 10_000);
        let counts = shares(&picked);
        (0..weights.len()).map(|i| counts.get(&i).copied().unwrap_or(0) as f64 / 10_000.0).collect::<Vec<_>>()
    };
    let half = FULL_SHARE / 2;
    let large: Vec<u16> = vec![1; 1_000];
    for kind in [Kind::RoundRobin, Kind::LeastRequests, Kind::Random, Kind::PeakEwma, Kind::Rendezvous] {
        let got = shares_of(kind, &[1, 1, 2], &[FULL_SHARE, half, FULL_SHARE]);
        // Of weights in force 1, 1/2 and 2. Who compares two idle ones takes either, so that theirs is rougher.
        let near = if matches!(kind, Kind::Random | Kind::PeakEwma) { 0.05 } else { 0.02 };
        for (got, wanted) in got.iter().zip([2.0 / 7.0, 1.0 / 7.0, 4.0 / 7.0]) {
            assert!((got - wanted).abs() < near, "{kind:?}: {got} where {wanted} is the share");
        }
        // All start at once: nobody is spared, so it is as if nobody did.
        let got = shares_of(kind, &[1, 3], &[FULL_SHARE / 100, FULL_SHARE / 100]);
        assert!((got[0] - 0.25).abs() < 0.02, "{kind:?}: {got:?}");
        let one_new: Vec<u32> = (0..1_000).map(|i| if i < 500 { half } else { FULL_SHARE }).collect();
        let new: f64 = shares_of(kind, &large, &one_new)[..500].iter().sum();
        assert!((new - 1.0 / 3.0).abs() < near, "{kind:?}: {new}");
    }
}

#[test]
fn load_counts_by_the_weight_that_is_in_force() {
    // One in flight on half a weight is as much as two on a whole one.
    let half = Starting(vec![(FULL_SHARE, 1), (FULL_SHARE / 2, 1)]);
    for kind in [Kind::LeastRequests, Kind::Random] {
        let first = picks(&balancer(kind, &[1, 1]), &half, 1_000).iter().filter(|&&index| index == 0).count();
        assert!(first > 980, "{kind:?}: {first}");
    }
}

fn changed(previous: &Balancer, ids: &[String], weights: &[u16]) -> Balancer {
    Balancer::new(&Settings::of(Kind::RoundRobin), &members(ids, weights), Some(previous))
}

#[test]
fn round_robin_goes_on_where_it_stood() {
    let (ids, up) = (ids(4), idle(&[true; 4]));
    let first = balancer(Kind::RoundRobin, &[1, 1, 1, 1]);
    assert_eq!(picks(&first, &up, 2), [0, 1]);
    let second = changed(&first, &ids, &[1, 1, 1, 1]);
    assert_eq!(picks(&second, &up, 3), [2, 3, 0]);
    let third = changed(&second, &ids[..3], &[1, 1, 1]);
    assert_eq!(picks(&third, &up, 3), [1, 2, 0]);
}

#[test]
fn weights_that_change_at_every_pick_give_nobody_a_burst() {
    let (ids, up) = (ids(10), idle(&[true; 10]));
    let mut policy = balancer(Kind::RoundRobin, &[4; 10]);
    let mut picked = Vec::new();
    for round in 0..4_000u16 {
        picked.extend(pick(&policy, &up, 0));
        let mut weights = [4; 10];
        weights[9] = 1 + round % 7;
        policy = changed(&policy, &ids, &weights);
    }
    let counts = shares(&picked);
    for index in 0..9 {
        assert!((380..=420).contains(&counts[&index]), "{counts:?}");
        // Of any twenty in a row it has two, at most two more.
        assert!(picked.windows(20).all(|row| row.iter().filter(|&&i| i == index).count() <= 4), "{index}");
    }
}

#[test]
fn first_fills_one_before_the_next() {
    let policy = balancer(Kind::First, &[0, 1, 9]);
    assert_eq!(pick(&policy, &idle(&[true; 3]), 0), Some(1));
    assert_eq!(pick(&policy, &idle(&[true, false, true]), 0), Some(2));
}

#[test]
fn two_workers_take_one_sequence() {
    let policy = balancer(Kind::RoundRobin, &[5, 1, 1]);
    let endpoints = Endpoints(vec![(true, 0); 3]);
    let work = || picks(&policy, &endpoints, 7_000);
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
            let (policy, flapping) = (balancer(kind, &vec![1; count]), Flapping(Cell::new(7)));
            assert!(
                (0..1000).filter_map(|random| pick(&policy, &flapping, random)).all(|index| index < count)
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
    fn round_robin_keeps_everyone_s_credit_when_a_weight_changes(
        weights in prop::collection::vec(1..9u16, 2..8),
        changed_to in 1..9u16,
        done in 0..200usize,
    ) {
        let (ids, up) = (ids(weights.len()), idle(&vec![true; weights.len()]));
        let before = balancer(Kind::RoundRobin, &weights);
        let _picked = picks(&before, &up, done);
        let mut after = weights;
        after[0] = changed_to;
        let picked = picks(&changed(&before, &ids, &after), &up, 200);
        let sum: u16 = after.iter().sum();
        for (index, &weight) in after.iter().enumerate().skip(1) {
            let mut got = 0.0;
            for (turn, &is) in picked.iter().enumerate() {
                got += f64::from(u8::from(is == index));
                let wanted = (turn + 1) as f64 * f64::from(weight) / f64::from(sum);
                prop_assert!((got - wanted).abs() < 2.0, "{} got {} of {} at turn {}", index, got, wanted, turn);
            }
        }
    }

    #[test]
    fn only_the_pickable_are_picked_and_one_is_found_when_there_is_one(
        endpoints in some_endpoints(),
        randoms in prop::collection::vec(any::<u64>(), 1..20),
    ) {
        let weights: Vec<u16> = endpoints.iter().map(|e| e.0).collect();
        let live = Endpoints(endpoints.iter().map(|e| (e.1, e.2)).collect());
        let exists = endpoints.iter().any(|e| e.0 > 0 && e.1);
        for kind in KINDS {
            let policy = balancer(kind, &weights);
            for &random in &randoms {
                let picked = pick(&policy, &live, random);
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
            prop_assert_eq!(pick(&balancer(kind, &vec![1; count]), &idle(&pickable), random), Some(at), "{:?}", kind);
        }
    }

    #[test]
    fn round_robin_is_the_sequence_of_nginx(weights in prop::collection::vec(0..40u16, 1..20)) {
        let count = 2 * weights.iter().map(|&w| usize::from(w)).sum::<usize>();
        let got = picks(&balancer(Kind::RoundRobin, &weights), &idle(&vec![true; weights.len()]), count);
        prop_assert_eq!(got, naive_smooth(&weights, count));
    }

    #[test]
    fn least_requests_picks_one_of_the_least_busy(endpoints in prop::collection::vec((0..5u16, any::<bool>(), 0..9u32), 1..=64)) {
        let weights: Vec<u16> = endpoints.iter().map(|e| e.0).collect();
        let live = Endpoints(endpoints.iter().map(|e| (e.1, e.2)).collect());
        let load = |index: usize| f64::from(endpoints[index].2) / f64::from(endpoints[index].0);
        let least = (0..endpoints.len()).filter(|&i| endpoints[i].0 > 0 && endpoints[i].1).map(load).reduce(f64::min);
        let picked = pick(&balancer(Kind::LeastRequests, &weights), &live, 0);
        prop_assert_eq!(picked.map(load), least);
    }
}
