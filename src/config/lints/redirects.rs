//! Redirects that lead back to where they began: a request that a route redirects is made up, and its redirects are followed
//! through the real tables of routes. What leads to hosts that are not served here is not followed.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};

use super::Found;
use super::scene::Scene;
use crate::config::listener::{Listener, Protocol};
use crate::config::route::{Action, Route};
use crate::model::host::{HostPattern, split_authority};
use crate::model::method::Method;
use crate::model::request::RequestView;
use crate::route::path::normalize;
use crate::route::template::{Escape, Facts};
use crate::route::{PathPattern, Table, ValuePattern};

/// Redirects that are followed; browsers give up after some twenty.
const HOPS_MAX: usize = 10;
/// So many times at the same route is going round and round.
const ROUNDS: usize = 3;
/// Listeners at which the requests of one route are made up.
const LISTENERS_MAX: usize = 2;

pub(super) fn look(scene: &Scene<'_>, found: &mut Found) {
    let routes = &scene.config.routes;
    let redirects = |route: &&Route| matches!(route.action, Action::Redirect { .. });
    let mut walk = Walk { scene, tables: HashMap::new() };
    let mut told: HashSet<usize> = HashSet::new();
    for (at, route) in routes.iter().enumerate().filter(|(_, route)| redirects(route)) {
        if told.contains(&at) {
            continue;
        }
        let Some((begun, chain)) = walk.circle(at, route) else { continue };
        let mut others: Vec<usize> = chain.iter().copied().filter(|other| *other != at).collect();
        others.sort_unstable();
        others.dedup();
        let others =
            others.iter().filter_map(|other| Some(format!("route {}", routes.get(*other)?.rule.name)));
        let others: Vec<String> = others.collect();
        let by =
            if others.is_empty() { String::new() } else { format!(" by way of {}", others.join(" and ")) };
        let what = format!(
            "route {}: {begun} is redirected back to this route{by}, again and again",
            route.rule.name
        );
        found.route("L021", &route.rule.name, &["redirect"], what);
        told.extend(chain);
    }
}

struct Walk<'a> {
    scene: &'a Scene<'a>,
    /// The routes of a listener, by its place, with their places in the configuration.
    tables: HashMap<usize, (Table, Vec<usize>)>,
}

impl<'a> Walk<'a> {
    /// A request that a route redirects and that comes back to it, and the routes that it passes on the way.
    fn circle(&mut self, at: usize, route: &'a Route) -> Option<(String, Vec<usize>)> {
        let listeners = self.scene.config.listeners.iter().enumerate();
        let names = &route.rule.listeners;
        let serves = |one: &Listener| {
            one.protocol == Protocol::Http && (names.is_empty() || names.contains(&one.name))
        };
        let served: Vec<usize> =
            listeners.filter(|(_, one)| serves(one)).map(|(place, _)| place).take(LISTENERS_MAX).collect();
        for place in served {
            for request in samples(route, self.listener(place)?) {
                let begun = request.url();
                if let Some(chain) = self.follow(place, at, request) {
                    return Some((begun, chain));
                }
            }
        }
        None
    }

    /// The routes of the circle that a request which `start` takes at that listener goes round in, where it does.
    fn follow(&mut self, mut place: usize, start: usize, mut request: Sample) -> Option<Vec<usize>> {
        let mut passed: Vec<usize> = Vec::new();
        let mut seen: HashSet<(usize, String, String)> = HashSet::new();
        for _ in 0..HOPS_MAX {
            let at = self.taken(place, &request)?;
            let route = self.scene.config.routes.get(at)?;
            // A route that names no host is no sign that another host is ours.
            if (passed.is_empty() && at != start) || (request.elsewhere && route.rule.hosts.is_empty()) {
                return None;
            }
            if !seen.insert((place, request.authority.clone(), request.target.clone())) {
                return passed.contains(&start).then_some(passed);
            }
            passed.push(at);
            request = request.redirected(self.listener(place)?, route)?;
            place = self.next(place, &request)?;
        }
        // Nothing was asked for twice, as where each round makes the path longer.
        let rounds = passed.iter().filter(|at| **at == start).count();
        (rounds >= ROUNDS).then_some(passed)
    }

    fn listener(&self, place: usize) -> Option<&'a Listener> {
        self.scene.config.listeners.get(place)
    }

    /// The route that a request takes at a listener.
    fn taken(&mut self, place: usize, request: &Sample) -> Option<usize> {
        let name = &self.listener(place)?.name;
        let routes = &self.scene.config.routes;
        let (table, places) = self.tables.entry(place).or_insert_with(|| {
            let serves =
                |route: &&Route| route.rule.listeners.is_empty() || route.rule.listeners.contains(name);
            let own = routes.iter().enumerate().filter(|(_, route)| serves(route));
            let (places, rules) = own.map(|(at, route)| (at, route.rule.clone())).unzip();
            (Table::new(rules), places)
        });
        table.find(request).and_then(|index| places.get(index).copied())
    }

    /// The listener that a redirected client comes to.
    fn next(&self, place: usize, request: &Sample) -> Option<usize> {
        let fits = |listener: &Listener, port: u16| {
            listener.protocol == Protocol::Http
                && listener.tls.is_some() == (request.scheme == "https")
                && listener.bind.iter().filter_map(|address| address.ip()).any(|ip| ip.port() == port)
        };
        if request.stays {
            return Some(place);
        }
        let own = self.listener(place)?;
        let same_scheme = own.tls.is_some() == (request.scheme == "https");
        let port = split_authority(request.authority.as_bytes()).and_then(|(_, port)| port);
        let wanted = port.unwrap_or(if request.scheme == "https" { 443 } else { 80 });
        if fits(own, wanted) {
            return Some(place);
        }
        let other = self.scene.config.listeners.iter().position(|listener| fits(listener, wanted));
        // A port that is not bound here is mapped to the one that the client came by already.
        other.or_else(|| (same_scheme && port.is_none()).then_some(place))
    }
}

/// A request that nobody sent.
#[derive(Debug, Clone)]
struct Sample {
    method: String,
    scheme: &'static str,
    authority: String,
    path: String,
    query: Option<String>,
    target: String,
    fields: Vec<(String, String)>,
    source: IpAddr,
    /// It came by a redirect to another host than before.
    elsewhere: bool,
    /// It came by a redirect that names no host.
    stays: bool,
}

/// Requests that meet the conditions of a route, as far as they can be made up.
fn samples(route: &Route, listener: &Listener) -> Vec<Sample> {
    let rule = &route.rule;
    let exact = |pattern: &ValuePattern| match pattern {
        ValuePattern::Exact(text) => Some(text.clone()),
        ValuePattern::Regex(_) => None,
    };
    let pairs = |all: &[(String, ValuePattern)]| -> Option<Vec<String>> {
        all.iter().map(|(name, value)| Some(format!("{name}={}", exact(value)?))).collect()
    };
    let fields: Option<Vec<(String, String)>> =
        rule.headers.iter().map(|(name, value)| Some((name.as_str().to_owned(), exact(value)?))).collect();
    let (Some(mut fields), Some(query), Some(cookies)) = (fields, pairs(&rule.query), pairs(&rule.cookies))
    else {
        return Vec::new();
    };
    if !cookies.is_empty() {
        fields.push(("cookie".to_owned(), cookies.join("; ")));
    }
    let authority = match rule.hosts.first() {
        None => "host.invalid".to_owned(),
        Some(HostPattern::Exact(host)) => host.to_string(),
        Some(HostPattern::Wildcard(suffix)) => format!("www{suffix}"),
    };
    let query = (!query.is_empty()).then(|| query.join("&"));
    let one = |path: String| Sample {
        method: rule.methods.first().cloned().unwrap_or_else(|| "GET".to_owned()),
        scheme: if listener.tls.is_some() { "https" } else { "http" },
        authority: authority.clone(),
        target: query.as_ref().map_or_else(|| path.clone(), |query| format!("{path}?{query}")),
        path,
        query: query.clone(),
        fields: fields.clone(),
        source: rule.source.first().map_or(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), |network| network.addr()),
        elsewhere: false,
        stays: false,
    };
    paths(&rule.path).into_iter().map(one).collect()
}

fn paths(pattern: &PathPattern) -> Vec<String> {
    match pattern {
        PathPattern::Any => vec!["/".to_owned(), "/x/y".to_owned()],
        PathPattern::Exact(path) => vec![path.clone()],
        PathPattern::Prefix(prefix) => {
            let bare = prefix.strip_suffix('/').unwrap_or(prefix);
            vec![format!("{bare}/"), format!("{bare}/x")]
        }
        PathPattern::Regex(regex) => {
            let literal = regex.as_str().trim_start_matches('^');
            let end = literal.find(|c: char| !(c.is_ascii_alphanumeric() || "/-_~".contains(c)));
            let literal = literal.get(..end.unwrap_or(literal.len())).unwrap_or_default();
            let tries = [
                literal.to_owned(),
                format!("{literal}x"),
                format!("{literal}1"),
                "/".to_owned(),
                "/x/y".to_owned(),
            ];
            tries
                .into_iter()
                .filter(|path| path.starts_with('/') && regex.is_match(path.as_bytes()))
                .take(2)
                .collect()
        }
    }
}

/// Fields that say how the client came, which differ after a redirect.
const OF_THE_WAY: [&str; 4] = ["x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "forwarded"];

impl Sample {
    fn url(&self) -> String {
        let Self { method, scheme, authority, target, .. } = self;
        format!("{method} {scheme}://{authority}{target}")
    }

    /// What the client sends once a route has redirected it; nothing where that cannot be told.
    fn redirected(&self, listener: &Listener, route: &Route) -> Option<Self> {
        let Action::Redirect { to, regex, status } = &route.action else { return None };
        let facts = Facts {
            client_port: None,
            peer: self.source,
            request_id: b"",
            listener: listener.name.as_str(),
            route: route.rule.name.as_str(),
            tls: None,
            pool: None,
            endpoint: None,
            status: None,
            imagined: true,
        };
        let path = normalize(self.path());
        let groups = regex.as_ref().and_then(|regex| regex.captures(&path));
        let mut location = Vec::new();
        to.render(self, &facts, groups.as_ref(), Escape::Url, &mut location);
        let location = String::from_utf8(location).ok()?;
        let location = location.split('#').next().unwrap_or_default();
        let (scheme, authority, target) = match location.split_once("://") {
            Some(("http", rest)) => ("http", Some(rest), ""),
            Some(("https", rest)) => ("https", Some(rest), ""),
            _ if location.starts_with("//") => (self.scheme, location.get(2..), ""),
            _ if location.starts_with('/') => (self.scheme, None, location),
            _ => return None,
        };
        let stays = authority.is_none();
        let (authority, target) = match authority {
            Some(rest) => rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len())),
            None => (self.authority.as_str(), target),
        };
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        let (path, query) =
            target.split_once('?').map_or((target.as_str(), None), |(path, query)| (path, Some(query)));
        let (path, query) = (path.to_owned(), query.map(str::to_owned));
        let mut next =
            Self { scheme, authority: authority.to_owned(), path, query, target, stays, ..self.clone() };
        next.elsewhere = !host_of(&next.authority).eq_ignore_ascii_case(host_of(&self.authority));
        let keeps =
            |(name, _): &(String, String)| !OF_THE_WAY.iter().any(|way| way.eq_ignore_ascii_case(name));
        next.fields.retain(keeps);
        if *status < 307 && next.method != "HEAD" {
            "GET".clone_into(&mut next.method);
        }
        Some(next)
    }
}

fn host_of(authority: &str) -> &str {
    let host = split_authority(authority.as_bytes()).map_or(authority.len(), |(host, _)| host.len());
    authority.get(..host).unwrap_or(authority)
}

impl RequestView for Sample {
    fn method(&self) -> Method {
        Method::from_bytes(self.method.as_bytes())
    }

    fn method_bytes(&self) -> &[u8] {
        self.method.as_bytes()
    }

    fn scheme(&self) -> &str {
        self.scheme
    }

    fn authority(&self) -> &[u8] {
        self.authority.as_bytes()
    }

    fn path(&self) -> &[u8] {
        self.path.as_bytes()
    }

    fn query(&self) -> Option<&[u8]> {
        self.query.as_deref().map(str::as_bytes)
    }

    fn target(&self) -> &[u8] {
        self.target.as_bytes()
    }

    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()))
    }

    fn source(&self) -> IpAddr {
        self.source
    }
}
