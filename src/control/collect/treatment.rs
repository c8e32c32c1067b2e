//! What routes did with requests and answers beside sending them on, as metrics.

use super::Named;
use crate::runtime::counters::Counter;
use crate::runtime::snapshot::Route;
use crate::runtime::treatment::{Treatment, TreatmentCounters};
use crate::telemetry::metrics::{self as m, Metric, Sink};

pub(super) fn collect(sink: &mut dyn Sink, routes: &[Route]) {
    for route in routes {
        let Some(treatment) = &route.treatment else { continue };
        let name = route.name.as_str();
        if let Some(auth) = &treatment.basic_auth {
            let results: [Named<TreatmentCounters>; 4] = [
                ("right", |c| &c.logins.right),
                ("absent", |c| &c.logins.absent),
                ("wrong", |c| &c.logins.wrong),
                ("busy", |c| &c.logins.busy),
            ];
            by_result(sink, &m::ROUTE_LOGINS, name, treatment, &results);
            #[expect(clippy::cast_precision_loss, reason = "a gauge is a float; counts stay far below 2^53")]
            sink.gauge(&m::ROUTE_LOGINS_REMEMBERED, &[("route", name)], auth.checker.remembered() as f64);
        }
        if treatment.forward_auth.is_some() {
            let results: [Named<TreatmentCounters>; 3] = [
                ("passed", |c| &c.asked.passed),
                ("refused", |c| &c.asked.refused),
                ("failed", |c| &c.asked.failed),
            ];
            by_result(sink, &m::ROUTE_ASKED, name, treatment, &results);
        }
        if treatment.mirror.is_some() {
            let results: [Named<TreatmentCounters>; 4] = [
                ("answered", |c| &c.copies.answered),
                ("failed", |c| &c.copies.failed),
                ("dropped", |c| &c.copies.dropped),
                ("too_large", |c| &c.copies.too_large),
            ];
            by_result(sink, &m::ROUTE_COPIES, name, treatment, &results);
            let now = treatment.live.counters.sum(|c| &c.copies.under_way);
            #[expect(clippy::cast_precision_loss, reason = "a gauge is a float; counts stay far below 2^53")]
            sink.gauge(&m::ROUTE_COPIES_NOW, &[("route", name)], now as f64);
        }
        if treatment.buffer_request.is_some() {
            let results: [Named<TreatmentCounters>; 2] =
                [("whole", |c| &c.buffers.request_whole), ("exceeded", |c| &c.buffers.request_exceeded)];
            by_result(sink, &m::ROUTE_BUFFERED, name, treatment, &results);
        }
        if treatment.compress.is_some() {
            let sum = |counter: fn(&TreatmentCounters) -> &Counter| treatment.live.counters.sum(counter);
            let labels = [("route", name)];
            sink.counter(&m::ROUTE_COMPRESSED, &labels, sum(|c| &c.compressed.answers));
            sink.counter(&m::ROUTE_COMPRESSED_IN, &labels, sum(|c| &c.compressed.bytes_in));
            sink.counter(&m::ROUTE_COMPRESSED_OUT, &labels, sum(|c| &c.compressed.bytes_out));
        }
    }
}

fn by_result(
    sink: &mut dyn Sink,
    metric: &'static Metric,
    route: &str,
    treatment: &Treatment,
    results: &[Named<TreatmentCounters>],
) {
    for (result, counter) in results {
        let sum = treatment.live.counters.sum(*counter);
        sink.counter(metric, &[("route", route), ("result", result)], sum);
    }
}
