//! A member fetches its assignment; the leader brings all of them, which makes the generation's record.
//! Nobody has an assignment before that record is on the disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::coordinator::group::classic::group::ClassicState;
use crate::coordinator::group::classic::rebalance::Work;
use crate::coordinator::group::classic::reply::{Reply, Synced};
use crate::coordinator::group::context::{Context, Ticket};
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::group::Group;
use crate::coordinator::group::record::GroupRecord;
use crate::coordinator::group::shard::GroupShard;
use crate::coordinator::group::timers::TimerKind;

/// A member's question for its assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncRequest {
    /// The group.
    pub group: Arc<str>,
    /// The member.
    pub member_id: Arc<str>,
    /// Its static id.
    pub instance_id: Option<Arc<str>>,
    /// The generation it joined.
    pub generation: i32,
    /// The protocol type, from version 5 on.
    pub protocol_type: Option<Arc<str>>,
    /// The protocol, from version 5 on.
    pub protocol: Option<Arc<str>>,
    /// What the leader gives to whom; empty from all others.
    pub assignments: BTreeMap<Arc<str>, Bytes>,
}

impl GroupShard {
    /// A member asks for its assignment. It is answered through the context, now or later.
    pub fn sync_group(&mut self, context: &mut Context<'_>, request: &SyncRequest, ticket: Ticket) {
        if let Some(Group::Consumer(_)) = self.groups.get(&request.group) {
            self.sync_consumer_group(context, request, ticket);
        } else if let Err(error) = self.check_sync(request) {
            context.replies.push((ticket, Reply::Sync(Err(error))));
        } else if let Some(mut work) = self.classic_work(&request.group, context) {
            work.sync(request, ticket);
        }
    }

    fn check_sync(&self, request: &SyncRequest) -> Result<(), GroupError> {
        if request.group.is_empty() {
            return Err(GroupError::InvalidGroupId);
        }
        let Some(Group::Classic(group)) = self.groups.get(&request.group) else {
            return Err(GroupError::UnknownMemberId(request.member_id.as_ref().to_owned()));
        };
        group.validate_member(&request.member_id, request.instance_id.as_deref())?;
        if request.generation != group.generation() {
            return Err(GroupError::IllegalGeneration);
        }
        let differs = |asked: &Option<Arc<str>>, own: &Option<Arc<str>>| {
            asked.is_some() && own.is_some() && asked != own
        };
        if differs(&request.protocol_type, &group.protocol_type)
            || differs(&request.protocol, &group.protocol)
        {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        // What the log says of a group that was of the other protocol are targets: others may read those partitions still.
        if group.state() == ClassicState::PreparingRebalance || group.was_downgraded() {
            return Err(GroupError::RebalanceInProgress);
        }
        Ok(())
    }
}

impl Work<'_, '_> {
    fn sync(&mut self, request: &SyncRequest, ticket: Ticket) {
        let id = &request.member_id;
        self.group.pending_syncs.remove(id);
        if self.group.pending_syncs.is_empty() {
            self.cancel_group_timer(TimerKind::ClassicPendingSync);
        }
        let is_completing = self.group.state == ClassicState::CompletingRebalance;
        let Some(member) = self.group.members.get_mut(id) else {
            return;
        };
        if !is_completing {
            let assignment = member.assignment.clone();
            return self.answer_sync(ticket, assignment);
        }
        if let Some(older) = member.awaiting_sync.replace(ticket) {
            // The client gave that answer up, or it would not ask again.
            self.answer(older, Reply::Sync(Err(GroupError::RebalanceInProgress)));
        }
        if self.group.is_leader(id) {
            self.assign(&request.assignments);
        }
    }

    /// The leader has spoken. A member that it gave nothing has an empty assignment.
    fn assign(&mut self, assignments: &BTreeMap<Arc<str>, Bytes>) {
        let value = self.group.value(self.context.now, assignments);
        self.context.records.push(GroupRecord::ClassicGroup {
            group: Arc::clone(&self.name),
            value: Some(value),
        });
        for (id, ticket) in self.group.take_syncs() {
            self.answer_sync(ticket, assignments.get(&id).cloned().unwrap_or_default());
            self.begin_session(&id);
        }
    }

    fn answer_sync(&mut self, ticket: Ticket, assignment: Bytes) {
        let synced = Synced {
            protocol_type: self.group.protocol_type.clone(),
            protocol: self.group.protocol.clone(),
            assignment,
        };
        self.answer(ticket, Reply::Sync(Ok(synced)));
    }
}
