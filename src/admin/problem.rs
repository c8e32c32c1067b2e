//! Errors of the admin API as problem details (RFC 9457).

use hyper::StatusCode;
use serde::Serialize;

/// The media type (RFC 9457 section 3).
pub(super) const CONTENT_TYPE: &str = "application/problem+json";

/// One error. The type is `about:blank`: it means no more than its status (RFC 9457 section 4.2.1).
#[derive(Debug, Serialize)]
pub(super) struct Problem {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    /// An extension: why the node is not ready.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<String>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        Self {
            r#type: "about:blank",
            title,
            status: status.as_u16(),
            detail: detail.into(),
            reasons: Vec::new(),
        }
    }

    pub(super) fn with_reasons(self, reasons: Vec<String>) -> Self {
        Self { reasons, ..self }
    }
}
