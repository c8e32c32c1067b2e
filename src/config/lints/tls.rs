//! Lints of TLS: who is not verified, what expires, and where it is missing.

use super::Found;
use super::probes::traffic_port;
use super::scene::Scene;
use crate::config::pool::Pool;
use crate::config::tls::certificate::SOON;

pub(super) fn look(scene: &Scene<'_>, found: &mut Found) {
    for pool in &scene.config.pools {
        unverified(pool, found);
        in_the_clear(scene, pool, found);
    }
    expiring(scene, found);
}

/// The pools whose traffic or probes believe anybody, with the reason that is written.
fn unverified(pool: &Pool, found: &mut Found) {
    let name = &pool.name;
    if let Some(why) = pool.tls.as_ref().and_then(|tls| tls.client.verify_off.as_ref()) {
        let what = format!("pool {name}: its endpoints are not verified: {why}");
        found.pool("L004", name, &["tls", "verify"], what);
    }
    if let Some(why) = pool.health.as_ref().and_then(|health| health.check.tls()?.verify_off.as_ref()) {
        let what = format!("pool {name}: its probes do not verify whom they ask: {why}");
        found.pool("L004", name, &["health", "tls", "verify"], what);
    }
}

/// Ports on which HTTP is spoken behind TLS and nothing else is.
const TLS_PORTS: [u16; 3] = [443, 8443, 6443];

fn in_the_clear(scene: &Scene<'_>, pool: &Pool, found: &mut Found) {
    if pool.tls.is_some() || !scene.serves_http(pool) {
        return;
    }
    let speaks = |port: &u16| TLS_PORTS.contains(port);
    if let Some(port) = pool.endpoints.iter().filter_map(traffic_port).find(speaks) {
        let what =
            format!("pool {} sends requests in the clear to port {port}, where TLS is spoken", pool.name);
        found.pool("L030", &pool.name, &["tls"], what);
    }
}

/// Certificates of listeners that have expired, are not valid yet, or expire soon.
fn expiring(scene: &Scene<'_>, found: &mut Found) {
    let now = scene.machine.now;
    for listener in &scene.config.listeners {
        for certificate in listener.tls.iter().flat_map(|tls| &tls.certificates) {
            let path = &certificate.identity.cert;
            // What cannot be read is an error, and said as one.
            let Some(facts) = certificate.facts() else { continue };
            let what = match (facts.expires.duration_since(now), now.duration_since(facts.begins)) {
                (_, Err(_)) => "is not valid yet".to_owned(),
                (Err(_), _) => "has expired".to_owned(),
                (Ok(left), _) if left <= SOON => format!("expires in {} days", left.as_secs() / (24 * 3600)),
                _ => continue,
            };
            let what = format!("listener {}: {} {what}", listener.name, path.display());
            found.listener("L008", &listener.name, &["tls", "certificates"], what);
        }
    }
}
