//! What follows a failed attempt: another endpoint, a fresh connection, or the end. Budgets and the choice of the
//! endpoint are elsewhere.

use std::time::Duration;

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
    /// Whether [`Failure::Connect`] is tried elsewhere.
    pub connect: bool,
    /// Whether [`Failure::Reset`] is tried elsewhere.
    pub reset: bool,
    /// Whether [`Failure::Timeout`] is tried elsewhere.
    pub timeout: bool,
    /// Which statuses are tried elsewhere: inclusive ranges.
    pub statuses: Vec<(u16, u16)>,
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
        match failure {
            Failure::Connect => self.connect,
            Failure::Reset => self.reset,
            Failure::Timeout => self.timeout,
            Failure::Status(status) => {
                self.statuses.iter().any(|(low, high)| (*low..=*high).contains(&status))
            }
        }
    }
}
