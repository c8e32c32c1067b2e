//! Routes without HTTP: what is relayed by port, or by the name that a TLS client asks for.

use super::super::super::document::{Block, Table, Value};
use super::super::super::report::{Place, Report};
use super::super::super::tree::Node;
use super::super::object::Object;
use super::super::service::Endpoint;
use super::backend::{Around, Share, shares};

/// A relayed name or port, before it is written.
#[derive(Debug)]
pub(super) struct Stream {
    /// The name of its route.
    pub(super) name: String,
    pub(super) hosts: Vec<String>,
    pub(super) pool: String,
    pub(super) at: Place,
}

/// The pool of the rules of a route; nothing where it leads nowhere.
pub(super) fn pool(route: &Object<'_>, udp: bool, around: &mut Around<'_, '_, '_>) -> Option<String> {
    let rules = route.spec(&["rules"]).map_or(&[][..], Node::items);
    let [rule, rest @ ..] = rules else {
        around.report.wrong(route.at, "it has no rule: nothing is relayed");
        return None;
    };
    for rule in rest {
        let at = super::matching::first_line(rule);
        around.report.wrong(at, "such a route has one rule: Kubernetes refuses more. The first one counts");
    }
    let (shares, lost) = shares(rule, route, udp, around.cluster, around.report);
    let used: Vec<&Share> = shares.iter().filter(|share| share.weight > 0).collect();
    if lost {
        around.report.approximated(
            route.at,
            "connections that a backend which cannot be had would get are refused: here the others have them",
        );
    }
    if let [one] = used.as_slice() {
        let made = around.pools.of_service(&one.to, "stream", one.at, around.report, |made, _| {
            made.table.set("balance", Value::text("round_robin"), None);
        });
        return made
            .map_err(|why| around.report.wrong(one.at, format!("{why}: connections are refused")))
            .ok();
    }
    weighted(route, &used, around)
}

/// Several Services as one pool: endpoints have the weights of theirs.
fn weighted(route: &Object<'_>, used: &[&Share], around: &mut Around<'_, '_, '_>) -> Option<String> {
    let mut lists: Vec<(Vec<Endpoint>, i64)> = Vec::new();
    for share in used {
        match around.pools.endpoints(&share.to, share.at, around.report) {
            Ok(list) => lists.push((list, share.weight)),
            Err(why) => around.report.wrong(share.at, format!("{why}: its share goes to the others")),
        }
    }
    let first = used.first()?;
    // A Service's weight is that of all of its endpoints together.
    let share = |weight: i64, count: usize| {
        let count = i64::try_from(count.max(1)).unwrap_or(1);
        weight.saturating_mul(1000) / count
    };
    let most = lists.iter().map(|(list, weight)| share(*weight, list.len())).max()?.max(1);
    let least = lists.iter().map(|(list, weight)| share(*weight, list.len())).min()?.max(1);
    let scale = |own: i64| {
        let plain = if own % least == 0 && most / least <= 1000 {
            own / least
        } else {
            own.saturating_mul(1000) / most
        };
        u16::try_from(plain.clamp(1, 1000)).unwrap_or(1)
    };
    let mut all: Vec<(Endpoint, u16)> = lists
        .iter()
        .flat_map(|(list, weight)| {
            let own = scale(share(*weight, list.len()));
            list.iter().map(move |endpoint| (endpoint.clone(), own))
        })
        .collect();
    let mut seen = std::collections::HashSet::new();
    all.retain(|(endpoint, _)| seen.insert(endpoint.address.clone()));
    if all.is_empty() {
        return None;
    }
    around.report.approximated(first.at, "Services with weights are one pool, whose endpoints have them: a name of several addresses has its weight for each");
    let name = format!("{}-{}", route.namespace, route.name);
    let (name, table) = around.pools.weighted(&name, &all, first.at);
    table.set("balance", Value::text("round_robin"), None);
    Some(name)
}

/// The route of a name.
pub(super) fn write(stream: &Stream, listener: &str, name: String) -> Block {
    let mut table = Table::default();
    table.set("name", Value::text(name), None);
    table.set("listeners", Value::texts([listener]), None);
    table.set("sni", Value::one_or_list(&stream.hosts), Some(stream.at));
    table.set("pool", Value::text(&stream.pool), None);
    Block { name: String::new(), comments: Vec::new(), table }
}

/// Says of a route that it comes to nothing.
pub(super) fn lost(route: &Object<'_>, report: &mut Report) {
    report.wrong(route.at, "it leads nowhere: connections are refused, and nothing is made of it");
}
