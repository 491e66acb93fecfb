//! The broker as a whole.
//! `GET /v1/cluster`, and `GET /v1/log-directories` with their disks.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::HOST;
use axum::http::uri::Authority;
use serde::Serialize;

use crate::http::services::{KafkaEndpoint, Services};
use crate::metadata::topic_name::METADATA_TOPIC;
use crate::partition::log_dirs::LogDir;

#[derive(Debug, Serialize)]
pub(crate) struct ClusterDocument {
    cluster_id: String,
    version: &'static str,
    brokers: Vec<BrokerRow>,
    controller_id: i32,
    topics: usize,
    partitions: i64,
    groups: usize,
}

#[derive(Debug, Serialize)]
struct BrokerRow {
    node_id: i32,
    host: String,
    port: u16,
}

/// `GET /v1/cluster`.
pub(crate) async fn describe(
    State(services): State<Arc<Services>>,
    headers: HeaderMap,
) -> Json<ClusterDocument> {
    let image = services.controller.image();
    let of_users = || {
        image
            .topics()
            .filter(|topic| !topic.is_internal && *topic.name != *METADATA_TOPIC)
    };
    let counts = services.groups.run_all(|shard, _| shard.group_count()).await;
    let node_id = services.config.node_id;
    Json(ClusterDocument {
        cluster_id: image.cluster_id().to_string(),
        version: env!("CARGO_PKG_VERSION"),
        brokers: vec![BrokerRow {
            node_id,
            host: host_for(&services.kafka_endpoint, &headers),
            port: services.kafka_endpoint.port,
        }],
        controller_id: node_id,
        topics: of_users().count(),
        partitions: of_users().map(|topic| i64::from(topic.partition_count)).sum(),
        groups: counts.into_iter().flatten().sum(),
    })
}

/// The host that Kafka clients are told: without one of its own that by which this request came, as the Kafka front tells the address through
/// which a client came.
fn host_for(endpoint: &KafkaEndpoint, headers: &HeaderMap) -> String {
    let reached = || {
        let authority: Authority = headers.get(HOST)?.to_str().ok()?.parse().ok()?;
        let host = authority.host();
        Some(host.trim_start_matches('[').trim_end_matches(']').to_owned())
    };
    let host = endpoint.host.clone().or_else(reached);
    host.unwrap_or_else(|| "localhost".to_owned())
}

#[derive(Debug, Serialize)]
pub(crate) struct LogDirectories {
    log_directories: Vec<LogDirectory>,
}

#[derive(Debug, Serialize)]
struct LogDirectory {
    path: String,
    error: Option<String>,
    total_bytes: Option<u64>,
    available_bytes: Option<u64>,
    partitions: usize,
    size_bytes: u64,
}

/// `GET /v1/log-directories`.
pub(crate) async fn log_directories(State(services): State<Arc<Services>>) -> Json<LogDirectories> {
    let log_dirs = services.partitions.log_dirs().await;
    Json(LogDirectories {
        log_directories: log_dirs.iter().map(LogDirectory::of).collect(),
    })
}

impl LogDirectory {
    fn of(log_dir: &LogDir) -> Self {
        let space = log_dir.space.as_ref();
        let sizes = log_dir
            .partitions
            .iter()
            .map(|partition| partition.size_in_bytes());
        Self {
            path: log_dir.path.display().to_string(),
            error: space.err().cloned(),
            total_bytes: space.ok().map(|space| space.total),
            available_bytes: space.ok().map(|space| space.available),
            partitions: log_dir.partitions.len(),
            size_bytes: sizes.sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(own: Option<&str>, asked: Option<&str>, expected: &str) {
        let endpoint = KafkaEndpoint {
            host: own.map(str::to_owned),
            port: 9092,
        };
        let headers = asked.map(|host| (HOST, host.parse().unwrap()));
        let host = host_for(&endpoint, &headers.into_iter().collect());
        assert_eq!(host, expected, "{own:?} {asked:?}");
    }

    #[test]
    fn a_broker_that_listens_everywhere_is_where_it_was_reached() {
        check(Some("kafka.example"), Some("10.0.0.7:8080"), "kafka.example");
        check(None, Some("10.0.0.7:8080"), "10.0.0.7");
        check(None, Some("broker"), "broker");
        check(None, Some("[fd00::7]:8080"), "fd00::7");
        check(None, Some("not a host"), "localhost");
        check(None, None, "localhost");
    }
}
