//! How the broker is and what it does, for those who ask: `/healthz`, `/readyz`, `/metrics`, and the console's plots.
//!
//! | module | owns |
//! |---|---|
//! | `desk` | the thread that takes samples and answers what takes long |
//! | `forecast` | when the disk is full |
//! | `history` | the last minutes, second by second |
//! | `scrape` | the page of metrics |
//! | `topics` | sums by topic |
//!
//! It reads what others publish and decides nothing but a few words: status, and whether it is ready. Health and readiness are told from what the last
//! sample saw, without a lock that somebody holds for long: an orchestrator that asks while a disk hangs must be answered.

pub(crate) mod desk;
mod forecast;
mod history;
mod scrape;
mod topics;

use std::cmp::Reverse;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use log_core::fs::map::MapBudget;
use log_core::model::TimestampMs;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;

use crate::coordinator::runtime::group_coordinator::GroupCoordinator;
use crate::coordinator::runtime::hosts::ShardCounts;
use crate::coordinator::runtime::lag_watch::{HISTORIES_MAX, LagWatch};
use crate::coordinator::runtime::transaction_coordinator::TransactionCoordinator;
use crate::http::health::{Health, HealthSource, PartitionCounts, Readiness, ShardStates, Status};
use crate::http::stats::{DiskOutlook, LagHistory, LagPoint, LaggingGroup, Lags, MetricsSource, Stats};
use crate::metrics::front::FrontMetrics;
use crate::metrics::http_front::HttpMetrics;
use crate::metrics::spans::SpanMetrics;
use crate::monitor::desk::{DeskThread, QUESTIONS_MAX, Question};
use crate::monitor::forecast::SpaceForecast;
use crate::monitor::history::History;
use crate::partition::cleaner::LogCleaner;
use crate::partition::disk::{SpaceGauge, SpaceGauges};
use crate::partition::partition::Condition;
use crate::partition::registry::PartitionRegistry;
use crate::shutdown::ShutdownSignal;
use crate::system::process::ProcessStatus;
use crate::telemetry::manager::ClientMetricsManager;

/// How often a sample for the plots is taken.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// The parts of the broker that are looked at.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) registry: Arc<PartitionRegistry>,
    pub(crate) cleaner: Arc<LogCleaner>,
    pub(crate) space: SpaceGauges,
    pub(crate) maps: MapBudget,
    pub(crate) groups: Arc<GroupCoordinator>,
    pub(crate) transactions: Arc<TransactionCoordinator>,
    pub(crate) front: Arc<FrontMetrics>,
    pub(crate) http: Arc<HttpMetrics>,
    pub(crate) clients: Arc<ClientMetricsManager>,
    pub(crate) spans: Arc<SpanMetrics>,
    pub(crate) shutdown: ShutdownSignal,
    pub(crate) cluster_id: Arc<str>,
    /// When the process began.
    pub(crate) started: Instant,
    /// `metrics-topics-max`.
    pub(crate) topics_max: usize,
}

/// Looks at the broker's parts.
#[derive(Debug)]
pub struct Monitor {
    parts: Parts,
    started_at: SystemTime,
    /// One for each gauge of space, in their order.
    forecasts: Vec<SpaceForecast>,
    lag: LagWatch,
    seen: Mutex<Seen>,
    questions: SyncSender<Question>,
}

/// What was seen at the last look at all partitions.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    partitions: PartitionCounts,
    resident_bytes: Option<u64>,
}

impl Monitor {
    /// A monitor that has looked once, and its thread.
    ///
    /// # Errors
    /// When the system gives no more threads.
    pub(crate) fn start(parts: Parts) -> io::Result<(Arc<Self>, DeskThread)> {
        let now = SystemTime::now();
        let (questions, asked) = sync_channel(QUESTIONS_MAX);
        let monitor = Arc::new(Self {
            started_at: now.checked_sub(parts.started.elapsed()).unwrap_or(now),
            forecasts: parts.space.iter().map(|_| SpaceForecast::default()).collect(),
            lag: LagWatch::default(),
            seen: Mutex::default(),
            questions,
            parts,
        });
        monitor.look();
        let thread = DeskThread::start(Arc::clone(&monitor), asked)?;
        Ok((monitor, thread))
    }

    /// Looks at the lag of all groups every `interval`, until "stop" is said.
    pub(crate) async fn watch_lag(self: Arc<Self>, interval: Duration) {
        let mut shutdown = self.parts.shutdown.clone();
        let mut looks = tokio::time::interval(interval);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let looking = async {
            loop {
                looks.tick().await;
                self.lag.look(&self.parts.groups).await;
            }
        };
        // A look may wait for a disk that never answers.
        tokio::select! {
            biased;
            _ = shutdown.requested() => {}
            () = looking => {}
        }
    }

    fn take_sample(&self, history: &mut History) {
        self.look();
        let now = self.parts.started.elapsed();
        for (gauge, forecast) in self.parts.space.iter().zip(&self.forecasts) {
            if let Some(available) = gauge.available() {
                forecast.note(now, available);
            }
        }
        history.take(&self.parts, unix_ms());
    }

    fn stats_of(&self, history: &History, since_ms: u64) -> Stats {
        history.stats(&self.parts, self.health(), self.outlooks(), since_ms)
    }

    /// When each disk is full.
    fn outlooks(&self) -> Vec<DiskOutlook> {
        let disks = self.parts.space.iter().zip(&self.forecasts);
        let outlook = |(gauge, forecast): (&SpaceGauge, &SpaceForecast)| DiskOutlook {
            path: gauge.directory().display().to_string(),
            full_in_hours: Some(forecast.full_in_hours()).filter(|hours| hours.is_finite()),
        };
        disks.map(outlook).collect()
    }

    /// Looks at all partitions and at the process.
    fn look(&self) -> Seen {
        let seen = Seen {
            partitions: self.partition_counts(),
            resident_bytes: ProcessStatus::read().resident_bytes,
        };
        *self.seen.lock() = seen;
        seen
    }

    fn partition_counts(&self) -> PartitionCounts {
        let mut counts = PartitionCounts {
            uncleanable: self.parts.cleaner.report().uncleanable.len(),
            ..PartitionCounts::default()
        };
        self.parts
            .registry
            .for_each(|partition| match &*partition.condition() {
                Condition::Online(_) => counts.online += 1,
                Condition::Latched { .. } => counts.latched += 1,
                Condition::Offline { .. } => counts.offline += 1,
                Condition::Closed(_) => {}
            });
        counts
    }

    /// A question that finds no place, or no thread, is dropped, and with it the way to its answer: who asked sees that.
    fn ask(&self, question: Question) {
        drop(self.questions.try_send(question));
    }

    fn status(&self, partitions: PartitionCounts) -> Status {
        let ailing = [partitions.latched, partitions.offline, partitions.uncleanable];
        let is_whole = ailing == [0; 3]
            && self.parts.registry.offline_directory_count() == 0
            && !self.parts.space.is_short();
        match (self.parts.shutdown.is_requested(), is_whole) {
            (true, _) => Status::Stopping,
            (false, true) => Status::Ok,
            (false, false) => Status::Degraded,
        }
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn uptime_ms(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl HealthSource for Monitor {
    fn health(&self) -> Health {
        let Seen {
            partitions,
            resident_bytes,
        } = *self.seen.lock();
        Health {
            status: self.status(partitions),
            version: env!("CARGO_PKG_VERSION"),
            cluster_id: self.parts.cluster_id.to_string(),
            uptime_ms: uptime_ms(self.parts.started),
            partitions,
            space_is_short: self.parts.space.is_short(),
            disk_available_bytes: self.parts.space.tightest().and_then(SpaceGauge::available),
            log_directories_offline: self.parts.registry.offline_directory_count(),
            resident_bytes,
        }
    }

    fn readiness(&self) -> Readiness {
        Readiness::new(
            self.parts.shutdown.is_requested(),
            shard_states(self.parts.groups.shard_counts()),
            shard_states(self.parts.transactions.shard_counts()),
        )
    }
}

fn shard_states(counts: ShardCounts) -> ShardStates {
    ShardStates {
        serving: counts.serving,
        loading: counts.loading,
        absent: counts.absent,
    }
}

impl MetricsSource for Monitor {
    fn metrics(&self) -> oneshot::Receiver<String> {
        let (answer, receiver) = oneshot::channel();
        self.ask(Question::Page(answer));
        receiver
    }

    fn stats(&self, since_ms: u64) -> oneshot::Receiver<Stats> {
        let (answer, receiver) = oneshot::channel();
        self.ask(Question::Stats(since_ms, answer));
        receiver
    }

    fn lags(&self, count_max: usize) -> Lags {
        let picture = self.lag.picture();
        let mut groups: Vec<_> = picture.groups.iter().collect();
        groups.sort_by_key(|lag| (Reverse(lag.records()), Arc::clone(&lag.group.group)));
        let shown = groups.into_iter().take(count_max).map(|lag| LaggingGroup {
            group: lag.group.group.to_string(),
            state: lag.group.state,
            kind: lag.group.kind,
            records: lag.records(),
            time_ms: lag.time_ms(),
        });
        Lags {
            at: picture.at.map(TimestampMs::get),
            groups: shown.collect(),
            total: picture.group_count(),
        }
    }

    fn lag_history(&self, group: &str) -> LagHistory {
        let points = self.lag.history(group).into_iter().map(|point| LagPoint {
            at: point.at.get(),
            records: point.records,
            time_ms: point.time_ms,
        });
        LagHistory {
            group: group.to_owned(),
            points: points.collect(),
            groups_max: HISTORIES_MAX,
        }
    }
}
