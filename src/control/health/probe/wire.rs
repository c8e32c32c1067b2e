//! The connection that a probe talks through, and the notes that it takes on the way: they outlive a probe that is cut
//! by its limit, so that a timeout says how far it came.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpSocket, UnixStream};
use tokio::time::Instant;

use super::outcome::{EVIDENCE_MAX, Phases, Reading};
use super::{Asked, timeout};
use crate::control::tls::TlsClient;
use crate::model::address::Address;
use crate::model::proxy_protocol::Version;
use crate::proxy::proxy_protocol::write::of_ourselves;
use crate::proxy::upstream::dial::SentFrom;

/// How long a polite end of a connection may take; the result of the probe is known by then.
const PARTING_MAX: Duration = Duration::from_millis(250);

/// Bytes that are thrown away while the peer is given time to close.
const PARTING_BYTES_MAX: usize = 16 * 1024;

/// Bytes behind the part of an answer that mattered, which are read all the same before the connection ends.
const HEARD_OUT_BYTES_MAX: usize = 64 * 1024;

/// Anything that bytes go through.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Close {
    /// With a reset, which leaves no TIME_WAIT behind: thousands of probes would use up the ports.
    Reset,
    /// With a FIN, for servers that count resets as attacks.
    Polite,
}

/// A connection of one probe, which notes what arrives.
pub(super) struct Wire {
    stream: Box<dyn Stream>,
    address: Address,
    notes: Notes,
}

/// Connects.
pub(super) async fn connect(address: Address, close: Close, notes: &Notes) -> Asked<Wire> {
    let address = match address {
        Address::Ip(address) => address,
        Address::Unix(path) => {
            let stream = UnixStream::connect(path.as_path()).await;
            let stream = stream.map_err(|error| Reading::fault("while connecting", &error))?;
            notes.reached(Stage::Answer, |phases| &mut phases.connect);
            return Ok(Wire { stream: Box::new(stream), address: path.into(), notes: notes.clone() });
        }
    };
    let connected = async {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_nodelay(true)?;
        if let Some(source) = notes.source {
            SentFrom::Own(source).bind(&socket, address)?;
        }
        if close == Close::Reset {
            socket.set_zero_linger()?;
        }
        let mut stream = socket.connect(address).await?;
        if let Some(version) = notes.header {
            stream.write_all(of_ourselves(version)).await?;
        }
        Ok(stream)
    };
    let stream = connected.await.map_err(|error: io::Error| Reading::fault("while connecting", &error))?;
    notes.reached(Stage::Answer, |phases| &mut phases.connect);
    Ok(Wire { stream: Box::new(stream), address: address.into(), notes: notes.clone() })
}

/// Connects, and makes the TLS handshake where there is a client for it.
pub(super) async fn connect_over(
    tls: Option<&TlsClient>,
    alpn: &[&[u8]],
    address: Address,
    notes: &Notes,
) -> Asked<Wire> {
    let wire = connect(address, Close::Reset, notes).await?;
    match tls {
        Some(tls) => wire.over_tls(tls, alpn).await,
        None => Ok(wire),
    }
}

impl Wire {
    /// Makes the TLS handshake on this connection and goes on inside it.
    pub(super) async fn over_tls(self, tls: &TlsClient, alpn: &[&[u8]]) -> Asked<Self> {
        let Self { stream, address, notes } = self;
        notes.handshake_begins();
        let stream = tls
            .connect(stream, (notes.host.as_deref(), address), alpn)
            .await
            .map_err(|error| Reading::fault("in the TLS handshake", &error))?;
        notes.reached(Stage::Answer, |phases| &mut phases.tls);
        Ok(Self { stream: Box::new(stream), address, notes })
    }

    /// Sends all of `bytes`.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Asked<()> {
        let sent = async {
            self.write_all(bytes).await?;
            self.flush().await
        };
        sent.await.map_err(|error| Reading::fault("while sending", &error))
    }

    /// Reads more of the answer behind `held`, never beyond `max` bytes of it; false at its end.
    pub(super) async fn more(&mut self, held: &mut Vec<u8>, max: usize) -> Asked<bool> {
        let room = max.saturating_sub(held.len());
        if room == 0 {
            return Err(Reading::broken(format!("an answer of more than {max} bytes")));
        }
        let read = (&mut *self).take(room as u64).read_buf(held).await;
        read.map(|count| count > 0).map_err(|error| Reading::fault(doing(held), &error))
    }

    /// Reads until `read` knows what the answer means, over at most `max` bytes.
    pub(super) async fn answer<T>(
        &mut self,
        max: usize,
        mut read: impl FnMut(&[u8]) -> Option<T>,
    ) -> Asked<T> {
        let mut held = Vec::new();
        while self.more(&mut held, max).await? {
            if let Some(read) = read(&held) {
                return Ok(read);
            }
        }
        Err(Reading::broken(format!("connection closed {}", doing(&held))))
    }

    /// Says that nothing more comes from us, and waits until the peer has closed too. What it still sends is dropped.
    pub(super) async fn finish(&mut self) -> io::Result<()> {
        self.shutdown().await?;
        self.drop_up_to(PARTING_BYTES_MAX).await.map(drop)
    }

    /// Reads and drops what the peer still sends, until it closes or that many bytes have come; whether it has closed.
    async fn drop_up_to(&mut self, max: usize) -> io::Result<bool> {
        let mut dropped = [0; 4096];
        let mut count = 0;
        while count < max {
            match self.read(&mut dropped).await? {
                0 => return Ok(true),
                more => count += more,
            }
        }
        Ok(false)
    }
}

fn doing(held: &[u8]) -> &'static str {
    if held.is_empty() { "before an answer" } else { "within the answer" }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.notes.arrived(buffer.filled().get(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A connection that is to be ended as its protocol wants it, after the result is known.
pub(super) enum Parting {
    /// We have the last words.
    Words {
        /// The connection.
        wire: Wire,
        /// The words.
        farewell: Vec<u8>,
    },
    /// The peer was asked to close once it has said all, and is heard out: it may be writing, and a reset would be its
    /// error. Since it closes first, no TIME_WAIT stays with us.
    HeardOut(Wire),
}

impl Parting {
    /// Ends it, a peer that is heard out within what is `left` of the probe's time. Whether the peer likes it changes
    /// nothing any more.
    pub(super) async fn say(self, left: Duration) {
        match self {
            Self::Words { mut wire, farewell } => {
                let goodbye = async {
                    wire.write_all(&farewell).await?;
                    wire.finish().await
                };
                drop(timeout(PARTING_MAX, goodbye).await);
            }
            Self::HeardOut(mut wire) => {
                let hearing = async {
                    if wire.drop_up_to(HEARD_OUT_BYTES_MAX).await? { wire.shutdown().await } else { Ok(()) }
                };
                drop(timeout(PARTING_MAX.min(left), hearing).await);
            }
        }
    }
}

/// The step that a probe is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connect,
    Tls,
    Answer,
    Program,
}

/// What a probe notes while it runs, beside how it connects. Clones are the same notes.
#[derive(Debug, Clone)]
pub(super) struct Notes {
    pub(super) source: Option<IpAddr>,
    header: Option<Version>,
    host: Option<Arc<str>>,
    started: Instant,
    noted: Arc<Mutex<Noted>>,
}

#[derive(Debug)]
struct Noted {
    stage: Stage,
    phases: Phases,
    bytes: Vec<u8>,
}

impl Notes {
    /// Starts the watch of a probe that connects from `source`, or from what the system takes, to an endpoint with a name
    /// where it has one, and begins with a PROXY header of its own.
    pub(super) fn start(source: Option<IpAddr>, header: Option<Version>, host: Option<Arc<str>>) -> Self {
        let noted = Noted { stage: Stage::Connect, phases: Phases::default(), bytes: Vec::new() };
        Self { source, header, host, started: Instant::now(), noted: Arc::new(Mutex::new(noted)) }
    }

    /// Time since the start.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// A TLS handshake begins; what came before it was about TLS and is no answer.
    fn handshake_begins(&self) {
        let mut noted = self.lock();
        noted.stage = Stage::Tls;
        noted.phases.first_byte = None;
        noted.bytes.clear();
    }

    /// A program runs.
    pub(super) fn program_begins(&self) {
        self.lock().stage = Stage::Program;
    }

    /// A step is done, and the next one begins.
    fn reached(&self, next: Stage, phase: impl Fn(&mut Phases) -> &mut Option<Duration>) {
        let elapsed = self.elapsed();
        let mut noted = self.lock();
        *phase(&mut noted.phases) = Some(elapsed);
        noted.stage = next;
    }

    /// Bytes of the answer arrived.
    pub(super) fn arrived(&self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let elapsed = self.elapsed();
        let mut noted = self.lock();
        noted.phases.first_byte.get_or_insert(elapsed);
        let room = EVIDENCE_MAX.saturating_sub(noted.bytes.len());
        noted.bytes.extend(bytes.iter().take(room));
    }

    /// What of the answer is worth showing, in the place of what was read so far.
    pub(super) fn answered_with(&self, bytes: &[u8]) {
        if !bytes.is_empty() {
            let shown = bytes.get(..EVIDENCE_MAX).unwrap_or(bytes);
            self.lock().bytes = shown.to_vec();
        }
    }

    /// Whether the connection stood.
    pub(super) fn is_connected(&self) -> bool {
        self.lock().phases.connect.is_some()
    }

    /// How far a probe came that had no more time.
    pub(super) fn timed_out(&self) -> &'static str {
        let noted = self.lock();
        match noted.stage {
            Stage::Connect => "timeout while connecting",
            Stage::Tls => "timeout in the TLS handshake",
            Stage::Answer if noted.phases.first_byte.is_none() => "timeout before an answer",
            Stage::Answer => "timeout within the answer",
            Stage::Program => "timeout, and the program was killed",
        }
    }

    /// What was noted, at the end.
    pub(super) fn evidence(&self, total: Duration) -> (Phases, Vec<u8>) {
        let noted = self.lock();
        (Phases { total, ..noted.phases }, noted.bytes.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
