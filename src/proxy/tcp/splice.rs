//! Moving bytes between two sockets through a pipe, without copying them through our memory: splice(2).

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use rustix::pipe::{PipeFlags, SpliceFlags};
use tokio::io::Interest;

use crate::proxy::stream::Socket;

/// From how many bytes on splice(2) is cheaper than copying.
pub const WORTHWHILE: u64 = 64 * 1024;

/// Most that moves before others get their turn.
pub const TURN: usize = 256 * 1024;

const PIPE_SIZE: usize = 256 * 1024;

/// Pipes kept by a worker; two descriptors each.
const KEPT: usize = 16;

/// Empty pipes of one worker.
#[derive(Debug, Default, Clone)]
pub struct Pipes(Rc<RefCell<Vec<Pipe>>>);

#[derive(Debug)]
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl Pipes {
    fn take(&self) -> io::Result<Pipe> {
        if let Some(pipe) = self.0.borrow_mut().pop() {
            return Ok(pipe);
        }
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        // A smaller pipe only means more turns: the kernel limits what a user may have in large ones.
        if let Err(error) = rustix::pipe::fcntl_setpipe_size(&write, PIPE_SIZE) {
            tracing::debug!(%error, "a pipe keeps its default size");
        }
        Ok(Pipe { read, write })
    }

    fn put(&self, pipe: Pipe) {
        let mut kept = self.0.borrow_mut();
        if kept.len() < KEPT {
            kept.push(pipe);
        }
    }
}

/// One direction between two sockets. Holds a pipe only while there is something in it, so an idle direction costs
/// no descriptor, and a pipe that goes back to the worker is always empty.
#[derive(Debug)]
pub struct Splice {
    pipes: Pipes,
    pipe: Option<Pipe>,
    in_pipe: usize,
}

/// How a turn of [`Splice::poll_turn`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// So many bytes have gone out; more may be there.
    Moved(u64),
    /// The source has ended, and all of it has gone out.
    End,
    /// There is no pipe to be had: copy instead.
    NoPipe,
}

/// Which side of a splice failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broke {
    /// The one that is read from.
    Source,
    /// The one that is written to.
    Sink,
}

impl Splice {
    /// A direction that borrows its pipe from `pipes`.
    #[must_use]
    pub const fn new(pipes: Pipes) -> Self {
        Self { pipes, pipe: None, in_pipe: 0 }
    }

    /// Whether nothing is on its way.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.in_pipe == 0
    }

    /// Moves what can be moved, at most `limit` bytes and one [`TURN`]. Pending when nothing moved.
    ///
    /// # Errors
    /// Which socket failed; what is in the pipe is then lost, and so must be the connections.
    pub fn poll_turn(
        &mut self,
        cx: &mut Context<'_>,
        from: &Socket,
        to: &Socket,
        limit: u64,
    ) -> Poll<Result<Turn, Broke>> {
        let mut moved = 0u64;
        loop {
            if self.in_pipe > 0 {
                match self.poll_drain(cx, to) {
                    Poll::Ready(Ok(n)) => moved += n,
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(Broke::Sink)),
                    Poll::Pending => break,
                }
                continue;
            }
            if moved >= limit || moved >= TURN as u64 {
                break;
            }
            if self.pipe.is_none() {
                match self.pipes.take() {
                    Ok(pipe) => self.pipe = Some(pipe),
                    Err(_) if moved == 0 => return Poll::Ready(Ok(Turn::NoPipe)),
                    Err(_) => break,
                }
            }
            match self.poll_fill(cx, from, limit - moved) {
                Poll::Ready(Ok(0)) if moved == 0 => {
                    self.give_back();
                    return Poll::Ready(Ok(Turn::End));
                }
                Poll::Ready(Ok(0)) => break,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Broke::Source)),
                Poll::Pending => break,
            }
        }
        self.give_back();
        if moved > 0 { Poll::Ready(Ok(Turn::Moved(moved))) } else { Poll::Pending }
    }

    /// A pipe goes back to the worker as soon as it is empty.
    fn give_back(&mut self) {
        if self.in_pipe == 0
            && let Some(pipe) = self.pipe.take()
        {
            self.pipes.put(pipe);
        }
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>, from: &Socket, limit: u64) -> Poll<io::Result<usize>> {
        loop {
            ready!(from.poll_read_ready(cx))?;
            let Some(pipe) = &self.pipe else { return Poll::Pending };
            let length = usize::try_from(limit).map_or(TURN, |limit| limit.min(TURN));
            match from.try_io(Interest::READABLE, || splice(from, &pipe.write, length)) {
                Ok(n) => {
                    self.in_pipe = n;
                    return Poll::Ready(Ok(n));
                }
                // The pipe is empty, so it is the socket that has nothing.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>, to: &Socket) -> Poll<io::Result<u64>> {
        let Some(pipe) = &self.pipe else {
            self.in_pipe = 0;
            return Poll::Ready(Ok(0));
        };
        loop {
            ready!(to.poll_write_ready(cx))?;
            match to.try_io(Interest::WRITABLE, || splice(&pipe.read, to, self.in_pipe)) {
                Ok(n) => {
                    self.in_pipe -= n;
                    return Poll::Ready(Ok(n as u64));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

fn splice(from: &impl std::os::fd::AsFd, to: &impl std::os::fd::AsFd, length: usize) -> io::Result<usize> {
    Ok(rustix::pipe::splice(from, None, to, None, length, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)?)
}
