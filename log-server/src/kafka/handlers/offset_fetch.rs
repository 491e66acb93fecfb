//! `OffsetFetch`, versions 1 to 10: how far groups have read.
//!
//! - Version 2 may ask for all that a group has committed, 5 (KIP-320) tells leader epochs, 7 (KIP-447) may ask for stable offsets alone,
//!   8 (KIP-709) asks for several groups, 9 (KIP-848) says which member asks, 10 has topic ids in place of names.
//! - What was not committed has the offset −1, also where group, topic or partition do not exist; an unknown topic id is
//!   `UNKNOWN_TOPIC_ID`.
//! - An offset outside its partition's log is told as it is, for the client's own policy decides what follows; the broker says so in its
//!   own log and counts it.

use log_core::model::TopicId;
use log_core::protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use log_core::protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use log_core::protocol::messages::{OffsetFetchRequestData, OffsetFetchResponseData};
use log_core::protocol::{ErrorCode, KafkaString, KafkaUuid};

use crate::coordinator::group::offsets::fetch::{
    FetchOffsetsRequest, FetchOffsetsTopic, FetchedPartition, FetchedTopic, NamedBy,
};
use crate::coordinator::group::offsets::topic_ref::TopicRef;
use crate::kafka::error_map::group_error;
use crate::kafka::request_context::RequestContext;
use crate::kafka::services::{Services, kafka_string};

/// The version that asks for several groups.
const SEVERAL_SINCE: i16 = 8;
/// The version that names topics by id.
const BY_ID_SINCE: i16 = 10;
/// "No offset", and "no epoch".
const NONE: i32 = -1;

/// Answers one request. What it tells is on the disk.
pub(crate) async fn handle(
    services: &Services,
    context: &RequestContext,
    request: OffsetFetchRequestData,
) -> OffsetFetchResponseData {
    let version = context.version();
    let require_stable = request.require_stable;
    if version < SEVERAL_SINCE {
        let topics = request.topics.map(|topics| {
            let topics = topics.into_iter().map(|topic| FetchOffsetsTopic {
                topic: TopicRef::Name(topic.name.as_str().into()),
                partitions: topic.partition_indexes,
            });
            topics.collect()
        });
        let asked = FetchOffsetsRequest {
            group: request.group_id.as_str().into(),
            member_id: None,
            member_epoch: NONE,
            topics,
            require_stable,
        };
        return single(services, asked, version).await;
    }
    let mut groups = Vec::with_capacity(request.groups.len());
    for group in request.groups {
        groups.push(one_of_several(services, group, require_stable, version).await);
    }
    OffsetFetchResponseData {
        groups,
        ..OffsetFetchResponseData::default()
    }
}

async fn fetch(
    services: &Services,
    asked: FetchOffsetsRequest,
    named_by: NamedBy,
) -> Result<Vec<FetchedTopic>, ErrorCode> {
    let fetched = services.groups.fetch_offsets(asked, named_by).await;
    fetched.map_err(|error| match group_error(&error) {
        // Older consumers know no other word that makes them come again, and Kafka spares them.
        ErrorCode::CoordinatorNotAvailable => ErrorCode::NotCoordinator,
        code => code,
    })
}

async fn single(services: &Services, asked: FetchOffsetsRequest, version: i16) -> OffsetFetchResponseData {
    // Version 1 has no place for the group's error but its partitions.
    let rows: Vec<_> = match (&asked.topics, version) {
        (Some(topics), ..2) => topics.clone(),
        _ => Vec::new(),
    };
    match fetch(services, asked, NamedBy::Name).await {
        Ok(topics) => OffsetFetchResponseData {
            topics: topics.iter().map(single_topic).collect(),
            ..OffsetFetchResponseData::default()
        },
        Err(error) => OffsetFetchResponseData {
            topics: rows
                .into_iter()
                .map(|topic| OffsetFetchResponseTopic {
                    name: name_of(&topic.topic),
                    partitions: topic
                        .partitions
                        .into_iter()
                        .map(|partition| OffsetFetchResponsePartition {
                            partition_index: partition,
                            committed_offset: i64::from(NONE),
                            committed_leader_epoch: NONE,
                            metadata: Some(kafka_string("")),
                            error_code: error.code(),
                            ..OffsetFetchResponsePartition::default()
                        })
                        .collect(),
                    ..OffsetFetchResponseTopic::default()
                })
                .collect(),
            error_code: error.code(),
            ..OffsetFetchResponseData::default()
        },
    }
}

fn single_topic(topic: &FetchedTopic) -> OffsetFetchResponseTopic {
    let partitions = topic.partitions.iter().map(|row| {
        let row = Row::of(row);
        OffsetFetchResponsePartition {
            partition_index: row.partition,
            committed_offset: row.offset,
            committed_leader_epoch: row.leader_epoch,
            metadata: Some(kafka_string(row.metadata)),
            error_code: row.error.code(),
            ..OffsetFetchResponsePartition::default()
        }
    });
    OffsetFetchResponseTopic {
        name: name_of(&topic.topic),
        partitions: partitions.collect(),
        ..OffsetFetchResponseTopic::default()
    }
}

async fn one_of_several(
    services: &Services,
    group: OffsetFetchRequestGroup,
    require_stable: bool,
    version: i16,
) -> OffsetFetchResponseGroup {
    let named_by = if version < BY_ID_SINCE {
        NamedBy::Name
    } else {
        NamedBy::Id
    };
    let topics = group.topics.map(|topics| {
        let topics = topics.into_iter().map(|topic| FetchOffsetsTopic {
            topic: match named_by {
                NamedBy::Name => TopicRef::Name(topic.name.as_str().into()),
                NamedBy::Id => TopicRef::Id(TopicId::from(topic.topic_id)),
            },
            partitions: topic.partition_indexes,
        });
        topics.collect()
    });
    let asked = FetchOffsetsRequest {
        group: group.group_id.as_str().into(),
        member_id: group.member_id.as_ref().map(|id| id.as_str().into()),
        member_epoch: group.member_epoch,
        topics,
        require_stable,
    };
    let answer = OffsetFetchResponseGroup {
        group_id: group.group_id,
        ..OffsetFetchResponseGroup::default()
    };
    match fetch(services, asked, named_by).await {
        Ok(topics) => OffsetFetchResponseGroup {
            topics: topics.iter().map(topic_of_several).collect(),
            ..answer
        },
        Err(error) => OffsetFetchResponseGroup {
            error_code: error.code(),
            ..answer
        },
    }
}

fn topic_of_several(topic: &FetchedTopic) -> OffsetFetchResponseTopics {
    let partitions = topic.partitions.iter().map(|row| {
        let row = Row::of(row);
        OffsetFetchResponsePartitions {
            partition_index: row.partition,
            committed_offset: row.offset,
            committed_leader_epoch: row.leader_epoch,
            metadata: Some(kafka_string(row.metadata)),
            error_code: row.error.code(),
            ..OffsetFetchResponsePartitions::default()
        }
    });
    let id = match &topic.topic {
        TopicRef::Name(_) => TopicId::ZERO,
        TopicRef::Id(id) => *id,
    };
    OffsetFetchResponseTopics {
        name: name_of(&topic.topic),
        topic_id: KafkaUuid::from(id),
        partitions: partitions.collect(),
        ..OffsetFetchResponseTopics::default()
    }
}

fn name_of(topic: &TopicRef) -> KafkaString {
    match topic {
        TopicRef::Name(name) => kafka_string(name),
        TopicRef::Id(_) => kafka_string(""),
    }
}

/// A partition's fields, which both layouts of the answer share.
struct Row<'a> {
    partition: i32,
    offset: i64,
    leader_epoch: i32,
    metadata: &'a str,
    error: ErrorCode,
}

impl<'a> Row<'a> {
    fn of(fetched: &'a FetchedPartition) -> Self {
        let nothing = Self {
            partition: fetched.partition,
            offset: i64::from(NONE),
            leader_epoch: NONE,
            metadata: "",
            error: ErrorCode::None,
        };
        match &fetched.committed {
            Ok(None) => nothing,
            Ok(Some(committed)) => Self {
                offset: committed.offset,
                leader_epoch: committed.leader_epoch,
                metadata: &committed.metadata,
                ..nothing
            },
            Err(error) => Self {
                error: group_error(error),
                ..nothing
            },
        }
    }
}
