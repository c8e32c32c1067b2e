//! The words of one rate limit by their keys: a table of fixed size that all workers change without waiting for each other.
//!
//! A key is 128 bits of a hash whose seed no client knows, so that nobody can make two keys meet. They select a set of
//! places, and one of these. Finding a key and charging it are atomic operations; only one that is new takes a lock, with
//! those new to a 64th of the table. Where a set is full, the key gives way that has the least to lose: in most cases one
//! that has its whole burst again, and is as one that was never seen.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::sync::lock;
use crate::policy::rate_limit::{Decision, Left, RateLimit};

/// Places of a set.
const WAYS: usize = 16;

/// Places for each key that is to be remembered: sets fill unevenly, and with two hardly one key in a thousand finds its own
/// full while the table holds as many as it should.
const ROOM: usize = 2;

/// Locks of keys that are new.
const LOCKS: usize = 64;

/// A key as a table knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// Selects the set.
    high: u64,
    /// Never 0, which marks a place that nobody has.
    low: u64,
}

/// Makes keys of what clients send.
#[derive(Debug, Clone, Default)]
pub struct Seed([RandomState; 2]);

/// A key in the making.
#[derive(Debug)]
pub struct KeyHasher([std::hash::DefaultHasher; 2]);

impl Seed {
    /// A key of no parts yet.
    #[must_use]
    pub fn begin(&self) -> KeyHasher {
        KeyHasher([self.0[0].build_hasher(), self.0[1].build_hasher()])
    }
}

impl KeyHasher {
    /// Adds a part: also where one ends is part of the key.
    pub fn part(&mut self, bytes: &[u8]) {
        for hasher in &mut self.0 {
            hasher.write_usize(bytes.len());
            hasher.write(bytes);
        }
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> Key {
        Key { high: self.0[0].finish(), low: self.0[1].finish().max(1) }
    }
}

/// Words by key.
#[derive(Debug)]
pub struct RateTable {
    sets: Box<[Set]>,
    inserting: Box<[Mutex<()>]>,
    /// Places that are taken; they are only ever taken over.
    taken: AtomicUsize,
    /// Keys that were forgotten before they had their whole burst again.
    evicted: AtomicU64,
    size: usize,
}

/// One key's place but for the half of the key that is searched.
#[derive(Debug, Default)]
struct Rest {
    high: AtomicU64,
    word: AtomicU64,
}

// What is searched lies together: one or two cache lines tell whether a key is here, and one more is its word's.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Set {
    low: [AtomicU64; WAYS],
    rest: [Rest; WAYS],
}

impl Set {
    fn find(&self, key: Key) -> Option<(&AtomicU64, &Rest)> {
        let mut places = self.low.iter().zip(&self.rest);
        places.find(|(low, rest)| {
            low.load(Ordering::Acquire) == key.low && rest.high.load(Ordering::Relaxed) == key.high
        })
    }
}

impl RateTable {
    /// A table for so many keys.
    #[must_use]
    pub fn new(size: usize) -> Self {
        let sets = (size * ROOM).div_ceil(WAYS).max(1);
        Self {
            sets: (0..sets).map(|_| Set::default()).collect(),
            inserting: (0..LOCKS).map(|_| Mutex::default()).collect(),
            taken: AtomicUsize::new(0),
            evicted: AtomicU64::new(0),
            size,
        }
    }

    /// What comes of a request; one that passes is charged.
    #[must_use]
    pub fn charge(&self, limit: &RateLimit, key: Key, now: Duration) -> Decision {
        let (index, set) = self.set(key);
        loop {
            let Some((low, rest)) = set.find(key) else {
                self.insert(index, limit, key, (limit.fresh(now), now));
                continue;
            };
            let word = rest.word.load(Ordering::Acquire);
            // Another key may have taken the place over meanwhile; from here on the word tells by being another.
            if low.load(Ordering::Acquire) != key.low {
                continue;
            }
            let decision = limit.decide(word, now);
            let Decision::Pass { word: next, .. } = decision else { return decision };
            if rest.word.compare_exchange(word, next, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
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
        if let Some((_, rest)) = self.set(key).1.find(key) {
            rest.word.fetch_sub(limit.cost(), Ordering::AcqRel);
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
        for (low, rest) in self.sets.iter().flat_map(|set| set.low.iter().zip(&set.rest)) {
            let (low, high) = (low.load(Ordering::Acquire), rest.high.load(Ordering::Relaxed));
            let word = rest.word.load(Ordering::Acquire);
            if low != 0 && from.weight(word, now) > 0 {
                let (key, word) = (Key { high, low }, from.translate(word, to, now));
                made.insert(made.set(key).0, to, key, (word, now));
            }
        }
        made
    }

    fn word(&self, key: Key) -> Option<u64> {
        let (_, rest) = self.set(key).1.find(key)?;
        Some(rest.word.load(Ordering::Acquire))
    }

    fn set(&self, key: Key) -> (usize, &Set) {
        // Multiply-shift instead of a remainder, so that there may be any number of sets (Lemire 2019).
        let index = ((u128::from(key.high) * self.sets.len() as u128) >> 64) as usize;
        (index, &self.sets[index])
    }

    /// Gives a key a place, unless it has got one meanwhile.
    fn insert(&self, index: usize, limit: &RateLimit, key: Key, (word, now): (u64, Duration)) {
        let _inserting = lock(&self.inserting[index % LOCKS]);
        let set = &self.sets[index];
        if set.find(key).is_some() {
            return;
        }
        let weight = |(low, rest): &(&AtomicU64, &Rest)| match low.load(Ordering::Relaxed) {
            0 => None,
            _ => Some(limit.weight(rest.word.load(Ordering::Relaxed), now)),
        };
        let places = set.low.iter().zip(&set.rest);
        let Some((low, rest)) = places.min_by_key(weight) else { return };
        match weight(&(low, rest)) {
            None => {
                self.taken.fetch_add(1, Ordering::Relaxed);
            }
            Some(0) => {}
            Some(_) => {
                self.evicted.fetch_add(1, Ordering::Relaxed);
            }
        }
        // Whoever still has the key before in hand finds its half gone, or the word another one.
        low.store(0, Ordering::Release);
        rest.word.store(word, Ordering::Release);
        rest.high.store(key.high, Ordering::Relaxed);
        low.store(key.low, Ordering::Release);
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
        for number in 0..1_000 {
            assert_eq!(passed(&table, &limit, key(&seed, number), at(0), 9), 5);
        }
        assert_eq!((table.len(), table.evicted()), (1_000, 0));
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
        assert!(table.len() <= 1_000 * ROOM + WAYS, "{}", table.len());
        assert!(table.evicted() > 0);
        let full = table.evicted();
        // An hour later all have their burst again: whoever comes takes a place that nobody misses.
        for number in 200_000..200_400 {
            assert_eq!(passed(&table, &limit, key(&seed, number), at(3_600_000), 1), 1);
        }
        assert_eq!(table.evicted(), full);
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
