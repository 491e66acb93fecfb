//! Which partition lives in which of a broker's directories, and where the next one is to live.
//! Directories go by their places in the broker's row of them.

use std::collections::HashMap;

use crate::model::TopicPartition;

/// The homes of all partitions.
#[derive(Debug, Default)]
pub(super) struct Homes {
    by_partition: HashMap<TopicPartition, usize>,
    /// How many live in each directory.
    counts: HashMap<usize, usize>,
}

impl Homes {
    /// Where a partition lives.
    pub(super) fn of(&self, partition: &TopicPartition) -> Option<usize> {
        self.by_partition.get(partition).copied()
    }

    /// From now on it lives there.
    pub(super) fn settle(&mut self, partition: &TopicPartition, directory: usize) {
        self.leave(partition);
        self.by_partition.insert(partition.clone(), directory);
        let count = self.counts.entry(directory).or_default();
        *count = count.saturating_add(1);
    }

    /// It lives nowhere any more.
    pub(super) fn leave(&mut self, partition: &TopicPartition) {
        let left = self.by_partition.remove(partition);
        if let Some(count) = left.and_then(|directory| self.counts.get_mut(&directory)) {
            *count = count.saturating_sub(1);
        }
    }

    /// How many partitions live in a directory.
    pub(super) fn count(&self, directory: usize) -> usize {
        self.counts.get(&directory).copied().unwrap_or_default()
    }
}
