//! The consumer against a broker in memory: positions, cuts, resets, damage, and brokers that fail.

use std::time::Duration;

use bytes::Bytes;
use log_core::model::TimestampMs;
use log_core::protocol::ErrorCode;
use log_core::record::batch_builder::{BatchBuilder, BatchOptions};
use log_core::record::compression::Compression;

use super::*;
use crate::retry::Backoff;
use crate::testing::fake_broker::FakeBroker;

fn config(broker: &FakeBroker) -> ConsumerConfig {
    let quick = Backoff {
        first: Duration::from_millis(1),
        longest: Duration::from_millis(4),
    };
    let mut config = ConsumerConfig::new(broker.address());
    config.client.retry_backoff = quick;
    config.client.reconnect_backoff = quick;
    config
}

fn batch(values: std::ops::Range<i64>, compression: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(BatchOptions {
        compression,
        ..BatchOptions::default()
    });
    for number in values {
        let value = number.to_string();
        let timestamp = TimestampMs::new(1000 * number);
        builder
            .append(timestamp, Some(b"key"), Some(value.as_bytes()), &[])
            .unwrap();
    }
    builder.build()
}

/// A topic `t` with batches of ten records each, whose values are their offsets.
async fn broker(partitions: usize, batches: i64, compression: Compression) -> FakeBroker {
    let broker = FakeBroker::start().await;
    broker.create("t", partitions);
    for partition in &mut broker.state().topics.get_mut("t").unwrap().partitions {
        for number in 0..batches {
            partition.store(&batch(10 * number..10 * (number + 1), compression));
        }
    }
    broker
}

fn partition(index: i32) -> TopicPartition {
    TopicPartition::new("t", index)
}

/// Polls until `count` records of partition 0 have come; their values, which are checked to be their offsets.
async fn read(consumer: &mut Consumer, count: usize) -> Vec<i64> {
    let mut values = Vec::new();
    while values.len() < count {
        for records in consumer.poll().await.unwrap() {
            for record in records.into_records().unwrap() {
                let value = std::str::from_utf8(record.value.as_ref().unwrap()).unwrap();
                assert_eq!(value, record.offset.to_string());
                assert_eq!(record.key.as_deref(), Some(&b"key"[..]));
                values.push(record.offset.get());
            }
        }
    }
    values
}

async fn from(broker: &FakeBroker, start: StartAt) -> Consumer {
    let mut consumer = Consumer::new(config(broker)).unwrap();
    assert_eq!(consumer.assign_topic("t", start).await.unwrap(), 1);
    consumer
}

#[tokio::test]
async fn reading_begins_where_it_was_asked_to() {
    for compression in [Compression::None, Compression::Zstd] {
        let broker = broker(1, 5, compression).await;
        for (start, first) in [
            (StartAt::Earliest, 0),
            (StartAt::Offset(Offset::new(0)), 0),
            (StartAt::Offset(Offset::new(13)), 13),
            (StartAt::Offset(Offset::new(49)), 49),
            (StartAt::Timestamp(TimestampMs::new(20_500)), 21),
            (StartAt::Timestamp(TimestampMs::new(0)), 0),
            (StartAt::BeforeEnd(3), 47),
            (StartAt::BeforeEnd(1000), 0),
        ] {
            let mut consumer = from(&broker, start).await;
            let expected: Vec<_> = (first..50).collect();
            assert_eq!(read(&mut consumer, expected.len()).await, expected, "{start:?}");
            assert_eq!(consumer.position(&partition(0)), Some(Offset::new(50)));
            assert_eq!(consumer.high_watermark(&partition(0)), Some(Offset::new(50)));
        }
    }
}

#[tokio::test]
async fn what_comes_later_is_read_when_it_comes() {
    let broker = broker(1, 5, Compression::None).await;
    for start in [
        StartAt::Latest,
        StartAt::Timestamp(TimestampMs::new(1_000_000)),
        StartAt::Offset(Offset::new(50)),
        StartAt::BeforeEnd(0),
    ] {
        let end = broker.state().topics["t"].partitions[0].log_end;
        let start = if let StartAt::Offset(_) = start {
            StartAt::Offset(Offset::new(end))
        } else {
            start
        };
        let mut consumer = from(&broker, start).await;
        // Nothing to read yet: the poll is still waiting when it is given up.
        while consumer.position(&partition(0)).is_none() {
            let poll = tokio::time::timeout(Duration::from_millis(1), consumer.poll()).await;
            assert!(poll.is_err(), "{start:?}");
        }
        let later = batch(end..end + 10, Compression::None);
        broker.state().topics.get_mut("t").unwrap().partitions[0].store(&later);
        let expected: Vec<_> = (end..end + 10).collect();
        assert_eq!(read(&mut consumer, 10).await, expected, "{start:?}");
    }
}

#[tokio::test]
async fn a_response_that_is_cut_inside_a_batch_is_read_on() {
    let broker = broker(1, 20, Compression::None).await;
    let size = batch(0..10, Compression::None).len();
    for partition_bytes_max in [1, size, size + 1, 3 * size + size / 2] {
        let mut consumer = Consumer::new(ConsumerConfig {
            partition_bytes_max: i32::try_from(partition_bytes_max).unwrap(),
            ..config(&broker)
        })
        .unwrap();
        consumer.assign(partition(0), StartAt::Offset(Offset::new(5)));
        let expected: Vec<_> = (5..200).collect();
        assert_eq!(read(&mut consumer, 195).await, expected, "{partition_bytes_max}");
    }
}

#[tokio::test]
async fn all_partitions_are_read_and_none_starves() {
    let broker = broker(7, 30, Compression::None).await;
    let mut config = config(&broker);
    config.partition_bytes_max = 1;
    let mut consumer = Consumer::new(config).unwrap();
    consumer.assign_topic("t", StartAt::Earliest).await.unwrap();
    let mut next = [0; 7];
    while next.iter().any(|next| *next < 300) {
        for records in consumer.poll().await.unwrap() {
            let index = usize::try_from(records.partition().partition).unwrap();
            records
                .visit(&mut Vec::new(), |record| {
                    assert_eq!(record.offset.get(), next[index]);
                    next[index] += 1;
                })
                .unwrap();
        }
    }
}

#[tokio::test]
async fn a_seek_forgets_what_was_under_way() {
    let broker = broker(1, 5, Compression::None).await;
    let mut consumer = from(&broker, StartAt::Earliest).await;
    read(&mut consumer, 50).await;
    // A fetch from 50 is under way now.
    consumer.assign(partition(0), StartAt::Offset(Offset::new(44)));
    assert_eq!(consumer.position(&partition(0)), Some(Offset::new(44)));
    assert_eq!(read(&mut consumer, 6).await, [44, 45, 46, 47, 48, 49]);
    consumer.unassign(&partition(0));
    assert!(matches!(consumer.poll().await, Err(Error::InvalidConfig(_))));
}

#[tokio::test]
async fn a_position_outside_of_the_log_follows_the_policy() {
    let broker = broker(1, 5, Compression::None).await;
    broker.state().topics.get_mut("t").unwrap().partitions[0].log_start = 20;
    let outside = [Offset::new(3), Offset::new(999)];
    for position in outside {
        let mut consumer = from(&broker, StartAt::Offset(position)).await;
        let error = consumer.poll().await.unwrap_err();
        assert!(
            matches!(&error, Error::OffsetOutOfRange { position: named, .. } if *named == position),
            "{error}"
        );
        consumer.assign(partition(0), StartAt::Earliest);
        assert_eq!(read(&mut consumer, 30).await[0], 20);

        let mut config = config(&broker);
        config.offset_reset = OffsetReset::Earliest;
        let mut consumer = Consumer::new(config.clone()).unwrap();
        consumer.assign(partition(0), StartAt::Offset(position));
        assert_eq!(read(&mut consumer, 30).await[0], 20);

        config.offset_reset = OffsetReset::Latest;
        let mut consumer = Consumer::new(config).unwrap();
        consumer.assign(partition(0), StartAt::Offset(position));
        while consumer.position(&partition(0)) != Some(Offset::new(50)) {
            let poll = tokio::time::timeout(Duration::from_millis(1), consumer.poll()).await;
            assert!(poll.is_err(), "there is nothing at the end");
        }
    }
}

#[tokio::test]
async fn damage_is_found_before_records_are_shown() {
    let broker = broker(1, 3, Compression::None).await;
    {
        let mut state = broker.state();
        let batch = &mut state.topics.get_mut("t").unwrap().partitions[0].batches[1].2;
        let mut damaged = batch.to_vec();
        *damaged.last_mut().unwrap() ^= 1;
        *batch = Bytes::from(damaged);
    }
    let mut config = config(&broker);
    config.client.api_timeout = Duration::from_millis(20);
    let mut consumer = Consumer::new(config.clone()).unwrap();
    consumer.assign(partition(0), StartAt::Earliest);
    assert_eq!(read(&mut consumer, 10).await.len(), 10, "what stands before it");
    let error = consumer.poll().await.unwrap_err();
    assert!(
        matches!(&error, Error::CorruptBatch { offset, .. } if offset.get() == 10),
        "{error}"
    );
    assert_eq!(consumer.position(&partition(0)), Some(Offset::new(10)));
    config.check_crcs = false;
    let mut consumer = Consumer::new(config).unwrap();
    consumer.assign(partition(0), StartAt::Earliest);
    assert_eq!(consumer.poll().await.unwrap()[0].batches().count(), 3);
}

#[tokio::test]
async fn errors_that_pass_are_waited_out() {
    let broker = broker(1, 5, Compression::None).await;
    broker.state().fetch_errors.extend([
        ErrorCode::NotLeaderOrFollower,
        ErrorCode::FencedLeaderEpoch,
        ErrorCode::UnknownLeaderEpoch,
        ErrorCode::KafkaStorageError,
        ErrorCode::UnknownTopicId,
        ErrorCode::OffsetNotAvailable,
    ]);
    let mut consumer = from(&broker, StartAt::Earliest).await;
    assert_eq!(read(&mut consumer, 50).await.len(), 50);
    assert!(broker.state().fetch_errors.is_empty());

    drop(consumer);

    let broker = self::broker(1, 5, Compression::None).await;
    broker
        .state()
        .fetch_errors
        .push_back(ErrorCode::TopicAuthorizationFailed);
    let mut consumer = from(&broker, StartAt::Earliest).await;
    let error = consumer.poll().await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::TopicAuthorizationFailed));
    assert_eq!(read(&mut consumer, 50).await.len(), 50, "polling again goes on");
}

#[tokio::test]
async fn a_topic_that_is_gone_is_reported_in_the_end() {
    let broker = broker(1, 1, Compression::None).await;
    let mut config = config(&broker);
    config.client.api_timeout = Duration::from_millis(30);
    let mut consumer = Consumer::new(config).unwrap();
    consumer.assign(partition(0), StartAt::Earliest);
    read(&mut consumer, 10).await;
    broker.state().topics.clear();
    let error = consumer.poll().await.unwrap_err();
    assert!(
        matches!(
            error.code(),
            Some(ErrorCode::UnknownTopicId | ErrorCode::UnknownTopicOrPartition)
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_recreated_topic_is_read_by_its_new_id() {
    let broker = broker(1, 5, Compression::None).await;
    let mut consumer = from(&broker, StartAt::Earliest).await;
    read(&mut consumer, 50).await;
    broker.create("t", 1);
    for number in 0..6 {
        let more = batch(10 * number..10 * (number + 1), Compression::None);
        broker.state().topics.get_mut("t").unwrap().partitions[0].store(&more);
    }
    assert_eq!(read(&mut consumer, 10).await[0], 50);
}
