//! From haproxy.cfg: read as HAProxy reads it, translated to what Plimsoll has, with a verdict on every line.
//!
//! The map, in the order of the way: `lexer` makes words of a line, `condition` follows `.if`, `section` has the
//! statements of each section. `proxy` reads a section by its table of directives, with `bind`, `server`, `option` and
//! `check` (`address`, `units` and `said` serve them); `global` has what is no proxy. Of what decides about requests,
//! `acl` reads one question, `clause` a condition of several, `rule` what is done
//! (`edit` to heads, `answer` without an endpoint, `template` the texts that are put together); `map` makes several of a rule that looks something
//! up, `variable` none of one that keeps something; `step` puts them in order (`limit` makes limits of counters) and `route` makes routes of them, by the
//! regions of `test` and what `seen` knows of requests that have been changed (`shown` is what of it no route does). `listener`, `pool` (with `probe` and `sticky`) write what it all comes to.
//! `page` has the pages of errors, `users` the lists of names and passwords.

mod acl;
mod address;
mod answer;
mod bind;
mod check;
mod clause;
mod condition;
mod edit;
mod global;
mod lexer;
mod limit;
mod listener;
mod map;
mod option;
mod page;
mod pool;
mod probe;
mod proxy;
mod route;
mod rule;
mod said;
mod section;
mod seen;
mod server;
mod shown;
mod step;
mod sticky;
mod template;
mod test;
#[cfg(test)]
mod tests;
mod units;
mod users;
mod variable;

use std::collections::HashMap;
use std::time::Duration;

use super::Import;
use super::document::{Block, Document, Value, place};
use super::lift::lift;
use super::mend::settle;
use super::report::{Place, Remark, Report, Verdict};
use super::surroundings::Surroundings;
use global::Global;
use proxy::{Proxy, Reading};
use route::Sections;
use section::{Section, Source};
use step::AllSteps;

/// Translates the files of a configuration of HAProxy, in the order in which HAProxy would be given them.
#[must_use]
pub fn import(files: &[(&str, &str)], around: Surroundings<'_>) -> Import {
    let mut report = Report::default();
    let source = section::read(files, around, &mut report);
    let mut document = Document::default();
    let mut global = Global::default();
    for section in &source.sections {
        match section.kind.as_str() {
            "global" => global::read(section, &mut global, &mut document, &mut report),
            "defaults" | "frontend" | "backend" | "listen" => {}
            _ => global::other(section, &mut global, &mut document, &mut report),
        }
    }
    let mut proxies = read_proxies(&source, around, &global, &mut report);
    variable::put_in(&mut proxies, &mut report);
    write(&proxies, around, &global, &mut document, &mut report);
    conclude(&source, &proxies, &global, &mut document, &mut report);
    settle(&mut document, &mut report);
    document.introduce("haproxy", &report);
    let text = document.print(&report);
    Import { text, report }
}

fn read_proxies(
    source: &Source,
    around: Surroundings<'_>,
    global: &Global,
    report: &mut Report,
) -> Vec<Proxy> {
    let mut proxies: Vec<Proxy> = Vec::new();
    let mut defaults: Option<&Section> = None;
    let mut taken: HashMap<(&str, &str), Place> = HashMap::new();
    let mut named: HashMap<&str, &Section> = HashMap::new();
    let mut inherited = 0;
    for section in &source.sections {
        if section.kind == "defaults" {
            defaults = Some(section);
            named.entry(&section.name).or_insert(section);
            continue;
        }
        if !["frontend", "backend", "listen"].contains(&section.kind.as_str()) {
            continue;
        }
        report.translated(section.at);
        if crate::model::name::PoolName::new(&section.name).is_err() {
            report.wrong(section.at, "a section has a name of letters, digits and -_.:, at most 128 of them");
            section.statements.iter().for_each(|line| report.ignored(line.at, "its section has no name"));
            continue;
        }
        let sides: &[&str] = match section.kind.as_str() {
            "listen" => &["frontend", "backend"],
            "frontend" => &["frontend"],
            _ => &["backend"],
        };
        if sides.iter().any(|side| taken.insert((*side, &section.name), section.at).is_some()) {
            report.wrong(section.at, "there is another section of that name: HAProxy rejects the file");
            section.statements.iter().for_each(|line| report.ignored(line.at, "its section is there twice"));
            continue;
        }
        let chain = chain(section, defaults, &named, report);
        inherited += chain.iter().map(|defaults| defaults.statements.len()).sum::<usize>();
        if inherited > INHERITED_MAX {
            let remedy = format!(
                "the defaults of the sections up to here are more than {INHERITED_MAX} lines, once for each section: import in parts"
            );
            report.not_possible(section.at, remedy);
            continue;
        }
        proxies.push(read_proxy(section, &chain, source, around, global, report));
    }
    proxies
}

/// The lines that sections take over from their defaults are no more than this, all together.
const INHERITED_MAX: usize = 500_000;

/// Defaults of defaults are followed so far.
const CHAIN_MAX: usize = 100;

/// The defaults of a section, the nearest first. Each stands before what names it.
fn chain<'s>(
    section: &'s Section,
    last: Option<&'s Section>,
    named: &HashMap<&str, &'s Section>,
    report: &mut Report,
) -> Vec<&'s Section> {
    let (mut chain, mut of) = (Vec::new(), section);
    loop {
        let next = match of.from.as_deref() {
            Some(name) => match named.get(name).filter(|defaults| defaults.at < of.at) {
                Some(defaults) => Some(*defaults),
                None => {
                    let what =
                        format!("there are no defaults called {name} before it: HAProxy rejects the file");
                    report.wrong(of.at, what);
                    last.filter(|_| chain.is_empty())
                }
            },
            None => last.filter(|_| chain.is_empty()),
        };
        let Some(defaults) = next else { return chain };
        if chain.len() >= CHAIN_MAX {
            let remedy = format!(
                "defaults of more than {CHAIN_MAX} others are not followed: write them in one section"
            );
            report.not_possible(section.at, remedy);
            return chain;
        }
        report.translated(defaults.at);
        chain.push(defaults);
        of = defaults;
    }
}

fn read_proxy(
    section: &Section,
    chain: &[&Section],
    source: &Source,
    around: Surroundings<'_>,
    global: &Global,
    report: &mut Report,
) -> Proxy {
    let front = section.kind != "backend";
    let proxy = Proxy {
        name: section.name.clone(),
        kind: section.kind.clone(),
        at: Some(section.at),
        front,
        back: section.kind != "frontend",
        ..Proxy::default()
    };
    let mut reading =
        Reading { report, proxy, around, variables: &source.variables, global, inherited: true };
    let inherited = chain.iter().rev().flat_map(|defaults| &defaults.statements);
    let mut all = inherited.clone().chain(&section.statements);
    // HAProxy's default is tcp.
    reading.proxy.http = all.rfind(|line| line.word(0) == "mode").is_some_and(|line| line.word(1) == "http");
    inherited.for_each(|line| reading.statement(line));
    reading.inherited = false;
    section.statements.iter().for_each(|line| reading.statement(line));
    proxy::identity(&mut reading);
    let check = reading.proxy.check.clone();
    check.conclude(&mut reading);
    reading.proxy
}

fn write(
    proxies: &[Proxy],
    around: Surroundings<'_>,
    global: &Global,
    document: &mut Document,
    report: &mut Report,
) {
    let tables = limit::tables(proxies);
    let backends: Vec<&str> =
        proxies.iter().filter(|proxy| proxy.back).map(|proxy| proxy.name.as_str()).collect();
    let beside = step::Beside { tables: &tables, backends: &backends, around };
    let read = |proxy: &Proxy| ((proxy.back, proxy.name.clone()), step::read(proxy, &beside, report));
    let mut steps: AllSteps = proxies.iter().map(read).collect();
    limit::name_apart(&mut steps);
    shown::forget(&mut steps);
    let steps = steps;
    // A frontend and a backend may have one name: routes lead to backends.
    let backs = proxies.iter().filter(|proxy| !proxy.back).chain(proxies.iter().filter(|proxy| proxy.back));
    let by_name: HashMap<&str, &Proxy> = backs.map(|proxy| (proxy.name.as_str(), proxy)).collect();
    write_pools(proxies, &by_name, &steps, global, document, report);
    let sections = Sections { proxies: &by_name, steps: &steps };
    let fronts: Vec<&Proxy> =
        proxies.iter().filter(|proxy| proxy.front && !proxy.disabled && !is_stats(proxy)).collect();
    let many = fronts.iter().filter(|proxy| proxy.http).count() > 1;
    let mut names = HashMap::new();
    for front in fronts {
        let mut around = listener::Around { sections: &sections, global, many, names: &mut names, report };
        let (listeners, routes) = listener::blocks(front, &mut around);
        let mut comment = about(front, report);
        for mut block in listeners.into_iter().filter(|block| !block.name.is_empty()) {
            block.comments.extend(comment.take());
            document.listeners.push(block);
        }
        document.routes.extend(routes);
    }
}

/// A section that shows HAProxy's own page, and nothing else.
fn is_stats(proxy: &Proxy) -> bool {
    proxy.stats.is_some()
        && proxy.servers.is_empty()
        && proxy.default_backend.is_none()
        && !proxy.rules.iter().any(|rule| rule.stage == proxy::Stage::Switch)
}

/// The comment above what a section has become.
fn about(proxy: &Proxy, report: &Report) -> Option<String> {
    let at = proxy.at?;
    Some(format!("{} {} ({})", proxy.kind, proxy.name, place(at, report)))
}

fn write_pools(
    proxies: &[Proxy],
    by_name: &HashMap<&str, &Proxy>,
    steps: &AllSteps,
    global: &Global,
    document: &mut Document,
    report: &mut Report,
) {
    let clients = tcp_clients(proxies, steps);
    for proxy in proxies.iter().filter(|proxy| proxy.back && !proxy.servers.is_empty() && !proxy.disabled) {
        let tracked = proxy.servers.iter().any(|server| server.options.track.is_some());
        let followed = tracked.then(|| follow(proxy, by_name, report));
        let proxy = followed.as_ref().unwrap_or(proxy);
        let client = clients.get(proxy.name.as_str()).copied();
        let mut around = pool::Around { client, global, report };
        let mut block = pool::block(proxy, &mut around);
        block.comments.extend(about(proxy, report));
        document.pools.push(block);
    }
    let failovers = steps.values().flat_map(|of| &of.failovers);
    let mut failovers: Vec<_> = failovers.collect();
    failovers.sort_by_key(|(_, _, at)| *at);
    for (pool, to, at) in failovers {
        let there = document.pools.iter().any(|block| block.name == *to);
        match document.pools.iter_mut().find(|block| block.name == *pool) {
            Some(block) if there => {
                add_failover(block, to, *at);
                let rules = steps.get(&(true, to.clone()));
                if rules.is_some_and(|of| !of.steps.is_empty() || !of.answers.is_empty()) {
                    let remedy = format!(
                        "the rules of {to} are not asked of what fails over to it, only of what a route leads there: write what they do into the routes to {pool}"
                    );
                    report.not_possible(*at, remedy);
                }
            }
            _ => report
                .not_possible(*at, "both have to be backends with servers: write `failover` in the pool"),
        }
    }
}

fn add_failover(block: &mut Block, to: &str, at: Place) {
    let mut list = match block.table.get("failover") {
        Some(Value::List(list)) => list.clone(),
        _ => Vec::new(),
    };
    if !list.contains(&Value::text(to)) {
        list.push(Value::text(to));
    }
    block.table.set("failover", Value::List(list), Some(at));
    // HAProxy goes back at once.
    let at_once = Value::inline([("after", Value::text("0s")), ("ramp", Value::text("0s"))]);
    block.table.set("failback", at_once, Some(at));
}

/// A backend whose tracked servers have been found.
fn follow(proxy: &Proxy, by_name: &HashMap<&str, &Proxy>, report: &mut Report) -> Proxy {
    let mut copy = Proxy {
        name: proxy.name.clone(),
        kind: proxy.kind.clone(),
        at: proxy.at,
        http: proxy.http,
        back: true,
        servers: proxy.servers.clone(),
        timeouts: proxy.timeouts.clone(),
        balance: proxy.balance.clone(),
        hash_type: proxy.hash_type.clone(),
        load_factor: proxy.load_factor,
        retries: proxy.retries,
        full: proxy.full,
        retry_on: proxy.retry_on.clone(),
        source: proxy.source.clone(),
        cookie: proxy.cookie.clone(),
        stick_table: proxy.stick_table.clone(),
        sticks: proxy.sticks.clone(),
        check: proxy.check.clone(),
        options: proxy.options.clone(),
        ..Proxy::default()
    };
    for lost in probe::follow_tracks(&mut copy, by_name) {
        if let Some(server) = proxy.servers.get(lost) {
            report.wrong(server.at, "what it tracks is no server that is checked: HAProxy rejects the file");
        }
    }
    copy
}

/// The shortest `timeout client` of the tcp frontends that lead to each backend.
fn tcp_clients<'a>(proxies: &'a [Proxy], steps: &'a AllSteps) -> HashMap<&'a str, Duration> {
    let mut shortest: HashMap<&str, Duration> = HashMap::new();
    for front in proxies.iter().filter(|proxy| proxy.front && !proxy.http) {
        let Some((time, _)) = front.timeout("client") else { continue };
        let switched =
            steps.get(&(front.back, front.name.clone())).into_iter().flat_map(|of| &of.steps).filter_map(
                |step| match &step.effect {
                    rule::Effect::Go(backend) => Some(backend.as_str()),
                    _ => None,
                },
            );
        let default = front.default_backend.as_ref().map(|(backend, _)| backend.as_str());
        for backend in switched.chain(default).chain(front.back.then_some(front.name.as_str())) {
            let least = shortest.entry(backend).or_insert(time);
            *least = time.min(*least);
        }
    }
    shortest
}

/// Last things: what no line stands for, and verdicts of lines that nothing took up.
fn conclude(
    source: &Source,
    proxies: &[Proxy],
    global: &Global,
    document: &mut Document,
    report: &mut Report,
) {
    lift(document);
    if let Some((_, at)) = global.maxconn {
        report.translated(at);
    }
    for proxy in proxies {
        table_without_use(proxy, report);
        if let Some((_, at)) = proxy.default_backend.as_ref() {
            report.translated(*at);
        }
        for bind in proxy.binds.iter().filter(|_| is_stats(proxy)) {
            report.approximated(bind.at, "no listener is made for a page that the admin API has");
        }
    }
    let of_defaults: std::collections::HashSet<Place> = source
        .sections
        .iter()
        .filter(|section| section.kind == "defaults")
        .flat_map(|section| section.statements.iter().map(|line| line.at).chain([section.at]))
        .collect();
    report.finish(|at| {
        if of_defaults.contains(&at) {
            Remark { verdict: Verdict::Ignored, text: "no section below makes use of it".to_owned() }
        } else {
            let text = "the importer does not know what to do with it: please report it".to_owned();
            Remark { verdict: Verdict::NotPossible, text }
        }
    });
    general(proxies, report);
}

/// A stick-table that neither stickiness nor a limit has taken up.
fn table_without_use(proxy: &Proxy, report: &mut Report) {
    if let Some((_, at)) = &proxy.stick_table
        && report.remarks(*at).is_empty()
    {
        report.ignored(*at, "nothing that is carried over looks into it");
    }
    if let (Some((_, at)), true) = (&proxy.cookie, proxy.servers.is_empty()) {
        report.ignored(*at, "the backend has no servers");
    }
    for stick in proxy.sticks.iter().filter(|_| proxy.servers.is_empty()) {
        report.ignored(stick.at, "the backend has no servers");
    }
}

/// Differences of the two products.
fn general(proxies: &[Proxy], report: &mut Report) {
    if proxies.iter().any(|proxy| proxy.http) {
        report.general("endpoints are told X-Forwarded-For, -Proto and -Host, X-Real-IP and X-Request-Id; HAProxy tells them what is written.");
        report.general("an endpoint that fails live traffic 5 times in a row is out for 10 s ([pool.NAME.outlier]); HAProxy goes by checks alone.");
        report.general("an endpoint gets at most 1024 requests at once, more wait ([pool.NAME.limits]); HAProxy has no ceiling unless maxconn is written.");
        report.general("hosts are compared without their ports, and fields as a whole; HAProxy's hdr() takes each element of a list with commas.");
        report.general("paths are compared in normal form: //admin and /%61dmin are /admin. What is ambiguous in HTTP's framing is refused.");
        report.general("our own answers have short texts as their bodies, 503 a Retry-After and 405 an Allow, not HAProxy's pages with their Cache-Control. response_headers hold for them too, as http-after-response does; http-response does not.");
    }
    if proxies.iter().any(|proxy| proxy.servers.iter().any(|server| server.options.check)) {
        report.general("an endpoint is used once its first probe is good; HAProxy takes servers for up until a check fails. After the first bad probe the next comes 500 ms later.");
    }
}
