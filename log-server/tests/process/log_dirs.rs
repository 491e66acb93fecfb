//! Two data directories: partitions are spread over both and survive a kill; one that is gone, while the server runs or at its
//! start, costs its own partitions alone; when it is back, so are all records.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use bytes::Bytes;
use log_client::connection::Connection;
use log_core::model::TimestampMs;
use log_core::protocol::ErrorCode;
use log_core::protocol::messages::{DescribeLogDirsRequestData, MetadataRequestData};
use log_core::record::batch::batches;
use log_core::record::batch_builder::{BatchBuilder, BatchOptions};

use crate::server::Place;
use crate::wire::{self, PATIENCE};

const TOPIC: &str = "spread";
const PARTITIONS: i32 = 4;

/// What was acknowledged, by partition.
#[derive(Default)]
struct Written(BTreeMap<i32, Vec<String>>);

impl Written {
    async fn write(&mut self, connection: &Connection, partition: i32) -> Result<(), ErrorCode> {
        let values = self.0.entry(partition).or_default();
        let value = format!("{partition}: {}", values.len());
        let request = wire::produce_request(TOPIC, partition, batch(&value));
        let response = connection
            .call_version(&request, wire::PRODUCE_VERSION, PATIENCE)
            .await
            .unwrap();
        wire::produced(&response)?;
        values.push(value);
        Ok(())
    }

    async fn check(&self, connection: &Connection, partition: i32) {
        let fetched = wire::fetch(connection, TOPIC, partition, 0).await.unwrap();
        assert_eq!(
            values(&fetched.unwrap().records),
            self.0[&partition],
            "{partition}"
        );
    }

    /// Each partition can be read and written, if its directory serves, and neither otherwise.
    async fn check_all(&mut self, connection: &Connection, serves: impl Fn(i32) -> bool) {
        for partition in 0..PARTITIONS {
            let expected = if serves(partition) {
                self.check(connection, partition).await;
                Ok(())
            } else {
                let fetched = wire::fetch(connection, TOPIC, partition, 0).await.unwrap();
                assert_eq!(
                    fetched.map(drop),
                    Err(ErrorCode::KafkaStorageError),
                    "{partition}"
                );
                Err(ErrorCode::KafkaStorageError)
            };
            assert_eq!(self.write(connection, partition).await, expected, "{partition}");
        }
        assert_eq!(
            leaders(connection).await,
            (0..PARTITIONS).map(serves).collect::<Vec<_>>()
        );
    }
}

fn batch(value: &str) -> Bytes {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    let time = TimestampMs::new(1_700_000_000_000);
    builder.append(time, None, Some(value.as_bytes()), &[]).unwrap();
    builder.build()
}

fn values(records: &Bytes) -> Vec<String> {
    let mut values = Vec::new();
    let mut scratch = Vec::new();
    for batch in batches(records) {
        for record in batch.unwrap().records(&mut scratch, 1 << 20).unwrap() {
            let value = record.unwrap().value.unwrap().to_vec();
            values.push(String::from_utf8(value).unwrap());
        }
    }
    values
}

/// Which partitions have a leader; those without are told with an error.
async fn leaders(connection: &Connection) -> Vec<bool> {
    let request = MetadataRequestData {
        topics: None,
        ..MetadataRequestData::default()
    };
    let response = connection.call(&request).await.unwrap();
    let of_topic = |name: &str| {
        (response.topics.iter()).find(|topic| topic.name.as_ref().is_some_and(|own| own.as_str() == name))
    };
    let mut partitions = of_topic(TOPIC).unwrap().partitions.clone();
    partitions.sort_by_key(|partition| partition.partition_index);
    let leads = partitions.iter().map(|partition| {
        assert_eq!(
            partition.leader_id == -1,
            partition.error_code != 0,
            "{partition:?}"
        );
        partition.leader_id != -1
    });
    leads.collect()
}

/// The error code of each directory, by its path.
async fn directories(connection: &Connection) -> BTreeMap<PathBuf, i16> {
    let request = DescribeLogDirsRequestData {
        topics: None,
        ..DescribeLogDirsRequestData::default()
    };
    let response = connection.call(&request).await.unwrap();
    let results = response.results.iter();
    results
        .map(|result| (result.log_dir.as_str().into(), result.error_code))
        .collect()
}

fn has(directory: &Path, topic: &str, partition: i32) -> bool {
    directory.join(format!("{topic}-{partition}")).is_dir()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_fails_alone_and_comes_back_with_all_records() {
    let directory = tempfile::tempdir().unwrap();
    let [first, second, aside] = ["first", "second", "aside"].map(|name| directory.path().join(name));
    let place = Place::new(directory.path())
        .with_data_dirs(&[first.clone(), second.clone()])
        .with("log.flush.offset.checkpoint.interval.ms", "100");
    let storage_error = ErrorCode::KafkaStorageError.code();

    let server = place.start();
    let connection = wire::connect(server.kafka()).await.unwrap();
    wire::create_topic(&connection, TOPIC, PARTITIONS, &[])
        .await
        .unwrap();
    let in_first: Vec<bool> = (0..PARTITIONS).map(|index| has(&first, TOPIC, index)).collect();
    let is_in_first = |index: i32| in_first[usize::try_from(index).unwrap()];
    assert_eq!((0..PARTITIONS).filter(|index| is_in_first(*index)).count(), 2);
    let mut written = Written::default();
    for partition in 0..PARTITIONS {
        assert_ne!(has(&second, TOPIC, partition), is_in_first(partition));
        written.write(&connection, partition).await.unwrap();
    }
    server.kill();
    let server = place.start();
    let connection = wire::connect(server.kafka()).await.unwrap();
    written.check_all(&connection, |_| true).await;
    let expected = BTreeMap::from([(first.clone(), 0), (second.clone(), 0)]);
    assert_eq!(directories(&connection).await, expected);

    // Its disk goes while the server runs: the next checkpoint finds out.
    std::fs::rename(&second, &aside).unwrap();
    let expected = BTreeMap::from([(first.clone(), 0), (second.clone(), storage_error)]);
    let began = Instant::now();
    while directories(&connection).await != expected || leaders(&connection).await != in_first {
        assert!(began.elapsed() < PATIENCE, "{}", place.log_tail());
    }
    written.check_all(&connection, is_in_first).await;
    wire::create_topic(&connection, "new", 2, &[]).await.unwrap();
    assert!(has(&first, "new", 0) && has(&first, "new", 1) && !second.exists());
    assert!(server.stop().success(), "{}", place.log_tail());

    // At a start, something else stands in its place.
    std::fs::write(&second, "no directory").unwrap();
    let server = place.start();
    let connection = wire::connect(server.kafka()).await.unwrap();
    assert_eq!(directories(&connection).await, expected);
    written.check_all(&connection, is_in_first).await;
    server.kill();

    std::fs::remove_file(&second).unwrap();
    std::fs::rename(&aside, &second).unwrap();
    let server = place.start();
    let connection = wire::connect(server.kafka()).await.unwrap();
    written.check_all(&connection, |_| true).await;
    assert!(server.stop().success(), "{}", place.log_tail());

    for (data_dir, says) in [
        (&first, "2 partitions are not here"),
        (&second, "Everything is sound"),
    ] {
        let verified = Command::new(env!("CARGO_BIN_EXE_stratalog"))
            .args(["log", "verify"])
            .arg(data_dir)
            .output()
            .unwrap();
        let report = String::from_utf8(verified.stdout).unwrap();
        assert!(verified.status.success() && report.contains(says), "{report}");
    }
}
