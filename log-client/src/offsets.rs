//! Where a partition begins and ends, and which offset belongs to a time: `ListOffsets`, put to the leaders.
//!
//! Shared by `admin` and `consumer`.

use log_core::model::{LeaderEpoch, Offset, TimestampMs, TopicPartition};
use log_core::protocol::messages::ListOffsetsRequestData;
use log_core::protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use log_core::protocol::messages::list_offsets_response::ListOffsetsPartitionResponse;
use log_core::protocol::{ApiKey, KafkaString};
use tokio::time::Instant;

use crate::by_leader::{Answers, Question, by_leader, by_topic};
use crate::cluster::{Cluster, Lane};
use crate::config::IsolationLevel;
use crate::error::{self, Result};
use crate::metadata::BrokerId;

/// Which offset of a partition is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetQuery {
    /// The first that the partition still has.
    Earliest,
    /// The end: what the next record gets, as far as consumers may see.
    Latest,
    /// The first record with this timestamp or a later one.
    Timestamp(TimestampMs),
    /// The earliest of the records with the largest timestamp (KIP-734).
    MaxTimestamp,
    /// The first that the broker has on its own disk (KIP-405).
    EarliestLocal,
    /// The last that was moved to remote storage (KIP-1005).
    LatestTiered,
}

impl OffsetQuery {
    /// The number that stands for it on the wire.
    const fn code(self) -> i64 {
        match self {
            Self::Timestamp(timestamp) => timestamp.get(),
            Self::Latest => -1,
            Self::Earliest => -2,
            Self::MaxTimestamp => -3,
            Self::EarliestLocal => -4,
            Self::LatestTiered => -5,
        }
    }

    /// The lowest version of the request that knows it.
    const fn version_min(self) -> i16 {
        match self {
            Self::Timestamp(_) | Self::Latest | Self::Earliest => 1,
            Self::MaxTimestamp => 7,
            Self::EarliestLocal => 8,
            Self::LatestTiered => 9,
        }
    }
}

/// An offset, as the leader named it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedOffset {
    /// The offset; none when no record matches.
    pub offset: Option<Offset>,
    /// The timestamp of the record there, if the question was about a record.
    pub timestamp: Option<TimestampMs>,
    /// The epoch in which the leader wrote it.
    pub leader_epoch: LeaderEpoch,
}

/// Asks the leaders of the partitions; the answers come in the order of the questions. The end of a partition is where those who
/// read at this level stop.
pub(crate) async fn list_offsets(
    cluster: &Cluster,
    queries: Vec<(TopicPartition, OffsetQuery)>,
    isolation: IsolationLevel,
    deadline: Instant,
) -> Vec<(TopicPartition, Result<ListedOffset>)> {
    by_leader(
        cluster,
        ApiKey::ListOffsets,
        queries,
        deadline,
        |leader, questions| ask(cluster, leader, isolation, questions),
    )
    .await
}

async fn ask(
    cluster: &Cluster,
    leader: BrokerId,
    isolation: IsolationLevel,
    questions: Vec<Question<OffsetQuery>>,
) -> Answers<ListedOffset> {
    let version_min = questions
        .iter()
        .map(|asked| asked.about.version_min())
        .max()
        .unwrap_or(1)
        .max(if isolation == IsolationLevel::ReadCommitted {
            2
        } else {
            1
        });
    let rows = questions
        .into_iter()
        .map(|asked| (asked.partition, (asked.leader_epoch, asked.about)));
    let topics = by_topic(rows)
        .into_iter()
        .map(|(topic, partitions)| ListOffsetsTopic {
            name: KafkaString::from(topic.to_string()),
            partitions: partitions
                .into_iter()
                .map(|(partition_index, (epoch, query))| ListOffsetsPartition {
                    partition_index,
                    current_leader_epoch: epoch.get(),
                    timestamp: query.code(),
                    ..ListOffsetsPartition::default()
                })
                .collect(),
            ..ListOffsetsTopic::default()
        })
        .collect();
    let request = ListOffsetsRequestData {
        replica_id: -1,
        isolation_level: isolation.code(),
        topics,
        timeout_ms: i32::try_from(cluster.config().request_timeout.as_millis()).unwrap_or(i32::MAX),
        ..ListOffsetsRequestData::default()
    };
    let connection = cluster.connection(leader, Lane::General).await?;
    let version = connection.version_from(ApiKey::ListOffsets, version_min)?;
    let response = connection
        .call_version(&request, version, connection.request_timeout())
        .await?;
    let mut answers = Vec::new();
    for topic in response.topics {
        for row in topic.partitions {
            let partition = TopicPartition::new(topic.name.as_str(), row.partition_index);
            let answer = listed(&partition, &row);
            answers.push((partition, answer));
        }
    }
    Ok(answers)
}

fn listed(partition: &TopicPartition, row: &ListOffsetsPartitionResponse) -> Result<ListedOffset> {
    error::check(ApiKey::ListOffsets, row.error_code, &partition.to_string(), None)?;
    Ok(ListedOffset {
        offset: (row.offset >= 0).then_some(Offset::new(row.offset)),
        timestamp: (row.timestamp >= 0).then_some(TimestampMs::new(row.timestamp)),
        leader_epoch: LeaderEpoch::new(row.leader_epoch),
    })
}
