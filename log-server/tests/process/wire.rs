//! The few requests that these tests send by hand, where a client library would retry or hide what they look for.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use log_client::config::ClientConfig;
use log_client::connection::Connection;
use log_core::protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use log_core::protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use log_core::protocol::messages::delete_topics_request::DeleteTopicState;
use log_core::protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use log_core::protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use log_core::protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use log_core::protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use log_core::protocol::messages::{
    CreateTopicsRequestData, DeleteRecordsRequestData, DeleteTopicsRequestData, FetchRequestData,
    InitProducerIdRequestData, ListOffsetsRequestData, MetadataRequestData, OffsetFetchRequestData,
    ProduceRequestData, ProduceResponseData,
};
use log_core::protocol::{ErrorCode, KafkaString};

/// The last version of Produce that names topics instead of giving their ids.
pub(crate) const PRODUCE_VERSION: i16 = 12;

/// The last version of Fetch that names topics.
const FETCH_VERSION: i16 = 12;

/// The last version of `OffsetFetch` that names topics.
const OFFSET_FETCH_VERSION: i16 = 9;

/// More than any partition's answer here.
const FETCH_BYTES: i32 = 16 << 20;

/// Longer than a sync on a busy disk takes.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A timestamp that asks for the log end offset, and one that asks for the log start offset.
pub(crate) const LATEST: i64 = -1;
pub(crate) const EARLIEST: i64 = -2;

/// A connection, or why there is none.
pub(crate) async fn connect(address: &str) -> log_client::Result<Connection> {
    let mut config = ClientConfig::new(address);
    config.request_timeout = PATIENCE;
    Connection::open(address, &config).await
}

/// Creates a topic. Only a broken connection is an error that callers expect.
pub(crate) async fn create_topic(
    connection: &Connection,
    topic: &str,
    partitions: i32,
    configs: &[(&str, &str)],
) -> log_client::Result<()> {
    let configs = configs.iter().map(|&(name, value)| CreatableTopicConfig {
        name: KafkaString::from(name.to_owned()),
        value: Some(KafkaString::from(value.to_owned())),
        ..CreatableTopicConfig::default()
    });
    let request = CreateTopicsRequestData {
        topics: vec![CreatableTopic {
            name: KafkaString::from(topic.to_owned()),
            num_partitions: partitions,
            replication_factor: 1,
            configs: configs.collect(),
            ..CreatableTopic::default()
        }],
        timeout_ms: 30_000,
        ..CreateTopicsRequestData::default()
    };
    let response = connection.call(&request).await?;
    assert_eq!(response.topics[0].error_code, 0, "create {topic}: {response:?}");
    Ok(())
}

/// Deletes a topic, as above.
pub(crate) async fn delete_topic(connection: &Connection, topic: &str) -> log_client::Result<()> {
    let request = DeleteTopicsRequestData {
        topics: vec![DeleteTopicState {
            name: Some(KafkaString::from(topic.to_owned())),
            ..DeleteTopicState::default()
        }],
        timeout_ms: 30_000,
        ..DeleteTopicsRequestData::default()
    };
    let response = connection.call(&request).await?;
    assert_eq!(
        response.responses[0].error_code, 0,
        "delete {topic}: {response:?}"
    );
    Ok(())
}

/// The names of all topics.
pub(crate) async fn topics(connection: &Connection) -> BTreeSet<String> {
    let request = MetadataRequestData {
        topics: None,
        ..MetadataRequestData::default()
    };
    let response = connection.call(&request).await.unwrap();
    response
        .topics
        .into_iter()
        .filter_map(|topic| Some(topic.name?.as_str().to_owned()))
        .collect()
}

/// The id and epoch of a new idempotent producer.
pub(crate) async fn init_producer(connection: &Connection) -> (i64, i16) {
    let response = connection
        .call(&InitProducerIdRequestData::default())
        .await
        .unwrap();
    assert_eq!(response.error_code, 0, "{response:?}");
    (response.producer_id, response.producer_epoch)
}

/// A Produce request of one batch, to be answered once it is on the disk.
pub(crate) fn produce_request(topic: &str, partition: i32, records: Bytes) -> ProduceRequestData {
    ProduceRequestData {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            name: KafkaString::from(topic.to_owned()),
            partition_data: vec![PartitionProduceData {
                index: partition,
                records: Some(records),
                ..PartitionProduceData::default()
            }],
            ..TopicProduceData::default()
        }],
        ..ProduceRequestData::default()
    }
}

/// The base offset that such a request got, or the error it ended in.
pub(crate) fn produced(response: &ProduceResponseData) -> Result<i64, ErrorCode> {
    let part = &response.responses[0].partition_responses[0];
    match part.error_code {
        0 => Ok(part.base_offset),
        code => Err(ErrorCode::from(code)),
    }
}

/// What a fetch from one partition returned.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) log_start: i64,
    pub(crate) high_watermark: i64,
    pub(crate) records: Bytes,
}

/// Fetches from `offset` on without waiting for more.
pub(crate) async fn fetch(
    connection: &Connection,
    topic: &str,
    partition: i32,
    offset: i64,
) -> log_client::Result<Result<Fetched, ErrorCode>> {
    let request = FetchRequestData {
        max_wait_ms: 0,
        min_bytes: 0,
        max_bytes: FETCH_BYTES,
        session_id: 0,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic: KafkaString::from(topic.to_owned()),
            partitions: vec![FetchPartition {
                partition,
                fetch_offset: offset,
                partition_max_bytes: FETCH_BYTES,
                ..FetchPartition::default()
            }],
            ..FetchTopic::default()
        }],
        ..FetchRequestData::default()
    };
    let response = connection.call_version(&request, FETCH_VERSION, PATIENCE).await?;
    let part = &response.responses[0].partitions[0];
    Ok(match part.error_code {
        0 => Ok(Fetched {
            log_start: part.log_start_offset,
            high_watermark: part.high_watermark,
            records: part.records.clone().unwrap_or_default(),
        }),
        code => Err(ErrorCode::from(code)),
    })
}

/// The offset that stands for `timestamp` ([`LATEST`], [`EARLIEST`]).
pub(crate) async fn list_offset(connection: &Connection, topic: &str, partition: i32, timestamp: i64) -> i64 {
    let request = ListOffsetsRequestData {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: KafkaString::from(topic.to_owned()),
            partitions: vec![ListOffsetsPartition {
                partition_index: partition,
                timestamp,
                ..ListOffsetsPartition::default()
            }],
            ..ListOffsetsTopic::default()
        }],
        ..ListOffsetsRequestData::default()
    };
    let response = connection.call(&request).await.unwrap();
    let part = &response.topics[0].partitions[0];
    assert_eq!(part.error_code, 0, "{response:?}");
    part.offset
}

/// Deletes the records before `offset`; the log start offset afterwards, or the error.
pub(crate) async fn delete_records(
    connection: &Connection,
    topic: &str,
    partition: i32,
    offset: i64,
) -> log_client::Result<Result<i64, ErrorCode>> {
    let request = DeleteRecordsRequestData {
        topics: vec![DeleteRecordsTopic {
            name: KafkaString::from(topic.to_owned()),
            partitions: vec![DeleteRecordsPartition {
                partition_index: partition,
                offset,
                ..DeleteRecordsPartition::default()
            }],
            ..DeleteRecordsTopic::default()
        }],
        timeout_ms: 30_000,
        ..DeleteRecordsRequestData::default()
    };
    let response = connection.call(&request).await?;
    let part = &response.topics[0].partitions[0];
    Ok(match part.error_code {
        0 => Ok(part.low_watermark),
        code => Err(ErrorCode::from(code)),
    })
}

/// The committed offsets of a group in the partitions from 0 on, -1 where there is none.
pub(crate) async fn committed(
    connection: &Connection,
    group: &str,
    topic: &str,
    partitions: usize,
) -> Vec<i64> {
    let count = i32::try_from(partitions).unwrap();
    let request = OffsetFetchRequestData {
        groups: vec![OffsetFetchRequestGroup {
            group_id: KafkaString::from(group.to_owned()),
            member_epoch: -1,
            topics: Some(vec![OffsetFetchRequestTopics {
                name: KafkaString::from(topic.to_owned()),
                partition_indexes: (0..count).collect(),
                ..OffsetFetchRequestTopics::default()
            }]),
            ..OffsetFetchRequestGroup::default()
        }],
        ..OffsetFetchRequestData::default()
    };
    let began = Instant::now();
    loop {
        let response = connection
            .call_version(&request, OFFSET_FETCH_VERSION, PATIENCE)
            .await
            .unwrap();
        let group = &response.groups[0];
        match ErrorCode::from(group.error_code) {
            ErrorCode::None => {
                let mut offsets = vec![-1; partitions];
                for part in &group.topics[0].partitions {
                    assert_eq!(part.error_code, 0, "{response:?}");
                    offsets[usize::try_from(part.partition_index).unwrap()] = part.committed_offset;
                }
                return offsets;
            }
            // It loads its groups.
            ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::NotCoordinator
            | ErrorCode::CoordinatorNotAvailable
                if began.elapsed() < PATIENCE =>
            {
                tokio::task::yield_now().await;
            }
            code => panic!("OffsetFetch of {group:?} ended in {code:?}"),
        }
    }
}
