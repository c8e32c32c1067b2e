//! What the limits of routes say of themselves.

use super::Named;
use crate::runtime::counters::Counter;
use crate::runtime::route_limits::{ConcurrencyCounters, RateCounters};
use crate::runtime::snapshot::Limits;
use crate::telemetry::metrics::{self as m, Sink};

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
