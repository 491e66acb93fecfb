//! What offsets and administration ask of every group.
//! The same questions are asked of classic groups; `group` passes them on.

use std::sync::Arc;

use log_core::model::TopicId;

use crate::coordinator::group::consumer::group::ConsumerGroup;
use crate::coordinator::group::consumer::leave::member_tombstones;
use crate::coordinator::group::consumer::member::Member;
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::group::{CommitKind, Committer};
use crate::coordinator::group::record::GroupRecord;

/// The version of `OffsetCommit` from which on a member can say its epoch.
const EPOCH_SINCE: i16 = 9;

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
        self.members.is_empty()
    }

    /// Whether the offsets of these partitions may be committed; a refusal is one for all of them.
    ///
    /// A member in its newest epoch may commit for whatever nobody else has. Kafka takes that, too: but a member that gives partitions up
    /// in several steps stays in its epoch meanwhile, and a commit of it that comes late must not throw the next owner back.
    ///
    /// A member that has not yet learned its newest epoch may commit for partitions that it had in the epoch it knows, and still
    /// has: so no commit is lost to a rebalance that leaves its partition alone (KIP-1251).
    ///
    /// # Errors
    /// What [`GroupError`] says.
    pub fn validate_offset_commit(
        &self,
        committer: &Committer<'_>,
        partitions: &mut dyn Iterator<Item = (TopicId, &str, i32)>,
    ) -> Result<(), GroupError> {
        let received = committer.generation_or_epoch;
        let is_nameless = received < 0 && committer.member_id.is_empty() && committer.instance_id.is_none();
        let need_not_say = committer.kind == CommitKind::Transactional && is_nameless;
        if need_not_say || (received < 0 && self.members.is_empty()) {
            return Ok(());
        }
        let (member_id, member) = self.member(committer.member_id)?;
        if let CommitKind::Plain { request_version } = committer.kind
            && request_version < EPOCH_SINCE
            && !member.is_classic()
        {
            return Err(GroupError::UnsupportedVersion(
                "OffsetCommit version 9 or above must be used by members using the consumer group protocol"
                    .to_owned(),
            ));
        }
        let known = member.current.epoch;
        if known < received {
            return Err(stale(member, |what| {
                format!("Received {what} {received} is newer than current member epoch {known}.")
            }));
        }
        for place in partitions {
            self.check_place(member_id, member, received, place)?;
        }
        Ok(())
    }

    /// Whether a member may commit for a partition by an epoch that it has or had.
    fn check_place(
        &self,
        member_id: &Arc<str>,
        member: &Member,
        received: i32,
        (topic_id, topic, partition): (TopicId, &str, i32),
    ) -> Result<(), GroupError> {
        let not_its_own = || {
            Err(stale(member, |_| {
                format!("Partition {topic}-{partition} is not assigned or pending revocation for member.")
            }))
        };
        let current = &member.current;
        if received == current.epoch {
            let owner = self.owners.get(&(topic_id, partition));
            if owner.is_some_and(|owner| owner != member_id) {
                return not_its_own();
            }
            return Ok(());
        }
        let since = current.assigned.since(topic_id, partition);
        let since = since.or_else(|| current.revoking.since(topic_id, partition));
        match since {
            None => not_its_own(),
            Some(since) if since <= received => Ok(()),
            Some(since) => Err(stale(member, |what| {
                format!(
                    "Received {what} {received} is older than assignment epoch {since} for partition {topic}-{partition}."
                )
            })),
        }
    }

    /// Whether a member may ask for offsets; who is no member may.
    ///
    /// # Errors
    /// What [`GroupError`] says.
    pub fn validate_offset_fetch(&self, member_id: Option<&str>, epoch: i32) -> Result<(), GroupError> {
        match member_id {
            None if epoch < 0 => Ok(()),
            _ => self.check_epoch_of(member_id.unwrap_or_default(), epoch),
        }
    }

    fn check_epoch_of(&self, member_id: &str, received: i32) -> Result<(), GroupError> {
        let (_, member) = self.member(member_id)?;
        let known = member.current.epoch;
        if received == known {
            return Ok(());
        }
        Err(stale(member, |what| {
            format!("The received {what} {received} does not match the expected member epoch {known}.")
        }))
    }

    /// Whether offsets may be deleted: always; topics that are subscribed to are asked for one by one.
    ///
    /// # Errors
    /// None.
    pub fn validate_offset_delete(&self) -> Result<(), GroupError> {
        Ok(())
    }

    /// Whether the group may be deleted.
    ///
    /// # Errors
    /// It has members.
    pub fn validate_delete(&self) -> Result<(), GroupError> {
        if self.members.is_empty() {
            Ok(())
        } else {
            Err(GroupError::NonEmptyGroup)
        }
    }

    /// The records that end the group, its members with it.
    pub fn delete_records(&self, _group: &Arc<str>, records: &mut Vec<GroupRecord>) {
        for member_id in self.members.keys() {
            records.append(&mut member_tombstones(&self.id, member_id));
        }
        let group = || Arc::clone(&self.id);
        for regex in self.regexes.keys() {
            records.push(GroupRecord::ConsumerRegex {
                group: group(),
                regex: Arc::clone(regex),
                value: None,
            });
        }
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

    /// Whether a member reads the topic, or wants to.
    #[must_use]
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        self.members.values().any(|member| {
            let description = &member.description;
            let mut topics = description.subscribed_topics.iter();
            let mut matched = self.matched(description.subscribed_regex.as_deref()).iter();
            topics.any(|name| **name == *topic) || matched.any(|name| **name == *topic)
        })
    }

    /// The time from which a commit's retention counts. Commits of topics that are subscribed to do not expire.
    #[must_use]
    pub fn expiration_base_ms(&self, commit_timestamp_ms: i64) -> Option<i64> {
        Some(commit_timestamp_ms)
    }
}

/// A refusal in the words of the protocol that the member speaks.
fn stale(member: &Member, text: impl FnOnce(&str) -> String) -> GroupError {
    if member.is_classic() {
        GroupError::IllegalGeneration
    } else {
        GroupError::StaleMemberEpoch(text("member epoch"))
    }
}
