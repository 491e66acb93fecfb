//! Looking things up in a segment: batches by offset, offsets by time, by its indexes and a short walk behind them.
//!
//! Owns how the indexes are used: in memory while the segment is active, read from their files when first needed
//! afterwards. They are hints. What is missing, damaged, or leads to another batch than it names is made again
//! from the log.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use crate::fs::FsError;
use crate::index::offset_index::{OffsetEntries, OffsetIndexView};
use crate::index::time_index::{TimeEntries, TimeIndexView};
use crate::model::{FilePosition, Offset, TimestampMs};
use crate::record::batch_header::BatchHeader;
use crate::segment::file_name::{FileKind, segment_file};
use crate::segment::indexes::SegmentIndexes;
use crate::segment::scan::{ScanError, Walk};
use crate::segment::segment::{BatchPlace, Indexes, Patience, Segment, StoredIndexes};
use crate::segment::view::View;

/// Index files are small; anything larger than Kafka's own limit is not one.
const INDEX_LENGTH_MAX: u64 = i32::MAX as u64;

impl Segment {
    /// The largest timestamp in it and the last offset of its batch.
    ///
    /// # Errors
    /// Reading a sealed segment's index, or its log when the index is of no use. Blocks.
    pub fn max_timestamp(&self) -> Result<(TimestampMs, Offset), ScanError> {
        if let Indexes::Building(indexes) = &*self.indexes.read() {
            return Ok(indexes.max_timestamp());
        }
        let stored = self.stored_indexes()?;
        Ok(stored.times.last())
    }

    /// The first batch whose last offset is not below `target`, among the bytes below `end`.
    ///
    /// # Errors
    /// Anything that is not a batch below the published size is damage.
    pub fn find(
        &self,
        target: Offset,
        end: u64,
        patience: Patience,
    ) -> Result<Option<Option<BatchPlace>>, ScanError> {
        let Some(entry) = self.with_offsets(patience, |entries| entries.lookup(target))? else {
            return Ok(None);
        };
        match self.search(target, entry, end, patience)? {
            Search::Ended(place) => Ok(Some(place)),
            Search::WouldBlock => Ok(None),
            Search::Misled if patience == Patience::MustNotBlock => Ok(None),
            Search::Misled => {
                self.remake_indexes()?;
                match self.search(target, (self.base_offset, FilePosition::ZERO), end, patience)? {
                    Search::Ended(place) => Ok(Some(place)),
                    Search::WouldBlock | Search::Misled => Ok(None),
                }
            }
        }
    }

    /// Looks for the first batch whose last offset is not below `target`, from where `entry` says on.
    fn search(
        &self,
        target: Offset,
        entry: (Offset, FilePosition),
        end: u64,
        patience: Patience,
    ) -> Result<Search, ScanError> {
        let open = self.open()?;
        let mut walk = match patience {
            Patience::MustNotBlock => Walk::resident(open.view(), entry.1, end),
            Patience::MayBlock => Walk::lookup(open.view(), entry.1, end),
        };
        let mut is_first = true;
        loop {
            // The next header may stand megabytes further on, on a page that nobody has looked at.
            if patience == Patience::MustNotBlock
                && let Some(window) = walk.next_window()
                && !self.is_warm(&open, window)
            {
                return Ok(Search::WouldBlock);
            }
            let next = walk.next_header();
            if std::mem::take(&mut is_first) && !is_named_by(entry, &next) {
                return Ok(Search::Misled);
            }
            match next? {
                None => return Ok(Search::Ended(None)),
                Some((position, header)) if target <= header.last_offset() => {
                    return Ok(Search::Ended(Some(BatchPlace { position, header })));
                }
                Some(_) => {}
            }
        }
    }

    /// Where a walk has to begin that must not miss the batch of `target`. Blocks.
    ///
    /// # Errors
    /// Reading the index or the log.
    pub fn place_before(&self, target: Offset) -> Result<FilePosition, ScanError> {
        let entry = self.with_offsets(Patience::MayBlock, |entries| entries.lookup(target))?;
        let Some(entry) = entry.filter(|(_, position)| *position != FilePosition::ZERO) else {
            return Ok(FilePosition::ZERO);
        };
        let found = Walk::lookup(self.open()?.view(), entry.1, self.size()).next_header();
        if is_named_by(entry, &found) {
            return Ok(entry.1);
        }
        self.remake_indexes()?;
        Ok(FilePosition::ZERO)
    }

    /// The offset of the last time index entry whose timestamp is not above `target`; every record
    /// before it is at most that old. Blocks.
    ///
    /// # Errors
    /// Reading the index.
    pub fn offset_before_time(&self, target: TimestampMs) -> Result<Offset, ScanError> {
        let below = |entries: TimeEntries<'_>| entries.lookup(target).1;
        if let Indexes::Building(indexes) = &*self.indexes.read() {
            return Ok(below(indexes.times.entries()));
        }
        Ok(below(self.stored_indexes()?.times.entries()))
    }

    fn with_offsets<T>(
        &self,
        patience: Patience,
        ask: impl FnOnce(OffsetEntries<'_>) -> T,
    ) -> Result<Option<T>, ScanError> {
        match &*self.indexes.read() {
            Indexes::Building(indexes) => return Ok(Some(ask(indexes.offsets.entries()))),
            Indexes::Stored(Some(stored)) => return Ok(Some(ask(stored.offsets.entries()))),
            Indexes::Stored(None) => {}
        }
        if patience == Patience::MustNotBlock {
            return Ok(None);
        }
        let stored = self.stored_indexes()?;
        Ok(Some(ask(stored.offsets.entries())))
    }

    fn stored_indexes(&self) -> Result<Arc<StoredIndexes>, ScanError> {
        self.touched.store(true, Ordering::Relaxed);
        if let Indexes::Stored(Some(stored)) = &*self.indexes.read() {
            return Ok(Arc::clone(stored));
        }
        let stored = Arc::new(self.read_indexes()?);
        match &mut *self.indexes.write() {
            // Whoever was first may have read other files than are there now (see [`Segment::pin`]).
            Indexes::Stored(slot) => Ok(Arc::clone(slot.get_or_insert(stored))),
            Indexes::Building(_) => Ok(stored),
        }
    }

    /// Reads the indexes of a sealed segment, so that later look-ups do not.
    pub(super) fn load_indexes(&self) -> Result<(), ScanError> {
        if matches!(*self.indexes.read(), Indexes::Stored(None)) {
            self.stored_indexes()?;
        }
        Ok(())
    }

    /// Reads the index files, and makes the indexes again from the log when a file is missing or damaged.
    fn read_indexes(&self) -> Result<StoredIndexes, ScanError> {
        let offsets = self.read_index_file(FileKind::OffsetIndex)?;
        let times = self.read_index_file(FileKind::TimeIndex)?;
        if let (Some(offsets), Some(times)) = (offsets, times) {
            let offsets = OffsetIndexView::parse(offsets, self.base_offset);
            let times = TimeIndexView::parse(times, self.base_offset);
            if let (Ok(offsets), Ok(times)) = (offsets, times)
                && offsets.last().1.get() < self.size().max(1)
            {
                return Ok(StoredIndexes { offsets, times });
            }
        }
        self.indexes_from_log()
    }

    /// After an entry named a batch that is not there: the stored indexes are damaged, and those that the log gives
    /// take their place in memory. An active segment's look-ups go on without the entry.
    fn remake_indexes(&self) -> Result<(), ScanError> {
        if matches!(*self.indexes.read(), Indexes::Building(_)) {
            return Ok(());
        }
        let remade = Arc::new(self.indexes_from_log()?);
        if let Indexes::Stored(slot) = &mut *self.indexes.write() {
            *slot = Some(remade);
        }
        Ok(())
    }

    fn indexes_from_log(&self) -> Result<StoredIndexes, ScanError> {
        let open = self.open()?;
        let mut indexes = SegmentIndexes::new(
            self.base_offset,
            self.settings.index_bytes_max,
            self.settings.index_interval_bytes,
        );
        let mut walk = Walk::scan(open.view(), FilePosition::ZERO, self.size());
        while let Some((position, header)) = walk.next_header()? {
            indexes.note(&header, position);
        }
        indexes.finish();
        let (offsets, times) = indexes.into_views();
        Ok(StoredIndexes { offsets, times })
    }

    fn read_index_file(&self, kind: FileKind) -> Result<Option<Bytes>, FsError> {
        let path = segment_file(&self.settings.directory, self.base_offset, kind);
        let file_system = self.settings.file_system.as_ref();
        if !file_system.exists(&path)? {
            return Ok(None);
        }
        let file = file_system.open_read_only(&path)?;
        let length = file.length()?;
        if INDEX_LENGTH_MAX < length {
            return Ok(None);
        }
        View::new(&file, length)?.bytes(0..length).map(Some)
    }
}

/// How a search ended.
enum Search {
    /// At the batch, or at the end without one.
    Ended(Option<BatchPlace>),
    /// Going on would wait for the disk.
    WouldBlock,
    /// The index names a batch that is not there.
    Misled,
}

/// Whether the batch that was found is the one that the index entry names. An entry that leads elsewhere would make a
/// look-up skip records. The beginning of the segment needs no entry, and a disk that fails is another matter.
fn is_named_by(
    (last_offset, position): (Offset, FilePosition),
    found: &Result<Option<(FilePosition, BatchHeader)>, ScanError>,
) -> bool {
    match found {
        _ if position == FilePosition::ZERO => true,
        Ok(Some((_, header))) => header.last_offset() == last_offset,
        Err(ScanError::Storage(_)) => true,
        Ok(None) | Err(_) => false,
    }
}
