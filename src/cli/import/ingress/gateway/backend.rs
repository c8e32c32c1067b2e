//! Backends of a rule: the pools that they are, and what each gets of the requests.

use std::time::Duration;

use super::super::super::document::{Table, Value};
use super::super::super::report::{Place, Report};
use super::super::super::tree::Node;
use super::super::field::article;
use super::super::object::{Cluster, Object, is_name};
use super::super::pool::Pools;
use super::super::secret;
use super::super::service::{PortName, Wanted, port_number};
use super::super::value::{duration, gateway_duration};
use super::entry::GROUP;
use super::grant;
use super::matching::first_line;

/// As much as a weight can be here, and there.
const WEIGHT_MAX: i64 = 1000;
const WEIGHT_LIMIT: i64 = 1_000_000;

/// A backend that is valid.
#[derive(Debug, Clone)]
pub(super) struct Share {
    pub(super) to: Wanted,
    pub(super) weight: i64,
    pub(super) at: Place,
}

/// What backends are looked up with.
pub(super) struct Around<'r, 'c, 'a> {
    pub(super) cluster: &'c Cluster<'a>,
    pub(super) pools: &'r mut Pools<'c, 'a>,
    pub(super) report: &'r mut Report,
}

/// How clients stay with an endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Stay {
    cookie: String,
    max_age: Option<Duration>,
    max_idle: Option<Duration>,
    at: Option<Place>,
}

/// The Service that a reference means; nothing where there is none that may be named.
pub(super) fn service(
    node: &Node,
    route: &Object<'_>,
    udp: bool,
    cluster: &Cluster<'_>,
    report: &mut Report,
) -> Option<(Wanted, Place)> {
    let text = |name: &str| node.get(name).and_then(Node::text);
    let at = node.get("name").map_or(node.at, |name| name.at);
    let kind = (text("group").unwrap_or(""), text("kind").unwrap_or("Service"));
    if kind != ("", "Service") {
        report.not_possible(
            at,
            format!("a backend is a Service, and {} is none: what it would get is answered with 500", kind.1),
        );
        return None;
    }
    let Some(name) = text("name").filter(|name| is_name(name)) else {
        report.wrong(at, "a backend has a name: Kubernetes refuses it");
        return None;
    };
    let Some(port) = node.get("port").and_then(port_number) else {
        report.wrong(at, "a Service is named with a port from 1 to 65535: Kubernetes refuses it");
        return None;
    };
    let namespace = text("namespace").unwrap_or(route.namespace);
    if !grant::allows(cluster, (GROUP, route.kind, route.namespace), ("", "Service", namespace, name)) {
        report.wrong(
            at,
            format!(
                "no ReferenceGrant in {namespace} lets {} of {} name this Service: it is answered with 500",
                article(route.kind),
                route.namespace
            ),
        );
        return None;
    }
    let to = Wanted {
        namespace: namespace.to_owned(),
        service: name.to_owned(),
        port: PortName::Number(port),
        udp,
        as_one: false,
    };
    Some((to, at))
}

/// The valid backends of a rule, and whether there were others.
pub(super) fn shares(
    rule: &Node,
    route: &Object<'_>,
    udp: bool,
    cluster: &Cluster<'_>,
    report: &mut Report,
) -> (Vec<Share>, bool) {
    let (mut out, mut lost) = (Vec::new(), false);
    for node in rule.get("backendRefs").map_or(&[][..], Node::items) {
        let weight = match node.get("weight") {
            None => 1,
            Some(weight) => match weight.as_i64().filter(|number| (0..=WEIGHT_LIMIT).contains(number)) {
                Some(number) => number,
                None => {
                    report.wrong(weight.at, "a weight is a number from 0 to 1000000: Kubernetes refuses it. The backend is left out");
                    lost = true;
                    continue;
                }
            },
        };
        let strange = |filter: &&Node| {
            let kind = filter.get("type").and_then(Node::text).unwrap_or("");
            !["RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror", "URLRewrite"]
                .contains(&kind)
        };
        if let Some(filter) = node.get("filters").map_or(&[][..], Node::items).iter().find(strange) {
            report.not_possible(first_line(filter), "the filter is no part of Gateway API, or none of a backend: what the backend would get is answered with 500");
            lost |= weight > 0;
            continue;
        }
        match service(node, route, udp, cluster, report) {
            Some((to, at)) => out.push(Share { to, weight, at }),
            None => lost |= weight > 0,
        }
    }
    (out, lost)
}

/// `pool`, `split` or an answer in the place of both.
pub(super) fn write(
    rule: &Node,
    route: &Object<'_>,
    grpc: bool,
    around: &mut Around<'_, '_, '_>,
    table: &mut Table,
) {
    let stay = stay(rule, around.report);
    let (shares, mut lost) = shares(rule, route, false, around.cluster, around.report);
    let mut parts: Vec<(String, i64, Place)> = Vec::new();
    for share in shares.iter().filter(|share| share.weight > 0) {
        match pool(share, grpc, &stay, around) {
            Ok(pool) => match parts.iter_mut().find(|(known, ..)| *known == pool) {
                Some((_, weight, _)) => *weight += share.weight,
                None => parts.push((pool, share.weight, share.at)),
            },
            Err(why) => {
                around.report.wrong(share.at, format!("{why}: it is answered with 500 or 503"));
                lost = true;
            }
        }
    }
    of_backends(rule, around.report);
    let at = rule.entry("backendRefs").map(|(key, _)| key.at);
    if parts.is_empty() {
        if let (Some(at), false) = (at, lost) {
            around.report.wrong(at, "no backend has a weight: it is answered with 500");
        }
        let status = Value::inline([("status", Value::Integer(500))]);
        return table.set("respond", status, at);
    }
    if let (true, Some(at)) = (lost, at) {
        around.report.approximated(
            at,
            "the share of what cannot be had would be answered with 500: here the others have it",
        );
    }
    if let [(pool, ..)] = parts.as_slice() {
        return table.set("pool", Value::text(pool), None);
    }
    let most = parts.iter().map(|(_, weight, _)| *weight).max().unwrap_or(1);
    if most > WEIGHT_MAX
        && let Some(at) = at
    {
        around.report.approximated(at, "weights are whole numbers up to 1000: shares are rounded");
    }
    let scale = |weight: i64| {
        if most > WEIGHT_MAX { (weight.saturating_mul(WEIGHT_MAX) / most).max(1) } else { weight }
    };
    let list = parts.iter().map(|(pool, weight, at)| {
        let pairs = [("pool", Value::text(pool)), ("weight", Value::Integer(scale(*weight)))];
        (Value::inline(pairs), Some(*at))
    });
    table.set("split", Value::Lines(list.collect()), at);
}

/// Filters of one backend alone.
fn of_backends(rule: &Node, report: &mut Report) {
    for node in rule.get("backendRefs").map_or(&[][..], Node::items) {
        if let Some((key, filters)) = node.entry("filters")
            && !filters.is_empty()
        {
            report.not_possible(key.at, "filters are of a route, not of one of its shares: let the Service's pods see which they are, or give these requests a route");
        }
    }
}

/// The pool of a backend.
pub(super) fn pool(
    share: &Share,
    grpc: bool,
    stay: &Option<Stay>,
    around: &mut Around<'_, '_, '_>,
) -> Result<String, String> {
    let policy = policy(&share.to, around.cluster, around.report);
    let kind = format!("gateway {grpc} {stay:?} {policy:?}");
    around.pools.of_service(&share.to, &kind, share.at, around.report, |made, report| {
        made.table.set("balance", Value::text("round_robin"), None);
        let http2 = grpc || matches!(made.speaks, Some("kubernetes.io/h2c" | "grpc" | "kubernetes.io/grpc"));
        if http2 {
            made.table.set("protocol", Value::text("http2"), None);
        }
        if let Some((name, authority, at)) = &policy {
            made.table.set("tls.server_name", Value::text(name), Some(*at));
            if let Some(authority) = authority {
                made.table.set("tls.ca", Value::text(authority), Some(*at));
            }
        } else if made.speaks.is_some_and(|speaks| speaks == "https" || speaks == "kubernetes.io/wss") {
            made.table.set("tls", Value::Inline(Vec::new()), None);
            report.approximated(share.at, "its Service says that it speaks TLS: its certificate is verified");
        }
        if let Some(stay) = stay {
            let mut set = |key: &str, value: Value| made.table.set(&format!("sticky.{key}"), value, stay.at);
            set("cookie", Value::text(&stay.cookie));
            if let Some(age) = stay.max_age {
                set("max_age", duration(age));
            }
            if let Some(idle) = stay.max_idle {
                set("max_idle", duration(idle));
            }
        }
    })
}

/// `BackendTLSPolicy` of a Service: the name that is verified and the file of the authority.
fn policy(
    to: &Wanted,
    cluster: &Cluster<'_>,
    report: &mut Report,
) -> Option<(String, Option<String>, Place)> {
    let port = |name: &str| {
        let service = cluster.get("Service", &to.namespace, &to.service)?;
        let ports = service.spec(&["ports"]).map_or(&[][..], Node::items);
        let own = ports.iter().find(|port| port.get("name").and_then(Node::text) == Some(name))?;
        own.get("port").and_then(port_number).map(PortName::Number)
    };
    let means = |node: &Node| {
        let section = node.get("sectionName").and_then(Node::text);
        node.get("name").and_then(Node::text) == Some(&to.service)
            && node.get("kind").and_then(Node::text).unwrap_or("Service") == "Service"
            && section.is_none_or(|section| port(section).as_ref() == Some(&to.port))
    };
    let found = cluster.of("BackendTLSPolicy").find(|policy| {
        policy.namespace == to.namespace
            && policy.spec(&["targetRefs"]).map_or(&[][..], Node::items).iter().any(means)
    })?;
    let validation = found.spec(&["validation"])?;
    let name = validation.get("hostname").and_then(Node::text)?.to_owned();
    let at = validation.get("hostname").map_or(found.at, |node| node.at);
    let references = validation.get("caCertificateRefs").map_or(&[][..], Node::items);
    let file = |node: &Node| {
        let own = node.get("name").and_then(Node::text)?;
        Some(secret::file(found.namespace, own, "ca.crt"))
    };
    if let Some(file) = references.first().and_then(file) {
        for other in references.iter().skip(1) {
            report.approximated(first_line(other), format!("write it into {file} too, behind the other one"));
        }
    }
    let authority = references.first().and_then(|node| {
        let own = node.get("name").and_then(Node::text)?;
        let kind = node.get("kind").and_then(Node::text).unwrap_or("ConfigMap");
        let file = secret::file(found.namespace, own, "ca.crt");
        let at = node.get("name").map_or(node.at, |name| name.at);
        secret::tell_authority(cluster, kind, found.namespace, own, &file, at, report);
        Some(file)
    });
    Some((name, authority, at))
}

/// `sessionPersistence` of a rule.
fn stay(rule: &Node, report: &mut Report) -> Option<Stay> {
    let node = rule.get("sessionPersistence")?;
    let at = first_line(node);
    let text = |name: &str| node.get(name).and_then(Node::text);
    if text("type").unwrap_or("Cookie") != "Cookie" {
        report.not_possible(at, "the gateway would hand out a field to stay by: sticky of the pool goes by a cookie, or by a field that clients have (table = \"header:NAME\")");
        return None;
    }
    let name = text("sessionName").unwrap_or("plimsoll_session");
    if crate::model::field::FieldName::new(&name.to_ascii_lowercase()).is_err() {
        report.wrong(at, "it is no name of a cookie");
        return None;
    }
    let permanent = node.below(&["cookieConfig", "lifetimeType"]).and_then(Node::text) == Some("Permanent");
    let time = |name: &str| text(name).and_then(gateway_duration).filter(|time| !time.is_zero());
    let absolute = time("absoluteTimeout");
    if absolute.is_some() && !permanent {
        report
            .approximated(at, "browsers keep the cookie for absoluteTimeout, and not until they are closed");
    }
    Some(Stay { cookie: name.to_owned(), max_age: absolute, max_idle: time("idleTimeout"), at: Some(at) })
}

/// `timeouts` and `retry` of a rule.
pub(super) fn write_times(rule: &Node, table: &mut Table, report: &mut Report) {
    let mut read = |name: &str| {
        let node = rule.below(&["timeouts", name])?;
        let found = node.text().and_then(gateway_duration);
        if found.is_none() {
            report
                .wrong(node.at, "a time is like 500ms, 10s or 1h30m: Kubernetes refuses it. It is left out");
        }
        found.map(|time| (time, node.at))
    };
    let (request, backend) = (read("request"), read("backendRequest"));
    if let (Some((all, _)), Some((each, at))) = (request, backend)
        && each > all
        && !all.is_zero()
    {
        report.wrong(at, "a try has no longer than the whole request: Kubernetes refuses it");
    }
    let retry = rule.get("retry");
    if let Some((time, at)) = request.or(backend) {
        let time = if time.is_zero() { Duration::from_secs(24 * 60 * 60) } else { time };
        let how = if request.is_some_and(|(time, _)| time.is_zero()) {
            "without an end is a day at most"
        } else {
            "the time is that to the head of an answer; idle is how long its body may stand still"
        };
        report.approximated(at, how);
        table.set("timeouts.response_header", duration(time), Some(at));
        if time > Duration::from_secs(300) {
            table.set("timeouts.idle", duration(time), Some(at));
        }
    }
    if let (Some((all, at)), true) = (request, retry.is_some() || backend.is_some()) {
        let all = if all.is_zero() { Duration::from_secs(24 * 60 * 60) } else { all };
        table.set("retry.within", duration(all), Some(at));
    }
    if let (Some((each, at)), Some(_)) = (backend, request.or_else(|| retry.and(backend)))
        && !each.is_zero()
        && request.is_none_or(|(all, _)| all.is_zero() || each <= all)
    {
        table.set("retry.per_try_timeout", duration(each), Some(at));
    }
    let Some(retry) = retry else { return };
    let at = first_line(retry);
    let attempts = retry.get("attempts").and_then(Node::as_i64).unwrap_or(1).clamp(0, 99);
    if attempts == 0 {
        table.entries.retain(|entry| !entry.path.starts_with("retry."));
        return table.set("retry", Value::text("off"), Some(at));
    }
    table.set("retry.attempts", Value::Integer(attempts + 1), Some(at));
    let codes = retry.get("codes").map_or(&[][..], Node::items).iter().filter_map(Node::as_i64);
    let mut on: Vec<String> = vec!["connect".to_owned(), "reset".to_owned()];
    if backend.is_some() {
        on.push("timeout".to_owned());
    }
    on.extend(codes.filter(|code| (400..600).contains(code)).map(|code| code.to_string()));
    table.set("retry.on", Value::texts(on), Some(at));
    report.approximated(at, "requests such as POST are not sent again unless retry.non_idempotent says so, and each try goes to another endpoint");
    if let Some((key, _)) = retry.entry("backoff") {
        report.approximated(key.at, "a try follows at once: it goes to another endpoint, within a budget");
    }
}
