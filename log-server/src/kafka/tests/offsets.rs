//! Where logs begin and end, and what was when.

use log_core::protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use log_core::protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use log_core::protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use log_core::protocol::messages::{
    DeleteRecordsRequestData, ListOffsetsRequestData, OffsetForLeaderEpochRequestData,
};

use super::*;

pub(super) fn list_request(topic: &str, partition_index: i32, timestamp: i64) -> ListOffsetsRequestData {
    ListOffsetsRequestData {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: string(topic),
            partitions: vec![ListOffsetsPartition {
                partition_index,
                current_leader_epoch: -1,
                timestamp,
                ..ListOffsetsPartition::default()
            }],
            ..ListOffsetsTopic::default()
        }],
        ..ListOffsetsRequestData::default()
    }
}

async fn delete(broker: &Broker, topic: &str, partition_index: i32, offset: i64) -> (ErrorCode, i64) {
    let request = DeleteRecordsRequestData {
        topics: vec![DeleteRecordsTopic {
            name: string(topic),
            partitions: vec![DeleteRecordsPartition {
                partition_index,
                offset,
                ..DeleteRecordsPartition::default()
            }],
            ..DeleteRecordsTopic::default()
        }],
        ..DeleteRecordsRequestData::default()
    };
    let response = broker.connect().call(2, request).await;
    let row = &response.topics[0].partitions[0];
    (code(row.error_code), row.low_watermark)
}

/// One record at each of these times, an hour apart and not in order: 0, 2, 1, 2.
async fn with_times() -> Broker {
    let broker = Broker::start();
    broker.create_topic("a", 1, &[]).await;
    let mut client = broker.connect();
    for hours in [0, 2, 1, 2] {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        builder.append(hour(hours), None, Some(b"x"), &[]).unwrap();
        let row = client
            .produce(9, produce_request("a", 0, Some(builder.build())))
            .await;
        assert_eq!(row.error_code, 0);
    }
    broker
}

fn hour(hours: i64) -> TimestampMs {
    NOW.saturating_plus((hours - 24) * 3_600_000)
}

/// As a real Kafka 4.3.0 broker answers each value in each version.
#[tokio::test]
async fn special_values_begin_in_their_versions() {
    let broker = with_times().await;
    assert_eq!(delete(&broker, "a", 0, 1).await, (ErrorCode::None, 1));
    let epoch = broker.services.partition("a", 0).unwrap().leader_epoch().get();
    for version in 1..=11 {
        for (timestamp, since, offset, found) in [
            (-1, 1, 4, -1),
            (-2, 1, 1, -1),
            (-3, 7, 1, hour(2).get()),
            (-4, 8, 1, -1),
            (-5, 9, -1, -1),
            (-6, 11, -1, -1),
            (-7, 99, -1, -1),
            (hour(0).get(), 1, 1, hour(2).get()),
            (hour(1).get(), 1, 1, hour(2).get()),
            (hour(3).get(), 1, -1, -1),
            (0, 1, 1, hour(2).get()),
        ] {
            let response = broker
                .connect()
                .call(version, list_request("a", 0, timestamp))
                .await;
            let row = &response.topics[0].partitions[0];
            let expected = if since <= version {
                (ErrorCode::None, offset, found)
            } else {
                (ErrorCode::UnsupportedVersion, -1, -1)
            };
            assert_eq!(
                (code(row.error_code), row.offset, row.timestamp),
                expected,
                "{timestamp} in version {version}"
            );
            let is_found = expected.0 == ErrorCode::None && 0 <= expected.1;
            assert_eq!(
                row.leader_epoch,
                if 4 <= version && is_found { epoch } else { -1 }
            );
        }
    }
}

#[tokio::test]
async fn what_cannot_be_looked_up_is_told_by_its_code() {
    let broker = with_times().await;
    let mut epoch = list_request("a", 0, -1);
    epoch.topics[0].partitions[0].current_leader_epoch = 5;
    let mut twice = list_request("a", 0, -1);
    let again = twice.topics[0].partitions[0].clone();
    twice.topics[0].partitions.push(again);
    for (request, expected) in [
        (list_request("a", 1, -1), ErrorCode::UnknownTopicOrPartition),
        (list_request("nobody", 0, -1), ErrorCode::UnknownTopicOrPartition),
        (
            list_request("__stratalog_metadata", 0, -1),
            ErrorCode::UnknownTopicOrPartition,
        ),
        (epoch, ErrorCode::UnknownLeaderEpoch),
        (twice, ErrorCode::InvalidRequest),
    ] {
        let response = broker.connect().call(7, request).await;
        assert_eq!(response.topics[0].partitions.len(), 1);
        for row in &response.topics[0].partitions {
            assert_eq!(
                (code(row.error_code), row.offset, row.timestamp),
                (expected, -1, -1)
            );
        }
    }
}

#[tokio::test]
async fn records_are_deleted_up_to_an_offset() {
    let broker = with_times().await;
    broker
        .create_topic("compacted", 1, &[("cleanup.policy", "compact")])
        .await;
    broker.create_topic("__consumer_offsets", 1, &[]).await;
    for (topic, partition, offset, expected) in [
        ("a", 0, 2, (ErrorCode::None, 2)),
        // Never backwards.
        ("a", 0, 1, (ErrorCode::None, 2)),
        ("a", 0, 5, (ErrorCode::OffsetOutOfRange, -1)),
        ("a", 0, -5, (ErrorCode::OffsetOutOfRange, -1)),
        ("a", 0, -1, (ErrorCode::None, 4)),
        ("a", 9, 0, (ErrorCode::UnknownTopicOrPartition, -1)),
        ("nobody", 0, 0, (ErrorCode::UnknownTopicOrPartition, -1)),
        ("compacted", 0, 0, (ErrorCode::PolicyViolation, -1)),
        ("__consumer_offsets", 0, 0, (ErrorCode::InvalidTopicException, -1)),
        (
            "__consumer_offsets",
            1,
            0,
            (ErrorCode::UnknownTopicOrPartition, -1),
        ),
    ] {
        assert_eq!(
            delete(&broker, topic, partition, offset).await,
            expected,
            "{topic}-{partition} {offset}"
        );
    }
}

#[tokio::test]
async fn of_a_deletion_named_twice_the_later_counts() {
    let broker = with_times().await;
    let partition = |offset| DeleteRecordsPartition {
        offset,
        ..DeleteRecordsPartition::default()
    };
    let request = DeleteRecordsRequestData {
        topics: vec![DeleteRecordsTopic {
            name: string("a"),
            partitions: vec![partition(3), partition(1)],
            ..DeleteRecordsTopic::default()
        }],
        ..DeleteRecordsRequestData::default()
    };
    let response = broker.connect().call(2, request).await;
    let rows: Vec<_> = response.topics[0]
        .partitions
        .iter()
        .map(|row| row.low_watermark)
        .collect();
    assert_eq!(rows, [1]);
}

#[tokio::test]
async fn epochs_end_where_the_log_says() {
    let broker = with_times().await;
    let epoch = broker.services.partition("a", 0).unwrap().leader_epoch().get();
    for (topic, partition, current, asked, expected) in [
        ("a", 0, -1, epoch, (ErrorCode::None, epoch, 4)),
        ("a", 0, epoch, epoch, (ErrorCode::None, epoch, 4)),
        ("a", 0, epoch + 1, epoch, (ErrorCode::UnknownLeaderEpoch, -1, -1)),
        ("a", 0, -1, epoch + 7, (ErrorCode::None, -1, -1)),
        ("a", 0, -1, -1, (ErrorCode::None, -1, -1)),
        ("a", 8, -1, 0, (ErrorCode::UnknownTopicOrPartition, -1, -1)),
        ("nobody", 0, -1, 0, (ErrorCode::UnknownTopicOrPartition, -1, -1)),
    ] {
        let request = OffsetForLeaderEpochRequestData {
            topics: vec![OffsetForLeaderTopic {
                topic: string(topic),
                partitions: vec![OffsetForLeaderPartition {
                    partition,
                    current_leader_epoch: current,
                    leader_epoch: asked,
                    ..OffsetForLeaderPartition::default()
                }],
                ..OffsetForLeaderTopic::default()
            }],
            ..OffsetForLeaderEpochRequestData::default()
        };
        let response = broker.connect().call(4, request).await;
        let row = &response.topics[0].partitions[0];
        assert_eq!(
            (code(row.error_code), row.leader_epoch, row.end_offset),
            expected,
            "{topic} {current} {asked}"
        );
    }
}
