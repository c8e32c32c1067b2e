//! Routers of TCP and UDP: listeners that relay bytes or datagrams to a pool, and routes by the name of TLS clients.

use ipnet::IpNet;

use super::super::document::{Block, Document, Table, Value, place};
use super::super::pattern::fault;
use super::super::report::{Place, Report, Verdict};
use super::entry::{Entry, RouterTls, router_tls};
use super::fields::Fields;
use super::gorilla;
use super::matcher::network;
use super::rule::{Rule, parse};
use super::said::{plain_name, refused};
use super::service::{Lost, Services, Target};
use super::source::{Element, Parts, own_name};
use super::tls::{Client, Tls};

/// A router of TCP.
#[derive(Debug)]
pub(super) struct Router {
    name: String,
    at: Place,
    rule_at: Place,
    pub(super) entries: Option<Vec<String>>,
    asked: Vec<Asked>,
    priority: i64,
    service: (String, Place),
    middlewares: Vec<(String, Place)>,
    tls: Option<RouterTls>,
    unknown: bool,
}

/// One alternative of a rule.
#[derive(Debug, Clone, Default, PartialEq)]
struct Asked {
    /// Names that TLS clients ask for; without them all.
    names: Option<Vec<String>>,
    source: Option<Vec<IpNet>>,
    /// What a listener does not ask.
    unsaid: Option<String>,
}

/// What comes of all of it.
pub(super) struct Site<'a, 's> {
    pub(super) parts: &'a Parts<'s>,
    pub(super) entries: &'a [Entry],
    pub(super) tls: &'a Tls,
    pub(super) services: Services<'s, 'a>,
    pub(super) report: &'a mut Report,
    /// Pools made of several.
    pub(super) pools: Vec<Block>,
}

/// Reads the routers of TCP that Traefik makes.
pub(super) fn read(
    parts: &Parts<'_>,
    entries: &[Entry],
    tls: &Tls,
    old: bool,
    report: &mut Report,
) -> Vec<Router> {
    let mut out = Vec::new();
    for element in &parts.of("tcp", "routers").all {
        match one(element, entries, tls, old, report) {
            Ok(router) => {
                report.translated(router.at);
                out.push(router);
            }
            Err(why) => {
                refused(element.at, element.node, &format!("Traefik does not make it: {why}"), report)
            }
        }
    }
    out.sort_by_key(|router| std::cmp::Reverse(router.priority));
    out
}

fn one(
    element: &Element<'_>,
    entries: &[Entry],
    tls: &Tls,
    old: bool,
    report: &mut Report,
) -> Result<Router, String> {
    let mut fields = Fields::of(element.at, element.node, report);
    let named = fields.texts("entryPoints", report);
    let rule = fields.text("rule", report);
    let priority = fields.number("priority", report);
    let service = fields.text("service", report).filter(|(service, _)| !service.is_empty());
    let middlewares = fields.texts("middlewares", report);
    let syntax = fields.text("ruleSyntax", report);
    let secure = fields.table("tls", report).map(|below| router_tls(below, report));
    if !fields.finish(report) {
        return Err("it has options that Traefik does not know, or values that it cannot read".to_owned());
    }
    for place in [priority.map(|p| p.1), syntax.as_ref().map(|s| s.1)].into_iter().flatten() {
        report.translated(place);
    }
    let (text, rule_at) = rule.ok_or("it has no rule")?;
    let old = syntax.map_or(old, |(word, _)| word.eq_ignore_ascii_case("v2"));
    let rule = parse(&text)?;
    let mut remarks = Vec::new();
    let asked = alternatives(&rule, old, &mut remarks)?;
    let named_host = asked.iter().any(|asked| asked.names.is_some());
    if named_host && secure.is_none() {
        return Err("its rule has names, and without TLS there are none".to_owned());
    }
    if let Some(secure) = secure.as_ref().filter(|secure| !secure.passthrough) {
        tls.known(secure)?;
    }
    let service = service.ok_or("it has no service")?;
    let entries = entry_points(named, entries, false, report)?;
    report.translated(rule_at);
    remarks.into_iter().for_each(|remark| report.approximated(rule_at, remark));
    let catch_all = asked.iter().all(|asked| *asked == Asked::default());
    let priority = match priority.map_or(0, |(number, _)| number) {
        0 if catch_all => -1,
        0 => i64::try_from(text.len()).unwrap_or(i64::MAX),
        number => number,
    };
    let middlewares = middlewares.map(|(list, at)| {
        report.translated(at);
        list
    });
    Ok(Router {
        name: element.name.to_owned(),
        at: element.at,
        rule_at,
        entries,
        asked,
        priority,
        service,
        middlewares: middlewares.unwrap_or_default(),
        tls: secure,
        unknown: element.unknown,
    })
}

/// The entry points that a router names and that there are.
fn entry_points(
    named: Option<(Vec<(String, Place)>, Place)>,
    entries: &[Entry],
    udp: bool,
    report: &mut Report,
) -> Result<Option<Vec<String>>, String> {
    let Some((list, at)) = named.filter(|(list, _)| !list.is_empty()) else { return Ok(None) };
    report.translated(at);
    let mut known = Vec::new();
    for (name, at) in list {
        if entries.iter().any(|entry| entry.name == name && entry.udp == udp) {
            report.translated(at);
            known.push(name);
        } else {
            report.wrong(at, format!("there is no such entry point {name}: Traefik leaves it out"));
        }
    }
    if known.is_empty() { Err("none of its entry points is there".to_owned()) } else { Ok(Some(known)) }
}

/// A rule's alternatives. What no listener can ask is kept as a reason.
fn alternatives(rule: &Rule, old: bool, remarks: &mut Vec<String>) -> Result<Vec<Asked>, String> {
    Ok(match rule {
        Rule::Any(rules) => {
            let mut out: Vec<Asked> = Vec::new();
            for rule in rules {
                for asked in alternatives(rule, old, remarks)? {
                    // Names of one route are a list.
                    match out.iter_mut().find(|other| {
                        other.source == asked.source && other.unsaid.is_none() && asked.unsaid.is_none()
                    }) {
                        Some(other) => match (&mut other.names, asked.names) {
                            (Some(own), Some(more)) => own.extend(more),
                            (own, _) => *own = None,
                        },
                        None => out.push(asked),
                    }
                }
            }
            out
        }
        Rule::All(rules) => {
            let mut out = Asked::default();
            for rule in rules {
                let mut of = alternatives(rule, old, remarks)?;
                if of.len() != 1 {
                    out.unsaid = Some("alternatives inside of a conjunction are not asked here".to_owned());
                    continue;
                }
                let asked = of.swap_remove(0);
                out = Asked {
                    names: match (out.names, asked.names) {
                        (Some(a), Some(b)) => Some(a.into_iter().filter(|name| b.contains(name)).collect()),
                        (a, b) => a.or(b),
                    },
                    source: out.source.or(asked.source),
                    unsaid: out.unsaid.or(asked.unsaid),
                };
            }
            vec![out]
        }
        Rule::Not(rule) => {
            alternatives(rule, old, remarks)?;
            vec![Asked {
                unsaid: Some("a listener does not ask what a connection is not".to_owned()),
                ..Asked::default()
            }]
        }
        Rule::Call(name, values) => vec![call(name, values, old, remarks)?],
    })
}

fn call(name: &str, values: &[String], old: bool, remarks: &mut Vec<String>) -> Result<Asked, String> {
    if values.is_empty() || values.iter().any(String::is_empty) || !old && values.len() != 1 {
        return Err(format!("`{name}` takes one value"));
    }
    match name.to_ascii_lowercase().as_str() {
        "hostsni" => {
            if values.iter().any(|value| value == "*") {
                return Ok(Asked::default());
            }
            let names: Vec<String> =
                values.iter().map(|name| name.trim_end_matches('.').to_lowercase()).collect();
            let is_name =
                |name: &String| name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._*:".contains(&b));
            if let Some(name) = names.iter().find(|name| !is_name(name)) {
                return Err(format!("`{name}` is no name of a host"));
            }
            if names.iter().any(|name| name.starts_with("*.")) {
                remarks.push("a star takes names of several labels in its place as well".to_owned());
            }
            Ok(Asked { names: Some(names), ..Asked::default() })
        }
        "hostsniregexp" => {
            let mut names = Vec::new();
            for value in values {
                let regex = if old { gorilla::regex(value, gorilla::Kind::Host)? } else { value.clone() };
                if let Some(why) = fault(&regex) {
                    return Err(format!("`{regex}` is no regular expression: {why}"));
                }
                let Some(suffix) = super::matcher::suffix(&regex) else {
                    let unsaid =
                        Some("names are written out, or end like one with a star in front".to_owned());
                    return Ok(Asked { unsaid, names: Some(Vec::new()), ..Asked::default() });
                };
                remarks.push(format!("every name that ends like {suffix} is taken"));
                names.push(suffix);
            }
            Ok(Asked { names: Some(names), ..Asked::default() })
        }
        "clientip" => {
            let networks =
                values.iter().map(|text| network(text).ok_or_else(|| format!("`{text}` is no network")));
            Ok(Asked { source: Some(networks.collect::<Result<_, _>>()?), ..Asked::default() })
        }
        "alpn" => {
            let unsaid = Some("which protocols a client offers is not asked".to_owned());
            Ok(Asked { unsaid, ..Asked::default() })
        }
        _ => Err(format!("there is no matcher `{name}` of TCP")),
    }
}

/// Guards of a router, as a listener has them.
#[derive(Debug, Clone, Default, PartialEq)]
struct Guards {
    allow: Option<(Vec<IpNet>, Place)>,
    most: Option<(i64, Place)>,
}

/// Writes the listener of an entry point, and its routes.
pub(super) fn tcp(
    site: &mut Site<'_, '_>,
    routers: &[Router],
    entry: &Entry,
    name: &str,
    document: &mut Document,
) {
    let defaults = super::router::defaults(site.entries);
    let on = |router: &&Router| router.entries.as_ref().unwrap_or(&defaults).contains(&entry.name);
    let here: Vec<&Router> = routers.iter().filter(on).collect();
    let mut listener = listener(entry, "tcp", &["bind", "trusted_proxies", "accept_proxy_protocol"]);
    if entry.table.get("accept_proxy_protocol").is_none() {
        listener.entries.retain(|entry| entry.path != "trusted_proxies");
    }
    let mut ready: Vec<(&Router, String, Guards)> = Vec::new();
    for router in here {
        match prepare(router, site) {
            Ok((pool, guards)) => ready.push((router, pool, guards)),
            Err(Lost::Refused(why)) => {
                site.report.wrong(router.at, format!("Traefik does not make it: {why}"))
            }
            Err(Lost::Unsaid(why)) => {
                site.report.not_possible(router.at, format!("{why}: no route is made of it"))
            }
        }
    }
    guard(&mut ready, &mut listener, site.report);
    let secure: Vec<&RouterTls> =
        ready.iter().filter_map(|(router, ..)| router.tls.as_ref()).filter(|tls| !tls.passthrough).collect();
    let encrypted = !secure.is_empty();
    if encrypted {
        let options = site.tls.write(name, &secure, &mut listener, site.report);
        listener.entries.retain(|entry| entry.path != "tls.alpn");
        ready.retain(|(router, ..)| {
            let Some(tls) = router.tls.as_ref().filter(|tls| !tls.passthrough) else { return true };
            let fits = site.tls.name_of(tls) == options && site.tls.client(tls) != Client::Unsaid
                || site.tls.client(tls) == Client::No;
            if !fits {
                site.report.not_possible(router.at, "its clients have to show certificates, and other routers of the listener ask for none: give it an entry point of its own");
            }
            fits
        });
    }
    let routes = routes(&ready, encrypted, name, &mut listener, site.report);
    if routes.is_empty() && listener.get("pool").is_none() {
        if let Some(at) = entry.at {
            site.report
                .not_possible(at, "no listener is made of it: nothing of what it leads to can be said");
        }
        return;
    }
    let comments = entry.at.map(|at| format!("Entry point {} ({})", entry.name, place(at, site.report)));
    document.listeners.push(Block {
        name: name.to_owned(),
        comments: comments.into_iter().collect(),
        table: listener,
    });
    document.routes.extend(routes);
}

fn listener(entry: &Entry, protocol: &str, keys: &[&str]) -> Table {
    let mut table = Table::default();
    table.entries.extend(entry.table.entries.iter().filter(|own| keys.contains(&own.path.as_str())).cloned());
    table.set("protocol", Value::text(protocol), entry.at);
    table
}

fn prepare(router: &Router, site: &mut Site<'_, '_>) -> Result<(String, Guards), Lost> {
    let (name, at) = &router.service;
    let found = site.services.resolve(name, site.report);
    match &found {
        Ok(_) => site.report.translated(*at),
        Err(Lost::Refused(why)) => site.report.wrong(*at, why.clone()),
        Err(Lost::Unsaid(why)) => site.report.not_possible(*at, why.clone()),
    }
    let pool = pool(found?.target, name, *at, &mut site.services, &mut site.pools, site.report)?;
    let mut guards = Guards::default();
    for (name, at) in &router.middlewares {
        let found = middleware(name, site.parts, &mut guards, site.report);
        match &found {
            Ok(()) => site.report.translated(*at),
            Err(Lost::Refused(why)) => site.report.wrong(*at, why.clone()),
            Err(Lost::Unsaid(why)) => site.report.not_possible(*at, why.clone()),
        }
        found?;
    }
    if router.unknown {
        return Err(Lost::Unsaid("a template makes some of it".to_owned()));
    }
    let unsaid = router.asked.iter().find_map(|asked| asked.unsaid.clone());
    if let Some(why) = unsaid {
        site.report.not_possible(router.rule_at, why.clone());
        return Err(Lost::Unsaid(why));
    }
    Ok((pool, guards))
}

/// The pool of a target; of several with weights one is made.
fn pool(
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
        let plan = services.plans.iter().find(|(name, _)| name == pool).map(|(_, plan)| plan.clone());
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

fn middleware(name: &str, parts: &Parts<'_>, guards: &mut Guards, report: &mut Report) -> Result<(), Lost> {
    let own = own_name(name)
        .map_err(|provider| Lost::Unsaid(format!("{name} is what {provider} says, which is in no file")))?;
    let Some(element) = parts.of("tcp", "middlewares").get(own) else {
        return Err(Lost::Refused(format!("there is no middleware {name}")));
    };
    if element.unknown {
        return Err(Lost::Unsaid(format!("a template makes some of the middleware {name}")));
    }
    let mut fields = Fields::of(element.at, element.node, report);
    let lists = ["ipAllowList", "ipWhiteList"].map(|kind| fields.table(kind, report));
    let most = fields.table("inFlightConn", report);
    let known = fields.finish(report);
    let mut found = known;
    for mut list in lists.into_iter().flatten() {
        let range = list.texts("sourceRange", report);
        report.translated(list.at);
        found &= list.finish(report);
        let Some((range, at)) = range.filter(|(range, _)| !range.is_empty()) else {
            found = false;
            continue;
        };
        report.translated(at);
        let mut networks = Vec::new();
        for (text, at) in range {
            match network(&text) {
                Some(network) => {
                    report.translated(at);
                    networks.push(network);
                }
                None => found = false,
            }
        }
        let own = guards.allow.as_ref().map(|(own, _)| own.as_slice());
        match super::super::region::meet(own, &networks, super::super::region::narrower_network) {
            Some(both) => guards.allow = Some((both, at)),
            None => return Err(Lost::Unsaid("no client is in all of its lists".to_owned())),
        }
    }
    if let Some(mut most) = most {
        report.translated(most.at);
        let amount = most.number("amount", report);
        found &= most.finish(report);
        match amount {
            Some((amount, at)) if amount > 0 => {
                report.translated(at);
                guards.most = Some((amount, at));
            }
            _ => return Err(Lost::Unsaid("no connection at all is let in".to_owned())),
        }
    }
    if found {
        report.translated(element.at);
        Ok(())
    } else {
        refused(element.at, element.node, "Traefik does not make it, nor routers that name it", report);
        Err(Lost::Refused(format!("the middleware {name} is wrong")))
    }
}

/// Who may connect is the listener's: routers that say something else are left out.
fn guard(ready: &mut Vec<(&Router, String, Guards)>, listener: &mut Table, report: &mut Report) {
    let of = |router: &Router, guards: &Guards| {
        let asked: Vec<&Vec<IpNet>> = router.asked.iter().filter_map(|asked| asked.source.as_ref()).collect();
        match (asked.as_slice(), &guards.allow) {
            ([], allow) => Ok(allow.clone()),
            ([one], None) if router.asked.len() == 1 => Ok(Some(((*one).clone(), router.rule_at))),
            _ => Err("who may connect is one list of the listener"),
        }
    };
    let lists: Vec<Result<Option<(Vec<IpNet>, Place)>, &str>> =
        ready.iter().map(|(router, _, guards)| of(router, guards)).collect();
    let same = |a: &Option<(Vec<IpNet>, Place)>, b: &Option<(Vec<IpNet>, Place)>| {
        a.as_ref().map(|(list, _)| list) == b.as_ref().map(|(list, _)| list)
    };
    let all_alike = lists.iter().all(|list| {
        list.as_ref().is_ok_and(|list| {
            lists.first().is_some_and(|first| first.as_ref().is_ok_and(|first| same(first, list)))
        })
    });
    if all_alike {
        if let Some(Ok(Some((networks, at)))) = lists.first() {
            listener.set("allow", Value::texts(networks.iter().map(ToString::to_string)), Some(*at));
        }
    } else {
        let mut lists = lists.into_iter();
        ready.retain(|(router, ..)| {
            let open = matches!(lists.next(), Some(Ok(None)));
            if !open {
                report.not_possible(router.at, "who may connect is asked by a listener, for all that comes to it: give this router an entry point of its own; nobody is let in by it here");
            }
            open
        });
    }
    let most: Vec<Option<(i64, Place)>> = ready.iter().map(|(_, _, guards)| guards.most).collect();
    if let Some(Some((amount, at))) =
        most.iter().min_by_key(|most| most.map_or(i64::MAX, |(amount, _)| amount))
    {
        listener.set("max_connections_per_source", Value::Integer((*amount).clamp(1, 1_000_000)), Some(*at));
        if most.iter().any(|other| other.map(|(amount, _)| amount) != Some(*amount)) {
            report.approximated(
                *at,
                "connections of one client are counted by the listener, for all that comes to it",
            );
        }
    }
}

/// Routes by name, and the pool of all else.
fn routes(
    ready: &[(&Router, String, Guards)],
    encrypted: bool,
    name: &str,
    listener: &mut Table,
    report: &mut Report,
) -> Vec<Block> {
    let mut out = Vec::new();
    let mut taken: Vec<String> = Vec::new();
    for (router, pool, _) in ready {
        let passes = router.tls.as_ref().is_none_or(|tls| tls.passthrough);
        for asked in &router.asked {
            let Some(names) = &asked.names else {
                all_else(router, pool, passes, encrypted, listener, report);
                continue;
            };
            let new: Vec<String> = names.iter().filter(|name| !taken.contains(name)).cloned().collect();
            if new.is_empty() {
                report.wrong(router.rule_at, "other routers have all of its names");
                continue;
            }
            let mut table = Table::default();
            let count = out.len();
            let own = plain_name(&router.name);
            table.set(
                "name",
                Value::text(if count == 0 {
                    format!("{name}-{own}")
                } else {
                    format!("{name}-{own}-{count}")
                }),
                None,
            );
            table.set("listeners", Value::texts([name]), None);
            table.set("sni", Value::one_or_list(&new), Some(router.rule_at));
            table.set("pool", Value::text(pool), Some(router.service.1));
            if passes && encrypted {
                table.set("tls", Value::text("passthrough"), router.tls.as_ref().and_then(|tls| tls.at));
            }
            taken.extend(new);
            let comment = format!("{}: {}", place(router.rule_at, report), report.source(router.rule_at));
            out.push(Block { name: String::new(), comments: vec![comment], table });
        }
    }
    out
}

fn all_else(
    router: &Router,
    pool: &str,
    passes: bool,
    encrypted: bool,
    listener: &mut Table,
    report: &mut Report,
) {
    if encrypted && passes {
        let remedy = "the listener takes TLS off for other routers, and this one is for what comes without, or goes through: give it an entry point of its own";
        return report.not_possible(router.at, remedy);
    }
    if let Some(Value::Text(other)) = listener.get("pool") {
        if other != pool {
            report.wrong(router.at, "another router takes all that comes here");
        }
        return;
    }
    if router.tls.is_some() && !encrypted {
        report.approximated(router.rule_at, "who comes without TLS is passed on as well");
    }
    listener.set("pool", Value::text(pool), Some(router.service.1));
}

/// Writes the listeners of entry points for datagrams.
pub(super) fn udp(site: &mut Site<'_, '_>, names: &[String], document: &mut Document) {
    let mut taken: Vec<(String, Place)> = Vec::new();
    for element in &site.parts.of("udp", "routers").all {
        let mut fields = Fields::of(element.at, element.node, site.report);
        let named = fields.texts("entryPoints", site.report);
        let service = fields.text("service", site.report);
        let known = fields.finish(site.report);
        let entries = entry_points(named, site.entries, true, site.report);
        let (Some((service, at)), Ok(entries), true) = (service, entries, known) else {
            refused(
                element.at,
                element.node,
                "Traefik does not make it: it has an entry point for datagrams and a service",
                site.report,
            );
            continue;
        };
        site.report.translated(element.at);
        let found = site.services.resolve(&service, site.report).and_then(|found| {
            pool(found.target, &service, at, &mut site.services, &mut site.pools, site.report)
        });
        let pool = match found {
            Ok(pool) if !element.unknown => pool,
            Ok(_) => {
                site.report.not_possible(element.at, "a template makes some of it");
                continue;
            }
            Err(Lost::Refused(why)) => {
                site.report.wrong(at, why);
                continue;
            }
            Err(Lost::Unsaid(why)) => {
                site.report.not_possible(at, why);
                continue;
            }
        };
        site.report.translated(at);
        let all = || site.entries.iter().filter(|entry| entry.udp).map(|entry| entry.name.clone()).collect();
        for name in entries.unwrap_or_else(all) {
            let Some(number) = site.entries.iter().position(|entry| entry.name == name && entry.usable)
            else {
                continue;
            };
            if let Some((_, first)) = taken.iter().find(|(other, _)| *other == name) {
                let what = format!(
                    "{name} is taken by another router ({}): Traefik uses one of the two",
                    place(*first, site.report)
                );
                site.report.wrong(element.at, what);
                continue;
            }
            taken.push((name, element.at));
            let (Some(entry), Some(own)) = (site.entries.get(number), names.get(number)) else { continue };
            let mut table = listener(entry, "udp", &["bind", "timeouts.udp_idle"]);
            table.set("pool", Value::text(&pool), Some(at));
            let comments =
                entry.at.map(|at| format!("Entry point {} ({})", entry.name, place(at, site.report)));
            document.listeners.push(Block {
                name: own.clone(),
                comments: comments.into_iter().collect(),
                table,
            });
        }
    }
}

/// Whether some router of TCP is on an entry point.
pub(super) fn is_on(routers: &[Router], entry: &Entry, entries: &[Entry]) -> bool {
    let defaults = super::router::defaults(entries);
    routers.iter().any(|router| router.entries.as_ref().unwrap_or(&defaults).contains(&entry.name))
}

/// Says of routers on an entry point with routers of HTTP that they are not served.
pub(super) fn beside_http(routers: &[Router], entry: &Entry, entries: &[Entry], report: &mut Report) {
    let defaults = super::router::defaults(entries);
    for router in
        routers.iter().filter(|router| router.entries.as_ref().unwrap_or(&defaults).contains(&entry.name))
    {
        report.note(
            router.at,
            Verdict::NotPossible,
            format!(
                "{} serves HTTP, and a listener one protocol: give this router an entry point of its own",
                entry.name
            ),
        );
    }
}
