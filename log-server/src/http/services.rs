//! What handlers use of the rest of the broker, and the few questions that several of them ask it.
//! A handler gets these and not the broker: how they are made and stopped is wiring, and stands in `broker`.

use std::sync::Arc;

use log_core::clock::Clock;
use tokio::sync::Semaphore;

use crate::config::keys::BrokerConfig;
use crate::coordinator::runtime::group_coordinator::GroupCoordinator;
use crate::http::health::HealthSource;
use crate::http::leases::bells::LeaseBells;
use crate::http::memory::BodyMemory;
use crate::http::problem::{Code, Problem};
use crate::http::stats::MetricsSource;
use crate::metadata::controller::Controller;
use crate::metadata::image::TopicImage;
use crate::metadata::topic_name::METADATA_TOPIC;
use crate::metrics::http_front::HttpMetrics;
use crate::partition::cleaner::LogCleaner;
use crate::partition::partition::Partition;
use crate::partition::registry::PartitionRegistry;
use crate::shutdown::ShutdownSignal;
use crate::spans::tracer::Tracer;
use crate::telemetry::manager::ClientMetricsManager;

/// So many large answers are made at once for each core; others wait for their turn, so that what they unpack to stays bounded.
const DECODERS_PER_CORE: usize = 4;

/// What the front shows.
#[derive(Debug)]
pub struct Sources {
    /// How the broker is.
    pub health: Arc<dyn HealthSource>,
    /// What it does.
    pub metrics: Arc<dyn MetricsSource>,
    /// What the front itself counts.
    pub front: Arc<HttpMetrics>,
    /// What clients measure of themselves.
    pub clients: Arc<ClientMetricsManager>,
    /// Who looks at some requests.
    pub tracer: Option<Arc<Tracer>>,
}

/// What reading records takes besides the partitions.
#[derive(Debug, Clone)]
pub(crate) struct ReadingMeans {
    /// What bodies may take together.
    pub(crate) memory: BodyMemory,
    /// Turns at making large answers.
    pub(crate) decoders: Arc<Semaphore>,
    /// Says when streams end.
    pub(crate) shutdown: ShutdownSignal,
}

/// Where Kafka clients connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaEndpoint {
    /// A name, or an address without brackets. Nothing where the broker listens on all its addresses and says none: a client knows best
    /// which one it reaches.
    pub host: Option<String>,
    /// The port.
    pub port: u16,
}

/// The services of the HTTP front.
pub struct Services {
    /// The broker's settings as it was started.
    pub(crate) config: Arc<BrokerConfig>,
    /// Topics, settings, producer ids.
    pub(crate) controller: Arc<Controller>,
    /// The partitions.
    pub(crate) partitions: Arc<PartitionRegistry>,
    /// Groups of consumers.
    pub(crate) groups: Arc<GroupCoordinator>,
    /// What the front shows of the broker, and counts.
    pub(crate) sources: Sources,
    /// Where Kafka clients connect.
    pub(crate) kafka_endpoint: KafkaEndpoint,
    /// The time of day.
    pub(crate) clock: Arc<dyn Clock>,
    /// Says when streams end.
    pub(crate) shutdown: ShutdownSignal,
    /// What bodies may take together.
    pub(crate) memory: BodyMemory,
    /// Turns at making large answers.
    pub(crate) decoders: Arc<Semaphore>,
    /// Leases that end before their time.
    pub(crate) lease_bells: LeaseBells,
    /// Compacts topics; nothing where `log.cleaner.enable` is false.
    pub(crate) cleaner: Option<Arc<LogCleaner>>,
}

impl std::fmt::Debug for Services {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Services").finish_non_exhaustive()
    }
}

impl Services {
    /// The services of one broker.
    #[must_use]
    pub fn new(
        controller: Arc<Controller>,
        partitions: Arc<PartitionRegistry>,
        groups: Arc<GroupCoordinator>,
        clock: Arc<dyn Clock>,
        sources: Sources,
        kafka_endpoint: KafkaEndpoint,
        shutdown: ShutdownSignal,
    ) -> Self {
        let config = Arc::clone(controller.config());
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            memory: BodyMemory::new(config.http_queued_max_request_bytes),
            clock,
            decoders: Arc::new(Semaphore::new(DECODERS_PER_CORE * cores)),
            lease_bells: LeaseBells::default(),
            config,
            controller,
            partitions,
            groups,
            sources,
            kafka_endpoint,
            shutdown,
            cleaner: None,
        }
    }

    /// With what compacts topics when somebody asks.
    #[must_use]
    pub fn with_cleaner(self, cleaner: Option<Arc<LogCleaner>>) -> Self {
        Self { cleaner, ..self }
    }

    pub(crate) fn reading_means(&self) -> ReadingMeans {
        ReadingMeans {
            memory: self.memory.clone(),
            decoders: Arc::clone(&self.decoders),
            shutdown: self.shutdown.clone(),
        }
    }

    /// A topic that clients may know of.
    pub(crate) fn topic(&self, name: &str) -> Result<Arc<TopicImage>, Problem> {
        let image = self.controller.image();
        let topic = image.topic(name).filter(|topic| *topic.name != *METADATA_TOPIC);
        topic.cloned().ok_or_else(|| {
            let name = crate::http::parameters::shortened(name);
            Problem::new(Code::UnknownTopic, format!("there is no topic {name}"))
        })
    }

    /// A partition of it.
    pub(crate) fn partition(&self, topic: &TopicImage, index: i32) -> Result<Arc<Partition>, Problem> {
        self.partitions.get_by_id(topic.id, index).ok_or_else(|| {
            let (name, count) = (&topic.name, topic.partition_count);
            let text = format!("{name} has no partition {index}: it has {count}, counted from 0");
            Problem::new(Code::UnknownPartition, text)
        })
    }
}
