//! Committed offsets are deleted, by whoever manages the group.
//! Those of topics that members read are not. What a transaction has yet to decide on is deleted too: its end changes nothing then.

use std::sync::Arc;

use crate::coordinator::group::context::Context;
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::record::GroupRecord;
use crate::coordinator::group::shard::GroupShard;

/// Partitions of a topic whose offsets are to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteOffsetsTopic {
    /// The topic.
    pub topic: Arc<str>,
    /// Its partitions.
    pub partitions: Vec<i32>,
}

impl GroupShard {
    /// Deletes offsets. What was not committed counts as deleted.
    ///
    /// # Errors
    /// There is no such group, or it has members that could read anything.
    pub fn delete_offsets(
        &mut self,
        context: &mut Context<'_>,
        group: &Arc<str>,
        topics: &[DeleteOffsetsTopic],
    ) -> Result<Vec<Vec<Result<(), GroupError>>>, GroupError> {
        if group.is_empty() {
            return Err(GroupError::InvalidGroupId);
        }
        let found = self.groups.get(group);
        let found = found.ok_or_else(|| GroupError::GroupIdNotFound(format!("Group {group} not found.")))?;
        found.validate_offset_delete()?;
        let mut answer = Vec::with_capacity(topics.len());
        for DeleteOffsetsTopic { topic, partitions } in topics {
            let facts = context.topics.by_name(topic);
            let is_subscribed = found.is_subscribed_to(topic);
            let mut rows = Vec::with_capacity(partitions.len());
            for partition in partitions {
                let exists = facts
                    .as_ref()
                    .is_some_and(|facts| facts.has_partition(*partition));
                rows.push(if !exists {
                    Err(GroupError::UnknownTopicOrPartition)
                } else if is_subscribed {
                    Err(GroupError::SubscribedToTopic)
                } else {
                    if self.offsets.get(group, topic, *partition).is_some()
                        || self.pending.contains(group, topic, *partition)
                    {
                        context.records.push(tombstone(group, topic, *partition));
                    }
                    Ok(())
                });
            }
            answer.push(rows);
        }
        Ok(answer)
    }
}

/// The record that ends a commit.
pub(in crate::coordinator::group) fn tombstone(
    group: &Arc<str>,
    topic: &Arc<str>,
    partition: i32,
) -> GroupRecord {
    GroupRecord::OffsetCommit {
        group: Arc::clone(group),
        topic: Arc::clone(topic),
        partition,
        value: None,
    }
}
