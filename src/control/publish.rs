//! The way of a reload from a configuration to what runs: compile, bind, warm up, publish, drain what is gone. Whatever
//! changes the snapshot comes this way, whoever asked; anything that fails on it has changed nothing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::doors::{Doors, Fresh, Moves};
use super::health::targets::{self, Watch};
use super::health::warm::{Newcomer, Warmth, newcomers};
use super::health::watch::Command as KeeperCommand;
use super::journal::{Change, Kind};
use super::lints;
use super::reload::{Answer, Cause, Job, ReloadError, ReloadOptions, Reloaded, Source, Stage, Step, Work};
use super::supervisor::{Phase, Supervisor};
use super::{Inner, Mode, guard, transparent, trial};
use crate::config::Config;
use crate::model::name::{EndpointName, PoolName};
use crate::proxy::listener::DoorId;
use crate::proxy::worker::Command as WorkerCommand;
use crate::runtime::compile::compile;
use crate::runtime::diff::{Side, diff};
use crate::runtime::listener::{Listener, Protocol, WhenEmpty};
use crate::runtime::pool::Pool;
use crate::runtime::snapshot::Snapshot;

/// How long workers may take to close a socket: one that is stuck does not keep the others from a new configuration.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a reload waits for the first answers of new names.
const FIRST_ANSWERS: Duration = Duration::from_secs(3);

/// A configuration that is ready to be published, but for what its new endpoints say.
#[derive(Debug)]
pub(super) struct Prepared {
    config: Arc<Config>,
    options: ReloadOptions,
    next: Snapshot,
    watches: Vec<Watch>,
    /// Sockets of addresses that are new.
    fresh: Fresh,
}

impl Supervisor {
    /// Takes a reload in; it begins when those before it have ended.
    pub(super) async fn ask(&mut self, source: Source, options: ReloadOptions, answer: Answer) {
        if !matches!(self.phase, Phase::Running) {
            // Whoever asked may have left.
            drop(answer.send(Err(ReloadError::Stopping)));
            return;
        }
        if self.upgrading || self.withheld.is_some() {
            drop(answer.send(Err(ReloadError::Upgrading)));
            return;
        }
        self.queue.push(source, options, answer);
        self.begin_reloads().await;
    }

    /// Begins reloads until one has to wait for something.
    async fn begin_reloads(&mut self) {
        while let Some(job) = self.queue.next() {
            let Job { source, options, answers } = job;
            self.inner.progress.reload_begins();
            match source {
                Source::Config(config) => self.loaded(Ok(Arc::from(config)), options, answers).await,
                source => {
                    let loader = self.inner.loader.clone();
                    let loading = tokio::task::spawn_blocking(move || loader.load(source));
                    self.queue.work = Some(Work { options, answers, stage: Stage::Loading(loading) });
                }
            }
        }
    }

    /// Goes on with the reload at work, one of whose stages has ended.
    pub(super) async fn reload_went_on(&mut self, step: Step) {
        let Some(Work { options, answers, stage }) = self.queue.work.take() else { return };
        match (step, stage) {
            (Step::Loaded(result), _) => self.loaded(result, options, answers).await,
            (Step::Warm(warmth), Stage::Warming(prepared, _)) => {
                let result = self.publish(*prepared, &warmth).await;
                self.ended(&result, options, answers);
            }
            (Step::Named(found), Stage::Naming { config, .. }) => {
                if let Some(found) = found {
                    self.membership.take(found);
                }
                self.named(config, options, answers).await;
            }
            (Step::Warm(_) | Step::Named(_), _) => {}
        }
        self.begin_reloads().await;
    }

    async fn loaded(
        &mut self,
        config: Result<Arc<Config>, ReloadError>,
        options: ReloadOptions,
        answers: Vec<Answer>,
    ) {
        let config = match config {
            Ok(config) => config,
            Err(error) => return self.ended(&Err(error), options, answers),
        };
        self.membership.read_files(&config);
        // What is not known by then is published when it is.
        match self.membership.ask_also(&config, &self.config) {
            Some(found) => {
                let until = Instant::now() + FIRST_ANSWERS.min(config.process.warm_timeout);
                let stage = Stage::Naming { config, answers: found, until };
                self.queue.work = Some(Work { options, answers, stage });
            }
            None => self.named(config, options, answers).await,
        }
    }

    async fn named(&mut self, config: Arc<Config>, options: ReloadOptions, answers: Vec<Answer>) {
        let prepared = match self.prepare(config, options) {
            Ok(prepared) => prepared,
            Err(error) => return self.ended(&Err(error), options, answers),
        };
        let newcomers = self.newcomers(&prepared);
        if !newcomers.is_empty() {
            let (answer, warmth) = oneshot::channel();
            let limit = prepared.config.process.warm_timeout;
            // Without a keeper the process is stopping.
            if self.keeper.send(KeeperCommand::WarmUp { newcomers, limit, answer }).await.is_ok() {
                let stage = Stage::Warming(Box::new(prepared), warmth);
                self.queue.work = Some(Work { options, answers, stage });
                return;
            }
        }
        let result = self.publish(prepared, &Warmth::default()).await;
        self.ended(&result, options, answers);
    }

    /// Publishes at once what follows from something that cannot wait, also while a reload warms up: that one is brought
    /// into line with it before it is published.
    pub(super) async fn reload_now(
        &mut self,
        config: Arc<Config>,
        cause: Cause,
    ) -> Result<Reloaded, ReloadError> {
        if !matches!(self.phase, Phase::Running) {
            return Err(ReloadError::Stopping);
        }
        let prepared = self.prepare(config, ReloadOptions::new(cause))?;
        self.publish(prepared, &Warmth::default()).await
    }

    /// Counts and tells how a reload has ended.
    fn ended(
        &mut self,
        result: &Result<Reloaded, ReloadError>,
        options: ReloadOptions,
        answers: Vec<Answer>,
    ) {
        let reloads = &self.inner.reloads;
        match result {
            Ok(reloaded) => {
                reloads.ok.fetch_add(1, Ordering::Relaxed);
                for warning in &reloaded.warnings {
                    tracing::warn!("{warning}");
                }
            }
            Err(error) => {
                // What only the refused one named is asked for no more.
                drop(self.membership.ask(&self.config));
                reloads.failed.fetch_add(1, Ordering::Relaxed);
                tracing::error!("the reload is refused, and what ran runs on:\n{error}");
                self.inner.journal.append(error.event(options.cause));
            }
        }
        reloads.last_failed.store(result.is_err(), Ordering::Relaxed);
        self.inner.progress.reload_ended(result.as_ref().err().map(ToString::to_string));
        for answer in answers {
            // Whoever asked may have left.
            drop(answer.send(result.clone()));
        }
    }

    /// The snapshot of a configuration, with everything that has been changed at run time, and what of it is probed.
    fn compile(&self, config: &Config, previous: &Snapshot) -> Result<(Snapshot, Vec<Watch>), ReloadError> {
        let config = self.membership.expand(config);
        let next = compile(&config, Some(previous), &self.inner.machine, &self.weights)?;
        let watches = targets::watches(&config.pools, &next)?;
        Ok((next, watches))
    }

    /// Everything that may be refused before anybody is asked: nothing has changed, but that new addresses are bound.
    fn prepare(&self, config: Arc<Config>, options: ReloadOptions) -> Result<Prepared, ReloadError> {
        if config.process.workers.is_some_and(|workers| workers != self.inner.workers) {
            return Err(ReloadError::Workers);
        }
        if self.inner.mode == Mode::Serve {
            transparent::check(&config)?;
        }
        let previous = self.inner.store.load();
        let (next, watches) = self.compile(&config, &previous)?;
        let mut fresh = Fresh::default();
        if self.inner.mode == Mode::Serve {
            let is_shut = |place: usize, listener: &Listener| self.is_shut(&previous, place, listener);
            self.doors.bind(&next.listeners, &is_shut, self.inner.workers, &mut fresh)?;
        }
        Ok(Prepared { config, options, next, watches, fresh })
    }

    fn newcomers(&self, prepared: &Prepared) -> Vec<Newcomer> {
        if !prepared.options.cause.warms() || prepared.config.process.warm_timeout.is_zero() {
            return Vec::new();
        }
        newcomers(&self.inner.store.load(), &prepared.next, &prepared.watches)
    }

    /// Whether a listener that would be open is shut because nothing behind it is usable.
    fn is_shut(&self, previous: &Snapshot, place: usize, listener: &Listener) -> bool {
        let closes = matches!(listener.protocol, Protocol::Tcp { when_empty: WhenEmpty::StopListening, .. });
        closes && self.emptiness.is_shut(place) && previous.listeners.name(place) == Some(&listener.name)
    }

    /// The last things that may fail, then the swap, and what follows from it.
    async fn publish(&mut self, prepared: Prepared, warmth: &Warmth) -> Result<Reloaded, ReloadError> {
        let Prepared { config, options, mut next, mut watches, mut fresh } = prepared;
        let previous = self.inner.store.load();
        if next.generation != previous.generation + 1 {
            // Something else has been published meanwhile, which this is to go on from.
            (next, watches) = self.compile(&config, &previous)?;
        }
        guarded(&config, options, &previous, &next, warmth)?;
        let mut doors = Doors::default();
        let mut moves = Moves::default();
        if self.inner.mode == Mode::Serve {
            let is_shut = |place: usize, listener: &Listener| self.is_shut(&previous, place, listener);
            let workers = self.inner.workers;
            self.doors.bind(&next.listeners, &is_shut, workers, &mut fresh)?;
            doors = self.doors.clone();
            moves = doors.change(&next.listeners, &is_shut, workers, fresh)?;
        }
        let around = self.inner.prepare_around(&self.config, &config)?;
        self.inner.notify(&config.notify, self.inner.journal.newest())?;
        #[cfg(feature = "otel")]
        super::otlp::export(&next);
        // Nothing fails from here on.
        self.doors = doors;
        let vacated: Vec<usize> = previous.listeners.places().map(|(place, _)| place).collect();
        let vacated: Arc<[usize]> =
            vacated.into_iter().filter(|&place| next.listeners.get(place).is_none()).collect();
        self.close(std::mem::take(&mut moves.close), &vacated).await;
        let foreign = self.inner.change_around(around);
        let warnings = told(&self.config, &config).into_iter().chain(foreign).chain(warmth.cold()).collect();
        let proven = proven(&next, warmth);
        let reloaded = Reloaded { generation: next.generation, hash: next.hash, warnings };
        self.emptiness.keep(&previous.listeners, &next.listeners);
        let last = trial::sample(&previous);
        self.swap(&previous, next);
        self.open(moves);
        if !vacated.is_empty() {
            let now = Instant::now();
            self.endings.extend(vacated.iter().map(|&place| (now + patience(&previous, place), place)));
            self.tell(|| WorkerCommand::Vacated(Arc::clone(&vacated)));
        }
        self.drain_delay = config.process.drain_delay;
        self.drain_timeout = config.process.drain_timeout;
        let former = std::mem::replace(&mut self.config, config);
        self.note_members();
        let summary = self.summary(&former, previous);
        self.adopted(watches, proven).await;
        let cause = options.cause;
        let is_new = !matches!(cause, Cause::Names | Cause::EndpointChange);
        if is_new {
            self.expiry.loaded();
        }
        if is_new {
            lints::tell(Some(Arc::clone(&former)), Arc::clone(&self.config));
        }
        self.inner.note_running(&self.config, reloaded.generation, is_new);
        self.note_trial(cause, options.confirm, former, &last);
        self.forget_gone_pools();
        let summary = summary.await.unwrap_or_else(|_| "what changes cannot be told".to_owned());
        let why = format!("generation {} is published, by {}: {summary}", reloaded.generation, cause.word());
        self.inner.journal.append(Change::new(Kind::Reload, "published", why));
        Ok(reloaded)
    }

    /// What differs from what ran before, in a line: found out beside the keeper's adoption, since comparing thousands of
    /// pools takes as long.
    fn summary(&self, former: &Arc<Config>, previous: Arc<Snapshot>) -> JoinHandle<String> {
        let (former, config, next) = (Arc::clone(former), Arc::clone(&self.config), self.inner.store.load());
        tokio::task::spawn_blocking(move || {
            let before = Side { config: &former, snapshot: &previous };
            diff(before, Side { config: &config, snapshot: &next }).summary()
        })
    }

    /// Closes doors, and waits until they are: whoever had connected by then is in.
    pub(super) async fn close(&self, doors: Vec<DoorId>, vacated: &Arc<[usize]>) {
        if doors.is_empty() && vacated.is_empty() {
            return;
        }
        let doors: Arc<[DoorId]> = doors.into();
        let (closed, mut all_closed) = mpsc::channel(1);
        self.tell(|| WorkerCommand::Close {
            doors: Arc::clone(&doors),
            vacated: Arc::clone(vacated),
            closed: closed.clone(),
        });
        drop(closed);
        if timeout(CLOSE_TIMEOUT, all_closed.recv()).await.is_err() {
            tracing::warn!("a worker does not close its sockets in time");
        }
    }

    /// Lets the workers accept on what a change of doors has opened or kept.
    pub(super) fn open(&self, moves: Moves) {
        let uses: Arc<[_]> = moves.uses.into();
        if !uses.is_empty() {
            self.tell(|| WorkerCommand::Use(Arc::clone(&uses)));
        }
        for (member, openings) in self.crew.iter().zip(moves.open) {
            if !openings.is_empty() && member.commands.try_send(WorkerCommand::Open(openings)).is_err() {
                tracing::warn!("a worker does not listen");
            }
        }
    }

    /// Ends what still goes on by listeners that were removed, once the time for that is over.
    pub(super) fn end_removed(&mut self, now: Instant) {
        let snapshot = self.inner.store.load();
        // A listener that is there again keeps its sessions.
        self.endings.retain(|(_, place)| snapshot.listeners.get(*place).is_none());
        let (due, later) = self.endings.drain(..).partition(|(at, _)| *at <= now);
        self.endings = later;
        for (_, place) in due {
            self.tell(|| WorkerCommand::CutListener(place));
        }
    }

    /// Puts the next snapshot in the place of the previous one, and retires the endpoints that it does not have.
    fn swap(&mut self, previous: &Snapshot, next: Snapshot) {
        let gone = gone_slots(previous, &next);
        self.inner.store.publish(next);
        self.inner.former.note(previous, |slot| gone.contains(&slot));
        self.inner.published_at(SystemTime::now());
        self.inner.store.load().settle();
        for endpoint in previous.pools.iter().flat_map(|p| &p.endpoints) {
            if gone.contains(&endpoint.live.slot()) {
                endpoint.live.retire();
            }
        }
        let next = self.inner.store.load();
        let purged: Vec<u32> = gone.into_iter().chain(rekeyed_slots(previous, &next)).collect();
        if !purged.is_empty() {
            self.tell(|| WorkerCommand::Purge(purged.clone()));
        }
    }

    /// Lets the keeper take over what is published now; with it the new endpoints are known to their probes.
    pub(super) async fn adopted(&self, watches: Vec<Watch>, proven: Vec<u32>) {
        let (done, adopted) = oneshot::channel();
        let (snapshot, config) = (self.inner.store.load(), Arc::clone(&self.config));
        let command = KeeperCommand::Adopt { snapshot, config, watches, proven, done };
        if self.keeper.send(command).await.is_ok() {
            adopted.await.ok();
        }
    }

    /// Opens or shuts a listener that listens only while something is usable.
    pub(super) async fn reopen(&mut self, place: usize) -> Result<(), ReloadError> {
        let snapshot = self.inner.store.load();
        let is_shut = |at: usize, _: &Listener| at != place && self.emptiness.is_shut(at);
        let mut fresh = Fresh::default();
        self.doors.bind(&snapshot.listeners, &is_shut, self.inner.workers, &mut fresh)?;
        let mut doors = self.doors.clone();
        let moves = doors.change(&snapshot.listeners, &is_shut, self.inner.workers, fresh)?;
        self.doors = doors;
        self.open(moves);
        Ok(())
    }
}

impl Inner {
    /// Notes when what runs was published.
    pub(super) fn published_at(&self, now: SystemTime) {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.reloads
            .published_ms
            .store(u64::try_from(since.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// Whether enough is left. What follows from names, from an endpoint or from a trial has guards of its own.
fn guarded(
    config: &Config,
    options: ReloadOptions,
    previous: &Snapshot,
    next: &Snapshot,
    warmth: &Warmth,
) -> Result<(), ReloadError> {
    if options.force || !options.cause.warms() {
        return Ok(());
    }
    // Who was not asked, since the warm-up is off, has the benefit of the doubt.
    let is_warm = |pool: &Pool, name: &PoolName, endpoint: &EndpointName| {
        warmth.of(name, endpoint).is_none_or(|warm| if pool.exclusive { warm.proven } else { warm.good })
    };
    let refusals = guard::refusals(config.process.reload_guard, previous, next, &is_warm);
    if refusals.is_empty() {
        return Ok(());
    }
    let texts: Vec<String> = refusals.iter().map(ToString::to_string).collect();
    Err(ReloadError::Guarded(texts.join("\n")))
}

/// Slots of new endpoints whose probes have said already that they are well.
fn proven(next: &Snapshot, warmth: &Warmth) -> Vec<u32> {
    let all = next.pools.iter().flat_map(|pool| pool.endpoints.iter().map(move |endpoint| (pool, endpoint)));
    all.filter(|(pool, endpoint)| warmth.of(&pool.name, &endpoint.name).is_some_and(|warm| warm.proven))
        .map(|(_, endpoint)| endpoint.live.slot())
        .collect()
}

/// Endpoints that the next snapshot does not have any more.
fn gone_slots(previous: &Snapshot, next: &Snapshot) -> HashSet<u32> {
    let slots = |snapshot: &Snapshot| -> HashSet<u32> {
        snapshot.pools.iter().flat_map(|p| &p.endpoints).map(|e| e.live.slot()).collect()
    };
    &slots(previous) - &slots(next)
}

/// Endpoints that stay, to which connections are made in another way from now on: idle ones are of no use any more.
fn rekeyed_slots(previous: &Snapshot, next: &Snapshot) -> Vec<u32> {
    let key = |pool: &Pool| (pool.tls.as_ref().map(|tls| tls.number()), pool.source);
    let before: HashMap<&PoolName, &Pool> = previous.pools.iter().map(|pool| (&pool.name, pool)).collect();
    let rekeyed =
        next.pools.iter().filter(|pool| before.get(&pool.name).is_some_and(|b| key(b) != key(pool)));
    rekeyed.flat_map(|pool| &pool.endpoints).map(|endpoint| endpoint.live.slot()).collect()
}

/// What sessions and tunnels get when their listener is removed: the longest drain_timeout of the pools that it led to.
fn patience(previous: &Snapshot, place: usize) -> Duration {
    let pools: Vec<usize> = match previous.listeners.get(place).map(|listener| &listener.protocol) {
        Some(Protocol::Tcp { .. } | Protocol::Udp { .. }) => {
            let pools = previous.listeners.get(place).into_iter().flat_map(Listener::pools);
            pools.filter_map(|pool| previous.pools.get(pool)).flat_map(|pool| pool.chain.to_vec()).collect()
        }
        Some(Protocol::Http { .. }) => (0..previous.pools.len()).collect(),
        None => Vec::new(),
    };
    let pools = pools.into_iter().filter_map(|pool| previous.pools.get(pool));
    pools.map(|pool| pool.drain_timeout).max().unwrap_or_default()
}

/// What has changed and holds only after a restart.
fn told(runs: &Config, next: &Config) -> Option<String> {
    let differs = runs.process.state_dir != next.process.state_dir;
    let text =
        "process.state_dir has changed, which needs a restart: what the process was started with stays";
    differs.then(|| text.to_owned())
}
