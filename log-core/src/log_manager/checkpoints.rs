//! The contents of a data directory's checkpoint files, in memory: an offset for each partition and its life.
//!
//! Owns which entries count. The files name no topic id, so an entry that comes late must not be taken for a new life's; and
//! lines of deleted partitions go with the next write. Writing is `log_manager`'s task.

use std::collections::{BTreeMap, BTreeSet};

use crate::checkpoint::offset_checkpoint::OffsetCheckpoint;
use crate::model::{Offset, TopicId, TopicPartition};

/// An offset to be checkpointed, for one life of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointEntry {
    /// The partition.
    pub partition: TopicPartition,
    /// The life of its topic: an entry that comes late must not be taken for a new life's.
    pub topic_id: TopicId,
    /// The offset.
    pub offset: Offset,
}

/// The contents of the checkpoint files. They name no topic id, so the lives are kept beside them.
#[derive(Debug)]
pub(super) struct Checkpoints {
    pub(super) lives: BTreeMap<TopicPartition, TopicId>,
    pub(super) recovery_points: OffsetCheckpoint,
    pub(super) log_starts: OffsetCheckpoint,
    /// A hint: without it, a log is cleaned from its start.
    pub(super) cleaned: OffsetCheckpoint,
    /// Partitions that were deleted, and whose names still stand in a file.
    pub(super) ended: BTreeSet<TopicPartition>,
}

impl Checkpoints {
    pub(super) fn current<'a>(
        &'a self,
        entries: &'a [CheckpointEntry],
    ) -> impl Iterator<Item = (TopicPartition, Offset)> + 'a {
        let is_current = |entry: &&CheckpointEntry| self.lives.get(&entry.partition) == Some(&entry.topic_id);
        entries
            .iter()
            .filter(is_current)
            .map(|entry| (entry.partition.clone(), entry.offset))
    }

    /// A partition is deleted. Its lines go with the next write of the files, so that they do not grow with every topic
    /// there ever was.
    pub(super) fn end_life(&mut self, partition: &TopicPartition, topic_id: TopicId) {
        if self.lives.get(partition).is_none_or(|life| *life == topic_id) {
            self.lives.remove(partition);
            self.ended.insert(partition.clone());
            self.forget_written();
        }
    }

    /// What is to be written: the offsets so far, without those of partitions that have ended.
    pub(super) fn without_ended(&self, offsets: &OffsetCheckpoint) -> OffsetCheckpoint {
        let mut kept = offsets.clone();
        kept.retain(|partition, _| !self.ended.contains(partition));
        kept
    }

    /// Ended partitions that no file names any more need not be remembered.
    pub(super) fn forget_written(&mut self) {
        let files = [&self.recovery_points, &self.log_starts, &self.cleaned];
        self.ended
            .retain(|partition| files.iter().any(|file| file.contains_key(partition)));
    }
}
