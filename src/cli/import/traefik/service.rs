//! Services: what a router's requests come to in the end, through weights, mirrors and failover.

use std::collections::HashMap;

use super::super::document::Value;
use super::super::report::{Place, Report, Verdict};
use super::balancer::{self, Balancer, Cookie};
use super::fields::Fields;
use super::said::{plain_name, refused};
use super::source::{Element, Parts, own_name};

/// Where requests go.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Target {
    Pool(String),
    /// Several pools with their weights, and what decides.
    Split(Vec<(String, i64)>, Option<&'static str>),
    /// A service of Traefik itself.
    Internal(String),
}

/// What a service comes to.
#[derive(Debug, Clone)]
pub(super) struct Resolved {
    pub(super) target: Target,
    /// A copy of the requests.
    pub(super) mirror: Option<(Value, Place)>,
    /// The Host that servers get, where it is not the request's.
    pub(super) host: Option<(String, Place)>,
    /// The path that goes before that of requests.
    pub(super) base: Option<(String, Place)>,
    /// The least that it takes for a health check to be on all of its servers.
    checked: bool,
    /// Middlewares of the service.
    pub(super) middlewares: Vec<(String, Place)>,
}

/// Why there is nowhere to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lost {
    /// Traefik does not make it, nor a router that leads to it.
    Refused(String),
    /// It cannot be said here.
    Unsaid(String),
}

/// A pool that is to be written.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// The load balancer that it is made of.
    pub(super) service: String,
    /// Pools that take over.
    pub(super) failover: Vec<(String, Place)>,
    /// The failover service that it is made for, with its line.
    pub(super) over: Option<(String, Place)>,
    /// A cookie of a weighted service above.
    pub(super) cookie: Option<Cookie>,
}

/// Pools with their weights.
type Leaves = Vec<(String, i64)>;

/// Services that deep are not followed.
const DEPTH_MAX: usize = 32;
/// A split has no more parts.
const PARTS_MAX: usize = 64;
/// The largest weight.
const WEIGHT_MAX: i64 = 1000;

/// All services, as far as they are used.
pub(super) struct Services<'s, 'p> {
    parts: &'p Parts<'s>,
    part: &'static str,
    done: HashMap<String, Result<Resolved, Lost>>,
    /// Load balancers that have been read.
    pub(super) balancers: HashMap<String, Balancer>,
    /// Pools in the order of their use.
    pub(super) plans: Vec<(String, Plan)>,
    by_name: HashMap<String, usize>,
    under_way: Vec<String>,
}

impl<'s, 'p> Services<'s, 'p> {
    /// The services of `http`, `tcp` or `udp`.
    pub(super) fn new(parts: &'p Parts<'s>, part: &'static str) -> Self {
        Self {
            parts,
            part,
            done: HashMap::new(),
            balancers: HashMap::new(),
            plans: Vec::new(),
            by_name: HashMap::new(),
            under_way: Vec::new(),
        }
    }

    /// Whether they are of HTTP.
    pub(super) fn is_http(&self) -> bool {
        self.part == "http"
    }

    /// Whether a service has been looked at.
    pub(super) fn is_used(&self, name: &str) -> bool {
        self.done.contains_key(name)
    }

    /// What the service of that name comes to.
    pub(super) fn resolve(&mut self, name: &str, report: &mut Report) -> Result<Resolved, Lost> {
        if let Some((own, "internal")) = name.rsplit_once('@') {
            return Ok(Resolved::to(Target::Internal(own.to_owned())));
        }
        let own = own_name(name).map_err(|provider| {
            Lost::Unsaid(format!(
                "{name} is what {provider} says, which is in no file: import what Traefik made of it"
            ))
        })?;
        if let Some(done) = self.done.get(own) {
            return done.clone();
        }
        let Some(element) = self.parts.of(self.part, "services").get(own) else {
            return Err(Lost::Refused(format!("there is no service {name}")));
        };
        if self.under_way.iter().any(|other| other == own) {
            return Err(Lost::Refused(format!("the service {name} leads to itself")));
        }
        if self.under_way.len() >= DEPTH_MAX {
            return Err(Lost::Unsaid(format!("more than {DEPTH_MAX} services lead to one another")));
        }
        self.under_way.push(own.to_owned());
        let mut found = self.read(element, report);
        self.under_way.pop();
        if element.unknown {
            found = Err(Lost::Unsaid(format!("a template makes some of the service {own}")));
        }
        if let Err(Lost::Refused(why)) = &found {
            refused(element.at, element.node, &format!("Traefik does not make it: {why}"), report);
        } else if let Err(Lost::Unsaid(why)) = &found {
            report.not_possible(element.at, why.clone());
            super::said::each_silent(element.node, Verdict::NotPossible, "as its name", report);
        } else {
            report.translated(element.at);
        }
        self.done.insert(own.to_owned(), found.clone());
        found
    }

    fn read(&mut self, element: Element<'s>, report: &mut Report) -> Result<Resolved, Lost> {
        let mut fields = Fields::of(element.at, element.node, report);
        let middlewares = if self.part == "http" { fields.texts("middlewares", report) } else { None };
        let mut kinds: Vec<(&str, Fields<'_>)> = Vec::new();
        let names: &[&'static str] = match self.part {
            "http" => &["loadBalancer", "weighted", "mirroring", "failover", "highestRandomWeight"],
            _ => &["loadBalancer", "weighted"],
        };
        for name in names {
            if let Some(below) = fields.table(name, report) {
                kinds.push((name, below));
            }
        }
        let known = fields.finish(report);
        let mut kinds = kinds.into_iter();
        let (Some((kind, below)), None) = (kinds.next(), kinds.next()) else {
            return Err(Lost::Refused("it is of no kind, or of several".to_owned()));
        };
        report.translated(below.at);
        let mut resolved = match kind {
            "loadBalancer" => self.balancer(element.name, below, report),
            "weighted" => self.weighted(below, false, report),
            "highestRandomWeight" => self.weighted(below, true, report),
            "mirroring" => self.mirroring(below, report),
            _ => self.failover(element.name, below, report),
        }?;
        if !known {
            return Err(Lost::Refused("it has options that Traefik does not know".to_owned()));
        }
        if let Some((list, at)) = middlewares {
            report.translated(at);
            resolved.middlewares = list;
        }
        Ok(resolved)
    }

    fn balancer(&mut self, name: &str, below: Fields<'_>, report: &mut Report) -> Result<Resolved, Lost> {
        let balancer = balancer::read(self.part, below, self.parts, report).map_err(Lost::Refused)?;
        if balancer.servers.is_empty() {
            self.balancers.insert(name.to_owned(), balancer);
            return Err(Lost::Unsaid("it has no servers, and Traefik answers 503".to_owned()));
        }
        let mut resolved = Resolved::to(Target::Pool(self.plan(name, name)));
        resolved.checked = balancer.checked;
        resolved.host = balancer.host.clone();
        resolved.base = balancer.base.clone();
        self.balancers.insert(name.to_owned(), balancer);
        Ok(resolved)
    }

    /// The name of the pool that is made of a load balancer.
    fn plan(&mut self, wanted: &str, service: &str) -> String {
        let mut name = plain_name(wanted);
        if self.part != "http" {
            let taken = |part: &'static str| self.parts.of(part, "services").get(wanted).is_some();
            // A name of several parts is told apart by them.
            if taken("http") || self.part == "udp" && taken("tcp") {
                name = format!("{name}-{}", self.part);
            }
        }
        let same = |plan: &Plan| plan.service == service && plan.failover.is_empty();
        if !self.made(&name).is_some_and(same) {
            while self.by_name.contains_key(&name) {
                name.push('_');
            }
            let plan = Plan { service: service.to_owned(), failover: Vec::new(), over: None, cookie: None };
            self.by_name.insert(name.clone(), self.plans.len());
            self.plans.push((name.clone(), plan));
        }
        name
    }

    fn plan_mut(&mut self, name: &str) -> Option<&mut Plan> {
        let at = self.by_name.get(name)?;
        self.plans.get_mut(*at).map(|(_, plan)| plan)
    }

    /// The plan of that name.
    pub(super) fn made(&self, name: &str) -> Option<&Plan> {
        self.plans.get(*self.by_name.get(name)?).map(|(_, plan)| plan)
    }

    fn weighted(
        &mut self,
        mut below: Fields<'_>,
        by_source: bool,
        report: &mut Report,
    ) -> Result<Resolved, Lost> {
        let sticky = below.table("sticky", report).and_then(|sticky| balancer::cookie(sticky, report));
        let checked = below.table("healthCheck", report);
        if let Some(check) = &checked {
            report.note(
                check.at,
                Verdict::Translated,
                "pools without a usable endpoint get nothing of a split",
            );
        }
        let mut parts: Vec<(Leaves, i64)> = Vec::new();
        let (mut first, mut all_checked, mut any_checked): (Option<Resolved>, _, _) = (None, true, false);
        let opened = below.at;
        let rows = below.tables("services", report);
        if rows.len() > PARTS_MAX {
            return Err(Lost::Unsaid(format!("a split has at most {PARTS_MAX} pools here")));
        }
        for row in rows {
            let (resolved, leaves, weight) = self.part(row, report)?;
            all_checked &= resolved.checked;
            any_checked |= resolved.checked;
            parts.push((leaves, weight));
            let texts = |of: &Resolved| (of.host.clone().map(|h| h.0), of.base.clone().map(|b| b.0));
            match &first {
                None => first = Some(resolved),
                Some(first) if texts(first) == texts(&resolved) => {}
                Some(_) => {
                    return Err(Lost::Unsaid(
                        "its services are asked for different hosts or paths".to_owned(),
                    ));
                }
            }
        }
        let known = below.finish(report);
        if !known {
            return Err(Lost::Refused("it has options that Traefik does not know".to_owned()));
        }
        let split = flatten(&parts);
        if split.iter().all(|(_, weight)| *weight == 0) {
            return Err(Lost::Unsaid("nothing in it has a weight, and Traefik answers 503".to_owned()));
        }
        if checked.is_none() && any_checked {
            report.approximated(opened, "a pool without a usable endpoint gets nothing of a split, as with healthCheck in Traefik; without it Traefik answers 503 for its share");
        }
        if let Some((cookie, at)) = sticky {
            for (pool, _) in &split {
                if let Some(plan) = self.plan_mut(pool) {
                    plan.cookie.get_or_insert_with(|| cookie.clone());
                }
            }
            report.approximated(
                at,
                "a client stays with its endpoint as well, not only with its part of the split; and routes that lead to such a part alone set the cookie too",
            );
        }
        let by = by_source.then_some("source");
        let (host, base) = first.map_or((None, None), |first| (first.host, first.base));
        let checked = checked.is_some() && all_checked;
        Ok(Resolved { host, base, checked, ..Resolved::to(Target::Split(split, by)) })
    }

    /// One service of a weighted one: its pools, and its weight.
    fn part(&mut self, mut row: Fields<'_>, report: &mut Report) -> Result<(Resolved, Leaves, i64), Lost> {
        let name = row.text("name", report);
        let weight = row.number("weight", report);
        let known = row.finish(report);
        let Some((name, at)) = name.filter(|_| known) else {
            return Err(Lost::Refused("one of its services has no name".to_owned()));
        };
        report.translated(at);
        if let Some((_, at)) = weight {
            report.translated(at);
        }
        let resolved = self.resolve(&name, report)?;
        if let Some((_, at)) = &resolved.mirror {
            let remedy = "below a weighted service nothing is mirrored: write `mirror` in a route of its own";
            report.not_possible(*at, remedy);
        }
        if !resolved.middlewares.is_empty() {
            return Err(Lost::Unsaid("services of a split have no middlewares of their own here".to_owned()));
        }
        let leaves = match &resolved.target {
            Target::Pool(pool) => vec![(pool.clone(), 1)],
            Target::Split(parts, _) => parts.clone(),
            Target::Internal(_) => {
                return Err(Lost::Unsaid("a service of Traefik's own has no weight here".to_owned()));
            }
        };
        Ok((resolved, leaves, weight.map_or(1, |(weight, _)| weight.max(0))))
    }

    fn mirroring(&mut self, mut below: Fields<'_>, report: &mut Report) -> Result<Resolved, Lost> {
        let service = below.text("service", report);
        let checked = below.table("healthCheck", report);
        if let Some(check) = &checked {
            report.translated(check.at);
        }
        let body = below.flag("mirrorBody", report);
        let size = below.number("maxBodySize", report);
        for place in [body.map(|(_, at)| at), size.map(|(_, at)| at)].into_iter().flatten() {
            report.translated(place);
        }
        let rows = below.tables("mirrors", report);
        let Some((service, at)) = service else {
            return Err(Lost::Refused("it does not say what it mirrors".to_owned()));
        };
        report.translated(at);
        let mut resolved = self.resolve(&service, report)?;
        let mut mirror: Option<(Value, Place)> = None;
        for mut row in rows {
            let name = row.text("name", report);
            let percent = row.number("percent", report);
            let known = row.finish(report);
            let Some((name, at)) = name.filter(|_| known) else {
                return Err(Lost::Refused("one of its mirrors has no name".to_owned()));
            };
            if let Some((_, at)) = percent {
                report.translated(at);
            }
            let target = match self.resolve(&name, report) {
                Ok(found) => found.target,
                Err(Lost::Refused(why)) => return Err(Lost::Refused(why)),
                Err(Lost::Unsaid(why)) => {
                    report.not_possible(at, why);
                    continue;
                }
            };
            let share = percent.map_or(0, |(percent, _)| percent).clamp(0, 100);
            match target {
                _ if share == 0 => {
                    report.wrong(at, "without a percent nothing is mirrored");
                }
                Target::Pool(pool) if mirror.is_none() => {
                    let value = mirror_value(
                        &pool,
                        share,
                        body.is_none_or(|(yes, _)| yes),
                        size.map(|(n, _)| n),
                        at,
                        report,
                    );
                    mirror = Some((value, at));
                }
                _ => report.not_possible(at, "a route mirrors to one pool"),
            }
        }
        if !below.finish(report) {
            return Err(Lost::Refused("it has options that Traefik does not know".to_owned()));
        }
        resolved.mirror = mirror;
        Ok(resolved)
    }

    fn failover(&mut self, name: &str, mut below: Fields<'_>, report: &mut Report) -> Result<Resolved, Lost> {
        let opened = below.at;
        let (service, fallback) = (below.text("service", report), below.text("fallback", report));
        let checked = below.table("healthCheck", report);
        if let Some(check) = &checked {
            report.translated(check.at);
        }
        if let Some(mut errors) = below.table("errors", report) {
            let at = errors.at;
            let remedy = "answers do not lead elsewhere: `retry` in the pool, with statuses in `on`, tries another endpoint";
            errors.each(Verdict::NotPossible, &["status", "maxRequestBodyBytes"], remedy, report);
            errors.finish(report);
            report.not_possible(at, remedy);
        }
        let known = below.finish(report);
        let (Some((service, at)), Some((fallback, other)), true) = (service, fallback, known) else {
            return Err(Lost::Refused("it has a service and a fallback".to_owned()));
        };
        let first = self.resolve(&service, report)?;
        let second = self.resolve(&fallback, report)?;
        report.translated(at);
        report.translated(other);
        if !first.checked {
            return Err(Lost::Refused(format!("{service} has no health check")));
        }
        let mut others = Vec::new();
        let leaves = match &second.target {
            Target::Pool(pool) => vec![pool.clone()],
            Target::Split(parts, _) => {
                report.approximated(other, "one pool after the other takes over, not all of them by weight");
                parts.iter().map(|(pool, _)| pool.clone()).collect()
            }
            Target::Internal(_) => {
                return Err(Lost::Unsaid("a service of Traefik's own takes nothing over here".to_owned()));
            }
        };
        for pool in leaves {
            let next = self.plan_mut(&pool).map(|plan| plan.failover.clone()).unwrap_or_default();
            others.push((pool, other));
            others.extend(next);
        }
        let checked = checked.is_some() && second.checked;
        let target = match first.target {
            Target::Pool(pool) => Target::Pool(self.over(name, &pool, opened, &others)),
            Target::Split(parts, by) => {
                report.approximated(at, "each pool of the split fails over for itself");
                let parts = parts.into_iter().map(|(pool, weight)| {
                    (self.over(&format!("{name}-{pool}"), &pool, opened, &others), weight)
                });
                Target::Split(parts.collect(), by)
            }
            Target::Internal(_) => {
                return Err(Lost::Unsaid("a service of Traefik's own is not failed over here".to_owned()));
            }
        };
        Ok(Resolved { target, checked, ..first })
    }

    /// A pool like another one, with pools that take over.
    fn over(&mut self, name: &str, pool: &str, at: Place, others: &[(String, Place)]) -> String {
        let Some(plan) = self.plan_mut(pool).cloned() else { return pool.to_owned() };
        let own = self.plan(name, &plan.service);
        if let Some(made) = self.plan_mut(&own) {
            made.over = Some((name.to_owned(), at));
            made.failover.clone_from(&plan.failover);
            for (other, at) in others {
                if *other != own && !made.failover.iter().any(|(known, _)| known == other) {
                    made.failover.push((other.clone(), *at));
                }
            }
        }
        own
    }
}

impl Resolved {
    const fn to(target: Target) -> Self {
        Self { target, mirror: None, host: None, base: None, checked: false, middlewares: Vec::new() }
    }
}

fn mirror_value(
    pool: &str,
    share: i64,
    body: bool,
    size: Option<i64>,
    at: Place,
    report: &mut Report,
) -> Value {
    let mut pairs = vec![("pool", Value::text(pool))];
    if share < 100 {
        pairs.push(("share", Value::text(format!("{share}%"))));
    }
    match (body, size) {
        (false, _) => {
            report.approximated(
                at,
                "copies have their bodies; requests with one of more than max_body are left out",
            );
        }
        (true, Some(size)) if size >= 0 => {
            pairs.push(("max_body", Value::text(super::said::size(size.min(16 << 20)))));
        }
        (true, _) => {
            report.approximated(
                at,
                "requests with a body of more than max_body (64KiB) are left out: Traefik copies all",
            );
        }
    }
    Value::inline(pairs)
}

/// One split of parts that may be splits.
fn flatten(parts: &[(Leaves, i64)]) -> Leaves {
    let plain = parts.iter().all(|(leaves, _)| leaves.len() == 1);
    let mut shares: Vec<(String, f64)> = Vec::new();
    for (leaves, weight) in parts {
        let all: i64 = leaves.iter().map(|(_, weight)| *weight).sum();
        for (pool, own) in leaves {
            let share = as_real(*weight) * if plain { 1.0 } else { as_real(*own) / as_real(all.max(1)) };
            match shares.iter_mut().find(|(other, _)| other == pool) {
                Some((_, sum)) => *sum += share,
                None => shares.push((pool.clone(), share)),
            }
        }
    }
    let most = shares.iter().map(|(_, share)| *share).fold(0.0, f64::max);
    let whole = |share: f64| (share - share.round()).abs() < 1e-9;
    let mut factor = 1.0;
    // The least factor that makes whole numbers of all.
    for candidate in 1..=100 {
        let candidate = f64::from(candidate);
        if shares.iter().all(|(_, share)| whole(share * candidate)) {
            factor = candidate;
            break;
        }
    }
    if most * factor > as_real(WEIGHT_MAX) || !shares.iter().all(|(_, share)| whole(share * factor)) {
        factor = as_real(WEIGHT_MAX) / most.max(1.0);
    }
    let weight = |share: f64| {
        if share <= 0.0 {
            return 0;
        }
        #[expect(clippy::cast_possible_truncation, reason = "it is within bounds")]
        let weight = (share * factor).round().clamp(1.0, 1000.0) as i64;
        weight
    };
    shares.into_iter().map(|(pool, share)| (pool, weight(share))).collect()
}

#[expect(clippy::cast_precision_loss, reason = "weights are small")]
const fn as_real(number: i64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_of_splits_are_one() {
        let one = |name: &str, weight| (vec![(name.to_owned(), 1)], weight);
        let two = |a: &str, b: &str, weight| (vec![(a.to_owned(), 1), (b.to_owned(), 3)], weight);
        let of = |list: &[(&str, i64)]| list.iter().map(|(n, w)| ((*n).to_owned(), *w)).collect::<Vec<_>>();
        assert_eq!(flatten(&[one("a", 9), one("b", 1)]), of(&[("a", 9), ("b", 1)]));
        assert_eq!(flatten(&[one("a", 100), one("b", 0)]), of(&[("a", 100), ("b", 0)]));
        assert_eq!(flatten(&[two("a", "b", 1), one("c", 1)]), of(&[("a", 1), ("b", 3), ("c", 4)]));
        assert_eq!(flatten(&[one("a", 100_000), one("b", 1)]), of(&[("a", 1000), ("b", 1)]));
    }
}
