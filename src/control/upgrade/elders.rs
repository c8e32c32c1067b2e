//! Processes that upgrades have left behind: each tells on its socket how many connections it still has, until it ends.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use super::OldProcess;
use super::handover::{FromOld, HandoverError, Socket, hear};
use crate::control::journal::{Change, Journal, Kind};

/// How often a follower looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(250);

/// All of them.
#[derive(Debug, Default)]
pub(in crate::control) struct Elders {
    known: Mutex<Vec<Elder>>,
    stopped: AtomicBool,
}

#[derive(Debug)]
struct Elder {
    process: OldProcess,
    stream: UnixStream,
    follower: Option<JoinHandle<()>>,
}

impl Elders {
    /// Those that still have connections.
    pub(in crate::control) fn list(&self) -> Vec<OldProcess> {
        self.lock().iter().map(|elder| elder.process.clone()).collect()
    }

    /// Listens to another one until it ends.
    ///
    /// # Errors
    /// As the system, when there is no thread or descriptor left; nobody is listed then.
    pub(super) fn follow(
        self: &Arc<Self>,
        pid: u32,
        since: SystemTime,
        stream: UnixStream,
        journal: &Arc<Journal>,
    ) -> io::Result<()> {
        stream.set_read_timeout(Some(LOOK))?;
        let process = OldProcess { pid, connections: 0, since };
        let (elders, journal, heard) = (Arc::clone(self), Arc::clone(journal), stream.try_clone()?);
        self.lock().push(Elder { process, stream, follower: None });
        let work = move || elders.listen(pid, &heard, &journal);
        let follower = std::thread::Builder::new().name("elder".to_owned()).spawn(work);
        let mut known = self.lock();
        match follower {
            Ok(follower) => {
                if let Some(elder) = known.iter_mut().find(|elder| elder.process.pid == pid) {
                    elder.follower = Some(follower);
                }
                Ok(())
            }
            Err(error) => {
                known.retain(|elder| elder.process.pid != pid);
                Err(error)
            }
        }
    }

    fn listen(&self, pid: u32, stream: &UnixStream, journal: &Journal) {
        while !self.stopped.load(Ordering::Relaxed) {
            match hear::<FromOld>(stream) {
                Ok(Some(FromOld::Left(connections))) => {
                    if let Some(elder) = self.lock().iter_mut().find(|elder| elder.process.pid == pid) {
                        elder.process.connections = connections;
                    }
                }
                // What is not understood is of a version to come, or the rest of a line that timed out.
                Ok(Some(FromOld::Accept)) | Err(HandoverError::Text(_)) => {}
                Err(HandoverError::Io(error))
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                Ok(None) | Err(_) => {
                    self.lock().retain(|elder| elder.process.pid != pid);
                    let because = "its last connection has ended";
                    journal.append(Change::new(Kind::Process, format!("process {pid} is gone"), because));
                    return;
                }
            }
        }
    }

    /// Their sockets, for the next process.
    pub(super) fn lend(&self) -> io::Result<Vec<(Socket, OwnedFd)>> {
        let lend = |elder: &Elder| {
            let since = elder.process.since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let socket = Socket::Elder { pid: elder.process.pid, since: since.as_secs() };
            Ok((socket, elder.stream.try_clone()?.into()))
        };
        self.lock().iter().map(lend).collect()
    }

    /// Stops to listen, since the next process does; when this returns nobody takes its lines away from it.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        let followers: Vec<_> = self.lock().iter_mut().filter_map(|elder| elder.follower.take()).collect();
        for follower in followers {
            if follower.join().is_err() {
                tracing::warn!("a thread that listened to an old process panicked");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Elder>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
