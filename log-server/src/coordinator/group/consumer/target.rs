//! The target assignment: computed for a group epoch, written as the difference to the one before.
//! Members learn of theirs with their next heartbeats.

use std::sync::{Arc, LazyLock};

use crate::coordinator::group::consumer::assignment::Assignment;
use crate::coordinator::group::consumer::assignor::{Assignor, assign};
use crate::coordinator::group::consumer::group::ConsumerGroup;
use crate::coordinator::group::consumer::subscription::Outlook;
use crate::coordinator::group::context::Context;
use crate::coordinator::group::record::{ConsumerTargetEpochValue, GroupRecord};

/// What members have that no target knows of.
pub(super) static NOTHING: LazyLock<Arc<Assignment>> = LazyLock::new(Arc::default);

/// What a member is to have, and since which epoch.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) epoch: i32,
    pub(super) assignment: Arc<Assignment>,
}

/// Whether enough time has passed since the last assignment.
pub(super) fn may_assign(group: &ConsumerGroup, context: &Context<'_>) -> bool {
    let interval = i64::from(context.consumer_assignment_interval_ms(&group.id));
    let (last, now) = (group.target_timestamp_ms, context.now.get());
    // A clock that was set back must not stop assignments.
    last == 0 || interval == 0 || last.saturating_add(interval) <= now || now < last
}

/// Computes the target for a group epoch, adds the records, and answers what `member_id` is to have.
pub(super) fn compute(
    outlook: &Outlook<'_>,
    epoch: i32,
    member_id: &str,
    context: &mut Context<'_>,
) -> Target {
    let group = outlook.group;
    let name = outlook.preferred_assignor(&context.settings.consumer_assignors);
    let assignor = name.and_then(Assignor::by_name).unwrap_or(Assignor::Uniform);
    let spec = outlook.spec(context.topics);
    let mut own = Arc::clone(&NOTHING);
    for (member, assignment) in spec.members.iter().zip(assign(assignor, &spec)) {
        let before = group.targets.get_key_value(member.member_id);
        let unchanged = before.is_some_and(|(_, target)| **target == assignment);
        if !unchanged {
            let member_key = before.map(|(key, _)| Arc::clone(key));
            context.records.push(GroupRecord::ConsumerTargetMember {
                group: Arc::clone(&group.id),
                member: member_key.unwrap_or_else(|| member.member_id.into()),
                value: Some(assignment.to_topics()),
            });
        }
        if member.member_id == member_id {
            own = Arc::new(assignment);
        }
    }
    context.records.push(GroupRecord::ConsumerTargetEpoch {
        group: Arc::clone(&group.id),
        value: Some(ConsumerTargetEpochValue {
            assignment_epoch: epoch,
            assignment_timestamp_ms: context.now.get(),
        }),
    });
    tracing::info!(
        group = &*group.id, epoch, members = spec.members.len(), topics = spec.topics.len(), assignor = ?assignor,
        "computed a new target assignment"
    );
    Target {
        epoch,
        assignment: own,
    }
}
