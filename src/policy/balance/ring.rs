//! The ring of nginx's `hash ... consistent`: which endpoint owns a key, and who comes after it. Our own and not
//! pingora-ketama's, which knows nothing but socket addresses, writes IPv6 ones without nginx's brackets, and finds a key
//! by a search over all points, of which there are hundreds of thousands in a large pool.

use crc32fast::Hasher;

use super::Member;

/// Points of a weight of 1 (nginx, as `Cache::Memcached::Fast`).
const POINTS_PER_WEIGHT: u64 = 160;

/// The most points of a ring (8 bytes each), so that making one stays under 250 ms; where weights ask for more, everyone
/// gets fewer in proportion, and nobody none. Up to a sum of weights of 13,107 the points are nginx's.
const POINTS_MAX: u64 = 1 << 21;

/// So many points on average lie between two entries of the index: what one cache line holds.
const POINTS_PER_ENTRY: usize = 8;

/// The problem: a key that should meet the same endpoint again, at every proxy and after endpoints came or went. Why
/// this answer: it is nginx's (160 points per weight, CRC-32), so that moving from nginx, or running beside it, moves no
/// key; and who leaves gives its keys, and only these, to its neighbours on the ring. When wrong: shares differ from the
/// weights by about a tenth (one standard deviation is 1 / sqrt(160 x weight)); `maglev` is even, `rendezvous` moves as
/// little with shares that are exact.
///
/// A point is placed by the text of an endpoint's address as nginx has it from its `server` line: `10.0.0.1:80`,
/// `[2001:db8::1]:80`, `app.internal:80`, `unix:/run/app.sock`. Of points at one place the endpoint's that is listed first
/// counts, as in nginx.
pub(super) struct Ring {
    /// By their hashes, no hash twice.
    points: Box<[Point]>,
    /// For each value of the topmost bits of a hash, the first point that has these bits or higher ones. CRC-32 spreads
    /// the points evenly, so the point that a key looks for is a few further on: a pick reads two places of memory and
    /// no more, however large the ring is.
    index: Box<[u32]>,
    /// How far a hash is shifted to be a place in the index.
    shift: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Point {
    hash: u32,
    owner: u32,
}

impl Ring {
    pub(super) fn new(members: &[Member<'_>]) -> Self {
        let wanted: u64 = members.iter().map(|m| u64::from(m.weight) * POINTS_PER_WEIGHT).sum();
        let count = |weight: u16| {
            let points = u64::from(weight) * POINTS_PER_WEIGHT;
            if wanted > POINTS_MAX { (points * POINTS_MAX / wanted).max(1) } else { points }
        };
        let mut points = Vec::new();
        for (owner, member) in (0u32..).zip(members).filter(|(_, member)| member.weight > 0) {
            points.extend(hashes(member.id, count(member.weight)).map(|hash| Point { hash, owner }));
        }
        // By hash, then by owner: the first of equals is listed first.
        points.sort_unstable_by_key(|point| u64::from(point.hash) << 32 | u64::from(point.owner));
        points.dedup_by_key(|point| point.hash);
        let bits = (points.len() / POINTS_PER_ENTRY).max(1).ilog2();
        let shift = u32::BITS - bits;
        let mut index = Vec::with_capacity(1 << bits);
        let mut at = 0;
        for entry in 0..1usize << bits {
            while points.get(at).is_some_and(|point| place(point.hash, shift) < entry) {
                at += 1;
            }
            index.push(u32::try_from(at).unwrap_or(u32::MAX));
        }
        Self { points: points.into(), index: index.into(), shift }
    }

    /// The owner of a key, then the owners of the points that follow, round and round; one endpoint may come often.
    pub(super) fn walk(&self, key: &[u8]) -> impl Iterator<Item = usize> {
        let hash = crc32fast::hash(key);
        let from = self.index.get(place(hash, self.shift)).map_or(0, |&from| from as usize);
        let near = self.points.get(from..).unwrap_or_default();
        let start = from + near.iter().take_while(|point| point.hash < hash).count();
        let (before, after) = self.points.split_at(start.min(self.points.len()));
        after.iter().chain(before).map(|point| point.owner as usize)
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Ring").field("points", &self.points.len()).finish_non_exhaustive()
    }
}

/// The topmost bits of a hash.
fn place(hash: u32, shift: u32) -> usize {
    usize::try_from(u64::from(hash) >> shift).unwrap_or(0)
}

/// The points of one endpoint: each is the CRC-32 of host, a zero, port, and the point before (0 at first) with its lowest
/// byte in front (`ngx_http_upstream_update_chash`).
fn hashes(id: &str, count: u64) -> impl Iterator<Item = u32> {
    let (host, port) = host_and_port(id);
    let mut base = Hasher::new();
    base.update(host.as_bytes());
    base.update(&[0]);
    base.update(port.as_bytes());
    let mut hash = 0u32;
    (0..count).map(move |_| {
        let mut next = base.clone();
        next.update(&hash.to_le_bytes());
        hash = next.finalize();
        hash
    })
}

/// What nginx takes for host and port: digits behind the last colon are a port; a path has none.
fn host_and_port(id: &str) -> (&str, &str) {
    if id.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("unix:")) {
        return (&id[5..], "");
    }
    match id.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, port),
        _ => (id, ""),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::SocketAddr;

    use pingora_ketama::{Bucket, Continuum};
    use proptest::prelude::*;

    use super::*;

    fn ring(ids: &[String], weights: &[u16]) -> Ring {
        let members: Vec<Member<'_>> =
            ids.iter().zip(weights).map(|(id, &weight)| Member { weight, id }).collect();
        Ring::new(&members)
    }

    #[test]
    fn host_and_port_are_told_apart_as_nginx_does() {
        for (id, host, port) in [
            ("10.0.0.1:80", "10.0.0.1", "80"),
            ("[2001:db8::1]:80", "[2001:db8::1]", "80"),
            ("[2001:db8::1]", "[2001:db8::1]", ""),
            ("app.internal:8080", "app.internal", "8080"),
            ("app.internal", "app.internal", ""),
            ("app.internal:", "app.internal", ""),
            ("unix:/run/app.sock", "/run/app.sock", ""),
            ("UNIX:/run/app:80", "/run/app:80", ""),
        ] {
            assert_eq!(host_and_port(id), (host, port), "{id}");
        }
    }

    /// By Python's `zlib.crc32` over what nginx's source says.
    #[test]
    fn points_are_those_of_nginx() {
        for (id, points) in VECTORS {
            assert!(hashes(id, 3).eq(points), "{id}: {:x?}", hashes(id, 3).collect::<Vec<_>>());
        }
    }

    #[test]
    fn of_points_at_one_place_the_first_listed_counts() {
        let ids = ["10.0.0.1:80", "10.0.0.1:80"].map(str::to_owned);
        let ring = ring(&ids, &[1, 2]);
        assert_eq!(ring.points.len(), 320);
        assert_eq!(ring.points.iter().filter(|point| point.owner == 0).count(), 160);
    }

    #[test]
    fn however_large_the_weights_the_ring_has_its_limit_and_nobody_is_lost() {
        let ids: Vec<String> = (0..200).map(|i| format!("10.0.0.{i}:80")).collect();
        let mut weights = vec![u16::MAX; 200];
        weights[7] = 1;
        let ring = ring(&ids, &weights);
        assert!(ring.points.len() as u64 <= POINTS_MAX + 200, "{}", ring.points.len());
        assert!(ring.points.iter().any(|point| point.owner == 7));
    }

    #[test]
    fn nobody_owns_the_keys_of_an_empty_ring() {
        assert_eq!(ring(&[], &[]).walk(b"key").next(), None);
        assert_eq!(ring(&["10.0.0.1:80".to_owned()], &[0]).walk(b"key").next(), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn for_ipv4_it_is_the_ring_of_pingora_ketama(
            endpoints in prop::collection::btree_map(any::<(u32, u16)>(), 1..6u16, 1..10),
            keys in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..30), 100),
        ) {
            let addresses: Vec<SocketAddr> =
                endpoints.keys().map(|(ip, port)| SocketAddr::from((ip.to_be_bytes(), *port))).collect();
            let weights: Vec<u16> = endpoints.values().copied().collect();
            let buckets: Vec<Bucket> =
                addresses.iter().zip(&weights).map(|(a, &weight)| Bucket::new(*a, weight.into())).collect();
            let theirs = Continuum::new(&buckets);
            let ids: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            // Who owns a point that two have is left to chance there: their sort is not stable.
            let all = || ids.iter().zip(&weights).flat_map(|(id, weight)| hashes(id, u64::from(*weight) * 160));
            prop_assume!(all().collect::<HashSet<_>>().len() == all().count());
            let ours = ring(&ids, &weights);
            for key in keys {
                let walk = theirs.node_iter(&key).take(20).copied();
                prop_assert!(ours.walk(&key).take(20).map(|owner| addresses[owner]).eq(walk));
            }
        }

        #[test]
        fn the_index_finds_what_a_search_finds(count in 1..200usize, key: [u8; 8]) {
            let ids: Vec<String> = (0..count).map(|i| format!("app-{i}.internal:80")).collect();
            let ring = ring(&ids, &vec![1; count]);
            let hash = crc32fast::hash(&key);
            let at = ring.points.partition_point(|point| point.hash < hash) % ring.points.len();
            let wanted = ring.points[at..].iter().chain(&ring.points[..at]).map(|p| p.owner as usize);
            prop_assert!(ring.walk(&key).eq(wanted));
        }
    }

    const VECTORS: [(&str, [u32; 3]); 4] = [
        ("10.0.0.1:80", [0xa2ad_5d56, 0x0bde_b0ab, 0x75f0_0c5b]),
        ("[2001:db8::1]:80", [0xf5aa_2647, 0x5696_2e61, 0xe1f0_0496]),
        ("app.internal:8080", [0x3757_83fc, 0x55d3_e1a6, 0x4663_4c15]),
        ("unix:/run/app.sock", [0xad39_754f, 0x9a97_c570, 0x7fb8_e7ff]),
    ];
}
