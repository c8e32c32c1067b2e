//! Where the process stands: what it tells those who tell others of it, such as a service manager. Reloads are counted and
//! not named, so that one which begins and ends between two looks is seen all the same.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// Where the process stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Reloads that have begun.
    pub reloads_begun: u64,
    /// Reloads that have ended, published or refused.
    pub reloads_ended: u64,
    /// Why the last reload was refused; nothing when it was published.
    pub refused: Option<Arc<str>>,
    /// The process is stopping, and what is in flight gets at most so long from the moment it was asked.
    pub stopping: Option<Duration>,
    /// The process that has taken over from this one.
    pub successor: Option<u32>,
}

/// The end that control writes to.
#[derive(Debug, Default)]
pub(super) struct Reporter(watch::Sender<Progress>);

impl Reporter {
    /// The end for those who look on.
    pub(super) fn subscribe(&self) -> watch::Receiver<Progress> {
        self.0.subscribe()
    }

    /// A reload begins.
    pub(super) fn reload_begins(&self) {
        self.0.send_modify(|progress| progress.reloads_begun += 1);
    }

    /// A reload has ended; `refused` says why nothing changed.
    pub(super) fn reload_ended(&self, refused: Option<String>) {
        self.0.send_modify(|progress| {
            progress.reloads_ended += 1;
            progress.refused = refused.map(Arc::from);
        });
    }

    /// Another process has taken over.
    pub(super) fn replaced(&self, successor: u32) {
        self.0.send_modify(|progress| progress.successor = Some(successor));
    }

    /// The process stops and takes at most this long.
    pub(super) fn stopping(&self, within: Duration) {
        self.0.send_modify(|progress| progress.stopping = Some(within));
    }
}
