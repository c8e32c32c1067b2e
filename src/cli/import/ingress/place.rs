//! Where each Service is used, and which hosts there are.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::annotation::Settings;
use super::annotation::backend::Backend;
use super::host::{Host, Location, Target};
use super::pool::Pools;
use super::service::Wanted;
use super::spec::Ingress;

/// Where a Service is used.
#[derive(Debug, Default)]
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
    by_service: HashMap<Wanted, Vec<Place>>,
    /// What has been found already, by the Service and what is spoken with it.
    found: HashMap<(Wanted, String), Rc<Uses<'m>>>,
}

/// A location, and what is spoken with what it leads to.
#[derive(Debug)]
struct Place {
    host: usize,
    location: usize,
    key: String,
}

impl<'m> Places<'m> {
    pub(super) fn new(hosts: &'m [Host], ingresses: &[Ingress<'_, '_>], pools: &Pools<'_, '_>) -> Self {
        let mut names: HashSet<&str> = HashSet::new();
        let mut by_service: HashMap<Wanted, Vec<Place>> = HashMap::new();
        for (number, host) in hosts.iter().enumerate() {
            names.insert(&host.name);
            names.extend(host.aliases.iter().map(String::as_str));
            for (at, location) in host.locations.iter().enumerate() {
                let own = ingresses.get(location.ingress);
                // What is led elsewhere does not come to the Service.
                if own.is_some_and(|own| own.settings.rewrite.leads_away()) && !location.is_catch_all {
                    continue;
                }
                let key = own.map_or_else(String::new, |own| backend_of(host, &own.settings).key());
                let main = match &location.to {
                    Target::Service(wanted, _) => Some(wanted),
                    Target::Nothing => None,
                };
                let canary = location.canary.as_ref().map(|(_, wanted, _)| wanted);
                for wanted in main.into_iter().chain(canary) {
                    let place = Place { host: number, location: at, key: key.clone() };
                    by_service.entry(pools.by_number(wanted)).or_default().push(place);
                }
            }
        }
        let secured =
            hosts.iter().filter(|host| host.certificate.is_some()).map(|host| host.name.as_str()).collect();
        Self { hosts, names, secured, by_service, found: HashMap::new() }
    }

    /// Where a Service is used.
    pub(super) fn of(&self, wanted: &Wanted) -> impl Iterator<Item = &'m Location> {
        let places = self.by_service.get(wanted).into_iter().flatten();
        places.filter_map(|place| self.hosts.get(place.host)?.locations.get(place.location))
    }

    /// Who uses a Service, and how.
    pub(super) fn uses(
        &mut self,
        wanted: &Wanted,
        key: &str,
        ingresses: &'m [Ingress<'_, '_>],
        pools: &Pools<'_, '_>,
    ) -> Rc<Uses<'m>> {
        if let Some(found) = self.found.get(&(wanted.clone(), key.to_owned())) {
            return Rc::clone(found);
        }
        let mut out = Uses::default();
        let mut paths: HashSet<&str> = HashSet::new();
        for place in self.by_service.get(wanted).into_iter().flatten() {
            let location = self.hosts.get(place.host).and_then(|host| host.locations.get(place.location));
            let Some(location) = location else { continue };
            let own = ingresses.get(location.ingress).map(|ingress| &ingress.settings);
            let canary = location.canary.as_ref().filter(|(_, to, _)| pools.by_number(to) == *wanted);
            // A canary has the cookie of what it is a canary of, unless it says that it has its own.
            let of_canary = canary.and_then(|(at, ..)| ingresses.get(*at)).map(|one| &one.settings);
            let whose = if of_canary.is_some_and(|own| own.affinity.legacy) { of_canary } else { own };
            if whose.is_some_and(|own| own.affinity.sticks()) {
                out.sticky = out.sticky.or(whose);
                if paths.insert(&location.path) {
                    out.paths.push(location.path.clone());
                }
            }
            out.first = out.first.or(own);
            if place.key == key {
                out.first_alike = out.first_alike.or(own);
            }
        }
        let out = Rc::new(out);
        self.found.insert((wanted.clone(), key.to_owned()), Rc::clone(&out));
        out
    }
}

/// What is spoken with the endpoints of an Ingress at a host.
pub(super) fn backend_of(host: &Host, settings: &Settings) -> Backend {
    host.backend.as_ref().map_or_else(|| settings.backend.clone(), |of| settings.backend.inherit(of))
}
