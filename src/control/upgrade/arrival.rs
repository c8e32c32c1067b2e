//! The new process: what it has been given, the socket on which the old one waits to hear of it, and the moment from which
//! it accepts.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use rustix::net::AddressFamily;
use rustix::net::sockopt::socket_domain;
use tokio::time::{sleep, timeout};

use super::handover::{FromNew, FromOld, Handover, HandoverError, Socket, hear, receive, tell};
use super::state::LiveState;
use super::{MARKER, STEP_TIMEOUT};
use crate::control::Handle;
use crate::control::doors::Handed;
use crate::control::inherited::Inherited;
use crate::control::overrides::Overrides;
use crate::control::state_dir::findings::Findings;
use crate::control::state_dir::overrides_of;
use crate::control::status::PoolStatus;
use crate::control::systemd::started;
use crate::model::address::Address;
use crate::runtime::listener::Transport;

/// What names get for their first answer: the old process serves meanwhile, by the answers that it has.
const NAMES_TIMEOUT: Duration = Duration::from_secs(5);

/// How often it is looked whether they have one.
const NAMES_EVERY: Duration = Duration::from_millis(20);

/// A process that is to take over.
#[derive(Debug)]
pub struct Arrival {
    stream: UnixStream,
    pid: u32,
    sockets: Vec<Socket>,
    /// What nobody has taken yet, by place.
    descriptors: HashMap<usize, OwnedFd>,
    taken: Vec<usize>,
    untaken: Arc<OnceLock<HashSet<(Transport, Address)>>>,
    state: LiveState,
    generation: u64,
    overrides: serde_json::Value,
    findings: serde_json::Value,
}

/// The end of the socket on which it is told that the new process cannot take over.
#[derive(Debug)]
pub struct Line(UnixStream);

/// What control starts with.
#[derive(Debug, Default)]
pub struct Given {
    pub(in crate::control) handed: Handed,
    /// Where control says which addresses it does not listen on.
    pub(in crate::control) untaken: Arc<OnceLock<HashSet<(Transport, Address)>>>,
    pub(in crate::control) state: LiveState,
    /// The number of the snapshot that ran there.
    pub(in crate::control) generation: u64,
    pub(in crate::control) overrides: Option<Overrides>,
    pub(in crate::control) findings: Option<Findings>,
}

impl Arrival {
    /// What the process that has started this one hands over, if one does. Standard input is empty from then on.
    ///
    /// # Errors
    /// [`HandoverError`]; the process must not serve then, since the other one does.
    pub fn from_environment() -> Result<Option<Self>, HandoverError> {
        if std::env::var_os(MARKER).is_none() {
            return Ok(None);
        }
        let input = io::stdin().as_fd().try_clone_to_owned()?;
        if socket_domain(&input).ok() != Some(AddressFamily::UNIX) {
            let why = format!("{MARKER} is set, but standard input brings nothing");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why).into());
        }
        rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
        let stream = UnixStream::from(input);
        stream.set_read_timeout(Some(STEP_TIMEOUT))?;
        stream.set_write_timeout(Some(STEP_TIMEOUT))?;
        match receive(&stream) {
            Ok((handover, descriptors)) => Ok(Some(Self::new(stream, handover, descriptors))),
            Err(error) => {
                Line(stream).fail(&error.to_string());
                Err(error)
            }
        }
    }

    fn new(stream: UnixStream, handover: Handover, descriptors: Vec<OwnedFd>) -> Self {
        let Handover { pid, generation, sockets, state, overrides, findings } = handover;
        Self {
            stream,
            pid,
            sockets,
            descriptors: descriptors.into_iter().enumerate().collect(),
            taken: Vec::new(),
            untaken: Arc::default(),
            state,
            generation,
            overrides,
            findings,
        }
    }

    /// Where it is told that this process cannot take over.
    ///
    /// # Errors
    /// As the system, when no descriptor is left.
    pub fn line(&self) -> io::Result<Line> {
        self.stream.try_clone().map(Line)
    }

    /// A socket of the admin API or the open health listener, by its address as it is configured.
    pub fn take_admin(&mut self, address: &str) -> Option<OwnedFd> {
        let is_it = |socket: &Socket| matches!(socket, Socket::Admin { address: own } if own == address);
        let place = self.sockets.iter().position(is_it)?;
        let socket = self.descriptors.remove(&place)?;
        self.taken.push(place);
        Some(socket)
    }

    /// The sockets that a service manager had opened.
    pub fn inherited(&mut self) -> Inherited {
        let mut sockets = Vec::new();
        for (place, socket) in self.sockets.iter().enumerate() {
            if let Socket::Manager { name } = socket
                && let Some(descriptor) = self.descriptors.remove(&place)
            {
                sockets.push((name.clone(), descriptor));
                self.taken.push(place);
            }
        }
        Inherited::from_predecessor(sockets)
    }

    /// What control starts with.
    pub fn given(&mut self) -> Given {
        let mut handed = Handed::new();
        for (place, socket) in self.sockets.iter().enumerate() {
            if let Some(served) = socket.served()
                && let Some(descriptor) = self.descriptors.remove(&place)
            {
                handed.entry(served).or_default().push(descriptor);
            }
        }
        let overrides = overrides_of(self.overrides.to_string().as_bytes());
        if let Err(why) = &overrides {
            tracing::error!("changes made at run time are not known to the new process: {why}");
        }
        Given {
            handed,
            untaken: Arc::clone(&self.untaken),
            state: std::mem::take(&mut self.state),
            generation: self.generation,
            overrides: overrides.ok(),
            // An older process hands none over: then names are asked and files read before it accepts.
            findings: Findings::read(self.findings.to_string().as_bytes()).ok(),
        }
    }

    /// Waits until everything is in place, and then for the word of the old process. Should that one die now, nobody else
    /// is there to serve, and this one does.
    ///
    /// # Errors
    /// [`HandoverError`]; the old one goes on.
    pub async fn settle(&self, handle: &Handle, warm_up: Duration) -> Result<(), HandoverError> {
        // Once workers turn, control has begun with what it was given, names included.
        started(handle, Duration::ZERO).await;
        if timeout(NAMES_TIMEOUT, resolved(handle)).await.is_err() {
            tracing::warn!("takes over although some names have not been resolved yet");
        }
        started(handle, warm_up).await;
        tell(&self.stream, &FromNew::Warm)?;
        match hear(&self.stream)? {
            Some(FromOld::Accept | FromOld::Left(_)) => Ok(()),
            None => {
                tracing::warn!("the old process has died meanwhile");
                Ok(())
            }
        }
    }

    /// Says that this process accepts, and waits until the old one does not any more.
    ///
    /// # Errors
    /// As the system, when the old one cannot be followed; it is told all the same.
    pub fn ready(mut self, handle: &Handle) -> io::Result<()> {
        let untaken = self.untaken.get();
        for (place, socket) in self.sockets.iter().enumerate() {
            if let Some(served) = socket.served()
                && !untaken.is_some_and(|untaken| untaken.contains(&served))
            {
                self.taken.push(place);
            }
        }
        let mut elders = Vec::new();
        for (place, socket) in self.sockets.iter().enumerate() {
            if let Socket::Elder { pid, since } = socket
                && let Some(descriptor) = self.descriptors.remove(&place)
            {
                let since = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(*since));
                elders.push((*pid, since.unwrap_or_else(SystemTime::now), UnixStream::from(descriptor)));
                self.taken.push(place);
            }
        }
        // Before it is said: the old one empties what this one does not hold, and closes it.
        self.descriptors.clear();
        let told = tell(&self.stream, &FromNew::Ready { taken: std::mem::take(&mut self.taken) });
        let heard = told.and_then(|()| hear::<FromOld>(&self.stream));
        if let Err(error) = &heard {
            tracing::warn!(%error, "the old process does not say that it leaves");
        }
        elders.push((self.pid, SystemTime::now(), self.stream));
        for (pid, since, stream) in elders {
            handle.0.elders.follow(pid, since, stream, &handle.0.journal)?;
        }
        Ok(())
    }
}

impl Line {
    /// Tells the old process why this one cannot take over.
    pub fn fail(&self, why: &str) {
        if let Err(error) = tell(&self.0, &FromNew::Failed { why: why.trim_end().to_owned() }) {
            tracing::debug!(%error, "the old process does not hear why");
        }
    }
}

/// Waits until every name has had its first answer, and what it leads to is published.
async fn resolved(handle: &Handle) {
    let waits = |pool: &PoolStatus| {
        let unknown = pool.names.iter().any(|name| name.age.is_none() && name.fault.is_none());
        let found: usize = pool.names.iter().map(|name| name.addresses).sum();
        unknown || (found > 0 && pool.endpoints.is_empty())
    };
    while handle.status().pools.iter().any(waits) {
        sleep(NAMES_EVERY).await;
    }
}
