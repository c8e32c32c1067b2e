//! An answer on its way from the endpoint to the client: of known length, chunked, or until the connection closes.

use std::io;
use std::task::{Context, Poll, ready};

use super::chunked::{Chunked, Limits, Output};
use super::head::Framing;
use crate::proxy::buffer::{BLOCK, Buffer};
use crate::proxy::error::{Error, Refusal};
use crate::proxy::stream::{Socket, Stream};
use crate::proxy::tcp::splice::{self, Broke, Pipes, Splice, Turn};

/// The body of an answer. Bytes at the front of `held` are *staged* once they have been checked.
#[derive(Debug)]
pub struct AnswerBody {
    coding: Coding,
    held: Buffer,
    staged: usize,
    consumed: usize,
    splice: Option<Box<Splice>>,
    /// There is no pipe to be had.
    copy_only: bool,
    moved: u64,
    trailers_max: usize,
    extensions_exceeded: bool,
}

#[derive(Debug)]
enum Coding {
    Length(u64),
    Chunked(Chunked),
    UntilClose { ended: bool },
}

/// Which side an answer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// The endpoint has nothing yet.
    Endpoint,
    /// The client takes nothing now.
    Client,
}

impl AnswerBody {
    /// A body of which `held` is what has come with the head.
    #[must_use]
    pub fn new(framing: Framing, held: Buffer, output: Output, limits: Limits) -> Self {
        let coding = match framing {
            Framing::None => Coding::Length(0),
            Framing::Length(length) => Coding::Length(length),
            Framing::Chunked => Coding::Chunked(Chunked::new(output, limits)),
            Framing::UntilClose => Coding::UntilClose { ended: false },
        };
        Self {
            coding,
            held,
            staged: 0,
            consumed: 0,
            splice: None,
            copy_only: false,
            moved: 0,
            trailers_max: limits.trailers,
            extensions_exceeded: false,
        }
    }

    /// Bytes of the body that have gone on.
    #[must_use]
    pub const fn moved(&self) -> u64 {
        self.moved
    }

    /// Whether all of it has gone on.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.staged == 0 && self.is_complete()
    }

    /// Whether the endpoint has sent more than the answer.
    #[must_use]
    pub fn has_surplus(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether it is its chunk extensions that made it invalid.
    #[must_use]
    pub const fn extensions_exceeded(&self) -> bool {
        self.extensions_exceeded
    }

    /// The trailer section of a body in frames, as lines with an empty one behind them; once.
    pub fn take_trailers(&mut self) -> Option<Box<[u8]>> {
        match &mut self.coding {
            Coding::Chunked(chunked) => chunked.take_trailers(),
            Coding::Length(_) | Coding::UntilClose { .. } => None,
        }
    }

    /// Whether there is a trailer section to take.
    #[must_use]
    pub fn has_trailers(&self) -> bool {
        matches!(&self.coding, Coding::Chunked(chunked) if chunked.has_trailers())
    }

    /// What has been checked and can go on.
    #[must_use]
    pub fn staged(&self) -> &[u8] {
        &self.held.bytes()[..self.staged]
    }

    /// Reads until something is staged, or there is nothing more to come.
    ///
    /// # Errors
    /// [`Error::Truncated`] and [`Error::Answer`].
    pub fn poll_staged(&mut self, cx: &mut Context<'_>, endpoint: &Stream) -> Poll<Result<(), Error>> {
        loop {
            self.stage()?;
            if self.staged > 0 || self.is_complete() {
                return Poll::Ready(Ok(()));
            }
            if let Err((_, error)) = ready!(self.poll_read(cx, endpoint)) {
                return Poll::Ready(Err(error.unwrap_or(Error::Truncated)));
            }
        }
    }

    /// Whether there is nothing more to come than what is staged.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        match &self.coding {
            Coding::Length(left) => *left == 0,
            Coding::Chunked(chunked) => chunked.is_done(),
            Coding::UntilClose { ended } => *ended,
        }
    }

    /// Puts what is there behind the head, if it is little enough for one write.
    ///
    /// # Errors
    /// [`Error::Answer`] when the body is malformed from the start.
    pub fn join(&mut self, out: &mut Buffer) -> Result<(), Error> {
        self.stage()?;
        if self.staged > 0 && out.len() + self.staged <= BLOCK {
            out.put(&self.held.bytes()[..self.staged]);
            self.sent(self.staged);
        }
        Ok(())
    }

    /// Checks what has come, unless something staged still waits to go on.
    ///
    /// # Errors
    /// [`Error::Answer`] when it is malformed.
    pub fn stage(&mut self) -> Result<(), Error> {
        if self.staged > 0 || self.held.is_empty() {
            return Ok(());
        }
        match &mut self.coding {
            Coding::Length(left) => {
                let n = usize::try_from(*left).map_or(self.held.len(), |left| left.min(self.held.len()));
                *left -= n as u64;
                self.staged = n;
                self.consumed = n;
            }
            Coding::Chunked(chunked) => {
                let turn = chunked.turn(self.held.bytes_mut()).map_err(|fault| {
                    self.extensions_exceeded = fault == Refusal::ExtensionsTooLarge;
                    Error::Answer("its chunked body is malformed")
                })?;
                self.staged = turn.produced;
                self.consumed = turn.consumed;
            }
            Coding::UntilClose { .. } => {
                self.staged = self.held.len();
                self.consumed = self.staged;
            }
        }
        self.drop_consumed();
        Ok(())
    }

    /// Notes that the first `n` staged bytes have gone on.
    pub fn sent(&mut self, n: usize) {
        self.moved += n as u64;
        self.held.consume(n);
        self.staged -= n;
        self.consumed -= n;
        self.drop_consumed();
    }

    fn drop_consumed(&mut self) {
        if self.staged == 0 {
            self.held.consume(self.consumed);
            self.consumed = 0;
        }
    }

    /// Bytes that can go from socket to socket unseen; 0 when none can, or too few to be worth it.
    fn splicable(&self) -> u64 {
        if self.copy_only {
            return 0;
        }
        let left = match &self.coding {
            Coding::Length(left) => *left,
            Coding::Chunked(chunked) => chunked.data_left(),
            // Unknown; splicing starts once copying has shown that it is large.
            Coding::UntilClose { ended: false } if self.moved >= splice::WORTHWHILE => u64::MAX,
            Coding::UntilClose { .. } => 0,
        };
        let going = self.splice.as_ref().is_some_and(|s| !s.is_empty());
        if self.held.is_empty()
            && (left >= splice::WORTHWHILE || going || (self.splice.is_some() && left > 0))
        {
            left
        } else {
            0
        }
    }

    /// Moves what can be moved, one turn at most; says which side it then waits for.
    ///
    /// # Errors
    /// [`Error::ClientGone`], or [`Error::Truncated`] and [`Error::Answer`] when the endpoint is to blame.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        endpoint: &Stream,
        client: &Stream,
        pipes: &Pipes,
    ) -> Poll<Result<(), (Waiting, Option<Error>)>> {
        let mut budget = splice::TURN;
        loop {
            self.stage().map_err(|error| (Waiting::Endpoint, Some(error)))?;
            if self.staged > 0 {
                match poll_write(cx, client, &self.held.bytes()[..self.staged]) {
                    Poll::Ready(Ok(n)) => {
                        self.sent(n);
                        budget = budget.saturating_sub(n);
                    }
                    Poll::Ready(Err(_)) => {
                        return Poll::Ready(Err((Waiting::Client, Some(Error::ClientGone))));
                    }
                    Poll::Pending => return Poll::Ready(Err((Waiting::Client, None))),
                }
                continue;
            }
            if self.is_complete() {
                return Poll::Ready(Ok(()));
            }
            if budget == 0 {
                cx.waker().wake_by_ref();
                return Poll::Ready(Err((Waiting::Endpoint, None)));
            }
            let moved = match (self.splicable(), endpoint.plain(), client.plain()) {
                (left @ 1.., Some(endpoint), Some(client)) => {
                    self.poll_splice(cx, endpoint, client, pipes, left)
                }
                _ => self.poll_read(cx, endpoint),
            };
            match moved {
                Poll::Ready(Ok(n)) => budget = budget.saturating_sub(n),
                Poll::Ready(Err(fault)) => return Poll::Ready(Err(fault)),
                Poll::Pending => return Poll::Ready(Err((self.waiting(), None))),
            }
        }
    }

    fn waiting(&self) -> Waiting {
        if self.splice.as_ref().is_some_and(|s| !s.is_empty()) { Waiting::Client } else { Waiting::Endpoint }
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        endpoint: &Stream,
    ) -> Poll<Result<usize, (Waiting, Option<Error>)>> {
        // What is held and not staged is the start of a size line or of a trailer section.
        if !self.held.make_room(self.trailers_max.max(BLOCK)) {
            return Poll::Ready(Err((
                Waiting::Endpoint,
                Some(Error::Answer("its trailer section is too large")),
            )));
        }
        match poll_read(cx, endpoint, &mut self.held) {
            Poll::Pending => {
                self.held.shrink();
                Poll::Pending
            }
            Poll::Ready(Ok(0)) => {
                self.held.shrink();
                Poll::Ready(self.end().map(|()| 0).map_err(|error| (Waiting::Endpoint, Some(error))))
            }
            Poll::Ready(Ok(n)) => Poll::Ready(Ok(n)),
            Poll::Ready(Err(_)) => Poll::Ready(Err((Waiting::Endpoint, Some(Error::Truncated)))),
        }
    }

    fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        endpoint: &Socket,
        client: &Socket,
        pipes: &Pipes,
        left: u64,
    ) -> Poll<Result<usize, (Waiting, Option<Error>)>> {
        self.held.shrink();
        let splice = self.splice.get_or_insert_with(|| Box::new(Splice::new(pipes.clone())));
        match ready!(splice.poll_turn(cx, endpoint, client, left)) {
            Ok(Turn::Moved(n)) => {
                self.moved += n;
                match &mut self.coding {
                    Coding::Length(left) => *left -= n,
                    Coding::Chunked(chunked) => chunked.skip_data(n),
                    Coding::UntilClose { .. } => {}
                }
                Poll::Ready(Ok(usize::try_from(n).unwrap_or(usize::MAX)))
            }
            Ok(Turn::End) => {
                Poll::Ready(self.end().map(|()| 0).map_err(|error| (Waiting::Endpoint, Some(error))))
            }
            Ok(Turn::NoPipe) => {
                self.copy_only = true;
                Poll::Ready(Ok(0))
            }
            Err(Broke::Sink) => Poll::Ready(Err((Waiting::Client, Some(Error::ClientGone)))),
            Err(Broke::Source) => Poll::Ready(Err((Waiting::Endpoint, Some(Error::Truncated)))),
        }
    }

    /// The endpoint has closed: the end of this body, or too early (RFC 9112 section 8).
    fn end(&mut self) -> Result<(), Error> {
        match &mut self.coding {
            Coding::UntilClose { ended } => {
                *ended = true;
                Ok(())
            }
            _ => Err(Error::Truncated),
        }
    }
}

/// Reads once behind what `buffer` holds; 0 is the end.
pub fn poll_read(cx: &mut Context<'_>, stream: &Stream, buffer: &mut Buffer) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_read_ready(cx))?;
        match buffer.read_from(stream) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return Poll::Ready(done),
        }
    }
}

/// Writes once.
pub fn poll_write(cx: &mut Context<'_>, stream: &Stream, bytes: &[u8]) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(cx))?;
        match stream.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return Poll::Ready(done),
        }
    }
}
