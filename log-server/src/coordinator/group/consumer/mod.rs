//! The protocol of KIP-848: members say what they want and have, the coordinator assigns, each step is
//! one heartbeat.

use crate::coordinator::group::record::GroupRecord;
use crate::coordinator::group::shard::GroupShard;

/// A KIP-848 group.
#[derive(Debug)]
pub struct ConsumerGroup {}

impl GroupShard {
    pub(super) fn replay_consumer_group(&mut self, _record: &GroupRecord) {}
}
