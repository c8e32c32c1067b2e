//! What the process says of itself: live state read into [`Status`] and into metrics.

mod admission;
mod limits;
mod listeners;
mod sticky;
mod treatment;

pub(super) use admission::queue_status;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::health::board::Board;
use super::journal::Kind;
use super::names::{NameState, Query};
use super::status::{
    BreakerState, BreakerStatus, EjectionStatus, EndpointStatus, FileStatus, ListenerStatus, NameStatus,
    PoolStatus, Readiness, Status, WorkerStatus,
};
use super::{Handle, Mode};
use crate::model::grpc;
use crate::policy::balance::FULL_SHARE;
use crate::policy::breaker::{Gate, Scope};
use crate::runtime::clock::Clock;
use crate::runtime::counters::{Counter, LATENCY_BOUNDS, Statuses, WorkerId};
use crate::runtime::endpoint::{Endpoint, EndpointCounters};
use crate::runtime::judge::Judged;
use crate::runtime::limits::Flood;
use crate::runtime::listener::{Listener, ListenerCounters, Protocol};
use crate::runtime::places::Listeners;
use crate::runtime::pool::{Pool, PoolCounters};
use crate::runtime::snapshot::Snapshot;
use crate::runtime::tls::fault::TlsFault;
use crate::runtime::tls::handshake::Excess;
use crate::telemetry::access_log::Termination;
use crate::telemetry::metrics::{self as m, Metric, Sink};
use crate::telemetry::process;

/// A label's value and the counter behind it.
type Named<T> = (&'static str, fn(&T) -> &Counter);

impl Handle {
    /// Everything about the process at this moment.
    #[must_use]
    pub fn status(&self) -> Status {
        let inner = &self.0;
        let snapshot = inner.store.load();
        let fleet = &inner.fleet;
        let (provenance, confirm_until) = {
            let running = inner.shared.running();
            (running.provenance, running.confirm_until)
        };
        Status {
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            old_processes: inner.elders.list(),
            generation: snapshot.generation,
            config_hash: snapshot.hash,
            started: inner.started,
            draining: inner.draining.load(Ordering::Relaxed),
            provenance,
            confirm_until,
            overload: inner.overload.status(),
            held: inner.former.held(),
            leaving: inner.former.leaving(),
            workers: (0..fleet.workers())
                .map(|worker| WorkerStatus {
                    connections: fleet.connections(WorkerId(worker)) as u64,
                    handovers: fleet.counters.of(WorkerId(worker)).handovers.get(),
                })
                .collect(),
            listeners: snapshot.listeners.iter().map(|l| listener_status(l, inner.mode)).collect(),
            pools: self.pools(&snapshot.pools),
            limits: limits::limits_status(&snapshot.limits),
        }
    }

    fn pools(&self, pools: &[Pool]) -> Vec<PoolStatus> {
        let (members, names) = (self.0.members.pools(), self.0.members.names());
        let now = Instant::now();
        let status = |pool: &Pool| {
            let mut status = pool_status(&self.0.board, pool);
            if let Some(members) = members.get(&pool.name) {
                status.names =
                    members.names.iter().map(|name| name_status(name, names.get(name), now)).collect();
                status.endpoints_file = members.file.as_ref().map(|(path, state)| FileStatus {
                    path: path.display().to_string(),
                    read: state.read,
                    fault: state.fault.as_deref().map(str::to_owned),
                });
                status.added.clone_from(&members.added);
                status.removed.clone_from(&members.removed);
            }
            status
        };
        pools.iter().map(status).collect()
    }

    /// Whether this node can proxy; `local_only` leaves out the pools, which depend on other machines.
    #[must_use]
    pub fn readiness(&self, local_only: bool) -> Readiness {
        let mut reasons = Vec::new();
        if !local_only {
            let snapshot = self.0.store.load();
            if !self.is_warm(&snapshot) {
                reasons.push("the first probes are not in yet".to_owned());
            }
            let required = snapshot.pools.iter().filter(|pool| pool.required);
            reasons.extend(
                required.map(|pool| pool_status(&self.0.board, pool)).filter_map(|pool| missing(&pool)),
            );
        }
        if self.0.mode == Mode::Observe {
            reasons.push("it only observes: no listener is bound".to_owned());
        }
        if self.0.draining.load(Ordering::Relaxed) {
            reasons.push("draining".to_owned());
        }
        if !self.is_live() {
            reasons.push("a worker does not turn".to_owned());
        }
        if self.0.ended.borrow().is_some() {
            reasons.push("stopped".to_owned());
        }
        Readiness { ready: reasons.is_empty(), reasons }
    }

    /// Whether every endpoint that the process was started with has been asked, or the time for that is over: before, it
    /// cannot be known who is usable.
    fn is_warm(&self, snapshot: &Snapshot) -> bool {
        let inner = &self.0;
        if inner.warm.load(Ordering::Relaxed) {
            return true;
        }
        let mut checked = snapshot.pools.iter().filter(|pool| pool.checked).flat_map(|pool| &pool.endpoints);
        let asked = |slot: u32| inner.board.endpoint(slot).probe.last.is_some();
        let warm = snapshot.clock.now() >= inner.warm_timeout || checked.all(|e| asked(e.live.slot()));
        inner.warm.store(warm, Ordering::Relaxed);
        warm
    }

    /// Tells `sink` every metric.
    pub fn collect(&self, sink: &mut dyn Sink) {
        let inner = &self.0;
        let snapshot = inner.store.load();
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float; counts stay far below 2^53")]
        let mut gauge = |metric: &'static Metric, labels: &[(&str, &str)], value: u64| {
            sink.gauge(metric, labels, value as f64);
        };
        gauge(&m::CONFIG_INFO, &[("hash", &format!("{:016x}", snapshot.hash))], 1);
        gauge(&m::CONFIG_HASH, &[], snapshot.hash >> 16);
        gauge(&m::CONFIG_GENERATION, &[], snapshot.generation);
        gauge(&m::DRAINING, &[], u64::from(inner.draining.load(Ordering::Relaxed)));
        for worker in 0..inner.fleet.workers() {
            let labels = worker.to_string();
            gauge(
                &m::WORKER_CONNECTIONS,
                &[("worker", &labels)],
                inner.fleet.connections(WorkerId(worker)) as u64,
            );
        }
        for worker in 0..inner.fleet.workers() {
            let handovers = inner.fleet.counters.of(WorkerId(worker)).handovers.get();
            sink.counter(&m::WORKER_HANDOVERS, &[("worker", &worker.to_string())], handovers);
        }
        self.collect_reloads(sink);
        sink.counter(&m::RELOADS, &[("result", "ok")], inner.reloads.ok.load(Ordering::Relaxed));
        sink.counter(&m::RELOADS, &[("result", "failed")], inner.reloads.failed.load(Ordering::Relaxed));
        self.collect_events(sink);
        sink.counter(&m::EVENTS_DROPPED, &[], inner.events.dropped());
        if let Some(export) = snapshot.tracing.as_ref().and_then(|tracing| tracing.export.as_ref()) {
            for (result, count) in export.counts.all() {
                sink.counter(&m::SPANS, &[("result", result)], count);
            }
        }
        sink.counter(&m::ACCESS_LOG_DROPPED, &[], inner.access_log.dropped());
        sink.counter(&m::ACCESS_LOG_ERRORS, &[], inner.access_log.errors());
        for listener in &snapshot.listeners {
            listeners::collect_listener(sink, listener);
        }
        let panics = snapshot.listeners.iter().map(|l| l.live.counters.sum(|c| &c.panics)).sum();
        sink.counter(&m::PANICS, &[], panics);
        for (index, termination) in Termination::ALL.iter().enumerate() {
            let ended = inner.fleet.counters.sum(|c| &c.terminations[index]);
            sink.counter(&m::TERMINATIONS, &[("end", termination.as_str())], ended);
        }
        for pool in &snapshot.pools {
            collect_pool(sink, pool);
            collect_judged(sink, pool);
        }
        admission::collect_overload(sink, &inner.overload.status());
        treatment::collect(sink, &snapshot.routes);
        collect_names(sink, &inner.members.names());
        collect_limits(sink, &snapshot.listeners, &snapshot.pools);
        limits::collect_route_limits(sink, &snapshot.limits);
        process::collect(sink);
    }

    fn collect_reloads(&self, sink: &mut dyn Sink) {
        let reloads = &self.0.reloads;
        let failed = reloads.last_failed.load(Ordering::Relaxed);
        let (fallback, trial) = {
            let running = self.0.shared.running();
            (running.fallback.is_some(), running.confirm_until.is_some())
        };
        sink.gauge(&m::CONFIG_FALLBACK, &[], f64::from(u8::from(fallback)));
        sink.gauge(&m::CONFIG_ON_TRIAL, &[], f64::from(u8::from(trial)));
        sink.gauge(&m::CONFIG_SUCCESSFUL, &[], f64::from(u8::from(!failed)));
        let published = Duration::from_millis(reloads.published_ms.load(Ordering::Relaxed));
        sink.gauge(&m::CONFIG_SUCCESS_TIME, &[], published.as_secs_f64());
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        sink.gauge(&m::CONFIG_AGE, &[], now.saturating_sub(published).as_secs_f64());
    }

    fn collect_events(&self, sink: &mut dyn Sink) {
        for kind in Kind::ALL {
            sink.counter(&m::EVENTS, &[("kind", kind.word())], self.0.journal.count(kind));
        }
        if let Some(notifier) = &self.0.sinks.lock().unwrap_or_else(PoisonError::into_inner).notifier {
            notifier.collect(sink);
        }
    }
}

/// Why a pool that is required keeps this node from being ready.
fn missing(pool: &PoolStatus) -> Option<String> {
    (!pool.serves()).then(|| format!("pool \"{}\" has no usable endpoint", pool.name))
}

fn listener_status(listener: &Listener, mode: Mode) -> ListenerStatus {
    ListenerStatus {
        name: listener.name.clone(),
        protocol: match listener.protocol {
            Protocol::Http { .. } => "http",
            Protocol::Tcp { .. } => "tcp",
            Protocol::Udp { .. } => "udp",
        },
        addresses: match mode {
            Mode::Serve => listener.bind.clone(),
            Mode::Observe => Vec::new(),
        },
        connections: listener.live.connections() as u64,
        max_connections: listener.max_connections as u64,
        accepted: listener.live.counters.sum(|c| &c.accepted),
    }
}

fn pool_status(board: &Board, pool: &Pool) -> PoolStatus {
    let (counters, seen) = (&pool.live.counters, board.pool(&pool.name));
    let requests = (0..Statuses::WORDS.len()).map(|word| counters.sum(|c| c.ended.counter(word))).sum();
    PoolStatus {
        name: pool.name.clone(),
        queue: queue_status(pool),
        requests,
        retries: counters.sum(|c| &c.retries),
        required: pool.required,
        is_usable: pool.is_usable(),
        exclusive: pool.exclusive,
        verify_off: pool.tls.as_ref().and_then(|tls| tls.verify_off()).map(str::to_owned),
        serving_tier: seen.serving_tier,
        fails_open: seen.fails_open,
        failover: seen.failover,
        breaker: breaker_status(&pool.live.judged, &pool.live.clock),
        endpoints: pool.endpoints.iter().map(|e| endpoint_status(board, pool, e)).collect(),
        names: Vec::new(),
        endpoints_file: None,
        added: Vec::new(),
        removed: Vec::new(),
        sticky: sticky::status(pool),
    }
}

fn name_status(name: &Query, state: Option<&NameState>, now: Instant) -> NameStatus {
    NameStatus {
        name: name.to_string(),
        addresses: state.map_or(0, |state| state.known.len()),
        age: state.and_then(|state| Some(now.saturating_duration_since(state.answered?))),
        fault: state.and_then(|state| state.fault.as_deref()).map(str::to_owned),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; counts stay far below 2^53")]
fn collect_names(sink: &mut dyn Sink, names: &BTreeMap<Query, NameState>) {
    let now = Instant::now();
    for (name, state) in names {
        let name = name.to_string();
        let labels = [("name", name.as_str())];
        sink.gauge(&m::DNS_ADDRESSES, &labels, state.known.len() as f64);
        if let Some(answered) = state.answered {
            let age = now.saturating_duration_since(answered);
            sink.gauge(&m::DNS_ANSWER_AGE, &labels, age.as_secs_f64());
        }
        sink.counter(&m::DNS_LOOKUPS, &labels, state.asked);
        sink.counter(&m::DNS_FAILURES, &labels, state.failed);
        sink.counter(&m::DNS_LEFT_OUT, &labels, state.left_out);
    }
}

/// A moment of the policies' time line as the wall clock has it.
fn wall(clock: &Clock, at: Duration) -> SystemTime {
    let now = clock.now();
    SystemTime::now() + at.saturating_sub(now) - now.saturating_sub(at)
}

fn breaker_status(judged: &Judged, clock: &Clock) -> Option<BreakerStatus> {
    Some(match judged.gate()? {
        Gate::Closed => BreakerStatus { state: BreakerState::Closed, until: None },
        Gate::Open { until } => BreakerStatus { state: BreakerState::Open, until: Some(wall(clock, until)) },
        Gate::HalfOpen => BreakerStatus { state: BreakerState::HalfOpen, until: None },
    })
}

pub(super) fn endpoint_status(board: &Board, pool: &Pool, endpoint: &Endpoint) -> EndpointStatus {
    let (counters, clock) = (&endpoint.live.counters, &pool.live.clock);
    let seen = board.endpoint(endpoint.live.slot());
    let usable = pool.level().is_some_and(|level| endpoint.live.condition.allows(level));
    let ejection = endpoint.live.judged.ejection();
    let full = u64::from(FULL_SHARE);
    let effective = u64::from(endpoint.weight) * u64::from(endpoint.live.share());
    let failures: [fn(&EndpointCounters) -> &Counter; 4] =
        [|c| &c.failed_connect, |c| &c.failed_reset, |c| &c.failed_timeout, |c| &c.failed_answer];
    EndpointStatus {
        name: endpoint.name.clone(),
        address: endpoint.address,
        weight: endpoint.weight,
        tier: endpoint.tier,
        zone: endpoint.zone.as_ref().to_owned(),
        effective_weight: u16::try_from(effective.div_ceil(full)).unwrap_or(u16::MAX),
        usable,
        reason: endpoint
            .live
            .condition
            .reason()
            .or_else(|| pool.live.condition.reason())
            .filter(|_| !usable)
            .map(|reason| Cow::Borrowed(reason.word())),
        admin_state: seen.admin_state,
        probe: seen.probe,
        ejection: EjectionStatus {
            until: ejection.map(|(until, _)| wall(clock, until)),
            count: ejection.map_or(0, |(_, count)| count),
        },
        breaker: breaker_status(&endpoint.live.judged, clock),
        suppressed_until: seen.suppressed_until,
        leader: seen.leader,
        in_flight: u64::from(endpoint.live.in_flight()),
        ceiling: admission::ceiling_status(pool, endpoint),
        idle_connections: counters.sum(|c| &c.idle),
        requests: counters.sum(|c| &c.attempts),
        failures: failures.into_iter().map(|failure| counters.sum(failure)).sum(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; counts stay far below 2^53")]
fn collect_pool(sink: &mut dyn Sink, pool: &Pool) {
    let name = pool.name.as_str();
    let counters = &pool.live.counters;
    for (word, class) in Statuses::WORDS.into_iter().enumerate() {
        let ended = counters.sum(|c| c.ended.counter(word));
        sink.counter(&m::POOL_REQUESTS, &[("pool", name), ("class", class)], ended);
    }
    let (counts, seconds) = counters.sum_histogram(|c| &c.duration);
    sink.histogram(&m::POOL_REQUEST_DURATION, &[("pool", name)], &LATENCY_BOUNDS, &counts, seconds);
    for code in 0..grpc::CODES {
        let ended: u64 = counters.iter().filter_map(|c| c.calls.counter(code)).map(Counter::get).sum();
        if ended > 0 {
            let status = u16::try_from(code).map_or("unknown", grpc::name);
            sink.counter(&m::POOL_CALLS, &[("pool", name), ("status", status)], ended);
        }
    }
    sink.counter(&m::POOL_RETRIES, &[("pool", name)], counters.sum(|c| &c.retries));
    for fault in pool.tls.iter().flat_map(|_| TlsFault::ALL) {
        let failed = counters.sum(|c| c.tls_faults.counter(fault));
        sink.counter(&m::POOL_TLS_FAILURES, &[("pool", name), ("reason", fault.word())], failed);
    }
    sink.counter(&m::POOL_NOTHING_USABLE, &[("pool", name)], counters.sum(|c| &c.nothing_usable));
    sticky::collect(sink, pool);
    admission::collect(sink, pool);
    let level = pool.level();
    let is_usable = |e: &&Endpoint| level.is_some_and(|level| e.live.condition.allows(level));
    let usable = pool.endpoints.iter().filter(is_usable).count();
    sink.gauge(&m::POOL_USABLE, &[("pool", name)], usable as f64);
    for endpoint in &pool.endpoints {
        collect_endpoint(sink, name, endpoint, is_usable(&endpoint));
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; counts stay far below 2^53")]
fn collect_endpoint(sink: &mut dyn Sink, pool: &str, endpoint: &Endpoint, usable: bool) {
    let name = endpoint.name.as_str();
    let labels = [("pool", pool), ("endpoint", name)];
    let sum = |counter: fn(&EndpointCounters) -> &Counter| endpoint.live.counters.sum(counter);
    sink.gauge(&m::ENDPOINT_USABLE, &labels, f64::from(u8::from(usable)));
    sink.gauge(&m::ENDPOINT_WEIGHT, &labels, f64::from(endpoint.weight));
    sink.gauge(&m::ENDPOINT_IN_FLIGHT, &labels, f64::from(endpoint.live.in_flight()));
    sink.gauge(&m::ENDPOINT_IDLE, &labels, sum(|c| &c.idle) as f64);
    sink.counter(&m::ENDPOINT_REQUESTS, &labels, sum(|c| &c.attempts));
    sink.counter(&m::ENDPOINT_CONNECTS, &labels, sum(|c| &c.connects));
    sink.counter(&m::ENDPOINT_REUSED, &labels, sum(|c| &c.reused));
    sink.counter(&m::ENDPOINT_STALE, &labels, sum(|c| &c.stale));
    sink.gauge(&m::ENDPOINT_HTTP2, &labels, sum(|c| &c.multiplexed) as f64);
    sink.counter(&m::ENDPOINT_GOAWAYS, &labels, sum(|c| &c.goaways));
    sink.counter(&m::ENDPOINT_GIVEN_BACK, &labels, sum(|c| &c.given_back));
    sink.counter(&m::ENDPOINT_SILENT, &labels, sum(|c| &c.silent));
    sink.counter(&m::ENDPOINT_BYTES_IN, &labels, sum(|c| &c.bytes_out));
    sink.counter(&m::ENDPOINT_BYTES_OUT, &labels, sum(|c| &c.bytes_in));
    let failures: [Named<EndpointCounters>; 4] = [
        ("connect", |c| &c.failed_connect),
        ("reset", |c| &c.failed_reset),
        ("timeout", |c| &c.failed_timeout),
        ("answer", |c| &c.failed_answer),
    ];
    for (kind, counter) in failures {
        let labels = [("pool", pool), ("endpoint", name), ("kind", kind)];
        sink.counter(&m::ENDPOINT_FAILURES, &labels, sum(counter));
    }
}

/// What live traffic says of a pool and of its endpoints, and what followed.
fn collect_judged(sink: &mut dyn Sink, pool: &Pool) {
    let name = pool.name.as_str();
    let sum = |counter: fn(&PoolCounters) -> &Counter| pool.live.counters.sum(counter);
    sink.counter(&m::POOL_RETRIES_REFUSED, &[("pool", name)], sum(|c| &c.retries_refused));
    sink.counter(&m::POOL_HEDGES, &[("pool", name)], sum(|c| &c.hedges));
    sink.counter(&m::POOL_HEDGES_WON, &[("pool", name)], sum(|c| &c.hedges_won));
    sink.counter(&m::POOL_HEDGES_REFUSED, &[("pool", name)], sum(|c| &c.hedges_refused));
    sink.counter(&m::POOL_FAILED_OVER, &[("pool", name)], sum(|c| &c.failed_over));
    sink.counter(&m::POOL_FAILED_OPEN, &[("pool", name)], sum(|c| &c.failed_open));
    let scope = pool.breaker.as_ref().map(|settings| settings.scope);
    if scope == Some(Scope::Pool) {
        let judged = &pool.live.judged;
        sink.gauge(&m::POOL_BREAKER, &[("pool", name)], breaker_number(judged.gate()));
        sink.counter(&m::POOL_BREAKER_OPENED, &[("pool", name)], judged.counts().1);
    }
    for endpoint in &pool.endpoints {
        let labels = [("pool", name), ("endpoint", endpoint.name.as_str())];
        let judged = &endpoint.live.judged;
        let (ejections, openings) = judged.counts();
        sink.gauge(&m::ENDPOINT_EJECTED, &labels, f64::from(u8::from(judged.ejection().is_some())));
        sink.counter(&m::ENDPOINT_EJECTIONS, &labels, ejections);
        if scope == Some(Scope::Endpoint) {
            sink.gauge(&m::ENDPOINT_BREAKER, &labels, breaker_number(judged.gate()));
            sink.counter(&m::ENDPOINT_BREAKER_OPENED, &labels, openings);
        }
    }
}

/// A breaker that has not been asked yet is closed.
fn breaker_number(gate: Option<Gate>) -> f64 {
    match gate {
        None | Some(Gate::Closed) => 0.0,
        Some(Gate::HalfOpen) => 1.0,
        Some(Gate::Open { .. }) => 2.0,
    }
}

/// Every limit by its name, over all listeners and pools.
fn collect_limits(sink: &mut dyn Sink, listeners: &Listeners, pools: &[Pool]) {
    let by_listener: [Named<ListenerCounters>; 23] = [
        ("overload", |c| &c.shed),
        ("bandwidth_in", |c| &c.bandwidth_in),
        ("bandwidth_out", |c| &c.bandwidth_out),
        ("when_empty", |c| &c.hold_full),
        ("max_connections", |c| &c.paused),
        ("max_connections_per_source", |c| &c.refused_source),
        ("head", |c| &c.head_too_large),
        ("fields", |c| &c.fields_exceeded),
        ("target", |c| &c.target_too_long),
        ("request_body", |c| &c.body_too_large),
        ("bad_request", |c| &c.bad_requests),
        ("request_denied", |c| &c.requests_denied),
        ("request_header", |c| &c.head_timeouts),
        ("client_idle", |c| &c.client_idle_timeouts),
        ("keep_alive", |c| &c.keep_alive_timeouts),
        ("chunk_extensions", |c| &c.extensions_exceeded),
        ("linger", |c| &c.linger_exceeded),
        ("udp_datagram", |c| &c.udp.dropped_oversized),
        ("udp_sessions", |c| &c.udp.dropped_full),
        ("handshakes", |c| &c.tls.waited),
        ("proxy_header", |c| &c.proxy_header_exceeded),
        ("client_hello", |c| &c.client_hello_exceeded),
        ("tls_handshake", |c| &c.greeting_timeouts),
    ];
    for (limit, counter) in by_listener {
        let hits = listeners.iter().map(|l| l.live.counters.sum(counter)).sum();
        sink.counter(&m::LIMIT_HITS, &[("limit", limit)], hits);
    }
    for (index, excess) in Excess::ALL.into_iter().enumerate() {
        let hits = listeners.iter().map(|l| l.live.counters.sum(|c| &c.tls.excess[index])).sum();
        sink.counter(&m::LIMIT_HITS, &[("limit", excess.name())], hits);
    }
    for flood in Flood::ALL {
        let hits = listeners.iter().map(|l| l.live.counters.sum(|c| &c.floods[flood as usize])).sum();
        sink.counter(&m::LIMIT_HITS, &[("limit", flood.name())], hits);
    }
    let by_pool: [Named<PoolCounters>; 14] = [
        ("max_requests", |c| &c.queued),
        ("queue", |c| &c.queue_full),
        ("queue_timeout", |c| &c.queue_timeouts),
        ("queue_target", |c| &c.queue_shed),
        ("queue_deadline", |c| &c.queue_hopeless),
        ("max_body", |c| &c.retry_body_exceeded),
        ("answer_head", |c| &c.answer_head_exceeded),
        ("answer_fields", |c| &c.answer_fields_exceeded),
        ("interim_answers", |c| &c.interim_exceeded),
        ("answer_chunk_extensions", |c| &c.extensions_exceeded),
        ("idle_connections", |c| &c.idle_exceeded),
        ("http2_connections", |c| &c.http2_full),
        ("http2_frames", |c| &c.http2_floods),
        ("sticky_size", |c| &c.sticky.evicted),
    ];
    for (limit, counter) in by_pool {
        let hits = pools.iter().map(|p| p.live.counters.sum(counter)).sum();
        sink.counter(&m::LIMIT_HITS, &[("limit", limit)], hits);
    }
}
