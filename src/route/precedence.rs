//! Which of two routes that both match is asked first. Finding those that match is `table`.

use std::cmp::Reverse;

use crate::model::host::HostPattern;

use super::path::normalize_prefix;
use super::rule::{PathPattern, Rule};

/// The place of a route, as found through one of its hosts, in the order of asking: smaller is asked first.
///
/// Gateway API's `HTTPRouteMatch` order with an explicit priority above it and source, cookies and queries counted
/// like header matches. The fields are compared in the order in which they stand.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Precedence {
    priority: Reverse<i32>,
    host: HostRank,
    path: PathRank,
    conditions: Reverse<usize>,
    file_order: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum HostRank {
    Exact,
    Wildcard(Reverse<usize>),
    Any,
}

/// A prefix of `/` is no prefix but anything, so that a catch-all leaves room for regular expressions.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum PathRank {
    Exact,
    Prefix(Reverse<usize>),
    Regex,
    Any,
}

impl Precedence {
    /// The place of the rule that stands at `file_order`, as found through `host` (nothing: it names none).
    pub(super) fn of(rule: &Rule, file_order: usize, host: Option<&HostPattern>) -> Self {
        Self {
            priority: Reverse(rule.priority),
            host: match host {
                Some(HostPattern::Exact(_)) => HostRank::Exact,
                Some(HostPattern::Wildcard(suffix)) => HostRank::Wildcard(Reverse(suffix.len())),
                None => HostRank::Any,
            },
            path: match &rule.path {
                PathPattern::Exact(_) => PathRank::Exact,
                PathPattern::Prefix(prefix) => match normalize_prefix(prefix).len() {
                    0 => PathRank::Any,
                    length => PathRank::Prefix(Reverse(length)),
                },
                PathPattern::Regex(_) => PathRank::Regex,
                PathPattern::Any => PathRank::Any,
            },
            conditions: Reverse(rule.condition_count()),
            file_order,
        }
    }
}
