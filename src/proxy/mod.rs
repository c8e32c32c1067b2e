//! The data plane: accept, then relay bytes or serve requests. Hot: it reads the snapshot and never decides what is
//! true.
//!
//! **A TCP connection:** [`worker`] -> [`listener::serve`] (accept, ceiling, hand-over) -> [`connection::begin`] ->
//! [`greeting`] (PROXY header, SNI) -> [`handshake`] (TLS) -> [`tcp::session::run`] -> snapshot once -> [`attempt::Tries::pick`] -> [`upstream::dial`] (failure: pick again) ->
//! [`tcp::relay`] (copy, then splice) -> access-log record. Dropped guards undo counts.
//!
//! **An HTTP request:** to [`connection::begin`] -> [`http1::serve`] (per connection) -> [`request::handle`] (per
//! request, the list of phases): route -> [`sticky`]: where the client belongs -> [`forward`]: head edits, loop { pick, acquire or dial, send, response head,
//! the outcome judged by `runtime::judge`; `policy::retry::next` } -> response edits -> body -> finish and log. Any error becomes a status in [`respond`].

pub mod attempt;
pub mod auth;
mod awaited;
pub mod bridge;
pub mod buffer;
pub mod client_hello;
pub mod connection;
pub mod edits;
pub mod error;
pub mod forward;
pub mod forwarded;
pub mod gate;
pub mod greeting;
pub mod handshake;
pub mod hash_key;
pub mod http1;
pub mod http2;
mod limiter;
pub mod listener;
mod mirror;
pub mod paced;
pub mod phases;
pub mod presentation;
pub mod proxy_protocol;
pub mod request;
pub mod respond;
pub mod sessions;
pub mod socket_file;
pub mod span;
pub mod sticky;
pub mod stream;
pub mod tcp;
pub mod timer;
pub mod tls;
mod treatment;
pub mod udp;
pub mod upstream;
pub mod worker;
