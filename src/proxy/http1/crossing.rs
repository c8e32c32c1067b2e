//! A request of an HTTP/1 client to whichever protocol its endpoint speaks: of the engine's own kind while it is HTTP/1,
//! across the bridge from the first endpoint on that is not.

use std::future::Future;
use std::task::{Context, Poll};

use super::client_half::{Beginning, Half};
use super::encode::RequestEdits;
use super::exchange::{self, Exchange, Request};
use super::serve::body_limits;
use super::translate;
use super::upload::Upload;
use crate::model::field::HeadEdits;
use crate::model::protocol::Protocol;
use crate::model::request::RequestView as _;
use crate::proxy::attempt::{Connection, Link};
use crate::proxy::bridge::ClientHalf as _;
use crate::proxy::bridge::exchange::{self as bridge, Bridge};
use crate::proxy::bridge::transform::Transform;
use crate::proxy::error::{Error, Refusal};
use crate::proxy::request::{Downstream, Failed};
use crate::proxy::respond::Own;
use crate::proxy::timer::Timer;
use crate::runtime::pool::Timeouts;

/// One request and its answer.
pub struct Crossing<'c> {
    /// As the engine has it.
    pub own: Exchange<'c>,
    bridge: Option<Box<Bridge<'c, Half<'c>>>>,
    /// What is to be kept of its body, or was.
    kept: Kept,
    /// The status of the gRPC call that it was.
    grpc_code: Option<u16>,
}

/// What is kept of a body. One word beside its tag: every request has it.
enum Kept {
    /// Nothing.
    Nothing,
    /// So many bytes at most, for a repeat.
    UpTo(usize),
    /// All of it, for somebody else.
    Copied(Box<Copied>),
}

/// A body.
struct Copied(Vec<u8>);

/// A request on its way to one endpoint.
pub enum Sending {
    /// Of HTTP/1.
    Own(exchange::Sending),
    /// Of another protocol.
    Across(Box<bridge::Sending>),
    /// There is no way to say it there.
    Unsaid,
}

/// An answer whose head has come.
pub enum Answer {
    /// Over HTTP/1.
    Own(exchange::Answer),
    /// Over another protocol.
    Across(Box<bridge::Answer>),
}

impl<'c> Crossing<'c> {
    /// A request that nothing has been done with.
    #[must_use]
    pub const fn new(own: Exchange<'c>) -> Self {
        Self { own, bridge: None, kept: Kept::Nothing, grpc_code: None }
    }

    /// What is left when it has ended.
    #[must_use]
    pub fn into_own(mut self) -> Exchange<'c> {
        self.come_back();
        self.own
    }

    /// Takes the request across; what has come of its body, and what is kept of it, comes along. False when its target
    /// has no form there.
    fn cross(&mut self) -> bool {
        if self.bridge.is_some() {
            return true;
        }
        let own = &mut self.own;
        let Some(request) = translate::neutral(&own.request) else { return false };
        let key = own.request.field("sec-websocket-key").filter(|_| request.websocket).map(Into::into);
        let half = Half::new(Beginning {
            client: own.client,
            listener: own.listener,
            input: own.upload.unstaged(own.input),
            framing: own.request.head.framing,
            limits: body_limits(own.listener),
            version: own.request.head.version,
            method: own.request.head.method,
            key,
            close: own.close,
        });
        let mut bridge =
            Bridge::new(own.worker, Some(own.client), own.listener, &own.client.timer, request, half);
        // What has come of it has been held to that already.
        bridge.limit_body(own.upload.max()).ok();
        if let Kept::UpTo(max) = self.kept {
            bridge.keep_body(max);
        }
        self.bridge = Some(Box::new(bridge));
        true
    }

    async fn deliver_across(
        &mut self,
        connection: Connection<'_>,
        answer: bridge::Answer,
        edits: HeadEdits<'_>,
        timeouts: &Timeouts,
    ) -> Result<(), Error> {
        let Some(bridge) = &mut self.bridge else { return Err(Error::Truncated) };
        let delivered = bridge.deliver(connection, answer, edits, timeouts).await;
        self.come_back();
        delivered
    }

    /// Comes back: what follows on the connection is read by the engine again.
    fn come_back(&mut self) {
        let Some(bridge) = self.bridge.take() else { return };
        let Bridge { mut upload, half, started, interim, sent, grpc_code, .. } = *bridge;
        if let Some(copy) = upload.take_copy() {
            self.kept = Kept::Copied(Box::new(Copied(copy)));
        }
        self.grpc_code = grpc_code;
        let own = &mut self.own;
        own.upload = Upload::elsewhere(upload.moved(), upload.is_done() && half.is_ended());
        own.started |= started;
        own.interim |= interim;
        own.sent += sent;
        let (rest, close) = half.into_rest();
        *own.input = rest;
        own.close |= close;
    }
}

impl Downstream for Crossing<'_> {
    type View = Request;
    type Answer = Answer;
    type Sending = Sending;

    fn view(&self) -> &Request {
        &self.own.request
    }

    fn wants_tunnel(&self) -> bool {
        translate::asks_for_websocket(&self.own.request)
    }

    fn answered_here(&self) -> Option<Own> {
        self.own.answered_here()
    }

    fn limit_body(&mut self, max: u64) -> Result<(), Refusal> {
        match &mut self.bridge {
            Some(bridge) => bridge.limit_body(max),
            None => self.own.limit_body(max),
        }
    }

    fn keep_body(&mut self, max: usize) {
        self.kept = Kept::UpTo(max);
        match &mut self.bridge {
            Some(bridge) => bridge.keep_body(max),
            None => self.own.keep_body(max),
        }
    }

    fn has_body(&self) -> bool {
        self.own.has_body()
    }

    fn copy_body(&mut self, max: usize) -> bool {
        self.cross() && self.bridge.as_mut().is_some_and(|bridge| bridge.copy_body(max))
    }

    fn copied_body(&mut self) -> Option<Vec<u8>> {
        if let Some(bridge) = &mut self.bridge {
            return bridge.copied_body();
        }
        match std::mem::replace(&mut self.kept, Kept::Nothing) {
            Kept::Copied(copied) => Some(copied.0),
            Kept::Nothing | Kept::UpTo(_) => None,
        }
    }

    async fn buffer_body(&mut self, most: usize) -> Result<bool, Error> {
        self.cross();
        match &mut self.bridge {
            Some(bridge) => bridge.buffer_body(most).await,
            None => Ok(false),
        }
    }

    fn transform(&mut self, transform: Transform) {
        // A tunnel is not looked into, and needs no neutral form.
        if !self.wants_tunnel()
            && self.cross()
            && let Some(bridge) = &mut self.bridge
        {
            bridge.transform(transform);
        }
    }

    fn body_will_repeat(&self) -> bool {
        match &self.bridge {
            Some(bridge) => bridge.body_will_repeat(),
            None => self.own.body_will_repeat(),
        }
    }

    fn body_is_replayable(&self) -> bool {
        match &self.bridge {
            Some(bridge) => bridge.body_is_replayable(),
            None => self.own.body_is_replayable(),
        }
    }

    async fn gone(&mut self) {
        match &mut self.bridge {
            Some(bridge) => bridge.gone().await,
            None => self.own.gone().await,
        }
    }

    fn compose(&mut self, connection: &Connection<'_>, edits: &RequestEdits<'_>) -> Sending {
        // Where either may come, two attempts at once could be of two kinds, and read the same body each in its way.
        let either = connection.place.pool.protocol == Protocol::Auto;
        if self.bridge.is_none() && !either && matches!(connection.link, Link::Own(_)) {
            return Sending::Own(self.own.compose(connection, edits));
        }
        if !self.cross() {
            return Sending::Unsaid;
        }
        match &mut self.bridge {
            Some(bridge) => Sending::Across(Box::new(bridge.compose(connection, edits))),
            None => Sending::Unsaid,
        }
    }

    async fn exchange(
        &mut self,
        connection: &Connection<'_>,
        sending: &mut Sending,
        timeouts: &Timeouts,
    ) -> Result<Answer, Failed> {
        match (sending, &mut self.bridge) {
            (Sending::Own(sending), _) => {
                self.own.exchange(connection, sending, timeouts).await.map(Answer::Own)
            }
            (Sending::Across(sending), Some(bridge)) => {
                // Boxed: what crosses is not to make the rest weigh more.
                let answer = Box::pin(bridge.exchange(connection, sending, timeouts)).await?;
                Ok(Answer::Across(Box::new(answer)))
            }
            _ => Err(unsaid()),
        }
    }

    fn is_sent(&self, sending: &Sending) -> bool {
        match (sending, &self.bridge) {
            (Sending::Own(sending), _) => self.own.is_sent(sending),
            (Sending::Across(sending), Some(bridge)) => bridge.is_sent(sending),
            _ => false,
        }
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        connection: &Connection<'_>,
        sending: &mut Sending,
        timeouts: &Timeouts,
        timer: &Timer,
    ) -> Poll<Result<Option<Answer>, Failed>> {
        match (sending, &mut self.bridge) {
            (Sending::Own(sending), _) => {
                let heard = self.own.poll_head(cx, connection, sending, timeouts, timer);
                heard.map_ok(|answer| answer.map(Answer::Own))
            }
            (Sending::Across(sending), Some(bridge)) => {
                let heard = bridge.poll_head(cx, connection, sending, timeouts, timer);
                heard.map_ok(|answer| answer.map(|answer| Answer::Across(Box::new(answer))))
            }
            _ => Poll::Ready(Err(unsaid())),
        }
    }

    fn status(answer: &Answer) -> u16 {
        match answer {
            Answer::Own(answer) => Exchange::status(answer),
            Answer::Across(answer) => Bridge::<Half<'_>>::status(answer),
        }
    }

    fn answer_fields(answer: &Answer) -> Box<dyn Iterator<Item = (&[u8], &[u8])> + '_> {
        match answer {
            Answer::Own(answer) => Exchange::answer_fields(answer),
            Answer::Across(answer) => Bridge::<Half<'_>>::answer_fields(answer),
        }
    }

    fn verdict(answer: &Answer) -> u16 {
        match answer {
            Answer::Own(answer) => Exchange::verdict(answer),
            Answer::Across(answer) => Bridge::<Half<'_>>::verdict(answer),
        }
    }

    fn grpc_code(&self) -> Option<u16> {
        self.bridge.as_ref().map_or(self.grpc_code, |bridge| bridge.grpc_code())
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
            match answer {
                Answer::Own(answer) => self.own.deliver(connection, answer, edits, timeouts).await,
                Answer::Across(answer) => {
                    Box::pin(self.deliver_across(connection, *answer, edits, timeouts)).await
                }
            }
        }
    }

    async fn respond(&mut self, own: &Own, edits: HeadEdits<'_>) -> Result<(), Error> {
        self.come_back();
        self.own.respond(own, edits).await
    }

    fn response_started(&self) -> bool {
        self.own.response_started() || self.bridge.as_ref().is_some_and(|bridge| bridge.response_started())
    }

    fn interim_passed(&self) -> bool {
        self.own.interim_passed() || self.bridge.as_ref().is_some_and(|bridge| bridge.interim_passed())
    }

    fn moved(&self) -> (u64, u64) {
        match &self.bridge {
            Some(bridge) => bridge.moved(),
            None => self.own.moved(),
        }
    }
}

fn unsaid() -> Failed {
    let refusal = Refusal::Malformed("the request target cannot be passed on");
    Failed { error: Error::Refused(refusal), bytes_sent: false, answer_bytes: false }
}
