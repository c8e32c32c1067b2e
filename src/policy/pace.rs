//! How many bytes of a connection may move now, so that in the long run it is no more than a rate.
//!
//! A connection that has been quiet has the bytes of a quarter of a second; after that they come in steps of a 32nd, so
//! that a slow one moves few pieces that are worth a system call rather than many that are not. It is no limit on what a
//! connection may do within a moment: whoever needs that has a kernel for it.

use std::time::Duration;

/// The time whose bytes a connection that has been quiet may move at once.
const WINDOW: Duration = Duration::from_millis(250);

/// The time whose bytes must have come together before any of them move.
const STEP: Duration = Duration::from_nanos(WINDOW.as_nanos() as u64 / 8);

/// One direction of a connection.
#[derive(Debug, Clone)]
pub struct Pace {
    /// Bytes in a second.
    rate: u64,
    /// When what has moved is paid for.
    due: Duration,
}

impl Pace {
    /// A direction that has been quiet, on a line of time that began long enough ago.
    #[must_use]
    pub fn new(rate: u64) -> Self {
        Self { rate: rate.max(1), due: Duration::ZERO }
    }

    /// Where the line of time begins for a new connection.
    pub const START: Duration = WINDOW;

    /// How many bytes may move now; with none, more may from then on.
    ///
    /// # Errors
    /// When the next ones may.
    pub fn room(&self, now: Duration) -> Result<usize, Duration> {
        let credit = now.saturating_sub(self.floor(now));
        if credit < STEP {
            return Err(self.floor(now) + STEP);
        }
        let bytes = u128::from(self.rate) * credit.as_nanos() / NANOS;
        // A rate of less than one in a step still moves one.
        Ok(usize::try_from(bytes).unwrap_or(usize::MAX).max(1))
    }

    /// Notes that so many bytes have moved.
    pub fn moved(&mut self, bytes: usize, now: Duration) {
        let nanos = (bytes as u128 * NANOS).div_ceil(u128::from(self.rate));
        let took = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.due = self.floor(now).saturating_add(took);
    }

    /// When what has moved is paid for, but no longer ago than can be saved up.
    fn floor(&self, now: Duration) -> Duration {
        self.due.max(now.saturating_sub(WINDOW))
    }
}

const NANOS: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: Duration = Pace::START;

    #[test]
    fn a_quiet_connection_has_a_quarter_of_a_second_and_then_its_rate() {
        let mut pace = Pace::new(1 << 20);
        assert_eq!(pace.room(START), Ok(1 << 18));
        pace.moved(1 << 18, START);
        let next = START + STEP;
        assert_eq!(pace.room(START), Err(next));
        assert_eq!(pace.room(next), Ok(1 << 15));
        assert_eq!(pace.room(next + Duration::from_secs(3600)), Ok(1 << 18), "no more is saved up");
        let mut slow = Pace::new(1);
        slow.moved(1, START);
        assert_eq!(slow.room(START), Err(START + Duration::from_millis(750) + STEP));
    }

    proptest! {
        /// Whoever always moves what there is room for gets the rate, and never more than a window above.
        #[test]
        fn in_the_long_run_it_is_the_rate(
            rate in 1_000_u64..200_000_000,
            waits in prop::collection::vec(0_u64..200, 10..200),
        ) {
            let mut pace = Pace::new(rate);
            let (mut now, mut moved) = (START, 0_u128);
            for wait in waits {
                now += Duration::from_millis(wait);
                match pace.room(now) {
                    Ok(room) => {
                        moved += room as u128;
                        pace.moved(room, now);
                    }
                    Err(at) => prop_assert!(at > now),
                }
                let due = |time: Duration| u128::from(rate) * time.as_nanos() / NANOS;
                prop_assert!(moved <= due(now) + 1, "{moved} at {now:?}");
                prop_assert!(moved + 300 >= due(now.saturating_sub(STEP + WINDOW)), "{moved} at {now:?}");
            }
        }
    }
}
