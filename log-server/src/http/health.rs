//! `GET /healthz`: 200 as long as the process serves, with a few words on how it is.
//!
//! A disk that fails for one partition is told in `status` and `partitions`, not in the status code: restarting the broker,
//! which is what an orchestrator does on anything else than 200, would not mend it and would stop the others.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;

/// How the broker is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// In one word.
    pub status: Status,
    /// The version of this program.
    pub version: &'static str,
    /// Whose data this is.
    pub cluster_id: String,
    /// Milliseconds since the process began.
    pub uptime_ms: u64,
    /// Partitions by how they are.
    pub partitions: PartitionCounts,
    /// Bytes that the disk of the data directory still has.
    pub disk_available_bytes: Option<u64>,
    /// The memory that the process occupies.
    pub resident_bytes: Option<u64>,
}

/// How the broker is, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Everything serves.
    Ok,
    /// Some partition refuses writes or is off-line, or space is short.
    Degraded,
    /// "Stop" was said; requests in flight are being finished.
    Stopping,
}

/// Partitions by how they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct PartitionCounts {
    /// Those that serve reads and writes.
    pub online: usize,
    /// Those that serve reads and refuse writes until their log is reopened.
    pub latched: usize,
    /// Those whose log could not be loaded.
    pub offline: usize,
}

/// Who knows how the broker is.
pub trait HealthSource: Send + Sync + 'static {
    /// Looks without waiting for a disk.
    fn health(&self) -> Health;
}

pub(super) async fn answer(State(source): State<Arc<dyn HealthSource>>) -> Json<Health> {
    Json(source.health())
}
