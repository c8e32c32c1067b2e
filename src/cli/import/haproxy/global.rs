//! `global`, and the sections that are no proxies: what of them concerns the process, and why the rest needs nothing.

use super::super::document::{Document, Value};
use super::super::report::{Place, Report};
use super::said::{Said, approximated, ignored, not_possible, translated, wrong};
use super::section::{Section, Statement};
use super::units::time;
use crate::model::units::format_duration;

/// What `global` says to other sections.
#[derive(Debug, Default)]
pub(super) struct Global {
    /// Where relative certificates are.
    pub(super) crt_base: Option<String>,
    /// Where relative authorities are.
    pub(super) ca_base: Option<String>,
    /// The ceiling of the process.
    pub(super) maxconn: Option<(i64, Place)>,
    /// `ssl-server-verify none`.
    pub(super) servers_unverified: Option<Place>,
    /// The least version of TLS for clients, where it is above ours.
    pub(super) bind_minimum: Option<String>,
    /// Sections `http-errors`, by name.
    pub(super) errors: std::collections::BTreeMap<String, Vec<Statement>>,
    /// `spread-checks`, in percent.
    pub(super) spread: Option<(i64, Place)>,
}

impl Global {
    /// A path below its base.
    #[must_use]
    pub(super) fn in_base(&self, base: Option<&str>, path: &str) -> String {
        match base {
            Some(base) if !path.starts_with('/') => format!("{}/{path}", base.trim_end_matches('/')),
            _ => path.to_owned(),
        }
    }
}

type Directive = fn(&mut Global, &mut Document, &Statement) -> Said;

const DIRECTIVES: [(&str, Directive); 15] = [
    ("maxconn", |g, _, s| match s.word(1).parse() {
        Ok(number @ 1..=10_000_000) => {
            g.maxconn = Some((number, s.at));
            translated()
        }
        Ok(0) => ignored("0 leaves it to the limit of descriptors, as here"),
        _ => wrong("HAProxy cannot read its value"),
    }),
    ("nbthread", |_, d, s| match s.word(1).parse::<i64>() {
        Ok(number @ 1..=1024) => {
            d.single("process").set("workers", Value::Integer(number), Some(s.at));
            translated()
        }
        _ => wrong("HAProxy cannot read its value"),
    }),
    ("crt-base", |g, _, s| {
        g.crt_base = Some(s.word(1).to_owned());
        translated()
    }),
    ("ca-base", |g, _, s| {
        g.ca_base = Some(s.word(1).to_owned());
        translated()
    }),
    ("hard-stop-after", |_, d, s| match time(s.word(1)) {
        Some(after) => {
            let value = || Value::text(format_duration(after));
            d.single("process").set("drain_timeout", value(), Some(s.at));
            d.single("process").set("upgrade_drain_timeout", value(), Some(s.at));
            translated()
        }
        None => wrong("HAProxy cannot read this time"),
    }),
    ("grace", |_, d, s| match time(s.word(1)) {
        Some(delay) => {
            d.single("process").set("drain_delay", Value::text(format_duration(delay)), Some(s.at));
            approximated("drain_delay: /readyz says no for so long before listeners stop accepting")
        }
        None => wrong("HAProxy cannot read this time"),
    }),
    ("log", |_, _, _| {
        approximated(
            "events go to standard error and access records to standard output, which the service manager keeps; [log] access can name a file",
        )
    }),
    ("ssl-server-verify", |g, _, s| {
        if s.word(1) == "none" {
            g.servers_unverified = Some(s.at);
            return approximated(
                "verification is off where a server says nothing else, and `plimsoll check` says so (L004)",
            );
        }
        translated()
    }),
    ("ssl-default-bind-options", |g, _, s| {
        let words = s.from(1);
        let minimum = words.iter().position(|word| word == "ssl-min-ver").map(|at| s.word(at + 2));
        if minimum == Some("TLSv1.3")
            || words.iter().any(|word| word == "no-tlsv12" || word == "force-tlsv13")
        {
            g.bind_minimum = Some("1.3".to_owned());
        }
        translated()
    }),
    ("spread-checks", |g, _, s| match s.word(1).parse() {
        Ok(percent @ 0..=50) => {
            g.spread = Some((percent, s.at));
            translated()
        }
        _ => wrong("HAProxy cannot read its value"),
    }),
    ("setenv", |_, _, _| translated()),
    ("presetenv", |_, _, _| translated()),
    ("unsetenv", |_, _, _| translated()),
    ("resetenv", |_, _, _| ignored("the environment of the import is taken as it is")),
    ("stats", |_, _, s| match s.word(1) {
        "socket" | "bind" => approximated(
            "the admin API is at 127.0.0.1:9900, or a unix socket: [admin] bind = \"unix:/path\"",
        ),
        "timeout" | "maxconn" => ignored("[admin] has times and ceilings of its own"),
        _ => wrong("HAProxy does not know this word behind `stats`"),
    }),
];

/// Ways of the kernel that HAProxy can be kept from.
const SWITCHED_OFF: [&str; 9] = [
    "noepoll",
    "nokqueue",
    "nopoll",
    "noevports",
    "nosplice",
    "nogetaddrinfo",
    "noreuseport",
    "no-quic",
    "noktls",
];

const MACHINE: &str = "it concerns how HAProxy itself is run: the unit of the service does that here";
const MEMORY: &str =
    "it tunes HAProxy's own memory and threads: limits have names of their own here, with defaults";
const CIPHERS: &str = "TLS here has safe ciphers and curves only";

const IGNORED: [(&str, &str); 66] = [
    ("close-spread-time", "connections end as clients take notice, within [process] drain_timeout"),
    ("no-memory-trimming", MEMORY),
    ("prealloc-fd", MACHINE),
    ("thread-group", MEMORY),
    ("wurfl-data-file", "nothing here asks for it"),
    ("h1-accept-payload-with-any-method", "a body of any method is passed on"),
    ("pp2-never-send-local", "a probe's PROXY header says LOCAL"),
    ("issuers-chain-path", "a certificate's file has its chain: put the issuers behind it"),
    ("httpclient.resolvers.id", "nothing here asks for it"),
    ("httpclient.resolvers.prefer", "nothing here asks for it"),
    ("httpclient.ssl.ca-file", "nothing here asks for it"),
    ("httpclient.ssl.verify", "nothing here asks for it"),
    ("ssl-propquery", CIPHERS),
    ("ssl-provider", CIPHERS),
    ("ssl-provider-path", CIPHERS),
    ("daemon", MACHINE),
    ("master-worker", MACHINE),
    ("mworker-max-reloads", MACHINE),
    ("user", MACHINE),
    ("group", MACHINE),
    ("uid", MACHINE),
    ("gid", MACHINE),
    ("chroot", MACHINE),
    ("pidfile", MACHINE),
    ("quiet", MACHINE),
    ("debug", MACHINE),
    ("zero-warning", MACHINE),
    ("set-dumpable", MACHINE),
    ("setcap", MACHINE),
    ("unix-bind", MACHINE),
    ("default-path", MACHINE),
    ("strict-limits", MACHINE),
    ("ulimit-n", "the unit sets the limit of descriptors (LimitNOFILE)"),
    ("fd-hard-limit", "the unit sets the limit of descriptors (LimitNOFILE)"),
    ("limited-quic", "there is no HTTP/3 yet"),
    ("nbproc", "one process serves with all threads"),
    ("cpu-map", "the kernel places the workers; [process] workers says how many there are"),
    ("cpu-policy", "the kernel places the workers; [process] workers says how many there are"),
    ("cpu-set", "the kernel places the workers; [process] workers says how many there are"),
    ("thread-groups", "[process] workers says how many threads there are"),
    ("numa-cpu-mapping", "the kernel places the workers"),
    ("node", "a comment"),
    ("description", "a comment"),
    ("localpeer", "peers are no part of it"),
    ("log-tag", "records carry no tag: the service manager has one"),
    ("log-send-hostname", "records carry no host: the service manager adds it"),
    ("ssl-default-bind-ciphers", CIPHERS),
    ("ssl-default-bind-ciphersuites", CIPHERS),
    ("ssl-default-bind-curves", CIPHERS),
    ("ssl-default-bind-sigalgs", CIPHERS),
    ("ssl-default-server-ciphers", CIPHERS),
    ("ssl-default-server-ciphersuites", CIPHERS),
    ("ssl-default-server-curves", CIPHERS),
    ("ssl-default-server-options", "TLS 1.2 and 1.3 are spoken with endpoints"),
    ("ssl-dh-param-file", "there are no DHE ciphers here, and elliptic curves need no parameters"),
    ("ssl-skip-self-issued-ca", "chains are sent as they are in the file"),
    ("ssl-load-extra-files", "a certificate and its key are named"),
    ("ssl-load-extra-del-ext", "a certificate and its key are named"),
    ("ssl-mode-async", MEMORY),
    ("ssl-engine", MEMORY),
    (
        "server-state-base",
        "a reload keeps what is known of endpoints, a restart too with [process] state_dir",
    ),
    (
        "server-state-file",
        "a reload keeps what is known of endpoints, a restart too with [process] state_dir",
    ),
    ("max-spread-checks", "probes are spread by health.jitter"),
    ("external-check", "a program is a probe where a pool says so"),
    ("insecure-fork-wanted", "a program is a probe where a pool says so"),
    ("insecure-setuid-wanted", MACHINE),
];

const NOT_POSSIBLE: [(&str, &str); 10] = [
    ("set-var", "requests carry no variables: write what is put into it where it is used"),
    ("set-var-fmt", "requests carry no variables: write what is put into it where it is used"),
    ("lua-load", "Lua is not embedded: do it in an endpoint, or with routes"),
    ("lua-load-per-thread", "Lua is not embedded: do it in an endpoint, or with routes"),
    ("lua-prepend-path", "Lua is not embedded"),
    ("51degrees-data-file", "devices are not looked up"),
    ("deviceatlas-json-file", "devices are not looked up"),
    ("h1-case-adjust", "names of fields keep the case in which they came over HTTP/1"),
    ("h1-case-adjust-file", "names of fields keep the case in which they came over HTTP/1"),
    ("module-load", "there are no modules"),
];

/// Reads a `global` section.
pub(super) fn read(section: &Section, global: &mut Global, document: &mut Document, report: &mut Report) {
    report.translated(section.at);
    for statement in &section.statements {
        let (at, first) = (statement.at, statement.word(0));
        let said = if let Some((_, read)) = DIRECTIVES.iter().find(|(name, _)| *name == first) {
            read(global, document, statement)
        } else if let Some((_, why)) = IGNORED.iter().find(|(name, _)| *name == first) {
            ignored(*why)
        } else if let Some((_, remedy)) = NOT_POSSIBLE.iter().find(|(name, _)| *name == first) {
            not_possible(*remedy)
        } else if first == "tune.ssl.default-dh-param" {
            ignored("it is for DHE ciphers, of which there are none here")
        } else if first.starts_with("tune.")
            || first.starts_with("profiling.")
            || first == "busy-polling"
            || [
                "maxconnrate",
                "maxcomprate",
                "maxcompcpuusage",
                "maxpipes",
                "maxsessrate",
                "maxsslconn",
                "maxsslrate",
                "maxzlibmem",
            ]
            .contains(&first)
        {
            ignored(MEMORY)
        } else if first == "no" || SWITCHED_OFF.contains(&first) || first.starts_with("expose-") {
            ignored(MACHINE)
        } else {
            wrong(format!("`{first}` is no keyword of `global` that HAProxy 3.2 has"))
        };
        said.about("", at, report);
    }
}

/// Reads a section that is no proxy.
pub(super) fn other(section: &Section, global: &mut Global, document: &mut Document, report: &mut Report) {
    match section.kind.as_str() {
        "resolvers" => return resolvers(section, document, report),
        "userlist" => return super::users::read(section, report),
        "http-errors" => {
            let said = approximated(
                "HAProxy's files are whole answers, and pages here are their bodies: see `errorfiles`",
            );
            said.clone().about("", section.at, report);
            for statement in &section.statements {
                said.clone().about("", statement.at, report);
            }
            global.errors.insert(section.name.clone(), section.statements.clone());
            return;
        }
        _ => {}
    }
    let said = match section.kind.as_str() {
        "peers" => approximated(
            "entries are not shared between nodes: cookies are signed and need no sharing; a table of sources starts empty on each node, and a reload keeps it",
        ),
        "mailers" => not_possible("[[notify]] sends events to a webhook or a program, which can send mail"),
        "cache" => not_possible("answers are not cached"),
        "program" => not_possible("run the program as a service of its own"),
        "ring" | "log-forward" | "log-profile" => not_possible(
            "logs are written, not forwarded: the service manager's journal, or a collector, does that",
        ),
        "fcgi-app" => not_possible("FastCGI is not spoken: put a web server that speaks it between"),
        "crt-store" | "acme" => {
            not_possible("name each certificate and its key in tls.certificates of a listener")
        }
        "healthcheck" => not_possible("write the check in the backends that use it"),
        _ => ignored("it is for those who look for faults in HAProxy"),
    };
    said.clone().about("", section.at, report);
    for statement in &section.statements {
        said.clone().about("", statement.at, report);
    }
}

/// `resolvers`: its servers are asked for all names.
fn resolvers(section: &Section, document: &mut Document, report: &mut Report) {
    report.translated(section.at);
    for statement in &section.statements {
        let at = statement.at;
        match statement.word(0) {
            "nameserver" => {
                let address = statement.word(2);
                let address =
                    address.strip_prefix("udp@").or_else(|| address.strip_prefix("tcp@")).unwrap_or(address);
                if address.parse::<std::net::SocketAddr>().is_err() {
                    report.not_possible(
                        at,
                        "a DNS server has an IP address and a port: write it in [process] resolvers",
                    );
                    continue;
                }
                let process = document.single("process");
                let mut all = match process.get("resolvers") {
                    Some(Value::List(list)) => list.clone(),
                    _ => Vec::new(),
                };
                if !all.contains(&Value::text(address)) {
                    all.push(Value::text(address));
                }
                process.set("resolvers", Value::List(all), Some(at));
                report.translated(at);
            }
            "parse-resolv-conf" => report.note(
                at,
                super::super::report::Verdict::Translated,
                "the servers of /etc/resolv.conf are asked unless others are named",
            ),
            "hold" | "resolve_retries" | "timeout" | "accepted_payload_size" => {
                report.ignored(
                    at,
                    "an answer is kept for its own time, and the last good one while DNS is silent",
                );
            }
            other => report.wrong(at, format!("`{other}` is no keyword of `resolvers`")),
        }
    }
}
