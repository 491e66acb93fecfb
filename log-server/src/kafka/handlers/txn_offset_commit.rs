//! `TxnOffsetCommit`, versions 0 to 5: offsets of a group become part of a producer's transaction, and count when it is committed.
//!
//! - Version 2 (KIP-320) adds leader epochs, 3 (KIP-447) says which member commits, 4 (KIP-890) knows `TRANSACTION_ABORTABLE`. From version 5 on
//!   the broker adds the group's partition to the transaction; before, the producer has done so by `AddOffsetsToTxn`, and it is verified.
//! - A partition that does not exist has its own error; all others share that of the group or of the transaction.
//! - As in Kafka, the transaction coordinator's absence is told as `COORDINATOR_LOAD_IN_PROGRESS`: clients try again without looking for another
//!   coordinator of the group.

use std::sync::Arc;

use log_core::model::{ProducerEpoch, ProducerId, Sequence, TransactionVersion};
use log_core::producer_state::verification::{TransactionProof, TransactionalBatch};
use log_core::protocol::ErrorCode;
use log_core::protocol::messages::txn_offset_commit_request::TxnOffsetCommitRequestTopic;
use log_core::protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use log_core::protocol::messages::{TxnOffsetCommitRequestData, TxnOffsetCommitResponseData};

use crate::coordinator::group::context::TransactionalProducer;
use crate::coordinator::group::offsets::commit::{
    CommitAnswer, CommitPartition, CommitTopic, TransactionalCommitRequest,
};
use crate::coordinator::group::offsets::topic_ref::TopicRef;
use crate::kafka::admission::{AdmissionMode, AdmissionRequest, admit};
use crate::kafka::error_map::group_error;
use crate::kafka::request_context::RequestContext;
use crate::kafka::services::Services;

/// The version from which on the broker adds the group's partition to the transaction.
const ADDS_SINCE: i16 = 5;
/// The version from which on clients know `TRANSACTION_ABORTABLE`,
const ABORTABLE_SINCE: i16 = 4;
/// and that from which on they bear `COORDINATOR_LOAD_IN_PROGRESS`.
const LOADING_SINCE: i16 = 2;

/// Answers one request when its offsets are on the disk.
pub(crate) async fn handle(
    services: &Services,
    context: &RequestContext,
    request: TxnOffsetCommitRequestData,
) -> TxnOffsetCommitResponseData {
    let version = context.version();
    let committed = commit(services, version, &request).await;
    let committed = committed.map_err(|error| told(error, version));
    let mut topics = Vec::with_capacity(request.topics.len());
    for (index, topic) in request.topics.into_iter().enumerate() {
        let code = |row: usize| match &committed {
            Ok(rows) => {
                let refused = rows.get(index).and_then(|rows| rows.get(row)?.as_ref().err());
                refused.map_or(ErrorCode::None, group_error)
            }
            Err(error) => *error,
        };
        let rows = topic.partitions.iter().enumerate();
        topics.push(TxnOffsetCommitResponseTopic {
            name: topic.name.clone(),
            partitions: rows
                .map(|(row, partition)| TxnOffsetCommitResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: code(row).code(),
                    ..TxnOffsetCommitResponsePartition::default()
                })
                .collect(),
            ..TxnOffsetCommitResponseTopic::default()
        });
    }
    TxnOffsetCommitResponseData {
        topics,
        ..TxnOffsetCommitResponseData::default()
    }
}

async fn commit(
    services: &Services,
    version: i16,
    request: &TxnOffsetCommitRequestData,
) -> Result<CommitAnswer, ErrorCode> {
    if request.group_id.is_empty() {
        return Err(ErrorCode::InvalidGroupId);
    }
    let producer = TransactionalProducer {
        id: ProducerId::new(request.producer_id),
        epoch: ProducerEpoch::new(request.producer_epoch),
    };
    let command = TransactionalCommitRequest {
        producer,
        group: request.group_id.as_str().into(),
        member_id: request.member_id.as_str().into(),
        instance_id: request.group_instance_id.as_ref().map(|id| id.as_str().into()),
        generation_or_epoch: request.generation_id,
        topics: request.topics.iter().map(commit_topic).collect(),
    };
    let proof = prove(services, version, request, producer).await?;
    let group = Arc::clone(&command.group);
    services
        .groups
        .run_in_transaction(&group, &proof, move |shard, context| {
            shard.commit_transactional_offsets(context, command)
        })
        .await
        .map_err(|error| group_error(&error))
}

/// Sees to it that the producer's transaction is under way, and that the group's partition is part of it.
async fn prove(
    services: &Services,
    version: i16,
    request: &TxnOffsetCommitRequestData,
    producer: TransactionalProducer,
) -> Result<TransactionProof, ErrorCode> {
    let (mode, rules) = if ADDS_SINCE <= version {
        (AdmissionMode::Add, TransactionVersion::V2)
    } else {
        (AdmissionMode::Verify, TransactionVersion::V1)
    };
    let batch = TransactionalBatch {
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        base_sequence: Sequence::NONE,
        version: rules,
    };
    let group = request.group_id.as_str();
    let verification = services.groups.start_verification(group, &batch).await;
    let (partition, proof) = verification.map_err(|error| group_error(&error))?;
    if proof == TransactionProof::Ongoing {
        return Ok(proof);
    }
    let admission = AdmissionRequest {
        transactional_id: request.transactional_id.as_str(),
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        partitions: &[partition],
        mode,
    };
    let answers = admit(services, &admission).await;
    match answers.into_iter().next() {
        Some(Ok(())) => Ok(proof),
        Some(Err(
            ErrorCode::NetworkException
            | ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::NotCoordinator,
        ))
        | None => Err(ErrorCode::CoordinatorLoadInProgress),
        // What producers expect of a leader, and of this.
        Some(Err(ErrorCode::ProducerFenced)) => Err(ErrorCode::InvalidProducerEpoch),
        Some(Err(error)) => Err(error),
    }
}

/// What a client of this version is told.
fn told(error: ErrorCode, version: i16) -> ErrorCode {
    match error {
        ErrorCode::CoordinatorLoadInProgress if version < LOADING_SINCE => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::TransactionAbortable if version < ABORTABLE_SINCE => ErrorCode::InvalidTxnState,
        other => other,
    }
}

fn commit_topic(topic: &TxnOffsetCommitRequestTopic) -> CommitTopic {
    let partitions = topic.partitions.iter().map(|row| CommitPartition {
        partition: row.partition_index,
        offset: row.committed_offset,
        leader_epoch: row.committed_leader_epoch,
        metadata: row.committed_metadata.as_ref().map(|text| text.as_str().into()),
    });
    CommitTopic {
        topic: TopicRef::Name(topic.name.as_str().into()),
        partitions: partitions.collect(),
    }
}
