//! Members leave, each by itself, or several at once by an administrator who knows their static ids.
//! Those that stay are rebalanced once.

use std::sync::Arc;

use crate::coordinator::group::classic::group::ClassicState;
use crate::coordinator::group::classic::rebalance::Work;
use crate::coordinator::group::context::Context;
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::group::Group;
use crate::coordinator::group::shard::GroupShard;
use crate::coordinator::group::timers::TimerKind;

/// Who leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeavingMember {
    /// Its id; empty if it is named by its static id alone.
    pub member_id: Arc<str>,
    /// Its static id.
    pub instance_id: Option<Arc<str>>,
    /// Why, for the log.
    pub reason: String,
}

impl GroupShard {
    /// Members leave. What became of each is answered in their order.
    ///
    /// # Errors
    /// What [`GroupError`] says.
    pub fn leave_group(
        &mut self,
        context: &mut Context<'_>,
        group: &str,
        leaving: &[LeavingMember],
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        if group.is_empty() {
            return Err(GroupError::InvalidGroupId);
        }
        if let Some(Group::Consumer(_)) = self.groups.get(group) {
            return Ok(self.leave_consumer_group(context, group, leaving));
        }
        let Some(mut work) = self.classic_work(group, context) else {
            let unknown =
                |member: &LeavingMember| GroupError::UnknownMemberId(member.member_id.as_ref().to_owned());
            return Ok(leaving.iter().map(|member| Err(unknown(member))).collect());
        };
        let outcomes: Vec<_> = leaving.iter().map(|member| work.leave(member)).collect();
        if outcomes.iter().any(Result::is_ok) && work.group.state() != ClassicState::Empty {
            work.rebalance("members left");
        }
        self.forget_if_unused(group);
        Ok(outcomes)
    }
}

impl Work<'_, '_> {
    fn leave(&mut self, leaving: &LeavingMember) -> Result<(), GroupError> {
        let id = match &leaving.instance_id {
            _ if self.group.pending_joins.remove(&leaving.member_id) => {
                self.cancel_timer(&leaving.member_id, TimerKind::ClassicPendingJoin);
                return Ok(());
            }
            Some(instance_id) if leaving.member_id.is_empty() => {
                let unknown = || GroupError::UnknownMemberId(instance_id.as_ref().to_owned());
                self.group
                    .static_members
                    .get(instance_id)
                    .cloned()
                    .ok_or_else(unknown)?
            }
            instance_id => {
                self.group
                    .validate_member(&leaving.member_id, instance_id.as_deref())?;
                Arc::clone(&leaving.member_id)
            }
        };
        tracing::debug!(
            group = &*self.name,
            member = &*id,
            reason = leaving.reason,
            "member leaves"
        );
        self.remove_member(&id);
        Ok(())
    }
}
