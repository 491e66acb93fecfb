//! What members of KIP-848 groups have time for: their sessions, and giving partitions up.
//! Who runs out of it is removed from the group. Timers are set by commands and lost at a restart, when all of them begin anew.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::coordinator::group::consumer::group::ConsumerGroup;
use crate::coordinator::group::consumer::member::{LEAVE_STATIC_EPOCH, Member};
use crate::coordinator::group::context::Context;
use crate::coordinator::group::group::Group;
use crate::coordinator::group::record::{GroupRecord, MemberState};
use crate::coordinator::group::shard::GroupShard;
use crate::coordinator::group::timers::{TimerKey, TimerKind, Timers};

const KINDS: [TimerKind; 4] = [
    TimerKind::ConsumerSession,
    TimerKind::ConsumerRebalance,
    TimerKind::ConsumerClassicJoin,
    TimerKind::ConsumerClassicSync,
];

fn key(group_id: &Arc<str>, member_id: &Arc<str>, kind: TimerKind) -> TimerKey {
    TimerKey {
        group: Arc::clone(group_id),
        member: Arc::clone(member_id),
        kind,
    }
}

/// Begins a member's session anew.
pub(super) fn start_session(
    timers: &mut Timers,
    context: &Context<'_>,
    group_id: &Arc<str>,
    member_id: &Arc<str>,
    member: &Member,
) {
    let own = member
        .description
        .classic
        .as_ref()
        .map(|classic| classic.session_timeout_ms);
    let timeout = own.unwrap_or_else(|| context.consumer_session_timeout_ms(group_id));
    start(
        timers,
        context,
        group_id,
        member_id,
        TimerKind::ConsumerSession,
        timeout,
    );
}

/// Begins a classic member's time to join again, if it does not run already.
pub(super) fn start_join(
    timers: &mut Timers,
    context: &Context<'_>,
    group_id: &Arc<str>,
    member_id: &Arc<str>,
    member: &Member,
) {
    let kind = TimerKind::ConsumerClassicJoin;
    if timers.deadline(&key(group_id, member_id, kind)).is_none() {
        let timeout = member.description.rebalance_timeout_ms;
        start(timers, context, group_id, member_id, kind, timeout);
    }
}

/// Begins a member's time for something.
pub(super) fn start(
    timers: &mut Timers,
    context: &Context<'_>,
    group_id: &Arc<str>,
    member_id: &Arc<str>,
    kind: TimerKind,
    timeout_ms: i32,
) {
    let deadline = context.steady.saturating_plus(i64::from(timeout_ms.max(0)));
    timers.set(key(group_id, member_id, kind), deadline);
}

/// Ends it.
pub(super) fn cancel(timers: &mut Timers, group_id: &Arc<str>, member_id: &Arc<str>, kind: TimerKind) {
    timers.cancel(&key(group_id, member_id, kind));
}

/// Ends what only classic members have time for.
pub(super) fn stop_classic(timers: &mut Timers, group_id: &Arc<str>, member_id: &Arc<str>) {
    cancel(timers, group_id, member_id, TimerKind::ConsumerClassicJoin);
    cancel(timers, group_id, member_id, TimerKind::ConsumerClassicSync);
}

/// Goes over to a classic group: its members' sessions begin, and it rebalances as soon as the records are replayed.
pub(super) fn begin_classic(
    timers: &mut Timers,
    context: &Context<'_>,
    group: &ConsumerGroup,
    gone: &BTreeSet<Arc<str>>,
) {
    for (member_id, member) in &group.members {
        forget(timers, &group.id, member_id);
        if let Some(classic) = member
            .description
            .classic
            .as_ref()
            .filter(|_| !gone.contains(member_id))
        {
            let timeout = classic.session_timeout_ms;
            start(
                timers,
                context,
                &group.id,
                member_id,
                TimerKind::ClassicSession,
                timeout,
            );
        }
    }
    start(
        timers,
        context,
        &group.id,
        &"".into(),
        TimerKind::ClassicDowngraded,
        0,
    );
}

/// Sets or stops the time for giving partitions up, as the member's new state has it.
pub(super) fn follow_state(
    timers: &mut Timers,
    context: &Context<'_>,
    group_id: &Arc<str>,
    member_id: &Arc<str>,
    member: &Member,
) {
    let key = key(group_id, member_id, TimerKind::ConsumerRebalance);
    if has_to_revoke(member) && !member.is_classic() {
        let timeout = i64::from(member.description.rebalance_timeout_ms);
        timers.set(key, context.steady.saturating_plus(timeout));
    } else {
        timers.cancel(&key);
    }
}

/// Whether the member is to give something up. A static one that is away has given up all that it was to, and has its session's time to come back.
fn has_to_revoke(member: &Member) -> bool {
    let current = &member.current;
    current.state == MemberState::UnrevokedPartitions && current.epoch != LEAVE_STATIC_EPOCH
}

/// Stops all timers of a member that goes.
pub(super) fn forget(timers: &mut Timers, group_id: &Arc<str>, member_id: &Arc<str>) {
    for kind in KINDS {
        timers.cancel(&key(group_id, member_id, kind));
    }
}

impl GroupShard {
    /// Sets the timers of all members when a shard was loaded: their sessions begin now.
    pub(in crate::coordinator::group) fn consumer_loaded(&mut self, context: &Context<'_>) {
        for group in self.groups.values() {
            if let Group::Consumer(group) = group {
                begin(&mut self.timers, context, group);
            }
        }
    }

    /// Sets timers anew that the refused command stopped: its members are still there.
    pub(in crate::coordinator::group) fn consumer_write_refused(
        &mut self,
        records: &[GroupRecord],
        context: &Context<'_>,
    ) {
        // A group that had no members is not gone after all.
        let is_of = |group: &ConsumerGroup, record: &GroupRecord| matches!(record, GroupRecord::ConsumerGroup { group: id, value: None } if *id == group.id);
        if let Some(group) = self
            .ended
            .take()
            .filter(|group| records.iter().any(|record| is_of(group, record)))
        {
            self.groups.insert(Arc::clone(&group.id), Group::Consumer(group));
        }
        for record in records {
            let (GroupRecord::ConsumerCurrentMember { group, .. }
            | GroupRecord::ConsumerMember { group, .. }) = record
            else {
                continue;
            };
            if let Some(Group::Consumer(group)) = self.groups.get(group) {
                begin(&mut self.timers, context, group);
            }
        }
    }

    /// A member was not heard of in time.
    pub(in crate::coordinator::group) fn consumer_timer(
        &mut self,
        context: &mut Context<'_>,
        due: &TimerKey,
    ) {
        let Some(Group::Consumer(group)) = self.groups.get(&due.group) else {
            return;
        };
        let Some((member_id, member)) = group.members.get_key_value(&due.member) else {
            return;
        };
        let overdue = match due.kind {
            TimerKind::ConsumerRebalance => has_to_revoke(member),
            _ => true,
        };
        if overdue {
            tracing::info!(
                group = &*due.group, member = &*due.member, epoch = member.current.epoch, timer = ?due.kind,
                "removed a member that was not heard of in time"
            );
            let member_id = Arc::clone(member_id);
            self.remove_members(context, &due.group, &BTreeSet::from([member_id]));
        }
    }
}

/// Sets the timers of a group's members where they are missing.
fn begin(timers: &mut Timers, context: &Context<'_>, group: &ConsumerGroup) {
    for (member_id, member) in &group.members {
        if timers
            .deadline(&key(&group.id, member_id, TimerKind::ConsumerSession))
            .is_none()
        {
            start_session(timers, context, &group.id, member_id, member);
        }
        let revokes = key(&group.id, member_id, TimerKind::ConsumerRebalance);
        if timers.deadline(&revokes).is_none() {
            follow_state(timers, context, &group.id, member_id, member);
        }
    }
}
