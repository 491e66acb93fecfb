//! Decided transactions are carried out: a marker goes to each of their partitions, and when all of them are on the disk, the
//! transaction is complete.
//!
//! What comes here is durably decided, so it is tried for as long as it takes: a partition that is off-line or refuses gets its marker
//! when it is back, and until then the transaction stays prepared, over restarts too. A partition that was deleted needs none.
//!
//! A marker is appended only while the transaction's shard is still the one that asked, and the next one does not begin to serve meanwhile.
//! Otherwise a late marker could end the producer's next transaction: a shard that was read again may have completed this one long ago.

use std::sync::Arc;
use std::time::Duration;

use log_core::model::{TopicPartition, TransactionVersion};
use log_core::producer_state::manager::ProducerStateError;
use log_core::record::control::{EndTransactionMarker, TransactionEnd};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;

use crate::coordinator::runtime::host::Task;
use crate::coordinator::runtime::shard_topic::{OFFSETS_TOPIC, TRANSACTIONS_TOPIC};
use crate::coordinator::runtime::transaction_coordinator::TransactionCoordinator;
use crate::coordinator::transaction::context::DecidedTransaction;
use crate::coordinator::transaction::end::EPOCH_BUMP;
use crate::coordinator::transaction::shard::TransactionShard;
use crate::partition::error::PartitionError;
use crate::partition::partition::Ack;

/// What was refused is tried again after so long,
const RETRY: Duration = Duration::from_millis(20);
/// and later and later, up to this.
const RETRY_MAX: Duration = Duration::from_secs(2);
/// From this many tries on, the log says so.
const TRIES_UNSAID: u32 = 8;

/// Why a marker was not written.
#[derive(Debug, thiserror::Error)]
pub enum MarkerError {
    /// There is no such partition: it was deleted, or never was, or is one that no transaction reaches.
    #[error("there is no such partition")]
    UnknownPartition,
    /// The partition refuses.
    #[error(transparent)]
    Partition(#[from] PartitionError),
    /// Groups stand in the partition, and are not served now.
    #[error("{0}")]
    NotServed(String),
}

impl MarkerError {
    /// Whether the partition needs no marker: it is gone, or has seen a later epoch of the producer, and so the end of this transaction.
    fn is_needless(&self) -> bool {
        matches!(
            self,
            Self::UnknownPartition
                | Self::Partition(
                    PartitionError::Deleted
                        | PartitionError::Producer(ProducerStateError::InvalidProducerEpoch { .. })
                )
        )
    }
}

/// Carries out what shards decide, until nobody can decide anything any more. Dropped, it leaves everything as it is: the next start goes on.
pub(super) async fn write_markers(
    coordinator: Arc<TransactionCoordinator>,
    mut tasks: UnboundedReceiver<Task<TransactionShard>>,
) {
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            task = tasks.recv() => match task {
                Some(task) => drop(running.spawn(carry_out(Arc::clone(&coordinator), task))),
                None => break,
            },
            Some(ended) = running.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "the end of a transaction panicked; the next start tries again");
                }
            }
        }
    }
}

/// Ends one transaction.
async fn carry_out(coordinator: Arc<TransactionCoordinator>, task: Task<TransactionShard>) {
    let mut left = task.what.partitions.clone();
    let mut pause = Pause::default();
    loop {
        let mut written = Vec::new();
        let mut refused = None;
        for place in &left {
            match coordinator.append_decided(&task, place) {
                // Another shard cares for it now.
                None => return,
                Some(appended) => written.push((place.clone(), appended)),
            }
        }
        // All of them wait for their disks at the same time.
        for (place, appended) in written {
            let outcome = match appended {
                Ok(ack) => durable(ack).await,
                Err(error) => Err(error),
            };
            match outcome {
                Ok(()) => drop(left.remove(&place)),
                Err(error) if error.is_needless() => {
                    tracing::debug!(partition = %place, %error, "a transaction marker is not needed");
                    left.remove(&place);
                }
                Err(error) => refused = Some((place, error)),
            }
        }
        let Some((place, error)) = refused else {
            break;
        };
        pause.wait(&task.what, &place.to_string(), &error).await;
    }
    complete(&coordinator, &task, pause).await;
}

/// Writes down that all markers are on the disk.
async fn complete(coordinator: &TransactionCoordinator, task: &Task<TransactionShard>, mut pause: Pause) {
    let Some(host) = coordinator.hosts.at(task.partition) else {
        return;
    };
    loop {
        let done = host.begin_for(task.incarnation, |shard, context| {
            shard.complete_transaction(context, &task.what);
        });
        match done {
            // Nobody waits for the disk: should it lose the record, the markers are written again.
            Ok(_) => return,
            Err(error) => {
                let place = host.partition().name().to_string();
                pause.wait(&task.what, &place, &error).await;
            }
        }
    }
}

async fn durable(ack: Ack) -> Result<(), MarkerError> {
    match ack {
        Ack::Now => Ok(()),
        Ack::WhenDurable(receiver) => match receiver.await {
            Ok(done) => Ok(done.map(drop)?),
            Err(_) => Err(MarkerError::Partition(PartitionError::ShuttingDown)),
        },
    }
}

impl TransactionCoordinator {
    /// Ends a producer's transaction in one partition, whatever its coordinator knows of it. The marker is in the log when this returns,
    /// and on the disk when the future ends.
    ///
    /// # Errors
    /// The marker was not written, or may not be on the disk.
    pub fn write_marker(
        &self,
        place: &TopicPartition,
        end: TransactionEnd,
    ) -> impl Future<Output = Result<(), MarkerError>> + Send + use<> {
        let appended = self.append_marker(place, end);
        async move { durable(appended?).await }
    }

    /// Appends one marker of a task; `None` if its shard is gone.
    pub(super) fn append_decided(
        &self,
        task: &Task<TransactionShard>,
        place: &TopicPartition,
    ) -> Option<Result<Ack, MarkerError>> {
        let host = self.hosts.at(task.partition)?;
        let end = TransactionEnd {
            producer_id: task.what.producer.id,
            producer_epoch: task.what.producer.epoch,
            version: transaction_version(task.what.client_version),
            marker: EndTransactionMarker {
                outcome: task.what.outcome,
                coordinator_epoch: host.partition().leader_epoch().get(),
            },
        };
        host.while_serving(task.incarnation, || self.append_marker(place, end))
    }

    /// Groups have to see the markers in their logs: those go through their shards.
    fn append_marker(&self, place: &TopicPartition, end: TransactionEnd) -> Result<Ack, MarkerError> {
        if *place.topic == *OFFSETS_TOPIC {
            return self.groups.append_marker(place.partition, end);
        }
        if *place.topic == *TRANSACTIONS_TOPIC {
            // Its shards know nothing of markers: one that stood in their log would have them read it again, for ever.
            return Err(MarkerError::UnknownPartition);
        }
        let partitions = &self.hosts.context().partitions;
        let partition = partitions.get(&place.topic, place.partition);
        let partition = partition.ok_or(MarkerError::UnknownPartition)?;
        Ok(partition.append_marker(end)?.ack)
    }
}

/// The rules of a transaction by the level that clients and requests speak of.
#[must_use]
pub fn transaction_version(level: i16) -> TransactionVersion {
    if EPOCH_BUMP <= level {
        TransactionVersion::V2
    } else {
        TransactionVersion::V1
    }
}

/// The time between tries.
#[derive(Debug)]
struct Pause {
    next: Duration,
    tries: u32,
}

impl Default for Pause {
    fn default() -> Self {
        Self {
            next: RETRY,
            tries: 0,
        }
    }
}

impl Pause {
    async fn wait(
        &mut self,
        decided: &DecidedTransaction,
        place: &str,
        error: &(dyn std::error::Error + Sync),
    ) {
        self.tries += 1;
        if self.tries.is_multiple_of(TRIES_UNSAID) {
            tracing::warn!(
                transactional_id = %decided.transactional_id, producer_id = decided.producer.id.get(), partition = place,
                tries = self.tries, error = %error, "a decided transaction cannot be ended yet and is tried again"
            );
        }
        tokio::time::sleep(self.next).await;
        self.next = self.next.saturating_mul(2).min(RETRY_MAX);
    }
}
