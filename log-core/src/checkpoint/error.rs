//! The names of the checkpoint files, and what is wrong with one.
//! An error names the line and what should stand there; in which directory the file lies, its reader knows.

use std::fmt;

/// Which of the checkpoint files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CheckpointFile {
    /// Below which offset each log is on the disk.
    RecoveryPoint,
    /// Where each log starts.
    LogStartOffset,
    /// Up to where each log's records may be read.
    HighWatermark,
    /// Up to where each compacted log has been cleaned.
    CleanerOffset,
    /// Where each leader epoch began.
    LeaderEpoch,
    /// Which topic a partition belongs to.
    PartitionMetadata,
    /// That the broker stopped in an orderly way.
    CleanShutdown,
}

impl CheckpointFile {
    /// The file's name in the data directory or the partition's.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RecoveryPoint => "recovery-point-offset-checkpoint",
            Self::LogStartOffset => "log-start-offset-checkpoint",
            Self::HighWatermark => "replication-offset-checkpoint",
            Self::CleanerOffset => "cleaner-offset-checkpoint",
            Self::LeaderEpoch => "leader-epoch-checkpoint",
            Self::PartitionMetadata => "partition.metadata",
            Self::CleanShutdown => ".kafka_cleanshutdown",
        }
    }
}

impl fmt::Display for CheckpointFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The text is not what the file should hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}: line {line}: expected {expected}, found {found}")]
pub struct CheckpointError {
    /// The kind of file.
    pub file: CheckpointFile,
    /// The line, from 1.
    pub line: usize,
    /// What should stand there.
    pub expected: &'static str,
    /// What stands there, quoted, and cut off when long.
    pub found: String,
}

impl CheckpointError {
    /// The most characters of a file that an error repeats.
    const FOUND_LENGTH_MAX: usize = 80;

    /// Names the text that was found.
    pub(super) fn new(file: CheckpointFile, line: usize, expected: &'static str, found: &str) -> Self {
        let mut characters = found.chars();
        let shown: String = characters.by_ref().take(Self::FOUND_LENGTH_MAX).collect();
        let found = if characters.next().is_some() {
            format!("{shown:?}…")
        } else {
            format!("{shown:?}")
        };
        Self {
            file,
            line,
            expected,
            found,
        }
    }

    /// Says that the file ends before this line.
    pub(super) fn at_end(file: CheckpointFile, line: usize, expected: &'static str) -> Self {
        Self {
            file,
            line,
            expected,
            found: "the end of the file".to_owned(),
        }
    }
}
