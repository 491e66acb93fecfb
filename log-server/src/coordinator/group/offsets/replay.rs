//! What a record of a committed offset makes of the state.
//! A group comes to be by its first commit, if nothing described it before.

use std::sync::Arc;

use crate::coordinator::group::classic::group::ClassicGroup;
use crate::coordinator::group::group::Group;
use crate::coordinator::group::record::OffsetCommitValue;
use crate::coordinator::group::shard::GroupShard;

impl GroupShard {
    /// An empty classic group. If it has offsets, from a group of the other protocol that ended, it stays for their sake.
    pub(in crate::coordinator::group) fn begin_classic_group(&mut self, name: &Arc<str>) {
        let mut group = ClassicGroup::default();
        if self.offsets.has_group(name) {
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
            return;
        };
        // A group that nobody described only commits: an empty classic one.
        if !self.groups.contains_key(group) {
            let new = Group::Classic(Box::default());
            self.groups.insert(group.into(), new);
        }
        if let Some(Group::Classic(classic)) = self.groups.get_mut(group) {
            classic.has_a_record();
        }
        let Some((name, _)) = self.groups.get_key_value(group) else {
            return;
        };
        let name = Arc::clone(name);
        self.offsets.put(&name, topic, partition, value);
    }
}
