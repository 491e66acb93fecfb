//! Compaction as the log sees it: what may be cleaned, and how a cleaned segment takes the place of others.
//!
//! The cleaning itself (`cleaner`) runs without a lock on a view of the log. The swap is begun and finished under it, and run
//! without it; while it runs, no segment leaves the log in another way. Readers go on with the segments they have: those
//! keep their files open.
//!
//! Nothing is swapped that the recovery point on the disk does not cover: behind it, a recovery would take the gap that a
//! cleaning leaves for the end of the log.

use std::sync::Arc;

use crate::cleaner::{CleanedGroup, Dirt, LogToClean, LogView};
use crate::fs::{FsError, FsErrorKind, FsOperation};
use crate::log::error::{LatchReason, ReadError};
use crate::log::log::{Log, segment_settings};
use crate::log::transactions::aborted_below;
use crate::model::Offset;
use crate::segment::scan::ScanError;
use crate::segment::segment::Segment;
use crate::segment::swap::Swap;

/// A swap that has begun. [`SwapTask::run`] blocks and needs no lock.
#[derive(Debug)]
#[must_use = "a swap that has begun must be run and finished"]
pub struct SwapTask {
    swap: Swap,
    old: Vec<Arc<Segment>>,
    size: u64,
    has_aborted: bool,
}

/// A swap whose files are in place.
#[derive(Debug)]
#[must_use = "readers find the new segment when the swap is finished"]
pub struct SwapDone {
    old: Vec<Arc<Segment>>,
    size: u64,
    has_aborted: bool,
}

impl SwapTask {
    /// Keeps the old segments readable for those who have them, and exchanges the files. Durable when it returns.
    ///
    /// # Errors
    /// The first failure; it must be given to [`Log::finish_swap`] all the same.
    pub fn run(self) -> Result<SwapDone, FsError> {
        for segment in &self.old {
            segment.pin().map_err(|error| of_scan(segment, error))?;
        }
        self.swap.run()?;
        Ok(SwapDone {
            old: self.old,
            size: self.size,
            has_aborted: self.has_aborted,
        })
    }
}

impl Log {
    /// The log as [`Dirt::of`] looks at it. `recovery_point` is the one on the disk.
    #[must_use]
    pub fn cleaner_view(&self, recovery_point: Offset) -> LogView {
        let offsets = self.offsets();
        LogView {
            segments: self.shared.segments(),
            log_start: offsets.log_start,
            log_end: offsets.log_end,
            settled_end: offsets.last_stable.min(self.recovery_point()).min(recovery_point),
        }
    }

    /// What a cleaning needs to know, as far as `dirt` says that it may go. Blocks: it reads transaction indexes.
    ///
    /// # Errors
    /// The file system's, or a damaged index.
    pub fn to_clean(&self, dirt: &Dirt) -> Result<LogToClean, ReadError> {
        let segments = self.shared.segments();
        let is_cleanable = |segment: &&Arc<Segment>| segment.next_offset() <= dirt.first_uncleanable;
        Ok(LogToClean {
            file_system: Arc::clone(&self.context.file_system),
            directory: Arc::clone(&self.directory),
            config: self.config.clone(),
            first_dirty: dirt.first_dirty,
            last_records: self.producers.last_records(),
            aborted: aborted_below(&segments, dirt.first_uncleanable)?,
            segments: segments.iter().take_while(is_cleanable).cloned().collect(),
            now: self.context.clock.now(),
        })
    }

    /// Begins to put the cleaned segment in its place; `None` when the log has changed where it would stand, so that the
    /// cleaning is to be given up.
    pub fn begin_swap(&mut self, cleaned: CleanedGroup, recovery_point: Offset) -> Option<SwapTask> {
        let settled_end = self.cleaner_view(recovery_point).settled_end;
        let segments = self.shared.segments();
        let is_there = |one: &Arc<Segment>| segments.iter().any(|segment| Arc::ptr_eq(segment, one));
        let is_settled = |one: &Arc<Segment>| one.next_offset() <= settled_end && is_there(one);
        if self.latch.is_some() || self.is_swapping || !cleaned.old.iter().all(is_settled) {
            return None;
        }
        let (first, others) = cleaned.old.split_first()?;
        self.is_swapping = true;
        Some(SwapTask {
            swap: Swap {
                file_system: Arc::clone(&self.context.file_system),
                directory: Arc::clone(&self.directory),
                base_offset: first.base_offset(),
                others: others.iter().map(|segment| segment.base_offset()).collect(),
            },
            size: cleaned.size,
            has_aborted: cleaned.has_aborted,
            old: cleaned.old,
        })
    }

    /// Ends a swap: from now on readers find the new segment. A failed one latches the log, because nobody knows which
    /// files are there; opening it again finds out.
    ///
    /// # Errors
    /// `Latched` when the swap failed.
    ///
    /// # Panics
    /// When no swap was begun.
    pub fn finish_swap(&mut self, result: Result<SwapDone, FsError>) -> Result<(), LatchReason> {
        assert!(self.is_swapping, "finish a swap that did not begin");
        self.is_swapping = false;
        let done = result.map_err(|error| self.latch("swap in cleaned segments", &error))?;
        let (Some(first), Some(last)) = (done.old.first(), done.old.last()) else {
            return Ok(());
        };
        let settings = segment_settings(&self.context, &self.directory, &self.config);
        let new = Segment::sealed(
            settings,
            first.base_offset(),
            done.size,
            last.next_offset(),
            done.has_aborted,
        );
        let mut slot = self.shared.segments.write();
        *slot = slot
            .replacing(&done.old, Arc::new(new))
            .expect("while a swap runs, no segment leaves the log");
        Ok(())
    }
}

/// A failed walk over a segment as a failure of its file.
fn of_scan(segment: &Segment, error: ScanError) -> FsError {
    match error {
        ScanError::Storage(error) => error,
        error => FsError {
            operation: FsOperation::Read,
            path: segment.paths().next().unwrap_or_default(),
            kind: FsErrorKind::Other,
            source: std::io::Error::other(error),
        },
    }
}
