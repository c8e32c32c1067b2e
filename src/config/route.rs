//! `[[route]]`: what a route does with a request that it matches. The conditions themselves are `route::Rule`.

use std::time::Duration;

use crate::model::field::FieldEdits;
use crate::model::name::PoolName;
use crate::model::units::Weight;
use crate::route::Rule;

use super::pool::Retry;

/// Conditions on a request and what happens to it.
#[derive(Debug, Clone)]
pub struct Route {
    /// Name, priority, listeners and every condition.
    pub rule: Rule,
    /// What happens.
    pub action: Action,
    /// Edits to the request head on its way to the endpoint.
    pub request_headers: FieldEdits,
    /// Edits to the response head on its way to the client.
    pub response_headers: FieldEdits,
    /// Rewriting of the path.
    pub rewrite: Option<Rewrite>,
    /// Times that override the pool's.
    pub timeouts: RouteTimeouts,
    /// Retry rules that override the pool's.
    pub retry: Option<Retry>,
}

/// What a route does.
#[derive(Debug, Clone)]
pub enum Action {
    /// Send it to a pool.
    Pool(PoolName),
    /// Send it to one of several pools by weight.
    Split {
        /// Pools and weights; at least one has a weight above 0.
        parts: Vec<(PoolName, Weight)>,
        /// What decides.
        by: SplitBy,
    },
    /// Answer with a redirect.
    Redirect {
        /// `Location`, with `{host}`, `{path}`, `{query}` and `{uri}` put in.
        to: String,
        /// 301, 302, 303, 307 or 308.
        status: u16,
    },
    /// Answer with a fixed response.
    Respond {
        /// 200 to 599.
        status: u16,
        /// Body text.
        body: String,
    },
}

/// What decides the part of a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SplitBy {
    /// The client's address: the same client gets the same pool.
    Source,
    /// Chance.
    Random,
}

/// Rewriting of the request path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rewrite {
    /// Puts this in the place of the route's matched `path_prefix`.
    PathPrefix(String),
    /// Puts this in the place of the whole path.
    Path(String),
}

/// Times of a route; what is absent is the pool's.
#[derive(Debug, Clone, Default)]
pub struct RouteTimeouts {
    /// Connecting.
    pub connect: Option<Duration>,
    /// To the response head.
    pub response_header: Option<Duration>,
    /// No progress while a body moves.
    pub idle: Option<Duration>,
    /// Upgraded connections without a byte.
    pub tunnel: Option<Duration>,
}
