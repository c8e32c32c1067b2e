//! The admin API: HTTP/1.1 on a loopback address or a unix socket, for people, balancers above and Prometheus.
//!
//! | file | owns |
//! |---|---|
//! | `bind.rs` | the socket |
//! | `server.rs` | connections: how many, how long |
//! | `routes.rs` | path and method to answer, the Host check |
//! | `views.rs` | what the JSON looks like, errors (RFC 9457) too |
//!
//! It asks `control` and decides nothing itself. It runs on a thread of its own, never on a worker.

mod bind;
mod routes;
mod server;
mod views;

pub use bind::Bound;
pub use server::serve;
