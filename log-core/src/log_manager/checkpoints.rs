//! The contents of a data directory's checkpoint files, in memory: an offset for each partition and its life.
//!
//! Owns which entries count. The files name no topic id, so an entry that comes late must not be taken for a new life's; and
//! lines of deleted partitions go with the next write. Writing is `log_directory`'s task.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::error::LogManagerError;
use crate::checkpoint::error::CheckpointFile;
use crate::checkpoint::offset_checkpoint::{self, OffsetCheckpoint};
use crate::fs::{FileSystem, FsErrorKind};
use crate::model::{Offset, TopicId, TopicPartition};

/// Where each log's recovery begins.
pub(super) const RECOVERY_POINT_FILE: &str = "recovery-point-offset-checkpoint";
/// Where each log starts.
pub(super) const LOG_START_FILE: &str = "log-start-offset-checkpoint";
/// Up to where each compacted log has been cleaned.
pub(super) const CLEANER_FILE: &str = "cleaner-offset-checkpoint";
/// The files hold one short line a partition.
const FILE_BYTES_MAX: u64 = 256 << 20;

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
    /// As they stand in a directory's files. Those of lives that are over go when their partitions are made anew.
    pub(super) fn read(file_system: &dyn FileSystem, data_dir: &Path) -> Result<Self, LogManagerError> {
        let read = |name, kind| read_file(file_system, data_dir, name, kind);
        let cleaned = match read(CLEANER_FILE, CheckpointFile::CleanerOffset) {
            Err(LogManagerError::Checkpoint { .. }) => BTreeMap::new(),
            result => result?,
        };
        Ok(Self {
            lives: BTreeMap::new(),
            recovery_points: read(RECOVERY_POINT_FILE, CheckpointFile::RecoveryPoint)?,
            log_starts: read(LOG_START_FILE, CheckpointFile::LogStartOffset)?,
            cleaned,
            ended: BTreeSet::new(),
        })
    }

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

    /// The recovery points with those of `entries`; none goes back.
    pub(super) fn points_with(&self, entries: &[CheckpointEntry]) -> OffsetCheckpoint {
        let mut merged = self.without_ended(&self.recovery_points);
        for (partition, offset) in self.current(entries) {
            let known = merged.entry(partition).or_insert(offset);
            *known = offset.max(*known);
        }
        merged
    }

    /// Ended partitions that no file names any more need not be remembered.
    pub(super) fn forget_written(&mut self) {
        let files = [&self.recovery_points, &self.log_starts, &self.cleaned];
        self.ended
            .retain(|partition| files.iter().any(|file| file.contains_key(partition)));
    }
}

fn read_file(
    file_system: &dyn FileSystem,
    data_dir: &Path,
    name: &str,
    kind: CheckpointFile,
) -> Result<OffsetCheckpoint, LogManagerError> {
    let path = data_dir.join(name);
    match file_system.read(&path, FILE_BYTES_MAX) {
        Ok(bytes) => offset_checkpoint::parse(kind, &bytes)
            .map_err(|source| LogManagerError::Checkpoint { path, source }),
        Err(error) if error.kind == FsErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(error.into()),
    }
}
