//! What of a configuration says who is let in when not all can be.

use super::diagnostic::Report;
use super::value::Fields;
use crate::policy::admission::class::Class;
use crate::policy::admission::overload::{self, Importance};
use crate::policy::admission::{ceiling, gradient, shedding};

/// Reads `priority_class` of a route.
pub(super) fn priority_class(route: &Fields) -> Option<Class> {
    Class::ALL.into_iter().find(|class| route.is_word("priority_class", class.word()))
}

/// Reads `class` of a listener.
pub(super) fn importance(listener: &Fields) -> Option<Importance> {
    Importance::ALL.into_iter().find(|importance| listener.is_word("class", importance.word()))
}

/// Reads `overload` of the process; nothing where it is off.
pub(super) fn overload(process: &Fields) -> Option<overload::Settings> {
    let fields = process.table("overload")?;
    Some(overload::Settings {
        memory: fields.get("memory"),
        descriptors: fields.get("descriptors"),
        lag: fields.get("lag"),
        hold: fields.get("hold")?,
    })
}

/// Reads how the ceilings of a pool's endpoints rise with its load; nothing where they stay where they are.
pub(super) fn rising(limits: &Fields, report: &mut Report) -> Option<ceiling::Rising> {
    match (limits.get("min_requests"), limits.get("full_load")) {
        (Some(min), Some(full_load)) => {
            let max: u32 = limits.get("max_requests")?;
            if min > max {
                let message = format!("`min_requests` ({min}) is above `max_requests` ({max})");
                report.error(limits.span_of("min_requests"), message, format!("write {max} or less"));
            }
            Some(ceiling::Rising { min, full_load })
        }
        (None, None) => None,
        (min, _) => {
            let (key, other) =
                if min.is_some() { ("min_requests", "full_load") } else { ("full_load", "min_requests") };
            let help = format!("add {other}, or remove {key}");
            report.error(limits.span_of(key), format!("`{key}` has no use without `{other}`"), help);
            None
        }
    }
}

/// Reads how the ceilings of a pool's endpoints are found out; nothing where they are not.
pub(super) fn adaptive(limits: &Fields, report: &mut Report) -> Option<gradient::Settings> {
    let fields = limits.table("adaptive")?;
    let (min, max): (u32, u32) = (fields.get("min")?, limits.get("max_requests")?);
    if min > max {
        let message = format!("`adaptive.min` ({min}) is above `max_requests` ({max})");
        report.error(fields.span_of("min"), message, format!("write {max} or less"));
    }
    if let (Some(rising), Some(adaptive)) = (limits.own("min_requests"), limits.own("adaptive")) {
        let message = "`adaptive` cannot stand beside `min_requests`: both say what the ceiling is";
        let help = "keep one of the two";
        report.error_beside(adaptive.key_span, message, ("the other is at", rising.key_span), help);
    }
    Some(gradient::Settings {
        min,
        baseline_every: fields.get("baseline_every")?,
        headroom: fields.get("headroom")?,
    })
}

/// Reads when a pool's queue sheds; nothing where it never does.
pub(super) fn shedding(limits: &Fields, report: &mut Report) -> Option<shedding::Settings> {
    let Some(target) = limits.get("queue_target") else {
        for key in ["queue_interval", "queue_newest_first"] {
            if let Some(field) = limits.own(key).filter(|_| !limits.has("queue_target")) {
                let message = format!("`{key}` has no use without `queue_target`");
                report.error(field.key_span, message, "remove it, or write queue_target = \"50ms\"");
            }
        }
        return None;
    };
    Some(shedding::Settings {
        target,
        interval: limits.get("queue_interval")?,
        newest_first: limits.get("queue_newest_first")?,
    })
}
