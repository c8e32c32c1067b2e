//! The current snapshot: one atomic pointer that control publishes and every worker reads.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use super::snapshot::Snapshot;

/// Holds the published snapshot.
#[derive(Debug)]
pub struct Store {
    current: ArcSwap<Snapshot>,
    generation: AtomicU64,
}

impl Store {
    /// A store that starts with `snapshot`.
    #[must_use]
    pub fn new(snapshot: Snapshot) -> Self {
        let generation = AtomicU64::new(snapshot.generation);
        Self { current: ArcSwap::from_pointee(snapshot), generation }
    }

    /// The current snapshot.
    #[must_use]
    pub fn load(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Puts a new snapshot in the place of the current one, for every request that starts from now on.
    pub fn publish(&self, snapshot: Snapshot) {
        let generation = snapshot.generation;
        self.current.store(Arc::new(snapshot));
        // After the pointer: a worker that sees the new number finds at least this snapshot.
        self.generation.store(generation, Ordering::Release);
    }
}

/// A snapshot as one worker hands it out: the inner count is shared by all workers, the outer one only by this one's
/// requests, so that a request touches no count that another worker writes.
pub type Current = Rc<Arc<Snapshot>>;

/// One worker's view of the store: compares one number per request, and hands out the snapshot without touching a
/// reference count that other workers share.
#[derive(Debug)]
pub struct Reader {
    store: Arc<Store>,
    generation: Cell<u64>,
    cached: RefCell<Current>,
}

impl Reader {
    /// A view of `store`.
    #[must_use]
    pub fn new(store: Arc<Store>) -> Self {
        let snapshot = store.load();
        Self { generation: Cell::new(snapshot.generation), cached: RefCell::new(Rc::new(snapshot)), store }
    }

    /// Lets an older snapshot go also where no work starts.
    pub fn refresh(&self) {
        drop(self.snapshot());
    }

    /// The snapshot for a piece of work that starts now.
    #[inline]
    #[must_use]
    pub fn snapshot(&self) -> Current {
        let published = self.store.generation.load(Ordering::Acquire);
        if published != self.generation.get() {
            *self.cached.borrow_mut() = Rc::new(self.store.load());
            self.generation.set(published);
        }
        Rc::clone(&self.cached.borrow())
    }
}
