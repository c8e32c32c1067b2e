//! Tunnels and tcp sessions as the operator sees them: listed, ended one by one, and counted where they still hold what
//! does not run any more.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::Handle;
use super::status::{HeldStatus, LeavingStatus};
use super::supervisor::Command;
use crate::model::address::UNIX_CLIENT;
use crate::model::name::{EndpointName, PoolName};
use crate::proxy::sessions::Listed;
use crate::runtime::endpoint::EndpointLive;
use crate::runtime::snapshot::{Edition, Snapshot};

/// Sessions in one list; the rest is counted.
pub const LISTED_MAX: usize = 1000;

/// How long workers may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// One tunnel or tcp session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// What it is called, for as long as it lives.
    pub id: String,
    /// The other end.
    pub client: String,
    /// Its listener's name.
    pub listener: String,
    /// The pool and endpoint that it leads to; nothing where nobody knows it any more.
    pub endpoint: Option<(PoolName, EndpointName)>,
    /// The snapshot that it began with.
    pub generation: u64,
    /// How old it is.
    pub age: Duration,
}

/// Sessions, and how many more there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sessions {
    /// The oldest first.
    pub sessions: Vec<Session>,
    /// Those that are not listed.
    pub left_out: usize,
}

/// What does not run any more and may still be held.
#[derive(Debug, Default)]
pub(super) struct Former(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    editions: Vec<Arc<Edition>>,
    endpoints: Vec<(PoolName, EndpointName, Arc<EndpointLive>)>,
}

impl Former {
    /// Notes what a snapshot that is replaced leaves behind: itself, and the endpoints that are gone.
    pub(super) fn note(&self, previous: &Snapshot, is_gone: impl Fn(u32) -> bool) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.prune();
        state.editions.push(Arc::clone(&previous.edition));
        for pool in &previous.pools {
            let gone = pool.endpoints.iter().filter(|e| is_gone(e.live.slot()));
            state.endpoints.extend(gone.map(|e| (pool.name.clone(), e.name.clone(), Arc::clone(&e.live))));
        }
    }

    /// Sessions of snapshots that do not run any more.
    pub(super) fn held(&self) -> HeldStatus {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.prune();
        let counts = state.editions.iter().map(|edition| (edition.generation, sessions_of(edition)));
        let held: Vec<(u64, u64)> = counts.filter(|(_, sessions)| *sessions > 0).collect();
        HeldStatus {
            generations: held.len() as u64,
            oldest: held.iter().map(|(generation, _)| *generation).min(),
            sessions: held.iter().map(|(_, sessions)| sessions).sum(),
        }
    }

    /// Endpoints that are gone and still have work in flight.
    pub(super) fn leaving(&self) -> Vec<LeavingStatus> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.prune();
        let leaving = |(pool, endpoint, live): &(PoolName, EndpointName, Arc<EndpointLive>)| LeavingStatus {
            pool: pool.clone(),
            endpoint: endpoint.clone(),
            in_flight: u64::from(live.in_flight()),
        };
        state.endpoints.iter().map(leaving).collect()
    }

    fn endpoints(&self) -> Vec<(u32, PoolName, EndpointName)> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.endpoints.iter().map(|(pool, name, live)| (live.slot(), pool.clone(), name.clone())).collect()
    }
}

impl State {
    /// A session enters its edition a moment after it has begun, so what nobody else knows is what goes.
    fn prune(&mut self) {
        self.editions.retain(|edition| Arc::strong_count(edition) > 1);
        self.endpoints.retain(|(_, _, live)| live.in_flight() > 0);
    }
}

fn sessions_of(edition: &Edition) -> u64 {
    edition.sessions.sum(|counter| counter)
}

impl Handle {
    /// Tunnels and tcp sessions; those of one endpoint where it is named, as `POOL/ENDPOINT` or by its name alone.
    pub async fn sessions(&self, endpoint: Option<&str>) -> Sessions {
        let snapshot = self.0.store.load();
        let runs = snapshot.pools.iter().flat_map(|pool| {
            pool.endpoints.iter().map(|e| (e.live.slot(), pool.name.clone(), e.name.clone()))
        });
        let known: Vec<_> = runs.chain(self.0.former.endpoints()).collect();
        let asked = |(_, pool, name): &&(u32, PoolName, EndpointName)| {
            endpoint.is_none_or(|asked| {
                name.as_str() == asked || asked.split_once('/') == Some((pool.as_str(), name.as_str()))
            })
        };
        let slots: Option<Arc<[u32]>> =
            endpoint.map(|_| known.iter().filter(asked).map(|(slot, _, _)| *slot).collect());
        let (answers, lists): (Vec<_>, Vec<_>) = (0..self.0.workers).map(|_| oneshot::channel()).unzip();
        // Where the supervisor is gone, nobody answers.
        drop(self.0.commands.send(Command::ListSessions { slots, answers }).await);
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let (mut listed, mut count) = (Vec::new(), 0);
        for list in lists {
            if let Ok(Ok((sessions, all))) = timeout_at(deadline, list).await {
                listed.extend(sessions);
                count += all;
            }
        }
        listed.sort_by_key(|one: &Listed| std::cmp::Reverse(one.age));
        listed.truncate(LISTED_MAX);
        let names = |slot: u32| known.iter().find(|(known, _, _)| *known == slot);
        let session = |one: &Listed| Session {
            id: format!("{}-{}", one.worker, one.number),
            client: match one.client {
                UNIX_CLIENT => "unix:".to_owned(),
                client => client.to_string(),
            },
            listener: snapshot.listeners.name(one.listener).map(ToString::to_string).unwrap_or_default(),
            endpoint: names(one.slot).map(|(_, pool, name)| (pool.clone(), name.clone())),
            generation: one.generation,
            age: one.age,
        };
        Sessions { left_out: count - listed.len(), sessions: listed.iter().map(session).collect() }
    }

    /// Ends a tunnel or tcp session; whether there was one of this id.
    pub async fn end_session(&self, id: &str) -> bool {
        let parsed = id
            .split_once('-')
            .and_then(|(worker, number)| Some((worker.parse::<usize>().ok()?, number.parse::<u32>().ok()?)));
        let Some((worker, number)) = parsed else { return false };
        let (answer, ended) = oneshot::channel();
        drop(self.0.commands.send(Command::EndSession { worker, number, answer }).await);
        matches!(timeout_at(Instant::now() + ANSWER_TIMEOUT, ended).await, Ok(Ok(true)))
    }
}
