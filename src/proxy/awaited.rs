//! Whom an exchange waits for, and for how long, whatever protocols it is between.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use super::error::Error;
use super::timer::Timer;
use crate::runtime::pool::Timeouts;

/// Whom an exchange waits for; moving on from one to the next sets the deadline anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Awaited {
    /// The client's body, of which so much has come.
    Body(u64),
    /// The endpoint takes the request, of which it has so much.
    Taking(u64),
    /// The endpoint's answer.
    Answer(u32),
}

impl Awaited {
    /// Ready once whoever is waited for has taken too long, with whose fault that is. `before` is who was waited for last.
    pub(super) fn poll_late(
        self,
        cx: &mut Context<'_>,
        before: &mut Option<Self>,
        client_idle: Duration,
        timeouts: &Timeouts,
        timer: &Timer,
    ) -> Poll<Error> {
        if *before != Some(self) {
            *before = Some(self);
            timer.set(
                Instant::now()
                    + match self {
                        Self::Body(_) => client_idle,
                        Self::Taking(_) => timeouts.idle,
                        Self::Answer(_) => timeouts.response_header,
                    },
            );
        }
        ready!(timer.poll_expired(cx));
        Poll::Ready(match self {
            Self::Body(_) => Error::ClientTimeout,
            Self::Taking(_) | Self::Answer(_) => Error::Timeout,
        })
    }
}
