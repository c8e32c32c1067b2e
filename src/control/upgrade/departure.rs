//! The old process: what it lends to its successor, the thread on which that is started and heard, and how the old one
//! leaves once the new one accepts.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use super::handover::{Handover, Socket};
use super::state::LiveState;
use super::successor::{Program, Successor};
use super::{Lent, UpgradeError};
use crate::control::health::watch::Command as KeeperCommand;
use crate::control::journal::{Change, Kind};
use crate::control::state_dir::overrides_text;
use crate::control::supervisor::{Command, Phase, Supervisor};
use crate::control::systemd::Manager;
use crate::control::{Handle, Inner, Mode};
use crate::proxy::listener::DoorId;
use crate::proxy::worker::Command as WorkerCommand;

/// How long workers may take to lend their sockets.
const LEND_TIMEOUT: Duration = Duration::from_secs(2);

/// How long what is still to be kept may take.
const STATE_CLOSE: Duration = Duration::from_secs(2);

/// How often the successor is told how many connections are left.
const REPORT: Duration = Duration::from_secs(1);

/// What a successor is given.
#[derive(Debug)]
pub(in crate::control) struct Belongings {
    handover: Handover,
    descriptors: Vec<OwnedFd>,
    /// The doors that sockets belong to, by their places.
    doors: HashMap<usize, DoorId>,
    /// What it gets to be warm.
    limit: Duration,
}

impl Belongings {
    fn push(&mut self, socket: Socket, descriptor: OwnedFd) -> usize {
        self.handover.sockets.push(socket);
        self.descriptors.push(descriptor);
        self.descriptors.len() - 1
    }
}

impl Handle {
    /// Replaces this process by a new one of the program that stands now where this one was started from: resolves when that
    /// one accepts, with its number. This process then drains. `lent` goes along, for those who own other sockets.
    ///
    /// # Errors
    /// [`UpgradeError`]; then everything is as it was.
    pub async fn upgrade(&self, lent: Vec<Lent>) -> Result<u32, UpgradeError> {
        let (answer, result) = oneshot::channel();
        self.0.commands.send(Command::Depart { answer }).await.map_err(|_| UpgradeError::Stopping)?;
        let belongings = result.await.unwrap_or(Err(UpgradeError::Stopping));
        let mut belongings = match belongings {
            Ok(belongings) => belongings,
            Err(error) => {
                self.0.journal.append(Change::new(Kind::Process, "upgrade failed", error.to_string()));
                return Err(error);
            }
        };
        let mut places = HashMap::new();
        for Lent { address, descriptor, taken } in lent {
            places.insert(belongings.push(Socket::Admin { address }, descriptor), taken);
        }
        let (done, outcome) = oneshot::channel();
        let departure = Departure { inner: Arc::clone(&self.0), belongings, places };
        let thread =
            std::thread::Builder::new().name("upgrade".to_owned()).spawn(move || departure.run(done));
        if let Err(error) = thread {
            let why = format!("a thread cannot be started: {error}");
            drop(self.0.commands.send(Command::Stay { why: why.clone() }).await);
            return Err(UpgradeError::Failed(why));
        }
        outcome.await.unwrap_or(Err(UpgradeError::Stopping))
    }
}

/// An upgrade under way, on a thread of its own: it waits for another process.
struct Departure {
    inner: Arc<Inner>,
    belongings: Belongings,
    /// What was lent, by places.
    places: HashMap<usize, Arc<std::sync::atomic::AtomicBool>>,
}

impl Departure {
    fn run(self, done: oneshot::Sender<Result<u32, UpgradeError>>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        match runtime {
            Ok(runtime) => runtime.block_on(self.go(done)),
            Err(error) => {
                let why = format!("a runtime cannot be made: {error}");
                drop(self.inner.commands.blocking_send(Command::Stay { why: why.clone() }));
                drop(done.send(Err(UpgradeError::Failed(why))));
            }
        }
    }

    async fn go(self, done: oneshot::Sender<Result<u32, UpgradeError>>) {
        let Self { inner, belongings, places } = self;
        let (mut successor, taken) = match replace(&belongings).await {
            Ok(replaced) => replaced,
            Err(why) => {
                drop(inner.commands.send(Command::Stay { why: why.clone() }).await);
                // Whoever asked may have left.
                drop(done.send(Err(UpgradeError::Failed(why))));
                return;
            }
        };
        let pid = successor.id();
        for place in &taken {
            if let Some(lent) = places.get(place) {
                lent.store(true, Ordering::Relaxed);
            }
        }
        // Before the successor says anything: it waits for our first report.
        match Manager::from_environment() {
            Ok(Some(manager)) => manager.tell_main_process(pid),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "the service manager cannot be told of the new process"),
        }
        let doors = taken.iter().filter_map(|place| belongings.doors.get(place)).copied().collect();
        drop(belongings);
        let (answer, left) = oneshot::channel();
        // Without a supervisor the process ends anyway.
        drop(inner.commands.send(Command::Leave { doors, successor: pid, answer }).await);
        left.await.ok();
        inner.elders.stop();
        drop(done.send(Ok(pid)));
        while successor.report(inner.fleet.total()) {
            inner.parting.store(false, Ordering::Relaxed);
            sleep(REPORT).await;
        }
        inner.parting.store(false, Ordering::Relaxed);
    }
}

/// Starts the successor and waits until it accepts, with the places of the sockets that it has taken.
async fn replace(belongings: &Belongings) -> Result<(Successor, Vec<usize>), String> {
    let mut successor = Successor::start(&Program::of_this_process()?)?;
    let taken = successor.take_over(&belongings.handover, &belongings.descriptors, belongings.limit).await?;
    Ok((successor, taken))
}

impl Supervisor {
    /// Collects what a successor is to have. Until it has taken over or failed, nothing is changed any more.
    pub(in crate::control) async fn depart(&mut self) -> Result<Belongings, UpgradeError> {
        if self.upgrading || self.withheld.is_some() {
            return Err(UpgradeError::Busy);
        }
        if !matches!(self.phase, Phase::Running) {
            return Err(UpgradeError::Stopping);
        }
        if self.inner.mode == Mode::Observe {
            return Err(UpgradeError::Observing);
        }
        if rustix::process::getpid().is_init() {
            return Err(UpgradeError::FirstProcess);
        }
        if self.queue.work.is_some() {
            return Err(UpgradeError::Reloading);
        }
        let belongings = self.belongings().await.map_err(UpgradeError::Failed)?;
        self.upgrading = true;
        self.inner.journal.append(Change::new(Kind::Process, "upgrading", "asked to").from("running"));
        Ok(belongings)
    }

    async fn belongings(&self) -> Result<Belongings, String> {
        let snapshot = self.inner.store.load();
        let (answer, memory) = oneshot::channel();
        drop(self.keeper.send(KeeperCommand::Remember { answer }).await);
        let memory = timeout(LEND_TIMEOUT, memory).await;
        let memory = memory.ok().and_then(Result::ok).ok_or("the health thread does not answer")?;
        let overrides = overrides_text(&self.inner.shared.running().overrides);
        let handover = Handover {
            pid: std::process::id(),
            generation: snapshot.generation,
            sockets: Vec::new(),
            state: LiveState::read(&snapshot, &memory),
            overrides: serde_json::from_slice(&overrides).unwrap_or_default(),
            findings: serde_json::from_slice(&self.membership.findings().text()).unwrap_or_default(),
        };
        let limit = self.config.process.upgrade_timeout;
        let mut all = Belongings { handover, descriptors: Vec::new(), doors: HashMap::new(), limit };
        let failed = |error| format!("a socket cannot be lent: {error}");
        let addresses: HashMap<DoorId, _> = self.doors.addresses().collect();
        for (door, descriptor) in self.borrow_sockets().await? {
            // The service manager's go as they came, once each.
            let Some(&(transport, address)) = addresses.get(&door) else { continue };
            let place = all.push(Socket::serving(transport, address), descriptor);
            all.doors.insert(place, door);
        }
        for (name, descriptor) in self.doors.inherited().lend().map_err(failed)? {
            all.push(Socket::Manager { name }, descriptor);
        }
        for (elder, descriptor) in self.inner.elders.lend().map_err(failed)? {
            all.push(elder, descriptor);
        }
        Ok(all)
    }

    /// A descriptor of every socket that the workers accept on.
    async fn borrow_sockets(&self) -> Result<Vec<(DoorId, OwnedFd)>, String> {
        let (answer, mut sockets) = mpsc::channel(self.crew.len().max(1));
        self.tell(|| WorkerCommand::Lend(answer.clone()));
        drop(answer);
        let mut all = Vec::new();
        let collect = async {
            let mut workers = 0;
            while let Some(lent) = sockets.recv().await {
                all.extend(lent.map_err(|error| format!("a socket cannot be lent: {error}"))?);
                workers += 1;
            }
            Ok(workers)
        };
        match timeout(LEND_TIMEOUT, collect).await {
            Ok(Ok(workers)) if workers == self.crew.len() => Ok(all),
            Ok(Err(error)) => Err(error),
            Ok(Ok(_)) | Err(_) => Err("a worker does not lend its sockets".to_owned()),
        }
    }

    /// The successor has failed: everything goes on.
    pub(in crate::control) fn stay(&mut self, why: &str) {
        self.upgrading = false;
        tracing::error!("the upgrade failed, and this process goes on: {why}");
        self.inner.journal.append(Change::new(Kind::Process, "upgrade failed", why).from("upgrading"));
    }

    /// The successor accepts: no new work here, and what is in flight has its time. Sockets that it has not taken are
    /// emptied first.
    pub(in crate::control) fn leave(&mut self, doors: Vec<DoorId>, successor: u32) {
        let inner = &self.inner;
        inner.parting.store(true, Ordering::Relaxed);
        inner.draining.store(true, Ordering::Relaxed);
        self.queue.abort();
        self.doors.leave(&doors);
        let doors: Arc<[DoorId]> = doors.into();
        self.tell(|| WorkerCommand::Leave(Arc::clone(&doors)));
        let inner = &self.inner;
        let limit = self.config.process.upgrade_drain_timeout;
        self.phase = Phase::Draining(Instant::now() + limit);
        inner.journal.append(
            Change::new(Kind::Process, "replaced", format!("process {successor} has taken over"))
                .from("upgrading"),
        );
        // Events are the successor's to tell from now on, and the state directory is its own.
        if let Err(error) = inner.notify(&[], 0) {
            tracing::warn!(%error, "sinks of events do not end");
        }
        if !inner.shared.close(STATE_CLOSE) {
            tracing::warn!("not everything could be kept in state_dir in time");
        }
        inner.progress.replaced(successor);
    }
}
