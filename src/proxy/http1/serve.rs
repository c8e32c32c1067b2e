//! One HTTP/1 connection of a client: wait without holding anything, read a head, handle the request, again.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::chunked;
use super::crossing::Crossing;
use super::encode;
use super::exchange::{Exchange, Request};
use super::fields::{Field, Kind};
use super::head::{self, Limits, RequestHead, Version};
use super::scan::{self, Scan, Scanner};
use super::upload::Upload;
use crate::model::field::HeadEdits;
use crate::model::method::Method;
use crate::proxy::buffer::Buffer;
use crate::proxy::connection::{Age, Client, write_all};
use crate::proxy::error::{Error, Refusal};
use crate::proxy::forwarded;
use crate::proxy::http2;
use crate::proxy::request::{self, Context, Fate};
use crate::proxy::respond::{Own, prefers_json};
use crate::proxy::tls::Secured;
use crate::proxy::worker::Worker;
use crate::runtime::listener::Listener;
use crate::runtime::store::Current;
use crate::telemetry::access_log::{Phases, Record, Termination};

/// What a connection without a request yet gets when a drain begins. No setting: it is a round trip of what was accepted
/// just before, inside `drain_timeout`.
const FIRST_REQUEST_GRACE: Duration = Duration::from_secs(1);

/// Bytes of empty lines before a request that are passed over. No setting: RFC 9112 section 2.2 asks for one, which some
/// old clients send; more are nobody's, and count as bad requests.
const EMPTY_LINES_MAX: usize = 16;

/// What a request leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// The connection may carry another request.
    Next,
    /// It closes; `linger` when the client may still be sending.
    Close { linger: bool },
}

/// Serves a connection until it ends.
#[expect(clippy::manual_async_fn, reason = "an async fn keeps its arguments twice, in every idle connection")]
pub fn serve(client: Client) -> impl Future<Output = ()> {
    async move {
        while Wait::begin(&client).await {
            if client.age.get() != Age::Used && client.speaks_h2c() {
                match Box::pin(http2::serve::is_wanted(&client)).await {
                    Some(true) => return Box::pin(http2::serve::serve(client)).await,
                    Some(false) => {}
                    None => return,
                }
            }
            client.age.set(Age::Used);
            // Everything that a request needs lives in this box, and goes with it.
            let after = Box::pin(busy(&client.worker, &client)).await;
            if let After::Close { linger } = after {
                if linger {
                    Box::pin(drain_input(&client)).await;
                }
                return;
            }
        }
    }
}

/// Waits for the first byte of a request; false when the connection is to close instead. What is held here is held by
/// every idle connection.
struct Wait<'a> {
    client: &'a Client,
}

impl<'a> Wait<'a> {
    fn begin(client: &'a Client) -> Self {
        let snapshot = client.snapshot();
        match snapshot.as_ref().and_then(|snapshot| client.listener(snapshot)) {
            Some(listener) => client.timer.set_after(listener.timeouts.keep_alive),
            // It has gone: so does what is idle.
            None => client.timer.set_after(Duration::ZERO),
        }
        Self { client }
    }
}

impl Future for Wait<'_> {
    type Output = bool;

    fn poll(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<bool> {
        let client = self.client;
        // Bytes before the drain: a request that has come is answered.
        if let Poll::Ready(ready) = client.stream.poll_read_ready(cx) {
            return Poll::Ready(ready.is_ok());
        }
        if client.closes_idle() {
            match client.age.get() {
                Age::Used => return Poll::Ready(false),
                // Accepted just before the drain: its first request is on its way.
                Age::New => {
                    client.age.set(Age::LastMoment);
                    client.timer.set_after(FIRST_REQUEST_GRACE);
                }
                Age::LastMoment => {}
            }
        }
        client.timer.poll_expired(cx).map(|_| {
            count(client, |c| &c.keep_alive_timeouts);
            false
        })
    }
}

/// Counts at the client's listener.
pub fn count(
    client: &Client,
    counter: impl Fn(&crate::runtime::listener::ListenerCounters) -> &crate::runtime::counters::Counter,
) {
    let snapshot = client.snapshot();
    if let Some(listener) = snapshot.as_ref().and_then(|snapshot| client.listener(snapshot)) {
        counter(listener.live.counters.of(client.worker.id)).one();
    }
}

/// Handles requests until nothing of another one is there.
async fn busy(worker: &Worker, client: &Client) -> After {
    let mut input = Buffer::default();
    let mut fields = Vec::with_capacity(24);
    loop {
        let after = one(worker, client, &mut input, &mut fields).await;
        if after != After::Next {
            return after;
        }
        if input.is_empty() {
            return After::Next;
        }
    }
}

/// A request whose head has come, and what of its body came with it.
struct Begun {
    snapshot: Current,
    request: Request,
    upload: Upload,
    start: Instant,
    /// How long its head took to arrive.
    head: Duration,
    /// Whether what its peer says of the client is believed.
    trusted: bool,
}

/// Reads a head, and refuses what is no acceptable request: then it says what that leaves behind. A step of its own, so that
/// what it needs is not carried by the request.
async fn begin(
    worker: &Worker,
    client: &Client,
    input: &mut Buffer,
    fields: &mut Vec<Field>,
) -> Result<Begun, After> {
    let start = Instant::now();
    const GONE: After = After::Close { linger: false };
    let Some(snapshot) = client.snapshot() else { return Err(GONE) };
    let Some(listener) = client.listener(&snapshot) else { return Err(GONE) };
    let mut unread = Unread { worker, client, listener, start, ended: false };
    let limits = Limits { head: listener.head_max, fields: listener.fields_max, target: listener.target_max };
    let read = match read_head(client, input, &limits, listener, start).await {
        Ok(Arrived::Head(length)) => {
            fields.clear();
            head::parse_request(&input.bytes()[..length], &limits, std::mem::take(fields))
                .map_err(Error::Refused)
        }
        Ok(Arrived::Nothing) => return Err(unread.never_came(After::Next)),
        Ok(Arrived::End) => return Err(unread.never_came(After::Close { linger: false })),
        Err(error) => Err(error),
    };
    let head = match read {
        Ok(head) if head.method != Method::Trace => head,
        Ok(_) => return Err(unread.refuse(input, &Error::Refused(Refusal::Method)).await),
        Err(error) => return Err(unread.refuse(input, &error).await),
    };
    let took = start.elapsed();
    let trusted = listener.believes(client.source().ip());
    let request = split(client, listener, input, head);
    let mut upload = Upload::new(request.head.framing, body_limits(listener));
    // Before anything is done with the request: a body that is malformed from the start reaches nobody.
    if let Err(refusal) = upload.stage(input) {
        *input = request.bytes;
        return Err(unread.refuse(input, &Error::Refused(refusal)).await);
    }
    unread.ended = true;
    drop(unread);
    Ok(Begun { snapshot, request, upload, start, head: took, trusted })
}

/// Handles one request.
async fn one(worker: &Worker, client: &Client, input: &mut Buffer, fields: &mut Vec<Field>) -> After {
    let begun = match begin(worker, client, input, fields).await {
        Ok(begun) => begun,
        Err(after) => return after,
    };
    let Begun { snapshot, request, upload, start, head, trusted } = begun;
    let Some(listener) = client.listener(&snapshot) else { return After::Close { linger: false } };
    let id = request::request_id(worker, given_id(&request, trusted));
    let context = Context {
        worker: &client.worker,
        snapshot: &snapshot,
        listener,
        timer: &client.timer,
        peer: client.peer,
        client,
        trusted,
        tls: client.secured(),
        request_id: &id,
        start,
        head,
        version: request.head.version.as_str(),
    };
    let exchange = Exchange::new(worker, client, listener, request, input, upload);
    let mut exchange = Crossing::new(exchange);
    let mut fate = request::handle(&context, &mut exchange).await;
    while fate == Fate::Outdated {
        // Where the listener has been removed, the request ends with what it began with.
        let Some(snapshot) = client.snapshot() else { break };
        // Whether the listener trusts this peer was decided when the head came.
        let Some(listener) = client.listener(&snapshot) else { break };
        fate = request::handle(&Context { snapshot: &snapshot, listener, ..context }, &mut exchange).await;
    }
    let mut exchange = exchange.into_own();
    let done = exchange.upload.is_done();
    let close = exchange.close || !exchange.started || !done;
    *fields = std::mem::take(&mut exchange.request.head.fields);
    if close {
        // Bytes that nobody reads would turn the close into a reset, which can overtake the answer.
        After::Close { linger: !done || !input.is_empty() || is_readable(client) }
    } else {
        After::Next
    }
}

pub(super) fn body_limits(listener: &Listener) -> chunked::Limits {
    chunked::Limits {
        trailers: listener.head_max,
        fields: listener.fields_max,
        extensions: listener.limits.chunk_extensions,
    }
}

/// Whether the runtime knows of something to read; asks no socket.
fn is_readable(client: &Client) -> bool {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    client.stream.poll_read_ready(&mut cx).is_ready()
}

/// What came of waiting for a head.
enum Arrived {
    /// A whole head of so many bytes.
    Head(usize),
    /// Not a byte yet: the wake-up was for nothing.
    Nothing,
    /// The connection has ended.
    End,
}

/// Reads until a whole head is there.
async fn read_head(
    client: &Client,
    input: &mut Buffer,
    limits: &Limits,
    listener: &Listener,
    start: Instant,
) -> Result<Arrived, Error> {
    let mut scanner = Scanner::default();
    let mut armed = false;
    let mut empty_lines = 0;
    loop {
        let empty = scan::leading_empty_lines(input.bytes());
        if empty > 0 {
            empty_lines += empty;
            if empty_lines > EMPTY_LINES_MAX {
                return Err(Refusal::Malformed("there is nothing but empty lines").into());
            }
            input.consume(empty);
            scanner = Scanner::default();
        }
        match scanner.scan(input.bytes()) {
            Scan::Complete(length) if length > limits.head => return Err(Refusal::HeadTooLarge.into()),
            Scan::Complete(length) => {
                // Checked once more where it may have come in one piece.
                check_start(input, limits)?;
                return Ok(Arrived::Head(length));
            }
            Scan::BareLf => return Err(Refusal::Malformed("a line does not end in CRLF").into()),
            Scan::StartLine(length) => head::check_request_line(&input.bytes()[..length], limits)?,
            Scan::Partial => {}
        }
        check_growth(input, limits)?;
        if !input.make_room(limits.head) {
            return Err(Refusal::HeadTooLarge.into());
        }
        match input.read_from(&client.stream) {
            Ok(0) => return Ok(Arrived::End),
            Ok(_) => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Ok(Arrived::End),
        }
        if input.is_empty() && empty_lines == 0 {
            return Ok(Arrived::Nothing);
        }
        if !armed {
            client.timer.set(start + listener.timeouts.request_header);
            armed = true;
        }
        match client.timer.within(client.stream.readable()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Ok(Arrived::End),
            Err(_) => return Err(Error::HeadTimeout),
        }
    }
}

fn check_start(input: &Buffer, limits: &Limits) -> Result<(), Refusal> {
    let bytes = input.bytes();
    let line = memchr::memchr(b'\n', bytes).map_or(bytes.len(), |lf| lf + 1);
    head::check_request_line(&bytes[..line], limits)
}

/// What can become no request, or too large a one, is refused before its end has come.
fn check_growth(input: &Buffer, limits: &Limits) -> Result<(), Refusal> {
    let bytes = input.bytes();
    if !scan::may_become_request(bytes) {
        return Err(Refusal::Malformed("this is not HTTP"));
    }
    // Method and version around the target: a line that is longer can only hold too long a target.
    if bytes.len() > limits.target + 64 && memchr::memchr(b'\n', bytes).is_none() {
        return Err(Refusal::TargetTooLong);
    }
    Ok(())
}

/// Takes the head out of the input; what follows it stays. A request that waits for its endpoint holds its head in
/// just the memory that it needs: the block goes back, still warm, to whoever reads next.
fn split(client: &Client, listener: &Listener, input: &mut Buffer, head: RequestHead) -> Request {
    let bytes = Buffer::exact(&input.bytes()[..head.length]);
    input.consume(head.length);
    if input.is_empty() {
        input.shrink();
    }
    let own = bytes.bytes();
    let fields = head.fields.iter().map(|f| (f.kind, f.value.get(own)));
    let source = forwarded::client_of(listener, client.source().ip(), fields);
    Request { head, bytes, source, secure: client.stream.tls().is_some() }
}

/// The client's own id, where it is believed.
fn given_id(request: &Request, trusted: bool) -> Option<&[u8]> {
    let own = request.bytes.bytes();
    let mut fields = request.head.fields.iter();
    fields.find(|f| trusted && f.kind == Kind::XRequestId).map(|f| f.value.get(own))
}

/// A request whose head has not been read yet. It leaves one record unless it goes on to be handled: what was refused,
/// or, dropped before that, that it was cut short.
struct Unread<'a> {
    worker: &'a Worker,
    client: &'a Client,
    listener: &'a Listener,
    start: Instant,
    /// Whether there is nothing left to record.
    ended: bool,
}

impl Unread<'_> {
    /// No whole head came, so there was no request.
    fn never_came(mut self, after: After) -> After {
        self.ended = true;
        after
    }

    /// Answers what is no acceptable request, and closes.
    async fn refuse(mut self, input: &mut Buffer, error: &Error) -> After {
        request::count_error(self.listener.live.counters.of(self.worker.id), error);
        let mut status = 0;
        if let Some(own) = Own::of_error(error, accepts_json(input.bytes())) {
            let mut out = Buffer::default();
            let to_head = input.bytes().starts_with(b"HEAD ");
            encode::put_own_response(&mut out, &own, HeadEdits::NONE, to_head, true, Version::Http11);
            if write_all(self.client, &mut out, self.listener.timeouts.client_idle).await.is_ok() {
                status = own.status;
            }
        }
        self.log(input.bytes(), status, error.termination());
        After::Close { linger: true }
    }

    fn log(&mut self, bytes: &[u8], status: u16, termination: Termination) {
        self.ended = true;
        let (worker, listener, peer) = (self.worker, self.listener, self.client.peer);
        worker.count_end(&listener.live, status, termination);
        let Ok(mut log) = worker.access_log.try_borrow_mut() else { return };
        if !log.is_on() {
            return;
        }
        // What stands on the first line, as far as it can be told apart.
        let line = bytes.split(|&b| b == b'\r' || b == b'\n').next().unwrap_or_default();
        let mut parts = line.splitn(3, |&b| b == b' ');
        let (method, target) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let total = self.start.elapsed();
        log.log(&Record {
            at: std::time::SystemTime::now() - total,
            client: self.client.source(),
            peer,
            listener: listener.name.as_str(),
            route: None,
            pool: None,
            endpoint: None,
            attempts: 0,
            protocol: "HTTP/1.1",
            tls: self.client.secured().map(Secured::logged),
            method: &method[..method.len().min(32)],
            host: b"",
            target: &target[..target.len().min(1024)],
            status,
            bytes_in: 0,
            bytes_out: 0,
            datagrams: None,
            phases: Phases { head: total, total, ..Phases::default() },
            termination,
            request_id: b"",
            trace_id: None,
            grpc_code: None,
        });
    }
}

impl Drop for Unread<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.log(b"", 0, Worker::why_cut());
        }
    }
}

/// `Accept` of a head that could not be parsed, if there is one.
fn accepts_json(bytes: &[u8]) -> bool {
    let mut lines = bytes.split(|&b| b == b'\n').skip(1).take(head::FIELDS_AT_HAND);
    lines
        .find_map(|line| line.split_at_checked(7).filter(|(name, _)| name.eq_ignore_ascii_case(b"accept:")))
        .is_some_and(|(_, value)| prefers_json(value.trim_ascii()))
}

/// Ends our direction and reads what the client still sends, for a while.
pub async fn drain_input(client: &Client) {
    client.stream.end_sending();
    let Some(snapshot) = client.snapshot() else { return };
    let Some(limits) = client.listener(&snapshot).map(|l| l.limits) else { return };
    drop(snapshot);
    client.timer.set_after(limits.linger);
    let mut left = limits.linger_bytes;
    let mut scratch = Buffer::default();
    while left > 0 {
        scratch.make_room(crate::proxy::buffer::BLOCK);
        match scratch.read_from(&client.stream) {
            Ok(0) => return,
            Ok(n) => {
                left = left.saturating_sub(n);
                scratch.consume(n);
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
        scratch.shrink();
        match client.timer.within(client.stream.readable()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return,
            Err(_) => break,
        }
    }
    count(client, |c| &c.linger_exceeded);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_request_under_way_weighs_does_not_grow_unnoticed() {
        fn busy_size<F: Future>(_: impl Fn(&'static Worker, &'static Client) -> F) -> usize {
            size_of::<F>()
        }
        let size = busy_size(busy);
        // Above 5120 the allocator gives a fifth more. What is rare is boxed.
        assert!(size <= 5120, "{size}");
    }
}
