//! Records become state.
//!
//! At a start, the log may have been compacted: a record may be missing whose successor is there. So each record is taken for what it says,
//! and nothing is concluded from what stood before.

use std::sync::Arc;

use log_core::model::TopicId;

use crate::coordinator::group::consumer::assignment::Assignment;
use crate::coordinator::group::consumer::group::ConsumerGroup;
use crate::coordinator::group::consumer::member::{Current, Member, unknown_description};
use crate::coordinator::group::group::Group;
use crate::coordinator::group::record::{ConsumerMemberValue, GroupRecord};
use crate::coordinator::group::shard::GroupShard;

impl GroupShard {
    pub(in crate::coordinator::group) fn replay_consumer_group(&mut self, record: &GroupRecord) {
        let (id, makes) = match record {
            GroupRecord::ConsumerGroup { group, value } => (group, value.is_some()),
            GroupRecord::ConsumerMember { group, value, .. } => (group, value.is_some()),
            GroupRecord::ConsumerTargetEpoch { group, value } => (group, value.is_some()),
            GroupRecord::ConsumerTargetMember { group, value, .. } => (group, value.is_some()),
            GroupRecord::ConsumerCurrentMember { group, value, .. } => (group, value.is_some()),
            GroupRecord::ConsumerRegex { group, value, .. } => (group, value.is_some()),
            GroupRecord::ConsumerPartitionMetadata { group, exists } => (group, *exists),
            GroupRecord::OffsetCommit { .. } | GroupRecord::ClassicGroup { .. } => return,
        };
        let is_modern = matches!(self.groups.get(id), Some(Group::Consumer(_)));
        if !is_modern && makes {
            // A classic group of this name has ended, or never was more than a name for commits.
            self.groups.insert(
                Arc::clone(id),
                Group::Consumer(Box::new(ConsumerGroup::new(Arc::clone(id)))),
            );
        }
        if let GroupRecord::ConsumerGroup { value: None, .. } = record {
            self.ended = None;
            if is_modern {
                self.groups.remove(id);
                if self.offsets.has_group(id) || self.pending.has_group(id) {
                    self.begin_classic_group(id);
                }
            }
            return;
        }
        if let Some(Group::Consumer(group)) = self.groups.get_mut(id) {
            group.replay(record);
        }
    }
}

impl ConsumerGroup {
    /// Makes a record of this group part of its state. The group's own tombstone is its owner's affair.
    pub(super) fn replay(&mut self, record: &GroupRecord) {
        match record {
            GroupRecord::ConsumerGroup { value, .. } => {
                if let Some(value) = value {
                    self.epoch = value.epoch;
                    self.metadata_hash = value.metadata_hash;
                }
            }
            GroupRecord::ConsumerMember { member, value, .. } => match value {
                Some(value) => self.replay_member(member, value),
                None => self.replay_member_gone(member),
            },
            GroupRecord::ConsumerTargetEpoch { value, .. } => {
                self.target_epoch = value.map_or(0, |value| value.assignment_epoch);
                self.target_timestamp_ms = value.map_or(0, |value| value.assignment_timestamp_ms);
            }
            GroupRecord::ConsumerTargetMember { member, value, .. } => match value {
                Some(topics) => {
                    let target = Arc::new(Assignment::from_topics(topics));
                    self.targets.insert(Arc::clone(member), target);
                }
                None => {
                    self.targets.remove(member);
                }
            },
            GroupRecord::ConsumerCurrentMember { member, value, .. } => match value {
                Some(value) => self.replay_current(member, Current::from_record(value)),
                None => {
                    if self.members.contains_key(member) {
                        self.replay_current(member, Current::default());
                    }
                }
            },
            GroupRecord::ConsumerRegex { regex, value, .. } => match value {
                Some(value) => {
                    self.regexes.insert(Arc::clone(regex), Arc::new(value.clone()));
                }
                None => {
                    self.regexes.remove(regex);
                }
            },
            GroupRecord::ConsumerPartitionMetadata { exists, .. } => self.has_partition_metadata = *exists,
            GroupRecord::OffsetCommit { .. } | GroupRecord::ClassicGroup { .. } => {}
        }
    }

    fn replay_member(&mut self, member_id: &Arc<str>, value: &ConsumerMemberValue) {
        let mut value = value.clone();
        // Kafka writes "" where there is no pattern.
        value.subscribed_regex = value.subscribed_regex.filter(|regex| !regex.is_empty());
        self.forget_static_id(member_id);
        if let Some(instance_id) = &value.instance_id {
            self.static_members
                .insert(Arc::clone(instance_id), Arc::clone(member_id));
        }
        let current = self
            .members
            .get(member_id)
            .map(|member| Arc::clone(&member.current));
        let member = Member {
            description: Arc::new(value),
            current: current.unwrap_or_default(),
        };
        self.members.insert(Arc::clone(member_id), member);
    }

    fn replay_member_gone(&mut self, member_id: &Arc<str>) {
        self.forget_static_id(member_id);
        if let Some(member) = self.members.remove(member_id) {
            self.disown(member_id, &member.current);
        }
    }

    fn replay_current(&mut self, member_id: &Arc<str>, current: Current) {
        if let Some(member) = self.members.get(member_id).cloned() {
            self.disown(member_id, &member.current);
        }
        for (topic_id, partition) in places(&current) {
            self.owners.insert((topic_id, partition), Arc::clone(member_id));
        }
        let member = self
            .members
            .entry(Arc::clone(member_id))
            .or_insert_with(|| Member {
                description: Arc::new(unknown_description()),
                current: Arc::default(),
            });
        member.current = Arc::new(current);
    }

    fn disown(&mut self, member_id: &Arc<str>, current: &Current) {
        for (topic_id, partition) in places(current) {
            let place = (topic_id, partition);
            if self.owners.get(&place).is_some_and(|owner| owner == member_id) {
                self.owners.remove(&place);
            }
        }
    }

    fn forget_static_id(&mut self, member_id: &Arc<str>) {
        let member = self.members.get(member_id);
        let Some(instance_id) = member.and_then(|member| member.description.instance_id.clone()) else {
            return;
        };
        if self
            .static_members
            .get(&instance_id)
            .is_some_and(|holder| holder == member_id)
        {
            self.static_members.remove(&instance_id);
        }
    }
}

/// All partitions that nobody else may have.
fn places(current: &Current) -> impl Iterator<Item = (TopicId, i32)> {
    let held = current.assigned.iter().chain(current.revoking.iter());
    held.map(|(topic_id, partition, _)| (topic_id, partition))
}
