//! TLS of listeners: certificates of their servers, and whom they ask for one.

use std::collections::HashMap;

use super::super::document::{Table, Value};
use super::super::report::Place;
use super::notes::Notes;
use super::scope::Scope;
use super::tree::Directive;
use super::variable::is_plain;

/// What a server says of clients' certificates.
#[derive(Debug, Clone, PartialEq)]
struct Clients {
    ca: Option<String>,
    /// `require`, `request` or none.
    auth: Option<&'static str>,
}

/// A certificate and what of it is said.
struct Certificate<'t> {
    cert: String,
    key: String,
    of: &'t Directive,
    clients: Clients,
}

/// The certificates of several servers, each once, and what they say of clients.
fn collect<'t>(scopes: &[&Scope<'t>], notes: &mut Notes<'_>) -> (Vec<Certificate<'t>>, Vec<Clients>) {
    let mut all: Vec<Certificate<'t>> = Vec::new();
    let mut known: HashMap<(String, String), usize> = HashMap::new();
    let mut groups: Vec<Clients> = Vec::new();
    for scope in scopes {
        let clients = clients(scope, notes);
        if !groups.contains(&clients) {
            groups.push(clients.clone());
        }
        for (cert, key, of) in pairs(scope, notes) {
            match known.get(&(cert.clone(), key.clone())).and_then(|at| all.get_mut(*at)) {
                Some(other) if other.clients != clients => {
                    notes.cannot(of, "another server has the same certificate and asks clients otherwise: the stricter one holds for both; give one of them a certificate of its own");
                    if clients.auth == Some("require") {
                        other.clients = clients.clone();
                    }
                }
                Some(_) => {}
                None => {
                    known.insert((cert.clone(), key.clone()), all.len());
                    all.push(Certificate { cert, key, of, clients: clients.clone() });
                }
            }
        }
    }
    (all, groups)
}

/// What a listener is asked to do with TLS beside its certificates.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) http: bool,
    pub(super) http2: bool,
    /// Endpoints are told of clients' certificates.
    pub(super) told: bool,
}

/// Writes `tls` of a listener; its default server is the first.
pub(super) fn write(scopes: &[&Scope<'_>], wanted: Wanted, table: &mut Table, notes: &mut Notes<'_>) {
    let (all, groups) = collect(scopes, notes);
    let common = match groups.as_slice() {
        [one] => Some(one),
        _ => None,
    };
    let line = |one: &Certificate<'_>| {
        let mut pairs = vec![("cert", Value::text(&one.cert)), ("key", Value::text(&one.key))];
        if let (None, Some(auth)) = (common, one.clients.auth) {
            pairs.extend(one.clients.ca.as_ref().map(|ca| ("client_ca", Value::text(ca))));
            pairs.push(("client_auth", Value::text(auth)));
        }
        (Value::inline(pairs), Some(one.of.at))
    };
    let lines: Vec<(Value, Option<Place>)> = all.iter().map(line).collect();
    let value = match lines.as_slice() {
        [] => {
            Value::List(vec![Value::inline(["cert", "key"].map(|key| (key, Value::text("CERTIFICATE.pem"))))])
        }
        [(one, _)] => Value::List(vec![one.clone()]),
        _ => Value::Lines(lines),
    };
    table.set("tls.certificates", value, all.first().map(|one| one.of.at));
    if let Some(Clients { ca: Some(ca), auth: Some(auth) }) = common {
        table.set("tls.client_ca", Value::text(ca), None);
        if *auth == "request" {
            table.set("tls.client_auth", Value::text("request"), None);
        }
    }
    let asked = groups.iter().any(|clients| clients.auth.is_some());
    if wanted.told && asked {
        table.set("tls.client_headers", Value::Bool(true), None);
    }
    if let Some(of) = scopes.first().and_then(|scope| scope.find("ssl_protocols"))
        && let Some((key, value, at)) = super::tls::minimum(of, "tls.min_version", notes)
    {
        table.set(&key, value, at);
    }
    if wanted.http && !wanted.http2 {
        table.set("tls.alpn", Value::texts(["http/1.1"]), None);
    }
}

/// The certificates of a server with their keys.
fn pairs<'t>(scope: &Scope<'t>, notes: &mut Notes<'_>) -> Vec<(String, String, &'t Directive)> {
    let (certificates, keys) = (scope.all("ssl_certificate"), scope.all("ssl_certificate_key"));
    if let Some(of) = scope.find("ssl_reject_handshake") {
        if of.word(0) == "on" {
            notes.near(of, "who asks for another name gets the first certificate here, and then what the routes say, which is no endpoint");
        } else {
            notes.ok(of);
        }
    }
    let mut out = Vec::new();
    for (at, of) in certificates.iter().enumerate() {
        let key = keys.get(at);
        let fits = |of: &Directive| {
            let word = of.word(0);
            is_plain(word)
                && !word.is_empty()
                && !word.starts_with("data:")
                && !word.starts_with("engine:")
                && !word.starts_with("store:")
        };
        match key {
            Some(key) if fits(of) && fits(key) => {
                notes.ok(of);
                notes.ok(key);
                out.push((of.word(0).to_owned(), key.word(0).to_owned(), *of));
            }
            Some(key) => {
                for one in [*of, *key] {
                    notes.cannot(
                        one,
                        "a certificate and its key are files whose names are known (tls.certificates)",
                    );
                }
            }
            None => notes.wrong(of, "ssl_certificate_key is missing: nginx rejects it"),
        }
    }
    out
}

/// `ssl_client_certificate` and `ssl_verify_client`.
fn clients(scope: &Scope<'_>, notes: &mut Notes<'_>) -> Clients {
    let (ca, verify) = (scope.find("ssl_client_certificate"), scope.find("ssl_verify_client"));
    let auth = match verify.map(|of| of.word(0)) {
        Some("on") => Some("require"),
        Some("optional" | "optional_no_ca") => Some("request"),
        _ => None,
    };
    if let Some(of) = verify {
        match (of.word(0), ca) {
            ("optional_no_ca", _) => {
                notes.cannot(of, "a certificate that is shown has to be one that client_ca has signed")
            }
            ("on" | "optional", None) => {
                notes.wrong(of, "ssl_client_certificate is missing: nginx rejects it")
            }
            _ => notes.ok(of),
        }
    }
    if let Some(of) = ca {
        if auth.is_some() { notes.ok(of) } else { notes.skip(of, "no client is asked for a certificate") }
    }
    match (ca, auth) {
        (Some(ca), Some(auth)) => Clients { ca: Some(ca.word(0).to_owned()), auth: Some(auth) },
        // Nobody is let in without authorities.
        (None, Some("require")) => {
            Clients { ca: Some("CLIENT-AUTHORITIES.pem".to_owned()), auth: Some("require") }
        }
        _ => Clients { ca: None, auth: None },
    }
}
