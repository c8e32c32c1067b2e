//! What all Ingresses together say of each host, as the controller puts it together: the oldest has the word.

use std::collections::{HashMap, HashSet};

use super::super::report::{Place, Report};
use super::annotation::backend::{Backend, ClientTls};
use super::annotation::{Closed, Set};
use super::controller::Controller;
use super::service::Wanted;
use super::spec::{Ingress, PathKind, Tls};

/// Where a location leads.
#[derive(Debug, Clone)]
pub(super) enum Target {
    Service(Wanted, Place),
    /// The controller's default: 404.
    Nothing,
}

/// A path of a host.
#[derive(Debug, Clone)]
pub(super) struct Location {
    pub(super) path: String,
    pub(super) kind: PathKind,
    pub(super) at: Place,
    pub(super) to: Target,
    /// Whose annotations hold.
    pub(super) ingress: usize,
    /// Nobody has written it: it is what the controller gives every host.
    pub(super) is_default: bool,
    /// Its Ingress has no rules: nothing of what it takes is redirected or rewritten.
    pub(super) is_catch_all: bool,
    /// The Ingress of its canary, with the Service.
    pub(super) canary: Option<(usize, Wanted, Place)>,
}

/// The certificate of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Certificate {
    Secret {
        namespace: String,
        name: String,
        at: Place,
    },
    /// The controller's own.
    Default(Place),
}

/// A host with all its locations.
#[derive(Debug)]
pub(super) struct Host {
    /// `""` is every other host.
    pub(super) name: String,
    /// Its first rule.
    pub(super) at: Option<Place>,
    pub(super) aliases: Vec<String>,
    pub(super) aliased: Option<Place>,
    pub(super) locations: Vec<Location>,
    pub(super) certificate: Option<Certificate>,
    /// TLS to endpoints, of the first Ingress that has any.
    pub(super) backend: Option<Backend>,
    pub(super) client_tls: Option<ClientTls>,
    /// Why the controller answers 403 to all, whichever Ingress serves the host.
    pub(super) denied: Option<Place>,
    /// Why nobody is let in, by any Ingress: a guard of the whole host cannot be said.
    pub(super) closed: Option<Closed>,
    /// Endpoints are told of the certificates of clients.
    pub(super) tells_of_clients: bool,
    pub(super) passthrough: Option<Place>,
    pub(super) www: Option<Place>,
    /// Paths are regular expressions, all of them.
    pub(super) regex: bool,
    /// Clients are sent to HTTPS although there is no certificate.
    pub(super) forced: bool,
    /// The number of each location before they are put in order.
    by_path: HashMap<(String, PathKind), usize>,
}

impl Host {
    fn at_path(&mut self, path: &str, kind: PathKind) -> Option<&mut Location> {
        self.locations.get_mut(*self.by_path.get(&(path.to_owned(), kind))?)
    }

    fn push(&mut self, location: Location) {
        self.by_path.insert((location.path.clone(), location.kind), self.locations.len());
        self.locations.push(location);
    }

    /// All names, as routes have them.
    pub(super) fn names(&self) -> Option<Vec<String>> {
        (!self.name.is_empty()).then(|| {
            let mut names = vec![self.name.clone()];
            names.extend(self.aliases.iter().cloned());
            names
        })
    }
}

/// The hosts of all Ingresses.
pub(super) fn hosts(
    ingresses: &[Ingress<'_, '_>],
    controller: &Controller,
    report: &mut Report,
) -> Vec<Host> {
    let mut all = Hosts { list: vec![any_host()], index: HashMap::from([(String::new(), 0)]) };
    for (number, ingress) in ingresses.iter().enumerate().filter(|(_, one)| !one.settings.canary.enabled) {
        all.open(number, ingress, report);
    }
    for (number, ingress) in ingresses.iter().enumerate().filter(|(_, one)| !one.settings.canary.enabled) {
        all.of_host(ingress, report);
        all.certificates(ingress, report);
        all.locations(number, ingress, report);
    }
    for (number, ingress) in ingresses.iter().enumerate().filter(|(_, one)| one.settings.canary.enabled) {
        all.canary(number, ingress, report);
    }
    let names: HashSet<String> = all.list.iter().map(|host| host.name.clone()).collect();
    for host in &mut all.list {
        host.aliases.retain(|alias| !names.contains(alias));
        host.regex = host.locations.iter().filter(|location| !location.is_catch_all).any(|location| {
            ingresses.get(location.ingress).is_some_and(|ingress| {
                let rewrite = &ingress.settings.rewrite;
                let rewritten = rewrite.target.as_ref().is_some_and(|(target, _)| *target != location.path);
                rewrite.regex || rewritten
            })
        });
        host.forced = host.locations.iter().any(|one| leads_to_tls(one, false, ingresses, controller));
        // Longest first; of the same length the last in the alphabet.
        host.locations.sort_by(|a, b| b.path.cmp(&a.path));
        host.locations.sort_by_key(|location| std::cmp::Reverse(location.path.len()));
    }
    // Nobody has asked for what nobody else serves.
    all.list.retain(|host| {
        !host.name.is_empty()
            || host
                .locations
                .iter()
                .any(|location| !location.is_default || !matches!(location.to, Target::Nothing))
    });
    all.list.sort_by_key(|host| {
        (
            host.name.is_empty(),
            host.name.starts_with('*'),
            std::cmp::Reverse(host.name.starts_with('*').then_some(host.name.len())),
        )
    });
    all.list
}

fn any_host() -> Host {
    Host {
        name: String::new(),
        at: None,
        aliases: Vec::new(),
        aliased: None,
        locations: Vec::new(),
        certificate: None,
        backend: None,
        client_tls: None,
        denied: None,
        closed: None,
        tells_of_clients: false,
        passthrough: None,
        www: None,
        regex: false,
        forced: false,
        by_path: HashMap::new(),
    }
}

struct Hosts {
    list: Vec<Host>,
    index: HashMap<String, usize>,
}

impl Hosts {
    fn get(&mut self, name: &str) -> Option<&mut Host> {
        self.list.get_mut(*self.index.get(name)?)
    }

    /// Makes the hosts of an Ingress, each with what its paths leave.
    fn open(&mut self, number: usize, ingress: &Ingress<'_, '_>, report: &mut Report) {
        let default = |at: Place| Location {
            path: "/".to_owned(),
            kind: PathKind::Prefix,
            at,
            to: ingress.default.clone().map_or(Target::Nothing, |(wanted, at)| Target::Service(wanted, at)),
            ingress: number,
            is_default: true,
            is_catch_all: false,
            canary: None,
        };
        if let (Some((_, at)), true) = (&ingress.default, ingress.rules.is_empty())
            && let Some(any) = self.get("")
        {
            match any.locations.iter().find(|location| location.path == "/") {
                Some(_) => report.wrong(*at, "another Ingress has the requests that no rule takes already: it is older, and this is not served"),
                None => {
                    ingress.settings.rewrite.tell_catch_all(report);
                    any.push(Location { is_default: false, is_catch_all: true, ..default(*at) });
                }
            }
        }
        for rule in &ingress.rules {
            if rule.host.is_empty() || self.index.contains_key(&rule.host) {
                continue;
            }
            self.index.insert(rule.host.clone(), self.list.len());
            let mut host = Host { name: rule.host.clone(), at: Some(rule.at), ..any_host() };
            host.push(default(rule.at));
            self.list.push(host);
        }
    }

    /// What an Ingress says of its hosts as a whole: the first that does has the word.
    fn of_host(&mut self, ingress: &Ingress<'_, '_>, report: &mut Report) {
        let (settings, mut told) = (&ingress.settings, false);
        for rule in &ingress.rules {
            let Some(host) = self.get(&rule.host) else { continue };
            if let Some((aliases, at)) = &settings.rewrite.aliases {
                if host.aliases.is_empty() {
                    host.aliases.clone_from(aliases);
                    host.aliased = Some(*at);
                } else if host.aliases != *aliases {
                    report
                        .wrong(*at, "an older Ingress has aliases of the host already: these are not served");
                }
            }
            host.denied = host.denied.or(settings.guards.denied_host);
            host.closed = Closed::or(host.closed, settings.guards.closed_host);
            host.tells_of_clients |= settings.backend.tells_of_clients();
            host.passthrough = host.passthrough.or(settings.backend.passthrough);
            host.www = host.www.or(settings.rewrite.www);
            if host.backend.is_none() && settings.backend.has_own_tls() {
                host.backend = Some(settings.backend.clone());
            }
            match (&host.client_tls, &settings.backend.client_tls) {
                (None, Some(client)) => host.client_tls = Some(client.clone()),
                (Some(old), Some(new)) if old != new && old.at != new.at && !told => {
                    let same = (&old.authority, old.optional, old.closed)
                        == (&new.authority, new.optional, new.closed);
                    told = true;
                    if !same {
                        report.wrong(new.at, "an older Ingress says already which certificates clients of the host have: that has the word");
                    }
                }
                _ => {}
            }
        }
    }

    fn certificates(&mut self, ingress: &Ingress<'_, '_>, report: &mut Report) {
        let mut by_host: HashMap<&str, &Tls> = HashMap::new();
        for tls in &ingress.tls {
            for host in &tls.hosts {
                by_host.entry(host).or_insert(tls);
            }
        }
        let other = unnamed(&ingress.tls);
        for rule in &ingress.rules {
            let Some(host) = self.get(&rule.host).filter(|host| host.certificate.is_none()) else { continue };
            let Some(first) = ingress.tls.first() else { continue };
            let named = by_host.get(rule.host.as_str()).copied();
            if let (None, Some(tls)) = (named, other) {
                let name = if rule.host.is_empty() { "every other host" } else { &rule.host };
                report.approximated(tls.at, format!("{name} is not among its hosts: the controller takes this Secret for it only if its certificate has the name, and else one of its own"));
            }
            host.certificate = Some(match named.or(other) {
                Some(tls) => match &tls.secret {
                    Some(name) => Certificate::Secret {
                        namespace: ingress.object.namespace.to_owned(),
                        name: name.clone(),
                        at: tls.at,
                    },
                    None => Certificate::Default(tls.at),
                },
                None => Certificate::Default(first.at),
            });
        }
        let served = served(ingress);
        for tls in &ingress.tls {
            if tls.hosts.is_empty()
                && tls.secret.is_some()
                && report.remarks(tls.at).iter().all(|remark| remark.text.is_empty())
            {
                report
                    .ignored(tls.at, "it names no hosts, and those of the Ingress have certificates already");
            }
            for name in tls.hosts.iter().filter(|name| !served.contains(name.as_str())) {
                report.wrong(
                    tls.at,
                    format!(
                        "{name} has no rule in this Ingress: for that host the controller does not take this certificate"
                    ),
                );
            }
        }
    }

    fn locations(&mut self, number: usize, ingress: &Ingress<'_, '_>, report: &mut Report) {
        for rule in &ingress.rules {
            let Some(host) = self.get(&rule.host) else { continue };
            for path in rule.paths.iter().flatten() {
                let Some((wanted, at)) = path.to.clone() else { continue };
                let new = Location {
                    path: path.path.clone(),
                    kind: path.kind,
                    at: path.at,
                    to: Target::Service(wanted, at),
                    ingress: number,
                    is_default: false,
                    is_catch_all: false,
                    canary: None,
                };
                match host.at_path(&new.path, new.kind) {
                    Some(old) if old.is_default => *old = new,
                    Some(old) => report.wrong(
                        path.at,
                        format!(
                            "the host has this path already, on line {}: this one is not served",
                            old.at.line
                        ),
                    ),
                    None => host.push(new),
                }
            }
        }
    }

    fn canary(&mut self, number: usize, ingress: &Ingress<'_, '_>, report: &mut Report) {
        for rule in &ingress.rules {
            for path in rule.paths.iter().flatten() {
                let Some((wanted, at)) = path.to.clone() else { continue };
                let host = self.get(&rule.host);
                let found = host.and_then(|host| host.at_path(&path.path, path.kind));
                let Some(Location { to: Target::Service(main, _), canary, .. }) = found else {
                    report.wrong(path.at, "no other Ingress has this host and path: there is nothing that it is a canary of, and it is not served");
                    continue;
                };
                if *main == wanted {
                    report.wrong(path.at, "it is a canary of itself: the controller leaves it out");
                } else if canary.is_some() {
                    report.wrong(
                        path.at,
                        "the controller asks one canary of a Service alone: this one gets nothing",
                    );
                } else {
                    *canary = Some((number, wanted, at));
                }
            }
        }
        if let Some((_, at)) = &ingress.default {
            report.not_possible(
                *at,
                "a canary of the requests that no rule takes: write `split` in their route",
            );
        }
    }
}

/// The entry whose certificate the controller tries for a host that none names: best one that names no hosts at all.
fn unnamed(all: &[Tls]) -> Option<&Tls> {
    let with_secret = || all.iter().filter(|tls| tls.secret.is_some());
    with_secret().find(|tls| tls.hosts.is_empty()).or_else(|| with_secret().next())
}

/// The hosts that an Ingress has a rule for, or sends to another one.
fn served(ingress: &Ingress<'_, '_>) -> HashSet<String> {
    let rewrite = &ingress.settings.rewrite;
    let mut out: HashSet<String> = ingress.rules.iter().map(|rule| rule.host.clone()).collect();
    out.extend(rewrite.aliases.iter().flat_map(|(names, _)| names.iter().cloned()));
    for rule in ingress.rules.iter().filter(|_| rewrite.www.is_some()) {
        let other = rule.host.strip_prefix("www.").map(str::to_owned);
        out.insert(other.unwrap_or_else(|| format!("www.{}", rule.host)));
    }
    out
}

/// Whether requests for a location are sent to HTTPS.
pub(super) fn leads_to_tls(
    location: &Location,
    secured: bool,
    ingresses: &[Ingress<'_, '_>],
    controller: &Controller,
) -> bool {
    // `no-tls-redirect-locations`.
    if location.path.starts_with("/.well-known/acme-challenge") || location.is_catch_all {
        return false;
    }
    let Some(ingress) = ingresses.get(location.ingress) else { return false };
    let rewrite = &ingress.settings.rewrite;
    let yes = |set: Set<bool>, all: Set<bool>, default: bool| set.or(all).map_or(default, |(yes, _)| yes);
    yes(rewrite.force_ssl, controller.force_ssl, false)
        || secured && yes(rewrite.ssl_redirect, controller.ssl_redirect, true)
}
