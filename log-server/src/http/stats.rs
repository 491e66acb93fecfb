//! What the console plots, and what Prometheus reads: `GET /v1/stats`, `GET /v1/stats/groups` and one of them, `GET /metrics`.
//!
//! Numbers of the last minutes come as rows under named columns, which is a third of the size that objects would have. Who asks again
//! names the last row it has (`since_ms`) and gets what came after.

use std::fmt;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::http::health::Health;
use crate::http::parameters::{Parameters, Place};
use crate::http::problem::{Code, Problem};
use crate::metrics::exposition::CONTENT_TYPE;

/// How the broker is, and the last minutes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stats {
    /// The time between rows.
    pub interval_ms: u64,
    /// What a row holds.
    pub columns: &'static [&'static str],
    /// The oldest first.
    pub rows: Vec<Vec<Option<f64>>>,
    /// The busiest topics of the last seconds.
    pub busiest: Vec<BusyTopic>,
    /// As `/healthz` says it.
    pub health: Health,
    /// Topics, internal ones included.
    pub topics: usize,
    /// What the disk of the data directory has in all; of several, the one with the least space left.
    pub disk_total_bytes: Option<u64>,
    /// When it is full, going by the last hour; of several, the first that will be.
    pub disk_full_in_hours: Option<f64>,
    /// The same of each data directory.
    pub disks: Vec<DiskOutlook>,
    /// Open connections of Kafka clients.
    pub kafka_connections: u64,
    /// The same over HTTP.
    pub http_connections: u64,
    /// Those of them that follow a topic.
    pub http_streams: u64,
    /// Fetches that wait for records.
    pub waiting_fetches: u64,
    /// Memory maps of segments.
    pub memory_maps: usize,
    /// How many there may be.
    pub memory_maps_max: usize,
}

/// When a disk is full, going by the last hour.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DiskOutlook {
    /// The data directory on it.
    pub path: String,
    /// Nothing where it does not fill, or nobody knows yet.
    pub full_in_hours: Option<f64>,
}

/// What a topic takes and gives in a second.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BusyTopic {
    /// Its name.
    pub topic: String,
    /// Bytes in.
    pub received_bytes: f64,
    /// Bytes out.
    pub sent_bytes: f64,
}

/// How far groups are behind, as they were seen a few seconds ago; the furthest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lags {
    /// When, in milliseconds since 1970.
    pub at: Option<i64>,
    /// As many as were asked for.
    pub groups: Vec<LaggingGroup>,
    /// How many groups there are.
    pub total: usize,
}

/// How far one group is behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LaggingGroup {
    /// Which.
    pub group: String,
    /// Kafka's name for its state.
    pub state: &'static str,
    /// Kafka's name for its kind.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Records that it has not read, over all topics.
    pub records: i64,
    /// Age of the oldest of them.
    pub time_ms: Option<i64>,
}

/// The lag of a group over the last half hour; empty if nobody looked, or the group is not remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LagHistory {
    /// Which group.
    pub group: String,
    /// The oldest first.
    pub points: Vec<LagPoint>,
    /// So many groups, the first by name, are remembered.
    pub groups_max: usize,
}

/// One look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LagPoint {
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// Records that were not read yet.
    pub records: i64,
    /// Age of the oldest of them.
    pub time_ms: Option<i64>,
}

/// Who knows the numbers.
pub trait MetricsSource: fmt::Debug + Send + Sync + 'static {
    /// The page for Prometheus, some milliseconds later. No answer comes when too many ask, or the broker stops.
    fn metrics(&self) -> oneshot::Receiver<String>;

    /// What came after a moment, in milliseconds since 1970; likewise.
    fn stats(&self, since_ms: u64) -> oneshot::Receiver<Stats>;

    /// The groups that are furthest behind.
    fn lags(&self, count_max: usize) -> Lags;

    /// What was seen of a group's lag.
    fn lag_history(&self, group: &str) -> LagHistory;
}

/// From where on rows are wanted.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Since {
    #[serde(default)]
    since_ms: u64,
}

/// How many groups are wanted.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limit {
    #[serde(default = "Limit::usual")]
    limit: usize,
}

impl Limit {
    fn usual() -> usize {
        100
    }
}

/// What is said when no answer comes.
fn too_many() -> Problem {
    Problem::new(
        Code::Overloaded,
        "too many ask for numbers at once, or the broker stops",
    )
}

pub(super) async fn metrics(State(source): State<Arc<dyn MetricsSource>>) -> Result<Response, Problem> {
    let page = source.metrics().await.map_err(|_| too_many())?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], page).into_response())
}

pub(super) async fn stats(
    State(source): State<Arc<dyn MetricsSource>>,
    Parameters(since): Parameters<Since>,
) -> Result<Json<Stats>, Problem> {
    let stats = source.stats(since.since_ms).await.map_err(|_| too_many())?;
    Ok(Json(stats))
}

pub(super) async fn lags(
    State(source): State<Arc<dyn MetricsSource>>,
    Parameters(limit): Parameters<Limit>,
) -> Json<Lags> {
    Json(source.lags(limit.limit))
}

pub(super) async fn lag_history(
    State(source): State<Arc<dyn MetricsSource>>,
    Place(group): Place<String>,
) -> Json<LagHistory> {
    Json(source.lag_history(&group))
}
