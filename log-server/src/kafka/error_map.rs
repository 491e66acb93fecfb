//! From what partitions and metadata refuse to what Kafka's clients are told. The only place where errors become codes.
//!
//! Clients decide by the code alone whether to retry, to look for a new leader or to give up; so the code is the one that a real
//! Kafka broker gives in the same situation. The message is for people.

use log_core::producer_state::manager::ProducerStateError;
use log_core::protocol::ErrorCode;
use log_core::record::validator::ProduceError;

use crate::coordinator::group::error::GroupError;
use crate::coordinator::runtime::markers::MarkerError;
use crate::coordinator::transaction::error::TransactionError;
use crate::metadata::error::ControllerError;
use crate::partition::error::PartitionError;
use crate::telemetry::error::TelemetryError;

/// The code for a failed read, look-up or deletion.
pub(crate) fn partition_error(error: &PartitionError) -> ErrorCode {
    match error {
        PartitionError::Invalid(refusal) => produce_refusal(refusal),
        PartitionError::Producer(refusal) => producer_refusal(refusal),
        PartitionError::BatchExceedsSegment { .. } => ErrorCode::RecordListTooLarge,
        PartitionError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        PartitionError::Storage { .. }
        | PartitionError::Latched { .. }
        | PartitionError::DiskFull { .. }
        | PartitionError::LogEndMoved { .. }
        | PartitionError::Offline { .. } => ErrorCode::KafkaStorageError,
        PartitionError::TurnTimedOut => ErrorCode::RequestTimedOut,
        PartitionError::Deleted => ErrorCode::UnknownTopicOrPartition,
        // Clients look for the new leader, and find this broker again once it is back.
        PartitionError::ShuttingDown => ErrorCode::NotLeaderOrFollower,
        PartitionError::WouldBlock => ErrorCode::UnknownServerError,
    }
}

fn produce_refusal(error: &ProduceError) -> ErrorCode {
    match error {
        ProduceError::NoBatch
        | ProduceError::Incomplete { .. }
        | ProduceError::SeveralBatches { .. }
        | ProduceError::OldMagic { .. }
        | ProduceError::BaseOffset { .. }
        | ProduceError::Header(_)
        | ProduceError::RecordCount { .. }
        | ProduceError::Control
        | ProduceError::Sequence { .. }
        | ProduceError::Record(_)
        | ProduceError::InvalidRecords { .. } => ErrorCode::InvalidRecord,
        ProduceError::Corrupt(_) => ErrorCode::CorruptMessage,
        ProduceError::TooLarge { .. } | ProduceError::DecompressedTooLarge(_) => ErrorCode::MessageTooLarge,
        ProduceError::Compression(_) => ErrorCode::UnsupportedCompressionType,
        ProduceError::InvalidTimestamps { .. } => ErrorCode::InvalidTimestamp,
    }
}

fn producer_refusal(error: &ProducerStateError) -> ErrorCode {
    match error {
        ProducerStateError::InvalidProducerEpoch { .. } => ErrorCode::InvalidProducerEpoch,
        ProducerStateError::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
        ProducerStateError::InvalidTransactionState { .. }
        | ProducerStateError::UnverifiedTransaction { .. } => ErrorCode::InvalidTxnState,
        ProducerStateError::CoordinatorFenced { .. } => ErrorCode::TransactionCoordinatorFenced,
    }
}

/// The records of a refused batch that are at fault, with their numbers within it.
pub(crate) fn record_errors(error: &PartitionError) -> Vec<(i32, String)> {
    let PartitionError::Invalid(refusal) = error else {
        return Vec::new();
    };
    let faults = refusal.record_faults().iter();
    faults
        .map(|fault| {
            (
                i32::try_from(fault.index).unwrap_or(i32::MAX),
                fault.reason.to_string(),
            )
        })
        .collect()
}

/// The code for a refused change of topics or settings; its message is the error's own.
pub(crate) fn controller_error(error: &ControllerError) -> ErrorCode {
    match error {
        ControllerError::InvalidTopic(_) => ErrorCode::InvalidTopicException,
        ControllerError::TopicExists(_) => ErrorCode::TopicAlreadyExists,
        ControllerError::UnknownTopic(_) => ErrorCode::UnknownTopicOrPartition,
        ControllerError::UnknownTopicId(_) => ErrorCode::UnknownTopicId,
        ControllerError::InvalidPartitions(_) => ErrorCode::InvalidPartitions,
        ControllerError::InvalidReplicationFactor(_) => ErrorCode::InvalidReplicationFactor,
        ControllerError::InvalidReplicaAssignment(_) => ErrorCode::InvalidReplicaAssignment,
        ControllerError::InvalidConfig(_) => ErrorCode::InvalidConfig,
        ControllerError::InvalidRequest(_) => ErrorCode::InvalidRequest,
        ControllerError::PolicyViolation(_) => ErrorCode::PolicyViolation,
        ControllerError::TopicDeletionDisabled => ErrorCode::TopicDeletionDisabled,
        ControllerError::Storage(_) => ErrorCode::KafkaStorageError,
        ControllerError::ShuttingDown => ErrorCode::NotController,
    }
}

/// The code for a refused request about a group; its message is the error's own.
pub(crate) fn group_error(error: &GroupError) -> ErrorCode {
    match error {
        GroupError::LoadInProgress => ErrorCode::CoordinatorLoadInProgress,
        GroupError::NotAvailable(_) | GroupError::Unreadable(_) => ErrorCode::CoordinatorNotAvailable,
        GroupError::NotCoordinator => ErrorCode::NotCoordinator,
        GroupError::InvalidGroupId => ErrorCode::InvalidGroupId,
        GroupError::GroupIdNotFound(_) => ErrorCode::GroupIdNotFound,
        GroupError::NonEmptyGroup => ErrorCode::NonEmptyGroup,
        GroupError::SubscribedToTopic => ErrorCode::GroupSubscribedToTopic,
        GroupError::GroupMaxSizeReached(_) => ErrorCode::GroupMaxSizeReached,
        GroupError::UnknownMemberId(_) => ErrorCode::UnknownMemberId,
        GroupError::MemberIdRequired => ErrorCode::MemberIdRequired,
        GroupError::IllegalGeneration => ErrorCode::IllegalGeneration,
        GroupError::RebalanceInProgress => ErrorCode::RebalanceInProgress,
        GroupError::InconsistentGroupProtocol => ErrorCode::InconsistentGroupProtocol,
        GroupError::InvalidSessionTimeout { .. } => ErrorCode::InvalidSessionTimeout,
        GroupError::FencedInstanceId | GroupError::FencedStaticMember(_) => ErrorCode::FencedInstanceId,
        GroupError::UnreleasedInstanceId(_) => ErrorCode::UnreleasedInstanceId,
        GroupError::FencedMemberEpoch(_) => ErrorCode::FencedMemberEpoch,
        GroupError::StaleMemberEpoch(_) => ErrorCode::StaleMemberEpoch,
        GroupError::UnsupportedAssignor(_) => ErrorCode::UnsupportedAssignor,
        GroupError::InvalidRegularExpression(_) => ErrorCode::InvalidRegularExpression,
        GroupError::UnsupportedVersion(_) => ErrorCode::UnsupportedVersion,
        GroupError::InvalidRequest(_) => ErrorCode::InvalidRequest,
        GroupError::OffsetMetadataTooLarge(_) => ErrorCode::OffsetMetadataTooLarge,
        GroupError::UnknownTopicOrPartition => ErrorCode::UnknownTopicOrPartition,
        GroupError::UnknownTopicId => ErrorCode::UnknownTopicId,
        GroupError::Producer(refusal) => producer_refusal(refusal),
        GroupError::UnstableOffsetCommit => ErrorCode::UnstableOffsetCommit,
    }
}

/// The code for a refused request about a transaction.
pub(crate) fn transaction_error(error: &TransactionError) -> ErrorCode {
    match error {
        // Producers ask again.
        TransactionError::LoadInProgress | TransactionError::NoProducerId(_) => {
            ErrorCode::CoordinatorLoadInProgress
        }
        TransactionError::NotAvailable(_) | TransactionError::Unreadable(_) => {
            ErrorCode::CoordinatorNotAvailable
        }
        TransactionError::NotCoordinator => ErrorCode::NotCoordinator,
        TransactionError::InvalidRequest(_) => ErrorCode::InvalidRequest,
        TransactionError::InvalidTransactionTimeout { .. } => ErrorCode::InvalidTransactionTimeout,
        TransactionError::InvalidProducerIdMapping => ErrorCode::InvalidProducerIdMapping,
        TransactionError::ProducerFenced => ErrorCode::ProducerFenced,
        TransactionError::ConcurrentTransactions => ErrorCode::ConcurrentTransactions,
        TransactionError::InvalidTxnState => ErrorCode::InvalidTxnState,
        TransactionError::TransactionAbortable => ErrorCode::TransactionAbortable,
        TransactionError::TransactionalIdNotFound => ErrorCode::TransactionalIdNotFound,
    }
}

/// The same for a client that may be too old to know `PRODUCER_FENCED`.
pub(crate) fn transaction_code(error: &TransactionError, knows_fenced: bool) -> ErrorCode {
    match transaction_error(error) {
        ErrorCode::ProducerFenced if !knows_fenced => ErrorCode::InvalidProducerEpoch,
        code => code,
    }
}

/// The code for refused metrics of a client.
pub(crate) fn telemetry_error(error: &TelemetryError) -> ErrorCode {
    match error {
        TelemetryError::Invalid(_) => ErrorCode::InvalidRequest,
        TelemetryError::TooEarly | TelemetryError::Busy => ErrorCode::ThrottlingQuotaExceeded,
        TelemetryError::UnknownSubscription => ErrorCode::UnknownSubscriptionId,
        TelemetryError::UnsupportedCompression(_) => ErrorCode::UnsupportedCompressionType,
        TelemetryError::TooLarge(_) => ErrorCode::TelemetryTooLarge,
        TelemetryError::Unreadable(_) => ErrorCode::InvalidRecord,
    }
}

/// The code for a transaction marker that was not written.
pub(crate) fn marker_error(error: &MarkerError) -> ErrorCode {
    match error {
        MarkerError::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
        MarkerError::Partition(error) => partition_error(error),
        // As Kafka says it: who writes markers tries again.
        MarkerError::NotServed(_) => ErrorCode::NotLeaderOrFollower,
    }
}
