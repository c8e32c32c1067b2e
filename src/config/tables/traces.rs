//! The keys of `[tracing]`, as data.

use super::super::form::Form;
use super::super::key::{Given, Key, Kind, Section, Word};
use super::{number, real};
use Given::{Default, Optional};

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
        Key::new(
            "otlp",
            Kind::Text(Form::Some),
            Optional(r#""http://127.0.0.1:4318""#),
            "Where the spans of recorded requests go, one each and a child per attempt, by OTLP over HTTP (protobuf); without a path it \
             is /v1/traces. Only in programs that were built with the feature `otel`; OTEL_EXPORTER_OTLP_HEADERS is respected.",
        ),
        Key::new(
            "service",
            Kind::Text(Form::Some),
            Default(r#""plimsoll""#),
            "What spans name as service.name.",
        ),
        Key::new(
            "queue",
            number(1, 1_000_000),
            Default("4096"),
            "Requests whose spans wait to be exported; those of more are dropped and counted.",
        ),
    ],
);
