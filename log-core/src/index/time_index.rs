//! The sparse index from record timestamp to record offset (`.timeindex`).
//!
//! An entry (timestamp, offset) says: no record up to `offset` is younger than `timestamp`, and the batch that
//! ends with `offset` holds a record of just that age. Invariants: timestamps strictly increase and are not
//! negative, offsets do not decrease. The last entry of a sealed segment is the segment's largest timestamp.
//!
//! | field | bytes | |
//! |---|---|---|
//! | timestamp | 8 | milliseconds since 1970, `i64` |
//! | relative offset | 4 | offset − base offset of the segment, `i32` |
//!
//! [`TimeIndex`] grows while its segment is active, [`TimeIndexView`] looks at a finished file without copying
//! it, [`SegmentTimeIndex`] is either. All three hold the file's own bytes and read them through [`TimeEntries`].

use bytes::Bytes;

use super::entry::{absolute, check_at_least, entry_position, relative, take, written_count};
use super::error::{IndexError, IndexFile, PushError};
use crate::model::{Offset, TimestampMs};

const TIMESTAMP_LENGTH: usize = 8;
const RELATIVE_OFFSET_LENGTH: usize = 4;
/// The bytes of one entry.
pub const ENTRY_SIZE: usize = TIMESTAMP_LENGTH + RELATIVE_OFFSET_LENGTH;
const _: () = assert!(ENTRY_SIZE == 12, "Kafka's entries are twelve bytes");

const FILE: IndexFile = IndexFile::Time;

/// Reads entries where they lie.
#[derive(Debug, Clone, Copy)]
pub struct TimeEntries<'a> {
    base_offset: Offset,
    entries: &'a [[u8; ENTRY_SIZE]],
}

impl<'a> TimeEntries<'a> {
    fn new(base_offset: Offset, bytes: &'a [u8]) -> Self {
        Self {
            base_offset,
            entries: bytes.as_chunks().0,
        }
    }

    /// The last entry whose timestamp is at or below `target`: a record as young as `target` or younger lies
    /// at or behind its offset. Without one, no timestamp and the segment's base offset.
    #[must_use]
    pub fn lookup(self, target: TimestampMs) -> (TimestampMs, Offset) {
        let slot = self
            .entries
            .partition_point(|entry| self.decode(entry).0 <= target);
        self.before(slot)
    }

    /// The last entry, or no timestamp and the segment's base offset when there is none.
    #[must_use]
    pub fn last(self) -> (TimestampMs, Offset) {
        self.before(self.entries.len())
    }

    /// How many entries there are.
    #[must_use]
    pub fn entry_count(self) -> usize {
        self.entries.len()
    }

    /// All entries, in order.
    pub fn iter(self) -> impl Iterator<Item = (TimestampMs, Offset)> + 'a {
        self.entries.iter().map(move |entry| self.decode(entry))
    }

    fn before(self, slot: usize) -> (TimestampMs, Offset) {
        let entry = slot.checked_sub(1).and_then(|slot| self.entries.get(slot));
        entry.map_or((TimestampMs::NONE, self.base_offset), |entry| self.decode(entry))
    }

    fn decode(self, entry: &[u8; ENTRY_SIZE]) -> (TimestampMs, Offset) {
        let (timestamp, relative_offset) = decode_fields(entry);
        (
            TimestampMs::new(timestamp),
            absolute(relative_offset, self.base_offset),
        )
    }
}

fn decode_fields(entry: &[u8; ENTRY_SIZE]) -> (i64, i32) {
    let mut rest = entry.as_slice();
    (
        i64::from_be_bytes(take(&mut rest)),
        i32::from_be_bytes(take(&mut rest)),
    )
}

/// What became of an entry that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimePush {
    /// It is the new last entry.
    Added,
    /// Its timestamp is not larger than that of the last entry: it would say nothing new.
    Skipped,
}

/// The index of an active segment, in memory. The file's bytes are [`TimeIndex::bytes`]; whoever writes the
/// file appends what is new.
#[derive(Debug, Clone)]
pub struct TimeIndex {
    base_offset: Offset,
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl TimeIndex {
    /// An empty index that holds at most `bytes_max` bytes.
    #[must_use]
    pub fn new(base_offset: Offset, bytes_max: u64) -> Self {
        Self {
            base_offset,
            bytes: Vec::new(),
            bytes_max: usize::try_from(bytes_max).unwrap_or(usize::MAX),
        }
    }

    /// Offers an entry: `timestamp` is the largest so far, and the batch that holds it ends with `offset`.
    /// An entry that is not younger than the last one is skipped.
    ///
    /// # Errors
    /// [`PushError`]: a younger entry has a smaller offset than the last one; only the place of the final entry is
    /// left, or 31 bits do not hold the offset.
    pub fn try_push(&mut self, timestamp: TimestampMs, offset: Offset) -> Result<TimePush, PushError> {
        let is_full = self.is_full();
        self.push_unless(is_full, timestamp, offset)
    }

    /// Offers the final entry of a segment that is rolled or closed; it may take the last place.
    ///
    /// # Errors
    /// [`PushError`]: as [`Self::try_push`], but full only when no place is left at all.
    pub fn push_final(&mut self, timestamp: TimestampMs, offset: Offset) -> Result<TimePush, PushError> {
        let is_full = self.places_left() == 0;
        self.push_unless(is_full, timestamp, offset)
    }

    fn push_unless(
        &mut self,
        is_full: bool,
        timestamp: TimestampMs,
        offset: Offset,
    ) -> Result<TimePush, PushError> {
        let (last_timestamp, last_offset) = self.last();
        if timestamp <= last_timestamp {
            return Ok(TimePush::Skipped);
        }
        if offset < last_offset {
            return Err(PushError::Disordered {
                file: FILE,
                offset,
                last_offset,
            });
        }
        let Some(relative_offset) = relative(offset, self.base_offset).filter(|_| !is_full) else {
            return Err(PushError::Full {
                file: FILE,
                entry_count: self.entry_count(),
            });
        };
        self.bytes.extend_from_slice(&timestamp.get().to_be_bytes());
        self.bytes.extend_from_slice(&relative_offset.to_be_bytes());
        Ok(TimePush::Added)
    }

    /// Whether only the place of the final entry is left.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.places_left() <= 1
    }

    fn places_left(&self) -> usize {
        self.bytes_max
            .saturating_sub(self.bytes.len())
            .div_euclid(ENTRY_SIZE)
    }

    /// Drops all entries whose offset lies at or behind `offset`.
    pub fn truncate_to(&mut self, offset: Offset) {
        let entries = self.entries();
        let kept = entries
            .entries
            .partition_point(|entry| entries.decode(entry).1 < offset);
        self.bytes.truncate(kept.saturating_mul(ENTRY_SIZE));
    }

    /// See [`TimeEntries::lookup`].
    #[must_use]
    pub fn lookup(&self, target: TimestampMs) -> (TimestampMs, Offset) {
        self.entries().lookup(target)
    }

    /// See [`TimeEntries::last`].
    #[must_use]
    pub fn last(&self) -> (TimestampMs, Offset) {
        self.entries().last()
    }

    /// How many entries there are.
    #[must_use]
    pub fn entry_count(&self) -> usize {
        self.entries().entry_count()
    }

    /// The entries, to read.
    #[must_use]
    pub fn entries(&self) -> TimeEntries<'_> {
        TimeEntries::new(self.base_offset, &self.bytes)
    }

    /// The contents of the file.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The finished index of a segment that is rolled; the bytes are not copied.
    #[must_use]
    pub fn seal(self) -> TimeIndexView {
        TimeIndexView {
            base_offset: self.base_offset,
            bytes: self.bytes.into(),
        }
    }
}

/// The index of a sealed segment: the bytes of its file, from a map or a plain read.
#[derive(Debug, Clone)]
pub struct TimeIndexView {
    base_offset: Offset,
    bytes: Bytes,
}

impl TimeIndexView {
    /// Checks the contents of a file and looks at them. A tail of zeros, as Kafka leaves it after an
    /// unclean stop, is left out.
    ///
    /// # Errors
    /// [`IndexError`]: the length is no multiple of twelve, timestamps do not strictly increase, or offsets decrease.
    pub fn parse(mut bytes: Bytes, base_offset: Offset) -> Result<Self, IndexError> {
        let (entries, rest) = bytes.as_chunks::<ENTRY_SIZE>();
        if !rest.is_empty() {
            return Err(IndexError::Length {
                file: FILE,
                length: bytes.len(),
                entry_size: ENTRY_SIZE,
            });
        }
        let entry_count = written_count(entries);
        let mut at_least = (0, 0);
        for (slot, entry) in entries.iter().take(entry_count).enumerate() {
            let (timestamp, relative_offset) = decode_fields(entry);
            let relative_offset = i64::from(relative_offset);
            let place = (FILE, entry_position(slot, ENTRY_SIZE));
            check_at_least(place, "timestamp", at_least.0, timestamp)?;
            check_at_least(place, "relative offset", at_least.1, relative_offset)?;
            at_least = (timestamp.saturating_add(1), relative_offset);
        }
        bytes.truncate(entry_count.saturating_mul(ENTRY_SIZE));
        Ok(Self { base_offset, bytes })
    }

    /// See [`TimeEntries::lookup`].
    #[must_use]
    pub fn lookup(&self, target: TimestampMs) -> (TimestampMs, Offset) {
        self.entries().lookup(target)
    }

    /// See [`TimeEntries::last`].
    #[must_use]
    pub fn last(&self) -> (TimestampMs, Offset) {
        self.entries().last()
    }

    /// How many entries there are.
    #[must_use]
    pub fn entry_count(&self) -> usize {
        self.entries().entry_count()
    }

    /// All entries, in order.
    pub fn iter(&self) -> impl Iterator<Item = (TimestampMs, Offset)> + '_ {
        self.entries().iter()
    }

    /// The entries, to read.
    #[must_use]
    pub fn entries(&self) -> TimeEntries<'_> {
        TimeEntries::new(self.base_offset, &self.bytes)
    }

    /// The contents of the file, without a tail of zeros.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// An index that grows from here, for a segment that is opened as the active one. Copies.
    #[must_use]
    pub fn reopen(&self, bytes_max: u64) -> TimeIndex {
        TimeIndex {
            bytes: self.bytes.to_vec(),
            ..TimeIndex::new(self.base_offset, bytes_max)
        }
    }
}

/// The index of a segment, whether it still grows or not.
#[derive(Debug, Clone)]
pub enum SegmentTimeIndex {
    /// Of the active segment.
    Active(TimeIndex),
    /// Of a sealed one.
    Sealed(TimeIndexView),
}

impl SegmentTimeIndex {
    /// See [`TimeEntries::lookup`].
    #[must_use]
    pub fn lookup(&self, target: TimestampMs) -> (TimestampMs, Offset) {
        self.entries().lookup(target)
    }

    /// See [`TimeEntries::last`].
    #[must_use]
    pub fn last(&self) -> (TimestampMs, Offset) {
        self.entries().last()
    }

    /// The entries, to read.
    #[must_use]
    pub fn entries(&self) -> TimeEntries<'_> {
        match self {
            Self::Active(index) => index.entries(),
            Self::Sealed(view) => view.entries(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FilePosition;

    const BASE: Offset = Offset::new(1000);

    fn entry(timestamp: i64, offset: i64) -> (TimestampMs, Offset) {
        (TimestampMs::new(timestamp), Offset::new(offset))
    }

    fn index_of(entries: &[(i64, i64)]) -> TimeIndex {
        let mut index = TimeIndex::new(BASE, 1024);
        for &(timestamp, offset) in entries {
            let (timestamp, offset) = entry(timestamp, offset);
            assert_eq!(index.try_push(timestamp, offset), Ok(TimePush::Added));
        }
        index
    }

    fn parse(bytes: &[u8]) -> Result<TimeIndexView, IndexError> {
        TimeIndexView::parse(Bytes::copy_from_slice(bytes), BASE)
    }

    #[test]
    fn golden_bytes() {
        let index = index_of(&[(1_700_000_000_000, 1009), (1_700_000_000_001, 1300)]);
        let golden = [
            0, 0, 1, 0x8b, 0xcf, 0xe5, 0x68, 0, 0, 0, 0, 9, // 1,700,000,000,000 at 1009
            0, 0, 1, 0x8b, 0xcf, 0xe5, 0x68, 1, 0, 0, 1, 0x2c,
        ];
        assert_eq!(index.bytes(), golden);
        let view = parse(&golden).unwrap();
        let entries = [entry(1_700_000_000_000, 1009), entry(1_700_000_000_001, 1300)];
        assert_eq!(view.iter().collect::<Vec<_>>(), entries);
        assert_eq!(index.seal().bytes(), golden);
    }

    #[test]
    fn an_entry_that_is_not_younger_is_skipped() {
        let mut index = index_of(&[(50, 1009)]);
        for (timestamp, offset) in [(50, 1010), (49, 1020), (-1, 1030), (50, 1009)] {
            let (timestamp, offset) = entry(timestamp, offset);
            assert_eq!(index.try_push(timestamp, offset), Ok(TimePush::Skipped));
            assert_eq!(index.push_final(timestamp, offset), Ok(TimePush::Skipped));
        }
        assert_eq!(
            index.try_push(TimestampMs::new(51), Offset::new(1009)),
            Ok(TimePush::Added)
        );
        assert_eq!(index.entry_count(), 2);
        let mut empty = TimeIndex::new(BASE, 1024);
        assert_eq!(empty.try_push(TimestampMs::NONE, BASE), Ok(TimePush::Skipped));
        assert_eq!(empty.try_push(TimestampMs::new(0), BASE), Ok(TimePush::Added));
    }

    #[test]
    fn a_younger_entry_with_a_smaller_offset_is_refused() {
        let mut index = index_of(&[(50, 1009)]);
        let (offset, last_offset) = (Offset::new(1008), Offset::new(1009));
        let error = Err(PushError::Disordered {
            file: IndexFile::Time,
            offset,
            last_offset,
        });
        assert_eq!(index.try_push(TimestampMs::new(51), offset), error);
        assert_eq!(index.push_final(TimestampMs::new(51), offset), error);
        assert!(
            TimeIndex::new(BASE, 1024)
                .try_push(TimestampMs::new(0), Offset::new(999))
                .is_err()
        );
    }

    #[test]
    fn lookup_finds_the_last_entry_at_or_below() {
        let index = index_of(&[(50, 1009), (60, 1020)]);
        let sealed = SegmentTimeIndex::Sealed(index.clone().seal());
        let active = SegmentTimeIndex::Active(index);
        for (target, found) in [
            (i64::MIN, (-1, 1000)),
            (49, (-1, 1000)),
            (50, (50, 1009)),
            (59, (50, 1009)),
            (60, (60, 1020)),
            (i64::MAX, (60, 1020)),
        ] {
            assert_eq!(
                active.lookup(TimestampMs::new(target)),
                entry(found.0, found.1),
                "{target}"
            );
            assert_eq!(
                sealed.lookup(TimestampMs::new(target)),
                entry(found.0, found.1),
                "{target}"
            );
        }
        assert_eq!(TimeIndex::new(BASE, 8).last(), entry(-1, 1000));
    }

    #[test]
    fn the_last_place_is_kept_for_the_final_entry() {
        let mut index = TimeIndex::new(BASE, 3 * 12 + 11);
        for step in 1..=2 {
            assert!(!index.is_full());
            index
                .try_push(TimestampMs::new(step), Offset::new(1000 + step))
                .unwrap();
        }
        let full = |entry_count| PushError::Full {
            file: IndexFile::Time,
            entry_count,
        };
        assert!(index.is_full());
        assert_eq!(
            index.try_push(TimestampMs::new(3), Offset::new(1003)),
            Err(full(2))
        );
        assert_eq!(
            index.push_final(TimestampMs::new(3), Offset::new(1003)),
            Ok(TimePush::Added)
        );
        assert_eq!(
            index.push_final(TimestampMs::new(4), Offset::new(1004)),
            Err(full(3))
        );
        assert_eq!(
            index.push_final(TimestampMs::new(3), Offset::new(1004)),
            Ok(TimePush::Skipped)
        );
        let far = Offset::new(1001 + i64::from(i32::MAX));
        let mut wide = TimeIndex::new(BASE, 1024);
        assert_eq!(wide.try_push(TimestampMs::new(1), far), Err(full(0)));
    }

    #[test]
    fn truncation_goes_by_offset() {
        for (offset, kept) in [(0, 0), (1009, 0), (1010, 1), (1020, 1), (1021, 2)] {
            let mut index = index_of(&[(50, 1009), (60, 1020)]);
            index.truncate_to(Offset::new(offset));
            assert_eq!(index.entry_count(), kept, "{offset}");
        }
        let mut index = index_of(&[(50, 1009), (60, 1020)]).seal().reopen(1024);
        index.truncate_to(Offset::new(1020));
        assert_eq!(
            index.try_push(TimestampMs::new(55), Offset::new(1015)),
            Ok(TimePush::Added)
        );
        assert_eq!(index.last(), entry(55, 1015));
    }

    #[test]
    fn a_preallocated_tail_is_left_out() {
        let index = index_of(&[(50, 1009), (60, 1020)]);
        assert_eq!(
            parse(&[index.bytes(), &[0; 120]].concat()).unwrap().bytes(),
            index.bytes()
        );
        assert_eq!(parse(&[0; 120]).unwrap().last(), entry(-1, 1000));
        assert_eq!(parse(&[0; 12]).unwrap().last(), entry(0, 1000));
    }

    #[test]
    fn damage_is_named() {
        let sound = index_of(&[(50, 1009), (60, 1020)]).bytes().to_vec();
        assert_eq!(
            parse(&sound[..20]).unwrap_err(),
            IndexError::Length {
                file: IndexFile::Time,
                length: 20,
                entry_size: 12
            }
        );
        let too_small = |position, field, at_least, found| IndexError::TooSmall {
            file: IndexFile::Time,
            position: FilePosition::new(position),
            field,
            at_least,
            found,
        };
        let mut bytes = sound.clone();
        bytes[19] = 50;
        assert_eq!(parse(&bytes).unwrap_err(), too_small(12, "timestamp", 51, 50));
        let mut bytes = sound.clone();
        bytes[23] = 8;
        assert_eq!(parse(&bytes).unwrap_err(), too_small(12, "relative offset", 9, 8));
        let mut bytes = sound;
        bytes[0] = 0x80;
        assert_eq!(
            parse(&bytes).unwrap_err(),
            too_small(0, "timestamp", 0, i64::MIN + 50)
        );
    }
}
