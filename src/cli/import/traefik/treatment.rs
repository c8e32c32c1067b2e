//! What middlewares do to the requests of a route, as keys of that route.

use ipnet::IpNet;

use super::super::document::{Table, Value};
use super::super::report::{Place, Report};
use super::matcher::Test;

/// What is done to requests and answers, in the order in which Plimsoll does it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Treatment {
    pub(super) request: Heads,
    pub(super) answer: Heads,
    /// Another path.
    pub(super) target: Option<(Target, Place)>,
    /// Another host.
    pub(super) host: Option<(String, Place)>,
    /// Who may come.
    pub(super) allow: Option<(Vec<IpNet>, Place)>,
    /// `rate_limit` and `concurrency_limit`.
    pub(super) limits: Vec<(&'static str, Value, Place)>,
    /// All other keys.
    pub(super) keys: Vec<(&'static str, Value, Place)>,
    /// The largest body that a request may have.
    pub(super) body: Option<i64>,
    /// A breaker of the pool.
    pub(super) breaker: Option<(Table, Place)>,
    /// Answers to some of the requests.
    pub(super) branches: Vec<Branch>,
    /// Requests that go on, while all others get an answer.
    pub(super) passes: Vec<(Vec<Test>, Answer)>,
    /// The answer to all of them.
    pub(super) end: Option<Answer>,
}

/// Requests that are answered without a server, by what has been done to them up to there.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Branch {
    pub(super) tests: Vec<Test>,
    /// With an end.
    pub(super) treatment: Treatment,
}

/// An answer of the proxy's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Redirect { to: String, status: i64, at: Place },
    Respond { status: i64, body: String, at: Option<Place> },
}

/// Edits of one head.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Heads {
    remove: Vec<String>,
    set: Vec<(String, String)>,
    at: Option<Place>,
}

impl Heads {
    pub(super) fn remove(&mut self, name: &str, at: Place) {
        self.forget(name, at);
        self.remove.push(name.to_owned());
    }

    pub(super) fn set(&mut self, name: &str, value: String, at: Place) {
        self.forget(name, at);
        self.set.push((name.to_owned(), value));
    }

    /// What is said of an answer by whoever it comes to last, which is the first of the middlewares, holds.
    pub(super) fn remove_unless_said(&mut self, name: &str, at: Place) {
        if !self.says(name) {
            self.remove(name, at);
        }
    }

    /// The same of a field with a value.
    pub(super) fn set_unless_said(&mut self, name: &str, value: String, at: Place) {
        if !self.says(name) {
            self.set(name, value, at);
        }
    }

    fn says(&self, name: &str) -> bool {
        self.remove.iter().chain(self.set.iter().map(|(other, _)| other)).any(|other| other == name)
    }

    fn forget(&mut self, name: &str, at: Place) {
        self.at.get_or_insert(at);
        self.remove.retain(|other| other != name);
        self.set.retain(|(other, _)| other != name);
    }

    fn value(&self) -> Option<Value> {
        let mut all = Vec::new();
        if !self.remove.is_empty() {
            all.push(("remove", Value::texts(self.remove.clone())));
        }
        if !self.set.is_empty() {
            let pairs = self.set.iter().map(|(name, value)| (name.clone(), Value::text(value)));
            all.push(("set", Value::inline(pairs)));
        }
        (!all.is_empty()).then(|| Value::inline(all))
    }
}

/// Another path for the endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// Only where this matches.
    pub(super) regex: Option<String>,
    /// The path, with variables.
    pub(super) path: String,
    /// Whether the expression matches all requests of the route.
    pub(super) certain: bool,
}

impl Treatment {
    /// Puts a path before that which there is.
    pub(super) fn prefix(&mut self, prefix: &str, at: Place) -> Result<(), String> {
        let target = match self.target.take() {
            None => Target { regex: None, path: format!("{prefix}{{path}}"), certain: true },
            Some((target, _)) if target.certain || target.regex.is_none() => {
                Target { path: format!("{prefix}{}", target.path), ..target }
            }
            Some(_) => return Err(ONCE.to_owned()),
        };
        self.target = Some((target, at));
        Ok(())
    }

    /// Rewrites the path.
    pub(super) fn rewrite(&mut self, target: Target, at: Place) -> Result<(), String> {
        if self.target.is_some() && target.regex.is_some() {
            return Err(ONCE.to_owned());
        }
        self.target = Some((target, at));
        Ok(())
    }

    /// Whether there is a middleware of this kind already that another one takes the place of.
    pub(super) fn has(&self, kind: &str) -> bool {
        let key = |name: &str| self.keys.iter().any(|(own, ..)| *own == name);
        match kind {
            "circuitBreaker" => self.breaker.is_some(),
            "buffering" => key("buffer_request") || key("buffer_response"),
            "retry" | "compress" => key(kind),
            _ => false,
        }
    }

    /// Sets a key; what it was is gone.
    pub(super) fn key(&mut self, name: &'static str, value: Value, at: Place) {
        self.keys.retain(|(other, ..)| *other != name);
        self.keys.push((name, value, at));
    }

    /// Sets a key that holds for all that comes behind it.
    pub(super) fn first(&mut self, name: &'static str, value: Value, at: Place) {
        if !self.keys.iter().any(|(other, ..)| *other == name) {
            self.keys.push((name, value, at));
        }
    }

    /// Asks who the client is: a route does that once by each key.
    pub(super) fn guard(&mut self, name: &'static str, value: Value, at: Place) -> Result<(), String> {
        if self.keys.iter().any(|(other, own, _)| *other == name && *own != value) {
            return Err(format!("a route has one {name}, and here it would be two, one behind the other"));
        }
        self.key(name, value, at);
        Ok(())
    }

    /// The largest body, the smallest of several.
    pub(super) fn body(&mut self, bytes: i64, at: Place) {
        if self.body.is_none_or(|own| bytes < own) {
            self.body = Some(bytes);
            self.key("max_body", Value::text(super::said::size(bytes)), at);
        }
    }

    /// Keeps the clients of both lists.
    pub(super) fn allow(&mut self, networks: &[IpNet], at: Place) -> Result<(), String> {
        use super::super::region::meet_networks;
        let own = self.allow.as_ref().map(|(own, _)| own.as_slice());
        match meet_networks(own, networks) {
            Some(both) => {
                self.allow = Some((both, at));
                Ok(())
            }
            None => Err("no client is in all of its lists".to_owned()),
        }
    }

    /// The same with an answer, for some requests or all: what was done so far to let them in stays.
    pub(super) fn answered(&self, answer: Answer) -> Self {
        Self { end: Some(answer), branches: Vec::new(), passes: Vec::new(), ..self.clone() }
    }

    /// Writes the keys of the route.
    pub(super) fn write(&self, table: &mut Table) {
        let own = self.end.is_some();
        if let Some(answer) = &self.end {
            answer.write(table);
        }
        if !own {
            if let Some(value) = self.request.value() {
                table.set("request_headers", value, self.request.at);
            }
            self.write_target(table);
        }
        if let Some(value) = self.answer.value() {
            table.set("response_headers", value, self.answer.at);
        }
        if let Some((networks, at)) = &self.allow {
            table.set("allow", Value::texts(networks.iter().map(ToString::to_string)), Some(*at));
        }
        for key in ["rate_limit", "concurrency_limit"] {
            let of: Vec<&(&str, Value, Place)> = self.limits.iter().filter(|(own, ..)| *own == key).collect();
            match of.as_slice() {
                [] => {}
                [(_, one, at)] => table.set(key, one.clone(), Some(*at)),
                [(_, _, at), ..] => {
                    table.set(
                        key,
                        Value::List(of.iter().map(|(_, value, _)| value.clone()).collect()),
                        Some(*at),
                    );
                }
            }
        }
        for (key, value, at) in &self.keys {
            if !own || GUARDS.contains(key) {
                table.set(key, value.clone(), Some(*at));
            }
        }
    }

    fn write_target(&self, table: &mut Table) {
        let mut pairs = Vec::new();
        let mut from = None;
        if let Some((target, at)) = &self.target {
            if let Some(regex) = &target.regex {
                pairs.push(("path_regex", Value::text(regex)));
            }
            pairs.push(("path", Value::text(&target.path)));
            from = Some(*at);
        }
        if let Some((host, at)) = &self.host {
            pairs.push(("host", Value::text(host)));
            from = from.or(Some(*at));
        }
        if !pairs.is_empty() {
            table.set("rewrite", Value::inline(pairs), from);
        }
    }

    /// The lines that it comes from cannot be said together.
    pub(super) fn check(&self) -> Result<(), String> {
        let conditional =
            self.target.as_ref().is_some_and(|(target, _)| target.regex.is_some() && !target.certain);
        if conditional && self.host.is_some() {
            return Err(
                "the Host is set only where the path is rewritten, which may not be all of its requests"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

/// Keys that hold for answers of the proxy's own too.
const GUARDS: [&str; 3] = ["basic_auth", "forward_auth", "cors"];

const ONCE: &str = "a route rewrites its path once: make one regular expression of what its middlewares do";

impl Answer {
    /// The line that it comes from.
    pub(super) const fn at(&self) -> Option<Place> {
        match self {
            Self::Redirect { at, .. } => Some(*at),
            Self::Respond { at, .. } => *at,
        }
    }

    fn write(&self, table: &mut Table) {
        match self {
            Self::Redirect { to, status, at } => {
                let pairs = [("to", Value::text(to)), ("status", Value::Integer(*status))];
                table.set("redirect", Value::inline(pairs), Some(*at));
            }
            Self::Respond { status, body, at } => {
                let mut pairs = vec![("status", Value::Integer(*status))];
                if !body.is_empty() {
                    pairs.push(("body", Value::text(body)));
                }
                table.set("respond", Value::inline(pairs), *at);
            }
        }
    }
}

/// A text that stands as it is where variables may stand.
#[must_use]
pub(super) fn plain(text: &str) -> String {
    text.replace('{', "{{").replace('}', "}}")
}

/// A remark for redirections that are not alike for all methods.
pub(super) fn redirect_status(permanent: bool, at: Place, report: &mut Report) -> i64 {
    let (ours, theirs) = if permanent { (308, 301) } else { (307, 302) };
    report.approximated(at, format!("GET gets {ours} as all other methods do; Traefik answers it {theirs}"));
    ours
}
