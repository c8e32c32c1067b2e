//! The one place where tests look at the real clock and pause: the binary under test is another process, whose time
//! nobody can stop.
#![expect(clippy::disallowed_methods, reason = "another process runs on the real clock")]

use std::thread;
use std::time::{Duration, Instant};

/// A moment to measure from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment(Instant);

impl Moment {
    /// This one.
    pub(crate) fn now() -> Self {
        Self(Instant::now())
    }

    /// How long ago it was.
    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// Does nothing for so long: an origin that takes its time, or bytes that are to arrive apart.
pub(crate) fn pause(time: Duration) {
    thread::sleep(time);
}
