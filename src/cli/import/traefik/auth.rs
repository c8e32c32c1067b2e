//! Middlewares that decide who is let in.

use std::path::Path;

use ipnet::IpNet;

use super::super::document::{Block, Table, Value};
use super::super::report::{Place, Report, Verdict};
use super::balancer;
use super::fields::Fields;
use super::matcher::network;
use super::middleware::{Around, Read, known};
use super::said::plain_name;
use super::service::Lost;
use super::treatment::{Answer, Treatment};
use crate::model::field::FieldName;

/// Hashes that are read here, by how they begin.
const READ: [&str; 6] = ["$2a$", "$2b$", "$2y$", "$5$", "$6$", "$apr1$"];

pub(super) fn basic(
    mut fields: Fields<'_>,
    around: &mut Around<'_, '_>,
    to: &mut Treatment,
) -> Result<(), Lost> {
    let at = fields.at;
    let report = &mut *around.report;
    let users = fields.texts("users", report);
    let file = fields.text("usersFile", report).filter(|(file, _)| !file.is_empty());
    let realm = fields.text("realm", report).filter(|(realm, _)| !realm.is_empty());
    let field = fields.text("headerField", report).filter(|(name, _)| !name.is_empty());
    let remove = fields.flag("removeHeader", report);
    known(fields, report)?;
    for place in [file.as_ref().map(|f| f.1), realm.as_ref().map(|r| r.1), remove.map(|r| r.1)] {
        place.into_iter().for_each(|place| report.translated(place));
    }
    let path = match (&file, users) {
        (Some((path, at)), Some((list, of_users))) if !list.is_empty() => {
            tell_users(&list, path, report);
            report.approximated(of_users, format!("users stand in the file: add these to {path}"));
            report.translated(*at);
            path.clone()
        }
        (Some((path, at)), _) => own_file(path, *at, (around.file, around.middleware), report),
        (None, Some((list, of_users))) if !list.is_empty() => {
            let path = format!("{}.htpasswd", plain_name(around.middleware));
            tell_users(&list, &path, report);
            report.approximated(
                of_users,
                format!("names and passwords are lines of {path}: the lines below say how"),
            );
            path
        }
        _ => return Err(Lost::Unsaid("it has no users, so nobody may come".to_owned())),
    };
    let realm = realm.map_or_else(|| "traefik".to_owned(), |(realm, _)| realm);
    let mut pairs = vec![("realm", Value::text(realm)), ("users_file", Value::text(path))];
    if let Some((name, at)) = field {
        if FieldName::new(&name).is_err() {
            return Err(Lost::Unsaid(format!("`{name}` is no name of a field")));
        }
        report.translated(at);
        pairs.push(("user_header", Value::text(name.to_ascii_lowercase())));
    }
    if !remove.is_some_and(|(yes, _)| yes) {
        pairs.push(("keep_authorization", Value::Bool(true)));
    }
    report.approximated(at, "the challenge says charset=\"UTF-8\" as well");
    to.guard("basic_auth", Value::inline(pairs), at).map_err(Lost::Unsaid)
}

/// A file of users, or another one where hashes in it are not read here.
fn own_file(path: &str, at: Place, (read, middleware): (Read<'_>, &str), report: &mut Report) -> String {
    let Some(text) = read(Path::new(path)) else {
        report.approximated(at, "hashes in it have to be of bcrypt, SHA-crypt or $apr1$");
        return path.to_owned();
    };
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let hashed = |line: &str| {
        line.split_once(':').is_some_and(|(_, hash)| READ.iter().any(|start| hash.starts_with(start)))
    };
    let lost = lines.filter(|line| !hashed(line)).count();
    if lost == 0 {
        return path.to_owned();
    }
    let own = format!("{}.htpasswd", plain_name(middleware));
    let remedy = format!(
        "{lost} of its hashes are of a kind that is not read (bcrypt, SHA-crypt and $apr1$ are): make {own} of it, with htpasswd -B for these users"
    );
    report.not_possible(at, remedy);
    own
}

fn tell_users(list: &[(String, Place)], file: &str, report: &mut Report) {
    for (user, at) in list {
        let Some((name, hash)) = user.split_once(':') else {
            report.wrong(*at, "a user is NAME:HASH: Traefik does not make the middleware");
            continue;
        };
        if READ.iter().any(|start| hash.starts_with(start)) {
            report.approximated(*at, format!("write it into {file} as it stands here, without the quotes"));
        } else {
            report.not_possible(*at, format!("a hash of this kind is not read (bcrypt, SHA-crypt and $apr1$ are): htpasswd -B {file} {name}"));
        }
    }
}

pub(super) fn digest(
    mut fields: Fields<'_>,
    around: &mut Around<'_, '_>,
    _: &mut Treatment,
) -> Result<(), Lost> {
    let why = "there is no digest authentication: write basic_auth over TLS, with hashes made by htpasswd -B";
    let names = ["users", "usersFile", "realm", "headerField", "removeHeader"];
    let as_above = format!("as line {}", fields.at.line);
    around.report.not_possible(fields.at, why);
    fields.each(Verdict::NotPossible, &names, &as_above, around.report);
    known(fields, around.report)?;
    Err(Lost::Unsaid(why.to_owned()))
}

pub(super) fn allow(
    mut fields: Fields<'_>,
    around: &mut Around<'_, '_>,
    to: &mut Treatment,
) -> Result<(), Lost> {
    let at = fields.at;
    let list = fields.texts("sourceRange", around.report);
    let strategy = fields.table("ipStrategy", around.report);
    let status = fields.number("rejectStatusCode", around.report);
    let strategy = strategy.map(|strategy| source(strategy, around)).transpose()?;
    known(fields, around.report)?;
    let Some((list, of_list)) = list.filter(|(list, _)| !list.is_empty()) else {
        return Err(Lost::Refused("sourceRange is empty".to_owned()));
    };
    let mut networks = Vec::new();
    for (text, place) in &list {
        let Some(network) = network(text) else {
            return Err(Lost::Refused(format!("`{text}` is no network")));
        };
        around.report.translated(*place);
        networks.push(network);
    }
    around.report.translated(of_list);
    match status {
        Some((0 | 403, place)) => around.report.translated(place),
        Some((_, place)) => around.report.approximated(place, "who may not come gets 403"),
        None => {}
    }
    match who(strategy.unwrap_or(Strategy::Peer), at, around) {
        Who::Client => to.allow(&networks, of_list).map_err(Lost::Unsaid),
        Who::Nobody => {
            to.end = Some(Answer::Respond { status: 403, body: String::new(), at: Some(at) });
            Ok(())
        }
        Who::Unsaid(why) => Err(Lost::Unsaid(why)),
    }
}

/// Whose address is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Strategy {
    /// Whom the connection is from.
    Peer,
    /// So many from the right of X-Forwarded-For.
    Depth(i64),
    /// The first from the right that is none of these.
    Except(Vec<IpNet>),
}

/// What a strategy comes to with a listener.
pub(super) enum Who {
    /// The address that Plimsoll takes for the client's.
    Client,
    /// Nobody has an address.
    Nobody,
    Unsaid(String),
}

/// `ipStrategy`.
pub(super) fn source(mut fields: Fields<'_>, around: &mut Around<'_, '_>) -> Result<Strategy, Lost> {
    let report = &mut *around.report;
    report.translated(fields.at);
    let depth = fields.number("depth", report);
    let except = fields.texts("excludedIPs", report);
    let subnet = fields.number("ipv6Subnet", report);
    known(fields, report)?;
    if let Some((_, at)) = depth {
        report.translated(at);
    }
    if let Some((_, at)) = subnet {
        report.approximated(at, "clients of one IPv6 network are told apart by prefix_v6 of a limit, and in lists by their own address");
    }
    let mut networks = Vec::new();
    if let Some((list, at)) = except {
        report.translated(at);
        for (text, at) in list {
            let Some(network) = network(&text) else {
                return Err(Lost::Refused(format!("`{text}` is no network")));
            };
            report.translated(at);
            networks.push(network);
        }
    }
    Ok(match depth {
        Some((depth, _)) if depth > 0 => Strategy::Depth(depth),
        _ if !networks.is_empty() => Strategy::Except(networks),
        _ => Strategy::Peer,
    })
}

/// Why an address says nothing.
pub(super) const SPOOFED: &str = "Traefik goes by whom the connection is from, and here everybody is believed to be who he says (insecure): write the networks of your proxies as trustedIPs";

/// Whose address a strategy comes to.
pub(super) fn who(strategy: Strategy, at: Place, around: &mut Around<'_, '_>) -> Who {
    let (trusts, hops) = (&around.door.trusts, around.door.hops);
    match strategy {
        Strategy::Peer if trusts.is_empty() => Who::Client,
        Strategy::Peer if around.door.trusts_all() => Who::Unsaid(SPOOFED.to_owned()),
        Strategy::Peer => {
            around.report.approximated(at, "Traefik goes by whom the connection is from, here it is the client that a trusted proxy names");
            Who::Client
        }
        Strategy::Depth(_) | Strategy::Except(_) if !around.door.believes => {
            around.report.wrong(at, "the entry point believes nobody's X-Forwarded-For (forwardedHeaders.trustedIPs), so nobody has an address");
            Who::Nobody
        }
        Strategy::Depth(depth) if Some(depth) == hops => {
            around.report.approximated(
                at,
                "who comes by no trusted proxy is judged by its own address; Traefik refuses it",
            );
            Who::Client
        }
        Strategy::Depth(depth) => Who::Unsaid(format!(
            "a listener has one trusted_hops, and another middleware counts otherwise: routes that count {depth} need a listener of their own"
        )),
        Strategy::Except(networks) => {
            let same = networks.iter().all(|network| trusts.iter().any(|own| own.contains(network)))
                && trusts.iter().all(|own| networks.iter().any(|network| network.contains(own)));
            if same && hops.is_none() {
                around.report.approximated(
                    at,
                    "who comes by no trusted proxy is judged by its own address; Traefik refuses it",
                );
                Who::Client
            } else {
                Who::Unsaid("the client is the first address from the right that is not in trusted_proxies of the listener: these have to be the excludedIPs".to_owned())
            }
        }
    }
}

pub(super) fn forward(
    mut fields: Fields<'_>,
    around: &mut Around<'_, '_>,
    to: &mut Treatment,
) -> Result<(), Lost> {
    let at = fields.at;
    let report = &mut *around.report;
    let address = fields.text("address", report).filter(|(address, _)| !address.is_empty());
    let tls = fields.table("tls", report);
    let request = fields.texts("authRequestHeaders", report);
    let answer = fields.texts("authResponseHeaders", report);
    if let Some((trust, at)) = fields.flag("trustForwardHeader", report) {
        if trust {
            report.approximated(at, "the service is told what trusted_proxies of the listener say, and of others what is known of them");
        } else {
            report.translated(at);
        }
    }
    for (name, why) in FORWARD_LOST {
        fields.each(Verdict::NotPossible, &[name], why, report);
    }
    let unsaid = unsaid(&mut fields, report);
    let (mut secure, mut table) = (false, Table::default());
    if let Some(tls) = tls {
        tls_of(tls, &mut table, report);
        secure = true;
    }
    known(fields, report)?;
    if let Some(why) = unsaid {
        return Err(Lost::Unsaid(why.to_owned()));
    }
    let Some((address, of_address)) = address else {
        return Err(Lost::Refused("it has no address".to_owned()));
    };
    let (scheme, host, path) =
        balancer::address(&address).map_err(|why| Lost::Unsaid(format!("its address {why}")))?;
    report.translated(of_address);
    let pool = pool(&scheme, &host, &table, secure, of_address, around);
    let mut pairs = vec![("pool", Value::text(pool))];
    if !path.is_empty() {
        pairs.push(("path", Value::text(path)));
    }
    for (key, list) in [("request_headers", request), ("response_headers", answer)] {
        let Some((list, at)) = list.filter(|(list, _)| !list.is_empty()) else { continue };
        around.report.translated(at);
        let mut names = Vec::new();
        for (name, at) in list {
            if FieldName::new(&name).is_err() {
                return Err(Lost::Unsaid(format!("`{name}` is no name of a field")));
            }
            around.report.translated(at);
            names.push(name.to_ascii_lowercase());
        }
        pairs.push((key, Value::texts(names)));
    }
    around.report.approximated(at, "what the service answers with 5xx, or not at all, is 503 for the client; it has 5 s, of which Traefik has no limit");
    around
        .report
        .approximated(at, "it is asked with the Host of the request; Traefik asks with that of its address");
    to.guard("forward_auth", Value::inline(pairs), at).map_err(Lost::Unsaid)
}

/// Options of `forwardAuth` without which somebody would get in, or pass for somebody.
fn unsaid(fields: &mut Fields<'_>, report: &mut Report) -> Option<&'static str> {
    let mut lost = None;
    if let Some((regex, at)) =
        fields.text("authResponseHeadersRegex", report).filter(|(regex, _)| !regex.is_empty())
    {
        let why = "fields of the service's answer, which clients may not send themselves, are named one by one in response_headers of forward_auth";
        report.not_possible(at, format!("{why}: write those that `{regex}` means into authResponseHeaders"));
        lost = Some(why);
    }
    if let Some((body, at)) = fields.flag("forwardBody", report) {
        if body {
            let why = "the service is not sent the body, which it may go by";
            report.not_possible(at, why);
            lost = Some(why);
        } else {
            report.translated(at);
        }
    }
    lost
}

/// Options of `forwardAuth` without a counterpart.
const FORWARD_LOST: [(&str, &str); 7] = [
    (
        "addAuthCookiesToResponse",
        "cookies of the service go to the client only with an answer that refuses it",
    ),
    ("headerField", "fields of the service's answer are named in response_headers of forward_auth"),
    ("maxBodySize", "the service is not sent the body"),
    ("maxResponseBodySize", "write max_answer of forward_auth"),
    ("preserveLocationHeader", "a Location goes to the client as the service wrote it"),
    ("preserveRequestMethod", "the service is asked with GET"),
    ("authSigninURL", "have the service itself redirect who is not signed in"),
];

fn tls_of(mut fields: Fields<'_>, table: &mut Table, report: &mut Report) {
    report.translated(fields.at);
    for (name, key) in [("ca", "tls.ca"), ("cert", "tls.cert"), ("key", "tls.key")] {
        if let Some((file, at)) = fields.text(name, report) {
            if file.contains("-----BEGIN") {
                report.not_possible(
                    at,
                    "certificates and keys stand in files: write this into one and name it here",
                );
            } else {
                table.set(key, Value::text(file), Some(at));
                report.translated(at);
            }
        }
    }
    if let Some((skip, at)) = fields.flag("insecureSkipVerify", report) {
        if skip {
            table.set("tls.verify.off", Value::text("insecureSkipVerify of Traefik"), Some(at));
        }
        report.translated(at);
    }
    fields.each(Verdict::Ignored, &["caOptional"], "Traefik 3 does nothing with it", report);
    fields.finish(report);
}

/// The pool of a service that is asked; one for each address.
fn pool(
    scheme: &str,
    host: &str,
    tls: &Table,
    secure: bool,
    at: Place,
    around: &mut Around<'_, '_>,
) -> String {
    let name = format!("auth-{}", plain_name(around.middleware));
    if around.pools.iter().any(|pool| pool.name == name) {
        return name;
    }
    let mut table = Table::default();
    table.set("endpoints", Value::texts([host]), Some(at));
    if scheme == "https" {
        table.entries.extend(tls.entries.iter().cloned());
        if tls.entries.is_empty() {
            table.set("tls", Value::Inline(Vec::new()), Some(at));
        }
    } else if secure {
        around.report.ignored(at, "the address is not https: its TLS is for nothing");
    }
    table.set("retry", Value::text("off"), None);
    around.pools.push(Block {
        name: name.clone(),
        comments: vec![format!("The service that the middleware {} asks.", around.middleware)],
        table,
    });
    name
}

pub(super) fn certificate(
    mut fields: Fields<'_>,
    around: &mut Around<'_, '_>,
    to: &mut Treatment,
) -> Result<(), Lost> {
    let at = fields.at;
    let report = &mut *around.report;
    let pem = fields.flag("pem", report);
    let why = "write client_headers = true in tls of the listener: endpoints get X-Client-Cert-Subject (RFC 4514) and X-Client-Cert-SHA256, and no other fields";
    let as_above = format!("as line {}", at.line);
    report.not_possible(at, why);
    fields.each(Verdict::NotPossible, &["info"], &as_above, report);
    if let Some((yes, at)) = pem {
        if yes { report.not_possible(at, as_above) } else { report.translated(at) }
    }
    known(fields, report)?;
    // Nobody else may say so either.
    to.request.remove("x-forwarded-tls-client-cert", at);
    to.request.remove("x-forwarded-tls-client-cert-info", at);
    Ok(())
}
