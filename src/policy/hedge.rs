//! When a second endpoint is asked while the first has not answered yet. What latencies are is `latency`'s, how many
//! extra attempts there may be `budget`'s, and what follows a failure `retry`'s.

use std::time::Duration;

/// How requests are hedged.
///
/// The problem: one slow endpoint in ten makes one request in ten slow, although nothing fails. Why this answer: a
/// second attempt that starts when 95 of 100 would have been answered costs one request in twenty and takes the tail
/// away (Dean and Barroso, "The Tail at Scale", 2013). When wrong: under overload, where all latencies grow; there the
/// quantile grows with them and the budget ends it.
///
/// The quantile is of the attempts that were answered, each from when it was sent. Those that lost and were cancelled say
/// nothing: a slow endpoint whose requests others answer does not raise what is waited for, and how many hedges that
/// makes is the budget's to bound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// The share of answers, between 0 and 1, that came sooner than the second attempt starts.
    pub after: f64,
    /// It never starts sooner than this, however fast the pool is.
    pub min_delay: Duration,
    /// It never waits for longer than this, also while too little is known of the pool; nothing is no such bound.
    pub max_delay: Option<Duration>,
}

/// What is known when a request has been sent and waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// It may be done twice: [`super::retry::Policy::repeatable`].
    pub repeatable: bool,
    /// All of its body is still here, or there was none.
    pub body_replayable: bool,
    /// Any byte of a response went to the client.
    pub response_started: bool,
    /// Attempts so far, this one included, other hedges too.
    pub attempts: u32,
    /// Another attempt for this request is under way.
    pub hedged: bool,
    /// An endpoint that was not tried is usable.
    pub other_usable: bool,
    /// Time since the request.
    pub elapsed: Duration,
    /// What [`super::latency::quantile`] says for [`Settings::after`].
    pub usual: Option<Duration>,
}

/// How long after the attempt began another may be started on another endpoint; nothing where none may.
///
/// `attempts`, `within` and `per_try_timeout` are the retry policy's. When the time has come, the caller asks whether
/// there still is no answer and withdraws from the budget first: one that is spent means no hedge.
#[must_use]
pub fn hedge_after(settings: &Settings, policy: &super::retry::Policy, facts: &Facts) -> Option<Duration> {
    let allowed = facts.repeatable
        && facts.body_replayable
        && !facts.response_started
        && !facts.hedged
        && facts.other_usable
        && facts.attempts < policy.attempts;
    let usual = facts.usual.map(|usual| usual.max(settings.min_delay));
    let after = usual.into_iter().chain(settings.max_delay).min()?;
    // Later than that the attempt is over anyway and retry decides.
    let in_time = policy.per_try_timeout.is_none_or(|limit| after < limit);
    (allowed && in_time && facts.elapsed + after < policy.within).then_some(after)
}

#[cfg(test)]
mod tests {
    use super::super::retry::Policy;
    use super::*;

    const SETTINGS: Settings = Settings { after: 0.95, min_delay: Duration::from_millis(5), max_delay: None };

    const FACTS: Facts = Facts {
        repeatable: true,
        body_replayable: true,
        response_started: false,
        attempts: 1,
        hedged: false,
        other_usable: true,
        elapsed: Duration::ZERO,
        usual: Some(Duration::from_millis(40)),
    };

    fn after(change: impl Fn(&mut Facts)) -> Option<Duration> {
        let mut facts = FACTS;
        change(&mut facts);
        hedge_after(&SETTINGS, &Policy::default(), &facts)
    }

    #[test]
    fn it_waits_for_the_quantile_and_the_least() {
        assert_eq!(after(|_| ()), Some(Duration::from_millis(40)));
        assert_eq!(after(|f| f.usual = Some(Duration::from_millis(1))), Some(Duration::from_millis(5)));
    }

    #[test]
    fn it_never_waits_for_longer_than_it_is_told_to() {
        let settings = Settings { max_delay: Some(Duration::from_millis(30)), ..SETTINGS };
        let after = |usual| hedge_after(&settings, &Policy::default(), &Facts { usual, ..FACTS });
        let ms = Duration::from_millis;
        assert_eq!(after(Some(ms(40))), Some(ms(30)));
        assert_eq!(after(Some(ms(1))), Some(ms(5)));
        assert_eq!(after(None), Some(ms(30)), "also while nothing is known");
    }

    #[test]
    fn each_fact_alone_forbids_it() {
        let forbid: [fn(&mut Facts); 8] = [
            |f| f.repeatable = false,
            |f| f.body_replayable = false,
            |f| f.response_started = true,
            |f| f.attempts = 3,
            |f| f.hedged = true,
            |f| f.other_usable = false,
            |f| f.elapsed = Duration::from_millis(9_960),
            |f| f.usual = None,
        ];
        for (number, change) in forbid.into_iter().enumerate() {
            assert_eq!(after(change), None, "fact {number}");
        }
    }

    #[test]
    fn it_never_comes_after_the_attempt_is_given_up() {
        let policy = Policy { per_try_timeout: Some(Duration::from_millis(40)), ..Policy::default() };
        assert_eq!(hedge_after(&SETTINGS, &policy, &FACTS), None);
        let longer = Policy { per_try_timeout: Some(Duration::from_millis(41)), ..policy };
        assert!(hedge_after(&SETTINGS, &longer, &FACTS).is_some());
    }
}
