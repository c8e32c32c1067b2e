//! From the locations of a host to routes: how paths are compared, who is led elsewhere, and who is let in nowhere. What
//! becomes of requests that go on is `action`'s.

use std::collections::HashMap;

use super::super::document::{Table, Value};
use super::super::pattern::fault;
use super::super::region::{Part, PathTest, Region, ValueTest};
use super::super::report::{Place, Report};
use super::action::Goal;
use super::annotation::Closed;
use super::annotation::backend::Protocol;
use super::annotation::rewrite::Redirect;
use super::controller::Controller;
use super::draft::{Draft, redirect, respond};
use super::host::{Certificate, Host, Location, Target, leads_to_tls};
use super::place::{Places, backend_of};
use super::pool::Pools;
use super::spec::{Ingress, PathKind};

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

impl Maker<'_, '_, '_> {
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
        if let Some(at) = host.aliased.filter(|_| secured && !host.aliases.is_empty()) {
            self.report.approximated(at, "requests for an alias are sent to HTTPS here; the controller does so only where the certificate of the host names the alias too");
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
            if !host.regex && location.path.contains(['?', '#']) {
                self.report.wrong(location.at, "no path has a question mark or a hash: nothing comes to it");
                continue;
            }
            let (path, odd) = self.path(host, location);
            let region = Region { hosts: host.names(), path, ..Region::default() };
            let settings = self.ingresses.get(location.ingress).map(|one| &one.settings);
            let redirected = settings
                .filter(|_| !location.is_catch_all)
                .and_then(|settings| settings.rewrite.redirect(self.report));
            let first = *leads && redirected.is_none();
            let denied = settings.and_then(|settings| settings.guards.denied.first());
            let unsaid = denied.copied().or_else(|| odd.then_some(location.at));
            let refused = host.denied.map(|at| (403, at)).or_else(|| unsaid.map(|at| (503, at)));
            any |= first;
            let nobody = location.is_default && matches!(location.to, Target::Nothing);
            let before = rest.len();
            if first && !all && !nobody {
                let mut region = region.clone();
                region.doors = Some(vec![self.doors.0]);
                rest.push(self.to_https(host, Some(location.at), region));
            }
            let from = rest.len();
            if let Some((status, at)) = refused {
                rest.extend(self.refused(host, location, region, respond(status, Some(at))));
                continue;
            }
            self.location(host, location, (region, first), closed, redirected, &mut rest);
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
        if !self.is_secured(host) && !host.forced {
            self.report.approximated(at, "at port 80 clients are sent to HTTPS; the controller hands what comes there to the Service, without TLS");
        }
        let names = host.names()?;
        let root = host.locations.iter().find(|location| location.path == "/")?;
        let ingress = self.ingresses.get(root.ingress)?;
        self.unread(ingress);
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
        for location in host.locations.iter().filter(|location| !location.is_catch_all) {
            let ingress = self.ingresses.get(location.ingress);
            if let Some((true, at)) = ingress.and_then(|ingress| ingress.settings.rewrite.force_ssl) {
                self.report.approximated(at, "there is no certificate for the host: where a balancer in front ends TLS, clients are sent to HTTPS again and again, there as here, unless it is believed (use-forwarded-headers, and here trusted_proxies with a route for x-forwarded-proto = \"https\")");
            }
        }
    }

    /// Why nobody may come: a guard of the host cannot be said, or certificates not be asked for as it does.
    fn closes(&mut self, host: &Host) -> Option<Closed> {
        let closed = Closed::or(self.controller.closed, host.closed);
        let Some(client) = host.client_tls.as_ref().filter(|_| host.denied.is_none()) else { return closed };
        let mut at = client.closed;
        if self.authority.as_ref() != Some(&client.authority) {
            self.report.not_possible(
                client.at,
                "clients of one listener are all asked for certificates of one authority (client_ca), and other hosts here ask for none or for others: nobody is let in (maintenance = true) until this host has an address and a listener of its own",
            );
            at = Some(client.at);
        }
        Closed::or(closed, at.map(|at| Closed { at, redirects: true }))
    }

    /// What an Ingress says of requests that are not looked at.
    fn unread(&mut self, ingress: &Ingress<'_, '_>) {
        let read = ["ssl-passthrough", "server-alias", "service-upstream"];
        for (key, _) in ingress.object.annotations() {
            let Some(name) = key.text.strip_prefix("nginx.ingress.kubernetes.io/") else { continue };
            if !read.contains(&name) {
                self.report.ignored(key.at, "TLS goes through, so requests are not looked at");
            }
        }
    }

    fn to_https(&self, host: &Host, at: Option<Place>, region: Region) -> Draft {
        let name =
            if host.name.is_empty() { "to-https".to_owned() } else { format!("{}-to-https", host.name) };
        let table = redirect("https://{hostname}{uri}", self.controller.redirect_status(), None);
        Draft { name, comment: None, at, region, table }
    }

    /// `app-root`, which the controller asks before all paths.
    fn app_root(&mut self, host: &Host) {
        let of = |location: &Location| {
            let ingress = self.ingresses.get(location.ingress).filter(|_| !location.is_catch_all)?;
            ingress.settings.rewrite.app_root.clone()
        };
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
            && !host.forced
        {
            region.doors = Some(vec![self.doors.0]);
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
        let literal = literal(&location.path);
        self.report.not_possible(
            location.at,
            format!("the regular expression is not one that Plimsoll reads ({why}): what begins with {literal} is answered with 503"),
        );
        (Some(PathTest::Regex(format!("(?i)^{literal}"))), true)
    }

    /// The route of a location to which the controller lets nobody.
    fn refused(&self, host: &Host, location: &Location, region: Region, table: Table) -> Option<Draft> {
        let ingress = self.ingresses.get(location.ingress)?;
        Some(Draft {
            name: format!("{}-closed", ingress.object.name),
            comment: Some(comment(ingress, location, self.report)),
            at: Some(location.at).filter(|_| !location.is_default),
            region: self.served(host, region),
            table,
        })
    }

    fn location(
        &mut self,
        host: &Host,
        location: &Location,
        (region, leads): (Region, bool),
        closed: Option<Closed>,
        redirected: Option<Result<Redirect, Place>>,
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
        let closed = Closed::or(closed, settings.guards.closed);
        match redirected {
            Some(Ok(to)) => {
                let mut table = redirect(&to.to, i64::from(to.status), Some(to.at));
                close(&mut table, closed.filter(|closed| closed.redirects));
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
        // Browsers look away from it where they came without TLS.
        let secured = self.is_secured(host) || leads;
        let https = |doors: &Vec<usize>| self.doors.1.is_some_and(|https| doors.contains(&https));
        let goal = Goal {
            location,
            settings,
            wanted,
            backend: backend_of(host, settings),
            at,
            tells_of_clients: host.tells_of_clients,
            tls: secured && self.doors.1.is_some() && region.doors.as_ref().is_none_or(https),
        };
        for (region, mut table) in self.lead(&goal, &region) {
            close(&mut table, closed);
            out.push(draft(region, name, table));
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
}

/// The text that all paths begin with that a regular expression takes.
fn literal(path: &str) -> &str {
    let start = path.find(|c: char| !c.is_ascii_alphanumeric() && !"/-_".contains(c)).unwrap_or(path.len());
    let (text, rest) = path.split_at(start);
    if path.contains('|') {
        return "/";
    }
    // What is asked for any number of times may be missing.
    let missing = usize::from(rest.starts_with(['?', '*', '{']));
    text.get(..text.len().saturating_sub(missing)).filter(|text| !text.is_empty()).unwrap_or("/")
}

/// Takes a route out of service until what guards it is written; who only gets a status comes in nowhere anyway.
fn close(table: &mut Table, closed: Option<Closed>) {
    if let Some(closed) = closed.filter(|_| table.get("respond").is_none()) {
        let mut first = Table::default();
        first.set("maintenance", Value::Bool(true), Some(closed.at));
        table.entries.splice(..0, first.entries);
    }
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
    let mut known: HashMap<Option<(&str, &str)>, usize> = HashMap::new();
    for host in hosts {
        let Some(certificate) = &host.certificate else { continue };
        let key = match certificate {
            Certificate::Secret { namespace, name, .. } => Some((namespace.as_str(), name.as_str())),
            Certificate::Default(_) => None,
        };
        let at = *known.entry(key).or_insert(out.len());
        match out.get_mut(at) {
            Some((_, names)) => names.push(host.name.clone()),
            None => out.push((certificate.clone(), vec![host.name.clone()])),
        }
    }
    // A controller's own certificate is for those who ask for no other.
    out.sort_by_key(|(certificate, _)| !matches!(certificate, Certificate::Default(_)));
    out
}
