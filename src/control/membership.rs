//! The supervisor's hold on who is in its pools: reads files of endpoints, has names asked for, keeps what was added and
//! removed at run time, and writes all of it out for a configuration that is to be compiled.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio::sync::{oneshot, watch};

use super::change::{Addition, ChangeError};
use super::dns::{Dns, NameBoard};
use super::members::{ADDED_MAX, Members, Origins, Place};
use super::names::{Answers, NameState, Query};
use crate::config::Config;
use crate::config::endpoints_file;
use crate::config::health::EndpointHealth;
use crate::config::pool::Endpoint;
use crate::model::name::{EndpointName, PoolName};

/// What one file of endpoints has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileState {
    /// When it was last read well; nothing where it never was.
    pub(super) read: Option<SystemTime>,
    /// Endpoints of it in use.
    pub(super) endpoints: usize,
    /// What is wrong with what stands there now.
    pub(super) fault: Option<Arc<str>>,
}

/// What is behind the endpoints of one pool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PoolMembers {
    /// Names that it has endpoints from.
    pub(super) names: Vec<Query>,
    /// Its file of endpoints.
    pub(super) file: Option<(PathBuf, FileState)>,
    /// Endpoints that were added at run time.
    pub(super) added: Vec<EndpointName>,
    /// Endpoints that were removed at run time.
    pub(super) removed: Vec<EndpointName>,
}

/// Who is where and why, for whoever looks.
#[derive(Debug, Default)]
pub(super) struct MemberBoard {
    /// What the names have come to.
    pub(super) names: Arc<NameBoard>,
    pools: Mutex<Arc<HashMap<PoolName, PoolMembers>>>,
}

impl MemberBoard {
    /// What every name has come to.
    pub(super) fn names(&self) -> BTreeMap<Query, NameState> {
        self.names.read()
    }

    /// What is behind the endpoints of every pool that has more than addresses in the configuration.
    pub(super) fn pools(&self) -> Arc<HashMap<PoolName, PoolMembers>> {
        Arc::clone(&self.pools.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self, pools: HashMap<PoolName, PoolMembers>) {
        *self.pools.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(pools);
    }
}

/// Who is in the pools, and whoever is asked about it.
pub(super) struct Membership {
    members: Members,
    /// Of what runs.
    origins: Origins,
    files: BTreeMap<PathBuf, FileState>,
    dns: Dns,
    board: Arc<MemberBoard>,
}

impl Membership {
    /// For a process that begins with this configuration. Files are read now; names are asked for after
    /// [`Membership::ask`], and what changes of them comes by the receiver.
    pub(super) fn new(config: &Config) -> (Self, watch::Receiver<Arc<Answers>>) {
        let board = Arc::<MemberBoard>::default();
        let (dns, changes) = Dns::new(Arc::clone(&board.names));
        let mut membership =
            Self { members: Members::default(), origins: Origins::new(), files: BTreeMap::new(), dns, board };
        membership.read_files(config);
        (membership, changes)
    }

    /// Where it tells what it knows.
    pub(super) fn board(&self) -> Arc<MemberBoard> {
        Arc::clone(&self.board)
    }

    /// Reads the files of endpoints that a configuration names; whether any lists others than before. One that is not
    /// there at first is empty; after that, whatever is wrong with it leaves its last endpoints.
    pub(super) fn read_files(&mut self, config: &Config) -> bool {
        let mut changed = false;
        for (path, pool) in Members::named_files(config) {
            let state = self.files.entry(path.to_owned()).or_insert(FileState {
                read: None,
                endpoints: 0,
                fault: None,
            });
            match endpoints_file::load(path, pool) {
                Ok(endpoints) => {
                    *state =
                        FileState { read: Some(SystemTime::now()), endpoints: endpoints.len(), fault: None };
                    let known = self.members.files.get(path);
                    if known.is_none_or(|known| **known != *endpoints) {
                        self.members.files.insert(path.to_owned(), endpoints.into());
                        changed = true;
                    }
                }
                Err(diagnostics) => {
                    let fault: Arc<str> = diagnostics.to_string().into();
                    if state.fault.as_ref() != Some(&fault) {
                        tracing::warn!(%pool, kept = state.endpoints, "the file of endpoints cannot be used:\n{fault}");
                    }
                    state.fault = Some(fault);
                }
            }
        }
        changed
    }

    /// Lets the names of a configuration be asked for. Where some are new, what comes back resolves once each was answered,
    /// or was found not to be.
    pub(super) fn ask(&mut self, config: &Config) -> Option<oneshot::Receiver<Arc<Answers>>> {
        self.dns.follow(self.members.queries(config), &config.process.resolvers)
    }

    /// The same for a configuration that may run soon; those of the one that `runs` are asked for as well until then.
    pub(super) fn ask_also(
        &mut self,
        config: &Config,
        runs: &Config,
    ) -> Option<oneshot::Receiver<Arc<Answers>>> {
        let mut queries = self.members.queries(config);
        queries.extend(self.members.queries(runs));
        self.dns.follow(queries, &config.process.resolvers)
    }

    /// Takes over what names lead to; whether that is something else than before.
    pub(super) fn take(&mut self, answers: Arc<Answers>) -> bool {
        let changed = self.members.answers != answers;
        self.members.answers = answers;
        changed
    }

    /// The configuration with exactly those endpoints that can be connected to.
    pub(super) fn expand<'a>(&self, config: &'a Config) -> Cow<'a, Config> {
        self.members.expand(config).0
    }

    /// Notes that this configuration runs now.
    pub(super) fn runs(&mut self, config: &Config) {
        // Nobody waits: what names lead to is published when it is known.
        drop(self.ask(config));
        self.origins = self.members.expand(config).1;
        let named: Vec<PathBuf> = Members::named_files(config).into_keys().map(PathBuf::from).collect();
        self.files.retain(|path, _| named.contains(path));
        self.members.files.retain(|path, _| named.contains(path));
        let places = |of: &PoolName, places: &mut dyn Iterator<Item = &Place>| -> Vec<EndpointName> {
            places.filter(|(pool, _)| pool == of).map(|(_, endpoint)| endpoint.clone()).collect()
        };
        let pools = config.pools.iter().map(|pool| {
            let members = PoolMembers {
                names: self.members.queries_of(pool).into_iter().collect(),
                file: pool
                    .endpoints_file
                    .as_ref()
                    .and_then(|path| Some((path.clone(), self.files.get(path)?.clone()))),
                added: places(&pool.name, &mut self.members.added.keys()),
                removed: places(&pool.name, &mut self.members.removed.iter()),
            };
            (pool.name.clone(), members)
        });
        self.board.write(pools.filter(|(_, members)| *members != PoolMembers::default()).collect());
    }

    /// An endpoint cannot be connected to: where a name led to it, the name is asked again.
    pub(super) fn suspect(&self, pool: &PoolName, endpoint: &EndpointName) {
        if self.origins.is_empty() {
            return;
        }
        if let Some(query) = self.origins.get(&(pool.clone(), endpoint.clone())) {
            self.dns.suspect(query.clone());
        }
    }

    /// Adds an endpoint; what was before comes back, for when it cannot be published.
    pub(super) fn add(&mut self, addition: &Addition, config: &Config) -> Result<Undo, ChangeError> {
        let undo = Undo(self.members.added.clone(), self.members.removed.clone());
        let Addition { pool, name, address, weight, tier, zone } = addition;
        let place = (pool.clone(), name.clone());
        let written =
            config.pools.iter().find(|p| p.name == *pool).ok_or_else(|| ChangeError::NoPool(pool.clone()))?;
        // What was removed comes back as it is written.
        if self.members.removed.remove(&place) {
            let back = self.members.endpoints_of(written);
            if back.iter().any(|e| e.name == *name && e.address == *address) {
                return Ok(undo);
            }
            self.members.removed = undo.1;
            return Err(ChangeError::Impossible(format!(
                "\"{name}\" was removed and would come back elsewhere than at {address}"
            )));
        }
        let known = self.members.written(written).any(|e| e.name == *name || e.address == *address)
            || self.members.endpoints_of(written).iter().any(|e| e.name == *name || e.address == *address);
        if known {
            return Err(ChangeError::Impossible(format!(
                "pool \"{pool}\" has \"{name}\" or its address {address} already"
            )));
        }
        if self.members.added.len() >= ADDED_MAX {
            return Err(ChangeError::Impossible(format!("{ADDED_MAX} endpoints have been added already")));
        }
        let endpoint = Endpoint {
            name: name.clone(),
            address: address.clone(),
            weight: *weight,
            tier: *tier,
            max_requests: None,
            zone: zone.clone(),
            health: EndpointHealth::default(),
            host: None,
        };
        self.members.added.insert(place, endpoint);
        Ok(undo)
    }

    /// Removes an endpoint, whoever brings it; what was before comes back.
    pub(super) fn remove(&mut self, place: &Place) -> Undo {
        let undo = Undo(self.members.added.clone(), self.members.removed.clone());
        if self.members.added.remove(place).is_none() {
            self.members.removed.insert(place.clone());
        }
        undo
    }

    /// Whether an endpoint was added by this name, also where it is a name that stands for none now.
    pub(super) fn was_added(&self, place: &Place) -> bool {
        self.members.added.contains_key(place)
    }

    /// Takes a change back.
    pub(super) fn undo(&mut self, undo: Undo) {
        (self.members.added, self.members.removed) = (undo.0, undo.1);
    }
}

/// What was added and removed before a change.
pub(super) struct Undo(BTreeMap<Place, Endpoint>, std::collections::BTreeSet<Place>);
