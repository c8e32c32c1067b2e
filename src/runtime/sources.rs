//! How many connections each source address has now, for the ceiling per source.

use std::net::IpAddr;
use std::sync::Arc;

use dashmap::DashMap;

/// Connections by source address. Holds an entry only while the source has a connection, so it is bounded by the
/// number of connections.
#[derive(Debug, Default, Clone)]
pub struct Sources(Arc<DashMap<IpAddr, usize>>);

impl Sources {
    /// Takes one place of `source` under `limit`, or nothing.
    #[must_use]
    pub fn try_enter(&self, source: IpAddr, limit: usize) -> Option<SourcePlace> {
        let mut count = self.0.entry(source).or_insert(0);
        if *count >= limit {
            return None;
        }
        *count += 1;
        Some(SourcePlace { sources: self.clone(), source })
    }

    /// Sources with a connection now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no source has a connection.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// One connection of a source, given back when dropped.
#[derive(Debug)]
pub struct SourcePlace {
    sources: Sources,
    source: IpAddr,
}

impl Drop for SourcePlace {
    fn drop(&mut self) {
        self.sources.0.remove_if_mut(&self.source, |_, count| {
            *count = count.saturating_sub(1);
            *count == 0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn a_source_has_so_many_places_and_leaves_no_trace() {
        let sources = Sources::default();
        let source = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let first = sources.try_enter(source, 1);
        assert!(first.is_some());
        assert!(sources.try_enter(source, 1).is_none());
        drop(first);
        assert!(sources.is_empty());
        assert!(sources.try_enter(source, 1).is_some());
    }
}
