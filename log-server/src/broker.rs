//! The wiring: builds the parts in order, starts them, stops them in the opposite order. It has no behaviour of its own.
//!
//! ```text
//! ports ─ data directories ─ metadata log ─ flusher ─ partitions ─ controller ─ housekeeping ─ groups ─ fronts
//! ```
//!
//! The ports are bound first, so that one that is taken is found before a log is touched, and so that clients that
//! come early wait for a moment instead of being refused. They are served last.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log_core::fs::map::MapBudget;
use log_core::log_manager::LogManager;
use tokio::task::JoinHandle;

use crate::banner::Banner;
use crate::config::keys::BrokerConfig;
use crate::coordinator::runtime::group_coordinator::GroupCoordinator;
use crate::coordinator::runtime::shard_topic::{OFFSETS_TOPIC, TRANSACTIONS_TOPIC};
use crate::coordinator::runtime::transaction_coordinator::TransactionCoordinator;
use crate::data_directories::{self, DataDirectoryError};
use crate::http::services::Services as HttpServices;
use crate::http::{self, health::HealthSource};
use crate::kafka::services::{Coordinators, Services};
use crate::metadata::controller::Controller;
use crate::metadata::leftovers::remove_leftovers;
use crate::metadata::metadata_log::{self, MetadataLog, MetadataLogError, Tuning};
use crate::metadata::topic_name;
use crate::metrics::http_front::HttpMetrics;
use crate::metrics::spans::SpanMetrics;
use crate::monitor::desk::DeskThread;
use crate::monitor::{Monitor, Parts};
use crate::partition::cleaner::{CleanerSettings, CleanerThreads, LogCleaner, SettingsSource};
use crate::partition::disk::SpaceGauges;
use crate::partition::flusher::Flusher;
use crate::partition::housekeeping::{Housekeeper, Intervals, Rounds, Watch};
use crate::partition::loading::LoadSummary;
use crate::partition::offset_query::BLOCKING_THREADS_MAX;
use crate::partition::partition::Partition;
use crate::partition::registry::PartitionRegistry;
use crate::partition::removal::Removal;
use crate::partition_directory::{RegistryDirectory, topic_specs};
use crate::ports::{self, ListenError};
use crate::ready_file;
use crate::shutdown::{Shutdown, StopReason};
use crate::spans::tracer::{Tracer, TracerSettings};
use crate::system::{SystemFacts, raise_file_limit};

/// What is kept back of the stop's time for closing the logs, after the fronts had the rest.
const CLOSE_SHARE: u32 = 2;

/// Why the broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A data directory cannot be used.
    #[error(transparent)]
    DataDirectory(#[from] DataDirectoryError),
    /// The metadata log cannot be used.
    #[error(
        "cannot read what topics there are: {0}; check the directory with `stratalog log verify`, and bring it back from \
         a copy if it is damaged"
    )]
    Metadata(Box<MetadataLogError>),
    /// A file could not be written.
    #[error("cannot write the ready file {path}: {source}; choose another with --ready-file", path = path.display())]
    ReadyFile {
        /// Where.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// The system gave no thread or signal handler.
    #[error("cannot start a thread or handle signals: {0}; raise the limit of processes (ulimit -u)")]
    System(#[from] io::Error),
}

/// A broker that serves.
#[derive(Debug)]
pub struct Broker {
    config: Arc<BrokerConfig>,
    shutdown: Shutdown,
    storage: Storage,
    coordinators: Coordinators,
    kafka_address: SocketAddr,
    http_address: SocketAddr,
    kafka: JoinHandle<()>,
    http: JoinHandle<io::Result<()>>,
    lag_watch: JoinHandle<()>,
    desk: DeskThread,
    /// Sends spans to a collector, if there is one.
    exporter: Option<JoinHandle<()>>,
}

/// Everything below the fronts.
#[derive(Debug)]
struct Storage {
    manager: Arc<LogManager>,
    registry: Arc<PartitionRegistry>,
    controller: Arc<Controller>,
    flusher: Flusher<Partition>,
    housekeeping: Rounds,
    removal: Rounds,
    cleaner: Arc<LogCleaner>,
    cleaner_threads: Option<CleanerThreads>,
    watch: Rounds,
    space: SpaceGauges,
    maps: MapBudget,
    summary: LoadSummary,
}

/// Serves until a signal or a failure says "stop", and stops in order. What `stratalog serve` does.
///
/// # Errors
/// The broker did not start.
pub fn run(config: BrokerConfig) -> Result<(), StartError> {
    let started = Instant::now();
    let files = raise_file_limit();
    let facts = SystemFacts::read();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        kernel = facts.kernel_release.as_deref().unwrap_or("unknown"),
        cores = facts.core_count,
        open_files_max = files.now,
        data_dirs = ?config.log_directories(),
        "starting"
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(match config.runtime_threads {
            0 => facts.core_count,
            count => count,
        })
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name("runtime")
        .enable_all()
        .build()?;
    let result = runtime.block_on(async {
        let shutdown = Shutdown::new();
        let signals = shutdown.listen_for_signals()?;
        let broker = Broker::start(config, shutdown, started).await?;
        broker.banner(started.elapsed()).show(broker.config.log_format);
        broker.stop_when_asked().await;
        signals.abort();
        Ok(())
    });
    // Whoever still waits for a disk is not waited for: everything that was promised is on it.
    runtime.shutdown_background();
    result
}

impl Broker {
    /// Builds and starts everything. `started` is when the process began.
    ///
    /// # Errors
    /// Whatever stood in the way, with what to do about it.
    pub async fn start(
        config: BrokerConfig,
        shutdown: Shutdown,
        started: Instant,
    ) -> Result<Self, StartError> {
        let config = Arc::new(config);
        let http = ports::bind_http(&config).await?;
        let http_address = http.local_addr()?;
        let kafka = ports::bind_kafka(&config, http_address).await?;
        let kafka_address = kafka.local_address()?;

        let for_storage = Arc::clone(&config);
        let opening = tokio::task::spawn_blocking(move || Storage::open(&for_storage));
        let storage = match opening.await {
            Ok(result) => result?,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };

        let groups = GroupCoordinator::start(
            Arc::clone(&storage.controller),
            Arc::clone(&storage.registry),
            Arc::clone(&storage.manager.context().clock),
        );
        let transactions = TransactionCoordinator::start(
            Arc::clone(&storage.controller),
            Arc::clone(&storage.registry),
            Arc::clone(&storage.manager.context().clock),
            Arc::clone(&groups),
        );
        let coordinators = Coordinators { groups, transactions };
        let services = Services::new(
            Arc::clone(&storage.controller),
            Arc::clone(&storage.registry),
            coordinators.clone(),
            Arc::clone(&storage.manager.context().clock),
            shutdown.signal(),
        );
        let client_metrics = Arc::clone(&services.client_metrics);
        let http_metrics: Arc<HttpMetrics> = Arc::default();
        let span_metrics: Arc<SpanMetrics> = Arc::default();
        let (tracer, exporter) = tracer_settings(&config)
            .map(|settings| Tracer::start(settings, Arc::clone(&span_metrics), shutdown.signal()))
            .unzip();
        let (monitor, desk) = Monitor::start(Parts {
            registry: Arc::clone(&storage.registry),
            cleaner: Arc::clone(&storage.cleaner),
            space: storage.space.clone(),
            maps: storage.maps.clone(),
            groups: Arc::clone(&coordinators.groups),
            transactions: Arc::clone(&coordinators.transactions),
            front: kafka.metrics(),
            http: Arc::clone(&http_metrics),
            clients: Arc::clone(&client_metrics),
            spans: span_metrics,
            shutdown: shutdown.signal(),
            cluster_id: Arc::clone(storage.controller.image().cluster_id()),
            started,
            topics_max: config.metrics_topics_max,
        })?;
        let lag_watch = tokio::spawn(Arc::clone(&monitor).watch_lag(config.lag_interval));
        let sources = http::services::Sources {
            health: Arc::clone(&monitor) as Arc<dyn HealthSource>,
            metrics: monitor,
            front: http_metrics,
            clients: client_metrics,
            tracer: tracer.clone(),
        };
        let http_services = HttpServices::new(
            Arc::clone(&storage.controller),
            Arc::clone(&storage.registry),
            Arc::clone(&coordinators.groups),
            Arc::clone(&storage.manager.context().clock),
            sources,
            ports::kafka_endpoint(&config, kafka_address),
            shutdown.signal(),
        )
        .with_cleaner(storage.working_cleaner());
        let http = tokio::spawn(http::serve(http, http_services));
        let kafka = tokio::spawn(kafka.serve(Arc::new(services), tracer));
        let broker = Self {
            config,
            shutdown,
            storage,
            coordinators,
            kafka_address,
            http_address,
            kafka,
            http,
            lag_watch,
            desk,
            exporter,
        };
        match broker.write_ready_file() {
            Ok(()) => Ok(broker),
            Err(error) => {
                broker.stop().await;
                Err(error)
            }
        }
    }

    /// Where Kafka clients connect.
    #[must_use]
    pub fn kafka_address(&self) -> SocketAddr {
        self.kafka_address
    }

    /// Where HTTP clients connect.
    #[must_use]
    pub fn http_address(&self) -> SocketAddr {
        self.http_address
    }

    /// Waits until somebody says "stop", then does.
    pub async fn stop_when_asked(self) {
        let reason = self.shutdown.signal().requested().await;
        tracing::info!(%reason, "stopping");
        self.stop().await;
    }

    /// Finishes what is being answered, brings everything to the disk, marks the directory as left in order. What takes longer
    /// than `shutdown-timeout-ms` is dropped; the next start recovers it.
    pub async fn stop(self) {
        let began = Instant::now();
        let timeout = self.config.shutdown_timeout;
        self.shutdown.request(StopReason::Asked);
        // Members that wait for their group would keep their connections open.
        self.coordinators.close();
        let tasks = [&self.kafka, &self.lag_watch].map(JoinHandle::abort_handle);
        let aborts = tasks.into_iter().chain([self.http.abort_handle()]);
        let fronts = async {
            report_panic("the Kafka front", self.kafka.await.map(Ok));
            report_panic("the HTTP front", self.http.await);
            report_panic("the task that looks at groups", self.lag_watch.await.map(Ok));
            if let Some(exporter) = self.exporter {
                report_panic("the task that sends spans", exporter.await.map(Ok));
            }
        };
        if tokio::time::timeout(timeout / CLOSE_SHARE, fronts).await.is_err() {
            tracing::warn!("some connections did not end in time and are dropped");
            aborts.for_each(|task| task.abort());
        }
        let left = timeout.saturating_sub(began.elapsed());
        if tokio::time::timeout(left, self.coordinators.closed())
            .await
            .is_err()
        {
            tracing::warn!("groups or transactions were still being read and are left so");
        }
        let closing = tokio::task::spawn_blocking(move || {
            self.desk.stop();
            self.storage.close()
        });
        let left = timeout.saturating_sub(began.elapsed());
        match tokio::time::timeout(left, closing).await {
            Ok(Ok(true)) => {
                let stop_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                tracing::info!(stop_ms, "stopped in order");
            }
            Ok(Ok(false)) => tracing::warn!("stopped; the next start recovers some logs"),
            Ok(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
            Err(_) => tracing::warn!("the logs were not closed in time; the next start recovers them"),
        }
        if let Some(path) = &self.config.ready_file {
            ready_file::remove(path);
        }
    }

    /// What to say about it.
    #[must_use]
    pub fn banner(&self, start_time: Duration) -> Banner {
        let image = self.storage.controller.image();
        let is_users = |name: &str| !topic_name::is_internal(name);
        Banner {
            version: env!("CARGO_PKG_VERSION"),
            start_time,
            kafka: self.kafka_address,
            http: self.http_address,
            data_dirs: self.config.log_directories().to_vec(),
            cluster_id: image.cluster_id().to_string(),
            topics: image.topics().filter(|topic| is_users(&topic.name)).count(),
            partitions: self.storage.summary.online,
            offline: self.storage.summary.offline,
        }
    }

    fn write_ready_file(&self) -> Result<(), StartError> {
        let Some(path) = &self.config.ready_file else {
            return Ok(());
        };
        ready_file::write(path, self.kafka_address, self.http_address).map_err(|source| {
            StartError::ReadyFile {
                path: path.clone(),
                source,
            }
        })
    }
}

fn tracer_settings(config: &BrokerConfig) -> Option<TracerSettings> {
    let endpoint = config.otlp_endpoint.clone()?;
    let resource = vec![
        ("service.name", "stratalog".into()),
        ("service.version", env!("CARGO_PKG_VERSION").into()),
        ("service.instance.id", config.node_id.to_string().into()),
    ];
    Some(TracerSettings {
        endpoint,
        sample_ratio: config.otlp_sample_ratio,
        resource,
    })
}

impl Storage {
    /// Opens the data directories and all that is in them. Blocks.
    fn open(config: &Arc<BrokerConfig>) -> Result<Self, StartError> {
        let began = Instant::now();
        let maps = map_budget(config);
        let (manager, mut found) = data_directories::open(config.log_directories(), maps.clone())?;
        let tuning = Tuning::new(config.metadata_snapshot_records);
        let (metadata, image) = MetadataLog::open(Arc::clone(manager.first()), &found, tuning)
            .map_err(|error| StartError::Metadata(Box::new(error)))?;
        data_directories::claim(&manager, image.cluster_id())?;
        if let Err(error) = remove_leftovers(&manager, &mut found, &image) {
            tracing::warn!(operation = "remove what deleted topics left", %error, "tried again at the next start");
        }

        let flusher = Flusher::start(config.flush_threads)?;
        let registry =
            PartitionRegistry::new(Arc::clone(&manager), flusher.queue(), config.num_recovery_threads);
        let summary = registry.load(&topic_specs(&image, config), &found, &[metadata_log::partition()]);
        log_summary(&summary, found.clean, began.elapsed());

        let directory = RegistryDirectory::new(Arc::clone(&registry));
        let controller = Controller::start(metadata, image, Arc::clone(config), Arc::new(directory))?;
        let controller = Arc::new(controller);
        let intervals = intervals(config);
        let mut watch = Watch::new(Arc::clone(&registry), Arc::clone(&manager), intervals);
        let mut housekeeper = Housekeeper::new(Arc::clone(&registry), &intervals);
        let mut removal = Removal::new(Arc::clone(&registry), &intervals);
        let space = watch.gauges();
        let cleaner = LogCleaner::new(
            Arc::clone(&registry),
            Arc::clone(&manager),
            cleaner_settings(&controller, config),
            &[OFFSETS_TOPIC, TRANSACTIONS_TOPIC],
        );
        let cleaner_threads = config.log_cleaner_enable.then(|| CleanerThreads::start(&cleaner));
        Ok(Self {
            cleaner_threads: cleaner_threads.transpose()?,
            cleaner,
            watch: Rounds::start("watch", move |now| watch.tick(now))?,
            housekeeping: Rounds::start("housekeeping", move |now| housekeeper.tick(now))?,
            removal: Rounds::start("removal", move |now| removal.tick(now))?,
            manager,
            registry,
            controller,
            flusher,
            space,
            maps,
            summary,
        })
    }

    /// The cleaner, where it has threads.
    fn working_cleaner(&self) -> Option<Arc<LogCleaner>> {
        let threads = self.cleaner_threads.as_ref();
        threads.map(|_| Arc::clone(&self.cleaner))
    }

    /// Closes everything in order. Answers whether the next start finds nothing to recover. Blocks.
    fn close(self) -> bool {
        let metadata = self.controller.close();
        if let Err(error) = &metadata {
            tracing::error!(operation = "close the metadata log", %error, "the next start recovers it");
        }
        if let Some(threads) = self.cleaner_threads {
            threads.stop();
        }
        self.removal.stop();
        self.housekeeping.stop();
        self.watch.stop();
        self.flusher.stop();
        let is_complete = self.registry.close_all() && metadata.is_ok();
        if metadata.is_err() {
            self.manager.first().leave_disorderly();
        }
        let marked = self.manager.mark_clean();
        if let Err(error) = &marked {
            tracing::error!(operation = "mark a directory as left in order", %error, "the next start recovers its logs");
        }
        is_complete && marked.is_ok()
    }
}

/// What a start after a kill verifies, but for what comes while housekeeping is at something else: a few tenths of a second.
const RECOVERY_BYTES: u64 = 256 << 20;

fn intervals(config: &BrokerConfig) -> Intervals {
    Intervals {
        retention: config.log_retention_check_interval,
        // Log starts are written as they move; recovery points take the shorter of the two intervals.
        recovery_points: config
            .log_flush_offset_checkpoint_interval
            .min(config.log_flush_start_offset_checkpoint_interval),
        recovery_bytes: RECOVERY_BYTES,
        producers: config.producer_id_expiration_check_interval,
        idle: config.map_idle,
        mend: config.log_reopen_backoff,
        mend_max: config.log_reopen_backoff_max,
    }
}

/// The cleaner's settings as they are whenever it asks: most of them can be changed while it runs.
fn cleaner_settings(controller: &Arc<Controller>, config: &Arc<BrokerConfig>) -> SettingsSource {
    let (controller, config) = (Arc::clone(controller), Arc::clone(config));
    Box::new(move || {
        let image = controller.image();
        let layers = image.layers(&config);
        CleanerSettings {
            threads: config.log_cleaner_threads,
            dedupe_buffer_bytes: layers
                .broker_number("log.cleaner.dedupe.buffer.size")
                .unwrap_or(0),
            load_per_mille: layers.broker_per_mille("log.cleaner.io.buffer.load.factor"),
            io_buffer_bytes: layers.broker_number("log.cleaner.io.buffer.size").unwrap_or(0),
            io_bytes_per_second: layers.broker_number("log.cleaner.io.max.bytes.per.second"),
            backoff: Duration::from_millis(layers.broker_number("log.cleaner.backoff.ms").unwrap_or(0)),
        }
    })
}

fn map_budget(config: &BrokerConfig) -> MapBudget {
    // The rest of the process needs maps too: libraries, stacks, the allocator.
    let kernel_share = SystemFacts::read()
        .maps_max
        .map_or(usize::MAX, |maps| usize::try_from(maps / 2).unwrap_or(usize::MAX));
    MapBudget::new(config.maps_max.min(kernel_share))
}

fn log_summary(summary: &LoadSummary, was_clean: bool, took: Duration) {
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let LoadSummary {
        online,
        offline,
        strays,
        bytes_verified,
    } = *summary;
    if was_clean || online == 0 {
        tracing::info!(online, offline, strays, took_ms, "logs opened");
    } else {
        tracing::info!(
            online,
            offline,
            strays,
            bytes_verified,
            took_ms,
            "logs recovered: the last stop was not in order"
        );
    }
}

fn report_panic(part: &str, ended: Result<io::Result<()>, tokio::task::JoinError>) {
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "{part} ended early"),
        Err(error) => tracing::error!(%error, "{part} panicked"),
    }
}
