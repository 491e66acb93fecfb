//! How many groups there are, in which states, and which are the first by name: for those who look every few seconds, however many there are.
//! Nothing here changes anything.

use std::collections::BTreeMap;

use crate::coordinator::group::admin::list::ListedGroup;
use crate::coordinator::group::shard::GroupShard;

/// The groups of a shard, or of several.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// All of them, by Kafka's name for their state.
    pub states: BTreeMap<&'static str, usize>,
    /// The first few, by name.
    pub first: Vec<ListedGroup>,
}

impl Census {
    /// Takes another shard in; of both together the first `first_max` stay.
    pub fn add(&mut self, other: Self, first_max: usize) {
        for (state, count) in other.states {
            *self.states.entry(state).or_default() += count;
        }
        self.first.extend(other.first);
        // Two rows in order, one behind the other, which this sort only merges.
        self.first.sort_by(|a, b| a.group.cmp(&b.group));
        self.first.truncate(first_max);
    }
}

impl GroupShard {
    /// Counts the groups by state, and names the first few.
    #[must_use]
    pub fn census(&self, first_max: usize) -> Census {
        let mut states = BTreeMap::new();
        for group in self.groups.values() {
            *states.entry(group.state_name()).or_default() += 1;
        }
        Census {
            states,
            first: self.listed().take(first_max).collect(),
        }
    }

    /// How many groups there are.
    #[must_use]
    pub fn group_count(&self) -> usize {
        self.groups.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn census(state: &'static str, names: &[&str]) -> Census {
        let listed = |name: &&str| ListedGroup {
            group: (*name).into(),
            protocol_type: String::new(),
            state,
            kind: "classic",
        };
        Census {
            states: BTreeMap::from([(state, names.len())]),
            first: names.iter().map(listed).collect(),
        }
    }

    #[test]
    fn shards_are_added_up_and_the_first_by_name_stay() {
        let mut all = Census::default();
        all.add(census("Empty", &["b", "d", "f"]), 4);
        all.add(census("Stable", &["a", "c"]), 4);
        all.add(census("Empty", &["e"]), 4);
        assert_eq!(all.states, BTreeMap::from([("Empty", 4), ("Stable", 2)]));
        let names: Vec<_> = all.first.iter().map(|listed| &*listed.group).collect();
        assert_eq!(names, ["a", "b", "c", "d"]);
    }
}
