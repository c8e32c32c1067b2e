//! The workers' threads: their runtimes started, their end noticed.

use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::mpsc;
use tokio::task::LocalSet;

use super::{Inner, StartError};
use crate::proxy::connection::Arrival;
use crate::proxy::listener::Opening;
use crate::proxy::worker::{self, Command, Start};
use crate::runtime::counters::WorkerId;

/// One worker as control knows it.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) thread: JoinHandle<()>,
}

/// Starts a thread per worker.
pub(super) fn start_workers(
    inner: &Arc<Inner>,
    handovers: Vec<mpsc::Receiver<Arrival>>,
    doors: Vec<Vec<Opening>>,
) -> Result<Vec<Member>, StartError> {
    let mut crew = Vec::with_capacity(handovers.len());
    for (index, (handovers, openings)) in handovers.into_iter().zip(doors).enumerate() {
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
        drop(commands.try_send(Command::Open(openings)));
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
