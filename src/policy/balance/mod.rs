//! Which endpoint is next? What makes an endpoint pickable (usable, not tried, room left, tier) is the caller's.
//!
//! The map: `round_robin`, `least_requests`, `random` and `peak_ewma` are one policy each, `share` draws by weight for them,
//! `sequence` makes the turns. `hashing` is what `ring`, `maglev` and `rendezvous` have in common, with `hash` for keys and
//! `bounded` for the load that one endpoint may get.
//!
//! All workers share one [`Balancer`] by reference. The one exception to "no shared state in a policy" is the relaxed
//! cursor inside `round_robin`: it makes the sequence exact over all workers, where a cursor for each of them would send
//! their first requests to the same endpoint.

mod bounded;
mod hash;
mod hashing;
mod least_requests;
mod maglev;
pub mod peak_ewma;
mod random;
pub mod rendezvous;
mod ring;
mod round_robin;
mod sequence;
mod share;

use std::collections::HashMap;

use hashing::Hashing;
use least_requests::LeastRequests;
use peak_ewma::FastestOfTwo;
use random::Random;
use round_robin::RoundRobin;

/// Balancing policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Smooth weighted round robin.
    RoundRobin,
    /// Fewest in flight for its weight.
    LeastRequests,
    /// The faster of two random ones, by latency and load.
    PeakEwma,
    /// The better of two random ones.
    Random,
    /// The owner of the key on nginx's ring.
    RingHash,
    /// The owner of the key in Google's table.
    Maglev,
    /// The highest score for the key.
    Rendezvous,
    /// The first that can be picked.
    First,
}

/// What a balancer does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Its policy.
    pub kind: Kind,
    /// For the hashing policies: how many times its part of all work one endpoint may have in flight before keys pass it
    /// by, at least 1; nothing is no bound.
    pub load_factor: Option<f64>,
}

impl Settings {
    /// A policy without a bound.
    #[must_use]
    pub const fn of(kind: Kind) -> Self {
        Self { kind, load_factor: None }
    }
}

/// An endpoint as a balancer knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member<'a> {
    /// Its share; 0 is never picked.
    pub weight: u16,
    /// What it is known by, to the next balancer and to other proxies: its address as nginx's `server` line has it
    /// (`ip:port`, `[v6]:port`, `name:port`, `unix:path`). Two members with one identity count as one on a ring.
    pub id: &'a str,
}

/// By what one pick is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw<'a> {
    /// Any number that differs from call to call.
    pub random: u64,
    /// What the hashing policies go by, the same at each attempt of a request. Without it they choose by chance.
    pub key: Option<&'a [u8]>,
}

impl Draw<'_> {
    /// Without a key.
    #[must_use]
    pub const fn keyless(random: u64) -> Self {
        Self { random, key: None }
    }
}

/// A weight that is in force as a whole, see [`Candidates::share`].
pub const FULL_SHARE: u32 = 65_536;

/// What a pick needs to know of the endpoints; the live state that every worker sees.
///
/// Answers may change between two questions: whatever a picked endpoint has become by then is the caller's to check.
pub trait Candidates {
    /// Whether this endpoint may be picked now.
    fn pickable(&self, index: usize) -> bool;
    /// How much it has in flight.
    fn in_flight(&self, index: usize) -> u32;
    /// How much of its weight is in force, in parts of which [`FULL_SHARE`] are all of it; less while it starts slowly.
    fn share(&self, _index: usize) -> u32 {
        FULL_SHARE
    }
    /// Whether every share is full, so that none needs to be asked for.
    fn all_full(&self) -> bool {
        true
    }
    /// How long it takes to answer, in microseconds; 0 when that is not known. See [`peak_ewma::PeakEwma::rtt_us`].
    fn rtt_us(&self, _index: usize) -> f32 {
        1.0
    }
}

/// Picks endpoints of one pool; made anew when endpoints or weights change.
#[derive(Debug)]
pub struct Balancer {
    weights: Box<[u16]>,
    /// Hashes of the identities, by which the next balancer knows who has stood where.
    ids: Box<[u64]>,
    policy: Policy,
}

#[derive(Debug)]
enum Policy {
    RoundRobin(RoundRobin),
    LeastRequests(LeastRequests),
    PeakEwma(FastestOfTwo),
    Random(Random),
    Hashing(Hashing),
    /// The problem: use as few endpoints as possible, as with licences or machines that sleep when idle. Why this
    /// answer: filling one up to its ceiling before the next is used is that. When wrong: nearly always else, and
    /// without `max_requests`, since then the first takes everything. Weights other than 0 mean nothing here.
    First,
}

impl Balancer {
    /// A balancer over these endpoints. After a change of endpoints or weights, `previous` is the one before: round robin
    /// goes on where it stands, and tables that would be the same are kept.
    #[must_use]
    pub fn new(settings: &Settings, members: &[Member<'_>], previous: Option<&Self>) -> Self {
        let weights: Box<[u16]> = members.iter().map(|member| member.weight).collect();
        let ids: Box<[u64]> = members.iter().map(|member| hash::hash(member.id.as_bytes())).collect();
        let turns = || match previous.and_then(|previous| Some((previous, previous.turns()?))) {
            Some((previous, turns)) => RoundRobin::resumed(&weights, turns, &previous.credits(turns, &ids)),
            None => RoundRobin::new(&weights),
        };
        let policy = match settings.kind {
            Kind::RoundRobin => Policy::RoundRobin(turns()),
            Kind::LeastRequests => Policy::LeastRequests(LeastRequests::new(&weights, turns)),
            Kind::PeakEwma => Policy::PeakEwma(FastestOfTwo::new(&weights)),
            Kind::Random => Policy::Random(Random::new(&weights)),
            Kind::RingHash | Kind::Maglev | Kind::Rendezvous => {
                let previous = previous.filter(|previous| previous.weights == weights && previous.ids == ids);
                Policy::Hashing(Hashing::new(settings, members, previous.and_then(Self::hashing)))
            }
            Kind::First => Policy::First,
        };
        Self { weights, ids, policy }
    }

    /// The next endpoint, as an index into the members; nothing when none is pickable.
    #[must_use]
    pub fn pick<C: Candidates>(&self, candidates: &C, draw: &Draw<'_>) -> Option<usize> {
        let weights = &self.weights;
        match &self.policy {
            Policy::RoundRobin(policy) => policy.pick(weights, candidates, draw.random),
            Policy::LeastRequests(policy) => policy.pick(weights, candidates, draw.random),
            Policy::PeakEwma(policy) => policy.pick(weights, candidates, draw.random),
            Policy::Random(policy) => policy.pick(weights, candidates, draw.random),
            Policy::Hashing(policy) => policy.pick(weights, &self.ids, candidates, draw),
            Policy::First => (0..weights.len()).find(|&i| weights[i] > 0 && candidates.pickable(i)),
        }
    }

    /// What [`Balancer::pick`] would say after so many more picks, if nothing else changed until then; no turn is taken.
    #[must_use]
    pub fn peek<C: Candidates>(&self, candidates: &C, draw: &Draw<'_>, picks: usize) -> Option<usize> {
        let weights = &self.weights;
        match &self.policy {
            Policy::RoundRobin(turns) => turns.ahead(picks).pick(weights, candidates, draw.random),
            Policy::LeastRequests(LeastRequests::All(ties)) => {
                LeastRequests::All(ties.ahead(picks)).pick(weights, candidates, draw.random)
            }
            // None of the others has a memory.
            _ => self.pick(candidates, draw),
        }
    }

    fn turns(&self) -> Option<&RoundRobin> {
        match &self.policy {
            Policy::RoundRobin(turns) | Policy::LeastRequests(LeastRequests::All(turns)) => Some(turns),
            _ => None,
        }
    }

    fn hashing(&self) -> Option<&Hashing> {
        if let Policy::Hashing(hashing) = &self.policy { Some(hashing) } else { None }
    }

    /// The credits that the endpoints with these identities have in `turns`, which are ours.
    fn credits(&self, turns: &RoundRobin, ids: &[u64]) -> Vec<f64> {
        let credits: HashMap<u64, f64> =
            self.ids.iter().copied().zip(turns.credits(self.ids.len())).collect();
        ids.iter().map(|id| credits.get(id).copied().unwrap_or(0.0)).collect()
    }
}

#[cfg(test)]
mod tests;
