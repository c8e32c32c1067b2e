//! HTTP/2 on the h2 crate: a connection of a client, each of its streams a request that crosses the bridge.
//!
//! [`serve`] is one connection and [`stream`] one request of it; [`client`] is the client's side of the bridge. [`wire`] is
//! what h2 reads from and writes to, where [`traffic`] counts what h2 does not tell of.

pub mod client;
pub mod serve;
pub mod stream;
pub mod traffic;
pub mod wire;
