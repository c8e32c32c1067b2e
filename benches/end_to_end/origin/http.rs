//! The origin of HTTP/1.1: one epoll loop that answers HTTP with 106 bytes or 1 MiB, and sends
//! anything that is no HTTP back as it came. It is as cheap as it can be, because it shares its CPU with the load.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use memchr::memmem;
use rustix::event::epoll;

/// Bytes of the body that `GET /large` is answered with.
const LARGE_BODY: usize = 1 << 20;

/// Bytes of the body that any other path is answered with.
pub(crate) const SMALL_BODY: usize = 41;

/// A whole response of 106 bytes: 65 of head, 41 of body.
const SMALL: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 41\r\n\r\n\
    forty-one bytes are as good as any other.";
const _: () = assert!(SMALL.len() == 65 + SMALL_BODY);

/// Key of the listening socket; connections are keyed by their place.
const LISTENER: u64 = u64::MAX;

/// Events taken from the kernel at once.
const EVENTS: usize = 256;

/// Starts the origin in a thread that lives as long as the process, and says where it listens.
pub(super) fn start() -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    let mut origin = Origin::new(listener)?;
    std::thread::Builder::new().name("origin".to_owned()).spawn(move || origin.run())?;
    Ok(address)
}

struct Origin {
    poll: std::os::fd::OwnedFd,
    listener: TcpListener,
    connections: Vec<Option<Connection>>,
    /// Places in `connections` that are empty.
    free: Vec<usize>,
    buffer: Vec<u8>,
    large: Vec<u8>,
}

struct Connection {
    socket: TcpStream,
    /// The part of a request head that has arrived; empty between requests.
    head: Vec<u8>,
    /// Bytes of the large response that are still to be written.
    unwritten: usize,
}

impl Origin {
    fn new(listener: TcpListener) -> std::io::Result<Self> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&poll, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
        let mut large = format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE_BODY}\r\n\r\n").into_bytes();
        large.resize(large.len() + LARGE_BODY, b'x');
        Ok(Self {
            poll,
            listener,
            connections: Vec::new(),
            free: Vec::new(),
            buffer: vec![0; 64 << 10],
            large,
        })
    }

    /// Serves for ever; an error of one connection closes that connection.
    fn run(&mut self) {
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            events.clear();
            if epoll::wait(&self.poll, rustix::buffer::spare_capacity(&mut events), None).is_err() {
                continue;
            }
            for event in &events {
                let (key, flags) = (event.data.u64(), event.flags);
                if key == LISTENER {
                    self.accept();
                } else if let Ok(place) = usize::try_from(key)
                    && self.serve(place, flags).is_err()
                {
                    self.connections[place] = None;
                    self.free.push(place);
                }
            }
        }
    }

    fn accept(&mut self) {
        while let Ok((socket, _)) = self.listener.accept() {
            let place = self.free.pop().unwrap_or(self.connections.len());
            if place == self.connections.len() {
                self.connections.push(None);
            }
            let prepared = socket.set_nonblocking(true).and_then(|()| socket.set_nodelay(true));
            let data = epoll::EventData::new_u64(place as u64);
            if prepared.is_err() || epoll::add(&self.poll, &socket, data, epoll::EventFlags::IN).is_err() {
                self.free.push(place);
                continue;
            }
            self.connections[place] = Some(Connection { socket, head: Vec::new(), unwritten: 0 });
        }
    }

    /// Does what the events allow; an error means that the connection is over.
    fn serve(&mut self, place: usize, flags: epoll::EventFlags) -> std::io::Result<()> {
        let Some(connection) = self.connections[place].as_mut() else { return Ok(()) };
        let before = connection.unwritten;
        if flags.contains(epoll::EventFlags::OUT) {
            connection.write_large(&self.large)?;
        }
        if flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR) {
            connection.read_requests(&mut self.buffer, &self.large)?;
        }
        if (before > 0) != (connection.unwritten > 0) {
            let wanted = if connection.unwritten > 0 {
                epoll::EventFlags::IN | epoll::EventFlags::OUT
            } else {
                epoll::EventFlags::IN
            };
            epoll::modify(&self.poll, &connection.socket, epoll::EventData::new_u64(place as u64), wanted)?;
        }
        Ok(())
    }
}

impl Connection {
    fn read_requests(&mut self, buffer: &mut [u8], large: &[u8]) -> std::io::Result<()> {
        let length = match self.socket.read(buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        let arrived = &buffer[..length];
        if self.head.is_empty() && arrived[0] != b'G' {
            return self.socket.write_all(arrived);
        }
        self.head.extend_from_slice(arrived);
        while let Some(end) = memmem::find(&self.head, b"\r\n\r\n") {
            if self.head.starts_with(b"GET /large") {
                self.unwritten = large.len();
                self.write_large(large)?;
            } else {
                self.socket.write_all(SMALL)?;
            }
            self.head.drain(..end + 4);
        }
        Ok(())
    }

    fn write_large(&mut self, large: &[u8]) -> std::io::Result<()> {
        while self.unwritten > 0 {
            match self.socket.write(&large[large.len() - self.unwritten..]) {
                Ok(written) => self.unwritten -= written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
