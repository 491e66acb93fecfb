//! A group of either protocol: what both have in common is asked here, and answered by the one it is.
//! A group changes its protocol while it is empty, or member by member (KIP-848 migration).

use std::sync::Arc;

use log_core::model::TopicId;

use crate::coordinator::group::classic::group::ClassicGroup;
use crate::coordinator::group::consumer::group::ConsumerGroup;
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::record::GroupRecord;
use crate::coordinator::group::record::codec::NAME_BYTES_MAX;

/// Refuses a text that no record can hold. Kafka closes the connection over one.
pub(super) fn check_length(what: &str, text: &str) -> Result<(), GroupError> {
    if text.len() <= NAME_BYTES_MAX {
        return Ok(());
    }
    Err(GroupError::InvalidRequest(format!(
        "{what} is longer than {NAME_BYTES_MAX} bytes"
    )))
}

/// How offsets are committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitKind {
    /// At once, by this version of the protocol's request. Below 9 it is written by clients of the classic protocol.
    Plain {
        /// The version.
        request_version: i16,
    },
    /// When a transaction ends, and only if it is committed. The group's state does not matter then, and a client that is too old to
    /// say who it is need not say it.
    Transactional,
}

/// Who wants to commit offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committer<'a> {
    /// The member; empty for somebody who is none.
    pub member_id: &'a str,
    /// Its static id.
    pub instance_id: Option<&'a str>,
    /// Its generation or epoch; negative for somebody who is none.
    pub generation_or_epoch: i32,
    /// How.
    pub kind: CommitKind,
}

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

    /// Whether these offsets may be committed. A refusal is one for all of them.
    ///
    /// # Errors
    /// What [`GroupError`] says.
    pub fn validate_offset_commit(
        &self,
        committer: &Committer<'_>,
        partitions: &mut dyn Iterator<Item = (TopicId, &str, i32)>,
    ) -> Result<(), GroupError> {
        match self {
            Self::Classic(group) => group.validate_offset_commit(committer),
            Self::Consumer(group) => group.validate_offset_commit(committer, partitions),
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
