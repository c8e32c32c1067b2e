//! TLS to endpoints, and the address that connections come from.

use super::super::document::Value;
use super::draft::Key;
use super::notes::Notes;
use super::scope::Scope;
use super::tree::Directive;
use super::variable::{alone, is_plain};

/// `proxy_ssl_*` and `grpc_ssl_*`.
pub(super) fn to_endpoints(scope: &Scope<'_>, start: &str, host: &str, notes: &mut Notes<'_>) -> Vec<Key> {
    let mut out: Vec<Key> = Vec::new();
    let find = |name: &str| scope.find(&format!("{start}_ssl_{name}"));
    let verify = find("verify");
    let verified = verify.is_some_and(|of| of.word(0) == "on");
    out.extend(name(scope, start, host, verified, notes));
    for (name, key) in
        [("trusted_certificate", "tls.ca"), ("certificate", "tls.cert"), ("certificate_key", "tls.key")]
    {
        let Some(of) = find(name) else { continue };
        if is_plain(of.word(0)) && !of.word(0).is_empty() {
            if key == "tls.ca" && !verified {
                notes.skip(of, "nothing is verified by it");
                continue;
            }
            out.push((key.to_owned(), Value::text(of.word(0)), Some(of.at)));
            notes.ok(of);
        } else {
            notes.cannot(of, "a certificate is a file whose name is known");
        }
    }
    if out.iter().any(|(key, ..)| key == "tls.cert") != out.iter().any(|(key, ..)| key == "tls.key") {
        out.retain(|(key, ..)| key != "tls.cert" && key != "tls.key");
    }
    if let Some(of) = find("protocols") {
        out.extend(minimum(of, "tls.min_version", notes));
    }
    match verify {
        Some(of) if verified => {
            notes.ok(of);
            if !out.iter().any(|(key, ..)| key == "tls.ca") {
                notes.wrong(of, format!("{start}_ssl_trusted_certificate is missing: nginx rejects it. Here the system's authorities are trusted"));
            }
        }
        _ => {
            let reason = format!("{start}_ssl_verify is off in nginx.conf");
            out.push((
                "tls.verify".to_owned(),
                Value::inline([("off", Value::text(reason))]),
                verify.map(|of| of.at),
            ));
            if let Some(of) = verify {
                notes.ok(of);
            }
        }
    }
    out
}

/// The name that is asked for.
fn name(scope: &Scope<'_>, start: &str, host: &str, verified: bool, notes: &mut Notes<'_>) -> Option<Key> {
    let find = |name: &str| scope.find(&format!("{start}_ssl_{name}"));
    let key = |text: &str, of: Option<&Directive>| {
        Some(("tls.server_name".to_owned(), Value::text(text), of.map(|of| of.at)))
    };
    let sends = find("server_name").is_some_and(|of| of.word(0) == "on");
    if let Some(of) = find("server_name") {
        notes.ok(of);
    }
    match find("name") {
        Some(of) if is_plain(of.word(0)) && is_name(of.word(0)) => {
            if sends {
                notes.ok(of);
            } else {
                let how =
                    "the name is asked for too (SNI): nginx does so with proxy_ssl_server_name on alone";
                notes.near(of, how);
            }
            key(of.word(0), Some(of))
        }
        Some(of)
            if matches!(alone(of.word(0)).as_deref(), Some("host" | "http_host" | "ssl_server_name")) =>
        {
            notes.ok(of);
            key("{host}", Some(of))
        }
        Some(of) => {
            notes.cannot(of, "the name is fixed, or \"{host}\", the request's (tls.server_name)");
            None
        }
        None if is_name(host) && (sends || verified) => key(host.split(':').next().unwrap_or(host), None),
        None => None,
    }
}

/// A name that TLS can ask for: no address.
fn is_name(host: &str) -> bool {
    let name = host.split(':').next().unwrap_or(host);
    name.contains(|c: char| c.is_ascii_alphabetic())
        && !host.contains('[')
        && crate::model::host::HostPattern::parse(name).is_ok()
}

/// The least version of a list of protocols.
pub(super) fn minimum(of: &Directive, key: &str, notes: &mut Notes<'_>) -> Option<Key> {
    let has = |name: &str| of.words.iter().any(|word| word == name);
    if !of.words.iter().any(|word| word.starts_with("TLSv1") || word.starts_with("SSLv")) {
        notes.wrong(of, "these are no protocols: nginx rejects it");
        return None;
    }
    let old = ["TLSv1", "TLSv1.1", "SSLv3", "SSLv2"].iter().any(|name| has(name));
    if old {
        notes.near(of, "TLS is 1.2 or 1.3 here");
    } else {
        notes.ok(of);
    }
    match (has("TLSv1.2"), has("TLSv1.3")) {
        (false, true) if !old => Some((key.to_owned(), Value::text("1.3"), Some(of.at))),
        (true, false) => {
            notes.near(of, "TLS 1.3 is spoken too");
            None
        }
        _ => None,
    }
}

/// `proxy_bind`.
pub(super) fn source(of: &Directive, notes: &mut Notes<'_>) -> Option<Key> {
    let address = of.word(0);
    let transparent = of.word(1) == "transparent";
    if transparent && alone(address).is_some_and(|name| name == "remote_addr") {
        notes.ok(of);
        return Some(("source_address".to_owned(), Value::text("client"), Some(of.at)));
    }
    let plain = address.trim_start_matches('[');
    let plain = plain.split(']').next().unwrap_or(plain);
    let plain =
        if plain.matches(':').count() == 1 { plain.split(':').next().unwrap_or(plain) } else { plain };
    match plain.parse::<std::net::IpAddr>() {
        Ok(ip) if !ip.is_unspecified() => {
            notes.ok(of);
            Some(("source_address".to_owned(), Value::text(ip.to_string()), Some(of.at)))
        }
        _ => {
            notes.cannot(of, "source_address of a pool is an address of this machine, or \"client\"");
            None
        }
    }
}
