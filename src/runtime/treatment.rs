//! What a route does with a request and its answer beside sending them on, as one snapshot has it, and how often it has.

use std::sync::Arc;
use std::time::Duration;

use super::counters::{Counter, PerWorker};
use super::credentials::BasicAuth;
use super::snapshot::Route;
use crate::model::field::FieldName;
use crate::policy::compression::Rules;

/// Everything of that kind that a route does.
#[derive(Debug)]
pub struct Treatment {
    /// Names and passwords.
    pub basic_auth: Option<BasicAuth>,
    /// Who is asked about each request first.
    pub forward_auth: Option<ForwardAuth>,
    /// Who gets copies of requests.
    pub mirror: Option<Arc<Mirror>>,
    /// Bytes of a request's body that are taken in before an endpoint is picked.
    pub buffer_request: Option<usize>,
    /// Bytes of an answer that are taken off its endpoint ahead of the client.
    pub buffer_response: Option<usize>,
    /// Which answers are compressed.
    pub compress: Option<Arc<Rules>>,
    /// What happens.
    pub live: Arc<TreatmentLive>,
}

/// A field in which an endpoint is told what is known of the client: whatever the client says in it never goes on, nor what
/// it says under a name that some gateways (CGI, WSGI) take for the same.
#[derive(Debug, Clone)]
pub struct Told {
    /// Its name.
    pub name: FieldName,
    /// Its name with one or more dashes as underscores, or underscores as dashes.
    pub look_alikes: Vec<Box<str>>,
}

impl Told {
    /// A field of this name.
    #[must_use]
    pub fn new(name: &FieldName) -> Self {
        // Of a name with more of them the first ones alone: nobody has such a name.
        const DASHES_MAX: usize = 6;
        let text = name.as_str();
        let dashes: Vec<usize> = text.match_indices(['-', '_']).map(|(at, _)| at).take(DASHES_MAX).collect();
        let alike = |which: usize| -> Box<str> {
            let chosen = |at: usize| {
                dashes.iter().position(|dash| *dash == at).is_some_and(|bit| which >> bit & 1 == 1)
            };
            let other = |c: char| if c == '-' { '_' } else { '-' };
            text.char_indices()
                .map(|(at, c)| if chosen(at) { other(c) } else { c })
                .collect::<String>()
                .into()
        };
        Self { name: name.clone(), look_alikes: (1..1 << dashes.len()).map(alike).collect() }
    }
}

/// A service that is asked about each request first.
#[derive(Debug)]
pub struct ForwardAuth {
    /// Its pool, by its index in the snapshot.
    pub pool: usize,
    /// The times of what is asked; its action counts for nothing.
    pub route: Route,
    /// Path and query that are asked for.
    pub target: Box<str>,
    /// Fields of the request that it gets; empty is nearly all.
    pub request_headers: Vec<FieldName>,
    /// Fields of its answer that the endpoint gets.
    pub response_headers: Vec<Told>,
    /// To its answer.
    pub timeout: Duration,
    /// Bytes of the body of its answers.
    pub max_answer: usize,
    /// Whether a request passes when it has no answer.
    pub allow_on_error: bool,
}

/// A pool that gets copies of requests.
#[derive(Debug)]
pub struct Mirror {
    /// The pool, by its index in the snapshot.
    pub pool: usize,
    /// The times of what is sent; its action counts for nothing.
    pub route: Route,
    /// Percent of requests.
    pub share: u8,
    /// Bytes of a body.
    pub max_body: usize,
    /// How long a copy and its answer may take.
    pub timeout: Duration,
    /// Copies under way at once, for each worker.
    pub max_in_flight: u64,
}

impl Mirror {
    /// Whether a request is copied, by a number that is spread evenly.
    #[must_use]
    pub fn takes(&self, random: u64) -> bool {
        // As in a split: multiply-shift has no bias worth the name.
        ((u128::from(random) * 100) >> 64) < u128::from(self.share)
    }
}

/// Live state, keyed by the route's name.
#[derive(Debug)]
pub struct TreatmentLive {
    /// Counters, per worker.
    pub counters: PerWorker<TreatmentCounters>,
}

impl TreatmentLive {
    /// Live state without history.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self { counters: PerWorker::new(workers) }
    }
}

/// Counters of one route; a worker writes only its own block.
#[derive(Debug, Default)]
pub struct TreatmentCounters {
    /// Requests of a route with `basic_auth`.
    pub logins: Logins,
    /// Requests of a route with `forward_auth`.
    pub asked: Asked,
    /// Copies of requests.
    pub copies: Copies,
    /// Bodies that are taken in.
    pub buffers: Buffers,
    /// Answers that are compressed.
    pub compressed: Compressed,
}

/// Copies of requests by what became of them.
#[derive(Debug, Default)]
pub struct Copies {
    /// They had an answer.
    pub answered: Counter,
    /// They had none.
    pub failed: Counter,
    /// Left out: too many are under way, or a reload came between.
    pub dropped: Counter,
    /// Left out: the body is larger than what is copied, or did not come whole.
    pub too_large: Counter,
    /// Under way now.
    pub under_way: Counter,
}

/// Bodies of requests that are taken in.
#[derive(Debug, Default)]
pub struct Buffers {
    /// All of it was, before an endpoint was picked.
    pub request_whole: Counter,
    /// It was larger, and the rest was streamed.
    pub request_exceeded: Counter,
}

/// Answers that are compressed.
#[derive(Debug, Default)]
pub struct Compressed {
    /// How many.
    pub answers: Counter,
    /// Their bytes before.
    pub bytes_in: Counter,
    /// Their bytes after.
    pub bytes_out: Counter,
}

/// Requests by what came of their login.
#[derive(Debug, Default)]
pub struct Logins {
    /// Let in.
    pub right: Counter,
    /// Without a login, or with one that is none.
    pub absent: Counter,
    /// With a wrong one.
    pub wrong: Counter,
    /// Turned away because too many are being checked.
    pub busy: Counter,
}

/// Requests by what the service that was asked said of them.
#[derive(Debug, Default)]
pub struct Asked {
    /// They may pass.
    pub passed: Counter,
    /// They may not.
    pub refused: Counter,
    /// Nothing, or that something is wrong with itself.
    pub failed: Counter,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_dashes_and_underscores_is_a_look_alike() {
        let told = Told::new(&FieldName::new("x-remote-user").expect("a name"));
        let alike: Vec<&str> = told.look_alikes.iter().map(|name| &**name).collect();
        assert_eq!(alike, ["x_remote-user", "x-remote_user", "x_remote_user"]);
        let told = Told::new(&FieldName::new("remote_user").expect("a name"));
        assert_eq!(told.look_alikes.iter().map(|name| &**name).collect::<Vec<_>>(), ["remote-user"]);
        assert!(Told::new(&FieldName::new("user").expect("a name")).look_alikes.is_empty());
    }
}
