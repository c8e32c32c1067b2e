//! What follows a granted extended CONNECT: WebSocket, passed on as bytes in both directions until both have ended.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::exchange::{Answer, Bridge};
use super::{ClientHalf, EndpointHalf};
use crate::proxy::attempt::Connection;
use crate::proxy::error::Error;
use crate::proxy::sessions::Cut;
use crate::runtime::pool::Timeouts;

/// How long a tunnel may last, and how far it has got.
struct Life {
    /// Without a byte in either direction.
    idle: Duration,
    /// In all.
    until: Option<Instant>,
    /// The answer's side has ended.
    answered: bool,
    moved: Option<u64>,
}

impl<C: ClientHalf> Bridge<'_, C> {
    /// Passes bytes on in both directions. Each ends for itself.
    pub(super) async fn tunnel(
        &mut self,
        connection: &Connection<'_>,
        answer: &mut Answer,
        timeouts: &Timeouts,
    ) -> Result<(), Error> {
        let pool = connection.place.pool;
        let Some(client) = self.client else { return Err(Error::NoTunnel) };
        let (slot, peer) = (connection.place.endpoint.live.slot(), client.source());
        let listener = client.listener_place();
        let _session = self.worker.sessions.enter(slot, self.timer, &pool.edition, peer, listener);
        answer.half.begin_tunnel(connection, timeouts);
        // It has held the request back until now.
        answer.given.ended = false;
        self.upload.open();
        let until = self.worker.end_of_life(pool);
        let mut life = Life { idle: timeouts.tunnel, until, answered: false, moved: None };
        let ended = poll_fn(|cx| self.poll_tunnel(cx, connection, answer, &mut life)).await;
        if ended.is_err() {
            answer.half.abort(connection);
        }
        ended
    }

    fn poll_tunnel(
        &mut self,
        cx: &mut Context<'_>,
        connection: &Connection<'_>,
        answer: &mut Answer,
        life: &mut Life,
    ) -> Poll<Result<(), Error>> {
        if !life.answered {
            life.answered = self.poll_answer(cx, connection, answer)?.is_none();
        }
        self.poll_rest(cx, connection, answer)?;
        let flushed =
            answer.refused || (answer.given.ended && answer.half.poll_sent(cx, connection).is_ready());
        let sent = self.half.poll_sent(cx)?;
        if life.answered && flushed && sent.is_ready() {
            return Poll::Ready(Ok(()));
        }
        if self.half.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(Error::ClientGone));
        }
        let moved = self.sent + self.upload.moved();
        if life.moved != Some(moved) {
            life.moved = Some(moved);
            let idle = Instant::now() + life.idle;
            self.timer.set(life.until.map_or(idle, |until| until.min(idle)));
        }
        self.timer.poll_expired(cx).map(|_| {
            Err(match self.timer.cut() {
                Some(why) => Error::Cut(why),
                None if life.until.is_some_and(|until| Instant::now() >= until) => Error::Cut(Cut::Aged),
                None => Error::Idle,
            })
        })
    }
}
