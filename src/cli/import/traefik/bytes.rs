//! Routers of TCP and UDP: listeners that relay bytes or datagrams to a pool, and routes by the name of TLS clients.

use super::super::document::{Block, Document, Table, Value, place};
use super::super::report::{Place, Report};
use super::admission::{Guards, guard, middleware};
use super::entry::{Entry, RouterTls, router_tls};
use super::fields::Fields;
use super::rule::parse;
use super::said::{plain_name, refused};
use super::service::{Lost, Services};
use super::shares::pool;
use super::sni::{Asked, alternatives};
use super::source::{Element, Parts};
use super::tls::{Client, Tls};

/// A router of TCP.
#[derive(Debug)]
pub(super) struct Router {
    name: String,
    pub(super) at: Place,
    pub(super) rule_at: Place,
    pub(super) entries: Option<Vec<String>>,
    pub(super) asked: Vec<Asked>,
    priority: i64,
    service: (String, Place),
    middlewares: Vec<(String, Place)>,
    tls: Option<RouterTls>,
    unknown: bool,
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
        let options = site.tls.write(name, &secure, None, &mut listener, site.report);
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

/// Whether a router that names the entry point takes all connections there, so that none is left for HTTP.
pub(super) fn takes_all(routers: &[Router], entry: &Entry) -> bool {
    let all = |router: &&Router| router.tls.is_none() && router.asked.contains(&Asked::default());
    let named = |router: &Router| router.entries.as_ref().is_some_and(|names| names.contains(&entry.name));
    routers.iter().filter(all).any(named)
}

/// Says of routers on an entry point with routers of HTTP that they are not served.
pub(super) fn beside_http(routers: &[Router], entry: &Entry, entries: &[Entry], report: &mut Report) {
    let defaults = super::router::defaults(entries);
    for router in
        routers.iter().filter(|router| router.entries.as_ref().unwrap_or(&defaults).contains(&entry.name))
    {
        let what = format!(
            "{} serves HTTP, and a listener one protocol: give this router an entry point of its own",
            entry.name
        );
        report.not_possible(router.at, what);
        for at in router.middlewares.iter().map(|(_, at)| *at).chain([router.service.1]) {
            if report.remarks(at).is_empty() {
                report.not_possible(at, format!("as line {}", router.at.line));
            }
        }
    }
}
