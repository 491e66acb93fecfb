//! A member says that it is there, and its session begins anew.
//! The answer tells it whether it has to join again.

use std::sync::Arc;

use crate::coordinator::group::classic::group::ClassicState;
use crate::coordinator::group::context::Context;
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::group::Group;
use crate::coordinator::group::shard::GroupShard;

/// A member's sign of life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartbeatRequest {
    /// The group.
    pub group: Arc<str>,
    /// The member.
    pub member_id: Arc<str>,
    /// Its static id.
    pub instance_id: Option<Arc<str>>,
    /// The generation it joined.
    pub generation: i32,
}

impl GroupShard {
    /// A member's session begins anew. An error tells it to join again.
    ///
    /// # Errors
    /// What [`GroupError`] says.
    pub fn heartbeat(
        &mut self,
        context: &mut Context<'_>,
        request: &HeartbeatRequest,
    ) -> Result<(), GroupError> {
        if request.group.is_empty() {
            return Err(GroupError::InvalidGroupId);
        }
        if let Some(Group::Consumer(_)) = self.groups.get(&request.group) {
            return self.heartbeat_consumer_group(context, request);
        }
        let Some(mut work) = self.classic_work(&request.group, context) else {
            return Err(GroupError::UnknownMemberId(request.member_id.as_ref().to_owned()));
        };
        work.group
            .validate_member(&request.member_id, request.instance_id.as_deref())?;
        if request.generation != work.group.generation() {
            return Err(GroupError::IllegalGeneration);
        }
        work.begin_session(&request.member_id);
        match work.group.state() {
            ClassicState::PreparingRebalance => Err(GroupError::RebalanceInProgress),
            ClassicState::Empty | ClassicState::CompletingRebalance | ClassicState::Stable => Ok(()),
        }
    }

    /// A commit is a sign of life too, unless the group waits for its leader.
    pub(in crate::coordinator::group) fn classic_member_committed(
        &mut self,
        group: &str,
        member_id: &Arc<str>,
        context: &mut Context<'_>,
    ) {
        if let Some(mut work) = self.classic_work(group, context)
            && matches!(
                work.group.state(),
                ClassicState::Stable | ClassicState::PreparingRebalance
            )
        {
            work.begin_session(member_id);
        }
    }
}
