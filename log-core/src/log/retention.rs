//! What may go: segments that are too old, too much, or below a log start that somebody set.
//!
//! In three steps, so that no crash brings deleted records back or leaves a hole: the log start moves
//! forward in memory, the caller makes it durable, and only then are the segments below it removed.

use std::sync::Arc;

use crate::fs::{FileSystem, FsError, FsErrorKind};
use crate::log::error::LogError;
use crate::log::log::Log;
use crate::model::{Offset, TimestampMs};
use crate::segment::scan::ScanError;
use crate::segment::segment::Segment;
use crate::segment::segments::Segments;

/// What a round of retention decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetentionOutcome {
    /// Everything stays.
    Unchanged,
    /// The log start moved; it is to be made durable, then [`Log::reclaim`] is due.
    Advanced {
        /// Where the log starts now.
        log_start: Offset,
        /// How many segments lie below.
        segment_count: usize,
    },
}

/// Removal of segments that nobody can reach any more.
#[derive(Debug)]
#[must_use = "until it has run, the space is not free"]
pub struct ReclaimTask {
    file_system: Arc<dyn FileSystem>,
    segments: Vec<Arc<Segment>>,
}

impl ReclaimTask {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Removes the files, oldest first, and returns how many bytes of records went. Blocks; needs no lock.
    ///
    /// # Errors
    /// The file system's; the rest is removed at the next opening.
    pub fn run(self) -> Result<u64, FsError> {
        let mut bytes: u64 = 0;
        for segment in &self.segments {
            bytes = bytes.saturating_add(segment.size());
            for path in segment.paths() {
                match self.file_system.remove_file(&path) {
                    Err(error) if error.kind != FsErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(bytes)
    }
}

impl Log {
    /// Moves the log start to what retention by time and size leaves. May roll the active segment, so that
    /// a quiet topic's last records go too. Blocks: it reads time indexes.
    ///
    /// # Errors
    /// `Latched`, or the file system's.
    pub fn apply_retention(&mut self, now: TimestampMs) -> Result<RetentionOutcome, LogError> {
        self.check_latch()?;
        if !self.config.cleanup_policy.delete {
            return Ok(RetentionOutcome::Unchanged);
        }
        let segments = self.shared.segments();
        let flushed = self.flushed();
        let expired = self
            .expired_count(&segments, now)?
            .max(self.oversized_count(&segments));
        // Nothing goes that is not on the disk yet: it may still be waiting for its acknowledgement.
        let expired = segments
            .iter()
            .take(expired)
            .take_while(|one| one.next_offset() <= flushed)
            .count();
        if expired == 0 {
            return Ok(RetentionOutcome::Unchanged);
        }
        if expired == segments.count() {
            self.roll()?;
        }
        let segments = self.shared.segments();
        let Some(first_kept) = segments.iter().nth(expired) else {
            return Ok(RetentionOutcome::Unchanged); // the active segment is empty and stays
        };
        let log_start = first_kept.base_offset();
        if log_start <= self.offsets().log_start {
            return Ok(RetentionOutcome::Unchanged);
        }
        self.move_start(log_start);
        Ok(RetentionOutcome::Advanced {
            log_start,
            segment_count: expired,
        })
    }

    /// Moves the log start to `to`, which may lie inside a segment (`DeleteRecords`).
    ///
    /// # Errors
    /// `OffsetOutOfRange` behind the high watermark; an offset below the log start changes nothing.
    pub fn advance_log_start(&mut self, to: Offset) -> Result<Offset, LogError> {
        self.check_latch()?;
        let offsets = self.offsets();
        if offsets.high_watermark < to {
            let (low, high) = (offsets.log_start, offsets.high_watermark);
            return Err(LogError::OffsetOutOfRange {
                offset: to,
                low,
                high,
            });
        }
        if offsets.log_start < to {
            self.move_start(to);
        }
        Ok(self.offsets().log_start)
    }

    /// Takes the segments wholly below `durable_log_start` out of the log; the task removes their files.
    ///
    /// Segments that are not sealed yet stay until a later call: the producers' state at their end is not
    /// stored, and their retries must still be recognised. While the log is being cleaned, all stay.
    pub fn reclaim(&mut self, durable_log_start: Offset) -> ReclaimTask {
        let start = durable_log_start.min(self.offsets().log_start);
        let start = self
            .flush
            .oldest_unsealed()
            .map_or(start, |unsealed| unsealed.min(start));
        // A cleaning reads them by their names for as long as it takes; else retention would end each long one.
        let start = if self.is_swapping || !self.hold.is_alone() {
            Offset::ZERO
        } else {
            start
        };
        let mut slot = self.shared.segments.write();
        let (below, kept) = slot.split_below(start);
        *slot = kept;
        drop(slot);
        ReclaimTask {
            file_system: Arc::clone(&self.context.file_system),
            segments: below,
        }
    }

    fn move_start(&mut self, log_start: Offset) {
        self.shared.positions.write().advance_start(log_start);
        self.shared.epochs.write().truncate_from_start(log_start);
    }

    /// How many segments stay for nothing but a time ahead of the clock: where the oldest sealed segment has a record with such a time,
    /// that one, all others that have, and those behind it that are old enough to go. Blocks as [`Log::apply_retention`].
    ///
    /// # Errors
    /// The file system's.
    pub fn held_back_count(&self, now: TimestampMs) -> Result<usize, LogError> {
        let (true, Some(retention_ms)) = (self.config.cleanup_policy.delete, self.config.retention_ms) else {
            return Ok(0);
        };
        let (segments, log_start) = (self.shared.segments(), self.offsets().log_start);
        let sealed = segments.iter().take(segments.count().saturating_sub(1));
        let mut count: usize = 0;
        for segment in sealed.skip_while(|segment| segment.next_offset() <= log_start) {
            match self.age_ms(segment, now)? {
                Some(age) if age < 0 || (0 < count && retention_ms < age) => count = count.saturating_add(1),
                // The oldest one is kept for what it is, and nothing waits for a time.
                _ if count == 0 => break,
                _ => {}
            }
        }
        Ok(count)
    }

    /// How many segments, oldest first, have no record younger than `retention.ms` allows. A timestamp
    /// ahead of the clock keeps its segment, and those behind it, until its time has come.
    fn expired_count(&self, segments: &Segments, now: TimestampMs) -> Result<usize, LogError> {
        let Some(retention_ms) = self.config.retention_ms else {
            return Ok(0);
        };
        let mut count: usize = 0;
        for segment in segments {
            match self.age_ms(segment, now)? {
                Some(age) if retention_ms < age => count = count.saturating_add(1),
                _ => break,
            }
        }
        Ok(count)
    }

    /// How old the newest record of a segment is, below 0 where its time lies ahead; none where it is empty or cannot be read:
    /// such a segment is not deleted on a guess.
    fn age_ms(&self, segment: &Segment, now: TimestampMs) -> Result<Option<i64>, LogError> {
        if segment.size() == 0 {
            return Ok(None);
        }
        let largest = match segment.max_timestamp() {
            Ok((timestamp, _)) => timestamp,
            Err(ScanError::Storage(error)) => return Err(error.into()),
            Err(_) => return Ok(None),
        };
        let since = match largest {
            // Where compaction has left no record, the emptied batches tell the time.
            TimestampMs::NONE => segment.first_batch_timestamp().unwrap_or(TimestampMs::NONE),
            largest => largest,
        };
        // Records without a time count from when this process first saw the segment.
        let since = match since {
            TimestampMs::NONE => self.segment_created,
            since => since,
        };
        Ok(Some(now.saturating_since(since)))
    }

    /// How many segments, oldest first, can go while the rest still holds `retention.bytes`.
    fn oversized_count(&self, segments: &Segments) -> usize {
        let Some(retention_bytes) = self.config.retention_bytes else {
            return 0;
        };
        let mut surplus = segments.size().saturating_sub(retention_bytes);
        let sealed = segments.count().saturating_sub(1);
        segments
            .iter()
            .take(sealed)
            .take_while(|segment| {
                let goes = segment.size() <= surplus;
                surplus = surplus.saturating_sub(segment.size());
                goes
            })
            .count()
    }
}
