//! The client's side of an exchange across the bridge where the client speaks HTTP/1.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::response::Parts;

use super::answer::{poll_read, poll_write};
use super::chunked::{self, Chunked, Output};
use super::head::{Framing, Version};
use super::translate;
use crate::model::method::Method;
use crate::proxy::bridge::{ClientHalf, Frame, websocket};
use crate::proxy::buffer::{BLOCK, Buffer};
use crate::proxy::connection::Client;
use crate::proxy::error::{Error, Refusal};
use crate::runtime::listener::Listener;

/// How the request's body is read.
#[derive(Debug)]
enum Coding {
    /// So many bytes are left to come.
    Length(u64),
    Chunked(Chunked),
    /// A tunnel, until the client ends its direction.
    Raw {
        ended: bool,
    },
}

/// How the answer's body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writing {
    /// None has been begun, or none is to be.
    Nothing,
    /// So many bytes are left to come.
    Length(u64),
    Chunked,
    UntilClose,
    /// A tunnel.
    Raw,
    /// The end of a tunnel waits for the bytes before it.
    Ending,
}

/// What a half is made from.
pub(super) struct Beginning<'c> {
    /// The client.
    pub(super) client: &'c Client,
    /// Its listener.
    pub(super) listener: &'c Listener,
    /// What has come behind the head.
    pub(super) input: Buffer,
    /// How the body ends.
    pub(super) framing: Framing,
    /// What a chunked one may have.
    pub(super) limits: chunked::Limits,
    /// The version of the request.
    pub(super) version: Version,
    /// Its method.
    pub(super) method: Method,
    /// `Sec-WebSocket-Key`, where it asks for a tunnel.
    pub(super) key: Option<Box<[u8]>>,
    /// Whether the connection closes after the answer.
    pub(super) close: bool,
}

/// A request of an HTTP/1 client, and the answer on its way to it.
pub struct Half<'c> {
    client: &'c Client,
    listener: &'c Listener,
    input: Buffer,
    coding: Coding,
    version: Version,
    to_head: bool,
    key: Option<Box<[u8]>>,
    out: Buffer,
    writing: Writing,
    close: bool,
}

impl<'c> Half<'c> {
    pub(super) fn new(beginning: Beginning<'c>) -> Self {
        let Beginning { client, listener, input, framing, limits, version, method, key, close } = beginning;
        let coding = match framing {
            _ if key.is_some() => Coding::Raw { ended: false },
            Framing::None | Framing::UntilClose => Coding::Length(0),
            Framing::Length(length) => Coding::Length(length),
            Framing::Chunked => Coding::Chunked(Chunked::new(Output::Frames, limits)),
        };
        Self {
            client,
            listener,
            input,
            coding,
            version,
            to_head: method == Method::Head,
            key,
            out: Buffer::default(),
            writing: Writing::Nothing,
            close,
        }
    }

    /// What is left of the connection: bytes behind the request, and whether it closes.
    pub(super) fn into_rest(self) -> (Buffer, bool) {
        (self.input, self.close)
    }

    /// What has come and can go on.
    fn decode(&mut self) -> Result<Option<Frame>, Refusal> {
        let here = self.input.len();
        let n = match &mut self.coding {
            Coding::Length(left) => {
                let n = usize::try_from(*left).map_or(here, |left| left.min(here));
                *left -= n as u64;
                n
            }
            Coding::Raw { .. } => here,
            Coding::Chunked(chunked) => {
                let turn = chunked.turn(self.input.bytes_mut())?;
                let data = Bytes::copy_from_slice(&self.input.bytes()[..turn.produced]);
                self.input.consume(turn.consumed);
                if !data.is_empty() {
                    return Ok(Some(Frame::Data(data)));
                }
                let section = chunked.take_trailers();
                let trailers = section.map(|section| translate::trailers(&section)).transpose();
                let trailers =
                    trailers.map_err(|_| Refusal::Malformed("the trailer section is malformed"))?;
                return Ok(trailers.map(Frame::Trailers));
            }
        };
        if n == 0 {
            return Ok(None);
        }
        let data = Bytes::copy_from_slice(&self.input.bytes()[..n]);
        self.input.consume(n);
        Ok(Some(Frame::Data(data)))
    }

    /// Whether nothing more of the body is to be read.
    fn is_complete(&self) -> bool {
        match &self.coding {
            Coding::Length(left) => *left == 0,
            Coding::Chunked(chunked) => chunked.is_done(),
            Coding::Raw { ended } => *ended,
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>, below: usize) -> Poll<Result<(), Error>> {
        while self.out.len() >= below.max(1) {
            match ready!(poll_write(cx, &self.client.stream, self.out.bytes())) {
                Ok(n) => self.out.consume(n),
                Err(_) => return Poll::Ready(Err(Error::ClientGone)),
            }
        }
        self.out.shrink();
        Poll::Ready(Ok(()))
    }

    /// How the answer's body will end (RFC 9112 section 6).
    fn settle(&mut self, head: &Parts, end: bool) -> Framing {
        let bodiless = self.to_head || matches!(head.status.as_u16(), 204 | 304);
        let framing = match translate::content_length(head) {
            _ if bodiless => Framing::None,
            Some(length) => Framing::Length(length),
            None if end => Framing::Length(0),
            None if self.version == Version::Http11 => Framing::Chunked,
            None => Framing::UntilClose,
        };
        self.writing = match framing {
            Framing::None => Writing::Nothing,
            Framing::Length(length) => Writing::Length(length),
            Framing::Chunked => Writing::Chunked,
            Framing::UntilClose => Writing::UntilClose,
        };
        framing
    }

    fn put_data(&mut self, data: &[u8]) -> Result<(), Error> {
        match &mut self.writing {
            Writing::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(Error::Truncated)?;
                self.out.put(data);
            }
            Writing::Chunked if !data.is_empty() => {
                self.out.put(format!("{:x}\r\n", data.len()).as_bytes());
                self.out.put(data);
                self.out.put(b"\r\n");
            }
            Writing::UntilClose | Writing::Raw => self.out.put(data),
            Writing::Chunked | Writing::Nothing | Writing::Ending => {}
        }
        Ok(())
    }

    fn put_end(&mut self, trailers: Option<&http::HeaderMap>) -> Result<(), Error> {
        self.writing = match self.writing {
            // It waits for bytes that never come.
            Writing::Length(1..) => return Err(Error::Truncated),
            Writing::Chunked => {
                self.out.put(b"0\r\n");
                match trailers {
                    Some(trailers) => translate::put_trailers(&mut self.out, trailers),
                    None => self.out.put(b"\r\n"),
                }
                Writing::Nothing
            }
            Writing::Raw => Writing::Ending,
            _ => Writing::Nothing,
        };
        Ok(())
    }
}

impl ClientHalf for Half<'_> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, Error>>> {
        loop {
            match self.decode() {
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Ok(None) if self.is_complete() => return Poll::Ready(None),
                Ok(None) => {}
                Err(refusal) => return Poll::Ready(Some(Err(refusal.into()))),
            }
            if !self.input.make_room(self.listener.head_max.max(BLOCK)) {
                return Poll::Ready(Some(Err(Refusal::HeadTooLarge.into())));
            }
            match poll_read(cx, &self.client.stream, &mut self.input) {
                Poll::Ready(Ok(0)) if matches!(self.coding, Coding::Raw { .. }) => {
                    self.coding = Coding::Raw { ended: true };
                }
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Some(Err(Error::ClientGone))),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => {
                    self.input.shrink();
                    return Poll::Pending;
                }
            }
        }
    }

    fn is_ended(&self) -> bool {
        self.is_complete() && !matches!(&self.coding, Coding::Chunked(chunked) if chunked.has_trailers())
    }

    // What has been taken is what the client is asked for next.
    fn release(&mut self, _: usize) {}

    fn poll_room(&mut self, cx: &mut Context<'_>, _: usize) -> Poll<Result<usize, Error>> {
        ready!(self.poll_flush(cx, BLOCK))?;
        Poll::Ready(Ok(BLOCK))
    }

    fn send_interim(&mut self, head: Parts) -> Result<(), Error> {
        if self.version == Version::Http11 {
            translate::put_status(&mut self.out, head.status);
            translate::put_fields(&mut self.out, &head, Framing::None);
            self.out.put(b"\r\n");
        }
        Ok(())
    }

    fn send_head(&mut self, head: Parts, end: bool) -> Result<(), Error> {
        let out = &mut self.out;
        if let Some(key) = self.key.take_if(|_| head.status.is_success()) {
            self.close = true;
            self.writing = Writing::Raw;
            translate::put_status(out, http::StatusCode::SWITCHING_PROTOCOLS);
            translate::put_fields(out, &head, Framing::None);
            out.put(b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ");
            out.put(&websocket::accept(&key));
            out.put(b"\r\n\r\n");
            return Ok(());
        }
        if self.key.is_some() {
            // It stays a request without a body.
            self.coding = Coding::Length(0);
        }
        let framing = self.settle(&head, end);
        // An answer before the end of the request: what is left of it may never be read.
        self.close |= framing == Framing::UntilClose || !self.is_ended() || self.client.is_leaving();
        let out = &mut self.out;
        translate::put_status(out, head.status);
        translate::put_fields(out, &head, framing);
        match (self.close, self.version) {
            (true, _) => out.put(b"Connection: close\r\n"),
            (false, Version::Http10) => out.put(b"Connection: keep-alive\r\n"),
            (false, Version::Http11) => {}
        }
        out.put(b"\r\n");
        Ok(())
    }

    fn send(&mut self, frame: Frame, end: bool) -> Result<(), Error> {
        match frame {
            Frame::Data(data) => {
                self.put_data(&data)?;
                if end { self.put_end(None) } else { Ok(()) }
            }
            Frame::Trailers(trailers) => self.put_end(Some(&trailers)),
        }
    }

    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.poll_flush(cx, 0))?;
        if self.writing == Writing::Ending {
            self.writing = Writing::Nothing;
            self.client.stream.end_sending();
        }
        Poll::Ready(Ok(()))
    }

    /// What the client sends meanwhile is kept, up to half a block.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Whoever reads the body sees it.
        if !self.is_complete() && self.key.is_none() {
            return Poll::Pending;
        }
        if matches!(self.coding, Coding::Raw { ended: true }) {
            return Poll::Pending;
        }
        loop {
            // Asked first: an idle client costs no buffer.
            if ready!(self.client.stream.poll_read_ready(cx)).is_err() {
                return Poll::Ready(());
            }
            if self.input.len() >= BLOCK / 2 || !self.input.make_room(BLOCK) {
                return Poll::Pending;
            }
            match self.input.read_from(&self.client.stream) {
                Ok(0) => return Poll::Ready(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.input.shrink(),
                Err(_) => return Poll::Ready(()),
            }
        }
    }

    fn abort(&mut self, _: &Error) {
        self.close = true;
        self.client.stream.reset_on_close();
    }
}
