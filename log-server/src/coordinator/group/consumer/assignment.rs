//! Sets of partitions, as a group's members are to have them and as they have them.
//!
//! Invariant: no topic stands in a set without a partition, so that equal sets compare as equal.

use std::collections::BTreeMap;

use log_core::model::TopicId;

use crate::coordinator::group::record::{AssignedPartitions, TopicPartitions};

/// What one member is to have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Assignment {
    topics: BTreeMap<TopicId, Vec<i32>>,
}

impl Assignment {
    /// Adds a partition; adding in order is cheap.
    pub(super) fn add(&mut self, topic_id: TopicId, partition: i32) {
        let partitions = self.topics.entry(topic_id).or_default();
        match partitions.last() {
            Some(last) if partition <= *last => {
                if let Err(place) = partitions.binary_search(&partition) {
                    partitions.insert(place, partition);
                }
            }
            _ => partitions.push(partition),
        }
    }

    /// Whether a partition is in it.
    #[must_use]
    pub fn contains(&self, topic_id: TopicId, partition: i32) -> bool {
        self.of_topic(topic_id).binary_search(&partition).is_ok()
    }

    /// The partitions of one topic, in order.
    #[must_use]
    pub fn of_topic(&self, topic_id: TopicId) -> &[i32] {
        self.topics.get(&topic_id).map_or(&[], Vec::as_slice)
    }

    /// All partitions, topic by topic.
    pub fn iter(&self) -> impl Iterator<Item = (TopicId, i32)> {
        let topics = self.topics.iter();
        topics.flat_map(|(topic_id, partitions)| partitions.iter().map(|partition| (*topic_id, *partition)))
    }

    /// How many partitions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.topics.values().map(Vec::len).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// The topics and their partitions, in order.
    #[must_use]
    pub fn to_topics(&self) -> Vec<TopicPartitions> {
        let topics = self.topics.iter();
        let topics = topics.map(|(topic_id, partitions)| TopicPartitions {
            topic_id: *topic_id,
            partitions: partitions.clone(),
        });
        topics.collect()
    }

    /// The set that a list of topics names; the list may repeat itself.
    #[must_use]
    pub fn from_topics(topics: &[TopicPartitions]) -> Self {
        let mut assignment = Self::default();
        for topic in topics {
            for partition in &topic.partitions {
                assignment.add(topic.topic_id, *partition);
            }
        }
        assignment
    }
}

/// What one member has, and since which of its epochs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnedPartitions {
    topics: BTreeMap<TopicId, BTreeMap<i32, i32>>,
}

impl OwnedPartitions {
    /// Adds a partition that came in an epoch.
    pub(super) fn add(&mut self, topic_id: TopicId, partition: i32, epoch: i32) {
        self.topics.entry(topic_id).or_default().insert(partition, epoch);
    }

    /// Since which epoch the partition is in it, if it is.
    #[must_use]
    pub fn since(&self, topic_id: TopicId, partition: i32) -> Option<i32> {
        self.topics.get(&topic_id)?.get(&partition).copied()
    }

    /// All partitions and their epochs, topic by topic.
    pub fn iter(&self) -> impl Iterator<Item = (TopicId, i32, i32)> {
        let topics = self.topics.iter();
        topics.flat_map(|(topic_id, partitions)| {
            partitions
                .iter()
                .map(|(partition, epoch)| (*topic_id, *partition, *epoch))
        })
    }

    /// The topics, in order.
    pub fn topic_ids(&self) -> impl Iterator<Item = TopicId> {
        self.topics.keys().copied()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// Whether every one of these partitions is in it.
    #[must_use]
    pub fn contains_all(&self, topics: &[TopicPartitions]) -> bool {
        topics.iter().all(|topic| {
            // As in Kafka, a topic without partitions counts as one that has to be there.
            self.topics.get(&topic.topic_id).is_some_and(|owned| {
                let mut partitions = topic.partitions.iter();
                partitions.all(|partition| owned.contains_key(partition))
            })
        })
    }

    /// Whether any of these partitions is in it.
    #[must_use]
    pub fn contains_any(&self, topics: &[TopicPartitions]) -> bool {
        topics.iter().any(|topic| {
            self.topics.get(&topic.topic_id).is_some_and(|owned| {
                let mut partitions = topic.partitions.iter();
                partitions.any(|partition| owned.contains_key(partition))
            })
        })
    }

    /// The topics and their partitions, without the epochs.
    #[must_use]
    pub fn to_topics(&self) -> Vec<TopicPartitions> {
        let topics = self.topics.iter();
        let topics = topics.map(|(topic_id, partitions)| TopicPartitions {
            topic_id: *topic_id,
            partitions: partitions.keys().copied().collect(),
        });
        topics.collect()
    }

    /// As a record has it.
    #[must_use]
    pub fn to_record(&self) -> Vec<AssignedPartitions> {
        let topics = self.topics.iter();
        let topics = topics.map(|(topic_id, partitions)| AssignedPartitions {
            topic_id: *topic_id,
            partitions: partitions.keys().copied().collect(),
            assignment_epochs: partitions.values().copied().collect(),
        });
        topics.collect()
    }

    /// From a record; where it does not say since when, it is `epoch`.
    #[must_use]
    pub fn from_record(topics: &[AssignedPartitions], epoch: i32) -> Self {
        let mut owned = Self::default();
        for topic in topics {
            let known = topic.assignment_epochs.len() == topic.partitions.len();
            for (index, partition) in topic.partitions.iter().enumerate() {
                let since = topic.assignment_epochs.get(index).filter(|_| known);
                owned.add(topic.topic_id, *partition, since.copied().unwrap_or(epoch));
            }
        }
        owned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_ordered_and_has_everything_once() {
        let topic = TopicId::from_bytes([1; 16]);
        let mut set = Assignment::default();
        for partition in [3, 1, 2, 3, 1] {
            set.add(topic, partition);
        }
        assert_eq!((set.of_topic(topic), set.len()), (&[1, 2, 3][..], 3));
        assert_eq!(Assignment::from_topics(&set.to_topics()), set);
    }

    #[test]
    fn a_record_without_epochs_counts_from_the_members_own() {
        let topic = TopicId::from_bytes([1; 16]);
        let mut owned = OwnedPartitions::default();
        owned.add(topic, 1, 4);
        owned.add(topic, 0, 7);
        let mut record = owned.to_record();
        assert_eq!(OwnedPartitions::from_record(&record, 9), owned);
        record[0].assignment_epochs.pop();
        let unknown = OwnedPartitions::from_record(&record, 9);
        assert_eq!(
            (unknown.since(topic, 0), unknown.since(topic, 1)),
            (Some(9), Some(9))
        );
    }
}
