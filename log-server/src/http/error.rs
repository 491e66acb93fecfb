//! From what partitions, metadata and groups refuse to what HTTP clients are told. The only place where errors become codes.
//!
//! The status says whose fault it is and whether asking again may help; the detail is the error's own sentence.

use log_core::log::LogOffsets;
use log_core::producer_state::manager::ProducerStateError;
use log_core::record::validator::ProduceError;

use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::offsets::leasing::LeaseError;
use crate::http::problem::{Code, Problem};
use crate::metadata::error::ControllerError;
use crate::partition::compaction::CompactionError;
use crate::partition::error::PartitionError;

impl From<&PartitionError> for Problem {
    fn from(error: &PartitionError) -> Self {
        let code = match error {
            PartitionError::Invalid(refusal) => produce_refusal(refusal),
            PartitionError::Producer(ProducerStateError::OutOfOrderSequence { .. }) => {
                Code::IdempotencyKeyReused
            }
            PartitionError::Producer(_) | PartitionError::WouldBlock | PartitionError::LogEndMoved { .. } => {
                Code::Internal
            }
            PartitionError::BatchExceedsSegment { .. } => Code::TooLarge,
            PartitionError::OffsetOutOfRange { .. } => Code::OffsetOutOfRange,
            PartitionError::Storage { .. }
            | PartitionError::Latched { .. }
            | PartitionError::Offline { .. } => Code::Storage,
            PartitionError::DiskFull { .. } => Code::DiskFull,
            PartitionError::TurnTimedOut => Code::Overloaded,
            PartitionError::Deleted => Code::UnknownTopic,
            PartitionError::ShuttingDown => Code::Stopping,
        };
        let problem = Self::new(code, error.to_string());
        match error {
            PartitionError::OffsetOutOfRange { log_start, bound, .. } => problem
                .with("log_start_offset", log_start.get())
                .with("high_watermark", bound.get()),
            _ => problem,
        }
    }
}

impl From<PartitionError> for Problem {
    fn from(error: PartitionError) -> Self {
        Self::from(&error)
    }
}

impl From<CompactionError> for Problem {
    fn from(error: CompactionError) -> Self {
        let code = match &error {
            CompactionError::Partition(error) => return error.into(),
            CompactionError::NotCompacted => Code::NotCompacted,
            CompactionError::KeepsItselfShort => Code::InternalTopic,
            CompactionError::UnderWay => Code::CompactionUnderWay,
            CompactionError::Uncleanable(_) | CompactionError::Storage(_) => Code::Storage,
            CompactionError::Stopped => Code::Unavailable,
            CompactionError::Crowded => Code::Overloaded,
        };
        Self::new(code, error.to_string())
    }
}

/// An offset that is not there, and what is.
pub(crate) fn out_of_range(offset: i64, offsets: LogOffsets) -> Problem {
    Problem::from(&PartitionError::OffsetOutOfRange {
        offset: log_core::model::Offset::new(offset),
        log_start: offsets.log_start,
        bound: offsets.high_watermark,
    })
}

fn produce_refusal(error: &ProduceError) -> Code {
    match error {
        ProduceError::TooLarge { .. } | ProduceError::DecompressedTooLarge(_) => Code::TooLarge,
        ProduceError::InvalidTimestamps { .. } => Code::InvalidTimestamp,
        ProduceError::InvalidRecords { .. } => Code::InvalidRecord,
        // The batch is of our own making.
        _ => Code::Internal,
    }
}

impl From<&ControllerError> for Problem {
    fn from(error: &ControllerError) -> Self {
        let code = match error {
            ControllerError::InvalidTopic(_) => Code::InvalidTopic,
            ControllerError::TopicExists(_) => Code::TopicExists,
            ControllerError::UnknownTopic(_) | ControllerError::UnknownTopicId(_) => Code::UnknownTopic,
            ControllerError::InvalidPartitions(_) => Code::InvalidPartitions,
            ControllerError::InvalidConfig(_) => Code::InvalidConfig,
            ControllerError::InvalidReplicationFactor(_)
            | ControllerError::InvalidReplicaAssignment(_)
            | ControllerError::InvalidRequest(_) => Code::InvalidRequest,
            ControllerError::PolicyViolation(_) | ControllerError::TopicDeletionDisabled => {
                Code::PolicyViolation
            }
            ControllerError::Storage(_) => Code::Storage,
            ControllerError::ShuttingDown => Code::Stopping,
        };
        Self::new(code, error.to_string())
    }
}

impl From<ControllerError> for Problem {
    fn from(error: ControllerError) -> Self {
        Self::from(&error)
    }
}

impl From<GroupError> for Problem {
    fn from(error: GroupError) -> Self {
        let code = match &error {
            GroupError::LoadInProgress | GroupError::NotAvailable(_) => Code::Unavailable,
            GroupError::Unreadable(_) => Code::Storage,
            GroupError::NotCoordinator => Code::Stopping,
            GroupError::GroupIdNotFound(_) => Code::UnknownGroup,
            GroupError::NonEmptyGroup
            | GroupError::SubscribedToTopic
            | GroupError::UnknownMemberId(_)
            | GroupError::IllegalGeneration
            | GroupError::RebalanceInProgress => Code::GroupNotEmpty,
            GroupError::UnknownTopicOrPartition | GroupError::UnknownTopicId => Code::UnknownTopic,
            _ => Code::InvalidRequest,
        };
        Self::new(code, error.to_string())
    }
}

impl From<LeaseError> for Problem {
    fn from(error: LeaseError) -> Self {
        let detail = error.to_string();
        match error {
            LeaseError::Group(error) => error.into(),
            LeaseError::Lost {
                committed,
                leased_until_ms,
            } => Self::new(Code::LeaseLost, detail)
                .with("committed", committed)
                .with("leased_until", leased_until_ms),
        }
    }
}

/// Why a batch was not tried after an earlier one of its partition was refused: what the disk refused to one it refuses to both, and records at fault
/// are the other's.
pub(crate) fn held_back(error: &PartitionError) -> Problem {
    match error {
        PartitionError::Invalid(_) | PartitionError::BatchExceedsSegment { .. } => Problem::new(
            Code::BatchRefused,
            format!("a batch before it was refused: {error}"),
        ),
        _ => error.into(),
    }
}

/// Why each record of a refused batch was refused: those at fault by their own reason, the others because of them.
pub(crate) fn record_problems(error: &PartitionError, records: u32) -> Vec<Problem> {
    let count = usize::try_from(records).unwrap_or(usize::MAX);
    let faults = match error {
        PartitionError::Invalid(refusal) => refusal.record_faults(),
        _ => &[],
    };
    let whole = Problem::from(error);
    if faults.is_empty() {
        return vec![whole; count];
    }
    let innocent = Problem::new(Code::BatchRefused, error.to_string());
    let mut problems = vec![innocent; count];
    for fault in faults {
        let place = usize::try_from(fault.index).ok();
        if let Some(problem) = place.and_then(|place| problems.get_mut(place)) {
            *problem = Problem::new(whole.code(), fault.reason.to_string());
        }
    }
    problems
}
