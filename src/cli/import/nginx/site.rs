//! Which server a request belongs to: the addresses that they listen on, and their names.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use super::super::pattern::{escape, fault};
use super::super::region::{Door, Part, Region, ValueTest, meet_hosts};
use super::ask::{Ask, Narrowed, host_regex, narrow};
use super::listen::Listen;
use super::notes::Notes;
use super::scope::Level;
use super::tree::Directive;
use crate::model::host::HostPattern;

/// A listener of http: addresses that have the same servers.
#[derive(Debug)]
pub(super) struct Group<'t> {
    pub(super) name: String,
    pub(super) listens: Vec<Listen<'t>>,
    /// The servers on it, by their numbers.
    pub(super) sites: Vec<usize>,
    /// The one that takes what no other's name is.
    pub(super) default: usize,
    pub(super) ssl: bool,
    pub(super) http2: bool,
    pub(super) proxy_protocol: bool,
}

/// Puts addresses together that are alike. `listens` has those of each server.
pub(super) fn groups<'t>(listens: &[Vec<Listen<'t>>], notes: &mut Notes<'_>) -> Vec<Group<'t>> {
    let mut order: Vec<String> = Vec::new();
    let mut by_bind: HashMap<String, Vec<(usize, Listen<'t>)>> = HashMap::new();
    for (site, all) in listens.iter().enumerate() {
        let mut own: HashSet<&str> = HashSet::new();
        for listen in all {
            if !own.insert(listen.bind.as_str()) {
                notes.wrong(listen.of, "the server listens on this address already: nginx rejects it");
                continue;
            }
            let of = by_bind.entry(listen.bind.clone()).or_insert_with(|| {
                order.push(listen.bind.clone());
                Vec::new()
            });
            if listen.default && of.iter().any(|(_, other)| other.default) {
                notes.wrong(
                    listen.of,
                    "there is a default server for this address already: nginx rejects the file",
                );
            }
            of.push((site, listen.clone()));
        }
    }
    let mut out: Vec<Group<'t>> = Vec::new();
    let mut alike: HashMap<String, usize> = HashMap::new();
    let mut names: HashSet<String> = HashSet::new();
    for bind in order {
        let Some(of) = by_bind.remove(&bind) else { continue };
        let Some((_, first)) = of.first().cloned() else { continue };
        let sites: Vec<usize> = of.iter().map(|(site, _)| *site).collect();
        let default =
            of.iter().find(|(_, listen)| listen.default).or_else(|| of.first()).map_or(0, |(site, _)| *site);
        let any = |is: fn(&Listen<'t>) -> bool| of.iter().any(|(_, listen)| is(listen));
        let (ssl, http2, proxy_protocol) =
            (any(|one| one.ssl), any(|one| one.http2), any(|one| one.proxy_protocol));
        let backlog = of.iter().find_map(|(_, listen)| listen.backlog);
        let key =
            format!("{sites:?}{default}{ssl}{http2}{proxy_protocol}{backlog:?}{}", first.port.is_none());
        let listen = Listen { backlog, ..first };
        if let Some(group) = alike.get(&key).and_then(|at| out.get_mut(*at)) {
            group.listens.push(listen);
            continue;
        }
        alike.insert(key, out.len());
        let name = name(&listen, ssl, &mut names);
        out.push(Group { name, listens: vec![listen], sites, default, ssl, http2, proxy_protocol });
    }
    out
}

/// A name for a listener that no other has.
fn name(listen: &Listen<'_>, ssl: bool, names: &mut HashSet<String>) -> String {
    let kind = if ssl { "https" } else { "http" };
    let base = match (listen.port, ssl) {
        (Some(80), false) | (Some(443), true) => kind.to_owned(),
        (Some(port), _) => format!("{kind}-{port}"),
        (None, _) => "unix".to_owned(),
    };
    let mut name = base.clone();
    let mut number = 2;
    while !names.insert(name.clone()) {
        name = format!("{base}-{number}");
        number += 1;
    }
    name
}

impl Group<'_> {
    /// What conditions ask of it.
    pub(super) fn door(&self) -> Door {
        let ports = self.listens.iter().filter_map(|listen| listen.port).collect();
        Door { listener: self.name.clone(), tls: self.ssl, ports }
    }
}

/// The names of a server, by their kinds.
#[derive(Debug, Default)]
pub(super) struct Names<'t> {
    /// Without a star, or with one in front.
    pub(super) hosts: Vec<(String, &'t Directive)>,
    /// `www.example.*`, as an expression, with its length.
    starts: Vec<(String, usize)>,
    /// `~^www\d+`.
    regexes: Vec<String>,
}

impl<'t> Names<'t> {
    pub(super) fn read(level: &Level<'t>, notes: &mut Notes<'_>) -> Self {
        let mut out = Self::default();
        for of in level.all("server_name") {
            for word in &of.words {
                out.name(word, of, notes);
            }
            if of.words.is_empty() {
                notes.wrong(of, "a name is missing: nginx rejects it");
            } else {
                notes.ok(of);
            }
        }
        out
    }

    fn name(&mut self, word: &str, of: &'t Directive, notes: &mut Notes<'_>) {
        let lower = word.to_ascii_lowercase();
        if let Some(regex) = word.strip_prefix('~') {
            match fault(regex) {
                None => self.regexes.push(host_regex(regex)),
                Some(why) => notes.cannot(of, format!("the regular expression cannot be read here: {why}")),
            }
        } else if word.is_empty() {
            notes.near(of, "a request without a host is taken by the default server");
        } else if word == "_" || word == "--" || word == "!@#" || word == "*" {
            // It is no name, and so never asked for.
        } else if let Some(host) = lower.strip_prefix('.') {
            self.host(host, of, notes);
            self.host(&format!("*.{host}"), of, notes);
        } else if let Some(start) = lower.strip_suffix(".*") {
            self.starts.push((format!("(?i)^{}\\.", escape(start)), start.len()));
        } else if word.contains('$') {
            notes.cannot(of, "the name depends on the machine ($hostname): write it out");
        } else {
            self.host(&lower, of, notes);
        }
    }

    fn host(&mut self, host: &str, of: &'t Directive, notes: &mut Notes<'_>) {
        if HostPattern::parse(host).is_err() {
            return notes.wrong(of, format!("{host}: no client asks for such a name"));
        }
        if !self.hosts.iter().any(|(own, _)| own == host) {
            self.hosts.push((host.to_owned(), of));
        }
    }

    /// The first name without a star.
    pub(super) fn plain(&self) -> Vec<String> {
        self.hosts.iter().map(|(host, _)| host.clone()).filter(|host| !host.starts_with('*')).collect()
    }

    /// Whether a name of it may take what an exact one does not.
    const fn is_loose(&self) -> bool {
        !self.starts.is_empty() || !self.regexes.is_empty()
    }
}

/// A part of the requests that a server takes.
#[derive(Debug)]
pub(super) struct Share {
    /// In this order they are asked.
    order: (u8, Reverse<usize>, usize),
    pub(super) site: usize,
    ask: Ask,
    /// Listeners on which it holds.
    doors: Vec<usize>,
    /// What no other takes.
    pub(super) is_default: bool,
}

impl Share {
    /// What of a region belongs to it.
    pub(super) fn of(&self, region: &Region, doors: &[Door]) -> Option<Region> {
        let Narrowed::To(mut region) = narrow(region, &self.ask, doors) else { return None };
        let before = region.doors.take().unwrap_or_else(|| (0..doors.len()).collect());
        let after: Vec<usize> = before.into_iter().filter(|at| self.doors.contains(at)).collect();
        if after.is_empty() {
            return None;
        }
        region.doors = Some(after).filter(|after| after.len() < doors.len());
        // The bare name stands for the field where both are asked.
        if let Some(hosts) = region.hosts.take() {
            region.hosts = meet_hosts(None, &hosts).filter(|hosts| !hosts.is_empty());
        }
        Some(region)
    }
}

/// Divides the requests among the servers.
pub(super) fn shares(groups: &[Group<'_>], names: &[Names<'_>], notes: &mut Notes<'_>) -> Vec<Share> {
    let mut doors_of: Vec<Vec<usize>> = names.iter().map(|_| Vec::new()).collect();
    for (at, group) in groups.iter().enumerate() {
        for site in &group.sites {
            if let Some(doors) = doors_of.get_mut(*site) {
                doors.push(at);
            }
        }
    }
    let taken = first_come(&doors_of, names, notes);
    let overlapped = overlapped(&doors_of, names);
    // Listeners where more than the default's own catch-all is needed.
    let loose: Vec<bool> = groups
        .iter()
        .map(|group| {
            let is_loose = |site: &usize| {
                names.get(*site).is_some_and(|own| {
                    own.is_loose() || own.hosts.iter().any(|(host, _)| host.starts_with('*'))
                })
            };
            group.sites.iter().any(|site| *site != group.default && is_loose(site))
        })
        .collect();
    let mut out = Vec::new();
    for (site, own) in names.iter().enumerate() {
        let doors = doors_of.get(site).cloned().unwrap_or_default();
        let is_default = |door: &&usize| groups.get(**door).is_some_and(|group| group.default == site);
        let named: Vec<usize> = doors
            .iter()
            .filter(|door| !is_default(door) || loose.get(**door).copied().unwrap_or(false))
            .copied()
            .collect();
        if !named.is_empty() {
            let hosts: Vec<String> = own
                .hosts
                .iter()
                .map(|(host, _)| host.clone())
                .filter(|host| taken.get(host).is_none_or(|first| !first.contains(&site)))
                .collect();
            let (alone, merged): (Vec<String>, Vec<String>) =
                hosts.into_iter().partition(|host| overlapped.contains(&(site, host.clone())));
            let mut share =
                |order, ask| out.push(Share { order, site, ask, doors: named.clone(), is_default: false });
            if !merged.is_empty() {
                share((0, Reverse(0), site), Ask::Hosts(merged));
            }
            for host in alone {
                share((1, Reverse(host.len()), site), Ask::Hosts(vec![host]));
            }
            for (regex, length) in &own.starts {
                let ask = Ask::Value(Part::Header, "host".to_owned(), ValueTest::Regex(regex.clone()));
                share((2, Reverse(*length), site), ask);
            }
            for regex in &own.regexes {
                let ask = Ask::Value(Part::Header, "host".to_owned(), ValueTest::Regex(regex.clone()));
                share((3, Reverse(0), site), ask);
            }
        }
        let rest: Vec<usize> = doors.iter().filter(is_default).copied().collect();
        if !rest.is_empty() {
            let order = (4, Reverse(0), site);
            out.push(Share { order, site, ask: Ask::Always, doors: rest, is_default: true });
        }
    }
    out.sort_by_key(|share| share.order);
    out
}

/// Names that an earlier server on the same address has, with those that come too late.
fn first_come(
    doors_of: &[Vec<usize>],
    names: &[Names<'_>],
    notes: &mut Notes<'_>,
) -> HashMap<String, HashSet<usize>> {
    let mut seen: HashMap<(usize, &str), usize> = HashMap::new();
    let mut late: HashMap<String, HashSet<usize>> = HashMap::new();
    for (site, own) in names.iter().enumerate() {
        for (host, of) in &own.hosts {
            for door in doors_of.get(site).into_iter().flatten() {
                let first = *seen.entry((*door, host.as_str())).or_insert(site);
                if first != site && late.entry(host.clone()).or_default().insert(site) {
                    notes.wrong(of, format!("{host}: another server has this name on the same address, and nginx ignores this one"));
                }
            }
        }
    }
    late
}

/// Names with a star that another server has a narrower name for.
fn overlapped(doors_of: &[Vec<usize>], names: &[Names<'_>]) -> HashSet<(usize, String)> {
    let mut owners: HashMap<&str, Vec<usize>> = HashMap::new();
    for (site, own) in names.iter().enumerate() {
        for (host, _) in &own.hosts {
            if let Some(end) = host.strip_prefix('*') {
                owners.entry(end).or_default().push(site);
            }
        }
    }
    let mut out = HashSet::new();
    let meet = |a: usize, b: usize| {
        let (a, b) = (doors_of.get(a), doors_of.get(b));
        a.into_iter().flatten().any(|door| b.is_some_and(|b| b.contains(door)))
    };
    for (site, own) in names.iter().enumerate() {
        for (host, _) in &own.hosts {
            let inner = host.strip_prefix("*.").unwrap_or(host);
            for (at, _) in inner.match_indices('.') {
                let Some(end) = inner.get(at..) else { continue };
                for other in owners.get(end).into_iter().flatten() {
                    if *other != site && meet(*other, site) {
                        out.insert((*other, format!("*{end}")));
                    }
                }
            }
        }
    }
    out
}
