//! Who is to have which partition: the assignors that a group may choose between.
//!
//! They are functions of what the members are subscribed to and of what they are to have now, nothing else: the same input gives
//! the same output. Every partition of a subscribed topic goes to exactly one of its subscribers.

mod range;
mod uniform;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use log_core::model::TopicId;

use crate::coordinator::group::consumer::assignment::Assignment;

/// A way to assign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assignor {
    /// Everybody gets the same number, and keeps what it has.
    Uniform,
    /// Everybody gets a range of each topic, so that equal partitions of topics meet at one member.
    Range,
}

impl Assignor {
    /// By its name in requests and settings.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        match name {
            "uniform" => Some(Self::Uniform),
            "range" => Some(Self::Range),
            _ => None,
        }
    }
}

/// A topic that somebody is subscribed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicSpec {
    /// The topic.
    pub id: TopicId,
    /// Its partitions are 0 to this number, exclusive.
    pub partition_count: i32,
}

/// A member.
#[derive(Debug, Clone)]
pub struct MemberSpec<'a> {
    /// Its id.
    pub member_id: &'a str,
    /// Its static id.
    pub instance_id: Option<&'a str>,
    /// The topics it is subscribed to: places in [`GroupSpec::topics`], in order.
    pub topics: Arc<[usize]>,
    /// What it is to have so far.
    pub target: &'a Assignment,
}

/// A group.
#[derive(Debug, Clone, Default)]
pub struct GroupSpec<'a> {
    /// All topics that members are subscribed to.
    pub topics: Vec<TopicSpec>,
    /// All members, in the order of their ids.
    pub members: Vec<MemberSpec<'a>>,
}

impl GroupSpec<'_> {
    /// Whether all members are subscribed to the same topics.
    fn is_homogeneous(&self) -> bool {
        let mut pairs = self.members.iter().zip(self.members.iter().skip(1));
        pairs.all(|(one, other)| Arc::ptr_eq(&one.topics, &other.topics) || one.topics == other.topics)
    }

    fn place_of_topic(&self) -> HashMap<TopicId, usize> {
        let topics = self.topics.iter().enumerate();
        topics.map(|(place, topic)| (topic.id, place)).collect()
    }

    /// The members that are subscribed to each topic, by place.
    fn subscribers(&self) -> Vec<Vec<usize>> {
        let mut subscribers = vec![Vec::new(); self.topics.len()];
        for (member, spec) in self.members.iter().enumerate() {
            for topic in spec.topics.iter() {
                if let Some(of_topic) = subscribers.get_mut(*topic) {
                    of_topic.push(member);
                }
            }
        }
        subscribers
    }
}

/// What each member is to have, in the order of [`GroupSpec::members`].
#[must_use]
pub fn assign(assignor: Assignor, group: &GroupSpec<'_>) -> Vec<Assignment> {
    match assignor {
        Assignor::Uniform => uniform::assign(group),
        Assignor::Range => range::assign(group),
    }
}
