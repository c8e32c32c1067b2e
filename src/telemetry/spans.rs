//! Spans as data: a request and its attempts on endpoints, when they have ended. Getting them out is `control`'s.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

/// A request that has ended.
#[derive(Debug, Clone)]
pub struct RequestSpan {
    /// The trace that it belongs to.
    pub trace: u128,
    /// Its own number.
    pub span: u64,
    /// The span of whoever sent the request, where that has told.
    pub parent: Option<u64>,
    /// When its first byte came.
    pub at: SystemTime,
    /// From then to its end.
    pub took: Duration,
    /// Method as sent.
    pub method: Box<[u8]>,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// `HTTP/1.1` or the like.
    pub protocol: &'static str,
    /// Host as sent.
    pub host: Box<[u8]>,
    /// Path as sent; queries have secrets.
    pub path: Box<[u8]>,
    /// The client, after trust has been applied.
    pub client: IpAddr,
    /// Status sent to the client; 0 when none was.
    pub status: u16,
    /// Name of the listener.
    pub listener: Box<str>,
    /// Name of the route, where one took it.
    pub route: Option<Box<str>>,
    /// Name of the pool, where one was chosen.
    pub pool: Option<Box<str>>,
    /// Why it ended, as the access log says it.
    pub end: &'static str,
    /// X-Request-Id.
    pub request_id: Box<[u8]>,
    /// Its attempts, in order.
    pub attempts: Vec<AttemptSpan>,
}

/// One attempt on one endpoint, or a connection to it that could not be made.
#[derive(Debug, Clone)]
pub struct AttemptSpan {
    /// Its number; the endpoint is told of it.
    pub span: u64,
    /// Name of the pool.
    pub pool: Box<str>,
    /// Name of the endpoint.
    pub endpoint: Box<str>,
    /// When it began.
    pub at: SystemTime,
    /// From then to the head of the answer, or to what came instead; nothing where it was given up.
    pub took: Option<Duration>,
    /// Status of the answer.
    pub status: Option<u16>,
    /// What went wrong, as the access log says it.
    pub error: Option<&'static str>,
}
