//! One HTTP/2 connection of a client: its streams are handled within its own task, woken together, written together.

use std::future::{Future, poll_fn};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use futures_util::task::AtomicWaker;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use tokio::io::Interest;
use tokio::time::Instant;

use super::stream;
use super::traffic::{PREFACE, Refused};
use super::wire::{Gate, Wire};
use crate::proxy::connection::{Age, Client};
use crate::proxy::http1::serve::{count, drain_input};
use crate::runtime::limits::{ClientLimits, Flood};
use crate::runtime::listener::{Listener, Timeouts};

/// Turns of a connection between two of its worker: a turn for what has come, one for what that led to.
const TURNS: u32 = 8;

/// For how long a connection with requests is left to their deadlines before it is looked at again.
const BUSY: Duration = Duration::from_secs(60);

/// Whether the first bytes are HTTP/2's, by prior knowledge (RFC 9113 section 3.3); nothing is taken away. Nothing when
/// they do not come, or the client has left.
pub async fn is_wanted(client: &Client) -> Option<bool> {
    let socket = client.stream.socket();
    let snapshot = client.snapshot()?;
    client.timer.set_after(client.listener(&snapshot)?.timeouts.request_header);
    drop(snapshot);
    loop {
        let mut first = [0; PREFACE.len()];
        match socket.look(&mut first) {
            Ok(0) => return Some(false),
            Ok(n) if first[..n] != PREFACE[..n] => return Some(false),
            Ok(n) if n == PREFACE.len() => return Some(true),
            // What has come is not news any more.
            Ok(_) => {
                let none: io::Result<()> =
                    socket.try_io(Interest::READABLE, || Err(io::ErrorKind::WouldBlock.into()));
                debug_assert!(none.is_err());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Some(false),
        }
        match client.timer.within(client.stream.readable()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return None,
            Err(_) => {
                count(client, |c| &c.head_timeouts);
                return None;
            }
        }
    }
}

/// Serves a connection until it ends.
pub async fn serve(client: Client) {
    let Some((timeouts, limits, builder)) = settings(&client) else { return };
    let gate = Gate::new(limits.http2, Instant::now());
    client.timer.set_after(timeouts.request_header);
    let handshake = builder.handshake::<_, Bytes>(Wire::new(&client.stream, &gate));
    let connection = match client.timer.within(handshake).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(_)) => {
            count(&client, |c| &c.bad_requests);
            return;
        }
        Err(_) => return count(&client, |c| &c.head_timeouts),
    };
    let open = |request, respond| stream::run(&client, &gate, request, respond);
    let mut serving = Serving {
        client: &client,
        gate: &gate,
        timeouts,
        linger: limits.linger,
        connection,
        open,
        streams: FuturesUnordered::new(),
        state: State::Open,
        waits: Waits::Nothing,
        flooded: false,
    };
    let hub = Arc::new(Hub::default());
    let waker = Waker::from(Arc::clone(&hub));
    poll_fn(|cx| hub.poll(cx, &waker, |cx| serving.turn(cx))).await;
    drop(serving);
    drain_input(&client).await;
}

fn settings(client: &Client) -> Option<(Timeouts, ClientLimits, Builder)> {
    let snapshot = client.snapshot()?;
    let listener = client.listener(&snapshot)?;
    Some((listener.timeouts, listener.limits, builder(listener)))
}

fn builder(listener: &Listener) -> Builder {
    let limits = &listener.limits.http2;
    let mut builder = Builder::new();
    // Our own limit answers with a record; h2's bounds what it decodes before that can be asked.
    let head = u32::try_from(listener.head_max.saturating_mul(2)).unwrap_or(u32::MAX);
    let faults = limits.rates.get(Flood::Faults as usize).copied().unwrap_or(1);
    builder
        .max_concurrent_streams(limits.streams)
        .initial_window_size(limits.stream_window)
        .initial_connection_window_size(limits.connection_window)
        .max_header_list_size(head)
        .max_send_buffer_size(limits.send_buffer)
        .max_pending_accept_reset_streams(limits.streams as usize)
        .max_concurrent_reset_streams(limits.streams as usize)
        .max_local_error_reset_streams(Some(faults.saturating_mul(10) as usize))
        .enable_connect_protocol();
    builder
}

/// The wakers of everything on one connection lead here. What is woken while the connection is at work is seen to in the
/// same go: only what comes from outside costs the worker a turn.
#[derive(Debug, Default)]
struct Hub {
    at_work: AtomicBool,
    woken: AtomicBool,
    task: AtomicWaker,
}

impl Hub {
    fn poll(
        &self,
        cx: &mut Context<'_>,
        waker: &Waker,
        mut turn: impl FnMut(&mut Context<'_>) -> Poll<()>,
    ) -> Poll<()> {
        self.task.register(cx.waker());
        self.at_work.store(true, Ordering::SeqCst);
        let mut within = Context::from_waker(waker);
        let mut turns = 0;
        let polled = loop {
            self.woken.store(false, Ordering::SeqCst);
            let polled = turn(&mut within);
            turns += 1;
            if polled.is_ready() || turns == TURNS || !self.woken.load(Ordering::SeqCst) {
                break polled;
            }
        };
        self.at_work.store(false, Ordering::SeqCst);
        if polled.is_pending() && self.woken.load(Ordering::SeqCst) {
            cx.waker().wake_by_ref();
        }
        polled
    }
}

impl Wake for Hub {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        if !self.at_work.load(Ordering::SeqCst) {
            self.task.wake();
        }
    }
}

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// It takes no new requests: a GOAWAY is on its way.
    Leaving,
    /// Nothing more can come or go; requests end by themselves.
    Closed,
}

/// What the connection's own deadline is set for; moving on sets it anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waits {
    Nothing,
    /// The end of a head, or another request, from this time on.
    Head(Instant),
    Idle,
    /// Its requests have deadlines of their own.
    Busy(u64),
    /// The client takes the last of it.
    Last,
}

struct Serving<'a, F, S> {
    client: &'a Client,
    gate: &'a Gate,
    timeouts: Timeouts,
    linger: Duration,
    connection: Connection<Wire<'a>, Bytes>,
    open: S,
    streams: FuturesUnordered<F>,
    state: State,
    waits: Waits,
    /// The client has done too much of something, which has been counted.
    flooded: bool,
}

impl<F, S> Serving<'_, F, S>
where
    F: Future<Output = ()>,
    S: Fn(http::Request<RecvStream>, SendResponse<Bytes>) -> F,
{
    /// Takes what has come, lets every stream do what it can, sends what that gave; ready at the end of it all.
    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.state != State::Closed {
            self.poll_connection(cx);
            self.count_refused();
        }
        self.gate.begin_turn();
        while let Poll::Ready(Some(())) = self.streams.poll_next_unpin(cx) {}
        if self.state == State::Closed && self.streams.is_empty() {
            return Poll::Ready(());
        }
        self.poll_time(cx)
    }

    fn poll_connection(&mut self, cx: &mut Context<'_>) {
        loop {
            match self.connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    self.client.age.set(Age::Used);
                    self.gate.accepted(respond.stream_id().as_u32());
                    self.streams.push((self.open)(request, respond));
                }
                Poll::Ready(Some(Err(error))) => {
                    let calm = error.reason() == Some(Reason::ENHANCE_YOUR_CALM);
                    let invalid = |error: &io::Error| error.kind() == io::ErrorKind::InvalidData;
                    if (error.is_library() && !calm) || error.get_io().is_some_and(invalid) {
                        count(self.client, |c| &c.bad_requests);
                    }
                    self.state = State::Closed;
                    break;
                }
                Poll::Ready(None) => {
                    self.state = State::Closed;
                    break;
                }
                Poll::Pending => break,
            }
        }
        match self.gate.flood() {
            Some(flood) if !self.flooded => {
                self.flooded = true;
                count(self.client, |c| &c.floods[flood as usize]);
                // Where h2 has found it, it has said so already.
                if self.state != State::Closed {
                    self.send_away(cx);
                }
            }
            None if self.state == State::Open && self.client.is_leaving() => {
                self.state = State::Leaving;
                self.connection.graceful_shutdown();
                cx.waker().wake_by_ref();
            }
            _ => {}
        }
    }

    /// Ends the connection as soon as the reason has gone out.
    fn send_away(&mut self, cx: &mut Context<'_>) {
        self.state = State::Leaving;
        self.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        self.wait(Waits::Last);
        cx.waker().wake_by_ref();
    }

    fn count_refused(&self) {
        let Refused { streams, malformed, heads } = self.gate.take_refused();
        for _ in 0..streams {
            count(self.client, |c| &c.floods[Flood::Streams as usize]);
        }
        for _ in 0..malformed {
            count(self.client, |c| &c.bad_requests);
        }
        for _ in 0..heads {
            count(self.client, |c| &c.head_too_large);
        }
    }

    /// Holds the connection to its deadline.
    fn poll_time(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let busy = !self.streams.is_empty();
        match (self.waits, self.gate.head_since(), busy) {
            (Waits::Last, ..) if self.state != State::Closed || busy => {}
            (_, Some(since), _) if self.state == State::Open => self.wait(Waits::Head(since)),
            (Waits::Busy(_), _, true) => {}
            (_, _, true) => self.wait(Waits::Busy(0)),
            (..) if self.state == State::Open => self.wait(Waits::Idle),
            _ => self.wait(Waits::Last),
        }
        while self.client.timer.poll_expired(cx).is_ready() {
            match self.waits {
                Waits::Head(_) => {
                    count(self.client, |c| &c.head_timeouts);
                    self.send_away(cx);
                }
                Waits::Idle => {
                    count(self.client, |c| &c.keep_alive_timeouts);
                    self.state = State::Leaving;
                    self.connection.graceful_shutdown();
                    self.wait(Waits::Last);
                    cx.waker().wake_by_ref();
                }
                Waits::Busy(n) => self.wait(Waits::Busy(n + 1)),
                Waits::Last | Waits::Nothing => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }

    /// Sets the deadline, unless it is that of what was waited for before.
    fn wait(&mut self, waits: Waits) {
        if self.waits == waits {
            return;
        }
        self.waits = waits;
        let deadline = match waits {
            Waits::Head(since) => since + self.timeouts.request_header,
            Waits::Idle => Instant::now() + self.timeouts.keep_alive,
            Waits::Busy(_) => Instant::now() + BUSY,
            Waits::Last | Waits::Nothing => Instant::now() + self.linger,
        };
        self.client.timer.set(deadline);
    }
}
