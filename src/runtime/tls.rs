//! TLS as the snapshot has it: made from files on the control side, read by workers. `files` reads them, `client` is TLS
//! towards endpoints, `fault` what goes wrong with that.

pub mod client;
pub mod fault;
pub mod files;
