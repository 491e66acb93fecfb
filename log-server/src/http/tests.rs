//! The HTTP port answers about health and numbers and refuses the rest in plain words, and it stops when it is told to.
//! Over a real socket, on a port that the system chooses.

use std::net::SocketAddr;

use log_core::clock::ManualClock;
use log_core::model::TimestampMs;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::health::{Health, HealthSource, PartitionCounts, Readiness, ShardStates, Status};
use super::memory::BodyMemory;
use super::services::Sources;
use super::stats::MetricsSource;
use super::stats::{LagHistory, Lags, Stats};
use super::*;
use crate::config::keys::BrokerConfig;
use crate::shutdown::{Shutdown, StopReason};
use crate::telemetry::manager::ClientMetricsManager;

#[derive(Debug)]
struct Fixed;

impl HealthSource for Fixed {
    fn health(&self) -> Health {
        Health {
            status: Status::Degraded,
            version: "0.0.0",
            cluster_id: "a-cluster".to_owned(),
            uptime_ms: 7,
            partitions: PartitionCounts {
                online: 3,
                latched: 1,
                uncleanable: 2,
                offline: 0,
            },
            log_directories_offline: 0,
            space_is_short: true,
            disk_available_bytes: Some(1),
            resident_bytes: None,
        }
    }

    fn readiness(&self) -> Readiness {
        let shards = |loading| ShardStates {
            serving: 3,
            loading,
            absent: 0,
        };
        Readiness::new(false, shards(0), shards(1))
    }
}

impl MetricsSource for Fixed {
    fn metrics(&self) -> oneshot::Receiver<String> {
        answered("up 1\n".to_owned())
    }

    fn stats(&self, since_ms: u64) -> oneshot::Receiver<Stats> {
        if since_ms == NO_ANSWER {
            return oneshot::channel().1;
        }
        answered(Stats {
            interval_ms: 1000,
            columns: &["at_ms"],
            rows: [1.0, 2.0]
                .into_iter()
                .filter(|at| 2 != since_ms || 2.0 < *at)
                .map(|at| vec![Some(at)])
                .collect(),
            busiest: Vec::new(),
            health: self.health(),
            topics: 0,
            disk_total_bytes: None,
            disk_full_in_hours: None,
            disks: Vec::new(),
            kafka_connections: 0,
            http_connections: 0,
            http_streams: 0,
            waiting_fetches: 0,
            memory_maps: 0,
            memory_maps_max: 0,
        })
    }

    fn lags(&self, count_max: usize) -> Lags {
        Lags {
            at: None,
            groups: Vec::new(),
            total: count_max,
        }
    }

    fn lag_history(&self, group: &str) -> LagHistory {
        LagHistory {
            group: group.to_owned(),
            points: Vec::new(),
            groups_max: 7,
        }
    }
}

/// A moment that the source below has no answer for.
const NO_ANSWER: u64 = 3;

fn answered<T>(answer: T) -> oneshot::Receiver<T> {
    let (sender, receiver) = oneshot::channel();
    drop(sender.send(answer));
    receiver
}

fn sources() -> Sources {
    Sources {
        health: Arc::new(Fixed),
        metrics: Arc::new(Fixed),
        front: Arc::default(),
        clients: Arc::new(ClientMetricsManager::new(
            Arc::new(ManualClock::new(TimestampMs::new(0))),
            1 << 20,
        )),
        tracer: None,
    }
}

async fn request(address: SocketAddr, line: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let text = format!("{line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

#[tokio::test]
async fn health_is_served_and_the_rest_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = Shutdown::new();
    let sources = sources();
    let front = Arc::clone(&sources.front);
    let config = Arc::new(BrokerConfig::default());
    let sites = Sites::new(&config, address);
    let router = routes::complete(
        routes::watching(&sources),
        &front,
        sites,
        BodyMemory::new(1 << 20),
    );
    let server = server::serve(listener, router, Arc::clone(&front), config, shutdown.signal());
    let server = tokio::spawn(server);

    let (status, body) = request(address, "GET /healthz").await;
    assert_eq!(status, 200);
    assert_eq!(body["status"], "degraded");
    assert_eq!(body["partitions"]["latched"], 1);
    assert_eq!(body["partitions"]["uncleanable"], 2);

    let (status, body) = request(address, "GET /readyz").await;
    assert_eq!((status, &body["ready"]), (503, &Value::Bool(false)));
    assert_eq!(
        body["waiting_for"],
        serde_json::json!(["the state of transactions is being read"])
    );
    assert_eq!(body["transaction_coordinator"]["loading"], 1);
    assert_eq!(request(address, "GET /metrics").await.0, 200);
    let (_, lags) = request(address, "GET /v1/stats/groups?limit=7").await;
    assert_eq!(lags["total"], 7);
    let (_, lags) = request(address, "GET /v1/stats/groups").await;
    assert_eq!(lags["total"], 100);
    assert_eq!(request(address, "GET /v1/stats").await.1["rows"][1][0], 2.0);
    assert_eq!(
        request(address, "GET /v1/stats?since_ms=2").await.1["rows"][0],
        Value::Null
    );
    assert_eq!(
        request(address, "GET /v1/stats/groups/a%20b").await.1["group"],
        "a b"
    );

    for (line, status, code) in [
        ("GET /v1/stats?since_ms=3", 503, "overloaded"),
        ("GET /v1/stats?since_ms=yesterday", 400, "invalid_request"),
        ("GET /v1/stats/groups?limt=7", 400, "invalid_request"),
    ] {
        let refused = request(address, line).await;
        assert_eq!(
            (refused.0, &refused.1["code"]),
            (status, &Value::from(code)),
            "{line}"
        );
    }

    let (status, body) = request(address, "GET /none").await;
    assert_eq!((status, &body["code"]), (404, &Value::from("not_found")));
    assert_eq!(request(address, "POST /healthz").await.0, 405);

    let mut rows = Vec::new();
    front.for_each(|route, method, status, counts| {
        rows.push(format!("{method} {route} {status} {}", counts.count()));
    });
    assert_eq!(
        rows,
        [
            "GET /healthz 2xx 1",
            "POST /healthz 4xx 1",
            "GET /metrics 2xx 1",
            "GET /readyz 5xx 1",
            "GET /v1/stats 2xx 2",
            "GET /v1/stats 4xx 1",
            "GET /v1/stats 5xx 1",
            "GET /v1/stats/groups 2xx 2",
            "GET /v1/stats/groups 4xx 1",
            "GET /v1/stats/groups/{group} 2xx 1",
            "GET none 4xx 1",
        ]
    );

    shutdown.request(StopReason::Asked);
    server.await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}
