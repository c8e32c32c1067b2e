//! What of a configuration says who is let in when not all can be.

use super::diagnostic::Report;
use super::value::Fields;
use crate::policy::admission::class::Class;
use crate::policy::admission::{ceiling, shedding};

/// Reads `priority_class` of a route.
pub(super) fn priority_class(route: &Fields) -> Option<Class> {
    Class::ALL.into_iter().find(|class| route.is_word("priority_class", class.word()))
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
