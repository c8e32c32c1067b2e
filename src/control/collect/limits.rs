//! What the limits of routes say of themselves.

use super::Named;
use crate::control::status::{ConcurrencyStatus, LimitsStatus, RateStatus};
use crate::runtime::counters::Counter;
use crate::runtime::route_limits::{ConcurrencyCounters, ConcurrencyLive, RateCounters, RateLive};
use crate::runtime::snapshot::Limits;
use crate::telemetry::metrics::{self as m, Sink};

/// What is told of them when somebody asks.
pub(super) fn limits_status(limits: &Limits) -> LimitsStatus {
    LimitsStatus {
        rates: limits.rates.iter().map(|live| rate_status(live)).collect(),
        concurrency: limits.concurrency.iter().map(|live| concurrency_status(live)).collect(),
    }
}

fn rate_status(live: &RateLive) -> RateStatus {
    let sum = |counter: fn(&RateCounters) -> &Counter| live.counters.sum(counter);
    RateStatus {
        name: live.name.to_string(),
        key: live.key.to_string(),
        entries: live.table.len(),
        size: live.table.size(),
        evicted: live.table.evicted(),
        held: live.held(),
        passed: sum(|c| &c.passed),
        delayed: sum(|c| &c.delayed),
        rejected: sum(|c| &c.rejected),
        dropped: sum(|c| &c.dropped),
        tarpitted: sum(|c| &c.tarpitted),
        tarpit_full: sum(|c| &c.tarpit_full),
        counted: sum(|c| &c.counted),
        unkeyed: sum(|c| &c.unkeyed),
    }
}

fn concurrency_status(live: &ConcurrencyLive) -> ConcurrencyStatus {
    ConcurrencyStatus {
        name: live.name.to_string(),
        key: live.key.to_string(),
        entries: live.keys(),
        passed: live.counters.sum(|c| &c.passed),
        rejected: live.counters.sum(|c| &c.rejected),
        unkeyed: live.counters.sum(|c| &c.unkeyed),
    }
}

/// Every limit by its name.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; counts stay far below 2^53")]
pub(super) fn collect_route_limits(sink: &mut dyn Sink, limits: &Limits) {
    let results: [Named<RateCounters>; 7] = [
        ("passed", |c| &c.passed),
        ("delayed", |c| &c.delayed),
        ("rejected", |c| &c.rejected),
        ("dropped", |c| &c.dropped),
        ("tarpitted", |c| &c.tarpitted),
        ("counted", |c| &c.counted),
        ("unkeyed", |c| &c.unkeyed),
    ];
    for live in &limits.rates {
        for (result, counter) in results {
            let labels = [("limit", &*live.name), ("result", result)];
            sink.counter(&m::RATE_LIMIT_REQUESTS, &labels, live.counters.sum(counter));
        }
        let labels = [("limit", &*live.name)];
        sink.gauge(&m::RATE_LIMIT_KEYS, &labels, live.table.len() as f64);
        sink.counter(&m::RATE_LIMIT_EVICTED, &labels, live.table.evicted());
        sink.gauge(&m::RATE_LIMIT_HELD, &labels, f64::from(live.held()));
    }
    let results: [Named<ConcurrencyCounters>; 3] =
        [("passed", |c| &c.passed), ("rejected", |c| &c.rejected), ("unkeyed", |c| &c.unkeyed)];
    for live in &limits.concurrency {
        for (result, counter) in results {
            let labels = [("limit", &*live.name), ("result", result)];
            sink.counter(&m::CONCURRENCY_LIMIT_REQUESTS, &labels, live.counters.sum(counter));
        }
        sink.gauge(&m::CONCURRENCY_LIMIT_KEYS, &[("limit", &*live.name)], live.keys() as f64);
    }
    collect_hits(sink, limits);
}

/// How often they were reached, all of them together.
fn collect_hits(sink: &mut dyn Sink, limits: &Limits) {
    let sum = |counter: fn(&RateCounters) -> &Counter| -> u64 {
        limits.rates.iter().map(|live| live.counters.sum(counter)).sum()
    };
    let reached = sum(|c| &c.rejected) + sum(|c| &c.dropped) + sum(|c| &c.tarpitted) + sum(|c| &c.counted);
    let hits = [
        ("rate_limit", reached),
        ("rate_limit_size", limits.rates.iter().map(|live| live.table.evicted()).sum()),
        ("tarpit_max", sum(|c| &c.tarpit_full)),
        ("concurrency_limit", limits.concurrency.iter().map(|l| l.counters.sum(|c| &c.rejected)).sum()),
    ];
    for (limit, hits) in hits {
        sink.counter(&m::LIMIT_HITS, &[("limit", limit)], hits);
    }
}
