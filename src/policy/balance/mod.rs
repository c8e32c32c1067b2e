//! Which endpoint is next? What makes an endpoint pickable (usable, not tried, room left, tier) is the caller's.
//!
//! The map: `round_robin`, `least_requests` and `random` are one policy each, `share` draws by weight for them.
//!
//! All workers share one [`Balancer`] by reference. The one exception to "no shared state in a policy" is the relaxed
//! cursor inside `round_robin`: it makes the sequence exact over all workers, where a cursor for each of them would send
//! their first requests to the same endpoint.

mod least_requests;
mod random;
mod round_robin;
mod share;

use least_requests::LeastRequests;
use random::Random;
use round_robin::RoundRobin;

/// Balancing policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Smooth weighted round robin.
    RoundRobin,
    /// Fewest in flight for its weight.
    LeastRequests,
    /// The better of two random ones.
    Random,
    /// The first that can be picked.
    First,
}

/// What a pick needs to know of the endpoints; the live state that every worker sees.
///
/// Answers may change between two questions: whatever a picked endpoint has become by then is the caller's to check.
pub trait Candidates {
    /// Whether this endpoint may be picked now.
    fn pickable(&self, index: usize) -> bool;
    /// How much it has in flight.
    fn in_flight(&self, index: usize) -> u32;
}

/// Picks endpoints of one pool; made anew when endpoints or weights change.
#[derive(Debug)]
pub struct Balancer {
    weights: Box<[u16]>,
    policy: Policy,
}

#[derive(Debug)]
enum Policy {
    RoundRobin(RoundRobin),
    LeastRequests(LeastRequests),
    Random(Random),
    /// The problem: use as few endpoints as possible, as with licences or machines that sleep when idle. Why this
    /// answer: filling one up to its ceiling before the next is used is that. When wrong: nearly always else, and
    /// without `max_requests`, since then the first takes everything. Weights other than 0 mean nothing here.
    First,
}

impl Balancer {
    /// A balancer over the endpoints whose weights these are, in their order; weight 0 is never picked.
    #[must_use]
    pub fn new(kind: Kind, weights: &[u16]) -> Self {
        let policy = match kind {
            Kind::RoundRobin => Policy::RoundRobin(RoundRobin::new(weights)),
            Kind::LeastRequests => Policy::LeastRequests(LeastRequests::new(weights)),
            Kind::Random => Policy::Random(Random::new(weights)),
            Kind::First => Policy::First,
        };
        Self { weights: weights.into(), policy }
    }

    /// The next endpoint, as an index into the weights; nothing when none is pickable. `random` is any number that
    /// differs from call to call.
    #[must_use]
    pub fn pick<C: Candidates>(&self, candidates: &C, random: u64) -> Option<usize> {
        match &self.policy {
            Policy::RoundRobin(policy) => policy.pick(&self.weights, candidates, random),
            Policy::LeastRequests(policy) => policy.pick(&self.weights, candidates, random),
            Policy::Random(policy) => policy.pick(&self.weights, candidates, random),
            Policy::First => (0..self.weights.len()).find(|&i| self.weights[i] > 0 && candidates.pickable(i)),
        }
    }
}

#[cfg(test)]
mod tests;
