//! TLS as the snapshot has it: made from files on the control side, read by workers. `files` reads them, `client` is TLS
//! towards endpoints and `fault` what goes wrong with that, `listener` what clients are shown, with its `tickets` and the
//! counts of each `handshake`, `provider` the cryptography of both, and
//! `self_signed` what else is taken of endpoints.

pub mod client;
pub mod fault;
pub mod files;
pub mod handshake;
pub mod listener;
pub mod provider;
pub mod self_signed;
pub mod tickets;
