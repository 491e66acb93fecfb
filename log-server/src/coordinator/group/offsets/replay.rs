//! What a record of a committed offset makes of the state, and what the end of a transaction makes of its offsets.
//! A group comes to be by its first commit, if nothing described it before, also by one that is pending.

use std::sync::Arc;

use log_core::model::ProducerId;
use log_core::record::control::TransactionOutcome;

use crate::coordinator::group::classic::group::ClassicGroup;
use crate::coordinator::group::group::Group;
use crate::coordinator::group::record::OffsetCommitValue;
use crate::coordinator::group::shard::GroupShard;

impl GroupShard {
    /// An empty classic group. If it has offsets, from a group of the other protocol that ended, it stays for their sake.
    pub(in crate::coordinator::group) fn begin_classic_group(&mut self, name: &Arc<str>) {
        let mut group = ClassicGroup::default();
        if self.offsets.has_group(name) || self.pending.has_group(name) {
            group.has_a_record();
        }
        self.groups
            .insert(Arc::clone(name), Group::Classic(Box::new(group)));
    }

    pub(in crate::coordinator::group) fn replay_offset_commit(
        &mut self,
        group: &str,
        topic: &str,
        partition: i32,
        value: Option<&OffsetCommitValue>,
    ) {
        let Some(value) = value else {
            self.offsets.remove(group, topic, partition);
            self.pending.remove(group, topic, partition);
            return;
        };
        let name = self.group_that_commits(group);
        self.offsets.put(&name, topic, partition, value);
        self.pending.overtake(group, topic, partition);
    }

    pub(in crate::coordinator::group) fn replay_pending_offset(
        &mut self,
        producer: ProducerId,
        group: &str,
        topic: &str,
        partition: i32,
        value: &OffsetCommitValue,
    ) {
        let name = self.group_that_commits(group);
        let place = (name, topic.into(), partition);
        self.pending.put(producer, place, value);
    }

    pub(in crate::coordinator::group) fn replay_offsets_marker(
        &mut self,
        producer: ProducerId,
        outcome: TransactionOutcome,
    ) {
        if outcome == TransactionOutcome::Abort {
            self.pending.abort(producer);
            return;
        }
        for ((group, topic, partition), value) in self.pending.commit(producer) {
            self.offsets.put(&group, &topic, partition, &value);
        }
    }

    /// The name of a group of which a record says that it commits.
    fn group_that_commits(&mut self, group: &str) -> Arc<str> {
        // A group that nobody described only commits: an empty classic one.
        if !self.groups.contains_key(group) {
            let new = Group::Classic(Box::default());
            self.groups.insert(group.into(), new);
        }
        if let Some(Group::Classic(classic)) = self.groups.get_mut(group) {
            classic.has_a_record();
        }
        match self.groups.get_key_value(group) {
            Some((name, _)) => Arc::clone(name),
            None => group.into(),
        }
    }
}
