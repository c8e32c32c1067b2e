//! What can go wrong with a request: who is to blame, whether a repeat is safe, and the word for the log.
//!
//! The status that a client gets for it is decided in `respond`, and only there.

use std::io;
use std::time::Duration;

use super::sessions::Cut;
use crate::policy::retry::{Failure, GivenBack};
use crate::telemetry::access_log::Termination;

/// Who is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The client sent something wrong, too slowly, or left.
    Client,
    /// The endpoint.
    Endpoint,
    /// This proxy, or how it is configured.
    Us,
}

/// Why a request head (or what came instead of one) is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not HTTP, or not valid HTTP.
    #[error("{0}")]
    Malformed(&'static str),
    /// An HTTP version that is not spoken here.
    #[error("only HTTP/1.0 and HTTP/1.1 are spoken here")]
    Version,
    /// The request target is over its limit.
    #[error("the request target is longer than this listener allows")]
    TargetTooLong,
    /// The body is over the limit of its route.
    #[error("the body is larger than it may be here")]
    BodyTooLarge,
    /// The head or a trailer section is over a limit.
    #[error("the header section is larger than this listener allows")]
    HeadTooLarge,
    /// The head or a trailer section has too many fields.
    #[error("the header section has more fields than this listener allows")]
    TooManyFields,
    /// The chunk extensions of a body, or one size line, are over their limit.
    #[error("the chunk extensions are larger than they may be")]
    ExtensionsTooLarge,
    /// A transfer coding that is not understood.
    #[error("only the transfer coding \"chunked\" is understood")]
    Coding,
    /// A method that this proxy does not pass on.
    #[error("this method is not passed on")]
    Method,
    /// CONNECT, which a reverse proxy does not do.
    #[error("this is no forward proxy")]
    Connect,
    /// An extended CONNECT (RFC 8441) for something that is not spoken here.
    #[error("only the protocol \"websocket\" is understood")]
    Protocol,
    /// An expectation other than `100-continue`.
    #[error("only the expectation \"100-continue\" is understood")]
    Expectation,
}

/// What a client is told of a limit that stops its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limited {
    /// Which kind of limit.
    pub limit: Limit,
    /// The status of the answer.
    pub status: u16,
    /// Seconds after which it may come again.
    pub retry_after: u64,
}

/// A kind of limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// How fast requests may come.
    Rate,
    /// How many may be under way.
    Concurrency,
}

impl Limit {
    /// What requests do that it stops.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Rate => "requests like this one come too fast",
            Self::Concurrency => "too many requests like this one are under way",
        }
    }
}

/// Why a request did not get its answer from an endpoint, or not whole.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is refused.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The request head did not arrive in time.
    #[error("the request head did not arrive in time")]
    HeadTimeout,
    /// The client's body stood still.
    #[error("the request body did not arrive in time")]
    ClientTimeout,
    /// The client left.
    #[error("the client left")]
    ClientGone,
    /// The request is for a name whose certificate asks clients for another one than its connection was asked for.
    #[error("this connection has not shown what the name of the request asks for")]
    Misdirected,
    /// The route lets in other clients only.
    #[error("the route does not let this client in")]
    Denied,
    /// The process is overloaded, and turns away what comes by the request's listener.
    #[error("this node is overloaded")]
    Overloaded,
    /// No route takes the request.
    #[error("no route takes this request")]
    NoRoute,
    /// A limit of the route stops the request.
    #[error("{}", .0.limit.text())]
    Limited(Limited),
    /// A limit of the route stops the request, and its client is told nothing.
    #[error("{}, and get no answer", Limit::Rate.text())]
    Dropped,
    /// All endpoints have been tried or none can be used.
    #[error("no endpoint can be used")]
    NothingUsable {
        /// For how long that is surely so, where an open breaker is the reason.
        sure_for: Option<Duration>,
    },
    /// A place was granted on an endpoint that only a newer snapshot has: the request is to begin again with that one.
    /// No client hears of it.
    #[error("a newer configuration takes this request")]
    Outdated,
    /// The queue of the pool is full.
    #[error("too many requests wait already")]
    QueueFull,
    /// Sent away by a queue that stands instead of passing.
    #[error("the queue stands, and this request has waited for longer than one may then")]
    QueueShed,
    /// Waited in the queue for too long.
    #[error("no endpoint became free in time")]
    QueueTimeout,
    /// No connection could be made.
    #[error("no connection could be made: {0}")]
    Connect(io::Error),
    /// Descriptors, ports or memory have run out here.
    #[error("this node has run out of something: {0}")]
    Exhausted(io::Error),
    /// A tunnel on which no byte moved for too long.
    #[error("no byte moved for too long")]
    Idle,
    /// A tunnel that was told to end.
    #[error("the connection was ended: {0:?}")]
    Cut(Cut),
    /// The connection ended before a complete response head.
    #[error("the endpoint closed the connection before it answered")]
    Reset,
    /// The endpoint has done nothing with the request, and says so.
    #[error("the endpoint gave the request back unprocessed")]
    GivenBack(GivenBack),
    /// The endpoint has no way to switch to WebSocket on a connection that others use too.
    #[error("the endpoint takes no WebSocket over HTTP/2")]
    NoTunnel,
    /// The endpoint ended the request's stream before a response head, for this reason.
    #[error("the endpoint reset the request: {0}")]
    StreamReset(&'static str),
    /// No response head in time.
    #[error("the endpoint did not answer in time")]
    Timeout,
    /// The time is over that the client gave for its call.
    #[error("the client's deadline has passed")]
    Deadline,
    /// The answer is no valid HTTP.
    #[error("the endpoint's answer is not valid: {0}")]
    Answer(&'static str),
    /// The answer broke off after its head had gone to the client.
    #[error("the endpoint's answer broke off")]
    Truncated,
    /// The answer stood still after its head had gone to the client.
    #[error("the endpoint's answer stood still")]
    Stalled,
}

impl Error {
    /// Who is to blame.
    #[must_use]
    pub const fn blame(&self) -> Blame {
        match self {
            Self::Refused(_)
            | Self::Misdirected
            | Self::Denied
            | Self::Limited(_)
            | Self::Dropped
            | Self::HeadTimeout
            | Self::ClientTimeout
            | Self::ClientGone => Blame::Client,
            Self::NoRoute
            | Self::Overloaded
            | Self::Outdated
            | Self::QueueFull
            | Self::QueueShed
            | Self::QueueTimeout
            | Self::Exhausted(_)
            | Self::Deadline
            | Self::Idle
            | Self::Cut(_) => Blame::Us,
            Self::NothingUsable { .. }
            | Self::Connect(_)
            | Self::Reset
            | Self::GivenBack(_)
            | Self::NoTunnel
            | Self::StreamReset(_)
            | Self::Timeout
            | Self::Answer(_)
            | Self::Truncated
            | Self::Stalled => Blame::Endpoint,
        }
    }

    /// What the endpoint did wrong in the policies' words; nothing when it did nothing wrong.
    #[must_use]
    pub const fn failure(&self) -> Option<Failure> {
        match self {
            Self::Connect(_) => Some(Failure::Connect),
            Self::Reset | Self::Answer(_) | Self::GivenBack(_) | Self::NoTunnel | Self::StreamReset(_) => {
                Some(Failure::Reset)
            }
            Self::Timeout => Some(Failure::Timeout),
            _ => None,
        }
    }

    /// How the endpoint gave the request back, if it did.
    #[must_use]
    pub const fn given_back(&self) -> Option<GivenBack> {
        match self {
            Self::GivenBack(how) => Some(*how),
            // Elsewhere there may be a way.
            Self::NoTunnel => Some(GivenBack::Refused),
            _ => None,
        }
    }

    /// The access log's word for it.
    #[must_use]
    pub const fn termination(&self) -> Termination {
        match self {
            Self::Refused(
                Refusal::TargetTooLong
                | Refusal::BodyTooLarge
                | Refusal::HeadTooLarge
                | Refusal::TooManyFields
                | Refusal::ExtensionsTooLarge,
            ) => Termination::Limit,
            Self::Refused(_) | Self::Misdirected | Self::Denied => Termination::Refused,
            Self::HeadTimeout | Self::ClientTimeout => Termination::ClientTimeout,
            Self::ClientGone => Termination::ClientAborted,
            Self::Limited(Limited { limit: Limit::Rate, .. }) | Self::Dropped => Termination::RateLimited,
            Self::Limited(Limited { limit: Limit::Concurrency, .. }) => Termination::ConcurrencyLimited,
            Self::NoRoute => Termination::NoRoute,
            Self::Overloaded => Termination::Overloaded,
            Self::NothingUsable { .. } => Termination::NothingUsable,
            Self::QueueFull => Termination::QueueFull,
            Self::QueueShed => Termination::QueueShed,
            Self::QueueTimeout => Termination::QueueTimeout,
            Self::Connect(_) => Termination::ConnectFailed,
            Self::Outdated | Self::Exhausted(_) => Termination::Internal,
            Self::Idle => Termination::IdleTimeout,
            Self::Cut(why) => why.termination(),
            Self::Reset | Self::GivenBack(_) | Self::StreamReset(_) | Self::Truncated => {
                Termination::EndpointAborted
            }
            Self::Timeout | Self::Stalled | Self::Deadline => Termination::EndpointTimeout,
            Self::Answer(_) | Self::NoTunnel => Termination::EndpointInvalid,
        }
    }
}
