//! One stretch of a partition's log: its file, its indexes, and how they are appended to and read.
//!
//! Owns the `.log`, `.index` and `.timeindex` files of one base offset. One writer appends; any number of
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

use crate::fs::map::MapBudget;
use crate::fs::{File, FileSystem, FsError};
use crate::index::offset_index::{OffsetEntries, OffsetIndexView};
use crate::index::time_index::{TimeEntries, TimeIndexView};
use crate::model::{FilePosition, Offset, TimestampMs};
use crate::record::batch::{BatchHeader, HEADER_LENGTH};
use crate::segment::file_name::{FileKind, segment_file};
use crate::segment::indexes::SegmentIndexes;
use crate::segment::scan::{ScanError, WINDOW_LOOKUP, Walk};
use crate::segment::space::TailSpace;
use crate::segment::view::View;

/// Index files are small; anything larger than Kafka's own limit is not one.
const INDEX_LENGTH_MAX: u64 = i32::MAX as u64;

/// What a segment needs of the world, and how large it may become.
#[derive(Debug, Clone)]
pub struct SegmentSettings {
    /// The partition's directory.
    pub directory: Arc<Path>,
    /// The files.
    pub file_system: Arc<dyn FileSystem>,
    /// How many maps there may be.
    pub maps: MapBudget,
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
enum Indexes {
    /// In memory, still growing or not yet stored.
    Building(SegmentIndexes),
    /// In their files; read when first needed.
    Stored(Option<Arc<StoredIndexes>>),
}

/// The indexes of a sealed segment, read from their files.
#[derive(Debug)]
pub struct StoredIndexes {
    offsets: OffsetIndexView,
    times: TimeIndexView,
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
    base_offset: Offset,
    settings: SegmentSettings,
    /// Published end of the records, in bytes.
    size: AtomicU64,
    /// Published end of the records, as an offset.
    next_offset: AtomicI64,
    /// The first batch's largest timestamp, which the age of the segment is counted from.
    first_timestamp: AtomicI64,
    /// Pages behind this position were written by this process and are taken to be in memory.
    warm_from: u64,
    space: TailSpace,
    sealed: AtomicBool,
    touched: AtomicBool,
    open: RwLock<Option<Arc<OpenSegment>>>,
    indexes: RwLock<Indexes>,
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
        let view = View::new(&file, settings.bytes_max, &settings.maps)?;
        let indexes = SegmentIndexes::new(
            base_offset,
            settings.index_bytes_max,
            settings.index_interval_bytes,
        );
        let segment = Self::assemble(settings, base_offset, 0, base_offset, Indexes::Building(indexes));
        *segment.open.write() = Some(Arc::new(OpenSegment { file, view }));
        Ok(segment)
    }

    /// An existing segment that is appended to: its records end at `size` and `next_offset`, and `indexes`
    /// cover them.
    #[must_use]
    pub fn resume(
        settings: SegmentSettings,
        base_offset: Offset,
        size: u64,
        next_offset: Offset,
        indexes: SegmentIndexes,
        first_timestamp: TimestampMs,
    ) -> Self {
        let segment = Self::assemble(
            settings,
            base_offset,
            size,
            next_offset,
            Indexes::Building(indexes),
        );
        segment
            .first_timestamp
            .store(first_timestamp.get(), Ordering::Relaxed);
        segment
    }

    /// An existing segment that is complete: nothing is opened until it is read.
    #[must_use]
    pub fn sealed(settings: SegmentSettings, base_offset: Offset, size: u64, next_offset: Offset) -> Self {
        let segment = Self::assemble(settings, base_offset, size, next_offset, Indexes::Stored(None));
        segment.sealed.store(true, Ordering::Relaxed);
        segment
    }

    fn assemble(
        settings: SegmentSettings,
        base_offset: Offset,
        size: u64,
        next_offset: Offset,
        indexes: Indexes,
    ) -> Self {
        Self {
            base_offset,
            size: AtomicU64::new(size),
            next_offset: AtomicI64::new(next_offset.get()),
            first_timestamp: AtomicI64::new(TimestampMs::NONE.get()),
            warm_from: size,
            space: TailSpace::new(size, settings.bytes_max.max(size)),
            sealed: AtomicBool::new(false),
            touched: AtomicBool::new(true),
            open: RwLock::new(None),
            indexes: RwLock::new(indexes),
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

    /// Appends the batches with one vectored write and publishes them.
    ///
    /// # Errors
    /// [`SegmentAppendError`] says whether the segment is still what it was.
    ///
    /// # Panics
    /// When the segment is sealed.
    pub fn append(&self, batches: &[StampedBatch<'_>]) -> Result<(), SegmentAppendError> {
        assert!(!self.sealed.load(Ordering::Relaxed), "append to a sealed segment");
        let open = self.open().map_err(SegmentAppendError::NotWritten)?;
        let start = self.size();
        let bytes: usize = batches.iter().map(|batch| batch.header.size()).sum();
        let end = start.saturating_add(u64::try_from(bytes).expect("usize fits u64"));
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
        Ok(())
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
        let view = View::new(&file, capacity, &self.settings.maps)?;
        let open = Arc::new(OpenSegment { file, view });
        *slot = Some(Arc::clone(&open));
        Ok(open)
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
        let Some(from) = self.with_offsets(patience, |entries| entries.lookup(target).1)? else {
            return Ok(None);
        };
        let open = self.open()?;
        let reach = from.get().saturating_add(WINDOW_LOOKUP).min(end);
        if patience == Patience::MustNotBlock && !self.is_warm(&open, from.get()..reach) {
            return Ok(None);
        }
        let mut walk = match patience {
            Patience::MustNotBlock => Walk::lookup(&open.view, from, end),
            Patience::MayBlock => Walk::scan(&open.view, from, end),
        };
        while let Some((position, header)) = walk.next_header()? {
            if target <= header.last_offset() {
                return Ok(Some(Some(BatchPlace { position, header })));
            }
        }
        Ok(Some(None))
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
        }
        open.view.bytes(range).map(Some)
    }

    /// A walk over its batches from the last index entry at or before `target`. Blocks.
    ///
    /// # Errors
    /// Reading the index.
    pub fn place_before(&self, target: Offset) -> Result<FilePosition, ScanError> {
        let place = self.with_offsets(Patience::MayBlock, |entries| entries.lookup(target).1)?;
        Ok(place.unwrap_or(FilePosition::ZERO))
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

    /// Ends the appending: the last time entry is made, and the indexes wait to be stored.
    pub fn seal(&self) {
        if let Indexes::Building(indexes) = &mut *self.indexes.write() {
            indexes.finish();
        }
        self.sealed.store(true, Ordering::Release);
    }

    /// Stores the indexes as they are, so that a recovery need not make them again. Blocks.
    ///
    /// # Errors
    /// The file system's; the indexes stay in memory.
    pub fn store_indexes(&self) -> Result<(), FsError> {
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
        let path = segment_file(&self.settings.directory, self.base_offset, FileKind::Log);
        // A handle of its own: a failed write-back must be reported to the one that acknowledgements rest on.
        let file = self.settings.file_system.open(&path)?;
        file.set_length(self.size())?;
        file.sync_data()?;
        *self.indexes.write() = Indexes::Stored(None);
        *self.open.write() = None;
        Ok(())
    }

    /// Whether the writer will soon need more allocated space.
    #[must_use]
    pub fn is_short_of_space(&self) -> bool {
        !self.sealed.load(Ordering::Relaxed) && self.space.is_short(self.size())
    }

    /// Fills the next step behind the end with zeros. Blocks; meant for the background.
    ///
    /// # Errors
    /// The file system's.
    pub fn prepare_space(&self) -> Result<(), FsError> {
        let open = self.open()?;
        let path = segment_file(&self.settings.directory, self.base_offset, FileKind::Log);
        let sync = self.settings.file_system.open(&path)?;
        self.space.prepare(open.file.as_ref(), sync.as_ref())
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
        *self.open.write() = None;
        if let Indexes::Stored(stored) = &mut *self.indexes.write() {
            *stored = None;
        }
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

    fn is_warm(&self, open: &OpenSegment, range: Range<u64>) -> bool {
        (self.warm_from <= range.start && !self.sealed.load(Ordering::Relaxed))
            || open.view.is_resident(range)
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
        if let Indexes::Stored(slot) = &mut *self.indexes.write() {
            *slot = Some(Arc::clone(&stored));
        }
        Ok(stored)
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
        let open = self.open()?;
        let mut indexes = SegmentIndexes::new(
            self.base_offset,
            self.settings.index_bytes_max,
            self.settings.index_interval_bytes,
        );
        let mut walk = Walk::scan(&open.view, FilePosition::ZERO, self.size());
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
        View::new(&file, length, &self.settings.maps)?
            .bytes(0..length)
            .map(Some)
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
