//! The thread that asks DNS: what `names` says, when it says so, and what comes of it told to the supervisor. Nothing waits
//! for it but a reload, for the first answers of new names, within a bound.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::{Resolver, TokioResolver};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::names::{ADDRESSES_MAX, Answer, Answers, Found, NameState, Names, Part, Query, Source};
use super::state_dir::findings::Answered;

/// How long one server may take for an answer; then the next is asked.
const ATTEMPT: Duration = Duration::from_secs(1);

/// Times that every server is asked.
const ATTEMPTS: usize = 2;

/// How long all that belongs to one name may take.
const WHOLE: Duration = Duration::from_secs(8);

/// How long the answer of one family, once it is there, waits for that of the other.
const OTHER_FAMILY: Duration = Duration::from_millis(300);

/// Targets of one service whose addresses are asked for at the same time.
const TARGETS_AT_ONCE: usize = 16;

/// Names that change within this time are published together.
const GATHER: Duration = Duration::from_millis(50);

/// How long the files of the system (resolv.conf, hosts) are believed before they are read again.
const SYSTEM_FILES: Duration = Duration::from_secs(30);

/// Commands that may wait.
const COMMANDS_MAX: usize = 256;

/// What the names have come to, for whoever looks.
#[derive(Debug, Default)]
pub(super) struct NameBoard(Mutex<BTreeMap<Query, NameState>>);

impl NameBoard {
    /// All of it.
    pub(super) fn read(&self) -> BTreeMap<Query, NameState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn write(&self, states: BTreeMap<Query, NameState>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = states;
    }
}

enum Command {
    Follow { queries: BTreeSet<Query>, resolvers: Vec<SocketAddr>, settled: oneshot::Sender<Arc<Answers>> },
    Suspect(Query),
}

/// The way to the thread, which is started when there is a first name.
pub(super) struct Dns {
    board: Arc<NameBoard>,
    answers: watch::Sender<Arc<Answers>>,
    commands: Option<mpsc::Sender<Command>>,
    followed: (BTreeSet<Query>, Vec<SocketAddr>),
    /// Answers from before this process, for the thread once it is there.
    before: Before,
}

/// Answers with the moments at which they were given.
type Before = BTreeMap<Query, (Answered, Instant)>;

impl Dns {
    /// Nothing is asked yet, and what is known is from `before`. What changes is sent to the receiver.
    pub(super) fn new(board: Arc<NameBoard>, before: Before) -> (Self, watch::Receiver<Arc<Answers>>) {
        let (answers, changes) = watch::channel(Arc::default());
        (Self { board, answers, commands: None, followed: Default::default(), before }, changes)
    }

    /// Asks for these names from now on, of these servers; none is those of the system. Nothing where that is so
    /// already; else what resolves once each name was answered, or was found not to be.
    pub(super) fn follow(
        &mut self,
        queries: BTreeSet<Query>,
        resolvers: &[SocketAddr],
    ) -> Option<oneshot::Receiver<Arc<Answers>>> {
        let wanted = (queries, resolvers.to_vec());
        if self.followed == wanted || (wanted.0.is_empty() && self.commands.is_none()) {
            return None;
        }
        let (settled, answers) = oneshot::channel();
        let (queries, resolvers) = wanted.clone();
        let command = Command::Follow { queries, resolvers, settled };
        match self.thread().map(|thread| thread.try_send(command)) {
            Ok(Ok(())) => {
                self.followed = wanted;
                Some(answers)
            }
            Ok(Err(_)) => {
                tracing::warn!("the thread for names does not listen");
                None
            }
            Err(error) => {
                tracing::error!(%error, "the thread for names cannot be started");
                None
            }
        }
    }

    /// An endpoint of a name cannot be reached.
    pub(super) fn suspect(&self, query: Query) {
        // When so much is suspected that it does not fit, the name is asked soon anyway.
        drop(self.commands.as_ref().map(|commands| commands.try_send(Command::Suspect(query))));
    }

    fn thread(&mut self) -> io::Result<&mpsc::Sender<Command>> {
        if self.commands.as_ref().is_none_or(mpsc::Sender::is_closed) {
            let (sender, receiver) = mpsc::channel(COMMANDS_MAX);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let (board, answers) = (Arc::clone(&self.board), self.answers.clone());
            let before = std::mem::take(&mut self.before);
            std::thread::Builder::new().name("names".to_owned()).spawn(move || {
                runtime.block_on(Thread::new(board, answers, before).run(receiver));
            })?;
            self.commands = Some(sender);
        }
        self.commands.as_ref().ok_or_else(|| io::Error::other("it has ended"))
    }
}

struct Thread {
    names: Names,
    board: Arc<NameBoard>,
    answers: watch::Sender<Arc<Answers>>,
    servers: Servers,
    /// Who waits until every name was answered.
    waiting: Vec<oneshot::Sender<Arc<Answers>>>,
    publish_at: Option<Instant>,
    /// Answers from before this process, for names that are followed.
    before: Before,
}

impl Thread {
    fn new(board: Arc<NameBoard>, answers: watch::Sender<Arc<Answers>>, before: Before) -> Self {
        Self {
            names: Names::default(),
            board,
            answers,
            servers: Servers::default(),
            waiting: Vec::new(),
            publish_at: None,
            before,
        }
    }

    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut asked: JoinSet<(Query, Result<Answer, String>)> = JoinSet::new();
        loop {
            let now = Instant::now();
            for query in self.names.due(now) {
                let resolver = self.servers.resolver(now);
                asked.spawn(async move {
                    let answer = match resolver {
                        Ok(resolver) => ask(&resolver, &query).await,
                        Err(error) => Err(error),
                    };
                    (query, answer)
                });
            }
            self.settle();
            let next = self.names.next(now).into_iter().chain(self.publish_at).min();
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => return,
                },
                Some(answered) = asked.join_next() => {
                    // What a panic took with it is asked again.
                    if let Ok((query, answer)) = answered {
                        self.learn(&query, answer);
                    }
                }
                () = sleep_until(next.unwrap_or(now)), if next.is_some() => self.publish_if_due(),
            }
        }
    }

    fn obey(&mut self, command: Command) {
        let now = Instant::now();
        match command {
            Command::Follow { queries, resolvers, settled } => {
                self.servers.use_these(resolvers);
                self.names.follow(&queries, now);
                for (query, (known, answered)) in std::mem::take(&mut self.before) {
                    self.names.recall(&query, known, answered);
                }
                self.waiting.push(settled);
                self.board.write(self.names.states());
            }
            Command::Suspect(query) => self.names.suspect(&query, now),
        }
    }

    fn learn(&mut self, query: &Query, answer: Result<Answer, String>) {
        let now = Instant::now();
        let fault =
            |states: &BTreeMap<Query, NameState>| states.get(query).and_then(|state| state.fault.clone());
        let before = fault(&self.names.states());
        if self.names.learn(query, answer, now) {
            self.publish_at.get_or_insert(now + GATHER);
        }
        let states = self.names.states();
        match (before, fault(&states)) {
            (None, Some(fault)) => {
                let kept = states.get(query).map_or(0, |state| state.known.len());
                tracing::warn!(name = %query, kept, "a name has no good answer: {fault}");
            }
            (Some(_), None) => tracing::info!(name = %query, "a name is answered again"),
            _ => {}
        }
        self.board.write(states);
    }

    fn publish_if_due(&mut self) {
        if self.publish_at.is_some_and(|at| at <= Instant::now()) {
            self.publish_at = None;
            self.answers.send_replace(Arc::new(self.names.answers()));
        }
    }

    /// Tells those who wait, once there is something to tell. They take the answers along, so nothing else tells them.
    fn settle(&mut self) {
        if !self.waiting.is_empty() && self.names.is_settled() {
            let answers = Arc::new(self.names.answers());
            for waiting in self.waiting.drain(..) {
                // Whoever waited too long has gone, and hears it as a change.
                drop(waiting.send(Arc::clone(&answers)));
            }
        }
    }
}

/// The servers that are asked.
#[derive(Default)]
struct Servers {
    written: Vec<SocketAddr>,
    resolver: Option<(TokioResolver, Instant)>,
}

impl Servers {
    fn use_these(&mut self, written: Vec<SocketAddr>) {
        if self.written != written {
            *self = Self { written, resolver: None };
        }
    }

    fn resolver(&mut self, now: Instant) -> Result<TokioResolver, String> {
        let is_old =
            |since: Instant| self.written.is_empty() && now.saturating_duration_since(since) > SYSTEM_FILES;
        if let Some((resolver, since)) = &self.resolver
            && !is_old(*since)
        {
            return Ok(resolver.clone());
        }
        let resolver =
            build(&self.written).map_err(|error| format!("the resolver cannot be set up: {error}"))?;
        self.resolver = Some((resolver.clone(), now));
        Ok(resolver)
    }
}

fn build(servers: &[SocketAddr]) -> Result<TokioResolver, NetError> {
    let mut builder = if servers.is_empty() {
        Resolver::builder_tokio()?
    } else {
        let server = |address: &SocketAddr| {
            let at_port = |mut connection: ConnectionConfig| {
                connection.port = address.port();
                connection
            };
            let connections = vec![at_port(ConnectionConfig::udp()), at_port(ConnectionConfig::tcp())];
            NameServerConfig::new(address.ip(), true, connections)
        };
        let config = ResolverConfig::from_name_servers(servers.iter().map(server).collect());
        let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = ResolverOpts::default();
        // Whoever writes servers means those.
        builder.options_mut().use_hosts_file = ResolveHosts::Never;
        builder
    };
    let options = builder.options_mut();
    // How long an answer is good is decided by `names`; what is cached here would be good for longer.
    options.cache_size = 0;
    options.timeout = ATTEMPT;
    options.attempts = ATTEMPTS;
    options.edns0 = true;
    builder.build()
}

async fn ask(resolver: &TokioResolver, query: &Query) -> Result<Answer, String> {
    let asked = async {
        match query {
            Query::Host(name) => Ok(host(resolver, name.as_str()).await),
            Query::Service(name) => service(resolver, name.as_str()).await,
        }
    };
    timeout(WHOLE, asked).await.unwrap_or_else(|_elapsed| Err("no answer in time".to_owned()))
}

/// Both families of a host. One that answers does not wait long for the other: that one counts as failed.
async fn host(resolver: &TokioResolver, name: &str) -> Answer {
    let mut v4 = std::pin::pin!(records(resolver, name, RecordType::A));
    let mut v6 = std::pin::pin!(records(resolver, name, RecordType::AAAA));
    let late = || Err("no answer in time".to_owned());
    let (v4, v6) = tokio::select! {
        v4 = &mut v4 => {
            // A family that failed tells nothing: then the other has all of its time.
            let wait = if v4.is_ok() { OTHER_FAMILY } else { WHOLE };
            (v4, timeout(wait, v6).await.unwrap_or_else(|_elapsed| late()))
        }
        v6 = &mut v6 => {
            // Most hosts have no AAAA records: that alone is no reason to hurry.
            let wait = if v6.as_ref().is_ok_and(|(found, _)| !found.is_empty()) { OTHER_FAMILY } else { WHOLE };
            (timeout(wait, v4).await.unwrap_or_else(|_elapsed| late()), v6)
        }
    };
    let mut ttl = Duration::MAX;
    let mut part = |v6: bool, records: Result<(Vec<RData>, Duration), String>| {
        let found = records.map(|(records, good)| {
            ttl = if records.is_empty() { ttl } else { ttl.min(good) };
            records.iter().filter_map(RData::ip_addr).map(plain).collect()
        });
        Part { source: Source { host: name.into(), v6 }, found }
    };
    let parts = vec![part(false, v4), part(true, v6)];
    Answer { parts, ttl }
}

fn plain(ip: std::net::IpAddr) -> Found {
    Found { priority: 0, ip, port: None, weight: 0 }
}

/// The targets of a service with their addresses. A target of "." says that there is none (RFC 2782).
async fn service(resolver: &TokioResolver, name: &str) -> Result<Answer, String> {
    let (records, mut ttl) = records(resolver, name, RecordType::SRV).await?;
    let targets: Vec<_> = records
        .iter()
        .filter_map(|record| match record {
            RData::SRV(srv) if !srv.target.is_root() => Some(srv.clone()),
            _ => None,
        })
        .take(ADDRESSES_MAX)
        .collect();
    let names: BTreeSet<String> =
        targets.iter().map(|srv| srv.target.to_ascii().to_ascii_lowercase()).collect();
    let mut asked = JoinSet::new();
    let turns = Arc::new(Semaphore::new(TARGETS_AT_ONCE));
    for name in names {
        let (resolver, turns) = (resolver.clone(), Arc::clone(&turns));
        asked.spawn(async move {
            let _turn = turns.acquire().await;
            let answer = host(&resolver, &name).await;
            (name, answer)
        });
    }
    let mut hosts: BTreeMap<String, Answer> = BTreeMap::new();
    while let Some(answered) = asked.join_next().await {
        hosts.extend(answered);
    }
    let mut parts: Vec<Part> = Vec::new();
    for srv in &targets {
        let Some(answer) = hosts.get(&srv.target.to_ascii().to_ascii_lowercase()) else { continue };
        ttl = ttl.min(answer.ttl);
        for part in &answer.parts {
            let record = |found: &Found| Found {
                priority: srv.priority,
                weight: srv.weight,
                port: Some(srv.port).filter(|port| *port != 0),
                ..*found
            };
            let found = part.found.as_ref().map(|all| all.iter().map(record).collect());
            parts.push(Part { source: part.source.clone(), found: found.map_err(Clone::clone) });
        }
    }
    Ok(Answer { parts, ttl })
}

/// The records of one type, and how long they are good. That there are none is an answer; that it is not known is an error.
async fn records(
    resolver: &TokioResolver,
    name: &str,
    of: RecordType,
) -> Result<(Vec<RData>, Duration), String> {
    match resolver.lookup(name, of).await {
        Ok(lookup) => {
            let good = Instant::from_std(lookup.valid_until()).saturating_duration_since(Instant::now());
            let records = lookup.answers().iter().filter(|record| record.record_type() == of);
            Ok((records.map(|record| record.data.clone()).collect(), good))
        }
        Err(error) if error.is_no_records_found() => Ok((Vec::new(), Duration::ZERO)),
        Err(error) => Err(error.to_string()),
    }
}
