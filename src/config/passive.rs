//! `outlier` and `breaker` of a pool, and the keys that say how its tiers and failover pools take turns.

use std::time::Duration;

use super::diagnostic::Report;
use super::retry::counted;
use super::value::Fields;
use crate::model::units::{Amount, format_duration};
use crate::policy::{breaker, exclusive, failover, outlier};

/// nginx's default of `fail_timeout` (`ngx_http_upstream.c`).
const FAIL_TIMEOUT: Duration = Duration::from_secs(10);

/// The default of `stale_for`.
const STALE_FOR: Duration = Duration::from_secs(30);

/// Reads `outlier`; nothing where it is off, which it always is in an exclusive pool.
pub(super) fn outlier(pool: &Fields, exclusive: bool, report: &mut Report) -> Option<outlier::Settings> {
    let fields = pool.table("outlier")?;
    if exclusive {
        if let Some(field) = pool.own("outlier") {
            let message = "an exclusive pool has no ejection: its one endpoint is all there is";
            report.error(field.key_span, message, "remove it; the probe alone says who leads");
        }
        return None;
    }
    let max_fails = max_fails(&fields, report);
    let ejection_time: Duration = fields.get("ejection_time")?;
    let max_ejection_time: Duration = fields.get("max_ejection_time")?;
    if ejection_time > max_ejection_time {
        let span =
            fields.span_of(if fields.has("ejection_time") { "ejection_time" } else { "max_ejection_time" });
        let (first, most) = (format_duration(ejection_time), format_duration(max_ejection_time));
        let message = format!("`ejection_time` ({first}) is longer than `max_ejection_time` ({most})");
        report.error(span, message, format!("write max_ejection_time = \"{first}\" or more"));
    }
    Some(outlier::Settings {
        count: counted(&fields.plain_list("count")),
        consecutive_failures: if max_fails.is_some() { 0 } else { fields.get("consecutive_failures")? },
        failure_ratio: fields.get("failure_ratio").filter(|_| max_fails.is_none()),
        minimum_requests: fields.get("minimum_requests")?,
        window: fields.get("window")?,
        ejection_time,
        max_ejection_time,
        max_ejected: fields.get("max_ejected")?,
        latency: fields.table("latency").and_then(|latency| {
            Some(outlier::Latency {
                factor: latency.get("factor")?,
                minimum_requests: latency.get("minimum_requests")?,
                floor: latency.get("floor")?,
            })
        }),
        max_fails,
    })
}

/// nginx's rule, where it is written and not replaced by ours in a layer above.
fn max_fails(fields: &Fields, report: &mut Report) -> Option<outlier::MaxFails> {
    let ours = fields.own("consecutive_failures").or_else(|| fields.own("failure_ratio"));
    if let (Some(theirs), Some(ours)) = (fields.own("max_fails"), ours) {
        let message = format!("`max_fails` cannot stand beside `{}`, which it takes the place of", ours.name);
        report.error_beside(
            theirs.key_span,
            message,
            ("the other is at", ours.key_span),
            "keep one of the two",
        );
    } else if ours.is_some() {
        return None;
    }
    if let (Some(field), false) = (fields.own("fail_timeout"), fields.has("max_fails")) {
        let help = "add max_fails = 1, or write `window` and `ejection_time` instead";
        report.error(field.key_span, "`fail_timeout` needs `max_fails`", help);
    }
    let fail_timeout = fields.get("fail_timeout").unwrap_or(FAIL_TIMEOUT);
    Some(outlier::MaxFails { max_fails: fields.get("max_fails")?, fail_timeout })
}

/// Reads `breaker`; nothing where there is none.
pub(super) fn breaker(pool: &Fields, report: &mut Report) -> Option<breaker::Settings> {
    let fields = pool.table("breaker")?;
    let failure_ratio = fields.get("failure_ratio");
    let by_ratio_alone = failure_ratio.is_some() && fields.own("failure_threshold").is_none();
    let failure_threshold = if by_ratio_alone && fields.own("failure_ratio").is_some() {
        0
    } else {
        fields.get("failure_threshold")?
    };
    if failure_threshold == 0 && failure_ratio.is_none() {
        let help = "write failure_threshold = 5 or failure_ratio = 0.5, or breaker = \"off\"";
        report.error(fields.span_of("failure_threshold"), "nothing would ever open this breaker", help);
    }
    let pool_scope = fields.is_word("scope", "pool");
    Some(breaker::Settings {
        scope: if pool_scope { breaker::Scope::Pool } else { breaker::Scope::Endpoint },
        count: counted(&fields.plain_list("count")),
        failure_threshold,
        failure_ratio,
        minimum_requests: fields.get("minimum_requests")?,
        success_threshold: fields.get("success_threshold")?,
        window: fields.get("window")?,
        open_time: fields.get("open_time")?,
        half_open_requests: fields.get("half_open_requests")?,
    })
}

/// Reads how tiers and failover pools take turns.
pub(super) fn failover(pool: &Fields, exclusive: bool, report: &mut Report) -> Option<failover::Settings> {
    let failback = if pool.is_word("failback", "manual") {
        failover::Failback::Manual
    } else {
        let fields = pool.table("failback")?;
        failover::Failback::After { after: fields.get("after")?, ramp: fields.get("ramp")? }
    };
    let mut settings = failover::Settings {
        spill: pool.get("spill"),
        failback,
        panic_threshold: pool.get("panic_threshold")?,
        min_available: pool.get("min_available")?,
    };
    if exclusive {
        let written = ["panic_threshold", "min_available", "spill"];
        for field in written.into_iter().filter_map(|name| pool.own(name)) {
            if field.name == "panic_threshold" && settings.panic_threshold == 0.0
                || field.name == "min_available" && settings.min_available == Amount::Count(0)
                || field.name == "spill" && settings.spill.is_none()
            {
                continue;
            }
            let message =
                format!("`{}` has no use in an exclusive pool, where one endpoint serves", field.name);
            report.error(field.key_span, message, "remove it");
        }
        settings = failover::Settings {
            spill: None,
            panic_threshold: 0.0,
            min_available: Amount::Count(0),
            ..settings
        };
    }
    Some(settings)
}

/// Reads the keys of an exclusive pool; nothing where it is none.
pub(super) fn exclusive(pool: &Fields, report: &mut Report) -> Option<exclusive::Settings> {
    if pool.get("exclusive") != Some(true) {
        for field in ["exclusive_rank", "stale_for"].into_iter().filter_map(|name| pool.own(name)) {
            let message = format!("`{}` needs `exclusive = true`", field.name);
            report.error(field.key_span, message, "add exclusive = true, or remove it");
        }
        return None;
    }
    let rank = pool.table("exclusive_rank");
    if let Some(rank) = &rank {
        rank.require("`exclusive_rank`", report);
    }
    Some(exclusive::Settings {
        rank: rank.and_then(|rank| rank.get("json")),
        stale_for: pool.get("stale_for").unwrap_or(STALE_FOR),
    })
}
