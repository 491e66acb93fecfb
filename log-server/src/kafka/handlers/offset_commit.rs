//! `OffsetCommit`, versions 2 to 10: a group's member, or anybody for a group without members, says how far it has read.
//!
//! - Versions 2 to 4 may say how long the offsets are kept; later ones leave that to `offsets.retention.minutes`.
//! - Version 6 (KIP-320) adds leader epochs, 7 (KIP-345) static members, 9 (KIP-848) member epochs in place of generations, 10 topic ids
//!   in place of names.
//! - A partition that does not exist has its own error; the group's refusal is told for all others.
//! - As in Kafka, metadata is measured in units of UTF-16, and any offset is taken, also a negative one.

use std::sync::Arc;

use log_core::model::TopicId;
use log_core::protocol::ErrorCode;
use log_core::protocol::messages::offset_commit_request::OffsetCommitRequestTopic;
use log_core::protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use log_core::protocol::messages::{OffsetCommitRequestData, OffsetCommitResponseData};

use crate::coordinator::group::offsets::commit::{CommitPartition, CommitRequest, CommitTopic};
use crate::coordinator::group::offsets::topic_ref::TopicRef;
use crate::kafka::error_map::group_error;
use crate::kafka::request_context::RequestContext;
use crate::kafka::services::Services;

/// The version that names topics by id.
const BY_ID_SINCE: i16 = 10;
/// "As long as the broker keeps them."
const NO_RETENTION: i64 = -1;

/// Answers one request when its offsets are on the disk.
pub(crate) async fn handle(
    services: &Services,
    context: &RequestContext,
    request: OffsetCommitRequestData,
) -> OffsetCommitResponseData {
    let topics = request
        .topics
        .iter()
        .map(|topic| commit_topic(topic, context.version()));
    let command = CommitRequest {
        group: request.group_id.as_str().into(),
        member_id: request.member_id.as_str().into(),
        instance_id: request.group_instance_id.as_ref().map(|id| id.as_str().into()),
        generation_or_epoch: request.generation_id_or_member_epoch,
        request_version: context.version(),
        retention_ms: Some(request.retention_time_ms).filter(|kept| *kept != NO_RETENTION),
        topics: topics.collect(),
    };
    let group = Arc::clone(&command.group);
    let committed = services
        .groups
        .run(&group, move |shard, context| {
            shard.commit_offsets(context, &command)
        })
        .await;
    let mut topics = Vec::with_capacity(request.topics.len());
    for (index, topic) in request.topics.into_iter().enumerate() {
        let result = |row: usize| match &committed {
            Ok(rows) => rows.get(index)?.get(row)?.as_ref().err(),
            Err(error) => Some(error),
        };
        let code = |row| result(row).map_or(ErrorCode::None, group_error);
        let rows = topic.partitions.iter().enumerate();
        let partitions: Vec<_> = rows
            .map(|(row, partition)| OffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code: code(row).code(),
                ..OffsetCommitResponsePartition::default()
            })
            .collect();
        // Kafka leaves topics without partitions out.
        if !partitions.is_empty() {
            topics.push(OffsetCommitResponseTopic {
                name: topic.name,
                topic_id: topic.topic_id,
                partitions,
                ..OffsetCommitResponseTopic::default()
            });
        }
    }
    OffsetCommitResponseData {
        topics,
        ..OffsetCommitResponseData::default()
    }
}

fn commit_topic(topic: &OffsetCommitRequestTopic, version: i16) -> CommitTopic {
    let partitions = topic.partitions.iter().map(|row| CommitPartition {
        partition: row.partition_index,
        offset: row.committed_offset,
        leader_epoch: row.committed_leader_epoch,
        metadata: row.committed_metadata.as_ref().map(|text| text.as_str().into()),
    });
    CommitTopic {
        topic: if version < BY_ID_SINCE {
            TopicRef::Name(topic.name.as_str().into())
        } else {
            TopicRef::Id(TopicId::from(topic.topic_id))
        },
        partitions: partitions.collect(),
    }
}
