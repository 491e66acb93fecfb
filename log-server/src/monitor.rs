//! How the broker is, looked up without waiting for a disk: what `/healthz` tells.
//! Reads what others publish; it decides nothing but the one word.

use std::sync::Arc;
use std::time::Instant;

use crate::http::health::{Health, HealthSource, PartitionCounts, Status};
use crate::partition::housekeeping::SpaceGauge;
use crate::partition::partition::Condition;
use crate::partition::registry::PartitionRegistry;
use crate::shutdown::ShutdownSignal;
use crate::system;

/// Looks at the broker's parts.
#[derive(Debug)]
pub struct Monitor {
    registry: Arc<PartitionRegistry>,
    space: Arc<SpaceGauge>,
    shutdown: ShutdownSignal,
    cluster_id: Arc<str>,
    started: Instant,
}

impl Monitor {
    pub(crate) fn new(
        registry: Arc<PartitionRegistry>,
        space: Arc<SpaceGauge>,
        shutdown: ShutdownSignal,
        cluster_id: Arc<str>,
        started: Instant,
    ) -> Self {
        Self {
            registry,
            space,
            shutdown,
            cluster_id,
            started,
        }
    }

    fn partition_counts(&self) -> PartitionCounts {
        let mut counts = PartitionCounts::default();
        self.registry.for_each(|partition| match &*partition.condition() {
            Condition::Online(_) => counts.online += 1,
            Condition::Latched { .. } => counts.latched += 1,
            Condition::Offline { .. } => counts.offline += 1,
            Condition::Closed(_) => {}
        });
        counts
    }
}

impl HealthSource for Monitor {
    fn health(&self) -> Health {
        let partitions = self.partition_counts();
        let is_whole = partitions.latched == 0 && partitions.offline == 0 && !self.space.is_short();
        let status = match (self.shutdown.is_requested(), is_whole) {
            (true, _) => Status::Stopping,
            (false, true) => Status::Ok,
            (false, false) => Status::Degraded,
        };
        Health {
            status,
            version: env!("CARGO_PKG_VERSION"),
            cluster_id: self.cluster_id.to_string(),
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            partitions,
            disk_available_bytes: self.space.available(),
            resident_bytes: system::resident_bytes(),
        }
    }
}
