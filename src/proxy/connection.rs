//! One accepted connection: registered with its worker, then spoken to in its listener's protocol.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
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
    _source: Option<SourcePlace>,
}

/// Serves one connection until it ends.
pub async fn handle(worker: Rc<Worker>, arrival: Arrival) {
    let stream = match TcpStream::from_std(std::net::TcpStream::from(arrival.socket)) {
        Ok(stream) => stream,
        Err(error) => {
            tracing::warn!(%error, "an accepted connection cannot be watched");
            return;
        }
    };
    let client = Client {
        stream,
        peer: arrival.peer,
        listener: arrival.listener,
        timer: worker.timers.timer(),
        _place: arrival.place,
        _source: arrival.source,
    };
    drop(arrival.live);
    let is_tcp = {
        let snapshot = worker.snapshot();
        let listener = snapshot.listeners.get(client.listener);
        listener.is_none_or(|l| matches!(l.protocol, Protocol::Tcp { .. }))
    };
    if is_tcp {
        tcp::session::run(worker, client).await;
    } else {
        http1::serve::serve(worker, client).await;
    }
}
