//! Black-box tests: the real binary between scripted origins and raw clients, over loopback sockets.
//!
//! `harness` is what they stand on; every other file is one behaviour.

mod access_log;
mod admin;
mod allow_deny;
mod balance;
mod breaker;
mod commands;
mod corpus;
mod demo;
mod drain;
mod early_response;
mod ejection;
mod errors;
mod events;
mod expect_continue;
mod failover;
mod forwarded;
mod framing;
mod harness;
mod hashing;
mod head_edits;
mod health;
mod hop_by_hop;
mod host;
mod keep_alive;
mod limits;
mod long_lived;
mod nginx_hash;
mod panic_isolation;
mod pipelining;
mod queue;
mod reload;
mod retries;
mod retry_rules;
mod routing;
mod splicing;
mod stale_connections;
mod tcp_relay;
mod timeouts;
mod upgrade;
mod when_empty;
