//! One stretch of a partition's log: its file, its indexes, and how they are appended to and read.
//!
//! Owns the `.log`, `.index`, `.timeindex` and `.txnindex` files of one base offset. One writer appends; any number of
//! readers read below the published size, which is raised only after the bytes are in the file. It decides
//! nothing: when to roll, flush, delete or cut is the log's business.
//!
//! Invariant: bytes below the published size never change, and no reader looks behind it.

use std::io::IoSlice;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::RwLock;

use crate::fs::{File, FileSystem, FsError};
use crate::index::offset_index::OffsetIndexView;
use crate::index::time_index::TimeIndexView;
use crate::model::{FilePosition, Offset, TimestampMs};
use crate::record::batch_header::{BatchHeader, HEADER_LENGTH};
use crate::segment::aborted::{self, AbortedIndex, AbortedIndexError};
use crate::segment::file_name::{FileKind, segment_file};
use crate::segment::indexes::SegmentIndexes;
use crate::segment::scan::{ScanError, Walk};
use crate::segment::space::{Preparer, TailSpace, cut_to};
use crate::segment::view::View;

/// So much behind a slice that came from the disk is read ahead. More than is read at a time would only keep syncs waiting.
pub(super) const SLICE_AHEAD: u64 = 128 << 10;

/// What a segment needs of the world, and how large it may become.
#[derive(Debug, Clone)]
pub struct SegmentSettings {
    /// The partition's directory.
    pub directory: Arc<Path>,
    /// The files.
    pub file_system: Arc<dyn FileSystem>,
    /// The segment's largest size in bytes.
    pub bytes_max: u64,
    /// The largest size of one index in bytes.
    pub index_bytes_max: u64,
    /// An index entry is made after this many bytes.
    pub index_interval_bytes: u64,
}

/// A batch ready to be written: its header as it goes to disk, and the bytes behind the header.
#[derive(Debug)]
pub struct StampedBatch<'a> {
    /// The header, read back from `stamp`.
    pub header: BatchHeader,
    /// The first [`HEADER_LENGTH`] bytes.
    pub stamp: [u8; HEADER_LENGTH],
    /// The rest.
    pub body: &'a [u8],
}

/// Why an append failed, and what that means for the file.
#[derive(Debug)]
pub enum SegmentAppendError {
    /// Space could not be allocated; not a byte was written, and the segment is as it was.
    NotWritten(FsError),
    /// The write itself failed; what stands behind the published size is unknown.
    Unknown(FsError),
}

/// An open segment file with the way it is read. Dropped when the segment lies idle.
#[derive(Debug)]
pub struct OpenSegment {
    file: Arc<dyn File>,
    view: View,
    /// Up to where the view reaches.
    capacity: u64,
}

impl OpenSegment {
    /// How it is read.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Brings what was written through this handle to the disk.
    ///
    /// # Errors
    /// The system's; everything since the last good sync must then be taken for lost.
    pub fn sync(&self) -> Result<(), FsError> {
        self.file.sync_data()
    }
}

/// The indexes, where they are at present.
#[derive(Debug)]
pub(super) enum Indexes {
    /// In memory, still growing or not yet stored.
    Building(SegmentIndexes),
    /// In their files; read when first needed.
    Stored(Option<Arc<StoredIndexes>>),
}

/// The indexes of a sealed segment, read from their files.
#[derive(Debug)]
pub(super) struct StoredIndexes {
    pub(super) offsets: OffsetIndexView,
    pub(super) times: TimeIndexView,
}

/// Where a batch stands, and its header.
#[derive(Debug, Clone, Copy)]
pub struct BatchPlace {
    /// Its first byte.
    pub position: FilePosition,
    /// Its header.
    pub header: BatchHeader,
}

/// Whether a read may wait for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// The caller runs where blocking is allowed: cold pages are brought in, and their errors returned.
    MayBlock,
    /// The caller must not wait: cold pages make the read answer "would block".
    MustNotBlock,
}

/// One segment.
#[derive(Debug)]
pub struct Segment {
    pub(super) base_offset: Offset,
    pub(super) settings: SegmentSettings,
    /// Published end of the records, in bytes.
    size: AtomicU64,
    /// Published end of the records, as an offset.
    next_offset: AtomicI64,
    /// The first batch's largest timestamp, which the age of the segment is counted from.
    first_timestamp: AtomicI64,
    /// What stands behind this position was written by this process.
    warm_from: u64,
    space: TailSpace,
    sealed: AtomicBool,
    /// Whether its file ends with its last record, on the disk, too. Only ever of a sealed one.
    is_trimmed: AtomicBool,
    /// Whether its files are no longer found under their names, so that what is open must stay open.
    is_pinned: AtomicBool,
    pub(super) touched: AtomicBool,
    open: RwLock<Option<Arc<OpenSegment>>>,
    pub(super) indexes: RwLock<Indexes>,
    pub(super) aborted: RwLock<AbortedIndex>,
}

impl Segment {
    /// Makes the file of a new segment. Its name is durable after the directory is synced.
    ///
    /// # Errors
    /// The file system's; nothing is left behind that a later attempt would stumble over.
    pub fn create(settings: SegmentSettings, base_offset: Offset) -> Result<Self, FsError> {
        let path = segment_file(&settings.directory, base_offset, FileKind::Log);
        // A file of this name can only be an empty one, left behind when a roll failed half way.
        if settings.file_system.exists(&path)? {
            settings.file_system.remove_file(&path)?;
        }
        let file = settings.file_system.create(&path)?;
        let capacity = settings.bytes_max;
        let view = match View::new(&file, capacity) {
            Ok(view) => view,
            Err(error) => {
                // The log goes on behind the place that the name stands for: it must not be found there.
                settings.file_system.remove_file(&path)?;
                return Err(error);
            }
        };
        let indexes = SegmentIndexes::new(
            base_offset,
            settings.index_bytes_max,
            settings.index_interval_bytes,
        );
        let segment = Self::assemble(
            settings,
            base_offset,
            0,
            base_offset,
            Indexes::Building(indexes),
            false,
        );
        *segment.open.write() = Some(Arc::new(OpenSegment { file, view, capacity }));
        Ok(segment)
    }

    /// An existing segment that is appended to: its records end at `size` and `next_offset`, and `indexes`
    /// cover them. Its index of aborted transactions is to be [restored](Self::restore_aborted); `has_aborted`: there is a file of it.
    #[must_use]
    pub fn resume(
        settings: SegmentSettings,
        base_offset: Offset,
        size: u64,
        next_offset: Offset,
        indexes: SegmentIndexes,
        first_timestamp: TimestampMs,
        has_aborted: bool,
    ) -> Self {
        let segment = Self::assemble(
            settings,
            base_offset,
            size,
            next_offset,
            Indexes::Building(indexes),
            has_aborted,
        );
        segment
            .first_timestamp
            .store(first_timestamp.get(), Ordering::Relaxed);
        segment
    }

    /// An existing segment that is complete: nothing is opened until it is read. `has_aborted`: it has a file for aborted
    /// transactions.
    #[must_use]
    pub fn sealed(
        settings: SegmentSettings,
        base_offset: Offset,
        size: u64,
        next_offset: Offset,
        has_aborted: bool,
    ) -> Self {
        let indexes = Indexes::Stored(None);
        let segment = Self::assemble(settings, base_offset, size, next_offset, indexes, has_aborted);
        segment.sealed.store(true, Ordering::Relaxed);
        segment
    }

    fn assemble(
        settings: SegmentSettings,
        base_offset: Offset,
        size: u64,
        next_offset: Offset,
        indexes: Indexes,
        has_aborted: bool,
    ) -> Self {
        Self {
            base_offset,
            size: AtomicU64::new(size),
            next_offset: AtomicI64::new(next_offset.get()),
            first_timestamp: AtomicI64::new(TimestampMs::NONE.get()),
            warm_from: size,
            space: TailSpace::new(size, settings.bytes_max.max(size)),
            sealed: AtomicBool::new(false),
            is_trimmed: AtomicBool::new(false),
            is_pinned: AtomicBool::new(false),
            touched: AtomicBool::new(true),
            open: RwLock::new(None),
            indexes: RwLock::new(indexes),
            aborted: aborted::of_file(has_aborted),
            settings,
        }
    }

    /// The offset its name carries; no record in it lies before.
    #[must_use]
    pub fn base_offset(&self) -> Offset {
        self.base_offset
    }

    /// The end of its records: the offset behind the last one.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        Offset::new(self.next_offset.load(Ordering::Acquire))
    }

    /// The published size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// The largest timestamp of its first batch; `NONE` while it is empty.
    #[must_use]
    pub fn first_timestamp(&self) -> TimestampMs {
        TimestampMs::new(self.first_timestamp.load(Ordering::Relaxed))
    }

    /// Whether a batch that ends at `last_offset` cannot be named by the indexes any more.
    #[must_use]
    pub fn indexes_are_full(&self, last_offset: Offset) -> bool {
        match &*self.indexes.read() {
            Indexes::Building(indexes) => indexes.is_full() || !indexes.offsets.can_name(last_offset),
            Indexes::Stored(_) => true,
        }
    }

    /// Appends the batches with one vectored write and publishes them. Returns the handle that must be synced.
    ///
    /// # Errors
    /// [`SegmentAppendError`] says whether the segment is still what it was.
    ///
    /// # Panics
    /// When the segment is sealed.
    pub fn append(&self, batches: &[StampedBatch<'_>]) -> Result<Arc<OpenSegment>, SegmentAppendError> {
        assert!(!self.sealed.load(Ordering::Relaxed), "append to a sealed segment");
        let start = self.size();
        let bytes: usize = batches.iter().map(|batch| batch.header.size()).sum();
        let end = start.saturating_add(u64::try_from(bytes).expect("usize fits u64"));
        let open = self.open_to(end).map_err(SegmentAppendError::NotWritten)?;
        self.space
            .reserve(open.file.as_ref(), end)
            .map_err(SegmentAppendError::NotWritten)?;
        write_batches(open.file.as_ref(), start, batches).map_err(SegmentAppendError::Unknown)?;

        let mut position = FilePosition::new(start);
        if let Indexes::Building(indexes) = &mut *self.indexes.write() {
            for batch in batches {
                indexes.note(&batch.header, position);
                position = position.plus(u64::try_from(batch.header.size()).expect("usize fits u64"));
            }
        }
        if let (Some(first), Some(last)) = (batches.first(), batches.last()) {
            if start == 0 {
                self.first_timestamp
                    .store(first.header.max_timestamp.get(), Ordering::Relaxed);
            }
            self.next_offset
                .store(last.header.next_offset().get(), Ordering::Release);
        }
        self.size.store(end, Ordering::Release);
        Ok(open)
    }

    /// Makes sure that `bytes` more can be appended: for want of space, no append of that much will fail.
    ///
    /// # Errors
    /// Opening the file, or allocating; nothing was written.
    pub fn reserve(&self, bytes: u64) -> Result<(), FsError> {
        let end = self.size().saturating_add(bytes);
        let open = self.open_to(end)?;
        self.space.reserve(open.file.as_ref(), end)
    }

    /// The handle through which it is written and synced; whoever must sync keeps it until then, because
    /// the system reports a failed write-back to the handle that was open at the time.
    ///
    /// # Errors
    /// Opening or mapping the file.
    pub fn open(&self) -> Result<Arc<OpenSegment>, FsError> {
        self.touched.store(true, Ordering::Relaxed);
        if let Some(open) = &*self.open.read() {
            return Ok(Arc::clone(open));
        }
        let mut slot = self.open.write();
        if let Some(open) = &*slot {
            return Ok(Arc::clone(open));
        }
        let path = segment_file(&self.settings.directory, self.base_offset, FileKind::Log);
        let file_system = self.settings.file_system.as_ref();
        let (file, capacity) = if self.sealed.load(Ordering::Relaxed) {
            (file_system.open_read_only(&path)?, self.size())
        } else {
            (file_system.open(&path)?, self.settings.bytes_max.max(self.size()))
        };
        let view = View::new(&file, capacity)?;
        let open = Arc::new(OpenSegment { file, view, capacity });
        *slot = Some(Arc::clone(&open));
        Ok(open)
    }

    /// The same with a view that reaches to `end`: a batch may be larger than the whole segment was meant to
    /// become when it was made, if `segment.bytes` was raised since.
    fn open_to(&self, end: u64) -> Result<Arc<OpenSegment>, FsError> {
        let open = self.open()?;
        if end <= open.capacity {
            return Ok(open);
        }
        let larger = Arc::new(OpenSegment {
            file: Arc::clone(&open.file),
            view: View::new(&open.file, end)?,
            capacity: end,
        });
        *self.open.write() = Some(Arc::clone(&larger));
        Ok(larger)
    }

    /// The bytes of the range as they stand in the file, without a copy where the file is mapped; `None`
    /// when that would wait for the disk and the caller must not.
    ///
    /// # Errors
    /// The file system's, media errors among them.
    ///
    /// # Panics
    /// When the range reaches behind the published size.
    pub fn slice(&self, range: Range<u64>, patience: Patience) -> Result<Option<Bytes>, FsError> {
        assert!(range.end <= self.size(), "read behind the published size");
        let open = self.open()?;
        if !self.is_warm(&open, range.clone()) {
            if patience == Patience::MustNotBlock {
                return Ok(None);
            }
            open.view.populate(range.clone())?;
            // Who reads old records mostly goes on, and the disk need not rest while these are sent.
            let ahead_end = range.end.saturating_add(SLICE_AHEAD).min(self.size());
            open.view.read_ahead(range.end..ahead_end);
        }
        open.view.bytes(range).map(Some)
    }

    /// Ends the appending: the last time entry is made, and the indexes wait to be stored.
    pub fn seal(&self) {
        if let Indexes::Building(indexes) = &mut *self.indexes.write() {
            indexes.finish();
        }
        self.sealed.store(true, Ordering::Release);
    }

    /// After [`Self::seal`]: nothing stands behind the records, and a sync of the file has just said so. That need not be done again
    /// when it is [completed](Self::complete).
    ///
    /// # Panics
    /// When the segment is still appended to.
    pub fn note_trimmed(&self) {
        assert!(
            self.sealed.load(Ordering::Relaxed),
            "an active segment has space behind its end"
        );
        self.is_trimmed.store(true, Ordering::Relaxed);
    }

    /// Stores the indexes as they are, so that a recovery need not make them again. Blocks.
    ///
    /// # Errors
    /// The file system's; the indexes stay in memory.
    pub fn store_indexes(&self) -> Result<(), FsError> {
        self.store_aborted()?;
        let files = match &*self.indexes.read() {
            Indexes::Building(indexes) => indexes.encode(),
            Indexes::Stored(_) => return Ok(()),
        };
        for (kind, contents) in files {
            let path = segment_file(&self.settings.directory, self.base_offset, kind);
            self.settings.file_system.replace(&path, &contents)?;
        }
        Ok(())
    }

    /// After [`Self::seal`]: stores the indexes, cuts off the prepared tail, and forgets what can be read
    /// again. `Ok` promises that all of it is on the disk. Blocks.
    ///
    /// # Errors
    /// The file system's; it can be tried again.
    ///
    /// # Panics
    /// When the segment is still appended to.
    pub fn complete(&self) -> Result<(), FsError> {
        assert!(self.sealed.load(Ordering::Relaxed), "complete an active segment");
        self.store_indexes()?;
        if !self.is_trimmed.load(Ordering::Relaxed) {
            self.trim()?;
        }
        *self.indexes.write() = Indexes::Stored(None);
        *self.open.write() = None;
        Ok(())
    }

    /// Cuts off the prepared tail, durably.
    fn trim(&self) -> Result<(), FsError> {
        let path = segment_file(&self.settings.directory, self.base_offset, FileKind::Log);
        // A handle of its own: a failed write-back must be reported to the one that acknowledgements rest on.
        let file = self.settings.file_system.open(&path)?;
        cut_to(file.as_ref(), self.size())?;
        file.sync_data()
    }

    /// Whether the writer will soon need more allocated space.
    #[must_use]
    pub fn is_short_of_space(&self) -> bool {
        !self.sealed.load(Ordering::Relaxed) && self.space.is_short(self.size())
    }

    /// Fills the next step behind the end with zeros, unless it was sealed meanwhile. Blocks; meant for the background.
    ///
    /// # Errors
    /// The file system's.
    pub fn prepare_space(&self, preparer: Preparer) -> Result<(), FsError> {
        if self.sealed.load(Ordering::Acquire) {
            return Ok(());
        }
        let open = self.open()?;
        let path = segment_file(&self.settings.directory, self.base_offset, FileKind::Log);
        let sync = self.settings.file_system.open(&path)?;
        self.space
            .prepare(open.file.as_ref(), sync.as_ref(), preparer, || self.size())
    }

    /// Asks the system to start writing out the given range, and promises nothing.
    ///
    /// # Errors
    /// The system's.
    pub fn start_writeback(&self, range: Range<u64>) -> Result<(), FsError> {
        self.open()?.file.start_writeback(range)
    }

    /// Gives up the map, the descriptor and the loaded indexes unless they were used since the last call.
    pub fn release_if_idle(&self) {
        if self.touched.swap(false, Ordering::Relaxed) {
            return;
        }
        // Asked under each lock: whoever pins says so first, and opens then.
        let is_pinned = || self.is_pinned.load(Ordering::Acquire);
        let mut open = self.open.write();
        if !is_pinned() {
            *open = None;
        }
        drop(open);
        if let Indexes::Stored(stored) = &mut *self.indexes.write()
            && !is_pinned()
        {
            *stored = None;
            self.release_aborted();
        }
    }

    /// Opens everything that a reader may ever want and keeps it open: other files are about to take its names, and
    /// whoever still has this segment must not read theirs. Blocks.
    ///
    /// # Errors
    /// The file system's, or the log's when its indexes had to be made again.
    pub fn pin(&self) -> Result<(), ScanError> {
        self.is_pinned.store(true, Ordering::Release);
        self.open()?;
        self.load_indexes()?;
        match self.aborted(Patience::MayBlock) {
            Err(AbortedIndexError::Storage(error)) => Err(error.into()),
            // Whoever asks finds the damage.
            Err(AbortedIndexError::Damaged(_)) | Ok(_) => Ok(()),
        }
    }

    /// Takes back a [`Self::pin`] behind which no file was touched: what lies idle may be closed again.
    pub fn unpin(&self) {
        self.is_pinned.store(false, Ordering::Release);
    }

    /// The largest timestamp of the first batch, read if need be. Blocks.
    ///
    /// # Errors
    /// Reading the file.
    pub fn first_batch_timestamp(&self) -> Result<TimestampMs, ScanError> {
        let known = self.first_timestamp();
        if known != TimestampMs::NONE || self.size() == 0 {
            return Ok(known);
        }
        let open = self.open()?;
        let first = Walk::lookup(open.view(), FilePosition::ZERO, self.size()).next_header()?;
        let timestamp = first.map_or(TimestampMs::NONE, |(_, header)| header.max_timestamp);
        self.first_timestamp.store(timestamp.get(), Ordering::Relaxed);
        Ok(timestamp)
    }

    /// The paths of all files that may belong to it, the log first.
    pub fn paths(&self) -> impl Iterator<Item = PathBuf> + '_ {
        FileKind::ALL
            .into_iter()
            .map(|kind| segment_file(&self.settings.directory, self.base_offset, kind))
    }

    /// What it was made with.
    #[must_use]
    pub fn settings(&self) -> &SegmentSettings {
        &self.settings
    }

    /// Whether the range can be read without waiting for the disk. Without a map nobody can tell; then what this
    /// process wrote is taken to be still in memory as long as the segment is active.
    pub(super) fn is_warm(&self, open: &OpenSegment, range: Range<u64>) -> bool {
        match open.view {
            View::Mapped(_) => open.view.is_resident(range),
            View::Plain(_) => {
                range.is_empty() || (self.warm_from <= range.start && !self.sealed.load(Ordering::Relaxed))
            }
        }
    }
}

/// One batch needs two parts and no allocation; several need one for the row of parts.
fn write_batches(file: &dyn File, position: u64, batches: &[StampedBatch<'_>]) -> Result<(), FsError> {
    if let [batch] = batches {
        return file.write_at(position, &[IoSlice::new(&batch.stamp), IoSlice::new(batch.body)]);
    }
    let parts: Vec<IoSlice<'_>> = batches
        .iter()
        .flat_map(|batch| [IoSlice::new(&batch.stamp), IoSlice::new(batch.body)])
        .collect();
    file.write_at(position, &parts)
}
