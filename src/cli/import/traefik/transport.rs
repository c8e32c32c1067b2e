//! How servers are spoken to: `serversTransport`, and TLS to endpoints.

use super::super::document::{Table, Value};
use super::super::report::{Place, Report, Verdict};
use super::balancer::Balancer;
use super::fields::{Fields, Set};
use super::said::duration;
use super::source::{Parts, own_name};

/// What a transport of HTTP comes to.
pub(super) fn http(
    out: &mut Balancer,
    scheme: &str,
    named: Set<String>,
    parts: &Parts<'_>,
    report: &mut Report,
) -> Result<(), String> {
    let first = out.servers.first().map(|server| server.at);
    match scheme {
        "h2c" => out.table.set("protocol", Value::text("http2"), first),
        "https" => out.table.set("protocol", Value::text("auto"), first),
        _ => {}
    }
    let Some(mut fields) = find("http", "serversTransport", named, parts, report)? else {
        if scheme == "https" {
            out.table.set("tls", Value::Inline(Vec::new()), first);
        }
        return Ok(());
    };
    let at = fields.at;
    let mut tls = Table::default();
    tls_of(&mut fields, &mut tls, report);
    if let Some((_, at)) = fields.flag("disableHTTP2", report) {
        out.table.set("protocol", Value::text("http1"), Some(at));
        report.translated(at);
    }
    if let Some((count, at)) = fields.number("maxIdleConnsPerHost", report) {
        if count != 0 {
            out.table.set("limits.idle_connections", Value::Integer(count.clamp(0, 10_000)), Some(at));
        }
        report.approximated(at, "connections are kept for each worker");
    }
    if let Some(mut times) = fields.table("forwardingTimeouts", report) {
        for (name, key) in [
            ("dialTimeout", "timeouts.connect"),
            ("responseHeaderTimeout", "timeouts.response_header"),
            ("idleConnTimeout", "timeouts.keep_alive"),
            ("readIdleTimeout", "timeouts.http2_ping"),
        ] {
            if let Some((time, at)) = times.time(name, report) {
                if time > 0 {
                    out.table.set(key, duration(time), Some(at));
                    report.translated(at);
                } else {
                    report.approximated(at, format!("there is always a limit here: {key} has its default"));
                }
            }
        }
        let text = "a PING has as long for its answer as there is between two";
        times.each(Verdict::Approximated, &["pingTimeout"], text, report);
        times.finish(report);
    }
    finish(out, fields, &tls, scheme == "https", at, report)
}

/// What a transport of TCP comes to.
pub(super) fn tcp(
    out: &mut Balancer,
    encrypted: bool,
    named: Set<String>,
    parts: &Parts<'_>,
    report: &mut Report,
) -> Result<(), String> {
    let first = out.servers.first().map(|server| server.at);
    let Some(mut fields) = find("tcp", "tcpServersTransport", named, parts, report)? else {
        if encrypted {
            out.table.set("tls", Value::Inline(Vec::new()), first);
        }
        return Ok(());
    };
    let at = fields.at;
    for (name, key) in [("dialTimeout", "timeouts.connect"), ("dialKeepAlive", "timeouts.tcp_keepalive")] {
        if let Some((time, at)) = fields.time(name, report) {
            if time > 0 {
                out.table.set(key, duration(time), Some(at));
                report.translated(at);
            } else {
                report.approximated(at, format!("there is always a limit here: {key} has its default"));
            }
        }
    }
    let text = "a side that has ended is told on, and the other one goes on until it ends or is quiet";
    fields.each(Verdict::Ignored, &["terminationDelay"], text, report);
    if let Some(proxy) = fields.table("proxyProtocol", report) {
        send_proxy(out, proxy, report);
    }
    let mut tls = Table::default();
    if let Some(mut below) = fields.table("tls", report) {
        report.translated(below.at);
        tls_of(&mut below, &mut tls, report);
        below.finish(report);
    }
    finish(out, fields, &tls, encrypted, at, report)
}

fn finish(
    out: &mut Balancer,
    fields: Fields<'_>,
    tls: &Table,
    encrypted: bool,
    at: Place,
    report: &mut Report,
) -> Result<(), String> {
    let first = out.servers.first().map(|server| server.at);
    if encrypted {
        out.table.entries.extend(tls.entries.iter().cloned());
        if tls.entries.is_empty() {
            out.table.set("tls", Value::Inline(Vec::new()), first);
        }
    } else if !tls.entries.is_empty() {
        report.note(at, Verdict::Ignored, "its TLS is for servers with https, and these have none");
    }
    if fields.finish(report) {
        Ok(())
    } else {
        Err("its transport has options that Traefik does not know".to_owned())
    }
}

/// The transport that is named, or the one for all.
fn find<'s>(
    part: &'static str,
    default: &str,
    named: Set<String>,
    parts: &Parts<'s>,
    report: &mut Report,
) -> Result<Option<Fields<'s>>, String> {
    let Some((name, at)) = named else {
        let common = parts.statics(&default.to_ascii_lowercase());
        return Ok(common.map(|(at, node)| {
            report.translated(at);
            Fields::of(at, node, report)
        }));
    };
    report.translated(at);
    let Ok(own) = own_name(&name) else {
        report.not_possible(at, format!("{name} is of another provider: write tls and timeouts of the pool"));
        return Ok(None);
    };
    match parts.of(part, "serverstransports").get(own) {
        Some(element) => {
            report.translated(element.at);
            Ok(Some(Fields::of(element.at, element.node, report)))
        }
        None => Err(format!("there is no transport {name}")),
    }
}

/// Options of TLS to servers.
fn tls_of(fields: &mut Fields<'_>, tls: &mut Table, report: &mut Report) {
    if let Some((name, at)) = fields.text("serverName", report).filter(|(name, _)| !name.is_empty()) {
        tls.set("tls.server_name", Value::text(name), Some(at));
        report.translated(at);
    }
    if let Some((list, at)) = fields.texts("rootCAs", report) {
        report.translated(at);
        for (number, (file, at)) in list.into_iter().enumerate() {
            if file.contains("-----BEGIN") {
                tls.set("tls.ca", Value::text("/etc/plimsoll/tls/ca.pem"), Some(at));
                report.not_possible(
                    at,
                    "write this into /etc/plimsoll/tls/ca.pem: certificates stand in files",
                );
            } else if number == 0 {
                tls.set("tls.ca", Value::text(file), Some(at));
                report.translated(at);
            } else {
                report.not_possible(at, "authorities are in one file: add this one to tls.ca of the pool");
            }
        }
    }
    for (number, mut pair) in fields.tables("certificates", report).into_iter().enumerate() {
        for (name, key) in [("certFile", "tls.cert"), ("keyFile", "tls.key")] {
            if let Some((file, at)) = pair.text(name, report) {
                if number > 0 {
                    report.not_possible(at, "a pool shows one certificate, the first");
                    continue;
                }
                tls.set(key, Value::text(file), Some(at));
                report.translated(at);
            }
        }
        pair.finish(report);
    }
    if let Some((skip, at)) = fields.flag("insecureSkipVerify", report) {
        if skip {
            tls.set("tls.verify.off", Value::text("insecureSkipVerify of Traefik"), Some(at));
        }
        report.translated(at);
    }
    if let Some((version, at)) = fields.text("minVersion", report) {
        super::tls::version(&version, at, "tls.min_version", tls, report);
    }
    fields.each(
        Verdict::NotPossible,
        &["maxVersion"],
        "the newest version that both sides know is spoken",
        report,
    );
    fields.each(Verdict::Approximated, &["cipherSuites"], super::tls::CIPHERS, report);
    let remedy = "certificates are checked for the server's name and against tls.ca alone";
    fields.each(Verdict::NotPossible, &["peerCertURI", "peerCertSANs", "spiffe"], remedy, report);
}

/// `proxyProtocol` to servers.
pub(super) fn send_proxy(out: &mut Balancer, mut fields: Fields<'_>, report: &mut Report) {
    let at = fields.at;
    let version = fields.number("version", report);
    let word = match version {
        Some((1, _)) => "v1",
        Some((2, _)) | None => "v2",
        Some((_, at)) => {
            report.wrong(at, "there are versions 1 and 2");
            "v2"
        }
    };
    out.table.set("send_proxy", Value::text(word), version.map(|(_, at)| at).or(Some(at)));
    report.translated(at);
    if let Some((_, at)) = version {
        report.translated(at);
    }
    fields.finish(report);
}
