//! A bounded table of clients and the endpoints they belong to: what is not used for long enough is forgotten, and who has
//! not come for the longest gives way to newcomers.

use std::collections::HashMap;
use std::time::Duration;

use super::Failback;

/// How long an entry holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// Without use.
    pub expire: Duration,
    /// Without use, of a client that is away; nothing is `expire`.
    pub away: Option<Duration>,
    /// When those who are away come home.
    pub failback: Failback,
}

/// Where a client belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// What stands for its endpoint.
    pub endpoint: u64,
    /// Whether it is away: on a backup tier or a failover pool.
    pub away: bool,
    /// When it was bound.
    pub made: Duration,
    /// When it came last.
    pub used: Duration,
}

impl Expiry {
    /// Whether an entry has had its time.
    #[must_use]
    pub fn is_over(&self, entry: &Entry, now: Duration) -> bool {
        let idle = now.saturating_sub(entry.used);
        if !entry.away {
            return idle >= self.expire;
        }
        match self.failback {
            Failback::Stay => idle >= self.expire,
            Failback::Idle => idle >= self.away.unwrap_or(self.expire),
            Failback::Expiry => now.saturating_sub(entry.made) >= self.expire,
        }
    }
}

/// No place.
const NONE: u32 = u32::MAX;

/// The table. Keys are digests, so that long ones take no more room than short ones.
#[derive(Debug)]
pub struct Table {
    places: HashMap<u128, u32>,
    slots: Vec<Slot>,
    /// Slots without an entry.
    free: Vec<u32>,
    /// Used last.
    newest: u32,
    /// Used first.
    oldest: u32,
}

#[derive(Debug)]
struct Slot {
    key: u128,
    entry: Entry,
    newer: u32,
    older: u32,
}

impl Default for Table {
    fn default() -> Self {
        let (places, slots, free) = Default::default();
        Self { places, slots, free, newest: NONE, oldest: NONE }
    }
}

impl Table {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many entries there are, those included whose time is over and whom nobody has asked for.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Where a client belongs; that it was asked for is its use. An entry whose time is over is gone.
    pub fn find(&mut self, key: u128, expiry: &Expiry, now: Duration) -> Option<Entry> {
        let place = *self.places.get(&key)?;
        let entry = &mut self.slots.get_mut(place as usize)?.entry;
        if expiry.is_over(entry, now) {
            self.remove(key);
            return None;
        }
        entry.used = now;
        let found = *entry;
        self.unlink(place);
        self.link(place);
        Some(found)
    }

    /// Where a client belongs; nothing is noted.
    #[must_use]
    pub fn peek(&self, key: u128, expiry: &Expiry, now: Duration) -> Option<Entry> {
        let entry = self.slots.get(*self.places.get(&key)? as usize)?.entry;
        (!expiry.is_over(&entry, now)).then_some(entry)
    }

    /// Binds a client; whether it was not there before.
    pub fn put(&mut self, key: u128, entry: Entry) -> bool {
        if let Some(&place) = self.places.get(&key) {
            if let Some(slot) = self.slots.get_mut(place as usize) {
                slot.entry = entry;
            }
            self.unlink(place);
            self.link(place);
            return false;
        }
        let slot = Slot { key, entry, newer: NONE, older: NONE };
        let place = match self.free.pop() {
            Some(place) => {
                if let Some(known) = self.slots.get_mut(place as usize) {
                    *known = slot;
                }
                place
            }
            None => {
                self.slots.push(slot);
                u32::try_from(self.slots.len() - 1).unwrap_or(NONE)
            }
        };
        self.places.insert(key, place);
        self.link(place);
        true
    }

    /// Forgets a client; whether it was there.
    pub fn remove(&mut self, key: u128) -> bool {
        let Some(place) = self.places.remove(&key) else { return false };
        self.unlink(place);
        self.free.push(place);
        true
    }

    /// Forgets who has not come for the longest; whether there was anybody.
    pub fn evict(&mut self) -> bool {
        let oldest = self.slots.get(self.oldest as usize).map(|slot| slot.key);
        oldest.is_some_and(|key| self.remove(key))
    }

    /// Forgets those of the longest unused, at most `most`, whose time is over; how many.
    pub fn purge(&mut self, expiry: &Expiry, now: Duration, most: usize) -> usize {
        for purged in 0..most {
            let over = self.slots.get(self.oldest as usize).is_some_and(|s| expiry.is_over(&s.entry, now));
            if !(over && self.evict()) {
                return purged;
            }
        }
        most
    }

    /// All entries, the longest unused first.
    pub fn iter(&self) -> impl Iterator<Item = (u128, Entry)> {
        let first = self.slots.get(self.oldest as usize);
        let all = std::iter::successors(first, |slot| self.slots.get(slot.newer as usize));
        all.map(|slot| (slot.key, slot.entry))
    }

    fn unlink(&mut self, place: u32) {
        let Some(&Slot { newer, older, .. }) = self.slots.get(place as usize) else { return };
        match self.slots.get_mut(newer as usize) {
            Some(slot) => slot.older = older,
            None => self.newest = older,
        }
        match self.slots.get_mut(older as usize) {
            Some(slot) => slot.newer = newer,
            None => self.oldest = newer,
        }
    }

    fn link(&mut self, place: u32) {
        let before = std::mem::replace(&mut self.newest, place);
        match self.slots.get_mut(before as usize) {
            Some(slot) => slot.newer = place,
            None => self.oldest = place,
        }
        if let Some(slot) = self.slots.get_mut(place as usize) {
            (slot.newer, slot.older) = (NONE, before);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXPIRY: Expiry = Expiry { expire: Duration::from_secs(1800), away: None, failback: Failback::Stay };

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const fn entry(endpoint: u64, now: Duration) -> Entry {
        Entry { endpoint, away: false, made: now, used: now }
    }

    #[test]
    fn half_an_hour_without_use_ends_an_entry_and_every_use_begins_it_anew() {
        // `stick-table type ip size 200k expire 30m`.
        let mut table = Table::new();
        table.put(1, entry(7, at(0)));
        for now in [1799, 3598, 5397] {
            assert_eq!(
                table.find(1, &EXPIRY, at(now)).map(|e| (e.endpoint, e.made)),
                Some((7, at(0))),
                "{now}"
            );
        }
        assert_eq!(table.peek(1, &EXPIRY, at(5397 + 1800)), None);
        assert_eq!(table.find(1, &EXPIRY, at(5397 + 1800)), None);
        assert!(table.is_empty(), "what is over is gone");
    }

    #[test]
    fn who_has_not_come_for_the_longest_gives_way() {
        let mut table = Table::new();
        for key in 0..4 {
            assert!(table.put(key, entry(9, at(0))));
        }
        table.find(0, &EXPIRY, at(1));
        assert!(!table.put(1, entry(8, at(2))), "it was there");
        let keys: Vec<u128> = std::iter::from_fn(|| {
            let oldest = table.iter().next()?.0;
            table.evict().then_some(oldest)
        })
        .collect();
        assert_eq!(keys, [2, 3, 0, 1]);
        assert!(table.is_empty() && !table.evict());
    }

    #[test]
    fn those_whose_time_is_over_are_swept_from_the_end_and_so_many_at_a_time() {
        let mut table = Table::new();
        for key in 0..5_u8 {
            table.put(key.into(), entry(1, at(key.into())));
        }
        assert_eq!(table.purge(&EXPIRY, at(1799), 9), 0);
        assert_eq!(table.purge(&EXPIRY, at(1802), 2), 2);
        assert_eq!(table.purge(&EXPIRY, at(1802), 9), 1);
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn who_is_away_comes_home_as_told() {
        let over = |failback, away, used: u64, now: u64| {
            let expiry = Expiry { failback, away, ..EXPIRY };
            expiry.is_over(&Entry { endpoint: 1, away: true, made: at(0), used: at(used) }, at(now))
        };
        assert!(!over(Failback::Stay, None, 9_000, 9_001));
        assert!(over(Failback::Expiry, None, 1_799, 1_800) && !over(Failback::Expiry, None, 0, 1_799));
        let short = Some(at(60));
        assert!(over(Failback::Idle, short, 9_000, 9_060) && !over(Failback::Idle, short, 9_000, 9_059));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Put(u8),
        Find(u8),
        Remove(u8),
        Evict,
    }

    proptest! {
        /// Against a list in the order of use.
        #[test]
        fn it_is_a_list_in_the_order_of_use(
            steps in proptest::collection::vec(
                prop_oneof![
                    (0..12_u8).prop_map(Step::Put),
                    (0..12_u8).prop_map(Step::Find),
                    (0..12_u8).prop_map(Step::Remove),
                    Just(Step::Evict),
                ],
                0..200,
            ),
        ) {
            let mut table = Table::new();
            let mut list: Vec<u128> = Vec::new();
            for step in steps {
                match step {
                    Step::Put(key) => {
                        let key = u128::from(key);
                        let known = list.contains(&key);
                        list.retain(|k| *k != key);
                        list.push(key);
                        prop_assert_eq!(table.put(key, entry(1, at(0))), !known);
                    }
                    Step::Find(key) => {
                        let key = u128::from(key);
                        let known = list.contains(&key);
                        if known {
                            list.retain(|k| *k != key);
                            list.push(key);
                        }
                        prop_assert_eq!(table.find(key, &EXPIRY, at(0)).is_some(), known);
                    }
                    Step::Remove(key) => {
                        let key = u128::from(key);
                        prop_assert_eq!(table.remove(key), list.contains(&key));
                        list.retain(|k| *k != key);
                    }
                    Step::Evict => {
                        prop_assert_eq!(table.evict(), !list.is_empty());
                        if !list.is_empty() {
                            list.remove(0);
                        }
                    }
                }
                prop_assert_eq!(table.iter().map(|(key, _)| key).collect::<Vec<_>>(), list.clone());
                prop_assert_eq!(table.len(), list.len());
            }
        }
    }
}
