//! A group's offsets at its coordinator: `OffsetCommit`, `OffsetFetch`, `OffsetDelete`.
//!
//! Shared by `group`, whose members speak with their epoch, and `admin`, which speaks as nobody.
//! Topics go by name: the versions with topic ids (from 10 on) would only add a way to fail.

use std::collections::BTreeMap;

use log_core::model::{LeaderEpoch, Offset, TopicPartition};
use log_core::protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use log_core::protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use log_core::protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use log_core::protocol::messages::offset_fetch_response::{
    OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
};
use log_core::protocol::messages::{
    OffsetCommitRequestData, OffsetCommitResponseData, OffsetDeleteRequestData, OffsetFetchRequestData,
    OffsetFetchResponseData,
};
use log_core::protocol::{ApiKey, ErrorCode, KafkaString};
use tokio::time::Instant;

use super::Coordinator;
use crate::by_leader::by_topic;
use crate::connection::Connection;
use crate::error::{self, Error, Result};

/// The last versions that name topics.
const VERSION_WITH_NAMES: i16 = 9;

/// From this version on one `OffsetFetch` asks about several groups (KIP-709).
const VERSION_WITH_GROUPS: i16 = 8;

/// From this version on all partitions of a group can be asked for.
const VERSION_WITH_ALL: i16 = 2;

/// An offset that a group has committed for a partition: where it goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next offset to be read.
    pub offset: Offset,
    /// The leader epoch of the last record that was read; none when it is not known.
    pub leader_epoch: LeaderEpoch,
    /// What the committer added, for people to read.
    pub metadata: String,
}

impl CommittedOffset {
    /// An offset, without epoch or words.
    #[must_use]
    pub fn new(offset: Offset) -> Self {
        Self {
            offset,
            leader_epoch: LeaderEpoch::NONE,
            metadata: String::new(),
        }
    }
}

/// As whom offsets are committed or fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommitIdentity {
    pub member_id: String,
    /// The generation of a classic group or the epoch of a member of a consumer group.
    pub epoch: i32,
    pub instance_id: Option<String>,
}

impl CommitIdentity {
    /// Not a member: what tools and consumers without a group's help are.
    pub(crate) fn nobody() -> Self {
        Self {
            member_id: String::new(),
            epoch: -1,
            instance_id: None,
        }
    }
}

/// One result for each partition.
pub(crate) type Rows<T> = Vec<(TopicPartition, Result<T>)>;

impl Coordinator {
    /// Commits offsets in one attempt; one result each.
    pub(crate) async fn commit_once(
        &self,
        identity: &CommitIdentity,
        offsets: &BTreeMap<TopicPartition, CommittedOffset>,
        timeout: std::time::Duration,
    ) -> Result<Rows<()>> {
        let result = self
            .ask_once(
                timeout,
                |connection| {
                    let version = connection.version(ApiKey::OffsetCommit)?;
                    let request = commit_request(self.group_id(), identity, offsets);
                    Ok((request, version.min(VERSION_WITH_NAMES)))
                },
                |response| Ok(committed(&response)),
            )
            .await;
        if let Err(error) = &result {
            self.note(error);
        }
        if let Ok(rows) = &result {
            rows.iter()
                .filter_map(|(_, row)| row.as_ref().err())
                .for_each(|error| self.note(error));
        }
        result
    }

    /// Commits offsets, again and again while an error is one that passes; one result each.
    pub(crate) async fn commit(
        &self,
        identity: &CommitIdentity,
        offsets: &BTreeMap<TopicPartition, CommittedOffset>,
        deadline: Instant,
    ) -> Result<Rows<()>> {
        self.ask(
            deadline,
            |connection| {
                let version = connection.version(ApiKey::OffsetCommit)?;
                let request = commit_request(self.group_id(), identity, offsets);
                Ok((request, version.min(VERSION_WITH_NAMES)))
            },
            |response| answered(committed(&response)),
        )
        .await
    }

    /// The committed offsets of the partitions, or of all that have one; none where there is none. Asked as
    /// whoever `identity` says at each attempt.
    pub(crate) async fn fetch_offsets(
        &self,
        identity: impl Fn() -> CommitIdentity,
        partitions: Option<&[TopicPartition]>,
        deadline: Instant,
    ) -> Result<Rows<Option<CommittedOffset>>> {
        self.ask(
            deadline,
            |connection| self.fetch_request(connection, &identity(), partitions),
            |response| answered(self.fetched(&response)?),
        )
        .await
    }

    fn fetch_request(
        &self,
        connection: &Connection,
        identity: &CommitIdentity,
        partitions: Option<&[TopicPartition]>,
    ) -> Result<(OffsetFetchRequestData, i16)> {
        let lowest = if partitions.is_some() { 1 } else { VERSION_WITH_ALL };
        let version = connection.version_from(ApiKey::OffsetFetch, lowest)?;
        let version = version.min(VERSION_WITH_NAMES);
        let topics = partitions.map(|partitions| {
            let rows = partitions.iter().map(|partition| (partition.clone(), ()));
            by_topic(rows)
                .into_iter()
                .map(|(topic, rows)| {
                    let indexes = rows.into_iter().map(|(index, ())| index).collect::<Vec<_>>();
                    (KafkaString::from(topic.to_string()), indexes)
                })
                .collect::<Vec<_>>()
        });
        let mut request = OffsetFetchRequestData {
            // Offsets of a transaction under way are waited for.
            require_stable: 7 <= version,
            ..OffsetFetchRequestData::default()
        };
        if VERSION_WITH_GROUPS <= version {
            let is_member = VERSION_WITH_NAMES <= version && 0 <= identity.epoch;
            request.groups = vec![OffsetFetchRequestGroup {
                group_id: self.group_id(),
                member_id: is_member.then(|| KafkaString::from(identity.member_id.clone())),
                member_epoch: if is_member { identity.epoch } else { -1 },
                topics: topics.map(|topics| {
                    topics
                        .into_iter()
                        .map(|(name, partition_indexes)| OffsetFetchRequestTopics {
                            name,
                            partition_indexes,
                            ..OffsetFetchRequestTopics::default()
                        })
                        .collect()
                }),
                ..OffsetFetchRequestGroup::default()
            }];
        } else {
            request.group_id = self.group_id();
            request.topics = topics.map(|topics| {
                topics
                    .into_iter()
                    .map(|(name, partition_indexes)| OffsetFetchRequestTopic {
                        name,
                        partition_indexes,
                        ..OffsetFetchRequestTopic::default()
                    })
                    .collect()
            });
        }
        Ok((request, version))
    }

    fn fetched(&self, response: &OffsetFetchResponseData) -> Result<Rows<Option<CommittedOffset>>> {
        let api = ApiKey::OffsetFetch;
        error::check(api, response.error_code, self.group(), None)?;
        let mut rows = Vec::new();
        for topic in &response.topics {
            for row in &topic.partitions {
                rows.push(fetched_row(topic.name.as_str(), &RowOfBoth::from(row)));
            }
        }
        for group in &response.groups {
            error::check(api, group.error_code, self.group(), None)?;
            for topic in &group.topics {
                for row in &topic.partitions {
                    rows.push(fetched_row(topic.name.as_str(), &RowOfBoth::from(row)));
                }
            }
        }
        Ok(rows)
    }

    /// Deletes committed offsets; one result each.
    pub(crate) async fn delete_offsets(
        &self,
        partitions: &[TopicPartition],
        deadline: Instant,
    ) -> Result<Rows<()>> {
        let rows = partitions.iter().map(|partition| (partition.clone(), ()));
        let topics: Vec<_> = by_topic(rows)
            .into_iter()
            .map(|(topic, rows)| OffsetDeleteRequestTopic {
                name: KafkaString::from(topic.to_string()),
                partitions: rows
                    .into_iter()
                    .map(|(partition_index, ())| OffsetDeleteRequestPartition {
                        partition_index,
                        ..OffsetDeleteRequestPartition::default()
                    })
                    .collect(),
                ..OffsetDeleteRequestTopic::default()
            })
            .collect();
        let request = OffsetDeleteRequestData {
            group_id: self.group_id(),
            topics,
            ..OffsetDeleteRequestData::default()
        };
        self.ask(
            deadline,
            |connection| Ok((request.clone(), connection.version(ApiKey::OffsetDelete)?)),
            |response| {
                error::check(ApiKey::OffsetDelete, response.error_code, self.group(), None)?;
                let mut rows = Vec::new();
                for topic in &response.topics {
                    for row in &topic.partitions {
                        let partition = TopicPartition::new(topic.name.as_str(), row.partition_index);
                        let checked = check(ApiKey::OffsetDelete, row.error_code, &partition);
                        rows.push((partition, checked));
                    }
                }
                Ok(rows)
            },
        )
        .await
    }
}

fn commit_request(
    group_id: KafkaString,
    identity: &CommitIdentity,
    offsets: &BTreeMap<TopicPartition, CommittedOffset>,
) -> OffsetCommitRequestData {
    let rows = offsets
        .iter()
        .map(|(partition, offset)| (partition.clone(), offset));
    let topics = by_topic(rows)
        .into_iter()
        .map(|(topic, rows)| OffsetCommitRequestTopic {
            name: KafkaString::from(topic.to_string()),
            partitions: rows
                .into_iter()
                .map(|(partition_index, committed)| OffsetCommitRequestPartition {
                    partition_index,
                    committed_offset: committed.offset.get(),
                    committed_leader_epoch: committed.leader_epoch.get(),
                    committed_metadata: Some(KafkaString::from(committed.metadata.clone())),
                    ..OffsetCommitRequestPartition::default()
                })
                .collect(),
            ..OffsetCommitRequestTopic::default()
        })
        .collect();
    OffsetCommitRequestData {
        group_id,
        generation_id_or_member_epoch: identity.epoch,
        member_id: KafkaString::from(identity.member_id.clone()),
        group_instance_id: identity.instance_id.clone().map(KafkaString::from),
        topics,
        ..OffsetCommitRequestData::default()
    }
}

fn committed(response: &OffsetCommitResponseData) -> Rows<()> {
    let mut rows = Vec::new();
    for topic in &response.topics {
        for row in &topic.partitions {
            let partition = TopicPartition::new(topic.name.as_str(), row.partition_index);
            let checked = check(ApiKey::OffsetCommit, row.error_code, &partition);
            rows.push((partition, checked));
        }
    }
    rows
}

fn check(api: ApiKey, code: i16, partition: &TopicPartition) -> Result<()> {
    error::check(api, code, &partition.to_string(), None)
}

/// A coordinator that cannot answer now says so in the rows: then it is the error of the attempt.
fn answered<T>(rows: Rows<T>) -> Result<Rows<T>> {
    let passing = rows.iter().find_map(|(_, row)| match row {
        Err(error) if may_pass(error) => Some(error.clone()),
        _ => None,
    });
    match passing {
        Some(error) => Err(error),
        None => Ok(rows),
    }
}

/// Whether the coordinator may answer the same request otherwise in a moment.
pub(crate) fn may_pass(error: &Error) -> bool {
    let of_coordinator = |code| {
        matches!(
            code,
            ErrorCode::CoordinatorLoadInProgress
                | ErrorCode::CoordinatorNotAvailable
                | ErrorCode::NotCoordinator
                | ErrorCode::RebalanceInProgress
                | ErrorCode::UnstableOffsetCommit
                | ErrorCode::RequestTimedOut
                | ErrorCode::NetworkException
        )
    };
    match error.code() {
        Some(code) => of_coordinator(code),
        None => error.is_retriable(),
    }
}

/// What the rows of both layouts of the response have.
struct RowOfBoth<'a> {
    index: i32,
    offset: i64,
    epoch: i32,
    metadata: Option<&'a KafkaString>,
    error_code: i16,
}

impl<'a> From<&'a OffsetFetchResponsePartition> for RowOfBoth<'a> {
    fn from(row: &'a OffsetFetchResponsePartition) -> Self {
        Self {
            index: row.partition_index,
            offset: row.committed_offset,
            epoch: row.committed_leader_epoch,
            metadata: row.metadata.as_ref(),
            error_code: row.error_code,
        }
    }
}

impl<'a> From<&'a OffsetFetchResponsePartitions> for RowOfBoth<'a> {
    fn from(row: &'a OffsetFetchResponsePartitions) -> Self {
        Self {
            index: row.partition_index,
            offset: row.committed_offset,
            epoch: row.committed_leader_epoch,
            metadata: row.metadata.as_ref(),
            error_code: row.error_code,
        }
    }
}

fn fetched_row(topic: &str, row: &RowOfBoth<'_>) -> (TopicPartition, Result<Option<CommittedOffset>>) {
    let partition = TopicPartition::new(topic, row.index);
    let result = check(ApiKey::OffsetFetch, row.error_code, &partition).map(|()| {
        (row.offset >= 0).then(|| CommittedOffset {
            offset: Offset::new(row.offset),
            leader_epoch: LeaderEpoch::new(row.epoch),
            metadata: row.metadata.map(ToString::to_string).unwrap_or_default(),
        })
    });
    (partition, result)
}
