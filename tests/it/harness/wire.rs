//! One end of a connection, byte by byte: buffered reads with a deadline, and strict HTTP/1 message reading.
//! It knows nothing of proxies; a message that is not exactly framed is an error here.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use super::DEADLINE;
use super::clock::Moment;

/// A message as it came off the wire.
#[derive(Debug, Clone, Default)]
pub(crate) struct Message {
    /// Start line and fields, without the empty line.
    pub(crate) head: Vec<u8>,
    /// The body, chunk framing removed.
    pub(crate) body: Vec<u8>,
    /// Trailer fields as they came, without the empty line.
    pub(crate) trailers: Vec<u8>,
}

impl Message {
    /// The first line.
    pub(crate) fn start_line(&self) -> String {
        let end = self.head.iter().position(|&b| b == b'\r').unwrap_or(self.head.len());
        latin1(&self.head[..end])
    }

    /// The second word of the start line of a request.
    pub(crate) fn path(&self) -> String {
        self.start_line().split(' ').nth(1).unwrap_or_default().to_owned()
    }

    /// The status of a response, 0 where there is none.
    pub(crate) fn status(&self) -> u16 {
        self.start_line().split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0)
    }

    /// Every value of a field, in order.
    pub(crate) fn fields(&self, name: &str) -> Vec<String> {
        let text = latin1(&self.head);
        let lines = text.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim().to_owned()).collect()
    }

    /// The one value of a field; several are joined with `, `.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        let values = self.fields(name);
        (!values.is_empty()).then(|| values.join(", "))
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        latin1(&self.body)
    }
}

/// Bytes as text, one character for each.
pub(crate) fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&b| char::from(b)).collect()
}

/// Text as bytes, one for each character; the opposite of [`latin1`].
pub(crate) fn bytes_of(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).expect("latin-1")).collect()
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Everything that was ever received.
    pub(crate) received: Vec<u8>,
    patience: Duration,
}

fn broken(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what.to_owned())
}

impl Wire {
    /// Takes over a connected socket.
    pub(crate) fn new(stream: TcpStream) -> Self {
        // It only costs speed where it fails.
        drop(stream.set_nodelay(true));
        Self { stream, buffer: Vec::new(), received: Vec::new(), patience: DEADLINE }
    }

    /// The socket itself.
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// How long one read may take from now on.
    pub(crate) fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Sends all of it.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.set_write_timeout(Some(DEADLINE))?;
        self.stream.write_all(bytes.as_ref())
    }

    /// This end's address.
    pub(crate) fn local_address(&self) -> std::net::SocketAddr {
        self.stream.local_addr().expect("its address")
    }

    /// Sends no more; the other direction stays open.
    pub(crate) fn finish(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// Ends the connection with a reset instead of a FIN.
    pub(crate) fn reset(self) -> io::Result<()> {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))
    }

    /// Reads once into the buffer; 0 is the end.
    pub(crate) fn fill(&mut self) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.patience.max(Duration::from_millis(1))))?;
        let mut part = [0; 65536];
        let count = self.stream.read(&mut part)?;
        self.buffer.extend_from_slice(&part[..count]);
        self.received.extend_from_slice(&part[..count]);
        Ok(count)
    }

    fn need(&mut self, what: &str) -> io::Result<()> {
        match self.fill()? {
            0 => Err(broken(&format!("end inside {what}"))),
            _ => Ok(()),
        }
    }

    fn until(&mut self, mark: &[u8], what: &str) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.windows(mark.len()).position(|w| w == mark) {
                let found = self.buffer[..at].to_vec();
                self.buffer.drain(..at + mark.len());
                return Ok(found);
            }
            self.need(what)?;
        }
    }

    /// Takes exactly so many bytes.
    pub(crate) fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < count {
            self.need("a body")?;
        }
        Ok(self.buffer.drain(..count).collect())
    }

    /// A head, or nothing where the connection ends before its first byte.
    pub(crate) fn head(&mut self) -> io::Result<Option<Message>> {
        if self.buffer.is_empty() && self.fill()? == 0 {
            return Ok(None);
        }
        let head = self.until(b"\r\n\r\n", "a head")?;
        Ok(Some(Message { head, ..Message::default() }))
    }

    fn chunked(&mut self, message: &mut Message) -> io::Result<()> {
        loop {
            let line = self.until(b"\r\n", "a chunk line")?;
            let line = latin1(&line);
            let size = line.split(';').next().unwrap_or_default();
            let size =
                usize::from_str_radix(size, 16).map_err(|_| broken(&format!("chunk line {line:?}")))?;
            if size == 0 {
                break;
            }
            let mut data = self.take(size + 2)?;
            if data.split_off(size) != b"\r\n" {
                return Err(broken("no CRLF after a chunk"));
            }
            message.body.extend(data);
        }
        while !self.buffer.starts_with(b"\r\n") {
            if self.buffer.len() > 2 {
                message.trailers = self.until(b"\r\n\r\n", "trailers")?;
                return Ok(());
            }
            self.need("trailers")?;
        }
        self.buffer.drain(..2);
        Ok(())
    }

    /// A whole request, or nothing where the connection ends instead.
    pub(crate) fn request(&mut self) -> io::Result<Option<Message>> {
        let Some(mut message) = self.head()? else { return Ok(None) };
        self.request_body(&mut message)?;
        Ok(Some(message))
    }

    /// The body that belongs to a request's head.
    pub(crate) fn request_body(&mut self, message: &mut Message) -> io::Result<()> {
        if message.field("transfer-encoding").is_some() {
            return self.chunked(message);
        }
        if let Some(length) = message.field("content-length") {
            let length = length.parse().map_err(|_| broken("Content-Length"))?;
            message.body = self.take(length)?;
        }
        Ok(())
    }

    /// A whole response, interim ones (1xx) too; `method` decides whether it can have a body.
    pub(crate) fn response(&mut self, method: &str) -> io::Result<Message> {
        let Some(mut message) = self.head()? else { return Err(broken("closed instead of a response")) };
        let status = message.status();
        if !message.head.starts_with(b"HTTP/1.") || !(100..600).contains(&status) {
            return Err(broken(&format!("no response: {:?}", message.start_line())));
        }
        if method == "HEAD" || status < 200 || status == 204 || status == 304 {
            return Ok(message);
        }
        if message.field("transfer-encoding").is_some() {
            self.chunked(&mut message)?;
        } else if let Some(length) = message.field("content-length") {
            let length = length.parse().map_err(|_| broken("Content-Length"))?;
            message.body = self.take(length)?;
        } else {
            message.body = self.rest()?;
        }
        Ok(message)
    }

    /// Everything up to the end of the connection.
    pub(crate) fn rest(&mut self) -> io::Result<Vec<u8>> {
        let start = Moment::now();
        while self.fill()? > 0 {
            if start.elapsed() > DEADLINE {
                return Err(broken("the connection does not end"));
            }
        }
        Ok(std::mem::take(&mut self.buffer))
    }

    /// Whether the connection is at its end: a FIN or a reset within the patience, and no byte before it.
    pub(crate) fn at_end(&mut self) -> bool {
        if !self.buffer.is_empty() {
            return false;
        }
        match self.fill() {
            Ok(count) => count == 0,
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }

    /// Whether nothing at all arrives for so long: no byte, no end.
    pub(crate) fn silent_for(&mut self, time: Duration) -> bool {
        if !self.buffer.is_empty() {
            return false;
        }
        let patience = std::mem::replace(&mut self.patience, time);
        let result = self.fill();
        self.patience = patience;
        matches!(result, Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }
}
