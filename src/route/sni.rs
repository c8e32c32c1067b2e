//! Which route of a tcp listener a TLS client takes, by the name that it asks for: exact names, then the longest wildcard.

use std::collections::HashMap;

use crate::model::host::HostPattern;

/// What the names of one listener lead to.
#[derive(Debug)]
pub struct SniTable<T> {
    exact: HashMap<Box<str>, T>,
    /// By the suffix from its dot on.
    wildcard: HashMap<Box<str>, T>,
}

impl<T: Copy> SniTable<T> {
    /// The table of these names. Of two that are the same the first holds.
    pub fn new(names: impl IntoIterator<Item = (HostPattern, T)>) -> Self {
        let (mut exact, mut wildcard) = (HashMap::new(), HashMap::new());
        for (pattern, target) in names {
            match pattern {
                HostPattern::Exact(name) => exact.entry(name).or_insert(target),
                HostPattern::Wildcard(suffix) => wildcard.entry(suffix).or_insert(target),
            };
        }
        Self { exact, wildcard }
    }

    /// What `name`, in lower case, leads to.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<T> {
        if let Some(target) = self.exact.get(name) {
            return Some(*target);
        }
        // A label must stand in front of the suffix, so the first byte cannot open it. The longest comes first.
        let suffixes = name.match_indices('.').filter(|(at, _)| *at > 0).filter_map(|(at, _)| name.get(at..));
        suffixes.filter_map(|suffix| self.wildcard.get(suffix)).copied().next()
    }

    /// Everything that names lead to.
    pub fn targets(&self) -> impl Iterator<Item = T> {
        self.exact.values().chain(self.wildcard.values()).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_name_is_taken() {
        let names = ["a.example", "*.example", "*.a.example", "*.b.example"];
        let pattern = |text: &str| HostPattern::parse(text).expect("a pattern of the test's own");
        let table = SniTable::new(names.iter().enumerate().map(|(at, text)| (pattern(text), at)));
        for (name, want) in [
            ("a.example", Some(0)),
            ("b.example", Some(1)),
            ("x.a.example", Some(2)),
            ("y.x.a.example", Some(2)),
            ("x.c.example", Some(1)),
            ("x.b.example", Some(3)),
            ("example", None),
            ("a.example.com", None),
            ("", None),
        ] {
            assert_eq!(table.find(name), want, "{name}");
        }
    }
}
