//! One fetch: the request for the partitions of one broker, and what its response means for each of them.
//!
//! The response is checked where it arrives, in the task that fetched it, so that checksums do not cost
//! the reader's time.

use std::collections::BTreeMap;
use std::sync::Arc;

use log_core::model::{LeaderEpoch, Offset, ProducerId, TopicId, TopicPartition};
use log_core::protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use log_core::protocol::messages::fetch_response::PartitionData;
use log_core::protocol::messages::{FetchRequestData, FetchResponseData};
use log_core::protocol::{ApiKey, ErrorCode, KafkaString};

use super::aborted::AbortedTransactions;
use super::records::{PartitionRecords, Reading, Watermarks};
use crate::cluster::{Cluster, Lane};
use crate::config::{ConsumerConfig, IsolationLevel};
use crate::error::{self, Error, Result};
use crate::metadata::BrokerId;

/// From this version on requests name topics by id (KIP-516).
const VERSION_WITH_TOPIC_IDS: i16 = 13;

/// A fetch without a session (KIP-227): every request says all it wants.
const NO_SESSION: i32 = 0;
const NO_SESSION_EPOCH: i32 = -1;

/// What is wanted of one partition.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub partition: TopicPartition,
    pub topic_id: TopicId,
    pub offset: Offset,
    pub leader_epoch: LeaderEpoch,
    /// The epoch of the last batch that was read, so that the broker can tell whether that batch still is.
    pub last_epoch: LeaderEpoch,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub watermarks: Watermarks,
    pub records: Option<PartitionRecords>,
    /// The epoch of the last batch in `records`.
    pub last_epoch: Option<LeaderEpoch>,
}

/// Fetches from one broker; one result per partition that was wanted.
pub(crate) async fn fetch(
    cluster: Cluster,
    broker: BrokerId,
    config: Arc<ConsumerConfig>,
    wanted: Vec<Wanted>,
) -> Vec<(TopicPartition, Result<Fetched>)> {
    let response = exchange(&cluster, broker, &config, &wanted).await;
    let response = response.and_then(|response| {
        error::check(ApiKey::Fetch, response.error_code, "", None)?;
        Ok(response)
    });
    match response {
        Ok(response) => read(&config, wanted, response),
        Err(error) => wanted
            .into_iter()
            .map(|wanted| (wanted.partition, Err(error.clone())))
            .collect(),
    }
}

async fn exchange(
    cluster: &Cluster,
    broker: BrokerId,
    config: &ConsumerConfig,
    wanted: &[Wanted],
) -> Result<FetchResponseData> {
    let connection = cluster.connection(broker, Lane::Fetch).await?;
    let mut version = connection.version(ApiKey::Fetch)?;
    if wanted.iter().any(|wanted| wanted.topic_id == TopicId::ZERO) {
        version = version.min(VERSION_WITH_TOPIC_IDS - 1);
    }
    let timeout = config.fetch_wait_max + connection.request_timeout();
    connection
        .call_version(&request(config, wanted), version, timeout)
        .await
}

fn request(config: &ConsumerConfig, wanted: &[Wanted]) -> FetchRequestData {
    // Partitions stay in the order they are wanted: the broker fills the response from the front.
    let mut topics: Vec<FetchTopic> = Vec::new();
    for wanted in wanted {
        let row = FetchPartition {
            partition: wanted.partition.partition,
            current_leader_epoch: wanted.leader_epoch.get(),
            fetch_offset: wanted.offset.get(),
            last_fetched_epoch: wanted.last_epoch.get(),
            log_start_offset: -1,
            partition_max_bytes: config.partition_bytes_max,
            ..FetchPartition::default()
        };
        let id = wanted.topic_id.into();
        match topics.last_mut() {
            Some(last) if last.topic.as_str() == &*wanted.partition.topic => last.partitions.push(row),
            _ => topics.push(FetchTopic {
                topic: KafkaString::from(wanted.partition.topic.to_string()),
                topic_id: id,
                partitions: vec![row],
                ..FetchTopic::default()
            }),
        }
    }
    FetchRequestData {
        replica_id: -1,
        max_wait_ms: i32::try_from(config.fetch_wait_max.as_millis()).unwrap_or(i32::MAX),
        min_bytes: config.fetch_bytes_min,
        max_bytes: config.fetch_bytes_max,
        isolation_level: config.isolation.code(),
        session_id: NO_SESSION,
        session_epoch: NO_SESSION_EPOCH,
        topics,
        ..FetchRequestData::default()
    }
}

fn read(
    config: &ConsumerConfig,
    wanted: Vec<Wanted>,
    response: FetchResponseData,
) -> Vec<(TopicPartition, Result<Fetched>)> {
    let mut rows: BTreeMap<(TopicId, String, i32), PartitionData> = BTreeMap::new();
    for topic in response.responses {
        let id = TopicId::from(topic.topic_id);
        let name = topic.topic.to_string();
        for row in topic.partitions {
            rows.insert((id, name.clone(), row.partition_index), row);
        }
    }
    wanted
        .into_iter()
        .map(|wanted| {
            let index = wanted.partition.partition;
            // One of the two names is empty, depending on the version.
            let row = rows
                .remove(&(wanted.topic_id, String::new(), index))
                .or_else(|| rows.remove(&(TopicId::ZERO, wanted.partition.topic.to_string(), index)))
                .or_else(|| rows.remove(&(wanted.topic_id, wanted.partition.topic.to_string(), index)));
            let result = match row {
                Some(row) => fetched(config, &wanted, row),
                None => Err(missing(&wanted.partition)),
            };
            (wanted.partition, result)
        })
        .collect()
}

fn fetched(config: &ConsumerConfig, wanted: &Wanted, row: PartitionData) -> Result<Fetched> {
    let partition = &wanted.partition;
    if ErrorCode::from(row.error_code) == ErrorCode::OffsetOutOfRange {
        return Err(Error::OffsetOutOfRange {
            partition: partition.clone(),
            position: wanted.offset,
        });
    }
    error::check(ApiKey::Fetch, row.error_code, &partition.to_string(), None)?;
    if row.diverging_epoch.end_offset >= 0 {
        return Err(Error::LogTruncated {
            partition: partition.clone(),
            position: wanted.offset,
            end: Offset::new(row.diverging_epoch.end_offset),
        });
    }
    let end = match config.isolation {
        IsolationLevel::ReadUncommitted => row.high_watermark,
        IsolationLevel::ReadCommitted => row.last_stable_offset,
    };
    let watermarks = Watermarks {
        high_watermark: Offset::new(end),
        log_start: Offset::new(row.log_start_offset),
    };
    let reading = Reading {
        check_crcs: config.check_crcs,
        decompressed_bytes_max: config.decompressed_bytes_max,
    };
    let aborted = match config.isolation {
        IsolationLevel::ReadUncommitted => None,
        IsolationLevel::ReadCommitted => row.aborted_transactions,
    };
    let aborted = aborted.unwrap_or_default().into_iter();
    let aborted = AbortedTransactions::new(aborted.map(|transaction| {
        let first = Offset::new(transaction.first_offset);
        (first, ProducerId::new(transaction.producer_id))
    }));
    let bytes = row.records.unwrap_or_default();
    let from = wanted.offset;
    let records = PartitionRecords::take(partition.clone(), from, watermarks, aborted, &bytes, reading)?;
    let last_epoch = records.as_ref().and_then(PartitionRecords::last_epoch);
    Ok(Fetched {
        watermarks,
        records,
        last_epoch,
    })
}

fn missing(partition: &TopicPartition) -> Error {
    Error::broker(
        ApiKey::Fetch,
        ErrorCode::NetworkException,
        partition.to_string(),
        Some("the response does not mention it"),
    )
}
