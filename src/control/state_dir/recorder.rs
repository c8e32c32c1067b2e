//! Writes what is to be kept on a thread of its own: the newest of each kind, as fast as the disk takes it.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use super::StateDir;
use crate::config::Origin;
use crate::control::journal::{Change, Journal, Kind};
use crate::control::overrides::Overrides;
use crate::control::state_dir::findings::Findings;

/// What is kept for a process that has a state directory; without one nothing is.
#[derive(Debug)]
pub struct Recorder {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    due: Mutex<Due>,
    changed: Condvar,
}

/// What has not been written yet.
#[derive(Debug, Default)]
struct Due {
    config: Option<(Arc<Origin>, u64)>,
    overrides: Option<Overrides>,
    findings: Option<Findings>,
    writing: bool,
    closed: bool,
}

impl Due {
    const fn is_empty(&self) -> bool {
        self.config.is_none() && self.overrides.is_none() && self.findings.is_none()
    }
}

impl Shared {
    fn due(&self) -> MutexGuard<'_, Due> {
        // Each field is whole at every step.
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recorder {
    /// Starts to write to `directory`; troubles with it are told to the journal.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(directory: StateDir, journal: Arc<Journal>) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("state".to_owned()).spawn(move || {
            Writer { directory, journal, troubled: false }.run(&theirs);
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Keeps a configuration as the last good one.
    pub fn config(&self, origin: &Arc<Origin>, hash: u64) {
        self.shared.due().config = Some((Arc::clone(origin), hash));
        self.shared.changed.notify_all();
    }

    /// Keeps what the operator has changed.
    pub fn overrides(&self, overrides: &Overrides) {
        self.shared.due().overrides = Some(overrides.clone());
        self.shared.changed.notify_all();
    }

    /// Keeps what names have led to and files of endpoints have listed.
    pub fn findings(&self, findings: Findings) {
        self.shared.due().findings = Some(findings);
        self.shared.changed.notify_all();
    }

    /// Waits until everything is written, for `limit` at most; whether it is.
    #[must_use]
    pub fn close(mut self, limit: Duration) -> bool {
        let mut due = self.shared.due();
        due.closed = true;
        self.shared.changed.notify_all();
        let busy = |due: &mut Due| due.writing || !due.is_empty();
        let waited = self.shared.changed.wait_timeout_while(due, limit, busy);
        let done = waited.is_ok_and(|(_, waited)| !waited.timed_out());
        // A thread that hangs in the disk is left behind.
        if done && let Some(thread) = self.thread.take() {
            return thread.join().is_ok();
        }
        done
    }
}

struct Writer {
    directory: StateDir,
    journal: Arc<Journal>,
    /// The last write failed.
    troubled: bool,
}

impl Writer {
    fn run(&mut self, shared: &Shared) {
        loop {
            let (config, overrides, findings) = {
                let mut due = shared.due();
                due.writing = false;
                shared.changed.notify_all();
                let idle = |due: &mut Due| due.is_empty() && !due.closed;
                due = shared.changed.wait_while(due, idle).unwrap_or_else(PoisonError::into_inner);
                if due.is_empty() {
                    return;
                }
                due.writing = true;
                (due.config.take(), due.overrides.take(), due.findings.take())
            };
            let config =
                config.map_or(Ok(()), |(origin, hash)| self.directory.keep(&origin, hash, SystemTime::now()));
            let overrides = overrides.map_or(Ok(()), |overrides| self.directory.keep_overrides(&overrides));
            let findings = findings.map_or(Ok(()), |findings| self.directory.keep_findings(&findings));
            self.tell(config.and(overrides).and(findings));
        }
    }

    /// Tells when it begins not to work, and when it works again.
    fn tell(&mut self, result: io::Result<()>) {
        let troubled = result.is_err();
        if troubled != self.troubled {
            let path = self.directory.path().display();
            let change = match result {
                Err(error) => {
                    let why = format!(
                        "state_dir {path} cannot be written: {error}; the next start will not know what changes now"
                    );
                    Change::new(Kind::Alarm, "state is not kept", why)
                }
                Ok(()) => Change::new(
                    Kind::Alarm,
                    "state is kept again",
                    format!("state_dir {path} can be written"),
                ),
            };
            self.journal.append(change);
        }
        self.troubled = troubled;
    }
}
