//! Limits of the HTTP engine, as listeners and pools of a snapshot carry them. The metric `plimsoll_limit_hits_total` counts
//! each by the name of its key.

use std::time::Duration;

/// What a client may do beside the size of its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientLimits {
    /// Bytes of chunk extensions in one request body: padding each byte with an extension is an attack, not a use (RFC 9112
    /// section 7.1.1 asks for a limit).
    pub chunk_extensions: usize,
    /// How long is read of what a client still sends after the last answer, so that the answer is not lost to a reset
    /// (RFC 9112 section 9.6).
    pub linger: Duration,
    /// How many bytes of that are read.
    pub linger_bytes: usize,
}

/// What an endpoint may do, and what is kept for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndpointLimits {
    /// Bytes of a response head; the default is beyond what any server sends by its own default.
    pub answer_head: usize,
    /// Fields of a response head or trailer section.
    pub answer_fields: usize,
    /// Interim answers of one request that are passed on before they are held to be a flood.
    pub interim_answers: u32,
    /// Bytes of chunk extensions in one answer.
    pub chunk_extensions: usize,
    /// Idle connections kept per endpoint and worker; the oldest closes when one more comes.
    pub idle_connections: usize,
    /// HTTP/2 connections per endpoint and worker.
    pub http2_connections: usize,
    /// Requests at once on one of them, where the endpoint allows no fewer.
    pub http2_streams: usize,
    /// Bytes of one answer over HTTP/2 that are taken before the client has taken any.
    pub http2_window: u32,
}
