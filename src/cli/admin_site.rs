//! The sockets of the admin API and of the open health listener, and the thread that serves them: bound before anybody is
//! served, changed in place by a reload, lent to a process that takes over.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Handle as RuntimeHandle, Runtime};
use tokio::sync::{mpsc, oneshot, watch};

use super::Failure;
use super::run::{running, runtime};
use crate::admin::{self, Bound, Hits, Tokens};
use crate::config::Config;
use crate::config::process::{AdminBind, ApiLimits};
use crate::control::Handle;
use crate::control::surroundings::{Carry, Surroundings};
use crate::control::upgrade::Lent;
use crate::control::upgrade::arrival::Arrival;

/// What requests in flight get when the process ends.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// What they get where only their listener is changed: a reload may be among them.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(300);

/// What is served on one socket.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Plan {
    address: AdminBind,
    limits: ApiLimits,
    /// Nothing for the open health listener.
    admin: Option<Allowed>,
}

/// Who may ask the admin API.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Allowed {
    hosts: Vec<String>,
    token_file: Option<PathBuf>,
    read_token_file: Option<PathBuf>,
}

impl Plan {
    /// Every socket that a configuration wants, the admin API's first.
    fn of(config: &Config) -> Vec<Self> {
        let admin = &config.admin;
        let allowed = Allowed {
            hosts: admin.allowed_hosts.clone(),
            token_file: admin.token_file.clone(),
            read_token_file: admin.read_token_file.clone(),
        };
        let first = Self { address: admin.bind.clone(), limits: admin.limits, admin: Some(allowed) };
        let health = config.health.bind.iter().map(|address| Self {
            address: AdminBind::Tcp(*address),
            limits: config.health.limits,
            admin: None,
        });
        std::iter::once(first).chain(health).collect()
    }

    /// Binds its socket, or adopts it; must be called inside a runtime.
    fn bind(&self, handed: Option<OwnedFd>) -> Result<Bound, String> {
        let address = &self.address;
        let bound = match handed {
            Some(socket) => Bound::adopt(address, socket),
            None => Bound::bind(address),
        };
        let (what, key) = match self.admin {
            Some(_) => ("the admin API", "admin.bind"),
            None => ("the health API", "health.bind"),
        };
        bound.map_err(|error| format!("{what} cannot listen on {address} ({key}): {error}"))
    }

    fn tokens(&self) -> Result<Tokens, String> {
        let Some(allowed) = &self.admin else { return Ok(Tokens::default()) };
        Tokens::read(allowed.token_file.as_deref(), allowed.read_token_file.as_deref())
    }

    fn is_at(&self, other: &Self) -> bool {
        self.address == other.address && self.admin.is_some() == other.admin.is_some()
    }
}

/// A socket with all that is needed to serve on it.
#[derive(Debug)]
struct Opening {
    plan: Plan,
    bound: Arc<Bound>,
    tokens: Tokens,
}

impl Opening {
    fn new(plan: Plan, bound: Arc<Bound>) -> Result<Self, String> {
        Ok(Self { tokens: plan.tokens()?, plan, bound })
    }
}

/// The sockets before anyone can be asked: bound, so that a taken address is found before traffic is.
pub(super) struct AdminSite {
    runtime: Runtime,
    openings: Vec<Opening>,
}

impl AdminSite {
    /// Takes what a process before hands over, and binds the rest.
    pub(super) fn bind(config: &Config, mut arrival: Option<&mut Arrival>) -> Result<Self, Failure> {
        let runtime = runtime()?;
        let context = runtime.enter();
        let open = |plan: Plan| {
            let handed = arrival.as_mut().and_then(|arrival| arrival.take_admin(&plan.address.to_string()));
            let bound = Arc::new(plan.bind(handed)?);
            Opening::new(plan, bound)
        };
        let openings = Plan::of(config).into_iter().map(open).collect::<Result<_, String>>();
        let openings = openings.map_err(Failure::Running)?;
        drop(context);
        Ok(Self { runtime, openings })
    }

    /// Serves on all of them, and follows the configuration from now on.
    pub(super) fn serve(self, handle: &Handle) -> Result<AdminThread, Failure> {
        let Self { runtime, openings } = self;
        let (stop, mut stopped) = watch::channel(false);
        let (serving, mut all_ended) = mpsc::channel(1);
        let house = House {
            runtime: runtime.handle().clone(),
            handle: handle.clone(),
            hits: Arc::default(),
            state: Mutex::new(State { rooms: Vec::new(), serving: Some(serving) }),
        };
        let house = Arc::new(house);
        house.open(&mut house.state(), openings);
        let work = move || {
            runtime.block_on(async {
                // It is also closed when the process ends, whichever way.
                drop(stopped.wait_for(|stop| *stop).await);
                while all_ended.recv().await.is_some() {}
            });
        };
        let thread = std::thread::Builder::new().name("plimsoll-admin".to_owned()).spawn(work);
        handle.surround(Arc::new(Followed(Arc::clone(&house))));
        Ok(AdminThread { stop, thread: Some(thread.map_err(running("the admin thread"))?), house })
    }
}

/// What is served now.
struct House {
    runtime: RuntimeHandle,
    handle: Handle,
    hits: Arc<Hits>,
    state: Mutex<State>,
}

struct State {
    rooms: Vec<Room>,
    /// Held by whoever serves; nothing once no more may begin.
    serving: Option<mpsc::Sender<()>>,
}

struct Room {
    plan: Plan,
    bound: Arc<Bound>,
    /// Stops it, with what requests in flight get.
    stop: oneshot::Sender<Duration>,
}

impl std::fmt::Debug for House {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("House").finish_non_exhaustive()
    }
}

impl House {
    /// Each change of it is whole before the next begins.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, state: &mut State, openings: Vec<Opening>) {
        let Some(serving) = state.serving.clone() else { return };
        for Opening { plan, bound, tokens } in openings {
            let (stop, stopped) = oneshot::channel();
            // Whoever lets it go without a word ends with the process.
            let stopped = async { stopped.await.unwrap_or(STOP_TIMEOUT) };
            let (listener, handle, serving) = (Arc::clone(&bound), self.handle.clone(), serving.clone());
            let limits = (plan.limits, Arc::clone(&self.hits));
            let hosts = plan.admin.as_ref().map(|allowed| allowed.hosts.clone());
            drop(self.runtime.spawn(async move {
                match hosts {
                    Some(hosts) => admin::serve(listener, handle, hosts, tokens, limits, stopped).await,
                    None => admin::serve_health(listener, handle, limits, stopped).await,
                }
                drop(serving);
            }));
            state.rooms.push(Room { plan, bound, stop });
        }
    }

    /// Puts these in the place of all but those that stay as they are.
    fn change(&self, wanted: &[Plan], openings: Vec<Opening>) {
        let mut state = self.state();
        let (stay, go) = state.rooms.drain(..).partition(|room| wanted.contains(&room.plan));
        state.rooms = stay;
        for Room { stop, .. } in go {
            // One that has ended by itself needs no word.
            stop.send(CHANGE_TIMEOUT).ok();
        }
        self.open(&mut state, openings);
    }
}

/// The sockets and those who may ask follow the configuration.
#[derive(Debug)]
struct Followed(Arc<House>);

impl Surroundings for Followed {
    fn prepare(&self, next: &Config) -> Result<Carry, String> {
        let wanted = Plan::of(next);
        let context = self.0.runtime.enter();
        let openings = {
            let state = self.0.state();
            let is_new = |plan: &&Plan| !state.rooms.iter().any(|room| room.plan == **plan);
            let open = |plan: &Plan| {
                let there = state.rooms.iter().find(|room| room.plan.is_at(plan));
                let bound = match there {
                    Some(room) => Arc::clone(&room.bound),
                    None => Arc::new(plan.bind(None)?),
                };
                Opening::new(plan.clone(), bound)
            };
            wanted.iter().filter(is_new).map(open).collect::<Result<Vec<_>, String>>()?
        };
        drop(context);
        let house = Arc::clone(&self.0);
        Ok(Box::new(move || house.change(&wanted, openings)))
    }
}

/// The thread of the admin API.
pub(super) struct AdminThread {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
    house: Arc<House>,
}

impl AdminThread {
    /// Closes the sockets and waits for requests in flight; at once over when that has been done.
    pub(super) fn stop(&mut self) {
        let rooms = {
            let mut state = self.house.state();
            state.serving = None;
            std::mem::take(&mut state.rooms)
        };
        for Room { stop, .. } in rooms {
            stop.send(STOP_TIMEOUT).ok();
        }
        self.stop.send_replace(true);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the admin thread panicked");
        }
    }

    /// Whether it has been stopped.
    pub(super) const fn is_stopped(&self) -> bool {
        self.thread.is_none()
    }

    /// Its sockets, for a process that takes over.
    pub(super) fn lend(&self) -> io::Result<Vec<Lent>> {
        self.house.state().rooms.iter().map(|room| room.bound.lend(&room.plan.address)).collect()
    }
}
