//! Bytes between two sockets: tcp sessions, and the relay and splice that http bodies and tunnels use too.

pub mod relay;
pub mod session;
pub mod splice;
