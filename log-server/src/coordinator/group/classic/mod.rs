//! The classic protocol: members join, one of them (the leader) assigns, all of them sync.
//! Any protocol type is served; what members tell each other is not looked into.

use crate::coordinator::group::context::Context;
use crate::coordinator::group::record::{ClassicGroupValue, GroupRecord};
use crate::coordinator::group::shard::GroupShard;

/// An answer that somebody waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {}

/// A classic group.
#[derive(Debug)]
pub struct ClassicGroup {}

impl GroupShard {
    pub(super) fn replay_classic_group(&mut self, _group: &str, _value: Option<&ClassicGroupValue>) {}

    /// Takes back what a command did to groups beside the records that could not be written. Whoever waits for this
    /// command's answer is told by the runtime; others may be answered through the context.
    pub(super) fn classic_write_refused(&mut self, _records: &[GroupRecord], _context: &mut Context<'_>) {}
}
