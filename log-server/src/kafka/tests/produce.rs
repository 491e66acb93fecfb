//! Produce: what is appended, what is refused with which code, and who waits for the disk.

use log_core::protocol::ApiKey;
use log_core::protocol::messages::MetadataRequestData;
use log_core::record::compression::Compression;

use super::*;

#[tokio::test]
async fn every_version_appends() {
    let broker = Broker::start();
    let id = broker.create_topic("a", 1, &[]).await;
    let mut client = broker.connect();
    for (offset, version) in (0..).zip(3..=13) {
        let request = match version {
            13 => produce_by_id(id, 0, batch(&["x"])),
            _ => produce_request("a", 0, Some(batch(&["x"]))),
        };
        let row = client.produce(version, request).await;
        assert_eq!(
            (row.error_code, row.base_offset, row.log_append_time_ms),
            (0, offset, -1)
        );
        assert_eq!(row.log_start_offset, if 5 <= version { 0 } else { -1 });
    }
}

#[tokio::test]
async fn the_answer_waits_for_the_disk_and_later_requests_do_not() {
    let broker = Broker::start();
    broker.create_topic("a", 1, &[]).await;
    broker.hold_syncs();
    let mut client = broker.connect();
    let first = client
        .send(9, &produce_request("a", 0, Some(batch(&["x"]))))
        .await;
    let second = client
        .send(9, &produce_request("a", 0, Some(batch(&["y", "z"]))))
        .await;
    let third = client.send(9, &MetadataRequestData::default()).await;
    assert!(client.is_quiet().await);
    let partition = broker.services.partition("a", 0).unwrap();
    assert_eq!(partition.offsets().log_end.get(), 3, "both are appended");
    broker.sync();
    let response = client.receive::<ProduceRequestData>(9, first).await;
    assert_eq!(response.responses[0].partition_responses[0].base_offset, 0);
    let response = client.receive::<ProduceRequestData>(9, second).await;
    assert_eq!(response.responses[0].partition_responses[0].base_offset, 1);
    client.receive::<MetadataRequestData>(9, third).await;
}

/// Requests of all kinds in one write, so that they are carried out together: each has the answer that it would have had alone.
#[tokio::test]
async fn requests_that_come_together_are_answered_each_for_itself() {
    let broker = Broker::start();
    broker.create_topic("a", 2, &[]).await;
    let with_acks = |acks, partition, value| ProduceRequestData {
        acks,
        ..produce_request("a", partition, Some(batch(&[value])))
    };
    let mut both = produce_request("a", 0, Some(batch(&["both"])));
    let other = produce_request("a", 1, Some(batch(&["both"])));
    both.topic_data.extend(other.topic_data);
    let requests = [
        (with_acks(-1, 0, "1"), vec![(0, 0)]),
        (with_acks(-1, 0, "2"), vec![(0, 1)]),
        (with_acks(1, 0, "3"), vec![(0, 2)]),
        (produce_request("unknown", 0, Some(batch(&["x"]))), vec![(3, -1)]),
        (with_acks(-1, 1, "4"), vec![(0, 0)]),
        (both, vec![(0, 3), (0, 1)]),
        (
            produce_request("a", 0, Some(Bytes::from_static(b"no batch"))),
            vec![(87, -1)],
        ),
        (with_acks(0, 0, "5"), vec![]),
        (with_acks(-1, 0, "6"), vec![(0, 5)]),
    ];
    let mut bytes = Vec::new();
    for (id, (request, _)) in (0..).zip(&requests) {
        bytes.extend(frame(ApiKey::Produce, 9, id, |buffer| {
            request.write_to(buffer, 9).unwrap();
        }));
    }
    let mut client = broker.connect();
    client.send_bytes(&bytes).await;
    for (id, (_, expected)) in (0..).zip(&requests) {
        if expected.is_empty() {
            continue;
        }
        let response = client.receive::<ProduceRequestData>(9, id).await;
        let rows = response
            .responses
            .iter()
            .flat_map(|topic| &topic.partition_responses);
        let found: Vec<_> = rows.map(|row| (row.error_code, row.base_offset)).collect();
        assert_eq!(found, *expected, "request {id}");
    }
}

#[tokio::test]
async fn acks_1_is_answered_before_the_disk() {
    let broker = Broker::start();
    broker.create_topic("a", 1, &[]).await;
    broker.hold_syncs();
    let request = ProduceRequestData {
        acks: 1,
        ..produce_request("a", 0, Some(batch(&["x"])))
    };
    assert_eq!(broker.connect().produce(9, request).await.error_code, 0);
}

#[tokio::test]
async fn acks_0_is_not_answered_and_its_failure_closes_the_connection() {
    let broker = Broker::start();
    broker.create_topic("a", 1, &[]).await;
    let unacknowledged = |topic| ProduceRequestData {
        acks: 0,
        ..produce_request(topic, 0, Some(batch(&["x"])))
    };
    let mut client = broker.connect();
    client.send(9, &unacknowledged("a")).await;
    let id = client
        .send(9, &produce_request("a", 0, Some(batch(&["y"]))))
        .await;
    let response = client.receive::<ProduceRequestData>(9, id).await;
    assert_eq!(response.responses[0].partition_responses[0].base_offset, 1);
    client.send(9, &unacknowledged("nobody")).await;
    assert!(
        client
            .closed()
            .await
            .starts_with("produce with acks=0 failed: nobody-0: ")
    );
}

#[tokio::test]
async fn a_disk_that_takes_too_long_is_told() {
    let broker = Broker::start();
    broker.create_topic("a", 1, &[]).await;
    broker.hold_syncs();
    // Not before: the controller is a thread of its own, which a clock that runs ahead does not wait for.
    tokio::time::pause();
    let request = ProduceRequestData {
        timeout_ms: 5,
        ..produce_request("a", 0, Some(batch(&["x"])))
    };
    let begin = tokio::time::Instant::now();
    let row = broker.connect().produce(9, request).await;
    assert_eq!(code(row.error_code), ErrorCode::RequestTimedOut);
    assert_eq!((row.base_offset, begin.elapsed().as_secs()), (-1, 1));
}

/// The codes are those that a real Kafka 4.3.0 broker gave for the same requests.
#[tokio::test]
async fn refusals_have_kafka_s_codes() {
    let broker = Broker::start();
    broker
        .create_topic("a", 1, &[("max.message.bytes", "1000")])
        .await;
    broker
        .create_topic("compacted", 1, &[("cleanup.policy", "compact")])
        .await;
    let with = |options| batch_with(&["x"], options);
    let changed = |place: usize, value: u8| {
        let mut bytes = batch(&["x"]).to_vec();
        bytes[place] = value;
        Bytes::from(bytes)
    };
    let twice = Bytes::from([batch(&["x"]), batch(&["y"])].concat());
    let mut short = batch(&["x"]);
    short.truncate(short.len() - 3);
    let zstd = BatchOptions {
        compression: Compression::Zstd,
        ..BatchOptions::default()
    };
    let transactional = BatchOptions {
        transactional: true,
        producer: BatchProducer {
            id: ProducerId::new(5),
            epoch: ProducerEpoch::new(0),
            base_sequence: Sequence::new(0),
        },
        ..BatchOptions::default()
    };
    let mut keyless = BatchBuilder::new(BatchOptions::default());
    keyless.append(NOW, Some(b"k"), Some(b"fine"), &[]).unwrap();
    keyless.append(NOW, None, Some(b"x"), &[]).unwrap();
    let mut late = BatchBuilder::new(BatchOptions::default());
    late.append(NOW.saturating_plus(6 * 3_600_000), Some(b"k"), None, &[])
        .unwrap();
    broker
        .create_topic(
            "plain",
            1,
            &[
                ("max.message.bytes", "1000"),
                ("compression.type", "uncompressed"),
            ],
        )
        .await;
    let large = "x".repeat(1000);
    let packed = batch_with(&[&large], zstd);
    for (what, version, topic, partition, records, expected) in [
        (
            "topic",
            9,
            "nobody",
            0,
            Some(batch(&["x"])),
            ErrorCode::UnknownTopicOrPartition,
        ),
        (
            "partition",
            9,
            "a",
            1,
            Some(batch(&["x"])),
            ErrorCode::UnknownTopicOrPartition,
        ),
        (
            "negative",
            9,
            "a",
            -1,
            Some(batch(&["x"])),
            ErrorCode::UnknownTopicOrPartition,
        ),
        (
            "metadata log",
            9,
            "__stratalog_metadata",
            0,
            Some(batch(&["x"])),
            ErrorCode::UnknownTopicOrPartition,
        ),
        ("null", 9, "a", 0, None, ErrorCode::InvalidRecord),
        ("empty", 9, "a", 0, Some(Bytes::new()), ErrorCode::InvalidRecord),
        ("two batches", 9, "a", 0, Some(twice), ErrorCode::InvalidRecord),
        ("cut off", 9, "a", 0, Some(short), ErrorCode::InvalidRecord),
        (
            "checksum",
            9,
            "a",
            0,
            Some(changed(70, 0x55)),
            ErrorCode::CorruptMessage,
        ),
        (
            "magic 1",
            9,
            "a",
            0,
            Some(changed(16, 1)),
            ErrorCode::InvalidRecord,
        ),
        (
            "control",
            9,
            "a",
            0,
            Some(with(BatchOptions {
                control: true,
                ..transactional
            })),
            ErrorCode::TransactionalIdAuthorizationFailed,
        ),
        (
            "transactional",
            9,
            "a",
            0,
            Some(with(transactional)),
            ErrorCode::TransactionalIdAuthorizationFailed,
        ),
        (
            "zstd in version 6",
            6,
            "a",
            0,
            Some(with(zstd)),
            ErrorCode::UnsupportedCompressionType,
        ),
        ("zstd in version 7", 7, "a", 0, Some(with(zstd)), ErrorCode::None),
        (
            "too large",
            9,
            "a",
            0,
            Some(batch(&[&large])),
            ErrorCode::MessageTooLarge,
        ),
        (
            "too large where it is unpacked",
            9,
            "plain",
            0,
            Some(packed),
            ErrorCode::MessageTooLarge,
        ),
        (
            "too late",
            9,
            "a",
            0,
            Some(late.build()),
            ErrorCode::InvalidTimestamp,
        ),
        (
            "without a key",
            9,
            "compacted",
            0,
            Some(keyless.build()),
            ErrorCode::InvalidRecord,
        ),
    ] {
        let row = broker
            .connect()
            .produce(version, produce_request(topic, partition, records))
            .await;
        assert_eq!(code(row.error_code), expected, "{what}");
        if expected != ErrorCode::None {
            assert_eq!((row.base_offset, row.log_append_time_ms), (-1, -1), "{what}");
        }
    }
    let mut request = produce_request("a", 0, Some(batch(&["x"])));
    request.acks = 2;
    let row = broker.connect().produce(9, request).await;
    assert_eq!(code(row.error_code), ErrorCode::InvalidRequiredAcks);
    let unknown = produce_by_id(TopicId::from_bytes([9; 16]), 0, batch(&["x"]));
    let row = broker.connect().produce(13, unknown).await;
    assert_eq!(code(row.error_code), ErrorCode::UnknownTopicId);
}

#[tokio::test]
async fn the_records_at_fault_are_named() {
    let broker = Broker::start();
    broker
        .create_topic("compacted", 1, &[("cleanup.policy", "compact")])
        .await;
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for key in [Some(&b"k"[..]), None, Some(b"k"), None] {
        builder.append(NOW, key, Some(b"x"), &[]).unwrap();
    }
    let request = produce_request("compacted", 0, Some(builder.build()));
    let row = broker.connect().produce(8, request.clone()).await;
    let faults: Vec<_> = row.record_errors.iter().map(|fault| fault.batch_index).collect();
    assert_eq!(faults, [1, 3]);
    assert!(row.error_message.is_some());
    let row = broker.connect().produce(7, request).await;
    assert_eq!(
        code(row.error_code),
        ErrorCode::InvalidRecord,
        "older versions have no room for more"
    );
}

#[tokio::test]
async fn sequences_are_checked_and_retries_recognised() {
    let broker = Broker::start();
    broker.create_topic("a", 1, &[]).await;
    let mut client = broker.connect();
    for (epoch, sequence, expected, offset) in [
        (0, 0, ErrorCode::None, 0),
        (0, 2, ErrorCode::None, 2),
        (0, 2, ErrorCode::None, 2),
        (0, 0, ErrorCode::None, 0),
        (0, 5, ErrorCode::OutOfOrderSequenceNumber, -1),
        (1, 4, ErrorCode::OutOfOrderSequenceNumber, -1),
        (1, 0, ErrorCode::None, 4),
        (0, 4, ErrorCode::InvalidProducerEpoch, -1),
    ] {
        let request = produce_request("a", 0, Some(idempotent(&["x", "y"], epoch, sequence)));
        let row = client.produce(9, request).await;
        assert_eq!(
            (code(row.error_code), row.base_offset),
            (expected, offset),
            "epoch {epoch}, {sequence}"
        );
    }
}

#[tokio::test]
async fn one_partition_s_refusal_does_not_touch_the_others() {
    let broker = Broker::start();
    broker.create_topic("a", 3, &[]).await;
    let mut request = produce_request("a", 0, Some(batch(&["x"])));
    for (index, records) in [(1, None), (2, Some(batch(&["y"]))), (9, Some(batch(&["z"])))] {
        request.topic_data[0].partition_data.push(PartitionProduceData {
            index,
            records,
            ..PartitionProduceData::default()
        });
    }
    request
        .topic_data
        .extend(produce_request("nobody", 0, Some(batch(&["x"]))).topic_data);
    let response = broker.connect().call(9, request).await;
    let rows: Vec<_> = response
        .responses
        .iter()
        .flat_map(|topic| &topic.partition_responses)
        .map(|row| (row.index, code(row.error_code)))
        .collect();
    assert_eq!(
        rows,
        [
            (0, ErrorCode::None),
            (1, ErrorCode::InvalidRecord),
            (2, ErrorCode::None),
            (9, ErrorCode::UnknownTopicOrPartition),
            (0, ErrorCode::UnknownTopicOrPartition),
        ]
    );
}

#[tokio::test]
async fn a_failing_disk_is_told_to_those_who_wait() {
    use log_core::fs::mem::fault::{FaultKind, FaultPlan, FaultTarget};
    let broker = Broker::start();
    broker.create_topic("a", 1, &[]).await;
    broker.hold_syncs();
    let mut client = broker.connect();
    let id = client
        .send(9, &produce_request("a", 0, Some(batch(&["x"]))))
        .await;
    assert!(client.is_quiet().await);
    broker
        .files
        .set_faults(FaultPlan::new().fail_from(FaultTarget::Sync, 1, FaultKind::Io));
    broker.sync();
    let response = client.receive::<ProduceRequestData>(9, id).await;
    let row = &response.responses[0].partition_responses[0];
    assert_eq!(
        (code(row.error_code), row.base_offset),
        (ErrorCode::KafkaStorageError, -1)
    );
    assert!(row.error_message.is_some());
    let row = client
        .produce(9, produce_request("a", 0, Some(batch(&["y"]))))
        .await;
    assert_eq!(
        code(row.error_code),
        ErrorCode::KafkaStorageError,
        "it refuses until it is reopened"
    );
}
