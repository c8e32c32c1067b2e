//! The spans of one request that is recorded: its own and one per attempt, noted on the way and handed over at its end. Boxed,
//! as most requests have none.

use std::cell::RefCell;
use std::time::SystemTime;

use tokio::time::Instant;

use super::error::Error;
use super::request::{Context, Downstream, Trace};
use crate::model::request::RequestView;
use crate::policy::traces::Traced;
use crate::runtime::pick::Place;
use crate::telemetry::access_log::Termination;
use crate::telemetry::spans::{AttemptSpan, RequestSpan};

/// What is known of a request that belongs to a trace. Apart from the rest, as most requests belong to none.
#[derive(Debug)]
pub struct Tracked {
    /// Which.
    pub traced: Traced,
    /// Its spans, where they are recorded.
    pub spans: Option<Spans>,
}

/// What is noted of a request.
#[derive(Debug)]
pub struct Spans {
    span: u64,
    attempts: RefCell<Vec<(AttemptSpan, Instant)>>,
}

/// An attempt among those of its request.
#[derive(Debug, Clone, Copy)]
pub struct Attempt(usize);

impl Spans {
    /// Nothing yet; `span` is the request's own number.
    #[must_use]
    pub const fn new(span: u64) -> Self {
        Self { span: if span == 0 { 1 } else { span }, attempts: RefCell::new(Vec::new()) }
    }

    /// Begins an attempt, whose number the endpoint is told.
    pub fn begin(&self, place: &Place<'_>, span: u64) -> (Attempt, u64) {
        let span = span.max(1);
        let attempt = AttemptSpan {
            span,
            pool: place.pool.name.as_str().into(),
            endpoint: place.endpoint.name.as_str().into(),
            at: SystemTime::now(),
            took: None,
            status: None,
            error: None,
        };
        let mut attempts = self.attempts.borrow_mut();
        attempts.push((attempt, Instant::now()));
        (Attempt(attempts.len() - 1), span)
    }

    /// Ends an attempt, or the last one, with an answer's status, or with what came instead.
    pub fn end(&self, attempt: Option<Attempt>, outcome: Result<u16, &Error>) {
        let mut attempts = self.attempts.borrow_mut();
        let place = attempt.map_or_else(|| attempts.len().wrapping_sub(1), |attempt| attempt.0);
        let Some((span, began)) = attempts.get_mut(place) else { return };
        span.took = Some(began.elapsed());
        match outcome {
            Ok(status) => span.status = Some(status),
            Err(error) => span.error = Some(error.termination().as_str()),
        }
    }

    /// Hands over what was noted of a request that has ended.
    pub fn finish<D: Downstream>(
        &self,
        context: &Context<'_>,
        down: &D,
        trace: &Trace<'_>,
        (traced, end): (Traced, Termination),
    ) {
        let Some(export) = context.snapshot.tracing.as_ref().and_then(|tracing| tracing.export.as_ref())
        else {
            return;
        };
        let view = down.view();
        let took = context.start.elapsed();
        export.give(Box::new(RequestSpan {
            trace: traced.parent.trace,
            span: self.span,
            parent: (!traced.begun).then_some(traced.parent.span),
            at: SystemTime::now() - took,
            took,
            method: view.method_bytes().into(),
            scheme: context.scheme(),
            protocol: context.version,
            host: view.authority().into(),
            path: view.path().into(),
            client: view.source(),
            status: trace.status,
            listener: context.listener.name.as_str().into(),
            route: trace.route.map(|route| route.name.as_str().into()),
            pool: trace.pool.map(|pool| pool.name.as_str().into()),
            end: end.as_str(),
            request_id: context.request_id.into(),
            attempts: self.attempts.take().into_iter().map(|(attempt, _)| attempt).collect(),
        }));
    }
}
