//! Ranges: each topic is cut into as many stretches as it has subscribers, as equal as can be, the longer ones first.
//!
//! Members are ordered by static id, then by member id, those with a static id first: a static member that comes back finds
//! its place, and of two topics with as many partitions and the same subscribers, everybody gets the same stretch.
//! What members have now does not matter. The cost is O(members × log members + subscriptions + partitions).

use crate::coordinator::group::consumer::assignment::Assignment;
use crate::coordinator::group::consumer::assignor::GroupSpec;

pub(super) fn assign(group: &GroupSpec<'_>) -> Vec<Assignment> {
    let mut assignments = vec![Assignment::default(); group.members.len()];
    let ranks = ranks(group);
    for (topic, mut subscribers) in group.topics.iter().zip(group.subscribers()) {
        subscribers.sort_by_key(|member| ranks.get(*member));
        let count = i32::try_from(subscribers.len()).unwrap_or(i32::MAX).max(1);
        let (each, extra) = (topic.partition_count / count, topic.partition_count % count);
        let mut next = 0;
        for (rank, member) in (0..).zip(subscribers) {
            let end = next + each + i32::from(rank < extra);
            if let Some(assignment) = assignments.get_mut(member) {
                (next..end).for_each(|partition| assignment.add(topic.id, partition));
            }
            next = end;
        }
    }
    assignments
}

/// The place of each member in the order of ranges.
fn ranks(group: &GroupSpec<'_>) -> Vec<usize> {
    let mut order: Vec<usize> = (0..group.members.len()).collect();
    order.sort_by_key(|member| {
        let spec = group.members.get(*member);
        let instance_id = spec.and_then(|spec| spec.instance_id);
        (
            instance_id.is_none(),
            instance_id,
            spec.map(|spec| spec.member_id),
        )
    });
    let mut ranks = vec![0; order.len()];
    for (rank, member) in order.into_iter().enumerate() {
        if let Some(place) = ranks.get_mut(member) {
            *place = rank;
        }
    }
    ranks
}
