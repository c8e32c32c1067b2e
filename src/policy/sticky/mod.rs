//! Stickiness: a client keeps coming to the endpoint that it came to first. Here is for how long that holds and where it
//! ends; `cookie` is what a client carries of it, `table` what is kept of clients that carry nothing, `fields` what a
//! cookie does to the fields around it.

pub mod cookie;
pub mod fields;
pub mod table;

use std::time::Duration;

/// What becomes of a client whose endpoint cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenDown {
    /// It is bound to another one.
    #[default]
    Rebalance,
    /// It is refused until its endpoint is back: for what only that endpoint has.
    Fail,
}

impl WhenDown {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Rebalance, Self::Fail];

    /// Its word in a configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Rebalance => "rebalance",
            Self::Fail => "fail",
        }
    }
}

/// When a client that had to go to a backup tier or a failover pool comes home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Failback {
    /// Never for as long as it keeps coming.
    #[default]
    Stay,
    /// After it has not come for a while.
    Idle,
    /// When its binding has had its time, however often it comes.
    Expiry,
}

impl Failback {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Stay, Self::Idle, Self::Expiry];

    /// Its word in a configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Stay => "stay",
            Self::Idle => "idle",
            Self::Expiry => "expiry",
        }
    }
}

/// For how long a binding holds that a client carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lifetime {
    /// From when it was made; nothing is for as long as the client keeps it.
    pub max_age: Option<Duration>,
    /// Without a request; nothing is no limit.
    pub max_idle: Option<Duration>,
    /// When those who are away come home.
    pub failback: Failback,
}

/// What a client carries of where it belongs, but for the endpoint itself. Times are seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Binding {
    /// When the client was bound to the endpoint.
    pub made: u32,
    /// When it was last told so: it has come since then for as long as it may be idle, nearly.
    pub seen: u32,
    /// Whether it is away: on a backup tier or a failover pool.
    pub away: bool,
    /// Whether a split chose the pool, so that it decides there again.
    pub split: bool,
}

/// What a binding is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It holds.
    Good,
    /// It holds, and the client is to be told anew, so that it goes on to.
    Renew,
    /// It has had its time.
    Over,
}

/// How far another node's clock may be ahead (HAProxy's bound for the dates in its cookies).
const AHEAD: u32 = 24 * 60 * 60;

/// A client is told anew when this part of the time that it may be idle has gone: idleness is measured that finely.
const IDLE_PARTS: u32 = 8;

/// A client whose cookie was signed by a key that gives way is told anew, but not more often than this: during a change
/// nodes do not agree on which key comes first.
const RESIGN_AFTER: u32 = 60;

impl Lifetime {
    /// What `binding` is worth at `now`; `signed_by_first` says that the key which signs today has signed it.
    #[must_use]
    pub fn judge(&self, binding: &Binding, signed_by_first: bool, now: u32) -> Standing {
        if binding.seen < binding.made || binding.seen.saturating_sub(now) > AHEAD {
            return Standing::Over;
        }
        let stays = binding.away && self.failback == Failback::Stay;
        // Whoever is away counts from the last time that it was told, unless its time is to run out.
        let renewable = binding.away && self.failback != Failback::Expiry;
        let age = now.saturating_sub(if renewable { binding.seen } else { binding.made });
        let idle = now.saturating_sub(binding.seen);
        let (max_age, max_idle) = (self.max_age.map(seconds), self.max_idle.map(seconds));
        let max_idle = max_idle.filter(|_| !stays);
        if max_age.is_some_and(|max| age >= max) || max_idle.is_some_and(|max| idle >= max) {
            return Standing::Over;
        }
        let renew = max_idle.is_some_and(|max| idle > max / IDLE_PARTS)
            || (renewable && max_age.is_some_and(|max| idle > max / 2))
            || (!signed_by_first && idle >= RESIGN_AFTER);
        if renew { Standing::Renew } else { Standing::Good }
    }
}

/// Whole seconds of a time, at least one.
fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u32 = 1_800_000_000;
    const DAY: u32 = 24 * 60 * 60;

    fn lifetime(max_age: u32, max_idle: u32, failback: Failback) -> Lifetime {
        let time = |seconds: u32| (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)));
        Lifetime { max_age: time(max_age), max_idle: time(max_idle), failback }
    }

    fn judge(lifetime: Lifetime, (made, seen): (u32, u32), away: bool) -> Standing {
        let binding = Binding { made: NOW - made, seen: NOW - seen, away, split: false };
        lifetime.judge(&binding, true, NOW)
    }

    #[test]
    fn without_limits_a_binding_holds_for_ever() {
        for away in [false, true] {
            assert_eq!(judge(Lifetime::default(), (NOW, NOW), away), Standing::Good);
        }
    }

    #[test]
    fn a_cookie_of_two_days_ends_after_two_days_however_often_it_came() {
        // `session-cookie-max-age: "172800"` of ingress-nginx.
        let two_days = lifetime(172_800, 0, Failback::Stay);
        assert_eq!(judge(two_days, (172_799, 172_799), false), Standing::Good);
        assert_eq!(judge(two_days, (172_800, 172_800), false), Standing::Over);
        assert_eq!(judge(two_days, (172_800, 0), false), Standing::Over);
    }

    #[test]
    fn an_idle_client_is_new_and_one_that_comes_is_told_anew_in_time() {
        let idle = lifetime(0, 800, Failback::Expiry);
        for (seen, standing) in [
            (0, Standing::Good),
            (100, Standing::Good),
            (101, Standing::Renew),
            (799, Standing::Renew),
            (800, Standing::Over),
        ] {
            assert_eq!(judge(idle, (DAY, seen), false), standing, "{seen}");
        }
    }

    #[test]
    fn a_client_that_is_away_stays_comes_home_when_idle_or_when_its_time_is_over() {
        let told = (10 * DAY, DAY / 2);
        for (failback, standing) in [
            (Failback::Stay, Standing::Good),
            (Failback::Idle, Standing::Over),
            (Failback::Expiry, Standing::Over),
        ] {
            let max_idle = if failback == Failback::Expiry { 0 } else { 600 };
            assert_eq!(judge(lifetime(2 * DAY, max_idle, failback), told, true), standing, "{failback:?}");
        }
        // Who stays is told anew half-way, which counts from then on.
        let stay = lifetime(2 * DAY, 0, Failback::Stay);
        assert_eq!(judge(stay, (10 * DAY, DAY + 1), true), Standing::Renew);
        assert_eq!(judge(stay, (10 * DAY, 2 * DAY), true), Standing::Over, "the client has lost it by now");
        // And who comes often enough is never idle.
        assert_eq!(judge(lifetime(0, 600, Failback::Idle), (10 * DAY, 599), true), Standing::Renew);
    }

    #[test]
    fn a_key_that_gives_way_takes_nobody_along_and_nodes_in_between_do_not_quarrel() {
        let binding = Binding { made: NOW - DAY, seen: NOW - DAY, ..Binding::default() };
        assert_eq!(Lifetime::default().judge(&binding, false, NOW), Standing::Renew);
        let fresh = Binding { seen: NOW - 59, ..binding };
        assert_eq!(Lifetime::default().judge(&fresh, false, NOW), Standing::Good);
    }

    #[test]
    fn a_clock_that_is_ahead_is_forgiven_for_a_day() {
        let ahead = |by| Binding { made: NOW, seen: NOW + by, ..Binding::default() };
        let hour = lifetime(3600, 3600, Failback::Stay);
        assert_eq!(hour.judge(&ahead(DAY), true, NOW), Standing::Good);
        assert_eq!(hour.judge(&ahead(DAY + 1), true, NOW), Standing::Over);
        let backwards = Binding { made: NOW, seen: NOW - 1, ..Binding::default() };
        assert_eq!(hour.judge(&backwards, true, NOW), Standing::Over);
    }
}
