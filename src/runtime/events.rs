//! Decisions and failures on workers, told to control over one bounded queue.
//!
//! A worker never waits for control: what does not fit is dropped and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use super::judge::Change;
use crate::model::name::{EndpointName, PoolName};
use crate::policy::retry::Failure;

/// Events that fit between a worker and control. No setting: it is full only when control stands still, and then what is
/// lost is counted (`plimsoll_events_dropped_total`).
pub const EVENTS_MAX: usize = 1024;

/// Something that a worker saw and control should know.
#[derive(Debug, Clone)]
pub enum Event {
    /// An attempt on an endpoint failed.
    EndpointFailed {
        /// The pool.
        pool: PoolName,
        /// The endpoint.
        endpoint: EndpointName,
        /// How.
        failure: Failure,
        /// The evidence: the error as the system told it.
        evidence: String,
    },
    /// An endpoint does not answer its probe.
    EndpointSilent {
        /// The pool.
        pool: PoolName,
        /// The endpoint.
        endpoint: EndpointName,
    },
    /// Live traffic changed how an endpoint, or a pool as a whole, is judged.
    Judged {
        /// The pool.
        pool: PoolName,
        /// The endpoint; nothing for the pool as a whole.
        endpoint: Option<EndpointName>,
        /// What changed.
        change: Change,
        /// The last evidence: the error as the system told it, or the status.
        evidence: String,
    },
    /// A connection ended by a panic of ours.
    ConnectionPanicked {
        /// What the panic said.
        message: String,
    },
}

/// The workers' end of the queue.
#[derive(Debug, Clone)]
pub struct EventSender {
    queue: mpsc::Sender<Event>,
    dropped: Arc<AtomicU64>,
}

impl EventSender {
    /// Tells control; drops the event when the queue is full.
    pub fn send(&self, event: Event) {
        if self.queue.try_send(event).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether an event would be dropped now; lets a worker skip building one.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.queue.capacity() == 0
    }

    /// Notes an event that was not built because the queue is full.
    pub fn skip(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Events dropped so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// A queue of [`EVENTS_MAX`] events: the workers' end and control's.
#[must_use]
pub fn queue() -> (EventSender, mpsc::Receiver<Event>) {
    let (sender, receiver) = mpsc::channel(EVENTS_MAX);
    (EventSender { queue: sender, dropped: Arc::default() }, receiver)
}
