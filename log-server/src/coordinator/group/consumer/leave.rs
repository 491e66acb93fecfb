//! Members that go: by their own will, for a while, or because they were not heard of in time.
//! What they had is free with the records of their going, and the others get it with their next heartbeats.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::coordinator::group::consumer::assignment::OwnedPartitions;
use crate::coordinator::group::consumer::group::ConsumerGroup;
use crate::coordinator::group::consumer::heartbeat::{HeartbeatRequest, HeartbeatResponse, add_epoch};
use crate::coordinator::group::consumer::member::{Current, LEAVE_STATIC_EPOCH};
use crate::coordinator::group::consumer::migration::{downgrade, is_to_downgrade};
use crate::coordinator::group::consumer::subscription::Outlook;
use crate::coordinator::group::consumer::timers;
use crate::coordinator::group::context::Context;
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::group::Group;
use crate::coordinator::group::record::GroupRecord;
use crate::coordinator::group::shard::GroupShard;

impl GroupShard {
    /// A heartbeat with an epoch below zero.
    pub(super) fn consumer_leave(
        &mut self,
        context: &mut Context<'_>,
        request: &HeartbeatRequest,
    ) -> Result<HeartbeatResponse, GroupError> {
        let group = match self.groups.get(&request.group_id) {
            Some(Group::Consumer(group)) => group,
            Some(Group::Classic(_)) => {
                let text = format!("Group {} is not a consumer group.", request.group_id);
                return Err(GroupError::GroupIdNotFound(text));
            }
            None => {
                let text = format!("Group {} not found.", request.group_id);
                return Err(GroupError::GroupIdNotFound(text));
            }
        };
        let (member_id, member) = match &request.instance_id {
            Some(instance_id) => group.static_member(instance_id, &request.member_id)?,
            None => group.member(&request.member_id)?,
        };
        let (member_id, member) = (Arc::clone(member_id), member.clone());
        if request.member_epoch == LEAVE_STATIC_EPOCH && request.instance_id.is_some() {
            // Its session goes on: if nobody takes its place before the session ends, it is removed.
            let away = Current {
                epoch: LEAVE_STATIC_EPOCH,
                revoking: OwnedPartitions::default(),
                ..(*member.current).clone()
            };
            context.records.push(GroupRecord::ConsumerCurrentMember {
                group: Arc::clone(&group.id),
                member: Arc::clone(&member_id),
                value: Some(away.to_record()),
            });
        } else {
            self.remove_members(context, &request.group_id, &BTreeSet::from([member_id]));
        }
        Ok(HeartbeatResponse {
            member_id: Arc::clone(&request.member_id),
            member_epoch: request.member_epoch,
            heartbeat_interval_ms: 0,
            assignment: None,
        })
    }

    /// Removes members from a group, and raises its epoch.
    pub(super) fn remove_members(
        &mut self,
        context: &mut Context<'_>,
        group_id: &str,
        gone: &BTreeSet<Arc<str>>,
    ) {
        let Some(Group::Consumer(group)) = self.groups.get(group_id) else {
            return;
        };
        if is_to_downgrade(group, context, gone) {
            downgrade(group, context, gone);
            timers::begin_classic(&mut self.timers, context, group, gone);
            return;
        }
        for member_id in gone {
            context
                .records
                .append(&mut member_tombstones(&group.id, member_id));
            timers::forget(&mut self.timers, &group.id, member_id);
        }
        forget_regexes(group, context, gone);
        let outlook = Outlook::without(group, &group.regexes, gone);
        let metadata_hash = outlook.metadata_hash(context.topics);
        add_epoch(group, context, metadata_hash);
    }
}

/// The records by which a member is no more. Their order is Kafka's.
pub(super) fn member_tombstones(group_id: &Arc<str>, member_id: &Arc<str>) -> Vec<GroupRecord> {
    let names = || (Arc::clone(group_id), Arc::clone(member_id));
    let (group, member) = names();
    let current = GroupRecord::ConsumerCurrentMember {
        group,
        member,
        value: None,
    };
    let (group, member) = names();
    let target = GroupRecord::ConsumerTargetMember {
        group,
        member,
        value: None,
    };
    let (group, member) = names();
    let description = GroupRecord::ConsumerMember {
        group,
        member,
        value: None,
    };
    vec![current, target, description]
}

/// Removes the patterns that nobody else is subscribed to.
fn forget_regexes(group: &ConsumerGroup, context: &mut Context<'_>, gone: &BTreeSet<Arc<str>>) {
    if group.regexes.is_empty() {
        return;
    }
    let staying = group.members.iter().filter(|(id, _)| !gone.contains(*id));
    let used: BTreeSet<&str> = staying
        .filter_map(|(_, member)| member.description.subscribed_regex.as_deref())
        .collect();
    for regex in group.regexes.keys() {
        if !used.contains(&**regex) {
            context.records.push(GroupRecord::ConsumerRegex {
                group: Arc::clone(&group.id),
                regex: Arc::clone(regex),
                value: None,
            });
        }
    }
}
