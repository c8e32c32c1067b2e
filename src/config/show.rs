//! A [`Config`] as TOML, every default written out. Loading the text gives the same configuration again, but for
//! webhooks, of which no more than the host is told. `pool` has the pools, `sticky` a part of them, `listener` TLS of
//! listeners, `limits` those of routes, `edits` what they change, `gate` what stands before them, `treatment` what they do
//! beside sending a request on, `traces` traces.

mod edits;
mod gate;
mod limits;
mod listener;
mod pool;
mod sticky;
mod traces;
mod treatment;

use std::collections::HashMap;
use std::fmt::{Display, Write as _};
use std::num::NonZero;
use std::time::Duration;

use super::Config;
use super::listener::{Listener, Protocol, WhenEmpty};
use super::notify::Sink;
use super::pool::Pool;
use super::process::{AccessLog, AdminBind, ApiLimits};
use super::route::{Action, Route};
use super::sni::{Handling, SniRoute};
use crate::model::units::{Amount, format_duration};
use crate::policy::admission::class::Class;
use crate::policy::admission::overload;
use crate::route::{PathPattern, Rule, ValuePattern};

/// Prints what a configuration means, as a configuration that says so in full.
#[must_use]
pub fn show(config: &Config) -> String {
    page(config).text
}

fn page(config: &Config) -> Page {
    let mut page = Page::default();
    process(&mut page, config);
    for listener in &config.listeners {
        show_listener(&mut page, listener);
    }
    for route in &config.routes {
        show_route(&mut page, route);
    }
    for route in &config.sni_routes {
        show_sni_route(&mut page, route);
    }
    for pool in &config.pools {
        pool::pool(&mut page, pool);
    }
    page
}

/// One key of a whole configuration with its value, as [`show`] prints them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Setting {
    /// What it belongs to.
    pub subject: Subject,
    /// The name of that; empty for the process.
    pub name: String,
    /// The key, with the sections before it: `timeouts.connect`; of the process also `log.level`.
    pub key: String,
    /// Its value as TOML.
    pub value: String,
}

/// What a setting belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// The process as a whole.
    Process,
    /// A listener.
    Listener,
    /// A route.
    Route,
    /// A pool; its endpoints are not among its settings.
    Pool,
}

/// The keys of two configurations, of the process and of whatever they do not have alike: what is equal in both is not
/// even printed. The endpoints of pools are no settings.
#[must_use]
pub fn differing_settings(one: &Config, other: &Config) -> [Vec<Setting>; 2] {
    [settings_beside(one, other), settings_beside(other, one)]
}

/// The settings of one that another one does not have alike.
fn settings_beside(config: &Config, other: &Config) -> Vec<Setting> {
    let mut page = Page::default();
    process(&mut page, config);
    let listeners = unlike(&config.listeners, &other.listeners, |l| l.name.as_str(), |a, b| a == b);
    listeners.for_each(|listener| show_listener(&mut page, listener));
    let routes = unlike(&config.routes, &other.routes, |r| r.rule.name.as_str(), |a, b| a == b);
    routes.for_each(|route| show_route(&mut page, route));
    let pools = unlike(&config.pools, &other.pools, |p| p.name.as_str(), Pool::has_settings_of);
    pools.for_each(|pool| pool::pool(&mut page, pool));
    page.settings
}

/// Those of `items` that have no equal of the same name among `others`.
fn unlike<'a, T>(
    items: &'a [T],
    others: &'a [T],
    name: fn(&T) -> &str,
    equal: fn(&T, &T) -> bool,
) -> impl Iterator<Item = &'a T> {
    let others: HashMap<&str, &T> = others.iter().map(|other| (name(other), other)).collect();
    items.iter().filter(move |item| !others.get(name(item)).is_some_and(|other| equal(item, other)))
}

/// TOML being written, and the same as single settings.
struct Page {
    text: String,
    settings: Vec<Setting>,
    subject: Subject,
    name: String,
    /// The header of what is being shown, as far as it belongs to no key.
    base: String,
    /// What keys begin with.
    prefix: String,
}

impl Default for Page {
    fn default() -> Self {
        let (text, name, base, prefix) = Default::default();
        Self { text, settings: Vec::new(), subject: Subject::Process, name, base, prefix }
    }
}

impl Page {
    fn line(&mut self, text: impl Display) {
        // Writing to a String cannot fail.
        writeln!(self.text, "{text}").ok();
    }

    /// What follows belongs to this; `base` is its first header.
    fn begin(&mut self, subject: Subject, name: &str, base: &str) {
        self.subject = subject;
        name.clone_into(&mut self.name);
        base.clone_into(&mut self.base);
    }

    fn section(&mut self, header: impl Display) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        let header = header.to_string();
        let path = header.trim_matches(['[', ']']);
        let path = path.strip_prefix(&self.base).unwrap_or(path).trim_start_matches('.');
        self.prefix = if path.is_empty() { String::new() } else { format!("{path}.") };
        self.line(header);
    }

    fn key(&mut self, key: &str, value: impl Display) {
        let value = value.to_string();
        self.line(format_args!("{key} = {value}"));
        let (name, key) = (self.name.clone(), format!("{}{key}", self.prefix));
        self.settings.push(Setting { subject: self.subject, name, key, value });
    }

    fn text(&mut self, key: &str, value: impl Display) {
        self.key(key, quote(&value.to_string()));
    }

    fn time(&mut self, key: &str, value: Duration) {
        self.text(key, format_duration(value));
    }

    fn list<T: Display>(&mut self, key: &str, values: &[T]) {
        self.key(key, format_args!("[{}]", join(values.iter().map(|value| quote(&value.to_string())))));
    }

    fn optional<T: Display>(&mut self, key: &str, value: Option<&T>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    fn amount(&mut self, key: &str, amount: Amount) {
        match amount {
            Amount::Count(count) => self.key(key, count),
            Amount::Percent(_) => self.text(key, amount),
        }
    }

    /// As [`Page::list`], but nothing where there is nothing: an empty list is not "any".
    fn some<T: Display>(&mut self, key: &str, values: &[T]) {
        if !values.is_empty() {
            self.list(key, values);
        }
    }
}

fn join(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}

fn braces(parts: impl Iterator<Item = String>) -> String {
    let parts = join(parts);
    if parts.is_empty() { "{}".to_owned() } else { format!("{{ {parts} }}") }
}

/// A basic string of TOML in which nothing is taken from the environment.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.replace("${", "$${").chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => out.push_str(&format!("\\U{:08X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A key of TOML: bare where it can be, and never looked into for the environment.
fn quote_key(text: &str) -> String {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
        return text.to_owned();
    }
    quote(text).replace("$${", "${")
}

fn process(page: &mut Page, config: &Config) {
    page.section("[process]");
    match config.process.workers {
        Some(number) => page.key("workers", number),
        None => page.text("workers", "auto"),
    }
    page.time("drain_delay", config.process.drain_delay);
    page.time("drain_timeout", config.process.drain_timeout);
    page.time("upgrade_drain_timeout", config.process.upgrade_drain_timeout);
    page.time("upgrade_timeout", config.process.upgrade_timeout);
    page.time("warm_timeout", config.process.warm_timeout);
    page.text("zone", &config.process.zone);
    page.key("watch", config.process.watch);
    if !config.process.resolvers.is_empty() {
        page.list("resolvers", &config.process.resolvers);
    }
    page.key("reload_guard", config.process.reload_guard);
    page.key("overload", shown_overload(config.process.overload.as_ref()));
    page.text(
        "state_dir",
        config.process.state_dir.as_deref().map_or(String::new(), |path| path.display().to_string()),
    );
    page.section("[admin]");
    match &config.admin.bind {
        AdminBind::Tcp(address) => page.text("bind", address),
        AdminBind::Unix(path) => page.text("bind", format_args!("unix:{}", path.display())),
    }
    page.list("allowed_hosts", &config.admin.allowed_hosts);
    page.optional("token_file", config.admin.token_file.as_ref().map(|path| path.display()).as_ref());
    page.optional(
        "read_token_file",
        config.admin.read_token_file.as_ref().map(|path| path.display()).as_ref(),
    );
    let limits = config.admin.limits;
    page.key(
        "limits",
        format_args!("{{ connections = {}, streams = {} }}", limits.connections, limits.streams),
    );
    show_api_timeouts(page, limits);
    if !config.health.bind.is_empty() {
        page.section("[health]");
        page.list("bind", &config.health.bind);
        page.key("limits", format_args!("{{ connections = {} }}", config.health.limits.connections));
        show_api_timeouts(page, config.health.limits);
    }
    page.section("[log]");
    page.text("level", config.log.level.word());
    page.text("format", config.log.format.word());
    match &config.log.access {
        AccessLog::Off => page.text("access", "off"),
        AccessLog::Stdout => page.text("access", "stdout"),
        AccessLog::Stderr => page.text("access", "stderr"),
        AccessLog::File(path) => page.text("access", path.display()),
    }
    traces::show_tracing(page, config.tracing.as_ref());
    page.section("[check]");
    page.optional("objective", config.check.objective.map(format_duration).as_ref());
    page.optional("client_timeout", config.check.client_timeout.map(format_duration).as_ref());
    page.list("allow_codes", &config.check.allow_codes);
    for notify in &config.notify {
        page.section("[[notify]]");
        match &notify.sink {
            Sink::Webhook(url) => page.text("webhook", url),
            Sink::Exec(command) => page.list("exec", command),
        }
        page.list("events", &notify.events.iter().map(|topic| topic.word()).collect::<Vec<_>>());
    }
}

fn show_api_timeouts(page: &mut Page, limits: ApiLimits) {
    let time = quote(&format_duration(limits.request_header));
    page.key("timeouts", format_args!("{{ request_header = {time} }}"));
}

fn show_listener(page: &mut Page, listener: &Listener) {
    let name = quote_key(listener.name.as_str());
    page.begin(Subject::Listener, listener.name.as_str(), &format!("listener.{name}"));
    page.section(format_args!("[listener.{name}]"));
    page.list("bind", &listener.bind);
    page.text("unix_mode", format_args!("{:04o}", listener.unix_mode));
    match &listener.protocol {
        Protocol::Http => page.text("protocol", "http"),
        Protocol::Tcp { pool } => {
            page.text("protocol", "tcp");
            page.optional("pool", pool.as_ref());
        }
        Protocol::Udp { pool } => {
            page.text("protocol", "udp");
            page.text("pool", pool);
        }
    }
    page.list("trusted_proxies", &listener.identity.trusted);
    page.key("accept_proxy_protocol", listener.accept_proxy_protocol);
    page.text("client_address", listener.identity.named_in.word());
    page.key("trusted_hops", listener.identity.hops.map_or(0, NonZero::get));
    page.text("forwarded", listener.forwarded.word());
    page.key("max_connections", listener.max_connections);
    page.key("max_connections_per_source", listener.max_connections_per_source);
    page.list("allow", &listener.allow);
    page.list("deny", &listener.deny);
    gate::show_pages(page, &listener.error_pages);
    page.key("freebind", listener.freebind);
    page.text("class", listener.importance.word());
    if matches!(listener.protocol, Protocol::Http) {
        page.key("h2c", listener.h2c);
    }
    match (&listener.protocol, listener.when_empty) {
        (Protocol::Http | Protocol::Udp { .. }, _) => {}
        (_, WhenEmpty::Reset) => page.text("when_empty", "reset"),
        (_, WhenEmpty::StopListening) => page.text("when_empty", "stop_listening"),
        (_, WhenEmpty::Hold { time, max }) => {
            let time = quote(&format_duration(time));
            page.key("when_empty", format_args!("{{ hold = {time}, max = {max} }}"));
        }
    }
    listener::show_tls(page, listener.tls.as_ref());
    page.section(format_args!("[listener.{name}.limits]"));
    page.text("head", listener.limits.head);
    page.key("fields", listener.limits.fields);
    page.text("target", listener.limits.target);
    page.text("chunk_extensions", listener.limits.chunk_extensions);
    page.text("linger", listener.limits.linger);
    page.text("proxy_header", listener.limits.proxy_header);
    page.text("client_hello", listener.limits.client_hello);
    page.key("handshakes", listener.limits.handshakes);
    page.key("backlog", listener.limits.backlog);
    page.text("udp_datagram", listener.limits.udp_datagram);
    page.key("udp_answers", listener.limits.udp_answers);
    limits::show_bandwidth(page, &listener.limits);
    listener::show_http2(page, &listener.limits.http2);
    page.section(format_args!("[listener.{name}.timeouts]"));
    let timeouts = &listener.timeouts;
    page.time("tls_handshake", timeouts.tls_handshake);
    page.time("request_header", timeouts.request_header);
    page.time("keep_alive", timeouts.keep_alive);
    page.time("client_idle", timeouts.client_idle);
    page.time("tcp_keepalive", timeouts.tcp_keepalive);
    page.time("tcp_user_timeout", timeouts.tcp_user_timeout);
    page.time("linger", timeouts.linger);
    page.time("udp_idle", timeouts.udp_idle);
}

fn show_route(page: &mut Page, route: &Route) {
    page.begin(Subject::Route, route.rule.name.as_str(), "route");
    page.section("[[route]]");
    show_rule(page, &route.rule);
    match &route.action {
        Action::Pool(pool) => page.text("pool", pool),
        Action::Split { parts, by } => {
            let part = |pool: &str, weight| format!("{{ pool = {}, weight = {weight} }}", quote(pool));
            page.key(
                "split",
                format_args!("[{}]", join(parts.iter().map(|(pool, w)| part(pool.as_str(), w.get())))),
            );
            page.text("split_by", by.word());
        }
        Action::Redirect { to, status, .. } => {
            page.key("redirect", format_args!("{{ to = {}, status = {status} }}", quote(to.as_written())));
        }
        Action::Health(pool) => page.text("health", pool),
        Action::Respond(respond) => edits::show_respond(page, respond),
    }
    edits::show_edits(page, "request_headers", &route.request_headers);
    edits::show_edits(page, "response_headers", &route.response_headers);
    edits::show_rewrite(page, route);
    gate::show_gate(page, &route.gate);
    treatment::show(page, &route.treatment);
    let times = &route.timeouts;
    let written = [
        ("connect", times.connect),
        ("response_header", times.response_header),
        ("idle", times.idle),
        ("tunnel", times.tunnel),
    ];
    let time =
        |(key, time): (&str, Option<Duration>)| Some(format!("{key} = {}", quote(&format_duration(time?))));
    let written: Vec<String> = written.into_iter().filter_map(time).collect();
    if !written.is_empty() {
        page.key("timeouts", format_args!("{{ {} }}", written.join(", ")));
    }
    if route.priority_class != Class::default() {
        page.text("priority_class", route.priority_class.word());
    }
    if let Some(retry) = &route.retry {
        let keys = pool::retry(retry).map(|(key, value)| format!("{key} = {value}"));
        page.key("retry", format_args!("{{ {} }}", keys.join(", ")));
    }
    limits::show_limits(page, &route.limits);
}

fn shown_overload(settings: Option<&overload::Settings>) -> String {
    let Some(settings) = settings else { return quote("off") };
    let or_off = |value: Option<String>| value.unwrap_or_else(|| quote("off"));
    format!(
        "{{ memory = {}, descriptors = {}, lag = {}, hold = {} }}",
        or_off(settings.memory.map(|share| share.to_string())),
        or_off(settings.descriptors.map(|share| share.to_string())),
        or_off(settings.lag.map(|lag| quote(&format_duration(lag)))),
        quote(&format_duration(settings.hold))
    )
}

fn show_sni_route(page: &mut Page, route: &SniRoute) {
    page.begin(Subject::Route, route.name.as_str(), "route");
    page.section("[[route]]");
    page.text("name", &route.name);
    page.list("listeners", &route.listeners);
    page.list("sni", &route.sni);
    page.text("pool", &route.pool);
    page.optional("tls", route.tls.map(Handling::word).as_ref());
}

fn show_rule(page: &mut Page, rule: &Rule) {
    page.text("name", &rule.name);
    page.key("priority", rule.priority);
    page.some("listeners", &rule.listeners);
    page.some("host", &rule.hosts);
    match &rule.path {
        PathPattern::Any => {}
        PathPattern::Exact(path) => page.text("path", path),
        PathPattern::Prefix(path) => page.text("path_prefix", path),
        PathPattern::Regex(regex) => page.text("path_regex", regex),
    }
    page.some("methods", &rule.methods);
    show_patterns(page, "headers", rule.headers.iter().map(|(name, pattern)| (name.as_str(), pattern)));
    show_patterns(page, "query", rule.query.iter().map(|(name, pattern)| (name.as_str(), pattern)));
    show_patterns(page, "cookies", rule.cookies.iter().map(|(name, pattern)| (name.as_str(), pattern)));
    page.some("source", &rule.source);
}

fn show_patterns<'p>(
    page: &mut Page,
    key: &str,
    patterns: impl Iterator<Item = (&'p str, &'p ValuePattern)>,
) {
    let show = |(name, pattern): (&str, &ValuePattern)| match pattern {
        ValuePattern::Exact(text) => format!("{} = {}", quote_key(name), quote(text)),
        ValuePattern::Regex(regex) => {
            format!("{} = {{ regex = {} }}", quote_key(name), quote(regex.as_str()))
        }
    };
    let shown: Vec<String> = patterns.map(show).collect();
    if !shown.is_empty() {
        page.key(key, format_args!("{{ {} }}", shown.join(", ")));
    }
}
