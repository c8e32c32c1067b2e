//! Spans on their way from the workers to whoever exports them: a bounded queue, which drops rather than waits.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::trace::Destination;
use crate::policy::traces;
use crate::telemetry::spans::RequestSpan;

/// Which traces requests belong to, and where their spans go.
#[derive(Debug, Clone)]
pub struct Tracing {
    /// Which.
    pub settings: traces::Settings,
    /// Where those that are recorded go; nothing is nowhere.
    pub export: Option<Arc<Export>>,
}

/// A queue to one destination; it lives for as long as a snapshot has it.
#[derive(Debug)]
pub struct Export {
    /// Where to.
    pub destination: Destination,
    sender: SyncSender<Box<RequestSpan>>,
    /// Until somebody exports.
    receiver: Mutex<Option<Receiver<Box<RequestSpan>>>>,
    /// What became of spans.
    pub counts: Arc<Counts>,
}

/// What became of the spans of requests.
#[derive(Debug, Default)]
pub struct Counts {
    /// Taken by the destination. Written by whoever exports.
    pub exported: AtomicU64,
    /// Not taken by it. Written by whoever exports.
    pub failed: AtomicU64,
    /// Lost because as many waited as may. Written by workers.
    pub dropped: AtomicU64,
}

impl Counts {
    /// All of them, each with its word.
    #[must_use]
    pub fn all(&self) -> [(&'static str, u64); 3] {
        [("exported", &self.exported), ("failed", &self.failed), ("dropped", &self.dropped)]
            .map(|(result, count)| (result, count.load(Ordering::Relaxed)))
    }
}

impl Export {
    /// An empty queue.
    #[must_use]
    pub fn new(destination: Destination, counts: Arc<Counts>) -> Self {
        let (sender, receiver) = sync_channel(destination.queue);
        Self { destination, sender, receiver: Mutex::new(Some(receiver)), counts }
    }

    /// Hands a span over, or drops it.
    pub fn give(&self, span: Box<RequestSpan>) {
        if self.sender.try_send(span).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The other end, for the one who asks first.
    #[must_use]
    pub fn receiver(&self) -> Option<Receiver<Box<RequestSpan>>> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
