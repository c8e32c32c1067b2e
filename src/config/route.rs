//! `[[route]]`: what a route does with a request that it matches. The conditions themselves are
//! `route::Rule`.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use super::admission;
use super::diagnostic::Report;
use super::edits::{read_edits, read_rewrite, with_groups};
use super::gate::Gate;
use super::names::Names;
use super::rate_limit::Limits;
use super::retry::Retry;
use super::tables::POOL;
use super::tls::Files;
use super::treatment::Treatment;
use super::value::{Field, Fields, FromValue};
use crate::model::field::{FieldName, FieldValue};
use crate::model::name::{ListenerName, PoolName, RouteName};
use crate::model::units::Weight;
use crate::policy::admission::class::Class;
use crate::route::edits::Edits;
use crate::route::rewrite::Rewrite;
use crate::route::template::Template;
use crate::route::{PathPattern, Pattern, Rule, ValuePattern};

/// Conditions on a request and what happens to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Name, priority, listeners and every condition.
    pub rule: Rule,
    /// What happens.
    pub action: Action,
    /// Edits to the request head on its way to the endpoint.
    pub request_headers: Edits,
    /// Edits to the response head on its way to the client.
    pub response_headers: Edits,
    /// Rewriting of the target.
    pub rewrite: Option<Rewrite>,
    /// Times that override the pool's.
    pub timeouts: RouteTimeouts,
    /// Whose turn it is where requests wait.
    pub priority_class: Class,
    /// Retry rules that override the pool's.
    pub retry: Option<Retry>,
    /// What stands before it, and what it says in the place of errors.
    pub gate: Gate,
    /// How fast requests may come, and how many may be under way.
    pub limits: Limits,
    /// What is done with a request before it goes on.
    pub treatment: Treatment,
}

/// What a route does.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Send it to a pool.
    Pool(PoolName),
    /// Send it to one of several pools by weight.
    Split {
        /// Pools and weights; at least one has a weight above 0.
        parts: Vec<(PoolName, Weight)>,
        /// What decides.
        by: SplitBy,
    },
    /// Answer with a redirect.
    Redirect {
        /// `Location`.
        to: Template,
        /// Whose groups are put in.
        regex: Option<Pattern>,
        /// 301, 302, 303, 307 or 308.
        status: u16,
    },
    /// Answer with a fixed response.
    Respond(Respond),
    /// Answer 200 or 503 by the health of a pool, for a balancer above.
    Health(PoolName),
}

impl fmt::Display for Action {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pool(pool) => write!(out, "pool {pool}"),
            Self::Split { parts, .. } => {
                let parts = parts.iter().map(|(pool, weight)| format!("{pool} (weight {})", weight.get()));
                write!(out, "split {}", parts.collect::<Vec<_>>().join(", "))
            }
            Self::Redirect { to, status, .. } => write!(out, "redirect {status} to {}", to.as_written()),
            Self::Respond(respond) => write!(out, "respond {}", respond.status),
            Self::Health(pool) => write!(out, "the health of pool {pool}"),
        }
    }
}

/// A fixed answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Respond {
    /// 200 to 599.
    pub status: u16,
    /// Its body.
    pub body: Template,
    /// What the body is.
    pub content_type: FieldValue,
    /// Whose groups are put in.
    pub regex: Option<Pattern>,
}

/// What decides the part of a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SplitBy {
    /// The client's address: the same client gets the same pool.
    Source,
    /// Chance.
    Random,
    /// Where the client belongs already, by what its pools are sticky by; else chance.
    Sticky,
}

impl SplitBy {
    const ALL: [Self; 3] = [Self::Source, Self::Random, Self::Sticky];

    /// Its word in a configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Random => "random",
            Self::Sticky => "sticky",
        }
    }
}

/// Times of a route; what is absent is the pool's.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RouteTimeouts {
    /// Connecting.
    pub connect: Option<Duration>,
    /// To the response head.
    pub response_header: Option<Duration>,
    /// No progress while a body moves.
    pub idle: Option<Duration>,
    /// Upgraded connections without a byte.
    pub tunnel: Option<Duration>,
}

/// What the routes of a configuration may name and build on.
pub(super) struct Surroundings<'a> {
    /// Every pool.
    pub(super) pools: &'a Names,
    /// The pools as written, over their bases.
    pub(super) layers: &'a HashMap<String, Fields>,
    /// `[defaults.pool]`.
    pub(super) base: &'a Fields,
    /// Every listener.
    pub(super) listeners: &'a Names,
    /// Those that speak http.
    pub(super) http: &'a HashSet<String>,
    /// Files that they name.
    pub(super) files: Files<'a>,
}

impl Route {
    /// Reads a table `[[route]]` of that name; nothing when something of it was reported.
    pub(super) fn read(
        fields: &Fields,
        name: &str,
        around: &Surroundings<'_>,
        report: &mut Report,
    ) -> Option<Self> {
        if let Some(field) = fields.written("tls") {
            let message = format!("`tls` has no use: the route `{name}` is by requests, not by `sni`");
            report.error(field.key_span, message, "remove it, or write sni in the place of other conditions");
        }
        let listeners = read_listeners(fields, around, report);
        let path = read_path(fields, report);
        let action = read_action(fields, name, (path.as_ref(), around), report);
        let rewrite = read_rewrite(fields, path.as_ref(), report);
        forwarding_only(fields, name, action.as_ref(), report);
        let retry = read_retry(fields, action.as_ref(), around);
        let gate = Gate::read(fields, around.files, report);
        let limits = Limits::read(fields, name, report);
        let treatment = Treatment::read(fields, around, report);
        Some(Self {
            rule: Rule {
                name: RouteName::new(name).ok()?,
                priority: fields.get("priority")?,
                listeners,
                hosts: fields.plain_list("host"),
                path: path?,
                methods: fields.plain_list("methods"),
                headers: read_patterns(fields, "headers"),
                query: read_patterns(fields, "query"),
                cookies: fields
                    .map("cookies")
                    .into_iter()
                    .map(|(n, v, _): (FieldName, _, _)| (n.as_str().to_owned(), v))
                    .collect(),
                source: fields.plain_list("source"),
            },
            action: action?,
            request_headers: request_edits(fields, report),
            response_headers: read_edits(fields.table("response_headers"), report),
            rewrite,
            timeouts: fields
                .table("timeouts")
                .map_or_else(RouteTimeouts::default, |t| RouteTimeouts::read(&t)),
            priority_class: admission::priority_class(fields)?,
            retry,
            gate: gate?,
            limits: limits?,
            treatment: treatment?,
        })
    }
}

fn read_patterns<K: FromValue>(fields: &Fields, name: &str) -> Vec<(K, ValuePattern)> {
    fields.map(name).into_iter().map(|(key, pattern, _)| (key, pattern)).collect()
}

/// The edits of a request's head; its `Host` is a part of the target.
fn request_edits(fields: &Fields, report: &mut Report) -> Edits {
    let mut edits = read_edits(fields.table("request_headers"), report);
    edits.fixed.set.retain(|(name, _)| !name.matches(b"host"));
    edits.set.retain(|(name, _)| !name.matches(b"host"));
    edits
}

fn read_listeners(fields: &Fields, around: &Surroundings<'_>, report: &mut Report) -> Vec<ListenerName> {
    let written = fields.list::<String>("listeners");
    for (name, span) in &written {
        if around.listeners.check(name, *span, report) && !around.http.contains(name) {
            let message = format!("the listener `{name}` does not speak http, and has routes by `sni` alone");
            report.error(
                *span,
                message,
                format!("remove it, write sni in the place of other conditions, or protocol = \"http\" in [listener.{name}]"),
            );
        }
    }
    written.iter().filter_map(|(name, _)| ListenerName::new(name).ok()).collect()
}

/// The written ones of some keys of which only one may be; reports the second.
pub(super) fn only_one<'f>(fields: &'f Fields, keys: &[&str], report: &mut Report) -> Option<&'f Field> {
    let mut written: Vec<&Field> = fields.written.iter().filter(|field| keys.contains(&field.name)).collect();
    written.sort_by_key(|field| field.key_span.start);
    let first = written.first().copied()?;
    for second in written.iter().skip(1) {
        let message = format!("`{}` cannot stand beside `{}`", second.name, first.name);
        let help = format!(
            "keep one of the two{}",
            if keys.contains(&"split") { "; a second route can have the other" } else { "" }
        );
        report.error_beside(second.key_span, message, ("the other is at", first.key_span), help);
    }
    Some(first)
}

fn read_path(fields: &Fields, report: &mut Report) -> Option<PathPattern> {
    let Some(field) = only_one(fields, &["path", "path_prefix", "path_regex"], report) else {
        return Some(PathPattern::Any);
    };
    match field.name {
        "path" => fields.get("path").map(PathPattern::Exact),
        "path_prefix" => fields.get("path_prefix").map(PathPattern::Prefix),
        _ => fields.get("path_regex").map(PathPattern::Regex),
    }
}

fn read_action(
    fields: &Fields,
    name: &str,
    (path, around): (Option<&PathPattern>, &Surroundings<'_>),
    report: &mut Report,
) -> Option<Action> {
    let regex = match path {
        Some(PathPattern::Regex(regex)) => Some(regex),
        _ => None,
    };
    let Some(field) = only_one(fields, &["pool", "split", "redirect", "respond", "health"], report) else {
        let message = format!("the route `{name}` says nothing of what to do");
        report.error(
            fields.span,
            message,
            "add one of pool = \"NAME\", split = [...], redirect = {...}, respond = {...}, health = \"NAME\"",
        );
        return None;
    };
    if let Some(by) = fields.written("split_by").filter(|_| field.name != "split") {
        report.error(
            by.key_span,
            "`split_by` needs a `split`",
            "remove it, or write split = [{ pool = \"NAME\" }, ...]",
        );
    }
    match field.name {
        key @ ("pool" | "health") => {
            let pool: String = fields.get(key)?;
            around.pools.check(&pool, fields.span_of(key), report);
            let pool = PoolName::new(&pool).ok()?;
            Some(if key == "pool" { Action::Pool(pool) } else { Action::Health(pool) })
        }
        "split" => read_split(fields, around, report),
        "redirect" => read_redirect(&fields.table("redirect")?, regex, report),
        _ => read_respond(&fields.table("respond")?, regex, report),
    }
}

fn read_split(fields: &Fields, around: &Surroundings<'_>, report: &mut Report) -> Option<Action> {
    let written = fields.list::<Fields>("split");
    let mut parts: Vec<(PoolName, Weight)> = Vec::new();
    for (part, _) in &written {
        part.require("a part of a split", report);
        let Some(pool) = part.get::<String>("pool") else { continue };
        around.pools.check(&pool, part.span_of("pool"), report);
        let (Ok(pool), Some(weight)) = (PoolName::new(&pool), part.get("weight").and_then(Weight::new))
        else {
            continue;
        };
        if parts.iter().any(|(earlier, _)| *earlier == pool) {
            let message = format!("the pool `{pool}` is in the split twice");
            report.error(part.span_of("pool"), message, "keep one of the two, with both weights added");
        }
        parts.push((pool, weight));
    }
    if !parts.is_empty() && parts.len() == written.len() && parts.iter().all(|(_, weight)| weight.get() == 0)
    {
        let message = "no part of the split has a weight above 0";
        report.error(fields.span_of("split"), message, "give at least one a weight from 1 to 1000");
    }
    let by = read_split_by(&parts, fields, around, report);
    Some(Action::Split { parts, by })
}

/// What decides, and a report where that is what no pool knows.
fn read_split_by(
    parts: &[(PoolName, Weight)],
    fields: &Fields,
    around: &Surroundings<'_>,
    report: &mut Report,
) -> SplitBy {
    let sticky = |(pool, _): &&(PoolName, Weight)| {
        around.layers.get(pool.as_str()).and_then(|pool| pool.table("sticky"))
    };
    let Some(by) = SplitBy::ALL.into_iter().find(|by| fields.is_word("split_by", by.word())) else {
        let any = parts.iter().any(|part| sticky(&part).is_some());
        return if any { SplitBy::Sticky } else { SplitBy::Random };
    };
    if by == SplitBy::Sticky && parts.iter().find_map(|part| sticky(&part)).is_none() {
        let message = "`split_by = \"sticky\"` needs a pool with `sticky`, and no pool of the split has it";
        report.error(
            fields.span_of("split_by"),
            message,
            "add [pool.NAME.sticky] to its pools, or write split_by = \"source\" or \"random\"",
        );
    }
    by
}

fn read_redirect(fields: &Fields, regex: Option<&Pattern>, report: &mut Report) -> Option<Action> {
    fields.require("a redirect", report);
    let to = with_groups(fields.get("to")?, regex, fields.span_of("to"), report)?;
    // It is only asked again for its groups.
    let regex = regex.filter(|_| to.has_groups()).cloned();
    Some(Action::Redirect { to, regex, status: fields.get("status")? })
}

fn read_respond(fields: &Fields, regex: Option<&Pattern>, report: &mut Report) -> Option<Action> {
    fields.require("`respond`", report);
    let (status, body): (u16, Template) = (fields.get("status")?, fields.get("body")?);
    if matches!(status, 204 | 205 | 304) && body.as_static() != Some("") {
        let message = format!("an answer of status {status} has no body");
        report.error(fields.span_of("body"), message, "remove the body, or write status = 200");
        return None;
    }
    let body = with_groups(body, regex, fields.span_of("body"), report)?;
    let regex = regex.filter(|_| body.has_groups()).cloned();
    Some(Action::Respond(Respond { status, body, content_type: fields.get("content_type")?, regex }))
}

/// Reports what only has a meaning where a request goes on to an endpoint.
fn forwarding_only(fields: &Fields, name: &str, action: Option<&Action>, report: &mut Report) {
    if !matches!(action, Some(Action::Redirect { .. } | Action::Respond(_) | Action::Health(_))) {
        return;
    }
    const KEYS: [&str; 11] = [
        "request_headers",
        "rewrite",
        "timeouts",
        "priority_class",
        "retry",
        "intercept_errors",
        "max_body",
        "mirror",
        "buffer_request",
        "buffer_response",
        "compress",
    ];
    for key in KEYS {
        if let Some(field) = fields.written(key) {
            let message = format!("`{key}` has no use: the route `{name}` answers by itself");
            report.error(field.key_span, message, "remove it, or send the request to a pool");
        }
    }
}

/// The route's rules over those of its pool; a split has several pools, so there they lie over the common
/// base.
fn read_retry(fields: &Fields, action: Option<&Action>, around: &Surroundings<'_>) -> Option<Retry> {
    let written = fields.written("retry")?;
    let pool = match action {
        Some(Action::Pool(pool)) => around.layers.get(pool.as_str()).unwrap_or(around.base),
        _ => around.base,
    };
    let mut own = Fields::empty(&POOL, fields.span);
    own.written.push(written.clone());
    Retry::read(&own.over(pool), pool.get("exclusive") == Some(true))
}

impl RouteTimeouts {
    fn read(fields: &Fields) -> Self {
        Self {
            connect: fields.get("connect"),
            response_header: fields.get("response_header"),
            idle: fields.get("idle"),
            tunnel: fields.get("tunnel"),
        }
    }
}
