//! Metrics for programs that embed the proxy: a [`Sink`] that publishes to the recorder they installed for the `metrics`
//! facade. The proxy installs none itself.

use metrics::{Key, KeyName, Label, Level, Metadata, SharedString, with_recorder};

use super::metrics::{ALL, Kind, Metric, Sink, labels_fit};

/// Publishes to the recorder of the process. Make one, and feed it at the interval at which the numbers should move.
///
/// A histogram goes out as two series, `NAME_count` and `NAME_sum`: the facade takes single observations, which
/// are not kept.
#[derive(Debug)]
pub struct Recorder(());

impl Recorder {
    /// Describes every metric to the recorder of the process, which must be installed by now.
    #[must_use]
    pub fn new() -> Self {
        with_recorder(|recorder| {
            for metric in ALL {
                let (name, help) =
                    (KeyName::from_const_str(metric.name), SharedString::const_str(metric.help));
                match metric.kind {
                    Kind::Counter => recorder.describe_counter(name, None, help),
                    Kind::Gauge => recorder.describe_gauge(name, None, help),
                    Kind::Histogram => {
                        recorder.describe_counter(
                            format!("{}_count", metric.name).into(),
                            None,
                            help.clone(),
                        );
                        recorder.describe_gauge(format!("{}_sum", metric.name).into(), None, help);
                    }
                }
            }
        });
        Self(())
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl Sink for Recorder {
    fn counter(&mut self, metric: &'static Metric, labels: &[(&str, &str)], value: u64) {
        let key = key(KeyName::from_const_str(metric.name), metric, labels);
        with_recorder(|recorder| recorder.register_counter(&key, &METADATA).absolute(value));
    }

    fn gauge(&mut self, metric: &'static Metric, labels: &[(&str, &str)], value: f64) {
        let key = key(KeyName::from_const_str(metric.name), metric, labels);
        with_recorder(|recorder| recorder.register_gauge(&key, &METADATA).set(value));
    }

    fn histogram(
        &mut self,
        metric: &'static Metric,
        labels: &[(&str, &str)],
        _bounds_seconds: &[f64],
        counts: &[u64],
        sum_seconds: f64,
    ) {
        let count = key(format!("{}_count", metric.name).into(), metric, labels);
        let sum = key(format!("{}_sum", metric.name).into(), metric, labels);
        with_recorder(|recorder| {
            recorder.register_counter(&count, &METADATA).absolute(counts.iter().sum());
            recorder.register_gauge(&sum, &METADATA).set(sum_seconds);
        });
    }
}

static METADATA: Metadata<'static> = Metadata::new("plimsoll", Level::INFO, None);

fn key(name: KeyName, metric: &Metric, labels: &[(&str, &str)]) -> Key {
    debug_assert!(labels_fit(metric, labels), "{}: wrong labels {labels:?}", metric.name);
    // Label names come from the table, so only the values are copied.
    let labels =
        metric.labels.iter().zip(labels).map(|(name, (_, value))| Label::new(*name, (*value).to_owned()));
    Key::from_parts(name, labels.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex, PoisonError};

    use metrics::{Counter, CounterFn, Gauge, GaugeFn, Histogram, Unit};

    use super::*;
    use crate::telemetry::metrics::{LISTENER_ACCEPTED, POOL_QUEUE_LENGTH, POOL_REQUEST_DURATION};

    /// A recorder that keeps the last value of each series as text.
    #[derive(Default, Clone)]
    struct Seen(Arc<Mutex<BTreeMap<String, String>>>);

    struct Series(Seen, String);

    impl Series {
        fn set(&self, value: String) {
            self.0.0.lock().unwrap_or_else(PoisonError::into_inner).insert(self.1.clone(), value);
        }
    }

    impl CounterFn for Series {
        fn increment(&self, _: u64) {
            self.set("increment".to_owned());
        }
        fn absolute(&self, value: u64) {
            self.set(value.to_string());
        }
    }

    impl GaugeFn for Series {
        fn increment(&self, _: f64) {
            self.set("increment".to_owned());
        }
        fn decrement(&self, _: f64) {
            self.set("decrement".to_owned());
        }
        fn set(&self, value: f64) {
            self.set(value.to_string());
        }
    }

    impl Seen {
        fn series(&self, key: &Key) -> Arc<Series> {
            let labels: Vec<_> =
                key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
            Arc::new(Series(self.clone(), format!("{}{{{}}}", key.name(), labels.join(","))))
        }
    }

    impl metrics::Recorder for Seen {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            Counter::from_arc(self.series(key))
        }
        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::from_arc(self.series(key))
        }
        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    #[test]
    fn totals_and_gauges_reach_the_embedders_recorder() {
        let seen = Seen::default();
        metrics::with_local_recorder(&seen, || {
            let mut recorder = Recorder::new();
            for total in [3, 5] {
                recorder.counter(&LISTENER_ACCEPTED, &[("listener", "web")], total);
            }
            recorder.gauge(&POOL_QUEUE_LENGTH, &[("pool", "api")], 2.0);
            recorder.histogram(&POOL_REQUEST_DURATION, &[("pool", "api")], &[1.0], &[4, 1], 0.5);
        });
        let seen = seen.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let want = [
            ("plimsoll_listener_accepted_total{listener=web}", "5"),
            ("plimsoll_pool_queue_length{pool=api}", "2"),
            ("plimsoll_pool_request_duration_seconds_count{pool=api}", "5"),
            ("plimsoll_pool_request_duration_seconds_sum{pool=api}", "0.5"),
        ];
        assert_eq!(seen.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Vec<_>>(), want);
    }
}
