//! A classic group with its members. Groups of KIP-848 are described by that protocol's own command.
//! Nothing here changes anything.

use std::sync::Arc;

use bytes::Bytes;

use crate::coordinator::group::classic::group::ClassicState;
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::group::Group;
use crate::coordinator::group::shard::GroupShard;

/// A classic group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedGroup {
    /// Kafka's name for its state.
    pub state: &'static str,
    /// "consumer", "connect", …; empty for a group that only commits.
    pub protocol_type: Arc<str>,
    /// The protocol that was chosen; empty unless the group is stable.
    pub protocol: Arc<str>,
    /// Its members, by id.
    pub members: Vec<DescribedMember>,
}

/// A member of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedMember {
    /// Its id.
    pub member_id: Arc<str>,
    /// Its static id.
    pub instance_id: Option<Arc<str>>,
    /// The client's name for itself.
    pub client_id: Arc<str>,
    /// Where it came from, as Kafka writes it: `/127.0.0.1`.
    pub client_host: Arc<str>,
    /// What it said for the chosen protocol; empty unless the group is stable.
    pub metadata: Bytes,
    /// What a leader gave it last, until one gives it something else. Kafka empties it when members join again before the leader of
    /// their generation has assigned.
    pub assignment: Bytes,
}

impl GroupShard {
    /// Describes a classic group.
    ///
    /// # Errors
    /// There is no such group, or it is of the other protocol.
    pub fn describe_classic_group(&self, group: &str) -> Result<DescribedGroup, GroupError> {
        let found = match self.groups.get(group) {
            Some(Group::Classic(found)) => found,
            Some(Group::Consumer(_)) => {
                let text = format!("Group {group} is not a classic group.");
                return Err(GroupError::GroupIdNotFound(text));
            }
            None => return Err(GroupError::GroupIdNotFound(format!("Group {group} not found."))),
        };
        let is_stable = found.state() == ClassicState::Stable;
        let protocol = found.protocol().filter(|_| is_stable);
        let members = found.members().map(|(id, member)| DescribedMember {
            member_id: Arc::clone(id),
            instance_id: member.instance_id.clone(),
            client_id: Arc::clone(&member.client_id),
            client_host: Arc::clone(&member.client_host),
            metadata: protocol
                .and_then(|protocol| member.protocols.metadata(protocol))
                .cloned()
                .unwrap_or_default(),
            assignment: member.assignment.clone(),
        });
        Ok(DescribedGroup {
            state: found.state().name(),
            protocol_type: found.protocol_type().into(),
            protocol: protocol.cloned().unwrap_or_default(),
            members: members.collect(),
        })
    }
}
