//! Spans on their way out: a thread that takes them from the workers' queue, puts them into OpenTelemetry's form and posts
//! them in batches by OTLP over HTTP. It ends when the last snapshot with that destination does.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter, SpanLinks};
use tokio::time::Instant;

use super::notify::webhook::{AddressError, Webhook};
use crate::model::trace::Destination;
use crate::runtime::snapshot::Snapshot;
use crate::runtime::spans::Counts;
use crate::telemetry::spans::{AttemptSpan, RequestSpan};

/// Requests of one batch.
const BATCH_MAX: usize = 256;

/// How long a batch that is not full waits for more.
const BATCH_WAIT: Duration = Duration::from_secs(1);

/// Between two lines in the log that the destination takes nothing.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// Why nobody exports.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    /// The destination is none.
    #[error("no spans can be sent to {0}: {1}")]
    Address(String, AddressError),
    /// The exporter cannot be made.
    #[error("no spans can be sent to {0}: {1}")]
    Exporter(String, opentelemetry_otlp::ExporterBuildError),
    /// There is no thread for it.
    #[error("no thread to export spans: {0}")]
    Thread(std::io::Error),
}

/// Starts to export what comes by the queue of a snapshot, unless somebody does already. Traffic goes on without that.
pub(super) fn export(snapshot: &Snapshot) {
    if let Err(error) = start(snapshot) {
        tracing::error!(%error, "spans are not exported");
    }
}

fn start(snapshot: &Snapshot) -> Result<(), ExportError> {
    let export = snapshot.tracing.as_ref().and_then(|tracing| tracing.export.as_ref());
    let Some((export, receiver)) = export.and_then(|export| Some((export, export.receiver()?))) else {
        return Ok(());
    };
    let exporter = exporter(&export.destination)?;
    let counts = Arc::clone(&export.counts);
    let run = move || run(&receiver, &exporter, &counts);
    std::thread::Builder::new().name("otlp".to_owned()).spawn(run).map_err(ExportError::Thread)?;
    Ok(())
}

fn exporter(to: &Destination) -> Result<opentelemetry_otlp::SpanExporter, ExportError> {
    let webhook = Webhook::parse(&to.url).map_err(|error| ExportError::Address(to.url.clone(), error))?;
    let mut exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(Poster(webhook))
        .with_endpoint(&to.url)
        .build()
        .map_err(|error| ExportError::Exporter(to.url.clone(), error))?;
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let resource = Resource::builder_empty().with_service_name(to.service.clone()).with_attribute(version);
    exporter.set_resource(&resource.build());
    Ok(exporter)
}

/// Exports until nobody can send any more.
fn run(receiver: &Receiver<Box<RequestSpan>>, exporter: &opentelemetry_otlp::SpanExporter, counts: &Counts) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!(%error, "spans cannot be exported"),
    };
    let mut complained: Option<Instant> = None;
    while let Some(batch) = next_batch(receiver) {
        let requests = batch.len() as u64;
        let spans = batch.iter().flat_map(spans_of).collect();
        match runtime.block_on(exporter.export(spans)) {
            Ok(()) => drop(counts.exported.fetch_add(requests, Ordering::Relaxed)),
            Err(error) => {
                counts.failed.fetch_add(requests, Ordering::Relaxed);
                if complained.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY) {
                    tracing::warn!(%error, requests, "spans were not taken");
                    complained = Some(Instant::now());
                }
            }
        }
    }
}

/// What has come until a batch is full or has waited long enough; nothing at the end.
fn next_batch(receiver: &Receiver<Box<RequestSpan>>) -> Option<Vec<RequestSpan>> {
    let mut batch = vec![*receiver.recv().ok()?];
    let until = Instant::now() + BATCH_WAIT;
    while batch.len() < BATCH_MAX {
        match receiver.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(span) => batch.push(*span),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    Some(batch)
}

/// A request's own span, and one per attempt below it, by OpenTelemetry's conventions for HTTP.
fn spans_of(request: &RequestSpan) -> Vec<SpanData> {
    let method = text(&request.method);
    let mut attributes = vec![
        KeyValue::new("http.request.method", method.clone()),
        KeyValue::new("url.scheme", request.scheme),
        KeyValue::new("url.path", text(&request.path)),
        KeyValue::new("server.address", text(&request.host)),
        KeyValue::new("client.address", request.client.to_string()),
        KeyValue::new("network.protocol.version", request.protocol.trim_start_matches("HTTP/")),
        KeyValue::new("plimsoll.listener", String::from(&*request.listener)),
        KeyValue::new("plimsoll.end", request.end),
        KeyValue::new("plimsoll.request_id", text(&request.request_id)),
    ];
    let named = [("plimsoll.route", &request.route), ("plimsoll.pool", &request.pool)];
    attributes.extend(
        named.into_iter().filter_map(|(key, name)| Some(KeyValue::new(key, String::from(&**name.as_ref()?)))),
    );
    if request.status != 0 {
        attributes.push(KeyValue::new("http.response.status_code", i64::from(request.status)));
    }
    // What the client has done wrong is no error of the server (semantic conventions for HTTP spans, "Status").
    let failed = request.status >= 500 || request.status == 0;
    let own = SpanData {
        parent_span_id: request.parent.map_or(SpanId::INVALID, SpanId::from),
        parent_span_is_remote: request.parent.is_some(),
        span_kind: SpanKind::Server,
        attributes,
        status: if failed { Status::error(request.end) } else { Status::Unset },
        ..span(request, request.span, method.clone(), (request.at, Some(request.took)))
    };
    let attempts = request.attempts.iter().enumerate();
    std::iter::once(own).chain(attempts.map(|(number, one)| attempt(request, one, number, &method))).collect()
}

fn attempt(request: &RequestSpan, attempt: &AttemptSpan, number: usize, method: &str) -> SpanData {
    let mut attributes = vec![
        KeyValue::new("http.request.method", method.to_owned()),
        KeyValue::new("plimsoll.pool", String::from(&*attempt.pool)),
        KeyValue::new("plimsoll.endpoint", String::from(&*attempt.endpoint)),
        KeyValue::new("http.request.resend_count", i64::try_from(number).unwrap_or(i64::MAX)),
    ];
    // One that another has overtaken is given up without an outcome.
    let error = attempt.error.or_else(|| attempt.took.is_none().then_some("given_up"));
    if let Some(error) = error {
        attributes.push(KeyValue::new("error.type", error));
    }
    if let Some(status) = attempt.status {
        attributes.push(KeyValue::new("http.response.status_code", i64::from(status)));
    }
    let failed = error.is_some() || attempt.status.is_some_and(|status| status >= 400);
    SpanData {
        parent_span_id: SpanId::from(request.span),
        span_kind: SpanKind::Client,
        attributes,
        status: if failed { Status::error(error.unwrap_or_default()) } else { Status::Unset },
        ..span(request, attempt.span, method.to_owned(), (attempt.at, attempt.took))
    }
}

fn span(
    request: &RequestSpan,
    number: u64,
    name: String,
    (at, took): (std::time::SystemTime, Option<Duration>),
) -> SpanData {
    let trace = TraceId::from(request.trace);
    SpanData {
        span_context: SpanContext::new(
            trace,
            SpanId::from(number),
            TraceFlags::SAMPLED,
            false,
            TraceState::NONE,
        ),
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: name.into(),
        start_time: at,
        // What has no end of its own ended with its request.
        end_time: took.map_or(request.at + request.took, |took| at + took).max(at),
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::builder("plimsoll").build(),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Posts what the exporter has encoded, on a connection of its own.
struct Poster(Webhook);

impl fmt::Debug for Poster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl HttpClient for Poster {
    // What `async_trait` would write.
    fn send_bytes<'s, 'f>(
        &'s self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'f>>
    where
        's: 'f,
        Self: 'f,
    {
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let mut fields = parts.headers;
            fields.entry(CONTENT_TYPE).or_insert(http::HeaderValue::from_static("application/x-protobuf"));
            let status = self.0.send(body, fields).await?;
            let mut response = Response::new(Bytes::new());
            *response.status_mut() = status;
            Ok(response)
        })
    }
}
