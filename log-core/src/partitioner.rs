//! Which partition a key belongs to, exactly as the Java client decides it: all clients, and the HTTP front, agree about
//! where a key lives. What happens to records without a key is their sender's affair.

/// The hash of the Java client for keys: 32-bit murmur2 with its seed.
///
/// # Panics
/// For keys of 4 GiB and more, which no record can have.
#[must_use]
pub fn murmur2(key: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const MULTIPLIER: u32 = 0x5bd1_e995;
    const SHIFT: u32 = 24;

    let length = u32::try_from(key.len()).expect("a key is smaller than 4 GiB");
    let (words, rest) = key.as_chunks::<4>();
    let mut hash = SEED ^ length;
    for word in words {
        let mut word = u32::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        word ^= word >> SHIFT;
        hash = hash.wrapping_mul(MULTIPLIER) ^ word.wrapping_mul(MULTIPLIER);
    }
    if !rest.is_empty() {
        for (byte, shift) in rest.iter().zip([0, 8, 16]) {
            hash ^= u32::from(*byte) << shift;
        }
        hash = hash.wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 15)
}

/// The partition of a key among `count`; the sign bit of the hash is dropped, as Java does.
///
/// # Panics
/// Without partitions there is none to choose.
#[must_use]
pub fn partition_for_key(key: &[u8], count: usize) -> usize {
    assert!(0 < count, "a topic has partitions");
    let positive = murmur2(key) & 0x7fff_ffff;
    usize::try_from(positive).expect("31 bits fit an index") % count
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of the Java client's `Utils.murmur2`, as its own tests list them.
    #[test]
    fn keys_hash_as_in_java() {
        for (key, expected) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), expected, "{key}");
        }
    }

    #[test]
    fn a_negative_hash_gives_a_partition_too() {
        assert_eq!(partition_for_key(b"21", 6), (2_147_483_648 - 973_932_308) % 6);
        assert_eq!(partition_for_key(b"", 1), 0);
    }
}
