//! Rate limits as the JSON of a handover: how far ahead which key is.

use serde::{Deserialize, Serialize};

use crate::policy::rate_limit::RateLimit;
use crate::runtime::route_limits::RateLive;
use crate::runtime::snapshot::Snapshot;

/// Keys that are handed over, of all limits together; others have their whole burst again.
const KEYS_MAX: usize = 200_000;

/// What one limit knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rates {
    name: String,
    /// What tells requests apart: keys by something else mean nothing.
    by: String,
    /// What keys are made by: those of another seed mean nothing either.
    mark: u64,
    /// The rate that words are of.
    rate: [u64; 2],
    /// Each key and its word, on the policies' time line.
    keys: Vec<[u64; 2]>,
}

impl Rates {
    /// Those of all limits of a snapshot.
    pub(super) fn read(snapshot: &Snapshot) -> Vec<Self> {
        let now = snapshot.clock.now();
        let mut most = KEYS_MAX;
        let rates = snapshot.limits.rates.iter().map(|live| {
            let keys: Vec<_> = live.table.entries(&live.limit, now).take(most).collect();
            most -= keys.len();
            Self {
                name: live.name.to_string(),
                by: by(live),
                mark: live.seed().mark(),
                rate: live.limit.rate(),
                keys,
            }
        });
        rates.filter(|rates| !rates.keys.is_empty()).collect()
    }

    /// Gives them to the limit of the same name, where that counts the same.
    pub(super) fn apply(&self, snapshot: &Snapshot) {
        let live = snapshot.limits.rates.iter().find(|live| *live.name == *self.name);
        let Some(live) = live.filter(|live| by(live) == self.by && live.seed().mark() == self.mark) else {
            return;
        };
        if let Some(from) = RateLimit::of_rate(self.rate) {
            live.table.adopt(self.keys.iter().copied(), (&from, &live.limit), snapshot.clock.now());
        }
    }
}

fn by(live: &RateLive) -> String {
    format!("{:?}", live.key)
}
