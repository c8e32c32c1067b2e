//! The one task that changes the process: commands, events of workers and the clock in one `select`.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use tokio::sync::watch::Receiver as Watched;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

use super::certificates::Expiry;
use super::change::{Addition, ChangeError, EndpointChange, FailoverTarget, Removal};
use super::doors::{Doors, Moves};
use super::empty::{Emptiness, Step};
use super::health::targets::Watch;
use super::health::watch::Command as KeeperCommand;
use super::journal::{Change, Kind};
use super::lints;
use super::membership::Membership;
use super::names::Answers;
use super::reload::{Answer, Cause, Queue, ReloadError, ReloadOptions, Source};
use super::sessions::LISTED_MAX;
use super::threads::Member;
use super::trial::Trials;
use super::upgrade::{Belongings, UpgradeError};
use super::watch::{self, Changed, Follower};
use super::{Ended, Inner, Mode};
use crate::config::Config;
use crate::model::name::PoolName;
use crate::policy::retry::Failure;
use crate::proxy::listener::{DoorId, Opening};
use crate::proxy::sessions::Listed;
use crate::proxy::worker::Command as WorkerCommand;
use crate::runtime::compile::Weights;
use crate::runtime::counters::WorkerId;
use crate::runtime::events::Event;

/// How often workers are looked at.
pub(super) const LOOK: Duration = Duration::from_millis(250);

/// A loop that has not turned for so long is stuck.
const STUCK: Duration = Duration::from_secs(10);

/// The same failure of the same endpoint is logged this often; counters tell the rest.
const REPEAT_LOG: Duration = Duration::from_secs(5);

/// How long workers may take to stop once told to.
const WORKER_STOP: Duration = Duration::from_secs(3);

/// How long the access log may take to write its last lines.
const LOG_CLOSE: Duration = Duration::from_secs(2);

/// How long the disk may take what is to be kept.
const STATE_CLOSE: Duration = Duration::from_secs(2);

/// How long sinks may take to tell their last events.
const NOTIFY_CLOSE: Duration = Duration::from_secs(2);

/// Changes of files that may wait.
const CHANGES_MAX: usize = 4;

/// What control is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    /// Publish another configuration.
    Reload { source: Source, options: ReloadOptions, answer: Answer },
    /// Change the admin state or weight of an endpoint.
    ChangeEndpoint { change: Box<EndpointChange>, answer: oneshot::Sender<Result<(), ChangeError>> },
    /// Add an endpoint to a pool.
    AddEndpoint { addition: Box<Addition>, answer: oneshot::Sender<Result<(), ChangeError>> },
    /// Remove an endpoint from a pool.
    RemoveEndpoint { removal: Removal, answer: oneshot::Sender<Result<(), ChangeError>> },
    /// Send a pool's traffic elsewhere, or home.
    Failover { pool: PoolName, to: FailoverTarget, answer: oneshot::Sender<Result<(), ChangeError>> },
    /// Keep what is on trial.
    Confirm { answer: oneshot::Sender<Result<u64, ReloadError>> },
    /// List tunnels and tcp sessions: those of the endpoints at these slots, or all.
    ListSessions { slots: Option<Arc<[u32]>>, answers: Vec<oneshot::Sender<(Vec<Listed>, usize)>> },
    /// End a tunnel or tcp session.
    EndSession { worker: usize, number: u32, answer: oneshot::Sender<bool> },
    /// A successor is to be started: what it is to have.
    Depart { answer: oneshot::Sender<Result<Belongings, UpgradeError>> },
    /// The successor has failed.
    Stay { why: String },
    /// The successor accepts on the sockets of these doors.
    Leave { doors: Vec<DoorId>, successor: u32, answer: oneshot::Sender<()> },
    /// Accept, as the successor of another process.
    Accept { answer: oneshot::Sender<()> },
    /// Stop.
    Shutdown { immediate: bool },
}

/// Where a shutdown stands.
#[derive(Debug, Clone, Copy)]
pub(super) enum Phase {
    /// Taking traffic.
    Running,
    /// Not ready any more, but still accepting until then.
    Delaying(Instant),
    /// Finishing what is in flight until then.
    Draining(Instant),
}

/// The task and what it knows; `publish` carries out its reloads.
pub(super) struct Supervisor {
    pub(super) inner: Arc<Inner>,
    pub(super) crew: Vec<Member>,
    pub(super) phase: Phase,
    pub(super) drain_delay: Duration,
    pub(super) drain_timeout: Duration,
    pub(super) turns: Vec<(u64, Instant)>,
    logged: HashMap<String, Instant>,
    pub(super) keeper: mpsc::Sender<KeeperCommand>,
    /// What runs.
    pub(super) config: Arc<Config>,
    /// Weights that the operator has changed.
    pub(super) weights: Weights,
    pub(super) emptiness: Emptiness,
    /// What is listened on.
    pub(super) doors: Doors,
    /// When sessions of removed listeners are to end, by the places that they had.
    pub(super) endings: Vec<(Instant, usize)>,
    /// Reloads at work and to come.
    pub(super) queue: Queue,
    pub(super) trials: Trials,
    /// A successor is on its way: nothing is changed until it has taken over or failed.
    pub(super) upgrading: bool,
    /// What a process that takes over accepts on once it is told to.
    pub(super) withheld: Option<Vec<Vec<Opening>>>,
    /// Who is in the pools, beside what is written.
    pub(super) membership: Membership,
    follower: Follower,
    /// Certificates that expire soon.
    pub(super) expiry: Expiry,
    /// Where changes of files are told.
    files: mpsc::Sender<Changed>,
}

/// What the supervisor hears while it runs.
struct Heard {
    commands: mpsc::Receiver<Command>,
    events: mpsc::Receiver<Event>,
    names: Watched<Arc<Answers>>,
    files: mpsc::Receiver<Changed>,
}

/// What the supervisor hears, and the keeper to whom it speaks.
pub(super) struct Queues {
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) events: mpsc::Receiver<Event>,
    pub(super) keeper: mpsc::Sender<KeeperCommand>,
    pub(super) doors: Doors,
    /// What names lead to.
    pub(super) names: Watched<Arc<Answers>>,
    pub(super) withheld: Option<Vec<Vec<Opening>>>,
}

/// Starts the supervisor on a thread of its own.
pub(super) fn start(
    inner: Arc<Inner>,
    crew: Vec<Member>,
    queues: Queues,
    ended: tokio::sync::watch::Sender<Option<Ended>>,
    (config, membership): (&Config, Membership),
    watches: Vec<Watch>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let (drain_delay, drain_timeout) = (config.process.drain_delay, config.process.drain_timeout);
    let config = Arc::new(config.clone());
    let weights = inner.shared.running().overrides.weights();
    std::thread::Builder::new().name("control".to_owned()).spawn(move || {
        runtime.block_on(async move {
            lints::tell(None, Arc::clone(&config));
            let Queues { commands, events, keeper, doors, names, withheld } = queues;
            let (files, changed) = mpsc::channel(CHANGES_MAX);
            let mut heard = Heard { commands, events, names, files: changed };
            let now = Instant::now();
            let turns = vec![(0, now); crew.len()];
            let mut supervisor = Supervisor {
                inner,
                crew,
                phase: Phase::Running,
                drain_delay,
                drain_timeout,
                turns,
                logged: HashMap::new(),
                keeper,
                config,
                weights,
                emptiness: Emptiness::default(),
                doors,
                endings: Vec::new(),
                queue: Queue::default(),
                trials: Trials::default(),
                membership,
                follower: Follower::default(),
                expiry: Expiry::default(),
                files,
                upgrading: false,
                withheld,
            };
            supervisor.adopted(watches, Vec::new()).await;
            supervisor.restore_overrides().await;
            supervisor.note_members();
            let end = supervisor.run(&mut heard).await;
            if supervisor.membership.finds() {
                // How old answers are is known best at the end.
                supervisor.inner.shared.keep_findings(|| supervisor.membership.findings());
            }
            supervisor.queue.abort();
            supervisor.stop_workers().await;
            if !supervisor.inner.access_log.close(LOG_CLOSE) {
                tracing::warn!("the access log did not take its last lines in time");
            }
            if !supervisor.inner.shared.close(STATE_CLOSE) {
                tracing::warn!("not everything could be kept in state_dir in time");
            }
            if !supervisor.inner.close_notifier(NOTIFY_CLOSE) {
                tracing::warn!("not every event could be told to its webhooks and programs in time");
            }
            // Whoever waits for it may end the process at once: files of sockets go before.
            supervisor.doors = Doors::default();
            ended.send_replace(Some(end));
        });
    })?;
    Ok(())
}

impl Supervisor {
    async fn run(&mut self, queues: &mut Heard) -> Ended {
        let Heard { commands, events, names, files } = queues;
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let deadline = match self.phase {
                Phase::Running => None,
                Phase::Delaying(until) | Phase::Draining(until) => Some(until),
            };
            let ended = tokio::select! {
                Some(command) = commands.recv() => self.obey(command).await,
                Some(event) = events.recv() => {
                    self.learn(event);
                    None
                }
                Ok(()) = names.changed() => {
                    let answers = Arc::clone(&names.borrow_and_update());
                    if self.membership.take(answers) {
                        self.members_changed().await;
                    }
                    None
                }
                Some(changed) = files.recv() => {
                    self.files_changed(changed).await;
                    None
                }
                step = self.queue.step() => {
                    self.reload_went_on(step).await;
                    None
                }
                _ = look.tick() => self.look().await,
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    self.deadline_passed().await
                }
            };
            if let Some(ended) = ended {
                return ended;
            }
        }
    }

    async fn obey(&mut self, command: Command) -> Option<Ended> {
        match command {
            Command::Reload { source, options, answer } => {
                self.ask(source, options, answer).await;
                None
            }
            Command::ChangeEndpoint { change, answer } => {
                self.change(*change, answer).await;
                None
            }
            Command::AddEndpoint { addition, answer } => {
                drop(answer.send(self.add_endpoint(&addition).await));
                None
            }
            Command::RemoveEndpoint { removal, answer } => {
                drop(answer.send(self.remove_endpoint(&removal).await));
                None
            }
            Command::Failover { pool, to, answer } => {
                let result = self.fail_over(pool, to).await;
                // Whoever asked may have left.
                drop(answer.send(result));
                None
            }
            Command::Confirm { answer } => {
                drop(answer.send(self.confirm()));
                None
            }
            Command::ListSessions { slots, answers } => {
                for (member, answer) in self.crew.iter().zip(answers) {
                    let slots = slots.clone();
                    let command = WorkerCommand::ListSessions { slots, most: LISTED_MAX, answer };
                    // One that is stuck does not answer, which whoever asked notices.
                    drop(member.commands.try_send(command));
                }
                None
            }
            Command::EndSession { worker, number, answer } => {
                if let Some(member) = self.crew.get(worker) {
                    drop(member.commands.try_send(WorkerCommand::EndSession { number, answer }));
                }
                None
            }
            Command::Depart { answer } => {
                drop(answer.send(self.depart().await));
                None
            }
            Command::Stay { why } => {
                self.stay(&why);
                None
            }
            Command::Leave { doors, successor, answer } => {
                self.leave(doors, successor);
                answer.send(()).ok();
                None
            }
            Command::Accept { answer } => {
                let open = self.withheld.take().unwrap_or_default();
                self.open(Moves { open, ..Moves::default() });
                answer.send(()).ok();
                None
            }
            Command::Shutdown { immediate: true } => Some(self.cut()),
            Command::Shutdown { immediate: false } => {
                self.shut_down();
                None
            }
        }
    }

    /// No new work; what is in flight has its time.
    fn shut_down(&mut self) {
        match self.phase {
            Phase::Running => {
                self.queue.abort();
                self.inner.draining.store(true, Ordering::Relaxed);
                self.inner.progress.stopping(self.drain_delay + self.drain_timeout);
                let why =
                    format!("asked to stop; delay {:?}, timeout {:?}", self.drain_delay, self.drain_timeout);
                self.inner.journal.append(Change::new(Kind::Process, "draining", why).from("running"));
                self.phase = Phase::Delaying(Instant::now() + self.drain_delay);
            }
            Phase::Delaying(_) => {}
            // Left behind by an upgrade, it has had long; asked to stop, it gets what a stop gets.
            Phase::Draining(until) => {
                self.phase = Phase::Draining(until.min(Instant::now() + self.drain_timeout));
            }
        }
    }

    /// Whether the operator may change something: what a successor has been told stays as it is.
    pub(super) fn may_change(&self) -> Result<(), ChangeError> {
        if self.upgrading || self.withheld.is_some() {
            return Err(ChangeError::Impossible(ReloadError::Upgrading.to_string()));
        }
        Ok(())
    }

    /// Carries out what the operator wants of an endpoint: its weight by another snapshot, its state by the keeper.
    async fn change(&mut self, change: EndpointChange, answer: oneshot::Sender<Result<(), ChangeError>>) {
        if let Err(refused) = self.may_change() {
            drop(answer.send(Err(refused)));
            return;
        }
        let snapshot = self.inner.store.load();
        let known = snapshot.pools.iter().find(|p| p.name == change.pool);
        let Some(pool) = known else {
            drop(answer.send(Err(ChangeError::NoPool(change.pool))));
            return;
        };
        if !pool.endpoints.iter().any(|e| e.name == change.endpoint) {
            drop(answer.send(Err(ChangeError::NoEndpoint(change.pool, change.endpoint))));
            return;
        }
        if let Some(weight) = change.weight {
            let before = self.weights.clone();
            self.weights.insert((change.pool.clone(), change.endpoint.clone()), weight.get());
            let config = Arc::clone(&self.config);
            if let Err(error) = self.reload_now(config, Cause::EndpointChange).await {
                self.weights = before;
                drop(answer.send(Err(ChangeError::Impossible(error.to_string()))));
                return;
            }
        }
        let result = self.set_state(change.clone()).await;
        if result.is_ok() {
            self.inner.shared.change_overrides(|overrides| overrides.note(&change));
        }
        drop(answer.send(result));
    }

    /// Lets the keeper change an endpoint's state. Without a keeper the process is stopping.
    async fn set_state(&self, change: EndpointChange) -> Result<(), ChangeError> {
        let (answer, result) = oneshot::channel();
        drop(self.keeper.send(KeeperCommand::Change { change, answer }).await);
        result.await.unwrap_or(Err(ChangeError::Stopping))
    }

    /// Carries out where the operator wants a pool's traffic.
    async fn fail_over(&self, pool: PoolName, to: FailoverTarget) -> Result<(), ChangeError> {
        self.may_change()?;
        let result = self.set_failover(&pool, &to).await;
        if result.is_ok() {
            self.inner.shared.change_overrides(|overrides| overrides.note_failover(&pool, &to));
        }
        result
    }

    /// Lets the keeper send a pool's traffic elsewhere.
    async fn set_failover(&self, pool: &PoolName, to: &FailoverTarget) -> Result<(), ChangeError> {
        let (answer, result) = oneshot::channel();
        let command = KeeperCommand::Failover { pool: pool.clone(), to: to.clone(), answer };
        drop(self.keeper.send(command).await);
        result.await.unwrap_or(Err(ChangeError::Stopping))
    }

    /// Brings about what the operator had changed before the process was started again. What is not there any more is kept
    /// for when it comes back.
    async fn restore_overrides(&self) {
        let overrides = self.inner.shared.running().overrides.clone();
        for change in overrides.states() {
            drop(self.set_state(change).await);
        }
        for (pool, to) in overrides.failovers.clone() {
            drop(self.set_failover(&pool, &FailoverTarget::Pool(to)).await);
        }
        if !overrides.is_empty() {
            tracing::info!(overrides = overrides.len(), "what the operator had changed holds again");
        }
    }

    /// Has what runs followed: the names of its endpoints, and its files.
    pub(super) fn note_members(&mut self) {
        if self.membership.runs(&self.config) {
            self.inner.shared.keep_findings(|| self.membership.findings());
        }
        let files = watch::Files::of(&self.config, self.inner.loader.path());
        self.follower.follow(files, &self.files);
    }

    /// Tells every worker. One whose channel is full is stuck, and one that is gone needs no telling; `look` notices.
    pub(super) fn tell(&self, command: impl Fn() -> WorkerCommand) {
        for member in &self.crew {
            if member.commands.try_send(command()).is_err() {
                tracing::warn!("a worker does not listen");
            }
        }
    }

    async fn deadline_passed(&mut self) -> Option<Ended> {
        match self.phase {
            Phase::Running => None,
            Phase::Delaying(_) => {
                self.tell(|| WorkerCommand::Drain);
                self.phase = Phase::Draining(Instant::now() + self.drain_timeout);
                None
            }
            Phase::Draining(_) => Some(self.cut()),
        }
    }

    /// What is still open is cut now.
    fn cut(&self) -> Ended {
        let cut = self.connections();
        if cut > 0 {
            tracing::warn!(connections = cut, "connections were cut");
        }
        Ended::Stopped { cut }
    }

    fn connections(&self) -> usize {
        (0..self.crew.len()).map(|w| self.inner.fleet.connections(WorkerId(w))).sum()
    }

    async fn look(&mut self) -> Option<Ended> {
        let parting = self.inner.parting.load(Ordering::Relaxed);
        if matches!(self.phase, Phase::Draining(_)) && self.connections() == 0 && !parting {
            return Some(Ended::Stopped { cut: 0 });
        }
        let now = Instant::now();
        let mut stuck = 0;
        for (index, (turns, since)) in self.turns.iter_mut().enumerate() {
            let worker = WorkerId(index);
            let turned = self.inner.fleet.counters.of(worker).turns.get();
            if turned != *turns {
                *turns = turned;
                *since = now;
            }
            if !self.inner.fleet.is_alive(worker) {
                tracing::error!(worker = index, "a worker has died");
                return Some(Ended::WorkerDied);
            }
            if now.saturating_duration_since(*since) > STUCK {
                stuck += 1;
            }
        }
        self.inner.stuck.store(stuck, Ordering::Relaxed);
        self.look_at_overload(now);
        self.end_removed(now);
        self.look_at_listeners(now).await;
        for change in self.expiry.look(&self.inner.store.load(), SystemTime::now()) {
            self.inner.journal.append(change);
        }
        if matches!(self.phase, Phase::Running) {
            self.look_at_trial().await;
        }
        None
    }

    /// Closes and opens what listens only while something is usable.
    async fn look_at_listeners(&mut self, now: Instant) {
        // A process that observes binds nothing, also when what was not usable is usable again.
        let waits = self.upgrading || self.withheld.is_some();
        if self.inner.mode == Mode::Observe || waits || !matches!(self.phase, Phase::Running) {
            return;
        }
        let snapshot = self.inner.store.load();
        for step in self.emptiness.look(&snapshot, &self.inner.board, now) {
            let (Step::Shut(index) | Step::Open(index)) = step;
            let Some(listener) = snapshot.listeners.get(index) else { continue };
            let (word, because) = match step {
                Step::Shut(_) => ("not listening", "nothing behind it is usable"),
                Step::Open(_) => ("listening", "something behind it is usable"),
            };
            if step == Step::Shut(index) {
                let doors = self.doors.shut(index);
                self.close(doors, &Arc::default()).await;
            } else if let Err(error) = self.reopen(index).await {
                tracing::error!(listener = %listener.name, %error, "a listener cannot be opened again");
                self.emptiness.failed(index);
                continue;
            }
            let told = Change::new(Kind::Process, format!("listener {} is {word}", listener.name), because);
            self.inner.journal.append(told);
        }
    }

    fn learn(&mut self, event: Event) {
        match event {
            Event::EndpointFailed { pool, endpoint, failure, evidence } => {
                if failure == Failure::Connect {
                    self.membership.suspect(&pool, &endpoint);
                }
                if self.is_news(format!("{pool}/{endpoint} {failure:?}")) {
                    tracing::warn!(%pool, %endpoint, ?failure, evidence, "an attempt failed");
                }
            }
            Event::EndpointSilent { pool, endpoint } => self.membership.suspect(&pool, &endpoint),
            Event::Judged { pool, endpoint, change, evidence } => {
                // The keeper's channel is as long as ours; what it cannot take it sees at its next tick.
                if self.keeper.try_send(KeeperCommand::Judged { pool, endpoint, change, evidence }).is_err() {
                    tracing::warn!("the health thread does not listen");
                }
            }
            Event::ConnectionPanicked { message } => {
                tracing::error!(message, "a connection ended by a panic");
            }
        }
    }

    /// Whether this has not been logged a moment ago.
    fn is_news(&mut self, what: String) -> bool {
        let now = Instant::now();
        self.logged.retain(|_, at| now.saturating_duration_since(*at) < REPEAT_LOG);
        if self.logged.contains_key(&what) {
            return false;
        }
        self.logged.insert(what, now);
        true
    }

    async fn stop_workers(&mut self) {
        self.tell(|| WorkerCommand::Stop);
        let deadline = Instant::now() + WORKER_STOP;
        while self.crew.iter().any(|m| !m.thread.is_finished()) && Instant::now() < deadline {
            sleep(Duration::from_millis(5)).await;
        }
        for member in self.crew.drain(..) {
            if !member.thread.is_finished() {
                tracing::error!("a worker does not stop and is left behind");
            } else if member.thread.join().is_err() {
                tracing::error!("a worker ended by a panic");
            }
        }
    }
}
