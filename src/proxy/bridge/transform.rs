//! What does not just pass across the bridge: a request that is taken in before an endpoint is asked, an answer that is
//! encoded for its client or taken off its endpoint ahead of one that is slower.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::response::Parts;
use http::{Response, StatusCode};
use tokio::time::Instant;

use super::encoder::Encoder;
use super::exchange::{Answer, Bridge, Waiting};
use super::request::Request;
use super::{ClientHalf, EndpointHalf, Frame};
use crate::model::method::Method;
use crate::policy::compression::{Coding, Facts, Rules, Verdict, forbids, weakened};
use crate::proxy::attempt::Connection;
use crate::proxy::buffer::BLOCK;
use crate::proxy::error::Error;
use crate::proxy::http1::fields::parse_length;
use crate::proxy::http1::head::Framing;
use crate::proxy::tcp::splice::TURN;
use crate::runtime::pool::Timeouts;
use crate::runtime::treatment::TreatmentLive;

/// Bytes of an encoded answer that may wait for the client where none is said.
const AHEAD: usize = 4 * BLOCK;

/// What is done with an answer.
#[derive(Debug)]
pub struct Transform {
    /// Which ones are compressed.
    pub compress: Option<Arc<Rules>>,
    /// Bytes that may be taken off the endpoint ahead of the client.
    pub ahead: Option<usize>,
    /// What is counted.
    pub live: Arc<TreatmentLive>,
}

impl Transform {
    /// What becomes of an answer by its head, which is changed to say so.
    pub(super) fn begin(&self, request: &Request, parts: &mut Parts, end: bool) -> Option<Coding> {
        let rules = self.compress.as_ref()?;
        // Answers to HEAD and 304 tell of a body that there would be; any other without one is not encoded.
        if end && request.method != Method::Head && parts.status != StatusCode::NOT_MODIFIED {
            return None;
        }
        let taken = &request.parts.headers;
        let values = |headers: &HeaderMap, name: HeaderName| -> Vec<HeaderValue> {
            headers.get_all(name).iter().cloned().collect()
        };
        let fixed = values(&parts.headers, header::CACHE_CONTROL);
        let fixed = fixed.iter().chain(taken.get_all(header::CACHE_CONTROL));
        let headers = &mut parts.headers;
        let is_encoded = headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity");
        let length = headers.get(header::CONTENT_LENGTH).and_then(|length| parse_length(length.as_bytes()));
        let content_type = headers.get(header::CONTENT_TYPE).cloned();
        let facts = Facts {
            status: parts.status.as_u16(),
            content_type: content_type.as_ref().map(HeaderValue::as_bytes),
            length,
            is_encoded,
            is_part: headers.contains_key(header::CONTENT_RANGE),
            is_fixed: fixed.map(HeaderValue::as_bytes).any(forbids),
        };
        let wanted = rules.choose(taken.get_all(header::ACCEPT_ENCODING).iter().map(HeaderValue::as_bytes));
        let coding = match rules.verdict(&facts, wanted) {
            Verdict::Untouched => return None,
            Verdict::Varies => None,
            Verdict::Encoded(coding) => Some(coding),
        };
        vary(headers);
        if coding.is_none() && (facts.status != 304 || wanted.is_none()) {
            return None;
        }
        // Also of one that the client has, which is the encoded one (RFC 9111 section 4.3.4).
        if let Some(weak) = headers.get(header::ETAG).and_then(|etag| weakened(etag.as_bytes()))
            && let Ok(weak) = HeaderValue::from_bytes(&weak)
        {
            headers.insert(header::ETAG, weak);
        }
        let coding = coding?;
        // What tells of bytes that are others now.
        headers.remove(header::CONTENT_LENGTH);
        headers.remove(header::ACCEPT_RANGES);
        for digest in ["content-digest", "repr-digest", "digest", "content-md5"] {
            headers.remove(digest);
        }
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.word()));
        Some(coding)
    }

    /// How an answer of this coding is encoded.
    fn encoder(&self, coding: Option<Coding>) -> Result<Option<Encoder>, Error> {
        let (Some(coding), Some(rules)) = (coding, &self.compress) else { return Ok(None) };
        Encoder::new(coding, rules.effort).map(Some).map_err(Error::Exhausted)
    }
}

/// Says that the answer depends on what the client takes (RFC 9110 section 12.5.5).
fn vary(headers: &mut HeaderMap) {
    let said = headers.get_all(header::VARY).iter();
    let mut said = said.flat_map(|value| value.as_bytes().split(|&b| b == b',')).map(<[u8]>::trim_ascii);
    if !said.any(|name| name == b"*" || name.eq_ignore_ascii_case(b"accept-encoding")) {
        headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    }
}

/// An answer between its endpoint and its client.
struct Passage {
    encoder: Option<Encoder>,
    /// What the client has not been given yet.
    queue: BytesMut,
    most: usize,
    trailers: Option<HeaderMap>,
    /// All of it has come from the endpoint.
    taken: bool,
    /// All of it has been given to the client.
    given: bool,
    /// Bytes that came, to see that something moves.
    came: u64,
}

impl Passage {
    fn new(transform: &Transform, coding: Option<Coding>) -> Result<Self, Error> {
        Ok(Self {
            encoder: transform.encoder(coding)?,
            queue: BytesMut::new(),
            most: transform.ahead.unwrap_or(AHEAD),
            trailers: None,
            taken: false,
            given: false,
            came: 0,
        })
    }

    fn is_full(&self) -> bool {
        self.queue.len() >= self.most
    }

    fn put(&mut self, data: &[u8]) -> Result<(), Error> {
        self.came += data.len() as u64;
        match &mut self.encoder {
            Some(encoder) => encoder.push(data, &mut self.queue).map_err(Error::Exhausted),
            None => {
                self.queue.extend_from_slice(data);
                Ok(())
            }
        }
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.taken = true;
        match self.encoder.take() {
            Some(encoder) => encoder.finish(&mut self.queue).map_err(Error::Exhausted),
            None => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<(), Error> {
        match &mut self.encoder {
            Some(encoder) => encoder.flush(&mut self.queue).map_err(Error::Exhausted),
            None => Ok(()),
        }
    }
}

impl<C: ClientHalf> Bridge<'_, C> {
    /// Takes in the body, up to so much of it; whether that is all.
    pub(super) async fn fill(&mut self, most: usize) -> Result<bool, Error> {
        if let Some(whole) = self.upload.taken_in() {
            return Ok(whole);
        }
        if std::mem::take(&mut self.request.expects_continue) {
            let mut head = Response::new(()).into_parts().0;
            head.status = StatusCode::CONTINUE;
            self.half.send_interim(head)?;
        }
        let (mut here, mut before) = (BytesMut::new(), None);
        let filled = poll_fn(|cx| {
            if let Poll::Ready(Err(error)) = self.half.poll_sent(cx) {
                return Poll::Ready(Err(error));
            }
            if let Poll::Ready(filled) = self.upload.poll_fill(cx, &mut self.half, (most, &mut here)) {
                return Poll::Ready(filled);
            }
            if before != Some(here.len()) {
                before = Some(here.len());
                self.timer.set(Instant::now() + self.listener.timeouts.client_idle);
            }
            self.timer.poll_expired(cx).map(|_| Err(Error::ClientTimeout))
        });
        let whole = filled.await?;
        if let Some(length) = self.upload.filled(here) {
            self.request.framing = Framing::Length(length);
        }
        Ok(whole)
    }

    /// Gives the client the body of an answer whose head has gone. The endpoint is free as soon as it has done its part.
    pub(super) async fn send_transformed(
        &mut self,
        connection: Connection<'_>,
        mut answer: Answer,
        (transform, coding): (&Transform, Option<Coding>),
        timeouts: &Timeouts,
    ) -> Result<(), Error> {
        let mut passage = Passage::new(transform, coding)?;
        let mut connection = Some(connection);
        let mut progress = None;
        let sent_before = self.sent;
        let ended = poll_fn(|cx| {
            let mut waiting = Waiting::Client;
            if let Some(on) = &connection {
                waiting = self.poll_take(cx, on, &mut answer, &mut passage)?;
            }
            if passage.taken
                && let Some(done) = connection.take()
            {
                self.part(done, &answer.half, timeouts);
            }
            let was_full = passage.is_full();
            self.poll_hand_over(cx, &mut passage)?;
            if was_full && !passage.is_full() {
                // There is room for more, which nobody has looked for.
                cx.waker().wake_by_ref();
            }
            let sent = self.half.poll_sent(cx)?;
            if passage.given && sent.is_ready() {
                return Poll::Ready(Ok(()));
            }
            if let Some(on) = &connection {
                self.poll_rest(cx, on, &mut answer)?;
                if self.half.poll_gone(cx).is_ready() {
                    return Poll::Ready(Err(Error::ClientGone));
                }
            }
            if !passage.queue.is_empty() {
                waiting = Waiting::Client;
            }
            let now = (self.sent, passage.came, self.upload.moved(), waiting);
            self.poll_stalled(cx, progress.replace(now) != Some(now), waiting, timeouts)
        })
        .await;
        if coding.is_some() {
            let counters = &transform.live.counters.of(self.worker.id).compressed;
            counters.answers.one();
            counters.bytes_in.add(passage.came);
            counters.bytes_out.add(self.sent - sent_before);
        }
        ended
    }

    /// Takes what has come of the answer, one turn at most and no more than may wait.
    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        on: &Connection<'_>,
        answer: &mut Answer,
        passage: &mut Passage,
    ) -> Result<Waiting, Error> {
        // To encode takes longer than to copy, and others wait as well.
        let mut budget = if passage.encoder.is_some() { TURN / 8 } else { TURN };
        while !passage.taken && !passage.is_full() {
            if budget == 0 {
                cx.waker().wake_by_ref();
                return Ok(Waiting::Endpoint);
            }
            let frame = match answer.half.poll_frame(cx, on, BLOCK) {
                Poll::Ready(frame) => frame.transpose(),
                Poll::Pending => {
                    // Nothing else is there: what has come is not held back for it.
                    passage.flush()?;
                    return Ok(Waiting::Endpoint);
                }
            };
            // The head has gone: there is no status left for it.
            let frame = frame.map_err(|error| match error {
                Error::Answer(_) => Error::Truncated,
                other => other,
            })?;
            match frame {
                Some(Frame::Data(data)) => {
                    answer.half.release(data.len());
                    budget = budget.saturating_sub(data.len().max(1));
                    passage.put(&data)?;
                    if answer.half.is_ended() {
                        passage.finish()?;
                    }
                }
                Some(Frame::Trailers(trailers)) => {
                    self.note_call(&trailers);
                    passage.trailers = Some(trailers);
                    passage.finish()?;
                }
                None => passage.finish()?,
            }
        }
        Ok(Waiting::Client)
    }

    /// Gives the client what it takes of what waits for it.
    fn poll_hand_over(&mut self, cx: &mut Context<'_>, passage: &mut Passage) -> Result<(), Error> {
        while !passage.queue.is_empty() {
            let Poll::Ready(room) = self.half.poll_room(cx, passage.queue.len()) else { return Ok(()) };
            let n = room?.min(passage.queue.len());
            let now = passage.queue.split_to(n).freeze();
            passage.given = passage.taken && passage.queue.is_empty() && passage.trailers.is_none();
            self.half.send(Frame::Data(now), passage.given)?;
            self.sent += n as u64;
        }
        if passage.taken && !passage.given {
            passage.given = true;
            let last =
                passage.trailers.take().map_or_else(|| Frame::Data(bytes::Bytes::new()), Frame::Trailers);
            self.half.send(last, true)?;
        }
        Ok(())
    }
}
