//! How far groups have read: committed offsets, by group, topic and partition.
//! They belong to a group, and outlive its members.

use crate::coordinator::group::record::OffsetCommitValue;
use crate::coordinator::group::shard::GroupShard;

/// All committed offsets of a shard.
#[derive(Debug, Default)]
pub struct OffsetStore {}

impl GroupShard {
    pub(super) fn replay_offset_commit(
        &mut self,
        _group: &str,
        _topic: &str,
        _partition: i32,
        _value: Option<&OffsetCommitValue>,
    ) {
    }
}
