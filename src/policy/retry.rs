//! What follows a failed attempt: another endpoint, a fresh connection, or the end. Budgets and the choice of the
//! endpoint are elsewhere.

use std::time::Duration;

use super::failure::Counted;

/// What went wrong with an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection could be made (TLS belongs to making one): nothing was sent.
    Connect,
    /// Closed before a complete response head, cleanly or not.
    Reset,
    /// No response head in time.
    Timeout,
    /// A response head with this status.
    Status(u16),
}

/// What is tried again, and how often.
///
/// The problem: an attempt failed, and trying again may help the client, may do its work twice, and may bury endpoints
/// that fail because they have too much to do. Why this answer: only what cannot have been processed, or may be
/// processed twice by its method (RFC 9110 section 9.2.2), is repeated; only elsewhere, only for so long and so often; and
/// nothing once the client has seen a byte. When wrong: for methods that are idempotent by the standard but not in
/// the application, where `on = ["connect"]` is the answer, and under overload, which only a budget ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Tries in all, each on a different endpoint; re-picks and repeats on a fresh connection are not counted.
    pub attempts: u32,
    /// What is tried elsewhere.
    pub on: Counted,
    /// Nothing is started later than this after the request.
    pub within: Duration,
}

/// What is known when an attempt has failed.
///
/// Whether the client is still there is no fact here: when it goes its request goes, and nobody asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// What went wrong.
    pub failure: Failure,
    /// Whether doing it twice is the same as doing it once, by the method or because the operator says so.
    pub idempotent: bool,
    /// The connection came from the pool: the endpoint may have closed it before it saw the request.
    pub reused: bool,
    /// The socket accepted any byte of the request.
    pub bytes_sent: bool,
    /// Any byte of a response was read from the endpoint.
    pub answer_bytes: bool,
    /// All of the body that was read from the client is still here, or there was none.
    pub body_replayable: bool,
    /// Any byte of a response went to the client.
    pub response_started: bool,
    /// Attempts so far, this one included.
    pub attempts: u32,
    /// Time since the request.
    pub elapsed: Duration,
    /// An endpoint that was not tried is usable, in the pool or its failover chain.
    pub other_usable: bool,
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
}

/// What follows the attempt that these facts are of.
#[must_use]
pub fn next(policy: &Policy, facts: &Facts) -> Next {
    if facts.response_started {
        return Next::GiveUp(Why::ResponseStarted);
    }
    // A connection that was never made took nothing, whatever an earlier attempt sent.
    let nothing_sent = !facts.bytes_sent || facts.failure == Failure::Connect;
    if !nothing_sent && !facts.idempotent {
        return Next::GiveUp(Why::NotIdempotent);
    }
    if !nothing_sent && !facts.body_replayable {
        return Next::GiveUp(Why::BodyGone);
    }
    let late = facts.elapsed >= policy.within;
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
        (false, _) => Next::GiveUp(Why::NoOther),
        (true, true) => Next::Another,
        (true, false) => Next::Repick,
    }
}

impl Policy {
    /// Whether this failure is tried again at all; what else must hold is [`next`]'s to say.
    #[must_use]
    pub fn lists(&self, failure: Failure) -> bool {
        self.on.has(failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        Policy {
            attempts: 3,
            on: Counted { connect: true, reset: true, timeout: true, statuses: vec![(502, 503)] },
            within: Duration::from_secs(10),
        }
    }

    /// An attempt on a new connection that broke after all of a request without a body was sent.
    fn facts(idempotent: bool, failure: Failure) -> Facts {
        Facts {
            failure,
            idempotent,
            reused: false,
            bytes_sent: failure != Failure::Connect,
            answer_bytes: matches!(failure, Failure::Status(_)),
            body_replayable: true,
            response_started: false,
            attempts: 1,
            elapsed: Duration::from_secs(1),
            other_usable: true,
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
}
