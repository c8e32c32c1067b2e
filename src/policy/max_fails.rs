//! nginx's `max_fails` and `fail_timeout` for one endpoint, as `ngx_http_upstream_round_robin.c` counts them. What
//! being skipped means for the pool is `outlier`'s.

use std::time::Duration;

use super::outlier::MaxFails;

/// nginx's three fields of a peer. Times are whole seconds, as nginx's are: a comparison in finer units would let the
/// trial through up to a second sooner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fails {
    /// Failures that nothing has cleared.
    fails: u32,
    /// When the last one was.
    accessed: u64,
    /// The anchor: when the last failure was, or the first pick more than `fail_timeout` later.
    checked: u64,
}

impl Fails {
    /// Failures that nothing has cleared. While there are any, picks and successes must be told.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.fails
    }

    /// Whether the endpoint has failed so often that it may be skipped.
    #[must_use]
    pub fn used_up(&self, settings: MaxFails) -> bool {
        settings.max_fails > 0 && self.fails >= settings.max_fails
    }

    /// From when on a pick is let through again as a trial: as the clock shows whole seconds, up to one second more than
    /// `fail_timeout` after the anchor.
    #[must_use]
    pub fn trial_at(&self, settings: MaxFails) -> Duration {
        Duration::from_secs(self.checked + settings.fail_timeout.as_secs() + 1)
    }

    /// Whether a pick may take the endpoint. If it may and the anchor is old, the anchor moves here: what follows is
    /// skipped again for `fail_timeout`, so this one is the only trial.
    pub fn pick(&mut self, settings: MaxFails, now: Duration) -> bool {
        let due = now >= self.trial_at(settings);
        if self.used_up(settings) && !due {
            return false;
        }
        if due {
            self.checked = now.as_secs();
        }
        true
    }

    /// An attempt failed.
    pub fn failed(&mut self, now: Duration) {
        self.fails = self.fails.saturating_add(1);
        self.accessed = now.as_secs();
        self.checked = self.accessed;
    }

    /// An attempt went well: it clears the failures only if the anchor has moved past the last of them, so a success
    /// among failures changes nothing, unlike with every other rule.
    pub fn succeeded(&mut self) {
        if self.accessed < self.checked {
            self.fails = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWICE: MaxFails = MaxFails { max_fails: 2, fail_timeout: Duration::from_secs(10) };

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_success_among_failures_clears_nothing() {
        let mut fails = Fails::default();
        assert!(fails.pick(TWICE, at(100_000)));
        fails.failed(at(100_000));
        assert!(fails.pick(TWICE, at(105_000)));
        fails.succeeded();
        assert_eq!(fails.count(), 1, "the anchor has not moved");
        fails.failed(at(109_000));
        assert!(fails.used_up(TWICE));
    }

    #[test]
    fn a_success_after_a_quiet_fail_timeout_clears_all() {
        let mut fails = Fails::default();
        fails.failed(at(100_000));
        assert!(fails.pick(TWICE, at(110_999)));
        fails.succeeded();
        assert_eq!(fails.count(), 1, "ten seconds are not more than ten seconds");
        assert!(fails.pick(TWICE, at(111_000)));
        fails.succeeded();
        assert_eq!(fails.count(), 0);
    }

    #[test]
    fn failures_that_no_success_parts_add_up_over_any_time() {
        let mut fails = Fails::default();
        fails.failed(at(100_000));
        assert!(fails.pick(TWICE, at(500_000)));
        fails.failed(at(500_000));
        assert!(fails.used_up(TWICE));
    }

    #[test]
    fn exactly_one_trial_is_let_through_each_fail_timeout() {
        let mut fails = Fails::default();
        fails.failed(at(100_500));
        fails.failed(at(100_900));
        let let_through: Vec<u64> =
            (100_900..140_000).step_by(100).filter(|now| fails.pick(TWICE, at(*now))).collect();
        assert_eq!(let_through, [111_000, 122_000, 133_000]);
    }

    #[test]
    fn the_trial_decides() {
        let skipped = |fails: &mut Fails, now| !fails.pick(TWICE, at(now));
        let mut fails = Fails::default();
        fails.failed(at(100_000));
        fails.failed(at(100_000));
        assert!(fails.pick(TWICE, at(111_000)));
        let mut bad = fails;
        bad.failed(at(113_000));
        assert!(skipped(&mut bad, 123_999) && !skipped(&mut bad, 124_000), "from the failure on");
        fails.succeeded();
        assert_eq!(fails.count(), 0);
        assert!(!skipped(&mut fails, 111_100) && !skipped(&mut fails, 111_200));
    }

    #[test]
    fn zero_is_never() {
        let never = MaxFails { max_fails: 0, ..TWICE };
        let mut fails = Fails::default();
        for now in 0..100 {
            fails.failed(at(now));
            assert!(fails.pick(never, at(now)));
        }
    }
}
