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
//! What it shares with the other index stands in `sorted_index`.

use super::entry::{absolute, check_at_least, relative, take};
use super::error::{IndexError, IndexFile, PushError};
use super::sorted_index::{Entries, GrowingIndex, IndexView, Layout};
use crate::model::{FilePosition, Offset, TimestampMs};

const TIMESTAMP_LENGTH: usize = 8;
const RELATIVE_OFFSET_LENGTH: usize = 4;
/// The bytes of one entry.
pub const ENTRY_SIZE: usize = TIMESTAMP_LENGTH + RELATIVE_OFFSET_LENGTH;
const _: () = assert!(ENTRY_SIZE == 12, "Kafka's entries are twelve bytes");

/// Reads entries where they lie. A record as young as the target of a look-up, or younger, lies at or behind the offset
/// that is found.
pub type TimeEntries<'a> = Entries<'a, TimeLayout, ENTRY_SIZE>;
/// The index of an active segment, in memory; whoever writes the file appends what is new.
pub type TimeIndex = GrowingIndex<TimeLayout, ENTRY_SIZE>;
/// The index of a sealed segment.
pub type TimeIndexView = IndexView<TimeLayout, ENTRY_SIZE>;

/// Timestamp and offset of an entry.
#[derive(Debug, Clone, Copy)]
pub struct TimeLayout;

impl Layout<ENTRY_SIZE> for TimeLayout {
    const FILE: IndexFile = IndexFile::Time;
    type Key = TimestampMs;
    type Entry = (TimestampMs, Offset);
    /// The smallest timestamp and the smallest relative offset.
    type Bounds = (i64, i64);

    fn origin(base_offset: Offset) -> Self::Entry {
        (TimestampMs::NONE, base_offset)
    }

    fn decode(entry: &[u8; ENTRY_SIZE], base_offset: Offset) -> Self::Entry {
        let (timestamp, relative_offset) = decode_fields(entry);
        (
            TimestampMs::new(timestamp),
            absolute(relative_offset, base_offset),
        )
    }

    fn key(entry: &Self::Entry) -> TimestampMs {
        entry.0
    }

    fn offset(entry: &Self::Entry) -> Offset {
        entry.1
    }

    fn check(
        entry: &[u8; ENTRY_SIZE],
        place: FilePosition,
        bounds: Self::Bounds,
    ) -> Result<Self::Bounds, IndexError> {
        let (timestamp, relative_offset) = decode_fields(entry);
        let relative_offset = i64::from(relative_offset);
        let place = (Self::FILE, place);
        check_at_least(place, "timestamp", bounds.0, timestamp)?;
        check_at_least(place, "relative offset", bounds.1, relative_offset)?;
        Ok((timestamp.saturating_add(1), relative_offset))
    }
}

fn decode_fields(entry: &[u8; ENTRY_SIZE]) -> (i64, i32) {
    let mut rest = entry.as_slice();
    (
        i64::from_be_bytes(take(&mut rest)),
        i32::from_be_bytes(take(&mut rest)),
    )
}

fn encode_fields(timestamp: i64, relative_offset: i32) -> [u8; ENTRY_SIZE] {
    let mut entry = [0; ENTRY_SIZE];
    let (first, second) = entry.split_at_mut(TIMESTAMP_LENGTH);
    first.copy_from_slice(&timestamp.to_be_bytes());
    second.copy_from_slice(&relative_offset.to_be_bytes());
    entry
}

/// What became of an entry that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimePush {
    /// It is the new last entry.
    Added,
    /// Its timestamp is not larger than that of the last entry: it would say nothing new.
    Skipped,
}

impl TimeIndex {
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
                file: IndexFile::Time,
                offset,
                last_offset,
            });
        }
        let Some(relative_offset) = relative(offset, self.base_offset()).filter(|_| !is_full) else {
            return Err(PushError::Full {
                file: IndexFile::Time,
                entry_count: self.entry_count(),
            });
        };
        self.push(encode_fields(timestamp.get(), relative_offset));
        Ok(TimePush::Added)
    }

    /// Whether only the place of the final entry is left.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.places_left() <= 1
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

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
        let sealed = index.clone().seal();
        for (target, found) in [
            (i64::MIN, (-1, 1000)),
            (49, (-1, 1000)),
            (50, (50, 1009)),
            (59, (50, 1009)),
            (60, (60, 1020)),
            (i64::MAX, (60, 1020)),
        ] {
            assert_eq!(
                index.lookup(TimestampMs::new(target)),
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
