//! Who is let in to pools, as it is told: queues by class, whether they stand, and ceilings that move.

use crate::control::status::{CeilingStatus, OverloadStatus, QueueStatus};
use crate::policy::admission::class::Class;
use crate::runtime::endpoint::{Endpoint, Work};
use crate::runtime::pool::Pool;
use crate::telemetry::metrics::{self as m, Sink};

/// The queue of a pool.
pub(in crate::control) fn queue_status(pool: &Pool) -> QueueStatus {
    let state = pool.live.queue.state();
    QueueStatus {
        waiting: state.waiting.map(|waiting| waiting as u64),
        stands: Class::ALL.into_iter().filter(|class| state.stands[class.index()]).collect(),
        shed: pool.live.counters.sum(|c| &c.queue_shed),
    }
}

/// How much an endpoint may have in flight, where that is bounded.
pub(super) fn ceiling_status(pool: &Pool, endpoint: &Endpoint) -> CeilingStatus {
    let bounded = |most: u32| (most < u32::MAX).then_some(u64::from(most));
    CeilingStatus {
        requests: bounded(pool.ceiling(endpoint, Work::Request)),
        connections: bounded(pool.ceiling(endpoint, Work::Connection)),
    }
}

/// Metrics of a pool's queue and of ceilings that move.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; counts stay far below 2^53")]
pub(super) fn collect(sink: &mut dyn Sink, pool: &Pool) {
    let (name, counters) = (pool.name.as_str(), &pool.live.counters);
    let queue = queue_status(pool);
    sink.counter(&m::POOL_QUEUE_TIMEOUTS, &[("pool", name)], counters.sum(|c| &c.queue_timeouts));
    sink.counter(&m::POOL_QUEUE_FULL, &[("pool", name)], counters.sum(|c| &c.queue_full));
    sink.gauge(&m::POOL_QUEUE_LENGTH, &[("pool", name)], queue.len() as f64);
    for class in Class::ALL {
        let labels = [("pool", name), ("class", class.word())];
        sink.gauge(&m::POOL_QUEUE_WAITING, &labels, queue.waiting[class.index()] as f64);
        if pool.shedding.is_some() {
            let stands = queue.stands.contains(&class);
            sink.gauge(&m::POOL_QUEUE_STANDS, &labels, f64::from(u8::from(stands)));
        }
    }
    if pool.shedding.is_some() {
        sink.counter(&m::POOL_QUEUE_SHED, &[("pool", name)], queue.shed);
    }
    if pool.has_moving_ceilings() {
        for endpoint in &pool.endpoints {
            let labels = [("pool", name), ("endpoint", endpoint.name.as_str())];
            let ceiling = pool.ceiling(endpoint, Work::Request);
            sink.gauge(&m::ENDPOINT_CEILING, &labels, f64::from(ceiling));
        }
    }
}

/// Metrics of what runs short.
pub(super) fn collect_overload(sink: &mut dyn Sink, overload: &OverloadStatus) {
    sink.gauge(&m::OVERLOAD_STAGE, &[], f64::from(overload.state.stage as u8));
    let lag = Some(overload.lag.as_secs_f64());
    for (metric, value) in [
        (&m::OVERLOAD_MEMORY, overload.memory),
        (&m::OVERLOAD_DESCRIPTORS, overload.descriptors),
        (&m::WORKER_LAG, lag),
    ] {
        if let Some(value) = value {
            sink.gauge(metric, &[], value);
        }
    }
}
