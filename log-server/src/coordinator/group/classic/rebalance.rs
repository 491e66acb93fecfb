//! The steps of a rebalance: from any state into `PreparingRebalance`, from there into the next generation.
//!
//! Each step is Kafka's, with these exceptions, none of which a client that follows the protocol can see:
//! - whoever waits is answered also when the same member asks again, and when a member is taken out while it waits for its sync;
//! - without a delay, a new group's first member is answered by the command that brought it;
//! - during the initial delay, the end of a session or of an id that nobody redeemed does not end the delay, also if all others have joined;
//! - if nobody rejoined, the group looks again after a second at least.

use std::sync::Arc;

use crate::coordinator::group::classic::group::{ClassicGroup, ClassicState, InitialDelay, select_protocol};
use crate::coordinator::group::classic::replay;
use crate::coordinator::group::classic::reply::{JoinRefused, Reply};
use crate::coordinator::group::context::{Context, Ticket};
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::group::Group;
use crate::coordinator::group::record::{ClassicGroupValue, GroupRecord};
use crate::coordinator::group::shard::GroupShard;
use crate::coordinator::group::timers::{TimerKey, TimerKind, Timers};

/// How long a new member may wait for its first answer. It has no id yet, or no way to send heartbeats, so nothing tells
/// that its client is gone. One that is there asks again.
const NEW_MEMBER_JOIN_TIMEOUT_MS: i64 = 300_000;

/// The least time between two attempts to go on with a group none of whose members rejoined, or whose end could not be written, and
/// between two looks at a member that waits.
const RETRY_MS_MIN: i64 = 1_000;

/// Why a group rebalances that was of the other protocol.
pub(super) const DOWNGRADED: &str = "the last member of the other protocol has gone";

/// A classic group in the hands of a command.
#[derive(Debug)]
pub(super) struct Work<'a, 'c> {
    pub(super) name: Arc<str>,
    pub(super) group: &'a mut ClassicGroup,
    pub(super) timers: &'a mut Timers,
    pub(super) context: &'a mut Context<'c>,
}

impl GroupShard {
    /// A group for a command to work on, if it is a classic one.
    pub(super) fn classic_work<'a, 'c>(
        &'a mut self,
        name: &str,
        context: &'a mut Context<'c>,
    ) -> Option<Work<'a, 'c>> {
        let name = Arc::clone(self.groups.get_key_value(name)?.0);
        match self.groups.get_mut(&name)? {
            Group::Classic(group) => Some(Work {
                name,
                group,
                timers: &mut self.timers,
                context,
            }),
            Group::Consumer(_) => None,
        }
    }

    /// Drops a group that has nobody, and that no record speaks of.
    pub(super) fn forget_if_unused(&mut self, name: &str) {
        if let Some(Group::Classic(group)) = self.groups.get(name)
            && !group.is_recorded
            && group.members.is_empty()
            && group.pending_joins.is_empty()
        {
            replay::cancel_timers(name, group, &mut self.timers);
            self.groups.remove(name);
        }
    }

    /// A member's session ended.
    pub(in crate::coordinator::group) fn expire_classic_session(
        &mut self,
        group: &str,
        member: &str,
        context: &mut Context<'_>,
    ) {
        if let Some(mut work) = self.classic_work(group, context) {
            work.expire_session(member);
        }
        self.forget_if_unused(group);
    }

    /// The owner of an id that was given out did not join with it.
    pub(in crate::coordinator::group) fn expire_classic_pending_join(
        &mut self,
        group: &str,
        member: &str,
        context: &mut Context<'_>,
    ) {
        if let Some(mut work) = self.classic_work(group, context)
            && work.group.pending_joins.remove(member)
        {
            work.complete_join_if_ready();
        }
        self.forget_if_unused(group);
    }

    /// A group's join phase ends, or a step of the delay before it.
    pub(in crate::coordinator::group) fn expire_classic_join(
        &mut self,
        group: &str,
        context: &mut Context<'_>,
    ) {
        if let Some(mut work) = self.classic_work(group, context) {
            work.end_delay_or_complete_join();
        }
        self.forget_if_unused(group);
    }

    /// Members that joined did not sync in time.
    pub(in crate::coordinator::group) fn expire_classic_pending_sync(
        &mut self,
        group: &str,
        context: &mut Context<'_>,
    ) {
        if let Some(mut work) = self.classic_work(group, context) {
            work.expire_pending_sync();
        }
        self.forget_if_unused(group);
    }

    /// The log has been read: sessions begin anew, and a group that is larger than it now may be shrinks.
    pub(in crate::coordinator::group) fn classic_loaded(&mut self, context: &mut Context<'_>) {
        let names: Vec<Arc<str>> = self.groups.keys().cloned().collect();
        for name in names {
            let Some(mut work) = self.classic_work(&name, context) else {
                continue;
            };
            let members: Vec<Arc<str>> = work.group.members.keys().cloned().collect();
            for member in &members {
                work.begin_session(member);
            }
            if work.group.was_downgraded() {
                work.prepare_rebalance(DOWNGRADED);
            } else if work.context.settings.size_max < members.len() {
                work.prepare_rebalance("the group is larger than group.max.size");
            }
        }
    }
}

impl Work<'_, '_> {
    fn key(&self, member: &Arc<str>, kind: TimerKind) -> TimerKey {
        TimerKey {
            group: Arc::clone(&self.name),
            member: Arc::clone(member),
            kind,
        }
    }

    pub(super) fn set_timer(&mut self, member: &Arc<str>, kind: TimerKind, after_ms: i64) {
        let deadline = self.context.steady.saturating_plus(after_ms.max(0));
        self.timers.set(self.key(member, kind), deadline);
    }

    fn set_group_timer(&mut self, kind: TimerKind, after_ms: i64) {
        self.set_timer(&"".into(), kind, after_ms);
    }

    pub(super) fn cancel_timer(&mut self, member: &Arc<str>, kind: TimerKind) {
        self.timers.cancel(&self.key(member, kind));
    }

    pub(super) fn cancel_group_timer(&mut self, kind: TimerKind) {
        self.cancel_timer(&"".into(), kind);
    }

    /// A member was heard of: its session begins anew.
    pub(super) fn begin_session(&mut self, member: &Arc<str>) {
        if let Some(timeout) = self
            .group
            .members
            .get(member)
            .map(|member| member.session_timeout_ms)
        {
            self.set_timer(member, TimerKind::ClassicSession, i64::from(timeout));
        }
    }

    /// The same for a member that has not had an answer yet.
    pub(super) fn begin_first_wait(&mut self, member: &Arc<str>) {
        self.set_timer(member, TimerKind::ClassicSession, NEW_MEMBER_JOIN_TIMEOUT_MS);
    }

    pub(super) fn answer(&mut self, ticket: Ticket, reply: Reply) {
        self.context.replies.push((ticket, reply));
    }

    pub(super) fn refuse_join(&mut self, ticket: Ticket, member_id: &str, error: GroupError) {
        let member_id = member_id.into();
        self.answer(ticket, Reply::Join(Err(JoinRefused { error, member_id })));
    }

    /// Takes a member out. Whoever waits in its name has to begin anew.
    pub(super) fn remove_member(&mut self, id: &Arc<str>) {
        self.cancel_timer(id, TimerKind::ClassicSession);
        let Some(member) = self.group.remove(id) else {
            return;
        };
        let unknown = GroupError::UnknownMemberId(id.as_ref().to_owned());
        if let Some(ticket) = member.awaiting_join {
            self.refuse_join(ticket, "", unknown.clone());
        }
        if let Some(ticket) = member.awaiting_sync {
            self.answer(ticket, Reply::Sync(Err(unknown)));
        }
    }

    /// Members came, changed or went: a rebalance begins, or goes on if one is under way.
    pub(super) fn rebalance(&mut self, reason: &str) {
        if self.group.state == ClassicState::PreparingRebalance {
            self.complete_join_if_ready();
        } else {
            self.prepare_rebalance(reason);
        }
    }

    pub(super) fn prepare_rebalance(&mut self, reason: &str) {
        tracing::debug!(
            group = &*self.name,
            generation = self.group.generation,
            reason,
            "group rebalances"
        );
        if self.group.state == ClassicState::CompletingRebalance {
            self.refuse_syncs(&GroupError::RebalanceInProgress);
        }
        self.group.pending_syncs.clear();
        self.cancel_group_timer(TimerKind::ClassicPendingSync);
        let was_empty = self.group.state == ClassicState::Empty;
        self.group
            .enter(ClassicState::PreparingRebalance, self.context.now);
        let delay =
            i64::try_from(self.context.settings.initial_rebalance_delay.as_millis()).unwrap_or(i64::MAX);
        if was_empty && 0 < delay {
            self.group.initial_delay = Some(InitialDelay {
                step_ms: delay,
                remaining_ms: (self.group.rebalance_timeout_ms() - delay).max(0),
                member_added: false,
            });
            self.set_group_timer(TimerKind::ClassicJoin, delay);
        } else if was_empty || self.group.has_all_joined() {
            self.complete_join();
        } else {
            self.set_group_timer(TimerKind::ClassicJoin, self.group.rebalance_timeout_ms());
        }
    }

    /// Goes on if nobody has to be waited for. A new group waits for its delay in any case.
    pub(super) fn complete_join_if_ready(&mut self) {
        if self.group.state == ClassicState::PreparingRebalance
            && self.group.initial_delay.is_none()
            && self.group.has_all_joined()
        {
            self.complete_join();
        }
    }

    fn end_delay_or_complete_join(&mut self) {
        match self.group.initial_delay {
            Some(delay) if delay.member_added && delay.remaining_ms != 0 => {
                let configured = self.context.settings.initial_rebalance_delay.as_millis();
                let step_ms = delay
                    .remaining_ms
                    .min(i64::try_from(configured).unwrap_or(i64::MAX));
                self.group.initial_delay = Some(InitialDelay {
                    step_ms,
                    remaining_ms: (delay.remaining_ms - delay.step_ms).max(0),
                    member_added: false,
                });
                self.set_group_timer(TimerKind::ClassicJoin, step_ms);
            }
            _ => self.complete_join(),
        }
    }

    /// Ends the join phase. Members that did not join are gone, except static ones, whose sessions decide.
    pub(super) fn complete_join(&mut self) {
        self.cancel_group_timer(TimerKind::ClassicJoin);
        let missing: Vec<Arc<str>> = self
            .group
            .members()
            .filter(|(_, member)| member.awaiting_join.is_none() && member.instance_id.is_none())
            .map(|(id, _)| Arc::clone(id))
            .collect();
        for id in &missing {
            self.remove_member(id);
        }
        if self.group.members.is_empty() {
            self.become_empty();
        } else if self.group.elect_joined_leader() {
            self.begin_generation();
        } else {
            // Static members alone, and all of them silent: until one joins, or their sessions end.
            self.retry_join();
        }
    }

    /// The last member is gone, which is written down as a generation of its own. The group is empty when that is replayed.
    fn become_empty(&mut self) {
        let value = ClassicGroupValue {
            protocol_type: self.group.protocol_type.clone().unwrap_or_default(),
            generation: self.group.generation_after(),
            protocol: None,
            leader: None,
            state_timestamp_ms: self.context.now.get(),
            members: Vec::new(),
        };
        self.context.records.push(GroupRecord::ClassicGroup {
            group: Arc::clone(&self.name),
            value: Some(value),
        });
    }

    /// Whether all members have gone, and no record says so yet.
    pub(super) fn is_deserted(&self) -> bool {
        self.group.state == ClassicState::PreparingRebalance && self.group.members.is_empty()
    }

    /// Tries again in a while to end the join phase.
    pub(super) fn retry_join(&mut self) {
        let after_ms = self.group.rebalance_timeout_ms().max(RETRY_MS_MIN);
        self.set_group_timer(TimerKind::ClassicJoin, after_ms);
    }

    /// Tells all who joined of the generation they belong to.
    fn begin_generation(&mut self) {
        let protocol = select_protocol(self.group.members.values().map(|member| &member.protocols));
        assert!(
            protocol.is_some(),
            "members without a common protocol are not admitted"
        );
        self.group.next_generation(protocol);
        self.group
            .enter(ClassicState::CompletingRebalance, self.context.now);
        tracing::debug!(
            group = &*self.name,
            generation = self.group.generation,
            members = self.group.members.len(),
            "group has a new generation"
        );
        let ids: Vec<Arc<str>> = self.group.members.keys().cloned().collect();
        for id in &ids {
            let ticket = self.group.update(id, |member| {
                member.is_new = false;
                member.awaiting_join.take()
            });
            if let Some(ticket) = ticket.flatten() {
                let mut joined = self.group.joined(id);
                if self.group.is_leader(id) {
                    joined.members = self.group.joined_members();
                }
                self.answer(ticket, Reply::Join(Ok(joined)));
            }
            self.begin_session(id);
        }
        self.group.pending_syncs.extend(ids);
        self.set_group_timer(TimerKind::ClassicPendingSync, self.group.rebalance_timeout_ms());
    }

    /// Answers all syncs that wait. Their members' sessions begin anew: while they waited, nothing was expected of them.
    pub(super) fn refuse_syncs(&mut self, error: &GroupError) {
        for (id, ticket) in self.group.take_syncs() {
            self.answer(ticket, Reply::Sync(Err(error.clone())));
            self.begin_session(&id);
        }
    }

    fn expire_session(&mut self, id: &str) {
        let Some((id, member)) = self.group.members.get_key_value(id) else {
            return;
        };
        let id = Arc::clone(id);
        if member.is_waiting() {
            // Nothing is expected of it until it is answered; whatever ends its waiting, it has a session then.
            // It would be over at once again, where sessions may be of no length.
            let after_ms = i64::from(member.session_timeout_ms).max(RETRY_MS_MIN);
            return self.set_timer(&id, TimerKind::ClassicSession, after_ms);
        }
        tracing::debug!(group = &*self.name, member = &*id, "member's session ended");
        self.remove_member(&id);
        match self.group.state {
            ClassicState::Stable | ClassicState::CompletingRebalance => {
                self.prepare_rebalance("a member's session ended");
            }
            ClassicState::PreparingRebalance => self.complete_join_if_ready(),
            ClassicState::Empty => {}
        }
    }

    fn expire_pending_sync(&mut self) {
        let late: Vec<Arc<str>> = self.group.pending_syncs.iter().cloned().collect();
        for id in &late {
            self.remove_member(id);
        }
        if !late.is_empty() {
            self.prepare_rebalance("members did not sync in time");
        }
    }
}
