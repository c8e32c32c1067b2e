//! Everything of one seed: the machines, the snapshot that runs, what is under way, and the memory of what happened,
//! which is printed when a rule is broken.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use plimsoll::config::Config;
use plimsoll::control::health::board::Board;
use plimsoll::control::health::keeper::Keeper;
use plimsoll::model::address::Address;
use plimsoll::policy::health::Verdict;
use plimsoll::policy::health::guard::is_void;
use plimsoll::runtime::compile::{Weights, compile};
use plimsoll::runtime::counters::WorkerId;
use plimsoll::runtime::endpoint::{Endpoint, EndpointLive};
use plimsoll::runtime::judge::{Change, Outcome};
use plimsoll::runtime::snapshot::Snapshot;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::books::Books;
use crate::closings::{Closings, Session};
use crate::node::Node;
use crate::reload::machine;
use crate::scenario::{DB, Scenario};

/// The worker in whose name everything is counted.
pub(crate) const WORKER: WorkerId = WorkerId(0);

/// Events that are remembered.
const REMEMBERED: usize = 120;

/// What happened, in the order in which it did.
#[derive(Debug, Clone)]
#[expect(dead_code, reason = "the fields are read by `Debug`, when a seed fails")]
pub(crate) enum Event {
    /// A machine became something else.
    Node { node: usize, becomes: &'static str },
    /// Who claims to lead.
    Claims { node: usize, rank: Option<i64> },
    /// A probe ended.
    Probed { node: usize, verdict: Verdict, lateness: Duration },
    /// The keeper told the journal: what, and why.
    Told(String, String),
    /// A request came.
    Request { request: u32, route: usize },
    /// It got a place.
    Place { request: u32, node: usize },
    /// Its attempt ended.
    Ended { request: u32, node: usize, outcome: Outcome, late: bool },
    /// It waits in the queue of a pool.
    Waits { request: u32, pool: usize },
    /// It is over: with this status, or none.
    Over { request: u32, status: Option<u16> },
    /// Live traffic changed something, of a pool where there is no node.
    Judged { pool: usize, node: Option<usize>, change: Change },
    /// The operator changed weights.
    Weights { node: usize, weight: u16 },
    /// A reload left an endpoint out, or took it in again.
    Reload { node: usize, member: bool },
    /// The operator did this.
    Operator { node: Option<usize>, word: &'static str },
    /// We stood still.
    Stalled(Duration),
    /// Time passed.
    Tick,
    /// A session began, or ended because it was told to or because its endpoint cut it.
    Session { node: usize, open: bool },
    /// From here on everything is well.
    Healed,
}

/// One seed.
pub(crate) struct World {
    /// Where time began.
    pub(crate) start: Instant,
    /// What is drawn.
    pub(crate) rng: RefCell<Rng>,
    /// The configuration.
    pub(crate) scenario: Scenario,
    /// The machines, by number.
    pub(crate) nodes: Vec<Rc<Node>>,
    /// The configuration as it is just now.
    pub(crate) config: RefCell<Config>,
    /// What runs.
    pub(crate) snapshot: RefCell<Arc<Snapshot>>,
    /// Live states of all endpoints that ever were, with their machines.
    pub(crate) lives: RefCell<Vec<(usize, Arc<EndpointLive>)>>,
    /// Weights that were changed.
    pub(crate) weights: RefCell<Weights>,
    /// The keeper of health.
    pub(crate) keeper: RefCell<Keeper>,
    /// Tcp sessions.
    pub(crate) sessions: RefCell<Vec<Rc<Session>>>,
    /// What must hold.
    pub(crate) books: RefCell<Books>,
    /// What must hold of sessions that are told to end.
    pub(crate) closings: RefCell<Closings>,
    /// When we stood still, from and to.
    stalls: RefCell<Vec<(Duration, Duration)>>,
    /// Whether the world does no more harm.
    pub(crate) healed: Cell<bool>,
    trace: RefCell<VecDeque<(Duration, Event)>>,
    /// Steps so far.
    pub(crate) steps: Cell<u64>,
    broken: RefCell<Option<String>>,
    broke: Notify,
}

impl World {
    /// The world of a seed, at its beginning.
    pub(crate) fn new(seed: u64) -> Rc<Self> {
        let mut rng = Rng::with_seed(seed);
        let scenario = Scenario::draw(&mut rng);
        let start = Instant::now();
        let snapshot =
            compile(&scenario.config, None, &machine(), &Weights::default()).expect("no file is named");
        snapshot.settle();
        let exclusive: Vec<usize> = snapshot.pools[DB].endpoints.iter().map(number).collect();
        let nodes: Vec<Rc<Node>> = (0..scenario.nodes)
            .map(|node| Node::new(node, exclusive.contains(&node), start, &mut rng))
            .collect();
        let lives =
            snapshot.pools.iter().flat_map(|p| &p.endpoints).map(|e| (number(e), Arc::clone(&e.live)));
        let lives = RefCell::new(lives.collect());
        let snapshot = Arc::new(snapshot);
        let keeper = Keeper::new(Arc::clone(&snapshot), Arc::new(Board::default()));
        let books = Books::new(&scenario.config, &snapshot, nodes.len());
        Rc::new(Self {
            start,
            rng: RefCell::new(rng),
            config: RefCell::new(scenario.config.clone()),
            scenario,
            nodes,
            snapshot: RefCell::new(snapshot),
            lives,
            weights: RefCell::default(),
            keeper: RefCell::new(keeper),
            sessions: RefCell::default(),
            books: RefCell::new(books),
            closings: RefCell::default(),
            stalls: RefCell::default(),
            healed: Cell::new(false),
            trace: RefCell::default(),
            steps: Cell::new(0),
            broken: RefCell::new(None),
            broke: Notify::new(),
        })
    }

    /// Time since the beginning, as the policies have it.
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// What runs.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.borrow())
    }

    /// The machine behind an endpoint.
    pub(crate) fn node(&self, endpoint: &Endpoint) -> Rc<Node> {
        Rc::clone(&self.nodes[number(endpoint)])
    }

    /// The machine at an address.
    pub(crate) fn node_at(&self, address: Address) -> Rc<Node> {
        let Some(IpAddr::V4(ip)) = address.ip().map(|address| address.ip()) else {
            panic!("{address} is none of the scenario's")
        };
        Rc::clone(&self.nodes[usize::from(ip.octets()[3]) - 1])
    }

    /// A number that differs from call to call.
    pub(crate) fn random(&self) -> u64 {
        self.rng.borrow_mut().u64(..)
    }

    /// Remembers what happened, and holds the world to its rules.
    pub(crate) fn step(&self, event: Event) {
        self.remember(event);
        self.steps.set(self.steps.get() + 1);
        let rule = self.books.borrow_mut().step(self);
        self.check(rule);
    }

    /// Remembers what happened.
    pub(crate) fn remember(&self, event: Event) {
        let mut trace = self.trace.borrow_mut();
        if trace.len() == REMEMBERED {
            trace.pop_front();
        }
        trace.push_back((self.now(), event));
    }

    /// Holds the world to a rule: an `Err` says how it was broken.
    pub(crate) fn check(&self, rule: Result<(), String>) {
        let Err(how) = rule else { return };
        let mut broken = self.broken.borrow_mut();
        if broken.is_none() {
            *broken = Some(how);
            self.broke.notify_one();
        }
    }

    /// How a rule was broken, if one was, and what happened before.
    pub(crate) fn report(&self) -> Option<String> {
        let how = self.broken.borrow().clone()?;
        let mut lines =
            vec![format!("{:.3} s: {how}", self.now().as_secs_f64()), "the last events:".to_owned()];
        lines.extend(
            self.trace.borrow().iter().map(|(at, event)| format!("{:>9.3} {event:?}", at.as_secs_f64())),
        );
        for pool in &self.snapshot().pools {
            let gates: Vec<u32> = (0..pool.chain.len()).map(|place| pool.live.gate(place)).collect();
            let tiers: Vec<u32> = pool.tiers.iter().map(|tier| tier.live.gate()).collect();
            lines.push(format!(
                "{}: {:?}, {} wait, gates {gates:?}, of tiers {tiers:?}",
                pool.name,
                pool.live.condition.reason(),
                pool.live.queue.len()
            ));
            lines.extend(pool.endpoints.iter().map(|e| {
                let live = &e.live;
                let reasons: Vec<&str> = plimsoll::runtime::condition::Impediment::ALL
                    .into_iter()
                    .filter(|i| live.condition.has(*i))
                    .map(plimsoll::runtime::condition::Impediment::word)
                    .collect();
                let nature = self.node(e).nature().word;
                format!(
                    "  {} tier {}: {reasons:?}, {} in flight, ejected {:?}, breaker {:?}, the machine is {nature}",
                    e.name,
                    e.tier,
                    live.in_flight(),
                    live.judged.ejection(),
                    live.judged.gate(),
                )
            }));
        }
        lines.push(self.scenario.text.clone());
        Some(lines.join("\n"))
    }

    /// Ends as soon as a rule is broken.
    pub(crate) async fn broken(&self) {
        self.broke.notified().await;
    }

    /// Notes that we stand still from one moment to another.
    pub(crate) fn stalled(&self, from: Duration, to: Duration) {
        self.stalls.borrow_mut().push((from, to));
    }

    /// How late our timers ran at worst since then.
    pub(crate) fn lateness(&self, since: Duration) -> Duration {
        let stalls = self.stalls.borrow();
        let over = stalls.iter().rev().take_while(|(_, to)| *to > since);
        over.map(|(from, to)| *to - *from).max().unwrap_or_default()
    }

    /// When we last stood still for so long that timers were void.
    pub(crate) fn void_until(&self) -> Duration {
        let stalls = self.stalls.borrow();
        let last = stalls.iter().rev().find(|(from, to)| is_void(*to - *from));
        last.map_or(Duration::ZERO, |(_, to)| *to)
    }

    /// Runs something beside everything else.
    pub(crate) fn spawn(self: &Rc<Self>, task: impl Future<Output = ()> + 'static) {
        let guard = Unwound(Rc::clone(self));
        tokio::task::spawn_local(async move {
            task.await;
            drop(guard);
        });
    }
}

/// Breaks the rules when it is dropped by a panic.
struct Unwound(Rc<World>);

impl Drop for Unwound {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.check(Err("a panic, printed above".to_owned()));
        }
    }
}

/// The number of the machine behind an endpoint.
pub(crate) fn number(endpoint: &Endpoint) -> usize {
    endpoint.name.as_str().trim_start_matches('n').parse().expect("names are n and a number")
}
