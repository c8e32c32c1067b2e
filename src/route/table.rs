//! All routes of one listener, made once per snapshot, asked once per request.

use crate::model::host::HostPattern;
use crate::model::request::RequestView;

use super::condition::first_miss;
use super::host_index::HostIndex;
use super::path_tree::Entry;
use super::precedence::Precedence;
use super::rule::{PathPattern, Rule};
use super::{host, path};

/// The routes of one listener.
///
/// Hosts are looked up by hash and paths element by element, so that ten thousand routes cost what ten do. What
/// cannot be looked up is asked one by one: routes of the same host and path that differ in further conditions, and
/// regular expressions of the same host.
#[derive(Debug)]
pub struct Table {
    rules: Vec<Rule>,
    hosts: HostIndex,
    /// The walk through the index is in order of precedence, so that the first that holds is the answer.
    one_priority: bool,
}

impl Table {
    /// The table of `rules`, which come in the order of the file and all belong to one listener.
    #[must_use]
    pub fn new(rules: Vec<Rule>) -> Self {
        let mut places: Vec<(Precedence, usize, Option<&HostPattern>)> = Vec::with_capacity(rules.len());
        for (index, rule) in rules.iter().enumerate() {
            if rule.hosts.is_empty() {
                places.push((Precedence::of(rule, index, None), index, None));
            }
            places.extend(
                rule.hosts.iter().map(|host| (Precedence::of(rule, index, Some(host)), index, Some(host))),
            );
        }
        places.sort_by(|a, b| a.0.cmp(&b.0));
        let mut hosts = HostIndex::default();
        for (rank, (_, index, host)) in places.iter().enumerate() {
            if let Some(rule) = rules.get(*index) {
                let bare = rule.condition_count() == 0 && !matches!(rule.path, PathPattern::Regex(_));
                hosts.tree(*host).push(rule, Entry { rank, rule: *index, bare });
            }
        }
        let one_priority = rules.windows(2).all(|pair| pair[0].priority == pair[1].priority);
        Self { rules, hosts, one_priority }
    }

    /// The route that the request takes, as an index into the rules given to [`Table::new`].
    ///
    /// Allocates nothing unless the host has upper-case letters or the path is not in normal form.
    #[must_use]
    pub fn find<V: RequestView>(&self, request: &V) -> Option<usize> {
        let host = host::normalize(request.authority());
        let path = path::normalize(request.path());
        let mut best: Option<Entry> = None;
        for entries in self.hosts.matching(&host).flat_map(|tree| tree.matching(&path)) {
            let better = entries.iter().take_while(|entry| best.is_none_or(|best| entry.rank < best.rank));
            if let Some(entry) = better.into_iter().find(|entry| self.holds(entry, request, &path)) {
                best = Some(*entry);
                if self.one_priority {
                    break;
                }
            }
        }
        best.map(|entry| entry.rule)
    }

    /// The rules that the table was made of.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    fn holds<V: RequestView>(&self, entry: &Entry, request: &V, path: &[u8]) -> bool {
        entry.bare
            || self.rules.get(entry.rule).is_some_and(|rule| {
                first_miss(rule, request).is_none()
                    && match &rule.path {
                        PathPattern::Regex(regex) => regex.is_match(path),
                        _ => true,
                    }
            })
    }
}
