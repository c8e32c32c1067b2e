//! The rules that hold after every step, kept apart from the code that has to hold them: what a pick may be, which caps
//! bind a judgement, what a budget pays for, and how soon probes must have noticed what a machine has become.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use plimsoll::config::Config;
use plimsoll::policy::breaker;
use plimsoll::policy::health::bounds::Bounds;
use plimsoll::policy::health::{Settings, Verdict};
use plimsoll::policy::outlier::Because;
use plimsoll::runtime::condition::Impediment;
use plimsoll::runtime::endpoint::Endpoint;
use plimsoll::runtime::judge::Change;
use plimsoll::runtime::pick::Picked;
use plimsoll::runtime::pool::{Pool, Tried};
use plimsoll::runtime::snapshot::Snapshot;
use plimsoll::runtime::tier::OPEN;

use crate::scenario::{CONNECT, PROBE_ANSWER_MS, RESPONSE_HEADER};
use crate::world::{World, number};

/// What is left of a rule that was kept.
pub(crate) type Rule = Result<(), String>;

/// Retries and requests of the budget's window; the second more is for requests that were booked a tick late.
const BUDGET_SLOTS: u64 = 10;

/// Steps at one moment, above all that a scenario can bring at once.
const AT_ONCE: u32 = 2000;

/// The longest attempt: what a failure that is judged now may have been caused by.
const ATTEMPT: Duration = CONNECT.saturating_add(RESPONSE_HEADER).saturating_add(Duration::from_millis(10));

/// Whether an endpoint is usable, by the words of the design: probe state up (or unknown where none is proven, never in an
/// exclusive pool), ready, not ejected, breaker not open.
pub(crate) fn is_usable(pool: &Pool, endpoint: &Endpoint) -> bool {
    !pool.live.condition.has(Impediment::Broken) && would_be_usable(pool, endpoint)
}

/// The same, whatever the breaker of its pool says.
fn would_be_usable(pool: &Pool, endpoint: &Endpoint) -> bool {
    let has = |impediment| endpoint.live.condition.has(impediment);
    if !is_ready(endpoint) || has(Impediment::Down) || has(Impediment::Ejected) {
        return false;
    }
    let proven = |e: &Endpoint| {
        let has = |impediment| e.live.condition.has(impediment);
        is_ready(e) && !has(Impediment::Down) && !has(Impediment::Ejected) && !has(Impediment::Unproven)
    };
    !has(Impediment::Unproven) || (!pool.exclusive && !pool.endpoints.iter().any(proven))
}

/// Whether neither the operator nor its breaker nor another leader forbids it.
fn is_ready(endpoint: &Endpoint) -> bool {
    let never = [
        Impediment::Broken,
        Impediment::Drained,
        Impediment::Maintenance,
        Impediment::Standby,
        Impediment::Weightless,
    ];
    !never.into_iter().any(|impediment| endpoint.live.condition.has(impediment))
}

/// The usable endpoints of the pools at these places, in turn.
fn usable<'a>(pools: &'a [Pool], chain: &'a [usize]) -> impl Iterator<Item = (&'a Pool, &'a Endpoint)> {
    let pools = chain.iter().filter_map(|&at| pools.get(at));
    pools
        .flat_map(|pool| pool.endpoints.iter().map(move |e| (pool, e)))
        .filter(|(pool, e)| is_usable(pool, e))
}

/// What a request sees just before it picks.
pub(crate) struct Sight<'a> {
    pools: &'a [Pool],
    /// The pools that take the request, in their order.
    chain: &'a [usize],
    tried: Vec<u32>,
    /// Slots of the endpoints that are usable, in the order of the chain.
    usable: Vec<u32>,
}

impl<'a> Sight<'a> {
    /// Looks.
    pub(crate) fn of(pools: &'a [Pool], chain: &'a [usize], tried: &Tried) -> Self {
        let all = || chain.iter().filter_map(|&at| pools.get(at)).flat_map(|p| &p.endpoints);
        Self {
            pools,
            chain,
            tried: all().filter(|e| tried.contains(e)).map(|e| e.live.slot()).collect(),
            usable: usable(pools, chain).map(|(_, e)| e.live.slot()).collect(),
        }
    }

    /// Whether a pick was right.
    pub(crate) fn allows(&self, picked: &Picked<'_>) -> Rule {
        match picked {
            Picked::Place(place, _) => self.allows_place(place.pool, place.endpoint),
            Picked::Busy(..) => Ok(()),
            // A pick that asks for a trial and does not get it leaves its mark: who is usable afterwards counts.
            Picked::Nothing => match self.untried().next() {
                Some((_, e)) => {
                    Err(format!("nothing was picked, but {} is usable and was not tried", e.name))
                }
                None => Ok(()),
            },
        }
    }

    fn home(&self) -> Option<&'a Pool> {
        self.pools.get(*self.chain.first()?)
    }

    /// Endpoints that are usable now and have not been tried.
    fn untried(&self) -> impl Iterator<Item = (&'a Pool, &'a Endpoint)> {
        usable(self.pools, self.chain).filter(|(_, e)| e.weight > 0 && !self.tried.contains(&e.live.slot()))
    }

    fn allows_place(&self, pool: &Pool, endpoint: &Endpoint) -> Rule {
        let slot = endpoint.live.slot();
        if self.usable.contains(&slot) {
            return self.in_order(pool, endpoint);
        }
        let panics =
            |at: usize| pool.tiers.iter().any(|t| (t.start()..t.end()).contains(&at) && t.live.panics());
        let at = pool.endpoints.iter().position(|e| e.live.slot() == slot);
        let broken = pool.live.condition.has(Impediment::Broken);
        let may_open = is_ready(endpoint) && !broken && !pool.exclusive;
        if may_open && at.is_some_and(panics) {
            return Ok(());
        }
        // A breaker that has no trial left says so only when it is asked: who is usable before and after counts.
        let mut still = usable(self.pools, self.chain).filter(|(_, e)| self.usable.contains(&e.live.slot()));
        if let Some((_, other)) = still.next() {
            return Err(format!(
                "{} was picked, which is not usable, while {} is",
                endpoint.name, other.name
            ));
        }
        if may_open && self.home().is_some_and(|home| home.fail_open) {
            return Ok(());
        }
        Err(format!("{} was picked, which nothing allows", endpoint.name))
    }

    /// No pool or tier is passed over that has something left to try and whose gate is open.
    fn in_order(&self, pool: &Pool, endpoint: &Endpoint) -> Rule {
        let place = self.chain.iter().position(|&at| self.pools.get(at).is_some_and(|p| p.name == pool.name));
        let tier_of = |pool: &Pool, e: &Endpoint| pool.tiers.iter().position(|t| t.number == e.tier);
        let picked = (place, tier_of(pool, endpoint));
        for (other_pool, other) in self.untried() {
            let at = self
                .chain
                .iter()
                .position(|&at| self.pools.get(at).is_some_and(|p| p.name == other_pool.name));
            let tier = tier_of(other_pool, other);
            let open = at.is_some_and(|at| self.home().is_some_and(|home| home.live.gate(at) == OPEN))
                && tier.and_then(|t| other_pool.tiers.get(t)).is_some_and(|t| t.live.gate() == OPEN);
            if open && (at, tier) < picked {
                return Err(format!("{} was picked before {}, whose turn it was", endpoint.name, other.name));
            }
        }
        Ok(())
    }
}

/// What must be noticed about one endpoint, and when.
#[derive(Debug)]
struct Watched {
    settings: Settings,
    bounds: Bounds,
}

/// How soon the leader of the exclusive pool must be followed.
#[derive(Debug)]
struct Leading {
    settings: Settings,
    /// Until a promotion is seen; longer where nothing but the loss of the old leader tells who is newer.
    bound: Duration,
}

impl Leading {
    fn of(config: &Config) -> Option<Self> {
        let pool = config.pools.iter().find(|pool| pool.exclusive.is_some())?;
        let (exclusive, health) = (pool.exclusive.as_ref()?, pool.health.as_ref()?);
        let bounds = Bounds::new(&health.settings, Duration::from_millis(PROBE_ANSWER_MS));
        let lost =
            if exclusive.rank.is_some() { Duration::ZERO } else { bounds.silent + exclusive.stale_for };
        Some(Self { settings: health.settings.clone(), bound: bounds.promotion + lost })
    }
}

/// What is remembered to hold the world to its rules.
#[derive(Debug)]
pub(crate) struct Books {
    /// Places that clients hold, by slot.
    held: BTreeMap<u32, u32>,
    /// Slots whose ejection, if they are under one, is a judgement.
    judgement: BTreeSet<u32>,
    /// When a node was last taken in, and when any was left out.
    joined: Vec<Duration>,
    left: Duration,
    /// When requests came and retries were drawn, by pool.
    requests: Vec<VecDeque<Duration>>,
    retries: Vec<VecDeque<Duration>>,
    /// Nodes that are probed.
    watched: Vec<Option<Watched>>,
    leading: Option<Leading>,
    /// Whether a node was down at the last step.
    down: Vec<bool>,
    /// When results were last not believed because of ourselves.
    suspended: Duration,
    /// The moment of the last step, and steps at that moment.
    at: Duration,
    at_once: u32,
    /// A sum over all steps, to tell two runs apart.
    pub(crate) sum: u64,
}

impl Books {
    /// Nothing has happened yet.
    pub(crate) fn new(config: &Config, snapshot: &Snapshot, nodes: usize) -> Self {
        let mut watched: Vec<Option<Watched>> = (0..nodes).map(|_| None).collect();
        for pool in &config.pools {
            let Some(health) = &pool.health else { continue };
            let bounds = Bounds::new(&health.settings, Duration::from_millis(PROBE_ANSWER_MS));
            let endpoints = snapshot.pools.iter().filter(|p| p.name == pool.name && !p.exclusive);
            for endpoint in endpoints.flat_map(|p| &p.endpoints) {
                watched[number(endpoint)] = Some(Watched { settings: health.settings.clone(), bounds });
            }
        }
        let none = || snapshot.pools.iter().map(|_| VecDeque::new()).collect();
        Self {
            held: BTreeMap::new(),
            judgement: BTreeSet::new(),
            joined: vec![Duration::ZERO; nodes],
            left: Duration::ZERO,
            requests: none(),
            retries: none(),
            watched,
            leading: Leading::of(config),
            down: vec![false; nodes],
            suspended: Duration::ZERO,
            at: Duration::ZERO,
            at_once: 0,
            sum: 0,
        }
    }

    /// A client has a place.
    pub(crate) fn hold(&mut self, slot: u32) {
        *self.held.entry(slot).or_default() += 1;
    }

    /// A client is about to give its place back.
    pub(crate) fn let_go(&mut self, slot: u32) {
        *self.held.entry(slot).or_default() -= 1;
    }

    /// A reload has taken a node in again: nothing is known of it.
    pub(crate) fn joined(&mut self, node: usize, now: Duration) {
        self.joined[node] = now;
        self.down[node] = false;
    }

    /// A reload has left a node out: who led may lead no more.
    pub(crate) fn left(&mut self, now: Duration) {
        self.left = now;
    }

    /// When a node was last taken in.
    pub(crate) fn joined_at(&self, node: usize) -> Duration {
        self.joined[node]
    }

    /// When results were last not believed because of ourselves.
    pub(crate) fn suspended(&self) -> Duration {
        self.suspended
    }

    /// Whether no client has a place.
    pub(crate) fn nothing_held(&self) -> bool {
        self.held.values().all(|held| *held == 0)
    }

    /// A request came to a pool.
    pub(crate) fn came(&mut self, pool: usize, now: Duration) {
        self.requests[pool].push_back(now);
    }

    /// A retry was paid for: tower's arithmetic over what has happened, from the beginning each time.
    pub(crate) fn retried(&mut self, home: &Pool, pool: usize, now: Duration) -> Rule {
        let Some(settings) = home.budget else { return Ok(()) };
        let first = now.as_secs().saturating_sub(BUDGET_SLOTS);
        self.retries[pool].push_back(now);
        self.retries[pool].retain(|at| at.as_secs() >= first);
        self.requests[pool].retain(|at| at.as_secs() + 1 >= first);
        let (retries, requests) = (self.retries[pool].len(), self.requests[pool].len());
        let reserve = settings.minimum_per_second as usize * 10;
        let most = reserve as f64 + requests as f64 * settings.ratio;
        if retries as f64 > most {
            return Err(format!(
                "{retries} retries of {requests} requests in 10 s, where {most} are paid for"
            ));
        }
        Ok(())
    }

    /// Holds a judgement to its caps.
    pub(crate) fn judged(
        &mut self,
        world: &World,
        pools: &[Pool],
        pool: &Pool,
        endpoint: Option<&Endpoint>,
        change: &Change,
    ) -> Rule {
        let Some(endpoint) = endpoint else { return Ok(()) };
        let (node, slot) = (number(endpoint), endpoint.live.slot());
        // The breaker of the pool opens again by itself.
        let beside = |e: &&Endpoint| number(e) != node && would_be_usable(pool, e);
        let is_last = !pool.endpoints.iter().any(|e| beside(&e))
            && usable(pools, &pool.chain).all(|(_, e)| number(e) == node);
        let recent = ATTEMPT + world.lateness(world.now().saturating_sub(ATTEMPT * 4));
        let was_bad = || {
            let failed = world.nodes[node].failed_at();
            failed.is_some_and(|at| world.now() - at <= recent)
        };
        match change {
            Change::Ejected(ejection) => {
                if ejection.judgement {
                    self.judgement.insert(slot);
                } else {
                    self.judgement.remove(&slot);
                }
                if is_last {
                    return Err(format!("n{node} was ejected, and nothing else is usable"));
                }
                if !matches!(ejection.because, Because::Latency { .. }) && !was_bad() {
                    return Err(format!("n{node} was ejected, and has been well"));
                }
                if ejection.judgement { self.within_caps(pool, node) } else { Ok(()) }
            }
            Change::Breaker(breaker::Change::Opened { .. }) if is_last => {
                Err(format!("the breaker of n{node} opened, and nothing else is usable"))
            }
            Change::Breaker(breaker::Change::Opened { .. }) if !was_bad() => {
                Err(format!("the breaker of n{node} opened, and it has been well"))
            }
            _ => Ok(()),
        }
    }

    fn within_caps(&self, pool: &Pool, node: usize) -> Rule {
        let Some(settings) = &pool.outlier else { return Ok(()) };
        // A request may hold an older pool; what has been removed since counts for nothing.
        let all = pool.endpoints.iter().filter(|e| !e.live.is_retired()).count();
        let all = u32::try_from(all).unwrap_or(u32::MAX);
        let out = pool
            .endpoints
            .iter()
            .filter(|e| self.judgement.contains(&e.live.slot()) && e.live.judged.ejection().is_some());
        // A failover pool stands in for the only one; that it was usable is `is_last`'s to hold.
        let stands_in = pool.chain.len() > 1;
        let most = settings.max_ejected.at_most(all).max(u32::from(stands_in)) as usize;
        let out = out.count();
        if out > most {
            return Err(format!("{out} endpoints are ejected by judgement, and {most} may be"));
        }
        let left = pool.endpoints.iter().filter(|e| number(e) != node && would_be_usable(pool, e)).count();
        let least = pool.failover.min_available.at_least(all) as usize;
        let least = if stands_in && least == 1 { 0 } else { least };
        if left < least {
            return Err(format!("{left} endpoints are left by a judgement, and {least} must be"));
        }
        Ok(())
    }

    /// Holds the world to the rules of every step.
    pub(crate) fn step(&mut self, world: &World) -> Rule {
        let now = world.now();
        self.at_once = if now == self.at { self.at_once + 1 } else { 0 };
        self.at = now;
        if self.at_once > AT_ONCE {
            return Err(format!("time stands still: {AT_ONCE} steps at {now:?}"));
        }
        self.sum = self.sum.wrapping_mul(31).wrapping_add(u64::try_from(now.as_micros()).unwrap_or(0));
        if world.keeper.borrow().is_suspended(now) {
            self.suspended = now;
        }
        for pool in &world.snapshot().pools {
            if pool.live.queue.len() > pool.queue_capacity as usize {
                return Err(format!("{} wait in {}", pool.live.queue.len(), pool.name));
            }
            let leads = |e: &&Endpoint| !e.live.condition.has(Impediment::Standby);
            if pool.exclusive && pool.endpoints.iter().filter(leads).count() > 1 {
                return Err(format!("{} has two endpoints that may be picked", pool.name));
            }
            if pool.exclusive {
                self.followed(world, pool, now)?;
            }
            for endpoint in &pool.endpoints {
                self.counts(endpoint, pool)?;
                self.agrees(endpoint)?;
                self.noticed(world, endpoint, now)?;
            }
        }
        Ok(())
    }

    /// The one that leads by its own word, and is newer than all that ever did, is used within the printed bound.
    fn followed(&self, world: &World, pool: &Pool, now: Duration) -> Rule {
        let Some(Leading { settings, bound }) = &self.leading else { return Ok(()) };
        let node = |e: &Endpoint| &world.nodes[number(e)];
        let Some(newest) = pool.endpoints.iter().max_by_key(|e| node(e).claims()) else { return Ok(()) };
        let only =
            pool.endpoints.iter().all(|e| (node(e).verdict() == Verdict::Good) == std::ptr::eq(e, newest));
        let changed = |e: &Endpoint| node(e).verdict_since().max(self.joined[number(e)]);
        let changed = pool.endpoints.iter().map(changed).max().unwrap_or_default().max(self.left);
        let void_until = world.void_until().max(self.suspended);
        // The first election waits for everybody, and probes that end at their time limit make a result later.
        let late = settings.timeout * 2;
        let swallowed =
            pool.endpoints.iter().filter_map(|e| node(e).swallowed_at()).any(|at| at + late >= changed);
        let more = if swallowed || void_until + late >= changed { late } else { Duration::ZERO };
        if !only || now - changed.max(void_until) <= *bound + more {
            return Ok(());
        }
        if newest.live.condition.has(Impediment::Standby) {
            return Err(format!(
                "{} leads since {changed:?}, and is not used after {:?}",
                newest.name,
                *bound + more
            ));
        }
        Ok(())
    }

    fn counts(&self, endpoint: &Endpoint, pool: &Pool) -> Rule {
        let (count, held) =
            (endpoint.live.in_flight(), self.held.get(&endpoint.live.slot()).copied().unwrap_or(0));
        // What was granted and not yet taken over is the queue's.
        if count < held {
            return Err(format!("{} counts {count} in flight, and clients hold {held}", endpoint.name));
        }
        let limit = if pool.exclusive { endpoint.limits.connections } else { endpoint.limits.requests };
        if count > limit {
            return Err(format!("{} has {count} in flight, and may have {limit}", endpoint.name));
        }
        Ok(())
    }

    /// The word that picks read says what the policies say.
    fn agrees(&self, endpoint: &Endpoint) -> Rule {
        let condition = &endpoint.live.condition;
        if condition.has(Impediment::Ejected) && endpoint.live.judged.ejection().is_none() {
            return Err(format!("{} counts as ejected, and is not", endpoint.name));
        }
        let open = matches!(endpoint.live.judged.gate(), Some(breaker::Gate::Open { .. }));
        if open && !condition.has(Impediment::Broken) {
            return Err(format!("{} may be picked, and its breaker is open", endpoint.name));
        }
        Ok(())
    }

    /// Probes have noticed, within the printed bound, what a machine has become; and nothing that it is not.
    fn noticed(&mut self, world: &World, endpoint: &Endpoint, now: Duration) -> Rule {
        let at = number(endpoint);
        let Some(Watched { settings, bounds }) = &self.watched[at] else { return Ok(()) };
        let node = &world.nodes[at];
        let changed = node.verdict_since().max(self.joined[at]);
        let good = node.verdict() == Verdict::Good;
        let down = endpoint.live.condition.has(Impediment::Down);
        let fell = down && !std::mem::replace(&mut self.down[at], down);
        self.down[at] = down;
        if fell && good && now - changed > settings.timeout {
            return Err(format!("{} is down, and has answered well since {changed:?}", endpoint.name));
        }
        let void_until = world.void_until().max(self.suspended);
        let since = changed.max(void_until);
        // Probes that were under way when we came to are void, and may end later.
        let void = if void_until + settings.timeout >= changed { settings.timeout } else { Duration::ZERO };
        let swallowed = node.swallowed_at().is_some_and(|at| at + settings.timeout >= since);
        let held = settings.damping.as_ref().map_or(Duration::ZERO, |damping| damping.max_time);
        let bound = match (good, swallowed) {
            (true, _) => bounds.recovery + held,
            (false, true) => bounds.silent.max(bounds.refused),
            (false, false) => bounds.refused,
        };
        if now - since <= bound + void {
            return Ok(());
        }
        let is = if down { "down" } else { "up" };
        if down == good || endpoint.live.condition.has(Impediment::Unproven) {
            return Err(format!(
                "{} still is {is} or unproven, {:?} after it changed; the bound is {:?}",
                endpoint.name,
                now - since,
                bound + void
            ));
        }
        Ok(())
    }
}
