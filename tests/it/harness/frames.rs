//! An HTTP/2 origin that is scripted frame by frame, so that it can do what no library would.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::{DEADLINE, own_ip};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;

pub(crate) const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// `:status: 200`, indexed.
pub(crate) const STATUS_200: &[u8] = &[0x88];

/// A frame.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn ends(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }
}

/// A field as a literal without indexing; name and value of less than 127 bytes.
pub(crate) fn field(name: &str, value: &str) -> Vec<u8> {
    let mut block = vec![0, name.len() as u8];
    block.extend_from_slice(name.as_bytes());
    block.push(value.len() as u8);
    block.extend_from_slice(value.as_bytes());
    block
}

/// One connection of an origin, as its script sees it.
#[derive(Debug)]
pub(crate) struct Session {
    /// The connection's number, from 1.
    pub(crate) number: usize,
    /// Answer PINGs.
    pub(crate) pongs: bool,
    /// Keep no window open but what the script says.
    pub(crate) updates: bool,
    stream: TcpStream,
}

impl Session {
    pub(crate) fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        let length = (payload.len() as u32).to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags];
        bytes.extend_from_slice(&stream.to_be_bytes());
        bytes.extend_from_slice(payload);
        self.stream.write_all(&bytes)
    }

    /// Sends bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next frame, whatever it is.
    pub(crate) fn any(&mut self) -> io::Result<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut payload = vec![0; length as usize];
        self.stream.read_exact(&mut payload)?;
        Ok(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The next frame that is about a request or the connection's end; the others are answered as they should be.
    pub(crate) fn next(&mut self) -> io::Result<Frame> {
        loop {
            let frame = self.any()?;
            match frame.kind {
                SETTINGS if frame.flags & ACK == 0 => self.send(SETTINGS, ACK, 0, &[])?,
                PING if frame.flags & ACK == 0 && self.pongs => self.send(PING, ACK, 0, &frame.payload)?,
                DATA | HEADERS | RST_STREAM | GOAWAY => {
                    let length = frame.payload.len() as u32;
                    if frame.kind == DATA && self.updates && length > 0 {
                        self.send(WINDOW_UPDATE, 0, 0, &length.to_be_bytes())?;
                        if !frame.ends() {
                            self.send(WINDOW_UPDATE, 0, frame.stream, &length.to_be_bytes())?;
                        }
                    }
                    return Ok(frame);
                }
                _ => {}
            }
        }
    }

    /// The number of the next request's stream, once all of the request has come.
    pub(crate) fn request(&mut self) -> io::Result<u32> {
        loop {
            let frame = self.next()?;
            if frame.ends() {
                return Ok(frame.stream);
            }
        }
    }

    pub(crate) fn head(&mut self, stream: u32, block: &[u8], end: bool) -> io::Result<()> {
        self.send(HEADERS, END_HEADERS | u8::from(end), stream, block)
    }

    pub(crate) fn data(&mut self, stream: u32, data: &[u8], end: bool) -> io::Result<()> {
        self.send(DATA, u8::from(end), stream, data)
    }

    /// Answers 200 with this body.
    pub(crate) fn ok(&mut self, stream: u32, body: &str) -> io::Result<()> {
        self.head(stream, STATUS_200, false)?;
        self.data(stream, body.as_bytes(), true)
    }

    pub(crate) fn reset(&mut self, stream: u32, code: u32) -> io::Result<()> {
        self.send(RST_STREAM, 0, stream, &code.to_be_bytes())
    }

    pub(crate) fn goaway(&mut self, last: u32) -> io::Result<()> {
        self.send(GOAWAY, 0, 0, &[last.to_be_bytes(), [0; 4]].concat())
    }

    /// Reads until the other side ends the connection.
    pub(crate) fn until_end(&mut self) {
        while self.next().is_ok() {}
    }
}

/// A running origin.
#[derive(Debug)]
pub(crate) struct FrameOrigin {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl FrameOrigin {
    /// Plays `script` on every connection, after the preface; `settings` is the payload of its own SETTINGS.
    pub(crate) fn start(
        settings: &'static [u8],
        script: impl Fn(Session) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((own_ip(), 0)).expect("a loopback port");
        let address = listener.local_addr().expect("its address");
        let connections = Arc::new(AtomicUsize::new(0));
        let (count, script) = (Arc::clone(&connections), Arc::new(script));
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                let script = Arc::clone(&script);
                thread::spawn(move || -> io::Result<()> {
                    stream.set_read_timeout(Some(DEADLINE))?;
                    let mut preface = [0; 24];
                    stream.read_exact(&mut preface)?;
                    assert_eq!(&preface[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
                    let mut session = Session { number, pongs: true, updates: true, stream };
                    session.send(SETTINGS, 0, 0, settings)?;
                    script(session)
                });
            }
        });
        Self { address, connections }
    }

    /// Answers every request with 200 and this text.
    pub(crate) fn saying(text: &'static str) -> Self {
        Self::start(&[], move |mut session| {
            loop {
                let stream = session.request()?;
                session.ok(stream, text)?;
            }
        })
    }

    /// Connections that have come.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}
