//! Our own sickness is not theirs: which results are void, and when nothing is believed for a while. What is void then
//! goes to nobody; counting failures and measuring our loops is left to whoever runs the probes.

use std::time::Duration;

/// A timer of ours that ran later than this makes what it measured void.
pub const LATE: Duration = Duration::from_millis(250);

/// Whether a probe, or a timeout of live traffic, is no evidence because our own timer ran so late.
///
/// A loop that is late for one timer is late for all: the answer may have lain in the socket while nobody read it.
#[must_use]
pub const fn is_void(timer_lateness: Duration) -> bool {
    timer_lateness.as_nanos() > LATE.as_nanos()
}

/// What one interval looked like from here, over all pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sight {
    /// Targets that did not fail before and have failed within the interval.
    pub failed: usize,
    /// Targets that are probed or carried traffic.
    pub watched: usize,
    /// The worst lateness of a loop of ours within the interval.
    pub lag: Duration,
    /// Whether an address that we connect from, or the default route's, has vanished.
    pub address_vanished: bool,
}

impl Sight {
    /// Whether this looks like a sickness of our own: most fail, and we have a reason to be the cause.
    #[must_use]
    pub const fn is_ours(&self) -> bool {
        let most_failed = self.failed > self.watched / 2;
        most_failed && (is_void(self.lag) || self.address_vanished)
    }
}

/// Whether results are to be acted upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    /// They are evidence.
    Believe,
    /// They change nothing.
    Suspend {
        /// Whether this begins now: the moment of the alarm.
        begins: bool,
    },
}

/// The problem: a machine that was stopped, swaps, or lost its address sees everything fail at once, takes every
/// endpoint out and turns its own sickness into an outage. Why this answer: two independent signs are asked for. Most of
/// everything failing within one interval alone may be the truth (a switch died), and then it must be acted upon; a lag
/// alone is daily life under load. Both together are ours until shown otherwise, so nothing changes but an alarm. When
/// wrong: if everything dies while our loops happen to lag, it is noticed one interval after the lag has ended. With a
/// vanished address it lasts until the address is back: nothing could be reached through it anyway.
///
/// A suspension outlasts its cause by one interval, since probes that began in it end later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Guard {
    /// End of the running or the last suspension.
    until: Option<Duration>,
}

impl Guard {
    /// Judges what was seen within the last `interval`, which is the longest one in use.
    pub fn judge(&mut self, sight: &Sight, interval: Duration, now: Duration) -> Ruling {
        let was_suspended = self.is_suspended(now);
        // Under suspension the failed ones stay as they were and so do not fail anew: the cause alone keeps it up.
        let goes_on = was_suspended && (is_void(sight.lag) || sight.address_vanished);
        if sight.is_ours() || goes_on {
            self.until = Some(now.saturating_add(interval));
        }
        if self.is_suspended(now) { Ruling::Suspend { begins: !was_suspended } } else { Ruling::Believe }
    }

    /// Whether nothing is believed at `now`.
    #[must_use]
    pub fn is_suspended(&self, now: Duration) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// When the running suspension ends unless its cause goes on.
    #[must_use]
    pub fn suspended_until(&self, now: Duration) -> Option<Duration> {
        self.until.filter(|until| now < *until)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(2);
    const LAGGING: Duration = Duration::from_secs(10);

    fn seen(failed: usize, watched: usize, lag: Duration, address_vanished: bool) -> Sight {
        Sight { failed, watched, lag, address_vanished }
    }

    fn ruling(sight: Sight) -> Ruling {
        Guard::default().judge(&sight, INTERVAL, Duration::from_secs(100))
    }

    const ALARM: Ruling = Ruling::Suspend { begins: true };

    #[test]
    fn a_timer_may_be_late_by_250_ms_and_no_more() {
        assert!(!is_void(Duration::from_millis(250)));
        assert!(is_void(Duration::from_micros(250_001)));
    }

    #[test]
    fn everything_failing_is_believed_when_we_are_well() {
        assert_eq!(ruling(seen(10, 10, Duration::from_millis(250), false)), Ruling::Believe);
    }

    #[test]
    fn our_lag_alone_suspends_nothing() {
        assert_eq!(ruling(seen(0, 10, LAGGING, true)), Ruling::Believe);
        assert_eq!(ruling(seen(0, 0, LAGGING, true)), Ruling::Believe);
        assert_eq!(ruling(seen(5, 10, LAGGING, true)), Ruling::Believe, "half is not most");
    }

    #[test]
    fn most_failing_while_we_lag_or_lost_our_address_is_ours() {
        assert_eq!(ruling(seen(6, 10, LAGGING, false)), ALARM);
        assert_eq!(ruling(seen(6, 10, Duration::ZERO, true)), ALARM);
        assert_eq!(ruling(seen(1, 1, LAGGING, false)), ALARM);
    }

    #[test]
    fn a_suspension_alarms_once_and_ends_an_interval_after_its_cause() {
        let mut guard = Guard::default();
        let mut at = |second, sight| guard.judge(&sight, INTERVAL, Duration::from_secs(second));
        let going_on = Ruling::Suspend { begins: false };
        assert_eq!(at(0, seen(10, 10, LAGGING, false)), ALARM);
        assert_eq!(at(1, seen(0, 10, LAGGING, false)), going_on);
        assert_eq!(at(2, seen(10, 10, Duration::ZERO, false)), going_on);
        assert_eq!(at(3, seen(10, 10, Duration::ZERO, false)), Ruling::Believe);
        assert_eq!(at(9, seen(10, 10, LAGGING, false)), ALARM, "a new one is a new alarm");
    }

    #[test]
    fn a_vanished_address_suspends_until_it_is_back() {
        let mut guard = Guard::default();
        for second in 0..1000 {
            let failed = if second == 0 { 10 } else { 0 };
            guard.judge(&seen(failed, 10, Duration::ZERO, true), INTERVAL, Duration::from_secs(second));
            assert!(guard.is_suspended(Duration::from_secs(second)));
        }
        assert_eq!(guard.suspended_until(Duration::from_secs(999)), Some(Duration::from_secs(1001)));
        assert!(!guard.is_suspended(Duration::from_secs(1001)));
    }

    proptest! {
        #[test]
        fn nothing_is_suspended_without_a_reason_of_our_own(
            sights in prop::collection::vec((0usize..20, 0usize..20, 0u64..=250), 0..50),
        ) {
            let mut guard = Guard::default();
            for (second, (failed, watched, lag)) in (0u64..).zip(sights) {
                let sight = seen(failed, watched, Duration::from_millis(lag), false);
                prop_assert_eq!(guard.judge(&sight, INTERVAL, Duration::from_secs(second)), Ruling::Believe);
            }
        }
    }
}
