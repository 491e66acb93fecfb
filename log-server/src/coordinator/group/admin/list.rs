//! All groups of a shard, by state and kind.
//! Nothing here changes anything.

use std::sync::Arc;

use crate::coordinator::group::group::Group;
use crate::coordinator::group::shard::GroupShard;

/// A group as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedGroup {
    /// The group.
    pub group: Arc<str>,
    /// "consumer", "connect", …; empty for a group that only commits.
    pub protocol_type: String,
    /// Kafka's name for its state.
    pub state: &'static str,
    /// Kafka's name for its kind.
    pub kind: &'static str,
}

/// Which groups are wanted. Names are Kafka's, in whatever case; an empty list stands for all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupFilter {
    /// In one of these states.
    pub states: Vec<String>,
    /// Of one of these kinds.
    pub kinds: Vec<String>,
}

impl GroupFilter {
    fn wants(&self, state: &str, kind: &str) -> bool {
        has(&self.states, state) && has(&self.kinds, kind)
    }
}

fn has(names: &[String], name: &str) -> bool {
    names.is_empty() || names.iter().any(|each| each.eq_ignore_ascii_case(name))
}

impl GroupShard {
    /// The groups that a filter wants, by name.
    #[must_use]
    pub fn list_groups(&self, filter: &GroupFilter) -> Vec<ListedGroup> {
        self.listed()
            .filter(|listed| filter.wants(listed.state, listed.kind))
            .collect()
    }

    /// All groups, by name.
    pub(super) fn listed(&self) -> impl Iterator<Item = ListedGroup> {
        self.groups.iter().map(|(name, group)| ListedGroup {
            group: Arc::clone(name),
            protocol_type: group.protocol_type().to_owned(),
            state: group.state_name(),
            kind: kind(group),
        })
    }
}

fn kind(group: &Group) -> &'static str {
    match group {
        Group::Classic(_) => "classic",
        Group::Consumer(_) => "consumer",
    }
}
