//! Members of the classic protocol in a KIP-848 group: they join, sync and send heartbeats as ever, and find
//! nothing to assign.
//!
//! A join is a heartbeat that says everything, a sync fetches what it gave, and a heartbeat tells the member to join again when
//! there is a step for it to take. What a member holds at a sync is what its last join was answered for.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use log_core::model::TopicId;

use crate::coordinator::group::classic::heartbeat::HeartbeatRequest;
use crate::coordinator::group::classic::join::JoinRequest;
use crate::coordinator::group::classic::leave::LeavingMember;
use crate::coordinator::group::classic::reply::{JoinRefused, Joined, Reply, Synced};
use crate::coordinator::group::classic::sync::SyncRequest;
use crate::coordinator::group::consumer::assignment::Assignment;
use crate::coordinator::group::consumer::group::ConsumerGroup;
use crate::coordinator::group::consumer::heartbeat::{check_not_full, replace_member, step};
use crate::coordinator::group::consumer::member::{Member, new_member};
use crate::coordinator::group::consumer::migration::{
    downgrade, embedded_assignment, in_order, is_to_downgrade, places,
};
use crate::coordinator::group::consumer::target::may_assign;
use crate::coordinator::group::consumer::timers;
use crate::coordinator::group::context::{Context, Ticket};
use crate::coordinator::group::embedded::{CONSUMER, Subscription, read_subscription};
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::group::Group;
use crate::coordinator::group::record::{ClassicMemberMetadata, ConsumerMemberValue, MemberState};
use crate::coordinator::group::shard::GroupShard;
use crate::coordinator::group::timers::TimerKind;

impl GroupShard {
    /// A classic member joins a KIP-848 group. It is answered at once.
    pub(in crate::coordinator::group) fn join_consumer_group(
        &mut self,
        context: &mut Context<'_>,
        request: &JoinRequest,
        ticket: Ticket,
    ) {
        let answer = self.join_as_classic(context, request);
        if answer.is_err() {
            context.records.clear();
        }
        context.replies.push((ticket, Reply::Join(answer)));
    }

    fn join_as_classic(
        &mut self,
        context: &mut Context<'_>,
        request: &JoinRequest,
    ) -> Result<Joined, JoinRefused> {
        let refuse = |error, member_id: &Arc<str>| JoinRefused {
            error,
            member_id: Arc::clone(member_id),
        };
        let Self { groups, timers, .. } = self;
        let Some(Group::Consumer(group)) = groups.get(&request.group) else {
            return Err(refuse(GroupError::NotCoordinator, &request.member_id));
        };
        let mut group: Cow<'_, ConsumerGroup> = Cow::Borrowed(group);
        let has_id = !request.member_id.is_empty();
        let mut member_id = Arc::clone(&request.member_id);
        if !has_id {
            member_id = TopicId::from_bytes((context.random_id)()).to_string().into();
        }
        check_not_full(&group, &member_id, context.settings).map_err(|error| refuse(error, &"".into()))?;
        if !supports(&group, request) {
            return Err(refuse(GroupError::InconsistentGroupProtocol, &request.member_id));
        }
        if !has_id && request.instance_id.is_none() && request.id_required {
            return Err(refuse(GroupError::MemberIdRequired, &member_id));
        }
        let first = request.protocols.as_slice().first();
        let subscription = first.and_then(|(_, metadata)| read_subscription(metadata));
        let subscription =
            subscription.ok_or_else(|| refuse(GroupError::InconsistentGroupProtocol, &request.member_id))?;
        let before = find_member(&mut group, context, &member_id, has_id, request)
            .map_err(|error| refuse(error, &request.member_id))?;
        let description = describe(request, &subscription, &before.description);
        let mut owned = Assignment::default();
        for (topic_id, partition) in places(&subscription.owned, context.topics) {
            owned.add(topic_id, partition);
        }
        let outcome = step(
            &group,
            context,
            &member_id,
            &before,
            description,
            Some(&owned.to_topics()),
        )
        .map_err(|error| refuse(error, &request.member_id))?;
        timers::cancel(timers, &group.id, &member_id, TimerKind::ConsumerClassicJoin);
        timers::cancel(timers, &group.id, &member_id, TimerKind::ConsumerRebalance);
        timers::start_session(timers, context, &group.id, &member_id, &outcome.updated);
        let timeout = request.rebalance_timeout_ms;
        timers::start(
            timers,
            context,
            &group.id,
            &member_id,
            TimerKind::ConsumerClassicSync,
            timeout,
        );
        if matches!(group, Cow::Owned(_)) {
            // A static member took the place of one that may have been the last of the other protocol.
            let group = group.to_mut();
            for record in &context.records {
                group.replay(record);
            }
            let nobody = BTreeSet::new();
            if is_to_downgrade(group, context, &nobody) {
                downgrade(group, context, &nobody);
                timers::begin_classic(timers, context, group, &nobody);
            }
        }
        Ok(Joined {
            generation: outcome.updated.current.epoch,
            protocol_type: Some(CONSUMER.into()),
            protocol: first.map(|(name, _)| Arc::clone(name)),
            leader: "".into(),
            skip_assignment: false,
            member_id,
            members: Vec::new(),
        })
    }

    /// A classic member of a KIP-848 group asks for what it has.
    pub(in crate::coordinator::group) fn sync_consumer_group(
        &mut self,
        context: &mut Context<'_>,
        request: &SyncRequest,
        ticket: Ticket,
    ) {
        let answer = self.sync_as_classic(context, request);
        context.replies.push((ticket, Reply::Sync(answer)));
    }

    fn sync_as_classic(
        &mut self,
        context: &mut Context<'_>,
        request: &SyncRequest,
    ) -> Result<Synced, GroupError> {
        let Self { groups, timers, .. } = self;
        let group = classic_side(groups.get(&request.group), &request.member_id)?;
        let (member_id, member) = classic_member(group, &request.member_id, request.instance_id.as_deref())?;
        if member.current.epoch != request.generation {
            return Err(GroupError::IllegalGeneration);
        }
        let protocols = member
            .description
            .classic
            .as_ref()
            .and_then(|classic| classic.protocols.first());
        let other_type = request
            .protocol_type
            .as_deref()
            .is_some_and(|kind| kind != CONSUMER);
        let other_name =
            request.protocol.is_some() && request.protocol.as_ref() != protocols.map(|(name, _)| name);
        if other_type || other_name {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        // Who still has to give something up has rejoined already; it gives up first.
        if group.is_behind(member, context) && member.current.state != MemberState::UnrevokedPartitions {
            timers::start_join(timers, context, &group.id, member_id, member);
            return Err(GroupError::RebalanceInProgress);
        }
        timers::cancel(timers, &group.id, member_id, TimerKind::ConsumerClassicSync);
        timers::start_session(timers, context, &group.id, member_id, member);
        let assigned = member.current.assigned.iter();
        let assigned = assigned.map(|(topic_id, partition, _)| (topic_id, partition));
        Ok(Synced {
            protocol_type: request.protocol_type.clone(),
            protocol: request.protocol.clone(),
            assignment: embedded_assignment(&member.description, assigned, context.topics),
        })
    }

    /// A classic member of a KIP-848 group is there, and is told whether to join again.
    pub(in crate::coordinator::group) fn heartbeat_consumer_group(
        &mut self,
        context: &mut Context<'_>,
        request: &HeartbeatRequest,
    ) -> Result<(), GroupError> {
        let Self { groups, timers, .. } = self;
        let group = classic_side(groups.get(&request.group), &request.member_id)?;
        let (member_id, member) = classic_member(group, &request.member_id, request.instance_id.as_deref())?;
        let current = &member.current;
        if current.epoch != request.generation {
            return Err(GroupError::IllegalGeneration);
        }
        timers::start_session(timers, context, &group.id, member_id, member);
        let may_go_on = match current.state {
            MemberState::UnrevokedPartitions => true,
            MemberState::UnreleasedPartitions => !group.waits_for_others(member_id, member),
            MemberState::Stable | MemberState::Unknown => false,
        };
        if group.is_behind(member, context) || may_go_on {
            timers::start_join(timers, context, &group.id, member_id, member);
            return Err(GroupError::RebalanceInProgress);
        }
        Ok(())
    }

    /// Classic members leave a KIP-848 group. What became of each is answered in their order.
    pub(in crate::coordinator::group) fn leave_consumer_group(
        &mut self,
        context: &mut Context<'_>,
        group_id: &str,
        leaving: &[LeavingMember],
    ) -> Vec<Result<(), GroupError>> {
        let mut gone: BTreeSet<Arc<str>> = BTreeSet::new();
        let mut outcomes = Vec::with_capacity(leaving.len());
        for one in leaving {
            let found = classic_side(self.groups.get(group_id), &one.member_id).and_then(|group| {
                let holder = one
                    .instance_id
                    .as_ref()
                    .and_then(|instance_id| group.static_members.get(instance_id));
                let named = one.member_id.is_empty() && one.instance_id.is_some();
                let member_id = holder.filter(|_| named).unwrap_or(&one.member_id);
                let (member_id, _) = classic_member(group, member_id, one.instance_id.as_deref())?;
                Ok(Arc::clone(member_id))
            });
            outcomes.push(found.map(|member_id| {
                gone.insert(member_id);
            }));
        }
        if !gone.is_empty() {
            self.remove_members(context, group_id, &gone);
        }
        outcomes
    }

    /// Makes room for a classic group where a KIP-848 group has lost its members. The records say so; if they are refused,
    /// [`Self::consumer_write_refused`] puts it back.
    pub(in crate::coordinator::group) fn end_empty_consumer_group(
        &mut self,
        context: &mut Context<'_>,
        group_id: &str,
    ) {
        let is_empty = matches!(self.groups.get(group_id), Some(Group::Consumer(group)) if group.is_empty());
        if is_empty && let Some(Group::Consumer(group)) = self.groups.remove(group_id) {
            group.delete_records(&group.id, &mut context.records);
            self.ended = Some(group);
        }
    }
}

impl ConsumerGroup {
    /// Whether there is a newer target than the member's, or will be one when it joins. While the next assignment has to wait
    /// (`consumer.assignment.interval.ms`), joining would change nothing, and the member would join again and again.
    fn is_behind(&self, member: &Member, context: &Context<'_>) -> bool {
        let epoch = member.current.epoch;
        epoch < self.target_epoch || (epoch < self.epoch && may_assign(self, context))
    }

    /// Whether any partition of a member's target is with somebody else.
    fn waits_for_others(&self, member_id: &str, member: &Member) -> bool {
        let target = self.target(member_id);
        target.iter().any(|(topic_id, partition)| {
            member.current.assigned.since(topic_id, partition).is_none()
                && self.owners.contains_key(&(topic_id, partition))
        })
    }
}

/// Whether the classic members of the group and this one have a protocol in common.
fn supports(group: &ConsumerGroup, request: &JoinRequest) -> bool {
    let others = || {
        let members = group.members.iter().filter(|(id, _)| **id != request.member_id);
        members.filter_map(|(_, member)| member.description.classic.as_ref())
    };
    let spoken_by_all =
        |name: &Arc<str>| others().all(|other| other.protocols.iter().any(|(own, _)| own == name));
    &*request.protocol_type == CONSUMER && request.protocols.names().any(spoken_by_all)
}

/// The member as it is before it joins; a static member that comes without its id gets the place of the one before.
fn find_member(
    group: &mut Cow<'_, ConsumerGroup>,
    context: &mut Context<'_>,
    member_id: &Arc<str>,
    has_id: bool,
    request: &JoinRequest,
) -> Result<Member, GroupError> {
    let Some(instance_id) = &request.instance_id else {
        return Ok(group.members.get(member_id).cloned().unwrap_or_else(new_member));
    };
    if has_id {
        return Ok(group.static_member(instance_id, member_id)?.1.clone());
    }
    let Some((holder_id, holder)) = group.holder(instance_id) else {
        return Ok(new_member());
    };
    let (holder_id, holder) = (Arc::clone(holder_id), holder.clone());
    Ok(replace_member(group, context, &holder_id, &holder, member_id))
}

fn describe(
    request: &JoinRequest,
    subscription: &Subscription,
    before: &ConsumerMemberValue,
) -> ConsumerMemberValue {
    ConsumerMemberValue {
        instance_id: request.instance_id.clone().or_else(|| before.instance_id.clone()),
        rack_id: subscription.rack_id.clone().or_else(|| before.rack_id.clone()),
        client_id: Arc::clone(&request.client_id),
        client_host: Arc::clone(&request.client_host),
        subscribed_topics: in_order(&subscription.topics),
        subscribed_regex: None,
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        server_assignor: before.server_assignor.clone(),
        classic: Some(ClassicMemberMetadata {
            session_timeout_ms: request.session_timeout_ms,
            protocols: request.protocols.as_slice().to_vec(),
        }),
    }
}

fn classic_side<'a>(group: Option<&'a Group>, member_id: &str) -> Result<&'a ConsumerGroup, GroupError> {
    match group {
        Some(Group::Consumer(group)) => Ok(group),
        _ => Err(GroupError::UnknownMemberId(member_id.to_owned())),
    }
}

/// A member of the group that speaks the classic protocol.
fn classic_member<'a>(
    group: &'a ConsumerGroup,
    member_id: &str,
    instance_id: Option<&str>,
) -> Result<(&'a Arc<str>, &'a Member), GroupError> {
    let (member_id, member) = match instance_id {
        Some(instance_id) => group.static_member(instance_id, member_id)?,
        None => group.member(member_id)?,
    };
    if member.is_classic() {
        Ok((member_id, member))
    } else {
        let text = format!("Member {member_id} does not use the classic protocol.");
        Err(GroupError::UnknownMemberId(text))
    }
}
