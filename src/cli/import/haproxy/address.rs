//! Addresses as HAProxy writes them, of listeners and of servers, in Plimsoll's spelling.

use super::super::report::Place;
use super::lexer::expand;
use super::proxy::Reading;
use super::said::{Said, not_possible, wrong};

/// A port, or the one that the client came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Port {
    /// This one.
    At(u16),
    /// None is written.
    None,
}

/// What an address comes to: several hosts where `*` or a range is written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Addresses {
    /// Each host, in brackets where it is IPv6 and `unix:/path` where it is a socket, and its port.
    pub(super) hosts: Vec<(String, Port)>,
    /// Nothing was written before the port, or a star: every address.
    pub(super) any: bool,
}

/// A range of more ports than this is refused.
const PORTS_MAX: u16 = 256;

/// Reads the address of a listener or server; the environment is put in.
///
/// # Errors
/// What is to be said of an address that Plimsoll has no spelling for.
pub(super) fn address(text: &str, at: Place, reading: &mut Reading<'_, '_>) -> Result<Addresses, Said> {
    let mut unset = Vec::new();
    let expanded = expand(text, &|name| reading.variable(name), &mut unset);
    for name in unset {
        reading.report.wrong(
            at,
            format!("${name} is not set here: set it for the import, as it is where HAProxy runs"),
        );
    }
    let text = expanded.map_err(|error| wrong(error.to_string()))?;
    parse(&text)
}

/// Reads an address.
///
/// # Errors
/// As [`address`].
pub(super) fn parse(text: &str) -> Result<Addresses, Said> {
    let one = |host: String| Ok(Addresses { hosts: vec![(host, Port::None)], any: false });
    if let Some(path) = text.strip_prefix("unix@").or_else(|| text.starts_with('/').then_some(text)) {
        return one(format!("unix:{path}"));
    }
    let kind = text.split_once('@').map(|(kind, _)| kind);
    let text = match kind {
        Some("ipv4" | "ipv6" | "tcp" | "tcp4" | "tcp6") => {
            text.split_once('@').map_or(text, |(_, rest)| rest)
        }
        Some("abns" | "abnsz") => {
            return Err(not_possible(
                "abstract sockets are not spoken: use a path, as in unix@/run/app.sock",
            ));
        }
        Some("fd" | "sockpair") => {
            return Err(not_possible(
                "a descriptor comes from a service manager: bind the address, and let a systemd socket unit hold it",
            ));
        }
        Some("quic4" | "quic6" | "udp" | "udp4" | "udp6") => {
            return Err(not_possible(
                "there is no HTTP/3 yet; UDP is relayed by a listener with protocol = \"udp\"",
            ));
        }
        _ => text,
    };
    let (host, ports) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, behind)) => (format!("[{host}]"), behind.strip_prefix(':').unwrap_or("")),
        None => match text.rsplit_once(':') {
            // `::1` alone has no port, as HAProxy reads it: what is behind the last colon is one.
            Some((host, ports)) if host.contains(':') || host == ":" => (format!("[{host}]"), ports),
            Some((host, ports)) => (host.to_owned(), ports),
            None => (text.to_owned(), ""),
        },
    };
    let any = matches!(host.as_str(), "" | "*" | "0.0.0.0");
    let host = match host.as_str() {
        "" | "*" => "0.0.0.0".to_owned(),
        "[:]" | "[::]" => "[::]".to_owned(),
        _ => host,
    };
    let ports = read_ports(ports)?;
    let hosts = ports.into_iter().map(|port| (host.clone(), port)).collect();
    Ok(Addresses { hosts, any })
}

fn read_ports(text: &str) -> Result<Vec<Port>, Said> {
    if text.is_empty() {
        return Ok(vec![Port::None]);
    }
    if text.starts_with(['+', '-']) {
        return Err(not_possible(
            "a port relative to the client's has no counterpart: an endpoint has one of its own; write it",
        ));
    }
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let range = match text.split_once('-') {
        Some((first, last)) => number(first).zip(number(last)).filter(|(first, last)| first <= last),
        None => number(text).map(|port| (port, port)),
    };
    let Some((first, last)) = range else { return Err(wrong(format!("`{text}` is no port"))) };
    if last - first >= PORTS_MAX {
        return Err(not_possible(format!(
            "a range of more than {PORTS_MAX} ports is not written out: forward fewer, or at the firewall"
        )));
    }
    Ok((first..=last).map(Port::At).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: &[&str]) {
        let hosts = parse(text).map(|parsed| parsed.hosts).unwrap_or_default();
        let hosts = hosts.into_iter().map(|(host, port)| match port {
            Port::At(port) => format!("{host}:{port}"),
            Port::None => host,
        });
        assert_eq!(hosts.collect::<Vec<_>>(), want, "{text}");
    }

    #[test]
    fn addresses_are_read_as_haproxy_reads_them() {
        check("*:80", &["0.0.0.0:80"]);
        check(":80", &["0.0.0.0:80"]);
        check(":::80", &["[::]:80"]);
        check("[::]:80", &["[::]:80"]);
        check("fd00::1:443", &["[fd00::1]:443"]);
        check("ipv4@app.internal:8080", &["app.internal:8080"]);
        check("10.0.0.1", &["10.0.0.1"]);
        check("10.0.0.1:8080-8082", &["10.0.0.1:8080", "10.0.0.1:8081", "10.0.0.1:8082"]);
        check("/run/app.sock", &["unix:/run/app.sock"]);
        check("unix@/run/app.sock", &["unix:/run/app.sock"]);
        for wrong in ["10.0.0.1:0", "10.0.0.1:http", "a:1-70000", "abns@x", "fd@3", "10.0.0.1:+1", "*:1-2000"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
