//! `ListOffsets`, versions 1 to 11: the offset at an end of a log, or at a time.
//!
//! | asked | since version | answered |
//! |---|---|---|
//! | −1 | 1 | the high watermark, or the last stable offset for committed readers (KIP-98, version 2) |
//! | −2 | 1 | the log start |
//! | −3 (KIP-734) | 7 | the earliest of the records with the largest timestamp |
//! | −4 (KIP-405) | 8 | the first offset on this machine: the log start |
//! | −5 (KIP-1005) | 9 | the last offset in tiered storage: none |
//! | −6 (KIP-1023) | 11 | the first offset not yet in tiered storage: none, as in Kafka without it |
//! | 0 and up | 1 | the first record, in the order of offsets, of that time or later |
//!
//! Anything else, and a special value in a version before its own, is `UNSUPPORTED_VERSION`. Version 4 (KIP-320) adds leader epochs
//! both ways. A partition named twice is `INVALID_REQUEST`, told once.

use std::collections::HashMap;

use log_core::model::TimestampMs;
use log_core::protocol::ErrorCode;
use log_core::protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use log_core::protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use log_core::protocol::messages::{ListOffsetsRequestData, ListOffsetsResponseData};

use crate::kafka::error_map::partition_error;
use crate::kafka::request_context::RequestContext;
use crate::kafka::services::{Services, check_leader_epoch};
use crate::partition::offset_query::OffsetQuery;
use crate::partition::partition::Isolation;

const READ_COMMITTED: i8 = 1;

/// Answers one request.
pub(crate) async fn handle(
    services: &Services,
    context: &RequestContext,
    request: ListOffsetsRequestData,
) -> ListOffsetsResponseData {
    let look_up = LookUp {
        services,
        version: context.version(),
        isolation: match request.isolation_level {
            READ_COMMITTED => Isolation::Committed,
            _ => Isolation::Uncommitted,
        },
    };
    let mut counts = count_partitions(&request.topics);
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let name = topic.name.as_str();
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            let found = match counts.remove(&(name, asked.partition_index)) {
                Some(1) => look_up.partition(name, asked).await,
                Some(_) => Err(ErrorCode::InvalidRequest),
                None => continue,
            };
            partitions.push(row(asked, found, look_up.version));
        }
        topics.push(ListOffsetsTopicResponse {
            name: topic.name.clone(),
            partitions,
            ..ListOffsetsTopicResponse::default()
        });
    }
    ListOffsetsResponseData {
        topics,
        ..ListOffsetsResponseData::default()
    }
}

fn count_partitions(topics: &[ListOffsetsTopic]) -> HashMap<(&str, i32), usize> {
    let mut counts = HashMap::new();
    for topic in topics {
        for partition in &topic.partitions {
            *counts
                .entry((topic.name.as_str(), partition.partition_index))
                .or_default() += 1;
        }
    }
    counts
}

/// Timestamp, offset, leader epoch; −1 each when there is none.
#[derive(Debug, Clone, Copy)]
struct Found {
    timestamp: i64,
    offset: i64,
    leader_epoch: i32,
}

const NOTHING: Found = Found {
    timestamp: -1,
    offset: -1,
    leader_epoch: -1,
};

fn row(
    asked: &ListOffsetsPartition,
    found: Result<Found, ErrorCode>,
    version: i16,
) -> ListOffsetsPartitionResponse {
    let (found, error) = match found {
        Ok(found) => (found, ErrorCode::None),
        Err(error) => (NOTHING, error),
    };
    ListOffsetsPartitionResponse {
        partition_index: asked.partition_index,
        error_code: error.code(),
        timestamp: found.timestamp,
        offset: found.offset,
        leader_epoch: if 4 <= version { found.leader_epoch } else { -1 },
        ..ListOffsetsPartitionResponse::default()
    }
}

struct LookUp<'a> {
    services: &'a Services,
    version: i16,
    isolation: Isolation,
}

impl LookUp<'_> {
    async fn partition(&self, topic: &str, asked: &ListOffsetsPartition) -> Result<Found, ErrorCode> {
        let query = query(self.version, asked.timestamp).ok_or(ErrorCode::UnsupportedVersion)?;
        let partition = self
            .services
            .partition(topic, asked.partition_index)
            .ok_or(ErrorCode::UnknownTopicOrPartition)?;
        check_leader_epoch(&partition, asked.current_leader_epoch)?;
        match partition.offset_for(query, self.isolation).await {
            Ok(None) => Ok(NOTHING),
            Ok(Some(found)) => Ok(Found {
                timestamp: found.timestamp.get(),
                offset: found.offset.get(),
                leader_epoch: found.leader_epoch.get(),
            }),
            Err(error) => Err(partition_error(&error)),
        }
    }
}

/// What a timestamp stands for in a version.
fn query(version: i16, timestamp: i64) -> Option<OffsetQuery> {
    match timestamp {
        -1 => Some(OffsetQuery::Latest),
        -2 => Some(OffsetQuery::Earliest),
        -3 if 7 <= version => Some(OffsetQuery::MaxTimestamp),
        -4 if 8 <= version => Some(OffsetQuery::EarliestLocal),
        -5 if 9 <= version => Some(OffsetQuery::LatestTiered),
        // Without tiered storage nothing waits for it, and the answer is the same.
        -6 if 11 <= version => Some(OffsetQuery::LatestTiered),
        0.. => Some(OffsetQuery::Timestamp(TimestampMs::new(timestamp))),
        _ => None,
    }
}
