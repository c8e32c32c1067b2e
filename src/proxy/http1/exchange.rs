//! A request of an HTTP/1 client and what it becomes: sent to an HTTP/1 endpoint, answered to the client.

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::task::{Context as TaskContext, Poll};

use tokio::net::TcpStream;
use tokio::time::Instant;

use super::answer::{AnswerBody, Waiting, poll_read, poll_write};
use super::chunked::Output;
use super::encode::{self, RequestEdits, ResponseEdits};
use super::fields::{Kind, list_elements};
use super::head::{Framing, Limits, RequestHead, ResponseHead, Scan, Scanner, Version, parse_response};
use super::upload::Upload;
use crate::model::field::FieldEdits;
use crate::model::method::Method;
use crate::model::request::RequestView;
use crate::proxy::attempt::Connection;
use crate::proxy::buffer::{BLOCK, Buffer};
use crate::proxy::connection::Client;
use crate::proxy::error::Error;
use crate::proxy::request::{Downstream, Failed};
use crate::proxy::respond::Own;
use crate::proxy::tcp::relay::{self, Ended};
use crate::proxy::upstream::dial;
use crate::proxy::upstream::idle::Identity;
use crate::proxy::worker::Worker;
use crate::runtime::listener::Listener;
use crate::runtime::pool::Timeouts;

/// Interim answers that are passed on before one is held to be a flood.
const INTERIM_MAX: u32 = 32;

/// Bytes of a response head. Beyond what any server sends by default; the endpoint is ours, so it has no setting.
const ANSWER_HEAD_MAX: usize = 64 * 1024;

/// The head of a request and the bytes it lies in.
#[derive(Debug)]
pub struct Request {
    /// The head.
    pub head: RequestHead,
    /// Its bytes.
    pub bytes: Buffer,
    /// The client's address after trust has been applied.
    pub source: IpAddr,
}

impl RequestView for Request {
    fn method(&self) -> Method {
        self.head.method
    }

    fn method_bytes(&self) -> &[u8] {
        self.head.method_span.get(self.bytes.bytes())
    }

    fn scheme(&self) -> &str {
        "http"
    }

    fn authority(&self) -> &[u8] {
        self.head.authority.get(self.bytes.bytes())
    }

    fn path(&self) -> &[u8] {
        match self.head.path.get(self.bytes.bytes()) {
            [] => b"/",
            path => path,
        }
    }

    fn query(&self) -> Option<&[u8]> {
        self.head.query.map(|span| span.get(self.bytes.bytes()))
    }

    fn target(&self) -> &[u8] {
        self.head.target.get(self.bytes.bytes())
    }

    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let bytes = self.bytes.bytes();
        self.head.fields.iter().map(move |f| (f.name.get(bytes), f.value.get(bytes)))
    }

    fn source(&self) -> IpAddr {
        self.source
    }
}

/// One request and its answer on an HTTP/1 connection.
pub struct Exchange<'c> {
    /// The worker.
    pub worker: &'c Worker,
    /// The client.
    pub client: &'c Client,
    /// Its listener.
    pub listener: &'c Listener,
    /// The request.
    pub request: Request,
    /// What the client has sent behind the head.
    pub input: &'c mut Buffer,
    /// The request body.
    pub upload: Upload,
    /// Whether the client's connection closes after this answer.
    pub close: bool,
    /// Whether a byte of an answer has gone to the client.
    pub started: bool,
    /// Bytes of the response body that went to the client.
    pub sent: u64,
}

/// An answer whose head has come.
pub struct Answer {
    head: ResponseHead,
    /// The head and what has come behind it.
    bytes: Buffer,
}

/// What [`Exchange::poll_exchange`] waits for.
struct Sending {
    /// The head, and what of the body goes with it.
    out: Buffer,
    /// Bytes that the endpoint's socket has taken.
    taken: u64,
    /// The endpoint takes no more; it may still have answered.
    refused: bool,
    answer: Buffer,
    scanner: Scanner,
    interim: u32,
    awaiting_continue: bool,
}

impl Sending {
    fn failed(&self, error: Error) -> Failed {
        Failed {
            error,
            bytes_sent: self.taken > 0,
            answer_bytes: !self.answer.is_empty() || self.interim > 0,
        }
    }
}

impl Downstream for Exchange<'_> {
    type View = Request;
    type Answer = Answer;

    fn view(&self) -> &Request {
        &self.request
    }

    fn answered_here(&self) -> Option<Own> {
        let hops = || self.request.head.fields.iter().find(|f| f.kind == Kind::MaxForwards);
        (self.request.head.method == Method::Options
            && hops().is_some_and(|f| f.value.get(self.request.bytes.bytes()) == b"0"))
        .then(Own::options)
    }

    fn keep_body(&mut self, max: usize) {
        if self.request.head.framing != Framing::None {
            self.upload.keep(max);
        }
    }

    fn body_is_replayable(&self) -> bool {
        self.upload.is_replayable()
    }

    async fn gone(&mut self) {
        poll_fn(|cx| self.poll_gone(cx)).await;
    }

    async fn exchange(
        &mut self,
        connection: &Connection<'_>,
        edits: &RequestEdits<'_>,
        timeouts: &Timeouts,
    ) -> Result<Answer, Failed> {
        let mut sending = self.compose(edits);
        let stream = &connection.stream;
        let timer = &self.client.timer;
        // While the body is still to come it is the client who must go on, unless it waits to be told to.
        timer.set(
            Instant::now()
                + if self.upload.is_complete() || sending.awaiting_continue {
                    timeouts.response_header
                } else {
                    self.listener.timeouts.client_idle
                },
        );
        loop {
            let outcome = poll_fn(|cx| match self.poll_exchange(cx, stream, &mut sending, timeouts) {
                Poll::Pending => timer.poll_expired(cx).map(|_| Err(self.expired(&sending))),
                ready => ready,
            })
            .await;
            let length = outcome.map_err(|error| sending.failed(error))?;
            let head = self.read_head(&mut sending, length)?;
            if head.status == 101 || head.status >= 200 {
                return Ok(Answer { head, bytes: sending.answer });
            }
            self.pass_interim(&head, &mut sending).await.map_err(|error| sending.failed(error))?;
            timer.set(
                Instant::now()
                    + if self.upload.is_complete() {
                        timeouts.response_header
                    } else {
                        self.listener.timeouts.client_idle
                    },
            );
        }
    }

    fn status(answer: &Answer) -> u16 {
        answer.head.status
    }

    async fn deliver(
        &mut self,
        connection: Connection<'_>,
        answer: Answer,
        edits: &FieldEdits,
        timeouts: &Timeouts,
    ) -> Result<(), Error> {
        if answer.head.status == 101 {
            return Box::pin(self.tunnel(connection, answer, edits, timeouts)).await;
        }
        let Answer { head, mut bytes } = answer;
        let http11 = self.request.head.version == Version::Http11;
        let (framing, output) = match head.framing {
            Framing::Chunked if !http11 => (Framing::UntilClose, Output::Data),
            framing => (framing, Output::Chunked),
        };
        // An answer before the end of the request: what is left of it may never be read.
        let early = !self.upload.is_done();
        self.close |= early || framing == Framing::UntilClose || self.worker.is_draining();
        let mut out = Buffer::default();
        let response =
            ResponseEdits { route: edits, client: self.request.head.version, close: self.close, framing };
        encode::put_response(&mut out, bytes.bytes(), &head, &response);
        bytes.consume(head.length);
        let mut body =
            AnswerBody::new(head.framing, bytes, output, self.listener.head_max, self.listener.fields_max);
        // Before the head is gone: a body that is malformed from the start is still an error with a status.
        body.join(&mut out)?;
        let delivered = self.send_answer(&connection, &mut out, &mut body, timeouts).await;
        self.sent += body.moved();
        if delivered.is_err() {
            self.close = true;
            relay::reset_on_close(&self.client.stream);
            return delivered;
        }
        if head.persistent && !body.has_surplus() && self.upload.is_done() {
            let keep = dial::keep_alive(timeouts.keep_alive, head.keep_alive);
            let Connection { place, stream, .. } = connection;
            self.worker.idle.put(self.worker.id, place.endpoint, Identity::default(), stream, keep);
        }
        Ok(())
    }

    async fn respond(&mut self, own: &Own) -> Result<(), Error> {
        self.settle_for_own();
        let to_head = self.request.head.method == Method::Head;
        let mut out = Buffer::default();
        encode::put_own_response(&mut out, own, to_head, self.close, self.request.head.version);
        self.started = true;
        self.sent += if to_head { 0 } else { own.body.len() as u64 };
        write_all(self.client, &mut out, self.listener.timeouts.client_idle).await
    }

    fn response_started(&self) -> bool {
        self.started
    }

    fn moved(&self) -> (u64, u64) {
        (self.upload.moved(), self.sent)
    }
}

impl Exchange<'_> {
    /// Head, what was sent of the body before, and what is there of it now.
    fn compose(&mut self, edits: &RequestEdits<'_>) -> Sending {
        let mut out = Buffer::default();
        encode::put_request(&mut out, self.request.bytes.bytes(), &self.request.head, edits);
        out.put(self.upload.sent_before());
        let staged = self.upload.staged(self.input);
        if !staged.is_empty() && out.len() + staged.len() <= BLOCK {
            let n = staged.len();
            out.put(staged);
            self.upload.sent(self.input, n);
        }
        Sending {
            out,
            taken: 0,
            refused: false,
            answer: Buffer::default(),
            scanner: Scanner::default(),
            interim: 0,
            awaiting_continue: self.request.head.expects_continue,
        }
    }

    /// Sends and receives at once; ready with the length of a response head.
    fn poll_exchange(
        &mut self,
        cx: &mut TaskContext<'_>,
        endpoint: &TcpStream,
        sending: &mut Sending,
        timeouts: &Timeouts,
    ) -> Poll<Result<usize, Error>> {
        if let Poll::Ready(Err(error)) = self.poll_send(cx, endpoint, sending, timeouts) {
            return Poll::Ready(Err(error));
        }
        loop {
            match sending.scanner.scan(sending.answer.bytes()) {
                Scan::Complete(length) => return Poll::Ready(Ok(length)),
                Scan::BareLf => return Poll::Ready(Err(Error::Answer("a line does not end in CRLF"))),
                Scan::Partial | Scan::StartLine(_) => {}
            }
            if !sending.answer.make_room(ANSWER_HEAD_MAX) {
                return Poll::Ready(Err(Error::Answer("its header section is too large")));
            }
            match poll_read(cx, endpoint, &mut sending.answer) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(Error::Reset)),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => break,
            }
        }
        if sending.answer.is_empty() {
            sending.answer.shrink();
        }
        if self.upload.is_complete() {
            return self.poll_gone(cx).map(|()| Err(Error::ClientGone));
        }
        Poll::Pending
    }

    /// Sends what can be sent; ready once all has been, or nothing more will be.
    fn poll_send(
        &mut self,
        cx: &mut TaskContext<'_>,
        endpoint: &TcpStream,
        sending: &mut Sending,
        timeouts: &Timeouts,
    ) -> Poll<Result<(), Error>> {
        while !sending.refused {
            if !sending.out.is_empty() {
                match poll_write(cx, endpoint, sending.out.bytes()) {
                    Poll::Ready(Ok(n)) => {
                        sending.taken += n as u64;
                        sending.out.consume(n);
                        if sending.out.is_empty() {
                            sending.out.shrink();
                        }
                    }
                    Poll::Ready(Err(_)) => sending.refused = true,
                    Poll::Pending => return Poll::Pending,
                }
                continue;
            }
            match self.poll_upload(cx, endpoint) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(n)) => {
                    sending.taken += n as u64;
                    let now = Instant::now();
                    self.client.timer.set(now + self.listener.timeouts.client_idle.min(timeouts.idle));
                    if self.upload.is_done() {
                        self.client.timer.set(now + timeouts.response_header);
                    }
                }
                Poll::Ready(Err(Error::Reset)) => sending.refused = true,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Moves some of the body from the client to the endpoint; 0 when all of it has gone.
    fn poll_upload(&mut self, cx: &mut TaskContext<'_>, endpoint: &TcpStream) -> Poll<Result<usize, Error>> {
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
            if !self.input.make_room(self.listener.head_max.max(BLOCK)) {
                return Poll::Ready(Err(Error::Refused(crate::proxy::error::Refusal::HeadTooLarge)));
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

    /// Ready when the client has left. What it sends meanwhile is kept, up to one block.
    fn poll_gone(&mut self, cx: &mut TaskContext<'_>) -> Poll<()> {
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

    /// Who has been too slow.
    fn expired(&self, sending: &Sending) -> Error {
        let waits_for_client = sending.out.is_empty()
            && !sending.refused
            && !self.upload.is_complete()
            && self.upload.staged(self.input).is_empty()
            && !sending.awaiting_continue;
        if waits_for_client { Error::ClientTimeout } else { Error::Timeout }
    }

    fn read_head(&self, sending: &mut Sending, length: usize) -> Result<ResponseHead, Failed> {
        let limits = Limits { head: ANSWER_HEAD_MAX, fields: super::head::FIELDS_MAX, target: 0 };
        let to_head = self.request.head.method == Method::Head;
        let bytes = &sending.answer.bytes()[..length];
        let head = parse_response(bytes, &limits, to_head, Vec::with_capacity(16))
            .map_err(|why| sending.failed(Error::Answer(why)))?;
        if head.status == 101 && !self.may_switch(bytes, &head) {
            return Err(sending.failed(Error::Answer("it switches to a protocol that was not asked for")));
        }
        Ok(head)
    }

    /// Whether a 101 names a protocol that the client offered (RFC 9110 section 15.2.2).
    fn may_switch(&self, bytes: &[u8], head: &ResponseHead) -> bool {
        let own = self.request.bytes.bytes();
        let offered = || {
            let upgrades = self.request.head.fields.iter().filter(|f| f.kind == Kind::Upgrade);
            upgrades.flat_map(|f| list_elements(f.value.get(own)))
        };
        let mut chosen = head.fields.iter().filter(|f| f.kind == Kind::Upgrade);
        self.request.head.upgrade
            && head.upgrade
            && chosen.all(|f| {
                let mut protocols = list_elements(f.value.get(bytes));
                protocols.all(|p| !super::head::is_h2c(p) && offered().any(|o| o.eq_ignore_ascii_case(p)))
            })
    }

    /// Passes an interim answer on (RFC 9110 section 15.2), but for an HTTP/1.0 client.
    async fn pass_interim(&mut self, head: &ResponseHead, sending: &mut Sending) -> Result<(), Error> {
        sending.interim += 1;
        sending.awaiting_continue = false;
        if sending.interim > INTERIM_MAX {
            return Err(Error::Answer("too many interim answers"));
        }
        let http11 = self.request.head.version == Version::Http11;
        // 100 answers an expectation; a client that had none is not to be puzzled by it.
        if http11 && (head.status != 100 || self.request.head.expects_continue) {
            let mut out = Buffer::default();
            let none = FieldEdits::default();
            let edits =
                ResponseEdits { route: &none, client: Version::Http11, close: false, framing: Framing::None };
            encode::put_response(&mut out, sending.answer.bytes(), head, &edits);
            write_all(self.client, &mut out, self.listener.timeouts.client_idle).await?;
        }
        sending.answer.consume(head.length);
        sending.scanner = Scanner::default();
        Ok(())
    }

    /// Sends the head and then the body, while what is left of the request still goes the other way.
    async fn send_answer(
        &mut self,
        connection: &Connection<'_>,
        out: &mut Buffer,
        body: &mut AnswerBody,
        timeouts: &Timeouts,
    ) -> Result<(), Error> {
        self.started = true;
        // Nearly always all of it goes at once, and no deadline is needed.
        match out.write_to(&self.client.stream) {
            Ok(_) if out.is_empty() && body.is_done() => return Ok(()),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(Error::ClientGone),
            _ => {}
        }
        write_all(self.client, out, self.listener.timeouts.client_idle).await?;
        let timer = &self.client.timer;
        let mut moved = None;
        poll_fn(|cx| {
            let waiting = match body.poll(cx, &connection.stream, &self.client.stream, &self.worker.pipes) {
                Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
                Poll::Ready(Err((_, Some(error)))) => {
                    return Poll::Ready(Err(match error {
                        // The head has gone: there is no status left for it.
                        Error::Answer(_) => Error::Truncated,
                        error => error,
                    }));
                }
                Poll::Ready(Err((waiting, None))) => waiting,
                Poll::Pending => Waiting::Endpoint,
            };
            let uploaded = self.upload.moved();
            // Its failure shows in the answer, or does not matter.
            while let Poll::Ready(Ok(1..)) = self.poll_upload(cx, &connection.stream) {}
            let progress = (body.moved(), uploaded, waiting);
            if moved != Some(progress) {
                moved = Some(progress);
                timer.set(
                    Instant::now()
                        + match waiting {
                            Waiting::Endpoint => timeouts.idle,
                            Waiting::Client => self.listener.timeouts.client_idle,
                        },
                );
            }
            timer.poll_expired(cx).map(|_| match waiting {
                Waiting::Endpoint => Err(Error::Stalled),
                Waiting::Client => Err(Error::ClientTimeout),
            })
        })
        .await
    }

    /// After 101 both sides speak something else: bytes are relayed as they come.
    async fn tunnel(
        &mut self,
        connection: Connection<'_>,
        answer: Answer,
        edits: &FieldEdits,
        timeouts: &Timeouts,
    ) -> Result<(), Error> {
        let Answer { head, mut bytes } = answer;
        let mut out = Buffer::default();
        let response =
            ResponseEdits { route: edits, client: Version::Http11, close: true, framing: Framing::None };
        encode::put_response(&mut out, bytes.bytes(), &head, &response);
        bytes.consume(head.length);
        self.started = true;
        self.close = true;
        write_all(self.client, &mut out, self.listener.timeouts.client_idle).await?;
        let first = std::mem::take(self.input);
        let relayed = relay::run_with(
            &self.client.stream,
            &connection.stream,
            [first, bytes],
            timeouts.tunnel,
            &self.client.timer,
            &self.worker.pipes,
        )
        .await;
        self.sent += relayed.back;
        match relayed.ended {
            Ended::Closed | Ended::Idle => Ok(()),
            Ended::FirstBroke => Err(Error::ClientGone),
            Ended::SecondBroke => Err(Error::Truncated),
        }
    }

    /// Before an answer of our own: what is there of the body is passed over; if more is to come, the connection
    /// closes after the answer.
    fn settle_for_own(&mut self) {
        while !self.upload.is_done() {
            let before = self.input.len();
            if self.upload.stage(self.input).is_err() {
                break;
            }
            let n = self.upload.staged(self.input).len();
            self.upload.sent(self.input, n);
            if self.input.len() == before {
                break;
            }
        }
        self.close |= !self.upload.is_done() || self.worker.is_draining();
    }
}

/// Writes all of `out`, as long as the client takes something in time.
pub async fn write_all(client: &Client, out: &mut Buffer, idle: std::time::Duration) -> Result<(), Error> {
    while !out.is_empty() {
        match out.write_to(&client.stream) {
            Ok(_) => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Err(Error::ClientGone),
        }
        client.timer.set(Instant::now() + idle);
        match client.timer.within(client.stream.writable()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(Error::ClientGone),
            Err(_) => return Err(Error::ClientTimeout),
        }
    }
    Ok(())
}
