//! Reloads: other weights, endpoints that are left out and taken in again. What runs is compiled anew and brought into
//! line as `control::supervisor` does it; the keeper's part is `control::adopt`.

use std::collections::BTreeMap;
use std::sync::Arc;

use plimsoll::model::name::{EndpointName, PoolName};
use plimsoll::runtime::compile::{Machine, compile};
use plimsoll::runtime::endpoint::Endpoint;
use plimsoll::runtime::pool::Pool;
use plimsoll::runtime::snapshot::Snapshot;

use crate::world::{Event, World, number};

/// What every snapshot is compiled for.
pub(crate) const fn machine() -> Machine {
    Machine { workers: 1, connections_max: 1000, time: std::time::Duration::ZERO, secret: None }
}

/// Takes over another weight.
pub(crate) fn reweigh(world: &World, pool: &Pool, endpoint: &Endpoint, weight: u16) {
    world.weights.borrow_mut().insert((pool.name.clone(), endpoint.name.clone()), weight);
    publish(world);
    world.step(Event::Weights { node: number(endpoint), weight });
}

/// Leaves an endpoint out, unless it is the last one of its pool.
pub(crate) fn remove(world: &World, pool: &PoolName, endpoint: &EndpointName) {
    let mut config = world.config.borrow_mut();
    let of = config.pools.iter_mut().find(|of| of.name == *pool).expect("pools stay");
    if of.endpoints.len() < 2 {
        return;
    }
    of.endpoints.retain(|e| e.name != *endpoint);
    drop(config);
    publish(world);
    world.step(Event::Reload { node: node(endpoint), member: false });
}

/// Takes one in again that was left out, if any was.
pub(crate) fn take_in(world: &World, random: u64) {
    let mut config = world.config.borrow_mut();
    let mut absent: Vec<(usize, usize)> = Vec::new();
    for (pool, written) in world.scenario.config.pools.iter().enumerate() {
        let is_out = |name: &EndpointName| config.pools[pool].endpoints.iter().all(|e| e.name != *name);
        let out = written.endpoints.iter().enumerate().filter(|(_, e)| is_out(&e.name));
        absent.extend(out.map(|(at, _)| (pool, at)));
    }
    if absent.is_empty() {
        return;
    }
    let (pool, at) = absent[usize::try_from(random >> 1).unwrap_or(0) % absent.len()];
    let endpoint = world.scenario.config.pools[pool].endpoints[at].clone();
    let name = endpoint.name.clone();
    config.pools[pool].endpoints.push(endpoint);
    drop(config);
    publish(world);
    world.step(Event::Reload { node: node(&name), member: true });
}

/// Everything as it was in the beginning.
pub(crate) fn restore(world: &World) {
    world.weights.borrow_mut().clear();
    *world.config.borrow_mut() = world.scenario.config.clone();
    publish(world);
}

fn node(name: &EndpointName) -> usize {
    name.as_str().trim_start_matches('n').parse().expect("names are n and a number")
}

/// Whoever stays is known by the same live state, and whoever is new by one of its own.
fn is_carried_over(previous: &Snapshot, next: &Snapshot) -> Result<(), String> {
    let slots = |snapshot: &Snapshot| -> BTreeMap<usize, u32> {
        snapshot.pools.iter().flat_map(|p| &p.endpoints).map(|e| (number(e), e.live.slot())).collect()
    };
    let (before, after) = (slots(previous), slots(next));
    for (node, slot) in &after {
        match before.get(node) {
            Some(known) if known != slot => return Err(format!("a reload has forgotten n{node}")),
            None if before.values().any(|known| known == slot) => {
                return Err(format!("n{node} is taken for another by a reload"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// As `Supervisor::reload`.
fn publish(world: &World) {
    let previous = world.snapshot();
    let next = compile(&world.config.borrow(), Some(&previous), &machine(), &world.weights.borrow())
        .expect("no file is named");
    *world.snapshot.borrow_mut() = Arc::new(next);
    let next = world.snapshot();
    next.settle();
    let slots: Vec<u32> = next.pools.iter().flat_map(|p| &p.endpoints).map(|e| e.live.slot()).collect();
    for endpoint in previous.pools.iter().flat_map(|p| &p.endpoints) {
        if !slots.contains(&endpoint.live.slot()) {
            endpoint.live.retire();
            world.closings.borrow_mut().removed(endpoint.live.slot(), world.now());
            world.books.borrow_mut().left(world.now());
        }
    }
    world.check(is_carried_over(&previous, &next));
    let known: Vec<u32> = previous.pools.iter().flat_map(|p| &p.endpoints).map(|e| e.live.slot()).collect();
    for endpoint in next.pools.iter().flat_map(|p| &p.endpoints) {
        if !known.contains(&endpoint.live.slot()) {
            world.lives.borrow_mut().push((number(endpoint), Arc::clone(&endpoint.live)));
            world.books.borrow_mut().joined(number(endpoint), world.now());
        }
    }
}
