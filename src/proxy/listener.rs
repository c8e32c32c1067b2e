//! Bound sockets and the accept loop: ceilings, who may connect, and hand-over to the least loaded worker.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{SocketAddrAny, SocketFlags};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, mpsc};
use tokio::time::sleep;

use super::connection::Arrival;
use super::socket_file::{SocketFile, remove_stale};
use super::worker::Worker;
use crate::model::address::{Address, UNIX_CLIENT};
use crate::runtime::counters::WorkerId;
use crate::runtime::listener::{Listener, ListenerLive, Protocol as Served, Transport};
use crate::runtime::sources::SourcePlace;

/// Flags of accepted sockets.
const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

/// How long accepting pauses after descriptors ran out, unless a connection ends earlier. No setting: what was hit is the
/// machine's limit, counted as `max_connections` or an error of accept.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// A socket that is bound to an address but does not listen yet, or one that was inherited; or one for datagrams, which
/// wait in it until a worker takes it over.
#[derive(Debug)]
pub struct Bound {
    socket: Socket,
    transport: Transport,
    /// The file of a unix socket, shared by all descriptors of it.
    file: Option<Arc<SocketFile>>,
    /// It is a unix socket.
    is_unix: bool,
    /// Others have it too: what waits in its backlog is theirs when we stop.
    inherited: bool,
}

/// A listening socket on its way to the worker that accepts on it.
#[derive(Debug)]
pub struct Opening {
    /// The door that it is part of.
    pub door: DoorId,
    /// The place of its listener in the snapshot.
    pub listener: usize,
    /// Live state of its listener.
    pub live: Arc<ListenerLive>,
    /// The socket.
    pub socket: Bound,
}

/// An address that is listened on: one socket at each worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DoorId(pub u64);

/// What becomes of a door that stays open.
#[derive(Debug, Clone)]
pub struct DoorUse {
    /// Which one.
    pub door: DoorId,
    /// The place of the listener that it belongs to from now on.
    pub listener: usize,
    /// That listener's live state.
    pub live: Arc<ListenerLive>,
    /// What its connections inherit.
    pub options: Options,
}

/// Options of a listening socket, which accepted ones inherit, so that a connection costs no call for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// First keepalive probe.
    pub keepalive: Duration,
    /// Unacknowledged data.
    pub user_timeout: Duration,
    /// Connections that wait to be accepted; the kernel cuts it to `net.core.somaxconn`.
    pub backlog: u16,
}

/// A socket of this worker on which it accepts.
#[derive(Debug)]
pub struct Door {
    pub(super) socket: AsyncFd<OwnedFd>,
    transport: Transport,
    is_unix: bool,
    inherited: Cell<bool>,
    listener: Cell<usize>,
    // Held so that the listener's place stays its own while this socket is open.
    live: RefCell<Arc<ListenerLive>>,
    /// Everybody who is to know that it has closed has an end of this.
    closed: RefCell<Option<mpsc::Sender<()>>>,
    closing: Notify,
}

impl Options {
    /// Those of a listener.
    #[must_use]
    pub const fn of(listener: &Listener) -> Self {
        let timeouts = &listener.timeouts;
        Self {
            keepalive: timeouts.tcp_keepalive,
            user_timeout: timeouts.tcp_user_timeout,
            backlog: listener.backlog,
        }
    }

    fn set(self, socket: &SockRef<'_>, is_unix: bool) -> io::Result<()> {
        if is_unix {
            return Ok(());
        }
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_user_timeout(Some(self.user_timeout))?;
        let keepalive = TcpKeepalive::new().with_time(self.keepalive);
        socket.set_tcp_keepalive(&keepalive.with_interval(Duration::from_secs(10)).with_retries(3))
    }
}

impl Bound {
    /// Binds one address for one worker: SO_REUSEPORT lets each have a socket of its own. Nobody is let in yet.
    ///
    /// # Errors
    /// As the system; the caller knows the address.
    pub fn bind(listener: &Listener, address: Address) -> io::Result<Self> {
        let address = match address {
            Address::Ip(address) => address,
            Address::Unix(path) => return Self::bind_file(listener, path.as_path()),
        };
        let transport = listener.transport();
        let socket = new_socket(listener, address)?;
        socket.set_nonblocking(true)?;
        if transport == Transport::Tcp {
            socket.set_reuse_address(true)?;
        }
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        Ok(Self { socket, transport, file: None, is_unix: false, inherited: false })
    }

    /// Binds a unix socket. There is one for all workers: a file leads to one socket only.
    fn bind_file(listener: &Listener, path: &Path) -> io::Result<Self> {
        remove_stale(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::unix(path)?)?;
        let file = SocketFile::new(path)?;
        // Nobody can connect before `listen`, so there is no moment at which others could.
        file.set_mode(listener.unix_mode)?;
        let (transport, file) = (Transport::Tcp, Some(Arc::new(file)));
        Ok(Self { socket, transport, file, is_unix: true, inherited: false })
    }

    /// One worker's own descriptor of a socket that the process was started with.
    ///
    /// # Errors
    /// As the system, when no descriptor is left.
    pub fn inherit(socket: &OwnedFd, transport: Transport) -> io::Result<Self> {
        let socket = Socket::from(socket.try_clone()?);
        socket.set_nonblocking(true)?;
        let is_unix = socket.domain()? == Domain::UNIX;
        Ok(Self { socket, transport, file: None, is_unix, inherited: true })
    }

    /// A socket that the process before has handed over, with the file of a unix socket: from now on it is as our own.
    ///
    /// # Errors
    /// As the system.
    pub fn adopt(socket: OwnedFd, transport: Transport, file: Option<Arc<SocketFile>>) -> io::Result<Self> {
        let socket = Socket::from(socket);
        socket.set_nonblocking(true)?;
        let is_unix = socket.domain()? == Domain::UNIX;
        Ok(Self { socket, transport, file, is_unix, inherited: false })
    }

    /// A further descriptor of the same socket, for another worker.
    ///
    /// # Errors
    /// As the system, when no descriptor is left.
    pub fn share(&self) -> io::Result<Self> {
        let Self { transport, is_unix, inherited, .. } = *self;
        Ok(Self { socket: self.socket.try_clone()?, transport, file: self.file.clone(), is_unix, inherited })
    }

    /// The file of a unix socket, which is there for as long as somebody has this.
    #[must_use]
    pub const fn file(&self) -> Option<&Arc<SocketFile>> {
        self.file.as_ref()
    }

    /// Lets clients in, who wait in the kernel until a worker accepts them; datagrams have been let in already.
    ///
    /// # Errors
    /// As the system.
    pub fn listen(&self, options: Options) -> io::Result<()> {
        if self.transport == Transport::Udp {
            return Ok(());
        }
        options.set(&SockRef::from(&self.socket), self.is_unix)?;
        // The backlog of an inherited one is for whoever opened it to choose.
        if self.inherited { Ok(()) } else { self.socket.listen(options.backlog.into()) }
    }
}

impl Door {
    /// A door of this worker. Nothing when its socket cannot be watched.
    pub fn new(opening: Opening) -> Option<Rc<Self>> {
        // The one way to accept without registering the new connection here, so that another worker can take it.
        #[expect(
            deprecated,
            reason = "its successor is an unsafe fn for types that may close their descriptor; an OwnedFd does not"
        )]
        let watched = AsyncFd::with_interest(OwnedFd::from(opening.socket.socket), Interest::READABLE);
        let Ok(socket) = watched else {
            tracing::error!("a listening socket cannot be watched");
            return None;
        };
        Some(Rc::new(Self {
            socket,
            transport: opening.socket.transport,
            is_unix: opening.socket.is_unix,
            inherited: Cell::new(opening.socket.inherited),
            listener: Cell::new(opening.listener),
            live: RefCell::new(opening.live),
            closed: RefCell::default(),
            closing: Notify::new(),
        }))
    }

    /// Lets it belong to a listener, perhaps another one, under that one's options.
    pub fn change(&self, to: &DoorUse) {
        self.listener.set(to.listener);
        *self.live.borrow_mut() = Arc::clone(&to.live);
        if self.transport == Transport::Udp {
            return;
        }
        let socket = SockRef::from(self.socket.get_ref());
        let again = || if self.inherited.get() { Ok(()) } else { socket.listen(to.options.backlog.into()) };
        // Listening again only changes the length of the backlog.
        if let Err(error) = to.options.set(&socket, self.is_unix).and_then(|()| again()) {
            tracing::warn!(%error, "a listening socket keeps its old options");
        }
    }

    /// Who has connected; nothing where the kernel does not say.
    fn peer(&self, told: Option<SocketAddrAny>) -> Option<SocketAddr> {
        if self.is_unix {
            return Some(UNIX_CLIENT);
        }
        SocketAddr::try_from(told?).ok()
    }

    /// What comes by it.
    #[must_use]
    pub const fn transport(&self) -> Transport {
        self.transport
    }

    /// The place of the listener that it belongs to.
    #[must_use]
    pub const fn listener(&self) -> usize {
        self.listener.get()
    }

    /// Whether others have the socket too, and go on when we stop.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        self.inherited.get()
    }

    /// Waits until it is to close.
    pub async fn closing(&self) {
        self.closing.notified().await;
    }

    /// A descriptor of its socket, for another process.
    ///
    /// # Errors
    /// As the system, when no descriptor is left.
    pub fn lend(&self) -> io::Result<OwnedFd> {
        self.socket.get_ref().try_clone()
    }

    /// Notes that another process accepts on its socket too: what waits there when we stop waits for that one.
    pub fn leave_to_another(&self) {
        self.inherited.set(true);
    }

    /// Closes it once all who have connected are in; `closed` is dropped then.
    pub fn close(&self, closed: mpsc::Sender<()>) {
        *self.closed.borrow_mut() = Some(closed);
        self.closing.notify_one();
    }
}

/// Whether nobody has `address` yet: SO_REUSEPORT alone would let a second process share it in silence.
///
/// # Errors
/// As the system, `AddrInUse` above all.
pub fn probe(listener: &Listener, address: Address) -> io::Result<()> {
    // Of a unix socket binding itself finds out.
    let Address::Ip(address) = address else { return Ok(()) };
    let socket = new_socket(listener, address)?;
    // Of listening sockets it lets connections linger that have ended; of others it would share the address.
    if listener.transport() == Transport::Tcp {
        socket.set_reuse_address(true)?;
    }
    socket.bind(&address.into())
}

fn new_socket(listener: &Listener, address: SocketAddr) -> io::Result<Socket> {
    let (kind, protocol) = match listener.transport() {
        Transport::Tcp => (Type::STREAM, Protocol::TCP),
        Transport::Udp => (Type::DGRAM, Protocol::UDP),
    };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if listener.freebind {
        match address {
            SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
            SocketAddr::V6(_) => socket.set_freebind_v6(true)?,
        }
    }
    Ok(socket)
}

/// Accepts for as long as the worker does not drain and the door is not closed.
pub async fn serve(worker: Rc<Worker>, door: Rc<Door>) {
    tokio::select! {
        () = accept_all(&worker, &door) => {}
        () = worker.drain_started() => accept_rest(&worker, &door),
        () = door.closing.notified() => accept_rest(&worker, &door),
    }
}

/// Closing a listening socket resets what waits in its backlog: taken first. An inherited socket outlives us, and what
/// waits there waits for the next process.
fn accept_rest(worker: &Rc<Worker>, door: &Door) {
    if door.inherited.get() {
        return;
    }
    let index = door.listener.get();
    let Some(snapshot) = worker.snapshot_of(index) else { return };
    let Some(listener) = snapshot.listeners.get(index) else { return };
    while let Some(place) = listener.live.try_enter(listener.max_connections) {
        let accepted = rustix::net::acceptfrom_with(door.socket.get_ref(), FLAGS);
        let Ok((socket, peer)) = accepted else { return };
        if let Some(peer) = door.peer(peer) {
            admit(worker, index, socket, peer, place);
        }
    }
}

async fn accept_all(worker: &Rc<Worker>, door: &Door) {
    loop {
        let Ok(mut ready) = door.socket.readable().await else { return };
        let index = door.listener.get();
        let Some(snapshot) = worker.snapshot_of(index) else { return };
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
        // Another listener may have the door by now: whose ceiling is kept is looked at again.
        if index != door.listener.get() {
            continue;
        }
        let accepted = ready.try_io(|socket| Ok(rustix::net::acceptfrom_with(socket, FLAGS)?));
        match accepted {
            Ok(Ok((socket, peer))) => {
                if let Some(peer) = door.peer(peer) {
                    admit(worker, index, socket, peer, place);
                }
            }
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
    let Some(snapshot) = worker.snapshot_of(index) else { return };
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
    let Some(snapshot) = worker.snapshot_of(index) else { return };
    let Some(listener) = snapshot.listeners.get(index) else { return };
    let counters = listener.live.counters.of(worker.id);
    counters.accepted.one();
    // Requests are told with a status.
    if !matches!(listener.protocol, Served::Http { .. }) && worker.fleet.pressure.sheds(listener.importance) {
        counters.shed.one();
        return refuse(&socket);
    }
    // Whom a trusted peer brings is let in or not once its PROXY header has told who that is.
    if listener.is_introduced(peer.ip()) {
        return worker.place(Arrival { socket, peer, listener: index, place, source: None });
    }
    match admission(worker.id, listener, peer.ip()) {
        Some(source) => worker.place(Arrival { socket, peer, listener: index, place, source }),
        None => refuse(&socket),
    }
}

/// Lets a client in, or nothing: it may not connect, or has as many connections as a source may. Where sources have a ceiling,
/// there is a place under it.
pub fn admission(worker: WorkerId, listener: &Listener, source: IpAddr) -> Option<Option<SourcePlace>> {
    let counters = listener.live.counters.of(worker);
    if !listener.admits(source) {
        counters.refused_address.one();
        return None;
    }
    let limit = listener.max_connections_per_source;
    // Clients of a unix socket have no address to be told apart by.
    if limit == 0 || source == UNIX_CLIENT.ip() {
        return Some(None);
    }
    let place = listener.live.sources.try_enter(source_key(source), limit);
    if place.is_none() {
        counters.refused_source.one();
    }
    place.map(Some)
}

/// A reset costs neither side a TIME_WAIT, and tells the peer at once.
fn refuse(socket: &OwnedFd) {
    if let Err(error) = SockRef::from(socket).set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "a refused connection closes without a reset");
    }
}

/// One customer of IPv6 has a whole /64 (RFC 6177), so a ceiling per address would bound nothing.
pub(super) fn source_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
        v4 => v4,
    }
}
