//! Produces the data set, and reads what is left of it: one connection without a client library, requests of one batch.
//! What records should be is the data set's knowledge.

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use log_bench::raw::{Connection, decode, encode};
use log_core::model::TimestampMs;
use log_core::protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use log_core::protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use log_core::protocol::messages::{FetchRequestData, ProduceRequestData};
use log_core::protocol::{ErrorCode, KafkaString};
use log_core::record::batch::batches;

use crate::dataset::Dataset;

/// The topic; it has one partition.
pub(crate) const TOPIC: &str = "cleaned";
/// The last versions that name topics by name.
const PRODUCE_VERSION: i16 = 12;
const FETCH_VERSION: i16 = 12;
/// From the page cache: how records come in is not what is measured.
const ACKS: i16 = 1;
const IN_FLIGHT_MAX: usize = 8;
const FETCH_BYTES: i32 = 8 << 20;
/// More than any batch here unpacks to.
const DECOMPRESSED_BYTES_MAX: usize = 64 << 20;

/// Records, and the bytes of their batches.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Volume {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
}

fn request(batch: Bytes) -> ProduceRequestData {
    ProduceRequestData {
        acks: ACKS,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            name: KafkaString::from_static(TOPIC),
            partition_data: vec![PartitionProduceData {
                index: 0,
                records: Some(batch),
                ..PartitionProduceData::default()
            }],
            ..TopicProduceData::default()
        }],
        ..ProduceRequestData::default()
    }
}

async fn acknowledged(connection: &mut Connection) -> anyhow::Result<()> {
    let answer = decode::<ProduceRequestData>(connection.receive().await?, PRODUCE_VERSION)?;
    let rows = answer
        .responses
        .iter()
        .flat_map(|topic| &topic.partition_responses);
    for row in rows {
        let code = ErrorCode::from(row.error_code);
        ensure!(!code.is_error(), "Produce: {code:?}");
    }
    Ok(())
}

/// Produces all records of the set.
pub(crate) async fn produce(address: &str, dataset: &Dataset) -> anyhow::Result<Volume> {
    let mut connection = Connection::open(address).await?;
    let mut sent = Volume::default();
    let mut in_flight = 0;
    while sent.records < dataset.records {
        let piece = dataset.batch(sent.records, now())?;
        sent.records += piece.records;
        sent.bytes += u64::try_from(piece.batch.len())?;
        if in_flight == IN_FLIGHT_MAX {
            acknowledged(&mut connection).await?;
            in_flight -= 1;
        }
        connection
            .send(&encode(&request(piece.batch), PRODUCE_VERSION)?)
            .await?;
        in_flight += 1;
    }
    for _ in 0..in_flight {
        acknowledged(&mut connection).await?;
    }
    Ok(sent)
}

/// Produces one record behind all others, so much later that it begins a segment: the one before it is complete.
pub(crate) async fn produce_last(address: &str, dataset: &Dataset, later_ms: i64) -> anyhow::Result<()> {
    let batch = dataset.last_batch(now().saturating_plus(later_ms))?;
    let mut connection = Connection::open(address).await?;
    connection
        .send(&encode(&request(batch), PRODUCE_VERSION)?)
        .await?;
    acknowledged(&mut connection).await
}

fn now() -> TimestampMs {
    let since_1970 = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    TimestampMs::new(i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX))
}

/// Reads everything, the last record left out of the count.
///
/// # Errors
/// A record is not what was sent, comes out of order, or a key does not end with its latest value.
pub(crate) async fn check_left(address: &str, dataset: &Dataset) -> anyhow::Result<Volume> {
    let mut connection = Connection::open(address).await?;
    let mut seen: Vec<Option<u64>> = vec![None; usize::try_from(dataset.keys)?];
    let (mut left, mut scratch) = (Volume::default(), Vec::new());
    let end = i64::try_from(dataset.records)? + 1;
    let (mut offset, mut last) = (0, None);
    while offset < end {
        let records = fetch(&mut connection, offset).await?;
        for batch in batches(&records) {
            let batch = batch?;
            batch.verify_checksum()?;
            left.bytes += u64::try_from(batch.bytes().len())?;
            for record in batch.records(&mut scratch, DECOMPRESSED_BYTES_MAX)? {
                let record = record?;
                let Some((key, number)) = dataset.read(&record)? else {
                    continue;
                };
                // Nothing else was produced, so a record's offset is its number.
                let is_in_place = i64::try_from(number)? == record.offset.get() && last < Some(number);
                ensure!(is_in_place, "record {number} stands at offset {}", record.offset);
                last = Some(number);
                *seen.get_mut(usize::try_from(key)?).context("a key")? = last;
                left.records += 1;
            }
            offset = batch.header().next_offset().get();
            scratch.clear();
        }
    }
    let wrong = dataset.latest()?.into_iter().zip(seen).enumerate();
    for (key, (latest, seen)) in wrong {
        ensure!(
            latest == seen,
            "key {key}: the latest is {latest:?}, what is left is {seen:?}"
        );
    }
    Ok(left)
}

async fn fetch(connection: &mut Connection, offset: i64) -> anyhow::Result<Bytes> {
    let request = FetchRequestData {
        replica_id: -1,
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: FETCH_BYTES,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic: KafkaString::from_static(TOPIC),
            partitions: vec![FetchPartition {
                partition: 0,
                current_leader_epoch: -1,
                fetch_offset: offset,
                last_fetched_epoch: -1,
                log_start_offset: -1,
                partition_max_bytes: FETCH_BYTES,
                ..FetchPartition::default()
            }],
            ..FetchTopic::default()
        }],
        ..FetchRequestData::default()
    };
    let mut answer = connection.call(&request, FETCH_VERSION).await?;
    let mut rows = answer
        .responses
        .iter_mut()
        .flat_map(|topic| &mut topic.partitions);
    let row = rows.next().context("a row for the partition")?;
    let code = ErrorCode::from(row.error_code);
    ensure!(!code.is_error(), "Fetch at {offset}: {code:?}");
    let records = row.records.take().unwrap_or_default();
    ensure!(!records.is_empty(), "nothing is left from offset {offset} on");
    Ok(records)
}
