//! A proxy section as it is read: `frontend`, `backend` or `listen`, the defaults that it inherits put under it. The
//! table of directives is here; what listeners, pools and routes make of them is theirs.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::super::document::Value;
use super::super::report::{Place, Report};
use super::super::surroundings::Surroundings;
use super::bind::{self, Bind};
use super::check::{self, Check};
use super::global::Global;
use super::option;
use super::page::{self, Pages};
use super::said::{Said, approximated, ignored, translated, wrong};
use super::section::Statement;
use super::server::{self, Options, Server};
use super::units::time;
use crate::policy::compression::MediaType;

/// A line that decides about requests, kept for `route`.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    /// Where it stands.
    pub(super) at: Place,
    /// When HAProxy asks it.
    pub(super) stage: Stage,
    /// Its words, the keyword first.
    pub(super) words: Vec<String>,
}

/// The order in which HAProxy asks rules, whatever order they are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// `monitor-uri`.
    Monitor,
    /// `tcp-request`.
    Connection,
    /// `http-request`.
    Request,
    /// `redirect`.
    Redirect,
    /// `use_backend`.
    Switch,
    /// `http-response`.
    Response,
}

/// A setting and the line that it comes from.
pub(super) type Set<T> = Option<(T, Place)>;

/// A section, read.
#[derive(Debug, Default)]
pub(super) struct Proxy {
    /// Its name.
    pub(super) name: String,
    /// Its keyword.
    pub(super) kind: String,
    /// Where it opens.
    pub(super) at: Option<Place>,
    /// It takes clients.
    pub(super) front: bool,
    /// It has servers.
    pub(super) back: bool,
    /// It sees requests, not bytes alone.
    pub(super) http: bool,
    /// Where its mode is written.
    pub(super) mode_at: Option<Place>,
    /// `disabled`.
    pub(super) disabled: bool,
    /// Its addresses.
    pub(super) binds: Vec<Bind>,
    /// Its servers.
    pub(super) servers: Vec<Server>,
    /// Where each of them stands, by its name.
    pub(super) server_names: HashMap<String, usize>,
    /// Their names by their addresses.
    pub(super) server_addresses: HashMap<String, String>,
    /// What `default-server` says.
    pub(super) default_server: Options,
    /// `timeout NAME`.
    pub(super) timeouts: BTreeMap<String, (Duration, Place)>,
    /// `balance` and its arguments.
    pub(super) balance: Set<Vec<String>>,
    /// `hash-type`.
    pub(super) hash_type: Set<Vec<String>>,
    /// `hash-balance-factor`.
    pub(super) load_factor: Set<i64>,
    /// `retries`.
    pub(super) retries: Set<i64>,
    /// `retry-on`.
    pub(super) retry_on: Set<Vec<String>>,
    /// `fullconn`.
    pub(super) full: Set<i64>,
    /// `maxconn`.
    pub(super) maxconn: Set<i64>,
    /// `backlog`.
    pub(super) backlog: Set<i64>,
    /// `source`.
    pub(super) source: Set<String>,
    /// `cookie` and its arguments.
    pub(super) cookie: Set<Vec<String>>,
    /// `stick-table` and its arguments.
    pub(super) stick_table: Set<Vec<String>>,
    /// `stick on` and its kin.
    pub(super) sticks: Vec<Statement>,
    /// Health checks.
    pub(super) check: Check,
    /// Options that are on and matter to others.
    pub(super) options: BTreeMap<String, Place>,
    /// `acl` by name, each with its lines.
    pub(super) acls: HashMap<String, Vec<Statement>>,
    /// What decides about requests.
    pub(super) rules: Vec<Rule>,
    /// `default_backend`.
    pub(super) default_backend: Set<String>,
    /// Pages in the place of errors.
    pub(super) pages: Pages,
    /// Keys of all routes to it, and of all routes of it.
    pub(super) keys: Vec<(&'static str, Value, Place)>,
    /// Fields that every endpoint behind it is told.
    pub(super) fields: Vec<(String, String, Place)>,
    /// `unique-id-header`.
    pub(super) unique_id: Set<String>,
    /// `compression algo` and `compression type`.
    pub(super) codings: Vec<String>,
    /// `stats`, whose page is served elsewhere.
    pub(super) stats: Option<Place>,
}

impl Proxy {
    /// The one port that it listens to.
    #[must_use]
    pub(super) fn only_port(&self) -> Option<u16> {
        let mut ports =
            self.binds.iter().flat_map(|bind| bind.addresses.iter().filter_map(|address| address.1));
        let first = ports.next()?;
        ports.all(|port| port == first).then_some(first)
    }

    /// A timeout by its name.
    #[must_use]
    pub(super) fn timeout(&self, name: &str) -> Set<Duration> {
        self.timeouts.get(name).copied()
    }

    /// Whether an option is on.
    #[must_use]
    pub(super) fn has(&self, option: &str) -> bool {
        self.options.contains_key(option)
    }
}

/// A section while it is read.
pub(super) struct Reading<'a, 'r> {
    /// Where verdicts go.
    pub(super) report: &'r mut Report,
    /// What it comes to.
    pub(super) proxy: Proxy,
    /// What may be looked at.
    pub(super) around: Surroundings<'a>,
    /// What `setenv` set.
    pub(super) variables: &'r HashMap<String, Option<String>>,
    /// What `global` says.
    pub(super) global: &'r Global,
    /// The line is of the defaults.
    pub(super) inherited: bool,
}

impl Reading<'_, '_> {
    /// The value of an environment variable.
    #[must_use]
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        match self.variables.get(name) {
            Some(value) => value.clone(),
            None => (self.around.environment)(name),
        }
    }

    /// Reads one line.
    pub(super) fn statement(&mut self, statement: &Statement) {
        let (at, first) = (statement.at, statement.word(0));
        if matches!(first, "no" | "default") {
            return self.negated(statement);
        }
        if let Some((_, read)) = DIRECTIVES.iter().find(|(name, _)| *name == first) {
            return read(self, statement);
        }
        if let Some((_, why)) = IGNORED.iter().find(|(name, _)| *name == first) {
            return self.report.ignored(at, *why);
        }
        if let Some((_, remedy)) = NOT_POSSIBLE.iter().find(|(name, _)| *name == first) {
            return self.report.not_possible(at, *remedy);
        }
        self.report.wrong(at, format!("`{first}` is no keyword of a proxy that HAProxy 3.2 has"));
    }

    fn negated(&mut self, statement: &Statement) {
        let at = statement.at;
        match (statement.word(1), statement.word(2)) {
            ("option", name) => {
                self.proxy.options.remove(name);
                self.report.translated(at);
            }
            ("log", _) => self.report.ignored(at, "where records go is said once, in [log]"),
            ("errorfile", _) => self.report.translated(at),
            (other, _) => self.report.wrong(at, format!("`no {other}` does not exist")),
        }
    }

    /// Says what became of a line.
    pub(super) fn say(&mut self, said: Said, at: Place) {
        said.about("", at, self.report);
    }
}

type Directive = fn(&mut Reading<'_, '_>, &Statement);

/// What changes the translation.
const DIRECTIVES: [(&str, Directive); 49] = [
    ("mode", mode),
    ("bind", bind::bind),
    ("server", server::server),
    ("server-template", server::server_template),
    ("default-server", server::default_server),
    ("option", option::option),
    ("timeout", timeout),
    ("balance", |r, s| in_back(r, s, |p| p.balance = Some((s.from(1).to_vec(), s.at)))),
    ("hash-type", |r, s| in_back(r, s, |p| p.hash_type = Some((s.from(1).to_vec(), s.at)))),
    ("hash-balance-factor", |r, s| in_back(r, s, |p| p.load_factor = number(s))),
    ("retries", |r, s| in_back(r, s, |p| p.retries = number(s))),
    ("retry-on", |r, s| in_back(r, s, |p| p.retry_on = Some((s.from(1).to_vec(), s.at)))),
    ("source", |r, s| in_back(r, s, |p| p.source = Some((s.word(1).to_owned(), s.at)))),
    ("cookie", |r, s| in_back(r, s, |p| p.cookie = Some((s.from(1).to_vec(), s.at)))),
    ("stick-table", |r, s| keep(r, |p| p.stick_table = Some((s.from(1).to_vec(), s.at)))),
    ("stick", |r, s| in_back(r, s, |p| p.sticks.push(s.clone()))),
    ("maxconn", |r, s| in_front(r, |p| p.maxconn = number(s))),
    ("backlog", |r, s| in_front(r, |p| p.backlog = number(s))),
    ("default_backend", |r, s| in_front(r, |p| p.default_backend = Some((s.word(1).to_owned(), s.at)))),
    ("acl", |r, s| keep(r, |p| p.acls.entry(s.word(1).to_owned()).or_default().push(s.clone()))),
    ("monitor-uri", |r, s| rule(r, s, Stage::Monitor)),
    ("monitor", |r, s| rule(r, s, Stage::Monitor)),
    ("tcp-request", |r, s| rule(r, s, Stage::Connection)),
    ("tcp-response", |r, s| rule(r, s, Stage::Response)),
    ("http-request", |r, s| rule(r, s, Stage::Request)),
    ("block", |r, s| rule(r, s, Stage::Request)),
    ("redirect", |r, s| rule(r, s, Stage::Redirect)),
    ("use_backend", |r, s| rule(r, s, Stage::Switch)),
    ("use-server", |r, s| {
        r.report.not_possible(
            s.at,
            "a route leads to a pool: give these servers a pool of their own and a route with this condition",
        );
    }),
    ("http-response", |r, s| rule(r, s, Stage::Response)),
    ("http-after-response", |r, s| rule(r, s, Stage::Response)),
    ("http-check", |r, s| checked(r, s, check::http_check)),
    ("tcp-check", |r, s| checked(r, s, check::tcp_check)),
    ("external-check", |r, s| checked(r, s, check::external)),
    ("errorfile", error_page),
    ("errorfiles", error_page),
    ("http-error", error_page),
    ("errorloc", error_elsewhere),
    ("errorloc302", error_elsewhere),
    ("errorloc303", error_elsewhere),
    ("compression", compression),
    ("unique-id-header", unique_id),
    ("unique-id-format", |r, s| {
        r.proxy.options.insert("unique-id-format".to_owned(), s.at);
        r.report
            .ignored(s.at, "X-Request-Id has a form of its own, and is kept where a trusted proxy sent one");
    }),
    ("stats", stats),
    ("http-reuse", reuse),
    ("disabled", |r, s| {
        r.proxy.disabled = true;
        r.report.note(s.at, super::super::report::Verdict::Translated, "nothing is written for this section");
    }),
    ("enabled", |r, s| {
        r.proxy.disabled = false;
        r.report.translated(s.at);
    }),
    ("log", log),
    ("fullconn", |r, s| in_back(r, s, |p| p.full = number(s))),
];

const IGNORED: [(&str, &str); 23] = [
    ("clitcpka-cnt", "keepalive probes are always sent: timeouts.tcp_keepalive"),
    ("clitcpka-idle", "keepalive probes are always sent: timeouts.tcp_keepalive"),
    ("clitcpka-intvl", "keepalive probes are always sent: timeouts.tcp_keepalive"),
    ("srvtcpka-cnt", "keepalive probes are always sent: timeouts.tcp_keepalive"),
    ("srvtcpka-idle", "keepalive probes are always sent: timeouts.tcp_keepalive"),
    ("srvtcpka-intvl", "keepalive probes are always sent: timeouts.tcp_keepalive"),
    ("max-session-srv-conns", "connections to endpoints are shared by all clients"),
    ("quic-initial", "there is no HTTP/3 yet"),
    (
        "dynamic-cookie-key",
        "the cookie is signed with a key of its own: key_file in sticky shares it between nodes",
    ),
    ("description", "a comment"),
    ("id", "listeners and pools are known by their names"),
    ("guid", "listeners and pools are known by their names"),
    ("bind-process", "the threads of one process serve all"),
    ("log-tag", "records carry no tag: the service manager has one"),
    ("log-steps", "there is one record for each request or connection, at its end"),
    ("log-format", "the access log has fields of its own, as text or JSON ([log] format)"),
    ("log-format-sd", "the access log has fields of its own, as text or JSON ([log] format)"),
    ("error-log-format", "the access log has fields of its own, as text or JSON ([log] format)"),
    (
        "load-server-state-from-file",
        "a reload keeps what is known of endpoints, a restart too with [process] state_dir",
    ),
    (
        "server-state-file-name",
        "a reload keeps what is known of endpoints, a restart too with [process] state_dir",
    ),
    ("hash-preserve-affinity", "a hash goes to another endpoint only while its own cannot take it"),
    ("max-keep-alive-queue", "a waiting request takes the first place that is free"),
    ("grace", "[process] drain_delay is what it was for"),
];

const NOT_POSSIBLE: [(&str, &str); 14] = [
    (
        "http-send-name-header",
        "endpoints are not told their names: give each a pool and request_headers of its own where it has to know",
    ),
    (
        "filter",
        "there are no filters: a mirror is `mirror` of a route, an agent that is asked first `forward_auth`, bandwidth limits.bandwidth_out of a listener",
    ),
    ("declare", "the access log has fields of its own"),
    ("capture", "the access log has fields of its own, and captures are not among them"),
    ("email-alert", "[[notify]] sends events to a webhook or a program, which can send mail"),
    ("persist", "RDP's cookie is not read: balance by source, with ring_hash"),
    ("force-persist", "an endpoint that is not usable gets nothing"),
    ("ignore-persist", "give these requests a route and a pool without stickiness, by `like`"),
    ("force-be-switch", "a disabled section is not there"),
    (
        "rate-limit",
        "a ceiling on new connections a second is not there: max_connections_per_source bounds one client",
    ),
    ("transparent", "clients' own destinations are not kept: endpoints are written"),
    ("dispatch", "write the address as an endpoint of the pool"),
    ("use-fcgi-app", "FastCGI is not spoken: put a web server that speaks it between"),
    (
        "monitor-net",
        "HAProxy has no monitor-net any more: allow the network in [health], whose /livez answers balancers above",
    ),
];

fn keep(reading: &mut Reading<'_, '_>, set: impl FnOnce(&mut Proxy)) {
    set(&mut reading.proxy);
}

fn in_back(reading: &mut Reading<'_, '_>, statement: &Statement, set: impl FnOnce(&mut Proxy)) {
    if reading.proxy.back {
        set(&mut reading.proxy);
    } else if !reading.inherited {
        let what = format!("`{}` is for backends: HAProxy warns and ignores it here", statement.word(0));
        reading.report.wrong(statement.at, what);
    }
}

fn in_front(reading: &mut Reading<'_, '_>, set: impl FnOnce(&mut Proxy)) {
    if reading.proxy.front {
        set(&mut reading.proxy);
    }
}

fn number(statement: &Statement) -> Set<i64> {
    statement.word(1).parse().ok().map(|number| (number, statement.at))
}

fn rule(reading: &mut Reading<'_, '_>, statement: &Statement, stage: Stage) {
    reading.proxy.rules.push(Rule { at: statement.at, stage, words: statement.words.clone() });
}

fn checked(
    reading: &mut Reading<'_, '_>,
    statement: &Statement,
    read: fn(&mut Reading<'_, '_>, &Statement) -> Said,
) {
    if reading.proxy.back {
        let said = read(reading, statement);
        reading.say(said, statement.at);
    }
}

fn mode(reading: &mut Reading<'_, '_>, statement: &Statement) {
    reading.proxy.mode_at = Some(statement.at);
    match statement.word(1) {
        "http" | "tcp" => reading.report.translated(statement.at),
        "health" => reading.report.wrong(statement.at, "HAProxy has no mode health any more"),
        other => {
            let remedy = format!("there is no mode {other}: requests (http) and bytes (tcp) are relayed");
            reading.report.not_possible(statement.at, remedy);
        }
    }
}

/// Which sides a timeout concerns, and what is said of it there.
fn timeout(reading: &mut Reading<'_, '_>, statement: &Statement) {
    let (at, name) = (statement.at, statement.word(1));
    let Some(length) = time(statement.word(2)) else {
        return reading.report.wrong(at, "HAProxy cannot read this time");
    };
    let (front, back, http) = (reading.proxy.front, reading.proxy.back, reading.proxy.http);
    let concerned = match name {
        "client" | "http-request" | "http-keep-alive" | "client-fin" | "tarpit" | "client-hs" => front,
        "connect" | "server" | "queue" | "check" | "server-fin" | "tunnel" => back,
        _ => return reading.report.wrong(at, format!("there is no `timeout {name}`")),
    };
    if !concerned {
        return;
    }
    let said = match name {
        "client-fin" | "server-fin" => ignored("a half-closed connection has the tunnel's time"),
        "http-request" | "http-keep-alive" if !http => return,
        "tarpit" => ignored("it is for tarpit rules"),
        "client" if !http => Said(
            super::super::report::Verdict::Translated,
            "with `timeout server`: the shorter one is the pool's timeouts.tunnel".to_owned(),
        ),
        "check" => approximated("one time covers a whole probe: connect, TLS and answer together"),
        _ if length.is_zero() => {
            approximated("0 is no end in HAProxy: here every time ends, this one after 30 days")
        }
        _ => translated(),
    };
    let length = if length.is_zero() { super::units::FOR_EVER } else { length };
    reading.proxy.timeouts.insert(name.to_owned(), (length, at));
    reading.say(said, at);
}

fn error_page(reading: &mut Reading<'_, '_>, statement: &Statement) {
    if !reading.proxy.http {
        return;
    }
    let (around, pages) = (reading.around, &mut reading.proxy.pages);
    let said = match statement.word(0) {
        "errorfile" => page::error_file(statement, around, pages),
        "errorfiles" => page::error_files(statement, &reading.global.errors, around, pages),
        _ => page::http_error(statement, around, pages),
    };
    reading.say(said, statement.at);
}

fn error_elsewhere(reading: &mut Reading<'_, '_>, statement: &Statement) {
    if reading.proxy.http {
        reading.report.not_possible(
            statement.at,
            "an error is a page, not a redirect: name a page in error_pages, which may lead on by itself (http-equiv=\"refresh\")",
        );
    }
}

/// `compression algo|type|offload|direction ..`.
fn compression(reading: &mut Reading<'_, '_>, statement: &Statement) {
    if !reading.proxy.http {
        return;
    }
    let (at, words) = (statement.at, statement.from(2));
    let said = match statement.word(1) {
        "algo" | "algo-res" if words.iter().any(|word| word == "gzip" || word.ends_with("deflate")) => {
            reading.proxy.codings = words.to_vec();
            let value = Value::inline([("codings", Value::texts(["gzip"]))]);
            with_types(&mut reading.proxy.keys, value, at);
            if words.iter().all(|word| word == "gzip") {
                translated()
            } else {
                approximated("gzip takes the place of deflate, which clients understand in two ways")
            }
        }
        "algo" | "algo-res" => ignored("`identity` compresses nothing"),
        "type" | "type-res" => {
            let types = words
                .iter()
                .flat_map(|word| word.split(','))
                .map(|word| word.split(';').next().unwrap_or(word));
            let mut known: Vec<&str> = types.filter(|word| MediaType::new(word).is_some()).collect();
            known.dedup();
            if known.is_empty() {
                return reading.report.wrong(at, "there is no media type");
            }
            with_types(&mut reading.proxy.keys, Value::inline([("types", Value::texts(known))]), at);
            approximated(
                "answers under min_size go on as they are, and of media types the parameters do not count",
            )
        }
        "offload" => approximated("endpoints may compress: what they have compressed goes on as it is"),
        "direction" if words.iter().all(|word| word == "response") => translated(),
        _ => super::said::not_possible("answers are compressed, requests are not"),
    };
    reading.say(said, at);
}

/// Puts a part of `compress` beside what is there.
fn with_types(keys: &mut Vec<(&'static str, Value, Place)>, value: Value, at: Place) {
    let Value::Inline(more) = value else { return };
    match keys.iter_mut().find(|(key, ..)| *key == "compress") {
        Some((_, Value::Inline(own), _)) => {
            own.retain(|(key, _)| !more.iter().any(|(other, _)| key == other));
            own.extend(more);
        }
        _ => keys.push(("compress", Value::Inline(more), at)),
    }
}

fn unique_id(reading: &mut Reading<'_, '_>, statement: &Statement) {
    let name = statement.word(1).to_ascii_lowercase();
    if !reading.proxy.front || !reading.proxy.http {
        return;
    }
    if !super::super::field::is_editable(&name) {
        return reading.report.wrong(statement.at, "that is no field that a request can be given");
    }
    if name == "x-request-id" {
        return reading.report.note(
            statement.at,
            super::super::report::Verdict::Translated,
            "x-request-id is always sent",
        );
    }
    reading.proxy.unique_id = Some((name, statement.at));
}

/// The field of `unique-id-header`, which HAProxy sends where the section also has a `unique-id-format`.
pub(super) fn identity(reading: &mut Reading<'_, '_>) {
    let Some((name, at)) = reading.proxy.unique_id.take() else { return };
    if !reading.proxy.has("unique-id-format") {
        let what = "there is no `unique-id-format`, so that HAProxy sends no such field, and here there is none either";
        return reading.report.wrong(at, what);
    }
    reading.proxy.fields.push((name, "{request_id}".to_owned(), at));
    reading
        .report
        .approximated(at, "the identity of a request is also in X-Request-Id, and has a form of its own");
}

fn stats(reading: &mut Reading<'_, '_>, statement: &Statement) {
    reading.proxy.stats = Some(statement.at);
    let how = "the admin API has it, at 127.0.0.1:9900 unless [admin] says otherwise: `plimsoll status`, /v1/status, /metrics";
    reading.report.approximated(statement.at, how);
}

fn reuse(reading: &mut Reading<'_, '_>, statement: &Statement) {
    if !reading.proxy.back {
        return;
    }
    let said = match statement.word(1) {
        "never" => approximated("limits.idle_connections = 0: each request has a connection of its own"),
        "safe" => translated(),
        "aggressive" | "always" => approximated(
            "a request that may not be repeated takes a connection that was idle for under a second, or a new one",
        ),
        _ => wrong("there is no such kind of reuse"),
    };
    if statement.word(1) == "never" {
        reading.proxy.options.insert("reuse-never".to_owned(), statement.at);
    }
    reading.say(said, statement.at);
}

fn log(reading: &mut Reading<'_, '_>, statement: &Statement) {
    let said = match statement.word(1) {
        "global" => ignored("where records go is said once, in [log]"),
        _ => approximated(
            "records go to standard output, which the service manager keeps, or to a file: [log] access",
        ),
    };
    reading.say(said, statement.at);
}
