//! The endpoint's side of an exchange across the bridge where the endpoint speaks HTTP/2: one stream.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::StatusCode;
use http::response::Parts;

use super::encode;
use super::upstream::Lease;
use crate::policy::retry::GivenBack;
use crate::proxy::attempt::Connection;
use crate::proxy::bridge::request::Request;
use crate::proxy::bridge::{EndpointHalf, Frame, Head, trailing};
use crate::proxy::error::Error;
use crate::proxy::http1::encode::RequestEdits;
use crate::proxy::http1::head::Framing;
use crate::runtime::counters::WorkerId;

/// Bytes of a body that are asked room for at once.
const PIECE: usize = 64 * 1024;

/// One attempt on an HTTP/2 endpoint. Dropped before its end, the stream is reset (CANCEL).
#[derive(Debug)]
pub struct Half {
    worker: WorkerId,
    /// Nothing where the request could not be begun; why is told to whoever asks for the answer.
    sending: Option<SendStream<Bytes>>,
    answer: Option<ResponseFuture>,
    unbegun: Option<Error>,
    body: Option<RecvStream>,
    /// Taken from the stream, and not from here.
    held: Bytes,
    websocket: bool,
    /// All of the request has been given.
    given: bool,
    taken: u64,
    /// The endpoint may have acted on it.
    touched: bool,
    heads: u32,
}

impl Half {
    /// A request on its way.
    #[must_use]
    pub fn new(worker: WorkerId, lease: &Lease, request: &Request, edits: &RequestEdits<'_>) -> Self {
        let mut half = Self {
            worker,
            sending: None,
            answer: None,
            unbegun: None,
            body: None,
            held: Bytes::new(),
            websocket: request.websocket,
            given: !request.websocket && matches!(request.framing, Framing::None),
            taken: 0,
            touched: false,
            heads: 0,
        };
        if let Err(error) = half.begin(lease, request, edits) {
            half.unbegun = Some(error);
        }
        half
    }

    fn begin(&mut self, lease: &Lease, request: &Request, edits: &RequestEdits<'_>) -> Result<(), Error> {
        if self.websocket && !lease.takes_extended_connect() {
            return Err(Error::NoTunnel);
        }
        let message = encode::request(request, edits, lease.is_tls())
            .ok_or(Error::Answer("the request target cannot be said in HTTP/2"))?;
        let (answer, sending) = lease.send(message, self.given).map_err(|error| before_head(&error))?;
        self.answer = Some(answer);
        self.sending = Some(sending);
        self.touched = true;
        Ok(())
    }

    /// What is not right with a head that came.
    fn check(&self, parts: &Parts, on: &Connection<'_>) -> Result<(), Error> {
        let pool = on.place.pool;
        if parts.headers.len() > pool.limits.answer_fields {
            pool.live.counters.of(self.worker).answer_fields_exceeded.one();
            return Err(Error::Answer("it has too many fields"));
        }
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Error::Answer("it switches protocols, which HTTP/2 cannot"));
        }
        Ok(())
    }

    fn fail(&mut self, error: &h2::Error, on: &Connection<'_>) -> Error {
        if is_over_size(error) {
            on.place.pool.live.counters.of(self.worker).answer_head_exceeded.one();
        }
        let error = before_head(error);
        self.touched &= error.given_back().is_none() || self.heads > 0;
        error
    }
}

/// h2 refuses an answer whose head is larger than our setting says.
fn is_over_size(error: &h2::Error) -> bool {
    error.is_reset() && error.is_library() && error.reason() == Some(Reason::REFUSED_STREAM)
}

/// The name of an error code (RFC 9113 section 7), for logs.
const fn name(reason: Reason) -> &'static str {
    match reason {
        Reason::NO_ERROR => "NO_ERROR",
        Reason::PROTOCOL_ERROR => "PROTOCOL_ERROR",
        Reason::INTERNAL_ERROR => "INTERNAL_ERROR",
        Reason::FLOW_CONTROL_ERROR => "FLOW_CONTROL_ERROR",
        Reason::SETTINGS_TIMEOUT => "SETTINGS_TIMEOUT",
        Reason::STREAM_CLOSED => "STREAM_CLOSED",
        Reason::FRAME_SIZE_ERROR => "FRAME_SIZE_ERROR",
        Reason::REFUSED_STREAM => "REFUSED_STREAM",
        Reason::CANCEL => "CANCEL",
        Reason::COMPRESSION_ERROR => "COMPRESSION_ERROR",
        Reason::CONNECT_ERROR => "CONNECT_ERROR",
        Reason::ENHANCE_YOUR_CALM => "ENHANCE_YOUR_CALM",
        Reason::INADEQUATE_SECURITY => "INADEQUATE_SECURITY",
        Reason::HTTP_1_1_REQUIRED => "HTTP_1_1_REQUIRED",
        _ => "a code that has no name",
    }
}

/// What a failure before a response head means.
fn before_head(error: &h2::Error) -> Error {
    match error.reason() {
        // Streams above the last one that it names, or none at all (RFC 9113 section 6.8).
        Some(_) if error.is_go_away() && error.is_remote() => Error::GivenBack(GivenBack::WithItsConnection),
        Some(Reason::REFUSED_STREAM) if error.is_remote() => Error::GivenBack(GivenBack::Refused),
        Some(reason) if error.is_reset() && error.is_remote() => Error::StreamReset(name(reason)),
        _ if is_over_size(error) => Error::Answer("its header section is too large"),
        Some(_) => Error::Answer("it breaks the rules of HTTP/2"),
        None => Error::Reset,
    }
}

impl EndpointHalf for Half {
    fn poll_room(
        &mut self,
        cx: &mut Context<'_>,
        _: &Connection<'_>,
        at_hand: usize,
    ) -> Poll<Result<usize, Error>> {
        let Some(sending) = &mut self.sending else { return Poll::Ready(Err(Error::Reset)) };
        sending.reserve_capacity(at_hand.clamp(1, PIECE));
        loop {
            match sending.capacity() {
                0 => {}
                room => return Poll::Ready(Ok(room)),
            }
            match ready!(sending.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                // It has ended its side, or all of it: what it has answered before tells the rest.
                Some(Err(_)) | None => {
                    self.sending = None;
                    return Poll::Ready(Err(Error::Reset));
                }
            }
        }
    }

    fn send(&mut self, frame: Frame, end: bool) {
        self.given |= end;
        let Some(sending) = &mut self.sending else { return };
        let sent = match frame {
            Frame::Data(data) => {
                self.taken += data.len() as u64;
                sending.send_data(data, end)
            }
            Frame::Trailers(trailers) => sending.send_trailers(trailers),
        };
        if sent.is_err() {
            self.sending = None;
        }
    }

    fn poll_sent(&mut self, _: &mut Context<'_>, _: &Connection<'_>) -> Poll<Result<(), Error>> {
        // What was given is the connection's, whose task sends it.
        Poll::Ready(if self.sending.is_some() { Ok(()) } else { Err(Error::Reset) })
    }

    fn poll_head(&mut self, cx: &mut Context<'_>, on: &Connection<'_>) -> Poll<Result<Head, Error>> {
        let Some(answer) = &mut self.answer else {
            return Poll::Ready(Err(self.unbegun.take().unwrap_or(Error::Reset)));
        };
        let interim = match ready!(answer.poll_informational(cx)) {
            Some(Ok(interim)) => Some(interim),
            Some(Err(error)) => return Poll::Ready(Err(self.fail(&error, on))),
            None => None,
        };
        if let Some(interim) = interim {
            self.heads += 1;
            let (parts, ()) = interim.into_parts();
            return Poll::Ready(self.check(&parts, on).map(|()| Head { parts, end: false }));
        }
        let (parts, body) = match ready!(Pin::new(answer).poll(cx)) {
            Ok(answer) => answer.into_parts(),
            Err(error) => return Poll::Ready(Err(self.fail(&error, on))),
        };
        self.heads += 1;
        self.answer = None;
        self.check(&parts, on)?;
        let end = body.is_end_stream();
        self.body = Some(body);
        Poll::Ready(Ok(Head { parts, end }))
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        on: &Connection<'_>,
        most: usize,
    ) -> Poll<Option<Result<Frame, Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        if self.held.is_empty() {
            match ready!(body.poll_data(cx)) {
                Some(Ok(data)) => self.held = data,
                Some(Err(error)) => return Poll::Ready(Some(Err(broke_off(&error)))),
                None => {
                    return match ready!(body.poll_trailers(cx)) {
                        Ok(Some(trailers)) if trailers.len() > on.place.pool.limits.answer_fields => {
                            on.place.pool.live.counters.of(self.worker).answer_fields_exceeded.one();
                            Poll::Ready(Some(Err(Error::Answer("it has too many fields"))))
                        }
                        Ok(trailers) => Poll::Ready(trailers.and_then(trailing).map(Ok)),
                        Err(error) => Poll::Ready(Some(Err(broke_off(&error)))),
                    };
                }
            }
        }
        let n = self.held.len().min(most);
        Poll::Ready(Some(Ok(Frame::Data(self.held.split_to(n)))))
    }

    fn is_ended(&self) -> bool {
        self.held.is_empty() && self.body.as_ref().is_some_and(RecvStream::is_end_stream)
    }

    fn release(&mut self, bytes: usize) {
        if let Some(body) = &mut self.body {
            // It was ours to give back: it came from there.
            body.flow_control().release_capacity(bytes).ok();
        }
    }

    fn is_touched(&self) -> bool {
        self.touched
    }

    fn has_answered(&self) -> bool {
        self.heads > 0
    }

    fn taken(&self) -> u64 {
        self.taken
    }
}

/// What a failure after the response head means.
fn broke_off(error: &h2::Error) -> Error {
    if error.is_library() { Error::Answer("it breaks the rules of HTTP/2") } else { Error::Truncated }
}
