//! What a cluster is made of: brokers, and what lies in their log directories.
//! Questions only: nothing here changes anything.

use log_core::model::TopicPartition;
use log_core::protocol::messages::{DescribeClusterRequestData, DescribeLogDirsRequestData};
use log_core::protocol::{ApiKey, ErrorCode, KafkaString};

use super::Admin;
use crate::error::{self, Error, Result};
use crate::metadata::{Broker, BrokerId, address};

/// A cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterDescription {
    /// Its id.
    pub cluster_id: String,
    /// The broker that takes changes.
    pub controller: Option<BrokerId>,
    /// All brokers, by number.
    pub brokers: Vec<Broker>,
}

/// A log directory of a broker.
#[derive(Debug, Clone)]
pub struct LogDir {
    /// The broker.
    pub broker: BrokerId,
    /// The path, as the broker names it.
    pub path: String,
    /// Why it cannot be used, if it cannot.
    pub error: Option<Error>,
    /// The size of its file system, if the broker says.
    pub total_bytes: Option<u64>,
    /// What is left of it.
    pub usable_bytes: Option<u64>,
    /// The partitions in it.
    pub replicas: Vec<LogDirReplica>,
}

/// A partition in a log directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogDirReplica {
    /// The partition.
    pub partition: TopicPartition,
    /// The bytes of its segments.
    pub bytes: u64,
    /// How far it lags behind the leader.
    pub offset_lag: i64,
}

impl Admin {
    /// Describes the cluster.
    ///
    /// # Errors
    /// When no answer was had.
    pub async fn describe_cluster(&self) -> Result<ClusterDescription> {
        let request = DescribeClusterRequestData {
            endpoint_type: 1,
            ..DescribeClusterRequestData::default()
        };
        self.ask(
            |_| request.clone(),
            |response| {
                let message = response.error_message.as_ref().map(KafkaString::as_str);
                error::check(ApiKey::DescribeCluster, response.error_code, "", message)?;
                let mut brokers: Vec<_> = response
                    .brokers
                    .iter()
                    .map(|row| Broker {
                        id: row.broker_id,
                        address: address(row.host.as_str(), row.port),
                        rack: row.rack.as_ref().map(|rack| rack.as_str().into()),
                    })
                    .collect();
                brokers.sort_unstable_by_key(|broker| broker.id);
                Ok(ClusterDescription {
                    cluster_id: response.cluster_id.to_string(),
                    controller: (response.controller_id >= 0).then_some(response.controller_id),
                    brokers,
                })
            },
        )
        .await
    }

    /// Describes the log directories of every broker.
    ///
    /// # Errors
    /// When one of the brokers does not answer.
    pub async fn describe_log_dirs(&self) -> Result<Vec<LogDir>> {
        self.cluster.refresh(self.cluster.metadata().generation).await?;
        let brokers: Vec<_> = self.cluster.metadata().brokers.keys().copied().collect();
        let mut all = Vec::new();
        for broker in brokers {
            all.extend(self.log_dirs_of(broker).await?);
        }
        Ok(all)
    }

    async fn log_dirs_of(&self, broker: BrokerId) -> Result<Vec<LogDir>> {
        let request = DescribeLogDirsRequestData {
            topics: None,
            ..DescribeLogDirsRequestData::default()
        };
        let response = self.cluster.call(broker, &request).await?;
        error::check(ApiKey::DescribeLogDirs, response.error_code, "", None)?;
        let dirs = response.results.into_iter().map(|row| {
            let path = row.log_dir.to_string();
            let code = ErrorCode::from(row.error_code);
            let mut replicas = Vec::new();
            for topic in &row.topics {
                replicas.extend(topic.partitions.iter().map(|partition| LogDirReplica {
                    partition: TopicPartition::new(topic.name.as_str(), partition.partition_index),
                    bytes: u64::try_from(partition.partition_size).unwrap_or_default(),
                    offset_lag: partition.offset_lag,
                }));
            }
            replicas.sort_unstable_by(|one, other| one.partition.cmp(&other.partition));
            LogDir {
                broker,
                error: code
                    .is_error()
                    .then(|| Error::broker(ApiKey::DescribeLogDirs, code, path.clone(), None)),
                path,
                total_bytes: u64::try_from(row.total_bytes).ok(),
                usable_bytes: u64::try_from(row.usable_bytes).ok(),
                replicas,
            }
        });
        Ok(dirs.collect())
    }
}
