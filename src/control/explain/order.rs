//! The order in which a pool's endpoints would be tried, found by asking the real balancer about a pool at rest.

use crate::config::pool::{Endpoint, Pool};
use crate::policy::balance::{Balancer, Candidates, Draw, Member};
use crate::runtime::compile::compile_balance;

/// The endpoints of `pool` in the order of tries of one request: tier by tier, each pick without those tried before. What
/// has weight 0 is left out; `key` is what a hashing policy goes by. Nothing is in flight and every endpoint counts as usable.
pub(super) fn order<'p>(pool: &'p Pool, key: Option<&[u8]>) -> Vec<&'p Endpoint> {
    let mut tiers: Vec<u8> = pool.endpoints.iter().map(|endpoint| endpoint.tier).collect();
    tiers.sort_unstable();
    tiers.dedup();
    tiers.into_iter().flat_map(|tier| tier_order(pool, tier, key)).collect()
}

fn tier_order<'p>(pool: &'p Pool, tier: u8, key: Option<&[u8]>) -> Vec<&'p Endpoint> {
    let endpoints: Vec<&Endpoint> = pool.endpoints.iter().filter(|endpoint| endpoint.tier == tier).collect();
    let ids: Vec<String> = endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect();
    let weights = endpoints.iter().map(|endpoint| endpoint.weight.get());
    let members: Vec<Member<'_>> = weights.zip(&ids).map(|(weight, id)| Member { weight, id }).collect();
    let balancer = Balancer::new(&compile_balance(pool), &members, None);
    let mut rest = Rest { untried: vec![true; endpoints.len()] };
    let mut order = Vec::new();
    // A fixed number each time: the same question gets the same answer.
    while let Some(picked) = balancer.pick(&rest, &Draw { random: RANDOM, key }) {
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
