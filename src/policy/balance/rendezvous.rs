//! Rendezvous hashing: everyone's score for a key, and the highest of them.

use super::Candidates;
use super::hash::pair;
use super::share::weight_in_force;

/// More endpoints than this make a pick noticeable beside all else that a request costs: each takes 1.6 ns, so 256 of them
/// are 4 % of a small request.
pub const ADVISED_MAX: usize = 256;

/// The endpoint with the highest score for a key among those that `fits` lets through; nothing when it lets none.
///
/// The problem: as for `ring`, where not one key more than must may move. Why this answer: a score depends on nothing but
/// key and endpoint, so who leaves moves its own keys only, to all others by their weights, and shares are exact (Thaler
/// and Ravishankar 1998; weighted: -weight / ln u, as in Traefik's and sozu's `hrw`). A weight that grows draws keys
/// and gives none away, which is slow start without anything else. When wrong: with more than [`ADVISED_MAX`] endpoints,
/// since all of them are asked for each pick. A tree of groups (CRUSH's straws, Wang and Ravishankar's skeleton) would
/// ask few, but whoever leaves then changes the weight of its group, so that keys of others move as well; `maglev` does
/// that too, with one look.
///
/// It is also where the keys of the other hashing policies go when a walk found nothing: by key still, and by weight.
pub(super) fn highest<C: Candidates>(
    weights: &[u16],
    ids: &[u64],
    candidates: &C,
    key_hash: u64,
    fits: &impl Fn(usize) -> bool,
) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (index, (&id, &weight)) in ids.iter().zip(weights).enumerate() {
        if weight == 0 {
            continue;
        }
        let weight = weight_in_force(weights, candidates, index) as f64;
        // The lower, the better: -ln u / weight. As -ln u >= 1 - u, most are out without a logarithm.
        let u = unit(pair(key_hash, id));
        let beaten = |distance: f64| best.is_some_and(|(_, least)| distance >= least);
        if beaten((1.0 - u) / weight) {
            continue;
        }
        let distance = -u.ln() / weight;
        if !beaten(distance) && fits(index) {
            best = Some((index, distance));
        }
    }
    best.map(|(index, _)| index)
}

/// A hash as a number above 0 and below 1; 53 bits, so that it is neither by rounding.
fn unit(hash: u64) -> f64 {
    ((hash >> 12) as f64 + 0.5) / (1u64 << 52) as f64
}
