//! Gateway API: listeners of Gateways, and the routes that come to them in the order that its specification asks for.
//!
//! `entry` reads listeners, `grant` who may name whom; `route` finds out where routes of HTTP and gRPC belong, with
//! `matching`, `filter` and `backend` for the parts of a rule; `stream` has what is relayed.

mod backend;
mod entry;
mod filter;
mod grant;
mod matching;
mod route;
mod stream;

use super::super::document::{Block, Document, Table, Value};
use super::super::region::Door;
use super::super::report::{Place, Report};
use super::super::tree::Node;
use super::draft::{self, Names};
use super::object::{Cluster, Object};
use super::pool::Pools;
use backend::Around;
use entry::{Entry, Protocol};
use route::{Attached, Drafts, attach};
use stream::Stream;

/// Kinds of routes, with the versions that there are.
const ROUTES: [(&str, &[&str]); 5] = [
    ("HTTPRoute", &["v1", "v1beta1"]),
    ("GRPCRoute", &["v1", "v1alpha2"]),
    ("TLSRoute", &["v1", "v1alpha2", "v1alpha3"]),
    ("TCPRoute", &["v1", "v1alpha2"]),
    ("UDPRoute", &["v1", "v1alpha2"]),
];

/// Whether there is any of it.
pub(super) fn is_there(cluster: &Cluster<'_>) -> bool {
    cluster.of("Gateway").next().is_some()
}

/// A socket that listeners of Gateways share.
struct Socket {
    /// Where it is bound.
    bind: Vec<String>,
    protocol: Protocol,
    door: Door,
    entries: Vec<usize>,
}

/// Writes what the files have of Gateway API.
pub(super) fn write<'c, 'a>(
    cluster: &'c Cluster<'a>,
    pools: &mut Pools<'c, 'a>,
    names: &mut Names,
    document: &mut Document,
    report: &mut Report,
) {
    classes(cluster, report);
    let mut entries = entry::read(cluster, report);
    let mut sockets = sockets(&entries, document, report);
    for socket in &sockets {
        close_others(socket, &mut entries, document, report);
    }
    let mut around = Around { cluster, pools, report };
    let mut drafts = Drafts::default();
    let mut streams: Vec<(usize, Stream)> = Vec::new();
    let mut calls: Vec<usize> = Vec::new();
    let doors: Vec<Option<usize>> = (0..entries.len())
        .map(|number| sockets.iter().position(|socket| socket.entries.contains(&number)))
        .collect();
    for (kind, versions) in ROUTES {
        for object in cluster.of(kind) {
            if !entry::known(object, versions, around.report) {
                continue;
            }
            let attached = attach(object, &entries, &mut around);
            if attached.is_empty() {
                unattached(object, &entries, &mut around);
                continue;
            }
            if kind == "HTTPRoute" || kind == "GRPCRoute" {
                drafts.take(object, &attached, &entries, &doors, &mut around);
                let at =
                    attached.iter().filter_map(|one| *doors.get(one.entry)?).filter(|_| kind == "GRPCRoute");
                calls.extend(at);
            } else {
                relay(object, &attached, &entries, &mut streams, &mut around);
            }
        }
    }
    drafts.fill_up(&entries, &doors);
    let list: Vec<Door> = sockets.iter().map(|socket| socket.door.clone()).collect();
    document.routes.extend(draft::write(drafts.finish(around.report), &list, true, names));
    for (number, socket) in sockets.iter_mut().enumerate() {
        let plain_calls = calls.contains(&number) && socket.protocol == Protocol::Http;
        listen(socket, &entries, plain_calls, &mut streams, names, document, around.report);
    }
}

/// Reads the rules of a route that belongs nowhere, for what is to be said of them.
fn unattached(object: &Object<'_>, entries: &[Entry<'_, '_>], around: &mut Around<'_, '_, '_>) {
    let mut pools = Pools::new(around.cluster);
    let mut apart = Around { cluster: around.cluster, pools: &mut pools, report: around.report };
    if object.kind != "HTTPRoute" && object.kind != "GRPCRoute" {
        let _pool = stream::pool(object, object.kind == "UDPRoute", &mut apart);
    } else if !entries.is_empty() {
        let anywhere = [Attached { entry: 0, hosts: vec![(String::new(), String::new())] }];
        Drafts::default().take(object, &anywhere, entries, &[Some(0)], &mut apart);
    }
}

/// Says of classes and grants that nobody needs.
fn classes(cluster: &Cluster<'_>, report: &mut Report) {
    for class in cluster.of("GatewayClass") {
        report.ignored(class.at, "whose Gateways are served does not matter: all of the files are");
    }
    if cluster.of("Gateway").next().is_none() {
        for (kind, _) in ROUTES {
            for route in cluster.of(kind) {
                report.wrong(
                    route.at,
                    "there is no Gateway in the files that it could belong to: give its file too",
                );
            }
        }
    }
}

/// The sockets of all listeners.
fn sockets(entries: &[Entry<'_, '_>], document: &Document, report: &mut Report) -> Vec<Socket> {
    let mut out: Vec<Socket> = Vec::new();
    for (number, entry) in entries.iter().enumerate() {
        let bind = addresses(entry.gateway, entry.port, report);
        let udp = entry.protocol == Protocol::Udp;
        let class = |protocol: Protocol| match protocol {
            Protocol::Tls | Protocol::Passthrough => Protocol::Tls,
            other => other,
        };
        let same =
            out.iter_mut().find(|socket| (socket.protocol == Protocol::Udp) == udp && socket.bind == bind);
        if let Some(socket) = same {
            if class(socket.protocol) == class(entry.protocol) && entry.protocol != Protocol::Tcp && !udp {
                socket.entries.push(number);
                if entry.protocol == Protocol::Tls {
                    socket.protocol = Protocol::Tls;
                }
                let of = socket.entries.first().and_then(|first| entries.get(*first));
                if of.is_some_and(|of| !std::ptr::eq(of.gateway, entry.gateway)) {
                    report.approximated(entry.at, "another Gateway listens at the same address: one listener serves both. Give them addresses of their own");
                }
            } else {
                report.not_possible(entry.at, "another Gateway listens at the same address for something else: give them addresses of their own, and a listener");
            }
            continue;
        }
        let one = entries
            .iter()
            .filter(|other| other.port == entry.port && other.protocol == entry.protocol)
            .count()
            == 1;
        let of = if one { entry.name.to_owned() } else { entry.port.to_string() };
        let mut name = format!("{}-{of}", entry.gateway.name);
        let shared = document
            .listeners
            .iter()
            .find(|block| block.table.get("bind") == Some(&Value::texts(bind.clone())));
        if let Some(block) = shared {
            if entry.protocol.is_http() && (entry.protocol == Protocol::Https) == block.table.has_below("tls")
            {
                report.approximated(
                    entry.at,
                    format!(
                        "Ingresses are served at the same address: the listener {} serves both",
                        block.name
                    ),
                );
                name.clone_from(&block.name);
            } else {
                report.not_possible(entry.at, format!("Ingresses have this address for something else ({}): give the Gateway one of its own", block.name));
                continue;
            }
        }
        while out.iter().any(|socket| socket.door.listener == name) {
            name.push_str("-2");
        }
        let door = Door { listener: name, tls: entry.protocol == Protocol::Https, ports: vec![entry.port] };
        out.push(Socket { bind, protocol: entry.protocol, door, entries: vec![number] });
    }
    out
}

/// Clients of one address are asked for certificates of one authority: who asks for those of another lets nobody in.
fn close_others(socket: &Socket, entries: &mut [Entry<'_, '_>], document: &Document, report: &mut Report) {
    let block = document.listeners.iter().find(|block| block.name == socket.door.listener);
    let mut first = block.and_then(|block| {
        let Some(Value::Text(file)) = block.table.get("tls.client_ca") else { return None };
        let required = block.table.get("tls.client_auth") != Some(&Value::text("request"));
        Some((file.clone(), required))
    });
    for number in &socket.entries {
        let Some(entry) = entries.get_mut(*number) else { continue };
        let Some((file, required, at)) = &entry.authority else { continue };
        match &first {
            Some((known, asked)) if known != file || *required && !asked => {
                report.not_possible(*at, "clients of one address are all asked for certificates of one authority, and others here ask for other ones: nobody is let in (maintenance = true) until this listener has an address of its own");
                entry.closed = Some(*at);
            }
            Some(_) => {}
            None => first = Some((file.clone(), *required)),
        }
    }
}

/// Where a port of a Gateway is bound.
fn addresses(gateway: &Object<'_>, port: u16, report: &mut Report) -> Vec<String> {
    let mut out = Vec::new();
    for node in gateway.spec(&["addresses"]).map_or(&[][..], Node::items) {
        let at = matching::first_line(node);
        let kind = node.get("type").and_then(Node::text).unwrap_or("IPAddress");
        match node.get("value").and_then(Node::text).map(str::parse::<std::net::IpAddr>) {
            Some(Ok(address)) if kind == "IPAddress" => {
                out.push(super::service::join(&address.to_string(), port))
            }
            _ => report
                .not_possible(at, "an address is an IP address here: write it into `bind` of the listeners"),
        }
    }
    if out.is_empty() {
        out = vec![format!("0.0.0.0:{port}"), format!("[::]:{port}")];
    }
    out
}

/// A route of TLS, TCP or UDP.
fn relay(
    object: &Object<'_>,
    attached: &[Attached],
    entries: &[Entry<'_, '_>],
    streams: &mut Vec<(usize, Stream)>,
    around: &mut Around<'_, '_, '_>,
) {
    let mut attached = attached.iter().filter(|one| entries.get(one.entry).is_some()).peekable();
    if attached.peek().is_none() {
        return;
    }
    let Some(pool) = stream::pool(object, object.kind == "UDPRoute", around) else {
        return stream::lost(object, around.report);
    };
    for one in attached {
        let Some(entry) = entries.get(one.entry) else { continue };
        let by_name = object.kind == "TLSRoute";
        let hosts = one.hosts.iter().map(|(host, _)| host.clone()).filter(|host| by_name && !host.is_empty());
        let hosts: Vec<String> = hosts.collect();
        let taken = streams
            .iter()
            .any(|(number, other)| *number == one.entry && (other.hosts.is_empty() || other.hosts == hosts));
        if taken {
            around.report.wrong(
                object.at,
                format!("the listener {} has a route for this already: this one gets nothing", entry.name),
            );
            continue;
        }
        streams.push((
            one.entry,
            Stream { name: object.name.to_owned(), hosts, pool: pool.clone(), at: object.at },
        ));
    }
}

/// Writes the listener of a socket.
fn listen(
    socket: &Socket,
    entries: &[Entry<'_, '_>],
    plain_calls: bool,
    streams: &mut Vec<(usize, Stream)>,
    names: &mut Names,
    document: &mut Document,
    report: &mut Report,
) {
    let of: Vec<&Entry<'_, '_>> = socket.entries.iter().filter_map(|number| entries.get(*number)).collect();
    let Some(first) = of.first() else { return };
    let at = Some(first.at);
    if let Some(block) = document.listeners.iter_mut().find(|block| block.name == socket.door.listener) {
        return certificates(&of, &mut block.table, report);
    }
    let mut table = Table::default();
    table.set("bind", Value::texts(socket.bind.clone()), at);
    if socket.protocol.is_http() {
        if plain_calls {
            table.set("h2c", Value::Bool(true), None);
        }
        certificates(&of, &mut table, report);
    } else {
        let (own, rest): (Vec<_>, Vec<_>) =
            std::mem::take(streams).into_iter().partition(|(number, _)| socket.entries.contains(number));
        *streams = rest;
        if own.is_empty() {
            return report.wrong(
                first.at,
                "no route comes to it: connections are refused, and no listener is made of it",
            );
        }
        let word = if socket.protocol == Protocol::Udp { "udp" } else { "tcp" };
        table.set("protocol", Value::text(word), None);
        certificates(&of, &mut table, report);
        for (number, stream) in own {
            let entry = entries.get(number);
            if stream.hosts.is_empty() {
                table.set("pool", Value::text(&stream.pool), Some(stream.at));
                continue;
            }
            let mut block = stream::write(&stream, &socket.door.listener, names.unique(&stream.name));
            if entry.is_some_and(|entry| entry.protocol == Protocol::Passthrough) {
                block.table.set("tls", Value::text("passthrough"), None);
            }
            document.routes.push(block);
        }
    }
    let line = super::super::document::place(first.gateway.at, report);
    let comments = vec![format!("{} ({line})", first.gateway.title())];
    document.listeners.push(Block { name: socket.door.listener.clone(), comments, table });
}

/// Adds the certificates of listeners, and what they ask of clients.
fn certificates(of: &[&Entry<'_, '_>], table: &mut Table, report: &mut Report) {
    let mut lines: Vec<(Value, Option<Place>)> = match table.get("tls.certificates") {
        Some(Value::Lines(lines)) => lines.clone(),
        _ => Vec::new(),
    };
    for (cert, key, at) in of.iter().flat_map(|entry| &entry.certificates) {
        let value = Value::inline([("cert", Value::text(cert)), ("key", Value::text(key))]);
        if !lines.iter().any(|(known, _)| *known == value) {
            lines.push((value, Some(*at)));
        }
    }
    if lines.is_empty() {
        return;
    }
    table.set("tls.certificates", Value::Lines(lines), None);
    let mut authorities = of.iter().filter_map(|entry| entry.authority.as_ref());
    if table.get("tls.client_ca").is_some() {
        for entry in of {
            report.approximated(
                entry.at,
                "Ingresses at this address ask clients for certificates, and so all are asked",
            );
        }
    } else if let Some((file, require, at)) = authorities.next() {
        table.set("tls.client_ca", Value::text(file), Some(*at));
        let word = if *require { "require" } else { "request" };
        table.set("tls.client_auth", Value::text(word), Some(*at));
        if of.len() > 1 {
            report.approximated(
                *at,
                "clients of one address are all asked for a certificate, whatever host they come for",
            );
        }
    }
}
