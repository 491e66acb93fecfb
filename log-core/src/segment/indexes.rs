//! The two indexes of one segment, kept together because their entries are made together.
//!
//! While a segment is active its indexes live in memory and are stored at checkpoints and when it is
//! sealed; a sealed segment's are read back on demand. They are hints: whatever is missing or damaged is
//! made again from the log.

use crate::index::offset_index::{OffsetIndex, OffsetIndexView};
use crate::index::time_index::{TimeIndex, TimeIndexView};
use crate::model::{FilePosition, Offset, TimestampMs};
use crate::record::batch::BatchHeader;
use crate::segment::file_name::FileKind;

/// The indexes of a segment, with what is needed to continue them.
#[derive(Debug)]
pub struct SegmentIndexes {
    /// Offset to position.
    pub offsets: OffsetIndex,
    /// Time to offset.
    pub times: TimeIndex,
    interval_bytes: u64,
    bytes_since_entry: u64,
    max_timestamp: TimestampMs,
    offset_of_max_timestamp: Offset,
}

impl SegmentIndexes {
    /// Empty indexes for a segment that begins at `base_offset`.
    #[must_use]
    pub fn new(base_offset: Offset, bytes_max: u64, interval_bytes: u64) -> Self {
        Self::resume(
            OffsetIndex::new(base_offset, bytes_max),
            TimeIndex::new(base_offset, bytes_max),
            interval_bytes,
        )
    }

    /// Continues indexes that were read back; the batches behind their last entries are to be noted again.
    #[must_use]
    pub fn resume(offsets: OffsetIndex, times: TimeIndex, interval_bytes: u64) -> Self {
        let (max_timestamp, offset_of_max_timestamp) = times.last();
        Self {
            offsets,
            times,
            interval_bytes,
            bytes_since_entry: 0,
            max_timestamp,
            offset_of_max_timestamp,
        }
    }

    /// Whether another entry would not fit, so that the segment must be rolled first.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.offsets.is_full() || self.times.is_full()
    }

    /// Notes a batch that was appended at `position`, and makes an entry when enough bytes have gone by.
    ///
    /// # Panics
    /// Never: a size fits 64 bits.
    pub fn note(&mut self, header: &BatchHeader, position: FilePosition) {
        // The time of a batch that compaction has emptied is the time of no record.
        if self.max_timestamp < header.max_timestamp && 0 < header.record_count {
            self.max_timestamp = header.max_timestamp;
            self.offset_of_max_timestamp = header.last_offset();
        }
        if self.interval_bytes < self.bytes_since_entry {
            // An index that cannot take the entry only makes look-ups walk further; the roll follows.
            self.offsets.try_push(header.last_offset(), position).ok();
            self.note_time();
            self.bytes_since_entry = 0;
        }
        self.bytes_since_entry = self
            .bytes_since_entry
            .saturating_add(u64::try_from(header.size()).expect("usize fits u64"));
    }

    /// Makes the last time entry of a segment that will not be appended to any more: its largest timestamp.
    pub fn finish(&mut self) {
        if self.max_timestamp != TimestampMs::NONE {
            // A place is kept for it; without one, look-ups by time walk further.
            self.times
                .push_final(self.max_timestamp, self.offset_of_max_timestamp)
                .ok();
        }
    }

    /// The largest timestamp in the segment, and the last offset of the batch that has it.
    #[must_use]
    pub fn max_timestamp(&self) -> (TimestampMs, Offset) {
        (self.max_timestamp, self.offset_of_max_timestamp)
    }

    /// The contents of both files, in the order in which they are to be stored: an index by time that reaches
    /// further than the one by offset can be cut back to it, but one that reaches less far cannot be told.
    #[must_use]
    pub fn encode(&self) -> [(FileKind, Vec<u8>); 2] {
        [
            (FileKind::TimeIndex, self.times.bytes().to_vec()),
            (FileKind::OffsetIndex, self.offsets.bytes().to_vec()),
        ]
    }

    /// The indexes as a sealed segment keeps them.
    #[must_use]
    pub fn into_views(self) -> (OffsetIndexView, TimeIndexView) {
        (self.offsets.seal(), self.times.seal())
    }

    fn note_time(&mut self) {
        if self.max_timestamp != TimestampMs::NONE {
            self.times
                .try_push(self.max_timestamp, self.offset_of_max_timestamp)
                .ok();
        }
    }
}
