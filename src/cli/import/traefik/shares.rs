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
    let mut rows = Vec::new();
    let mut first: Option<Table> = None;
    let mut shares = Vec::new();
    for (pool, weight) in parts.iter().filter(|(_, weight)| *weight > 0) {
        let plan = services.made(pool);
        let Some(balancer) = plan.and_then(|plan| services.balancers.get(&plan.service)) else { continue };
        match &first {
            None => first = Some(balancer.table.clone()),
            Some(table)
                if table.entries.iter().map(|e| (&e.path, &e.value)).ne(balancer
                    .table
                    .entries
                    .iter()
                    .map(|e| (&e.path, &e.value))) =>
            {
                report.not_possible(
                    at,
                    format!(
                        "endpoints of one pool are spoken to alike: what {pool} says of its own is not kept"
                    ),
                );
            }
            Some(_) => {}
        }
        let count = i64::try_from(balancer.servers.len()).unwrap_or(1).max(1);
        shares.extend(
            balancer.servers.iter().map(|server| (server.address.clone(), *weight, count, server.at)),
        );
    }
    // Each part has its weight, however many servers it has.
    let all: i64 = shares.iter().map(|(_, _, count, _)| *count).fold(1, lcm);
    let most =
        shares.iter().map(|(_, weight, count, _)| weight.saturating_mul(all / count)).max().unwrap_or(1);
    let common =
        shares.iter().map(|(_, weight, count, _)| weight.saturating_mul(all / count)).fold(0, gcd).max(1);
    for (address, weight, count, at) in shares {
        let mut weight = weight.saturating_mul(all / count) / common;
        if most / common > 1000 {
            weight = (i128::from(weight) * 1000 / i128::from(most / common))
                .clamp(1, 1000)
                .try_into()
                .unwrap_or(1);
        }
        let value = Value::inline([("address", Value::text(address)), ("weight", Value::Integer(weight))]);
        rows.push((value, Some(at)));
    }
    let mut table = Table::default();
    table.set("balance", Value::text("round_robin"), None);
    table.set("endpoints", Value::Lines(rows), Some(at));
    table
        .entries
        .extend(first.into_iter().flat_map(|first| first.entries).filter(|entry| entry.path != "balance"));
    pools.push(Block {
        name: own.clone(),
        comments: vec![format!("The services of {name}, each with its share.")],
        table,
    });
    Ok(own)
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn lcm(a: i64, b: i64) -> i64 {
    (a / gcd(a, b).max(1)).saturating_mul(b).clamp(1, 1_000_000)
}
