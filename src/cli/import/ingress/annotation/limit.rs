//! Annotations that limit what one client may do: `limit-rps`, `limit-rpm`, `limit-connections`.

use ipnet::IpNet;

use super::super::super::document::{Table, Value};
use super::super::super::report::{Place, Report};
use super::{Read, Set, as_networks, as_number};

/// What they say.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Limits {
    per_second: Set<u32>,
    per_minute: Set<u32>,
    connections: Set<u32>,
    factor: Set<u32>,
    exempt: Set<Vec<IpNet>>,
    bandwidth: Option<Place>,
}

pub(super) const TABLE: &[(&str, Read)] = &[
    ("limit-rps", |s, w, r| s.limit.per_second = as_number(w, r)),
    ("limit-rpm", |s, w, r| s.limit.per_minute = as_number(w, r)),
    ("limit-connections", |s, w, r| s.limit.connections = as_number(w, r)),
    ("limit-burst-multiplier", |s, w, r| s.limit.factor = as_number(w, r)),
    ("limit-whitelist", |s, w, r| s.limit.exempt = as_networks(w, r).map(|list| (list, w.at))),
    ("limit-allowlist", |s, w, r| s.limit.exempt = as_networks(w, r).map(|list| (list, w.at))),
    ("limit-rate", |s, w, r| {
        if as_number(w, r).is_some_and(|(rate, _)| rate > 0) {
            s.limit.bandwidth = Some(w.at);
            r.not_possible(
                w.at,
                "how fast one answer goes is not limited by route: limits.bandwidth_out of the listener holds for each connection, so a listener of its own could serve these",
            );
        }
    }),
    ("limit-rate-after", |s, w, r| {
        if as_number(w, r).is_some() && s.limit.bandwidth.is_none() {
            r.ignored(w.at, "what is first sent of an answer is not slowed down here anyway");
        }
    }),
];

/// What the burst is of the rate where nothing is said.
const FACTOR: u32 = 5;
/// As much as a limit takes.
const MOST: u32 = 1_000_000;

impl Limits {
    pub(super) fn settle(&self, report: &mut Report) {
        let none = self.is_none();
        for at in
            [self.factor.map(|(_, at)| at), self.exempt.as_ref().map(|(_, at)| *at)].into_iter().flatten()
        {
            if none {
                report.ignored(at, "there is no limit that it would change");
            }
        }
    }

    /// Whether nothing is limited.
    pub(in super::super) fn is_none(&self) -> bool {
        [self.per_second, self.per_minute, self.connections]
            .iter()
            .all(|set| set.is_none_or(|(limit, _)| limit == 0))
    }

    /// Clients that are not limited.
    pub(in super::super) fn exempt(&self) -> Option<&(Vec<IpNet>, Place)> {
        self.exempt.as_ref().filter(|_| !self.is_none())
    }

    /// `rate_limit` and `concurrency_limit` of the routes of an Ingress, which count together.
    pub(in super::super) fn write(&self, name: &str, statuses: (u16, u16), table: &mut Table) {
        let factor = self.factor.map_or(FACTOR, |(factor, _)| factor);
        let mut rates: Vec<(Value, Place)> = Vec::new();
        for (set, word, unit) in [(self.per_second, "rps", "s"), (self.per_minute, "rpm", "m")] {
            let Some((rate, at)) = set.filter(|(rate, _)| *rate > 0) else { continue };
            let rate = rate.min(MOST);
            let value = Value::inline([
                ("name", Value::text(format!("{name}-{word}"))),
                ("rate", Value::text(format!("{rate}/{unit}"))),
                ("burst", Value::Integer(i64::from(rate.saturating_mul(factor).min(MOST)))),
                ("status", Value::Integer(i64::from(statuses.0))),
                ("prefix_v6", Value::Integer(128)),
            ]);
            rates.push((value, at));
        }
        match rates.as_slice() {
            [] => {}
            [(one, at)] => table.set("rate_limit", one.clone(), Some(*at)),
            [(_, at), ..] => {
                let lines = rates.iter().map(|(value, at)| (value.clone(), Some(*at))).collect();
                table.set("rate_limit", Value::Lines(lines), Some(*at));
            }
        }
        if let Some((most, at)) = self.connections.filter(|(most, _)| *most > 0) {
            let value = Value::inline([
                ("name", Value::text(format!("{name}-conn"))),
                ("max", Value::Integer(i64::from(most.min(MOST)))),
                ("status", Value::Integer(i64::from(statuses.1))),
                ("prefix_v6", Value::Integer(128)),
            ]);
            table.set("concurrency_limit", value, Some(at));
        }
    }
}
