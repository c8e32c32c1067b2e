//! Health checks of services, as probes of pools.

use super::super::document::Value;
use super::super::report::{Place, Report};
use super::balancer::Balancer;
use super::fields::Fields;
use super::said::duration;

/// Traefik's interval and timeout.
const INTERVAL: i64 = 30_000;
const TIMEOUT: i64 = 5_000;

/// `healthCheck` of HTTP.
///
/// # Errors
/// Why Traefik does not make the service.
pub(super) fn http(
    out: &mut Balancer,
    protocol: &str,
    mut fields: Fields<'_>,
    report: &mut Report,
) -> Result<(), String> {
    let at = fields.at;
    let path = fields.text("path", report);
    let mode = fields.text("mode", report);
    let grpc = mode.as_ref().is_some_and(|(mode, _)| mode == "grpc");
    if let Some((mode, at)) = &mode {
        match mode.as_str() {
            "http" | "grpc" | "" => report.translated(*at),
            _ => return Err(format!("there is no mode {mode} of checks")),
        }
    }
    report.translated(at);
    out.checked = true;
    out.table.set("fail_open", Value::Bool(false), Some(at));
    if grpc {
        out.table.set("health.check", Value::text("grpc"), mode.as_ref().map(|(_, at)| *at));
    }
    match path {
        Some((path, at)) if grpc => {
            report.translated(at);
            let _service_of_all = path;
        }
        Some((path, at)) => {
            let path = if path.starts_with('/') { path } else { format!("/{path}") };
            report.translated(at);
            out.table.set("health.path", Value::text(path), Some(at));
        }
        None if grpc => {}
        None => report.wrong(at, "it has no path: Traefik asks for the address of the server alone"),
    }
    request(out, &mut fields, grpc, report);
    answer(out, &mut fields, grpc, report);
    if let Some((port, at)) = fields.number("port", report).filter(|(port, _)| *port != 0) {
        out.table.set("health.port", Value::Integer(port.clamp(1, 65_535)), Some(at));
        report.translated(at);
    }
    if let Some((scheme, at)) = fields.text("scheme", report).filter(|(scheme, _)| !scheme.is_empty()) {
        match (scheme.as_str(), protocol) {
            ("https", "https") => report.translated(at),
            ("https", _) => {
                out.table.set("health.tls", Value::Inline(Vec::new()), Some(at));
                report.translated(at);
            }
            (_, "https") => {
                out.table.set("health.tls", Value::text("off"), Some(at));
                report.translated(at);
            }
            _ => report.translated(at),
        }
    }
    times(out, &mut fields, at, report);
    if fields.finish(report) {
        Ok(())
    } else {
        Err("its health check has options that Traefik does not know".to_owned())
    }
}

fn request(out: &mut Balancer, fields: &mut Fields<'_>, grpc: bool, report: &mut Report) {
    if let Some((method, at)) = fields.text("method", report).filter(|(method, _)| !method.is_empty()) {
        if !grpc {
            out.table.set("health.method", Value::text(method.to_uppercase()), Some(at));
        }
        report.translated(at);
    }
    if let Some((host, at)) = fields.text("hostname", report).filter(|(host, _)| !host.is_empty()) {
        out.table.set("health.host", Value::text(host), Some(at));
        report.translated(at);
    }
    if let Some((list, at)) = fields.pairs("headers", report) {
        report.translated(at);
        let mut pairs = Vec::new();
        for (key, value) in list {
            let name = key.text.to_ascii_lowercase();
            if grpc {
                report.not_possible(key.at, "a probe of gRPC has no fields of its own");
            } else if name == "host" {
                out.table.set("health.host", Value::text(value), Some(key.at));
                report.translated(key.at);
            } else {
                pairs.push((name, Value::text(value)));
                report.translated(key.at);
            }
        }
        if !pairs.is_empty() {
            out.table.set("health.headers", Value::Inline(pairs), Some(at));
        }
    }
}

fn answer(out: &mut Balancer, fields: &mut Fields<'_>, grpc: bool, report: &mut Report) {
    let at = fields.at;
    let status = fields.number("status", report).filter(|(status, _)| *status != 0);
    match status {
        Some((status, at)) => {
            report.translated(at);
            if (100..600).contains(&status) && !grpc {
                out.table.set("health.expect_status", Value::texts([status.to_string()]), Some(at));
            }
        }
        None if grpc => {}
        None => out.table.set("health.expect_status", Value::texts(["200-399"]), Some(at)),
    }
    match fields.flag("followRedirects", report) {
        Some((false, at)) => report.translated(at),
        Some((true, at)) => report.approximated(at, "a redirect is a good answer and is not followed"),
        None => {}
    }
}

/// `healthCheck` of TCP.
pub(super) fn tcp(out: &mut Balancer, mut fields: Fields<'_>, report: &mut Report) {
    let at = fields.at;
    report.translated(at);
    out.checked = true;
    out.table.set("fail_open", Value::Bool(false), Some(at));
    out.table.set("health.check", Value::text("tcp"), Some(at));
    for (name, key) in [("send", "health.send"), ("expect", "health.expect")] {
        if let Some((text, at)) = fields.text(name, report).filter(|(text, _)| !text.is_empty()) {
            out.table.set(key, Value::text(text), Some(at));
            report.translated(at);
        }
    }
    if let Some((port, at)) = fields.number("port", report).filter(|(port, _)| *port != 0) {
        out.table.set("health.port", Value::Integer(port.clamp(1, 65_535)), Some(at));
        report.translated(at);
    }
    times(out, &mut fields, at, report);
    fields.finish(report);
}

/// How often and how long; one result is enough for Traefik.
fn times(out: &mut Balancer, fields: &mut Fields<'_>, at: Place, report: &mut Report) {
    let interval = fields.time("interval", report);
    let down = fields.time("unhealthyInterval", report);
    let timeout = fields.time("timeout", report);
    let positive = |set: Option<(i64, Place)>, default: i64, report: &mut Report| match set {
        Some((time, place)) if time > 0 => {
            report.translated(place);
            (time, place)
        }
        Some((_, place)) => {
            report.wrong(place, "this is more than nothing: Traefik takes its default");
            (default, place)
        }
        None => (default, at),
    };
    let (every, every_at) = positive(interval, INTERVAL, report);
    let (limit, limit_at) = positive(timeout, TIMEOUT, report);
    if limit >= every && timeout.is_some() {
        report.wrong(limit_at, "the timeout is not shorter than the interval: Traefik warns of it");
    }
    let least = |time: i64| duration(time.max(100));
    out.table.set("health.interval", least(every), Some(every_at));
    if let Some((time, place)) = down {
        report.translated(place);
        if time > 0 {
            out.table.set("health.down_interval", least(time), Some(place));
        }
    }
    out.table.set("health.timeout", duration(limit), Some(limit_at));
    out.table.set("health.rise", Value::Integer(1), Some(at));
    out.table.set("health.fall", Value::Integer(1), Some(at));
}
