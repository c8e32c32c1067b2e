//! The keys of `[tracing]`, as data.

use super::super::key::{Given, Key, Kind, Section, Word};
use super::real;
use Given::Default;

pub(super) static TRACING: Section = Section::new(
    "Traces: every request belongs to one, which endpoints are told of.",
    &[
        Key::new(
            "propagate",
            Kind::Choice(&[Word::new("w3c"), Word::new("off")]),
            Default(r#""w3c""#),
            "w3c: traceparent and tracestate (W3C Trace Context) go on to the endpoint, a traceparent that is missing or breaks the \
             rules is made, and records have the trace's number as trace_id. off: they are fields like any other.",
        ),
        Key::new(
            "accept",
            Kind::Choice(&[Word::new("all"), Word::new("trusted")]),
            Default(r#""all""#),
            "Whose traces go on: everybody's, or those of trusted_proxies, while everybody else begins a new one. What has been \
             begun elsewhere is recorded or not as its traceparent says.",
        ),
        Key::new(
            "sample",
            real(0.0, 1.0),
            Default("1.0"),
            "Which share of the traces that begin here has the sampled flag.",
        ),
    ],
);
