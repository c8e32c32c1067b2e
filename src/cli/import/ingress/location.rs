//! From the locations of a host to routes.

use std::collections::{HashMap, HashSet};

use ipnet::IpNet;

use super::super::document::{Table, Value};
use super::super::pattern::fault;
use super::super::region::{Part, PathTest, Region, ValueTest, meet, narrower_network};
use super::super::report::{Place, Report};
use super::annotation::Settings;
use super::annotation::backend::{Backend, Protocol};
use super::annotation::beside::Beside;
use super::controller::Controller;
use super::draft::{Draft, redirect, respond};
use super::host::{Certificate, Host, Location, Target, leads_to_tls};
use super::ingress::{Ingress, PathKind};
use super::pool::Pools;
use super::service::Wanted;
use super::variable::template;

/// What routes are made with.
pub(super) struct Maker<'m, 'c, 'a> {
    pub(super) ingresses: &'m [Ingress<'c, 'a>],
    pub(super) controller: &'m Controller,
    pub(super) pools: &'m mut Pools<'c, 'a>,
    pub(super) places: Places<'m>,
    /// The numbers of the listeners for HTTP and HTTPS among the doors.
    pub(super) doors: (usize, Option<usize>),
    /// All TLS listeners' clients have certificates of this authority.
    pub(super) authority: Option<String>,
    pub(super) out: Vec<Draft>,
    pub(super) report: &'m mut Report,
}

/// Where a Service is used.
#[derive(Default)]
struct Uses<'m> {
    /// Paths whose clients stay with an endpoint.
    paths: Vec<String>,
    /// Who says that they do.
    sticky: Option<&'m Settings>,
    /// Who named it first, and who did so in the same way.
    first: Option<&'m Settings>,
    first_alike: Option<&'m Settings>,
}

/// The hosts by their names, and the locations by what they lead to.
#[derive(Debug)]
pub(super) struct Places<'m> {
    hosts: &'m [Host],
    names: HashSet<&'m str>,
    secured: HashSet<&'m str>,
    by_service: HashMap<Wanted, Vec<(usize, usize)>>,
}

impl<'m> Places<'m> {
    pub(super) fn new(hosts: &'m [Host], pools: &Pools<'_, '_>) -> Self {
        let mut names: HashSet<&str> = HashSet::new();
        let mut by_service: HashMap<Wanted, Vec<(usize, usize)>> = HashMap::new();
        for (number, host) in hosts.iter().enumerate() {
            names.insert(&host.name);
            names.extend(host.aliases.iter().map(String::as_str));
            for (at, location) in host.locations.iter().enumerate() {
                if let Target::Service(wanted, _) = &location.to {
                    by_service.entry(pools.by_number(wanted)).or_default().push((number, at));
                }
                if let Some((_, wanted, _)) = &location.canary {
                    by_service.entry(pools.by_number(wanted)).or_default().push((number, at));
                }
            }
        }
        let secured =
            hosts.iter().filter(|host| host.certificate.is_some()).map(|host| host.name.as_str()).collect();
        Self { hosts, names, secured, by_service }
    }

    fn of(&self, wanted: &Wanted) -> impl Iterator<Item = (&'m Host, &'m Location)> {
        let places = self.by_service.get(wanted).into_iter().flatten();
        places.filter_map(|(host, at)| {
            let host = self.hosts.get(*host)?;
            Some((host, host.locations.get(*at)?))
        })
    }
}

/// What is spoken with the endpoints of an Ingress at a host.
fn backend_of(host: &Host, settings: &Settings) -> Backend {
    host.backend.as_ref().map_or_else(|| settings.backend.clone(), |of| settings.backend.inherit(of))
}

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

impl<'c, 'a> Maker<'_, 'c, 'a> {
    /// Whether a host has a certificate, its own or one of a wildcard.
    fn is_secured(&self, host: &Host) -> bool {
        let wide = host.name.split_once('.').map(|(_, rest)| format!("*.{rest}"));
        host.certificate.is_some() || wide.is_some_and(|wide| self.places.secured.contains(wide.as_str()))
    }

    /// Values of fields that are refused, whatever is asked for.
    pub(super) fn blocked(&mut self) {
        for (field, regex, at) in &self.controller.blocked {
            let value = (Part::Header, (*field).to_owned(), ValueTest::Regex(regex.clone()));
            let region = Region { values: vec![value], ..Region::default() };
            let table = respond(403, Some(*at));
            let name = format!("blocked-{field}");
            self.out.push(Draft { name, comment: None, at: Some(*at), region, table });
        }
    }

    /// The routes of a host.
    pub(super) fn host(&mut self, host: &Host) {
        let secured = self.is_secured(host);
        if let (true, Some(at)) = (host.name.starts_with('*'), host.at) {
            self.report.approximated(at, "the star is one label of a name there, and any number of them here: a.b.example.com is served where *.example.com is");
        }
        let closed = self.closes(host);
        self.app_root(host);
        if !secured && self.controller.forwarded.is_none() {
            self.endless(host);
        }
        let leads: Vec<bool> = host
            .locations
            .iter()
            .map(|one| leads_to_tls(one, secured, self.ingresses, self.controller))
            .collect();
        let all = leads.iter().all(|yes| *yes) && !leads.is_empty();
        let mut any = false;
        let mut rest: Vec<Draft> = Vec::new();
        for (location, leads) in host.locations.iter().zip(&leads) {
            let (path, odd) = self.path(host, location);
            let region = Region { hosts: host.names(), path, ..Region::default() };
            let redirected = self
                .ingresses
                .get(location.ingress)
                .and_then(|one| one.settings.rewrite.redirect(self.report));
            let first = *leads && redirected.is_none();
            any |= first;
            let nobody = location.is_default && matches!(location.to, Target::Nothing);
            let before = rest.len();
            if first && !all && !nobody {
                let mut region = region.clone();
                region.doors = Some(vec![self.doors.0]);
                rest.push(self.to_https(host, Some(location.at), region));
            }
            let from = rest.len();
            self.location(host, location, (region, first), closed || odd, redirected, &mut rest);
            if first && self.controller.forwarded.is_some() {
                self.offloaded(before, from, &mut rest);
            }
        }
        if all
            && any
            && let Some(at) = host.locations.last().map(|location| location.at)
        {
            let region = Region { hosts: host.names(), doors: Some(vec![self.doors.0]), ..Region::default() };
            rest.push(self.to_https(host, Some(at), region));
        }
        self.out.extend(rest);
        self.www(host);
    }

    /// A host whose TLS goes through: a name for its route, its names and its pool.
    pub(super) fn passthrough(&mut self, host: &Host) -> Option<(String, Vec<String>, String, Place)> {
        let at = host.passthrough?;
        self.report.approximated(
            at,
            "the controller does so with --enable-ssl-passthrough only: else it ends TLS itself",
        );
        for location in host.locations.iter().filter(|location| location.path != "/") {
            self.report.wrong(
                location.at,
                "TLS goes through for the whole host, to what / leads to: other paths are not looked at",
            );
        }
        let names = host.names()?;
        let root = host.locations.iter().find(|location| location.path == "/")?;
        let ingress = self.ingresses.get(root.ingress)?;
        let Target::Service(wanted, from) = &root.to else {
            self.report.wrong(at, "nothing leads anywhere: there is no / whose Service would get it");
            return None;
        };
        let pool = self.pools.of_service(wanted, "passthrough", *from, self.report, |made, _| {
            made.table.set("balance", Value::text("round_robin"), None);
            made.table.set("timeouts.connect", Value::text("5s"), None);
        });
        let region = Region { hosts: host.names(), ..Region::default() };
        let mut region = self.served(host, region);
        region.doors = Some(vec![self.doors.0]);
        let draft = self.to_https(host, Some(root.at), region);
        self.out.push(draft);
        match pool {
            Ok(pool) => Some((format!("{}-{}", ingress.object.name, names.first()?), names, pool, at)),
            Err(why) => {
                self.report.wrong(*from, format!("{why}: connections for this name are reset"));
                None
            }
        }
    }

    /// Clients of a balancer that ends TLS in front are led to where they come from.
    fn endless(&mut self, host: &Host) {
        for location in &host.locations {
            let ingress = self.ingresses.get(location.ingress);
            if let Some((true, at)) = ingress.and_then(|ingress| ingress.settings.rewrite.force_ssl) {
                self.report.approximated(at, "there is no certificate for the host: where a balancer in front ends TLS, clients are sent to HTTPS again and again, there as here, unless it is believed (use-forwarded-headers, and here trusted_proxies with a route for x-forwarded-proto = \"https\")");
            }
        }
    }

    /// Whether nobody may come: a guard of the host cannot be said, or certificates not be asked for as it does.
    fn closes(&mut self, host: &Host) -> bool {
        if host.denied.is_some() {
            return true;
        }
        let Some(client) = &host.client_tls else { return false };
        if self.authority.as_ref() != Some(&client.authority) {
            self.report.not_possible(
                client.at,
                "clients of one listener are all asked for certificates of one authority (client_ca), and other hosts here ask for none or for others: nobody is let in. Give this host an address and a listener of its own",
            );
            return true;
        }
        client.closed
    }

    fn to_https(&self, host: &Host, at: Option<Place>, region: Region) -> Draft {
        let name =
            if host.name.is_empty() { "to-https".to_owned() } else { format!("{}-to-https", host.name) };
        let table = redirect("https://{hostname}{uri}", self.controller.redirect_status(), None);
        Draft { name, comment: None, at, region, table }
    }

    /// `app-root`, which the controller asks before all paths.
    fn app_root(&mut self, host: &Host) {
        let of =
            |location: &Location| self.ingresses.get(location.ingress)?.settings.rewrite.app_root.clone();
        let Some((to, at)) = host.locations.iter().find_map(of) else { return };
        let region =
            Region { hosts: host.names(), path: Some(PathTest::Exact("/".to_owned())), ..Region::default() };
        let table = redirect(&format!("{{scheme}}://{{host}}{to}"), 302, Some(at));
        let name = format!("{}-root", host.name);
        self.out.push(Draft { name, comment: None, at: None, region: self.served(host, region), table });
    }

    /// The name with or without `www.` leads to the other.
    fn www(&mut self, host: &Host) {
        let Some(at) = host.www else { return };
        if host.name.is_empty() || host.name.starts_with('*') {
            return self.report.ignored(at, "there is no one name to lead to");
        }
        let other =
            host.name.strip_prefix("www.").map_or_else(|| format!("www.{}", host.name), str::to_owned);
        if self.places.names.contains(other.as_str()) {
            return self.report.ignored(at, "the other name has rules of its own");
        }
        let region = Region { hosts: Some(vec![other.clone()]), ..Region::default() };
        let to = format!("{{scheme}}://{}{{uri}}", host.name);
        let table = redirect(&to, self.controller.redirect_status(), Some(at));
        self.out.push(Draft {
            name: other,
            comment: None,
            at: None,
            region: self.served(host, region),
            table,
        });
    }

    /// The listeners of a host: those without a certificate have the one for HTTP.
    fn served(&self, host: &Host, mut region: Region) -> Region {
        if !host.name.is_empty()
            && !self.is_secured(host)
            && self.doors.1.is_some()
            && host.passthrough.is_none()
        {
            let forced =
                host.locations.iter().any(|one| leads_to_tls(one, false, self.ingresses, self.controller));
            if !forced {
                region.doors = Some(vec![self.doors.0]);
            }
        }
        region
    }

    /// How the path of a location is compared here. Also whether it is wider than there, so that nobody is to be let in.
    fn path(&mut self, host: &Host, location: &Location) -> (Option<PathTest>, bool) {
        if !host.regex {
            return match (location.kind, location.path.trim_end_matches('/')) {
                (PathKind::Exact, _) => (Some(PathTest::Exact(location.path.clone())), false),
                (PathKind::Prefix, "") => (None, false),
                (PathKind::Prefix, path) => {
                    if location.path.ends_with('/') {
                        self.report.approximated(
                            location.at,
                            format!("{path} itself is served too: nginx sends it to {path}/ (301)"),
                        );
                    }
                    (Some(PathTest::Prefix(path.to_owned())), false)
                }
            };
        }
        if location.path == "/" {
            return (None, false);
        }
        let settings = self.ingresses.get(location.ingress).map(|one| &one.settings);
        let own = settings.is_some_and(|own| own.rewrite.regex || own.rewrite.target.is_some());
        if !own || location.kind == PathKind::Exact {
            self.report.wrong(
                location.at,
                "another path of the host makes all of them regular expressions, of any case and open at the end: this one takes more than it seems to",
            );
        }
        // Where nothing is rewritten, what a prefix ends with is left open.
        let text = if own { location.path.as_str() } else { location.path.trim_end_matches('/') };
        let regex = format!("(?i)^{text}");
        let Some(why) = fault(&regex) else { return (Some(PathTest::Regex(regex)), false) };
        let start = location.path.find(|c: char| !c.is_ascii_alphanumeric() && !"/-_".contains(c));
        let literal = location.path.get(..start.unwrap_or(0)).unwrap_or("/");
        self.report.not_possible(
            location.at,
            format!("the regular expression is not one that Plimsoll reads ({why}): what begins with {literal} is answered with 503"),
        );
        (Some(PathTest::Regex(format!("(?i)^{literal}"))), true)
    }

    fn location(
        &mut self,
        host: &Host,
        location: &Location,
        (region, leads): (Region, bool),
        closed: bool,
        redirected: Option<Result<super::annotation::rewrite::Redirect, Place>>,
        out: &mut Vec<Draft>,
    ) {
        let Some(ingress) = self.ingresses.get(location.ingress) else { return };
        let mut region = self.served(host, region);
        if leads {
            region.doors = self.doors.1.map(|https| vec![https]);
        }
        let comment = comment(ingress, location, self.report);
        let draft = |region: Region, name: &str, table: Table| Draft {
            name: name.to_owned(),
            comment: Some(comment.clone()),
            at: Some(location.at).filter(|_| !location.is_default),
            region,
            table,
        };
        let (name, settings) = (ingress.object.name, &ingress.settings);
        let denied = self.controller.denied.or(settings.denied.first().copied());
        if denied.is_some() || closed {
            let status = if closed { 403 } else { 503 };
            let at = host.denied.or(denied).or(host.client_tls.as_ref().map(|client| client.at));
            return out.push(draft(region, &format!("{name}-closed"), respond(status, at)));
        }
        match redirected {
            Some(Ok(to)) => {
                let table = redirect(&to.to, i64::from(to.status), Some(to.at));
                return out.push(draft(region, name, table));
            }
            Some(Err(at)) => return out.push(draft(region, name, respond(503, Some(at)))),
            None => {}
        }
        let (wanted, at) = match &location.to {
            Target::Service(wanted, at) => (wanted, *at),
            Target::Nothing if self.is_covered(host) => {
                return out.push(draft(region, &format!("{name}-not-found"), respond(404, None)));
            }
            Target::Nothing => return,
        };
        if settings.backend.speaks() == Protocol::Other {
            return out.push(draft(region, name, respond(503, None)));
        }
        let backend = backend_of(host, settings);
        // Browsers look away from it where they came without TLS.
        let secured = self.is_secured(host) || leads;
        let tls = secured
            && self
                .doors
                .1
                .is_some_and(|https| region.doors.as_ref().is_none_or(|doors| doors.contains(&https)));
        let main = self.pool(wanted, &backend, settings, at);
        for (way, action) in self.actions(location, wanted, main, &backend, settings) {
            for guard in ways(settings) {
                let region = region_of(&region, &way, &guard);
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
                        self.report.wrong(at, format!("{why}: it answers 503"));
                        out.push(draft(region, name, respond(503, None)));
                        continue;
                    }
                }
                self.write(location, settings, (&guard, &backend.key()), tls, &mut table);
                out.push(draft(region, name, table));
            }
        }
    }

    /// Whoever ended TLS before says so in a field: then there is no need to lead to HTTPS.
    fn offloaded(&self, before: usize, from: usize, out: &mut Vec<Draft>) {
        let own = out.get(from..).unwrap_or_default().to_vec();
        let said = (Part::Header, "x-forwarded-proto".to_owned(), ValueTest::Exact("https".to_owned()));
        let behind = own.into_iter().map(|mut draft| {
            draft.region.doors = Some(vec![self.doors.0]);
            draft.region.values.push(said.clone());
            without_hsts(&mut draft.table);
            draft
        });
        let behind: Vec<Draft> = behind.collect();
        out.splice(before..before, behind);
    }

    /// Whether requests that a host does not take would come to a wider one.
    fn is_covered(&self, host: &Host) -> bool {
        let names = &self.places.names;
        let mut end = host.name.trim_start_matches("*.");
        let mut wider = !host.name.is_empty() && names.contains("");
        while let Some((_, rest)) = end.split_once('.') {
            wider |= names.contains(format!("*.{rest}").as_str());
            end = rest;
        }
        wider
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
        let uses = self.uses(&wanted, &backend.key());
        let controller = self.controller;
        let proxy = uses.first_alike.unwrap_or(settings).proxy.or(&controller.proxy);
        let sticky = uses.sticky.map(|own| own.affinity.clone());
        let balance = uses.first.unwrap_or(settings).affinity.clone();
        let paths = uses.paths;
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
                affinity.write_sticky(&paths, made.table, report);
            }
        })
    }

    /// Where a Service is used.
    fn uses(&self, wanted: &Wanted, key: &str) -> Uses<'_> {
        let mut out = Uses::default();
        for (host, location) in self.places.of(wanted) {
            let own = self.ingresses.get(location.ingress).map(|ingress| &ingress.settings);
            let canary = location.canary.as_ref().filter(|(_, to, _)| self.pools.by_number(to) == *wanted);
            // A canary has the cookie of what it is a canary of, unless it says that it has its own.
            let of_canary = canary.and_then(|(at, ..)| self.ingresses.get(*at)).map(|one| &one.settings);
            let whose = if of_canary.is_some_and(|own| own.affinity.legacy) { of_canary } else { own };
            if whose.is_some_and(|own| own.affinity.sticks()) {
                out.sticky = out.sticky.or(whose);
                if !out.paths.contains(&location.path) {
                    out.paths.push(location.path.clone());
                }
            }
            out.first = out.first.or(own);
            if own.is_some_and(|own| backend_of(host, own).key() == key) {
                out.first_alike = out.first_alike.or(own);
            }
        }
        out
    }

    /// The Service, and its canary before it.
    fn actions(
        &mut self,
        location: &Location,
        wanted: &Wanted,
        main: Result<String, String>,
        backend: &Backend,
        settings: &Settings,
    ) -> Vec<(Way, Result<Action, String>)> {
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
        let other = |(_, other): &(&Host, &Location)| other.canary.is_none() && other.at != location.at;
        if self.places.of(&wanted).any(|place| other(&place)) {
            self.report.approximated(at, "other paths lead to the same Service, and the controller asks the canary for them too: here for this path alone");
        }
    }

    /// Everything of a route but where it leads.
    fn write(
        &mut self,
        location: &Location,
        settings: &Settings,
        (way, key): (&Way, &str),
        tls: bool,
        table: &mut Table,
    ) {
        self.edits(location, settings, tls, table);
        settings.auth.write_networks(&self.controller.auth, settings.auth.any().is_none(), table);
        settings.proxy.or(&self.controller.proxy).write_body(table);
        settings.cors.write(table, self.report);
        self.controller.write_compress(table);
        self.times(location, settings, key, table);
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
        let of_pool = self.uses(&wanted, key).first_alike.map(|first| first.proxy.or(&self.controller.proxy));
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
    fn edits(&mut self, location: &Location, settings: &Settings, tls: bool, table: &mut Table) {
        let mut request: Vec<(String, Value)> = Vec::new();
        let mut from = None;
        if let Some((prefix, at)) = settings.rewrite.told_prefix() {
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
        from = from.or(settings.beside.fields.first().map(|(.., at)| *at));
        let host = settings.rewrite.host.clone();
        let mut rewrite: Vec<(&str, Value)> = Vec::new();
        let mut at = None;
        if let Some((target, place)) =
            settings.rewrite.target.as_ref().filter(|(target, _)| *target != location.path)
        {
            at = Some(*place);
            match self.target(target, location, *place) {
                Some(parts) => rewrite.extend(parts),
                None => *table = respond(503, at),
            }
        }
        self.controller.write_fields(tls, request, fields, from, table);
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
        let groups = location.path.matches('(').count()
            - location.path.matches("(?").count().min(location.path.matches('(').count());
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

/// Where a request goes.
#[derive(Debug, Clone)]
enum Action {
    Pool(String),
    /// Shares, where they come from, and whether clients stay in theirs.
    Split(Value, Place, bool),
}

/// Takes `Strict-Transport-Security` away, which the controller adds where it ends TLS itself.
fn without_hsts(table: &mut Table) {
    for entry in &mut table.entries {
        let Value::Inline(parts) = &mut entry.value else { continue };
        for (_, part) in parts.iter_mut().filter(|_| entry.path == "response_headers") {
            if let Value::Inline(fields) = part {
                fields.retain(|(name, _)| name != "strict-transport-security");
            }
        }
        parts.retain(|(_, part)| *part != Value::Inline(Vec::new()));
    }
    table
        .entries
        .retain(|entry| entry.path != "response_headers" || entry.value != Value::Inline(Vec::new()));
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
            if let Some(source) = meet(way.source.as_deref(), exempt, narrower_network) {
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

fn comment(ingress: &Ingress<'_, '_>, location: &Location, report: &Report) -> String {
    let title = ingress.object.title();
    let line = super::super::document::place(ingress.object.at, report);
    if location.is_default {
        format!("{title} ({line}): what no path of it takes")
    } else {
        format!("{title} ({line})")
    }
}

/// The certificates of hosts, each once, with the hosts that have it.
pub(super) fn certificates(hosts: &[Host]) -> Vec<(Certificate, Vec<String>)> {
    let mut out: Vec<(Certificate, Vec<String>)> = Vec::new();
    for host in hosts {
        let Some(certificate) = &host.certificate else { continue };
        let same = |known: &Certificate| match (known, certificate) {
            (
                Certificate::Secret { namespace: a, name: b, .. },
                Certificate::Secret { namespace, name, .. },
            ) => (a, b) == (namespace, name),
            (Certificate::Default(_), Certificate::Default(_)) => true,
            _ => false,
        };
        match out.iter_mut().find(|(known, _)| same(known)) {
            Some((_, names)) => names.push(host.name.clone()),
            None => out.push((certificate.clone(), vec![host.name.clone()])),
        }
    }
    // A controller's own certificate is for those who ask for no other.
    out.sort_by_key(|(certificate, _)| !matches!(certificate, Certificate::Default(_)));
    out
}
