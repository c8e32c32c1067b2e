//! What live traffic has said, as one process hands it to the next: verdicts that stand, without the counts behind them.

use super::{Judged, Kind, Scope, publish_pool};
use crate::policy::breaker::{Breaker, Gate};
use crate::policy::outlier::{Ejection, Outlier};
use crate::runtime::condition::Impediment;
use crate::runtime::endpoint::Endpoint;
use crate::runtime::pool::Pool;
use crate::runtime::sync::lock;

/// The verdicts on an endpoint, or on a pool as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Memory {
    /// Its ejection, where it is ejected.
    pub ejected: Option<Ejection>,
    /// Ejections lately, which the next one's length grows with.
    pub ejections: u32,
    /// How its breaker stands, and how often it has opened in a row.
    pub breaker: Option<(Gate, u32)>,
}

impl Judged {
    /// What is known, for another process.
    #[must_use]
    pub fn memory(&self) -> Memory {
        let state = lock(&self.state);
        let (outlier, breaker) = (state.outlier.as_ref(), state.breaker.as_ref());
        Memory {
            ejected: outlier.and_then(Outlier::ejected).copied(),
            ejections: outlier.map_or(0, Outlier::ejections),
            breaker: breaker.map(|breaker| (breaker.gate(), breaker.times())),
        }
    }
}

/// Goes on with the verdicts on an endpoint, or without one on the pool as a whole. Where the pool has no such policy any
/// more, they are forgotten.
pub fn resume(pool: &Pool, endpoint: Option<&Endpoint>, memory: &Memory) {
    let now = pool.live.clock.now();
    let scope = if endpoint.is_some() { Scope::Endpoint } else { Scope::Pool };
    let breaker = pool.breaker.as_ref().filter(|settings| settings.scope == scope).zip(memory.breaker);
    let Some(endpoint) = endpoint else {
        let mut state = lock(&pool.live.judged.state);
        state.breaker = breaker.map(|(settings, (gate, times))| {
            Breaker::resumed(settings, pool.breaker_totals(), gate, times, now)
        });
        return publish_pool(pool, &state);
    };
    let live = &endpoint.live;
    let mut state = lock(&live.judged.state);
    state.breaker = breaker.map(|(settings, (gate, times))| {
        Breaker::resumed(settings, live.totals(Kind::Breaker), gate, times, now)
    });
    if let Some(settings) = &pool.outlier {
        let totals = live.totals(Kind::Outlier);
        state.outlier = Some(Outlier::resumed(settings, totals, memory.ejected, memory.ejections, now));
        live.condition.set(Impediment::Ejected, memory.ejected.is_some_and(|ejection| now < ejection.until));
    }
    live.judged.publish(&state, live);
}
