//! Which addresses the workers listen on, and what a snapshot changes of that. An address that stays keeps its sockets,
//! also where it belongs to another listener from now on, and be it of another protocol: closing a socket resets who
//! connects at that moment. Where an inherited socket stands for an address, nothing is bound.
//!
//! All or nothing: sockets are bound before anything else is changed, let clients in only just before they are used, and
//! are dropped when anything fails in between.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::inherited::{Claim, Inherited, Wanted};
use crate::model::address::Address;
use crate::model::name::ListenerName;
use crate::proxy::listener::{self, Bound, DoorId, DoorUse, Opening, Options};
use crate::proxy::socket_file::SocketFile;
use crate::runtime::listener::{Listener, Transport};
use crate::runtime::places::Listeners;

/// An address that a listener cannot have.
#[derive(Debug)]
pub(super) struct BindError {
    pub(super) listener: ListenerName,
    pub(super) address: Address,
    pub(super) error: io::Error,
}

/// The open addresses.
#[derive(Debug, Clone, Default)]
pub(super) struct Doors {
    open: Vec<Door>,
    next: u64,
    inherited: Arc<Inherited>,
    /// Addresses of the process before, which listens there until we are ready.
    handed: Vec<(Transport, Address)>,
}

#[derive(Debug, Clone)]
struct Door {
    id: DoorId,
    claim: Claim,
    place: usize,
    /// Of a unix socket; it goes with the last who has it.
    file: Option<Arc<SocketFile>>,
}

/// Sockets that are bound and not yet used: for each address one for each worker.
#[derive(Debug, Default)]
pub(super) struct Fresh(Vec<(Claim, Vec<Bound>)>);

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

/// Sockets of the process before by the address that it was told, one for each of its workers.
pub(super) type Handed = HashMap<(Transport, Address), Vec<OwnedFd>>;

/// Opens everything that a first snapshot listens on, on inherited sockets and those of the process before where there are
/// some for it; for each worker what it is to accept on. What is left of `handed` is not listened on any more.
pub(super) fn open_all(
    listeners: &Listeners,
    inherited: Arc<Inherited>,
    handed: &mut Handed,
    workers: usize,
) -> Result<(Doors, Vec<Vec<Opening>>), BindError> {
    let mut doors = Doors { inherited, handed: handed.keys().copied().collect(), ..Doors::default() };
    let mut fresh = doors.adopt(listeners, handed, workers)?;
    doors.bind(listeners, &|_, _| false, workers, &mut fresh)?;
    let moves = doors.change(listeners, &|_, _| false, workers, fresh)?;
    doors.handed.clear();
    let all = listeners.places().map(|(_, own)| Wanted::of(own));
    doors.inherited.report(&all.collect::<Vec<_>>());
    Ok((doors, moves.open))
}

impl Doors {
    /// What is listened on: the listeners of a snapshot but for those that are shut. One that is shut keeps its inherited
    /// sockets from others.
    fn wanted<'a>(
        &self,
        listeners: &'a Listeners,
        is_shut: &dyn Fn(usize, &Listener) -> bool,
    ) -> Vec<(usize, &'a Listener, Claim)> {
        let all: Vec<_> = listeners.places().collect();
        let names: Vec<_> = all.iter().map(|(_, own)| Wanted::of(own)).collect();
        let claims = self.inherited.claims(&names);
        let open = all.into_iter().zip(claims).filter(|((place, listener), _)| !is_shut(*place, listener));
        open.flat_map(|((place, listener), claims)| {
            claims.into_iter().map(move |claim| (place, listener, claim))
        })
        .collect()
    }

    /// Sockets of the process before, for the addresses that they are for. Each of them is accepted on by a worker, since the
    /// kernel spreads connections over all; where there are fewer than workers the rest get further ones.
    fn adopt(&self, listeners: &Listeners, handed: &mut Handed, workers: usize) -> Result<Fresh, BindError> {
        let mut fresh = Fresh::default();
        for (_, listener, claim) in self.wanted(listeners, &|_, _| false) {
            let address = claim.address;
            let failed = |error| BindError { listener: listener.name.clone(), address, error };
            let of_another = claim.is_inherited() || fresh.has(claim);
            let Some(sockets) = (!of_another).then(|| handed.remove(&(claim.transport, address))).flatten()
            else {
                continue;
            };
            let file = match address {
                Address::Ip(_) => None,
                // Without its file nobody finds the socket, but those who have may still connect.
                Address::Unix(path) => SocketFile::new(path.as_path()).ok().map(Arc::new),
            };
            let adopt = |socket| Bound::adopt(socket, claim.transport, file.clone());
            let sockets: io::Result<Vec<_>> = sockets.into_iter().map(adopt).collect();
            let mut sockets = sockets.map_err(failed)?;
            for index in sockets.len()..workers {
                let Some(like) = sockets.get(index % sockets.len().max(1)) else { break };
                // Under another user a socket of our own cannot join theirs: then two workers accept on one. Of a datagram
                // socket both would get a part of each session, so there a worker has none.
                let further = match address {
                    Address::Ip(_) => Bound::bind(listener, address),
                    Address::Unix(_) => like.share(),
                };
                match claim.transport {
                    Transport::Tcp => sockets.push(further.or_else(|_| like.share()).map_err(failed)?),
                    Transport::Udp => sockets.extend(further.ok()),
                }
            }
            if !sockets.is_empty() {
                fresh.0.push((claim, sockets));
            }
        }
        Ok(fresh)
    }

    /// The addresses of all doors, as they were configured, but for those on inherited sockets.
    pub(super) fn addresses(&self) -> impl Iterator<Item = (DoorId, (Transport, Address))> + '_ {
        let own = self.open.iter().filter(|door| !door.claim.is_inherited());
        own.map(|door| (door.id, (door.claim.transport, door.claim.address)))
    }

    /// The sockets of a service manager.
    pub(super) fn inherited(&self) -> &Inherited {
        &self.inherited
    }

    /// Binds what is to be listened on and is not; `fresh` has what was bound for it before.
    pub(super) fn bind(
        &self,
        listeners: &Listeners,
        is_shut: &dyn Fn(usize, &Listener) -> bool,
        workers: usize,
        fresh: &mut Fresh,
    ) -> Result<(), BindError> {
        for (_, listener, claim) in self.wanted(listeners, is_shut) {
            if self.find(claim).is_some() || fresh.has(claim) {
                continue;
            }
            let address = claim.address;
            let failed = |error| BindError { listener: listener.name.clone(), address, error };
            let sockets: io::Result<_> = match self.inherited.descriptor(claim) {
                // Datagrams of one session must not go to one worker now and to another one then.
                Some(socket) => {
                    let owners = if claim.transport == Transport::Udp { 1 } else { workers };
                    (0..owners).map(|_| Bound::inherit(socket, claim.transport)).collect()
                }
                None if matches!(address, Address::Unix(_)) => {
                    Bound::bind(listener, address).and_then(|first| {
                        let others: io::Result<Vec<_>> = (1..workers).map(|_| first.share()).collect();
                        others.map(|others| std::iter::once(first).chain(others).collect())
                    })
                }
                None => {
                    // Where we listen already, nobody else does; the question would only find ourselves.
                    let open = self.open.iter().map(|door| (door.claim.transport, door.claim.address));
                    let mut ours = open.chain(self.handed.iter().copied());
                    if !ours.any(|(way, ours)| way == claim.transport && overlap(ours, address)) {
                        listener::probe(listener, address).map_err(failed)?;
                    }
                    (0..workers).map(|_| Bound::bind(listener, address)).collect()
                }
            };
            fresh.0.push((claim, sockets.map_err(failed)?));
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
        for (place, listener, claim) in self.wanted(listeners, is_shut) {
            let (live, options) = (&listener.live, Options::of(listener));
            if let Some(door) = self.find(claim) {
                if let Some(Err(error)) = door.file.as_ref().map(|file| file.set_mode(listener.unix_mode)) {
                    tracing::warn!(address = %claim.address, %error, "a unix socket keeps its mode");
                }
                open.push(Door { place, ..door.clone() });
                let live = Arc::clone(live);
                moves.uses.push(DoorUse { door: door.id, listener: place, live, options });
                continue;
            }
            let id = DoorId(next);
            next += 1;
            // A door with one socket has it at one worker, another door at another.
            let sockets = fresh.take(claim);
            let file = sockets.first().and_then(Bound::file).cloned();
            let first = if sockets.len() < workers { usize::try_from(id.0).unwrap_or_default() } else { 0 };
            for (index, socket) in sockets.into_iter().enumerate() {
                let Some(own) = moves.open.get_mut((first + index) % workers) else { continue };
                let address = claim.address;
                let failed = |error| BindError { listener: listener.name.clone(), address, error };
                socket.listen(options).map_err(failed)?;
                own.push(Opening { door: id, listener: place, live: Arc::clone(live), socket });
            }
            open.push(Door { id, claim, place, file });
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

    /// Another process has the sockets of these doors from now on, and their files.
    pub(super) fn leave(&self, doors: &[DoorId]) {
        for file in
            self.open.iter().filter(|door| doors.contains(&door.id)).filter_map(|door| door.file.as_ref())
        {
            file.left_to_another().store(true, Ordering::Relaxed);
        }
    }

    fn find(&self, claim: Claim) -> Option<&Door> {
        self.open.iter().find(|door| door.claim == claim)
    }
}

impl Fresh {
    fn has(&self, claim: Claim) -> bool {
        self.0.iter().any(|(bound, _)| *bound == claim)
    }

    fn take(&mut self, claim: Claim) -> Vec<Bound> {
        let at = self.0.iter().position(|(bound, _)| *bound == claim);
        at.map_or_else(Vec::new, |at| self.0.swap_remove(at).1)
    }
}

/// Whether a socket on one of these addresses keeps others from the other one.
fn overlap(one: Address, other: Address) -> bool {
    let (Address::Ip(one), Address::Ip(other)) = (one, other) else { return one == other };
    let everywhere = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.is_ipv4() == other.is_ipv4() && (everywhere || one.ip() == other.ip())
}
