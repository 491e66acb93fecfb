//! `OffsetForLeaderEpoch`, versions 2 to 4: where an epoch ended, so that a client notices a truncated log (KIP-101, KIP-320).
//! An epoch that is not known gets −1 for both, as in Kafka.

use log_core::model::LeaderEpoch;
use log_core::protocol::ErrorCode;
use log_core::protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use log_core::protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use log_core::protocol::messages::{OffsetForLeaderEpochRequestData, OffsetForLeaderEpochResponseData};

use crate::kafka::error_map::partition_error;
use crate::kafka::services::{Services, check_leader_epoch};

/// Answers one request.
pub(crate) fn handle(
    services: &Services,
    request: OffsetForLeaderEpochRequestData,
) -> OffsetForLeaderEpochResponseData {
    let topics = request.topics.into_iter().map(|topic| {
        let name = topic.topic.as_str();
        let partitions = topic.partitions.iter().map(|asked| {
            let (leader_epoch, end_offset, error_code) = match end_offset(services, name, asked) {
                Ok((epoch, end)) => (epoch, end, ErrorCode::None.code()),
                Err(error) => (-1, -1, error.code()),
            };
            EpochEndOffset {
                error_code,
                partition: asked.partition,
                leader_epoch,
                end_offset,
                ..EpochEndOffset::default()
            }
        });
        OffsetForLeaderTopicResult {
            partitions: partitions.collect(),
            topic: topic.topic,
            ..OffsetForLeaderTopicResult::default()
        }
    });
    OffsetForLeaderEpochResponseData {
        topics: topics.collect(),
        ..OffsetForLeaderEpochResponseData::default()
    }
}

fn end_offset(
    services: &Services,
    topic: &str,
    asked: &OffsetForLeaderPartition,
) -> Result<(i32, i64), ErrorCode> {
    let partition = services
        .partition(topic, asked.partition)
        .ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let condition = partition.condition();
    condition.reader().map_err(|error| partition_error(&error))?;
    check_leader_epoch(&partition, asked.current_leader_epoch)?;
    let (epoch, end) = partition.end_offset_for_epoch(LeaderEpoch::new(asked.leader_epoch));
    Ok((epoch.get(), end.get()))
}
