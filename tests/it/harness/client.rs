//! A raw client: bytes out, checked HTTP/1 messages in, every wait with a deadline. A broken answer fails the test.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::ops::{Deref, DerefMut};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use socket2::{Domain, Socket, Type};

use super::DEADLINE;
use super::wire::{Message, Wire};

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Client(Wire);

impl Deref for Client {
    type Target = Wire;

    fn deref(&self) -> &Wire {
        &self.0
    }
}

impl DerefMut for Client {
    fn deref_mut(&mut self) -> &mut Wire {
        &mut self.0
    }
}

impl Client {
    /// Connects.
    pub(crate) fn connect(to: SocketAddr) -> Self {
        Self(Wire::new(TcpStream::connect_timeout(&to, DEADLINE).expect("a connection to the proxy")))
    }

    /// Connects from a loopback address of one's choice.
    pub(crate) fn connect_from(source: Ipv4Addr, to: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from((source, 0)).into()).expect("a loopback address");
        socket.connect_timeout(&to.into(), DEADLINE).expect("a connection to the proxy");
        Self(Wire::new(socket.into()))
    }

    /// Connects to a unix socket. The standard library reads and writes any connected socket alike.
    pub(crate) fn connect_file(path: &Path) -> Self {
        let stream = UnixStream::connect(path).expect("a connection to the proxy");
        Self(Wire::new(OwnedFd::from(stream).into()))
    }

    /// Whether a connection ends without a byte: by a FIN or a reset, which may even come before the connect is done.
    pub(crate) fn is_turned_away(to: SocketAddr) -> bool {
        TcpStream::connect_timeout(&to, DEADLINE).map_or(true, |stream| Wire::new(stream).at_end())
    }

    /// Sends bytes, which must be taken.
    pub(crate) fn say(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.0.send(bytes).expect("the proxy takes what is sent");
        self
    }

    /// The next response to a request that was no HEAD.
    pub(crate) fn answer(&mut self) -> Message {
        self.answer_to("GET")
    }

    /// The next response to a request of this method.
    pub(crate) fn answer_to(&mut self, method: &str) -> Message {
        match self.0.response(method) {
            Ok(message) => message,
            Err(error) => panic!("no whole response: {error}; received {:?}", self.tail()),
        }
    }

    /// A GET on this connection and its response.
    pub(crate) fn get(&mut self, path: &str) -> Message {
        self.say(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).answer()
    }

    /// A POST of this body on this connection and its response.
    pub(crate) fn post(&mut self, path: &str, body: &str) -> Message {
        let length = body.len();
        self.say(format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}"))
            .answer()
    }

    /// Fails unless the connection is closed now, without another byte.
    pub(crate) fn expect_end(&mut self) {
        assert!(self.0.at_end(), "the connection should be closed; received {:?}", self.tail());
    }

    fn tail(&self) -> String {
        let from = self.0.received.len().saturating_sub(400);
        super::wire::latin1(&self.0.received[from..])
    }

    /// Gives the wire back, for a reset.
    pub(crate) fn into_wire(self) -> Wire {
        self.0
    }
}

/// A GET on a connection of its own.
pub(crate) fn get(to: SocketAddr, path: &str) -> Message {
    ask(to, format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))
}

/// Any request without HEAD's rule on a connection of its own, and its (final) response.
pub(crate) fn ask(to: SocketAddr, request: impl AsRef<[u8]>) -> Message {
    let mut client = Client::connect(to);
    client.say(request);
    loop {
        let message = client.answer();
        if message.status() >= 200 {
            return message;
        }
    }
}

/// One exchange over a unix socket, as text.
pub(crate) fn exchange_unix(mut socket: UnixStream, request: &str) -> String {
    use std::io::{Read as _, Write as _};
    socket.write_all(request.as_bytes()).expect("it takes a request");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("an answer");
    answer
}
