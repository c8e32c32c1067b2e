//! Routes of HTTP and gRPC: which listeners they come to, with which hosts, and in which order their matches are asked.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::super::super::document::{Table, Value};
use super::super::super::region::{Region, narrower_host};
use super::super::super::report::{Place, Report};
use super::super::super::tree::Node;
use super::super::draft::{Draft, respond};
use super::super::object::Object;
use super::super::service::port_number;
use super::backend::{self, Around};
use super::entry::{Entry as Listener, GROUP, Refusal, wrong_host};
use super::filter::Filters;
use super::matching::{Match, Rank, of_rule};

/// A route at one listener.
#[derive(Debug)]
pub(super) struct Attached {
    /// The number of the listener.
    pub(super) entry: usize,
    /// The hosts that both have, each with the route's own; none where neither names one.
    pub(super) hosts: Vec<(String, String)>,
}

/// How a host is told apart: exact, then longer wildcards, then none.
type HostRank = (u8, Reverse<usize>);

fn host_rank(host: &str) -> HostRank {
    match host.strip_prefix('*') {
        _ if host.is_empty() => (2, Reverse(0)),
        Some(end) => (1, Reverse(end.len())),
        None => (0, Reverse(0)),
    }
}

/// Where a draft stands among those of its listener.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Order {
    listener: HostRank,
    /// Which listener, so that what fills it up stays with it.
    listener_host: String,
    /// Whether it fills up what nothing takes.
    last: bool,
    host: HostRank,
    rank: Rank,
    /// What is not said is taken for old, in the order of the files.
    born: String,
    name: String,
    /// The route's own place where nothing else tells two apart.
    at: Option<Place>,
    number: usize,
}

/// The drafts of all routes.
#[derive(Debug, Default)]
pub(super) struct Drafts(Vec<(Order, Draft)>);

/// The listeners that a route is attached to, as its parents name them.
pub(super) fn attach(
    route: &Object<'_>,
    entries: &[Listener<'_, '_>],
    around: &mut Around<'_, '_, '_>,
) -> Vec<Attached> {
    let mut out: Vec<Attached> = Vec::new();
    let parents = route.spec(&["parentRefs"]).map_or(&[][..], Node::items);
    if parents.is_empty() {
        around.report.wrong(route.at, "it has no parentRefs: it belongs to no Gateway, and serves nobody");
    }
    let own = hosts(route, around.report);
    for parent in parents {
        let text = |name: &str| parent.get(name).and_then(Node::text);
        let at = parent.get("name").map_or(parent.at, |name| name.at);
        let (group, kind) = (text("group").unwrap_or(GROUP), text("kind").unwrap_or("Gateway"));
        if (group, kind) != (GROUP, "Gateway") {
            around.report.not_possible(at, format!("a {kind} as a parent is for traffic inside of the cluster (GAMMA): here a route belongs to a Gateway"));
            continue;
        }
        let name = text("name").unwrap_or("");
        let namespace = text("namespace").unwrap_or(route.namespace);
        let of = entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| entry.gateway.name == name && entry.gateway.namespace == namespace);
        let section = text("sectionName");
        let port = parent.get("port").map(port_number);
        let of = of.filter(|(_, entry)| {
            section.is_none_or(|section| section == entry.name)
                && port.is_none_or(|port| port == Some(entry.port))
        });
        let found: Vec<(usize, &Listener<'_, '_>)> = of.collect();
        if found.is_empty() {
            around.report.wrong(at, format!("there is no Gateway {namespace}/{name} with such a listener: the route does not belong to it"));
        }
        let (mut taken, mut refusals) = (false, Vec::new());
        for (number, entry) in found {
            if let Err(why) = entry.allows(route.kind, route.namespace, around.cluster) {
                refusals.push(why);
                continue;
            }
            let hosts = common(&own, entry, entries);
            match hosts {
                Some(hosts) => {
                    taken = true;
                    if !out.iter().any(|known| known.entry == number) {
                        out.push(Attached { entry: number, hosts });
                    }
                }
                None => refusals.push(Refusal {
                    why: format!("it has no host in common with the listener {}", entry.name),
                    unsure: false,
                }),
            }
        }
        tell_refusals(&refusals, !taken || section.is_some(), at, around.report);
    }
    lost_hosts(route, &own, &out, around.report);
    out
}

/// Says why a route does not come to listeners: of those that it may come to without a name the others are not told.
fn tell_refusals(refusals: &[Refusal], all: bool, at: Place, report: &mut Report) {
    let unsure = refusals.iter().find(|refusal| refusal.unsure);
    match unsure.or_else(|| refusals.first().filter(|_| all)) {
        Some(Refusal { why, unsure: true }) => {
            report.not_possible(at, format!("{why}: the route does not come to it here"));
        }
        Some(Refusal { why, .. }) => report.wrong(at, format!("{why}: the route does not come to it")),
        None => {}
    }
}

/// The hosts of a route that are valid.
fn hosts(route: &Object<'_>, report: &mut Report) -> Option<Vec<(String, Place)>> {
    let nodes = route.spec(&["hostnames"]).map_or(&[][..], Node::items);
    let mut out = Vec::new();
    for node in nodes {
        let host = node.text().unwrap_or("").to_ascii_lowercase();
        match wrong_host(&host) {
            Some(why) => report.wrong(node.at, format!("{why}: Kubernetes refuses it. It is left out")),
            None if host.is_empty() => report.wrong(node.at, "it is no name of a host: it is left out"),
            None => out.push((host, node.at)),
        }
    }
    (!nodes.is_empty()).then_some(out)
}

/// Says of hosts that no listener has.
fn lost_hosts(route: &Object<'_>, own: &Option<Vec<(String, Place)>>, out: &[Attached], report: &mut Report) {
    for (host, at) in own.iter().flatten() {
        let served = out.iter().any(|one| one.hosts.iter().any(|(_, of)| of == host));
        if !served {
            report.wrong(
                *at,
                format!("no listener that the {} belongs to has this host: it is not served", route.kind),
            );
        }
    }
}

/// The hosts that a route and a listener have in common; nothing when there are none.
fn common(
    own: &Option<Vec<(String, Place)>>,
    entry: &Listener<'_, '_>,
    entries: &[Listener<'_, '_>],
) -> Option<Vec<(String, String)>> {
    let Some(own) = own else { return Some(vec![(entry.host.clone(), String::new())]) };
    let mut out: Vec<(String, String)> = Vec::new();
    for (host, _) in own {
        let both = if entry.host.is_empty() { Some(host.clone()) } else { narrower_host(&entry.host, host) };
        let Some(both) = both else { continue };
        // A listener that names it more closely has it for itself.
        let closer = entries.iter().any(|other| {
            other.port == entry.port
                && std::ptr::eq(other.gateway, entry.gateway)
                && !other.host.is_empty()
                && host_rank(&other.host) < host_rank(&entry.host)
                && narrower_host(&other.host, &both).as_deref() == Some(both.as_str())
        });
        if !closer && !out.iter().any(|(known, _)| *known == both) {
            out.push((both, host.clone()));
        }
    }
    (!out.is_empty()).then_some(out)
}

/// Hosts of one kind in one route: exact ones together, wildcards each alone.
fn groups(hosts: &[(String, String)]) -> Vec<(Vec<String>, String)> {
    let mut out: Vec<(Vec<String>, String)> = Vec::new();
    for (host, own) in hosts {
        let exact = |host: &str| !host.is_empty() && !host.starts_with('*');
        let same = out.iter_mut().find(|(known, of)| {
            exact(host) && exact(own) && exact(of) && known.first().is_some_and(|known| exact(known))
        });
        match same {
            Some((known, _)) => known.push(host.clone()),
            None => out.push((vec![host.clone()], own.clone())),
        }
    }
    out
}

impl Drafts {
    /// Takes in the rules of a route at all of its listeners. `doors` has the door of each listener.
    pub(super) fn take(
        &mut self,
        route: &Object<'_>,
        attached: &[Attached],
        entries: &[Listener<'_, '_>],
        doors: &[Option<usize>],
        around: &mut Around<'_, '_, '_>,
    ) {
        let grpc = route.kind == "GRPCRoute";
        let rules = route.spec(&["rules"]).map_or(&[][..], Node::items);
        if rules.is_empty() && !grpc {
            around.report.wrong(route.at, "it has no rule: Kubernetes refuses it, and nothing is served");
        }
        let mut number = 0;
        for rule in rules {
            let filters = Filters::read(rule.get("filters").map_or(&[][..], Node::items), around.report);
            let matches = of_rule(rule, grpc, around.report);
            if filters.redirects()
                && let Some((key, list)) = rule.entry("backendRefs")
                && !list.is_empty()
            {
                around
                    .report
                    .wrong(key.at, "a redirect has no backends: Kubernetes refuses it. They get nothing");
            }
            for one in matches {
                number += 1;
                for at in attached {
                    let (Some(entry), Some(Some(door))) = (entries.get(at.entry), doors.get(at.entry)) else {
                        continue;
                    };
                    for (hosts, own) in groups(&at.hosts) {
                        let draft = Self::draft(route, rule, &filters, &one, (entry, *door), &hosts, around);
                        let order = Order {
                            listener: host_rank(&entry.host),
                            listener_host: entry.host.clone(),
                            last: false,
                            host: host_rank(&own),
                            rank: one.rank,
                            born: route.born().unwrap_or("").to_owned(),
                            name: if route.born().is_none() {
                                String::new()
                            } else {
                                format!("{}/{}", route.namespace, route.name)
                            },
                            at: Some(route.at),
                            number,
                        };
                        self.0.push((order, draft));
                    }
                }
            }
        }
    }

    fn draft(
        route: &Object<'_>,
        rule: &Node,
        filters: &Filters<'_>,
        one: &Match,
        (entry, door): (&Listener<'_, '_>, usize),
        hosts: &[String],
        around: &mut Around<'_, '_, '_>,
    ) -> Draft {
        let named = hosts.iter().all(|host| !host.is_empty());
        let mut region = one.region.clone();
        region.hosts = named.then(|| hosts.to_vec());
        region.doors = Some(vec![door]);
        let mut table = Table::default();
        if let Some((answer, path)) = filters.answer(one, entry, around.report) {
            region.path = path;
            filters.write(one, &mut table, around.report);
            table.entries.retain(|entry| entry.path == "response_headers");
            table.entries.splice(0..0, answer.entries);
        } else {
            backend::write(rule, route, route.kind == "GRPCRoute", around, &mut table);
            let nobody = table.get("respond").is_some();
            filters.write(one, &mut table, around.report);
            backend::write_times(rule, &mut table, around.report);
            mirror(route, filters, around, &mut table);
            if nobody {
                table.entries.retain(|entry| ["respond", "response_headers"].contains(&entry.path.as_str()));
            }
        }
        if let (Some(at), None) = (entry.closed, table.get("respond")) {
            table.set("maintenance", Value::Bool(true), Some(at));
        }
        let line = super::super::super::document::place(route.at, around.report);
        let own = rule.get("name").and_then(Node::text).map(|name| format!("-{name}")).unwrap_or_default();
        Draft {
            name: format!("{}{own}", route.name),
            comment: Some(format!("{} ({line})", route.title())),
            at: Some(one.at),
            region,
            table,
        }
    }

    /// What is left of a listener goes to nobody, and not to a wider one.
    pub(super) fn fill_up(&mut self, entries: &[Listener<'_, '_>], doors: &[Option<usize>]) {
        for (entry, door) in entries.iter().zip(doors) {
            let Some(door) = *door else { continue };
            let wider =
                |(order, draft): &(Order, Draft)| {
                    draft.region.doors.as_ref().is_some_and(|doors| doors.contains(&door))
                        && order.listener > host_rank(&entry.host)
                        && draft.region.hosts.iter().flatten().all(|host| {
                            narrower_host(host, &entry.host).as_deref() == Some(entry.host.as_str())
                        })
                };
            let whole = |(order, draft): &(Order, Draft)| {
                let region = &draft.region;
                order.listener_host == entry.host
                    && region.doors.as_ref().is_some_and(|doors| doors.contains(&door))
                    && region.path.is_none()
                    && region.methods.is_none()
                    && region.values.is_empty()
                    && region.hosts.as_ref().is_none_or(|hosts| hosts.contains(&entry.host))
            };
            if entry.host.is_empty() || !self.0.iter().any(wider) || self.0.iter().any(whole) {
                continue;
            }
            let region = Region {
                hosts: Some(vec![entry.host.clone()]),
                doors: Some(vec![door]),
                ..Region::default()
            };
            let order = Order {
                listener: host_rank(&entry.host),
                listener_host: entry.host.clone(),
                last: true,
                host: (2, Reverse(0)),
                rank: (9, Reverse(0), true, Reverse(0), Reverse(0)),
                born: String::new(),
                name: String::new(),
                at: None,
                number: 0,
            };
            let draft = Draft {
                name: format!("{}-{}-rest", entry.gateway.name, entry.name),
                comment: Some(format!(
                    "What no route of the listener {} takes does not come to a wider one.",
                    entry.name
                )),
                at: None,
                region,
                table: respond(404, Some(entry.at)),
            };
            self.0.push((order, draft));
        }
    }

    /// All of them, most wanted first. What several listeners have alike is one route.
    pub(super) fn finish(mut self, report: &mut Report) -> Vec<Draft> {
        self.0.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut out: Vec<Draft> = Vec::new();
        let mut seen: HashMap<String, Option<Place>> = HashMap::new();
        for (_, draft) in self.0 {
            // Of two for the same requests the second is never asked.
            match seen.entry(format!("{:?}", draft.region)) {
                Entry::Occupied(first) => {
                    if let (Some(at), Some(first)) = (draft.at, first.get()) {
                        report.approximated(
                            at,
                            format!("at one listener at least line {} takes all of it first", first.line),
                        );
                    }
                    continue;
                }
                Entry::Vacant(place) => drop(place.insert(draft.at)),
            }
            match out.last_mut().filter(|last| alike(last, &draft)) {
                Some(last) => {
                    let known = last.region.doors.get_or_insert_default();
                    for door in draft.region.doors.into_iter().flatten() {
                        if !known.contains(&door) {
                            known.push(door);
                        }
                    }
                }
                None => out.push(draft),
            }
        }
        out
    }
}

/// Whether two differ in their listeners alone.
fn alike(a: &Draft, b: &Draft) -> bool {
    let region = Region { doors: a.region.doors.clone(), ..b.region.clone() };
    a.name == b.name && a.table == b.table && a.region == region
}

/// `mirror` of a route.
fn mirror(route: &Object<'_>, filters: &Filters<'_>, around: &mut Around<'_, '_, '_>, table: &mut Table) {
    let Some(node) = filters.mirror else { return };
    let Some(reference) = node.get("backendRef") else {
        return around.report.wrong(node.at, "it does not say who gets the copies");
    };
    let Some((to, at)) = backend::service(reference, route, false, around.cluster, around.report) else {
        return;
    };
    let share = Filters::share(node, around.report);
    let grpc = route.kind == "GRPCRoute";
    match backend::pool(&backend::Share { to, weight: 1, at }, grpc, &None, around) {
        Ok(pool) => {
            let mut pairs = vec![("pool", Value::text(pool))];
            if share < 100 {
                pairs.push(("share", Value::text(format!("{share}%"))));
            }
            table.set("mirror", Value::inline(pairs), Some(at));
        }
        Err(why) => around.report.wrong(at, format!("{why}: nobody gets copies")),
    }
}
