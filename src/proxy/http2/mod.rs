//! HTTP/2 on the h2 crate, on both sides.
//!
//! [`serve`] is one connection of a client and [`stream`] one request of it; [`client`] is the client's side of the bridge.
//! [`upstream`] has the connections to endpoints, each for many requests, and [`half`] is one of these. [`wire`] is what
//! h2 reads from and writes to, where [`traffic`] counts what h2 does not tell of.

pub mod client;
mod encode;
pub mod half;
pub mod serve;
pub mod stream;
pub mod traffic;
pub mod upstream;
pub mod wire;
