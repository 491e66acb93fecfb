//! Where a group consumer is, and what of that its group knows: positions, lag, and commits of all kinds.
//!
//! A position is the next record that has not been handed out. It is never committed before the caller says, by
//! `commit` or by coming back for more, that what was handed out is done with.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use log_core::model::{LeaderEpoch, Offset, TopicPartition};
use tokio::time::Instant;

use super::committer::{Commit, Offsets};
use super::consumer::{Done, GroupConsumer};
use crate::coordinator::{CommitIdentity, CommittedOffset};
use crate::error::Result;
use crate::offsets::{OffsetQuery, list_offsets};

impl GroupConsumer {
    /// The next record to be handed out; none while the start is being looked up.
    #[must_use]
    pub fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        self.buffer
            .position(partition)
            .or_else(|| self.consumer.position(partition))
    }

    /// How many records there are behind the position, as the last fetch showed it; none while either is not
    /// known.
    #[must_use]
    pub fn current_lag(&self, partition: &TopicPartition) -> Option<u64> {
        let end = self.consumer.high_watermark(partition)?;
        Some(lag(self.position(partition)?, end))
    }

    /// How many records there are behind each position, asked of the brokers; none while the start of a
    /// partition is being looked up.
    pub fn lag(&self) -> impl Future<Output = BTreeMap<TopicPartition, Result<Option<u64>>>> + Send + use<> {
        let cluster = self.cluster().clone();
        let isolation = self.config.consumer.isolation;
        let positions: Vec<_> = self
            .owned
            .keys()
            .map(|partition| (partition.clone(), self.position(partition)))
            .collect();
        async move {
            let queries = positions
                .iter()
                .map(|(partition, _)| (partition.clone(), OffsetQuery::Latest));
            let ends = list_offsets(&cluster, queries.collect(), isolation, cluster.api_deadline()).await;
            let rows = positions.into_iter().zip(ends);
            rows.map(|((partition, position), (_, end))| {
                let lag = end.map(|end| Some(lag(position?, end.offset?)));
                (partition, lag)
            })
            .collect()
        }
    }

    /// Where the group goes on in these partitions, asked of the coordinator; none where nothing is committed.
    ///
    /// # Errors
    /// When no answer was had at all.
    pub fn committed(
        &self,
        partitions: &[TopicPartition],
    ) -> impl Future<Output = Result<BTreeMap<TopicPartition, Result<Option<CommittedOffset>>>>> + Send + use<>
    {
        let (coordinator, link) = (self.coordinator.clone(), Arc::clone(&self.link));
        let partitions = partitions.to_vec();
        async move {
            let deadline = coordinator.cluster().api_deadline();
            let identity = || link.identity().unwrap_or_else(CommitIdentity::nobody);
            let rows = coordinator
                .fetch_offsets(identity, Some(&partitions), deadline)
                .await?;
            Ok(rows.into_iter().collect())
        }
    }

    /// Commits the positions of all partitions of this member: everything that was handed out counts as done.
    ///
    /// # Errors
    /// Why an offset is not committed. `UNKNOWN_MEMBER_ID` and `ILLEGAL_GENERATION` mean that the partitions
    /// went to somebody else meanwhile.
    pub async fn commit(&mut self) -> Result<()> {
        let offsets = self.positions(self.owned.keys());
        self.commit_offsets(offsets).await
    }

    /// Commits offsets, trying again until `api_timeout` is over. If this is cancelled, they may be committed.
    ///
    /// # Errors
    /// As [`GroupConsumer::commit`].
    pub async fn commit_offsets(&mut self, offsets: BTreeMap<TopicPartition, CommittedOffset>) -> Result<()> {
        let deadline = self.cluster().api_deadline();
        self.committer.commit(offsets, Some(deadline)).await
    }

    /// Commits the positions of all partitions without waiting for it; tried once.
    pub fn commit_async(&mut self) -> Commit {
        let offsets = self.positions(self.owned.keys());
        self.commit_offsets_async(offsets)
    }

    /// Commits offsets without waiting for it; tried once. Commits are carried out in the order of the calls.
    pub fn commit_offsets_async(&mut self, offsets: BTreeMap<TopicPartition, CommittedOffset>) -> Commit {
        self.committer.commit(offsets, None)
    }

    /// What [`GroupConsumer::commit`] would commit for these partitions of this member; for a transaction to commit.
    #[must_use]
    pub fn positions<'a>(
        &self,
        partitions: impl IntoIterator<Item = &'a TopicPartition>,
    ) -> BTreeMap<TopicPartition, CommittedOffset> {
        let position = |partition: &TopicPartition| {
            if let Some(offset) = self.buffer.position(partition) {
                return Some((offset, LeaderEpoch::NONE));
            }
            self.consumer.position_with_epoch(partition)
        };
        partitions
            .into_iter()
            .filter_map(|partition| {
                let (offset, leader_epoch) = position(partition)?;
                let committed = CommittedOffset {
                    leader_epoch,
                    ..CommittedOffset::new(offset)
                };
                Some((partition.clone(), committed))
            })
            .collect()
    }

    /// Whether the group has decided nothing that this consumer has not heard of.
    pub(crate) fn is_up_to_date(&self) -> bool {
        !self.link.has_news()
    }

    pub(super) fn auto_commit_if_due(&mut self) {
        let now = Instant::now();
        if !self.config.enable_auto_commit || now < self.auto_commit_at {
            return;
        }
        self.auto_commit_at = now + self.config.auto_commit_interval.max(Duration::from_millis(1));
        let owned: Vec<_> = self.owned.keys().cloned().collect();
        let offsets = self.uncommitted(&owned);
        if self.is_auto_committing || offsets.is_empty() {
            return;
        }
        self.is_auto_committing = true;
        let commit = self.committer.commit(offsets.clone(), None);
        self.work.spawn(async move {
            let result = commit.await;
            Done::AutoCommitted { offsets, result }
        });
    }

    /// The positions that are not known to be committed.
    pub(super) fn uncommitted(&self, partitions: &[TopicPartition]) -> Offsets {
        let mut offsets = self.positions(partitions);
        offsets.retain(|partition, position| self.committed.get(partition) != Some(&position.offset));
        offsets
    }
}

fn lag(position: Offset, end: Offset) -> u64 {
    u64::try_from(end.get().saturating_sub(position.get())).unwrap_or_default()
}
