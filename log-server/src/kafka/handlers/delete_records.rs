//! `DeleteRecords`, versions 0 to 2: everything below an offset goes; −1 stands for the high watermark.
//!
//! - The new log start is on the disk when the answer leaves; Kafka writes it down some time later (and may show the
//!   records again after a crash).
//! - Internal topics refuse (`INVALID_TOPIC_EXCEPTION`): a coordinator reads its log from the beginning.
//! - Topics that are only compacted refuse (`POLICY_VIOLATION`).
//! - Of a partition that is named twice, the later counts, and is told once.

use std::collections::HashMap;

use log_core::model::Offset;
use log_core::protocol::messages::delete_records_request::DeleteRecordsPartition;
use log_core::protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use log_core::protocol::messages::{DeleteRecordsRequestData, DeleteRecordsResponseData};
use log_core::protocol::{ErrorCode, KafkaString};

use crate::kafka::error_map::partition_error;
use crate::kafka::services::Services;
use crate::metadata::topic_name;

const HIGH_WATERMARK: i64 = -1;

/// Carries out one request, one partition after the other.
pub(crate) async fn handle(
    services: &Services,
    request: DeleteRecordsRequestData,
) -> DeleteRecordsResponseData {
    let mut counts: HashMap<(KafkaString, i32), usize> = HashMap::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let place = (topic.name.clone(), partition.partition_index);
            *counts.entry(place).or_default() += 1;
        }
    }
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let place = (topic.name.clone(), partition.partition_index);
            let later = counts.get_mut(&place).expect("all were counted");
            *later -= 1;
            if 0 < *later {
                continue;
            }
            let result = delete(services, topic.name.as_str(), partition).await;
            partitions.push(DeleteRecordsPartitionResult {
                partition_index: partition.partition_index,
                low_watermark: *result.as_ref().unwrap_or(&-1),
                error_code: result.err().unwrap_or(ErrorCode::None).code(),
                ..DeleteRecordsPartitionResult::default()
            });
        }
        topics.push(DeleteRecordsTopicResult {
            name: topic.name,
            partitions,
            ..DeleteRecordsTopicResult::default()
        });
    }
    DeleteRecordsResponseData {
        topics,
        ..DeleteRecordsResponseData::default()
    }
}

async fn delete(
    services: &Services,
    topic: &str,
    request: &DeleteRecordsPartition,
) -> Result<i64, ErrorCode> {
    let partition = services
        .partition(topic, request.partition_index)
        .ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if topic_name::is_internal(topic) {
        return Err(ErrorCode::InvalidTopicException);
    }
    if !partition.config().cleanup_policy.delete {
        return Err(ErrorCode::PolicyViolation);
    }
    let before = match request.offset {
        HIGH_WATERMARK => None,
        0.. => Some(Offset::new(request.offset)),
        _ => return Err(ErrorCode::OffsetOutOfRange),
    };
    match partition.delete_records(before).await {
        Ok(log_start) => Ok(log_start.get()),
        Err(error) => {
            tracing::debug!(partition = %partition.name(), %error, "records not deleted");
            Err(partition_error(&error))
        }
    }
}
