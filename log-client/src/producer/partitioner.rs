//! Which partition a record goes to, exactly as the Java client decides it.
//!
//! A key is hashed (murmur2), so that all clients agree about where it lives. Records without a key stick to
//! one partition for `batch_bytes` bytes and then move on, so that batches fill; the next one is drawn with
//! odds that favour partitions whose queues are short (KIP-794).

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

/// Where records without a key go at the moment.
#[derive(Debug, Default)]
pub(crate) struct Sticky {
    current: Option<usize>,
    /// Bytes that went there since it was chosen.
    produced: usize,
}

impl Sticky {
    /// The partition to append to, chosen by `choose` if there is none, or if it is not among the first
    /// `count` (any more).
    pub(crate) fn current(&mut self, count: usize, choose: impl FnOnce() -> usize) -> usize {
        match self.current {
            Some(current) if current < count => current,
            _ => {
                let next = choose();
                *self = Self {
                    current: Some(next),
                    produced: 0,
                };
                next
            }
        }
    }

    /// Counts what was appended, and moves on when that fills a batch. While the last batch still has
    /// room moving on would leave it half full, so up to twice as much may go there.
    pub(crate) fn appended(&mut self, bytes: usize, batch_bytes: usize, last_batch_is_full: bool) {
        self.produced += bytes;
        let enough = batch_bytes <= self.produced && last_batch_is_full;
        if enough || 2 * batch_bytes <= self.produced {
            self.current = None;
        }
    }
}

/// Draws a partition: the longer the queue, the smaller the odds. `candidates` are partitions with the
/// number of batches that wait there; `draw` gives a number below its argument.
pub(crate) fn choose(candidates: &[(usize, usize)], draw: impl FnOnce(usize) -> usize) -> Option<usize> {
    let longest = candidates.iter().map(|(_, waiting)| *waiting).max()?;
    let weight = |waiting: usize| longest + 1 - waiting;
    let total = candidates.iter().map(|(_, waiting)| weight(*waiting)).sum();
    let mut left = draw(total);
    for (partition, waiting) in candidates {
        match left.checked_sub(weight(*waiting)) {
            Some(rest) => left = rest,
            None => return Some(*partition),
        }
    }
    None
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

    #[test]
    fn a_partition_is_kept_until_a_batch_is_full() {
        let mut sticky = Sticky::default();
        assert_eq!(sticky.current(6, || 4), 4);
        sticky.appended(99, 100, true);
        assert_eq!(sticky.current(6, || 5), 4);
        sticky.appended(1, 100, false);
        assert_eq!(sticky.current(6, || 5), 4, "the batch has room");
        sticky.appended(1, 100, true);
        assert_eq!(sticky.current(6, || 5), 5);
        sticky.appended(200, 100, false);
        assert_eq!(sticky.current(6, || 0), 0, "twice the size is enough in any case");
        assert_eq!(sticky.current(6, || 1), 0);
    }

    #[test]
    fn a_partition_that_is_no_more_is_left() {
        let mut sticky = Sticky::default();
        assert_eq!(sticky.current(6, || 5), 5);
        assert_eq!(sticky.current(3, || 2), 2);
    }

    /// With queues of 0, 3 and 1 batches the weights are 4, 1 and 3.
    #[test]
    fn short_queues_are_favoured() {
        let candidates = [(0, 0), (1, 3), (2, 1)];
        let drawn: Vec<_> = (0..8)
            .map(|number| {
                let expect_total = |total| {
                    assert_eq!(total, 8);
                    number
                };
                choose(&candidates, expect_total).unwrap()
            })
            .collect();
        assert_eq!(drawn, [0, 0, 0, 0, 1, 2, 2, 2]);
        assert_eq!(choose(&[], |_| 0), None);
    }
}
