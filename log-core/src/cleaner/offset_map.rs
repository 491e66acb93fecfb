//! Which offset is the last one of each key, in bounded memory.
//!
//! As in Kafka's map, a key is its hash of 16 bytes beside an offset of 8, so that memory is 24 bytes a key whatever the
//! keys' length. Two keys of one hash would be taken for one; 2^-128 a pair is what nobody will see. The hash is XXH3: it
//! is several times as fast as the MD5 of Kafka's, and nobody gains by forging a collision who may write to the topic
//! anyway, and so may delete its keys.
//!
//! The table is split into parts that grow one by one. So a topic of a few keys takes little, and growing never needs
//! twice the memory of the limit.
//!
//! Invariant: there are never more entries than the limit gave when the map was made.

use twox_hash::XxHash3_128;

use crate::model::Offset;

/// The hash in two halves, and the offset plus one: a row of zeros is a free slot, which the system gives without
/// touching it.
type Slot = [u64; 3];

const SLOT_BYTES: u64 = 24;
const _: () = assert!(size_of::<Slot>() == 24);
/// How many parts a map has that is large enough for parts.
const PARTS: u64 = 64;
/// What a part begins with.
const SLOTS_FIRST: u64 = 64;

/// Key to last offset.
#[derive(Debug)]
pub struct OffsetMap {
    parts: Vec<Part>,
    slots_max: u64,
    entry_count: u64,
    entries_max: u64,
    latest: Option<Offset>,
}

/// The map takes no further key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapIsFull;

impl OffsetMap {
    /// An empty map that will take `bytes_max` of memory at most (`log.cleaner.dedupe.buffer.size`), filled up to
    /// `load_per_mille` thousandths (`log.cleaner.io.buffer.load.factor`). It takes one key at least.
    ///
    /// # Panics
    /// Never: there are few parts.
    #[must_use]
    pub fn new(bytes_max: u64, load_per_mille: u64) -> Self {
        let slots = (bytes_max / SLOT_BYTES).max(2);
        let part_count = if slots < PARTS * SLOTS_FIRST * 16 {
            1
        } else {
            PARTS
        };
        let slots_max = slots / part_count;
        let part = Part {
            slots: Vec::new(),
            entry_count: 0,
        };
        Self {
            parts: vec![part; usize::try_from(part_count).expect("a few")],
            slots_max,
            entry_count: 0,
            entries_max: (slots.saturating_mul(load_per_mille.min(1000)) / 1000).max(1),
            latest: None,
        }
    }

    /// Notes that `key` stands at `offset`, behind everything noted before.
    ///
    /// # Errors
    /// `MapIsFull`; nothing was noted.
    pub fn put(&mut self, key: &[u8], offset: Offset) -> Result<(), MapIsFull> {
        if self.entries_max <= self.entry_count {
            return Err(MapIsFull);
        }
        let hash = hash_of(key);
        let slots_max = self.slots_max;
        let part = self.part_mut(hash);
        let is_new = part.put(hash, offset, slots_max)?;
        self.entry_count += u64::from(is_new);
        self.latest = Some(offset);
        Ok(())
    }

    /// The last offset of `key`.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<Offset> {
        let hash = hash_of(key);
        self.parts.get(self.part_of(hash))?.get(hash)
    }

    /// Everything up to `offset` has been looked at, keys or not.
    pub fn note_seen(&mut self, offset: Offset) {
        self.latest = Some(offset);
    }

    /// The last offset that was looked at: about what follows, the map says nothing.
    #[must_use]
    pub fn latest(&self) -> Option<Offset> {
        self.latest
    }

    /// How many keys there are.
    #[must_use]
    pub fn entry_count(&self) -> u64 {
        self.entry_count
    }

    /// The bytes that it takes now.
    ///
    /// # Panics
    /// Never: a length fits 64 bits.
    #[must_use]
    pub fn size_in_bytes(&self) -> u64 {
        let slots: usize = self.parts.iter().map(|part| part.slots.len()).sum();
        u64::try_from(slots)
            .expect("usize fits u64")
            .saturating_mul(SLOT_BYTES)
    }

    fn part_mut(&mut self, hash: Hash) -> &mut Part {
        let index = self.part_of(hash);
        self.parts.get_mut(index).expect("scaled to the number of parts")
    }

    fn part_of(&self, hash: Hash) -> usize {
        scaled(hash.0, self.parts.len())
    }
}

type Hash = (u64, u64);

fn hash_of(key: &[u8]) -> Hash {
    let bytes = XxHash3_128::oneshot(key).to_le_bytes();
    let (low, high) = bytes.split_at(8);
    let half = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("half of 16 bytes"));
    (half(low), half(high))
}

/// A number below `count`, evenly by the upper bits of `hash`.
fn scaled(hash: u64, count: usize) -> usize {
    let count = u128::try_from(count).expect("usize fits u128");
    let scaled = (u128::from(hash).wrapping_mul(count)) >> 64;
    usize::try_from(scaled).expect("less than a usize")
}

/// A table with open addressing: a key's slot is the first free one, or its own, from where its hash points on.
#[derive(Debug, Clone)]
struct Part {
    slots: Vec<Slot>,
    entry_count: u64,
}

impl Part {
    /// Whether the key is new.
    fn put(&mut self, hash: Hash, offset: Offset, slots_max: u64) -> Result<bool, MapIsFull> {
        self.grow_if_needed(slots_max);
        let slot = self.slot_mut(hash).ok_or(MapIsFull)?;
        let is_new = slot[2] == 0;
        *slot = [hash.0, hash.1, offset.get().unsigned_abs().saturating_add(1)];
        self.entry_count += u64::from(is_new);
        Ok(is_new)
    }

    fn get(&self, hash: Hash) -> Option<Offset> {
        let start = scaled(hash.1, self.slots.len());
        let (before, from) = self.slots.split_at_checked(start)?;
        let found = from.iter().chain(before).find(|slot| is_for(slot, hash))?;
        let offset = found[2].checked_sub(1)?;
        Some(Offset::new(i64::try_from(offset).ok()?))
    }

    fn slot_mut(&mut self, hash: Hash) -> Option<&mut Slot> {
        let start = scaled(hash.1, self.slots.len());
        let (before, from) = self.slots.split_at_mut_checked(start)?;
        from.iter_mut().chain(before).find(|slot| is_for(slot, hash))
    }

    /// Tables stay three quarters full at most, until the limit; probes are short then.
    fn grow_if_needed(&mut self, slots_max: u64) {
        let now = u64::try_from(self.slots.len()).expect("usize fits u64");
        if self.entry_count.saturating_mul(4) < now.saturating_mul(3) || slots_max <= now {
            return;
        }
        let next = now.saturating_mul(2).clamp(SLOTS_FIRST.min(slots_max), slots_max);
        let larger = vec![Slot::default(); usize::try_from(next).unwrap_or(usize::MAX)];
        for slot in std::mem::replace(&mut self.slots, larger) {
            if slot[2] != 0
                && let Some(place) = self.slot_mut((slot[0], slot[1]))
            {
                *place = slot;
            }
        }
    }
}

fn is_for(slot: &Slot, hash: Hash) -> bool {
    slot[2] == 0 || (slot[0], slot[1]) == hash
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn key(number: u64) -> Vec<u8> {
        format!("key-{number}").into_bytes()
    }

    /// Puts keys until it is full, some twice, and compares with a map of the standard library.
    fn fill(bytes_max: u64, load_per_mille: u64) -> (OffsetMap, u64) {
        let mut map = OffsetMap::new(bytes_max, load_per_mille);
        let mut model = HashMap::new();
        let mut offset = 0;
        for number in 0.. {
            let again = [number, number / 3].map(key);
            let full = again.iter().any(|key| {
                let is_full = map.put(key, Offset::new(offset)).is_err();
                if !is_full {
                    model.insert(key.clone(), Offset::new(offset));
                }
                offset += 1;
                is_full
            });
            if full {
                assert_eq!(map.get(&key(number + 1)), None);
                break;
            }
        }
        for (key, offset) in &model {
            assert_eq!(map.get(key), Some(*offset));
        }
        assert_eq!(map.latest(), model.values().max().copied());
        let count = u64::try_from(model.len()).unwrap();
        assert_eq!(map.entry_count(), count);
        (map, count)
    }

    #[test]
    fn it_keeps_the_last_offset_of_each_key_within_its_memory() {
        for (bytes_max, load_per_mille, at_least) in [(48, 900, 1), (2400, 900, 90), (4 << 20, 900, 157_000)]
        {
            let (map, count) = fill(bytes_max, load_per_mille);
            assert!(at_least <= count, "{count} keys in {bytes_max} bytes");
            assert!(map.size_in_bytes() <= bytes_max, "{} bytes", map.size_in_bytes());
        }
    }

    #[test]
    fn few_keys_take_little() {
        let mut map = OffsetMap::new(128 << 20, 900);
        map.put(b"one", Offset::new(7)).unwrap();
        assert_eq!(map.size_in_bytes(), 64 * 24);
        assert_eq!((map.get(b"one"), map.get(b"two")), (Some(Offset::new(7)), None));
    }

    #[test]
    fn what_was_seen_counts_without_a_key() {
        let mut map = OffsetMap::new(1 << 10, 900);
        assert_eq!(map.latest(), None);
        map.put(b"k", Offset::ZERO).unwrap();
        map.note_seen(Offset::new(9));
        assert_eq!(
            (map.latest(), map.get(b"k")),
            (Some(Offset::new(9)), Some(Offset::ZERO))
        );
    }
}
