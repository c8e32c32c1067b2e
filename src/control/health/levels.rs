//! What the tiers of every pool can do, as sums that follow the endpoints one at a time: in a storm each of ten thousand
//! changes costs a few additions and not a look at all endpoints. What follows from the sums is `standing`'s.

use crate::policy::failover::Level;
use crate::runtime::condition::{Impediment, Level as Overlooking};
use crate::runtime::endpoint::Endpoint;
use crate::runtime::pool::Pool;
use crate::runtime::snapshot::Snapshot;

/// The sums of all pools of a snapshot.
#[derive(Debug, Default)]
pub(super) struct Levels {
    pools: Vec<PoolLevels>,
    /// How often an endpoint was looked at.
    looks: u64,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct PoolLevels {
    /// What each endpoint adds.
    parts: Vec<Part>,
    /// The sums of the groups of endpoints of all tiers, in order.
    groups: Vec<Part>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Part {
    /// Whatever stands against it.
    weight: u64,
    level: Level,
}

impl Part {
    fn of(pool: &Pool, endpoint: &Endpoint) -> Self {
        let (condition, weight) = (&endpoint.live.condition, u64::from(endpoint.weight));
        let mut level = Level::default();
        // Of an exclusive pool the others are no lack.
        if !condition.has(Impediment::Standby) {
            level.total = weight;
        }
        if condition.allows(Overlooking::Proven) {
            level.usable = weight;
        } else if !pool.exclusive && condition.allows(Overlooking::Unproven) {
            level.unproven = weight;
        }
        Self { weight, level }
    }

    fn add(&mut self, part: &Self) {
        self.weight += part.weight;
        self.level.total += part.level.total;
        self.level.usable += part.level.usable;
        self.level.unproven += part.level.unproven;
    }

    fn take_away(&mut self, part: &Self) {
        self.weight -= part.weight;
        self.level.total -= part.level.total;
        self.level.usable -= part.level.usable;
        self.level.unproven -= part.level.unproven;
    }

    /// Nothing of it can be used while something stands against the pool as a whole.
    fn told(&self, pool: &Pool) -> Level {
        match pool.live.condition.reason() {
            Some(_) => Level { total: self.weight, ..Level::default() },
            None => self.level,
        }
    }
}

fn sum<'a>(parts: impl Iterator<Item = &'a Part>) -> Part {
    parts.fold(Part::default(), |mut sum, part| {
        sum.add(part);
        sum
    })
}

impl Levels {
    /// Looks at all endpoints: of a new snapshot, or because conditions are also set by others.
    pub(super) fn refresh(&mut self, snapshot: &Snapshot) {
        self.pools.resize_with(snapshot.pools.len(), PoolLevels::default);
        for index in 0..snapshot.pools.len() {
            self.refresh_pool(snapshot, index);
        }
    }

    /// Looks at the endpoints of one pool.
    pub(super) fn refresh_pool(&mut self, snapshot: &Snapshot, index: usize) {
        let (Some(pool), Some(levels)) = (snapshot.pools.get(index), self.pools.get_mut(index)) else {
            return;
        };
        levels.parts.clear();
        levels.parts.extend(pool.endpoints.iter().map(|endpoint| Part::of(pool, endpoint)));
        self.looks += pool.endpoints.len() as u64;
        let groups = pool.tiers.iter().flat_map(|tier| &tier.groups);
        levels.groups.clear();
        levels.groups.extend(
            groups.map(|group| sum(levels.parts.get(group.start..group.end).unwrap_or_default().iter())),
        );
    }

    /// Looks at one endpoint.
    pub(super) fn refresh_endpoint(&mut self, snapshot: &Snapshot, index: usize, at: usize) {
        let (Some(pool), Some(levels)) = (snapshot.pools.get(index), self.pools.get_mut(index)) else {
            return;
        };
        let mut groups = pool.tiers.iter().flat_map(|tier| &tier.groups);
        let place = groups.position(|group| (group.start..group.end).contains(&at));
        let group = place.and_then(|place| levels.groups.get_mut(place));
        let (Some(endpoint), Some(part), Some(group)) =
            (pool.endpoints.get(at), levels.parts.get_mut(at), group)
        else {
            return;
        };
        self.looks += 1;
        let new = Part::of(pool, endpoint);
        group.take_away(part);
        group.add(&new);
        *part = new;
    }

    /// What a pool can do as a whole.
    pub(super) fn pool(&self, snapshot: &Snapshot, index: usize) -> Level {
        let (Some(pool), Some(levels)) = (snapshot.pools.get(index), self.pools.get(index)) else {
            return Level::default();
        };
        sum(levels.groups.iter()).told(pool)
    }

    /// What each tier of a pool can do.
    pub(super) fn tiers(&self, snapshot: &Snapshot, index: usize) -> Vec<Level> {
        let Some(pool) = snapshot.pools.get(index) else { return Vec::new() };
        (0..pool.tiers.len()).map(|tier| sum(self.parts(pool, index, tier).iter()).told(pool)).collect()
    }

    /// What the groups of one tier can do.
    pub(super) fn groups(&self, snapshot: &Snapshot, index: usize, tier: usize) -> Vec<Level> {
        let Some(pool) = snapshot.pools.get(index) else { return Vec::new() };
        self.parts(pool, index, tier).iter().map(|group| group.told(pool)).collect()
    }

    fn parts(&self, pool: &Pool, index: usize, tier: usize) -> &[Part] {
        let before: usize = pool.tiers.iter().take(tier).map(|tier| tier.groups.len()).sum();
        let own = pool.tiers.get(tier).map_or(0, |tier| tier.groups.len());
        self.pools.get(index).and_then(|levels| levels.groups.get(before..before + own)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::control::health::board::Board;
    use crate::control::health::keeper::Keeper;
    use crate::policy::outlier::{Because, Ejection};
    use crate::runtime::compile::{Machine, Weights, compile};
    use crate::runtime::judge::Change;

    /// A keeper of so many endpoints in each of so many pools.
    fn keeper(pools: usize, endpoints: usize) -> Keeper {
        let mut text = "[listener.web]\nbind = [\"127.0.0.1:8080\"]\n[[route]]\npool = \"p0\"\n".to_owned();
        for pool in 0..pools {
            let list: Vec<String> = (0..endpoints)
                .map(|at| format!("\"10.{}.{}.{}:80\"", pool % 256, at / 250, at % 250 + 1))
                .collect();
            let next = (pool + 1) % pools;
            let failover = if next == pool { String::new() } else { format!("failover = [\"p{next}\"]\n") };
            let failover = if pool % 2 == 0 { failover } else { String::new() };
            text.push_str(&format!("[pool.p{pool}]\n{failover}endpoints = [{}]\n", list.join(", ")));
        }
        let config = crate::config::load_text(&text, Path::new("test.toml"), &|_| None);
        let config = config.unwrap_or_else(|errors| panic!("{errors}"));
        let machine = Machine { workers: 1, connections_max: 100, time: Duration::ZERO, secret: None };
        let snapshot =
            Arc::new(compile(&config, None, &machine, &Weights::default()).expect("no file is named"));
        let mut keeper = Keeper::new(Arc::clone(&snapshot), Arc::new(Board::default()));
        keeper.adopt(&snapshot, &config, Vec::new(), Duration::ZERO);
        keeper
    }

    #[tokio::test(start_paused = true)]
    async fn a_storm_in_which_all_endpoints_fail_costs_a_look_at_each() {
        for (pools, endpoints) in [(1, 10_000), (200, 50)] {
            let mut keeper = keeper(pools, endpoints);
            let snapshot = Arc::clone(&keeper.snapshot);
            let (all, before) = ((pools * endpoints) as u64, keeper.levels.looks);
            let ejection = Ejection {
                until: Duration::from_secs(10),
                because: Because::Connects(5),
                judgement: false,
                number: 1,
            };
            for pool in &snapshot.pools {
                for endpoint in &pool.endpoints {
                    endpoint.live.condition.set(Impediment::Ejected, true);
                    keeper.hear(
                        &pool.name,
                        Some(&endpoint.name),
                        &Change::Ejected(ejection),
                        "",
                        Duration::ZERO,
                    );
                }
            }
            assert_eq!(keeper.levels.looks - before, all, "{pools} pools");
            assert!(snapshot.pools.iter().all(|pool| keeper.board.pool(&pool.name).serving_tier.is_none()));
            let mut afresh = Levels::default();
            afresh.refresh(&snapshot);
            assert!(afresh.pools == keeper.levels.pools, "the sums have followed");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pool_that_is_shut_off_can_do_nothing_and_loses_no_weight() {
        let keeper = keeper(1, 3);
        let snapshot = &keeper.snapshot;
        let whole = keeper.levels.pool(snapshot, 0);
        assert!(whole.total > 0 && whole.usable == whole.total, "{whole:?}");
        snapshot.pools[0].live.condition.set(Impediment::Broken, true);
        assert_eq!(keeper.levels.pool(snapshot, 0), Level { usable: 0, ..whole });
        assert_eq!(keeper.levels.tiers(snapshot, 0), vec![Level { usable: 0, ..whole }]);
    }
}
