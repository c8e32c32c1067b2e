//! What is kept, as versioned JSON. What is not understood is an error with its reason, never a guess.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::config::Origin;
use crate::config::pool::Endpoint;
use crate::control::change::AdminState;
use crate::control::overrides::{EndpointOverride, OVERRIDES_MAX, Overrides, Roster};
use crate::model::address::EndpointAddress;
use crate::model::name::{EndpointName, PoolName};
use crate::model::units::Weight;

/// The version of both files; a reader of another one leaves them alone.
const VERSION: u32 = 1;

/// What was read, or why it could not be.
pub(super) type Stored<T> = Result<T, String>;

/// A configuration as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) origin: Origin,
    /// Its main file, whatever the working directory is.
    pub(super) main: PathBuf,
    /// The names of copies of the files that it names.
    pub(super) copies: BTreeMap<PathBuf, String>,
    pub(super) hash: u64,
    pub(super) at: SystemTime,
}

#[derive(Serialize, Deserialize)]
struct ConfigFile {
    version: u32,
    main: PathBuf,
    hash: String,
    /// Seconds since 1970.
    at: u64,
    texts: Vec<Text>,
    environment: BTreeMap<String, String>,
    named: Vec<PathBuf>,
    copies: Vec<Copied>,
}

#[derive(Serialize, Deserialize)]
struct Text {
    path: PathBuf,
    text: String,
}

#[derive(Serialize, Deserialize)]
struct Copied {
    of: PathBuf,
    name: String,
}

#[derive(Serialize, Deserialize)]
struct OverridesFile {
    version: u32,
    endpoints: Vec<OneEndpoint>,
    failovers: BTreeMap<String, String>,
    #[serde(default)]
    added: Vec<OneAdded>,
    #[serde(default)]
    removed: Vec<OneRemoved>,
}

#[derive(Serialize, Deserialize)]
struct OneAdded {
    pool: String,
    endpoint: String,
    address: String,
    weight: u16,
    tier: u8,
    zone: String,
}

#[derive(Serialize, Deserialize)]
struct OneRemoved {
    pool: String,
    endpoint: String,
}

#[derive(Serialize, Deserialize)]
struct OneEndpoint {
    pool: String,
    endpoint: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    admin_state: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weight: Option<u16>,
}

pub(super) fn kept_text(kept: &Kept) -> Vec<u8> {
    let Kept { origin, main, copies, hash, at } = kept;
    let texts = origin.texts.iter().map(|(path, text)| Text { path: path.clone(), text: text.clone() });
    let copies = copies.iter().map(|(of, name)| Copied { of: of.clone(), name: name.clone() });
    text(&ConfigFile {
        version: VERSION,
        main: main.clone(),
        hash: format!("{hash:016x}"),
        at: at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs(),
        texts: texts.collect(),
        environment: origin.environment.clone(),
        named: origin.named.clone(),
        copies: copies.collect(),
    })
}

pub(super) fn kept(bytes: &[u8]) -> Stored<Kept> {
    let file: ConfigFile = parse(bytes)?;
    // A name leads nowhere but into the directory of copies.
    if file.copies.iter().any(|copied| copied.name.contains('/')) {
        return Err("the name of a copy is a path".to_owned());
    }
    let texts = file.texts.into_iter().map(|Text { path, text }| (path, text)).collect();
    Ok(Kept {
        origin: Origin { texts, environment: file.environment, named: file.named, patterns: Vec::new() },
        main: file.main,
        copies: file.copies.into_iter().map(|Copied { of, name }| (of, name)).collect(),
        hash: u64::from_str_radix(&file.hash, 16).map_err(|error| error.to_string())?,
        at: SystemTime::UNIX_EPOCH
            .checked_add(Duration::from_secs(file.at))
            .ok_or("its time is out of range")?,
    })
}

pub(super) fn overrides_text(overrides: &Overrides) -> Vec<u8> {
    let one = |((pool, endpoint), set): (&(PoolName, EndpointName), &EndpointOverride)| OneEndpoint {
        pool: pool.to_string(),
        endpoint: endpoint.to_string(),
        admin_state: set.state.map(|state| state.word().to_owned()),
        weight: set.weight,
    };
    let added = |((pool, endpoint), set): (&(PoolName, EndpointName), &Endpoint)| OneAdded {
        pool: pool.to_string(),
        endpoint: endpoint.to_string(),
        address: set.address.to_string(),
        weight: set.weight.get(),
        tier: set.tier,
        zone: set.zone.clone(),
    };
    let removed = |(pool, endpoint): &(PoolName, EndpointName)| OneRemoved {
        pool: pool.to_string(),
        endpoint: endpoint.to_string(),
    };
    text(&OverridesFile {
        version: VERSION,
        endpoints: overrides.endpoints.iter().map(one).collect(),
        failovers: overrides.failovers.iter().map(|(pool, to)| (pool.to_string(), to.to_string())).collect(),
        added: overrides.roster.added.iter().map(added).collect(),
        removed: overrides.roster.removed.iter().map(removed).collect(),
    })
}

pub(super) fn overrides(bytes: &[u8]) -> Stored<Overrides> {
    let file: OverridesFile = parse(bytes)?;
    let mut overrides = Overrides { roster: roster(file.added, file.removed)?, ..Overrides::default() };
    for one in file.endpoints.into_iter().take(OVERRIDES_MAX) {
        let state = one.admin_state.map(|word| {
            let state = AdminState::ALL.into_iter().find(|state| state.word() == word);
            state.ok_or_else(|| format!("{word:?} is no admin state"))
        });
        let set = EndpointOverride { state: state.transpose()?, weight: one.weight };
        overrides.endpoints.insert(place(&one.pool, &one.endpoint)?, set);
    }
    for (of, to) in file.failovers.iter().take(OVERRIDES_MAX) {
        overrides.failovers.insert(pool(of)?, pool(to)?);
    }
    Ok(overrides)
}

fn roster(added: Vec<OneAdded>, removed: Vec<OneRemoved>) -> Stored<Roster> {
    let mut roster = Roster::default();
    for one in added.into_iter().take(OVERRIDES_MAX) {
        let (pool, name) = place(&one.pool, &one.endpoint)?;
        let address = EndpointAddress::parse(&one.address)
            .map_err(|error| format!("{:?} is no address: {error}", one.address))?;
        let weight = Weight::new(one.weight).ok_or_else(|| format!("{} is no weight", one.weight))?;
        let endpoint = Endpoint::plain(name.clone(), address, weight, one.tier, one.zone);
        roster.added.insert((pool, name), endpoint);
    }
    for one in removed.into_iter().take(OVERRIDES_MAX) {
        roster.removed.insert(place(&one.pool, &one.endpoint)?);
    }
    Ok(roster)
}

fn pool(name: &str) -> Stored<PoolName> {
    PoolName::new(name).map_err(|error| format!("{name:?} is no pool: {error}"))
}

fn place(of: &str, endpoint: &str) -> Stored<(PoolName, EndpointName)> {
    let name =
        EndpointName::new(endpoint).map_err(|error| format!("{endpoint:?} is no endpoint: {error}"))?;
    Ok((pool(of)?, name))
}

fn text(file: &impl Serialize) -> Vec<u8> {
    // Maps with text as keys, lists, text and numbers: nothing of these cannot be written.
    serde_json::to_vec_pretty(file).unwrap_or_default()
}

fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Stored<T> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let Version { version } = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if version != VERSION {
        return Err(format!("its version is {version}, and this program reads {VERSION}"));
    }
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}
