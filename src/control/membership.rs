//! The supervisor's hold on who is in its pools: reads files of endpoints, has names asked for, keeps what was added and
//! removed at run time, and writes all of it out for a configuration that is to be compiled.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use serde_json::Value;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::change::{Addition, ChangeError};
use super::dns::{Dns, NameBoard};
use super::members::{Members, Origins, Place};
use super::names::{Answers, NameState, Query};
use super::overrides::{OVERRIDES_MAX, Roster};
use super::state_dir::findings::{Answered, Findings};
use crate::config::Config;
use crate::config::endpoints_file;
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
    /// All that decides it.
    members: Mutex<Arc<Members>>,
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

    /// The configuration with the endpoints that it would have if it ran now, and the names that nobody has an answer of.
    /// Its files of endpoints are read, as far as they can be.
    pub(super) fn foresee<'a>(&self, config: &'a Config) -> (Cow<'a, Config>, Vec<Query>) {
        let known = Arc::clone(&self.members.lock().unwrap_or_else(PoisonError::into_inner));
        let mut members = Members::clone(&known);
        for (path, pool) in Members::named_files(config) {
            if let Ok(endpoints) = endpoints_file::load(path, pool) {
                members.files.insert(path.to_owned(), endpoints.into());
            }
        }
        let unknown = members.queries(config).into_iter();
        let unknown = unknown.filter(|query| !members.answers.contains_key(query)).collect();
        (members.expand(config).0, unknown)
    }

    fn write(&self, members: &Members, pools: HashMap<PoolName, PoolMembers>) {
        *self.pools.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(pools);
        *self.members.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(members.clone());
    }
}

/// Who is in the pools, and whoever is asked about it.
pub(super) struct Membership {
    members: Members,
    /// Of what runs.
    origins: Origins,
    files: BTreeMap<PathBuf, FileState>,
    dns: Dns,
    /// More has been found out than was kept.
    fresh: bool,
    board: Arc<MemberBoard>,
}

impl Membership {
    /// For a process that begins with this configuration, with what the operator had changed of its pools, and with what
    /// was found out before. Files are read now; names are asked for after [`Membership::ask`], and what changes of them comes
    /// by the receiver.
    pub(super) fn new(
        config: &Config,
        roster: Roster,
        findings: Findings,
    ) -> (Self, watch::Receiver<Arc<Answers>>) {
        let board = Arc::<MemberBoard>::default();
        let mut members = Members { roster, ..Members::default() };
        let wanted = members.queries(config);
        let (now, today) = (Instant::now(), SystemTime::now());
        let before = findings.names.into_iter().filter(|(query, _)| wanted.contains(query));
        let before: BTreeMap<_, _> = before
            .map(|(query, (known, answered))| {
                let age = today.duration_since(answered).unwrap_or_default();
                (query, (known, now.checked_sub(age).unwrap_or(now)))
            })
            .collect();
        let addresses = |known: &Answered| known.iter().map(|(found, _)| *found).collect();
        members.answers =
            Arc::new(before.iter().map(|(query, (known, _))| (query.clone(), addresses(known))).collect());
        let (dns, changes) = Dns::new(Arc::clone(&board.names), before);
        let mut membership =
            Self { members, origins: Origins::new(), files: BTreeMap::new(), dns, board, fresh: false };
        membership.recall_files(config, &findings.files);
        membership.read_files(config);
        membership.show(config);
        (membership, changes)
    }

    /// Begins with what files listed before this process. What cannot be understood any more is nothing.
    fn recall_files(&mut self, config: &Config, before: &BTreeMap<PathBuf, (Value, SystemTime)>) {
        for (path, pool) in Members::named_files(config) {
            let Some((listed, read)) = before.get(path) else { continue };
            let Ok(endpoints) = endpoints_file::parse(listed.to_string(), path, pool) else { continue };
            let state = FileState { read: Some(*read), endpoints: endpoints.len(), fault: None };
            self.files.insert(path.to_owned(), state);
            self.members.files.insert(path.to_owned(), endpoints.into());
        }
    }

    /// Whether names or files bring endpoints.
    pub(super) fn finds(&self) -> bool {
        !self.members.answers.is_empty() || !self.members.files.is_empty()
    }

    /// What was found out so far, for a process to come.
    pub(super) fn findings(&self) -> Findings {
        let (now, today) = (Instant::now(), SystemTime::now());
        let names = self.board.names().into_iter().filter_map(|(query, state)| {
            let age = now.saturating_duration_since(state.answered?);
            Some((query, (state.known, today.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH))))
        });
        let files = self.members.files.iter().filter_map(|(path, endpoints)| {
            let read = self.files.get(path)?.read?;
            Some((path.clone(), (endpoints_file::listed(endpoints), read)))
        });
        Findings { names: names.collect(), files: files.collect() }
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
        self.fresh |= changed;
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
        self.fresh |= changed;
        self.members.answers = answers;
        changed
    }

    /// The configuration with exactly those endpoints that can be connected to.
    pub(super) fn expand<'a>(&self, config: &'a Config) -> Cow<'a, Config> {
        self.members.expand(config).0
    }

    /// Notes that this configuration runs now; whether there are findings that have not been kept.
    pub(super) fn runs(&mut self, config: &Config) -> bool {
        // Nobody waits: what names lead to is published when it is known.
        drop(self.ask(config));
        self.origins = self.members.expand(config).1;
        let named: Vec<PathBuf> = Members::named_files(config).into_keys().map(PathBuf::from).collect();
        self.files.retain(|path, _| named.contains(path));
        self.members.files.retain(|path, _| named.contains(path));
        self.show(config);
        std::mem::take(&mut self.fresh)
    }

    /// Lets others see who is in the pools of this configuration, and why.
    fn show(&self, config: &Config) {
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
                added: places(&pool.name, &mut self.members.roster.added.keys()),
                removed: places(&pool.name, &mut self.members.roster.removed.iter()),
            };
            (pool.name.clone(), members)
        });
        let pools = pools.filter(|(_, members)| *members != PoolMembers::default()).collect();
        self.board.write(&self.members, pools);
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
        let undo = Undo(self.members.roster.clone());
        let Addition { pool, name, address, weight, tier, zone } = addition;
        let place = (pool.clone(), name.clone());
        let written =
            config.pools.iter().find(|p| p.name == *pool).ok_or_else(|| ChangeError::NoPool(pool.clone()))?;
        // What was removed comes back as it is written.
        if self.members.roster.removed.remove(&place) {
            let back = self.members.endpoints_of(written);
            if back.iter().any(|e| e.name == *name && e.address == *address) {
                return Ok(undo);
            }
            self.members.roster = undo.0;
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
        self.has_room()?;
        let endpoint = Endpoint::plain(name.clone(), address.clone(), *weight, *tier, zone.clone());
        self.members.roster.added.insert(place, endpoint);
        Ok(undo)
    }

    /// Removes an endpoint, whoever brings it; what was before comes back.
    pub(super) fn remove(&mut self, place: &Place) -> Result<Undo, ChangeError> {
        let undo = Undo(self.members.roster.clone());
        if self.members.roster.added.remove(place).is_none() {
            self.has_room()?;
            self.members.roster.removed.insert(place.clone());
        }
        Ok(undo)
    }

    fn has_room(&self) -> Result<(), ChangeError> {
        if self.members.roster.len() < OVERRIDES_MAX {
            return Ok(());
        }
        let why = format!("{OVERRIDES_MAX} endpoints have been added or removed already");
        Err(ChangeError::Impossible(why))
    }

    /// What the operator has added and removed.
    pub(super) fn roster(&self) -> &Roster {
        &self.members.roster
    }

    /// Forgets what was changed of pools that this configuration does not have.
    pub(super) fn forget_others(&mut self, config: &Config) {
        let pools: HashSet<&PoolName> = config.pools.iter().map(|pool| &pool.name).collect();
        if !self.members.roster.is_empty() {
            self.members.roster.keep_pools(|pool| pools.contains(pool));
        }
    }

    /// Whether an endpoint was added by this name, also where it is a name that stands for none now.
    pub(super) fn was_added(&self, place: &Place) -> bool {
        self.members.roster.added.contains_key(place)
    }

    /// Takes a change back.
    pub(super) fn undo(&mut self, undo: Undo) {
        self.members.roster = undo.0;
    }
}

/// What was added and removed before a change.
pub(super) struct Undo(Roster);
