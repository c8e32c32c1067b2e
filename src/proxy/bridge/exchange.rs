//! A request across the bridge and what it becomes: given to one endpoint after the other until one answers, and the
//! answer given to the client, frame by frame.

use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::response::Parts;
use http::{Response, StatusCode};
use tokio::time::Instant;

use super::request::Request;
use super::transform::Transform;
use super::upload::{Given, Upload};
use super::{ClientHalf, EndpointHalf, Frame, Head, Upstream};
use crate::model::field::HeadEdits;
use crate::model::grpc;
use crate::model::method::Method;
use crate::proxy::attempt::Connection;
use crate::proxy::awaited::Awaited;
use crate::proxy::buffer::BLOCK;
use crate::proxy::connection::Client;
use crate::proxy::error::{Error, Refusal};
use crate::proxy::http1::encode::RequestEdits;
use crate::proxy::request::{Downstream, Failed, is_call};
use crate::proxy::respond::Own;
use crate::proxy::tcp::splice::TURN;
use crate::proxy::timer::Timer;
use crate::proxy::worker::Worker;
use crate::runtime::listener::Listener;
use crate::runtime::pool::Timeouts;

/// One request and its answer across the bridge.
pub struct Bridge<'c, C> {
    /// The worker.
    pub worker: &'c Worker,
    /// The client's connection; a request of our own has none.
    pub client: Option<&'c Client>,
    /// Its listener.
    pub listener: &'c Listener,
    /// The one deadline of this request.
    pub timer: &'c Timer,
    /// The request.
    pub request: Request,
    /// Its body.
    pub upload: Upload,
    /// The client's side.
    pub half: C,
    /// Whether the head of an answer has gone to the client.
    pub started: bool,
    /// Whether an interim answer has.
    pub interim: bool,
    /// Bytes of the answer's body that went to the client.
    pub sent: u64,
    /// The status of the gRPC call that it is, once that has come.
    pub grpc_code: Option<u16>,
    /// What is done with its answer; nothing where that just passes.
    pub transform: Option<Box<Transform>>,
}

/// A request on its way to one endpoint, and what has come back.
pub struct Sending {
    /// Nothing once the head of the answer has come.
    half: Option<Upstream>,
    given: Given,
    /// The endpoint takes no more of it.
    refused: bool,
    interim_head: Option<Box<Parts>>,
    interim: u32,
    awaiting_continue: bool,
    /// What the deadline is set for.
    awaited: Option<Awaited>,
}

/// An answer whose head has come.
pub struct Answer {
    pub(super) head: Head,
    pub(super) half: Upstream,
    pub(super) given: Given,
    pub(super) refused: bool,
    /// Taken from the endpoint, and not given to the client yet.
    pub(super) held: Option<Frame>,
}

/// Which side an answer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiting {
    Endpoint,
    Client,
}

impl Sending {
    fn failed(&self, error: Error) -> Failed {
        let half = self.half.as_ref();
        Failed {
            error,
            bytes_sent: half.is_some_and(EndpointHalf::is_touched),
            answer_bytes: half.is_some_and(EndpointHalf::has_answered),
        }
    }
}

impl<'c, C: ClientHalf> Bridge<'c, C> {
    /// A request that nothing has been done with.
    pub fn new(
        worker: &'c Worker,
        client: Option<&'c Client>,
        listener: &'c Listener,
        timer: &'c Timer,
        request: Request,
        half: C,
    ) -> Self {
        let upload = Upload::new(request.framing);
        Self {
            worker,
            client,
            listener,
            timer,
            request,
            upload,
            half,
            started: false,
            interim: false,
            sent: 0,
            grpc_code: None,
            transform: None,
        }
    }

    /// Sends and receives at once; ready with the head of an answer.
    fn poll_exchange(
        &mut self,
        cx: &mut Context<'_>,
        connection: &Connection<'_>,
        sending: &mut Sending,
    ) -> Poll<Result<Head, Error>> {
        let Some(half) = &mut sending.half else { return Poll::Ready(Err(Error::Reset)) };
        if !sending.refused {
            // What goes through a tunnel waits until there is one.
            let mut polled = Poll::Ready(Ok(()));
            if !self.request.websocket {
                let to = (&mut *half, connection);
                polled = self.upload.poll_give(cx, &mut self.half, to, &mut sending.given);
            }
            let sent = half.poll_sent(cx, connection);
            for polled in [polled, sent] {
                match polled {
                    Poll::Ready(Err(Error::Reset)) => sending.refused = true,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Ready(Ok(())) | Poll::Pending => {}
                }
            }
        }
        if let Poll::Ready(head) = half.poll_head(cx, connection) {
            return Poll::Ready(head);
        }
        // Interim answers, which the client half may still hold.
        if let Poll::Ready(Err(error)) = self.half.poll_sent(cx) {
            return Poll::Ready(Err(error));
        }
        self.half.poll_gone(cx).map(|()| Err(Error::ClientGone))
    }

    fn awaits(&self, sending: &Sending) -> Awaited {
        let taken = sending.half.as_ref().map_or(0, EndpointHalf::taken);
        if sending.refused || sending.given.ended || self.request.websocket || sending.awaiting_continue {
            Awaited::Answer(sending.interim)
        } else if self.upload.holds() {
            Awaited::Taking(taken)
        } else {
            Awaited::Body(self.upload.moved())
        }
    }

    /// Takes note of how a gRPC call ended.
    pub(super) fn note_call(&mut self, fields: &HeaderMap) {
        if is_call(&self.request) {
            self.grpc_code = fields.get("grpc-status").and_then(|status| grpc::code(status.as_bytes()));
        }
    }

    /// Passes an interim answer on (RFC 9110 section 15.2).
    fn pass_interim(
        &mut self,
        connection: &Connection<'_>,
        head: Parts,
        sending: &mut Sending,
    ) -> Result<(), Error> {
        sending.interim += 1;
        sending.awaiting_continue = false;
        let pool = connection.place.pool;
        if sending.interim > pool.limits.interim_answers {
            pool.live.counters.of(self.worker.id).interim_exceeded.one();
            return Err(Error::Answer("too many interim answers"));
        }
        // 100 answers an expectation; a client that had none is not to be puzzled by it.
        if head.status != StatusCode::CONTINUE || self.request.expects_continue {
            self.interim = true;
            self.half.send_interim(head)?;
        }
        Ok(())
    }

    /// Moves what can be moved of an answer's body, one turn at most; says which side it then waits for.
    pub(super) fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        connection: &Connection<'_>,
        answer: &mut Answer,
    ) -> Result<Option<Waiting>, Error> {
        let mut budget = TURN;
        while budget > 0 {
            let frame = match answer.held.take() {
                Some(frame) => Some(frame),
                None => match answer.half.poll_frame(cx, connection, BLOCK) {
                    Poll::Ready(frame) => frame.transpose()?,
                    Poll::Pending => return Ok(Some(Waiting::Endpoint)),
                },
            };
            let Some(frame) = frame else {
                self.half.send(Frame::Data(Bytes::new()), true)?;
                return Ok(None);
            };
            let mut data = match frame {
                Frame::Data(data) if data.is_empty() => continue,
                Frame::Data(data) => data,
                Frame::Trailers(trailers) => {
                    self.note_call(&trailers);
                    self.half.send(Frame::Trailers(trailers), true)?;
                    return Ok(None);
                }
            };
            let Poll::Ready(room) = self.half.poll_room(cx, data.len()) else {
                answer.held = Some(Frame::Data(data));
                return Ok(Some(Waiting::Client));
            };
            let n = room?.min(data.len());
            let now = data.split_to(n);
            let end = data.is_empty() && answer.half.is_ended();
            self.half.send(Frame::Data(now), end)?;
            answer.half.release(n);
            self.sent += n as u64;
            budget = budget.saturating_sub(n);
            if end {
                return Ok(None);
            }
            if !data.is_empty() {
                answer.held = Some(Frame::Data(data));
            }
        }
        cx.waker().wake_by_ref();
        Ok(Some(Waiting::Endpoint))
    }

    /// Gives the client the body, while what is left of the request still goes the other way.
    async fn send_answer(
        &mut self,
        connection: &Connection<'_>,
        answer: &mut Answer,
        timeouts: &Timeouts,
    ) -> Result<(), Error> {
        let mut progress = None;
        let mut ended = answer.head.end;
        poll_fn(|cx| {
            let mut waiting = Waiting::Client;
            if !ended {
                match self.poll_answer(cx, connection, answer) {
                    Ok(None) => ended = true,
                    Ok(Some(side)) => waiting = side,
                    // The head has gone: there is no status left for it.
                    Err(Error::Answer(_)) => return Poll::Ready(Err(Error::Truncated)),
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            let sent = self.half.poll_sent(cx)?;
            if ended && sent.is_ready() {
                return Poll::Ready(Ok(()));
            }
            // With all of it given, a client that leaves is seen by what it no longer takes.
            if !ended {
                self.poll_rest(cx, connection, answer)?;
                if self.half.poll_gone(cx).is_ready() {
                    return Poll::Ready(Err(Error::ClientGone));
                }
            }
            let now = (self.sent, self.upload.moved(), waiting);
            self.poll_stalled(cx, progress.replace(now) != Some(now), waiting, timeouts)
        })
        .await
    }

    /// What is left of the request goes on beside its answer. A failure on the endpoint's side shows in the answer, or does
    /// not matter.
    pub(super) fn poll_rest(
        &mut self,
        cx: &mut Context<'_>,
        connection: &Connection<'_>,
        answer: &mut Answer,
    ) -> Result<(), Error> {
        if answer.refused {
            return Ok(());
        }
        let to = (&mut answer.half, connection);
        let polled = self.upload.poll_give(cx, &mut self.half, to, &mut answer.given);
        let sent = answer.half.poll_sent(cx, connection);
        for polled in [polled, sent] {
            match polled {
                Poll::Ready(Err(Error::Reset)) => answer.refused = true,
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
        }
        Ok(())
    }

    /// Parts with the endpoint: what it can still be used for is kept.
    pub(super) fn part(&self, connection: Connection<'_>, half: &Upstream, timeouts: &Timeouts) {
        half.part(self.worker, connection, timeouts.keep_alive);
    }

    /// Gives the client all of `body` as far as it takes something in time.
    async fn send_whole(&mut self, mut body: Bytes) -> Result<(), Error> {
        self.timer.set(Instant::now() + self.listener.timeouts.client_idle);
        while !body.is_empty() {
            let room = self.timer.within(poll_fn(|cx| self.half.poll_room(cx, body.len()))).await;
            let n = room.map_err(|_| Error::ClientTimeout)??.min(body.len());
            let now = body.split_to(n);
            self.sent += n as u64;
            self.half.send(Frame::Data(now), body.is_empty())?;
            self.timer.set(Instant::now() + self.listener.timeouts.client_idle);
        }
        Ok(())
    }

    /// After half an answer the client is not to take it for a whole one.
    pub(super) fn end(&mut self, outcome: Result<(), Error>) -> Result<(), Error> {
        if let Err(error) = &outcome {
            self.half.abort(error);
        }
        outcome
    }
}

impl<C: ClientHalf> Downstream for Bridge<'_, C> {
    type View = Request;
    type Answer = Answer;
    type Sending = Sending;

    fn view(&self) -> &Request {
        &self.request
    }

    fn wants_tunnel(&self) -> bool {
        self.request.websocket
    }

    fn answered_here(&self) -> Option<Own> {
        let last_hop = self.request.method == Method::Options
            && self.request.parts.headers.get(header::MAX_FORWARDS).is_some_and(|hops| hops == "0");
        last_hop.then(Own::options)
    }

    fn limit_body(&mut self, max: u64) -> Result<(), Refusal> {
        self.upload.limit(max)
    }

    fn keep_body(&mut self, max: usize) {
        self.upload.keep(max);
    }

    fn has_body(&self) -> bool {
        self.upload.exists()
    }

    fn copy_body(&mut self, max: usize) -> bool {
        self.upload.copy(max)
    }

    fn copied_body(&mut self) -> Option<Vec<u8>> {
        self.upload.take_copy()
    }

    async fn buffer_body(&mut self, most: usize) -> Result<bool, Error> {
        self.fill(most).await
    }

    fn transform(&mut self, transform: Transform) {
        self.transform = Some(Box::new(transform));
    }

    fn body_will_repeat(&self) -> bool {
        // A tunnel is none that two endpoints could be asked for at once.
        !self.request.websocket && self.upload.will_repeat()
    }

    fn body_is_replayable(&self) -> bool {
        self.upload.is_replayable()
    }

    async fn gone(&mut self) {
        poll_fn(|cx| self.half.poll_gone(cx)).await;
    }

    fn compose(&mut self, connection: &Connection<'_>, edits: &RequestEdits<'_>) -> Sending {
        Sending {
            half: Some(Upstream::new(self.worker, connection, &self.request, edits)),
            given: self.upload.begin(),
            refused: false,
            interim_head: None,
            interim: 0,
            awaiting_continue: self.request.expects_continue,
            awaited: None,
        }
    }

    async fn exchange(
        &mut self,
        connection: &Connection<'_>,
        sending: &mut Sending,
        timeouts: &Timeouts,
    ) -> Result<Answer, Failed> {
        let timer = self.timer;
        loop {
            if let Some(head) = sending.interim_head.take() {
                let passed = self.pass_interim(connection, *head, sending);
                passed.map_err(|error| sending.failed(error))?;
            }
            if let Some(answer) =
                poll_fn(|cx| self.poll_head(cx, connection, sending, timeouts, timer)).await?
            {
                return Ok(answer);
            }
        }
    }

    fn is_sent(&self, sending: &Sending) -> bool {
        sending.given.ended && !sending.refused
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        connection: &Connection<'_>,
        sending: &mut Sending,
        timeouts: &Timeouts,
        timer: &Timer,
    ) -> Poll<Result<Option<Answer>, Failed>> {
        let head = match self.poll_exchange(cx, connection, sending) {
            Poll::Ready(Ok(head)) => head,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(sending.failed(error))),
            Poll::Pending => {
                let idle = self.listener.timeouts.client_idle;
                let late = self.awaits(sending).poll_late(cx, &mut sending.awaited, idle, timeouts, timer);
                return late.map(|error| Err(sending.failed(error)));
            }
        };
        if head.parts.status.is_informational() {
            sending.interim_head = Some(Box::new(head.parts));
            return Poll::Ready(Ok(None));
        }
        let Some(half) = sending.half.take() else {
            return Poll::Ready(Err(sending.failed(Error::Reset)));
        };
        let (given, refused) = (sending.given, sending.refused);
        Poll::Ready(Ok(Some(Answer { head, half, given, refused, held: None })))
    }

    fn verdict(answer: &Answer) -> u16 {
        let status = Self::status(answer);
        let headers = &answer.head.parts.headers;
        let alone = answer.head.end && status == 200;
        let failed = headers.get("grpc-status").filter(|_| alone).and_then(|s| grpc::failed(s.as_bytes()));
        failed.unwrap_or(status)
    }

    fn grpc_code(&self) -> Option<u16> {
        self.grpc_code
    }

    fn status(answer: &Answer) -> u16 {
        answer.head.parts.status.as_u16()
    }

    fn answer_fields(answer: &Answer) -> Box<dyn Iterator<Item = (&[u8], &[u8])> + '_> {
        let fields = answer.head.parts.headers.iter();
        Box::new(fields.map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes())))
    }

    async fn deliver(
        &mut self,
        connection: Connection<'_>,
        mut answer: Answer,
        edits: HeadEdits<'_>,
        timeouts: &Timeouts,
    ) -> Result<(), Error> {
        if answer.head.end {
            self.note_call(&answer.head.parts.headers);
        }
        let head = &mut answer.head;
        edit(&mut head.parts.headers, edits);
        let mut parts = std::mem::replace(&mut head.parts, Response::new(()).into_parts().0);
        let tunnel = self.request.websocket && parts.status.is_success();
        let end = head.end;
        let transform = self.transform.take().filter(|_| !tunnel);
        let coding = transform.as_ref().and_then(|t| t.begin(&self.request, &mut parts, end));
        let bodiless = end || self.request.method == Method::Head;
        self.half.send_head(parts, end)?;
        self.started = true;
        if tunnel {
            let tunnelled = Box::pin(self.tunnel(&connection, &mut answer, timeouts)).await;
            return self.end(tunnelled);
        }
        if let Some(transform) = transform.filter(|t| !bodiless && (coding.is_some() || t.ahead.is_some())) {
            let done = self.send_transformed(connection, answer, (&transform, coding), timeouts);
            let delivered = Box::pin(done).await;
            return self.end(delivered);
        }
        let delivered = self.send_answer(&connection, &mut answer, timeouts).await;
        if delivered.is_ok() {
            self.part(connection, &answer.half, timeouts);
        }
        self.end(delivered)
    }

    async fn respond(&mut self, own: &Own, edits: HeadEdits<'_>) -> Result<(), Error> {
        let bodiless = self.request.method == Method::Head || own.body.is_empty();
        let end = bodiless || own.status == 204 || own.status == 304;
        self.half.send_head(own_parts(own, edits), end)?;
        self.started = true;
        if end {
            return Ok(());
        }
        let body = Bytes::copy_from_slice(&own.body);
        let sent = self.send_whole(body).await;
        self.end(sent)
    }

    fn response_started(&self) -> bool {
        self.started
    }

    fn interim_passed(&self) -> bool {
        self.interim
    }

    fn moved(&self) -> (u64, u64) {
        (self.upload.moved(), self.sent)
    }
}

/// Does to a head what its route asks for.
pub fn edit(headers: &mut HeaderMap, edits: HeadEdits<'_>) {
    if edits.is_empty() {
        return;
    }
    for name in edits.dropped() {
        headers.remove(name);
    }
    for (name, value) in edits.given() {
        // Both have been checked by rules that are no wider than these.
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value))
        {
            headers.append(name, value);
        }
    }
}

/// The head of an answer of our own.
fn own_parts(own: &Own, edits: HeadEdits<'_>) -> Parts {
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = StatusCode::from_u16(own.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in own.all_fields() {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value))
        {
            parts.headers.append(name, value);
        }
    }
    if own.status != 204 && own.status != 304 {
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(own.body.len()));
    }
    edit(&mut parts.headers, edits);
    parts
}
