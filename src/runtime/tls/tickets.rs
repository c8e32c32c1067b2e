//! Session tickets (RFC 5077, RFC 8446 section 4.6.1): sealed by keys that this process makes and renews, or that a file
//! gives to several nodes. Reading the file is `config`'s.
//!
//! A ticket is good only where the same is asked of clients: the keys that seal it are derived from the secret and from
//! what the listener asks, so that a session of somebody who showed no certificate opens nothing that wants one.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use rustls::server::ProducesTickets;

/// How long a ticket can be used (RFC 8446 section 4.6.1 allows a week; what is stolen should be worth less).
const LIFETIME: Duration = Duration::from_secs(12 * 3600);

/// How long a secret of our own makes tickets. Well within 2^32 tickets, which random nonces allow (NIST SP 800-38D).
const TURN: Duration = Duration::from_secs(6 * 3600);

/// Bytes that name a key in a ticket.
const ID: usize = 16;

/// Bytes of a secret of our own.
pub const SECRET: usize = 32;

/// The secrets that this process makes for itself, one after the other. Shared by all listeners and kept over reloads.
pub struct Ring(RwLock<Secrets>);

#[derive(Clone)]
struct Secrets {
    /// Changes with every new secret.
    version: u64,
    /// The newest first.
    all: Vec<(SystemTime, [u8; SECRET])>,
}

impl Default for Ring {
    fn default() -> Self {
        Self(RwLock::new(Secrets { version: 0, all: Vec::new() }))
    }
}

impl fmt::Debug for Ring {
    // Secrets stay out of it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Ring").finish_non_exhaustive()
    }
}

impl Ring {
    /// The version of the secrets as they are at `now`: a new one takes its turn when the last has had its time.
    fn version(&self, now: SystemTime) -> u64 {
        let is_due = |secrets: &Secrets| match secrets.all.first() {
            Some((made, _)) => now.duration_since(*made).is_ok_and(|age| age >= TURN),
            None => true,
        };
        {
            let secrets = self.0.read().unwrap_or_else(PoisonError::into_inner);
            if !is_due(&secrets) {
                return secrets.version;
            }
        }
        let mut secrets = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let mut secret = [0; SECRET];
        if is_due(&secrets) && aws_lc_rs::rand::fill(&mut secret).is_ok() {
            secrets.version += 1;
            secrets.all.insert(0, (now, secret));
            secrets.all.retain(|(made, _)| now.duration_since(*made).is_ok_and(|age| age < TURN + LIFETIME));
        }
        secrets.version
    }

    /// The secrets with when each was made, for a process that takes over: the newest first.
    #[must_use]
    pub fn secrets(&self) -> Vec<(SystemTime, [u8; SECRET])> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).all.clone()
    }

    /// Goes on with the secrets of another process.
    pub fn adopt(&self, secrets: impl Iterator<Item = (SystemTime, [u8; SECRET])>) {
        let mut own = self.0.write().unwrap_or_else(PoisonError::into_inner);
        own.all.extend(secrets);
        own.all.sort_by_key(|(made, _)| std::cmp::Reverse(*made));
        own.version += 1;
    }

    fn keys(&self, context: &[u8]) -> (u64, Vec<Key>) {
        let secrets = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let keys = secrets.all.iter().filter_map(|(_, secret)| Key::derive(secret, context));
        (secrets.version, keys.collect())
    }
}

/// Makes and opens the tickets of connections of which the same is asked.
pub struct Tickets {
    /// What is asked of clients, as a digest.
    context: Vec<u8>,
    keys: Keys,
}

enum Keys {
    /// Of a file.
    Given(Vec<Key>),
    /// Of the process, as they were when its secrets had this version.
    Own { ring: Arc<Ring>, derived: RwLock<(u64, Vec<Key>)> },
}

/// What seals tickets.
struct Key {
    id: [u8; ID],
    seal: RandomizedNonceKey,
}

impl fmt::Debug for Tickets {
    // Keys stay out of it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Tickets").finish_non_exhaustive()
    }
}

/// So many bytes, for HKDF.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl Key {
    /// By HKDF (RFC 5869) from a secret and what is asked of clients. Nothing only where the library fails.
    fn derive(secret: &[u8], context: &[u8]) -> Option<Self> {
        let root = Salt::new(HKDF_SHA256, b"plimsoll session tickets").extract(secret);
        let (mut id, mut key) = ([0; ID], [0; 32]);
        root.expand(&[b"id", context], Length(ID)).ok()?.fill(&mut id).ok()?;
        root.expand(&[b"key", context], Length(key.len())).ok()?.fill(&mut key).ok()?;
        Some(Self { id, seal: RandomizedNonceKey::new(&AES_256_GCM, &key).ok()? })
    }

    /// `id | nonce | sealed (time | session)`; the id is authenticated too.
    fn seal(&self, session: &[u8], now: SystemTime) -> Option<Vec<u8>> {
        let mut sealed = Vec::with_capacity(8 + session.len() + 16);
        sealed.extend_from_slice(&seconds(now).to_be_bytes());
        sealed.extend_from_slice(session);
        let nonce = self.seal.seal_in_place_append_tag(Aad::from(&self.id), &mut sealed).ok()?;
        Some([&self.id[..], nonce.as_ref(), &sealed].concat())
    }

    fn open(&self, ticket: &[u8], now: SystemTime) -> Option<Vec<u8>> {
        let (nonce, sealed) = ticket.get(ID..)?.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut sealed = sealed.to_vec();
        let opened = self.seal.open_in_place(nonce, Aad::from(&self.id), &mut sealed).ok()?;
        let (made, session) = opened.split_first_chunk::<8>()?;
        let age = seconds(now).saturating_sub(u64::from_be_bytes(*made));
        (age < LIFETIME.as_secs()).then(|| session.to_vec())
    }
}

impl Tickets {
    /// By secrets of a file; `context` is what is asked of clients.
    #[must_use]
    pub fn given(secrets: &[Vec<u8>], context: &[u8]) -> Self {
        let keys = secrets.iter().filter_map(|secret| Key::derive(secret, context)).collect();
        Self { context: context.to_vec(), keys: Keys::Given(keys) }
    }

    /// By the secrets of the process.
    #[must_use]
    pub fn own(ring: Arc<Ring>, context: &[u8]) -> Self {
        Self { context: context.to_vec(), keys: Keys::Own { ring, derived: RwLock::default() } }
    }

    fn with_keys<T>(&self, now: SystemTime, run: impl FnOnce(&[Key]) -> Option<T>) -> Option<T> {
        let (ring, derived) = match &self.keys {
            Keys::Given(keys) => return run(keys),
            Keys::Own { ring, derived } => (ring, derived),
        };
        let version = ring.version(now);
        {
            let derived = derived.read().unwrap_or_else(PoisonError::into_inner);
            if derived.0 == version {
                return run(&derived.1);
            }
        }
        let mut derived = derived.write().unwrap_or_else(PoisonError::into_inner);
        *derived = ring.keys(&self.context);
        run(&derived.1)
    }

    fn seal(&self, session: &[u8], now: SystemTime) -> Option<Vec<u8>> {
        self.with_keys(now, |keys| keys.first()?.seal(session, now))
    }

    fn open(&self, ticket: &[u8], now: SystemTime) -> Option<Vec<u8>> {
        let id = ticket.get(..ID)?;
        self.with_keys(now, |keys| keys.iter().find(|key| key.id == *id)?.open(ticket, now))
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(LIFETIME.as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(plain, SystemTime::now())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.open(cipher, SystemTime::now())
    }
}

fn seconds(now: SystemTime) -> u64 {
    now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn start() -> SystemTime {
        SystemTime::UNIX_EPOCH + HOUR * 500_000
    }

    #[test]
    fn a_ticket_of_our_own_is_good_for_its_lifetime_and_no_longer() {
        let tickets = Tickets::own(Arc::default(), b"");
        // Made when its key was about to give way to the next.
        tickets.seal(b"first", start()).expect("a ticket");
        let made = start() + HOUR * 5;
        let ticket = tickets.seal(b"session", made).expect("a ticket");
        for hours in [0, 6, 11] {
            let now = made + HOUR * hours;
            assert_eq!(tickets.open(&ticket, now).as_deref(), Some(&b"session"[..]), "{hours}");
            tickets.seal(b"another", now).expect("a ticket");
        }
        assert_eq!(tickets.open(&ticket, made + HOUR * 12), None);
        assert_eq!(tickets.open(&ticket, made + HOUR * 100), None);
    }

    #[test]
    fn nodes_with_the_same_file_open_each_others_tickets() {
        let (old, new) = (vec![b'o'; 32], vec![b'n'; 32]);
        let before = Tickets::given(std::slice::from_ref(&old), b"");
        let told = Tickets::given(&[old.clone(), new.clone()], b"");
        let turned = Tickets::given(&[new.clone(), old], b"");
        let after = Tickets::given(&[new], b"");
        let ticket = before.seal(b"session", start()).expect("a ticket");
        assert!(told.open(&ticket, start()).is_some() && turned.open(&ticket, start()).is_some());
        assert_eq!(after.open(&ticket, start()), None);
        let ticket = turned.seal(b"session", start()).expect("a ticket");
        assert!(told.open(&ticket, start()).is_some() && after.open(&ticket, start()).is_some());
        assert_eq!(before.open(&ticket, start()), None);
    }

    #[test]
    fn a_ticket_opens_nothing_that_asks_clients_for_something_else() {
        let ring = Arc::<Ring>::default();
        let open = Tickets::own(Arc::clone(&ring), b"");
        let guarded = Tickets::own(ring, b"ca");
        let ticket = open.seal(b"session", start()).expect("a ticket");
        assert_eq!(guarded.open(&ticket, start()), None);
        let secrets = [vec![b's'; 32]];
        let ticket = Tickets::given(&secrets, b"").seal(b"session", start()).expect("a ticket");
        assert_eq!(Tickets::given(&secrets, b"ca").open(&ticket, start()), None);
    }

    #[test]
    fn what_is_no_ticket_of_ours_is_nothing() {
        let tickets = Tickets::own(Arc::default(), b"");
        let mut ticket = tickets.seal(b"session", start()).expect("a ticket");
        for length in 0..ticket.len() {
            assert_eq!(tickets.open(&ticket[..length], start()), None, "{length}");
        }
        for at in 0..ticket.len() {
            ticket[at] ^= 1;
            assert_eq!(tickets.open(&ticket, start()), None, "{at}");
            ticket[at] ^= 1;
        }
    }
}
