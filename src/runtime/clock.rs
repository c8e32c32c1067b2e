//! The time line of the policies: durations since one moment that outlives every snapshot.

use std::time::Duration;

use tokio::time::Instant;

/// The moment from which policies count.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// A time line that begins now.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// A time line that goes on where another process's stands; as far back as this machine counts.
    #[must_use]
    pub fn resumed(now: Duration) -> Self {
        let at = Instant::now();
        Self(at.checked_sub(now).unwrap_or(at))
    }

    /// Time since its beginning.
    #[inline]
    #[must_use]
    pub fn now(&self) -> Duration {
        self.0.elapsed()
    }

    /// A moment as time since its beginning.
    #[must_use]
    pub fn of(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.0)
    }
}
