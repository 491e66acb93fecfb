//! A partition as the cleaner sees it: how dirty it is, what is to be cleaned, and cleaned segments on their way in.
//!
//! A cleaning takes minutes and holds nothing: it sees from outside when the log is not the same any more. Only a swap
//! counts as a use of the log.

use std::panic::{AssertUnwindSafe, catch_unwind};

use log_core::cleaner::{CleanError, CleanedGroup, Dirt, LogToClean, LogView};
use log_core::log::{ReadError, SwapDone, SwapError};
use log_core::model::Offset;

use crate::partition::compaction::{CompactionError, HeldBack};
use crate::partition::error::PartitionError;
use crate::partition::partition::Partition;
use crate::partition::upkeep::FollowUp;

/// A cleaning's log, and which life of the partition's log it is.
pub(super) struct Started {
    pub(super) log: LogToClean,
    pub(super) generation: u64,
}

impl Partition {
    /// How dirty the log is; `None` when it is not compacted, or cannot be at present. Blocks.
    pub(super) fn dirt(&self, cleaned_to: Option<Offset>) -> Option<Result<Dirt, CleanError>> {
        let config = self.config();
        if !config.cleanup_policy.compact {
            return None;
        }
        let (view, generation) = {
            let mut writer = self.writer.lock();
            let generation = writer.generation();
            let log = writer.log().ok().filter(|log| log.latch_reason().is_none())?;
            // The cleaner brings the recovery point to the disk before it begins.
            (log.cleaner_view(log.recovery_point()), generation)
        };
        let dirt = Dirt::of(&view, cleaned_to, &config, self.context.clock.now());
        // Files that went with their topic say nothing.
        self.may_be_cleaned(generation).then_some(dirt)
    }

    /// Seals the active segment for a cleaning, unless records in it must not be cleaned yet. Gives the place up to which everything is
    /// sealed then: a cleaning sees all of it as soon as the recovery point is there. Blocks.
    ///
    /// # Errors
    /// The log refuses, or cannot be read.
    pub(super) fn seal_for_cleaning(&self) -> Result<Offset, CompactionError> {
        let view = self.cleaner_view()?;
        let offsets = self.offsets();
        let is_decided = offsets.high_watermark <= offsets.last_stable;
        if !is_decided || !self.may_clean_active(&view)? {
            return Ok(view.sealed_end());
        }
        self.roll()?;
        Ok(self.cleaner_view()?.sealed_end())
    }

    fn may_clean_active(&self, view: &LogView) -> Result<bool, CompactionError> {
        let (config, now) = (self.config(), self.context.clock.now());
        view.has_cleanable_in_active(&config, now)
            .map_err(|error| CompactionError::from(&error))
    }

    /// Why records that consumers see are left behind what can be cleaned.
    pub(super) fn held_back(&self, dirt: &Dirt) -> Option<HeldBack> {
        let offsets = self.offsets();
        if offsets.high_watermark <= dirt.first_uncleanable {
            None
        } else if offsets.last_stable < offsets.high_watermark {
            Some(HeldBack::OpenTransaction)
        } else {
            // Without a lag, they came meanwhile.
            (0 < self.config().min_compaction_lag_ms).then_some(HeldBack::MinCompactionLag)
        }
    }

    /// Why nobody can say how dirty the log is.
    pub(super) fn why_not_cleaned(&self) -> CompactionError {
        if !self.config().cleanup_policy.compact {
            return CompactionError::NotCompacted;
        }
        match self.writer.lock().log() {
            Err(absence) => absence.into(),
            Ok(log) => match log.latch_reason() {
                Some(reason) => PartitionError::from_latch(reason).into(),
                None => CompactionError::Stopped,
            },
        }
    }

    fn cleaner_view(&self) -> Result<LogView, PartitionError> {
        let mut writer = self.writer.lock();
        let log = writer.log()?;
        Ok(log.cleaner_view(log.recovery_point()))
    }

    /// What a cleaning needs; `None` when there is no log. Blocks.
    pub(super) fn begin_cleaning(&self, dirt: &Dirt) -> Result<Option<Started>, ReadError> {
        let (task, generation) = {
            let mut writer = self.writer.lock_slow();
            let generation = writer.generation();
            let Ok(log) = writer.log() else { return Ok(None) };
            (log.begin_cleaning(dirt), generation)
        };
        let log = task.run()?;
        Ok(Some(Started { log, generation }))
    }

    /// Whether a cleaning of that life's log may go on.
    pub(super) fn may_be_cleaned(&self, generation: u64) -> bool {
        self.config.load().cleanup_policy.compact && self.writer.lock().generation() == generation
    }

    /// Puts cleaned segments in their places. After a failure the cleaning is over; a panic on the way leaves the log half-way,
    /// and nobody uses it again. Blocks.
    ///
    /// # Errors
    /// `Stopped` when the log has changed there, or is gone; otherwise the disk's.
    pub(super) fn swap_in(
        &self,
        cleaned: Vec<CleanedGroup>,
        recovery_point: Offset,
    ) -> Result<(), CleanError> {
        let task = {
            let mut writer = self.writer.lock_slow();
            let log = writer.log().map_err(|_| CleanError::Stopped)?;
            let task = log
                .begin_swap(cleaned, recovery_point)
                .ok_or(CleanError::Stopped)?;
            writer.begin_use();
            task
        };
        let swap = AssertUnwindSafe(|| self.finish_swap(task.run()));
        catch_unwind(swap).unwrap_or_else(|_| {
            self.set_aside(
                "an exchange of cleaned segments panicked; restart the broker to recover the log from what is on the disk",
            );
            Err(CleanError::Stopped)
        })
    }

    /// Ends the use that a swap was.
    fn finish_swap(&self, result: Result<SwapDone, SwapError>) -> Result<(), CleanError> {
        let mut writer = self.writer.lock_slow();
        // Without a log, it was set aside meanwhile, and nobody uses it again.
        let finished = writer.log().ok().map(|log| log.finish_swap(result));
        let (outcome, follow_up) = match finished {
            Some(Ok(replaced)) => (Ok(replaced), FollowUp::default()),
            Some(Err(SwapError::NotBegun(error))) => (Err(error), FollowUp::default()),
            Some(Err(SwapError::Unknown(error))) => (Err(error.into()), self.note_latch(&mut writer)),
            None => (Err(CleanError::Stopped), FollowUp::default()),
        };
        self.writer.end_use(&mut writer);
        drop(writer);
        self.follow_up(follow_up);
        // Not before: the files of what was replaced go with it, and some file systems take their time.
        outcome.map(drop)
    }
}
