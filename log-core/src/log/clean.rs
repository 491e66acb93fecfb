//! Compaction as the log sees it: what may be cleaned, and how cleaned segments take the place of others.
//!
//! The cleaning itself (`cleaner`) runs without a lock on a view of the log. A swap is begun and finished under it, and run
//! without it. From the first look to the last swap, no segment leaves the log in another way. Readers go on with the
//! segments they have: those keep their files open.
//!
//! Nothing is swapped that the recovery point on the disk does not cover: behind it, a recovery would take the gap that a
//! cleaning leaves for the end of the log.

use std::sync::Arc;

use crate::cleaner::{CleanError, CleanedGroup, Dirt, LogToClean, LogView, scan_error};
use crate::fs::FsError;
use crate::log::error::ReadError;
use crate::log::log::{Log, segment_settings};
use crate::log::transactions::aborted_below;
use crate::model::Offset;
use crate::segment::segment::Segment;
use crate::segment::segments::Segments;
use crate::segment::swap::{Replacement, Swap};

/// A cleaning that is about to begin.
#[derive(Debug)]
#[must_use = "while it is there, no segment leaves the log"]
pub struct CleaningTask {
    log: LogToClean,
    /// All of the log: an abort marker may stand behind what is cleaned.
    segments: Segments,
    end: Offset,
}

impl CleaningTask {
    /// Finds the aborted transactions. Blocks, because it reads their indexes; needs no lock. What is appended meanwhile
    /// changes nothing: below the last stable offset each transaction is decided.
    ///
    /// # Errors
    /// The file system's, or a damaged log.
    pub fn run(self) -> Result<LogToClean, ReadError> {
        let aborted = aborted_below(&self.segments, self.end)?;
        Ok(LogToClean { aborted, ..self.log })
    }
}

/// A swap that has begun. [`SwapTask::run`] blocks and needs no lock.
#[derive(Debug)]
#[must_use = "a swap that has begun must be run and finished"]
pub struct SwapTask {
    swap: Swap,
    cleaned: Vec<CleanedGroup>,
}

/// A swap whose files are in place.
#[derive(Debug)]
#[must_use = "readers find the new segments when the swap is finished"]
pub struct SwapDone(Vec<CleanedGroup>);

/// A swap that failed.
#[derive(Debug, thiserror::Error)]
pub enum SwapError {
    /// Before the first file was touched: the log is what it was.
    #[error(transparent)]
    NotBegun(CleanError),
    /// Nobody knows which files are there.
    #[error(transparent)]
    Unknown(FsError),
}

impl SwapTask {
    /// Keeps the old segments readable for those who have them, and exchanges the files. Durable when it returns.
    ///
    /// # Errors
    /// The first failure; it must be given to [`Log::finish_swap`] all the same.
    pub fn run(self) -> Result<SwapDone, SwapError> {
        let old = self.cleaned.iter().flat_map(|group| &group.old);
        let pin = |segment: &Arc<Segment>| segment.pin().map_err(|error| scan_error(segment, error));
        if let Err(error) = old.clone().try_for_each(pin) {
            old.for_each(|segment| segment.unpin());
            return Err(SwapError::NotBegun(error));
        }
        self.swap.run().map_err(SwapError::Unknown)?;
        Ok(SwapDone(self.cleaned))
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
            hold: self.hold.clone(),
        }
    }

    /// What a cleaning needs to know, as far as `dirt` says that it may go. Until it ends, no segment leaves the log but by
    /// its swaps.
    pub fn begin_cleaning(&self, dirt: &Dirt) -> CleaningTask {
        let segments = self.shared.segments();
        let end = dirt.first_uncleanable;
        let is_cleanable = |segment: &&Arc<Segment>| segment.next_offset() <= end;
        let log = LogToClean {
            file_system: Arc::clone(&self.context.file_system),
            directory: Arc::clone(&self.directory),
            config: self.config.clone(),
            first_dirty: dirt.first_dirty,
            last_records: self.producers.last_records(),
            aborted: Vec::new(),
            segments: segments.iter().take_while(is_cleanable).cloned().collect(),
            now: self.context.clock.now(),
            hold: self.hold.clone(),
        };
        CleaningTask { log, segments, end }
    }

    /// Begins to put the cleaned segments in their places; `None` when the log has changed where they would stand, so that
    /// the cleaning is to be given up.
    pub fn begin_swap(&mut self, cleaned: Vec<CleanedGroup>, recovery_point: Offset) -> Option<SwapTask> {
        let settled_end = self.cleaner_view(recovery_point).settled_end;
        let segments = self.shared.segments();
        let old = || cleaned.iter().flat_map(|group| &group.old);
        let are_settled = old().all(|one| one.next_offset() <= settled_end);
        if self.latch.is_some() || self.is_swapping || !are_settled || !segments.hold(old()) {
            return None;
        }
        let replacements = cleaned.iter().map(replacement).collect::<Option<_>>()?;
        self.is_swapping = true;
        Some(SwapTask {
            swap: Swap {
                file_system: Arc::clone(&self.context.file_system),
                directory: Arc::clone(&self.directory),
                replacements,
            },
            cleaned,
        })
    }

    /// Ends a swap: from now on readers find the new segments. One that failed half way latches the log, because nobody
    /// knows which files are there; opening it again finds out.
    ///
    /// What was replaced comes back, to be dropped without a lock: the space of its files goes with the last who reads them.
    ///
    /// # Errors
    /// Why the swap failed.
    ///
    /// # Panics
    /// When no swap was begun.
    pub fn finish_swap(
        &mut self,
        result: Result<SwapDone, SwapError>,
    ) -> Result<Vec<CleanedGroup>, SwapError> {
        assert!(self.is_swapping, "finish a swap that did not begin");
        self.is_swapping = false;
        if let Err(SwapError::Unknown(error)) = &result {
            self.latch("swap in cleaned segments", error);
        }
        let SwapDone(cleaned) = result?;
        let replaced = cleaned.iter().filter_map(|group| {
            let (first, last) = (group.old.first()?, group.old.last()?);
            let new = Segment::sealed(
                segment_settings(&self.context, &self.directory, &self.config),
                first.base_offset(),
                group.size,
                last.next_offset(),
                group.has_aborted,
            );
            Some((group.old.as_slice(), Arc::new(new)))
        });
        let segments = self.shared.segments().replacing(replaced);
        *self.shared.segments.write() = segments.expect("while a swap runs, no segment leaves the log");
        Ok(cleaned)
    }
}

fn replacement(group: &CleanedGroup) -> Option<Replacement> {
    let (first, others) = group.old.split_first()?;
    Some(Replacement {
        base_offset: first.base_offset(),
        others: others.iter().map(|segment| segment.base_offset()).collect(),
    })
}
