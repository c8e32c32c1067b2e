//! What h2 reads from and writes to: the client's connection, with everything that passes counted, and with a bound on
//! what is handed over for a client that does not read.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::traffic::{Refused, Traffic};
use crate::proxy::stream::Stream;
use crate::runtime::limits::{Flood, Http2Limits};

/// What the streams of a connection and its wire share.
#[derive(Debug)]
pub struct Gate {
    traffic: RefCell<Traffic>,
    /// The client's socket takes nothing more now.
    blocked: Cell<bool>,
    /// Bytes of answers that may still be handed over in this turn.
    left: Cell<usize>,
    /// Those who wait for the next turn.
    waiting: RefCell<Vec<Waker>>,
    send_buffer: usize,
}

impl Gate {
    /// Open.
    #[must_use]
    pub fn new(limits: Http2Limits, now: Instant) -> Self {
        Self {
            traffic: RefCell::new(Traffic::new(limits, now)),
            blocked: Cell::new(false),
            left: Cell::new(limits.send_buffer),
            waiting: RefCell::default(),
            send_buffer: limits.send_buffer,
        }
    }

    /// A turn of the connection begins: what was handed over in the last one is on its way, unless the socket takes no
    /// more. So h2 never holds more than one turn's worth, whatever windows the client opens.
    pub fn begin_turn(&self) {
        if self.blocked.get() {
            self.left.set(0);
            return;
        }
        self.left.set(self.send_buffer);
        self.waiting.borrow_mut().drain(..).for_each(Waker::wake);
    }

    /// How many bytes of an answer may be handed over.
    pub fn poll_left(&self, cx: &mut Context<'_>) -> Poll<usize> {
        match self.left.get() {
            0 => {
                let mut waiting = self.waiting.borrow_mut();
                if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                    waiting.push(cx.waker().clone());
                }
                Poll::Pending
            }
            left => Poll::Ready(left),
        }
    }

    /// So many bytes have been handed over.
    pub fn handed_over(&self, n: usize) {
        self.left.set(self.left.get().saturating_sub(n));
    }

    /// The request of this stream has been accepted.
    pub fn accepted(&self, stream: u32) {
        self.traffic.borrow_mut().accepted(stream);
    }

    /// A request was cancelled before its answer.
    pub fn cancelled(&self) {
        self.traffic.borrow_mut().cancelled(Instant::now());
    }

    /// What the client has done too much of.
    #[must_use]
    pub fn flood(&self) -> Option<Flood> {
        self.traffic.borrow().flood()
    }

    /// When the head or frame began that has not ended yet.
    #[must_use]
    pub fn head_since(&self) -> Option<Instant> {
        self.traffic.borrow().head_since()
    }

    /// What h2 has refused since this was asked last.
    pub fn take_refused(&self) -> Refused {
        self.traffic.borrow_mut().take_refused()
    }
}

/// The connection as h2 sees it.
#[derive(Debug)]
pub struct Wire<'a> {
    stream: &'a Stream,
    gate: &'a Gate,
}

impl<'a> Wire<'a> {
    /// Over `stream`, counted by `gate`.
    #[must_use]
    pub const fn new(stream: &'a Stream, gate: &'a Gate) -> Self {
        Self { stream, gate }
    }
}

impl AsyncRead for Wire<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.gate.flood().is_some() {
            // Nothing of it is worked on any more; whoever serves the connection ends it.
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        ready!(self.stream.poll_read(cx, buffer))?;
        let mut traffic = self.gate.traffic.borrow_mut();
        traffic.received(buffer.filled().get(before..).unwrap_or_default(), Instant::now());
        if traffic.flood().is_some() {
            buffer.set_filled(before);
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire<'_> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = self.stream.poll_write_vectored(cx, pieces);
        self.gate.blocked.set(polled.is_pending());
        let n = ready!(polled)?;
        let (mut traffic, now) = (self.gate.traffic.borrow_mut(), Instant::now());
        let mut left = n;
        for piece in pieces {
            let here = left.min(piece.len());
            traffic.sent(&piece[..here], now);
            left -= here;
        }
        Poll::Ready(Ok(n))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = self.stream.poll_flush(cx);
        // TLS takes more than the socket does: what it still holds is only gone once this says so.
        self.gate.blocked.set(polled.is_pending());
        polled
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_shutdown(cx)
    }
}
