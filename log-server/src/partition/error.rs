//! Why a partition refused: one small enum that both fronts translate, the Kafka front in `kafka/error_map.rs`.
//!
//! It is cloned to every request that waited for the same sync, so causes are held as shared text.

use std::sync::Arc;

use log_core::model::Offset;

/// Why a partition refused or could not finish what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PartitionError {
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
    /// The partition was deleted: `UNKNOWN_TOPIC_OR_PARTITION`.
    #[error("the partition was deleted")]
    Deleted,
    /// The broker is stopping: `NOT_LEADER_OR_FOLLOWER`.
    #[error("the broker is shutting down")]
    ShuttingDown,
}

/// What a request that waits for the disk is told in the end.
pub type DurableResult = Result<(), PartitionError>;
