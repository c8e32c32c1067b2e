//! What a connection tells before its protocol begins: whom it is from (a PROXY header) and, on tcp listeners that go by it, which
//! name its TLS client asks for. All of it within `timeouts.tls_handshake`.
//!
//! Bytes are looked at where they lie in the socket. A header is then taken out, to the byte; a ClientHello stays, for whoever
//! speaks TLS, here or at the endpoint.

use std::io;
use std::net::SocketAddr;

use tokio::io::Interest;
use tokio::time::Instant;

use super::client_hello::{self, Unreadable};
use super::connection::Client;
use super::listener;
use super::proxy_protocol::read::{self, Malformed};
use super::proxy_protocol::{Header, Transport};
use super::stream::Socket;
use crate::runtime::counters::Counter;
use crate::runtime::listener::{Listener, ListenerCounters, Protocol};
use crate::runtime::sources::SourcePlace;
use crate::telemetry::access_log::{Phases, Record, Termination};

/// What a connection has told of itself.
#[derive(Debug, Default)]
pub struct Introduction {
    /// Its place under the ceiling per source.
    pub place: Option<SourcePlace>,
    /// What its PROXY header says.
    pub header: Option<Header>,
    /// The name in its ClientHello, where one was looked for.
    pub server_name: Option<Box<str>>,
}

/// Why a connection ends before its protocol has begun.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It has ended by itself; nothing was ever sent on it where there were no bytes.
    #[error("the client left")]
    Gone {
        /// Whether anything had come.
        bytes: bool,
    },
    /// What was awaited did not come in time.
    #[error("nothing complete arrived in time")]
    Timeout,
    /// A trusted peer began with something else.
    #[error("{0}")]
    Header(#[from] Malformed),
    /// Whom the header names may not connect, or has too many connections.
    #[error("the client that the PROXY header names may not connect")]
    Denied,
    /// No ClientHello, though it began like one.
    #[error("{0}")]
    Hello(Unreadable),
    /// No pool takes clients of this name, or without one.
    #[error("no pool takes this name")]
    Nowhere,
}

impl Refusal {
    const fn termination(&self) -> Termination {
        match self {
            Self::Gone { .. } => Termination::ClientAborted,
            Self::Timeout => Termination::ClientTimeout,
            Self::Header(Malformed::TooLong) | Self::Hello(Unreadable::TooLong) => Termination::Limit,
            Self::Header(_) | Self::Hello(_) => Termination::Refused,
            Self::Denied => Termination::Denied,
            Self::Nowhere => Termination::NoRoute,
        }
    }

    /// What counts it; what is denied has been counted by whoever denied it.
    const fn counter<'c>(&self, counters: &'c ListenerCounters) -> Option<&'c Counter> {
        Some(match self {
            Self::Gone { .. } | Self::Denied => return None,
            Self::Timeout => &counters.greeting_timeouts,
            Self::Header(Malformed::TooLong) => &counters.proxy_header_exceeded,
            Self::Header(_) => &counters.proxy_header_refused,
            Self::Hello(Unreadable::TooLong) => &counters.client_hello_exceeded,
            Self::Hello(_) => &counters.client_hello_refused,
            Self::Nowhere => &counters.unknown_names,
        })
    }
}

/// Whether anything is awaited of a connection before its protocol.
#[must_use]
pub fn is_due(listener: &Listener, peer: SocketAddr) -> bool {
    listener.is_introduced(peer.ip()) || matches!(listener.protocol, Protocol::Tcp { sni: Some(_), .. })
}

/// Hears a new connection out. Nothing when it ends here; that is counted and logged then.
pub async fn hear(mut client: Client) -> Option<Client> {
    let start = Instant::now();
    let snapshot = client.snapshot()?;
    let listener = client.listener(&snapshot)?;
    client.timer.set_after(listener.timeouts.tls_handshake);
    if listener.is_introduced(client.peer.ip()) {
        match take_header(&client, listener).await {
            Ok((header, place)) => {
                let introduction = client.introduction.get_or_insert_default();
                (introduction.header, introduction.place) = (Some(header), place);
            }
            Err(refusal) => {
                refuse(&client, listener, start, &refusal);
                return None;
            }
        }
    }
    if let Protocol::Tcp { sni: Some(routes), .. } = &listener.protocol {
        match look_for_name(&client, routes.hello_max).await {
            Ok(name) => client.introduction.get_or_insert_default().server_name = name,
            Err(refusal) => {
                refuse(&client, listener, start, &refusal);
                return None;
            }
        }
    }
    client.timer.clear();
    Some(client)
}

/// Takes the header off, and lets in whom it names.
async fn take_header(client: &Client, listener: &Listener) -> Result<(Header, Option<SourcePlace>), Refusal> {
    let max = listener.proxy_header_max.unwrap_or_default();
    let read = |bytes: &[u8]| match read::read(bytes, max, Transport::Stream)? {
        read::Progress::Whole { header, bytes } => Ok(Some((header, bytes))),
        read::Progress::Partial => Ok(None),
    };
    let (header, length) = look(client, max, read).await?;
    // It is there: what was seen is what is taken.
    let taken = client.stream.socket().ask(&mut vec![0; length]);
    if !matches!(taken, Ok(taken) if taken == length) {
        return Err(Refusal::Gone { bytes: true });
    }
    let source = header.addresses.map_or(client.peer, |addresses| addresses.source);
    let place = listener::admission(client.worker.id, listener, source.ip()).ok_or(Refusal::Denied)?;
    Ok((header, place))
}

/// The name in the ClientHello; nothing where there is none, which includes what is no TLS at all.
async fn look_for_name(client: &Client, max: usize) -> Result<Option<Box<str>>, Refusal> {
    let read = |bytes: &[u8]| match client_hello::read(bytes, max) {
        Ok(client_hello::Progress::Whole(name)) => Ok(Some(name)),
        Ok(client_hello::Progress::Partial) => Ok(None),
        Err(Unreadable::NotTls) => Ok(Some(None)),
        Err(unreadable) => Err(Refusal::Hello(unreadable)),
    };
    look(client, max, read).await
}

/// Looks at the first `max` bytes, again whenever more have come, until `read` has made something of them.
async fn look<T>(
    client: &Client,
    max: usize,
    read: impl Fn(&[u8]) -> Result<Option<T>, Refusal>,
) -> Result<T, Refusal> {
    let socket = client.stream.socket();
    let mut bytes = false;
    loop {
        let ended = match client.timer.within(socket.readable_or_ended()).await {
            Ok(Ok(ended)) => ended,
            Ok(Err(_)) => return Err(Refusal::Gone { bytes }),
            Err(_) => return Err(Refusal::Timeout),
        };
        match socket.try_io(Interest::READABLE, || peek(socket, max, &mut bytes, &read)) {
            Ok(read) => return read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !ended => {}
            Err(_) => return Err(Refusal::Gone { bytes }),
        }
    }
}

/// One look; `WouldBlock` when more has to come, which the runtime takes note of.
fn peek<T>(
    socket: &Socket,
    max: usize,
    some: &mut bool,
    read: &impl Fn(&[u8]) -> Result<Option<T>, Refusal>,
) -> io::Result<Result<T, Refusal>> {
    let mut bytes = vec![0; max];
    let n = socket.look(&mut bytes)?;
    if n == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    *some = true;
    match read(&bytes[..n]) {
        Ok(Some(read)) => Ok(Ok(read)),
        Ok(None) => Err(io::ErrorKind::WouldBlock.into()),
        Err(refusal) => Ok(Err(refusal)),
    }
}

/// Ends a connection with a reset, which tells the client at once that nobody is there for it.
pub fn refuse(client: &Client, listener: &Listener, start: Instant, refusal: &Refusal) {
    client.stream.reset_on_close();
    if matches!(refusal, Refusal::Gone { bytes: false }) {
        return;
    }
    let (worker, termination) = (&client.worker, refusal.termination());
    if let Some(counter) = refusal.counter(listener.live.counters.of(worker.id)) {
        counter.one();
    }
    tracing::debug!(peer = %client.peer, %refusal, "a connection ends before it has begun");
    worker.count_end(&listener.live, 0, termination);
    // A panic inside the log itself leaves no record, rather than another panic.
    let Ok(mut log) = worker.access_log.try_borrow_mut() else { return };
    let total = start.elapsed();
    log.log(&Record {
        at: std::time::SystemTime::now() - total,
        client: client.source(),
        peer: client.peer,
        listener: listener.name.as_str(),
        route: None,
        pool: None,
        endpoint: None,
        attempts: 0,
        tls: None,
        protocol: "TCP",
        method: b"",
        host: client.server_name().unwrap_or_default().as_bytes(),
        target: b"",
        status: 0,
        bytes_in: 0,
        bytes_out: 0,
        datagrams: None,
        phases: Phases { total, ..Phases::default() },
        termination,
        request_id: b"",
        trace_id: None,
        grpc_code: None,
    });
}
