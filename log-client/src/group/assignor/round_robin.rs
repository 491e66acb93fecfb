//! `roundrobin`: all partitions of all topics in order, each to the next member that wants its topic.
//! The turn goes on from one topic to the next, so that the first member is not always first.

use std::sync::Arc;

use log_core::model::TopicPartition;

use super::{Assignments, Member, PartitionCounts, empty, in_order};

pub(super) fn assign(members: &[Member], counts: &PartitionCounts) -> Assignments {
    let mut assignments = empty(members);
    let ordered = in_order(members);
    let mut turn = ordered.iter().cycle();
    for (topic, count) in counts {
        if !ordered.iter().any(|member| member.wants(topic)) {
            continue;
        }
        for index in 0..*count {
            // There is one, so that going round finds it.
            let Some(reader) = turn.find(|member| member.wants(topic)) else {
                break;
            };
            if let Some(assignment) = assignments.get_mut(&reader.id) {
                assignment.push(TopicPartition::new(Arc::clone(topic), index));
            }
        }
    }
    assignments
}
