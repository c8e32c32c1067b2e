//! Secrets: what they hold becomes files, which whoever imports has to write. No secret is written into an output.

use super::super::report::{Place, Report};
use super::super::tree::{Document, Node};
use super::object::{Cluster, Object};
use super::value::base64;

/// Where the files of Secrets are looked for, relative to the configuration.
const FOLDER: &str = "secrets";

/// The file of a Secret, without what cannot stand in a name.
#[must_use]
pub(super) fn file(namespace: &str, name: &str, end: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' };
    format!("{FOLDER}/{}.{end}", format!("{namespace}.{name}").chars().map(plain).collect::<String>())
}

/// A key of a Secret with its text, where it stands.
fn entries<'a>(secret: &Object<'a>) -> Vec<(&'a str, Option<String>, Place)> {
    let mut out = Vec::new();
    let pairs = |name: &str| secret.node.get(name).map_or(&[][..], Node::pairs);
    for (key, value) in pairs("data") {
        let text = value.text().and_then(base64).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        out.push((key.text.as_str(), text, key.at));
    }
    for (key, value) in pairs("stringData") {
        out.retain(|(known, ..)| *known != key.text);
        out.push((key.text.as_str(), value.text().map(str::to_owned), key.at));
    }
    out
}

/// The names of what a Secret has; nothing where it is not in the files.
#[must_use]
pub(super) fn keys(cluster: &Cluster<'_>, namespace: &str, name: &str) -> Option<Vec<String>> {
    let secret = cluster.get("Secret", namespace, name)?;
    Some(entries(secret).into_iter().map(|(key, ..)| key.to_owned()).collect())
}

/// A user, and how the hash of the password begins.
#[derive(Debug)]
pub(super) struct User {
    name: String,
    hash: String,
    at: Place,
}

/// The users of a Secret: lines of `auth`, or each key one; nothing where it is not there or has none.
#[must_use]
pub(super) fn users(cluster: &Cluster<'_>, namespace: &str, name: &str, map: bool) -> Option<Vec<User>> {
    let secret = cluster.get("Secret", namespace, name)?;
    let mut users = Vec::new();
    for (key, text, at) in entries(secret) {
        let text = text.unwrap_or_default();
        if map {
            users.push(User { name: key.to_owned(), hash: text.trim().to_owned(), at });
        } else if key == "auth" {
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
            users.extend(lines.filter_map(|line| line.split_once(':')).map(|(name, hash)| User {
                name: name.to_owned(),
                hash: hash.to_owned(),
                at,
            }));
        }
    }
    (!users.is_empty()).then_some(users)
}

/// Says how the file of users is written, and whose hashes are not read. Returns its name.
pub(super) fn tell_users(
    users: &[User],
    namespace: &str,
    name: &str,
    map: bool,
    read: &[&str],
    report: &mut Report,
) -> String {
    let file = file(namespace, name, "htpasswd");
    for user in users {
        let how = if map {
            format!("write it into {file}: {}, a colon, and the hash as it stands here", user.name)
        } else {
            format!(
                "write it into {file}: kubectl get secret -n {namespace} {name} -o jsonpath='{{.data.auth}}' | base64 -d > {file}"
            )
        };
        report.approximated(user.at, how);
        if !read.iter().any(|start| user.hash.starts_with(start)) {
            report.not_possible(
                user.at,
                format!("the hash of {} is of a kind that is not read (bcrypt, SHA-crypt and $apr1$ are), and makes the whole file unreadable: htpasswd -B {file} {}", user.name, user.name),
            );
        }
    }
    file
}

/// Says that a key of a Secret has to be written into a file: where it stands, or where it is named.
pub(super) fn tell_file(
    cluster: &Cluster<'_>,
    namespace: &str,
    name: &str,
    key: &str,
    file: &str,
    named: Place,
    report: &mut Report,
) {
    let secret = cluster.get("Secret", namespace, name);
    let at = secret
        .and_then(|secret| entries(secret).into_iter().find(|(own, ..)| *own == key))
        .map(|(.., at)| at);
    let path = key.replace('.', "\\.");
    report.approximated(
        at.unwrap_or(named),
        format!("write it into {file}: kubectl get secret -n {namespace} {name} -o jsonpath='{{.data.{path}}}' | base64 -d > {file}"),
    );
}

/// The files of a certificate and its key.
pub(super) fn tell_certificate(
    cluster: &Cluster<'_>,
    namespace: &str,
    name: &str,
    named: Place,
    report: &mut Report,
) -> (String, String) {
    let (cert, key) = (file(namespace, name, "crt"), file(namespace, name, "key"));
    tell_file(cluster, namespace, name, "tls.crt", &cert, named, report);
    tell_file(cluster, namespace, name, "tls.key", &key, named, report);
    (cert, key)
}

/// Keeps what a Secret holds out of the report.
pub(super) fn hide(secret: &Object<'_>, report: &mut Report) {
    for part in ["data", "stringData"] {
        let Some((key, node)) = secret.node.entry(part) else { continue };
        if !node.is_empty() {
            report.keep_secret(key.at);
        }
        node.each_place(&mut |at, last| {
            (at.line..=last).for_each(|line| report.keep_secret(Place { line, ..at }));
        });
    }
    // As kubectl apply keeps it.
    for (key, node) in secret.annotations() {
        report.keep_secret(key.at);
        (node.at.line..=node.last).for_each(|line| report.keep_secret(Place { line, ..node.at }));
    }
}

/// The same of a Secret that cannot be read.
pub(super) fn hide_lines(text: &str, document: &Document, report: &mut Report) {
    let lines = text.lines().enumerate().map(|(number, line)| (number + 1, line));
    let own = lines.filter(|(number, _)| (document.at.line..=document.last).contains(number));
    let own: Vec<(usize, &str)> = own.collect();
    if own.iter().any(|(_, line)| line.to_ascii_lowercase().contains("secret")) {
        own.iter().for_each(|(line, _)| report.keep_secret(Place { line: *line, ..document.at }));
    }
}

/// What no line of a Secret has been said about: nothing reads it.
pub(super) fn tell_rest(secret: &Object<'_>, report: &mut Report) {
    tell_shape(secret, &["data", "stringData"], report);
    for part in ["data", "stringData"] {
        for (key, value) in secret.node.get(part).map_or(&[][..], Node::pairs) {
            if report.remarks(key.at).is_empty() {
                report.ignored(key.at, "nothing that is carried over reads it");
                super::field::rest(value, key.at, report);
            }
        }
    }
}

/// Says how the file of an authority is written, which is a Secret's or a ConfigMap's `ca.crt`.
pub(super) fn tell_authority(
    cluster: &Cluster<'_>,
    kind: &str,
    namespace: &str,
    name: &str,
    file: &str,
    named: Place,
    report: &mut Report,
) {
    if kind == "Secret" {
        return tell_file(cluster, namespace, name, "ca.crt", file, named, report);
    }
    let map = cluster.get("ConfigMap", namespace, name);
    let at = map.and_then(|map| map.node.below(&["data"])?.entry("ca.crt")).map(|(key, _)| key.at);
    report.approximated(
        at.unwrap_or(named),
        format!("write it into {file}: kubectl get configmap -n {namespace} {name} -o jsonpath='{{.data.ca\\.crt}}' > {file}"),
    );
}

/// Says of what an object holds where it is no table of texts.
pub(super) fn tell_shape(object: &Object<'_>, parts: &[&str], report: &mut Report) {
    for part in parts {
        let Some((key, value)) = object.node.entry(part) else { continue };
        if value.is_empty() {
            report.translated(key.at);
        } else if value.pairs().is_empty() {
            report.wrong(key.at, "this is a table of texts: Kubernetes refuses the object");
            super::field::rest(value, key.at, report);
        }
        for (key, inner) in value.pairs() {
            if inner.text().is_none() && !inner.is_empty() {
                report.wrong(key.at, "this is a text: Kubernetes refuses the object");
                super::field::rest(inner, key.at, report);
            }
        }
    }
}
