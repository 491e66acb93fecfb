//! Reading: records from an offset on, and the look-ups by time and by epoch.
//!
//! A reader takes the row of segments and the offsets as they are published and never waits for the writer.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use crate::index::transaction_index::AbortedTransaction;
use crate::log::error::ReadError;
use crate::log::log::LogShared;
use crate::log::offsets::{LogOffsets, Place};
use crate::log::transactions::aborted_among;
use crate::model::{FilePosition, LeaderEpoch, Offset, TimestampMs};
use crate::record::batch::Batch;
use crate::segment::file_name::FileKind;
use crate::segment::scan::{ScanError, Walk};
use crate::segment::segment::{BatchPlace, Patience, Segment};

/// What a batch may grow to when its records are looked into; a look-up by time of a batch that decompresses
/// to more answers with the batch's first offset instead.
const DECOMPRESSED_BYTES_MAX: usize = 64 << 20;

/// Up to where a read may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadBound {
    /// Everything appended; for replicas and tools.
    LogEnd,
    /// What consumers may see (`read_uncommitted`).
    HighWatermark,
    /// What no undecided transaction precedes (`read_committed`).
    LastStable,
}

/// A read from one log.
#[derive(Debug, Clone, Copy)]
pub struct ReadRequest {
    /// The first record wanted; the batch that holds it comes whole.
    pub offset: Offset,
    /// How many bytes at most.
    pub bytes_max: usize,
    /// Whether the first batch comes even when it is larger than `bytes_max`.
    pub at_least_one_batch: bool,
    /// Up to where.
    pub bound: ReadBound,
    /// Whether the disk may be waited for.
    pub patience: Patience,
}

/// Records as they stand in one segment.
#[derive(Debug, Clone)]
pub struct ReadSlice {
    /// Batches, the last of which may be incomplete.
    pub records: Bytes,
    /// The offsets at the time of the read.
    pub offsets: LogOffsets,
    /// Transactions whose records a reader of committed ones has to pass over, among these; empty for other readers.
    pub aborted: Vec<AbortedTransaction>,
}

/// A record found by its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetAndTimestamp {
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp.
    pub timestamp: TimestampMs,
    /// The epoch it was written in.
    pub leader_epoch: LeaderEpoch,
}

/// Reads one log. Cheap to clone; stays valid while the writer appends, rolls and deletes.
#[derive(Debug, Clone)]
pub struct LogReader {
    pub(super) shared: Arc<LogShared>,
}

impl LogReader {
    pub(crate) fn new(shared: Arc<LogShared>) -> Self {
        Self { shared }
    }

    /// The four offsets.
    #[must_use]
    pub fn offsets(&self) -> LogOffsets {
        self.shared.positions().offsets()
    }

    /// Records from `request.offset` on, from one segment.
    ///
    /// An offset at or behind the bound, up to the log end, gives no records and no error: they are still to come.
    ///
    /// # Errors
    /// [`ReadError::OffsetOutOfRange`] before the log start or behind the log end; [`ReadError::WouldBlock`]
    /// when the caller has no patience; damage and media errors by place.
    pub fn read(&self, request: ReadRequest) -> Result<ReadSlice, ReadError> {
        self.while_start_stays(|| self.read_once(request))
    }

    /// Reads until it was one row of segments that it read. Compaction puts the same records elsewhere, and a place in
    /// one row is none in the next.
    fn read_once(&self, request: ReadRequest) -> Result<ReadSlice, ReadError> {
        loop {
            let before = self.shared.segments.read().replacements();
            if let Some(slice) = self.read_row(request, before)? {
                return Ok(slice);
            }
        }
    }

    /// `None` when the segments are not those of `replacements` any more.
    fn read_row(&self, request: ReadRequest, replacements: u64) -> Result<Option<ReadSlice>, ReadError> {
        let positions = self.shared.positions();
        let offsets = positions.offsets();
        if request.offset < offsets.log_start || offsets.log_end < request.offset {
            return Err(out_of_range(request.offset, offsets));
        }
        let nothing = ReadSlice {
            records: Bytes::new(),
            offsets,
            aborted: Vec::new(),
        };
        // Before the bound is looked up, which may have to ask the disk.
        if end_of(offsets, request.bound) <= request.offset {
            return Ok(Some(nothing));
        }
        let bound = match request.bound {
            ReadBound::LogEnd => positions.log_end(),
            ReadBound::HighWatermark => positions.high_watermark(),
            ReadBound::LastStable => {
                self.place_of(offsets.last_stable, positions.high_watermark(), request.patience)?
            }
        };
        let segments = self.shared.segments();
        if segments.replacements() != replacements {
            return Ok(None);
        }
        if request.offset < segments.first().base_offset() {
            // Deleted since the offsets were taken: what begins behind it is not what was asked for.
            return Err(out_of_range(request.offset, self.offsets()));
        }
        for segment in segments.from_offset(request.offset) {
            if bound.segment < segment.base_offset() {
                break;
            }
            let end = visible_size(segment, bound);
            if let Some(first) = find(segment, request.offset, end, request.patience)? {
                let records = slice(segment, first, end, &request)?;
                let aborted = match request.bound {
                    ReadBound::LastStable if self.shared.has_aborted.load(Ordering::Acquire) => {
                        aborted_among(&records, &segments, segment, &request)?
                    }
                    ReadBound::LastStable | ReadBound::HighWatermark | ReadBound::LogEnd => Vec::new(),
                };
                return Ok(Some(ReadSlice {
                    records,
                    offsets,
                    aborted,
                }));
            }
        }
        Ok(Some(nothing))
    }

    /// The first record, in the order of offsets, that is `target` or younger. May block.
    ///
    /// # Errors
    /// Damage and media errors by place.
    pub fn offset_for_timestamp(
        &self,
        target: TimestampMs,
        bound: ReadBound,
    ) -> Result<Option<OffsetAndTimestamp>, ReadError> {
        self.while_start_stays(|| self.first_at_or_after(target, bound))
    }

    fn first_at_or_after(
        &self,
        target: TimestampMs,
        bound: ReadBound,
    ) -> Result<Option<OffsetAndTimestamp>, ReadError> {
        let (start, end) = self.range(bound);
        for segment in self.shared.segments().from_offset(start) {
            let largest = segment
                .max_timestamp()
                .map_err(|error| corrupt(segment, error))?
                .0;
            if largest < target {
                continue;
            }
            let from = segment
                .offset_before_time(target)
                .map_err(|error| corrupt(segment, error))?;
            let found = first_record(segment, from.max(start), start..end, target)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The earliest of the records with the largest timestamp. May block.
    ///
    /// # Errors
    /// Damage and media errors by place.
    pub fn offset_of_max_timestamp(&self, bound: ReadBound) -> Result<Option<OffsetAndTimestamp>, ReadError> {
        self.while_start_stays(|| self.first_of_largest(bound))
    }

    fn first_of_largest(&self, bound: ReadBound) -> Result<Option<OffsetAndTimestamp>, ReadError> {
        let (start, end) = self.range(bound);
        let mut best: Option<(TimestampMs, Arc<Segment>, Offset)> = None;
        for segment in self.shared.segments().from_offset(start) {
            let (timestamp, offset) = segment.max_timestamp().map_err(|error| corrupt(segment, error))?;
            let larger = best.as_ref().is_none_or(|(largest, ..)| *largest < timestamp);
            if larger && timestamp != TimestampMs::NONE {
                best = Some((timestamp, Arc::clone(segment), offset));
            }
        }
        let Some((timestamp, segment, last_offset)) = best else {
            return Ok(None);
        };
        if last_offset < end && start <= last_offset {
            let found = first_record(&segment, last_offset, start..end, timestamp)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        // The largest lies outside of what may be seen: look at everything inside.
        let mut visible = TimestampMs::NONE;
        for segment in self.shared.segments().from_offset(start) {
            visible = visible.max(largest_timestamp(segment, &(start..end))?);
        }
        if visible == TimestampMs::NONE {
            Ok(None)
        } else {
            self.first_at_or_after(visible, bound)
        }
    }

    /// The epoch of the newest records, and of the next.
    #[must_use]
    pub fn latest_epoch(&self) -> LeaderEpoch {
        self.shared
            .epochs
            .read()
            .latest()
            .map_or(LeaderEpoch::FIRST, |entry| entry.epoch)
    }

    /// The epoch in which the record at `offset` was written.
    #[must_use]
    pub fn epoch_at(&self, offset: Offset) -> LeaderEpoch {
        self.shared
            .epochs
            .read()
            .epoch_at(offset)
            .unwrap_or(LeaderEpoch::NONE)
    }

    /// Where `epoch` ended, as Kafka's `OffsetForLeaderEpoch` answers.
    #[must_use]
    pub fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> (LeaderEpoch, Offset) {
        let log_end = self.offsets().log_end;
        self.shared.epochs.read().end_offset_for(epoch, log_end)
    }

    /// The file that has the record at `offset`, or would have it.
    #[must_use]
    pub fn file_of(&self, offset: Offset) -> Option<PathBuf> {
        let segments = self.shared.segments();
        let mut holding = segments.from_offset(offset);
        holding.next().and_then(|segment| segment.paths().next())
    }

    /// The bytes of all segments.
    #[must_use]
    pub fn size_in_bytes(&self) -> u64 {
        self.shared.segments().size()
    }

    /// How many segments there are.
    #[must_use]
    pub fn segment_count(&self) -> usize {
        self.shared.segments().count()
    }

    /// Gives up maps and descriptors of segments that nobody has read since the last call.
    pub fn release_idle(&self) {
        for segment in &self.shared.segments() {
            segment.release_if_idle();
        }
    }

    /// Looks again when it failed and the log start has moved meanwhile: the files may have been removed under it.
    fn while_start_stays<T>(&self, look: impl Fn() -> Result<T, ReadError>) -> Result<T, ReadError> {
        loop {
            let log_start = self.offsets().log_start;
            let result = look();
            if result.is_ok() || self.offsets().log_start == log_start {
                return result;
            }
        }
    }

    fn range(&self, bound: ReadBound) -> (Offset, Offset) {
        let offsets = self.offsets();
        (offsets.log_start, end_of(offsets, bound))
    }

    /// Where the batch that holds `offset` begins; `known` when that is the offset.
    fn place_of(&self, offset: Offset, known: Place, patience: Patience) -> Result<Place, ReadError> {
        if offset == known.offset {
            return Ok(known);
        }
        for segment in self.shared.segments().from_offset(offset) {
            let end = visible_size(segment, known);
            if let Some(place) = find(segment, offset, end, patience)? {
                let position = place.position.get();
                return Ok(Place {
                    offset,
                    segment: segment.base_offset(),
                    position,
                });
            }
        }
        Ok(known)
    }
}

/// Where a reader with this bound finds nothing more.
fn end_of(offsets: LogOffsets, bound: ReadBound) -> Offset {
    match bound {
        ReadBound::LogEnd => offsets.log_end,
        ReadBound::HighWatermark => offsets.high_watermark,
        ReadBound::LastStable => offsets.last_stable,
    }
}

/// How many bytes of the segment lie before `bound`. The size is taken first: an append raises it last. A bound that lies
/// behind the segment's end may have been taken before compaction moved that end.
fn visible_size(segment: &Segment, bound: Place) -> u64 {
    let size = segment.size();
    if segment.base_offset() == bound.segment && bound.offset < segment.next_offset() {
        bound.position
    } else {
        size
    }
}

fn out_of_range(offset: Offset, offsets: LogOffsets) -> ReadError {
    ReadError::OffsetOutOfRange {
        offset,
        log_start: offsets.log_start,
        log_end: offsets.log_end,
    }
}

fn find(
    segment: &Segment,
    offset: Offset,
    end: u64,
    patience: Patience,
) -> Result<Option<BatchPlace>, ReadError> {
    let found = segment
        .find(offset, end, patience)
        .map_err(|error| corrupt(segment, error))?;
    found.ok_or(ReadError::WouldBlock)
}

/// The bytes from the batch at `first` on: up to the limit, up to the end, and at least that batch if asked so.
fn slice(segment: &Segment, first: BatchPlace, end: u64, request: &ReadRequest) -> Result<Bytes, ReadError> {
    let first_bytes = first.header.size();
    let bytes_max = match (request.bytes_max < first_bytes, request.at_least_one_batch) {
        (true, true) => first_bytes,
        (true, false) => return Ok(Bytes::new()),
        (false, _) => request.bytes_max,
    };
    let start = first.position.get();
    let end = start
        .saturating_add(u64::try_from(bytes_max).expect("usize fits u64"))
        .min(end);
    segment
        .slice(start..end, request.patience)?
        .ok_or(ReadError::WouldBlock)
}

/// The first record of `visible` that is `target` or younger, in the batch that holds `from` or behind it.
fn first_record(
    segment: &Arc<Segment>,
    from: Offset,
    visible: Range<Offset>,
    target: TimestampMs,
) -> Result<Option<OffsetAndTimestamp>, ReadError> {
    let open = segment.open()?;
    let position = segment
        .place_before(from)
        .map_err(|error| corrupt(segment, error))?;
    let mut walk = Walk::lookup(open.view(), position, segment.size());
    while let Some((position, header)) = walk.next_header().map_err(|error| corrupt(segment, error))? {
        if visible.end <= header.base_offset {
            break;
        }
        if header.last_offset() < from || header.max_timestamp < target {
            continue;
        }
        let bytes = walk.batch_bytes(position, &header)?;
        let mut found = None;
        each_record(segment, &bytes, |offset, timestamp| {
            let matches = visible.start <= offset && target <= timestamp && found.is_none();
            if matches {
                let leader_epoch = header.leader_epoch;
                found = Some(OffsetAndTimestamp {
                    offset,
                    timestamp,
                    leader_epoch,
                });
            }
        })?;
        if found.is_some() {
            return Ok(found.filter(|found| found.offset < visible.end));
        }
    }
    Ok(None)
}

/// The largest timestamp of the visible records. Only a batch that reaches below the log start is looked into.
fn largest_timestamp(segment: &Arc<Segment>, visible: &Range<Offset>) -> Result<TimestampMs, ReadError> {
    let open = segment.open()?;
    let mut walk = Walk::scan(open.view(), FilePosition::ZERO, segment.size());
    let mut largest = TimestampMs::NONE;
    while let Some((position, header)) = walk.next_header().map_err(|error| corrupt(segment, error))? {
        let is_visible = visible.start <= header.last_offset() && header.last_offset() < visible.end;
        // Of a batch that compaction has emptied, the header tells the time of records that are gone.
        if !is_visible || header.record_count == 0 {
            continue;
        }
        if visible.start <= header.base_offset {
            largest = largest.max(header.max_timestamp);
            continue;
        }
        let bytes = walk.batch_bytes(position, &header)?;
        each_record(segment, &bytes, |offset, timestamp| {
            if visible.start <= offset {
                largest = largest.max(timestamp);
            }
        })?;
    }
    Ok(largest)
}

fn each_record(
    segment: &Segment,
    bytes: &Bytes,
    mut visit: impl FnMut(Offset, TimestampMs),
) -> Result<(), ReadError> {
    let bad = |offset: Offset, cause: String| ReadError::BadBatch {
        file: log_path(segment),
        offset,
        cause,
    };
    let batch = Batch::parse(bytes).map_err(|error| bad(segment.base_offset(), error.to_string()))?;
    let base_offset = batch.header().base_offset;
    let mut scratch = Vec::new();
    let records = batch
        .records(&mut scratch, DECOMPRESSED_BYTES_MAX)
        .map_err(|error| bad(base_offset, error.to_string()))?;
    for record in records {
        let record = record.map_err(|error| bad(base_offset, error.to_string()))?;
        visit(record.offset, record.timestamp);
    }
    Ok(())
}

pub(super) fn corrupt(segment: &Segment, error: ScanError) -> ReadError {
    ReadError::from_scan(log_path(segment), error)
}

fn log_path(segment: &Segment) -> PathBuf {
    crate::segment::file_name::segment_file(
        &segment.settings().directory,
        segment.base_offset(),
        FileKind::Log,
    )
}
