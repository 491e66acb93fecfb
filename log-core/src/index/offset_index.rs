//! The sparse index from record offset to position in the `.log` file (`.index`).
//!
//! An entry names the last offset of a batch and where that batch begins. Invariant: entries strictly
//! increase in both offset and position. Whether a batch of that offset really begins there is not
//! checked here; that is `segment`'s task.
//!
//! | field | bytes | |
//! |---|---|---|
//! | relative offset | 4 | offset − base offset of the segment, `i32` |
//! | position | 4 | byte position in the `.log` file, `i32` |
//!
//! What it shares with the other index stands in `sorted_index`.

use super::entry::{absolute, check_at_least, relative, take};
use super::error::{IndexError, IndexFile, PushError};
use super::sorted_index::{Entries, GrowingIndex, IndexView, Layout};
use crate::model::{FilePosition, Offset};

const RELATIVE_OFFSET_LENGTH: usize = 4;
const POSITION_LENGTH: usize = 4;
/// The bytes of one entry.
pub const ENTRY_SIZE: usize = RELATIVE_OFFSET_LENGTH + POSITION_LENGTH;
const _: () = assert!(ENTRY_SIZE == 8, "Kafka's entries are eight bytes");

/// Reads entries where they lie. A look-up says where to begin looking for an offset in the log.
pub type OffsetEntries<'a> = Entries<'a, OffsetLayout, ENTRY_SIZE>;
/// The index of an active segment, in memory; whoever writes the file appends what is new.
pub type OffsetIndex = GrowingIndex<OffsetLayout, ENTRY_SIZE>;
/// The index of a sealed segment.
pub type OffsetIndexView = IndexView<OffsetLayout, ENTRY_SIZE>;

/// Offset and position of an entry.
#[derive(Debug, Clone, Copy)]
pub struct OffsetLayout;

impl Layout<ENTRY_SIZE> for OffsetLayout {
    const FILE: IndexFile = IndexFile::Offset;
    type Key = Offset;
    type Entry = (Offset, FilePosition);
    /// The smallest relative offset and the smallest position.
    type Bounds = (i64, i64);

    fn origin(base_offset: Offset) -> Self::Entry {
        (base_offset, FilePosition::ZERO)
    }

    fn decode(entry: &[u8; ENTRY_SIZE], base_offset: Offset) -> Self::Entry {
        let (relative_offset, position) = decode_fields(*entry);
        let position = u64::try_from(position).expect("positions are checked when an index is made");
        (
            absolute(relative_offset, base_offset),
            FilePosition::new(position),
        )
    }

    fn key(entry: &Self::Entry) -> Offset {
        entry.0
    }

    fn offset(entry: &Self::Entry) -> Offset {
        entry.0
    }

    fn check(
        entry: &[u8; ENTRY_SIZE],
        place: FilePosition,
        bounds: Self::Bounds,
    ) -> Result<Self::Bounds, IndexError> {
        let (relative_offset, position) = decode_fields(*entry);
        let (relative_offset, position) = (i64::from(relative_offset), i64::from(position));
        let place = (Self::FILE, place);
        check_at_least(place, "relative offset", bounds.0, relative_offset)?;
        check_at_least(place, "position", bounds.1, position)?;
        Ok((relative_offset.saturating_add(1), position.saturating_add(1)))
    }
}

fn decode_fields(entry: [u8; ENTRY_SIZE]) -> (i32, i32) {
    let mut rest = entry.as_slice();
    (
        i32::from_be_bytes(take(&mut rest)),
        i32::from_be_bytes(take(&mut rest)),
    )
}

fn encode_fields(relative_offset: i32, position: i32) -> [u8; ENTRY_SIZE] {
    let mut entry = [0; ENTRY_SIZE];
    let (first, second) = entry.split_at_mut(RELATIVE_OFFSET_LENGTH);
    first.copy_from_slice(&relative_offset.to_be_bytes());
    second.copy_from_slice(&position.to_be_bytes());
    entry
}

impl OffsetIndex {
    /// Adds an entry: the batch that begins at `position` ends with `offset`.
    ///
    /// # Errors
    /// [`PushError`]: offset and position do not both increase; the limit is reached, or 31 bits do not hold the
    /// offset or the position.
    pub fn try_push(&mut self, offset: Offset, position: FilePosition) -> Result<(), PushError> {
        let (last_offset, last_position) = self.last();
        let is_behind = if self.entry_count() == 0 {
            self.base_offset() <= offset
        } else {
            last_offset < offset && last_position < position
        };
        if !is_behind {
            return Err(PushError::Disordered {
                file: IndexFile::Offset,
                offset,
                last_offset,
            });
        }
        let relative_offset = relative(offset, self.base_offset()).filter(|_| !self.is_full());
        let (Some(relative_offset), Ok(position)) = (relative_offset, i32::try_from(position.get())) else {
            return Err(PushError::Full {
                file: IndexFile::Offset,
                entry_count: self.entry_count(),
            });
        };
        self.push(encode_fields(relative_offset, position));
        Ok(())
    }

    /// Whether another entry would exceed the limit of bytes.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.places_left() == 0
    }

    /// Whether an entry (and a segment of this base offset) can name the offset at all. Asked before a
    /// batch is appended, because a segment whose offsets leave 31 bits must be rolled first.
    #[must_use]
    pub fn can_name(&self, offset: Offset) -> bool {
        relative(offset, self.base_offset()).is_some()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const BASE: Offset = Offset::new(1000);

    fn entry(offset: i64, position: u64) -> (Offset, FilePosition) {
        (Offset::new(offset), FilePosition::new(position))
    }

    fn index_of(entries: &[(i64, u64)]) -> OffsetIndex {
        let mut index = OffsetIndex::new(BASE, 1024);
        for &(offset, position) in entries {
            index
                .try_push(Offset::new(offset), FilePosition::new(position))
                .unwrap();
        }
        index
    }

    fn parse(bytes: &[u8]) -> Result<OffsetIndexView, IndexError> {
        OffsetIndexView::parse(Bytes::copy_from_slice(bytes), BASE)
    }

    #[test]
    fn golden_bytes() {
        let index = index_of(&[(1009, 4096), (1300, 0x0001_2345)]);
        let golden = [0, 0, 0, 9, 0, 0, 0x10, 0, 0, 0, 1, 0x2c, 0, 1, 0x23, 0x45];
        assert_eq!(index.bytes(), golden);
        let view = parse(&golden).unwrap();
        assert_eq!(
            view.iter().collect::<Vec<_>>(),
            [entry(1009, 4096), entry(1300, 0x0001_2345)]
        );
        assert_eq!(index.seal().bytes(), golden);
    }

    #[test]
    fn lookup_finds_the_last_entry_at_or_below() {
        let index = index_of(&[(1009, 100), (1020, 200), (1030, 300)]);
        let sealed = index.clone().seal();
        for (target, found) in [
            (0, (1000, 0)),
            (1008, (1000, 0)),
            (1009, (1009, 100)),
            (1019, (1009, 100)),
            (1029, (1020, 200)),
            (1030, (1030, 300)),
            (i64::MAX, (1030, 300)),
        ] {
            assert_eq!(
                index.lookup(Offset::new(target)),
                entry(found.0, found.1),
                "{target}"
            );
            assert_eq!(
                sealed.lookup(Offset::new(target)),
                entry(found.0, found.1),
                "{target}"
            );
        }
        assert_eq!(
            OffsetIndex::new(BASE, 8).lookup(Offset::new(5000)),
            entry(1000, 0)
        );
        assert_eq!(OffsetIndex::new(BASE, 8).last(), entry(1000, 0));
    }

    #[test]
    fn full_when_the_limit_or_31_bits_are_used_up() {
        let mut index = OffsetIndex::new(BASE, 20);
        index.try_push(Offset::new(1001), FilePosition::new(1)).unwrap();
        let far = Offset::new(1001 + i64::from(i32::MAX));
        let full = PushError::Full {
            file: IndexFile::Offset,
            entry_count: 1,
        };
        assert!(!index.can_name(far) && index.can_name(Offset::new(far.get() - 1)));
        assert_eq!(index.try_push(far, FilePosition::new(2)), Err(full));
        assert_eq!(
            index.try_push(Offset::new(1002), FilePosition::new(1 << 31)),
            Err(full)
        );
        index
            .try_push(Offset::new(far.get() - 1), FilePosition::new((1 << 31) - 1))
            .unwrap();
        assert!(index.is_full());
        let full = PushError::Full {
            file: IndexFile::Offset,
            entry_count: 2,
        };
        let beyond = FilePosition::new(1 << 31);
        assert_eq!(index.try_push(far, beyond), Err(full));
        assert_eq!(parse(index.bytes()).unwrap().last(), index.last());
    }

    #[test]
    fn an_entry_that_does_not_increase_is_refused() {
        let mut index = index_of(&[(1009, 100)]);
        for (offset, position) in [(1009, 200), (1008, 200), (1010, 100), (0, 0), (i64::MIN, 101)] {
            let (offset, position) = entry(offset, position);
            let last_offset = Offset::new(1009);
            let error = PushError::Disordered {
                file: IndexFile::Offset,
                offset,
                last_offset,
            };
            assert_eq!(index.try_push(offset, position), Err(error));
        }
        let mut empty = OffsetIndex::new(BASE, 1024);
        assert!(empty.try_push(Offset::new(999), FilePosition::ZERO).is_err());
        assert_eq!(empty.try_push(BASE, FilePosition::ZERO), Ok(()));
        assert_eq!(index.entry_count(), 1);
    }

    #[test]
    fn truncation_drops_what_lies_at_or_behind() {
        for (offset, kept) in [(0, 0), (1009, 0), (1010, 1), (1020, 1), (1021, 2), (9999, 2)] {
            let mut index = index_of(&[(1009, 100), (1020, 200)]);
            index.truncate_to(Offset::new(offset));
            assert_eq!(index.entry_count(), kept, "{offset}");
        }
        let mut index = index_of(&[(1009, 100), (1020, 200)]).seal().reopen(1024);
        index.truncate_to(Offset::new(1020));
        index.try_push(Offset::new(1015), FilePosition::new(150)).unwrap();
        assert_eq!(
            index.entries().iter().collect::<Vec<_>>(),
            [entry(1009, 100), entry(1015, 150)]
        );
    }

    #[test]
    fn a_preallocated_tail_is_left_out() {
        let index = index_of(&[(1009, 100), (1020, 200)]);
        let with_tail = [index.bytes(), &[0; 64]].concat();
        assert_eq!(parse(&with_tail).unwrap().bytes(), index.bytes());
        assert_eq!(parse(&[0; 64]).unwrap().entry_count(), 0);
        let origin = index_of(&[(1000, 0)]);
        assert_eq!(parse(origin.bytes()).unwrap().entry_count(), 1);
        assert_eq!(parse(&[]).unwrap().entry_count(), 0);
    }

    #[test]
    fn damage_is_named() {
        let sound = index_of(&[(1009, 100), (1020, 200), (1030, 300)])
            .bytes()
            .to_vec();
        assert_eq!(
            parse(&sound[..23]).unwrap_err(),
            IndexError::Length {
                file: IndexFile::Offset,
                length: 23,
                entry_size: 8
            }
        );
        let damaged = |at: usize, value: i32| {
            let mut bytes = sound.clone();
            bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
            parse(&bytes).unwrap_err()
        };
        let too_small = |position, field, at_least, found| IndexError::TooSmall {
            file: IndexFile::Offset,
            position: FilePosition::new(position),
            field,
            at_least,
            found,
        };
        assert_eq!(damaged(0, -1), too_small(0, "relative offset", 0, -1));
        assert_eq!(
            damaged(4, i32::MIN),
            too_small(0, "position", 0, i64::from(i32::MIN))
        );
        assert_eq!(damaged(8, 9), too_small(8, "relative offset", 10, 9));
        assert_eq!(damaged(20, 200), too_small(16, "position", 201, 200));
        let zero_inside = [&sound[..8], &[0; 8], &sound[16..]].concat();
        assert_eq!(
            parse(&zero_inside).unwrap_err(),
            too_small(8, "relative offset", 10, 0)
        );
        assert_eq!(
            damaged(8, 9).to_string(),
            "offset index: entry at 8: relative offset should be at least 10, found 9"
        );
    }

    #[test]
    fn a_base_offset_at_the_end_of_its_range_does_not_panic() {
        let view = OffsetIndexView::parse(
            Bytes::from_static(&[0, 0, 0, 9, 0, 0, 0, 1]),
            Offset::new(i64::MAX),
        );
        assert_eq!(view.unwrap().last(), entry(i64::MAX, 1));
    }
}
