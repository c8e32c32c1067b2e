//! One accepted connection: registered with its worker, then spoken to in its listener's protocol.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

use super::buffer::Buffer;
use super::error::Error;
use super::greeting::{self, Introduction};
use super::handshake;
use super::http1;
use super::http2;
use super::paced::Paced;
use super::stream::{Socket, Stream};
use super::tcp;
use super::timer::Timer;
use super::tls::{Secured, Tls};
use super::worker::Worker;
use crate::model::address::UNIX_CLIENT;
use crate::runtime::listener::{ConnectionPlace, Listener, Protocol};
use crate::runtime::snapshot::Snapshot;
use crate::runtime::sources::SourcePlace;
use crate::runtime::store::Current;

/// A connection that has been accepted but belongs to no runtime yet, so that any worker can take it.
#[derive(Debug)]
pub struct Arrival {
    /// The socket; non-blocking.
    pub socket: OwnedFd,
    /// The other end; [`UNIX_CLIENT`] is that of a unix socket.
    pub peer: SocketAddr,
    /// Index of its listener.
    pub listener: usize,
    /// Its place under the listener's ceiling.
    pub place: ConnectionPlace,
    /// Its place under the ceiling per source.
    pub source: Option<SourcePlace>,
}

/// What a connection has seen, which decides how a drain treats it while it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// No request yet.
    New,
    /// None either, and a drain has given it a last moment for the first one.
    LastMoment,
    /// A request at least.
    Used,
}

/// A connection of a client as its protocol sees it.
pub struct Client {
    /// The socket.
    pub stream: Stream,
    /// The other end.
    pub peer: SocketAddr,
    /// The worker that it belongs to.
    pub worker: Seat,
    /// The one deadline of the connection.
    pub timer: Timer,
    /// Where it stands between requests.
    pub age: Cell<Age>,
    pub(super) listener: u32,
    /// What it has told of itself. Boxed: most have not, and every idle connection has the field.
    pub introduction: Option<Box<Introduction>>,
}

impl Client {
    /// The snapshot for work that starts now: where its listener has just been removed, the last one that had it.
    #[must_use]
    pub fn snapshot(&self) -> Option<Current> {
        self.worker.snapshot_of(self.listener as usize)
    }

    /// Who the client is, as far as connections tell: whom the PROXY header names, else the other end.
    #[must_use]
    pub fn source(&self) -> SocketAddr {
        let addresses = self.introduction.as_ref().and_then(|told| told.header.as_ref()?.addresses);
        addresses.map_or(self.peer, |addresses| addresses.source)
    }

    /// The name that the client asks for by TLS, whoever it speaks that with.
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        self.introduction.as_ref()?.server_name.as_deref()
    }

    /// Whether it is to close once it is idle: the process drains, or its listener has been removed.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.worker.is_leaving(self.listener as usize)
    }

    /// Whether it is to close now if it is idle.
    #[must_use]
    pub fn closes_idle(&self) -> bool {
        self.worker.closes_idle(self.listener as usize)
    }

    /// Whether HTTP/2 may come in the clear on it.
    #[must_use]
    pub fn speaks_h2c(&self) -> bool {
        let snapshot = self.snapshot();
        let listener = snapshot.as_ref().and_then(|snapshot| self.listener(snapshot));
        listener.is_some_and(|listener| listener.h2c) && self.stream.tls().is_none()
    }

    /// What the handshake has come to; nothing where there was none.
    #[must_use]
    pub fn secured(&self) -> Option<&Secured> {
        self.stream.tls().and_then(Tls::secured)
    }

    /// The place of its listener.
    #[must_use]
    pub const fn listener_place(&self) -> u32 {
        self.listener
    }

    /// Its listener as a snapshot has it.
    #[must_use]
    pub fn listener<'a>(&self, snapshot: &'a Snapshot) -> Option<&'a Listener> {
        snapshot.listeners.get(self.listener as usize)
    }
}

/// A connection's seat at its worker, and its place at its listener: both given back when dropped. Apart from [`Client`],
/// whose parts can so be put together anew.
pub struct Seat {
    worker: Rc<Worker>,
    place: ConnectionPlace,
}

impl Deref for Seat {
    type Target = Rc<Worker>;

    fn deref(&self) -> &Rc<Worker> {
        &self.worker
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.worker.fleet.left(self.worker.id);
        // On its way through here a panic ends this connection, and no other.
        if std::thread::panicking() {
            self.place.listener().counters.of(self.worker.id).panics.one();
        }
    }
}

/// A connection on its way through its protocol; what it weighs while idle is the size of the future in the box.
pub type Conversation = Pin<Box<dyn Future<Output = ()>>>;

/// Registers a connection with this worker and begins to speak its listener's protocol. Nothing when it cannot be
/// watched.
pub fn begin(worker: &Rc<Worker>, arrival: Arrival) -> Option<Conversation> {
    let stream = match watched(arrival.socket, arrival.peer) {
        Ok(stream) => stream,
        Err(error) => {
            tracing::warn!(%error, "an accepted connection cannot be watched");
            return None;
        }
    };
    worker.fleet.joined(worker.id);
    let seat = Seat { worker: Rc::clone(worker), place: arrival.place };
    let client = Client {
        stream,
        peer: arrival.peer,
        worker: seat,
        timer: worker.timers.timer(),
        age: Cell::new(Age::New),
        listener: u32::try_from(arrival.listener).ok()?,
        introduction: arrival
            .source
            .map(|place| Box::new(Introduction { place: Some(place), ..Introduction::default() })),
    };
    let snapshot = client.snapshot()?;
    let listener = client.listener(&snapshot)?;
    if greeting::is_due(listener, client.peer) || listener.tls.is_some() {
        return Some(after_greeting(client));
    }
    speak(client)
}

/// Hears the connection out and shakes hands before its protocol begins; what that takes is given back then.
fn after_greeting(client: Client) -> Conversation {
    let start = Instant::now();
    let greeted = Box::pin(async move {
        let client = greeting::hear(client).await?;
        handshake::secure(client, start).await
    });
    Box::pin(async move {
        if let Some(conversation) = greeted.await.and_then(speak) {
            conversation.await;
        }
    })
}

/// The conversation in the protocol of its listener.
fn speak(client: Client) -> Option<Conversation> {
    let snapshot = client.snapshot()?;
    let listener = client.listener(&snapshot)?;
    let stream = Paced::over(client.stream, listener, client.worker.id);
    let client = Client { stream, ..client };
    match listener.protocol {
        Protocol::Tcp { .. } => Some(Box::pin(tcp::session::run(client))),
        Protocol::Http { .. } if client.stream.tls().and_then(Tls::alpn).is_some_and(|p| p == b"h2") => {
            Some(Box::pin(http2::serve::serve(client)))
        }
        Protocol::Http { .. } => Some(Box::pin(http1::serve::serve(client))),
        // A listener keeps its place under its protocol only.
        Protocol::Udp { .. } => None,
    }
}

fn watched(socket: OwnedFd, peer: SocketAddr) -> io::Result<Stream> {
    if peer == UNIX_CLIENT {
        let stream = UnixStream::from_std(socket.into())?;
        return Ok(Stream::Plain(Socket::Unix(Box::new(stream))));
    }
    TcpStream::from_std(socket.into()).map(Stream::from)
}

/// Writes all of `out`, as long as the client takes something in time.
pub async fn write_all(client: &Client, out: &mut Buffer, idle: Duration) -> Result<(), Error> {
    while !out.is_empty() {
        match out.write_to(&client.stream) {
            Ok(_) => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Err(Error::ClientGone),
        }
        client.timer.set(Instant::now() + idle);
        match client.timer.within(client.stream.writable()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(Error::ClientGone),
            Err(_) => return Err(Error::ClientTimeout),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<F: Future>(_: impl Fn(Client) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn what_a_waiting_connection_weighs_does_not_grow_unnoticed() {
        // 8,000 of them are the test of the product; these are the two parts of it that a change easily moves. In a build
        // with debug assertions each socket has a word more.
        let socket = size_of::<TcpStream>() - 32;
        let (http, tcp) = (size(http1::serve::serve), size(tcp::session::run));
        assert!(http <= 128 + socket, "{http}");
        assert!(tcp <= 512 + 2 * socket, "{tcp}");
    }
}
