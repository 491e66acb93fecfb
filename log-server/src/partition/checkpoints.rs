//! Log starts of one directory's partitions, on their way to the disk.
//!
//! A log start must be durable before the segments below it are removed and before `DeleteRecords` is answered. It is
//! noted under the log's own lock, so that the largest wins, and written without it; those who ask at the same time
//! share one write. That a late entry is not taken for a new life of the topic is `log_manager`'s to see to.

use std::collections::BTreeMap;
use std::sync::Arc;

use log_core::fs::{FsError, FsErrorKind};
use log_core::log_manager::{CheckpointEntry, LogDirectory};
use log_core::model::{Offset, TopicId, TopicPartition};
use parking_lot::Mutex;

use crate::partition::reserve::SpaceReserve;

/// Writes log starts for all partitions of a directory together.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    directory: Arc<LogDirectory>,
    reserve: Arc<SpaceReserve>,
    /// What is not on the disk yet.
    pending: Mutex<BTreeMap<(TopicPartition, TopicId), Offset>>,
    /// Held by the one who writes.
    turn: Mutex<()>,
}

impl Checkpoints {
    /// Nothing is to be written yet.
    pub(crate) fn new(directory: Arc<LogDirectory>) -> Self {
        Self {
            reserve: Arc::new(SpaceReserve::new(&directory)),
            directory,
            pending: Mutex::default(),
            turn: Mutex::default(),
        }
    }

    /// Where the partitions live.
    pub(crate) fn directory(&self) -> &Arc<LogDirectory> {
        &self.directory
    }

    /// What is given up when there is no space for that.
    pub(crate) fn reserve(&self) -> Arc<SpaceReserve> {
        Arc::clone(&self.reserve)
    }

    /// Notes a log start that moved, for the next [`Self::write`].
    pub(crate) fn note(&self, partition: &TopicPartition, topic_id: TopicId, log_start: Offset) {
        let mut pending = self.pending.lock();
        let entry = pending.entry((partition.clone(), topic_id)).or_insert(log_start);
        *entry = log_start.max(*entry);
    }

    /// Makes durable what was noted before the call. Blocks.
    ///
    /// # Errors
    /// The file system's; what was noted is tried again with the next write.
    pub(crate) fn write(&self) -> Result<(), FsError> {
        let _turn = self.turn.lock();
        let batch = std::mem::take(&mut *self.pending.lock());
        if batch.is_empty() {
            // Somebody else wrote ours meanwhile: a write that fails notes its entries again.
            return Ok(());
        }
        let entries: Vec<CheckpointEntry> = batch
            .into_iter()
            .map(|((partition, topic_id), offset)| CheckpointEntry {
                partition,
                topic_id,
                offset,
            })
            .collect();
        let mut result = self.directory.write_log_starts(&entries);
        let is_full = (result.as_ref()).is_err_and(|error| error.kind == FsErrorKind::NoSpace);
        if is_full && self.reserve.give_up() {
            result = self.directory.write_log_starts(&entries);
        }
        if result.is_err() {
            for entry in &entries {
                self.note(&entry.partition, entry.topic_id, entry.offset);
            }
        }
        result
    }
}
