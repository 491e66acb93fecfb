//! `range`: topic by topic, each member gets as many neighbouring partitions as the next; what does not divide
//! goes to the first members, one each.

use log_core::model::TopicPartition;

use super::{Assignments, Member, PartitionCounts, empty, in_order};

pub(super) fn assign(members: &[Member], counts: &PartitionCounts) -> Assignments {
    let mut assignments = empty(members);
    let ordered = in_order(members);
    for (topic, count) in counts {
        let readers: Vec<_> = ordered.iter().filter(|member| member.wants(topic)).collect();
        let Some(share) = i32::try_from(readers.len())
            .ok()
            .and_then(|readers| count.checked_div(readers))
        else {
            continue;
        };
        let mut rest = i32::try_from(readers.len()).map_or(0, |readers| count % readers);
        let mut next = 0;
        for reader in readers {
            let own = share + i32::from(0 < rest);
            rest = (rest - 1).max(0);
            if let Some(assignment) = assignments.get_mut(&reader.id) {
                assignment.extend(
                    (next..next + own).map(|index| TopicPartition::new(std::sync::Arc::clone(topic), index)),
                );
            }
            next += own;
        }
    }
    assignments
}
