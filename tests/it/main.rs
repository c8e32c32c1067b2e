//! Black-box tests: the real binary between scripted origins and raw clients, over loopback sockets.
//!
//! `harness` is what they stand on; every other file is one behaviour.

mod access_log;
mod admin;
mod allow_deny;
mod balance;
mod commands;
mod corpus;
mod demo;
mod drain;
mod early_response;
mod errors;
mod events;
mod expect_continue;
mod forwarded;
mod framing;
mod harness;
mod head_edits;
mod health;
mod hop_by_hop;
mod host;
mod keep_alive;
mod limits;
mod live;
mod nginx_hash;
mod observe;
mod panic_isolation;
mod pipelining;
mod queue;
mod retries;
mod routing;
mod splicing;
mod stale_connections;
mod tcp_relay;
mod timeouts;
mod upgrade;
