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
    /// Connections of HTTP/2.
    pub http2: Http2Limits,
}

/// What one connection of HTTP/2 may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Http2Limits {
    /// Requests at once (RFC 9113 section 5.1.2).
    pub streams: u32,
    /// Bytes of one request body that may come before they have gone on.
    pub stream_window: u32,
    /// Bytes of all its request bodies that may.
    pub connection_window: u32,
    /// Bytes of all its answers that are held for a client that does not read.
    pub send_buffer: usize,
    /// CONTINUATION frames of one head.
    pub continuations: u32,
    /// How often in any second each [`Flood`] may have a part of it happen, by its place.
    pub rates: [u32; Flood::RATED],
}

/// Ways to make a connection of HTTP/2 work for nothing, each with a limit of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flood {
    /// Requests cancelled before their answer: rapid reset (CVE-2023-44487).
    Resets,
    /// Streams that are reset for the client's mistakes: MadeYouReset (CVE-2025-8671).
    Faults,
    /// PING (CVE-2019-9512).
    Pings,
    /// SETTINGS (CVE-2019-9515).
    Settings,
    /// PRIORITY (CVE-2019-9513), and frames of unknown types.
    Priorities,
    /// WINDOW_UPDATE by next to nothing (CVE-2019-9511).
    WindowUpdates,
    /// DATA with next to nothing in it (CVE-2019-9518).
    EmptyFrames,
    /// CONTINUATION without an end (CVE-2024-27316).
    Continuations,
    /// More requests at once than may be: refused, not ended.
    Streams,
}

impl Flood {
    /// How many of them have a rate.
    pub const RATED: usize = 7;

    /// All, those with a rate first.
    pub const ALL: [Self; 9] = [
        Self::Resets,
        Self::Faults,
        Self::Pings,
        Self::Settings,
        Self::Priorities,
        Self::WindowUpdates,
        Self::EmptyFrames,
        Self::Continuations,
        Self::Streams,
    ];

    /// The name of its limit in metrics: that of its key, with the table's in front.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Resets => "http2_resets",
            Self::Faults => "http2_faults",
            Self::Pings => "http2_pings",
            Self::Settings => "http2_settings",
            Self::Priorities => "http2_priorities",
            Self::WindowUpdates => "http2_window_updates",
            Self::EmptyFrames => "http2_empty_frames",
            Self::Continuations => "http2_continuations",
            Self::Streams => "http2_streams",
        }
    }
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
    /// Frames of each kind that are none of an answer, on one of its HTTP/2 connections in any second.
    pub http2_frames: u32,
}
