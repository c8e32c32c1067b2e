//! What the servers and settings of a backend come to: a pool. Its probes are `probe`'s.

use std::time::Duration;

use super::super::document::{Block, Table, Value};
use super::super::report::{Place, Report};
use super::global::Global;
use super::probe;
use super::proxy::{Proxy, Set};
use super::said::{Said, approximated, not_possible, translated, wrong};
use super::server::{Options, Server};
use super::sticky;
use super::units::FOR_EVER;
use crate::model::units::format_duration;

/// What pools are made with.
pub(super) struct Around<'a> {
    /// The shortest `timeout client` of the tcp frontends that lead here.
    pub(super) client: Option<Duration>,
    /// What `global` says.
    pub(super) global: &'a Global,
    /// Where verdicts go.
    pub(super) report: &'a mut Report,
}

/// A time as Plimsoll writes it, within what it takes.
pub(super) fn duration(time: Duration) -> Value {
    Value::text(format_duration(time.clamp(Duration::from_millis(1), FOR_EVER)))
}

/// The pool of a section with servers.
pub(super) fn block(proxy: &Proxy, around: &mut Around<'_>) -> Block {
    let mut table = Table::default();
    balance(proxy, &mut table, around.report);
    endpoints(proxy, &mut table, around.report);
    connections(proxy, &mut table, around.report);
    limits(proxy, &mut table);
    moving_ceiling(proxy, &mut table, around.report);
    timeouts(proxy, around, &mut table);
    retry(proxy, &mut table, around.report);
    tiers(proxy, &mut table);
    tls(proxy, &mut table, around);
    probe::write(proxy, &mut table, around);
    outlier(proxy, &mut table);
    sticky::write(proxy, &mut table, around.report);
    Block { name: proxy.name.clone(), comments: Vec::new(), table }
}

fn balance(proxy: &Proxy, table: &mut Table, report: &mut Report) {
    let round_robin = vec!["roundrobin".to_owned()];
    let (words, at) = match &proxy.balance {
        Some((words, at)) => (words, Some(*at)),
        None => (&round_robin, None),
    };
    let first = words.first().map_or("", String::as_str);
    let argument = words.get(1).map_or("", String::as_str);
    let (name, inside) = match first.split_once('(') {
        Some((name, rest)) => (name, rest.trim_end_matches(')')),
        None => (first, ""),
    };
    let (word, key, said) = match name {
        "roundrobin" | "static-rr" => ("round_robin", None, translated()),
        "leastconn" => ("least_requests", None, translated()),
        "first" => ("first", None, translated()),
        "random" => ("random", None, translated()),
        "source" => hashed("source".to_owned()),
        "uri" if proxy.http => hashed("path".to_owned()),
        "url_param" if proxy.http => hashed(format!("query:{argument}")),
        "hdr" if proxy.http => hashed(format!("header:{}", inside.to_ascii_lowercase())),
        "hash" => hash_of(words.get(1..).unwrap_or_default()),
        "uri" | "url_param" | "hdr" => {
            ("round_robin", None, wrong("a tcp backend sees no requests: HAProxy falls back to roundrobin"))
        }
        "rdp-cookie" => (
            "ring_hash",
            Some("source".to_owned()),
            not_possible("RDP's cookie is not read: a client's address decides"),
        ),
        _ => ("round_robin", None, wrong("there is no such way to balance")),
    };
    let hashes = key.is_some();
    let consistent =
        proxy.hash_type.as_ref().is_some_and(|(words, _)| words.first().is_some_and(|w| w == "consistent"));
    let word = if hashes && !consistent { "maglev" } else { word };
    table.set("balance", Value::text(word), at);
    if let Some(key) = key.filter(|key| key != "source") {
        table.set("hash_key", Value::text(key), at);
    }
    if let Some(at) = at {
        said.about("", at, report);
    }
    if let Some((_, at)) = &proxy.hash_type {
        let how = if hashes {
            "the hash function is another: clients come to other endpoints than now, and stay there"
        } else {
            "the backend does not hash"
        };
        if hashes { report.approximated(*at, how) } else { report.ignored(*at, how) }
    }
    match proxy.load_factor {
        Some((percent, at)) if hashes && percent > 100 => {
            let factor = f64::from(u32::try_from(percent.min(10_000)).unwrap_or(10_000)) / 100.0;
            table.set("load_factor", Value::Real(factor), Some(at));
            report.translated(at);
        }
        Some((_, at)) => report.ignored(at, "the backend does not hash, or loads are not bounded"),
        None => {}
    }
}

fn hashed(key: String) -> (&'static str, Option<String>, Said) {
    let how = "the hash function is another: clients come to other endpoints than now, and stay there";
    ("ring_hash", Some(key), approximated(how))
}

/// `balance hash EXPRESSION`.
fn hash_of(expression: &[String]) -> (&'static str, Option<String>, Said) {
    let text = expression.join(" ");
    let named = |start: &str| {
        text.strip_prefix(start).and_then(|rest| rest.strip_suffix(')')).map(str::to_ascii_lowercase)
    };
    if text == "src" {
        return hashed("source".to_owned());
    }
    if ["path", "pathq", "url"].contains(&text.as_str()) {
        return hashed("path".to_owned());
    }
    if ["req.ssl_sni", "ssl_fc_sni"].contains(&text.as_str()) {
        return hashed("sni".to_owned());
    }
    for start in ["req.hdr(", "hdr(", "req.fhdr("] {
        if let Some(name) = named(start) {
            return hashed(format!("header:{name}"));
        }
    }
    for (start, key) in
        [("req.cook(", "cookie"), ("cook(", "cookie"), ("url_param(", "query"), ("urlp(", "query")]
    {
        if let Some(name) = text.strip_prefix(start).and_then(|rest| rest.strip_suffix(')')) {
            return hashed(format!("{key}:{name}"));
        }
    }
    (
        "ring_hash",
        Some("source".to_owned()),
        not_possible(
            "hash_key is source, header:NAME, cookie:NAME, query:NAME, path or sni: the source is taken",
        ),
    )
}

fn endpoints(proxy: &Proxy, table: &mut Table, report: &mut Report) {
    let all_off = proxy.servers.iter().all(|server| weight(&server.options) == Some(0));
    if all_off {
        for server in &proxy.servers {
            report.not_possible(
                server.at,
                "every server of the backend is off: a pool needs one that is on, so all are",
            );
        }
    }
    let same_ceiling = same_maxconn(proxy).is_some();
    let (mut backups, all) = (0, probe::All::of(proxy));
    let lines = proxy.servers.iter().map(|server| {
        let mut pairs = vec![
            ("name".to_owned(), Value::text(&server.name)),
            ("address".to_owned(), Value::text(&server.address)),
        ];
        if let Some(weight) = weight(&server.options).filter(|weight| *weight != 1 && !all_off) {
            pairs.push(("weight".to_owned(), Value::Integer(weight)));
        }
        if server.options.backup {
            // One backup after the other, or all at once.
            backups = if proxy.has("allbackups") { 1 } else { backups + 1 };
            pairs.push(("tier".to_owned(), Value::Integer(i64::min(backups, 255))));
        }
        if let Some(ceiling) = server.options.maxconn.filter(|n| *n > 0 && !same_ceiling) {
            pairs.push(("max_requests".to_owned(), Value::Integer(ceiling.min(1_000_000))));
        }
        if let Some(health) = probe::of_endpoint(server, all) {
            pairs.push(("health".to_owned(), health));
        }
        (Value::Inline(pairs), Some(server.at))
    });
    let lines: Vec<_> = lines.collect();
    table.set("endpoints", Value::Lines(lines), None);
}

fn weight(options: &Options) -> Option<i64> {
    if options.disabled { Some(0) } else { options.weight }
}

/// The ceiling that all servers have.
fn same_maxconn(proxy: &Proxy) -> Option<i64> {
    let first = proxy.servers.first()?.options.maxconn.filter(|n| *n > 0)?;
    proxy.servers.iter().all(|server| server.options.maxconn == Some(first)).then_some(first)
}

/// What all servers say alike; the lines of those that differ from the first are remarked on.
pub(super) fn alike<T: PartialEq>(
    proxy: &Proxy,
    read: impl Fn(&Options) -> Option<T>,
    what: &str,
    report: &mut Report,
) -> Set<T> {
    let first = proxy.servers.first()?;
    let value = read(&first.options);
    for server in proxy.servers.iter().filter(|server| read(&server.options) != value) {
        report.approximated(server.at, format!("{what} is the pool's: that of {} holds for all", first.name));
    }
    value.map(|value| (value, first.at))
}

fn connections(proxy: &Proxy, table: &mut Table, report: &mut Report) {
    if let Some((word, at)) = alike(proxy, |o| o.http2, "protocol", report).filter(|_| proxy.http) {
        table.set("protocol", Value::text(word), Some(at));
    }
    if let Some((version, at)) = alike(proxy, |o| o.send_proxy, "send_proxy", report) {
        table.set("send_proxy", Value::text(version), Some(at));
    }
    let of_servers = alike(proxy, |o| o.source.clone(), "source_address", report);
    let Some((source, at)) = of_servers.or_else(|| proxy.source.clone()) else { return };
    let source = source.split(':').next().unwrap_or(&source).to_owned();
    if source.parse::<std::net::IpAddr>().is_ok_and(|address| !address.is_unspecified()) {
        table.set("source_address", Value::text(source), Some(at));
        report.translated(at);
    } else {
        report.ignored(at, "the system chooses the address");
    }
}

fn limits(proxy: &Proxy, table: &mut Table) {
    let first = proxy.servers.first().map(|server| server.at);
    if let Some(ceiling) = same_maxconn(proxy) {
        let key = if proxy.http { "limits.max_requests" } else { "limits.max_connections" };
        table.set(key, Value::Integer(ceiling.min(1_000_000)), first);
    }
    let bounded = proxy.servers.iter().any(|server| server.options.maxconn.is_some_and(|n| n > 0));
    if bounded && !proxy.http {
        // HAProxy lets connections wait for a place; a tcp pool does so where a queue is written.
        table.set("limits.queue", Value::Integer(512), first);
    }
    // `timeout connect` is also how long a request waits where nothing else is said.
    let wait = proxy.timeout("queue").or_else(|| proxy.timeout("connect").filter(|_| bounded));
    if let Some((time, at)) = wait {
        table.set("limits.queue_timeout", duration(time), Some(at));
    }
    if let Some(at) = proxy.options.get("reuse-never") {
        table.set("limits.idle_connections", Value::Integer(0), Some(*at));
    }
}

/// `minconn` and `fullconn`: a ceiling that moves with the load of the pool.
fn moving_ceiling(proxy: &Proxy, table: &mut Table, report: &mut Report) {
    let least = proxy.servers.first().and_then(|server| server.options.minconn).filter(|n| *n > 0);
    let alike = proxy.servers.iter().all(|server| server.options.minconn.filter(|n| *n > 0) == least);
    let most = same_maxconn(proxy);
    let (Some(least), Some(most), true, true) = (least, most, alike, proxy.http) else {
        for server in proxy.servers.iter().filter(|server| server.options.minconn.is_some_and(|n| n > 0)) {
            let remedy = "minconn: endpoints of an http pool have one limits.min_requests and max_requests; maxconn is the ceiling at all times";
            report.not_possible(server.at, remedy);
        }
        if let Some((_, at)) = proxy.full {
            report.ignored(at, "it matters to minconn only");
        }
        return;
    };
    let (most, first) = (most.min(1_000_000), proxy.servers.first().map(|server| server.at));
    if least >= most {
        return;
    }
    table.set("limits.min_requests", Value::Integer(least), first);
    let count = i64::try_from(proxy.servers.len()).unwrap_or(i64::MAX);
    let (full, at) = match proxy.full.filter(|(full, _)| *full > 0) {
        Some((full, at)) => {
            report.translated(at);
            (full, Some(at))
        }
        None => {
            if let Some(at) = first {
                report.approximated(at, "without fullconn HAProxy takes a tenth of what its frontends may have; here it is what all servers may");
            }
            (most.saturating_mul(count), first)
        }
    };
    table.set("limits.full_load", Value::Integer(full.clamp(1, 10_000_000)), at);
}

fn timeouts(proxy: &Proxy, around: &mut Around<'_>, table: &mut Table) {
    if let Some((time, at)) = proxy.timeout("connect") {
        table.set("timeouts.connect", duration(time), Some(at));
    }
    let server = proxy.timeout("server");
    if proxy.http {
        if let Some((time, at)) = server {
            table.set("timeouts.response_header", duration(time), Some(at));
            table.set("timeouts.idle", duration(time), Some(at));
        }
        if let Some((time, at)) = proxy.timeout("tunnel") {
            table.set("timeouts.tunnel", duration(time), Some(at));
        }
        return;
    }
    if let Some((time, at)) = proxy.timeout("tunnel") {
        table.set("timeouts.tunnel", duration(time), Some(at));
    } else if let Some((time, at)) = server {
        let shortest = around.client.map_or(time, |client| client.min(time));
        if shortest < time {
            around.report.approximated(at, "timeouts.tunnel is the shorter one of this and `timeout client`");
        }
        table.set("timeouts.tunnel", duration(shortest), Some(at));
    }
}

fn retry(proxy: &Proxy, table: &mut Table, report: &mut Report) {
    if let Some((retries, at)) = proxy.retries {
        match proxy.has("redispatch") {
            _ if retries < 0 => report.wrong(at, "HAProxy cannot read its value"),
            true => report.translated(at),
            false => report.approximated(
                at,
                "each try goes to another endpoint, at once: HAProxy waits and asks the same server again",
            ),
        }
    }
    if !proxy.http {
        if let Some((_, at)) = proxy.retry_on {
            report.wrong(at, "a tcp backend sees no answers: HAProxy warns and ignores it");
        }
        return;
    }
    let (retries, at) = proxy.retries.map_or((3, None), |(retries, at)| (retries, Some(at)));
    let causes = causes(proxy, report);
    if retries <= 0 || causes.is_empty() {
        table.set("retry", Value::text("off"), at);
        return;
    }
    table.set("retry.attempts", Value::Integer(retries.saturating_add(1).min(100)), at);
    table.set("retry.on", Value::texts(causes), proxy.retry_on.as_ref().map(|(_, at)| *at));
}

fn causes(proxy: &Proxy, report: &mut Report) -> Vec<String> {
    let Some((words, at)) = &proxy.retry_on else { return vec!["connect".to_owned()] };
    let mut causes: Vec<String> = Vec::new();
    let mut unknown = None;
    for word in words {
        let more: &[&str] = match word.as_str() {
            "none" => &[],
            "conn-failure" => &["connect"],
            "empty-response" | "junk-response" => &["reset"],
            "response-timeout" => &["timeout"],
            "0rtt-rejected" => &[],
            "all-retryable-errors" => &["connect", "reset", "timeout", "500", "502-504"],
            status if status.parse::<u16>().is_ok_and(|s| (400..=599).contains(&s)) => &[status],
            other => {
                unknown = Some(other);
                &[]
            }
        };
        for cause in more {
            if !causes.iter().any(|known| known == cause) {
                causes.push((*cause).to_owned());
            }
        }
    }
    match unknown {
        Some(word) => report.wrong(*at, format!("there is no cause `{word}`")),
        None if causes == ["connect"] || causes.is_empty() => report.translated(*at),
        None => report.approximated(
            *at,
            "what may have been acted on, such as a POST, is not sent again unless retry.non_idempotent says so; HAProxy does",
        ),
    }
    causes
}

/// Backups, and how the way back is taken.
fn tiers(proxy: &Proxy, table: &mut Table) {
    if let Some((time, at)) = proxy.servers.iter().filter_map(|s| Some((s.options.slowstart?, s.at))).max() {
        table.set("slow_start", Value::text(format_duration(time.min(FOR_EVER))), Some(at));
    }
    if let Some(backup) = proxy.servers.iter().find(|server| server.options.backup) {
        // HAProxy goes back at once.
        let at_once = [("after", Value::text("0s")), ("ramp", Value::text("0s"))];
        table.set("failback", Value::inline(at_once), Some(backup.at));
    }
}

/// The keys of `tls` below `prefix`.
pub(super) fn tls_keys(
    prefix: &str,
    server: &Server,
    name: Option<&str>,
    table: &mut Table,
    around: &mut Around<'_>,
) {
    let (options, at) = (&server.options, Some(server.at));
    let mut set =
        |key: &str, value: Value, at: Option<Place>| table.set(&format!("{prefix}.{key}"), value, at);
    if let Some(name) = name {
        set("server_name", Value::text(name), at);
    }
    let global = around.global;
    if let Some(ca) = options.ca.as_deref().filter(|ca| *ca != "@system-ca") {
        set("ca", Value::text(global.in_base(global.ca_base.as_deref(), ca)), at);
    }
    if let Some(path) = &options.certificate {
        let path = global.in_base(global.crt_base.as_deref(), path);
        set("cert", Value::text(&path), at);
        set("key", Value::text(&path), at);
    }
    if options.min_version.as_deref() == Some("TLSv1.3") {
        set("min_version", Value::text("1.3"), at);
    }
    let unverified = global.servers_unverified.filter(|_| !options.verify_required);
    if options.verify_none {
        set("verify", Value::inline([("off", Value::text("`verify none` in haproxy.cfg"))]), at);
    } else if unverified.is_some() {
        set(
            "verify",
            Value::inline([("off", Value::text("`ssl-server-verify none` in haproxy.cfg"))]),
            unverified,
        );
    } else if options.ca.is_none() {
        around.report.wrong(
            server.at,
            "HAProxy does not start: certificates are to be verified, and no ca-file says by whom. Here the system's authorities do",
        );
    } else if name.is_none() {
        around.report.approximated(
            server.at,
            "the name in the certificate is verified too, which HAProxy does for `sni` and `verifyhost` only: server_name says which one it is",
        );
    }
}

fn tls(proxy: &Proxy, table: &mut Table, around: &mut Around<'_>) {
    let Some(server) = proxy.servers.iter().find(|server| server.options.ssl) else { return };
    for other in proxy.servers.iter().filter(|other| !other.options.ssl) {
        around.report.not_possible(
            other.at,
            "a pool speaks TLS with all of its endpoints or with none: give these a pool of their own",
        );
    }
    let name = server.options.sni.as_deref();
    tls_keys("tls", server, name, table, around);
    if !table.has_below("tls") {
        table.set("tls", Value::Inline(Vec::new()), Some(server.at));
    }
}

/// `observe`: passive ejection.
fn outlier(proxy: &Proxy, table: &mut Table) {
    let Some(server) = proxy.servers.iter().find(|server| server.options.observe.is_some()) else { return };
    if server.options.observe.as_deref() == Some("layer7") {
        table.set("outlier.count", Value::texts(["connect", "reset", "timeout", "500-599"]), Some(server.at));
    }
    let limit = server.options.error_limit.unwrap_or(10);
    table.set("outlier.consecutive_failures", Value::Integer(limit.min(1_000_000)), Some(server.at));
}
