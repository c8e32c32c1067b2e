//! The task of one HTTP/2 connection to an endpoint: makes it, turns it, asks a silent one by PING, and ends it when its
//! time has come. It ends with its connection, and the connection with it.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use h2::{Ping, PingPong};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::{Recipe, Shared, Shelf, Unmade, is_http2};
use crate::proxy::http2::traffic::Traffic;
use crate::proxy::stream::Stream;
use crate::proxy::timer::Timer;
use crate::proxy::upstream::dial;
use crate::runtime::limits::{Flood, Http2Limits};

/// Bytes of one request's body that lie here before the endpoint takes them. No setting: it is what a socket's buffer would
/// be, and flow control does the rest.
const SEND_BUFFER: usize = 64 * 1024;

/// The largest window that there is (RFC 9113 section 6.9.1).
const WINDOW_MAX: u32 = (1 << 31) - 1;

/// CONTINUATION frames of one head, which its size bounds before.
const CONTINUATIONS: u32 = 64;

/// What the last words on a connection without requests get. No setting: nobody waits for them.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A connection that is to be made. Dropped before it is, those who wait for it hear that it failed.
pub(super) struct Opening {
    shelf: Option<Rc<Shelf>>,
    recipe: Recipe,
    timer: Timer,
}

impl Opening {
    pub(super) fn new(shelf: &Rc<Shelf>, recipe: &Recipe) -> Self {
        Self { shelf: Some(Rc::clone(shelf)), recipe: recipe.clone(), timer: recipe.timers.timer() }
    }

    fn failed(&mut self, error: io::Error) {
        if let Some(shelf) = self.shelf.take() {
            let late = error.kind() == io::ErrorKind::TimedOut && self.timer.is_late();
            shelf.failed(&Unmade::new(error, late));
        }
    }

    fn chose_http1(&mut self, stream: Stream) {
        if let Some(shelf) = self.shelf.take() {
            shelf.chose_http1(stream);
        }
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.failed(io::ErrorKind::ConnectionAborted.into());
    }
}

/// Makes a connection and drives it to its end.
pub(super) async fn run(mut opening: Opening) {
    let established = establish(&opening.recipe, &opening.timer).await;
    match established {
        Ok(Established::Http2(new)) => {
            if let Some(shelf) = opening.shelf.take() {
                let timer = opening.recipe.timers.timer();
                let driver = Driver::new(&opening.recipe, timer, &shelf, *new);
                drop((opening, shelf));
                driver.await;
            }
        }
        Ok(Established::Http1(stream)) => opening.chose_http1(stream),
        Err(error) => opening.failed(error),
    }
}

enum Established {
    Http2(Box<New>),
    Http1(Stream),
}

struct New {
    sender: SendRequest<Bytes>,
    connection: Connection<Watched, Bytes>,
    heard: Rc<Heard>,
    tls: bool,
}

/// What is noted of a connection's bytes.
#[derive(Debug, Default)]
struct Heard {
    /// Some have come.
    some: Cell<bool>,
    /// They were a flood.
    flood: Cell<bool>,
}

/// Connects and waits for the endpoint's settings: that it speaks HTTP/2, and how many requests it takes at once.
async fn establish(recipe: &Recipe, timer: &Timer) -> io::Result<Established> {
    let stream = dial::dial(&recipe.target, timer).await?;
    if stream.tls().is_some() && !is_http2(&stream) {
        if recipe.either {
            return Ok(Established::Http1(stream));
        }
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the endpoint does not offer HTTP/2 by ALPN"));
    }
    // The one deadline over it all was set when it was dialed.
    let settled = timer.within(settle(recipe, stream)).await;
    settled.map_or_else(
        |_| Err(io::Error::new(io::ErrorKind::TimedOut, "no HTTP/2 settings within the connect timeout")),
        |settled| settled.map(|new| Established::Http2(Box::new(new))),
    )
}

async fn settle(recipe: &Recipe, stream: Stream) -> io::Result<New> {
    let (heard, tls) = (Rc::new(Heard::default()), stream.tls().is_some());
    let limits = &recipe.limits;
    // Every stream may fill its window without another one standing still for it.
    let together = u64::from(limits.http2_window) * limits.http2_streams as u64;
    let (sender, mut connection) = Builder::new()
        .enable_push(false)
        .initial_window_size(limits.http2_window)
        .initial_connection_window_size(u32::try_from(together).unwrap_or(u32::MAX).min(WINDOW_MAX))
        .max_header_list_size(u32::try_from(limits.answer_head).unwrap_or(u32::MAX))
        .max_send_buffer_size(SEND_BUFFER)
        // None before its settings say how many, so that no request is sent to be refused.
        .initial_max_send_streams(0)
        .handshake::<_, Bytes>(Watched::new(stream, Rc::clone(&heard), limits.http2_frames))
        .await
        .map_err(broken)?;
    poll_fn(|cx| {
        let ended = Pin::new(&mut connection).poll(cx);
        match ended {
            Poll::Ready(Err(error)) => Poll::Ready(Err(broken(error))),
            Poll::Ready(Ok(())) => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            Poll::Pending if sender.current_max_send_streams() > 0 => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        }
    })
    .await?;
    Ok(New { sender, connection, heard, tls })
}

fn broken(error: h2::Error) -> io::Error {
    let text = format!("broken HTTP/2: {error}");
    error.into_io().unwrap_or_else(|| io::Error::new(io::ErrorKind::InvalidData, text))
}

/// A connection at work.
struct Driver {
    shared: Rc<Shared>,
    connection: Connection<Watched, Bytes>,
    pings: Option<PingPong>,
    heard: Rc<Heard>,
    heard_at: Instant,
    /// When a PING was sent of which, or of anything else, nothing has been heard since.
    asked: Option<Instant>,
    keep_alive: Duration,
    ping: Duration,
    leaving: Duration,
    end_of_life: Option<Instant>,
    /// When it was seen to take nothing new.
    left_at: Option<Instant>,
    timer: Timer,
    timer_at: Option<Instant>,
}

/// What a connection waits for.
enum Due {
    /// The end of requests on a connection that takes no more, or of its own last words.
    End,
    /// A request, or the end of its time.
    Leave,
    /// A byte from the endpoint.
    Ask,
    /// The answer to a PING.
    Silent,
}

impl Driver {
    fn new(recipe: &Recipe, timer: Timer, shelf: &Rc<Shelf>, new: New) -> Self {
        let New { sender, mut connection, heard, tls } = new;
        let now = Instant::now();
        let shared = Rc::new(Shared {
            shelf: Rc::downgrade(shelf),
            endpoint: Arc::clone(&shelf.endpoint),
            worker: shelf.worker,
            tls,
            streams: Cell::new(0),
            most: Cell::new(sender.current_max_send_streams()),
            sender: RefCell::new(Some(sender)),
            used: Cell::new(false),
            since: Cell::new(now),
            task: RefCell::default(),
            ended: Cell::new(false),
        });
        shelf.opened(&shared);
        Self {
            shared,
            pings: connection.ping_pong(),
            connection,
            heard,
            heard_at: now,
            asked: None,
            keep_alive: recipe.target.timeouts.keep_alive,
            ping: recipe.target.timeouts.http2_ping,
            leaving: recipe.leaving,
            end_of_life: recipe.age.map(|age| now + age),
            left_at: None,
            timer,
            timer_at: None,
        }
    }

    /// Takes up what the endpoint has said of the connection as a whole.
    fn note(&mut self, cx: &mut Context<'_>, now: Instant) {
        if self.heard.some.take() {
            self.heard_at = now;
            self.asked = None;
        }
        if self.heard.flood.take()
            && let Some(shelf) = self.shared.shelf.upgrade()
        {
            shelf.pool.counters.of(shelf.worker).http2_floods.one();
        }
        if let Some(pings) = &mut self.pings {
            // What it answers is of no interest, only that it has been taken off.
            drop(pings.poll_pong(cx));
        }
        let shared = &self.shared;
        let said = shared.sender.borrow_mut().as_mut().map(|sender| match sender.poll_ready(cx) {
            Poll::Ready(Err(error)) => Err(error.is_go_away() && error.is_remote()),
            _ => Ok(sender.current_max_send_streams()),
        });
        match said {
            Some(Ok(most)) => {
                if shared.most.replace(most) < most
                    && let Some(shelf) = shared.shelf.upgrade()
                {
                    shelf.tend();
                }
                if shared.streams.get() == 0 && !self.is_current() {
                    shared.leave();
                }
            }
            Some(Err(goaway)) => {
                if goaway {
                    shared.counters().goaways.one();
                }
                shared.leave();
            }
            None => {}
        }
    }

    /// Whether what it leads to is still led to in this way.
    fn is_current(&self) -> bool {
        self.shared.shelf.upgrade().is_some_and(|shelf| shelf.is_current())
    }

    /// What is next, and when.
    fn due(&mut self, now: Instant) -> (Instant, Due) {
        let shared = &self.shared;
        let (idle, since) = (shared.streams.get() == 0, shared.since.get());
        if shared.is_leaving() {
            let left_at = *self.left_at.get_or_insert(now);
            let end = if idle { left_at.max(since) + LAST_WORDS } else { left_at + self.leaving };
            let asked = self.asked.filter(|_| !idle).map(|asked| asked + self.ping);
            return match asked {
                Some(silent) if silent < end => (silent, Due::Silent),
                _ if idle || self.asked.is_some() => (end, Due::End),
                _ => earlier((end, Due::End), (self.ask_at(since), Due::Ask)),
            };
        }
        let next = match self.asked {
            _ if idle => (since + self.keep_alive, Due::Leave),
            Some(asked) => (asked + self.ping, Due::Silent),
            None => (self.ask_at(since), Due::Ask),
        };
        match self.end_of_life {
            Some(end) => earlier((end, Due::Leave), next),
            None => next,
        }
    }

    /// A connection that was silent while it was idle is asked as soon as a request is on it.
    fn ask_at(&self, since: Instant) -> Instant {
        (self.heard_at + self.ping).max(since)
    }

    fn ask(&mut self, now: Instant) {
        self.asked = Some(now);
        if let Some(pings) = &mut self.pings {
            // One that is on its way already does as well.
            pings.send_ping(Ping::opaque()).ok();
        }
    }
}

fn earlier(one: (Instant, Due), other: (Instant, Due)) -> (Instant, Due) {
    if one.0 <= other.0 { one } else { other }
}

impl Future for Driver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        {
            let mut task = this.shared.task.borrow_mut();
            match task.as_ref() {
                Some(known) if known.will_wake(cx.waker()) => {}
                _ => *task = Some(cx.waker().clone()),
            }
        }
        loop {
            // What ended it is told to its requests by h2.
            let ended = Pin::new(&mut this.connection).poll(cx).is_ready();
            let now = Instant::now();
            this.note(cx, now);
            if ended {
                return Poll::Ready(());
            }
            let (at, due) = this.due(now);
            if this.timer_at != Some(at) {
                this.timer_at = Some(at);
                this.timer.set(at);
            }
            if at > now && this.timer.poll_expired(cx).is_pending() {
                return Poll::Pending;
            }
            match due {
                Due::End => return Poll::Ready(()),
                Due::Leave => this.shared.leave(),
                Due::Ask => this.ask(now),
                Due::Silent => {
                    this.shared.counters().silent.one();
                    return Poll::Ready(());
                }
            }
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.shared.ended.set(true);
        let counters = self.shared.counters();
        counters.multiplexed.sub(1);
        if self.shared.streams.get() == 0 {
            counters.idle.sub(1);
        }
        self.shared.task.borrow_mut().take();
        self.shared.leave();
    }
}

/// The stream under a connection, which notes that something has come, and whether it is too much.
struct Watched {
    stream: Stream,
    heard: Rc<Heard>,
    traffic: Traffic,
}

impl Watched {
    fn new(stream: Stream, heard: Rc<Heard>, frames: u32) -> Self {
        let mut rates = [frames; Flood::RATED];
        // Its mistakes are answers of ours to their clients, and no work for nothing.
        rates[Flood::Faults as usize] = u32::MAX;
        let limits = Http2Limits {
            streams: 0,
            stream_window: 0,
            connection_window: 0,
            send_buffer: 0,
            continuations: CONTINUATIONS,
            rates,
        };
        Self { stream, heard, traffic: Traffic::of_endpoint(limits, Instant::now()) }
    }

    fn sent(&mut self, pieces: &[io::IoSlice<'_>], n: usize) {
        let (mut left, now) = (n, Instant::now());
        for piece in pieces {
            let here = left.min(piece.len());
            self.traffic.sent(&piece[..here], now);
            left -= here;
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        let came = buf.filled().get(before..).unwrap_or_default();
        if !came.is_empty() {
            this.heard.some.set(true);
            this.traffic.received(came, Instant::now());
        }
        if this.traffic.flood().is_some() {
            this.heard.flood.set(true);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "a flood of frames")));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let n = ready!(Pin::new(&mut this.stream).poll_write_vectored(cx, bytes))?;
        this.sent(bytes, n);
        Poll::Ready(Ok(n))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
