//! A group of either protocol as people want to see it.
//! Both have one shape, with the topics' names.

use std::sync::Arc;

use crate::coordinator::group::context::Context;
use crate::coordinator::group::embedded::{CONSUMER, read_assignment};
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::group::Group;
use crate::coordinator::group::shard::GroupShard;

/// A group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupView {
    /// `classic` or `consumer`.
    pub kind: &'static str,
    /// Kafka's name for its state.
    pub state: &'static str,
    /// `consumer`, `connect`, …; empty for a group that only commits.
    pub protocol_type: Arc<str>,
    /// Who decides about partitions; empty if that is open.
    pub assignor: String,
    /// Its epoch; classic groups have none.
    pub epoch: Option<i32>,
    /// Its members, in the order of their ids.
    pub members: Vec<GroupMember>,
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMember {
    /// Its id.
    pub member_id: Arc<str>,
    /// Its static id.
    pub instance_id: Option<Arc<str>>,
    /// The client's name for itself.
    pub client_id: Arc<str>,
    /// Where it came from.
    pub client_host: Arc<str>,
    /// Its epoch; members of classic groups have none.
    pub epoch: Option<i32>,
    /// The partitions that it has, by topic.
    pub assigned: Vec<(Arc<str>, Vec<i32>)>,
}

impl GroupShard {
    /// Shows a group, whatever its protocol.
    ///
    /// # Errors
    /// There is no such group.
    pub fn view_group(&self, context: &Context<'_>, group: &str) -> Result<GroupView, GroupError> {
        match self.groups.get(group) {
            Some(Group::Consumer(_)) => self.view_consumer_group(context, group),
            _ => self.view_classic_group(group),
        }
    }

    fn view_consumer_group(&self, context: &Context<'_>, group: &str) -> Result<GroupView, GroupError> {
        let described = self.describe_consumer_group(context, group)?;
        let members = described.members.into_iter().map(|described| {
            let about = &described.member.description;
            GroupMember {
                member_id: described.member_id,
                instance_id: about.instance_id.clone(),
                client_id: Arc::clone(&about.client_id),
                client_host: Arc::clone(&about.client_host),
                epoch: Some(described.member.current.epoch),
                assigned: described
                    .assigned
                    .into_iter()
                    .map(|topic| (topic.name, topic.partitions))
                    .collect(),
            }
        });
        Ok(GroupView {
            kind: "consumer",
            state: described.state_name,
            protocol_type: CONSUMER.into(),
            assignor: described.assignor,
            epoch: Some(described.epoch),
            members: members.collect(),
        })
    }

    fn view_classic_group(&self, group: &str) -> Result<GroupView, GroupError> {
        let described = self.describe_classic_group(group)?;
        let is_consumer = *described.protocol_type == *CONSUMER;
        let members = described.members.into_iter().map(|member| GroupMember {
            member_id: member.member_id,
            instance_id: member.instance_id,
            client_id: member.client_id,
            client_host: member.client_host,
            epoch: None,
            assigned: read_assignment(&member.assignment)
                .filter(|_| is_consumer)
                .map(|assignment| assignment.partitions)
                .unwrap_or_default(),
        });
        Ok(GroupView {
            kind: "classic",
            state: described.state,
            protocol_type: described.protocol_type,
            assignor: described.protocol.to_string(),
            epoch: None,
            members: members.collect(),
        })
    }
}
