//! The endpoint behind the corpus: it parses what arrives as a lenient server does, records it, and notes all that is
//! malformed. Also the blind relay that proves the judge.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::harness::DEADLINE;
use crate::harness::clock::pause;

/// A request that was complete.
#[derive(Debug, Clone)]
pub(crate) struct Arrived {
    /// Start line and fields without the empty line.
    pub(crate) head: Vec<u8>,
    /// The body without chunk framing.
    pub(crate) body: Vec<u8>,
    /// Transfer-Encoding and Content-Length fields together.
    pub(crate) framing_fields: usize,
}

/// What happened since the last case.
#[derive(Debug, Default, Clone)]
pub(crate) struct Events {
    /// Bytes by connection.
    pub(crate) bytes: BTreeMap<usize, Vec<u8>>,
    /// Requests that were complete.
    pub(crate) requests: Vec<Arrived>,
    /// What was malformed, by connection.
    pub(crate) malformed: Vec<(usize, String)>,
}

#[derive(Debug, Default)]
struct State {
    events: Events,
    canned: Option<(Vec<u8>, bool)>,
    connections: usize,
}

/// The running endpoint.
#[derive(Debug)]
pub(crate) struct Backend {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Backend {
    /// Starts it.
    pub(crate) fn start(ip: Ipv4Addr) -> Self {
        let listener = TcpListener::bind((ip, 0)).expect("a loopback port");
        let address = listener.local_addr().expect("its address");
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let number = {
                    let mut state = lock(&shared);
                    state.connections += 1;
                    state.connections
                };
                let reader = Reader { stream, buffer: Vec::new(), number, state: Arc::clone(&shared) };
                // An error is a connection that the proxy ended.
                thread::spawn(move || drop(reader.serve()));
            }
        });
        Self { address, state }
    }

    /// Answers everything but canaries with these bytes, then closes if told so; nothing takes it back.
    pub(crate) fn can(&self, canned: Option<(Vec<u8>, bool)>) {
        lock(&self.state).canned = canned;
    }

    /// Takes what happened since the last call.
    pub(crate) fn take_events(&self) -> Events {
        std::mem::take(&mut lock(&self.state).events)
    }
}

struct Reader {
    stream: TcpStream,
    buffer: Vec<u8>,
    number: usize,
    state: Arc<Mutex<State>>,
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

fn chunk_size(line: &[u8]) -> Option<usize> {
    let digits = line.split(|&b| b == b';').next()?;
    let hex = !digits.is_empty() && digits.len() <= 16 && digits.iter().all(u8::is_ascii_hexdigit);
    let text = hex.then(|| std::str::from_utf8(digits).ok())??;
    usize::from_str_radix(text, 16).ok()
}

fn values(head: &[u8], name: &str) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for line in head.split(|&b| b == b'\n').skip(1) {
        let Some(colon) = line.iter().position(|&b| b == b':') else { continue };
        if line[..colon].eq_ignore_ascii_case(name.as_bytes()) {
            found.push(line[colon + 1..].trim_ascii().to_vec());
        }
    }
    found
}

impl Reader {
    fn more(&mut self) -> io::Result<bool> {
        let mut part = [0; 65536];
        let count = self.stream.read(&mut part)?;
        self.buffer.extend_from_slice(&part[..count]);
        if count > 0 {
            let mut state = lock(&self.state);
            state.events.bytes.entry(self.number).or_default().extend_from_slice(&part[..count]);
        }
        Ok(count > 0)
    }

    fn malformed(&self, what: &str) {
        lock(&self.state).events.malformed.push((self.number, what.to_owned()));
    }

    /// The bytes before a mark, which goes too; nothing where the connection ends first.
    fn until(&mut self, mark: &[u8]) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(at) = find(&self.buffer, mark) {
                let found = self.buffer[..at].to_vec();
                self.buffer.drain(..at + mark.len());
                return Ok(Some(found));
            }
            if !self.more()? {
                return Ok(None);
            }
        }
    }

    fn take(&mut self, count: usize) -> io::Result<Option<Vec<u8>>> {
        while self.buffer.len() < count {
            if !self.more()? {
                return Ok(None);
            }
        }
        Ok(Some(self.buffer.drain(..count).collect()))
    }

    fn chunked(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut body = Vec::new();
        loop {
            let Some(line) = self.until(b"\r\n")? else {
                self.malformed("eof in chunk size");
                return Ok(None);
            };
            let Some(size) = chunk_size(&line) else {
                self.malformed("bad chunk line");
                return Ok(None);
            };
            if size == 0 {
                break;
            }
            let Some(mut data) = self.take(size + 2)? else {
                self.malformed("eof in chunk");
                return Ok(None);
            };
            if data.split_off(size) != b"\r\n" {
                self.malformed("no CRLF after chunk");
                return Ok(None);
            }
            body.extend(data);
        }
        while !self.buffer.starts_with(b"\r\n") {
            if find(&self.buffer, b"\r\n\r\n").is_some() {
                self.until(b"\r\n\r\n")?;
                return Ok(Some(body));
            }
            if !self.more()? {
                self.malformed("eof in trailer");
                return Ok(None);
            }
        }
        self.buffer.drain(..2);
        Ok(Some(body))
    }

    fn serve(mut self) -> io::Result<()> {
        loop {
            let Some(head) = self.until(b"\r\n\r\n")? else {
                if !self.buffer.is_empty() {
                    self.malformed("eof in head");
                }
                return Ok(());
            };
            let (encodings, lengths) = (values(&head, "transfer-encoding"), values(&head, "content-length"));
            let body = if !encodings.is_empty() {
                self.chunked()?
            } else if let Some(length) = lengths.first() {
                let length = std::str::from_utf8(length).ok().and_then(|t| t.parse().ok()).unwrap_or(0);
                let body = self.take(length)?;
                if body.is_none() {
                    self.malformed("eof in body");
                }
                body
            } else {
                Some(Vec::new())
            };
            let Some(body) = body else { return Ok(()) };
            let framing_fields = encodings.len() + lengths.len();
            if self.answer(Arrived { head, body, framing_fields })? {
                return Ok(());
            }
        }
    }

    /// Records the request and answers it; true where the connection is to end.
    fn answer(&mut self, arrived: Arrived) -> io::Result<bool> {
        let line = arrived.head.split(|&b| b == b'\r').next().unwrap_or_default();
        let path = line.split(|&b| b == b' ').nth(1).unwrap_or(b"?").to_vec();
        let is_head = arrived.head.starts_with(b"HEAD");
        let canned = {
            let mut state = lock(&self.state);
            state.events.requests.push(arrived);
            state.canned.clone().filter(|_| find(&path, b"canary").is_none())
        };
        if let Some((bytes, close)) = canned {
            self.stream.write_all(&bytes)?;
            if close {
                // So that the bytes and the end do not arrive as one.
                pause(Duration::from_millis(50));
                self.stream.shutdown(Shutdown::Both)?;
            }
            return Ok(close);
        }
        let path = &path[..path.len().min(200)];
        let mut bytes = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nX-Path: ", path.len()).into_bytes();
        bytes.extend_from_slice(path);
        bytes.extend_from_slice(b"\r\n\r\n");
        if !is_head {
            bytes.extend_from_slice(path);
        }
        self.stream.write_all(&bytes)?;
        Ok(false)
    }
}

/// Copies bytes both ways and looks at none.
pub(crate) fn blind_relay(ip: Ipv4Addr, to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind((ip, 0)).expect("a loopback port");
    let address = listener.local_addr().expect("its address");
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect_timeout(&to, DEADLINE) else { continue };
            for (mut from, mut to) in [pair(&client, &server), pair(&server, &client)] {
                thread::spawn(move || {
                    // Either side may end it at any time.
                    drop(io::copy(&mut from, &mut to));
                    drop(to.shutdown(Shutdown::Both));
                });
            }
        }
    });
    address
}

fn pair(from: &TcpStream, to: &TcpStream) -> (TcpStream, TcpStream) {
    (from.try_clone().expect("a descriptor"), to.try_clone().expect("a descriptor"))
}
