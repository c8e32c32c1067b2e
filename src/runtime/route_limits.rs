//! The limits of a route, compiled, and their live state: words of rate limits, requests under way by key, counters.
//!
//! Live state is known by the name of its limit and outlives every snapshot. Limits of one name have one.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use ipnet::IpNet;

use super::counters::{Counter, PerWorker, WorkerId};
use super::rate_table::{Key, RateTable, Seed};
use crate::model::host::split_authority;
use crate::model::limit_key::{LimitKey, LimitPart};
use crate::model::request::RequestView;
use crate::model::units::Rate;
use crate::policy::rate_limit::{Decision, LIMITS_MAX, Left, RateLimit};
use crate::route::path::normalize;
use crate::route::{cookie_values, query_values};

/// The limits of a route.
#[derive(Debug, Default)]
pub struct RouteLimits {
    /// How fast requests may come; [`LIMITS_MAX`] at most.
    pub rates: Box<[RateRule]>,
    /// How many may be under way.
    pub concurrency: Box<[ConcurrencyRule]>,
}

/// A rate limit as a route has it.
#[derive(Debug)]
pub struct RateRule {
    /// The decision.
    pub limit: RateLimit,
    /// The rate as it is written, for `RateLimit-Policy`.
    pub rate: Rate,
    /// What becomes of requests that come too fast.
    pub on_limit: OnLimit,
    /// The status of an answer to them.
    pub status: u16,
    /// Which answers tell of it.
    pub tell: Tell,
    /// What happens to it.
    pub live: Arc<RateLive>,
}

/// What becomes of requests that come too fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnLimit {
    /// They are refused.
    Reject,
    /// Their connection is closed without an answer.
    Drop,
    /// They are held, then refused.
    Tarpit {
        /// For how long.
        time: Duration,
        /// How many at once; the others are refused.
        max: u32,
    },
    /// They pass, and are counted.
    Count,
}

/// Which answers have `RateLimit` and `RateLimit-Policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tell {
    /// None.
    Off,
    /// Refusals.
    Rejected,
    /// All.
    All,
}

/// A concurrency limit as a route has it.
#[derive(Debug)]
pub struct ConcurrencyRule {
    /// How many requests of a key.
    pub max: u32,
    /// The status of an answer to those beyond.
    pub status: u16,
    /// What happens to it.
    pub live: Arc<ConcurrencyLive>,
}

/// Live state of a rate limit.
#[derive(Debug)]
pub struct RateLive {
    /// The name of the limit.
    pub name: Box<str>,
    /// What tells requests apart.
    pub key: LimitKey,
    /// What its words mean; every rule that shares them has this rate.
    pub limit: RateLimit,
    /// The words.
    pub table: RateTable,
    seed: Seed,
    held: AtomicU32,
    /// Counters, per worker.
    pub counters: Arc<PerWorker<RateCounters>>,
}

/// Counters of a rate limit; a worker writes only its own block.
#[derive(Debug, Default)]
pub struct RateCounters {
    /// Requests that went on at once.
    pub passed: Counter,
    /// Requests that were held until they were due.
    pub delayed: Counter,
    /// Requests that were refused.
    pub rejected: Counter,
    /// Requests whose connection was closed without an answer.
    pub dropped: Counter,
    /// Requests that were held before they were refused.
    pub tarpitted: Counter,
    /// Requests that were refused at once because as many are held already as may be.
    pub tarpit_full: Counter,
    /// Requests that would have been stopped, and passed because the limit only counts.
    pub counted: Counter,
    /// Requests that have nothing of what the limit tells them apart by.
    pub unkeyed: Counter,
}

/// Live state of a concurrency limit.
#[derive(Debug)]
pub struct ConcurrencyLive {
    /// The name of the limit.
    pub name: Box<str>,
    /// What tells requests apart.
    pub key: LimitKey,
    seed: Seed,
    /// Requests under way, of those keys that have any: as many entries as there are requests at most.
    under_way: DashMap<Key, u32>,
    /// Counters, per worker.
    pub counters: PerWorker<ConcurrencyCounters>,
}

/// Counters of a concurrency limit; a worker writes only its own block.
#[derive(Debug, Default)]
pub struct ConcurrencyCounters {
    /// Requests that went on.
    pub passed: Counter,
    /// Requests that were refused.
    pub rejected: Counter,
    /// Requests that have nothing of what the limit tells them apart by.
    pub unkeyed: Counter,
}

/// The keys of a request for the rate limits of its route, by their places.
#[derive(Debug, Clone, Copy)]
pub struct Keys([Option<Key>; LIMITS_MAX]);

/// What rate limits say to a request.
#[derive(Debug)]
pub enum Verdict<'a> {
    /// It goes on, after so much time.
    Pass(Duration),
    /// It is stopped, and no limit is charged.
    Stop {
        /// By this one.
        rule: &'a RateRule,
        /// When it would pass, from now on.
        retry_after: Duration,
    },
}

impl RouteLimits {
    /// The keys of a request for the rate limits.
    #[must_use]
    pub fn keys<V: RequestView>(&self, view: &V, listener: &str) -> Keys {
        let mut keys = [None; LIMITS_MAX];
        for (key, rule) in keys.iter_mut().zip(&self.rates) {
            *key = key_of(&rule.live.seed, &rule.live.key, view, listener);
        }
        Keys(keys)
    }

    /// Charges a request to every rate limit, unless one of them stops it. What limits that only count say is counted.
    #[must_use]
    pub fn charge(&self, keys: &Keys, now: Duration, worker: WorkerId) -> Verdict<'_> {
        if let [rule] = &*self.rates {
            return match keys.0[0] {
                Some(key) => self.charge_all([(rule, key)].into_iter(), now, worker),
                None => {
                    rule.live.counters.of(worker).unkeyed.one();
                    Verdict::Pass(Duration::ZERO)
                }
            };
        }
        for (rule, key) in self.rates.iter().zip(&keys.0) {
            match key {
                None => rule.live.counters.of(worker).unkeyed.one(),
                Some(key) => {
                    if let Some(stop) = rule.stops(*key, now) {
                        return stop;
                    }
                }
            }
        }
        let keyed = self.rates.iter().zip(keys.0).filter_map(|(rule, key)| Some((rule, key?)));
        self.charge_all(keyed, now, worker)
    }

    /// Takes back what a request was charged.
    pub fn refund(&self, keys: &Keys) {
        let charged = self.rates.iter().zip(keys.0).filter(|(rule, _)| rule.on_limit != OnLimit::Count);
        for (rule, key) in charged.filter_map(|(rule, key)| Some((rule, key?))) {
            rule.live.table.refund(&rule.limit, key);
        }
    }

    /// Another request may have come first since they were asked: then what has been charged is taken back.
    fn charge_all<'a>(
        &self,
        keyed: impl Iterator<Item = (&'a RateRule, Key)> + Clone,
        now: Duration,
        worker: WorkerId,
    ) -> Verdict<'a> {
        let mut longest = Duration::ZERO;
        for (place, (rule, key)) in keyed.clone().enumerate() {
            match rule.live.table.charge(&rule.limit, key, now) {
                Decision::Pass { delay, .. } if rule.on_limit == OnLimit::Count => {
                    let counters = rule.live.counters.of(worker);
                    if delay.is_zero() { &counters.passed } else { &counters.delayed }.one();
                }
                Decision::Pass { delay, .. } => {
                    let counters = rule.live.counters.of(worker);
                    if delay.is_zero() { &counters.passed } else { &counters.delayed }.one();
                    longest = longest.max(delay);
                }
                Decision::Reject { .. } if rule.on_limit == OnLimit::Count => {
                    rule.live.counters.of(worker).counted.one();
                }
                Decision::Reject { retry_after } => {
                    for (before, key) in keyed.take(place) {
                        before.live.table.refund(&before.limit, key);
                    }
                    return Verdict::Stop { rule, retry_after };
                }
            }
        }
        Verdict::Pass(longest)
    }

    /// What would come of a request, and what is left to its kind, by rate limit; nothing is charged or counted. Nothing
    /// for limits that do not count it.
    #[must_use]
    pub fn look(&self, keys: &Keys, now: Duration) -> Vec<Option<(Decision, Left)>> {
        let of = |(rule, key): (&RateRule, Option<Key>)| {
            let (table, limit, key) = (&rule.live.table, &rule.limit, key?);
            Some((table.look(limit, key, now), table.left(limit, key, now)))
        };
        self.rates.iter().zip(keys.0).map(of).collect()
    }

    /// What is left to each key.
    #[must_use]
    pub fn left(&self, keys: &Keys, now: Duration) -> Vec<Option<Left>> {
        let rules = self.rates.iter().zip(keys.0);
        rules.map(|(rule, key)| Some(rule.live.table.left(&rule.limit, key?, now))).collect()
    }

    /// `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10) of the limits that are to be told to
    /// this request's client; nothing where none is. A quota is the rate as it is written, `r` what would pass now, `t` the
    /// time until all of the burst is there again, or, with nothing left, until the next one would pass.
    #[must_use]
    pub fn told(&self, keys: &Keys, now: Duration, rejected: bool) -> Option<[String; 2]> {
        let (mut policies, mut limits) = (String::new(), String::new());
        for (rule, key) in self.rates.iter().zip(keys.0) {
            let Some(key) = key else { continue };
            if rule.tell == Tell::Off || (rule.tell == Tell::Rejected && !rejected) {
                continue;
            }
            let (name, Rate { count, per }) = (&rule.live.name, rule.rate);
            let left = rule.live.table.left(&rule.limit, key, now);
            let until = match rule.live.table.look(&rule.limit, key, now) {
                Decision::Reject { retry_after } => seconds(retry_after),
                Decision::Pass { .. } => seconds(left.full_in),
            };
            let comma = if policies.is_empty() { "" } else { ", " };
            policies.push_str(&format!("{comma}\"{name}\";q={count};w={}", per.as_secs()));
            limits.push_str(&format!("{comma}\"{name}\";r={};t={until}", left.requests));
        }
        (!policies.is_empty()).then_some([policies, limits])
    }

    /// Takes a place under every concurrency limit for a request, or says which has none left.
    ///
    /// # Errors
    /// The first limit that has as many as it may.
    pub fn enter<V: RequestView>(
        &self,
        view: &V,
        listener: &str,
        worker: WorkerId,
    ) -> Result<Vec<UnderWay>, &ConcurrencyRule> {
        let mut places = Vec::with_capacity(self.concurrency.len());
        for rule in &self.concurrency {
            let counters = rule.live.counters.of(worker);
            let Some(key) = key_of(&rule.live.seed, &rule.live.key, view, listener) else {
                counters.unkeyed.one();
                continue;
            };
            let Some(place) = rule.live.try_enter(key, rule.max) else {
                counters.rejected.one();
                return Err(rule);
            };
            counters.passed.one();
            places.push(place);
        }
        Ok(places)
    }

    /// How many requests like this one are under way, by concurrency limit; nothing for those that do not count it.
    #[must_use]
    pub fn under_way<V: RequestView>(&self, view: &V, listener: &str) -> Vec<Option<u32>> {
        let count = |rule: &ConcurrencyRule| {
            let key = key_of(&rule.live.seed, &rule.live.key, view, listener)?;
            Some(rule.live.under_way.get(&key).map_or(0, |count| *count))
        };
        self.concurrency.iter().map(count).collect()
    }
}

impl RateRule {
    /// What it would say to a request of this key, where that is to stop.
    fn stops(&self, key: Key, now: Duration) -> Option<Verdict<'_>> {
        if self.on_limit == OnLimit::Count {
            return None;
        }
        match self.live.table.look(&self.limit, key, now) {
            Decision::Reject { retry_after } => Some(Verdict::Stop { rule: self, retry_after }),
            Decision::Pass { .. } => None,
        }
    }
}

impl RateLive {
    /// Live state without history.
    #[must_use]
    pub fn new(name: &str, key: LimitKey, seed: Seed, limit: RateLimit, size: usize, workers: usize) -> Self {
        Self {
            name: name.into(),
            key,
            limit,
            table: RateTable::new(size),
            seed,
            held: AtomicU32::new(0),
            counters: Arc::new(PerWorker::new(workers)),
        }
    }

    /// The live state of the limit of this name in another configuration: itself, where it counts alike; where the key is
    /// another, only the counters stay.
    #[must_use]
    pub fn carried(
        self: &Arc<Self>,
        key: &LimitKey,
        limit: RateLimit,
        size: usize,
        now: Duration,
    ) -> Arc<Self> {
        let same_key = self.key == *key;
        if same_key && self.limit.has_rate_of(&limit) && self.table.size() == size {
            return Arc::clone(self);
        }
        let table = match same_key {
            true => self.table.remade(size, &self.limit, &limit, now),
            false => RateTable::new(size),
        };
        Arc::new(Self {
            name: self.name.clone(),
            key: key.clone(),
            limit,
            table,
            seed: self.seed.clone(),
            held: AtomicU32::new(0),
            counters: Arc::clone(&self.counters),
        })
    }

    /// What its keys are made by.
    #[must_use]
    pub const fn seed(&self) -> &Seed {
        &self.seed
    }

    /// Takes one of so many places in which requests are held before they are refused.
    #[must_use]
    pub fn try_hold(&self, max: u32) -> Option<Held<'_>> {
        let more = |held| (held < max).then_some(held + 1);
        self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Held(self))
    }

    /// Requests that are held now before they are refused.
    #[must_use]
    pub fn held(&self) -> u32 {
        self.held.load(Ordering::Relaxed)
    }
}

/// A request that is held before it is refused; its place is given back when dropped.
#[derive(Debug)]
pub struct Held<'a>(&'a RateLive);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ConcurrencyLive {
    /// Live state without history.
    #[must_use]
    pub fn new(name: &str, key: LimitKey, workers: usize) -> Self {
        Self {
            name: name.into(),
            key,
            seed: Seed::default(),
            under_way: DashMap::new(),
            counters: PerWorker::new(workers),
        }
    }

    /// Takes a place of a key, or nothing.
    fn try_enter(self: &Arc<Self>, key: Key, max: u32) -> Option<UnderWay> {
        let mut count = self.under_way.entry(key).or_insert(0);
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(UnderWay { live: Arc::clone(self), key })
    }

    /// Keys that have a request under way.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.under_way.len()
    }
}

/// A request's place under a concurrency limit, given back when dropped.
#[derive(Debug)]
pub struct UnderWay {
    live: Arc<ConcurrencyLive>,
    key: Key,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.live.under_way.remove_if_mut(&self.key, |_, count| {
            *count = count.saturating_sub(1);
            *count == 0
        });
    }
}

/// Whole seconds, rounded up: whoever waits so long is not early.
#[must_use]
pub const fn seconds(time: Duration) -> u64 {
    time.as_secs() + (time.subsec_nanos() > 0) as u64
}

/// The key of a request; nothing where it has nothing of what the key is made of.
fn key_of<V: RequestView>(seed: &Seed, key: &LimitKey, view: &V, listener: &str) -> Option<Key> {
    let mut hasher = seed.begin();
    each_part(key, view, listener, |_, bytes| hasher.part(bytes)).then(|| hasher.key())
}

/// The parts of a request that tell it apart, for people; nothing where it has none of them.
#[must_use]
pub fn describe<V: RequestView>(key: &LimitKey, view: &V, listener: &str) -> Option<String> {
    let mut parts = Vec::new();
    let any = each_part(key, view, listener, |part, bytes| {
        parts.push(match part {
            LimitPart::Source => format!("source {}", network(view.source(), key)),
            LimitPart::Global => "everything".to_owned(),
            part => format!("{part} {:?}", String::from_utf8_lossy(bytes)),
        });
    });
    any.then(|| parts.join(" + "))
}

/// Tells every part of a request that a key is made of; whether the request has any of them.
fn each_part<V: RequestView>(
    key: &LimitKey,
    view: &V,
    listener: &str,
    mut told: impl FnMut(&LimitPart, &[u8]),
) -> bool {
    let mut any = false;
    for part in &key.parts {
        let bytes: &[u8] = match part {
            LimitPart::Source => {
                any = true;
                match network(view.source(), key).addr() {
                    IpAddr::V4(v4) => told(part, &v4.octets()),
                    IpAddr::V6(v6) => told(part, &v6.octets()),
                }
                continue;
            }
            LimitPart::Host => {
                let host = split_authority(view.authority()).map_or(&[][..], |(host, _)| host);
                any |= !host.is_empty();
                told(part, &host.to_ascii_lowercase());
                continue;
            }
            LimitPart::Header(name) => view.field(name.as_str()).unwrap_or_default(),
            LimitPart::Cookie(name) => cookie_values(view, name).next().unwrap_or_default(),
            LimitPart::Query(name) => query_values(view.query(), name).next().unwrap_or_default(),
            LimitPart::Path => {
                any = true;
                // As routes compare it: another spelling of it is no other key.
                told(part, &normalize(view.path()));
                continue;
            }
            LimitPart::Listener => listener.as_bytes(),
            LimitPart::Global => b"*",
        };
        any |= !bytes.is_empty();
        told(part, bytes);
    }
    any
}

/// The network of a client, as far as its bits tell clients apart.
fn network(source: IpAddr, key: &LimitKey) -> IpNet {
    let source = source.to_canonical();
    let prefix = if source.is_ipv4() { key.prefix_v4 } else { key.prefix_v6 };
    IpNet::new(source, prefix).map_or_else(|_| source.into(), |network| network.trunc())
}
