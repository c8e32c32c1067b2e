//! Metrics of listeners: connections, requests, datagrams and TLS.

use std::collections::HashSet;
use std::time::SystemTime;

use super::Named;
use crate::runtime::counters::{Counter, Statuses};
use crate::runtime::listener::{Listener, ListenerCounters, Protocol};
use crate::runtime::tls::handshake::HandshakeFailure;
use crate::runtime::tls::listener::ListenerTls;
use crate::telemetry::metrics::{self as m, Sink};

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; counts stay far below 2^53")]
pub(super) fn collect_listener(sink: &mut dyn Sink, listener: &Listener) {
    let name = listener.name.as_str();
    let labels = [("listener", name)];
    let sum = |counter: fn(&ListenerCounters) -> &Counter| listener.live.counters.sum(counter);
    sink.gauge(&m::LISTENER_CONNECTIONS, &labels, listener.live.connections() as f64);
    sink.counter(&m::LISTENER_ACCEPTED, &labels, sum(|c| &c.accepted));
    let refused: [Named<ListenerCounters>; 5] = [
        ("denied", |c| &c.refused_address),
        ("per_source", |c| &c.refused_source),
        ("proxy_header", |c| &c.proxy_header_refused),
        ("client_hello", |c| &c.client_hello_refused),
        ("unknown_name", |c| &c.unknown_names),
    ];
    for (reason, counter) in refused {
        sink.counter(&m::LISTENER_REFUSED, &[("listener", name), ("reason", reason)], sum(counter));
    }
    sink.counter(&m::LISTENER_PAUSED, &labels, sum(|c| &c.paused));
    sink.counter(&m::LISTENER_ACCEPT_ERRORS, &labels, sum(|c| &c.accept_errors));
    for (word, class) in Statuses::WORDS.into_iter().enumerate() {
        let ended = listener.live.counters.sum(|c| c.ended.counter(word));
        sink.counter(&m::LISTENER_REQUESTS, &[("listener", name), ("class", class)], ended);
    }
    sink.counter(&m::LISTENER_BYTES_IN, &labels, sum(|c| &c.bytes_in));
    sink.counter(&m::LISTENER_BYTES_OUT, &labels, sum(|c| &c.bytes_out));
    if matches!(listener.protocol, Protocol::Udp { .. }) {
        collect_datagrams(sink, listener);
    }
    if let Some(tls) = &listener.tls {
        collect_tls(sink, listener, tls);
    }
}

fn collect_datagrams(sink: &mut dyn Sink, listener: &Listener) {
    let name = listener.name.as_str();
    let sum = |counter: fn(&ListenerCounters) -> &Counter| listener.live.counters.sum(counter);
    let ways: [Named<ListenerCounters>; 2] =
        [("in", |c| &c.udp.from_clients), ("out", |c| &c.udp.to_clients)];
    for (direction, counter) in ways {
        let labels = [("listener", name), ("direction", direction)];
        sink.counter(&m::LISTENER_DATAGRAMS, &labels, sum(counter));
    }
    let reasons: [Named<ListenerCounters>; 8] = [
        ("denied", |c| &c.refused_address),
        ("per_source", |c| &c.refused_source),
        ("max_connections", |c| &c.udp.dropped_full),
        ("udp_datagram", |c| &c.udp.dropped_oversized),
        ("waiting", |c| &c.udp.dropped_waiting),
        ("draining", |c| &c.udp.dropped_draining),
        ("unsent", |c| &c.udp.dropped_unsent),
        ("refused", |c| &c.udp.dropped_refused),
    ];
    for (reason, counter) in reasons {
        let labels = [("listener", name), ("reason", reason)];
        sink.counter(&m::LISTENER_DATAGRAMS_DROPPED, &labels, sum(counter));
    }
    sink.counter(&m::LISTENER_EVICTED, &[("listener", name)], sum(|c| &c.udp.evicted));
}

/// What came of the handshakes of a listener, and how long its certificates are good for.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; counts stay far below 2^53")]
fn collect_tls(sink: &mut dyn Sink, listener: &Listener, tls: &ListenerTls) {
    let name = listener.name.as_str();
    let done: [Named<ListenerCounters>; 2] = [("full", |c| &c.tls.full), ("resumed", |c| &c.tls.resumed)];
    for (result, counter) in done {
        let labels = [("listener", name), ("result", result)];
        sink.counter(&m::LISTENER_TLS_HANDSHAKES, &labels, listener.live.counters.sum(counter));
    }
    for (index, kind) in HandshakeFailure::ALL.into_iter().enumerate() {
        let failed = listener.live.counters.sum(|c| &c.tls.failed[index]);
        sink.counter(&m::LISTENER_TLS_FAILURES, &[("listener", name), ("kind", kind.word())], failed);
    }
    let misdirected = listener.live.counters.sum(|c| &c.tls.misdirected);
    sink.counter(&m::LISTENER_TLS_MISDIRECTED, &[("listener", name)], misdirected);
    sink.gauge(&m::LISTENER_TLS_NOW, &[("listener", name)], listener.live.handshakes.now() as f64);
    let mut told = HashSet::new();
    for certificate in tls.certificates.iter().filter(|one| told.insert(&one.path)) {
        let path = certificate.path.display().to_string();
        let expiry = certificate.facts.expires.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let labels = [("listener", name), ("certificate", path.as_str())];
        sink.gauge(&m::LISTENER_TLS_EXPIRY, &labels, expiry.as_secs_f64());
    }
}
