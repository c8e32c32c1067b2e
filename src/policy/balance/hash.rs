//! The hash by which keys and endpoints find each other: the same in every process, build and machine, since all proxies
//! in front of the same endpoints must agree. No seed and no secret: who can choose keys can choose their endpoint, which
//! `bounded` keeps in limits.

/// A hash of bytes: FNV-1a (64 bits), finished by [`mix`] because its high bits hardly depend on the last bytes.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, step))
}

/// A hash of two hashes: other pairs, and the same two the other way round, have nothing to do with it.
pub(super) const fn pair(a: u64, b: u64) -> u64 {
    mix(a.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ b)
}

/// Changes every bit of the result with a chance of one half for each bit of the input (the last step of `SplitMix64`,
/// Steele and others, OOPSLA 2014).
pub(super) const fn mix(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written down once: a change of any of these would move every key of every deployment.
    #[test]
    fn hashes_are_the_same_for_ever() {
        assert_eq!(hash(b""), mix(0xcbf2_9ce4_8422_2325));
        // FNV-1a's own vector for "a".
        assert_eq!(hash(b"a"), mix(0xaf63_dc4c_8601_ec8c));
        // SplitMix64 started at 0 gives this first.
        assert_eq!(mix(0x9e37_79b9_7f4a_7c15), 0xe220_a839_7b1d_cdaf);
        assert_ne!(pair(1, 2), pair(2, 1));
    }
}
