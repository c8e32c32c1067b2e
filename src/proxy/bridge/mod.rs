//! The neutral bridge between a client and an endpoint that do not both speak HTTP/1: each side is a half that knows its
//! own protocol, and the exchange between them is written once, over frames.
//!
//! Heads are neutral too: an upgrade to WebSocket is an extended CONNECT (RFC 8441) whatever the sides speak, and the
//! answer that grants it has status 200.

mod encoder;
pub mod exchange;
mod patience;
pub mod request;
pub mod subrequest;
pub mod transform;
pub mod tunnel;
pub mod upload;
pub mod websocket;

use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::response::Parts;

use self::request::Request;
use super::attempt::{Connection, Link};
use super::error::Error;
use super::http1;
use super::http1::encode::RequestEdits;
use super::http1::fields::may_trail;
use super::http2;
use super::upstream::dial;
use super::worker::Worker;
use crate::runtime::pool::Timeouts;

/// A piece of a body.
#[derive(Debug)]
pub enum Frame {
    /// Some of its bytes; of a tunnel, bytes of whatever is spoken in it.
    Data(Bytes),
    /// The fields behind it, which are its end. Only those that may go on.
    Trailers(HeaderMap),
}

/// The trailers that came on a stream, without those that may not go on; nothing when none is left.
#[must_use]
pub fn trailing(mut trailers: HeaderMap) -> Option<Frame> {
    let mut dropped: Vec<_> =
        trailers.keys().filter(|name| !may_trail(name.as_str().as_bytes())).cloned().collect();
    dropped.drain(..).for_each(|name| drop(trailers.remove(name)));
    (!trailers.is_empty()).then_some(Frame::Trailers(trailers))
}

/// The head of an answer.
#[derive(Debug)]
pub struct Head {
    /// Status and fields, without those that are for one connection alone. Where `Content-Length` is given, it is right.
    pub parts: Parts,
    /// Whether no body follows, not even an empty one.
    pub end: bool,
}

/// The client's side of an exchange.
pub trait ClientHalf {
    /// What comes of the request's body; nothing is its end.
    ///
    /// # Errors
    /// [`Error::Refused`] when it is malformed, [`Error::ClientGone`] when the client left before its end.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, Error>>>;
    /// Whether all of the request's body has been taken.
    fn is_ended(&self) -> bool;
    /// So many bytes of the request's body have gone on: as many more may come.
    fn release(&mut self, bytes: usize);
    /// How many bytes of the answer's body may be given now, of which so many are at hand; never none. Asked only with
    /// bytes at hand, as room that one stream holds is room that another lacks.
    ///
    /// # Errors
    /// [`Error::ClientGone`].
    fn poll_room(&mut self, cx: &mut Context<'_>, at_hand: usize) -> Poll<Result<usize, Error>>;
    /// Takes an interim answer (RFC 9110 section 15.2).
    ///
    /// # Errors
    /// [`Error::ClientGone`].
    fn send_interim(&mut self, head: Parts) -> Result<(), Error>;
    /// Takes the head of the answer; `end` says that no body follows.
    ///
    /// # Errors
    /// [`Error::ClientGone`].
    fn send_head(&mut self, head: Parts, end: bool) -> Result<(), Error>;
    /// Takes a piece of the answer's body, of no more bytes than [`ClientHalf::poll_room`] said; `end` with the last one,
    /// which trailers always are.
    ///
    /// # Errors
    /// [`Error::ClientGone`].
    fn send(&mut self, frame: Frame, end: bool) -> Result<(), Error>;
    /// Ready when all that was given is on its way.
    ///
    /// # Errors
    /// [`Error::ClientGone`].
    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>>;
    /// Ready when the client has left or wants no answer any more.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()>;
    /// Ends the exchange after a failure, so that the client cannot take what it has for a whole answer.
    fn abort(&mut self, error: &Error);
}

/// The endpoint's side of one attempt. What it sends first, the head of the request, it was made with.
pub trait EndpointHalf {
    /// How many bytes of the request's body may be given now, of which so many are at hand; never none.
    ///
    /// # Errors
    /// [`Error::Reset`] when the endpoint takes no more of the request. It may still have answered, so that
    /// [`EndpointHalf::poll_head`] decides what came of it.
    fn poll_room(
        &mut self,
        cx: &mut Context<'_>,
        on: &Connection<'_>,
        at_hand: usize,
    ) -> Poll<Result<usize, Error>>;
    /// Takes a piece of the request's body, of no more bytes than [`EndpointHalf::poll_room`] said; `end` with the last
    /// one, which trailers always are. An empty last piece needs no room.
    fn send(&mut self, frame: Frame, end: bool);
    /// Sends what was given; ready when all of it is on its way.
    ///
    /// # Errors
    /// As [`EndpointHalf::poll_room`].
    fn poll_sent(&mut self, cx: &mut Context<'_>, on: &Connection<'_>) -> Poll<Result<(), Error>>;
    /// The head of the answer, or of one interim answer after the other. After status 200 of an extended CONNECT the
    /// frames of both sides are those of a tunnel.
    ///
    /// # Errors
    /// [`Error::Reset`], or [`Error::Answer`] when it is not valid.
    fn poll_head(&mut self, cx: &mut Context<'_>, on: &Connection<'_>) -> Poll<Result<Head, Error>>;
    /// What comes of the answer's body; nothing is its end. `most` bytes at most, and no more than came at once.
    ///
    /// # Errors
    /// [`Error::Truncated`] when it broke off, [`Error::Answer`] when it is malformed.
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        on: &Connection<'_>,
        most: usize,
    ) -> Poll<Option<Result<Frame, Error>>>;
    /// Whether all of the answer's body has been taken.
    fn is_ended(&self) -> bool;
    /// So many bytes of the answer's body have gone on: as many more may come.
    fn release(&mut self, bytes: usize);
    /// Whether the endpoint may have got any byte of the request.
    fn is_touched(&self) -> bool;
    /// Whether any byte of an answer has come.
    fn has_answered(&self) -> bool;
    /// Bytes that the endpoint has taken; only ever compared, to see that it goes on.
    fn taken(&self) -> u64;
}

/// The endpoint's side, in whichever protocol its connection speaks.
#[derive(Debug)]
pub enum Upstream {
    /// HTTP/1.
    Http1(http1::half::Half),
    /// HTTP/2.
    Http2(http2::half::Half),
}

impl Upstream {
    /// An attempt over `connection`.
    #[must_use]
    pub fn new(
        worker: &Worker,
        connection: &Connection<'_>,
        request: &Request,
        edits: &RequestEdits<'_>,
    ) -> Self {
        match &connection.link {
            Link::Own(_) => Self::Http1(http1::half::Half::new(worker, request, edits)),
            Link::Http2(lease) => Self::Http2(http2::half::Half::new(worker.id, lease, request, edits)),
        }
    }

    /// Parts with the endpoint after a whole answer: a connection that can carry another request is kept, at most so long.
    pub fn part(&self, worker: &Worker, connection: Connection<'_>, most: Duration) {
        match self {
            Self::Http1(half) => {
                if let Some(keep) = half.keep(most)
                    && let Connection { place, link: Link::Own(stream), identity: Some(identity), .. } =
                        connection
                {
                    worker.idle.put(worker.id, &place, identity, stream, keep);
                }
            }
            // Its place goes back when it is dropped.
            Self::Http2(_) => {}
        }
    }

    /// A tunnel begins, which may be quiet for long.
    pub fn begin_tunnel(&self, on: &Connection<'_>, timeouts: &Timeouts) {
        match self {
            Self::Http1(_) => {
                if let Ok(stream) = on.stream() {
                    dial::keep_alive_probes(stream, timeouts.tcp_keepalive);
                }
            }
            // The connection is asked as a whole, by PING.
            Self::Http2(_) => {}
        }
    }

    /// A tunnel was cut off: it is not to look ended.
    pub fn abort(&mut self, on: &Connection<'_>) {
        match self {
            Self::Http1(_) => {
                if let Ok(stream) = on.stream() {
                    stream.reset_on_close();
                }
            }
            // A stream that is dropped before its end is reset.
            Self::Http2(_) => {}
        }
    }
}

impl EndpointHalf for Upstream {
    fn poll_room(
        &mut self,
        cx: &mut Context<'_>,
        on: &Connection<'_>,
        at_hand: usize,
    ) -> Poll<Result<usize, Error>> {
        match self {
            Self::Http1(half) => half.poll_room(cx, on, at_hand),
            Self::Http2(half) => half.poll_room(cx, on, at_hand),
        }
    }

    fn send(&mut self, frame: Frame, end: bool) {
        match self {
            Self::Http1(half) => half.send(frame, end),
            Self::Http2(half) => half.send(frame, end),
        }
    }

    fn poll_sent(&mut self, cx: &mut Context<'_>, on: &Connection<'_>) -> Poll<Result<(), Error>> {
        match self {
            Self::Http1(half) => half.poll_sent(cx, on),
            Self::Http2(half) => half.poll_sent(cx, on),
        }
    }

    fn poll_head(&mut self, cx: &mut Context<'_>, on: &Connection<'_>) -> Poll<Result<Head, Error>> {
        match self {
            Self::Http1(half) => half.poll_head(cx, on),
            Self::Http2(half) => half.poll_head(cx, on),
        }
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        on: &Connection<'_>,
        most: usize,
    ) -> Poll<Option<Result<Frame, Error>>> {
        match self {
            Self::Http1(half) => half.poll_frame(cx, on, most),
            Self::Http2(half) => half.poll_frame(cx, on, most),
        }
    }

    fn is_ended(&self) -> bool {
        match self {
            Self::Http1(half) => half.is_ended(),
            Self::Http2(half) => half.is_ended(),
        }
    }

    fn release(&mut self, bytes: usize) {
        match self {
            Self::Http1(half) => half.release(bytes),
            Self::Http2(half) => half.release(bytes),
        }
    }

    fn is_touched(&self) -> bool {
        match self {
            Self::Http1(half) => half.is_touched(),
            Self::Http2(half) => half.is_touched(),
        }
    }

    fn has_answered(&self) -> bool {
        match self {
            Self::Http1(half) => half.has_answered(),
            Self::Http2(half) => half.has_answered(),
        }
    }

    fn taken(&self) -> u64 {
        match self {
            Self::Http1(half) => half.taken(),
            Self::Http2(half) => half.taken(),
        }
    }
}
