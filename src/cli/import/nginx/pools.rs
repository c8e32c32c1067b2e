//! Pools: an upstream, or an address alone, with how it is spoken to; one for each way of speaking to it.

use std::collections::{HashMap, HashSet};

use super::super::document::{Block, Table, Value, place};
use super::draft::{Draft, Failures, Key};
use super::notes::Notes;
use super::probe;
use super::scope::Scope;
use super::tree::Directive;
use super::upstream::{Peer, Upstream};
use super::walk::Ground;

/// What a pool is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    Upstream(String),
    Address(String),
}

/// A pool.
#[derive(Debug)]
pub(super) struct Pool<'t> {
    pub(super) name: String,
    origin: Origin,
    /// How it is spoken to.
    settings: Vec<Key>,
    /// It serves requests; else connections or datagrams.
    http: bool,
    /// Its probes.
    checks: Vec<(&'t Directive, Scope<'t>, String)>,
    /// The first line that leads to it.
    of: &'t Directive,
}

/// All pools.
#[derive(Debug, Default)]
pub(super) struct Pools<'t> {
    list: Vec<Pool<'t>>,
    by_key: HashMap<String, usize>,
    names: HashSet<String>,
}

impl<'t> Pools<'t> {
    /// The number of the pool of this origin that is spoken to like this.
    pub(super) fn of(&mut self, origin: Origin, settings: Vec<Key>, http: bool, of: &'t Directive) -> usize {
        let values: Vec<(&str, &Value)> =
            settings.iter().map(|(name, value, _)| (name.as_str(), value)).collect();
        let key = format!("{http}{origin:?}{values:?}");
        if let Some(known) = self.by_key.get(&key) {
            return *known;
        }
        let (Origin::Upstream(base) | Origin::Address(base)) = &origin;
        let tls = settings.iter().any(|(name, ..)| name.starts_with("tls"));
        let name = self.free(
            base,
            if tls {
                "tls"
            } else if http {
                "http"
            } else {
                "tcp"
            },
        );
        self.list.push(Pool { name, origin, settings, http, checks: Vec::new(), of });
        self.by_key.insert(key, self.list.len() - 1);
        self.list.len() - 1
    }

    /// A name that no other pool has.
    fn free(&mut self, base: &str, kind: &str) -> String {
        let fits = |c: char| if c.is_ascii_alphanumeric() || "-_.:@[]".contains(c) { c } else { '-' };
        let base: String = base.chars().map(fits).take(100).collect();
        let base = base.replace("unix:-", "unix-");
        let mut name = base.clone();
        let mut number = 1;
        while !self.names.insert(name.clone()) {
            name = if number == 1 { format!("{base}-{kind}") } else { format!("{base}-{kind}-{number}") };
            number += 1;
        }
        name
    }

    pub(super) fn name(&self, at: usize) -> String {
        self.list.get(at).map(|pool| pool.name.clone()).unwrap_or_default()
    }

    /// Whether there is none.
    pub(super) const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Notes that a pool is probed, from a location.
    pub(super) fn check(&mut self, at: usize, of: &'t Directive, scope: Scope<'t>, location: &str) {
        if let Some(pool) = self.list.get_mut(at)
            && !pool.checks.iter().any(|(other, ..)| other.id == of.id)
        {
            pool.checks.push((of, scope, location.to_owned()));
        }
    }

    /// Writes the pools; what their routes agree on is theirs.
    pub(super) fn write(
        &self,
        drafts: &mut [Draft],
        ground: &Ground<'t>,
        streams: &HashMap<String, Upstream<'t>>,
        relayed: &HashMap<usize, Vec<Key>>,
        notes: &mut Notes<'_>,
    ) -> Vec<Block> {
        let agreed = self.agree(drafts);
        let failures = self.failures(drafts, notes);
        let mut out = Vec::new();
        for (at, pool) in self.list.iter().enumerate() {
            let upstreams = if pool.http { &ground.upstreams } else { streams };
            let upstream = match &pool.origin {
                Origin::Upstream(name) => upstreams.get(name),
                Origin::Address(_) => None,
            };
            let mut table = Table::default();
            table_of(pool, upstream, &mut table, notes);
            for (name, value, from) in &pool.settings {
                table.set(name, value.clone(), *from);
            }
            let shared = agreed.get(at).into_iter().flatten().chain(relayed.get(&at).into_iter().flatten());
            for (name, value, from) in shared {
                table.set(name, value.clone(), *from);
            }
            let statuses = failures.get(at).map(|(statuses, _)| statuses.as_slice()).unwrap_or_default();
            outlier(statuses, upstream, &mut table, notes);
            table.set("fail_open", Value::Bool(false), None);
            probe::write(&pool.checks, upstream, ground, &mut table, notes);
            let comment = match upstream {
                Some(upstream) => {
                    format!("upstream {} ({})", upstream.name, place(upstream.of.at, notes.report))
                }
                None => format!("{} {} ({})", pool.of.name, pool.of.word(0), place(pool.of.at, notes.report)),
            };
            out.push(Block { name: pool.name.clone(), comments: vec![comment], table });
        }
        out
    }

    /// For each pool the statuses that are failures of an endpoint: those of the route that takes what the others leave.
    /// nginx counts for each location by what that says.
    fn failures(&self, drafts: &[Draft], notes: &mut Notes<'_>) -> Vec<Failures> {
        let mut out: Vec<Failures> = self.list.iter().map(|_| (Vec::new(), None)).collect();
        for draft in drafts {
            for at in draft.pools() {
                if let Some(own) = out.get_mut(at) {
                    own.clone_from(&draft.failures);
                }
            }
        }
        for draft in drafts {
            for (own, from) in draft.pools().into_iter().filter_map(|at| out.get(at)) {
                let (statuses, line) = &draft.failures;
                if let Some(line) = line.filter(|_| statuses.iter().any(|status| !own.contains(status))) {
                    let what = "these statuses are tried again, and are no failures of an endpoint: what is one is said for all of a pool (count of its outlier), here by the location that takes what the others leave";
                    notes.near_at(line, what);
                }
                if let Some(from) = from.filter(|_| own.iter().any(|status| !statuses.contains(status))) {
                    let what = "these statuses are failures of an endpoint for all that goes to the pool, not for this location alone (count of its outlier)";
                    notes.near_at(from, what);
                }
            }
        }
        out
    }

    /// For each pool the values that most of its routes want; these are taken out of the routes, and the others stay.
    fn agree(&self, drafts: &mut [Draft]) -> Vec<Vec<Key>> {
        let mut votes: Vec<Vec<(Key, usize)>> = self.list.iter().map(|_| Vec::new()).collect();
        for draft in drafts.iter() {
            for at in draft.pools() {
                let Some(votes) = votes.get_mut(at) else { continue };
                for key in &draft.shared {
                    match votes.iter_mut().find(|((name, value, _), _)| *name == key.0 && *value == key.1) {
                        Some(((_, _, from), count)) => {
                            *count += 1;
                            *from = from.or(key.2);
                        }
                        None => votes.push((key.clone(), 1)),
                    }
                }
            }
        }
        let most = |votes: &Vec<(Key, usize)>| {
            let mut out: Vec<(Key, usize)> = Vec::new();
            for (key, count) in votes {
                match out.iter_mut().find(|((name, ..), _)| *name == key.0) {
                    // Of as many the last: it stands for all else.
                    Some(own) if own.1 <= *count => *own = (key.clone(), *count),
                    Some(_) => {}
                    None => out.push((key.clone(), *count)),
                }
            }
            out.into_iter().map(|(key, _)| key).collect::<Vec<Key>>()
        };
        let agreed: Vec<Vec<Key>> = votes.iter().map(most).collect();
        for draft in drafts {
            let pools = draft.pools();
            let differs = |key: &Key| {
                pools.iter().any(|at| {
                    let own = agreed.get(*at).and_then(|keys| keys.iter().find(|(name, ..)| *name == key.0));
                    own.is_none_or(|(_, value, _)| *value != key.1)
                })
            };
            let kept: Vec<Key> =
                std::mem::take(&mut draft.shared).into_iter().filter(|key| differs(key)).collect();
            draft.keys.extend(kept);
        }
        agreed
    }
}

/// Endpoints and what else an upstream says.
fn table_of(pool: &Pool<'_>, upstream: Option<&Upstream<'_>>, table: &mut Table, notes: &mut Notes<'_>) {
    let Some(upstream) = upstream else {
        if let Origin::Address(address) = &pool.origin {
            table.set("endpoints", Value::texts([address.clone()]), Some(pool.of.at));
        }
        return;
    };
    notes.ok(upstream.of);
    if !upstream.keys.iter().any(|(name, ..)| *name == "balance") {
        table.set("balance", Value::text("round_robin"), None);
    }
    let of_http = |name: &str| {
        name.starts_with("sticky.") && name != "sticky.table" || name == "limits.idle_connections"
    };
    for (name, value, of) in &upstream.keys {
        if !pool.http && (of_http(name) || (*name == "hash_key" && value != &Value::text("sni"))) {
            notes.cannot(of, "where bytes are relayed there are no requests, only sources and names of TLS");
            continue;
        }
        table.set(name, value.clone(), Some(of.at));
    }
    let same = ceiling(&upstream.peers);
    if let Some(most) = same {
        let key = if pool.http { "limits.max_requests" } else { "limits.max_connections" };
        table.set(key, Value::Integer(most), upstream.peers.first().map(|peer| peer.of.at));
    }
    let lines = upstream.peers.iter().map(|peer| {
        let mut pairs = vec![("address", Value::text(&peer.address))];
        let weight = if peer.off { 0 } else { peer.weight };
        if weight != 1 {
            pairs.push(("weight", Value::Integer(weight)));
        }
        if peer.backup {
            pairs.push(("tier", Value::Integer(1)));
        }
        if let Some(most) = peer.max_conns.filter(|_| same.is_none()) {
            pairs.push(("max_requests", Value::Integer(most)));
        }
        let value = if pairs.len() == 1 { Value::text(&peer.address) } else { Value::inline(pairs) };
        (value, Some(peer.of.at))
    });
    table.set("endpoints", Value::Lines(lines.collect()), None);
    if upstream.peers.iter().any(|peer| peer.backup) {
        // nginx goes back at once.
        let at_once = Value::inline([("after", Value::text("0s")), ("ramp", Value::text("0s"))]);
        table.set("failback", at_once, None);
    }
    slow_start(&upstream.peers, table, notes);
}

/// The ceiling that all servers have.
fn ceiling(peers: &[Peer<'_>]) -> Option<i64> {
    let most = peers.first()?.max_conns?;
    peers.iter().all(|peer| peer.max_conns == Some(most)).then_some(most)
}

fn slow_start(peers: &[Peer<'_>], table: &mut Table, notes: &mut Notes<'_>) {
    let Some(first) = peers.iter().find(|peer| peer.slow_start.is_some()) else { return };
    if let Some(time) = &first.slow_start {
        table.set("slow_start", time.clone(), Some(first.of.at));
    }
    for peer in peers.iter().filter(|peer| peer.slow_start != first.slow_start && !peer.backup && !peer.off) {
        notes.near(peer.of, "slow_start is the pool's: that of the first server holds for all");
    }
}

/// `max_fails` and `fail_timeout`.
fn outlier(statuses: &[String], upstream: Option<&Upstream<'_>>, table: &mut Table, notes: &mut Notes<'_>) {
    let peers = upstream.map(|upstream| upstream.peers.as_slice()).unwrap_or_default();
    let first = peers.first();
    let (most, time) = first.map_or((1, "10s"), |peer| (peer.max_fails, peer.fail_timeout.as_str()));
    let written = |peer: &Peer<'_>| {
        peer.of.words.iter().any(|word| word.starts_with("max_fails") || word.starts_with("fail_timeout"))
    };
    for peer in peers.iter().filter(|peer| peer.max_fails != most || peer.fail_timeout != time) {
        notes.near(
            peer.of,
            "max_fails and fail_timeout are the pool's: those of the first server hold for all",
        );
    }
    if let ([alone], true) = (peers, first.is_some_and(written)) {
        notes.how(alone.of, "one server alone is never left out, here as in nginx");
    }
    let from = first.filter(|peer| written(peer)).map(|peer| peer.of.at);
    table.set("outlier.max_fails", Value::Integer(most), from);
    if most > 0 {
        table.set("outlier.fail_timeout", Value::text(time), from);
    }
    if !statuses.is_empty() && most > 0 {
        let mut count: Vec<String> = ["connect", "reset", "timeout"].map(str::to_owned).to_vec();
        count.extend(statuses.iter().cloned());
        table.set("outlier.count", Value::texts(count), None);
    }
}
