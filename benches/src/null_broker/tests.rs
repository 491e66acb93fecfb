//! The null broker against the codec and the client: every version it offers is read and written as Kafka's messages are.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use log_client::admin::{Admin, Intent, NewTopic};
use log_client::config::ClientConfig;
use log_client::connection::Connection;
use log_core::protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use log_core::protocol::messages::metadata_request::MetadataRequestTopic;
use log_core::protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use log_core::protocol::messages::{FetchRequestData, MetadataRequestData, ProduceRequestData};
use log_core::protocol::{ErrorCode, KafkaString, KafkaUuid};
use log_core::record::compression::Compression;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::{Send, Settings, Space, Store, Sync, fetch, produce, serve};
use crate::source;

const TOPIC: &str = "measured";
const PARTITIONS: i32 = 2;
const LIMIT: Duration = Duration::from_secs(30);

fn settings(directory: &Path) -> Settings {
    Settings {
        directory: directory.to_path_buf(),
        store: Store::Pwrite,
        sync: Sync::None,
        space: Space::Allocated,
        segment_bytes: 64 << 10,
        send: Send::Sendfile,
    }
}

/// Runs `work` against a broker of these settings, which has the topic.
async fn with_broker(change: impl FnOnce(&mut Settings), work: impl AsyncFnOnce(&Connection, KafkaUuid)) {
    let directory = tempfile::tempdir().unwrap();
    let mut settings = settings(directory.path());
    change(&mut settings);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (stop, stopped) = oneshot::channel::<()>();
    let broker = tokio::spawn(serve(listener, settings, async move {
        stopped.await.ok();
    }));
    let config = ClientConfig::new(&address);
    let admin = Admin::new(config.clone()).unwrap();
    let topic = NewTopic::new(TOPIC).with_partitions(PARTITIONS);
    for created in admin.create_topics(&[topic], Intent::Apply).await.unwrap() {
        created.unwrap();
    }
    let connection = Connection::open(&address, &config).await.unwrap();
    let metadata = MetadataRequestData {
        topics: Some(vec![MetadataRequestTopic {
            name: Some(KafkaString::from(TOPIC.to_owned())),
            ..MetadataRequestTopic::default()
        }]),
        ..MetadataRequestData::default()
    };
    let metadata = connection.call(&metadata).await.unwrap();
    assert_eq!(metadata.topics[0].partitions.len(), 2);
    work(&connection, metadata.topics[0].topic_id).await;
    for deleted in admin.delete_topics(&[TOPIC]).await.unwrap() {
        deleted.unwrap();
    }
    stop.send(()).unwrap();
    broker.await.unwrap().unwrap();
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

fn produce_of(id: KafkaUuid, rows: &[(i32, &Bytes)]) -> ProduceRequestData {
    let partition_data = rows.iter().map(|(index, batch)| PartitionProduceData {
        index: *index,
        records: Some((*batch).clone()),
        ..PartitionProduceData::default()
    });
    ProduceRequestData {
        acks: -1,
        timeout_ms: 1000,
        topic_data: vec![TopicProduceData {
            name: KafkaString::from(TOPIC.to_owned()),
            topic_id: id,
            partition_data: partition_data.collect(),
            ..TopicProduceData::default()
        }],
        ..ProduceRequestData::default()
    }
}

fn fetch_of(id: KafkaUuid, rows: &[(i32, i64)], bytes_max: i32) -> FetchRequestData {
    let partitions = rows.iter().map(|(partition, offset)| FetchPartition {
        partition: *partition,
        fetch_offset: *offset,
        partition_max_bytes: bytes_max,
        ..FetchPartition::default()
    });
    FetchRequestData {
        max_wait_ms: 0,
        min_bytes: 1,
        max_bytes: bytes_max,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic: KafkaString::from(TOPIC.to_owned()),
            topic_id: id,
            partitions: partitions.collect(),
            ..FetchTopic::default()
        }],
        ..FetchRequestData::default()
    }
}

/// The batch as the log has it: with its offset.
fn with_offset(batch: &Bytes, offset: i64) -> Vec<u8> {
    let mut batch = batch.to_vec();
    batch[..8].copy_from_slice(&offset.to_be_bytes());
    batch
}

async fn every_version_round_trips(change: impl FnOnce(&mut Settings)) {
    // Two records each; five batches fill a segment, so that segments are rolled meanwhile.
    let batch = source::batch(13 << 10, 6 << 10, Compression::None);
    with_broker(change, async |connection, id| {
        let mut offset = 0;
        for version in produce::VERSIONS.0..=produce::VERSIONS.1 {
            let request = produce_of(id, &[(0, &batch), (1, &batch)]);
            let answer = connection.call_version(&request, version, LIMIT).await.unwrap();
            let rows = &answer.responses[0].partition_responses;
            let got: Vec<_> = rows
                .iter()
                .map(|row| (row.index, row.error_code, row.base_offset))
                .collect();
            assert_eq!(got, [(0, 0, offset), (1, 0, offset)], "version {version}");
            offset += 2;
        }
        for version in fetch::VERSIONS.0..=fetch::VERSIONS.1 {
            let request = fetch_of(id, &[(0, 2), (1, 5)], 1);
            let answer = connection.call_version(&request, version, LIMIT).await.unwrap();
            let rows = &answer.responses[0].partitions;
            let got: Vec<_> = rows
                .iter()
                .map(|row| (row.partition_index, row.error_code, row.high_watermark))
                .collect();
            assert_eq!(got, [(0, 0, offset), (1, 0, offset)], "version {version}");
            // At least one whole batch, but no second partition above the limit.
            assert_eq!(rows[0].records.as_deref(), Some(&*with_offset(&batch, 2)));
            assert_eq!(rows[1].records.as_deref(), Some(&[][..]));
        }
    })
    .await;
}

#[tokio::test]
async fn every_version_round_trips_by_sendfile() {
    every_version_round_trips(|_| ()).await;
}

#[tokio::test]
async fn every_version_round_trips_by_map_zero_filled_and_synced() {
    every_version_round_trips(|settings| {
        settings.send = Send::Map;
        settings.space = Space::ZeroFilled;
        settings.sync = Sync::Fdatasync;
    })
    .await;
}

#[tokio::test]
async fn an_answer_holds_whole_batches_of_one_segment() {
    let batch = source::batch(4 << 10, 1000, Compression::None);
    with_broker(
        |_| (),
        async |connection, id| {
            let count = i64::from(i32::from_be_bytes(batch[57..61].try_into().unwrap()));
            for _ in 0..3 {
                connection.call(&produce_of(id, &[(0, &batch)])).await.unwrap();
            }
            let room = i32::try_from(batch.len() * 2 + 100).unwrap();
            let answer = connection.call(&fetch_of(id, &[(0, 0)], room)).await.unwrap();
            let expected = [with_offset(&batch, 0), with_offset(&batch, count)].concat();
            let rows = &answer.responses[0].partitions;
            assert_eq!(rows[0].records.as_deref(), Some(&*expected));
        },
    )
    .await;
}

#[tokio::test]
async fn a_fetch_at_the_end_waits_for_records() {
    let batch = source::batch(4 << 10, 1000, Compression::None);
    for sync in [Sync::None, Sync::Fdatasync] {
        with_broker(
            |settings| settings.sync = sync,
            async |connection, id| {
                let other = Connection::open(connection.address(), &ClientConfig::new(connection.address()))
                    .await
                    .unwrap();
                let mut request = fetch_of(id, &[(0, 0), (1, 0)], 1 << 20);
                request.max_wait_ms = 60_000;
                let waiting = other.call(&request);
                let work = async {
                    let produced = connection.call(&produce_of(id, &[(1, &batch)])).await;
                    produced.unwrap();
                };
                let (answer, ()) = tokio::join!(waiting, work);
                let rows = answer.unwrap().responses.remove(0).partitions;
                assert_eq!(rows[1].records.as_deref(), Some(&*with_offset(&batch, 0)));
            },
        )
        .await;
    }
}

#[tokio::test]
async fn what_is_wrong_is_refused_by_code() {
    let batch = source::batch(4 << 10, 1000, Compression::None);
    let mut damaged = batch.to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    let damaged = Bytes::from(damaged);
    with_broker(
        |_| (),
        async |connection, id| {
            let request = produce_of(id, &[(0, &damaged), (7, &batch), (1, &batch)]);
            let answer = connection.call(&request).await.unwrap();
            let rows = &answer.responses[0].partition_responses;
            let got: Vec<_> = rows.iter().map(|row| row.error_code).collect();
            let unknown = ErrorCode::UnknownTopicOrPartition.code();
            assert_eq!(got, [ErrorCode::CorruptMessage.code(), unknown, 0]);
            let answer = connection
                .call(&fetch_of(id, &[(0, 9), (7, 0)], 100))
                .await
                .unwrap();
            let rows = &answer.responses[0].partitions;
            let got: Vec<_> = rows.iter().map(|row| row.error_code).collect();
            assert_eq!(got, [ErrorCode::OffsetOutOfRange.code(), unknown]);
        },
    )
    .await;
}

#[tokio::test]
async fn without_a_store_batches_are_acknowledged_and_gone() {
    let batch = source::batch(4 << 10, 4000, Compression::None);
    with_broker(
        |settings| settings.store = Store::None,
        async |connection, id| {
            for offset in 0..3 {
                let answer = connection.call(&produce_of(id, &[(0, &batch)])).await.unwrap();
                assert_eq!(answer.responses[0].partition_responses[0].base_offset, offset);
            }
        },
    )
    .await;
}
