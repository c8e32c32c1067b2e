//! The sessions of one socket by client, and which of them gives way when there are too many.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::session::Flow;

/// How many are looked at to find a quiet one. A table in order of use would cost every datagram; of so many, the longest
/// quiet is among the quietest tenth of all with a chance of 8 in 10 (as Redis does it).
const SAMPLE: usize = 16;

/// How quiet a session must be to give way: less than this, and a flood of newcomers would end conversations.
const QUIET: Duration = Duration::from_secs(1);

/// Whose session it is: the client, and the local address it sends to where the socket has many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) client: SocketAddr,
    pub(super) local: Option<IpAddr>,
}

/// The sessions of a socket.
#[derive(Debug, Default)]
pub(super) struct Table {
    by_key: RefCell<HashMap<Key, Rc<Flow>>>,
    all: RefCell<Vec<Rc<Flow>>>,
}

/// Where a table has a session.
#[derive(Debug, Default)]
pub(super) struct Position(Cell<usize>);

impl Table {
    /// The session of a client.
    pub(super) fn find(&self, key: &Key) -> Option<Rc<Flow>> {
        self.by_key.borrow().get(key).cloned()
    }

    /// Notes a session, whose key has none.
    pub(super) fn insert(&self, flow: &Rc<Flow>) {
        let mut all = self.all.borrow_mut();
        flow.position.0.set(all.len());
        all.push(Rc::clone(flow));
        self.by_key.borrow_mut().insert(flow.key, Rc::clone(flow));
    }

    /// Forgets a session, if it is still here.
    pub(super) fn remove(&self, flow: &Rc<Flow>) {
        let mut all = self.all.borrow_mut();
        let position = flow.position.0.get();
        if !all.get(position).is_some_and(|own| Rc::ptr_eq(own, flow)) {
            return;
        }
        all.swap_remove(position);
        if let Some(moved) = all.get(position) {
            moved.position.0.set(position);
        }
        let mut by_key = self.by_key.borrow_mut();
        by_key.remove(&flow.key);
        // What a crowd once took is given back.
        if all.len() * 4 < all.capacity() {
            let room = all.len() * 2;
            all.shrink_to(room);
            by_key.shrink_to(room);
        }
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.all.borrow().is_empty()
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Rc<Flow>> {
        self.all.borrow().clone()
    }

    /// One that has been quiet for longer than others, and for long enough to give way.
    pub(super) fn quiet(&self, now: Instant, mut random: impl FnMut() -> u64) -> Option<Rc<Flow>> {
        let all = self.all.borrow();
        let len = u64::try_from(all.len()).unwrap_or_default();
        let few = all.len() <= SAMPLE;
        let one = |draw: usize| {
            // A few are all looked at.
            let at = if few { draw as u64 } else { random() % len.max(1) };
            all.get(usize::try_from(at).unwrap_or_default())
        };
        let flow = (0..SAMPLE).filter_map(one).min_by_key(|flow| flow.last.get())?;
        (now.saturating_duration_since(flow.last.get()) >= QUIET).then(|| Rc::clone(flow))
    }
}
