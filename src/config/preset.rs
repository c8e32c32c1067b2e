//! What known systems need, as the keys that an operator would write.

use super::diagnostic::Report;
use super::source::Span;
use super::tables::POOL;
use super::tree;
use super::value::Fields;
use super::walk;

/// A system, and what a pool of it needs.
struct Preset {
    name: &'static str,
    keys: &'static str,
    /// Whether its probe is of no use without a file of certificates that only the operator knows.
    needs_ca: bool,
}

/// Every preset. Sources: the projects' own documentation of health endpoints and load balancers.
static PRESETS: [Preset; 7] = [
    Preset { name: "kube-apiserver", keys: KUBE_APISERVER, needs_ca: true },
    Preset { name: "patroni-primary", keys: PATRONI_PRIMARY, needs_ca: false },
    Preset { name: "patroni-replica", keys: PATRONI_REPLICA, needs_ca: false },
    Preset { name: "traefik", keys: TRAEFIK, needs_ca: false },
    Preset { name: "rabbitmq", keys: RABBITMQ, needs_ca: false },
    Preset { name: "redis-primary", keys: REDIS_PRIMARY, needs_ca: false },
    Preset { name: "etcd", keys: ETCD, needs_ca: true },
];

// /readyz fails at once when the server is told to stop, while it serves on for --shutdown-delay-duration: live
// connections stay (on_demotion), new ones go elsewhere. /livez and /healthz would not tell. Watches are quiet for
// long. Before the first `kubeadm init` nothing is ready and something must still be let through: fail_open.
const KUBE_APISERVER: &str = r#"
balance = "least_requests"
fail_open = true
[health]
check = "http"
path = "/readyz"
expect_status = ["200"]
tls = { server_name = "kubernetes" }
[timeouts]
tunnel = "1h"
"#;

// The REST API says 200 on /primary for the one that has the leader lock. The ceiling is that of Patroni's own template
// for HAProxy, which is PostgreSQL's default of max_connections.
const PATRONI_PRIMARY: &str = r#"
exclusive = true
exclusive_rank = { json = "timeline" }
fail_open = false
[health]
check = "http"
path = "/primary"
port = 8008
expect_status = ["200"]
interval = "1s"
[limits]
max_connections = 100
[timeouts]
connect = "4s"
tunnel = "1h"
"#;

// A node that is no replica (any more) may well be the primary, and stays out; reads of no replica at all are for a
// failover pool to take.
const PATRONI_REPLICA: &str = r#"
balance = "least_requests"
fail_open = false
[health]
check = "http"
path = "/replica"
port = 8008
expect_status = ["200"]
interval = "1s"
[limits]
max_connections = 100
[timeouts]
connect = "4s"
tunnel = "1h"
"#;

// --ping answers on the entry point `traefik`, 8080 by default, and says 503 while it ends.
const TRAEFIK: &str = r#"
balance = "least_requests"
[health]
check = "http"
path = "/ping"
port = 8080
expect_status = ["200"]
"#;

// The protocol header of AMQP 0-9-1 and the start of Connection.Start, which a node sends once it serves; a bare
// connect would fill its log. Three hours of silence are more than any heartbeat.
const RABBITMQ: &str = r#"
balance = "least_requests"
[health]
check = "tcp"
send = "AMQP\u0000\u0000\u0009\u0001"
expect = { regex = '(?s-u)^\x01\x00\x00.{4}\x00\x0a\x00\x0a' }
interval = "5s"
[timeouts]
connect = "4s"
tunnel = "3h"
"#;

// ROLE names the primary; two that claim it are told apart by who was promoted last.
const REDIS_PRIMARY: &str = r#"
exclusive = true
fail_open = false
[health]
check = "redis"
role = "primary"
interval = "1s"
"#;

// A member without a leader says 503 on /health; it asks for a client certificate where --client-cert-auth is on.
const ETCD: &str = r#"
balance = "least_requests"
[health]
check = "http"
path = "/health"
expect_status = ["200"]
expect_body = '"health" *: *"true"'
tls = {}
[timeouts]
tunnel = "1h"
"#;

/// The keys of a preset, as if they stood where it is named.
pub(super) fn fields(name: &str, span: Span) -> Option<Fields> {
    let preset = PRESETS.iter().find(|preset| preset.name == name)?;
    let table = tree::parse(0, preset.keys, &|_| None, &mut Report::default())?;
    let mut fields = walk::read_part(&table, &POOL)?;
    fields.place_at(span);
    Some(fields)
}

/// Reports what a preset cannot know and the operator has not written.
pub(super) fn check(pool: &str, fields: &Fields, report: &mut Report) {
    let Some(name) = fields.get::<&'static str>("preset") else { return };
    let needs_ca = PRESETS.iter().any(|preset| preset.name == name && preset.needs_ca);
    let tls = fields.table("health").and_then(|health| health.table("tls"));
    let says = |tls: &Fields| tls.has("ca") || tls.has("verify");
    if let (true, Some(tls)) = (needs_ca, tls)
        && !says(&tls)
        && !fields.table("tls").is_some_and(|of_pool| says(&of_pool))
    {
        let message =
            format!("preset = \"{name}\" needs `ca`, the certificates that its servers are verified by");
        let help = format!("add [pool.{pool}.health.tls] with ca = \"{}\"", example(name));
        report.error(fields.span_of("preset"), message, help);
    }
}

fn example(preset: &str) -> &'static str {
    if preset == "etcd" { "/etc/kubernetes/pki/etcd/ca.crt" } else { "/etc/kubernetes/pki/ca.crt" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_valid() {
        let span = Span { file: 1, start: 2, end: 3 };
        for preset in &PRESETS {
            let fields = fields(preset.name, span);
            assert!(fields.as_ref().is_some_and(|fields| fields.has("health")), "{}", preset.name);
            assert_eq!(fields.map(|fields| fields.span_of("health")), Some(span));
        }
    }
}
