//! A group is deleted with all that it has committed, decided or not, if it has no members.
//! One batch of records holds all of it, so that no crash leaves half a group.

use std::sync::Arc;

use crate::coordinator::group::context::Context;
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::offsets::delete::tombstone;
use crate::coordinator::group::shard::GroupShard;

impl GroupShard {
    /// Deletes a group.
    ///
    /// # Errors
    /// There is no such group, or it has members.
    pub fn delete_group(&mut self, context: &mut Context<'_>, group: &Arc<str>) -> Result<(), GroupError> {
        let found = self.groups.get(group);
        let found = found.ok_or_else(|| GroupError::GroupIdNotFound(format!("Group {group} not found.")))?;
        found.validate_delete()?;
        let offsets = self.offsets.of_group(group);
        context
            .records
            .extend(offsets.map(|(topic, partition, _)| tombstone(group, topic, partition)));
        let pending = self.pending.of_group(group);
        let only_pending =
            pending.filter(|(topic, partition)| self.offsets.get(group, topic, *partition).is_none());
        context
            .records
            .extend(only_pending.map(|(topic, partition)| tombstone(group, topic, partition)));
        found.delete_records(group, &mut context.records);
        Ok(())
    }
}
