//! Clients that have a connection of bytes each, plain or TLS, all on one epoll instance.

use std::io::{Error, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use memchr::memmem;
use rustix::event::epoll;
use rustls::ClientConfig;
use tokio::time::Instant;

use super::wire::{Buffers, Wire};
use super::{Exchange, Load, Outcome, PATIENCE};
use crate::certificate::HOST;

/// Events taken from the kernel at once.
const EVENTS: usize = 256;

pub(crate) struct Streams {
    poll: OwnedFd,
    target: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    exchange: Exchange,
    message: Vec<u8>,
    clients: Vec<Client>,
    buffers: Buffers,
    latencies: Vec<u64>,
}

struct Client {
    wire: Wire,
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

impl Streams {
    /// Connects all clients, which stay silent.
    pub(crate) fn connect(
        target: SocketAddr,
        exchange: Exchange,
        clients: usize,
        tls: Option<Arc<ClientConfig>>,
    ) -> std::io::Result<Self> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        // A client comes back with what it was given.
        let cookie = match exchange {
            Exchange::Http { .. } if tls.is_none() => cookie(target, &message(exchange, None)?)?,
            _ => None,
        };
        let mut load = Self {
            poll,
            target,
            tls,
            exchange,
            message: message(exchange, cookie.as_deref())?,
            clients: Vec::with_capacity(clients),
            buffers: Buffers::new(),
            latencies: Vec::new(),
        };
        for place in 0..clients {
            let wire = load.open(place)?;
            load.clients.push(Client { wire, sent: Instant::now(), state: Awaited::Nothing });
        }
        Ok(load)
    }

    fn open(&self, place: usize) -> std::io::Result<Wire> {
        let wire = Wire::open(self.target, self.tls.as_ref())?;
        let data = epoll::EventData::new_u64(place as u64);
        epoll::add(&self.poll, wire.socket(), data, epoll::EventFlags::IN)?;
        Ok(wire)
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

    fn send(&mut self, place: usize, now: Instant) -> std::io::Result<()> {
        let client = &mut self.clients[place];
        client.sent = now;
        client.state = match self.exchange {
            Exchange::Echo { bytes } => Awaited::Bytes(bytes),
            _ => Awaited::Head(Vec::new()),
        };
        client.wire.write(&self.message)
    }

    /// Waits for events once and reads what there is; `again` sends the next request after each answer.
    fn turn(&mut self, again: bool) -> std::io::Result<()> {
        let mut events = Vec::with_capacity(EVENTS);
        let patience = rustix::event::Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
        epoll::wait(&self.poll, rustix::buffer::spare_capacity(&mut events), Some(&patience))?;
        if events.is_empty() {
            return Err(Error::new(ErrorKind::TimedOut, "no answer for 10 s"));
        }
        for event in &events {
            let place = event.data.u64() as usize;
            match self.clients[place].read(&mut self.buffers)? {
                Progress::Partial => {}
                Progress::Answered => self.answered(place, again)?,
                Progress::Closed => {
                    self.clients[place].wire = self.open(place)?;
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

impl Load for Streams {
    fn run(&mut self, length: Duration) -> std::io::Result<Outcome> {
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
        Ok(Outcome::new(std::mem::take(&mut self.latencies), start.elapsed()))
    }
}

impl Client {
    fn read(&mut self, buffers: &mut Buffers) -> std::io::Result<Progress> {
        let length = match self.wire.read(buffers) {
            Ok(0) if matches!(self.state, Awaited::Close) => return Ok(Progress::Closed),
            Ok(0) => return Err(Error::new(ErrorKind::UnexpectedEof, "closed before the answer")),
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Progress::Partial),
            Err(error) => return Err(error),
        };
        self.take(buffers.plain(length))
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
            return Err(Error::new(ErrorKind::InvalidData, "bytes that nobody asked for"));
        };
        *awaited = awaited
            .checked_sub(arrived.len())
            .ok_or_else(|| Error::new(ErrorKind::InvalidData, "more than the head announced"))?;
        Ok(if *awaited == 0 { Progress::Answered } else { Progress::Partial })
    }
}

fn message(exchange: Exchange, cookie: Option<&str>) -> std::io::Result<Vec<u8>> {
    let cookie = cookie.map_or_else(String::new, |cookie| format!("Cookie: {cookie}\r\n"));
    Ok(match exchange {
        Exchange::Http { path } => {
            format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n{cookie}\r\n").into_bytes()
        }
        Exchange::HttpOnce { path } => {
            format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n").into_bytes()
        }
        Exchange::Echo { bytes } => vec![b'.'; bytes],
        Exchange::Http2 { .. } | Exchange::Grpc { .. } => {
            return Err(Error::new(ErrorKind::InvalidInput, format!("{exchange:?} is multiplexed")));
        }
    })
}

/// The cookie that the answer to a first request sets, if it sets one.
fn cookie(target: SocketAddr, message: &[u8]) -> std::io::Result<Option<String>> {
    let mut wire = TcpStream::connect(target)?;
    wire.set_read_timeout(Some(PATIENCE))?;
    wire.write_all(message)?;
    let mut head = Vec::new();
    let mut block = [0; 4096];
    while memmem::find(&head, b"\r\n\r\n").is_none() {
        let length = wire.read(&mut block)?;
        if length == 0 {
            return Err(Error::new(ErrorKind::UnexpectedEof, "closed before the answer"));
        }
        head.extend_from_slice(&block[..length]);
    }
    let text = String::from_utf8_lossy(&head);
    let mut fields = text.split("\r\n").filter_map(|line| line.split_once(':'));
    let set = fields.find(|(name, _)| name.eq_ignore_ascii_case("set-cookie"));
    Ok(set.map(|(_, value)| value.split(';').next().unwrap_or_default().trim().to_owned()))
}

/// The length that a response head announces. A status other than 200 ends the run: it must not look fast.
fn body_length(head: &[u8]) -> std::io::Result<usize> {
    let wrong = || {
        let shown = String::from_utf8_lossy(&head[..head.len().min(200)]);
        Error::new(ErrorKind::InvalidData, format!("unexpected answer: {shown}"))
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
