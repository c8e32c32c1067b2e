//! The thread on which probes run: a task for each target, commands from the supervisor, and a tick.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, LocalSet, spawn_local};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::board::Board;
use super::keeper::{Effect, Keeper, Question, TargetId};
use super::memory::Memory;
use super::probe::outcome::Outcome;
use super::probe::{self, port_accepts};
use super::targets::Watch;
use super::warm::{Newcomer, Warmth, warm_up};
use crate::config::Config;
use crate::control::change::{ChangeError, EndpointChange, FailoverTarget};
use crate::control::journal::Journal;
use crate::model::address::Address;
use crate::model::name::{EndpointName, PoolName};
use crate::policy::health::Verdict;
use crate::proxy::worker::Command as WorkerCommand;
use crate::runtime::events::{Event, EventSender};
use crate::runtime::judge;
use crate::runtime::snapshot::Snapshot;

/// How often the keeper is told the time.
const TICK: Duration = Duration::from_millis(100);

/// Commands that may lie between the supervisor and this thread.
const COMMANDS_MAX: usize = 1024;

/// What the supervisor tells the keeper.
#[derive(Debug)]
pub(in crate::control) enum Command {
    /// A snapshot has been published.
    Adopt {
        snapshot: Arc<Snapshot>,
        config: Arc<Config>,
        watches: Vec<Watch>,
        /// Slots of endpoints whose warm-up counts as their first result.
        proven: Vec<u32>,
        done: oneshot::Sender<()>,
    },
    /// Endpoints that are to come are asked how they are, for so long.
    WarmUp { newcomers: Vec<Newcomer>, limit: Duration, answer: oneshot::Sender<Warmth> },
    /// The operator changes the state of an endpoint.
    Change { change: EndpointChange, answer: oneshot::Sender<Result<(), ChangeError>> },
    /// The operator sends a pool's traffic elsewhere.
    Failover { pool: PoolName, to: FailoverTarget, answer: oneshot::Sender<Result<(), ChangeError>> },
    /// Another process is to go on with what is known.
    Remember { answer: oneshot::Sender<Memory> },
    /// Live traffic changed a verdict.
    Judged { pool: PoolName, endpoint: Option<EndpointName>, change: judge::Change, evidence: String },
}

/// What the thread is started with.
pub(in crate::control) struct Start {
    pub(in crate::control) snapshot: Arc<Snapshot>,
    pub(in crate::control) board: Arc<Board>,
    pub(in crate::control) journal: Arc<Journal>,
    pub(in crate::control) workers: Vec<mpsc::Sender<WorkerCommand>>,
    /// Where the supervisor hears of endpoints that do not answer.
    pub(in crate::control) events: EventSender,
    /// What the process before knew.
    pub(in crate::control) recalled: Memory,
}

/// Starts the thread; it ends when the sender that comes back is dropped.
pub(in crate::control) fn start(start: Start) -> io::Result<mpsc::Sender<Command>> {
    let (sender, receiver) = mpsc::channel(COMMANDS_MAX);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("health".to_owned()).spawn(move || {
        let local = LocalSet::new();
        local.block_on(&runtime, async move {
            Rc::new(Thread::new(start)).run(receiver).await;
        });
    })?;
    Ok(sender)
}

struct Thread {
    keeper: RefCell<Keeper>,
    clock: crate::runtime::clock::Clock,
    journal: Arc<Journal>,
    events: EventSender,
    workers: Vec<mpsc::Sender<WorkerCommand>>,
    tasks: RefCell<HashMap<TargetId, AbortHandle>>,
    random: RefCell<fastrand::Rng>,
}

impl Thread {
    fn new(start: Start) -> Self {
        let clock = start.snapshot.clock;
        let mut keeper = Keeper::new(start.snapshot, start.board);
        keeper.recall(start.recalled);
        Self {
            keeper: RefCell::new(keeper),
            clock,
            journal: start.journal,
            events: start.events,
            workers: start.workers,
            tasks: RefCell::default(),
            random: RefCell::new(fastrand::Rng::new()),
        }
    }

    async fn run(self: Rc<Self>, mut commands: mpsc::Receiver<Command>) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut due = Instant::now();
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => return,
                },
                at = tick.tick() => {
                    let lag = at.saturating_duration_since(due).max(at.elapsed());
                    due = Instant::now() + TICK;
                    let now = self.clock.now();
                    let mut keeper = self.keeper.borrow_mut();
                    keeper.note_lag(lag, now);
                    keeper.tick(now);
                }
            }
            self.perform();
        }
    }

    fn obey(&self, command: Command) {
        let now = self.clock.now();
        let mut keeper = self.keeper.borrow_mut();
        // Whoever asked may have left.
        match command {
            Command::Adopt { snapshot, config, watches, proven, done } => {
                keeper.proven(proven);
                keeper.adopt(&snapshot, &config, watches, now);
                done.send(()).ok();
            }
            Command::WarmUp { newcomers, limit, mut answer } => {
                drop(spawn_local(async move {
                    tokio::select! {
                        warmth = warm_up(newcomers, limit) => drop(answer.send(warmth)),
                        // Whoever asked does not want to know any more.
                        () = answer.closed() => {}
                    }
                }));
            }
            Command::Change { change, answer } => {
                drop(answer.send(keeper.set_admin_state(&change, now)));
            }
            Command::Failover { pool, to, answer } => drop(answer.send(keeper.fail_over(&pool, &to, now))),
            Command::Remember { answer } => drop(answer.send(keeper.memory())),
            Command::Judged { pool, endpoint, change, evidence } => {
                keeper.hear(&pool, endpoint.as_ref(), &change, &evidence, now);
            }
        }
    }

    /// Does what the keeper wants done.
    fn perform(self: &Rc<Self>) {
        let effects = self.keeper.borrow_mut().effects();
        for effect in effects {
            match effect {
                Effect::Tell(change) => {
                    self.journal.append(change);
                }
                Effect::Suspect(pool, endpoint) => {
                    self.events.send(Event::EndpointSilent { pool, endpoint });
                }
                Effect::Cut(order) => {
                    let (slot, at_most, why) = (order.slot, order.at_most, order.why);
                    let turn = order.turn.map(|turn| turn % self.workers.len().max(1));
                    for (index, worker) in self.workers.iter().enumerate() {
                        if turn.is_none_or(|turn| turn == index) {
                            tell(worker, WorkerCommand::Cut { slot, at_most, why });
                        }
                    }
                }
                Effect::Purge(slot) => {
                    for worker in &self.workers {
                        tell(worker, WorkerCommand::Purge(vec![slot]));
                    }
                }
                Effect::Watch(id) => {
                    let task = spawn_local(Rc::clone(self).watch(id));
                    self.tasks.borrow_mut().insert(id, task.abort_handle());
                }
                Effect::Unwatch(id) => {
                    if let Some(task) = self.tasks.borrow_mut().remove(&id) {
                        task.abort();
                    }
                }
            }
        }
    }

    async fn watch(self: Rc<Self>, id: TargetId) {
        let mut wait = self.keeper.borrow().first_wait(id);
        loop {
            sleep(wait).await;
            let Some(question) = self.keeper.borrow().question(id) else { return };
            let (outcome, ports) = ask(&question).await;
            let random = self.random.borrow_mut().u64(..);
            let next = self.keeper.borrow_mut().observe(id, &outcome, &ports, random, self.clock.now());
            self.perform();
            let Some(next) = next else { return };
            wait = next;
        }
    }
}

/// What a probe came to, and which of the ports that were asked accept, where that is known.
type Asked = (Outcome, Vec<(Address, Option<bool>)>);

/// Makes the probe, and asks whether the traffic ports accept: beside it where the last result was bad already, else once
/// half of its time is over or it could not be asked sooner. The ports have what is left of that time, and nobody waits
/// for them when the probe was answered: they never make a result later than the printed bounds have it.
async fn ask(question: &Question) -> Asked {
    let (limit, source, ports) = (question.probe.timeout, question.probe.source, &question.ports);
    let mut asked = pin!(probe::run(&question.probe));
    if ports.is_empty() {
        return (asked.await, Vec::new());
    }
    if question.suspicious {
        return beside(asked, ask_ports(ports, source, limit)).await;
    }
    let begun = Instant::now();
    let Ok(outcome) = timeout(limit / 2, &mut asked).await else {
        return beside(asked, ask_ports(ports, source, limit / 2)).await;
    };
    beside(std::future::ready(outcome), ask_ports(ports, source, limit.saturating_sub(begun.elapsed()))).await
}

/// The result of a probe, with those of the ports where they matter.
async fn beside(
    probe: impl Future<Output = Outcome>,
    ports: impl Future<Output = Vec<(Address, Option<bool>)>>,
) -> Asked {
    let (mut probe, mut ports) = (pin!(probe), pin!(ports));
    tokio::select! {
        biased;
        outcome = &mut probe => match outcome.verdict {
            Verdict::CannotBeAsked => (outcome, ports.await),
            Verdict::Good | Verdict::SaysNo | Verdict::Void => (outcome, Vec::new()),
        },
        ports = &mut ports => (probe.await, ports),
    }
}

async fn ask_ports(
    ports: &[Address],
    source: Option<IpAddr>,
    limit: Duration,
) -> Vec<(Address, Option<bool>)> {
    let mut asked = tokio::task::JoinSet::new();
    for &port in ports {
        asked.spawn_local(async move { (port, port_accepts(port, source, limit).await) });
    }
    asked.join_all().await
}

fn tell(worker: &mpsc::Sender<WorkerCommand>, command: WorkerCommand) {
    // One whose channel is full is stuck, which the supervisor notices; what a tick orders is ordered again.
    if worker.try_send(command).is_err() {
        tracing::warn!("a worker does not listen");
    }
}
