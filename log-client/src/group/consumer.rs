//! What the application holds: it reads the partitions that the group gives it, and commits.
//!
//! All that waits may be cancelled: no record is skipped by it, and what the group decided is carried out by the
//! next call. While the application is not in `poll` or `next`, it is at work: `max.poll.interval.ms` counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::stream::{self, Stream};
use log_core::model::{Offset, TopicPartition};
use log_core::protocol::ErrorCode;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use super::buffer::Buffer;
use super::committer::{Committer, Offsets};
use super::config::{AutoOffsetReset, GroupConfig};
use super::link::{Command, Link, Partitions};
use super::listener::RebalanceListener;
use super::membership::Membership;
use super::rebalance::{Rebalancing, step};
use super::subscription::Subscription;
use crate::cluster::Cluster;
use crate::config::StartAt;
use crate::consumer::{Consumer, ConsumerRecord, PartitionRecords, back};
use crate::coordinator::{CommitIdentity, CommittedOffset, Coordinator, GroupMember};
use crate::error::{Error, Result};

/// A member of a group. Dropping it leaves the group to find out by itself; [`GroupConsumer::close`] tells it.
pub struct GroupConsumer {
    pub(super) config: Arc<GroupConfig>,
    pub(super) coordinator: Coordinator,
    pub(super) consumer: Consumer,
    pub(super) link: Arc<Link>,
    pub(super) commands: mpsc::UnboundedSender<Command>,
    pub(super) committer: Committer,
    membership: JoinHandle<()>,
    pub(super) listener: Option<Box<dyn RebalanceListener>>,
    is_subscribed: bool,
    /// What the group has given to this member.
    pub(super) owned: Partitions,
    pub(super) rebalancing: Option<Rebalancing>,
    /// Partitions whose committed offset is being looked up, with the number of the look-up.
    pub(super) starting: BTreeMap<TopicPartition, u64>,
    /// Partitions that have no committed offset, and nobody says where to begin.
    pub(super) unstarted: BTreeSet<TopicPartition>,
    pub(super) paused: BTreeSet<TopicPartition>,
    pub(super) buffer: Buffer,
    lookups: u64,
    pub(super) work: JoinSet<Done>,
    pub(super) auto_commit_at: Instant,
    pub(super) is_auto_committing: bool,
    /// What is known to be committed, so that it is not committed again for nothing.
    pub(super) committed: BTreeMap<TopicPartition, Offset>,
    /// Why offsets of partitions that were given up are not committed.
    pub(super) commit_error: Option<Error>,
}

/// What was done meanwhile.
pub(super) enum Done {
    LookedUp {
        number: u64,
        partitions: Vec<TopicPartition>,
        result: Result<Vec<(TopicPartition, Result<Option<CommittedOffset>>)>>,
    },
    AutoCommitted {
        offsets: Offsets,
        result: Result<()>,
    },
}

impl std::fmt::Debug for GroupConsumer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("GroupConsumer")
            .field("group", &self.config.group_id)
            .field("owned", &self.owned.keys())
            .finish_non_exhaustive()
    }
}

impl Drop for GroupConsumer {
    fn drop(&mut self) {
        self.membership.abort();
    }
}

impl GroupConsumer {
    /// A consumer that is no member yet; it joins with the first subscription.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`].
    pub fn new(config: GroupConfig) -> Result<Self> {
        config.validate()?;
        let config = Arc::new(config);
        let consumer = Consumer::new(config.of_partitions())?;
        let coordinator = Coordinator::new(consumer.cluster().clone(), &config.group_id);
        let link = Arc::new(Link::new());
        let (commands, membership) = Membership::start(&config, &coordinator, &link);
        Ok(Self {
            committer: Committer::start(coordinator.clone(), Arc::clone(&link)),
            membership,
            auto_commit_at: Instant::now() + config.auto_commit_interval,
            config,
            coordinator,
            consumer,
            link,
            commands,
            listener: None,
            is_subscribed: false,
            owned: Partitions::new(),
            rebalancing: None,
            starting: BTreeMap::new(),
            unstarted: BTreeSet::new(),
            paused: BTreeSet::new(),
            buffer: Buffer::default(),
            lookups: 0,
            work: JoinSet::new(),
            is_auto_committing: false,
            committed: BTreeMap::new(),
            commit_error: None,
        })
    }

    /// The cluster it reads from.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        self.consumer.cluster()
    }

    /// Is told about partitions that come and go from now on.
    pub fn set_listener(&mut self, listener: impl RebalanceListener + 'static) {
        self.listener = Some(Box::new(listener));
    }

    /// Reads these topics, and no others any more; what that means for this member the group decides. Topics
    /// may come to exist later.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] for no topics.
    pub fn subscribe(&mut self, topics: impl IntoIterator<Item = impl Into<String>>) -> Result<()> {
        let subscription = Subscription::topics(topics)?;
        self.subscribe_to(subscription);
        Ok(())
    }

    /// Reads all topics whose whole names match a regular expression, those of the future too.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] for an expression that is none.
    pub fn subscribe_pattern(&mut self, expression: &str) -> Result<()> {
        let subscription = Subscription::pattern(expression)?;
        self.subscribe_to(subscription);
        Ok(())
    }

    fn subscribe_to(&mut self, subscription: Subscription) {
        if let Subscription::Topics(topics) = &subscription {
            // So that the first look at the cluster shows them.
            for topic in topics {
                self.cluster().watch_topic(topic);
            }
        }
        self.lose_what_has_ended();
        if self.commands.is_closed() {
            // A task that is about to say so is not listened to any more.
            self.lose();
            let (commands, task) = Membership::start(&self.config, &self.coordinator, &self.link);
            (self.commands, self.membership) = (commands, task);
        }
        self.is_subscribed = true;
        // A task that ends just now says so, and the next poll fails.
        self.commands.send(Command::Subscribe(subscription)).ok();
    }

    /// Gives up what a membership gave that has ended by itself.
    fn lose_what_has_ended(&mut self) {
        if self.link.take_end() {
            self.lose();
        }
    }

    /// Gives all partitions up as when they are revoked, and leaves the group.
    ///
    /// # Errors
    /// Why positions could not be committed; the group was left nevertheless.
    pub async fn unsubscribe(&mut self) -> Result<()> {
        if !self.is_subscribed {
            return Ok(());
        }
        let _present = self.link.present();
        self.commit_error = None;
        self.lose_what_has_ended();
        self.rebalanced().await;
        self.release();
        self.rebalanced().await;
        // What was committed without being waited for comes first.
        self.committer.commit(Offsets::new(), None).await.ok();
        let (told, left) = oneshot::channel();
        if self.commands.send(Command::Leave(told)).is_ok() {
            // Without an answer the task has ended, and so has the membership.
            left.await.ok();
        }
        self.is_subscribed = false;
        self.link.left();
        self.commit_error.take().map_or(Ok(()), Err)
    }

    /// Carries out to the end what was begun.
    async fn rebalanced(&mut self) {
        while self.rebalancing.is_some() {
            let result = step(&mut self.rebalancing).await;
            self.stepped(result);
        }
    }

    /// Commits as `enable.auto.commit` says, gives all partitions up and leaves the group, within
    /// `close_timeout`. A static member keeps its place until its session ends.
    ///
    /// # Errors
    /// Why positions could not be committed.
    pub async fn close(mut self) -> Result<()> {
        let timeout = self.config.close_timeout;
        match tokio::time::timeout(timeout, self.unsubscribe()).await {
            Ok(result) => result,
            Err(_) => Err(Error::Closed("consumer")),
        }
    }

    /// Waits until there are records, and returns what has arrived, at most one piece per partition: a piece is what a
    /// fetch brought, and bounded by its size in bytes. [`GroupConsumer::poll_records`] counts records. With
    /// `enable.auto.commit` this says that all that was returned before is done with.
    ///
    /// # Errors
    /// What reading a partition fails with for good; polling again goes on. What the membership has ended with: all
    /// partitions are lost then, and every poll fails until there is a new subscription, which joins anew.
    /// [`Error::InvalidConfig`] without a subscription.
    pub async fn poll(&mut self) -> Result<Vec<PartitionRecords>> {
        let _present = self.link.present();
        // What was meant to be handed out one by one is fetched again.
        for (partition, offset) in self.buffer.positions() {
            self.consumer.seek(&partition, StartAt::Offset(offset)).ok();
        }
        self.buffer.clear();
        self.arrived().await
    }

    /// Waits for the next record. With `enable.auto.commit` this says that all records that were returned before
    /// are done with.
    ///
    /// # Errors
    /// As [`GroupConsumer::poll`].
    pub async fn next(&mut self) -> Result<ConsumerRecord> {
        let _present = self.link.present();
        loop {
            self.turn()?;
            let consumer = &self.consumer;
            if let Some(record) = self.buffer.pop(|partition| consumer.is_paused(partition)) {
                return Ok(record);
            }
            let mut failed = None;
            for records in self.arrived().await? {
                let (partition, from) = (records.partition().clone(), records.asked_offset());
                if let Err(error) = self.buffer.push(records) {
                    // It is not skipped: the next call finds it again.
                    self.consumer.seek(&partition, StartAt::Offset(from)).ok();
                    failed = Some(error);
                }
            }
            if let Some(error) = failed {
                return Err(error);
            }
        }
    }

    /// Waits until there is a record, and returns those that have arrived, at most `max_poll_records`; the others come
    /// with the next calls. Otherwise as [`GroupConsumer::next`].
    ///
    /// # Errors
    /// As [`GroupConsumer::poll`].
    pub async fn poll_records(&mut self) -> Result<Vec<ConsumerRecord>> {
        let first = self.next().await?;
        // From here on nothing is waited for: what is taken out of the buffer is returned.
        let consumer = &self.consumer;
        let more = std::iter::from_fn(|| self.buffer.pop(|partition| consumer.is_paused(partition)));
        let records = std::iter::once(first).chain(more);
        Ok(records.take(self.config.max_poll_records).collect())
    }

    /// The records as a stream that never ends; what [`GroupConsumer::next`] fails with is an item of it.
    pub fn stream(&mut self) -> impl Stream<Item = Result<ConsumerRecord>> + '_ {
        stream::unfold(self, |consumer| async move {
            let record = consumer.next().await;
            Some((record, consumer))
        })
    }

    /// Ends the membership's task as a panic would.
    #[cfg(test)]
    pub(super) fn abort_membership(&self) {
        self.membership.abort();
    }

    async fn arrived(&mut self) -> Result<Vec<PartitionRecords>> {
        let link = Arc::clone(&self.link);
        loop {
            self.turn()?;
            if !self.is_subscribed {
                return Err(Error::config("the consumer is subscribed to nothing"));
            }
            let has_partitions = self.consumer.assignment().next().is_some();
            tokio::select! {
                records = self.consumer.poll(), if has_partitions => return records,
                () = link.changed.notified() => {}
                Some(done) = self.work.join_next(), if !self.work.is_empty() => self.done(done)?,
                result = step(&mut self.rebalancing), if self.rebalancing.is_some() => self.stepped(result),
                () = tokio::time::sleep_until(self.auto_commit_at), if self.config.enable_auto_commit => {}
            }
        }
    }

    /// Does what can be done without waiting.
    fn turn(&mut self) -> Result<()> {
        while let Some(done) = self.work.try_join_next() {
            self.done(done)?;
        }
        while let Some(result) = step(&mut self.rebalancing).now_or_never() {
            self.stepped(result);
        }
        if self.link.has_news() {
            let news = self.link.take_news(self.rebalancing.is_some());
            if news.has_ended {
                self.lose();
            }
            if let Some(given) = news.given {
                self.obey(given);
            }
            if let Some(error) = news.error {
                return Err(error);
            }
        }
        self.auto_commit_if_due();
        match self.unstarted.first() {
            Some(partition) => Err(Error::NoCommittedOffset {
                group: self.config.group_id.as_str().into(),
                partition: partition.clone(),
            }),
            None => Ok(()),
        }
    }

    fn done(&mut self, done: Result<Done, tokio::task::JoinError>) -> Result<()> {
        match done {
            Ok(Done::LookedUp {
                number,
                partitions,
                result,
            }) => self.looked_up(number, partitions, result),
            Ok(Done::AutoCommitted { offsets, result }) => {
                self.is_auto_committing = false;
                match result {
                    Ok(()) => {
                        let offsets = offsets.into_iter();
                        self.committed.extend(
                            offsets
                                .filter(|(partition, _)| self.owned.contains_key(partition))
                                .map(|(partition, committed)| (partition, committed.offset)),
                        );
                    }
                    Err(error) => {
                        tracing::warn!(group = self.config.group_id, %error, "an automatic commit failed");
                    }
                }
                Ok(())
            }
            // Nobody aborts these tasks, so this is a mistake of ours that has surfaced there.
            Err(failure) => match failure.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(Error::Closed("consumer")),
            },
        }
    }

    /// Asks where the group goes on in these partitions, after a while.
    pub(super) fn look_up(&mut self, partitions: Vec<TopicPartition>, after: Duration) {
        if partitions.is_empty() {
            return;
        }
        self.lookups += 1;
        let number = self.lookups;
        for partition in &partitions {
            self.starting.insert(partition.clone(), number);
        }
        let (coordinator, link) = (self.coordinator.clone(), Arc::clone(&self.link));
        self.work.spawn(async move {
            tokio::time::sleep(after).await;
            let deadline = coordinator.cluster().api_deadline();
            let identity = || link.identity().unwrap_or_else(CommitIdentity::nobody);
            let result = coordinator
                .fetch_offsets(identity, Some(&partitions), deadline)
                .await;
            Done::LookedUp {
                number,
                partitions,
                result,
            }
        });
    }

    fn looked_up(
        &mut self,
        number: u64,
        partitions: Vec<TopicPartition>,
        result: Result<Vec<(TopicPartition, Result<Option<CommittedOffset>>)>>,
    ) -> Result<()> {
        let mut rows: BTreeMap<_, _> = match result {
            Ok(rows) => rows.into_iter().collect(),
            Err(error) => partitions
                .iter()
                .map(|partition| (partition.clone(), Err(error.clone())))
                .collect(),
        };
        let mut again = Vec::new();
        let mut failed = Ok(());
        for partition in partitions {
            if self.starting.get(&partition) != Some(&number) {
                continue;
            }
            match rows.remove(&partition) {
                Some(Ok(Some(committed))) => {
                    self.committed.insert(partition.clone(), committed.offset);
                    self.read(&partition, StartAt::Offset(committed.offset));
                }
                Some(Ok(None)) => self.begin_without_offset(partition),
                Some(Err(error)) => {
                    // Whether it is still a member shows elsewhere.
                    if !concerns_membership(&error) {
                        failed = failed.and(Err(error));
                    }
                    again.push(partition);
                }
                None => again.push(partition),
            }
        }
        let wait = self.config.consumer.client.retry_backoff.after(1);
        self.look_up(again, wait);
        failed
    }

    fn begin_without_offset(&mut self, partition: TopicPartition) {
        let start = match self.config.auto_offset_reset {
            AutoOffsetReset::Earliest => StartAt::Earliest,
            AutoOffsetReset::Latest => StartAt::Latest,
            AutoOffsetReset::Back(duration) => back(duration),
            AutoOffsetReset::None => {
                self.starting.remove(&partition);
                self.unstarted.insert(partition);
                return;
            }
        };
        self.read(&partition, start);
    }

    /// Reads a partition of this member from `start` on.
    pub(super) fn read(&mut self, partition: &TopicPartition, start: StartAt) {
        self.starting.remove(partition);
        self.unstarted.remove(partition);
        self.consumer.assign(partition.clone(), start);
        let is_revoked = self
            .rebalancing
            .as_ref()
            .is_some_and(|change| change.revokes(partition));
        if is_revoked || self.paused.contains(partition) {
            // It was assigned on the line before.
            self.consumer.pause(partition).ok();
        }
    }

    /// The partitions that this member reads.
    pub fn assignment(&self) -> impl Iterator<Item = &TopicPartition> {
        self.owned.keys()
    }

    /// The member as the group knows it; none while it is not in the group.
    #[must_use]
    pub fn member(&self) -> Option<GroupMember> {
        let identity = self.link.identity()?;
        Some(GroupMember {
            group_id: self.config.group_id.clone(),
            member_id: identity.member_id,
            epoch: identity.epoch,
            instance_id: identity.instance_id,
        })
    }

    /// Holds the records of partitions back; what was fetched already is kept for later. It ends when the
    /// partition goes to somebody else.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] for a partition that this member does not read; then nothing is paused.
    pub fn pause(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.check_owned(partitions)?;
        for partition in partitions {
            self.paused.insert(partition.clone());
            // One whose start is being looked up is paused when it begins.
            self.consumer.pause(partition).ok();
        }
        Ok(())
    }

    /// Goes on with partitions that were paused.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] for a partition that this member does not read; then nothing is resumed.
    pub fn resume(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.check_owned(partitions)?;
        for partition in partitions {
            self.paused.remove(partition);
            let is_revoked = self
                .rebalancing
                .as_ref()
                .is_some_and(|change| change.revokes(partition));
            if !is_revoked {
                self.consumer.resume(partition).ok();
            }
        }
        Ok(())
    }

    /// The partitions that are paused.
    pub fn paused(&self) -> impl Iterator<Item = &TopicPartition> {
        self.paused.iter()
    }

    /// Reads a partition from another place on.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] for a partition that this member does not read.
    pub fn seek(&mut self, partition: &TopicPartition, start: StartAt) -> Result<()> {
        self.check_owned(std::slice::from_ref(partition))?;
        self.buffer.forget(partition);
        self.read(partition, start);
        Ok(())
    }

    fn check_owned(&self, partitions: &[TopicPartition]) -> Result<()> {
        match partitions
            .iter()
            .find(|partition| !self.owned.contains_key(*partition))
        {
            Some(partition) => Err(Error::config(format!(
                "{partition} is not assigned to this member of the group"
            ))),
            None => Ok(()),
        }
    }
}

/// Whether the error says that the member's place in the group has changed.
fn concerns_membership(error: &Error) -> bool {
    matches!(
        error.code(),
        Some(
            ErrorCode::UnknownMemberId
                | ErrorCode::StaleMemberEpoch
                | ErrorCode::FencedMemberEpoch
                | ErrorCode::IllegalGeneration
                | ErrorCode::RebalanceInProgress
        )
    )
}
