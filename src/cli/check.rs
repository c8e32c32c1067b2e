//! `plimsoll check`: what a valid configuration amounts to, on one screen. Finding errors is `config`'s.

use std::fmt::Write as _;

use crate::config::Config;
use crate::config::listener::{Listener, Protocol};
use crate::config::pool::{Balance, Pool};
use crate::config::route::{Action, Route};
use crate::route::{PathPattern, Rule};

/// Listeners, routes and pools, one a line.
pub(super) fn summary(config: &Config) -> String {
    let mut text = String::new();
    for (title, lines) in [
        ("listeners", config.listeners.iter().map(listener).collect::<Vec<_>>()),
        ("routes", config.routes.iter().map(route).collect()),
        ("pools", config.pools.iter().map(pool).collect()),
    ] {
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "{title}: {}", lines.len());
        for line in lines {
            let _infallible = writeln!(text, "  {line}");
        }
    }
    text
}

fn listener(listener: &Listener) -> String {
    let addresses = join(listener.bind.iter(), ", ");
    match &listener.protocol {
        Protocol::Http => format!("{} http on {addresses}", listener.name),
        Protocol::Tcp { pool } => format!("{} tcp on {addresses} -> pool {pool}", listener.name),
    }
}

fn route(route: &Route) -> String {
    format!("{}: {} -> {}", route.rule.name, conditions(&route.rule), action(&route.action))
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

/// What a route does, in words.
pub(super) fn action(action: &Action) -> String {
    match action {
        Action::Pool(pool) => format!("pool {pool}"),
        Action::Split { parts, .. } => {
            let parts = parts.iter().map(|(pool, weight)| format!("{pool} (weight {})", weight.get()));
            format!("split {}", join(parts, ", "))
        }
        Action::Redirect { to, status } => format!("redirect {status} to {to}"),
        Action::Respond { status, .. } => format!("respond {status}"),
        Action::Health(pool) => format!("the health of pool {pool}"),
    }
}

fn pool(pool: &Pool) -> String {
    let endpoints = pool.endpoints.iter().map(|endpoint| {
        let name = endpoint.name.to_string();
        let address = endpoint.address.to_string();
        if name == address { name } else { format!("{name} at {address}") }
    });
    format!("{} {}: {}", pool.name, balance(pool.balance), join(endpoints, ", "))
}

/// A balancing policy as the configuration writes it.
pub(super) fn balance(balance: Balance) -> &'static str {
    balance.word()
}

fn join(items: impl Iterator<Item = impl ToString>, separator: &str) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(separator)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

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
               stable first: 10.0.0.1:80, b at 10.0.0.2:80\n  \
               databases least_requests: 10.0.0.3:5432\n"
        );
    }
}
