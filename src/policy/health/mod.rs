//! Whether an endpoint is up, from the results of its probes alone. Here are the words; whether the result means that
//! it may be picked is `runtime`'s to say, who leads an exclusive pool is `exclusive`'s.
//!
//! The map: `target` (results to up and down), `schedule` (when to ask next), `damping` (flapping is held down),
//! `guard` (our own sickness is not theirs), `bounds` (the worst-case times that `plimsoll check` prints).

use std::time::Duration;

pub mod bounds;
pub mod damping;
pub mod guard;
pub mod schedule;
pub mod target;

pub use target::{Because, Change, Health, State};

/// How results become a state, and how often to ask.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Good results in a row that bring an endpoint up; in the unknown state the first result decides.
    pub rise: u32,
    /// Bad results in a row that bring it down.
    pub fall: u32,
    /// From the end of one probe to the start of the next.
    pub interval: Duration,
    /// The same, after a first result that disagrees with the state.
    pub fast_interval: Duration,
    /// The same, while down.
    pub down_interval: Duration,
    /// Limit of a whole probe: connect, TLS and answer together.
    pub timeout: Duration,
    /// Every interval is drawn from 1 - jitter to 1 + jitter of itself.
    pub jitter: f64,
    /// Holds an endpoint down that changes too often.
    pub damping: Option<Damping>,
}

/// Flap damping after the model of BGP (RFC 2439): each fall adds 1 to a penalty that halves every `half_life`.
#[derive(Debug, Clone, PartialEq)]
pub struct Damping {
    /// Time in which the penalty halves.
    pub half_life: Duration,
    /// From this penalty on the endpoint is held down.
    pub suppress: f64,
    /// Under this penalty it is let up again.
    pub reuse: f64,
    /// It is never held for longer than this.
    pub max_time: Duration,
}

/// What one probe came to. The three that are evidence are kept apart all the way to the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It answered, and well.
    Good,
    /// It answered that it does not want traffic.
    SaysNo,
    /// It could not be asked: no connection, no answer in time, or a broken one.
    CannotBeAsked,
    /// No evidence: our own loop was late, or our own want of a resource.
    Void,
}
