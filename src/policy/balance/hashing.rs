//! One key, one endpoint: what `ring`, `maglev` and `rendezvous` have in common, which is who may take a key and where it
//! goes when its own endpoint may not.

use std::sync::Arc;

use super::bounded::{Ceiling, LoadFactor};
use super::hash::{hash, pair};
use super::maglev::Maglev;
use super::random::Random;
use super::rendezvous;
use super::ring::Ring;
use super::share::share_covers;
use super::{Candidates, Draw, Kind, Member, Settings};

/// So many places after a key's own are looked at; then everyone is scored, which goes by key as well.
const WALK_MAX: usize = 64;

/// Tells the number by which slow start lets a key in from the one by which the key finds its endpoint.
const SLOW_START_SALT: u64 = 0x736c_6f77_7374_6172;

/// A hashing policy: where keys belong, and the bound on what one endpoint may get.
#[derive(Debug)]
pub(super) struct Hashing {
    kind: Kind,
    /// Shared with the balancer that comes after this one when no endpoint and no weight has changed.
    table: Arc<Table>,
    load_factor: Option<LoadFactor>,
    /// Takes requests without a key.
    keyless: Random,
}

#[derive(Debug)]
enum Table {
    Ring(Ring),
    Maglev(Maglev),
    /// Needs none.
    Rendezvous,
}

impl Hashing {
    /// `previous` is one over the same endpoints with the same weights.
    pub(super) fn new(settings: &Settings, members: &[Member<'_>], previous: Option<&Self>) -> Self {
        let weights: Vec<u16> = members.iter().map(|member| member.weight).collect();
        let table = match previous.filter(|previous| previous.kind == settings.kind) {
            Some(previous) => Arc::clone(&previous.table),
            None => Arc::new(match settings.kind {
                Kind::RingHash => Table::Ring(Ring::new(members)),
                Kind::Maglev => Table::Maglev(Maglev::new(members)),
                _ => Table::Rendezvous,
            }),
        };
        let load_factor = settings.load_factor.map(LoadFactor::new);
        Self { kind: settings.kind, table, load_factor, keyless: Random::new(&weights) }
    }

    /// `ids` are the hashes of the endpoints' identities.
    pub(super) fn pick<C: Candidates>(
        &self,
        weights: &[u16],
        ids: &[u64],
        candidates: &C,
        draw: &Draw<'_>,
    ) -> Option<usize> {
        let Some(key) = draw.key else { return self.keyless.pick(weights, candidates, draw.random) };
        let ceiling = self.load_factor.map(|factor| factor.ceiling(weights, candidates, draw.random));
        let has_room = |index| {
            candidates.pickable(index)
                && ceiling.is_none_or(|ceiling: Ceiling| ceiling.admits(weights, candidates, index))
        };
        let all_full = candidates.all_full();
        let fits = |index: &usize| {
            // A second hash, so that the keys that one in slow start takes are always the same for a share and only grow
            // with it.
            let number = || pair(hash(key) ^ SLOW_START_SALT, ids.get(*index).copied().unwrap_or(0));
            has_room(*index) && (all_full || share_covers(weights, candidates, *index, number()))
        };
        let near = match &*self.table {
            Table::Ring(ring) => ring.walk(key).take(WALK_MAX).find(fits),
            Table::Maglev(maglev) => maglev.walk(hash(key)).take(WALK_MAX).find(fits),
            Table::Rendezvous => None,
        };
        let pickable = |index| candidates.pickable(index);
        near.or_else(|| rendezvous::highest(weights, ids, candidates, hash(key), &has_room)).or_else(|| {
            // A bound that everyone has reached is none.
            ceiling.and_then(|_| rendezvous::highest(weights, ids, candidates, hash(key), &pickable))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::policy::balance::tests::{Endpoints, idle, ids, members, pick};
    use crate::policy::balance::{Balancer, FULL_SHARE};

    const KINDS: [Kind; 3] = [Kind::RingHash, Kind::Maglev, Kind::Rendezvous];

    fn make(kind: Kind, ids: &[String], weights: &[u16]) -> Balancer {
        Balancer::new(&Settings::of(kind), &members(ids, weights), None)
    }

    /// Where `count` keys go.
    fn homes<C: Candidates>(balancer: &Balancer, candidates: &C, count: u64) -> Vec<usize> {
        (0..count).filter_map(|key| pick(balancer, candidates, key)).collect()
    }

    fn share(homes: &[usize], index: usize) -> f64 {
        homes.iter().filter(|&&home| home == index).count() as f64 / homes.len() as f64
    }

    #[test]
    fn shares_follow_the_weights() {
        let weights = [1, 2, 3, 4, 10, 20];
        for kind in KINDS {
            let homes = homes(&make(kind, &ids(6), &weights), &idle(&[true; 6]), 10_000);
            for (index, weight) in weights.into_iter().enumerate() {
                let (got, wanted) = (share(&homes, index), f64::from(weight) / 40.0);
                // Chance spreads the points of the ring: four standard deviations of the sum of its arcs.
                let ring = 4.0 * wanted / (160.0 * f64::from(weight)).sqrt();
                let near = if kind == Kind::RingHash { 0.02_f64.max(ring) } else { 0.02 };
                assert!((got - wanted).abs() < near, "{kind:?}: {got} where {wanted} is the share");
            }
        }
    }

    #[test]
    fn an_endpoint_that_leaves_moves_its_own_keys_only() {
        let ids = ids(20);
        for kind in KINDS {
            let before = homes(&make(kind, &ids, &[1; 20]), &idle(&[true; 20]), 20_000);
            let after = homes(&make(kind, &ids[..19], &[1; 19]), &idle(&[true; 19]), 20_000);
            let own = share(&before, 19);
            let others = before.iter().zip(&after).filter(|(b, a)| **b != 19 && b != a).count();
            let others = others as f64 / 20_000.0;
            // Maglev lets go of about as many others (NSDI 2016, section 5.3); the others of none.
            let most = if kind == Kind::Maglev { own } else { 0.0 };
            assert!(others <= most, "{kind:?}: {others} beside its own {own}");
            // The others get them by weight: nobody more than twice its part.
            let heirs: Vec<usize> =
                before.iter().zip(&after).filter(|(b, _)| **b == 19).map(|(_, a)| *a).collect();
            let most = if kind == Kind::RingHash { 0.2 } else { 0.1 };
            assert!((0..19).all(|heir| share(&heirs, heir) < most), "{kind:?}");
        }
    }

    #[test]
    fn a_dead_endpoint_moves_its_own_keys_only_and_to_all_others() {
        for kind in KINDS {
            let balancer = make(kind, &ids(20), &[1; 20]);
            let mut pickable = vec![true; 20];
            let before = homes(&balancer, &idle(&pickable), 20_000);
            pickable[7] = false;
            let after = homes(&balancer, &idle(&pickable), 20_000);
            assert!(before.iter().zip(&after).all(|(b, a)| *b == 7 || b == a), "{kind:?}");
            let heirs: Vec<usize> =
                before.iter().zip(&after).filter(|(b, _)| **b == 7).map(|(_, a)| *a).collect();
            assert!((0..20).all(|heir| share(&heirs, heir) < 0.2), "{kind:?}");
        }
    }

    #[test]
    fn where_most_are_dead_keys_still_stay_and_spread() {
        for kind in KINDS {
            let balancer = make(kind, &ids(200), &[1; 200]);
            let pickable: Vec<bool> = (0..200).map(|i| i % 50 == 3).collect();
            let (once, again) = (
                homes(&balancer, &idle(&pickable), 4_000),
                (0..4_000u64).filter_map(|key| {
                    let key = key.to_le_bytes();
                    balancer.pick(&idle(&pickable), &Draw { random: 99, key: Some(&key) })
                }),
            );
            assert!(once.iter().copied().eq(again), "{kind:?}");
            let least = [3, 53, 103, 153].map(|index| share(&once, index));
            assert!(least.iter().all(|&share| share > 0.1), "{kind:?}: {least:?}");
        }
    }

    #[test]
    fn the_order_in_which_endpoints_are_listed_does_not_matter() {
        let ids = ids(12);
        let reversed: Vec<String> = ids.iter().rev().cloned().collect();
        let weights: Vec<u16> = (1..=12).collect();
        let weights_reversed: Vec<u16> = (1..=12).rev().collect();
        for kind in KINDS {
            let one = homes(&make(kind, &ids, &weights), &idle(&[true; 12]), 5_000);
            let other = homes(&make(kind, &reversed, &weights_reversed), &idle(&[true; 12]), 5_000);
            assert!(one.iter().zip(&other).all(|(one, other)| *one == 11 - *other), "{kind:?}");
        }
    }

    /// Written down once: another process, build or machine that gave anything else would send keys astray.
    #[test]
    fn every_process_gives_the_same_answers() {
        let ids = ["10.0.0.1:80", "10.0.0.2:80", "[2001:db8::3]:80", "app.internal:80", "unix:/run/app.sock"]
            .map(str::to_owned);
        let homes = |kind| {
            let balancer = make(kind, &ids, &[1, 2, 1, 1, 1]);
            (0..16u8).map(move |key| {
                let key = [b'k', b'0' + key];
                balancer.pick(&idle(&[true; 5]), &Draw { random: 0, key: Some(&key) }).expect("one is there")
            })
        };
        assert!(homes(Kind::RingHash).eq(RING), "{:?}", homes(Kind::RingHash).collect::<Vec<_>>());
        assert!(homes(Kind::Maglev).eq(MAGLEV), "{:?}", homes(Kind::Maglev).collect::<Vec<_>>());
        assert!(homes(Kind::Rendezvous).eq(RENDEZVOUS), "{:?}", homes(Kind::Rendezvous).collect::<Vec<_>>());
    }

    /// nginx's, by Python's `zlib.crc32`.
    const RING: [usize; 16] = [1, 4, 3, 1, 1, 2, 1, 4, 4, 4, 0, 3, 1, 2, 3, 1];
    const MAGLEV: [usize; 16] = [4, 4, 0, 1, 1, 3, 0, 1, 2, 3, 4, 2, 1, 0, 0, 3];
    const RENDEZVOUS: [usize; 16] = [4, 2, 4, 1, 2, 4, 4, 1, 0, 4, 4, 0, 1, 0, 2, 3];

    #[test]
    fn an_attempt_goes_to_an_endpoint_not_tried_and_to_the_same_each_time() {
        for kind in KINDS {
            let balancer = make(kind, &ids(5), &[1; 5]);
            let order = |key: u64| {
                let mut untried = vec![true; 5];
                let mut order = Vec::new();
                while let Some(index) = pick(&balancer, &idle(&untried), key) {
                    untried[index] = false;
                    order.push(index);
                }
                order
            };
            for key in 0..200 {
                assert_eq!(order(key), order(key), "{kind:?}");
                let mut all = order(key);
                all.sort_unstable();
                assert_eq!(all, [0, 1, 2, 3, 4], "{kind:?}");
            }
        }
    }

    #[test]
    fn without_a_key_chance_decides_by_weight() {
        for kind in KINDS {
            let balancer = make(kind, &ids(2), &[3, 1]);
            let mut random = fastrand::Rng::with_seed(5);
            let picked: Vec<usize> = (0..10_000)
                .filter_map(|_| balancer.pick(&idle(&[true; 2]), &Draw::keyless(random.u64(..))))
                .collect();
            assert!((share(&picked, 0) - 0.75).abs() < 0.02, "{kind:?}");
        }
    }

    #[test]
    fn one_hot_key_fills_an_endpoint_to_its_bound_and_goes_on() {
        for kind in KINDS {
            for count in [4, 100] {
                let settings = Settings { kind, load_factor: Some(1.25) };
                let (ids, weights) = (ids(count), vec![1; count]);
                let balancer = Balancer::new(&settings, &members(&ids, &weights), None);
                let mut live = idle(&vec![true; count]);
                let mut random = fastrand::Rng::with_seed(1);
                let requests = 50 * count;
                for _ in 0..requests {
                    let draw = Draw { random: random.u64(..), key: Some(b"hot") };
                    let index = balancer.pick(&live, &draw).expect("all are pickable");
                    live.0[index].1 += 1;
                }
                // Of a hundred the mean is that of a sample, and so the bound is a soft one.
                let most = if count == 4 { 63 } else { 80 };
                let fullest = live.0.iter().map(|(_, in_flight)| *in_flight).max();
                assert!(fullest <= Some(most), "{kind:?} of {count}: {fullest:?}");
                assert!(fullest >= Some(55), "{kind:?} of {count}: {fullest:?}");
            }
        }
    }

    #[test]
    fn the_keys_of_one_that_starts_slowly_only_grow() {
        struct Starting(u32);
        impl Candidates for Starting {
            fn pickable(&self, _index: usize) -> bool {
                true
            }
            fn in_flight(&self, _index: usize) -> u32 {
                0
            }
            fn share(&self, index: usize) -> u32 {
                if index == 2 { self.0 } else { FULL_SHARE }
            }
            fn all_full(&self) -> bool {
                false
            }
        }
        for kind in KINDS {
            let balancer = make(kind, &ids(5), &[1; 5]);
            let whole = share(&homes(&balancer, &idle(&[true; 5]), 10_000), 2);
            let mut before: Vec<usize> = homes(&balancer, &Starting(0), 10_000);
            for percent in [10, 30, 60, 100] {
                let after =
                    homes(&balancer, &Starting(FULL_SHARE / 100 * percent + percent / 100 * 36), 10_000);
                let (got, wanted) = (share(&after, 2), whole * f64::from(percent) / 100.0);
                assert!(
                    (got - wanted).abs() < 0.02,
                    "{kind:?} at {percent} %: {got} where {wanted} is its share"
                );
                assert!(before.iter().zip(&after).all(|(b, a)| b == a || *a == 2), "{kind:?} at {percent} %");
                before = after;
            }
            assert_eq!(before, homes(&balancer, &idle(&[true; 5]), 10_000), "{kind:?}");
        }
    }

    #[test]
    fn a_table_that_would_be_the_same_is_kept() {
        let ids = ids(3);
        let table = |balancer: &Balancer| Arc::clone(&balancer.hashing().expect("it hashes").table);
        let next = |kind, weights: &[u16], previous: &Balancer| {
            Balancer::new(&Settings::of(kind), &members(&ids, weights), Some(previous))
        };
        let first = make(Kind::Maglev, &ids, &[1, 2, 3]);
        assert!(Arc::ptr_eq(&table(&first), &table(&next(Kind::Maglev, &[1, 2, 3], &first))));
        assert!(!Arc::ptr_eq(&table(&first), &table(&next(Kind::Maglev, &[1, 2, 4], &first))));
        assert!(!Arc::ptr_eq(&table(&first), &table(&next(Kind::RingHash, &[1, 2, 3], &first))));
    }

    #[test]
    fn weights_of_any_size_fit_and_nobody_is_lost() {
        let mut weights = vec![u16::MAX; 60];
        weights[59] = 1;
        for kind in [Kind::RingHash, Kind::Maglev] {
            let homes = homes(&make(kind, &ids(60), &weights), &idle(&[true; 60]), 60_000);
            let counts = homes.iter().fold(BTreeMap::<usize, usize>::new(), |mut counts, &home| {
                *counts.entry(home).or_default() += 1;
                counts
            });
            assert!(
                (0..59).all(|index| counts.get(&index).is_some_and(|&c| (700..1_350).contains(&c))),
                "{counts:?}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn only_the_pickable_are_picked_and_one_is_found_when_there_is_one(
            endpoints in prop::collection::vec((0..4u16, prop::bool::weighted(0.3), 0..6u32), 0..90),
            keys in prop::collection::vec(any::<u64>(), 200),
            load_factor in prop::option::of(1.0..2.0f64),
        ) {
            let weights: Vec<u16> = endpoints.iter().map(|e| e.0).collect();
            let ids = ids(weights.len());
            let live = Endpoints(endpoints.iter().map(|e| (e.1, e.2)).collect());
            let exists = endpoints.iter().any(|e| e.0 > 0 && e.1);
            for kind in KINDS {
                let balancer = Balancer::new(&Settings { kind, load_factor }, &members(&ids, &weights), None);
                for &key in &keys {
                    let picked = pick(&balancer, &live, key);
                    prop_assert_eq!(picked.is_some(), exists, "{:?}", kind);
                    prop_assert!(picked.is_none_or(|i| endpoints[i].0 > 0 && endpoints[i].1), "{:?}", kind);
                }
            }
        }

        #[test]
        fn nobody_at_its_bound_is_picked(
            endpoints in prop::collection::vec((1..4u16, 0..20u32), 1..=64),
            keys in prop::collection::vec(any::<u64>(), 200),
            percent in 100..200u64,
        ) {
            let (weights, ids): (Vec<u16>, _) = (endpoints.iter().map(|e| e.0).collect(), ids(endpoints.len()));
            let live = Endpoints(endpoints.iter().map(|e| (true, e.1)).collect());
            let total: u64 = endpoints.iter().map(|e| u64::from(e.1)).sum::<u64>() + 1;
            let sum: u64 = weights.iter().map(|&w| u64::from(w)).sum();
            let settings = Settings { kind: Kind::RingHash, load_factor: Some(percent as f64 / 100.0) };
            let balancer = Balancer::new(&settings, &members(&ids, &weights), None);
            for &key in &keys {
                let index = pick(&balancer, &live, key).expect("one has room");
                let (weight, in_flight) = (u64::from(endpoints[index].0), u64::from(endpoints[index].1));
                let slots = (total * percent).div_ceil(100);
                prop_assert!(in_flight < (weight * slots).div_ceil(sum), "{} of {} slots", in_flight, slots);
            }
        }
    }
}
