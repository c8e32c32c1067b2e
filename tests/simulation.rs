//! A deterministic simulation: virtual time with a seed drives every policy, the pools and the keeper of health through
//! failures, flaps, slow machines, partitions, changed weights, endpoints that are removed and added again, and our own
//! standing still, and after each step the rules hold. `PLIMSOLL_SEED=123 cargo test --test simulation` runs one seed alone; `PLIMSOLL_SEEDS=20000` runs more of them.

#[path = "simulation/books.rs"]
mod books;
#[path = "simulation/closings.rs"]
mod closings;
#[path = "simulation/control.rs"]
mod control;
#[path = "simulation/node.rs"]
mod node;
#[path = "simulation/reload.rs"]
mod reload;
#[path = "simulation/scenario.rs"]
mod scenario;
#[path = "simulation/traffic.rs"]
mod traffic;
#[path = "simulation/weather.rs"]
mod weather;
#[path = "simulation/world.rs"]
mod world;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::LocalSet;
use tokio::time::sleep;

use world::World;

/// Seeds that are run unless told otherwise.
const SEEDS: u64 = 1000;

/// How long things go wrong.
const STORM: Duration = Duration::from_secs(25);

/// After which all that was held down, opened or ejected is back: above the longest of these times in the scenarios.
const CALM: Duration = Duration::from_secs(35);

/// In which the last client goes home.
const EVENING: Duration = Duration::from_secs(25);

/// What a seed came to: steps, and a sum over them that two runs of it share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Course {
    steps: u64,
    sum: u64,
}

/// Runs one seed to its end. An `Err` says which rule it broke, and what happened before.
fn run(seed: u64) -> Result<Course, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    LocalSet::new().block_on(&runtime, async {
        let world = World::new(seed);
        tokio::select! {
            biased;
            () = world.broken() => {}
            () = live(&world) => world.check(weather::remains(&world)),
        }
        match world.report() {
            Some(report) => Err(format!("seed {seed} after {} steps, {report}", world.steps.get())),
            None => Ok(Course { steps: world.steps.get(), sum: world.books.borrow().sum }),
        }
    })
}

async fn live(world: &Rc<World>) {
    let ended = Rc::new(Cell::new(false));
    control::adopt(world);
    world.spawn(control::tick(Rc::clone(world)));
    world.spawn(control::operator(Rc::clone(world)));
    world.spawn(control::stall(Rc::clone(world)));
    world.spawn(weather::machines(Rc::clone(world)));
    world.spawn(weather::leaders(Rc::clone(world)));
    world.spawn(weather::clients(Rc::clone(world), Rc::clone(&ended)));
    sleep(STORM).await;
    weather::heal(world);
    sleep(CALM).await;
    ended.set(true);
    sleep(EVENING).await;
}

/// The number in a variable of the environment.
fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

#[test]
fn every_rule_holds_after_every_step() {
    if let Some(seed) = from_environment("PLIMSOLL_SEED") {
        let course = run(seed).unwrap_or_else(|report| panic!("{report}"));
        assert!(course.steps > 0);
        return;
    }
    let seeds = from_environment("PLIMSOLL_SEEDS").unwrap_or(SEEDS);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (next, steps) = (AtomicU64::new(0), AtomicU64::new(0));
    let failures: Vec<String> = std::thread::scope(|scope| {
        let work = || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= seeds {
                    return None;
                }
                match run(seed) {
                    Ok(course) => steps.fetch_add(course.steps, Ordering::Relaxed),
                    Err(report) => return Some(report),
                };
            }
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().filter_map(|thread| thread.join().expect("no panic outside of a seed")).collect()
    });
    if let Some(report) = failures.first() {
        panic!("{report}\nalone: PLIMSOLL_SEED=<seed> cargo test --test simulation");
    }
    assert!(steps.into_inner() > seeds * 100, "hardly anything happened");
}

#[test]
fn a_seed_goes_the_same_way_each_time() {
    for seed in [1, 2, 3] {
        assert_eq!(run(seed).map_err(|_| ()), run(seed).map_err(|_| ()), "seed {seed}");
    }
}
