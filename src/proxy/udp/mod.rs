//! Datagrams: a session for each client and address it sends to, of which the worker that reads the socket is the owner.
//!
//! The walk: [`door::serve`] receives in batches -> the session in its `table`, or a new one under the listener's ceilings ->
//! `session` picks an endpoint, connects a socket to it and carries answers back -> access-log record. A session
//! keeps its endpoint until it has been quiet for `udp_idle`; one whose endpoint must not be used any more ends, and the client's next datagram begins another.
//! Sockets and their batches are `socket`'s.

pub mod door;
mod session;
pub mod socket;
mod table;
