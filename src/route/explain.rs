//! Why a request takes the route that it takes: every route in the order of asking, each with its reason.
//! Asks rule by rule, without the index, for a person and not for traffic.

use crate::model::request::RequestView;

use super::condition::{Miss, cookie_values, first_miss, header_values, query_values};
use super::precedence::Precedence;
use super::rule::{PathPattern, Rule, ValuePattern};
use super::table::Table;
use super::{host, path};

/// A route and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Which rule, as an index into those given to [`Table::new`].
    pub rule: usize,
    /// What became of it.
    pub verdict: Verdict,
}

/// What became of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The request takes it.
    Taken,
    /// A condition does not hold: the first that failed, what it wants and what the request has.
    Lost(String),
    /// All its conditions hold, but a better one took the request, so that it is not asked.
    NotAsked,
}

impl Table {
    /// Every rule in the order in which they are asked, with its verdict; at most one is [`Verdict::Taken`], the
    /// one that [`Table::find`] returns.
    #[must_use]
    pub fn explain<V: RequestView>(&self, request: &V) -> Vec<Candidate> {
        let host = host::normalize(request.authority());
        let path = path::normalize(request.path());
        let mut places: Vec<(Precedence, usize)> =
            self.rules().iter().enumerate().map(|(index, rule)| (place(rule, index, &host), index)).collect();
        places.sort();
        let mut taken = false;
        let verdict = |(_, index): (Precedence, usize)| {
            let verdict = match self.rules().get(index).and_then(|rule| reason(rule, request, &host, &path)) {
                Some(reason) => Verdict::Lost(reason),
                None if taken => Verdict::NotAsked,
                None => Verdict::Taken,
            };
            taken |= verdict == Verdict::Taken;
            Candidate { rule: index, verdict }
        };
        places.into_iter().map(verdict).collect()
    }
}

/// The rule's place through the best of its hosts that match, or through its best host when none does.
fn place(rule: &Rule, index: usize, host: &[u8]) -> Precedence {
    let through = |matching: bool| {
        let hosts = rule.hosts.iter().filter(move |pattern| !matching || host::matches(pattern, host));
        hosts.map(|pattern| Precedence::of(rule, index, Some(pattern))).min()
    };
    through(true).or_else(|| through(false)).unwrap_or_else(|| Precedence::of(rule, index, None))
}

/// Why the rule does not match; nothing when it does.
fn reason<V: RequestView>(rule: &Rule, request: &V, host: &[u8], path: &[u8]) -> Option<String> {
    if !rule.hosts.is_empty() && !rule.hosts.iter().any(|pattern| host::matches(pattern, host)) {
        let wanted: Vec<String> = rule.hosts.iter().map(|pattern| format!("\"{pattern}\"")).collect();
        return Some(format!("host: wants {}, is {}", wanted.join(" or "), quote(host)));
    }
    if let Some(wanted) = path_miss(&rule.path, path) {
        let sent = request.path();
        let sent = if sent == path { String::new() } else { format!(" (sent as {})", quote(sent)) };
        return Some(format!("path: wants {wanted}, is {}{sent}", quote(path)));
    }
    first_miss(rule, request).map(|miss| describe(&miss, rule, request))
}

/// What the path would have to be, unless it is that.
fn path_miss(pattern: &PathPattern, path: &[u8]) -> Option<String> {
    match pattern {
        PathPattern::Any => None,
        PathPattern::Exact(text) => {
            (path::normalize(text.as_bytes()) != path).then(|| quote(text.as_bytes()))
        }
        PathPattern::Prefix(text) => {
            // What is no path, as the `*` of OPTIONS, only lies below the prefix that is anything.
            let anything = path::normalize_prefix(text).is_empty();
            let below = anything || path::strip_prefix(path, text).is_some();
            (!below).then(|| format!("prefix {}", quote(text.as_bytes())))
        }
        PathPattern::Regex(regex) => {
            (!regex.is_match(path)).then(|| format!("regex {}", quote(regex.as_str().as_bytes())))
        }
    }
}

fn describe<V: RequestView>(miss: &Miss<'_>, rule: &Rule, request: &V) -> String {
    match miss {
        Miss::Method => format!(
            "method: wants {}, is {}",
            rule.methods.join(" or "),
            request.method_bytes().escape_ascii()
        ),
        Miss::Source => {
            let wanted: Vec<String> = rule.source.iter().map(ToString::to_string).collect();
            format!("source: wants {}, is {}", wanted.join(" or "), request.source())
        }
        Miss::Header(name, pattern) => {
            let values = header_values(request, name);
            format!("header {}: wants {}, {}", name.as_str(), wanted(pattern), actual(values))
        }
        Miss::Query(name, pattern) => {
            format!(
                "query {name}: wants {}, {}",
                wanted(pattern),
                actual(query_values(request.query(), name))
            )
        }
        Miss::Cookie(name, pattern) => {
            format!("cookie {name}: wants {}, {}", wanted(pattern), actual(cookie_values(request, name)))
        }
    }
}

fn wanted(pattern: &ValuePattern) -> String {
    match pattern {
        ValuePattern::Exact(text) => quote(text.as_bytes()),
        ValuePattern::Regex(regex) => format!("regex {}", quote(regex.as_str().as_bytes())),
    }
}

fn actual<'a>(values: impl Iterator<Item = &'a [u8]>) -> String {
    let values: Vec<String> = values.map(quote).collect();
    if values.is_empty() { "is absent".to_owned() } else { format!("is {}", values.join(" and ")) }
}

/// Readable text stays readable; what could disturb a terminal is escaped.
fn quote(bytes: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(bytes))
}
