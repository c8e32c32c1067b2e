//! What differs between what runs and what would run: for whoever plans a reload, and for the journal of one.
//!
//! Endpoints are compared as two snapshots have them, since that is what happens to them; everything else key by key, as
//! the whole configuration is printed.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use super::endpoint::Endpoint;
use super::pool::Pool;
use super::snapshot::Snapshot;
use crate::config::{Config, Setting, Subject, differing_settings};
use crate::model::name::{PoolName, RouteName};
use crate::model::units::format_duration;

/// Sections and keys of which a new value only counts after a restart.
const RESTART: [&str; 2] = ["process.workers", "process.state_dir"];

/// A configuration and what it was compiled to.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// What is meant.
    pub config: &'a Config,
    /// What runs, or would.
    pub snapshot: &'a Snapshot,
}

/// What an item of a difference is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum What {
    /// The process.
    Process,
    /// A listener.
    Listener,
    /// A route, or the order of all.
    Route,
    /// A pool.
    Pool,
    /// An endpoint, named `POOL/ENDPOINT`.
    Endpoint,
}

impl What {
    /// Everything there is, as it is listed.
    pub const ALL: [Self; 5] = [Self::Process, Self::Listener, Self::Route, Self::Pool, Self::Endpoint];

    /// Its word in text and JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Listener => "listener",
            Self::Route => "route",
            Self::Pool => "pool",
            Self::Endpoint => "endpoint",
        }
    }
}

/// What happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It comes: a listener is opened.
    Added,
    /// It goes: a listener is closed, an endpoint drains.
    Removed,
    /// It stays, with what happens on it, and is another from now on.
    Changed,
    /// Another takes its name: another address or protocol. What happens on the old one ends as on a removed one.
    Replaced,
    /// It stays as it is until the process is restarted.
    NeedsRestart,
}

impl Fate {
    /// Its word in text and JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Changed => "changed",
            Self::Replaced => "replaced",
            Self::NeedsRestart => "needs a restart",
        }
    }
}

/// One thing that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What it is about.
    pub what: What,
    /// Its name; empty for the process.
    pub name: String,
    /// What happens to it.
    pub fate: Fate,
    /// Which keys change from what to what, and what is drained, in words.
    pub details: Vec<String>,
    /// Connections, requests and sessions on it now that keep what they began with.
    pub in_flight: u64,
}

/// Everything that differs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diff {
    /// In the order of [`What::ALL`], then of names.
    pub items: Vec<Item>,
}

/// What differs between what runs and what would run.
#[must_use]
pub fn diff(before: Side<'_>, after: Side<'_>) -> Diff {
    let mut items = settings(before, after);
    let renewed = renewed(before, after).chain(rekeyed(before, after));
    let renewed: Vec<Item> = renewed.filter(|item| !names(&items, item)).collect();
    items.extend(renewed);
    let renewed: Vec<Item> = other_users(before, after).filter(|item| !names(&items, item)).collect();
    items.extend(renewed);
    items.extend(order_of_routes(before.config, after.config));
    items.extend(endpoints(before.snapshot, after.snapshot));
    items.sort_by(|a, b| (a.what as u8, &a.name).cmp(&(b.what as u8, &b.name)));
    Diff { items }
}

impl Diff {
    /// Whether nothing differs.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// How many of these have this happen to them.
    #[must_use]
    pub fn count(&self, what: What, fate: Fate) -> usize {
        self.items.iter().filter(|item| item.what == what && item.fate == fate).count()
    }

    /// What is in flight on what goes.
    #[must_use]
    pub fn drained(&self) -> u64 {
        let goes = |item: &&Item| matches!(item.fate, Fate::Removed | Fate::Replaced);
        self.items.iter().filter(goes).map(|item| item.in_flight).sum()
    }

    /// All in a line: `listener: 1 changed; endpoint: 4 added, 4 removed; 12 in flight drain`.
    #[must_use]
    pub fn summary(&self) -> String {
        const FATES: [Fate; 5] =
            [Fate::Added, Fate::Removed, Fate::Changed, Fate::Replaced, Fate::NeedsRestart];
        let mut parts = Vec::new();
        for what in What::ALL {
            let counts = FATES.iter().map(|&fate| (self.count(what, fate), fate.word()));
            let counts: Vec<String> =
                counts.filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect();
            if !counts.is_empty() {
                parts.push(format!("{}: {}", what.word(), counts.join(", ")));
            }
        }
        if parts.is_empty() {
            return "nothing changes".to_owned();
        }
        let drained = self.drained();
        if drained > 0 {
            parts.push(format!("{drained} in flight drain"));
        }
        parts.join("; ")
    }
}

impl fmt::Display for Diff {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.items.is_empty() {
            return writeln!(out, "nothing changes");
        }
        self.items.iter().try_for_each(|item| write!(out, "{item}"))
    }
}

impl fmt::Display for Item {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, name, fate, details, in_flight } = self;
        let space = if name.is_empty() { "" } else { " " };
        write!(out, "{}{space}{name}: {}", what.word(), fate.word())?;
        if *in_flight > 0 {
            write!(out, " ({in_flight} in flight)")?;
        }
        writeln!(out)?;
        details.iter().try_for_each(|detail| writeln!(out, "  {detail}"))
    }
}

/// Keys with their values; a key that stands more than once has all of them.
type Keys = BTreeMap<String, String>;

/// Every subject with its keys.
fn keys(settings: Vec<Setting>) -> BTreeMap<(Subject, String), Keys> {
    let mut all: BTreeMap<(Subject, String), Keys> = BTreeMap::new();
    for setting in settings {
        let keys = all.entry((setting.subject, setting.name)).or_default();
        let value = keys.entry(setting.key).or_default();
        if !value.is_empty() {
            value.push_str(", ");
        }
        value.push_str(&setting.value);
    }
    all
}

fn settings(before: Side<'_>, after: Side<'_>) -> Vec<Item> {
    let [was, is] = differing_settings(before.config, after.config).map(keys);
    let mut items = Vec::new();
    for (subject, old) in &was {
        let Some(new) = is.get(subject) else {
            items.push(whole(subject, Fate::Removed, before, old));
            continue;
        };
        let changed = changes(old, new);
        if subject.0 == Subject::Process {
            items.extend(process(changed));
        } else if !changed.is_empty() {
            let details = changed.into_iter().map(|(_, text)| text).collect();
            let fate = match subject.0 {
                Subject::Listener
                    if ["bind", "protocol"].iter().any(|key| old.get(*key) != new.get(*key)) =>
                {
                    Fate::Replaced
                }
                _ => Fate::Changed,
            };
            items.push(Item { details, ..whole(subject, fate, before, old) });
        } else if matches!(subject.0, Subject::Listener | Subject::Route) {
            // Its keys are the same, and so is what they say: what differs stands in the files that they name.
            let details = vec!["files that it names say something else now".to_owned()];
            items.push(Item { details, ..whole(subject, Fate::Changed, before, old) });
        }
    }
    let new = is.iter().filter(|(subject, _)| !was.contains_key(*subject));
    items.extend(new.map(|(subject, keys)| whole(subject, Fate::Added, before, keys)));
    items
}

/// Keys that differ, with the change in words.
fn changes(old: &Keys, new: &Keys) -> Vec<(String, String)> {
    let gone = old.iter().filter(|(key, _)| !new.contains_key(*key));
    let gone = gone.map(|(key, value)| (key.clone(), format!("{key}: {value} -> not set")));
    let changed = new.iter().filter_map(|(key, value)| match old.get(key) {
        Some(was) if was == value => None,
        Some(was) => Some((key.clone(), format!("{key}: {was} -> {value}"))),
        None => Some((key.clone(), format!("{key}: not set -> {value}"))),
    });
    gone.chain(changed).collect()
}

fn process(changed: Vec<(String, String)>) -> Vec<Item> {
    let needs = |key: &str| RESTART.iter().any(|prefix| key.starts_with(prefix));
    let (restart, at_once): (Vec<_>, Vec<_>) = changed.into_iter().partition(|(key, _)| needs(key));
    let item = |fate, changed: Vec<(String, String)>| Item {
        what: What::Process,
        name: String::new(),
        fate,
        details: changed.into_iter().map(|(_, text)| text).collect(),
        in_flight: 0,
    };
    let items = [item(Fate::Changed, at_once), item(Fate::NeedsRestart, restart)];
    items.into_iter().filter(|item| !item.details.is_empty()).collect()
}

/// A listener, a route or a pool as one.
fn whole((subject, name): &(Subject, String), fate: Fate, running: Side<'_>, keys: &Keys) -> Item {
    let what = match subject {
        Subject::Process => What::Process,
        Subject::Listener => What::Listener,
        Subject::Route => What::Route,
        Subject::Pool => What::Pool,
    };
    let mut item = Item { what, name: name.clone(), fate, details: Vec::new(), in_flight: 0 };
    if what != What::Listener {
        return item;
    }
    let running = running.snapshot.listeners.iter().find(|listener| listener.name.as_str() == name);
    item.in_flight = running.map_or(0, |listener| listener.live.connections() as u64);
    item.details.extend(keys.get("bind").map(|bind| match fate {
        Fate::Added => format!("opened on {bind}"),
        _ => format!("closed on {bind}; its connections go on"),
    }));
    item
}

/// Listeners whose certificates, keys or authorities are others although every key is the same.
fn renewed<'a>(before: Side<'a>, after: Side<'a>) -> impl Iterator<Item = Item> + use<'a> {
    after.snapshot.listeners.iter().filter_map(move |is| {
        let was = before.snapshot.listeners.iter().find(|was| was.name == is.name)?;
        let (Some(old), Some(new)) = (&was.tls, &is.tls) else { return None };
        (!Arc::ptr_eq(old, new)).then(|| Item {
            what: What::Listener,
            name: is.name.to_string(),
            fate: Fate::Changed,
            details: vec!["tls: its files say something else now".to_owned()],
            in_flight: was.live.connections() as u64,
        })
    })
}

/// Routes whose users are others although every key is the same.
fn other_users<'a>(before: Side<'a>, after: Side<'a>) -> impl Iterator<Item = Item> + use<'a> {
    after.snapshot.routes.iter().filter_map(move |is| {
        let new = is.treatment.as_ref()?.basic_auth.as_ref()?;
        let was = before.snapshot.routes.iter().find(|was| was.name == is.name)?;
        let old = was.treatment.as_ref()?.basic_auth.as_ref()?;
        (!Arc::ptr_eq(&old.users, &new.users)).then(|| Item {
            what: What::Route,
            name: is.name.to_string(),
            fate: Fate::Changed,
            details: vec!["basic_auth: its users_file says something else now".to_owned()],
            in_flight: 0,
        })
    })
}

/// Sticky pools whose keys are others although every key of the configuration is the same.
fn rekeyed<'a>(before: Side<'a>, after: Side<'a>) -> impl Iterator<Item = Item> + use<'a> {
    let keys = |pool: &'a Pool| Some(pool.sticky.as_ref()?.jar()?.keys());
    let known: HashMap<&PoolName, &Pool> = before.snapshot.pools.iter().map(|was| (&was.name, was)).collect();
    after.snapshot.pools.iter().filter_map(move |is| {
        let (old, new) = (keys(known.get(&is.name)?)?, keys(is)?);
        (old != new).then(|| Item {
            what: What::Pool,
            name: is.name.to_string(),
            fate: Fate::Changed,
            details: vec!["sticky: its keys are others now".to_owned()],
            in_flight: 0,
        })
    })
}

fn names(items: &[Item], other: &Item) -> bool {
    items.iter().any(|item| (item.what, &item.name) == (other.what, &other.name))
}

/// Where several routes take a request, the first in the file does.
fn order_of_routes(before: &Config, after: &Config) -> Option<Item> {
    let place: HashMap<&RouteName, usize> =
        before.routes.iter().enumerate().map(|(place, route)| (&route.rule.name, place)).collect();
    let places = after.routes.iter().filter_map(|route| place.get(&route.rule.name));
    (!places.is_sorted()).then(|| Item {
        what: What::Route,
        name: String::new(),
        fate: Fate::Changed,
        details: vec!["the order of the file is another, which decides between equal conditions".to_owned()],
        in_flight: 0,
    })
}

fn endpoints(before: &Snapshot, after: &Snapshot) -> Vec<Item> {
    let old = by_name(before);
    let new = by_name(after);
    let mut items = Vec::new();
    for (name, (pool, was)) in &old {
        let in_flight = u64::from(was.live.in_flight());
        let item =
            |fate, details| Item { what: What::Endpoint, name: name_of(*name), fate, details, in_flight };
        match new.get(name) {
            None => items.push(item(Fate::Removed, vec![drains(pool, in_flight)])),
            Some((_, is)) if !Arc::ptr_eq(&was.live, &is.live) => {
                let moved = format!("address: {} -> {}", was.address, is.address);
                items.push(item(Fate::Replaced, vec![moved, drains(pool, in_flight)]));
            }
            Some((_, is)) => {
                let details = changed(was, is);
                if !details.is_empty() {
                    items.push(item(Fate::Changed, details));
                }
            }
        }
    }
    for (name, (pool, is)) in &new {
        if !old.contains_key(name) {
            let probed = if pool.checked { "probed" } else { "connected to" };
            let details = vec![format!("at {}, {probed} before it takes traffic", is.address)];
            let name = name_of(*name);
            items.push(Item { what: What::Endpoint, name, fate: Fate::Added, details, in_flight: 0 });
        }
    }
    items
}

/// Pool and endpoint.
type Name<'a> = (&'a str, &'a str);

fn by_name(snapshot: &Snapshot) -> BTreeMap<Name<'_>, (&Pool, &Endpoint)> {
    let all =
        snapshot.pools.iter().flat_map(|pool| pool.endpoints.iter().map(move |endpoint| (pool, endpoint)));
    all.map(|(pool, endpoint)| ((pool.name.as_str(), endpoint.name.as_str()), (pool, endpoint))).collect()
}

fn name_of((pool, endpoint): Name<'_>) -> String {
    format!("{pool}/{endpoint}")
}

fn drains(pool: &Pool, in_flight: u64) -> String {
    let limit = format_duration(pool.drain_timeout);
    match in_flight {
        0 => "nothing is in flight on it".to_owned(),
        n => format!("{n} in flight finish, sessions and tunnels within {limit}"),
    }
}

/// What is another of an endpoint that stays.
fn changed(was: &Endpoint, is: &Endpoint) -> Vec<String> {
    let same = (was.weight, was.tier, &was.zone) == (is.weight, is.tier, &is.zone)
        && (was.limits.requests, was.limits.connections) == (is.limits.requests, is.limits.connections);
    if same {
        return Vec::new();
    }
    let mut details = Vec::new();
    let mut compare = |key: &str, was: String, is: String| {
        if was != is {
            details.push(format!("{key}: {was} -> {is}"));
        }
    };
    compare("weight", was.weight.to_string(), is.weight.to_string());
    compare("tier", was.tier.to_string(), is.tier.to_string());
    compare("zone", format!("\"{}\"", was.zone), format!("\"{}\"", is.zone));
    compare("max_requests", ceiling(was.limits.requests), ceiling(is.limits.requests));
    compare("max_connections", ceiling(was.limits.connections), ceiling(is.limits.connections));
    details
}

fn ceiling(limit: u32) -> String {
    if limit == u32::MAX { "none".to_owned() } else { limit.to_string() }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;
    use crate::runtime::compile::{Machine, Weights, compile};

    const MACHINE: Machine =
        Machine { workers: 1, connections_max: 100, time: std::time::Duration::ZERO, secret: None };

    fn load(text: &str) -> Config {
        config::load_text(text, Path::new("test.toml"), &|_| None).expect("a valid configuration")
    }

    fn compare(before: &str, after: &str) -> Diff {
        let (before, after) = (load(before), load(after));
        let was = compile(&before, None, &MACHINE, &Weights::default()).expect("no file is named");
        let is = compile(&after, Some(&was), &MACHINE, &Weights::default()).expect("no file is named");
        diff(Side { config: &before, snapshot: &was }, Side { config: &after, snapshot: &is })
    }

    const BEFORE: &str = r#"
        [listener.web]
        bind = ["127.0.0.1:8080"]
        [listener.db]
        bind = ["127.0.0.1:5432"]
        protocol = "tcp"
        pool = "api"
        [[route]]
        name = "a"
        path_prefix = "/a"
        pool = "api"
        [[route]]
        name = "b"
        pool = "api"
        [pool.api]
        endpoints = ["10.0.0.1:80", "10.0.0.2:80", { name = "c", address = "10.0.0.3:80" }]
        [pool.old]
        endpoints = ["10.0.0.9:80"]
    "#;

    #[test]
    fn the_same_twice_differs_in_nothing() {
        let diff = compare(BEFORE, BEFORE);
        assert!(diff.is_empty(), "{diff}");
        assert_eq!(
            (diff.summary().as_str(), diff.to_string().as_str()),
            ("nothing changes", "nothing changes\n")
        );
    }

    #[test]
    fn every_difference_is_told_by_its_name() {
        let diff = compare(
            BEFORE,
            r#"
            [process]
            drain_timeout = "5s"
            state_dir = "/kept"
            [log]
            format = "json"
            [listener.web]
            bind = ["127.0.0.1:8080"]
            timeouts = { keep_alive = "7s" }
            [listener.db]
            bind = ["127.0.0.1:5433"]
            protocol = "tcp"
            pool = "api"
            [listener.new]
            bind = ["127.0.0.1:9000"]
            [[route]]
            name = "b"
            pool = "api"
            [[route]]
            name = "a"
            path_prefix = "/aa"
            pool = "api"
            [pool.api]
            endpoints = [{ address = "10.0.0.1:80", weight = 3 }, "10.0.0.4:80", { name = "c", address = "10.0.0.5:80" }]
            timeouts = { connect = "1s" }
            "#,
        );
        let expected = r#"process: changed
  log.format: "text" -> "json"
  process.drain_timeout: "30s" -> "5s"
process: needs a restart
  process.state_dir: "" -> "/kept"
listener db: replaced
  bind: ["127.0.0.1:5432"] -> ["127.0.0.1:5433"]
listener new: added
  opened on ["127.0.0.1:9000"]
listener web: changed
  timeouts.keep_alive: "1m" -> "7s"
route: changed
  the order of the file is another, which decides between equal conditions
route a: changed
  path_prefix: "/a" -> "/aa"
pool api: changed
  timeouts.connect: "2s" -> "1s"
pool old: removed
endpoint api/10.0.0.1:80: changed
  weight: 1 -> 3
endpoint api/10.0.0.2:80: removed
  nothing is in flight on it
endpoint api/10.0.0.4:80: added
  at 10.0.0.4:80, connected to before it takes traffic
endpoint api/c: replaced
  address: 10.0.0.3:80 -> 10.0.0.5:80
  nothing is in flight on it
endpoint old/10.0.0.9:80: removed
  nothing is in flight on it
"#;
        assert_eq!(diff.to_string(), expected);
        assert_eq!(
            diff.summary(),
            "process: 1 changed, 1 needs a restart; listener: 1 added, 1 changed, 1 replaced; route: 2 changed; \
             pool: 1 removed, 1 changed; endpoint: 1 added, 2 removed, 1 changed, 1 replaced"
        );
    }
}
