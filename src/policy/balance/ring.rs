//! The ring of nginx's `hash ... consistent`, by pingora-ketama: which endpoint owns a key, and who comes after it.

use std::collections::HashMap;
use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};

use pingora_ketama::{Bucket, Continuum, DEFAULT_POINT_MULTIPLE};

use super::Member;
use super::hash::{hash, mix};

/// The most points of a ring (10 bytes each), so that making one stays under 250 ms; where weights ask for more they are
/// scaled down in proportion. Up to a sum of weights of 13,107 the points are nginx's.
const POINTS_MAX: u64 = 1 << 21;

/// pingora-ketama counts endpoints in 16 bits. Those beyond are on no ring, and get what its endpoints cannot take.
const MEMBERS_MAX: usize = 1 << 16;

/// The problem: a key that should meet the same endpoint again, at every proxy and after endpoints came or went. Why
/// this answer: it is nginx's (160 points per weight, CRC-32), so that moving from nginx, or running beside it, moves no
/// key; and who leaves gives its keys, and only these, to its neighbours on the ring. When wrong: shares differ from the
/// weights by about a tenth (one standard deviation is 1 / sqrt(160 x weight)); `maglev` is even, `rendezvous` moves as
/// little with shares that are exact.
///
/// A point is placed by an address and a port as nginx writes them, so an endpoint that is an IPv4 address has nginx's
/// points. What has no socket address (a host name, a path) is placed by a hash of its text; nginx places IPv6
/// addresses with their brackets, pingora-ketama without.
pub(super) struct Ring {
    continuum: Continuum,
    /// Which endpoint owns each point.
    owners: Box<[u16]>,
}

impl Ring {
    pub(super) fn new(members: &[Member<'_>]) -> Self {
        let sum: u64 = members.iter().map(|m| u64::from(m.weight)).sum();
        let units = POINTS_MAX / u64::from(DEFAULT_POINT_MULTIPLE);
        let scaled = |weight: u16| {
            let weight = u64::from(weight);
            u32::try_from(if sum > units { (weight * units / sum).max(1) } else { weight }).unwrap_or(1)
        };
        let mut indexes = HashMap::new();
        let mut buckets = Vec::new();
        for (index, member) in (0..=u16::MAX).zip(members).filter(|(_, m)| m.weight > 0) {
            let place = place(member.id);
            indexes.entry(place).or_insert(index);
            buckets.push(Bucket::new(place, scaled(member.weight)));
        }
        debug_assert!(buckets.len() <= MEMBERS_MAX);
        let continuum = Continuum::new(&buckets);
        let mut owners = Vec::new();
        let mut at = 0;
        while let Some(owner) = continuum.get_addr(&mut at).and_then(|place| indexes.get(place)) {
            owners.push(*owner);
            if at == 0 {
                break;
            }
        }
        Self { continuum, owners: owners.into() }
    }

    /// The owner of a key, then the owners of the points that follow, round and round; one endpoint may come often.
    pub(super) fn walk(&self, key: &[u8]) -> impl Iterator<Item = usize> {
        let start = self.continuum.node_idx(key).min(self.owners.len());
        let (before, after) = self.owners.split_at(start);
        after.iter().chain(before).map(|&owner| usize::from(owner))
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Ring").field("points", &self.owners.len()).finish_non_exhaustive()
    }
}

/// Where on the ring: what is not a socket address becomes one by its hash.
fn place(id: &str) -> SocketAddr {
    id.parse().unwrap_or_else(|_| {
        let high = hash(id.as_bytes());
        let low = mix(high ^ 0x6b65_7461_6d61);
        SocketAddr::from((Ipv6Addr::from(u128::from(high) << 64 | u128::from(low)), 0))
    })
}
