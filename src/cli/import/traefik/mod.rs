//! From Traefik's files, static and dynamic, in YAML and TOML: read as Traefik reads them, translated to what Plimsoll
//! has, with a verdict on every line.
//!
//! The map, in the order of the way: `source` sorts what the files say (`template` before that puts in what they ask the
//! environment for), `fields` reads the options of one table. `entry` has the entry points, `statics` what else is
//! static, `tls` certificates and options. A `router` has a rule (`rule`, `matcher`, with expressions by `regexp` and `gorilla`), a list of middlewares
//! (`middleware`, with `path`, `redirect`, `headers`, `auth`, `limit` and `breaker` for their kinds, whose sum is a
//! `treatment`) and a `service`, which comes to pools by `balancer`, `transport` and `probe`. `route` makes routes of
//! routers, `web` writes them with their listeners (`caption` their names, `branch` what is answered before); `bytes` does all of this for TCP and UDP (`sni` reads
//! their rules, `admission` who may connect, `shares` makes one pool of several). `said` serves all, `differences`
//! has what no line stands for.

mod admission;
mod auth;
mod balancer;
mod branch;
mod breaker;
mod bytes;
mod caption;
mod differences;
mod entry;
mod fields;
mod gorilla;
mod headers;
mod limit;
mod matcher;
mod middleware;
mod path;
mod probe;
mod redirect;
mod regexp;
mod route;
mod router;
mod rule;
mod said;
mod service;
mod shares;
mod sni;
mod source;
mod statics;
mod template;
mod tls;
mod transport;
mod treatment;
mod web;

use std::collections::{HashMap, HashSet};

use super::Import;
use super::document::{Block, Document, Value, place};
use super::lift::lift;
use super::mend::settle;
use super::report::{Place, Remark, Report, Verdict};
use super::surroundings::Surroundings;
use entry::Entry;
use router::Router;
use service::Services;
use source::Parts;
use tls::Tls;

/// Translates the files of a configuration of Traefik, static and dynamic ones.
#[must_use]
pub fn import(files: &[(&str, &str)], around: Surroundings<'_>) -> Import {
    let mut report = Report::default();
    let source = source::read(files, around, &mut report);
    let parts = source::parts(&source, &mut report);
    let mut document = Document::default();
    statics::read(&parts, &mut document, &mut report);
    let mut entries = entry::read(&parts, &mut report);
    assume(&parts, &mut entries, &mut report);
    process(&parts, &mut document);
    let tls = tls::read(&parts, &mut report);
    write(&parts, &mut entries, (&tls, around.read), &mut document, &mut report);
    // What only holds others is judged by them, before and after what is left over.
    source.settle(&mut report);
    unserved(&parts, &mut report);
    differences::tell(&parts, &document, &mut report);
    lift(&mut document);
    settle(&mut document, &mut report);
    source.settle(&mut report);
    report.finish(|_| Remark {
        verdict: Verdict::NotPossible,
        text: "the importer does not know what to do with it: please report it".to_owned(),
    });
    document.introduce("traefik", &report);
    let text = document.print(&report);
    Import { text, report }
}

/// Entry points that routers name, where no static configuration is given.
fn assume(parts: &Parts<'_>, entries: &mut Vec<Entry>, report: &mut Report) {
    if !parts.statics.is_empty() {
        return;
    }
    for part in ["http", "tcp"] {
        for element in &parts.of(part, "routers").all {
            let mut silent = Report::default();
            let mut fields = fields::Fields::of(element.at, element.node, &mut silent);
            let named = fields.texts("entryPoints", &mut silent);
            let secure = fields.take("tls").is_some();
            let fallback = (if secure { "websecure" } else { "web" }, element.at);
            let of = match &named {
                Some((list, _)) if !list.is_empty() => {
                    list.iter().map(|(name, at)| (name.as_str(), *at)).collect()
                }
                _ => vec![fallback],
            };
            for (name, at) in of {
                if entries.iter().any(|entry| entry.name == name) {
                    continue;
                }
                if let Some((_, port)) = entry::USUAL.iter().find(|(own, _)| *own == name) {
                    report.not_possible(at, format!("no static file is given, so the address of {name} is not known: port {port} is written"));
                    entries.push(entry::plain(name, *port));
                } else {
                    report.not_possible(at, format!("no static file is given, so the address of {name} is not known: give that file too"));
                }
            }
        }
    }
}

/// When the process ends.
fn process(parts: &Parts<'_>, document: &mut Document) {
    let [accept, grace] = entry::life_cycle(parts);
    if let Some((time, at)) = accept {
        let time = if time > 0 { said::duration(time) } else { Value::text("0s") };
        document.single("process").set("drain_delay", time, Some(at));
    }
    if let Some((time, at)) = grace {
        document.single("process").set("drain_timeout", said::duration(time.max(1)), Some(at));
    }
}

fn write(
    parts: &Parts<'_>,
    entries: &mut Vec<Entry>,
    (tls, file): (&Tls, middleware::Read<'_>),
    document: &mut Document,
    report: &mut Report,
) {
    let ping = statics::ping(parts);
    // Pings come to an entry point of Traefik's own unless another one is named.
    if let Some((_, None, false)) = &ping
        && !entries.iter().any(|entry| entry.name == entry::INTERNAL)
    {
        entries.push(entry::plain(entry::INTERNAL, 8080));
    }
    let entries = entries.as_slice();
    let mut names: Vec<String> = Vec::new();
    for entry in entries {
        names.push(entry::listener_name(entry, &names));
    }
    let old = statics::old_rules(parts);
    let mut routers = router::read(parts, entries, tls, old, report);
    for entry in entries {
        routers.extend(router::refusal(entry));
        routers.extend(router::redirection(entry, entries, report));
        if let Some((at, own, false)) = &ping
            && own.as_deref().unwrap_or(entry::INTERNAL) == entry.name
        {
            routers.push(router::ping(entry, *at));
        }
    }
    routers.sort_by_key(|router| std::cmp::Reverse(router.priority));
    let of_bytes = bytes::read(parts, entries, tls, old, report);
    let (web, relayed) = share(parts, entries, &routers, &of_bytes, report);
    let mut site = web::Site {
        parts,
        file,
        entries,
        tls,
        services: Services::new(parts, "http"),
        pools: Vec::new(),
        breakers: HashMap::new(),
        report,
    };
    web::write(&mut site, &routers, &web, &names, document);
    let (services, extra) = (&site.services, std::mem::take(&mut site.pools));
    pools(services, extra, document, site.report);
    web::breakers(&mut site, document);
    let web::Site { services: http, report, .. } = site;
    let of = |part: &'static str| Services::new(parts, part);
    let mut site = bytes::Site { parts, entries, tls, services: of("tcp"), report, pools: Vec::new() };
    for at in relayed {
        if let (Some(entry), Some(name)) = (entries.get(at), names.get(at)) {
            bytes::tcp(&mut site, &of_bytes, entry, name, document);
        }
    }
    let extra = std::mem::take(&mut site.pools);
    pools(&site.services, extra, document, site.report);
    let tcp = std::mem::replace(&mut site.services, of("udp"));
    bytes::udp(&mut site, &names, document);
    let extra = std::mem::take(&mut site.pools);
    pools(&site.services, extra, document, site.report);
    let bytes::Site { services: udp, report, .. } = site;
    unused(parts, [&http, &tcp, &udp], report);
}

/// Routers that no listener is made for, and what they and their entry points name.
fn unserved(parts: &Parts<'_>, report: &mut Report) {
    const WHY: &str = "no listener is made for any of its entry points, so nothing comes to it";
    for part in ["http", "tcp", "udp"] {
        for element in &parts.of(part, "routers").all {
            let mut left = Vec::new();
            element.node.each_place(&mut |at, _| {
                if report.remarks(at).is_empty() {
                    left.push(at);
                }
            });
            if !left.is_empty() {
                report.not_possible(element.at, WHY);
                left.into_iter()
                    .for_each(|at| report.not_possible(at, format!("as line {}", element.at.line)));
            }
        }
    }
    for (part, kinds) in [
        ("http", ["middlewares", "services", "serverstransports"]),
        ("tcp", ["middlewares", "services", "serverstransports"]),
    ] {
        for element in kinds.iter().flat_map(|kind| &parts.of(part, kind).all) {
            let worst = report.remarks(element.at).iter().map(|remark| remark.verdict).max();
            if worst.is_some_and(|worst| worst > Verdict::Approximated) {
                said::each_silent(
                    element.node,
                    Verdict::Ignored,
                    "nothing is made of what it belongs to",
                    report,
                );
            }
        }
    }
    for (name, at, node) in &parts.statics {
        let at = *at;
        if parts.statics(name).is_some_and(|(first, _)| first != at) {
            said::each_silent(node, Verdict::Ignored, "the file before it has this part", report);
        } else if ["entrypoints", "serverstransport", "tcpserverstransport"].contains(&name.as_str()) {
            let why = if name == "entrypoints" { "nothing comes this way" } else { "no service goes by it" };
            if report.remarks(at).is_empty() && name != "entrypoints" {
                report.ignored(at, why);
            }
            said::each_silent(node, Verdict::Ignored, why, report);
        }
    }
}

/// Which entry points serve HTTP, and which relay bytes.
fn share(
    parts: &Parts<'_>,
    entries: &[Entry],
    routers: &[Router],
    of_bytes: &[bytes::Router],
    report: &mut Report,
) -> (Vec<usize>, Vec<usize>) {
    let defaults = router::defaults(entries);
    let metrics = parts.statics("metrics").is_some();
    let (mut web, mut relayed) = (Vec::new(), Vec::new());
    for (at, entry) in entries.iter().enumerate().filter(|(_, entry)| !entry.udp && entry.usable) {
        let http =
            routers.iter().any(|router| router.entries.as_ref().unwrap_or(&defaults).contains(&entry.name));
        let tcp = bytes::is_on(of_bytes, entry, entries);
        let of_metrics = |name: &str| {
            parts.statics("metrics").is_some_and(|(_, node)| {
                let all = node.pairs().iter().flat_map(|(_, below)| below.pairs());
                all.filter(|(key, _)| key.text.eq_ignore_ascii_case("entryPoint"))
                    .any(|(_, value)| value.text() == Some(name))
            })
        };
        // Routers that name no entry point are meant for others.
        let named = routers
            .iter()
            .any(|router| router.entries.as_ref().is_some_and(|names| names.contains(&entry.name)));
        match (http, tcp) {
            (true, true) if !named && bytes::takes_all(of_bytes, entry) => relayed.push(at),
            (true, true) => {
                bytes::beside_http(of_bytes, entry, entries, report);
                web.push(at);
            }
            (true, false) => web.push(at),
            (false, true) => relayed.push(at),
            (false, false) => match entry.at {
                Some(place) if entry.name == entry::INTERNAL => {
                    report.approximated(place, "no listener is made for what [admin] and [health] have");
                }
                Some(place) if metrics && of_metrics(&entry.name) => {
                    report.approximated(
                        place,
                        "no listener is made for metrics: they are at /metrics of [admin] bind",
                    );
                }
                _ => web.push(at),
            },
        }
    }
    (web, relayed)
}

/// Writes the pools that routes, listeners and other pools lead to.
fn pools(services: &Services<'_, '_>, extra: Vec<Block>, document: &mut Document, report: &Report) {
    let mut wanted: HashSet<String> = HashSet::new();
    let mut add = |value: &Value| names(value, &mut wanted);
    for block in document.routes.iter().chain(&document.listeners) {
        for entry in &block.table.entries {
            if ["pool", "split", "mirror", "forward_auth"].contains(&entry.path.as_str()) {
                add(&entry.value);
            }
        }
    }
    // Pools that take over are wanted too.
    let mut left: Vec<String> = wanted.iter().cloned().collect();
    while let Some(name) = left.pop() {
        let Some(plan) = services.made(&name) else { continue };
        for (other, _) in &plan.failover {
            if wanted.insert(other.clone()) {
                left.push(other.clone());
            }
        }
    }
    let mut written: HashMap<&str, &str> = HashMap::new();
    for (name, plan) in services.plans.iter().filter(|(name, _)| wanted.contains(name)) {
        let Some(balancer) = services.balancers.get(&plan.service) else { continue };
        let at = |at: Option<Place>| at.map_or_else(String::new, |at| format!(" ({})", place(at, report)));
        let comment = match &plan.over {
            Some((over, line)) => {
                format!(
                    "Failover {over}{}, from service {}{}",
                    at(Some(*line)),
                    plan.service,
                    at(balancer.at())
                )
            }
            None => format!("Service {}{}", plan.service, at(balancer.at())),
        };
        if let Some(first) = written.get(plan.service.as_str()) {
            document.pools.push(like(first, name, plan, comment));
            continue;
        }
        written.insert(&plan.service, name);
        let mut block = balancer.block(name, plan, &comment);
        if services.is_http() {
            block.table.set("retry", Value::text("off"), None);
        }
        document.pools.push(block);
    }
    document.pools.extend(extra.into_iter().filter(|block| wanted.contains(&block.name)));
}

/// A pool with the servers of another one.
fn like(first: &str, name: &str, plan: &service::Plan, comment: String) -> Block {
    let mut table = super::document::Table::default();
    table.set("like", Value::text(first), None);
    balancer::failover(plan, &mut table);
    if plan.failover.is_empty() {
        table.set("failover", Value::List(Vec::new()), None);
    }
    Block { name: name.to_owned(), comments: vec![comment], table }
}

/// The texts of a value: names of pools are among them.
fn names(value: &Value, out: &mut HashSet<String>) {
    match value {
        Value::Text(text) => drop(out.insert(text.clone())),
        Value::List(list) => list.iter().for_each(|value| names(value, out)),
        Value::Inline(pairs) => {
            pairs.iter().filter(|(key, _)| key == "pool").for_each(|(_, value)| names(value, out));
        }
        _ => {}
    }
}

/// Elements that no router leads to.
fn unused(parts: &Parts<'_>, services: [&Services<'_, '_>; 3], report: &mut Report) {
    for (part, services) in ["http", "tcp", "udp"].into_iter().zip(services) {
        for element in &parts.of(part, "services").all {
            if !services.is_used(element.name) {
                let mut found = Report::default();
                drop(Services::new(parts, part).resolve(element.name, &mut found));
                mistakes(element.node, &found, report);
                silent(element.at, element.node, report);
            }
        }
    }
    for part in ["http", "tcp"] {
        for kind in ["middlewares", "serverstransports"] {
            for element in &parts.of(part, kind).all {
                if report.remarks(element.at).is_empty() {
                    if (part, kind) == ("http", "middlewares") {
                        let found = middleware::inspect(parts, element);
                        mistakes(element.node, &found, report);
                    }
                    silent(element.at, element.node, report);
                }
            }
        }
    }
}

fn silent(at: Place, node: &super::tree::Node, report: &mut Report) {
    if report.remarks(at).is_empty() {
        report.ignored(at, "nothing that is written leads to it");
    }
    said::each_silent(node, Verdict::Ignored, &format!("as line {}", at.line), report);
}

/// Says what Traefik would refuse of an element that nothing leads to.
fn mistakes(node: &super::tree::Node, found: &Report, report: &mut Report) {
    node.each_place(&mut |at, _| {
        for remark in found.remarks(at).iter().filter(|remark| remark.verdict == Verdict::WrongInSource) {
            report.wrong(at, remark.text.clone());
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imported(files: &[(&str, &str)]) -> Import {
        let around = Surroundings { environment: &|_| None, read: &|_| None, list: &|_| None };
        import(files, around)
    }

    const STATIC: &str = "entryPoints:\n  web:\n    address: :80\n";

    #[test]
    fn a_prefix_is_text_and_a_negation_spares() {
        let dynamic = "http:\n  routers:\n    a:\n      rule: PathPrefix(`/a`) && !Method(`POST`)\n      service: s\n    b:\n      rule: Method(`POST`)\n      service: t\n  \
                       services:\n    s:\n      loadBalancer:\n        servers: [{url: \"http://10.0.0.1\"}]\n    t:\n      loadBalancer:\n        servers: [{url: \"http://10.0.0.2\"}]\n";
        let import = imported(&[("traefik.yml", STATIC), ("dynamic.yml", dynamic)]);
        for part in ["path_regex = \"^/a\"", "methods = [\"POST\"]", "pool = \"s\"", "pool = \"t\""] {
            assert!(import.text.contains(part), "{part} is not in\n{}", import.text);
        }
        assert!(!import.report.is_incomplete(), "{}", import.report);
    }

    /// What comes of one router with one middleware, `m`.
    fn guarded(middleware: &str) -> Import {
        let dynamic = format!(
            "http:\n  routers:\n    a:\n      rule: Host(`a.test`)\n      middlewares: [m]\n      service: s\n  middlewares:\n    m:\n{middleware}  \
             services:\n    s:\n      loadBalancer:\n        servers: [{{url: \"http://10.0.0.1\"}}]\n"
        );
        imported(&[("traefik.yml", STATIC), ("dynamic.yml", &dynamic)])
    }

    #[test]
    fn middlewares_of_an_entry_point_stand_before_all_that_it_answers() {
        let statics = "entryPoints:\n  web:\n    address: :80\n    http:\n      middlewares: [m]\n      encodedCharacters: {allowEncodedSlash: false}\n      \
                       redirections: {entryPoint: {to: \":443\"}}\nping: {entryPoint: web}\n";
        let dynamic =
            "http:\n  middlewares:\n    m:\n      ipAllowList:\n        sourceRange: [10.0.0.0/8]\n";
        let import = imported(&[("traefik.yml", statics), ("dynamic.yml", dynamic)]);
        let (before, own) = import.text.split_once("name = \"ping\"").expect("pings are answered");
        assert!(before.contains("path_regex = \"(?i)%(?:2F)\"\nrespond = { status = 400 }"), "{before}");
        assert_eq!(own.matches("allow = [\"10.0.0.0/8\"]").count(), 2, "{own}");
        assert!(!import.report.is_incomplete(), "{}", import.report);
    }

    /// What comes of one router with these middlewares, `a` before `b`.
    fn of_two(middlewares: &str) -> Import {
        let dynamic = format!(
            "http:\n  routers:\n    r:\n      rule: Host(`a.test`)\n      middlewares: [a, b]\n      service: s\n  middlewares:\n{middlewares}  services:\n    s:\n      \
             loadBalancer:\n        servers: [{{url: \"http://10.0.0.1\"}}]\n"
        );
        imported(&[("traefik.yml", STATIC), ("dynamic.yml", &dynamic)])
    }

    #[test]
    fn of_two_middlewares_each_holds_as_far_as_in_traefik() {
        let import = of_two(
            "    a: {headers: {frameDeny: true, customResponseHeaders: {X-A: one, X-Frame-Options: ORIGIN}}}\n    \
             b: {headers: {customResponseHeaders: {X-A: two, X-B: two}}}\n",
        );
        let set = "set = { x-a = \"one\", x-frame-options = \"ORIGIN\", x-b = \"two\" }";
        assert!(import.text.contains(set), "{}", import.text);
        let import = of_two(
            "    a: {buffering: {maxRequestBodyBytes: 10}}\n    b: {buffering: {maxRequestBodyBytes: 20}}\n",
        );
        assert!(import.text.contains("max_body = \"10B\""), "{}", import.text);
        for (kind, says) in [
            ("retry", "attempts: "),
            ("circuitBreaker", "expression: NetworkErrorRatio() > 0."),
            ("compress", "minResponseBodyBytes: "),
        ] {
            let import = of_two(&format!("    a: {{{kind}: {{{says}4}}}}\n    b: {{{kind}: {{{says}5}}}}\n"));
            let told = format!("a router has another {kind} before it");
            assert!(import.report.to_string().contains(&told), "{}", import.report);
        }
        let service = |address| format!("{{forwardAuth: {{address: \"http://10.0.0.{address}/\"}}}}\n");
        let import = of_two(&format!("    a: {}    b: {}", service(8), service(9)));
        assert!(!import.text.contains("pool = \"s\""), "{}", import.text);
        assert!(import.report.is_incomplete());
    }

    #[test]
    fn an_answer_to_some_requests_that_cannot_be_told_apart_is_told() {
        let import = guarded(
            "      redirectRegex:\n        regex: ^http://a.test/(x|y.*z)/b$\n        replacement: http://b.test/\n",
        );
        assert!(!import.report.is_incomplete(), "{}", import.report);
        let dynamic = "http:\n  routers:\n    a:\n      rule: Host(`a.test`) && PathRegexp(`[0-9]$`)\n      middlewares: [m]\n      service: s\n  middlewares:\n    m:\n      redirectRegex:\n        \
                       regex: ^http://a.test/x/(.*)$\n        replacement: http://b.test/$1\n  services:\n    s:\n      loadBalancer:\n        servers: [{url: \"http://10.0.0.1\"}]\n";
        let import = imported(&[("traefik.yml", STATIC), ("dynamic.yml", dynamic)]);
        assert!(import.report.is_incomplete(), "{}\n{}", import.text, import.report);
    }

    #[test]
    fn an_entry_point_for_bytes_is_not_taken_by_routers_that_name_none() {
        let statics = "entryPoints:\n  web: {address: \":80\"}\n  ssh: {address: \":2222\"}\n";
        let dynamic = "http:\n  routers:\n    a:\n      rule: Host(`a.test`)\n      service: s\n  services:\n    s:\n      loadBalancer:\n        servers: [{url: \"http://10.0.0.1\"}]\ntcp:\n  \
                       routers:\n    g:\n      entryPoints: [ssh]\n      rule: HostSNI(`*`)\n      service: g\n  services:\n    g:\n      loadBalancer:\n        servers: [{address: \"10.0.0.2:22\"}]\n";
        let import = imported(&[("traefik.yml", statics), ("dynamic.yml", dynamic)]);
        assert!(
            import.text.contains("protocol = \"tcp\"") && import.text.contains("pool = \"g\""),
            "{}",
            import.text
        );
        assert!(!import.report.is_incomplete(), "{}", import.report);
    }

    #[test]
    fn what_keeps_people_out_and_cannot_be_said_lets_nobody_in() {
        for middleware in [
            "      digestAuth:\n        users: [\"a:b:c\"]\n",
            "      forwardAuth:\n        address: http://10.0.0.9/\n        forwardBody: true\n",
            "      forwardAuth:\n        address: http://10.0.0.9/\n        authResponseHeadersRegex: ^X-User\n",
        ] {
            let import = guarded(middleware);
            assert!(import.text.contains("respond = { status = 503 }"), "{}", import.text);
            assert!(!import.text.contains("pool = "), "{}", import.text);
            assert!(import.report.is_incomplete());
        }
    }
}
