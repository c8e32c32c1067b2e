//! The warm-up: endpoints that a reload brings are asked before anybody is sent to them, by their own probe or, without
//! one, by a connection to their port.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::probe::{self, Probe, port_accepts};
use super::targets::Watch;
use crate::model::address::Address;
use crate::model::name::{EndpointName, PoolName};
use crate::policy::health::Verdict;
use crate::runtime::snapshot::Snapshot;

/// Questions at once.
const AT_ONCE: usize = 256;

/// How long a port may take to accept, where there is no probe to say so.
const CONNECT: Duration = Duration::from_secs(2);

/// How often a port that does not accept is asked again.
const AGAIN: Duration = Duration::from_millis(500);

/// An endpoint that was not there before, and how it is asked.
#[derive(Debug, Clone)]
pub(in crate::control) struct Newcomer {
    pool: PoolName,
    endpoint: EndpointName,
    question: Question,
    /// Between two questions.
    pause: Duration,
}

#[derive(Debug, Clone)]
enum Question {
    /// Its probe; in an exclusive pool one that stands by is as good as one that leads.
    Probe {
        probe: Arc<Probe>,
        no_is_fine: bool,
    },
    Port(Address, Option<IpAddr>),
}

/// What came of it for one endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::control) struct Warm {
    /// It may be sent traffic, as far as it can be known.
    pub(in crate::control) good: bool,
    /// Its probe said so, which counts as its first result.
    pub(in crate::control) proven: bool,
    /// The last answer, in words.
    pub(in crate::control) what: String,
}

/// What came of it for all.
#[derive(Debug, Clone, Default)]
pub(in crate::control) struct Warmth(HashMap<PoolName, HashMap<EndpointName, Warm>>);

impl Warmth {
    /// What is known of an endpoint; nothing of one that is not new.
    pub(in crate::control) fn of(&self, pool: &PoolName, endpoint: &EndpointName) -> Option<&Warm> {
        self.0.get(pool)?.get(endpoint)
    }

    /// Those that are not good, in words.
    pub(in crate::control) fn cold(&self) -> Vec<String> {
        let all = self.0.iter().flat_map(|(pool, endpoints)| endpoints.iter().map(move |e| (pool, e)));
        let mut cold: Vec<String> = (all.filter(|(_, (_, warm))| !warm.good))
            .map(|(pool, (endpoint, warm))| {
                format!("endpoint {pool}/{endpoint} is not usable yet: {}", warm.what)
            })
            .collect();
        cold.sort();
        cold
    }
}

/// The endpoints of `next` that `previous` does not have. `watches` are those of `next`.
pub(in crate::control) fn newcomers(
    previous: &Snapshot,
    next: &Snapshot,
    watches: &[Watch],
) -> Vec<Newcomer> {
    let known: std::collections::HashSet<u32> =
        previous.pools.iter().flat_map(|pool| &pool.endpoints).map(|e| e.live.slot()).collect();
    let probes: HashMap<(usize, usize), &Watch> =
        watches.iter().map(|watch| ((watch.pool, watch.endpoint), watch)).collect();
    let mut newcomers = Vec::new();
    for (place, pool) in next.pools.iter().enumerate() {
        for (index, endpoint) in pool.endpoints.iter().enumerate() {
            if known.contains(&endpoint.live.slot()) {
                continue;
            }
            let probe = probes.get(&(place, index));
            if probe.is_none() && pool.datagrams {
                // Nothing but its own traffic tells whether it takes datagrams.
                continue;
            }
            let (question, pause) = match probe {
                Some(watch) => {
                    let probe = Arc::clone(&watch.probe);
                    (Question::Probe { probe, no_is_fine: pool.exclusive }, watch.settings.fast_interval)
                }
                None => (Question::Port(endpoint.socket(), pool.source.own()), AGAIN),
            };
            newcomers.push(Newcomer {
                pool: pool.name.clone(),
                endpoint: endpoint.name.clone(),
                question,
                pause,
            });
        }
    }
    newcomers
}

/// Asks each until it is good, for `limit` at most. To be run within a `LocalSet`; dropping it ends all questions.
pub(super) async fn warm_up(newcomers: Vec<Newcomer>, limit: Duration) -> Warmth {
    let deadline = Instant::now() + limit;
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut asked = JoinSet::new();
    for newcomer in newcomers {
        let places = Arc::clone(&places);
        asked.spawn_local(async move {
            let warm = newcomer.warm_up(&places, deadline).await;
            ((newcomer.pool, newcomer.endpoint), warm)
        });
    }
    let mut warmth = Warmth::default();
    for ((pool, endpoint), warm) in asked.join_all().await {
        warmth.0.entry(pool).or_default().insert(endpoint, warm);
    }
    warmth
}

impl Newcomer {
    async fn warm_up(&self, places: &Semaphore, deadline: Instant) -> Warm {
        let mut last = Warm { good: false, proven: false, what: "it has not answered".to_owned() };
        let asking = async {
            loop {
                // The semaphore is never closed.
                let place = places.acquire().await;
                last = self.ask().await;
                drop(place);
                if last.good {
                    return;
                }
                sleep(self.pause).await;
            }
        };
        // What was heard last stands.
        timeout_at(deadline, asking).await.ok();
        last
    }

    async fn ask(&self) -> Warm {
        match &self.question {
            Question::Probe { probe, no_is_fine } => {
                let outcome = probe::run(probe).await;
                let proven = outcome.verdict == Verdict::Good;
                let good = proven || (*no_is_fine && outcome.verdict == Verdict::SaysNo);
                Warm { good, proven, what: outcome.evidence.what }
            }
            Question::Port(address, source) => {
                let accepts = port_accepts(*address, *source, CONNECT).await;
                let good = accepts == Some(true);
                let what = if good { "its port accepts" } else { "its port does not accept" };
                Warm { good, proven: false, what: what.to_owned() }
            }
        }
    }
}
