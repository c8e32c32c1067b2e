//! The limits of routes as JSON.

use serde::Serialize;

use crate::control::status::{ConcurrencyStatus, LimitsStatus, RateStatus};

/// `GET /v1/limits`.
#[derive(Debug, Serialize)]
pub(super) struct LimitsView<'a> {
    rate_limits: Vec<RateView<'a>>,
    concurrency_limits: Vec<ConcurrencyView<'a>>,
}

#[derive(Debug, Serialize)]
struct RateView<'a> {
    name: &'a str,
    key: &'a str,
    /// Keys that are remembered, and for how many there is room.
    entries: usize,
    size: usize,
    /// Keys that were forgotten too early.
    evicted: u64,
    /// Requests that a tarpit holds now.
    held: u32,
    passed: u64,
    delayed: u64,
    rejected: u64,
    dropped: u64,
    tarpitted: u64,
    /// Of those rejected: the tarpit was full.
    tarpit_full: u64,
    counted: u64,
    unkeyed: u64,
}

#[derive(Debug, Serialize)]
struct ConcurrencyView<'a> {
    name: &'a str,
    key: &'a str,
    /// Keys that have a request under way.
    entries: usize,
    passed: u64,
    rejected: u64,
    unkeyed: u64,
}

impl<'a> From<&'a LimitsStatus> for LimitsView<'a> {
    fn from(limits: &'a LimitsStatus) -> Self {
        Self {
            rate_limits: limits.rates.iter().map(RateView::from).collect(),
            concurrency_limits: limits.concurrency.iter().map(ConcurrencyView::from).collect(),
        }
    }
}

impl<'a> From<&'a RateStatus> for RateView<'a> {
    fn from(limit: &'a RateStatus) -> Self {
        Self {
            name: &limit.name,
            key: &limit.key,
            entries: limit.entries,
            size: limit.size,
            evicted: limit.evicted,
            held: limit.held,
            passed: limit.passed,
            delayed: limit.delayed,
            rejected: limit.rejected,
            dropped: limit.dropped,
            tarpitted: limit.tarpitted,
            tarpit_full: limit.tarpit_full,
            counted: limit.counted,
            unkeyed: limit.unkeyed,
        }
    }
}

impl<'a> From<&'a ConcurrencyStatus> for ConcurrencyView<'a> {
    fn from(limit: &'a ConcurrencyStatus) -> Self {
        Self {
            name: &limit.name,
            key: &limit.key,
            entries: limit.entries,
            passed: limit.passed,
            rejected: limit.rejected,
            unkeyed: limit.unkeyed,
        }
    }
}
