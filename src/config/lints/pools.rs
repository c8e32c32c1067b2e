//! Lints of pools: who uses them, which of their endpoints can serve, and whether what is left can carry the load.

use std::collections::{BTreeMap, HashSet};

use super::Found;
use super::scene::Scene;
use crate::config::pool::{Balance, Endpoint, Pool};
use crate::config::route::Action;
use crate::config::sticky::By;
use crate::model::address::EndpointAddress;
use crate::model::name::PoolName;
use crate::model::units::Rate;
use crate::policy::balance::rendezvous::ADVISED_MAX;
use crate::policy::sticky::{Failback, WhenDown};

pub(super) fn look(scene: &Scene<'_>, found: &mut Found) {
    unused(scene, found);
    for pool in &scene.config.pools {
        rendezvous(pool, found);
        weights(pool, found);
        available(pool, found);
        sticky(pool, found);
        carry(pool, found);
    }
}

fn unused(scene: &Scene<'_>, found: &mut Found) {
    // Whose health is asked, or holds this node's, is of use although nothing goes there.
    let asked: HashSet<&PoolName> = scene
        .config
        .routes
        .iter()
        .filter_map(|route| match &route.action {
            Action::Health(pool) => Some(pool),
            _ => None,
        })
        .collect();
    for pool in &scene.config.pools {
        if !scene.use_of(pool).is_some() && !pool.required && !asked.contains(&pool.name) {
            let what = format!(
                "pool {} gets no traffic: no route, listener or failover that is used names it",
                pool.name
            );
            found.pool("L023", &pool.name, &[], what);
        }
    }
}

/// The pools with more endpoints than their policy should ask for every pick.
fn rendezvous(pool: &Pool, found: &mut Found) {
    let count = pool.endpoints.len();
    if pool.balance == Balance::Rendezvous && count > ADVISED_MAX {
        let what = format!(
            "pool {}: rendezvous asks all of its {count} endpoints for every request; above {ADVISED_MAX} take maglev or \
             ring_hash, which cost the same however many there are",
            pool.name
        );
        found.pool("L006", &pool.name, &["balance"], what);
    }
}

fn weights(pool: &Pool, found: &mut Found) {
    let mut tiers: BTreeMap<u8, u64> = BTreeMap::new();
    for endpoint in &pool.endpoints {
        *tiers.entry(endpoint.tier).or_default() += u64::from(endpoint.weight.get());
    }
    // More endpoints may come from the file.
    if tiers.len() < 2 || pool.endpoints_file.is_some() {
        return;
    }
    for (tier, _) in tiers.iter().filter(|(_, weight)| **weight == 0) {
        let what =
            format!("pool {}: all endpoints of tier {tier} have weight 0, so it never serves", pool.name);
        found.pool("L024", &pool.name, &["endpoints"], what);
    }
}

/// How many endpoints there are, where that is written.
pub(super) fn count(pool: &Pool) -> Option<u32> {
    let one =
        |endpoint: &Endpoint| matches!(endpoint.address, EndpointAddress::Ip(_) | EndpointAddress::Unix(_));
    let all = pool.endpoints_file.is_none() && pool.endpoints.iter().all(one);
    all.then(|| u32::try_from(pool.endpoints.len()).unwrap_or(u32::MAX))
}

fn available(pool: &Pool, found: &mut Found) {
    let Some(total) = count(pool).filter(|total| *total > 1 && pool.exclusive.is_none()) else { return };
    let least = pool.failover.min_available;
    if least.at_least(total) >= total {
        let what = format!(
            "pool {}: min_available is {least} of {total} endpoints, so that none can ever be drained, put into maintenance \
             or ejected by judgement",
            pool.name
        );
        found.pool("L033", &pool.name, &["min_available"], what);
    }
}

fn sticky(pool: &Pool, found: &mut Found) {
    let Some(sticky) = &pool.sticky else { return };
    let stays = sticky.failback == Failback::Stay && sticky.when_down == WhenDown::Rebalance;
    // What ends by itself brings clients home, too.
    let ends = match &sticky.by {
        By::Cookie { max_age, .. } => max_age.is_some() || sticky.max_idle.is_some(),
        By::Table { .. } => sticky.max_idle.is_some(),
    };
    let first = pool.endpoints.iter().map(|endpoint| endpoint.tier).min();
    let backup = pool.endpoints.iter().any(|endpoint| Some(endpoint.tier) > first);
    if stays && !ends && pool.failover.spill.is_none() && (backup || !pool.failover_pools.is_empty()) {
        let which = if backup { "a backup tier" } else { "a failover pool" };
        let what = format!(
            "pool {}: clients that had to go to {which} stay there after recovery for as long as they keep coming",
            pool.name
        );
        found.pool("L020", &pool.name, &["sticky", "failback"], what);
    }
}

fn per_second(rate: Rate) -> f64 {
    f64::from(rate.count) / rate.per.as_secs_f64()
}

fn carry(pool: &Pool, found: &mut Found) {
    let Some(load) = pool.load else { return };
    let wanted = per_second(load);
    let mut zones: BTreeMap<&str, f64> = BTreeMap::new();
    for endpoint in pool.endpoints.iter().filter(|endpoint| endpoint.weight.get() > 0) {
        // One that does not say what it can is no ground for anything.
        let Some(capacity) = endpoint.capacity else { return };
        *zones.entry(endpoint.zone.as_str()).or_default() += per_second(capacity);
    }
    let total: f64 = zones.values().sum();
    let short = |left: f64| left < wanted;
    let what = if short(total) {
        format!("pool {}: all endpoints together carry {total:.0}/s, and its load is {load}", pool.name)
    } else if zones.len() < 2 || zones.contains_key("") {
        return;
    } else if zones.len() == 2 && zones.values().all(|own| short(*own)) {
        let each: Vec<String> = zones.iter().map(|(zone, own)| format!("{zone} {own:.0}/s")).collect();
        format!(
            "pool {}: its load is {load}, and neither of its two zones can carry that alone ({})",
            pool.name,
            each.join(", ")
        )
    } else if let Some((zone, own)) = zones.iter().find(|(_, own)| short(total - **own)) {
        format!(
            "pool {}: without zone {zone} it carries {:.0}/s, and its load is {load}",
            pool.name,
            total - own
        )
    } else {
        return;
    };
    found.pool("L025", &pool.name, &["load"], what);
}
