//! Passive ejection: an endpoint on which live traffic fails is taken out for a time that grows with repetition.

use std::time::Duration;

use super::failure::Counted;
use crate::model::units::Amount;

/// When an endpoint is ejected, and for how long.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// What is a failure.
    pub count: Counted,
    /// So many failures in a row; 0 is off.
    pub consecutive_failures: u32,
    /// This share of failures within `window`, from 0 to 1; nothing is off.
    pub failure_ratio: Option<f64>,
    /// The share is judged from so many attempts within `window` on.
    pub minimum_requests: u32,
    /// The sliding window.
    pub window: Duration,
    /// How long the first ejection lasts; the n-th lasts n times that.
    pub ejection_time: Duration,
    /// No ejection lasts longer.
    pub max_ejection_time: Duration,
    /// Of the pool's endpoints, so many may be ejected by judgement (ratio, status, latency) at once.
    pub max_ejected: Amount,
    /// Ejection of endpoints that answer much later than the others.
    pub latency: Option<Latency>,
    /// nginx's rule in place of `consecutive_failures` and `failure_ratio`.
    pub max_fails: Option<MaxFails>,
}

/// An endpoint whose mean time to the response head within the window is above `factor` times the median of the means
/// of all endpoints of its pool is ejected.
#[derive(Debug, Clone, PartialEq)]
pub struct Latency {
    /// How many times the median, above 1.
    pub factor: f64,
    /// Endpoints with fewer requests in the window are not judged.
    pub minimum_requests: u32,
    /// Means under this are never outliers.
    pub floor: Duration,
}

/// nginx's `max_fails` and `fail_timeout`, exactly (`ngx_http_upstream_round_robin.c`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxFails {
    /// Failures that take it out; 0 is never.
    pub max_fails: u32,
    /// Within this time, and for this time.
    pub fail_timeout: Duration,
}
