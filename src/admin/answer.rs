//! An answer of the admin API: a whole one, a problem (RFC 9457), or a stream of frames.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body_util::{Either, Full};
use hyper::body::{Body, Bytes, Frame};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use tokio::sync::mpsc;

use super::views::{self, DiagnosticView, ProblemView};

const JSON: &str = "application/json";
/// RFC 9457 section 3.
const PROBLEM: &str = "application/problem+json";

/// What a request gets; HEAD's loses its body in the server.
pub(super) type Answer = Response<Either<Full<Bytes>, Frames>>;

/// A body that somebody else writes, frame by frame; it ends when they drop their end.
#[derive(Debug)]
pub(super) struct Frames(pub(super) mpsc::Receiver<Bytes>);

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// Why a request is not answered as it wishes.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    detail: String,
    allow: Option<&'static str>,
    challenge: Option<&'static str>,
    diagnostics: Vec<DiagnosticView>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), allow: None, challenge: None, diagnostics: Vec::new() }
    }

    /// What is wrong in a configuration, one by one.
    pub(super) fn with_diagnostics(self, diagnostics: Vec<DiagnosticView>) -> Self {
        Self { diagnostics, ..self }
    }

    /// The path exists and takes only these methods.
    pub(super) fn method(allow: &'static str) -> Self {
        let detail = format!("this path answers {}", allow.replace(", ", " and "));
        Self { allow: Some(allow), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, detail) }
    }

    /// A token could help, or another one (RFC 6750 section 3).
    pub(super) fn unauthorized(status: StatusCode, detail: &str, challenge: &'static str) -> Self {
        Self { challenge: Some(challenge), ..Self::new(status, detail) }
    }

    #[cfg(test)]
    pub(super) const fn status(&self) -> StatusCode {
        self.status
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        let Refusal { status, detail, allow, challenge, diagnostics } = refusal;
        let mut answer = problem(&ProblemView::new(status, detail).with_diagnostics(diagnostics));
        if let Some(allow) = allow {
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
        }
        if let Some(challenge) = challenge {
            answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        answer
    }
}

/// A view as JSON.
pub(super) fn json(status: StatusCode, view: &impl serde::Serialize) -> Answer {
    written(status, JSON, views::text(view))
}

/// Problem details, with their own status.
pub(super) fn problem(view: &ProblemView) -> Answer {
    written(view.status(), PROBLEM, views::text(view))
}

fn written(status: StatusCode, content_type: &'static str, text: serde_json::Result<Vec<u8>>) -> Answer {
    match text {
        Ok(text) => whole(status, content_type, text.into()),
        Err(error) => {
            tracing::error!(%error, "an admin answer cannot be written as JSON");
            whole(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", Bytes::new())
        }
    }
}

/// A body that is there already.
pub(super) fn whole(status: StatusCode, content_type: &'static str, body: Bytes) -> Answer {
    answer(status, content_type, Either::Left(Full::new(body)))
}

/// A body that comes by and by.
pub(super) fn stream(content_type: &'static str, frames: Frames) -> Answer {
    answer(StatusCode::OK, content_type, Either::Right(frames))
}

/// Whether an answer's body comes by and by.
pub(super) fn is_stream(answer: &Answer) -> bool {
    matches!(answer.body(), Either::Right(_))
}

fn answer(status: StatusCode, content_type: &'static str, body: Either<Full<Bytes>, Frames>) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
