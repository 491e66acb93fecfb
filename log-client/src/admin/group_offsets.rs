//! The offsets that groups have committed: looking at them, setting them, forgetting them.
//!
//! Setting and forgetting are for groups without members: those that have some commit over it, and refuse.

use std::collections::BTreeMap;

use log_core::model::TopicPartition;
use log_core::protocol::{ApiKey, ErrorCode};

use super::Admin;
use crate::coordinator::{CommitIdentity, CommittedOffset, Coordinator};
use crate::error::{Error, Result};

impl Admin {
    /// The committed offsets of a group: of the given partitions, with none where there is none, or of all
    /// that have one. A group that does not exist has no offsets.
    ///
    /// # Errors
    /// When no answer was had at all.
    pub async fn list_group_offsets(
        &self,
        group: &str,
        partitions: Option<&[TopicPartition]>,
    ) -> Result<BTreeMap<TopicPartition, Result<Option<CommittedOffset>>>> {
        let coordinator = Coordinator::new(self.cluster.clone(), group);
        let rows = coordinator
            .fetch_offsets(CommitIdentity::nobody, partitions, self.deadline())
            .await?;
        Ok(rows.into_iter().collect())
    }

    /// Sets the committed offsets of a group, which is created if need be; one result for each partition.
    /// While the group has members it is `UNKNOWN_MEMBER_ID`.
    ///
    /// # Errors
    /// When no answer was had at all; the offsets may be set then.
    pub async fn alter_group_offsets(
        &self,
        group: &str,
        offsets: &BTreeMap<TopicPartition, CommittedOffset>,
    ) -> Result<BTreeMap<TopicPartition, Result<()>>> {
        let coordinator = Coordinator::new(self.cluster.clone(), group);
        let rows = coordinator
            .commit(&CommitIdentity::nobody(), offsets, self.deadline())
            .await?;
        Ok(complete(ApiKey::OffsetCommit, offsets.keys(), rows))
    }

    /// Forgets committed offsets of a group; one result for each partition. Topics that a member of the group
    /// reads are `GROUP_SUBSCRIBED_TO_TOPIC`.
    ///
    /// # Errors
    /// What is true of the whole group, such as `GROUP_ID_NOT_FOUND`, and when no answer was had at all.
    pub async fn delete_group_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, Result<()>>> {
        let coordinator = Coordinator::new(self.cluster.clone(), group);
        let rows = coordinator.delete_offsets(partitions, self.deadline()).await?;
        Ok(complete(ApiKey::OffsetDelete, partitions.iter(), rows))
    }
}

/// The rows by partition, with an error for those that the response does not mention.
fn complete<'a>(
    api: ApiKey,
    asked: impl Iterator<Item = &'a TopicPartition>,
    rows: Vec<(TopicPartition, Result<()>)>,
) -> BTreeMap<TopicPartition, Result<()>> {
    let mut rows: BTreeMap<_, _> = rows.into_iter().collect();
    for partition in asked {
        rows.entry(partition.clone()).or_insert_with(|| {
            Err(Error::broker(
                api,
                ErrorCode::NetworkException,
                partition.to_string(),
                Some("the response does not mention it"),
            ))
        });
    }
    rows
}
