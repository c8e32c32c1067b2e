//! Black-box tests: the real binary between scripted origins and raw clients, over loopback sockets.
//!
//! `harness` is what they stand on; every other file is one behaviour.

mod corpus;
mod harness;
