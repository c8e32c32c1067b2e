//! `bind`: the addresses of a listener and the options of its connections.

use std::path::{Path, PathBuf};

use super::super::document::Value;
use super::super::report::Place;
use super::address::{Port, address};
use super::proxy::Reading;
use super::said::{Said, approximated, ignored, not_possible, translated, wrong};
use super::section::Statement;

/// One `bind` line.
#[derive(Debug, Clone)]
pub(super) struct Bind {
    /// Where it stands.
    pub(super) at: Place,
    /// Its addresses as Plimsoll writes them, each with its port where it has one.
    pub(super) addresses: Vec<(String, Option<u16>)>,
    /// What its options come to, as keys of a listener: lines that have the same are one listener.
    pub(super) keys: Vec<(String, Value)>,
    /// `ssl` is there.
    pub(super) tls: bool,
}

/// The options of a line while they are read.
#[derive(Debug, Default)]
struct Options {
    keys: Vec<(String, Value)>,
    certificates: Vec<Value>,
    tls: bool,
    ca: Option<String>,
    verify: Option<String>,
    v4v6: bool,
    v6only: bool,
    /// Clients of one interface alone may come.
    of_interface: bool,
}

type Row = (&'static str, usize, fn(&mut Options, &str) -> Said);

impl Options {
    fn set(&mut self, key: &str, value: Value) -> Said {
        self.keys.retain(|(other, _)| other != key);
        self.keys.push((key.to_owned(), value));
        translated()
    }
}

const ROWS: [Row; 19] = [
    ("ssl", 0, |o, _| {
        o.tls = true;
        translated()
    }),
    ("ca-file", 1, |o, v| {
        o.ca = Some(v.to_owned());
        translated()
    }),
    ("verify", 1, |o, v| {
        o.verify = Some(v.to_owned());
        translated()
    }),
    ("alpn", 1, |o, v| o.set("tls.alpn", Value::texts(v.split(',')))),
    ("ssl-min-ver", 1, minimum),
    ("v4v6", 0, |o, _| {
        o.v4v6 = true;
        translated()
    }),
    ("v6only", 0, |o, _| {
        o.v6only = true;
        translated()
    }),
    ("transparent", 0, |o, _| {
        o.set("freebind", Value::Bool(true));
        approximated("freebind: an address that is not here can be bound")
    }),
    ("accept-proxy", 0, accept_proxy),
    ("mode", 1, |o, v| match v {
        "600" | "0600" => o.set("unix_mode", Value::text("0600")),
        "660" | "0660" => o.set("unix_mode", Value::text("0660")),
        "666" | "777" | "0666" | "0777" => o.set("unix_mode", Value::text("0666")),
        _ => not_possible("unix_mode is 0600, 0660 or 0666"),
    }),
    ("backlog", 1, |o, v| match v.parse::<i64>() {
        Ok(number @ 1..=65_535) => o.set("limits.backlog", Value::Integer(number)),
        _ => wrong("HAProxy cannot read its value"),
    }),
    ("maxconn", 1, |o, v| match v.parse::<i64>() {
        Ok(number @ 1..=10_000_000) => o.set("max_connections", Value::Integer(number)),
        _ => wrong("HAProxy cannot read its value"),
    }),
    ("tcp-ut", 1, |o, v| match super::units::time(v) {
        Some(time) if !time.is_zero() => {
            o.set("timeouts.tcp_user_timeout", Value::text(crate::model::units::format_duration(time)))
        }
        _ => wrong("HAProxy cannot read its value"),
    }),
    ("proto", 1, |o, v| match v {
        "h2" if !o.tls => o.set("h2c", Value::Bool(true)),
        "h2" => o.set("tls.alpn", Value::texts(["h2"])),
        "h1" => translated(),
        _ => not_possible("HTTP/1 and HTTP/2 are spoken"),
    }),
    ("no-tlsv12", 0, |o, _| o.set("tls.min_version", Value::text("1.3"))),
    ("force-tlsv13", 0, |o, _| o.set("tls.min_version", Value::text("1.3"))),
    ("force-tlsv12", 0, |_, _| approximated("TLS 1.2 and 1.3 are spoken")),
    ("strict-sni", 0, |_, _| {
        approximated("who asks for an unknown name gets the first certificate, not a failed handshake")
    }),
    ("interface", 1, |o, _| {
        o.of_interface = true;
        not_possible(
            "a listener is bound to addresses: write the interface's own, with freebind where it comes later. Until then none of another interface is bound",
        )
    }),
];

fn minimum(options: &mut Options, version: &str) -> Said {
    match version {
        "TLSv1.3" => options.set("tls.min_version", Value::text("1.3")),
        "TLSv1.2" => translated(),
        "SSLv3" | "TLSv1.0" | "TLSv1.1" => approximated("TLS 1.2 is the oldest that is spoken"),
        _ => wrong("there is no such version"),
    }
}

fn accept_proxy(options: &mut Options, _: &str) -> Said {
    options.set("accept_proxy_protocol", Value::Bool(true));
    options.set("trusted_proxies", Value::texts(["0.0.0.0/0", "::/0"]));
    approximated(
        "everybody's PROXY header is believed, as in HAProxy: write the networks of your balancers in trusted_proxies",
    )
}

const IGNORED: [(&str, usize, &str); 39] = [
    ("no-ca-names", 0, "what clients are told of authorities is a hint to them"),
    ("name", 1, "listeners are known by their names"),
    ("id", 1, "listeners are known by their names"),
    ("guid", 1, "listeners are known by their names"),
    ("process", 1, "every worker accepts"),
    ("thread", 1, "every worker accepts"),
    ("shards", 1, "every worker has a socket of its own"),
    ("nbconn", 1, "the handling of a worker's turn is its own"),
    ("ciphers", 1, "TLS here has safe ciphers only"),
    ("ciphersuites", 1, "TLS here has safe ciphers only"),
    ("curves", 1, "TLS here has safe curves only"),
    ("ecdhe", 1, "TLS here has safe curves only"),
    ("sigalgs", 1, "TLS here has safe signatures only"),
    ("client-sigalgs", 1, "TLS here has safe signatures only"),
    ("prefer-client-ciphers", 0, "TLS here has safe ciphers only"),
    ("no-sslv3", 0, "there is no SSL 3 here"),
    ("no-tlsv10", 0, "there is no TLS 1.0 here"),
    ("no-tlsv11", 0, "there is no TLS 1.1 here"),
    ("no-tls-tickets", 0, "tickets are made with keys that change every 6 hours: no loss of forward secrecy"),
    ("tls-tickets", 0, "tickets are made"),
    ("tls-ticket-keys", 1, "set tls.ticket_keys to a file of keys that all nodes have, in Plimsoll's form"),
    ("ssl-max-ver", 1, "TLS up to 1.3 is spoken"),
    ("no-tlsv13", 0, "TLS up to 1.3 is spoken"),
    ("npn", 1, "NPN is no more: ALPN took its place"),
    ("no-alpn", 0, "ALPN offers what the listener speaks"),
    ("defer-accept", 0, "a connection without data costs under a kilobyte"),
    ("tfo", 0, "connections are taken without TCP Fast Open"),
    ("mss", 1, "the kernel chooses the size of segments"),
    ("nice", 1, "no listener goes before another"),
    ("user", 1, "the file of a unix socket belongs to the user of the process"),
    ("uid", 1, "the file of a unix socket belongs to the user of the process"),
    ("group", 1, "the file of a unix socket belongs to the group of the process"),
    ("gid", 1, "the file of a unix socket belongs to the group of the process"),
    ("level", 1, "the admin API has tokens"),
    ("severity-output", 1, "it is for the stats socket"),
    ("expose-fd", 1, "an upgrade hands listeners over by itself"),
    ("ocsp-update", 1, "an OCSP answer is stapled from a file: tls.certificates with ocsp"),
    ("ca-sign-file", 1, "it is for generated certificates"),
    ("ca-sign-pass", 1, "it is for generated certificates"),
];

const NOT_POSSIBLE: [(&str, usize, &str); 8] = [
    ("generate-certificates", 0, "certificates are files: make them before"),
    ("crl-file", 1, "revocation lists are not read: use short-lived certificates"),
    ("ca-verify-file", 1, "clients are verified by client_ca alone"),
    ("ca-ignore-err", 1, "a client's certificate is right or the handshake fails"),
    ("crt-ignore-err", 1, "a client's certificate is right or the handshake fails"),
    ("allow-0rtt", 0, "early data is not taken: it can be replayed"),
    ("accept-netscaler-cip", 1, "NetScaler's header is not read: let it send PROXY headers"),
    ("namespace", 1, "run one process in each network namespace"),
];

/// `bind ADDRESS[,ADDRESS] OPTIONS`.
pub(super) fn bind(reading: &mut Reading<'_, '_>, statement: &Statement) {
    let at = statement.at;
    if !reading.proxy.front {
        return reading.report.wrong(at, "a backend binds nothing: HAProxy rejects it");
    }
    let mut options = Options::default();
    let mut rest = statement.from(2);
    while let [name, behind @ ..] = rest {
        rest = option(name, behind, &mut options, at, reading);
    }
    let mut addresses = Vec::new();
    for text in statement.word(1).split(',') {
        match read(text, &options, at, reading) {
            Ok(found) => addresses.extend(found),
            Err(said) => said.about(text, at, reading.report),
        }
    }
    if addresses.is_empty() {
        return;
    }
    finish_tls(&mut options, at, reading);
    options.keys.sort_by(|a, b| a.0.cmp(&b.0));
    reading.report.translated(at);
    reading.proxy.binds.push(Bind { at, addresses, keys: options.keys, tls: options.tls });
}

fn option<'w>(
    name: &str,
    behind: &'w [String],
    options: &mut Options,
    at: Place,
    reading: &mut Reading<'_, '_>,
) -> &'w [String] {
    let split = |count: usize| {
        let (argument, rest) = behind.split_at_checked(count).unwrap_or((behind, &[]));
        (argument.first().map_or("", String::as_str), rest)
    };
    let (said, rest) = if name == "crt" || name == "crt-list" {
        let (path, rest) = split(1);
        (certificate(name, path, options, reading), rest)
    } else if let Some((_, count, read)) = ROWS.iter().find(|(known, ..)| *known == name) {
        let (argument, rest) = split(*count);
        let missing = *count > 0 && argument.is_empty();
        (if missing { wrong("its value is missing") } else { read(options, argument) }, rest)
    } else if let Some((_, count, why)) = IGNORED.iter().find(|(known, ..)| *known == name) {
        (ignored(*why), split(*count).1)
    } else if let Some((_, count, remedy)) = NOT_POSSIBLE.iter().find(|(known, ..)| *known == name) {
        (not_possible(*remedy), split(*count).1)
    } else {
        (wrong("it is no option of a listener that HAProxy 3.2 has"), behind)
    };
    said.about(name, at, reading.report);
    rest
}

fn read(
    text: &str,
    options: &Options,
    at: Place,
    reading: &mut Reading<'_, '_>,
) -> Result<Vec<(String, Option<u16>)>, Said> {
    let parsed = address(text, at, reading)?;
    let mut out = Vec::new();
    for (host, port) in parsed.hosts {
        let port = match port {
            Port::At(port) => port,
            Port::None if host.starts_with("unix:") => {
                out.push((host, None));
                continue;
            }
            Port::None => return Err(wrong("a port is missing: HAProxy rejects it")),
        };
        let name = host.trim_start_matches('[').trim_end_matches(']');
        if name.parse::<std::net::IpAddr>().is_err() {
            return Err(not_possible(
                "a listener is bound to an IP address: write the one that the name leads to",
            ));
        }
        // Of an interface that cannot be said it is not known which addresses it has: nobody else is let in.
        let host = match host.as_str() {
            "0.0.0.0" if options.of_interface => "127.0.0.1".to_owned(),
            "[::]" if options.of_interface => "[::1]".to_owned(),
            _ => host,
        };
        // Where the system does not say otherwise, a socket on every IPv6 address takes IPv4 too.
        let both = host == "[::]" && !options.v6only;
        if both {
            out.push((format!("0.0.0.0:{port}"), Some(port)));
        }
        out.push((format!("{host}:{port}"), Some(port)));
    }
    Ok(out)
}

/// `crt PATH` and `crt-list PATH`.
fn certificate(word: &str, path: &str, options: &mut Options, reading: &mut Reading<'_, '_>) -> Said {
    let full = reading.global.in_base(reading.global.crt_base.as_deref(), path);
    if word == "crt-list" {
        return certificate_list(&full, options, reading);
    }
    if path == "/etc/ssl/certs" || path == "/etc/ssl/certs/" {
        options.certificates.push(pair("CERTIFICATE.pem", "CERTIFICATE.pem"));
        return wrong(
            "the system's folder of authorities has no keys, so HAProxy does not start: name the certificate and its key in place of CERTIFICATE.pem",
        );
    }
    if let Some(files) = (reading.around.list)(Path::new(&full)) {
        return folder(&files, options, reading);
    }
    if full.ends_with('/') {
        options.certificates.push(pair(&format!("{full}CERTIFICATE.pem"), &format!("{full}CERTIFICATE.pem")));
        return not_possible(
            "the folder is not here, so its files cannot be listed: name each in place of CERTIFICATE.pem, the default first",
        );
    }
    options.certificates.push(with_key(&full, reading));
    translated()
}

fn pair(cert: &str, key: &str) -> Value {
    Value::inline([("cert", Value::text(cert)), ("key", Value::text(key))])
}

/// The key is in the file, or beside it with `.key` at its end.
fn with_key(path: &str, reading: &Reading<'_, '_>) -> Value {
    let beside = format!("{path}.key");
    let has_key = (reading.around.read)(Path::new(path)).is_none_or(|pem| pem.contains("PRIVATE KEY"));
    if has_key || (reading.around.read)(Path::new(&beside)).is_none() {
        pair(path, path)
    } else {
        pair(path, &beside)
    }
}

/// All files of a folder, but those that belong to others.
fn folder(files: &[PathBuf], options: &mut Options, reading: &Reading<'_, '_>) -> Said {
    let no_certificate = ["key", "issuer", "ocsp", "sctl"];
    let names = files.iter().filter(|path| {
        let end = path.extension().and_then(|end| end.to_str()).unwrap_or("");
        !no_certificate.contains(&end)
            && path.file_name().is_some_and(|name| !name.to_string_lossy().starts_with('.'))
    });
    let found: Vec<Value> = names.map(|path| with_key(&path.to_string_lossy(), reading)).collect();
    if found.is_empty() {
        return wrong("there is no certificate in the folder");
    }
    options.certificates.extend(found);
    approximated("the files that are in the folder now: one that comes later has to be named")
}

/// A file with a certificate a line, each with options in brackets and names.
fn certificate_list(path: &str, options: &mut Options, reading: &Reading<'_, '_>) -> Said {
    let Some(text) = (reading.around.read)(Path::new(path)) else {
        options.certificates.push(pair("CERTIFICATE.pem", "CERTIFICATE.pem"));
        return not_possible(
            "the list is not here: name each certificate in place of CERTIFICATE.pem, the default first",
        );
    };
    let (mut filtered, mut verifies) = (false, false);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let file = line.split(['[', ' ', '\t']).next().unwrap_or(line);
        filtered |= file.len() < line.len();
        let (_, inside) = line.split_once('[').unwrap_or(("", ""));
        let of_line = inside.split(']').next().unwrap_or("");
        verifies |= of_line.split_ascii_whitespace().any(|word| word == "verify" || word == "ca-file");
        let full = reading.global.in_base(reading.global.crt_base.as_deref(), file);
        options.certificates.push(with_key(&full, reading));
    }
    if options.certificates.is_empty() {
        return wrong("there is no certificate in the list");
    }
    if verifies {
        // Whose names these are that certificates are asked for is not known: nobody gets in without one.
        options.verify = Some("required".to_owned());
        options.ca.get_or_insert_with(|| "CLIENTS.pem".to_owned());
        return not_possible(
            "clients are verified for a listener, not for a name: until these names have a listener of their own all clients need a certificate (tls.client_ca)",
        );
    }
    if filtered {
        approximated(
            "each certificate serves the names that it has: options and names of its line in the list are left out",
        )
    } else {
        translated()
    }
}

/// Puts together what TLS needs.
fn finish_tls(options: &mut Options, at: Place, reading: &mut Reading<'_, '_>) {
    if !options.tls {
        if !options.certificates.is_empty() {
            reading
                .report
                .wrong(at, "there is `crt` and no `ssl`: HAProxy takes connections in the clear here");
        }
        options.keys.retain(|(key, _)| !key.starts_with("tls."));
        return;
    }
    if options.certificates.is_empty() {
        reading.report.wrong(at, "there is `ssl` and no certificate: HAProxy does not start");
        options.certificates.push(pair("CERTIFICATE.pem", "CERTIFICATE.pem"));
    }
    let certificates = match std::mem::take(&mut options.certificates) {
        many if many.len() > 1 => Value::Lines(many.into_iter().map(|one| (one, None)).collect()),
        one => Value::List(one),
    };
    options.keys.push(("tls.certificates".to_owned(), certificates));
    match (options.ca.take(), options.verify.take().as_deref()) {
        (Some(ca), Some(verify @ ("required" | "optional"))) => {
            let ca = reading.global.in_base(reading.global.ca_base.as_deref(), &ca);
            options.set("tls.client_ca", Value::text(ca));
            if verify == "optional" {
                options.set("tls.client_auth", Value::text("request"));
            }
        }
        (None, Some("required" | "optional")) => {
            options.set("tls.client_ca", Value::text("CLIENTS.pem"));
            let what =
                "clients are to be verified, and no ca-file says by whom: name it in place of CLIENTS.pem";
            reading.report.wrong(at, what);
        }
        _ => {}
    }
    if let Some(minimum) = reading.global.bind_minimum.as_deref()
        && !options.keys.iter().any(|(key, _)| key == "tls.min_version")
    {
        options.set("tls.min_version", Value::text(minimum));
    }
}
