//! The access log: one record per request or tcp connection, its two line formats, and the per-worker end that
//! collects lines. Getting them written is `backlog`'s, deciding what a record says is `proxy`'s.
//!
//! Text is one line of `key=value` pairs separated by one space, always the same keys in the same order:
//!
//! ```text
//! time=2026-11-21T03:58:07.123Z client=192.0.2.7:50514 peer=10.0.0.2:41002 listener=web route=api pool=api
//! endpoint=10.0.1.10:8080 attempts=1 protocol=HTTP/1.1 tls=TLSv1.3 cipher=TLS_AES_128_GCM_SHA256
//! resumed=false sni="example.com" client_cert="" client_cert_sha256=- method="GET" host="example.com" target="/v1/a?b=c"
//! status=200 bytes_in=0 bytes_out=512 head_us=40 queue_us=0 connect_us=210 response_header_us=1800 total_us=2100 end=done id="6f.."
//! ```
//!
//! What a peer chose is in double quotes with `\"`, `\\` and `\xNN` escapes; what there was none of is `-` (or `""` where
//! a peer would have chosen it). JSON has the same keys in one object a line, `null` for what there was none of.
//! A request that belongs to a trace has `trace_id` after its id, a gRPC call `grpc_status` at the end.
//! A client of a unix socket has no address and is `unix:`. Times are whole microseconds. A record is exactly one line whatever a peer sent.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use super::backlog::{Backlog, Opener, Target, Way};
use super::escape;
use super::timestamp::Clock;
use crate::model::address::UNIX_CLIENT;
use crate::model::trace::put_hex;

/// Bytes of lines that a worker collects before it hands them over.
const BATCH_BYTES: usize = 16 * 1024;

/// Name of the thread that writes.
const THREAD: &str = "plimsoll-access";

/// What is known of one request, of one tcp connection, or of one udp session, when it has ended.
#[derive(Debug, Clone)]
pub struct Record<'a> {
    /// When its first byte came (tcp: when it was accepted).
    pub at: SystemTime,
    /// The client, after trust has been applied.
    pub client: SocketAddr,
    /// The other end of the connection itself.
    pub peer: SocketAddr,
    /// Name of the listener.
    pub listener: &'a str,
    /// Name of the route, where one took it.
    pub route: Option<&'a str>,
    /// Name of the pool, where one was chosen.
    pub pool: Option<&'a str>,
    /// Name of the endpoint of the last attempt.
    pub endpoint: Option<&'a str>,
    /// Tries on endpoints.
    pub attempts: u32,
    /// `HTTP/1.1`, `HTTP/1.0`, `TCP` or `UDP`; `TLS` of a connection whose handshake failed.
    pub protocol: &'static str,
    /// What TLS came to; nothing is none.
    pub tls: Option<Secure<'a>>,
    /// Method as sent; empty for tcp.
    pub method: &'a [u8],
    /// Host as sent; empty for tcp.
    pub host: &'a [u8],
    /// Request target as sent; empty for tcp.
    pub target: &'a [u8],
    /// Status sent to the client; 0 when none was, and for tcp.
    pub status: u16,
    /// Bytes of the request body (tcp: from the client).
    pub bytes_in: u64,
    /// Bytes of the response body (tcp: to the client).
    pub bytes_out: u64,
    /// Datagrams from the client and to it, of a udp session; only there has the line these keys.
    pub datagrams: Option<(u64, u64)>,
    /// How long each phase took.
    pub phases: Phases,
    /// Why it ended.
    pub termination: Termination,
    /// X-Request-Id; empty for tcp.
    pub request_id: &'a [u8],
    /// The trace of a request, where requests belong to one; only there has the line this key.
    pub trace_id: Option<u128>,
    /// `grpc-status` of a gRPC call, by its number.
    pub grpc_code: Option<u16>,
}

/// What the TLS of a connection came to.
#[derive(Debug, Clone, Copy)]
pub struct Secure<'a> {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The cipher suite.
    pub cipher: &'static str,
    /// Whether an earlier session was resumed.
    pub is_resumed: bool,
    /// The name that the client asked for (SNI); empty where it asked for none.
    pub server_name: &'a [u8],
    /// The subject of the certificate that the client has shown; empty where it has shown none.
    pub client: &'a [u8],
    /// The SHA-256 of that certificate, in hexadecimal; empty where there is none.
    pub client_sha256: &'a str,
}

/// How long each phase took; what did not happen took no time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Phases {
    /// From the first byte of the request head to its last.
    pub head: Duration,
    /// Waiting in the pool's queue.
    pub queue: Duration,
    /// Connecting to endpoints, all attempts together.
    pub connect: Duration,
    /// From the request sent to a complete response head, of the last attempt.
    pub response_header: Duration,
    /// From the first byte to the last.
    pub total: Duration,
}

macro_rules! terminations {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)+) => {
        /// Why a request or connection ended: exactly one reason, the first that was noticed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Termination { $($(#[$doc])* $name,)+ }

        impl Termination {
            /// Every reason, in the order of their declaration.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The word in the log; it never changes its meaning.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)+ }
            }
        }
    };
}

terminations! {
    /// Completed as it should; the status may still be an endpoint's own error.
    Done = "done",
    /// Answered by a route itself: a redirect or a fixed response.
    Responded = "responded",
    /// No route took the request (404).
    NoRoute = "no_route",
    /// Turned away because the process was overloaded, by the class of its listener (503).
    Overloaded = "overloaded",
    /// The client closed or reset before the end.
    ClientAborted = "client_aborted",
    /// The client was too slow to send or to take (408 where an answer was still possible).
    ClientTimeout = "client_timeout",
    /// What the client sent is no acceptable HTTP (400, 501, 505).
    Refused = "refused",
    /// A ceiling on what a client may send was reached (413, 414, 431).
    Limit = "limit",
    /// Requests of its kind came too fast (429, unless another status is set).
    RateLimited = "rate_limited",
    /// Too many requests of its kind were under way (429, unless another status is set).
    ConcurrencyLimited = "concurrency_limited",
    /// No connection under TLS could be agreed on.
    TlsFailed = "tls_failed",
    /// The TLS handshake was not done in time.
    TlsTimeout = "tls_timeout",
    /// The client's address may not connect, or has too many connections.
    Denied = "denied",
    /// No connection could be made to any endpoint that was tried (503).
    ConnectFailed = "connect_failed",
    /// The endpoint closed or reset before the end (502 where an answer was still possible).
    EndpointAborted = "endpoint_aborted",
    /// What the endpoint sent is no acceptable HTTP (502).
    EndpointInvalid = "endpoint_invalid",
    /// The endpoint was too slow (504 where an answer was still possible).
    EndpointTimeout = "endpoint_timeout",
    /// Waited in the pool's queue for too long (503).
    QueueTimeout = "queue_timeout",
    /// The pool's queue was full (503).
    QueueFull = "queue_full",
    /// Sent away by the pool's queue, which stood for too long (503).
    QueueShed = "queue_shed",
    /// The pool had no usable endpoint (503).
    NothingUsable = "nothing_usable",
    /// A tunnel or tcp session on which no byte moved for too long.
    IdleTimeout = "idle_timeout",
    /// A tunnel or tcp session cut because its endpoint says that it does not want traffic, or another one leads.
    EndpointDemoted = "endpoint_demoted",
    /// A tunnel or tcp session cut because its endpoint cannot be reached any more.
    EndpointUnreachable = "endpoint_unreachable",
    /// A tunnel or tcp session cut because its endpoint was drained or removed, and the time for that was over.
    EndpointDrained = "endpoint_drained",
    /// A tunnel or tcp session cut because its listener was removed, and the time for that was over.
    ListenerRemoved = "listener_removed",
    /// A tunnel or tcp session that the operator ended.
    Ended = "ended",
    /// A tunnel or tcp session ended at `max_connection_age`.
    Aged = "aged",
    /// A tcp session ended to make room for an endpoint that has come back.
    Shed = "shed",
    /// A udp session that gave way to a newcomer at `max_connections`.
    Evicted = "evicted",
    /// Cut at the deadline of a drain, or at once by a second signal.
    Drain = "drain",
    /// A fault of ours: descriptors ran out, a system call failed unexpectedly (500 where an answer was still possible).
    Internal = "internal",
    /// A panic in our code ended this connection.
    Panic = "panic",
}

/// How a record is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `key=value` pairs.
    Text,
    /// A JSON object.
    Json,
}

impl Format {
    /// Every format.
    const ALL: [Self; 2] = [Self::Text, Self::Json];
}

impl Record<'_> {
    /// Appends the record as one line with its line feed; allocates nothing unless `out` must grow.
    pub fn write(&self, format: Format, clock: &mut Clock, out: &mut Vec<u8>) {
        let mut line = Line { format, out, first: true };
        line.open();
        line.raw("time", |out| clock.write(self.at, out));
        line.raw("client", |out| address(self.client, out));
        line.raw("peer", |out| address(self.peer, out));
        line.name("listener", Some(self.listener));
        line.name("route", self.route);
        line.name("pool", self.pool);
        line.name("endpoint", self.endpoint);
        line.number("attempts", self.attempts.into());
        line.raw("protocol", |out| out.extend_from_slice(self.protocol.as_bytes()));
        line.secure(self.tls);
        line.bytes("method", self.method);
        line.bytes("host", self.host);
        line.bytes("target", self.target);
        line.number("status", self.status.into());
        line.number("bytes_in", self.bytes_in);
        line.number("bytes_out", self.bytes_out);
        if let Some((from_client, to_client)) = self.datagrams {
            line.number("datagrams_in", from_client);
            line.number("datagrams_out", to_client);
        }
        line.micros("head_us", self.phases.head);
        line.micros("queue_us", self.phases.queue);
        line.micros("connect_us", self.phases.connect);
        line.micros("response_header_us", self.phases.response_header);
        line.micros("total_us", self.phases.total);
        line.raw("end", |out| out.extend_from_slice(self.termination.as_str().as_bytes()));
        line.bytes("id", self.request_id);
        if let Some(trace) = self.trace_id {
            line.trace(trace);
        }
        if let Some(code) = self.grpc_code {
            line.number("grpc_status", code.into());
        }
        line.close();
    }
}

/// One line in the making; each method adds one key.
struct Line<'o> {
    format: Format,
    out: &'o mut Vec<u8>,
    first: bool,
}

impl Line<'_> {
    fn open(&mut self) {
        if self.format == Format::Json {
            self.out.push(b'{');
        }
    }

    fn close(&mut self) {
        if self.format == Format::Json {
            self.out.push(b'}');
        }
        self.out.push(b'\n');
    }

    fn key(&mut self, key: &str) {
        let first = std::mem::replace(&mut self.first, false);
        match self.format {
            Format::Text => {
                if !first {
                    self.out.push(b' ');
                }
                self.out.extend_from_slice(key.as_bytes());
                self.out.push(b'=');
            }
            Format::Json => {
                self.out.extend_from_slice(if first { b"\"" } else { b",\"" });
                self.out.extend_from_slice(key.as_bytes());
                self.out.extend_from_slice(b"\":");
            }
        }
    }

    /// A value of our own making, which needs no escape: quoted in JSON, bare in text.
    fn raw(&mut self, key: &str, write: impl FnOnce(&mut Vec<u8>)) {
        self.key(key);
        let quotes = self.format == Format::Json;
        if quotes {
            self.out.push(b'"');
        }
        write(self.out);
        if quotes {
            self.out.push(b'"');
        }
    }

    /// An operator's name: bare in text unless it has a character that would need a quote.
    fn name(&mut self, key: &str, name: Option<&str>) {
        match name {
            Some(name) if name.is_empty() || !name.bytes().all(is_bare) => self.bytes(key, name.as_bytes()),
            Some(name) => self.raw(key, |out| out.extend_from_slice(name.as_bytes())),
            None => {
                self.key(key);
                self.out.extend_from_slice(if self.format == Format::Json { b"null" } else { b"-" });
            }
        }
    }

    /// A peer's bytes: always quoted.
    fn bytes(&mut self, key: &str, bytes: &[u8]) {
        self.key(key);
        match self.format {
            Format::Text => escape::text(bytes, self.out),
            Format::Json => escape::json(bytes, self.out),
        }
    }

    /// What TLS came to.
    fn secure(&mut self, tls: Option<Secure<'_>>) {
        self.name("tls", tls.map(|tls| tls.version));
        self.name("cipher", tls.map(|tls| tls.cipher));
        match tls {
            Some(tls) => {
                self.key("resumed");
                self.out.extend_from_slice(if tls.is_resumed { b"true" } else { b"false" });
            }
            None => self.name("resumed", None),
        }
        self.bytes("sni", tls.map_or(b"", |tls| tls.server_name));
        self.bytes("client_cert", tls.map_or(b"", |tls| tls.client));
        let sha256 = tls.map(|tls| tls.client_sha256).filter(|sha256| !sha256.is_empty());
        self.name("client_cert_sha256", sha256);
    }

    fn number(&mut self, key: &str, number: u64) {
        self.key(key);
        self.out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    }

    fn trace(&mut self, trace: u128) {
        let mut digits = [0; 32];
        put_hex(&mut digits, trace);
        self.raw("trace_id", |out| out.extend_from_slice(&digits));
    }

    fn micros(&mut self, key: &str, duration: Duration) {
        self.number(key, u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }
}

/// What every [`crate::model::name`] is made of.
fn is_bare(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.:@[]".contains(&byte)
}

fn address(address: SocketAddr, out: &mut Vec<u8>) {
    if address == UNIX_CLIENT {
        out.extend_from_slice(b"unix:");
        return;
    }
    let SocketAddr::V4(v4) = address else {
        // Writing to a vector cannot fail; a scope id has digits only.
        let _infallible = write!(out, "{address}");
        return;
    };
    let mut digits = itoa::Buffer::new();
    for (octet, separator) in v4.ip().octets().into_iter().zip(*b"...:") {
        out.extend_from_slice(digits.format(octet).as_bytes());
        out.push(separator);
    }
    out.extend_from_slice(digits.format(v4.port()).as_bytes());
}

/// The access log of a process, on or off; clones are the same log.
#[derive(Debug, Clone)]
pub struct AccessLog(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// [`OFF`], or the place of its format in [`Format::ALL`].
    mode: AtomicUsize,
    /// Started when there is a first target.
    backlog: OnceLock<Backlog>,
    target: Mutex<Option<Target>>,
}

/// The mode in which records are thrown away.
const OFF: usize = usize::MAX;

/// Another target and format, ready to be used.
#[derive(Debug)]
pub struct Turn {
    target: Option<Target>,
    format: Format,
    /// Nothing where the target stays.
    way: Option<Way>,
}

impl Shared {
    fn format(&self) -> Option<Format> {
        Format::ALL.get(self.mode.load(Ordering::Relaxed)).copied()
    }
}

impl AccessLog {
    /// Opens the log and starts the thread that writes it; without a target records are thrown away.
    ///
    /// # Errors
    /// The target cannot be opened, or the thread not started.
    pub fn start(target: Option<Target>, format: Format) -> io::Result<Self> {
        let log = Self(Arc::new(Shared {
            mode: AtomicUsize::new(OFF),
            backlog: OnceLock::new(),
            target: Mutex::default(),
        }));
        let turn = log.prepare(target, format)?;
        log.turn(turn);
        Ok(log)
    }

    /// Opens another target for [`AccessLog::turn`]; nothing changes yet.
    ///
    /// # Errors
    /// The target cannot be opened, or the thread that writes not started.
    pub fn prepare(&self, target: Option<Target>, format: Format) -> io::Result<Turn> {
        let same = *self.0.target.lock().unwrap_or_else(PoisonError::into_inner) == target;
        let way = if same { None } else { Some(Way::to(target.clone())?) };
        if way.is_some() && self.0.backlog.get().is_none() {
            // It waits for its first way; should another thread be faster, this one ends.
            let started = Backlog::start_on(THREAD, Way::to(None)?)?;
            if let Err(second) = self.0.backlog.set(started) {
                let _ended = second.close(Duration::ZERO);
            }
        }
        Ok(Turn { target, format, way })
    }

    /// Writes records from now on as prepared; those before go where they were meant to.
    pub fn turn(&self, turn: Turn) {
        let Turn { target, format, way } = turn;
        let place = Format::ALL.iter().position(|one| *one == format).filter(|_| target.is_some());
        if let (Some(backlog), Some(way)) = (self.0.backlog.get(), way) {
            backlog.turn(way);
        }
        *self.0.target.lock().unwrap_or_else(PoisonError::into_inner) = target;
        self.0.mode.store(place.unwrap_or(OFF), Ordering::Relaxed);
    }

    /// As [`AccessLog::start`] with a target of the caller's own, for programs that embed the proxy.
    ///
    /// # Errors
    /// What `opener` says, or that the thread could not be started.
    pub fn start_with(opener: Opener, format: Format) -> io::Result<Self> {
        let log = Self::start(None, format)?;
        // It was made a moment ago, so nothing is there.
        drop(log.0.backlog.set(Backlog::start_with(THREAD, opener)?));
        let place = Format::ALL.iter().position(|one| *one == format);
        log.0.mode.store(place.unwrap_or(OFF), Ordering::Relaxed);
        Ok(log)
    }

    /// A worker's own end.
    #[must_use]
    pub fn writer(&self) -> AccessLogWriter {
        AccessLogWriter { log: Arc::clone(&self.0), clock: Clock::default(), buffer: Vec::new(), lines: 0 }
    }

    /// Opens a file again after it was moved away (SIGUSR1); does not wait for it.
    pub fn reopen(&self) {
        if let Some(backlog) = self.0.backlog.get() {
            backlog.reopen();
        }
    }

    /// Records lost because the backlog was full or could not be written.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.backlog.get().map_or(0, Backlog::dropped)
    }

    /// Failed writes so far.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.0.backlog.get().map_or(0, Backlog::errors)
    }

    /// Writes what was handed over and stops; blocks up to `timeout` and says whether all was written. Each worker's
    /// [`AccessLogWriter`] must have been flushed or dropped before.
    #[must_use]
    pub fn close(&self, timeout: Duration) -> bool {
        self.0.backlog.get().is_none_or(|backlog| backlog.close(timeout))
    }
}

/// A worker's end of the access log; hands its lines over when it is dropped.
#[derive(Debug)]
pub struct AccessLogWriter {
    log: Arc<Shared>,
    clock: Clock,
    /// Whole lines.
    buffer: Vec<u8>,
    /// How many there are in `buffer`.
    lines: u64,
}

impl AccessLogWriter {
    /// Whether records go anywhere; when not, building one is wasted.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.log.format().is_some()
    }

    /// Adds a record; hands the lines over when a batch is full. Never blocks.
    pub fn log(&mut self, record: &Record<'_>) {
        let Some(format) = self.log.format() else { return };
        record.write(format, &mut self.clock, &mut self.buffer);
        self.lines += 1;
        if self.buffer.len() >= BATCH_BYTES {
            self.flush();
        }
    }

    /// Hands over what has been collected; each worker calls it every 50 ms or so. Never blocks.
    pub fn flush(&mut self) {
        let Some(backlog) = self.log.backlog.get().filter(|_| self.lines > 0) else { return };
        self.buffer = backlog.push(std::mem::take(&mut self.buffer), std::mem::take(&mut self.lines));
    }
}

impl Drop for AccessLogWriter {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::*;

    fn record() -> Record<'static> {
        Record {
            at: UNIX_EPOCH + Duration::from_millis(1_795_233_487_123),
            client: SocketAddr::from(([192, 0, 2, 7], 50514)),
            peer: SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 443)),
            listener: "web",
            route: Some("api"),
            pool: Some("api"),
            endpoint: Some("[::1]:80"),
            attempts: 2,
            protocol: "HTTP/1.1",
            tls: Some(Secure {
                version: "TLSv1.3",
                cipher: "TLS_AES_128_GCM_SHA256",
                is_resumed: true,
                server_name: b"a",
                client: b"CN=b",
                client_sha256: "0a",
            }),
            method: b"GET",
            host: b"example.com",
            target: b"/a?b=c",
            status: 200,
            bytes_in: 0,
            bytes_out: 512,
            datagrams: None,
            phases: Phases {
                head: Duration::from_micros(40),
                queue: Duration::ZERO,
                connect: Duration::from_micros(210),
                response_header: Duration::from_micros(1_800),
                total: Duration::from_millis(3),
            },
            termination: Termination::Done,
            request_id: b"6f",
            trace_id: None,
            grpc_code: None,
        }
    }

    fn line(record: &Record<'_>, format: Format) -> String {
        let mut out = Vec::new();
        record.write(format, &mut Clock::default(), &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn a_text_record_is_one_line_of_known_keys() {
        assert_eq!(
            line(&record(), Format::Text),
            "time=2026-11-21T03:58:07.123Z client=192.0.2.7:50514 peer=[2001:db8::1]:443 listener=web route=api \
             pool=api endpoint=[::1]:80 attempts=2 protocol=HTTP/1.1 tls=TLSv1.3 cipher=TLS_AES_128_GCM_SHA256 \
             resumed=true sni=\"a\" client_cert=\"CN=b\" client_cert_sha256=0a method=\"GET\" host=\"example.com\" target=\"/a?b=c\" status=200 bytes_in=0 bytes_out=512 head_us=40 queue_us=0 connect_us=210 \
             response_header_us=1800 total_us=3000 end=done id=\"6f\"\n"
        );
        let tcp = Record { route: None, endpoint: None, method: b"", ..record() };
        assert!(
            line(&tcp, Format::Text).contains(" route=- pool=api endpoint=- "),
            "{}",
            line(&tcp, Format::Text)
        );
    }

    #[test]
    fn a_json_record_has_the_same_keys() -> Result<(), serde_json::Error> {
        let text = line(&record(), Format::Text);
        let json: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(&line(&Record { route: None, ..record() }, Format::Json))?;
        let keys: Vec<_> =
            text.split_whitespace().filter_map(|pair| pair.split_once('=')).map(|(key, _)| key).collect();
        assert_eq!(keys.len(), json.len());
        for key in keys {
            assert!(json.contains_key(key), "{key}");
        }
        assert_eq!(json.get("status"), Some(&200.into()));
        assert_eq!(json.get("route"), Some(&serde_json::Value::Null));
        assert_eq!(json.get("client"), Some(&"192.0.2.7:50514".into()));
        Ok(())
    }

    #[test]
    fn every_termination_has_a_word_of_its_own() {
        let words: std::collections::BTreeSet<_> = Termination::ALL.iter().map(|t| t.as_str()).collect();
        assert_eq!(words.len(), Termination::ALL.len());
        assert!(words.iter().all(|word| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
    }

    /// Reads one text line back as its pairs, the way a strict consumer would.
    fn parse_text(line: &str) -> Option<Vec<(String, Vec<u8>)>> {
        let mut rest = line.strip_suffix('\n')?;
        let mut pairs = Vec::new();
        loop {
            let (key, after) = rest.split_once('=')?;
            let end = if after.starts_with('"') {
                end_of_quoted(after)?
            } else {
                after.find(' ').unwrap_or(after.len())
            };
            let (value, after) = after.split_at(end);
            pairs.push((key.to_owned(), unquote(value)));
            match after.strip_prefix(' ') {
                Some(more) => rest = more,
                None => return after.is_empty().then_some(pairs),
            }
        }
    }

    fn end_of_quoted(text: &str) -> Option<usize> {
        let mut escaped = false;
        let end = text.bytes().skip(1).position(|byte| {
            let closes = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            closes
        })?;
        Some(end + 2)
    }

    fn unquote(value: &str) -> Vec<u8> {
        let Some(inner) = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')) else {
            return value.into();
        };
        let mut bytes = inner.bytes();
        let mut out = Vec::new();
        while let Some(byte) = bytes.next() {
            match (byte, if byte == b'\\' { bytes.next() } else { None }) {
                (_, Some(b'x')) => {
                    let digits: Vec<u8> = bytes.by_ref().take(2).collect();
                    out.extend(u8::from_str_radix(&String::from_utf8_lossy(&digits), 16));
                }
                (_, Some(escaped)) => out.push(escaped),
                (plain, None) => out.push(plain),
            }
        }
        out
    }

    proptest! {
        #[test]
        fn whatever_peers_send_a_record_is_one_line_that_reads_back(
            method in prop::collection::vec(any::<u8>(), 0..20),
            host in prop::collection::vec(any::<u8>(), 0..50),
            target in prop::collection::vec(any::<u8>(), 0..200),
            id in prop::collection::vec(any::<u8>(), 0..50),
            listener in "\\PC{0,20}",
        ) {
            let record =
                Record { method: &method, host: &host, target: &target, request_id: &id, listener: &listener, ..record() };

            let text = line(&record, Format::Text);
            prop_assert!(text.is_ascii() && text.matches('\n').count() == 1 && text.ends_with('\n'));
            let pairs = parse_text(&text).ok_or_else(|| TestCaseError::fail(text.clone()))?;
            prop_assert_eq!(pairs.len(), 28);
            let value = |key: &str| pairs.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone());
            prop_assert_eq!(value("method"), Some(method.clone()));
            prop_assert_eq!(value("target"), Some(target.clone()));
            prop_assert_eq!(value("id"), Some(id.clone()));
            prop_assert_eq!(value("listener"), Some(listener.clone().into_bytes()));

            let json = line(&record, Format::Json);
            prop_assert!(json.is_ascii() && json.matches('\n').count() == 1 && json.ends_with('\n'));
            let object: serde_json::Value = serde_json::from_str(&json)?;
            let latin = |bytes: &[u8]| bytes.iter().map(|&b| char::from(b)).collect::<String>();
            prop_assert_eq!(object.get("host"), Some(&latin(&host).into()));
            prop_assert_eq!(object.get("target"), Some(&latin(&target).into()));
        }
    }

    const FOREVER: Duration = Duration::from_secs(60);

    #[test]
    fn lines_of_every_worker_are_in_the_file_after_a_shutdown() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("access.log");
        let log = AccessLog::start(Some(Target::File(path.clone())), Format::Text)?;
        let threads: Vec<_> = (0..4)
            .map(|_| log.writer())
            .map(|mut writer| std::thread::spawn(move || (0..500).for_each(|_| writer.log(&record()))))
            .collect();
        assert!(threads.into_iter().all(|thread| thread.join().is_ok()));
        assert!(log.close(FOREVER));
        let text = std::fs::read_to_string(&path)?;
        assert_eq!(text.lines().count(), 2000);
        assert!(text.lines().all(|read| read == line(&record(), Format::Text).trim_end()));
        assert_eq!(log.dropped(), 0);
        Ok(())
    }

    #[test]
    fn each_record_goes_where_the_log_went_when_it_was_handed_over() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name);
        let log = AccessLog::start(None, Format::Text)?;
        let mut writer = log.writer();
        for (target, format) in [
            (Some("a"), Format::Text),
            (None, Format::Text),
            (Some("b"), Format::Json),
            (Some("b"), Format::Text),
            (Some("a"), Format::Json),
        ] {
            log.turn(log.prepare(target.map(|name| Target::File(path(name))), format)?);
            assert_eq!(writer.is_on(), target.is_some());
            writer.log(&record());
            writer.flush();
        }
        assert!(log.prepare(Some(Target::File(path("none/c"))), Format::Text).is_err());
        assert!(log.close(Duration::from_secs(60)));
        let begins = |name: &str| -> io::Result<Vec<bool>> {
            Ok(std::fs::read_to_string(path(name))?.lines().map(|line| line.starts_with('{')).collect())
        };
        assert_eq!((begins("a")?, begins("b")?), (vec![false, true], vec![true, false]));
        assert_eq!(log.dropped(), 0);
        Ok(())
    }

    #[test]
    fn a_rotated_file_is_made_anew() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let (path, old) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
        let log = AccessLog::start(Some(Target::File(path.clone())), Format::Json)?;
        std::fs::rename(&path, &old)?;
        log.reopen();
        log.writer().log(&record());
        assert!(log.close(FOREVER));
        assert_eq!(std::fs::read_to_string(&path)?.lines().count(), 1);
        assert_eq!(std::fs::read_to_string(&old)?, "");
        Ok(())
    }

    #[test]
    fn a_log_that_is_off_takes_nothing() -> io::Result<()> {
        let log = AccessLog::start(None, Format::Text)?;
        let mut writer = log.writer();
        writer.log(&record());
        assert!(!writer.is_on() && writer.buffer.is_empty() && log.dropped() == 0);
        assert!(log.close(Duration::ZERO));
        Ok(())
    }
}
