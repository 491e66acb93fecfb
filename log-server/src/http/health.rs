//! `GET /healthz`: 200 as long as the process serves, with a few words on how it is. `GET /readyz`: 200 when clients should be sent here.
//!
//! A disk that fails for one partition is told in `status` and `partitions`, not in the status code: restarting the broker,
//! which is what an orchestrator does on anything else than 200, would not mend it and would stop the others. For the same reason a part
//! of a coordinator whose log failed does not make the broker unready: it is said, and counted.

use std::fmt;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
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
    /// Partitions by how they are, or were up to a second ago.
    pub partitions: PartitionCounts,
    /// Data directories that serve nothing: they could not be opened, or failed.
    pub log_directories_offline: usize,
    /// Whether the disk of a data directory is nearly full.
    pub space_is_short: bool,
    /// Bytes that the disk of the data directory still has; of several, the least.
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
    /// Some partition refuses writes, is off-line or cannot be compacted, a data directory does not serve, or space is short.
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
    /// Those whose log should be compacted and cannot be.
    pub uncleanable: usize,
}

/// Parts of a coordinator by how they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct ShardStates {
    /// Those that answer.
    pub serving: usize,
    /// Those whose log is being read.
    pub loading: usize,
    /// Those whose log failed.
    pub absent: usize,
}

/// Whether clients should be sent here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// In one word.
    pub ready: bool,
    /// What is waited for.
    pub waiting_for: Vec<&'static str>,
    /// The coordinator of groups.
    pub group_coordinator: ShardStates,
    /// The coordinator of transactions.
    pub transaction_coordinator: ShardStates,
}

impl Readiness {
    /// As the parts say. Topics and partitions are open before this port is served.
    #[must_use]
    pub fn new(
        is_stopping: bool,
        group_coordinator: ShardStates,
        transaction_coordinator: ShardStates,
    ) -> Self {
        let reasons = [
            (is_stopping, "the broker is stopping"),
            (0 < group_coordinator.loading, "the state of groups is being read"),
            (
                0 < transaction_coordinator.loading,
                "the state of transactions is being read",
            ),
        ];
        let waiting_for: Vec<_> = reasons.into_iter().filter(|(is_so, _)| *is_so).collect();
        Self {
            ready: waiting_for.is_empty(),
            waiting_for: waiting_for.into_iter().map(|(_, reason)| reason).collect(),
            group_coordinator,
            transaction_coordinator,
        }
    }
}

/// Who knows how the broker is.
pub trait HealthSource: fmt::Debug + Send + Sync + 'static {
    /// As it is, or was a second ago. Waits for nothing.
    fn health(&self) -> Health;

    /// The same about clients.
    fn readiness(&self) -> Readiness;
}

pub(super) async fn ready(State(source): State<Arc<dyn HealthSource>>) -> (StatusCode, Json<Readiness>) {
    let readiness = source.readiness();
    let status = if readiness.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(readiness))
}

pub(super) async fn answer(State(source): State<Arc<dyn HealthSource>>) -> Json<Health> {
    Json(source.health())
}
