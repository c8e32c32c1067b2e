//! Which addresses the workers listen on, and what a snapshot changes of that. An address that stays keeps its sockets,
//! also where it belongs to another listener from now on, and be it of another protocol: closing a socket resets who
//! connects at that moment.
//!
//! All or nothing: sockets are bound before anything else is changed, let clients in only just before they are used, and
//! are dropped when anything fails in between.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::model::name::ListenerName;
use crate::proxy::listener::{self, Bound, DoorId, DoorUse, Opening, Options};
use crate::runtime::listener::Listener;
use crate::runtime::places::Listeners;

/// An address that a listener cannot have.
#[derive(Debug)]
pub(super) struct BindError {
    pub(super) listener: ListenerName,
    pub(super) address: SocketAddr,
    pub(super) error: io::Error,
}

/// The open addresses.
#[derive(Debug, Clone, Default)]
pub(super) struct Doors {
    open: Vec<Door>,
    next: u64,
}

#[derive(Debug, Clone, Copy)]
struct Door {
    id: DoorId,
    address: SocketAddr,
    place: usize,
}

/// Sockets that are bound and not yet used: for each address one for each worker.
#[derive(Debug, Default)]
pub(super) struct Fresh(Vec<(SocketAddr, Vec<Bound>)>);

/// What the workers have to do, and in which order: close, then (with the new snapshot) use and open.
#[derive(Debug, Default)]
pub(super) struct Moves {
    /// Doors that close.
    pub(super) close: Vec<DoorId>,
    /// Doors that stay, with what they are from now on.
    pub(super) uses: Vec<DoorUse>,
    /// Sockets to accept on, for each worker.
    pub(super) open: Vec<Vec<Opening>>,
}

/// What is listened on: the listeners of a snapshot but for those that are shut.
type Wanted<'a> = Vec<(usize, &'a Listener, SocketAddr)>;

fn wanted<'a>(listeners: &'a Listeners, is_shut: &dyn Fn(usize, &Listener) -> bool) -> Wanted<'a> {
    let open = listeners.places().filter(|(place, listener)| !is_shut(*place, listener));
    open.flat_map(|(place, listener)| listener.bind.iter().map(move |&address| (place, listener, address)))
        .collect()
}

/// Opens everything that a first snapshot listens on; for each worker what it is to accept on.
pub(super) fn open_all(
    listeners: &Listeners,
    workers: usize,
) -> Result<(Doors, Vec<Vec<Opening>>), BindError> {
    let (mut doors, mut fresh) = (Doors::default(), Fresh::default());
    doors.bind(listeners, &|_, _| false, workers, &mut fresh)?;
    let moves = doors.change(listeners, &|_, _| false, workers, fresh)?;
    Ok((doors, moves.open))
}

impl Doors {
    /// Binds what is to be listened on and is not; `fresh` has what was bound for it before.
    pub(super) fn bind(
        &self,
        listeners: &Listeners,
        is_shut: &dyn Fn(usize, &Listener) -> bool,
        workers: usize,
        fresh: &mut Fresh,
    ) -> Result<(), BindError> {
        for (_, listener, address) in wanted(listeners, is_shut) {
            if self.find(address).is_some() || fresh.has(address) {
                continue;
            }
            let failed = |error| BindError { listener: listener.name.clone(), address, error };
            // Where we listen already, nobody else does; the question would only find ourselves.
            if !self.open.iter().any(|door| overlap(door.address, address)) {
                listener::probe(listener, address).map_err(failed)?;
            }
            let sockets: io::Result<_> = (0..workers).map(|_| Bound::bind(listener, address)).collect();
            fresh.0.push((address, sockets.map_err(failed)?));
        }
        Ok(())
    }

    /// Takes a snapshot's listeners over: every address of theirs is open already or among `fresh`, whose sockets let
    /// clients in from now on. On failure nothing has changed, and those sockets are gone.
    pub(super) fn change(
        &mut self,
        listeners: &Listeners,
        is_shut: &dyn Fn(usize, &Listener) -> bool,
        workers: usize,
        mut fresh: Fresh,
    ) -> Result<Moves, BindError> {
        let mut moves = Moves { open: (0..workers).map(|_| Vec::new()).collect(), ..Moves::default() };
        let mut open = Vec::new();
        let mut next = self.next;
        for (place, listener, address) in wanted(listeners, is_shut) {
            let (live, options) = (&listener.live, Options::of(listener));
            if let Some(door) = self.find(address) {
                open.push(Door { place, ..*door });
                let live = Arc::clone(live);
                moves.uses.push(DoorUse { door: door.id, listener: place, live, options });
                continue;
            }
            let id = DoorId(next);
            next += 1;
            for (own, socket) in moves.open.iter_mut().zip(fresh.take(address)) {
                let failed = |error| BindError { listener: listener.name.clone(), address, error };
                socket.listen(options).map_err(failed)?;
                own.push(Opening { door: id, listener: place, live: Arc::clone(live), socket });
            }
            open.push(Door { id, address, place });
        }
        let stays = |door: &Door| open.iter().any(|other| other.id == door.id);
        moves.close = self.open.iter().filter(|door| !stays(door)).map(|door| door.id).collect();
        (self.open, self.next) = (open, next);
        Ok(moves)
    }

    /// The doors of the listener at a place, which close.
    pub(super) fn shut(&mut self, place: usize) -> Vec<DoorId> {
        let (shut, open) = self.open.drain(..).partition::<Vec<_>, _>(|door| door.place == place);
        self.open = open;
        shut.into_iter().map(|door| door.id).collect()
    }

    fn find(&self, address: SocketAddr) -> Option<&Door> {
        self.open.iter().find(|door| door.address == address)
    }
}

impl Fresh {
    fn has(&self, address: SocketAddr) -> bool {
        self.0.iter().any(|(bound, _)| *bound == address)
    }

    fn take(&mut self, address: SocketAddr) -> Vec<Bound> {
        let at = self.0.iter().position(|(bound, _)| *bound == address);
        at.map_or_else(Vec::new, |at| self.0.swap_remove(at).1)
    }
}

/// Whether a socket on one of these addresses keeps others from the other one.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let everywhere = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.is_ipv4() == other.is_ipv4() && (everywhere || one.ip() == other.ip())
}
