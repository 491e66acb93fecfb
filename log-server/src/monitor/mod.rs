//! How the broker is and what it does, for those who ask: `/healthz`, `/readyz`, `/metrics`, and the console's plots.
//!
//! | module | owns |
//! |---|---|
//! | `forecast` | when the disk is full |
//! | `history` | the last minutes, second by second |
//! | `scrape` | the page of metrics |
//! | `topics` | sums by topic |
//!
//! It reads what others publish and decides nothing but a few words: status, and whether it is ready.

mod forecast;
mod history;
mod scrape;
mod topics;

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use log_core::fs::map::MapBudget;
use log_core::model::TimestampMs;
use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval};

use crate::coordinator::runtime::group_coordinator::GroupCoordinator;
use crate::coordinator::runtime::lag_watch::LagWatch;
use crate::http::health::{Health, HealthSource, PartitionCounts, Readiness, ShardStates, Status};
use crate::http::stats::{LagHistory, LagPoint, LaggingGroup, Lags, MetricsSource, Stats};
use crate::metrics::front::FrontMetrics;
use crate::metrics::http_front::HttpMetrics;
use crate::monitor::forecast::SpaceForecast;
use crate::monitor::history::History;
use crate::partition::cleaner::LogCleaner;
use crate::partition::housekeeping::SpaceGauge;
use crate::partition::partition::Condition;
use crate::partition::registry::PartitionRegistry;
use crate::shutdown::ShutdownSignal;
use crate::system::process::ProcessStatus;

/// How often a sample for the plots is taken.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// The parts of the broker that are looked at.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) registry: Arc<PartitionRegistry>,
    pub(crate) cleaner: Arc<LogCleaner>,
    pub(crate) space: Arc<SpaceGauge>,
    pub(crate) maps: MapBudget,
    pub(crate) groups: Arc<GroupCoordinator>,
    pub(crate) front: Arc<FrontMetrics>,
    pub(crate) http: Arc<HttpMetrics>,
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
    forecast: SpaceForecast,
    lag: LagWatch,
    history: Mutex<History>,
}

impl Monitor {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let now = SystemTime::now();
        Arc::new(Self {
            started_at: now.checked_sub(parts.started.elapsed()).unwrap_or(now),
            forecast: SpaceForecast::default(),
            lag: LagWatch::default(),
            history: Mutex::default(),
            parts,
        })
    }

    /// Takes a sample every second, and looks at the lag of all groups every `lag_interval`, until "stop" is said.
    pub(crate) async fn watch(self: Arc<Self>, lag_interval: Duration) {
        let mut shutdown = self.parts.shutdown.clone();
        let mut samples = interval(SAMPLE_INTERVAL);
        let mut looks = interval(lag_interval);
        samples.set_missed_tick_behavior(MissedTickBehavior::Delay);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = shutdown.requested() => return,
                _ = samples.tick() => self.sample().await,
                _ = looks.tick() => self.lag.look(&self.parts.groups).await,
            }
        }
    }

    async fn sample(self: &Arc<Self>) {
        let monitor = Arc::clone(self);
        // Sums over ten thousand partitions and looks into `/proc` take some milliseconds.
        let taken = tokio::task::spawn_blocking(move || monitor.take_sample()).await;
        if let Err(error) = taken
            && error.is_panic()
        {
            tracing::error!(%error, "taking a sample panicked; the next one comes all the same");
        }
    }

    fn take_sample(&self) {
        if let Some(available) = self.parts.space.available() {
            self.forecast.note(self.parts.started.elapsed(), available);
        }
        self.history.lock().take(&self.parts, unix_ms());
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

    fn status(&self, partitions: PartitionCounts) -> Status {
        let ailing = [partitions.latched, partitions.offline, partitions.uncleanable];
        let is_whole = ailing == [0; 3] && !self.parts.space.is_short();
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
        let partitions = self.partition_counts();
        Health {
            status: self.status(partitions),
            version: env!("CARGO_PKG_VERSION"),
            cluster_id: self.parts.cluster_id.to_string(),
            uptime_ms: uptime_ms(self.parts.started),
            partitions,
            disk_available_bytes: self.parts.space.available(),
            resident_bytes: ProcessStatus::read().resident_bytes,
        }
    }

    fn readiness(&self) -> Readiness {
        let shards = self.parts.groups.shard_counts();
        Readiness::new(
            self.parts.shutdown.is_requested(),
            ShardStates {
                serving: shards.serving,
                loading: shards.loading,
                absent: shards.absent,
            },
        )
    }
}

impl MetricsSource for Monitor {
    fn metrics(&self) -> String {
        self.scrape()
    }

    fn stats(&self, since_ms: u64) -> Stats {
        let health = self.health();
        let history = self.history.lock();
        history.stats(&self.parts, health, self.forecast.full_in_hours(), since_ms)
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
            total: picture.group_count,
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
        }
    }
}
