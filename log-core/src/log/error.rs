//! What can go wrong with a log, by what the caller can do about it.
//! A latched log refuses writes until it is opened again; damage is told with file, position and offset, and
//! nothing is touched.

use std::path::PathBuf;

use crate::fs::FsError;
use crate::model::{FilePosition, Offset, TopicPartition};
use crate::producer_state::manager::ProducerStateError;
use crate::record::batch_header::BatchError;
use crate::segment::scan::ScanError;

/// Why a log refuses everything until it is opened and recovered again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{partition} is latched since {operation} failed: {cause}")]
pub struct LatchReason {
    /// The log.
    pub partition: TopicPartition,
    /// What was being done.
    pub operation: &'static str,
    /// The error, in words.
    pub cause: String,
}

/// Bytes on disk that should be a log and are not. Nothing is cut on account of it.
#[derive(Debug, thiserror::Error)]
#[error(
    "{file}: damaged at position {position}, at or behind offset {offset}, although everything before offset \
     {recovery_point} was on the disk: {cause}"
, file = file.display())]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// Where in it.
    pub position: FilePosition,
    /// The first offset that cannot be read.
    pub offset: Offset,
    /// Everything before this offset had been synced.
    pub recovery_point: Offset,
    /// What is wrong.
    pub cause: String,
}

/// A failed operation on a log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The log was latched by an earlier failure.
    #[error(transparent)]
    Latched(#[from] LatchReason),
    /// The file system failed.
    #[error(transparent)]
    Storage(#[from] FsError),
    /// The log is damaged where it must not be.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// An offset outside of what the operation allows.
    #[error("offset {offset} is outside of {low}..={high}")]
    OffsetOutOfRange {
        /// The offset.
        offset: Offset,
        /// The lowest allowed.
        low: Offset,
        /// The highest allowed.
        high: Offset,
    },
    /// A data directory that was there before is not, and what is to be made may be in it.
    #[error("{directory} is missing, and may hold what is to be made: bring it back and start again", directory = directory.display())]
    MissingDirectory {
        /// Where it was.
        directory: PathBuf,
    },
    /// A directory holds another topic of the same name.
    #[error("{directory} belongs to topic id {found}, not to {expected}", directory = directory.display())]
    ForeignDirectory {
        /// The directory.
        directory: PathBuf,
        /// The id it names.
        found: crate::model::TopicId,
        /// The id it should name.
        expected: crate::model::TopicId,
    },
    /// A directory is to be made, and one of that name has files already, without the id of a topic.
    #[error("{directory} has files, and does not say of which topic", directory = directory.display())]
    NamelessDirectory {
        /// The directory.
        directory: PathBuf,
    },
}

/// A batch that was not appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The log was latched by an earlier failure, or by this one.
    #[error(transparent)]
    Latched(#[from] LatchReason),
    /// The file system refused; nothing was written and the log goes on.
    #[error(transparent)]
    Storage(#[from] FsError),
    /// The batch is larger than a whole segment may be.
    #[error("a batch of {batch_bytes} bytes exceeds segment.bytes = {segment_bytes_max}")]
    BatchExceedsSegment {
        /// The batch's size.
        batch_bytes: u64,
        /// The limit.
        segment_bytes_max: u64,
    },
    /// The producer's epoch or sequence does not fit.
    #[error(transparent)]
    Producer(#[from] ProducerStateError),
    /// The offsets of the partition are used up.
    #[error("no offset is left behind {0}")]
    OffsetsExhausted(Offset),
}

/// Records that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No record has, or will next have, that offset.
    #[error("offset {offset} is outside of {log_start}..={log_end}")]
    OffsetOutOfRange {
        /// What was asked for.
        offset: Offset,
        /// The first offset there is.
        log_start: Offset,
        /// The offset that the next record gets.
        log_end: Offset,
    },
    /// Answering needs the disk, and the caller must not wait for it: ask again where blocking is allowed.
    #[error("the records are not in memory")]
    WouldBlock,
    /// The file system failed, a media error perhaps.
    #[error(transparent)]
    Storage(#[from] FsError),
    /// What is on the disk is not what was written.
    #[error("{file}: {source}", file = file.display())]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// Where and what.
        source: ScanError,
    },
    /// The records of a batch cannot be read.
    #[error("{file}: the batch at offset {offset} cannot be read: {cause}", file = file.display())]
    BadBatch {
        /// The file.
        file: PathBuf,
        /// The batch's base offset.
        offset: Offset,
        /// What is wrong.
        cause: String,
    },
}

impl ReadError {
    /// Puts a walk's error into the context of its file.
    #[must_use]
    pub fn from_scan(file: PathBuf, error: ScanError) -> Self {
        match error {
            ScanError::Storage(error) => Self::Storage(error),
            source => Self::Corrupt { file, source },
        }
    }

    /// Puts a batch's error into the context of its file.
    #[must_use]
    pub fn from_batch(file: PathBuf, offset: Offset, error: &BatchError) -> Self {
        Self::BadBatch {
            file,
            offset,
            cause: error.to_string(),
        }
    }
}
