//! The neutral bridge between a client and an endpoint that do not both speak HTTP/1: each side is a half that knows its
//! own protocol, and the exchange between them is written once, over frames.
//!
//! Heads are neutral too: an upgrade to WebSocket is an extended CONNECT (RFC 8441) whatever the sides speak, and the
//! answer that grants it has status 200.

pub mod exchange;
pub mod request;
pub mod tunnel;
pub mod upload;
pub mod websocket;

use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http::response::Parts;

use super::attempt::Connection;
use super::error::Error;

/// A piece of a body.
#[derive(Debug)]
pub enum Frame {
    /// Some of its bytes; of a tunnel, bytes of whatever is spoken in it.
    Data(Bytes),
    /// The fields behind it, which are its end. Only those that may go on.
    Trailers(HeaderMap),
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
    /// How many bytes of the answer's body may be given now; never none.
    ///
    /// # Errors
    /// [`Error::ClientGone`].
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Error>>;
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
    /// How many bytes of the request's body may be given now; never none.
    ///
    /// # Errors
    /// [`Error::Reset`] when the endpoint takes no more of the request. It may still have answered, so that
    /// [`EndpointHalf::poll_head`] decides what came of it.
    fn poll_room(&mut self, cx: &mut Context<'_>, on: &Connection<'_>) -> Poll<Result<usize, Error>>;
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
