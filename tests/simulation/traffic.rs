//! Clients, and the way of the proxy with a request and with a tcp session: pick, wait, connect, ask, judge, try again.
//! Each step is that of `proxy::request` and `proxy::attempt`, with machines of this world in the place of sockets.

use std::rc::Rc;
use std::time::Duration;

use plimsoll::policy::balance::Draw;
use plimsoll::policy::health::guard::is_void;
use plimsoll::policy::retry::{self, Facts, Failure, Next};
use plimsoll::runtime::condition::Level;
use plimsoll::runtime::endpoint::{Endpoint, Work};
use plimsoll::runtime::judge::{Change, Outcome};
use plimsoll::runtime::pick::{Order, Picked, Place};
use plimsoll::runtime::pool::{Pool, Tried};
use plimsoll::runtime::queue::{Dismissed, Joined};
use tokio::time::{sleep, timeout};

use crate::books::Sight;
use crate::control::{self, Session};
use crate::scenario::{CONNECT, DB, RESPONSE_HEADER};
use crate::world::{Event, WORKER, World, number};

/// What a client asks for.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// Its number.
    pub(crate) request: u32,
    /// The pool that its route names.
    pub(crate) pool: usize,
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
            self.world.books.borrow_mut().let_go(number(endpoint));
            drop(place);
        }
    }
}

impl<'a> Held<'a> {
    fn new(world: &'a Rc<World>, place: Place<'a>) -> Self {
        world.books.borrow_mut().hold(number(place.endpoint));
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
    let rule = world.books.borrow_mut().judged(world, pools, pool, node, &change);
    control::hear(world, pool, endpoint, &change);
    let pool = pool.name.as_str().trim_start_matches('p').parse().unwrap_or_default();
    world.step(Event::Judged { pool, node, change });
    world.check(rule);
}

/// Serves one request to its end, unless its client goes before.
pub(crate) async fn request(world: Rc<World>, asked: Asked) {
    let (request, pool) = (asked.request, asked.pool);
    let snapshot = world.snapshot();
    let Some(home) = snapshot.pools.get(pool) else { return };
    world.books.borrow_mut().came(pool, world.now());
    home.live.counters.of(WORKER).started.one();
    world.step(Event::Request { request, pool });
    let forwarding = Forwarding {
        world: &world,
        pools: &snapshot.pools,
        home,
        order: Order::new(&snapshot.pools, &home.chain),
        policy: &home.retry,
        tried: Tried::default(),
        attempts: 0,
        unrepeated: 0,
        waits: 0,
        began: world.now(),
        asked: &asked,
    };
    let status = timeout(asked.patience, forwarding.run()).await.ok().flatten();
    world.step(Event::Over { request, status });
}

struct Forwarding<'a> {
    world: &'a Rc<World>,
    pools: &'a [Pool],
    home: &'a Pool,
    order: Order<'a>,
    policy: &'a retry::Policy,
    tried: Tried,
    attempts: u32,
    /// Repeats on fresh connections that could not be made.
    unrepeated: u32,
    waits: u32,
    began: Duration,
    asked: &'a Asked,
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
                let facts = self.facts(endpoint, failure, false);
                let next = retry::next(self.policy, &Facts { bytes_sent: false, ..facts });
                held = self.failed(held, failure, began, next).await?;
                continue;
            }
            self.count(fresh);
            let limit =
                self.policy.per_try_timeout.map_or(RESPONSE_HEADER, |limit| limit.min(RESPONSE_HEADER));
            let sent = self.world.now();
            let answer = node.answer(limit).await;
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
            held = self.failed(held, failure, sent, next).await?;
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
        let sight = Sight::of(self.pools, self.home, &self.tried);
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
            let waiting = match pool.join_queue(level, &self.tried, Work::Request, draw) {
                Joined::Place(place) => return Some(self.note(place)),
                Joined::Full => return None,
                Joined::Waiting(waiting) => waiting,
            };
            let name = pool.name.as_str().trim_start_matches('p').parse().unwrap_or_default();
            self.world.step(Event::Waits { request: self.asked.request, pool: name });
            match timeout(left, waiting).await {
                Ok(Ok(grant)) => match pool.granted(grant) {
                    Some(place) => return Some(self.note(place)),
                    None => continue,
                },
                Ok(Err(Dismissed)) => match self.look() {
                    Picked::Place(place, _) => return Some(self.note(place)),
                    Picked::Nothing => return None,
                    Picked::Busy(other, needed) => (pool, level) = (other, needed),
                },
                Err(_) => return None,
            }
        }
    }

    /// What follows a failed attempt: the next place, or nothing.
    async fn failed(
        &mut self,
        mut held: Held<'a>,
        failure: Failure,
        since: Duration,
        next: Next,
    ) -> Option<Held<'a>> {
        let endpoint = held.endpoint();
        self.tried.add(endpoint);
        let timer = matches!(failure, Failure::Timeout | Failure::Connect);
        let late = timer && is_void(self.world.lateness(since));
        self.note_end(&mut held, Outcome::Failed(failure), late);
        drop(held);
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
            let rule = self.world.books.borrow_mut().retried(self.home, self.asked.pool, self.world.now());
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
            body_replayable: true,
            response_started: false,
            attempts: self.attempts,
            waits: self.waits,
            elapsed: self.world.now() - self.began,
            other_usable: self.order.has_another(&self.tried, endpoint),
            alone: self.order.is_alone(endpoint),
        }
    }
}

/// Serves one tcp session of the exclusive pool until it ends by itself, its endpoint cuts it, or we are told to close it.
pub(crate) async fn session(world: Rc<World>, length: Duration) {
    let snapshot = world.snapshot();
    let Some(pool) = snapshot.pools.get(DB) else { return };
    let order = Order::new(&snapshot.pools, &pool.chain);
    let mut tried = Tried::default();
    pool.live.counters.of(WORKER).started.one();
    loop {
        let draw = Draw { random: world.random(), key: None };
        let sight = Sight::of(&snapshot.pools, pool, &tried);
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
                let entered = Entered::new(&world, endpoint);
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
    fn new(world: &'a World, endpoint: &Endpoint) -> Self {
        let session = Rc::new(Session::default());
        world.sessions.borrow_mut().push((endpoint.live.slot(), Rc::clone(&session)));
        Self { world, session }
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.world.sessions.borrow_mut().retain(|(_, session)| !Rc::ptr_eq(session, &self.session));
    }
}
