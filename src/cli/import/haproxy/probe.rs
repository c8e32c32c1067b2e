//! The probes of a pool: what `check`, `agent-check` and `track` come to.

use std::time::Duration;

use super::super::document::{Table, Value};
use super::check::Kind;
use super::pool::{Around, alike, duration, tls_keys};
use super::proxy::Proxy;
use super::server::{Options, Server};

/// Chains of `track` are followed so far.
const TRACKS_MAX: usize = 8;
/// Probes are sent no more often than this.
const INTERVAL_MIN: Duration = Duration::from_millis(10);

/// What is known of all endpoints of a pool before each of them is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct All {
    probed: bool,
    other_ports: bool,
}

impl All {
    pub(super) fn of(proxy: &Proxy) -> Self {
        let port = |server: &Server| server.options.check_port;
        let first = proxy.servers.first().and_then(port);
        Self {
            probed: proxy.servers.iter().any(|server| server.options.check || server.options.agent),
            other_ports: proxy.servers.iter().any(|server| port(server) != first),
        }
    }
}

/// Where the probes of one endpoint go, where that is not the same for all.
pub(super) fn of_endpoint(server: &Server, all: All) -> Option<Value> {
    if !all.probed {
        return None;
    }
    let mut pairs = Vec::new();
    if let Some(address) =
        server.options.check_address.as_deref().filter(|a| a.parse::<std::net::IpAddr>().is_ok())
    {
        pairs.push(("address", Value::text(address)));
    }
    if all.other_ports
        && let Some(port) = server.options.check_port.or_else(|| port_of(&server.address))
    {
        pairs.push(("port", Value::Integer(i64::from(port))));
    }
    (!pairs.is_empty()).then(|| Value::inline(pairs))
}

/// Takes over what tracked servers are asked.
pub(super) fn follow_tracks(
    proxy: &mut Proxy,
    proxies: &std::collections::HashMap<&str, &Proxy>,
) -> Vec<usize> {
    let mut lost = Vec::new();
    for index in 0..proxy.servers.len() {
        let Some(server) = proxy.servers.get(index) else { continue };
        let Some(track) = server.options.track.clone() else { continue };
        match root(&track, &proxy.name, proxies) {
            Some((root, of)) => {
                let port = of.options.check_port.or_else(|| port_of(&of.address));
                let (check, options) = (root.check.clone(), of.options.clone());
                if let Some(server) = proxy.servers.get_mut(index) {
                    take_over(
                        &mut server.options,
                        &options,
                        port.filter(|port| Some(*port) != port_of(&server.address)),
                    );
                }
                proxy.check = check;
            }
            None => lost.push(index),
        }
    }
    lost
}

fn port_of(address: &str) -> Option<u16> {
    address.rsplit_once(':').and_then(|(_, port)| port.parse().ok())
}

fn take_over(own: &mut Options, of: &Options, port: Option<u16>) {
    own.check = true;
    (own.inter, own.fastinter, own.downinter) = (of.inter, of.fastinter, of.downinter);
    (own.rise, own.fall) = (of.rise, of.fall);
    own.check_port = port;
    own.check_ssl = of.check_ssl || (of.ssl && !own.ssl);
}

/// The server at the end of a chain of `track`.
fn root<'a>(
    track: &str,
    own: &str,
    proxies: &std::collections::HashMap<&str, &'a Proxy>,
) -> Option<(&'a Proxy, &'a Server)> {
    let (mut backend, mut name) = track.split_once('/').unwrap_or((own, track));
    for _ in 0..TRACKS_MAX {
        let proxy = proxies.get(backend)?;
        let server = proxy.servers.get(*proxy.server_names.get(name)?)?;
        match &server.options.track {
            None if server.options.check || server.options.agent => return Some((proxy, server)),
            None => return None,
            Some(next) => (backend, name) = next.split_once('/').unwrap_or((backend, next)),
        }
    }
    None
}

/// Writes `[pool.NAME.health]` and what goes with it.
pub(super) fn write(proxy: &Proxy, table: &mut Table, around: &mut Around<'_>) {
    let checked = proxy.servers.iter().find(|server| server.options.check);
    let agent = proxy.servers.iter().find(|server| server.options.agent);
    let Some(first) = checked.or(agent) else {
        if let Some(at) = proxy.check.at {
            around.report.note(
                at,
                super::super::report::Verdict::WrongInSource,
                "no server of this backend has `check`: HAProxy asks none of them",
            );
        }
        return;
    };
    for server in proxy.servers.iter().filter(|server| !server.options.check && !server.options.agent) {
        around.report.approximated(server.at, "it is probed too: a pool probes all of its endpoints or none");
    }
    // HAProxy never sends to a server that is down.
    table.set("fail_open", Value::Bool(false), None);
    if checked.is_some() {
        proxy.check.write(table);
        if let Some(server) = agent {
            around.report.not_possible(
                server.at,
                "a pool has one kind of probe: the check is kept, the agent is not asked; a program (check = \"exec\") can ask both",
            );
        }
    } else {
        write_agent(first, table);
    }
    let path = proxy.check.kind == Kind::Http;
    if !path || proxy.check.port.is_none() {
        write_port(proxy, first, table);
    }
    write_times(proxy, first, table, around);
    write_tls(proxy, first, table, around);
    if let Some(server) = proxy.servers.iter().find(|server| server.options.close_when_down) {
        table.set("health.on_demotion", Value::inline([("close_after", Value::text("0s"))]), Some(server.at));
    }
}

fn write_agent(server: &Server, table: &mut Table) {
    table.set("health.check", Value::text("agent"), Some(server.at));
    if let Some(port) = server.options.agent_port {
        table.set("health.port", Value::Integer(i64::from(port)), Some(server.at));
    }
    if let Some(text) = &server.options.agent_send {
        table.set("health.send", Value::text(text), Some(server.at));
    }
}

/// The port that all are asked at, where it is the same for all and not their own.
fn write_port(proxy: &Proxy, first: &Server, table: &mut Table) {
    let port = first.options.check_port;
    let same = proxy.servers.iter().all(|server| server.options.check_port == port);
    if let (true, Some(port), None) = (same, port, table.get("health.port")) {
        table.set("health.port", Value::Integer(i64::from(port)), Some(first.at));
    }
}

fn write_times(proxy: &Proxy, first: &Server, table: &mut Table, around: &mut Around<'_>) {
    let report = &mut *around.report;
    let agent = !first.options.check;
    let interval = alike(proxy, |o| if agent { o.agent_inter } else { o.inter }, "interval", report);
    let time = |table: &mut Table, key: &str, value: Option<Duration>| {
        if let Some(value) = value {
            table.set(&format!("health.{key}"), duration(value.max(INTERVAL_MIN)), Some(first.at));
        }
    };
    time(table, "interval", interval.map(|(time, _)| time));
    time(
        table,
        "fast_interval",
        alike(proxy, |o| o.fastinter, "fast_interval", report).map(|(time, _)| time),
    );
    time(
        table,
        "down_interval",
        alike(proxy, |o| o.downinter, "down_interval", report).map(|(time, _)| time),
    );
    match (proxy.timeout("check"), interval) {
        (Some((limit, at)), _) => table.set("health.timeout", duration(limit), Some(at)),
        // Without one a check has its interval.
        (None, Some((inter, at))) => table.set("health.timeout", duration(inter.max(INTERVAL_MIN)), Some(at)),
        (None, None) => {}
    }
    if agent {
        return;
    }
    for (key, value, default) in [
        ("rise", alike(proxy, |o| o.rise, "rise", report), 2),
        ("fall", alike(proxy, |o| o.fall, "fall", report), 3),
    ] {
        if let Some((number, at)) = value.filter(|(number, _)| *number != default) {
            table.set(&format!("health.{key}"), Value::Integer(number.min(1000)), Some(at));
        }
    }
    if let Some((percent, at)) = around.global.spread {
        let share = f64::from(i32::try_from(percent).unwrap_or(10)) / 100.0;
        table.set("health.jitter", Value::Real(share), Some(at));
    }
}

fn write_tls(proxy: &Proxy, first: &Server, table: &mut Table, around: &mut Around<'_>) {
    let options = &first.options;
    let (asked, of_check) = (options.check_ssl || proxy.check.tls.is_some(), &proxy.check);
    let elsewhere =
        options.check_port.is_some() || options.check_address.is_some() || of_check.port.is_some();
    if of_check.kind == Kind::Tls && !options.ssl {
        let off = [("off", Value::text("`option ssl-hello-chk` verifies nothing"))];
        return table.set("health.tls", Value::inline([("verify", Value::inline(off))]), of_check.at);
    }
    if options.ssl && elsewhere && !asked {
        // The traffic has TLS; checks of another port have it only where that is said.
        return table.set("health.tls", Value::text("off"), Some(first.at));
    }
    if asked && !options.ssl {
        let name = of_check.sni.as_deref().or(options.check_sni.as_deref());
        tls_keys("health.tls", first, name, table, around);
        if !table.has_below("health.tls") {
            table.set("health.tls", Value::Inline(Vec::new()), of_check.tls.or(Some(first.at)));
        }
    } else if let Some(name) = of_check.sni.as_deref().or(options.check_sni.as_deref()).filter(|_| asked) {
        table.set("health.tls.server_name", Value::text(name), Some(first.at));
    } else if options.ssl && options.sni.as_deref() == Some("{host}") {
        match options.check_sni.as_deref() {
            Some(name) => table.set("health.tls.server_name", Value::text(name), Some(first.at)),
            None if of_check.has_host() => {}
            None => unnamed(first, table, around),
        }
    } else if let (true, None, Some(name)) = (options.ssl, &options.sni, options.check_sni.as_deref()) {
        table.set("health.tls.server_name", Value::text(name), Some(first.at));
    }
}

/// A probe without a request names no host. HAProxy's names none either, and holds the certificate against none.
fn unnamed(first: &Server, table: &mut Table, around: &mut Around<'_>) {
    let host = first.address.rsplit_once(':').map_or(first.address.as_str(), |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let off = [("off", Value::text("probes have no request that names a host"))];
    table.set("health.tls.server_name", Value::text(host), Some(first.at));
    table.set("health.tls.verify", Value::inline(off), Some(first.at));
    around.report.approximated(
        first.at,
        "a probe has no request whose host it could ask for: probes ask for the address and verify nothing; check-sni names a host for them",
    );
}
