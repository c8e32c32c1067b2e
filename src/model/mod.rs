//! The nouns: names, addresses, hosts, paths, weights and units, each parsed once and then valid.
//!
//! Lowest floor: everything may name `model`, `model` names nothing of ours.

pub mod address;
pub mod field;
pub mod forwarded;
pub mod grpc;
pub mod host;
pub mod limit_key;
pub mod method;
pub mod name;
pub mod protocol;
pub mod proxy_protocol;
pub mod request;
pub mod trace;
pub mod units;
