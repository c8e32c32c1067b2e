//! Lints of probes: whether they are there, how soon they notice, and whether they ask what matters.

use std::time::Duration;

use super::scene::Scene;
use super::{Found, seconds};
use crate::config::Config;
use crate::config::health::{Check, Health, HttpCheck};
use crate::config::pool::{Endpoint, Pool};
use crate::model::address::EndpointAddress;
use crate::model::units::format_duration;
use crate::policy::health::bounds::Bounds;

/// What an answer or a refusal is taken to need; one that needs longer is noticed so much later.
pub const ANSWER: Duration = Duration::from_millis(100);

pub(super) fn look(scene: &Scene<'_>, found: &mut Found) {
    for pool in &scene.config.pools {
        if let Some(objective) = scene.config.check.objective {
            late(pool, objective, found);
        }
        let Some(health) = &pool.health else { continue };
        asks_too_little(scene, pool, health, found);
        takes_redirects(pool, health, found);
        beside_traffic(pool, health, found);
        role(scene, pool, health, found);
    }
}

/// The pools that at worst need longer than `limit` until a dead endpoint is noticed, one a line.
#[must_use]
pub fn too_late(config: &Config, limit: Duration) -> Vec<String> {
    let mut found = Found::default();
    for pool in &config.pools {
        late(pool, limit, &mut found);
    }
    found.0.into_iter().map(|raw| raw.what).collect()
}

fn late(pool: &Pool, limit: Duration, found: &mut Found) {
    let name = &pool.name;
    let Some(health) = &pool.health else {
        let what =
            format!("pool {name} has no probes: nothing bounds how long a dead endpoint goes unnoticed");
        return found.pool("L002", name, &["health"], what);
    };
    let bounds = Bounds::new(&health.settings, ANSWER);
    let worst = bounds.refused.max(bounds.silent);
    if worst > limit {
        let (worst, limit) = (seconds(worst), format_duration(limit));
        let what = format!("pool {name} needs up to {worst} to notice a dead endpoint, more than {limit}");
        found.pool("L001", name, &["health", "interval"], what);
    }
}

/// What is better asked at a well-known port.
const KNOWN_PORTS: [(u16, &str); 14] = [
    (80, "check = \"http\""),
    (8000, "check = \"http\""),
    (8080, "check = \"http\""),
    (8081, "check = \"http\""),
    (8888, "check = \"http\""),
    (9090, "check = \"http\""),
    (443, "check = \"http\" with tls, or \"tls\""),
    (8443, "check = \"http\" with tls, or \"tls\""),
    (6443, "preset = \"kube-apiserver\""),
    (2379, "preset = \"etcd\""),
    (5432, "check = \"postgres\""),
    (3306, "check = \"mysql\""),
    (6379, "check = \"redis\""),
    (5672, "preset = \"rabbitmq\""),
];

fn asks_too_little(scene: &Scene<'_>, pool: &Pool, health: &Health, found: &mut Found) {
    let Check::Tcp { expect: None, tls, .. } = &health.check else { return };
    let name = &pool.name;
    if scene.serves_http(pool) {
        let better = if tls.is_some() || pool.tls.is_some() { " with tls" } else { "" };
        let what = format!(
            "pool {name} serves requests, and its probes only ask whether a port is open, which it stays while the \
             server behind it hangs: write check = \"http\"{better} and a path"
        );
        return found.pool("L009", name, &["health", "check"], what);
    }
    let known = |endpoint: &Endpoint| {
        let port = probed_port(endpoint, health)?;
        KNOWN_PORTS.iter().find(|(known, _)| *known == port)
    };
    if tls.is_none()
        && scene.serves_tcp_alone(pool)
        && let Some((port, better)) = pool.endpoints.iter().find_map(known)
    {
        let what = format!(
            "pool {name}: probes only ask whether port {port} is open, which it stays while the server behind it \
             hangs: write {better}"
        );
        found.pool("L009", name, &["health", "check"], what);
    }
}

/// The port that an endpoint is asked at, where it is known before names are.
fn probed_port(endpoint: &Endpoint, health: &Health) -> Option<u16> {
    endpoint.health.port.or(health.port).or_else(|| traffic_port(endpoint))
}

/// The port that an endpoint serves at.
pub(super) fn traffic_port(endpoint: &Endpoint) -> Option<u16> {
    match &endpoint.address {
        EndpointAddress::Ip(address) => Some(address.port()),
        EndpointAddress::Host { port, .. } => Some(*port),
        EndpointAddress::Unix(_) | EndpointAddress::Service(_) => None,
    }
}

/// Redirects, of which clients follow each elsewhere; 304 is an answer.
const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];

fn takes_redirects(pool: &Pool, health: &Health, found: &mut Found) {
    let Check::Http(HttpCheck { expect_status, path, .. }) = &health.check else { return };
    let takes = |status: &u16| expect_status.iter().any(|(first, last)| (first..=last).contains(&status));
    if let Some(status) = REDIRECTS.iter().find(|status| takes(status)) {
        let what = format!(
            "pool {}: probes of {path} take {status} and other redirects for a good answer: one to a log-in, to another host \
             or to https says nothing of the endpoint",
            pool.name
        );
        found.pool("L011", &pool.name, &["health", "expect_status"], what);
    }
}

fn beside_traffic(pool: &Pool, health: &Health, found: &mut Found) {
    // An exclusive pool asks the port that serves by itself before it keeps a leader.
    if pool.outlier.is_some()
        || pool.exclusive.is_some()
        || matches!(health.check, Check::Exec { .. } | Check::Agent { .. })
    {
        return;
    }
    let beside = |endpoint: &&Endpoint| {
        let ports = traffic_port(endpoint).zip(probed_port(endpoint, health));
        endpoint.health.address.is_some() || ports.is_some_and(|(serves, probed)| serves != probed)
    };
    if let Some(endpoint) = pool.endpoints.iter().find(beside) {
        let what = format!(
            "pool {}: probes do not ask the port at which {} serves, and passive ejection is off: an endpoint whose \
             service alone is dead gets traffic for ever",
            pool.name, endpoint.name
        );
        found.pool("L012", &pool.name, &["health", "port"], what);
    }
}

/// The last part of paths by which systems say that they are the primary (Patroni's API, and what follows it).
const ROLES: [&str; 5] = ["primary", "master", "leader", "read-write", "standby-leader"];

fn role(scene: &Scene<'_>, pool: &Pool, health: &Health, found: &mut Found) {
    let asks = match &health.check {
        Check::Http(HttpCheck { path, .. }) => {
            let path = path.split('?').next().unwrap_or_default();
            path.rsplit('/').next().is_some_and(|last| ROLES.contains(&last))
        }
        Check::Redis { primary, .. } => *primary,
        _ => false,
    };
    if asks && pool.exclusive.is_none() && health.on_demotion.is_none() && scene.serves_tcp_alone(pool) {
        let what = format!(
            "pool {}: probes ask who is the primary, and connections stay with an endpoint that is it no more",
            pool.name
        );
        found.pool("L013", &pool.name, &["health", "on_demotion"], what);
    }
}
