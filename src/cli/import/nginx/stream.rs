//! `stream`: servers that relay bytes or datagrams.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::time::Duration;

use super::super::document::{Block, Document, Table, Value, place};
use super::catalogue::{STREAM, STREAM_SERVER};
use super::certificate::{self, Wanted};
use super::draft::Key;
use super::guard::rules;
use super::listen::{self, Listen};
use super::notes::Notes;
use super::pools::{Origin, Pools};
use super::scope::{Level, Scope};
use super::switch::{Kind, Switch};
use super::tree::Directive;
use super::units::{bytes, duration, size, time};
use super::upstream::{Upstream, address};
use super::variable::{alone, is_plain};
use crate::model::host::HostPattern;

/// What a stream comes to beside its listeners and routes.
pub(super) struct Relayed<'t> {
    pub(super) upstreams: HashMap<String, Upstream<'t>>,
    /// Keys of pools.
    pub(super) keys: HashMap<usize, Vec<Key>>,
}

struct Relay<'w, 't, 'r> {
    scope: Scope<'t>,
    upstreams: &'w HashMap<String, Upstream<'t>>,
    switches: &'w HashMap<String, Switch<'t>>,
    pools: &'w mut Pools<'t>,
    keys: &'w mut HashMap<usize, Vec<Key>>,
    notes: &'w mut Notes<'r>,
}

/// Translates a `stream` block.
pub(super) fn write<'t>(
    of: &'t Directive,
    pools: &mut Pools<'t>,
    document: &mut Document,
    notes: &mut Notes<'_>,
) -> Relayed<'t> {
    notes.ok(of);
    let level = Rc::new(Level::new(STREAM, of.inside()));
    let upstreams = super::upstream::read(&level, false, notes);
    let switches = super::switch::read(&level, notes);
    let zones: HashMap<&str, &Directive> = level
        .all("limit_conn_zone")
        .iter()
        .filter_map(|of| {
            Some((of.words.iter().find_map(|word| word.strip_prefix("zone="))?.split(':').next()?, *of))
        })
        .collect();
    let mut keys = HashMap::new();
    let mut names: HashMap<String, usize> = HashMap::new();
    let mut bound: HashSet<(String, bool)> = HashSet::new();
    let base = Scope::default().with(Rc::clone(&level));
    for server in level.all("server") {
        let inner = Rc::new(Level::new(STREAM_SERVER, server.inside()));
        let scope = base.with(Rc::clone(&inner));
        let mut relay =
            Relay { scope, upstreams: &upstreams, switches: &switches, pools, keys: &mut keys, notes };
        let mut listens: Vec<Listen<'t>> =
            inner.all("listen").iter().flat_map(|of| listen::read(of, false, relay.notes)).collect();
        listens.retain(|listen| {
            let first = bound.insert((listen.bind.clone(), listen.udp));
            if !first {
                let what = "a server listens on this address already: only one can have it here, and before nginx 1.25.5";
                relay.notes.cannot(listen.of, what);
            }
            first
        });
        relay.notes.ok(server);
        if listens.is_empty() {
            if inner.all("listen").is_empty() {
                relay.notes.wrong(server, "it listens on nothing: nginx rejects it");
            }
            continue;
        }
        for udp in [false, true] {
            let listens: Vec<&Listen<'t>> = listens.iter().filter(|listen| listen.udp == udp).collect();
            if !listens.is_empty() {
                relay.server(server, &listens, udp, &zones, &mut names, document);
            }
        }
    }
    Relayed { upstreams, keys }
}

impl<'t> Relay<'_, 't, '_> {
    fn server(
        &mut self,
        of: &'t Directive,
        listens: &[&Listen<'t>],
        udp: bool,
        zones: &HashMap<&str, &'t Directive>,
        names: &mut HashMap<String, usize>,
        document: &mut Document,
    ) {
        let name = listener_name(listens, udp, names);
        let mut table = Table::default();
        let first = listens.first().map(|listen| listen.of.at);
        table.set("bind", Value::texts(listens.iter().map(|listen| listen.bind.clone())), first);
        table.set("protocol", Value::text(if udp { "udp" } else { "tcp" }), first);
        let ssl = listens.iter().any(|listen| listen.ssl) && !udp;
        if !self.guards(of, listens, zones, &mut table) {
            return;
        }
        if ssl {
            self.tls(&mut table);
        }
        let Some((pool, routes)) = self.destination(of, &name, udp) else {
            return self.notes.cannot(of, "it leads to no pool that is known, and no listener is made of it");
        };
        if let Some(pool) = pool {
            table.set(
                "pool",
                Value::text(self.pools.name(pool)),
                self.scope.find("proxy_pass").map(|of| of.at),
            );
        }
        if let Some((count, at)) = listens.iter().find_map(|listen| Some((listen.backlog?, listen.of.at))) {
            table.set("limits.backlog", Value::Integer(count), Some(at));
        }
        self.rates(&mut table);
        self.hello(&mut table);
        if udp {
            self.datagrams(&mut table);
        }
        let comment = format!("server ({})", place(of.at, self.notes.report));
        document.listeners.push(Block { name, comments: vec![comment], table });
        document.routes.extend(routes);
    }

    /// Who may connect; false where nobody may.
    fn guards(
        &mut self,
        of: &'t Directive,
        listens: &[&Listen<'t>],
        zones: &HashMap<&str, &'t Directive>,
        table: &mut Table,
    ) -> bool {
        let lines = self.scope.all_of(&["allow", "deny"]);
        let mut faults = Vec::new();
        let rules = rules(&lines, |of| faults.push(of.id));
        for line in &lines {
            if faults.contains(&line.id) {
                self.notes.wrong(line, "it is an address, a network, unix: or all: nginx rejects it");
            } else {
                self.notes.ok(line);
            }
        }
        if let Some(strange) = self.scope.strange() {
            self.notes.cannot(strange, "who connects is not asked by it here: no listener is made of the server until allow, deny or client_ca says who may");
            self.notes.near(of, "nobody may connect: no listener is made of it");
            return false;
        }
        let keys = rules.keys();
        if keys.iter().any(|(name, value)| *name == "allow" && *value == Value::List(Vec::new())) {
            self.notes.near(of, "nobody may connect: no listener is made of it");
            return false;
        }
        let at = lines.first().map(|of| of.at);
        for (name, value) in keys {
            table.set(name, value, at);
        }
        for limit in self.scope.all("limit_conn") {
            let zone = zones.get(limit.word(0)).copied();
            let by_client =
                zone.and_then(|zone| alone(zone.word(0))).is_some_and(|name| name.ends_with("remote_addr"));
            match (limit.word(1).parse::<i64>().ok().filter(|most| *most > 0), zone) {
                (Some(most), Some(zone)) if by_client => {
                    table.set("max_connections_per_source", Value::Integer(most), Some(limit.at));
                    self.notes.ok(limit);
                    self.notes.ok(zone);
                }
                (Some(most), Some(zone)) => {
                    table.set("max_connections", Value::Integer(most), Some(limit.at));
                    self.notes
                        .near(limit, "connections are counted by source, or all of a listener: here all");
                    self.notes.ok(zone);
                }
                _ => self.notes.wrong(limit, "it names a limit_conn_zone and a number: nginx rejects it"),
            }
        }
        self.clients(listens, table);
        true
    }

    /// Whose PROXY headers are believed.
    fn clients(&mut self, listens: &[&Listen<'t>], table: &mut Table) {
        let proxied = listens.iter().find(|listen| listen.proxy_protocol);
        let trusted: Vec<String> = self
            .scope
            .all("set_real_ip_from")
            .into_iter()
            .filter_map(|of| {
                self.notes.ok(of);
                super::switch::parse_network(of.word(0)).map(|network| network.to_string())
            })
            .collect();
        if let Some(listen) = proxied {
            table.set("accept_proxy_protocol", Value::Bool(true), Some(listen.of.at));
            self.notes.near(
                listen.of,
                "PROXY headers are taken of trusted_proxies alone, and nginx takes them of everybody",
            );
            if trusted.is_empty() {
                self.notes.cannot(
                    listen.of,
                    "PROXY headers are believed of trusted_proxies alone: name the balancers' networks there",
                );
            }
        }
        if !trusted.is_empty() {
            table.set(
                "trusted_proxies",
                Value::texts(trusted),
                self.scope.find("set_real_ip_from").map(|of| of.at),
            );
        }
    }

    fn tls(&mut self, table: &mut Table) {
        let scope = self.scope.clone();
        let wanted = Wanted { http: false, http2: false, told: false };
        certificate::write(&[&scope], wanted, table, self.notes);
        if let Some(of) = scope.find("ssl_handshake_timeout")
            && let Some(time) = time(of.word(0))
        {
            table.set("timeouts.tls_handshake", duration(time), Some(of.at));
            self.notes.ok(of);
        }
        if let Some(of) = scope.find("ssl_alpn") {
            table.set("tls.alpn", Value::texts(of.words.clone()), Some(of.at));
            self.notes.ok(of);
        }
    }

    fn rates(&mut self, table: &mut Table) {
        for (name, key) in
            [("proxy_upload_rate", "limits.bandwidth_in"), ("proxy_download_rate", "limits.bandwidth_out")]
        {
            let Some(of) = self.scope.find(name) else { continue };
            match size(of.word(0)) {
                Some(0) => self.notes.ok(of),
                Some(rate) => {
                    table.set(key, Value::text(format!("{}/s", bytes(rate, 1, 1 << 40))), Some(of.at));
                    self.notes.ok(of);
                }
                None => self.notes.cannot(of, "a rate that depends on the connection is not set"),
            }
        }
    }

    fn datagrams(&mut self, table: &mut Table) {
        let (idle, of) = self.time("proxy_timeout", 600);
        table.set("timeouts.udp_idle", duration(idle), of);
        if let Some(of) = self.scope.find("proxy_responses") {
            match of.word(0).parse::<i64>() {
                Ok(0) => self.notes.cannot(of, "a session waits for answers until it is quiet (udp_idle)"),
                Ok(count) => {
                    table.set("limits.udp_answers", Value::Integer(count.clamp(0, 1_000_000)), Some(of.at));
                    self.notes.ok(of);
                }
                Err(_) => self.notes.wrong(of, "it has a number: nginx rejects it"),
            }
        }
        if let Some(of) = self.scope.find("proxy_requests") {
            self.notes.near(of, "a client's datagrams are one session until it has its answers (udp_answers), or is quiet (udp_idle)");
        }
    }

    fn time(&mut self, name: &str, default: u64) -> (Duration, Option<super::super::report::Place>) {
        match self.scope.find(name).map(|of| (of, time(of.word(0)))) {
            Some((of, Some(time))) => {
                self.notes.ok(of);
                (time, Some(of.at))
            }
            Some((of, None)) => {
                self.notes.wrong(of, "it has a time: nginx rejects it");
                (Duration::from_secs(default), None)
            }
            None => (Duration::from_secs(default), None),
        }
    }

    /// The pool of those that no route takes, and routes by the name that TLS clients ask for.
    fn destination(
        &mut self,
        of: &'t Directive,
        listener: &str,
        udp: bool,
    ) -> Option<(Option<usize>, Vec<Block>)> {
        let Some(pass) = self.scope.find("proxy_pass") else {
            if let Some(other) = self.scope.find("return").or_else(|| self.scope.find("pass")) {
                self.notes.cannot(other, "a tcp listener relays to a pool");
            } else {
                self.notes.wrong(of, "it has no proxy_pass: nginx rejects it");
            }
            return None;
        };
        if let Some(preread) = self.scope.find("ssl_preread") {
            self.notes.ok(preread);
        }
        if is_plain(pass.word(0)) {
            let pool = self.pool(pass.word(0), pass, udp)?;
            self.notes.ok(pass);
            return Some((Some(pool), Vec::new()));
        }
        let name = alone(pass.word(0));
        if name.as_deref() == Some("ssl_preread_server_name") {
            self.notes.cannot(pass, "a client that chooses its endpoint by a name could reach anything: write a route with `sni` for each name");
            return None;
        }
        let switch = name.and_then(|name| self.switches.get(&name));
        let Some(switch) = switch.filter(|switch| {
            switch.kind == Kind::Map && alone(switch.source()).as_deref() == Some("ssl_preread_server_name")
        }) else {
            self.notes.cannot(pass, "where bytes are relayed a pool is chosen by the listener, or by the name that a TLS client asks for (sni)");
            return None;
        };
        self.notes.ok(switch.of);
        self.notes.ok(pass);
        let found = self.by_name(switch, pass, listener, udp);
        (found.0.is_some() || !found.1.is_empty()).then_some(found)
    }

    /// What a ClientHello may take, where it is looked into.
    fn hello(&mut self, table: &mut Table) {
        if self.scope.is_on("ssl_preread") && self.scope.find("preread_timeout").is_some() {
            let (time, at) = self.time("preread_timeout", 30);
            table.set("timeouts.tls_handshake", duration(time), at);
        }
    }

    fn by_name(
        &mut self,
        switch: &Switch<'t>,
        pass: &'t Directive,
        listener: &str,
        udp: bool,
    ) -> (Option<usize>, Vec<Block>) {
        let mut default = None;
        let mut routes: Vec<(usize, Vec<String>, &'t Directive)> = Vec::new();
        let mut seen: HashSet<String> = HashSet::new();
        let hostnames = switch.of.inside().iter().any(|row| row.name == "hostnames" && row.words.is_empty());
        for row in switch.of.inside() {
            if ["hostnames", "volatile", "include"].contains(&row.name.as_str()) {
                self.notes.ok(row);
                continue;
            }
            let names = sni_names(&row.name, hostnames);
            if row.name != "default" && names.is_none() {
                self.notes.cannot(row, "names are exact, or have a star in front (*.example.com): write a route with `sni` for each");
                continue;
            }
            if row.word(0).is_empty() {
                self.notes.near(row, "connections with this name are reset");
                continue;
            }
            let Some(pool) = self.pool(row.word(0), row, udp) else { continue };
            self.notes.ok(row);
            match names.filter(|_| row.name != "default") {
                None => default = Some(pool),
                Some(names) if names.iter().all(|name| seen.contains(name)) => {
                    self.notes.wrong(row, "the name is there already");
                }
                Some(names) => match routes.iter_mut().find(|(own, ..)| *own == pool) {
                    Some((_, own, _)) => {
                        own.extend(names.into_iter().filter(|name| seen.insert(name.clone())))
                    }
                    None => routes.push((
                        pool,
                        names.into_iter().filter(|name| seen.insert(name.clone())).collect(),
                        row,
                    )),
                },
            }
        }
        let block = |(pool, names, row): (usize, Vec<String>, &'t Directive)| {
            let mut table = Table::default();
            let name = self.pools.name(pool);
            let route: String = format!("{listener}-{name}").chars().take(120).collect();
            table.set("name", Value::text(route), None);
            table.set("listeners", Value::texts([listener]), None);
            table.set("sni", Value::one_or_list(&names), Some(row.at));
            table.set("pool", Value::text(name), Some(row.at));
            let comments =
                vec![format!("{}: {}", place(pass.at, self.notes.report), self.notes.report.source(pass.at))];
            Block { name: String::new(), comments, table }
        };
        let routes = routes.into_iter().map(block).collect();
        (default, routes)
    }

    /// The pool of an upstream or an address.
    fn pool(&mut self, text: &str, of: &'t Directive, udp: bool) -> Option<usize> {
        let origin = match self.upstreams.get(text) {
            Some(upstream) if upstream.peers.is_empty() => {
                self.notes.wrong(of, "the upstream has no servers");
                return None;
            }
            Some(_) => Origin::Upstream(text.to_owned()),
            None if !is_plain(text) => {
                self.notes.cannot(of, "a pool is one that is known before");
                return None;
            }
            None => match address(text, None) {
                Ok(address) => Origin::Address(address),
                Err(why) => {
                    self.notes.wrong(of, why);
                    return None;
                }
            },
        };
        let settings = self.settings(text, udp);
        let known = self.upstreams.get(text).map_or(1, |upstream| upstream.peers.len());
        let pool = self.pools.of(origin, settings, false, of);
        let connect = self.time("proxy_connect_timeout", 60);
        let idle = self.time("proxy_timeout", 600);
        let mut keys: Vec<Key> = vec![("timeouts.connect".to_owned(), duration(connect.0), connect.1)];
        if !udp {
            keys.push(("timeouts.tunnel".to_owned(), duration(idle.0), idle.1));
        }
        keys.push(self.tries(known));
        if let Some(check) = self.scope.inner().next().and_then(|level| level.first("health_check")) {
            self.notes.ok(check);
            let scope = self.scope.clone();
            self.pools.check(pool, check, scope, "");
        }
        match self.keys.get(&pool) {
            None => drop(self.keys.insert(pool, keys)),
            Some(own) => {
                for (name, value, at) in keys {
                    if !own.iter().any(|(other, known, _)| *other == name && *known == value)
                        && let Some(line) = ["proxy_timeout", "proxy_connect_timeout", "proxy_next_upstream"]
                            .iter()
                            .filter_map(|name| self.scope.find(name))
                            .find(|of| Some(of.at) == at)
                    {
                        self.notes.near(line, "it is one for the pool: what the first server that leads to it says holds for all");
                    }
                }
            }
        }
        Some(pool)
    }

    /// How often another endpoint is tried.
    fn tries(&mut self, known: usize) -> Key {
        let of = self.scope.find("proxy_next_upstream");
        let off = of.is_some_and(|of| of.word(0) == "off");
        let mut most = if off { 1 } else { known };
        for name in ["proxy_next_upstream", "proxy_next_upstream_tries", "proxy_next_upstream_timeout"] {
            let Some(of) = self.scope.find(name) else { continue };
            self.notes.ok(of);
            if name == "proxy_next_upstream_tries" {
                most = of
                    .word(0)
                    .parse::<usize>()
                    .ok()
                    .filter(|tries| *tries > 0)
                    .map_or(most, |tries| most.min(tries));
            }
        }
        let count = i64::try_from(most.clamp(1, 100)).unwrap_or(100);
        (
            "retry".to_owned(),
            Value::inline([("attempts", Value::Integer(count)), ("on", Value::texts(["connect"]))]),
            of.map(|of| of.at),
        )
    }

    fn settings(&mut self, host: &str, udp: bool) -> Vec<Key> {
        let mut out: Vec<Key> = Vec::new();
        let scope = self.scope.clone();
        if let Some(of) = scope.find("proxy_protocol") {
            if of.word(0) == "on" {
                out.push(("send_proxy".to_owned(), Value::text(if udp { "v2" } else { "v1" }), Some(of.at)));
            }
            self.notes.ok(of);
        }
        if let Some(of) = scope.find("proxy_bind").filter(|of| of.word(0) != "off") {
            out.extend(super::tls::source(of, self.notes));
        }
        if let Some(of) = scope.find("proxy_ssl") {
            self.notes.ok(of);
            if of.word(0) == "on" && !udp {
                out.extend(super::tls::to_endpoints(&scope, "proxy", host, self.notes));
            }
        }
        out
    }
}

/// A name of a map as `sni` has it.
fn sni_names(name: &str, hostnames: bool) -> Option<Vec<String>> {
    let lower = name.to_ascii_lowercase();
    if let Some(host) = lower.strip_prefix('.').filter(|_| hostnames) {
        return Some(vec![host.to_owned(), format!("*.{host}")]).filter(|_| HostPattern::parse(host).is_ok());
    }
    let plain = HostPattern::parse(&lower).is_ok() && (hostnames || !lower.contains('*'));
    if plain {
        return Some(vec![lower]);
    }
    // `~^(.+\.)?example\.com$` and `~\.example\.com$` are names with a star.
    let regex = lower.strip_prefix("~*").or_else(|| lower.strip_prefix('~'))?;
    let body = regex.strip_suffix('$')?;
    for (start, own, below) in [
        ("^(.+\\.)?", true, true),
        ("^(.*\\.)?", true, true),
        ("^.+\\.", false, true),
        ("^.*\\.", false, true),
        ("^(.+)\\.", false, true),
        ("^(.*)\\.", false, true),
        ("\\.", false, true),
        ("^", true, false),
    ] {
        let Some(rest) = body.strip_prefix(start) else { continue };
        let host = rest.replace("\\.", ".").replace("\\-", "-");
        if rest.replace("\\.", "").contains('.') || HostPattern::parse(&host).is_err() || host.contains('*') {
            return None;
        }
        let mut out = Vec::new();
        if own {
            out.push(host.clone());
        }
        if below {
            out.push(format!("*.{host}"));
        }
        return Some(out);
    }
    None
}

fn listener_name(listens: &[&Listen<'_>], udp: bool, names: &mut HashMap<String, usize>) -> String {
    let kind = if udp { "udp" } else { "tcp" };
    let base = match listens.first().and_then(|listen| listen.port) {
        Some(port) => format!("{kind}-{port}"),
        None => format!("{kind}-unix"),
    };
    let count = names.entry(base.clone()).or_insert(0);
    *count += 1;
    if *count == 1 { base } else { format!("{base}-{count}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_map_are_those_of_tls() {
        let check = |name: &str, want: Option<&[&str]>| {
            let want = want.map(|want| want.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
            assert_eq!(sni_names(name, true), want, "{name}");
        };
        check("a.test", Some(&["a.test"]));
        check(".a.test", Some(&["a.test", "*.a.test"]));
        check("*.a.test", Some(&["*.a.test"]));
        check(r"~^(.+\.)?a\.test$", Some(&["a.test", "*.a.test"]));
        check(r"~\.a\.test$", Some(&["*.a.test"]));
        check(r"~^a[0-9]\.test$", None);
        check("a.*", None);
    }
}
