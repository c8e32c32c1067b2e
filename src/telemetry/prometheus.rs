//! Metrics as the Prometheus text exposition format 0.0.4: a [`Sink`] that becomes a page.

use std::fmt::{self, Write};

use super::metrics::{ALL, Kind, Metric, Sink, labels_fit};

/// The media type of a page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page in the making: collects series in any order and shows each family in one piece, as the format demands.
#[derive(Debug)]
pub struct Page {
    /// The lines of each metric of [`ALL`].
    families: Vec<String>,
}

impl Default for Page {
    fn default() -> Self {
        Self { families: vec![String::new(); ALL.len()] }
    }
}

impl Page {
    /// The text of the page; families without a series are left out.
    #[must_use]
    pub fn finish(self) -> String {
        let mut page = String::with_capacity(self.families.iter().map(|lines| lines.len() + 200).sum());
        for (metric, lines) in ALL.iter().zip(&self.families).filter(|(_, lines)| !lines.is_empty()) {
            let Metric { name, help, kind, .. } = metric;
            let kind = kind.as_str();
            push(&mut page, format_args!("# HELP {name} "));
            escape(help, false, &mut page);
            push(&mut page, format_args!("\n# TYPE {name} {kind}\n{lines}"));
        }
        page
    }

    fn family(&mut self, metric: &'static Metric, labels: &[(&str, &str)]) -> Option<&mut String> {
        debug_assert!(labels_fit(metric, labels), "{}: wrong labels {labels:?}", metric.name);
        let place = ALL.iter().position(|known| known.name == metric.name);
        debug_assert!(place.is_some(), "{} is not in the table", metric.name);
        self.families.get_mut(place?)
    }
}

impl Sink for Page {
    fn counter(&mut self, metric: &'static Metric, labels: &[(&str, &str)], value: u64) {
        debug_assert_eq!(metric.kind, Kind::Counter, "{}", metric.name);
        if let Some(lines) = self.family(metric, labels) {
            series(lines, metric.name, "", labels, None);
            push(lines, format_args!(" {value}\n"));
        }
    }

    fn gauge(&mut self, metric: &'static Metric, labels: &[(&str, &str)], value: f64) {
        debug_assert_ne!(metric.kind, Kind::Histogram, "{}", metric.name);
        if let Some(lines) = self.family(metric, labels) {
            series(lines, metric.name, "", labels, None);
            push(lines, format_args!(" {}\n", Float(value)));
        }
    }

    fn histogram(
        &mut self,
        metric: &'static Metric,
        labels: &[(&str, &str)],
        bounds_seconds: &[f64],
        counts: &[u64],
        sum_seconds: f64,
    ) {
        debug_assert_eq!(metric.kind, Kind::Histogram, "{}", metric.name);
        debug_assert_eq!(counts.len(), bounds_seconds.len() + 1, "{}", metric.name);
        let Some(lines) = self.family(metric, labels) else { return };
        let mut below = 0;
        for (bound, count) in bounds_seconds.iter().chain(&[f64::INFINITY]).zip(counts) {
            below += count;
            series(lines, metric.name, "_bucket", labels, Some(*bound));
            push(lines, format_args!(" {below}\n"));
        }
        series(lines, metric.name, "_sum", labels, None);
        push(lines, format_args!(" {}\n", Float(sum_seconds)));
        series(lines, metric.name, "_count", labels, None);
        push(lines, format_args!(" {below}\n"));
    }
}

fn series(out: &mut String, name: &str, suffix: &str, labels: &[(&str, &str)], bound: Option<f64>) {
    out.push_str(name);
    out.push_str(suffix);
    if labels.is_empty() && bound.is_none() {
        return;
    }
    out.push('{');
    for (place, (label, value)) in labels.iter().enumerate() {
        out.push_str(if place == 0 { "" } else { "," });
        out.push_str(label);
        out.push_str("=\"");
        escape(value, true, out);
        out.push('"');
    }
    if let Some(bound) = bound {
        out.push_str(if labels.is_empty() { "" } else { "," });
        push(out, format_args!("le=\"{}\"", Float(bound)));
    }
    out.push('}');
}

/// Backslash and line feed are escaped in help texts, quotes in label values too.
fn escape(text: &str, quotes: bool, out: &mut String) {
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            plain => out.push(plain),
        }
    }
}

fn push(out: &mut String, text: fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _infallible = out.write_fmt(text);
}

/// A number as Go's `ParseFloat` reads it, which is what the format refers to.
struct Float(f64);

impl fmt::Display for Float {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == f64::INFINITY {
            f.write_str("+Inf")
        } else if self.0 == f64::NEG_INFINITY {
            f.write_str("-Inf")
        } else {
            write!(f, "{}", self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::{
        CONFIG_GENERATION, LISTENER_ACCEPTED, LISTENER_REQUESTS, PANICS, POOL_REQUEST_DURATION, PROCESS_CPU,
    };

    #[test]
    fn a_family_stays_in_one_piece_when_its_series_come_apart() {
        let mut page = Page::default();
        page.counter(&LISTENER_REQUESTS, &[("listener", "b"), ("class", "2xx")], 7);
        page.counter(&LISTENER_ACCEPTED, &[("listener", "a")], 1);
        page.counter(&LISTENER_REQUESTS, &[("listener", "a"), ("class", "none")], 8);
        page.counter(&PANICS, &[], 0);
        assert_eq!(
            page.finish(),
            "# HELP plimsoll_listener_accepted_total Connections accepted.\n\
             # TYPE plimsoll_listener_accepted_total counter\n\
             plimsoll_listener_accepted_total{listener=\"a\"} 1\n\
             # HELP plimsoll_listener_requests_total Requests (tcp: connections) that ended, by class of the status \
             sent: 1xx to 5xx, or none.\n\
             # TYPE plimsoll_listener_requests_total counter\n\
             plimsoll_listener_requests_total{listener=\"b\",class=\"2xx\"} 7\n\
             plimsoll_listener_requests_total{listener=\"a\",class=\"none\"} 8\n\
             # HELP plimsoll_panics_total Panics, each of which ended one connection.\n\
             # TYPE plimsoll_panics_total counter\n\
             plimsoll_panics_total 0\n"
        );
    }

    #[test]
    fn label_values_are_escaped() {
        let mut page = Page::default();
        page.counter(&LISTENER_ACCEPTED, &[("listener", "a\"b\\c\nd")], 1);
        assert!(page.finish().contains(r#"{listener="a\"b\\c\nd"} 1"#));
    }

    #[test]
    fn buckets_are_cumulative_and_end_with_infinity() {
        let mut page = Page::default();
        page.histogram(&POOL_REQUEST_DURATION, &[("pool", "api")], &[0.005, 1.0], &[3, 0, 2], 12.5);
        let text = page.finish();
        let lines: Vec<_> = text.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "plimsoll_pool_request_duration_seconds_bucket{pool=\"api\",le=\"0.005\"} 3",
                "plimsoll_pool_request_duration_seconds_bucket{pool=\"api\",le=\"1\"} 3",
                "plimsoll_pool_request_duration_seconds_bucket{pool=\"api\",le=\"+Inf\"} 5",
                "plimsoll_pool_request_duration_seconds_sum{pool=\"api\"} 12.5",
                "plimsoll_pool_request_duration_seconds_count{pool=\"api\"} 5",
            ]
        );
    }

    #[test]
    fn gauges_show_fractions_and_infinities() {
        let mut page = Page::default();
        page.gauge(&PROCESS_CPU, &[], 0.25);
        page.gauge(&CONFIG_GENERATION, &[], f64::NEG_INFINITY);
        let text = page.finish();
        assert!(
            text.contains("# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total 0.25\n"),
            "{text}"
        );
        assert!(text.contains("plimsoll_config_generation -Inf\n"), "{text}");
    }
}
