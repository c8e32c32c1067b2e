//! What follows 101: a protocol that was asked for, relayed as bytes until it ends.

use super::encode::{self, ResponseEdits};
use super::exchange::{Answer, Exchange};
use super::fields::{Kind, list_elements};
use super::head::{Framing, ResponseHead, Version, is_h2c};
use crate::model::field::HeadEdits;
use crate::proxy::attempt::Connection;
use crate::proxy::buffer::Buffer;
use crate::proxy::connection::write_all;
use crate::proxy::error::Error;
use crate::proxy::tcp::relay::{Ended, Life, Relay};
use crate::proxy::upstream::dial;
use crate::runtime::pool::Timeouts;

impl Exchange<'_> {
    /// Whether a 101 names a protocol that the client offered (RFC 9110 section 15.2.2).
    pub(super) fn may_switch(&self, bytes: &[u8], head: &ResponseHead) -> bool {
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
                protocols.all(|p| !is_h2c(p) && offered().any(|o| o.eq_ignore_ascii_case(p)))
            })
    }

    /// After 101 both sides speak something else: bytes are relayed as they come.
    pub(super) async fn tunnel(
        &mut self,
        connection: Connection<'_>,
        answer: Answer,
        edits: HeadEdits<'_>,
        timeouts: &Timeouts,
    ) -> Result<(), Error> {
        let Answer { head, mut bytes, .. } = answer;
        let mut out = Buffer::default();
        let response =
            ResponseEdits { head: edits, client: Version::Http11, close: true, framing: Framing::None };
        encode::put_response(&mut out, bytes.bytes(), &head, &response);
        bytes.consume(head.length);
        self.started = true;
        self.close = true;
        write_all(self.client, &mut out, self.listener.timeouts.client_idle).await?;
        let first = std::mem::take(self.input);
        let pool = connection.place.pool;
        let (slot, client) = (connection.place.endpoint.live.slot(), self.client);
        let (edition, listener) = (&pool.edition, client.listener_place());
        let _session = self.worker.sessions.enter(slot, &client.timer, edition, client.source(), listener);
        let stream = connection.stream()?;
        dial::keep_alive_probes(stream, timeouts.tcp_keepalive);
        let life = Life { idle: timeouts.tunnel, until: self.worker.end_of_life(pool) };
        let sides = (&self.client.stream, stream);
        let relay = Relay::new(sides, life, &self.client.timer, &self.worker.pipes, &self.tunnelled);
        let ended = relay.holding([first, bytes]).await;
        match ended {
            Ended::Closed => Ok(()),
            Ended::Idle => Err(Error::Idle),
            Ended::FirstBroke => Err(Error::ClientGone),
            Ended::SecondBroke => Err(Error::Truncated),
            Ended::Cut(why) => Err(Error::Cut(why)),
        }
    }
}
