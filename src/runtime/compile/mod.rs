//! (Config, previous snapshot) to [`Snapshot`]: names become indexes, live state is carried over by identity.

mod gate;
mod limits;
mod pool;
mod sticky;
#[cfg(test)]
mod survival;
mod treatment;

pub use pool::{compile_balance, compile_hash_key};

use std::collections::{HashMap, HashSet};
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::clock::Clock;
use super::limits::{ClientLimits, Http2Limits};
use super::listener::{self, Listener, ListenerLive, SniRoutes, SniTarget};
use super::page::Page;
use super::places::Listeners;
use super::pool::Pool;
use super::snapshot::{Action, Edition, Overrides, Part, Respond, Route, Snapshot, Split, SplitBy};
use super::spans::{Export, Tracing};
use super::sticky::Secret;
use super::tls::files::TlsError;
use super::tls::listener::ListenerTls;
use super::tls::tickets::Ring;
use crate::config::{self, Config};
use crate::model::name::{ListenerName, PoolName, RouteName};
use crate::model::units::ByteSize;
use crate::policy::admission::class::Class;
use crate::route::edits::Edits;
use crate::route::{SniTable, Table};
pub use pool::Weights;
use pool::{Pools, compile_retry};
use treatment::Treatments;

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
    /// The secret of sticky pools for a first snapshot; nothing is a new one.
    pub secret: Option<Secret>,
}

/// Why a valid configuration cannot run: it names files, and these may have changed since it was read.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// TLS of a pool.
    #[error("tls of pool \"{0}\": {1}")]
    PoolTls(PoolName, TlsError),
    /// TLS of a listener.
    #[error("tls of listener \"{0}\": {1}")]
    ListenerTls(ListenerName, TlsError),
    /// The users of a route.
    #[error("route \"{name}\": {} cannot be used: {why}", file.display())]
    Users {
        /// The route.
        name: RouteName,
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Keys of sticky cookies.
    #[error("sticky of pool \"{0}\": {1}")]
    Sticky(PoolName, String),
}

/// Compiles a valid configuration. Live state of whatever keeps its identity (listener name, pool name, pool and
/// endpoint name) comes from `previous`; `weights` are put in the place of written ones. The files of certificates and
/// keys are read once for each time that a configuration is loaded, however often it is compiled: not for a worker.
///
/// # Errors
/// [`CompileError`].
pub fn compile(
    config: &Config,
    previous: Option<&Snapshot>,
    machine: &Machine,
    weights: &Weights,
) -> Result<Snapshot, CompileError> {
    let slots = previous.map_or_else(Arc::default, |p| Arc::clone(&p.slots));
    let index: HashMap<&PoolName, usize> =
        config.pools.iter().enumerate().map(|(i, p)| (&p.name, i)).collect();
    let clock = previous.map_or_else(|| Clock::resumed(machine.time), |p| p.clock);
    let edition = Arc::new(Edition::new(previous.map_or(0, |p| p.generation) + 1, machine.workers));
    let secret = previous.map(|p| p.secret).or(machine.secret).unwrap_or_else(Secret::random);
    let mut pools =
        Pools { config, previous, slots: &slots, clock, machine, weights, edition: &edition, secret }
            .compile(&index)?;
    let chains: Vec<Box<[usize]>> = pools.iter().map(|p| p.chain.clone()).collect();
    let mut limits = limits::Compiling::new(previous, clock, machine, secret);
    let mut treatments = Treatments::new(config, previous, machine, &index);
    let routes = config.routes.iter().map(|r| {
        let (limits, treatment) = (limits.route(&r.limits), treatments.compile(r)?);
        Ok(Route { limits, treatment, ..compile_route(r, &index, &chains) })
    });
    let by_sni = config.sni_routes.iter().map(|r| Ok(compile_sni_route(r, &index)));
    let routes = routes.chain(by_sni).collect::<Result<_, CompileError>>()?;
    let tickets = previous.map_or_else(Arc::default, |p| Arc::clone(&p.tickets));
    let mut tls = secure_listeners(config, previous, &tickets)?;
    let listeners = compile_listeners(config, previous, &index, machine, &mut tls);
    mark_datagrams(&mut pools, config, &index);
    Ok(Snapshot {
        generation: edition.generation,
        edition,
        hash: config.hash,
        origin: Arc::clone(&config.origin),
        listeners,
        routes,
        pools,
        tracing: compile_tracing(config, previous),
        connections_max: machine.connections_max,
        clock,
        slots,
        tickets,
        secret,
        limits: limits.finish(),
    })
}

/// Where spans go stays as it is for as long as that is the same, with those that wait.
fn compile_tracing(config: &Config, previous: Option<&Snapshot>) -> Option<Tracing> {
    let tracing = config.tracing.as_ref().filter(|tracing| tracing.propagates)?;
    let before = previous.and_then(|previous| previous.tracing.as_ref()?.export.as_ref());
    let export = tracing.export.as_ref().map(|destination| match before {
        Some(before) if before.destination == *destination => Arc::clone(before),
        Some(before) => Arc::new(Export::new(destination.clone(), Arc::clone(&before.counts))),
        None => Arc::new(Export::new(destination.clone(), Arc::default())),
    });
    Some(Tracing { settings: tracing.settings, export })
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
            config::listener::Protocol::Tcp { pool } => streams.extend(pool.iter().flat_map(chain)),
            config::listener::Protocol::Http => {}
        }
    }
    for route in &config.routes {
        streams.extend(route.treatment.pools().flat_map(chain));
        match &route.action {
            config::route::Action::Pool(pool) => streams.extend(chain(pool)),
            config::route::Action::Split { parts, .. } => {
                streams.extend(parts.iter().flat_map(|(pool, _)| chain(pool)));
            }
            config::route::Action::Redirect { .. }
            | config::route::Action::Respond(_)
            | config::route::Action::Health(_) => {}
        }
    }
    streams.extend(config.sni_routes.iter().flat_map(|route| chain(&route.pool)));
    for (at, pool) in pools.iter_mut().enumerate() {
        pool.datagrams = named[0].contains(&at) && !named[1].contains(&at);
    }
}

fn compile_split(weights: &[(usize, u32)], chains: &[Box<[usize]>], by: SplitBy) -> Split {
    let mut total = 0;
    let chain_of = |pool: usize| chains.get(pool).into_iter().flat_map(|chain| chain.iter().copied());
    let part = |&(pool, weight): &(usize, u32)| {
        total += weight;
        let siblings = weights.iter().filter(|(other, weight)| *other != pool && *weight > 0);
        let all = chain_of(pool).chain(siblings.flat_map(|(sibling, _)| chain_of(*sibling)));
        Part { sum: total, chain: each_once(all) }
    };
    let parts = weights.iter().map(part).collect();
    Split { parts, total, by }
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
                let by = match by {
                    config::route::SplitBy::Random => SplitBy::Random,
                    config::route::SplitBy::Source => SplitBy::Source,
                    config::route::SplitBy::Sticky => SplitBy::Sticky,
                };
                Action::Split(compile_split(&weights, chains, by))
            }
            config::route::Action::Redirect { to, regex, status } => {
                Action::Redirect { to: to.clone(), regex: regex.clone(), status: *status }
            }
            config::route::Action::Respond(respond) => Action::Respond(Respond {
                status: respond.status,
                page: Page::new(&respond.body, respond.content_type.as_str()),
                regex: respond.regex.clone(),
            }),
            config::route::Action::Health(name) => Action::Health(pool(name)),
        },
        request_edits: route.request_headers.clone(),
        response_edits: route.response_headers.clone(),
        rewrite: route.rewrite.clone(),
        timeouts: Overrides {
            connect: route.timeouts.connect,
            response_header: route.timeouts.response_header,
            idle: route.timeouts.idle,
            tunnel: route.timeouts.tunnel,
        },
        class: route.priority_class,
        retry: route.retry.as_ref().map(compile_retry),
        treatment: None,
        gate: gate::compile(&route.gate),
        limits: None,
    }
}

/// TLS of the listeners that have it. Their files are read again once the configuration has been.
fn secure_listeners(
    config: &Config,
    previous: Option<&Snapshot>,
    tickets: &Arc<Ring>,
) -> Result<HashMap<ListenerName, Arc<ListenerTls>>, CompileError> {
    let is_same_load = previous.is_some_and(|p| Arc::ptr_eq(&p.origin, &config.origin));
    let mut all = HashMap::new();
    for (listener, written) in config.listeners.iter().filter_map(|l| Some((l, l.tls.as_ref()?))) {
        let before = previous.and_then(|p| p.listeners.iter().find(|known| known.name == listener.name));
        let before = before.and_then(|known| known.tls.as_ref());
        let tls = match before.filter(|_| is_same_load) {
            Some(known) => Arc::clone(known),
            None => ListenerTls::new(written, before, tickets)
                .map_err(|error| CompileError::ListenerTls(listener.name.clone(), error))?,
        };
        all.insert(listener.name.clone(), tls);
    }
    Ok(all)
}

fn compile_sni_route(route: &config::sni::SniRoute, pools: &HashMap<&PoolName, usize>) -> Route {
    Route {
        name: route.name.clone(),
        action: Action::Pool(pools.get(&route.pool).copied().unwrap_or_default()),
        request_edits: Edits::default(),
        response_edits: Edits::default(),
        rewrite: None,
        timeouts: Overrides::default(),
        class: Class::default(),
        retry: None,
        treatment: None,
        gate: None,
        limits: None,
    }
}

fn compile_listeners(
    config: &Config,
    previous: Option<&Snapshot>,
    pools: &HashMap<&PoolName, usize>,
    machine: &Machine,
    tls: &mut HashMap<ListenerName, Arc<ListenerTls>>,
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
            protocol: compile_protocol(config, l, pools),
            identity: l.identity.clone(),
            forwarded: l.forwarded,
            proxy_header_max: l.accept_proxy_protocol.then(|| l.limits.proxy_header.as_usize()),
            allow: l.allow.clone(),
            deny: l.deny.clone(),
            pages: gate::pages(&l.error_pages),
            freebind: l.freebind,
            importance: l.importance,
            h2c: l.h2c,
            max_connections: l.max_connections.min(machine.connections_max),
            max_connections_per_source: l.max_connections_per_source,
            head_max: l.limits.head.as_usize(),
            fields_max: l.limits.fields,
            target_max: l.limits.target.as_usize(),
            limits: ClientLimits {
                chunk_extensions: l.limits.chunk_extensions.as_usize(),
                linger: l.timeouts.linger,
                linger_bytes: l.limits.linger.as_usize(),
                http2: http2(&l.limits.http2),
            },
            bandwidth: [l.limits.bandwidth_in, l.limits.bandwidth_out].map(|rate| rate.map(|rate| rate.0)),
            handshakes_max: l.limits.handshakes,
            backlog: l.limits.backlog,
            tls: tls.remove(&l.name),
            timeouts: listener::Timeouts {
                tls_handshake: l.timeouts.tls_handshake,
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

/// What is spoken by a listener, and where it goes.
fn compile_protocol(
    config: &Config,
    listener: &config::listener::Listener,
    pools: &HashMap<&PoolName, usize>,
) -> listener::Protocol {
    let place = |name: &PoolName| pools.get(name).copied().unwrap_or_default();
    match &listener.protocol {
        config::listener::Protocol::Http => compile_http(config, listener),
        config::listener::Protocol::Tcp { pool } => listener::Protocol::Tcp {
            pool: pool.as_ref().map(place),
            sni: compile_sni(config, listener, pools).map(Box::new),
            when_empty: match listener.when_empty {
                config::listener::WhenEmpty::Reset => listener::WhenEmpty::Reset,
                config::listener::WhenEmpty::Hold { time, max } => listener::WhenEmpty::Hold { time, max },
                config::listener::WhenEmpty::StopListening => listener::WhenEmpty::StopListening,
            },
        },
        config::listener::Protocol::Udp { pool } => listener::Protocol::Udp {
            pool: place(pool),
            rules: listener::SessionRules {
                idle: listener.timeouts.udp_idle,
                datagram_max: listener.limits.udp_datagram.as_usize(),
                answers: NonZero::new(listener.limits.udp_answers),
            },
        },
    }
}

fn http2(limits: &config::listener::Http2Limits) -> Http2Limits {
    let window = |size: ByteSize| u32::try_from(size.as_usize()).unwrap_or(u32::MAX >> 1);
    Http2Limits {
        streams: limits.streams,
        stream_window: window(limits.stream_window),
        connection_window: window(limits.connection_window),
        send_buffer: limits.send_buffer.as_usize(),
        continuations: limits.continuations,
        rates: [
            limits.resets,
            limits.faults,
            limits.pings,
            limits.settings,
            limits.priorities,
            limits.window_updates,
            limits.empty_frames,
        ],
    }
}

/// Where names lead; nothing where nothing goes by one, so that nobody waits for it.
fn compile_sni(
    config: &Config,
    listener: &config::listener::Listener,
    pools: &HashMap<&PoolName, usize>,
) -> Option<SniRoutes> {
    let config::listener::Protocol::Tcp { pool } = &listener.protocol else { return None };
    let hashed = |name: &PoolName| {
        let pool = pools.get(name).and_then(|&index| config.pools.get(index));
        pool.is_some_and(|pool| pool.balance.hashes() && pool.hash_key == config::pool::HashKey::Sni)
    };
    let places = config.sni_routes.iter().enumerate();
    let routes: Vec<_> = places.filter(|(_, route)| route.listeners.contains(&listener.name)).collect();
    // Under TLS of its own the listener learns the name from the handshake.
    if routes.is_empty() && (listener.tls.is_some() || !pool.as_ref().is_some_and(hashed)) {
        return None;
    }
    let names = routes.into_iter().flat_map(|(at, route)| {
        let passthrough = match route.tls {
            Some(handling) => handling == config::sni::Handling::Passthrough,
            None => listener.tls.is_none(),
        };
        let pool = pools.get(&route.pool).copied().unwrap_or_default();
        // They come behind the routes of requests.
        let target = SniTarget { route: config.routes.len() + at, pool, passthrough };
        route.sni.iter().map(move |name| (name.clone(), target))
    });
    Some(SniRoutes { table: SniTable::new(names), hello_max: listener.limits.client_hello.as_usize() })
}

fn compile_http(config: &Config, listener: &config::listener::Listener) -> listener::Protocol {
    let serves =
        |r: &&config::route::Route| r.rule.listeners.is_empty() || r.rule.listeners.contains(&listener.name);
    let (routes, rules) =
        config.routes.iter().enumerate().filter(|(_, r)| serves(r)).map(|(i, r)| (i, r.rule.clone())).unzip();
    listener::Protocol::Http { table: Box::new(Table::new(rules)), routes }
}
