//! What offsets and administration ask of every group, answered for KIP-848.
//! Nothing here changes anything.

use std::sync::Arc;

use log_core::model::TopicId;

use crate::coordinator::group::consumer::group::{ConsumerGroup, ConsumerGroupState};
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::group::Committer;
use crate::coordinator::group::record::GroupRecord;

impl ConsumerGroup {
    /// Kafka's name for its state.
    #[must_use]
    pub fn state_name(&self) -> &'static str {
        self.state().name()
    }

    /// Always "consumer".
    #[must_use]
    pub fn protocol_type(&self) -> &'static str {
        "consumer"
    }

    /// Whether it has no members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.state() == ConsumerGroupState::Empty
    }

    /// Whether these offsets may be committed. Commits without an epoch are for groups without members. With an epoch that is
    /// behind, a member may commit for what it has had since then (KIP-1251); one partition that it may not commit for refuses all.
    ///
    /// # Errors
    /// What [`GroupError`] says.
    pub fn validate_offset_commit(
        &self,
        committer: &Committer<'_>,
        partitions: &mut dyn Iterator<Item = (TopicId, &str, i32)>,
    ) -> Result<(), GroupError> {
        let epoch = committer.generation_or_epoch;
        if epoch < 0 && self.is_empty() {
            return Ok(());
        }
        let (_, member) = self.member(committer.member_id)?;
        if !member.is_classic() && committer.request_version < 9 {
            return Err(GroupError::UnsupportedVersion(
                "OffsetCommit version 9 or above must be used by members using the consumer group protocol"
                    .to_owned(),
            ));
        }
        let current = &member.current;
        if epoch == current.epoch {
            return Ok(());
        }
        let refuse = |text: String| {
            Err(if member.is_classic() {
                GroupError::IllegalGeneration
            } else {
                GroupError::StaleMemberEpoch(text)
            })
        };
        if current.epoch < epoch {
            return refuse(format!(
                "Received member epoch {epoch} is newer than current member epoch {}.",
                current.epoch
            ));
        }
        for (topic_id, topic, partition) in partitions {
            let since = current.assigned.since(topic_id, partition);
            match since.or_else(|| current.revoking.since(topic_id, partition)) {
                Some(since) if since <= epoch => {}
                Some(since) => {
                    return refuse(format!(
                        "Received member epoch {epoch} is older than assignment epoch {since} for partition {topic}-{partition}."
                    ));
                }
                None => {
                    return refuse(format!(
                        "Partition {topic}-{partition} is not assigned or pending revocation for member."
                    ));
                }
            }
        }
        Ok(())
    }

    /// Whether a member may ask for offsets; one without an id always may.
    ///
    /// # Errors
    /// What [`GroupError`] says.
    pub fn validate_offset_fetch(&self, member_id: Option<&str>, epoch: i32) -> Result<(), GroupError> {
        match member_id {
            Some(member_id) if 0 <= epoch => {
                let (_, member) = self.member(member_id)?;
                self.validate_epoch(epoch, member.current.epoch)
            }
            _ => Ok(()),
        }
    }

    #[expect(clippy::unused_self, reason = "classic members will be told something else")]
    fn validate_epoch(&self, epoch: i32, current: i32) -> Result<(), GroupError> {
        if epoch == current {
            return Ok(());
        }
        Err(GroupError::StaleMemberEpoch(format!(
            "The received member epoch {epoch} does not match the expected member epoch {current}."
        )))
    }

    /// Whether offsets may be deleted: those of topics that nobody reads may.
    ///
    /// # Errors
    /// What [`GroupError`] says.
    pub fn validate_offset_delete(&self) -> Result<(), GroupError> {
        Ok(())
    }

    /// Whether the group may be deleted.
    ///
    /// # Errors
    /// What [`GroupError`] says.
    pub fn validate_delete(&self) -> Result<(), GroupError> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(GroupError::NonEmptyGroup)
        }
    }

    /// The records that end the group, which has no members.
    pub fn delete_records(&self, group: &Arc<str>, records: &mut Vec<GroupRecord>) {
        let group = || Arc::clone(group);
        records.push(GroupRecord::ConsumerTargetEpoch {
            group: group(),
            value: None,
        });
        if self.has_partition_metadata {
            records.push(GroupRecord::ConsumerPartitionMetadata {
                group: group(),
                exists: false,
            });
        }
        records.push(GroupRecord::ConsumerGroup {
            group: group(),
            value: None,
        });
    }

    /// The time from which a commit's retention counts: its own.
    #[must_use]
    pub fn expiration_base_ms(&self, commit_timestamp_ms: i64) -> Option<i64> {
        Some(commit_timestamp_ms)
    }
}
