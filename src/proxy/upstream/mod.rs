//! Connections to endpoints: dialed with a deadline, kept idle per worker, checked before they are used again.

pub mod dial;
pub mod idle;
pub mod tls;
