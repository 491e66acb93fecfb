//! What keeps a partition's recovery short: its checkpoint, and from where a recovery has to look.
//!
//! A checkpoint is a hint: stored indexes and the producers' state, of which a start makes again what is missing. The recovery point is a
//! promise, and is written for all partitions together ([`registry`](crate::partition::registry)).

use std::sync::atomic::Ordering;

use log_core::model::Offset;

use crate::partition::partition::Partition;
use crate::partition::upkeep::UseGuard;

impl Partition {
    /// Stores what shortens the next recovery, if anything changed. Blocks.
    pub(crate) fn checkpoint(&self) {
        let task = {
            let mut writer = self.writer.lock_slow();
            let Ok(log) = writer.log() else { return };
            // Where nobody waits for the disk, a flush now and then keeps recovery short and lets retention go on.
            // And a segment that rolled before a kill is completed behind a flush.
            let is_behind = !log.config().durable && log.flushed() < log.offsets().log_end;
            if is_behind || log.has_rolled() {
                self.mark_dirty();
            }
            let log_end = log.offsets().log_end.get();
            if self.checkpointed_end.swap(log_end, Ordering::Relaxed) == log_end {
                return;
            }
            let Ok(task) = log.checkpoint_state() else { return };
            writer.begin_use();
            task
        };
        let result = {
            let _ends = UseGuard(self);
            task.run()
        };
        if let Err(error) = result {
            self.checkpointed_end.store(-1, Ordering::Relaxed);
            tracing::warn!(partition = %self.name(), operation = "checkpoint", %error, "the next recovery takes longer");
        }
    }

    /// From where a recovery after a crash has to look; `None` while there is no log.
    pub(crate) fn recovery_point(&self) -> Option<Offset> {
        self.writer.lock().log().ok().map(|log| log.recovery_point())
    }
}
