//! `POST /v1/reload`: what is to be loaded, how, and what came of it.

use hyper::StatusCode;
use hyper::body::{Body, Bytes};

use super::access::{Access, allow};
use super::answer::{self, Answer, Refusal};
use super::changes::read_up_to;
use super::paths::{flag, parameter};
use super::routes::Control;
use super::views::{AcceptedView, DiagnosticView, ReloadedView};
use crate::control::reload::{Cause, ReloadError, ReloadOptions, Source};
use crate::model::units::parse_duration;

/// Bytes of a configuration in a body.
const BODY_MAX: usize = 16 * 1024 * 1024;

/// What is to be loaded: the body, or without one the file on disk. A configuration can make the process run programs, so
/// only who may do everything may bring one.
pub(super) async fn source<B>(body: B, access: Option<Access>) -> Result<Source, Refusal>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if body.is_end_stream() {
        return Ok(Source::File);
    }
    allow(access, Access::Full)?;
    let body = read_up_to(body, BODY_MAX).await?;
    if body.is_empty() {
        return Ok(Source::File);
    }
    let text = String::from_utf8(body.into());
    text.map(Source::Text).map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "the body is not UTF-8"))
}

/// Has it loaded; `wait=false` does not wait for what comes of it.
pub(super) async fn reload(
    control: &dyn Control,
    source: Source,
    query: Option<&str>,
) -> Result<Answer, Refusal> {
    let confirm = parameter(query, "confirm").map(parse_duration).transpose();
    let confirm = confirm.map_err(|error| {
        Refusal::new(StatusCode::BAD_REQUEST, format!("confirm is a time, as in 60s: {error}"))
    })?;
    let options = ReloadOptions { force: flag(query, "force"), confirm, ..ReloadOptions::new(Cause::Api) };
    let reloading = control.reload(source, options);
    if parameter(query, "wait") == Some("false") {
        // How it ends is told by the log and by an event.
        drop(tokio::spawn(reloading));
        return Ok(answer::json(StatusCode::ACCEPTED, &AcceptedView { accepted: true }));
    }
    Ok(answer::json(StatusCode::OK, &ReloadedView::from(reloading.await?)))
}

impl From<ReloadError> for Refusal {
    fn from(error: ReloadError) -> Self {
        let status = match &error {
            ReloadError::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            ReloadError::Busy => StatusCode::TOO_MANY_REQUESTS,
            ReloadError::Stopping | ReloadError::Upgrading => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::CONFLICT,
        };
        let refusal = Self::new(status, error.to_string());
        match &error {
            ReloadError::Invalid(diagnostics) => {
                refusal.with_diagnostics(diagnostics.list().iter().map(DiagnosticView::from).collect())
            }
            _ => refusal,
        }
    }
}
