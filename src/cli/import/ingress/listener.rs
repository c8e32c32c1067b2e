//! The listeners of Ingresses: one for HTTP, one for HTTPS, and those of ports that are relayed.

use super::super::document::{Block, Document, Table, Value};
use super::super::region::Door;
use super::super::report::{Place, Report};
use super::controller::Controller;
use super::host::{Certificate, Host};
use super::location::certificates;
use super::object::Cluster;
use super::pool::Pools;
use super::secret;

/// What a socket between two of our own listeners is called.
const INSIDE: &str = "unix:/run/plimsoll/https.sock";

/// The doors of Ingresses, HTTP first; HTTPS only where it is asked for.
pub(super) fn doors(tls: bool) -> Vec<Door> {
    let http = Door { listener: "http".to_owned(), tls: false, ports: vec![80] };
    let https = Door { listener: "https".to_owned(), tls: true, ports: vec![443] };
    if tls { vec![http, https] } else { vec![http] }
}

fn addresses(port: u16) -> Value {
    Value::texts([format!("0.0.0.0:{port}"), format!("[::]:{port}")])
}

/// The authority that all clients over TLS must have a certificate of; nothing where hosts differ.
pub(super) fn authority(hosts: &[Host]) -> Option<String> {
    let mut all = hosts.iter().filter(|host| host.certificate.is_some() || host.client_tls.is_some());
    let first = all.next()?.client_tls.as_ref()?;
    all.all(|host| {
        host.client_tls
            .as_ref()
            .is_some_and(|tls| tls.authority == first.authority && tls.optional == first.optional)
    })
    .then(|| first.authority.clone())
}

/// Writes the listeners for HTTP and HTTPS.
pub(super) fn write(
    hosts: &[Host],
    doors: &[Door],
    controller: &Controller,
    cluster: &Cluster<'_>,
    document: &mut Document,
    report: &mut Report,
) {
    let passed = hosts.iter().any(|host| host.passthrough.is_some());
    for door in doors {
        let mut table = Table::default();
        let inside = door.tls && passed;
        if inside {
            table.set("bind", Value::texts([INSIDE]), None);
        } else {
            table.set("bind", addresses(door.ports.first().copied().unwrap_or(80)), None);
        }
        controller.write_listener(&mut table);
        if inside {
            table.set("trusted_proxies", Value::texts(["unix:"]), None);
            table.set("accept_proxy_protocol", Value::Bool(true), None);
        }
        if door.tls {
            write_certificates(hosts, cluster, &mut table, report);
            controller.write_tls(&mut table);
            write_clients(hosts, &mut table);
        }
        document.listeners.push(Block { name: door.listener.clone(), comments: Vec::new(), table });
    }
}

fn write_certificates(hosts: &[Host], cluster: &Cluster<'_>, table: &mut Table, report: &mut Report) {
    let mut lines = Vec::new();
    for (certificate, names) in certificates(hosts) {
        let pair =
            |cert: &str, key: &str| Value::inline([("cert", Value::text(cert)), ("key", Value::text(key))]);
        match certificate {
            Certificate::Secret { namespace, name, at } => {
                let (cert, key) = secret::tell_certificate(cluster, &namespace, &name, at, report);
                lines.push((pair(&cert, &key), Some(at)));
            }
            Certificate::Default(at) => {
                report.approximated(at, format!("there is no Secret for {}: the controller has a certificate of its own, for which secrets/default.crt and .key stand here; one of the others goes before it where it has the name", names.join(", ")));
                lines.push((pair("secrets/default.crt", "secrets/default.key"), Some(at)));
            }
        }
    }
    if lines.is_empty() {
        report.general("nobody names a certificate, and still clients are sent to HTTPS: the controller has one of its own, for which secrets/default.crt and .key stand here.");
        let pair =
            [("cert", Value::text("secrets/default.crt")), ("key", Value::text("secrets/default.key"))];
        lines.push((Value::inline(pair), None));
    }
    table.set("tls.certificates", Value::Lines(lines), None);
}

fn write_clients(hosts: &[Host], table: &mut Table) {
    let Some(authority) = authority(hosts) else { return };
    let first = hosts.iter().find_map(|host| host.client_tls.as_ref());
    let at = first.map(|first| first.at);
    table.set("tls.client_ca", Value::text(authority), at);
    let word = if first.is_some_and(|first| first.optional) { "request" } else { "require" };
    table.set("tls.client_auth", Value::text(word), at);
    table.set("tls.client_headers", Value::Bool(true), at);
}

/// Hosts whose TLS goes through: a listener in front, which hands the others to the one for HTTPS.
pub(super) fn write_passthrough(
    hosts: &[Host],
    targets: &[(String, Vec<String>, String, Place)],
    doors: &[Door],
    document: &mut Document,
) {
    let tls = doors.iter().any(|door| door.tls);
    if hosts.iter().all(|host| host.passthrough.is_none()) || targets.is_empty() && !tls {
        return;
    }
    let mut table = Table::default();
    table.set("bind", addresses(443), None);
    table.set("protocol", Value::text("tcp"), None);
    if tls {
        table.set("pool", Value::text("https"), None);
        let mut inside = Table::default();
        inside.set("endpoints", Value::texts([INSIDE]), None);
        inside.set("send_proxy", Value::text("v2"), None);
        let comments = vec!["the listener https, for names whose TLS ends here".to_owned()];
        document.pools.push(Block { name: "https".to_owned(), comments, table: inside });
    }
    document.listeners.push(Block { name: "tls-names".to_owned(), comments: Vec::new(), table });
    for (name, names, pool, at) in targets {
        let mut table = Table::default();
        table.set("name", Value::text(name), None);
        table.set("listeners", Value::texts(["tls-names"]), None);
        table.set("sni", Value::one_or_list(names), Some(*at));
        table.set("pool", Value::text(pool), None);
        table.set("tls", Value::text("passthrough"), Some(*at));
        document.routes.push(Block { name: String::new(), comments: Vec::new(), table });
    }
}

/// Ports that are relayed without HTTP.
pub(super) fn write_relays(
    controller: &Controller,
    pools: &mut Pools<'_, '_>,
    document: &mut Document,
    report: &mut Report,
) {
    for relay in &controller.relays {
        let send = relay.send_proxy;
        let kind = if send { "relay proxy" } else { "relay" };
        let pool = pools.of_service(&relay.to, kind, relay.at, report, |made, _| {
            made.table.set("balance", Value::text("round_robin"), None);
            made.table.set("timeouts.connect", Value::text("5s"), None);
            made.table.set("timeouts.tunnel", Value::text("10m"), None);
            if send {
                made.table.set("send_proxy", Value::text("v1"), Some(relay.at));
            }
        });
        let pool = match pool {
            Ok(pool) => pool,
            Err(why) => {
                report.wrong(relay.at, format!("{why}: the port is not listened on"));
                continue;
            }
        };
        let mut table = Table::default();
        table.set("bind", addresses(relay.port), Some(relay.at));
        let protocol = if relay.to.udp { "udp" } else { "tcp" };
        table.set("protocol", Value::text(protocol), None);
        table.set("pool", Value::text(pool), None);
        if relay.accept_proxy {
            table.set("accept_proxy_protocol", Value::Bool(true), Some(relay.at));
            table.set("trusted_proxies", Value::texts(["0.0.0.0/0", "::/0"]), Some(relay.at));
            report.wrong(relay.at, "whoever connects is believed whose address it is: name the networks of the proxies in front in trusted_proxies");
        }
        if relay.to.udp {
            table.set("timeouts.udp_idle", Value::text("10m"), None);
            table.set("limits.udp_answers", Value::Integer(1), None);
        }
        let name = format!("{protocol}-{}", relay.port);
        document.listeners.push(Block { name, comments: Vec::new(), table });
    }
}
