//! The two indexes of one segment, kept together because their entries are made together.
//!
//! While a segment is active its indexes live in memory and are stored at checkpoints and when it is
//! sealed; a sealed segment's are read back on demand. They are hints: whatever is missing or damaged is
//! made again from the log.
//!
//! What lies in memory has a limit however large the segment becomes and however small its batches are: when an index has
//! [`ENTRIES_MAX`] entries, the older ones are thinned. The newest stay as close as they were, for there most reads begin.

use crate::index::offset_index::{OffsetIndex, OffsetIndexView};
use crate::index::time_index::{TimeIndex, TimeIndexView};
use crate::model::{FilePosition, Offset, TimestampMs};
use crate::record::batch_header::BatchHeader;
use crate::segment::file_name::FileKind;

/// The most entries of an index: 80 KiB for both. In the older part of a full segment of 1 GiB they come to stand some 400 KiB
/// apart, and a look-up goes over half of that.
pub const ENTRIES_MAX: usize = 4096;
/// So many of the newest are never thinned.
pub const ENTRIES_CLOSE: usize = 512;
/// Thinning goes on until no more are left, so that the next comes only after as many new entries.
const ENTRIES_THINNED_MAX: usize = ENTRIES_MAX - ENTRIES_CLOSE;

/// The indexes of a segment, with what is needed to continue them.
#[derive(Debug)]
pub struct SegmentIndexes {
    /// Offset to position.
    pub offsets: OffsetIndex,
    /// Time to offset.
    pub times: TimeIndex,
    interval_bytes: u64,
    bytes_since_entry: u64,
    /// How many bytes of log lie between two older entries, at least, since they were thinned.
    thinned_bytes: u64,
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
            thinned_bytes: 0,
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
            if ENTRIES_MAX <= self.offsets.entry_count() {
                self.thin();
            }
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
    /// further than the one by offset can be told, and where it is cut the other is, too; one that reaches less far cannot be told.
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

    /// Drops older entries, evenly by bytes of log.
    fn thin(&mut self) {
        self.thinned_bytes = self.thinned_bytes.max(self.interval_bytes).max(1);
        loop {
            let older = self.offsets.entry_count().saturating_sub(ENTRIES_CLOSE);
            let mut next = 0;
            self.offsets.thin(older, |(_, position)| {
                let is_kept = next <= position.get();
                if is_kept {
                    next = position.get().saturating_add(self.thinned_bytes);
                }
                is_kept
            });
            if self.offsets.entry_count() <= ENTRIES_THINNED_MAX {
                break;
            }
            // Twice as far at once would leave half as many as there may be.
            let quarter = self.thinned_bytes.div_euclid(4).max(1);
            self.thinned_bytes = self.thinned_bytes.saturating_add(quarter);
        }
        self.thin_times();
    }

    /// Of the entries by time, the last one up to each entry by offset is enough. It has to stay: a recovery that cuts the indexes there
    /// takes it for the largest time of all that is before.
    fn thin_times(&mut self) {
        let mut by_offset = self.offsets.entries().iter().map(|(offset, _)| offset).peekable();
        let ends = self.times.entries().iter().skip(1).map(|(_, next)| next);
        let is_kept: Vec<bool> = ends
            .map(|next| {
                let mut is_last = false;
                while by_offset.next_if(|indexed| *indexed < next).is_some() {
                    is_last = true;
                }
                is_last
            })
            .collect();
        let older = self.times.entry_count().saturating_sub(ENTRIES_CLOSE);
        let mut is_kept = is_kept.into_iter();
        self.times.thin(older, |_| is_kept.next().unwrap_or(true));
    }

    fn note_time(&mut self) {
        if self.max_timestamp != TimestampMs::NONE {
            self.times
                .try_push(self.max_timestamp, self.offset_of_max_timestamp)
                .ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::batch_builder::{BatchBuilder, BatchOptions};

    const SEGMENT_BYTES: u64 = 512 << 20;
    const INTERVAL: u64 = 4096;

    /// The indexes of a segment that is full of batches of one record and `batch_bytes`; three after another have the same time.
    struct Full {
        batch_bytes: u64,
        indexes: SegmentIndexes,
        batches: u64,
    }

    fn timestamp(batch: u64) -> TimestampMs {
        TimestampMs::new(i64::try_from(batch / 3 * 5 + 1).unwrap())
    }

    fn offset(batch: u64) -> Offset {
        Offset::new(1000).plus(i64::try_from(batch).unwrap())
    }

    fn full(batch_bytes: u32) -> Full {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        builder.append(TimestampMs::new(1), None, None, &[]).unwrap();
        let mut header = BatchHeader::parse(&builder.build()).unwrap();
        header.batch_length = batch_bytes - 12;
        let batch_bytes = u64::from(batch_bytes);
        assert_eq!(u64::try_from(header.size()).unwrap(), batch_bytes);
        let mut indexes = SegmentIndexes::new(offset(0), 10 << 20, INTERVAL);
        let batches = SEGMENT_BYTES / batch_bytes;
        for batch in 0..batches {
            header.base_offset = offset(batch);
            header.max_timestamp = timestamp(batch);
            indexes.note(&header, FilePosition::new(batch * batch_bytes));
        }
        Full {
            batch_bytes,
            indexes,
            batches,
        }
    }

    impl Full {
        /// How far before the batch a look-up of its offset begins to look, in bytes.
        fn way_by_offset(&self, batch: u64) -> u64 {
            let (found, position) = self.indexes.offsets.lookup(offset(batch));
            assert!(found <= offset(batch));
            batch * self.batch_bytes - position.get()
        }

        /// The same for a look-up of the first record that is younger than the batch before.
        fn way_by_time(&self, batch: u64) -> u64 {
            let (_, found) = self
                .indexes
                .times
                .lookup(TimestampMs::new(timestamp(batch).get() - 1));
            let first = batch / 3 * 3;
            assert!(found <= offset(first));
            let found = u64::try_from(found.get() - offset(0).get()).unwrap();
            (first - found) * self.batch_bytes
        }
    }

    #[test]
    fn indexes_of_small_batches_take_no_more_than_their_limit_and_stay_even() {
        for batch_bytes in [70, 1024, 5000] {
            let full = full(batch_bytes);
            let counts = (
                full.indexes.offsets.entry_count(),
                full.indexes.times.entry_count(),
            );
            let allowed = ENTRIES_THINNED_MAX / 2..=ENTRIES_MAX;
            assert!(
                allowed.contains(&counts.0) && allowed.contains(&counts.1),
                "{counts:?}"
            );
            let far = SEGMENT_BYTES / 1000;
            let close = 2 * (INTERVAL + full.batch_bytes);
            let newest = u64::try_from(ENTRIES_CLOSE).unwrap() * INTERVAL / full.batch_bytes;
            for batch in (0..full.batches).step_by(317) {
                assert!(full.way_by_offset(batch) <= far, "batch {batch}");
                assert!(full.way_by_time(batch) <= far, "batch {batch}");
            }
            for batch in full.batches - newest..full.batches {
                assert!(full.way_by_offset(batch) <= close, "batch {batch}");
            }
            let last = full.batches - 1;
            assert!(full.way_by_time(last) <= close);
            for (kind, bytes) in full.indexes.encode() {
                let bytes = bytes.into();
                match kind {
                    FileKind::OffsetIndex => drop(OffsetIndexView::parse(bytes, offset(0)).unwrap()),
                    _ => drop(TimeIndexView::parse(bytes, offset(0)).unwrap()),
                }
            }
        }
    }

    #[test]
    fn large_batches_keep_an_entry_each() {
        let full = full(256 << 10);
        // The first has nothing before it.
        assert_eq!(
            full.indexes.offsets.entry_count(),
            usize::try_from(full.batches - 1).unwrap()
        );
    }
}
