//! Lints of who is believed and who may get in: proxies before us, the admin API, passwords, keys of limits.

use ipnet::IpNet;

use super::Found;
use super::scene::Scene;
use crate::config::listener::{Listener, Protocol};
use crate::config::pool::{HashKey, Pool};
use crate::config::process::AdminBind;
use crate::config::route::Route;
use crate::config::sticky::By;
use crate::model::limit_key::LimitPart;
use crate::policy::identity::NamedIn;

pub(super) fn look(scene: &Scene<'_>, found: &mut Found) {
    admin(scene, found);
    for listener in &scene.config.listeners {
        nobody(listener, found);
        everybody(listener, found);
        sources(listener, found);
    }
    for route in &scene.config.routes {
        spoofable(scene, route, found);
        passwords(scene, route, found);
        if route.treatment.forward_auth.as_ref().is_some_and(|auth| auth.allow_on_error) {
            let what = format!(
                "route {}: whoever comes while the service of forward_auth does not answer is let in",
                route.rule.name
            );
            found.route("L029", &route.rule.name, &["forward_auth", "on_error"], what);
        }
        limits_by_proxy(scene, route, found);
    }
    for pool in &scene.config.pools {
        kept_by_proxy(scene, pool, found);
    }
}

fn admin(scene: &Scene<'_>, found: &mut Found) {
    if let AdminBind::Tcp(address) = &scene.config.admin.bind
        && !address.ip().to_canonical().is_loopback()
    {
        let what =
            format!("the admin API at {address} has no TLS: its tokens cross the network in the clear");
        found.section("L005", "admin", &["bind"], what);
    }
}

fn nobody(listener: &Listener, found: &mut Found) {
    if listener.accept_proxy_protocol && listener.identity.trusted.is_empty() {
        let what = format!(
            "listener {}: accept_proxy_protocol does nothing while trusted_proxies is empty: no peer's header is taken",
            listener.name
        );
        found.listener("L010", &listener.name, &["accept_proxy_protocol"], what);
    }
}

/// Whether others than this machine can connect.
fn is_open(listener: &Listener) -> bool {
    listener.bind.iter().filter_map(|address| address.ip()).any(|ip| !ip.ip().to_canonical().is_loopback())
}

fn everybody(listener: &Listener, found: &mut Found) {
    let all = |network: &&IpNet| network.prefix_len() == 0;
    let believes = listener.protocol == Protocol::Http || listener.accept_proxy_protocol;
    let kept_out =
        !listener.allow.is_empty() && listener.allow.iter().all(|network| network.prefix_len() > 0);
    if let Some(network) = listener.identity.trusted.iter().find(all)
        && believes
        && is_open(listener)
        && !kept_out
    {
        let what = format!(
            "listener {}: trusted_proxies has {network}, so that every client can say who it is and be believed",
            listener.name
        );
        found.listener("L026", &listener.name, &["trusted_proxies"], what);
    }
}

/// Networks of a content delivery network, whose clients are never the peers (Cloudflare's published list; as far as needed to
/// know that a listener stands behind it).
const DELIVERY: [&str; 15] = [
    "173.245.48.0/20",
    "103.21.244.0/22",
    "103.22.200.0/22",
    "103.31.4.0/22",
    "141.101.64.0/18",
    "108.162.192.0/18",
    "190.93.240.0/20",
    "188.114.96.0/20",
    "197.234.240.0/22",
    "198.41.128.0/17",
    "162.158.0.0/15",
    "104.16.0.0/13",
    "104.24.0.0/14",
    "172.64.0.0/13",
    "131.0.72.0/22",
];

/// Why every client of a listener has the address of a proxy, where that can be seen.
fn why_proxies(listener: &Listener) -> Option<String> {
    let name = &listener.name;
    if listener.identity.trusted.is_empty() {
        if listener.identity.named_in != NamedIn::XForwardedFor {
            let word = listener.identity.named_in.word();
            return Some(format!(
                "listener {name} takes clients from {word} and believes nobody (trusted_proxies is empty)"
            ));
        }
        let delivery = || DELIVERY.iter().filter_map(|text| text.parse::<IpNet>().ok());
        let behind = listener.allow.iter().find(|network| delivery().any(|one| one.contains(*network)));
        return behind.map(|network| {
            format!("listener {name} lets in {network}, which is a content delivery network, and believes nobody (trusted_proxies is empty)")
        });
    }
    let sees_bytes = listener.protocol != Protocol::Http && !listener.accept_proxy_protocol;
    sees_bytes.then(|| {
        format!(
            "listener {name} names trusted_proxies, which say nothing to it without accept_proxy_protocol"
        )
    })
}

/// A ceiling for each source counts connections, and a proxy has all of them.
fn sources(listener: &Listener, found: &mut Found) {
    if listener.max_connections_per_source == 0 {
        return;
    }
    let http = listener.protocol == Protocol::Http
        && !listener.identity.trusted.is_empty()
        && !listener.accept_proxy_protocol;
    let why = if http {
        Some(format!("listener {} has its connections from the proxies in trusted_proxies", listener.name))
    } else {
        why_proxies(listener)
    };
    if let Some(why) = why {
        let what =
            format!("{why}, and max_connections_per_source holds all clients of such a proxy to one number");
        found.listener("L019", &listener.name, &["max_connections_per_source"], what);
    }
}

fn limits_by_proxy(scene: &Scene<'_>, route: &Route, found: &mut Found) {
    let rates = route.limits.rates.iter().map(|rate| &rate.key);
    let mut keys = rates.chain(route.limits.concurrency.iter().map(|limit| &limit.key));
    if !keys.any(|key| key.parts.contains(&LimitPart::Source)) {
        return;
    }
    if let Some(why) = scene.listeners_of(route).into_iter().find_map(why_proxies) {
        let what =
            format!("route {}: {why}: all clients of a proxy share one limit by source", route.rule.name);
        found.route("L019", &route.rule.name, &["rate_limit"], what);
    }
}

fn kept_by_proxy(scene: &Scene<'_>, pool: &Pool, found: &mut Found) {
    let sticky =
        pool.sticky.as_ref().is_some_and(|one| matches!(&one.by, By::Table { key: HashKey::Source, .. }));
    let hashed = pool.balance.hashes() && pool.hash_key == HashKey::Source;
    if !sticky && !hashed {
        return;
    }
    let used = scene.use_of(pool);
    let through = used.listeners.iter().filter_map(|at| scene.config.listeners.get(*at));
    let routes = used.routes.iter().filter_map(|at| scene.config.routes.get(*at));
    let by_routes = routes.flat_map(|route| scene.listeners_of(route));
    if let Some(why) = through.chain(by_routes).find_map(why_proxies) {
        let (how, keys): (_, &[&str]) = if sticky {
            ("sticky by source", &["sticky", "table"])
        } else {
            ("hashed by source", &["hash_key"])
        };
        let what = format!(
            "pool {} is {how}, but {why}: all clients of a proxy go to one endpoint, or move when the proxy's address does",
            pool.name
        );
        found.pool("L019", &pool.name, keys, what);
    }
}

/// Fields by which proxies name the client, and which any client can write.
const NAMING: [&str; 8] = [
    "x-forwarded-for",
    "x-real-ip",
    "forwarded",
    "cf-connecting-ip",
    "true-client-ip",
    "x-client-ip",
    "x-forwarded-host",
    "user-agent",
];

fn spoofable(scene: &Scene<'_>, route: &Route, found: &mut Found) {
    if route.limits.is_empty() {
        return;
    }
    // Where only some may connect, they may be the ones who write it.
    let open = |listener: &&Listener| listener.allow.is_empty() && is_open(listener);
    if !scene.listeners_of(route).iter().any(open) {
        return;
    }
    let rates = route.limits.rates.iter().map(|rate| (&rate.key, &["rate_limit", "key"]));
    let concurrency =
        route.limits.concurrency.iter().map(|limit| (&limit.key, &["concurrency_limit", "key"]));
    let all = rates.chain(concurrency);
    for (key, keys) in all {
        let named = key.parts.iter().find_map(|part| match part {
            LimitPart::Header(name) => NAMING.iter().find(|known| name.matches(known.as_bytes())),
            _ => None,
        });
        if let Some(name) = named {
            let what = format!(
                "route {}: a limit goes by {name}, which every client can write anew in each request",
                route.rule.name
            );
            found.route("L027", &route.rule.name, keys, what);
        }
    }
}

fn passwords(scene: &Scene<'_>, route: &Route, found: &mut Found) {
    if route.treatment.basic_auth.is_none() {
        return;
    }
    // Behind a proxy it may be that one that speaks TLS.
    let clear = |one: &&Listener| one.tls.is_none() && is_open(one) && one.identity.trusted.is_empty();
    if let Some(listener) = scene.listeners_of(route).into_iter().find(|one| clear(one)) {
        let what = format!(
            "route {}: passwords of basic_auth cross the network in the clear at listener {}, which has no TLS",
            route.rule.name, listener.name
        );
        found.route("L028", &route.rule.name, &["basic_auth"], what);
    }
}
