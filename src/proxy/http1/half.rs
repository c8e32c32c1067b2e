//! The endpoint's side of an exchange across the bridge where the endpoint speaks HTTP/1.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};

use super::answer::{AnswerBody, poll_read, poll_write};
use super::chunked::{self, Output};
use super::encode::RequestEdits;
use super::fields::{Kind, list_elements};
use super::head::{Framing, Limits, ResponseHead, TOO_MANY_FIELDS, parse_response};
use super::scan::{Scan, Scanner};
use super::translate;
use crate::model::method::Method;
use crate::proxy::attempt::Connection;
use crate::proxy::bridge::request::Request;
use crate::proxy::bridge::{EndpointHalf, Frame, Head, websocket};
use crate::proxy::buffer::{BLOCK, Buffer};
use crate::proxy::error::Error;
use crate::proxy::upstream::dial;
use crate::proxy::worker::Worker;
use crate::runtime::counters::WorkerId;

/// How the request's body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    /// So many bytes are left to come.
    Length(u64),
    Chunked,
    /// A tunnel, once the endpoint has switched.
    Raw,
    /// All of it has been written.
    Ended,
    /// Our direction is shut.
    Shut,
}

/// One attempt on an HTTP/1 endpoint.
#[derive(Debug)]
pub struct Half {
    worker: WorkerId,
    /// The head, and what of the body goes with it.
    out: Buffer,
    coding: Coding,
    taken: u64,
    /// The endpoint takes no more; it may still have answered.
    refused: bool,
    answer: Buffer,
    scanner: Scanner,
    to_head: bool,
    /// The proof that the endpoint has understood our WebSocket handshake.
    accept: Option<[u8; 28]>,
    body: Option<AnswerBody>,
    heads: u32,
    persistent: bool,
    keep_alive: Option<u32>,
}

impl Half {
    /// A request on its way.
    #[must_use]
    pub fn new(worker: &Worker, request: &Request, edits: &RequestEdits<'_>) -> Self {
        let key = request.websocket.then(|| websocket::key([worker.random(), worker.random()]));
        let mut out = Buffer::default();
        translate::put_request(&mut out, request, edits, key.as_ref().map(|key| &key[..]));
        let coding = match request.framing {
            _ if request.websocket => Coding::Raw,
            Framing::None => Coding::Ended,
            Framing::Length(length) => Coding::Length(length),
            Framing::Chunked | Framing::UntilClose => Coding::Chunked,
        };
        Self {
            worker: worker.id,
            out,
            coding,
            taken: 0,
            refused: false,
            answer: Buffer::default(),
            scanner: Scanner::default(),
            to_head: request.method == Method::Head,
            accept: key.map(|key| websocket::accept(&key)),
            body: None,
            heads: 0,
            persistent: false,
            keep_alive: None,
        }
    }

    /// How long the connection may be kept for another request, at most so long; nothing where it can carry none.
    #[must_use]
    pub fn keep(&self, most: Duration) -> Option<Duration> {
        let sent = self.coding == Coding::Ended && self.out.is_empty() && !self.refused;
        let clean = self.body.as_ref().is_some_and(|body| body.is_done() && !body.has_surplus());
        (sent && clean && self.persistent).then(|| dial::keep_alive(most, self.keep_alive))
    }

    fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        on: &Connection<'_>,
        below: usize,
    ) -> Poll<Result<(), Error>> {
        while self.out.len() >= below.max(1) {
            match poll_write(cx, on.stream()?, self.out.bytes()) {
                Poll::Ready(Ok(n)) => {
                    self.taken += n as u64;
                    self.out.consume(n);
                }
                Poll::Ready(Err(_)) => {
                    self.refused = true;
                    return Poll::Ready(Err(Error::Reset));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        self.out.shrink();
        Poll::Ready(Ok(()))
    }

    /// Bytes of a complete head.
    fn poll_scan(&mut self, cx: &mut Context<'_>, on: &Connection<'_>) -> Poll<Result<usize, Error>> {
        let limits = &on.place.pool.limits;
        let most = limits.answer_head;
        loop {
            match self.scanner.scan(self.answer.bytes()) {
                Scan::Complete(length) if length <= most => return Poll::Ready(Ok(length)),
                Scan::BareLf => return Poll::Ready(Err(Error::Answer("a line does not end in CRLF"))),
                Scan::Partial | Scan::StartLine(_)
                    if self.answer.len() <= most && self.answer.make_room(most) => {}
                Scan::Complete(_) | Scan::Partial | Scan::StartLine(_) => {
                    on.place.pool.live.counters.of(self.worker).answer_head_exceeded.one();
                    return Poll::Ready(Err(Error::Answer("its header section is too large")));
                }
            }
            match poll_read(cx, on.stream()?, &mut self.answer) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(Error::Reset)),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => {
                    self.answer.shrink();
                    return Poll::Pending;
                }
            }
        }
    }

    fn parse(&self, on: &Connection<'_>, bytes: &[u8]) -> Result<ResponseHead, Error> {
        let own = &on.place.pool.limits;
        let limits = Limits { head: own.answer_head, fields: own.answer_fields, target: 0 };
        parse_response(bytes, &limits, self.to_head, Vec::with_capacity(16)).map_err(|why| {
            if why == TOO_MANY_FIELDS {
                on.place.pool.live.counters.of(self.worker).answer_fields_exceeded.one();
            }
            Error::Answer(why)
        })
    }

    /// The head that `bytes` are, in neutral form.
    fn read_head(&mut self, on: &Connection<'_>, length: usize) -> Result<Head, Error> {
        let bytes = &self.answer.bytes()[..length];
        let mut head = self.parse(on, bytes)?;
        let mut parts = translate::response_parts(bytes, &head)?;
        match (head.status, &self.accept) {
            (101, Some(accept)) => {
                parts = translate::switched(parts, names_websocket(bytes, &head), accept)?;
                head.framing = Framing::UntilClose;
            }
            (101, None) => {
                return Err(Error::Answer("it switches to a protocol that was not asked for"));
            }
            // It has answered in order, only to something else than it was asked: to the client success would mean that
            // there is a tunnel. What it says is not passed on.
            (200..=299, Some(_)) => {
                parts = Response::new(()).into_parts().0;
                parts.status = StatusCode::NOT_IMPLEMENTED;
                head.framing = Framing::None;
                head.persistent = false;
            }
            _ => {}
        }
        self.answer.consume(length);
        self.scanner = Scanner::default();
        self.heads += 1;
        if parts.status.is_informational() {
            return Ok(Head { parts, end: false });
        }
        self.persistent = head.persistent;
        self.keep_alive = head.keep_alive;
        self.begin_body(on, head.framing)?;
        let end = head.framing == Framing::None;
        Ok(Head { parts, end })
    }

    fn begin_body(&mut self, on: &Connection<'_>, framing: Framing) -> Result<(), Error> {
        let limits = chunked::Limits {
            trailers: on.place.pool.limits.answer_head,
            fields: on.place.pool.limits.answer_fields,
            extensions: on.place.pool.limits.chunk_extensions,
        };
        let held = std::mem::take(&mut self.answer);
        let body = self.body.insert(AnswerBody::new(framing, held, Output::Frames, limits));
        // A body that is malformed from the start is still an error with a status.
        let staged = body.stage();
        self.count_extensions(on);
        staged
    }

    fn count_extensions(&self, on: &Connection<'_>) {
        if self.body.as_ref().is_some_and(AnswerBody::extensions_exceeded) {
            on.place.pool.live.counters.of(self.worker).extensions_exceeded.one();
        }
    }

    fn put_data(&mut self, data: &[u8]) {
        match &mut self.coding {
            Coding::Length(left) => {
                // Whoever counts on it has been told a length: no byte more goes, and the connection no further.
                let Some(rest) = left.checked_sub(data.len() as u64) else {
                    self.refused = true;
                    return;
                };
                *left = rest;
                self.out.put(data);
            }
            Coding::Chunked if !data.is_empty() => {
                self.out.put(format!("{:x}\r\n", data.len()).as_bytes());
                self.out.put(data);
                self.out.put(b"\r\n");
            }
            Coding::Raw => self.out.put(data),
            Coding::Chunked | Coding::Ended | Coding::Shut => {}
        }
    }

    fn put_end(&mut self, trailers: Option<&HeaderMap>) {
        match self.coding {
            Coding::Chunked => {
                self.out.put(b"0\r\n");
                match trailers {
                    Some(trailers) => translate::put_trailers(&mut self.out, trailers),
                    None => self.out.put(b"\r\n"),
                }
            }
            // It will wait for the rest, which never comes.
            Coding::Length(1..) => self.refused = true,
            Coding::Length(0) | Coding::Raw | Coding::Ended | Coding::Shut => {}
        }
        self.coding = Coding::Ended;
    }
}

/// Whether an answer switches to WebSocket and to nothing else.
fn names_websocket(bytes: &[u8], head: &ResponseHead) -> bool {
    let mut named = head
        .fields
        .iter()
        .filter(|f| f.kind == Kind::Upgrade)
        .flat_map(|f| list_elements(f.value.get(bytes)));
    head.upgrade
        && named.next().is_some_and(|p| p.eq_ignore_ascii_case(b"websocket"))
        && named.next().is_none()
}

impl EndpointHalf for Half {
    fn poll_room(
        &mut self,
        cx: &mut Context<'_>,
        on: &Connection<'_>,
        _: usize,
    ) -> Poll<Result<usize, Error>> {
        if self.refused {
            return Poll::Ready(Err(Error::Reset));
        }
        ready!(self.poll_flush(cx, on, BLOCK))?;
        Poll::Ready(Ok(BLOCK))
    }

    fn send(&mut self, frame: Frame, end: bool) {
        match frame {
            Frame::Data(data) => {
                self.put_data(&data);
                if end {
                    self.put_end(None);
                }
            }
            Frame::Trailers(trailers) => self.put_end(Some(&trailers)),
        }
    }

    fn poll_sent(&mut self, cx: &mut Context<'_>, on: &Connection<'_>) -> Poll<Result<(), Error>> {
        if self.refused {
            return Poll::Ready(Err(Error::Reset));
        }
        ready!(self.poll_flush(cx, on, 0))?;
        if self.coding == Coding::Ended && self.accept.is_some() {
            self.coding = Coding::Shut;
            on.stream()?.end_sending();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_head(&mut self, cx: &mut Context<'_>, on: &Connection<'_>) -> Poll<Result<Head, Error>> {
        let length = ready!(self.poll_scan(cx, on))?;
        Poll::Ready(self.read_head(on, length))
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        on: &Connection<'_>,
        most: usize,
    ) -> Poll<Option<Result<Frame, Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let stream = match on.stream() {
            Ok(stream) => stream,
            Err(error) => return Poll::Ready(Some(Err(error))),
        };
        if let Err(error) = ready!(body.poll_staged(cx, stream)) {
            self.count_extensions(on);
            return Poll::Ready(Some(Err(error)));
        }
        let staged = body.staged();
        if staged.is_empty() {
            let trailers = body.take_trailers().map(|section| translate::trailers(&section));
            return Poll::Ready(trailers.map(|trailers| trailers.map(Frame::Trailers)));
        }
        let n = staged.len().min(most);
        let data = Bytes::copy_from_slice(&staged[..n]);
        body.sent(n);
        Poll::Ready(Some(Ok(Frame::Data(data))))
    }

    fn is_ended(&self) -> bool {
        self.body.as_ref().is_some_and(|body| body.is_done() && !body.has_trailers())
    }

    fn release(&mut self, _: usize) {}

    fn is_touched(&self) -> bool {
        self.taken > 0
    }

    fn has_answered(&self) -> bool {
        self.heads > 0 || !self.answer.is_empty()
    }

    fn taken(&self) -> u64 {
        self.taken
    }
}
