//! What a service manager hears of the process, by the protocol of `sd_notify(3)`: ready, reloading, stopping, a line of
//! status, and that the workers turn. Only a process that asks for it speaks: the binary does, an embedder need not.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;
use tokio::time::{Instant, interval, sleep, timeout_at};

use super::Handle;
use super::progress::Progress;
use super::status::{ProbeState, Status};
use super::upgrade::MARKER;

/// What a service manager, or a process that we replace, puts into our environment, and what a program that we start must
/// not take for its own.
pub const VARIABLES: [&str; 7] =
    ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", MARKER];

/// How often the line of status is looked at; it is told when it has changed.
const STATUS_EVERY: Duration = Duration::from_secs(5);

/// How often the start is looked at.
const START_EVERY: Duration = Duration::from_millis(20);

/// What a stop may take beyond its drain: the last lines of logs and events, and workers that end.
const STOP_SLACK: Duration = Duration::from_secs(15);

/// The service manager that has started this process.
#[derive(Debug)]
pub struct Manager {
    socket: UnixDatagram,
    address: SocketAddr,
    /// It ends the process when it hears nothing for so long.
    watchdog: Option<Duration>,
}

impl Manager {
    /// The manager that the environment names, if any.
    ///
    /// # Errors
    /// An address of no known form, or no socket to speak from.
    pub fn from_environment() -> io::Result<Option<Self>> {
        let read = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let number = |name| read(name)?.to_str()?.parse::<u64>().ok();
        let Some(path) = read("NOTIFY_SOCKET") else { return Ok(None) };
        // Set for another process of the service: its pings are not ours.
        let ours =
            read("WATCHDOG_PID").is_none() || number("WATCHDOG_PID") == Some(std::process::id().into());
        let watchdog = number("WATCHDOG_USEC").filter(|&time| ours && time > 0).map(Duration::from_micros);
        Self::at(&path, watchdog).map(Some)
    }

    /// The manager that listens at `path`, which begins with `/` or, for an abstract name, with `@`.
    fn at(path: &OsStr, watchdog: Option<Duration>) -> io::Result<Self> {
        let address = match path.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(path)?,
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "neither a path nor an abstract name",
                ));
            }
        };
        let socket = UnixDatagram::unbound()?;
        // A manager that is slow to read must not hold the process up.
        socket.set_nonblocking(true)?;
        Ok(Self { socket, address, watchdog })
    }

    /// Tells the manager that another process is the service's main one from now on.
    pub fn tell_main_process(&self, id: u32) {
        self.tell(&format!("MAINPID={id}"));
    }

    /// One datagram. A manager that does not listen is its own trouble: the traffic goes on.
    fn tell(&self, message: &str) {
        if let Err(error) = self.socket.send_to_addr(message.as_bytes(), &self.address) {
            tracing::warn!(%error, message, "the service manager cannot be told");
        }
    }

    /// Tells what becomes of the process behind `handle`: it ends with the process only, or when a new one has taken over,
    /// which then speaks for the service. Before it says that it is ready it waits for `warm_up` at most until the first
    /// probes have come back.
    pub async fn attend(&self, handle: &Handle, warm_up: Duration) {
        let told = async {
            started(handle, warm_up).await;
            let mut progress = handle.progress();
            let mut teller = Teller::new(self, progress.borrow_and_update().clone());
            teller.ready(handle);
            teller.follow(handle, &mut progress).await;
        };
        let pinged = async {
            match self.watchdog {
                Some(watchdog) => self.ping(handle, watchdog).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = async { tokio::join!(told, pinged); } => {}
            () = replaced(handle) => {}
        }
    }

    /// Tells at half of the time that the manager waits that every worker has turned since; later, as soon as all have.
    async fn ping(&self, handle: &Handle, watchdog: Duration) {
        let half = watchdog / 2;
        loop {
            let before = handle.turns();
            sleep(half).await;
            while !all_turned(&before, &handle.turns()) {
                sleep(half / 10).await;
            }
            self.tell("WATCHDOG=1");
        }
    }
}

/// Resolves when another process has taken over.
async fn replaced(handle: &Handle) {
    if handle.progress().wait_for(|progress| progress.successor.is_some()).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn all_turned(before: &[u64], after: &[u64]) -> bool {
    before.iter().zip(after).all(|(before, after)| before != after)
}

/// Resolves when every worker turns and every probed endpoint is known, or `warm_up` is over.
pub(super) async fn started(handle: &Handle, warm_up: Duration) {
    let deadline = Instant::now() + warm_up;
    let turning = async {
        while handle.turns().contains(&0) {
            sleep(START_EVERY).await;
        }
    };
    turning.await;
    let warm = async {
        while handle
            .status()
            .pools
            .iter()
            .flat_map(|p| &p.endpoints)
            .any(|e| e.probe.state == ProbeState::Unknown)
        {
            sleep(START_EVERY).await;
        }
    };
    if timeout_at(deadline, warm).await.is_err() && !warm_up.is_zero() {
        tracing::warn!("ready although some endpoints have not answered a probe yet");
    }
}

/// What has been told, so that news alone is.
struct Teller<'a> {
    manager: &'a Manager,
    progress: Progress,
    line: String,
}

impl<'a> Teller<'a> {
    fn new(manager: &'a Manager, progress: Progress) -> Self {
        Self { manager, progress, line: String::new() }
    }

    fn ready(&mut self, handle: &Handle) {
        self.line = line(&handle.status(), &self.progress);
        self.manager.tell(&format!("READY=1\nSTATUS={}", self.line));
    }

    async fn follow(&mut self, handle: &Handle, progress: &mut watch::Receiver<Progress>) {
        let mut look = interval(STATUS_EVERY);
        loop {
            tokio::select! {
                changed = progress.changed() => match changed {
                    Ok(()) => self.news(progress.borrow_and_update().clone(), handle),
                    // The process has ended.
                    Err(_) => return,
                },
                _ = look.tick() => self.status(handle),
            }
        }
    }

    fn news(&mut self, now: Progress, handle: &Handle) {
        let before = std::mem::replace(&mut self.progress, now);
        if let Some(within) = self.progress.stopping.filter(|_| before.stopping.is_none()) {
            self.line = line(&handle.status(), &self.progress);
            // However short the unit's TimeoutStopSec is, the drain that the configuration asks for is granted.
            let within = (within + STOP_SLACK).as_micros();
            self.manager.tell(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={within}\nSTATUS={}", self.line));
        }
        if self.progress.stopping.is_some() {
            return;
        }
        if self.progress.reloads_begun > before.reloads_begun {
            // One message, as Type=notify-reload asks.
            self.manager.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", monotonic_microseconds()));
        }
        let under_way = self.progress.reloads_begun > self.progress.reloads_ended;
        if self.progress.reloads_ended > before.reloads_ended && !under_way {
            self.ready(handle);
        }
    }

    fn status(&mut self, handle: &Handle) {
        let line = line(&handle.status(), &self.progress);
        if line != self.line {
            self.manager.tell(&format!("STATUS={line}"));
            self.line = line;
        }
    }
}

/// `CLOCK_MONOTONIC`, by which a manager knows a reload that it asked for from one before.
fn monotonic_microseconds() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1_000)
}

/// The process in one line.
fn line(status: &Status, progress: &Progress) -> String {
    let connections: u64 = status.workers.iter().map(|worker| worker.connections).sum();
    if progress.stopping.is_some() {
        return format!("draining, {connections} connections left");
    }
    let mut line =
        format!("generation {}, {connections} connections, {} pools", status.generation, status.pools.len());
    let mut failing = status.pools.iter().filter(|pool| !pool.serves());
    if let Some(first) = failing.next() {
        line.push_str(&format!(", nothing usable in {}", first.name));
        match failing.count() {
            0 => {}
            more => line.push_str(&format!(" and {more} more")),
        }
    }
    if let Some(reason) = &progress.refused {
        line.push_str("; the last reload was refused: ");
        // The first line names the place; a newline would end the variable (sd_notify(3)).
        line.extend(reason.lines().take(1).flat_map(str::chars).filter(|c| !c.is_control()));
    }
    line
}
