//! Fetch: which records come, when they come, and what is said instead.

use log_core::protocol::messages::FetchRequestData;
use log_core::protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use log_core::protocol::messages::fetch_response::PartitionData;
use log_core::protocol::messages::{DeleteTopicsRequestData, FetchResponseData};
use log_core::record::batch::batches;
use tokio::time::Instant;

use super::*;
use crate::kafka::services::WAITING_PARTITIONS_MAX;

const VERSION: i16 = 12;

/// Partitions of one topic by index and offset; waits for nothing.
pub(super) fn request(version: i16, topic: &str, partitions: &[(i32, i64)]) -> FetchRequestData {
    let partition = |(partition, fetch_offset): &(i32, i64)| FetchPartition {
        partition: *partition,
        fetch_offset: *fetch_offset,
        partition_max_bytes: 1 << 20,
        ..FetchPartition::default()
    };
    FetchRequestData {
        max_bytes: 10 << 20,
        min_bytes: 1,
        session_epoch: if 7 <= version {
            -1
        } else {
            FetchRequestData::default().session_epoch
        },
        topics: vec![FetchTopic {
            topic: string(topic),
            partitions: partitions.iter().map(partition).collect(),
            ..FetchTopic::default()
        }],
        ..FetchRequestData::default()
    }
}

fn waiting(topic: &str, partitions: &[(i32, i64)], max_wait_ms: i32) -> FetchRequestData {
    FetchRequestData {
        max_wait_ms,
        ..request(VERSION, topic, partitions)
    }
}

fn rows(response: &FetchResponseData) -> Vec<&PartitionData> {
    response
        .responses
        .iter()
        .flat_map(|topic| &topic.partitions)
        .collect()
}

/// The values of the whole batches in a row.
fn values(row: &PartitionData) -> Vec<String> {
    let mut scratch = Vec::new();
    let mut all = Vec::new();
    for batch in batches(row.records.as_deref().unwrap_or_default()) {
        let batch = batch.unwrap();
        batch.verify_checksum().unwrap();
        for record in batch.records(&mut scratch, 1 << 20).unwrap() {
            all.push(String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap());
        }
    }
    all
}

fn offsets(row: &PartitionData) -> (i64, i64, i64) {
    (row.high_watermark, row.last_stable_offset, row.log_start_offset)
}

/// A fetch that waits held memory for each partition that it named, and nothing limited how many waited.
#[tokio::test]
async fn where_too_many_partitions_are_waited_for_nobody_waits() {
    let broker = Broker::start();
    broker.create_topic("a", 1, &[]).await;
    let request = || waiting("a", &[(0, 0), (1, 0)], i32::MAX);
    let all_but_three = u32::try_from(WAITING_PARTITIONS_MAX - 3).unwrap();
    let free = Arc::clone(&broker.services.waiting_partitions);
    let others = free.try_acquire_many_owned(all_but_three).unwrap();
    let (mut first, mut second) = (broker.connect(), broker.connect());
    let id = first.send(VERSION, &request()).await;
    assert!(first.is_quiet().await, "there is room");
    let response = second.call(VERSION, request()).await;
    let told: Vec<_> = rows(&response).iter().map(|row| code(row.error_code)).collect();
    assert_eq!(told, [ErrorCode::None, ErrorCode::UnknownTopicOrPartition]);
    // What was waited for comes, and there is room again.
    broker.append("a", 0, &["x"]).await;
    first.receive::<FetchRequestData>(VERSION, id).await;
    drop(others);
    let free = broker.services.waiting_partitions.available_permits();
    assert_eq!(free, WAITING_PARTITIONS_MAX);
}

#[tokio::test]
async fn every_version_reads() {
    let broker = Broker::start();
    let id = broker.create_topic("a", 1, &[]).await;
    broker.append("a", 0, &["x", "y"]).await;
    broker.append("a", 0, &["z"]).await;
    for version in 4..=18 {
        let mut request = request(version, "a", &[(0, 0)]);
        if 13 <= version {
            request.topics[0].topic_id = KafkaUuid::from(id);
        }
        let response = broker.connect().call(version, request).await;
        let row = rows(&response)[0];
        assert_eq!(row.error_code, 0);
        assert_eq!(values(row), ["x", "y", "z"], "version {version}");
        assert_eq!(offsets(row), (3, 3, if 5 <= version { 0 } else { -1 }));
    }
}

#[tokio::test]
async fn an_offset_within_a_batch_gives_the_whole_batch() {
    let broker = Broker::start();
    broker.create_topic("a", 1, &[]).await;
    broker.append("a", 0, &["w"]).await;
    broker.append("a", 0, &["x", "y", "z"]).await;
    let response = broker
        .connect()
        .call(VERSION, request(VERSION, "a", &[(0, 2)]))
        .await;
    assert_eq!(values(rows(&response)[0]), ["x", "y", "z"]);
}

#[tokio::test]
async fn what_is_not_on_the_disk_is_not_read() {
    let broker = Broker::start();
    broker.create_topic("a", 1, &[]).await;
    broker.hold_syncs();
    let mut producer = broker.connect();
    producer
        .send(9, &produce_request("a", 0, Some(batch(&["x"]))))
        .await;
    assert!(producer.is_quiet().await);
    let mut client = broker.connect();
    let response = client.call(VERSION, request(VERSION, "a", &[(0, 0)])).await;
    assert_eq!(
        (values(rows(&response)[0]).len(), offsets(rows(&response)[0])),
        (0, (0, 0, 0))
    );
    broker.sync();
    let response = client.call(VERSION, request(VERSION, "a", &[(0, 0)])).await;
    assert_eq!(values(rows(&response)[0]), ["x"]);
}

/// The first batch comes whatever its size; then the limits hold, over all partitions together.
#[tokio::test]
async fn byte_limits_hold_after_the_first_batch() {
    let broker = Broker::start();
    broker.create_topic("a", 3, &[]).await;
    let large = "x".repeat(1000);
    for partition in [1, 2] {
        for _ in 0..3 {
            broker.append("a", partition, &[&large]).await;
        }
    }
    let size = batch(&[&large]).len();
    let limited = |max_bytes: usize, partition_max_bytes: usize| {
        let mut request = request(VERSION, "a", &[(0, 0), (1, 0), (2, 0)]);
        request.max_bytes = i32::try_from(max_bytes).unwrap();
        for partition in &mut request.topics[0].partitions {
            partition.partition_max_bytes = i32::try_from(partition_max_bytes).unwrap();
        }
        request
    };
    for (max_bytes, partition_max_bytes, expected) in [
        (10 * size, 10 * size, [0, 3, 3]),
        // Smaller than a batch: one all the same, and nothing of the next partition.
        (10, 10 * size, [0, 1, 0]),
        (10 * size, 10, [0, 1, 0]),
        (0, 0, [0, 1, 0]),
        (10 * size, size, [0, 1, 1]),
        (10 * size, 2 * size + 1, [0, 2, 2]),
        (4 * size, 3 * size, [0, 3, 1]),
        (3 * size, 10 * size, [0, 3, 0]),
    ] {
        let response = broker
            .connect()
            .call(VERSION, limited(max_bytes, partition_max_bytes))
            .await;
        let counts: Vec<_> = rows(&response).iter().map(|row| values(row).len()).collect();
        assert_eq!(counts, expected, "{max_bytes}, {partition_max_bytes}");
        assert_eq!(rows(&response)[0].high_watermark, 0);
    }
}

#[tokio::test]
async fn a_fetch_waits_for_records_and_is_woken_by_them() {
    let broker = Broker::start();
    broker.create_topic("a", 2, &[]).await;
    let mut client = broker.connect();
    let id = client
        .send(VERSION, &waiting("a", &[(0, 0), (1, 0)], 20_000))
        .await;
    assert!(client.is_quiet().await);
    broker.append("a", 1, &["x"]).await;
    let response = client.receive::<FetchRequestData>(VERSION, id).await;
    let found: Vec<_> = rows(&response).into_iter().map(values).collect();
    assert_eq!(found, [vec![], vec!["x".to_owned()]]);
}

#[tokio::test]
async fn a_fetch_waits_for_as_many_bytes_as_it_wants() {
    let broker = Broker::start();
    broker.create_topic("a", 1, &[]).await;
    let size = batch(&["x"]).len();
    let mut client = broker.connect();
    let mut request = waiting("a", &[(0, 0)], 20_000);
    request.min_bytes = i32::try_from(2 * size + 1).unwrap();
    let id = client.send(VERSION, &request).await;
    for _ in 0..2 {
        broker.append("a", 0, &["x"]).await;
        assert!(client.is_quiet().await);
    }
    broker.append("a", 0, &["x"]).await;
    let response = client.receive::<FetchRequestData>(VERSION, id).await;
    assert_eq!(values(rows(&response)[0]).len(), 3);
}

#[tokio::test]
async fn a_wait_ends_with_what_is_there() {
    let broker = Broker::start();
    broker.create_topic("a", 1, &[]).await;
    broker.append("a", 0, &["x"]).await;
    tokio::time::pause();
    let mut request = waiting("a", &[(0, 0)], 700);
    request.min_bytes = 1_000_000;
    let begin = Instant::now();
    let response = broker.connect().call(VERSION, request).await;
    assert_eq!(values(rows(&response)[0]), ["x"]);
    assert_eq!(begin.elapsed().as_millis() / 10, 70);
}

#[tokio::test]
async fn requests_behind_a_waiting_fetch_are_carried_out() {
    let broker = Broker::start();
    broker.create_topic("a", 1, &[]).await;
    let mut client = broker.connect();
    let fetch = client.send(VERSION, &waiting("a", &[(0, 0)], 20_000)).await;
    let produce = client
        .send(9, &produce_request("a", 0, Some(batch(&["x"]))))
        .await;
    let response = client.receive::<FetchRequestData>(VERSION, fetch).await;
    assert_eq!(
        values(rows(&response)[0]),
        ["x"],
        "its own connection's record woke it"
    );
    client.receive::<ProduceRequestData>(9, produce).await;
}

#[tokio::test]
async fn a_stop_ends_the_wait() {
    let broker = Broker::start();
    broker.create_topic("a", 1, &[]).await;
    let mut client = broker.connect();
    let id = client.send(VERSION, &waiting("a", &[(0, 0)], 20_000)).await;
    assert!(client.is_quiet().await);
    broker.shutdown.request(crate::shutdown::StopReason::Asked);
    let response = client.receive::<FetchRequestData>(VERSION, id).await;
    assert_eq!(rows(&response)[0].error_code, 0);
    assert_eq!(client.closed().await, "the broker is stopping");
}

#[tokio::test]
async fn an_offset_error_is_told_at_once_and_an_unknown_partition_does_not_cut_the_wait() {
    let broker = Broker::start();
    broker.create_topic("a", 2, &[]).await;
    broker.append("a", 0, &["x"]).await;
    let mut client = broker.connect();
    for offset in [2, 99, -1] {
        let response = client
            .call(VERSION, waiting("a", &[(0, offset), (1, 0)], 20_000))
            .await;
        let found: Vec<_> = rows(&response).iter().map(|row| code(row.error_code)).collect();
        assert_eq!(found, [ErrorCode::OffsetOutOfRange, ErrorCode::None], "{offset}");
        assert_eq!(offsets(rows(&response)[0]), (-1, -1, -1));
        assert_eq!(rows(&response)[0].aborted_transactions, None);
    }
    let id = client
        .send(VERSION, &waiting("a", &[(0, 1), (7, 0)], 20_000))
        .await;
    assert!(client.is_quiet().await);
    broker.append("a", 0, &["y"]).await;
    let response = client.receive::<FetchRequestData>(VERSION, id).await;
    let found: Vec<_> = rows(&response)
        .iter()
        .map(|row| (row.partition_index, code(row.error_code)))
        .collect();
    assert_eq!(
        found,
        [(0, ErrorCode::None), (7, ErrorCode::UnknownTopicOrPartition)]
    );
    assert_eq!(values(rows(&response)[0]), ["y"]);
    assert_eq!(
        rows(&response)[1].aborted_transactions,
        Some(vec![]),
        "as Kafka writes it"
    );
    // Nothing that could be waited for.
    let response = client.call(VERSION, waiting("nobody", &[(0, 0)], 20_000)).await;
    assert_eq!(
        code(rows(&response)[0].error_code),
        ErrorCode::UnknownTopicOrPartition
    );
    let response = client
        .call(VERSION, waiting("__stratalog_metadata", &[(0, 0)], 20_000))
        .await;
    assert_eq!(
        code(rows(&response)[0].error_code),
        ErrorCode::UnknownTopicOrPartition
    );
}

#[tokio::test]
async fn a_deleted_topic_ends_the_wait() {
    let broker = Broker::start();
    broker.create_topic("a", 1, &[]).await;
    let mut client = broker.connect();
    let id = client.send(VERSION, &waiting("a", &[(0, 0)], 20_000)).await;
    assert!(client.is_quiet().await);
    let deletion = DeleteTopicsRequestData {
        topic_names: vec![string("a")],
        ..DeleteTopicsRequestData::default()
    };
    broker.connect().call(5, deletion).await;
    let response = client.receive::<FetchRequestData>(VERSION, id).await;
    assert_eq!(
        code(rows(&response)[0].error_code),
        ErrorCode::UnknownTopicOrPartition
    );
}

#[tokio::test]
async fn topic_ids_tell_one_life_of_a_topic_from_the_next() {
    let broker = Broker::start();
    let first = broker.create_topic("a", 1, &[]).await;
    broker.append("a", 0, &["x"]).await;
    let by_id = |id: TopicId, session_id: i32, session_epoch: i32| {
        let mut request = request(13, "", &[(0, 0)]);
        request.topics[0].topic_id = KafkaUuid::from(id);
        FetchRequestData {
            session_id,
            session_epoch,
            ..request
        }
    };
    let mut client = broker.connect();
    let response = client.call(13, by_id(first, 0, 0)).await;
    assert_eq!(values(rows(&response)[0]), ["x"]);
    let session = response.session_id;
    assert_ne!(session, 0);
    let deletion = DeleteTopicsRequestData {
        topic_names: vec![string("a")],
        ..DeleteTopicsRequestData::default()
    };
    client.call(5, deletion).await;
    let incremental = |epoch| FetchRequestData {
        topics: vec![],
        ..by_id(first, session, epoch)
    };
    let response = client.call(13, incremental(1)).await;
    assert_eq!(
        code(rows(&response)[0].error_code),
        ErrorCode::UnknownTopicOrPartition
    );
    let second = broker.create_topic("a", 1, &[]).await;
    assert_ne!(first, second);
    let response = client.call(13, incremental(2)).await;
    assert_eq!(
        code(rows(&response)[0].error_code),
        ErrorCode::InconsistentTopicId
    );
    assert_eq!(TopicId::from(response.responses[0].topic_id), first);
    let response = client.call(13, by_id(first, 0, -1)).await;
    assert_eq!(code(rows(&response)[0].error_code), ErrorCode::UnknownTopicId);
    // A session by ids cannot be continued by names.
    let by_name = FetchRequestData {
        session_id: session,
        session_epoch: 3,
        ..request(12, "a", &[(0, 0)])
    };
    let response = client.call(12, by_name).await;
    assert_eq!(code(response.error_code), ErrorCode::FetchSessionTopicIdError);
}

#[tokio::test]
async fn a_session_tells_what_changed() {
    let broker = Broker::start();
    broker.create_topic("a", 3, &[]).await;
    let mut client = broker.connect();
    let full = FetchRequestData {
        session_epoch: 0,
        ..request(VERSION, "a", &[(0, 0), (1, 0), (9, 0)])
    };
    let response = client.call(VERSION, full).await;
    assert_eq!(rows(&response).len(), 3);
    let session_id = response.session_id;
    assert_ne!(session_id, 0);
    let next = |session_epoch, partitions: &[(i32, i64)]| FetchRequestData {
        session_id,
        session_epoch,
        topics: if partitions.is_empty() {
            vec![]
        } else {
            request(VERSION, "a", partitions).topics
        },
        ..request(VERSION, "a", &[])
    };
    let told = |response: &FetchResponseData| -> Vec<(i32, usize)> {
        rows(response)
            .iter()
            .map(|row| (row.partition_index, values(row).len()))
            .collect()
    };
    // The error is repeated, the rest is as it was.
    let response = client.call(VERSION, next(1, &[])).await;
    assert_eq!((response.session_id, told(&response)), (session_id, vec![(9, 0)]));
    broker.append("a", 1, &["x"]).await;
    let response = client.call(VERSION, next(2, &[])).await;
    assert_eq!(told(&response), [(1, 1), (9, 0)]);
    // The broker does not move the offset; the client does.
    let response = client.call(VERSION, next(3, &[])).await;
    assert_eq!(told(&response), [(9, 0), (1, 1)]);
    let response = client.call(VERSION, next(4, &[(1, 1)])).await;
    assert_eq!(told(&response), [(9, 0)]);
    let forget = FetchRequestData {
        forgotten_topics_data: vec![ForgottenTopic {
            topic: string("a"),
            partitions: vec![9],
            ..ForgottenTopic::default()
        }],
        ..next(5, &[(2, 0)])
    };
    let response = client.call(VERSION, forget).await;
    assert_eq!(told(&response), [(2, 0)], "a new partition is told once");
    for (request, error, id) in [
        (next(5, &[]), ErrorCode::InvalidFetchSessionEpoch, 0),
        (next(6, &[]), ErrorCode::None, session_id),
        (next(-1, &[(0, 0)]), ErrorCode::None, 0),
        (next(7, &[]), ErrorCode::FetchSessionIdNotFound, 0),
    ] {
        let response = client.call(VERSION, request).await;
        assert_eq!((code(response.error_code), response.session_id), (error, id));
    }
}

/// Old clients of version 4 to 6 know no sessions: the fields are not there, and none is made.
#[tokio::test]
async fn versions_without_sessions_make_none() {
    let broker = Broker::start();
    broker.create_topic("a", 1, &[]).await;
    for version in 4..7 {
        broker
            .connect()
            .call(version, request(version, "a", &[(0, 0)]))
            .await;
    }
    assert_eq!(broker.services.sessions.size(), (0, 0));
}

#[tokio::test]
async fn epochs_are_compared() {
    let broker = Broker::start();
    broker.create_topic("a", 1, &[]).await;
    broker.append("a", 0, &["x"]).await;
    let epoch = broker.services.partition("a", 0).unwrap().leader_epoch().get();
    let fetch = |offset: i64, current_leader_epoch: i32, last_fetched_epoch: i32| {
        let mut request = request(16, "", &[(0, offset)]);
        request.topics[0].topic_id = KafkaUuid::from(broker.services.partition("a", 0).unwrap().topic_id());
        request.topics[0].partitions[0].current_leader_epoch = current_leader_epoch;
        request.topics[0].partitions[0].last_fetched_epoch = last_fetched_epoch;
        request
    };
    for (current, last, expected) in [
        (-1, -1, ErrorCode::None),
        (-5, -5, ErrorCode::None),
        (epoch, epoch, ErrorCode::None),
        (epoch + 1, -1, ErrorCode::UnknownLeaderEpoch),
        (-1, epoch + 1, ErrorCode::OffsetOutOfRange),
    ] {
        let response = broker.connect().call(16, fetch(0, current, last)).await;
        assert_eq!(code(rows(&response)[0].error_code), expected, "{current}, {last}");
        assert!(response.node_endpoints.is_empty());
    }
    // The client has more of the epoch than the log.
    let response = broker.connect().call(16, fetch(5, epoch, epoch)).await;
    let row = rows(&response)[0];
    assert_eq!(
        (
            row.error_code,
            row.diverging_epoch.epoch,
            row.diverging_epoch.end_offset
        ),
        (0, epoch, 1)
    );
    assert!(values(row).is_empty());
    // A claimed follower is nobody's.
    let mut follower = request(VERSION, "a", &[(0, 0)]);
    follower.replica_id = 5;
    let response = broker.connect().call(VERSION, follower).await;
    assert_eq!(
        code(rows(&response)[0].error_code),
        ErrorCode::NotLeaderOrFollower
    );
}

#[tokio::test]
async fn committed_readers_get_a_list_of_aborted_transactions() {
    let broker = Broker::start();
    broker.create_topic("a", 1, &[]).await;
    broker.append("a", 0, &["x"]).await;
    for (isolation_level, expected) in [(0, None), (1, Some(vec![]))] {
        let request = FetchRequestData {
            isolation_level,
            ..request(VERSION, "a", &[(0, 0)])
        };
        let response = broker.connect().call(VERSION, request).await;
        assert_eq!(rows(&response)[0].aborted_transactions, expected);
        assert_eq!(values(rows(&response)[0]), ["x"]);
    }
}

#[tokio::test]
async fn records_that_only_the_disk_has_are_read_off_the_runtime_s_threads() {
    let broker = Broker::start();
    broker.create_topic("a", 2, &[]).await;
    for partition in [0, 1] {
        broker.append("a", partition, &["x"]).await;
    }
    broker.files.drop_caches();
    let response = broker
        .connect()
        .call(VERSION, waiting("a", &[(0, 0), (1, 0)], 20_000))
        .await;
    let found: Vec<_> = rows(&response).into_iter().map(values).collect();
    assert_eq!(found, [["x"], ["x"]]);
}
