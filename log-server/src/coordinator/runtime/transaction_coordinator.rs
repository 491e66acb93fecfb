//! The coordinator of all transactions, as the fronts call it. `hosts` finds each transactional id's shard.
//!
//! An answer leaves when what it says is on the disk: a transaction that somebody was told is to be committed will be, whatever happens.

use std::collections::BTreeSet;
use std::sync::Arc;

use log_core::clock::{Clock, SteadyMs};
use log_core::model::{ProducerId, TopicPartition};
use log_core::record::control::TransactionOutcome;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::config::keys::BrokerConfig;
use crate::coordinator::group::error::GroupError;
use crate::coordinator::runtime::group_coordinator::GroupCoordinator;
use crate::coordinator::runtime::host::HostContext;
use crate::coordinator::runtime::hosts::{ShardCounts, ShardHosts};
use crate::coordinator::runtime::markers::write_markers;
use crate::coordinator::runtime::shard::{BatchOwner, Effects, Shard, World};
use crate::coordinator::runtime::shard_topic::{TRANSACTIONS_TOPIC, new_topic};
use crate::coordinator::runtime::tidy::TidyTuning;
use crate::coordinator::transaction::admin::{ListedTransaction, TransactionFilter};
use crate::coordinator::transaction::context::{Context, DecidedTransaction, ProducerIdentity};
use crate::coordinator::transaction::end::EndRequest;
use crate::coordinator::transaction::error::TransactionError;
use crate::coordinator::transaction::init::{Identified, InitRequest};
use crate::coordinator::transaction::partitions::{Admitted, PartitionsRequest};
use crate::coordinator::transaction::record::{Transaction, TransactionRecord};
use crate::coordinator::transaction::settings::TransactionSettings;
use crate::coordinator::transaction::shard::TransactionShard;
use crate::metadata::controller::Controller;
use crate::metadata::plan::NewTopic;
use crate::partition::registry::PartitionRegistry;

/// How a producer's partitions become part of its transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// They must be part of it already.
    Verify,
    /// They are added.
    Add {
        /// The transaction version that the producer speaks.
        client_version: i16,
    },
}

/// Coordinates all transactions of the broker.
#[derive(Debug)]
pub struct TransactionCoordinator {
    pub(super) hosts: ShardHosts<TransactionShard>,
    pub(super) groups: Arc<GroupCoordinator>,
    markers: Mutex<Option<JoinHandle<()>>>,
}

impl TransactionCoordinator {
    /// A coordinator; if the topic exists, its shards are being loaded when this returns. To be called on a runtime.
    #[must_use]
    pub fn start(
        controller: Arc<Controller>,
        partitions: Arc<PartitionRegistry>,
        clock: Arc<dyn Clock>,
        groups: Arc<GroupCoordinator>,
    ) -> Arc<Self> {
        let settings = TransactionSettings::from_config(controller.config());
        let (tasks, decided) = mpsc::unbounded_channel();
        let coordinator = Arc::new(Self {
            hosts: ShardHosts::start(HostContext {
                controller,
                partitions,
                clock,
                settings,
                tidying: TidyTuning::default(),
                tasks,
            }),
            groups,
            markers: Mutex::default(),
        });
        let markers = tokio::spawn(write_markers(Arc::clone(&coordinator), decided));
        *coordinator.markers.lock() = Some(markers);
        coordinator
    }

    /// Returns when the coordinator of a transactional id can be asked: the topic is made if need be. A shard that is still being read
    /// counts: its producers are told to wait.
    ///
    /// # Errors
    /// The topic cannot be made, or the id's partition is off-line.
    pub async fn ready(&self, transactional_id: &str) -> Result<(), TransactionError> {
        Ok(self.hosts.ready(transactional_id).await?)
    }

    /// How the shards are; none while there is no topic. Never waits.
    #[must_use]
    pub fn shard_counts(&self) -> ShardCounts {
        self.hosts.counts()
    }

    /// Gives a producer its identity, and fences the one before.
    ///
    /// # Errors
    /// As [`TransactionShard::init_producer`], or the shard is not there.
    pub async fn init_producer(&self, request: InitRequest) -> Result<ProducerIdentity, TransactionError> {
        let id = Arc::clone(&request.transactional_id);
        self.identify(&id, |shard, context, fresh| {
            shard.init_producer(context, &request, fresh)
        })
        .await
    }

    /// Says of partitions whether the producer may write to them within its transaction.
    ///
    /// # Errors
    /// The producer is not the current one, its last transaction is still being ended, or the shard is not there.
    pub async fn admit(
        &self,
        transactional_id: &str,
        producer: ProducerIdentity,
        partitions: BTreeSet<TopicPartition>,
        admission: Admission,
    ) -> Result<Vec<Admitted>, TransactionError> {
        let request = PartitionsRequest {
            transactional_id: transactional_id.into(),
            producer,
            partitions,
        };
        self.run(transactional_id, |shard, context| match admission {
            Admission::Verify => shard.verify_partitions(&request),
            Admission::Add { client_version } => {
                shard.add_partitions(context, &request, client_version)?;
                let places = request.partitions.iter();
                Ok(places.map(|place| (place.clone(), Ok(()))).collect())
            }
        })
        .await
    }

    /// Makes the offsets of a group part of the producer's transaction.
    ///
    /// # Errors
    /// As [`Self::admit`], or the group's partition is not there.
    pub async fn add_offsets(
        &self,
        transactional_id: &str,
        producer: ProducerIdentity,
        group: &str,
        client_version: i16,
    ) -> Result<(), TransactionError> {
        let place = self
            .groups
            .partition_of(group)
            .await
            .map_err(|error| match error {
                GroupError::LoadInProgress => TransactionError::LoadInProgress,
                other => TransactionError::NotAvailable(other.to_string()),
            })?;
        let admission = Admission::Add { client_version };
        self.admit(transactional_id, producer, BTreeSet::from([place]), admission)
            .await
            .map(drop)
    }

    /// Decides a transaction, and answers who the producer is from now on. Its markers are written after the answer.
    ///
    /// # Errors
    /// As [`TransactionShard::end_transaction`], or the shard is not there.
    pub async fn end_transaction(&self, request: EndRequest) -> Result<ProducerIdentity, TransactionError> {
        let id = Arc::clone(&request.transactional_id);
        self.identify(&id, |shard, context, fresh| {
            shard.end_transaction(context, &request, fresh)
        })
        .await
    }

    /// The transactional ids that pass a filter, by shard; one that is not there is an `Err` in its place.
    pub async fn list(
        &self,
        filter: &TransactionFilter,
    ) -> Vec<Result<Vec<ListedTransaction>, TransactionError>> {
        let answers = self
            .hosts
            .run_all(|shard, context| shard.list_transactions(context, filter));
        answers.await.into_iter().map(|answer| Ok(answer?)).collect()
    }

    /// All that is known of a transactional id.
    ///
    /// # Errors
    /// That is nothing, or the shard is not there.
    pub async fn describe(&self, transactional_id: &str) -> Result<Transaction, TransactionError> {
        self.run(transactional_id, |shard, _| {
            shard.describe_transaction(transactional_id)
        })
        .await
    }

    /// Ends the service: no command is carried out any more. What was carried out before is still answered when it is on the
    /// disk.
    pub fn close(&self) {
        self.hosts.close();
        if let Some(markers) = &*self.markers.lock() {
            // What is decided is carried out by the next start.
            markers.abort();
        }
    }

    /// Waits for the tasks behind a coordinator that was closed.
    pub async fn closed(&self) {
        self.hosts.closed().await;
        let markers = self.markers.lock().take();
        if let Some(Err(error)) = async { Some(markers?.await) }.await
            && error.is_panic()
        {
            tracing::error!(%error, "the task that ends transactions panicked");
        }
    }

    async fn run<R: Send + 'static>(
        &self,
        transactional_id: &str,
        command: impl FnOnce(&mut TransactionShard, &mut Context<'_>) -> Result<R, TransactionError> + Send,
    ) -> Result<R, TransactionError> {
        let pending = self.hosts.host(transactional_id).await?.begin(command)?;
        pending.finish().await?
    }

    /// Runs a command that may need a new producer id: again, with one, if it does.
    async fn identify(
        &self,
        transactional_id: &str,
        mut command: impl FnMut(
            &mut TransactionShard,
            &mut Context<'_>,
            Option<ProducerId>,
        ) -> Result<Identified, TransactionError>
        + Send,
    ) -> Result<ProducerIdentity, TransactionError> {
        let mut fresh = None;
        loop {
            let identified = self.run(transactional_id, |shard, context| command(shard, context, fresh));
            match identified.await? {
                Identified::Done(producer) => return Ok(producer),
                Identified::NeedsProducerId => {
                    let controller = &self.hosts.context().controller;
                    let id = controller.allocate_producer_id().await;
                    fresh = Some(id.map_err(|error| TransactionError::NoProducerId(error.to_string()))?);
                }
            }
        }
    }
}

impl Shard for TransactionShard {
    type Record = TransactionRecord;
    type Settings = TransactionSettings;
    type Context<'a> = Context<'a>;
    /// Nobody waits for others here.
    type Reply = std::convert::Infallible;
    type Task = DecidedTransaction;

    const NOUN: &'static str = "transactions";
    const TOPIC: &'static str = TRANSACTIONS_TOPIC;

    fn new_topic(config: &BrokerConfig) -> NewTopic {
        new_topic(
            TRANSACTIONS_TOPIC,
            config.transaction_state_log_partitions,
            config.transaction_state_log_segment_bytes,
        )
    }

    fn context<'a>(world: World<'a>, settings: &'a TransactionSettings) -> Context<'a> {
        Context::new(world.now, world.steady, settings)
    }

    fn take_effects(context: &mut Context<'_>) -> Effects<Self> {
        Effects {
            records: std::mem::take(&mut context.records),
            owner: None,
            replies: Vec::new(),
            tasks: std::mem::take(&mut context.decided),
        }
    }

    fn replay(&mut self, record: &TransactionRecord, _owner: Option<BatchOwner>) {
        self.replay(record);
    }

    /// The topic is part of no transaction.
    fn replay_marker(&mut self, _producer_id: ProducerId, _outcome: TransactionOutcome) {}

    fn loaded(&mut self, context: &mut Context<'_>) {
        self.loaded(context);
    }

    fn next_deadline(&self) -> Option<SteadyMs> {
        self.next_deadline()
    }

    fn tick(&mut self, context: &mut Context<'_>) {
        self.tick(context);
    }

    /// Whatever a command changes beside its records is looked at in vain.
    fn write_refused(&mut self, _records: &[TransactionRecord], _context: &mut Context<'_>) {}
}
