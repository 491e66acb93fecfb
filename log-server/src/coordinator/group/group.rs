//! A group of either protocol: what both have in common is asked here, and answered by the one it is.
//! A group changes its protocol while it is empty, or member by member (KIP-848 migration).

use std::sync::Arc;

use crate::coordinator::group::classic::group::ClassicGroup;
use crate::coordinator::group::consumer::group::ConsumerGroup;
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::record::GroupRecord;

/// A group with or without members. A group that only commits offsets is an empty classic one.
#[derive(Debug)]
pub enum Group {
    /// Of the classic protocol.
    Classic(Box<ClassicGroup>),
    /// Of KIP-848.
    Consumer(Box<ConsumerGroup>),
}

impl Group {
    /// Kafka's name for its state.
    #[must_use]
    pub fn state_name(&self) -> &'static str {
        match self {
            Self::Classic(group) => group.state_name(),
            Self::Consumer(group) => group.state_name(),
        }
    }

    /// "consumer", "connect", …; empty for a group that only commits.
    #[must_use]
    pub fn protocol_type(&self) -> &str {
        match self {
            Self::Classic(group) => group.protocol_type(),
            Self::Consumer(group) => group.protocol_type(),
        }
    }

    /// Whether it has no members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Classic(group) => group.is_empty(),
            Self::Consumer(group) => group.is_empty(),
        }
    }

    /// Whether this commit may be made. Versions of the request below 9 are written by clients of the classic protocol.
    ///
    /// # Errors
    /// What [`GroupError`] says.
    pub fn validate_offset_commit(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
        generation_or_epoch: i32,
        request_version: i16,
    ) -> Result<(), GroupError> {
        match self {
            Self::Classic(group) => group.validate_offset_commit(member_id, instance_id, generation_or_epoch),
            Self::Consumer(group) => {
                group.validate_offset_commit(member_id, instance_id, generation_or_epoch, request_version)
            }
        }
    }

    /// Whether a member may ask for offsets; one without an id always may.
    ///
    /// # Errors
    /// What [`GroupError`] says.
    pub fn validate_offset_fetch(&self, member_id: Option<&str>, epoch: i32) -> Result<(), GroupError> {
        match self {
            Self::Classic(_) => Ok(()),
            Self::Consumer(group) => group.validate_offset_fetch(member_id, epoch),
        }
    }

    /// Whether offsets may be deleted; topics that are subscribed to are asked for by [`Self::is_subscribed_to`].
    ///
    /// # Errors
    /// What [`GroupError`] says.
    pub fn validate_offset_delete(&self) -> Result<(), GroupError> {
        match self {
            Self::Classic(group) => group.validate_offset_delete(),
            Self::Consumer(group) => group.validate_offset_delete(),
        }
    }

    /// Whether the group may be deleted.
    ///
    /// # Errors
    /// What [`GroupError`] says.
    pub fn validate_delete(&self) -> Result<(), GroupError> {
        match self {
            Self::Classic(group) => group.validate_delete(),
            Self::Consumer(group) => group.validate_delete(),
        }
    }

    /// The records that end the group, its offsets aside.
    pub fn delete_records(&self, group: &Arc<str>, records: &mut Vec<GroupRecord>) {
        match self {
            Self::Classic(classic) => classic.delete_records(group, records),
            Self::Consumer(consumer) => consumer.delete_records(group, records),
        }
    }

    /// Whether members read the topic, as far as is known: if it is not, they may.
    #[must_use]
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        match self {
            Self::Classic(group) => group.is_subscribed_to(topic),
            Self::Consumer(group) => group.is_subscribed_to(topic),
        }
    }

    /// The time from which a commit's retention counts; `None` while it may not expire.
    #[must_use]
    pub fn expiration_base_ms(&self, commit_timestamp_ms: i64) -> Option<i64> {
        match self {
            Self::Classic(group) => group.expiration_base_ms(commit_timestamp_ms),
            Self::Consumer(group) => group.expiration_base_ms(commit_timestamp_ms),
        }
    }
}
