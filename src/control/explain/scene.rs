//! The walk of a request that is asked about: its listener, the routes, what its route does, and the pools.

use super::pools::{self, Told};
use super::request::Imagined;
use super::sticky::Belongs;
use super::{Ask, Explanation, Live, RouteSeen, Routes, Wrong, admission, effects, limits, treatment};
use crate::config::Config;
use crate::config::listener::{Listener, Protocol};
use crate::config::route::{Action, Route, SplitBy};
use crate::config::sni::SniRoute;
use crate::model::host::split_authority;
use crate::model::name::PoolName;
use crate::model::request::RequestView as _;
use crate::model::units::Weight;
use crate::policy::admission::overload::Stage;
use crate::proxy::request::spread;
use crate::route::{Candidate, SniTable, Table, Verdict};
use crate::runtime::listener;
use crate::runtime::snapshot;

/// What is asked about, and where.
pub(super) struct Scene<'a> {
    pub(super) config: &'a Config,
    pub(super) live: Option<Live<'a>>,
    pub(super) request: &'a Imagined,
    listener: &'a Listener,
    server_name: Option<&'a str>,
}

/// What becomes of the request that `ask` is about.
pub(super) fn explain(config: &Config, live: Option<Live<'_>>, ask: &Ask) -> Result<Explanation, Wrong> {
    let mut request = Imagined::new(&ask.method, &ask.url, &ask.headers, ask.source)?;
    let listener = find_listener(config, ask.listener.as_deref(), &request)?;
    let mut told = Explanation {
        request: request.describe(),
        listener: listener.name.to_string(),
        generation: live.map(|live| live.snapshot.generation),
        ..Explanation::default()
    };
    let mut stop = live.and_then(|live| overload(live, listener, &mut told.notes));
    if !matches!(listener.protocol, Protocol::Udp { .. }) {
        stop = admission(listener, ask, &mut told.notes).or(stop);
    }
    if listener.protocol == Protocol::Http {
        told.client = request.identify(&listener.identity);
    }
    let scene = Scene { config, live, request: &request, listener, server_name: ask.server_name.as_deref() };
    let end = match &listener.protocol {
        Protocol::Tcp { pool } => scene.tcp(pool.as_ref(), &mut told),
        Protocol::Udp { pool } => {
            told.routes.otherwise = Some(format!("no routes: every session goes to pool {pool}"));
            scene.pool(pool, None, None, &mut told).and_then(|pool| pool.outcome)
        }
        Protocol::Http => scene.http(&mut told),
    };
    told.outcome = stop.or(end).filter(|_| live.is_some());
    Ok(told)
}

/// The listener that was named, or the only one that fits.
fn find_listener<'c>(
    config: &'c Config,
    name: Option<&str>,
    request: &Imagined,
) -> Result<&'c Listener, Wrong> {
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

fn choose(config: &Config, why: &str) -> Wrong {
    let names: Vec<&str> = config.listeners.iter().map(|listener| listener.name.as_str()).collect();
    Wrong(format!("{why}; name one with --listener: {}", names.join(", ")))
}

/// Tells what the process gives up now, and whether the request is part of that.
fn overload(live: Live<'_>, listener: &Listener, notes: &mut Vec<String>) -> Option<String> {
    if live.draining {
        notes.push("the process drains: it takes no new connection".to_owned());
    }
    let stage = live.stage;
    if stage != Stage::Normal {
        notes.push(format!("the process is overloaded now: {}", stage.word()));
    }
    stage.sheds(listener.importance).then(|| match listener.protocol {
        Protocol::Http => "answered with 503: the process is overloaded".to_owned(),
        Protocol::Tcp { .. } | Protocol::Udp { .. } => "closed: the process is overloaded".to_owned(),
    })
}

/// Tells when the client's address would not even get to the routes, and what becomes of its connection.
fn admission(listener: &Listener, ask: &Ask, notes: &mut Vec<String>) -> Option<String> {
    admission::explain_listener(listener, notes);
    let source = ask.source.to_canonical();
    let denied = listener.deny.iter().find(|network| network.contains(&source));
    let allowed = listener.allow.is_empty() || listener.allow.iter().any(|network| network.contains(&source));
    if let Some(network) = denied {
        notes.push(format!("a connection from {source} is closed at once: deny has {network}"));
    } else if !allowed {
        notes.push(format!("a connection from {source} is closed at once: allow does not have it"));
    } else {
        return None;
    }
    Some("closed at once: the listener does not let its source connect".to_owned())
}

impl<'a> Scene<'a> {
    /// The name that TLS asks for.
    pub(super) fn server_name(&self) -> String {
        let host = split_authority(self.request.authority()).map(|(host, _)| host);
        let host = host.map(|host| String::from_utf8_lossy(host).into_owned()).unwrap_or_default();
        let name = self.server_name.map_or(host, str::to_owned).to_ascii_lowercase();
        name.trim_end_matches('.').to_owned()
    }

    fn running(&self) -> Option<(Live<'a>, &'a listener::Listener)> {
        let live = self.live?;
        Some((live, live.snapshot.listeners.iter().find(|own| own.name == self.listener.name)?))
    }

    /// The routes of the listener, and each of them with its verdict.
    fn candidates(&self) -> (Vec<&'a Route>, Vec<Candidate>) {
        if let Some((_, own)) = self.running()
            && let listener::Protocol::Http { table, routes } = &own.protocol
        {
            let routes = routes.iter().filter_map(|&route| self.config.routes.get(route));
            return (routes.collect(), table.explain(self.request));
        }
        let serves = |route: &&Route| {
            route.rule.listeners.is_empty() || route.rule.listeners.contains(&self.listener.name)
        };
        let routes: Vec<&Route> = self.config.routes.iter().filter(serves).collect();
        let table = Table::new(routes.iter().map(|route| route.rule.clone()).collect());
        let candidates = table.explain(self.request);
        (routes, candidates)
    }

    fn http(&self, told: &mut Explanation) -> Option<String> {
        let (routes, candidates) = self.candidates();
        told.routes.heading = "routes in the order in which they are asked".to_owned();
        told.routes.ordered = true;
        let mut taken = None;
        for candidate in &candidates {
            let Some(route) = routes.get(candidate.rule).copied() else { continue };
            let (verdict, why) = match &candidate.verdict {
                Verdict::Taken => {
                    taken = Some(route);
                    ("taken", None)
                }
                Verdict::Lost(why) => ("lost", Some(why.clone())),
                Verdict::NotAsked => ("not asked", Some("it would match too".to_owned())),
            };
            told.routes.all.push(RouteSeen { name: route.rule.name.to_string(), verdict, why });
        }
        let Some(route) = taken else {
            told.routes.otherwise = Some("no route takes the request: the answer is 404".to_owned());
            return Some("answered with 404: no route takes it".to_owned());
        };
        told.route = Some(route.rule.name.to_string());
        let compiled = self.live.and_then(|live| {
            let own = live.snapshot.routes.iter().find(|own| own.name == route.rule.name)?;
            Some((live, own))
        });
        let limits =
            compiled.and_then(|(live, own)| Some((own.limits.as_deref()?, live.snapshot.clock.now())));
        let listener = self.listener.name.as_str();
        told.limits = limits::explain(route, listener, self.request, limits);
        told.effects = effects::explain(listener, route, self.request);
        let stop = effects::stopped(&route.gate, self.request);
        let stop = stop.or_else(|| {
            let limit = told.limits.iter().find(|limit| limit.stops.is_some())?;
            Some(format!("{} by limit {}", limit.stops.as_deref()?, limit.name))
        });
        let login = treatment::lacks_login(&route.treatment, self.request);
        let stop = stop.or_else(|| login.then(|| "answered with 401: it has no login".to_owned()));
        treatment::explain(&route.treatment, (self.request, self.live.is_none()), &mut told.beside);
        let end = self.act(route, compiled.map(|(_, own)| &own.action), told);
        stop.or(end)
    }

    /// By the name that a TLS client asks for.
    fn tcp(&self, own: Option<&PoolName>, told: &mut Explanation) -> Option<String> {
        let routes: Vec<&SniRoute> = self
            .config
            .sni_routes
            .iter()
            .filter(|route| route.listeners.contains(&self.listener.name))
            .collect();
        let to = |pool: &PoolName, told: &mut Explanation| {
            self.pool(pool, None, None, told).and_then(|pool| pool.outcome)
        };
        if let (true, Some(pool)) = (routes.is_empty(), own) {
            told.routes.otherwise = Some(format!("no routes: every connection goes to pool {pool}"));
            return to(pool, told);
        }
        let name = self.server_name();
        let names = routes.iter().flat_map(|route| route.sni.iter().map(move |sni| (sni.clone(), *route)));
        let table = SniTable::new(names);
        let taken = table.find(&name);
        let all = routes.iter().map(|route| {
            let names: Vec<String> = route.sni.iter().map(ToString::to_string).collect();
            let is_taken = taken.is_some_and(|taken| std::ptr::eq(taken, *route));
            let verdict = if is_taken { "taken" } else { "lost" };
            let why = Some(format!("sni: wants {}", names.join(" or ")));
            RouteSeen { name: route.name.to_string(), verdict, why }
        });
        let heading = "routes by sni, the closest name first".to_owned();
        told.routes = Routes { heading, all: all.collect(), ..Routes::default() };
        told.route = taken.map(|route| route.name.to_string());
        match (taken.map(|route| &route.pool), own) {
            (Some(pool), _) => to(pool, told),
            (None, Some(pool)) => {
                told.routes.otherwise =
                    Some(format!("no route takes {name:?}: it comes to the listener's own pool {pool}"));
                to(pool, told)
            }
            (None, None) => {
                told.routes.otherwise = Some(format!("no route takes {name:?}: the connection is reset"));
                Some("reset: no route takes its name".to_owned())
            }
        }
    }

    /// What the route does, and what comes of it.
    fn act(&self, route: &Route, own: Option<&snapshot::Action>, told: &mut Explanation) -> Option<String> {
        told.action = Some(route.action.to_string());
        match &route.action {
            Action::Pool(pool) => self.pool(pool, Some(route), None, told)?.outcome,
            Action::Split { parts, by } => self.split(route, (parts, *by), own, told),
            Action::Redirect { status, .. } => Some(format!("answered with {status}")),
            Action::Respond(respond) => Some(format!("answered with {}", respond.status)),
            Action::Health(pool) => {
                let pool = self.live?.snapshot.pools.iter().find(|own| own.name == *pool)?;
                Some(format!("answered with {}", if pool.is_usable() { 200 } else { 503 }))
            }
        }
    }

    fn split(
        &self,
        route: &Route,
        (parts, by): (&[(PoolName, Weight)], SplitBy),
        own: Option<&snapshot::Action>,
        told: &mut Explanation,
    ) -> Option<String> {
        let sum: u32 = parts.iter().map(|(_, weight)| u32::from(weight.get())).sum();
        let decides = match by {
            SplitBy::Source => "the client's address: the same client gets the same pool",
            SplitBy::Random => "chance",
            SplitBy::Sticky => "where the client belongs already, else by chance",
        };
        told.split.push(format!("decided by {decides}"));
        for (pool, weight) in parts {
            let share = f64::from(weight.get()) * 100.0 / f64::from(sum.max(1));
            told.split.push(format!("{share:.1} % to pool {pool}"));
        }
        let mut claims: Vec<(Belongs, Option<String>)> = Vec::new();
        let mut outcomes = Vec::new();
        for (place, (pool, weight)) in parts.iter().enumerate() {
            if weight.get() == 0 {
                continue;
            }
            let chain = own.and_then(|own| match own {
                snapshot::Action::Split(split) => split.parts.get(place).map(|part| &*part.chain),
                _ => None,
            });
            let Some(told) = self.pool(pool, Some(route), chain, told) else { continue };
            claims.extend(told.belongs.map(|belongs| (belongs, told.outcome.clone())));
            outcomes.push((place, told.outcome));
        }
        match by {
            SplitBy::Source => {
                let chosen = drawn(parts, spread(self.request.source()));
                let (pool, _) = parts.get(chosen)?;
                told.split.push(format!(
                    "the client {} comes to pool {pool}",
                    self.request.source().to_canonical()
                ));
                outcomes.into_iter().find(|(place, _)| *place == chosen)?.1
            }
            // Of equals the first is taken.
            SplitBy::Sticky if !claims.is_empty() => {
                let best = claims.iter().map(|(claim, _)| claim.rank).max();
                let (claim, outcome) = claims.into_iter().find(|(claim, _)| Some(claim.rank) == best)?;
                told.split.push(format!("the client belongs to pool {}, which takes it", claim.by));
                outcome
            }
            SplitBy::Random | SplitBy::Sticky => {
                let ways = outcomes.into_iter().filter_map(|(place, outcome)| {
                    Some(format!("by pool {}: {}", parts.get(place)?.0, outcome?))
                });
                let ways: Vec<String> = ways.collect();
                (!ways.is_empty()).then(|| format!("chance decides; {}", ways.join("; ")))
            }
        }
    }

    /// One pool that may take the request; nothing where there is none, which validation has made sure of.
    fn pool(
        &self,
        name: &PoolName,
        route: Option<&Route>,
        chain: Option<&[usize]>,
        told: &mut Explanation,
    ) -> Option<Told> {
        let pool = self.config.pools.iter().find(|pool| pool.name == *name)?;
        let mut pool = pools::explain(self, pool, route, chain);
        told.pools.push(std::mem::take(&mut pool.seen));
        Some(pool)
    }
}

/// The part of a split that a number falls to.
fn drawn(parts: &[(PoolName, Weight)], number: u64) -> usize {
    let mut sum = 0;
    let parts = parts.iter().enumerate().map(|(place, (_, weight))| {
        sum += u32::from(weight.get());
        snapshot::Part { sum, chain: [place].into() }
    });
    let parts: Vec<snapshot::Part> = parts.collect();
    let split = snapshot::Split { parts, total: sum.max(1), by: snapshot::SplitBy::Source };
    split.choose(number).first().copied().unwrap_or_default()
}
