//! Who reads what in a classic group: its leader works that out with one of these, by Kafka's names.
//!
//! - `range`: runs of neighbouring partitions, topic by topic
//! - `round_robin`: partition by partition, in turn
//! - `cooperative_sticky`: as before, as far as that is fair, and no partition moves before it was given up
//!
//! All are functions of their arguments: the same members and topics give the same answer. Racks are not
//! looked at.

mod cooperative_sticky;
mod range;
mod round_robin;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use log_core::model::TopicPartition;

use crate::consumer_protocol::Subscription;
use crate::error::{Error, Result};

/// A way to work out who reads what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assignor {
    /// Each member gets neighbouring partitions of every topic, so that those of the same number go together.
    Range,
    /// Members get partitions in turn.
    RoundRobin,
    /// Members keep what they have as far as that is fair.
    CooperativeSticky,
}

/// A member, as the group's leader sees it.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub id: String,
    pub instance_id: Option<String>,
    pub subscription: Subscription,
}

/// The number of partitions of each topic that exists.
pub(crate) type PartitionCounts = BTreeMap<Arc<str>, i32>;

/// What each member gets.
pub(crate) type Assignments = BTreeMap<String, Vec<TopicPartition>>;

impl Assignor {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Range, Self::RoundRobin, Self::CooperativeSticky];

    /// Its name in the protocol.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
            Self::CooperativeSticky => "cooperative-sticky",
        }
    }

    /// Whether members may keep their partitions while the group works things out.
    pub(crate) fn is_cooperative(self) -> bool {
        self == Self::CooperativeSticky
    }

    /// Works out who reads what; every member has an entry.
    pub(crate) fn assign(self, members: &[Member], counts: &PartitionCounts) -> Assignments {
        match self {
            Self::Range => range::assign(members, counts),
            Self::RoundRobin => round_robin::assign(members, counts),
            Self::CooperativeSticky => cooperative_sticky::assign(members, counts),
        }
    }
}

impl std::str::FromStr for Assignor {
    type Err = Error;

    /// Reads a name, or the class name by which Java's settings call it.
    fn from_str(text: &str) -> Result<Self> {
        let classes = ["RangeAssignor", "RoundRobinAssignor", "CooperativeStickyAssignor"];
        let class = text.strip_prefix("org.apache.kafka.clients.consumer.");
        let mut both = Self::ALL.into_iter().zip(classes);
        both.find(|(assignor, name)| assignor.name() == text || class == Some(*name))
            .map(|(assignor, _)| assignor)
            .ok_or_else(|| {
                Error::config(format!(
                    "partition.assignment.strategy is one of range, roundrobin and cooperative-sticky, not {text:?}"
                ))
            })
    }
}

impl Member {
    fn wants(&self, topic: &str) -> bool {
        self.subscription.topics.iter().any(|wanted| wanted == topic)
    }
}

/// The members in the order in which they are served: static ones first, by the name they keep.
fn in_order(members: &[Member]) -> Vec<&Member> {
    let mut ordered: Vec<_> = members.iter().collect();
    ordered.sort_by(|one, other| match (&one.instance_id, &other.instance_id) {
        (Some(one), Some(other)) => one.cmp(other),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => one.id.cmp(&other.id),
    });
    ordered
}

/// An entry for each member, without partitions.
fn empty(members: &[Member]) -> Assignments {
    members
        .iter()
        .map(|member| (member.id.clone(), Vec::new()))
        .collect()
}

#[cfg(test)]
mod tests;
