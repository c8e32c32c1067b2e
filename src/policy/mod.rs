//! Every decision of the product as a plain value: state and facts in, decision out. No clock, socket, lock, log or
//! await inside, so that each can be tested, simulated, replayed and explained; `runtime` decides how it is shared.
//!
//! The map: `balance` (which endpoint is next), `retry` (what follows a failed attempt).

pub mod balance;
pub mod retry;
