//! `rate_limit` and `concurrency_limit` of a `[[route]]`: how fast requests of one key may come, and how many of them may
//! be under way.

use std::collections::HashMap;
use std::time::Duration;

use super::diagnostic::Report;
use super::source::Span;
use super::value::Fields;
use crate::model::limit_key::{LimitKey, LimitPart};
use crate::model::units::Rate;
use crate::policy::rate_limit::{LIMITS_MAX, RateLimit as Rule};

/// How fast requests of one key may come.
#[derive(Debug, Clone, PartialEq)]
pub struct RateLimit {
    /// Its name; limits of the same name count together.
    pub name: String,
    /// What tells requests apart.
    pub key: LimitKey,
    /// How many in which time.
    pub rate: Rate,
    /// How many may come ahead of that.
    pub burst: u32,
    /// How many of these are not held until they are due; nothing is all.
    pub delay: Option<u32>,
    /// What becomes of those that come too fast.
    pub on_limit: OnLimit,
    /// The status of an answer to them.
    pub status: u16,
    /// Which answers tell of the limit.
    pub headers: Tell,
    /// Keys that are remembered.
    pub size: usize,
}

/// What becomes of requests that come too fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnLimit {
    /// They are refused.
    Reject,
    /// Their connection is closed without an answer.
    Drop,
    /// They are held, then refused.
    Tarpit {
        /// For how long.
        time: Duration,
        /// How many at once; the others are refused.
        max: u32,
    },
    /// They pass, and are counted.
    Count,
}

impl OnLimit {
    /// Its word in a configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Reject => "reject",
            Self::Drop => "drop",
            Self::Tarpit { .. } => "tarpit",
            Self::Count => "count",
        }
    }
}

/// Which answers have `RateLimit` and `RateLimit-Policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tell {
    /// None.
    Off,
    /// Refusals.
    Rejected,
    /// All.
    All,
}

impl Tell {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Off, Self::Rejected, Self::All];

    /// Its word in a configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Rejected => "rejected",
            Self::All => "all",
        }
    }
}

/// How many requests of one key may be under way.
#[derive(Debug, Clone, PartialEq)]
pub struct ConcurrencyLimit {
    /// Its name; limits of the same name count together.
    pub name: String,
    /// What tells requests apart.
    pub key: LimitKey,
    /// How many.
    pub max: u32,
    /// The status of an answer to those beyond.
    pub status: u16,
}

/// The limits of a route.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Limits {
    /// How fast requests may come: all must pass, and one that stops a request leaves the others uncharged.
    pub rates: Vec<RateLimit>,
    /// How many may be under way.
    pub concurrency: Vec<ConcurrencyLimit>,
}

impl Limits {
    /// Reads what a route has of them; nothing when something of it was reported.
    pub(super) fn read(fields: &Fields, route: &str, report: &mut Report) -> Option<Self> {
        let rates = fields.list::<Fields>("rate_limit");
        if let Some((_, span)) = rates.get(LIMITS_MAX) {
            let message = format!("a route has no more than {LIMITS_MAX} rate limits");
            report.error(*span, message, "remove the ones that another one makes needless");
        }
        let rates = each(&rates, route, |fields, name| RateLimit::read(fields, name, report));
        let concurrency = fields.list::<Fields>("concurrency_limit");
        let concurrency =
            each(&concurrency, route, |fields, name| ConcurrencyLimit::read(fields, name, report));
        Some(Self { rates: rates?, concurrency: concurrency? })
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rates.is_empty() && self.concurrency.is_empty()
    }
}

/// Reads every table of a list; one without a name has that of its route, and the number of its place behind it.
fn each<T>(
    written: &[(Fields, Span)],
    route: &str,
    mut read: impl FnMut(&Fields, String) -> Option<T>,
) -> Option<Vec<T>> {
    let name = |place: usize| match place {
        0 => route.to_owned(),
        _ => format!("{route}-{}", place + 1),
    };
    let all = written
        .iter()
        .enumerate()
        .map(|(place, (fields, _))| read(fields, fields.get("name").unwrap_or_else(|| name(place))));
    all.collect::<Vec<_>>().into_iter().collect()
}

impl RateLimit {
    fn read(fields: &Fields, name: String, report: &mut Report) -> Option<Self> {
        fields.require("a rate limit", report);
        let rate = fields.get::<Rate>("rate");
        if let Some(rate) = rate.filter(|rate| rate.count > Rule::COUNT_MAX) {
            let message =
                format!("`rate` cannot be \"{rate}\": no more than {} can be counted", Rule::COUNT_MAX);
            let help = format!("write at most \"{}/s\"", Rule::COUNT_MAX);
            report.error(fields.span_of("rate"), message, help);
        }
        let (burst, delay) = (fields.get("burst")?, fields.get("delay"));
        if let Some(delay) = delay.filter(|delay| *delay > burst) {
            let message = format!("`delay` is {delay}, and no more than {burst} can be ahead");
            let help = format!("write at most delay = {burst}, or leave it out: none is held then");
            report.error(fields.span_of("delay"), message, help);
        }
        let key = read_key(fields, report);
        let on_limit = read_on_limit(fields, report)?;
        let headers = Tell::ALL.into_iter().find(|tell| fields.is_word("headers", tell.word()))?;
        Some(Self {
            name,
            key: key?,
            rate: rate?,
            burst,
            delay,
            on_limit,
            status: fields.get("status")?,
            headers,
            size: fields.get("size")?,
        })
    }
}

fn read_on_limit(fields: &Fields, report: &mut Report) -> Option<OnLimit> {
    let tarpit = OnLimit::Tarpit { time: fields.get("tarpit")?, max: fields.get("tarpit_max")? };
    let all = [OnLimit::Reject, OnLimit::Drop, tarpit, OnLimit::Count];
    let on_limit = all.into_iter().find(|one| fields.is_word("on_limit", one.word()))?;
    let useless: &[&str] = match on_limit {
        OnLimit::Tarpit { .. } => &[],
        OnLimit::Reject => &["tarpit", "tarpit_max"],
        OnLimit::Drop | OnLimit::Count => &["tarpit", "tarpit_max", "status"],
    };
    for field in useless.iter().filter_map(|key| fields.own(key)) {
        let message = format!("`{}` has no use where on_limit = \"{}\"", field.name, on_limit.word());
        let help =
            if field.name == "status" { "remove it" } else { "remove it, or write on_limit = \"tarpit\"" };
        report.error(field.key_span, message, help);
    }
    Some(on_limit)
}

impl ConcurrencyLimit {
    fn read(fields: &Fields, name: String, report: &mut Report) -> Option<Self> {
        fields.require("a concurrency limit", report);
        let key = read_key(fields, report);
        Some(Self { name, key: key?, max: fields.get("max")?, status: fields.get("status")? })
    }
}

fn read_key(fields: &Fields, report: &mut Report) -> Option<LimitKey> {
    let parts = fields.list::<LimitPart>("key");
    let alone = parts.iter().find(|(part, _)| *part == LimitPart::Global).filter(|_| parts.len() > 1);
    if let Some((_, span)) = alone {
        let message = "\"global\" tells no requests apart, and stands beside what does";
        report.error(*span, message, "remove it, or write key = \"global\" alone");
    }
    for (place, (part, span)) in parts.iter().enumerate() {
        if let Some((_, first)) = parts.iter().take(place).find(|(earlier, _)| earlier == part) {
            let message = format!("\"{part}\" is in the key twice");
            report.error_beside(*span, message, ("it is first at", *first), "remove one of the two");
        }
    }
    let parts: Vec<LimitPart> = parts.into_iter().map(|(part, _)| part).collect();
    let prefixes = ["prefix_v4", "prefix_v6"].into_iter().filter_map(|key| fields.own(key));
    for field in prefixes.filter(|_| !parts.is_empty() && !parts.contains(&LimitPart::Source)) {
        let message = format!("`{}` has no use: the key has no \"source\"", field.name);
        report.error(field.key_span, message, "remove it, or add \"source\" to the key");
    }
    let (prefix_v4, prefix_v6) = (fields.get("prefix_v4")?, fields.get("prefix_v6")?);
    (!parts.is_empty()).then_some(LimitKey { parts, prefix_v4, prefix_v6 })
}

/// Limits that have been read, by name.
#[derive(Debug, Default)]
pub(super) struct Shared {
    rates: HashMap<String, (RateLimit, Span)>,
    concurrency: HashMap<String, (ConcurrencyLimit, Span)>,
}

impl Shared {
    /// Reports limits that share a name, and so their counts, and do not count alike.
    pub(super) fn check(&mut self, limits: &Limits, fields: &Fields, report: &mut Report) {
        let help = "write the same, or give one of the two a name of its own";
        for (limit, (_, span)) in limits.rates.iter().zip(fields.list::<Fields>("rate_limit")) {
            let Some((first, at)) = self.rates.get(&limit.name) else {
                self.rates.insert(limit.name.clone(), (limit.clone(), span));
                continue;
            };
            let differs = [
                ("key", first.key != limit.key),
                ("rate", first.rate != limit.rate),
                ("size", first.size != limit.size),
            ];
            for (what, _) in differs.into_iter().filter(|(_, differs)| *differs) {
                let message = format!(
                    "the rate limit `{}` counts with another one, which has another {what}",
                    limit.name
                );
                report.error_beside(span, message, ("the other is at", *at), help);
            }
        }
        for (limit, (_, span)) in limits.concurrency.iter().zip(fields.list::<Fields>("concurrency_limit")) {
            let Some((first, at)) = self.concurrency.get(&limit.name) else {
                self.concurrency.insert(limit.name.clone(), (limit.clone(), span));
                continue;
            };
            if first.key != limit.key {
                let message = format!(
                    "the concurrency limit `{}` counts with another one, which has another key",
                    limit.name
                );
                report.error_beside(span, message, ("the other is at", *at), help);
            }
        }
    }
}
