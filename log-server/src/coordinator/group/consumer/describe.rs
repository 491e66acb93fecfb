//! A KIP-848 group as administrators see it.
//! Topics that do not exist any longer are left out, for they have no name.

use std::collections::BTreeSet;
use std::sync::Arc;

use log_core::model::TopicId;

use crate::coordinator::group::consumer::assignment::Assignment;
use crate::coordinator::group::consumer::group::ConsumerGroup;
use crate::coordinator::group::consumer::member::Member;
use crate::coordinator::group::consumer::regex::Regexes;
use crate::coordinator::group::consumer::subscription::Outlook;
use crate::coordinator::group::context::{Context, Topics};
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::group::Group;
use crate::coordinator::group::record::TopicPartitions;
use crate::coordinator::group::shard::GroupShard;

/// A group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedGroup {
    /// Its id.
    pub group_id: Arc<str>,
    /// Kafka's name for its state.
    pub state_name: &'static str,
    /// Its epoch.
    pub epoch: i32,
    /// The epoch of its target assignment.
    pub target_epoch: i32,
    /// The assignor that it would use now.
    pub assignor: String,
    /// Its members, in the order of their ids.
    pub members: Vec<DescribedMember>,
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedMember {
    /// Its id.
    pub member_id: Arc<str>,
    /// What it says of itself, its epoch and its partitions.
    pub member: Member,
    /// What it has, until it has given it up.
    pub assigned: Vec<DescribedTopic>,
    /// What it is to have.
    pub target: Vec<DescribedTopic>,
}

/// Partitions of a topic that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedTopic {
    /// Its id.
    pub topic_id: TopicId,
    /// Its name.
    pub name: Arc<str>,
    /// The partitions, in order.
    pub partitions: Vec<i32>,
}

impl GroupShard {
    /// Describes a group.
    ///
    /// # Errors
    /// There is none of this name, or it is of another kind.
    pub fn describe_consumer_group(
        &self,
        context: &Context<'_>,
        group_id: &str,
    ) -> Result<DescribedGroup, GroupError> {
        match self.groups.get(group_id) {
            Some(Group::Consumer(group)) => Ok(group.describe(context)),
            Some(Group::Classic(_)) => {
                let text = format!("Group {group_id} is not a consumer group.");
                Err(GroupError::GroupIdNotFound(text))
            }
            None => Err(GroupError::GroupIdNotFound(format!(
                "Group {group_id} not found."
            ))),
        }
    }
}

impl ConsumerGroup {
    fn describe(&self, context: &Context<'_>) -> DescribedGroup {
        let none = Regexes::new();
        let outlook = Outlook::without(self, &none, &BTreeSet::new());
        let assignor = outlook.preferred_assignor(&context.settings.consumer_assignors);
        let members = self.members.iter().map(|(member_id, member)| DescribedMember {
            member_id: Arc::clone(member_id),
            member: member.clone(),
            assigned: named(context.topics, held(member).to_topics()),
            target: named(context.topics, self.target(member_id).to_topics()),
        });
        DescribedGroup {
            group_id: Arc::clone(&self.id),
            state_name: self.state_name(),
            epoch: self.epoch,
            target_epoch: self.target_epoch,
            assignor: assignor.unwrap_or_default().to_owned(),
            members: members.collect(),
        }
    }
}

/// What nobody else may have: also what the member has been told to give up, and perhaps still reads.
fn held(member: &Member) -> Assignment {
    let mut held = Assignment::default();
    let current = &member.current;
    for (topic_id, partition, _) in current.assigned.iter().chain(current.revoking.iter()) {
        held.add(topic_id, partition);
    }
    held
}

fn named(topics: &dyn Topics, partitions: Vec<TopicPartitions>) -> Vec<DescribedTopic> {
    let named = partitions.into_iter().filter_map(|topic| {
        Some(DescribedTopic {
            topic_id: topic.topic_id,
            name: topics.by_id(topic.topic_id)?.name,
            partitions: topic.partitions,
        })
    });
    named.collect()
}
