//! `plimsoll run`: the proxy as a process of its own, with its log, its signals and the thread of the admin API.

use std::backtrace::Backtrace;
use std::future::Future;
use std::io;
use std::io::Write as _;
use std::panic::PanicHookInfo;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Failure;
use super::admin_site::{AdminSite, AdminThread};
use crate::config::process::Log;
use crate::config::{self, Config};
use crate::control::inherited::Inherited;
use crate::control::reaper::reap_orphans;
use crate::control::reload::{Cause, Loader, ReloadOptions, Source};
use crate::control::running::Fallback;
use crate::control::state_dir::{LastGood, StateDir};
use crate::control::surroundings::{format, level};
use crate::control::systemd::Manager;
use crate::control::upgrade::arrival::Arrival;
use crate::control::{self, Ended, Handle, Launch, Mode};
use crate::telemetry::logging;

/// What the log gets for its last lines.
const LOG_CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs the proxy with the file at `path` until a signal ends it. Where the file cannot be used, the last good configuration
/// serves, if a state directory has one.
pub(super) fn run(path: &Path, mode: Mode, state_dir: Option<&Path>) -> Result<(), Failure> {
    let arrival = Arrival::from_environment().map_err(|error| Failure::Running(error.to_string()))?;
    if let Some(arrival) = arrival {
        return take_over(path, mode, arrival);
    }
    // Before any thread: this takes what it has read out of the environment.
    let inherited = Arc::new(Inherited::from_environment());
    let loader = Loader::file(path.to_owned());
    let launch = |fallback| Launch {
        mode,
        loader: loader.clone(),
        fallback,
        inherited: Arc::clone(&inherited),
        given: None,
    };
    match config::load(path) {
        Ok(config) => with_log(&config.log, || {
            let refused = match begin(&config, launch(None)) {
                Ok(begun) => return begun.end(),
                Err(refused) => refused,
            };
            let asked = config.process.state_dir.as_deref().or(state_dir);
            let Some(last) = last_good(asked, path).filter(|last| last.config.hash != config.hash) else {
                return Err(refused);
            };
            tracing::error!(
                "{} cannot be started with, so the last good configuration serves: {refused}",
                path.display()
            );
            let why = format!("starting with {} failed: {refused}", path.display());
            let fallback = Fallback { why, diagnostics: None, kept: last.at };
            // What is in the way may be in the way of both, and then the file's own error is the one to read.
            begin(&last.config, launch(Some(fallback))).map_err(|_| refused)?.end()
        }),
        Err(diagnostics) => {
            let Some(last) = last_good(state_dir, path) else {
                return Err(Failure::Input(diagnostics.to_string()));
            };
            with_log(&last.config.log, || {
                tracing::error!(
                    "{} is broken, so the last good configuration serves:\n{diagnostics}",
                    path.display()
                );
                let why = format!("{} has {} errors", path.display(), diagnostics.count());
                let fallback = Fallback { why, diagnostics: Some(diagnostics), kept: last.at };
                begin(&last.config, launch(Some(fallback)))?.end()
            })
        }
    }
}

/// Runs the proxy in the place of the process that has started this one. Whatever is wrong is told to that one, which goes
/// on; so nothing but the file is tried.
fn take_over(path: &Path, mode: Mode, arrival: Arrival) -> Result<(), Failure> {
    let line = arrival.line().map_err(running("the line to the old process"))?;
    let result = match config::load(path) {
        Ok(config) => with_log(&config.log, || begin_as_successor(&config, mode, path, arrival)?.end()),
        Err(diagnostics) => Err(Failure::Input(diagnostics.to_string())),
    };
    if let Err(failure) = &result {
        // Once this process accepts, nobody listens any more.
        line.fail(&failure.to_string());
    }
    result
}

/// Starts with the sockets and what is known of the process before, and accepts once that one lets it.
fn begin_as_successor(
    config: &Config,
    mode: Mode,
    path: &Path,
    mut arrival: Arrival,
) -> Result<Begun, Failure> {
    let (runtime, signals) = runtime_with_signals()?;
    let site = AdminSite::bind(config, Some(&mut arrival))?;
    let loader = Loader::file(path.to_owned());
    let (inherited, given) = (Arc::new(arrival.inherited()), Some(arrival.given()));
    let launch = Launch { mode, loader, fallback: None, inherited, given };
    let handle = control::start_as(config, launch).map_err(|error| Failure::Running(error.to_string()))?;
    let warm_timeout = config.process.warm_timeout;
    let settled = runtime.block_on(arrival.settle(&handle, warm_timeout));
    settled.map_err(|error| Failure::Running(error.to_string()))?;
    runtime.block_on(handle.accept());
    let admin = site.serve(&handle)?;
    if let Err(error) = arrival.ready(&handle) {
        tracing::warn!(%error, "an old process is not followed");
    }
    Ok(Begun { runtime, signals, handle, admin, warm_timeout })
}

/// The last good configuration of a file, from the first directory that has it. What is there and cannot be used is told on
/// standard error, since there is no log yet or it says so too.
fn last_good(state_dir: Option<&Path>, path: &Path) -> Option<LastGood> {
    StateDir::candidates(state_dir, path).into_iter().find_map(|directory| match directory.last_good(path) {
        Ok(found) => found,
        Err(error) => {
            // With nowhere to write there is nothing to do.
            let _written = writeln!(io::stderr(), "{error}");
            None
        }
    })
}

/// Runs `work` with the process's log and panic hook in place.
pub(super) fn with_log(log: &Log, work: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    logging::install(level(log.level), format(log.format)).map_err(running("the log"))?;
    std::panic::set_hook(Box::new(log_panic));
    let result = work();
    // A log that nobody takes in time is cut; there is nowhere left to say so.
    let _written = logging::close(LOG_CLOSE_TIMEOUT);
    result
}

/// Runs the proxy and its admin API; `started` is called when both are there.
pub(super) fn proxy(
    config: &Config,
    launch: Launch,
    started: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let begun = begin(config, launch)?;
    started()?;
    begun.end()
}

/// The proxy and its admin API, running.
struct Begun {
    runtime: Runtime,
    signals: Signals,
    handle: Handle,
    admin: AdminThread,
    warm_timeout: Duration,
}

/// Starts the proxy and its admin API; nothing is left running when that fails.
fn begin(config: &Config, launch: Launch) -> Result<Begun, Failure> {
    let (runtime, signals) = runtime_with_signals()?;
    let site = AdminSite::bind(config, None)?;
    let handle = control::start_as(config, launch).map_err(|error| Failure::Running(error.to_string()))?;
    let admin = site.serve(&handle)?;
    let warm_timeout = config.process.warm_timeout;
    Ok(Begun { runtime, signals, handle, admin, warm_timeout })
}

fn runtime_with_signals() -> Result<(Runtime, Signals), Failure> {
    let runtime = runtime()?;
    let context = runtime.enter();
    let signals = Signals::new().map_err(running("signals"))?;
    drop(context);
    Ok((runtime, signals))
}

impl Begun {
    /// Does what signals ask, and tells the service manager, until the proxy has ended.
    fn end(self) -> Result<(), Failure> {
        let Self { runtime, mut signals, handle, mut admin, warm_timeout } = self;
        let manager = Manager::from_environment().unwrap_or_else(|error| {
            tracing::warn!(%error, "the service manager cannot be told anything: NOTIFY_SOCKET");
            None
        });
        let ended = runtime.block_on(async {
            tokio::select! {
                ended = signals.obey(&handle, &mut admin) => ended,
                () = attend(manager.as_ref(), &handle, warm_timeout) => handle.ended().await,
            }
        });
        admin.stop();
        match ended {
            Ended::Stopped { .. } => Ok(()),
            // Whoever supervises the process starts it again.
            Ended::WorkerDied => Err(Failure::Running("a worker died".to_owned())),
        }
    }
}

/// What a service manager, or process 1 of a container, owes to others; it has no end.
async fn attend(manager: Option<&Manager>, handle: &Handle, warm_up: Duration) {
    let told = async {
        if let Some(manager) = manager {
            manager.attend(handle, warm_up).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::join!(told, reap_orphans());
}

pub(super) fn runtime() -> Result<Runtime, Failure> {
    Builder::new_current_thread().enable_all().build().map_err(running("a runtime"))
}

pub(super) fn running<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> Failure {
    move |error| Failure::Running(format!("{what} cannot be set up: {error}"))
}

/// The signals of the contract.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    user1: Signal,
    user2: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    /// Does what signals ask until the proxy has ended.
    async fn obey(&mut self, handle: &Handle, admin: &mut AdminThread) -> Ended {
        let mut stopping: Pin<Box<dyn Future<Output = Ended> + '_>> = Box::pin(handle.ended());
        let mut asked = false;
        let mut progress = handle.progress();
        loop {
            tokio::select! {
                ended = &mut stopping => {
                    match ended {
                        Ended::Stopped { cut } => tracing::info!(cut, "stopped"),
                        Ended::WorkerDied => tracing::error!("stopped because a worker died"),
                    }
                    return ended;
                }
                // The admin API is the new process's.
                Ok(_) = progress.wait_for(|p| p.successor.is_some()), if !admin.is_stopped() => {
                    admin.stop();
                    continue;
                }
                _ = self.user2.recv() => {
                    upgrade(handle.clone(), admin);
                    continue;
                }
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
                _ = self.hang_up.recv() => {
                    reload(handle.clone());
                    continue;
                }
                _ = self.user1.recv() => {
                    tracing::info!("reopening logs");
                    handle.reopen_logs();
                    continue;
                }
            }
            // A signal to stop: the first drains, the second does not wait.
            tracing::info!(immediate = asked, "stopping");
            stopping = Box::pin(handle.shutdown(asked));
            asked = true;
        }
    }
}

/// Asks for a reload of the file. How it ends is told by the log.
fn reload(handle: Handle) {
    tracing::info!("reloading");
    drop(tokio::spawn(async move {
        drop(handle.reload_from(Source::File, ReloadOptions::new(Cause::Signal)).await);
    }));
}

/// Asks for another process to take over. How it ends is told by the log and the events.
fn upgrade(handle: Handle, admin: &AdminThread) {
    tracing::info!("upgrading");
    let lent = match admin.lend() {
        Ok(lent) => lent,
        Err(error) => return tracing::error!(%error, "the sockets of the admin API cannot be lent"),
    };
    drop(tokio::spawn(async move {
        match handle.upgrade(lent).await {
            Ok(successor) => tracing::info!(successor, "another process has taken over"),
            Err(error) => tracing::error!("no upgrade: {error}"),
        }
    }));
}

/// A panic ends one connection, not the process; what is left of it is this line.
fn log_panic(info: &PanicHookInfo<'_>) {
    let backtrace = Backtrace::force_capture();
    let thread = std::thread::current();
    let payload = info.payload();
    let text = payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied());
    let reason = text.unwrap_or("no message");
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(thread = thread.name(), place, %backtrace, "panic: {reason}");
}
