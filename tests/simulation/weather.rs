//! What happens to the machines, and who comes: chance with a seed, until all is healed.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::sleep;

use crate::node::{Nature, Node};
use crate::scenario::{DB, DR, LB, SPLIT, WEB};
use crate::traffic::{Asked, request, session};
use crate::world::{Event, World, number};

/// What machines go through until the world is healed.
pub(crate) async fn machines(world: Rc<World>) {
    let calm = 300 + world.random() % 4000;
    while !world.healed.get() {
        sleep(Duration::from_millis(50 + world.random() % calm)).await;
        match world.random() % 12 {
            0 => partition(&world).await,
            1 => flap(&world, one(&world)),
            _ => become_like(&world, &one(&world), any(&world)),
        }
    }
}

/// Everything is as it should be from now on.
pub(crate) fn heal(world: &Rc<World>) {
    world.healed.set(true);
    for node in &world.nodes {
        become_like(world, node, Nature::WELL);
    }
    world.step(Event::Healed);
}

fn become_like(world: &World, node: &Node, nature: Nature) {
    if world.healed.get() && nature != Nature::WELL {
        return;
    }
    node.become_like(nature);
    world.step(Event::Node { node: node.number, becomes: nature.word });
}

fn one(world: &World) -> Rc<Node> {
    let at = usize::try_from(world.random() >> 1).unwrap_or(0) % world.nodes.len();
    Rc::clone(&world.nodes[at])
}

fn any(world: &World) -> Nature {
    let at = usize::try_from(world.random() >> 1).unwrap_or(0) % (Nature::ALL.len() + 6);
    // Machines are well more often than not.
    Nature::ALL.get(at).copied().unwrap_or(Nature::WELL)
}

/// Some machines, or all of them, cannot be reached for a while.
async fn partition(world: &World) {
    let mask = world.random() | world.random();
    let cut: Vec<Rc<Node>> = world.nodes.iter().filter(|n| mask >> n.number & 1 == 1).cloned().collect();
    let silent = Nature::ALL.into_iter().find(|nature| nature.word == "silent").unwrap_or(Nature::GONE);
    for node in &cut {
        become_like(world, node, silent);
    }
    sleep(Duration::from_millis(200 + world.random() % 5000)).await;
    for node in &cut {
        become_like(world, node, Nature::WELL);
    }
}

/// A machine comes and goes.
fn flap(world: &Rc<World>, node: Rc<Node>) {
    let (times, length) = (2 + world.random() % 8, 50 + world.random() % 1500);
    let beside = Rc::clone(world);
    world.spawn(async move {
        for _ in 0..times {
            become_like(&beside, &node, Nature::GONE);
            sleep(Duration::from_millis(length)).await;
            become_like(&beside, &node, Nature::WELL);
            sleep(Duration::from_millis(length)).await;
        }
    });
}

/// The members of the exclusive pool: one leads, and now and then another; the old one goes on claiming for a while.
pub(crate) async fn leaders(world: Rc<World>) {
    let members: Vec<Rc<Node>> = world.snapshot().pools[DB].endpoints.iter().map(|e| world.node(e)).collect();
    let mut rank = 1;
    let mut leader = 0;
    claim(&world, &members[leader], Some(rank));
    while !world.healed.get() {
        sleep(Duration::from_millis(2000 + world.random() % 12_000)).await;
        let next = usize::try_from(world.random() >> 1).unwrap_or(0) % members.len();
        if next == leader {
            continue;
        }
        let clings = world.random().is_multiple_of(3);
        if !clings {
            claim(&world, &members[leader], None);
        }
        sleep(Duration::from_millis(world.random() % 1500)).await;
        rank += 1;
        claim(&world, &members[next], Some(rank));
        if clings {
            sleep(Duration::from_millis(world.random() % 4000)).await;
            claim(&world, &members[leader], None);
        }
        leader = next;
    }
}

fn claim(world: &World, node: &Node, rank: Option<i64>) {
    node.claim(rank);
    world.step(Event::Claims { node: node.number, rank });
}

/// Clients come until `ended`.
pub(crate) async fn clients(world: Rc<World>, ended: Rc<std::cell::Cell<bool>>) {
    let pace = 20 + world.random() % 250;
    let mut number = 0;
    while !ended.get() {
        let pause = if world.healed.get() { 250 } else { world.random() % (2 * pace) };
        sleep(Duration::from_millis(pause)).await;
        number += 1;
        let draw = world.random();
        if draw.is_multiple_of(7) {
            world.spawn(session(Rc::clone(&world), DB, Duration::from_millis(draw % 15_000)));
            continue;
        }
        if draw.is_multiple_of(6) {
            world.spawn(session(Rc::clone(&world), LB, Duration::from_millis(draw % 20_000)));
            continue;
        }
        let asked = Asked {
            request: number,
            route: if draw.is_multiple_of(5) {
                DR
            } else if draw.is_multiple_of(11) {
                SPLIT
            } else {
                WEB
            },
            idempotent: !draw.is_multiple_of(4),
            idempotency_key: draw.is_multiple_of(3),
            key: (draw % 11).to_le_bytes().to_vec(),
            patience: Duration::from_millis(if draw.is_multiple_of(10) { draw % 900 } else { 60_000 }),
        };
        world.spawn(request(Rc::clone(&world), asked));
    }
}

/// What is left in the world once everybody has gone home, where nothing should be.
pub(crate) fn remains(world: &World) -> Result<(), String> {
    if !world.books.borrow().nothing_held() {
        return Err("a client still holds a place".to_owned());
    }
    for (node, live) in world.lives.borrow().iter() {
        if live.in_flight() > 0 {
            return Err(format!("n{node} counts {} in flight, and everybody has gone", live.in_flight()));
        }
    }
    let snapshot = world.snapshot();
    for pool in &snapshot.pools {
        if !pool.live.queue.is_empty() {
            return Err(format!("somebody waits in {}, and everybody has gone", pool.name));
        }
        let well = pool.endpoints.iter().filter(|e| crate::books::is_usable(pool, e)).map(number);
        let (well, all) = (well.count(), if pool.exclusive { 1 } else { pool.endpoints.len() });
        if well != all {
            return Err(format!("{well} of {all} endpoints of {} are usable, and all are well", pool.name));
        }
        let full = |e: &plimsoll::runtime::endpoint::Endpoint| {
            e.live.share() == plimsoll::policy::balance::FULL_SHARE
        };
        if pool.live.is_growing() || !pool.endpoints.iter().all(full) {
            return Err(format!("{} still starts slowly", pool.name));
        }
        let open = plimsoll::runtime::tier::OPEN;
        if crate::control::comes_home(pool)
            && (pool.live.gate(0) != open || pool.tiers.iter().any(|tier| tier.live.gate() != open))
        {
            return Err(format!("not all of the traffic of {} has come home", pool.name));
        }
    }
    Ok(())
}
