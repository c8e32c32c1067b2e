//! A pool of the configuration to one of the snapshot: endpoints in the order of their tiers and zones, live state by
//! identity.

use std::collections::HashMap;
use std::sync::Arc;

use super::{CompileError, Machine};
use crate::config;
use crate::model::address::DnsName;
use crate::model::name::{EndpointName, PoolName};
use crate::model::protocol::Protocol;
use crate::policy::balance::{self, Balancer, Kind, Member};
use crate::policy::{budget, retry};
use crate::runtime::clock::Clock;
use crate::runtime::condition::Impediment;
use crate::runtime::endpoint::{Ceilings, Endpoint, EndpointLive, Slots};
use crate::runtime::limits::EndpointLimits;
use crate::runtime::pool::{self, HashKey, Pool, PoolLive};
use crate::runtime::snapshot::{Edition, Snapshot};
use crate::runtime::sticky::Secret;
use crate::runtime::tier::{Group, Tier};
use crate::runtime::tls::client::{self as tls, Clients, EndpointTls, PoolTls};
use crate::runtime::tls::files::TlsError;

/// Weights that were changed at run time, which a reload keeps.
pub type Weights = HashMap<(PoolName, EndpointName), u16>;

/// What is offered by ALPN for requests (RFC 7301): first what is preferred.
const fn alpn(protocol: Protocol) -> &'static [&'static [u8]] {
    match protocol {
        Protocol::Http1 => &[b"http/1.1"],
        Protocol::Http2 => &[b"h2"],
        Protocol::Auto => &[b"h2", b"http/1.1"],
    }
}

/// What every pool is compiled with.
pub(super) struct Pools<'a> {
    pub(super) config: &'a config::Config,
    pub(super) previous: Option<&'a Snapshot>,
    pub(super) slots: &'a Arc<Slots>,
    pub(super) clock: Clock,
    pub(super) machine: &'a Machine,
    pub(super) weights: &'a Weights,
    pub(super) edition: &'a Arc<Edition>,
    pub(super) secret: Secret,
}

impl Pools<'_> {
    /// All pools, in the order of the file, with their chains.
    pub(super) fn compile(&self, index: &HashMap<&PoolName, usize>) -> Result<Vec<Pool>, CompileError> {
        let mut clients = Clients::default();
        let mut pools = Vec::with_capacity(self.config.pools.len());
        for pool in &self.config.pools {
            pools.push(self.pool(pool, &mut clients)?);
        }
        let failover: Vec<Vec<usize>> = self
            .config
            .pools
            .iter()
            .map(|p| p.failover_pools.iter().filter_map(|name| index.get(name).copied()).collect())
            .collect();
        for (place, pool) in pools.iter_mut().enumerate() {
            pool.chain = follow(place, &failover).into();
        }
        for place in 0..pools.len() {
            let Some(mut sticky) = pools.get_mut(place).and_then(|pool| pool.sticky.take()) else { continue };
            sticky.settle(&pools, pools.get(place).map_or(&[][..], |pool| &pool.chain));
            if let Some(pool) = pools.get_mut(place) {
                pool.sticky = Some(sticky);
            }
        }
        Ok(pools)
    }

    fn pool(&self, pool: &config::pool::Pool, clients: &mut Clients) -> Result<Pool, CompileError> {
        let before = self.previous.and_then(|p| p.pools.iter().find(|b| b.name == pool.name));
        let live = before.map_or_else(
            || Arc::new(PoolLive::new(self.machine.workers, self.clock)),
            |b| Arc::clone(&b.live),
        );
        let tls = self
            .tls(pool, before, clients)
            .map_err(|error| CompileError::PoolTls(pool.name.clone(), error))?;
        let sticky = self.sticky(pool, before).map_err(|why| CompileError::Sticky(pool.name.clone(), why))?;
        let mut endpoints = self.endpoints(pool, before, tls.as_ref());
        let zone = self.config.process.zone.as_str();
        // Where no endpoint of a tier is in this node's zone, or all are, there is nothing to prefer.
        endpoints.sort_by_key(|e| (e.tier, zone.is_empty() || *e.zone != *zone));
        let tiers = compile_tiers(&endpoints, &compile_balance(pool), zone, before);
        let (retry, retry_body) = compile_retry(&pool.retry);
        let times = &pool.timeouts;
        Ok(Pool {
            name: pool.name.clone(),
            edition: Arc::clone(self.edition),
            endpoints,
            protocol: compile_protocol(pool),
            tiers,
            chain: Box::default(),
            checked: pool.health.is_some(),
            // Which listeners lead to it is known once all pools are there.
            datagrams: false,
            exclusive: pool.exclusive.is_some(),
            fail_open: pool.fail_open,
            required: pool.required,
            queue_capacity: pool.limits.queue,
            queue_timeout: pool.limits.queue_timeout,
            shedding: pool.limits.shedding,
            rising: pool.limits.rising,
            adaptive: pool.limits.adaptive,
            timeouts: pool::Timeouts {
                connect: times.connect,
                response_header: times.response_header,
                idle: times.idle,
                keep_alive: times.keep_alive,
                tunnel: times.tunnel,
                tcp_user_timeout: times.tcp_user_timeout,
                tcp_keepalive: times.tcp_keepalive,
                http2_ping: times.http2_ping,
            },
            max_connection_age: pool.max_connection_age,
            drain_timeout: pool.drain_timeout,
            slow_start: pool.slow_start,
            by_latency: pool.balance == config::pool::Balance::PeakEwma,
            hash_key: compile_hash_key(pool),
            outlier: pool.outlier.clone(),
            breaker: pool.breaker.clone(),
            failover: pool.failover.clone(),
            budget: pool
                .retry
                .budget
                .map(|b| budget::Settings { ratio: b.ratio, minimum_per_second: b.minimum_per_second }),
            retry,
            retry_body,
            limits: compile_limits(&pool.limits),
            send_proxy: pool.send_proxy,
            source: pool.source,
            tls,
            sticky,
            live,
        })
    }

    /// TLS of a pool: as it was where neither settings nor files have changed. Files are looked at when a configuration has
    /// been loaded, and not when names or operators change who is in it.
    fn tls(
        &self,
        pool: &config::pool::Pool,
        before: Option<&Pool>,
        clients: &mut Clients,
    ) -> Result<Option<Arc<PoolTls>>, TlsError> {
        let Some(written) = &pool.tls else { return Ok(None) };
        let before = before.and_then(|b| b.tls.as_ref());
        let is_loaded_anew = !self.previous.is_some_and(|p| Arc::ptr_eq(&p.origin, &self.config.origin));
        if let (Some(before), false) = (before, is_loaded_anew) {
            return Ok(Some(Arc::clone(before)));
        }
        let client = clients.of(&tls::Settings::from(&written.client))?;
        let naming = match &written.client.server_name {
            config::tls::Naming::Endpoint => tls::Naming::Endpoint,
            config::tls::Naming::Fixed(name) => tls::Naming::Fixed(tls::parse_name(name)?),
            config::tls::Naming::Host => tls::Naming::Host,
        };
        let now = PoolTls::new(client, naming, alpn(pool.protocol), written.sessions);
        Ok(Some(match before {
            Some(before) if before.is_same(&now) => Arc::clone(before),
            _ => now,
        }))
    }

    fn endpoints(
        &self,
        pool: &config::pool::Pool,
        before: Option<&Pool>,
        tls: Option<&Arc<PoolTls>>,
    ) -> Vec<Endpoint> {
        let known: HashMap<_, _> =
            before.map_or_else(HashMap::new, |b| b.endpoints.iter().map(|e| (&e.name, e)).collect());
        let new = || {
            let live = EndpointLive::new(self.slots, self.machine.workers);
            live.condition.set(Impediment::Unproven, pool.health.is_some());
            live.condition.set(Impediment::Standby, pool.exclusive.is_some());
            Arc::new(live)
        };
        let weight = |e: &config::pool::Endpoint| {
            let changed = self.weights.get(&(pool.name.clone(), e.name.clone()));
            changed.copied().unwrap_or_else(|| e.weight.get())
        };
        // A name is no endpoint: those that it stands for are written out before.
        let endpoint = |e: &config::pool::Endpoint| {
            let address = e.address.socket()?;
            // A name that has moved to another address is another endpoint: its connections lead elsewhere.
            let known = known.get(&e.name).filter(|known| known.address == address);
            Some(Endpoint {
                name: e.name.clone(),
                address,
                weight: weight(e),
                tier: e.tier,
                zone: e.zone.as_str().into(),
                limits: Ceilings {
                    requests: e.max_requests.unwrap_or(pool.limits.max_requests),
                    connections: match e.max_requests.unwrap_or(pool.limits.max_connections) {
                        0 => u32::MAX,
                        limit => limit,
                    },
                },
                tls: tls.map(|tls| {
                    let host = e.host.as_ref().map(DnsName::as_str);
                    match known.and_then(|known| known.tls.as_ref()) {
                        Some(known) if known.is_of(tls, host, &address) => Arc::clone(known),
                        _ => Arc::new(EndpointTls::new(tls, host, &address)),
                    }
                }),
                live: known.map_or_else(new, |known| Arc::clone(&known.live)),
            })
        };
        pool.endpoints.iter().filter_map(endpoint).collect()
    }
}

/// A pool, its failover pools in their order, then theirs; each once.
fn follow(pool: usize, failover: &[Vec<usize>]) -> Vec<usize> {
    let mut chain = vec![pool];
    let mut next = 0;
    while let Some(&at) = chain.get(next) {
        for &further in failover.get(at).into_iter().flatten() {
            if !chain.contains(&further) {
                chain.push(further);
            }
        }
        next += 1;
    }
    chain
}

/// Which of two protocols is spoken is found out by TLS (RFC 7301); without it there is no way to ask.
const fn compile_protocol(pool: &config::pool::Pool) -> Protocol {
    match pool.protocol {
        Protocol::Auto if pool.tls.is_none() => Protocol::Http1,
        written => written,
    }
}

fn compile_limits(limits: &config::pool::PoolLimits) -> EndpointLimits {
    EndpointLimits {
        answer_head: limits.answer_head.as_usize(),
        answer_fields: limits.answer_fields,
        interim_answers: limits.interim_answers,
        chunk_extensions: limits.answer_chunk_extensions.as_usize(),
        idle_connections: limits.idle_connections,
        http2_connections: limits.http2_connections,
        http2_streams: limits.http2_streams,
        http2_window: u32::try_from(limits.http2_window.as_usize()).unwrap_or(u32::MAX >> 1),
        http2_frames: limits.http2_frames,
    }
}

/// How a pool balances.
#[must_use]
pub fn compile_balance(pool: &config::pool::Pool) -> balance::Settings {
    use config::pool::Balance;
    let kind = match pool.balance {
        Balance::RoundRobin => Kind::RoundRobin,
        Balance::LeastRequests => Kind::LeastRequests,
        Balance::PeakEwma => Kind::PeakEwma,
        Balance::Random => Kind::Random,
        Balance::RingHash => Kind::RingHash,
        Balance::Maglev => Kind::Maglev,
        Balance::Rendezvous => Kind::Rendezvous,
        Balance::First => Kind::First,
    };
    balance::Settings { kind, load_factor: pool.load_factor }
}

fn compile_tiers(
    endpoints: &[Endpoint],
    settings: &balance::Settings,
    zone: &str,
    before: Option<&Pool>,
) -> Vec<Tier> {
    let mut start = 0;
    let tier = |tier: &[Endpoint]| {
        let number = tier.first().map_or(0, |e| e.tier);
        let known = before.and_then(|p| p.tiers.iter().find(|t| t.number == number));
        let is_local = |e: &Endpoint| !zone.is_empty() && *e.zone == *zone;
        let groups = tier
            .chunk_by(|a, b| is_local(a) == is_local(b))
            .enumerate()
            .map(|(place, group)| {
                let ids: Vec<String> = group.iter().map(|e| e.address.to_string()).collect();
                let members: Vec<Member<'_>> =
                    group.iter().zip(&ids).map(|(e, id)| Member { weight: e.weight, id }).collect();
                let previous = known.and_then(|tier| tier.groups.get(place)).map(|group| &group.balancer);
                let end = start + group.len();
                let group = Group { start, end, balancer: Balancer::new(settings, &members, previous) };
                start = end;
                group
            })
            .collect();
        Tier { number, groups, live: known.map_or_else(Arc::default, |t| Arc::clone(&t.live)) }
    };
    endpoints.chunk_by(|a, b| a.tier == b.tier).map(tier).collect()
}

/// What the hashing policies of a pool go by; nothing for the others.
#[must_use]
pub fn compile_hash_key(pool: &config::pool::Pool) -> Option<HashKey> {
    use config::pool::Balance;
    if !matches!(pool.balance, Balance::RingHash | Balance::Maglev | Balance::Rendezvous) {
        return None;
    }
    Some(compile_key(&pool.hash_key))
}

/// A part of a request.
pub(super) fn compile_key(key: &config::pool::HashKey) -> HashKey {
    use config::pool::HashKey as Written;
    match key {
        Written::Source => HashKey::Source,
        Written::Header(name) => HashKey::Header(name.clone()),
        Written::Cookie(name) => HashKey::Cookie(name.as_str().into()),
        Written::Query(name) => HashKey::Query(name.as_str().into()),
        Written::Path => HashKey::Path,
        Written::Sni => HashKey::Sni,
    }
}

/// The retry rules and the largest body that is kept for a repeat.
pub(super) fn compile_retry(retry: &config::retry::Retry) -> (retry::Policy, usize) {
    use config::retry::NonIdempotent;
    let policy = retry::Policy {
        attempts: retry.attempts,
        on: retry.on.clone(),
        within: retry.within,
        per_try_timeout: retry.per_try_timeout,
        non_idempotent: match retry.non_idempotent {
            NonIdempotent::Never => retry::NonIdempotent::Never,
            NonIdempotent::WithIdempotencyKey => retry::NonIdempotent::WithIdempotencyKey,
            NonIdempotent::Always => retry::NonIdempotent::Always,
        },
        hedge: retry.hedge,
    };
    (policy, retry.max_body.as_usize())
}
