//! What an application does when partitions come and go.
//!
//! The methods are called from within `poll` and `next` (and `unsubscribe` and `close`), one at a time and each
//! exactly once for a change, however often the caller stops waiting. They should return soon: while they run,
//! the group waits for this member.

use std::collections::{BTreeMap, BTreeSet};

use log_core::model::{Offset, TopicPartition};

use crate::config::StartAt;
use crate::coordinator::CommittedOffset;

/// Is told about partitions that come and go.
pub trait RebalanceListener: Send {
    /// These partitions are read from now on; none when nothing was added. Where reading begins can be
    /// decided with [`Rebalance::seek`]; otherwise the committed offset decides.
    fn assigned(&mut self, partitions: &[TopicPartition], rebalance: &mut Rebalance);

    /// These partitions are about to go to somebody else. Nobody reads them yet: what is given to
    /// [`Rebalance::commit`] is committed before that.
    fn revoked(&mut self, partitions: &[TopicPartition], rebalance: &mut Rebalance);

    /// These partitions are gone, because the group took this member for dead: others may be reading them
    /// already, and nothing can be committed for them.
    fn lost(&mut self, partitions: &[TopicPartition]);
}

/// What a listener can do about a change.
#[derive(Debug, Default)]
pub struct Rebalance {
    /// Where reading goes on, as far as that is known, in the partitions that are being revoked.
    pub(super) positions: BTreeMap<TopicPartition, Offset>,
    pub(super) commits: BTreeMap<TopicPartition, CommittedOffset>,
    pub(super) sought: BTreeMap<TopicPartition, StartAt>,
    pub(super) paused: BTreeSet<TopicPartition>,
}

impl Rebalance {
    /// The next record of a partition that is being revoked.
    #[must_use]
    pub fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        self.positions.get(partition).copied()
    }

    /// Commits an offset for a partition that is being revoked.
    pub fn commit(&mut self, partition: TopicPartition, offset: CommittedOffset) {
        self.commits.insert(partition, offset);
    }

    /// Begins a partition that was assigned at this place, whatever was committed.
    pub fn seek(&mut self, partition: TopicPartition, start: StartAt) {
        self.sought.insert(partition, start);
    }

    /// Holds the records of a partition back that was assigned.
    pub fn pause(&mut self, partition: TopicPartition) {
        self.paused.insert(partition);
    }
}
