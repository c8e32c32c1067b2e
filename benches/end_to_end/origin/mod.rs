//! The origins behind every proxy under test, each a thread of this process: HTTP/1.1 and the echo of bytes, gRPC, and the
//! echo of datagrams.

mod datagrams;
pub(crate) mod grpc;
mod http;

use std::net::SocketAddr;

pub(crate) use http::SMALL_BODY;

/// Where the origins listen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origins {
    /// HTTP/1.1, and the echo of anything that is no HTTP.
    pub(crate) http: SocketAddr,
    /// gRPC over HTTP/2 in the clear.
    pub(crate) grpc: SocketAddr,
    /// The echo of datagrams.
    pub(crate) udp: SocketAddr,
}

/// Starts all of them; they live as long as the process.
pub(crate) fn start() -> std::io::Result<Origins> {
    Ok(Origins { http: http::start()?, grpc: grpc::start()?, udp: datagrams::start()? })
}
