//! What a reload is asked with and what comes of it, and the queue in which reloads wait for one another. Carrying one out
//! is `publish`'s.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::doors::BindError;
use super::health::targets::ProbeError;
use super::health::warm::Warmth;
use super::journal::{Change, Evidence, Kind};
use super::names::Answers;
use super::notify::NotifyError;
use super::publish::Prepared;
use super::transparent::NotTransparent;
use crate::config::{self, Config, Diagnostics};
use crate::model::address::Address;
use crate::runtime::compile::CompileError;

/// Reloads that may wait for the one at work; more are refused.
const QUEUE_MAX: usize = 16;

/// Who wants a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// SIGHUP.
    Signal,
    /// A file has changed.
    Watch,
    /// The admin API, and with it the commands.
    Api,
    /// The program that embeds the proxy.
    Library,
    /// Names lead to other addresses, or an endpoints file lists others.
    Names,
    /// The operator has changed an endpoint.
    EndpointChange,
    /// What was published was not confirmed in time.
    GoingBack,
}

impl Cause {
    /// Its word in events.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Signal => "a signal",
            Self::Watch => "a changed file",
            Self::Api => "the admin API",
            Self::Library => "the program around",
            Self::Names => "resolved names",
            Self::EndpointChange => "a change of an endpoint",
            Self::GoingBack => "going back",
        }
    }

    /// Whether new endpoints are probed before they are published. What follows the addresses of others, or undoes
    /// something, does not wait.
    #[must_use]
    pub const fn warms(self) -> bool {
        matches!(self, Self::Signal | Self::Watch | Self::Api | Self::Library)
    }
}

/// How a reload is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReloadOptions {
    /// Who wants it.
    pub cause: Cause,
    /// Also where the guard speaks against it.
    pub force: bool,
    /// Go back unless confirmed within this time.
    pub confirm: Option<Duration>,
}

impl ReloadOptions {
    /// A plain one.
    #[must_use]
    pub const fn new(cause: Cause) -> Self {
        Self { cause, force: false, confirm: None }
    }
}

/// What is to run.
#[derive(Debug)]
pub enum Source {
    /// What stands in the file that the process was started with.
    File,
    /// This text, as if it stood beside that file.
    Text(String),
    /// This configuration.
    Config(Box<Config>),
}

/// A reload that was carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reloaded {
    /// The snapshot that runs now.
    pub generation: u64,
    /// The hash of its configuration.
    pub hash: u64,
    /// What the operator should know: settings that need a restart, new endpoints that are not usable.
    pub warnings: Vec<String>,
}

/// Why a reload changed nothing.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReloadError {
    /// The configuration is not valid.
    #[error("{0}")]
    Invalid(Diagnostics),
    /// The process was not started with a file.
    #[error("the process was started without a file, so there is none to read again")]
    NoFile,
    /// An address cannot be bound.
    #[error("listener \"{listener}\" cannot bind {address}: {error}")]
    Bind {
        /// The listener.
        listener: String,
        /// The address.
        address: Address,
        /// Why.
        error: Arc<io::Error>,
    },
    /// A sink of events cannot be used.
    #[error("{0}")]
    Notify(Arc<NotifyError>),
    /// The access log cannot be opened.
    #[error("log.access cannot be opened: {0}")]
    AccessLog(Arc<io::Error>),
    /// What follows the configuration around the proxy cannot.
    #[error("{0}")]
    Around(String),
    /// The configuration is valid, and something that it names is not.
    #[error("{0}")]
    Compile(Arc<CompileError>),
    /// A health check cannot be made.
    #[error("{0}")]
    Probe(Arc<ProbeError>),
    /// Connections cannot come from clients' addresses.
    #[error("{0}")]
    Transparent(Arc<NotTransparent>),
    /// The number of workers would change.
    #[error("process.workers changes only by a restart")]
    Workers,
    /// The guard speaks against it: too little would be left.
    #[error("{0}")]
    Guarded(String),
    /// Nothing is on trial.
    #[error("nothing waits to be confirmed")]
    NothingToConfirm,
    /// Too many reloads wait.
    #[error("{QUEUE_MAX} reloads are waiting already")]
    Busy,
    /// The configuration could not be read to its end.
    #[error("reading the configuration broke off: {0}")]
    Broken(String),
    /// A new process is about to take over.
    #[error("an upgrade is under way")]
    Upgrading,
    /// The process is stopping.
    #[error("the process is stopping")]
    Stopping,
}

impl ReloadError {
    /// Whether what was given is wrong, and not what is there.
    #[must_use]
    pub const fn is_input(&self) -> bool {
        matches!(self, Self::Invalid(_))
    }

    /// As an event for those who look later, with every diagnostic that it has room for.
    pub(super) fn event(&self, cause: Cause) -> Change {
        let because = match self {
            Self::Invalid(diagnostics) => format!("{}: {} errors", cause.word(), diagnostics.count()),
            other => format!("{}: {other}", cause.word()),
        };
        let listed = match self {
            Self::Invalid(diagnostics) => diagnostics.list(),
            _ => &[],
        };
        Change::new(Kind::Reload, "refused", because)
            .evidence(listed.iter().take(super::journal::EVIDENCE_MAX).map(evidence))
    }
}

impl From<NotifyError> for ReloadError {
    fn from(error: NotifyError) -> Self {
        Self::Notify(Arc::new(error))
    }
}

impl From<CompileError> for ReloadError {
    fn from(error: CompileError) -> Self {
        Self::Compile(Arc::new(error))
    }
}

impl From<NotTransparent> for ReloadError {
    fn from(error: NotTransparent) -> Self {
        Self::Transparent(Arc::new(error))
    }
}

impl From<ProbeError> for ReloadError {
    fn from(error: ProbeError) -> Self {
        Self::Probe(Arc::new(error))
    }
}

impl From<BindError> for ReloadError {
    fn from(error: BindError) -> Self {
        let BindError { listener, address, error } = error;
        Self::Bind { listener: listener.to_string(), address, error: Arc::new(error) }
    }
}

/// An error of a configuration as evidence of an event.
pub(super) fn evidence(diagnostic: &config::Diagnostic) -> Evidence {
    Evidence {
        at: SystemTime::now(),
        result: format!("{}:{}:{}", diagnostic.file.display(), diagnostic.line, diagnostic.column).into(),
        text: format!("{}; {}", diagnostic.message, diagnostic.help),
        took: Duration::ZERO,
        phases: Vec::new(),
        answer: Vec::new(),
    }
}

/// Reads configurations: the file that the process was started with, and texts as if they stood beside it.
#[derive(Debug, Clone, Default)]
pub struct Loader {
    file: Option<PathBuf>,
}

impl Loader {
    /// For a process that was started with this file.
    #[must_use]
    pub const fn file(path: PathBuf) -> Self {
        Self { file: Some(path) }
    }

    /// The file, where there is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Reads and checks; waits for files.
    ///
    /// # Errors
    /// [`ReloadError::Invalid`] and [`ReloadError::NoFile`].
    pub fn load(&self, source: Source) -> Result<Box<Config>, ReloadError> {
        let loaded = match source {
            // Whoever hands one over again may want the files that it names to be read again.
            Source::Config(mut config) => {
                config.origin = Arc::new((*config.origin).clone());
                return Ok(config);
            }
            Source::File => config::load(self.file.as_ref().ok_or(ReloadError::NoFile)?),
            Source::Text(text) => {
                let folder =
                    self.file.as_ref().and_then(|file| file.parent()).unwrap_or_else(|| Path::new(""));
                config::load_text(&text, &folder.join("request.toml"), &|name| std::env::var(name).ok())
            }
        };
        loaded.map(Box::new).map_err(ReloadError::Invalid)
    }
}

/// Who waits for the result of a reload.
pub(super) type Answer = oneshot::Sender<Result<Reloaded, ReloadError>>;

/// A reload that somebody wants.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) source: Source,
    pub(super) options: ReloadOptions,
    pub(super) answers: Vec<Answer>,
}

/// The reload at work.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) options: ReloadOptions,
    pub(super) answers: Vec<Answer>,
    pub(super) stage: Stage,
}

/// What the reload at work waits for.
#[derive(Debug)]
pub(super) enum Stage {
    /// Its files.
    Loading(JoinHandle<Result<Box<Config>, ReloadError>>),
    /// The addresses of its new names, until then.
    Naming { config: Arc<Config>, answers: oneshot::Receiver<Arc<Answers>>, until: Instant },
    /// Its new endpoints.
    Warming(Box<Prepared>, oneshot::Receiver<Warmth>),
}

/// A stage that has come to its end.
#[derive(Debug)]
pub(super) enum Step {
    /// The files are read.
    Loaded(Result<Arc<Config>, ReloadError>),
    /// Its names are answered; nothing when they are not in time, and their addresses are published later.
    Named(Option<Arc<Answers>>),
    /// The new endpoints are as warm as they get.
    Warm(Warmth),
}

/// Reloads, one after the other.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<Job>,
    pub(super) work: Option<Work>,
}

impl Queue {
    /// Takes a reload in. Reads of the file that nobody has begun yet are one: whoever asked sees what stands there now.
    pub(super) fn push(&mut self, source: Source, options: ReloadOptions, answer: Answer) {
        if matches!(source, Source::File) {
            let same =
                |job: &&mut Job| matches!(job.source, Source::File) && same_wishes(&job.options, &options);
            // Only the last one: another configuration may have been asked for in between.
            if let Some(job) = self.waiting.back_mut().filter(same) {
                job.answers.push(answer);
                return;
            }
        }
        if self.waiting.len() >= QUEUE_MAX {
            // Whoever asked may have left.
            drop(answer.send(Err(ReloadError::Busy)));
            return;
        }
        self.waiting.push_back(Job { source, options, answers: vec![answer] });
    }

    /// The next one to begin, when none is at work.
    pub(super) fn next(&mut self) -> Option<Job> {
        if self.work.is_some() { None } else { self.waiting.pop_front() }
    }

    /// Waits until the one at work has come to the end of its stage. May be dropped and asked again.
    pub(super) async fn step(&mut self) -> Step {
        match self.work.as_mut().map(|work| &mut work.stage) {
            None => std::future::pending().await,
            Some(Stage::Loading(loading)) => {
                let loaded = loading.await;
                let loaded = loaded.unwrap_or_else(|error| Err(ReloadError::Broken(error.to_string())));
                Step::Loaded(loaded.map(Arc::from))
            }
            Some(Stage::Naming { answers, until, .. }) => {
                Step::Named(timeout_at(*until, answers).await.ok().and_then(Result::ok))
            }
            Some(Stage::Warming(_, warmth)) => Step::Warm(warmth.await.unwrap_or_default()),
        }
    }

    /// Ends all of it: the process stops.
    pub(super) fn abort(&mut self) {
        let work = self.work.take().into_iter().flat_map(|work| work.answers);
        for answer in work.chain(self.waiting.drain(..).flat_map(|job| job.answers)) {
            drop(answer.send(Err(ReloadError::Stopping)));
        }
    }
}

/// Whether one reload does for both; who wants it does not matter.
fn same_wishes(one: &ReloadOptions, other: &ReloadOptions) -> bool {
    (one.force, one.confirm) == (other.force, other.confirm) && one.confirm.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(
        queue: &mut Queue,
        source: Source,
        options: ReloadOptions,
    ) -> oneshot::Receiver<Result<Reloaded, ReloadError>> {
        let (answer, result) = oneshot::channel();
        queue.push(source, options, answer);
        result
    }

    #[test]
    fn reads_of_the_file_that_pile_up_are_one_and_everybody_hears() {
        let mut queue = Queue::default();
        let plain = ReloadOptions::new(Cause::Signal);
        let results: Vec<_> = (0..100).map(|_| ask(&mut queue, Source::File, plain)).collect();
        let forced = ask(&mut queue, Source::File, ReloadOptions { force: true, ..plain });
        let job = queue.next().expect("a job");
        assert_eq!(job.answers.len(), results.len());
        assert!(queue.next().is_some_and(|job| job.options.force));
        drop(forced);
        assert!(queue.next().is_none());
    }

    #[test]
    fn the_queue_has_an_end() {
        let mut queue = Queue::default();
        let text = || Source::Text(String::new());
        let plain = ReloadOptions::new(Cause::Api);
        let mut results: Vec<_> = (0..=QUEUE_MAX).map(|_| ask(&mut queue, text(), plain)).collect();
        let last = results.pop().expect("one").try_recv();
        assert!(matches!(last, Ok(Err(ReloadError::Busy))));
        queue.abort();
        for mut result in results {
            assert!(matches!(result.try_recv(), Ok(Err(ReloadError::Stopping))));
        }
    }
}
