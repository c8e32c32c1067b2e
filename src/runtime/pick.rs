//! Which endpoint takes this piece of work: tiers in their order, then failover pools, then what was held back,
//! and at last, where a pool fails open, whoever is left.
//!
//! The common case is one pass over the first tier of the first pool; everything else is asked only when that
//! finds nobody.

mod waiting;

use std::time::Duration;

use super::condition::Level;
use super::counters::WorkerId;
use super::endpoint::{Endpoint, Work};
use super::judge::{self, Attempt, Change, Outcome, Trials};
use super::pool::{Pool, Tried};
use super::queue::Queue;
use super::snapshot::Snapshot;
use super::tier::{Group, Tier};
use crate::policy::balance::peak_ewma::DECAY;
use crate::policy::balance::{Balancer, Candidates, Draw, FULL_SHARE};

/// The pools that take a piece of work, in their order.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    pools: &'a [Pool],
    chain: &'a [usize],
}

/// A place on an endpoint: given back when dropped, to the first that waits for one.
#[derive(Debug)]
pub struct Place<'a> {
    /// The pool, which may be a failover pool of the one that was asked.
    pub pool: &'a Pool,
    /// The endpoint.
    pub endpoint: &'a Endpoint,
    /// Of the breakers of endpoint and pool, when it was picked.
    epochs: (u32, u32),
    work: Work,
    /// Where it is a trial; nothing once its end was told.
    trials: Option<Box<Trials>>,
}

impl<'a> Place<'a> {
    fn new(pool: &'a Pool, endpoint: &'a Endpoint, work: Work, trials: Option<Box<Trials>>) -> Self {
        let epochs = (endpoint.live.judged.epoch(), pool.live.judged.epoch());
        if pool.rising.is_some() && work == Work::Request {
            pool.live.set_out();
        }
        Self { pool, endpoint, epochs, work, trials }
    }

    /// Where another attempt could run beside the one here.
    fn surroundings(&self) -> Option<(&'a Pool, Level, &'a Tier)> {
        let pool = self.pool;
        let level = pool.level().filter(|_| !pool.exclusive)?;
        Some((pool, level, pool.tiers.iter().find(|tier| tier.number == self.endpoint.tier)?))
    }

    /// Notes for balancing by latency that an answer takes longer than this; of the attempt itself it says nothing.
    pub fn took_longer(&self, than: Duration) {
        let (pool, live) = (self.pool, &self.endpoint.live);
        let now = pool.live.clock.now();
        if pool.by_latency && than.as_secs_f32() * 1e6 > live.latency().rtt_us(now, DECAY) {
            live.observe_latency(than, now);
        }
    }

    /// Tells the policies how the attempt at this place ended; `changes` hears what follows, and whether it is of the
    /// pool as a whole.
    #[inline]
    pub fn ended(
        &mut self,
        order: &Order<'a>,
        worker: WorkerId,
        outcome: Outcome,
        random: u64,
        mut changes: impl FnMut(bool, Change),
    ) {
        let (pool, endpoint, epochs) = (self.pool, self.endpoint, self.epochs);
        let mut changed = false;
        Attempt { pool, endpoint, order, epochs, trials: self.trials.take() }.ended(
            worker,
            outcome,
            random,
            |of_pool, change| {
                changed = true;
                changes(of_pool, change);
            },
        );
        // Those who wait for what is no more are to look elsewhere; those who wait for what has come back may have it.
        if changed {
            pool.serve_queue();
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(trials) = self.trials.take() {
            judge::cancel(self.pool, self.endpoint, &trials);
        }
        match self.work {
            Work::Request => {
                let (pool, endpoint) = (self.pool, self.endpoint);
                if pool.rising.is_some() {
                    pool.live.came_back();
                }
                let queue = &pool.live.queue;
                Queue::release(queue, &endpoint.live, pool.ceiling(endpoint, Work::Request));
                // There may be more than the one place by now.
                if pool.has_moving_ceilings() && !queue.is_empty() {
                    pool.serve_queue();
                }
            }
            // Nobody waits for the place of a connection.
            Work::Connection => self.endpoint.live.release(Work::Connection),
        }
    }
}

/// What a pick came to.
#[derive(Debug)]
pub enum Picked<'a, P = Place<'a>> {
    /// Use this one, which was had by overlooking as much as this level does.
    Place(P, Level),
    /// All that could be used in this pool are at their ceiling (or others are in front): wait there, for one that
    /// may be used at this level.
    Busy(&'a Pool, Level),
    /// Nothing is left to try.
    Nothing,
}

/// Where a piece of work belongs.
#[derive(Debug, Clone, Copy)]
pub struct Bound<'a> {
    /// The pool, one of the order.
    pub pool: &'a Pool,
    /// The endpoint.
    pub endpoint: &'a Endpoint,
    /// Whether it goes nowhere else.
    pub strict: bool,
}

struct View<'a> {
    pool: &'a Pool,
    endpoints: &'a [Endpoint],
    tried: &'a Tried,
    work: Work,
    level: Level,
    /// Whether all endpoints have their full share.
    all_full: bool,
    /// The time, for the policy that goes by latency; zero for the others.
    now: Duration,
}

impl Candidates for View<'_> {
    #[inline]
    fn pickable(&self, index: usize) -> bool {
        self.endpoints.get(index).is_some_and(|e| {
            e.live.condition.allows(self.level)
                && e.live.in_flight_of(self.work) < self.pool.ceiling(e, self.work)
                && !self.tried.contains(e)
        })
    }

    #[inline]
    fn in_flight(&self, index: usize) -> u32 {
        self.endpoints.get(index).map_or(u32::MAX, |e| e.live.in_flight_of(self.work))
    }

    fn share(&self, index: usize) -> u32 {
        self.endpoints.get(index).map_or(FULL_SHARE, |e| e.live.share())
    }

    #[inline]
    fn all_full(&self) -> bool {
        self.all_full
    }

    fn rtt_us(&self, index: usize) -> f32 {
        self.endpoints.get(index).map_or(0.0, |e| e.live.latency().rtt_us(self.now, DECAY))
    }
}

/// An endpoint and its pool, for somebody who only wants to know who would be picked.
pub type Seen<'a> = (&'a Pool, &'a Endpoint);

/// How a search goes about the endpoints that it finds.
trait Hand<'a> {
    /// What it comes back with.
    type Got;
    /// Asks a balancer.
    fn choose(&self, balancer: &Balancer, view: &View<'_>, draw: &Draw<'_>) -> Option<usize>;
    /// What is had of an endpoint; nothing where somebody else was faster.
    fn reach(&self, pool: &'a Pool, endpoint: &'a Endpoint, work: Work, level: Level) -> Option<Self::Got>;
}

/// Takes a place.
struct Taking;

impl<'a> Hand<'a> for Taking {
    type Got = Place<'a>;

    #[inline]
    fn choose(&self, balancer: &Balancer, view: &View<'_>, draw: &Draw<'_>) -> Option<usize> {
        balancer.pick(view, draw)
    }

    #[inline]
    fn reach(&self, pool: &'a Pool, endpoint: &'a Endpoint, work: Work, level: Level) -> Option<Place<'a>> {
        if !endpoint.live.try_acquire(work, pool.ceiling(endpoint, work)) {
            return None;
        }
        match pool.trials(endpoint, level) {
            Ok(trials) => Some(Place::new(pool, endpoint, work, trials)),
            Err(()) => {
                endpoint.live.release(work);
                None
            }
        }
    }
}

/// Only looks, as after so many more picks: no turn, place or trial is taken.
struct Looking(usize);

impl<'a> Hand<'a> for Looking {
    type Got = Seen<'a>;

    fn choose(&self, balancer: &Balancer, view: &View<'_>, draw: &Draw<'_>) -> Option<usize> {
        balancer.peek(view, draw, self.0)
    }

    fn reach(&self, pool: &'a Pool, endpoint: &'a Endpoint, _work: Work, _level: Level) -> Option<Seen<'a>> {
        Some((pool, endpoint))
    }
}

/// One search for a place.
struct Search<'s> {
    tried: &'s Tried,
    work: Work,
    draw: Draw<'s>,
    /// Whether gates are respected.
    gated: bool,
    /// Whether a closed gate has hidden something.
    hidden: bool,
}

impl<'a> Order<'a> {
    /// The order of choice over `pools` that these indexes give; the first is the pool that was asked for.
    #[must_use]
    pub fn new(pools: &'a [Pool], chain: &'a [usize]) -> Self {
        Self { pools, chain }
    }

    /// Whether this is an order over the pools of `snapshot`.
    #[must_use]
    pub fn is_of(&self, snapshot: &Snapshot) -> bool {
        std::ptr::eq(self.pools, snapshot.pools.as_slice())
    }

    /// The pool that was asked for.
    #[must_use]
    pub fn home(&self) -> Option<&'a Pool> {
        self.pools.get(*self.chain.first()?)
    }

    /// Whether any of them asks by TLS for the host of a request.
    #[must_use]
    pub fn follows_host(&self) -> bool {
        let mut pools = self.chain.iter().filter_map(|&pool| self.pools.get(pool));
        pools.any(|pool| pool.tls.as_ref().is_some_and(|tls| tls.follows_host()))
    }

    /// Picks an endpoint that is not in `tried` and has room. `draw` is a number that differs from
    /// call to call and the key that the hashing policies go by.
    pub fn pick(&self, tried: &Tried, work: Work, draw: Draw<'_>) -> Picked<'a> {
        self.search(&Taking, tried, work, draw)
    }

    /// Whom [`Order::pick`] would come back with now. Nothing changes by it.
    #[must_use]
    pub fn look(&self, tried: &Tried, work: Work, draw: Draw<'_>) -> Picked<'a, Seen<'a>> {
        self.search(&Looking(tried.len()), tried, work, draw)
    }

    fn search<H: Hand<'a>>(&self, hand: &H, tried: &Tried, work: Work, draw: Draw<'_>) -> Picked<'a, H::Got> {
        let Some(home) = self.home() else { return Picked::Nothing };
        let mut search = Search { tried, work, draw, gated: true, hidden: false };
        // What gates hold back, such as a tier that has just recovered, is better than nothing.
        for gated in [true, false] {
            search.gated = gated;
            for (place, pool) in self.walk().enumerate() {
                if gated && !home.live.admits(place, draw.random) {
                    search.hidden = true;
                } else if let Some(picked) = search.pool(hand, pool) {
                    return picked;
                }
            }
            if !search.hidden {
                break;
            }
        }
        self.fail_open(hand, &mut search).unwrap_or(Picked::Nothing)
    }

    /// Picks the endpoint that the work belongs to: whatever tier or pool is preferred, and while it drains or has no weight,
    /// for `drain_timeout`. Where it has no room, requests are to wait for it.
    pub fn pick_bound(&self, bound: Bound<'a>, work: Work) -> Picked<'a> {
        let Bound { pool, endpoint, .. } = bound;
        let Some(level) = self.level_bound(bound) else { return Picked::Nothing };
        if !endpoint.live.try_acquire(work, pool.ceiling(endpoint, work)) {
            return if work == Work::Request { Picked::Busy(pool, level) } else { Picked::Nothing };
        }
        match pool.trials(endpoint, level) {
            Ok(trials) => Picked::Place(Place::new(pool, endpoint, work, trials), level),
            Err(()) => {
                endpoint.live.release(work);
                Picked::Nothing
            }
        }
    }

    /// What [`Order::pick_bound`] would come to now. Nothing changes by it.
    #[must_use]
    pub fn look_bound(&self, bound: Bound<'a>, work: Work) -> Picked<'a, Seen<'a>> {
        let Bound { pool, endpoint, .. } = bound;
        let has_room = endpoint.live.in_flight_of(work) < pool.ceiling(endpoint, work);
        match (self.level_bound(bound), work) {
            (Some(level), _) if has_room => Picked::Place((pool, endpoint), level),
            (Some(level), Work::Request) => Picked::Busy(pool, level),
            (Some(_), Work::Connection) | (None, _) => Picked::Nothing,
        }
    }

    fn level_bound(&self, Bound { pool, endpoint, .. }: Bound<'a>) -> Option<Level> {
        self.level_of(pool, endpoint).filter(|_| pool.live.condition.reason().is_none())
    }

    /// How much must be overlooked for one endpoint of a pool to be used by what belongs to it; nothing where that does not
    /// help.
    fn level_of(&self, pool: &Pool, endpoint: &Endpoint) -> Option<Level> {
        let takes = |level| endpoint.takes_bound(level, pool.drain_timeout, || pool.live.clock.now());
        if takes(Level::Proven) {
            return Some(Level::Proven);
        }
        let unproven = pool.checked && !pool.exclusive && pool.level() != Some(Level::Proven);
        if unproven && takes(Level::Unproven) {
            return Some(Level::Unproven);
        }
        let opens = !self.is_usable() && !pool.exclusive && self.home().is_some_and(|home| home.fail_open);
        (opens && takes(Level::Open)).then_some(Level::Open)
    }

    /// The pools of the snapshot that this is an order over.
    #[must_use]
    pub fn pools(&self) -> &'a [Pool] {
        self.pools
    }

    /// Whether an endpoint other than this one is usable that is not in `tried`.
    #[must_use]
    pub fn has_another(&self, tried: &Tried, than: &Endpoint) -> bool {
        let other = |e: &Endpoint| e.live.slot() != than.live.slot() && !tried.contains(e);
        let untried =
            |pool: &Pool, level| pool.endpoints.iter().any(|e| e.live.condition.allows(level) && other(e));
        let mut usable = false;
        for pool in self.walk() {
            if let Some(level) = pool.level() {
                usable = true;
                if untried(pool, level) {
                    return true;
                }
            }
        }
        !usable && self.opening().any(|pool| untried(pool, Level::Open))
    }

    /// Picks an endpoint for an attempt beside the one at `place`, which nobody waits for: of the same tier, so that no
    /// backup gets work while that serves, not in `tried`, and only where no other request waits for a place. Never in an
    /// exclusive pool.
    #[must_use]
    pub fn beside(place: &Place<'a>, tried: &Tried, work: Work, draw: Draw<'_>) -> Option<Place<'a>> {
        let (pool, level, tier) = place.surroundings()?;
        if !pool.live.queue.is_empty() {
            return None;
        }
        Search { tried, work, draw, gated: false, hidden: false }.tier(&Taking, (pool, tier), level)
    }

    /// Whether the tier of `place` has another endpoint that is usable and not in `tried`, busy or not.
    #[must_use]
    pub fn has_beside(place: &Place<'a>, tried: &Tried) -> bool {
        let Some((pool, level, tier)) = place.surroundings() else { return false };
        let endpoints = pool.endpoints.get(tier.start()..tier.end()).unwrap_or_default();
        let other = |e: &Endpoint| e.live.slot() != place.endpoint.live.slot() && !tried.contains(e);
        endpoints.iter().any(|e| e.live.condition.allows(level) && other(e))
    }

    /// Usable endpoints of the failover chain of this pool, which is not the one that was asked for where work has come to
    /// it from elsewhere: those it came from do not stand in for it.
    #[must_use]
    pub fn usable_after(&self, pool: &Pool) -> u32 {
        let chain = pool.chain.iter().filter_map(|&index| self.pools.get(index));
        let usable = chain.filter(|other| !std::ptr::eq(*other, pool)).filter_map(|other| {
            let level = other.level()?;
            Some(other.endpoints.iter().filter(|e| e.live.stays_usable(level)).count())
        });
        u32::try_from(usable.sum::<usize>()).unwrap_or(u32::MAX)
    }

    /// Whether this endpoint is usable, and no other one is, tried or not.
    #[must_use]
    pub fn is_alone(&self, endpoint: &Endpoint) -> bool {
        let mut usable = self
            .walk()
            .filter_map(|pool| Some((pool, pool.level()?)))
            .flat_map(|(pool, level)| pool.endpoints.iter().filter(move |e| e.live.condition.allows(level)));
        usable.next().is_some_and(|e| e.live.slot() == endpoint.live.slot()) && usable.next().is_none()
    }

    /// Whether anything is usable, tried or not.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.walk().any(|pool| pool.level().is_some())
    }

    fn walk(&self) -> impl Iterator<Item = &'a Pool> + use<'a> {
        let pools = self.pools;
        self.chain.iter().filter_map(move |&index| pools.get(index))
    }

    /// The pools that may fail open, if the one that was asked for wants that.
    fn opening(&self) -> impl Iterator<Item = &'a Pool> + use<'a> {
        let wanted = self.home().is_some_and(|home| home.fail_open);
        self.walk().filter(move |pool| wanted && !pool.exclusive && pool.live.condition.reason().is_none())
    }

    /// The last resort: whose port accepts is found out by trying.
    #[cold]
    fn fail_open<H: Hand<'a>>(&self, hand: &H, search: &mut Search<'_>) -> Option<Picked<'a, H::Got>> {
        // Where something is usable but has been tried, trying what is known to be bad helps nobody.
        if self.is_usable() {
            return None;
        }
        search.gated = false;
        self.opening().find_map(|pool| search.tiers(hand, pool, Level::Open))
    }

    /// For how long nothing will be let pass, where open breakers are why nothing can be picked.
    #[cold]
    #[must_use]
    pub fn refused_for(&self) -> Option<Duration> {
        self.walk().filter_map(judge::refused_for).min()
    }
}

impl Search<'_> {
    /// A place in one pool, or that one waits for it; nothing when another pool is to be asked.
    fn pool<'a, H: Hand<'a>>(&mut self, hand: &H, pool: &'a Pool) -> Option<Picked<'a, H::Got>> {
        if pool.live.condition.reason().is_some() {
            return None;
        }
        // Newcomers do not overtake those who wait; a request that has tried something has waited already.
        if self.work == Work::Request && self.tried.is_empty() && !pool.live.queue.is_empty() {
            return pool.level().map(|level| Picked::Busy(pool, level));
        }
        if let Some(picked) = self.tiers(hand, pool, Level::Proven) {
            return Some(picked);
        }
        if !pool.checked || pool.level() != Some(Level::Unproven) {
            return None;
        }
        self.tiers(hand, pool, Level::Unproven)
    }

    fn tiers<'a, H: Hand<'a>>(
        &mut self,
        hand: &H,
        pool: &'a Pool,
        level: Level,
    ) -> Option<Picked<'a, H::Got>> {
        for tier in &pool.tiers {
            if self.gated && !tier.live.admits(self.draw.random) {
                self.hidden = true;
                continue;
            }
            let level = if tier.live.panics() && !pool.exclusive { Level::Open } else { level };
            if let Some(place) = self.tier(hand, (pool, tier), level) {
                return Some(Picked::Place(place, level));
            }
            // Busy is not unusable: while a tier has an endpoint left to try, the next tier is not asked.
            let endpoints = pool.endpoints.get(tier.start()..tier.end())?;
            if endpoints.iter().any(|e| e.live.condition.allows(level) && !self.tried.contains(e)) {
                return Some(Picked::Busy(pool, level));
            }
        }
        None
    }

    fn tier<'a, H: Hand<'a>>(
        &self,
        hand: &H,
        (pool, tier): (&'a Pool, &'a Tier),
        level: Level,
    ) -> Option<H::Got> {
        let (first, then) = match tier.groups.as_slice() {
            [only] => (only, None),
            [local, remote] if tier.live.stays_local(self.draw.random) => (local, Some(remote)),
            [local, remote] => (remote, Some(local)),
            _ => return None,
        };
        self.group(hand, (pool, first), level).or_else(|| self.group(hand, (pool, then?), level))
    }

    fn group<'a, H: Hand<'a>>(
        &self,
        hand: &H,
        (pool, group): (&'a Pool, &'a Group),
        level: Level,
    ) -> Option<H::Got> {
        let endpoints = pool.endpoints.get(group.start..group.end)?;
        let now = if pool.by_latency { pool.live.clock.now() } else { Duration::ZERO };
        let (tried, work, all_full) = (self.tried, self.work, !pool.live.is_growing());
        let view = View { pool, endpoints, tried, work, level, all_full, now };
        // Another worker may take the last place between the look and the take: look again, a bounded number of
        // times, since each failure means that somebody else made progress.
        for _ in 0..=endpoints.len() {
            let endpoint = endpoints.get(hand.choose(&group.balancer, &view, &self.draw)?)?;
            if let Some(got) = hand.reach(pool, endpoint, work, level) {
                return Some(got);
            }
        }
        None
    }
}

impl Pool {
    /// What a pick that chose this endpoint takes along; the `Err` is a no, which then stands in the endpoint's or the
    /// pool's condition.
    #[inline]
    fn trials(&self, endpoint: &Endpoint, level: Level) -> Result<Option<Box<Trials>>, ()> {
        if endpoint.live.condition.is_on_trial() || self.live.condition.is_on_trial() {
            judge::ask(self, endpoint, level)
        } else {
            Ok(None)
        }
    }
}
