//! One accepted connection: registered with its worker, then spoken to in its listener's protocol.

use std::future::Future;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use tokio::net::TcpStream;

use super::http1;
use super::tcp;
use super::timer::Timer;
use super::worker::Worker;
use crate::runtime::listener::{ConnectionPlace, ListenerLive, Protocol};
use crate::runtime::sources::SourcePlace;

/// A connection that has been accepted but belongs to no runtime yet, so that any worker can take it.
#[derive(Debug)]
pub struct Arrival {
    /// The socket; non-blocking.
    pub socket: OwnedFd,
    /// The other end.
    pub peer: SocketAddr,
    /// Index of its listener.
    pub listener: usize,
    /// Live state of its listener.
    pub live: Arc<ListenerLive>,
    /// Its place under the listener's ceiling.
    pub place: ConnectionPlace,
    /// Its place under the ceiling per source.
    pub source: Option<SourcePlace>,
}

/// A connection of a client as its protocol sees it.
#[derive(Debug)]
pub struct Client {
    /// The socket.
    pub stream: TcpStream,
    /// The other end.
    pub peer: SocketAddr,
    /// Index of its listener.
    pub listener: usize,
    /// The one deadline of the connection.
    pub timer: Timer,
    _place: ConnectionPlace,
    // Boxed: few listeners have the ceiling, and every idle connection has the field.
    _source: Option<Box<SourcePlace>>,
}

/// A connection on its way through its protocol.
pub type Conversation = Pin<Box<dyn Future<Output = ()>>>;

/// Registers a connection with this worker and begins to speak its listener's protocol. Nothing when it cannot be
/// watched. What an idle connection weighs is the size of the future made here.
pub fn begin(worker: &Rc<Worker>, arrival: Arrival) -> Option<Conversation> {
    let stream = match TcpStream::from_std(std::net::TcpStream::from(arrival.socket)) {
        Ok(stream) => stream,
        Err(error) => {
            tracing::warn!(%error, "an accepted connection cannot be watched");
            return None;
        }
    };
    let client = Client {
        stream,
        peer: arrival.peer,
        listener: arrival.listener,
        timer: worker.timers.timer(),
        _place: arrival.place,
        _source: arrival.source.map(Box::new),
    };
    let snapshot = worker.snapshot_of(client.listener)?;
    let worker = Rc::clone(worker);
    match snapshot.listeners.get(client.listener)?.protocol {
        Protocol::Tcp { .. } => Some(Box::pin(tcp::session::run(worker, client))),
        Protocol::Http { .. } => Some(Box::pin(http1::serve::serve(worker, client))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<F: Future>(_: impl Fn(Rc<Worker>, Client) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn what_a_waiting_connection_weighs_does_not_grow_unnoticed() {
        // 8,000 of them are the test of the product; these are the two parts of it that a change easily moves.
        assert!(size(http1::serve::serve) <= 192, "{}", size(http1::serve::serve));
        assert!(size(tcp::session::run) <= 768, "{}", size(tcp::session::run));
    }
}
