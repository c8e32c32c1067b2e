//! What a pool is sticky by, as one snapshot has it: keys, and what stands for which endpoint in cookies and tables.
//! `shards` is the table itself, which outlives snapshots.

pub mod shards;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};

use super::endpoint::Endpoint;
use super::pool::{HashKey, Pool};
use crate::policy::sticky::cookie::{Keys, Opened};
use crate::policy::sticky::fields::Attributes;
use crate::policy::sticky::table::{Entry, Expiry};
use crate::policy::sticky::{Binding, Lifetime, WhenDown};
use shards::Shards;

/// Bytes of a secret of our own.
pub const SECRET: usize = 32;

/// The secret of a process: what signs cookies of pools without a file of keys, and what makes digests of clients that
/// nobody else can make.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret([u8; SECRET]);

impl fmt::Debug for Secret {
    // It stays out of it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Secret").finish_non_exhaustive()
    }
}

impl From<[u8; SECRET]> for Secret {
    fn from(bytes: [u8; SECRET]) -> Self {
        Self(bytes)
    }
}

impl Secret {
    /// A new one. Where the system has no randomness, which is before it has booted, it is none that is guessed more easily
    /// than this process's addresses.
    #[must_use]
    pub fn random() -> Self {
        let mut bytes = [0; SECRET];
        if aws_lc_rs::rand::fill(&mut bytes).is_err() {
            bytes.fill_with(|| fastrand::u8(..));
        }
        Self(bytes)
    }

    /// Its bytes, for a process that takes over.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; SECRET] {
        &self.0
    }

    /// Another one, for something else: neither tells of the other.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> [u8; SECRET] {
        let mut digest = Context::new(&SHA256);
        digest.update(b"plimsoll derived secret\0");
        digest.update(&self.0);
        digest.update(purpose.as_bytes());
        digest.finish().as_ref().first_chunk().copied().unwrap_or(self.0)
    }
}

/// What a pool is sticky by.
#[derive(Debug)]
pub struct Sticky {
    /// By what clients are known.
    pub by: By,
    /// What becomes of a client whose endpoint cannot be used.
    pub when_down: WhenDown,
}

/// By what clients are known.
#[derive(Debug)]
pub enum By {
    /// By what they carry.
    Cookie(Box<Jar>),
    /// By what is known of them here.
    Table(Box<Known>),
}

/// What signs and reads the cookies of a pool.
#[derive(Debug)]
pub struct Jar {
    /// The cookie's name and all that is said of it.
    pub attributes: Attributes,
    /// For how long it counts.
    pub lifetime: Lifetime,
    keys: Arc<Keys>,
    /// What stands for endpoints under each key.
    places: Box<[Places]>,
}

/// The table of a pool, and what is looked up in it.
#[derive(Debug)]
pub struct Known {
    /// The part of a request.
    pub key: HashKey,
    /// How long an entry holds.
    pub expiry: Expiry,
    /// How many there may be.
    pub size: usize,
    /// Whether entries come from what endpoints set in that cookie.
    pub learn: bool,
    /// The entries.
    pub table: Arc<Shards>,
    places: Places,
    secret: Secret,
}

/// What stands for the endpoints of a pool and of those that it fails over to, sorted.
#[derive(Debug, Default)]
struct Places(Box<[(u64, Place)]>);

/// An endpoint, by the indexes of its pool in the snapshot and of itself in the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pool: u32,
    endpoint: u32,
}

impl Places {
    fn new(pools: &[Pool], chain: &[usize], tag: impl Fn(&Pool, &Endpoint) -> u64) -> Self {
        let mut places = Vec::new();
        for &at in chain {
            let Some(pool) = pools.get(at) else { continue };
            for (place, endpoint) in pool.endpoints.iter().enumerate() {
                let index = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
                places.push((tag(pool, endpoint), Place { pool: index(at), endpoint: index(place) }));
            }
        }
        places.sort_by_key(|(tag, _)| *tag);
        Self(places.into())
    }

    fn find(&self, tag: u64) -> Option<Place> {
        let at = self.0.binary_search_by_key(&tag, |(tag, _)| *tag).ok()?;
        self.0.get(at).map(|(_, place)| *place)
    }
}

impl Place {
    /// The pool and the endpoint, among the pools of the snapshot that this is of.
    #[must_use]
    pub fn of(self, pools: &[Pool]) -> Option<(&Pool, &Endpoint)> {
        let pool = pools.get(self.pool as usize)?;
        Some((pool, pool.endpoints.get(self.endpoint as usize)?))
    }
}

/// What stands for an endpoint in tables: the same in every process (FNV-1a).
fn name_of(pool: &str, endpoint: &str) -> u64 {
    let bytes = pool.bytes().chain([0]).chain(endpoint.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

impl Jar {
    /// For a pool of this name: `keys` are its own.
    pub(super) fn new(attributes: Attributes, lifetime: Lifetime, keys: Arc<Keys>) -> Self {
        Self { attributes, lifetime, keys, places: Box::default() }
    }

    fn settle(&mut self, pools: &[Pool], chain: &[usize]) {
        let keys = &self.keys;
        let under = |key| {
            Places::new(pools, chain, |pool, endpoint| {
                keys.tag(key, pool.name.as_str(), endpoint.name.as_str())
            })
        };
        self.places = (0..keys.len()).map(under).collect();
    }

    /// Its keys.
    #[must_use]
    pub const fn keys(&self) -> &Arc<Keys> {
        &self.keys
    }

    /// What a value of the cookie says, and where its endpoint is, if it is still there.
    #[must_use]
    pub fn open(&self, value: &[u8]) -> Option<(Opened, Option<Place>)> {
        let opened = self.keys.open(value)?;
        Some((opened, self.places.get(opened.key)?.find(opened.tag)))
    }

    /// `Set-Cookie` for a client that belongs to an endpoint; nothing where there is no key.
    #[must_use]
    pub fn set_cookie(
        &self,
        pool: &Pool,
        endpoint: &Endpoint,
        binding: &Binding,
        tls: bool,
    ) -> Option<Vec<u8>> {
        let tag = self.keys.tag(0, pool.name.as_str(), endpoint.name.as_str());
        Some(self.attributes.set_cookie(&self.keys.seal(tag, binding)?, tls))
    }
}

impl Known {
    /// The digest of a client's address.
    #[must_use]
    pub fn of_source(source: IpAddr) -> u128 {
        match source.to_canonical() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            IpAddr::V6(v6) => v6.to_bits(),
        }
    }

    /// The digest of what a client sends.
    #[must_use]
    pub fn digest(&self, value: &[u8]) -> u128 {
        let mut digest = Context::new(&SHA256);
        digest.update(self.secret.bytes());
        digest.update(value);
        digest.finish().as_ref().first_chunk().map_or(0, |first| u128::from_be_bytes(*first))
    }

    /// Where a client belongs, if its endpoint is still there. That it was asked for is its use.
    #[must_use]
    pub fn find(&self, client: u128, now: Duration) -> Option<(Entry, Option<Place>)> {
        let entry = self.table.find(client, &self.expiry, now)?;
        Some((entry, self.places.find(entry.endpoint)))
    }

    /// The same, for somebody who only wants to know.
    #[must_use]
    pub fn peek(&self, client: u128, now: Duration) -> Option<(Entry, Option<Place>)> {
        let entry = self.table.peek(client, &self.expiry, now)?;
        Some((entry, self.places.find(entry.endpoint)))
    }

    /// Binds a client to an endpoint; how many others have given way.
    pub fn bind(
        &self,
        client: u128,
        (pool, endpoint): (&Pool, &Endpoint),
        away: bool,
        now: Duration,
    ) -> usize {
        let endpoint = name_of(pool.name.as_str(), endpoint.name.as_str());
        let entry = Entry { endpoint, away, made: now, used: now };
        self.table.put(client, entry, self.size, &self.expiry)
    }
}

impl Sticky {
    /// By a table. It goes on with what `before` knows, where that is of the same clients.
    pub(super) fn by_table(
        (key, learn): (HashKey, bool),
        (size, expiry): (usize, Expiry),
        when_down: WhenDown,
        (before, secret): (Option<&Self>, Secret),
    ) -> Self {
        let before = before.and_then(|before| match &before.by {
            By::Table(known) if known.key == key && known.learn == learn => Some(&known.table),
            By::Table(_) | By::Cookie(_) => None,
        });
        let table = before.map_or_else(|| Arc::new(Shards::new(size)), Arc::clone);
        let places = Places::default();
        Self { by: By::Table(Box::new(Known { key, expiry, size, learn, table, places, secret })), when_down }
    }

    /// Notes where endpoints are, once all pools are there.
    pub(super) fn settle(&mut self, pools: &[Pool], chain: &[usize]) {
        match &mut self.by {
            By::Cookie(jar) => jar.settle(pools, chain),
            By::Table(known) => {
                known.places = Places::new(pools, chain, |pool, endpoint| {
                    name_of(pool.name.as_str(), endpoint.name.as_str())
                });
            }
        }
    }

    /// Brings live state into line once the snapshot is published: a table that was made smaller is.
    pub(super) fn publish(&self) {
        if let By::Table(known) = &self.by {
            known.table.shrink(known.size);
        }
    }

    /// The cookie, where it is by one.
    #[must_use]
    pub fn jar(&self) -> Option<&Jar> {
        match &self.by {
            By::Cookie(jar) => Some(jar),
            By::Table(_) => None,
        }
    }
}

/// Whether an endpoint is a backup: of a further tier than the first of its pool.
#[must_use]
pub fn is_backup(pool: &Pool, endpoint: &Endpoint) -> bool {
    pool.endpoints.first().is_some_and(|first| first.tier != endpoint.tier)
}
