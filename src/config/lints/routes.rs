//! Lints of the conditions of routes: what no request can meet, and what a redirect does to the requests that it takes.

use ipnet::IpNet;

use super::Found;
use super::scene::Scene;
use crate::config::listener::Listener;
use crate::config::route::{Action, Route};
use crate::model::host::{HostPattern, split_authority};
use crate::route::shadow::hidden;
use crate::route::{PathPattern, Rule, ValuePattern};

pub(super) fn look(scene: &Scene<'_>, found: &mut Found) {
    let routes = &scene.config.routes;
    let rules: Vec<&Rule> = routes.iter().map(|route| &route.rule).collect();
    for (index, by) in hidden(&rules) {
        let (Some(rule), Some(by)) = (rules.get(index), rules.get(by)) else { continue };
        let what =
            format!("route {} is never taken: route {} takes all of its requests before", rule.name, by.name);
        found.route("L022", &rule.name, &[], what);
    }
    for route in routes {
        let name = &route.rule.name;
        if let Some((keys, why)) = contradiction(scene, route) {
            found.route("L022", name, keys, format!("route {name} is never taken: {why}"));
        }
        let posts = || route.rule.methods.iter().any(|method| !["GET", "HEAD"].contains(&method.as_str()));
        if let Action::Redirect { status: status @ (301 | 302), .. } = &route.action
            && posts()
        {
            let what =
                format!("route {name}: clients follow {status} with GET and without the body that they sent");
            found.route("L034", name, &["redirect", "status"], what);
        }
    }
}

/// Conditions of one route that exclude each other, and how.
fn contradiction(scene: &Scene<'_>, route: &Route) -> Option<(&'static [&'static str], String)> {
    let rule = &route.rule;
    if let PathPattern::Regex(regex) = &rule.path
        && let Some(first) = beginning(regex.as_str())
    {
        return Some((
            &["path_regex"],
            format!("every path begins with '/', and {regex} wants one that begins with '{first}'"),
        ));
    }
    let host = rule.headers.iter().find_map(|(name, pattern)| match pattern {
        ValuePattern::Exact(value) if name.matches(b"host") => Some(value),
        _ => None,
    });
    if let Some(host) = host
        && !rule.hosts.is_empty()
        && !rule.hosts.iter().any(|pattern| has(pattern, host))
    {
        return Some((&["headers"], format!("its host is not the {host} that its headers want")));
    }
    let listeners = scene.listeners_of(route);
    let shut = |listener: &&Listener| !rule.source.is_empty() && is_shut(listener, &rule.source);
    let listener = listeners.first().filter(|_| listeners.iter().all(shut))?;
    Some((&["source"], format!("listener {} lets in none of the clients that it is for", listener.name)))
}

/// The letter or digit that whatever a regular expression matches begins with, where that is plain to see.
fn beginning(regex: &str) -> Option<char> {
    let first = regex.strip_prefix('^')?.chars().next().filter(char::is_ascii_alphanumeric)?;
    // Alternatives need not begin alike, and what may be repeated may be missing.
    let second = regex.chars().nth(2);
    (!regex.contains('|') && !second.is_some_and(|c| "?*{".contains(c))).then_some(first)
}

fn has(pattern: &HostPattern, host: &str) -> bool {
    let lower = host.to_ascii_lowercase();
    let bare = split_authority(lower.as_bytes()).map_or(lower.as_bytes(), |(host, _)| host);
    match pattern {
        HostPattern::Exact(own) => own.as_bytes() == bare,
        HostPattern::Wildcard(suffix) => bare.len() > suffix.len() && bare.ends_with(suffix.as_bytes()),
    }
}

/// Whether none of these clients may connect. Behind proxies that name the client it is the proxies that connect.
fn is_shut(listener: &Listener, clients: &[IpNet]) -> bool {
    let overlaps = |one: &IpNet, other: &IpNet| one.contains(other) || other.contains(one);
    let out = |client: &IpNet| {
        listener.deny.iter().any(|network| network.contains(client))
            || (!listener.allow.is_empty() && !listener.allow.iter().any(|network| overlaps(network, client)))
    };
    listener.identity.trusted.is_empty() && clients.iter().all(out)
}
