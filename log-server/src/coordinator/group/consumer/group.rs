//! The state of a KIP-848 group.
//!
//! All of it is what its records say, except `Seen`, which is only remembered to save work.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use log_core::model::TopicId;

use crate::coordinator::group::consumer::assignment::Assignment;
use crate::coordinator::group::consumer::member::{LEAVE_STATIC_EPOCH, Member};
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::record::ConsumerRegexValue;

/// The epoch of a group before anything happened to it, as in Kafka since 4.2; who joins it with a subscription raises it.
pub(super) const FIRST_EPOCH: i32 = 1;

/// A KIP-848 group.
#[derive(Debug, Clone, Default)]
pub struct ConsumerGroup {
    /// Its id.
    pub(super) id: Arc<str>,
    /// Grows with every change that needs another target.
    pub(super) epoch: i32,
    /// A hash of the topics that the group reads, at the group epoch.
    pub(super) metadata_hash: i64,
    /// The group epoch that the target assignment was computed for.
    pub(super) target_epoch: i32,
    /// When it was computed.
    pub(super) target_timestamp_ms: i64,
    pub(super) members: BTreeMap<Arc<str>, Member>,
    /// Static ids and whose they are.
    pub(super) static_members: BTreeMap<Arc<str>, Arc<str>>,
    pub(super) targets: BTreeMap<Arc<str>, Arc<Assignment>>,
    /// Who has a partition, or has to give it up and has not. Follows from the members.
    pub(super) owners: HashMap<(TopicId, i32), Arc<str>>,
    /// The patterns that members are subscribed to, and what they matched.
    pub(super) regexes: BTreeMap<Arc<str>, Arc<ConsumerRegexValue>>,
    /// A record of what partitions the topics had, as older Kafka brokers write it, is in the log.
    pub(super) has_partition_metadata: bool,
    pub(super) seen: Seen,
}

/// What was looked at, and need not be again. Not in any record; a group that was loaded has seen nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    /// The version of the topics for which the metadata hash is known to hold.
    pub(super) topics_version: Option<u64>,
}

/// The state of a group as Kafka's tools show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsumerGroupState {
    /// Without members.
    Empty,
    /// A new target is to be computed.
    Assigning,
    /// Members are on their way to the target.
    Reconciling,
    /// All members have their targets.
    Stable,
}

impl ConsumerGroupState {
    /// Its name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Assigning => "Assigning",
            Self::Reconciling => "Reconciling",
            Self::Stable => "Stable",
        }
    }
}

impl ConsumerGroup {
    /// A group that no record knows of yet.
    #[must_use]
    pub fn new(id: Arc<str>) -> Self {
        Self {
            id,
            epoch: FIRST_EPOCH,
            ..Self::default()
        }
    }

    /// The state that follows from epochs and members.
    #[must_use]
    pub fn state(&self) -> ConsumerGroupState {
        if self.members.is_empty() {
            ConsumerGroupState::Empty
        } else if self.target_epoch < self.epoch {
            ConsumerGroupState::Assigning
        } else if self
            .members
            .values()
            .all(|member| member.current.is_at(self.target_epoch))
        {
            ConsumerGroupState::Stable
        } else {
            ConsumerGroupState::Reconciling
        }
    }

    pub(super) fn member(&self, member_id: &str) -> Result<(&Arc<str>, &Member), GroupError> {
        let found = self.members.get_key_value(member_id);
        found.ok_or_else(|| {
            GroupError::UnknownMemberId(format!(
                "Member {member_id} is not a member of group {}.",
                self.id
            ))
        })
    }

    /// The member that holds a static id, if it is this member.
    pub(super) fn static_member(
        &self,
        instance_id: &str,
        member_id: &str,
    ) -> Result<(&Arc<str>, &Member), GroupError> {
        let holder = self.static_members.get(instance_id);
        let holder = holder.and_then(|holder| self.members.get_key_value(holder));
        let (holder_id, holder) = holder
            .ok_or_else(|| GroupError::UnknownMemberId(format!("Instance id {instance_id} is unknown.")))?;
        if **holder_id != *member_id {
            return Err(GroupError::FencedStaticMember(format!(
                "Static member {member_id} with instance id {instance_id} was fenced by member {holder_id}."
            )));
        }
        Ok((holder_id, holder))
    }

    /// The member that a static id belongs to, if there is one.
    pub(super) fn holder(&self, instance_id: &str) -> Option<(&Arc<str>, &Member)> {
        let holder = self.static_members.get(instance_id)?;
        self.members.get_key_value(holder)
    }

    /// Refuses a newcomer while another member uses its static id.
    pub(super) fn check_released(
        holder_id: &str,
        holder: &Member,
        instance_id: &str,
        member_id: &str,
    ) -> Result<(), GroupError> {
        if holder.current.epoch == LEAVE_STATIC_EPOCH {
            return Ok(());
        }
        Err(GroupError::UnreleasedInstanceId(format!(
            "Static member {member_id} with instance id {instance_id} cannot join the group because the instance id is owned by \
             {holder_id} member."
        )))
    }

    /// Whether the target is what the leader of a classic group assigned, maybe to members that have changed their minds since.
    pub(super) fn has_target_of_leader(&self) -> bool {
        0 < self.target_epoch && self.target_timestamp_ms == 0
    }

    /// What a member is to have.
    pub(super) fn target(&self, member_id: &str) -> Arc<Assignment> {
        self.targets.get(member_id).cloned().unwrap_or_default()
    }

    /// The topics that a pattern matched.
    pub(super) fn matched(&self, regex: Option<&str>) -> &[Arc<str>] {
        let value = regex.and_then(|regex| self.regexes.get(regex));
        value.map_or(&[], |value| value.topics.as_slice())
    }
}
