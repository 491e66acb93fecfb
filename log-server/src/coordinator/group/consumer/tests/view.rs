//! A KIP-848 group as tests outside this protocol look at it, and what classic members tell each other in it.
//! Nothing here changes anything.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use log_core::model::TopicId;

use crate::coordinator::group::consumer::group::ConsumerGroup;
use crate::coordinator::group::consumer::member::Member;
use crate::coordinator::group::embedded::{read_assignment, read_subscription, write_assignment};

/// Partitions by topic.
pub(in crate::coordinator::group) type Named = Vec<(Arc<str>, Vec<i32>)>;

impl ConsumerGroup {
    /// The epochs of the group and of its target.
    pub(in crate::coordinator::group) fn epochs(&self) -> (i32, i32) {
        (self.epoch, self.target_epoch)
    }

    pub(in crate::coordinator::group) fn all_members(&self) -> &BTreeMap<Arc<str>, Member> {
        &self.members
    }

    /// Whether a member has what it is to have.
    pub(in crate::coordinator::group) fn has_its_target(&self, id: &str) -> bool {
        let assigned = self.members[id].current.assigned.iter();
        let assigned = assigned.map(|(topic_id, partition, _)| (topic_id, partition));
        assigned.eq(self.target(id).iter())
    }

    /// Says what is wrong with a group by itself.
    pub(in crate::coordinator::group) fn assert_sound(&self) {
        let mut owners: BTreeMap<(TopicId, i32), &str> = BTreeMap::new();
        for (id, member) in &self.members {
            let current = &member.current;
            for (topic_id, partition, since) in current.assigned.iter().chain(current.revoking.iter()) {
                assert!(
                    since <= self.epoch,
                    "{partition} of {topic_id} is {id}'s from an epoch that has yet to come"
                );
                let before = owners.insert((topic_id, partition), id);
                assert_eq!(before, None, "{partition} of {topic_id} is {id}'s too");
                assert_eq!(self.owners.get(&(topic_id, partition)), Some(id));
            }
            assert!(current.epoch <= self.epoch, "{id} is ahead of its group");
            if let Some(instance_id) = &member.description.instance_id {
                assert_eq!(self.static_members.get(instance_id), Some(id), "{instance_id}");
            }
        }
        assert!(
            self.target_epoch <= self.epoch,
            "the target is ahead of its group"
        );
        assert_eq!(
            owners.len(),
            self.owners.len(),
            "somebody owns what no member has"
        );
        assert!(
            self.targets.keys().all(|id| self.members.contains_key(id)),
            "a target of nobody"
        );
        let holders = self
            .members
            .values()
            .filter(|member| member.description.instance_id.is_some());
        assert_eq!(
            holders.count(),
            self.static_members.len(),
            "a static id of nobody"
        );
        for regex in self.regexes.keys() {
            let mut members = self.members.values();
            assert!(
                members.any(|member| member.description.subscribed_regex.as_ref() == Some(regex)),
                "a pattern of nobody: {regex}"
            );
        }
    }

    /// Whether records say the same of both.
    pub(in crate::coordinator::group) fn is_as(&self, other: &Self) -> bool {
        self.id == other.id
            && self.epoch == other.epoch
            && self.metadata_hash == other.metadata_hash
            && self.target_epoch == other.target_epoch
            && self.target_timestamp_ms == other.target_timestamp_ms
            && self.members == other.members
            && self.static_members == other.static_members
            && self.targets == other.targets
            && self.owners == other.owners
            && self.regexes == other.regexes
            && self.has_partition_metadata == other.has_partition_metadata
    }
}

/// The topics and the partitions in a subscription.
pub(in crate::coordinator::group) fn subscription(bytes: &[u8]) -> (Vec<Arc<str>>, Named) {
    let read = read_subscription(bytes).unwrap();
    (read.topics, read.owned)
}

pub(in crate::coordinator::group) fn assignment(bytes: &[u8]) -> Named {
    read_assignment(bytes).unwrap().partitions
}

pub(in crate::coordinator::group) fn write(partitions: &Named) -> Bytes {
    write_assignment(3, partitions)
}
