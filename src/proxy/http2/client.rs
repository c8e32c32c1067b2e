//! The client's side of an exchange across the bridge where the client speaks HTTP/2: one stream of its connection.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::Response;
use http::response::Parts;

use super::wire::Gate;
use crate::proxy::bridge::{ClientHalf, Frame, trailing};
use crate::proxy::error::{Error, Refusal};

/// One stream.
pub struct ClientSide<'c> {
    gate: &'c Gate,
    body: RecvStream,
    /// The data has ended; trailers may follow.
    data_ended: bool,
    respond: SendResponse<Bytes>,
    /// Once the head of the answer has been sent.
    answer: Option<SendStream<Bytes>>,
    gone: bool,
}

impl<'c> ClientSide<'c> {
    /// A stream on which a request has come.
    #[must_use]
    pub const fn new(gate: &'c Gate, body: RecvStream, respond: SendResponse<Bytes>) -> Self {
        Self { gate, body, data_ended: false, respond, answer: None, gone: false }
    }

    /// Whether the client was seen to leave.
    #[must_use]
    pub const fn has_gone(&self) -> bool {
        self.gone
    }

    /// What an error of the stream means.
    fn fault(&mut self, error: &h2::Error) -> Error {
        if error.is_library() && error.is_reset() {
            // All that h2 finds wrong behind a head is its length, and trailers that are none.
            return Refusal::Malformed("the body is not what its head says").into();
        }
        self.gone = true;
        Error::ClientGone
    }

    fn sent<T>(&mut self, sent: Result<T, h2::Error>) -> Result<T, Error> {
        sent.map_err(|_| {
            self.gone = true;
            Error::ClientGone
        })
    }
}

impl ClientHalf for ClientSide<'_> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, Error>>> {
        if !self.data_ended {
            match ready!(self.body.poll_data(cx)) {
                Some(Ok(data)) => return Poll::Ready(Some(Ok(Frame::Data(data)))),
                Some(Err(error)) => return Poll::Ready(Some(Err(self.fault(&error)))),
                None => self.data_ended = true,
            }
        }
        Poll::Ready(match ready!(self.body.poll_trailers(cx)) {
            Ok(trailers) => trailers.and_then(trailing).map(Ok),
            Err(error) => Some(Err(self.fault(&error))),
        })
    }

    fn is_ended(&self) -> bool {
        self.body.is_end_stream()
    }

    fn release(&mut self, bytes: usize) {
        // It can only fail where more is given back than has come.
        self.body.flow_control().release_capacity(bytes).ok();
    }

    fn poll_room(&mut self, cx: &mut Context<'_>, at_hand: usize) -> Poll<Result<usize, Error>> {
        let left = ready!(self.gate.poll_left(cx));
        let Some(answer) = &mut self.answer else { return Poll::Ready(Err(Error::ClientGone)) };
        answer.reserve_capacity(at_hand);
        if answer.capacity() > 0 {
            return Poll::Ready(Ok(answer.capacity().min(left)));
        }
        match ready!(answer.poll_capacity(cx)) {
            Some(Ok(capacity)) => Poll::Ready(Ok(capacity.min(left))),
            Some(Err(_)) | None => {
                self.gone = true;
                Poll::Ready(Err(Error::ClientGone))
            }
        }
    }

    fn send_interim(&mut self, head: Parts) -> Result<(), Error> {
        let sent = self.respond.send_informational(Response::from_parts(head, ()));
        self.sent(sent)
    }

    fn send_head(&mut self, head: Parts, end: bool) -> Result<(), Error> {
        let sent = self.respond.send_response(Response::from_parts(head, ()), end);
        self.answer = Some(self.sent(sent)?);
        Ok(())
    }

    fn send(&mut self, frame: Frame, end: bool) -> Result<(), Error> {
        let Some(answer) = &mut self.answer else { return Err(Error::ClientGone) };
        let sent = match frame {
            Frame::Data(data) => {
                self.gate.handed_over(data.len());
                answer.send_data(data, end)
            }
            Frame::Trailers(trailers) => answer.send_trailers(trailers),
        };
        self.sent(sent)
    }

    fn poll_sent(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        // What was given had its room: it goes out with the connection's next turn.
        Poll::Ready(Ok(()))
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let polled = match &mut self.answer {
            None => self.respond.poll_reset(cx),
            Some(answer) => answer.poll_reset(cx),
        };
        polled.map(|_| self.gone = true)
    }

    fn abort(&mut self, error: &Error) {
        let reason = match error {
            Error::ClientGone => return,
            Error::Refused(_) => Reason::PROTOCOL_ERROR,
            Error::Dropped => Reason::ENHANCE_YOUR_CALM,
            Error::ClientTimeout | Error::Idle | Error::Cut(_) => Reason::CANCEL,
            _ => Reason::INTERNAL_ERROR,
        };
        match &mut self.answer {
            Some(answer) => answer.send_reset(reason),
            None => self.respond.send_reset(reason),
        }
    }
}
