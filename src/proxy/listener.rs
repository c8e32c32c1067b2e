//! Bound sockets and the accept loop: ceilings, who may connect, and hand-over to the least loaded worker.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::SocketFlags;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::sleep;

use super::connection::Arrival;
use super::worker::Worker;
use crate::runtime::listener::Listener;

/// Flags of accepted sockets.
const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

/// How long accepting pauses after descriptors ran out, unless a connection ends earlier. No setting: what was hit is the
/// machine's limit, counted as `max_connections` or an error of accept.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// A listening socket and the place of its listener in the snapshot.
#[derive(Debug)]
pub struct Bound {
    /// Index of the listener.
    pub listener: usize,
    socket: OwnedFd,
}

/// Binds one address for one worker: SO_REUSEPORT lets each have a socket of its own.
///
/// # Errors
/// As the system; the caller knows the address.
pub fn bind(listener: &Listener, index: usize, address: SocketAddr) -> io::Result<Bound> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if listener.freebind {
        match address {
            SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
            SocketAddr::V6(_) => socket.set_freebind_v6(true)?,
        }
    }
    // Accepted sockets inherit all of these, so that a connection costs no call for them.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(listener.timeouts.tcp_user_timeout))?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(listener.timeouts.tcp_keepalive)
            .with_interval(Duration::from_secs(10))
            .with_retries(3),
    )?;
    socket.bind(&address.into())?;
    socket.listen(listener.backlog.into())?;
    Ok(Bound { listener: index, socket: socket.into() })
}

/// Whether nobody listens on `address` yet: SO_REUSEPORT alone would let a second process share it in silence.
///
/// # Errors
/// As the system, `AddrInUse` above all.
pub fn probe(listener: &Listener, address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    if listener.freebind {
        match address {
            SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
            SocketAddr::V6(_) => socket.set_freebind_v6(true)?,
        }
    }
    socket.bind(&address.into())
}

/// Accepts for as long as the worker does not drain and the listener is not shut.
pub async fn serve(worker: Rc<Worker>, bound: Bound) {
    // The one way to accept without registering the new connection here, so that another worker can take it.
    #[expect(
        deprecated,
        reason = "its successor is an unsafe fn for types that may close their descriptor; an OwnedFd does not"
    )]
    let watched = AsyncFd::with_interest(bound.socket, Interest::READABLE);
    let Ok(socket) = watched else {
        tracing::error!("a listening socket cannot be watched");
        return;
    };
    tokio::select! {
        () = accept_all(&worker, &socket, bound.listener) => {}
        () = worker.drain_started() => accept_rest(&worker, &socket, bound.listener),
        () = worker.shut_down(bound.listener) => {}
    }
}

/// Closing a listening socket resets what waits in its backlog: taken first.
fn accept_rest(worker: &Rc<Worker>, socket: &AsyncFd<OwnedFd>, index: usize) {
    let snapshot = worker.snapshot();
    let Some(listener) = snapshot.listeners.get(index) else { return };
    while let Some(place) = listener.live.try_enter(listener.max_connections) {
        let Ok((socket, Some(peer))) = rustix::net::acceptfrom_with(socket.get_ref(), FLAGS) else { return };
        if let Ok(peer) = SocketAddr::try_from(peer) {
            admit(worker, index, socket, peer, place);
        }
    }
}

async fn accept_all(worker: &Rc<Worker>, socket: &AsyncFd<OwnedFd>, index: usize) {
    loop {
        let Ok(mut ready) = socket.readable().await else { return };
        let snapshot = worker.snapshot();
        let Some(listener) = snapshot.listeners.get(index) else { return };
        while worker.fleet.total() >= snapshot.connections_max {
            listener.live.counters.of(worker.id).paused.one();
            sleep(EXHAUSTED_PAUSE).await;
        }
        // The place comes before the connection: at the ceiling the kernel's backlog holds what arrives. Taken only
        // once something has arrived, so that no loop keeps a place from another one's connection.
        let place = match listener.live.try_enter(listener.max_connections) {
            Some(place) => place,
            None => {
                listener.live.counters.of(worker.id).paused.one();
                listener.live.enter(listener.max_connections).await
            }
        };
        drop(snapshot);
        let accepted = ready.try_io(|socket| Ok(rustix::net::acceptfrom_with(socket, FLAGS)?));
        match accepted {
            Ok(Ok((socket, Some(peer)))) => {
                if let Ok(peer) = SocketAddr::try_from(peer) {
                    admit(worker, index, socket, peer, place);
                }
            }
            Ok(Ok((_, None))) => {}
            Ok(Err(error)) => {
                drop(place);
                failed(worker, index, &error).await;
            }
            // Another one has it, or the client has left; the next event tells.
            Err(_) => {}
        }
    }
}

async fn failed(worker: &Rc<Worker>, index: usize, error: &io::Error) {
    let snapshot = worker.snapshot();
    let Some(listener) = snapshot.listeners.get(index) else { return };
    listener.live.counters.of(worker.id).accept_errors.one();
    const EMFILE: i32 = 24;
    const ENFILE: i32 = 23;
    if matches!(error.raw_os_error(), Some(EMFILE | ENFILE)) {
        sleep(EXHAUSTED_PAUSE).await;
    }
}

fn admit(
    worker: &Rc<Worker>,
    index: usize,
    socket: OwnedFd,
    peer: SocketAddr,
    place: crate::runtime::listener::ConnectionPlace,
) {
    let snapshot = worker.snapshot();
    let Some(listener) = snapshot.listeners.get(index) else { return };
    let counters = listener.live.counters.of(worker.id);
    counters.accepted.one();
    if !listener.admits(peer.ip()) {
        counters.refused_address.one();
        return refuse(&socket);
    }
    let source = match listener.max_connections_per_source {
        0 => None,
        limit => match listener.live.sources.try_enter(source_key(peer.ip()), limit) {
            Some(source) => Some(source),
            None => {
                counters.refused_source.one();
                return refuse(&socket);
            }
        },
    };
    worker.place(Arrival { socket, peer, listener: index, live: Arc::clone(&listener.live), place, source });
}

/// A reset costs neither side a TIME_WAIT, and tells the peer at once.
fn refuse(socket: &OwnedFd) {
    if let Err(error) = SockRef::from(socket).set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "a refused connection closes without a reset");
    }
}

/// One customer of IPv6 has a whole /64 (RFC 6177), so a ceiling per address would bound nothing.
fn source_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
        v4 => v4,
    }
}
