//! Who is in a pool: what is written, with names put in their addresses' place, what a file adds, and what was added and
//! removed at run time. Pure; who reads, asks and publishes is elsewhere.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::names::{Answers, Found, Query};
use super::overrides::Roster;
use crate::config::Config;
use crate::config::pool::{Endpoint, Pool};
use crate::model::address::{Address, EndpointAddress};
use crate::model::name::{EndpointName, PoolName};
use crate::model::units::Weight;

/// A pool and one of its endpoints.
pub(super) type Place = (PoolName, EndpointName);

/// Everything that decides who is in a pool, beside the configuration.
#[derive(Debug, Clone, Default)]
pub(super) struct Members {
    /// The addresses of names.
    pub(super) answers: Arc<Answers>,
    /// The endpoints of files, as they were last read well.
    pub(super) files: BTreeMap<PathBuf, Arc<[Endpoint]>>,
    /// What the operator has added and removed.
    pub(super) roster: Roster,
}

/// Which name an endpoint comes from.
pub(super) type Origins = HashMap<Place, Query>;

impl Members {
    /// Every name that must be asked for.
    pub(super) fn queries(&self, config: &Config) -> BTreeSet<Query> {
        config.pools.iter().flat_map(|pool| self.queries_of(pool)).collect()
    }

    /// Those of one pool.
    pub(super) fn queries_of(&self, pool: &Pool) -> BTreeSet<Query> {
        self.written(pool).filter_map(|e| Query::of(&e.address)).collect()
    }

    /// The endpoints of a pool that can be connected to.
    pub(super) fn endpoints_of(&self, pool: &Pool) -> Vec<Endpoint> {
        self.endpoints(pool, &mut Origins::new())
    }

    /// The files of endpoints that a configuration names, each with a pool that does.
    pub(super) fn named_files(config: &Config) -> BTreeMap<&Path, &PoolName> {
        let named = config.pools.iter().filter_map(|p| Some((p.endpoints_file.as_deref()?, &p.name)));
        named.collect()
    }

    /// The configuration with exactly those endpoints that can be connected to, and which of them come from names.
    pub(super) fn expand<'a>(&self, config: &'a Config) -> (Cow<'a, Config>, Origins) {
        let mut origins = Origins::new();
        if config.pools.iter().all(|pool| self.is_as_written(pool)) {
            return (Cow::Borrowed(config), origins);
        }
        let mut config = config.clone();
        for pool in &mut config.pools {
            if !self.is_as_written(pool) {
                pool.endpoints = self.endpoints(pool, &mut origins);
            }
        }
        (Cow::Owned(config), origins)
    }

    fn is_as_written(&self, pool: &Pool) -> bool {
        pool.endpoints_file.is_none()
            && pool.endpoints.iter().all(|e| e.address.socket().is_some())
            && self.roster.leaves(&pool.name)
    }

    /// What is said to be in a pool, names as they are, in the order in which the first of an address counts.
    pub(super) fn written<'a>(&'a self, pool: &'a Pool) -> impl Iterator<Item = &'a Endpoint> {
        let file = pool.endpoints_file.as_ref().and_then(|path| self.files.get(path));
        let added =
            self.roster.added.iter().filter(|((of, _), _)| *of == pool.name).map(|(_, endpoint)| endpoint);
        pool.endpoints.iter().chain(file.into_iter().flat_map(|all| all.iter())).chain(added)
    }

    fn endpoints(&self, pool: &Pool, origins: &mut Origins) -> Vec<Endpoint> {
        let mut addresses: HashSet<Address> = HashSet::new();
        let mut names: HashSet<EndpointName> = HashSet::new();
        let mut endpoints = Vec::new();
        let mut take = |endpoint: Endpoint, query: Option<&Query>| {
            let Some(address) = endpoint.address.socket() else { return };
            let place = (pool.name.clone(), endpoint.name.clone());
            // Two sources may well know the same endpoint: it is one.
            let known = addresses.contains(&address) || names.contains(&endpoint.name);
            if known || self.roster.removed.contains(&place) {
                return;
            }
            addresses.insert(address);
            names.insert(endpoint.name.clone());
            if let Some(query) = query {
                origins.insert(place, query.clone());
            }
            endpoints.push(endpoint);
        };
        for endpoint in self.written(pool) {
            let Some(query) = Query::of(&endpoint.address) else {
                take(endpoint.clone(), None);
                continue;
            };
            let found: &[Found] = self.answers.get(&query).map_or(&[], |found| found);
            for resolved in resolved(endpoint, found) {
                take(resolved, Some(&query));
            }
        }
        endpoints
    }
}

/// The endpoints that a name stands for. Of SRV records (RFC 2782) each priority is a tier of its own, beginning with the
/// one that is written, and weights are shares within it.
fn resolved(template: &Endpoint, found: &[Found]) -> Vec<Endpoint> {
    let mut shares: BTreeMap<u16, Shares> = BTreeMap::new();
    for found in found {
        shares.entry(found.priority).or_default().add(found.weight);
    }
    let one = |found: &Found| match template.address {
        EndpointAddress::Ip(_) | EndpointAddress::Unix(_) => None,
        EndpointAddress::Host { port, .. } => template.at(SocketAddr::new(found.ip, port)),
        EndpointAddress::Service(_) => {
            let endpoint = template.at(SocketAddr::new(found.ip, found.port?))?;
            let tier = shares.range(..found.priority).count();
            let tier = template.tier.saturating_add(u8::try_from(tier).unwrap_or(u8::MAX));
            let weight = shares.get(&found.priority)?.weight(found.weight)?;
            Some(Endpoint { tier, weight, ..endpoint })
        }
    };
    found.iter().filter_map(one).collect()
}

/// The weights of one priority.
#[derive(Default)]
struct Shares {
    highest: u16,
    any_zero: bool,
}

impl Shares {
    fn add(&mut self, weight: u16) {
        self.highest = self.highest.max(weight);
        self.any_zero |= weight == 0;
    }

    /// A weight of ours for one of a record, which may be up to 65535. A record's 0 is a very small share beside others
    /// (RFC 2782), where ours is none: it becomes the least there is.
    fn weight(&self, of: u16) -> Option<Weight> {
        let scaled = if self.highest > Weight::MAX || (self.any_zero && self.highest > 0) {
            u32::from(of) * u32::from(Weight::MAX) / u32::from(self.highest)
        } else {
            u32::from(of)
        };
        let scaled = u16::try_from(scaled).unwrap_or(Weight::MAX).clamp(1, Weight::MAX);
        Weight::new(scaled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::address::DnsName;
    use std::net::IpAddr;

    fn config(pool: &str) -> Config {
        let text = format!("[listener.web]\nbind = [\"127.0.0.1:80\"]\n[pool.api]\n{pool}\n");
        crate::config::load_text(&text, Path::new("a.toml"), &|_| None).expect("a configuration")
    }

    fn found(ip: [u8; 4]) -> Found {
        Found { priority: 0, ip: IpAddr::from(ip), port: None, weight: 0 }
    }

    fn record(last: u8, priority: u16, weight: u16) -> Found {
        Found { priority, ip: IpAddr::from([10, 0, 0, last]), port: Some(80), weight }
    }

    fn members(answers: Vec<(Query, Vec<Found>)>) -> Members {
        let answers = answers.into_iter().map(|(query, found)| (query, found.into())).collect();
        Members { answers: Arc::new(answers), ..Members::default() }
    }

    fn host(name: &str) -> Query {
        Query::Host(DnsName::new(name).expect("a name"))
    }

    fn service(name: &str) -> Query {
        Query::Service(DnsName::new(name).expect("a name"))
    }

    fn names(config: &Config) -> Vec<&str> {
        config.pools[0].endpoints.iter().map(|e| e.name.as_str()).collect()
    }

    fn place(endpoint: &str) -> Place {
        (PoolName::new("api").expect("a name"), EndpointName::new(endpoint).expect("a name"))
    }

    #[test]
    fn every_address_of_a_name_is_an_endpoint_made_like_it() {
        let config = config(
            "endpoints = [{ name = \"c\", address = \"a.internal:80\", weight = 7, tier = 2, zone = \"b\" }, \"a.internal:81\"]",
        );
        let members = members(vec![(host("a.internal"), vec![found([10, 0, 0, 1]), found([10, 0, 0, 2])])]);
        assert_eq!(members.queries(&config), BTreeSet::from([host("a.internal")]), "asked once");
        let (expanded, origins) = members.expand(&config);
        assert_eq!(
            names(&expanded),
            ["c@10.0.0.1:80", "c@10.0.0.2:80", "a.internal@10.0.0.1:81", "a.internal@10.0.0.2:81"]
        );
        let first = &expanded.pools[0].endpoints[0];
        assert_eq!((first.weight.get(), first.tier, first.zone.as_str()), (7, 2, "b"));
        assert_eq!(origins.get(&place("c@10.0.0.2:80")), Some(&host("a.internal")));
    }

    #[test]
    fn a_name_without_an_answer_is_no_endpoint() {
        let config = config("endpoints = [\"a.internal:80\", \"10.0.0.9:80\"]");
        let (expanded, _) = members(Vec::new()).expand(&config);
        assert_eq!(names(&expanded), ["10.0.0.9:80"]);
    }

    #[test]
    fn an_address_is_in_a_pool_once_whoever_brings_it() {
        let config = config(
            "endpoints = [\"a.internal:80\", \"b.internal:80\", \"10.0.0.1:80\"]\nendpoints_file = \"f\"",
        );
        let mut members = members(vec![
            (host("a.internal"), vec![found([10, 0, 0, 2])]),
            (host("b.internal"), vec![found([10, 0, 0, 2]), found([10, 0, 0, 1])]),
        ]);
        let pool = PoolName::new("api").expect("a name");
        let text = "10.0.0.1:80\n10.0.0.3:80\n".to_owned();
        let file = crate::config::endpoints_file::parse(text, Path::new("f"), &pool).expect("endpoints");
        members.files.insert("f".into(), file.into());
        let (expanded, _) = members.expand(&config);
        assert_eq!(names(&expanded), ["a.internal@10.0.0.2:80", "b.internal@10.0.0.1:80", "10.0.0.3:80"]);
    }

    #[test]
    fn records_bring_ports_tiers_and_weights() {
        let config =
            config("endpoints = [{ name = \"s\", address = \"srv:_http._tcp.a\", tier = 1, weight = 9 }]");
        let all = vec![
            record(1, 10, 5),
            record(2, 10, 1),
            record(3, 20, 0),
            record(4, 20, 0),
            record(5, 30, 65_535),
            record(6, 30, 0),
            record(7, 40, 0),
            record(8, 40, 5),
        ];
        let members = members(vec![(service("_http._tcp.a"), all)]);
        let (expanded, _) = members.expand(&config);
        let shown: Vec<_> = expanded.pools[0].endpoints.iter().map(|e| (e.tier, e.weight.get())).collect();
        assert_eq!(shown, [(1, 5), (1, 1), (2, 1), (2, 1), (3, 1000), (3, 1), (4, 1), (4, 1000)]);
        assert_eq!(names(&expanded)[0], "s@10.0.0.1:80");
    }

    #[test]
    fn what_was_added_and_removed_at_run_time_lies_over_what_is_written() {
        let config = config("endpoints = [\"10.0.0.1:80\", \"10.0.0.2:80\"]");
        let mut members = Members::default();
        assert!(matches!(members.expand(&config).0, Cow::Borrowed(_)), "nothing is copied for nothing");
        let added = Endpoint { name: place("new").1, ..config.pools[0].endpoints[0].clone() };
        let address = EndpointAddress::parse("10.0.0.3:80").expect("an address");
        members.roster.added.insert(place("new"), Endpoint { address, ..added });
        members.roster.removed.insert(place("10.0.0.1:80"));
        assert_eq!(names(&members.expand(&config).0), ["10.0.0.2:80", "new"]);
    }
}
