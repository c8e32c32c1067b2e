//! The words of one rate limit by their keys: a table of fixed size that all workers change without waiting for each other.
//!
//! A key is a hash of 64 bits whose seed no client knows, so that nobody can make two keys meet, and by chance two of a
//! million do once in thirty million tables (n^2 / 2^65, the birthday bound). It selects a set of places and is compared
//! there. In most cases one cache line has all of it that a request needs. Finding a key and charging it are atomic
//! operations; only one that is new takes a lock, with those new to a 64th of the table. Where a set is full, the key gives
//! way that has the least to lose: in most cases one that has its whole burst again, and is as one that was never seen.

use std::fmt;
use std::hash::{BuildHasher as _, DefaultHasher, Hasher as _, RandomState};
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::sync::{Mutex, lock};
use crate::policy::rate_limit::{Decision, Left, RateLimit};

/// Places of a cache line.
const PLACES: usize = 4;

/// Lines of a set.
const LINES: usize = 8;

/// Places for each key that is to be remembered: sets fill unevenly, and with two only one or two keys in a hundred
/// thousand find their own full while the table holds as many as it should.
const ROOM: usize = 2;

/// What stands for the key of a place while another one takes it over. Unlike 0 it does not say that the place is free.
const CHANGING: u64 = u64::MAX;

/// Locks of keys that are new.
const LOCKS: usize = 64;

/// A key as a table knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key(
    /// Never 0, which marks a place that nobody has, nor `CHANGING`.
    NonZeroU64,
);

/// Makes keys of what clients send.
#[derive(Clone)]
pub struct Seed(DefaultHasher);

/// A key in the making.
#[derive(Debug)]
pub struct KeyHasher(DefaultHasher);

impl fmt::Debug for Seed {
    // It stays out of it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Seed").finish_non_exhaustive()
    }
}

impl Default for Seed {
    /// One that no other process has.
    fn default() -> Self {
        Self(RandomState::new().build_hasher())
    }
}

impl Seed {
    /// That of a secret: the same in every process that has it.
    #[must_use]
    pub fn of(secret: &[u8; 32]) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write(secret);
        Self(hasher)
    }

    /// A key of no parts yet.
    #[must_use]
    pub fn begin(&self) -> KeyHasher {
        KeyHasher(self.0.clone())
    }

    /// By what two of them are told apart, also where the hash itself is another one.
    #[must_use]
    pub fn mark(&self) -> u64 {
        let mut hasher = self.begin();
        hasher.part(b"mark");
        hasher.key().0.get()
    }
}

impl KeyHasher {
    /// Adds a part: also where one ends is part of the key.
    pub fn part(&mut self, bytes: &[u8]) {
        self.0.write_usize(bytes.len());
        self.0.write(bytes);
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> Key {
        Key(NonZeroU64::new(self.0.finish()).filter(|hash| hash.get() != CHANGING).unwrap_or(NonZeroU64::MIN))
    }
}

/// Words by key.
#[derive(Debug)]
pub struct RateTable {
    /// The sets, one after the other.
    lines: Box<[Line]>,
    inserting: Box<[Mutex<()>]>,
    /// Places that are taken; they are only ever taken over.
    taken: AtomicUsize,
    /// Keys that were forgotten before they had their whole burst again.
    evicted: AtomicU64,
    size: usize,
}

/// One key.
#[derive(Debug, Default)]
struct Place {
    /// The key; 0 is nobody's, and never again once it is somebody's.
    key: AtomicU64,
    word: AtomicU64,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Line([Place; PLACES]);

/// Where a key is to be found: a set, and the line of it to begin with, which is where most keys are.
#[derive(Debug, Clone, Copy)]
struct Home {
    set: usize,
    line: usize,
}

impl Home {
    /// The lines of the set, from its own on.
    fn lines(self) -> impl Iterator<Item = usize> {
        (0..LINES).map(move |step| self.set * LINES + (self.line + step) % LINES)
    }
}

impl RateTable {
    /// A table for so many keys.
    #[must_use]
    pub fn new(size: usize) -> Self {
        let lines = (size * ROOM).div_ceil(LINES * PLACES).max(1) * LINES;
        Self {
            lines: (0..lines).map(|_| Line::default()).collect(),
            inserting: (0..LOCKS).map(|_| Mutex::new(())).collect(),
            taken: AtomicUsize::new(0),
            evicted: AtomicU64::new(0),
            size,
        }
    }

    /// What comes of a request; one that passes is charged.
    #[must_use]
    pub fn charge(&self, limit: &RateLimit, key: Key, now: Duration) -> Decision {
        loop {
            let Some(place) = self.find(key) else {
                self.insert(limit, key, (limit.fresh(now), now));
                continue;
            };
            let word = place.word.load(Ordering::Acquire);
            // Another key may have taken the place over meanwhile; from here on the word tells by being another.
            if place.key.load(Ordering::Acquire) != key.0.get() {
                continue;
            }
            let decision = limit.decide(word, now);
            let Decision::Pass { word: next, .. } = decision else { return decision };
            if place.word.compare_exchange(word, next, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return decision;
            }
        }
    }

    /// What would come of a request; nothing is charged, and a key that is new stays unknown.
    #[must_use]
    pub fn look(&self, limit: &RateLimit, key: Key, now: Duration) -> Decision {
        limit.decide(self.word(key).unwrap_or_else(|| limit.fresh(now)), now)
    }

    /// What is left to a key.
    #[must_use]
    pub fn left(&self, limit: &RateLimit, key: Key, now: Duration) -> Left {
        limit.left(self.word(key).unwrap_or_else(|| limit.fresh(now)), now)
    }

    /// Takes back a charge, of a request that another limit has stopped.
    pub fn refund(&self, limit: &RateLimit, key: Key) {
        if let Some(place) = self.find(key) {
            place.word.fetch_sub(limit.cost(), Ordering::AcqRel);
        }
    }

    /// Keys that are remembered, also those that have their whole burst again.
    #[must_use]
    pub fn len(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Whether no key is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keys that the table was made for.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }

    /// Keys that were forgotten before they had their whole burst again.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    /// A table of another size or for another rate, with what this one knows of keys that are not as if never seen. What
    /// is charged here meanwhile is not known there.
    #[must_use]
    pub fn remade(&self, size: usize, from: &RateLimit, to: &RateLimit, now: Duration) -> Self {
        let made = Self::new(size);
        made.evicted.store(self.evicted(), Ordering::Relaxed);
        made.adopt(self.entries(from, now), (from, to), now);
        made
    }

    /// Each key that is not as if never seen, and its word.
    pub fn entries(&self, limit: &RateLimit, now: Duration) -> impl Iterator<Item = [u64; 2]> {
        let places = self.lines.iter().flat_map(|line| &line.0);
        places.filter_map(move |place| {
            let (key, word) = (place.key.load(Ordering::Acquire), place.word.load(Ordering::Acquire));
            (!matches!(key, 0 | CHANGING) && limit.weight(word, now) > 0).then_some([key, word])
        })
    }

    /// Goes on with what another table knows whose keys are made by the same seed, and whose words have the rate of `from`.
    pub fn adopt(
        &self,
        entries: impl IntoIterator<Item = [u64; 2]>,
        (from, to): (&RateLimit, &RateLimit),
        now: Duration,
    ) {
        for [key, word] in entries {
            if let Some(key) = NonZeroU64::new(key).filter(|key| key.get() != CHANGING) {
                self.insert(to, Key(key), (from.translate(word, to, now), now));
            }
        }
    }

    fn word(&self, key: Key) -> Option<u64> {
        Some(self.find(key)?.word.load(Ordering::Acquire))
    }

    fn find(&self, key: Key) -> Option<&Place> {
        for line in self.home(key).lines() {
            let mut room = false;
            for place in &self.lines[line].0 {
                let found = place.key.load(Ordering::Acquire);
                if found == key.0.get() {
                    return Some(place);
                }
                room |= found == 0;
            }
            // It would have been put here before any line behind.
            if room {
                return None;
            }
        }
        None
    }

    fn home(&self, key: Key) -> Home {
        // Multiply-shift instead of a remainder, so that there may be any number of sets (Lemire 2019); what it does not
        // use are the lowest bits.
        let sets = (self.lines.len() / LINES) as u128;
        let set = ((u128::from(key.0.get()) * sets) >> 64) as usize;
        Home { set, line: key.0.get() as usize % LINES }
    }

    /// Gives a key the first place that is free, or else that of the key with the least to lose, unless it has got one
    /// meanwhile.
    fn insert(&self, limit: &RateLimit, key: Key, (word, now): (u64, Duration)) {
        let home = self.home(key);
        let _inserting = lock(&self.inserting[home.set % LOCKS]);
        if self.find(key).is_some() {
            return;
        }
        let weight = |&(line, at): &(usize, usize)| {
            let place = &self.lines[line].0[at];
            match place.key.load(Ordering::Relaxed) {
                0 => None,
                _ => Some(limit.weight(place.word.load(Ordering::Relaxed), now)),
            }
        };
        let places = || home.lines().flat_map(|line| (0..PLACES).map(move |at| (line, at)));
        let free = places().find(|place| weight(place).is_none());
        let Some((line, at)) = free.or_else(|| places().min_by_key(weight)) else { return };
        match weight(&(line, at)) {
            None => {
                self.taken.fetch_add(1, Ordering::Relaxed);
            }
            Some(0) => {}
            Some(_) => {
                self.evicted.fetch_add(1, Ordering::Relaxed);
            }
        }
        // Whoever still has the key before in hand finds it gone, or the word another one.
        let place = &self.lines[line].0[at];
        place.key.store(CHANGING, Ordering::Release);
        place.word.store(word, Ordering::Release);
        place.key.store(key.0.get(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::units::Rate;

    fn limit(rate: &str, burst: u32) -> RateLimit {
        RateLimit::new(Rate::parse(rate).expect("it is a rate"), burst, None)
    }

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn key(seed: &Seed, number: u64) -> Key {
        let mut hasher = seed.begin();
        hasher.part(&number.to_be_bytes());
        hasher.key()
    }

    fn passed(table: &RateTable, limit: &RateLimit, key: Key, now: Duration, requests: usize) -> usize {
        (0..requests).filter(|_| matches!(table.charge(limit, key, now), Decision::Pass { .. })).count()
    }

    #[test]
    fn each_key_has_a_burst_of_its_own() {
        let (table, seed, limit) = (RateTable::new(1_000), Seed::default(), limit("10/s", 4));
        for number in 0..500 {
            assert_eq!(passed(&table, &limit, key(&seed, number), at(0), 9), 5);
        }
        assert_eq!((table.len(), table.evicted()), (500, 0));
        assert_eq!(passed(&table, &limit, key(&seed, 7), at(100), 9), 1, "a tenth of a second later");
        let cut = |parts: [&[u8]; 2]| {
            let mut hasher = seed.begin();
            parts.into_iter().for_each(|part| hasher.part(part));
            hasher.key()
        };
        assert_ne!(cut([b"ab", b"c"]), cut([b"a", b"bc"]));
    }

    #[test]
    fn threads_that_charge_one_key_together_get_its_burst_and_no_more() {
        let (table, seed, limit) = (RateTable::new(64), Seed::default(), limit("1/h", 10_000));
        let key = key(&seed, 1);
        let sum: usize = std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| scope.spawn(|| passed(&table, &limit, key, at(1), 4_000)));
            threads.into_iter().map(|thread| thread.join().expect("it does not panic")).sum()
        });
        assert_eq!(sum, 10_001);
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn a_flood_of_new_keys_takes_the_places_of_those_with_the_least_to_lose() {
        let (table, seed, limit) = (RateTable::new(1_000), Seed::default(), limit("1/m", 9));
        let spent = key(&seed, 0);
        assert_eq!(passed(&table, &limit, spent, at(0), 20), 10);
        for number in 1..100_000 {
            assert_eq!(passed(&table, &limit, key(&seed, number), at(1), 1), 1);
        }
        assert_eq!(passed(&table, &limit, spent, at(2), 1), 0, "who has spent the most stays");
        assert!(table.len() <= 1_000 * ROOM + LINES * PLACES, "{}", table.len());
        assert!(table.evicted() > 0);
        let full = table.evicted();
        // An hour later all have their burst again: whoever comes takes a place that nobody misses.
        for number in 200_000..200_400 {
            assert_eq!(passed(&table, &limit, key(&seed, number), at(3_600_000), 1), 1);
        }
        assert_eq!(table.evicted(), full);
    }

    #[test]
    fn a_table_remembers_as_many_keys_as_it_was_made_for() {
        let (table, seed, limit) = (RateTable::new(50_000), Seed::of(&[7; 32]), limit("1/h", 0));
        for number in 0..50_000 {
            assert_eq!(passed(&table, &limit, key(&seed, number), at(0), 1), 1);
        }
        let forgotten =
            (0..50_000).filter(|number| passed(&table, &limit, key(&seed, *number), at(1), 1) == 1);
        assert!(forgotten.count() <= 5, "{} were evicted", table.evicted());
    }

    #[test]
    fn looking_and_what_is_taken_back_charge_nothing() {
        let (table, seed, limit) = (RateTable::new(16), Seed::default(), limit("1/s", 0));
        let key = key(&seed, 1);
        for _ in 0..3 {
            assert!(matches!(table.look(&limit, key, at(0)), Decision::Pass { .. }));
        }
        assert!(table.is_empty());
        assert_eq!(passed(&table, &limit, key, at(0), 3), 1);
        assert_eq!(table.left(&limit, key, at(0)).requests, 0);
        table.refund(&limit, key);
        assert_eq!(passed(&table, &limit, key, at(0), 3), 1);
    }

    #[test]
    fn another_size_or_rate_keeps_what_is_known_of_keys() {
        let (table, seed, slow) = (RateTable::new(100), Seed::default(), limit("1/s", 9));
        for number in 0..50 {
            assert_eq!(passed(&table, &slow, key(&seed, number), at(0), 20), 10);
        }
        let fast = limit("2/s", 19);
        let remade = table.remade(3_000, &slow, &fast, at(0));
        assert_eq!((remade.len(), remade.size()), (50, 3_000));
        for number in 0..50 {
            assert_eq!(passed(&remade, &fast, key(&seed, number), at(0), 5), 0, "its ten seconds stay");
            assert_eq!(passed(&remade, &fast, key(&seed, number), at(500), 5), 1);
        }
        assert!(table.remade(100, &slow, &slow, at(3_600_000)).is_empty(), "nothing is left to remember");
    }
}
