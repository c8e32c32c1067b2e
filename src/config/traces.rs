//! `[tracing]`: which traces requests belong to.

use super::diagnostic::Report;
use super::notify::Webhook;
use super::value::Fields;
use crate::model::trace::Destination;
use crate::policy::traces::{Accept, Settings};

/// `[tracing]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Tracing {
    /// Whether requests belong to traces.
    pub propagates: bool,
    /// To which.
    pub settings: Settings,
    /// Where the spans of those that are recorded go.
    pub export: Option<Destination>,
}

impl Tracing {
    /// Reads the section `[tracing]`.
    pub(super) fn read(fields: &Fields, report: &mut Report) -> Option<Self> {
        let accept = if fields.is_word("accept", "trusted") { Accept::Trusted } else { Accept::All };
        Some(Self {
            propagates: fields.is_word("propagate", "w3c"),
            settings: Settings { accept, sample: fields.get("sample")? },
            export: match fields.written("otlp") {
                None => None,
                Some(_) => Some(destination(fields, report)?),
            },
        })
    }
}

/// The collector, whose usual path (OTLP 1.9, "OTLP/HTTP Request") takes the place of none.
fn destination(fields: &Fields, report: &mut Report) -> Option<Destination> {
    let span = fields.span_of("otlp");
    if !cfg!(feature = "otel") {
        let message = "`otlp` has no use: this program was built without the feature `otel`";
        report.error(span, message, "remove it, or build with cargo build --features otel");
        return None;
    }
    if !fields.is_word("propagate", "w3c") {
        let message = "`otlp` has no use: without `propagate` no request belongs to a trace";
        report.error(span, message, "remove it, or write propagate = \"w3c\"");
    }
    let url = fields.get::<String>("otlp")?;
    if let Err(what) = Webhook::parse(&url) {
        let message = format!("`otlp` cannot be {url:?}: {what}");
        report.error(span, message, "write for example \"http://127.0.0.1:4318\"");
        return None;
    }
    let authority = url.find("://").map_or(0, |scheme| scheme + 3);
    let path = url[authority..].find('/').map_or("", |slash| &url[authority + slash..]);
    let url = match path {
        "" | "/" => format!("{}/v1/traces", url.trim_end_matches('/')),
        _ => url,
    };
    Some(Destination { url, service: fields.get("service")?, queue: fields.get("queue")? })
}
