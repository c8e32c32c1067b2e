//! `plimsoll explain`, offline: every route that a request meets and why it lost, then the pool, its candidates and the order
//! in which they would be tried.

mod admission;
mod limits;
mod sticky;
mod treatment;

use std::fmt::Write as _;

use super::check::{action, balance};
use super::effects;
use super::request::Imagined;
use super::{ExplainArgs, Failure, plan};
use crate::config::Config;
use crate::config::listener::{Listener, Protocol};
use crate::config::pool::{Balance, Endpoint, Pool};
use crate::config::route::{Action, Route, SplitBy};
use crate::config::sni::SniRoute;
use crate::model::host::split_authority;
use crate::model::name::PoolName;
use crate::model::request::RequestView as _;
use crate::model::units::Weight;
use crate::route::{SniTable, Table, Verdict};

/// The answer as text.
pub(super) fn explain(config: &Config, arguments: &ExplainArgs) -> Result<String, Failure> {
    let mut request = Imagined::new(&arguments.method, &arguments.url, &arguments.headers, arguments.source)?;
    let listener = listener(config, arguments.listener.as_deref(), &request)?;
    let mut text = format!("request: {}\nlistener: {}\n", request.describe(), listener.name);
    match &listener.protocol {
        Protocol::Tcp { pool } => {
            admission(listener, arguments, &mut text);
            explain_tcp(config, listener, pool.as_ref(), &request, &mut text);
        }
        Protocol::Udp { pool } => {
            line(&mut text, format_args!("\nno routes: every session goes to pool {pool}"));
            explain_pool(config, pool, (None, &request), &mut text);
        }
        Protocol::Http => {
            admission(listener, arguments, &mut text);
            if let Some(client) = request.identify(&listener.identity) {
                line(&mut text, format_args!("client: {client}"));
            }
            explain_http(config, listener, &request, &mut text);
        }
    }
    Ok(text)
}

/// The listener that was named, or the only one that fits.
fn listener<'c>(config: &'c Config, name: Option<&str>, request: &Imagined) -> Result<&'c Listener, Failure> {
    if let Some(name) = name {
        let found = config.listeners.iter().find(|listener| listener.name.as_str() == name);
        return found.ok_or_else(|| choose(config, &format!("there is no listener {name:?}")));
    }
    let http: Vec<&Listener> = config.listeners.iter().filter(|l| l.protocol == Protocol::Http).collect();
    let with_port = |listener: &&Listener| {
        listener.bind.iter().any(|bind| bind.ip().map(|bind| bind.port()) == request.port())
    };
    let by_port: Vec<&Listener> = http.iter().copied().filter(with_port).collect();
    match (http.as_slice(), by_port.as_slice()) {
        ([only], _) | (_, [only]) => Ok(only),
        ([], _) => Err(choose(config, "there is no http listener")),
        _ => Err(choose(config, "the URL's port does not tell which listener is meant")),
    }
}

fn choose(config: &Config, why: &str) -> Failure {
    let names: Vec<&str> = config.listeners.iter().map(|listener| listener.name.as_str()).collect();
    Failure::Input(format!("{why}; name one with --listener: {}", names.join(", ")))
}

/// Tells when the client's address would not even get to the routes.
fn admission(listener: &Listener, arguments: &ExplainArgs, text: &mut String) {
    admission::explain_listener(listener, text);
    let source = arguments.source.to_canonical();
    let denied = listener.deny.iter().find(|network| network.contains(&source));
    let allowed = listener.allow.is_empty() || listener.allow.iter().any(|network| network.contains(&source));
    if let Some(network) = denied {
        line(text, format_args!("note: a connection from {source} is closed at once: deny has {network}"));
    } else if !allowed {
        line(
            text,
            format_args!("note: a connection from {source} is closed at once: allow does not have it"),
        );
    }
}

fn explain_http(config: &Config, listener: &Listener, request: &Imagined, text: &mut String) {
    let serves =
        |route: &&Route| route.rule.listeners.is_empty() || route.rule.listeners.contains(&listener.name);
    let routes: Vec<&Route> = config.routes.iter().filter(serves).collect();
    let candidates = Table::new(routes.iter().map(|route| route.rule.clone()).collect()).explain(request);
    line(text, format_args!("\nroutes in the order in which they are asked: {}", candidates.len()));
    let mut taken = None;
    for (place, candidate) in candidates.iter().enumerate() {
        let Some(route) = routes.get(candidate.rule) else { continue };
        let (number, name) = (place + 1, &route.rule.name);
        match &candidate.verdict {
            Verdict::Taken => {
                line(text, format_args!("  {number}. {name}: taken"));
                taken = Some(route);
            }
            Verdict::Lost(why) => line(text, format_args!("  {number}. {name}: lost, {why}")),
            Verdict::NotAsked => {
                line(text, format_args!("  {number}. {name}: not asked, it would match too"))
            }
        }
    }
    match taken {
        Some(route) => {
            limits::explain_limits(route, listener, request, text);
            let effects = effects::explain(listener.name.as_str(), route, request);
            if !effects.is_empty() {
                line(text, format_args!("\nwhat it makes of the request:"));
            }
            effects.iter().for_each(|effect| line(text, format_args!("  {effect}")));
            explain_action(config, route, request, text);
            treatment::explain(&route.treatment, request, text);
        }
        None => line(text, format_args!("\nno route takes the request: the answer is 404")),
    }
}

/// By the name in the URL, which a TLS client would ask for.
fn explain_tcp(
    config: &Config,
    listener: &Listener,
    own: Option<&PoolName>,
    request: &Imagined,
    text: &mut String,
) {
    let routes: Vec<&SniRoute> =
        config.sni_routes.iter().filter(|route| route.listeners.contains(&listener.name)).collect();
    if let (true, Some(pool)) = (routes.is_empty(), own) {
        line(text, format_args!("\nno routes: every connection goes to pool {pool}"));
        return explain_pool(config, pool, (None, request), text);
    }
    let host = split_authority(request.authority()).map(|(host, _)| host.to_ascii_lowercase());
    let name = host.map(|host| String::from_utf8_lossy(&host).into_owned()).unwrap_or_default();
    let names = routes.iter().flat_map(|route| route.sni.iter().map(move |sni| (sni.clone(), *route)));
    let taken = SniTable::new(names).find(name.trim_end_matches('.'));
    line(text, format_args!("\nroutes by sni, the closest name first: {}", routes.len()));
    for route in &routes {
        let names: Vec<String> = route.sni.iter().map(ToString::to_string).collect();
        let verdict = if taken.is_some_and(|taken| std::ptr::eq(taken, *route)) { "taken" } else { "lost" };
        line(text, format_args!("  {}: {verdict}, sni: wants {}", route.name, names.join(" or ")));
    }
    match (taken.map(|route| &route.pool), own) {
        (Some(pool), _) => explain_pool(config, pool, (None, request), text),
        (None, Some(pool)) => {
            line(text, format_args!("\nno route takes {name:?}: it comes to the listener's own pool {pool}"));
            explain_pool(config, pool, (None, request), text);
        }
        (None, None) => line(text, format_args!("\nno route takes {name:?}: the connection is reset")),
    }
}

fn explain_action(config: &Config, route: &Route, request: &Imagined, text: &mut String) {
    line(text, format_args!("\naction: {}", action(&route.action)));
    match &route.action {
        Action::Pool(pool) => explain_pool(config, pool, (Some(route), request), text),
        Action::Split { parts, by } => {
            let sum: u32 = parts.iter().map(|(_, weight)| u32::from(weight.get())).sum();
            line(
                text,
                format_args!(
                    "  decided by {}",
                    match by {
                        SplitBy::Source => "the client's address: the same client gets the same pool",
                        SplitBy::Random => "chance",
                        SplitBy::Sticky => "where the client belongs already, else by chance",
                    }
                ),
            );
            for (pool, weight) in parts {
                let share = f64::from(weight.get()) * 100.0 / f64::from(sum.max(1));
                line(text, format_args!("  {share:.1} % to pool {pool}"));
            }
            if *by == SplitBy::Sticky {
                belongs(config, parts, request, text);
            }
            for (pool, _) in parts.iter().filter(|(_, weight)| weight.get() > 0) {
                explain_pool(config, pool, (Some(route), request), text);
            }
        }
        Action::Redirect { .. } | Action::Respond(_) | Action::Health(_) => {}
    }
}

/// Tells which part of a split a client belongs to.
fn belongs(config: &Config, parts: &[(PoolName, Weight)], request: &Imagined, text: &mut String) {
    let weighted = parts.iter().filter(|(_, weight)| weight.get() > 0);
    let pools = weighted.filter_map(|(name, _)| config.pools.iter().find(|pool| pool.name == *name));
    let claims = pools.filter_map(|pool| sticky::explain(config, pool, request).1);
    if let Some(claim) = claims.max_by_key(|claim| claim.rank) {
        line(text, format_args!("  the client belongs to pool {}, which takes it", claim.pool));
    }
}

fn explain_pool(
    config: &Config,
    name: &PoolName,
    (route, request): (Option<&Route>, &Imagined),
    text: &mut String,
) {
    // Validation has made sure that every pool exists.
    let Some(pool) = config.pools.iter().find(|pool| pool.name == *name) else { return };
    let attempts = route.and_then(|route| route.retry.as_ref()).unwrap_or(&pool.retry).attempts;
    line(text, format_args!("\npool {name}: balance {}, at most {attempts} attempts", balance(pool.balance)));
    for said in sticky::explain(config, pool, request).0 {
        line(text, format_args!("  {said}"));
    }
    line(text, format_args!("  {}", hint(pool.balance)));
    for (place, endpoint) in plan::order(pool).into_iter().enumerate() {
        line(text, format_args!("  {}. {}", place + 1, describe(endpoint)));
    }
    for endpoint in pool.endpoints.iter().filter(|endpoint| endpoint.weight.get() == 0) {
        line(text, format_args!("  never: {}", describe(endpoint)));
    }
    backups(pool, text);
    admission::explain_pool(pool, route, text);
}

/// What the order that follows depends on.
fn hint(balance: Balance) -> &'static str {
    match balance {
        Balance::RoundRobin => {
            "order of tries when all are usable; each next request starts one further by weight:"
        }
        Balance::LeastRequests => {
            "order of tries when all are usable and idle; fewest in flight for its weight goes first:"
        }
        Balance::Random => "one possible order of tries; each pick is the better of two drawn by weight:",
        Balance::PeakEwma => {
            "order of tries when all are usable, idle and equally fast; the soonest answer goes first:"
        }
        Balance::RingHash | Balance::Maglev | Balance::Rendezvous => {
            "one possible order of tries when all are usable; the hash of the request decides:"
        }
        Balance::First => "order of tries when all are usable and have room:",
    }
}

fn describe(endpoint: &Endpoint) -> String {
    let (name, address) = (endpoint.name.as_str(), endpoint.address.to_string());
    let place = if name == address { address } else { format!("{name} at {address}") };
    format!("{place}, tier {}, weight {}", endpoint.tier, endpoint.weight.get())
}

fn backups(pool: &Pool, text: &mut String) {
    let first = pool.endpoints.iter().map(|endpoint| endpoint.tier).min();
    if pool.endpoints.iter().any(|endpoint| Some(endpoint.tier) != first) {
        line(text, format_args!("  a tier is used only while no endpoint of an earlier one is usable"));
    }
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _infallible = writeln!(text, "{arguments}");
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;

    use super::super::{Cli, Command};
    use super::*;

    const CONFIG: &str = r#"
        [listener.web]
        bind = ["127.0.0.1:8080"]
        deny = ["192.0.2.0/24"]
        [listener.other]
        bind = ["127.0.0.1:8081"]
        trusted_proxies = ["10.0.0.0/8"]
        [listener.db]
        bind = ["127.0.0.1:5432"]
        protocol = "tcp"
        pool = "api"
        [listener.secure]
        bind = ["127.0.0.1:5433"]
        protocol = "tcp"
        [[route]]
        name = "databases"
        listeners = ["secure"]
        sni = "*.db.example"
        pool = "new"
        [[route]]
        name = "canary"
        host = "a.example"
        path_prefix = "/v1/"
        headers = { x-canary = "1" }
        split = [{ pool = "api", weight = 3 }, { pool = "new", weight = 1 }]
        [[route]]
        name = "api"
        host = "a.example"
        path_prefix = "/v1/"
        pool = "api"
        retry = { attempts = 2 }
        [[route]]
        name = "elsewhere"
        listeners = ["other"]
        pool = "new"
        [[route]]
        name = "gone"
        path = "/gone"
        redirect = { to = "https://{host}/", status = 308 }
        [pool.api]
        balance = "round_robin"
        endpoints = [
          { address = "10.0.0.9:80", tier = 1 },
          { name = "a", address = "10.0.0.1:80" },
          { name = "b", address = "10.0.0.2:80", weight = 2 },
          { name = "c", address = "10.0.0.3:80", weight = 0 },
        ]
        [pool.new]
        endpoints = ["10.0.1.1:80"]
    "#;

    fn check(words: &[&str]) -> String {
        let config = match crate::config::load_text(CONFIG, Path::new("test.toml"), &|_| None) {
            Ok(config) => config,
            Err(errors) => return errors.to_string(),
        };
        let words = ["plimsoll", "explain"].iter().chain(words);
        match Cli::try_parse_from(words).map(|cli| cli.command) {
            Ok(Command::Explain(arguments)) => {
                explain(&config, &arguments).unwrap_or_else(|failure| failure.to_string())
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_taken_route_is_explained_down_to_its_endpoints() {
        assert_eq!(
            check(&["GET", "http://a.example:8080/v1/x"]),
            "request: GET http://a.example:8080/v1/x from 127.0.0.1\n\
             listener: web\n\n\
             routes in the order in which they are asked: 3\n  \
               1. canary: lost, header x-canary: wants \"1\", is absent\n  \
               2. api: taken\n  \
               3. gone: lost, path: wants \"/gone\", is \"/v1/x\"\n\n\
             action: pool api\n\n\
             pool api: balance round_robin, at most 2 attempts\n  \
               order of tries when all are usable; each next request starts one further by weight:\n  \
               1. b at 10.0.0.2:80, tier 0, weight 2\n  \
               2. a at 10.0.0.1:80, tier 0, weight 1\n  \
               3. 10.0.0.9:80, tier 1, weight 1\n  \
               never: c at 10.0.0.3:80, tier 0, weight 0\n  \
               a tier is used only while no endpoint of an earlier one is usable\n"
        );
    }

    #[test]
    fn splits_redirects_and_misses_say_what_happens() {
        let split = check(&["GET", "http://a.example:8080/v1/x", "-H", "X-Canary: 1"]);
        assert!(split.contains("75.0 % to pool api\n  25.0 % to pool new\n"), "{split}");
        assert!(split.contains("2. api: not asked"), "{split}");
        assert!(split.contains("\npool new: balance least_requests"), "{split}");
        let redirect = check(&["GET", "http://b:8080/gone"]);
        assert!(redirect.ends_with("action: redirect 308 to https://{host}/\n"), "{redirect}");
        let miss = check(&["GET", "http://b:8080/"]);
        assert!(miss.ends_with("no route takes the request: the answer is 404\n"), "{miss}");
    }

    #[test]
    fn the_listener_is_named_or_found_by_port() {
        assert!(check(&["GET", "http://b:8081/"]).contains("listener: other\n"));
        assert!(check(&["GET", "http://b/", "--listener", "other"]).contains("elsewhere: taken"));
        assert!(check(&["GET", "http://b/"]).ends_with("--listener: web, other, db, secure"));
        assert!(check(&["GET", "/", "--listener", "db"]).contains("every connection goes to pool api"));
    }

    #[test]
    fn tls_clients_of_a_tcp_listener_go_by_name() {
        let text = |host: &str| check(&["GET", &format!("https://{host}/"), "--listener", "secure"]);
        let taken = text("X.db.example:5432");
        assert!(taken.contains("routes by sni, the closest name first: 1\n"), "{taken}");
        assert!(taken.contains("  databases: taken, sni: wants *.db.example\n\npool new: "), "{taken}");
        let other = text("db.example");
        assert!(other.contains("  databases: lost, sni: wants *.db.example\n"), "{other}");
        assert!(other.ends_with("no route takes \"db.example\": the connection is reset\n"), "{other}");
    }

    #[test]
    fn whom_a_trusted_peer_names_is_explained_as_the_client() {
        let text = |source: &str, list: &str| {
            let header = format!("X-Forwarded-For: {list}");
            check(&["GET", "http://b:8081/", "--source", source, "-H", &header])
        };
        let named = text("10.0.0.1", "192.0.2.9, 192.0.2.7, 10.0.0.2");
        let why = "\nclient: 192.0.2.7, whom x-forwarded-for names; the peer 10.0.0.1 is trusted to say so\n";
        assert!(named.contains(why), "{named}");
        let unnamed = text("10.0.0.1", "junk");
        assert!(unnamed.contains("client: 10.0.0.1, the trusted peer itself"), "{unnamed}");
        let exhausted = text("10.0.0.1", "10.0.0.2");
        assert!(exhausted.contains("client: 10.0.0.2, the last in x-forwarded-for"), "{exhausted}");
        assert!(!text("192.0.2.1", "192.0.2.9").contains("client: "));
    }

    #[test]
    fn a_client_that_may_not_connect_is_told_so() {
        let text = check(&["GET", "http://b:8080/", "--source", "192.0.2.7"]);
        assert!(
            text.contains("note: a connection from 192.0.2.7 is closed at once: deny has 192.0.2.0/24"),
            "{text}"
        );
    }
}
