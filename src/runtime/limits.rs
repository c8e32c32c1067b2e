//! Limits that no configuration key sets yet, as listeners and pools of a snapshot carry them. The metric
//! `plimsoll_limit_hits_total` counts each by its name.

use std::time::Duration;

/// What a client may do beside the limits that a listener's own keys set.
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

impl Default for ClientLimits {
    fn default() -> Self {
        Self { chunk_extensions: 16 << 10, linger: Duration::from_secs(2), linger_bytes: 1 << 20 }
    }
}

/// What an endpoint may do, and what is kept for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndpointLimits {
    /// Bytes of a response head; the default is beyond what any server sends by its own default.
    pub answer_head: usize,
    /// Interim answers of one request that are passed on before they are held to be a flood.
    pub interim_answers: u32,
    /// Bytes of chunk extensions in one answer.
    pub chunk_extensions: usize,
    /// Idle connections kept per endpoint and worker; the oldest closes when one more comes.
    pub idle_connections: usize,
}

impl Default for EndpointLimits {
    fn default() -> Self {
        Self { answer_head: 64 << 10, interim_answers: 32, chunk_extensions: 16 << 10, idle_connections: 256 }
    }
}
