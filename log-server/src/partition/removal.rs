//! What goes for good: segments that retention lets go, and the directories of deleted partitions.
//!
//! On a thread of its own: on a slow disk the removal of many GiB takes long, and the recovery points, which *housekeeping*
//! writes, must not wait for that. Neither needs anything of the other: log starts and recovery points are different files,
//! and a log hands out each of its tasks under its lock.

use std::sync::Arc;
use std::time::Duration;

use log_core::fs::FsErrorKind;

use crate::partition::housekeeping::{Due, Intervals};
use crate::partition::registry::PartitionRegistry;

/// Removes what nobody needs any more.
#[derive(Debug)]
pub(crate) struct Removal {
    registry: Arc<PartitionRegistry>,
    retention: Due,
}

impl Removal {
    pub(crate) fn new(registry: Arc<PartitionRegistry>, intervals: &Intervals) -> Self {
        Self {
            registry,
            retention: Due::every(intervals.retention),
        }
    }

    /// Does what is due at `now`, counted from any one beginning. Blocks.
    pub(crate) fn tick(&mut self, now: Duration) {
        self.registry.remove_deleted();
        if self.retention.is_now(now) {
            self.apply_retention();
        }
    }

    /// Moves log starts, makes them durable in one write, and then lets the segments below go: also those of an earlier
    /// round whose write failed, or of a `DeleteRecords`.
    /// What fails in one directory holds up none of the others.
    fn apply_retention(&self) {
        let mut starts = Vec::new();
        self.registry.for_each(|partition| {
            if let Some(log_start) = partition.apply_retention() {
                starts.push((Arc::clone(partition), log_start));
            }
        });
        for checkpoints in self.registry.checkpoints() {
            match checkpoints.write() {
                Ok(()) => {}
                // Retention is what frees a full disk, so it must not need space. Without the checkpoint, a crash in this
                // moment may show some of the oldest segments again, until the next retention.
                Err(error) if error.kind == FsErrorKind::NoSpace => {}
                Err(error) => {
                    tracing::error!(operation = "write log starts", %error, "retention is put off");
                    continue;
                }
            }
            let directory = checkpoints.directory();
            let here =
                (starts.iter()).filter(|(partition, _)| Arc::ptr_eq(partition.log_directory(), directory));
            for (partition, log_start) in here {
                partition.reclaim(*log_start);
            }
        }
    }
}
