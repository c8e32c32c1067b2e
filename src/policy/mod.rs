//! Every decision of the product as a plain value: state and facts in, decision out. No clock, socket, lock, log or
//! await inside, so that each can be tested, simulated, replayed and explained; `runtime` decides how it is shared.
//!
//! The map: `balance` (which endpoint is next), `retry` (what follows a failed attempt), `budget` (how many retries there
//! may be), `admission` (who waits, how, and who is sent away), `hedge` (a second attempt beside a slow one), `latency` (how slow that is), `failure` (what counts as one),
//! `health` (probe results to up and down), `outlier` (passive ejection), `max_fails` (nginx's rule for it), `breaker`,
//! `rate_limit` (how fast requests of one key may come), `pace` (how fast bytes may),
//! `window` (sums over the last seconds), `failover` (tiers, zones and pools), `exclusive` (one leader), `identity` (who the
//! client is), `reload_guard` (whether a reload leaves enough), `traces` (which trace a request belongs to), `trial` (whether
//! one does worse than what was before it), `sticky` (where a client belongs, and for how long), `password` (who may come in)
//! and `compression` (what goes on smaller).

pub mod admission;
pub mod balance;
pub mod breaker;
pub mod budget;
pub mod compression;
pub mod cors;
pub mod exclusive;
pub mod failover;
pub mod failure;
pub mod health;
pub mod hedge;
pub mod identity;
pub mod latency;
pub mod max_fails;
pub mod outlier;
pub mod pace;
pub mod password;
pub mod rate_limit;
pub mod reload_guard;
pub mod retry;
pub mod sticky;
pub mod traces;
pub mod trial;
pub mod window;
