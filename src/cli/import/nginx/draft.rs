//! A route before it is written: what it takes, what it does, and what of that its pool could say for all.

use super::super::document::{Table, Value};
use super::super::region::Region;
use super::super::report::Place;

/// A key of a route.
pub(super) type Key = (String, Value, Option<Place>);

/// Statuses that are failures of an endpoint, and the line that says so with its name.
pub(super) type Failures = (Vec<String>, Option<(Place, &'static str)>);

/// What happens to a request.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Action {
    /// It goes to a pool, by its number.
    Pool(usize),
    /// It goes to one of several.
    Split(Vec<(usize, i64)>, &'static str),
    Respond {
        status: u16,
        body: String,
        kind: Option<String>,
    },
    Redirect {
        to: String,
        status: u16,
    },
}

/// Edits of a head.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Fields {
    pub(super) remove: Vec<String>,
    pub(super) set: Vec<(String, String)>,
    pub(super) add: Vec<(String, String)>,
    pub(super) at: Option<Place>,
    /// The field that says who has given a password.
    pub(super) user: Option<String>,
}

impl Fields {
    const NONE: Self = Self { remove: Vec::new(), set: Vec::new(), add: Vec::new(), at: None, user: None };

    /// Takes a field away, whoever sends it.
    pub(super) fn take_away(&mut self, field: &str) {
        if !self.remove.iter().any(|other| other == field) {
            self.remove.push(field.to_owned());
        }
    }

    fn value(&self) -> Option<Value> {
        let mut all = Vec::new();
        if !self.remove.is_empty() {
            all.push(("remove", Value::texts(self.remove.clone())));
        }
        for (key, list) in [("set", &self.set), ("add", &self.add)] {
            if !list.is_empty() {
                let pairs = list.iter().map(|(name, value)| (name.clone(), Value::text(value)));
                all.push((key, Value::inline(pairs)));
            }
        }
        (!all.is_empty()).then(|| Value::inline(all))
    }
}

/// Another target.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Rewrite {
    pub(super) regex: Option<String>,
    /// In the place of the prefix that the route has.
    pub(super) prefix: Option<String>,
    pub(super) path: Option<String>,
    pub(super) query: Option<String>,
    pub(super) at: Option<Place>,
}

/// A route.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Draft {
    /// The line that decides.
    pub(super) at: Place,
    pub(super) region: Region,
    pub(super) action: Action,
    /// Why it is what it is, where no line says that.
    pub(super) why: Option<String>,
    pub(super) rewrite: Option<Rewrite>,
    pub(super) request: Fields,
    pub(super) answer: Fields,
    /// Keys of the route alone.
    pub(super) keys: Vec<Key>,
    /// Keys that its pool has, unless other routes want others.
    pub(super) shared: Vec<Key>,
    /// Statuses that are failures of an endpoint, and the line that says so.
    pub(super) failures: Failures,
}

impl Draft {
    pub(super) const fn new(at: Place, region: Region, action: Action) -> Self {
        Self {
            at,
            region,
            action,
            why: None,
            rewrite: None,
            request: Fields::NONE,
            answer: Fields::NONE,
            keys: Vec::new(),
            shared: Vec::new(),
            failures: (Vec::new(), None),
        }
    }

    /// Takes away what only has a use where a request goes on to an endpoint, if it does not.
    pub(super) fn settle(&mut self) {
        const OWN: [&str; 7] =
            ["allow", "deny", "basic_auth", "forward_auth", "rate_limit", "concurrency_limit", "error_pages"];
        if self.pools().is_empty() {
            self.keys.retain(|(name, ..)| OWN.contains(&name.as_str()));
            self.shared.clear();
            self.rewrite = None;
            self.request = Fields::default();
        }
    }

    /// The pools that it leads to.
    pub(super) fn pools(&self) -> Vec<usize> {
        match &self.action {
            Action::Pool(pool) => vec![*pool],
            Action::Split(parts, _) => parts.iter().map(|(pool, _)| *pool).collect(),
            _ => Vec::new(),
        }
    }

    /// What it is called for.
    pub(super) fn word(&self, pool: impl Fn(usize) -> String) -> String {
        match &self.action {
            Action::Pool(at) => pool(*at),
            Action::Split(parts, _) => {
                parts.first().map(|(at, _)| format!("{}-split", pool(*at))).unwrap_or_default()
            }
            Action::Redirect { to, .. } if to.ends_with("{path}/{?query}") => "slash".to_owned(),
            Action::Redirect { to, .. } if to.starts_with("https://{host") => "to-https".to_owned(),
            Action::Redirect { .. } => "redirect".to_owned(),
            Action::Respond { status: 200..=399, .. } => "respond".to_owned(),
            Action::Respond { status: 404 | 410, .. } => "not-found".to_owned(),
            Action::Respond { status: 500..=599, .. } => "unavailable".to_owned(),
            Action::Respond { .. } => "deny".to_owned(),
        }
    }

    /// Writes all of it but its name, its priority and its conditions.
    pub(super) fn write(&self, pool: impl Fn(usize) -> String, table: &mut Table) {
        match &self.action {
            Action::Pool(at) => table.set("pool", Value::text(pool(*at)), None),
            Action::Split(parts, by) => {
                let part = |(at, weight): &(usize, i64)| {
                    Value::inline([("pool", Value::text(pool(*at))), ("weight", Value::Integer(*weight))])
                };
                table.set("split", Value::List(parts.iter().map(part).collect()), None);
                table.set("split_by", Value::text(*by), None);
            }
            Action::Respond { status, body, kind } => {
                let mut pairs = vec![("status", Value::Integer(i64::from(*status)))];
                if !body.is_empty() {
                    pairs.push(("body", Value::text(body)));
                }
                if let Some(kind) =
                    kind.as_ref().filter(|kind| !body.is_empty() && *kind != "text/plain; charset=utf-8")
                {
                    pairs.push(("content_type", Value::text(kind)));
                }
                table.set("respond", Value::inline(pairs), None);
            }
            Action::Redirect { to, status } => {
                let pairs = [("to", Value::text(to)), ("status", Value::Integer(i64::from(*status)))];
                table.set("redirect", Value::inline(pairs), None);
            }
        }
        let forwards = matches!(self.action, Action::Pool(_) | Action::Split(..));
        self.target(forwards, table);
        for (name, value, at) in &self.keys {
            table.set(name, value.clone(), *at);
        }
    }

    fn target(&self, forwards: bool, table: &mut Table) {
        let mut request = self.request.clone();
        let changes = |one: &&Rewrite| one.prefix.is_some() || one.path.is_some() || one.query.is_some();
        if let Some(rewrite) = self.rewrite.as_ref().filter(|_| forwards).filter(changes) {
            // Beside a rewritten target by an expression the host is a part of that.
            let at =
                request.set.iter().position(|(name, _)| name == "host").filter(|_| rewrite.regex.is_some());
            let host = at.map(|at| request.set.remove(at).1);
            let parts = [
                ("path_regex", &rewrite.regex),
                ("path_prefix", &rewrite.prefix),
                ("path", &rewrite.path),
                ("host", &host),
                ("query", &rewrite.query),
            ];
            let pairs = parts.into_iter().filter_map(|(key, part)| Some((key, Value::text(part.as_ref()?))));
            let value = Value::inline(pairs);
            table.set("rewrite", value, rewrite.at);
        }
        if let Some(value) = request.value().filter(|_| forwards) {
            table.set("request_headers", value, request.at);
        }
        if let Some(value) = self.answer.value() {
            table.set("response_headers", value, self.answer.at);
        }
    }
}
