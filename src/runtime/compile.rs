//! (Config, previous snapshot) to [`Snapshot`]: names become indexes, live state is carried over by identity.

use std::collections::HashMap;
use std::sync::Arc;

use super::endpoint::{Ceilings, Endpoint, EndpointLive, Slots};
use super::limits::{ClientLimits, EndpointLimits};
use super::listener::{self, Listener, ListenerLive};
use super::pool::{self, Pool, PoolLive, Tier};
use super::snapshot::{Action, Overrides, Piece, Rewrite, Route, Snapshot, Split};
use crate::config::{self, Config};
use crate::model::name::PoolName;
use crate::policy::balance::{Balancer, Kind};
use crate::policy::retry;
use crate::route::{PathPattern, Table};

/// What the machine allows.
#[derive(Debug, Clone, Copy)]
pub struct Machine {
    /// Data-plane threads.
    pub workers: usize,
    /// Client connections that the descriptor limit has room for.
    pub connections_max: usize,
}

/// Compiles a valid configuration. Live state of whatever keeps its identity (listener name, pool name, pool and
/// endpoint name) comes from `previous`.
#[must_use]
pub fn compile(config: &Config, previous: Option<&Snapshot>, machine: &Machine) -> Snapshot {
    let workers = machine.workers;
    let slots = previous.map_or_else(Arc::default, |p| Arc::clone(&p.slots));
    let pools: Vec<Pool> = config.pools.iter().map(|p| compile_pool(p, previous, &slots, workers)).collect();
    let index: HashMap<&PoolName, usize> =
        config.pools.iter().enumerate().map(|(i, p)| (&p.name, i)).collect();
    let routes = config.routes.iter().map(|r| compile_route(r, &index)).collect();
    let listeners = compile_listeners(config, previous, &index, machine);
    Snapshot {
        generation: previous.map_or(0, |p| p.generation) + 1,
        hash: config.hash,
        listeners,
        routes,
        pools,
        connections_max: machine.connections_max,
        slots,
    }
}

fn compile_pool(
    pool: &config::pool::Pool,
    previous: Option<&Snapshot>,
    slots: &Arc<Slots>,
    workers: usize,
) -> Pool {
    let before = previous.and_then(|p| p.pools.iter().find(|b| b.name == pool.name));
    let live = before.map_or_else(|| Arc::new(PoolLive::new(workers)), |b| Arc::clone(&b.live));
    let known: HashMap<_, _> =
        before.map_or_else(HashMap::new, |b| b.endpoints.iter().map(|e| (&e.name, e)).collect());
    let mut endpoints: Vec<Endpoint> = pool
        .endpoints
        .iter()
        .map(|e| Endpoint {
            name: e.name.clone(),
            address: e.address,
            weight: e.weight.get(),
            tier: e.tier,
            limits: Ceilings {
                requests: e.max_requests.unwrap_or(pool.limits.max_requests),
                connections: match e.max_requests.unwrap_or(pool.limits.max_connections) {
                    0 => u32::MAX,
                    limit => limit,
                },
            },
            // A name that has moved to another address is another endpoint: its connections lead elsewhere.
            live: match known.get(&e.name) {
                Some(known) if known.address == e.address => Arc::clone(&known.live),
                _ => Arc::new(EndpointLive::new(slots, workers)),
            },
        })
        .collect();
    endpoints.sort_by_key(|e| e.tier);
    let tiers = compile_tiers(&endpoints, pool.balance);
    let (retry, retry_body) = compile_retry(&pool.retry);
    let times = &pool.timeouts;
    Pool {
        name: pool.name.clone(),
        endpoints,
        tiers,
        queue_capacity: pool.limits.queue,
        queue_timeout: pool.limits.queue_timeout,
        timeouts: pool::Timeouts {
            connect: times.connect,
            response_header: times.response_header,
            idle: times.idle,
            keep_alive: times.keep_alive,
            tunnel: times.tunnel,
            tcp_user_timeout: times.tcp_user_timeout,
        },
        retry,
        retry_body,
        limits: EndpointLimits::default(),
        live,
    }
}

fn compile_tiers(endpoints: &[Endpoint], balance: config::pool::Balance) -> Vec<Tier> {
    let kind = match balance {
        config::pool::Balance::RoundRobin => Kind::RoundRobin,
        config::pool::Balance::LeastRequests => Kind::LeastRequests,
        config::pool::Balance::Random => Kind::Random,
        config::pool::Balance::First => Kind::First,
    };
    let mut start = 0;
    endpoints
        .chunk_by(|a, b| a.tier == b.tier)
        .map(|tier| {
            let weights: Vec<u16> = tier.iter().map(|e| e.weight).collect();
            let tier = Tier { start, end: start + tier.len(), balancer: Balancer::new(kind, &weights) };
            start = tier.end;
            tier
        })
        .collect()
}

fn compile_retry(retry: &config::pool::Retry) -> (retry::Policy, usize) {
    let policy = retry::Policy { attempts: retry.attempts, on: retry.on.clone(), within: retry.within };
    (policy, retry.max_body.as_usize())
}

fn compile_route(route: &config::route::Route, pools: &HashMap<&PoolName, usize>) -> Route {
    // Validation has made sure that every pool exists.
    let pool = |name: &PoolName| pools.get(name).copied().unwrap_or_default();
    Route {
        name: route.rule.name.clone(),
        action: match &route.action {
            config::route::Action::Pool(name) => Action::Pool(pool(name)),
            config::route::Action::Split { parts, by } => {
                let mut total = 0;
                let sums = parts.iter().map(|(name, weight)| {
                    total += u32::from(weight.get());
                    (pool(name), total)
                });
                let parts = sums.collect();
                Action::Split(Split { parts, total, by_source: *by == config::route::SplitBy::Source })
            }
            config::route::Action::Redirect { to, status } => {
                Action::Redirect { to: Piece::parse(to), status: *status }
            }
            config::route::Action::Respond { status, body } => {
                Action::Respond { status: *status, body: body.as_str().into() }
            }
        },
        request_edits: route.request_headers.clone(),
        response_edits: route.response_headers.clone(),
        rewrite: route.rewrite.as_ref().map(|rewrite| match (rewrite, &route.rule.path) {
            (config::route::Rewrite::PathPrefix(with), PathPattern::Prefix(matched)) => {
                Rewrite::Prefix { matched: matched.trim_end_matches('/').into(), with: with.as_str().into() }
            }
            (config::route::Rewrite::PathPrefix(with) | config::route::Rewrite::Path(with), _) => {
                Rewrite::Path(with.as_str().into())
            }
        }),
        timeouts: Overrides {
            connect: route.timeouts.connect,
            response_header: route.timeouts.response_header,
            idle: route.timeouts.idle,
            tunnel: route.timeouts.tunnel,
        },
        retry: route.retry.as_ref().map(compile_retry),
    }
}

fn compile_listeners(
    config: &Config,
    previous: Option<&Snapshot>,
    pools: &HashMap<&PoolName, usize>,
    machine: &Machine,
) -> Vec<Listener> {
    let live = |l: &config::listener::Listener| {
        let before = previous.and_then(|p| p.listeners.iter().find(|b| b.name == l.name));
        before.map_or_else(|| Arc::new(ListenerLive::new(machine.workers)), |b| Arc::clone(&b.live))
    };
    config
        .listeners
        .iter()
        .map(|l| Listener {
            name: l.name.clone(),
            bind: l.bind.clone(),
            protocol: match &l.protocol {
                config::listener::Protocol::Http => compile_http(config, l),
                config::listener::Protocol::Tcp { pool } => {
                    listener::Protocol::Tcp { pool: pools.get(pool).copied().unwrap_or_default() }
                }
            },
            trusted_proxies: l.trusted_proxies.clone(),
            client_address: match l.client_address {
                config::listener::ClientAddress::XForwardedFor => listener::ClientAddress::XForwardedFor,
                config::listener::ClientAddress::Forwarded => listener::ClientAddress::Forwarded,
                config::listener::ClientAddress::CfConnectingIp => listener::ClientAddress::CfConnectingIp,
                config::listener::ClientAddress::XRealIp => listener::ClientAddress::XRealIp,
            },
            allow: l.allow.clone(),
            deny: l.deny.clone(),
            freebind: l.freebind,
            max_connections: l.max_connections.min(machine.connections_max),
            max_connections_per_source: l.max_connections_per_source,
            head_max: l.limits.head.as_usize(),
            fields_max: l.limits.fields,
            target_max: l.limits.target.as_usize(),
            limits: ClientLimits::default(),
            timeouts: listener::Timeouts {
                request_header: l.timeouts.request_header,
                keep_alive: l.timeouts.keep_alive,
                client_idle: l.timeouts.client_idle,
                tcp_keepalive: l.timeouts.tcp_keepalive,
                tcp_user_timeout: l.timeouts.tcp_user_timeout,
            },
            live: live(l),
        })
        .collect()
}

fn compile_http(config: &Config, listener: &config::listener::Listener) -> listener::Protocol {
    let serves =
        |r: &&config::route::Route| r.rule.listeners.is_empty() || r.rule.listeners.contains(&listener.name);
    let (routes, rules) =
        config.routes.iter().enumerate().filter(|(_, r)| serves(r)).map(|(i, r)| (i, r.rule.clone())).unzip();
    listener::Protocol::Http { table: Box::new(Table::new(rules)), routes }
}
