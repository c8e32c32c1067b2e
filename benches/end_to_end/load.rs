//! The load: a closed loop of clients on one epoll instance, each with one request under way, each latency kept.
//! What is asked of whom, and for how long, is the caller's choice.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use memchr::memmem;
use rustix::event::epoll;
use tokio::time::Instant;

/// Events taken from the kernel at once.
const EVENTS: usize = 256;

/// A client that waits for so long has been let down by the proxy.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a client sends, and how it knows that the answer is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exchange {
    /// An HTTP request on a connection that is kept; the answer's length is in its head.
    Http { path: &'static str },
    /// An HTTP request on a connection of its own, which the proxy closes after the answer.
    HttpOnce { path: &'static str },
    /// A message of so many bytes that comes back as it is.
    Echo { bytes: usize },
    /// A datagram of so many bytes that comes back as it is.
    Datagram { bytes: usize },
}

impl Exchange {
    fn message(self) -> Vec<u8> {
        match self {
            Self::Http { path } => format!("GET {path} HTTP/1.1\r\nHost: bench.test\r\n\r\n").into_bytes(),
            Self::HttpOnce { path } => {
                format!("GET {path} HTTP/1.1\r\nHost: bench.test\r\nConnection: close\r\n\r\n").into_bytes()
            }
            Self::Echo { bytes } | Self::Datagram { bytes } => vec![b'.'; bytes],
        }
    }
}

/// What a client talks through.
enum Socket {
    Stream(TcpStream),
    Datagrams(UdpSocket),
}

impl Socket {
    fn connect(target: SocketAddr, exchange: Exchange) -> std::io::Result<Self> {
        if let Exchange::Datagram { .. } = exchange {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            socket.connect(target)?;
            socket.set_nonblocking(true)?;
            return Ok(Self::Datagrams(socket));
        }
        let socket = TcpStream::connect(target)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        Ok(Self::Stream(socket))
    }

    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Stream(stream) => stream.read(buffer),
            Self::Datagrams(socket) => socket.recv(buffer),
        }
    }

    fn write(&mut self, message: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Stream(stream) => stream.write_all(message),
            Self::Datagrams(socket) => socket.send(message).map(|_| ()),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Stream(stream) => stream.as_fd(),
            Self::Datagrams(socket) => socket.as_fd(),
        }
    }
}

/// What came of one stretch of load.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Answers that arrived complete.
    pub(crate) answers: u64,
    /// How long the stretch was.
    pub(crate) elapsed: Duration,
    /// Latencies in nanoseconds, ascending.
    pub(crate) latencies: Vec<u64>,
}

impl Outcome {
    /// The latency that `share` of all answers did not exceed.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        let place = (last as f64 * share) as usize;
        Duration::from_nanos(self.latencies.get(place).copied().unwrap_or(0))
    }
}

/// A set of connected clients.
pub(crate) struct Load {
    poll: OwnedFd,
    target: SocketAddr,
    exchange: Exchange,
    message: Vec<u8>,
    clients: Vec<Client>,
    buffer: Vec<u8>,
    latencies: Vec<u64>,
}

struct Client {
    socket: Socket,
    sent: Instant,
    state: Awaited,
}

/// What a client waits for.
enum Awaited {
    Nothing,
    /// The rest of a response head; what has come is kept.
    Head(Vec<u8>),
    Bytes(usize),
    /// The proxy's close, after a complete answer.
    Close,
}

/// What reading brought about.
enum Progress {
    Partial,
    Answered,
    Closed,
}

impl Load {
    /// Connects all clients, which stay silent.
    pub(crate) fn connect(target: SocketAddr, exchange: Exchange, clients: usize) -> std::io::Result<Self> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut load = Self {
            poll,
            target,
            exchange,
            message: exchange.message(),
            clients: Vec::with_capacity(clients),
            buffer: vec![0; 256 << 10],
            latencies: Vec::new(),
        };
        for place in 0..clients {
            let socket = load.open(place)?;
            load.clients.push(Client { socket, sent: Instant::now(), state: Awaited::Nothing });
        }
        Ok(load)
    }

    /// Connecting blocks, which over loopback is no wait while the backlog has room.
    fn open(&self, place: usize) -> std::io::Result<Socket> {
        let socket = Socket::connect(self.target, self.exchange)?;
        epoll::add(&self.poll, &socket, epoll::EventData::new_u64(place as u64), epoll::EventFlags::IN)?;
        Ok(socket)
    }

    /// Keeps one request of every client under way for `length`.
    pub(crate) fn run(&mut self, length: Duration) -> std::io::Result<Outcome> {
        self.latencies.clear();
        let start = Instant::now();
        for place in 0..self.clients.len() {
            if matches!(self.clients[place].state, Awaited::Nothing) {
                self.send(place, start)?;
            }
        }
        while start.elapsed() < length {
            self.turn(true)?;
        }
        Ok(self.outcome(start.elapsed()))
    }

    /// One exchange of every client, `window` of them at a time; afterwards all are silent.
    pub(crate) fn burst(&mut self, window: usize) -> std::io::Result<()> {
        let total = self.clients.len();
        for first in (0..total).step_by(window) {
            let places = first..total.min(first + window);
            let start = Instant::now();
            for place in places.clone() {
                self.send(place, start)?;
            }
            while self.clients[places.clone()].iter().any(|client| !matches!(client.state, Awaited::Nothing))
            {
                self.turn(false)?;
            }
        }
        Ok(())
    }

    fn outcome(&mut self, elapsed: Duration) -> Outcome {
        let mut latencies = std::mem::take(&mut self.latencies);
        latencies.sort_unstable();
        Outcome { answers: latencies.len() as u64, elapsed, latencies }
    }

    fn send(&mut self, place: usize, now: Instant) -> std::io::Result<()> {
        let client = &mut self.clients[place];
        client.sent = now;
        client.state = match self.exchange {
            Exchange::Echo { bytes } | Exchange::Datagram { bytes } => Awaited::Bytes(bytes),
            Exchange::Http { .. } | Exchange::HttpOnce { .. } => Awaited::Head(Vec::new()),
        };
        client.socket.write(&self.message)
    }

    /// Waits for events once and reads what there is; `again` sends the next request after each answer.
    fn turn(&mut self, again: bool) -> std::io::Result<()> {
        let mut events = Vec::with_capacity(EVENTS);
        let patience = rustix::event::Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
        epoll::wait(&self.poll, rustix::buffer::spare_capacity(&mut events), Some(&patience))?;
        if events.is_empty() {
            return Err(std::io::Error::new(ErrorKind::TimedOut, "no answer for 10 s"));
        }
        for event in &events {
            let place = event.data.u64() as usize;
            match self.clients[place].read(&mut self.buffer)? {
                Progress::Partial => {}
                Progress::Answered => self.answered(place, again)?,
                Progress::Closed => {
                    self.clients[place].socket = self.open(place)?;
                    self.send(place, Instant::now())?;
                }
            }
        }
        Ok(())
    }

    fn answered(&mut self, place: usize, again: bool) -> std::io::Result<()> {
        let now = Instant::now();
        let client = &mut self.clients[place];
        self.latencies.push((now - client.sent).as_nanos() as u64);
        if matches!(self.exchange, Exchange::HttpOnce { .. }) {
            client.state = Awaited::Close;
        } else if again {
            self.send(place, now)?;
        } else {
            client.state = Awaited::Nothing;
        }
        Ok(())
    }
}

impl Client {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<Progress> {
        let length = match self.socket.read(buffer) {
            Ok(0) if matches!(self.state, Awaited::Close) => return Ok(Progress::Closed),
            Ok(0) => return Err(std::io::Error::new(ErrorKind::UnexpectedEof, "closed before the answer")),
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Progress::Partial),
            Err(error) => return Err(error),
        };
        self.take(&buffer[..length])
    }

    fn take(&mut self, mut arrived: &[u8]) -> std::io::Result<Progress> {
        if let Awaited::Head(head) = &mut self.state {
            let had = head.len();
            head.extend_from_slice(arrived);
            let Some(end) = memmem::find(head, b"\r\n\r\n") else { return Ok(Progress::Partial) };
            let body = body_length(&head[..end + 4])?;
            arrived = &arrived[end + 4 - had..];
            self.state = Awaited::Bytes(body);
        }
        let Awaited::Bytes(awaited) = &mut self.state else {
            return Err(std::io::Error::new(ErrorKind::InvalidData, "bytes that nobody asked for"));
        };
        *awaited = awaited
            .checked_sub(arrived.len())
            .ok_or_else(|| std::io::Error::new(ErrorKind::InvalidData, "more than the head announced"))?;
        Ok(if *awaited == 0 { Progress::Answered } else { Progress::Partial })
    }
}

/// The length that a response head announces. A status other than 200 ends the run: it must not look fast.
fn body_length(head: &[u8]) -> std::io::Result<usize> {
    let wrong = || {
        let shown = String::from_utf8_lossy(&head[..head.len().min(200)]);
        std::io::Error::new(ErrorKind::InvalidData, format!("unexpected answer: {shown}"))
    };
    if !head.starts_with(b"HTTP/1.1 200") {
        return Err(wrong());
    }
    let text = std::str::from_utf8(head).map_err(|_| wrong())?;
    let lengths = text.split("\r\n").filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    lengths.last().ok_or_else(wrong)
}
