//! What becomes of requests that go on: to which pool, with which changes, and past whom.

use ipnet::IpNet;

use super::super::document::{Table, Value};
use super::super::region::{Part, Region, ValueTest, meet_networks};
use super::super::report::{Place, Report};
use super::annotation::Settings;
use super::annotation::backend::Backend;
use super::annotation::beside::Beside;
use super::draft::respond;
use super::host::{Location, Target};
use super::location::Maker;
use super::service::Wanted;
use super::variable::template;

/// Where requests of a location go.
pub(super) struct Goal<'g> {
    pub(super) location: &'g Location,
    pub(super) settings: &'g Settings,
    pub(super) wanted: &'g Wanted,
    pub(super) backend: Backend,
    pub(super) at: Place,
    /// They come over TLS.
    pub(super) tls: bool,
    /// Endpoints are told of the certificates of clients.
    pub(super) tells_of_clients: bool,
}

/// What the controller tells endpoints of the certificates of clients: no client may say it.
const OF_CLIENTS: [&str; 4] =
    ["ssl-client-verify", "ssl-client-subject-dn", "ssl-client-issuer-dn", "ssl-client-cert"];

/// One of the ways that requests for a location may go.
#[derive(Debug, Clone, Default)]
struct Way {
    values: Vec<(Part, String, ValueTest)>,
    source: Option<Vec<IpNet>>,
    /// These clients are not limited.
    unlimited: bool,
    /// These clients need no login.
    open: bool,
}

/// Where a request goes.
#[derive(Debug, Clone)]
enum Action {
    Pool(String),
    /// Shares, where they come from, and whether clients stay in theirs.
    Split(Value, Place, bool),
}

impl Maker<'_, '_, '_> {
    /// The routes that lead there, most wanted first.
    pub(super) fn lead(&mut self, goal: &Goal<'_>, region: &Region) -> Vec<(Region, Table)> {
        let mut out = Vec::new();
        let main = self.pool(goal.wanted, &goal.backend, goal.settings, goal.at);
        let wanted = self.pools.by_number(goal.wanted);
        let uses = self.places.uses(&wanted, &goal.backend.key(), self.ingresses, self.pools);
        if uses.sticky.is_some() && !goal.settings.affinity.sticks() {
            self.report.approximated(
                goal.at,
                "another Ingress makes clients of the Service stay: those of this path get the cookie too",
            );
        }
        for (way, action) in self.actions(goal, main) {
            for guard in ways(goal.settings) {
                let region = region_of(region, &way, &guard);
                let mut table = Table::default();
                match &action {
                    Ok(Action::Pool(pool)) => table.set("pool", Value::text(pool), None),
                    Ok(Action::Split(value, from, sticky)) => {
                        table.set("split", value.clone(), Some(*from));
                        if !sticky {
                            table.set("split_by", Value::text("random"), None);
                        }
                    }
                    Err(why) => {
                        self.report.wrong(goal.at, format!("{why}: it answers 503"));
                        out.push((region, respond(503, None)));
                        continue;
                    }
                }
                self.write(goal, &guard, &mut table);
                out.push((region, table));
            }
        }
        out
    }

    /// The pool of a Service.
    fn pool(
        &mut self,
        wanted: &Wanted,
        backend: &Backend,
        settings: &Settings,
        at: Place,
    ) -> Result<String, String> {
        let wanted = self.pools.by_number(wanted);
        let uses = self.places.uses(&wanted, &backend.key(), self.ingresses, self.pools);
        let controller = self.controller;
        let proxy = uses.first_alike.unwrap_or(settings).proxy.or(&controller.proxy);
        let sticky = uses.sticky.map(|own| own.affinity.clone());
        let balance = uses.first.unwrap_or(settings).affinity.clone();
        let paths = &uses.paths;
        self.pools.of_service(&wanted, &backend.key(), at, self.report, |made, report| {
            match &sticky {
                Some(affinity) => affinity.write_balance(&controller.affinity, made.table, report),
                None => balance.write_balance(&controller.affinity, made.table, report),
            }
            backend.write(made.table);
            controller.write_pool(made.table);
            proxy.write(made.table, report);
            proxy.write_head(made.table);
            if let Some(affinity) = sticky {
                affinity.write_sticky(paths, made.table, report);
            }
        })
    }

    /// The Service, and its canary before it.
    fn actions(
        &mut self,
        goal: &Goal<'_>,
        main: Result<String, String>,
    ) -> Vec<(Way, Result<Action, String>)> {
        let Goal { location, wanted, backend, settings, .. } = goal;
        let plain = |main: Result<String, String>| vec![(Way::default(), main.map(Action::Pool))];
        let Some((number, to, at)) = &location.canary else { return plain(main) };
        let Some(canary) = self.ingresses.get(*number).map(|ingress| &ingress.settings) else {
            return plain(main);
        };
        self.shared(wanted, location, *at);
        let (main, other) = match (main, self.pool(to, backend, settings, *at)) {
            (Ok(main), Ok(other)) => (main, other),
            (main, Err(why)) => {
                self.report.wrong(*at, format!("{why}: the canary gets nothing"));
                return plain(main);
            }
            (Err(why), Ok(_)) => return plain(Err(why)),
        };
        let asks = canary.canary.header.as_ref().or(canary.canary.cookie.as_ref());
        if let (Some((_, at)), true) = (asks, settings.affinity.sticks()) {
            self.report.approximated(*at, "it is asked first; the controller leaves clients where their cookie of session affinity binds them, whatever else they say");
        }
        let mut out = Vec::new();
        let mut when = |part: Part, name: &str, test: ValueTest, to: &str| {
            let way = Way { values: vec![(part, name.to_owned(), test)], ..Way::default() };
            out.push((way, Ok(Action::Pool(to.to_owned()))));
        };
        let rules = &canary.canary;
        let word = |word: &str| ValueTest::Exact(word.to_owned());
        if let Some((header, _)) = &rules.header {
            let header = header.to_ascii_lowercase();
            match (&rules.value, &rules.pattern) {
                (Some((value, _)), _) => when(Part::Header, &header, word(value), &other),
                (None, Some((pattern, _))) => {
                    when(Part::Header, &header, ValueTest::Regex(pattern.clone()), &other);
                }
                (None, None) => {
                    when(Part::Header, &header, word("always"), &other);
                    when(Part::Header, &header, word("never"), &main);
                }
            }
        }
        if let Some((cookie, _)) = &rules.cookie {
            when(Part::Cookie, cookie, word("always"), &other);
            when(Part::Cookie, cookie, word("never"), &main);
        }
        match rules.shares(self.report) {
            Some((canary_share, 0, _)) if canary_share > 0 => {
                out.push((Way::default(), Ok(Action::Pool(other))))
            }
            Some((share, rest, from)) => {
                let part = |pool: &str, weight: u32| {
                    Value::inline([
                        ("pool", Value::text(pool)),
                        ("weight", Value::Integer(i64::from(weight))),
                    ])
                };
                let value = Value::List(vec![part(&main, rest), part(&other, share)]);
                let sticky =
                    settings.affinity.sticks() && !canary.affinity.legacy || !settings.affinity.sticks();
                out.push((Way::default(), Ok(Action::Split(value, from, sticky))));
            }
            None => out.push((Way::default(), Ok(Action::Pool(main)))),
        }
        out
    }

    /// The controller joins canaries to Services: other paths of the same one have it too.
    fn shared(&mut self, wanted: &Wanted, location: &Location, at: Place) {
        let wanted = self.pools.by_number(wanted);
        let other = |other: &&Location| other.canary.is_none() && other.at != location.at;
        if self.places.of(&wanted).any(|place| other(&place)) {
            self.report.approximated(at, "other paths lead to the same Service, and the controller asks the canary for them too: here for this path alone");
        }
    }

    /// Everything of a route but where it leads.
    fn write(&mut self, goal: &Goal<'_>, way: &Way, table: &mut Table) {
        let Goal { location, settings, .. } = goal;
        self.edits(goal, table);
        settings.auth.write_networks(&self.controller.auth, settings.auth.any().is_none(), table);
        settings.proxy.or(&self.controller.proxy).write_body(table);
        settings.cors.write(table, self.report);
        self.controller.write_compress(table);
        self.times(location, settings, &goal.backend.key(), table);
        // `no-auth-locations`.
        if !way.open && !location.path.starts_with("/.well-known/acme-challenge") {
            let auth = settings.auth.or_asking(&self.controller.auth);
            let pool =
                auth.asked().map(|asked| self.pools.of_host(asked.tls, &asked.host, asked.port, asked.at));
            auth.write_logins(pool.as_deref(), table);
        }
        if let Some(mirror) = settings.beside.mirror(self.report) {
            let pool = self.pools.of_host(mirror.tls, &mirror.host, mirror.port, mirror.at);
            Beside::write_mirror(&mirror, &pool, table);
        }
        if !way.unlimited {
            let object = self.ingresses.get(location.ingress).map(|ingress| ingress.object);
            let name = object.map_or_else(String::new, |one| format!("{}-{}", one.namespace, one.name));
            settings.limit.write(&name, self.controller.limit_statuses(), table);
        }
    }

    /// Times and tries that are not those of the pool.
    fn times(&mut self, location: &Location, settings: &Settings, key: &str, table: &mut Table) {
        let Target::Service(wanted, _) = &location.to else { return };
        let wanted = self.pools.by_number(wanted);
        let own = settings.proxy.or(&self.controller.proxy);
        let uses = self.places.uses(&wanted, key, self.ingresses, self.pools);
        let of_pool = uses.first_alike.map(|first| first.proxy.or(&self.controller.proxy));
        let mut mine = Table::default();
        own.write(&mut mine, self.report);
        let mut theirs = Table::default();
        if let Some(of_pool) = of_pool {
            let mut unheard = Report::default();
            of_pool.write(&mut theirs, &mut unheard);
        }
        for part in ["timeouts", "retry"] {
            let of = |table: &Table| {
                let below = |path: &str| {
                    path.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
                };
                table.entries.iter().filter(|entry| below(&entry.path)).cloned().collect::<Vec<_>>()
            };
            let (mine, theirs) = (of(&mine), of(&theirs));
            let same = mine.len() == theirs.len()
                && mine.iter().zip(&theirs).all(|(a, b)| a.path == b.path && a.value == b.value);
            if !same {
                table.entries.extend(mine);
            }
        }
    }

    /// Changes of heads and of what is asked for.
    fn edits(&mut self, goal: &Goal<'_>, table: &mut Table) {
        let Goal { location, settings, .. } = goal;
        let mut request: Vec<(String, Value)> = Vec::new();
        let mut from = None;
        let rewritten = |(target, _): &&(String, Place)| *target != location.path && !location.is_catch_all;
        let target = settings.rewrite.target.as_ref().filter(rewritten);
        if let Some((prefix, at)) = settings.rewrite.prefix.as_ref().filter(|_| target.is_some()) {
            let at = *at;
            match template(prefix) {
                Ok(text) if text.chars().all(|c| c.is_ascii_graphic()) => {
                    request.push(("x-forwarded-prefix".to_owned(), Value::text(text)));
                    from = Some(at);
                }
                _ => self.report.not_possible(
                    at,
                    "it is no text that a field can have here: write request_headers of the routes",
                ),
            }
        }
        let fields = settings.beside.fields();
        from = from.or_else(|| settings.beside.fields.first().map(|(.., at)| *at));
        let host = settings.rewrite.host.clone();
        let mut rewrite: Vec<(&str, Value)> = Vec::new();
        let mut at = None;
        if let Some((target, place)) = target {
            at = Some(*place);
            match self.target(target, location, *place) {
                Some(parts) => rewrite.extend(parts),
                None => *table = respond(503, at),
            }
        }
        let removed: &[&str] = if goal.tells_of_clients { &OF_CLIENTS } else { &[] };
        self.controller.write_fields(goal.tls, removed, request, fields, from, table);
        if let Some((host, place)) = host {
            at = at.or(Some(place));
            rewrite.push(("host", Value::text(host)));
        }
        if !rewrite.is_empty() && table.get("respond").is_none() {
            table.set("rewrite", Value::inline(rewrite), at);
        }
    }

    /// `rewrite-target` as `rewrite`.
    fn target(&mut self, target: &str, location: &Location, at: Place) -> Option<Vec<(&'static str, Value)>> {
        let groups = groups(&location.path);
        let text = match template(target) {
            Ok(text) => text,
            Err(name) => {
                self.report.not_possible(
                    at,
                    format!(
                        "${name} has no counterpart: write `rewrite` of the route. Until then it answers 503"
                    ),
                );
                return None;
            }
        };
        let (path, query) =
            text.split_once('?').map_or((text.as_str(), None), |(path, query)| (path, Some(query)));
        for digit in 1..=9_usize {
            if digit > groups && path.contains(&format!("{{{digit}}}")) {
                self.report
                    .wrong(at, format!("the path has no group {digit}: nginx puts nothing in its place"));
            }
        }
        let mut path = path.to_owned();
        for digit in 1..=9_usize {
            if digit > groups {
                path = path.replace(&format!("{{{digit}}}"), "");
            }
        }
        if !path.starts_with('/') {
            self.report.wrong(at, "a path begins with a slash: here it does");
            path.insert(0, '/');
        }
        if groups == 0 && location.path != "/" && !location.is_default {
            self.report.wrong(at, "without a group in the path everything below it becomes this one path. To cut the path off, write (/|$)(.*) behind it and /$2 here");
        }
        let mut parts = vec![("path", Value::text(path))];
        if let Some(query) = query {
            parts.push(("query", Value::text(query)));
        }
        Some(parts)
    }
}

/// How many groups of a regular expression are kept.
fn groups(path: &str) -> usize {
    let (mut count, mut class, mut rest) = (0, false, path);
    while let Some(c) = rest.chars().next() {
        let behind = rest.get(c.len_utf8()..).unwrap_or("");
        rest = match c {
            '\\' => behind.get(behind.chars().next().map_or(0, char::len_utf8)..).unwrap_or(""),
            _ => behind,
        };
        match c {
            '[' => class = true,
            ']' => class = false,
            '(' if !class => {
                let named = ["?<", "?P<"].iter().any(|start| behind.starts_with(start));
                count += usize::from(named || !behind.starts_with('?'));
            }
            _ => {}
        }
    }
    count
}

/// The ways that guards make of one.
fn ways(settings: &Settings) -> Vec<Way> {
    let mut ways = vec![Way::default()];
    if let Some((inside, _)) = settings.auth.any() {
        ways.insert(0, Way { source: Some(inside.to_vec()), open: true, ..Way::default() });
    }
    if let Some((exempt, _)) = settings.limit.exempt() {
        let mut all = Vec::new();
        for way in ways {
            if let Some(source) = meet_networks(way.source.as_deref(), exempt) {
                all.push(Way { source: Some(source), unlimited: true, ..way.clone() });
            }
            all.push(way);
        }
        ways = all;
    }
    ways
}

fn region_of(region: &Region, way: &Way, guard: &Way) -> Region {
    let mut region = region.clone();
    region.values.extend(way.values.iter().cloned());
    region.source.clone_from(&guard.source);
    region
}
