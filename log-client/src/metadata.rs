//! The client's picture of the cluster: brokers, topics, leaders.
//!
//! A snapshot, replaced as a whole. Merging a response into the last snapshot is here, and pure; asking for
//! one is the business of `cluster`.
//!
//! Invariant: within one life of a topic a partition's leader epoch never goes back: an answer from a broker
//! that lags behind does not undo a newer one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use log_core::model::{LeaderEpoch, TopicId, TopicPartition};
use log_core::protocol::messages::MetadataResponseData;
use log_core::protocol::messages::metadata_response::{MetadataResponsePartition, MetadataResponseTopic};
use log_core::protocol::{ApiKey, ErrorCode};
use tokio::time::Instant;

use crate::error::{Error, Result};

/// A broker's number in the cluster.
pub type BrokerId = i32;

/// The cluster as the last metadata response showed it.
#[derive(Debug, Clone)]
pub struct ClusterMetadata {
    /// The cluster's id, if it says.
    pub cluster_id: Option<Arc<str>>,
    /// The broker that takes changes to topics; in a `KRaft` cluster any broker does.
    pub controller: Option<BrokerId>,
    /// All brokers.
    pub brokers: BTreeMap<BrokerId, Broker>,
    /// The topics that were asked for and exist.
    pub topics: HashMap<Arc<str>, Arc<TopicMetadata>>,
    /// The topics that were asked for and cannot be had, with the reason.
    pub refused: HashMap<Arc<str>, ErrorCode>,
    /// When it was fetched.
    pub fetched_at: Option<Instant>,
    /// Counts the responses, from 1; 0 is the empty picture.
    pub generation: u64,
}

/// One broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// Its number.
    pub id: BrokerId,
    /// `host:port`, as it wants to be reached.
    pub address: Arc<str>,
    /// Where it stands, if it says.
    pub rack: Option<Arc<str>>,
}

/// One topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicMetadata {
    /// Its name.
    pub name: Arc<str>,
    /// The id of this life of the topic; [`TopicId::ZERO`] from brokers that know none.
    pub id: TopicId,
    /// Whether it belongs to the broker's own workings.
    pub is_internal: bool,
    /// Its partitions, by index from 0.
    pub partitions: Vec<PartitionMetadata>,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionMetadata {
    /// Its index.
    pub partition: i32,
    /// The broker that takes its records.
    pub leader: Option<BrokerId>,
    /// How often the leadership changed.
    pub leader_epoch: LeaderEpoch,
    /// The brokers that hold it.
    pub replicas: Vec<BrokerId>,
    /// Those of them that are in sync.
    pub in_sync: Vec<BrokerId>,
    /// Those of them that are away.
    pub offline: Vec<BrokerId>,
}

impl TopicMetadata {
    /// One of its partitions.
    ///
    /// # Errors
    /// [`Error::NoSuchPartition`].
    pub fn partition(&self, partition: i32) -> Result<&PartitionMetadata> {
        usize::try_from(partition)
            .ok()
            .and_then(|index| self.partitions.get(index))
            .ok_or_else(|| Error::NoSuchPartition {
                topic: Arc::clone(&self.name),
                partition,
                count: self.partitions.len(),
            })
    }
}

impl ClusterMetadata {
    pub(crate) fn empty() -> Self {
        Self {
            cluster_id: None,
            controller: None,
            brokers: BTreeMap::new(),
            topics: HashMap::new(),
            refused: HashMap::new(),
            fetched_at: None,
            generation: 0,
        }
    }

    /// A topic.
    ///
    /// # Errors
    /// What the broker said about it, or `UNKNOWN_TOPIC_OR_PARTITION` when it was never asked for.
    pub fn topic(&self, name: &str) -> Result<&Arc<TopicMetadata>> {
        self.topics.get(name).ok_or_else(|| {
            let code = self.refused.get(name).copied();
            let code = code.unwrap_or(ErrorCode::UnknownTopicOrPartition);
            Error::broker(ApiKey::Metadata, code, name, None)
        })
    }

    /// Whether a broker has said anything about the topic.
    #[must_use]
    pub fn has_answer_about(&self, topic: &str) -> bool {
        self.topics.contains_key(topic) || self.refused.contains_key(topic)
    }

    /// The leader of a partition and its epoch.
    ///
    /// # Errors
    /// As [`ClusterMetadata::topic`]; [`Error::NoSuchPartition`] and [`Error::NoLeader`].
    pub fn leader(&self, partition: &TopicPartition) -> Result<(BrokerId, LeaderEpoch)> {
        let found = self.topic(&partition.topic)?.partition(partition.partition)?;
        match found.leader {
            Some(leader) => Ok((leader, found.leader_epoch)),
            None => Err(Error::NoLeader {
                partition: partition.clone(),
            }),
        }
    }

    /// The name of the topic with this id.
    #[must_use]
    pub fn name_of(&self, id: TopicId) -> Option<&Arc<str>> {
        self.topics
            .values()
            .find(|topic| topic.id == id && id != TopicId::ZERO)
            .map(|topic| &topic.name)
    }

    /// The picture after `response`. Topics it does not mention stay as they were.
    #[must_use]
    pub(crate) fn merged(&self, response: &MetadataResponseData, now: Instant) -> Self {
        let mut next = self.clone();
        next.generation += 1;
        next.fetched_at = Some(now);
        next.cluster_id = response.cluster_id.as_ref().map(|id| id.as_str().into());
        next.controller = (response.controller_id >= 0).then_some(response.controller_id);
        next.brokers = response
            .brokers
            .iter()
            .map(|broker| {
                let described = Broker {
                    id: broker.node_id,
                    address: address(broker.host.as_str(), broker.port),
                    rack: broker.rack.as_ref().map(|rack| rack.as_str().into()),
                };
                (broker.node_id, described)
            })
            .collect();
        for row in &response.topics {
            let Some(name) = row.name.as_ref() else { continue };
            let name: Arc<str> = name.as_str().into();
            let code = ErrorCode::from(row.error_code);
            if code.is_error() {
                next.topics.remove(&name);
                next.refused.insert(name, code);
            } else {
                next.refused.remove(&name);
                let topic = merged_topic(&name, row, self.topics.get(&name));
                next.topics.insert(name, Arc::new(topic));
            }
        }
        next
    }
}

/// `host:port`, with the brackets that a port behind an IPv6 address needs.
pub(crate) fn address(host: &str, port: i32) -> Arc<str> {
    if host.contains(':') {
        format!("[{host}]:{port}").into()
    } else {
        format!("{host}:{port}").into()
    }
}

fn merged_topic(
    name: &Arc<str>,
    row: &MetadataResponseTopic,
    before: Option<&Arc<TopicMetadata>>,
) -> TopicMetadata {
    let id = TopicId::from(row.topic_id);
    let before = before.filter(|before| before.id == id);
    let mut partitions: Vec<_> = row.partitions.iter().map(partition).collect();
    partitions.sort_unstable_by_key(|partition| partition.partition);
    // Indexes without gaps are what makes the place in the list the partition's number.
    let contiguous = partitions
        .iter()
        .zip(0..)
        .take_while(|(partition, index)| partition.partition == *index)
        .count();
    partitions.truncate(contiguous);
    for (new, old) in partitions
        .iter_mut()
        .zip(before.iter().flat_map(|topic| &topic.partitions))
    {
        if new.leader_epoch < old.leader_epoch && new.leader_epoch != LeaderEpoch::NONE {
            new.clone_from(old);
        }
    }
    TopicMetadata {
        name: Arc::clone(name),
        id,
        is_internal: row.is_internal,
        partitions,
    }
}

fn partition(row: &MetadataResponsePartition) -> PartitionMetadata {
    PartitionMetadata {
        partition: row.partition_index,
        leader: (row.leader_id >= 0).then_some(row.leader_id),
        leader_epoch: LeaderEpoch::new(row.leader_epoch),
        replicas: row.replica_nodes.clone(),
        in_sync: row.isr_nodes.clone(),
        offline: row.offline_replicas.clone(),
    }
}

#[cfg(test)]
mod tests {
    use log_core::protocol::KafkaString;
    use log_core::protocol::messages::metadata_response::MetadataResponseBroker;

    use super::*;

    /// A response with one topic `t` whose partitions have these leaders and epochs.
    fn response(id: u8, code: ErrorCode, partitions: &[(i32, i32, i32)]) -> MetadataResponseData {
        MetadataResponseData {
            brokers: vec![MetadataResponseBroker {
                node_id: 1,
                host: KafkaString::from_static("::1"),
                port: 9092,
                ..MetadataResponseBroker::default()
            }],
            topics: vec![MetadataResponseTopic {
                error_code: code.code(),
                name: Some(KafkaString::from_static("t")),
                topic_id: TopicId::from_bytes([id; 16]).into(),
                partitions: partitions
                    .iter()
                    .map(|(partition, leader, epoch)| MetadataResponsePartition {
                        partition_index: *partition,
                        leader_id: *leader,
                        leader_epoch: *epoch,
                        ..MetadataResponsePartition::default()
                    })
                    .collect(),
                ..MetadataResponseTopic::default()
            }],
            ..MetadataResponseData::default()
        }
    }

    fn after(responses: &[MetadataResponseData]) -> ClusterMetadata {
        responses
            .iter()
            .fold(ClusterMetadata::empty(), |metadata, response| {
                metadata.merged(response, Instant::now())
            })
    }

    fn leader(metadata: &ClusterMetadata, partition: i32) -> Result<(i32, i32)> {
        let (broker, epoch) = metadata.leader(&TopicPartition::new("t", partition))?;
        Ok((broker, epoch.get()))
    }

    #[test]
    fn partitions_stand_by_index_and_gaps_end_them() {
        let metadata = after(&[response(1, ErrorCode::None, &[(1, 7, 0), (0, 6, 0), (3, 8, 0)])]);
        assert_eq!(leader(&metadata, 0).unwrap(), (6, 0));
        assert_eq!(leader(&metadata, 1).unwrap(), (7, 0));
        assert!(matches!(
            leader(&metadata, 3),
            Err(Error::NoSuchPartition { count: 2, .. })
        ));
        assert!(matches!(
            leader(&metadata, -1),
            Err(Error::NoSuchPartition { .. })
        ));
        assert_eq!(&*metadata.brokers[&1].address, "[::1]:9092");
    }

    #[test]
    fn a_broker_that_lags_does_not_bring_back_an_old_leader() {
        let newer = response(1, ErrorCode::None, &[(0, 2, 5)]);
        let older = response(1, ErrorCode::None, &[(0, 1, 4)]);
        let metadata = after(&[newer.clone(), older]);
        assert_eq!(leader(&metadata, 0).unwrap(), (2, 5));

        let recreated = response(2, ErrorCode::None, &[(0, 1, 0)]);
        assert_eq!(leader(&after(&[newer, recreated]), 0).unwrap(), (1, 0));
    }

    #[test]
    fn a_topic_that_is_gone_is_forgotten_with_its_reason() {
        let there = response(1, ErrorCode::None, &[(0, -1, 0)]);
        let gone = response(0, ErrorCode::TopicAuthorizationFailed, &[]);
        assert!(matches!(
            leader(&after(std::slice::from_ref(&there)), 0),
            Err(Error::NoLeader { .. })
        ));
        let error = leader(&after(&[there, gone]), 0).unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::TopicAuthorizationFailed));
        let error = leader(&after(&[]), 0).unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::UnknownTopicOrPartition));
    }
}
