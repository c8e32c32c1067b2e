//! The routes of a listener by their host: exact names, then wildcards from the longest on, then those without a host.

use std::collections::HashMap;

use crate::model::host::HostPattern;

use super::host::pattern_key;
use super::path_tree::PathTree;

/// Path trees by host pattern.
#[derive(Debug, Default)]
pub(super) struct HostIndex {
    exact: HashMap<Box<[u8]>, PathTree>,
    /// By the suffix from its dot on.
    wildcard: HashMap<Box<[u8]>, PathTree>,
    /// No longer suffix is looked up, so that a host of a thousand labels costs no more than another.
    longest_suffix: usize,
    any: PathTree,
}

impl HostIndex {
    /// The tree of one pattern, made where it is missing; nothing is the tree of those without a host.
    pub(super) fn tree(&mut self, pattern: Option<&HostPattern>) -> &mut PathTree {
        match pattern {
            None => &mut self.any,
            Some(exact @ HostPattern::Exact(_)) => self.exact.entry(pattern_key(exact).into()).or_default(),
            Some(wildcard @ HostPattern::Wildcard(_)) => {
                let suffix = pattern_key(wildcard);
                self.longest_suffix = self.longest_suffix.max(suffix.len());
                self.wildcard.entry(suffix.into()).or_default()
            }
        }
    }

    /// The trees that `host`, in the form that is compared, belongs to, the closest first.
    pub(super) fn matching(&self, host: &[u8]) -> impl Iterator<Item = &PathTree> {
        let longest = if self.wildcard.is_empty() { 0 } else { self.longest_suffix };
        // A label must stand in front of the suffix, so the first byte cannot open it.
        let first = host.len().saturating_sub(longest).max(1);
        let suffixes =
            (first..host.len()).filter_map(move |at| host.get(at..).filter(|s| s.first() == Some(&b'.')));
        let wildcards = suffixes.filter_map(|suffix| self.wildcard.get(suffix));
        self.exact.get(host).into_iter().chain(wildcards).chain([&self.any])
    }
}
