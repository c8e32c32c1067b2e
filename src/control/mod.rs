//! Everything that can change the process: one supervisor task, and the [`Handle`] through which others ask it.
//!
//! Cold: it may wait and allocate. Workers are told by bounded channels; what they see comes back as events.

pub mod certificates;
pub mod change;
mod collect;
mod descriptors;
mod dns;
mod doors;
mod empty;
mod endpoints;
pub mod event_json;
pub mod explain;
mod guard;
pub mod health;
pub mod inherited;
pub mod journal;
pub mod lints;
mod members;
mod membership;
pub mod names;
pub mod notify;
#[cfg(feature = "otel")]
mod otlp;
mod overload;
pub mod overrides;
pub mod progress;
mod publish;
pub mod reaper;
pub mod reload;
pub mod running;
pub mod sessions;
pub mod state_dir;
pub mod status;
mod supervisor;
pub mod surroundings;
pub mod systemd;
mod threads;
pub mod tls;
pub mod transparent;
mod trial;
pub mod upgrade;
mod watch;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch::{Receiver as Watched, channel as watched};
use tokio::sync::{mpsc, oneshot};

use crate::config::Config;
use crate::config::notify::Notify;
use crate::model::address::Address;
use crate::model::name::PoolName;
use crate::proxy::listener::Opening;
use crate::proxy::worker::Fleet;
use crate::runtime::compile::{CompileError, Machine, compile};
use crate::runtime::counters::WorkerId;
use crate::runtime::events::{self, EventSender};
use crate::runtime::snapshot::Snapshot;
use crate::runtime::sticky::Secret;
use crate::runtime::store::Store;
use crate::telemetry::access_log::AccessLog;
use change::{Addition, ChangeError, EndpointChange, FailoverTarget, Removal};
use doors::{BindError, Doors};
use health::board::Board;
use health::memory::Memory;
use health::targets::{self, ProbeError};
use health::watch::Command as KeeperCommand;
use inherited::Inherited;
use journal::{Change, Journal, Kind};
use membership::{MemberBoard, Membership};
use notify::{Notifier, NotifyError};
use overrides::Overrides;
use progress::{Progress, Reporter};
use reload::{Cause, Loader, ReloadError, ReloadOptions, Reloaded, Source};
use running::{Fallback, Running};
use sessions::Former;
use state_dir::StateDir;
use state_dir::findings::Findings;
use state_dir::recorder::Recorder;
use supervisor::Command;
use threads::Member;
use transparent::NotTransparent;
use upgrade::arrival::Given;
use upgrade::elders::Elders;

/// Requests to control that may wait.
const COMMANDS_MAX: usize = 16;

/// Why the proxy could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be bound.
    #[error("listener \"{listener}\" cannot bind {address}: {error}")]
    Bind {
        /// The listener.
        listener: String,
        /// The address.
        address: Address,
        /// Why.
        error: io::Error,
    },
    /// The access log cannot be opened.
    #[error("the access log cannot be opened: {0}")]
    AccessLog(io::Error),
    /// A sink of events cannot be used.
    #[error(transparent)]
    Notify(#[from] NotifyError),
    /// The configuration is valid, and something that it names is not.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// A health check cannot be made.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// Connections cannot come from clients' addresses.
    #[error(transparent)]
    Transparent(#[from] NotTransparent),
    /// A thread cannot be started.
    #[error("a thread cannot be started: {0}")]
    Thread(io::Error),
}

impl From<BindError> for StartError {
    fn from(error: BindError) -> Self {
        let BindError { listener, address, error } = error;
        Self::Bind { listener: listener.to_string(), address, error }
    }
}

/// How the process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// As asked, and so many connections were cut.
    Stopped {
        /// Connections that were still open at the deadline.
        cut: usize,
    },
    /// A worker died; a supervisor should start the process again.
    WorkerDied,
}

/// What a process is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// It takes traffic.
    #[default]
    Serve,
    /// It probes and tells what it sees, and binds no listener of the configuration: for trying a configuration beside what
    /// serves today.
    Observe,
}

/// The running proxy. Clones are the same one; it runs until [`Handle::shutdown`].
#[derive(Debug, Clone)]
pub struct Handle(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Arc<Store>,
    fleet: Arc<Fleet>,
    access_log: AccessLog,
    events: EventSender,
    commands: mpsc::Sender<Command>,
    started: SystemTime,
    workers: usize,
    machine: Machine,
    mode: Mode,
    draining: AtomicBool,
    /// Workers whose loops have not turned for a while.
    stuck: AtomicU64,
    reloads: Reloads,
    ended: Watched<Option<Ended>>,
    progress: Reporter,
    journal: Arc<Journal>,
    board: Arc<Board>,
    sinks: Mutex<Sinks>,
    loader: Loader,
    shared: running::Shared,
    members: Arc<MemberBoard>,
    former: Former,
    /// The first probes are in, or have had their time.
    warm: AtomicBool,
    /// What they get.
    warm_timeout: Duration,
    /// Processes that upgrades have left behind.
    elders: Arc<Elders>,
    /// A successor has taken over and does not know yet that this process leaves: it does not end before.
    parting: AtomicBool,
    /// What runs short.
    overload: overload::Watch,
    /// What follows the configuration around the proxy.
    around: surroundings::Around,
}

/// Who is told of events.
#[derive(Debug, Default)]
struct Sinks {
    written: Vec<Notify>,
    notifier: Option<Notifier>,
}

#[derive(Debug, Default)]
struct Reloads {
    ok: AtomicU64,
    failed: AtomicU64,
    /// Whether the last one was refused.
    last_failed: AtomicBool,
    /// When the running configuration was published, in milliseconds since 1970.
    published_ms: AtomicU64,
}

/// Starts the proxy: binds every listener, starts the workers and the supervisor. Installs no signal handler, logger
/// or metrics recorder of the process; what needs the process as a whole (descriptor limit) is raised, never lowered.
///
/// # Errors
/// [`StartError`]; nothing is left running then.
pub fn start(config: &Config) -> Result<Handle, StartError> {
    start_as(config, Launch::default())
}

/// How a process is started.
#[derive(Debug, Default)]
pub struct Launch {
    /// What it is for.
    pub mode: Mode,
    /// Where its configuration is read again.
    pub loader: Loader,
    /// Why it starts from the last good configuration, where it does.
    pub fallback: Option<Fallback>,
    /// Sockets that it was given to accept on.
    pub inherited: Arc<Inherited>,
    /// What another process hands over; then it accepts only once [`Handle::accept`] says so.
    pub given: Option<Given>,
}

/// The same, as `launch` has it.
///
/// # Errors
/// [`StartError`]; nothing is left running then.
pub fn start_as(config: &Config, launch: Launch) -> Result<Handle, StartError> {
    let Launch { mode, loader, fallback, inherited, given } = launch;
    let (is_successor, mut given) = (given.is_some(), given.unwrap_or_default());
    let journal = Arc::<Journal>::default();
    let machine = machine(config, given.state.now(), secret(config, &journal, &given));
    let (overrides, findings, recorder) = recall(config, &journal, &mut given);
    let (membership, names) = Membership::new(config, overrides.roster.clone(), findings);
    let expanded = membership.expand(config);
    let snapshot =
        compile(&expanded, None, &machine, &overrides.weights())?.after(given.generation, machine.workers);
    snapshot.settle();
    let recalled = given.state.apply(&snapshot);
    let watches = targets::watches(&expanded.pools, &snapshot)?;
    let (fleet, handovers) = Fleet::new(machine.workers);
    let (doors, openings) = match mode {
        Mode::Serve => open(config, &snapshot, inherited, &mut given, machine.workers)?,
        Mode::Observe => (Doors::default(), nothing(machine.workers)),
    };
    drop(given.untaken.set(given.handed.drain().map(|(address, _)| address).collect()));
    let access_log = surroundings::open_access_log(&config.log).map_err(StartError::AccessLog)?;
    let (event_sender, event_receiver) = events::queue();
    let store = Arc::new(Store::new(snapshot));
    let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
    let (ended_sender, ended) = watched(None);
    let running = Running::at_start(config, &loader, store.load().generation, fallback, overrides);
    let inner = Arc::new(Inner {
        store,
        fleet,
        access_log,
        events: event_sender,
        commands,
        started: SystemTime::now(),
        workers: machine.workers,
        machine,
        mode,
        draining: AtomicBool::new(false),
        stuck: AtomicU64::new(0),
        reloads: Reloads::default(),
        ended,
        progress: Reporter::default(),
        journal,
        board: Arc::default(),
        sinks: Mutex::default(),
        loader,
        shared: running::Shared::new(running, recorder),
        members: membership.board(),
        former: Former::default(),
        warm: AtomicBool::new(false),
        warm_timeout: config.process.warm_timeout,
        elders: Arc::default(),
        parting: AtomicBool::new(false),
        overload: overload::Watch::default(),
        around: surroundings::Around::new(),
    });
    inner.published_at(SystemTime::now());
    inner.start_telling(&config.notify)?;
    let (openings, withheld) =
        if is_successor { (nothing(machine.workers), Some(openings)) } else { (openings, None) };
    let crew = threads::start_workers(&inner, handovers, openings)?;
    let keeper = start_keeper(&inner, &crew, recalled)?;
    let queues =
        supervisor::Queues { commands: receiver, events: event_receiver, keeper, doors, names, withheld };
    supervisor::start(Arc::clone(&inner), crew, queues, ended_sender, (config, membership), watches)
        .map_err(StartError::Thread)?;
    inner.tell_start();
    if !is_successor {
        inner.shared.keep_config();
    }
    Ok(Handle(inner))
}

/// Opens what a first snapshot listens on.
fn open(
    config: &Config,
    snapshot: &Snapshot,
    inherited: Arc<Inherited>,
    given: &mut Given,
    workers: usize,
) -> Result<(Doors, Vec<Vec<Opening>>), StartError> {
    transparent::check(config)?;
    Ok(doors::open_all(&snapshot.listeners, inherited, &mut given.handed, workers)?)
}

/// Starts the thread of health, which goes on with what another process knew.
fn start_keeper(
    inner: &Inner,
    crew: &[Member],
    recalled: Memory,
) -> Result<mpsc::Sender<KeeperCommand>, StartError> {
    let start = health::watch::Start {
        snapshot: inner.store.load(),
        board: Arc::clone(&inner.board),
        journal: Arc::clone(&inner.journal),
        workers: crew.iter().map(|member| member.commands.clone()).collect(),
        events: inner.events.clone(),
        recalled,
    };
    health::watch::start(start).map_err(StartError::Thread)
}

/// No socket for any worker.
fn nothing(workers: usize) -> Vec<Vec<Opening>> {
    (0..workers).map(|_| Vec::new()).collect()
}

/// The secret of sticky pools: that of the process before, or the one that is kept. Where none can be kept it is this
/// process's alone, which is said.
fn secret(config: &Config, journal: &Journal, given: &Given) -> Option<Secret> {
    if let Some(secret) = given.state.secret() {
        return Some(secret);
    }
    let path = config.process.state_dir.as_ref()?;
    let kept = StateDir::at(path).secret();
    if let Err(error) = &kept {
        journal.append(Change::new(Kind::Alarm, "sticky cookies end with this process", error.to_string()));
    }
    kept.ok()
}

/// What there is to run on; `time` is where the time line of the policies stands.
fn machine(config: &Config, time: Duration, secret: Option<Secret>) -> Machine {
    let processors = || std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let workers = config.process.workers.unwrap_or_else(processors);
    let connections_max = descriptors::connections_max(workers, config.listeners.len());
    Machine { workers, connections_max, time, secret }
}

/// What a state directory has of run-time changes and of who is in the pools, and what will write to it. Without one, and
/// where it cannot be used, nothing: that is said, and does not keep the proxy from serving.
fn recall(
    config: &Config,
    journal: &Arc<Journal>,
    given: &mut Given,
) -> (Overrides, Findings, Option<Recorder>) {
    // What another process hands over is newer.
    let (overrides, findings) = (given.overrides.take(), given.findings.take());
    let Some(path) = &config.process.state_dir else {
        return (overrides.unwrap_or_default(), findings.unwrap_or_default(), None);
    };
    let directory = StateDir::at(path);
    let alarm = |to: &'static str, why: String| journal.append(Change::new(Kind::Alarm, to, why));
    if let Err(error) = directory.prepare() {
        alarm("state is not kept", format!("state_dir {} cannot be used: {error}", path.display()));
    }
    let kept = directory.overrides().unwrap_or_else(|error| {
        alarm("overrides are lost", error.to_string());
        Overrides::default()
    });
    let overrides = overrides.unwrap_or(kept);
    let kept = directory.findings().unwrap_or_else(|error| {
        alarm("last answers are lost", error.to_string());
        Findings::default()
    });
    let findings = findings.unwrap_or(kept);
    match Recorder::start(directory, Arc::clone(journal)) {
        Ok(recorder) => (overrides, findings, Some(recorder)),
        Err(error) => {
            alarm("state is not kept", format!("its thread cannot be started: {error}"));
            (overrides, findings, None)
        }
    }
}

impl Inner {
    /// Starts what tells others: of events, and of requests.
    fn start_telling(&self, sinks: &[Notify]) -> Result<(), NotifyError> {
        #[cfg(feature = "otel")]
        otlp::export(&self.store.load());
        self.notify(sinks, 0)
    }

    /// Puts these sinks in the place of those at work, which end when they have told what they know; the same ones stay.
    /// New ones are told what comes after the event `after`.
    fn notify(&self, sinks: &[Notify], after: u64) -> Result<(), NotifyError> {
        let mut at_work = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        if at_work.written == sinks {
            return Ok(());
        }
        let settings: Vec<_> = sinks.iter().map(notify::Settings::from).collect();
        let notifier =
            if sinks.is_empty() { None } else { Some(Notifier::start(&self.journal, after, &settings)?) };
        *at_work = Sinks { written: sinks.to_vec(), notifier };
        Ok(())
    }

    /// Says that the process has started, and whether it is the last good configuration that serves.
    fn tell_start(&self) {
        let (to, why) = match self.mode {
            Mode::Serve => ("running", "started"),
            Mode::Observe => ("observing", "started without its listeners"),
        };
        self.journal.append(Change::new(Kind::Process, to, why));
        let Some(fallback) = self.shared.running().fallback.clone() else { return };
        let listed = fallback.diagnostics.iter().flat_map(|diagnostics| diagnostics.list());
        let change = Change::new(Kind::Alarm, "the last good configuration serves", fallback.why.clone());
        self.journal.append(change.evidence(listed.take(journal::EVIDENCE_MAX).map(reload::evidence)));
    }

    /// Lets the sinks tell what has happened, for `limit` at most; whether they have.
    fn close_notifier(&self, limit: Duration) -> bool {
        let notifier = self.sinks.lock().unwrap_or_else(PoisonError::into_inner).notifier.take();
        notifier.is_none_or(|notifier| notifier.close(limit))
    }
}

impl Handle {
    /// Puts a new configuration in the place of the running one, atomically: requests in flight end with the one
    /// they began with, live state of what stays is kept.
    ///
    /// # Errors
    /// [`ReloadError`]; the running configuration then stays as it is.
    pub async fn reload(&self, config: Config) -> Result<Reloaded, ReloadError> {
        self.reload_from(Source::Config(Box::new(config)), ReloadOptions::new(Cause::Library)).await
    }

    /// The same, from wherever the configuration comes. Reloads wait for one another, and each is answered once it is
    /// published or refused.
    ///
    /// # Errors
    /// [`ReloadError`]; the running configuration then stays as it is.
    pub async fn reload_from(&self, source: Source, options: ReloadOptions) -> Result<Reloaded, ReloadError> {
        let (answer, result) = oneshot::channel();
        let command = Command::Reload { source, options, answer };
        self.0.commands.send(command).await.map_err(|_| ReloadError::Stopping)?;
        result.await.unwrap_or(Err(ReloadError::Stopping))
    }

    /// Confirms what is on trial: the generation that stays.
    ///
    /// # Errors
    /// [`ReloadError::NothingToConfirm`], also when the process has gone back already.
    pub async fn confirm(&self) -> Result<u64, ReloadError> {
        let (answer, result) = oneshot::channel();
        self.0.commands.send(Command::Confirm { answer }).await.map_err(|_| ReloadError::Stopping)?;
        result.await.unwrap_or(Err(ReloadError::Stopping))
    }

    /// Stops: drains first, unless `immediate`; asked again with `immediate`, a drain ends at once. Resolves when the
    /// process has ended, with the number of connections that were cut.
    pub async fn shutdown(&self, immediate: bool) -> Ended {
        // A supervisor that is gone has ended already, which `ended` tells.
        drop(self.0.commands.send(Command::Shutdown { immediate }).await);
        self.ended().await
    }

    /// Changes the admin state or the weight of an endpoint; the change outlives reloads.
    ///
    /// # Errors
    /// [`ChangeError`]; nothing has changed then.
    pub async fn change_endpoint(&self, change: EndpointChange) -> Result<(), ChangeError> {
        let (answer, result) = oneshot::channel();
        let command = Command::ChangeEndpoint { change: Box::new(change), answer };
        self.0.commands.send(command).await.map_err(|_| ChangeError::Stopping)?;
        result.await.unwrap_or(Err(ChangeError::Stopping))
    }

    /// Adds an endpoint to a pool, or brings back one that was removed; it outlives reloads.
    ///
    /// # Errors
    /// [`ChangeError`]; nothing has changed then.
    pub async fn add_endpoint(&self, addition: Addition) -> Result<(), ChangeError> {
        let (answer, result) = oneshot::channel();
        let command = Command::AddEndpoint { addition: Box::new(addition), answer };
        self.0.commands.send(command).await.map_err(|_| ChangeError::Stopping)?;
        result.await.unwrap_or(Err(ChangeError::Stopping))
    }

    /// Removes an endpoint from a pool: no new work from now on, and what is long-lived ends within the pool's
    /// `drain_timeout`. It stays removed over reloads.
    ///
    /// # Errors
    /// [`ChangeError`]; nothing has changed then.
    pub async fn remove_endpoint(&self, removal: Removal) -> Result<(), ChangeError> {
        let (answer, result) = oneshot::channel();
        self.0
            .commands
            .send(Command::RemoveEndpoint { removal, answer })
            .await
            .map_err(|_| ChangeError::Stopping)?;
        result.await.unwrap_or(Err(ChangeError::Stopping))
    }

    /// Sends the traffic of `pool` to one of its failover pools, or home again.
    ///
    /// # Errors
    /// [`ChangeError`]; nothing has changed then.
    pub async fn failover(&self, pool: PoolName, to: FailoverTarget) -> Result<(), ChangeError> {
        let (answer, result) = oneshot::channel();
        self.0
            .commands
            .send(Command::Failover { pool, to, answer })
            .await
            .map_err(|_| ChangeError::Stopping)?;
        result.await.unwrap_or(Err(ChangeError::Stopping))
    }

    /// What has changed, and why.
    #[must_use]
    pub fn journal(&self) -> &Arc<Journal> {
        &self.0.journal
    }

    /// Lets a process that takes over from another one accept; nothing is refused any more.
    pub async fn accept(&self) {
        let (answer, accepting) = oneshot::channel();
        // A supervisor that is gone has ended, which `ended` tells.
        drop(self.0.commands.send(Command::Accept { answer }).await);
        accepting.await.ok();
        self.0.shared.keep_config();
    }

    /// Resolves when the proxy has ended.
    pub async fn ended(&self) -> Ended {
        let mut ended = self.0.ended.clone();
        let seen = ended.wait_for(Option::is_some).await.map(|ended| *ended);
        seen.ok().flatten().unwrap_or(Ended::WorkerDied)
    }

    /// Whether every worker's thread runs and its loop turns.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.0.stuck.load(Ordering::Relaxed) == 0
    }

    /// Where it stands, and every change of that.
    #[must_use]
    pub fn progress(&self) -> Watched<Progress> {
        self.0.progress.subscribe()
    }

    /// How often each worker's loop has turned: a number that stays the same for a second is a worker that is stuck.
    #[must_use]
    pub fn turns(&self) -> Vec<u64> {
        let counters = &self.0.fleet.counters;
        (0..self.0.workers).map(|worker| counters.of(WorkerId(worker)).turns.get()).collect()
    }

    /// Opens log files again, as after a rotation.
    pub fn reopen_logs(&self) {
        self.0.access_log.reopen();
    }
}
