//! A worker: one thread with a runtime, timers, buffers, idle upstream connections and counters of its own.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};

use super::connection::{self, Arrival, Conversation};
use super::http2::upstream::Connections;
use super::listener::{self, Door, DoorId, DoorUse, Opening};
use super::sessions::{Cut, Listed, Sessions};
use super::tcp::splice::Pipes;
use super::timer::Timers;
use super::udp;
use super::upstream::idle::IdleConnections;
use crate::runtime::counters::{Counter, PerWorker, WorkerId};
use crate::runtime::events::{Event, EventSender};
use crate::runtime::listener::{ListenerLive, Transport};
use crate::runtime::pool::Pool;
use crate::runtime::pressure::Pressure;
use crate::runtime::store::{Current, Reader, Store};
use crate::telemetry::access_log::{AccessLogWriter, Termination};

/// Connections that may lie between two workers. No setting: one that finds it full is served where it was accepted.
pub const HANDOVERS_MAX: usize = 256;

/// Commands that may lie between control and a worker. No setting: nothing that users do fills it, but a stuck worker, which
/// the supervisor notices.
pub const COMMANDS_MAX: usize = 64;

/// How often a worker sweeps idle connections and hands its log lines over.
const HOUSEKEEPING: Duration = Duration::from_millis(100);

/// How long the last snapshot of a removed listener is kept: what a connection without a request yet gets when a drain
/// begins, and a little more.
const FORMER_KEPT: Duration = Duration::from_millis(1500);

/// What control tells a worker.
#[derive(Debug)]
pub enum Command {
    /// Accept on these.
    Open(Vec<Opening>),
    /// Stop accepting and let what is in flight finish; idle connections close.
    Drain,
    /// Another process takes over and accepts on the sockets of these doors: stop accepting and let what is in flight
    /// finish. Idle connections stay, each for a last request or until its time is up.
    Leave(Arc<[DoorId]>),
    /// Another process is to have the sockets of the doors: a descriptor of each.
    Lend(mpsc::Sender<io::Result<Vec<(DoorId, OwnedFd)>>>),
    /// Close these doors; what was accepted goes on. The listeners at these places are removed by the next snapshot.
    Close {
        /// The doors.
        doors: Arc<[DoorId]>,
        /// Places that will be empty.
        vacated: Arc<[usize]>,
        /// Dropped by everybody once the doors are closed.
        closed: mpsc::Sender<()>,
    },
    /// These doors stay open, for these listeners.
    Use(Arc<[DoorUse]>),
    /// Listeners are gone by the snapshot that is published now: their idle connections close.
    Vacated(Arc<[usize]>),
    /// Close idle connections to the endpoints with these slots.
    Purge(Vec<u32>),
    /// Cut tunnels and tcp sessions that lead to the endpoint with this slot.
    Cut {
        /// The endpoint.
        slot: u32,
        /// How many at most.
        at_most: usize,
        /// The reason.
        why: Cut,
    },
    /// List tunnels and tcp sessions.
    ListSessions {
        /// Those of the endpoints at these slots; of all, where none are given.
        slots: Option<Arc<[u32]>>,
        /// So many at most.
        most: usize,
        /// Those listed, and how many there are.
        answer: oneshot::Sender<(Vec<Listed>, usize)>,
    },
    /// Cut the tunnel or tcp session of this number.
    EndSession {
        /// Which.
        number: u32,
        /// Whether there is one.
        answer: oneshot::Sender<bool>,
    },
    /// Memory or descriptors run short: what lies idle closes.
    Save,
    /// Cut the tunnels and tcp sessions that came by the listener at this place.
    CutListener(usize),
    /// Stop now; what is in flight is cut.
    Stop,
}

/// What all workers share of each other.
#[derive(Debug)]
pub struct Fleet {
    members: Vec<Member>,
    /// Counters, per worker.
    pub counters: PerWorker<WorkerCounters>,
    /// How hard-pressed the process is.
    pub pressure: Pressure,
}

#[derive(Debug)]
struct Member {
    connections: Load,
    handover: mpsc::Sender<Arrival>,
    alive: AtomicBool,
}

// Read by every worker for each new connection, written by its owner: alone on its cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Load(AtomicUsize);

/// Counters of one worker.
#[derive(Debug)]
pub struct WorkerCounters {
    /// Connections handed to another worker.
    pub handovers: Counter,
    /// Requests and connections that ended, by reason, in the order of [`Termination::ALL`].
    pub terminations: [Counter; Termination::ALL.len()],
    /// Turns of the housekeeping, which show that the worker turns.
    pub turns: Counter,
}

impl Default for WorkerCounters {
    fn default() -> Self {
        let terminations = std::array::from_fn(|_| Counter::default());
        Self { handovers: Counter::default(), terminations, turns: Counter::default() }
    }
}

impl Fleet {
    /// A fleet of `workers`, and the receiving ends of their handovers.
    #[must_use]
    pub fn new(workers: usize) -> (Arc<Self>, Vec<mpsc::Receiver<Arrival>>) {
        let (members, receivers) = (0..workers)
            .map(|_| {
                let (handover, receiver) = mpsc::channel(HANDOVERS_MAX);
                let member = Member { connections: Load::default(), handover, alive: AtomicBool::new(true) };
                (member, receiver)
            })
            .unzip();
        let (counters, pressure) = (PerWorker::new(workers), Pressure::new(workers));
        (Arc::new(Self { members, counters, pressure }), receivers)
    }

    /// How many workers there are.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.members.len()
    }

    /// Connections that a worker owns now.
    #[must_use]
    pub fn connections(&self, worker: WorkerId) -> usize {
        self.members.get(worker.0).map_or(0, |m| m.connections.0.load(Ordering::Relaxed))
    }

    /// Connections that all workers own now.
    #[must_use]
    pub fn total(&self) -> usize {
        self.members.iter().map(|m| m.connections.0.load(Ordering::Relaxed)).sum()
    }

    /// Whether a worker's thread runs.
    #[must_use]
    pub fn is_alive(&self, worker: WorkerId) -> bool {
        self.members.get(worker.0).is_some_and(|m| m.alive.load(Ordering::Relaxed))
    }

    /// Notes that a worker's thread has ended.
    pub fn died(&self, worker: WorkerId) {
        if let Some(member) = self.members.get(worker.0) {
            member.alive.store(false, Ordering::Relaxed);
        }
    }

    /// Counts a connection that belongs to a worker from now on.
    pub fn joined(&self, worker: WorkerId) {
        if let Some(member) = self.members.get(worker.0) {
            member.connections.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts one that has ended.
    pub fn left(&self, worker: WorkerId) {
        if let Some(member) = self.members.get(worker.0) {
            member.connections.0.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The worker that a new connection should go to: this one, unless it is clearly busier than the least loaded
    /// (by more than an eighth and 8 connections).
    fn better_than(&self, own: WorkerId) -> Option<&Member> {
        if self.members.len() == 1 {
            return None;
        }
        let mine = self.connections(own);
        let least = self.members.iter().min_by_key(|m| m.connections.0.load(Ordering::Relaxed))?;
        let least_load = least.connections.0.load(Ordering::Relaxed);
        (mine > least_load + 8 && mine > least_load + least_load / 8).then_some(least)
    }
}

/// Whether new work is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Draining {
    No,
    /// Connections close with their next answer.
    Gently,
    /// Idle ones close now.
    AtOnce,
}

/// The state of one worker; everything on its thread shares it.
pub struct Worker {
    /// Which one it is.
    pub id: WorkerId,
    /// Its timers.
    pub timers: Rc<Timers>,
    /// Its idle upstream connections.
    pub idle: IdleConnections,
    /// Its HTTP/2 connections to endpoints.
    pub multiplexed: Connections,
    /// Its pipes.
    pub pipes: Pipes,
    /// Where datagrams are received.
    pub datagrams: udp::socket::Room,
    /// Its tunnels and tcp sessions.
    pub sessions: Sessions,
    /// Its end of the access log.
    pub access_log: RefCell<AccessLogWriter>,
    /// Its end of the event queue.
    pub events: EventSender,
    /// The other workers.
    pub fleet: Arc<Fleet>,
    reader: Reader,
    draining: Cell<Draining>,
    /// A door may have several sockets here, where the process before had more workers.
    doors: RefCell<HashMap<DoorId, Vec<Rc<Door>>>>,
    /// The last snapshot of listeners that have just been removed, for the first requests of their last connections.
    former: RefCell<HashMap<usize, Current>>,
    drained: Notify,
    random: RefCell<fastrand::Rng>,
}

impl Worker {
    /// The snapshot for a piece of work that starts now.
    #[must_use]
    pub fn snapshot(&self) -> Current {
        self.reader.snapshot()
    }

    /// The snapshot for work that comes by the listener at this place: where that has been removed a moment ago, the last
    /// one that had it.
    #[must_use]
    pub fn snapshot_of(&self, listener: usize) -> Option<Current> {
        let current = self.snapshot();
        if current.listeners.get(listener).is_some() {
            return Some(current);
        }
        self.former.borrow().get(&listener).cloned()
    }

    /// Whether no new work is to start on a connection of the listener at this place once it has become idle.
    #[must_use]
    pub fn is_leaving(&self, listener: usize) -> bool {
        self.draining.get() > Draining::No || self.gives_up_idle(listener)
    }

    /// Whether idle connections of the listener at this place are to close now.
    #[must_use]
    pub fn closes_idle(&self, listener: usize) -> bool {
        self.draining.get() == Draining::AtOnce || self.gives_up_idle(listener)
    }

    /// Whether the listener at this place is gone, or the process runs short of what idle connections hold.
    fn gives_up_idle(&self, listener: usize) -> bool {
        let snapshot = self.snapshot();
        snapshot.listeners.get(listener).is_none_or(|l| self.fleet.pressure.saves(l.importance))
    }

    /// Resolves when draining starts.
    pub async fn drain_started(&self) {
        while self.draining.get() == Draining::No {
            self.drained.notified().await;
        }
    }

    /// Counts a request or connection that has ended.
    pub fn count_end(&self, listener: &ListenerLive, status: u16, termination: Termination) {
        listener.counters.of(self.id).ended.count(status);
        if let Some(counter) = self.fleet.counters.of(self.id).terminations.get(termination as usize) {
            counter.one();
        }
    }

    /// Why work has ended that is dropped before its end: a panic is on its way through, or the worker has stopped.
    #[must_use]
    pub fn why_cut() -> Termination {
        if std::thread::panicking() { Termination::Panic } else { Termination::Drain }
    }

    /// A random number; not for secrets.
    #[must_use]
    pub fn random(&self) -> u64 {
        self.random.borrow_mut().u64(..)
    }

    /// When a long-lived connection that starts now is to end, by the pool's `max_connection_age`: up to 10 % sooner, so
    /// that those which came together do not go together.
    #[must_use]
    pub fn end_of_life(&self, pool: &Pool) -> Option<Instant> {
        let age = pool.max_connection_age?;
        let share = 0.9 + 0.1 * self.random.borrow_mut().f64();
        Some(Instant::now() + age.mul_f64(share))
    }

    /// Takes a new connection: here, or at a worker that is clearly less loaded.
    pub fn place(self: &Rc<Self>, arrival: Arrival) {
        let Some(other) = self.fleet.better_than(self.id) else { return self.adopt(arrival) };
        match other.handover.try_send(arrival) {
            Ok(()) => self.fleet.counters.of(self.id).handovers.one(),
            // Full or gone: it is served here after all.
            Err(mpsc::error::TrySendError::Full(arrival) | mpsc::error::TrySendError::Closed(arrival)) => {
                self.adopt(arrival);
            }
        }
    }

    fn adopt(self: &Rc<Self>, arrival: Arrival) {
        if let Some(conversation) = connection::begin(self, arrival) {
            self.spawn(conversation);
        }
    }

    /// Runs a connection, or a udp session, in a task of its own: should it panic, nothing else ends.
    pub fn spawn(self: &Rc<Self>, conversation: Conversation) {
        drop(tokio::task::spawn_local(Isolated { conversation, worker: Rc::clone(self) }));
    }

    async fn obey(self: &Rc<Self>, mut commands: mpsc::Receiver<Command>) {
        while let Some(command) = commands.recv().await {
            match command {
                Command::Open(openings) => openings.into_iter().for_each(|opening| self.open(opening)),
                Command::Drain => self.drain(Draining::AtOnce),
                Command::Leave(taken) => {
                    for (_, sockets) in self.doors.borrow().iter().filter(|(id, _)| taken.contains(id)) {
                        sockets.iter().for_each(|door| door.leave_to_another());
                    }
                    self.drain(Draining::Gently);
                }
                // Whoever asked may not wait any more.
                Command::Lend(answer) => drop(answer.try_send(self.lend())),
                Command::Close { doors, vacated, closed } => {
                    let snapshot = self.snapshot();
                    for &place in vacated.iter() {
                        self.former.borrow_mut().insert(place, Rc::clone(&snapshot));
                    }
                    for door in doors.iter().filter_map(|door| self.doors.borrow_mut().remove(door)) {
                        door.iter().for_each(|socket| socket.close(closed.clone()));
                    }
                }
                Command::Use(doors) => {
                    for to in doors.iter() {
                        for door in self.doors.borrow().get(&to.door).into_iter().flatten() {
                            door.change(to);
                        }
                    }
                }
                Command::Vacated(places) => {
                    self.timers.wake_all();
                    drop(tokio::task::spawn_local(Rc::clone(self).forget(places)));
                }
                Command::Purge(slots) => {
                    self.idle.purge(self.id, &slots);
                    self.multiplexed.purge(&slots);
                }
                Command::Cut { slot, at_most, why } => self.sessions.cut(slot, at_most, why),
                // Whoever asked may have left.
                Command::ListSessions { slots, most, answer } => {
                    drop(answer.send(self.sessions.list(slots.as_deref(), most)));
                }
                Command::EndSession { number, answer } => drop(answer.send(self.sessions.end(number))),
                Command::CutListener(place) => self.sessions.cut_listener(place, Cut::ListenerRemoved),
                Command::Save => {
                    self.idle.clear(self.id);
                    self.timers.wake_all();
                }
                Command::Stop => return,
            }
        }
    }

    fn drain(&self, how: Draining) {
        self.draining.set(how);
        self.doors.borrow_mut().clear();
        self.drained.notify_waiters();
        self.idle.clear(self.id);
        self.multiplexed.clear();
        self.timers.wake_all();
    }

    fn lend(&self) -> io::Result<Vec<(DoorId, OwnedFd)>> {
        let doors = self.doors.borrow();
        let sockets = doors.iter().flat_map(|(id, sockets)| sockets.iter().map(move |socket| (*id, socket)));
        sockets.map(|(id, socket)| Ok((id, socket.lend()?))).collect()
    }

    fn open(self: &Rc<Self>, opening: Opening) {
        let id = opening.door;
        if let Some(door) = Door::new(opening) {
            self.doors.borrow_mut().entry(id).or_default().push(Rc::clone(&door));
            match door.transport() {
                Transport::Tcp => drop(tokio::task::spawn_local(listener::serve(Rc::clone(self), door))),
                Transport::Udp => drop(tokio::task::spawn_local(udp::door::serve(Rc::clone(self), door))),
            }
        }
    }

    /// Lets the last snapshot of removed listeners go once their last connections have had time for a first request.
    async fn forget(self: Rc<Self>, places: Arc<[usize]>) {
        sleep(FORMER_KEPT).await;
        self.former.borrow_mut().retain(|place, _| !places.contains(place));
    }

    async fn take_over(self: &Rc<Self>, mut handovers: mpsc::Receiver<Arrival>) {
        while let Some(arrival) = handovers.recv().await {
            self.adopt(arrival);
        }
    }

    async fn keep_house(&self) {
        loop {
            let due = Instant::now() + HOUSEKEEPING;
            sleep_until(due).await;
            self.fleet.pressure.late(self.id, due.elapsed());
            self.idle.sweep(self.id, Instant::now());
            self.multiplexed.sweep();
            self.access_log.borrow_mut().flush();
            // What nobody works with any more is not kept by an idle worker.
            self.reader.refresh();
            self.fleet.counters.of(self.id).turns.one();
        }
    }
}

/// What a worker thread is started with.
pub struct Start {
    /// Which one it is.
    pub id: WorkerId,
    /// The published snapshot.
    pub store: Arc<Store>,
    /// All workers.
    pub fleet: Arc<Fleet>,
    /// Connections from other workers.
    pub handovers: mpsc::Receiver<Arrival>,
    /// Commands from control.
    pub commands: mpsc::Receiver<Command>,
    /// Events to control.
    pub events: EventSender,
    /// Its end of the access log.
    pub access_log: AccessLogWriter,
}

/// Runs a worker on the current thread until control stops it.
pub async fn run(start: Start) {
    let worker = Rc::new(Worker {
        id: start.id,
        timers: Timers::new(),
        idle: IdleConnections::default(),
        multiplexed: Connections::default(),
        pipes: Pipes::default(),
        datagrams: udp::socket::Room::default(),
        sessions: Sessions::new(start.id),
        access_log: RefCell::new(start.access_log),
        events: start.events,
        fleet: start.fleet,
        reader: Reader::new(start.store),
        draining: Cell::new(Draining::No),
        doors: RefCell::default(),
        former: RefCell::default(),
        drained: Notify::new(),
        random: RefCell::new(fastrand::Rng::new()),
    });
    let timers = Rc::clone(&worker.timers);
    tokio::select! {
        () = worker.obey(start.commands) => {}
        () = worker.take_over(start.handovers) => {}
        () = worker.keep_house() => {}
        () = timers.drive() => {}
    }
    // What is in flight is dropped after this and leaves records too; the writer hands them over when it is dropped with
    // the last of them.
}

/// A connection whose panic ends it alone: told to control, and nothing else is touched. A struct of three words where an
/// async fn would do, as that keeps its arguments twice: with these the task fits the smallest block that tokio makes.
struct Isolated {
    conversation: Conversation,
    worker: Rc<Worker>,
}

impl Future for Isolated {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let isolated = self.get_mut();
        let conversation = isolated.conversation.as_mut();
        // The connection itself counts the panic, on its way through its end.
        catch_unwind(AssertUnwindSafe(|| conversation.poll(cx))).unwrap_or_else(|panic| {
            isolated.worker.events.send(Event::ConnectionPanicked { message: message(&*panic) });
            Poll::Ready(())
        })
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_task_of_a_connection_fits_the_smallest_block() {
        // tokio rounds tasks up to 128 bytes, of which it needs 104 itself.
        assert!(size_of::<Isolated>() <= 24);
    }
}
