//! A table of clients that all workers share, in shards, so that they seldom meet.

use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use crate::policy::sticky::table::{Entry, Expiry, Table};
use crate::runtime::sync::{Mutex, Ordering, lock};

/// Shards of a large table.
const SHARDS: usize = 64;

/// From how many entries on a table is large: a small one keeps the order of use to the letter.
const LARGE: usize = 4096;

/// Entries whose time is over that every newcomer sweeps, so that they do not pile up.
const SWEPT: usize = 2;

/// The same of each shard when entries are counted.
const COUNTED: usize = 4096;

/// The table. Its size is given with every newcomer, since it may change while entries stay.
#[derive(Debug)]
pub struct Shards {
    shards: Box<[Mutex<Table>]>,
    len: AtomicUsize,
}

impl Shards {
    /// An empty one for so many entries.
    #[must_use]
    pub fn new(size: usize) -> Self {
        let shards = if size < LARGE { 1 } else { SHARDS };
        Self { shards: (0..shards).map(|_| Mutex::new(Table::new())).collect(), len: AtomicUsize::new(0) }
    }

    /// Entries, those included whose time is over and whom nobody has asked for.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The shard of a client: addresses are neighbours, and are spread (`SplitMix64`'s multiplier).
    fn shard_of(&self, client: u128) -> usize {
        let folded = u64::try_from((client >> 64) ^ (client & u128::from(u64::MAX))).unwrap_or(0);
        let spread = folded.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        usize::try_from(spread).unwrap_or(0) % self.shards.len()
    }

    /// Where a client belongs; that it was asked for is its use.
    #[must_use]
    pub fn find(&self, client: u128, expiry: &Expiry, now: Duration) -> Option<Entry> {
        let mut table = lock(self.shards.get(self.shard_of(client))?);
        let before = table.len();
        let found = table.find(client, expiry, now);
        self.len.fetch_sub(before - table.len(), Ordering::Relaxed);
        found
    }

    /// Where a client belongs; nothing is noted.
    #[must_use]
    pub fn peek(&self, client: u128, expiry: &Expiry, now: Duration) -> Option<Entry> {
        lock(self.shards.get(self.shard_of(client))?).peek(client, expiry, now)
    }

    /// Binds a client. With more than `size` entries others give way, the longest unused of its shard first; how many.
    pub fn put(&self, client: u128, entry: Entry, size: usize, expiry: &Expiry) -> usize {
        let own = self.shard_of(client);
        let Some(shard) = self.shards.get(own) else { return 0 };
        {
            let mut table = lock(shard);
            let swept = table.purge(expiry, entry.used, SWEPT);
            self.len.fetch_sub(swept, Ordering::Relaxed);
            if !table.put(client, entry) {
                return 0;
            }
            self.len.fetch_add(1, Ordering::Relaxed);
        }
        let mut evicted = 0;
        while self.len() > size && self.evict(own, client) {
            evicted += 1;
        }
        evicted
    }

    /// Lets one give way that is not `kept`, of the shard at `first` or the next one that has any; whether there was one.
    fn evict(&self, first: usize, kept: u128) -> bool {
        let order = (first..self.shards.len()).chain(0..first);
        order.into_iter().any(|at| {
            let Some(shard) = self.shards.get(at) else { return false };
            let mut table = lock(shard);
            let is_kept = table.iter().next().is_none_or(|(oldest, _)| oldest == kept);
            let evicted = !is_kept && table.evict();
            self.len.fetch_sub(usize::from(evicted), Ordering::Relaxed);
            evicted
        })
    }

    /// Brings it down to so many entries.
    pub(super) fn shrink(&self, size: usize) {
        let mut next = 0;
        while self.len() > size {
            let Some(shard) = self.shards.get(next % self.shards.len()) else { return };
            let evicted = lock(shard).evict();
            self.len.fetch_sub(usize::from(evicted), Ordering::Relaxed);
            next += 1;
        }
    }

    /// Forgets those whose time is over, as many as keep nobody waiting for long; how many entries there are then.
    #[must_use]
    pub fn count(&self, expiry: &Expiry, now: Duration) -> usize {
        for shard in &self.shards {
            let mut table = lock(shard);
            let swept = table.purge(expiry, now, COUNTED);
            self.len.fetch_sub(swept, Ordering::Relaxed);
        }
        self.len()
    }

    /// All entries, for a process that takes over, the longest unused first; where there are more than `most`, those are left
    /// out.
    #[must_use]
    pub fn entries(&self, most: usize) -> Vec<(u128, Entry)> {
        let mut all = Vec::with_capacity(self.len());
        for shard in &self.shards {
            all.extend(lock(shard).iter());
        }
        all.sort_by_key(|(_, entry)| entry.used);
        all.split_off(all.len().saturating_sub(most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::sticky::Failback;

    const EXPIRY: Expiry = Expiry { expire: Duration::from_secs(1800), away: None, failback: Failback::Stay };

    const fn entry(seconds: u64) -> Entry {
        let now = Duration::from_secs(seconds);
        Entry { endpoint: 7, away: false, made: now, used: now }
    }

    #[test]
    fn two_hundred_thousand_clients_have_room_and_the_next_one_takes_one_place() {
        // `stick-table type ip size 200k expire 30m`, whose k is 1024.
        const SIZE: usize = 200 * 1024;
        let table = Shards::new(SIZE);
        let evicted: usize = (0..SIZE as u128).map(|client| table.put(client, entry(0), SIZE, &EXPIRY)).sum();
        assert_eq!((table.len(), evicted), (SIZE, 0));
        assert!(
            (0..SIZE as u128).all(|client| table.peek(client, &EXPIRY, Duration::from_secs(1799)).is_some())
        );
        assert_eq!(table.put(1 << 100, entry(1), SIZE, &EXPIRY), 1);
        assert_eq!(table.len(), SIZE);
        assert!(table.peek(1 << 100, &EXPIRY, Duration::from_secs(1)).is_some(), "never the newcomer");
        assert_eq!(table.count(&EXPIRY, Duration::from_secs(1800)), 1, "all others have had their time");
        assert_eq!(table.count(&EXPIRY, Duration::from_secs(1801)), 0);
    }

    #[test]
    fn a_process_that_takes_over_gets_those_who_came_last() {
        let table = Shards::new(10_000);
        for client in 0..5_000 {
            table.put(client, entry(u64::try_from(client / 10).unwrap_or(0)), 10_000, &EXPIRY);
        }
        let mut handed: Vec<u128> = table.entries(1_000).into_iter().map(|(client, _)| client).collect();
        handed.sort_unstable();
        assert_eq!(handed, (4_000..5_000).collect::<Vec<u128>>());
        assert_eq!(table.entries(usize::MAX).len(), 5_000);
    }

    #[test]
    fn a_small_table_keeps_those_who_came_last() {
        let table = Shards::new(2);
        for (client, at) in [(1, 0), (2, 1)] {
            assert_eq!(table.put(client, entry(at), 2, &EXPIRY), 0);
        }
        assert!(table.find(1, &EXPIRY, Duration::from_secs(2)).is_some());
        assert_eq!(table.put(3, entry(3), 2, &EXPIRY), 1);
        let has = |client| table.peek(client, &EXPIRY, Duration::from_secs(3)).is_some();
        assert_eq!([1, 2, 3].map(has), [true, false, true]);
    }

    #[test]
    fn a_table_that_was_made_smaller_is_smaller_at_once_and_counts_right() {
        let table = Shards::new(10_000);
        for client in 0..10_000 {
            table.put(client, entry(0), 10_000, &EXPIRY);
        }
        table.shrink(100);
        assert_eq!((table.len(), table.entries(usize::MAX).len()), (100, 100));
        assert_eq!(table.entries(10).len(), 10);
        for client in 20_000..30_000 {
            table.put(client, entry(1), 100, &EXPIRY);
        }
        assert_eq!((table.len(), table.entries(usize::MAX).len()), (100, 100));
    }
}
