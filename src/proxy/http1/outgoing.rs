//! A request on its way to its endpoint: head and body sent as far as the endpoint takes them, the body copied while
//! small and spliced once large, the client watched once all of it has come.

use std::io;
use std::task::{Context as TaskContext, Poll, ready};

use super::answer::{poll_read, poll_write};
use super::exchange::Exchange;
use crate::proxy::buffer::{BLOCK, Buffer};
use crate::proxy::error::{Error, Refusal};
use crate::proxy::stream::{Socket, Stream};
use crate::proxy::tcp::splice::{self, Broke, Splice, Turn};

/// What goes to the endpoint before anything else does.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// The head, and what of the body goes with it.
    pub(super) out: Buffer,
    /// Staged bytes of the body at the end of `out`. They stay in the input until all of `out` has been taken, so that
    /// an attempt that fails before has lost nothing.
    pub(super) staged: usize,
    /// Bytes that the endpoint's socket has taken.
    pub(super) taken: u64,
    /// The endpoint takes no more; it may still have answered.
    pub(super) refused: bool,
}

impl Exchange<'_> {
    /// Sends what can be sent; ready once all has been, or nothing more will be.
    pub(super) fn poll_send(
        &mut self,
        cx: &mut TaskContext<'_>,
        endpoint: &Stream,
        going: &mut Outgoing,
    ) -> Poll<Result<(), Error>> {
        let mut budget = splice::TURN;
        while !going.refused {
            let moved = if going.out.is_empty() {
                ready!(self.poll_upload(cx, endpoint))
            } else {
                ready!(self.poll_outgoing(cx, endpoint, going))
            };
            match moved {
                Ok(0) => return Poll::Ready(Ok(())),
                Ok(n) => {
                    going.taken += n as u64;
                    budget = budget.saturating_sub(n);
                    if budget == 0 {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                }
                Err(Error::Reset) => going.refused = true,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Sends some of the head and of what goes with it.
    fn poll_outgoing(
        &mut self,
        cx: &mut TaskContext<'_>,
        endpoint: &Stream,
        going: &mut Outgoing,
    ) -> Poll<Result<usize, Error>> {
        let Ok(n) = ready!(poll_write(cx, endpoint, going.out.bytes())) else {
            return Poll::Ready(Err(Error::Reset));
        };
        going.out.consume(n);
        if going.out.is_empty() {
            going.out.shrink();
            self.upload.sent(self.input, std::mem::take(&mut going.staged));
        }
        Poll::Ready(Ok(n))
    }

    /// Moves some of the body from the client to the endpoint; 0 when all of it has gone.
    fn poll_upload(&mut self, cx: &mut TaskContext<'_>, endpoint: &Stream) -> Poll<Result<usize, Error>> {
        loop {
            self.upload.stage(self.input)?;
            let staged = self.upload.staged(self.input);
            if !staged.is_empty() {
                return match poll_write(cx, endpoint, staged) {
                    Poll::Ready(Ok(n)) => {
                        self.upload.sent(self.input, n);
                        Poll::Ready(Ok(n))
                    }
                    Poll::Ready(Err(_)) => Poll::Ready(Err(Error::Reset)),
                    Poll::Pending => Poll::Pending,
                };
            }
            if self.upload.is_complete() {
                return Poll::Ready(Ok(0));
            }
            let left = self.upload.splicable();
            if let (Some(client), Some(endpoint)) = (self.client.stream.plain(), endpoint.plain())
                && self.input.is_empty()
                && (left >= splice::WORTHWHILE || (self.splice.is_some() && left > 0))
            {
                match ready!(self.poll_splice(cx, client, endpoint, left)) {
                    Ok(Some(n)) => return Poll::Ready(Ok(n)),
                    Ok(None) => {}
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            if !self.input.make_room(self.listener.head_max.max(BLOCK)) {
                return Poll::Ready(Err(Error::Refused(Refusal::HeadTooLarge)));
            }
            match poll_read(cx, &self.client.stream, self.input) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(Error::ClientGone)),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => {
                    self.input.shrink();
                    return Poll::Pending;
                }
            }
        }
    }

    /// Moves some of a large body from socket to socket; nothing when it must be copied.
    fn poll_splice(
        &mut self,
        cx: &mut TaskContext<'_>,
        client: &Socket,
        endpoint: &Socket,
        left: u64,
    ) -> Poll<Result<Option<usize>, Error>> {
        self.input.shrink();
        let splice = self.splice.get_or_insert_with(|| Box::new(Splice::new(self.worker.pipes.clone())));
        Poll::Ready(match ready!(splice.poll_turn(cx, client, endpoint, left)) {
            Ok(Turn::Moved(n)) => {
                self.upload.spliced(n);
                Ok(Some(usize::try_from(n).unwrap_or(usize::MAX)))
            }
            Ok(Turn::NoPipe) => {
                self.splice = None;
                Ok(None)
            }
            Ok(Turn::End) | Err(Broke::Source) => Err(Error::ClientGone),
            Err(Broke::Sink) => Err(Error::Reset),
        })
    }

    /// Ready when the client has left. What it sends meanwhile is kept, up to one block.
    pub(super) fn poll_gone(&mut self, cx: &mut TaskContext<'_>) -> Poll<()> {
        loop {
            // Asked first: an idle client costs no buffer.
            match self.client.stream.poll_read_ready(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) => {}
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
}
