//! Clients, and the way of the proxy with a request and with a tcp session: pick, wait, connect, ask, judge, try again.
//! Each step is that of `proxy::request` and `proxy::attempt`, with machines of this world in the place of sockets.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use plimsoll::policy::admission::class::Class;
use plimsoll::policy::balance::Draw;
use plimsoll::policy::health::guard::is_void;
use plimsoll::policy::retry::{self, Facts, Failure, Next};
use plimsoll::runtime::condition::Level;
use plimsoll::runtime::endpoint::{Endpoint, Work};
use plimsoll::runtime::judge::{Change, Outcome};
use plimsoll::runtime::pick::{Order, Picked, Place};
use plimsoll::runtime::pool::{Pool, Tried};
use plimsoll::runtime::queue::{Away, Joined};
use plimsoll::runtime::snapshot::{Action, Snapshot};
use tokio::time::{sleep, timeout};

use crate::books::Sight;
use crate::closings::Session;
use crate::control;
use crate::scenario::{CONNECT, DR, RESPONSE_HEADER, SPLIT, WEB};
use crate::world::{Event, WORKER, World, number};

/// What a client asks for.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// Its number.
    pub(crate) request: u32,
    /// The route that it takes, by its place in the configuration; those to one pool have the pool's number.
    pub(crate) route: usize,
    /// Whether its method may be done twice.
    pub(crate) idempotent: bool,
    /// Whether it has an `Idempotency-Key`.
    pub(crate) idempotency_key: bool,
    /// Who it is, for the hashing policies.
    pub(crate) key: Vec<u8>,
    /// For how long it waits.
    pub(crate) patience: Duration,
}

/// A place that the books know of.
struct Held<'a> {
    place: Option<Place<'a>>,
    world: &'a Rc<World>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            let endpoint = place.endpoint;
            self.world.books.borrow_mut().let_go(endpoint.live.slot());
            drop(place);
        }
    }
}

impl<'a> Held<'a> {
    fn new(world: &'a Rc<World>, place: Place<'a>) -> Self {
        world.books.borrow_mut().hold(place.endpoint.live.slot());
        Self { place: Some(place), world }
    }

    fn endpoint(&self) -> &'a Endpoint {
        self.place.as_ref().map(|place| place.endpoint).expect("it is taken only when dropped")
    }

    /// Tells the policies how an attempt ended, and the books what followed.
    fn ended(&mut self, pools: &[Pool], order: &Order<'a>, outcome: Outcome) {
        let Some(place) = self.place.as_mut() else { return };
        let (pool, endpoint) = (place.pool, place.endpoint);
        let mut changes: Vec<(bool, Change)> = Vec::new();
        let random = self.world.random();
        place.ended(order, WORKER, outcome, random, |of_pool, change| changes.push((of_pool, change)));
        for (of_pool, change) in changes {
            judged(self.world, pools, pool, (!of_pool).then_some(endpoint), change);
        }
    }
}

/// Notes what live traffic changed.
pub(crate) fn judged(
    world: &Rc<World>,
    pools: &[Pool],
    pool: &Pool,
    endpoint: Option<&Endpoint>,
    change: Change,
) {
    let node = endpoint.map(number);
    let rule = world.books.borrow_mut().judged(world, pools, pool, endpoint, &change);
    control::hear(world, pool, endpoint, &change);
    let pool = pool.name.as_str().trim_start_matches('p').parse().unwrap_or_default();
    world.step(Event::Judged { pool, node, change });
    world.check(rule);
}

/// Serves one request to its end, unless its client goes before.
pub(crate) async fn request(world: Rc<World>, asked: Asked) {
    let request = asked.request;
    world.step(Event::Request { request, route: asked.route });
    let status = timeout(asked.patience, async {
        loop {
            match forward(&world, &asked).await {
                Err(Outdated) => {}
                Ok(status) => return status,
            }
        }
    });
    let status = status.await.ok().flatten();
    world.step(Event::Over { request, status });
}

/// A place was granted on an endpoint that only a newer snapshot has: the request begins again with that one.
struct Outdated;

async fn forward(world: &Rc<World>, asked: &Asked) -> Result<Option<u16>, Outdated> {
    let snapshot = world.snapshot();
    let chain = chain(world, &snapshot, asked.route);
    let pool = chain[0];
    let home = &snapshot.pools[pool];
    world.books.borrow_mut().came(pool, world.now());
    home.live.counters.of(WORKER).started.one();
    let outdated = Cell::new(false);
    let forwarding = Forwarding {
        world,
        pools: &snapshot.pools,
        home,
        chain,
        order: Order::new(&snapshot.pools, chain),
        policy: &home.retry,
        tried: Tried::default(),
        attempts: 0,
        unrepeated: 0,
        waits: 0,
        began: world.now(),
        asked,
        outdated: &outdated,
    };
    let status = forwarding.run().await;
    if outdated.get() { Err(Outdated) } else { Ok(status) }
}

struct Forwarding<'a> {
    world: &'a Rc<World>,
    pools: &'a [Pool],
    home: &'a Pool,
    chain: &'a [usize],
    order: Order<'a>,
    policy: &'a retry::Policy,
    tried: Tried,
    attempts: u32,
    /// Repeats on fresh connections that could not be made.
    unrepeated: u32,
    waits: u32,
    began: Duration,
    asked: &'a Asked,
    /// Set where it is to begin again.
    outdated: &'a Cell<bool>,
}

impl<'a> Forwarding<'a> {
    async fn run(mut self) -> Option<u16> {
        let mut held = self.pick().await?;
        let mut fresh = false;
        loop {
            let endpoint = held.endpoint();
            let node = self.world.node(endpoint);
            let reused = !fresh && self.world.random().is_multiple_of(3);
            let began = self.world.now();
            if !reused && let Err(failure) = node.connect(CONNECT).await {
                // What was to be repeated has not been, and goes elsewhere.
                self.unrepeated += u32::from(fresh);
                fresh = false;
                self.failed(held, failure, began);
                let facts = self.facts(endpoint, failure, false);
                let next = retry::next(self.policy, &Facts { bytes_sent: false, ..facts });
                held = self.go_on(endpoint, failure, next).await?;
                continue;
            }
            self.count(fresh);
            let sent = self.world.now();
            let answer = node.answer(RESPONSE_HEADER).await;
            fresh = false;
            let failure = match answer {
                Ok(status) => {
                    let after = self.world.now() - sent;
                    self.note_end(&mut held, Outcome::Answered { status, after }, false);
                    match self.instead_of(endpoint, status) {
                        Some(next) => {
                            held = next;
                            continue;
                        }
                        None => return Some(self.deliver(held, status).await),
                    }
                }
                Err(failure) => failure,
            };
            let next = retry::next(self.policy, &self.facts(endpoint, failure, reused));
            if next == Next::RepeatFresh {
                fresh = true;
                continue;
            }
            self.failed(held, failure, sent);
            held = self.go_on(endpoint, failure, next).await?;
        }
    }

    /// The body, on its way to the client.
    async fn deliver(&self, held: Held<'a>, status: u16) -> u16 {
        let body = Duration::from_millis(self.world.random() % 300);
        sleep(body).await;
        drop(held);
        status
    }

    fn count(&mut self, fresh: bool) {
        if !fresh {
            self.attempts += 1;
            let rule = if self.attempts > self.policy.attempts.max(1) + self.unrepeated {
                Err(format!("attempt {} of at most {}", self.attempts, self.policy.attempts))
            } else {
                Ok(())
            };
            self.world.check(rule);
        }
    }

    fn draw(&self) -> Draw<'_> {
        Draw { random: self.world.random(), key: Some(&self.asked.key) }
    }

    async fn pick(&mut self) -> Option<Held<'a>> {
        match self.look() {
            Picked::Place(place, _) => Some(self.note(place)),
            Picked::Nothing => None,
            Picked::Busy(pool, level) => self.wait(pool, level).await,
        }
    }

    /// Picks, and holds the pick to the rules.
    fn look(&self) -> Picked<'a> {
        let sight = Sight::of(self.pools, self.chain, &self.tried);
        let picked = self.order.pick(&self.tried, Work::Request, self.draw());
        self.world.check(sight.allows(&picked));
        picked
    }

    fn note(&mut self, place: Place<'a>) -> Held<'a> {
        let node = number(place.endpoint);
        self.world.check(if self.tried.contains(place.endpoint) {
            Err(format!("n{node} was tried already"))
        } else {
            Ok(())
        });
        let held = Held::new(self.world, place);
        self.world.step(Event::Place { request: self.asked.request, node });
        held
    }

    async fn wait(&mut self, mut pool: &'a Pool, mut level: Level) -> Option<Held<'a>> {
        let began = self.world.now();
        loop {
            let left = pool.queue_timeout.saturating_sub(self.world.now() - began);
            let random = self.world.random();
            let draw = Draw { random, key: Some(&self.asked.key) };
            let class = Class::ALL[self.asked.request as usize % Class::COUNT];
            let waiting = match pool.join_queue(level, (class, None), &self.tried, Work::Request, draw) {
                Joined::Place(place) => return Some(self.note(place)),
                Joined::Full | Joined::Hopeless => return None,
                Joined::Waiting(waiting) => waiting,
            };
            let name = pool.name.as_str().trim_start_matches('p').parse().unwrap_or_default();
            self.world.step(Event::Waits { request: self.asked.request, pool: name });
            match timeout(left, waiting).await {
                Ok(Ok(grant)) => {
                    let slot = grant.endpoint().slot();
                    if let Some(place) = pool.granted(grant, level) {
                        return Some(self.note(place));
                    }
                    if self.tried.is_empty() && !self.order.is_of(&self.world.snapshot()) {
                        self.outdated.set(true);
                        return None;
                    }
                    if !pool.is_member(slot) {
                        self.tried.add_stranger(slot);
                    }
                }
                Ok(Err(Away::Dismissed)) => {}
                Ok(Err(Away::Shed | Away::Displaced)) | Err(_) => return None,
            }
            match self.look() {
                Picked::Place(place, _) => return Some(self.note(place)),
                Picked::Nothing => return None,
                Picked::Busy(other, needed) => (pool, level) = (other, needed),
            }
        }
    }

    /// An attempt that began then failed.
    fn failed(&mut self, mut held: Held<'a>, failure: Failure, began: Duration) {
        self.tried.add(held.endpoint());
        let timer = matches!(failure, Failure::Timeout | Failure::Connect);
        let late = timer && is_void(self.world.lateness(began));
        self.note_end(&mut held, Outcome::Failed(failure), late);
    }

    /// What follows a failed attempt: the next place, or nothing.
    async fn go_on(&mut self, endpoint: &Endpoint, failure: Failure, next: Next) -> Option<Held<'a>> {
        self.world.check(self.is_fair(endpoint, failure, next));
        if next.draws(failure) && !self.may_retry() {
            return None;
        }
        match next {
            Next::Another | Next::Repick => {}
            Next::SameAfter(bound) => {
                sleep(retry::wait(bound, self.world.random())).await;
                self.tried.remove(endpoint);
                self.waits += 1;
            }
            Next::RepeatFresh | Next::GiveUp(_) => return None,
        }
        self.pick().await
    }

    /// Whether a repeat is one that a client can bear.
    fn is_fair(&self, endpoint: &Endpoint, failure: Failure, next: Next) -> Result<(), String> {
        if matches!(next, Next::GiveUp(_)) {
            return Ok(());
        }
        if self.world.now() - self.began >= self.policy.within {
            return Err("a repeat after `within`".to_owned());
        }
        if failure != Failure::Connect
            && !self.policy.repeatable(self.asked.idempotent, self.asked.idempotency_key)
        {
            return Err(format!("a repeat of what n{} may have done", number(endpoint)));
        }
        Ok(())
    }

    fn note_end(&self, held: &mut Held<'a>, outcome: Outcome, late: bool) {
        let node = number(held.endpoint());
        self.world.step(Event::Ended { request: self.asked.request, node, outcome, late });
        if !late {
            held.ended(self.pools, &self.order, outcome);
        }
    }

    fn instead_of(&mut self, endpoint: &'a Endpoint, status: u16) -> Option<Held<'a>> {
        let failure = Failure::Status(status);
        let facts = Facts { answer_bytes: true, ..self.facts(endpoint, failure, false) };
        if !self.policy.lists(failure)
            || retry::next(self.policy, &facts) != Next::Another
            || !self.may_retry()
        {
            return None;
        }
        self.tried.add(endpoint);
        match self.look() {
            Picked::Place(place, _) => Some(self.note(place)),
            Picked::Busy(..) | Picked::Nothing => None,
        }
    }

    fn may_retry(&self) -> bool {
        let allowed = self.home.may_retry();
        if allowed {
            let rule = self.world.books.borrow_mut().retried(self.home, self.chain[0], self.world.now());
            self.world.check(rule);
        }
        allowed
    }

    fn facts(&self, endpoint: &Endpoint, failure: Failure, reused: bool) -> Facts {
        Facts {
            failure,
            idempotent: self.asked.idempotent,
            idempotency_key: self.asked.idempotency_key,
            reused,
            bytes_sent: true,
            answer_bytes: false,
            given_back: None,
            body_replayable: true,
            response_started: false,
            attempts: self.attempts,
            waits: self.waits,
            repeats: 0,
            elapsed: self.world.now() - self.began,
            other_usable: self.order.has_another(&self.tried, endpoint),
            alone: self.order.is_alone(endpoint),
        }
    }
}

/// The pools that take a request of this route, in their order, as `proxy::request` finds them.
fn chain<'a>(world: &World, snapshot: &'a Snapshot, route: usize) -> &'a [usize] {
    let chain = match snapshot.routes.get(route).map(|route| &route.action) {
        Some(Action::Pool(pool)) => &snapshot.pools[*pool].chain,
        Some(Action::Split(split)) => split.choose(world.random()),
        _ => panic!("the routes of the scenarios lead to pools"),
    };
    world.check(is_whole(world, route, chain));
    chain
}

/// Where nothing of a part is usable its failover pools come first, then its siblings: by the words of the configuration.
fn is_whole(world: &World, route: usize, chain: &[usize]) -> Result<(), String> {
    let fails_over = !world.scenario.config.pools[WEB].failover_pools.is_empty();
    let wanted: &[usize] = match (route, chain.first()) {
        (SPLIT, Some(&DR)) => &[DR, WEB],
        (SPLIT, _) => &[WEB, DR],
        (WEB, _) if fails_over => &[WEB, DR],
        (WEB, _) => &[WEB],
        _ => &[DR],
    };
    if chain == wanted { Ok(()) } else { Err(format!("route {route} asks {chain:?}, not {wanted:?}")) }
}

/// Serves one tcp session of a pool until it ends by itself, its endpoint cuts it, or we are told to close it.
pub(crate) async fn session(world: Rc<World>, of: usize, length: Duration) {
    let snapshot = world.snapshot();
    let Some(pool) = snapshot.pools.get(of) else { return };
    let order = Order::new(&snapshot.pools, &pool.chain);
    let mut tried = Tried::default();
    pool.live.counters.of(WORKER).started.one();
    loop {
        let draw = Draw { random: world.random(), key: None };
        let sight = Sight::of(&snapshot.pools, &pool.chain, &tried);
        let picked = order.pick(&tried, Work::Connection, draw);
        world.check(sight.allows(&picked));
        let Picked::Place(place, _) = picked else { return };
        let endpoint = place.endpoint;
        let mut held = Held::new(&world, place);
        let node = world.node(endpoint);
        let began = world.now();
        match node.connect(CONNECT).await {
            Err(failure) => {
                tried.add(endpoint);
                if !is_void(world.lateness(began)) {
                    held.ended(&snapshot.pools, &order, Outcome::Failed(failure));
                }
            }
            Ok(()) => {
                let after = world.now() - began;
                held.ended(&snapshot.pools, &order, Outcome::Answered { status: 0, after });
                let entered = Entered::new(&world, of, endpoint);
                world.step(Event::Session { node: node.number, open: true });
                let _ended = timeout(length, entered.session.closed()).await;
                drop(entered);
                world.step(Event::Session { node: node.number, open: false });
                return;
            }
        }
    }
}

/// A session that the keeper can have cut; it leaves when dropped.
struct Entered<'a> {
    world: &'a World,
    session: Rc<Session>,
}

impl<'a> Entered<'a> {
    fn new(world: &'a World, pool: usize, endpoint: &Endpoint) -> Self {
        let session = Rc::new(Session::new(pool, endpoint.live.slot()));
        world.sessions.borrow_mut().push(Rc::clone(&session));
        Self { world, session }
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.world.sessions.borrow_mut().retain(|session| !Rc::ptr_eq(session, &self.session));
    }
}
