//! The order in which a pool's endpoints would be tried, found by asking the real balancer about a pool at rest.

use crate::config::pool::{Balance, Endpoint, Pool};
use crate::policy::balance::{Balancer, Candidates, Draw, Kind, Member, Settings};

/// The endpoints of `pool` in the order of tries of one request: tier by tier, each pick without those tried before. What
/// has weight 0 is left out. Nothing is in flight and every endpoint counts as usable.
pub(super) fn order(pool: &Pool) -> Vec<&Endpoint> {
    let mut tiers: Vec<u8> = pool.endpoints.iter().map(|endpoint| endpoint.tier).collect();
    tiers.sort_unstable();
    tiers.dedup();
    tiers.into_iter().flat_map(|tier| tier_order(pool, tier)).collect()
}

fn tier_order(pool: &Pool, tier: u8) -> Vec<&Endpoint> {
    let endpoints: Vec<&Endpoint> = pool.endpoints.iter().filter(|endpoint| endpoint.tier == tier).collect();
    let ids: Vec<String> = endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect();
    let weights = endpoints.iter().map(|endpoint| endpoint.weight.get());
    let members: Vec<Member<'_>> = weights.zip(&ids).map(|(weight, id)| Member { weight, id }).collect();
    let balancer = Balancer::new(&Settings::of(kind(pool.balance)), &members, None);
    let mut rest = Rest { untried: vec![true; endpoints.len()] };
    let mut order = Vec::new();
    // A fixed number each time: the same question gets the same answer.
    while let Some(picked) = balancer.pick(&rest, &Draw::keyless(RANDOM)) {
        let Some(untried) = rest.untried.get_mut(picked).filter(|untried| **untried) else { break };
        *untried = false;
        order.extend(endpoints.get(picked));
    }
    order
}

/// Any number does.
const RANDOM: u64 = 0;

/// A pool at rest of which some have been tried.
struct Rest {
    untried: Vec<bool>,
}

impl Candidates for Rest {
    fn pickable(&self, index: usize) -> bool {
        self.untried.get(index).copied().unwrap_or(false)
    }
    fn in_flight(&self, _index: usize) -> u32 {
        0
    }
}

fn kind(balance: Balance) -> Kind {
    match balance {
        Balance::RoundRobin => Kind::RoundRobin,
        Balance::LeastRequests => Kind::LeastRequests,
        Balance::PeakEwma => Kind::PeakEwma,
        Balance::Random => Kind::Random,
        Balance::RingHash => Kind::RingHash,
        Balance::Maglev => Kind::Maglev,
        Balance::Rendezvous => Kind::Rendezvous,
        Balance::First => Kind::First,
    }
}
