//! TLS over a socket, for both sides of the proxy: the handshake, then bytes as [`Stream`](super::stream::Stream) wants
//! them. Which certificates, names and trust there are is decided where the settings are compiled.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use rustix::net::{Shutdown, shutdown};
use rustls::client::ClientConnection;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::{Accepted, Acceptor, ClientHello};
use rustls::{
    CertificateError, CipherSuite, ClientConfig, Connection, HandshakeKind, ProtocolVersion, ServerConfig,
    SupportedCipherSuite,
};

use super::stream::Socket;
use crate::runtime::counters::WorkerId;
use crate::runtime::listener::ListenerLive;
use crate::runtime::tls::handshake::{Excess, HandshakeFailure};
use crate::runtime::tls::listener::{ClientCertificate, Demand, client_certificate};

/// What is read of one who was refused, and for how long. No settings: a round trip, and what a client sends in it.
const PARTING_MAX: usize = 64 * 1024;
const PARTING_TIMEOUT: Duration = Duration::from_millis(500);

/// Why there is no TLS connection.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The socket failed, or ended before the handshake did.
    #[error("{0}")]
    Socket(#[from] io::Error),
    /// One of the two sides refused.
    #[error("{0}")]
    Refused(#[from] rustls::Error),
}

impl HandshakeError {
    /// Its kind, as it is counted of clients.
    #[must_use]
    pub const fn failure(&self) -> HandshakeFailure {
        use rustls::Error as E;
        match self {
            Self::Socket(_) => HandshakeFailure::Closed,
            Self::Refused(error) => match error {
                E::PeerIncompatible(_) => HandshakeFailure::Incompatible,
                E::NoApplicationProtocol => HandshakeFailure::Alpn,
                E::NoCertificatesPresented | E::InvalidCertificate(_) => HandshakeFailure::ClientCertificate,
                E::AlertReceived(_) => HandshakeFailure::Alert,
                E::InappropriateMessage { .. }
                | E::InappropriateHandshakeMessage { .. }
                | E::InvalidMessage(_)
                | E::PeerMisbehaved(_)
                | E::DecryptError
                | E::PeerSentOversizedRecord => HandshakeFailure::Malformed,
                _ => HandshakeFailure::Internal,
            },
        }
    }
}

/// What the handshake with a client has come to, for rules, headers and the log.
#[derive(Debug, Clone)]
pub struct Secured {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The cipher suite, by its name at IANA.
    pub cipher: &'static str,
    /// The name that the client asked for (SNI).
    pub server_name: Option<String>,
    /// Whether an earlier session was resumed.
    pub is_resumed: bool,
    /// The certificate that the client has shown.
    pub client: Option<ClientCertificate>,
    /// What it was asked for.
    pub asked: Demand,
}

/// A TLS connection whose handshake is done.
#[derive(Debug)]
pub struct Tls {
    socket: Socket,
    session: RefCell<Connection>,
    /// Bytes that [`Tls::try_write`] has encrypted and could not send yet: still the caller's.
    taken: Cell<usize>,
    /// There may be bytes to read that the socket knows nothing of any more.
    more: Cell<bool>,
    /// The other side has said that nothing follows. The socket may go on without a word, so it cannot be asked for that.
    ended: Cell<bool>,
    /// Nothing is said at the end: it is closed already, or has been given up.
    silent: Cell<bool>,
    /// What is known of a client.
    secured: Option<Box<Secured>>,
    /// Where a client is counted that does something too often.
    counted: Option<(Arc<ListenerLive>, WorkerId)>,
}

/// The socket as rustls wants it.
struct Wire<'a>(&'a Socket);

impl Read for Wire<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(room)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(pieces)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The socket itself, whatever the runtime knows of it.
struct Asked<'a>(&'a Socket);

impl Read for Asked<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.0.ask(room)
    }
}

/// A client that has said hello, and has cost next to nothing so far.
pub struct Greeted {
    socket: Socket,
    accepted: Accepted,
}

impl Greeted {
    /// Waits for the hello of a client that has connected.
    ///
    /// # Errors
    /// [`HandshakeError`]; the client has been told why where it could be. No time limit of its own.
    pub async fn hear(socket: Socket) -> Result<Self, HandshakeError> {
        let mut acceptor = Acceptor::default();
        let accepted = loop {
            match would_block(acceptor.read_tls(&mut Wire(&socket)))? {
                None => socket.readable().await?,
                Some(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Some(_) => match acceptor.accept() {
                    Ok(None) => {}
                    Ok(Some(accepted)) => break accepted,
                    Err((error, mut alert)) => {
                        alert.write_all(&mut Wire(&socket)).ok();
                        return Err(part(&socket, error).await);
                    }
                },
            }
        };
        Ok(Self { socket, accepted })
    }

    /// The rest of the handshake, as `choose` has it for what the client asks for.
    ///
    /// # Errors
    /// As [`Greeted::hear`].
    pub async fn answer(
        self,
        choose: impl FnOnce(&ClientHello<'_>) -> (Arc<ServerConfig>, Demand),
    ) -> Result<Tls, HandshakeError> {
        let Self { socket, accepted } = self;
        let (config, asked) = choose(&accepted.client_hello());
        let session = match accepted.into_connection(config) {
            Ok(session) => session,
            Err((error, mut alert)) => {
                alert.write_all(&mut Wire(&socket)).ok();
                return Err(part(&socket, error).await);
            }
        };
        let mut tls = Tls::shake_hands(socket, Connection::Server(session)).await?;
        let secured = tls.know(asked);
        // The authority of a resumed session was asked when it began; since then its time may have run out.
        if secured.is_resumed && secured.client.as_ref().is_some_and(|client| !client.is_current) {
            return Err(rustls::Error::InvalidCertificate(CertificateError::Expired).into());
        }
        tls.secured = Some(Box::new(secured));
        Ok(tls)
    }
}

impl Tls {
    fn know(&self, asked: Demand) -> Secured {
        let session = self.session.borrow();
        Secured {
            version: match session.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
                _ => "TLSv1.2",
            },
            cipher: session.negotiated_cipher_suite().map_or("", |suite| name_of(suite.suite())),
            server_name: self.server_name(),
            is_resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
            client: session
                .peer_certificates()
                .and_then(|chain| client_certificate(chain, SystemTime::now())),
            asked,
        }
    }

    /// From now on a client that does something too often is counted at its listener.
    pub fn count_at(&mut self, live: Arc<ListenerLive>, worker: WorkerId) {
        self.counted = Some((live, worker));
    }

    /// What is known of the client; nothing where we are the client.
    #[must_use]
    pub fn secured(&self) -> Option<&Secured> {
        self.secured.as_deref()
    }

    /// The handshake with an endpoint that has been connected to.
    ///
    /// # Errors
    /// [`HandshakeError`]; the endpoint has been told why where it could be. No time limit of its own.
    pub async fn connect(
        socket: Socket,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, HandshakeError> {
        Self::shake_hands(socket, Connection::Client(ClientConnection::new(config, name)?)).await
    }

    async fn shake_hands(socket: Socket, mut session: Connection) -> Result<Self, HandshakeError> {
        loop {
            while session.wants_write() {
                if would_block(session.write_tls(&mut Wire(&socket)))?.is_none() {
                    socket.writable().await?;
                }
            }
            if !session.is_handshaking() {
                break;
            }
            match would_block(session.read_tls(&mut Wire(&socket)))? {
                None => socket.readable().await?,
                Some(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Some(_) => {
                    if let Err(error) = session.process_new_packets() {
                        // It is told why, if it takes that at once.
                        session.write_tls(&mut Wire(&socket)).ok();
                        return Err(part(&socket, error).await);
                    }
                }
            }
        }
        Ok(Self {
            socket,
            session: RefCell::new(session),
            taken: Cell::new(0),
            more: Cell::new(true),
            ended: Cell::new(false),
            silent: Cell::new(false),
            secured: None,
            counted: None,
        })
    }

    /// The socket underneath.
    #[must_use]
    pub const fn socket(&self) -> &Socket {
        &self.socket
    }

    /// The protocol that was agreed on (ALPN, RFC 7301).
    #[must_use]
    pub fn alpn(&self) -> Option<Vec<u8>> {
        self.session.borrow().alpn_protocol().map(<[u8]>::to_vec)
    }

    /// The name that the client asked for (SNI); nothing where we are the client.
    #[must_use]
    pub fn server_name(&self) -> Option<String> {
        match &*self.session.borrow() {
            Connection::Server(session) => session.server_name().map(str::to_owned),
            Connection::Client(_) => None,
        }
    }

    /// The version of TLS.
    #[must_use]
    pub fn version(&self) -> Option<ProtocolVersion> {
        self.session.borrow().protocol_version()
    }

    /// The cipher suite.
    #[must_use]
    pub fn cipher(&self) -> Option<SupportedCipherSuite> {
        self.session.borrow().negotiated_cipher_suite()
    }

    /// The name of the version as OpenSSL has it: `TLSv1.3`.
    #[must_use]
    pub fn version_name(&self) -> String {
        self.version().map(|version| format!("{version:?}").replace('_', ".")).unwrap_or_default()
    }

    /// The name of the cipher suite as OpenSSL has it.
    #[must_use]
    pub fn cipher_name(&self) -> String {
        self.cipher().map(|suite| openssl_name(&format!("{:?}", suite.suite()))).unwrap_or_default()
    }

    /// The certificates that the other side has shown, its own first.
    #[must_use]
    pub fn peer_certificates(&self) -> Option<Vec<CertificateDer<'static>>> {
        self.session.borrow().peer_certificates().map(<[_]>::to_vec)
    }

    /// Whether an earlier session was resumed.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.session.borrow().handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Ready when there may be something to read, or an end.
    ///
    /// # Errors
    /// As the runtime.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.more.get() { Poll::Ready(Ok(())) } else { self.socket.poll_read_ready(cx) }
    }

    /// Reads once; 0 is the end. One that the other side does not announce (close_notify, RFC 8446 section 6.1) is an
    /// end where that is a client, which has asked for what it wants by then; of an endpoint it is an error, for a cut-off
    /// answer must not look like a whole one.
    ///
    /// # Errors
    /// As the socket and as TLS; `WouldBlock` when nothing is there.
    pub fn try_read(&self, room: &mut [u8]) -> io::Result<usize> {
        let mut session = self.session.borrow_mut();
        loop {
            match session.reader().read(room) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return if matches!(*session, Connection::Server(_)) { Ok(0) } else { Err(error) };
                }
                done => {
                    self.more.set(self.ended.get() || matches!(done, Ok(n) if n == 0 || n == room.len()));
                    return done;
                }
            }
            self.more.set(false);
            self.receive(&mut session)?;
        }
    }

    /// Takes in what the socket has.
    fn receive(&self, session: &mut Connection) -> io::Result<usize> {
        let n = session.read_tls(&mut Wire(&self.socket))?;
        match session.process_new_packets() {
            Ok(state) => {
                self.ended.set(state.peer_has_closed());
                // What TLS itself has to say, such as that there is no renegotiation, waits for no data of ours.
                self.send(session).ok();
            }
            Err(error) => {
                if let (Some(excess), Some((live, worker))) = (Excess::of(&error), &self.counted) {
                    live.counters.of(*worker).tls.excess[excess as usize].one();
                }
                session.write_tls(&mut Wire(&self.socket)).ok();
                self.silent.set(true);
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
        Ok(n)
    }

    /// Encrypts and sends. What it took is on its way when it returns; where it would block, the next call must have the
    /// same bytes in front.
    ///
    /// # Errors
    /// As the socket; `WouldBlock` when it takes nothing more now.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut session = self.session.borrow_mut();
        while self.taken.get() == 0 && !bytes.is_empty() {
            self.taken.set(session.writer().write(bytes)?);
            self.send(&mut session)?;
        }
        self.send(&mut session)?;
        Ok(self.taken.take())
    }

    /// Encrypts what there is room for, and sends what the socket takes: [`Tls::flush`] sends the rest.
    ///
    /// # Errors
    /// As the socket; `WouldBlock` when there is room for nothing.
    pub fn take_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut session = self.session.borrow_mut();
        loop {
            let n = session.writer().write_vectored(pieces)?;
            match self.send(&mut session) {
                Err(error) if n == 0 || error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                Ok(()) if n == 0 && pieces.iter().any(|piece| !piece.is_empty()) => {}
                _ => return Ok(n),
            }
        }
    }

    /// Sends what is encrypted.
    ///
    /// # Errors
    /// As the socket; `WouldBlock` when something is left.
    pub fn flush(&self) -> io::Result<()> {
        self.send(&mut self.session.borrow_mut())
    }

    fn send(&self, session: &mut Connection) -> io::Result<()> {
        while session.wants_write() {
            session.write_tls(&mut Wire(&self.socket))?;
        }
        Ok(())
    }

    /// Says that nothing follows.
    pub fn close(&self) {
        if !self.silent.replace(true) {
            let mut session = self.session.borrow_mut();
            session.send_close_notify();
            // A client that does not take it now sees the socket's end.
            self.send(&mut session).ok();
        }
    }

    /// The connection ends without a word.
    pub fn abandon(&self) {
        self.silent.set(true);
    }

    /// Whether nothing has arrived on an idle connection but what TLS keeps to itself, such as session tickets.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let mut session = self.session.borrow_mut();
        loop {
            match session.read_tls(&mut Asked(&self.socket)) {
                Ok(0) => return false,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(_) => return false,
                Ok(_) => {}
            }
            let state = session.process_new_packets();
            if !state.is_ok_and(|state| state.plaintext_bytes_to_read() == 0 && !state.peer_has_closed()) {
                self.more.set(true);
                return false;
            }
        }
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        self.close();
    }
}

/// Ends a connection whose other side has just been told why: what it has sent meanwhile is read, for otherwise the close
/// would be a reset, which overtakes what it was told.
async fn part(socket: &Socket, error: rustls::Error) -> HandshakeError {
    if matches!(error, rustls::Error::AlertReceived(_)) {
        return error.into();
    }
    shutdown(socket, Shutdown::Write).ok();
    let mut left = PARTING_MAX;
    let mut scratch = [0; 1024];
    let read = async {
        while left > 0 {
            match would_block(socket.try_read(&mut scratch)) {
                Ok(None) if socket.readable().await.is_ok() => {}
                Ok(Some(n)) if n > 0 => left = left.saturating_sub(n),
                _ => return,
            }
        }
    };
    tokio::time::timeout(PARTING_TIMEOUT, read).await.ok();
    error.into()
}

/// A name of IANA's registry; rustls calls those of TLS 1.3 otherwise.
fn name_of(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        other => other.as_str().unwrap_or(""),
    }
}

/// The name of a cipher suite as OpenSSL, and so everybody who compares names, has it: that of the registry for TLS 1.3, an older
/// one before it.
fn openssl_name(name: &str) -> String {
    if let Some(rest) = name.strip_prefix("TLS13_") {
        return format!("TLS_{rest}");
    }
    let name = name.strip_prefix("TLS_").unwrap_or(name).replace("_WITH_", "_").replace("AES_", "AES");
    let name = if name.contains("CHACHA20") { name.trim_end_matches("_SHA256") } else { &name };
    name.replace('_', "-")
}

/// Nothing where it would block.
fn would_block<T>(done: io::Result<T>) -> io::Result<Option<T>> {
    match done {
        Ok(done) => Ok(Some(done)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
#[path = "tls/tests.rs"]
mod tests;
