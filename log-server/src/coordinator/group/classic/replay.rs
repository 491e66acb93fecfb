//! From the group's record to the group, live and at a start; and the way back from a record that could not be written.
//!
//! Live, most of what a record says is there already, because joins and syncs went before it. What clients said beyond the record
//! (protocols that were not chosen) is kept, and does not survive a restart.

use std::sync::Arc;

use log_core::model::TimestampMs;

use crate::coordinator::group::classic::group::{ClassicGroup, ClassicState, Replacement};
use crate::coordinator::group::classic::member::ClassicMember;
use crate::coordinator::group::classic::rebalance::Work;
use crate::coordinator::group::context::Context;
use crate::coordinator::group::group::Group;
use crate::coordinator::group::record::{ClassicGroupValue, ClassicMemberValue, GroupRecord};
use crate::coordinator::group::shard::GroupShard;
use crate::coordinator::group::timers::{TimerKey, TimerKind, Timers};

impl GroupShard {
    pub(in crate::coordinator::group) fn replay_classic_group(
        &mut self,
        name: &str,
        value: Option<&ClassicGroupValue>,
    ) {
        let Some(value) = value else {
            if let Some(Group::Classic(group)) = self.groups.get(name) {
                cancel_timers(name, group, &mut self.timers);
                self.groups.remove(name);
            }
            return;
        };
        let before = match self.groups.remove(name) {
            Some(Group::Classic(group)) => *group,
            Some(Group::Consumer(_)) | None => ClassicGroup::default(),
        };
        let group = Box::new(before.with_record(value));
        self.groups.insert(name.into(), Group::Classic(group));
    }

    /// Takes back what a command did to groups beside the records that could not be written. Whom the command answered is
    /// told by the runtime to try again; others may be answered through the context.
    pub(in crate::coordinator::group) fn classic_write_refused(
        &mut self,
        records: &[GroupRecord],
        context: &mut Context<'_>,
    ) {
        for record in records {
            let GroupRecord::ClassicGroup { group, value } = record else {
                continue;
            };
            if let Some(mut work) = self.classic_work(group, context) {
                match value {
                    Some(_) => work.write_refused(),
                    None => work.upgrade_refused(),
                }
            }
            self.forget_if_unused(group);
        }
    }
}

impl Work<'_, '_> {
    /// The group was to go over to the other protocol, and who waited was told to join again.
    fn upgrade_refused(&mut self) {
        if self.group.state == ClassicState::CompletingRebalance {
            self.prepare_rebalance("the group could not go over to the other protocol");
        }
    }

    /// A record of the group was not written.
    fn write_refused(&mut self) {
        if self.is_deserted() {
            // That it is empty stands in no record, so that it is not: a restart would bring its members back.
            self.retry_join();
        } else if let Some(Replacement { old_id, new_id, .. }) = self.group.replacement.take() {
            self.cancel_timer(&new_id, TimerKind::ClassicSession);
            self.begin_session(&old_id);
        } else if self.group.state == ClassicState::CompletingRebalance {
            self.prepare_rebalance("the assignment could not be written");
        }
    }
}

/// Ends everything that was to happen to a group.
pub(super) fn cancel_timers(name: &str, group: &ClassicGroup, timers: &mut Timers) {
    let name: Arc<str> = name.into();
    let mut cancel = |member: &Arc<str>, kind| {
        timers.cancel(&TimerKey {
            group: Arc::clone(&name),
            member: Arc::clone(member),
            kind,
        });
    };
    for member in group.members.keys() {
        cancel(member, TimerKind::ClassicSession);
    }
    for member in &group.pending_joins {
        cancel(member, TimerKind::ClassicPendingJoin);
    }
    let whole: Arc<str> = "".into();
    cancel(&whole, TimerKind::ClassicJoin);
    cancel(&whole, TimerKind::ClassicPendingSync);
}

impl ClassicGroup {
    /// The group as a record says it is, with what is known of its members beside.
    #[must_use]
    pub(super) fn with_record(self, value: &ClassicGroupValue) -> Self {
        let Self {
            mut members,
            pending_joins,
            pending_syncs,
            replacement,
            ..
        } = self;
        let mut group = Self::default();
        group.generation = value.generation;
        group.pending_joins = pending_joins;
        group.is_recorded = true;
        if let Some(Replacement {
            old_id,
            new_id,
            member,
        }) = replacement
        {
            members.remove(&old_id);
            if pending_syncs.contains(&old_id) {
                group.pending_syncs.insert(Arc::clone(&new_id));
            }
            members.insert(new_id, member);
        }
        for described in &value.members {
            let is_twice = described
                .instance_id
                .as_ref()
                .is_some_and(|id| group.static_members.contains_key(id));
            if is_twice || group.members.contains_key(&described.member_id) {
                // Nobody writes such a record.
                continue;
            }
            let known = members.remove(&described.member_id);
            let member = member_with_record(known, described, value.protocol.as_ref());
            group.add(Arc::clone(&described.member_id), &value.protocol_type, member);
            if pending_syncs.contains(&described.member_id) {
                group.pending_syncs.insert(Arc::clone(&described.member_id));
            }
        }
        group.state = if value.members.is_empty() {
            ClassicState::Empty
        } else {
            ClassicState::Stable
        };
        let since = TimestampMs::new(value.state_timestamp_ms);
        group.state_since = (since != TimestampMs::NONE).then_some(since);
        group.protocol_type = (!value.protocol_type.is_empty()).then(|| Arc::clone(&value.protocol_type));
        group.protocol.clone_from(&value.protocol);
        match &value.leader {
            Some(leader) if group.members.contains_key(leader) => group.leader = Some(Arc::clone(leader)),
            // Nobody writes such a record. The first member leads.
            Some(_) => {}
            None => group.leader = None,
        }
        group.find_subscribed_topics();
        group
    }
}

/// A member as a record says it is. What it speaks beside the chosen protocol is known only if it joined here.
fn member_with_record(
    known: Option<ClassicMember>,
    value: &ClassicMemberValue,
    protocol: Option<&Arc<str>>,
) -> ClassicMember {
    let mut member = ClassicMember::from_value(value, protocol);
    if let Some(known) = known {
        let same = |name: &Arc<str>| known.protocols.metadata(name) == Some(&value.subscription);
        if protocol.is_some_and(same) {
            member.protocols = known.protocols;
        }
    }
    member
}
