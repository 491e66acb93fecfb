//! What handlers use of the rest of the broker, and the few questions that several of them ask it.
//! A handler gets these and not the broker: how they are made and stopped is wiring, and stands in `broker`.

use std::sync::Arc;
use std::time::Instant;

use log_core::clock::Clock;
use log_core::model::{LeaderEpoch, ProducerEpoch, ProducerId, TopicId};
use log_core::protocol::{ErrorCode, KafkaString};
use tokio::sync::Semaphore;

use crate::config::keys::BrokerConfig;
use crate::coordinator::runtime::group_coordinator::GroupCoordinator;
use crate::coordinator::runtime::transaction_coordinator::TransactionCoordinator;
use crate::coordinator::transaction::context::ProducerIdentity;
use crate::kafka::fetch_session::{FetchSessions, SessionLimits};
use crate::kafka::line_limit::LineLimit;
use crate::metadata::controller::Controller;
use crate::metadata::topic_name::METADATA_TOPIC;
use crate::partition::partition::Partition;
use crate::partition::registry::PartitionRegistry;
use crate::shutdown::ShutdownSignal;
use crate::telemetry::manager::ClientMetricsManager;

/// A quarter of a gigabyte; ten thousand consumers with a hundred partitions each fit in.
pub(crate) const WAITING_PARTITIONS_MAX: usize = 1 << 20;

/// The services of the Kafka front.
#[derive(Debug)]
pub struct Services {
    /// The broker's settings as it was started.
    pub config: Arc<BrokerConfig>,
    /// Topics, settings, producer ids.
    pub controller: Arc<Controller>,
    /// The partitions.
    pub partitions: Arc<PartitionRegistry>,
    /// Groups of consumers.
    pub groups: Arc<GroupCoordinator>,
    /// Transactions.
    pub transactions: Arc<TransactionCoordinator>,
    /// What clients measure of themselves.
    pub client_metrics: Arc<ClientMetricsManager>,
    /// Says when fetches shall no longer wait.
    pub shutdown: ShutdownSignal,
    /// What clients fetch again and again.
    pub(crate) sessions: FetchSessions,
    /// How many partitions fetches may wait for, all together. A fetch that waits holds about 250 bytes for each that it names, whether
    /// the partition is there or not, and nothing of its request's memory.
    pub(crate) waiting_partitions: Arc<Semaphore>,
    /// Bounds the lines that clients' requests write to the log.
    pub(crate) lines: LineLimit,
    started: Instant,
}

/// What clients agree on through the broker.
#[derive(Debug, Clone)]
pub struct Coordinators {
    /// Groups of consumers.
    pub groups: Arc<GroupCoordinator>,
    /// Transactions.
    pub transactions: Arc<TransactionCoordinator>,
}

impl Coordinators {
    /// Ends the service of both: nothing is carried out any more.
    pub fn close(&self) {
        self.transactions.close();
        self.groups.close();
    }

    /// Waits for the tasks behind both.
    pub async fn closed(&self) {
        self.transactions.closed().await;
        self.groups.closed().await;
    }
}

impl Services {
    /// The services of one broker.
    #[must_use]
    pub fn new(
        controller: Arc<Controller>,
        partitions: Arc<PartitionRegistry>,
        coordinators: Coordinators,
        clock: Arc<dyn Clock>,
        shutdown: ShutdownSignal,
    ) -> Self {
        let config = Arc::clone(controller.config());
        let limits = SessionLimits {
            sessions_max: config.max_incremental_fetch_session_cache_slots,
            ..SessionLimits::default()
        };
        Self {
            client_metrics: Arc::new(ClientMetricsManager::new(clock, config.telemetry_max_bytes)),
            config,
            controller,
            partitions,
            groups: coordinators.groups,
            transactions: coordinators.transactions,
            shutdown,
            sessions: FetchSessions::new(limits),
            waiting_partitions: Arc::new(Semaphore::new(WAITING_PARTITIONS_MAX)),
            lines: LineLimit::new(),
            started: Instant::now(),
        }
    }

    /// Milliseconds on a clock that does not jump.
    pub(crate) fn steady_ms(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// A partition that clients may know of, by name.
    pub(crate) fn partition(&self, topic: &str, index: i32) -> Option<Arc<Partition>> {
        if topic == METADATA_TOPIC {
            return None;
        }
        self.partitions.get(topic, index)
    }

    /// A partition that clients may know of, by id.
    pub(crate) fn partition_by_id(&self, topic_id: TopicId, index: i32) -> Option<Arc<Partition>> {
        let partition = self.partitions.get_by_id(topic_id, index)?;
        (*partition.name().topic != *METADATA_TOPIC).then_some(partition)
    }
}

/// Compares the leader epoch a client believes in with the partition's (KIP-320); -1 believes in none.
pub(crate) fn check_leader_epoch(partition: &Partition, believed: i32) -> Result<(), ErrorCode> {
    if believed == LeaderEpoch::NONE.get() {
        return Ok(());
    }
    let current = partition.leader_epoch().get();
    match believed.cmp(&current) {
        std::cmp::Ordering::Less => Err(ErrorCode::FencedLeaderEpoch),
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(ErrorCode::UnknownLeaderEpoch),
    }
}

/// A producer as requests name it.
pub(crate) fn producer_identity(id: i64, epoch: i16) -> ProducerIdentity {
    ProducerIdentity {
        id: ProducerId::new(id),
        epoch: ProducerEpoch::new(epoch),
    }
}

/// Text as the codec wants it, copied: an answer that waits must not keep its request's bytes in memory.
pub(crate) fn kafka_string(text: &str) -> KafkaString {
    KafkaString::from(text.to_owned())
}

/// An error's message as the codec wants it. Longer than a short string may be, it is cut.
pub(crate) fn message(text: &impl ToString) -> KafkaString {
    const MESSAGE_BYTES_MAX: usize = 4096;
    let mut text = text.to_string();
    text.truncate(text.floor_char_boundary(MESSAGE_BYTES_MAX));
    KafkaString::from(text)
}

/// The operations a client may do on a topic, as the bits of Kafka's `AclOperation`s: read, write, create, delete, alter,
/// describe, describe and alter configs. Without an authorizer that is all of them.
pub(crate) const TOPIC_OPERATIONS: i32 = bits(&[3, 4, 5, 6, 7, 8, 10, 11]);
/// The same for the cluster: create, alter, describe, cluster action, describe and alter configs, idempotent write.
pub(crate) const CLUSTER_OPERATIONS: i32 = bits(&[5, 7, 8, 9, 10, 11, 12]);
/// The same for a group: read, delete, describe, describe and alter configs.
pub(crate) const GROUP_OPERATIONS: i32 = bits(&[3, 6, 8, 10, 11]);
/// "Not asked for."
pub(crate) const NO_OPERATIONS: i32 = i32::MIN;

const fn bits(operations: &[u8]) -> i32 {
    let mut set = 0;
    let mut rest = operations;
    while let [operation, others @ ..] = rest {
        set |= 1 << *operation;
        rest = others;
    }
    set
}
