//! Listeners of http: what nginx says for each server or location, and Plimsoll for each listener.

use std::time::Duration;

use ipnet::IpNet;

use super::super::document::{Block, Table, Value};
use super::certificate::{self, Wanted};
use super::notes::Notes;
use super::scope::Scope;
use super::site::Group;
use super::switch::parse_network;
use super::tree::Directive;
use super::units::{bytes, duration, size, time};
use super::walk::Site;

/// Directives of a server that are a listener's here. Those of a family are one setting.
const FAMILIES: [&[&str]; 7] = [
    &["client_header_timeout"],
    &["keepalive_timeout"],
    &["client_body_timeout", "send_timeout"],
    &["large_client_header_buffers"],
    &["set_real_ip_from", "real_ip_header", "real_ip_recursive"],
    &["limit_rate"],
    &["ssl_protocols"],
];

/// The listener of a group.
pub(super) fn block(group: &Group<'_>, sites: &[Site<'_>], told: bool, notes: &mut Notes<'_>) -> Block {
    let mut table = Table::default();
    let first = group.listens.first();
    table.set(
        "bind",
        Value::texts(group.listens.iter().map(|listen| listen.bind.clone())),
        first.map(|listen| listen.of.at),
    );
    if let Some((count, of)) = first.and_then(|listen| Some((listen.backlog?, listen.of))) {
        table.set("limits.backlog", Value::Integer(count), Some(of.at));
    }
    if let Some(default) = sites.get(group.default) {
        clients(group, &default.scope, &mut table, notes);
        times(&default.scope, &mut table, notes);
        sizes(&default.scope, &mut table, notes);
    }
    if group.http2 && !group.ssl {
        table.set("h2c", Value::Bool(true), first.map(|listen| listen.of.at));
    }
    if group.ssl {
        let others = group.sites.iter().filter(|site| **site != group.default);
        let scopes: Vec<&Scope<'_>> = std::iter::once(&group.default)
            .chain(others)
            .filter_map(|site| Some(&sites.get(*site)?.scope))
            .collect();
        let wanted = Wanted { http: true, http2: group.http2, told };
        certificate::write(&scopes, wanted, &mut table, notes);
        for scope in &scopes {
            let rejects = scope.is_on("ssl_reject_handshake");
            if scope.find("ssl_certificate").is_none()
                && !rejects
                && let Some(listen) = group.listens.iter().find(|listen| listen.ssl)
            {
                notes.wrong(listen.of, "a server on this address has no ssl_certificate: nginx rejects the file, or the handshakes for its names");
            }
        }
    }
    differences(group, sites, notes);
    Block { name: group.name.clone(), comments: Vec::new(), table }
}

/// Who clients are.
fn clients(group: &Group<'_>, scope: &Scope<'_>, table: &mut Table, notes: &mut Notes<'_>) {
    let header = scope.find("real_ip_header");
    let field = header.map_or("x-real-ip", |of| of.word(0)).to_ascii_lowercase();
    let lines = scope.all("set_real_ip_from");
    let trusted: Vec<String> = lines.iter().filter_map(|of| trusted(of, notes)).collect();
    let by_proxy = field == "proxy_protocol";
    if group.proxy_protocol {
        table.set(
            "accept_proxy_protocol",
            Value::Bool(true),
            group.listens.first().map(|listen| listen.of.at),
        );
        if let Some(listen) = group.listens.iter().find(|listen| listen.proxy_protocol && !trusted.is_empty())
        {
            notes.near(
                listen.of,
                "PROXY headers are taken of trusted_proxies alone, and nginx takes them of everybody",
            );
        }
        if trusted.is_empty()
            && let Some(listen) = group.listens.iter().find(|listen| listen.proxy_protocol)
        {
            notes.cannot(listen.of, "PROXY headers are believed of trusted_proxies alone: name the balancers' networks there; until then connections that begin with one are refused");
        } else if !by_proxy && let Some(of) = lines.first() {
            notes.near(of, "of these networks the client is who their PROXY header names");
        }
    }
    if trusted.is_empty() {
        return;
    }
    table.set("trusted_proxies", Value::texts(trusted), lines.first().map(|of| of.at));
    let known = ["x-real-ip", "x-forwarded-for", "cf-connecting-ip", "forwarded"].contains(&field.as_str());
    match header {
        Some(of) if known || by_proxy => notes.ok(of),
        Some(of) => notes.cannot(of, "the client is named by X-Forwarded-For, X-Real-IP, CF-Connecting-IP, Forwarded or a PROXY header: client_address"),
        None => {}
    }
    if known && field != "x-forwarded-for" {
        table.set("client_address", Value::text(&field), header.map(|of| of.at));
    } else if by_proxy && group.proxy_protocol {
        table.set("client_address", Value::text("proxy-protocol"), header.map(|of| of.at));
    }
    let recursive = scope.find("real_ip_recursive");
    if let Some(of) = recursive {
        notes.ok(of);
    }
    if field == "x-forwarded-for" && recursive.is_none_or(|of| of.word(0) != "on") {
        // The last address that the nearest proxy has said.
        table.set("trusted_hops", Value::Integer(1), recursive.or(header).map(|of| of.at));
    }
}

fn trusted(of: &Directive, notes: &mut Notes<'_>) -> Option<String> {
    let word = of.word(0);
    if word == "unix:" {
        notes.ok(of);
        return Some(word.to_owned());
    }
    match parse_network(word) {
        Some(network) => {
            notes.ok(of);
            if network.prefix_len() == 0 {
                notes.wrong(of, "everybody is believed: who can connect past the proxies is who he says");
            }
            Some(IpNet::to_string(&network))
        }
        None if word.chars().any(|c| c.is_ascii_alphabetic()) && !word.contains('/') => {
            notes.cannot(of, "proxies are named by networks: write their addresses into trusted_proxies");
            None
        }
        None => {
            notes.wrong(of, "it is no network: nginx rejects it");
            None
        }
    }
}

/// The time of a directive, or nginx's own.
fn time_of<'t>(
    scope: &Scope<'t>,
    name: &str,
    default: u64,
    notes: &mut Notes<'_>,
) -> (Duration, Option<&'t Directive>) {
    match scope.find(name).map(|of| (of, time(of.word(0)))) {
        Some((of, Some(time))) => {
            notes.ok(of);
            (time, Some(of))
        }
        Some((of, None)) => {
            notes.wrong(of, "it has a time: nginx rejects it");
            (Duration::from_secs(default), None)
        }
        None => (Duration::from_secs(default), None),
    }
}

fn times(scope: &Scope<'_>, table: &mut Table, notes: &mut Notes<'_>) {
    let (head, of) = time_of(scope, "client_header_timeout", 60, notes);
    table.set("timeouts.request_header", duration(head), of.map(|of| of.at));
    let (idle, of) = time_of(scope, "keepalive_timeout", 75, notes);
    if let Some(of) = of.filter(|_| idle.is_zero()) {
        notes.near(of, "nginx closes connections after one answer; here they may be idle for a second");
    }
    let idle = if idle.is_zero() { Duration::from_secs(1) } else { idle };
    table.set("timeouts.keep_alive", duration(idle), of.map(|of| of.at));
    let body = time_of(scope, "client_body_timeout", 60, notes);
    let send = time_of(scope, "send_timeout", 60, notes);
    if body.0 != send.0
        && let Some(of) = if body.0 < send.0 { body.1 } else { send.1 }
    {
        notes.near(of, "one time holds while a body moves, either way: the longer of client_body_timeout and send_timeout (client_idle)");
    }
    let (longest, of) = if send.0 > body.0 { send } else { body };
    if longest != Duration::from_secs(60) || of.is_some() {
        table.set("timeouts.client_idle", duration(longest), of.map(|of| of.at));
    }
}

fn sizes(scope: &Scope<'_>, table: &mut Table, notes: &mut Notes<'_>) {
    if let Some(of) = scope.find("large_client_header_buffers") {
        let (count, one) = (of.word(0).parse::<u64>().ok().filter(|count| *count > 0), size(of.word(1)));
        match (count, one) {
            (Some(count), Some(one)) => {
                let all = count.saturating_mul(one).clamp(1 << 10, 1 << 20);
                table.set("limits.head", Value::text(bytes(all, 1 << 10, 1 << 20)), Some(of.at));
                table.set("limits.target", Value::text(bytes(one.min(all), 64, 1 << 20)), Some(of.at));
                notes.near(of, "a head is as large as all buffers together, a target as large as one; a field has no limit of its own");
            }
            _ => notes.wrong(of, "it has a number and a size: nginx rejects it"),
        }
    }
    if let Some(of) = scope.find("limit_rate") {
        match size(of.word(0)) {
            Some(0) => notes.ok(of),
            Some(rate) => {
                table.set("limits.bandwidth_out", Value::text(format!("{}/s", bytes(rate, 1, 1 << 40))), Some(of.at));
                notes.near(of, "the rate is that of a connection, not of each of its requests");
            }
            None => notes.cannot(of, "a rate that depends on the request is not set: limits.bandwidth_out of the listener is one for all"),
        }
    }
}

/// The words of the directives of a family that hold.
fn said<'t>(scope: &Scope<'t>, family: &[&str]) -> Vec<&'t Directive> {
    family.iter().flat_map(|name| scope.all(name)).collect()
}

/// What servers of one listener, or their locations, say otherwise than its default server.
fn differences(group: &Group<'_>, sites: &[Site<'_>], notes: &mut Notes<'_>) {
    let Some(default) = sites.get(group.default) else { return };
    let same = |a: &[&Directive], b: &[&Directive]| {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.name == b.name && a.words == b.words)
    };
    for family in FAMILIES {
        let ours = said(&default.scope, family);
        let mut missing = false;
        for site in
            group.sites.iter().filter(|site| **site != group.default).filter_map(|site| sites.get(*site))
        {
            let theirs = said(&site.scope, family);
            if same(&ours, &theirs) {
                theirs.iter().for_each(|of| notes.ok(of));
                continue;
            }
            missing |= theirs.is_empty();
            for of in theirs {
                notes.cannot(of, format!("it is one for all servers of the listener {}: there what its default server says holds, or is the default; a server with an address of its own has its own", group.name));
            }
        }
        for of in ours.iter().filter(|_| missing) {
            notes.near(of, format!("it holds for all servers of the listener {}", group.name));
        }
        for site in group.sites.iter().filter_map(|site| sites.get(*site)) {
            for location in &site.locations.all {
                for of in family.iter().flat_map(|name| location.level.all(name)) {
                    if ours.iter().any(|own| own.name == of.name && own.words == of.words) {
                        notes.ok(of);
                    } else {
                        notes.cannot(
                            of,
                            format!(
                                "it is one for all requests of the listener {}, and not of a location",
                                group.name
                            ),
                        );
                    }
                }
            }
        }
    }
}
