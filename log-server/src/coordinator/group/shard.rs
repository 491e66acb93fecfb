//! All groups of one partition of `__consumer_offsets`, as a state machine.
//!
//! Commands stand with the protocol they belong to (`classic`, `consumer`, `offsets`, `admin`), as methods of
//! [`GroupShard`]. What is here is common to all: the groups, replaying, and time.

use std::collections::BTreeMap;
use std::sync::Arc;

use log_core::clock::SteadyMs;
use log_core::model::ProducerId;
use log_core::record::control::TransactionOutcome;

use crate::coordinator::group::consumer::group::ConsumerGroup;
use crate::coordinator::group::context::Context;
use crate::coordinator::group::group::Group;
use crate::coordinator::group::offsets::expiry::{Sweep, Sweeps};
use crate::coordinator::group::offsets::pending::PendingOffsets;
use crate::coordinator::group::offsets::store::OffsetStore;
use crate::coordinator::group::record::GroupRecord;
use crate::coordinator::group::timers::{TimerKind, Timers};

/// The groups of one shard.
#[derive(Debug, Default)]
pub struct GroupShard {
    pub(super) groups: BTreeMap<Arc<str>, Group>,
    pub(super) offsets: OffsetStore,
    pub(super) pending: PendingOffsets,
    pub(super) sweeps: Sweeps,
    pub(super) timers: Timers,
    /// A KIP-848 group that this command ended to make room for a classic one.
    pub(super) ended: Option<Box<ConsumerGroup>>,
}

impl GroupShard {
    /// Makes one record part of the state, live and at a start alike. The order of records is that of the log.
    pub fn replay(&mut self, record: &GroupRecord) {
        match record {
            GroupRecord::OffsetCommit {
                group,
                topic,
                partition,
                value,
            } => self.replay_offset_commit(group, topic, *partition, value.as_ref()),
            GroupRecord::ClassicGroup { group, value } => self.replay_classic_group(group, value.as_ref()),
            GroupRecord::ConsumerGroup { .. }
            | GroupRecord::ConsumerPartitionMetadata { .. }
            | GroupRecord::ConsumerMember { .. }
            | GroupRecord::ConsumerTargetEpoch { .. }
            | GroupRecord::ConsumerTargetMember { .. }
            | GroupRecord::ConsumerCurrentMember { .. }
            | GroupRecord::ConsumerRegex { .. } => self.replay_consumer_group(record),
        }
    }

    /// The same for a record that belongs to a producer's transaction: an offset waits for the transaction's end. Nothing else is
    /// written that way; if it were, it would count at once, as in Kafka.
    pub fn replay_in_transaction(&mut self, producer: ProducerId, record: &GroupRecord) {
        match record {
            GroupRecord::OffsetCommit {
                group,
                topic,
                partition,
                value: Some(value),
            } => self.replay_pending_offset(producer, group, topic, *partition, value),
            _ => self.replay(record),
        }
    }

    /// A producer's transaction has ended, as its marker in the log says.
    pub fn replay_marker(&mut self, producer: ProducerId, outcome: TransactionOutcome) {
        self.replay_offsets_marker(producer, outcome);
    }

    /// Called once when the log has been replayed: sessions of all members begin now.
    pub fn loaded(&mut self, context: &mut Context<'_>) {
        self.classic_loaded(context);
        self.consumer_loaded(context);
        self.offsets_loaded(context);
    }

    /// When [`Self::tick`] has something to do, if nothing else happens before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<SteadyMs> {
        self.timers.next()
    }

    /// Does the first thing that is due, and answers whether there was one. One at a time, so that the records of each
    /// are replayed before the next is looked at.
    pub fn tick(&mut self, context: &mut Context<'_>) -> bool {
        let Some(key) = self.timers.pop_due(context.steady) else {
            return false;
        };
        match key.kind {
            TimerKind::ClassicSession => self.expire_classic_session(&key.group, &key.member, context),
            TimerKind::ClassicPendingJoin => {
                self.expire_classic_pending_join(&key.group, &key.member, context);
            }
            TimerKind::ClassicJoin => self.expire_classic_join(&key.group, context),
            TimerKind::ClassicPendingSync => self.expire_classic_pending_sync(&key.group, context),
            TimerKind::ClassicDowngraded => self.rebalance_downgraded(&key.group, context),
            TimerKind::ConsumerSession
            | TimerKind::ConsumerRebalance
            | TimerKind::ConsumerClassicJoin
            | TimerKind::ConsumerClassicSync => self.consumer_timer(context, &key),
            TimerKind::OffsetExpiry => self.sweep_offsets(Sweep::Expired, context),
            TimerKind::DeletedTopics => self.sweep_offsets(Sweep::OfDeletedTopics, context),
        }
        true
    }

    /// The log refused the records of the last command, and nothing was written: what the command changed beside them is
    /// taken back.
    pub fn write_refused(&mut self, records: &[GroupRecord], context: &mut Context<'_>) {
        self.classic_write_refused(records, context);
        self.consumer_write_refused(records, context);
        self.offsets_write_refused(records, context);
    }
}
