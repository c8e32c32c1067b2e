//! Where each Service is used, and which hosts there are.

use std::collections::{HashMap, HashSet};

use super::annotation::Settings;
use super::annotation::backend::Backend;
use super::host::{Host, Location, Target};
use super::pool::Pools;
use super::service::Wanted;

/// Where a Service is used.
#[derive(Default)]
pub(super) struct Uses<'m> {
    /// Paths whose clients stay with an endpoint.
    pub(super) paths: Vec<String>,
    /// Who says that they do.
    pub(super) sticky: Option<&'m Settings>,
    /// Who named it first, and who did so in the same way.
    pub(super) first: Option<&'m Settings>,
    pub(super) first_alike: Option<&'m Settings>,
}

/// The hosts by their names, and the locations by what they lead to.
#[derive(Debug)]
pub(super) struct Places<'m> {
    hosts: &'m [Host],
    pub(super) names: HashSet<&'m str>,
    pub(super) secured: HashSet<&'m str>,
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

    pub(super) fn of(&self, wanted: &Wanted) -> impl Iterator<Item = (&'m Host, &'m Location)> {
        let places = self.by_service.get(wanted).into_iter().flatten();
        places.filter_map(|(host, at)| {
            let host = self.hosts.get(*host)?;
            Some((host, host.locations.get(*at)?))
        })
    }
}

/// What is spoken with the endpoints of an Ingress at a host.
pub(super) fn backend_of(host: &Host, settings: &Settings) -> Backend {
    host.backend.as_ref().map_or_else(|| settings.backend.clone(), |of| settings.backend.inherit(of))
}
