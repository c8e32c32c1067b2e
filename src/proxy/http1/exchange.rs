//! A request of an HTTP/1 client and what it becomes: sent to an HTTP/1 endpoint, answered to the client.

use std::future::{Future, poll_fn};
use std::mem::take;
use std::net::IpAddr;
use std::task::{Context as TaskContext, Poll};

use tokio::time::Instant;

use super::answer::{AnswerBody, Waiting, poll_read};
use super::chunked::{self, Output};
use super::encode::{self, RequestEdits, ResponseEdits};
use super::fields::Kind;
use super::head::{Framing, Limits, RequestHead, ResponseHead, TOO_MANY_FIELDS, Version, parse_response};
use super::outgoing::Outgoing;
use super::scan::{Scan, Scanner};
use super::upload::Upload;
use crate::model::field::HeadEdits;
use crate::model::method::Method;
use crate::model::request::RequestView;
use crate::proxy::attempt::{Connection, Link};
use crate::proxy::awaited::Awaited;
use crate::proxy::buffer::{BLOCK, Buffer};
use crate::proxy::connection::{Client, write_all};
use crate::proxy::error::{Error, Refusal};
use crate::proxy::request::{Downstream, Failed};
use crate::proxy::respond::Own;
use crate::proxy::tcp::relay::Moved;
use crate::proxy::tcp::splice::Splice;
use crate::proxy::timer::Timer;
use crate::proxy::upstream::{dial, tls};
use crate::proxy::worker::Worker;
use crate::runtime::listener::Listener;
use crate::runtime::pool::{PoolCounters, Timeouts};

/// The head of a request and the bytes it lies in.
#[derive(Debug)]
pub struct Request {
    /// The head.
    pub head: RequestHead,
    /// Its bytes.
    pub bytes: Buffer,
    /// The client's address after trust has been applied.
    pub source: IpAddr,
    /// Whether it came under TLS.
    pub secure: bool,
}

impl RequestView for Request {
    fn method(&self) -> Method {
        self.head.method
    }

    fn method_bytes(&self) -> &[u8] {
        self.head.method_span.get(self.bytes.bytes())
    }

    fn scheme(&self) -> &str {
        if self.secure { "https" } else { "http" }
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
    /// Whether an interim answer has gone to the client.
    pub interim: bool,
    /// Bytes of the response body that went to the client.
    pub sent: u64,
    /// Bytes that went through a tunnel, there and back.
    pub tunnelled: Moved,
    /// A large request body on its way from socket to socket.
    pub splice: Option<Box<Splice>>,
}

/// An answer whose head has come.
pub struct Answer {
    pub(super) head: ResponseHead,
    /// The head and what has come behind it.
    pub(super) bytes: Buffer,
    /// What of the request has not gone yet.
    rest: Outgoing,
}

/// A request on its way to one endpoint, and what has come back.
pub struct Sending {
    going: Outgoing,
    answer: Buffer,
    scanner: Scanner,
    /// The head of an interim answer that has come and was not passed on yet.
    interim_head: Option<Box<ResponseHead>>,
    interim: u32,
    awaiting_continue: bool,
    /// What the deadline is set for.
    awaited: Option<Awaited>,
}

impl Sending {
    fn failed(&self, error: Error) -> Failed {
        Failed {
            error,
            bytes_sent: self.going.taken > 0,
            answer_bytes: !self.answer.is_empty() || self.interim > 0,
        }
    }
}

impl Downstream for Exchange<'_> {
    type View = Request;
    type Answer = Answer;
    type Sending = Sending;

    fn view(&self) -> &Request {
        &self.request
    }

    fn answered_here(&self) -> Option<Own> {
        let hops = || self.request.head.fields.iter().find(|f| f.kind == Kind::MaxForwards);
        (self.request.head.method == Method::Options
            && hops().is_some_and(|f| f.value.get(self.request.bytes.bytes()) == b"0"))
        .then(Own::options)
    }

    fn limit_body(&mut self, max: u64) -> Result<(), Refusal> {
        self.upload.limit(max)
    }

    fn keep_body(&mut self, max: usize) {
        if self.request.head.framing != Framing::None {
            self.upload.keep(max);
        }
    }

    fn has_body(&self) -> bool {
        self.request.head.framing != Framing::None
    }

    fn body_will_repeat(&self) -> bool {
        self.upload.will_repeat()
    }

    fn interim_passed(&self) -> bool {
        self.interim
    }

    fn body_is_replayable(&self) -> bool {
        self.upload.is_replayable()
    }

    async fn gone(&mut self) {
        poll_fn(|cx| self.poll_gone(cx)).await;
    }

    fn compose(&mut self, _: &Connection<'_>, edits: &RequestEdits<'_>) -> Sending {
        let mut out = Buffer::default();
        encode::put_request(&mut out, self.request.bytes.bytes(), &self.request.head, edits);
        out.put(self.upload.sent_before());
        let staged = self.upload.staged(self.input);
        let joined = if out.len() + staged.len() <= BLOCK { staged.len() } else { 0 };
        out.put(&staged[..joined]);
        Sending {
            going: Outgoing { out, staged: joined, taken: 0, refused: false },
            answer: Buffer::default(),
            scanner: Scanner::default(),
            interim_head: None,
            interim: 0,
            awaiting_continue: self.request.head.expects_continue,
            awaited: None,
        }
    }

    fn is_sent(&self, sending: &Sending) -> bool {
        sending.going.out.is_empty() && self.upload.is_done()
    }

    fn poll_head(
        &mut self,
        cx: &mut TaskContext<'_>,
        connection: &Connection<'_>,
        sending: &mut Sending,
        timeouts: &Timeouts,
        timer: &Timer,
    ) -> Poll<Result<Option<Answer>, Failed>> {
        let length = match self.poll_exchange(cx, connection, sending) {
            Poll::Ready(Ok(length)) => length,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(sending.failed(error))),
            Poll::Pending => {
                let idle = self.listener.timeouts.client_idle;
                let late = self.awaits(sending).poll_late(cx, &mut sending.awaited, idle, timeouts, timer);
                return late.map(|error| Err(sending.failed(error)));
            }
        };
        let head = self.read_head(connection, sending, length)?;
        if head.status == 101 || head.status >= 200 {
            let (bytes, rest) = (take(&mut sending.answer), take(&mut sending.going));
            return Poll::Ready(Ok(Some(Answer { head, bytes, rest })));
        }
        sending.interim_head = Some(Box::new(head));
        Poll::Ready(Ok(None))
    }

    async fn exchange(
        &mut self,
        connection: &Connection<'_>,
        sending: &mut Sending,
        timeouts: &Timeouts,
    ) -> Result<Answer, Failed> {
        let client = self.client;
        loop {
            if let Some(head) = sending.interim_head.take() {
                let passed = self.pass_interim(connection, &head, sending).await;
                passed.map_err(|error| sending.failed(error))?;
            }
            let heard =
                poll_fn(|cx| self.poll_head(cx, connection, sending, timeouts, &client.timer)).await?;
            if let Some(answer) = heard {
                return Ok(answer);
            }
        }
    }

    fn status(answer: &Answer) -> u16 {
        answer.head.status
    }

    fn answer_fields(answer: &Answer) -> Box<dyn Iterator<Item = (&[u8], &[u8])> + '_> {
        let bytes = answer.bytes.bytes();
        Box::new(answer.head.fields.iter().map(move |field| (field.name.get(bytes), field.value.get(bytes))))
    }

    #[expect(clippy::manual_async_fn, reason = "an async fn keeps its arguments twice, in every request")]
    fn deliver(
        &mut self,
        connection: Connection<'_>,
        answer: Answer,
        edits: HeadEdits<'_>,
        timeouts: &Timeouts,
    ) -> impl Future<Output = Result<(), Error>> {
        async move {
            if answer.head.status == 101 {
                return Box::pin(self.tunnel(connection, answer, edits, timeouts)).await;
            }
            let Answer { head, mut bytes, mut rest } = answer;
            let http11 = self.request.head.version == Version::Http11;
            let (framing, output) = match head.framing {
                Framing::Chunked if !http11 => (Framing::UntilClose, Output::Data),
                framing => (framing, Output::Chunked),
            };
            // An answer before the end of the request: what is left of it may never be read.
            let early = !rest.out.is_empty() || !self.upload.is_done();
            self.close |= early || framing == Framing::UntilClose || self.client.is_leaving();
            let mut out = Buffer::default();
            let response =
                ResponseEdits { head: edits, client: self.request.head.version, close: self.close, framing };
            encode::put_response(&mut out, bytes.bytes(), &head, &response);
            bytes.consume(head.length);
            let limits = chunked::Limits {
                trailers: connection.place.pool.limits.answer_head,
                fields: connection.place.pool.limits.answer_fields,
                extensions: connection.place.pool.limits.chunk_extensions,
            };
            let mut body = AnswerBody::new(head.framing, bytes, output, limits);
            // Before the head is gone: a body that is malformed from the start is still an error with a status.
            if let Err(error) = body.join(&mut out) {
                self.count_extensions(&connection, &body);
                return Err(error);
            }
            self.started = true;
            let keep = dial::keep_alive(timeouts.keep_alive, head.keep_alive);
            if body.is_done() && !early {
                // The endpoint has done its part: its place is free before the client has the answer.
                self.part(connection, keep, head.persistent && !rest.refused && !body.has_surplus());
                self.sent = body.moved();
                let written = write_all(self.client, &mut out, self.listener.timeouts.client_idle).await;
                return self.end(written);
            }
            let delivered = self.send_answer(&connection, &mut rest, &mut out, &mut body, timeouts).await;
            self.count_extensions(&connection, &body);
            let sent = rest.out.is_empty() && !rest.refused && self.upload.is_done();
            self.part(connection, keep, delivered.is_ok() && sent && head.persistent && !body.has_surplus());
            self.end(delivered)
        }
    }

    async fn respond(&mut self, own: &Own, edits: HeadEdits<'_>) -> Result<(), Error> {
        self.settle_for_own();
        let to_head = self.request.head.method == Method::Head;
        let mut out = Buffer::default();
        encode::put_own_response(&mut out, own, edits, to_head, self.close, self.request.head.version);
        self.started = true;
        self.sent += if to_head { 0 } else { own.body.len() as u64 };
        let written = write_all(self.client, &mut out, self.listener.timeouts.client_idle).await;
        self.end(written)
    }

    fn response_started(&self) -> bool {
        self.started
    }

    fn moved(&self) -> (u64, u64) {
        (self.upload.moved() + self.tunnelled.forth(), self.sent + self.tunnelled.back())
    }
}

impl<'c> Exchange<'c> {
    /// A request that nothing has been done with.
    pub fn new(
        worker: &'c Worker,
        client: &'c Client,
        listener: &'c Listener,
        request: Request,
        input: &'c mut Buffer,
        upload: Upload,
    ) -> Self {
        Self {
            worker,
            client,
            listener,
            close: !request.head.persistent || client.is_leaving(),
            request,
            input,
            upload,
            started: false,
            interim: false,
            sent: 0,
            tunnelled: Moved::default(),
            splice: None,
        }
    }

    /// Parts with the endpoint: its connection is kept if it can carry another request.
    fn part(&self, connection: Connection<'_>, keep: std::time::Duration, usable: bool) {
        let Connection { place, link, identity, .. } = connection;
        if usable && let (Link::Own(stream), Some(identity)) = (link, identity) {
            self.worker.idle.put(self.worker.id, &place, identity, stream, keep);
        }
    }

    /// Counters of the pool that `connection` belongs to.
    fn pool_counters<'p>(&self, connection: &Connection<'p>) -> &'p PoolCounters {
        connection.place.pool.live.counters.of(self.worker.id)
    }

    fn count_extensions(&self, connection: &Connection<'_>, body: &AnswerBody) {
        if body.extensions_exceeded() {
            self.pool_counters(connection).extensions_exceeded.one();
        }
    }

    /// After half an answer nothing that follows could be told from its rest: the connection is reset.
    fn end(&mut self, outcome: Result<(), Error>) -> Result<(), Error> {
        if outcome.is_err() {
            self.close = true;
            self.client.stream.reset_on_close();
        }
        outcome
    }

    fn awaits(&self, sending: &Sending) -> Awaited {
        let going = &sending.going;
        let takes = going.out.is_empty() && self.upload.staged(self.input).is_empty();
        if going.refused || self.upload.is_done() || (takes && sending.awaiting_continue) {
            Awaited::Answer(sending.interim)
        } else if takes && self.splice.as_ref().is_none_or(|s| s.is_empty()) {
            Awaited::Body(self.upload.moved())
        } else {
            Awaited::Taking(going.taken)
        }
    }

    /// Sends and receives at once; ready with the length of a response head.
    fn poll_exchange(
        &mut self,
        cx: &mut TaskContext<'_>,
        connection: &Connection<'_>,
        sending: &mut Sending,
    ) -> Poll<Result<usize, Error>> {
        let (endpoint, most) = (connection.stream()?, connection.place.pool.limits.answer_head);
        if let Poll::Ready(Err(error)) = self.poll_send(cx, endpoint, &mut sending.going) {
            return Poll::Ready(Err(error));
        }
        loop {
            match sending.scanner.scan(sending.answer.bytes()) {
                Scan::Complete(length) if length <= most => return Poll::Ready(Ok(length)),
                Scan::BareLf => return Poll::Ready(Err(Error::Answer("a line does not end in CRLF"))),
                // A block has room for more than a small limit.
                Scan::Partial | Scan::StartLine(_)
                    if sending.answer.len() <= most && sending.answer.make_room(most) => {}
                Scan::Complete(_) | Scan::Partial | Scan::StartLine(_) => {
                    self.pool_counters(connection).answer_head_exceeded.one();
                    return Poll::Ready(Err(Error::Answer("its header section is too large")));
                }
            }
            match poll_read(cx, endpoint, &mut sending.answer) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(Error::Reset)),
                Poll::Ready(Err(error)) => {
                    let is_first = !connection.reused && sending.answer.is_empty();
                    let refused = is_first.then(|| tls::late_refusal(&error)).flatten();
                    return Poll::Ready(Err(refused.map_or(Error::Reset, Error::Connect)));
                }
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

    fn read_head(
        &self,
        connection: &Connection<'_>,
        sending: &mut Sending,
        length: usize,
    ) -> Result<ResponseHead, Failed> {
        let own = &connection.place.pool.limits;
        let limits = Limits { head: own.answer_head, fields: own.answer_fields, target: 0 };
        let to_head = self.request.head.method == Method::Head;
        let bytes = &sending.answer.bytes()[..length];
        let head = parse_response(bytes, &limits, to_head, Vec::with_capacity(16)).map_err(|why| {
            if why == TOO_MANY_FIELDS {
                self.pool_counters(connection).answer_fields_exceeded.one();
            }
            sending.failed(Error::Answer(why))
        })?;
        if head.status == 101 && !self.may_switch(bytes, &head) {
            return Err(sending.failed(Error::Answer("it switches to a protocol that was not asked for")));
        }
        Ok(head)
    }

    /// Passes an interim answer on (RFC 9110 section 15.2), but for an HTTP/1.0 client.
    async fn pass_interim(
        &mut self,
        connection: &Connection<'_>,
        head: &ResponseHead,
        sending: &mut Sending,
    ) -> Result<(), Error> {
        sending.interim += 1;
        sending.awaiting_continue = false;
        if sending.interim > connection.place.pool.limits.interim_answers {
            self.pool_counters(connection).interim_exceeded.one();
            return Err(Error::Answer("too many interim answers"));
        }
        let http11 = self.request.head.version == Version::Http11;
        // 100 answers an expectation; a client that had none is not to be puzzled by it.
        if http11 && (head.status != 100 || self.request.head.expects_continue) {
            let mut out = Buffer::default();
            let edits = ResponseEdits {
                head: HeadEdits::NONE,
                client: Version::Http11,
                close: false,
                framing: Framing::None,
            };
            encode::put_response(&mut out, sending.answer.bytes(), head, &edits);
            self.interim = true;
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
        rest: &mut Outgoing,
        out: &mut Buffer,
        body: &mut AnswerBody,
        timeouts: &Timeouts,
    ) -> Result<(), Error> {
        self.sent = body.moved();
        write_all(self.client, out, self.listener.timeouts.client_idle).await?;
        let (timer, stream) = (&self.client.timer, connection.stream()?);
        let mut moved = None;
        poll_fn(|cx| {
            let polled = body.poll(cx, stream, &self.client.stream, &self.worker.pipes);
            // Kept up to date, for an answer that is cut short.
            self.sent = body.moved();
            let waiting = match polled {
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
            // A failure on the endpoint's side shows in the answer, or does not matter.
            let sent = self.poll_send(cx, stream, rest);
            let gone = matches!(sent, Poll::Ready(Err(Error::ClientGone)));
            if let Poll::Ready(Err(error @ Error::Refused(Refusal::BodyTooLarge))) = sent {
                return Poll::Ready(Err(error));
            }
            if gone || (self.upload.is_complete() && self.poll_gone(cx).is_ready()) {
                return Poll::Ready(Err(Error::ClientGone));
            }
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
        self.close |= !self.upload.is_done() || self.client.is_leaving();
    }
}
