//! What follows a failed attempt: another endpoint, a fresh connection, the same endpoint after a while, or the end.
//! Budgets and the choice of the endpoint are elsewhere.

use std::time::Duration;

use super::failure::Counted;
use super::hedge;

/// Envoy's first bound of a wait before the same endpoint is asked again.
const BACKOFF_BASE: Duration = Duration::from_millis(25);

/// Envoy's largest bound: ten times the base.
const BACKOFF_MAX: Duration = Duration::from_millis(250);

/// What went wrong with an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection could be made (TLS belongs to making one): nothing was sent.
    Connect,
    /// Closed before a complete response head, cleanly or not.
    Reset,
    /// No response head in time: that of the attempt, or `per_try_timeout`.
    Timeout,
    /// A response head with this status; behind those of HTTP, a gRPC call that failed with this one and no other answer
    /// (`model::grpc`).
    Status(u16),
}

/// What is tried again, and how often.
///
/// The problem: an attempt failed, and trying again may help the client, may do its work twice, and may bury endpoints
/// that fail because they have too much to do. Why this answer: only what cannot have been processed, or may be
/// processed twice by its method (RFC 9110 section 9.2.2), is repeated; only elsewhere, only for so long and so often; and
/// nothing once the client has seen a byte. When wrong: for methods that are idempotent by the standard but not in
/// the application, where `on = ["connect"]` is the answer, and under overload, which only a budget ends.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Tries in all, each on a different endpoint; re-picks and repeats on a fresh connection are not counted.
    pub attempts: u32,
    /// What is tried elsewhere.
    pub on: Counted,
    /// Nothing is started later than this after the request.
    pub within: Duration,
    /// Limit of an attempt that another would follow, from when it is sent to its response head and never for the body;
    /// reaching it is a [`Failure::Timeout`]. The last attempt has the pool's own limit, as all have without this.
    pub per_try_timeout: Option<Duration>,
    /// What the operator says of methods that are not idempotent by the standard.
    pub non_idempotent: NonIdempotent,
    /// A second attempt beside one that is slow; nothing is never.
    pub hedge: Option<hedge::Settings>,
}

/// Whether a request whose method is not idempotent may be done twice (RFC 9110 section 9.2.2 leaves it to whoever knows
/// the application).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NonIdempotent {
    /// Never.
    #[default]
    Never,
    /// When it carries an `Idempotency-Key`, by which the application recognises a repeat.
    WithIdempotencyKey,
    /// Always.
    Always,
}

/// What is known when an attempt has failed.
///
/// Whether the client is still there is no fact here: when it goes its request goes, and nobody asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// What went wrong.
    pub failure: Failure,
    /// Whether doing it twice is the same as doing it once, by its method.
    pub idempotent: bool,
    /// It carries an `Idempotency-Key`.
    pub idempotency_key: bool,
    /// The connection came from the pool: the endpoint may have closed it before it saw the request.
    pub reused: bool,
    /// The socket accepted any byte of the request.
    pub bytes_sent: bool,
    /// Any byte of a response was read from the endpoint.
    pub answer_bytes: bool,
    /// The endpoint itself says that it has done nothing with the request.
    pub given_back: Option<GivenBack>,
    /// All of the body that was read from the client is still here, or there was none.
    pub body_replayable: bool,
    /// Any byte of a response went to the client.
    pub response_started: bool,
    /// Attempts so far, this one included if it was one: a failed connect is none.
    pub attempts: u32,
    /// How often the same endpoint was asked again after a wait ([`Next::SameAfter`]) so far.
    pub waits: u32,
    /// How often in a row it was sent again on another connection to this endpoint ([`Next::RepeatFresh`]) so far.
    pub repeats: u32,
    /// Time since the request.
    pub elapsed: Duration,
    /// An endpoint that was not tried is usable, in the pool or its failover chain.
    pub other_usable: bool,
    /// The endpoint that failed still is usable, and no other is, tried or not.
    pub alone: bool,
}

/// How often in a row a request follows its endpoint from one connection to the next. An endpoint that ends each after a
/// hundred requests, as nginx may, gives some back again and again to a proxy that has more than that in flight.
const REPEATS_MAX: u32 = 8;

/// How an endpoint says that it has done nothing with a request, whatever it has seen of it (RFC 9113 section 8.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivenBack {
    /// It takes no more on this connection (GOAWAY).
    WithItsConnection,
    /// It does not take this request (REFUSED_STREAM).
    Refused,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Pick the next endpoint; this was no attempt, since nothing was sent. Bounded by every endpoint once.
    Repick,
    /// Send it again to the same endpoint on a connection of its own. No attempt, and no failure of the endpoint:
    /// the connection had been idle and was closed as the request came.
    RepeatFresh,
    /// Another attempt, on another endpoint.
    Another,
    /// Another attempt on the same endpoint, which is all there is, after a wait between nothing and this: see
    /// [`wait`]. Were there another one, waiting would help nobody.
    SameAfter(Duration),
    /// The failure stands; a status that came is the client's answer.
    GiveUp(Why),
}

/// Why nothing more is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The client has part of a response.
    ResponseStarted,
    /// The endpoint may have acted on it, and it must not act twice.
    NotIdempotent,
    /// Part of the body was sent and is no longer here.
    BodyGone,
    /// The policy does not list this failure.
    NotListed,
    /// It took longer than `within`.
    TooLate,
    /// `attempts` are used up.
    AttemptsUsed,
    /// No other endpoint is usable.
    NoOther,
    /// The pool's budget is spent. Said by the caller, who asks it when all else allows an attempt: [`Next::draws`].
    BudgetSpent,
}

/// What follows the attempt that these facts are of.
#[must_use]
pub fn next(policy: &Policy, facts: &Facts) -> Next {
    if facts.response_started {
        return Next::GiveUp(Why::ResponseStarted);
    }
    // A connection that was never made took nothing, whatever an earlier attempt sent; nor did one whose endpoint has
    // refused our certificate, but what of the body went into it is gone all the same.
    let nothing_sent = !facts.bytes_sent || facts.failure == Failure::Connect;
    // Calls all have one method: whoever lists a status of theirs speaks of what may be done again.
    let listed_call = matches!(facts.failure, Failure::Status(1000..)) && policy.lists(facts.failure);
    let undone = nothing_sent || facts.given_back.is_some() || listed_call;
    if !undone && !policy.repeatable(facts.idempotent, facts.idempotency_key) {
        return Next::GiveUp(Why::NotIdempotent);
    }
    if facts.bytes_sent && !facts.body_replayable {
        return Next::GiveUp(Why::BodyGone);
    }
    let late = facts.elapsed >= policy.within;
    if let Some(how) = facts.given_back {
        return if late { Next::GiveUp(Why::TooLate) } else { given_back(policy, facts, how) };
    }
    // Asked before the list of failures: this one is of our reuse, not of the endpoint (RFC 9112 section 9.3.1).
    if facts.failure == Failure::Reset && facts.reused && !facts.answer_bytes {
        return if late { Next::GiveUp(Why::TooLate) } else { Next::RepeatFresh };
    }
    if !policy.lists(facts.failure) {
        return Next::GiveUp(Why::NotListed);
    }
    if late {
        return Next::GiveUp(Why::TooLate);
    }
    let counts = facts.failure != Failure::Connect;
    if counts && facts.attempts >= policy.attempts {
        return Next::GiveUp(Why::AttemptsUsed);
    }
    match (facts.other_usable, counts) {
        (false, _) => same(policy, facts),
        (true, true) => Next::Another,
        (true, false) => Next::Repick,
    }
}

/// What follows where the endpoint has done nothing with the request: no attempt was made, in effect.
fn given_back(policy: &Policy, facts: &Facts, how: GivenBack) -> Next {
    // The way of HTTP/2 to close a connection that is in use: the endpoint is as good as it was.
    if how == GivenBack::WithItsConnection && facts.reused && facts.repeats < REPEATS_MAX {
        return Next::RepeatFresh;
    }
    if !policy.lists(Failure::Connect) && !policy.lists(Failure::Reset) {
        return Next::GiveUp(Why::NotListed);
    }
    if facts.other_usable { Next::Repick } else { same(policy, facts) }
}

/// What follows where no endpoint is left that was not tried.
fn same(policy: &Policy, facts: &Facts) -> Next {
    if !facts.alone {
        return Next::GiveUp(Why::NoOther);
    }
    // Failed connects are no attempts, so waits have a bound of their own.
    if facts.waits + 1 >= policy.attempts {
        return Next::GiveUp(Why::AttemptsUsed);
    }
    Next::SameAfter(backoff(facts.waits + 1).min(policy.within - facts.elapsed))
}

/// The bound of the n-th wait before the same endpoint is asked again, n from 1: Envoy's (2^n - 1) x 25 ms, never above
/// 250 ms.
#[must_use]
pub fn backoff(n: u32) -> Duration {
    let times = 1_u32.checked_shl(n).map_or(u32::MAX, |power| power - 1);
    BACKOFF_BASE.saturating_mul(times).min(BACKOFF_MAX)
}

/// A wait that is drawn evenly from nothing up to, but never reaching, `bound` ("full jitter": those who failed together
/// do not come back together). `random` is any number.
#[must_use]
pub fn wait(bound: Duration, random: u64) -> Duration {
    let nanos = (bound.as_nanos() * u128::from(random)) >> 64;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

impl Next {
    /// Whether the pool's budget must be asked first: it pays for attempts that put load on an endpoint again, not for
    /// what follows a connection that was never made. When it refuses, [`Why::BudgetSpent`] is what follows.
    #[must_use]
    pub fn draws(self, failure: Failure) -> bool {
        matches!(self, Self::Another | Self::SameAfter(_)) && failure != Failure::Connect
    }
}

impl Policy {
    /// Whether this failure is tried again at all; what else must hold is [`next`]'s to say.
    #[must_use]
    pub fn lists(&self, failure: Failure) -> bool {
        self.on.has(failure)
    }

    /// Whether a request may be done twice, by its method or because the operator says so.
    #[must_use]
    pub fn repeatable(&self, idempotent: bool, idempotency_key: bool) -> bool {
        idempotent
            || match self.non_idempotent {
                NonIdempotent::Never => false,
                NonIdempotent::WithIdempotencyKey => idempotency_key,
                NonIdempotent::Always => true,
            }
    }
}

impl Default for Policy {
    /// What a pool does that says nothing.
    fn default() -> Self {
        Self {
            attempts: 3,
            on: Counted { connect: true, reset: true, ..Counted::default() },
            within: Duration::from_secs(10),
            per_try_timeout: None,
            non_idempotent: NonIdempotent::Never,
            hedge: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy() -> Policy {
        Policy {
            on: Counted { connect: true, reset: true, timeout: true, statuses: vec![(502, 503)] },
            ..Policy::default()
        }
    }

    /// An attempt on a new connection that broke after all of a request without a body was sent.
    fn facts(idempotent: bool, failure: Failure) -> Facts {
        Facts {
            failure,
            idempotent,
            idempotency_key: false,
            reused: false,
            bytes_sent: failure != Failure::Connect,
            answer_bytes: matches!(failure, Failure::Status(_)),
            given_back: None,
            body_replayable: true,
            response_started: false,
            attempts: 1,
            waits: 0,
            repeats: 0,
            elapsed: Duration::from_secs(1),
            other_usable: true,
            alone: false,
        }
    }

    /// Asserts what follows for a GET and for a POST.
    fn check(row: &str, failure: Failure, change: impl Fn(&mut Facts), get: Next, post: Next) {
        for (idempotent, want) in [(true, get), (false, post)] {
            let mut facts = facts(idempotent, failure);
            change(&mut facts);
            assert_eq!(next(&policy(), &facts), want, "{row}: {facts:?}");
        }
    }

    const FAILURES: [Failure; 4] = [Failure::Connect, Failure::Reset, Failure::Timeout, Failure::Status(503)];

    #[test]
    fn a_failed_connect_goes_to_the_next_whatever_the_method_and_count() {
        check("connect", Failure::Connect, |_| {}, Next::Repick, Next::Repick);
        check("connect", Failure::Connect, |f| f.attempts = 3, Next::Repick, Next::Repick);
    }

    #[test]
    fn a_stale_connection_is_repeated_on_a_fresh_one_where_it_cannot_have_been_acted_on_twice() {
        let never = Next::GiveUp(Why::NotIdempotent);
        check("stale", Failure::Reset, |f| f.reused = true, Next::RepeatFresh, never);
        let unsent = |f: &mut Facts| (f.reused, f.bytes_sent, f.body_replayable) = (true, false, false);
        check("stale, nothing accepted", Failure::Reset, unsent, Next::RepeatFresh, Next::RepeatFresh);
        let last = |f: &mut Facts| (f.reused, f.attempts, f.other_usable) = (true, 3, false);
        check("stale is no attempt", Failure::Reset, last, Next::RepeatFresh, never);
        let answered = |f: &mut Facts| (f.reused, f.answer_bytes) = (true, true);
        check("broken in its answer", Failure::Reset, answered, Next::Another, never);
    }

    #[test]
    fn a_stale_connection_is_repeated_even_where_resets_are_not_listed() {
        let quiet = Policy { attempts: 1, on: Counted { reset: false, ..policy().on }, ..policy() };
        let stale = Facts { reused: true, ..facts(true, Failure::Reset) };
        assert_eq!(next(&quiet, &stale), Next::RepeatFresh);
        assert_eq!(next(&quiet, &Facts { reused: false, ..stale }), Next::GiveUp(Why::NotListed));
    }

    #[test]
    fn what_was_given_back_goes_on_whatever_the_method_and_count() {
        let refused = |f: &mut Facts| (f.given_back, f.attempts) = (Some(GivenBack::Refused), 3);
        check("refused", Failure::Reset, refused, Next::Repick, Next::Repick);
        let left = |f: &mut Facts| (f.given_back, f.reused) = (Some(GivenBack::WithItsConnection), true);
        check("left", Failure::Reset, left, Next::RepeatFresh, Next::RepeatFresh);
        let again = |f: &mut Facts| {
            left(f);
            f.repeats = REPEATS_MAX - 1;
        };
        check("left again", Failure::Reset, again, Next::RepeatFresh, Next::RepeatFresh);
        let ever = |f: &mut Facts| {
            left(f);
            f.repeats = REPEATS_MAX;
        };
        check("left again and again", Failure::Reset, ever, Next::Repick, Next::Repick);
        let new = |f: &mut Facts| f.given_back = Some(GivenBack::WithItsConnection);
        check("left at once", Failure::Reset, new, Next::Repick, Next::Repick);
    }

    #[test]
    fn what_was_given_back_is_not_repeated_without_its_body_or_too_late_or_for_ever() {
        let back = Some(GivenBack::Refused);
        let gone = Next::GiveUp(Why::BodyGone);
        check("body", Failure::Reset, |f| (f.given_back, f.body_replayable) = (back, false), gone, gone);
        let late = Next::GiveUp(Why::TooLate);
        let over = |f: &mut Facts| (f.given_back, f.elapsed) = (back, Duration::from_secs(10));
        check("late", Failure::Reset, over, late, late);
        let alone = |f: &mut Facts| (f.given_back, f.other_usable, f.alone, f.waits) = (back, false, true, 2);
        let used = Next::GiveUp(Why::AttemptsUsed);
        check("alone", Failure::Reset, alone, used, used);
    }

    #[test]
    fn what_was_sent_is_repeated_only_when_idempotent() {
        for failure in [Failure::Reset, Failure::Timeout, Failure::Status(502), Failure::Status(503)] {
            check("sent", failure, |_| {}, Next::Another, Next::GiveUp(Why::NotIdempotent));
        }
        check("not sent", Failure::Reset, |f| f.bytes_sent = false, Next::Another, Next::Another);
    }

    #[test]
    fn nothing_is_repeated_once_the_client_has_a_byte() {
        for failure in FAILURES {
            let never = Next::GiveUp(Why::ResponseStarted);
            check("started", failure, |f| (f.response_started, f.reused) = (true, true), never, never);
        }
    }

    #[test]
    fn a_body_that_is_gone_is_not_repeated() {
        for failure in [Failure::Reset, Failure::Timeout, Failure::Status(503)] {
            let gone = |f: &mut Facts| f.body_replayable = false;
            check("streamed", failure, gone, Next::GiveUp(Why::BodyGone), Next::GiveUp(Why::NotIdempotent));
        }
        let refused = |f: &mut Facts| (f.bytes_sent, f.body_replayable) = (true, false);
        let never = Next::GiveUp(Why::BodyGone);
        check("a certificate that was refused late", Failure::Connect, refused, never, never);
    }

    #[test]
    fn nothing_starts_after_the_time_is_over() {
        let late = Next::GiveUp(Why::TooLate);
        let over = |f: &mut Facts| f.elapsed = Duration::from_secs(10);
        for failure in FAILURES {
            let post = if failure == Failure::Connect { late } else { Next::GiveUp(Why::NotIdempotent) };
            check("late", failure, over, late, post);
        }
    }

    #[test]
    fn attempts_are_bounded_and_never_go_back() {
        check(
            "used up",
            Failure::Reset,
            |f| f.attempts = 3,
            Next::GiveUp(Why::AttemptsUsed),
            Next::GiveUp(Why::NotIdempotent),
        );
        check(
            "alone",
            Failure::Timeout,
            |f| f.other_usable = false,
            Next::GiveUp(Why::NoOther),
            Next::GiveUp(Why::NotIdempotent),
        );
        let alone = Next::GiveUp(Why::NoOther);
        check("alone", Failure::Connect, |f| f.other_usable = false, alone, alone);
    }

    #[test]
    fn what_is_not_listed_stands() {
        let none = Policy { on: Counted::default(), ..policy() };
        for failure in FAILURES {
            assert_eq!(next(&none, &facts(true, failure)), Next::GiveUp(Why::NotListed), "{failure:?}");
        }
        assert_eq!(next(&policy(), &facts(true, Failure::Status(500))), Next::GiveUp(Why::NotListed));
    }

    #[test]
    fn a_post_is_repeated_only_as_the_operator_says() {
        let post = facts(false, Failure::Reset);
        let keyed = Facts { idempotency_key: true, ..post };
        let never = Next::GiveUp(Why::NotIdempotent);
        for (non_idempotent, plain, with_key) in [
            (NonIdempotent::Never, never, never),
            (NonIdempotent::WithIdempotencyKey, never, Next::Another),
            (NonIdempotent::Always, Next::Another, Next::Another),
        ] {
            let policy = Policy { non_idempotent, ..policy() };
            assert_eq!(next(&policy, &post), plain, "{non_idempotent:?}");
            assert_eq!(next(&policy, &keyed), with_key, "{non_idempotent:?} with a key");
        }
    }

    #[test]
    fn the_only_endpoint_is_asked_again_after_a_growing_wait() {
        let alone = |f: &mut Facts| (f.other_usable, f.alone) = (false, true);
        let after = |ms| Next::SameAfter(Duration::from_millis(ms));
        let never = Next::GiveUp(Why::NotIdempotent);
        for failure in [Failure::Reset, Failure::Timeout, Failure::Status(503)] {
            check("alone", failure, alone, after(25), never);
        }
        check("connect", Failure::Connect, alone, after(25), after(25));
        let second = |f: &mut Facts| (f.other_usable, f.alone, f.attempts, f.waits) = (false, true, 2, 1);
        check("second", Failure::Reset, second, after(75), never);
        let third = |f: &mut Facts| (f.other_usable, f.alone, f.attempts, f.waits) = (false, true, 0, 2);
        let used = Next::GiveUp(Why::AttemptsUsed);
        check("failed connects are bounded too", Failure::Connect, third, used, used);
        let sent = |f: &mut Facts| (f.other_usable, f.alone, f.attempts) = (false, true, 3);
        check("attempts elsewhere count", Failure::Reset, sent, used, never);
    }

    #[test]
    fn nothing_waits_while_another_endpoint_is_there_or_this_one_has_gone() {
        check("another", Failure::Connect, |f| f.alone = true, Next::Repick, Next::Repick);
        let gone = Next::GiveUp(Why::NoOther);
        check("gone", Failure::Connect, |f| f.other_usable = false, gone, gone);
    }

    #[test]
    fn a_wait_ends_before_the_time_is_over() {
        let facts = Facts {
            other_usable: false,
            alone: true,
            elapsed: Duration::from_millis(9_990),
            ..facts(true, Failure::Reset)
        };
        assert_eq!(next(&policy(), &facts), Next::SameAfter(Duration::from_millis(10)));
    }

    /// Vector 14: Envoy waits up to 24, 74, 174, 249 ms, in whole milliseconds, and never longer.
    #[test]
    fn waits_are_envoys() {
        let longest = |n| wait(backoff(n), u64::MAX).as_millis();
        assert_eq!([1, 2, 3, 4, 5, 31, 32, 1_000].map(longest), [24, 74, 174, 249, 249, 249, 249, 249]);
        assert_eq!(wait(backoff(4), 0), Duration::ZERO);
        assert_eq!(wait(backoff(4), 1 << 63), Duration::from_millis(125), "evenly");
    }

    #[test]
    fn only_attempts_after_something_was_sent_draw_on_the_budget() {
        let same = Next::SameAfter(BACKOFF_BASE);
        for failure in [Failure::Reset, Failure::Timeout, Failure::Status(503)] {
            assert!(Next::Another.draws(failure) && same.draws(failure), "{failure:?}");
            assert!(!Next::RepeatFresh.draws(failure) && !Next::GiveUp(Why::NoOther).draws(failure));
        }
        assert!(!Next::Repick.draws(Failure::Connect) && !same.draws(Failure::Connect));
    }

    /// What happens to one try: how it failed, whether the connection was reused, whether anything was sent.
    fn mishap() -> impl Strategy<Value = (Failure, bool, bool, bool)> {
        let failure = prop_oneof![
            Just(Failure::Connect),
            Just(Failure::Reset),
            Just(Failure::Timeout),
            Just(Failure::Status(503)),
        ];
        (failure, any::<bool>(), any::<bool>(), any::<bool>())
    }

    proptest! {
        /// A request that meets nothing but failures ends, within its attempts, and is never sent twice if it must not.
        #[test]
        fn whatever_goes_wrong_the_tries_are_bounded(
            mishaps in prop::collection::vec(mishap(), 100),
            idempotent in any::<bool>(),
            endpoints in 1_u32..5,
            attempts in 1_u32..6,
        ) {
            let policy = Policy { attempts, ..policy() };
            let (mut left, mut sent, mut dialed, mut waits, mut made, mut lost) = (endpoints, 0, 0, 0, 0, 0);
            let mut fresh = false;
            for (failure, reused, bytes_sent, alone) in mishaps {
                let connected = failure != Failure::Connect;
                // A repeat on a fresh connection is part of the attempt before it.
                made += u32::from(connected && !fresh);
                dialed += u32::from(!connected);
                // The attempt on a stale connection was none when the fresh one cannot be made either.
                lost += u32::from(!connected && fresh);
                sent += u32::from(connected && bytes_sent);
                let facts = Facts {
                    reused: reused && !fresh,
                    bytes_sent: connected && bytes_sent,
                    attempts: made,
                    waits,
                    other_usable: left > 1,
                    alone: alone && left <= 1,
                    ..facts(idempotent, failure)
                };
                fresh = false;
                match next(&policy, &facts) {
                    Next::GiveUp(_) => break,
                    Next::RepeatFresh => fresh = true,
                    Next::Another | Next::Repick => left -= 1,
                    Next::SameAfter(_) => waits += 1,
                }
                prop_assert!(idempotent || sent == 0, "sent, and not given up");
            }
            prop_assert!(made - lost <= attempts && waits < attempts, "{made} attempts, {waits} waits");
            prop_assert!(sent <= 2 * made && (idempotent || sent <= 1));
            prop_assert!(dialed <= endpoints + attempts);
        }
    }
}
