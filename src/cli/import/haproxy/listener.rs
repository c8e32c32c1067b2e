//! What a frontend comes to: a listener for each kind of its `bind` lines, and the routes behind them.

use std::collections::{HashMap, HashSet};

use ipnet::IpNet;

use super::super::document::{Block, Table, Value, place};
use super::super::order::priorities;
use super::super::region::{Door, Region};
use super::super::report::{Place, Report};
use super::answer::Reply;
use super::bind::Bind;
use super::clause::Term;
use super::global::Global;
use super::pool::duration;
use super::proxy::{Proxy, Stage};
use super::route::{Action, Draft, Edits, Fields, Sections, drafts};
use super::rule::{Answer, Effect};
use super::step::Steps;
use super::test::Test;

/// What frontends are written with.
pub(super) struct Around<'a> {
    /// Every section and its steps.
    pub(super) sections: &'a Sections<'a>,
    /// What `global` says.
    pub(super) global: &'a Global,
    /// More than one http frontend is there, so that routes name their listeners.
    pub(super) many: bool,
    /// Names of routes that are taken.
    pub(super) names: &'a mut HashMap<String, usize>,
    /// Where verdicts go.
    pub(super) report: &'a mut Report,
}

/// The listeners and routes of a frontend.
pub(super) fn blocks(front: &Proxy, around: &mut Around<'_>) -> (Vec<Block>, Vec<Block>) {
    let groups = groups(front);
    if groups.is_empty() {
        return (Vec::new(), Vec::new());
    }
    let doors: Vec<Door> = groups.iter().map(|(name, binds)| door(name, binds)).collect();
    let steps = around.sections.steps(front.back, &front.name);
    let mut listeners: Vec<Block> =
        groups.iter().map(|(name, binds)| listener(name, binds, front, steps, around)).collect();
    let routes = if front.http {
        let drafts = drafts(front, &doors, around.sections, around.report);
        write(&drafts, front, &doors, around)
    } else {
        relay(front, &doors, &mut listeners, around)
    };
    (listeners, routes)
}

/// The `bind` lines by what they have in common, each with the name of a listener.
fn groups(front: &Proxy) -> Vec<(String, Vec<&Bind>)> {
    let mut groups: Vec<(String, Vec<&Bind>)> = Vec::new();
    let (mut known, mut taken) = (HashMap::new(), HashSet::new());
    for bind in &front.binds {
        let next = groups.len();
        let at = *known.entry(format!("{:?}", bind.keys)).or_insert(next);
        if let Some((_, binds)) = groups.get_mut(at) {
            binds.push(bind);
            continue;
        }
        let port = bind.addresses.iter().find_map(|(_, port)| *port);
        let candidates = [
            front.name.clone(),
            format!("{}-{}", front.name, if bind.tls { "tls" } else { "plain" }),
            format!("{}-{}", front.name, port.map_or_else(|| "unix".to_owned(), |port| port.to_string())),
        ];
        let free = candidates.into_iter().find(|name| !taken.contains(name));
        let name = free.unwrap_or_else(|| format!("{}-{}", front.name, groups.len() + 1));
        taken.insert(name.clone());
        groups.push((name, vec![bind]));
    }
    groups
}

fn door(name: &str, binds: &[&Bind]) -> Door {
    Door {
        listener: name.to_owned(),
        tls: binds.iter().any(|bind| bind.tls),
        ports: binds.iter().flat_map(|bind| bind.addresses.iter().filter_map(|(_, port)| *port)).collect(),
    }
}

fn listener(
    name: &str,
    binds: &[&Bind],
    front: &Proxy,
    steps: Option<&Steps>,
    around: &mut Around<'_>,
) -> Block {
    let mut table = Table::default();
    let mut known = HashSet::new();
    let addresses = binds.iter().flat_map(|bind| &bind.addresses).map(|(address, _)| address.as_str());
    let addresses: Vec<&str> = addresses.filter(|address| known.insert(*address)).collect();
    let first = binds.first().map(|bind| bind.at);
    table.set("bind", Value::texts(addresses), first);
    if !front.http {
        table.set("protocol", Value::text("tcp"), front.mode_at);
    }
    ceiling(front, &mut table, around);
    let networks =
        |list: &[(IpNet, Place)]| Value::texts(list.iter().map(|(network, _)| network.to_string()));
    for (key, list) in [("allow", steps.map(|s| &s.allow)), ("deny", steps.map(|s| &s.deny))] {
        if let Some(list) = list.filter(|list| !list.is_empty()) {
            table.set(key, networks(list), list.first().map(|(_, at)| *at));
        }
    }
    clients(front, steps, &mut table);
    timeouts(front, binds, &mut table, around.report);
    for (key, value) in binds.first().map(|bind| bind.keys.as_slice()).unwrap_or_default() {
        // HTTP/2 by ALPN is what an http listener offers anyway.
        let usual = key == "tls.alpn" && front.http && *value == Value::texts(["h2", "http/1.1"]);
        if !usual {
            table.set(key, value.clone(), first);
        }
    }
    let introduced = table.get("accept_proxy_protocol").is_some();
    if front.http && introduced && steps.is_none_or(|steps| steps.client_field.is_none()) {
        // No rule asks a field of requests who the client is.
        table.set("client_address", Value::text("proxy-protocol"), first);
    }
    if let Some((backlog, at)) = front.backlog.filter(|(number, _)| (1..=65_535).contains(number)) {
        table.set("limits.backlog", Value::Integer(backlog), Some(at));
        around.report.translated(at);
    }
    Block { name: name.to_owned(), comments: Vec::new(), table }
}

/// Who clients are, how many of one there may be, and what they are told of errors.
fn clients(front: &Proxy, steps: Option<&Steps>, table: &mut Table) {
    if let Some(steps) = steps.filter(|steps| !steps.trusted.is_empty()) {
        let mut networks: Vec<String> =
            steps.trusted.iter().map(|(network, _)| network.to_string()).collect();
        networks.sort();
        networks.dedup();
        table.set("trusted_proxies", Value::texts(networks), steps.trusted.first().map(|(_, at)| *at));
        if let Some((field, at)) = steps.client_field.filter(|(field, _)| *field != "x-forwarded-for") {
            table.set("client_address", Value::text(field), Some(at));
        }
        if let Some(at) = steps.proxy_header {
            table.set("accept_proxy_protocol", Value::Bool(true), Some(at));
        }
    }
    if let Some((most, at)) = steps.and_then(|steps| steps.per_source) {
        table.set("max_connections_per_source", Value::Integer(most), Some(at));
    }
    if front.http {
        if let Some(at) = front.options.get("forwarded") {
            table.set("forwarded", Value::text("both"), Some(*at));
        }
        if let Some((pages, at)) = super::page::value(&front.pages) {
            table.set("error_pages", pages, Some(at));
        }
    }
}

fn ceiling(front: &Proxy, table: &mut Table, around: &mut Around<'_>) {
    if let Some((own, at)) = front.maxconn {
        if (1..=10_000_000).contains(&own) {
            table.set("max_connections", Value::Integer(own), Some(at));
            around.report.translated(at);
        } else {
            around.report.ignored(at, "0 leaves it to the limit of the process");
        }
    } else if let Some((all, at)) = around.global.maxconn {
        table.set("max_connections", Value::Integer(all), Some(at));
        around
            .report
            .approximated(at, "each listener has it for itself; the process is bounded by its descriptors");
    }
}

fn timeouts(front: &Proxy, binds: &[&Bind], table: &mut Table, report: &mut Report) {
    let client = front.timeout("client");
    let head = front.timeout("http-request");
    if front.http {
        if let Some((time, at)) = head {
            table.set("timeouts.request_header", duration(time), Some(at));
        }
        // What is not written is taken from the next one (configuration manual, `timeout http-keep-alive`).
        if let Some((time, at)) = front.timeout("http-keep-alive").or(head).or(client) {
            table.set("timeouts.keep_alive", duration(time), Some(at));
        }
        if let Some((time, at)) = client {
            table.set("timeouts.client_idle", duration(time), Some(at));
            if head.is_none() {
                report.wrong(
                    at,
                    "there is no `timeout http-request`: a client that sends its head byte by byte holds a connection for ever (slowloris). Here a head has 10 s in all",
                );
            }
        }
    }
    let early = |bind: &&Bind| bind.tls || bind.keys.iter().any(|(key, _)| key == "accept_proxy_protocol");
    if let Some((time, at)) = front.timeout("client-hs").filter(|_| binds.iter().any(early)) {
        table.set("timeouts.tls_handshake", duration(time), Some(at));
    }
}

/// Pools and names of a frontend that relays bytes.
fn relay(front: &Proxy, doors: &[Door], listeners: &mut [Block], around: &mut Around<'_>) -> Vec<Block> {
    let mut routes = Vec::new();
    let mut pool = match &front.default_backend {
        Some((backend, at)) => around.pool(backend, *at).map(|pool| (pool, *at)),
        None if front.back && !front.servers.is_empty() => front.at.map(|at| (front.name.clone(), at)),
        None => None,
    };
    for step in
        around.sections.steps(front.back, &front.name).map(|of| of.steps.as_slice()).unwrap_or_default()
    {
        if step.effect == Effect::Rest {
            if step.terms.iter().any(|term| names_of(term).is_some_and(Vec::is_empty)) {
                break;
            }
            around.report.not_possible(
                step.at,
                "names that lead to no backend are not told apart here: take them out of the map",
            );
            continue;
        }
        let (Stage::Switch, Effect::Go(backend)) = (step.stage, &step.effect) else {
            around.report.not_possible(step.at, "there are no requests where bytes are relayed (mode tcp)");
            continue;
        };
        let Some(found) = around.pool(backend, step.at) else { continue };
        let names: Option<Vec<&Vec<String>>> = step.terms.iter().map(names_of).collect();
        match names {
            Some(names) if names.iter().any(|list| list.is_empty()) => {
                // It always holds: what stands behind it is never asked.
                pool = Some((found, step.at));
                break;
            }
            Some(names) => {
                let mut table = Table::default();
                let name = around.name(&[&front.name, backend]);
                table.set("name", Value::text(name), None);
                table.set("listeners", Value::texts(doors.iter().map(|door| door.listener.clone())), None);
                let all: Vec<String> = names.into_iter().flatten().cloned().collect();
                table.set("sni", Value::one_or_list(&all), Some(step.at));
                table.set("pool", Value::text(found), Some(step.at));
                routes.push(Block { name: String::new(), comments: Vec::new(), table });
            }
            None => around.report.not_possible(
                step.at,
                "where bytes are relayed a pool is chosen by the listener, or by the name that a TLS client asks for (sni)",
            ),
        }
    }
    match pool {
        Some((pool, at)) => {
            listeners.iter_mut().for_each(|one| one.table.set("pool", Value::text(&pool), Some(at)))
        }
        None if routes.is_empty() => {
            if let Some(at) = front.at {
                around.report.wrong(
                    at,
                    "it leads nowhere: it has no backend with servers, and no listener is made of it",
                );
            }
            listeners.iter_mut().for_each(|one| one.name.clear());
        }
        None => {}
    }
    routes
}

/// The names that a term asks for; none where it always holds, nothing where it asks something else.
fn names_of(term: &Term) -> Option<&Vec<String>> {
    static NONE: Vec<String> = Vec::new();
    match (term.all.as_slice(), term.none.as_slice()) {
        ([], []) => Some(&NONE),
        ([Test::Sni(names) | Test::TlsHosts(names)], []) => Some(names),
        _ => None,
    }
}

impl Around<'_> {
    /// The pool of a backend with servers.
    fn pool(&mut self, backend: &str, at: Place) -> Option<String> {
        match self.sections.proxies.get(backend) {
            Some(proxy) if proxy.back && !proxy.servers.is_empty() && !proxy.disabled => {
                Some(backend.to_owned())
            }
            Some(proxy) if proxy.back => {
                self.report.not_possible(
                    at,
                    format!("{backend} has no servers: a tcp listener has nothing to do for it"),
                );
                None
            }
            _ => {
                self.report.wrong(at, format!("there is no backend {backend}: HAProxy rejects the file"));
                None
            }
        }
    }

    /// A name for a route that no other has.
    fn name(&mut self, parts: &[&str]) -> String {
        let wanted = if self.many || parts.len() < 2 {
            parts.join("-")
        } else {
            parts.get(1..).unwrap_or_default().join("-")
        };
        let wanted: String = wanted.chars().take(100).collect();
        let count = self.names.entry(wanted.clone()).or_insert(0);
        *count += 1;
        if *count == 1 {
            return wanted;
        }
        let next = *count;
        self.name_numbered(&wanted, next)
    }

    fn name_numbered(&mut self, wanted: &str, mut number: usize) -> String {
        loop {
            let name = format!("{wanted}-{number}");
            if !self.names.contains_key(&name) {
                self.names.insert(name.clone(), 1);
                return name;
            }
            number += 1;
        }
    }
}

fn write(drafts: &[Draft], front: &Proxy, doors: &[Door], around: &mut Around<'_>) -> Vec<Block> {
    // The last one is what the others are exceptions of: it has the plain name.
    let mut names: Vec<String> =
        drafts.iter().rev().map(|draft| around.name(&[&front.name, &word(draft)])).collect();
    names.reverse();
    let regions: Vec<&Region> = drafts.iter().map(|draft| &draft.region).collect();
    let mut blocks = Vec::new();
    for ((draft, priority), name) in drafts.iter().zip(priorities(&regions)).zip(names) {
        let mut table = Table::default();
        table.set("name", Value::text(name), None);
        if priority != 0 {
            table.set("priority", Value::Integer(priority), None);
        }
        draft.region.write(doors, around.many, &mut table);
        action(draft, &mut table);
        pages(draft, front, around.sections, &mut table);
        let mut comments: Vec<String> = Vec::new();
        for at in &draft.spared {
            comments.push(format!(
                "{} spares these: {}",
                place(*at, around.report),
                around.report.source(*at)
            ));
        }
        match draft.at {
            Some(at) => comments.push(format!("{}: {}", place(at, around.report), around.report.source(at))),
            None if draft.action == Action::Nobody => {
                comments.push("Without a default_backend HAProxy answers 503.".to_owned());
            }
            None => {}
        }
        blocks.push(Block { name: String::new(), comments, table });
    }
    blocks
}

/// What a route is called for.
fn word(draft: &Draft) -> String {
    match &draft.action {
        Action::Pool(pool) => pool.clone(),
        Action::Nobody => "unavailable".to_owned(),
        Action::Answer(Answer::Redirect { to, .. }) if to.starts_with("https://{host}") => {
            "to-https".to_owned()
        }
        Action::Answer(Answer::Redirect { .. }) => "redirect".to_owned(),
        Action::Answer(Answer::Health(_)) => "health".to_owned(),
        Action::Answer(Answer::Respond(reply)) if reply.status >= 400 => "deny".to_owned(),
        Action::Answer(Answer::Respond(_)) => "respond".to_owned(),
    }
}

fn action(draft: &Draft, table: &mut Table) {
    match &draft.action {
        Action::Pool(pool) => table.set("pool", Value::text(pool), None),
        Action::Nobody => table.set("respond", Value::inline([("status", Value::Integer(503))]), None),
        Action::Answer(Answer::Respond(reply)) => {
            let mut pairs = vec![("status", Value::Integer(i64::from(reply.status)))];
            if !reply.body.is_empty() {
                pairs.push(("body", Value::text(&reply.body)));
            }
            if let Some(kind) = &reply.content_type {
                pairs.push(("content_type", Value::text(kind)));
            }
            table.set("respond", Value::inline(pairs), None);
        }
        Action::Answer(Answer::Redirect { to, status, .. }) => {
            let pairs = [("to", Value::text(to)), ("status", Value::Integer(i64::from(*status)))];
            table.set("redirect", Value::inline(pairs), None);
        }
        Action::Answer(Answer::Health(pool)) => table.set("health", Value::text(pool), None),
    }
    let mut edits = Edits::of(&draft.edits);
    if let Action::Answer(Answer::Respond(Reply { fields, .. }) | Answer::Redirect { fields, .. }) =
        &draft.action
    {
        for (name, value) in fields {
            let list = if name == "set-cookie" { &mut edits.answer.add } else { &mut edits.answer.set };
            if !list.iter().any(|(other, _)| other == name) {
                list.push((name.clone(), value.clone()));
            }
        }
    }
    // Beside a rewritten target the host is a part of that.
    let set = &mut edits.request.set;
    let at = set.iter().position(|(name, _)| name == "host").filter(|_| edits.target.is_some());
    let host = at.map(|at| set.remove(at).1);
    for (key, fields) in [("request_headers", &edits.request), ("response_headers", &edits.answer)] {
        if let Some(value) = edited(fields) {
            table.set(key, value, fields.at);
        }
    }
    for key in ["rate_limit", "concurrency_limit"] {
        let of = edits.limits.iter().filter(|(limit, _)| limit.key() == key);
        let mut values: Vec<(Value, Place)> = of.map(|(limit, at)| (limit.value(), *at)).collect();
        match values.as_mut_slice() {
            [] => {}
            [(one, at)] => table.set(key, one.clone(), Some(*at)),
            [(_, at), ..] => {
                let at = *at;
                table.set(key, Value::List(values.into_iter().map(|(value, _)| value).collect()), Some(at));
            }
        }
    }
    if let Some((target, at)) = edits.target {
        let parts =
            [("path_regex", target.regex), ("path", target.path), ("host", host), ("query", target.query)];
        let pairs = parts.into_iter().filter_map(|(key, part)| Some((key, Value::text(part?))));
        table.set("rewrite", Value::inline(pairs), Some(at));
    }
    for (key, value, at) in edits.keys {
        table.set(key, value, Some(at));
    }
}

/// Pages of a backend, where they are not those of its listeners.
fn pages(draft: &Draft, front: &Proxy, sections: &Sections<'_>, table: &mut Table) {
    let Action::Pool(pool) = &draft.action else { return };
    let of = |pages: &super::page::Pages| super::page::value(pages).map(|(value, _)| value);
    if let Some(back) = sections.proxies.get(pool.as_str())
        && let Some((value, at)) = super::page::value(&back.pages)
        && of(&front.pages).as_ref() != Some(&value)
    {
        table.set("error_pages", value, Some(at));
    }
}

fn edited(fields: &Fields) -> Option<Value> {
    let pairs = |list: &[(String, String)]| {
        Value::inline(list.iter().map(|(name, value)| (name.clone(), Value::text(value))))
    };
    let mut all = Vec::new();
    if !fields.remove.is_empty() {
        all.push(("remove", Value::texts(fields.remove.clone())));
    }
    for (key, list) in [("set", &fields.set), ("add", &fields.add)] {
        if !list.is_empty() {
            all.push((key, pairs(list)));
        }
    }
    (!all.is_empty()).then(|| Value::inline(all))
}
