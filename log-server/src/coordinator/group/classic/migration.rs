//! A classic group on its way to KIP-848 and back: what the other protocol has to know and do of it.
//! The way itself is written in `consumer::migration`.

use std::sync::Arc;

use crate::coordinator::group::classic::group::ClassicGroup;
use crate::coordinator::group::classic::rebalance::DOWNGRADED;
use crate::coordinator::group::context::{Context, Ticket};
use crate::coordinator::group::shard::GroupShard;

/// Those who wait for an answer: members and their tickets.
type Waiting = Vec<(Arc<str>, Ticket)>;

impl ClassicGroup {
    /// Takes the tickets of all joins and all syncs that wait.
    pub(in crate::coordinator::group) fn take_waiting(&mut self) -> (Waiting, Waiting) {
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        let mut joins = Waiting::new();
        for id in ids {
            let ticket = self.update(&id, |member| member.awaiting_join.take());
            joins.extend(ticket.flatten().map(|ticket| (id, ticket)));
        }
        (joins, self.take_syncs())
    }
}

impl GroupShard {
    /// A group that has just become a classic one assigns anew: a member has gone.
    pub(in crate::coordinator::group) fn rebalance_downgraded(
        &mut self,
        group: &str,
        context: &mut Context<'_>,
    ) {
        let Some(mut work) = self.classic_work(group, context) else {
            return;
        };
        // Whoever joined or left meanwhile has begun a rebalance, and an empty group has nothing to assign.
        if work.group.was_downgraded() {
            work.prepare_rebalance(DOWNGRADED);
        }
    }
}
