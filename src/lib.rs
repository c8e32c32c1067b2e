//! Plimsoll: an L4/L7 load balancer and health proxy, as a program and as a library. This page is its architecture.
//!
//! # The floors
//! Imports go down only; `tests/tidy.rs` holds every file to it.
//!
//! ```text
//!    main.rs                                                   parse, run, exit code
//! 9  cli/        run check explain plan import reload upgrade status drain failover demo
//! 8  admin/      HTTP API, metrics page                        asks control through control::Handle
//! 7  control/    supervisor, reload, health, events, status    COLD: may wait, allocate
//! 6  proxy/      accept -> tcp relay | http request -> answer  HOT: reads, never decides what is true
//! 5  runtime/    the meeting point: Snapshot (arc-swap), live state (atomics), events
//! 4  config/     text -> Config, every error at once with file:line:col; lints; never named by proxy
//! 3  route/      which route does this request take?   }  pure: no I/O, no async,
//! 2  policy/     every decision of the product         }  no clock, no lock, no logging
//! 1  telemetry/  names of metrics, access-log record, log set-up
//! 0  model/      the nouns: names, addresses, hosts, fields, units
//! ```
//!
//! # Health
//! Three things can speak against an endpoint, and each decision is a policy that knows neither clock nor socket:
//!
//! - **Probes.** [`control::health`] has a thread of its own: its tasks probe, and its keeper asks [`policy::health`] what
//!   the results add up to, [`policy::failover`] which tier and pool serve, [`policy::exclusive`] who leads.
//! - **Live traffic.** Workers tell [`runtime::judge`] how every attempt ended. A success writes counters of its worker
//!   alone; a failure takes a small lock and asks [`policy::outlier`] and [`policy::breaker`].
//! - **The operator**, by the admin API or the commands: drain, maintenance, failover.
//!
//! All of them write bits of one word per endpoint ([`runtime::condition`]), which the next pick reads; nothing is
//! published, nobody waits. Every change is an event with its evidence ([`control::journal`]): log, `/v1/events`,
//! metrics, webhooks.
//!
//! # Admission
//! Who is let in when not all can be is [`policy::admission`]'s to say. A request that finds every place taken waits in its
//! pool's [`runtime::queue`], by class; ceilings may move with the load or with the times of answers, which the keeper works out of
//! counters that workers write anyway. [`control`] samples what the process itself uses, and workers read what is to be given up
//! from one word ([`runtime::pressure`]).
//!
//! # Protocols
//! [`proxy::stream`] carries bytes over TCP, unix sockets and TLS by one type, and [`proxy::udp`] carries datagrams. HTTP/1 on both
//! sides is one fused exchange ([`proxy::http1`]); every pair with HTTP/2 in it ([`proxy::http2`], on the h2 crate) meets in
//! [`proxy::bridge`], frame by frame, and WebSocket and gRPC with it. [`proxy::request`] decides the same for all of them. What
//! is looked at before a protocol begins, PROXY headers and the name in a ClientHello, is left where it lies in the socket.
//!
//! # The toolbox of routes
//! [`proxy::phases`] is the list of what may answer or refuse a request before its route acts, each phase a file of its own:
//! [`proxy::gate`] (networks, maintenance, scripts of other origins), `proxy::limiter` (how many, how fast), [`proxy::auth`]
//! (passwords, and a service that is asked). Then [`proxy::sticky`] says where the client belongs, [`proxy::edits`] has the heads
//! changed, and `proxy::treatment` copies, buffers and compresses. What they decide is decided in [`policy`] and [`route`].
//!
//! # Invariants
//! - `proxy` names neither `config` nor `control`; `route` and `policy` name only `model`; `control` never names `admin`.
//! - Hot and cold meet in one place: control builds an immutable [`runtime::snapshot::Snapshot`] and publishes it with one
//!   atomic store; a worker compares one number per request to notice.
//! - Live state is keyed by identity (listener name, pool name, pool and endpoint name) and outlives every snapshot.
//! - A worker owns its connections, timers, buffers, pipes, idle upstream connections and counters. What workers share is
//!   the snapshot, work in flight, and the queue of a pool, whose lock is touched only while somebody waits.
//! - Peers' bytes never panic, and if they do, the panic ends one connection. No `unsafe` is written here.
//! - Whatever must be undone is a guard: places on endpoints, under ceilings, in queues fall with their scope.
//! - An idle connection holds neither a buffer nor a request's state: both live in a box that goes with the request.
//! - Absent on purpose: a map of owned headers, a lock per request, a timer entry per request, label building per request.
//!
//! # Glossary
//! *Listener*: a name with bound addresses and a protocol. *Route*: conditions on a request and what happens to it.
//! *Pool*: a named set of endpoints with one balancing policy. *Endpoint*: one address that traffic can be sent to.
//! *Tier*: priority group of endpoints. *Probe*: one active health check. *Ejection*: passive removal, for a time.
//! *Breaker*: closed, open or half-open gate. *Usable*: may be picked now. *Attempt*: one try of one request or connection on one endpoint. *Snapshot*: the
//! immutable compiled configuration. *Sticky*: a client keeps coming to the endpoint that it came to first. *Reload*: a new snapshot replaces the old one, or nothing changes. *Drain*: no new
//! work; work in flight finishes, up to a deadline.
//!
//! # Reading order
//! [`model`], then [`route`] and [`policy`] (each decides something and does nothing), then [`runtime`] (what is shared),
//! then [`proxy`] with its two walks, then [`control`]. [`config`], [`admin`] and [`cli`] are the edges.
//!
//! # Embedding
//! [`Proxy::start`] runs the proxy on threads of its own inside any program; see `examples/embed.rs`. The library
//! speaks to no service manager and takes no inherited socket unless it is given them, installs no signal handler, logger, metrics recorder or crypto default of the process, and no allocator: the feature
//! `jemalloc`, on by default, is the binary's alone, so that embedders depend on the crate with `default-features = false`.

pub mod model;
pub mod telemetry;

pub mod policy;
pub mod route;

pub mod config;
pub mod runtime;

pub mod proxy;

pub mod control;

pub mod admin;

pub mod cli;

pub use config::Config;
pub use control::reload::ReloadError;
pub use control::{Handle, StartError};

/// The proxy, for programs that embed it.
#[derive(Debug)]
pub struct Proxy;

impl Proxy {
    /// Binds every listener of `config` and starts to proxy, on threads of its own. The handle reloads, tells the status
    /// and shuts down; dropping it changes nothing.
    ///
    /// # Errors
    /// [`StartError`] when an address cannot be bound or a log cannot be opened; nothing is left running then.
    pub fn start(config: &Config) -> Result<Handle, StartError> {
        control::start(config)
    }
}
