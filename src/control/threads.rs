//! The workers' threads: their sockets bound, their runtimes started, their end noticed.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::mpsc;
use tokio::task::LocalSet;

use super::inherited::{Inherited, Opening, Wanted};
use super::{Inner, StartError};
use crate::proxy::connection::Arrival;
use crate::proxy::listener::{self, Bound};
use crate::proxy::worker::{self, Command, Start};
use crate::runtime::counters::WorkerId;
use crate::runtime::listener::Listener;
use crate::runtime::snapshot::Snapshot;

/// One worker as control knows it.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) thread: JoinHandle<()>,
}

/// Binds every address once per worker, or takes what was inherited for it; all or nothing.
pub(super) fn bind_all(
    snapshot: &Snapshot,
    inherited: &Inherited,
    workers: usize,
) -> Result<Vec<Vec<Bound>>, StartError> {
    let mut sockets: Vec<Vec<Bound>> = (0..workers).map(|_| Vec::new()).collect();
    let openings = inherited.openings(&wanted(snapshot));
    for (index, (listener, openings)) in snapshot.listeners.iter().zip(openings).enumerate() {
        for opening in openings {
            let fault = |error| match opening {
                Opening::Bind(address) => {
                    StartError::Bind { listener: listener.name.to_string(), address, error }
                }
                Opening::Take(_) => StartError::Inherited { listener: listener.name.to_string(), error },
            };
            if let Opening::Bind(address) = opening {
                listener::probe(listener, address).map_err(fault)?;
            }
            for own in &mut sockets {
                own.push(open(listener, index, opening, inherited).map_err(fault)?);
            }
        }
    }
    Ok(sockets)
}

/// The listeners of a snapshot, for those who match sockets to them.
pub(super) fn wanted(snapshot: &Snapshot) -> Vec<Wanted<'_>> {
    let listeners = snapshot.listeners.iter();
    listeners.map(|listener| Wanted { name: listener.name.as_str(), bind: &listener.bind }).collect()
}

/// A socket for one worker.
pub(super) fn open(
    listener: &Listener,
    index: usize,
    opening: Opening,
    inherited: &Inherited,
) -> io::Result<Bound> {
    match opening {
        Opening::Bind(address) => listener::bind(listener, index, address),
        Opening::Take(socket) => {
            let gone = || io::Error::from(io::ErrorKind::NotFound);
            listener::inherit(listener, index, inherited.descriptor(socket).ok_or_else(gone)?)
        }
    }
}

/// Starts a thread per worker.
pub(super) fn start_workers(
    inner: &Arc<Inner>,
    handovers: Vec<mpsc::Receiver<Arrival>>,
    sockets: Vec<Vec<Bound>>,
) -> Result<Vec<Member>, StartError> {
    let mut crew = Vec::with_capacity(handovers.len());
    for (index, (handovers, sockets)) in handovers.into_iter().zip(sockets).enumerate() {
        let (commands, receiver) = mpsc::channel(worker::COMMANDS_MAX);
        let start = Start {
            id: WorkerId(index),
            store: Arc::clone(&inner.store),
            fleet: Arc::clone(&inner.fleet),
            handovers,
            commands: receiver,
            events: inner.events.clone(),
            access_log: inner.access_log.writer(),
        };
        // The channel is empty and has room.
        drop(commands.try_send(Command::Open(sockets)));
        let fleet = Arc::clone(&inner.fleet);
        let thread = std::thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || {
                // Noted however the thread ends, a panic included.
                let _alive = scope_end(move || fleet.died(WorkerId(index)));
                run(start);
            })
            .map_err(StartError::Thread)?;
        crew.push(Member { commands, thread });
    }
    Ok(crew)
}

fn run(start: Start) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "a worker has no runtime");
            return;
        }
    };
    let local = LocalSet::new();
    local.block_on(&runtime, worker::run(start));
}

struct ScopeEnd<F: FnOnce()>(Option<F>);

fn scope_end<F: FnOnce()>(end: F) -> ScopeEnd<F> {
    ScopeEnd(Some(end))
}

impl<F: FnOnce()> Drop for ScopeEnd<F> {
    fn drop(&mut self) {
        if let Some(end) = self.0.take() {
            end();
        }
    }
}
