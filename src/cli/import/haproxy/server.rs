//! `server`, `default-server` and `server-template`: the address and the options of an endpoint. What a pool makes of
//! them is `pool`'s.

use std::time::Duration;

use super::super::report::Place;
use super::address::{Port, address};
use super::proxy::Reading;
use super::said::{Said, approximated, ignored, not_possible, translated, wrong};
use super::section::Statement;
use super::units::time;

/// An endpoint.
#[derive(Debug, Clone)]
pub(super) struct Server {
    /// Where it stands.
    pub(super) at: Place,
    /// Its name.
    pub(super) name: String,
    /// Its address as Plimsoll writes it.
    pub(super) address: String,
    /// Its options, those of `default-server` under them.
    pub(super) options: Options,
}

/// The options of a server; nothing where they are not written.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Options {
    pub(super) check: bool,
    pub(super) inter: Option<Duration>,
    pub(super) fastinter: Option<Duration>,
    pub(super) downinter: Option<Duration>,
    pub(super) rise: Option<i64>,
    pub(super) fall: Option<i64>,
    pub(super) check_port: Option<u16>,
    pub(super) check_address: Option<String>,
    pub(super) check_ssl: bool,
    pub(super) check_sni: Option<String>,
    pub(super) check_send_proxy: bool,
    pub(super) weight: Option<i64>,
    pub(super) maxconn: Option<i64>,
    pub(super) minconn: Option<i64>,
    pub(super) backup: bool,
    pub(super) disabled: bool,
    pub(super) cookie: Option<String>,
    pub(super) slowstart: Option<Duration>,
    pub(super) close_when_down: bool,
    pub(super) observe: Option<String>,
    pub(super) error_limit: Option<i64>,
    pub(super) track: Option<String>,
    pub(super) agent: bool,
    pub(super) agent_port: Option<u16>,
    pub(super) agent_inter: Option<Duration>,
    pub(super) agent_send: Option<String>,
    pub(super) ssl: bool,
    pub(super) verify_none: bool,
    pub(super) verify_required: bool,
    pub(super) ca: Option<String>,
    pub(super) certificate: Option<String>,
    pub(super) sni: Option<String>,
    pub(super) min_version: Option<String>,
    pub(super) send_proxy: Option<&'static str>,
    pub(super) http2: Option<&'static str>,
    pub(super) source: Option<String>,
}

/// One option: its name, how many words follow, and what it does.
type Row = (&'static str, usize, fn(&mut Options, &str) -> Said);

fn said<T>(place: &mut Option<T>, value: Option<T>) -> Said {
    match value {
        Some(value) => {
            *place = Some(value);
            translated()
        }
        None => wrong("HAProxy cannot read its value"),
    }
}

fn yes(place: &mut bool) -> Said {
    *place = true;
    translated()
}

/// The name that follows `str(`, or what else a constant expression says.
fn constant(expression: &str) -> Option<String> {
    let inside = expression.strip_prefix("str(").and_then(|rest| rest.strip_suffix(')'));
    inside.map(|text| text.trim_matches(['\'', '"']).to_owned())
}

fn sni(options: &mut Options, expression: &str) -> Said {
    let of_request = ["req.hdr(host)", "hdr(host)", "ssl_fc_sni", "req.hdr(host),field(1,:)", "req.ssl_sni"];
    match constant(expression) {
        Some(name) => options.sni = Some(name),
        None if of_request.iter().any(|known| expression.starts_with(known)) => {
            options.sni = Some("{host}".to_owned());
        }
        None => {
            return not_possible(
                "a server_name is one name, or \"{host}\" for the request's: write it in the pool's tls",
            );
        }
    }
    translated()
}

fn alpn(options: &mut Options, protocols: &str) -> Said {
    match protocols {
        "h2" => options.http2 = Some("http2"),
        list if list.split(',').any(|one| one == "h2") => options.http2 = Some("auto"),
        _ => {}
    }
    translated()
}

fn observe(options: &mut Options, layer: &str) -> Said {
    options.observe = Some(layer.to_owned());
    approximated(
        "passive ejection (outlier): what is ejected returns after ejection_time, or when its probes say so",
    )
}

/// What changes the translation.
const ROWS: [Row; 46] = [
    ("check", 0, |o, _| yes(&mut o.check)),
    ("no-check", 0, |o, _| {
        o.check = false;
        translated()
    }),
    ("inter", 1, |o, v| said(&mut o.inter, time(v))),
    ("fastinter", 1, |o, v| said(&mut o.fastinter, time(v))),
    ("downinter", 1, |o, v| said(&mut o.downinter, time(v))),
    ("rise", 1, |o, v| said(&mut o.rise, v.parse().ok().filter(|n| *n > 0))),
    ("fall", 1, |o, v| said(&mut o.fall, v.parse().ok().filter(|n| *n > 0))),
    ("port", 1, |o, v| said(&mut o.check_port, v.parse().ok().filter(|n| *n > 0))),
    ("addr", 1, |o, v| said(&mut o.check_address, Some(v.to_owned()))),
    ("check-ssl", 0, |o, _| yes(&mut o.check_ssl)),
    ("no-check-ssl", 0, |o, _| {
        o.check_ssl = false;
        translated()
    }),
    ("check-sni", 1, |o, v| said(&mut o.check_sni, Some(v.to_owned()))),
    ("check-send-proxy", 0, |o, _| yes(&mut o.check_send_proxy)),
    ("weight", 1, |o, v| said(&mut o.weight, v.parse().ok().filter(|n| (0..=256).contains(n)))),
    ("minconn", 1, |o, v| said(&mut o.minconn, v.parse().ok().filter(|n| *n >= 0))),
    ("maxconn", 1, |o, v| said(&mut o.maxconn, v.parse().ok().filter(|n| *n >= 0))),
    ("backup", 0, |o, _| yes(&mut o.backup)),
    ("no-backup", 0, |o, _| {
        o.backup = false;
        translated()
    }),
    ("disabled", 0, |o, _| {
        o.disabled = true;
        approximated(
            "weight = 0: it gets no new traffic until the weight is changed, or `plimsoll ready` says so",
        )
    }),
    ("enabled", 0, |o, _| {
        o.disabled = false;
        translated()
    }),
    ("cookie", 1, |o, v| {
        o.cookie = Some(v.to_owned());
        translated()
    }),
    ("slowstart", 1, |o, v| said(&mut o.slowstart, time(v))),
    ("on-marked-down", 1, |o, v| match v {
        "shutdown-sessions" => yes(&mut o.close_when_down),
        _ => wrong("there is only shutdown-sessions"),
    }),
    ("on-marked-up", 1, |_, _| {
        not_possible(
            "sessions on a backup stay there when a primary returns; new ones go to the primary at once",
        )
    }),
    ("observe", 1, observe),
    ("error-limit", 1, |o, v| said(&mut o.error_limit, v.parse().ok().filter(|n| *n > 0))),
    ("on-error", 1, |_, v| match v {
        "mark-down" | "fail-check" | "sudden-death" | "fastinter" => {
            approximated("what failed too often is ejected for a time, whichever action is written")
        }
        _ => wrong("there is no such action"),
    }),
    ("track", 1, |o, v| {
        o.track = Some(v.to_owned());
        approximated("it is probed for itself, as the server that it tracks is")
    }),
    ("agent-check", 0, |o, _| yes(&mut o.agent)),
    ("agent-port", 1, |o, v| said(&mut o.agent_port, v.parse().ok().filter(|n| *n > 0))),
    ("agent-inter", 1, |o, v| said(&mut o.agent_inter, time(v))),
    ("agent-send", 1, |o, v| said(&mut o.agent_send, Some(v.to_owned()))),
    ("ssl", 0, |o, _| yes(&mut o.ssl)),
    ("no-ssl", 0, |o, _| {
        o.ssl = false;
        translated()
    }),
    ("verify", 1, |o, v| {
        (o.verify_none, o.verify_required) = (v == "none", v == "required");
        if v == "none" {
            approximated("verification is off, and `plimsoll check` says so (L004) until it is on")
        } else {
            translated()
        }
    }),
    ("ca-file", 1, |o, v| said(&mut o.ca, Some(v.to_owned()))),
    ("crt", 1, |o, v| said(&mut o.certificate, Some(v.to_owned()))),
    ("sni", 1, sni),
    ("verifyhost", 1, |o, v| said(&mut o.sni, Some(v.to_owned()))),
    ("ssl-min-ver", 1, |o, v| said(&mut o.min_version, Some(v.to_owned()))),
    ("send-proxy", 0, |o, _| said(&mut o.send_proxy, Some("v1"))),
    ("send-proxy-v2", 0, |o, _| said(&mut o.send_proxy, Some("v2"))),
    ("send-proxy-v2-ssl", 0, |o, _| said(&mut o.send_proxy, Some("v2"))),
    ("send-proxy-v2-ssl-cn", 0, |o, _| said(&mut o.send_proxy, Some("v2"))),
    ("alpn", 1, alpn),
    ("source", 1, |o, v| {
        o.source = Some(v.split(':').next().unwrap_or(v).to_owned());
        translated()
    }),
];

/// What needs nothing, and why.
const IGNORED: [(&str, usize, &str); 44] = [
    ("allow-0rtt", 0, "early data is not sent to endpoints"),
    ("no-tfo", 0, "connections are made without TCP Fast Open"),
    ("no-tlsv12", 0, "TLS 1.2 and 1.3 are spoken"),
    ("no-tlsv13", 0, "TLS 1.2 and 1.3 are spoken"),
    ("force-tlsv12", 0, "TLS 1.2 and 1.3 are spoken"),
    ("force-tlsv13", 0, "TLS 1.2 and 1.3 are spoken"),
    ("tls-tickets", 0, "sessions are resumed"),
    ("npn", 1, "protocols are agreed on by ALPN"),
    (
        "resolvers",
        1,
        "names are resolved by [process] resolvers, or those of the system, and their times are kept",
    ),
    ("resolve-prefer", 1, "every address of a name is an endpoint, of both families"),
    ("resolve-opts", 1, "every address of a name is an endpoint"),
    ("init-addr", 1, "a name that does not resolve stops no start: its endpoints come when it does"),
    ("init-state", 1, "the first probe decides, at once"),
    ("id", 1, "endpoints are known by their names"),
    ("guid", 1, "endpoints are known by their names"),
    ("ciphers", 1, "TLS here has safe ciphers only"),
    ("ciphersuites", 1, "TLS here has safe ciphers only"),
    ("curves", 1, "TLS here has safe curves only"),
    ("no-sslv3", 0, "there is no SSL 3 here"),
    ("no-tlsv10", 0, "there is no TLS 1.0 here"),
    ("no-tlsv11", 0, "there is no TLS 1.1 here"),
    ("no-tls-tickets", 0, "sessions are kept in memory, and never without forward secrecy"),
    ("no-ssl-reuse", 0, "sessions are resumed: it saves the endpoint work"),
    ("ssl-reuse", 0, "sessions are resumed"),
    ("ssl-max-ver", 1, "TLS up to 1.3 is spoken"),
    ("pool-max-conn", 1, "idle connections are bounded by limits.idle_connections, 256 for each worker"),
    (
        "pool-purge-delay",
        1,
        "idle connections close after timeouts.keep_alive, sooner where the endpoint announces it",
    ),
    ("pool-low-conn", 1, "each worker has its own idle connections"),
    ("max-reuse", 1, "connections are used until one side ends them"),
    ("tfo", 0, "connections are opened without TCP Fast Open"),
    ("log-proto", 1, "log servers are no part of it"),
    ("log-bufsize", 1, "log servers are no part of it"),
    ("non-stick", 0, "the cookie goes with every endpoint"),
    ("no-verifyhost", 0, "the name is verified"),
    ("hash-key", 1, "the hash goes by the endpoint's name"),
    ("shard", 1, "peers are no part of it"),
    ("strict-maxconn", 0, "requests in flight are what is limited"),
    ("check-alpn", 1, "probes ask for what they speak"),
    ("no-check-send-proxy", 0, "probes begin with a PROXY header where the traffic does"),
    ("no-send-proxy", 0, "none is sent unless written"),
    ("no-send-proxy-v2", 0, "none is sent unless written"),
    ("proxy-v2-options", 1, "version 2 tells what is known of the client's TLS"),
    ("ws", 1, "WebSocket takes what the endpoint speaks"),
    ("stick", 0, "stickiness is the pool's"),
];

const NOT_POSSIBLE: [(&str, usize, &str); 12] = [
    ("maxqueue", 1, "the queue is the pool's, not the endpoint's: set limits.queue in the pool"),
    ("redir", 1, "a redirect to the endpoint is a route with `redirect`"),
    ("socks4", 1, "endpoints are connected to directly"),
    ("check-via-socks4", 0, "endpoints are connected to directly"),
    ("namespace", 1, "run one process in each network namespace"),
    (
        "usesrc",
        1,
        "source_address = \"client\" in the pool is the client's own address; it needs CAP_NET_ADMIN",
    ),
    ("tcp-ut", 1, "set timeouts.tcp_user_timeout in the pool"),
    ("crl-file", 1, "revocation lists are not read: use short-lived certificates"),
    ("agent-addr", 1, "the agent is asked at the endpoint's own address: set its health.address"),
    ("check-proto", 1, "probes speak HTTP/1.1, and HTTP/2 for gRPC only"),
    ("resolve-net", 1, "every address of a name is an endpoint: let the name lead to those that are meant"),
    ("set-proxy-v2-tlv-fmt", 1, "the PROXY header has no fields of your own"),
];

/// Reads the options behind the address.
pub(super) fn options(words: &[String], options: &mut Options, at: Place, reading: &mut Reading<'_, '_>) {
    let mut rest = words;
    while let [name, behind @ ..] = rest {
        let mut take = |count: usize| {
            let (argument, left) = behind.split_at_checked(count).unwrap_or((behind, &[]));
            rest = left;
            argument.first().map_or("", String::as_str)
        };
        let word = name.split('(').next().unwrap_or(name);
        let said = if let Some((_, count, read)) = ROWS.iter().find(|(known, ..)| *known == word) {
            let argument = take(*count);
            if *count > 0 && argument.is_empty() {
                wrong("its value is missing")
            } else {
                read(options, argument)
            }
        } else if let Some((_, count, why)) = IGNORED.iter().find(|(known, ..)| *known == word) {
            take(*count);
            ignored(*why)
        } else if let Some((_, count, remedy)) = NOT_POSSIBLE.iter().find(|(known, ..)| *known == word) {
            take(*count);
            not_possible(*remedy)
        } else if word == "proto" {
            match take(1) {
                "h2" => said_http2(options),
                "h1" => translated(),
                other => not_possible(format!("{other} is not spoken with endpoints: HTTP/1 and HTTP/2 are")),
            }
        } else {
            take(0);
            wrong("it is no option of a server that HAProxy 3.2 has")
        };
        said.about(name, at, reading.report);
    }
}

fn said_http2(options: &mut Options) -> Said {
    options.http2 = Some("http2");
    translated()
}

/// `server NAME ADDRESS OPTIONS`.
pub(super) fn server(reading: &mut Reading<'_, '_>, statement: &Statement) {
    let at = statement.at;
    if !reading.proxy.back {
        return reading.report.wrong(at, "a frontend has no servers: HAProxy rejects it");
    }
    let name = statement.word(1).to_owned();
    if name.is_empty() || statement.word(2).is_empty() {
        return reading.report.wrong(at, "a server has a name and an address");
    }
    let parsed = match address(statement.word(2), at, reading) {
        Ok(parsed) => parsed,
        Err(said) => return said.about(statement.word(2), at, reading.report),
    };
    let mut of_server = reading.proxy.default_server.clone();
    options(statement.from(3), &mut of_server, at, reading);
    for (host, port) in parsed.hosts {
        let address = match port {
            Port::At(port) => format!("{host}:{port}"),
            Port::None if host.starts_with("unix:") => host,
            Port::None => match reading.proxy.only_port() {
                Some(port) => {
                    let how = format!("without a port it goes to the one that the client came to: {port}");
                    reading.report.approximated(at, how);
                    format!("{host}:{port}")
                }
                None => {
                    let remedy = "without a port it goes to the one that the client came to: an endpoint has one of its own; write it";
                    return reading.report.not_possible(at, remedy);
                }
            },
        };
        if reading.proxy.server_names.contains_key(&name) {
            return reading.report.wrong(at, format!("there is another server {name} in this section"));
        }
        if let Some(first) = reading.proxy.server_addresses.get(&address) {
            let remedy = format!(
                "{first} has the same address: an endpoint is there once, and its weight says how much of the traffic it gets"
            );
            return reading.report.not_possible(at, remedy);
        }
        reading.report.translated(at);
        let options = of_server.clone();
        reading.proxy.server_names.insert(name.clone(), reading.proxy.servers.len());
        reading.proxy.server_addresses.insert(address.clone(), name.clone());
        reading.proxy.servers.push(Server { at, name: name.clone(), address, options });
    }
}

/// `server-template PREFIX COUNT ADDRESS OPTIONS`.
pub(super) fn server_template(reading: &mut Reading<'_, '_>, statement: &Statement) {
    let at = statement.at;
    let [_, prefix, _, place, rest @ ..] = statement.words.as_slice() else {
        return reading.report.wrong(at, "a template has a prefix, a count and an address");
    };
    let mut words = vec!["server".to_owned(), prefix.clone(), place.clone()];
    words.extend(rest.iter().cloned());
    server(reading, &Statement { at, words });
    let service = place.starts_with('_') || place.contains("._tcp.");
    if let Some(made) = reading.proxy.servers.last_mut().filter(|made| made.at == at && service) {
        let name = place.split(':').next().unwrap_or(place);
        made.address = format!("srv:{name}");
    }
    reading
        .report
        .approximated(at, "every address that the name leads to is an endpoint, however many there are");
}

/// `default-server OPTIONS`.
pub(super) fn default_server(reading: &mut Reading<'_, '_>, statement: &Statement) {
    if !reading.proxy.back {
        return;
    }
    let mut defaults = reading.proxy.default_server.clone();
    options(statement.from(1), &mut defaults, statement.at, reading);
    reading.proxy.default_server = defaults;
    reading.report.translated(statement.at);
}
