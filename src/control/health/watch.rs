//! The thread on which probes run: a task for each target, commands from the supervisor, and a tick.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, LocalSet, spawn_local};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::board::Board;
use super::keeper::{Effect, Keeper, Question, TargetId};
use super::probe::outcome::Outcome;
use super::probe::{self, port_accepts};
use super::targets::Watch;
use crate::config::Config;
use crate::control::change::{ChangeError, EndpointChange, FailoverTarget};
use crate::control::journal::Journal;
use crate::model::name::{EndpointName, PoolName};
use crate::policy::health::Verdict;
use crate::proxy::worker::Command as WorkerCommand;
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
    Adopt { snapshot: Arc<Snapshot>, config: Box<Config>, watches: Vec<Watch>, done: oneshot::Sender<()> },
    /// The operator changes the state of an endpoint.
    Change { change: EndpointChange, answer: oneshot::Sender<Result<(), ChangeError>> },
    /// The operator sends a pool's traffic elsewhere.
    Failover { pool: PoolName, to: FailoverTarget, answer: oneshot::Sender<Result<(), ChangeError>> },
    /// Live traffic changed a verdict.
    Judged { pool: PoolName, endpoint: Option<EndpointName>, change: judge::Change, evidence: String },
}

/// What the thread is started with.
pub(in crate::control) struct Start {
    pub(in crate::control) snapshot: Arc<Snapshot>,
    pub(in crate::control) board: Arc<Board>,
    pub(in crate::control) journal: Arc<Journal>,
    pub(in crate::control) workers: Vec<mpsc::Sender<WorkerCommand>>,
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
    workers: Vec<mpsc::Sender<WorkerCommand>>,
    tasks: RefCell<HashMap<TargetId, AbortHandle>>,
    random: RefCell<fastrand::Rng>,
}

impl Thread {
    fn new(start: Start) -> Self {
        let clock = start.snapshot.clock;
        Self {
            keeper: RefCell::new(Keeper::new(start.snapshot, start.board)),
            clock,
            journal: start.journal,
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
            Command::Adopt { snapshot, config, watches, done } => {
                keeper.adopt(&snapshot, &config, watches, now);
                done.send(()).ok();
            }
            Command::Change { change, answer } => {
                drop(answer.send(keeper.set_admin_state(&change, now)));
            }
            Command::Failover { pool, to, answer } => drop(answer.send(keeper.fail_over(&pool, &to, now))),
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

/// Makes the probe, and asks whether the traffic ports accept: beside it where the last result was bad already, or where
/// this one is not there after half its time; right after it where it is bad at once. So what an endpoint that swallows
/// everything leads to comes with the probe's own timeout, not one more timeout later.
async fn ask(question: &Question) -> (Outcome, Vec<(SocketAddr, Option<bool>)>) {
    let limit = question.probe.timeout;
    let probe = probe::run(&question.probe);
    if question.ports.is_empty() {
        return (probe.await, Vec::new());
    }
    if question.suspicious {
        return tokio::join!(probe, ask_ports(&question.ports, limit));
    }
    let half = limit / 2;
    tokio::pin!(probe);
    let Ok(outcome) = timeout(half, &mut probe).await else {
        return tokio::join!(probe, ask_ports(&question.ports, half));
    };
    let ports = match outcome.verdict {
        Verdict::CannotBeAsked => ask_ports(&question.ports, half).await,
        Verdict::Good | Verdict::SaysNo | Verdict::Void => Vec::new(),
    };
    (outcome, ports)
}

async fn ask_ports(ports: &[SocketAddr], limit: Duration) -> Vec<(SocketAddr, Option<bool>)> {
    let mut asked = tokio::task::JoinSet::new();
    for &port in ports {
        asked.spawn_local(async move { (port, port_accepts(port, limit).await) });
    }
    asked.join_all().await
}

fn tell(worker: &mpsc::Sender<WorkerCommand>, command: WorkerCommand) {
    // One whose channel is full is stuck, which the supervisor notices; what a tick orders is ordered again.
    if worker.try_send(command).is_err() {
        tracing::warn!("a worker does not listen");
    }
}
