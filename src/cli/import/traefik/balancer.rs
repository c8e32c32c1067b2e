//! Load balancers: servers with what is asked of them, as pools.

use super::super::document::{Block, Table, Value};
use super::super::report::{Place, Report, Verdict};
use super::fields::{Fields, Set};
use super::probe;
use super::said::duration;
use super::service::Plan;
use super::source::Parts;
use super::transport;
use crate::model::address::EndpointAddress;

/// What `sticky` of a pool has.
pub(super) type Cookie = Vec<(&'static str, Value, Place)>;

/// A load balancer that has been read.
#[derive(Debug, Default)]
pub(super) struct Balancer {
    pub(super) servers: Vec<Server>,
    /// What is written of its pool beside endpoints, failover and stickiness.
    pub(super) table: Table,
    /// Whether its servers are asked how they are.
    pub(super) checked: bool,
    /// The Host that servers get, where it is not the request's.
    pub(super) host: Set<String>,
    /// The path that goes before that of requests.
    pub(super) base: Set<String>,
    cookie: Option<(Cookie, Place)>,
    at: Option<Place>,
}

/// A server.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Server {
    /// Its address with its port.
    pub(super) address: String,
    pub(super) weight: Set<i64>,
    pub(super) at: Place,
    /// `http`, `https` or `h2c`; `tls` or nothing for bytes.
    pub(super) scheme: String,
    /// Its host, with a port where one is written.
    host: String,
    path: String,
}

/// Reads a load balancer.
///
/// # Errors
/// Why Traefik does not make it.
pub(super) fn read(
    part: &'static str,
    mut fields: Fields<'_>,
    parts: &Parts<'_>,
    report: &mut Report,
) -> Result<Balancer, String> {
    let mut out = Balancer { at: Some(fields.at), ..Balancer::default() };
    out.servers = servers(part, &mut fields, report)?;
    match part {
        "http" => http(&mut out, &mut fields, parts, report)?,
        "tcp" => tcp(&mut out, &mut fields, parts, report)?,
        _ => {}
    }
    if fields.finish(report) { Ok(out) } else { Err("it has options that Traefik does not know".to_owned()) }
}

fn servers(part: &str, fields: &mut Fields<'_>, report: &mut Report) -> Result<Vec<Server>, String> {
    let mut out: Vec<Server> = Vec::new();
    let mut known_addresses = std::collections::HashSet::new();
    for mut row in fields.tables("servers", report) {
        let weight = if part == "http" { row.number("weight", report) } else { None };
        if let Some((_, at)) = weight {
            report.translated(at);
        }
        let (written, scheme) = if part == "http" {
            (row.text("url", report), String::new())
        } else {
            let tls = if part == "tcp" { row.flag("tls", report) } else { None };
            if let Some((_, at)) = tls {
                report.translated(at);
            }
            let scheme = if tls.is_some_and(|(yes, _)| yes) { "tls" } else { "" };
            (row.text("address", report), scheme.to_owned())
        };
        let preserve = if part == "http" { row.flag("preservePath", report) } else { None };
        if let Some((_, at)) = preserve {
            report.translated(at);
        }
        let known = row.finish(report);
        let Some((text, at)) = written.filter(|_| known) else {
            return Err("one of its servers has no address, or options that Traefik does not know".to_owned());
        };
        if part == "http" {
            let (scheme, address, path) = url(&text).map_err(|why| format!("the server {text} {why}"))?;
            let path = if preserve.is_some_and(|(yes, _)| yes) { path } else { String::new() };
            let host = authority(&text).to_owned();
            out.push(Server { address, weight, at, scheme, host, path });
        } else {
            let has_port = text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
            if !has_port || EndpointAddress::parse(&text).is_err() {
                report.wrong(at, "a server has an address with a port: Traefik leaves it out");
                continue;
            }
            let (host, path) = (String::new(), String::new());
            out.push(Server { address: text, weight: None, at, scheme, host, path });
        }
        report.translated(at);
        if let Some(server) = out.pop() {
            if known_addresses.insert(server.address.clone()) {
                out.push(server);
            } else {
                report.approximated(at, "it is there already: an endpoint is in a pool once");
            }
        }
    }
    Ok(out)
}

/// Scheme, address with port, and path with query of the URL of a service that is asked.
pub(super) fn address(text: &str) -> Result<(String, String, String), &'static str> {
    let (scheme, host, _) = url(text)?;
    let behind = text.split_once("://").map_or("", |(_, rest)| rest);
    let path = behind.find('/').and_then(|at| behind.get(at..)).unwrap_or("");
    Ok((scheme, host, path.split('#').next().unwrap_or("").to_owned()))
}

/// The host of a URL, with a port where one is written.
fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

/// Scheme, address with port, and path of a URL.
fn url(text: &str) -> Result<(String, String, String), &'static str> {
    let (scheme, rest) = text.split_once("://").ok_or("has no scheme, such as http://")?;
    let port = match scheme {
        "http" | "h2c" => 80,
        "https" => 443,
        _ => return Err("has a scheme that is not spoken here"),
    };
    let path = rest.find(['/', '?', '#']).and_then(|at| rest.get(at..)).unwrap_or("");
    let authority = authority(text);
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let address = if has_port { authority.to_owned() } else { format!("{authority}:{port}") };
    if EndpointAddress::parse(&address).is_err() {
        return Err("has no host that can be connected to");
    }
    let path = path.split(['?', '#']).next().unwrap_or("").trim_end_matches('/');
    Ok((scheme.to_owned(), address, path.to_owned()))
}

fn http(
    out: &mut Balancer,
    fields: &mut Fields<'_>,
    parts: &Parts<'_>,
    report: &mut Report,
) -> Result<(), String> {
    balance(out, fields, report)?;
    if let Some(sticky) = fields.table("sticky", report) {
        out.cookie = cookie(sticky, report);
    }
    pass_host(out, fields, report);
    base(out, report);
    let protocol = same_scheme(out, report);
    let transport = fields.text("serversTransport", report);
    transport::http(out, protocol, transport, parts, report)?;
    if let Some(check) = fields.table("healthCheck", report) {
        probe::http(out, protocol, check, report)?;
    }
    if let Some(mut passive) = fields.table("passiveHealthCheck", report) {
        let most = passive.number("maxFailedAttempts", report);
        let window = passive.time("failureWindow", report);
        report.translated(passive.at);
        let at = passive.at;
        passive.finish(report);
        out.table.set(
            "outlier.max_fails",
            Value::Integer(most.map_or(1, |(n, _)| n).clamp(1, 1000)),
            most.map(|(_, at)| at).or(Some(at)),
        );
        out.table.set(
            "outlier.fail_timeout",
            duration(window.map_or(10_000, |(time, _)| time)),
            window.map(|(_, at)| at).or(Some(at)),
        );
        for place in [most.map(|(_, at)| at), window.map(|(_, at)| at)].into_iter().flatten() {
            report.translated(place);
        }
        report.approximated(
            at,
            "an endpoint is out for the window from its last failure on; Traefik asks itself at each failure",
        );
    }
    if let Some(mut forwarding) = fields.table("responseForwarding", report) {
        let text = "answers go on as they come";
        forwarding.each(Verdict::Translated, &["flushInterval"], text, report);
        report.translated(forwarding.at);
        forwarding.finish(report);
    }
    Ok(())
}

fn balance(out: &mut Balancer, fields: &mut Fields<'_>, report: &mut Report) -> Result<(), String> {
    let strategy = fields.text("strategy", report);
    let (word, at) = match &strategy {
        Some((word, at)) => (word.as_str(), Some(*at)),
        None => ("wrr", None),
    };
    let balance = match word {
        "wrr" | "" => "round_robin",
        "p2c" => "random",
        "hrw" => {
            if let Some(at) = at {
                report.approximated(
                    at,
                    "the hash is another one: clients come to other servers than now, and stay there",
                );
            }
            "rendezvous"
        }
        "leasttime" => {
            if let Some(at) = at {
                report.approximated(
                    at,
                    "times to the response head are weighed as a moving average, not as a mean",
                );
            }
            "peak_ewma"
        }
        _ => return Err(format!("there is no strategy {word}")),
    };
    if let Some(at) = at {
        report.translated(at);
    }
    out.table.set("balance", Value::text(balance), at);
    Ok(())
}

/// `passHostHeader = false`: servers get their own names.
fn pass_host(out: &mut Balancer, fields: &mut Fields<'_>, report: &mut Report) {
    let Some((pass, at)) = fields.flag("passHostHeader", report) else { return };
    report.translated(at);
    if pass {
        return;
    }
    let Some(first) = out.servers.first() else { return };
    let host = first.host.clone();
    if out.servers.iter().any(|server| server.address != first.address) {
        report.not_possible(
            at,
            format!(
                "servers get the request's Host or one for all of them: {host} is written, that of the first"
            ),
        );
    }
    out.host = Some((host, at));
}

/// `preservePath`: what servers have before the path of requests.
fn base(out: &mut Balancer, report: &mut Report) {
    let Some(first) = out.servers.first().cloned() else { return };
    for server in out.servers.iter().filter(|server| server.path != first.path) {
        report.not_possible(
            server.at,
            "the path before that of requests is the route's: that of the first server holds for all",
        );
    }
    if !first.path.is_empty() {
        out.base = Some((first.path, first.at));
    }
}

/// The scheme that all servers have, at least as it is taken.
fn same_scheme(out: &Balancer, report: &mut Report) -> &'static str {
    let first = out.servers.first().map_or("http", |server| server.scheme.as_str());
    for server in out.servers.iter().filter(|server| server.scheme != first) {
        report.not_possible(server.at, format!("all endpoints of a pool are spoken to alike, here as the first one ({first}): make a pool of its own of this one"));
    }
    match first {
        "https" => "https",
        "h2c" => "h2c",
        _ => "http",
    }
}

fn tcp(
    out: &mut Balancer,
    fields: &mut Fields<'_>,
    parts: &Parts<'_>,
    report: &mut Report,
) -> Result<(), String> {
    out.table.set("balance", Value::text("round_robin"), None);
    if let Some((_, at)) = fields.number("terminationDelay", report) {
        report.ignored(
            at,
            "a side that has ended is told on, and the other one goes on until it ends or is quiet",
        );
    }
    if let Some(proxy) = fields.table("proxyProtocol", report) {
        transport::send_proxy(out, proxy, report);
    }
    let tls = out.servers.first().is_some_and(|server| server.scheme == "tls");
    for server in out.servers.iter().filter(|server| (server.scheme == "tls") != tls) {
        let other = if tls { "with TLS" } else { "without TLS" };
        report.not_possible(server.at, format!("all endpoints of a pool are spoken to alike, here {other} as the first one: make a pool of its own of this one"));
    }
    let transport = fields.text("serversTransport", report);
    transport::tcp(out, tls, transport, parts, report)?;
    if let Some(check) = fields.table("healthCheck", report) {
        probe::tcp(out, check, report);
    }
    Ok(())
}

/// How the cookie differs.
const COOKIE: &str = "its value is signed and names no server, so clients with a cookie of Traefik's are balanced anew, once; it is HttpOnly, and SameSite=Lax unless something else is said; endpoints do not see it, and answers that set it have Cache-Control: private; a client whose endpoint cannot be reached gets another one at its next request, to Traefik it stays until a check says otherwise";

/// `sticky` of a service.
pub(super) fn cookie(mut sticky: Fields<'_>, report: &mut Report) -> Option<(Cookie, Place)> {
    let at = sticky.at;
    let below = sticky.table("cookie", report);
    sticky.finish(report);
    let Some(mut fields) = below else {
        report.ignored(at, "it says of no cookie");
        return None;
    };
    report.translated(fields.at);
    let at = fields.at;
    let mut out: Cookie = Vec::new();
    match fields.text("name", report).filter(|(name, _)| !name.is_empty()) {
        Some((name, at)) => {
            report.approximated(at, COOKIE);
            out.push(("sticky.cookie", Value::text(name), at));
        }
        None => report.approximated(at, format!("the cookie has a name of its own, and {COOKIE}")),
    }
    if let Some((seconds, at)) = fields.number("maxAge", report) {
        if seconds > 0 {
            out.push(("sticky.max_age", duration(seconds.saturating_mul(1000)), at));
        }
        report.translated(at);
    }
    if let Some((seconds, at)) = fields.number("expires", report) {
        if seconds > 0 && !out.iter().any(|(key, ..)| *key == "sticky.max_age") {
            out.push(("sticky.max_age", duration(seconds.saturating_mul(1000)), at));
        }
        report.translated(at);
    }
    if let Some((secure, at)) = fields.flag("secure", report) {
        if secure {
            out.push(("sticky.secure", Value::text("always"), at));
            report.translated(at);
        } else {
            report.approximated(at, "where the client came by TLS the cookie is for TLS only");
        }
    }
    if let Some((only, at)) = fields.flag("httpOnly", report) {
        if only {
            report.translated(at);
        } else {
            report.approximated(at, "scripts do not see the cookie");
        }
    }
    if let Some((site, at)) = fields.text("sameSite", report) {
        let site = site.to_ascii_lowercase();
        if ["strict", "lax", "none"].contains(&site.as_str()) {
            out.push(("sticky.same_site", Value::text(site), at));
            report.translated(at);
        } else {
            report.wrong(at, "there is no such value: Traefik says nothing of sites then");
        }
    }
    for (name, key) in [("path", "sticky.path"), ("domain", "sticky.domain")] {
        if let Some((text, at)) = fields.text(name, report).filter(|(text, _)| !text.is_empty()) {
            if name != "path" || text != "/" {
                out.push((key, Value::text(text.trim_start_matches('.')), at));
            }
            report.translated(at);
        }
    }
    fields.finish(report);
    Some((out, at))
}

impl Balancer {
    /// The pool of a plan.
    pub(super) fn block(&self, name: &str, plan: &Plan, comment: &str) -> Block {
        let mut table = Table::default();
        let (balance, rest): (Vec<_>, Vec<_>) =
            self.table.entries.iter().cloned().partition(|entry| entry.path == "balance");
        table.entries.extend(balance);
        let lines = self.servers.iter().map(|server| {
            let value = match server.weight.filter(|(weight, _)| *weight != 1) {
                Some((weight, _)) => Value::inline([
                    ("address", Value::text(&server.address)),
                    ("weight", Value::Integer(weight.clamp(0, 1000))),
                ]),
                None => Value::text(&server.address),
            };
            (value, Some(server.at))
        });
        table.set("endpoints", Value::Lines(lines.collect()), None);
        table.entries.extend(rest);
        failover(plan, &mut table);
        let own = self.cookie.as_ref().map(|(cookie, at)| (cookie, Some(*at)));
        let cookie = own.or_else(|| plan.cookie.as_ref().map(|cookie| (cookie, None)));
        if let Some((cookie, at)) = cookie {
            for (key, value, at) in cookie {
                table.set(key, value.clone(), Some(*at));
            }
            if cookie.is_empty() {
                table.set("sticky", Value::Inline(Vec::new()), at);
            }
        }
        Block { name: name.to_owned(), comments: vec![comment.to_owned()], table }
    }

    /// The line that opens it.
    pub(super) const fn at(&self) -> Option<Place> {
        self.at
    }
}

/// Pools that take over, and at once give back.
pub(super) fn failover(plan: &Plan, table: &mut Table) {
    if let Some((_, at)) = plan.failover.first() {
        let names = plan.failover.iter().map(|(pool, _)| pool.clone());
        table.set("failover", Value::texts(names), Some(*at));
        let at_once = Value::inline([("after", Value::text("0s")), ("ramp", Value::text("0s"))]);
        table.set("failback", at_once, Some(*at));
    }
}
