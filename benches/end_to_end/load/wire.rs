//! A client's connection as a stream of bytes that never blocks, with TLS on it or without.

use std::io::{Error, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use crate::certificate::HOST;

/// Most that is taken from a socket at once.
const READ: usize = 256 << 10;
/// The longest TLS record: what may be left over from the read before.
const RECORD: usize = 17 << 10;

/// Where bytes are read to; all connections take turns.
pub(super) struct Buffers {
    plain: Vec<u8>,
    sealed: Vec<u8>,
}

impl Buffers {
    pub(super) fn new() -> Self {
        Self { plain: vec![0; READ + RECORD], sealed: vec![0; READ] }
    }

    /// What the last read brought.
    pub(super) fn plain(&self, length: usize) -> &[u8] {
        &self.plain[..length]
    }
}

pub(super) enum Wire {
    Plain(TcpStream),
    Tls(TcpStream, Box<ClientConnection>),
}

impl Wire {
    /// Connecting blocks, which over loopback is no wait while the backlog has room; the handshake goes on by `read`.
    pub(super) fn open(target: SocketAddr, tls: Option<&Arc<ClientConfig>>) -> std::io::Result<Self> {
        let socket = TcpStream::connect(target)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let Some(tls) = tls else { return Ok(Self::Plain(socket)) };
        let name = ServerName::try_from(HOST).map_err(Error::other)?;
        let session = ClientConnection::new(tls.clone(), name).map_err(Error::other)?;
        Ok(Self::Tls(socket, Box::new(session)))
    }

    pub(super) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) | Self::Tls(socket, _) => socket,
        }
    }

    /// Messages are small: a socket that has no room for one is an error.
    pub(super) fn write(&mut self, message: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Plain(socket) => socket.write_all(message),
            Self::Tls(socket, session) => {
                // During the handshake it is kept, and goes out with what ends that.
                session.writer().write_all(message)?;
                flush(socket, session)
            }
        }
    }

    /// Reads once, as from a socket: 0 is the end, `WouldBlock` that nothing but the protocol's own has come.
    pub(super) fn read(&mut self, buffers: &mut Buffers) -> std::io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(&mut buffers.plain[..READ]),
            Self::Tls(socket, session) => {
                let length = socket.read(&mut buffers.sealed)?;
                if length == 0 {
                    return Ok(0);
                }
                let opened = open_records(session, &buffers.sealed[..length], &mut buffers.plain)?;
                flush(socket, session)?;
                if opened > 0 { Ok(opened) } else { Err(ErrorKind::WouldBlock.into()) }
            }
        }
    }
}

fn open_records(
    session: &mut ClientConnection,
    mut sealed: &[u8],
    plain: &mut [u8],
) -> std::io::Result<usize> {
    let mut opened = 0;
    // Once a close_notify has come, nothing more is taken.
    while !sealed.is_empty() && session.read_tls(&mut sealed)? > 0 {
        session.process_new_packets().map_err(Error::other)?;
        loop {
            match session.reader().read(&mut plain[opened..]) {
                Ok(0) => break,
                Ok(length) => opened += length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
    }
    Ok(opened)
}

fn flush(socket: &mut TcpStream, session: &mut ClientConnection) -> std::io::Result<()> {
    while session.wants_write() {
        session.write_tls(socket)?;
    }
    Ok(())
}
