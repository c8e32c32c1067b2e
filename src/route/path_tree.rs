//! The routes of one host by their path: finds those whose path matches, best first, in the depth of the path.

use std::collections::HashMap;
use std::iter;

use super::path::{normalize, normalize_prefix};
use super::rule::{PathPattern, Rule};

/// A route in the order of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its place over all routes of the table; smaller is asked first.
    pub(super) rank: usize,
    /// Which rule.
    pub(super) rule: usize,
    /// Host and path decide alone: nothing else need be asked of the rule.
    pub(super) bare: bool,
}

/// Path elements as a tree. Every list is sorted by rank.
#[derive(Debug)]
pub(super) struct PathTree {
    /// The first is the root, which stands for the slash that opens every path.
    nodes: Vec<Node>,
    /// Regular expressions cannot be looked up: each is asked.
    regexes: Vec<Entry>,
    any: Vec<Entry>,
}

#[derive(Debug, Default)]
struct Node {
    children: HashMap<Box<[u8]>, usize>,
    parent: Option<usize>,
    exact: Vec<Entry>,
    prefix: Vec<Entry>,
}

impl Default for PathTree {
    fn default() -> Self {
        Self { nodes: vec![Node::default()], regexes: Vec::new(), any: Vec::new() }
    }
}

impl PathTree {
    /// Adds a route; they come in the order of their ranks.
    pub(super) fn push(&mut self, rule: &Rule, entry: Entry) {
        match &rule.path {
            PathPattern::Any => self.any.push(entry),
            PathPattern::Regex(_) => self.regexes.push(entry),
            PathPattern::Prefix(prefix) => {
                let prefix = normalize_prefix(prefix);
                if prefix.is_empty() {
                    self.any.push(entry);
                } else if let Some(node) = self.node(&prefix) {
                    node.prefix.push(entry);
                }
            }
            PathPattern::Exact(path) => {
                if let Some(node) = self.node(&normalize(path.as_bytes())) {
                    node.exact.push(entry);
                }
            }
        }
    }

    /// The lists of those whose path matches `path`, which is in normal form. With one priority all of a list come
    /// before all of the next. Whether a regular expression matches is left to ask.
    pub(super) fn matching(&self, path: &[u8]) -> impl Iterator<Item = &[Entry]> {
        let (deepest, whole) = self.descend(path);
        let exact = deepest.filter(|_| whole).map(|node| node.exact.as_slice());
        let prefixes =
            iter::successors(deepest, |node| self.nodes.get(node.parent?)).map(|node| node.prefix.as_slice());
        exact.into_iter().chain(prefixes).chain([self.regexes.as_slice(), self.any.as_slice()])
    }

    /// The deepest node on the way of `path`, and whether the way ends there.
    fn descend(&self, path: &[u8]) -> (Option<&Node>, bool) {
        let Some(path) = path.strip_prefix(b"/") else {
            return (None, false);
        };
        let mut node = self.nodes.first();
        for element in path.split(|&b| b == b'/') {
            let Some(child) = node.and_then(|n| self.nodes.get(*n.children.get(element)?)) else {
                return (node, false);
            };
            node = Some(child);
        }
        (node, true)
    }

    /// The node of a pattern's path, made where it is missing; nothing for what no path can be.
    fn node(&mut self, path: &[u8]) -> Option<&mut Node> {
        let mut at = 0;
        for element in path.strip_prefix(b"/")?.split(|&b| b == b'/') {
            let new = self.nodes.len();
            let next = *self.nodes.get_mut(at)?.children.entry(element.into()).or_insert(new);
            if next == new {
                self.nodes.push(Node { parent: Some(at), ..Node::default() });
            }
            at = next;
        }
        self.nodes.get_mut(at)
    }
}
