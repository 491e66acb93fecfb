//! The coordinator of all groups, as the fronts call it.
//! `hosts` finds the shard of each group.

use std::convert::Infallible;
use std::sync::Arc;

use log_core::clock::{Clock, SteadyMs};
use log_core::model::{ProducerId, TopicPartition};
use log_core::producer_state::verification::{TransactionProof, TransactionalBatch};
use log_core::record::control::{TransactionEnd, TransactionOutcome};
use tokio::sync::mpsc;

use crate::config::keys::BrokerConfig;
use crate::coordinator::group::classic::reply::Reply;
use crate::coordinator::group::context::{Context, Ticket};
use crate::coordinator::group::error::GroupError;
use crate::coordinator::group::record::GroupRecord;
use crate::coordinator::group::settings::GroupSettings;
use crate::coordinator::group::shard::GroupShard;
use crate::coordinator::runtime::host::HostContext;
use crate::coordinator::runtime::hosts::{ShardCounts, ShardHosts};
use crate::coordinator::runtime::lag::OutOfRangeWatch;
use crate::coordinator::runtime::markers::MarkerError;
use crate::coordinator::runtime::shard::{BatchOwner, Effects, Shard, World};
use crate::coordinator::runtime::shard_topic::{OFFSETS_TOPIC, new_topic};
use crate::coordinator::runtime::tidy::TidyTuning;
use crate::metadata::controller::Controller;
use crate::metadata::plan::NewTopic;
use crate::partition::error::PartitionError;
use crate::partition::partition::Ack;
use crate::partition::registry::PartitionRegistry;

/// Coordinates all groups of the broker.
#[derive(Debug)]
pub struct GroupCoordinator {
    pub(super) hosts: ShardHosts<GroupShard>,
    pub(super) out_of_range: OutOfRangeWatch,
}

impl GroupCoordinator {
    /// A coordinator; if the topic exists, its shards are being loaded when this returns. To be called on a runtime.
    #[must_use]
    pub fn start(
        controller: Arc<Controller>,
        partitions: Arc<PartitionRegistry>,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        Self::start_with(controller, partitions, clock, TidyTuning::default())
    }

    /// The same, tidying up as a test wants it.
    pub(super) fn start_with(
        controller: Arc<Controller>,
        partitions: Arc<PartitionRegistry>,
        clock: Arc<dyn Clock>,
        tidying: TidyTuning,
    ) -> Arc<Self> {
        let settings = GroupSettings::from_config(controller.config());
        // Groups have no tasks.
        let (tasks, _) = mpsc::unbounded_channel();
        Arc::new(Self {
            hosts: ShardHosts::start(HostContext {
                controller,
                partitions,
                clock,
                settings,
                tidying,
                tasks,
            }),
            out_of_range: OutOfRangeWatch::default(),
        })
    }

    /// Returns when the group's coordinator can be asked: the topic is made if need be. A shard that is still being read counts:
    /// its groups are told to wait.
    ///
    /// # Errors
    /// The topic cannot be made, or the group's partition is off-line.
    pub async fn ready(&self, group: &str) -> Result<(), GroupError> {
        Ok(self.hosts.ready(group).await?)
    }

    /// The partition of `__consumer_offsets` that a group's records stand in; the topic is made if need be.
    ///
    /// # Errors
    /// The topic cannot be made.
    pub async fn partition_of(&self, group: &str) -> Result<TopicPartition, GroupError> {
        Ok(self.hosts.host(group).await?.partition().name().clone())
    }

    /// Runs a command of one group and answers when what it wrote is on the disk.
    ///
    /// # Errors
    /// The group's shard is not there, the log refuses the records, or they may not be on the disk.
    pub async fn run<R: Send + 'static>(
        &self,
        group: &str,
        command: impl FnOnce(&mut GroupShard, &mut Context<'_>) -> R + Send,
    ) -> Result<R, GroupError> {
        let pending = self.hosts.host(group).await?.begin(command)?;
        Ok(pending.finish().await?)
    }

    /// Says what a producer's records need that are to become part of its transaction in the group's partition, and which partition
    /// that is: as [`Partition::start_verification`](crate::partition::partition::Partition::start_verification).
    ///
    /// # Errors
    /// The producer was replaced, or the partition is not there.
    pub async fn start_verification(
        &self,
        group: &str,
        batch: &TransactionalBatch,
    ) -> Result<(TopicPartition, TransactionProof), GroupError> {
        let partition = self.hosts.host(group).await?.partition();
        let proof = partition.start_verification(batch).map_err(|error| match error {
            PartitionError::Producer(refusal) => GroupError::Producer(refusal),
            other => GroupError::NotAvailable(other.to_string()),
        })?;
        Ok((partition.name().clone(), proof))
    }

    /// As [`Self::run`], for a command whose records become part of a producer's transaction.
    ///
    /// # Errors
    /// As [`Self::run`]; the transaction has ended meanwhile.
    pub async fn run_in_transaction<R: Send + 'static>(
        &self,
        group: &str,
        proof: &TransactionProof,
        command: impl FnOnce(&mut GroupShard, &mut Context<'_>) -> R + Send,
    ) -> Result<R, GroupError> {
        let host = self.hosts.host(group).await?;
        let pending = host.begin_in_transaction(proof, command)?;
        Ok(pending.finish().await?)
    }

    /// The same for a command whose answer comes later.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn run_parked(
        &self,
        group: &str,
        command: impl FnOnce(&mut GroupShard, &mut Context<'_>, Ticket) + Send,
    ) -> Result<Reply, GroupError> {
        let answer = self.hosts.host(group).await?.begin_parked(command)?;
        // A ticket that is thrown away unanswered is a mistake; the client is to look again.
        match answer.await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(GroupError::NotCoordinator),
        }
    }

    /// Runs a command on every shard that is loaded (`ListGroups`); a shard that loads is an `Err` in its place. Nothing while
    /// there is no topic.
    pub async fn run_all<R: Send + 'static>(
        &self,
        command: impl Fn(&mut GroupShard, &mut Context<'_>) -> R + Send,
    ) -> Vec<Result<R, GroupError>> {
        let answers = self.hosts.run_all(command).await;
        answers.into_iter().map(|answer| Ok(answer?)).collect()
    }

    /// How the shards are; none while there is no topic. Never waits.
    #[must_use]
    pub fn shard_counts(&self) -> ShardCounts {
        self.hosts.counts()
    }

    /// Topics were deleted: what was committed of them is forgotten; where that is very much, the rest soon. A shard that is not
    /// loaded finds out when it is.
    pub async fn topics_deleted(&self) {
        drop(self.run_all(GroupShard::topics_deleted).await);
    }

    /// Ends a producer's transaction in a partition of `__consumer_offsets`: its offsets count from then on, or never did.
    ///
    /// # Errors
    /// The partition's groups are not served now, or the log refuses.
    pub(super) fn append_marker(&self, partition: i32, end: TransactionEnd) -> Result<Ack, MarkerError> {
        let host = self.hosts.at(partition).ok_or(MarkerError::UnknownPartition)?;
        host.append_marker(end)
    }

    /// Ends the service: parked requests are answered, and no command is carried out any more. What was carried out
    /// before is still answered when it is on the disk.
    pub fn close(&self) {
        self.hosts.close();
    }

    /// Waits for the tasks behind a coordinator that was closed.
    pub async fn closed(&self) {
        self.hosts.closed().await;
    }
}

impl Shard for GroupShard {
    type Record = GroupRecord;
    type Settings = GroupSettings;
    type Context<'a> = Context<'a>;
    type Reply = Reply;
    type Task = Infallible;

    const NOUN: &'static str = "groups";
    const TOPIC: &'static str = OFFSETS_TOPIC;

    fn new_topic(config: &BrokerConfig) -> NewTopic {
        new_topic(
            OFFSETS_TOPIC,
            config.offsets_topic_partitions,
            config.offsets_topic_segment_bytes,
        )
    }

    fn context<'a>(world: World<'a>, settings: &'a GroupSettings) -> Context<'a> {
        Context::new(world.now, world.steady, settings, world.topics, world.random_id)
    }

    fn take_effects(context: &mut Context<'_>) -> Effects<Self> {
        Effects {
            records: std::mem::take(&mut context.records),
            owner: context.transaction.take().map(|producer| BatchOwner {
                producer_id: producer.id,
                producer_epoch: producer.epoch,
            }),
            replies: std::mem::take(&mut context.replies),
            tasks: Vec::new(),
        }
    }

    fn replay(&mut self, record: &GroupRecord, owner: Option<BatchOwner>) {
        match owner {
            None => self.replay(record),
            Some(owner) => self.replay_in_transaction(owner.producer_id, record),
        }
    }

    fn replay_marker(&mut self, producer_id: ProducerId, outcome: TransactionOutcome) {
        self.replay_marker(producer_id, outcome);
    }

    fn loaded(&mut self, context: &mut Context<'_>) {
        self.loaded(context);
    }

    fn next_deadline(&self) -> Option<SteadyMs> {
        self.next_deadline()
    }

    fn tick(&mut self, context: &mut Context<'_>) {
        self.tick(context);
    }

    fn write_refused(&mut self, records: &[GroupRecord], context: &mut Context<'_>) {
        self.write_refused(records, context);
    }
}
