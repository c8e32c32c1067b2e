//! Closed, open, half-open: a gate before a pool or an endpoint that stops asking what keeps failing.

use std::time::Duration;

use super::failure::Counted;

/// What opens and closes a breaker.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// One breaker for each endpoint, or one for the pool.
    pub scope: Scope,
    /// What is a failure.
    pub count: Counted,
    /// So many failures in a row within `window` open it; 0 is off.
    pub failure_threshold: u32,
    /// This share of failures within `window` opens it, from 0 to 1; nothing is off.
    pub failure_ratio: Option<f64>,
    /// The share is judged from so many attempts within `window` on.
    pub minimum_requests: u32,
    /// So many successes in half-open close it.
    pub success_threshold: u32,
    /// The sliding window.
    pub window: Duration,
    /// How long it is open: exact the first time, then doubled up to ten times this, with 10 % jitter.
    pub open_time: Duration,
    /// Trials at once while half-open.
    pub half_open_requests: u32,
}

/// What a breaker stands before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Each endpoint.
    Endpoint,
    /// The whole pool.
    Pool,
}
