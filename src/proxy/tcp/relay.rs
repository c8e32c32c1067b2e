//! A relay of bytes in both directions with half-close: copied while small, spliced once large.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use super::splice::{self, Broke, Pipes, Splice, Turn};
use crate::proxy::buffer::{BLOCK, Buffer};
use crate::proxy::sessions::Cut;
use crate::proxy::stream::{Socket, Stream};
use crate::proxy::timer::Timer;

/// Why a relay ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Both sides have ended in order.
    Closed,
    /// The first side broke the connection.
    FirstBroke,
    /// The second side broke the connection.
    SecondBroke,
    /// No byte moved in either direction for too long.
    Idle,
    /// It was told to end.
    Cut(Cut),
}

/// How long a relay may last.
#[derive(Debug, Clone, Copy)]
pub struct Life {
    /// Without a byte in either direction.
    pub idle: Duration,
    /// In all.
    pub until: Option<Instant>,
}

impl Life {
    fn deadline(&self) -> Instant {
        let idle = Instant::now() + self.idle;
        self.until.map_or(idle, |until| until.min(idle))
    }

    fn is_over(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }
}

/// What a relay has moved so far; whoever runs it reads it at any time, also after the relay was dropped.
#[derive(Debug, Default)]
pub struct Moved {
    forth: Cell<u64>,
    back: Cell<u64>,
}

impl Moved {
    /// Bytes from the first to the second side.
    #[must_use]
    pub fn forth(&self) -> u64 {
        self.forth.get()
    }

    /// Bytes from the second to the first side.
    #[must_use]
    pub fn back(&self) -> u64 {
        self.back.get()
    }

    fn sum(&self) -> u64 {
        self.forth() + self.back()
    }
}

/// Reads in a row that filled their block before a direction is spliced: bulk, not conversation.
const FULL_READS: u8 = 2;

/// One direction. Between bytes it holds neither buffer nor pipe.
#[derive(Debug)]
struct Direction {
    held: Buffer,
    splice: Option<Box<Splice>>,
    full_reads: u8,
    ended: bool,
    shut: bool,
}

impl Direction {
    fn new(held: Buffer) -> Self {
        Self { held, splice: None, full_reads: 0, ended: false, shut: false }
    }

    /// Moves what can be moved; ready when the direction is shut. At most one turn's worth, then it asks to be
    /// polled again.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &Stream,
        to: &Stream,
        pipes: &Pipes,
        moved: &Cell<u64>,
    ) -> Poll<Result<(), Broke>> {
        let mut budget = splice::TURN;
        while !self.shut {
            if !self.held.is_empty() {
                let n = ready!(poll_write(cx, to, &mut self.held)).map_err(|_| Broke::Sink)?;
                moved.set(moved.get() + n as u64);
                continue;
            }
            if self.ended {
                self.held.shrink();
                self.shut = true;
                to.end_sending();
                break;
            }
            if budget == 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let turn = match (from.plain(), to.plain()) {
                (Some(from), Some(to)) if self.full_reads >= FULL_READS => {
                    ready!(self.poll_splice(cx, from, to, pipes, moved))?
                }
                _ => ready!(self.poll_fill(cx, from))?,
            };
            budget = budget.saturating_sub(turn);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>, from: &Stream) -> Poll<Result<usize, Broke>> {
        loop {
            match from.poll_read_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Broke::Source)),
                Poll::Pending => {
                    self.held.shrink();
                    return Poll::Pending;
                }
            }
            self.held.make_room(BLOCK);
            match self.held.read_from(from) {
                Ok(0) => {
                    self.ended = true;
                    return Poll::Ready(Ok(0));
                }
                Ok(n) => {
                    self.full_reads = if n == BLOCK { self.full_reads.saturating_add(1) } else { 0 };
                    return Poll::Ready(Ok(n));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Poll::Ready(Err(Broke::Source)),
            }
        }
    }

    fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        from: &Socket,
        to: &Socket,
        pipes: &Pipes,
        moved: &Cell<u64>,
    ) -> Poll<Result<usize, Broke>> {
        self.held.shrink();
        let splice = self.splice.get_or_insert_with(|| Box::new(Splice::new(pipes.clone())));
        match splice.poll_turn(cx, from, to, u64::MAX) {
            Poll::Ready(Ok(Turn::Moved(n))) => {
                moved.set(moved.get() + n);
                Poll::Ready(Ok(usize::try_from(n).unwrap_or(usize::MAX)))
            }
            Poll::Ready(Ok(Turn::End)) => {
                self.ended = true;
                Poll::Ready(Ok(0))
            }
            Poll::Ready(Ok(Turn::NoPipe)) => {
                self.splice = None;
                self.full_reads = 0;
                Poll::Ready(Ok(0))
            }
            Poll::Ready(Err(broke)) => Poll::Ready(Err(broke)),
            Poll::Pending => {
                if splice.is_empty() {
                    // Quiet again: conversation may follow, and copying is cheaper for that.
                    self.splice = None;
                    self.full_reads = 0;
                }
                Poll::Pending
            }
        }
    }
}

/// Writes once what `held` has.
fn poll_write(cx: &mut Context<'_>, to: &Stream, held: &mut Buffer) -> Poll<io::Result<usize>> {
    loop {
        ready!(to.poll_write_ready(cx))?;
        match held.write_to(to) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return Poll::Ready(done),
        }
    }
}

/// A relay between two sockets until both directions are shut, one side breaks, or its life is over. A struct where an
/// async fn would do, as that keeps its arguments twice: this is most of what an idle tcp session weighs.
#[derive(Debug)]
#[must_use = "it moves nothing unless polled"]
pub struct Relay<'a> {
    first: &'a Stream,
    second: &'a Stream,
    forth: Direction,
    back: Direction,
    life: Life,
    timer: &'a Timer,
    pipes: &'a Pipes,
    moved: &'a Moved,
}

impl<'a> Relay<'a> {
    /// Starts the time of its life. `moved` counts what has moved from the start on.
    pub fn new(
        (first, second): (&'a Stream, &'a Stream),
        life: Life,
        timer: &'a Timer,
        pipes: &'a Pipes,
        moved: &'a Moved,
    ) -> Self {
        timer.set(life.deadline());
        let (forth, back) = (Direction::new(Buffer::default()), Direction::new(Buffer::default()));
        Self { first, second, forth, back, life, timer, pipes, moved }
    }

    /// With what has been read already from the first and from the second side.
    pub fn holding(mut self, [forth, back]: [Buffer; 2]) -> Self {
        (self.forth.held, self.back.held) = (forth, back);
        self
    }

    fn poll_moves(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        let before = self.moved.sum();
        let a = self.forth.poll(cx, self.first, self.second, self.pipes, &self.moved.forth);
        let b = self.back.poll(cx, self.second, self.first, self.pipes, &self.moved.back);
        if self.moved.sum() != before {
            self.timer.set(self.life.deadline());
        }
        match (a, b) {
            (Poll::Ready(Err(Broke::Source)), _) | (_, Poll::Ready(Err(Broke::Sink))) => {
                Poll::Ready(Ended::FirstBroke)
            }
            (Poll::Ready(Err(Broke::Sink)), _) | (_, Poll::Ready(Err(Broke::Source))) => {
                Poll::Ready(Ended::SecondBroke)
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(Ended::Closed),
            _ => self.timer.poll_expired(cx).map(|_| match self.timer.cut() {
                Some(why) => Ended::Cut(why),
                None if self.life.is_over() => Ended::Cut(Cut::Aged),
                None => Ended::Idle,
            }),
        }
    }
}

impl Future for Relay<'_> {
    type Output = Ended;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        let relay = self.get_mut();
        let ended = ready!(relay.poll_moves(cx));
        if matches!(ended, Ended::FirstBroke | Ended::SecondBroke | Ended::Cut(_)) {
            // A cut-off transfer must not look like a finished one on the other side.
            relay.first.reset_on_close();
            relay.second.reset_on_close();
        }
        Poll::Ready(ended)
    }
}
