//! (Config, previous snapshot) to [`Snapshot`]: names become indexes, live state is carried over by identity.

mod pool;

use std::collections::{HashMap, HashSet};
use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use super::clock::Clock;
use super::limits::ClientLimits;
use super::listener::{self, Listener, ListenerLive};
use super::places::Listeners;
use super::pool::Pool;
use super::snapshot::{Action, Edition, Overrides, Part, Piece, Rewrite, Route, Snapshot, Split};
use crate::config::{self, Config};
use crate::model::name::PoolName;
use crate::route::{PathPattern, Table};
pub use pool::Weights;
use pool::{Pools, compile_retry};

/// What the machine allows.
#[derive(Debug, Clone, Copy)]
pub struct Machine {
    /// Data-plane threads.
    pub workers: usize,
    /// Client connections that the descriptor limit has room for.
    pub connections_max: usize,
    /// Where the time line of the policies stands for a first snapshot; only one that goes on with what another process
    /// knows begins later than at zero.
    pub time: Duration,
}

/// Compiles a valid configuration. Live state of whatever keeps its identity (listener name, pool name, pool and
/// endpoint name) comes from `previous`; `weights` are put in the place of written ones.
#[must_use]
pub fn compile(
    config: &Config,
    previous: Option<&Snapshot>,
    machine: &Machine,
    weights: &Weights,
) -> Snapshot {
    let slots = previous.map_or_else(Arc::default, |p| Arc::clone(&p.slots));
    let index: HashMap<&PoolName, usize> =
        config.pools.iter().enumerate().map(|(i, p)| (&p.name, i)).collect();
    let clock = previous.map_or_else(|| Clock::resumed(machine.time), |p| p.clock);
    let edition = Arc::new(Edition::new(previous.map_or(0, |p| p.generation) + 1, machine.workers));
    let mut pools =
        Pools { config, previous, slots: &slots, clock, machine, weights, edition: &edition }.compile(&index);
    let chains: Vec<Box<[usize]>> = pools.iter().map(|p| p.chain.clone()).collect();
    let routes = config.routes.iter().map(|r| compile_route(r, &index, &chains)).collect();
    let listeners = compile_listeners(config, previous, &index, machine);
    mark_datagrams(&mut pools, config, &index);
    Snapshot {
        generation: edition.generation,
        edition,
        hash: config.hash,
        listeners,
        routes,
        pools,
        connections_max: machine.connections_max,
        clock,
        slots,
    }
}

/// Notes which pools take datagrams only: udp listeners lead to them, perhaps by way of other pools, and nothing else does.
fn mark_datagrams(pools: &mut [Pool], config: &Config, index: &HashMap<&PoolName, usize>) {
    let mut named: [HashSet<usize>; 2] = Default::default();
    let [datagrams, streams] = &mut named;
    let chain = |name: &PoolName| {
        let pool = index.get(name).and_then(|&pool| pools.get(pool));
        pool.into_iter().flat_map(|pool| pool.chain.iter().copied())
    };
    for listener in &config.listeners {
        match &listener.protocol {
            config::listener::Protocol::Udp { pool } => datagrams.extend(chain(pool)),
            config::listener::Protocol::Tcp { pool } => streams.extend(chain(pool)),
            config::listener::Protocol::Http => {}
        }
    }
    for route in &config.routes {
        match &route.action {
            config::route::Action::Pool(pool) => streams.extend(chain(pool)),
            config::route::Action::Split { parts, .. } => {
                streams.extend(parts.iter().flat_map(|(pool, _)| chain(pool)));
            }
            config::route::Action::Redirect { .. }
            | config::route::Action::Respond { .. }
            | config::route::Action::Health(_) => {}
        }
    }
    for (at, pool) in pools.iter_mut().enumerate() {
        pool.datagrams = named[0].contains(&at) && !named[1].contains(&at);
    }
}

fn compile_split(weights: &[(usize, u32)], chains: &[Box<[usize]>], by_source: bool) -> Split {
    let mut total = 0;
    let chain_of = |pool: usize| chains.get(pool).into_iter().flat_map(|chain| chain.iter().copied());
    let part = |&(pool, weight): &(usize, u32)| {
        total += weight;
        let siblings = weights.iter().filter(|(other, weight)| *other != pool && *weight > 0);
        let all = chain_of(pool).chain(siblings.flat_map(|(sibling, _)| chain_of(*sibling)));
        Part { sum: total, chain: each_once(all) }
    };
    let parts = weights.iter().map(part).collect();
    Split { parts, total, by_source }
}

/// Each pool where it comes first.
fn each_once(pools: impl Iterator<Item = usize>) -> Box<[usize]> {
    let mut seen = HashSet::new();
    pools.filter(|pool| seen.insert(*pool)).collect()
}

fn compile_route(
    route: &config::route::Route,
    pools: &HashMap<&PoolName, usize>,
    chains: &[Box<[usize]>],
) -> Route {
    // Validation has made sure that every pool exists.
    let pool = |name: &PoolName| pools.get(name).copied().unwrap_or_default();
    Route {
        name: route.rule.name.clone(),
        action: match &route.action {
            config::route::Action::Pool(name) => Action::Pool(pool(name)),
            config::route::Action::Split { parts, by } => {
                let weights: Vec<(usize, u32)> =
                    parts.iter().map(|(name, weight)| (pool(name), u32::from(weight.get()))).collect();
                Action::Split(compile_split(&weights, chains, *by == config::route::SplitBy::Source))
            }
            config::route::Action::Redirect { to, status } => {
                Action::Redirect { to: Piece::parse(to), status: *status }
            }
            config::route::Action::Respond { status, body } => {
                Action::Respond { status: *status, body: body.as_str().into() }
            }
            config::route::Action::Health(name) => Action::Health(pool(name)),
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
) -> Listeners {
    let live = |l: &config::listener::Listener| {
        let before = previous.and_then(|p| p.listeners.live_of(&l.name));
        before.map_or_else(|| Arc::new(ListenerLive::new(machine.workers)), Arc::clone)
    };
    let listeners = config
        .listeners
        .iter()
        .map(|l| Listener {
            name: l.name.clone(),
            bind: l.bind.clone(),
            unix_mode: l.unix_mode,
            protocol: match &l.protocol {
                config::listener::Protocol::Http => compile_http(config, l),
                config::listener::Protocol::Tcp { pool } => listener::Protocol::Tcp {
                    pool: pools.get(pool).copied().unwrap_or_default(),
                    when_empty: match l.when_empty {
                        config::listener::WhenEmpty::Reset => listener::WhenEmpty::Reset,
                        config::listener::WhenEmpty::Hold { time, max } => {
                            listener::WhenEmpty::Hold { time, max }
                        }
                        config::listener::WhenEmpty::StopListening => listener::WhenEmpty::StopListening,
                    },
                },
                config::listener::Protocol::Udp { pool } => listener::Protocol::Udp {
                    pool: pools.get(pool).copied().unwrap_or_default(),
                    rules: listener::SessionRules {
                        idle: l.timeouts.udp_idle,
                        datagram_max: l.limits.udp_datagram.as_usize(),
                        answers: NonZero::new(l.limits.udp_answers),
                    },
                },
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
            limits: ClientLimits {
                chunk_extensions: l.limits.chunk_extensions.as_usize(),
                linger: l.timeouts.linger,
                linger_bytes: l.limits.linger.as_usize(),
            },
            backlog: l.limits.backlog,
            timeouts: listener::Timeouts {
                request_header: l.timeouts.request_header,
                keep_alive: l.timeouts.keep_alive,
                client_idle: l.timeouts.client_idle,
                tcp_keepalive: l.timeouts.tcp_keepalive,
                tcp_user_timeout: l.timeouts.tcp_user_timeout,
            },
            live: live(l),
        })
        .collect();
    Listeners::arrange(previous.map(|p| &p.listeners), listeners)
}

fn compile_http(config: &Config, listener: &config::listener::Listener) -> listener::Protocol {
    let serves =
        |r: &&config::route::Route| r.rule.listeners.is_empty() || r.rule.listeners.contains(&listener.name);
    let (routes, rules) =
        config.routes.iter().enumerate().filter(|(_, r)| serves(r)).map(|(i, r)| (i, r.rule.clone())).unzip();
    listener::Protocol::Http { table: Box::new(Table::new(rules)), routes }
}
