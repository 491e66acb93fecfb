//! A partition as the cleaner sees it: how dirty it is, what is to be cleaned, and cleaned segments on their way in.
//!
//! A cleaning takes minutes and holds nothing: it sees from outside when the log is not the same any more. Only a swap
//! counts as a use of the log.

use std::panic::{AssertUnwindSafe, catch_unwind};

use log_core::cleaner::{CleanedGroup, Dirt, DirtError, LogToClean};
use log_core::fs::FsError;
use log_core::log::{ReadError, SwapDone};
use log_core::model::Offset;

use crate::partition::partition::Partition;
use crate::partition::upkeep::FollowUp;

/// A cleaning's log, and which life of the partition's log it is.
pub(super) struct Started {
    pub(super) log: LogToClean,
    pub(super) generation: u64,
}

impl Partition {
    /// How dirty the log is; `None` when it is not compacted, or cannot be at present. Blocks.
    pub(super) fn dirt(&self, cleaned_to: Option<Offset>) -> Option<Result<Dirt, DirtError>> {
        let config = self.config();
        if !config.cleanup_policy.compact {
            return None;
        }
        let view = {
            let mut writer = self.writer.lock();
            let log = writer.log().ok().filter(|log| log.latch_reason().is_none())?;
            // The cleaner brings the recovery point to the disk before it begins.
            log.cleaner_view(log.recovery_point())
        };
        Some(Dirt::of(&view, cleaned_to, &config, self.context.clock.now()))
    }

    /// What a cleaning needs; `None` when there is no log. Blocks.
    pub(super) fn begin_cleaning(&self, dirt: &Dirt) -> Result<Option<Started>, ReadError> {
        let mut writer = self.writer.lock_slow();
        let generation = writer.generation();
        let Ok(log) = writer.log() else { return Ok(None) };
        let log = log.to_clean(dirt)?;
        Ok(Some(Started { log, generation }))
    }

    /// Whether a cleaning of that life's log may go on.
    pub(super) fn may_be_cleaned(&self, generation: u64) -> bool {
        self.config.load().cleanup_policy.compact && self.writer.lock().generation() == generation
    }

    /// Puts a cleaned segment in its place. False when the log has changed there, or the disk failed: then the cleaning is
    /// over. A panic on the way leaves the log half-way, and nobody uses it again. Blocks.
    pub(super) fn swap_in(&self, group: CleanedGroup, recovery_point: Offset) -> bool {
        let task = {
            let mut writer = self.writer.lock_slow();
            let Ok(log) = writer.log() else { return false };
            let Some(task) = log.begin_swap(group, recovery_point) else {
                return false;
            };
            writer.begin_use();
            task
        };
        let swap = AssertUnwindSafe(|| self.finish_swap(task.run()));
        catch_unwind(swap).unwrap_or_else(|_| {
            self.set_aside(
                "an exchange of cleaned segments panicked; restart the broker to recover the log from what is on the disk",
            );
            false
        })
    }

    /// Ends the use that a swap was; true when the segments have their places.
    fn finish_swap(&self, result: Result<SwapDone, FsError>) -> bool {
        let mut writer = self.writer.lock_slow();
        // Without a log, it was set aside meanwhile, and nobody uses it again.
        let outcome = writer.log().ok().map(|log| log.finish_swap(result));
        let follow_up = match outcome {
            Some(Err(_)) => self.note_latch(&mut writer),
            Some(Ok(())) | None => FollowUp::default(),
        };
        self.writer.end_use(&mut writer);
        drop(writer);
        self.follow_up(follow_up);
        matches!(outcome, Some(Ok(())))
    }
}
