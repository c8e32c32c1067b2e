//! What lints look at: the configuration, the machine, and who reaches which pool.

use std::collections::HashMap;

use super::Machine;
use crate::config::Config;
use crate::config::listener::{Listener, Protocol};
use crate::config::pool::Pool;
use crate::config::route::{Action, Route};
use crate::model::name::{ListenerName, PoolName};

/// A configuration, and what follows from all of it.
pub(super) struct Scene<'a> {
    pub(super) config: &'a Config,
    pub(super) machine: &'a Machine,
    uses: HashMap<&'a PoolName, Use>,
    pools: HashMap<&'a PoolName, &'a Pool>,
    listeners: HashMap<&'a ListenerName, &'a Listener>,
    http: Vec<&'a Listener>,
}

/// How a pool is reached, failover included.
#[derive(Debug, Clone, Default)]
pub(super) struct Use {
    /// By requests.
    pub(super) http: bool,
    /// By connections.
    pub(super) tcp: bool,
    /// By datagrams.
    pub(super) udp: bool,
    /// Routes and listeners that send it something, by their places in the configuration.
    pub(super) routes: Vec<usize>,
    pub(super) listeners: Vec<usize>,
}

impl Use {
    /// Whether anything goes there.
    pub(super) const fn is_some(&self) -> bool {
        self.http || self.tcp || self.udp
    }
}

impl<'a> Scene<'a> {
    pub(super) fn of(config: &'a Config, machine: &'a Machine) -> Self {
        let mut uses: HashMap<&PoolName, Use> = HashMap::new();
        for (at, route) in config.routes.iter().enumerate() {
            for pool in pools_of(route) {
                let used = uses.entry(pool).or_default();
                used.http = true;
                used.routes.push(at);
            }
        }
        for (at, listener) in config.listeners.iter().enumerate() {
            match &listener.protocol {
                Protocol::Tcp { pool: Some(pool) } => {
                    let used = uses.entry(pool).or_default();
                    used.tcp = true;
                    used.listeners.push(at);
                }
                Protocol::Udp { pool } => {
                    let used = uses.entry(pool).or_default();
                    used.udp = true;
                    used.listeners.push(at);
                }
                Protocol::Http | Protocol::Tcp { pool: None } => {}
            }
        }
        let places: HashMap<&ListenerName, usize> =
            config.listeners.iter().enumerate().map(|(at, listener)| (&listener.name, at)).collect();
        for route in &config.sni_routes {
            let used = uses.entry(&route.pool).or_default();
            used.tcp = true;
            used.listeners.extend(route.listeners.iter().filter_map(|name| places.get(name)));
        }
        inherit(config, &mut uses);
        Self {
            config,
            machine,
            uses,
            pools: config.pools.iter().map(|pool| (&pool.name, pool)).collect(),
            listeners: config.listeners.iter().map(|listener| (&listener.name, listener)).collect(),
            http: config.listeners.iter().filter(|listener| listener.protocol == Protocol::Http).collect(),
        }
    }

    /// The pool that a route sends requests to first.
    pub(super) fn pool_of(&self, route: &Route) -> Option<&'a Pool> {
        pools_of(route).next().and_then(|name| self.pools.get(name).copied())
    }

    /// How a pool is reached.
    pub(super) fn use_of(&self, pool: &Pool) -> Use {
        self.uses.get(&pool.name).cloned().unwrap_or_default()
    }

    /// Whether requests come to a pool.
    pub(super) fn serves_http(&self, pool: &Pool) -> bool {
        self.uses.get(&pool.name).is_some_and(|used| used.http)
    }

    /// Whether connections come to a pool, and no requests.
    pub(super) fn serves_tcp_alone(&self, pool: &Pool) -> bool {
        self.uses.get(&pool.name).is_some_and(|used| used.tcp && !used.http)
    }

    /// The listeners that a route serves.
    pub(super) fn listeners_of(&self, route: &'a Route) -> Vec<&'a Listener> {
        if route.rule.listeners.is_empty() {
            return self.http.clone();
        }
        route.rule.listeners.iter().filter_map(|name| self.listeners.get(name).copied()).collect()
    }
}

/// The pools that a route sends requests to.
fn pools_of(route: &Route) -> impl Iterator<Item = &PoolName> {
    let (one, parts) = match &route.action {
        Action::Pool(pool) => (Some(pool), &[][..]),
        Action::Split { parts, .. } => (None, parts.as_slice()),
        Action::Redirect { .. } | Action::Respond(_) | Action::Health(_) => (None, &[][..]),
    };
    one.into_iter().chain(parts.iter().map(|(pool, _)| pool)).chain(route.treatment.pools())
}

/// What comes to a pool may come to those that it fails over to.
fn inherit<'a>(config: &'a Config, uses: &mut HashMap<&'a PoolName, Use>) {
    let pools: HashMap<&PoolName, &Pool> = config.pools.iter().map(|pool| (&pool.name, pool)).collect();
    let mut left: Vec<&PoolName> = config.pools.iter().map(|pool| &pool.name).collect();
    while let Some(name) = left.pop() {
        let Some(pool) = pools.get(name).filter(|pool| !pool.failover_pools.is_empty()) else { continue };
        let Some(own) = uses.get(name).cloned() else { continue };
        for next in &pool.failover_pools {
            let used = uses.entry(next).or_default();
            // Only protocols are handed on: what a route says of its pool it says of no other.
            if (own.http && !used.http) || (own.tcp && !used.tcp) || (own.udp && !used.udp) {
                used.http |= own.http;
                used.tcp |= own.tcp;
                used.udp |= own.udp;
                left.push(next);
            }
        }
    }
}
