//! The TLS handshake of a client: its place among the handshakes, its deadline, and what is counted and logged of it. What
//! is shown and asked for is `runtime::tls`'s, the bytes are `tls`'s.
//!
//! Sessions are never renegotiated: rustls does not know how to. A client of TLS 1.2 that asks for it is told
//! `no_renegotiation` (RFC 5746 section 4.5), and cut off when it asks again.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use super::connection::Client;
use super::stream::Stream;
use super::tls::{Greeted, HandshakeError, Secured};
use super::worker::Worker;
use crate::runtime::listener::{Listener, Protocol};
use crate::runtime::tls::handshake::HandshakeFailure;
use crate::telemetry::access_log::{Phases, Record, Secure, Termination};

/// Shakes hands with a client of a listener that has TLS; nothing where that fails. One whose listener has none stays as it
/// is.
/// So does one that passes its client's TLS through. The time for it began at `start`.
pub async fn secure(client: Client, start: Instant) -> Option<Client> {
    let snapshot = client.snapshot()?;
    let listener = client.listener(&snapshot)?;
    let Some(tls) = listener.tls.clone().filter(|_| is_for_us(listener, &client)) else {
        return Some(client);
    };
    let (live, limit) = (listener.live.clone(), listener.handshakes_max);
    client.timer.set(start + listener.timeouts.tls_handshake);
    // Nothing that a reload replaces is held for as long as a client takes.
    drop(snapshot);
    let record = Failed {
        worker: Rc::clone(&client.worker),
        peer: client.peer,
        source: client.source(),
        listener: client.listener_place() as usize,
        start,
    };
    let counters = &live.counters.of(client.worker.id).tls;
    let socket = match client.stream {
        Stream::Plain(socket) => socket,
        stream @ (Stream::Tls(_) | Stream::Paced(_)) => return Some(Client { stream, ..client }),
    };
    let greeted = match client.timer.within(Greeted::hear(socket)).await {
        Ok(Ok(greeted)) => greeted,
        Ok(Err(error)) => return record.failed(&error),
        Err(_) => return record.note(HandshakeFailure::Timeout),
    };
    // Only now: who connects and says nothing takes nobody's place.
    let place = match live.handshakes.try_enter(limit) {
        Some(place) => place,
        None => {
            counters.waited.one();
            let Ok(place) = client.timer.within(live.handshakes.enter(limit)).await else {
                return record.note(HandshakeFailure::Timeout);
            };
            place
        }
    };
    let shaken = client.timer.within(greeted.answer(|hello| tls.choose(hello))).await;
    drop(place);
    match shaken {
        Ok(Ok(mut done)) => {
            done.count_at(Arc::clone(&live), client.worker.id);
            let is_resumed = done.secured().is_some_and(|secured| secured.is_resumed);
            if is_resumed {
                counters.resumed.one()
            } else {
                counters.full.one()
            }
            client.timer.clear();
            Some(Client { stream: done.into(), ..client })
        }
        Ok(Err(error)) => record.failed(&error),
        Err(_) => record.note(HandshakeFailure::Timeout),
    }
}

/// Whether it is with us that the client is to shake hands, and not with an endpoint.
fn is_for_us(listener: &Listener, client: &Client) -> bool {
    let Protocol::Tcp { sni: Some(routes), .. } = &listener.protocol else { return true };
    let target = client.server_name().and_then(|name| routes.table.find(name));
    !target.is_some_and(|target| target.passthrough)
}

/// What is told of a handshake that came to nothing.
struct Failed {
    worker: Rc<Worker>,
    peer: SocketAddr,
    source: SocketAddr,
    listener: usize,
    start: Instant,
}

impl Failed {
    fn failed(&self, error: &HandshakeError) -> Option<Client> {
        tracing::debug!(client = %self.peer, %error, "a TLS handshake failed");
        self.note(error.failure())
    }

    fn note(&self, failure: HandshakeFailure) -> Option<Client> {
        let worker = &*self.worker;
        let snapshot = worker.snapshot_of(self.listener)?;
        let listener = snapshot.listeners.get(self.listener)?;
        if let Some(counter) = listener.live.counters.of(worker.id).tls.failed.get(failure as usize) {
            counter.one();
        }
        if failure == HandshakeFailure::Timeout {
            listener.live.counters.of(worker.id).greeting_timeouts.one();
        }
        let termination = match failure {
            HandshakeFailure::Timeout => Termination::TlsTimeout,
            HandshakeFailure::Closed => Termination::ClientAborted,
            _ => Termination::TlsFailed,
        };
        worker.count_end(&listener.live, 0, termination);
        let total = self.start.elapsed();
        let mut log = worker.access_log.try_borrow_mut().ok()?;
        log.log(&Record {
            at: SystemTime::now() - total,
            client: self.source,
            peer: self.peer,
            listener: listener.name.as_str(),
            route: None,
            pool: None,
            endpoint: None,
            attempts: 0,
            protocol: "TLS",
            tls: None,
            method: b"",
            host: b"",
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
        None
    }
}

impl Secured {
    /// For the log.
    #[must_use]
    pub fn logged(&self) -> Secure<'_> {
        Secure {
            version: self.version,
            cipher: self.cipher,
            is_resumed: self.is_resumed,
            server_name: self.server_name.as_deref().unwrap_or_default().as_bytes(),
            client: self.client.as_ref().map(|client| client.subject.as_str()).unwrap_or_default().as_bytes(),
            client_sha256: self.client.as_ref().map(|client| client.sha256.as_str()).unwrap_or_default(),
        }
    }
}
