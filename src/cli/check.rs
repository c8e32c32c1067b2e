//! `plimsoll check`: what a valid configuration amounts to, on one screen, and how soon its probes notice what happens.
//! Finding errors is `config`'s.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value as Json, json};

use crate::config::health::Health;
use crate::config::lints::{ANSWER, Finding, seconds};
use crate::config::listener::{Listener, Protocol};
use crate::config::pool::Pool;
use crate::config::route::Route;
use crate::config::sni::SniRoute;
use crate::config::{Config, Diagnostics};
use crate::model::units::format_duration;
use crate::policy::health::bounds::Bounds;
use crate::route::{PathPattern, Rule};

/// Listeners, routes and pools, one a line, and what was found in them.
pub(super) fn summary(config: &Config, findings: &[Finding]) -> String {
    let mut text = String::new();
    for (title, lines) in [
        ("listeners", config.listeners.iter().map(listener).collect::<Vec<_>>()),
        ("routes", config.routes.iter().map(route).chain(config.sni_routes.iter().map(sni_route)).collect()),
        ("pools", config.pools.iter().map(pool).collect()),
    ] {
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "{title}: {}", lines.len());
        for line in lines {
            let _infallible = writeln!(text, "  {line}");
        }
    }
    let mut explained = "";
    for Finding { lint, what, key, place } in findings {
        let _infallible = writeln!(text, "finding {}: {what}", lint.code);
        if let Some(place) = place {
            let _infallible =
                writeln!(text, "  at {}:{}:{}, {key}", place.file.display(), place.line, place.column);
        }
        // They come in the order of their codes: what holds for all of one is said once.
        if explained != lint.code {
            let _infallible = writeln!(text, "  {}: {}\n  help: {}", lint.name, lint.reason, lint.remedy);
            explained = lint.code;
        }
    }
    text
}

/// A valid configuration for programs.
pub(super) fn json(path: &Path, config: &Config, findings: &[Finding]) -> Json {
    let findings = findings.iter().map(|Finding { lint, what, key, place }| {
        json!({
            "code": lint.code, "name": lint.name, "message": what, "reason": lint.reason, "remedy": lint.remedy, "key": key,
            "file": place.as_ref().map(|place| place.file.display().to_string()),
            "line": place.as_ref().map(|place| place.line),
            "column": place.as_ref().map(|place| place.column),
        })
    });
    json!({
        "valid": true,
        "file": path.display().to_string(),
        "config_hash": format!("{:016x}", config.hash),
        "errors": [],
        "findings": findings.collect::<Vec<_>>(),
    })
}

/// One that is not valid, likewise.
pub(super) fn json_of_errors(path: &Path, errors: &Diagnostics) -> Json {
    let listed = errors.list().iter().map(|error| {
        json!({
            "message": error.message, "help": error.help, "note": error.note, "file": error.file.display().to_string(),
            "line": error.line, "column": error.column,
        })
    });
    json!({
        "valid": false,
        "file": path.display().to_string(),
        "error_count": errors.count(),
        "errors": listed.collect::<Vec<_>>(),
        "findings": [],
    })
}

/// How soon probes notice what happens, at worst.
fn probes(pool: &Pool) -> String {
    let Some(health) = &pool.health else {
        return "no probes: a dead endpoint is noticed by the traffic that fails on it".to_owned();
    };
    let Health { check, settings, .. } = health;
    let bounds = Bounds::new(settings, ANSWER);
    let mut text = format!(
        "probes {} every {}; at worst a refused endpoint is noticed in {}, a silent one in {}, and taken back in {}",
        check.word(),
        format_duration(settings.interval),
        seconds(bounds.refused),
        seconds(bounds.silent),
        seconds(bounds.recovery),
    );
    if pool.exclusive.is_some() {
        // Writing to a string cannot fail.
        let _infallible = write!(text, "; a new leader in {}", seconds(bounds.promotion));
    }
    text
}

fn listener(listener: &Listener) -> String {
    let addresses = join(listener.bind.iter(), ", ");
    match &listener.protocol {
        Protocol::Http => format!("{} http on {addresses}", listener.name),
        Protocol::Tcp { pool: Some(pool) } => format!("{} tcp on {addresses} -> pool {pool}", listener.name),
        Protocol::Tcp { pool: None } => format!("{} tcp on {addresses}, by sni alone", listener.name),
        Protocol::Udp { pool } => format!("{} udp on {addresses} -> pool {pool}", listener.name),
    }
}

fn route(route: &Route) -> String {
    format!("{}: {} -> {}", route.rule.name, conditions(&route.rule), route.action)
}

fn sni_route(route: &SniRoute) -> String {
    let (names, listeners) = (join(route.sni.iter(), " or "), join(route.listeners.iter(), ", "));
    let tls = route.tls.map_or(String::new(), |handling| format!(", {}", handling.word()));
    format!("{}: sni {names} at {listeners} -> pool {}{tls}", route.name, route.pool)
}

/// The host and path of a rule, and how many further conditions it has.
fn conditions(rule: &Rule) -> String {
    let hosts = if rule.hosts.is_empty() { "any host".to_owned() } else { join(rule.hosts.iter(), " or ") };
    let path = match &rule.path {
        PathPattern::Any => "any path".to_owned(),
        PathPattern::Exact(path) => format!("path {path}"),
        PathPattern::Prefix(prefix) => format!("paths below {prefix}"),
        PathPattern::Regex(regex) => format!("paths like {regex}"),
    };
    match rule.condition_count() {
        0 => format!("{hosts}, {path}"),
        1 => format!("{hosts}, {path}, 1 more condition"),
        more => format!("{hosts}, {path}, {more} more conditions"),
    }
}

fn pool(pool: &Pool) -> String {
    let endpoints = pool.endpoints.iter().map(|endpoint| {
        let name = endpoint.name.to_string();
        let address = endpoint.address.to_string();
        if name == address { name } else { format!("{name} at {address}") }
    });
    format!("{} {}: {}\n    {}", pool.name, pool.balance.word(), join(endpoints, ", "), probes(pool))
}

fn join(items: impl Iterator<Item = impl ToString>, separator: &str) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(separator)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::lints::{Machine, findings};

    fn summary(config: &Config) -> String {
        super::summary(config, &findings(config, &Machine::default()))
    }

    #[test]
    fn a_summary_names_everything_once() {
        let config = crate::config::load_text(
            r#"
            [listener.web]
            bind = ["127.0.0.1:8080"]
            [listener.db]
            bind = ["127.0.0.1:5432"]
            protocol = "tcp"
            pool = "databases"
            [[route]]
            name = "api"
            host = "*.example.com"
            path_prefix = "/v1/"
            methods = ["GET"]
            split = [{ pool = "stable", weight = 95 }, { pool = "databases", weight = 5 }]
            [[route]]
            name = "rest"
            respond = { status = 503, body = "back soon" }
            [pool.stable]
            balance = "first"
            endpoints = ["10.0.0.1:80", { name = "b", address = "10.0.0.2:80" }]
            [pool.databases]
            endpoints = ["10.0.0.3:5432"]
            "#,
            Path::new("test.toml"),
            &|_| None,
        );
        let summary = config.map(|config| summary(&config)).unwrap_or_else(|errors| errors.to_string());
        assert_eq!(
            summary,
            "listeners: 2\n  \
               web http on 127.0.0.1:8080\n  \
               db tcp on 127.0.0.1:5432 -> pool databases\n\
             routes: 2\n  \
               api: *.example.com, paths below /v1/, 1 more condition -> split stable (weight 95), databases (weight 5)\n  \
               rest: any host, any path -> respond 503\n\
             pools: 2\n  \
               stable first: 10.0.0.1:80, b at 10.0.0.2:80\n    \
                 no probes: a dead endpoint is noticed by the traffic that fails on it\n  \
               databases least_requests: 10.0.0.3:5432\n    \
                 no probes: a dead endpoint is noticed by the traffic that fails on it\n"
        );
    }

    fn of_pool(keys: &str) -> Option<Config> {
        let text = format!(
            "[listener.l]\nbind = [\"127.0.0.1:1\"]\n[check]\nobjective = \"10s\"\n\
             [pool.p]\nendpoints = [\"10.0.0.1:80\"]\n{keys}\n"
        );
        crate::config::load_text(&text, Path::new("test.toml"), &|_| None).ok()
    }

    #[test]
    fn how_soon_a_dead_endpoint_is_noticed_is_printed_and_held_to_the_objective() {
        // 2.2 s and two fast intervals of 550 ms, three probes after the last good one: answered in 100 ms, or silent
        // for 2.5 s each.
        let config = of_pool("health = {}").expect("it loads");
        let text = summary(&config);
        let probes = "probes http every 2s; at worst a refused endpoint is noticed in 3.7 s, a silent one in 10.9 s, \
                      and taken back in 5.5 s\n";
        assert!(text.contains(probes), "{text}");
        assert!(
            text.contains("finding L001: pool p needs up to 10.9 s to notice a dead endpoint, more than 10s"),
            "{text}"
        );
    }

    #[test]
    fn an_exclusive_pool_says_how_soon_a_promotion_is_seen() {
        let config = of_pool("preset = \"patroni-primary\"").expect("it loads");
        assert!(summary(&config).contains("; a new leader in 1.3 s\n"), "{}", summary(&config));
    }
}
