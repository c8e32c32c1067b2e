//! Entry points: the listeners of Traefik.

use ipnet::IpNet;

use super::super::document::{Table, Value};
use super::super::report::{Place, Report, Verdict};
use super::fields::{Fields, Set};
use super::matcher::network;
use super::said::{duration, plain_name};
use super::source::Parts;

/// An entry point.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// Its name in Traefik.
    pub(super) name: String,
    /// The line of its name, where it has one.
    pub(super) at: Option<Place>,
    /// Whether it takes datagrams.
    pub(super) udp: bool,
    /// What is written of its listener.
    pub(super) table: Table,
    /// What its routers have of TLS, unless they say so themselves.
    pub(super) tls: Option<RouterTls>,
    /// Middlewares before those of routers.
    pub(super) middlewares: Vec<(String, Place)>,
    /// Where everything is redirected.
    pub(super) redirect: Option<Redirection>,
    /// Whether it was said to be one of those that routers without entry points are on.
    pub(super) as_default: bool,
    /// Whose X-Forwarded fields, or PROXY headers, are believed.
    pub(super) trusted: Vec<IpNet>,
    /// Whether it is the fields.
    pub(super) believes: bool,
    /// Octets that may not be encoded in a path, as they are then, each with its line.
    pub(super) refused: Vec<(&'static str, Place)>,
    /// Whether there can be a listener.
    pub(super) usable: bool,
    /// Its port.
    pub(super) port: u16,
}

/// What a router says of TLS.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct RouterTls {
    pub(super) at: Option<Place>,
    pub(super) options: Set<String>,
    pub(super) resolver: Set<String>,
    pub(super) domains: Vec<String>,
    pub(super) passthrough: bool,
}

/// A redirection of all that comes to an entry point.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Redirection {
    pub(super) at: Place,
    /// An entry point, or a port with a colon.
    pub(super) to: String,
    pub(super) scheme: String,
    pub(super) permanent: bool,
    pub(super) priority: Option<i64>,
}

/// The entry point that Traefik has for itself.
pub(super) const INTERNAL: &str = "traefik";

/// Reads all entry points.
pub(super) fn read(parts: &Parts<'_>, report: &mut Report) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    if let Some((_, node)) = parts.statics("entrypoints") {
        for (key, below) in node.pairs() {
            let mut fields = Fields::of(key.at, below, report);
            let mut entry = Entry {
                name: key.text.clone(),
                at: Some(key.at),
                usable: true,
                port: 80,
                ..Entry::default()
            };
            address(&mut entry, &mut fields, report);
            if let Some((yes, at)) = fields.flag("asDefault", report) {
                entry.as_default = yes;
                report.translated(at);
            }
            transport(&mut entry, &mut fields, report);
            trust(&mut entry, &mut fields, report);
            http(&mut entry, &mut fields, report);
            protocols(&mut entry, &mut fields, report);
            fields.each(Verdict::Ignored, &["allowACMEByPass"], "there is no ACME here", report);
            fields.each(
                Verdict::Ignored,
                &["reusePort"],
                "several workers share a port here as well",
                report,
            );
            let text = "records, metrics and traces (traceparent) are of all listeners: [log] access, [admin] and [tracing]";
            fields.each(Verdict::Approximated, &["observability"], text, report);
            if !fields.finish(report) {
                report.wrong(key.at, "Traefik does not start with what is wrong below");
            }
            let same =
                |other: &&Entry| other.udp == entry.udp && other.table.get("bind") == entry.table.get("bind");
            if let Some(other) = entries.iter().filter(|_| entry.usable).find(same) {
                let what = format!("{} has this address already: Traefik does not start", other.name);
                report.wrong(key.at, what);
                entry.usable = false;
            }
            entries.push(entry);
        }
    }
    if entries.is_empty() && !parts.statics.is_empty() {
        // As Traefik has it.
        entries.push(plain("http", 80));
    }
    entries
}

/// An entry point that nobody wrote.
pub(super) fn plain(name: &str, port: u16) -> Entry {
    let mut entry = Entry { name: name.to_owned(), usable: true, port, ..Entry::default() };
    bind(&mut entry, "", port, None);
    entry
}

fn bind(entry: &mut Entry, host: &str, port: u16, at: Option<Place>) {
    entry.port = port;
    let addresses = if host.is_empty() {
        vec![format!("0.0.0.0:{port}"), format!("[::]:{port}")]
    } else {
        vec![format!("{host}:{port}")]
    };
    entry.table.set("bind", Value::texts(addresses), at);
}

fn address(entry: &mut Entry, fields: &mut Fields<'_>, report: &mut Report) {
    let Some((text, at)) = fields.text("address", report) else {
        report.wrong(fields.at, "it has no address: Traefik does not start");
        return guess(entry, fields.at, report);
    };
    let (address, protocol) = text.split_once('/').unwrap_or((&text, "tcp"));
    match protocol.to_ascii_lowercase().as_str() {
        "tcp" => {}
        "udp" => entry.udp = true,
        _ => {
            report.wrong(at, "behind the slash stands tcp or udp: Traefik does not start");
            return guess(entry, at, report);
        }
    }
    let parsed = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    let Some((host, port)) = parsed else {
        report.wrong(at, "this is no address with a port: Traefik does not start");
        return guess(entry, at, report);
    };
    let host = match host {
        "localhost" => "127.0.0.1",
        "*" => "",
        host => host,
    };
    let written = format!("{}:{port}", if host.is_empty() { "0.0.0.0" } else { host });
    if crate::model::address::parse_socket(&written).is_err() || port == 0 {
        entry.usable = false;
        let colons = host.contains(':') && !host.starts_with('[');
        return if colons {
            report.wrong(at, "there are too many colons in it: Traefik does not start");
        } else {
            report.not_possible(
                at,
                "listeners are bound to addresses, not to names: write bind of the listener",
            );
        };
    }
    bind(entry, host, port, Some(at));
    report.translated(at);
}

/// Ports that entry points of such names have everywhere.
pub(super) const USUAL: [(&str, u16); 4] = [("web", 80), ("http", 80), ("websecure", 443), ("https", 443)];

/// An address for an entry point that Traefik would not start with.
fn guess(entry: &mut Entry, at: Place, report: &mut Report) {
    match USUAL.iter().find(|(name, _)| *name == entry.name) {
        Some((_, port)) => {
            bind(entry, "", *port, Some(at));
            report.not_possible(
                at,
                format!("its address is not known: port {port} is written, as the name goes"),
            );
        }
        None => entry.usable = false,
    }
}

fn transport(entry: &mut Entry, fields: &mut Fields<'_>, report: &mut Report) {
    let Some(mut transport) = fields.table("transport", report) else { return };
    if let Some(mut times) = transport.table("respondingTimeouts", report) {
        if let Some((time, at)) = times.time("readTimeout", report) {
            if time > 0 {
                entry.table.set("timeouts.request_header", duration(time), Some(at));
                entry.table.set("timeouts.client_idle", duration(time), Some(at));
                let how = "Traefik bounds head and body together; here each head, and each pause of a body";
                report.approximated(at, how);
            } else {
                let how = "heads of requests have a limit here always (timeouts.request_header), bodies one on pauses";
                report.approximated(at, how);
            }
        }
        if let Some((time, at)) = times.time("writeTimeout", report) {
            if time > 0 {
                report.not_possible(at, "a whole answer has no limit: timeouts.client_idle bounds its pauses, timeouts.response_header of the pool its start");
            } else {
                report.translated(at);
            }
        }
        if let Some((time, at)) = times.time("idleTimeout", report) {
            let time = if time > 0 { time } else { i64::MAX };
            entry.table.set("timeouts.keep_alive", duration(time), Some(at));
            report.translated(at);
        }
        fields.broken |= !times.finish(report);
    }
    if let Some(mut life) = transport.table("lifeCycle", report) {
        for (name, key) in [("requestAcceptGraceTimeout", "drain_delay"), ("graceTimeOut", "drain_timeout")] {
            if let Some((_, at)) = life.time(name, report) {
                report.note(
                    at,
                    Verdict::Translated,
                    format!("it is {key} of [process], the longest of all entry points"),
                );
            }
        }
        fields.broken |= !life.finish(report);
    }
    let remedy = "connections are closed when they are idle for timeouts.keep_alive, and when the process is drained, not at an age";
    transport.each(Verdict::NotPossible, &["keepAliveMaxTime", "keepAliveMaxRequests"], remedy, report);
    fields.broken |= !transport.finish(report);
}

/// The longest times of `lifeCycle`: when listeners close, and what live work gets.
pub(super) fn life_cycle(parts: &Parts<'_>) -> [Set<i64>; 2] {
    let mut out = [None, None];
    // Everything of it has been reported already.
    let mut silent = Report::default();
    for (_, below) in parts.statics("entrypoints").iter().flat_map(|(_, node)| node.pairs()) {
        let mut fields = Fields::of(Place { file: 0, line: 0 }, below, &mut silent);
        let Some(mut transport) = fields.table("transport", &mut silent) else { continue };
        let Some(mut life) = transport.table("lifeCycle", &mut silent) else { continue };
        for (name, longest) in ["requestAcceptGraceTimeout", "graceTimeOut"].into_iter().zip(&mut out) {
            let found = life.time(name, &mut silent).filter(|(time, _)| *time >= 0);
            if found.map(|(time, _)| time) > longest.map(|(time, _)| time) {
                *longest = found;
            }
        }
    }
    out
}

fn trust(entry: &mut Entry, fields: &mut Fields<'_>, report: &mut Report) {
    let mut from = None;
    for (name, proxy) in [("forwardedHeaders", false), ("proxyProtocol", true)] {
        let Some(mut below) = fields.table(name, report) else { continue };
        let mut networks = Vec::new();
        if let Some((true, at)) = below.flag("insecure", report) {
            report.wrong(at, "anybody may say who he is, and so pass for any address");
            networks.extend(["0.0.0.0/0", "::/0"].iter().filter_map(|all| network(all)));
            from = Some(at);
        }
        if let Some((list, at)) = below.texts("trustedIPs", report) {
            from = Some(at);
            for (text, at) in list {
                match network(&text) {
                    Some(network) => {
                        report.translated(at);
                        networks.push(network);
                    }
                    None => report.wrong(at, format!("`{text}` is no network: Traefik does not start")),
                }
            }
        }
        if proxy && !networks.is_empty() {
            entry.table.set("accept_proxy_protocol", Value::Bool(true), from.or(Some(below.at)));
            let how =
                "trusted peers must send a PROXY header here; Traefik also takes connections without one";
            report.approximated(below.at, how);
            if !entry.believes {
                entry.table.set("client_address", Value::text("proxy-protocol"), from.or(Some(below.at)));
            }
            if entry.trusted.iter().any(|own| !networks.contains(own)) {
                let how = "trusted_proxies is one list: the networks of forwardedHeaders are in it as well, and have to send PROXY headers";
                report.approximated(below.at, how);
            }
        }
        if proxy {
            let all: Vec<IpNet> = entry.trusted.iter().copied().chain(networks).collect();
            write_trust(entry, &all, from);
            entry.trusted = all;
        } else {
            write_trust(entry, &networks, from);
            entry.believes = !networks.is_empty();
            entry.trusted = networks;
        }
        let text = "fields that Connection names go no further, but those of WebSocket";
        below.each(Verdict::NotPossible, &["connection"], text, report);
        let text = "endpoints get X-Forwarded-For with the client; forwarded = \"off\" in the listener sends no such field";
        below.each(Verdict::NotPossible, &["notAppendXForwardedFor"], text, report);
        let text = "write request_headers = { set = { x-scheme = \"{scheme}\" } } in the routes";
        below.each(Verdict::NotPossible, &["addXForwardedSchemeHeaders"], text, report);
        fields.broken |= !below.finish(report);
    }
}

fn write_trust(entry: &mut Entry, networks: &[IpNet], at: Option<Place>) {
    let mut texts: Vec<String> = Vec::new();
    for network in networks {
        let text = network.to_string();
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    if !texts.is_empty() {
        entry.table.set("trusted_proxies", Value::texts(texts), at);
    }
}

fn http(entry: &mut Entry, fields: &mut Fields<'_>, report: &mut Report) {
    let Some(mut http) = fields.table("http", report) else { return };
    if let Some(mut redirections) = http.table("redirections", report) {
        if let Some(below) = redirections.table("entryPoint", report) {
            redirection(entry, below, report);
        }
        fields.broken |= !redirections.finish(report);
    }
    if let Some((list, at)) = http.texts("middlewares", report) {
        report.translated(at);
        entry.middlewares = list;
    }
    if let Some(tls) = http.table("tls", report) {
        entry.tls = Some(router_tls(tls, report));
    }
    if let Some((bytes, at)) = http.number("maxHeaderBytes", report).filter(|(bytes, _)| *bytes > 0) {
        if bytes < 8192 {
            // A target is no larger than the head that it is in.
            entry.table.set("limits.target", Value::text(super::said::size(bytes.max(1024))), Some(at));
        }
        entry.table.set("limits.head", Value::text(super::said::size(bytes.clamp(1024, 1 << 20))), Some(at));
        report.translated(at);
    }
    let text = "a query goes on as it came: semicolons are no separators here";
    http.each(Verdict::Approximated, &["encodeQuerySemicolons"], text, report);
    if let Some((clean, at)) = http.flag("sanitizePath", report) {
        if clean {
            report.translated(at);
        } else {
            report.not_possible(at, "paths are compared in normal form always");
        }
    }
    if let Some(below) = http.table("encodedCharacters", report) {
        encoded(entry, below, report);
    }
    for name in ["underscoreHeadersStrategy", "aliasHeadersStrategy"] {
        if let Some((strategy, at)) = http.text(name, report) {
            if ["", "keep"].contains(&strategy.as_str()) {
                report.translated(at);
            } else {
                report.not_possible(at, "fields whose names have an underscore go on as they came, but beside those that the proxy itself sends: have endpoints tell them from those with a hyphen");
            }
        }
    }
    fields.broken |= !http.finish(report);
}

/// What a path may have encoded, and how it is written then.
const ENCODED: [(&str, &str); 7] = [
    ("allowEncodedSlash", "2F"),
    ("allowEncodedBackSlash", "5C"),
    ("allowEncodedNullCharacter", "00"),
    ("allowEncodedSemicolon", "3B"),
    ("allowEncodedPercent", "25"),
    ("allowEncodedQuestionMark", "3F"),
    ("allowEncodedHash", "23"),
];

fn encoded(entry: &mut Entry, mut below: Fields<'_>, report: &mut Report) {
    report.translated(below.at);
    for (name, code) in ENCODED {
        if let Some((allowed, at)) = below.flag(name, report) {
            if allowed {
                report.translated(at);
            } else {
                report.note(at, Verdict::Translated, "what no router takes gets 400 for it as well");
                entry.refused.push((code, at));
            }
        }
    }
    below.finish(report);
}

fn redirection(entry: &mut Entry, mut below: Fields<'_>, report: &mut Report) {
    let at = below.at;
    let to = below.text("to", report);
    let scheme = below.text("scheme", report);
    let permanent = below.flag("permanent", report);
    let priority = below.number("priority", report);
    let places = [scheme.as_ref().map(|s| s.1), permanent.map(|s| s.1), priority.map(|s| s.1)];
    places.into_iter().flatten().for_each(|place| report.translated(place));
    match to {
        Some((to, at)) => {
            report.translated(at);
            entry.redirect = Some(Redirection {
                at,
                to,
                scheme: scheme.map_or_else(|| "https".to_owned(), |(scheme, _)| scheme),
                permanent: permanent.is_none_or(|(yes, _)| yes),
                priority: priority.map(|(number, _)| number),
            });
        }
        None => report.wrong(at, "it does not say where to: Traefik does not start"),
    }
    below.finish(report);
}

/// `tls` of a router or an entry point.
pub(super) fn router_tls(mut fields: Fields<'_>, report: &mut Report) -> RouterTls {
    let mut tls = RouterTls { at: Some(fields.at), ..RouterTls::default() };
    report.translated(fields.at);
    tls.options = fields.text("options", report);
    tls.resolver = fields.text("certResolver", report);
    if let Some((yes, at)) = fields.flag("passthrough", report) {
        tls.passthrough = yes;
        report.translated(at);
    }
    for mut domain in fields.tables("domains", report) {
        if let Some((main, at)) = domain.text("main", report) {
            tls.domains.push(main);
            report.ignored(at, "names are those that the certificates have");
        }
        if let Some((sans, at)) = domain.texts("sans", report) {
            tls.domains.extend(sans.into_iter().map(|(name, at)| {
                report.ignored(at, "names are those that the certificates have");
                name
            }));
            report.ignored(at, "names are those that the certificates have");
        }
        domain.finish(report);
    }
    if let Some((_, at)) = &tls.resolver {
        report.not_possible(*at, "certificates are not asked for here: have an ACME client (lego, certbot) keep the files of the listener's tls.certificates, which are read again when they change (process.watch)");
    }
    fields.finish(report);
    tls
}

fn protocols(entry: &mut Entry, fields: &mut Fields<'_>, report: &mut Report) {
    if let Some(mut http2) = fields.table("http2", report) {
        if let Some((streams, at)) = http2.number("maxConcurrentStreams", report) {
            entry.table.set("limits.http2.streams", Value::Integer(streams.clamp(1, 10_000)), Some(at));
            report.translated(at);
        }
        let text = "tables of HPACK have the size that HTTP/2 begins with";
        let names = ["maxDecoderHeaderTableSize", "maxEncoderHeaderTableSize"];
        http2.each(Verdict::Ignored, &names, text, report);
        fields.broken |= !http2.finish(report);
    }
    let text = "HTTP/3 is not served: clients come by HTTP/2";
    fields.each(Verdict::NotPossible, &["http3"], text, report);
    if let Some(mut udp) = fields.table("udp", report) {
        if let Some((time, at)) = udp.time("timeout", report) {
            if entry.udp {
                entry.table.set("timeouts.udp_idle", duration(time), Some(at));
                report.translated(at);
            } else {
                report.ignored(at, "no datagrams come here");
            }
        }
        fields.broken |= !udp.finish(report);
    } else if entry.udp {
        // Traefik's default.
        entry.table.set("timeouts.udp_idle", Value::text("3s"), entry.at);
    }
}

/// The names of the listeners, each another.
pub(super) fn listener_name(entry: &Entry, taken: &[String]) -> String {
    let name = plain_name(&entry.name);
    let free = |name: &String| !taken.contains(name);
    let mut names = std::iter::once(name.clone()).chain((2..).map(|number| format!("{name}-{number}")));
    names.find(free).unwrap_or(name)
}
