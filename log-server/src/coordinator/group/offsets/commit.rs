//! A group, or somebody in its name, says how far it has read.
//!
//! Anybody may commit for a group that has no members, and makes the group by it. A group with members takes commits of its
//! members alone. In a transaction it may be done too: such an offset counts when the transaction is committed, and the coordinator of
//! transactions has said before that there is one.

use std::sync::Arc;

use log_core::model::TopicId;

use crate::coordinator::group::context::{Context, TransactionalProducer};
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::group::{CommitKind, Committer};
use crate::coordinator::group::offsets::topic_ref::TopicRef;
use crate::coordinator::group::record::codec::NAME_BYTES_MAX;
use crate::coordinator::group::record::{GroupRecord, OffsetCommitValue};
use crate::coordinator::group::settings::GroupSettings;
use crate::coordinator::group::shard::GroupShard;

/// Offsets to be committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitRequest {
    /// The group; its name may be empty here.
    pub group: Arc<str>,
    /// The member; empty for somebody who is none.
    pub member_id: Arc<str>,
    /// Its static id.
    pub instance_id: Option<Arc<str>>,
    /// The member's generation or epoch; negative for somebody who is none.
    pub generation_or_epoch: i32,
    /// The version of the protocol's request, on which errors depend.
    pub request_version: i16,
    /// How long the offsets are kept, from now, if the client says so.
    pub retention_ms: Option<i64>,
    /// The offsets.
    pub topics: Vec<CommitTopic>,
}

/// Offsets of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitTopic {
    /// The topic.
    pub topic: TopicRef,
    /// The offsets.
    pub partitions: Vec<CommitPartition>,
}

/// One offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitPartition {
    /// The partition.
    pub partition: i32,
    /// The next offset to read.
    pub offset: i64,
    /// The leader epoch of the last record read; -1 if unknown.
    pub leader_epoch: i32,
    /// Whatever the client wants to remember.
    pub metadata: Option<Arc<str>>,
}

/// Offsets to be committed by a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionalCommitRequest {
    /// The producer, whose transaction is under way.
    pub producer: TransactionalProducer,
    /// The group; its name may not be empty.
    pub group: Arc<str>,
    /// The member; empty for somebody who is none, or too old to say.
    pub member_id: Arc<str>,
    /// Its static id.
    pub instance_id: Option<Arc<str>>,
    /// The member's generation or epoch; negative for somebody who is none.
    pub generation_or_epoch: i32,
    /// The offsets.
    pub topics: Vec<CommitTopic>,
}

/// What became of each partition of each topic, in the order of the request.
pub type CommitAnswer = Vec<Vec<Result<(), GroupError>>>;

impl GroupShard {
    /// Commits offsets. What a group refuses, it refuses for all partitions; a partition that does not exist has its own error.
    pub fn commit_offsets(&mut self, context: &mut Context<'_>, request: &CommitRequest) -> CommitAnswer {
        let kind = CommitKind::Plain {
            request_version: request.request_version,
        };
        self.commit(context, request, kind)
    }

    /// The same in a transaction, whose end decides whether the offsets count.
    pub fn commit_transactional_offsets(
        &mut self,
        context: &mut Context<'_>,
        request: TransactionalCommitRequest,
    ) -> CommitAnswer {
        if request.group.is_empty() {
            let refused = |topic: &CommitTopic| vec![Err(GroupError::InvalidGroupId); topic.partitions.len()];
            return request.topics.iter().map(refused).collect();
        }
        context.transaction = Some(request.producer);
        let commit = CommitRequest {
            group: request.group,
            member_id: request.member_id,
            instance_id: request.instance_id,
            generation_or_epoch: request.generation_or_epoch,
            request_version: 0,
            retention_ms: None,
            topics: request.topics,
        };
        self.commit(context, &commit, CommitKind::Transactional)
    }

    fn commit(
        &mut self,
        context: &mut Context<'_>,
        request: &CommitRequest,
        kind: CommitKind,
    ) -> CommitAnswer {
        let found: Vec<_> = request
            .topics
            .iter()
            .map(|topic| topic.topic.resolve(context.topics))
            .collect();
        let asked = || request.topics.iter().zip(&found);
        let known = || {
            asked().flat_map(|(topic, found)| {
                let found = found.as_ref().ok();
                found.into_iter().flat_map(|found| {
                    let partitions = topic.partitions.iter().map(|row| row.partition);
                    let known = partitions.filter(|partition| found.has_partition(*partition));
                    known.map(|partition| (found.id, &*found.name, partition))
                })
            })
        };
        // Kafka does not ask the group when nothing is left to be committed.
        let refused = match known().next() {
            None => None,
            Some(_) => self.check_committer(request, kind, &mut known()).err(),
        };
        let expire_timestamp_ms = request
            .retention_ms
            .map(|kept| context.now.saturating_plus(kept).get());
        let mut answer = Vec::with_capacity(request.topics.len());
        for (topic, found) in asked() {
            let mut rows = Vec::with_capacity(topic.partitions.len());
            for row in &topic.partitions {
                let facts = found.as_ref().map_err(Clone::clone);
                rows.push(facts.and_then(|found| {
                    if !found.has_partition(row.partition) {
                        return Err(GroupError::UnknownTopicOrPartition);
                    }
                    if let Some(error) = &refused {
                        return Err(error.clone());
                    }
                    check_metadata(row, context.settings)?;
                    context.records.push(GroupRecord::OffsetCommit {
                        group: Arc::clone(&request.group),
                        topic: Arc::clone(&found.name),
                        partition: row.partition,
                        value: Some(OffsetCommitValue {
                            offset: row.offset,
                            leader_epoch: row.leader_epoch,
                            metadata: row.metadata.clone().unwrap_or_default(),
                            commit_timestamp_ms: context.now.get(),
                            expire_timestamp_ms,
                            topic_id: found.id,
                        }),
                    });
                    Ok(())
                }));
            }
            answer.push(rows);
        }
        if refused.is_none() && kind != CommitKind::Transactional {
            self.classic_member_committed(&request.group, &request.member_id, context);
        }
        answer
    }

    fn check_committer(
        &self,
        request: &CommitRequest,
        kind: CommitKind,
        partitions: &mut dyn Iterator<Item = (TopicId, &str, i32)>,
    ) -> Result<(), GroupError> {
        if NAME_BYTES_MAX < request.group.len() {
            return Err(GroupError::InvalidGroupId);
        }
        let group = self.groups.get(&request.group);
        let Some(group) = group else {
            if request.generation_or_epoch < 0 {
                return Ok(());
            }
            return Err(unknown_group(&request.group, kind));
        };
        let committer = Committer {
            member_id: &request.member_id,
            instance_id: request.instance_id.as_deref(),
            generation_or_epoch: request.generation_or_epoch,
            kind,
        };
        group
            .validate_offset_commit(&committer, partitions)
            .map_err(|error| match (kind, error) {
                // No version of that request has a word for it.
                (CommitKind::Transactional, GroupError::StaleMemberEpoch(_)) => GroupError::IllegalGeneration,
                (_, error) => error,
            })
    }
}

/// Version 9 was the first that had a word for it; the requests of transactions have none.
fn unknown_group(group: &str, kind: CommitKind) -> GroupError {
    match kind {
        CommitKind::Plain { request_version: 9.. } => {
            GroupError::GroupIdNotFound(format!("Group {group} not found."))
        }
        CommitKind::Plain { .. } | CommitKind::Transactional => GroupError::IllegalGeneration,
    }
}

/// Kafka counts what Java counts: units of UTF-16.
fn check_metadata(row: &CommitPartition, settings: &GroupSettings) -> Result<(), GroupError> {
    let most = settings.offset_metadata_bytes_max;
    let text = row.metadata.as_deref().unwrap_or_default();
    if text.len() <= most || text.encode_utf16().count() <= most {
        Ok(())
    } else {
        Err(GroupError::OffsetMetadataTooLarge(most))
    }
}
