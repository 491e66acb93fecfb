//! A classic group as tests outside this protocol look at it.
//! Nothing here changes anything.

use std::sync::Arc;

use crate::coordinator::group::classic::group::{ClassicGroup, ClassicState};

impl ClassicGroup {
    /// Whether what is there is what its last record says, and not on its way to the next.
    pub(in crate::coordinator::group) fn is_at_rest(&self) -> bool {
        matches!(self.state, ClassicState::Stable | ClassicState::Empty)
    }

    pub(in crate::coordinator::group) fn has_recorded(&self) -> bool {
        self.is_recorded
    }

    pub(in crate::coordinator::group) fn has_member(&self, id: &str) -> bool {
        self.members.contains_key(id)
    }

    /// What records say of it.
    pub(in crate::coordinator::group) fn is_as(&self, other: &Self) -> bool {
        let member = |group: &Self, id: &Arc<str>| group.members[id].value(id, group.protocol.as_deref());
        self.generation == other.generation
            && self.state == other.state
            && self.state_since == other.state_since
            && self.protocol_type == other.protocol_type
            && self.protocol == other.protocol
            && self.leader == other.leader
            && self.static_members == other.static_members
            && self.is_recorded == other.is_recorded
            && self.members.keys().eq(other.members.keys())
            && self
                .members
                .keys()
                .all(|id| member(self, id) == member(other, id))
    }
}
