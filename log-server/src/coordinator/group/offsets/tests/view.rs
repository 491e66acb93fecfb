//! Pending offsets as tests outside this module look at them.
//! Nothing here changes anything.

use std::sync::Arc;

use log_core::model::ProducerId;

use crate::coordinator::group::offsets::pending::{PendingOffsets, Place};
use crate::coordinator::group::record::OffsetCommitValue;

impl PendingOffsets {
    /// All there are, in the order of their records, and whether something newer counts in the place of each.
    pub(in crate::coordinator::group) fn in_order(
        &self,
    ) -> Vec<(ProducerId, Place, &OffsetCommitValue, bool)> {
        let mut found = Vec::new();
        for (group, topics) in &self.groups {
            for (topic, partitions) in topics {
                for (partition, producers) in partitions {
                    let place = || (Arc::clone(group), Arc::clone(topic), *partition);
                    let rows = producers.iter();
                    found.extend(rows.map(|(producer, pending)| (pending.at, *producer, place(), pending)));
                }
            }
        }
        found.sort_unstable_by_key(|(at, ..)| *at);
        let rows = found.into_iter();
        rows.map(|(_, producer, place, pending)| (producer, place, &pending.value, pending.is_overtaken))
            .collect()
    }
}
