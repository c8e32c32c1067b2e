//! Entry points with routers of HTTP, as listeners with their routes.

use std::collections::HashMap;

use super::super::document::{Block, Document, Table, Value, place};
use super::super::order::priorities;
use super::super::region::{Door, PathTest, Region, literal_start};
use super::super::report::{Place, Report};
use super::branch::branch;
use super::caption::{comments, names};
use super::entry::{Entry, RouterTls};
use super::limit;
use super::matcher::{Term, Test};
use super::middleware::{Around, Inlet, Read, apply};
use super::redirect;
use super::route::{self, Draft};
use super::router::{Router, Work};
use super::service::{Lost, Services, Target};
use super::source::{Parts, own_name};
use super::statics;
use super::tls::{Client, Tls};
use super::treatment::{Answer, Treatment};

/// An entry point that serves HTTP.
#[derive(Debug)]
struct Gate {
    /// Which of the entry points.
    entry: usize,
    listener: String,
    inlet: Inlet,
    /// Routers that are asked, by falling priority.
    routers: Vec<usize>,
    /// The TLS options that hold there.
    options: String,
}

/// What becomes of the requests of a router.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Ready {
    pub(super) treatment: Treatment,
    /// Where they go, unless they are answered.
    pub(super) target: Option<Target>,
    pub(super) mirror: Option<(Value, Place)>,
    pub(super) service: Option<Place>,
    /// The answer where no middleware has one.
    pub(super) last: Option<Answer>,
    /// Why nobody is let in.
    pub(super) why: Option<String>,
}

/// What all parts of the work need.
pub(super) struct Site<'a, 's> {
    pub(super) parts: &'a Parts<'s>,
    /// What a file that is named says.
    pub(super) file: Read<'a>,
    pub(super) entries: &'a [Entry],
    pub(super) tls: &'a Tls,
    pub(super) services: Services<'s, 'a>,
    /// Pools of services that are asked about requests.
    pub(super) pools: Vec<Block>,
    /// Breakers of pools.
    pub(super) breakers: HashMap<String, Vec<Option<(Table, Place)>>>,
    pub(super) report: &'a mut Report,
}

/// Writes listeners and routes for all entry points with routers of HTTP.
pub(super) fn write(
    site: &mut Site<'_, '_>,
    routers: &[Router],
    here: &[usize],
    names: &[String],
    document: &mut Document,
) {
    let defaults = super::router::defaults(site.entries);
    let mut gates = Vec::new();
    for entry in here {
        let Some(of) = site.entries.get(*entry) else { continue };
        let on = |router: &Router| router.entries.as_ref().unwrap_or(&defaults).contains(&of.name);
        let routers: Vec<usize> = (0..routers.len()).filter(|at| routers.get(*at).is_some_and(on)).collect();
        gates.push(Gate {
            entry: *entry,
            listener: names.get(*entry).cloned().unwrap_or_default(),
            inlet: Inlet { trusts: of.trusted.clone(), believes: of.believes, ..Inlet::default() },
            routers,
            options: "default".to_owned(),
        });
    }
    for gate in &mut gates {
        document.listeners.push(listener(gate, site, routers));
    }
    let served: std::collections::HashSet<usize> =
        gates.iter().flat_map(|gate| gate.routers.iter().copied()).collect();
    for (at, router) in routers.iter().enumerate() {
        if !served.contains(&at) && router.entries.is_none() {
            site.report.not_possible(
                router.at,
                "no listener serves its kind of clients: give it an entry point of its own",
            );
        }
    }
    let mut all = Vec::new();
    for gate in &gates {
        all.push(of_gate(gate, site, routers));
    }
    let joined = route::join(all);
    let doors: Vec<Door> = gates
        .iter()
        .map(|gate| Door { listener: gate.listener.clone(), tls: gate.inlet.tls, ports: Vec::new() })
        .collect();
    let blocks = routes(joined, &doors, site, routers);
    speak_http2(&gates, &blocks, site, document);
    document.routes.extend(blocks);
}

/// The listener of an entry point; says what its routers have of TLS.
fn listener(gate: &mut Gate, site: &mut Site<'_, '_>, routers: &[Router]) -> Block {
    let mut table = Table::default();
    let Some(entry) = site.entries.get(gate.entry) else { return Block::default() };
    table.entries.extend(entry.table.entries.iter().cloned());
    let of = |at: &usize| routers.get(*at);
    let secure = |router: &Router| {
        let mut own = router.tls.clone().or_else(|| entry.tls.clone())?;
        if own.domains.is_empty() {
            own.domains = router.hosts();
        }
        Some(own).filter(|_| matches!(router.work, Work::Service(..)))
    };
    gate.inlet.tls = is_secure(gate, entry, site.entries, routers);
    one_kind(gate, entry, routers, site.report);
    if gate.inlet.tls {
        let all: Vec<RouterTls> = gate.routers.iter().filter_map(of).filter_map(secure).collect();
        let all = if all.is_empty() { entry.tls.clone().into_iter().collect() } else { all };
        let with: Vec<&RouterTls> = all.iter().collect();
        gate.options = site.tls.write(&gate.listener, &with, entry.tls.as_ref(), &mut table, site.report);
    }
    if gate.inlet.believes {
        let names = gate.routers.iter().filter_map(of).flat_map(|router| &router.middlewares);
        let names: Vec<&str> = names.chain(&entry.middlewares).map(|(name, _)| name.as_str()).collect();
        let depth = depths(&names, site.parts);
        gate.inlet.hops = depth.map(|(depth, _)| depth);
        if let Some((depth, at)) = depth {
            table.set("trusted_hops", Value::Integer(depth.clamp(1, 32)), Some(at));
        }
    }
    let comments = entry.at.map(|at| format!("Entry point {} ({})", entry.name, place(at, site.report)));
    Block { name: gate.listener.clone(), comments: comments.into_iter().collect(), table }
}

/// Whether a listener has TLS. Traefik tells clients with TLS from those without on one port; a listener has one kind.
fn is_secure(gate: &Gate, entry: &Entry, entries: &[Entry], routers: &[Router]) -> bool {
    if entry.tls.is_some() {
        return true;
    }
    let of = gate.routers.iter().filter_map(|at| routers.get(*at));
    let of: Vec<&Router> = of.filter(|router| matches!(router.work, Work::Service(..))).collect();
    let any = |named: bool, tls: bool| {
        of.iter().any(|router| router.entries.is_some() == named && router.tls.is_some() == tls)
    };
    if any(true, true) {
        return true;
    }
    // Routers that name no entry point are on all of them, also where their kind of client is not expected.
    if entry.redirect.is_some() || any(true, false) || !any(false, true) {
        return false;
    }
    let name = entry.name.to_ascii_lowercase();
    let expected = ["secure", "https", "tls", "ssl"].iter().any(|word| name.contains(word));
    let alone = super::router::defaults(entries).len() == 1 && !any(false, false);
    alone || expected || [443, 8443].contains(&entry.port)
}

/// Leaves out the routers of the other kind.
fn one_kind(gate: &mut Gate, entry: &Entry, routers: &[Router], report: &mut Report) {
    let tls = gate.inlet.tls;
    let (own, other) = if tls { ("by TLS", "without") } else { ("without TLS", "by it") };
    let what = format!("{} serves clients {own}, and this router those {other}", entry.name);
    gate.routers.retain(|at| {
        let Some(router) = routers.get(*at) else { return false };
        let stays = match &router.work {
            Work::Service(..) => tls == (router.tls.is_some() || entry.tls.is_some()),
            Work::Redirect { .. } => !tls,
            Work::Ping | Work::Refuse => true,
        };
        match (&router.work, &router.entries) {
            _ if stays => {}
            (Work::Service(..), Some(_)) => {
                report.not_possible(router.at, format!("{what}: give it an entry point of its own"));
            }
            _ => report.approximated(router.at, format!("{what}, and is left out there")),
        }
        stays
    });
}

/// The first depth that the middlewares of those names count by.
fn depths(names: &[&str], parts: &Parts<'_>) -> Option<(i64, Place)> {
    let mut left: Vec<(String, usize)> = names.iter().map(|name| ((*name).to_owned(), 0)).collect();
    let mut seen = std::collections::HashSet::new();
    while let Some((name, depth)) = left.pop() {
        let Ok(own) = own_name(&name) else { continue };
        let Some(element) = parts.of("http", "middlewares").get(own) else { continue };
        if !seen.insert(own.to_owned()) {
            continue;
        }
        for (key, below) in element.node.pairs() {
            if key.text.eq_ignore_ascii_case("chain") && depth < 16 {
                let list = below.pairs().iter().flat_map(|(_, list)| list.items());
                left.extend(list.filter_map(|item| Some((item.text()?.to_owned(), depth + 1))));
            }
            let criteria =
                below.pairs().iter().filter(|(key, _)| key.text.eq_ignore_ascii_case("sourceCriterion"));
            let inside = criteria.flat_map(|(_, node)| node.pairs());
            for (key, node) in below.pairs().iter().chain(inside) {
                if !key.text.eq_ignore_ascii_case("ipStrategy") {
                    continue;
                }
                let found = node.pairs().iter().find(|(key, _)| key.text.eq_ignore_ascii_case("depth"));
                if let Some((key, node)) = found
                    && let Some(depth) = node.as_i64().filter(|depth| *depth > 0)
                {
                    return Some((depth, key.at));
                }
            }
        }
    }
    None
}

/// The drafts of an entry point, each with what becomes of its requests.
fn of_gate(gate: &Gate, site: &mut Site<'_, '_>, routers: &[Router]) -> Vec<(Draft, Ready)> {
    let mut ready: HashMap<usize, Ready> = HashMap::new();
    let mut here = Vec::new();
    for at in &gate.routers {
        let Some(router) = routers.get(*at) else { continue };
        match prepare(router, gate, site) {
            Ok(of) => {
                here.push((*at, terms(router, gate, site.report)));
                ready.insert(*at, of);
            }
            Err(why) => site.report.wrong(router.at, format!("Traefik does not make it: {why}")),
        }
    }
    let mut out = Vec::new();
    for draft in route::drafts(&here) {
        let of = draft.router.and_then(|at| ready.get(&at).cloned());
        match (of, &draft.unsaid) {
            (Some(of), None) => branch(&draft, of, &mut out, site.report),
            (Some(of), Some(why)) => {
                let at = draft.router.and_then(|at| routers.get(at)).map(|router| router.rule_at);
                if let Some(at) = at {
                    site.report.not_possible(at, format!("{why}: what the rest of the rule takes gets 503"));
                }
                let why = Some(why.clone());
                out.push((draft, Ready { why, service: of.service, ..closed(503, at) }));
            }
            (None, _) => out.push((draft, closed(404, None))),
        }
    }
    out
}

/// Nobody is let in.
fn closed(status: i64, at: Option<Place>) -> Ready {
    let end = Answer::Respond { status, body: String::new(), at };
    let treatment = Treatment { end: Some(end), ..Treatment::default() };
    Ready { treatment, ..Ready::default() }
}

/// What becomes of the requests of a router that come to an entry point.
///
/// # Errors
/// Why Traefik has no such router.
fn prepare(router: &Router, gate: &Gate, site: &mut Site<'_, '_>) -> Result<Ready, String> {
    let mut out = Ready::default();
    let entry = site.entries.get(gate.entry);
    let (name, at) = match &router.work {
        Work::Refuse => {
            let (body, at) = (String::new(), Some(router.at));
            out.treatment.end = Some(Answer::Respond { status: 400, body, at });
            return Ok(out);
        }
        Work::Ping | Work::Redirect { .. } => {
            let list = entry.map_or(&[][..], |entry| &entry.middlewares);
            return own_answer(router, list, gate, site);
        }
        Work::Service(name, at) => (name.clone(), *at),
    };
    let list: Vec<(String, Place)> =
        entry.iter().flat_map(|entry| &entry.middlewares).chain(&router.middlewares).cloned().collect();
    let found = service(&name, at, router, site, &mut out);
    let refused = matches!(found, Err(Lost::Refused(_)));
    let applied = {
        let mut around = around(router, gate, site);
        apply(&list, &mut around, &mut out.treatment)
    };
    let of_service = found.and_then(|middlewares| {
        let mut around = around(router, gate, site);
        apply(&middlewares, &mut around, &mut out.treatment)
    });
    if refused && let Err(Lost::Refused(why)) = of_service {
        site.report.wrong(at, why.clone());
        return Err(why);
    }
    for lost in
        [applied.err(), of_service.err(), asks_for_certificates(router, gate, site)].into_iter().flatten()
    {
        match lost {
            Lost::Refused(why) => return Err(why),
            Lost::Unsaid(why) => {
                // Who is answered before gets that answer all the same.
                if !matches!(out.treatment.end, Some(Answer::Redirect { .. })) {
                    site.report.not_possible(router.at, format!("{why}: what it takes gets 503"));
                    return Ok(Ready { why: Some(why), service: Some(at), ..closed(503, Some(router.at)) });
                }
            }
        }
    }
    if let Some(why) = &router.unsaid {
        site.report.not_possible(router.at, format!("{why}: what it takes gets 503"));
        return Ok(Ready { why: Some(why.clone()), ..closed(503, Some(router.at)) });
    }
    out.treatment.end = out.treatment.end.take().or_else(|| out.last.take());
    Ok(out)
}

/// What Traefik answers of its own accord, behind the middlewares of the entry point.
fn own_answer(
    router: &Router,
    list: &[(String, Place)],
    gate: &Gate,
    site: &mut Site<'_, '_>,
) -> Result<Ready, String> {
    let mut out = Ready::default();
    let to = &mut out.treatment;
    let mut around = around(router, gate, site);
    let mut found = apply(list, &mut around, to);
    if found.is_ok() && to.end.is_none() {
        found = match &router.work {
            Work::Redirect { scheme, port, permanent, at } => {
                let status = super::treatment::redirect_status(*permanent, *at, around.report);
                redirect::to_scheme(scheme, port, status, *at, &mut around, to)
            }
            _ => {
                to.end = Some(Answer::Respond { status: 200, body: "OK".to_owned(), at: Some(router.at) });
                Ok(())
            }
        };
    }
    match found {
        Ok(()) if out.treatment.end.is_some() || !out.treatment.passes.is_empty() => Ok(out),
        Ok(()) => Err("it leads to itself".to_owned()),
        Err(Lost::Refused(why)) if matches!(router.work, Work::Ping) => Err(why),
        Err(Lost::Refused(why) | Lost::Unsaid(why)) => {
            site.report.not_possible(router.at, why);
            Ok(closed(503, Some(router.at)))
        }
    }
}

/// The alternatives of a router as they can be asked on an entry point: where connections are from is told by others
/// where these are believed, and by anybody where all are.
fn terms(router: &Router, gate: &Gate, report: &mut Report) -> Vec<Term> {
    let mut terms = router.asked.terms.clone();
    if gate.inlet.trusts.is_empty() {
        return terms;
    }
    let mut asks = false;
    for test in terms.iter_mut().flat_map(|term| term.all.iter_mut().chain(&mut term.none)) {
        if matches!(test, Test::Source(_)) {
            asks = true;
            if gate.inlet.trusts_all() {
                *test = Test::Unsaid(super::auth::SPOOFED.to_owned());
            }
        }
    }
    if asks && !gate.inlet.trusts_all() {
        let how = "ClientIP is whom the connection is from, source the client that a trusted proxy names";
        report.approximated(router.rule_at, how);
    }
    terms
}

/// Whether a router wants certificates of clients that its listener does not ask for.
fn asks_for_certificates(router: &Router, gate: &Gate, site: &Site<'_, '_>) -> Option<Lost> {
    let entry = site.entries.get(gate.entry)?;
    let tls = router.tls.as_ref().or(entry.tls.as_ref())?;
    let client = site.tls.client(tls);
    let other = site.tls.name_of(tls) != gate.options;
    match client {
        Client::No => None,
        Client::Asked if !other => None,
        Client::Asked => Some(Lost::Unsaid("its clients have to show certificates, and other routers of the listener ask for none: give it an entry point of its own, or its certificate a client_ca in tls.certificates".to_owned())),
        Client::Unsaid => Some(Lost::Unsaid("its clients have to show certificates in a way that is not asked for here".to_owned())),
    }
}

fn around<'a, 's>(router: &'a Router, gate: &'a Gate, site: &'a mut Site<'_, 's>) -> Around<'a, 's> {
    let mut hosts: Option<Vec<String>> = Some(Vec::new());
    let mut start: Option<String> = None;
    for term in &router.asked.terms {
        let own = term.all.iter().find_map(|test| match test {
            Test::Hosts(hosts) if hosts.iter().all(|host| !host.starts_with('*')) => Some(hosts.clone()),
            _ => None,
        });
        hosts = hosts.zip(own).map(|(mut all, own)| {
            all.extend(own);
            all
        });
        let path = term.all.iter().find_map(|test| match test {
            Test::Path(PathTest::Exact(text) | PathTest::Prefix(text) | PathTest::Start(text)) => {
                Some(text.clone())
            }
            Test::Path(PathTest::Regex(regex)) => literal_start(regex),
            _ => None,
        });
        let path = path.unwrap_or_default();
        start = Some(match start {
            None => path,
            Some(known) => {
                let common = known.bytes().zip(path.bytes()).take_while(|(a, b)| a == b).count();
                known.get(..common).unwrap_or("").to_owned()
            }
        });
    }
    Around {
        parts: site.parts,
        file: site.file,
        report: site.report,
        pools: &mut site.pools,
        router: &router.name,
        middleware: "",
        at: router.at,
        hosts,
        start: start.unwrap_or_default(),
        door: &gate.inlet,
    }
}

/// Where a router leads; returns the middlewares of the service.
fn service(
    name: &str,
    at: Place,
    router: &Router,
    site: &mut Site<'_, '_>,
    out: &mut Ready,
) -> Result<Vec<(String, Place)>, Lost> {
    out.service = Some(at);
    let found = site.services.resolve(name, site.report);
    match &found {
        Ok(_) => site.report.translated(at),
        Err(Lost::Refused(why)) => site.report.wrong(at, why.clone()),
        Err(Lost::Unsaid(why)) => site.report.not_possible(at, why.clone()),
    }
    let resolved = found?;
    out.mirror = resolved.mirror;
    if let Some((host, at)) = resolved.host {
        out.treatment.host = Some((super::treatment::plain(&host), at));
    }
    if let Some((base, at)) = resolved.base {
        out.treatment.prefix(&super::treatment::plain(&base), at).map_err(Lost::Unsaid)?;
    }
    if let Target::Internal(own) = &resolved.target {
        out.last = Some(internal(own, at, router, site)?);
        return Ok(Vec::new());
    }
    out.target = Some(resolved.target);
    Ok(resolved.middlewares)
}

/// A service of Traefik's own.
fn internal(name: &str, at: Place, router: &Router, site: &mut Site<'_, '_>) -> Result<Answer, Lost> {
    let respond = |status, body: &str| Answer::Respond { status, body: body.to_owned(), at: Some(at) };
    match name {
        "noop" => Ok(respond(418, "")),
        "ping" if statics::ping(site.parts).is_some() => Ok(respond(200, "OK")),
        "api" | "dashboard" if site.parts.statics("api").is_some() => {
            let what = format!(
                "{} shows Traefik's own pages: the admin API ([admin] bind) and `plimsoll status` have the state",
                router.name
            );
            Err(Lost::Unsaid(what))
        }
        "prometheus" if site.parts.statics("metrics").is_some() => {
            Err(Lost::Unsaid("metrics are at /metrics of [admin] bind".to_owned()))
        }
        "rest" | "acme-http" => {
            Err(Lost::Unsaid("configurations and certificates do not come over HTTP".to_owned()))
        }
        other => Err(Lost::Refused(format!("{other} is not enabled"))),
    }
}

/// The routes, with names and priorities.
fn routes(
    joined: Vec<(Draft, Ready, Vec<usize>)>,
    doors: &[Door],
    site: &mut Site<'_, '_>,
    routers: &[Router],
) -> Vec<Block> {
    let regions: Vec<Region> = joined
        .iter()
        .map(|(draft, _, of)| Region {
            doors: (of.len() < doors.len()).then(|| of.clone()),
            ..draft.region.clone()
        })
        .collect();
    let priorities = priorities(&regions.iter().collect::<Vec<_>>());
    let names = names(&joined, doors, routers);
    let mut out = Vec::new();
    for ((((draft, ready, _), region), priority), name) in
        joined.into_iter().zip(&regions).zip(priorities).zip(names)
    {
        let mut table = Table::default();
        table.set("name", Value::text(name), None);
        if priority != 0 {
            table.set("priority", Value::Integer(priority), None);
        }
        region.write(doors, false, &mut table);
        match &ready.target {
            Some(_) if ready.treatment.end.is_some() => {}
            Some(Target::Pool(pool)) => {
                table.set("pool", Value::text(pool), ready.service);
                site.breakers.entry(pool.clone()).or_default().push(ready.treatment.breaker.clone());
            }
            Some(Target::Split(parts, by)) => {
                let rows = parts.iter().map(|(pool, weight)| {
                    Value::inline([("pool", Value::text(pool)), ("weight", Value::Integer(*weight))])
                });
                table.set("split", Value::List(rows.collect()), ready.service);
                if let Some(by) = by {
                    table.set("split_by", Value::text(*by), ready.service);
                }
                for (pool, _) in parts {
                    site.breakers.entry(pool.clone()).or_default().push(ready.treatment.breaker.clone());
                }
            }
            _ => {}
        }
        ready.treatment.write(&mut table);
        if let Some((mirror, at)) = ready.mirror.filter(|_| ready.treatment.end.is_none()) {
            table.set("mirror", mirror, Some(at));
        }
        let mut comments = comments(&draft, routers, site.report);
        comments.extend(ready.why.map(|why| format!("Nobody is let in: {why}")));
        out.push(Block { name: String::new(), comments, table });
    }
    out
}

/// Traefik takes HTTP/2 in the clear; a listener does where its endpoints speak that.
fn speak_http2(gates: &[Gate], routes: &[Block], site: &Site<'_, '_>, document: &mut Document) {
    let speaks = |pool: &str| {
        let plan = site.services.made(pool);
        let balancer = plan.and_then(|plan| site.services.balancers.get(&plan.service));
        balancer.is_some_and(|balancer| balancer.table.get("protocol") == Some(&Value::text("http2")))
    };
    for gate in gates.iter().filter(|gate| !gate.inlet.tls) {
        let on = |route: &&Block| match route.table.get("listeners") {
            Some(Value::List(names)) => names.contains(&Value::text(&gate.listener)),
            _ => true,
        };
        let mut pools = routes.iter().filter(on).filter_map(|route| route.table.get("pool"));
        if pools.any(|pool| matches!(pool, Value::Text(pool) if speaks(pool)))
            && let Some(block) = document.listeners.iter_mut().find(|block| block.name == gate.listener)
        {
            block.table.set("h2c", Value::Bool(true), None);
        }
    }
}

/// Gives pools their breakers.
pub(super) fn breakers(site: &mut Site<'_, '_>, document: &mut Document) {
    for block in &mut document.pools {
        let Some(of) = site.breakers.get(&block.name) else { continue };
        let Some((table, at)) = of.iter().flatten().next() else { continue };
        block.table.entries.extend(table.entries.iter().cloned());
        if of.iter().any(|other| other.as_ref().map(|(other, _)| other) != Some(table)) {
            limit::shared(*at, &block.name, site.report);
        }
    }
}
