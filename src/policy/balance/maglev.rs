//! Google's Maglev table: a key finds its endpoint with one look, and all endpoints have even shares of the table.

use super::Member;
use super::hash::{hash, pair};
use super::sequence;

/// Sizes of the table, all prime, so that every skip visits every slot. The first leaves each of 655 endpoints a hundred
/// slots, which keeps shares within 1 % (Maglev, NSDI 2016, section 3.4; the largest is Envoy's limit).
const SIZES: [usize; 3] = [65_537, 655_373, 5_000_011];

/// So many slots for each endpoint at least, as long as a table of [`SIZES`] has them.
const SLOTS_PER_MEMBER: usize = 100;

/// A slot that nobody has claimed yet, while the table is filled.
const FREE: u16 = u16::MAX;

/// The problem: as for `ring`, where shares have to be even too. Why this answer: endpoints claim the slots of a table in
/// turn, each in an order of its own, so that shares are those of the weights; a lookup is one look. When wrong: when an
/// endpoint leaves, some keys of others move as well, about as many again as its own; and the table takes 128 KiB a
/// pool, more above 655 endpoints.
///
/// Claims are made in the turns of smooth weighted round robin over the endpoints sorted by identity, so that
/// proxies that list them in another order agree, and a weight of 1 beside one of 1000 costs no passes for nothing.
#[derive(Debug)]
pub(super) struct Maglev {
    owners: Box<[u16]>,
}

impl Maglev {
    pub(super) fn new(members: &[Member<'_>]) -> Self {
        // One index is the mark of a free slot; those beyond get what the owners cannot take.
        let mut members: Vec<(u16, &Member<'_>)> =
            (0..FREE).zip(members).filter(|(_, member)| member.weight > 0).collect();
        members.sort_unstable_by_key(|(index, member)| (member.id, *index));
        let weights: Vec<u16> = members.iter().map(|(_, member)| member.weight).collect();
        let wanted = members.len() * SLOTS_PER_MEMBER;
        let size = SIZES.into_iter().find(|&size| size >= wanted).unwrap_or(SIZES[SIZES.len() - 1]);
        let mut orders: Vec<Order> = members.iter().map(|(_, member)| Order::new(member.id, size)).collect();
        let mut owners = vec![FREE; if members.is_empty() { 0 } else { size }].into_boxed_slice();
        let turns = sequence::turns(&weights);
        for &turn in turns.iter().cycle().take(owners.len()) {
            let turn = turn as usize;
            // There is a free slot: there are no more turns than slots.
            while owners[orders[turn].at] != FREE {
                orders[turn].advance(size);
            }
            owners[orders[turn].at] = members[turn].0;
        }
        Self { owners }
    }

    /// The owner of a key's slot, then of the slots that follow: whose slot is next is as good as chance, so the keys of
    /// one that fails go to all others.
    pub(super) fn walk(&self, key_hash: u64) -> impl Iterator<Item = usize> {
        let start = (u128::from(key_hash) * self.owners.len() as u128) >> 64;
        let (before, after) = self.owners.split_at(usize::try_from(start).unwrap_or(0));
        after.iter().chain(before).map(|&owner| usize::from(owner))
    }
}

/// The order in which an endpoint claims slots: from one of its own, by steps of its own.
struct Order {
    at: usize,
    step: usize,
}

impl Order {
    fn new(id: &str, size: usize) -> Self {
        let id = hash(id.as_bytes());
        let below = |salt, bound: usize| usize::try_from(pair(id, salt) % bound as u64).unwrap_or(0);
        Self { at: below(0, size), step: below(1, size - 1) + 1 }
    }

    fn advance(&mut self, size: usize) {
        self.at += self.step;
        if self.at >= size {
            self.at -= size;
        }
    }
}
