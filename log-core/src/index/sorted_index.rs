//! An index whose entries have one width and one order: growing in memory, or as a finished file.
//!
//! [`GrowingIndex`] belongs to an active segment, [`IndexView`] looks at a finished file without copying it. Both hold
//! the file's own bytes and read them through [`Entries`]. What an entry is made of, a [`Layout`] says; when one is
//! taken, the index itself (`offset_index`, `time_index`).

use std::fmt::Debug;
use std::marker::PhantomData;

use bytes::Bytes;

use super::entry::{entry_position, written_count};
use super::error::{IndexError, IndexFile};
use crate::model::{FilePosition, Offset};

/// How the entries of one index look, `SIZE` bytes each, and in which order they stand.
pub trait Layout<const SIZE: usize>: Debug + Clone + Copy {
    /// Which file it is.
    const FILE: IndexFile;
    /// What entries are looked up by.
    type Key: PartialOrd + Copy;
    /// What an entry says.
    type Entry: Copy;
    /// The smallest that the fields of the next entry may be.
    type Bounds: Default;

    /// What is said where there is no entry: the beginning of the segment.
    fn origin(base_offset: Offset) -> Self::Entry;

    /// Reads an entry that was checked.
    fn decode(entry: &[u8; SIZE], base_offset: Offset) -> Self::Entry;

    /// What the entry is found by.
    fn key(entry: &Self::Entry) -> Self::Key;

    /// The offset in it.
    fn offset(entry: &Self::Entry) -> Offset;

    /// Checks an entry's fields against what the ones before allow, and returns what it allows the next.
    ///
    /// # Errors
    /// [`IndexError::TooSmall`], with the `position` that the entry stands at.
    fn check(
        entry: &[u8; SIZE],
        position: FilePosition,
        bounds: Self::Bounds,
    ) -> Result<Self::Bounds, IndexError>;
}

/// Reads entries where they lie.
#[derive(Debug, Clone, Copy)]
pub struct Entries<'a, L, const SIZE: usize> {
    base_offset: Offset,
    slots: &'a [[u8; SIZE]],
    layout: PhantomData<L>,
}

impl<'a, L: Layout<SIZE>, const SIZE: usize> Entries<'a, L, SIZE> {
    fn new(base_offset: Offset, bytes: &'a [u8]) -> Self {
        Self {
            base_offset,
            slots: bytes.as_chunks().0,
            layout: PhantomData,
        }
    }

    /// The last entry at or below `target`, or the beginning of the segment when there is none.
    #[must_use]
    pub fn lookup(self, target: L::Key) -> L::Entry {
        self.before(self.count_while(|entry| L::key(entry) <= target))
    }

    /// The last entry, or the beginning of the segment when there is none.
    #[must_use]
    pub fn last(self) -> L::Entry {
        self.before(self.slots.len())
    }

    /// How many entries there are.
    #[must_use]
    pub fn entry_count(self) -> usize {
        self.slots.len()
    }

    /// All entries, in order.
    pub fn iter(self) -> impl Iterator<Item = L::Entry> + 'a
    where
        L: 'a,
    {
        let base_offset = self.base_offset;
        self.slots.iter().map(move |entry| L::decode(entry, base_offset))
    }

    fn count_while(self, holds: impl Fn(&L::Entry) -> bool) -> usize {
        self.slots
            .partition_point(|entry| holds(&L::decode(entry, self.base_offset)))
    }

    fn before(self, slot: usize) -> L::Entry {
        let entry = slot.checked_sub(1).and_then(|slot| self.slots.get(slot));
        entry.map_or_else(
            || L::origin(self.base_offset),
            |entry| L::decode(entry, self.base_offset),
        )
    }
}

/// The index of an active segment, in memory. The file's bytes are [`GrowingIndex::bytes`].
#[derive(Debug, Clone)]
pub struct GrowingIndex<L, const SIZE: usize> {
    base_offset: Offset,
    bytes: Vec<u8>,
    bytes_max: usize,
    layout: PhantomData<L>,
}

impl<L: Layout<SIZE>, const SIZE: usize> GrowingIndex<L, SIZE> {
    /// An empty index that holds at most `bytes_max` bytes.
    #[must_use]
    pub fn new(base_offset: Offset, bytes_max: u64) -> Self {
        Self {
            base_offset,
            bytes: Vec::new(),
            bytes_max: usize::try_from(bytes_max).unwrap_or(usize::MAX),
            layout: PhantomData,
        }
    }

    /// Drops all entries whose offset lies at or behind `offset`.
    pub fn truncate_to(&mut self, offset: Offset) {
        let kept = self.entries().count_while(|entry| L::offset(entry) < offset);
        self.bytes.truncate(kept.saturating_mul(SIZE));
    }

    /// Drops those entries before slot `end` that `keep`, asked in order, does not want.
    pub fn thin(&mut self, end: usize, mut keep: impl FnMut(L::Entry) -> bool) {
        let end = end.min(self.entry_count());
        let mut kept = 0_usize;
        for slot in 0..end {
            let place = slot.saturating_mul(SIZE);
            let entry = self.bytes.get(place..).and_then(<[u8]>::first_chunk);
            if entry.is_some_and(|entry| keep(L::decode(entry, self.base_offset))) {
                let to = kept.saturating_mul(SIZE);
                self.bytes.copy_within(place..place.saturating_add(SIZE), to);
                kept = kept.saturating_add(1);
            }
        }
        self.bytes
            .drain(kept.saturating_mul(SIZE)..end.saturating_mul(SIZE));
    }

    /// See [`Entries::lookup`].
    #[must_use]
    pub fn lookup(&self, target: L::Key) -> L::Entry {
        self.entries().lookup(target)
    }

    /// See [`Entries::last`].
    #[must_use]
    pub fn last(&self) -> L::Entry {
        self.entries().last()
    }

    /// How many entries there are.
    #[must_use]
    pub fn entry_count(&self) -> usize {
        self.entries().entry_count()
    }

    /// The entries, to read.
    #[must_use]
    pub fn entries(&self) -> Entries<'_, L, SIZE> {
        Entries::new(self.base_offset, &self.bytes)
    }

    /// The contents of the file.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The finished index of a segment that is rolled; the bytes are not copied.
    #[must_use]
    pub fn seal(self) -> IndexView<L, SIZE> {
        IndexView {
            base_offset: self.base_offset,
            bytes: self.bytes.into(),
            layout: PhantomData,
        }
    }

    /// The offset of the segment that it belongs to.
    pub(super) fn base_offset(&self) -> Offset {
        self.base_offset
    }

    /// How many more entries the limit of bytes allows.
    pub(super) fn places_left(&self) -> usize {
        self.bytes_max.saturating_sub(self.bytes.len()).div_euclid(SIZE)
    }

    /// Adds an entry that the index found good: its fields, one behind the other.
    pub(super) fn push(&mut self, entry: [u8; SIZE]) {
        self.bytes.extend_from_slice(&entry);
    }
}

/// The index of a sealed segment: the bytes of its file, from a map or a plain read.
#[derive(Debug, Clone)]
pub struct IndexView<L, const SIZE: usize> {
    base_offset: Offset,
    bytes: Bytes,
    layout: PhantomData<L>,
}

impl<L: Layout<SIZE>, const SIZE: usize> IndexView<L, SIZE> {
    /// Checks the contents of a file and looks at them. A tail of zeros, as Kafka leaves it after an
    /// unclean stop, is left out.
    ///
    /// # Errors
    /// [`IndexError`]: the file ends within an entry, or the entries are not in order.
    pub fn parse(mut bytes: Bytes, base_offset: Offset) -> Result<Self, IndexError> {
        let (entries, rest) = bytes.as_chunks::<SIZE>();
        if !rest.is_empty() {
            return Err(IndexError::Length {
                file: L::FILE,
                length: bytes.len(),
                entry_size: SIZE,
            });
        }
        let entry_count = written_count(entries);
        let mut bounds = L::Bounds::default();
        for (slot, entry) in entries.iter().take(entry_count).enumerate() {
            bounds = L::check(entry, entry_position(slot, SIZE), bounds)?;
        }
        bytes.truncate(entry_count.saturating_mul(SIZE));
        Ok(Self {
            base_offset,
            bytes,
            layout: PhantomData,
        })
    }

    /// See [`Entries::lookup`].
    #[must_use]
    pub fn lookup(&self, target: L::Key) -> L::Entry {
        self.entries().lookup(target)
    }

    /// See [`Entries::last`].
    #[must_use]
    pub fn last(&self) -> L::Entry {
        self.entries().last()
    }

    /// How many entries there are.
    #[must_use]
    pub fn entry_count(&self) -> usize {
        self.entries().entry_count()
    }

    /// All entries, in order.
    pub fn iter(&self) -> impl Iterator<Item = L::Entry> + '_ {
        self.entries().iter()
    }

    /// The entries, to read.
    #[must_use]
    pub fn entries(&self) -> Entries<'_, L, SIZE> {
        Entries::new(self.base_offset, &self.bytes)
    }

    /// The contents of the file, without a tail of zeros.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// An index that grows from here, for a segment that is opened as the active one. Copies.
    #[must_use]
    pub fn reopen(&self, bytes_max: u64) -> GrowingIndex<L, SIZE> {
        GrowingIndex {
            bytes: self.bytes.to_vec(),
            ..GrowingIndex::new(self.base_offset, bytes_max)
        }
    }
}
