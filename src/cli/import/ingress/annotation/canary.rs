//! Annotations that make an Ingress the canary of another one.

use super::super::super::pattern::fault;
use super::super::super::report::{Place, Report};
use super::{Read, Set, Word, as_number, as_truth};

/// What they say.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Canary {
    pub(in super::super) enabled: bool,
    weight: Set<u32>,
    total: Set<u32>,
    pub(in super::super) header: Set<String>,
    pub(in super::super) value: Set<String>,
    pub(in super::super) pattern: Set<String>,
    pub(in super::super) cookie: Set<String>,
    given: Vec<Place>,
}

pub(super) const TABLE: &[(&str, Read)] = &[
    ("canary", |s, w, r| s.canary.enabled = as_truth(w, r) == Some(true)),
    ("canary-weight", |s, w, r| {
        s.canary.given.push(w.at);
        s.canary.weight = as_number(w, r);
    }),
    ("canary-weight-total", |s, w, r| {
        s.canary.given.push(w.at);
        s.canary.total = as_number(w, r);
    }),
    ("canary-by-header", |s, w, r| s.canary.header = s.canary.name(w, r)),
    ("canary-by-header-value", |s, w, _| {
        s.canary.given.push(w.at);
        s.canary.value = Some((w.value.to_owned(), w.at)).filter(|(value, _)| !value.is_empty());
    }),
    ("canary-by-header-pattern", |s, w, _| {
        s.canary.given.push(w.at);
        s.canary.pattern = Some((w.value.to_owned(), w.at));
    }),
    ("canary-by-cookie", |s, w, r| s.canary.cookie = s.canary.name(w, r)),
];

/// As much as a weight can be.
const WEIGHT_MAX: u32 = 1000;

impl Canary {
    fn name(&mut self, word: Word<'_>, report: &mut Report) -> Set<String> {
        self.given.push(word.at);
        if crate::model::field::FieldName::new(&word.value.to_ascii_lowercase()).is_err() {
            report.wrong(word.at, "it is no name of a field or cookie: the controller leaves it out");
            return None;
        }
        Some((word.value.to_owned(), word.at))
    }

    pub(super) fn settle(&mut self, report: &mut Report) {
        if !self.enabled {
            return super::alone(
                &self.given,
                "canary is not true: this is an Ingress like any other",
                report,
            );
        }
        let total = self.total.map_or(100, |(total, _)| total.max(100));
        if let Some((weight, at)) = self.weight
            && weight > total
        {
            report.wrong(at, format!("it is more than {total}, which is all"));
        }
        if self.header.is_none() {
            let rest = [self.value.as_ref(), self.pattern.as_ref()].into_iter().flatten();
            let places: Vec<Place> = rest.map(|(_, at)| *at).collect();
            super::alone(&places, "there is no canary-by-header whose value it would be", report);
            (self.value, self.pattern) = (None, None);
        }
        if let (Some(_), Some((_, at))) = (&self.value, &self.pattern) {
            report.ignored(*at, "canary-by-header-value is there too, and has the word");
            self.pattern = None;
        }
        if let Some((pattern, at)) = &self.pattern
            && let Some(why) = fault(pattern)
        {
            report
                .not_possible(*at, format!("the regular expression is not one that Plimsoll reads ({why})"));
            self.pattern = None;
            self.header = None;
        }
    }

    /// The shares of the canary and of the service that it is a canary of, with where they come from.
    pub(in super::super) fn shares(&self, report: &mut Report) -> Option<(u32, u32, Place)> {
        let (weight, at) = self.weight.filter(|(weight, _)| *weight > 0)?;
        // Less than 100 is not looked at.
        let total = self.total.map_or(100, |(total, _)| total.max(100));
        let (mut weight, mut rest) = (weight.min(total), total.saturating_sub(weight));
        if weight.max(rest) > WEIGHT_MAX {
            let divisor = gcd(weight, rest).max(1);
            (weight, rest) = (weight / divisor, rest / divisor);
        }
        if weight.max(rest) > WEIGHT_MAX {
            let scale = |part: u32| {
                u32::try_from(u64::from(part) * u64::from(WEIGHT_MAX) / u64::from(weight.max(rest)))
                    .unwrap_or(1)
            };
            report.approximated(at, "weights are whole numbers up to 1000: the share is rounded");
            return Some((scale(weight).max(1), scale(rest), at));
        }
        Some((weight, rest, at))
    }
}

const fn gcd(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
