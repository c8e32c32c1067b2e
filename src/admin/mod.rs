//! The admin API: HTTP/1.1 on a loopback address or a unix socket, for people, balancers above and Prometheus.
//!
//! | file | owns |
//! |---|---|
//! | `bind.rs` | the socket |
//! | `server.rs` | connections: how many, how long |
//! | `limits.rs` | how often its limits were reached |
//! | `paths.rs` | what a path names and which methods it takes |
//! | `access.rs` | who may do what: tokens |
//! | `routes.rs` | from a request to its answer; the checks of Host and Origin |
//! | `health.rs` | how well the pools are, cached |
//! | `events.rs` | what has changed: a list or a stream |
//! | `explain.rs` | what would become of a request |
//! | `changes.rs` | bodies of requests that change something |
//! | `reloads.rs` | reloads |
//! | `configuration.rs` | what runs, and what another configuration would change |
//! | `answer.rs` | answers, errors (RFC 9457) too |
//! | `route_limits.rs` | the limits of routes as JSON |
//! | `views.rs` | what the JSON looks like |
//!
//! It asks `control` and decides nothing itself. It runs on a thread of its own, never on a worker. The open health listener
//! is the same server with less to ask for.

mod access;
mod answer;
mod bind;
mod changes;
mod configuration;
mod events;
mod explain;
mod health;
mod limits;
mod paths;
mod reloads;
mod route_limits;
mod routes;
#[cfg(test)]
mod sample;
mod server;
mod views;

pub use access::Tokens;
pub use bind::Bound;
pub use limits::Hits;
pub use server::{serve, serve_health};
