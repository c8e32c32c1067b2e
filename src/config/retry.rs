//! `retry` of a pool or a route, and the lists of failures (`on`, `count`) that ejection and breaker have too.

use std::time::Duration;

use super::tables::RETRY;
use super::value::Fields;
use crate::model::units::ByteSize;
use crate::policy::failure::Counted;
use crate::policy::hedge;

/// Which failures are tried again. `"off"` is one attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// Tries in all, each on a different endpoint.
    pub attempts: u32,
    /// What is tried again.
    pub on: Counted,
    /// Limit of one try, to the response head.
    pub per_try_timeout: Option<Duration>,
    /// No new attempt starts later than this.
    pub within: Duration,
    /// What may be done twice though its method does not say so.
    pub non_idempotent: NonIdempotent,
    /// Request bodies up to here are kept for a repeat.
    pub max_body: ByteSize,
    /// A second try beside one that is slow; nothing is none.
    pub hedge: Option<hedge::Settings>,
    /// How much of the pool's traffic may be retries; nothing is no limit. A route has the one of its pool.
    pub budget: Option<Budget>,
}

/// Whether a request is tried again that may have been acted on and whose method is not idempotent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NonIdempotent {
    /// Never.
    Never,
    /// Where it has an `Idempotency-Key` field.
    WithIdempotencyKey,
    /// Always: the operator says that the application can bear it.
    Always,
}

/// How much of the traffic may be retries (the arithmetic of tower's budget, over 10 s).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    /// Retries per request.
    pub ratio: f64,
    /// So many are always allowed.
    pub minimum_per_second: u32,
}

/// One member of a list of failures (`on`, `count`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailureCause {
    /// The connection could not be made.
    Connect,
    /// Closed before a complete response head.
    Reset,
    /// No response head in time.
    Timeout,
    /// An answer with a status from the first to the second.
    Statuses(u16, u16),
}

impl Retry {
    /// Reads the key `retry` of a pool or a route; nothing when it is neither written nor has a default.
    ///
    /// `exclusive` is of the pool: work that was sent is not tried again there, nor beside.
    pub(super) fn read(fields: &Fields, exclusive: bool) -> Option<Self> {
        let off = fields.is_word("retry", "off");
        let fields = if off { Fields::empty(&RETRY, fields.span) } else { fields.table("retry")? };
        let mut on = counted(&fields.plain_list("on"));
        // Who gives a try a limit of its own wants another to follow.
        let limited = fields.get::<Duration>("per_try_timeout").is_some();
        on.timeout |= limited && !fields.has("on");
        if exclusive {
            on = Counted { connect: on.connect, ..Counted::default() };
        }
        let all = Self {
            attempts: fields.get("attempts")?,
            on,
            per_try_timeout: fields.get("per_try_timeout"),
            within: fields.get("within")?,
            non_idempotent: NonIdempotent::read(&fields)?,
            max_body: fields.get("max_body")?,
            hedge: fields.table("hedge").filter(|_| !exclusive).and_then(|hedge| read_hedge(&hedge)),
            budget: fields.table("budget").and_then(|budget| Budget::read(&budget)),
        };
        if off {
            Some(Self { attempts: 1, on: Counted::default(), max_body: ByteSize(0), ..all })
        } else {
            Some(all)
        }
    }
}

fn read_hedge(fields: &Fields) -> Option<hedge::Settings> {
    Some(hedge::Settings {
        after: fields.get("after")?,
        min_delay: fields.get("min_delay")?,
        max_delay: fields.get("max_delay"),
    })
}

impl NonIdempotent {
    fn read(fields: &Fields) -> Option<Self> {
        if fields.is_word("non_idempotent", "with_idempotency_key") {
            return Some(Self::WithIdempotencyKey);
        }
        Some(if fields.get("non_idempotent")? { Self::Always } else { Self::Never })
    }
}

impl Budget {
    fn read(fields: &Fields) -> Option<Self> {
        Some(Self { ratio: fields.get("ratio")?, minimum_per_second: fields.get("minimum_per_second")? })
    }
}

/// What a list of causes (`on`, `count`) stands for.
pub(super) fn counted(causes: &[FailureCause]) -> Counted {
    let mut on = Counted::default();
    for cause in causes {
        match *cause {
            FailureCause::Connect => on.connect = true,
            FailureCause::Reset => on.reset = true,
            FailureCause::Timeout => on.timeout = true,
            FailureCause::Statuses(first, last) => on.statuses.push((first, last)),
        }
    }
    on.statuses = merged(on.statuses);
    on
}

/// Ranges in order, those that touch made one, so that no status is in two.
pub(super) fn merged(mut ranges: Vec<(u16, u16)>) -> Vec<(u16, u16)> {
    ranges.sort_unstable();
    ranges.dedup_by(|next, kept| {
        let touch = next.0 <= kept.1.saturating_add(1);
        if touch {
            kept.1 = kept.1.max(next.1);
        }
        touch
    });
    ranges
}
