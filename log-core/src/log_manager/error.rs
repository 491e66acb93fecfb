//! Why a broker's directories cannot be used.
//! What to do about it is for the one who starts the broker to say.

use std::path::PathBuf;

use crate::checkpoint::error::CheckpointError;
use crate::fs::FsError;
use crate::model::TopicPartition;

/// A data directory that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogManagerError {
    /// The file system failed, or another process holds the directory.
    #[error(transparent)]
    Storage(#[from] FsError),
    /// A checkpoint file cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: CheckpointError,
    },
    /// The file that says whose directory it is cannot be read.
    #[error("{path}: {reason}", path = path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The directory is another broker's.
    #[error("{reason}")]
    Foreign {
        /// What tells so.
        reason: String,
    },
    /// A cluster is to begin, and whether the directory is new cannot be seen.
    #[error("{reason}")]
    Unseen {
        /// Why.
        reason: String,
    },
    /// Two directories say that they are the same one.
    #[error("it has the directory.id of {other}, so one of them is a copy of the other", other = other.display())]
    Copied {
        /// The one that was opened before.
        other: PathBuf,
    },
    /// A partition was found in two directories.
    #[error(
        "partition {partition} is in {second} and in {first}", first = first.display(), second = second.display()
    )]
    Twice {
        /// Which.
        partition: TopicPartition,
        /// The directory that comes first in the setting.
        first: PathBuf,
        /// The other one.
        second: PathBuf,
    },
}

/// Why one of a broker's directories keeps it from starting.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", directory.display())]
pub struct OpenError {
    /// The directory.
    pub directory: PathBuf,
    /// What is wrong.
    pub source: LogManagerError,
}
