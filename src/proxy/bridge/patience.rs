//! How long a bridge waits for a body that does not move, whichever side it waits for.

use std::task::{Context, Poll};

use tokio::time::Instant;

use super::exchange::{Bridge, Waiting};
use crate::proxy::error::Error;
use crate::runtime::pool::Timeouts;

impl<C> Bridge<'_, C> {
    /// An answer whose body has not moved for as long as the side that it waits for may take.
    pub(super) fn poll_stalled(
        &self,
        cx: &mut Context<'_>,
        moved: bool,
        waiting: Waiting,
        timeouts: &Timeouts,
    ) -> Poll<Result<(), Error>> {
        let (patience, late) = match waiting {
            Waiting::Endpoint => (timeouts.idle, Error::Stalled),
            Waiting::Client => (self.listener.timeouts.client_idle, Error::ClientTimeout),
        };
        if moved {
            self.timer.set(Instant::now() + patience);
        }
        self.timer.poll_expired(cx).map(|_| Err(late))
    }
}
