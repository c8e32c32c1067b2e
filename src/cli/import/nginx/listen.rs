//! `listen`: addresses with their options.

use super::notes::Notes;
use super::tree::Directive;

/// An address that a server listens on.
#[derive(Debug, Clone)]
pub(super) struct Listen<'t> {
    pub(super) of: &'t Directive,
    /// As `bind` has it.
    pub(super) bind: String,
    pub(super) port: Option<u16>,
    pub(super) ssl: bool,
    pub(super) http2: bool,
    pub(super) proxy_protocol: bool,
    pub(super) udp: bool,
    pub(super) default: bool,
    pub(super) backlog: Option<i64>,
}

/// Options that need nothing here, and why.
const NEEDLESS: &[(&str, &str)] = &[
    ("reuseport", "each worker has sockets of its own anyway"),
    ("deferred", "a connection costs nothing before it says something"),
    ("bind", "every address is bound by itself"),
    ("so_keepalive", "idle connections are probed (timeouts.tcp_keepalive)"),
    ("fastopen", "connections are not opened with data"),
    ("rcvbuf", "the system sizes buffers of sockets"),
    ("sndbuf", "the system sizes buffers of sockets"),
    ("setfib", "the system's routes are used"),
    ("multipath", "connections are plain TCP"),
    ("spdy", "SPDY is gone: HTTP/2 is spoken"),
    ("accept_filter", "a connection costs nothing before it says something"),
];

/// Ranges of ports are not longer than this.
const PORTS_MAX: u16 = 1_000;

/// Reads a `listen`; without any a server listens on port 80.
pub(super) fn read<'t>(of: &'t Directive, http: bool, notes: &mut Notes<'_>) -> Vec<Listen<'t>> {
    let mut base = Listen {
        of,
        bind: String::new(),
        port: None,
        ssl: false,
        http2: false,
        proxy_protocol: false,
        udp: false,
        default: false,
        backlog: None,
    };
    let mut both = false;
    for option in of.from(1) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match name {
            "ssl" => base.ssl = true,
            "http2" if http => base.http2 = true,
            "proxy_protocol" => base.proxy_protocol = true,
            "udp" if !http => base.udp = true,
            "default_server" | "default" => base.default = true,
            "ipv6only" => both = value == "off",
            "backlog" => match value.parse::<i64>().ok().filter(|count| (1..=65_535).contains(count)) {
                Some(count) => base.backlog = Some(count),
                None => notes.skip(of, "backlog: it is the system's own"),
            },
            "quic" => {
                notes.cannot(of, "HTTP/3 is not spoken: HTTP/2 is");
                return Vec::new();
            }
            _ => match NEEDLESS.iter().find(|(known, _)| *known == name) {
                Some((known, why)) => notes.how(of, format!("{known}: {why}")),
                None => notes.wrong(of, format!("{option}: nginx knows no such option and rejects it")),
            },
        }
    }
    let addresses = match addresses(of.word(0), both, http) {
        Ok(addresses) => addresses,
        Err(why) => {
            notes.wrong(of, why);
            return Vec::new();
        }
    };
    if addresses.iter().any(|(bind, _)| bind.starts_with("name:")) {
        notes.cannot(of, "a listener is bound to an IP address: write the one that the name leads to");
        return Vec::new();
    }
    notes.ok(of);
    addresses.into_iter().map(|(bind, port)| Listen { bind, port, ..base.clone() }).collect()
}

/// The addresses of a `listen`, with their ports.
fn addresses(text: &str, both: bool, http: bool) -> Result<Vec<(String, Option<u16>)>, &'static str> {
    if let Some(path) = text.strip_prefix("unix:") {
        return if path.starts_with('/') {
            Ok(vec![(text.to_owned(), None)])
        } else {
            Err("a unix socket has an absolute path")
        };
    }
    let (host, ports) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (format!("[{host}]"), rest.strip_prefix(':')),
        None => match text.rsplit_once(':') {
            Some((host, ports)) => (host.to_owned(), Some(ports)),
            None if text.chars().all(|c| c.is_ascii_digit() || c == '-') && !text.is_empty() => {
                (String::new(), Some(text))
            }
            None => (text.to_owned(), None),
        },
    };
    let host = match host.as_str() {
        "" | "*" => "0.0.0.0".to_owned(),
        host => host.to_owned(),
    };
    let (first, last) = match ports {
        None if http => (80, 80),
        None => return Err("a port is missing: nginx rejects it"),
        Some(ports) => {
            let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
            let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
            match (port(first), port(last)) {
                (Some(first), Some(last)) if first <= last && last - first < PORTS_MAX => (first, last),
                _ => return Err("it has no valid port: nginx rejects it"),
            }
        }
    };
    let plain = host.trim_start_matches('[').trim_end_matches(']');
    let host = match plain.parse::<std::net::IpAddr>() {
        Ok(_) => host,
        Err(_) if plain == "localhost" => "127.0.0.1".to_owned(),
        Err(_) => format!("name:{plain}"),
    };
    let mut out = Vec::new();
    for port in first..=last {
        if both && host == "[::]" {
            out.push((format!("0.0.0.0:{port}"), Some(port)));
        }
        out.push((format!("{host}:{port}"), Some(port)));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_sockets() {
        let check = |text: &str, want: &[&str]| {
            let found = addresses(text, false, true).expect("addresses");
            assert_eq!(found.iter().map(|(bind, _)| bind.as_str()).collect::<Vec<_>>(), want, "{text}");
        };
        check("80", &["0.0.0.0:80"]);
        check("*:8080", &["0.0.0.0:8080"]);
        check("127.0.0.1", &["127.0.0.1:80"]);
        check("[::]:443", &["[::]:443"]);
        check("8000-8001", &["0.0.0.0:8000", "0.0.0.0:8001"]);
        check("unix:/run/a.sock", &["unix:/run/a.sock"]);
        assert_eq!(addresses("[::]:80", true, true).map(|all| all.len()), Ok(2));
        for wrong in ["70000", "unix:a", "80-", "1-9999"] {
            assert!(addresses(wrong, false, true).is_err(), "{wrong}");
        }
    }
}
