//! Lints of ceilings: whether what is let in finds places, descriptors and memory.

use super::Found;
use super::pools::count;
use super::scene::Scene;
use crate::config::pool::Pool;
use crate::config::rate_limit::OnLimit;

/// Descriptors that are not for connections: logs, admin, epoll, pipes.
const RESERVE: u64 = 128;

/// The default of max_connections.
const UNSAID: usize = 20_000;

/// What a busy connection holds at least in buffers, of its client and of its endpoint.
const BUSY: u64 = 32 << 10;

pub(super) fn look(scene: &Scene<'_>, found: &mut Found) {
    bursts(scene, found);
    descriptors(scene, found);
    memory(scene, found);
}

/// How many requests a pool has room for, under way and waiting, where that is written.
fn room(pool: &Pool) -> Option<u64> {
    count(pool)?;
    let serving = pool.endpoints.iter().filter(|endpoint| endpoint.weight.get() > 0);
    let places = serving.map(|endpoint| u64::from(endpoint.max_requests.unwrap_or(pool.limits.max_requests)));
    Some(places.sum::<u64>() + u64::from(pool.limits.queue))
}

fn bursts(scene: &Scene<'_>, found: &mut Found) {
    for route in scene.config.routes.iter().filter(|route| !route.limits.rates.is_empty()) {
        let Some((pool, room)) = scene.pool_of(route).and_then(|pool| Some((pool, room(pool)?))) else {
            continue;
        };
        for limit in route.limits.rates.iter().filter(|limit| limit.on_limit != OnLimit::Count) {
            let at_once = u64::from(limit.delay.unwrap_or(limit.burst)) + 1;
            if at_once > room {
                let what = format!(
                    "route {}: a rate limit lets {at_once} requests in at once, and pool {} has places for {room}, its queue \
                     included",
                    route.rule.name, pool.name
                );
                found.route("L018", &route.rule.name, &["rate_limit", "burst"], what);
            }
        }
    }
}

fn connections(scene: &Scene<'_>) -> u64 {
    scene.config.listeners.iter().map(|listener| listener.max_connections as u64).fold(0, u64::saturating_add)
}

fn descriptors(scene: &Scene<'_>, found: &mut Found) {
    let Some(limit) = scene.machine.descriptors else { return };
    // Who names no ceiling has promised nothing: accepting pauses at the limit.
    if scene.config.listeners.iter().all(|listener| listener.max_connections == UNSAID) {
        return;
    }
    let all = connections(scene);
    let needed = all.saturating_mul(2).saturating_add(RESERVE);
    if needed > limit {
        let what = format!(
            "{all} connections may be accepted, which need about {needed} descriptors with those to endpoints, and the process \
             may have {limit}: beyond about {} nobody is accepted",
            limit.saturating_sub(RESERVE) / 2
        );
        found.section("L031", "listener", &[], what);
    }
}

fn memory(scene: &Scene<'_>, found: &mut Found) {
    let Some(limit) = scene.machine.memory.filter(|_| scene.config.process.overload.is_none()) else {
        return;
    };
    let all = connections(scene);
    // What cannot be accepted needs no memory.
    let possible = scene.machine.descriptors.map_or(all, |descriptors| all.min(descriptors / 2));
    let needed = possible.saturating_mul(BUSY);
    if needed > limit {
        let what = format!(
            "{possible} connections that are all busy need at least {} MiB of buffers, and there are {} MiB of memory",
            needed >> 20,
            limit >> 20
        );
        found.section("L032", "listener", &[], what);
    }
}
