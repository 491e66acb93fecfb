//! `OffsetDelete`, version 0 (KIP-496): forgets how far a group has read some partitions, which no member of it may be reading.
//!
//! Partitions that do not exist have their own error, also where an offset of them is still stored: it goes by itself. What was
//! not committed counts as deleted.

use std::sync::Arc;

use log_core::protocol::ErrorCode;
use log_core::protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use log_core::protocol::messages::{OffsetDeleteRequestData, OffsetDeleteResponseData};

use crate::coordinator::group::offsets::delete::DeleteOffsetsTopic;
use crate::kafka::error_map::group_error;
use crate::kafka::services::Services;

/// Answers one request when the offsets are gone for good.
pub(crate) async fn handle(
    services: &Services,
    request: OffsetDeleteRequestData,
) -> OffsetDeleteResponseData {
    let group: Arc<str> = request.group_id.as_str().into();
    let topics: Vec<_> = request
        .topics
        .iter()
        .map(|topic| DeleteOffsetsTopic {
            topic: topic.name.as_str().into(),
            partitions: topic.partitions.iter().map(|row| row.partition_index).collect(),
        })
        .collect();
    let name = Arc::clone(&group);
    let deleted = services
        .groups
        .run(&name, move |shard, context| {
            shard.delete_offsets(context, &group, &topics)
        })
        .await;
    let rows = match deleted.and_then(|deleted| deleted) {
        Ok(rows) => rows,
        Err(error) => {
            return OffsetDeleteResponseData {
                error_code: group_error(&error).code(),
                ..OffsetDeleteResponseData::default()
            };
        }
    };
    let topics = request.topics.into_iter().zip(rows).map(|(topic, rows)| {
        let partitions = topic.partitions.iter().zip(rows);
        OffsetDeleteResponseTopic {
            name: topic.name,
            partitions: partitions
                .map(|(partition, result)| OffsetDeleteResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: result
                        .map_or_else(|error| group_error(&error), |()| ErrorCode::None)
                        .code(),
                    ..OffsetDeleteResponsePartition::default()
                })
                .collect(),
            ..OffsetDeleteResponseTopic::default()
        }
    });
    // Kafka leaves topics without partitions out.
    let topics = topics.filter(|topic| !topic.partitions.is_empty());
    OffsetDeleteResponseData {
        topics: topics.collect(),
        ..OffsetDeleteResponseData::default()
    }
}
