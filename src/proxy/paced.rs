//! A client's connection that moves no more bytes in a second than its listener allows, whatever lies underneath.
//!
//! It looks to the engines above like a socket that is not ready for a while. What it counts are their bytes: TLS adds its
//! own. `plain()` of it is nothing, so that no byte goes past it through the kernel.

use std::cell::RefCell;
use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::stream::Stream;
use crate::policy::pace::Pace;
use crate::runtime::counters::{Counter, WorkerId};
use crate::runtime::listener::{Listener, ListenerCounters, ListenerLive};

/// A connection under its listener's bandwidth limits.
#[derive(Debug)]
pub struct Paced {
    /// What lies underneath.
    pub stream: Stream,
    start: Instant,
    incoming: Option<Way>,
    outgoing: Option<Way>,
    live: Arc<ListenerLive>,
    worker: WorkerId,
}

/// What counts the waits of a direction.
type CounterOf = fn(&ListenerCounters) -> &Counter;

/// One direction.
#[derive(Debug)]
struct Way {
    pace: RefCell<Pace>,
    /// For whom waits until there is room.
    timer: RefCell<Option<Pin<Box<Sleep>>>>,
}

impl Paced {
    /// The stream under the limits of its listener; itself where there are none.
    #[must_use]
    pub fn over(stream: Stream, listener: &Listener, worker: WorkerId) -> Stream {
        let [incoming, outgoing] = listener.bandwidth.map(|rate| {
            rate.map(|rate| Way { pace: RefCell::new(Pace::new(rate)), timer: RefCell::default() })
        });
        if incoming.is_none() && outgoing.is_none() {
            return stream;
        }
        let live = Arc::clone(&listener.live);
        Stream::Paced(Box::new(Self { stream, start: Instant::now(), incoming, outgoing, live, worker }))
    }

    /// Ready when there may be something to read, and it may be read.
    ///
    /// # Errors
    /// As the connection.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.incoming {
            Some(way) if way.poll_room(self, cx, |c| &c.bandwidth_in).is_pending() => Poll::Pending,
            _ => self.stream.poll_read_ready(cx),
        }
    }

    /// Ready when something can be written, and may be.
    ///
    /// # Errors
    /// As the connection.
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.outgoing {
            Some(way) if way.poll_room(self, cx, |c| &c.bandwidth_out).is_pending() => Poll::Pending,
            _ => self.stream.poll_write_ready(cx),
        }
    }

    /// Reads once, no more than may be.
    ///
    /// # Errors
    /// As the connection; `WouldBlock` also when nothing may be read yet.
    pub fn try_read(&self, room: &mut [u8]) -> io::Result<usize> {
        let Some(way) = &self.incoming else { return self.stream.try_read(room) };
        let most = way.room(self)?.min(room.len());
        way.moved(self, self.stream.try_read(&mut room[..most])?)
    }

    /// Writes once, no more than may be.
    ///
    /// # Errors
    /// As the connection; `WouldBlock` also when nothing may be written yet.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let Some(way) = &self.outgoing else { return self.stream.try_write(bytes) };
        let most = way.room(self)?.min(bytes.len());
        way.moved(self, self.stream.try_write(&bytes[..most])?)
    }

    /// Takes some of what is to be written, as [`Paced::try_write`]; `take` is how.
    ///
    /// # Errors
    /// As `take`; `WouldBlock` also when nothing may be written yet.
    pub fn take(
        &self,
        bytes: &[u8],
        take: impl FnOnce(&Stream, &[u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let Some(way) = &self.outgoing else { return take(&self.stream, bytes) };
        let most = way.room(self)?.min(bytes.len());
        way.moved(self, take(&self.stream, &bytes[..most])?)
    }

    fn now(&self) -> Duration {
        Pace::START + self.start.elapsed()
    }
}

impl Way {
    /// How many bytes may move.
    fn room(&self, paced: &Paced) -> io::Result<usize> {
        self.pace.borrow().room(paced.now()).map_err(|_| io::ErrorKind::WouldBlock.into())
    }

    fn moved(&self, paced: &Paced, bytes: usize) -> io::Result<usize> {
        self.pace.borrow_mut().moved(bytes, paced.now());
        Ok(bytes)
    }

    /// Ready when some bytes may move; a wait is counted when it begins.
    fn poll_room(&self, paced: &Paced, cx: &mut Context<'_>, counter: CounterOf) -> Poll<()> {
        loop {
            let Err(at) = self.pace.borrow().room(paced.now()) else { return Poll::Ready(()) };
            let at = paced.start + at.saturating_sub(Pace::START);
            let mut timer = self.timer.borrow_mut();
            let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(paced.start)));
            if timer.deadline() < at {
                timer.as_mut().reset(at);
                counter(paced.live.counters.of(paced.worker)).one();
            }
            match timer.as_mut().poll(cx) {
                Poll::Pending => return Poll::Pending,
                // The timer is as coarse as the runtime's: it may be a little early.
                Poll::Ready(()) => timer.as_mut().reset(Instant::now() + Duration::from_millis(1)),
            }
        }
    }
}
