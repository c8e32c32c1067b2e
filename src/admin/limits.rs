//! How often the limits of the admin API and of the open health listener were reached.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::telemetry::metrics::{LIMIT_HITS, Sink};

/// Counts by limit, of all listeners of one process; the metrics page of the admin API shows them.
#[derive(Debug, Default)]
pub struct Hits {
    pub(super) admin_connections: Count,
    pub(super) admin_streams: Count,
    pub(super) health_connections: Count,
}

impl Hits {
    /// Tells `sink` every count.
    pub(super) fn collect(&self, sink: &mut dyn Sink) {
        for (limit, count) in [
            ("admin_connections", &self.admin_connections),
            ("admin_streams", &self.admin_streams),
            ("health_connections", &self.health_connections),
        ] {
            sink.counter(&LIMIT_HITS, &[("limit", limit)], count.0.load(Ordering::Relaxed));
        }
    }
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
