//! A node for the tests of this floor: one that can be told how its pool is, and that notes what it is asked to change.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::routes::{Asking, Changing, Control, Ending, Explaining, Listing, Reloading};
use crate::config;
use crate::control::change::{Addition, AdminState, ChangeError, EndpointChange, FailoverTarget, Removal};
use crate::control::explain::{Ask, Explanation};
use crate::control::journal::Journal;
use crate::control::overrides::Overrides;
use crate::control::reload::{ReloadError, ReloadOptions, Source};
use crate::control::running::{Fallback, Plan, Provenance, Running};
use crate::control::sessions::Sessions;
use crate::control::status::{
    CeilingStatus, EjectionStatus, EndpointStatus, HeldStatus, LimitsStatus, OverloadStatus, PoolStatus,
    ProbeStatus, QueueStatus, Readiness, Status, WorkerStatus,
};
use crate::model::name::{EndpointName, NameError, PoolName};
use crate::runtime::diff::Diff;
use crate::telemetry::metrics::{PANICS, Sink};

/// An endpoint that is well.
pub(super) fn endpoint(name: &str) -> Result<EndpointStatus, NameError> {
    Ok(EndpointStatus {
        name: EndpointName::new(name)?,
        address: SocketAddr::from(([10, 0, 0, 1], 80)).into(),
        weight: 2,
        effective_weight: 2,
        tier: 1,
        zone: "b".to_owned(),
        usable: true,
        reason: None,
        admin_state: AdminState::Ready,
        probe: ProbeStatus::default(),
        ejection: EjectionStatus::default(),
        breaker: None,
        suppressed_until: None,
        leader: false,
        in_flight: 3,
        ceiling: CeilingStatus { requests: Some(9), connections: None },
        idle_connections: 4,
        requests: 5,
        failures: 6,
    })
}

/// A pool of endpoints with these names, all well.
pub(super) fn pool(name: &str, endpoints: &[&str]) -> Result<PoolStatus, NameError> {
    Ok(PoolStatus {
        name: PoolName::new(name)?,
        queue: QueueStatus { waiting: [1, 2, 4], ..QueueStatus::default() },
        requests: 8,
        retries: 9,
        required: false,
        is_usable: true,
        exclusive: false,
        serving_tier: Some(1),
        fails_open: false,
        failover: None,
        breaker: None,
        endpoints: endpoints.iter().map(|name| endpoint(name)).collect::<Result<_, _>>()?,
        names: Vec::new(),
        endpoints_file: None,
        verify_off: None,
        added: Vec::new(),
        removed: Vec::new(),
        sticky: None,
    })
}

/// The state of a process with these pools.
pub(super) fn status(pools: Vec<PoolStatus>) -> Status {
    Status {
        version: "1.2.3",
        pid: 1,
        old_processes: Vec::new(),
        generation: 4,
        config_hash: u64::MAX,
        started: SystemTime::UNIX_EPOCH,
        draining: false,
        provenance: Provenance::File,
        confirm_until: None,
        overload: OverloadStatus::default(),
        held: HeldStatus::default(),
        leaving: Vec::new(),
        workers: vec![WorkerStatus { connections: 1, handovers: 2 }],
        listeners: Vec::new(),
        pools,
        limits: LimitsStatus::default(),
    }
}

/// A node with one pool; it is neither live nor ready (but for what is local) when the pool has nothing usable.
#[derive(Debug)]
pub(super) struct Node {
    pool: Mutex<PoolStatus>,
    journal: Arc<Journal>,
    /// What it was asked to change.
    pub(super) asked: Mutex<Vec<String>>,
}

impl Node {
    pub(super) fn new() -> Result<Self, NameError> {
        let pool = Mutex::new(pool("api", &["10.0.0.1:80"])?);
        Ok(Self { pool, journal: Arc::default(), asked: Mutex::default() })
    }

    pub(super) fn set_usable(&self, usable: bool) {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        pool.is_usable = usable;
        for endpoint in &mut pool.endpoints {
            endpoint.usable = usable;
        }
    }

    fn pool(&self) -> PoolStatus {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, pool: &PoolName, what: String) -> Changing {
        let known = *pool == self.pool().name;
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(what);
        let result = if known { Ok(()) } else { Err(ChangeError::NoPool(pool.clone())) };
        Box::pin(std::future::ready(result))
    }
}

impl Control for Node {
    fn status(&self) -> Status {
        status(vec![self.pool()])
    }
    fn readiness(&self, local_only: bool) -> Readiness {
        let ready = local_only || self.is_live();
        let reasons = if ready { Vec::new() } else { vec!["pool api has no usable endpoint".to_owned()] };
        Readiness { ready, reasons }
    }
    fn is_live(&self) -> bool {
        self.pool().usable() > 0
    }
    fn collect(&self, sink: &mut dyn Sink) {
        sink.counter(&PANICS, &[], 17);
    }
    fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }
    fn change_endpoint(&self, change: EndpointChange) -> Changing {
        let EndpointChange { pool, endpoint, state, weight, force } = &change;
        let state = state.map_or("-", AdminState::word);
        let weight = weight.map_or_else(|| "-".to_owned(), |weight| weight.get().to_string());
        self.note(pool, format!("{pool}/{endpoint} {state} {weight} {force}"))
    }
    fn add_endpoint(&self, addition: Addition) -> Changing {
        let Addition { pool, name, address, weight, tier, zone } = &addition;
        self.note(pool, format!("{pool} + {name} {address} {} {tier} {zone}", weight.get()))
    }
    fn remove_endpoint(&self, removal: Removal) -> Changing {
        let Removal { pool, endpoint, force } = &removal;
        self.note(pool, format!("{pool} - {endpoint} {force}"))
    }
    fn failover(&self, pool: PoolName, to: FailoverTarget) -> Changing {
        self.note(&pool, format!("{pool} to {to}"))
    }
    fn explain(&self, ask: Ask) -> Explaining {
        let explained =
            if ask.url == "/wrong" { Err("it is wrong".to_owned()) } else { Ok(Explanation::default()) };
        Box::pin(std::future::ready(explained))
    }
    fn sessions(&self, _endpoint: Option<String>) -> Listing {
        Box::pin(std::future::ready(Sessions::default()))
    }
    fn end_session(&self, id: String) -> Ending {
        Box::pin(std::future::ready(id == "0-1"))
    }
    fn reload(&self, source: Source, options: ReloadOptions) -> Reloading {
        let ReloadOptions { force, confirm, .. } = options;
        self.asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(format!("{source:?} {force} {confirm:?}"));
        Box::pin(std::future::ready(Err(ReloadError::NoFile)))
    }
    fn running(&self) -> Running {
        let text = "[listener.web]\nbind = [\"127.0.0.1:80\"]\n";
        let config =
            config::load_text(text, Path::new("sample.toml"), &|_| None).expect("a valid configuration");
        Running {
            config: Arc::new(config),
            provenance: Provenance::LastGood,
            loaded: SystemTime::UNIX_EPOCH,
            generation: 4,
            fallback: Some(Fallback {
                why: "broken".to_owned(),
                diagnostics: None,
                kept: SystemTime::UNIX_EPOCH,
            }),
            confirm_until: Some(SystemTime::UNIX_EPOCH),
            overrides: Overrides::default(),
        }
    }
    fn plan(&self, source: Source) -> Asking<Plan> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(format!("plan {source:?}"));
        let plan = Plan {
            diff: Diff::default(),
            refused: vec!["too little".to_owned()],
            unasked: Vec::new(),
            hash: 1,
        };
        Box::pin(std::future::ready(Ok(plan)))
    }
    fn confirm(&self) -> Asking<u64> {
        Box::pin(std::future::ready(Err(ReloadError::NothingToConfirm)))
    }
}
