//! One pool of several with weights, for listeners that lead to one pool.

use super::super::document::{Block, Table, Value};
use super::super::report::{Place, Report};
use super::said::plain_name;
use super::service::{Lost, Services, Target};
use super::source::own_name;

/// The pool of a target; of several with weights one is made.
pub(super) fn pool(
    target: Target,
    name: &str,
    at: Place,
    services: &mut Services<'_, '_>,
    pools: &mut Vec<Block>,
    report: &mut Report,
) -> Result<String, Lost> {
    let parts = match target {
        Target::Pool(pool) => return Ok(pool),
        Target::Split(parts, _) => parts,
        Target::Internal(name) => {
            return Err(Lost::Refused(format!("there is no {name}@internal of this kind")));
        }
    };
    let own = plain_name(own_name(name).unwrap_or(name));
    let own = format!("{own}-weighted");
    if pools.iter().any(|block| block.name == own) {
        return Ok(own);
    }
    let mut first: Option<&Table> = None;
    let mut shares: Vec<Share<'_>> = Vec::new();
    for (pool, weight) in parts.iter().filter(|(_, weight)| *weight > 0) {
        let plan = services.made(pool);
        let Some(balancer) = plan.and_then(|plan| services.balancers.get(&plan.service)) else { continue };
        let same = |a: &Table, b: &Table| {
            a.entries.iter().map(|e| (&e.path, &e.value)).eq(b.entries.iter().map(|e| (&e.path, &e.value)))
        };
        if first.is_some_and(|first| !same(first, &balancer.table)) {
            let what =
                format!("endpoints of one pool are spoken to alike: what {pool} says of its own is not kept");
            report.not_possible(at, what);
        }
        first.get_or_insert(&balancer.table);
        let count = i64::try_from(balancer.servers.len()).unwrap_or(1).max(1);
        let of = balancer.servers.iter();
        shares.extend(of.map(|server| Share {
            address: &server.address,
            weight: *weight,
            count,
            at: server.at,
        }));
    }
    let mut table = Table::default();
    table.set("balance", Value::text("round_robin"), None);
    table.set("endpoints", Value::Lines(rows(&shares)), Some(at));
    let rest = first.into_iter().flat_map(|first| &first.entries).filter(|entry| entry.path != "balance");
    table.entries.extend(rest.cloned());
    let comments = vec![format!("The services of {name}, each with its share.")];
    pools.push(Block { name: own.clone(), comments, table });
    Ok(own)
}

/// A server of one of several services.
struct Share<'b> {
    address: &'b str,
    /// The weight of the service.
    weight: i64,
    /// How many servers it has.
    count: i64,
    at: Place,
}

/// Endpoints with weights: each service has its own, however many servers it has.
fn rows(shares: &[Share<'_>]) -> Vec<(Value, Option<Place>)> {
    let all: i64 = shares.iter().map(|share| share.count).fold(1, lcm);
    let weight = |share: &Share<'_>| share.weight.saturating_mul((all / share.count).max(1));
    let mut weights: Vec<(&str, i64, Place)> = Vec::new();
    for share in shares {
        match weights.iter_mut().find(|(address, ..)| *address == share.address) {
            Some((_, sum, _)) => *sum = sum.saturating_add(weight(share)),
            None => weights.push((share.address, weight(share), share.at)),
        }
    }
    let common = weights.iter().map(|(_, weight, _)| *weight).fold(0, gcd).max(1);
    let most = weights.iter().map(|(_, weight, _)| *weight / common).max().unwrap_or(1);
    let row = |(address, weight, at): (&str, i64, Place)| {
        let mut weight = weight / common;
        if most > WEIGHT_MAX {
            let fits = i128::from(weight) * i128::from(WEIGHT_MAX) / i128::from(most);
            weight = i64::try_from(fits).unwrap_or(1).clamp(1, WEIGHT_MAX);
        }
        let pairs = [("address", Value::text(address)), ("weight", Value::Integer(weight))];
        (Value::inline(pairs), Some(at))
    };
    weights.into_iter().map(row).collect()
}

/// The largest weight.
const WEIGHT_MAX: i64 = 1000;

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn lcm(a: i64, b: i64) -> i64 {
    (a / gcd(a, b).max(1)).saturating_mul(b).clamp(1, 1_000_000)
}
