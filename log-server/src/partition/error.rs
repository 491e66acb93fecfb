//! Why a partition refused: one small enum that both fronts translate, the Kafka front in `kafka/error_map.rs`.
//!
//! It is cloned to every request that waited for the same sync, so causes are held as shared text.

use std::sync::Arc;

use log_core::fs::{FsError, FsErrorKind};
use log_core::log::{AppendError, LatchReason, LogError, ReadError};
use log_core::model::Offset;
use log_core::producer_state::manager::ProducerStateError;
use log_core::record::validator::ProduceError;

use crate::metrics::logs::LogRefusal;

/// Why a partition refused or could not finish what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PartitionError {
    /// The batch breaks a rule; its variants name their codes.
    #[error(transparent)]
    Invalid(Box<ProduceError>),
    /// The producer's epoch or sequence does not fit; its variants name their codes.
    #[error(transparent)]
    Producer(ProducerStateError),
    /// The batch is larger than a segment may become: `RECORD_LIST_TOO_LARGE`.
    #[error("a batch of {batch_bytes} bytes exceeds segment.bytes = {segment_bytes_max}")]
    BatchExceedsSegment {
        /// The batch's size.
        batch_bytes: u64,
        /// The limit.
        segment_bytes_max: u64,
    },
    /// The offset is not one that can be read: `OFFSET_OUT_OF_RANGE`.
    #[error("offset {offset} is not between the log start {log_start} and {bound}")]
    OffsetOutOfRange {
        /// What was asked for.
        offset: Offset,
        /// The first offset that can be read.
        log_start: Offset,
        /// The end of what this reader may see.
        bound: Offset,
    },
    /// Only the disk has the records, and the caller must not wait for it. Never an answer to a client.
    #[error("the records are not in memory")]
    WouldBlock,
    /// The disk failed: `KAFKA_STORAGE_ERROR`.
    #[error("{reason}")]
    Storage {
        /// Operation, file and cause.
        reason: Arc<str>,
    },
    /// The log refuses writes until it is reopened: `KAFKA_STORAGE_ERROR`.
    #[error("the log refuses writes until it is reopened: {reason}")]
    Latched {
        /// The failure that latched it.
        reason: Arc<str>,
    },
    /// No space for the records; nothing was written: `KAFKA_STORAGE_ERROR`.
    #[error("no space: {reason}")]
    DiskFull {
        /// Operation, file and cause.
        reason: Arc<str>,
    },
    /// The log could not be loaded at start: `KAFKA_STORAGE_ERROR`.
    #[error("the partition is off-line: {reason}")]
    Offline {
        /// File, position, offsets and what to do.
        reason: Arc<str>,
    },
    /// The log does not end where a writer of our own left it: part of it was lost when it was reopened. Never an answer to a client.
    #[error("the log ends at {found} and not at {expected}")]
    LogEndMoved {
        /// Where the writer believes it to end.
        expected: Offset,
        /// Where it ends.
        found: Offset,
    },
    /// The batch is to be written anew, and its turn at that did not come; nothing was written: `REQUEST_TIMED_OUT`.
    #[error(
        "too many batches are being written anew in their topics' codecs: this one's turn did not come in time, and it was not appended"
    )]
    TurnTimedOut,
    /// The partition was deleted: `UNKNOWN_TOPIC_OR_PARTITION`.
    #[error("the partition was deleted")]
    Deleted,
    /// The broker is stopping: `NOT_LEADER_OR_FOLLOWER`.
    #[error("the broker is shutting down")]
    ShuttingDown,
}

impl PartitionError {
    /// Under which reason it is counted; nothing where the caller asks again.
    #[must_use]
    pub fn refusal(&self) -> Option<LogRefusal> {
        match self {
            Self::Invalid(_) => Some(LogRefusal::Invalid),
            Self::Producer(_) => Some(LogRefusal::Producer),
            Self::BatchExceedsSegment { .. } => Some(LogRefusal::TooLarge),
            Self::OffsetOutOfRange { .. } => Some(LogRefusal::OffsetOutOfRange),
            Self::DiskFull { .. } => Some(LogRefusal::DiskFull),
            Self::Storage { .. } | Self::Latched { .. } | Self::Offline { .. } => Some(LogRefusal::Storage),
            Self::TurnTimedOut => Some(LogRefusal::TimedOut),
            Self::Deleted | Self::ShuttingDown => Some(LogRefusal::Gone),
            Self::WouldBlock | Self::LogEndMoved { .. } => None,
        }
    }

    /// What a producer is told of a failed append.
    #[must_use]
    pub fn from_append(error: AppendError) -> Self {
        match error {
            AppendError::Latched(reason) => Self::from_latch(&reason),
            AppendError::Storage(error) => Self::from_file_system(&error),
            AppendError::BatchExceedsSegment {
                batch_bytes,
                segment_bytes_max,
            } => Self::BatchExceedsSegment {
                batch_bytes,
                segment_bytes_max,
            },
            AppendError::Producer(error) => Self::Producer(error),
            AppendError::OffsetsExhausted(end) => Self::Storage {
                reason: format!("no offset is left behind {end}").into(),
            },
        }
    }

    /// What a consumer is told of a failed read.
    #[must_use]
    pub fn from_read(error: &ReadError) -> Self {
        match error {
            ReadError::OffsetOutOfRange {
                offset,
                log_start,
                log_end,
            } => Self::OffsetOutOfRange {
                offset: *offset,
                log_start: *log_start,
                bound: *log_end,
            },
            ReadError::WouldBlock => Self::WouldBlock,
            ReadError::Storage(_) | ReadError::Corrupt { .. } | ReadError::BadBatch { .. } => Self::Storage {
                reason: error.to_string().into(),
            },
        }
    }

    /// What is told of any other failed operation on a log.
    #[must_use]
    pub fn from_log(error: &LogError) -> Self {
        match error {
            LogError::Latched(reason) => Self::from_latch(reason),
            LogError::Storage(error) => Self::from_file_system(error),
            LogError::OffsetOutOfRange { offset, low, high } => Self::OffsetOutOfRange {
                offset: *offset,
                log_start: *low,
                bound: *high,
            },
            LogError::Damaged(_)
            | LogError::ForeignDirectory { .. }
            | LogError::NamelessDirectory { .. }
            | LogError::MissingDirectory { .. } => Self::Storage {
                reason: error.to_string().into(),
            },
        }
    }

    /// A latched log.
    #[must_use]
    pub fn from_latch(reason: &LatchReason) -> Self {
        Self::Latched {
            reason: reason.to_string().into(),
        }
    }

    /// A failed file operation; a lack of space is told apart, because it mends itself.
    #[must_use]
    pub fn from_file_system(error: &FsError) -> Self {
        let reason = error.to_string().into();
        match error.kind {
            FsErrorKind::NoSpace => Self::DiskFull { reason },
            _ => Self::Storage { reason },
        }
    }
}

/// What a request that waits for the disk is told in the end.
pub type DurableResult = Result<(), PartitionError>;
