//! Which routes no request can take because others take all of them before. Finds what can be told from what is written: a
//! route that several others hide only together is not found, and what regular expressions have in common is not asked.

use std::borrow::Cow;
use std::collections::HashMap;

use super::path::{normalize, normalize_prefix};
use super::precedence::Precedence;
use super::rule::{PathPattern, Rule, ValuePattern};
use crate::model::host::HostPattern;

/// How many routes of the same host and path are asked whether they hide another one: those that take most first. What is
/// left hides little, and ten thousand routes of one path would otherwise cost their square.
const ASKED_MAX: usize = 32;

/// Regular expressions that match whatever there is.
const ANYTHING: [&str; 6] = ["", "^", ".*", "^.*", ".*$", "^.*$"];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum HostKey<'a> {
    Any,
    Exact(&'a str),
    Below(&'a str),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum PathKey<'a> {
    Any,
    Exact(Cow<'a, [u8]>),
    Prefix(Cow<'a, [u8]>),
    Regex(&'a str),
}

/// Each rule that can never be found, with the first of those that hide it, as indexes; the rules are in the order of the
/// file, and all http listeners ask them.
#[must_use]
pub fn hidden(rules: &[&Rule]) -> Vec<(usize, usize)> {
    let mut places: HashMap<(HostKey<'_>, PathKey<'_>), Vec<usize>> = HashMap::new();
    for (index, rule) in rules.iter().enumerate() {
        for host in hosts(rule) {
            places.entry((HostKey::of(host), PathKey::of(&rule.path))).or_default().push(index);
        }
    }
    for all in places.values_mut() {
        let order = |index: &usize| {
            rules.get(*index).map(|rule| (std::cmp::Reverse(rule.priority), rule.condition_count(), *index))
        };
        all.sort_by_key(order);
    }
    let found = rules.iter().enumerate().filter_map(|(index, rule)| {
        let paths = PathKey::of(&rule.path).wider();
        let mut by = hosts(rule).map(|host| hider(rules, &places, (index, rule, host), &paths));
        let first = by.next()??;
        by.all(|other| other.is_some()).then_some((index, first))
    });
    found.collect()
}

/// The hosts of a rule; nothing is any.
fn hosts(rule: &Rule) -> impl Iterator<Item = Option<&HostPattern>> {
    rule.hosts.is_empty().then_some(None).into_iter().chain(rule.hosts.iter().map(Some))
}

/// A rule that takes all that `rule` would take through `host`, and is asked before.
fn hider<'a>(
    rules: &[&'a Rule],
    places: &HashMap<(HostKey<'a>, PathKey<'a>), Vec<usize>>,
    (index, rule, host): (usize, &'a Rule, Option<&'a HostPattern>),
    paths: &[PathKey<'a>],
) -> Option<usize> {
    let own = Precedence::of(rule, index, host);
    for wider_host in HostKey::of(host).wider() {
        for path in paths {
            let Some(all) = places.get(&(wider_host, path.clone())) else { continue };
            for &other in all.iter().take(ASKED_MAX).filter(|other| **other != index) {
                let Some(before) = rules.get(other) else { continue };
                let through = hosts(before).find(|host| HostKey::of(*host) == wider_host).flatten();
                if Precedence::of(before, other, through) < own && follows(before, rule) {
                    return Some(other);
                }
            }
        }
    }
    None
}

/// Whether every condition of `wide` beside host and path holds wherever those of `narrow` do.
fn follows(wide: &Rule, narrow: &Rule) -> bool {
    let listeners = wide.listeners.is_empty()
        || (!narrow.listeners.is_empty() && narrow.listeners.iter().all(|one| wide.listeners.contains(one)));
    let methods = wide.methods.is_empty()
        || (!narrow.methods.is_empty() && narrow.methods.iter().all(|one| wide.methods.contains(one)));
    let source = wide.source.is_empty()
        || (!narrow.source.is_empty()
            && narrow.source.iter().all(|one| wide.source.iter().any(|network| network.contains(one))));
    let headers = wide.headers.iter().all(|(name, pattern)| {
        let same = |own: &&(_, ValuePattern)| implies(&own.1, pattern);
        narrow.headers.iter().filter(|(own, _)| own.matches(name.as_str().as_bytes())).any(|own| same(&own))
    });
    listeners
        && methods
        && source
        && headers
        && pairs_follow(&wide.query, &narrow.query)
        && pairs_follow(&wide.cookies, &narrow.cookies)
}

fn pairs_follow(wide: &[(String, ValuePattern)], narrow: &[(String, ValuePattern)]) -> bool {
    let holds = |(name, pattern): &(String, ValuePattern)| {
        narrow.iter().any(|(own, value)| own == name && implies(value, pattern))
    };
    wide.iter().all(holds)
}

/// Whether a value that is as `narrow` says is as `wide` says, too.
fn implies(narrow: &ValuePattern, wide: &ValuePattern) -> bool {
    match narrow {
        _ if narrow == wide => true,
        ValuePattern::Exact(text) => wide.matches(text.as_bytes()),
        ValuePattern::Regex(_) => {
            matches!(wide, ValuePattern::Regex(all) if ANYTHING.contains(&all.as_str()))
        }
    }
}

impl<'a> HostKey<'a> {
    fn of(host: Option<&'a HostPattern>) -> Self {
        match host {
            None => Self::Any,
            Some(HostPattern::Exact(host)) => Self::Exact(host),
            Some(HostPattern::Wildcard(suffix)) => Self::Below(suffix),
        }
    }

    /// Itself and everything that has all of its hosts.
    fn wider(self) -> Vec<Self> {
        let mut all = vec![self];
        if let Self::Exact(host) | Self::Below(host) = self {
            // The dot in front of a suffix is its own.
            let dots = host.match_indices('.').map(|(at, _)| at).filter(|at| *at > 0);
            all.extend(dots.filter_map(|at| host.get(at..)).map(Self::Below));
            all.push(Self::Any);
        }
        all
    }
}

impl<'a> PathKey<'a> {
    fn of(path: &'a PathPattern) -> Self {
        match path {
            PathPattern::Any => Self::Any,
            PathPattern::Exact(path) => Self::Exact(normalize(path.as_bytes())),
            PathPattern::Prefix(prefix) => match normalize_prefix(prefix) {
                prefix if prefix.is_empty() => Self::Any,
                prefix => Self::Prefix(prefix),
            },
            PathPattern::Regex(regex) => Self::Regex(regex.as_str()),
        }
    }

    /// Itself and everything that has all of its paths, as far as that can be looked up.
    fn wider(self) -> Vec<Self> {
        let mut all = ANYTHING.map(Self::Regex).to_vec();
        if let Self::Exact(path) | Self::Prefix(path) = &self {
            let whole = path.strip_suffix(b"/").unwrap_or(path);
            let ends = (1..whole.len()).filter(|at| whole.get(*at) == Some(&b'/'));
            let above = ends.chain([whole.len()]).filter_map(|end| whole.get(..end));
            all.extend(
                above.filter(|path| !path.is_empty()).map(|path| Self::Prefix(Cow::Owned(path.to_vec()))),
            );
        }
        all.push(Self::Any);
        if !all.contains(&self) {
            all.push(self);
        }
        all
    }
}
