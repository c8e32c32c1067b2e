//! What runs, for whoever asks: the configuration with where it came from, what was changed at run time, what is on trial,
//! and what another configuration would change.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::overrides::Overrides;
use super::reload::{Loader, ReloadError, Source};
use super::state_dir::findings::Findings;
use super::state_dir::recorder::Recorder;
use super::{Handle, Inner, guard};
use crate::config::{self, Config, Diagnostics};
use crate::runtime::compile::compile;
use crate::runtime::diff::{Diff, Side, diff};

/// Why the last good configuration serves in the place of what stands in the file.
#[derive(Debug, Clone)]
pub struct Fallback {
    /// What is wrong with the file, or with starting from it.
    pub why: String,
    /// Each error of the file; none when it was starting that failed.
    pub diagnostics: Option<Diagnostics>,
    /// When the configuration that serves was kept.
    pub kept: SystemTime,
}

/// Where a running configuration came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provenance {
    /// The file that the process was started with.
    File,
    /// The body of a request.
    Request,
    /// The program that embeds the proxy.
    Library,
    /// What a state directory had kept, since the file is broken.
    LastGood,
}

impl Provenance {
    /// Its word in text and JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Request => "request",
            Self::Library => "library",
            Self::LastGood => "last good",
        }
    }
}

/// The configuration that runs.
#[derive(Debug, Clone)]
pub struct Running {
    /// What is meant.
    pub config: Arc<Config>,
    /// Where it came from.
    pub provenance: Provenance,
    /// When it was published.
    pub loaded: SystemTime,
    /// The snapshot that it was published as.
    pub generation: u64,
    /// Why it is not what stands in the file, where that could not be used at the start.
    pub fallback: Option<Fallback>,
    /// The process goes back to what ran before unless this is confirmed by then.
    pub confirm_until: Option<SystemTime>,
    /// What the operator has changed at run time.
    pub overrides: Overrides,
}

impl Running {
    /// What a process starts with.
    pub(super) fn at_start(
        config: &Config,
        loader: &Loader,
        generation: u64,
        fallback: Option<Fallback>,
        overrides: Overrides,
    ) -> Self {
        let provenance = if fallback.is_some() { Provenance::LastGood } else { loader.provenance(config) };
        let (config, loaded) = (Arc::new(config.clone()), SystemTime::now());
        Self { config, provenance, loaded, generation, fallback, confirm_until: None, overrides }
    }
}

/// What another configuration would change.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Everything that differs.
    pub diff: Diff,
    /// Why a reload would be refused; new endpoints count as usable here, since only a reload asks them.
    pub refused: Vec<String>,
    /// Names that nobody has asked for yet; their endpoints are not foreseen, and then no guard is asked.
    pub unasked: Vec<String>,
    /// The hash of the configuration.
    pub hash: u64,
}

/// What is shared of it.
#[derive(Debug)]
pub(super) struct Shared {
    running: Mutex<Running>,
    recorder: Mutex<Option<Recorder>>,
}

impl Shared {
    pub(super) fn new(running: Running, recorder: Option<Recorder>) -> Self {
        Self { running: Mutex::new(running), recorder: Mutex::new(recorder) }
    }

    /// Each change of it is one assignment, so a panic of another thread leaves it whole.
    pub(super) fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn recorder(&self) -> MutexGuard<'_, Option<Recorder>> {
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what runs as the last good configuration, if it is the file's.
    pub(super) fn keep_config(&self) {
        let running = self.running().clone();
        if let (Provenance::File, Some(recorder)) = (running.provenance, &*self.recorder()) {
            recorder.config(&running.config.origin, running.config.hash);
        }
    }

    /// Changes the overrides and keeps them, if that changed anything.
    pub(super) fn change_overrides(&self, change: impl FnOnce(&mut Overrides) -> bool) {
        let mut running = self.running();
        if change(&mut running.overrides)
            && let Some(recorder) = &*self.recorder()
        {
            recorder.overrides(&running.overrides);
        }
    }

    /// Keeps what was found out about who is in the pools.
    pub(super) fn keep_findings(&self, findings: impl FnOnce() -> Findings) {
        if let Some(recorder) = &*self.recorder() {
            recorder.findings(findings());
        }
    }

    /// Waits until everything is kept, for `limit` at most; whether it is.
    pub(super) fn close(&self, limit: Duration) -> bool {
        let recorder = self.recorder().take();
        recorder.is_none_or(|recorder| recorder.close(limit))
    }
}

impl Loader {
    /// Where a configuration comes from that was loaded by way of this.
    pub(super) fn provenance(&self, config: &Config) -> Provenance {
        match self.path() {
            None => Provenance::Library,
            Some(path) if path == config.origin.path() => Provenance::File,
            Some(_) => Provenance::Request,
        }
    }
}

impl Inner {
    /// Notes what has been published; a reload, unlike what follows from names or changes of endpoints, also says where the
    /// configuration came from.
    pub(super) fn note_running(&self, config: &Arc<Config>, generation: u64, is_new: bool) {
        let mut running = self.shared.running();
        running.config = Arc::clone(config);
        running.generation = generation;
        if is_new {
            running.loaded = SystemTime::now();
            running.provenance = self.loader.provenance(config);
            running.fallback = None;
        }
    }
}

impl Handle {
    /// What runs, where it came from, and what was changed since.
    #[must_use]
    pub fn running(&self) -> Running {
        self.0.shared.running().clone()
    }

    /// The running configuration in full, as a configuration.
    #[must_use]
    pub fn shown(&self) -> String {
        config::show(&self.running().config)
    }

    /// The file that a reload reads.
    #[must_use]
    pub fn file(&self) -> Option<PathBuf> {
        self.0.loader.path().map(ToOwned::to_owned)
    }

    /// What a reload of this would change; nothing is changed, and nobody is asked. It reads files: not for a worker.
    ///
    /// # Errors
    /// [`ReloadError`], as the reload itself would tell it.
    pub fn plan(&self, source: Source) -> Result<Plan, ReloadError> {
        let next = self.0.loader.load(source)?;
        let running = self.running();
        let previous = self.0.store.load();
        let weights = running.overrides.weights();
        let (expanded, unasked) = self.0.members.foresee(&next);
        let compiled = compile(&expanded, Some(&previous), &self.0.machine, &weights)?;
        super::health::targets::watches(&expanded.pools, &compiled)?;
        let diff = diff(
            Side { config: &running.config, snapshot: &previous },
            Side { config: &next, snapshot: &compiled },
        );
        // Where new names lead, only a reload asks: until then nobody knows what would be left.
        let share = if unasked.is_empty() { next.process.reload_guard } else { 0.0 };
        let refusals = guard::refusals(share, &previous, &compiled, &|_, _, _| true);
        let mut refused: Vec<String> = refusals.iter().map(ToString::to_string).collect();
        if next.process.workers.is_some_and(|workers| workers != self.0.workers) {
            refused.push(ReloadError::Workers.to_string());
        }
        let unasked = unasked.iter().map(ToString::to_string).collect();
        Ok(Plan { diff, refused, unasked, hash: next.hash })
    }
}
